"""Residuals of a target after a benchmark's predictions are fitted to it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._eras import EraIndex
from numerai_features._ids import check_as_many
from numerai_features._validation import as_floats


def residual_targets(
    y: NDArray[np.float64],
    benchmark: Any,
    eras: EraIndex | None,
    weights: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """Return targets minus a constant and the benchmark, fitted in each era.

    Parameters
    ----------
    y : ndarray of shape (n_rows, n_targets)
    benchmark : array-like of shape (n_rows,)
        Predictions in the order of the rows; one that is NaN leaves no residual.
    eras : EraIndex or None
    weights : ndarray of shape (n_rows,) or None
        Weights of the rows in the least-squares fits.

    Returns
    -------
    ndarray of shape (n_rows, n_targets)

    Raises
    ------
    ValueError
        If there are no eras, or the predictions are infinite, are not one per row, or
        are NaN wherever a target is known.
    """
    if eras is None:
        raise ValueError(
            "residual_to needs eras: pass eras=, or a frame with a column 'era'."
        )
    check_as_many(benchmark, "residual_to", len(y), "X")
    b = as_floats(benchmark, "residual_to")
    if b.shape != (len(y),):
        raise ValueError(
            f"residual_to must have shape ({len(y)},), one prediction per row; got "
            f"{b.shape}. Pass one prediction for each row of X, in their order."
        )
    if np.isinf(b).any():
        raise ValueError(f"residual_to is infinite in row {int(np.isinf(b).argmax())}.")
    labelled = ~np.isnan(y).all(axis=1)
    if labelled.any() and np.isnan(b[labelled]).all():
        raise ValueError(
            f"residual_to is NaN in all {int(labelled.sum())} rows whose target is "
            "known: nothing to learn. Train on eras that it covers."
        )
    weights = np.ones(len(y)) if weights is None else weights
    out = np.full_like(y, np.nan)
    for _, rows in eras.rows_by_era():
        for j in range(y.shape[1]):
            column = y[rows, j].copy()
            known = ~(np.isnan(column) | np.isnan(b[rows]))
            if known.any():
                w, side, rest = weights[rows][known], b[rows][known], column[known]
                side, rest = (v - np.average(v, weights=w) for v in (side, rest))
                if side.any():
                    rest = rest - side * ((w * side) @ rest / ((w * side) @ side))
                column[known] = rest
            column[~known] = np.nan
            out[rows, j] = column
    return out
