"""CORR of all predictions of one era at once: the formula of numerai_tools in numpy.

The reference is `numerai_tools.scoring.numerai_corr`. It takes twenty times as long in
eras of 600 rows, and six times as long in eras of 5,000.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

_LEAST_LIKENESS = 0.9  # numerai_tools' bound for a target's correlation with its power


class RefusedTarget(ValueError):
    """A few rows of a target outweigh all others."""


def era_corr(
    target: NDArray[np.float64], predictions: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return CORR of each prediction of one era.

    The predictions are ranked (ties share their mean rank) and gaussianised. They and
    the centred target are raised to the power 1.5, with signs kept. The score is the
    Pearson correlation of the two results.

    Parameters
    ----------
    target : ndarray of shape (n_rows,)
        Finite and not constant.
    predictions : ndarray of shape (n_rows, n_predictions)
        Finite; none of them constant.

    Returns
    -------
    ndarray of shape (n_predictions,)

    Raises
    ------
    RefusedTarget
        If the target correlates so little with its power that `numerai_corr` refuses
        it.
    """
    centred = _centred(target / np.abs(target).max())
    powered = _power(centred / np.abs(centred).max())
    y = _unit(powered)
    likeness = float((_unit(centred) * y).sum())
    if likeness < _LEAST_LIKENESS:
        raise RefusedTarget(
            "raised to the power 1.5, as in CORR, the target has a correlation of only "
            f"{likeness:.2f} with the original target, less than {_LEAST_LIKENESS}: a "
            "few rows outweigh all others"
        )
    p = corr_directions(predictions)
    # not by BLAS, whose rounding of a score depends on the number of predictions
    scores: NDArray[np.float64] = (p * y).sum(axis=1)
    return np.clip(scores, -1, 1)


def corr_directions(predictions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return predictions as CORR takes them: as rows, centred and of length 1."""
    return _unit(_normal_scores(predictions, power=True))


def corr_target(target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return one era's target as CORR takes it: to the power 1.5, standardised."""
    centred = _centred(target)
    powered = _power(centred / np.abs(centred).max())
    return np.asarray(_unit(powered) * np.sqrt(len(target)))


def normal_scores(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank one era's values (ties share their mean rank), and gaussianise them.

    Parameters
    ----------
    values : ndarray of shape (n_rows,) or (n_rows, n_columns)

    Returns
    -------
    ndarray of the shape of `values`
        Zero where a column is constant.
    """
    columns = values.reshape(len(values), -1)
    return _normal_scores(columns, power=False).T.reshape(values.shape)


def _normal_scores(values: NDArray[np.float64], *, power: bool) -> NDArray[np.float64]:
    """Return the normal scores of each column as a row; contiguous rows sort faster."""
    rows = np.ascontiguousarray(values.T)
    n = rows.shape[1]
    order = np.argsort(rows, axis=1)
    ordered = np.take_along_axis(rows, order, axis=1)
    begins = np.ones(rows.shape, bool)  # whether a run of equal values begins
    np.not_equal(ordered[:, 1:], ordered[:, :-1], out=begins[:, 1:])
    first = np.flatnonzero(begins)
    lengths = np.diff(first, append=rows.size)
    scores = ndtri((first % n + lengths / 2) / n)
    if power:
        scores = _power(scores)
    out = np.empty_like(rows)
    np.put_along_axis(
        out, order, np.repeat(scores, lengths).reshape(rows.shape), axis=1
    )
    return out


def _power(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values to the power 1.5, with their signs."""
    return values * np.sqrt(np.abs(values))


def _centred(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(values - values.mean(axis=-1, keepdims=True))


def _unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centre vectors along the last axis, and scale them to length 1."""
    centred = _centred(values)
    return np.asarray(centred / np.linalg.norm(centred, axis=-1, keepdims=True))
