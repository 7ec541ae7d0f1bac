"""Check from its predictions whether a fitted model uses the era as a feature.

The model's structure does not show this: a Pipeline, a search or any other estimator
may use the column, drop it or pass it on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._eras import EraLeakageError
from numerai_features._validation import (
    ERA_COLUMN,
    column_names,
    count_rows,
    index_of,
    is_frame,
    take_rows,
)

_ASKED_ROWS = 1000


def check_era_is_no_feature(predict: Callable[[Any], Any], X: Any) -> None:
    """Raise if predictions depend on the labels of the eras in X.

    If all eras are renamed, a model that only groups rows by era predicts the same, but
    a model that uses the era as a feature does not. This function renames the eras of
    some rows, and compares the predictions.

    Parameters
    ----------
    predict : callable
        Function that maps a frame to predictions.
    X : array-like or frame
        It is checked only if it is a frame with the column ``era``.

    Raises
    ------
    EraLeakageError
        If a prediction changes.
    """
    if not is_frame(X) or ERA_COLUMN not in column_names(X):
        return
    some = _some_rows(X)
    expected = np.asarray(predict(some), dtype=np.float64)
    closed = _has_fixed_labels(some[ERA_COLUMN])
    for labels in _relabelled(_labels(some), closed):
        got = np.asarray(predict(_with_eras(some, labels)), dtype=np.float64)
        if not np.allclose(got, expected, rtol=1e-4, atol=1e-7, equal_nan=True):
            raise EraLeakageError(
                "The predictions change when the eras are renamed: the column 'era' "
                "reached the model as a feature, so the model can learn each era's "
                "targets from it. Make LatentFeatures() the first step of the Pipeline "
                "(without embedders it passes on the original features and removes the "
                "column), or drop the column."
            )


def _some_rows(X: Any) -> Any:
    n_rows = count_rows(X)
    return take_rows(X, np.arange(0, n_rows, max(1, n_rows // _ASKED_ROWS)))


def _labels(X: Any) -> NDArray[Any]:
    return np.asarray(X[ERA_COLUMN])


def _has_fixed_labels(column: Any) -> bool:
    """Whether a column is of a categorical type, with a fixed set of labels."""
    kind = str(getattr(column, "dtype", None) or column.type).lower()
    return any(word in kind for word in ("categ", "dictionary", "enum"))


def _relabelled(labels: NDArray[Any], closed: bool) -> Iterator[NDArray[Any]]:
    """Yield one-to-one renamings: to the labels of other eras, and to new numbers."""
    distinct, codes = np.unique(labels, return_inverse=True)
    yield distinct[::-1][codes]
    yield np.roll(distinct, 1)[codes]
    if closed:
        return
    if labels.dtype.kind in "iuf":
        for numbers in _other_numbers(distinct):
            yield numbers.astype(labels.dtype)[codes]
    elif all(str(label).isdigit() for label in distinct):
        # A scaler converts text such as "0007" to a number, so text is renumbered, too.
        width = len(str(distinct[0]))
        for numbers in _other_numbers(distinct.astype(np.int64)):
            yield np.array([f"{n:0{width}d}" for n in numbers], dtype=object)[codes]


def _other_numbers(numbers: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Return numbers before, after and between those that a model was fitted on."""
    return numbers - numbers.min() + 1, numbers + numbers.max(), numbers * 5


def _with_eras(X: Any, labels: NDArray[Any]) -> Any:
    # Done for each library, because narwhals does not keep a library's categories.
    if (index := index_of(X)) is not None:
        column = X[ERA_COLUMN]
        renamed = type(column)(labels, index).astype(column.dtype)
        return X.assign(**{ERA_COLUMN: renamed})
    if hasattr(X, "with_columns"):
        series = type(X[ERA_COLUMN])(ERA_COLUMN, labels.tolist())
        return X.with_columns(series.cast(X[ERA_COLUMN].dtype))
    import pyarrow as pa

    at = column_names(X).index(ERA_COLUMN)
    return X.set_column(
        at, ERA_COLUMN, pa.array(labels.tolist()).cast(X[ERA_COLUMN].type)
    )
