"""Statistics of a table's columns, measured before a network is trained on its rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._blocks import as_slice, row_blocks
from numerai_features._validation import check_spread, missing_values, take_rows

_LEAST_SHARE = 1e-6  # of a standard deviation: float32 does not resolve less
_FARTHEST = 1e15  # in standard deviations: float32 holds the squares


@dataclass(frozen=True)
class Columns:
    """The mean and scale that standardise columns, and the values that replace NaN.

    Attributes
    ----------
    mean, scale : ndarray of shape (n_features,), float64
        A scale is 0 where the column is constant.
    fill : ndarray of shape (n_features,)
    dtype : numpy dtype
        Type of the arrays that rows are multiplied with: float64 unless rows are
        integers.
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    fill: NDArray[np.floating]
    dtype: Any

    @property
    def units(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and scale."""
        return self.mean, self.scale


def measure_columns(
    X: NDArray[Any],
    rows: NDArray[np.intp],
    weights: NDArray[np.float64] | None,
    missing: str,
    counted: NDArray[np.intp],
) -> Columns:
    """Measure the columns: mean, scale and the values that replace NaN.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
    rows : ndarray of int
        Training rows; their moments standardise the columns.
    weights : ndarray of shape (n_rows,) or None
    missing : {"middle", "raise"}
    counted : ndarray of int
        Training rows and held-out rows; their median replaces NaN.

    Raises
    ------
    ValueError
        If no column varies, or a column varies by too little.
    """
    if X.dtype.kind == "f":
        check_spread(X)
    chosen = np.zeros(len(X), bool)
    chosen[counted] = True
    fill = missing_values(X, missing, chosen)
    mean, scale = column_moments(X, rows, weights)
    if not scale.any():
        raise ValueError(
            f"X is constant in all {X.shape[1]} columns of the {len(rows)} rows to "
            "train on: there is nothing to learn. Pass rows that vary."
        )
    narrow = X.dtype.kind in "iub" and X.dtype.itemsize <= 2
    return Columns(mean, scale, fill, np.float32 if narrow else np.float64)


def check_reach(X: NDArray[Any], columns: Columns) -> None:
    """Raise if cells are far outside the scale that standardises their column."""
    if X.dtype.itemsize == 1:
        return
    mean, scale = columns.units
    low, high = check_spread(X)
    reach = np.fmax(high - mean, mean - low)
    far = (scale > 0) & (reach > _FARTHEST * scale)
    if far.any():
        j = int(far.argmax())
        raise ValueError(
            f"X runs from {low[j]:.3g} to {high[j]:.3g} in column {j}, but where the "
            f"network is trained its mean is {mean[j]:.3g} and its standard deviation "
            f"{scale[j]:.3g}: the rows are not on the scale of the training rows. "
            "Correct such cells, or set them to NaN."
        )


def check_later(X: NDArray[Any], columns: Columns) -> None:
    """Raise if further training rows do not vary on the scale of the first rows."""
    low, high = check_spread(X)
    if not (high - low > _LEAST_SHARE * columns.scale)[columns.scale > 0].any():
        raise ValueError(
            f"X is constant in all {X.shape[1]} columns, on the scale of the rows that "
            "the network was fitted to: there is nothing to learn. Pass rows that vary "
            "on that scale."
        )


def column_moments(
    X: NDArray[Any], rows: NDArray[np.intp], weights: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each column's mean and scale.

    The scale is the standard deviation of the known cells. Bytes, which are bins, have
    one scale for all columns: a feature that is missing (bin 2) in most of the training
    eras varies little in them, and with a scale of its own it would weigh far too much
    in the other eras.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
    rows : ndarray of int
        The rows to measure.
    weights : ndarray of shape (n_rows,) or None

    Returns
    -------
    mean, scale : ndarray of shape (n_features,), float64
        A scale is 0 where the column is constant.
    """
    n_features = X.shape[1]
    shift = _first_known(X, rows)  # sums of squares near zero keep their precision
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
    # The rounding error of a constant column is not a variance.
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
    """Yield blocks of some rows of a table, and their indices."""
    for part in row_blocks(len(rows), X.shape[1]):
        mine = as_slice(rows[part])
        yield take_rows(X, mine), mine
