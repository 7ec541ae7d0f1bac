"""Whole numbers that came as floats, for a float alone can be missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._blocks import row_blocks
from numerai_features._validation import fill_missing, missing_values


@dataclass(frozen=True, eq=False)
class WholeCells:
    """What cells were in fit: whole numbers of one type.

    A library for frames makes a column, or the whole table, one of floats as soon as
    one cell is missing. What was fitted to bytes would else refuse the live rows of
    the one week in which that happens.

    Attributes
    ----------
    dtype : dtype
    fill : ndarray of shape (n_features,)
        What stands in for a missing cell: 2 for bins, see `missing_values`.
    """

    dtype: Any
    fill: NDArray[np.floating]

    @classmethod
    def of(cls, X: NDArray[Any]) -> WholeCells | None:
        """Return what the cells of fit are; None if they are no whole numbers."""
        if X.dtype.kind not in "iu":
            return None
        return cls(X.dtype, np.rint(missing_values(X, "middle")))

    def restore(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return floats filled, and in the type of fit where that holds them.

        All others are returned as they are, not as a copy.
        """
        if X.dtype.kind != "f":
            return X
        limits = np.iinfo(self.dtype)
        out = np.empty(X.shape, self.dtype)
        for rows in row_blocks(*X.shape):
            # float16 knows no limits of wider integers.
            block = fill_missing(X[rows].astype(np.float64), self.fill)
            # As float64, the largest of 64 bits would be rounded up.
            inside = (block >= float(limits.min)) & (block < float(limits.max) + 1)
            if not (inside & (block == np.rint(block))).all():
                return fill_missing(X, self.fill)
            out[rows] = block
        return out


def tell_odd_cell(X: NDArray[Any], dtype: Any) -> str:
    """Return which cell of floats is the first that integers of a type do not hold."""
    limits = np.iinfo(dtype)
    for rows in row_blocks(*X.shape):
        block = X[rows]
        inside = (block >= limits.min) & (block <= limits.max)
        odd = np.argwhere(~inside | (block != np.rint(block)))
        if len(odd):
            row, column = odd[0]
            cell = block[row, column]
            return f", and holds {cell:.6g} in row {rows.start + row}, column {column}"
    return ""
