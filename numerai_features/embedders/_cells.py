"""What the cells of each column are like: their order, and bins of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._bins import N_BINS
from numerai_features._validation import take_rows

_LOOKED_AT = 1 << 13
"""Rows that are looked at: a bin's share of them is known to half a percent."""


def sorted_cells(X: NDArray[Any], rows: NDArray[np.intp]) -> Iterator[NDArray[Any]]:
    """Yield the known cells of each column in ascending order.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
    rows : ndarray of int
        Training rows; of many, some are taken: one at random, but always the same, in
        each of as many equal parts. Evenly spaced rows could be alike, where a table
        repeats itself.
    """
    n = min(len(rows), _LOOKED_AT)
    within = 0.0 if n == len(rows) else np.random.default_rng(0).random(n)
    some = ((np.arange(n) + within) * (len(rows) / n)).astype(np.intp)
    table = np.asarray(take_rows(X, rows[some]))
    for j in range(table.shape[1]):
        cells = np.sort(table[:, j])  # NaN are last
        yield cells[~np.isnan(cells)] if cells.dtype.kind == "f" else cells


def bin_edges(X: NDArray[Any], rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the edges between the bins of each column.

    If a column has at most five values, these are its bins; else its bins are five, and
    have equal numbers of rows. So neither the scale of a column nor its type matters.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
    rows : ndarray of int
        Training rows.

    Returns
    -------
    ndarray of shape (N_BINS - 1, n_features)
        A cell's bin is the number of edges below it. NaN where there are fewer bins.
    """
    edges = np.full((N_BINS - 1, X.shape[1]), np.nan)
    for j, cells in enumerate(sorted_cells(X, rows)):
        values = np.unique(cells)
        if len(values) <= N_BINS:
            below, above = values[:-1], values[1:]
        else:
            cuts = len(cells) * np.arange(1, N_BINS) // N_BINS
            below, above = cells[cuts - 1], cells[cuts]
        # halved: a sum may overflow
        edges[: len(below), j] = below.astype(float) / 2 + above.astype(float) / 2
    return edges


def column_quantiles(
    X: NDArray[Any], rows: NDArray[np.intp], n: int, fill: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return quantiles of each column, evenly spaced, each the value of a cell.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
    rows : ndarray of int
        Training rows.
    n : int
        Number of quantiles: each stands for an n-th of the cells.
    fill : ndarray of shape (n_features,)
        Values of columns without a known cell.

    Returns
    -------
    ndarray of shape (n, n_features)
    """
    out = np.tile(np.asarray(fill, np.float64), (n, 1))
    for j, cells in enumerate(sorted_cells(X, rows)):
        if len(cells):
            out[:, j] = cells[len(cells) * (2 * np.arange(n) + 1) // (2 * n)]
    return out
