"""Batches from a table that stays at one byte per cell.

Rows are gathered on the network's device; nothing is cast before that.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import nullcontext
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from numerai_features._blocks import row_blocks, rows_by_code
from numerai_features.nn._ahead import Ahead
from numerai_features.nn._draws import (
    ORDER,
    TRAINING,
    VALIDATION,
    Draws,
    numpy_generator,
)
from numerai_features.nn._parallel import share_of
from numerai_features.nn._passes import blocks_of
from numerai_features.nn._threads import each

_BYTES = (np.dtype(np.int8), np.dtype(np.uint8))
_MOST_OF_THE_GPU = 0.7
_UPLOAD_BYTES = 64 << 20
_TINY = 1e-30
FEWEST_ROWS = 16  # of a batch: the variance of few rows is noisy, of one undefined


class Table:
    """Features (bytes or floats), weights and targets to gather on a device.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
        int8 and uint8 stay as they are; other types are standardised to float32 when
        rows are gathered. May be memory-mapped.
    center, scale : ndarray of shape (n_features,)
        Mean and standard deviation of each column; 0 for one that is constant.
    device : torch.device
        A GPU with enough free memory holds the table; otherwise rows are sent as
        needed.
    weights : ndarray of shape (n_rows,), default=None
        Weights of the rows in losses.
    targets : ndarray of shape (n_rows, n_targets), default=None
        Targets; NaN where unknown.
    """

    def __init__(
        self,
        X: NDArray[Any],
        center: NDArray[np.float64],
        scale: NDArray[np.float64],
        device: torch.device,
        weights: NDArray[np.floating] | None = None,
        targets: NDArray[np.floating] | None = None,
    ) -> None:
        self.X = X
        self.device = device
        self.weights, self.targets = (
            None if values is None else np.asarray(values, np.float32)
            for values in (weights, targets)
        )
        self.in_bytes = X.dtype in _BYTES
        self.n_varying = int((scale > 0).sum())
        self.varies = torch.as_tensor(scale > 0, dtype=torch.float32)
        # A column that is constant in training is so in all rows that are taken: the
        # encoder of the trained network ignores it, too.
        self._constant = np.flatnonzero(scale == 0)
        if self.in_bytes:  # a mean of floats, in an earlier fit, may be no byte
            limits = np.iinfo(X.dtype)
            whole = np.clip(np.rint(center), limits.min, limits.max)
            center = np.where(scale > 0, center, whole)
        self._center = center
        self._scale = np.where(scale > 0, scale, np.inf)
        scale = np.where(scale > 0, scale, 1.0)
        # The standardisation that the network still applies to the gathered rows.
        raw = (center, scale) if self.in_bytes else (0 * center, 0 * scale + 1)
        self.center, self.scale = (torch.as_tensor(a, dtype=torch.float32) for a in raw)
        self._resident = self._upload() if self._fits() else None
        self.ahead = Ahead(X) if self._resident is None else None

    @cached_property
    def squares(self) -> NDArray[np.float32]:
        """Sum of squares of each row's standardised cells, (n_rows,)."""
        out = np.empty(self.n_rows, np.float32)
        center, scale = (a.astype(np.float32) for a in (self._center, self._scale))
        with nullcontext() if self.ahead is None else self.ahead.in_order(True):
            for rows in row_blocks(*self.X.shape):
                block = self.X[rows]
                if self.in_bytes:
                    t = (block - center) / scale
                else:
                    t = self._standardize(block)
                np.einsum("ij,ij->i", t, t, out=out[rows])
        return out

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.X)

    @property
    def n_features(self) -> int:
        """Number of columns."""
        return int(self.X.shape[1])

    def as_taken(self, values: NDArray[Any]) -> Tensor:
        """Return values of the columns, (n_features,), on the scale of `take`."""
        values = np.asarray(values, np.float64)
        if not self.in_bytes:
            values = self._standardize(values)
        return torch.as_tensor(values, dtype=torch.float32)

    def take(self, rows: NDArray[np.intp]) -> Tensor:
        """Return the features of some rows, (n, n_features)."""
        if self._resident is not None:
            index = torch.from_numpy(np.array(rows)).to(self.device)
            return self._resident.index_select(0, index)
        taken = torch.from_numpy(self._gather(rows))
        return taken.to(self.device, non_blocking=True)

    def values(self, values: NDArray[Any], rows: NDArray[np.intp]) -> Tensor:
        """Return the items of some rows of an array with one item per row."""
        return torch.from_numpy(values[rows]).to(self.device)

    def _gather(self, rows: NDArray[np.intp]) -> NDArray[Any]:
        out = np.empty((len(rows), self.n_features), self.X.dtype)

        def fill(block: slice) -> None:
            np.take(self.X, rows[block], axis=0, out=out[block], mode="clip")

        each(fill, blocks_of(out))
        if not self.in_bytes:
            return self._standardize(out)
        if len(self._constant):
            out[:, self._constant] = self._center[self._constant]
        return out

    def _standardize(self, block: NDArray[Any]) -> NDArray[np.float32]:
        return ((block - self._center) / self._scale).astype(np.float32)

    def _fits(self) -> bool:
        if self.device.type != "cuda":
            return False
        free, _ = torch.cuda.mem_get_info(self.device)
        width = 1 if self.in_bytes else 4
        return self.X.size * width < _MOST_OF_THE_GPU * free

    def _upload(self) -> Tensor:
        dtype = getattr(torch, self.X.dtype.name) if self.in_bytes else torch.float32
        resident = torch.empty(self.X.shape, dtype=dtype, device=self.device)
        step = max(1, _UPLOAD_BYTES // max(1, self.X[:1].nbytes))
        for start in range(0, self.n_rows, step):
            rows = np.arange(start, min(start + step, self.n_rows))
            resident[start : start + step] = torch.from_numpy(self._gather(rows))
        return resident


class Batch:
    """Rows of one step.

    Parameters
    ----------
    table : Table
    rows : ndarray of int
        All rows of the step.
    draws : Draws
        Random numbers for the rows; ``draws.own`` are the rows of this process.
    eras : ndarray of shape (n_rows,), default=None
        Era codes of the rows of the step.

    Attributes
    ----------
    x : Tensor of shape (n_own, n_features)
        The rows of this process, on the table's scale.
    weight : Tensor of shape (n_own,) or None
        Their weights.
    n_rows : int
        Number of all rows of the step.
    total : Tensor
        Sum of their weights.
    y : Tensor of shape (n_own, n_targets) or None
        Targets; NaN where unknown.
    """

    def __init__(
        self,
        table: Table,
        rows: NDArray[np.intp],
        draws: Draws,
        eras: NDArray[np.int32] | None = None,
    ) -> None:
        self.draws = draws
        self._table, self._rows, self._eras = table, rows[draws.own], eras
        self.x = table.take(self._rows)
        self.n_rows = len(rows)
        self.total = torch.tensor(float(len(rows)), device=table.device)
        self.weight = self.y = None
        if table.weights is not None:
            weights = table.values(table.weights, rows)
            # all may be lighter than a float32 can tell
            self.total, self.weight = weights.sum().clamp(min=_TINY), weights[draws.own]
        if table.targets is not None:
            self.y = table.values(table.targets, self._rows)

    @property
    def importance(self) -> Tensor:
        """Mean weight of the rows of the step; that of all training rows is near 1."""
        return self.total / self.n_rows

    @cached_property
    def squares(self) -> Tensor:
        """Sum of squares of each own row's standardised cells, (n_own,)."""
        return self._table.values(self._table.squares, self._rows)

    @cached_property
    def members(self) -> Tensor:
        """1 where an own row belongs to an era of the step, (n_eras, n_own), float64.

        If the step has no eras, its rows count as one.
        """
        if self._eras is None:
            return self.x.new_ones((1, len(self.x)), dtype=torch.float64)
        _, codes = np.unique(self._eras, return_inverse=True)
        every = np.arange(codes.max() + 1)[:, None]
        members = (codes[self.draws.own] == every).astype(np.float64)
        return torch.from_numpy(members).to(self.x.device)

    @cached_property
    def era_slices(self) -> list[slice]:
        """Own rows of each era; eras lie one after the other.

        If the step has no eras, its rows count as one.
        """
        n = self.draws.n_own
        if self._eras is None:
            return [slice(0, n)]
        own = self._eras[self.draws.own]
        borders = [0, *(np.flatnonzero(np.diff(own)) + 1).tolist(), n]
        return [slice(*pair) for pair in pairwise(borders)]

    @cached_property
    def same_era(self) -> Tensor | None:
        """Whether own rows and rows of the step share an era, (n_own, n_rows).

        None if the step has no eras, or one.
        """
        if self._eras is None or (self._eras == self._eras[0]).all():
            return None
        own = self._eras[self.draws.own]
        return torch.from_numpy(own[:, None] == self._eras).to(self.x.device)

    def tensors(self, *, squares: bool) -> dict[str, Tensor]:
        """Return the batch's tensors by name, with or without the sums of squares."""
        names = ["x", "total", "weight", "y", *(["squares"] if squares else [])]
        found = {name: getattr(self, name) for name in names}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def with_tensors(self, tensors: dict[str, Tensor]) -> Batch:
        """Return a batch with the same draws and these tensors."""
        other = copy.copy(self)
        vars(other).update(tensors)
        return other


class RowBatches:
    """Batches of random rows: each row once per epoch, sizes differ by at most one.

    No batch has a single row, which batch normalisation cannot use.

    Parameters
    ----------
    table : Table
    seed : int
        Seed of the order of rows and of the draws.
    rows : ndarray of int
        Training rows.
    batch_size : int
        Largest number of rows in a batch, over all processes; with 2 and an odd number
        of rows, some batches have 3.
    """

    def __init__(
        self, table: Table, seed: int, rows: NDArray[np.intp], batch_size: int
    ) -> None:
        self.table, self.seed, self.rows = table, seed, rows
        self.n_steps = min(-(-len(rows) // batch_size), max(1, len(rows) // 2))
        self.rows_per_step = len(rows) / self.n_steps

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from step `first` on."""
        order = numpy_generator(self.seed, ORDER, number).permutation(self.rows)
        cuts = [step * len(order) // self.n_steps for step in range(self.n_steps + 1)]
        parts = [order[start:stop] for start, stop in pairwise(cuts)]
        for step, rows in _read_ahead(self.table, parts, first):
            place = number * self.n_steps + step
            yield _to_train_on(self.table, self.seed, place, rows)


class EraBatches:
    """Batches of all rows of one era, or of several; eras in random order.

    An era of fewer than 16 rows, such as a live one, shares the batch of a neighbouring
    era: batch normalisation cannot use a single row, and running moments of such
    batches would blow up later rows.

    Parameters
    ----------
    table : Table
    seed : int
        Seed of the order of eras and of the draws.
    rows : ndarray of int
        Training rows.
    eras : ndarray of shape (n_rows,)
        Era codes of the table's rows.
    per_batch : int, default=1
        Largest number of eras in a batch; the numbers differ by at most one.
    """

    def __init__(
        self,
        table: Table,
        seed: int,
        rows: NDArray[np.intp],
        eras: NDArray[np.int32],
        per_batch: int = 1,
    ) -> None:
        self.table, self.seed, self.codes = table, seed, eras
        self.eras = _with_neighbours(_by_era(rows, eras))
        self.n_steps = -(-len(self.eras) // per_batch)
        self.rows_per_step = len(rows) / self.n_steps

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from step `first` on."""
        order = numpy_generator(self.seed, ORDER, number).permutation(len(self.eras))
        groups = np.array_split(order, self.n_steps)
        parts = [np.concatenate([self.eras[i] for i in group]) for group in groups]
        for step, rows in _read_ahead(self.table, parts, first):
            place = number * self.n_steps + step
            yield _to_train_on(self.table, self.seed, place, rows, self.codes[rows])


class HeldOutBatches:
    """Held-out batches: the same rows, order and draws each time.

    Every process evaluates all batches.

    Parameters
    ----------
    table : Table
    seed : int
        Seed of the draws.
    rows : ndarray of int
    batch_size : int
    eras : ndarray of shape (n_rows,), default=None
        Era codes of the table's rows: then each era is one batch, whatever its size.
    """

    def __init__(
        self,
        table: Table,
        seed: int,
        rows: NDArray[np.intp],
        batch_size: int,
        eras: NDArray[np.int32] | None = None,
    ) -> None:
        self.table, self.seed = table, seed
        cuts = np.arange(batch_size, len(rows), batch_size)
        self.parts = np.split(rows, cuts) if eras is None else _by_era(rows, eras)

    def __iter__(self) -> Iterator[Batch]:
        start = 0
        for rows in self.parts:
            draws = Draws(
                self.seed, VALIDATION, start, len(rows), device=self.table.device
            )
            yield Batch(self.table, rows, draws)
            start += len(rows)


def _read_ahead(
    table: Table, parts: list[NDArray[np.intp]], first: int
) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Yield the steps from `first` on and their rows, and ask for those of the next."""
    ahead = table.ahead
    some = parts[first :: max(1, len(parts) // 20)]
    if ahead is None or not some or not ahead.is_needed(np.concatenate(some)):
        yield from enumerate(parts[first:], first)
        return
    with ahead.in_order(False):
        for step in range(first, len(parts)):
            for rows in parts[step + (step > first) : step + 2]:
                ahead.ask_for(rows[share_of(len(rows))])
            yield step, parts[step]


def _to_train_on(
    table: Table,
    seed: int,
    step: int,
    rows: NDArray[np.intp],
    eras: NDArray[np.int32] | None = None,
) -> Batch:
    """Return this process's batch of a step; steps count from the first epoch."""
    draws = Draws(seed, TRAINING, step, len(rows), share_of(len(rows)), table.device)
    return Batch(table, rows, draws, eras)


def _by_era(rows: NDArray[np.intp], eras: NDArray[np.int32]) -> list[NDArray[np.intp]]:
    """Return the rows of each era, in order."""
    return [rows[mine] for mine in rows_by_code(eras[rows])]


def _with_neighbours(eras: list[NDArray[np.intp]]) -> list[NDArray[np.intp]]:
    """Return the rows of eras; small eras are merged with neighbouring ones."""
    groups: list[list[NDArray[np.intp]]] = [[]]
    for mine in eras:
        if sum(map(len, groups[-1])) >= FEWEST_ROWS:
            groups.append([])
        groups[-1].append(mine)
    if len(groups) > 1 and sum(map(len, groups[-1])) < FEWEST_ROWS:
        rest = groups.pop()
        groups[-1] += rest
    return [np.concatenate(group) for group in groups]
