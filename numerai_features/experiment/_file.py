"""An experiment's tables, from a file or a mapping: all checked, all problems told."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from numerai_features.experiment._arms import resolve_arms
from numerai_features.experiment._resolve import check_tables, resolve_tables
from numerai_features.experiment._schema import EXPERIMENT, Problems, validate
from numerai_features.experiment._toml import find_lines, line_of, syntax_error

_TOO_DEEP = "lists or tables stand in each other too deeply to be read."


class ExperimentError(ValueError):
    """An experiment is wrong, or its output folder is taken by another one."""


def read_toml(file: Path) -> tuple[dict[str, Any], str]:
    """Return what a TOML file holds, and its text.

    Raises
    ------
    ExperimentError
        If it cannot be read, or is not valid TOML.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # of text, or of a path that has a NUL
        reason = getattr(error, "strerror", None) or error
        raise ExperimentError(f"{file} cannot be read: {reason}.") from error
    try:
        return tomllib.loads(text), text
    except ValueError as error:  # also of a number with thousands of digits
        raise ExperimentError(f"{file}: {syntax_error(error)}") from error
    except RecursionError as error:
        raise ExperimentError(f"{file}: {_TOO_DEEP}") from error


def as_toml_has_it(value: Any) -> Any:
    """Return a value of Python's in the types that TOML has, as far as there are any.

    Examples
    --------
    >>> as_toml_has_it({"hidden": (8, 4), "files": [Path("a.parquet")]})
    {'hidden': [8, 4], 'files': ['a.parquet']}
    """
    try:
        return _as_toml_has_it(value)
    except RecursionError as error:
        raise ExperimentError(f"mapping: {_TOO_DEEP}") from error


def as_path(value: Any, argument: str) -> Path:
    """Return a path that the caller gave.

    Raises
    ------
    TypeError
        If it is none.
    ExperimentError
        If it is empty.
    """
    if not isinstance(value, str | os.PathLike):
        raise TypeError(
            f"{argument} must be a path; got {value!r}, a {type(value).__name__}."
        )
    if not os.fspath(value):
        raise ExperimentError(f'{argument} must be a path; got "", which is empty.')
    return Path(value)


def check_boolean(value: Any, argument: str) -> None:
    """Raise `TypeError` if a switch is anything but True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{argument} must be True or False; got {value!r}.")


def _as_toml_has_it(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _as_toml_has_it(inner) for name, inner in value.items()}
    if hasattr(value, "tolist"):  # arrays, columns of frames, and numpy's numbers
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_as_toml_has_it(item) for item in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def check_and_resolve(
    given: dict[str, Any],
    *,
    told_as: str,
    name: str,
    base: Path,
    output: str | os.PathLike[str] | None,
    trusted: bool,
    text: str = "",
) -> dict[str, Any]:
    """Check the tables of an experiment, and fill in every default.

    Parameters
    ----------
    given : dict
        What the user wrote.
    told_as : str
        What messages call the experiment.
    name : str
        Its name, which the default output folder has.
    base : pathlib.Path
        Absolute; what paths of data are relative to.
    output : path or None
        Overrides ``output.folder``.
    trusted : bool
        Whether it may say what reaches files elsewhere, and other machines.
    text : str, default=""
        The text of the file, by which problems are told with their lines.

    Returns
    -------
    dict
        The resolved tables; no part of them is the caller's or the schema's.

    Raises
    ------
    ExperimentError
        If anything is wrong; all problems are told at once.
    """
    problems: Problems = []
    tables = deepcopy(validate(EXPERIMENT, given, problems))
    check_tables(tables, base, problems, trusted=trusted)
    resolve_arms(tables, problems, trusted=trusted)
    if problems:
        raise ExperimentError(_message(told_as, problems, text))
    resolve_tables(tables, name, base, output)
    return tables


def _message(told_as: str, problems: Problems, text: str) -> str:
    """Tell all problems in the order of their lines."""
    lines = find_lines(text)
    told = []
    for path, message in problems:
        line = line_of(path, lines)
        place = "" if line is None else f"line {line}: "
        told.append((line or 0, f"  {place}{'.'.join(path)}: {message}"))
    count = "1 problem" if len(told) == 1 else f"{len(told)} problems"
    return "\n".join([f"{told_as}: {count}", *(text for _, text in sorted(told))])
