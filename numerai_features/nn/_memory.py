"""Large tables of a training step, whose memory the next step uses again."""

from __future__ import annotations

import math
import weakref
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_LARGE = 1 << 22
_SLACK = 1.25  # a buffer may be so much larger than a table
_ALIGNED = 64  # bytes, as torch aligns its own


class Memory:
    """Buffers that are used again as soon as no tensor refers to them.

    The C library returns a table of more than 32 MB to the system when it is freed, so
    its pages are faulted in again in every step: that takes longer than a layer's
    normalisation. numpy's large arrays also have huge pages, where Linux has them.
    """

    def __init__(self) -> None:
        self._free: list[NDArray[np.uint8]] = []
        # Tensors are freed at any time, in any thread: only this queue can bear that.
        self._returned: SimpleQueue[NDArray[np.uint8]] = SimpleQueue()

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return a contiguous tensor on the CPU, with any numbers."""
        size = math.prod(shape) * dtype.itemsize
        if size < _LARGE:
            return torch.empty(shape, dtype=dtype)
        buffer = self._take(size + _ALIGNED)
        # The tensor's storage refers to this view, and to nothing else of ours.
        view = buffer[:]
        weakref.finalize(view, self._returned.put, buffer).atexit = False
        storage = torch.from_numpy(view).untyped_storage()
        start = -storage.data_ptr() % _ALIGNED // dtype.itemsize
        return torch.empty(0, dtype=dtype).set_(storage, start, shape)  # type: ignore[call-overload, no-any-return]

    def _take(self, size: int) -> NDArray[Any]:
        """Return the smallest free buffer that fits, or a new one."""
        while not self._returned.empty():
            self._free.append(self._returned.get())
        fitting = [b for b in self._free if size <= len(b) <= _SLACK * size]
        if fitting:
            found = min(fitting, key=len)
            self._free = [b for b in self._free if b is not found]
            return found
        # The new one replaces those that are a little too small.
        self._free = [b for b in self._free if not size / _SLACK <= len(b) < size]
        return np.empty(size, np.uint8)
