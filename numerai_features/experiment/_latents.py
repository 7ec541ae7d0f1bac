"""The latents of one fold: fitted once, and shared by the arms that name them."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.preprocessing import FunctionTransformer

from numerai_features import compose
from numerai_features._blocks import row_blocks
from numerai_features._scratch import take
from numerai_features._threads import blas_threads
from numerai_features.experiment._benchmark import benchmark_key
from numerai_features.experiment._columns import columns_of
from numerai_features.experiment._parts import (
    MADE,
    PCA,
    RANDOM,
    make_part,
    takes_several,
)
from numerai_features.experiment._select import select_features
from numerai_features.moments import Moments

if TYPE_CHECKING:
    from numerai_features.datasets import EraPanel
    from numerai_features.experiment._experiment import Experiment
    from numerai_features.model_selection._folds import Chosen, Fold

# Makes the seeds of the random columns differ from other seeds of the experiment.
_RANDOM_COLUMNS = 0x72616E64
_LATENT_FEATURES: Any = compose.LatentFeatures  # its methods are not typed


class FoldLatents:
    """The latents of a fold's training and test rows, and of new rows.

    Parameters
    ----------
    name : str
        A ``[latents]`` table, "pca" or "random".
    experiment : Experiment
    panel : EraPanel
    fold : Fold
    seed : int
        The number of the seed, from 0.
    width : int
        The number of principal components or random columns.
    benchmark : ndarray of shape (n_rows,), default=None
        The benchmark's predictions of the panel's rows, for an embedder that needs it.

    Attributes
    ----------
    train, test : ndarray of shape (n_rows, n_latents)
    columns : ndarray of int or None
        The features of the panel that the embedder gets; None for all.
    fitted : LatentFeatures
        The fitted embedder, whose latents are quantised.
    embedder : estimator
        The fitted embedder itself.
    """

    def __init__(
        self,
        name: str,
        experiment: Experiment,
        panel: EraPanel,
        fold: Fold,
        seed: int,
        width: int,
        benchmark: NDArray[np.float64] | None = None,
    ) -> None:
        self.name, self._panel, self._fold = name, panel, fold
        self._benchmark = benchmark
        self._seed, self._width = experiment["seed"] + seed, width
        self._part = {} if name in MADE else experiment["latents"][name]
        self.columns = self._choose_columns(experiment, fold, seed)
        chosen = experiment["latents"]["quantize"]
        # The originals are not passed through: the arms share one int8 table of them.
        self.fitted: Any = _LATENT_FEATURES(
            self._make(experiment, seed),
            passthrough=False,
            quantize=None if chosen == "none" else chosen,
        )
        self.train = self._fit(experiment, fold)
        self.embedder = self.fitted.embedders_[0][1]

    @cached_property
    def test(self) -> Any:
        """The latents of the test rows."""
        return self._transform(self._fold.test)

    def of(self, X: NDArray[Any], eras: NDArray[Any]) -> Any:
        """Return the latents of rows that are not in the panel.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_features)
            All features of the panel.
        eras : ndarray of shape (n_rows,)
        """
        if self.name == RANDOM:
            rows = slice(0, len(X))
            noise = _random_columns(self._seed, len(X), self._width, rows, number=1)
            return self.fitted.transform(noise)
        return self.fitted.transform(self.of_embedder(X), eras=eras)

    def of_embedder(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return the features that the embedder gets."""
        return take(X, slice(None), self.columns)

    def _make(self, experiment: Experiment, seed: int) -> Any:
        if self.name == RANDOM:
            return FunctionTransformer()
        if self.name == PCA:
            return _PrincipalComponents(min(self._width, self._panel.n_features))
        return make_part(self._part, experiment.tables, seed)

    def _choose_columns(
        self, experiment: Experiment, fold: Fold, seed: int
    ) -> NDArray[np.intp] | None:
        """Return the columns that the embedder gets; None for all."""
        chosen, select = self._part.get("features"), self._part.get("select")
        if chosen is None and select is None:
            return None
        columns = places_of(experiment, self._panel, chosen)
        if select is None:
            return columns
        X = take(self._panel.X, fold.train, columns)
        y = self._panel.y(experiment["targets"]["main"])[fold.train]
        return columns[select_features(select, X, y, experiment.tables, seed)]

    def _fit(self, experiment: Experiment, fold: Fold) -> Any:
        """Fit the embedder; return the latents of the training rows."""
        rows: Any = fold.train
        if self.name == RANDOM:
            return self.fitted.fit_transform(self._noise(rows))
        if self._part.get("fit_on") == "all":
            X = self.of_embedder(self._panel.X)
            self.fitted.fit(X, eras=self._panel.eras)
            return self._transform(rows)
        X, eras = take(self._panel.X, rows, self.columns), self._panel.eras[rows]
        targets = named_targets(
            experiment,
            self._panel,
            rows,
            several=self.name != PCA and takes_several(self._part),
        )
        options = {}
        if benchmark_key(self._part) is not None:
            assert self._benchmark is not None  # data.benchmark is checked
            options["benchmark"] = self._benchmark[rows]
        return self.fitted.fit_transform(X, targets, eras=eras, **options)

    def _transform(self, rows: Any) -> Any:
        if self.name == RANDOM:
            return self.fitted.transform(self._noise(rows))
        X = take(self._panel.X, rows, self.columns)
        return self.fitted.transform(X, eras=self._panel.eras[rows])

    def _noise(self, rows: Chosen) -> NDArray[np.float32]:
        return _random_columns(self._seed, self._panel.n_rows, self._width, rows)


def places_of(experiment: Experiment, panel: EraPanel, chosen: Any) -> NDArray[np.intp]:
    """Return the columns of a feature set, or of named features, in their order."""
    places = {name: place for place, name in enumerate(panel.feature_names)}
    names = columns_of(experiment.tables, list(places)).names(chosen)
    return np.sort([places[name] for name in names]).astype(np.intp)


def named_targets(
    experiment: Experiment, panel: EraPanel, rows: Any, *, several: bool
) -> Any:
    """Return the main target of rows, or a frame of several, with their names.

    The names contain the horizons.
    """
    import pandas as pd

    targets = experiment["targets"]
    main = pd.Series(panel.y(targets["main"])[rows], name=targets["main"])
    if not (several and targets["also"]):
        return main
    also = {name: panel.y(name)[rows] for name in targets["also"]}
    return pd.DataFrame({targets["main"]: main, **also})


class _PrincipalComponents(TransformerMixin, BaseEstimator):
    """PCA by streamed second moments; scikit-learn's makes floats of the table."""

    def __init__(self, n_components: int = 1) -> None:
        self.n_components = n_components

    def fit(self, X: NDArray[Any], y: Any = None) -> _PrincipalComponents:
        moments = Moments.from_rows(X)
        with blas_threads(1):  # the bits do not depend on the number of threads
            vectors = np.linalg.eigh(moments.covariance())[1]
        self.mean_ = moments.mean
        self.components_ = vectors[:, : -self.n_components - 1 : -1]
        return self

    def transform(self, X: NDArray[Any]) -> NDArray[np.float32]:
        out = np.empty((len(X), self.components_.shape[1]), np.float32)
        for rows in row_blocks(*X.shape):
            out[rows] = (X[rows] - self.mean_) @ self.components_
        return out


def _random_columns(
    seed: int, n_rows: int, width: int, rows: Chosen, number: int = 0
) -> NDArray[np.float32]:
    """Return Gaussian columns for some rows of a panel.

    A cell depends only on the seed, the column and the row's position in the panel, so
    that a row has the same random values in all folds. Another number makes other
    columns, for rows that are not in the panel.
    """
    first, stop = (rows.start, rows.stop) if isinstance(rows, slice) else (0, len(rows))
    out = np.empty((stop - first, width), np.float32)
    for j in range(width):
        key = [_RANDOM_COLUMNS, seed, j, *([number] if number else ())]
        rng = np.random.default_rng(key)
        out[:, j] = rng.standard_normal(n_rows, dtype=np.float32)[rows]
    return out
