"""Names: those near to one, the first few of many, and none twice."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

_MOST_NAMED = 5
_LIKE = 0.8  # of names that begin differently: "catboost" is no slip of "xgboost"


def near_names(name: object, names: Iterable[str]) -> str:
    """Return a sentence that suggests the names nearest to `name`, or nothing.

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
    """Whether a name may be a slip of another one: most slips are not at its start."""
    if wanted[:1] == found[:1]:
        return True
    return difflib.SequenceMatcher(None, found, wanted).ratio() >= _LIKE


def some_names(names: Sequence[object]) -> str:
    """Write out the first few names of a list and how many more there are."""
    text = ", ".join(repr(name) for name in names[:_MOST_NAMED])
    more = len(names) - _MOST_NAMED
    return f"{text} and {more} more" if more > 0 else text


def unlike(
    taken: Iterable[object], own: Iterable[object], name: str, *, always: bool
) -> list[str]:
    """Return names of columns that are no other column's.

    Parameters
    ----------
    taken : iterable of str
        The names of columns that are there already.
    own : iterable of str
        The names of those that come; numbered where two are the same.
    name : str
        Of whoever makes them. It goes in front, with ``__``, as often as it must.
    always : bool
        Whether it goes in front in any case.

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
