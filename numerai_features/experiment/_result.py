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
    "fnc": "FNC",
    "max_exposure": "exposure",
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
        mean ``fnc`` and ``max_exposure``; ``n_latents``, the most of any fold, and the
        ``latent_seconds`` and ``model_seconds`` of all folds.
    differences : DataFrame
        A row for each arm but the originals: ``mean_difference``, the mean CORR less
        that of the originals, era by era, and the ends of its 95 % interval, ``low``
        and ``high``, which are NaN where the eras are too few.
    predictions : DataFrame
        A row for each test row, by fold, indexed by id where there are ids: ``era``
        (label), ``target``, ``fold``, and the prediction of each arm.
    n_features : int
        How many features ``fnc`` and ``max_exposure`` looked at; 0 if neither is there.
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
        shown = [name for name in _PRINTED if name in self.summary]
        parts = [
            f"CORR with {target}, {cv['scheme']}, {len(self.scores)} eras",
            _formatted(self.summary[shown].rename(columns=_PRINTED)),
        ]
        if self.n_features:
            parts.append(f"FNC and largest exposure: on {self.n_features} features.")
        if self.differences["low"].notna().any():
            blocks = f"bootstrap of blocks of {block_length(self.experiment)} eras"
            parts.append(
                f"\nArm less {ORIGINALS}, mean CORR with 95 % interval ({blocks})"
            )
            parts.append(_formatted(self.differences))
        return "\n".join([*parts, *(f"\n{note}" for note in self.notes)])


def block_length(experiment: Experiment) -> int:
    """Return how many eras the bootstrap draws together: those that targets link."""
    return max(1, int(experiment["cv"]["purge"]))


def write_frames(result: ExperimentResult) -> None:
    """Write the frames as parquet, each whole or not at all.

    The differences are columns of the summary's file.
    """
    known = result.differences.dropna(axis="columns", how="all")
    frames = {
        "predictions": result.predictions,
        "scores": result.scores,
        "summary": result.summary.join(known),
    }
    for name, frame in frames.items():
        with whole_file(result.experiment.folder / f"{name}.parquet") as temporary:
            frame.to_parquet(temporary)


def _formatted(table: pd.DataFrame) -> str:
    def text(name: str) -> Any:
        return "{:.1f}".format if name.endswith(" s") else "{:.4f}".format

    columns = {name: text(str(name)) for name in table.columns}
    return str(table.rename_axis(None).to_string(formatters=columns))
