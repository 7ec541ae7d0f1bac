"""The tables that models get: originals, latents and more, in the smallest form."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from numerai_features._bins import N_BINS
from numerai_features._scratch import empty_like
from numerai_features.trees import tree_table
from numerai_features.trees._tables import takes_arrow

_MOST_BINS = 255  # of latents of type uint8

WIDE_SCALE = (N_BINS - 1) / (_MOST_BINS - 1)
"""Brings latents of type uint8 to the range of the originals."""


class Block(NamedTuple):
    """Columns of one type, and their names; a table has them already.

    `categories` are the positions of columns that are no quantities.
    """

    names: list[str]
    values: NDArray[Any] | pa.Table
    categories: tuple[int, ...] = ()


def as_table(blocks: list[Block]) -> pa.Table:
    """Return blocks side by side as a table; each column keeps its type."""
    tables = [
        block.values
        if isinstance(block.values, pa.Table)
        else tree_table(block.values, block.names)
        for block in blocks
    ]
    columns = [column for table in tables for column in table.columns]
    return pa.Table.from_arrays(columns, [n for b in blocks for n in b.names])


def categories_of(blocks: list[Block]) -> list[int]:
    """Return the positions of columns that are no quantities."""
    starts = np.cumsum([0, *(len(block.names) for block in blocks)])
    return [
        int(start) + j
        for start, block in zip(starts, blocks, strict=False)
        for j in block.categories
    ]


def as_array(blocks: list[Block], *, floats: bool = False) -> NDArray[Any]:
    """Return blocks of arrays as one array; of bytes if all blocks are of one type.

    A single block is not copied. In an array of floats, latents of 255 bins have the
    range of the originals, 0 to 4, because ridge and networks depend on scales.
    """
    arrays: Any = [block.values for block in blocks if block.values.shape[1]]
    kinds = {array.dtype for array in arrays}
    dtype: Any = np.float32 if floats or len(kinds) > 1 else kinds.pop()
    if len(arrays) == 1 and arrays[0].dtype == dtype:
        return np.asarray(arrays[0])
    out = empty_like(
        arrays[0], (len(arrays[0]), sum(a.shape[1] for a in arrays)), dtype
    )
    start = 0
    for array in arrays:
        part = out[:, start : start + array.shape[1]]
        part[:] = array
        if array.dtype == np.uint8 and dtype == np.float32:
            part *= WIDE_SCALE
        start += array.shape[1]
    return out


def as_input(table: pa.Table, library: str | None) -> Any:
    """Return a table as the smallest input for a tree library."""
    if library == "lightgbm" and not takes_arrow():
        return _as_array(table)
    return table


def _as_array(table: pa.Table) -> NDArray[Any]:
    kinds = {np.dtype(str(kind)) for kind in table.schema.types}
    dtype = np.uint8 if all(k.itemsize == 1 for k in kinds) else np.float32
    out = np.empty(table.shape, dtype)
    for j, column in enumerate(table.columns):
        out[:, j] = column.to_numpy()
    return out
