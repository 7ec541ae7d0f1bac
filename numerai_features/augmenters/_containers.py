"""Append rows to tables, targets and labels, and keep the type of container."""

from __future__ import annotations

import sys
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from narwhals.stable.v2 import dependencies
from numpy.typing import NDArray

from numerai_features._validation import (
    ERA_COLUMN,
    as_floats,
    column_names,
    count_rows,
    index_of,
    is_frame,
    take_rows,
)


def is_arrow_array(values: Any) -> bool:
    """Whether values are a pyarrow array, which narwhals does not support."""
    pyarrow = sys.modules.get("pyarrow")
    return pyarrow is not None and isinstance(values, pyarrow.Array)


def append_rows(values: Any, rows: NDArray[np.intp]) -> Any:
    """Append copies of some rows to values."""
    if is_arrow_array(values):
        return values.take(np.concatenate([np.arange(len(values)), rows]))
    return take_rows(values, np.concatenate([np.arange(count_rows(values)), rows]))


def append_targets(
    y: Any, source: NDArray[np.intp], new: NDArray[np.float64] | None
) -> Any:
    """Append new targets to y, by default those of the source rows.

    Parameters
    ----------
    y : ndarray, array of pyarrow, or series or frame of pandas, polars or pyarrow
    source : ndarray of shape (n_new,)
        The row that each new row is made from.
    new : ndarray of shape (n_new, n_targets) or None
        The new targets. A column whose type cannot hold them is converted to float.
    """
    if new is None:
        out = append_rows(y, source)
    elif isinstance(y, np.ndarray):
        out = _append_column(y, new if y.ndim == 2 else new[:, 0])
    elif not is_frame(y):
        out = _append_column(y, new[:, 0])
    else:
        names = column_names(y)
        columns = [_append_column(y[name], new[:, j]) for j, name in enumerate(names)]
        out = _frame_of(y, dict(zip(names, columns, strict=True)))
    return with_ids(out, y, source)


def with_ids(out: Any, like: Any, source: NDArray[np.intp]) -> Any:
    """Return a rebuilt table with the ids of the old rows, and ids of new rows."""
    if (index := index_of(like)) is not None:
        out.index = append_ids(index, source)
    return out


def _frame_of(like: Any, columns: dict[Any, Any]) -> Any:
    """Return columns as a frame of the same library as `like`."""
    library = nw.get_native_namespace(like)
    return nw.from_dict(columns, backend=library).to_native()


def _append_column(column: Any, values: NDArray[np.float64]) -> Any:
    """Append values to a column; keep the column's type if it can hold them."""
    if isinstance(column, np.ndarray):
        dtype = column.dtype if _holds(column.dtype.kind, values) else np.float64
        return np.concatenate([column.astype(dtype), values.astype(dtype)])
    if is_arrow_array(column):
        import pyarrow as pa

        return _append_column(pa.chunked_array([column]), values).combine_chunks()
    series = nw.from_native(column, series_only=True)
    if dependencies.is_pandas_like_series(column):
        # Without narwhals, which lacks some types of pandas.
        pd: Any = nw.get_native_namespace(series)
        more = pd.Series(values, name=column.name)
        if _holds(column.dtype.kind, values):
            more = more.astype(column.dtype)
        else:
            column = pd.Series(as_floats(column, "y"), name=column.name)
        return pd.concat([column, more], ignore_index=True)
    own = series.dtype
    kinds = {"f": own.is_float(), "i": own.is_integer(), "b": own == nw.Boolean}
    fits = any(is_one and _holds(kind, values) for kind, is_one in kinds.items())
    dtype = own if fits else nw.Float64()
    new = nw.new_series(series.name, values, backend=series.implementation)
    parts = [part.cast(dtype).to_frame() for part in (series, new)]
    return nw.concat(parts).get_column(series.name).to_native()


def _holds(kind: str, values: NDArray[np.float64]) -> bool:
    """Whether a type of numbers, given as numpy's kind, can hold the values."""
    if kind == "b":
        return bool(np.isin(values, [0, 1]).all())
    return kind == "f" or (kind in "iu" and bool((values == np.rint(values)).all()))


def frame_like(
    like: Any, table: NDArray[Any], eras: Any, source: NDArray[np.intp]
) -> Any:
    """Return a table and eras as a frame; pandas does not copy the table.

    Parameters
    ----------
    like : frame
        Frame with the names of the columns, and the ids of the first rows.
    table : ndarray of shape (n_rows + n_new, n_features)
    eras : series or None
        The column ``era``.
    source : ndarray of shape (n_new,)
        The row that each new row is made from.
    """
    names = column_names(like)
    features = [name for name in names if name != ERA_COLUMN]
    if (index := index_of(like)) is not None:
        # Without narwhals, which has no index and would copy each column.
        index = append_ids(index, source)
        frame = type(like)(table, index=index, columns=features, copy=False)
        if eras is not None:
            frame.insert(names.index(ERA_COLUMN), ERA_COLUMN, eras.array)
        return frame
    columns = dict(zip(features, table.T, strict=True)) | {ERA_COLUMN: eras}
    return _frame_of(like, {name: columns[name] for name in names})


def labels_like(like: Any, labels: NDArray[np.object_]) -> Any:
    """Return labels in the container of `like`, and in its type if it can hold them.

    Parameters
    ----------
    like : ndarray, or series of pandas, polars or pyarrow
    labels : ndarray of object
        As many labels as `like` has.
    """
    values = labels.tolist()
    if isinstance(like, np.ndarray):
        made = np.array(values, object if like.dtype == object else None)
        cast = made.astype(like.dtype) if like.dtype.kind in "if" else made
        return cast if (cast == made).all() else made
    # Without narwhals, which does not keep categories.
    if dependencies.is_pandas_like_series(like):
        return _pandas_labels(like, labels)
    if hasattr(like, "to_frame"):
        made = type(like)(like.name, values)
        cast = made.cast(like.dtype, strict=False)
        return made if cast.null_count() else cast
    import pyarrow as pa

    made = pa.array(values)
    if pa.types.is_dictionary(like.type):
        return made.dictionary_encode()
    return made if pa.types.is_unsigned_integer(like.type) else made.cast(like.type)


def _pandas_labels(like: Any, labels: NDArray[np.object_]) -> Any:
    import pandas as pd

    dtype: Any = like.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        # The labels of new eras are in descending order of their numbers.
        more = pd.unique(labels[~np.isin(labels, list(dtype.categories))])[::-1]
        dtype = pd.CategoricalDtype([*more, *dtype.categories], dtype.ordered)
    elif pd.api.types.is_integer_dtype(dtype):
        least = np.iinfo(getattr(dtype, "numpy_dtype", dtype)).min
        if labels.min() < least:
            dtype = np.int64
    return type(like)(labels, like.index, dtype, like.name)


def append_ids(index: Any, source: NDArray[np.intp]) -> Any:
    """Append ids of new rows to an index: the first copy of "id" is "id+1".

    New numeric ids are negative and smaller than all others, because larger numbers may
    be ids of rows outside this table. In an index of several levels, the level ``id``
    gets new ids, or the last level if there is none.
    """
    import pandas as pd

    if isinstance(index, pd.MultiIndex):
        levels = [index.get_level_values(j) for j in range(index.nlevels)]
        names = list(index.names)
        own = names.index("id") if "id" in names else index.nlevels - 1
        parts = [
            append_ids(level, source) if j == own else level.append(level.take(source))
            for j, level in enumerate(levels)
        ]
        return pd.MultiIndex.from_arrays(parts, names=names)
    if index.name == "id" and pd.api.types.is_numeric_dtype(index.dtype):
        return _append_numbers(index, len(source))
    if isinstance(index, pd.RangeIndex):
        stop = index.start + index.step * (len(index) + len(source))
        return pd.RangeIndex(index.start, stop, index.step, name=index.name)
    if isinstance(index, pd.CategoricalIndex):  # which has no place for new ids
        index = index.astype(index.categories.dtype)
    labels = index.take(source)
    texts = pd.api.types.is_string_dtype(index.dtype)
    if texts:
        copies = number_of_copy(source) + 1
        # Rows that an earlier augmenter added already have such ids.
        added = index.str.contains("+", regex=False)
        taken = set(index[added.astype(bool)])
        named = []
        for label, i in zip(labels, copies, strict=True):
            while (name := f"{label}+{i}") in taken:
                i += 1
            named.append(name)
            if taken:
                taken.add(name)
        labels = pd.Index(named, dtype=index.dtype, name=index.name)
    return index.append(labels)


def _append_numbers(index: Any, n_new: int) -> Any:
    """Append negative numbers that are smaller than all numbers of the index."""
    import pandas as pd

    if not n_new:
        return index
    if str(index.dtype).lower().startswith("uint"):
        index = index.astype("int64" if index.max() < 1 << 63 else object)
    least = min(0, int(index.min()))
    return index.append(pd.Index(range(least - 1, least - 1 - n_new, -1), name="id"))


def number_of_copy(source: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return, for each new row, the number of earlier copies of its source row."""
    order = np.argsort(source, kind="stable")
    ordered = source[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    lengths = np.diff(np.r_[starts, len(source)])
    number = np.empty(len(source), np.intp)
    number[order] = np.arange(len(source)) - np.repeat(starts, lengths)
    return number
