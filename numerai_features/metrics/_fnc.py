"""FNC of an era for all predictions at once, with the same results as numerai_tools.

`numerai_tools.scoring.feature_neutral_corr` spends most of its time on the singular
values of the features, to leave out values that are nearly zero. Here a Cholesky factor
shows that there are none. If some may be nearly zero, or if rounding may decide which
of two rows is higher, numerai_tools computes the result.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpocon, dpotrf, dpotrs

from numerai_features.metrics._corr import era_corr, normal_scores

_CUT = 1e-6  # numerai_tools leaves out singular values below this share of the largest
_LEAST_RECIPROCAL = 1e-9  # smallest reciprocal condition number of X'X
_MARGIN = 100  # LAPACK's estimate of the condition is rarely wrong by a factor of ten
_N_REFINED = 2  # each refinement multiplies the error by at most some 1e-7
_LEAST_GAP = 1e-10  # between two rows, as a share of the largest; rounding: some 1e-15

_Array = NDArray[np.float64]


def era_fnc(
    target: _Array, predictions: _Array, features: NDArray[np.generic]
) -> _Array:
    """Return FNC of each prediction of one era.

    The predictions are ranked and gaussianised. Their least-squares fit on the features
    and a constant is subtracted. CORR scores the residuals.

    Parameters
    ----------
    target : ndarray of shape (n_rows,)
        Finite and not constant.
    predictions : ndarray of shape (n_rows, n_predictions)
        Finite; none of them constant.
    features : ndarray of shape (n_rows, n_features)
        Finite; fewer features than rows.

    Returns
    -------
    ndarray of shape (n_predictions,)
    """
    return era_corr(target, neutral_predictions(predictions, features))


def neutral_predictions(
    predictions: _Array, features: NDArray[np.generic]
) -> NDArray[Any]:
    """Return one era's gaussianised predictions minus their fit on the features.

    The parameters and their constraints are those of `era_fnc`. The result has the
    shape of `predictions`. The scale of each column is arbitrary.
    """
    neutral = _neutral(normal_scores(predictions), features)
    if neutral is None or _least_gap(neutral) < _LEAST_GAP:
        return _by_numerai_tools(predictions, features)
    return neutral


def _neutral(values: _Array, features: NDArray[np.generic]) -> _Array | None:
    """Return the residuals of a fit on features and a constant; None if inaccurate."""
    table = np.column_stack([features, np.ones(len(features))]).astype(np.float64)
    varies = table.max(axis=0) > table.min(axis=0)
    varies[-1] = True
    with np.errstate(all="ignore"):  # squares of large numbers may overflow
        total = np.square(table).sum()
        table = table if varies.all() else table[:, varies]
        products = table.T @ table
        size = np.linalg.norm(products, 1)
        factor, failed = dpotrf(products)
        reciprocal = 0.0 if failed else dpocon(factor, size)[0]
        smallest = reciprocal * size
    if not (reciprocal > _LEAST_RECIPROCAL and smallest > _MARGIN * _CUT**2 * total):
        return None
    found = dpotrs(factor, table.T @ values)[0]
    for _ in range(_N_REFINED):
        found += dpotrs(factor, table.T @ (values - table @ found))[0]
    return np.asarray(values - table @ found)


def _least_gap(values: _Array) -> float:
    """Return the smallest difference of two rows, as a share of the largest value."""
    gaps = np.diff(np.sort(values, axis=0), axis=0).min(axis=0)
    largest = np.abs(values).max(axis=0) + np.finfo(float).tiny
    return float((gaps / largest).min())


def _by_numerai_tools(
    predictions: _Array, features: NDArray[np.generic]
) -> NDArray[Any]:
    import pandas as pd
    from numerai_tools.scoring import (
        tie_kept_rank__gaussianize__neutralize__variance_normalize as neutralize,
    )

    return np.asarray(neutralize(pd.DataFrame(predictions), pd.DataFrame(features)))
