"""The denoising autoencoder, and what it is trained to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from numerai_features.nn import _noise
from numerai_features.nn._batches import Batch, Table
from numerai_features.nn._draws import Draws
from numerai_features.nn._layers import Block, StackedLinear, Standardized
from numerai_features.nn._losses import linear_squared_error, squared_error


class Autoencoder(nn.Module):
    """F - hidden - code - mirrored hidden - F, for each of several models.

    Every layer but the output is followed by batch normalisation, so that the code has
    unit variance; the code has no activation.

    Parameters
    ----------
    seeds : sequence of int
        One a model: its initial weights.
    table : Table
        Gives the number of features, and their means and standard deviations.
    hidden : sequence of int
        Units of the layers before the code; those after it mirror them.
    n_components : int
        Units of the code.
    activation : str
        A name of `ACTIVATIONS`.
    dropout : float
        Of the hidden units.
    mask_head : bool
        Whether a second output tells which cells were corrupted.
    dtype : torch.dtype
        What products are made in.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        table: Table,
        hidden: Sequence[int],
        n_components: int,
        activation: str,
        dropout: float = 0.0,
        mask_head: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        n_features = table.n_features

        def linear(name: int, n_in: int, n_out: int, bias: bool) -> StackedLinear:
            return StackedLinear(seeds, name, n_in, n_out, bias=bias, dtype=dtype)

        widths = [n_features, *hidden, n_components, *reversed(hidden)]
        blocks = []
        for i, (n_in, n_out) in enumerate(pairwise(widths)):
            plain = linear(i, n_in, n_out, bias=False)
            first = Standardized(plain, table.center, table.scale) if i == 0 else None
            is_code = i == len(hidden)
            name = "identity" if is_code else activation
            blocks.append(Block(first or plain, name, 0.0 if is_code else dropout))
        for block, _ in pairwise(blocks):
            if block.activation == "identity":
                # The next normalisation takes a shift out again; its gradient would be
                # nothing but rounding, from which Adam makes steps of full length.
                block.norm.beta.requires_grad_(False)
        n_encoder = len(hidden) + 1
        self.encoder = nn.ModuleList(blocks[:n_encoder])
        self.decoder = nn.ModuleList(blocks[n_encoder:])
        self.output = linear(len(blocks), widths[-1], n_features, bias=True)
        self.mask_output = (
            linear(len(blocks) + 1, widths[-1], n_features, bias=True)
            if mask_head
            else None
        )

    @property
    def first(self) -> Standardized:
        """The first layer, which knows the columns' means and deviations."""
        layer = self.encoder[0].linear
        assert isinstance(layer, Standardized)
        return layer

    def below_output(self, x: Tensor, draws: Draws | None) -> Tensor:
        """Map rows (M, B, F) to the last hidden layer, (M, B, n)."""
        for block in (*self.encoder, *self.decoder):
            x = block(x, draws)
        return x


@dataclass(frozen=True)
class Corruption:
    """What is done to the rows that the network is to restore.

    Attributes
    ----------
    kind : {"swap", "masking", "cutout", "gaussian"}
    level : float
        The share of cells (of columns, for "cutout"), or the standard deviation of
        the noise in those of the columns.
    relative : bool
        Gaussian noise times the standardised value.
    middle : Tensor of shape (n_features,)
        The value of masked cells, as the table has it.
    """

    kind: str
    level: float
    relative: bool
    middle: Tensor

    def __call__(self, batch: Batch, center: Tensor, scale: Tensor) -> Tensor:
        """Return this process's rows, corrupted."""
        middle = self.middle.to(batch.x)
        if self.kind == "swap":
            return _noise.swap(batch.x, self.level, batch.draws)
        if self.kind == "masking":
            return _noise.mask(batch.x, self.level, middle, batch.draws)
        if self.kind == "cutout":
            return _noise.cut_out(batch.x, self.level, middle, batch.draws)
        return _noise.add_gaussian(
            batch.x.float(), self.level, center, scale, batch.draws, self.relative
        )


class Denoising(nn.Module):
    """The loss of restoring rows from their corrupted copies.

    Mean squared error of the standardised cells of columns that vary; a missing cell
    counts as restored. With an emphasis e, corrupted cells weigh 2 e and all others
    2 (1 - e).

    Parameters
    ----------
    network : Autoencoder
    corruption : Corruption
    emphasis : float
        .5 weighs all cells the same.
    mask_weight : float
        Weight of the mask head's cross-entropy.
    n_varying : int, default=None
        Columns that are not constant; all by default.
    has_missing : bool
        Whether the table holds NaN; the corruption's middle values stand in for it.
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
        n_features = network.first.center.shape[1]
        self.n_varying = max(1, n_features if n_varying is None else n_varying)
        self.has_missing = has_missing

    def forward(self, batch: Batch) -> Tensor:
        """Return the loss of this process's rows over all rows' weight, (M,)."""
        filled = self._filled(batch)
        corrupted = self._corrupted(filled)
        h = self.network.below_output(corrupted, batch.draws)
        dtype = self.network.output.dtype
        loss = self._loss(batch, filled.x, corrupted, h, dtype)
        return loss / (batch.total * self.n_varying)

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """Return sums over rows, each (M,), that `metrics` takes when added."""
        filled = self._filled(batch)
        corrupted = self._corrupted(filled)
        h = self.network.below_output(corrupted, None)
        loss = self._loss(batch, filled.x, corrupted, h, torch.float32)
        h = self.network.below_output(filled.x, None)
        if self.has_missing:
            t, known = self._target(batch)
            error = squared_error(self.network.output(h), t, known)
            variance = squared_error(torch.zeros_like(t), t, known)
        else:
            error = self._plain(filled, h, torch.float32)
            variance = self._squares(filled)
        cells = batch.total * self.n_varying
        return {"loss": loss, "error": error, "variance": variance, "cells": cells}

    @staticmethod
    def metrics(sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss, and the share of variance restored from intact rows."""
        return {
            "loss": sums["loss"] / sums["cells"],
            "r2": 1 - sums["error"] / sums["variance"],
        }

    def _filled(self, batch: Batch) -> Batch:
        if not self.has_missing:
            return batch
        middle = self.corruption.middle.to(batch.x)
        return replace(batch, x=torch.where(batch.x.isnan(), middle, batch.x))

    def _corrupted(self, filled: Batch) -> Tensor:
        first = self.network.first
        return self.corruption(filled, first.center, first.scale)

    def _loss(
        self,
        batch: Batch,
        x: Tensor,
        corrupted: Tensor,
        h: Tensor,
        dtype: torch.dtype,
    ) -> Tensor:
        if self.network.mask_output or self.has_missing or self.emphasis != 0.5:
            return self._dense(batch, x, corrupted, h)
        return self._plain(batch, h, dtype)

    def _plain(self, batch: Batch, h: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the loss with the same weight for all cells of a row."""
        first, output = self.network.first, self.network.output
        assert output.bias is not None
        loss = linear_squared_error(
            h, output.weight, output.bias, batch.x,
            first.center, first.scale, batch.weight, dtype,
        )  # fmt: skip
        return loss + self._squares(batch)

    def _squares(self, batch: Batch) -> Tensor:
        """Return the sum over rows of their squared cells, (M,)."""
        w = batch.weight
        return (batch.squares if w is None else batch.squares * w).sum(1)

    def _dense(self, batch: Batch, x: Tensor, corrupted: Tensor, h: Tensor) -> Tensor:
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
                self.network.mask_output(h), changed, weight=known, reduction="none"
            )
            loss = loss + self.mask_weight * surprise.sum((1, 2))
        return loss

    def _target(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Return the standardised rows, and the weight of each cell if they differ."""
        first = self.network.first
        t = (batch.x.float() - first.center[:, None]) / first.scale[:, None]
        weights = None if batch.weight is None else batch.weight[..., None]
        if self.has_missing:
            known = (~t.isnan()).float()
            t = t.nan_to_num(0.0)
            weights = known if weights is None else known * weights
        return t, weights
