"""Ranks of predictions within their era."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

from numerai_features._arguments import TABLE, checked
from numerai_features._compat import StrOptions
from numerai_features._eras import EraIndex, encode_eras
from numerai_features._validation import check_same_rows
from numerai_features.compose._era_regressor import EraRegressor
from numerai_features.compose._predictions import as_they_came, read_predictions

OUTPUTS = {"rank", "gauss"}


@checked(predictions=[TABLE], eras=[TABLE], output=[StrOptions(OUTPUTS)])
def rank_by_era(predictions: Any, eras: Any, *, output: str = "rank") -> Any:
    """Rank predictions within their era.

    The formulas are those of `numerai_tools.scoring`: ``tie_kept_rank``, followed by
    ``gaussian`` if `output` is "gauss".

    Parameters
    ----------
    predictions : array-like of shape (n_rows,) or (n_rows, n_predictions)
        Finite numbers. Each column is ranked separately.
    eras : array-like of shape (n_rows,)
        Era labels.
    output : {"rank", "gauss"}, default="rank"
        "rank": ranks between 0 and 1, ``(rank - 0.5) / n``; equal predictions share
        their mean rank. "gauss": the normal quantiles of these ranks, with mean 0 and a
        standard deviation of about 1.

    Returns
    -------
    ndarray, Series or DataFrame
        The same shape as `predictions`, as pandas objects if these are.

    Examples
    --------
    >>> from numerai_features.compose import rank_by_era
    >>> rank_by_era([0.2, 0.1, 0.1, 5.0], ["0001", "0001", "0002", "0002"])
    array([0.75, 0.25, 0.25, 0.75])
    """
    values = read_predictions(predictions)
    check_same_rows(predictions=predictions, eras=eras)
    index = encode_eras(eras, n_rows=len(values))
    return as_they_came(rank_rows(values, index, output), predictions)


def rank_rows(
    values: NDArray[np.float64], index: EraIndex, output: str
) -> NDArray[np.float64]:
    """Return `rank_by_era` of checked predictions and eras.

    Quantiles of ranks that lie equally far from the middle differ in their sign alone,
    to the bit: then sums of them tie wherever they should.
    """
    out, upper = np.empty(values.shape), np.zeros(values.shape, bool)
    gauss = output == "gauss"
    for _, rows in index.rows_by_era():
        block = values[rows]
        n, place = len(block), 2 * rankdata(block, axis=0) - 1
        if gauss:
            upper[rows] = place > n
            place = np.minimum(place, 2 * n - place)
        out[rows] = place / (2 * n)
    if gauss:
        out = ndtri(out)
        np.negative(out, out=out, where=upper)
    return out


def weighted_sum(
    columns: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the weighted sum of columns, added in their order.

    A product of matrices may add in another order from row to row, which breaks ties.
    """
    total: NDArray[np.float64] = columns[:, 0] * weights[0]
    for column, weight in zip(columns.T[1:], weights[1:], strict=True):
        total += column * weight
    return total


class EraRanker(EraRegressor):
    """A regressor whose predictions are ranked within their era.

    Numerai ranks every submission within its era. Ranks of several models can be
    compared.

    Parameters
    ----------
    regressor : regressor
        The regressor whose predictions are ranked.
    output : {"rank", "gauss"}, default="rank"
        Ranks between 0 and 1, or normal quantiles; see `rank_by_era`.
    keep_era : bool, default=False
        Whether to pass the column ``era`` of a frame on to a regressor that removes it,
        such as a pipeline of `LatentFeatures` and a tree. Any other regressor would use
        it as a feature. Labels that are passed as ``eras=`` become this column.

    Attributes
    ----------
    regressor_ : regressor
        The fitted regressor.
    fitted_eras_ : ndarray of shape (n_eras,) or None
        Era numbers of the training rows; None if there were no eras.
    n_features_in_ : int
        Number of features seen in fit, without ``era``.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if X had string names.

    See Also
    --------
    rank_by_era : Ranks existing predictions.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> from numerai_features.compose import EraRanker
    >>> from numerai_features.datasets import make_era_panel
    >>> panel = make_era_panel(n_eras=8, rows_per_era=50, random_state=0)
    >>> model = EraRanker(Ridge()).fit(panel.X, panel.y("target_alpha_20"),
    ...                                eras=panel.eras)
    >>> ranks = model.predict(panel.X, eras=panel.eras)
    >>> float(ranks.min()), float(ranks.max())
    (0.01, 0.99)
    """

    _parameter_constraints = {
        **EraRegressor._parameter_constraints,
        "output": [StrOptions(OUTPUTS)],
    }

    def __init__(self, regressor, *, output="rank", keep_era=False):
        self.regressor = regressor
        self.output = output
        self.keep_era = keep_era

    def _predict_rows(self, given):
        prediction = read_predictions(self._ask(self.regressor_, given))
        return rank_rows(prediction, given.rows.era_index, self._fitted_with.output)
