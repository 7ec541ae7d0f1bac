"""Predictions less what features, or a benchmark, explain of them in their era."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._arguments import ROWS, Finite, checked
from numerai_features._compat import StrOptions
from numerai_features._eras import encode_eras
from numerai_features._names import near_names, some_names
from numerai_features._validation import (
    as_frame,
    check_same_rows,
    check_size,
    column_names,
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
    predictions=[ROWS],
    X=[ROWS],
    eras=[ROWS, None],
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
    """Subtract from predictions what features explain of them in each era.

    In each era, a constant and the features are fitted to the predictions by least
    squares, and `proportion` of the fit is subtracted: the definition of
    `numerai_tools.scoring.neutralize`, computed from second moments of the columns (of
    the rows, where these are fewer). A table of one byte a cell is cast a block at a
    time.

    Parameters
    ----------
    predictions : array-like of shape (n_rows,) or (n_rows, n_predictions)
        Any finite numbers. They are not ranked: for neutralisation as in FNC, pass
        ``rank_by_era(predictions, eras, output="gauss")``.
    X : array-like or frame of shape (n_rows, n_features)
        The features, or predictions of other models. Missing cells count as the middle
        bin (2 in integers, the column's median in floats).
    eras : array-like of shape (n_rows,), default=None
        Era labels; None: the column ``era`` of X.
    proportion : float, default=1.0
        How much of the fit is subtracted, from 0 to 1.
    features : list of str or int, default=None
        Names or places of the columns of X to neutralise by; all by default.

    Returns
    -------
    ndarray, Series or DataFrame
        Of the shape of `predictions`; pandas where that is. Not scaled: the standard
        deviation within an era becomes smaller.

    Notes
    -----
    In an era of no more rows than features, the features explain everything:
    predictions become 0 there, or ``1 - proportion`` of themselves. Constant
    predictions, of which numerai_tools makes NaN, become that too.

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


def find_columns(features: Any, names: Any, n_features: int) -> NDArray[np.intp] | None:
    """Return the places of the columns that features name; None for all.

    Raises
    ------
    ValueError
        If one is not there, is named twice, or is neither a name nor a place.
    """
    if features is None:
        return None
    wanted = list(as_frame(features, "features"))
    known = {} if names is None else {name: j for j, name in enumerate(names)}
    places = [_place_of(one, known, n_features) for one in wanted]
    if not places:
        raise ValueError("features is empty. Name columns, or pass None for all.")
    if len(set(places)) < len(places):
        twice = next(one for one, j in zip(wanted, places, strict=True)
                     if places.count(j) > 1)  # fmt: skip
        raise ValueError(f"features names {twice!r} more than once. Name it once.")
    return np.array(places, np.intp)


def _place_of(feature: Any, known: dict[str, int], n_features: int) -> int:
    if isinstance(feature, str):
        if feature in known:
            return known[feature]
        if not known:
            raise ValueError(
                f"features names {feature!r}, but the columns of X have no names. Pass "
                "X as a frame, or places of columns."
            )
        raise ValueError(
            f"features names {feature!r}, which X lacks.{near_names(feature, known)} "
            f"X has {some_names(list(known))}."
        )
    whole = isinstance(feature, int | np.integer) and not isinstance(feature, bool)
    if not whole or not 0 <= feature < n_features:
        raise ValueError(
            "features must be names of columns, or their places from 0 to "
            f"{n_features - 1}; got {feature!r}."
        )
    return int(feature)


def _fill_of(X: NDArray[Any], columns: NDArray[np.intp] | None) -> NDArray[np.float64]:
    """Return what stands in for a missing cell of each of some columns."""
    if columns is None:
        return np.asarray(missing_values(X, "middle"), np.float64)
    # one by one: of a whole table no second one is made
    fills = [missing_values(X[:, j : j + 1], "middle") for j in columns]
    return np.concatenate(fills).astype(np.float64)


def _check_finite(X: NDArray[Any]) -> None:
    check_size(X, "X")
    if X.dtype == np.float16 and np.isinf(X).any():
        raise ValueError("X contains infinity. Set such cells to NaN.")


class EraNeutralizer(EraRegressor):
    """A regressor whose predictions are neutralised within their era.

    In each era, a constant and the features (or a benchmark's predictions) are fitted
    to the predictions by least squares, and `proportion` of the fit is subtracted:
    what `numerai_tools.scoring.neutralize` does. It takes out what changes of sign
    with a single feature's return, or what the benchmark says already.

    Parameters
    ----------
    regressor : regressor
        Whose predictions are neutralised, as they are: around
        ``EraRanker(regressor, output="gauss")`` it is done as in FNC.
    proportion : float, default=1.0
        How much of the fit is subtracted, from 0 to 1.
    features : list of str or int, default=None
        Names or places of the columns of X to neutralise by; all by default.
    neutralize_to : {"features", "benchmark"}, default="features"
        "benchmark": by the predictions of a benchmark, which `predict` then needs. In
        a search, which cannot hand them to `predict`, let them be a column of X, and
        name it in `features`.
    keep_era : bool, default=False
        Whether a frame's column ``era`` is handed on: for a regressor that takes it
        out itself, as a pipeline of `LatentFeatures` and a tree does. Any other would
        learn from it.

    Attributes
    ----------
    regressor_ : regressor
        The fitted one.
    columns_ : ndarray of shape (n_columns,) or None
        Places of the columns that predictions are neutralised by. None: all, or a
        benchmark.
    fitted_eras_ : ndarray of shape (n_eras,) or None
        Era numbers of the rows it was trained on, None if no eras were given.
    n_features_in_ : int
        Number of features seen in fit, ``era`` not counted.
    feature_names_in_ : ndarray of shape (n_features,)
        Their names, where X had string names.

    See Also
    --------
    neutralize_by_era : The same for predictions that are there already.

    Notes
    -----
    The table is cast to floats a block of rows at a time; what is kept of an era are
    second moments, of features or of rows, whichever are fewer. In an era of no more
    rows than features, nothing but ``1 - proportion`` of the predictions remains.

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
                "features came, but neutralize_to='benchmark' makes no use of them. "
                "Leave them out, or use neutralize_to='features'."
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
        """Return the benchmark's predictions, of every row."""
        if given.benchmark is None:
            raise ValueError(
                "neutralize_to='benchmark' needs benchmark in predict: pass its "
                "predictions for these rows. In a search, let them be a column of X, "
                "and name it in features=."
            )
        missing = np.isnan(given.benchmark)
        if missing.any():
            first = int(missing.argmax())
            index = given.rows.era_index
            era = f", of era {index.labels[index.codes[first]]!r}"
            raise ValueError(
                f"benchmark is NaN in {int(missing.sum())} of {len(missing)} rows, the "
                f"first is row {first}{era}: nothing tells what it explains there. "
                "Predict rows that it covers."
            )
        return given.benchmark[:, None]

    def _wants(self, extra, method="fit"):
        if extra == "benchmark" and method == "predict":
            if self.neutralize_to == "benchmark":
                return True
        return super()._wants(extra, method)
