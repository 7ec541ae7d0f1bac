"""Large arrays in files without a name: they take disk, and no memory that stays.

A table whose rows lie in a file is often larger than memory, and so is what is made of
it: the rows of a fold, the same rows with latents, their columns. Such an array is made
in the folder of that file. Its pages are cache, which the system writes to disk where
it needs the memory. The file has no name, so its disk space is free again as soon as
nobody uses the array, also after a crash.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from numerai_features._blocks import as_slice, row_blocks

LEAST_BYTES = 64 << 20  # smaller arrays are made in memory


class _File(mmap.mmap):
    """The memory of a file without a name, and the folder that it is in."""

    folder: Path


def folder_of(array: Any) -> Path | None:
    """Return the folder of the file whose pages an array is; None if in memory."""
    while isinstance(array, np.ndarray | memoryview):
        if isinstance(array, np.memmap) and array.filename is not None:
            return Path(array.filename).parent
        array = array.obj if isinstance(array, memoryview) else array.base
    return array.folder if isinstance(array, _File) else None


def empty_like(
    table: NDArray[Any], shape: tuple[int, ...], dtype: DTypeLike
) -> NDArray[Any]:
    """Return an array that is made of a table's rows, to be filled by the caller.

    It is in a file if it is large and the table itself is in one. It is in memory where
    that folder cannot be written to, or is full.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    folder = folder_of(table)
    if folder is None or size < LEAST_BYTES:
        return np.empty(shape, dtype)
    try:
        memory = _reserve(folder, size)
    except OSError:
        return np.empty(shape, dtype)
    return np.frombuffer(memory, dtype).reshape(shape)


def take(
    table: NDArray[Any],
    rows: NDArray[np.intp] | slice,
    columns: NDArray[np.intp] | None = None,
) -> NDArray[Any]:
    """Return rows of a table, or some columns of them.

    They are a view if the rows are a slice and all columns are wanted; otherwise a copy
    that is made as `empty_like` does.
    """
    if isinstance(rows, slice):
        if columns is None:
            return table[rows]
        rows = np.arange(len(table))[rows]
    rows = np.asarray(rows)
    if rows.dtype == bool or not ((rows >= 0) & (rows < len(table))).all():
        rows = np.arange(len(table))[rows]
    rest = table.shape[1:] if columns is None else (len(columns),)
    out = empty_like(table, (len(rows), *rest), table.dtype)
    step = max(1, LEAST_BYTES // max(1, table[:1].nbytes))
    for block in row_blocks(len(rows), 1, step):
        chosen = table[as_slice(rows[block])]
        out[block] = chosen if columns is None else chosen[:, columns]
    return out


def _reserve(folder: Path, size: int) -> _File:
    with tempfile.TemporaryFile(dir=folder) as stream:
        # Disk that is only promised would end the process when it is written to.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(stream.fileno(), 0, size)
        else:
            for start in range(0, size, LEAST_BYTES):
                stream.write(bytes(min(LEAST_BYTES, size - start)))
            stream.flush()
        memory = _File(stream.fileno(), size)
    memory.folder = folder
    return memory


def give_back() -> None:
    """Give freed memory back to the system, where the C library keeps it otherwise."""
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
