"""The eras that a target spans, and the eras to purge around a test block.

This is the library's only table and only fallback: splitters, rows held out for early
stopping and cross-fitting all use it. A target of d trading days spans d / 5 weekly
eras; Numerai purges 8 eras for 20 days and 16 for 60 (four more than the span: two lag
days, and a margin). If a target's days are unknown, the longest purge is used: it is
better to lose too many eras than to get too high a score.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from numerai_features._arguments import COUNT
from numerai_features._validation import target_names

DAYS_PER_ERA = 5
PURGE_BY_DAYS = {20: 8, 60: 16}
LONGEST_PURGE = max(PURGE_BY_DAYS.values())
"""Eras to purge for a target whose days are unknown."""

_SUFFIX = re.compile(r"_(\d+)d?$")
_LONGEST_DAYS = 250  # a year of trading days; a larger number is not a horizon


def days_of_target(name: str) -> int | None:
    """Return a target's trading days, from the end of its name.

    Parameters
    ----------
    name : str
        Such as ``"target_ender_60"``.

    Returns
    -------
    int or None
        None if the name does not end in a whole number of weeks of at most a year.

    Examples
    --------
    >>> days_of_target("target_ender_20"), days_of_target("target") is None
    (20, True)
    """
    match = _SUFFIX.search(name)
    if match is None:
        return None
    days = int(match.group(1))
    if not DAYS_PER_ERA <= days <= _LONGEST_DAYS or days % DAYS_PER_ERA:
        return None
    return days


def purge_of_target(name: str) -> int | None:
    """Return the eras to purge for a target, from its name's trading days.

    Examples
    --------
    >>> purge_of_target("target_ender_20"), purge_of_target("target_ender_60")
    (8, 16)
    >>> purge_of_target("target_ender_10")
    6
    >>> purge_of_target("target") is None
    True
    """
    days = days_of_target(name)
    if days is None:
        return None
    return PURGE_BY_DAYS.get(days, days // DAYS_PER_ERA + 4)


def purge_of_targets(names: Iterable[str] | None) -> int:
    """Return the eras to purge for several targets: the largest purge of any.

    Parameters
    ----------
    names : iterable of str or None
        A name without days counts as `LONGEST_PURGE`, and so do no names at all.

    Returns
    -------
    int

    Examples
    --------
    >>> purge_of_targets(["target_ender_20", "target_ender_10"])
    8
    >>> purge_of_targets(["target_ender_20", "target"]), purge_of_targets(None)
    (16, 16)
    """
    purges = [purge_of_target(name) or LONGEST_PURGE for name in names or ()]
    return max(purges, default=LONGEST_PURGE)


def resolve_horizon(horizon: Any) -> int:
    """Return the eras that a target spans.

    Parameters
    ----------
    horizon : int or str
        Number of eras, or the name of a target that ends in its trading days.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If `horizon` is less than 1, or a name without days.

    Examples
    --------
    >>> resolve_horizon(4), resolve_horizon("target_ender_60")
    (4, 12)
    """
    if isinstance(horizon, str):
        days = days_of_target(horizon)
        if days is None:
            raise ValueError(_no_days("horizon", horizon, "the eras that it spans"))
        return days // DAYS_PER_ERA
    if not COUNT.is_satisfied_by(horizon):
        raise ValueError(
            "horizon must be the eras that the target spans, a whole number of at "
            "least 1 (20 trading days: 4; 60: 12), or the target's name; got "
            f"{horizon!r}."
        )
    return int(horizon)


def resolve_purge(purge: Any, *, target: str | None, y: Any = None) -> int:
    """Return the eras to purge on both sides of every test era.

    Parameters
    ----------
    purge : "auto" or int
        A number is used as it is. "auto" uses the days at the end of `target`, else
        those at the end of the names of `y`, else Numerai's longest purge, 16.
    target : str or None
        The target's name.
    y : array-like, default=None
        Targets; only their names are used, and the longest horizon among them.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If the name `target` does not end in a number of days.
    """
    if not isinstance(purge, str):
        return int(purge)
    if target is None:
        return purge_of_targets(target_names(y))
    named = purge_of_target(target)
    if named is None:
        raise ValueError(_no_days("target", target, "purge= in eras"))
    return named


def _no_days(parameter: str, name: str, instead: str) -> str:
    return (
        f"{parameter}={name!r} does not end in its trading days (as in "
        f"'target_ender_60'), so its eras are unknown. Pass {instead}."
    )
