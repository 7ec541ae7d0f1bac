"""UMAP by a network: a row's place depends on that row alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from numerai_features._bins import MOST_BINS
from numerai_features._compat import Interval, StrOptions, fit_context
from numerai_features._optional import import_optional
from numerai_features._validation import (
    as_floats,
    known_numbers,
    missing_values,
    resolve_seed,
    take_rows,
    validate_rows,
)
from numerai_features.embedders import _fuzzy_graph as fuzzy
from numerai_features.embedders import _network as network
from numerai_features.embedders._axes import as_in_metric, fit_axes
from numerai_features.embedders._folding import perceptron_of
from numerai_features.embedders._holdout import FEWEST_ERAS, FEWEST_ROWS, hold_out
from numerai_features.embedders._landmarks import draw_landmarks
from numerai_features.embedders._neighbors import (
    approximate_neighbors,
    exact_neighbors,
    recall,
)
from numerai_features.encoders import Affine, Encoder

_LANDMARKS = 100_000
_MOST_EXACT = 100_000  # rows: some 10 operations a pair and axis
_STEPS_AN_EPOCH = 25
_HELD_OUT_STEPS = 8
_OTHERS = 0.5  # rows to be kept apart from, an edge
_RECALL_ROWS = 200
_LABEL_BINS = 10
_OF_THE_NETWORK = (
    "umap_", "decoder_", "n_edges_", "neighbor_recall_", "feature_recall_",
    "history_", "best_epoch_", "n_iter_",
)  # fmt: skip


class UMAPEmbedder(network.NetworkEmbedder):
    r"""Latent features in which neighbours stay neighbours (UMAP), by a network.

    UMAP [1]_ joins each row to its nearest neighbours, to the degree
    :math:`\exp(-(d - \rho_i) / \sigma_i)`, and lays rows out such that
    :math:`q = 1 / (1 + a d^{2b})` of their distances is near that degree. Here the
    places are a network's output [2]_, trained on edges and on pairs of random rows by
    the same loss. So `transform` treats each row alone, takes milliseconds, and what
    is kept is the network, not the rows.

    What `fit` costs does not depend on the number of rows: it looks at `n_landmarks`
    of them, drawn evenly over the eras; brings them to principal axes (`reduce`);
    seeks neighbours there; and takes as many steps as lower the loss of edges held
    out.

    Parameters
    ----------
    n_components : int, default=60
        Number of latents.
    n_neighbors : int, default=15
        Neighbours of each row, counting the row itself as umap-learn does.
    min_dist : float, default=0.0
        How near each other rows may lie; at most `spread`.
    spread : float, default=1.0
        Scale of the layout.
    metric : {"euclidean", "correlation", "cosine"}, default="euclidean"
        Of the features (of the factors, where ``reduce="factor"``).
    neighbors : {"all", "era"}, default="all"
        Where neighbours are sought: among all landmarks, of which the nearest are
        often the same stock in weeks around; or within the row's era. Then landmarks
        are all rows of as many eras as `n_landmarks` allows, at even distances; eras of
        fewer than `n_neighbors` rows are left out. Without eras all rows are one.
    reduce : {"pca", "factor"}, default="pca"
        Axes that neighbours are sought in and the network starts from: principal axes,
        or factors as `FactorAnalysisEmbedder` finds them. None: the features.
    n_axes : int, default=100
        How many of them.
    n_landmarks : int or "auto", default="auto"
        Most rows to look at; "auto": 100,000. Up to 100,000 neighbours are exact; of
        more (but not within eras) they are found by pynndescent, which misses some.
    method : {"parametric", "umap-learn", "cuml"}, default="parametric"
        "umap-learn" and "cuml" lay the landmarks out by those libraries, without a
        network. Then a row's latents depend on the rows that it is transformed with,
        and change by more than their spread; `transform` takes as long as a fit; the
        landmarks are pickled; nothing can be exported. For the original algorithm set
        ``reduce=None`` too, and `n_landmarks` to the number of rows.
    hidden : sequence of int, default=(256, 256)
        Widths of the network's layers.
    activation : {"silu", "relu", "tanh", "sigmoid"}, default="silu"
        Of these layers.
    negative_sample_rate : float, default=5.0
        Random rows that each edge's row is kept apart from, as umap-learn counts them.
        Each is compared with all rows that a step draws, and these weigh less.
    target_weight : float, default=0.0
        How much y tells neighbours apart, from 0, not at all, to 1, as umap-learn's
        for categories. A target of more than 50 values is cut into 10 bins of equal
        size. Above 0 latents have seen the labels: see Notes.
    reconstruction_weight : float, default=0.0
        Of a second network that restores the axes from the latents; above 0 there is
        `inverse_transform`.
    validation : float, int, splitter or None, default=0.1
        Edges held out to stop by: those of the last share of the eras, or of the last
        so many, with up to 16 eras before them left out, too; without eras, or with
        less than 5 of them, a random share of the edges, and of less than 20 rows none.
        Or a splitter, whose last fold of the landmarks is taken. None: train on all
        edges, to the last epoch.
    patience : int, default=5
        Epochs without a lower loss until training stops. None: never.
    batch_size : int, default=512
        Edges a step.
    max_epochs : int, default=80
        Most epochs, of 25 steps each.
    learning_rate : float, default=0.005
        Of AdamW; the largest of the schedule.
    schedule : {"one-cycle", "constant"}, default="constant"
        "one-cycle": up within 30 % of the steps, then down to nearly nothing.
    weight_decay : float, default=0.0
        Of the layers' matrices.
    clip_norm : float, default=4.0
        Largest norm of the gradient.
    average : float, default=0.97
        Decay, near 1, of an exponential average of the weights over steps, which is
        what is judged and kept.
    missing : {"middle", "raise"}, default="middle"
        NaN becomes the column's median learned in `fit` (bin 2 for int8), or is an
        error.
    device : str, default="auto"
        "cpu", "cuda", "cuda:1" ...; "auto": a GPU if there is one.
    precision : {"auto", "float32", "bfloat16"}, default="float32"
        What the network's products are made in; the loss is in float32.
    checkpoint : path, default=None
        Folder for training states; needs an int `random_state`.
    checkpoint_every : float, default=60
        Seconds between two states.
    log_dir : path, default=None
        Folder for TensorBoard.
    random_state : int, RandomState or None, default=None
        Seed of landmarks, weights and draws.
    verbose : int, default=0
        Whether to show progress, stage by stage.

    Attributes
    ----------
    encoder_ : Encoder
        What `transform` runs; of another `method` the way to the axes.
    decoder_ : Encoder or None
        What `inverse_transform` runs.
    umap_ : object or None
        The fitted estimator of another `method`.
    n_landmarks_ : int
        Rows that were looked at.
    n_edges_ : int
        Edges of the graph; this and all below to `n_iter_` are None for another
        `method`.
    neighbor_recall_ : float
        Share of nearest neighbours on the axes that were found; 1 where exact.
    feature_recall_ : float
        Share of nearest neighbours by all features that were found: less for what the
        axes leave out, of which much may be noise. Both of a sample of 200 rows.
    stage_seconds_ : dict of str to float
        What each stage of `fit` took.
    history_ : list of dict
        A record an epoch: learning rate, seconds, ``train_loss``, ``valid_loss``.
    best_epoch_ : ndarray of shape (1,)
        The epoch, from 1, whose weights are kept.
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
    LatentMapDisplay : The first two latents as a picture.
    DAEEmbedder : Latents that restore the features.

    Notes
    -----
    Latents are turned such that they are uncorrelated over the landmarks and ordered by
    variance, which changes no distance.

    With ``target_weight`` above 0, latents of training rows know those rows' targets: a
    model that is fitted on them trusts them too much.

    References
    ----------
    .. [1] McInnes, L., Healy, J., Melville, J. (2018). UMAP: Uniform manifold
       approximation and projection for dimension reduction. arXiv:1802.03426.
    .. [2] Sainburg, T., McInnes, L., Gentner, T. Q. (2021). Parametric UMAP embeddings
       for representation and semisupervised learning. Neural Computation 33, 2881-2907.

    Examples
    --------
    >>> from numerai_features.datasets import make_era_panel
    >>> from numerai_features.embedders import UMAPEmbedder
    >>> panel = make_era_panel(n_eras=8, rows_per_era=100, n_features=20,
    ...                           n_factors=4, random_state=0)
    >>> umap = UMAPEmbedder(4, max_epochs=2, random_state=0)
    >>> umap.fit(panel.X, eras=panel.eras).transform(panel.X).shape
    (800, 4)
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "n_components": [network.POSITIVE],
        "n_neighbors": [Interval(Integral, 2, None, closed="left")],
        "min_dist": [Interval(Real, 0, None, closed="left")],
        "spread": [Interval(Real, 0, None, closed="neither")],
        "metric": [StrOptions({"euclidean", "correlation", "cosine"})],
        "neighbors": [StrOptions({"all", "era"})],
        "reduce": [StrOptions({"pca", "factor"}), None],
        "n_axes": [network.POSITIVE],
        "n_landmarks": [
            Interval(Integral, 2, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "method": [StrOptions({"parametric", "umap-learn", "cuml"})],
        "hidden": ["array-like"],
        "activation": [StrOptions({"silu", "relu", "tanh", "sigmoid"})],
        "negative_sample_rate": [Interval(Real, 0, None, closed="neither")],
        "target_weight": [Interval(Real, 0, 1, closed="both")],
        "reconstruction_weight": [Interval(Real, 0, None, closed="left")],
        **{
            name: constraint
            for name, constraint in network.TRAINING.items()
            if name not in ("batching", "n_models")
        },
        "batch_size": [network.POSITIVE],
    }

    n_models, monitor = 1, "valid_loss"

    def __init__(
        self,
        n_components=60,
        *,
        n_neighbors=15,
        min_dist=0.0,
        spread=1.0,
        metric="euclidean",
        neighbors="all",
        reduce="pca",
        n_axes=100,
        n_landmarks="auto",
        method="parametric",
        hidden=(256, 256),
        activation="silu",
        negative_sample_rate=5.0,
        target_weight=0.0,
        reconstruction_weight=0.0,
        validation=0.1,
        patience=5,
        batch_size=512,
        max_epochs=80,
        learning_rate=0.005,
        schedule="constant",
        weight_decay=0.0,
        clip_norm=4.0,
        average=0.97,
        missing="middle",
        device="auto",
        precision="float32",
        checkpoint=None,
        checkpoint_every=60,
        log_dir=None,
        random_state=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.n_neighbors = n_neighbors
        self.min_dist = min_dist
        self.spread = spread
        self.metric = metric
        self.neighbors = neighbors
        self.reduce = reduce
        self.n_axes = n_axes
        self.n_landmarks = n_landmarks
        self.method = method
        self.hidden = hidden
        self.activation = activation
        self.negative_sample_rate = negative_sample_rate
        self.target_weight = target_weight
        self.reconstruction_weight = reconstruction_weight
        self.validation = validation
        self.patience = patience
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.average = average
        self.missing = missing
        self.device = device
        self.precision = precision
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.log_dir = log_dir
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, *, eras=None):
        """Lay out some of the rows, and learn where any row lies.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            Finite numbers or NaN. int8 stays int8. A frame's column ``era`` is taken
            out, and used.
        y : array-like of shape (n_rows,), default=None
            A target, if `target_weight` is above 0; NaN where it is not known.
        eras : array-like of shape (n_rows,), default=None
            Era labels: what landmarks are spread over, and the last held out.

        Returns
        -------
        self
        """
        from numerai_features.nn._parallel import agree, process_group
        from numerai_features.nn._threads import fixed_threads

        X, eras = validate_rows(self, X, eras, reset=True, min_rows=2)
        self._check_parameters()
        labels = self._labels(y, len(X))
        self.fitted_eras_ = known_numbers(eras)
        self.stage_seconds_ = {}
        device = network.resolve_device(self.device)
        with process_group(device), fixed_threads():
            seed = agree(resolve_seed(self.random_state), device)
            self._fit_landmarks(X, labels, eras, seed, device)
        return self

    def fit_transform(self, X, y=None, *, eras=None):  # type: ignore[override]
        """Fit, and return the rows' latents.

        Parameters
        ----------
        X, y, eras
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_rows, n_components), float32
        """
        return self.fit(X, y, eras=eras).transform(X, eras=eras)

    def transform(self, X, *, eras=None):
        """Return where each row lies.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            The features of fit.
        eras : Ignored
            A row's latents depend on that row alone.

        Returns
        -------
        ndarray of shape (n_rows, n_components), float32
        """
        X, _ = self._check_rows(X, eras)
        places = self.encoder_.transform(X)
        if self.umap_ is None:
            return places
        return np.asarray(self.umap_.transform(places), np.float32)

    def inverse_transform(self, X):
        """Return rows from their latents.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_components)
            What `transform` gives.

        Returns
        -------
        ndarray of shape (n_rows, n_features), float32
            In the units of the features.
        """
        check_is_fitted(self, "encoder_")
        if self.decoder_ is None:
            raise ValueError(
                "inverse_transform needs the network that restores rows: fit with "
                "method='parametric' and reconstruction_weight above 0 (1, say); got "
                f"{self.method!r} and {self.reconstruction_weight}."
            )
        return self.decoder_.transform(self._check_latents(X))

    def _check_parameters(self):
        if self.min_dist > self.spread:
            raise ValueError(
                f"min_dist={self.min_dist} must be at most spread={self.spread}."
            )
        network.check_widths(self.hidden, "(256, 256)")
        if self.method != "parametric" and self.neighbors == "era":
            raise ValueError(
                f"neighbors='era' needs method='parametric'; {self.method!r} seeks its "
                "neighbours among all rows."
            )

    def _labels(self, y, n_rows):
        """Return a category a row, -1 where it is not known, or None."""
        if not self.target_weight:
            return None
        if y is None:
            raise ValueError(
                f"target_weight={self.target_weight} needs y, which is None. Pass a "
                "target, or target_weight=0."
            )
        y = as_floats(y, "y")
        if y.shape != (n_rows,):
            raise ValueError(
                f"y must have shape ({n_rows},), one target a row; got {y.shape}."
            )
        known = ~np.isnan(y)
        labels = np.full(n_rows, -1)
        values, labels[known] = np.unique(y[known], return_inverse=True)
        if len(values) > MOST_BINS:
            edges = np.quantile(y[known], np.arange(1, _LABEL_BINS) / _LABEL_BINS)
            labels[known] = np.searchsorted(np.unique(edges), y[known])
        return labels

    def _fit_landmarks(self, X, labels, eras, seed, device):
        by_era = self.neighbors == "era" and eras is not None
        most = _LANDMARKS if self.n_landmarks == "auto" else self.n_landmarks
        fewest = self.n_neighbors if by_era else None
        with self._stage("landmarks"):
            rows = draw_landmarks(len(X), eras, most, seed, fewest=fewest)
            self._check_landmarks(len(rows), by_era)
            eras = None if eras is None else eras.take(rows)
            X = np.ascontiguousarray(take_rows(X, rows))
            labels = None if labels is None else labels[rows]
            self.missing_values_ = missing_values(X, self.missing)
        with self._stage("axes"):
            axes = fit_axes(
                X, self.reduce, self.n_axes, self.metric, self.missing_values_
            )
        self.n_landmarks_ = len(rows)
        for name in _OF_THE_NETWORK:
            setattr(self, name, None)
        if self.method != "parametric":
            with self._stage("layout"):
                self.umap_ = self._fit_other(axes, labels, seed)
            self.encoder_ = axes.forward
            return
        with self._stage("neighbours"):
            groups = eras if by_era else None
            graph = self._make_graph(X, axes, labels, groups, seed, device)
        self.n_edges_ = len(graph.weights)
        with self._stage("layout"):
            task, units = self._train(axes.rows, graph, eras, seed, device)
            self._keep(task, units, X, axes)

    def _check_landmarks(self, n_rows, by_era):
        """Raise where there are too few rows to have neighbours."""
        if n_rows >= self.n_neighbors:
            return
        found = "no era has as many" if by_era else f"there are {n_rows} landmarks"
        raise ValueError(
            f"n_neighbors={self.n_neighbors} rows, the row itself among them, but "
            f"{found}. Lower n_neighbors, or pass more rows."
        )

    def _make_graph(self, X, axes, labels, eras, seed, device):
        k, table = self.n_neighbors - 1, axes.in_metric()
        n, codes = len(table), None if eras is None else eras.codes
        if eras is None and n > _MOST_EXACT:
            index, distance = approximate_neighbors(table, k, seed)
        else:
            groups = None
            if eras is not None:
                groups = [np.arange(n)[rows] for _, rows in eras.rows_by_era()]
            index, distance = exact_neighbors(
                table, k, device, groups, progress=bool(self.verbose)
            )
        sample = np.linspace(0, n - 1, min(n, _RECALL_ROWS)).astype(np.intp)
        self.neighbor_recall_ = recall(index, table, sample, device, codes)
        self.feature_recall_ = self.neighbor_recall_
        if axes.back is not None:
            if X.dtype.kind == "f":
                X = np.where(np.isnan(X), self.missing_values_, X)
            features = as_in_metric(X, self.metric)
            self.feature_recall_ = recall(index, features, sample, device, codes)
        if self.metric != "euclidean":  # from chords to 1 less the cosine
            distance = (distance**2 / 2).astype(np.float32)
        graph = fuzzy.fuzzy_graph(index, distance)
        if labels is not None:
            graph = fuzzy.intersect_labels(graph, labels, self.target_weight)
        if not len(graph.weights):
            raise ValueError(
                f"target_weight={self.target_weight} leaves no two neighbours: all "
                "have other targets. Lower it, or raise n_neighbors."
            )
        return graph

    def _split(self, graph, n_rows, eras, seed):
        """Return the edges to train on, those held out or None, and the rows seen."""
        every = np.arange(n_rows)
        by_rows = hasattr(self.validation, "split") or (
            eras is not None and eras.resolved.sum() >= FEWEST_ERAS
        )
        if self.validation is None or (n_rows < FEWEST_ROWS and not by_rows):
            return graph, None, every
        if by_rows:
            rows: Any = hold_out(self.validation, n_rows, eras, None, seed)
            seen, held = (np.isin(every, part) for part in (rows.train, rows.valid))
            a, b = graph.heads, graph.tails
            train, known = seen[a] & seen[b], (seen | held)[a] & (seen | held)[b]
            valid, every = known & ~train, rows.train
        elif self.validation >= 1:
            raise ValueError(
                f"validation={self.validation} is a number of eras; it takes "
                f"{FEWEST_ERAS} eras. Pass eras=, or a share of the edges, below 1."
            )
        else:
            rng = np.random.default_rng([seed, len(graph.weights)])
            valid = rng.random(len(graph.weights)) < self.validation
            train = ~valid
        for name, edges in {"train on": train, "hold out": valid}.items():
            if not edges.any():
                raise ValueError(
                    f"validation={self.validation!r} leaves no edge to {name}. Hold "
                    "out another share, or pass validation=None to train on all."
                )
        return graph.take(train), graph.take(valid), every

    def _train(self, Z, graph, eras, seed, device):
        """Return the trained networks, and what rows are standardised by."""
        from numerai_features.nn._batches import Table
        from numerai_features.nn._layout import EdgeBatches, Layout, Perceptron

        n, width = Z.shape
        train, valid, seen = self._split(graph, n, eras, seed)
        mean, scale = network.column_moments(Z, np.arange(n), None)
        # The same for all axes: the less one varies, the less it matters.
        scale = np.full(width, np.sqrt((scale**2).mean()))
        table = Table(Z, mean, scale, device)
        [model] = network.model_seeds(seed, 1)
        n_others = max(1, int(_OTHERS * self.batch_size))
        sizes = (self.batch_size, n_others, _STEPS_AN_EPOCH)
        batches = EdgeBatches(table, model, train, seen, *sizes)
        held_out = None
        if valid is not None:
            sizes = (self.batch_size, n_others, _HELD_OUT_STEPS)
            held_out = EdgeBatches(
                table, model, valid, np.arange(n), *sizes, held_out=True
            )
        widths = [width, *self.hidden, self.n_components]
        work = network.operations(widths, 2 * self.batch_size + n_others)
        dtype = network.resolve_precision(self.precision, device, work)
        encoder = Perceptron([model], widths, self.activation, table, 0, dtype)
        decoder = None
        if self.reconstruction_weight:
            back = [*reversed(widths)]
            decoder = Perceptron(
                [model], back, self.activation, name=len(widths), dtype=dtype
            )
        task = Layout(
            encoder,
            *fuzzy.curve(self.min_dist, self.spread),
            self.negative_sample_rate,
            decoder,
            self.reconstruction_weight,
        )
        contents = (Z, train.heads, train.tails, train.weights)
        self._run(task.to(device), batches, held_out, *contents, operations=work)
        return task.cpu(), (mean, scale)

    def _keep(self, task, units, X, axes):
        """Keep what is needed of the trained networks, as arrays."""
        dtype, (mean, scale) = axes.dtype, units
        layers: Any = perceptron_of(task.encoder, 0, dtype, mean, scale)
        *steps, (name, last) = layers
        before = Encoder([*axes.forward.steps, *layers])
        turn, middle = _turn(before.transform(X))
        turned = Affine(
            (last.weight @ turn).astype(dtype),
            ((last.bias - middle) @ turn).astype(dtype),
        )
        self.encoder_ = Encoder([*axes.forward.steps, *steps, (name, turned)])
        if task.decoder is None:
            return
        layers = perceptron_of(task.decoder, 0, dtype)
        (name, first), *steps = layers
        first = Affine(
            (turn.T @ first.weight).astype(dtype),
            (first.bias + middle @ first.weight).astype(dtype),
        )
        units = Affine(np.diag(scale).astype(dtype), mean.astype(dtype))
        steps = [(name, first), *steps, ("units", units)]
        if axes.back is not None:
            steps.append(("features", axes.back))
        self.decoder_ = Encoder(steps)

    def _fit_other(self, axes, labels, seed):
        """Return a layout by umap-learn or cuML."""
        options = {
            "n_components": self.n_components,
            "n_neighbors": self.n_neighbors,
            "min_dist": self.min_dist,
            "spread": self.spread,
            "metric": axes.metric,
            "negative_sample_rate": max(1, round(self.negative_sample_rate)),
            "target_weight": self.target_weight,
            "verbose": bool(self.verbose),
        }
        owner = f"UMAPEmbedder(method={self.method!r})"
        if self.method == "umap-learn":
            umap = import_optional("umap", extra="umap", needed_by=owner)
            if self.random_state is not None:
                options.update(random_state=seed % (1 << 31), n_jobs=1)
        else:
            umap = import_optional("cuml.manifold", extra="cuml", needed_by=owner)
            options["random_state"] = seed % (1 << 31)
        return umap.UMAP(**options).fit(np.asarray(axes.rows, np.float32), labels)

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        """Take the time of a stage, and tell it."""
        from tqdm import tqdm

        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        self.stage_seconds_[name] = seconds
        if self.verbose:
            tqdm.write(f"UMAPEmbedder: {name}, {seconds:.1f} s")

    @property
    def _n_features_out(self):
        if self.umap_ is not None:
            return self.umap_.n_components
        return super()._n_features_out


def _turn(Z):
    """Return principal axes of rows, by descending variance, and their mean."""
    import torch

    Z = torch.from_numpy(Z).double()
    mean = Z.mean(0)
    _, axes = torch.linalg.eigh((Z - mean).T @ (Z - mean))
    axes = axes.flip(1)
    strongest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    return (axes * strongest.sign()).numpy(), mean.numpy()
