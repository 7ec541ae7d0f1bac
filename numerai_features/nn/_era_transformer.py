"""The era transformer, and the tasks of telling masked cells and targets."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from numerai_features.encoders import Encoder, FeatureTokens, Positions, TokenMean
from numerai_features.encoders._attention import sinusoids
from numerai_features.nn._attention import AttentionBlock, LayerNorm, Sequences
from numerai_features.nn._batches import Batch, Table
from numerai_features.nn._draws import Draws
from numerai_features.nn._layers import (
    Array,
    Linear,
    Standardized,
    Steps,
    Units,
    affine,
    as_array,
    of_raw_rows,
)
from numerai_features.nn._losses import era_corr, squared_error, target_loss
from numerai_features.nn._masked import known_cells
from numerai_features.nn._products import table_product
from numerai_features.nn._task import Task

_TINY = 1e-12


class Tokens(nn.Module):
    """Tokens of a row: sums of vectors of the bins of a group of features.

    Parameters
    ----------
    edges : Tensor of shape (n_bins - 1, n_features)
        Edges between bins, on the table's scale.
    width : int
        Of a token.
    n_groups : int
        Groups of neighbouring columns, as large as each other.
    """

    edges: Tensor

    def __init__(self, edges: Tensor, width: int, n_groups: int) -> None:
        super().__init__()
        self.n_features, self.n_bins = edges.shape[1], len(edges) + 1
        parts = np.array_split(np.arange(self.n_features), n_groups)
        self.borders = (0, *(int(part[-1]) + 1 for part in parts))
        self.vectors = nn.Parameter(torch.zeros(self.n_bins * self.n_features, width))
        self.groups = nn.Parameter(torch.zeros(n_groups, width))
        self.register_buffer("edges", edges, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map rows of the table, (B, F), to tokens, (B * n_groups, width)."""
        bins = torch.zeros(x.shape, dtype=torch.uint8, device=x.device)
        for edges in self.edges:
            bins = bins + (x > edges).to(torch.uint8)
        every = torch.arange(self.n_bins, device=x.device, dtype=bins.dtype)[:, None]
        own = (bins[:, None] == every).to(torch.int8)  # (B, n_bins, F)
        vectors = self.vectors.view(self.n_bins, self.n_features, -1)
        tokens = [
            table_product(own[:, :, a:b].flatten(1), vectors[:, a:b].flatten(0, 1))
            for a, b in pairwise(self.borders)
        ]
        return (torch.stack(tokens, 1) + self.groups).flatten(0, 1)

    def step(self, edges: Array, dtype: Any) -> FeatureTokens:
        """Return the numpy form, with edges in the units of raw rows."""
        shape = self.n_bins, self.n_features, -1
        vectors = as_array(self.vectors).reshape(shape).astype(dtype)
        groups = as_array(self.groups).astype(dtype)
        return FeatureTokens(edges, vectors, groups, self.borders)


class TransformerNetwork(nn.Module):
    """Attention among the rows of an era, or among the tokens of each row.

    A first layer makes tokens of rows; blocks of attention follow; a normalised token
    (the mean of a row's tokens) is mapped to the code, and the code to cells and to
    targets. Nothing depends on moments of a batch: training and use are one function.

    Parameters
    ----------
    table : Table
        Table with the number of features and their means and standard deviations.
    blocks : list of AttentionBlock
    width : int
        Of a token.
    n_components : int
        Units of the code.
    n_targets : int
        Outputs beside the cells; 0 for none.
    tells_cells : bool
        Whether cells are an output.
    tokens : Tokens or None
        The tokens of a row; None: a row is a token.
    positional : bool
        Whether the place of a row in its era is added to its token.
    has_level : bool
        Whether the loss depends on the level of predicted targets.

    Attributes
    ----------
    factor, constant : Tensor of shape (n_targets,), float64
        Predictions in units of the targets are ``factor * output + constant``.
    """

    factor: Tensor
    constant: Tensor
    center: Tensor  # (F,)
    scale: Tensor  # (F,)

    def __init__(
        self,
        table: Table,
        blocks: list[AttentionBlock],
        width: int,
        n_components: int,
        n_targets: int,
        tells_cells: bool,
        tokens: Tokens | None = None,
        positional: bool = False,
        has_level: bool = True,
    ) -> None:
        super().__init__()
        n_features = table.n_features
        self.rows: Any = None
        if tokens is None:
            rows = Linear(n_features, width)
            self.rows = Standardized(rows, table.center, table.scale)
        self.tokens, self.positional = tokens, positional
        self.register_buffer("center", table.center.clone(), persistent=False)
        self.register_buffer("scale", table.scale.clone(), persistent=False)
        self.blocks: Any = nn.ModuleList(blocks)
        self.norm, self.code = LayerNorm(width), Linear(width, n_components)
        self.output: Any = Linear(n_components, n_features) if tells_cells else None
        self.head: Any = None
        if n_targets:
            self.head = Linear(n_components, n_targets)
            # See `Perceptron`.
            self.head.bias.requires_grad_(has_level)
            for name, value in (("factor", torch.ones), ("constant", torch.zeros)):
                self.register_buffer(name, value(n_targets, dtype=torch.float64))

    def forward(
        self, x: Tensor, eras: list[slice], draws: Draws | None = None
    ) -> Tensor:
        """Map rows of the table, (B, F), to codes, (B, n_components).

        Parameters
        ----------
        x : Tensor of shape (B, F)
        eras : list of slice
            The rows of each era.
        draws : Draws, default=None
            Draws for dropout in training; without them there is none.
        """
        sequences: Sequences = eras
        if self.tokens is None:
            h = self.rows(x)
        else:
            h, sequences = self.tokens(x), len(self.tokens.groups)
        if self.positional:
            places = [sinusoids(own.stop - own.start, h.shape[1]) for own in eras]
            h = h + torch.from_numpy(np.concatenate(places)).to(h)
        for block in self.blocks:
            h = block(h, sequences, draws)
        if isinstance(sequences, int):
            h = h.view(len(x), sequences, -1).mean(1)
        code: Tensor = self.code(self.norm(h))
        return code

    def standardize(self, x: Tensor) -> Tensor:
        """Return standardised rows of the table, (B, F)."""
        return (x.float() - self.center) / self.scale

    def set_units(self, factor: Array, constant: Array) -> None:
        """Set the units of predictions, see `factor`."""
        self.factor.copy_(torch.from_numpy(factor))
        self.constant.copy_(torch.from_numpy(constant))

    def latents(self, units: Units, dtype: Any, edges: Array | None = None) -> Encoder:
        """Return the encoder from raw rows of an era to their codes.

        Parameters
        ----------
        units : tuple of ndarray
            Mean and scale that standardise the columns.
        dtype : numpy dtype
            Type of the arrays.
        edges : ndarray, default=None
            Edges between bins in the units of raw rows, for tokens of features.
        """
        steps: Steps
        if self.tokens is not None:
            assert edges is not None
            steps = [("tokens", self.tokens.step(edges, dtype))]
        else:
            layer = self.rows.linear
            weight, constant = of_raw_rows(as_array(layer.weight).T, units)
            steps = [("rows", affine(weight, constant + as_array(layer.bias), dtype))]
        if self.positional:
            steps.append(("positions", Positions()))
        for i, block in enumerate(self.blocks):
            steps += block.steps(f"block{i}", dtype)
        if self.tokens is not None:
            steps.append(("mean", TokenMean()))
        weight, bias = as_array(self.code.weight).T, as_array(self.code.bias)
        steps.append(("norm", self.norm.step(dtype)))
        steps.append(("code", affine(weight, bias, dtype)))
        return Encoder(steps)

    def prediction(self, latents: Encoder, dtype: Any) -> Encoder:
        """Return the encoder from raw rows to predictions in units of the targets."""
        factor, constant = as_array(self.factor), as_array(self.constant)
        weight, bias = as_array(self.head.weight).T, as_array(self.head.bias)
        head = affine(weight * factor, bias * factor + constant, dtype)
        return Encoder([*latents.steps, ("head", head)])

    def decoding(self, units: Units, dtype: Any) -> Encoder:
        """Return the encoder from the code back to unstandardised rows."""
        mean, scale = units
        weight, bias = as_array(self.output.weight).T, as_array(self.output.bias)
        return Encoder([("output", affine(weight * scale, bias * scale + mean, dtype))])


class EraTask(Task):
    """The tasks of telling masked cells of an era's rows, and targets of whole rows.

    The loss is the sum of: the mean squared error of masked, known, standardised cells
    of columns that vary; the loss of the targets; the weight times the mean squared
    correlation of the code's columns.

    Parameters
    ----------
    network : TransformerNetwork
    share : float
        Probability that a cell is masked.
    middle : Tensor of shape (n_features,)
        Value of masked and of missing cells, on the table's scale.
    varies : Tensor of shape (n_features,)
        0 for constant columns.
    loss : {"mse", "corr", "numerai_corr"}
        Loss of the targets, as in `target_loss`.
    orthogonality : float
        The weight.
    has_missing : bool
        Whether the table holds NaN.
    has_eras : bool
        Whether each batch to evaluate is an era.
    """

    falling = frozenset({"loss", "cells", "targets", "orthogonality"})
    varies: Tensor

    def __init__(
        self,
        network: TransformerNetwork,
        share: float,
        middle: Tensor,
        varies: Tensor,
        loss: str,
        orthogonality: float,
        has_missing: bool,
        has_eras: bool,
    ) -> None:
        super().__init__()
        self.network, self.share, self.loss = network, share, loss
        self.middle = torch.where(varies > 0, middle, network.center)
        self.orthogonality, self.has_missing = orthogonality, has_missing
        self.judges_eras = has_eras
        self.n_masked = share * max(1.0, float(varies.sum()))
        self.register_buffer("varies", varies.clone(), persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        """Return the batch's loss; an era whose targets tell nothing is not part."""
        return self._loss(self._sums(batch))

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """Return sums over rows or eras; `metrics` takes their totals over batches."""
        return self._sums(batch)

    def metrics(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss, its parts, and eras' mean CORR with the first target."""
        means = {
            name: value / sums[f"{name}_n"].clamp(min=_TINY)
            for name, value in sums.items()
            if not name.endswith("_n")
        }
        return {"loss": self._loss(sums), **means}

    def _loss(self, sums: dict[str, Tensor]) -> Tensor:
        parts = {"cells": 1.0, "targets": 1.0, "orthogonality": self.orthogonality}
        terms = [
            weight * sums[name] / sums[f"{name}_n"].clamp(min=_TINY)
            for name, weight in parts.items()
            if name in sums
        ]
        return torch.stack(terms).sum()

    def _sums(self, batch: Batch) -> dict[str, Tensor]:
        """Return sums of the parts of the loss, and their divisors ("_n")."""
        x, network, middle = batch.x, self.network, self.middle
        draws = batch.draws if self.training else None
        known: Tensor = self.varies
        if self.has_missing:
            known = known * ~x.isnan()
            x = torch.where(x.isnan(), middle.to(x), x)
        sums: dict[str, Tensor] = {}
        code: Tensor | None = None
        if network.head is not None:
            code = network(x, batch.era_slices, draws)
            sums |= self._of_targets(batch, network.head(code))
        if network.output is not None:
            masked = batch.draws.chosen(self.share, x.shape[1])
            seen = torch.where(masked, middle.to(x), x)
            own = network(seen, batch.era_slices, draws)
            code = own if code is None else code
            weights = known * masked
            if batch.weight is not None:
                weights = weights * batch.weight[:, None]
            t = network.standardize(x)
            sums["cells"] = squared_error(network.output(own), t, weights)
            sums["cells_n"] = batch.total * self.n_masked
            if self.has_missing:
                n = known_cells(batch, known, shared=self.training)
                sums["cells_n"] = self.share * n
        if self.orthogonality:
            assert code is not None
            sums["orthogonality"] = batch.total * off_diagonal(code, batch.weight)
            sums["orthogonality_n"] = batch.total
        return sums

    def _of_targets(self, batch: Batch, p: Tensor) -> dict[str, Tensor]:
        y, w = batch.y, batch.weight
        assert y is not None
        value, n = target_loss(self.loss, p, y, w, batch.members)
        sums = {"targets": value, "targets_n": n}
        if self.judges_eras and not self.training:
            sums["corr_n"], sums["corr"] = era_corr(p[:, 0], y[:, 0])
        return sums


def off_diagonal(code: Tensor, w: Tensor | None) -> Tensor:
    """Return the mean squared correlation between different columns of the code.

    Parameters
    ----------
    code : Tensor of shape (B, k)
    w : Tensor of shape (B,) or None
        Weights of the rows.
    """
    k = code.shape[1]
    if k == 1:
        return code.new_zeros(())
    shares = torch.ones_like(code[:, 0]) if w is None else w
    shares = (shares / shares.sum().clamp(min=_TINY))[:, None]
    z = code - (shares * code).sum(0)
    z = F.normalize(z * shares.sqrt(), dim=0)  # a constant column has no correlation
    correlations = z.T @ z
    off = correlations - torch.diag(correlations.diagonal())
    return off.square().sum() / (k * (k - 1))
