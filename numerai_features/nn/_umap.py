"""Parametric UMAP: batches of edges, the network, and the loss of its layout.

Sainburg, McInnes and Gentner (2021), Parametric UMAP embeddings for representation and
semisupervised learning, Neural Computation 33, 2881-2907.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from numerai_features.encoders import Activation
from numerai_features.nn._batches import Table
from numerai_features.nn._draws import ORDER, VALIDATION, numpy_generator
from numerai_features.nn._layers import (
    ACTIVATIONS,
    Linear,
    Standardized,
    Steps,
    Units,
    affine,
    as_array,
    of_raw_rows,
)
from numerai_features.nn._parallel import share_of
from numerai_features.nn._products import in_float32
from numerai_features.nn._task import Task

Edges = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]

_NEAREST = 1e-4  # squared distance below which rows are not distinguished
_FAR = 1e12


@dataclass(frozen=True)
class EdgeBatch:
    """Edges of one step: E edges of this process and R other rows.

    Attributes
    ----------
    x : Tensor of shape (2 E + R, n_features)
        Heads, tails and random rows.
    same : Tensor of shape (E, R)
        Whether the random row is the head itself.
    n_edges : int
        Number of edges of the step, over all processes.
    """

    x: Tensor
    same: Tensor
    n_edges: int


class EdgeBatches:
    """Batches of edges drawn by weight, and of rows to repel drawn uniformly.

    Parameters
    ----------
    table : Table
    seed : int
    edges : tuple of ndarray, each of shape (n_edges,)
        Both ends, as rows of the table, and weights. Which end is the head is drawn at
        random each time.
    others : ndarray of int
        Rows from which the rows to repel are drawn.
    batch_size, n_others, n_steps : int
        Edges and other rows per step, and steps per epoch.
    held_out : bool, default=False
        Whether every epoch repeats the same draws, from the validation stream.
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
        self.rows_per_step = 2.0 * batch_size + n_others
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
        same = torch.from_numpy(heads[:, None] == others).to(self.table.device)
        return EdgeBatch(self.table.take(rows), same, self.batch_size)


class Perceptron(nn.Module):
    """Linear layers with activations between them, without batch normalisation.

    Edges are not drawn like rows: with batch normalisation, the places of rows in
    training would differ from those in `transform`.

    Parameters
    ----------
    widths : sequence of int
        Widths of the input, of each layer and of the output.
    activation : str
        A name of `ACTIVATIONS`.
    table : Table, default=None
        Table whose gathered rows are the input; the first layer standardises them.
    """

    def __init__(
        self, widths: Sequence[int], activation: str, table: Table | None = None
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [Linear(*pair) for pair in pairwise(widths)]
        if table is not None:
            first: Any = layers[0]
            layers[0] = Standardized(first, table.center, table.scale)
        self.layers = nn.ModuleList(layers)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, n_in) to (B, n_out)."""
        for layer in self.layers[:-1]:
            x = ACTIVATIONS[self.activation](layer(x))
        y: Tensor = self.layers[-1](x)
        return y

    def steps(self, dtype: Any, units: Units | None = None) -> Steps:
        """Return the layers as affine steps with activations between them.

        Parameters
        ----------
        dtype : numpy dtype
            Type of the arrays.
        units : tuple of ndarray, default=None
            Mean and scale that standardise the rows.
        """
        steps: Steps = []
        for i, layer in enumerate(self.layers):
            linear: Any = layer.linear if isinstance(layer, Standardized) else layer
            weight, bias = as_array(linear.weight).T, as_array(linear.bias)
            if i:
                name = f"layer{i}_{self.activation}"
                steps.append((name, Activation(self.activation)))
            elif units is not None:
                weight, constant = of_raw_rows(weight, units)
                bias = bias + constant
            steps.append((f"layer{i + 1}", affine(weight, bias, dtype)))
        return steps


class Layout(Task):
    r"""The UMAP loss: it pulls neighbours together and pushes other rows apart.

    Rows at distance d are neighbours with probability :math:`q = 1 / (1 + a d^{2b})`.
    The loss is the mean of :math:`-\log q` over edges, plus `repulsion` times the mean
    of :math:`-\log (1 - q)` over pairs of an edge's head and a random row.

    Parameters
    ----------
    encoder : Perceptron
    a, b : float
    repulsion : float
        Number of pairs to repel for each edge, as umap-learn counts them. All random
        rows are compared with all heads, with a smaller weight each.
    decoder : Perceptron, default=None
        Restores the heads' rows from their places.
    decoder_weight : float, default=0.0
        Weight of the decoder's mean squared error over standardised cells.
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
        """Return the loss of this process's edges, divided by the edges of the step."""
        n = len(batch.same)
        places = self.encoder(batch.x)
        heads, tails, others = places.split([n, n, len(places) - 2 * n])
        near = (heads - tails).square().sum(1)
        attraction = F.softplus(self._log_odds(near)).sum()
        with in_float32(places):
            far = torch.addmm(others.square().sum(1), heads, others.T, alpha=-2)
        far = (far + heads.square().sum(1)[:, None]).clamp_(min=0)
        far = far.masked_fill(batch.same, _FAR)
        repulsion = F.softplus(-self._log_odds(far)).mean(1).sum()
        loss = attraction + self.repulsion * repulsion
        if self.decoder is not None:
            loss = loss + self.decoder_weight * self._restoring(batch, heads)
        return loss / batch.n_edges

    def _log_odds(self, squares: Tensor) -> Tensor:
        """Return ``log(a d^2b)``, the log-odds against being neighbours."""
        return self.log_a + self.b * torch.log(squares + _NEAREST)

    def _restoring(self, batch: EdgeBatch, heads: Tensor) -> Tensor:
        """Return the sum over heads of the mean squared error of their cells."""
        assert self.decoder is not None
        first = self.encoder.layers[0]
        assert isinstance(first, Standardized)
        t = first.standardize(batch.x[: len(heads)])
        return F.mse_loss(self.decoder(heads), t, reduction="none").mean(1).sum()
