"""Numbers ranked into bins, as Numerai bins features and targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEATURE_SHARES = (0.2, 0.2, 0.2, 0.2, 0.2)
TARGET_SHARES = (0.05, 0.2, 0.5, 0.2, 0.05)
MOST_BINS = 50  # a target of more values is not in bins


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
