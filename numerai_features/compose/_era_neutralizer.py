"""Neutralise predictions to features, or to a benchmark, within their era."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._arguments import ROWS, TABLE, Finite, checked
from numerai_features._compat import StrOptions
from numerai_features._eras import encode_eras
from numerai_features._validation import (
    check_same_rows,
    check_size,
    column_names,
    find_columns,
    frame_to_numbers,
    has_nan,
    is_frame,
    missing_values,
    take_eras,
)
from numerai_features.compose._era_regressor import EraRegressor
from numerai_features.compose._neutral import neutral_rows
from numerai_features.compose._predictions import as_they_came, read_predictions

SHARE = Finite(0, 1)


@checked(
    predictions=[TABLE],
    X=[TABLE],
    eras=[TABLE, None],
    proportion=[SHARE],
    features=[ROWS, None],
)
def neutralize_by_era(
    predictions: Any,
    X: Any,
    eras: Any = None,
    *,
    proportion: float = 1.0,
    features: Any = None,
) -> Any:
    """Neutralise predictions to features in each era.

    In each era, a constant and the features are fitted to the predictions by least
    squares, and `proportion` times the fit is subtracted. The definition is that of
    `numerai_tools.scoring.neutralize`; it is computed from second moments of the
    columns (of the rows, if there are fewer rows). One block of rows at a time is
    converted to floats.

    Parameters
    ----------
    predictions : array-like of shape (n_rows,) or (n_rows, n_predictions)
        Finite numbers. They are not ranked; for neutralisation as in FNC, pass
        ``rank_by_era(predictions, eras, output="gauss")``.
    X : array-like or frame of shape (n_rows, n_features)
        Features, or predictions of other models. Missing cells are filled with the
        middle bin (2 in integers, the column's median in floats).
    eras : array-like of shape (n_rows,), default=None
        Era labels. If None, the column ``era`` of X.
    proportion : float, default=1.0
        Share of the fit that is subtracted, from 0 to 1.
    features : list of str or int, default=None
        Names or positions of the columns of X to neutralise to; all if None.

    Returns
    -------
    ndarray, Series or DataFrame
        The same shape as `predictions`, as pandas objects if these are. They are not
        rescaled, so the standard deviation within an era becomes smaller.

    Notes
    -----
    In an era with no more rows than features, the features explain everything:
    predictions are multiplied by ``1 - proportion``, which is 0 by default. So are
    constant predictions, which numerai_tools turns into NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from numerai_features.compose import neutralize_by_era
    >>> X = np.array([[0], [1], [2], [0], [2], [4]])
    >>> neutralize_by_era([0, 1, 5, 2, 3, 5], X, [1, 1, 1, 2, 2, 2]).round(2)
    array([ 0.5 , -1.  ,  0.5 ,  0.17, -0.33,  0.17])
    """
    values = read_predictions(predictions)
    check_same_rows(predictions=predictions, X=X, eras=eras)
    table, labels = take_eras(X, eras)
    if labels is None:
        raise ValueError(
            "eras is None, and X has no column 'era'. Pass eras=, one label a row."
        )
    index = encode_eras(labels, n_rows=len(values))
    names = None
    if is_frame(table):
        names, array = column_names(table), frame_to_numbers(table)
    else:
        array = np.asarray(table)
    if array.ndim != 2 or len(array) != len(values) or array.dtype.kind not in "biuf":
        raise ValueError(
            f"X must hold numbers, of shape ({len(values)}, n_features), a row for "
            f"each prediction; got shape {array.shape} and dtype {array.dtype}."
        )
    _check_finite(array)
    columns = find_columns(features, names, array.shape[1])
    fill = _fill_of(array, columns) if has_nan(array) else None
    rest = neutral_rows(values, array, index, proportion, columns=columns, fill=fill)
    return as_they_came(rest, predictions)


def _fill_of(X: NDArray[Any], columns: NDArray[np.intp] | None) -> NDArray[np.float64]:
    """Return the value that fills missing cells, for each column."""
    if columns is None:
        return np.asarray(missing_values(X, "middle"), np.float64)
    # One column at a time, so that the table is not copied.
    fills = [missing_values(X[:, j : j + 1], "middle") for j in columns]
    return np.concatenate(fills).astype(np.float64)


def _check_finite(X: NDArray[Any]) -> None:
    check_size(X, "X")
    if X.dtype == np.float16 and np.isinf(X).any():
        raise ValueError("X contains infinity. Set such cells to NaN.")


class EraNeutralizer(EraRegressor):
    """A regressor whose predictions are neutralised within their era.

    In each era, a constant and the features (or a benchmark's predictions) are fitted
    to the predictions by least squares, and `proportion` times the fit is subtracted,
    as in `numerai_tools.scoring.neutralize`. This removes the exposure to single
    features, or what the benchmark predicts already.

    Parameters
    ----------
    regressor : regressor
        The regressor whose predictions are neutralised. They are not ranked; with
        ``EraRanker(regressor, output="gauss")``, neutralisation is that of FNC.
    proportion : float, default=1.0
        Share of the fit that is subtracted, from 0 to 1.
    features : list of str or int, default=None
        Names or positions of the columns of X to neutralise to; all if None.
    neutralize_to : {"features", "benchmark"}, default="features"
        "benchmark": neutralise to the predictions of a benchmark, which must be passed
        to `predict`. A search cannot pass them: make them a column of X, and name it in
        `features`.
    keep_era : bool, default=False
        Whether to pass the column ``era`` of a frame on to a regressor that removes it,
        such as a pipeline of `LatentFeatures` and a tree. Any other regressor would use
        it as a feature. Labels that are passed as ``eras=`` become this column.

    Attributes
    ----------
    regressor_ : regressor
        The fitted regressor.
    columns_ : ndarray of shape (n_columns,) or None
        Positions of the columns that predictions are neutralised to. None means all
        columns, or a benchmark.
    fitted_eras_ : ndarray of shape (n_eras,) or None
        Era numbers of the training rows; None if there were no eras.
    n_features_in_ : int
        Number of features seen in fit, without ``era``.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if X had string names.

    See Also
    --------
    neutralize_by_era : Neutralises existing predictions.

    Notes
    -----
    One block of rows at a time is converted to floats. For an era, only second moments
    are kept, of features or of rows, whichever are fewer. In an era with no more rows
    than features, predictions are multiplied by ``1 - proportion``.

    Examples
    --------
    >>> from sklearn.tree import DecisionTreeRegressor
    >>> from numerai_features.compose import EraNeutralizer
    >>> from numerai_features.datasets import make_era_panel
    >>> panel = make_era_panel(n_eras=8, rows_per_era=100, n_features=20,
    ...                           random_state=0)
    >>> tree = DecisionTreeRegressor(max_depth=3, random_state=0)
    >>> model = EraNeutralizer(tree, proportion=0.5)
    >>> model.fit(panel.X, panel.y("target_alpha_20"), eras=panel.eras)
    EraNeutralizer(...)
    >>> model.predict(panel.X, eras=panel.eras).shape
    (800,)
    """

    _parameter_constraints = {
        **EraRegressor._parameter_constraints,
        "proportion": [SHARE],
        "features": [ROWS, None],
        "neutralize_to": [StrOptions({"features", "benchmark"})],
    }

    def __init__(
        self,
        regressor,
        *,
        proportion=1.0,
        features=None,
        neutralize_to="features",
        keep_era=False,
    ):
        self.regressor = regressor
        self.proportion = proportion
        self.features = features
        self.neutralize_to = neutralize_to
        self.keep_era = keep_era

    def _fit_rows(self, given):
        rows, by_features = given.rows, self.neutralize_to == "features"
        if not by_features and self.features is not None:
            raise ValueError(
                "features was passed, but neutralize_to='benchmark' does not use it. "
                "Leave it out, or use neutralize_to='features'."
            )
        self.columns_ = find_columns(self.features, rows.feature_names, rows.X.shape[1])
        self._fill = _fill_of(rows.X, self.columns_) if by_features else None
        super()._fit_rows(given)

    def _predict_rows(self, given):
        known, rows = self._fitted_with, given.rows
        prediction = read_predictions(self._ask(self.regressor_, given))
        table = rows.X
        if known.neutralize_to == "benchmark":
            table = self._benchmark_of(given)
        return neutral_rows(
            prediction,
            table,
            rows.era_index,
            known.proportion,
            columns=self.columns_,
            fill=self._fill,
        )

    def _benchmark_of(self, given):
        """Return the benchmark's prediction of each row."""
        if given.benchmark is None:
            raise ValueError(
                "neutralize_to='benchmark' needs predict(benchmark=): pass its "
                "predictions for these rows. In a search, make them a column of X, "
                "and name it in features=."
            )
        missing = np.isnan(given.benchmark)
        if missing.any():
            first = int(missing.argmax())
            index = given.rows.era_index
            era = f", of era {index.labels[index.codes[first]]!r}"
            raise ValueError(
                f"benchmark is NaN in {int(missing.sum())} of {len(missing)} rows, the "
                f"first is row {first}{era}. Predict only rows that it covers."
            )
        return given.benchmark[:, None]

    def _wants(self, extra, method="fit"):
        if extra == "benchmark" and method == "predict":
            if self.neutralize_to == "benchmark":
                return True
        return super()._wants(extra, method)
