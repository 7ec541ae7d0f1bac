"""Means and standard deviations of features over the era of each row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from numerai_features._arguments import ROWS, Each
from numerai_features._compat import StrOptions, check_feature_names_in
from numerai_features._rows import Rows
from numerai_features._validation import (
    check_missing,
    fill_missing,
    find_columns,
    known_numbers,
    missing_values,
    require_eras,
)
from numerai_features._whole_fit import whole_fit
from numerai_features.embedders._columns import blocks_of


class EraStatistics(TransformerMixin, BaseEstimator):
    """Means and standard deviations of features over each row's era.

    All rows of an era get the same values. They tell a model what kind of era a row is
    in. It is a cheap baseline that other latents should beat.

    Parameters
    ----------
    features : list of str or int, default=None
        Names or positions of the features; None: all.
    statistics : sequence of {"mean", "std"}, default=("mean", "std")
        What to compute. "std" is the square root of the mean squared deviation.
    missing : {"middle", "raise"}, default="middle"
        "middle": NaN becomes the column's median learned in `fit` (2 for bins 0 to 4).
        "raise": NaN is an error.

    Attributes
    ----------
    columns_ : ndarray of shape (n_chosen,)
        Positions of the features.
    missing_values_ : ndarray of shape (n_chosen,)
        The values that replace NaN.
    fitted_eras_ : ndarray of shape (n_eras,) or None
        Era numbers seen in fit, None if no eras were given.
    n_features_in_ : int
        Number of features seen in fit.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if X had string names.

    See Also
    --------
    numerai_features.compose.LatentFeatures : Features and statistics together.

    Notes
    -----
    A row's values depend on all rows of its era that are passed, so transform whole
    eras. Nothing but `missing_values_` is learned in `fit`.

    Examples
    --------
    >>> from numerai_features.datasets import make_era_panel
    >>> from numerai_features.embedders import EraStatistics
    >>> panel = make_era_panel(n_eras=8, rows_per_era=100, n_features=20,
    ...                           random_state=0)
    >>> statistics = EraStatistics(features=[0, 3], statistics=["mean"])
    >>> statistics.fit_transform(panel.X, eras=panel.eras).shape
    (800, 2)
    >>> statistics.get_feature_names_out()
    array(['x0_era_mean', 'x3_era_mean'], dtype=object)
    """

    __metadata_request__fit = {"eras": True}
    __metadata_request__transform = {"eras": True}

    _parameter_constraints: dict[str, list[Any]] = {
        "features": [ROWS, None],
        "statistics": [Each(StrOptions({"mean", "std"}), fewest=1)],
        "missing": [StrOptions({"middle", "raise"})],
    }

    def __init__(self, features=None, *, statistics=("mean", "std"), missing="middle"):
        self.features = features
        self.statistics = statistics
        self.missing = missing

    @whole_fit(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, *, eras=None):
        """Find the features, and learn what replaces their missing cells.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            Finite numbers or NaN. int8 stays int8. A frame's ``era`` column is removed
            and used as `eras`.
        y : Ignored
            Present for API consistency.
        eras : array-like of shape (n_rows,), default=None
            Era labels. Without them all rows of a call are one era.

        Returns
        -------
        self
        """
        self._fit(Rows.read(self, X, None, eras))
        return self

    def transform(self, X, *, eras=None):
        """Return the statistics of each row's era.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            The features of fit; all rows of their eras.
        eras : array-like of shape (n_rows,), default=None
            Era labels; required if `fit` had eras.

        Returns
        -------
        ndarray of shape (n_rows, n_features_out), float32
            The first statistic of all features, then the second.
        """
        check_is_fitted(self)
        rows = Rows.read(self, X, None, eras, reset=False)
        require_eras(rows.eras, self._had_eras, type(self).__name__)
        return self._transform(rows)

    @whole_fit(prefer_skip_nested_validation=True)
    def fit_transform(self, X, y=None, *, eras=None):
        """Fit, and return the statistics of each row's era.

        Parameters
        ----------
        X, y, eras
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_rows, n_features_out), float32
        """
        rows = Rows.read(self, X, None, eras)
        self._fit(rows)
        return self._transform(rows)

    def get_feature_names_out(self, input_features=None):
        """Return the names: the feature's, with ``_era_mean`` or ``_era_std``.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the features, if fit saw none.

        Returns
        -------
        ndarray of shape (n_features_out,), object
        """
        check_is_fitted(self)
        names = check_feature_names_in(self, input_features)[self.columns_]
        statistics = self._fitted_with.statistics
        return np.array([f"{n}_era_{s}" for s in statistics for n in names], object)

    _by_era = True  # a row's latents depend on the others of its era

    def _check_parameters(self, n_features, n_targets):
        """Raise if parameters contradict each other; an experiment calls it, too."""
        if len(set(self.statistics)) < len(self.statistics):
            raise ValueError(
                f"statistics={self.statistics!r} names one of them twice. Name it once."
            )

    def _fit(self, rows):
        n_features = rows.X.shape[1]
        self._check_parameters(n_features, 0)
        chosen = find_columns(self.features, rows.feature_names, n_features)
        self.columns_ = np.arange(n_features) if chosen is None else chosen
        if chosen is None:
            self.missing_values_ = missing_values(rows.X, self.missing)
        else:  # one column at a time, so that the table is not copied
            parts = (rows.X[:, [j]] for j in chosen)
            fills = [missing_values(part, self.missing) for part in parts]
            self.missing_values_ = np.concatenate(fills)
        self.fitted_eras_ = known_numbers(rows.eras)
        # Eras that are names have no numbers, but they are eras.
        self._had_eras = rows.eras is not None

    def _transform(self, rows):
        known = self._fitted_with
        width = len(self.columns_) * len(known.statistics)
        out = np.empty((rows.n_rows, width), np.float32)
        for _, mine in rows.by_era():
            # Less the first row, columns that are constant in the era are exactly 0.
            first = next(self._blocks(rows.X, mine[:1]))[0]
            mean = sum(
                (block - first).sum(axis=0) / len(mine)
                for block in self._blocks(rows.X, mine)
            )
            values = {"mean": first + mean}
            if "std" in known.statistics:
                squares = sum(
                    np.square(block - first - mean).sum(axis=0) / len(mine)
                    for block in self._blocks(rows.X, mine)
                )
                values["std"] = np.sqrt(squares)
            out[mine] = np.concatenate([values[name] for name in known.statistics])
        return out

    def _blocks(
        self, X: NDArray[Any], rows: NDArray[np.intp]
    ) -> Iterator[NDArray[np.float64]]:
        """Yield blocks of some rows and of the features, filled, as floats."""
        for block, _ in blocks_of(X, rows):
            if self._fitted_with.features is not None:
                block = block[:, self.columns_]
            check_missing(block, self._fitted_with.missing)
            yield fill_missing(block.astype(np.float64), self.missing_values_)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "middle"
        tags.transformer_tags.preserves_dtype = []
        return tags
