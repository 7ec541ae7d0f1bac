"""Rows of a table, by block or by era."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 4 << 20  # of float32: a block and its product stay in the L2/L3 cache


def row_blocks(
    n_rows: int, n_features: int, block_rows: int | None = None
) -> Iterator[slice]:
    """Yield slices of rows whose float32 copies fit in the cache."""
    step = block_rows or max(256, BLOCK_BYTES // (4 * max(1, n_features)))
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


def rows_by_code(codes: NDArray[np.integer]) -> list[NDArray[np.intp]]:
    """Return the rows of each code, in ascending order of codes."""
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)


def as_slice(rows: NDArray[np.intp]) -> slice | NDArray[np.intp]:
    """Return rows as a slice (a view) if they are contiguous and ascending."""
    if len(rows) and rows[-1] - rows[0] + 1 == len(rows) and (np.diff(rows) == 1).all():
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows
