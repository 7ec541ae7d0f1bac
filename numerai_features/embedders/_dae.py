"""Denoising autoencoder: rows restored from their corrupted copies."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from numerai_features._compat import Interval, StrOptions, fit_context
from numerai_features._eras import EraIndex
from numerai_features._validation import (
    check_missing,
    check_weights,
    has_nan,
    known_numbers,
    missing_values,
    resolve_seed,
    row_blocks,
    validate_rows,
)
from numerai_features.embedders import _network as network
from numerai_features.embedders._folding import decoder_of, encoder_of
from numerai_features.embedders._holdout import hold_out
from numerai_features.encoders import Concatenate, Encoder, Fill

_ROWS_PER_ERA = 500  # tell an era's mean score to a twentieth of the rows' spread


class DAEEmbedder(network.NetworkEmbedder):
    r"""Latent features of a denoising autoencoder.

    A network restores rows from copies of which some cells were corrupted [1]_. What it
    has in its narrowest layer, the code, are the latents. With :math:`t` a row whose
    columns are standardised, :math:`\tilde t` its corrupted copy, :math:`f` the encoder
    and :math:`g` the decoder, training minimises the mean over rows and columns of
    :math:`(g(f(\tilde t)) - t)^2` by AdamW; no labels are used. Every layer has batch
    normalisation, so that the code has unit variance. Rows that are restored badly are
    unlike those of `fit` [2]_, which `score_samples` tells. The table stays one byte a
    cell: a batch is gathered and corrupted as bytes where the network is.

    Parameters
    ----------
    n_components : int, default=None
        Width of the code; None means ``min(30, n_features)``.
    hidden : sequence of int, default=(256, 128)
        Widths of the layers between the features and the code; those of the decoder
        mirror them.
    activation : {"silu", "relu", "tanh", "sigmoid", "identity"}, default="silu"
        Of the hidden layers. "identity" makes the network linear.
    noise : {"swap", "masking", "cutout", "gaussian", "relative"}, default="swap"
        "swap": a cell takes the same column's value from another row of the batch,
        drawn for each cell. "masking": it takes the middle bin (for floats the
        column's median). "cutout": whole columns do, for the batch. "gaussian": every
        cell gets normal noise. "relative": the same, times the standardised value.
    noise_level : float, default=0.08
        Probability that a cell (a column, for "cutout") is corrupted, below 1; for the
        normal noises its standard deviation, in those of the column.
    emphasis : float, default=None
        Share of the weight, between 0 and 1, that a corrupted cell has in the loss
        against an intact one; None weighs them the same, as .5 does, and is faster.
    mask_head : bool, default=False
        Whether the network must also tell which cells were changed (cross-entropy,
        added to the loss).
    dropout : float, default=0.0
        Of the hidden layers.
    features : {"code", "deep"}, default="code"
        What `transform` gives: the code, or the activations of all hidden layers with
        the code in the middle (the deep stack).
    validation : float, int, splitter or None, default=0.1
        What is held out to stop by: the last share of the eras, or the last so many,
        with up to 16 eras before them left out, too. Without eras, or with less than 5
        of them, a random share of the rows; of less than 20 rows none. Or a splitter,
        whose last fold is taken (``EraHoldout(0.2, purge=4)``). None: train on all
        rows, to the last epoch.
    monitor : {"valid_loss", "valid_r2"}, default="valid_loss"
        What tells the best epoch: the loss, with noise drawn once, or the share of the
        variance of intact rows that is restored.
    patience : int, default=10
        Epochs without a better `monitor` until training stops. None: never.
    batching : {"rows", "era"}, default="rows"
        Batches of random rows, or of all rows of one era.
    batch_size : int or "auto", default="auto"
        Rows a batch. "auto": a fiftieth of the training rows, between 256 and 4096.
    max_epochs : int, default=30
        Most passes over the rows.
    learning_rate : float, default=0.003
        Of AdamW; the largest of the schedule.
    schedule : {"one-cycle", "constant"}, default="one-cycle"
        "one-cycle": up within 30 % of the steps, then down to nearly nothing.
    weight_decay : float, default=0.0
        Of the layers' matrices.
    clip_norm : float, default=None
        Largest norm of the gradient.
    average : float, default=None
        Decay, near 1, of an exponential average of the weights over steps, which is
        then what is judged and kept.
    n_models : int, default=1
        Networks of other seeds, trained as one; their latents stand side by side.
    missing : {"middle", "raise"}, default="middle"
        NaN becomes the column's median learned in `fit` (bin 2 for int8) and does not
        count in the loss, or is an error.
    device : str, default="auto"
        "cpu", "cuda", "cuda:1" ...; "auto": a GPU if there is one.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        What matrix products are made in while training. "auto": bfloat16 on GPUs and
        CPUs (with AMX) that multiply it faster.
    checkpoint : path, default=None
        Folder for training states; needs an int `random_state`. A fit that was cut
        off, and is called again with the same parameters and rows, goes on from the
        last one; a fit that ends removes it.
    checkpoint_every : float, default=60
        Seconds between two states.
    log_dir : path, default=None
        Folder for TensorBoard.
    random_state : int, RandomState or None, default=None
        Seed of weights, order and noise. The same seed gives the same latents to the
        bit on the same machine.
    verbose : int, default=0
        Whether to show a progress bar.

    Attributes
    ----------
    encoder_ : Encoder
        What `transform` runs.
    decoders_ : list of Encoder
        For each model from its code back to the features.
    mean_, scale_ : ndarray of shape (n_features,)
        What columns are standardised by: mean and standard deviation of the training
        rows, 0 for a constant; of int8 bins one deviation for all columns.
    history_ : list of dict
        A record an epoch: learning rate, seconds, and one number a model of
        ``train_loss``, ``valid_loss``, ``valid_r2``.
    best_epoch_ : ndarray of shape (n_models,)
        The epoch, from 1, whose weights each model has.
    n_iter_ : int
        Number of epochs.
    era_scores_ : ndarray of shape (n_eras,) or None
        Mean `score_samples` of each fitted era, of up to 500 rows of it.
    n_components_ : int
        The resolved width of the code.
    fitted_eras_ : ndarray of shape (n_eras,) or None
        Era numbers seen in fit, None if no eras were given.
    state_ : dict of str to ndarray
        The networks' weights, from which `partial_fit` goes on.
    missing_values_ : ndarray of shape (n_features,)
        What stands in for NaN.
    n_features_in_ : int
        Number of features seen in fit.
    feature_names_in_ : ndarray of shape (n_features,)
        Their names, where X had string names.

    See Also
    --------
    FactorAnalysisEmbedder : Linear latents, in a fraction of the time.
    numerai_features.compose.LatentFeatures : Originals beside latents.

    Notes
    -----
    Ctrl-C ends training early, with the best weights so far. Under ``torchrun`` the
    processes share every batch; each must call `fit` with the same rows.

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

    _parameter_constraints: dict[str, list[Any]] = {
        "n_components": [network.POSITIVE, None],
        "hidden": ["array-like"],
        "activation": [StrOptions({"silu", "relu", "tanh", "sigmoid", "identity"})],
        "noise": [StrOptions({"swap", "masking", "cutout", "gaussian", "relative"})],
        "noise_level": [Interval(Real, 0, None, closed="left")],
        "emphasis": [Interval(Real, 0, 1, closed="both"), None],
        "mask_head": ["boolean"],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "features": [StrOptions({"code", "deep"})],
        "monitor": [StrOptions({"valid_loss", "valid_r2"})],
        **network.TRAINING,
    }

    def __init__(
        self,
        n_components=None,
        *,
        hidden=(256, 128),
        activation="silu",
        noise="swap",
        noise_level=0.08,
        emphasis=None,
        mask_head=False,
        dropout=0.0,
        features="code",
        validation=0.1,
        monitor="valid_loss",
        patience=10,
        batching="rows",
        batch_size="auto",
        max_epochs=30,
        learning_rate=0.003,
        schedule="one-cycle",
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
        self.hidden = hidden
        self.activation = activation
        self.noise = noise
        self.noise_level = noise_level
        self.emphasis = emphasis
        self.mask_head = mask_head
        self.dropout = dropout
        self.features = features
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
    def fit(self, X, y=None, *, eras=None, sample_weight=None):
        """Train the network on rows.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            Finite numbers or NaN. int8 stays int8. A frame's column ``era`` is taken
            out, and used.
        y : Ignored
            Present for API consistency.
        eras : array-like of shape (n_rows,), default=None
            Era labels; the last eras are held out (`validation`).
        sample_weight : array-like of shape (n_rows,), default=None
            Weights of the rows in the loss; rows of weight zero are left out.

        Returns
        -------
        self
        """
        X, eras = validate_rows(self, X, eras, reset=True, min_rows=2)
        weights = check_weights(sample_weight, len(X))
        self._check_parameters(X)
        counted = None if weights is None else weights > 0
        self.missing_values_ = missing_values(X, self.missing, counted)
        self.fitted_eras_ = known_numbers(eras)
        self._dtype = np.float32 if X.dtype.kind in "iub" else np.float64
        self._n_fits = 0
        self._train(X, eras, weights, state=None)
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, *, eras=None, sample_weight=None):
        """Train the fitted network further, on the same or on new rows.

        Another `max_epochs` at most, with the present parameters of training; columns
        are standardised as in the first call, and held out are the last eras of this
        call's rows. The first call is `fit`.

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
        X, eras = validate_rows(self, X, eras, reset=False, min_rows=2)
        check_missing(X, self.missing)
        self._check_parameters(X)
        seen = known_numbers(eras)
        if seen is not None and self.fitted_eras_ is not None:
            seen = np.union1d(self.fitted_eras_, seen)
        # Rows without eras could be of any era, so then none are known.
        self.fitted_eras_ = seen if self.fitted_eras_ is not None else None
        weights = check_weights(sample_weight, len(X))
        self._n_fits += 1
        self._train(X, eras, weights, state=self.state_)
        return self

    def transform(self, X, *, eras=None):
        """Return the code of each row, or all hidden activations.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            The features of fit.
        eras : Ignored
            A row's latents depend on that row alone.

        Returns
        -------
        ndarray of shape (n_rows, n_features_out), float32
        """
        X, _ = self._check_rows(X, eras)
        return self.encoder_.transform(X)

    def reconstruct(self, X, *, eras=None):
        """Return the rows as the network restores them; the mean over its models.

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

    def inverse_transform(self, X):
        """Return rows from their latents.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features_out)
            What `transform` gives; of deep features only the code is used.

        Returns
        -------
        ndarray of shape (n_rows, n_features), float32
        """
        check_is_fitted(self)
        return self._decode(self._check_latents(X))

    def score_samples(self, X, *, eras=None):
        """Return how familiar each row is: less its mean squared error of restoring.

        Over known cells of columns that vary, in units of their variance; the mean
        over models. A row unlike those of `fit` has a low score (Boney et al., 2019).

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
        """Return how familiar each era as a whole is.

        The era's mean of `score_samples`, less the mean of the fitted eras' means
        (``era_scores_``), in units of their standard deviation: near 0 for an era like
        those of `fit`, and the more negative the less it is like them.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            The features of fit; a frame's column ``era`` is used.
        eras : array-like of shape (n_rows,), default=None
            Era labels.

        Returns
        -------
        pandas.Series
            Named "familiarity", by era label, in order.
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
                "era_familiarity compares with the eras of fit, of which there must be "
                "two or more. Pass eras= to fit."
            )
        scores = self._era_means(X, eras)
        familiarity = (scores - known.mean()) / known.std()
        index = pd.Index(eras.labels, name="era")
        return pd.Series(familiarity, index, name="familiarity")

    def _check_parameters(self, X):
        network.check_widths(self.hidden, "(256, 128)")
        n_features = X.shape[1]
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
                "emphasis have nothing to tell apart. Leave them out, or use 'swap', "
                "'masking' or 'cutout'."
            )

    def _train(self, X, eras, weights, state):
        """Train from fresh weights, or from `state`; set what is fitted."""
        from numerai_features.nn._parallel import agree, process_group

        device = network.resolve_device(self.device)
        with process_group(device):
            seed = agree(resolve_seed(self.random_state), device)
            stack = self._train_stack(X, eras, weights, state, seed, device)
        self._keep(stack.cpu())
        self.era_scores_ = None
        if eras is not None:
            self.era_scores_ = self._era_means(X, eras, sample=True)

    def _train_stack(self, X, eras, weights, state, seed, device):
        """Return the trained networks."""
        import torch

        from numerai_features.nn._autoencoder import Autoencoder, Denoising
        from numerai_features.nn._batches import Table

        rows = hold_out(self.validation, len(X), eras, weights, seed)
        if state is None:
            self.mean_, self.scale_ = network.column_moments(X, rows.train, weights)
            self.n_components_ = self.n_components or min(30, X.shape[1])
        seeds = network.model_seeds(seed, self.n_models, self._n_fits)
        table = Table(X, self.mean_, self.scale_, device)
        batches, held_out = self._make_batches(table, seeds, rows, eras, weights)
        k = self.n_components_
        widths = [X.shape[1], *self.hidden, k, *reversed(self.hidden), X.shape[1]]
        work = network.operations(widths, batches.rows_per_step)
        stack = Autoencoder(
            seeds, table, self.hidden, k, self.activation, self.dropout,
            self.mask_head, network.resolve_precision(self.precision, device, work),
        )  # fmt: skip
        if state is not None:
            stack.load_state_dict({k: torch.tensor(v) for k, v in state.items()})
        task = Denoising(
            stack,
            self._make_corruption(table),
            0.5 if self.emphasis is None else self.emphasis,
            n_varying=table.n_varying,
            has_missing=has_nan(X),
        ).to(device)
        labels = None if eras is None else eras.row_numbers
        known = (X, labels, weights, self._n_fits, state)
        self._run(task, batches, held_out, *known, operations=work)
        return stack

    def _make_corruption(self, table):
        from numerai_features.nn._autoencoder import Corruption

        relative = self.noise == "relative"
        kind = "gaussian" if relative else self.noise
        middle = table.as_taken(self.missing_values_)
        return Corruption(kind, self.noise_level, relative, middle)

    def _keep(self, stack):
        """Keep what is needed of trained networks, as arrays."""
        self.state_ = {k: v.numpy().copy() for k, v in stack.state_dict().items()}
        deep = self.features == "deep"
        blocks = [*stack.encoder, *stack.decoder] if deep else stack.encoder
        branches, self.decoders_ = [], []
        units = {"mean": self.mean_, "scale": self.scale_, "dtype": self._dtype}
        for model in range(self.n_models):
            branches.append(encoder_of(blocks, model, deep=deep, **units))
            decoder = decoder_of(stack.decoder, stack.output, model, **units)
            self.decoders_.append(decoder)
        models = [("models", Concatenate(tuple(branches)))]
        steps = models if len(branches) > 1 else branches[0].steps
        self.encoder_ = Encoder([("fill", Fill(self.missing_values_)), *steps])

    def _decode(self, Z):
        """Return the mean over models of what their decoders make of the codes."""
        out = 0
        for decoder, code in zip(self.decoders_, self._codes(Z), strict=True):
            out = out + decoder.transform(code)
        return (
            out if len(self.decoders_) == 1 else out / np.float32(len(self.decoders_))
        )

    def _codes(self, Z):
        """Yield each model's code from all latents."""
        width = Z.shape[1] // len(self.decoders_)
        first = 0 if self.features == "code" else sum(self.hidden)
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
                error = (decoder.transform(code)[:, varying] - x) / scale
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
