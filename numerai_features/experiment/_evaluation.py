"""The scores of a fitted model: frames, and the printed table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from numerai_features.experiment._text import formatted

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Scores of a fitted model, as `FittedModel.evaluate` returns them.

    Attributes
    ----------
    scores : DataFrame
        A row for each era, and a column for each metric: ``corr``, ``fnc``,
        ``max_exposure``; ``bmc`` and ``benchmark_corr`` with a benchmark; ``mmc`` with
        a meta model; and ``payout``. NaN where an era has no score.
    summary : DataFrame
        A row for each metric: its mean over eras, the ends of the 95 % interval (NaN if
        there are too few eras), and the number of eras.
    target : str
        The target that is scored.
    notes : tuple of str, default=()
        What was left out.
    """

    scores: pd.DataFrame
    summary: pd.DataFrame
    target: str
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Evaluation({len(self.scores)} eras of {self.target!r})"

    def __str__(self) -> str:
        from numerai_features._eras import era_label

        first, last = (era_label(int(self.scores.index[i])) for i in (0, -1))
        head = f"{self.target}, {len(self.scores)} eras, {first} to {last}"
        few = self.summary["n_eras"] < self.summary["n_needed"]
        told = self.summary.drop(columns="n_needed").rename(columns={"n_eras": "eras"})
        ends = told[["low", "high"]].astype(object).mask(few, "too few eras")
        return "\n".join([head, formatted(told.assign(**ends)), *self.notes])
