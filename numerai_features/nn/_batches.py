"""Batches from a table that stays one byte a cell.

A table is gathered by rows where the network is; nothing is cast before that.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from numerai_features._blocks import row_blocks, rows_by_code
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
FEWEST_ROWS = 16  # of a batch: of few rows the variance says little, of one nothing


class Table:
    """Rows to be gathered on a device: features, bytes or floats, and what goes along.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
        int8 and uint8 stay as they are; all else is standardised to float32 where it
        is gathered. May be memory-mapped.
    center, scale : ndarray of shape (n_features,)
        Mean and standard deviation of each column; 0 for one that is constant.
    device : torch.device
        A GPU that has room for it keeps the table; else its rows are sent as needed.
    weights : ndarray of shape (n_rows,), default=None
        Of the rows in losses.
    targets : ndarray of shape (n_rows, n_targets), default=None
        NaN where they are not known.
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
        # Floats of a constant column are 0, also of rows in which it varies.
        self._center = center
        self._scale = np.where(scale > 0, scale, 1.0 if self.in_bytes else np.inf)
        scale = np.where(scale > 0, scale, 1.0)
        # What a network still has to do to the rows that it is handed.
        raw = (center, scale) if self.in_bytes else (0 * center, 0 * scale + 1)
        self.center, self.scale = (torch.as_tensor(a, dtype=torch.float32) for a in raw)
        self._resident = self._upload() if self._fits() else None

    @cached_property
    def squares(self) -> NDArray[np.float32]:
        """Sum of squares of each row's standardised cells, (n_rows,)."""
        out = np.empty(self.n_rows, np.float32)
        center, scale = (a.astype(np.float32) for a in (self._center, self._scale))
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
        """Return values of the columns, (n_features,), as they are in rows taken."""
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
        """Return what some rows have of an array with one item a row."""
        return torch.from_numpy(values[rows]).to(self.device)

    def _gather(self, rows: NDArray[np.intp]) -> NDArray[Any]:
        out = np.empty((len(rows), self.n_features), self.X.dtype)

        def fill(block: slice) -> None:
            np.take(self.X, rows[block], axis=0, out=out[block], mode="clip")

        each(fill, blocks_of(out))
        return out if self.in_bytes else self._standardize(out)

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
        Random numbers for them; ``draws.own`` tells which are this process's.

    Attributes
    ----------
    x : Tensor of shape (n_own, n_features)
        The rows of this process, as the table has them.
    weight : Tensor of shape (n_own,) or None
        Their weights.
    total : Tensor
        Sum of the weights of all rows of the step.
    y : Tensor of shape (n_own, n_targets) or None
        Targets; NaN where they are not known.
    """

    def __init__(self, table: Table, rows: NDArray[np.intp], draws: Draws) -> None:
        self.draws = draws
        self._table, self._rows = table, rows[draws.own]
        self.x = table.take(self._rows)
        self.total = torch.tensor(float(len(rows)), device=table.device)
        self.weight = self.y = None
        if table.weights is not None:
            weights = table.values(table.weights, rows)
            self.total, self.weight = weights.sum(), weights[draws.own]
        if table.targets is not None:
            self.y = table.values(table.targets, self._rows)

    @cached_property
    def squares(self) -> Tensor:
        """Sum of squares of each own row's standardised cells, (n_own,)."""
        return self._table.values(self._table.squares, self._rows)

    def tensors(self, *, squares: bool) -> dict[str, Tensor]:
        """Return its tensors by name, with or without the sums of squares."""
        names = ["x", "total", "weight", "y", *(["squares"] if squares else [])]
        found = {name: getattr(self, name) for name in names}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def with_tensors(self, tensors: dict[str, Tensor]) -> Batch:
        """Return a batch with the same draws and these tensors."""
        other = copy.copy(self)
        vars(other).update(tensors)
        return other


class RowBatches:
    """Random rows; every row once an epoch, batches of sizes that differ by one.

    No batch is of one row, of which batch normalisation makes nothing.

    Parameters
    ----------
    table : Table
    seed : int
        Of the rows' order, and of the draws.
    rows : ndarray of int
        Those to train on.
    batch_size : int
        Most rows a batch, over all processes; of 2, the batches of an odd number of
        rows have 3.
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
        for step in range(first, self.n_steps):
            start = step * len(order) // self.n_steps
            stop = (step + 1) * len(order) // self.n_steps
            rows = order[start:stop]
            place = number * self.n_steps + step
            yield _to_train_on(self.table, self.seed, place, rows)


class EraBatches:
    """One era a batch, all its rows; eras in random order.

    An era of fewer than 16 rows, such as a live one, shares the batch of an era beside
    it: batch normalisation makes nothing of a single row, and what it remembers of
    several such batches blows up all rows that come later.

    Parameters
    ----------
    table : Table
    seed : int
        Of the eras' order, and of the draws.
    rows : ndarray of int
        Those to train on.
    eras : ndarray of shape (n_rows,)
        Era codes of the table's rows.
    """

    def __init__(
        self,
        table: Table,
        seed: int,
        rows: NDArray[np.intp],
        eras: NDArray[np.int32],
    ) -> None:
        self.table, self.seed = table, seed
        self.eras = _with_neighbours(_by_era(rows, eras))
        self.n_steps = len(self.eras)
        self.rows_per_step = len(rows) / self.n_steps

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from step `first` on."""
        order = numpy_generator(self.seed, ORDER, number).permutation(self.n_steps)
        for step in range(first, self.n_steps):
            rows = self.eras[order[step]]
            place = number * self.n_steps + step
            yield _to_train_on(self.table, self.seed, place, rows)


class HeldOutBatches:
    """The same rows in the same order, with the same draws each time.

    Every process goes over all of them.

    Parameters
    ----------
    table : Table
    seed : int
        Of the draws.
    rows : ndarray of int
    batch_size : int
    eras : ndarray of shape (n_rows,), default=None
        Era codes of the table's rows: makes an era a batch, whatever its size.
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


def _to_train_on(table: Table, seed: int, step: int, rows: NDArray[np.intp]) -> Batch:
    """Return the rows of one step, counted from the first epoch's, in our share."""
    own = share_of(len(rows))
    return Batch(table, rows, Draws(seed, TRAINING, step, len(rows), own, table.device))


def _by_era(rows: NDArray[np.intp], eras: NDArray[np.int32]) -> list[NDArray[np.intp]]:
    """Return the rows of each era, in order."""
    return [rows[mine] for mine in rows_by_code(eras[rows])]


def _with_neighbours(eras: list[NDArray[np.intp]]) -> list[NDArray[np.intp]]:
    """Return the rows of eras, those of small eras with others beside them."""
    groups: list[list[NDArray[np.intp]]] = [[]]
    for mine in eras:
        if sum(map(len, groups[-1])) >= FEWEST_ROWS:
            groups.append([])
        groups[-1].append(mine)
    if len(groups) > 1 and sum(map(len, groups[-1])) < FEWEST_ROWS:
        rest = groups.pop()
        groups[-1] += rest
    return [np.concatenate(group) for group in groups]
