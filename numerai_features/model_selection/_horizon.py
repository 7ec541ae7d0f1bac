"""How many eras a target spans, and how many to purge around a test block.

The one table of it. A target of d trading days spans d / 5 weekly eras; Numerai
purges 8 eras for 20 days and 16 for 60 (four more than the span: two lag days, and
room).
"""

from __future__ import annotations

import re
from numbers import Integral
from typing import Any

from numerai_features._validation import column_names, is_frame

DAYS_PER_ERA = 5
PURGE_BY_DAYS = {20: 8, 60: 16}
LONGEST_PURGE = max(PURGE_BY_DAYS.values())
NUMERAI_CHUNK = 156
"""Eras that each of Numerai's own walk-forward models predicts."""

_SUFFIX = re.compile(r"_(\d+)d?$")
_LONGEST_DAYS = 250  # a year of trading days; more is no horizon but some other number


def days_of_target(name: str) -> int | None:
    """Return a target's trading days, from the end of its name.

    Parameters
    ----------
    name : str
        Such as ``"target_ender_60"``.

    Returns
    -------
    int or None
        None if the name ends in no whole number of weeks of up to a year.

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


def resolve_horizon(horizon: Any) -> int:
    """Return the eras that a target spans.

    Parameters
    ----------
    horizon : int or str
        Eras, or the name of a target that ends in its trading days.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If it is less than 1, or a name without days.

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
    if isinstance(horizon, bool) or not isinstance(horizon, Integral) or horizon < 1:
        raise ValueError(
            "horizon must be the eras that the target spans, a whole number of at "
            "least 1 (20 trading days: 4; 60: 12), or the target's name; got "
            f"{horizon!r}."
        )
    return int(horizon)


def resolve_purge(
    purge: Any, *, horizon: int | None, target: str | None, y: Any = None
) -> int:
    """Return the eras to purge on both sides of every test era.

    Parameters
    ----------
    purge : "auto" or int
        A number is taken as it is. "auto" asks, in turn, `horizon` (that many eras),
        the days at the end of `target`, those at the end of ``y.name``, and falls
        back on the longest purge that Numerai uses, 16.
    horizon : int or None
        Eras that the target spans.
    target : str or None
        The target's name.
    y : array-like, default=None
        The target; its ``name`` counts.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If `target` names no number of days.
    """
    if not isinstance(purge, str):
        return int(purge)
    if horizon is not None:
        return int(horizon)
    if target is not None:
        named = purge_of_target(target)
        if named is None:
            raise ValueError(_no_days("target", target, "horizon= or purge= in eras"))
        return named
    columns = column_names(y) if is_frame(y) else []
    name = columns[0] if len(columns) == 1 else getattr(y, "name", None)
    named = purge_of_target(str(name))
    return LONGEST_PURGE if named is None else named


def _no_days(parameter: str, name: str, instead: str) -> str:
    return (
        f"{parameter}={name!r} does not end in its trading days (as in "
        f"'target_ender_60'), so its eras cannot be read off it. Pass {instead}."
    )
