"""The denoising autoencoder and its training task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from numerai_features.encoders import Concatenate, Encoder
from numerai_features.nn import _noise
from numerai_features.nn._batches import Batch, Table
from numerai_features.nn._draws import Draws
from numerai_features.nn._layers import (
    Block,
    Linear,
    Standardized,
    Steps,
    Units,
    affine,
    as_array,
)
from numerai_features.nn._losses import linear_squared_error, squared_error
from numerai_features.nn._task import Task


class Autoencoder(nn.Module):
    """Autoencoder with layers F - hidden - code - mirrored hidden - F.

    Batch normalisation follows every layer except the output, so that the code has unit
    variance before its activation.

    Parameters
    ----------
    table : Table
        Table with the number of features and their means and standard deviations.
    hidden : sequence of int
        Units of the layers before the code; the decoder mirrors them.
    n_components : int
        Units of the code.
    activation : str
        A name of `ACTIVATIONS`.
    dropout : float
        Dropout rate of the hidden units.
    mask_head : bool
        Whether a second output predicts which cells were corrupted.
    code_activation : str
        Activation of the code.
    """

    def __init__(
        self,
        table: Table,
        hidden: Sequence[int],
        n_components: int,
        activation: str,
        dropout: float = 0.0,
        mask_head: bool = False,
        code_activation: str = "identity",
    ) -> None:
        super().__init__()
        n_features = table.n_features
        widths = [n_features, *hidden, n_components, *reversed(hidden)]
        blocks = []
        for i, (n_in, n_out) in enumerate(pairwise(widths)):
            linear: Any = Linear(n_in, n_out, bias=False)
            if i == 0:
                linear = Standardized(linear, table.center, table.scale)
            is_code = i == len(hidden)
            name = code_activation if is_code else activation
            blocks.append(Block(linear, name, 0.0 if is_code else dropout))
        for block, _ in pairwise(blocks):
            if block.activation == "identity":
                # The next normalisation removes this shift: its gradient would be pure
                # rounding error, which Adam scales to steps of full length.
                block.norm.beta.requires_grad_(False)
        n_encoder = len(hidden) + 1
        self.encoder: Any = nn.ModuleList(blocks[:n_encoder])
        self.decoder: Any = nn.ModuleList(blocks[n_encoder:])
        self.output = Linear(widths[-1], n_features)
        self.mask_output = Linear(widths[-1], n_features) if mask_head else None

    @property
    def first(self) -> Standardized:
        """The first layer, which holds the columns' means and deviations."""
        layer = self.encoder[0].linear
        assert isinstance(layer, Standardized)
        return layer

    def below_output(self, x: Tensor, draws: Draws | None = None) -> Tensor:
        """Map rows of the table, (B, F), to the last hidden layer, (B, n)."""
        for block in (*self.encoder, *self.decoder):
            x = block(x, draws)
        return x

    def code(self, units: Units, dtype: Any, *, deep: bool = False) -> Encoder:
        """Return the encoder from unstandardised rows to the code.

        Parameters
        ----------
        units : tuple of ndarray
            Mean and scale that standardise the columns.
        dtype : numpy dtype
            Type of the arrays.
        deep : bool, default=False
            Whether to return the activations of all blocks, concatenated, instead of
            the code alone.
        """
        blocks = [*self.encoder, *self.decoder] if deep else [*self.encoder]
        steps: Steps = []
        for i, block in reversed([*enumerate(blocks)]):
            own = block.steps(f"layer{i}", dtype, units if i == 0 else None)
            if steps and deep:
                steps = [(f"deep{i}", Concatenate((Encoder([]), Encoder(steps))))]
            steps = [*own, *steps]
        return Encoder(steps)

    def decoding(self, units: Units, dtype: Any) -> Encoder:
        """Return the encoder from the code back to unstandardised rows."""
        mean, scale = units
        steps: Steps = []
        for i, block in enumerate(self.decoder):
            steps += block.steps(f"layer{i}", dtype)
        weight, bias = as_array(self.output.weight).T, as_array(self.output.bias)
        output = affine(weight * scale, bias * scale + mean, dtype)
        return Encoder([*steps, ("output", output)])


@dataclass(frozen=True)
class Corruption:
    """Corruption of the rows that the network restores.

    Attributes
    ----------
    kind : {"swap", "masking", "cutout", "gaussian", "none"}
    level : float
        The share of cells (of columns, for "cutout"), or the standard deviation of the
        noise, in standard deviations of the columns.
    relative : bool
        Whether gaussian noise is multiplied by the standardised value.
    middle : Tensor of shape (n_features,)
        The value of masked cells, on the table's scale.
    """

    kind: str
    level: float
    relative: bool
    middle: Tensor

    def __call__(
        self, x: Tensor, draws: Draws, center: Tensor, scale: Tensor
    ) -> Tensor:
        """Return corrupted rows of the table."""
        if self.kind == "none":
            return x
        middle = self.middle.to(x)
        if self.kind == "swap":
            return _noise.swap(x, self.level, draws)
        if self.kind == "masking":
            return _noise.mask(x, self.level, middle, draws)
        if self.kind == "cutout":
            return _noise.cut_out(x, self.level, middle, draws)
        return _noise.add_gaussian(
            x.float(), self.level, center, scale, draws, self.relative
        )


class Denoising(Task):
    """The task of restoring rows from their corrupted copies.

    The loss is the mean squared error of the standardised cells of columns that vary; a
    missing cell has error 0. With emphasis e, corrupted cells weigh 2 e and all others
    2 (1 - e).

    Parameters
    ----------
    network : Autoencoder
    corruption : Corruption
    emphasis : float
        Weight of corrupted cells; .5 weighs all cells the same.
    mask_weight : float
        Weight of the mask head's cross-entropy.
    n_varying : int, default=None
        Number of columns that are not constant; all by default.
    has_missing : bool
        Whether the table holds NaN; the corruption's middle values replace it.
    """

    def __init__(
        self,
        network: Autoencoder,
        corruption: Corruption,
        emphasis: float = 0.5,
        mask_weight: float = 1.0,
        n_varying: int | None = None,
        has_missing: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.corruption = corruption
        self.emphasis = emphasis
        self.mask_weight = mask_weight
        n_features = len(network.first.center)
        self.n_varying = max(1, n_features if n_varying is None else n_varying)
        self.has_missing = has_missing
        weighs_cells = has_missing or emphasis != 0.5
        self.by_cell = weighs_cells or network.mask_output is not None
        self.needs_squares = not has_missing

    def forward(self, batch: Batch) -> Tensor:
        """Return the loss of this process's rows, divided by the weight of all rows."""
        x, corrupted = self._rows(batch)
        h = self._hidden(batch, corrupted, batch.draws)
        return self._loss(batch, x, corrupted, h) / (batch.total * self.n_varying)

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """Return sums over rows; `metrics` takes their totals over batches."""
        x, corrupted = self._rows(batch)
        h = self._hidden(batch, corrupted)
        loss = self._loss(batch, x, corrupted, h)
        h = self._hidden(batch, x)
        if self.has_missing:
            t, known = self._target(batch)
            error = squared_error(self.network.output(h), t, known)
            variance = squared_error(torch.zeros_like(t), t, known)
        else:
            error, variance = self._plain(batch, h), self._squares(batch)
        cells = batch.total * self.n_varying
        return {"loss": loss, "error": error, "variance": variance, "cells": cells}

    def metrics(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss, and the share of variance restored from uncorrupted rows."""
        return {
            "loss": sums["loss"] / sums["cells"],
            "r2": 1 - sums["error"] / sums["variance"],
        }

    def _hidden(self, batch: Batch, x: Tensor, draws: Draws | None = None) -> Tensor:
        """Return the last hidden layer of rows of a batch."""
        return self.network.below_output(x, draws)

    def _rows(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the rows with NaN replaced, and their corrupted copies."""
        x, first = batch.x, self.network.first
        if self.has_missing:
            x = torch.where(x.isnan(), self.corruption.middle.to(x), x)
        return x, self.corruption(x, batch.draws, first.center, first.scale)

    def _loss(self, batch: Batch, x: Tensor, corrupted: Tensor, h: Tensor) -> Tensor:
        if self.by_cell:
            return self._by_cell(batch, x, corrupted, h)
        return self._plain(batch, h)

    def _plain(self, batch: Batch, h: Tensor) -> Tensor:
        """Return the loss with the same weight for all cells of a row."""
        first, output = self.network.first, self.network.output
        loss = linear_squared_error(
            h, output.weight, output.bias, batch.x,
            first.center, first.scale, batch.weight,
        )  # fmt: skip
        return loss + self._squares(batch)

    def _squares(self, batch: Batch) -> Tensor:
        """Return the sum over rows of their squared cells."""
        w, squares = batch.weight, batch.squares
        return (squares if w is None else squares * w).sum()

    def _by_cell(self, batch: Batch, x: Tensor, corrupted: Tensor, h: Tensor) -> Tensor:
        """Return the loss with a weight for each cell."""
        t, known = self._target(batch)
        weights = known
        changed = (corrupted != x).float()
        if self.emphasis != 0.5:
            cells = 2 * (1 - self.emphasis) + (4 * self.emphasis - 2) * changed
            weights = cells if known is None else cells * known
        loss = squared_error(self.network.output(h), t, weights)
        if self.network.mask_output is not None:
            surprise = F.binary_cross_entropy_with_logits(
                self.network.mask_output(h), changed, weight=known, reduction="sum"
            )
            loss = loss + self.mask_weight * surprise
        return loss

    def _target(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Return the standardised rows, and the weights of cells if they differ."""
        t = self.network.first.standardize(batch.x)
        weights = None if batch.weight is None else batch.weight[:, None]
        if self.has_missing:
            known = (~t.isnan()).float()
            t = t.nan_to_num(0.0)
            weights = known if weights is None else known * weights
        return t, weights
