"""The bins of Numerai's features and targets, and how numbers are ranked into them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

N_BINS = 5
"""Of a feature: 0 to 4, of as many rows each."""

MIDDLE_BIN = N_BINS // 2
"""Where a feature is missing; Numerai's files have it, too."""

FEATURE_SHARES = (1 / N_BINS,) * N_BINS
TARGET_SHARES = (0.05, 0.2, 0.5, 0.2, 0.05)
"""Of the rows of an era in each of a target's bins."""

MOST_BINS = 50
"""A target of more values is not in bins."""

_LOOKED_AT = 1000
"""Rows that tell how wide the bins of floats are."""

_ROUNDING = 1e-3
"""Of a step: so far from even are floats of short types."""


def bin_widths(X: NDArray[Any]) -> NDArray[np.float64]:
    """Return how wide a bin is in each column: 1 in integers.

    Floats are in bins where their values are evenly spaced, but for some that do not
    come. Each column tells by its own values, and by those of others only where they
    can be its bins, see `_beside_finer_columns`. Where they are not, a bin is as wide
    as one of five of the same size that have the column's standard deviation.
    """
    n_rows, n_features = X.shape
    if X.dtype.kind != "f" or not X.size:
        return np.ones(n_features)
    some = X[np.linspace(0, n_rows - 1, min(n_rows, _LOOKED_AT)).astype(int)]
    some = some.astype(np.float64)
    columns = [some[:, j][~np.isnan(some[:, j])] for j in range(n_features)]
    values = [np.unique(cells) for cells in columns]
    steps = _beside_finer_columns(values, np.array([_even_step(v) for v in values]))
    return np.array([s or _fifth(c) for s, c in zip(steps, columns, strict=True)])


def _beside_finer_columns(
    values: list[NDArray[np.float64]], steps: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the columns' steps, a finer column's for those that lack its bins.

    Those are columns that lie on the values of the finer one, and have two values or
    uneven ones, which tell no step. An even column lacks bins only of Numerai's five:
    beside quarters, 0, .5 and 1 are three of five, but beside twentieths, quarters are
    no 5 of 21. Of several finer columns the coarsest counts.
    """
    several = np.array([len(v) > 1 for v in values], bool)
    low, high = np.array([[v[0], v[-1]] if len(v) else [0, 0] for v in values]).T
    vague = several & (np.array([len(v) == 2 for v in values]) | (steps == 0))
    found = steps.copy()
    columns = np.flatnonzero(several & ~vague)
    grids = {(steps[j], low[j], high[j]): j for j in columns}
    for (step, first, last), one in sorted(grids.items()):
        if found[one] != step:
            continue  # it lacks bins itself
        five = last / 2 - first / 2 < N_BINS * (step / 2)  # halved, or it may overflow
        within = (low >= first) & (high <= last) & (steps != step)
        may = np.flatnonzero(within & (vague | (several & five)))
        # ends first, for a look at all values of all columns would take long
        ends = _places(np.stack([low[may], high[may]]), first, step)
        for j in may[np.isfinite(ends).all(axis=0) & (ends[0] < ends[1])]:
            if (np.diff(_places(values[j], first, step)) > 0).all():
                found[j] = step
    return found


def _places(
    values: NDArray[np.float64], first: float, step: float
) -> NDArray[np.float64]:
    """Return how many steps values are behind the first; NaN between two steps."""
    exact = (values / 2 - first / 2) / (step / 2)
    whole = np.round(exact)
    return np.where(np.abs(exact - whole) < _ROUNDING, whole, np.nan)


def _even_step(values: NDArray[np.float64]) -> float:
    """Return how far ascending values are apart; 0 if uneven, one, or too many."""
    if not 1 < len(values) <= MOST_BINS:
        return 0.0
    scale = values[-1] / 2 - values[0] / 2  # halved, or it might be infinite
    steps = np.diff(values / scale)
    least = steps.min()
    even = np.abs(steps / least - np.round(steps / least)).max() < _ROUNDING
    n_bins = 2 / least
    return float(least * scale) if even and n_bins < MOST_BINS else 0.0


def _fifth(cells: NDArray[np.float64]) -> float:
    largest = np.abs(cells).max(initial=0)
    # bins from 0 to 4 of the same size have a variance of 2
    return float(np.std(cells / largest) / np.sqrt(2) * largest) if largest else 0.0


def bin_rows(values: NDArray[Any], shares: Sequence[float]) -> NDArray[np.int8]:
    """Rank each row of `values` into bins that hold the given shares of it.

    A bin whose share rounds to no place at all is empty.
    """
    n = values.shape[1]
    cuts = np.round(np.cumsum(shares[:-1]) * n).astype(int)
    cuts = cuts[cuts < n]
    edges = np.partition(values, cuts, axis=1)[:, cuts]
    bins = np.zeros(values.shape, np.int8)
    for j in range(len(cuts)):
        bins += values >= edges[:, j : j + 1]
    return bins
