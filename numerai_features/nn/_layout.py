"""UMAP's loss over a network: what a batch of edges is, and how good a layout of it.

Sainburg, McInnes and Gentner (2021), Parametric UMAP embeddings for representation and
semisupervised learning, Neural Computation 33, 2881-2907.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from numerai_features.nn._batches import Table
from numerai_features.nn._draws import ORDER, VALIDATION, numpy_generator
from numerai_features.nn._layers import ACTIVATIONS, StackedLinear, Standardized
from numerai_features.nn._parallel import share_of

Edges = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]

_NEAREST = 1e-4  # squared distance below which rows are not told apart
_FAR = 1e12


@dataclass(frozen=True)
class EdgeBatch:
    """Edges of one step; M models, E own edges, R other rows.

    Attributes
    ----------
    x : Tensor of shape (M, 2 E + R, n_features)
        Heads, tails, and rows drawn from all.
    same : Tensor of shape (M, E, R)
        Whether another row is the head itself.
    n_edges : int
        Edges of the step, over all processes.
    """

    x: Tensor
    same: Tensor
    n_edges: int

    def model(self, number: int) -> EdgeBatch:
        """Return what one model is given."""
        own = slice(number, number + 1)
        return EdgeBatch(self.x[own], self.same[own], self.n_edges)


class EdgeBatches:
    """Edges drawn by their weights, and rows to keep apart from drawn evenly.

    Parameters
    ----------
    table : Table
    seed : int
    edges : tuple of ndarray, each of shape (n_edges,)
        Both ends, rows of the table, and weights; which end comes first is drawn anew
        each time.
    others : ndarray of int
        Rows that are drawn to be kept apart.
    batch_size, n_others, n_steps : int
        Edges and other rows a step, and steps an epoch.
    held_out : bool, default=False
        Whether every epoch is the first one, of draws of its own.
    """

    def __init__(
        self,
        table: Table,
        seed: int,
        edges: Edges,
        others: NDArray[np.intp],
        batch_size: int,
        n_others: int,
        n_steps: int,
        *,
        held_out: bool = False,
    ) -> None:
        self.table = table
        self.seed = seed
        *ends, weights = edges
        self.ends = np.stack(ends)
        self.others = others
        self.batch_size, self.n_others, self.n_steps = batch_size, n_others, n_steps
        self._stream = VALIDATION if held_out else ORDER
        self._share = slice(0, batch_size) if held_out else None
        self._chances = np.cumsum(weights)

    def __iter__(self) -> Iterator[EdgeBatch]:
        return self.epoch(0)

    def epoch(self, number: int, first: int = 0) -> Iterator[EdgeBatch]:
        """Yield the batches of an epoch, from step `first` on."""
        for step in range(first, self.n_steps):
            yield self._batch(number * self.n_steps + step)

    def _batch(self, step: int) -> EdgeBatch:
        rng = numpy_generator(self.seed, self._stream, step)
        places = rng.random(self.batch_size) * self._chances[-1]
        edges = np.searchsorted(self._chances, places, side="right")
        first = rng.integers(0, 2, self.batch_size)
        others = self.others[rng.integers(0, len(self.others), self.n_others)]
        own = self._share or share_of(self.batch_size)
        edges, first = np.minimum(edges, len(self._chances) - 1)[own], first[own]
        heads, tails = self.ends[first, edges], self.ends[1 - first, edges]
        rows = np.concatenate([heads, tails, others])
        same = torch.from_numpy(heads[:, None] == others)[None]
        return EdgeBatch(
            self.table.take(rows[None]), same.to(self.table.device), self.batch_size
        )


class Perceptron(nn.Module):
    """Linear layers with an activation between; no normalisation over a batch.

    Edges of a batch are not drawn as rows are: normalised by a batch, rows would lie
    elsewhere in training than alone.

    Parameters
    ----------
    seeds : sequence of int
        One a model.
    widths : sequence of int
        Of the input, each layer and the output.
    activation : str
        A name of `ACTIVATIONS`.
    table : Table, default=None
        Whose rows come in as they are taken, and are standardised by the first layer.
    name : int, default=0
        The first layer's; tells its initial weights from those of others.
    dtype : torch.dtype, default=torch.float32
        What products are made in.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        widths: Sequence[int],
        activation: str,
        table: Table | None = None,
        name: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        layers: list[StackedLinear | Standardized] = [
            StackedLinear(seeds, name + i, n_in, n_out, dtype=dtype)
            for i, (n_in, n_out) in enumerate(pairwise(widths))
        ]
        if table is not None and isinstance(layers[0], StackedLinear):
            layers[0] = Standardized(layers[0], table.center, table.scale)
        self.layers = nn.ModuleList(layers)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Map (M, B, n_in) to (M, B, n_out)."""
        for layer in self.layers[:-1]:
            x = ACTIVATIONS[self.activation](layer(x))
        y: Tensor = self.layers[-1](x)
        return y


class Layout(nn.Module):
    r"""Neighbours near each other, other rows apart.

    With the chance :math:`q = 1 / (1 + a d^{2b})` that rows at distance d are
    neighbours, the loss is the mean of :math:`-\log q` over edges and, times
    `repulsion`, of :math:`-\log (1 - q)` over pairs of an edge's head and any row.

    Parameters
    ----------
    encoder : Perceptron
    a, b : float
    repulsion : float
        Pairs to be kept apart for each edge, as umap-learn counts them. All rows drawn
        are compared with all heads, and count less.
    decoder : Perceptron, default=None
        Restores the rows of heads from where they lie.
    decoder_weight : float, default=0.0
        Of the mean squared error of that, over standardised cells.
    """

    def __init__(
        self,
        encoder: Perceptron,
        a: float,
        b: float,
        repulsion: float,
        decoder: Perceptron | None = None,
        decoder_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.log_a, self.b = math.log(a), b
        self.repulsion = repulsion
        self.decoder_weight = decoder_weight

    def forward(self, batch: EdgeBatch) -> Tensor:
        """Return the loss of this process's edges over all of the step, (M,)."""
        n = batch.same.shape[1]
        places = self.encoder(batch.x).float()
        heads, tails, others = places.split([n, n, places.shape[1] - 2 * n], dim=1)
        near = (heads - tails).square().sum(2)
        attraction = F.softplus(self._log_odds(near)).sum(1)
        far = torch.baddbmm(others.square().sum(2)[:, None], heads, others.mT, alpha=-2)
        far = (far + heads.square().sum(2)[..., None]).clamp_(min=0)
        far = far.masked_fill(batch.same, _FAR)
        repulsion = F.softplus(-self._log_odds(far)).mean(2).sum(1)
        loss = attraction + self.repulsion * repulsion
        if self.decoder is not None:
            loss = loss + self.decoder_weight * self._restoring(batch, heads)
        return loss / batch.n_edges

    @torch.no_grad()
    def evaluate(self, batch: EdgeBatch) -> dict[str, Tensor]:
        """Return the loss as a sum, (M,), that `metrics` takes when added."""
        loss = self(batch)
        return {"loss": loss, "batches": torch.ones_like(loss)}

    @staticmethod
    def metrics(sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the mean loss."""
        return {"loss": sums["loss"] / sums["batches"]}

    def _log_odds(self, squares: Tensor) -> Tensor:
        """Return ``log(a d^2b)``: the log-odds against being neighbours."""
        return self.log_a + self.b * torch.log(squares + _NEAREST)

    def _restoring(self, batch: EdgeBatch, heads: Tensor) -> Tensor:
        """Return the mean squared error of each head's cells, summed, (M,)."""
        assert self.decoder is not None
        first = self.encoder.layers[0]
        assert isinstance(first, Standardized)
        x = batch.x[:, : batch.same.shape[1]].float()
        t = (x - first.center[:, None]) / first.scale[:, None]
        return F.mse_loss(self.decoder(heads), t, reduction="none").mean(2).sum(1)
