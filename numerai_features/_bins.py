"""The bins of Numerai's features and targets, and ranking into them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

N_BINS = 5
"""Bins of a feature: 0 to 4, with equal numbers of rows."""

MIDDLE_BIN = N_BINS // 2
"""Value of a missing feature, as in Numerai's files."""

FEATURE_SHARES = (1 / N_BINS,) * N_BINS
TARGET_SHARES = (0.05, 0.2, 0.5, 0.2, 0.05)
"""Shares of an era's rows in each bin of a target."""

MOST_BINS = 50
"""A target with more values is not binned."""

_LOOKED_AT = 1000
"""Number of rows from which the bin widths of floats are found."""

_ROUNDING = 1e-3
"""Tolerance, in steps, for even spacing: the rounding of half-precision floats."""


def bin_widths(X: NDArray[Any]) -> NDArray[np.float64]:
    """Return the bin width of each column: 1 for integers.

    Floats are binned if their values are evenly spaced; some values may be missing. The
    width is found from the column's own values, and from another column's only if these
    can be its bins, see `_beside_finer_columns`. If a column is not binned, its width
    is that of five equally frequent bins with the column's standard deviation.
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
    """Return the columns' steps; a column that lacks bins gets a finer column's step.

    A column lacks bins of a finer one if its values lie on the finer grid, and it has
    only two values or uneven ones, which define no step. An evenly spaced column can
    only lack some of Numerai's five bins: beside quarters, 0, .5 and 1 are three of
    five bins, but beside twentieths, quarters are not 5 of 21. If several finer columns
    fit, the coarsest is used.
    """
    several = np.array([len(v) > 1 for v in values], bool)
    low, high = np.array([[v[0], v[-1]] if len(v) else [0, 0] for v in values]).T
    vague = several & (np.array([len(v) == 2 for v in values]) | (steps == 0))
    found = steps.copy()
    columns = np.flatnonzero(several & ~vague)
    grids = {(steps[j], low[j], high[j]): j for j in columns}
    for (step, first, last), one in sorted(grids.items()):
        if found[one] != step:
            continue  # this column lacks bins itself
        five = last / 2 - first / 2 < N_BINS * (step / 2)  # halved: it may overflow
        within = (low >= first) & (high <= last) & (steps != step)
        may = np.flatnonzero(within & (vague | (several & five)))
        # ends first: checking all values of all columns would take long
        ends = _places(np.stack([low[may], high[may]]), first, step)
        for j in may[np.isfinite(ends).all(axis=0) & (ends[0] < ends[1])]:
            if (np.diff(_places(values[j], first, step)) > 0).all():
                found[j] = step
    return found


def _places(
    values: NDArray[np.float64], first: float, step: float
) -> NDArray[np.float64]:
    """Return the distance of values from the first, in steps; NaN between two steps."""
    exact = (values / 2 - first / 2) / (step / 2)
    whole = np.round(exact)
    return np.where(np.abs(exact - whole) < _ROUNDING, whole, np.nan)


def _even_step(values: NDArray[np.float64]) -> float:
    """Return the step of ascending values; 0 if uneven, a single one, or too many."""
    if not 1 < len(values) <= MOST_BINS:
        return 0.0
    scale = values[-1] / 2 - values[0] / 2  # halved: it might overflow
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
    """Rank each row of `values` into bins with the given shares of its values.

    A bin whose share rounds to 0 values is empty.
    """
    cuts = bin_cuts(values.shape[1], shares)
    cuts = cuts[cuts < values.shape[1]]
    edges = np.partition(values, cuts, axis=1)[:, cuts]
    bins = np.zeros(values.shape, np.int8)
    for j in range(len(cuts)):
        bins += values >= edges[:, j : j + 1]
    return bins


def bin_cuts(n: int, shares: Sequence[float]) -> NDArray[np.int64]:
    """Return how many of n ranked values lie below the edge of each bin but the first.

    They are whole numbers: with 50 values, a share of .05 is 2 of them.
    """
    return np.round(np.cumsum(shares[:-1]) * n).astype(np.int64)
