"""Rows of a table in a file, asked for before they are used.

Batches of random rows of a file that memory cannot hold would wait for the disk row by
row, and the system would read megabytes around each, and so drop what is needed next.
Where it is told that rows come in any order, and which the next batch needs, it reads
these alone, and all at once, while the network computes.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SAMPLE = 1000  # rows
_ENOUGH = 0.98  # of them are in memory: then nothing is asked for


class Ahead:
    """The rows of a table that is mapped from a file; does nothing for others.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
    """

    def __init__(self, X: NDArray[Any]) -> None:
        self._ordered = True
        file = _file_of(X) if X.flags.c_contiguous and X.size else None
        self._file = file if sys.platform.startswith("linux") else None
        if self._file is None:
            return
        self._start = np.frombuffer(self._file, np.uint8).ctypes.data
        self._offset = X.ctypes.data - self._start
        self._row_bytes = X.nbytes // len(X)

    def is_needed(self, rows: NDArray[np.intp]) -> bool:
        """Whether some of the rows are not in memory, as a sample tells."""
        if self._file is None or _mincore() is None or not len(rows):
            return False
        sample = rows[:: -(-len(rows) // _SAMPLE)]
        found = [self._is_in_memory(*pages) for pages in self._pages(sample)]
        return sum(found) < _ENOUGH * len(found)

    @contextmanager
    def in_order(self, ordered: bool) -> Iterator[None]:
        """Tell the system whether rows are read in order in a block."""
        before, self._ordered = self._ordered, ordered
        self._tell()
        try:
            yield
        finally:
            self._ordered = before
            self._tell()

    def _tell(self) -> None:
        if self._file is not None:
            normal, random = mmap.MADV_NORMAL, mmap.MADV_RANDOM
            self._file.madvise(normal if self._ordered else random)

    def ask_for(self, rows: NDArray[np.intp]) -> None:
        """Ask for rows, without waiting for them."""
        if self._file is None:
            return
        for first, stop in self._pages(rows):
            self._file.madvise(mmap.MADV_WILLNEED, first, stop - first)

    def _pages(self, rows: NDArray[np.intp]) -> Iterator[tuple[int, int]]:
        """Yield the places of runs of pages in the file's memory, in bytes."""
        starts = self._offset + np.sort(rows) * self._row_bytes
        firsts = starts // mmap.PAGESIZE
        stops = (starts + self._row_bytes - 1) // mmap.PAGESIZE + 1
        gaps = np.flatnonzero(firsts[1:] > stops[:-1]) + 1
        firsts, stops = firsts[np.r_[0, gaps]], stops[np.r_[gaps - 1, len(stops) - 1]]
        sizes = (mmap.PAGESIZE * np.stack([firsts, stops])).tolist()
        yield from zip(*sizes, strict=True)

    def _is_in_memory(self, first: int, stop: int) -> bool:
        n_pages = (stop - first) // mmap.PAGESIZE
        found = (ctypes.c_ubyte * n_pages)()
        failed = _mincore()(ctypes.c_void_p(self._start + first), stop - first, found)
        return bool(failed) or all(byte & 1 for byte in found)


def _file_of(X: Any) -> mmap.mmap | None:
    """Return the mapped file whose memory an array is, if any."""
    while isinstance(X, np.ndarray | memoryview):
        X = X.obj if isinstance(X, memoryview) else X.base
    return X if isinstance(X, mmap.mmap) else None


@cache
def _mincore() -> Any:
    """Return the system call that tells which pages are in memory, or None."""
    call = getattr(ctypes.CDLL(None), "mincore", None)
    if call is not None:
        call.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    return call
