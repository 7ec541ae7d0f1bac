"""The fits of an experiment: one for each arm of each fold."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.preprocessing import FunctionTransformer

from numerai_features._names import unlike
from numerai_features.compose import LatentFeatures
from numerai_features.experiment._arms import (
    ORIGINALS,
    RANDOM,
    embedders_of,
    make_estimator,
    models_of,
)
from numerai_features.experiment._model import make_model
from numerai_features.experiment._store import ArmResult
from numerai_features.model_selection._folds import Chosen, Fold
from numerai_features.model_selection._runner import Tell
from numerai_features.trees import tree_table

if TYPE_CHECKING:
    from numerai_features.datasets import EraPanel
    from numerai_features.experiment._experiment import Experiment

# Makes the seeds of the random columns differ from other seeds of the experiment.
_RANDOM_COLUMNS = 0x72616E64
_LIGHTGBM_WITH_ARROW = (4, 7)


class FoldFits:
    """The fits of one fold, and the original features that its arms share.

    Parameters
    ----------
    experiment : Experiment
        The experiment with its arms.
    panel : EraPanel
        Its rows.
    fold : Fold
        The training rows and the test rows.
    """

    def __init__(self, experiment: Experiment, panel: EraPanel, fold: Fold) -> None:
        self.experiment = experiment
        self.panel = panel
        self.fold = fold
        self.y = panel.y(experiment["targets"]["main"])

    @cached_property
    def originals(self) -> tuple[pa.Table, pa.Table]:
        """The original features of training and test rows, one byte per cell."""
        X, names = self.panel.X, self.panel.feature_names
        train, test = (X[rows] for rows in (self.fold.train, self.fold.test))
        return tree_table(train, names), tree_table(test, names)

    def run(self, arm: str, *, n_random: int, tell: Tell) -> ArmResult:
        """Fit one arm's embedder and model, and predict the test rows.

        Parameters
        ----------
        arm : str
            Name of the arm.
        n_random : int
            Number of random columns, for the arm ``random``.
        tell : callable
            Called with a description of each step.

        Returns
        -------
        ArmResult
        """
        own_models = models_of(self.experiment.tables)
        if arm in own_models:
            tell("model")
            return self._run_model(make_estimator(own_models[arm]))
        tables = self.originals
        n_latents = 0
        start = time.perf_counter()
        if arm != ORIGINALS:
            tell("latents")
            latents = self._random(n_random) if arm == RANDOM else self._latents(arm)
            n_latents = latents[0].shape[1]
            taken = self.panel.feature_names
            names = unlike(taken, map(str, range(n_latents)), arm, always=True)
            tables = tuple(map(_beside, tables, latents, (names, names)))
        middle = time.perf_counter()
        tell("model")
        prediction = self._predict(*tables)
        end = time.perf_counter()
        return ArmResult(prediction, n_latents, middle - start, end - middle)

    def _named_target(self) -> pd.Series[float]:
        """Return the training rows' target; its name contains its horizon."""
        name = self.experiment["targets"]["main"]
        return pd.Series(self.y[self.fold.train], name=name)

    def _run_model(self, model: Any) -> ArmResult:
        X, train = self.panel.X, self.fold.train
        start = time.perf_counter()
        model.fit(X[train], self._named_target(), eras=self.panel.eras[train])
        prediction = model.predict(X[self.fold.test]).astype(np.float32)
        return ArmResult(prediction, 0, 0.0, time.perf_counter() - start)

    def _latents(self, arm: str) -> tuple[NDArray[Any], NDArray[Any]]:
        embedder = make_estimator(embedders_of(self.experiment.tables)[arm])
        X, eras = self.panel.X, self.panel.eras
        train, test = self.fold.train, self.fold.test
        latents = self._latent_features(embedder)
        fitted = latents.fit_transform(X[train], self._named_target(), eras=eras[train])
        return fitted, latents.transform(X[test], eras=eras[test])

    def _random(self, width: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return random columns, binned by the edges of the training rows."""
        seed, n_rows = self.experiment["seed"], self.panel.n_rows
        train, test = self.fold.train, self.fold.test
        latents = self._latent_features(FunctionTransformer())
        fitted = latents.fit_transform(_random_columns(seed, n_rows, width, train))
        return fitted, latents.transform(_random_columns(seed, n_rows, width, test))

    def _latent_features(self, embedder: Any) -> Any:
        chosen = self.experiment["latents"]["quantize"]
        quantize = None if chosen == "none" else chosen
        # The originals are not passed through: the arms share one int8 table of them.
        return LatentFeatures(embedder, passthrough=False, quantize=quantize)

    def _predict(self, train: pa.Table, test: pa.Table) -> NDArray[np.float32]:
        model = make_model(self.experiment.tables)
        as_input = _model_input(self.experiment["model"]["library"])
        _fit(model, as_input(train), self.y[self.fold.train])
        prediction = model.predict(as_input(test))
        return np.asarray(prediction, dtype=np.float32)


def _random_columns(
    seed: int, n_rows: int, width: int, rows: Chosen
) -> NDArray[np.float32]:
    """Return Gaussian columns for some rows of a panel.

    A cell depends only on the seed, the column and the row's position in the panel, so
    that a row has the same random values in all folds.
    """
    first, stop = (rows.start, rows.stop) if isinstance(rows, slice) else (0, len(rows))
    out = np.empty((stop - first, width), np.float32)
    for j in range(width):
        rng = np.random.default_rng([_RANDOM_COLUMNS, seed, j])
        out[:, j] = rng.standard_normal(n_rows, dtype=np.float32)[rows]
    return out


def _beside(
    originals: pa.Table, latents: NDArray[Any], latent_names: list[str]
) -> pa.Table:
    """Append the latents to the originals; each column keeps its type."""
    added = tree_table(latents, latent_names)
    names = [*originals.column_names, *latent_names]
    return pa.Table.from_arrays([*originals.columns, *added.columns], names)


def _model_input(library: str) -> Callable[[pa.Table], Any]:
    """Return a function that converts a table to the smallest input for the library."""
    if library == "xgboost":
        return lambda table: table
    release = tuple(map(int, importlib.metadata.version("lightgbm").split(".")[:2]))
    return _as_array if release < _LIGHTGBM_WITH_ARROW else lambda table: table


def _as_array(table: pa.Table) -> NDArray[Any]:
    """Return a table as one array; of single bytes if all columns are."""
    kinds = {np.dtype(str(kind)) for kind in table.schema.types}
    # uint8 holds both, because no bin is negative; NumPy would promote them to int16.
    dtype = np.uint8 if all(k.itemsize == 1 for k in kinds) else np.float32
    out = np.empty(table.shape, dtype)
    for j, column in enumerate(table.columns):
        out[:, j] = column.to_numpy()
    return out


def _fit(model: Any, X: Any, y: NDArray[np.float32]) -> None:
    try:
        model.fit(X, y)
    except Exception as error:  # LightGBM's own error is no ValueError
        if type(error).__name__ != "LightGBMError":
            raise
        raise ValueError(f"LightGBM rejects model.params: {error}") from error
