"""Run an experiment, from its data to the files of its results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from tqdm import tqdm

from numerai_features._progress import stage
from numerai_features.experiment import _figure, _figure_differences
from numerai_features.experiment._arms import RANDOM, check_devices, embedders_of
from numerai_features.experiment._eras import check_folds, make_folds
from numerai_features.experiment._fits import FoldFits
from numerai_features.experiment._folder import (
    check_resolved,
    look_for_results,
    write_resolved,
)
from numerai_features.experiment._identity import identity_of, key_of
from numerai_features.experiment._judge import judge
from numerai_features.experiment._model import make_model
from numerai_features.experiment._panel import data_signature, load_panel
from numerai_features.experiment._references import (
    check_coverage,
    reference_signature,
    references_of,
)
from numerai_features.experiment._result import (
    ExperimentResult,
    overlap_of,
    write_frames,
)
from numerai_features.experiment._store import ArmResult, FoldStore
from numerai_features.experiment._verdicts import with_deflated_sharpe
from numerai_features.model_selection._runner import Task, Tell, run_folds

if TYPE_CHECKING:
    from numerai_features.datasets import EraPanel
    from numerai_features.experiment._experiment import Experiment
    from numerai_features.model_selection._folds import Fold


def run_experiment(experiment: Experiment, *, verbose: bool) -> ExperimentResult:
    """Run or resume an experiment, and write its results.

    See `Experiment.run`.
    """
    tables = experiment.tables
    make_model(tables)  # report a wrong model before hours of reading
    check_devices(tables)
    with stage("eras", hidden=not verbose):
        tested = check_folds(tables)
    with stage(
        "benchmark and meta model",
        hidden=not verbose or not references_of(tables["data"]),
    ):
        check_coverage(tables, tested)
    folder, text = experiment.folder, experiment.to_toml()
    check_resolved(folder, text)
    references = reference_signature(tables["data"])
    identity = identity_of(tables, data_signature(experiment), references)
    store = FoldStore(folder / "folds", identity, look_for_results(folder))
    write_resolved(folder, text, key_of(identity["settings"]))
    panel = load_panel(experiment, verbose=verbose)
    folds = make_folds(tables, panel)
    if verbose:
        _tell_work(experiment, panel, folds, store)
    run_folds(
        _tasks(experiment, panel, folds, store),
        store,
        total=len(experiment.arms) * len(folds),
        n_jobs=1,  # random columns need the fold's other arms; models use all cores
        unit="fit",
        verbose=verbose,
    )
    with stage("judging", hidden=not verbose) as bar:
        result = judge(experiment, panel, folds, store, bar.set_description_str)
        result = with_deflated_sharpe(result, overlap_of(experiment))
        bar.set_description_str("writing")
        write_frames(result)
        bar.set_description_str("drawing")
        result = _with_figures(result)
        bar.set_description_str("judged, written and drawn")
    return result


def _tell_work(
    experiment: Experiment, panel: EraPanel, folds: list[Fold], store: FoldStore
) -> None:
    n_arms, n_folds, n_done = len(experiment.arms), len(folds), len(store)
    tqdm.write(f"{panel}\n{n_arms} arms, {n_folds} folds.")
    if n_done:
        n_fits = n_arms * n_folds
        tqdm.write(f"{n_done} of {n_fits} fits are done already and are kept.")


def _tasks(
    experiment: Experiment, panel: EraPanel, folds: list[Fold], store: FoldStore
) -> Iterator[Task]:
    """Yield every arm of every fold; the arms of a fold share its original features."""
    for fold in folds:
        fits = FoldFits(experiment, panel, fold)
        for arm, label in experiment.arms.items():
            yield Task(
                key=(arm, fold.number),
                do=partial(_fit, fits, arm, store),
                label=f"fold {fold.number} of {len(folds)}, {label}",
            )


def _fit(fits: FoldFits, arm: str, store: FoldStore, tell: Tell) -> ArmResult:
    """Fit an arm; random columns match the largest number of latents in the fold."""
    n_random = 0
    if arm == RANDOM:
        embedders = embedders_of(fits.experiment.tables)
        n_random = max(store[name, fits.fold.number].n_latents for name in embedders)
    return fits.run(arm, n_random=n_random, tell=tell)


def _with_figures(result: ExperimentResult) -> ExperimentResult:
    """Draw the figures; add a note if matplotlib is missing.

    Without differences, there is no figure of them; one of an earlier run is removed.
    """
    folder = result.experiment.folder
    differences = folder / _figure_differences.FILE
    try:
        _figure.draw_cumulative(result, folder / _figure.FILE)
        if len(result.differences):
            _figure_differences.draw_differences(result, differences)
        else:
            differences.unlink(missing_ok=True)
    except ImportError as error:
        return replace(result, notes=(*result.notes, f"No figures: {error}"))
    return result
