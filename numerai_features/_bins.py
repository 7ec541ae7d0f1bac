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


def bin_widths(X: NDArray[Any]) -> NDArray[np.float64]:
    """Return how wide a bin is in each column: 1 in integers.

    Floats are in bins where their values are evenly spaced, but for some that do not
    come: all columns alike, or else each on its own. Where they are not, a bin is as
    wide as one of five of the same size that have the column's standard deviation.
    """
    n_rows, n_features = X.shape
    if X.dtype.kind != "f":
        return np.ones(n_features)
    some = X[np.linspace(0, n_rows - 1, min(n_rows, _LOOKED_AT)).astype(int)]
    some = some.astype(np.float64)
    step = _even_step(some)
    if step:
        return np.full(n_features, step)
    columns = [some[:, j][~np.isnan(some[:, j])] for j in range(n_features)]
    return np.array([_even_step(cells) or _fifth(cells) for cells in columns])


def _even_step(cells: NDArray[np.float64]) -> float:
    """Return how far values are apart; 0 if they are uneven, one, or too many."""
    values = np.unique(cells[~np.isnan(cells)])
    if not 1 < len(values) <= MOST_BINS:
        return 0.0
    scale = values[-1] / 2 - values[0] / 2  # halved, or it might be infinite
    steps = np.diff(values / scale)
    least = steps.min()
    even = np.abs(steps / least - np.round(steps / least)).max() < 1e-3
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
