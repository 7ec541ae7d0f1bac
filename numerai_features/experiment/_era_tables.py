"""Scores of all arms by era, for each metric, and their summaries over eras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numerai_features.metrics import era_scores, summarize_scores
from numerai_features.metrics._summary import metric_columns
from numerai_features.model_selection._runner import Tell

LAST = 200
"""Number of last eras of the second BMC."""

_TOLD = {
    "corr": "CORR",
    "fnc": "FNC",
    "max_exposure": "largest exposure",
    "bmc": "BMC",
    "benchmark_corr": "correlation with the benchmark",
    "mmc": "MMC",
}
_OF_REFERENCE = {"benchmark": ("bmc", "benchmark_corr"), "meta_model": ("mmc",)}


@dataclass
class EraTables:
    """Scores of all arms (columns) in each era (index), by metric.

    Parameters
    ----------
    target : ndarray of shape (n_rows,)
    predictions : DataFrame of shape (n_rows, n_arms * n_seeds)
        A column for each arm and seed, with these as column names, arm first.
    eras : ndarray of shape (n_rows,)
        Era numbers.
    tell : callable
        Called with a description of each step.

    Attributes
    ----------
    by_metric : dict of str to DataFrame
        ``"corr"``, and what was added; each the mean over seeds.
    corr_by_seed : DataFrame
        CORR of each arm and seed (columns) in each era.
    notes : list of str
        Why a metric could not be added.
    """

    target: NDArray[np.float32]
    predictions: pd.DataFrame
    eras: NDArray[np.int32]
    tell: Tell
    by_metric: dict[str, pd.DataFrame] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.corr_by_seed = self._each("corr")
        self.by_metric["corr"] = over_seeds(self.corr_by_seed)

    def add_features(self, features: NDArray[np.int8], metrics: Sequence[str]) -> None:
        """Add the metrics that need features."""
        for metric in metrics:
            self.by_metric[metric] = self._scores(metric, features=features)

    def add_reference(self, name: str, values: NDArray[np.float64]) -> None:
        """Add the metrics that need a benchmark or a meta model, or a note.

        Parameters
        ----------
        name : {"benchmark", "meta_model"}
        values : ndarray of shape (n_rows,)
            Its predictions; NaN where it has none.
        """
        for metric in _OF_REFERENCE[name]:
            try:
                self.by_metric[metric] = self._scores(metric, **{name: values})
            except ValueError as error:  # such as a target that is not from 0 to 1
                self.notes.append(f"No {_TOLD[metric]}: {error}")

    def _scores(self, metric: str, **beside: Any) -> pd.DataFrame:
        return over_seeds(self._each(metric, **beside))

    def _each(self, metric: str, **beside: Any) -> pd.DataFrame:
        self.tell(f"judging: {_TOLD[metric]}")
        columns, plain = self.predictions.columns, _plain(self.predictions)
        scores: Any = era_scores(self.target, plain, self.eras, metric=metric, **beside)
        return cast("pd.DataFrame", scores.set_axis(columns, axis="columns"))

    def summary(
        self, weights: Sequence[float], first: int | None = None, last: Any = None
    ) -> pd.DataFrame:
        """Return a row for each arm, over all eras or over a period.

        Parameters
        ----------
        weights : (float, float)
            Weights of CORR, and of MMC or BMC, in the payout.
        first, last : int or None, default=None
            The first and the last era of the period.
        """
        tables = {m: table.loc[first:last] for m, table in self.by_metric.items()}
        tables = {m: table for m, table in tables.items() if len(table)}
        corr = tables.pop("corr")
        # Sharpe and drawdown are of single models: means over seeds, not of means.
        each = summarize_scores(_plain(self.corr_by_seed.loc[first:last]))
        arms = self.predictions.columns.get_level_values(0)
        parts = [each.groupby(arms, sort=False).mean().astype({"n_eras": int})]
        for metric, table in tables.items():
            parts.append(metric_columns(metric, table))
            if metric == "bmc":
                recent = metric_columns(metric, table.tail(LAST))
                parts.append(recent.add_suffix(f"_last{LAST}"))
        # MMC if the meta model has any of these eras, else BMC; never some of each.
        for metric in ("mmc", "bmc"):
            if metric in tables:
                paid = weights[0] * corr + weights[1] * tables[metric]
                parts.append(metric_columns("payout", paid).assign(payout_with=metric))
                break
        return pd.concat(parts, axis="columns").rename_axis("arm")

    def periods(
        self, weights: Sequence[float], periods: dict[str, tuple[int, int]]
    ) -> tuple[pd.DataFrame, list[str]]:
        """Return the summary of each period, and notes on periods without scores.

        Parameters
        ----------
        weights : (float, float)
        periods : dict of str to (int, int)
            The first and the last era of each period.

        Returns
        -------
        table : DataFrame
            A row for each period and arm. A number of eras is 0 if a metric has no era
            in the period.
        notes : list of str
        """
        scored = self.by_metric["corr"]
        there = {n: p for n, p in periods.items() if len(scored.loc[p[0] : p[1]])}
        notes = [
            f"No table for the period {name}: it has no test era with a known target."
            for name in periods
            if name not in there
        ]
        if not there:
            return no_periods(), notes
        parts = {name: self.summary(weights, *p) for name, p in there.items()}
        table = pd.concat(parts, names=["period"])
        counts = [name for name in table.columns if "n_eras" in name]
        table[counts] = table[counts].fillna(0).astype(int)
        if "payout_with" in table:
            table = table.fillna({"payout_with": ""})
        return table, notes


def _plain(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of arms and seeds with one level of names."""
    return table.set_axis([f"{arm} {seed}" for arm, seed in table], axis="columns")


def over_seeds(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the mean over seeds of each arm's scores (columns: arm and seed).

    It is NaN where a seed has no score.
    """
    arms = scores.columns.get_level_values(0).unique()
    means = [scores[arm].mean(axis="columns", skipna=False) for arm in arms]
    return pd.concat(means, axis="columns", keys=list(arms))


def seed_error(scores: pd.DataFrame) -> pd.Series[float]:
    """Return the standard error over seeds of each arm's mean, less the first arm's.

    Parameters
    ----------
    scores : DataFrame
        A column for each arm and seed.

    Returns
    -------
    Series
        By arm; NaN if there is one seed.
    """
    means = scores.mean().unstack(level=0)[scores.columns.get_level_values(0).unique()]
    less = means.sub(means.iloc[:, 0], axis="index")
    return less.std(ddof=1) / np.sqrt(len(less))


def no_periods() -> pd.DataFrame:
    """Return a table of no periods."""
    index = pd.MultiIndex.from_arrays([[], []], names=["period", "arm"])
    return pd.DataFrame(index=index)
