"""Convert floats back to integers; only floats can hold missing cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._blocks import row_blocks
from numerai_features._validation import fill_missing, missing_values


@dataclass(frozen=True, eq=False)
class WholeCells:
    """The integer type of the cells in fit, and the values that fill missing cells.

    A dataframe library converts a column, or the whole table, to floats as soon as one
    cell is missing. Without this class, an estimator that was fitted to bytes would
    refuse the live rows of a week in which that happens.

    Attributes
    ----------
    dtype : dtype
    fill : ndarray of shape (n_features,)
        The value that replaces a missing cell: 2 for bins, see `missing_values`.
    """

    dtype: Any
    fill: NDArray[np.floating]

    @classmethod
    def of(cls, X: NDArray[Any]) -> WholeCells | None:
        """Return the type and fill values of X in fit; None if X is not integer."""
        if X.dtype.kind not in "iu":
            return None
        return cls(X.dtype, np.rint(missing_values(X, "middle")))

    def restore(self, X: NDArray[Any]) -> NDArray[Any]:
        """Fill missing floats, and convert to the type of fit if it holds all cells.

        A table of another type is returned unchanged, without a copy.
        """
        if X.dtype.kind != "f":
            return X
        limits = np.iinfo(self.dtype)
        out = np.empty(X.shape, self.dtype)
        for rows in row_blocks(*X.shape):
            # float16 cannot represent the limits of wider integers.
            block = fill_missing(X[rows].astype(np.float64), self.fill)
            # float64 rounds the largest 64-bit integer up.
            inside = (block >= float(limits.min)) & (block < float(limits.max) + 1)
            if not (inside & (block == np.rint(block))).all():
                return fill_missing(X, self.fill)
            out[rows] = block
        return out


def tell_odd_cell(X: NDArray[Any], dtype: Any) -> str:
    """Return text about the first float cell that an integer type cannot hold."""
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
