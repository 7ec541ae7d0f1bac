"""Arrow tables: the input that LightGBM reads without a copy in floats."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from narwhals.stable.v2.dependencies import is_pandas_like_dataframe
from numpy.typing import NDArray

from numerai_features._arguments import ROWS, TABLE, checked
from numerai_features._blocks import row_blocks
from numerai_features._scratch import empty_like
from numerai_features._validation import (
    check_columns_of_numbers,
    column_names,
    is_frame,
    take_eras,
    to_arrow,
)

if TYPE_CHECKING:
    import pyarrow as pa

_LIGHTGBM_WITH_ARROW = (4, 7)
_COLUMNS_AT_ONCE = 64  # bytes of a cache line: each is read once
_ROWS_AT_ONCE = 1 << 16  # of a file larger than memory, each page is read once


@checked(X=[TABLE], feature_names=[ROWS, None])
def tree_table(X: Any, feature_names: Any = None) -> pa.Table:
    """Turn rows into a pyarrow table, column by column, each in its own type.

    LightGBM (4.7 or later in its scikit-learn classes, before that in
    ``lightgbm.Dataset``) bins such a table as it is, where it makes floats of a numpy
    array or a pandas frame first: a third to a half of the peak memory is saved, and
    the model is the same. int8 stays one byte a cell, also beside float32 latents.

    Train and predict with tables of the same names; XGBoost takes them too.

    Parameters
    ----------
    X : array-like or frame of shape (n_rows, n_features)
        Integers, floats or booleans; NaN is missing. A frame's column ``era`` is left
        out. Columns that lie contiguous in memory are not copied.
    feature_names : list of str, default=None
        Names of the columns; by default the frame's, or ``Column_0``, ``Column_1`` and
        so on, as LightGBM names them.

    Returns
    -------
    pyarrow.Table
        Of shape (n_rows, n_features).

    Raises
    ------
    ValueError
        If X is not two-dimensional or not numeric, or names are too few, too many, or
        not unique.

    Examples
    --------
    >>> import numpy as np
    >>> from numerai_features.trees import tree_table
    >>> tree_table(np.array([[0, 4], [2, 1]], dtype=np.int8), ["a", "b"]).schema
    a: int8
    b: int8
    """
    import pyarrow as pa

    X, _ = take_eras(X)
    if is_frame(X):
        check_columns_of_numbers(X)
    names = column_names(X) if is_frame(X) else None
    columns = _frame_columns(X) if is_frame(X) else list(_array_columns(X))
    names = _checked_names(feature_names, names, len(columns))
    return pa.Table.from_arrays([_arrow(c) for c in columns], names)


def rows_of(table: pa.Table, rows: NDArray[np.bool_], like: NDArray[Any]) -> pa.Table:
    """Return rows of a table; in a file if that is where the array `like` is."""
    import pyarrow as pa

    places: dict[Any, list[int]] = {}
    columns: dict[int, Any] = {}
    for j, column in enumerate(table.columns):
        if column.null_count:  # numpy has none
            columns[j] = column.filter(pa.array(rows))
        else:
            places.setdefault(column.type, []).append(j)
    for kind, some in places.items():
        dtype = kind.to_pandas_dtype()
        out = empty_like(like, (len(some), int(rows.sum())), dtype)
        for j, column in zip(some, out, strict=True):
            np.compress(rows, table.column(j).to_numpy(), out=column)
            columns[j] = pa.array(column)
    ordered = [columns[j] for j in range(table.num_columns)]
    return pa.Table.from_arrays(ordered, table.column_names)


def takes_arrow() -> bool:
    """Whether the scikit-learn classes of the installed LightGBM take a table."""
    release = importlib.metadata.version("lightgbm").split(".")[:2]
    return tuple(map(int, release)) >= _LIGHTGBM_WITH_ARROW


def _frame_columns(frame: Any) -> list[Any]:
    if not is_pandas_like_dataframe(frame):
        return list(to_arrow(frame).columns)
    dtypes = set(frame.dtypes)
    if len(dtypes) == 1 and isinstance(next(iter(dtypes)), np.dtype):
        return list(_array_columns(frame.to_numpy()))
    columns = [frame.iloc[:, j] for j in range(frame.shape[1])]
    # A sparse one becomes what its cells are.
    kinds = [getattr(c.dtype, "subtype", c.dtype) for c in columns]
    return [
        c.to_numpy(kind) if isinstance(kind, np.dtype) else c
        for c, kind in zip(columns, kinds, strict=True)
    ]


def _array_columns(X: Any) -> Iterator[NDArray[Any]]:
    """Yield contiguous columns; rows are transposed a few columns at a time."""
    X = np.asarray(X)
    if X.ndim != 2:
        raise ValueError(
            f"X must be two-dimensional, (n_rows, n_features); got shape {X.shape}."
        )
    if X.flags.f_contiguous:
        yield from X.T
        return
    columns = empty_like(X, X.shape[::-1], X.dtype)
    for rows in row_blocks(len(X), 1, _ROWS_AT_ONCE):
        for start in range(0, X.shape[1], _COLUMNS_AT_ONCE):
            some = slice(start, start + _COLUMNS_AT_ONCE)
            columns[some, rows] = X[rows, some].T
    yield from columns


def _arrow(column: Any) -> Any:
    import pyarrow as pa

    if isinstance(column, np.ndarray) and column.dtype == np.float16:
        column = column.astype(np.float32)  # LightGBM does not read half precision
    if not isinstance(column, pa.ChunkedArray):
        column = pa.array(column)
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
    if not any(is_kind(column.type) for is_kind in kinds):
        raise ValueError(
            f"X must hold numbers; got a column of type {column.type}. Drop or encode "
            "columns of text."
        )
    return column


def _checked_names(given: Any, own: list[Any] | None, n_columns: int) -> list[str]:
    default = own or [f"Column_{j}" for j in range(n_columns)]
    names = [str(name) for name in (default if given is None else given)]
    if len(names) != n_columns:
        raise ValueError(
            f"feature_names has {len(names)} names, but X has {n_columns} columns."
        )
    if len(set(names)) != len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(
            f"feature_names must be unique; {repeated!r} is there more than once."
        )
    return names
