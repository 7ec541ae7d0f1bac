"""Helpers for names: suggest similar names, shorten lists, avoid duplicates."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

_MOST_NAMED = 5
_LIKE = 0.8  # if names begin differently: "catboost" is not a typo of "xgboost"


def near_names(name: object, names: Iterable[str]) -> str:
    """Return a sentence that suggests the names most similar to `name`, or "".

    Examples
    --------
    >>> near_names("targt", ["target", "era"])
    " Did you mean 'target'?"
    """
    wanted = str(name).lower()
    lower = {name.lower(): name for name in names}
    found = difflib.get_close_matches(wanted, lower, n=3)
    near = [lower[other] for other in found if _may_be(wanted, other)]
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


def _may_be(wanted: str, found: str) -> bool:
    """Whether `wanted` may be a typo of `found`; most typos keep the first letter."""
    if wanted[:1] == found[:1]:
        return True
    return difflib.SequenceMatcher(None, found, wanted).ratio() >= _LIKE


def some_names(names: Sequence[object]) -> str:
    """Return the first few names of a list, and the number of the others, as text."""
    text = ", ".join(repr(name) for name in names[:_MOST_NAMED])
    more = len(names) - _MOST_NAMED
    return f"{text} and {more} more" if more > 0 else text


def unlike(
    taken: Iterable[object], own: Iterable[object], name: str, *, always: bool
) -> list[str]:
    """Return names of new columns that differ from those of existing columns.

    Parameters
    ----------
    taken : iterable of str
        Names of the existing columns.
    own : iterable of str
        Names of the new columns; they are numbered if two are the same.
    name : str
        Name of the estimator that makes the new columns. It is put before each of their
        names, with ``__``, as often as necessary.
    always : bool
        Whether to put `name` before them even if their names differ.

    Examples
    --------
    >>> unlike(["a", "fa0"], ["fa0", "fa1"], "fa", always=False)
    ['fa__fa0', 'fa__fa1']
    """
    names = [str(n) for n in own]
    if len(set(names)) < len(names):
        names = [f"{n}__{j}" for j, n in enumerate(names)]
    there = set(taken)
    while always or there.intersection(names):
        names, always = [f"{name}__{n}" for n in names], False
    return names
