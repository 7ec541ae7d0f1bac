"""Run an experiment, from its data to the files of its results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from tqdm import tqdm

from numerai_features._progress import stage
from numerai_features._warn import warn
from numerai_features.experiment import _figure, _figure_differences
from numerai_features.experiment._arms import latents_named, made_of
from numerai_features.experiment._benchmark import reads_benchmark
from numerai_features.experiment._eras import check_folds, make_folds
from numerai_features.experiment._fits import FoldFits
from numerai_features.experiment._folder import (
    check_resolved,
    look_for_results,
    write_resolved,
)
from numerai_features.experiment._identity import identity_of, key_of
from numerai_features.experiment._judge import judge
from numerai_features.experiment._panel import data_signature, load_panel
from numerai_features.experiment._parts import check_devices, fitted_on_all
from numerai_features.experiment._references import (
    check_coverage,
    read_for_rows,
    reference_signature,
    references_of,
)
from numerai_features.experiment._result import (
    ExperimentResult,
    write_frames,
)
from numerai_features.experiment._store import ArmResult, FoldStore
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
    for note in fitted_on_all(tables, latents_named(tables)):
        warn(note)
    check_devices(tables)  # report a wrong model before hours of reading
    with stage("eras", hidden=not verbose):
        scored = check_folds(tables)
    with stage(
        "benchmark and meta model",
        hidden=not verbose or not references_of(tables["data"]),
    ):
        check_coverage(tables, scored)
    folder, text = experiment.folder, experiment.to_toml()
    check_resolved(folder, text)
    references = reference_signature(tables["data"])
    identity = identity_of(tables, data_signature(experiment), references)
    finished, n_seeds = look_for_results(folder), tables["seeds"]
    store = FoldStore(folder / "folds", identity, finished, n_seeds)
    write_resolved(folder, text, key_of(identity["settings"]))
    panel = load_panel(experiment, verbose=verbose)
    folds = make_folds(tables, panel)
    total = len(_fitted(experiment)) * len(folds) * n_seeds
    if verbose:
        _tell_work(experiment, panel, folds, len(store), total)
    run_folds(
        _tasks(experiment, panel, folds, store),
        store,
        total=total,
        n_jobs=1,  # some arms need the fold's other arms; models use all cores
        unit="fit",
        verbose=verbose,
    )
    with stage("judging", hidden=not verbose) as bar:
        result = judge(experiment, panel, folds, store, bar.set_description_str)
        bar.set_description_str("writing")
        write_frames(result)
        bar.set_description_str("drawing")
        result = _with_figures(result)
        bar.set_description_str("judged, written and drawn")
    return result


def _fitted(experiment: Experiment) -> list[str]:
    """Return the arms that are fitted, in the order of their fits.

    Those whose number of columns depends on other arms come last.
    """
    recipes = experiment.recipes
    fitted = [arm for arm, recipe in recipes.items() if recipe["blend"] is None]
    return sorted(fitted, key=lambda arm: bool(made_of(recipes[arm])))


def _tell_work(
    experiment: Experiment, panel: EraPanel, folds: list[Fold], n_done: int, total: int
) -> None:
    n_arms, n_seeds = len(experiment.arms), experiment["seeds"]
    seeds = f", {n_seeds} seeds" if n_seeds > 1 else ""
    tqdm.write(f"{panel}\n{n_arms} arms, {len(folds)} folds{seeds}.")
    if n_done:
        tqdm.write(f"{n_done} of {total} fits are done already and are kept.")


def _tasks(
    experiment: Experiment, panel: EraPanel, folds: list[Fold], store: FoldStore
) -> Iterator[Task]:
    """Yield the fits of every fold, seed and arm; a fold's arms share its features."""
    recipes, labels = experiment.recipes, experiment.arms
    benchmark = None
    if any(reads_benchmark(experiment.tables, *arm) for arm in recipes.items()):
        benchmark = read_for_rows(experiment["data"], "benchmark", panel.ids)
    n_seeds = experiment["seeds"]
    for fold in folds:
        for seed in range(n_seeds):
            fits = FoldFits(experiment, panel, fold, seed, benchmark)
            told = f", seed {seed}" if n_seeds > 1 else ""
            for arm in _fitted(experiment):
                yield Task(
                    key=(arm, fold.number, seed),
                    do=partial(_fit, fits, arm, store),
                    label=f"fold {fold.number} of {len(folds)}{told}, {labels[arm]}",
                )


def _fit(fits: FoldFits, arm: str, store: FoldStore, tell: Tell) -> ArmResult:
    """Fit an arm; some columns are as many as the most latents of the fold's arms."""
    recipes, width = fits.experiment.recipes, 0
    if made_of(recipes[arm]):
        others = [n for n, r in recipes.items() if r["latents"] and not made_of(r)]
        place = fits.fold.number, fits.seed
        width = max(store[name, *place].n_latents for name in others)
    try:
        return fits.run(arm, width=width, tell=tell)
    except ValueError as error:
        raise ValueError(f"{arm}, fold {fits.fold.number}: {error}") from error


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
