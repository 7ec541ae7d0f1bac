"""Batches of whole sequences of similar length."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from numerai_features.nn._batches import Table
from numerai_features.nn._draws import (
    BLOCK,
    ORDER,
    TRAINING,
    VALIDATION,
    Draws,
    numpy_generator,
)
from numerai_features.nn._parallel import share_of

_TINY = 1e-30


class SequenceBatch:
    """Sequences of one step of the training, aligned to their ends.

    Shapes: T steps of the longest sequence, S sequences of this process, F features.

    Parameters
    ----------
    table : Table
        It holds the steps of all sequences.
    starts : ndarray of shape (n_sequences + 1,)
        The first step of each sequence.
    weights : ndarray of shape (n_sequences,)
    chosen : ndarray of int
        All sequences of the batch.
    draws : Draws
        Random numbers for the sequences; ``draws.own`` are those of this process.
    usual : float
        Mean total weight of batches.

    Attributes
    ----------
    x : Tensor of shape (T, S, F)
        On the table's scale.
    present : Tensor of shape (T, S)
        0 for steps before the first of a shorter sequence.
    weight : Tensor of shape (T, S)
        The sequence's weight for present steps, 0 for others.
    total : Tensor
        Sum of the weights of the steps of all sequences of the batch.
    importance : float
        The batch's total weight in relation to other batches.
    """

    def __init__(
        self,
        table: Table,
        starts: NDArray[np.intp],
        weights: NDArray[np.float32],
        chosen: NDArray[np.intp],
        draws: Draws,
        usual: float,
    ) -> None:
        self.draws = draws
        lengths, own = np.diff(starts)[chosen], chosen[draws.own]
        n_steps = int(lengths.max())
        first = starts[own]
        steps = starts[own + 1] - n_steps + np.arange(n_steps)[:, None]
        present = torch.from_numpy((steps >= first).astype(np.float32))
        rows = table.take(np.maximum(steps, first).reshape(-1))
        self.x = rows.reshape(n_steps, len(own), table.n_features)
        self.present = present.to(table.device)
        self.weight = self.present * torch.from_numpy(weights[own]).to(table.device)
        total = float(lengths @ weights[chosen].astype(np.float64))
        self.total = torch.tensor(max(total, _TINY), device=table.device)
        self.importance = total / usual

    def normal(self) -> Tensor:
        """Return standard normal draws, (T, S, F)."""
        return self._by_step(self.draws.normal(self._width))

    def chosen(self, share: float) -> Tensor:
        """Return a mask of cells, each chosen with probability `share`, (T, S, F)."""
        return self._by_step(self.draws.chosen(share, self._width))

    @property
    def _width(self) -> int:
        return self.x.shape[0] * self.x.shape[2]

    def _by_step(self, cells: Tensor) -> Tensor:
        n_steps, n_own, n_features = self.x.shape
        return cells.reshape(n_own, n_steps, n_features).transpose(0, 1)


class SequenceBatches:
    """Batches of sequences of similar length, in random order.

    Each sequence comes once per epoch; which of the same length share a batch is drawn
    anew.

    Parameters
    ----------
    table, starts, weights
        As in `SequenceBatch`.
    seed : int
        Seed of the order and of the draws.
    sequences : ndarray of int
        Those to train on.
    batch_size : int
        Largest number of sequences in a batch, over all processes.
    """

    def __init__(
        self,
        table: Table,
        starts: NDArray[np.intp],
        weights: NDArray[np.float32],
        seed: int,
        sequences: NDArray[np.intp],
        batch_size: int,
    ) -> None:
        self.table, self.starts, self.weights = table, starts, weights
        self.seed, self.sequences = seed, sequences
        self.lengths = np.diff(starts)
        self.n_steps = -(-len(sequences) // batch_size)
        own = self.lengths[sequences]
        self.rows_per_step = float(own.sum() / self.n_steps)
        total = float(own @ weights[sequences].astype(np.float64))
        self.usual = max(total / self.n_steps, _TINY)

    def epoch(self, number: int, first: int = 0) -> Iterator[SequenceBatch]:
        """Yield the batches of an epoch, from step `first` on."""
        rng = numpy_generator(self.seed, ORDER, number)
        order = rng.permutation(self.sequences)
        order = order[np.argsort(self.lengths[order], kind="stable")]
        parts = np.array_split(order, self.n_steps)
        turns = rng.permutation(self.n_steps)
        for step in range(first, self.n_steps):
            chosen, place = parts[turns[step]], number * self.n_steps + step
            own = share_of(len(chosen))
            draws = Draws(
                self.seed, TRAINING, place, len(chosen), own, self.table.device
            )
            yield SequenceBatch(
                self.table, self.starts, self.weights, chosen, draws, self.usual
            )


class HeldOutSequences:
    """Held-out batches: the same sequences, order and draws each time.

    Every process evaluates all batches.

    Parameters
    ----------
    table, starts, weights, seed, sequences
        As in `SequenceBatches`.
    """

    def __init__(
        self,
        table: Table,
        starts: NDArray[np.intp],
        weights: NDArray[np.float32],
        seed: int,
        sequences: NDArray[np.intp],
    ) -> None:
        self.table, self.starts, self.weights, self.seed = table, starts, weights, seed
        order = np.argsort(np.diff(starts)[sequences], kind="stable")
        cuts = np.arange(BLOCK, len(order), BLOCK)
        self.parts = np.split(sequences[order], cuts)

    def __iter__(self) -> Iterator[SequenceBatch]:
        for i, chosen in enumerate(self.parts):
            draws = Draws(
                self.seed, VALIDATION, i, len(chosen), device=self.table.device
            )
            yield SequenceBatch(
                self.table, self.starts, self.weights, chosen, draws, 1.0
            )
