"""Recurrent autoencoder of sequences, and the task of restoring corrupted ones.

Shapes in comments: T steps, S sequences, F features, C of them context, H units.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from numerai_features.encoders import Affine, Encoder
from numerai_features.encoders._recurrent import Recurrent, Unroll
from numerai_features.nn._batches import Table
from numerai_features.nn._layers import Linear, Units, affine, as_array, of_raw_rows
from numerai_features.nn._losses import squared_error
from numerai_features.nn._sequences import SequenceBatch
from numerai_features.nn._task import Task


class Recurrence(nn.Module):
    """Recurrent layer, "gru" or "rnn", as `encoders.Recurrent` documents it."""

    def __init__(self, kind: str, n_in: int, n_units: int) -> None:
        super().__init__()
        self.kind = kind
        width = (3 if kind == "gru" else 1) * n_units
        self.input = Linear(n_in, width, bias=False) if n_in else None
        self.recurrent = Linear(n_units, width, bias=False)
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor, state: Tensor, present: Tensor | None) -> Tensor:
        """Return the states after each step, (T, S, H).

        Parameters
        ----------
        x : Tensor of shape (T, S, n_in)
        state : Tensor of shape (S, H)
            Before the first step.
        present : Tensor of shape (T, S) or None
            The state is 0 where it is 0.
        """
        n_steps, n, n_in = x.shape
        added = self.bias.expand(n_steps, n, -1)  # (T, S, gates * H)
        if self.input is not None:
            product = self.input(x.reshape(n_steps * n, n_in))
            added = product.reshape(n_steps, n, -1) + self.bias
        states = []
        for t, own in enumerate(added.unbind()):
            state = self._next(own, state)
            if present is not None:
                state = state * present[t, :, None]
            states.append(state)
        return torch.stack(states)

    def _next(self, a: Tensor, state: Tensor) -> Tensor:
        """Map what the inputs add and the states to the states after the step."""
        # Too small a product to be shared out among threads.
        u, n = (state @ self.recurrent.weight.T).float(), state.shape[1]
        if self.kind == "rnn":
            return torch.tanh(a + u)
        gates = torch.sigmoid(a[:, : 2 * n] + u[:, : 2 * n])
        new = torch.tanh(torch.addcmul(a[:, 2 * n :], gates[:, :n], u[:, 2 * n :]))
        return torch.lerp(new, state, gates[:, n:])

    def numpy(
        self, units: Units, dtype: Any, columns: NDArray[np.intp] | slice = slice(None)
    ) -> Recurrent:
        """Return the layer for rows that are not standardised."""
        recurrent, bias = as_array(self.recurrent.weight).T, as_array(self.bias)
        weight = np.zeros((0, len(bias)))
        if self.input is not None:
            own = as_array(self.input.weight).T
            mean, scale = units
            weight, shift = of_raw_rows(own, (mean[columns], scale[columns]))
            bias = bias + shift
        return Recurrent(
            self.kind,
            *(np.ascontiguousarray(a, dtype) for a in (weight, recurrent, bias)),
        )


class SequenceNetwork(nn.Module):
    """Encoder that reads a sequence forwards, and decoder that unrolls it backwards.

    Parameters
    ----------
    table : Table
    context : ndarray of int
        Columns that the decoder gets, too.
    n_components : int
        Width of the code.
    kind : {"gru", "rnn"}
    n_units : int
    """

    context: Tensor  # (C,)

    def __init__(
        self,
        table: Table,
        context: NDArray[np.intp],
        n_components: int,
        kind: str,
        n_units: int,
    ) -> None:
        super().__init__()
        self.register_buffer("context", torch.from_numpy(context), persistent=False)
        self.encoder = Recurrence(kind, table.n_features, n_units)
        self.code = Linear(n_units, n_components)
        self.start = Linear(n_components, n_units)
        self.decoder = Recurrence(kind, len(context), n_units)
        self.output = Linear(n_units, table.n_features)

    def forward(self, seen: Tensor, clean: Tensor, present: Tensor) -> Tensor:
        """Restore sequences, (T, S, F); of the clean ones only the context is used."""
        zero = seen.new_zeros(seen.shape[1], self.code.in_features)
        code = self.code(self.encoder(seen, zero, present)[-1])
        context = clean.index_select(2, self.context).flip(0)
        # Absent steps come last here, and nothing follows from them.
        states = self.decoder(context, self.start(code), None).flip(0)
        n_steps, n, n_units = states.shape
        restored: Tensor = self.output(states.reshape(n_steps * n, n_units))
        return restored.reshape(seen.shape)

    def encoding(self, units: Units, dtype: Any) -> Encoder:
        """Return the encoder from flattened sequences to the code."""
        cell = self.encoder.numpy(units, dtype)
        return Encoder([("states", cell), ("code", _as_affine(self.code, dtype))])

    def decoding(self, units: Units, dtype: Any) -> Unroll:
        """Return the decoder from the code and the context to sequences."""
        mean, scale = units
        columns = self.context.numpy()
        weight, bias = as_array(self.output.weight).T, as_array(self.output.bias)
        return Unroll(
            _as_affine(self.start, dtype),
            self.decoder.numpy(units, dtype, columns),
            affine(weight * scale, bias * scale + mean, dtype),
        )


def _as_affine(layer: Linear, dtype: Any) -> Affine:
    return affine(as_array(layer.weight).T, as_array(layer.bias), dtype)


class Restoring(Task):
    """The task of restoring corrupted sequences.

    The loss is the mean squared error over present steps and restored columns that
    vary, in standardised columns; cells that are missing add nothing.

    Parameters
    ----------
    network : SequenceNetwork
    table : Table
    noise : {"proportional", "gaussian", "masking", "none"}
    level : float
    farthest : float
        Largest deviation of proportional noise, in standard deviations of the column.
    offset : ndarray of shape (n_features,)
        Mean of each column in its standard deviations.
    middle : Tensor of shape (n_features,)
        Value of masked and of missing cells, on the table's scale.
    has_missing : bool
        Whether the table holds NaN.
    """

    center: Tensor  # (F,)
    scale: Tensor  # (F,)
    offset: Tensor  # (F,)
    middle: Tensor  # (F,)
    restored: Tensor  # (F,), 1 for columns that are restored
    counts: Tensor  # (F,), 1 for those of them that vary

    def __init__(
        self,
        network: SequenceNetwork,
        table: Table,
        noise: str,
        level: float,
        farthest: float,
        offset: NDArray[np.float64],
        middle: Tensor,
        has_missing: bool,
    ) -> None:
        super().__init__()
        self.network, self.noise, self.level = network, noise, level
        self.farthest, self.has_missing = farthest, has_missing
        restored = torch.ones(table.n_features)
        restored[network.context] = 0
        buffers = {
            "center": table.center,
            "scale": table.scale,
            "offset": torch.as_tensor(offset, dtype=torch.float32),
            # A constant column tells nothing, whether its cell is missing or not.
            "middle": torch.where(table.varies > 0, middle, table.center),
            "restored": restored,
            "counts": restored * table.varies,
        }
        for name, values in buffers.items():
            self.register_buffer(name, values.clone(), persistent=False)
        self.n_restored = max(1.0, float(self.counts.sum()))

    def forward(self, batch: SequenceBatch) -> Tensor:
        """Return the loss of this process's sequences, divided by the count of all."""
        sums = self._sums(batch)
        return sums["error"] / sums["cells"]

    @torch.no_grad()
    def evaluate(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """Return the sums of a held-out batch."""
        return self._sums(batch)

    def metrics(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss."""
        return {"loss": sums["error"] / sums["cells"]}

    def _sums(self, batch: SequenceBatch) -> dict[str, Tensor]:
        x, weights = batch.x, batch.weight[:, :, None] * self.counts
        if self.has_missing:
            gaps = x.isnan()
            weights = weights * ~gaps
            x = torch.where(gaps, self.middle.to(x), x)
        clean = (x.float() - self.center) / self.scale
        output = self.network(self._corrupted(clean, batch), clean, batch.present)
        n_features = clean.shape[2]
        error = squared_error(
            *(a.reshape(-1, n_features) for a in (output, clean, weights))
        )
        return {"error": error, "cells": batch.total * self.n_restored}

    def _corrupted(self, clean: Tensor, batch: SequenceBatch) -> Tensor:
        if self.noise == "none":
            return clean
        if self.noise == "masking":
            middle = (self.middle.float() - self.center) / self.scale
            chosen = batch.chosen(self.level) & (self.restored > 0)
            return torch.where(chosen, middle, clean)
        noise = batch.normal() * self.restored
        if self.noise == "gaussian":
            return clean + self.level * noise
        size = self.level * (clean + self.offset)
        return clean + size.clamp(-self.farthest, self.farthest) * noise
