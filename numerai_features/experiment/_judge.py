"""Score the arms of an experiment on the same test rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numerai_features._eras import era_label
from numerai_features.experiment._arms import ORIGINALS
from numerai_features.experiment._result import ExperimentResult, overlap_of
from numerai_features.experiment._store import ArmResult, FoldStore
from numerai_features.metrics import (
    era_scores,
    paired_differences,
    summarize_scores,
)
from numerai_features.metrics._summary import metric_columns
from numerai_features.model_selection._folds import Fold
from numerai_features.model_selection._runner import Tell

if TYPE_CHECKING:
    from numerai_features.datasets import EraPanel
    from numerai_features.experiment._experiment import Experiment

MOST_FEATURES = 250
"""Most features that FNC and exposure use: the cost grows with their square."""

_METRICS = {"fnc": "FNC", "max_exposure": "largest exposure"}

_DIFFERENCES = ["mean_difference", "low", "high", "n_eras", "n_needed"]

# Each arm's results of all folds, by the arm's label.
ByArm = dict[str, list[ArmResult]]


def judge(
    experiment: Experiment,
    panel: EraPanel,
    folds: list[Fold],
    store: FoldStore,
    tell: Tell,
) -> ExperimentResult:
    """Score every arm on all test rows.

    Parameters
    ----------
    experiment : Experiment
        The experiment that was run.
    panel : EraPanel
        Its rows.
    folds : list of Fold
        Its folds.
    store : FoldStore
        Results of all arms in all folds.
    tell : callable
        Called with a description of each step.

    Returns
    -------
    ExperimentResult
    """
    by_arm = {
        label: [store[arm, fold.number] for fold in folds]
        for arm, label in experiment.arms.items()
    }
    tested = [np.arange(panel.n_rows)[fold.test] for fold in folds]
    numbers = np.repeat([fold.number for fold in folds], [len(r) for r in tested])
    rows = np.concatenate(tested)
    eras, target = panel.eras[rows], panel.y(experiment["targets"]["main"])[rows]
    ids = panel.ids
    predictions = pd.DataFrame(
        {"era": _labels(eras), "target": target, "fold": numbers}
        | {arm: _concatenated(results) for arm, results in by_arm.items()},
        index=None if ids is None else pd.Index(ids[rows], name="id"),
    )
    values = predictions[list(by_arm)].reset_index(drop=True)
    tell("judging: CORR")
    scores = era_scores(target, values, eras)
    columns, metrics = _judged_features(panel.n_features, eras[~np.isnan(target)])
    features = panel.X[rows[:, None], columns]
    summary = summarize_scores(scores).rename_axis("arm")
    for metric in metrics:
        tell(f"judging: {_METRICS[metric]}")
        beside = era_scores(target, values, eras, metric=metric, features=features)
        summary = summary.join(metric_columns(metric, beside))
    summary = summary.join(_costs(by_arm))
    differences, notes = _differences(scores, experiment)
    return ExperimentResult(
        experiment, scores, summary, differences, predictions, len(columns), notes
    )


def _labels(eras: NDArray[Any]) -> NDArray[np.str_]:
    numbers, codes = np.unique(eras, return_inverse=True)
    return np.array([era_label(int(number)) for number in numbers])[codes]


def _concatenated(results: list[ArmResult]) -> NDArray[np.float32]:
    return np.concatenate([result.prediction for result in results])


def _judged_features(
    n_features: int, eras: NDArray[Any]
) -> tuple[NDArray[np.intp], tuple[str, ...]]:
    """Return evenly spread features, and the metrics that use them.

    FNC uses at most half as many features as the smallest era has rows. If an era of
    two rows is scored, FNC is left out.
    """
    n_rows = np.unique(eras, return_counts=True)[1]
    smallest = int(n_rows[n_rows > 1].min(initial=2 * MOST_FEATURES))
    n = min(n_features, MOST_FEATURES)
    metrics: tuple[str, ...] = ("max_exposure",)
    if smallest > 2:
        n, metrics = min(n, smallest // 2), tuple(_METRICS)
    return np.linspace(0, n_features - 1, n).round().astype(np.intp), metrics


def _costs(by_arm: ByArm) -> pd.DataFrame:
    """Return each arm's largest number of latents, and its total seconds."""
    costs = {
        arm: {
            "n_latents": max(result.n_latents for result in results),
            "latent_seconds": sum(result.latent_seconds for result in results),
            "model_seconds": sum(result.model_seconds for result in results),
        }
        for arm, results in by_arm.items()
    }
    return pd.DataFrame.from_dict(costs, orient="index").astype({"n_latents": int})


def _differences(
    scores: pd.DataFrame, experiment: Experiment
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return each arm's paired difference from the originals, and notes on gaps."""
    if len(scores.columns) < 2:
        return pd.DataFrame(columns=_DIFFERENCES, dtype=float).rename_axis("arm"), ()
    overlap = overlap_of(experiment)
    table = paired_differences(scores, ORIGINALS, overlap)[_DIFFERENCES]
    few = table.index[table["n_eras"] < table["n_needed"]]
    if few.empty:
        return table, ()
    needed = table["n_needed"].max()
    note = (
        f"No interval for {', '.join(few)}: an interval needs {needed} eras, four "
        f"times the overlap of {overlap} eras. Test on more eras."
    )
    return table, (note,)
