"""Base classes of augmenters."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from copy import copy
from types import MethodType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from numerai_features._arguments import Methods
from numerai_features._compat import check_feature_names_in
from numerai_features._rows import Rows
from numerai_features._validation import (
    ERA_COLUMN,
    as_frame,
    column_names,
    is_frame,
    require_target,
    resolve_seed,
    validate_rows,
)
from numerai_features._whole_fit import whole_fit
from numerai_features.augmenters._new_rows import CallersRows, NewRows, Resampled


class _NotInPipelines:
    """A method that raises a helpful error in pipelines of imbalanced-learn.

    These pipelines look for ``fit_resample`` in their steps, reject steps that can also
    transform, and expect only X and y.
    """

    def __init__(self, method: Any) -> None:
        self._method = method

    def __get__(self, augmenter: Any, owner: Any = None) -> Any:
        if augmenter is None:
            return self._method
        if sys._getframe(1).f_globals.get("__name__") == "imblearn.pipeline":
            kind = type(augmenter).__name__
            raise TypeError(
                f"{kind} is no step of imbalanced-learn's pipelines, because it also "
                "returns eras and weights, and may transform rows. Use its sampler "
                f"as the step: {kind}(...).as_sampler()."
            )
        return MethodType(self._method, augmenter)


class BaseAugmenter(BaseEstimator, ABC):
    """Base of augmenters, which return the given rows and new ones. Keep it small."""

    __metadata_request__fit_resample = {"eras": True}

    @_NotInPipelines
    @whole_fit(prefer_skip_nested_validation=False)
    def fit_resample(self, X, y=None, *, eras=None, sample_weight=None):
        """Return the given rows, followed by new rows.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            Finite numbers or NaN; int8 stays int8. A frame may have a column ``era``.
        y : array-like of shape (n_rows,) or (n_rows, n_targets), default=None
            Targets.
        eras : array-like of shape (n_rows,), default=None
            Era labels. Without them, and without a column ``era``, all rows are one
            era.
        sample_weight : array-like of shape (n_rows,), default=None
            Weights. A new row has the weight of the row that it is made from.

        Returns
        -------
        Resampled
            ``X, y, eras, sample_weight``, each in the container of the argument, or
            None if it was not passed. The given rows come first, unchanged.
        """
        return self._resample(X, y, eras, sample_weight)

    def _resample(self, X, y, eras, sample_weight) -> Resampled:
        callers = CallersRows.read(self, X, y, eras, sample_weight)
        return callers.append(self._draw_rows(callers.rows))

    def _draw_rows(self, rows: Rows) -> NewRows:
        """Return only the new rows, whose features are not written yet."""
        return self._make_rows(rows, self._rng())

    def _require_targets(self, rows: Rows) -> NDArray[np.float64]:
        require_target(rows.y, self)
        return np.asarray(rows.y)

    def _rng(self) -> np.random.Generator:
        return np.random.default_rng(resolve_seed(self.random_state))

    def as_sampler(self):
        """Return a sampler for pipelines of imbalanced-learn.

        These pipelines reject a step that can both resample and transform, and expect
        only ``X, y``. Eras must be the column ``era`` of a frame.

        Returns
        -------
        Sampler
        """
        return Sampler(self)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    @abstractmethod
    def _make_rows(self, rows: Rows, rng: np.random.Generator) -> NewRows:
        """Return the new rows."""


def find_era(X: Any) -> int | None:
    """Return the position of a frame's column ``era``; None if it has none."""
    X = as_frame(X)
    names = column_names(X) if is_frame(X) else []
    return names.index(ERA_COLUMN) if ERA_COLUMN in names else None


def names_with_era(augmenter: Any, input_features: Any) -> NDArray[np.object_]:
    """Return the names of the input columns, including the column ``era``."""
    if input_features is not None:  # from a step that passes the column on
        input_features = [name for name in input_features if name != ERA_COLUMN]
    names = list(check_feature_names_in(augmenter, input_features))
    if augmenter._era_place is not None:
        names.insert(augmenter._era_place, ERA_COLUMN)
    return np.asarray(names, dtype=object)


def resample_beside(
    augmenter: BaseAugmenter,
    X: Any,
    y: Any,
    eras: Any,
    beside: NDArray[np.float64] | None,
) -> tuple[Resampled, NDArray[np.float64] | None]:
    """Return the rows of `fit_resample`, and a column that follows the new rows.

    Parameters
    ----------
    augmenter : augmenter
    X, y, eras
        As in `fit_resample`.
    beside : ndarray of shape (n_rows,) or None
        A column that is no target, such as a benchmark's predictions: a copy of a row
        has the row's value even if it gets another target.
    """
    augmenter._validate_params()
    callers = CallersRows.read(augmenter, X, y, eras, None)
    new = augmenter._draw_rows(callers.rows)
    if beside is not None:
        beside = np.append(beside, new.follow(beside))
    return callers.append(new), beside


class InPlaceAugmenter(  # type: ignore[call-arg]
    TransformerMixin, BaseAugmenter, auto_wrap_output_keys=None
):
    """An augmenter that can also change the rows in place, and does not change y."""

    __metadata_request__fit = {"eras": True}
    __metadata_request__transform = {"eras": True}

    @whole_fit(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, *, eras=None):
        """Check the rows; the augmenter learns nothing from them.

        Parameters
        ----------
        X, y, eras
            As in `fit_resample`.

        Returns
        -------
        self
        """
        validate_rows(self, X, eras, reset=True)
        self._era_place = find_era(X)
        return self

    @whole_fit(prefer_skip_nested_validation=False)
    def fit_transform(self, X, y=None, *, eras=None):
        """Return the changed rows, to train a model on.

        Parameters
        ----------
        X, y, eras
            As in `fit_resample`.

        Returns
        -------
        array or frame of shape (n_rows, n_features)
            The rows in the container of X, with its column ``era``.
        """
        callers = CallersRows.read(self, X, None, eras, None)
        self._era_place = find_era(X)
        every = np.arange(callers.rows.n_rows)
        return callers.replaced_by(self._change(callers.rows, every, self._rng()))

    def _resample(self, X, y, eras, sample_weight):
        self._era_place = find_era(X)
        return super()._resample(X, y, eras, sample_weight)

    def get_feature_names_out(self, input_features=None):
        """Return the names of the output columns, which are the input columns.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names to use if X had none.

        Returns
        -------
        ndarray of shape (n_columns,), object
            Names, including ``era`` if X has this column.
        """
        check_is_fitted(self)
        return names_with_era(self, input_features)

    def transform(self, X, *, eras=None):
        """Return the rows unchanged, because rows to predict are never augmented.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            The features of fit.
        eras : Ignored
            Present for API consistency.

        Returns
        -------
        array or frame of shape (n_rows, n_features)
        """
        check_is_fitted(self)
        array, _ = validate_rows(self, X, eras, reset=False)
        X = as_frame(X)
        return X if is_frame(X) else array

    def _make_rows(self, rows: Rows, rng: np.random.Generator) -> NewRows:
        return self._change(rows, draw_copies(rows, self.copies, rng), rng)

    @abstractmethod
    def _change(
        self, rows: Rows, source: NDArray[np.intp], rng: np.random.Generator
    ) -> NewRows:
        """Return changed copies of some rows."""


class Sampler(BaseEstimator):
    """An augmenter as a sampler for pipelines of imbalanced-learn.

    Parameters
    ----------
    augmenter : augmenter

    Attributes
    ----------
    augmenter_ : augmenter
        The augmenter that added the rows.
    n_features_in_ : int
        Number of features seen in fit.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if X had string names.
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "augmenter": [Methods(["fit_resample"])]
    }

    def __init__(self, augmenter):
        self.augmenter = augmenter

    @whole_fit(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, **params):
        """Check the rows, like samplers of imbalanced-learn; no rows are added.

        Parameters
        ----------
        X, y, **params
            As in `fit_resample`.

        Returns
        -------
        self
        """
        if get_tags(self.augmenter).target_tags.required:
            require_target(y, self.augmenter)
        if hasattr(self.augmenter, "_validate_params"):
            self.augmenter._validate_params()
        Rows.read(self, X, y, **params)
        self._era_place = find_era(X)
        return self

    @whole_fit(prefer_skip_nested_validation=False)
    def fit_resample(self, X, y=None, **params):
        """Return the given rows, followed by new rows.

        Parameters
        ----------
        X, y
            Arguments of the augmenter's `fit_resample`.
        **params
            Further arguments of the augmenter's `fit_resample`.

        Returns
        -------
        X, y
            Results of the augmenter, as lists if the arguments were lists.
        """
        # A clone would lose the fitted state of an embedder inside.
        self.augmenter_ = copy(self.augmenter)
        resampled = self.augmenter_.fit_resample(X, y, **params)
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self.augmenter_, name):
                setattr(self, name, getattr(self.augmenter_, name))
        self._era_place = find_era(X)
        return _as_came(X, resampled.X), _as_came(y, resampled.y)

    def get_feature_names_out(self, input_features=None):
        """Return the names of the output columns, which are the input columns.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names to use if `fit_resample` saw none.

        Returns
        -------
        ndarray of shape (n_columns,), object
            Names, including ``era`` if X has this column.
        """
        return names_with_era(self, input_features)

    def __sklearn_tags__(self):
        tags, theirs = super().__sklearn_tags__(), get_tags(self.augmenter)
        tags.input_tags.allow_nan = theirs.input_tags.allow_nan
        tags.target_tags.required = theirs.target_tags.required
        return tags


def _as_came(values, resampled):
    """Return a list if the values were a list."""
    return resampled.tolist() if isinstance(values, list) else resampled


def draw_copies(
    rows: Rows, copies: float, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Return the source row of each new row.

    The whole part of `copies` copies each row. Its fraction copies as large a share of
    each era's rows, drawn at random, at least one.

    Parameters
    ----------
    rows : Rows
    copies : float
        Number of new rows for each row.
    rng : Generator
    """
    every = np.tile(np.arange(len(rows.X)), int(copies))
    if copies == int(copies):
        return every
    chosen = [
        np.sort(rng.permutation(mine)[: n_extra(copies, len(mine))])
        for _, mine in rows.by_era()
    ]
    return np.concatenate([every, *chosen])


def n_extra(copies: float, n: int) -> int:
    """Return how many of n rows a fraction of a copy draws, at least one."""
    return max(1, round((copies - int(copies)) * n))
