"""Numbers ranked into bins, as Numerai bins features and targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEATURE_SHARES = (0.2, 0.2, 0.2, 0.2, 0.2)
TARGET_SHARES = (0.05, 0.2, 0.5, 0.2, 0.05)
TARGET_VALUES = (0.0, 0.25, 0.5, 0.75, 1.0)


def bin_rows(values: NDArray[Any], shares: Sequence[float]) -> NDArray[np.int8]:
    """Rank each row of `values` into bins that hold the given shares of it."""
    n = values.shape[1]
    cuts = np.round(np.cumsum(shares[:-1]) * n).astype(int)
    cuts = np.minimum(cuts, n - 1)
    edges = np.partition(values, cuts, axis=1)[:, cuts]
    bins = np.zeros(values.shape, np.int8)
    for j in range(len(cuts)):
        bins += values >= edges[:, j : j + 1]
    return bins
