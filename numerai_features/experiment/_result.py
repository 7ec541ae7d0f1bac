"""What an experiment amounts to: frames, the files of them, and the printed tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numerai_features._whole import whole_file
from numerai_features.experiment._arms import ORIGINALS

if TYPE_CHECKING:
    import pandas as pd

    from numerai_features.experiment._experiment import Experiment

_PRINTED = {
    "mean": "mean",
    "sd": "sd",
    "sharpe": "Sharpe",
    "max_drawdown": "drawdown",
    "positive_share": "positive",
    "n_eras": "eras",
    "fnc": "FNC",
    "fnc_n_eras": "FNC eras",
    "max_exposure": "exposure",
    "max_exposure_n_eras": "exposure eras",
    "latent_seconds": "latents s",
    "model_seconds": "model s",
}


@dataclass(frozen=True, eq=False, repr=False)
class ExperimentResult:
    """What `Experiment.run` returns: every arm, judged on the same eras.

    ``print(result)`` shows what the command line prints. Arms are written as in
    `Experiment.arms`: ``originals``, ``+ fa`` for the latents ``fa``, ``+ random``.

    Attributes
    ----------
    experiment : Experiment
        What was run; its ``folder`` holds these frames, too.
    scores : DataFrame
        CORR of each era (number, the index) and arm.
    summary : DataFrame
        A row for each arm: ``mean`` CORR, ``sd`` and the rest of `summarize_scores`;
        ``fnc`` and ``max_exposure`` as in `summarize`; ``n_latents``, the most of any
        fold, and the ``latent_seconds`` and ``model_seconds`` of all folds.
    differences : DataFrame
        A row for each arm but the originals, as in `paired_differences`:
        ``mean_difference``, the mean CORR less that of the originals, era by era; the
        ends of its 95 % interval, ``low`` and ``high``, which are NaN where the eras
        of both, ``n_eras``, are fewer than ``n_needed``.
    predictions : DataFrame
        A row for each test row, by fold, indexed by id where there are ids: ``era``
        (label), ``target``, ``fold``, and the prediction of each arm.
    n_features : int
        How many features ``fnc`` and ``max_exposure`` looked at.
    notes : tuple of str, default=()
        What is missing and why.

    See Also
    --------
    Experiment : What is run.
    """

    experiment: Experiment
    scores: pd.DataFrame
    summary: pd.DataFrame
    differences: pd.DataFrame
    predictions: pd.DataFrame
    n_features: int
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        n_arms, n_eras = self.scores.shape[::-1]
        folder = str(self.experiment.folder)
        return f"ExperimentResult({n_arms} arms, {n_eras} eras, folder={folder!r})"

    def __str__(self) -> str:
        cv, target = self.experiment["cv"], self.experiment["targets"]["main"]
        shown = [name for name in _PRINTED if _is_shown(name, self.summary)]
        parts = [
            f"CORR with {target}, {cv['scheme']}, {len(self.scores)} eras",
            _formatted(self.summary[shown].rename(columns=_PRINTED)),
        ]
        looked = "FNC and largest exposure" if "fnc" in shown else "Largest exposure"
        parts.append(f"{looked}: on {self.n_features} features.")
        if len(self.differences):
            overlap = f"for an overlap of {overlap_of(self.experiment)} eras"
            parts.append(
                f"\nArm less {ORIGINALS}, mean CORR with 95 % interval ({overlap})"
            )
            parts.append(_formatted(_told(self.differences)))
        return "\n".join([*parts, *(f"\n{note}" for note in self.notes)])


def overlap_of(experiment: Experiment) -> int:
    """Return how many eras targets link, for intervals: those that are purged."""
    return max(1, int(experiment["cv"]["purge"]))


def write_frames(result: ExperimentResult) -> None:
    """Write the frames as parquet, each whole or not at all.

    The differences are columns of the summary's file.
    """
    own = {name: f"difference_{name}" for name in ("n_eras", "n_needed")}
    known = result.differences.dropna(axis="columns", how="all").rename(columns=own)
    frames = {
        "predictions": result.predictions,
        "scores": result.scores,
        "summary": result.summary.join(known),
    }
    for name, frame in frames.items():
        with whole_file(result.experiment.folder / f"{name}.parquet") as temporary:
            frame.to_parquet(temporary)


def _is_shown(name: str, summary: pd.DataFrame) -> bool:
    """Whether a column is printed: numbers of eras once, where they are the same."""
    if name not in summary:
        return False
    return not name.endswith("_n_eras") or bool((summary[name] != summary.n_eras).any())


def _told(differences: pd.DataFrame) -> pd.DataFrame:
    """Return differences as they are printed."""
    told = differences.drop(columns="n_needed").rename(columns={"n_eras": "eras"})
    few = differences["n_eras"] < differences["n_needed"]
    ends = told[["low", "high"]].astype(object).mask(few, "too few eras")
    return told.assign(**ends)


def _formatted(table: pd.DataFrame) -> str:
    def text(name: str) -> Any:
        number = {"s": "{:.1f}", "eras": "{:.0f}"}.get(name.split()[-1], "{:.4f}")
        return lambda cell: cell if isinstance(cell, str) else number.format(cell)

    columns = {name: text(str(name)) for name in table.columns}
    return str(table.rename_axis(None).to_string(formatters=columns))
