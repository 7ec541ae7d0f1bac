"""Masked autoencoder: a network that tells masked cells from the others of a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, replace
from typing import Any, ClassVar

import numpy as np

from numerai_features._arguments import (
    ANY_ACTIVATION,
    COUNT,
    CROSS_FIT,
    WIDTHS,
    Finite,
)
from numerai_features._bins import N_BINS
from numerai_features._compat import StrOptions
from numerai_features._rows import Rows
from numerai_features._validation import require_target
from numerai_features._warn import warn
from numerai_features._whole_fit import whole_fit
from numerai_features.embedders._cells import bin_edges
from numerai_features.embedders._network import NetworkEmbedder
from numerai_features.embedders._target_units import standard_units


class MaskedAutoencoder(NetworkEmbedder):
    r"""Latent features of a network that tells masked cells (self-prediction).

    In each step a share of the cells of every row is masked: set to the middle bin (for
    floats, to the column's median). A network tells what they hold from the other cells
    of the row [1]_; its narrowest layer, the code, gives the latents. AdamW minimises
    the mean squared error of the masked cells, in standardised columns; in contrast to
    `DAEEmbedder`, intact cells are not in the loss. With ``loss="bins"`` ("autoencoding
    classifier") it minimises the mean over masked cells of :math:`-\log p_j(b)`, where
    :math:`b` is the cell's bin, of five, and :math:`p_j` is a softmax over the bins of
    column :math:`j`.

    With ``target_aware=True`` the targets are inputs beside the features, and masked
    like them: in half of the rows of a step, and always in `transform`. The network
    tells masked targets, too. So the latents are trained on what features tell about
    targets, and rows whose targets are not known are trained on as well.

    Every layer except the output has batch normalisation. The table stays at one byte
    per cell.

    Parameters
    ----------
    n_components : int, default=None
        Width of the code; None means ``min(30, n_features)``.
    hidden : sequence of int, default=(256, 128)
        Widths of the layers between the features and the code; the decoder mirrors
        them.
    activation : str, default="silu"
        Activation of the hidden layers: "silu", "relu", "tanh", "sigmoid", "hardswish"
        or "identity".
    mask_share : float, default=0.3
        Probability that a cell is masked, from 1/64 on and below 1.
    loss : {"mse", "bins"}, default="mse"
        "mse": squared error of the standardised cell. "bins": cross-entropy of the
        cell's bin. The values of a column are its bins if there are at most five; else
        its bins are five, of equally many rows. With few rows, the held-out
        cross-entropy may rise at first, and training stops too early.
    target_aware : bool, default=False
        Whether the targets are masked inputs, too. Then the latents depend on the
        labels: see Notes.
    dropout : float, default=0.0
        Dropout rate of the hidden layers.
    cross_fit : int or splitter, default=None
        Makes `fit_transform` give each row the latents of a network that was not
        trained on its era or the eras around it. An int is the number of blocks of
        eras, one network each (`EraKFold`, purged by the longest horizon in the names
        of y, as in ``target_ender_60``, else by 16 eras). A splitter has one network
        for each fold.

    Attributes
    ----------
    n_components_ : int
        The resolved width of the code.

    See Also
    --------
    DAEEmbedder : Restores whole rows from corrupted ones.
    ContrastiveEmbedder : Latents that tell a row from other rows.

    Notes
    -----
    With ``target_aware=True``, the latents of training rows depend on those rows'
    targets, so a model fitted on them overfits; ``cross_fit=5`` prevents it. Then
    ``fit(X, y).transform(X)``, meant for new rows, differs from
    ``fit_transform(X, y)``.

    References
    ----------
    .. [1] Rubachev, I., Alekberov, A., Gorishniy, Y., Babenko, A. (2022). Revisiting
       pretraining objectives for tabular deep learning. arXiv:2207.03208.

    Examples
    --------
    >>> from numerai_features.datasets import make_era_panel
    >>> from numerai_features.embedders import MaskedAutoencoder
    >>> panel = make_era_panel(n_eras=8, rows_per_era=100, n_features=20,
    ...                           n_factors=4, random_state=0)
    >>> masked = MaskedAutoencoder(4, hidden=(32,), max_epochs=3, random_state=0)
    >>> masked.fit(panel.X, eras=panel.eras).transform(panel.X).shape
    (800, 4)
    """

    n_components: int | None = field(default=None, kw_only=False)
    hidden: Sequence[int] = (256, 128)
    activation: str = "silu"
    mask_share: float = 0.3
    loss: str = "mse"
    target_aware: bool = False
    dropout: float = 0.0
    cross_fit: Any = None

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [COUNT, None],
        "hidden": WIDTHS,
        "activation": [ANY_ACTIVATION],
        "mask_share": [Finite(1 / 64, 1, "left")],  # draws are bytes
        "loss": [StrOptions({"bins", "mse"})],
        "target_aware": ["boolean"],
        "dropout": [Finite(0, 1, "left")],
        "cross_fit": CROSS_FIT,
    }

    def fit(self, X, y=None, *, eras=None, sample_weight=None):
        """Train the network on rows.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            Finite numbers or NaN. int8 stays int8. A frame's ``era`` column is removed
            and used as `eras`.
        y : array-like or frame of shape (n_rows,) or (n_rows, n_targets), default=None
            Targets, needed if ``target_aware=True`` and ignored otherwise; NaN where
            not known.
        eras : array-like of shape (n_rows,), default=None
            Era labels; `validation` holds out the last eras.
        sample_weight : array-like of shape (n_rows,), default=None
            Weights of the rows in the loss; rows of weight zero are left out.

        Returns
        -------
        self
        """
        return super().fit(X, y, eras=eras, sample_weight=sample_weight)

    @whole_fit(prefer_skip_nested_validation=False)
    def fit_transform(self, X, y=None, *, eras=None, sample_weight=None):
        """Train the network and return the rows' latents.

        Parameters
        ----------
        X, y, eras, sample_weight
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_rows, n_features_out), float32
            With `cross_fit`, aligned with those of `transform` by the rotation that
            fits best (orthogonal Procrustes).
        """
        return self._fit_transform(self._read(X, y, eras, sample_weight))

    def _read(self, X, y, eras, sample_weight):
        y = y if self.target_aware else None
        rows: Any = Rows.read(self, X, y, eras, sample_weight, min_rows=2)
        if self.target_aware:
            require_target(
                rows.y, self, "target_aware=True is for targets; or leave it."
            )
            unknown = np.isnan(rows.y[rows.counted]).all(axis=0)
            if unknown.any():
                raise ValueError(
                    f"y: target {int(unknown.argmax())} is NaN in all rows that count. "
                    "Leave it out."
                )
        self._check_eras(rows.eras)
        self._check_parameters(rows.X.shape[1], 0)
        return rows

    def _check_parameters(self, n_features, n_targets):
        if self.n_components is not None and self.n_components > n_features:
            raise ValueError(
                f"n_components={self.n_components} must be at most n_features="
                f"{n_features}. Ask for a narrower code, or leave it None."
            )

    def _prepare(self, rows, among, seed, device, columns=None):
        if rows.y is None:
            return super()._prepare(rows, among, seed, device, columns)
        factor, constant = standard_units(rows.y, among)
        own = replace(rows, y=(rows.y - constant) / factor)
        return super()._prepare(own, among, seed, device, columns)

    def _make_task(self, course):
        import torch

        from numerai_features.nn._masked import MaskedNetwork, Masking

        table, y, by_bins = course.table, course.rows.y, self.loss == "bins"
        if y is not None and course.valid is not None:
            unknown = np.isnan(y[course.valid]).all(axis=0)
            if unknown.any():
                warn(
                    f"Target {int(unknown.argmax())} of y is NaN in all rows held out: "
                    "the best epoch is chosen without it. Hold out eras whose targets "
                    "are known, by a splitter as validation=.",
                )
        network = MaskedNetwork(
            table, self.hidden, self.n_components or min(30, table.n_features),
            self.activation, self.dropout, N_BINS if by_bins else 1,
            0 if y is None else y.shape[1],
        )  # fmt: skip
        edges = None
        if by_bins:
            if "edges" not in course.more:
                found = bin_edges(table.X, course.train)
                course.more["edges"] = [table.as_taken(own) for own in found]
            edges = torch.stack(course.more["edges"])
        return Masking(
            network, self.mask_share, course.middle, table.varies, edges,
            course.has_missing,
        )  # fmt: skip

    def _encoder_of(self, task, course):
        return task.network.code(course.columns.units, course.columns.dtype)

    def _keep(self, tasks, course):
        width = self.n_components or min(30, self.n_features_in_)
        return {**super()._keep(tasks, course), "n_components_": width}

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = bool(self.target_aware)
        return tags
