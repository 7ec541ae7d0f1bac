"""The supervised autoencoder with a perceptron, and what it is trained to do.

Yirun Zhang's network (Jane Street Market Prediction, 2021), with n units a layer::

    x0   = norm(x)
    code = act(norm(linear(x0 + noise)))
    r    = linear(drop(code))                          the rows restored
    p1   = linear(drop(act(norm(linear(r)))))          targets, from the restored rows
    z    = drop(norm([x0, code]))
    p2   = linear(drop(act(norm(linear(...z)))))       targets: the prediction

No table in floats is ever written: what is affine in a row of the table is moved into
the matrix that it is multiplied with.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from numerai_features.nn._batches import Batch, Table
from numerai_features.nn._draws import Draws
from numerai_features.nn._layers import (
    ACTIVATIONS,
    BatchNorm,
    Block,
    Dropout,
    Norm,
    StackedLinear,
)
from numerai_features.nn._losses import era_corr, linear_squared_error, target_loss
from numerai_features.nn._parallel import sum_over_processes
from numerai_features.nn._products import table_product

Part = tuple[Tensor, Tensor]
"""A sum over rows, and what it is divided by, each (M,)."""


class TableNorm(Norm):
    """Batch normalisation of the table's columns.

    It gives, for each model, what a column has to be multiplied with, and what is then
    added: ``norm(x) = x * factor + shift``.
    """

    # Of the table's variance: a column that hardly varies where it was trained on, as
    # one that is missing in early eras, would else be huge where it does.
    least_variance = 0.01
    center: Tensor  # (M, F), of the whole table
    scale: Tensor
    varies: Tensor  # 0 for a constant column

    def __init__(self, n_models: int, table: Table) -> None:
        super().__init__(n_models, table.n_features)
        self.register_buffer("center", table.center.expand(n_models, -1).clone())
        self.register_buffer("scale", table.scale.expand(n_models, -1).clone())
        self.register_buffer("varies", table.varies.expand(n_models, -1).clone())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the factor, the shift, and the variance of columns, each (M, F)."""
        mean, variance = self.mean, self.variance
        if self.training:
            mean, variance = self._moments(x)
            self.mean.lerp_(mean, self.momentum)
            self.variance.lerp_(variance, self.momentum)
        factor = self.gamma * (self._inverse(variance) / self.scale)
        shift = self.beta - factor * (self.center + self.scale * mean)
        return factor, shift, variance.clamp(min=self.least_variance)

    def _inverse(self, variance: Tensor) -> Tensor:
        return super()._inverse(variance.clamp(min=self.least_variance)) * self.varies

    @torch.no_grad()
    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the batch's means and variances in units of the table's."""
        ones = torch.ones(len(x), 1, x.shape[1], device=x.device)
        gaps = x.float() - self.center[:, None]
        sums = torch.cat([torch.bmm(ones, gaps), torch.bmm(ones, gaps * gaps)], dim=1)
        n = torch.full_like(sums[:, :1], x.shape[1])
        sums = sum_over_processes(torch.cat([sums, n], dim=1))
        mean, square = sums[:, 0] / sums[:, 2], sums[:, 1] / sums[:, 2]
        variance = (square - mean * mean).clamp_(min=0)
        return mean / self.scale, variance / self.scale.square()


class TableNormAgain(Norm):
    """Batch normalisation of columns that `TableNorm` has normalised."""

    def forward(
        self, first: TableNorm, factor: Tensor, shift: Tensor, variance: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the factor and the shift of both normalisations of a column, (M, F).

        In training the batch's mean of a normalised column is its beta, and its
        variance ``gamma^2 v / (v + eps)``.
        """
        mean, spread = self.mean, self.variance
        if self.training:
            mean = first.beta
            spread = first.gamma.square() * (variance / (variance + self.eps))
            self.mean.lerp_(mean.detach(), self.momentum)
            self.variance.lerp_(spread.detach(), self.momentum)
        inverse = self.gamma * self._inverse(spread)
        return factor * inverse, (shift - mean) * inverse + self.beta


class SupervisedAutoencoder(nn.Module):
    """The network, for each of several models.

    Parameters
    ----------
    seeds : sequence of int
        One a model: its initial weights.
    table : Table
        Gives the number of features, and their means and standard deviations.
    n_targets : int
    n_components : int
        Units of the code.
    decoder_units : int
        Of the layer between the restored rows and the first prediction.
    hidden : sequence of int
        Units of the layers between features and code, and the second prediction.
    activation : str
        A name of `ACTIVATIONS`.
    noise : float
        Standard deviation, in those of the columns.
    dropout : sequence of float
        Of the code, of the decoder's units, of features and code, and of each of the
        hidden layers.
    dtype : torch.dtype
        What products are made in.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        table: Table,
        n_targets: int,
        n_components: int,
        decoder_units: int,
        hidden: Sequence[int],
        activation: str,
        noise: float,
        dropout: Sequence[float],
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        n_models, n_features = len(seeds), table.n_features
        k, names = n_components, iter(range(1 << 10))

        def linear(n_in: int, n_out: int, bias: bool = False) -> StackedLinear:
            return StackedLinear(
                seeds, next(names), n_in, n_out, bias=bias, dtype=dtype
            )

        self.noise, self.dtype = noise, dtype
        self.activation = activation
        self.act = ACTIVATIONS[activation]
        code_share, decoder_share, wide_share, *shares = dropout
        self.table_norm = TableNorm(n_models, table)
        self.encode = linear(n_features, k)
        self.encode_norm = BatchNorm(n_models, k)
        self.code_dropout = Dropout(code_share)
        self.restore = linear(k, n_features, bias=True)
        self.decoder = linear(n_features, decoder_units)
        self.decoder_norm = BatchNorm(n_models, decoder_units)
        self.decoder_dropout = Dropout(decoder_share)
        self.decoder_head = linear(decoder_units, n_targets, bias=True)
        self.wide_table_norm = TableNormAgain(n_models, n_features)
        self.wide_code_norm = BatchNorm(n_models, k)
        self.wide_dropout = Dropout(wide_share)
        self.wide = linear(n_features + k, hidden[0])
        self.wide_norm = BatchNorm(n_models, hidden[0])
        self.wide_out_dropout = Dropout(shares[0])
        self.blocks = nn.ModuleList(
            Block(linear(n_in, n_out), activation, share)
            for (n_in, n_out), share in zip(pairwise(hidden), shares[1:], strict=True)
        )
        self.head = linear(hidden[-1], n_targets, bias=True)
        # The next normalisation takes a shift out again; its gradient would be nothing
        # but rounding, from which Adam makes steps of full length.
        self.table_norm.beta.requires_grad_(False)
        for norm in (self.wide_table_norm, self.wide_code_norm):
            norm.beta.requires_grad_(wide_share > 0)

    def forward(
        self, x: Tensor, draws: Draws | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Map rows of the table.

        Parameters
        ----------
        x : Tensor of shape (M, B, F)
        draws : Draws, default=None
            In training: for noise and dropout; none without.

        Returns
        -------
        code : Tensor of shape (M, B, k)
        dropped : Tensor of shape (M, B, k)
            The code as the decoder has it: ``restore(dropped)`` are the restored rows.
        first, second : Tensor of shape (M, B, n_targets)
            What the decoder's and the last layer predict.
        """
        factor, shift, variance = self.table_norm(x)
        encoded = self._normalized_product(x, factor, shift, self.encode.weight)
        if self.training and draws is not None and self.noise:
            encoded = encoded + self._noise(draws)
        code = self.act(self.encode_norm(encoded))

        dropped = self.code_dropout(code, draws)
        # Two linear layers, one after the other, are one.
        through = torch.bmm(self.restore.weight, self.decoder.weight)
        assert self.restore.bias is not None
        again = torch.bmm(self.restore.bias[:, None], self.decoder.weight)
        d = self.act(self.decoder_norm(torch.bmm(dropped, through) + again))
        first = self.decoder_head(self.decoder_dropout(d, draws))

        factor, shift = self.wide_table_norm(self.table_norm, factor, shift, variance)
        n_features = x.shape[2]
        top, below = self.wide.weight[:, :n_features], self.wide.weight[:, n_features:]
        kept = None
        if self.training and draws is not None and self.wide_dropout.share:
            kept = draws.chosen(1 - self.wide_dropout.share, n_features, x.dtype)
        wide = self._normalized_product(x, factor, shift, top, kept)
        side = self.wide_dropout(self.wide_code_norm(code), draws)
        wide = wide + torch.bmm(side.to(self.dtype), below.to(self.dtype)).float()
        h = self.act(self.wide_norm(wide))
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
        """Return ``(x * factor + shift) @ weight``, dropped cells being zero."""
        matrix = factor[..., None] * weight
        if kept is None:
            y = table_product(x, matrix, self.dtype)
            return y + torch.bmm(shift[:, None], weight)
        grow = 1 / (1 - self.wide_dropout.share)
        y = table_product(x * kept, grow * matrix, self.dtype)
        return y + table_product(kept, grow * shift[..., None] * weight, self.dtype)

    def _noise(self, draws: Draws) -> Tensor:
        """Return what normal noise on every cell adds to the encoder, (M, B, k).

        Sums of F normal numbers times weights: as normal, with covariance W'W, of which
        the square root is k x k.
        """
        weight = self.encode.weight.double()
        gram = torch.bmm(weight.mT, weight)
        # W'W has fewer ranks than columns where there are fewer features than units.
        ridge = 1e-9 * gram.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
        eye = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
        root = torch.linalg.cholesky(gram + (ridge + 1e-30) * eye).float()
        return torch.bmm(draws.normal(weight.shape[2]) * self.noise, root.mT)


class Supervising(nn.Module):
    """The losses of restoring rows and of predicting targets twice.

    Parameters
    ----------
    network : SupervisedAutoencoder
    loss : {"mse", "bce", "corr", "numerai_corr"}
        Of both predictions, as `target_loss` has it.
    weights : sequence of three floats
        Of the rows restored, the decoder's prediction, and the last layer's.
    middle : Tensor of shape (n_features,)
        What stands in for NaN, as the table has it.
    n_varying : int
        Columns that are not constant.
    has_missing : bool
        Whether the table holds NaN.
    has_eras : bool
        Whether batches to be evaluated are eras; then ``corr`` is told, CORR with the
        first target.
    """

    def __init__(
        self,
        network: SupervisedAutoencoder,
        loss: str,
        weights: Sequence[float],
        middle: Tensor,
        n_varying: int,
        has_missing: bool = False,
        has_eras: bool = True,
    ) -> None:
        super().__init__()
        self.network = network
        self.loss, self.weights = loss, tuple(weights)
        self.middle, self.n_varying = middle, max(1, n_varying)
        self.has_missing, self.has_eras = has_missing, has_eras

    def forward(self, batch: Batch) -> Tensor:
        """Return the loss of this process's rows over all rows' weight, (M,)."""
        restored, first, second, _ = self._parts(batch)
        losses = [restored[0] / restored[1]]
        losses += [own / sum_over_processes(n.clone()) for own, n in (first, second)]
        weighted = [w * loss for w, loss in zip(self.weights, losses, strict=True)]
        return torch.stack(weighted).sum(0)

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """Return sums over rows, each (M,), that `metrics` takes when added."""
        restored, first, second, p = self._parts(batch)
        assert batch.y is not None
        sums = {}
        if self.has_eras:
            sums["eras"], sums["corr"] = era_corr(p[..., 0], batch.y[..., 0])
        parts = {"restored": restored, "first": first, "loss": second}
        for name, (value, n) in parts.items():
            sums |= {name: value, f"{name}_n": n}
        return sums

    @staticmethod
    def metrics(sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the last layer's loss, the two others, and the mean CORR of eras."""
        names = ("loss", "first", "restored")
        losses = {name: sums[name] / sums[f"{name}_n"] for name in names}
        if "corr" in sums:
            losses["corr"] = sums["corr"] / sums["eras"]
        return losses

    def _parts(self, batch: Batch) -> tuple[Part, Part, Part, Tensor]:
        x, squares, network = batch.x, batch.squares, self.network
        norm, restore = network.table_norm, network.restore
        if self.has_missing:
            x = torch.where(x.isnan(), self.middle.to(x), x)
            t = (x - norm.center[:, None]) / norm.scale[:, None]
            squares = t.square().sum(2)
        draws = batch.draws if self.training else None
        _, dropped, p, q = network(x, draws)
        assert restore.bias is not None
        assert batch.y is not None
        restored = linear_squared_error(
            dropped, restore.weight, restore.bias, x,
            norm.center, norm.scale, batch.weight,
            network.dtype if self.training else torch.float32,
        )  # fmt: skip
        restored = restored + _weighted(squares, batch.weight).sum(1)
        first, second = (
            target_loss(self.loss, head, batch.y, batch.weight) for head in (p, q)
        )
        return (restored, batch.total * self.n_varying), first, second, q


def _weighted(x: Tensor, weight: Tensor | None) -> Tensor:
    return x if weight is None else x * weight
