"""Supervised autoencoder with a perceptron: latents trained on the targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, replace
from typing import Any, ClassVar

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator

from numerai_features._arguments import ACTIVATION, ROWS, WIDTH, Each, Finite, Methods
from numerai_features._compat import StrOptions
from numerai_features._frozen import check_same_columns, unfrozen
from numerai_features._validation import as_floats
from numerai_features.embedders._course import check_eras_are_alone
from numerai_features.embedders._dae import DAEEmbedder
from numerai_features.embedders._further import columns_of
from numerai_features.embedders._target_network import (
    CORRELATIONS,
    TargetNetwork,
    needs_eras,
)

_LOSS = StrOptions({"mse", "mae", "bce", "corr", "numerai_corr"})
_MEASURED_ROWS = 1 << 13
_FARTHEST = 10.0


class SupervisedAEMLP(TargetNetwork):
    r"""Supervised autoencoder with a multilayer perceptron: latents and predictions.

    This is Yirun Zhang's network, which won Jane Street's competition [1]_. Below,
    :math:`\mathrm{N}` is batch normalisation, :math:`s` the activation and
    :math:`\delta` dropout::

        x0   = N(x)
        code = s(N(linear(x0 + noise)))
        r    = linear(δ(code))                    rows restored
        p1   = linear(δ(s(N(linear(r)))))         targets, from the restored rows
        z    = δ(N([x0, code]))
        p2   = linear(δ(s(N(linear( ... z)))))    targets: the prediction

    AdamW minimises the weighted sum of three losses: the squared error of ``r``
    (columns are standardised) and the losses of ``p1`` and ``p2``. `transform` returns
    the code, `predict` the mean of ``p2`` over the targets. By default, layers, widths,
    activation, noise, dropout, learning rate, `max_epochs` and `patience` are the
    published ones. Loss and outputs, the metric that selects the best epoch, batch
    size, initial weights and constants of batch normalisation are not: the guide
    compares them.

    The table stays at one byte per cell. Gaussian noise is not drawn for each cell: its
    effect on the next layer is drawn, from the same distribution.

    Parameters
    ----------
    n_components : int, default=96
        Width of the code.
    decoder_units : int, default=96
        Width of the layer between ``r`` and ``p1``.
    hidden : sequence of int, default=(896, 448, 448, 256)
        Widths of the layers between ``z`` and ``p2``.
    activation : {"silu", "relu", "tanh", "sigmoid", "hardswish"}, default="silu"
        Activation of all layers except the outputs. "silu" is also known as swish.
    noise : {"gaussian", "relative"}, default="gaussian"
        "gaussian": normal noise on the normalised features. "relative": the same, times
        the normalised feature.
    noise_level : float, default=0.0353
        Standard deviation of the noise.
    dropout : sequence, default=(0.0384, 0.424, 0.104, 0.492, 0.32, 0.272, 0.438)
        Dropout rates: of the code on its way to the decoder, of the `decoder_units`, of
        ``z``, and of each of the `hidden` layers.
    output : {"linear", "sigmoid"}, default="linear"
        "sigmoid": the predictions ``p1`` and ``p2`` are mapped to (0, 1) by a sigmoid,
        for targets in [0, 1].
    loss : str or sequence of str, default="mse"
        Loss of ``p1`` and ``p2``. "mse" and "mae": squared and absolute error. "bce":
        cross-entropy, for targets in [0, 1]; it makes the outputs sigmoids. "corr": one
        minus the correlation with each target within an era. "numerai_corr": the same,
        with deviations raised to the power of 1.5. Both correlations need
        ``batching="era"`` and training eras of 16 rows or more, because smaller eras
        share a batch. One loss is the mean over all known targets. A sequence has a
        loss for each target: the mean over those rows of the batch that know it. The
        mean over targets is minimised. A correlation does not know the units of its
        target: rank each target's predictions before you average them.
    loss_weights : sequence of three floats, default=(1.0, 1.0, 1.0)
        Weights of the losses of ``r``, ``p1`` and ``p2``.
    target_weights : array-like of shape (n_targets,), default=None
        Weights of the targets in `predict` and `score`; None: equal weights.
    cross_fit : int or splitter, default=None
        Makes `fit_transform` give each row the code of a network that was not trained
        on its era or the eras around it. An int is the number of blocks of eras, one
        network each (`EraKFold`, purged by the longest horizon in the names of y, as in
        ``target_ender_60``, else by 16 eras). A splitter has one network for each fold.
    autoencoder : DAEEmbedder, default=None
        An autoencoder without labels, whose weights the code and ``r`` start from. A
        clone is fitted to all rows, also those without targets. An autoencoder that was
        already fitted, on more rows of the same columns, is not refitted in a
        FrozenEstimator. It needs ``hidden=()``, the same `n_components`, and the
        `activation` as its `code_activation`. Columns are standardised as it does:
        ``mean_`` and ``scale_`` are its own.
    monitor : {"valid_loss", "valid_corr"}, default="valid_loss"
        Held-out metric that selects the best epoch: the loss of ``p2``, or the mean
        over eras of its CORR with the first target.
    n_models : int, default=1
        Number of networks, each with its own seed. Their codes are concatenated, their
        predictions averaged.

    Attributes
    ----------
    autoencoder_ : DAEEmbedder or FrozenEstimator
        The fitted autoencoder, if there is one.
    predictor_ : Encoder
        The encoder that `predict_targets` runs.
    target_names_ : list of str or None
        Names of the columns of y, if it has any.
    n_targets_ : int
        Number of targets.
    mean_, scale_ : ndarray of shape (n_features,)
        Mean and standard deviation of each column over the training rows. The deviation
        is 0 for a constant column; columns of int8 bins share one.

    See Also
    --------
    DAEEmbedder : Latents without labels.
    numerai_features.compose.LatentFeatures : Features and latents together.

    Notes
    -----
    The codes of training rows depend on those rows' targets, so a model fitted on these
    codes overfits; ``cross_fit=5`` prevents it. Then ``fit(X, y).transform(X)``, meant
    for new rows, differs from ``fit_transform(X, y)``, as in scikit-learn's
    ``TargetEncoder``.

    References
    ----------
    .. [1] Zhang, Y. (2021). Jane Street: supervised autoencoder MLP. Kaggle,
       www.kaggle.com/code/gogo827jz/jane-street-supervised-autoencoder-mlp

    Examples
    --------
    >>> from numerai_features.datasets import make_era_panel
    >>> from numerai_features.embedders import SupervisedAEMLP
    >>> panel = make_era_panel(n_eras=30, rows_per_era=50, n_features=20,
    ...                           n_factors=4, random_state=0)
    >>> net = SupervisedAEMLP(4, hidden=(16, 8), dropout=(0, 0, 0, 0, 0),
    ...                       max_epochs=2, random_state=0)
    >>> net.fit(panel.X, panel.y("target_alpha_20"), eras=panel.eras)
    SupervisedAEMLP(...)
    >>> net.predict(panel.X).shape, net.transform(panel.X).shape
    ((1500,), (1500, 4))
    """

    n_components: int = field(default=96, kw_only=False)
    decoder_units: int = 96
    hidden: Sequence[int] = (896, 448, 448, 256)
    activation: str = "silu"
    noise: str = "gaussian"
    noise_level: float = 0.0353
    dropout: Sequence[float] = (0.0384, 0.424, 0.104, 0.492, 0.320, 0.272, 0.438)
    output: str = "linear"
    loss: str | Sequence[str] = "mse"
    loss_weights: Sequence[float] = (1.0, 1.0, 1.0)
    target_weights: Any = None
    cross_fit: Any = None
    autoencoder: Any = None
    monitor: str = "valid_loss"
    max_epochs: int = 100
    learning_rate: float = 0.001
    schedule: str = "constant"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [WIDTH],
        "decoder_units": [WIDTH],
        "hidden": [Each(WIDTH, fewest=1)],
        "activation": [ACTIVATION],
        "noise": [StrOptions({"gaussian", "relative"})],
        "noise_level": [Finite(0, 1000)],
        "dropout": [ROWS],
        "output": [StrOptions({"linear", "sigmoid"})],
        "loss": [_LOSS, Each(_LOSS, fewest=1)],
        "loss_weights": [ROWS],
        "autoencoder": [Methods(["fit", "transform"]), None],
    }

    def _check_parameters(self, n_features, n_targets):
        hidden = self.hidden
        shares = as_floats(self.dropout, "dropout")
        if (
            shares.shape != (3 + len(hidden),)
            or not ((shares >= 0) & (shares < 1)).all()
        ):
            raise ValueError(
                f"dropout must be {3 + len(hidden)} shares from 0 to below 1: of the "
                "code, the decoder, features and code, and each of the "
                f"{len(hidden)} hidden layers; got {self.dropout!r}."
            )
        weights = as_floats(self.loss_weights, "loss_weights")
        finite = weights.shape == (3,) and np.isfinite(weights).all()
        if not finite or not ((weights >= 0).all() and weights[2] > 0):
            raise ValueError(
                "loss_weights must be three finite numbers, not negative and the last "
                f"of them positive; got {self.loss_weights!r}."
            )
        super()._check_parameters(n_features, n_targets)
        if not isinstance(self.loss, str) and len(self._losses) != n_targets:
            raise ValueError(
                f"loss must be one for all targets, or one for each of {n_targets}; "
                f"got {self.loss!r}."
            )
        if self._correlation and self.batching != "era":
            raise ValueError(
                f"loss={self._correlation!r} is a correlation within an era: it needs "
                f"batching='era'; got {self.batching!r}."
            )
        if self.autoencoder is not None:
            self._check_autoencoder(n_features)

    @property
    def _correlation(self):
        """The first loss that is a correlation, or None."""
        return next((loss for loss in self._losses if loss in CORRELATIONS), None)

    def _check_autoencoder(self, n_features):
        found = unfrozen(self.autoencoder)
        frozen = found is not self.autoencoder
        if not isinstance(found, DAEEmbedder):
            raise ValueError(
                "autoencoder must be a DAEEmbedder, or one in a FrozenEstimator; got "
                f"{found!r}."
            )
        if frozen and not hasattr(found, "encoder_"):
            raise NotFittedError(
                "autoencoder is in a FrozenEstimator, but is not fitted. Fit it, or "
                "pass it alone: then it is fitted here."
            )
        if not frozen:
            found._validate_params()
        if self.n_components > n_features:
            raise ValueError(
                f"n_components={self.n_components} must be at most n_features="
                f"{n_features} if there is an autoencoder."
            )
        known = found._fitted_with if frozen else found
        width = known.n_components or min(30, n_features)
        wanted = (), self.n_components, self.activation
        if (tuple(known.hidden), width, known.code_activation) != wanted:
            raise ValueError(
                "autoencoder must have hidden=(), n_components="
                f"{self.n_components} and code_activation={self.activation!r}, like "
                f"the code here; got hidden={known.hidden!r}, n_components={width} and "
                f"code_activation={known.code_activation!r}."
            )

    def _check_eras(self, eras):
        if eras is None and self.batching == "era":
            raise needs_eras("batching", "era")
        super()._check_eras(eras)

    def _fit(self, rows):
        self._fit_autoencoder(rows)
        return super()._fit(rows)

    def _fit_transform(self, rows):
        self._fit_autoencoder(rows)
        return super()._fit_transform(rows)

    def _fit_autoencoder(self, rows):
        """Fit the autoencoder once, for all networks, unless it is frozen."""
        if self.autoencoder is None:
            return
        self.autoencoder_ = clone(self.autoencoder)
        if isinstance(self.autoencoder, FrozenEstimator):
            check_same_columns(self.autoencoder, self)
        else:
            if self.autoencoder_.random_state is None:
                self.autoencoder_.set_params(random_state=self.random_state)
            options = {"eras": rows.era_labels, "sample_weight": rows.weights}
            self.autoencoder_.fit(rows.X, **options)

    @property
    def _start(self):
        """The fitted autoencoder that the networks start from."""
        return unfrozen(self.autoencoder_)

    def _choose_columns(self, own):
        if self.autoencoder is None:
            return own
        theirs = columns_of(self._start)
        _check_scale(own, theirs)
        return theirs

    def _prepare(self, rows, among, seed, device, columns=None):
        course = super()._prepare(rows, among, seed, device, columns)
        if self.autoencoder is None:
            return course
        return replace(course, key=(*course.key, self._start.states_, course.columns))

    def _begin(self, task, model, course):
        if self.autoencoder is None:
            return
        import torch

        states, table = self._start.states_, course.table
        state = {k: torch.tensor(v) for k, v in states[model % len(states)].items()}
        x = table.take(course.train[:: len(course.train) // _MEASURED_ROWS + 1])
        x = torch.where(x.isnan(), course.middle.to(x), x).cpu()
        task.network.start_from(state, x)

    def _make_task(self, course):
        from numerai_features.nn._supervised import SupervisedAutoencoder, Supervising

        table, y = course.table, course.rows.y
        if self._correlation:
            check_eras_are_alone(course, self._correlation)
        self._check_monitor(course)
        network = SupervisedAutoencoder(
            table,
            y.shape[1],
            self.n_components,
            self.decoder_units,
            [*self.hidden],
            self.activation,
            self.noise_level,
            [*self.dropout],
            self.noise,
        )
        return Supervising(
            network,
            self.loss,
            [*self.loss_weights],
            course.middle,
            table.n_varying,
            has_missing=course.has_missing,
            has_eras=course.rows.eras is not None,
            sigmoid=bool(self._sigmoid),
        )

    def _encoders_of(self, task, course):
        columns, sigmoid = course.columns, bool(self._sigmoid)
        return task.network.steps(columns.units, columns.dtype, sigmoid=sigmoid)


def _check_scale(own, theirs):
    """Raise if an autoencoder's columns are not on the scale of the rows' own."""
    both = (own.scale > 0) & (theirs.scale > 0)
    if not both.any():
        raise ValueError(
            "autoencoder was fitted to rows in which none of the columns varies that "
            "vary here. Pass one that was fitted to rows like these."
        )
    grown = np.median(own.scale[both] / theirs.scale[both])
    gap = np.abs(own.mean - theirs.mean)[both] / theirs.scale[both]
    if not 1 / _FARTHEST < grown < _FARTHEST or np.median(gap) > _FARTHEST:
        raise ValueError(
            "autoencoder was fitted to columns of another scale: they deviate "
            f"{1 / grown:.3g} times as much as those of X, and the means of X are "
            f"{np.median(gap):.3g} deviations away. Pass X in the same units."
        )
