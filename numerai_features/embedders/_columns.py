"""What is known of a table's columns before a network is trained on its rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._blocks import as_slice, row_blocks
from numerai_features._validation import take_rows


@dataclass(frozen=True)
class Columns:
    """What columns are standardised by, and what stands in for NaN.

    Attributes
    ----------
    mean, scale : ndarray of shape (n_features,), float64
        A scale is 0 where the column is constant.
    fill : ndarray of shape (n_features,)
    dtype : numpy dtype
        Of arrays that rows are multiplied with: float64 unless rows are integers.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    fill: NDArray[np.floating]
    dtype: Any

    @property
    def units(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and scale."""
        return self.mean, self.scale


def column_moments(
    X: NDArray[Any], rows: NDArray[np.intp], weights: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each column's mean, and the scale that it is divided by.

    That is the standard deviation of its known cells; of bytes, which are bins, one for
    all columns: a feature that is missing (bin 2) in most of the training eras varies
    little in them, and would else weigh far too much in those where it is there.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
    rows : ndarray of int
        Which rows count.
    weights : ndarray of shape (n_rows,) or None

    Returns
    -------
    mean, scale : ndarray of shape (n_features,), float64
        A scale is 0 where the column is constant.
    """
    n_features = X.shape[1]
    shift = _first_known(X, rows)  # sums of squares near zero keep their digits
    total, first, second = np.zeros((3, n_features))
    for block, mine in blocks_of(X, rows):
        w = np.ones(len(block)) if weights is None else weights[mine]
        block = block.astype(np.float64) - shift
        if X.dtype.kind == "f":
            known = ~np.isnan(block)
            total += w @ known
            block[~known] = 0
        else:
            total += w.sum()
        first += w @ block
        second += w @ (block * block)
    total = np.maximum(total, np.finfo(float).tiny)
    mean = first / total
    variance = second / total - mean**2
    # What rounding leaves of a constant column is not a variance.
    variance[variance <= 1e-12 * np.maximum(second / total, 1e-300)] = 0
    if X.dtype.itemsize == 1 and variance.any():
        variance[variance > 0] = variance[variance > 0].mean()
    return mean + shift, np.sqrt(variance)


def _first_known(X: NDArray[Any], rows: NDArray[np.intp]) -> NDArray[np.float64]:
    head = np.asarray(X[rows[:256]], np.float64)
    shift = head[0].copy()
    for row in head[1:]:
        gaps = np.isnan(shift)
        if not gaps.any():
            break
        shift[gaps] = row[gaps]
    return np.asarray(np.nan_to_num(shift))


def blocks_of(
    X: NDArray[Any], rows: NDArray[np.intp]
) -> Iterator[tuple[NDArray[Any], slice | NDArray[np.intp]]]:
    """Yield some rows of a table a block at a time, and which they are."""
    for part in row_blocks(len(rows), X.shape[1]):
        mine = as_slice(rows[part])
        yield take_rows(X, mine), mine
