"""Names in messages: the first few of many, and near ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

_MOST_NAMED = 5


def near_names(name: object, names: Iterable[str]) -> str:
    """Return a sentence that suggests the names nearest to `name`, or nothing.

    Examples
    --------
    >>> near_names("targt", ["target", "era"])
    " Did you mean 'target'?"
    """
    near = difflib.get_close_matches(str(name), list(names), n=3)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


def some_names(names: Sequence[object]) -> str:
    """Write out the first few names of a list and how many more there are."""
    text = ", ".join(repr(name) for name in names[:_MOST_NAMED])
    more = len(names) - _MOST_NAMED
    return f"{text} and {more} more" if more > 0 else text
