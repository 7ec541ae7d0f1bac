"""What a fitted Gaussian tells: its covariance, and how likely rows are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from numerai_features._blocks import row_blocks
from numerai_features._validation import fill_missing
from numerai_features.embedders import _maximum_likelihood as ml


class GaussianModel:
    """Part of `FactorAnalysisEmbedder` that asks its distribution, not its factors."""

    components_: NDArray[np.float64]
    noise_variance_: NDArray[np.float64]
    mean_: NDArray[np.float64]
    missing_values_: NDArray[Any]
    _fitted_with: Any
    _read_later: Any

    def score_samples(self, X, *, eras=None):
        """Return the log-likelihood of each row.

        Parameters
        ----------
        X, eras
            As in `transform`.

        Returns
        -------
        ndarray of shape (n_rows,), float64
        """
        rows = self._read_later(X, eras)
        centres = self._centres(rows)
        score = ml.row_likelihood(self.components_.T, self.noise_variance_)
        scores = np.empty(rows.n_rows)
        for block in row_blocks(*rows.X.shape):
            x = self._filled(rows.X[block])
            scores[block] = score(
                x - (self.mean_ if centres is None else centres(block))
            )
        return scores

    def score(self, X, y=None, *, eras=None):
        """Return the mean log-likelihood of the rows.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            The features of fit.
        y : Ignored
            Present for API consistency.
        eras : array-like of shape (n_rows,), default=None
            As in `transform`.

        Returns
        -------
        float
        """
        return float(self.score_samples(X, eras=eras).mean())

    def get_covariance(self):
        r"""Return the model's covariance, :math:`W W^\top + \mathrm{diag}(\psi)`.

        Returns
        -------
        ndarray of shape (n_features, n_features)
        """
        check_is_fitted(self)
        covariance = self.components_.T @ self.components_
        covariance[np.diag_indices_from(covariance)] += self.noise_variance_
        return covariance

    def get_precision(self):
        """Return the inverse of the model's covariance.

        It is made of `n_components` numbers a feature, without inverting a matrix of
        all features. Rows and columns of features that are constant are zero: they
        tell nothing, and have no inverse.

        Returns
        -------
        ndarray of shape (n_features, n_features)
        """
        check_is_fitted(self)
        return ml.precision(self.components_.T, self.noise_variance_)

    def _filled(self, block) -> NDArray[np.float64]:
        return fill_missing(block.astype(np.float64), self.missing_values_)

    def _centres(self, rows):
        """Return a function from rows to their eras' means, or None for the global."""
        if self._fitted_with.center != "era":
            return None
        eras = rows.era_index.rows_by_era()
        means = np.stack([self._filled(rows.X[mine]).mean(axis=0) for _, mine in eras])
        return lambda block: means[rows.codes[block]]
