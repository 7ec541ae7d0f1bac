"""The table ``[report]`` of an experiment: weights of the payout, and periods."""

from __future__ import annotations

import re
from typing import Any

from numerai_features.experiment._schema import Problems, got

_PERIOD = re.compile(r"[0-9]{1,9}-[0-9]{1,9}")
_LARGEST_WEIGHT = 1e6


def check_report(report: dict[str, Any], problems: Problems) -> None:
    """Check the weights and the periods.

    Parameters
    ----------
    report : dict
        The table ``[report]``.
    problems : list of (path, message)
        New problems are appended.
    """
    weights = report["weights"]
    # not math.isfinite, which raises for the largest whole numbers of TOML
    if len(weights) != 2 or not all(abs(w) <= _LARGEST_WEIGHT for w in weights):
        message = (
            "expected two numbers of at most 1e6, for CORR and MMC, as in [3, 15]."
        )
        problems.append((("report", "weights"), f"got {got(weights)}; {message}"))
    for period in dict.fromkeys(report["periods"] or []):
        if problem := _period_problem(period):
            problems.append((("report", "periods"), f"got {got(period)}; {problem}"))


def periods_of(report: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Return the first and the last era of each period, by its text."""
    periods = dict.fromkeys(report["periods"] or [])
    return {period: _bounds(period) for period in periods}


def _bounds(period: str) -> tuple[int, int]:
    first, last = period.split("-")
    return int(first), int(last)


def _period_problem(period: str) -> str | None:
    if not _PERIOD.fullmatch(period):
        return 'expected the first and the last era of a period, as in "0575-0800".'
    first, last = _bounds(period)
    if first > last:
        return f"the first era comes after the last. Did you mean {_swapped(period)}?"
    return None


def _swapped(period: str) -> str:
    return got("-".join(reversed(period.split("-"))))
