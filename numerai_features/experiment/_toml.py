"""Find the lines of keys in TOML text, and write TOML; tomllib does neither."""

from __future__ import annotations

import re
from typing import Any

import tomli_w

_KEY = r"(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')"
_DOTTED = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADER = re.compile(rf"\s*\[\s*({_DOTTED})\s*\]\s*(?:#.*)?$")
_ASSIGNMENT = re.compile(rf"\s*({_DOTTED})\s*=")


def find_lines(text: str) -> dict[tuple[str, ...], int]:
    r"""Return the line, from 1, of each table header and key of a TOML text.

    Examples
    --------
    >>> find_lines('seed = 1\n[cv]\nn_splits = 5')
    {('seed',): 1, ('cv',): 2, ('cv', 'n_splits'): 3}
    """
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            table = _parts(header[1])
            lines.setdefault(table, number)
        elif assignment := _ASSIGNMENT.match(line):
            lines.setdefault((*table, *_parts(assignment[1])), number)
    return lines


def line_of(path: tuple[str, ...], lines: dict[tuple[str, ...], int]) -> int | None:
    """Return the line of a key, else of its first inner key, else of its table."""
    if path in lines:
        return lines[path]
    within = [n for key, n in lines.items() if key[: len(path)] == path]
    if path and within:
        return min(within)
    return line_of(path[:-1], lines) if path else None


def syntax_error(error: ValueError) -> str:
    """Return a message for a syntax error; it begins with the line, if known."""
    place = re.search(r"\s*\(at line (\d+), column (\d+)\)", str(error))
    if place is None:
        return f"not valid TOML: {error}."
    message = str(error).replace(place[0], "")
    return f"line {place[1]}: not valid TOML at column {place[2]}: {message}."


def write_toml(tables: dict[str, Any]) -> str:
    """Return nested tables as TOML text, without values that are None."""
    return tomli_w.dumps(_without_none(tables))


def _without_none(table: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without_none(value) if isinstance(value, dict) else value
        for name, value in table.items()
        if value is not None
    }


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in re.findall(_KEY, dotted))
