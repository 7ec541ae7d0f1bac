"""The schema of experiment files, and a check of tables against it.

`validate` fills in defaults and collects all problems of a file instead of stopping at
the first one. The tables themselves are in ``_tables.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, time
from typing import Any

from numerai_features._names import near_names

KeyPath = tuple[str, ...]
Problems = list[tuple[KeyPath, str]]

_WORDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "a table",
}


@dataclass(frozen=True)
class Field:
    """One key of a table.

    Attributes
    ----------
    help : str
        A short description.
    types : tuple of type
        Allowed types of the TOML value; a boolean does not count as a whole number.
    default : object
        The value if the key is missing; None is "not set".
    choices : tuple
        Values that are allowed in addition to `types`; without `types`, the only
        allowed values.
    minimum, maximum : int or None
        The smallest and the largest number allowed.
    items : type or None
        The type of a list's items.
    empty : bool
        Whether a list can be empty.
    neutral : bool
        Whether fits do not depend on it: a run can be resumed with another value.
    """

    help: str
    types: tuple[type, ...] = ()
    default: Any = None
    choices: tuple[Any, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    items: type | None = None
    empty: bool = False
    neutral: bool = False

    @property
    def expected(self) -> str:
        """Return a text that lists the allowed values."""
        options = [json.dumps(choice) for choice in self.choices]
        for kind in self.types:
            word = _WORDS[kind]
            if kind in (int, float) and self.minimum is not None:
                word += f" >= {self.minimum}"
                word += "" if self.maximum is None else f" and <= {self.maximum}"
            if kind is list and self.items is not None:
                word += f" of {_WORDS[self.items].split()[-1]}s"
            options.append(word)
        return " or ".join(options)

    def allows(self, value: Any) -> bool:
        """Whether a value is allowed; None means "not set", and cannot be in a file."""
        if value is None:
            return self.default is None
        if any(value == c and type(value) is type(c) for c in self.choices):
            return True
        kinds = (*self.types, int) if float in self.types else self.types
        if not any(type(value) is kind for kind in kinds):
            return False
        if isinstance(value, list) and self.items is not None:
            kinds = (float, int) if self.items is float else (self.items,)
            return bool(value or self.empty) and all(type(i) in kinds for i in value)
        if self.minimum is not None and isinstance(value, int | float):
            return self.minimum <= value <= (self.maximum or float("inf"))
        return True


@dataclass(frozen=True)
class Table:
    """One table of the file.

    Attributes
    ----------
    help : str
        A short description.
    fields : mapping of str to Field
        Its keys.
    tables : mapping of str to Table
        The tables within it.
    named : str
        Description of the tables within it whose names the user chooses; empty if
        there cannot be any.
    optional : bool
        Whether a missing table stays missing, instead of being filled with defaults.
    """

    help: str = ""
    fields: Mapping[str, Field] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)
    named: str = ""
    optional: bool = False

    @property
    def keys(self) -> list[str]:
        """Names of the fields and the tables."""
        return [*self.fields, *self.tables]


def got(value: Any) -> str:
    """Return a value as TOML text, for messages."""
    if isinstance(value, date | time):  # TOML has no quotes around these
        return str(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Return a message that a name is unknown, with similar and all known names."""
    names = list(known)
    listed = ", ".join(names) or "none"
    return f"unknown {kind}.{near_names(name, names)} Allowed: {listed}."


def validate(
    table: Table, given: Any, problems: Problems, path: KeyPath = ()
) -> dict[str, Any]:
    """Check a table and the tables within it; return them with all defaults.

    Parameters
    ----------
    table : Table
        The schema of the table.
    given : object
        The table in the file.
    problems : list of (path, message)
        New problems are appended.
    path : tuple of str, default=()
        The path of the table in the file.

    Returns
    -------
    dict
        All fields, with the default in place of an invalid value; the tables within;
        then the named tables, unchecked.
    """
    if not isinstance(given, dict):
        problems.append((path, f"expected a table; got {got(given)}."))
        given = {}
    values: dict[str, Any] = {}
    for name, spec in table.fields.items():
        values[name] = _field_value(spec, given, name, problems, path)
    for name, inner in table.tables.items():
        if name in given or not inner.optional:
            inside = given.get(name, {})
            values[name] = validate(inner, inside, problems, (*path, name))
    for name, value in given.items():
        if name in values:
            continue
        if table.named and isinstance(value, dict):
            values[name] = value
            continue
        kind = "key" if not isinstance(value, dict) else "table"
        problems.append(((*path, name), unknown(kind, name, table.keys)))
    return values


def _field_value(
    spec: Field, given: dict[str, Any], name: str, problems: Problems, path: KeyPath
) -> Any:
    value = given.get(name, spec.default)
    if name not in given or spec.allows(value):
        return value
    message = f"got {got(value)}; expected {spec.expected}."
    if isinstance(value, str) and spec.choices:
        message += near_names(value, [str(choice) for choice in spec.choices])
    problems.append(((*path, name), message))
    return spec.default


def neutral_paths(table: Table, path: KeyPath = ()) -> set[KeyPath]:
    """Return the paths of the fields that results do not depend on."""
    found = {(*path, name) for name, spec in table.fields.items() if spec.neutral}
    for name, inner in table.tables.items():
        found |= neutral_paths(inner, (*path, name))
    return found


def describe(table: Table, path: KeyPath = ()) -> str:
    """Return the schema as text for ``--help``."""
    lines = [f"[{'.'.join(path)}] {table.help}"] if path else []
    for name, spec in table.fields.items():
        default = "" if spec.default is None else f" (default {got(spec.default)})"
        lines.append(f"  {name}: {spec.expected}{default}")
        lines.append(f"      {spec.help}")
    if table.named:
        lines.append(f"  [{'.'.join((*path, 'NAME'))}] {table.named}")
    inner = [describe(t, (*path, name)) for name, t in table.tables.items()]
    return "\n".join([*lines, *inner])
