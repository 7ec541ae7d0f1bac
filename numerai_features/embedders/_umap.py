"""UMAP by a network: a row's latents depend on that row alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import field, replace
from typing import Any, ClassVar

import numpy as np
from sklearn.utils.validation import check_is_fitted

from numerai_features._arguments import (
    ABOVE_ZERO,
    ACTIVATION,
    COUNT,
    CROSS_FIT,
    NOT_NEGATIVE,
    TABLE,
    WIDTH,
    WIDTHS,
    Finite,
    Whole,
    checked,
)
from numerai_features._compat import StrOptions
from numerai_features._rows import Rows
from numerai_features._validation import missing_values, require_target
from numerai_features._warn import warn
from numerai_features._whole_fit import whole_fit
from numerai_features.embedders._axes import fit_axes, principal_turn
from numerai_features.embedders._columns import Columns, column_moments
from numerai_features.embedders._course import Course
from numerai_features.embedders._edges import find_neighbors, label_bins, split_edges
from numerai_features.embedders._fuzzy_graph import curve, fuzzy_graph, intersect_labels
from numerai_features.embedders._landmarks import draw_landmarks
from numerai_features.embedders._network import NetworkEmbedder
from numerai_features.encoders import Affine, Encoder

_LANDMARKS = 100_000
_STEPS_AN_EPOCH = 25
_HELD_OUT_STEPS = 8
_OTHERS = 0.5  # random rows to repel, per edge


class UMAPEmbedder(NetworkEmbedder):
    r"""Latent features in which neighbours stay neighbours (UMAP), by a network.

    UMAP [1]_ joins each row to its nearest neighbours with weight
    :math:`\exp(-(d - \rho_i) / \sigma_i)`. It places rows such that
    :math:`q = 1 / (1 + a d^{2b})` of their distances is near these weights. Here a
    network computes the places [2]_; it is trained on edges and on pairs of random rows
    with the same loss. So `transform` treats each row alone and takes milliseconds, and
    the fitted embedder keeps the network, not the rows.

    The cost of `fit` does not depend on the number of rows. It draws `n_landmarks` rows
    evenly over the eras, the landmarks, projects them onto principal axes (`reduce`),
    finds their neighbours, and trains until the loss of held-out edges stops falling.

    Parameters
    ----------
    n_components : int, default=60
        Number of latents.
    n_neighbors : int, default=15
        Neighbours of each row, counting the row itself as umap-learn does; of fewer
        landmarks all, with a warning.
    min_dist : float, default=0.0
        Effective minimum distance between rows in the layout; at most `spread`.
    spread : float, default=1.0
        Scale of the layout.
    metric : {"euclidean", "correlation", "cosine"}, default="euclidean"
        Distance between rows over the features (the factors, if ``reduce="factor"``).
    neighbors : {"all", "era"}, default="all"
        "all": neighbours are any landmarks, often the same stock in adjacent weeks.
        "era": neighbours are of the row's era, and landmarks are all rows of as many
        evenly spaced eras as `n_landmarks` allows; eras of fewer than `n_neighbors`
        rows are left out. Without eras all rows are one era.
    reduce : {"pca", "factor"}, default="pca"
        Axes for the neighbour search and input of the network: principal axes, or the
        factors of `FactorAnalysisEmbedder`. None: the features.
    n_axes : int, default=100
        Number of these axes.
    n_landmarks : int or "auto", default="auto"
        Largest number of landmarks; "auto": 100,000. Up to 100,000, and within eras,
        neighbours are exact; beyond, pynndescent finds them and misses some.
    hidden : sequence of int, default=(256, 256)
        Widths of the network's layers.
    activation : {"silu", "relu", "tanh", "sigmoid", "hardswish"}, default="silu"
        Activation of these layers.
    negative_sample_rate : float, default=5.0
        Random rows that repel the row of each edge, as umap-learn counts them. Each row
        is compared with all random rows of a step, with a smaller weight each.
    target_weight : float, default=0.0
        Weight of y in the graph, from 0 (none) to 1, as umap-learn's for categories. A
        target of more than 50 values is cut into 10 bins of equal size. Above 0 the
        latents depend on the labels: see Notes.
    cross_fit : int or splitter, default=None
        Makes `fit_transform` give each row the latents of a network that was not
        trained on its era or the eras around it. An int is the number of blocks of
        eras, one network each (`EraKFold`, purged by the horizon in the name of y, else
        by 16 eras). A splitter has one network for each fold.
    reconstruction_weight : float, default=0.0
        Weight of the loss of a second network that restores the axes from the latents;
        `inverse_transform` needs it above 0.
    validation : float, int, splitter or None, default=0.1
        Edges held out for early stopping: those of the last eras, held out and purged
        as in `SupervisedAEMLP`; without eras, or with fewer than 5 of them, a random
        share of the edges. A splitter, of all rows: those of its last fold.
    batch_size : int, default=512
        Edges per step.
    max_epochs : int, default=80
        Largest number of epochs, of 25 steps each.
    precision : {"auto", "float32", "bfloat16"}, default="float32"
        Precision of the network's matrix products; the loss is in float32.

    Attributes
    ----------
    decoder_ : Encoder or None
        The encoder that `inverse_transform` runs.
    n_landmarks_ : int
        Number of landmarks.
    n_edges_ : int
        Number of edges of the graph.
    neighbor_recall_ : float
        Share of the nearest neighbours on the axes that were found; 1 where exact.
    feature_recall_ : float
        Share of the nearest neighbours by all features that were found; lower by what
        the axes leave out, much of which may be noise. Both shares are measured on a
        sample of 200 rows.
    stage_seconds_ : dict of str to float
        Seconds that each stage of `fit` took.

    See Also
    --------
    LatentMapDisplay : Scatter plot of the first two latents.
    DAEEmbedder : Latents that restore the features.

    Notes
    -----
    Latents are rotated such that they are uncorrelated over the landmarks and ordered
    by variance. The rotation changes no distance.

    pynndescent uses numba's threads (``NUMBA_NUM_THREADS``), not ``n_jobs``: the
    neighbours that it finds depend on the number of threads.

    With ``target_weight`` above 0, the latents of training rows depend on those rows'
    targets, so a model fitted on them overfits; ``cross_fit=5`` prevents it. Then
    ``fit(X, y).transform(X)``, meant for new rows, differs from
    ``fit_transform(X, y)``. Layouts of two networks agree at best up to a rotation, so
    each fold's layout is aligned with the final one by the rotation that fits best.

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

    n_components: int = field(default=60, kw_only=False)
    n_neighbors: int = 15
    min_dist: float = 0.0
    spread: float = 1.0
    metric: str = "euclidean"
    neighbors: str = "all"
    reduce: str | None = "pca"
    n_axes: int = 100
    n_landmarks: int | str = "auto"
    hidden: Sequence[int] = (256, 256)
    activation: str = "silu"
    negative_sample_rate: float = 5.0
    target_weight: float = 0.0
    cross_fit: Any = None
    reconstruction_weight: float = 0.0
    patience: int | None = 5
    batch_size: int = 512
    max_epochs: int = 80
    learning_rate: float = 0.005
    schedule: str = "constant"
    clip_norm: float | None = 4.0
    ema_decay: float | None = 0.97
    precision: str = "float32"
    batching: ClassVar[Any] = "edges"  # type: ignore[misc]
    n_models: ClassVar[Any] = 1  # type: ignore[misc]

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [WIDTH],
        "n_neighbors": [Whole(2)],
        "min_dist": [NOT_NEGATIVE],
        "spread": [ABOVE_ZERO],
        "metric": [StrOptions({"euclidean", "correlation", "cosine"})],
        "neighbors": [StrOptions({"all", "era"})],
        "reduce": [StrOptions({"pca", "factor"}), None],
        "n_axes": [COUNT],
        "n_landmarks": [Whole(2), StrOptions({"auto"})],
        "hidden": WIDTHS,
        "activation": [ACTIVATION],
        "negative_sample_rate": [ABOVE_ZERO],
        "target_weight": [Finite(0, 1)],
        "cross_fit": CROSS_FIT,
        "reconstruction_weight": [NOT_NEGATIVE],
        "batch_size": [COUNT],
    }

    def fit(self, X, y=None, *, eras=None):
        """Build the graph of the landmarks and train the network on it.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            Finite numbers or NaN. int8 stays int8. A frame's ``era`` column is removed
            and used as `eras`.
        y : array-like of shape (n_rows,), default=None
            The target, needed if `target_weight` is above 0; NaN where unknown.
        eras : array-like of shape (n_rows,), default=None
            Era labels: landmarks are spread over eras, and the last eras are held out.

        Returns
        -------
        self
        """
        return super().fit(X, y, eras=eras)

    @whole_fit(prefer_skip_nested_validation=False)
    def fit_transform(self, X, y=None, *, eras=None):
        """Fit, and return the rows' latents.

        Parameters
        ----------
        X, y, eras
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_rows, n_components), float32
        """
        return self._fit_transform(self._read(X, y, eras, None))

    @checked(X=[TABLE])
    def inverse_transform(self, X):
        """Return rows from their latents.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_components)
            Output of `transform`.

        Returns
        -------
        ndarray of shape (n_rows, n_features), float32
            In the units of the features.
        """
        check_is_fitted(self, "encoder_")
        if self.decoder_ is None:
            raise ValueError(
                "inverse_transform needs the network that restores rows: fit with "
                "reconstruction_weight above 0 (1, say); got "
                f"{self._fitted_with.reconstruction_weight}."
            )
        return self.decoder_.transform(self._check_latents(X))

    def _read(self, X, y, eras, sample_weight):
        y = y if self.target_weight else None
        rows = Rows.read(self, X, y, eras, sample_weight, min_rows=2)
        self._check_parameters(rows.X.shape[1], 1)
        if self.target_weight:
            why = f"target_weight={self.target_weight} is for one; else pass 0."
            require_target(rows.y, self, why)
        if rows.y is not None and rows.y.shape[1] > 1:
            raise ValueError(
                f"y must have shape ({rows.n_rows},), one target a row; got "
                f"{rows.y.shape}."
            )
        if rows.y is None:
            return rows
        # Bins are cut from all rows: few landmarks might each get a bin of their own.
        return replace(rows, y=label_bins(rows.y[:, 0])[:, None].astype(float))

    def _check_parameters(self, n_features, n_targets):
        if self.min_dist > self.spread:
            told = f"min_dist={self.min_dist} must be at most spread={self.spread}."
            raise ValueError(told)

    def _prepare(self, rows, among, seed, device, columns=None):
        from numerai_features.nn._batches import Table
        from numerai_features.nn._threads import own_threads

        laps = _Laps(bool(self.verbose))
        with own_threads(self.n_jobs):
            chosen = self._landmarks(rows, among, seed)
            taken = rows.take(chosen)
            landmarks = replace(taken, X=np.ascontiguousarray(taken.X))
            fill = missing_values(landmarks.X, self.missing)
            laps.end("landmarks")
            axes = fit_axes(landmarks.X, self.reduce, self.n_axes, self.metric, fill)
            laps.end("axes")
            by_era = self.neighbors == "era" and landmarks.eras is not None
            n_others = min(self.n_neighbors, landmarks.n_rows) - 1
            index, distance, recalls = find_neighbors(
                landmarks, axes, fill, n_others, self.metric, seed, device,
                by_era=by_era, progress=bool(self.verbose),
            )  # fmt: skip
            graph = self._make_graph(index, distance, landmarks.y)
            laps.end("neighbours")
        edges, held_out, seen = split_edges(graph, self.validation, rows, chosen, seed)
        n_rows, width = axes.rows.shape
        mean, scale = column_moments(axes.rows, np.arange(n_rows), None)
        # One scale for all axes: an axis of less variance matters less.
        scale = np.full(width, np.sqrt((scale**2).mean()))
        sizes = {"n_landmarks_": n_rows, "n_edges_": len(graph.weights)}
        more = {"axes": axes, "edges": edges, "held_out": held_out, "seen": seen}
        more["laps"] = laps
        more["kept"] = {**sizes, **recalls}
        return Course(
            rows=landmarks,
            table=Table(axes.rows, mean, scale, device),
            columns=Columns(mean, scale, fill, axes.dtype),
            train=chosen[seen],
            valid=None,
            key=(axes.rows, *edges, held_out),
            more=more,
        )

    def _make_batches(self, course, seed, task):
        from numerai_features.nn._umap import EdgeBatches

        more, every = course.more, np.arange(course.table.n_rows)
        held_out = more["held_out"]
        n_others = max(1, int(_OTHERS * self.batch_size))
        sizes = (self.batch_size, n_others)
        batches = EdgeBatches(
            course.table, seed, more["edges"], more["seen"], *sizes, _STEPS_AN_EPOCH
        )
        if held_out is None:
            return batches, None
        return batches, EdgeBatches(
            course.table, seed, held_out, every, *sizes, _HELD_OUT_STEPS, held_out=True
        )

    def _make_task(self, course):
        from numerai_features.nn._umap import Layout, Perceptron

        table = course.table
        widths = [table.n_features, *self.hidden, self.n_components]
        decoder = None
        if self.reconstruction_weight:
            decoder = Perceptron([*reversed(widths)], self.activation)
        return Layout(
            Perceptron(widths, self.activation, table),
            *curve(self.min_dist, self.spread),
            self.negative_sample_rate,
            decoder,
            self.reconstruction_weight,
        )

    def _keep(self, tasks, course):
        from numerai_features.nn._threads import own_threads

        [task], axes, laps = tasks, course.more["axes"], course.more["laps"]
        with own_threads(self.n_jobs):
            encoder, turn, middle = self._turned(task, course)
        decoder = None
        if task.decoder is not None:
            decoder = _decoder_of(task, turn, middle, course.columns, axes)
        laps.end("layout")
        kept = {"encoder_": encoder, "decoder_": decoder, **course.more["kept"]}
        return {**kept, "stage_seconds_": laps.seconds}

    def _turned(self, task, course):
        """Return the encoder rotated to principal axes, the rotation and the mean."""
        columns, to_axes = course.columns, course.more["axes"].forward.steps
        layers: Any = task.encoder.steps(columns.dtype, columns.units)
        *steps, (name, last) = layers
        before = Encoder([*to_axes, *layers])
        turn, middle = principal_turn(before.transform(course.rows.X))
        turned = Affine(
            (last.weight @ turn).astype(columns.dtype),
            ((last.bias - middle) @ turn).astype(columns.dtype),
        )
        return Encoder([*to_axes, *steps, (name, turned)]), turn, middle

    def _landmarks(self, rows, among, seed):
        """Return the landmarks."""
        eras = None if rows.eras is None else rows.eras.take(among)
        by_era = self.neighbors == "era" and eras is not None
        most: Any = _LANDMARKS if self.n_landmarks == "auto" else self.n_landmarks
        fewest = self.n_neighbors if by_era else None
        chosen = draw_landmarks(len(among), eras, most, seed, fewest=fewest)
        few = f"n_neighbors={self.n_neighbors} rows, the row itself among them, but "
        if not len(chosen):
            raise ValueError(
                f"{few}no era has as many. Lower n_neighbors, or pass more rows."
            )
        if (n := len(chosen)) < self.n_neighbors:
            told = f"{few}there are {n} landmarks: it is lowered to {n}."
            warn(told)
        return among[chosen]

    def _make_graph(self, index, distance, y):
        graph = fuzzy_graph(index, distance)
        if y is not None:
            graph = intersect_labels(graph, y[:, 0].astype(int), self.target_weight)
        if not len(graph.weights):
            raise ValueError(
                f"target_weight={self.target_weight} leaves no neighbours: all have "
                "different targets. Lower it, or raise n_neighbors."
            )
        return graph


class _Laps:
    """Seconds of each stage of `fit`, printed as the stage ends."""

    def __init__(self, verbose):
        self.seconds, self._verbose = {}, verbose
        self._start = time.perf_counter()

    def end(self, stage):
        """Record that a stage has ended; the next one begins."""
        from tqdm import tqdm

        now = time.perf_counter()
        self.seconds[stage], self._start = now - self._start, now
        if self._verbose:
            tqdm.write(f"UMAPEmbedder: {stage}, {self.seconds[stage]:.1f} s")


def _decoder_of(task, turn, middle, columns, axes):
    """Return the decoder from the rotated latents back to the features."""
    dtype = columns.dtype
    (name, first), *steps = task.decoder.steps(dtype)
    first = Affine(
        (turn.T @ first.weight).astype(dtype),
        (first.bias + middle @ first.weight).astype(dtype),
    )
    units = Affine(np.diag(columns.scale).astype(dtype), columns.mean.astype(dtype))
    steps = [(name, first), *steps, ("units", units)]
    if axes.back is not None:
        steps.append(("features", axes.back))
    return Encoder(steps)
