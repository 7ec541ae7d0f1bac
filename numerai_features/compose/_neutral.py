"""Residuals of predictions after a regression on the columns of one era.

`numerai_tools.scoring.neutralize` casts the era's table to float64 and decomposes it.
Here second moments are enough, of the columns or of the rows, whichever are fewer. The
table is cast one block at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, lapack, qr

from numerai_features._blocks import BLOCK_BYTES, row_blocks
from numerai_features._eras import EraIndex
from numerai_features._threads import blas_threads
from numerai_features._validation import fill_missing
from numerai_features.moments import Moments

_Array = NDArray[np.float64]

# A column is left out if the others explain all but this share of its variance. It is
# the square of the rcond of numerai_tools.
_LEAST_SHARE = 1e-12
_ROUNDING = 1e-13
_SMALL = 1e-10  # an exposure
_MOST_PASSES = 8


def neutral_rows(
    values: _Array,
    X: NDArray[Any],
    index: EraIndex,
    proportion: float,
    *,
    columns: NDArray[np.intp] | None = None,
    fill: _Array | None = None,
) -> _Array:
    """Return predictions minus a proportion of their fit to the columns in each era.

    Parameters
    ----------
    values : ndarray of shape (n_rows,) or (n_rows, n_predictions)
        Finite.
    X : ndarray of shape (n_rows, n_features)
    index : EraIndex
    proportion : float
    columns : ndarray of int, default=None
        Columns to use; all by default.
    fill : ndarray of shape (n_columns,), default=None
        The value that replaces NaN in each of these columns.

    Returns
    -------
    ndarray of the shape of `values`
    """
    out = np.empty(values.shape)
    with blas_threads(1):  # the bits of a product depend on the number of threads
        for _, rows in index.rows_by_era():
            table = X[rows] if columns is None else X[rows][:, columns]
            own = values[rows]
            rest = _rest_of(own.reshape(len(own), -1), table, fill)
            out[rows] = own - proportion * (own - rest.reshape(own.shape))
    return out


def _rest_of(values: _Array, table: NDArray[Any], fill: _Array | None) -> _Array:
    """Return residuals of each column of values on a constant and the table."""
    rest = np.zeros(values.shape)
    varies = values.max(axis=0) > values.min(axis=0)
    if varies.any():
        own = values[:, varies]
        own = own - own.mean(axis=0)
        scale = np.abs(own).max(axis=0)
        leave = _by_rows if len(own) <= table.shape[1] + 1 else _by_columns
        rest[:, varies] = leave(own / scale, table, fill) * scale
    return rest


@dataclass(frozen=True, eq=False)
class _Standardised:
    """Columns of a table, centred and scaled a block of rows at a time."""

    table: NDArray[Any]
    columns: NDArray[np.intp]
    mean: _Array
    scale: _Array
    fill: _Array | None

    def blocks(self) -> Iterator[tuple[slice, _Array]]:
        for rows in row_blocks(len(self.table), len(self.columns)):
            block = self.table[rows][:, self.columns].astype(np.float64)
            if self.fill is not None:
                block = fill_missing(block, self.fill)
            block -= self.mean
            block /= self.scale
            yield rows, block


def _by_columns(values: _Array, table: NDArray[Any], fill: _Array | None) -> _Array:
    """Return residuals by the normal equations, for more rows than columns.

    Pivoting leaves out columns that others explain. The normal equations square the
    condition number, so the residuals are refined by solving again until the exposures
    are small.
    """
    moments = Moments.from_rows(table, fill=fill)
    mean, products = moments.mean, moments.covariance()
    del moments
    scale = np.sqrt(np.diag(products))
    used = np.flatnonzero(scale > _ROUNDING * np.abs(mean))
    if not len(used):
        return values
    if len(used) < len(scale):
        products = products[np.ix_(used, used)]
    products /= scale[used]
    products /= scale[used][:, None]
    factor, order, rank, _ = lapack.dpstrf(
        products.T, tol=_LEAST_SHARE, overwrite_a=True
    )
    factor, used = factor[:rank, :rank], used[order[:rank] - 1]
    own_fill = None if fill is None else fill[used]
    columns = _Standardised(table, used, mean[used], scale[used], own_fill)
    rest = values.copy()
    weights = np.zeros((rank, values.shape[1]))
    for _ in range(_MOST_PASSES):
        exposure = np.zeros_like(weights)
        for rows, block in columns.blocks():
            rest[rows] -= block @ weights
            exposure += block.T @ rest[rows]
        exposure /= len(rest)
        size = np.sqrt((rest**2).mean(axis=0))
        if (np.abs(exposure).max(axis=0) <= _SMALL * size).all():
            break
        weights = cho_solve((factor, False), exposure)
    return rest


def _by_rows(values: _Array, table: NDArray[Any], fill: _Array | None) -> _Array:
    """Return residuals by products of rows, for at most one row more than columns."""
    n_rows, n_columns = table.shape
    products = np.zeros((n_rows, n_rows), order="F")
    step = max(1, 2 * BLOCK_BYTES // (8 * n_rows))
    for start in range(0, n_columns, step):
        block = table[:, start : start + step].astype(np.float64)
        if fill is not None:
            block = fill_missing(block, fill[start : start + step])
        mean = block.mean(axis=0)
        block -= mean
        scale = np.sqrt(np.einsum("ij,ij->j", block, block))
        varies = scale > _ROUNDING * np.sqrt(n_rows) * np.abs(mean)
        block = block[:, varies] / scale[varies]
        products += block @ block.T
    largest = float(np.diag(products).max(initial=0))
    if largest == 0:
        return values
    factor, order, rank, _ = lapack.dpstrf(
        products, tol=_LEAST_SHARE * largest, overwrite_a=True
    )
    if rank >= n_rows - 1:  # the columns explain any values
        return np.zeros(values.shape)
    spanned = np.empty((n_rows, rank))
    spanned[order - 1] = np.triu(factor)[:rank].T
    del products, factor
    basis = qr(spanned, mode="economic", overwrite_a=True)[0]
    for _ in range(2):  # the second pass removes the rounding error of the first
        values = values - basis @ (basis.T @ values)
    return values
