"""A plot of the cumulative CORR of each arm over the test eras.

It needs only an `ExperimentResult`, so that a report can draw it, too.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numerai_features._optional import import_optional
from numerai_features._whole import whole_file
from numerai_features.experiment._result import ExperimentResult

if TYPE_CHECKING:
    import pandas as pd

# Okabe and Ito's colours, which colour-blind readers can tell apart.
_BASELINES = {"originals": ("#000000", "-"), "+ random": ("#777777", "--")}
_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_DASHES = ("-", "-.", ":")
_BORDER = "#BBBBBB"


def draw_cumulative(result: ExperimentResult, file: Path) -> None:
    """Draw the cumulative CORR of each arm into a PNG.

    Parameters
    ----------
    result : ExperimentResult
        The result to draw.
    file : pathlib.Path
        The PNG file to write.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    matplotlib = import_optional(
        "matplotlib.figure", extra="plots", needed_by="cumulative.png"
    )
    experiment = result.experiment
    figure = matplotlib.Figure(figsize=(9, 5), dpi=150, layout="constrained")
    axes = figure.subplots()
    _draw_borders(axes, _first_eras(result.predictions), experiment["cv"])
    _draw_arms(axes, result.scores)
    scheme, target = experiment["cv"]["scheme"], experiment["targets"]["main"]
    axes.set_title(f"Cumulative CORR with {target}, {scheme}", loc="left")
    axes.set_xlabel("era (week)")
    axes.set_ylabel("cumulative CORR (sum over eras)")
    axes.grid(axis="y", color="#E5E5E5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.01)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    with whole_file(file) as temporary:
        figure.savefig(temporary, format="png")


def _first_eras(predictions: pd.DataFrame) -> list[int]:
    """Return the first test era of each fold."""
    eras = predictions["era"].astype(int)
    return [int(era) for era in eras.groupby(predictions["fold"]).min()]


def _draw_arms(axes: Any, scores: pd.DataFrame) -> None:
    import pandas as pd

    before = scores.index[0] - 1
    styles = itertools.cycle([(c, dash) for dash in _DASHES for c in _COLOURS])
    for arm in scores.columns:
        colour, dash = _BASELINES.get(arm) or next(styles)
        total = scores[arm].fillna(0).cumsum()
        total = pd.concat([pd.Series({before: 0.0}), total])
        axes.plot(
            total.index,
            total.to_numpy(),
            color=colour,
            linestyle=dash,
            linewidth=1.8,
            label=f"{arm} (mean {scores[arm].mean():.4f}, {scores[arm].count()} eras)",
        )


def _draw_borders(axes: Any, starts: list[int], cv: dict[str, Any]) -> None:
    """Mark where each test fold begins and, for walk-forward, where training ends."""
    axes.axhline(0, color="#999999", linewidth=0.8)
    line: dict[str, Any] = {"color": _BORDER, "linewidth": 0.8}
    labels: list[str | None]
    labels = ["test fold begins", f"its training ends (purge: {cv['purge']} eras)"]
    for start in starts:
        axes.axvline(start - 0.5, label=labels[0], **line)
        if cv["scheme"] == "walk-forward" and cv["purge"]:
            end = start - cv["purge"] - 0.5
            axes.axvline(end, label=labels[1], linestyle=(0, (2, 3)), **line)
        labels = [None, None]  # the legend names each kind of line once
