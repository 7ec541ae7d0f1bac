"""Score the arms of an experiment on the same test rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numerai_features._eras import era_label
from numerai_features._scratch import take
from numerai_features.datasets import NumeraiMetadata, SyntheticTruth
from numerai_features.experiment._arms import latents_named
from numerai_features.experiment._blend import add_blends
from numerai_features.experiment._era_tables import EraTables, over_seeds, seed_error
from numerai_features.experiment._parts import fitted_on_all
from numerai_features.experiment._references import match_reference, references_of
from numerai_features.experiment._report import periods_of
from numerai_features.experiment._result import ExperimentResult, overlap_of
from numerai_features.experiment._store import ArmResult, FoldStore
from numerai_features.experiment._verdicts import with_deflated_sharpe
from numerai_features.metrics import expected_scores, paired_differences
from numerai_features.model_selection._folds import Fold
from numerai_features.model_selection._runner import Tell

if TYPE_CHECKING:
    from numerai_features.datasets import EraPanel
    from numerai_features.experiment._experiment import Experiment

MOST_FEATURES = 250
"""Most evenly spread features for FNC and exposure: costs grow with their square."""

FNC_SET = "fncv3_features"
"""The feature set that Numerai computes FNC with."""

_DIFFERENCES = ["mean_difference", "low", "high", "n_eras", "n_needed"]

_EXPECTED = ["mean", "mean_difference", "n_eras"]

# The results of all folds, by the arm and the number of its seed.
ByArm = dict[tuple[str, int], list[ArmResult]]


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
    n_seeds, recipes = experiment["seeds"], experiment.recipes
    by_arm = {
        (arm, seed): [store[arm, fold.number, seed] for fold in folds]
        for arm, recipe in recipes.items()
        if recipe["blend"] is None
        for seed in range(n_seeds)
    }
    tested = [np.arange(panel.n_rows)[fold.test] for fold in folds]
    numbers = np.repeat([fold.number for fold in folds], [len(r) for r in tested])
    rows = np.concatenate(tested)
    eras, target = panel.eras[rows], panel.y(experiment["targets"]["main"])[rows]
    ids = panel.ids
    values = _predictions(experiment, by_arm, eras)
    if ids is not None:
        values = values.set_axis(pd.Index(ids[rows], name="id"), axis="index")
    predictions = pd.DataFrame(
        {"era": _labels(eras), "target": target, "fold": numbers}
        | {_column(arm, seed, n_seeds): values[arm, seed] for arm, seed in values},
        index=values.index,
    )
    tables = EraTables(target, values.reset_index(drop=True), eras, tell)
    scores, known = tables.by_metric["corr"], ~np.isnan(target)
    file = experiment["data"]["metadata"]
    metadata = None if file is None else NumeraiMetadata.read(file)
    chosen, columns, metrics = judged_features(metadata, panel, eras[known])
    tables.add_features(take(panel.X, rows, columns), metrics)
    notes: list[str] = []
    for name in references_of(experiment["data"]):
        reference, gaps = match_reference(
            experiment["data"], name, predictions.index, eras, known
        )
        tables.add_reference(name, reference)
        notes += [gaps] if gaps else []
    weights = experiment["report"]["weights"]
    periods, empty = tables.periods(weights, periods_of(experiment["report"]))
    differences, too_few = _differences(scores, experiment)
    if n_seeds > 1:
        differences["seed_error"] = seed_error(tables.corr_by_seed)
    result = ExperimentResult(
        experiment,
        scores,
        tables.summary(weights).join(_costs(experiment, by_arm)),
        differences,
        predictions,
        periods,
        _expected(experiment, panel, values, eras, scores),
        len(columns),
        chosen,
        (
            *notes,
            *tables.notes,
            *empty,
            *too_few,
            *fitted_on_all(experiment.tables, latents_named(experiment.tables)),
        ),
    )
    overlap = overlap_of(experiment)
    return with_deflated_sharpe(result, overlap, tables.corr_by_seed)


def _labels(eras: NDArray[Any]) -> NDArray[np.str_]:
    numbers, codes = np.unique(eras, return_inverse=True)
    return np.array([era_label(int(number)) for number in numbers])[codes]


def _predictions(
    experiment: Experiment, by_arm: ByArm, eras: NDArray[Any]
) -> pd.DataFrame:
    """Return the predictions of each arm, by label, and seed, also of blends."""
    labels = experiment.arms
    columns: dict[tuple[str, int], NDArray[np.float32]] = {}
    for seed in range(experiment["seeds"]):
        fitted = {
            arm: np.concatenate([result.prediction for result in results])
            for (arm, own), results in by_arm.items()
            if own == seed
        }
        blended = add_blends(fitted, experiment.recipes, eras)
        columns |= {(labels[arm], seed): values for arm, values in blended.items()}
    order = [
        (label, s) for label in labels.values() for s in range(experiment["seeds"])
    ]
    names = pd.MultiIndex.from_tuples(order, names=["arm", "seed"])
    return pd.DataFrame({key: columns[key] for key in order}).set_axis(names, axis=1)


def _column(arm: str, seed: int, n_seeds: int) -> str:
    return f"{arm}, seed {seed}" if n_seeds > 1 else arm


def judged_features(
    metadata: NumeraiMetadata | None, panel: EraPanel, eras: NDArray[Any]
) -> tuple[str, NDArray[np.intp], tuple[str, ...]]:
    """Return features for FNC and exposure, and the metrics that use them.

    They are Numerai's set for FNC if the panel has all of its features, else evenly
    spread ones; its name is the first part, or "". FNC uses at most half as many
    features as the smallest era has rows. If an era of two rows is scored, FNC is left
    out.
    """
    n_rows = np.unique(eras, return_counts=True)[1]
    smallest = int(n_rows[n_rows > 1].min(initial=len(eras)))
    metrics: tuple[str, ...] = ("fnc", "max_exposure")
    own = _own_features(metadata, panel)
    if len(own) and len(own) <= smallest // 2:
        return FNC_SET, own, metrics
    n = min(panel.n_features, MOST_FEATURES)
    if smallest > 2:
        n = min(n, smallest // 2)
    else:
        metrics = ("max_exposure",)
    spread = np.linspace(0, panel.n_features - 1, n).round().astype(np.intp)
    return "", spread, metrics


def _own_features(
    metadata: NumeraiMetadata | None, panel: EraPanel
) -> NDArray[np.intp]:
    """Return the columns of Numerai's set for FNC; none if the panel lacks one."""
    if metadata is None:
        return np.empty(0, np.intp)
    names = metadata.feature_sets.get(FNC_SET, ())
    places = pd.Index(panel.feature_names).get_indexer(pd.Index(names, dtype=object))
    return np.empty(0, np.intp) if (places < 0).any() else places


def _costs(experiment: Experiment, by_arm: ByArm) -> pd.DataFrame:
    """Return each arm's largest number of latents, and its total seconds."""
    costs = {}
    for arm, label in experiment.arms.items():
        results = [r for key, of in by_arm.items() if key[0] == arm for r in of]
        costs[label] = {
            "n_latents": max((r.n_latents for r in results), default=0),
            "latent_seconds": sum(r.latent_seconds for r in results),
            "model_seconds": sum(r.model_seconds for r in results),
        }
    return pd.DataFrame.from_dict(costs, orient="index").astype({"n_latents": int})


def _differences(
    scores: pd.DataFrame, experiment: Experiment
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return each arm's paired difference from the first, and notes on gaps."""
    if len(scores.columns) < 2:
        return pd.DataFrame(columns=_DIFFERENCES, dtype=float).rename_axis("arm"), ()
    overlap = overlap_of(experiment)
    table = paired_differences(scores, experiment.base, overlap)[_DIFFERENCES]
    few = table.index[table["n_eras"] < table["n_needed"]]
    if few.empty:
        return table, ()
    needed = table["n_needed"].max()
    note = (
        f"No interval for {', '.join(few)}: an interval needs {needed} eras, four "
        f"times the overlap of {overlap} eras. Test on more eras."
    )
    return table, (note,)


def _expected(
    experiment: Experiment,
    panel: EraPanel,
    predictions: pd.DataFrame,
    eras: NDArray[np.int32],
    scores: pd.DataFrame,
) -> pd.DataFrame:
    """Return each arm's mean expected CORR over the scored eras, on synthetic data."""
    if experiment["data"]["files"] is not None:
        return pd.DataFrame(columns=_EXPECTED, dtype=float).rename_axis("arm")
    truth, target = SyntheticTruth.open(panel), experiment["targets"]["main"]
    names, columns = predictions.columns, list(range(predictions.shape[1]))
    plain = predictions.set_axis(columns, axis="columns")
    each: Any = expected_scores(plain, truth, eras, target=target)
    each = each.loc[scores.index].set_axis(names, axis="columns")
    table = over_seeds(each)
    less = table.sub(table[experiment.base], axis="index").mean()
    found = pd.DataFrame(
        dict(zip(_EXPECTED, (table.mean(), less, table.count()), strict=True))
    )
    if experiment["seeds"] > 1:
        means = each.mean().unstack(level=0)
        found["seed_sd"] = means.std(ddof=1)
        found["seed_error"] = seed_error(each)
    return found.rename_axis("arm")
