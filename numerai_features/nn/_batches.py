"""Batches from a table that stays one byte a cell.

A table is gathered by rows where the network is; nothing is cast before that. Every
model of a stack has batches of its own: ``(n_models, n_rows, n_features)``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from numerai_features._validation import row_blocks
from numerai_features.nn._draws import (
    ORDER,
    TRAINING,
    VALIDATION,
    Draws,
    numpy_generator,
)
from numerai_features.nn._parallel import share_of

_BYTES = (np.dtype(np.int8), np.dtype(np.uint8))
_MOST_OF_THE_GPU = 0.7
_UPLOAD_BYTES = 64 << 20


class Table:
    """Rows of features, bytes or floats, to be gathered on a device.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
        int8 and uint8 stay as they are; all else is standardised to float32 where it
        is gathered. May be memory-mapped.
    center, scale : ndarray of shape (n_features,)
        Mean and standard deviation of each column; 0 for one that is constant.
    device : torch.device
        A GPU that has room for it keeps the table; else its rows are sent as needed.
    """

    def __init__(
        self,
        X: NDArray[Any],
        center: NDArray[np.float64],
        scale: NDArray[np.float64],
        device: torch.device,
    ) -> None:
        self.X = X
        self.device = device
        self.in_bytes = X.dtype in _BYTES
        self.n_varying = int((scale > 0).sum())
        self.varies = torch.as_tensor(scale > 0, dtype=torch.float32)
        scale = np.where(scale > 0, scale, 1.0)
        self._center, self._scale = center, scale
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
        """Return rows (n_models, n) as a tensor (n_models, n, n_features)."""
        if self._resident is not None:
            index = torch.from_numpy(rows.flatten()).to(self.device)
            taken = self._resident.index_select(0, index)
        else:
            taken = torch.from_numpy(self._gather(rows.reshape(-1)))
            taken = taken.to(self.device, non_blocking=True)
        return taken.view(*rows.shape, self.n_features)

    def _gather(self, rows: NDArray[np.intp]) -> NDArray[Any]:
        out = np.empty((len(rows), self.n_features), self.X.dtype)
        np.take(self.X, rows, axis=0, out=out, mode="clip")
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


@dataclass(frozen=True)
class Batch:
    """Rows of one step.

    Attributes
    ----------
    x : Tensor of shape (n_models, n_own, n_features)
        The rows of this process.
    draws : Draws
        Random numbers for them; ``draws.own`` tells which rows of the step they are.
    weight : Tensor of shape (n_models, n_own) or None
        Their weights.
    total : Tensor of shape (n_models,)
        Sum of the weights of all rows of the step.
    squares : Tensor of shape (n_models, n_own)
        Sum of squares of each own row's standardised cells.
    y : Tensor of shape (n_models, n_own, n_targets) or None
        Targets; NaN where they are not known.
    """

    x: Tensor
    draws: Draws
    weight: Tensor | None
    total: Tensor
    squares: Tensor
    y: Tensor | None = None

    def model(self, number: int) -> Batch:
        """Return what one model is given."""
        own = slice(number, number + 1)
        return Batch(
            self.x[own],
            self.draws.model(number),
            None if self.weight is None else self.weight[own],
            self.total[own],
            self.squares[own],
            None if self.y is None else self.y[own],
        )


class _Batches:
    """What all ways to cut a table into batches share."""

    def __init__(
        self,
        table: Table,
        seeds: Sequence[int],
        weights: NDArray[np.float32] | None,
        targets: NDArray[np.float32] | None,
    ) -> None:
        self.table = table
        self.seeds = tuple(seeds)
        self.weights = weights
        self.targets = targets

    n_rows: int  # of an epoch
    n_steps: int

    @property
    def rows_per_step(self) -> float:
        """Mean rows of a step, of all models."""
        return len(self.seeds) * self.n_rows / self.n_steps

    def _batch(
        self, rows: NDArray[np.intp], stream: int, step: int, own: slice
    ) -> Batch:
        table = self.table
        draws = Draws(self.seeds, stream, step, rows.shape[1], own, table.device)
        total = torch.full((len(rows),), float(rows.shape[1]), device=table.device)
        weight = None
        if self.weights is not None:
            taken = torch.from_numpy(self.weights[rows]).to(table.device)
            total, weight = taken.sum(1), taken[:, own]
        mine = rows[:, own]
        squares = torch.from_numpy(table.squares[mine]).to(table.device)
        y = None
        if self.targets is not None:
            y = torch.from_numpy(self.targets[mine]).to(table.device)
        return Batch(table.take(mine), draws, weight, total, squares, y)


class RowBatches(_Batches):
    """Random rows; every row once an epoch, batches of sizes that differ by one.

    Parameters
    ----------
    table : Table
    seeds : sequence of int
        One a model: the order of its rows.
    rows : sequence of ndarray of int
        The training rows of each model. Where one has fewer than another, its rows
        begin anew.
    batch_size : int
        Most rows a batch, over all processes.
    weights : ndarray of shape (n_rows,), default=None
    targets : ndarray of shape (n_rows, n_targets), default=None
    """

    def __init__(
        self,
        table: Table,
        seeds: Sequence[int],
        rows: Sequence[NDArray[np.intp]],
        batch_size: int,
        weights: NDArray[np.float32] | None = None,
        targets: NDArray[np.float32] | None = None,
    ) -> None:
        super().__init__(table, seeds, weights, targets)
        self.rows = rows
        self.n_rows = max(map(len, rows))
        self.n_steps = -(-self.n_rows // batch_size)

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from step `first` on."""
        order = np.stack(
            [
                np.resize(numpy_generator(s, ORDER, number).permutation(r), self.n_rows)
                for s, r in zip(self.seeds, self.rows, strict=True)
            ]
        )
        for step in range(first, self.n_steps):
            start = step * self.n_rows // self.n_steps
            stop = (step + 1) * self.n_rows // self.n_steps
            own = share_of(stop - start)
            rows = order[:, start:stop]
            yield self._batch(rows, TRAINING, number * self.n_steps + step, own)


class EraBatches(_Batches):
    """One era a batch, all its rows; eras in random order, the same for all models.

    Parameters
    ----------
    table : Table
    seeds : sequence of int
        The first tells the order of the eras.
    rows : ndarray of int
    eras : ndarray of shape (n_rows,)
        Era codes of the table's rows.
    weights : ndarray of shape (n_rows,), default=None
    targets : ndarray of shape (n_rows, n_targets), default=None
    """

    def __init__(
        self,
        table: Table,
        seeds: Sequence[int],
        rows: NDArray[np.intp],
        eras: NDArray[np.int32],
        weights: NDArray[np.float32] | None = None,
        targets: NDArray[np.float32] | None = None,
    ) -> None:
        super().__init__(table, seeds, weights, targets)
        self.eras = np.split(*_by_era(rows, eras))
        self.n_rows = len(rows)
        self.n_steps = len(self.eras)

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from step `first` on."""
        order = numpy_generator(self.seeds[0], ORDER, number).permutation(self.n_steps)
        for step in range(first, self.n_steps):
            era = self.eras[order[step]]
            rows = np.broadcast_to(era, (len(self.seeds), len(era)))
            own = share_of(len(era))
            yield self._batch(rows, TRAINING, number * self.n_steps + step, own)


class HeldOutBatches(_Batches):
    """The same rows for every model in the same order, with the same draws each time.

    Every process goes over all of them.

    Parameters
    ----------
    table : Table
    seeds : sequence of int
        One a model.
    rows : ndarray of int
    batch_size : int
    weights : ndarray of shape (n_rows,), default=None
    targets : ndarray of shape (n_rows, n_targets), default=None
    eras : ndarray of shape (n_rows,), default=None
        Era codes of the table's rows: makes an era a batch, whatever its size.
    """

    def __init__(
        self,
        table: Table,
        seeds: Sequence[int],
        rows: NDArray[np.intp],
        batch_size: int,
        weights: NDArray[np.float32] | None = None,
        targets: NDArray[np.float32] | None = None,
        eras: NDArray[np.int32] | None = None,
    ) -> None:
        super().__init__(table, seeds, weights, targets)
        cuts = np.arange(batch_size, len(rows), batch_size)
        if eras is not None:
            rows, cuts = _by_era(rows, eras)
        self.rows, self._cuts = rows, cuts

    def __iter__(self) -> Iterator[Batch]:
        start = 0
        for mine in np.split(self.rows, self._cuts):
            rows = np.broadcast_to(mine, (len(self.seeds), len(mine)))
            yield self._batch(rows, VALIDATION, start, slice(0, len(mine)))
            start += len(mine)


def _by_era(
    rows: NDArray[np.intp], eras: NDArray[np.int32]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return rows in era order, and where one era ends and the next begins."""
    order = rows[np.argsort(eras[rows], kind="stable")]
    return order, np.flatnonzero(np.diff(eras[order])) + 1
