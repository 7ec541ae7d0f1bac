"""Results of an experiment: frames, their files and the printed tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from numerai_features._whole import sweep, whole_file
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
    "bmc": "BMC",
    "bmc_n_eras": "BMC eras",
    "bmc_last200": "BMC 200",
    "bmc_n_eras_last200": "BMC 200 eras",
    "mmc": "MMC",
    "mmc_n_eras": "MMC eras",
    "benchmark_corr": "bm corr",
    "benchmark_corr_n_eras": "bm corr eras",
    "payout": "payout",
    "payout_n_eras": "payout eras",
    "max_exposure": "exposure",
    "max_exposure_n_eras": "exposure eras",
    "latent_seconds": "latents s",
    "model_seconds": "model s",
}
_OF_DIFFERENCES = {"n_eras": "eras", "seed_error": "seed error", "seed_sd": "seed sd"}


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
        folds; ``latent_seconds`` and ``model_seconds``, summed over folds. A benchmark
        adds ``bmc``, ``bmc_last200`` (over the last 200 of its eras) and
        ``benchmark_corr``; a meta model adds ``mmc``. Either adds ``payout``, the
        weighted sum of CORR and ``payout_with`` (``"mmc"``; ``"bmc"`` if there is no
        MMC). Each is a mean over its own eras, whose number is in the column with the
        suffix ``_n_eras``.
    differences : DataFrame
        A row for each arm except the first, as in `paired_differences`:
        ``mean_difference``, the mean over eras of the arm's CORR minus that of the
        first arm; ``low`` and ``high``, the ends of its 95 % interval; ``n_eras``, the
        eras that both have. ``low`` and ``high`` are NaN if ``n_eras`` is less than
        ``n_needed``. With several seeds, ``seed_error`` is the standard error of the
        mean difference over the seeds.
    predictions : DataFrame
        A row for each test row, by fold, indexed by id if rows have ids: ``era``
        (label), ``target``, ``fold``, and the prediction of each arm; with several
        seeds, of each arm and seed, as in ``"+ fa, seed 0"``.
    periods : DataFrame
        The columns of `summary`, except for the deflated Sharpe ratio, latents and
        seconds, for each period of ``report.periods`` and each arm; without rows if
        there are no periods.
    expected : DataFrame
        On synthetic data, a row for each arm: ``mean``, the mean of `expected_scores`
        of CORR over the eras of `scores`; ``mean_difference`` from the first arm;
        ``n_eras``; with several seeds, ``seed_sd``, the standard deviation over seeds
        of the mean, and ``seed_error``. It has no intervals: the fitted models and the
        panel are given, and nothing else varies. Without rows on other data.
    n_features : int
        Number of features that ``fnc`` and ``max_exposure`` use.
    feature_set : str
        The feature set that these features are; empty if they are evenly spread ones.
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
    periods: pd.DataFrame
    expected: pd.DataFrame
    n_features: int
    feature_set: str
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        n_arms, n_eras = self.scores.shape[::-1]
        folder = str(self.experiment.folder)
        return f"ExperimentResult({n_arms} arms, {n_eras} eras, folder={folder!r})"

    def __str__(self) -> str:
        cv, target = self.experiment["cv"], self.experiment["targets"]["main"]
        seeds = self.experiment["seeds"]
        mean = f", means of {seeds} seeds" if seeds > 1 else ""
        parts = [
            f"CORR with {target}, {cv['scheme']}, {len(self.scores)} eras{mean}",
            _summary_text(self.summary),
            self._features_text(),
            *_payout_text(self.summary, self.experiment["report"]["weights"]),
        ]
        if len(self.differences):
            overlap = f"for an overlap of {overlap_of(self.experiment)} eras"
            base = self.experiment.base
            parts.append(f"\nArm less {base}, mean CORR with 95 % interval ({overlap})")
            parts.append(formatted(_told(self.differences)))
        if len(self.expected):
            parts.append(
                "\nExpected CORR, these fitted models on this panel, without its "
                "market's noise (so without interval)"
            )
            parts.append(formatted(self.expected.rename(columns=_OF_DIFFERENCES)))
        for period in self.periods.index.unique("period") if len(self.periods) else ():
            table = self.periods.loc[period].dropna(axis="columns", how="all")
            n_eras = int(table["n_eras"].max())
            parts.append(f"\nPeriod {period}, {n_eras} eras")
            parts += [_summary_text(table)]
            parts += _payout_text(table, self.experiment["report"]["weights"])
        parts += [f"\n{note}" for note in self.notes]
        told = sentences(self, overlap_of(self.experiment))
        return "\n".join([*parts, *([""] if told else []), *told])

    def _features_text(self) -> str:
        what = (
            "FNC and largest exposure" if "fnc" in self.summary else "Largest exposure"
        )
        of = f" of {self.feature_set}" if self.feature_set else ""
        return f"{what}: on {'the ' if of else ''}{self.n_features} features{of}."


def overlap_of(experiment: Experiment) -> int:
    """Return the overlap of targets in eras, for intervals: the purge, at least 1."""
    return max(1, int(experiment["cv"]["purge"]))


def write_frames(result: ExperimentResult) -> None:
    """Write the frames as parquet files; each file is written completely or not at all.

    Differences and expected scores are written as columns of the summary. There is no
    file of periods if there are none; one of an earlier run is removed.
    """
    own = {n: f"difference_{n}" for n in ("n_eras", "n_needed", "seed_error")}
    known = result.differences.dropna(axis="columns", how="all").rename(columns=own)
    expected = result.expected.add_prefix("expected_")
    frames = {
        "predictions": result.predictions,
        "scores": result.scores,
        "summary": result.summary.join(known).join(expected),
    }
    if len(result.periods):
        frames["periods"] = result.periods
    else:
        file = result.experiment.folder / "periods.parquet"
        file.unlink(missing_ok=True)
        sweep(file)
    for name, frame in frames.items():
        with whole_file(result.experiment.folder / f"{name}.parquet") as temporary:
            frame.to_parquet(temporary)


def _summary_text(summary: pd.DataFrame) -> str:
    """Return the printed columns of a summary, with their short names."""
    shown = [name for name in _PRINTED if _is_shown(name, summary)]
    return formatted(summary[shown].rename(columns=_PRINTED))


def _payout_text(summary: pd.DataFrame, weights: list[float]) -> list[str]:
    """Return a line with the formula of the payout, if there is one."""
    if "payout" not in summary:
        return []
    corr, other = (f"{weight:g}" for weight in weights)
    return [f"Payout: {corr} CORR + {other} {summary['payout_with'].iloc[0].upper()}."]


def _is_shown(name: str, summary: pd.DataFrame) -> bool:
    """Whether a column is printed.

    A number of eras is printed beside its metric if it differs from n_eras, and the BMC
    of the last 200 eras if there are more.
    """
    if name not in summary or name.removesuffix("_n_eras") not in summary:
        return False
    if name.endswith("_last200"):
        return bool((summary["bmc_n_eras_last200"] < summary["bmc_n_eras"]).any())
    return not name.endswith("_n_eras") or bool((summary[name] != summary.n_eras).any())


def _told(differences: pd.DataFrame) -> pd.DataFrame:
    """Return the differences in their printed form."""
    told = differences.drop(columns="n_needed").rename(columns=_OF_DIFFERENCES)
    few = differences["n_eras"] < differences["n_needed"]
    ends = told[["low", "high"]].astype(object).mask(few, "too few eras")
    return told.assign(**ends)
