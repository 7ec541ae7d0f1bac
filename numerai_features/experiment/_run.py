"""Run an experiment, from its data to the files of its results."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from joblib import effective_n_jobs
from tqdm import tqdm

from numerai_features._arguments import N_JOBS
from numerai_features._cache import versions
from numerai_features._compat import validate_parameter_constraints
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


def run_experiment(
    experiment: Experiment, *, n_jobs: int | None, verbose: bool
) -> ExperimentResult:
    """Run or resume an experiment, and write its results.

    See `Experiment.run`.
    """
    validate_parameter_constraints(
        {"n_jobs": N_JOBS}, {"n_jobs": n_jobs}, caller_name="Experiment.run"
    )
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
    arms = _fitted(experiment)
    total = len(arms) * len(folds) * n_seeds
    if verbose:
        _tell_work(experiment, panel, folds, len(store), total)
    fits = _fits(experiment, panel, folds)
    if effective_n_jobs(n_jobs) == 1:
        tasks = _tasks(fits, arms, len(folds), store)
        run_folds(tasks, store, total=total, n_jobs=1, unit="fit", verbose=verbose)
    else:
        places = [(fold.number, seed) for fold in folds for seed in range(n_seeds)]
        whole = _WholeFolds(store, arms, places)
        tasks, total = whole.tasks(fits), len(places)
        run_folds(tasks, whole, total=total, n_jobs=n_jobs, verbose=verbose)
        if whole.error is not None:
            raise whole.error
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


def _fits(
    experiment: Experiment, panel: EraPanel, folds: list[Fold]
) -> Iterator[FoldFits]:
    """Yield the fits of every fold and seed; their arms share features."""
    recipes, benchmark = experiment.recipes, None
    if any(reads_benchmark(experiment.tables, *arm) for arm in recipes.items()):
        benchmark = read_for_rows(experiment["data"], "benchmark", panel.ids)
    for fold in folds:
        for seed in range(experiment["seeds"]):
            yield FoldFits(experiment, panel, fold, seed, benchmark)


def _tasks(
    every: Iterable[FoldFits], arms: list[str], n_folds: int, store: FoldStore
) -> Iterator[Task]:
    """Yield each arm of each fold and seed."""
    for fits in every:
        labels, place = fits.experiment.arms, (fits.fold.number, fits.seed)
        told = f", seed {fits.seed}" if fits.experiment["seeds"] > 1 else ""
        for arm in arms:
            yield Task(
                key=(arm, *place),
                do=partial(_fit, fits, arm, partial(_stored_width, store, place)),
                label=f"fold {place[0]} of {n_folds}{told}, {labels[arm]}",
            )


def _stored_width(store: FoldStore, place: tuple[int, int], arm: str) -> int:
    return store[arm, *place].n_latents


def _fit(
    fits: FoldFits, arm: str, width_of: Callable[[str], int], tell: Tell
) -> ArmResult:
    """Fit an arm; some columns are as many as the most latents of the fold's arms."""
    recipes, width = fits.experiment.recipes, 0
    if made_of(recipes[arm]):
        others = [n for n, r in recipes.items() if r["latents"] and not made_of(r)]
        width = max(map(width_of, others))
    try:
        return fits.run(arm, width=width, tell=tell)
    except ValueError as error:
        raise ValueError(f"{arm}, fold {fits.fold.number}: {error}") from error


class _FoldDone(NamedTuple):
    """The results of a fold's arms, and the error that ended them, if one did."""

    results: dict[str, ArmResult]
    error: Exception | None


class _WholeFolds:
    """Folds that run at once: each task is all missing arms of a fold and seed.

    After an error no fold is begun any more, but those in progress are ended and
    stored.

    Parameters
    ----------
    store : FoldStore
        The fits, as whose store this one is used.
    arms : list of str
        The arms that are fitted, in their order.
    places : list of (int, int)
        The folds' numbers and their seeds.

    Attributes
    ----------
    error : Exception or None
        The first error of an arm.
    """

    def __init__(
        self, store: FoldStore, arms: list[str], places: list[tuple[int, int]]
    ) -> None:
        self.store = store
        self.arms = arms
        self.places = places
        self.error: Exception | None = None

    def __len__(self) -> int:
        return sum(place in self for place in self.places)

    def __contains__(self, place: tuple[int, int]) -> bool:
        return all((arm, *place) in self.store for arm in self.arms)

    def __setitem__(self, place: tuple[int, int], done: _FoldDone) -> None:
        for arm, result in done.results.items():
            self.store[arm, *place] = result
        self.error = self.error or done.error

    def tasks(self, every: Iterable[FoldFits]) -> Iterator[Task]:
        """Yield the arms of each fold that are not stored, until there is an error."""
        expected = versions()
        for fits in every:
            if self.error is not None:
                return
            place = fits.fold.number, fits.seed
            if place in self:
                continue
            there = [arm for arm in self.arms if (arm, *place) in self.store]
            widths = {arm: _stored_width(self.store, place, arm) for arm in there}
            missing = [arm for arm in self.arms if arm not in widths]
            yield Task(place, partial(_fit_arms, fits, missing, widths, expected))


def _fit_arms(
    fits: FoldFits,
    arms: list[str],
    widths: dict[str, int],
    expected: dict[str, str],
    tell: Tell,
) -> _FoldDone:
    """Fit arms one after the other; those before an error count.

    `expected` are the versions of the libraries that results are stored under.
    """
    here = versions()
    differ = {k: here.get(k) for k in here | expected if here.get(k) != expected.get(k)}
    if differ:
        wanted = {name: expected.get(name) for name in differ}
        problem = RuntimeError(
            f"A worker has the versions {differ}, but {wanted} are wanted. Install the "
            "same on all machines."
        )
        return _FoldDone({}, problem)
    results: dict[str, ArmResult] = {}
    for arm in arms:
        try:
            results[arm] = _fit(fits, arm, widths.__getitem__, tell)
        except Exception as error:
            told = "".join(traceback.format_exception(error))
            where = f"the arm {arm}, fold {fits.fold.number}, seed {fits.seed}"
            return _FoldDone(results, _sendable(error, f"In {where}:\n\n{told}"))
        widths = widths | {arm: results[arm].n_latents}
    return _FoldDone(results, None)


def _sendable(error: Exception, note: str) -> Exception:
    """Return an error that another process can read, which loses its traceback."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(note)
    return error


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
