"""A regressor of the residual of the target after a benchmark."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._arguments import Finite
from numerai_features._residual import residual_targets
from numerai_features._validation import (
    as_frame,
    index_of,
    is_frame,
    known_numbers,
    target_names,
)
from numerai_features._warn import warn
from numerai_features._whole_fit import whole_fit
from numerai_features.compose._era_regressor import EraRegressor


class ResidualTargetRegressor(EraRegressor):
    """A regressor trained on the part of the target that a benchmark does not explain.

    In each era, a constant and the benchmark's predictions are fitted to the target by
    least squares. The regressor is trained on the target minus the constant, and minus
    `proportion` times the benchmark's part of the fit. So it learns what the benchmark
    does not predict, which MMC and BMC reward. `predict` needs no benchmark and no
    eras.

    Parameters
    ----------
    regressor : regressor
        The regressor to train on the residuals.
    proportion : float, default=1.0
        Share of the benchmark's part that is subtracted, from 0 to 1.
    keep_era : bool, default=False
        Whether to pass the column ``era`` of a frame on to a regressor that removes it,
        such as a pipeline of `LatentFeatures` and a tree. Any other regressor would use
        it as a feature. Labels that are passed as ``eras=`` become this column.

    Attributes
    ----------
    regressor_ : regressor
        The fitted regressor.
    fitted_eras_ : ndarray of shape (n_eras,) or None
        Era numbers of the training rows, which have a target and a benchmark.
    n_features_in_ : int
        Number of features seen in fit, without ``era``.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if X had string names.

    See Also
    --------
    EraNeutralizer : Removes the benchmark from predictions instead.
    numerai_features.embedders.SupervisedAEMLP : Accepts ``benchmark=`` itself.

    Notes
    -----
    The benchmark must not have been trained on the targets of the training rows,
    because its predictions would explain too much of them. Numerai's benchmark files
    contain walk-forward predictions.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> from numerai_features.compose import ResidualTargetRegressor
    >>> from numerai_features.datasets import make_era_panel
    >>> panel = make_era_panel(n_eras=8, rows_per_era=50, random_state=0)
    >>> model = ResidualTargetRegressor(Ridge(), proportion=0.75)
    >>> model.fit(panel.X, panel.y("target_alpha_20"), eras=panel.eras,
    ...           benchmark=panel.X[:, 0])
    ResidualTargetRegressor(...)
    >>> model.predict(panel.X).shape
    (400,)
    """

    _parameter_constraints = {
        **EraRegressor._parameter_constraints,
        "proportion": [Finite(0, 1)],
    }

    _predicts_by_era = False

    def __init__(self, regressor, proportion=1.0, *, keep_era=False):
        self.regressor = regressor
        self.proportion = proportion
        self.keep_era = keep_era

    @whole_fit(prefer_skip_nested_validation=False)
    def fit(self, X, y, *, eras=None, sample_weight=None, benchmark=None):
        """Train the regressor on residuals.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            Features. The column ``era`` of a frame is removed, and used as `eras`.
        y : array-like of shape (n_rows,) or (n_rows, n_targets)
            Targets. Rows without any target are left out.
        eras : array-like of shape (n_rows,), default=None
            Era labels. A benchmark requires them, unless X has a column ``era``.
        sample_weight : array-like of shape (n_rows,), default=None
            Weights of the rows, if the regressor accepts them. The least-squares fits
            use them, too.
        benchmark : array-like of shape (n_rows,) or frame, default=None
            Predictions of the benchmark. Rows without one (NaN) are left out. A Series
            or a whole file of Numerai's is matched by id if `X`, `y` or `eras` has ids.
            If None, the regressor is trained on the target itself, with a warning.

        Returns
        -------
        self
        """
        return self._fit(X, y, eras, sample_weight, benchmark)

    def _fit_rows(self, given):
        if given.benchmark is None:
            warn(
                "benchmark is None: the regressor is trained on the target itself. "
                "Pass the predictions of a benchmark to fit, or leave "
                "ResidualTargetRegressor out.",
            )
        else:
            given = self._residual(given)
            self.fitted_eras_ = known_numbers(given.rows.eras)
        super()._fit_rows(given)

    def _residual(self, given):
        """Return the rows that have a residual, which becomes their target."""
        rows = given.rows
        rest = residual_targets(
            rows.y, given.benchmark, rows.eras, rows.weights, self.proportion
        )
        rows = replace(rows, y=rest)
        y = _like(rest, given.y, given.table)
        given = replace(given, rows=rows, y=y, benchmark=None)
        return given.take(rows.labelled)

    def _wants(self, extra, method="fit"):
        if extra == "benchmark" and method == "fit":
            return True
        return super()._wants(extra, method)


def _like(values: NDArray[np.float64], y: Any, X: Any) -> Any:
    """Return targets with the names and the dimensions of y, and its index or X's."""
    import pandas as pd

    names, table = target_names(y), as_frame(y, "y")
    index = index_of(table)
    index = index_of(as_frame(X)) if index is None else index
    if is_frame(table):
        return pd.DataFrame(values, index=index, columns=names)
    if np.ndim(table) == 1:
        values = values[:, 0]
    return values if names is None else pd.Series(values, index, name=names[0])
