"""One model of an arm, trained on the rows that have its targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numerai_features._scratch import take
from numerai_features.experiment._benchmark import benchmark_key
from numerai_features.experiment._inputs import (
    Block,
    as_array,
    as_input,
    as_table,
    categories_of,
)
from numerai_features.experiment._parts import library_of, make_model
from numerai_features.trees._fit import fit_lightgbm, fit_xgboost, ignored_by_blocks
from numerai_features.trees._tables import rows_of

if TYPE_CHECKING:
    import pandas as pd


class Training(NamedTuple):
    """The rows that a model is trained on."""

    targets: pd.DataFrame
    eras: NDArray[Any]
    n_given: int  # rows of the panel, before the new ones
    originals: NDArray[Any] | None = None  # only if there are new rows
    weights: NDArray[np.float64] | None = None
    benchmark: NDArray[np.float64] | None = None  # only if it is needed


class ModelFit:
    """A model of a fold, with its training rows in the form that its library takes.

    Parameters
    ----------
    tables : dict
        The tables of the experiment.
    name : str or None
        A ``[models]`` table; None for ``[model]``.
    seed : int
        Is added to the seeds of the model.
    train : list of Block
        The columns of the training rows.
    panel_X : ndarray
        The panel's rows: what is made of them is in a file if they are.
    """

    def __init__(
        self,
        tables: dict[str, Any],
        name: str | None,
        seed: int,
        train: list[Block],
        panel_X: NDArray[np.int8],
    ) -> None:
        self._tables, self._name, self._seed = tables, name, seed
        self._panel_X = panel_X
        self._library = library_of(tables, name)
        self._model, self._categories = self._made(), categories_of(train)
        self._train: Any
        if self._library is not None:
            self._train = as_table(train)
        else:
            self._train = as_array(train, floats=self.floats)

    @property
    def floats(self) -> bool:
        """Whether the model gets all columns as floats, if it is no tree library's."""
        return not self._is_ours

    @property
    def takes_several(self) -> bool:
        """Whether the model is trained on several targets at once."""
        if self._is_ours:
            return hasattr(self._model, "transform")  # an embedder that predicts
        return self._library == "xgboost" and _has_vector_leaves(self._model)

    def __call__(self, targets: pd.DataFrame, rows: Training) -> Any:
        """Return a model that is trained on the rows whose targets are known."""
        model = self._made()
        single = targets.shape[1] == 1
        y: Any = targets.iloc[:, 0] if single else targets
        known = ~targets.isna().to_numpy()
        # Networks learn from each target that is known; others need all of them.
        use = known.any(axis=1) if self._is_ours else known.all(axis=1)
        if not use.any():
            raise ValueError(
                f"no training row has a known target ({', '.join(targets)}). Train on "
                "eras that have it."
            )
        options: dict[str, Any] = {}
        if rows.weights is not None:
            options["sample_weight"] = rows.weights
        if self._is_ours:
            if wants_benchmark(self._tables, self._name):
                options["benchmark"] = rows.benchmark
            return model.fit(self._train, y, eras=rows.eras, **options)
        if not single and self._library is not None:
            model.set_params(multi_strategy="multi_output_tree")
            if model.get_params().get("base_score") is None:
                # One for all targets: older versions read no list of them.
                model.set_params(base_score=float(y[use].to_numpy().mean()))
        options = {name: value[use] for name, value in options.items()}
        X = self._train
        if not use.all():
            X = (
                take(X, use)
                if self._library is None
                else rows_of(X, use, self._panel_X)
            )
        y = y.to_numpy()[use]
        if self._library == "xgboost" and single and not ignored_by_blocks(model):
            return fit_xgboost(model, X, y, **options)
        if self._library == "lightgbm":
            if self._categories:
                options["categorical_feature"] = self._categories
            return _fit_lightgbm(model, as_input(X, self._library), y, options)
        return model.fit(X, y, **options)

    @property
    def _is_ours(self) -> bool:
        return type(self._model).__module__.startswith("numerai_features.")

    def _made(self) -> Any:
        return make_model(self._tables, self._name, self._seed)


def wants_benchmark(tables: dict[str, Any], name: str | None) -> bool:
    """Whether the fit of a model takes the benchmark itself."""
    part = {} if name is None else tables["models"][name]
    return benchmark_key(part) is not None


def _has_vector_leaves(model: Any) -> bool:
    """Whether XGBoost can grow one tree for several targets, with these settings."""
    import xgboost  # the name of its distribution varies

    own = model.get_params()
    constraints = ("monotone_constraints", "interaction_constraints")
    return (
        int(xgboost.__version__.split(".")[0]) >= 2
        and own.get("tree_method") in (None, "auto", "hist")
        and all(own.get(name) is None for name in constraints)
    )


def _fit_lightgbm(model: Any, X: Any, y: Any, options: dict[str, Any]) -> Any:
    try:
        return fit_lightgbm(model, X, y, **options)
    except Exception as error:  # LightGBM's own error is no ValueError
        if type(error).__name__ != "LightGBMError":
            raise
        raise ValueError(f"LightGBM rejects model.params: {error}") from error
