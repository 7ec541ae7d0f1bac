"""Read an experiment's tables from a file or a mapping; report all problems at once."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from numerai_features.experiment._arms import resolve_arms
from numerai_features.experiment._parts import resolve_parts
from numerai_features.experiment._resolve import check_tables, resolve_tables
from numerai_features.experiment._schema import Problems, validate
from numerai_features.experiment._tables import EXPERIMENT
from numerai_features.experiment._toml import find_lines, line_of, syntax_error

_TOO_DEEP = "lists or tables are nested too deeply."


class ExperimentError(ValueError):
    """An experiment is invalid, or its output folder holds another experiment."""


def read_toml(file: Path) -> tuple[dict[str, Any], str]:
    """Return the contents of a TOML file, and its text.

    Raises
    ------
    ExperimentError
        If it cannot be read, or is not valid TOML.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise ExperimentError(f"{file} cannot be read: {reason}.") from error
    try:
        return tomllib.loads(text), text
    except ValueError as error:  # bad syntax, or a number with thousands of digits
        raise ExperimentError(f"{file}: {syntax_error(error)}") from error
    except RecursionError as error:
        raise ExperimentError(f"{file}: {_TOO_DEEP}") from error


def as_toml_has_it(value: Any) -> Any:
    """Convert a Python value to TOML's types; keep values that they cannot hold.

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
    """Return an argument as a path.

    Raises
    ------
    TypeError
        If it is not a path.
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
    """Raise `TypeError` if an argument is not True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{argument} must be True or False; got {value!r}.")


def _as_toml_has_it(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _as_toml_has_it(inner) for name, inner in value.items()}
    if hasattr(value, "tolist"):  # arrays, columns of frames, and NumPy numbers
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
        The tables as the user wrote them.
    told_as : str
        Name of the experiment in messages.
    name : str
        Name of the default output folder.
    base : pathlib.Path
        Absolute; paths of data are relative to it.
    output : path or None
        Overrides ``output.folder``.
    trusted : bool
        Whether the experiment may set parameters that reach other files or machines.
    text : str, default=""
        The text of the file, to find the lines of problems.

    Returns
    -------
    dict
        The resolved tables; they share no objects with the caller or the schema.

    Raises
    ------
    ExperimentError
        If the experiment is invalid; all problems are reported at once.
    """
    problems: Problems = []
    tables = deepcopy(validate(EXPERIMENT, given, problems))
    columns = check_tables(tables, base, problems, trusted=trusted)
    resolve_parts(tables, problems, columns=columns, trusted=trusted)
    resolve_arms(tables, problems, columns)
    if problems:
        raise ExperimentError(_message(told_as, problems, text))
    resolve_tables(tables, name, base, output)
    return tables


def _message(told_as: str, problems: Problems, text: str) -> str:
    """Return a message with all problems in the order of their lines."""
    lines = find_lines(text)
    told = []
    for path, message in problems:
        line = line_of(path, lines)
        place = "" if line is None else f"line {line}: "
        told.append((line or 0, f"  {place}{'.'.join(path)}: {message}"))
    count = "1 problem" if len(told) == 1 else f"{len(told)} problems"
    return "\n".join([f"{told_as}: {count}", *(text for _, text in sorted(told))])
