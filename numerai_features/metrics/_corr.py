"""CORR of an era, all predictions at once: numerai_tools' formula, in numpy alone.

`numerai_tools.scoring.numerai_corr` is its reference. It takes twenty times as long in
eras of 600 rows, and six times in eras of 5,000.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

_LEAST_LIKENESS = 0.9  # what numerai_tools demands of a target and its power


class RefusedTarget(ValueError):
    """A few rows of a target outweigh all others."""


def era_corr(
    target: NDArray[np.float64], predictions: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return CORR of each prediction of one era.

    The predictions are ranked, ties sharing their mean rank, and made normal; they and
    the centred target are raised to the power 1.5, signs kept; the score is Pearson's
    correlation of both.

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
        If the power of the target is so unlike it that `numerai_corr` refuses it.
    """
    centred = _centred(target / np.abs(target).max())
    powered = _power(centred / np.abs(centred).max())
    y = _unit(powered)
    likeness = float((_unit(centred) * y).sum())
    if likeness < _LEAST_LIKENESS:
        raise RefusedTarget(
            "raised to the power 1.5, as CORR does it, the target correlates "
            f"{likeness:.2f} with itself, less than {_LEAST_LIKENESS}: a few rows "
            "outweigh all others"
        )
    p = corr_directions(predictions)
    # row by row: BLAS would round a prediction by how many are beside it
    scores: NDArray[np.float64] = (p * y).sum(axis=1)
    return np.clip(scores, -1, 1)


def corr_directions(predictions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return predictions as CORR takes them: as rows, centred and of length 1."""
    return _unit(_normal_scores(predictions, power=True))


def normal_scores(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a vector ranked, ties sharing their mean rank, and made normal."""
    scores: NDArray[np.float64] = _normal_scores(values[:, None], power=False)[0]
    return scores


def _normal_scores(values: NDArray[np.float64], *, power: bool) -> NDArray[np.float64]:
    """Return normal scores of each column, as rows: they are sorted where they lie."""
    rows = np.ascontiguousarray(values.T)
    n = rows.shape[1]
    order = np.argsort(rows, axis=1)
    ordered = np.take_along_axis(rows, order, axis=1)
    begins = np.ones(rows.shape, bool)  # a run of equal values
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
    """Return vectors, the last axis, centred and of length 1."""
    centred = _centred(values)
    return np.asarray(centred / np.linalg.norm(centred, axis=-1, keepdims=True))
