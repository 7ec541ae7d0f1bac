"""A multilayer perceptron, and the task of predicting targets within eras."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from numerai_features.encoders import Activation, Encoder
from numerai_features.nn._batches import Batch, Table
from numerai_features.nn._draws import Draws
from numerai_features.nn._layers import (
    Array,
    Block,
    Linear,
    Standardized,
    Steps,
    Units,
    affine,
    as_array,
)
from numerai_features.nn._losses import era_corr, squared_correlation, target_loss
from numerai_features.nn._noise import mask
from numerai_features.nn._parallel import sum_over_processes
from numerai_features.nn._products import Parts, centered_parts, table_product
from numerai_features.nn._task import Task

Part = tuple[Tensor, Tensor]
"""A sum over rows or eras, and its divisor."""

_TINY = 1e-12


class Perceptron(nn.Module):
    """Layers F - hidden - targets; batch normalisation in all of the hidden ones.

    Parameters
    ----------
    table : Table
        Table with the number of features and their means and standard deviations.
    hidden : sequence of int
        Units of the hidden layers.
    n_targets : int
    activation : str
        A name of `ACTIVATIONS`.
    dropout : float
        Dropout rate of the hidden units.
    feature_dropout : float
        Share of the cells of each row that are set to the middle value in training; the
        first layer's output is scaled so that its mean is that of the whole row.
    middle : Tensor of shape (n_features,)
        The middle values, on the table's scale.
    has_level : bool
        Whether the loss depends on the level of the predictions, which is the bias of
        the last layer.

    Attributes
    ----------
    factor, constant : Tensor of shape (n_targets,), float64
        Predictions in units of the targets are ``factor * output + constant``.
    """

    factor: Tensor
    constant: Tensor

    def __init__(
        self,
        table: Table,
        hidden: Sequence[int],
        n_targets: int,
        activation: str,
        dropout: float,
        feature_dropout: float,
        middle: Tensor,
        has_level: bool,
    ) -> None:
        super().__init__()
        blocks: list[Block] = []
        for n_in, n_out in pairwise([table.n_features, *hidden]):
            linear: Any = Linear(n_in, n_out, bias=False)
            if not blocks:
                linear = Standardized(linear, table.center, table.scale)
            blocks.append(Block(linear, activation, dropout, lean=True))
        self.blocks: Any = nn.ModuleList(blocks)
        self.activation, self.feature_dropout = activation, feature_dropout
        # A constant column tells nothing, whether its cell is dropped or not.
        self.middle = torch.where(table.varies > 0, middle, table.center)
        self.head = Linear(hidden[-1], n_targets)
        # A correlation's gradient of it would be pure rounding error, which Adam scales
        # to steps of full length.
        self.head.bias.requires_grad_(has_level)
        self.register_buffer("factor", torch.ones(n_targets, dtype=torch.float64))
        self.register_buffer("constant", torch.zeros(n_targets, dtype=torch.float64))

    def forward(self, x: Tensor, draws: Draws | None = None) -> Tensor:
        """Map rows of the table, (B, F), to outputs, (B, n_targets).

        Parameters
        ----------
        x : Tensor of shape (B, F)
        draws : Draws, default=None
            Draws for dropout in training; without them there is none.
        """
        first, *rest = self.blocks
        if self.training and draws is not None and self.feature_dropout:
            h = first.after(self._of_some_cells(x, draws), draws)
        else:
            h = first(x, draws)
        for block in rest:
            h = block(h, draws)
        outputs: Tensor = self.head(h)
        return outputs

    def _of_some_cells(self, x: Tensor, draws: Draws) -> Tensor | Parts:
        """Return the first layer's output of rows in which some cells are dropped."""
        layer, share = self.blocks[0].linear, self.feature_dropout
        x = mask(x, share, self.middle.to(x), draws)
        matrix, center = layer.of_some_cells(layer.linear.weight.T, share, self.middle)
        multiply = centered_parts if self.blocks[0].is_lean(x) else table_product
        return multiply(x, matrix, center)

    def set_units(self, factor: Array, constant: Array) -> None:
        """Set the units of predictions, see `factor`."""
        self.factor.copy_(torch.from_numpy(factor))
        self.constant.copy_(torch.from_numpy(constant))

    def latents(self, units: Units, dtype: Any) -> Encoder:
        """Return the encoder from raw rows to the last hidden layer.

        Parameters
        ----------
        units : tuple of ndarray
            Mean and scale that standardise the columns.
        dtype : numpy dtype
            Type of the arrays.
        """
        steps: Steps = []
        for i, block in enumerate(self.blocks):
            steps += block.steps(f"layer{i}", dtype, units if i == 0 else None)
        return Encoder(steps)

    def prediction(self, latents: Encoder, dtype: Any, *, sigmoid: bool) -> Encoder:
        """Return the encoder from raw rows to predictions in units of the targets.

        Parameters
        ----------
        latents : Encoder
            The result of `latents`.
        dtype : numpy dtype
            Type of the arrays.
        sigmoid : bool
            Whether a sigmoid maps predictions to [0, 1].
        """
        factor, constant = as_array(self.factor), as_array(self.constant)
        weight, bias = as_array(self.head.weight).T, as_array(self.head.bias)
        head = affine(weight * factor, bias * factor + constant, dtype)
        steps: Steps = [*latents.steps, ("head", head)]
        return Encoder([*steps, *[("sigmoid", Activation("sigmoid"))] * sigmoid])


class Predicting(Task):
    """The task of predicting targets, and of not following a benchmark.

    Parameters
    ----------
    network : Perceptron
    loss : {"mse", "mae", "bce", "corr", "numerai_corr"}
        Loss of the predictions, as in `target_loss`.
    penalty : float
        Weight of the squared correlation with the benchmark within eras. If it is
        positive, the last column of a batch's targets is the benchmark.
    middle : Tensor of shape (n_features,)
        The values that replace NaN, on the table's scale.
    has_missing : bool
        Whether the table holds NaN.
    has_eras : bool
        Whether each batch to evaluate is an era; then the metrics include ``corr``, the
        CORR with the first target.
    """

    def __init__(
        self,
        network: Perceptron,
        loss: str,
        penalty: float,
        middle: Tensor,
        has_missing: bool = False,
        has_eras: bool = True,
    ) -> None:
        super().__init__()
        self.network = network
        self.loss, self.penalty = loss, penalty
        self.middle, self.has_missing = middle, has_missing
        self.judges_eras = has_eras

    def forward(self, batch: Batch) -> Tensor:
        """Return the batch's loss; an era that tells nothing is not part of it."""
        total = batch.total.new_zeros(())
        for weight, (value, n) in self._parts(batch, self._outputs(batch)).values():
            n = sum_over_processes(n.clone()).clamp(min=_TINY)
            total = total + weight * value / n
        return total

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """Return sums over rows or eras; `metrics` takes their totals over batches."""
        p = self._outputs(batch)
        sums: dict[str, Tensor] = {}
        for name, (_, (value, n)) in self._parts(batch, p).items():
            sums |= {name: value, f"{name}_n": n}
        if self.judges_eras:
            assert batch.y is not None
            sums["eras"], sums["corr"] = era_corr(p[:, 0], batch.y[:, 0])
        return sums

    def metrics(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss with the penalty, the penalty alone, and eras' mean CORR."""
        metrics = {"loss": sums["loss"] / sums["loss_n"]}
        if self.penalty:
            n = sums["penalty_n"].clamp(min=_TINY)  # 0 if no benchmark is known
            metrics["penalty"] = sums["penalty"] / n
            metrics["loss"] = metrics["loss"] + self.penalty * metrics["penalty"]
        if "corr" in sums:
            metrics["corr"] = sums["corr"] / sums["eras"]
        return metrics

    falling = frozenset({"loss", "penalty"})

    def _outputs(self, batch: Batch) -> Tensor:
        x = batch.x
        if self.has_missing:
            x = torch.where(x.isnan(), self.middle.to(x), x)
        p: Tensor = self.network(x, batch.draws if self.training else None)
        return p

    def _parts(self, batch: Batch, p: Tensor) -> dict[str, tuple[float, Part]]:
        """Return the parts of the loss by name, each with its weight."""
        y, w = batch.y, batch.weight
        assert y is not None
        own = y[:, : p.shape[1]]
        parts = {"loss": (1.0, target_loss(self.loss, p, own, w, batch.members))}
        if self.penalty:
            told = p.sigmoid() if self.loss == "bce" else p
            follows = squared_correlation(told, y[:, -1], w, batch.members)
            parts["penalty"] = (self.penalty, follows)
        return parts
