"""Random numbers that depend only on seed, step and row.

A step that is repeated, resumed, or shared out among processes draws the same numbers
for the same row. On the CPU each block of rows has a fast generator, whose raw bytes
are compared with thresholds (an eighth of the time of ``bernoulli_``). On a GPU the
device's own generator draws for all rows of the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from numerai_features.nn._threads import cut, each

BLOCK = 512
"""Rows per generator; their cells stay in the L2 cache."""

ORDER, TRAINING, VALIDATION, INITIAL = range(4)
"""Purposes of the streams of numbers; streams are independent."""


class Draws:
    """Draws for the rows of one batch.

    Parameters
    ----------
    seed : int
        Seed of the model.
    stream, step : int
        Purpose of the numbers, and number of earlier batches.
    n_rows : int
        Rows of the whole batch.
    own : slice, default=None
        The rows that this process works on, in whole blocks; all by default.
    device : torch.device, default=cpu
        Where the numbers are needed.
    """

    def __init__(
        self,
        seed: int,
        stream: int,
        step: int,
        n_rows: int,
        own: slice | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.n_rows = n_rows
        self.own = own or slice(0, n_rows)
        self.device = device or torch.device("cpu")
        self._key = (seed, stream, step)
        self._calls = 0
        self._rngs: dict[tuple[int, ...], np.random.Generator] = {}

    @property
    def n_own(self) -> int:
        """Rows of this process."""
        return int(self.own.stop - self.own.start)

    def bytes(self, width: int) -> Tensor:
        """Return uint8 of shape (n_own, width)."""
        if self.device.type != "cpu":
            return torch.randint(
                0, 256, (self.n_rows, width), dtype=torch.uint8,
                device=self.device, generator=self.generator(),
            )[self.own]  # fmt: skip
        out = np.empty((self.n_own, width), np.uint8)

        def fill(block: tuple[slice, np.random.Generator]) -> None:
            cells, rng = out[block[0]], block[1]
            words = rng.bit_generator.random_raw(-(-cells.size // 8))
            cells[:] = words.view(np.uint8)[: cells.size].reshape(cells.shape)

        each(fill, self.blocks())
        return torch.from_numpy(out)

    def chosen(
        self, share: float, width: int, dtype: torch.dtype = torch.bool
    ) -> Tensor:
        """Return a mask (n_own, width) of cells, each chosen with probability `share`.

        A byte has only 256 thresholds: each step draws the one above or below
        ``256 * share`` such that the mean rate is `share`. Ones and zeros of another
        type cost no more than booleans.
        """
        threshold = int(256 * share + self.rng.random())
        cells = self.bytes(width)
        if self.device.type != "cpu":
            return (cells.to(torch.int16) < threshold).to(dtype)
        out = torch.empty(cells.shape, dtype=dtype)
        if threshold > 255:
            return out.fill_(1)
        least = torch.tensor(threshold, dtype=torch.uint8)
        blocks = cut(len(cells), len(cells) // BLOCK, 1)
        each(lambda rows: torch.lt(cells[rows], least, out=out[rows]), blocks)
        return out

    def normal(self, width: int) -> Tensor:
        """Return standard normal float32 of shape (n_own, width).

        On the CPU they are quantiles of 16 random bits: 65,536 values of unit variance.
        """
        if self.device.type != "cpu":
            size, generator = (self.n_rows, width), self.generator()
            cells = torch.randn(size, device=self.device, generator=generator)
            return cells[self.own]
        words = self.bytes(2 * width).numpy().view(np.uint16)
        return torch.from_numpy(_normal_quantiles().take(words))

    @property
    def rng(self) -> np.random.Generator:
        """Generator of the draws made once per batch, the same in all processes."""
        return self._rng()

    def blocks(self) -> Iterator[tuple[slice, np.random.Generator]]:
        """Yield (rows, generator) of this process's blocks; its first row is 0."""
        first = self.own.start
        for start in range(first, self.own.stop, BLOCK):
            stop = min(start + BLOCK, self.own.stop)
            yield slice(start - first, stop - first), self._rng(start // BLOCK)

    def generator(self) -> torch.Generator:
        """Return a new generator on the device, for all rows of the batch."""
        self._calls += 1
        return torch_generator(self.device, *self._key, self._calls)

    def _rng(self, *block: int) -> np.random.Generator:
        """Return the generator of the batch or of a block, in its current state."""
        if block not in self._rngs:
            key = (*self._key, 1 + len(block), *block)
            self._rngs[block] = numpy_generator(*key)
        return self._rngs[block]


def numpy_generator(seed: int, *key: int) -> np.random.Generator:
    """Return a fast numpy generator for a seed and a purpose."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, *key])))


def torch_generator(device: torch.device, seed: int, *key: int) -> torch.Generator:
    """Return a torch generator for a seed and a purpose."""
    state = np.random.SeedSequence([seed, *key]).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(state[0] >> 1))


@cache
def _normal_quantiles() -> NDArray[np.float32]:
    from scipy.special import ndtri

    quantiles = ndtri((np.arange(1 << 16) + 0.5) / (1 << 16))
    return np.asarray(quantiles / quantiles.std(), np.float32)
