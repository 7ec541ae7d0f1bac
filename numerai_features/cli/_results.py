"""What a comparison amounts to: the frames that are written, and the printed tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from numerai_features.cli._compare import Fold
from numerai_features.cli._experiment import ORIGINALS, Experiment
from numerai_features.cli._files import replacing
from numerai_features.cli._folds import FoldStore

if TYPE_CHECKING:
    import pandas as pd

    from numerai_features.datasets import EraPanel

MOST_FEATURES = 250
"""Features that FNC and exposure look at: the cost grows with their square."""

_PRINTED = {
    "mean": "mean",
    "sd": "sd",
    "sharpe": "Sharpe",
    "max_drawdown": "drawdown",
    "positive_share": "positive",
    "fnc": "FNC",
    "max_exposure": "exposure",
    "latent_seconds": "latents s",
    "model_seconds": "model s",
}
_DIFFERENCES = ["mean_difference", "low", "high"]


@dataclass(frozen=True)
class Results:
    """The frames of a comparison.

    Attributes
    ----------
    predictions : DataFrame
        A row for each test row, by fold: ``era``, ``target``, ``fold``, and the
        prediction of each arm; indexed by id where there are ids.
    scores : DataFrame
        CORR of each era (number) and arm.
    summary : DataFrame
        A row for each arm.
    n_features : int
        Features that FNC and exposure looked at; 0 if there is neither.
    note : str
        Why there are no intervals; empty if there are.
    """

    predictions: pd.DataFrame
    scores: pd.DataFrame
    summary: pd.DataFrame
    n_features: int
    note: str


def judge(
    experiment: Experiment, panel: EraPanel, folds: list[Fold], store: FoldStore
) -> Results:
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
    Results
    """
    from numerai_features.metrics import era_scores, summarize_scores

    rows = np.concatenate([np.arange(panel.n_rows)[fold.test] for fold in folds])
    predictions = _predictions(experiment, panel, folds, store, rows)
    arms = list(experiment.arms.values())
    eras, y = panel.eras[rows], predictions["target"].to_numpy()
    columns = _judged_features(panel.n_features, eras[~np.isnan(y)])
    values = predictions[arms].reset_index(drop=True)
    scores = era_scores(y, values, eras)
    summary = summarize_scores(scores)
    if len(columns):
        features = panel.X[rows[:, None], columns]
        for metric in ("fnc", "max_exposure"):
            by_era = era_scores(y, values, eras, metric=metric, features=features)
            summary[metric] = by_era.mean()
    for name in ("n_latents", "latent_seconds", "model_seconds"):
        summary[name] = _totals(name, experiment, folds, store)
    differences, note = _differences(scores, experiment)
    summary = summary.join(differences).rename_axis("arm")
    return Results(predictions, scores, summary, len(columns), note)


def write_results(results: Results, folder: Path) -> None:
    """Write the frames as parquet, each whole or not at all."""
    for name in ("predictions", "scores", "summary"):
        with replacing(folder / f"{name}.parquet") as temporary:
            getattr(results, name).to_parquet(temporary)


def format_results(results: Results, experiment: Experiment) -> str:
    """Return the tables that are printed."""
    cv, target = experiment["cv"], experiment["targets"]["main"]
    summary, n_eras = results.summary, len(results.scores)
    shown = [name for name in _PRINTED if name in summary]
    title = f"CORR with {target}, {cv['scheme']}, {n_eras} eras"
    parts = [title, _formatted(summary[shown].rename(columns=_PRINTED))]
    if results.n_features:
        parts.append(f"FNC and largest exposure: on {results.n_features} features.")
    if results.note:
        parts.append(f"\nNo intervals for the differences: {results.note}")
    elif "mean_difference" in summary:
        blocks = f"bootstrap of blocks of {_block(experiment)} eras"
        parts.append(f"\nArm less {ORIGINALS}, mean CORR with 95 % interval ({blocks})")
        parts.append(_formatted(summary.loc[summary.index != ORIGINALS, _DIFFERENCES]))
    return "\n".join(parts)


def _predictions(
    experiment: Experiment,
    panel: EraPanel,
    folds: list[Fold],
    store: FoldStore,
    rows: NDArray[np.intp],
) -> pd.DataFrame:
    import pandas as pd

    from numerai_features._eras import era_label

    numbers, codes = np.unique(panel.eras[rows], return_inverse=True)
    labels = [era_label(int(number)) for number in numbers]
    n_tested = [len(np.arange(panel.n_rows)[fold.test]) for fold in folds]
    ids = panel.ids
    frame = pd.DataFrame(
        {
            "era": np.array(labels)[codes],
            "target": panel.y(experiment["targets"]["main"])[rows],
            "fold": np.repeat([fold.number for fold in folds], n_tested),
        },
        index=None if ids is None else pd.Index(ids[rows], name="id"),
    )
    for arm, label in experiment.arms.items():
        parts = [store.read(arm, fold.number).prediction for fold in folds]
        frame[label] = np.concatenate(parts)
    return frame


def _judged_features(n_features: int, eras: NDArray[Any]) -> NDArray[np.intp]:
    """Return evenly spread features, half as many at most as an era has rows."""
    smallest = int(np.unique(eras, return_counts=True)[1].min()) if len(eras) else 0
    n = min(n_features, MOST_FEATURES, smallest // 2)
    return np.linspace(0, n_features - 1, n).round().astype(np.intp)


def _totals(
    name: str, experiment: Experiment, folds: list[Fold], store: FoldStore
) -> dict[str, Any]:
    """Return the seconds of all folds, or the largest number of latents, by arm."""
    totals = {}
    for arm, label in experiment.arms.items():
        values = [getattr(store.read(arm, fold.number), name) for fold in folds]
        totals[label] = max(values) if name == "n_latents" else sum(values)
    return totals


def _block(experiment: Experiment) -> int:
    return max(1, int(experiment["cv"]["purge"]))


def _differences(
    scores: pd.DataFrame, experiment: Experiment
) -> tuple[pd.DataFrame, str]:
    """Return each arm's paired difference from the originals, or why there is none."""
    import pandas as pd

    from numerai_features.metrics import paired_differences

    if len(scores.columns) < 2:
        return pd.DataFrame(), ""
    block, seed = _block(experiment), experiment["seed"]
    try:
        table = paired_differences(scores, ORIGINALS, block, random_state=seed)
    except ValueError as error:  # too few eras for two blocks
        means = scores.drop(columns=ORIGINALS).sub(scores[ORIGINALS], axis=0).mean()
        return means.to_frame("mean_difference"), str(error)
    return table[_DIFFERENCES], ""


def _formatted(table: pd.DataFrame) -> str:
    def text(name: str) -> Any:
        return "{:.1f}".format if name.endswith(" s") else "{:.4f}".format

    columns = {name: text(str(name)) for name in table.columns}
    return str(table.rename_axis(None).to_string(formatters=columns))
