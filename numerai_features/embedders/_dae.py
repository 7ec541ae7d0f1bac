"""Denoising autoencoder: a network that restores corrupted rows."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.utils.validation import check_is_fitted

from numerai_features._arguments import (
    ANY_ACTIVATION,
    COUNT,
    TABLE,
    WIDTHS,
    Finite,
    checked,
)
from numerai_features._blocks import row_blocks
from numerai_features._compat import StrOptions
from numerai_features._eras import EraIndex
from numerai_features._rows import Rows
from numerai_features._validation import fill_missing
from numerai_features._whole_fit import whole_fit
from numerai_features.embedders._course import Fitted
from numerai_features.embedders._further import kept_to_continue, train_further
from numerai_features.embedders._network import NetworkEmbedder

if TYPE_CHECKING:
    import torch

    from numerai_features.nn._autoencoder import Corruption

_SHAPE = ("n_components", "hidden", "activation", "code_activation", "mask_head")
_ROWS_PER_ERA = 500  # standard error of an era's mean: a twentieth of the rows' spread


class DAEEmbedder(NetworkEmbedder):
    r"""Latent features of a denoising autoencoder.

    A network restores rows from copies in which some cells are corrupted [1]_. Its
    narrowest layer, the code, gives the latents. Let :math:`t` be a row with
    standardised columns, :math:`\tilde t` its corrupted copy, :math:`f` the encoder and
    :math:`g` the decoder. AdamW minimises the mean over rows and columns of
    :math:`(g(f(\tilde t)) - t)^2`; no labels are used. Every layer except the output
    has batch normalisation, so that the code has unit variance before its activation.
    Rows unlike those of `fit` are restored badly [2]_; `score_samples` measures this.
    The table stays at one byte per cell: each batch is gathered and corrupted as bytes
    on the network's device.

    Parameters
    ----------
    n_components : int, default=None
        Width of the code; None means ``min(30, n_features)``.
    hidden : sequence of int, default=(256, 128)
        Widths of the layers between the features and the code; the decoder mirrors
        them.
    activation : str, default="silu"
        Activation of the hidden layers: "silu", "relu", "tanh", "sigmoid", "hardswish"
        or "identity", which makes the network linear.
    code_activation : str, default="identity"
        Activation of the code, one of the same names.
    noise : {"swap", "masking", "cutout", "gaussian", "relative"}, default="swap"
        "swap": a corrupted cell takes the same column's value from another row of the
        batch, drawn for each cell. "masking": it takes the middle bin (for floats the
        column's median). "cutout": as "masking", for whole columns of a batch.
        "gaussian": every cell gets normal noise. "relative": the same, times the
        standardised value.
    noise_level : float, default=0.08
        Probability, below 1, that a cell (a column, for "cutout") is corrupted. For
        "gaussian" and "relative": standard deviation of the noise, in standard
        deviations of the column.
    emphasis : float, default=None
        Relative weight e of a corrupted cell in the loss, between 0 and 1; an intact
        cell has 1 - e. None weighs them the same, as .5 does, and is faster.
    mask_head : bool, default=False
        Whether the network also predicts which cells were changed (cross-entropy, added
        to the loss).
    dropout : float, default=0.0
        Dropout rate of the hidden layers.
    output : {"code", "deep"}, default="code"
        What `transform` returns: the code, or the activations of all hidden layers with
        the code in the middle (the deep stack).
    monitor : {"valid_loss", "valid_r2"}, default="valid_loss"
        Held-out metric that selects the best epoch: the loss, with the same noise in
        every epoch, or the share of variance that is restored from uncorrupted rows.

    Attributes
    ----------
    decoders_ : list of Encoder
        One for each network, from its code back to the features.
    mean_, scale_ : ndarray of shape (n_features,)
        Mean and standard deviation of each column over the training rows. The deviation
        is 0 for a constant column; columns of int8 bins share one.
    era_scores_ : ndarray of shape (n_eras,) or None
        Mean `score_samples` of each fitted era, over at most 500 of its rows.
    n_components_ : int
        The resolved width of the code.
    states_ : list of dict of str to ndarray
        The networks' weights, from which `partial_fit` continues.

    See Also
    --------
    FactorAnalysisEmbedder : Linear latents, in a fraction of the time.
    numerai_features.compose.LatentFeatures : Features and latents together.

    Notes
    -----
    Under ``torchrun`` the processes share every batch; each must call `fit` with the
    same rows.

    References
    ----------
    .. [1] Vincent, P., Larochelle, H., Lajoie, I., Bengio, Y., Manzagol, P.-A. (2010).
       Stacked denoising autoencoders. Journal of Machine Learning Research 11,
       3371-3408.
    .. [2] Boney, R., Di Palo, N., Berglund, M., Ilin, A., Kannala, J., Rasmus, A.,
       Valpola, H. (2019). Regularizing trajectory optimization with denoising
       autoencoders. NeurIPS 32.

    Examples
    --------
    >>> from numerai_features.datasets import make_era_panel
    >>> from numerai_features.embedders import DAEEmbedder
    >>> panel = make_era_panel(n_eras=8, rows_per_era=100, n_features=20,
    ...                           n_factors=4, random_state=0)
    >>> dae = DAEEmbedder(4, hidden=(32,), max_epochs=3, random_state=0)
    >>> dae.fit(panel.X, eras=panel.eras).transform(panel.X).shape
    (800, 4)
    >>> dae.get_feature_names_out()[:2]
    array(['daeembedder0', 'daeembedder1'], dtype=object)
    """

    n_components: int | None = field(default=None, kw_only=False)
    hidden: Sequence[int] = (256, 128)
    activation: str = "silu"
    code_activation: str = "identity"
    noise: str = "swap"
    noise_level: float = 0.08
    emphasis: float | None = None
    mask_head: bool = False
    dropout: float = 0.0
    output: str = "code"
    monitor: str = "valid_loss"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [COUNT, None],
        "hidden": WIDTHS,
        "activation": [ANY_ACTIVATION],
        "code_activation": [ANY_ACTIVATION],
        "noise": [StrOptions({"swap", "masking", "cutout", "gaussian", "relative"})],
        "noise_level": [Finite(0, 1000)],
        "emphasis": [Finite(0, 1), None],
        "mask_head": ["boolean"],
        "dropout": [Finite(0, 1, "left")],
        "output": [StrOptions({"code", "deep"})],
        "monitor": [StrOptions({"valid_loss", "valid_r2"})],
    }

    @whole_fit(
        prefer_skip_nested_validation=False,
        fixed=[*_SHAPE, "n_models"],
    )
    def partial_fit(self, X, y=None, *, eras=None, sample_weight=None):
        """Train the fitted network further, on the same or on new rows.

        Each call trains for at most `max_epochs` more, with the current training
        parameters. Columns are standardised as in the first call. The last eras of this
        call's rows are held out. The first call is the same as `fit`.

        Parameters
        ----------
        X, y, eras, sample_weight
            As in `fit`.

        Returns
        -------
        self
        """
        if not hasattr(self, "encoder_"):
            return self.fit(X, y, eras=eras, sample_weight=sample_weight)
        rows = Rows.read(self, X, None, eras, sample_weight, reset=False, min_rows=2)
        self._check_eras(rows.eras)
        self._check_parameters(rows.X.shape[1], 0)
        return self._assign(train_further(self, rows))

    def reconstruct(self, X, *, eras=None):
        """Return the rows as the networks restore them, averaged over networks.

        Parameters
        ----------
        X, eras
            As in `transform`.

        Returns
        -------
        ndarray of shape (n_rows, n_features), float32
            In the units of X.
        """
        X, _ = self._check_rows(X, eras)
        return self._decode(self.encoder_.transform(X))

    @checked(X=[TABLE])
    def inverse_transform(self, X):
        """Return rows from their latents.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features_out)
            Output of `transform`; with ``output="deep"`` only the code is used.

        Returns
        -------
        ndarray of shape (n_rows, n_features), float32
        """
        check_is_fitted(self)
        return self._decode(self._check_latents(X))

    def score_samples(self, X, *, eras=None):
        """Return each row's familiarity: minus its mean squared reconstruction error.

        The mean is over known cells of columns that vary, in units of the column's
        variance, and over networks; 0 for a row without any. A row unlike those of
        `fit` has a low score (Boney et al., 2019).

        Parameters
        ----------
        X, eras
            As in `transform`.

        Returns
        -------
        ndarray of shape (n_rows,), float64
        """
        X, _ = self._check_rows(X, eras)
        return self._score_rows(X)

    def score(self, X, y=None, *, eras=None):
        """Return the mean of `score_samples`.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            The features of fit.
        y, eras : Ignored
            Present for API consistency.

        Returns
        -------
        float
        """
        return float(self.score_samples(X, eras=eras).mean())

    def era_familiarity(self, X, eras=None):
        """Return the familiarity of each era as a whole.

        It is the era's mean `score_samples`, minus the mean of ``era_scores_``, divided
        by the standard deviation of ``era_scores_``. It is near 0 for an era like those
        of `fit`, and the more negative, the less an era is like them.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            The features of fit; a frame's column ``era`` is used.
        eras : array-like of shape (n_rows,), default=None
            Era labels.

        Returns
        -------
        pandas.Series
            Named "familiarity", indexed by era label, in the order of the eras.
        """
        import pandas as pd

        X, eras = self._check_rows(X, eras)
        if eras is None:
            raise ValueError(
                "era_familiarity needs eras: pass eras=, or a frame with a column "
                "'era'."
            )
        known = self.era_scores_
        if known is None or len(known) < 2 or known.std() == 0:
            raise ValueError(
                "era_familiarity compares with the eras of fit: it needs two or more, "
                "with different scores. Pass eras= to fit."
            )
        scores = self._era_means(X, eras)
        familiarity = (scores - known.mean()) / known.std()
        index = pd.Index(eras.labels, name="era")
        return pd.Series(familiarity, index, name="familiarity")

    def _check_parameters(self, n_features, n_targets):
        if self.n_components is not None and self.n_components > n_features:
            raise ValueError(
                f"n_components={self.n_components} must be at most n_features="
                f"{n_features}. Ask for a narrower code, or leave it None."
            )
        normal = self.noise in ("gaussian", "relative")
        if not normal and self.noise_level >= 1:
            raise ValueError(
                f"noise_level={self.noise_level} must be below 1 for noise="
                f"{self.noise!r}: it is the share of cells that are corrupted."
            )
        if normal and (self.mask_head or self.emphasis is not None):
            raise ValueError(
                f"noise={self.noise!r} changes every cell, so that mask_head and "
                "emphasis have no effect. Leave them out, or use 'swap', "
                "'masking' or 'cutout'."
            )

    def _make_task(self, course):
        from numerai_features.nn._autoencoder import Autoencoder, Denoising

        table = course.table
        network = Autoencoder(
            table,
            self.hidden,
            self.n_components or min(30, table.n_features),
            self.activation,
            self.dropout,
            self.mask_head,
            self.code_activation,
        )
        return Denoising(
            network,
            _corruption(self, course.middle),
            0.5 if self.emphasis is None else self.emphasis,
            n_varying=table.n_varying,
            has_missing=course.has_missing,
        )

    def _corrupt(self, X, seed):
        """Return rows as they are corrupted in training; a picture shows them."""
        import torch

        from numerai_features.nn._batches import Table
        from numerai_features.nn._draws import TRAINING, Draws

        X, _ = self._check_rows(X, None)
        X = fill_missing(X, self.missing_values_)
        table = Table(X, self.mean_, self.scale_, torch.device("cpu"))
        middle = table.as_taken(self.missing_values_)
        corruption = _corruption(self._fitted_with, middle)
        rows, draws = np.arange(len(X)), Draws(seed, TRAINING, 0, len(X))
        taken = table.take(rows)
        given = corruption(taken, draws, table.center, table.scale).numpy()
        if table.in_bytes:
            return given
        return np.where(given == taken.numpy(), X, given * self.scale_ + self.mean_)

    def _encoder_of(self, task, course):
        columns, deep = course.columns, self.output == "deep"
        return task.network.code(columns.units, columns.dtype, deep=deep)

    def _keep(self, tasks, course):
        columns, networks = course.columns, [task.network for task in tasks]
        kept = super()._keep(tasks, course)
        kept |= {
            "mean_": columns.mean,
            "scale_": columns.scale,
            "n_components_": self.n_components or min(30, len(columns.mean)),
            "decoders_": [n.decoding(columns.units, columns.dtype) for n in networks],
            "era_scores_": None,
            **kept_to_continue(tasks, course),
        }
        if course.rows.eras is not None:
            fitted = copy.copy(self)._assign(Fitted(kept, course.train))
            rows = course.rows
            means = fitted._era_means(rows.X, rows.eras, sample=True)
            kept["era_scores_"] = means[np.bincount(rows.codes, rows.counted) > 0]
        return kept

    def _decode(self, Z):
        """Return the rows decoded from the codes, averaged over networks."""
        out = 0
        for decoder, code in zip(self.decoders_, self._codes(Z), strict=True):
            out = out + decoder.transform(code)
        return (
            out if len(self.decoders_) == 1 else out / np.float32(len(self.decoders_))
        )

    def _codes(self, Z):
        """Yield the code of each network, cut from all latents."""
        width = Z.shape[1] // len(self.decoders_)
        known = self._fitted_with
        first = 0 if known.output == "code" else sum(known.hidden)
        for start in range(first, Z.shape[1], width):
            yield Z[:, start : start + self.n_components_]

    def _score_rows(self, X):
        varying = self.scale_ > 0
        scale = self.scale_[varying]
        scores = np.zeros(len(X))
        for rows in row_blocks(*X.shape):
            block = X[rows]
            Z = self.encoder_.transform(block)
            x = block[:, varying].astype(np.float64)
            for decoder, code in zip(self.decoders_, self._codes(Z), strict=True):
                # float64: in float32 a large mean would hide the error.
                restored = decoder.transform(code, out=np.empty(block.shape))
                error = (restored[:, varying] - x) / scale
                known = ~np.isnan(error)
                squares = np.where(known, error, 0) ** 2
                scores[rows] -= squares.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        return scores / len(self.decoders_)

    def _era_means(self, X, eras: EraIndex, *, sample=False):
        means = np.empty(eras.n_eras)
        for code, rows in eras.rows_by_era():
            if sample and eras.counts[code] > _ROWS_PER_ERA:
                index = np.arange(len(X))[rows]
                chosen = np.linspace(0, len(index) - 1, _ROWS_PER_ERA).astype(np.intp)
                rows = index[chosen]
            means[code] = self._score_rows(X[rows]).mean()
        return means


def _corruption(known: Any, middle: torch.Tensor) -> Corruption:
    """Return what corrupts rows, from an embedder's parameters."""
    from numerai_features.nn._autoencoder import Corruption

    relative = known.noise == "relative"
    kind = "gaussian" if relative else known.noise
    return Corruption(kind, known.noise_level, relative, middle)
