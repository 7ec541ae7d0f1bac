"""Fit an arm of an experiment on all eras that have a target."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from numerai_features._blocks import as_slice
from numerai_features._eras import era_label
from numerai_features._progress import stage
from numerai_features.experiment._arms import made_of
from numerai_features.experiment._benchmark import (
    reads_benchmark,
    trained_with_benchmark,
)
from numerai_features.experiment._familiar import training_data
from numerai_features.experiment._file import ExperimentError
from numerai_features.experiment._fit_store import FitStore
from numerai_features.experiment._fits import FoldFits
from numerai_features.experiment._folder import check_resolved, write_resolved
from numerai_features.experiment._identity import identity_of
from numerai_features.experiment._live import features_of
from numerai_features.experiment._nodes import Node, arm_node, blend_node, filled
from numerai_features.experiment._panel import data_signature, load_panel
from numerai_features.experiment._parts import check_devices
from numerai_features.experiment._references import (
    read_for_rows,
    reference_signature,
)
from numerai_features.experiment._schema import got, unknown
from numerai_features.export._model import assembled, uses_benchmark
from numerai_features.model_selection._folds import Fold

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from numerai_features.datasets import EraPanel
    from numerai_features.experiment._experiment import Experiment

_VERSION = re.compile(r"v\d+(\.\d+)*")


def fit_experiment(
    experiment: Experiment,
    arm: str | None,
    folder: Path | None,
    seeds: int | None,
    *,
    verbose: bool,
) -> Path:
    """Fit or go on fitting an arm; return the model's folder. See `Experiment.fit`."""
    arm = choose_arm(experiment, arm)
    n_seeds = experiment["seeds"] if seeds is None else seeds
    folder = experiment.folder / "models" / arm if folder is None else folder
    if folder.exists() and not folder.is_dir():
        raise ExperimentError(f"folder: {folder} is a file; expected a folder.")
    check_devices(experiment.tables)
    text = experiment.to_toml()
    references = reference_signature(experiment["data"])
    identity = identity_of(experiment.tables, data_signature(experiment), references)
    check_resolved(folder, text)
    store = FitStore(folder, identity, arm)
    write_resolved(folder, text, store.key)
    if store.is_renewed and verbose:
        tqdm.write(
            f"The files have changed since {arm} was fitted: it is fitted again."
        )
    if store.has_model(n_seeds):
        if verbose:
            tqdm.write(f"{arm} is fitted already.")
        return folder
    panel = load_panel(experiment, verbose=verbose)
    known = _known(experiment, panel)
    arms = list(dict.fromkeys(_fitted_arms(experiment.recipes, arm)))
    benchmark = _benchmark(experiment, panel, arms, known)
    parts = [(name, seed) for seed in range(n_seeds) for name in arms]
    if verbose:
        _tell_work(panel, known, arms, n_seeds)
    with stage("fits", hidden=not verbose) as bar:
        fits: FoldFits | None = None
        for number, (name, seed) in enumerate(parts, start=1):
            told = f"fit {number} of {len(parts)}, {name}"
            bar.set_description_str(told)
            if (name, seed) in store:
                continue
            if fits is None or fits.seed != seed:
                fold = Fold(0, as_slice(np.flatnonzero(known)), slice(0, 0))
                fits = FoldFits(experiment, panel, fold, seed, benchmark)
            store[name, seed] = _fit_part(
                fits,
                name,
                lambda what, told=told: bar.set_description_str(f"{told}: {what}"),
            )
        bar.set_description_str("writing the model")
        _write_model(experiment, panel, known, store, n_seeds)
        bar.set_description_str("fitted and written")
    return folder


def choose_arm(experiment: Experiment, arm: str | None) -> str:
    """Return the arm to fit: the given one, or the only one that can be.

    Raises
    ------
    ExperimentError
        If there is no such arm, it cannot be fitted, or none is given and there are
        several.
    """
    recipes = experiment.recipes
    if arm is None:
        there = [name for name in recipes if refusal(recipes, name) is None]
        if len(there) == 1:
            return there[0]
        told = ", ".join(there) or "none"
        raise ExperimentError(
            f"The experiment has {len(there)} arms that can be fitted: {told}. Choose "
            "one with arm= (--arm on the command line)."
        )
    if arm not in recipes:
        raise ExperimentError(
            f"arm: got {got(arm)}; {unknown('arm', str(arm), list(recipes))}"
        )
    reason = refusal(recipes, arm)
    if reason is not None:
        raise ExperimentError(f"The arm {got(arm)} cannot be fitted: {reason}")
    return arm


def refusal(recipes: dict[str, dict[str, Any]], arm: str) -> str | None:
    """Return why an arm has no predictions of live rows, or None."""
    for name in _fitted_arms(recipes, arm):
        of = "it" if name == arm else f"its arm {got(name)}"
        made = made_of(recipes[name])
        if made:
            return (
                f"{of} has {' and '.join(made)} columns, as many as other arms' "
                "latents, which only serve to compare. Choose another arm."
            )
        if recipes[name]["era_feature"]:
            return (
                f"{of} has era_feature = true, but a live era has no number. Choose "
                "an arm without it."
            )
    return None


def _fitted_arms(recipes: dict[str, dict[str, Any]], arm: str) -> Iterator[str]:
    """Yield the arms that a blend is made of; an arm that is none yields itself."""
    blend = recipes[arm]["blend"]
    if blend is None:
        yield arm
    for name in blend or ():
        yield from _fitted_arms(recipes, name)


def _known(experiment: Experiment, panel: EraPanel) -> NDArray[np.bool_]:
    main = experiment["targets"]["main"]
    known: NDArray[np.bool_] = ~np.isnan(panel.y(main))
    if not known.any():
        raise ValueError(
            f"{main} is known for no row of the data, so there is nothing to fit to. "
            "Choose another target, or files of resolved eras."
        )
    return known


def _benchmark(
    experiment: Experiment, panel: EraPanel, arms: list[str], known: Any
) -> NDArray[np.float64] | None:
    """Return the benchmark's predictions of the rows if an arm needs it."""
    tables, recipes = experiment.tables, experiment.recipes
    if not any(reads_benchmark(tables, arm, recipes[arm]) for arm in arms):
        return None
    values = read_for_rows(experiment["data"], "benchmark", panel.ids)
    for arm in arms:
        paths = trained_with_benchmark(tables, arm, recipes[arm])
        if paths and np.isnan(values[known]).all():
            raise ValueError(
                f"{'.'.join(paths[0])}: data.benchmark covers none of the training "
                "rows. Use files of the same release, with the same eras."
            )
    return values


def _tell_work(
    panel: EraPanel, known: NDArray[np.bool_], arms: list[str], n_seeds: int
) -> None:
    eras = np.unique(panel.eras[known])
    first, last = era_label(int(eras[0])), era_label(int(eras[-1]))
    seeds = f", {n_seeds} seeds" if n_seeds > 1 else ""
    tqdm.write(
        f"{panel}\n{', '.join(arms)}{seeds}, on {known.sum():,} rows with a known "
        f"target in {len(eras)} eras, {first} to {last}."
    )


def _fit_part(fits: FoldFits, arm: str, tell: Any) -> Node:
    try:
        return arm_node(fits.fit(arm, width=0, tell=tell), fits)
    except ValueError as error:
        raise ValueError(f"{arm}: {error}") from error


def _write_model(
    experiment: Experiment,
    panel: EraPanel,
    known: NDArray[np.bool_],
    store: FitStore,
    n_seeds: int,
) -> None:
    recipes = experiment.recipes

    def of(arm: str, seed: int) -> Node:
        blend = recipes[arm]["blend"]
        if blend is None:
            return store[arm, seed]  # type: ignore[no-any-return]
        return blend_node([of(name, seed) for name in blend], list(blend.values()))

    seeds = [of(store.arm, seed) for seed in range(n_seeds)]
    node = filled(blend_node(seeds, [1.0] * n_seeds), panel.n_features)
    column = experiment["data"]["benchmark_column"] if uses_benchmark(node) else None
    model = assembled(node, panel.feature_names, benchmark=column)
    tree = {
        "model": model,
        "training": training_data(panel, known),
        "known": _features_of(experiment, panel),
    }
    eras = np.unique(panel.eras[known])
    record = {
        "experiment": experiment.name,
        "arm": store.arm,
        "seeds": n_seeds,
        "targets": _targets(experiment, store.arm),
        "n_features": panel.n_features,
        "n_rows": int(known.sum()),
        "n_eras": len(eras),
        "first_era": era_label(int(eras[0])),
        "last_era": era_label(int(eras[-1])),
        "purge": experiment["cv"]["purge"],
        "weights": list(experiment["report"]["weights"]),
        "benchmark": column,
        "files": [Path(file).name for file in experiment["data"]["files"] or ()],
        "version": _version(experiment),
        "versions": store.about["versions"],
    }
    store.write_model(record, tree)


def _targets(experiment: Experiment, arm: str) -> list[str]:
    """Return the targets that an arm is trained on; the scored one is the first."""
    main = experiment["targets"]["main"]
    recipes = experiment.recipes
    own = [recipes[name]["target"] or [] for name in _fitted_arms(recipes, arm)]
    return list(dict.fromkeys([main, *(name for names in own for name in names)]))


def _version(experiment: Experiment) -> str | None:
    """Return the version of Numerai's data, such as "v5.3", by the files' folder."""
    for file in experiment["data"]["files"] or ():
        for name in reversed(Path(file).parts):
            if _VERSION.fullmatch(name):
                return name
    return None


def _features_of(experiment: Experiment, panel: EraPanel) -> list[str]:
    """Return all features of the files, also those that the model does not use."""
    from numerai_features.datasets._parquet_names import read_columns

    files = experiment["data"]["files"] or ()
    names = features_of(n for file in files for n in read_columns(Path(file)))
    return list(dict.fromkeys([*panel.feature_names, *names]))
