"""The parts of an experiment's arms: their checks, parameters and estimators.

``[latents.NAME]``, ``[augment.NAME]`` and ``[models.NAME]`` hold the name of a class
and its parameters. Reading an experiment fills in all missing parameters. So a stored
part has everything that its results depend on, even if a later version changes
defaults.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from numerai_features.experiment._columns import Columns, targets_of
from numerai_features.experiment._model import check_model, make_trees, resolve_trees
from numerai_features.experiment._schema import (
    KeyPath,
    Problems,
    got,
    unknown,
    validate,
)
from numerai_features.experiment._tables import LATENTS_OPTIONS
from numerai_features.experiment._trust import untrusted_parameters

RANDOM = "random"
PCA = "pca"
MADE = (PCA, RANDOM)
"""Latents without a table, as many as the largest number of latents of any arm."""

CLASS_KEYS = {"latents": "embedder", "augment": "augmenter", "models": "model"}
"""The tables of the parts, and the key that names a part's class."""

TREES = ("LightGBM", "XGBoost")
_RIDGE = "Ridge"
_BOOSTED = "EraBoostedRegressor"
INNER = {_BOOSTED: ("regressor", "models"), "DreamAugmenter": ("embedder", "latents")}
"""Classes around another part: the parameter that names it, and its table."""

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_LONGEST_NAME = 200  # a file of each fit has it in its name

Part = dict[str, Any]


def parts_of(tables: dict[str, Any], table: str) -> dict[str, Part]:
    """Return the parts of a table by name, without the options of the table."""
    return {name: p for name, p in tables[table].items() if isinstance(p, dict)}


def make_part(part: Part, tables: dict[str, Any], seed: int = 0) -> Any:
    """Return the unfitted estimator of a part.

    Parameters
    ----------
    part : dict
        One of `parts_of`.
    tables : dict
        The tables of the experiment.
    seed : int, default=0
        Is added to the seeds of the estimator.
    """
    key = next(key for key in ("augmenter", "model", "embedder") if key in part)
    parameters = {k: v for k, v in part.items() if k not in LATENTS_OPTIONS.fields}
    chosen = parameters.pop(key)
    if "random_state" in parameters:
        parameters["random_state"] += seed
    if chosen in TREES:
        return make_trees(chosen.lower(), parameters, tables["seed"] + seed)
    if chosen in INNER:
        inner, table = INNER[chosen]
        name = parameters.get(inner)
        parameters[inner] = (
            make_model(tables, name, seed)
            if table == "models"
            else make_part(tables[table][name], tables, seed)
        )
    return _classes(key)[chosen](**parameters)


def make_model(tables: dict[str, Any], name: str | None, seed: int = 0) -> Any:
    """Return an unfitted model: of ``[models.NAME]``; of ``[model]`` without a name."""
    if name is not None:
        return make_part(tables["models"][name], tables, seed)
    return make_trees(
        tables["model"]["library"], tables["model"], tables["seed"] + seed
    )


def library_of(tables: dict[str, Any], name: str | None) -> str | None:
    """Return the tree library of a model, or None if it is no tree library's."""
    if name is None:
        return str(tables["model"]["library"])
    chosen = tables["models"][name]["model"]
    return chosen.lower() if chosen in TREES else None


def check_devices(tables: dict[str, Any]) -> None:
    """Raise if a model is wrong, or needs a device that this machine does not have."""
    make_model(tables, None)
    for table in CLASS_KEYS:
        for part in parts_of(tables, table).values():
            estimator = make_part(part, tables)
            if hasattr(estimator, "_check_device"):
                estimator._check_device()


def takes_several(part: Part) -> bool:
    """Whether an embedder learns from several targets."""
    known = _defaults(_classes("embedder")[part["embedder"]])
    return "target_weights" in known or bool(part.get("target_aware"))


def fitted_on_all(tables: dict[str, Any], named: set[str]) -> list[str]:
    """Return a note for each of the named embedders that is fitted to test rows."""
    return [
        f'latents.{name}: fit_on = "all" fits it to all rows, also test rows, without '
        "targets. Scores of its arms are valid only if live rows are fitted in the "
        "same way."
        for name, part in parts_of(tables, "latents").items()
        if part["fit_on"] == "all" and name in named
    ]


def resolve_parts(
    tables: dict[str, Any],
    problems: Problems,
    *,
    columns: Columns | None,
    trusted: bool,
) -> None:
    """Check all parts, and fill in all parameters of their classes.

    Parameters
    ----------
    tables : dict
        The tables of an experiment, checked by `validate`; parts are replaced.
    problems : list of (path, message)
        New problems are appended.
    columns : Columns or None
        The features and targets of the data; None if they are unknown.
    trusted : bool
        Whether parts may write files to paths of their choice.
    """
    wrong: set[KeyPath] = set()
    for table in CLASS_KEYS:
        for name, part in parts_of(tables, table).items():
            path, n_before = (table, name), len(problems)
            if message := name_problem(name, MADE if table == "latents" else ()):
                problems.append((path, message))
            for parameter, message in () if trusted else untrusted_parameters(part):
                problems.append(((*path, parameter), message))
            tables[table][name] = _resolve_part(
                part, table, tables, problems, path, trusted
            )
            if len(problems) > n_before:
                wrong.add(path)
    if any(path[0] == "model" for path, _ in problems):
        wrong.add(("model",))
    # Parts that name others are checked once all parts are resolved.
    for table in CLASS_KEYS:
        for name, part in parts_of(tables, table).items():
            path, n_before = (table, name), len(problems)
            if path in wrong:
                continue
            if table == "latents":
                _check_latents(part, tables, columns, problems, path)
            if part[CLASS_KEYS[table]] in INNER:
                _check_inner(part[CLASS_KEYS[table]], part, tables, problems, path)
            if len(problems) > n_before or _inner_path(part) in wrong:
                wrong.add(path)
            elif columns is not None:
                problems.extend(_misfits(part, tables, columns, path))


def _inner_path(part: Part) -> KeyPath | None:
    """Return the path of the part that a part contains, or None."""
    chosen = part.get("model", part.get("augmenter"))
    if chosen not in INNER:
        return None
    key, table = INNER[chosen]
    return ("model",) if part.get(key) is None else (table, part[key])


def name_problem(name: str, reserved: tuple[str, ...]) -> str | None:
    """Return the problem of the name of a part or an arm, or None."""
    if not _NAME.fullmatch(name) or name.isdigit() or len(name) > _LONGEST_NAME:
        return (
            'a name must be made of letters, digits, "-" and "_", with at most '
            f"{_LONGEST_NAME} characters, not only digits."
        )
    if name in reserved:
        return f"the name {got(name)} is taken; choose another one."
    return None


def _classes(key: str) -> dict[str, Any]:
    """Return the classes that a key can name; of a tree library, None."""
    from numerai_features import augmenters, embedders

    if key == "augmenter":
        named = {name: getattr(augmenters, name) for name in augmenters.__all__}
        return {
            name: cls
            for name, cls in named.items()
            if hasattr(cls, "fit_resample")
            and "augmenters" not in _defaults(cls)  # arms name several
        }
    verb = "predict" if key == "model" else "transform"
    named = {name: getattr(embedders, name) for name in embedders.__all__}
    found = {name: cls for name, cls in named.items() if hasattr(cls, verb)}
    if key == "model":
        from sklearn.linear_model import Ridge

        from numerai_features.compose import EraBoostedRegressor

        found |= {_RIDGE: Ridge, _BOOSTED: EraBoostedRegressor}
    return found


def _defaults(cls: Any) -> dict[str, Any]:
    signature = inspect.signature(cls).parameters
    return {name: parameter.default for name, parameter in signature.items()}


def _resolve_part(
    part: Part,
    table: str,
    tables: dict[str, Any],
    problems: Problems,
    path: KeyPath,
    trusted: bool,
) -> Part:
    """Return a part with all parameters of its class; unchanged if it has no class."""
    key = CLASS_KEYS[table]
    chosen, classes = part.get(key), _classes(key)
    allowed = [*(TREES if table == "models" else ()), *classes]
    if not isinstance(chosen, str) or chosen not in allowed:
        if chosen is None:
            message = f"is required. Allowed: {', '.join(allowed)}."
        else:
            message = f"got {got(chosen)}; " + unknown(key, str(chosen), allowed)
        problems.append(((*path, key), message))
        return part
    given = {name: value for name, value in part.items() if name != key}
    if chosen in TREES:
        n_before = len(problems)
        trees = resolve_trees(chosen.lower(), given, problems, path)
        if len(problems) == n_before:
            check_model(trees, problems, trusted=trusted, path=path)
        return {key: chosen, **{k: v for k, v in trees.items() if k != "library"}}
    options = {}
    if table == "latents":
        own = {k: given.pop(k) for k in LATENTS_OPTIONS.fields if k in given}
        options = validate(LATENTS_OPTIONS, own, problems, path)
        options = {k: v for k, v in options.items() if v is not None}
    cls = classes[chosen]
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    defaults = _defaults(cls)
    if "random_state" in defaults:
        defaults["random_state"] = tables["seed"]
    known = dict(defaults)
    if chosen in INNER:
        known[INNER[chosen][0]] = None
        defaults.pop(INNER[chosen][0])
    for name, message in _parameter_problems(cls, given, known):
        problems.append(((*path, name), message))
    # TOML has no None. It is not needed: a parameter that is None here has the default
    # None.
    filled = {k: v for k, v in (defaults | given).items() if v is not None}
    if table == "models" and filled.get("objective") == "cells":
        message = 'got "cells", which predicts nothing. Use "targets" or "both".'
        problems.append(((*path, "objective"), message))
    return {key: chosen, **options, **filled}


def _check_inner(
    chosen: str, given: Part, tables: dict[str, Any], problems: Problems, path: KeyPath
) -> None:
    """Check the part that a part of a class of `INNER` names."""
    key, table = INNER[chosen]
    name, parts = given.get(key), parts_of(tables, table)
    if table == "models":
        there = _tree_models(tables)
        needed = f"a [models] table with model = {got(TREES[0])} or {got(TREES[1])}"
    else:
        classes, plain = _classes("embedder"), {"fit_on": "train"}
        there = [
            n
            for n, part in parts.items()
            if hasattr(classes.get(str(part.get("embedder"))), "_check_device")
            and _options(part) in ({}, plain)
        ]
        needed = "a [latents] table whose embedder is a network, with all features and "
        needed += 'fit_on = "train"'
    if name in there or (name is None and table == "models"):
        return
    message = f"must be the name of {needed}; "
    message += "it is missing. " if name is None else f"got {got(name)}. "
    if name is not None:
        message += unknown(f"[{table}] table", str(name), there)
    problems.append(((*path, key), message))


def _tree_models(tables: dict[str, Any]) -> list[str]:
    """Return the names of the ``[models]`` tables with trees."""
    models = parts_of(tables, "models").items()
    return [name for name, part in models if part.get("model") in TREES]


def _options(part: Part) -> dict[str, Any]:
    """Return the keys of a latents table that are not its embedder's parameters."""
    return {k: v for k, v in part.items() if k in LATENTS_OPTIONS.fields}


def _check_latents(
    part: Part,
    tables: dict[str, Any],
    columns: Columns | None,
    problems: Problems,
    path: KeyPath,
) -> None:
    """Check which features an embedder gets, and which rows."""
    if columns is not None and "features" in part:
        columns.tell(part["features"], problems, (*path, "features"))
    n_features = None if columns is None else columns.count(part.get("features"))
    select, where = part.get("select"), (*path, "select")
    _check_select(select, n_features, tables, problems, where)
    if part.get("fit_on") == "all" and _needs_targets(part, tables):
        message = (
            f'got "all"; {part["embedder"]} learns from targets, which would be those '
            'of test rows. Use fit_on = "train".'
        )
        problems.append(((*path, "fit_on"), message))


def _needs_targets(part: Part, tables: dict[str, Any]) -> bool:
    from sklearn.utils import get_tags

    required = get_tags(make_part(part, tables)).target_tags.required
    return bool(required or part.get("target_weight"))  # UMAPEmbedder's


def _check_select(
    select: Any,
    n_features: int | None,
    tables: dict[str, Any],
    problems: Problems,
    path: KeyPath,
) -> None:
    if select is None:
        return
    by_importance, by_correlation = {"model", "n"}, {"max_correlation"}
    keys = set(select)
    if not keys or not (keys <= by_importance or keys <= by_correlation):
        message = "expected {n = 100}, with or without model = NAME, or "
        message += "{max_correlation = 0.95}; got the keys "
        problems.append((path, f"{message}{', '.join(sorted(keys)) or 'none'}."))
        return
    if keys == by_correlation:
        value = select["max_correlation"]
        if type(value) not in (int, float) or not 0 < value < 1:
            message = f"got {got(value)}; expected a number between 0 and 1."
            problems.append(((*path, "max_correlation"), message))
        return
    n, model = select.get("n"), select.get("model")
    most = float("inf") if n_features is None else n_features
    if type(n) is not int or not 1 <= n <= most:
        limit = "" if n_features is None else f" and <= {n_features}, the features"
        message = f"got {got(n)}; expected a whole number >= 1{limit}."
        problems.append(((*path, "n"), message))
    trees = _tree_models(tables)
    if model is not None and model not in trees:
        message = "must be the name of a [models] table with trees, or be left out "
        message += f"for [model]; got {got(model)}. "
        message += unknown("model", str(model), trees)
        problems.append(((*path, "model"), message))


def _misfits(
    part: Part, tables: dict[str, Any], columns: Columns, path: KeyPath
) -> Iterator[tuple[KeyPath, str]]:
    """Yield problems of parameters with each other and with the number of features."""
    n_features = columns.count(part.get("features"))
    if "n" in (select := part.get("select", {})):
        n_features = min(n_features, select["n"])
    try:
        estimator = make_part(part, tables)
        if hasattr(estimator, "_check_parameters"):
            for n_targets in _numbers_of_targets(tables, *path):
                estimator._check_parameters(n_features, n_targets)
    except ValueError as error:
        message = str(error)
        named = [name for name in part if message.startswith((f"{name}=", f"{name} "))]
        yield (*path, *named), message


def _numbers_of_targets(tables: dict[str, Any], table: str, name: str) -> list[int]:
    """Return how many targets a part learns from; a model has those of its arms."""
    if table != "models":
        part = tables[table][name]
        return [len(targets_of(tables)) if takes_several(part) else 1]
    arms = [arm for arm in tables["arms"].values() if isinstance(arm, dict)]
    named = [arm.get("target") for arm in arms if arm.get("model") == name]
    counts = {len(target) if isinstance(target, list) else 1 for target in named}
    return sorted(counts or {1})


def _parameter_problems(
    cls: type, given: dict[str, Any], defaults: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    """Yield the problems of an estimator's parameters, each checked alone."""
    for name, value in given.items():
        if name not in defaults:
            yield name, unknown(f"parameter of {cls.__name__}", name, defaults)
            continue
        default = defaults[name]
        if value is None and default is not None:
            message = "got None, which a TOML file cannot hold; leave it out for "
            yield name, f"{message}the default, {got(default)}."
            continue
        if name in dict(INNER.values()):
            continue
        try:
            _with(cls, {name: value})._validate_params()
        except ValueError as error:
            yield name, str(error)


def _with(cls: type, parameters: dict[str, Any]) -> Any:
    """Return an estimator with some parameters; one that it needs is made up."""
    if cls.__name__ in INNER:
        from sklearn.cross_decomposition import PLSRegression

        parameters = {INNER[cls.__name__][0]: PLSRegression(), **parameters}
    return cls(**parameters)
