"""The arms of an experiment: their names, checks and estimators.

``[latents.NAME]`` and ``[models.NAME]`` hold the name of a class and its parameters.
Reading an experiment fills in all missing parameters. So the stored arm has everything
that its results depend on, even if a later version changes defaults.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from numerai_features.experiment._schema import KeyPath, Problems, got, unknown
from numerai_features.experiment._trust import untrusted_parameters

ORIGINALS = "originals"
RANDOM = "random"

_NAME = re.compile(r"[A-Za-z0-9_-]+")
# The tables of the arms, and the key that names an arm's class.
_CLASS_KEYS = {"latents": "embedder", "models": "model"}

Arm = dict[str, Any]


def embedders_of(tables: dict[str, Any]) -> dict[str, Arm]:
    """Return the arms that add latents to the originals, by name."""
    latents = tables["latents"]
    return {name: arm for name, arm in latents.items() if isinstance(arm, dict)}


def models_of(tables: dict[str, Any]) -> dict[str, Arm]:
    """Return the arms that are complete models, by name."""
    return dict(tables["models"])


def labels_of(tables: dict[str, Any]) -> dict[str, str]:
    """Return the names of all arms, mapped to their labels in results."""
    embedders = embedders_of(tables)
    labels = {ORIGINALS: ORIGINALS} | {name: f"+ {name}" for name in embedders}
    if embedders and tables["latents"]["random_columns"]:
        labels[RANDOM] = f"+ {RANDOM}"
    return labels | {name: name for name in models_of(tables)}


def make_estimator(arm: Arm) -> Any:
    """Return the unfitted embedder, or the model, of an arm."""
    from numerai_features import embedders

    parameters = dict(arm)
    [chosen] = [parameters.pop(key) for key in _CLASS_KEYS.values() if key in arm]
    return getattr(embedders, chosen)(**parameters)


def check_devices(tables: dict[str, Any]) -> None:
    """Raise if an arm's network needs a device that this machine does not have."""
    for arm in (embedders_of(tables) | models_of(tables)).values():
        estimator = make_estimator(arm)
        if hasattr(estimator, "_check_device"):
            estimator._check_device()


def resolve_arms(
    tables: dict[str, Any],
    problems: Problems,
    *,
    n_features: int | None,
    trusted: bool,
) -> None:
    """Check all arms, and fill in all parameters of their classes.

    Parameters
    ----------
    tables : dict
        The tables of an experiment, checked by `validate`; arms are replaced.
    problems : list of (path, message)
        New problems are appended.
    n_features : int or None
        Number of features; None if it is unknown.
    trusted : bool
        Whether arms may write files to paths of their choice.
    """
    for table, key in _CLASS_KEYS.items():
        taken = tables["latents"] if table == "models" else ()
        for name, arm in tables[table].items():
            if not isinstance(arm, dict):
                continue  # an option of the table, not an arm
            if message := _name_problem(name, taken):
                problems.append(((table, name), message))
            path = (table, name)
            for parameter, message in () if trusted else untrusted_parameters(arm):
                problems.append(((*path, parameter), message))
            n_before = len(problems)
            arm = _resolve_arm(arm, key, tables["seed"], problems, path)
            tables[table][name] = arm
            if len(problems) == n_before and n_features is not None:
                problems.extend(_misfits(arm, n_features, path))


def _name_problem(name: str, taken: Any) -> str | None:
    if not _NAME.fullmatch(name) or name in (ORIGINALS, RANDOM):
        return (
            'an arm\'s name must be made of letters, digits, "-" and "_", and not be '
            f'"{ORIGINALS}" or "{RANDOM}".'
        )
    if name in taken:
        return f"there is a [latents.{name}] already; choose another name."
    return None


def _resolve_arm(
    arm: Arm, key: str, seed: int, problems: Problems, path: KeyPath
) -> Arm:
    """Return an arm with all parameters of its class; unchanged if it has no class."""
    from numerai_features import embedders

    chosen, verb = arm.get(key), "predict" if key == "model" else "transform"
    allowed = [n for n in embedders.__all__ if hasattr(getattr(embedders, n), verb)]
    if not isinstance(chosen, str) or chosen not in allowed:
        if chosen is None:
            message = f"is required. Allowed: {', '.join(allowed)}."
        else:
            message = f"got {got(chosen)}; " + unknown(key, str(chosen), allowed)
        problems.append(((*path, key), message))
        return arm
    cls = getattr(embedders, chosen)
    signature = inspect.signature(cls).parameters
    defaults = {name: parameter.default for name, parameter in signature.items()}
    given = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in arm.items()
        if name != key
    }
    if "random_state" in defaults:
        defaults["random_state"] = seed
    for name, message in _parameter_problems(cls, given, defaults):
        problems.append(((*path, name), message))
    # TOML has no None. It is not needed: a parameter that is None here has the default
    # None.
    filled = {k: v for k, v in (defaults | given).items() if v is not None}
    return {key: chosen, **filled}


def _misfits(arm: Arm, n_features: int, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """Yield problems of an arm's parameters with each other and with `n_features`."""
    try:
        make_estimator(arm)._check_parameters(n_features, 1)
    except ValueError as error:
        message = str(error)
        named = [name for name in arm if message.startswith((f"{name}=", f"{name} "))]
        yield (*path, *named), message


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
        try:
            cls(**{name: value})._validate_params()
        except ValueError as error:
            yield name, str(error)
