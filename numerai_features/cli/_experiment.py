"""Read an experiment file: check all of it, and fill in every default."""

from __future__ import annotations

import inspect
import json
import os
import re
import tomllib
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numerai_features.cli._schema import (
    EXPERIMENT,
    Problems,
    got,
    neutral_paths,
    unknown,
    validate,
)
from numerai_features.cli._toml import find_lines, line_of, syntax_error, write_toml

ORIGINALS = "originals"
RANDOM = "random"

_ARM_NAME = re.compile(r"[A-Za-z0-9_-]+")
_ARM_TABLES = (("latents", "embedder"), ("models", "model"))
_CLASS_KEYS = tuple(key for _, key in _ARM_TABLES)
_MODEL_KEYS = {
    "n_jobs": "model.n_jobs",
    "device": "model.device",
    "random_state": "seed",
}


class ExperimentError(Exception):
    """An experiment file is wrong, or its output folder is taken by another one."""


@dataclass(frozen=True)
class Experiment:
    """An experiment with all defaults filled in.

    Attributes
    ----------
    file : pathlib.Path
        Where it was read from.
    tables : dict
        The resolved tables: paths are absolute, the purge a number.
    """

    file: Path
    tables: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.tables[name]

    @property
    def folder(self) -> Path:
        """Where results go."""
        return Path(self.tables["output"]["folder"])

    @property
    def embedders(self) -> dict[str, dict[str, Any]]:
        """The latent arms: their names, and what makes their embedders."""
        latents = self.tables["latents"]
        return {name: arm for name, arm in latents.items() if isinstance(arm, dict)}

    @property
    def models(self) -> dict[str, dict[str, Any]]:
        """The arms that are models of their own: names, and what makes them."""
        models: dict[str, dict[str, Any]] = self.tables["models"]
        return models

    @property
    def arms(self) -> dict[str, str]:
        """Names of all arms, and how they are written in results."""
        arms = {ORIGINALS: ORIGINALS} | {name: f"+ {name}" for name in self.embedders}
        if self.embedders and self.tables["latents"]["random_columns"]:
            arms[RANDOM] = f"+ {RANDOM}"
        return arms | {name: name for name in self.models}

    def to_toml(self) -> str:
        """Write it as a file that resolves to the same experiment."""
        return write_toml(self.tables)

    def identity(self) -> dict[str, Any]:
        """Return all that results depend on, as JSON has it."""
        tables = deepcopy(self.tables)
        for *path, name in neutral_paths(EXPERIMENT):
            table = tables
            for key in path:
                table = table.get(key, {})
            table.pop(name, None)
        identity: dict[str, Any] = json.loads(json.dumps(tables))
        return identity


def make_embedder(arm: dict[str, Any]) -> Any:
    """Return the unfitted embedder, or the model, of an arm."""
    from numerai_features import embedders

    parameters = dict(arm)
    [chosen] = [parameters.pop(key) for key in _CLASS_KEYS if key in arm]
    return getattr(embedders, chosen)(**parameters)


def read_experiment(
    file: str | os.PathLike[str], *, output: str | os.PathLike[str] | None = None
) -> Experiment:
    """Read, check and resolve an experiment file.

    Parameters
    ----------
    file : path
        A TOML file; ``numerai-features run --help`` lists what it may hold.
    output : path, default=None
        Overrides the file's ``output.folder``.

    Returns
    -------
    Experiment

    Raises
    ------
    ExperimentError
        If anything is wrong with it; all problems are told at once.
    """
    file = Path(file)
    text = _read_text(file)
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ExperimentError(f"{file}: {syntax_error(error)}") from error
    problems: Problems = []
    tables = validate(EXPERIMENT, given, problems)
    _check_data(tables, file, problems)
    _check_folds(tables, problems)
    _check_model(tables["model"]["params"], problems)
    _resolve_arms(tables, problems)
    if problems:
        raise ExperimentError(_message(file, problems, text))
    _resolve(tables, file, output)
    return Experiment(file, tables)


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ExperimentError(f"{file} cannot be read: {reason}.") from error


def _message(file: Path, problems: Problems, text: str) -> str:
    """Tell all problems in the order of their lines."""
    lines = find_lines(text)
    told = []
    for path, message in problems:
        line = line_of(path, lines)
        place = "" if line is None else f"line {line}: "
        told.append((line or 0, f"  {place}{'.'.join(path)}: {message}"))
    count = "1 problem" if len(told) == 1 else f"{len(told)} problems"
    return "\n".join([f"{file}: {count}", *(text for _, text in sorted(told))])


def _check_data(tables: dict[str, Any], file: Path, problems: Problems) -> None:
    data, chosen = tables["data"], tables["features"]["set"]
    if (data["files"] is None) == ("synthetic" not in data):
        came = "neither" if data["files"] is None else "both"
        message = f"expected either files = [...] or [data.synthetic]; got {came}."
        problems.append((("data",), message))
    elif data["files"] is not None:
        for name in [*data["files"], *filter(None, [data["metadata"]])]:
            if not (file.parent / name).is_file():
                where = "files" if name in data["files"] else "metadata"
                message = f"there is no file {(file.parent / name).absolute()}."
                problems.append((("data", where), message))
        if tables["targets"]["main"] is None:
            message = 'is required with data.files, as in main = "target_ender_60".'
            problems.append((("targets", "main"), message))
    else:
        if data["metadata"] is not None:
            message = "goes with data.files; synthetic data have none."
            problems.append((("data", "metadata"), message))
        if isinstance(chosen, str) and chosen != "all":
            message = f'got {got(chosen)}; expected "all" or names with synthetic data.'
            problems.append((("features", "set"), message))


def _check_folds(tables: dict[str, Any], problems: Problems) -> None:
    cv = tables["cv"]
    if cv["scheme"] == "k-fold":
        for name in ("test_eras", "max_train_eras"):
            if cv[name] is not None:
                message = 'goes with scheme = "walk-forward"; got scheme = "k-fold".'
                problems.append((("cv", name), message))
        if cv["n_splits"] < 2:
            message = f"got {cv['n_splits']}; expected a whole number >= 2 for k-fold."
            problems.append((("cv", "n_splits"), message))


def _check_model(params: dict[str, Any], problems: Problems) -> None:
    for name, value in params.items():
        if name in _MODEL_KEYS:
            message = f"is set elsewhere: use {_MODEL_KEYS[name]}."
            problems.append((("model", "params", name), message))
        elif not isinstance(value, bool | int | float | str | list):
            message = f"got {got(value)}; expected a number, string, boolean or list."
            problems.append((("model", "params", name), message))


def _resolve_arms(tables: dict[str, Any], problems: Problems) -> None:
    """Check the arms; put all parameters of their estimators in."""
    for (table, key), taken in zip(_ARM_TABLES, ((), tables["latents"]), strict=True):
        for name, arm in tables[table].items():
            if not isinstance(arm, dict):
                continue
            path = (table, name)
            if not _ARM_NAME.fullmatch(name) or name in (ORIGINALS, RANDOM):
                message = (
                    'an arm\'s name must be made of letters, digits, "-" and "_", and '
                    f'not be "{ORIGINALS}" or "{RANDOM}".'
                )
                problems.append((path, message))
            elif name in taken:
                message = f"there is a [latents.{name}] already; choose another name."
                problems.append((path, message))
            resolved = _resolve_arm(arm, key, tables["seed"], problems, path)
            tables[table][name] = resolved


def _resolve_arm(
    arm: dict[str, Any], key: str, seed: int, problems: Problems, path: tuple[str, ...]
) -> dict[str, Any]:
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
        name: tuple(value) if isinstance(defaults.get(name), tuple) else value
        for name, value in arm.items()
        if name != key
    }
    for name, message in _parameter_problems(cls, given, list(defaults)):
        problems.append(((*path, name), message))
    if "random_state" in defaults:
        defaults["random_state"] = seed
    filled = {k: v for k, v in (defaults | given).items() if v is not None}
    return {key: chosen, **filled}


def _parameter_problems(
    cls: type, given: dict[str, Any], known: list[str]
) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with an embedder's parameters, each looked at alone."""
    for name, value in given.items():
        if name not in known:
            yield name, unknown(f"parameter of {cls.__name__}", name, known)
            continue
        try:
            cls(**{name: value})._validate_params()
        except ValueError as error:
            yield name, str(error)


def _resolve(
    tables: dict[str, Any], file: Path, output: str | os.PathLike[str] | None
) -> None:
    """Fill in the defaults that depend on other fields, and make paths absolute."""
    from numerai_features._horizon import purge_of_targets

    place = file.absolute().parent
    data, cv = tables["data"], tables["cv"]
    folder = output or tables["output"]["folder"] or Path("runs") / file.stem
    tables["output"]["folder"] = os.path.abspath(folder)
    if data["files"] is not None:
        data["files"] = [os.path.abspath(place / name) for name in data["files"]]
        data["metadata"] = _metadata(data, tables["features"]["set"], place)
    else:
        _resolve_synthetic(data["synthetic"], tables)
    panel = place / data["panel"] if data["panel"] else Path(folder) / "panel"
    data["panel"] = os.path.abspath(panel)
    if cv["purge"] == "auto":
        cv["purge"] = purge_of_targets([tables["targets"]["main"]])


def _metadata(data: dict[str, Any], chosen: Any, place: Path) -> str | None:
    """Return features.json's path; None if it is neither there nor needed."""
    if data["metadata"] is not None:
        return os.path.abspath(place / str(data["metadata"]))
    beside = Path(data["files"][0]).parent / "features.json"
    return str(beside) if isinstance(chosen, str) or beside.exists() else None


def _resolve_synthetic(synthetic: dict[str, Any], tables: dict[str, Any]) -> None:
    from numerai_features.datasets._synthetic import target_horizons

    if synthetic["random_state"] is None:
        synthetic["random_state"] = tables["seed"]
    if tables["targets"]["main"] is None:
        names = target_horizons(synthetic["n_targets"], synthetic["horizon"])
        tables["targets"]["main"] = next(iter(names))
