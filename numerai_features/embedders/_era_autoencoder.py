"""Autoencoder with random units and the era's position as inputs (extreme learning)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from numerai_features._arguments import (
    ABOVE_ZERO,
    ANY_ACTIVATION,
    WIDTH,
    Each,
    Finite,
    Whole,
)
from numerai_features._compat import StrOptions
from numerai_features._eras import EraIndex
from numerai_features.embedders._network import NetworkEmbedder
from numerai_features.embedders._target_network import needs_eras

_MOST_CATEGORIES = 128  # of int8


class EraAutoencoder(NetworkEmbedder):
    r"""Latents of an autoencoder beside random units, with the era as an input.

    A recipe of Numerai's forum. The input of an autoencoder is, side by side,

    - the standardised row :math:`t`, of whose cells a share is dropped in training,
    - random units :math:`\sigma(\max(t A, 0)\, B)`, where the weights :math:`A`,
      :math:`B` are normal numbers that are never trained ("extreme learning" [1]_),
    - the position of the row's era, from 0 for the first training era to
      ``n_positions - 1`` for the last one; between them it is interpolated by era
      number.

    The code is a layer of sigmoids. AdamW minimises the squared error of the restored
    row, averaged over cells. So the map from features to latents may change
    over the eras. In `transform` it is that of the last training era for every row: a
    row's latents depend on that row alone.

    ``output="argmax"`` returns the number of the largest latent, which was the feature
    that generalised best in the forum. It is a category, not a quantity:
    `n_categories_` says so, and `LatentFeatures` keeps it a whole number.

    In contrast to the forum's network, every layer except the output has batch
    normalisation. The table stays at one byte per cell.

    Parameters
    ----------
    n_components : int, default=12
        Number of latents.
    hidden : sequence of int, default=(1000, 1000)
        Widths of the layers between the inputs and the code, at least one; the decoder
        mirrors them.
    activation : str, default="relu"
        Activation of the hidden layers: "relu", "silu", "tanh", "sigmoid", "hardswish"
        or "identity".
    random_units : sequence of two int, default=(100, 1000)
        Widths of both layers of the random network.
    random_scale : float, default=0.05
        Standard deviation of the random network's weights.
    feature_dropout : float, default=0.3
        Share of a row's cells that are set to the middle bin (for floats, to the
        column's median), drawn for each cell and step; the random network gets whole
        rows.
    n_positions : int, default=12
        The positions of training eras are from 0 to ``n_positions - 1``. `fit` then
        needs eras with numbers. None: the era is no input.
    output : {"latent", "argmax", "both"}, default="latent"
        What `transform` returns: the latents, between 0 and 1; the number of the
        largest one; or the latents and then that number.

    Attributes
    ----------
    n_categories_ : ndarray of shape (n_features_out,), int
        Number of categories of each returned column; 0 for a latent, which is a
        quantity.

    See Also
    --------
    DAEEmbedder : An autoencoder of the features alone.
    numerai_features.compose.LatentFeatures : Features and latents together.

    References
    ----------
    .. [1] Huang, G.-B., Zhu, Q.-Y., Siew, C.-K. (2006). Extreme learning machine:
       theory and applications. Neurocomputing 70, 489-501.

    Examples
    --------
    >>> from numerai_features.datasets import make_era_panel
    >>> from numerai_features.embedders import EraAutoencoder
    >>> panel = make_era_panel(n_eras=8, rows_per_era=100, n_features=20,
    ...                           n_factors=4, random_state=0)
    >>> net = EraAutoencoder(4, hidden=(16,), random_units=(8, 16), output="both",
    ...                      max_epochs=3, random_state=0)
    >>> net.fit(panel.X, eras=panel.eras).transform(panel.X).shape
    (800, 5)
    >>> net.n_categories_
    array([0, 0, 0, 0, 4])
    """

    n_components: int = field(default=12, kw_only=False)
    hidden: Sequence[int] = (1000, 1000)
    activation: str = "relu"
    random_units: Sequence[int] = (100, 1000)
    random_scale: float = 0.05
    feature_dropout: float = 0.3
    n_positions: int | None = 12
    output: str = "latent"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [WIDTH],
        "hidden": [Each(WIDTH, fewest=1)],
        "activation": [ANY_ACTIVATION],
        "random_units": [Each(WIDTH, fewest=2)],
        "random_scale": [ABOVE_ZERO],
        "feature_dropout": [Finite(0, 1, "left")],
        "n_positions": [Whole(2), None],
        "output": [StrOptions({"latent", "argmax", "both"})],
    }

    def _check_parameters(self, n_features, n_targets):
        if len(self.random_units) != 2:
            raise ValueError(
                "random_units must be the widths of two layers, such as (100, 1000); "
                f"got {self.random_units!r}."
            )
        if self.output != "latent" and self.n_components > _MOST_CATEGORIES:
            raise ValueError(
                f"n_components={self.n_components} must be at most {_MOST_CATEGORIES} "
                f"for output={self.output!r}, whose categories are int8."
            )

    def _check_eras(self, eras):
        if self.n_positions is None:
            return super()._check_eras(eras)
        if self.batching == "era":
            raise ValueError(
                f"n_positions={self.n_positions} needs batches of several eras: in one "
                "of batching='era' the position is a constant, which the network "
                "cannot learn from. Use batching='rows', or n_positions=None."
            )
        if eras is None:
            raise needs_eras("n_positions", self.n_positions)
        if eras.named:
            raise ValueError(
                f"n_positions={self.n_positions} places eras by their numbers, but "
                f"eras are names without numbers, such as {eras.labels[0]!r}. Number "
                "the eras by week, or set n_positions=None."
            )

    def _prepare(self, rows, among, seed, device, columns=None):
        course = super()._prepare(rows, among, seed, device, columns)
        if self.n_positions is not None:
            # Where other tasks have targets: a batch's rows bring their positions.
            places = era_positions(rows.eras, course.train, self.n_positions)
            course.table.targets = places.astype(np.float32)[:, None]
        return course

    def _make_task(self, course):
        from numerai_features.nn._extreme import ExtremeAutoencoder, Restoring

        network = ExtremeAutoencoder(
            course.table, self.hidden, self.n_components, self.activation,
            self.random_units, self.random_scale, self.feature_dropout, course.middle,
            self.n_positions is not None,
        )  # fmt: skip
        return Restoring(
            network, course.middle, course.table.n_varying, course.has_missing
        )

    def _encoder_of(self, task, course):
        last = 0 if self.n_positions is None else self.n_positions - 1
        columns = course.columns
        return task.network.code_at(last, columns.units, columns.dtype, self.output)

    def _keep(self, tasks, course):
        latents = [0] * (self.n_components if self.output != "argmax" else 0)
        largest = [self.n_components] * (self.output != "latent")
        counts = np.array([*latents, *largest] * len(tasks))
        return {**super()._keep(tasks, course), "n_categories_": counts}


def era_positions(
    eras: EraIndex, train: NDArray[np.intp], n_positions: int
) -> NDArray[np.float64]:
    """Return the position of each row's era.

    The first era of the training rows is at 0, the last one at ``n_positions - 1``;
    others are interpolated by number. Later eras, and the live one, are at the last
    position, earlier ones at 0.

    Parameters
    ----------
    eras : EraIndex
    train : ndarray of int
        Training rows.
    n_positions : int
    """
    learned = eras.take(train)
    numbers = learned.numbers[learned.resolved]
    places = np.full(eras.n_eras, n_positions - 1.0)
    if len(numbers) > 1:
        ends = numbers[[0, -1]]
        places = np.interp(eras.numbers, ends, [0.0, n_positions - 1.0])
    return np.asarray(places[eras.codes])
