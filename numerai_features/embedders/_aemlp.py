"""Supervised autoencoder with a perceptron: latents trained on the targets."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import field, replace
from typing import Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.exceptions import DataConversionWarning
from sklearn.utils.validation import check_is_fitted

from numerai_features._arguments import CROSS_FIT, ROWS, WIDTH, Each, Finite
from numerai_features._compat import StrOptions
from numerai_features._residual import read_benchmark, residual_targets
from numerai_features._rows import Rows
from numerai_features._validation import as_floats, check_missing, require_target
from numerai_features._whole_fit import whole_fit
from numerai_features.embedders._course import check_eras_are_alone
from numerai_features.embedders._holdout import varies_within_an_era
from numerai_features.embedders._network import NetworkEmbedder
from numerai_features.encoders import Affine, Concatenate, Encoder, Fill


class SupervisedAEMLP(RegressorMixin, NetworkEmbedder):
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
    the code, `predict` the mean of ``p2`` over the targets. By default, widths,
    noise, dropout and learning rate are the published ones; loss, batch size, initial
    weights and constants of batch normalisation are not: the guide compares them.

    The table stays at one byte per cell. Noise is not drawn for each cell: its effect
    on the next layer is drawn, from the same distribution.

    Parameters
    ----------
    n_components : int, default=96
        Width of the code.
    decoder_units : int, default=96
        Width of the layer between ``r`` and ``p1``.
    hidden : sequence of int, default=(896, 448, 448, 256)
        Widths of the layers between ``z`` and ``p2``.
    activation : {"silu", "relu", "tanh", "sigmoid"}, default="silu"
        Activation of all layers except the outputs. "silu" is also known as swish.
    noise_level : float, default=0.0353
        Standard deviation of normal noise on the normalised features.
    dropout : sequence, default=(0.0384, 0.424, 0.104, 0.492, 0.32, 0.272, 0.438)
        Dropout rates: of the code on its way to the decoder, of the `decoder_units`, of
        ``z``, and of each of the `hidden` layers.
    loss : {"mse", "bce", "corr", "numerai_corr"}, default="mse"
        Loss of ``p1`` and ``p2``. "bce": cross-entropy, for targets in [0, 1]. "corr":
        one minus the correlation with each target within an era. "numerai_corr": the
        same, with deviations raised to the power of 1.5. Both correlations need
        ``batching="era"`` and training eras of 16 rows or more, because smaller eras
        share a batch.
    loss_weights : sequence of three floats, default=(1.0, 1.0, 1.0)
        Weights of the losses of ``r``, ``p1`` and ``p2``.
    target_weights : array-like of shape (n_targets,), default=None
        Weights of the targets in `predict` and `score`; None: equal weights.
    cross_fit : int or splitter, default=None
        Makes `fit_transform` give each row the code of a network that was not trained
        on its era or the eras around it. An int is the number of blocks of eras, one
        network each (`EraKFold`, purged by the longest horizon in the names of y, as in
        ``target_ender_60``, else by 16 eras). A splitter has one network for each fold.
    monitor : {"valid_loss", "valid_corr"}, default="valid_loss"
        Held-out metric that selects the best epoch: the loss of ``p2``, or the mean
        over eras of its CORR with the first target.
    n_models : int, default=1
        Number of networks, each with its own seed. Their codes are concatenated, their
        predictions averaged.

    Attributes
    ----------
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

    __metadata_request__predict = {"eras": True}
    __metadata_request__score = {"eras": True}

    n_components: int = field(default=96, kw_only=False)
    decoder_units: int = 96
    hidden: Sequence[int] = (896, 448, 448, 256)
    activation: str = "silu"
    noise_level: float = 0.0353
    dropout: Sequence[float] = (0.0384, 0.424, 0.104, 0.492, 0.320, 0.272, 0.438)
    loss: str = "mse"
    loss_weights: Sequence[float] = (1.0, 1.0, 1.0)
    target_weights: Any = None
    cross_fit: Any = None
    monitor: str = "valid_loss"
    max_epochs: int = 100
    learning_rate: float = 0.001
    schedule: str = "constant"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [WIDTH],
        "decoder_units": [WIDTH],
        "hidden": [Each(WIDTH, fewest=1)],
        "activation": [StrOptions({"silu", "relu", "tanh", "sigmoid"})],
        "noise_level": [Finite(0, 1000)],
        "dropout": [ROWS],
        "loss": [StrOptions({"mse", "bce", "corr", "numerai_corr"})],
        "loss_weights": [ROWS],
        "target_weights": [ROWS, None],
        "cross_fit": CROSS_FIT,
        "monitor": [StrOptions({"valid_loss", "valid_corr"})],
    }

    @whole_fit(prefer_skip_nested_validation=False)
    def fit(self, X, y, *, eras=None, sample_weight=None, benchmark=None):
        """Train the network.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            Finite numbers or NaN. int8 stays int8. A frame's ``era`` column is removed
            and used as `eras`.
        y : array-like or frame of shape (n_rows,) or (n_rows, n_targets)
            Targets. NaN are ignored; rows without any target are left out.
        eras : array-like of shape (n_rows,), default=None
            Era labels; `validation` holds out the last eras.
        sample_weight : array-like of shape (n_rows,), default=None
            Weights of the rows in all losses; rows of weight zero are left out.
        benchmark : array-like of shape (n_rows,) or frame, default=None
            Predictions of a benchmark. The network is trained on the residuals of the
            targets: in each era, a constant and the benchmark are fitted to them by
            least squares and subtracted. Rows without a benchmark (NaN) are left out.
            A Series or Numerai's whole file is matched by id where `X` or `y` is.

        Returns
        -------
        self
        """
        return self._fit(self._read(X, y, eras, sample_weight, benchmark))

    @whole_fit(prefer_skip_nested_validation=False)
    def fit_transform(
        self, X, y=None, *, eras=None, sample_weight=None, benchmark=None
    ):
        """Train the network and return the rows' latents.

        With `cross_fit`, each row's code comes from a network that was not trained on
        the row's era. These codes are aligned with those of the fitted network by the
        rotation that fits them best on rows that both networks were trained on
        (orthogonal Procrustes). So the result differs from ``fit(X, y).transform(X)``.
        Rows in no test fold get the fitted network's code.

        Parameters
        ----------
        X, y, eras, sample_weight, benchmark
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_rows, n_features_out), float32
        """
        return self._fit_transform(self._read(X, y, eras, sample_weight, benchmark))

    def predict_targets(self, X, *, eras=None):
        """Return a prediction of every target, averaged over networks.

        Parameters
        ----------
        X, eras
            As in `transform`.

        Returns
        -------
        ndarray of shape (n_rows, n_targets), float32
        """
        X, _ = self._check_rows(X, eras)
        return self.predictor_.transform(X)

    def predict(self, X, *, eras=None):
        """Return the `target_weights`-weighted mean of `predict_targets` over targets.

        Parameters
        ----------
        X, eras
            As in `transform`.

        Returns
        -------
        ndarray of shape (n_rows,), float64
        """
        return self._mean_of(self.predict_targets(X, eras=eras))

    def score(self, X, y, sample_weight=None, *, eras=None):
        """Return the R^2 of `predict` for the `target_weights`-weighted mean target.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            The features of fit.
        y : array-like of shape (n_rows,) or (n_rows, n_targets)
            Targets; rows without any are ignored.
        sample_weight : array-like of shape (n_rows,), default=None
            Weights of the rows.
        eras : Ignored
            Present for API consistency.

        Returns
        -------
        float
        """
        from sklearn.metrics import r2_score

        check_is_fitted(self)
        rows: Any = Rows.read(self, X, y, eras, sample_weight, reset=False)
        require_target(rows.y, self)
        check_missing(rows.X, self._fitted_with.missing)
        p, y = self._mean_of(self.predictor_.transform(rows.X)), rows.y
        if y.shape[1] not in (1, self.n_targets_):
            raise ValueError(
                f"y must have one column, or {self.n_targets_} as in fit; got "
                f"{y.shape[1]}."
            )
        shares = self._shares() if y.shape[1] == self.n_targets_ else np.ones(1)
        total = ~np.isnan(y) @ shares
        told = total > 0
        mean = (np.nan_to_num(y) @ shares)[told] / total[told]
        weights = None if rows.weights is None else rows.weights[told]
        return r2_score(mean, p[told], sample_weight=weights)

    def _mean_of(self, each):
        """Return the mean over targets, by their weights."""
        return each.astype(np.float64) @ (self._shares() / self._shares().sum())

    def _read(self, X, y, eras, sample_weight, benchmark=None):
        require_target(y, self)
        rows: Any = Rows.read(self, X, y, eras, sample_weight, min_rows=2)
        benchmark = read_benchmark(benchmark, rows.n_rows, X=X, y=y, eras=eras)
        if np.asarray(y).ndim == 2 and rows.y.shape[1] == 1:
            warnings.warn(
                "A column-vector y was passed when a 1d array was expected. Please "
                "change the shape of y to (n_samples,), for example using ravel().",
                DataConversionWarning,
                stacklevel=3,
            )
        self._check_parameters(rows.X.shape[1], rows.y.shape[1])
        self._check_targets(rows.y)
        self._check_eras(rows.eras)
        targets = np.where(rows.counted[:, None], rows.y, np.nan)
        if benchmark is not None:
            targets = self._residuals(targets, benchmark, rows)
        if np.isnan(targets).all():
            raise ValueError(
                "y holds no number in any row of positive weight: nothing to learn. "
                "Choose rows whose targets are known."
            )
        unknown = np.isnan(targets).all(axis=0)
        if unknown.any():
            raise ValueError(
                f"y: target {int(unknown.argmax())} is NaN in all rows that count. "
                "Leave it out."
            )
        return replace(rows, y=targets)

    def _learnable(self, rows):
        return rows.counted & rows.labelled

    def _residuals(self, targets, benchmark, rows):
        """Return the residuals of the targets after a benchmark is fitted to them."""
        if self.loss == "bce":
            raise ValueError(
                "benchmark leaves targets around zero, but loss='bce' needs them in "
                "[0, 1]. Use loss='mse' or a correlation."
            )
        return residual_targets(targets, benchmark, rows.eras, rows.weights)

    def _shares(self):
        weights = self._fitted_with.target_weights
        if weights is None:
            return np.ones(self.n_targets_)
        return as_floats(weights, "target_weights")

    def _check_targets(self, y):
        if self.loss == "bce" and not (
            np.nanmin(y, initial=0) >= 0 and np.nanmax(y, initial=1) <= 1
        ):
            raise ValueError(
                f"loss='bce' needs targets in [0, 1]; got from {np.nanmin(y)} to "
                f"{np.nanmax(y)}. Scale them, or use loss='mse'."
            )

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
        if self.target_weights is not None:
            shares = as_floats(self.target_weights, "target_weights")
            known = shares.shape == (n_targets,) and np.isfinite(shares).all()
            if not known or not shares.sum() > 0:
                raise ValueError(
                    f"target_weights must be a finite weight for each of {n_targets} "
                    f"targets, with a positive sum; got {self.target_weights!r}."
                )
        if self.loss in ("corr", "numerai_corr") and self.batching != "era":
            raise ValueError(
                f"loss={self.loss!r} is a correlation within an era: it needs "
                f"batching='era'; got {self.batching!r}."
            )

    def _check_eras(self, eras):
        for name, value in (("batching", "era"), ("monitor", "valid_corr")):
            if eras is None and getattr(self, name) == value:
                raise ValueError(
                    f"{name}={value!r} needs eras: pass eras=, or a frame with a "
                    "column 'era', which LatentFeatures(keep_era=True) keeps."
                )
        told = self.validation is None or hasattr(self.validation, "split")
        if eras is None and not told:
            warnings.warn(
                "No eras were passed: rows held out for early stopping may share eras "
                "with training rows, and then training stops too late. Pass eras=, or "
                "validation=None.",
                UserWarning,
                stacklevel=3,
            )

    def _make_task(self, course):
        from numerai_features.nn._supervised import SupervisedAutoencoder, Supervising

        table, y = course.table, course.rows.y
        if self.loss in ("corr", "numerai_corr"):
            check_eras_are_alone(course, self.loss)
        tells = varies_within_an_era(course.rows, course.valid)
        if self.monitor == "valid_corr" and not tells:
            raise ValueError(
                "monitor='valid_corr' needs rows held out of one era whose first "
                "targets are known and differ. Set validation to more eras, or "
                "monitor='valid_loss'."
            )
        network = SupervisedAutoencoder(
            table,
            y.shape[1],
            self.n_components,
            self.decoder_units,
            [*self.hidden],
            self.activation,
            self.noise_level,
            [*self.dropout],
        )
        return Supervising(
            network,
            self.loss,
            [*self.loss_weights],
            course.middle,
            table.n_varying,
            has_missing=course.has_missing,
            has_eras=course.rows.eras is not None,
        )

    def _keep(self, tasks, course):
        columns, n_targets = course.columns, course.rows.y.shape[1]
        pairs = [
            task.network.steps(columns.units, columns.dtype, sigmoid=self.loss == "bce")
            for task in tasks
        ]
        codes, predictors = zip(*pairs, strict=True)
        fill = ("fill", Fill(columns.fill))
        each = np.eye(n_targets) / len(tasks)
        mean = Affine(np.tile(each, (len(tasks), 1)).astype(columns.dtype))
        return {
            "encoder_": Encoder([fill, ("models", Concatenate(codes))]),
            "predictor_": Encoder(
                [fill, ("models", Concatenate(predictors)), ("mean", mean)]
            ),
            "target_names_": course.rows.target_names,
            "n_targets_": n_targets,
            "mean_": columns.mean,
            "scale_": columns.scale,
        }

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.regressor_tags.poor_score = True
        return tags
