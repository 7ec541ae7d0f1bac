"""A plot of the cumulative CORR of each arm, and of its difference from the first.

It needs only an `ExperimentResult`, so that a report can draw it, too.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from numerai_features.experiment._figure_parts import (
    GREY,
    MOST_LETTERS,
    colours_of,
    headline,
    in_eras,
    name_line_ends,
    new_figure,
    save,
)
from numerai_features.experiment._text import shortened

if TYPE_CHECKING:
    import pandas as pd

    from numerai_features.experiment._result import ExperimentResult

FILE = "cumulative.png"

_BORDER = "#E3E3E3"


def draw_cumulative(result: ExperimentResult, file: Path) -> None:
    r"""Draw the cumulative CORR of each arm into a PNG.

    Above are the cumulative scores, below each arm's cumulative difference from the
    first arm, over the eras that both have, with a band. The band after :math:`k` of
    :math:`n` eras has the half-width :math:`h \sqrt{n k}`, where :math:`h` is the
    half-width of the interval of the mean difference in the table: the sum of
    :math:`k` eras has the standard error of the mean, times :math:`\sqrt{n k}`. So, at
    the last era, the band is the interval of the table times the number of eras, and
    leaves out 0 if the interval does. There is no band if there are too few eras for an
    interval.

    Six arms have a colour and a name: the first, and the five others with the highest
    means. All others are grey.

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
    save(cumulative_figure(result), file)


def cumulative_figure(result: ExperimentResult) -> Any:
    """Return the figure of `draw_cumulative`."""
    known = result.scores.dropna(how="all")
    scores = known if len(known) else result.scores
    heights = (3, 2) if len(scores.columns) > 1 else (3,)
    figure = new_figure(10, 1 + 1.2 * sum(heights), file=FILE)
    shape = {"nrows": len(heights), "squeeze": False, "height_ratios": heights}
    panels = list(figure.subplots(sharex=True, **shape)[:, 0])
    colours = colours_of(scores)
    title = headline(result, "Cumulative CORR", len(known))
    panels[0].set_title(title, loc="left", fontsize=10)
    panels[0].set_ylabel("cumulative CORR\n(sum over eras)")
    for axes in panels:
        _dress(axes, scores.index, _first_eras(result.predictions))
    ends = [_draw_scores(panels[0], scores, colours)]
    captions = ["era (week); vertical lines: a test fold begins"]
    if len(panels) > 1:
        ends.append(_draw_differences(panels[1], result, scores, colours))
        panels[1].set_ylabel(f"cumulative CORR\nless {scores.columns[0]}")
        captions.append(_caption_of_bands(result.differences))
    if n_grey := len(scores.columns) - len(colours):
        captions.append(f"grey: {n_grey} more arms, with lower means")
    panels[-1].set_xlabel("\n".join(captions), loc="left", fontsize=9)
    for axes, names in zip(panels, ends, strict=True):
        name_line_ends(axes, names)
    return figure


def _dress(axes: Any, eras: pd.Index, starts: list[int]) -> None:
    """Set the axis of eras, and draw zero and the borders of folds."""
    first, last = int(eras[0]), int(eras[-1])
    axes.set_xlim(first - 1, max(last, first + 1))
    for start in starts:
        if first < start <= last:
            axes.axvline(start - 0.5, color=_BORDER, linewidth=0.8, zorder=0)
    axes.axhline(0, color="#999999", linewidth=0.8, zorder=1)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.spines[["top", "right"]].set_visible(False)


def _first_eras(predictions: pd.DataFrame) -> list[int]:
    """Return the first test era of each fold."""
    eras = predictions["era"].astype(int)
    return [int(era) for era in eras.groupby(predictions["fold"]).min()]


def _draw_scores(
    axes: Any, scores: pd.DataFrame, colours: dict[str, str]
) -> dict[str, tuple[float, float, str]]:
    """Draw cumulative scores; return the names of the lines and where they end."""
    ends, names = {}, _names(colours)
    for arm in _grey_first(scores, colours):
        line = _draw_sum(axes, scores[arm], scores.index, colours.get(arm))
        if arm in colours and line:
            known = scores[arm].count()
            text = f"{names[arm]}  {scores[arm].mean():.4f}"
            ends[text + in_eras(known, len(scores))] = (*line, colours[arm])
    return ends


def _draw_differences(
    axes: Any, result: ExperimentResult, scores: pd.DataFrame, colours: dict[str, str]
) -> dict[str, tuple[float, float, str]]:
    """Draw cumulative differences with bands; return the names and ends of lines."""
    first, ends, names = scores.columns[0], {}, _names(colours)
    axes.axhline(0, color=colours[first], linewidth=1.2, zorder=1.5)
    for arm in _grey_first(scores, colours)[:-1]:
        less = (scores[arm] - scores[first]).rename(arm)
        line = _draw_sum(axes, less, scores.index, colours.get(arm))
        if arm in colours and line:
            row = result.differences.loc[arm]
            half = (row["high"] - row["low"]) / 2
            _draw_band(axes, less.dropna(), half, colours[arm])
            known = less.count()
            text = f"{names[arm]}  {row['mean_difference']:+.4f}"
            ends[text + in_eras(known, len(scores))] = (*line, colours[arm])
    return ends


def _grey_first(scores: pd.DataFrame, colours: dict[str, str]) -> list[str]:
    """Return the arms in the order of drawing: the first arm comes last, on top."""
    grey = [arm for arm in scores.columns if arm not in colours]
    return [*grey, *reversed(colours)]


def _names(colours: dict[str, str]) -> dict[str, str]:
    """Return the named arms' names as they are drawn."""
    return dict(zip(colours, shortened(list(colours), MOST_LETTERS), strict=True))


def _draw_sum(
    axes: Any, scores: pd.Series[float], eras: pd.Index, colour: str | None
) -> tuple[float, float] | None:
    """Draw a cumulative sum from 0 to its last score; return its end.

    Eras without a score between others add nothing.
    """
    known = scores.dropna()
    if known.empty:
        return None
    x = np.concatenate([[_before(known, eras)], known.index])
    y = np.concatenate([[0.0], known.cumsum()])
    axes.plot(
        x,
        y,
        color=colour or GREY,
        linewidth=1.8 if colour else 1.0,
        zorder=3 if colour else 2,
        label=str(scores.name),
    )
    return float(x[-1]), float(y[-1])


def _before(known: pd.Series[float], eras: pd.Index) -> float:
    """Return the era before the first known score, where its sum is 0."""
    place = eras.get_loc(known.index[0])
    return float(eras[place - 1] if place else eras[0] - 1)


def _draw_band(axes: Any, less: pd.Series[float], half: float, colour: str) -> None:
    if np.isnan(half):
        return
    n, total = len(less), less.cumsum().to_numpy()
    wide = half * np.sqrt(n * np.arange(1, n + 1))
    look = {"color": colour, "linewidth": 0, "alpha": 0.1, "zorder": 1}
    axes.fill_between(less.index, total - wide, total + wide, **look)
    for edge in (total - wide, total + wide):  # where bands overlap, edges tell them
        axes.plot(less.index, edge, color=colour, linewidth=0.6, alpha=0.6, zorder=1)


def _caption_of_bands(differences: pd.DataFrame) -> str:
    if differences["low"].isna().all():
        return "without bands: too few eras for intervals"
    return (
        "bands: 95 % half-width of the sum of so many eras; at the end, the interval "
        "of the mean times the number of eras"
    )
