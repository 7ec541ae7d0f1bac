"""Results of an experiment: frames, their files and the printed tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from numerai_features._whole import whole_file
from numerai_features.experiment._arms import ORIGINALS
from numerai_features.experiment._text import formatted
from numerai_features.experiment._verdicts import sentences

if TYPE_CHECKING:
    import pandas as pd

    from numerai_features.experiment._experiment import Experiment

_PRINTED = {
    "mean": "mean",
    "sd": "sd",
    "sharpe": "Sharpe",
    "deflated_sharpe": "deflated",
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
    """Result of `Experiment.run`: every arm, scored on the same eras.

    ``print(result)`` prints the same tables as the command line. Arms have the labels
    of `Experiment.arms`: ``originals``, ``+ fa`` for the latents ``fa``, ``+ random``.

    Attributes
    ----------
    experiment : Experiment
        The experiment that was run; its ``folder`` holds these frames, too.
    scores : DataFrame
        CORR of each arm (columns) in each era (index, era numbers).
    summary : DataFrame
        A row for each arm: ``mean`` CORR, ``sd`` and the rest of `summarize_scores`;
        ``deflated_sharpe``, the `deflated_sharpe_ratio` among the arms as trials;
        ``fnc`` and ``max_exposure`` as in `summarize`; ``n_latents``, the maximum over
        folds; ``latent_seconds`` and ``model_seconds``, summed over folds.
    differences : DataFrame
        A row for each arm except the originals, as in `paired_differences`:
        ``mean_difference``, the mean over eras of the arm's CORR minus that of the
        originals; ``low`` and ``high``, the ends of its 95 % interval; ``n_eras``, the
        eras that both have. ``low`` and ``high`` are NaN if ``n_eras`` is less than
        ``n_needed``.
    predictions : DataFrame
        A row for each test row, by fold, indexed by id if rows have ids: ``era``
        (label), ``target``, ``fold``, and the prediction of each arm.
    n_features : int
        Number of features that ``fnc`` and ``max_exposure`` use.
    notes : tuple of str, default=()
        Messages that explain missing results, such as intervals or the figure.

    See Also
    --------
    Experiment : Makes this result.
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
            formatted(self.summary[shown].rename(columns=_PRINTED)),
        ]
        looked = "FNC and largest exposure" if "fnc" in shown else "Largest exposure"
        parts.append(f"{looked}: on {self.n_features} features.")
        if len(self.differences):
            overlap = f"for an overlap of {overlap_of(self.experiment)} eras"
            parts.append(
                f"\nArm less {ORIGINALS}, mean CORR with 95 % interval ({overlap})"
            )
            parts.append(formatted(_told(self.differences)))
        parts += [f"\n{note}" for note in self.notes]
        told = sentences(self, overlap_of(self.experiment))
        return "\n".join([*parts, *([""] if told else []), *told])


def overlap_of(experiment: Experiment) -> int:
    """Return the overlap of targets in eras, for intervals: the purge, at least 1."""
    return max(1, int(experiment["cv"]["purge"]))


def write_frames(result: ExperimentResult) -> None:
    """Write the frames as parquet files; each file is written completely or not at all.

    The differences are written as columns of the summary.
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
    """Whether a column is printed; a number of eras only if it differs from n_eras."""
    if name not in summary:
        return False
    return not name.endswith("_n_eras") or bool((summary[name] != summary.n_eras).any())


def _told(differences: pd.DataFrame) -> pd.DataFrame:
    """Return the differences in their printed form."""
    told = differences.drop(columns="n_needed").rename(columns={"n_eras": "eras"})
    few = differences["n_eras"] < differences["n_needed"]
    ends = told[["low", "high"]].astype(object).mask(few, "too few eras")
    return told.assign(**ends)
