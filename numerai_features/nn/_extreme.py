"""Autoencoder beside a frozen random network, with the era's position as an input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from numerai_features.encoders import Activation, Affine, Argmax, Concatenate, Encoder
from numerai_features.nn._autoencoder import Autoencoder, Corruption, Denoising
from numerai_features.nn._batches import Batch, Table
from numerai_features.nn._draws import INITIAL, Draws, torch_generator
from numerai_features.nn._layers import (
    Block,
    Linear,
    Steps,
    Units,
    affine,
    as_array,
    of_raw_rows,
)
from numerai_features.nn._noise import mask
from numerai_features.nn._products import product, table_product


class ExtremeAutoencoder(Autoencoder):
    """Autoencoder whose input is the features, random units of them, and a position.

    The random units are ``sigmoid(relu(t @ near) @ far)`` of the standardised row t.
    Their weights are normal numbers, which are not trained ("extreme learning").

    Parameters
    ----------
    table, hidden, n_components, activation
        As in `Autoencoder`; the code is a sigmoid.
    random_units : sequence of two int
        Widths of both layers of the random network.
    random_scale : float
        Standard deviation of its weights.
    feature_dropout : float
        Share of the features' cells that are set to the middle value in training; the
        random network gets whole rows.
    middle : Tensor of shape (n_features,)
        The middle values, on the table's scale.
    has_position : bool
        Whether the position is an input.
    """

    near: Tensor  # (F, units)
    far: Tensor  # (units, units)

    def __init__(
        self,
        table: Table,
        hidden: Sequence[int],
        n_components: int,
        activation: str,
        random_units: Sequence[int],
        random_scale: float,
        feature_dropout: float,
        middle: Tensor,
        has_position: bool,
    ) -> None:
        super().__init__(
            table, hidden, n_components, activation, code_activation="sigmoid"
        )
        self.random_scale = random_scale
        self.feature_dropout, self.has_position = feature_dropout, has_position
        # A constant column tells nothing, whether its cell is dropped or not.
        self.middle = torch.where(table.varies > 0, middle, table.center)
        widths = (table.n_features, *random_units)
        # The seed draws them, so they need no place in a state.
        for name, shape in (("near", widths[:2]), ("far", widths[1:])):
            self.register_buffer(name, torch.zeros(shape), persistent=False)
        n_in = table.n_features + random_units[1] + has_position
        self.first.linear = Linear(n_in, self.first.linear.out_features, bias=False)

    def draw_constants(self, seed: int) -> None:
        """Draw the weights of the random network."""
        for name in ("near", "far"):
            weights = getattr(self, name)
            own = torch_generator(weights.device, seed, INITIAL, *name.encode())
            weights.normal_(0, self.random_scale, generator=own)

    def below_output(
        self,
        x: Tensor,
        draws: Draws | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Map rows of the table, (B, F), to the last hidden layer, (B, n).

        Parameters
        ----------
        x : Tensor of shape (B, F)
        draws : Draws, default=None
            Draws for dropout in training; without them there is none.
        positions : Tensor of shape (B, 1), default=None
            Positions of the rows' eras, if they are an input.
        """
        layer, weight = self.first, self.first.linear.weight.T
        n_features, n_random = x.shape[1], self.far.shape[1]
        h = product(self.random(x), weight[n_features : n_features + n_random])
        if positions is not None:
            h = h + positions * weight[-1]
        top, share = weight[:n_features], self.feature_dropout
        if self.training and draws is not None and share:
            x = mask(x, share, self.middle.to(x), draws)
            matrix, center = layer.of_some_cells(top, share, self.middle)
        else:
            matrix, center = top / layer.scale[:, None], layer.center
        blocks: list[Block] = [*self.encoder, *self.decoder]
        h = blocks[0].after(h + table_product(x, matrix, center), None)
        for block in blocks[1:]:
            h = block(h, None)
        return h

    @torch.no_grad()
    def random(self, x: Tensor) -> Tensor:
        """Return the random units of rows of the table, (B, n)."""
        layer = self.first
        h = table_product(x, self.near / layer.scale[:, None], layer.center)
        return product(h.relu(), self.far).sigmoid()

    def code_at(
        self, position: float, units: Units, dtype: Any, output: str
    ) -> Encoder:
        """Return the encoder from unstandardised rows, all at one position.

        Parameters
        ----------
        position : float
            Of no effect if the position is no input.
        units : tuple of ndarray
            Mean and scale that standardise the columns.
        dtype : numpy dtype
            Type of the arrays.
        output : {"latent", "argmax", "both"}
            The code, the number of its largest unit, or both.
        """
        near, far = as_array(self.near), as_array(self.far)
        matrix, constant = of_raw_rows(near, units)
        random: Steps = [
            ("near", affine(matrix, constant, dtype)),
            ("near_relu", Activation("relu")),
            ("far", Affine(far.astype(dtype))),
            ("far_sigmoid", Activation("sigmoid")),
        ]
        first, weight = self.encoder[0], as_array(self.first.linear.weight).T
        weight[: len(near)], constant = of_raw_rows(weight[: len(near)], units)
        if self.has_position:
            constant = constant + position * weight[-1]
            weight = weight[:-1]
        factor, shift = map(as_array, first.norm.affine())
        steps: Steps = [
            ("beside", Concatenate((Encoder([]), Encoder(random)))),
            ("layer0", affine(weight * factor, constant * factor + shift, dtype)),
        ]
        if first.activation != "identity":
            steps.append((f"layer0_{first.activation}", Activation(first.activation)))
        for i, block in enumerate(self.encoder[1:], 1):
            steps += block.steps(f"layer{i}", dtype)
        # The largest unit is so before its sigmoid, too, which may round to 1.
        *steps, code = steps
        largest = ("argmax", Argmax())
        if output == "both":
            both = Concatenate((Encoder([code]), Encoder([largest])))
            return Encoder([*steps, ("both", both)])
        return Encoder([*steps, code if output == "latent" else largest])


class Restoring(Denoising):
    """The task of restoring rows; a batch's targets are the positions of its eras.

    Parameters
    ----------
    network : ExtremeAutoencoder
    middle : Tensor of shape (n_features,)
        The values that replace NaN, on the table's scale.
    n_varying : int
        Number of columns that are not constant.
    has_missing : bool
        Whether the table holds NaN.
    """

    network: ExtremeAutoencoder

    def __init__(
        self,
        network: ExtremeAutoencoder,
        middle: Tensor,
        n_varying: int,
        has_missing: bool,
    ) -> None:
        whole = Corruption("none", 0.0, False, middle)
        super().__init__(network, whole, n_varying=n_varying, has_missing=has_missing)

    def _hidden(self, batch: Batch, x: Tensor, draws: Draws | None = None) -> Tensor:
        return self.network.below_output(x, draws, batch.y)
