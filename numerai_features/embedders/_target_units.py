"""Units of targets: what a network is trained on, and what it predicts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._eras import EraIndex
from numerai_features._rows import Rows
from numerai_features._warn import warn
from numerai_features.embedders._encode import encode_some
from numerai_features.encoders import Encoder

Units = tuple[NDArray[np.float64], NDArray[np.float64]]
"""A factor and a constant for each target."""

_MEASURED_ROWS = 1 << 16
_ROUNDING = 8 * np.finfo(np.float64).eps
_LEAST_SLOPE = 0.01  # of the ratio of deviations; the order of rows is kept


def scale_within_eras(
    y: NDArray[np.float64], eras: EraIndex, out: NDArray[np.floating]
) -> None:
    """Write columns with mean 0 and deviation 1 in each era.

    They are NaN where a column is NaN or does not vary within the era.

    Parameters
    ----------
    y : ndarray of shape (n_rows, n_targets)
    eras : EraIndex
    out : ndarray of shape (n_rows, n_targets)
    """
    out[:] = np.nan
    for _, rows in eras.rows_by_era():
        own = y[rows]
        varies = _varies(own)
        if varies.any():
            part = np.full_like(own, np.nan)
            gaps = own[:, varies] - np.nanmean(own[:, varies], axis=0)
            gaps /= np.nanmax(np.abs(gaps), axis=0)  # so that no square underflows
            part[:, varies] = gaps / np.sqrt(np.nanmean(gaps * gaps, axis=0))
            out[rows] = part


def _varies(y: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return whether each column has two values that differ by more than rounding."""
    high, low = np.fmax.reduce(y, axis=0), np.fmin.reduce(y, axis=0)
    rounding = _ROUNDING * np.fmax(np.abs(high), np.abs(low))
    return np.asarray(high - low > rounding)


def standard_units(y: NDArray[np.float64], rows: NDArray[np.intp]) -> Units:
    """Return each target's standard deviation and mean in some rows.

    They are 1, where it is constant, and 0, where it is unknown.
    """
    factor, constant = np.ones(y.shape[1]), np.zeros(y.shape[1])
    for j, column in enumerate(y.T):
        known = column[rows]
        known = known[~np.isnan(known)]
        if len(known):
            constant[j] = known.mean()
        if len(known) and np.ptp(known):
            factor[j] = known.std() or 1.0
    return factor, constant


def to_train_on(rows: Rows, units: Units, *, alike: bool) -> NDArray[np.float32]:
    """Return the targets that a network is trained on, and the benchmark after them.

    Parameters
    ----------
    rows : Rows
        With targets; and with a benchmark, if predictions are penalised for following
        it.
    units : tuple of ndarray
        Factors and constants that targets are divided by, after the constants are
        subtracted.
    alike : bool
        Whether targets get mean 0 and deviation 1 in each era instead, as the benchmark
        does.

    Raises
    ------
    ValueError
        If the benchmark varies in no era.
    """
    assert rows.y is not None
    n_targets, side = rows.y.shape[1], rows.benchmark
    out = np.empty((rows.n_rows, n_targets + (side is not None)), np.float32)
    if alike:
        scale_within_eras(rows.y, rows.era_index, out[:, :n_targets])
    else:
        factor, constant = units
        for j, column in enumerate(rows.y.T):
            out[:, j] = (column - constant[j]) / factor[j]
    if side is not None:
        scale_within_eras(side[:, None], rows.era_index, out[:, n_targets:])
        if np.isnan(out[:, n_targets:]).all():
            raise ValueError(
                "benchmark has two different values in no era, among rows whose target "
                "is known, so benchmark_penalty has no effect. Train on eras that it "
                "covers."
            )
    return out


def without_constants(
    y: NDArray[np.float64], eras: EraIndex, loss: str, *, all_targets: bool = True
) -> tuple[NDArray[np.float64], int]:
    """Return targets that are NaN in eras in which they do not vary.

    A correlation cannot be trained on those. The second result is the number of eras in
    which no target is left; there is a warning if there are any. Where nothing changes,
    the targets are not copied.

    Parameters
    ----------
    y : ndarray of shape (n_rows, n_targets)
        Targets, NaN where unknown.
    eras : EraIndex
    loss : str
        For messages.
    all_targets : bool, default=True
        Whether a target of which no era is left is an error.

    Raises
    ------
    ValueError
        If no era of a target is left.
    """
    told = y
    for _, rows in eras.rows_by_era():
        for j in np.flatnonzero(~_varies(y[rows])):
            if not np.isnan(y[rows, j]).all():
                told = y.copy() if told is y else told
                told[rows, j] = np.nan
    if told is y:
        return y, 0
    lost = ~np.isnan(y).all(axis=0) & np.isnan(told).all(axis=0)
    if all_targets and lost.any():
        raise ValueError(
            f"loss={loss!r} is a correlation within an era, but target "
            f"{int(lost.argmax())} of y (its residual, if there is a benchmark) has "
            "two different values in no era: there is nothing to learn. Leave it out, "
            "or use loss='mse'."
        )
    before, after = (
        np.bincount(eras.codes, ~np.isnan(t).all(axis=1), eras.n_eras) > 0
        for t in (y, told)
    )
    left_out = np.flatnonzero(before & ~after)
    if len(left_out):
        warn(
            f"{len(left_out)} of {before.sum()} eras are left out, such as "
            f"{eras.labels[left_out[0]]!r}: loss={loss!r} is a correlation within an "
            "era, and no target has two different values there.",
        )
    return told, len(left_out)


def measured_units(outputs: Encoder, rows: Rows, train: NDArray[np.intp]) -> Units:
    """Return the units that fit a network's outputs to some training rows best.

    Parameters
    ----------
    outputs : Encoder
        From rows to a network's outputs.
    rows : Rows
    train : ndarray of int
        Training rows; as many are used of each target.
    """
    assert rows.y is not None
    most = _MEASURED_ROWS // rows.y.shape[1] + 1
    known = (train[~np.isnan(column[train])] for column in rows.y.T)
    # A copy of a part, since a view would keep the whole.
    parts = [own[:: len(own) // most + 1].copy() for own in known]
    some = np.unique(np.concatenate(parts))
    weights = None if rows.weights is None else rows.weights[some]
    return units_by_least_squares(
        encode_some(outputs, rows, some), rows.y[some], rows.codes[some], weights
    )


def units_by_least_squares(
    outputs: NDArray[Any],
    y: NDArray[np.float64],
    codes: NDArray[np.integer],
    weights: NDArray[np.float64] | None,
) -> Units:
    """Return the factor and the constant that fit outputs to targets best.

    The factor is that of the regression within eras. It is at least a hundredth of the
    ratio of the deviations, so that it never turns the order of rows around. Outputs of
    an unknown target stay as they are.

    Parameters
    ----------
    outputs : ndarray of shape (n_rows, n_targets)
        A network's outputs.
    y : ndarray of shape (n_rows, n_targets)
        Targets, NaN where unknown.
    codes : ndarray of shape (n_rows,)
        Era codes.
    weights : ndarray of shape (n_rows,) or None
    """
    factor, constant = np.ones(y.shape[1]), np.zeros(y.shape[1])
    for j, known in enumerate(~np.isnan(y.T)):
        if not known.any():
            continue
        w = np.ones(known.sum()) if weights is None else weights[known]
        pair = outputs[known, j].astype(np.float64), y[known, j]
        p, t = (_within(side, codes[known], w) for side in pair)
        if (spread := w @ (p * p)) > 0:
            least = _LEAST_SLOPE * np.sqrt(w @ (t * t) / spread)
            factor[j] = max(w @ (p * t) / spread, least)
        means = [np.average(side, weights=w) for side in pair]
        constant[j] = means[1] - factor[j] * means[0]
    return factor, constant


def _within(
    values: NDArray[np.float64],
    codes: NDArray[np.integer],
    weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the values less the mean of their era."""
    total = np.bincount(codes, weights)
    mean = np.bincount(codes, weights * values) / np.where(total > 0, total, 1)
    return np.asarray(values - mean[codes])
