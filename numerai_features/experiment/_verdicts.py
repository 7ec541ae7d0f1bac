"""What the scores of an experiment say about each arm."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from numerai_features.experiment._result import ExperimentResult

DIFFERENCE = 0.0005
"""The difference in mean CORR for which the eras that it needs are told."""

BETTER, WORSE, UNKNOWN, TOO_FEW = "better", "worse", "cannot tell", "too few eras"


def verdicts(differences: pd.DataFrame) -> dict[str, str]:
    """Return the verdict on each arm: better or worse if its interval excludes 0."""
    return {str(arm): _verdict(row) for arm, row in differences.iterrows()}


def sentences(result: ExperimentResult, overlap: int) -> list[str]:
    """Return one sentence for each arm except the first.

    Parameters
    ----------
    result : ExperimentResult
    overlap : int
        Number of eras that a target spans, as for the intervals.
    """
    from numerai_features.metrics import eras_needed

    scores, table = result.scores, result.differences
    base, told = result.experiment.base, []
    for arm, verdict in verdicts(table).items():
        row = table.loc[arm]
        if verdict in (BETTER, WORSE):
            text = (
                f"{verdict} than {base} by {abs(row['mean_difference']):.4f} "
                f"(95 % interval {row['low']:.4f} to {row['high']:.4f}, "
                f"{row['n_eras']:,.0f} eras)"
            )
        elif verdict == TOO_FEW:
            text = (
                f"these {row['n_eras']:,.0f} eras cannot tell (an interval needs "
                f"{row['n_needed']:,.0f})"
            )
        else:
            less = (scores[arm] - scores[base]).dropna()
            needed = eras_needed(less, DIFFERENCE, overlap=overlap)
            text = f"these {len(less):,} eras cannot tell ({_needs(needed, row)})"
        told.append(f"{arm}: {text}.")
    return told


def with_deflated_sharpe(
    result: ExperimentResult, overlap: int, by_seed: pd.DataFrame | None = None
) -> ExperimentResult:
    """Return the result with the deflated Sharpe ratio in its summary.

    The trials are the arms with their seeds; an arm has the mean over its seeds. It is
    NaN where it cannot be computed.

    Parameters
    ----------
    result : ExperimentResult
    overlap : int
        Number of eras that a target spans.
    by_seed : DataFrame, default=None
        CORR of each arm and seed (columns) in each era; by default the result's scores,
        of one seed.
    """
    import pandas as pd

    from numerai_features.metrics import deflated_sharpe_ratio

    summary = result.summary.copy()
    arms = summary.index
    scores = result.scores
    if by_seed is not None:
        arms = by_seed.columns.get_level_values(0)
        scores = by_seed.set_axis(range(len(arms)), axis="columns")
    varying = scores.columns[scores.std() > 0]
    deflated = pd.Series(float("nan"), scores.columns)
    if len(varying) > 1 or len(arms) == 1 == len(varying):
        deflated.update(
            deflated_sharpe_ratio(scores[varying], overlap=overlap, n_trials=len(arms))
        )
    deflated = deflated.groupby(arms, sort=False).mean()
    place = summary.columns.get_loc("sharpe") + 1
    summary.insert(place, "deflated_sharpe", deflated)
    return replace(result, summary=summary)


def _verdict(row: Any) -> str:
    if row["n_eras"] < row["n_needed"]:
        return TOO_FEW
    if row["low"] > 0:
        return BETTER
    return WORSE if row["high"] < 0 else UNKNOWN


def _needs(needed: float, row: Any) -> str:
    """Return how many eras a difference needs, or how large one would show already."""
    size = f"{DIFFERENCE:g}".removeprefix("0")
    if needed <= row["n_eras"]:
        half = (row["high"] - row["low"]) / 2
        return (
            f"but a difference of {size} would show: half-width of the 95 % interval "
            f"{half:.4f}"
        )
    about = float(f"{needed:.2g}")
    return (
        f"needs about {about:,.0f} for {size}: half-width of the 95 % interval at this "
        "run's spread"
    )
