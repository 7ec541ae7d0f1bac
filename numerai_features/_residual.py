"""A benchmark's predictions, and the residuals of targets on them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._eras import EraIndex
from numerai_features._ids import check_as_many, match_ids
from numerai_features._validation import as_floats

_ROUNDING = 64 * np.finfo(np.float64).eps


def read_benchmark(
    benchmark: Any, n_rows: int, **owners: Any
) -> NDArray[np.float64] | None:
    """Return a benchmark's predictions in the order of the rows, NaN where unknown.

    Parameters
    ----------
    benchmark : array-like of shape (n_rows,), frame or None
        A Series or frame is matched by id if one of the owners has ids.
    n_rows : int
    **owners : frame, Series or array-like
        Tables with the rows, by argument name; see `match_ids`.

    Returns
    -------
    ndarray of shape (n_rows,) or None
        None if there is no benchmark.

    Raises
    ------
    ValueError
        If the predictions are infinite, or are not one per row.
    """
    if benchmark is None:
        return None
    benchmark = match_ids(benchmark, "benchmark", **owners)
    check_as_many(benchmark, "benchmark", n_rows, "X")
    values = as_floats(benchmark, "benchmark")
    if values.shape == (n_rows, 1):
        values = values[:, 0]
    if values.shape != (n_rows,):
        raise ValueError(
            f"benchmark must have shape ({n_rows},), one prediction per row; got "
            f"{values.shape}. Pass one prediction for each row of X, in their order."
        )
    if np.isinf(values).any():
        first = int(np.isinf(values).argmax())
        raise ValueError(f"benchmark is infinite in row {first}. Set it to NaN.")
    return values


def residual_targets(
    y: NDArray[np.float64],
    benchmark: NDArray[np.float64],
    eras: EraIndex | None,
    weights: NDArray[np.float64] | None = None,
    proportion: float = 1.0,
) -> NDArray[np.float64]:
    """Return targets minus a constant and the benchmark, fitted in each era.

    Parameters
    ----------
    y : ndarray of shape (n_rows, n_targets)
    benchmark : ndarray of shape (n_rows,)
        The result of `read_benchmark`; a row where it is NaN has no residual.
    eras : EraIndex or None
    weights : ndarray of shape (n_rows,), default=None
        Weights of the rows in the least-squares fits.
    proportion : float, default=1.0
        Share of the benchmark's fit to subtract. The constant is always subtracted.

    Returns
    -------
    ndarray of shape (n_rows, n_targets)

    Raises
    ------
    ValueError
        If there are no eras, or the benchmark is NaN wherever a target is known.
    """
    if eras is None:
        raise ValueError(
            "benchmark needs eras: pass eras=, or a frame with a column 'era' "
            "(LatentFeatures(keep_era=True) keeps the column)."
        )
    labelled = ~np.isnan(y).all(axis=1)
    if labelled.any() and np.isnan(benchmark[labelled]).all():
        raise ValueError(
            f"benchmark is NaN in all {int(labelled.sum())} rows whose target is "
            "known: nothing to learn. Train on eras that it covers."
        )
    weights = np.ones(len(y)) if weights is None else weights
    out = np.full_like(y, np.nan)
    for _, rows in eras.rows_by_era():
        side, w = benchmark[rows], weights[rows]
        for j in range(y.shape[1]):
            out[rows, j] = _residual(y[rows, j], side, w, proportion)
    return out


def _residual(
    target: NDArray[np.float64],
    side: NDArray[np.float64],
    weights: NDArray[np.float64],
    proportion: float,
) -> NDArray[np.float64]:
    """Return the residuals of one era's target on a constant and another column."""
    known = ~(np.isnan(target) | np.isnan(side)) & (weights > 0)
    out = np.full_like(target, np.nan)
    if known.any():
        w = weights[known]
        x, rest = (v[known] - np.average(v[known], weights=w) for v in (side, target))
        if np.ptp(side[known]):  # else x is only rounding error
            rest = rest - proportion * x * ((w * x) @ rest / ((w * x) @ x))
            rest[np.abs(rest) <= _ROUNDING * np.abs(target[known]).max()] = 0
        out[known] = rest
    return out
