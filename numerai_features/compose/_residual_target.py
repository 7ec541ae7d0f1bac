"""A regressor of what a benchmark leaves of the target."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._arguments import Finite
from numerai_features._residual import residual_targets
from numerai_features._validation import (
    as_frame,
    is_frame,
    known_numbers,
    target_names,
)
from numerai_features._whole_fit import whole_fit
from numerai_features.compose._era_regressor import EraRegressor


class ResidualTargetRegressor(EraRegressor):
    """A regressor trained on what a benchmark leaves of the target.

    In each era, a constant and the benchmark's predictions are fitted to the target by
    least squares. The regressor is trained on the target less the constant and
    `proportion` of the benchmark's part, so that it learns what the benchmark does not
    say. MMC and BMC pay for that. A prediction needs neither benchmark nor eras.

    Parameters
    ----------
    regressor : regressor
        Trained on the residuals.
    proportion : float, default=1.0
        How much of the benchmark's part is subtracted, from 0 to 1.
    keep_era : bool, default=False
        Whether a frame's column ``era`` is handed on: for a regressor that takes it
        out itself, as a pipeline of `LatentFeatures` and a tree does. Any other would
        learn from it.

    Attributes
    ----------
    regressor_ : regressor
        The fitted one.
    fitted_eras_ : ndarray of shape (n_eras,) or None
        Era numbers of the rows it was trained on: those with a target and a benchmark.
    n_features_in_ : int
        Number of features seen in fit, ``era`` not counted.
    feature_names_in_ : ndarray of shape (n_features,)
        Their names, where X had string names.

    See Also
    --------
    EraNeutralizer : Takes the benchmark out of predictions, instead.
    numerai_features.embedders.SupervisedAEMLP : Takes ``benchmark=`` itself.

    Notes
    -----
    The benchmark's predictions of the training rows must not come from a model that
    was trained on their targets: they would explain too much. Numerai's files hold
    predictions made walk forward.

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
            Features. A frame's column ``era`` is taken out, and used as `eras`.
        y : array-like of shape (n_rows,) or (n_rows, n_targets)
            Targets; rows without any are left out.
        eras : array-like of shape (n_rows,), default=None
            Era labels; needed with a benchmark, unless X has a column ``era``.
        sample_weight : array-like of shape (n_rows,), default=None
            Weights, for a regressor that takes them. They count in the least-squares
            fits, too.
        benchmark : array-like of shape (n_rows,) or frame, default=None
            Predictions of the benchmark; rows without one (NaN) are left out. A Series
            or Numerai's whole file is matched by id where `X`, `y` or `eras` has ids.
            None: the regressor is trained on the target itself, with a warning.

        Returns
        -------
        self
        """
        return self._fit(X, y, eras, sample_weight, benchmark)

    def _fit_rows(self, given):
        if given.benchmark is None:
            warnings.warn(
                "benchmark is None: the regressor is trained on the target itself. "
                "Pass the predictions of a benchmark to fit, or leave "
                "ResidualTargetRegressor out.",
                UserWarning,
                stacklevel=4,
            )
        else:
            given = self._residual(given)
            self.fitted_eras_ = known_numbers(given.rows.eras)
        super()._fit_rows(given)

    def _residual(self, given):
        """Return the rows that have a residual, with it as their target."""
        rows = given.rows
        rest = residual_targets(
            rows.y, given.benchmark, rows.eras, rows.weights, self.proportion
        )
        rows = replace(rows, y=rest)
        given = replace(given, rows=rows, y=_like(rest, given.y), benchmark=None)
        return given.take(rows.labelled)

    def _wants(self, extra, method="fit"):
        if extra == "benchmark" and method == "fit":
            return True
        return super()._wants(extra, method)


def _like(values: NDArray[np.float64], y: Any) -> Any:
    """Return targets with the names, and of the dimensions, of others."""
    import pandas as pd

    names, table = target_names(y), as_frame(y, "y")
    if is_frame(table):
        return pd.DataFrame(values, columns=names)
    if np.ndim(table) == 1:
        values = values[:, 0]
    return values if names is None else pd.Series(values, name=names[0])
