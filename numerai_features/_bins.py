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
