"""What tomllib leaves out: where a key stands in the text, and writing."""

from __future__ import annotations

import json
import re
from typing import Any

_KEY = r"(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')"
_DOTTED = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADER = re.compile(rf"\s*\[\s*({_DOTTED})\s*\]\s*(?:#.*)?$")
_ASSIGNMENT = re.compile(rf"\s*({_DOTTED})\s*=")
_BARE = re.compile(r"[A-Za-z0-9_-]+")


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
    """Return the line of a key, else of what is in it, else of what it is in."""
    if path in lines:
        return lines[path]
    within = [n for key, n in lines.items() if key[: len(path)] == path]
    if path and within:
        return min(within)
    return line_of(path[:-1], lines) if path else None


def syntax_error(error: ValueError) -> str:
    """Tell a syntax error, with its line in front where tomllib knows it."""
    place = re.search(r"\s*\(at line (\d+), column (\d+)\)", str(error))
    if place is None:
        return f"not valid TOML: {error}."
    message = str(error).replace(place[0], "")
    return f"line {place[1]}: not valid TOML at column {place[2]}: {message}."


def write_toml(tables: dict[str, Any]) -> str:
    """Write nested tables as TOML; what is None is left out.

    A dict within a table is a table of its own, but for one called ``params``, which
    is written in one line.
    """
    return "\n".join(_table_lines(tables, ())).strip() + "\n"


def _table_lines(table: dict[str, Any], path: tuple[str, ...]) -> list[str]:
    inner = {k: v for k, v in table.items() if isinstance(v, dict) and k != "params"}
    lines = ["", f"[{'.'.join(map(_key, path))}]"] if path else []
    for name, value in table.items():
        if name not in inner and value is not None:
            lines.append(f"{_key(name)} = {_value(value)}")
    for name, value in inner.items():
        lines += _table_lines(value, (*path, name))
    return lines


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in re.findall(_KEY, dotted))


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _value(name)


def _value(value: Any) -> str:
    if isinstance(value, str):
        # TOML has JSON's escapes, but no surrogates, and wants DEL escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        pairs = ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    return repr(value)
