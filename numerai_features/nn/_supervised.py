"""The supervised autoencoder with a perceptron, and its training task.

Yirun Zhang's network (Jane Street Market Prediction, 2021)::

    x0   = norm(x)
    code = act(norm(linear(x0 + noise)))
    r    = linear(drop(code))                          the rows restored
    p1   = linear(drop(act(norm(linear(r)))))          targets, from the restored rows
    z    = drop(norm([x0, code]))
    p2   = linear(drop(act(norm(linear(...z)))))       targets: the prediction

The table is never cast to floats: affine maps of its rows are folded into the matrix
that multiplies the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from numerai_features.encoders import Activation, Concatenate, Encoder
from numerai_features.nn._batches import Batch, Table
from numerai_features.nn._draws import Draws
from numerai_features.nn._layers import (
    BatchNorm,
    Block,
    Dropout,
    Linear,
    Steps,
    Units,
    affine,
    as_array,
    of_raw_rows,
)
from numerai_features.nn._losses import era_corr, linear_squared_error, target_loss
from numerai_features.nn._parallel import sum_over_processes
from numerai_features.nn._passes import cell_by_cell
from numerai_features.nn._products import in_float32, product, table_product
from numerai_features.nn._table_norms import TableNorm, TableNormAgain
from numerai_features.nn._task import Task

Part = tuple[Tensor, Tensor]
"""A sum over rows, and its divisor."""

_TINY = 1e-12


class SupervisedAutoencoder(nn.Module):
    """The network of the module's docstring.

    Parameters
    ----------
    table : Table
        Table with the number of features and their means and standard deviations.
    n_targets : int
    n_components : int
        Units of the code.
    decoder_units : int
        Units of the layer between ``r`` and ``p1``.
    hidden : sequence of int
        Units of the layers between ``z`` and ``p2``.
    activation : str
        A name of `ACTIVATIONS`.
    noise_level : float
        Standard deviation of the noise, in standard deviations of the columns.
    dropout : sequence of float
        Dropout rates: of the code, of the decoder's units, of ``z``, and of each of the
        `hidden` layers.
    noise : {"gaussian", "relative"}
        "relative" noise is multiplied by the normalised value.
    """

    def __init__(
        self,
        table: Table,
        n_targets: int,
        n_components: int,
        decoder_units: int,
        hidden: Sequence[int],
        activation: str,
        noise_level: float,
        dropout: Sequence[float],
        noise: str = "gaussian",
    ) -> None:
        super().__init__()
        n_features, k = table.n_features, n_components
        self.noise, self.noise_level = noise, noise_level
        self.activation = activation
        code_share, decoder_share, wide_share, *shares = dropout
        self.table_norm = TableNorm(table)
        self.encode = Linear(n_features, k, bias=False)
        self.encode_norm = BatchNorm(k)
        self.code_dropout = Dropout(code_share)
        self.restore = Linear(k, n_features)
        self.decoder = Linear(n_features, decoder_units, bias=False)
        self.decoder_norm = BatchNorm(decoder_units)
        self.decoder_dropout = Dropout(decoder_share)
        self.decoder_head = Linear(decoder_units, n_targets)
        self.wide_table_norm = TableNormAgain(n_features)
        self.wide_code_norm = BatchNorm(k)
        self.wide_dropout = Dropout(wide_share)
        self.wide = Linear(n_features + k, hidden[0], bias=False)
        self.wide_norm = BatchNorm(hidden[0])
        self.wide_out_dropout = Dropout(shares[0])
        self.blocks: Any = nn.ModuleList(
            Block(Linear(n_in, n_out, bias=False), activation, share)
            for (n_in, n_out), share in zip(pairwise(hidden), shares[1:], strict=True)
        )
        self.head = Linear(hidden[-1], n_targets)
        # The next normalisation removes this shift: its gradient would be pure rounding
        # error, which Adam scales to steps of full length.
        self.table_norm.beta.requires_grad_(False)
        for norm in (self.wide_table_norm, self.wide_code_norm):
            norm.beta.requires_grad_(wide_share > 0)

    def forward(
        self, x: Tensor, draws: Draws | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Map rows of the table.

        Parameters
        ----------
        x : Tensor of shape (B, F)
        draws : Draws, default=None
            Draws for noise and dropout in training; without them there is neither.

        Returns
        -------
        code : Tensor of shape (B, k)
        dropped : Tensor of shape (B, k)
            The code after dropout, the decoder's input: ``restore(dropped)`` gives the
            restored rows.
        first, second : Tensor of shape (B, n_targets)
            Predictions of the decoder (``p1``) and of the last layer (``p2``).
        """
        factor, shift, variance = self.table_norm(x)
        encoded = self._normalized_product(x, factor, shift, self.encode.weight.T)
        if self.training and draws is not None and self.noise_level:
            if self.noise == "relative":
                encoded = encoded + self._relative_noise(x, factor, shift, draws)
            else:
                encoded = encoded + self._noise(draws)
        code = self.encode_norm(encoded, self.activation)

        dropped = self.code_dropout(code, draws)
        # Two linear layers in sequence are merged into one.
        with in_float32(code):
            through = product(self.decoder.weight, self.restore.weight)
            constant = self.decoder.weight @ self.restore.bias
            d = product(dropped, through.T) + constant
        d = self.decoder_norm(d, self.activation)
        first = self.decoder_head(self.decoder_dropout(d, draws))

        factor, shift = self.wide_table_norm(self.table_norm, factor, shift, variance)
        n_features = x.shape[1]
        top, below = self.wide.weight.T[:n_features], self.wide.weight.T[n_features:]
        kept = None
        if self.training and draws is not None and self.wide_dropout.share:
            kept = draws.chosen(1 - self.wide_dropout.share, n_features, x.dtype)
        wide = self._normalized_product(x, factor, shift, top, kept)
        side = self.wide_dropout(self.wide_code_norm(code), draws)
        h = self.wide_norm(wide + product(side, below), self.activation)
        h = self.wide_out_dropout(h, draws)
        for block in self.blocks:
            h = block(h, draws)
        return code, dropped, first, self.head(h)

    def _normalized_product(
        self,
        x: Tensor,
        factor: Tensor,
        shift: Tensor,
        weight: Tensor,
        kept: Tensor | None = None,
    ) -> Tensor:
        """Return ``(x * factor + shift) @ weight``, with dropped cells set to zero."""
        matrix = factor[:, None] * weight
        if kept is None:
            with in_float32(x):
                constant = shift @ weight
            return table_product(x, matrix) + constant
        grow = 1 / (1 - self.wide_dropout.share)
        y = table_product(cell_by_cell(x, kept), grow * matrix)
        return y + table_product(kept, grow * shift[:, None] * weight)

    def _noise(self, draws: Draws) -> Tensor:
        """Return the contribution of normal noise on every cell to the encoder, (B, k).

        It is a sum of F normal numbers times the weights W', so it is normal with
        covariance W W', whose square root is k x k.
        """
        weight = self.encode.weight.double()  # (k, F)
        gram = weight @ weight.T
        # The matrix is singular if there are fewer features than units.
        ridge = 1e-9 * gram.diagonal().mean() + 1e-30
        eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        root = torch.linalg.cholesky(gram + ridge * eye).float()
        with in_float32(root):
            noise = product(draws.normal(len(root)) * self.noise_level, root.T)
        return noise

    def _relative_noise(
        self, x: Tensor, factor: Tensor, shift: Tensor, draws: Draws
    ) -> Tensor:
        """Return the contribution of noise that is multiplied by each cell, (B, k).

        Its covariance differs from row to row, so it is drawn for each cell.
        """
        cells = torch.addcmul(shift, x.to(factor.dtype), factor)
        noise = draws.normal(cells.shape[1]) * self.noise_level
        return product(cell_by_cell(cells, noise), self.encode.weight.T)

    def start_from(self, state: dict[str, Tensor], rows: Tensor) -> None:
        """Take the code and the restoring layer of a trained autoencoder.

        Parameters
        ----------
        state : dict of str to Tensor
            The state of a `Denoising` task, whose autoencoder has no hidden layers.
        rows : Tensor of shape (n, F)
            Some rows of the table, whose moments become the running moments.
        """

        def of(name: str) -> Tensor:
            return state[f"network.{name}"]

        table, norm = self.table_norm, self.encode_norm
        with torch.no_grad():
            standardised = (rows.float() - table.center) / table.scale
            table.mean.copy_(standardised.mean(0))
            table.variance.copy_(standardised.var(0, correction=0))
            factor = table._inverse(table.variance)
            weight = of("encoder.0.linear.linear.weight")
            # The autoencoder's rows are standardised, but not normalised.
            grow = torch.where(factor > 0, 1 / factor, 0)
            self.encode.weight.copy_(weight * grow)
            for name, own in norm.state_dict().items():
                own.copy_(of(f"encoder.0.norm.{name}"))
            norm.mean.sub_(weight @ (table.mean * table.varies))
            self.restore.weight.copy_(of("output.weight"))
            self.restore.bias.copy_(of("output.bias"))

    def steps(
        self, units: Units, dtype: Any, *, sigmoid: bool
    ) -> tuple[Encoder, Encoder]:
        """Return the encoders from raw rows to the code and to the prediction.

        Parameters
        ----------
        units : tuple of ndarray
            Mean and scale that standardise the columns.
        dtype : numpy dtype
            Type of the arrays.
        sigmoid : bool
            Whether a sigmoid maps predictions to [0, 1].
        """
        weight, wide = as_array(self.encode.weight).T, as_array(self.wide.weight).T
        n_features = len(weight)
        factor, shift = map(as_array, self.table_norm.affine())
        again, moved = map(as_array, self.wide_table_norm.affine())

        matrix, constant = of_raw_rows(factor[:, None] * weight, units)
        constant = constant + shift @ weight
        a, b = map(as_array, self.encode_norm.affine())
        steps: Steps = [("code", affine(matrix * a, constant * a + b, dtype))]
        code = Encoder([*steps, ("code_act", Activation(self.activation))])

        top, below = np.split(wide, [n_features])
        matrix, constant = of_raw_rows((again * factor)[:, None] * top, units)
        constant = constant + (again * shift + moved) @ top
        a, b = map(as_array, self.wide_code_norm.affine())
        constant = constant + b @ below
        matrix = np.concatenate([matrix, a[:, None] * below])
        a, b = map(as_array, self.wide_norm.affine())
        steps = [
            ("beside", Concatenate((Encoder([]), code))),
            ("wide", affine(matrix * a, constant * a + b, dtype)),
            ("wide_act", Activation(self.activation)),
        ]
        for i, block in enumerate(self.blocks):
            steps += block.steps(f"layer{i}", dtype)
        head = as_array(self.head.weight).T, as_array(self.head.bias)
        steps.append(("head", affine(*head, dtype)))
        if sigmoid:
            steps.append(("sigmoid", Activation("sigmoid")))
        return code, Encoder(steps)


class Supervising(Task):
    """The task of restoring rows and of predicting the targets twice.

    Parameters
    ----------
    network : SupervisedAutoencoder
    losses : str or sequence of str
        Loss of both predictions, as in `target_loss`: of all targets together, or of
        each target, whose mean is then minimised.
    weights : sequence of three floats
        Weights of the losses of ``r``, ``p1`` and ``p2``.
    middle : Tensor of shape (n_features,)
        The values that replace NaN, on the table's scale.
    n_varying : int
        Number of columns that are not constant.
    has_missing : bool
        Whether the table holds NaN.
    has_eras : bool
        Whether each batch to evaluate is an era; then the metrics include ``corr``, the
        CORR with the first target.
    sigmoid : bool
        Whether predictions are the sigmoids of the network's outputs.
    """

    falling = frozenset({"loss", "first", "restored"})

    def __init__(
        self,
        network: SupervisedAutoencoder,
        losses: str | Sequence[str],
        weights: Sequence[float],
        middle: Tensor,
        n_varying: int,
        has_missing: bool = False,
        has_eras: bool = True,
        sigmoid: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.losses = (losses,) if isinstance(losses, str) else tuple(losses)
        self.sigmoid = sigmoid
        self.weights = tuple(weights)
        self.middle, self.n_varying = middle, max(1, n_varying)
        self.has_missing, self.judges_eras = has_missing, has_eras
        self.needs_squares = not has_missing

    def forward(self, batch: Batch) -> Tensor:
        """Return the loss of this process's rows, divided by the weight of all rows."""
        restored, first, second, _ = self._parts(batch)
        losses = [restored[0] / restored[1]]
        for own, n in (first, second):
            n = sum_over_processes(n.clone()).clamp(min=_TINY)
            losses.append((own / n).mean())
        weighted = [w * loss for w, loss in zip(self.weights, losses, strict=True)]
        return torch.stack(weighted).sum()

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """Return sums over rows; `metrics` takes their totals over batches."""
        restored, first, second, p = self._parts(batch)
        assert batch.y is not None
        sums = {}
        if self.judges_eras:
            sums["eras"], sums["corr"] = era_corr(p[:, 0], batch.y[:, 0])
        parts = {"restored": restored, "first": first, "loss": second}
        for name, (value, n) in parts.items():
            sums |= {name: value, f"{name}_n": n}
        return sums

    def metrics(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the losses of ``p2``, ``p1`` and ``r``, and the mean CORR of eras."""
        names = ("loss", "first", "restored")
        losses = {name: _mean_of_told(sums[name], sums[f"{name}_n"]) for name in names}
        if "corr" in sums:
            losses["corr"] = sums["corr"] / sums["eras"]
        return losses

    def _parts(self, batch: Batch) -> tuple[Part, Part, Part, Tensor]:
        x, network, w = batch.x, self.network, batch.weight
        norm, restore = network.table_norm, network.restore
        if self.has_missing:
            x = torch.where(x.isnan(), self.middle.to(x), x)
            squares = ((x - norm.center) / norm.scale).square().sum(1)
        else:
            squares = batch.squares
        _, dropped, p, q = network(x, batch.draws if self.training else None)
        restored = linear_squared_error(
            dropped, restore.weight, restore.bias, x, norm.center, norm.scale, w
        )
        restored = restored + (squares if w is None else squares * w).sum()
        first, second = (self._of_targets(batch, head) for head in (p, q))
        return (restored, batch.total * self.n_varying), first, second, q

    def _of_targets(self, batch: Batch, p: Tensor) -> Part:
        """Return the loss of all targets, (1,), or of each, (n_targets,)."""
        y, w = batch.y, batch.weight
        assert y is not None
        bounded = p.sigmoid() if self.sigmoid else p
        alone = len(self.losses) == 1
        parts = []
        for j, kind in enumerate(self.losses):
            own = slice(None) if alone else slice(j, j + 1)
            told = (p if kind == "bce" else bounded)[:, own]
            # An era in which a target alone is unknown tells nothing of it; held-out
            # eras weigh what their rows do.
            members = None if alone and self.training else batch.members
            parts.append(target_loss(kind, told, y[:, own], w, members))
        values, counts = zip(*parts, strict=True)
        return torch.stack(values), torch.stack(counts)


def _mean_of_told(values: Tensor, counts: Tensor) -> Tensor:
    """Return the mean of sums over counts, of those that count anything.

    NaN, if none does.
    """
    told = counts > 0
    ratios = torch.where(told, values / counts.clamp(min=_TINY), 0.0)
    return ratios.sum() / told.sum()
