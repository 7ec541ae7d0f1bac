"""Attention among the rows of an era, or among the tokens of a row.

Tokens of all sequences of a batch are rows of one table, (N, width), so that products
with weights are products of large matrices. A sequence is a slice of it: eras of any
sizes lie one after the other, without padding. If all sequences have the same length, a
number stands for the slices.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from numerai_features import encoders
from numerai_features.encoders import Encoder
from numerai_features.encoders._attention import EPS
from numerai_features.nn._draws import Draws
from numerai_features.nn._layers import ACTIVATIONS, Dropout, Linear, Steps, as_array
from numerai_features.nn._layers import affine as affine_step

Sequences = list[slice] | int
"""The tokens of each sequence, or the number of tokens of every sequence."""

_TINY = 1e-6
_WIDER = 4  # the hidden layer of a block, as published


class LayerNorm(nn.Module):
    """Each token with mean 0 and deviation 1, times gamma, plus beta."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))
        self.beta = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, width) to (N, width)."""
        return F.layer_norm(x.float(), x.shape[-1:], self.gamma, self.beta, EPS)

    def step(self, dtype: Any) -> encoders.LayerNorm:
        """Return the numpy form."""
        gamma, beta = (as_array(p).astype(dtype) for p in (self.gamma, self.beta))
        return encoders.LayerNorm(gamma, beta)


class Heads(nn.Module):
    """Attention of several heads, of some tokens to others.

    Parameters
    ----------
    width : int
        Of a token; a multiple of `n_heads`.
    n_heads : int
    kind : {"full", "linear"}
        See `encoders.Attention`.
    """

    def __init__(self, width: int, n_heads: int, kind: str) -> None:
        super().__init__()
        self.n_heads, self.kind = n_heads, kind
        self.query = Linear(width, width, bias=False)
        self.key = Linear(width, width, bias=False)
        self.value = Linear(width, width, bias=False)
        self.out = Linear(width, width)

    def means(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return means of values, (..., n, width), for queries (..., n, width).

        Parameters
        ----------
        q : Tensor of shape (..., n, width)
        k, v : Tensor of shape (..., m, width)
        """
        q, k, v = (self._split(part) for part in (q, k, v))
        if self.kind == "full":
            found = F.scaled_dot_product_attention(q, k, v)
        else:
            q, k = F.elu(q) + 1, F.elu(k) + 1
            products = k.transpose(-1, -2) @ v / k.shape[-2]
            total = k.mean(-2, keepdim=True)
            found = q @ products / ((q * total).sum(-1, keepdim=True) + _TINY)
        return found.transpose(-2, -3).flatten(-2)

    def _split(self, x: Tensor) -> Tensor:
        """Map (..., n, width) to (..., n_heads, n, width / n_heads)."""
        return x.reshape(*x.shape[:-1], self.n_heads, -1).transpose(-2, -3)

    def step(self, dtype: Any) -> encoders.Attention:
        """Return the numpy form."""
        layers = (self.query, self.key, self.value, self.out)
        query, key, value, out = (
            as_array(layer.weight).T.astype(dtype) for layer in layers
        )
        bias = as_array(self.out.bias).astype(dtype)
        return encoders.Attention(query, key, value, out, bias, self.n_heads, self.kind)


class Attention(nn.Module):
    """Attention of the tokens of a sequence to each other.

    Parameters
    ----------
    width, n_heads : int
    kind : {"full", "linear", "induced"}
        "induced": through learned points.
    n_points : int
        Number of points.
    """

    def __init__(self, width: int, n_heads: int, kind: str, n_points: int) -> None:
        super().__init__()
        induced = kind == "induced"
        self.spread = Heads(width, n_heads, "full" if induced else kind)
        self.points: Any = None
        if induced:
            self.points = nn.Parameter(torch.zeros(n_points, width))
            self.gather = Heads(width, n_heads, "full")
            self.norm = LayerNorm(width)

    def forward(self, x: Tensor, sequences: Sequences) -> Tensor:
        """Map (N, width) to (N, width)."""
        looked_at = self.spread if self.points is None else self.gather
        tables = [self.spread.query(x), looked_at.key(x), looked_at.value(x)]
        found: Tensor = self.spread.out(_by_sequence(self._of_one, tables, sequences))
        return found

    def _of_one(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return means for the tokens of one sequence, or of several of one length."""
        if self.points is not None:
            gather, spread = self.gather, self.spread
            asked = gather.query(self.points).expand(*k.shape[:-2], -1, -1)
            found = gather.means(asked, k, v)
            told = gather.out(found.reshape(-1, found.shape[-1])).view(found.shape)
            held = self.norm(self.points + told)
            flat = held.reshape(-1, held.shape[-1])
            k, v = (to(flat).view(held.shape) for to in (spread.key, spread.value))
        return self.spread.means(q, k, v)

    def step(self, dtype: Any) -> Any:
        """Return the numpy form."""
        spread = self.spread.step(dtype)
        if self.points is None:
            return spread
        points = as_array(self.points).astype(dtype)
        gather, norm = self.gather.step(dtype), self.norm.step(dtype)
        return encoders.InducedAttention(points, gather, norm, spread)


def _by_sequence(function: Any, tables: list[Tensor], sequences: Sequences) -> Tensor:
    """Call a function with the tokens of each sequence, several at once if alike."""
    if isinstance(sequences, int):
        shape = (-1, sequences, tables[0].shape[1])
        found: Tensor = function(*(table.view(shape) for table in tables))
        return found.reshape(tables[0].shape)
    # One more axis: with it torch does not make the table of all pairs of tokens.
    parts = [function(*(table[None, own] for table in tables))[0] for own in sequences]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


class AttentionBlock(nn.Module):
    """Attention, then two layers for each token; each adds to its input.

    Both are of normalised tokens (pre-norm). The hidden layer is four times as wide.

    Parameters
    ----------
    width, n_heads, kind, n_points
        As in `Attention`.
    activation : str
        A name of `ACTIVATIONS`.
    dropout : float
        Dropout rate of what is added.
    """

    def __init__(
        self,
        width: int,
        n_heads: int,
        kind: str,
        n_points: int,
        activation: str,
        dropout: float,
    ) -> None:
        super().__init__()
        self.before, self.between = LayerNorm(width), LayerNorm(width)
        self.attention = Attention(width, n_heads, kind, n_points)
        self.up = Linear(width, _WIDER * width)
        self.down = Linear(_WIDER * width, width)
        self.activation, self.dropout = activation, Dropout(dropout)

    def forward(
        self, x: Tensor, sequences: Sequences, draws: Draws | None = None
    ) -> Tensor:
        """Map (N, width) to (N, width)."""
        told = self.attention(self.before(x), sequences)
        x = x + self._dropped(told, draws)
        h = ACTIVATIONS[self.activation](self.up(self.between(x)))
        return x + self._dropped(self.down(h), draws)

    def _dropped(self, x: Tensor, draws: Draws | None) -> Tensor:
        if draws is None:
            return x
        by_row = x.reshape(draws.n_own, -1)  # which may have several tokens
        dropped: Tensor = self.dropout(by_row, draws)
        return dropped.view(x.shape)

    def steps(self, name: str, dtype: Any) -> Steps:
        """Return the trained block as steps."""
        up, down = (
            affine_step(as_array(layer.weight).T, as_array(layer.bias), dtype)
            for layer in (self.up, self.down)
        )
        attend = Encoder(
            [
                ("norm", self.before.step(dtype)),
                ("attention", self.attention.step(dtype)),
            ]
        )
        layers: Steps = [
            ("norm", self.between.step(dtype)),
            ("up", up),
            (self.activation, encoders.Activation(self.activation)),
            ("down", down),
        ]
        return [
            (f"{name}_attention", encoders.Residual(attend)),
            (f"{name}_layers", encoders.Residual(Encoder(layers))),
        ]
