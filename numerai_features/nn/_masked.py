"""Masked autoencoder: the network, and the task of telling what masked cells hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from numerai_features.nn._autoencoder import Autoencoder
from numerai_features.nn._batches import Batch, Table
from numerai_features.nn._draws import Draws
from numerai_features.nn._layers import Linear
from numerai_features.nn._losses import squared_error
from numerai_features.nn._parallel import sum_over_processes
from numerai_features.nn._passes import blocks_of
from numerai_features.nn._task import Task
from numerai_features.nn._threads import each, empty, shares_out

_TINY = 1e-12
_HIDDEN_TARGETS = 0.5  # share of the rows of a step whose targets are masked


class MaskedNetwork(Autoencoder):
    """Autoencoder whose output has several numbers for each cell, and tells targets.

    Parameters
    ----------
    table, hidden, n_components, activation, dropout
        As in `Autoencoder`.
    n_bins : int
        Numbers for each cell; 1 for the cell itself.
    n_targets : int
        Number of targets that are inputs beside the features, and outputs.
    """

    def __init__(
        self,
        table: Table,
        hidden: Sequence[int],
        n_components: int,
        activation: str,
        dropout: float,
        n_bins: int,
        n_targets: int,
    ) -> None:
        super().__init__(table, hidden, n_components, activation, dropout)
        width, first = self.output.in_features, self.first.linear.out_features
        self.output = Linear(width, n_bins * table.n_features)
        # No target, or one that is masked, is 0: then nothing is added.
        self.target_input: Any = None
        self.target_output: Any = None
        if n_targets:
            self.target_input = Linear(n_targets, first, bias=False)
            self.target_output = Linear(width, n_targets)

    def with_targets(self, x: Tensor, shown: Tensor, draws: Draws | None) -> Tensor:
        """Map rows, (B, F), and targets, (B, T), to the last hidden layer, (B, n)."""
        blocks = [*self.encoder, *self.decoder]
        product = blocks[0].linear(x) + self.target_input(shown)
        h: Tensor = blocks[0].after(product, draws)
        for block in blocks[1:]:
            h = block(h, draws)
        return h


class Masking(Task):
    """The task of telling the masked cells of a row from its other cells.

    The loss is the mean over masked, known cells of columns that vary, and over the
    masked, known targets: it is the sum of both means.

    Parameters
    ----------
    network : MaskedNetwork
    share : float
        Probability that a cell is masked.
    middle : Tensor of shape (n_features,)
        Value of masked and of missing cells, on the table's scale.
    varies : Tensor of shape (n_features,)
        0 for constant columns.
    edges : Tensor of shape (n_bins - 1, n_features) or None
        Edges between bins, on the table's scale: the loss is the cross-entropy of the
        cell's bin. None: the squared error of the standardised cell.
    has_missing : bool
        Whether the table holds NaN.
    """

    falling = frozenset({"loss", "cells", "targets"})
    varies: Tensor  # (F,)
    edges: Tensor | None  # (n_bins - 1, F)

    def __init__(
        self,
        network: MaskedNetwork,
        share: float,
        middle: Tensor,
        varies: Tensor,
        edges: Tensor | None,
        has_missing: bool = False,
    ) -> None:
        super().__init__()
        self.network, self.share = network, share
        # A constant column tells nothing, whether its cell is masked or not.
        self.middle = torch.where(varies > 0, middle, network.first.center)
        self.has_missing = has_missing
        self.n_masked = share * max(1.0, float(varies.sum()))
        self.register_buffer("varies", varies.clone(), persistent=False)
        self.register_buffer("edges", edges, persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        """Return the loss of this process's rows, divided by the counts of all rows."""
        sums = self._sums(batch)
        loss = sums["cells"] / sums["cells_n"]
        if "targets" in sums:
            n = sum_over_processes(sums["targets_n"].clone()).clamp(min=_TINY)
            loss = loss + sums["targets"] / n
        return loss

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """Return sums over rows; all targets are masked, as in `transform`."""
        return self._sums(batch)

    def metrics(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss, and its two parts if there are targets."""
        cells = sums["cells"] / sums["cells_n"]
        if "targets" not in sums:
            return {"loss": cells}
        # NaN where no held-out target is known: the cells alone decide then.
        targets = sums["targets"] / sums["targets_n"]
        loss = cells + targets.nan_to_num(0.0)
        return {"loss": loss, "cells": cells, "targets": targets}

    def _sums(self, batch: Batch) -> dict[str, Tensor]:
        x, network = batch.x, self.network
        draws = batch.draws if self.training else None
        middle, known = self.middle.to(x), self.varies
        if self.has_missing:
            known = known * ~x.isnan()
            x = torch.where(x.isnan(), middle, x)
        masked = batch.draws.chosen(self.share, x.shape[1])
        seen = torch.where(masked, middle, x)
        weights = known * masked
        if batch.weight is not None:
            weights = weights * batch.weight[:, None]
        n = batch.total * self.n_masked
        if self.has_missing:
            n = self.share * known_cells(batch, known, shared=self.training)
        sums = {"cells_n": n}
        if network.target_input is None:
            h = network.below_output(seen, draws)
        else:
            shown, hidden = self._targets(batch)
            h = network.with_targets(seen, shown, draws)
            told = network.target_output(h)
            assert batch.y is not None
            sums["targets"] = squared_error(told, batch.y.nan_to_num(0.0), hidden)
            sums["targets_n"] = hidden.sum()
        sums["cells"] = self._of_cells(network.output(h), x, weights)
        return sums

    def _targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the targets that are shown, 0 elsewhere, and the others' weights."""
        y = batch.y
        assert y is not None
        known, masked = ~y.isnan(), torch.ones_like(y[:, :1], dtype=torch.bool)
        if self.training:
            masked = batch.draws.chosen(_HIDDEN_TARGETS, 1)
        hidden = (known & masked).float()
        if batch.weight is not None:
            hidden = hidden * batch.weight[:, None]
        return torch.where(known & ~masked, y, 0.0), hidden

    def _of_cells(self, output: Tensor, x: Tensor, weights: Tensor) -> Tensor:
        """Return the sum over cells of their weighted losses."""
        if self.edges is None:
            return squared_error(output, self.network.first.standardize(x), weights)
        bins = torch.zeros(x.shape, dtype=torch.uint8, device=x.device)
        for edges in self.edges:
            bins = bins + (x > edges).to(torch.uint8)
        return bin_surprise(output, bins, weights)


def known_cells(batch: Batch, known: Tensor, *, shared: bool) -> Tensor:
    """Return the weighted number of known cells of a batch.

    Parameters
    ----------
    batch : Batch
    known : Tensor of shape (B, F)
        1 for a cell that is known, of a column that varies.
    shared : bool
        Whether several processes share the batch, as in training; each evaluates whole
        batches.
    """
    rows = known.sum(1)
    total = rows.sum() if batch.weight is None else rows @ batch.weight
    total = sum_over_processes(total.clone()) if shared else total
    return total.clamp(min=_TINY)


def bin_surprise(logits: Tensor, bins: Tensor, weights: Tensor) -> Tensor:
    """Return the sum over cells of the weighted cross-entropy of their bins.

    Parameters
    ----------
    logits : Tensor of shape (B, n_bins * F)
        Of the first bin of every column, of the second, and so on.
    bins : Tensor of shape (B, F)
    weights : Tensor of shape (B, F)
    """
    loss, _ = _BinSurprise.apply(logits, bins, weights)  # type: ignore[no-untyped-call]
    return loss  # type: ignore[no-any-return]


class _BinSurprise(torch.autograd.Function):
    """Cross-entropy that computes its gradient along with it, in blocks of rows."""

    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, bins: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        if not shares_out(logits):
            return _surprise(logits, bins, weights)
        grad, blocks = empty(tuple(logits.shape), logits.dtype), blocks_of(logits)
        losses = torch.empty(len(blocks))

        def fill(i: int) -> None:
            rows = blocks[i]
            losses[i], grad[rows] = _surprise(logits[rows], bins[rows], weights[rows])

        each(fill, range(len(blocks)))
        return losses.sum(), grad

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor, None, None]:
        (slopes,) = ctx.saved_tensors
        return slopes * grad, None, None


def _surprise(logits: Tensor, bins: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    n_rows, n_features = bins.shape
    z = logits.reshape(n_rows, -1, n_features)  # (B, n_bins, F)
    log_p = F.log_softmax(z, 1)
    every = torch.arange(z.shape[1], device=z.device, dtype=bins.dtype)[:, None]
    own = bins[:, None] == every
    loss = -((log_p * own).sum(1) * weights).sum()
    slopes = (log_p.exp() - own.to(z.dtype)) * weights[:, None]
    return loss, slopes.reshape(n_rows, -1)
