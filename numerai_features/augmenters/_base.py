"""What augmenters have in common."""

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
    """A method that tells imblearn's pipelines to ask for another object.

    They look for ``fit_resample`` in what they are made of, refuse what can transform,
    too, and make nothing of what else is returned with X and y.
    """

    def __init__(self, method: Any) -> None:
        self._method = method

    def __get__(self, augmenter: Any, owner: Any = None) -> Any:
        if augmenter is None:
            return self._method
        if sys._getframe(1).f_globals.get("__name__") == "imblearn.pipeline":
            kind = type(augmenter).__name__
            raise TypeError(
                f"{kind} is no step of imbalanced-learn's pipelines, for it returns "
                "eras and weights, too, and may transform. Put what its as_sampler() "
                f"returns in its place: {kind}(...).as_sampler()."
            )
        return MethodType(self._method, augmenter)


class BaseAugmenter(BaseEstimator, ABC):
    """Rows in, the same rows and new ones out. Think twice before adding to it."""

    __metadata_request__fit_resample = {"eras": True}

    @_NotInPipelines
    @whole_fit(prefer_skip_nested_validation=False)
    def fit_resample(self, X, y=None, *, eras=None, sample_weight=None):
        """Return the rows, and new ones behind them.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            Finite numbers or NaN; int8 stays int8. A frame may have a column ``era``.
        y : array-like of shape (n_rows,) or (n_rows, n_targets), default=None
            Targets.
        eras : array-like of shape (n_rows,), default=None
            Era labels; without them, or a column of them, all rows are one era.
        sample_weight : array-like of shape (n_rows,), default=None
            Weights; a new row has that of the row it is made from.

        Returns
        -------
        Resampled
            ``X, y, eras, sample_weight``, each in the container it came in, None where
            it did not. The rows that came are first, and as they were.
        """
        return self._resample(X, y, eras, sample_weight)

    def _resample(self, X, y, eras, sample_weight) -> Resampled:
        callers = CallersRows.read(self, X, y, eras, sample_weight)
        return callers.append(self._draw_rows(callers.rows))

    def _draw_rows(self, rows: Rows) -> NewRows:
        """Return the new rows alone, not written yet."""
        return self._make_rows(rows, self._rng())

    def _require_targets(self, rows: Rows) -> NDArray[np.float64]:
        require_target(rows.y, self)
        return np.asarray(rows.y)

    def _rng(self) -> np.random.Generator:
        return np.random.default_rng(resolve_seed(self.random_state))

    def as_sampler(self):
        """Return an object with `fit_resample` alone, as imblearn's pipelines want it.

        They refuse what can resample and transform, and take ``X, y`` for an answer;
        eras are a frame's column ``era``.

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
    """Return the place of a frame's column ``era``; None if it has none."""
    X = as_frame(X)
    names = column_names(X) if is_frame(X) else []
    return names.index(ERA_COLUMN) if ERA_COLUMN in names else None


def names_with_era(augmenter: Any, input_features: Any) -> NDArray[np.object_]:
    """Return the names of the columns that came, the column ``era`` among them."""
    if input_features is not None:  # from a step that hands the column on
        input_features = [name for name in input_features if name != ERA_COLUMN]
    names = list(check_feature_names_in(augmenter, input_features))
    if augmenter._era_place is not None:
        names.insert(augmenter._era_place, ERA_COLUMN)
    return np.asarray(names, dtype=object)


class InPlaceAugmenter(  # type: ignore[call-arg]
    TransformerMixin, BaseAugmenter, auto_wrap_output_keys=None
):
    """An augmenter that may also change the rows themselves, and leaves y alone."""

    __metadata_request__fit = {"eras": True}
    __metadata_request__transform = {"eras": True}

    @whole_fit(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, *, eras=None):
        """Check the rows; nothing is learned from them.

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
        """Return the rows, changed: what a model is trained on.

        Parameters
        ----------
        X, y, eras
            As in `fit_resample`.

        Returns
        -------
        array or frame of shape (n_rows, n_features)
            In the container of X, with its column ``era``.
        """
        callers = CallersRows.read(self, X, None, eras, None)
        self._era_place = find_era(X)
        every = np.arange(callers.rows.n_rows)
        return callers.replaced_by(self._change(callers.rows, every, self._rng()))

    def _resample(self, X, y, eras, sample_weight):
        self._era_place = find_era(X)
        return super()._resample(X, y, eras, sample_weight)

    def get_feature_names_out(self, input_features=None):
        """Return the names of the columns, which are those that came.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names where X had none.

        Returns
        -------
        ndarray of shape (n_columns,), object
            With ``era`` where X has the column.
        """
        check_is_fitted(self)
        return names_with_era(self, input_features)

    def transform(self, X, *, eras=None):
        """Return the rows as they are: what is predicted for is never augmented.

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
    """An augmenter as imblearn's pipelines take it.

    Parameters
    ----------
    augmenter : augmenter

    Attributes
    ----------
    augmenter_ : augmenter
        What added the rows.
    n_features_in_ : int
        Number of features seen in fit.
    feature_names_in_ : ndarray of shape (n_features,)
        Their names, where X had string names.
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "augmenter": [Methods(["fit_resample"])]
    }

    def __init__(self, augmenter):
        self.augmenter = augmenter

    @whole_fit(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, **params):
        """Check the rows, as imblearn's samplers do; no row is made.

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
        """Return the rows and the new ones.

        Parameters
        ----------
        X, y
            As the augmenter takes them.
        **params
            Handed on.

        Returns
        -------
        X, y
            As the augmenter returns them; lists where lists came.
        """
        # No clone, which would forget what an embedder inside was fitted to.
        self.augmenter_ = copy(self.augmenter)
        resampled = self.augmenter_.fit_resample(X, y, **params)
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self.augmenter_, name):
                setattr(self, name, getattr(self.augmenter_, name))
        self._era_place = find_era(X)
        return _as_came(X, resampled.X), _as_came(y, resampled.y)

    def get_feature_names_out(self, input_features=None):
        """Return the names of the columns, which are those that came.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names where `fit_resample` saw none.

        Returns
        -------
        ndarray of shape (n_columns,), object
            With ``era`` where X has the column.
        """
        return names_with_era(self, input_features)

    def __sklearn_tags__(self):
        tags, theirs = super().__sklearn_tags__(), get_tags(self.augmenter)
        tags.input_tags.allow_nan = theirs.input_tags.allow_nan
        tags.target_tags.required = theirs.target_tags.required
        return tags


def _as_came(values, resampled):
    """Return a list where one came."""
    return resampled.tolist() if isinstance(values, list) else resampled


def draw_copies(
    rows: Rows, copies: float, rng: np.random.Generator
) -> NDArray[np.intp]:
    """Return so many copies of each row; of a fraction random rows, one at least, of
    every era.

    Parameters
    ----------
    rows : Rows
    copies : float
        New rows for each row.
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
    """Return how many of n rows are drawn beyond whole copies: at least one."""
    return max(1, round((copies - int(copies)) * n))
