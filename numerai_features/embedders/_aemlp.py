"""Supervised autoencoder with a perceptron: latents that know the targets."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin, clone
from sklearn.exceptions import DataConversionWarning

from numerai_features._compat import HasMethods, Interval, StrOptions, fit_context
from numerai_features._eras import EraIndex
from numerai_features._horizon import purge_of_targets
from numerai_features._validation import (
    ERA_COLUMN,
    as_floats,
    check_weights,
    has_nan,
    known_numbers,
    missing_values,
    resolve_seed,
    validate_rows,
)
from numerai_features.embedders import _network as network
from numerai_features.embedders._folding import supervised_of
from numerai_features.embedders._holdout import Holdout, hold_out
from numerai_features.encoders import Affine, Concatenate, Encoder, Fill

_ALIGNED_ROWS = 20_000
_FEWEST_ALIGNED = 5  # rows a component; with fewer all rows are aligned on


class SupervisedAEMLP(RegressorMixin, network.NetworkEmbedder):
    r"""Latents and predictions of a supervised autoencoder with a perceptron.

    Yirun Zhang's network, which won Jane Street's competition [1]_. With
    :math:`\mathrm{N}` batch normalisation, :math:`s` the activation and :math:`\delta`
    dropout::

        x0   = N(x)
        code = s(N(linear(x0 + noise)))
        r    = linear(δ(code))                    rows restored
        p1   = linear(δ(s(N(linear(r)))))         targets, from the restored rows
        z    = δ(N([x0, code]))
        p2   = linear(δ(s(N(linear( ... z)))))    targets: the prediction

    Training minimises the sum of three losses by AdamW: the squared error of ``r``
    (columns are standardised), and that of ``p1`` and ``p2``. `transform` gives the
    code, `predict` the mean over the targets of ``p2``. The defaults are the published
    ones, but for the loss: cross-entropy there, squared error here.

    The table stays one byte a cell. Noise on every cell is drawn as what it adds to
    the layer behind it, which has the same distribution.

    Parameters
    ----------
    n_components : int, default=96
        Width of the code.
    decoder_units : int, default=96
        Of the layer between the restored rows and the first prediction.
    hidden : sequence of int, default=(896, 448, 448, 256)
        Widths of the layers between features and code, and the prediction.
    activation : {"silu", "relu", "tanh", "sigmoid"}, default="silu"
        Of all layers but the outputs. "silu" is also known as swish.
    noise : float, default=0.0353
        Standard deviation of normal noise on the normalised features.
    dropout : sequence, default=(0.0384, 0.424, 0.104, 0.492, 0.32, 0.272, 0.438)
        Of the code as the decoder has it, of the decoder's units, of features and code
        as the perceptron has them, and of each of its hidden layers.
    loss : {"mse", "bce", "corr", "numerai_corr"}, default="mse"
        Of both predictions. "bce": cross-entropy, for targets in [0, 1]. "corr": one
        less the correlation with each target within an era. "numerai_corr": the same
        of deviations to the power of 1.5. Both need ``batching="era"``.
    loss_weights : sequence of three floats, default=(1.0, 1.0, 1.0)
        Of the rows restored, of ``p1`` and of ``p2``.
    target_weights : array-like of shape (n_targets,), default=None
        How `predict` weighs the targets; None: all the same.
    cross_fit : int or splitter, default=None
        `fit_transform` gives each row the code of a network that was not trained on
        its era or those around it: of so many networks, one for each block of eras
        (`EraKFold`, purged by the longest target that a name of y tells, as in
        ``target_ender_60``, else by 16 eras), or one for each fold of a splitter.
    validation : float, int, splitter or None, default=0.1
        What is held out to stop by: the last share of the eras, or the last so many,
        with as many eras before them left out, at most the purge of `cross_fit`.
        Without eras a random share of the rows, with a warning. Or a splitter, whose
        last fold is taken. None: train on all rows, to the last epoch.
    monitor : {"valid_loss", "valid_corr"}, default="valid_loss"
        What tells the best epoch: the loss of ``p2``, or its mean CORR with the first
        target over eras.
    patience : int, default=10
        Epochs without a better `monitor` until training stops. None: never.
    batching : {"rows", "era"}, default="rows"
        Batches of random rows, or of all rows of one era.
    batch_size : int or "auto", default="auto"
        Rows a batch. "auto": a fiftieth of the training rows, between 256 and 4096.
    max_epochs : int, default=100
        Most passes over the rows.
    learning_rate : float, default=0.001
        Of AdamW; the largest of the schedule.
    schedule : {"one-cycle", "constant"}, default="constant"
        "one-cycle": up within 30 % of the steps, then down to nearly nothing.
    weight_decay : float, default=0.0
        Of the layers' matrices.
    clip_norm : float, default=None
        Largest norm of the gradient.
    average : float, default=None
        Decay, near 1, of an exponential average of the weights over steps.
    n_models : int, default=1
        Networks of other seeds: their codes stand side by side, their predictions are
        averaged.
    missing : {"middle", "raise"}, default="middle"
        NaN in X becomes the column's median learned in `fit` (bin 2 for int8), or is
        an error.
    device : str, default="auto"
        "cpu", "cuda", "cuda:1" ...; "auto": a GPU if there is one.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        What matrix products are made in while training.
    checkpoint : path, default=None
        Folder for training states; needs an int `random_state`.
    checkpoint_every : float, default=60
        Seconds between two states.
    log_dir : path, default=None
        Folder for TensorBoard.
    random_state : int, RandomState or None, default=None
        Seed of weights, order and noise.
    verbose : int, default=0
        Whether to show a progress bar.

    Attributes
    ----------
    encoder_ : Encoder
        What `transform` runs.
    predictor_ : Encoder
        What `predict_targets` runs.
    target_names_ : list of str or None
        Names of y's columns, where it had some.
    n_targets_ : int
        Number of targets.
    mean_, scale_ : ndarray of shape (n_features,)
        What columns are standardised by.
    history_ : list of dict
        A record an epoch: learning rate, seconds, and one number a model of
        ``train_loss`` (all three), ``valid_loss`` (of ``p2``), ``valid_first`` (of
        ``p1``), ``valid_restored`` and, with eras, ``valid_corr``.
    best_epoch_ : ndarray of shape (n_models,)
        The epoch, from 1, whose weights each model has.
    n_iter_ : int
        Number of epochs.
    fitted_eras_ : ndarray of shape (n_eras,) or None
        Era numbers seen in fit, None if no eras were given.
    missing_values_ : ndarray of shape (n_features,)
        What stands in for NaN.
    n_features_in_ : int
        Number of features seen in fit.
    feature_names_in_ : ndarray of shape (n_features,)
        Their names, where X had string names.

    See Also
    --------
    DAEEmbedder : Latents without labels.
    numerai_features.compose.LatentFeatures : Originals beside latents.

    Notes
    -----
    Codes of training rows have seen those rows' targets. A model that is fitted on them
    trusts them too much; ``cross_fit=5`` prevents it. Then
    ``fit(X, y).transform(X)`` is not ``fit_transform(X, y)``, as of scikit-learn's
    ``TargetEncoder``: the former is for rows that come later.

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

    _parameter_constraints: dict[str, list[Any]] = {
        "n_components": [network.POSITIVE],
        "decoder_units": [network.POSITIVE],
        "hidden": ["array-like"],
        "activation": [StrOptions({"silu", "relu", "tanh", "sigmoid"})],
        "noise": [Interval(Real, 0, None, closed="left")],
        "dropout": ["array-like"],
        "loss": [StrOptions({"mse", "bce", "corr", "numerai_corr"})],
        "loss_weights": ["array-like"],
        "target_weights": ["array-like", None],
        "cross_fit": [
            Interval(Integral, 2, None, closed="left"),
            HasMethods(["split"]),
            None,
        ],
        "monitor": [StrOptions({"valid_loss", "valid_corr"})],
        **network.TRAINING,
    }

    def __init__(
        self,
        n_components=96,
        *,
        decoder_units=96,
        hidden=(896, 448, 448, 256),
        activation="silu",
        noise=0.0353,
        dropout=(0.0384, 0.424, 0.104, 0.492, 0.320, 0.272, 0.438),
        loss="mse",
        loss_weights=(1.0, 1.0, 1.0),
        target_weights=None,
        cross_fit=None,
        validation=0.1,
        monitor="valid_loss",
        patience=10,
        batching="rows",
        batch_size="auto",
        max_epochs=100,
        learning_rate=0.001,
        schedule="constant",
        weight_decay=0.0,
        clip_norm=None,
        average=None,
        n_models=1,
        missing="middle",
        device="auto",
        precision="auto",
        checkpoint=None,
        checkpoint_every=60,
        log_dir=None,
        random_state=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.decoder_units = decoder_units
        self.hidden = hidden
        self.activation = activation
        self.noise = noise
        self.dropout = dropout
        self.loss = loss
        self.loss_weights = loss_weights
        self.target_weights = target_weights
        self.cross_fit = cross_fit
        self.validation = validation
        self.monitor = monitor
        self.patience = patience
        self.batching = batching
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.average = average
        self.n_models = n_models
        self.missing = missing
        self.device = device
        self.precision = precision
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.log_dir = log_dir
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, *, eras=None, sample_weight=None, residual_to=None):
        """Train the network.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            Finite numbers or NaN. int8 stays int8. A frame's column ``era`` is taken
            out, and used.
        y : array-like or frame of shape (n_rows,) or (n_rows, n_targets)
            Targets. NaN do not count; rows without any target are left out.
        eras : array-like of shape (n_rows,), default=None
            Era labels; the last eras are held out (`validation`).
        sample_weight : array-like of shape (n_rows,), default=None
            Weights of the rows in all losses; rows of weight zero are left out.
        residual_to : array-like of shape (n_rows,), default=None
            A benchmark's predictions: the targets become what is left of them when,
            era by era, a constant and the benchmark have been fitted to them by least
            squares. Rows without a benchmark (NaN) are left out.

        Returns
        -------
        self
        """
        X, rows = self._prepare(X, y, eras, sample_weight, residual_to)
        self._fit_rows(X, rows)
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def fit_transform(
        self, X, y=None, *, eras=None, sample_weight=None, residual_to=None
    ):
        """Train the network and return the rows' latents.

        With `cross_fit` those of networks that were not trained on the row's era, each
        turned on to the codes of the fitted network: by the rotation that brings the
        codes of rows that both were trained on nearest to each other (orthogonal
        Procrustes). So it is not the same as ``fit(X, y).transform(X)``. Rows that are
        in no test fold have the fitted network's code.

        Parameters
        ----------
        X, y, eras, sample_weight, residual_to
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_rows, n_features_out), float32
        """
        X, rows = self._prepare(X, y, eras, sample_weight, residual_to)
        if self.cross_fit is not None and rows.eras is None:
            raise ValueError(
                "cross_fit needs eras: pass eras=, or a frame with a column 'era'."
            )
        folds = [] if self.cross_fit is None else self._make_folds(X, rows)
        trained = self._fit_rows(X, rows)
        final = self.encoder_.transform(X)
        latents = final.copy() if folds else final
        for train, test in folds:
            self._cross_fit(X, rows, train, test, trained, final, latents)
        return latents

    def transform(self, X, *, eras=None):
        """Return the code of each row.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            The features of fit.
        eras : Ignored
            A row's latents depend on that row alone.

        Returns
        -------
        ndarray of shape (n_rows, n_components * n_models), float32
        """
        X, _ = self._check_rows(X, eras)
        return self.encoder_.transform(X)

    def predict_targets(self, X, *, eras=None):
        """Return a prediction of every target; the mean over models.

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
        """Return the mean over targets of `predict_targets`, by `target_weights`.

        Parameters
        ----------
        X, eras
            As in `transform`.

        Returns
        -------
        ndarray of shape (n_rows,), float64
        """
        each = self.predict_targets(X, eras=eras).astype(np.float64)
        return each @ (self._shares() / self._shares().sum())

    def score(self, X, y, sample_weight=None, *, eras=None):
        """Return R^2 of `predict` with the targets' mean, by `target_weights`.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            The features of fit.
        y : array-like of shape (n_rows,) or (n_rows, n_targets)
            Targets; rows without any do not count.
        sample_weight : array-like of shape (n_rows,), default=None
            Weights of the rows.
        eras : Ignored
            Present for API consistency.

        Returns
        -------
        float
        """
        from sklearn.metrics import r2_score

        p = self.predict(X, eras=eras)
        y = _table_of(y)
        if len(y) != len(p):
            raise ValueError(
                f"Found input variables with inconsistent numbers of samples: X has "
                f"{len(p)} rows, y {len(y)}."
            )
        if y.shape[1] not in (1, self.n_targets_):
            raise ValueError(
                f"y must have one column, or {self.n_targets_} as in fit; got "
                f"{y.shape[1]}."
            )
        weights = check_weights(sample_weight, len(y))
        shares = self._shares() if y.shape[1] == self.n_targets_ else np.ones(1)
        known = ~np.isnan(y)
        total = known @ shares
        rows = total > 0
        mean = (np.where(known, y, 0) @ shares)[rows] / total[rows]
        weights = None if weights is None else weights[rows]
        return r2_score(mean, p[rows], sample_weight=weights)

    def _prepare(self, X, y, eras, sample_weight, residual_to):
        """Check and set what does not depend on which rows are trained on."""
        X, eras = validate_rows(self, X, eras, reset=True, min_rows=2)
        weights = check_weights(sample_weight, len(X))
        y = self._check_y(y, len(X))
        self._check_parameters()
        self._check_eras(eras)
        if weights is not None:
            y = np.where((weights > 0)[:, None], y, np.nan)
        if residual_to is not None:
            y = _residuals(y, residual_to, eras, weights, self.loss)
        counted = ~np.isnan(y).all(axis=1)
        if not counted.any():
            raise ValueError(
                "y holds no number in any row of positive weight: nothing to learn. "
                "Choose rows whose targets are known."
            )
        unknown = np.isnan(y).all(axis=0)
        if unknown.any():
            raise ValueError(
                f"y: target {int(unknown.argmax())} is NaN in all rows that count. "
                "Leave it out."
            )
        self.missing_values_ = missing_values(X, self.missing, counted)
        self._dtype = np.float32 if X.dtype.kind in "iub" else np.float64
        return X, _Rows(y, eras, weights, counted)

    def _shares(self):
        if self.target_weights is None:
            return np.ones(self.n_targets_)
        return np.asarray(self.target_weights, np.float64)

    def _check_y(self, y, n_rows):
        if y is None:
            raise ValueError(
                "SupervisedAEMLP requires y to be passed, but the target y is None."
            )
        names = getattr(y, "columns", None)
        if names is None:
            name = getattr(y, "name", None)
            names = None if name is None else [name]
        told = [] if names is None else [str(name) for name in names]
        self.target_names_ = told or None
        if ERA_COLUMN in told:
            raise ValueError(
                "y has a column 'era', which is no target. Take it out, and pass eras=."
            )
        table = _table_of(y)
        if getattr(np.asarray(y), "ndim", 1) == 2 and table.shape[1] == 1:
            warnings.warn(
                "A column-vector y was passed when a 1d array was expected. Please "
                "change the shape of y to (n_samples,), for example using ravel().",
                DataConversionWarning,
                stacklevel=3,
            )
        if len(table) != n_rows:
            raise ValueError(
                f"Found input variables with inconsistent numbers of samples: X has "
                f"{n_rows} rows, y {len(table)}."
            )
        if np.isinf(table).any():
            raise ValueError("Input y contains infinity or a value too large.")
        if self.loss == "bce" and not (
            np.nanmin(table, initial=0) >= 0 and np.nanmax(table, initial=1) <= 1
        ):
            raise ValueError(
                f"loss='bce' needs targets in [0, 1]; got from {np.nanmin(table)} to "
                f"{np.nanmax(table)}. Scale them, or use loss='mse'."
            )
        self.n_targets_ = table.shape[1]
        if self.target_weights is not None:
            shares = as_floats(self.target_weights, "target_weights")
            known = shares.shape == (self.n_targets_,) and np.isfinite(shares).all()
            if not known or not shares.sum() > 0:
                raise ValueError(
                    f"target_weights must be a finite weight for each of "
                    f"{self.n_targets_} targets, with a positive sum; got "
                    f"{self.target_weights!r}."
                )
        return table

    def _check_parameters(self):
        hidden = network.check_widths(self.hidden, "(896, 448, 448, 256)", fewest=1)
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
        if self.batch_size == 1:
            raise ValueError("batch_size must be 2 or more; got 1.")
        if self.loss in ("corr", "numerai_corr") and self.batching != "era":
            raise ValueError(
                f"loss={self.loss!r} is a correlation within an era: it needs "
                f"batching='era'; got {self.batching!r}."
            )

    def _check_eras(self, eras):
        if eras is not None:
            return
        if self.batching == "era" or self.monitor == "valid_corr":
            raise ValueError(
                f"batching={self.batching!r} with monitor={self.monitor!r} needs eras: "
                "pass eras=, or a frame with a column 'era'."
            )
        if self.validation is not None and not hasattr(self.validation, "split"):
            warnings.warn(
                "No eras came: rows held out to stop by may share eras with rows that "
                "are trained on, and then tell too late. Pass eras=, or "
                "validation=None.",
                UserWarning,
                stacklevel=3,
            )

    def _fit_rows(self, X, rows, among=None):
        """Train on the rows that count, `among` these; return those trained on."""
        from numerai_features.nn._parallel import agree, process_group

        chosen = np.flatnonzero(rows.counted)
        if among is not None:
            chosen = among[rows.counted[among]]
        eras = None if rows.eras is None else rows.eras.take(chosen)
        weights = None if rows.weights is None else rows.weights[chosen]
        self.fitted_eras_ = known_numbers(eras)
        device = network.resolve_device(self.device)
        with process_group(device):
            seed = agree(resolve_seed(self.random_state), device)
            held = hold_out(
                self.validation, len(chosen), eras, weights, seed, self._purge()
            )
            valid = None if held.valid is None else chosen[held.valid]
            held = Holdout(chosen[held.train], valid)
            stack = self._train_stack(X, rows, held, seed, device)
        self._keep(stack.cpu())
        return held.train

    def _train_stack(self, X, rows, held, seed, device):
        """Return the trained networks."""
        from numerai_features.nn._batches import Table
        from numerai_features.nn._supervised import SupervisedAutoencoder, Supervising

        eras, weights = rows.eras, rows.weights
        if self.monitor == "valid_corr" and (
            held.valid is None or np.isnan(rows.y[held.valid, 0]).all()
        ):
            raise ValueError(
                "monitor='valid_corr' needs rows held out whose first target is known. "
                "Set validation, or monitor='valid_loss'."
            )
        self.mean_, self.scale_ = network.column_moments(X, held.train, weights)
        seeds = network.model_seeds(seed, self.n_models)
        table = Table(X, self.mean_, self.scale_, device)
        batches, held_out = self._make_batches(
            table, seeds, held, eras, weights, rows.y.astype(np.float32)
        )
        k, n_features, hidden = self.n_components, X.shape[1], [*self.hidden]
        widths = [n_features + k, *hidden, self.n_targets_]
        work = network.operations(widths, batches.rows_per_step)
        stack = SupervisedAutoencoder(
            seeds, table, self.n_targets_, k, self.decoder_units, hidden,
            self.activation, self.noise, [*self.dropout],
            network.resolve_precision(self.precision, device, work),
        )  # fmt: skip
        task = Supervising(
            stack,
            self.loss,
            [*self.loss_weights],
            table.as_taken(self.missing_values_),
            table.n_varying,
            has_missing=has_nan(X),
            has_eras=eras is not None,
        ).to(device)
        labels = None if eras is None else eras.row_numbers
        known = (X, rows.y, labels, weights, held.train, held.valid)
        self._run(task, batches, held_out, *known, operations=work)
        return stack

    def _keep(self, stack):
        """Keep what is needed of trained networks, as arrays."""
        units = {"mean": self.mean_, "scale": self.scale_, "dtype": self._dtype}
        pairs = [
            supervised_of(stack, m, sigmoid=self.loss == "bce", **units)
            for m in range(self.n_models)
        ]
        codes, predictors = zip(*pairs, strict=True)
        fill = ("fill", Fill(self.missing_values_))
        each = np.eye(self.n_targets_) / self.n_models
        mean = Affine(np.tile(each, (self.n_models, 1)).astype(self._dtype))
        self.encoder_ = Encoder([fill, ("models", Concatenate(codes))])
        self.predictor_ = Encoder(
            [fill, ("models", Concatenate(predictors)), ("mean", mean)]
        )

    def _make_folds(self, X, rows):
        """Return the folds of `cross_fit`; no era is on both sides of one."""
        from numerai_features.model_selection import EraKFold

        splitter, numbers = self.cross_fit, rows.eras.row_numbers
        if isinstance(splitter, Integral):
            splitter = EraKFold(splitter, purge=self._purge())
        empty = np.empty((len(X), 1), np.int8)
        folds = list(splitter.split(empty, groups=numbers))
        for i, (train, test) in enumerate(folds):
            if np.isin(numbers[test], numbers[train]).any():
                raise ValueError(
                    f"cross_fit: fold {i} tests eras that it trains on. Use a splitter "
                    "by eras, such as EraKFold."
                )
            if not rows.counted[train].any():
                raise ValueError(
                    f"cross_fit: fold {i} trains on no row whose target is known. Use "
                    "fewer folds."
                )
        return folds

    def _purge(self):
        """Return the eras that the longest target reaches over."""
        return purge_of_targets(self.target_names_)

    def _cross_fit(self, X, rows, train, test, trained, final, latents):
        """Write the latents of a fold's test rows, turned on to the final ones."""
        other = clone(self).set_params(cross_fit=None, log_dir=None)
        for name in (
            "n_features_in_", "n_targets_", "target_names_", "missing_values_", "_dtype"
        ):  # fmt: skip
            setattr(other, name, getattr(self, name))
        both = np.intersect1d(other._fit_rows(X, rows, train), trained)
        if len(both) < _FEWEST_ALIGNED * self.n_components:
            both = np.flatnonzero(rows.counted)
        both = both[:: -(-len(both) // _ALIGNED_ROWS)]
        theirs, ours = other.encoder_.transform(X[both]), final[both]
        out = np.concatenate(
            [other.encoder_.transform(block) for block, _ in network.blocks_of(X, test)]
        )
        k = self.n_components
        for first in range(0, latents.shape[1], k):
            own = slice(first, first + k)
            turn, shift = _procrustes(theirs[:, own], ours[:, own])
            latents[test, own] = out[:, own] @ turn + shift

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.regressor_tags.poor_score = True
        return tags


@dataclass(frozen=True)
class _Rows:
    """What is known of rows but the features."""

    y: NDArray[np.float64]  # (n_rows, n_targets)
    eras: EraIndex | None
    weights: NDArray[np.float64] | None
    counted: NDArray[np.bool_]


def _table_of(y):
    """Return targets as float64 of shape (n_rows, n_targets)."""
    y = as_floats(y, "y")
    if y.ndim not in (1, 2):
        raise ValueError(
            f"y must have shape (n_rows,) or (n_rows, n_targets); got {y.shape}."
        )
    return y.reshape(len(y), -1)


def _residuals(y, benchmark, eras, weights, loss):
    """Return what a constant and the benchmark leave of each target, era by era."""
    if eras is None:
        raise ValueError(
            "residual_to needs eras: pass eras=, or a frame with a column 'era'."
        )
    if loss == "bce":
        raise ValueError(
            "residual_to leaves targets around zero, but loss='bce' needs them in "
            "[0, 1]. Use loss='mse' or a correlation."
        )
    b = as_floats(benchmark, "residual_to")
    if b.shape != (len(y),):
        raise ValueError(
            f"residual_to must have shape ({len(y)},), one prediction a row; got "
            f"{b.shape}."
        )
    if np.isinf(b).any():
        raise ValueError(f"residual_to is infinite in row {int(np.isinf(b).argmax())}.")
    weights = np.ones(len(y)) if weights is None else weights
    out = np.full_like(y, np.nan)
    for _, rows in eras.rows_by_era():
        for j in range(y.shape[1]):
            column = y[rows, j].copy()
            known = ~(np.isnan(column) | np.isnan(b[rows]))
            if known.any():
                w, side, rest = weights[rows][known], b[rows][known], column[known]
                side, rest = (v - np.average(v, weights=w) for v in (side, rest))
                if side.any():
                    rest = rest - side * ((w * side) @ rest / ((w * side) @ side))
                column[known] = rest
            column[~known] = np.nan
            out[rows, j] = column
    return out


def _procrustes(a, b):
    """Return the rotation and the shift that bring a nearest to b."""
    from scipy.linalg import orthogonal_procrustes

    turn, _ = orthogonal_procrustes(a - a.mean(axis=0), b - b.mean(axis=0))
    turn = turn.astype(np.float32)
    return turn, b.mean(axis=0) - a.mean(axis=0) @ turn
