"""Corruption of a batch of rows, cell by cell.

Tables are ``(n_rows, n_features)``. No function changes its input.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from numerai_features.nn._draws import BLOCK, Draws
from numerai_features.nn._threads import cut, each, shares_out

_CELLS = 1 << 17  # of a block that stays in the cache


def swap(x: Tensor, share: float, draws: Draws) -> Tensor:
    """Replace cells by the same column's value in another row, drawn per cell.

    The donor row is in the same block of `BLOCK` rows of the batch. On the CPU only
    swapped cells are touched. The number of exchanges among the n cells of a block is
    drawn from a Poisson distribution of mean ``-n log(1 - share) / 2``. For each
    exchange a pair of rows and a column are drawn, with replacement, and the two cells
    take each other's value. So each cell is hit with probability `share`, independently
    of the other cells of its row; if it is hit twice, the last donor stays. A block of
    a single row is not changed.

    Parameters
    ----------
    x : Tensor of shape (n_own, n_features)
    share : float
        Probability that a cell is replaced.
    draws : Draws

    Returns
    -------
    Tensor of shape (n_own, n_features)
    """
    if draws.n_rows < 2 or share <= 0:
        return x.clone()
    if x.device.type == "cpu":
        return _exchange(x, share, draws)
    own = torch.arange(draws.own.start, draws.own.stop, device=x.device)
    first = own // BLOCK * BLOCK
    length = (draws.n_rows - first).clamp(max=BLOCK)  # of each row's block
    chosen = draws.chosen(share, x.shape[1])
    size, generator = (draws.n_rows, x.shape[1]), draws.generator()
    shift = torch.rand(size, device=x.device, generator=generator)[draws.own]
    shift = 1 + (shift * (length[:, None] - 1)).long()  # 1 .. length - 1, or 1
    donors = (own - first)[:, None] + shift
    donors = first[:, None] + donors % length[:, None] - draws.own.start
    return torch.where(chosen, x.gather(0, donors), x)


def _exchange(x: Tensor, share: float, draws: Draws) -> Tensor:
    n_features = x.shape[1]
    rate = -np.log1p(-share) / 2
    low, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    source = x.contiguous().numpy()
    out = source.copy()

    def swap_in(block: tuple[slice, np.random.Generator]) -> None:
        rows, rng = block
        before = source[rows].reshape(-1)
        after = out[rows].reshape(-1)
        n_rows = rows.stop - rows.start
        if n_rows < 2:
            return
        words = rng.bit_generator.random_raw(int(rng.poisson(rate * before.size)))
        # Two halves of 32 bits: a cell, and the distance in rows to the other cell,
        # from 1 to n_rows - 1, wrapping around at the end.
        other = words >> shift
        cell = words
        cell &= low
        cell *= np.uint64(before.size)
        cell >>= shift
        other *= np.uint64(n_rows - 1)
        other >>= shift
        other += np.uint64(1)
        other *= np.uint64(n_features)
        other += cell
        # An unsigned number below zero wraps to a huge one.
        np.minimum(other, other - np.uint64(before.size), out=other)
        i, j = cell.view(np.int64), other.view(np.int64)
        after[i], after[j] = before.take(j), before.take(i)

    each(swap_in, draws.blocks())
    return torch.from_numpy(out)


def mask(x: Tensor, share: float, middle: Tensor, draws: Draws) -> Tensor:
    """Set cells to their column's middle value, each with probability `share`.

    Parameters
    ----------
    x : Tensor of shape (n_own, n_features)
    share : float
    middle : Tensor of shape (n_features,)
        In the type of x.
    draws : Draws
    """
    return torch.where(draws.chosen(share, x.shape[1]), middle, x)


def cut_out(x: Tensor, share: float, middle: Tensor, draws: Draws) -> Tensor:
    """Set whole columns of the batch to their middle value.

    Parameters
    ----------
    x : Tensor of shape (n_own, n_features)
    share : float
        Share of the columns to set.
    middle : Tensor of shape (n_features,)
        In the type of x.
    draws : Draws
    """
    n_features = x.shape[1]
    n_cut = int(share * n_features + draws.rng.random())
    cut = torch.zeros(n_features, dtype=torch.bool)
    cut[draws.rng.permutation(n_features)[:n_cut]] = True
    return torch.where(cut.to(x.device), middle, x)


def resample(x: Tensor, share: float, quantiles: Tensor, draws: Draws) -> Tensor:
    """Replace cells by draws from the marginal distribution of their column.

    Parameters
    ----------
    x : Tensor of shape (n_own, n_features)
    share : float
        Probability that a cell is replaced.
    quantiles : Tensor of shape (256, n_features)
        Of each column, evenly spaced, in the type of x: one is drawn.
    draws : Draws
    """
    chosen, drawn = draws.chosen(share, x.shape[1]), draws.bytes(x.shape[1])
    if not shares_out(x):
        return torch.where(chosen, quantiles.gather(0, drawn.long()), x)
    out = torch.empty_like(x)

    def fill(rows: slice) -> None:
        cells = quantiles.gather(0, drawn[rows].long())
        torch.where(chosen[rows], cells, x[rows], out=out[rows])

    each(fill, cut(len(x), x.numel() // _CELLS, 1))
    return out


def add_gaussian(
    x: Tensor, level: float, center: Tensor, scale: Tensor, draws: Draws, relative: bool
) -> Tensor:
    """Add normal noise of `level` standard deviations of the column.

    Parameters
    ----------
    x : Tensor of shape (n_own, n_features), float
    level : float
        Standard deviation of the noise, in standard deviations of the column.
    center, scale : Tensor of shape (n_features,)
        Mean and standard deviation of each column.
    draws : Draws
    relative : bool
        Multiply the noise by the standardised value, as the forum's variant does.
    """
    noise = draws.normal(x.shape[1]).mul_(level)
    return noise.mul_(x - center if relative else scale).add_(x)
