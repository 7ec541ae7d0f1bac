"""What the figures of an experiment share: colours, titles, and names beside lines."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._optional import import_optional
from numerai_features._whole import whole_file

if TYPE_CHECKING:
    import pandas as pd

    from numerai_features.experiment._result import ExperimentResult

# Okabe and Ito's colours, which colour-blind readers can tell apart; the first arm's is
# the first one. Their yellow is too pale for lines on white.
COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00")
GREY = "#BBBBBB"
TEXT = "#222222"

MOST_LETTERS = 30
"""Most characters of an arm's name."""

_SMALL = 8.5  # points
_LINE = 1.3  # height of a line of text, in font sizes


def new_figure(width: float, height: float, *, file: str) -> Any:
    """Return an empty figure that pyplot knows nothing of.

    Parameters
    ----------
    width, height : float
        In inches.
    file : str
        The file to draw, for the error if matplotlib is missing.
    """
    matplotlib = import_optional("matplotlib.figure", extra="plots", needed_by=file)
    return matplotlib.Figure(figsize=(width, height), dpi=150, layout="constrained")


def save(figure: Any, file: Path) -> None:
    """Write a figure as a PNG, completely or not at all."""
    with whole_file(file) as temporary:
        figure.savefig(temporary, format="png")


def headline(result: ExperimentResult, shown: str, n_eras: int) -> str:
    """Return a title: what is shown, then the experiment and its data.

    Parameters
    ----------
    result : ExperimentResult
    shown : str
        What the figure shows.
    n_eras : int
        Number of eras that it shows.
    """
    experiment = result.experiment
    chosen = experiment["features"]["set"]
    if isinstance(chosen, str):
        features = f"feature set {chosen}"
    else:
        features = f"{len(chosen)} features"
    target, scheme = experiment["targets"]["main"], experiment["cv"]["scheme"]
    facts = f"{experiment.name}: {features}, {target}, {scheme}, {n_eras} eras"
    return "\n".join([shown, *textwrap.wrap(facts, 90)])


def in_eras(n: int, n_all: int) -> str:
    """Return a number of eras, to be written after a mean over fewer than all."""
    return "" if n == n_all else f"  ({n} eras)"


def colours_of(scores: pd.DataFrame) -> dict[str, str]:
    """Return the colours of the arms that are named: all, or six of them.

    These are the first one and the five others with the highest mean scores, in their
    order among the columns.
    """
    others = scores.columns[1:]
    if len(others) >= len(COLOURS):
        best = scores[others].mean().fillna(-np.inf).nlargest(len(COLOURS) - 1).index
        others = others[others.isin(best)]
    return dict(zip([scores.columns[0], *others], COLOURS, strict=False))


def name_line_ends(axes: Any, ends: dict[str, tuple[float, float, str]]) -> None:
    """Write names to the right of the axes, each joined to the end of its line.

    Names stand at the height of the ends, and as far apart as they must to be read.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Its limits must be final.
    ends : dict of str to (float, float, str)
        For each text, where the line ends, and its colour.
    """
    if not ends:
        return
    labels = []
    for text, (x, y, colour) in ends.items():
        labels.append(
            axes.annotate(
                text,
                xy=(x, y),
                xytext=(1.03, 0.5),
                textcoords="axes fraction",
                va="center",
                fontsize=_SMALL,
                color=TEXT,
                annotation_clip=False,
                arrowprops={
                    "arrowstyle": "-",
                    "color": colour,
                    "linewidth": 1.2,
                    "shrinkA": 1,
                    "shrinkB": 0,
                    "relpos": (0, 0.5),
                },
            )
        )
    figure = axes.figure
    figure.draw_without_rendering()  # the layout decides how tall the axes are
    tall = axes.get_window_extent().height
    gap = _LINE * _SMALL / 72 * figure.dpi / tall
    bottom, top = axes.get_ylim()
    wanted = np.array([(y - bottom) / (top - bottom) for _, y, _ in ends.values()])
    for label, place in zip(labels, apart(wanted, gap), strict=True):
        label.set_position((1.03, place))


def apart(wanted: NDArray[np.float64], gap: float) -> NDArray[np.float64]:
    """Return places at least `gap` apart, in the same order, near the wanted ones.

    Places that are too close form a block, which is centred on its wanted places; all
    are within 0 to 1 as far as that is possible.
    """
    order = np.argsort(wanted, kind="stable")
    blocks: list[list[float]] = []
    for place in wanted[order]:
        blocks.append([place])
        while len(blocks) > 1 and _top(blocks[-2], gap) + gap > _low(blocks[-1], gap):
            last = blocks.pop()
            blocks[-1] += last
    places = np.concatenate(
        [_low(block, gap) + gap * np.arange(len(block)) for block in blocks]
    )
    steps = gap * np.arange(len(places))
    # Pushed down from the top and then up from the bottom, each only as far as needed.
    places = np.minimum(places, 1 - gap / 2 - steps[::-1])
    places = np.maximum(places, gap / 2 + steps)
    found = np.empty(len(places))
    found[order] = places
    return found


def _low(block: list[float], gap: float) -> float:
    return float(np.mean(block)) - gap * (len(block) - 1) / 2


def _top(block: list[float], gap: float) -> float:
    return _low(block, gap) + gap * (len(block) - 1)
