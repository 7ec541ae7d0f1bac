"""What callers hand over, checked: whole numbers, flags, paths, lists of names."""

from __future__ import annotations

import os
from collections.abc import Iterable
from numbers import Integral
from pathlib import Path
from typing import Any

PathLike = str | os.PathLike[str]

_LONGEST = 80
_PLAIN = ("builtins", "pathlib", "numpy")


def check_whole(
    value: Any, name: str, *, least: int = 1, most: int | None = None, advice: str = ""
) -> int:
    """Return a whole number within bounds; True and 3.0 are none.

    Parameters
    ----------
    value : object
    name : str
        What the message calls it.
    least, most : int
        Bounds, both included; None: no bound.
    advice : str, default=""
        What the message says at its end.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        right = False
    else:
        right = most is None or value <= most
    if right:
        return int(value)
    if most is not None:
        expected = f"a whole number from {least} to {most}"
    else:
        expected = "a positive whole number" if least == 1 else f"at least {least}"
    raise ValueError(f"{name} must be {expected}; got {value!r}.{advice}")


def told(value: Any) -> str:
    """Write a value out; a table, and whatever else fills lines, by its type."""
    text = repr(value)
    if len(text) <= _LONGEST and "\n" not in text and type(value).__module__ in _PLAIN:
        return text
    return f"a {type(value).__module__.split('.')[0]} {type(value).__qualname__}"


def check_flag(value: Any, name: str) -> bool:
    """Return True or False; ``"no"`` and 0 are neither."""
    if type(value).__name__ not in ("bool", "bool_"):  # numpy's, of any version
        raise TypeError(f"{name} must be True or False; got {value!r}.")
    return bool(value)


def check_path(value: Any, name: str) -> Path:
    """Return a path of text or of something path-like."""
    if not isinstance(value, str | os.PathLike) or not isinstance(
        os.fspath(value), str
    ):
        raise TypeError(
            f"{name} must be a path, as str or pathlib.Path; got {told(value)}."
        )
    if not str(value) or "\0" in str(value):
        raise ValueError(f"{name} must be the name of a file or folder; got {value!r}.")
    return Path(value)


def check_strings(names: Any, name: str) -> list[str]:
    """Return names as a list; one name alone is none."""
    if isinstance(names, Iterable) and not isinstance(names, str | bytes | dict):
        names = list(names)
        if all(isinstance(each, str) for each in names):
            return [str(each) for each in names]  # numpy's have another repr
    hint = f" Pass [{names!r}]." if isinstance(names, str) else ""
    raise ValueError(f"{name} must be a list of names, as str; got {names!r}.{hint}")
