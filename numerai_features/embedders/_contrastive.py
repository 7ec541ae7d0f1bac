"""Contrastive embedder: latents that tell a row from other rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any, ClassVar

import numpy as np

from numerai_features._arguments import (
    ABOVE_ZERO,
    ANY_ACTIVATION,
    COUNT,
    NOT_NEGATIVE,
    WIDTH,
    WIDTHS,
    Finite,
)
from numerai_features._compat import StrOptions
from numerai_features.embedders._cells import column_quantiles
from numerai_features.embedders._network import NetworkEmbedder
from numerai_features.embedders._target_network import needs_eras

_QUANTILES = 256  # one is drawn by a byte


class ContrastiveEmbedder(NetworkEmbedder):
    r"""Latent features that tell a row from other rows (SCARF).

    A view of a row is a copy in which a share of the cells is replaced, each by a draw
    from the empirical distribution of its column over all training rows [1]_. A network
    :math:`f`, whose output are the latents, and a head :math:`g` map a row to
    :math:`a_i` and its view to :math:`b_i`, both of length 1. AdamW minimises the mean
    of

    .. math::

        -\log \frac{\exp(a_i \cdot b_i / \tau)}{\sum_j \exp(a_i \cdot b_j / \tau)}

    over the rows of a batch (InfoNCE): a row is to be nearer to its own view than to
    those of other rows. After training the head is dropped.

    In contrast to an autoencoder's, such latents need not hold what restores the cells,
    but what makes a row different from others. Every layer of the network has batch
    normalisation. The table stays at one byte per cell.

    Parameters
    ----------
    n_components : int, default=None
        Number of latents; None means ``min(30, n_features)``.
    hidden : sequence of int, default=(256, 256)
        Widths of the layers between the features and the latents.
    activation : str, default="relu"
        Activation of the hidden layers and of the head: "relu", "silu", "tanh",
        "sigmoid", "hardswish" or "identity".
    head_units : int, default=128
        Width of the head's two layers.
    noise_level : float, default=0.6
        Probability, below 1, that a cell of a view is replaced.
    temperature : float, default=0.2
        The temperature :math:`\tau`. The lower it is, the more the nearest other rows
        count. Published is 1, with which latents knew less of a synthetic panel's
        factors.
    negatives : {"batch", "era"}, default="batch"
        The other rows. "batch": those of a batch of random rows. "era": those of the
        row's era; a batch then is all rows of an era, and `fit` needs eras.
    vime_weight : float, default=0.0
        Weight of two further heads, on the latents of views [2]_: one tells which cells
        were changed (cross-entropy), one restores them (squared error, with a weight of
        2). 0: there are none.

    Attributes
    ----------
    n_components_ : int
        The resolved number of latents.

    See Also
    --------
    DAEEmbedder : Latents that restore a row.
    MaskedAutoencoder : Latents that tell masked cells.

    Notes
    -----
    ``history_`` has ``valid_accuracy``, the share of held-out rows whose own view is
    nearest. It depends on the number of rows that are compared, as the loss does.

    References
    ----------
    .. [1] Bahri, D., Jiang, H., Tay, Y., Metzler, D. (2022). SCARF: self-supervised
       contrastive learning using random feature corruption. ICLR.
    .. [2] Yoon, J., Zhang, Y., Jordon, J., van der Schaar, M. (2020). VIME: extending
       the success of self- and semi-supervised learning to tabular domain. NeurIPS 33.

    Examples
    --------
    >>> from numerai_features.datasets import make_era_panel
    >>> from numerai_features.embedders import ContrastiveEmbedder
    >>> panel = make_era_panel(n_eras=8, rows_per_era=100, n_features=20,
    ...                           n_factors=4, random_state=0)
    >>> net = ContrastiveEmbedder(4, hidden=(32,), max_epochs=3, random_state=0)
    >>> net.fit(panel.X, eras=panel.eras).transform(panel.X).shape
    (800, 4)
    """

    n_components: int | None = field(default=None, kw_only=False)
    hidden: Sequence[int] = (256, 256)
    activation: str = "relu"
    head_units: int = 128
    noise_level: float = 0.6
    temperature: float = 0.2
    negatives: str = "batch"
    vime_weight: float = 0.0
    batching: ClassVar[Any] = property(  # type: ignore[misc]  # no parameter here
        lambda self: "era" if self.negatives == "era" else "rows"
    )

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [COUNT, None],
        "hidden": WIDTHS,
        "activation": [ANY_ACTIVATION],
        "head_units": [WIDTH],
        "noise_level": [Finite(0, 1, "neither")],
        "temperature": [ABOVE_ZERO],
        "negatives": [StrOptions({"batch", "era"})],
        "vime_weight": [NOT_NEGATIVE],
    }

    def _check_parameters(self, n_features, n_targets):
        if self.n_components is not None and self.n_components > n_features:
            raise ValueError(
                f"n_components={self.n_components} must be at most n_features="
                f"{n_features}. Ask for fewer latents, or leave it None."
            )

    def _check_eras(self, eras):
        if eras is None and self.negatives == "era":
            raise needs_eras("negatives", "era")

    def _make_task(self, course):
        from numerai_features.nn._contrastive import Contrasting, ContrastiveNetwork

        table = course.table
        self._check_others(course)
        network = ContrastiveNetwork(
            table, self.hidden, self.n_components or min(30, table.n_features),
            self.activation, self.head_units, self.vime_weight > 0,
        )  # fmt: skip
        return Contrasting(
            network, self.noise_level, self._quantiles(course), self.temperature,
            course.middle, table.varies, self.vime_weight, self.negatives == "era",
            course.has_missing,
        )  # fmt: skip

    def _check_others(self, course):
        """Raise if no row to train on, or held out, has another one of its era."""
        parts = {"to train on": course.train, "held out": course.valid}
        for what, rows in parts.items() if self.negatives == "era" else ():
            if rows is not None and np.bincount(course.rows.codes[rows]).max() < 2:
                raise ValueError(
                    f"negatives='era' compares the rows of an era, but no era has two "
                    f"rows {what}. Pass whole eras, or use negatives='batch'."
                )

    def _quantiles(self, course):
        """Return the columns' quantiles, on the table's scale and of its type."""
        import torch

        if "quantiles" not in course.more:
            table, fill = course.table, course.columns.fill
            found = column_quantiles(table.X, course.train, _QUANTILES, fill)
            rows = torch.stack([table.as_taken(row) for row in found])
            course.more["quantiles"] = rows.to(table.take(course.train[:1]).dtype)
        return course.more["quantiles"]

    def _encoder_of(self, task, course):
        return task.network.code(course.columns.units, course.columns.dtype)

    def _keep(self, tasks, course):
        width = self.n_components or min(30, self.n_features_in_)
        return {**super()._keep(tasks, course), "n_components_": width}
