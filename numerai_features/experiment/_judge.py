"""The judgement of an experiment: the scores of every arm on the same test rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numerai_features._eras import era_label
from numerai_features.experiment._arms import ORIGINALS
from numerai_features.experiment._result import ExperimentResult, block_length
from numerai_features.experiment._store import ArmResult, FoldStore
from numerai_features.metrics import (
    era_scores,
    paired_differences,
    summarize_scores,
)
from numerai_features.model_selection._folds import Fold

if TYPE_CHECKING:
    from numerai_features.datasets import EraPanel
    from numerai_features.experiment._experiment import Experiment

MOST_FEATURES = 250
"""Features that FNC and exposure look at: the cost grows with their square."""

_DIFFERENCES = ["mean_difference", "low", "high"]

# What each arm did, fold by fold, by how the arm is written in results.
ByArm = dict[str, list[ArmResult]]


def judge(
    experiment: Experiment, panel: EraPanel, folds: list[Fold], store: FoldStore
) -> ExperimentResult:
    """Score every arm on all test rows.

    Parameters
    ----------
    experiment : Experiment
        What was run.
    panel : EraPanel
        Its rows.
    folds : list of Fold
        Its folds.
    store : FoldStore
        Where every arm of every fold is done.

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
    scores = era_scores(target, values, eras)
    columns = _judged_features(panel.n_features, eras[~np.isnan(target)])
    features = panel.X[rows[:, None], columns]
    summary = summarize_scores(scores).rename_axis("arm")
    summary = summary.join(_against_features(target, values, eras, features))
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


def _judged_features(n_features: int, eras: NDArray[Any]) -> NDArray[np.intp]:
    """Return evenly spread features, half as many at most as an era has rows."""
    smallest = int(np.unique(eras, return_counts=True)[1].min()) if len(eras) else 0
    n = min(n_features, MOST_FEATURES, smallest // 2)
    return np.linspace(0, n_features - 1, n).round().astype(np.intp)


def _against_features(
    target: NDArray[Any],
    values: pd.DataFrame,
    eras: NDArray[Any],
    features: NDArray[np.int8],
) -> pd.DataFrame:
    """Return each arm's mean FNC and largest exposure, if there are features."""
    metrics = ("fnc", "max_exposure") if features.shape[1] else ()
    return pd.DataFrame(
        {
            metric: era_scores(
                target, values, eras, metric=metric, features=features
            ).mean()
            for metric in metrics
        },
        index=values.columns,
    )


def _costs(by_arm: ByArm) -> pd.DataFrame:
    """Return each arm's largest number of latents, and its seconds in all folds."""
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
    """Return each arm's paired difference from the originals, and what is missing."""
    notes: tuple[str, ...] = ()
    if len(scores.columns) < 2:
        table = pd.DataFrame(dtype=float)
    else:
        block, seed = block_length(experiment), experiment["seed"]
        try:
            table = paired_differences(scores, ORIGINALS, block, random_state=seed)
        except ValueError as error:  # too few eras for two blocks
            by_era = scores.drop(columns=ORIGINALS).sub(scores[ORIGINALS], axis=0)
            table = by_era.mean().to_frame("mean_difference")
            notes = (f"No intervals for the differences: {error}",)
    return table.reindex(columns=_DIFFERENCES).rename_axis("arm"), notes
