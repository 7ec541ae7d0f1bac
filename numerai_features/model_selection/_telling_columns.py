"""Find columns that identify the era of a row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._eras import EraIndex, EraLeakageError
from numerai_features._validation import (
    ERA_COLUMN,
    column_names,
    frame_to_array,
    is_frame,
    take_eras,
    take_rows,
)
from numerai_features.metrics._era_is_no_feature import check_era_is_no_feature

_ROWS_AN_ERA = 3  # enough to find columns that are constant in each era
_FITTED_ERAS = 20
_FITTED_ROWS_AN_ERA = 60


def check_columns(X: Any, eras: EraIndex, estimator: Any = None) -> None:
    """Raise if a model that is fitted on X can identify the era of a row.

    Parameters
    ----------
    X : array-like or frame of shape (n_rows, n_features)
        Features that the model will be fitted on.
    eras : EraIndex
        Eras of the rows.
    estimator : estimator, default=None
        Estimator that will be fitted. None: a model that uses all columns of X.

    Raises
    ------
    EraLeakageError
        If a column has one value in all rows of an era and different values in most
        eras, or if the column ``era`` reaches the model.
    """
    has_column = is_frame(X) and ERA_COLUMN in column_names(X)
    telling = _telling_columns(take_eras(X)[0], eras)
    if has_column and estimator is None:
        telling = [ERA_COLUMN, *telling]
    if telling:
        raise EraLeakageError(
            f"The columns {telling} of X identify the era of a row, so a model can "
            "learn each era's targets. Drop them; LatentFeatures() as the first step "
            "of a Pipeline removes a column 'era' (then pass the Pipeline as "
            "estimator=)."
        )
    if has_column:
        _check_era_is_not_used(X, eras, estimator)


def _telling_columns(X: Any, eras: EraIndex) -> list[Any]:
    """Return the columns that are constant in each era, and differ in most eras."""
    known = np.flatnonzero(eras.resolved & (eras.counts > 1))
    if len(known) < 3:  # with one row per era, every column is constant
        return []
    X = X if is_frame(X) else np.asarray(X)
    cells = _comparable(take_rows(X, _spread_rows(eras, known, _ROWS_AN_ERA).ravel()))
    cells = cells.reshape(len(known), _ROWS_AN_ERA, -1)
    names = column_names(X) if is_frame(X) else list(range(X.shape[1]))
    telling = []
    for j in np.flatnonzero((cells == cells[:, :1]).all(axis=(0, 1))):
        if 2 * len(np.unique(cells[:, 0, j])) <= len(known):
            continue
        values = _comparable_column(X[names[j]] if is_frame(X) else X[:, j])
        of_era = np.zeros(eras.n_eras, values.dtype)
        of_era[eras.codes] = values
        if np.array_equal(values, of_era[eras.codes]):
            telling.append(names[j])
    return telling


def _comparable(table: Any) -> NDArray[Any]:
    """Return a few rows as numbers, so that equal cells have equal numbers."""
    cells = frame_to_array(table) if is_frame(table) else table
    if cells.dtype.kind in "biuf":
        return np.asarray(cells)
    columns = range(cells.shape[1])
    return np.column_stack([_comparable_column(cells[:, j]) for j in columns])


def _comparable_column(column: Any) -> NDArray[Any]:
    import pandas as pd

    values = np.asarray(column)
    return values if values.dtype.kind in "biuf" else pd.factorize(values)[0]


def _spread_rows(eras: EraIndex, codes: NDArray[np.intp], n: int) -> NDArray[np.intp]:
    """Return n evenly spaced rows of each era, of shape (n_codes, n).

    Rows are repeated in an era of fewer than n rows.
    """
    first = (np.cumsum(eras.counts) - eras.counts)[codes, None]
    places = first + np.linspace(0, eras.counts[codes] - 1, n, axis=1).astype(np.intp)
    if eras.contiguous:
        return np.asarray(places)
    return np.asarray(np.argsort(eras.codes, kind="stable")[places])


def _check_era_is_not_used(X: Any, eras: EraIndex, estimator: Any) -> None:
    """Raise if a clone that is fitted to predict the era uses the column ``era``."""
    from sklearn.base import clone

    known = np.flatnonzero(eras.resolved)
    known = known[np.unique(np.linspace(0, len(known) - 1, _FITTED_ERAS).astype(int))]
    rows = np.unique(_spread_rows(eras, known, _FITTED_ROWS_AN_ERA))
    some = take_rows(X, rows)
    # With the era as target, a model that sees the column is certain to use it.
    model = clone(estimator).fit(some, eras.row_numbers[rows].astype(np.float64))
    check_era_is_no_feature(model.predict, some)
