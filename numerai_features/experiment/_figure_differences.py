"""A plot of each arm's mean difference from the first, with its interval."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from numerai_features.experiment._figure_parts import (
    MOST_LETTERS,
    TEXT,
    headline,
    in_eras,
    new_figure,
    save,
)
from numerai_features.experiment._text import shortened
from numerai_features.experiment._verdicts import BETTER, WORSE, verdicts

if TYPE_CHECKING:
    from numerai_features.experiment._result import ExperimentResult

FILE = "differences.png"

_COLOURS = {BETTER: "#0072B2", WORSE: "#D55E00"}
_OTHER = "#777777"


def draw_differences(result: ExperimentResult, file: Path) -> None:
    """Draw each arm's mean difference from the first into a PNG.

    Each arm is a point with its 95 % interval, in the order of the table, and the words
    to the right say what the interval shows. If there are too few eras for an interval,
    the point is hollow and has none.

    Parameters
    ----------
    result : ExperimentResult
        The result to draw; at least two arms.
    file : pathlib.Path
        The PNG file to write.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    save(differences_figure(result), file)


def differences_figure(result: ExperimentResult) -> Any:
    """Return the figure of `draw_differences`."""
    table = result.differences
    n_eras = int(table["n_eras"].max())
    figure = new_figure(9, 1.7 + 0.36 * len(table), file=FILE)
    axes = figure.subplots()
    axes.axvline(0, color="#999999", linewidth=1)
    for place, (arm, verdict) in enumerate(verdicts(table).items()):
        row, colour = table.loc[arm], _COLOURS.get(verdict, _OTHER)
        known = bool(row[["low", "high"]].notna().all())
        if known:
            axes.plot([row["low"], row["high"]], [place] * 2, color=colour, lw=2)
        axes.plot(
            row["mean_difference"],
            place,
            marker="o",
            markersize=7,
            color=colour,
            markerfacecolor=colour if known else "white",
            linestyle="none",
            label=arm,
        )
        axes.annotate(
            verdict + in_eras(int(row["n_eras"]), n_eras),
            xy=(1.02, place),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=9,
            color=TEXT,
        )
    axes.set_yticks(range(len(table)), shortened(list(table.index), MOST_LETTERS))
    axes.set_ylim(len(table) - 0.5, -0.5)  # the first arm on top
    axes.margins(x=0.08)
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=6)
    axes.grid(axis="x", color="#E5E5E5", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    base = result.experiment.base
    axes.set_xlabel(f"mean CORR less {base}, with 95 % interval")
    shown = f"Mean CORR of each arm less that of {base}"
    axes.set_title(headline(result, shown, n_eras), loc="left", fontsize=10)
    return figure
