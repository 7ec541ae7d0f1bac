"""Tables, targets and labels with rows added, in the container they came in."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._validation import (
    as_floats,
    column_names,
    count_rows,
    is_frame,
    take_rows,
)


def append_rows(values: Any, rows: NDArray[np.intp]) -> Any:
    """Return values with those of `rows` once more behind."""
    return take_rows(values, np.concatenate([np.arange(count_rows(values)), rows]))


def append_targets(
    y: Any, source: NDArray[np.intp], new: NDArray[np.float64] | None
) -> Any:
    """Return targets with new ones behind, by default those of the sources.

    Parameters
    ----------
    y : ndarray, or series or frame of pandas, polars or pyarrow
    source : ndarray of shape (n_new,)
        The rows that new ones are made from.
    new : ndarray of shape (n_new, n_targets) or None
        A column becomes one of floats where its type does not hold them.
    """
    if new is None:
        out = append_rows(y, source)
    elif isinstance(y, np.ndarray):
        out = _append_column(y, new if y.ndim == 2 else new[:, 0])
    elif not is_frame(y):
        out = _append_column(y, new[:, 0])
    elif hasattr(y, "iloc"):
        import pandas as pd

        columns = [_append_column(y.iloc[:, j], new[:, j]) for j in range(y.shape[1])]
        out = pd.concat(columns, axis=1)
    else:
        names = column_names(y)
        columns = [_append_column(y[name], new[:, j]) for j, name in enumerate(names)]
        make = getattr(type(y), "from_pydict", type(y))
        out = make(dict(zip(names, columns, strict=True)))
    if hasattr(out, "iloc"):
        out.index = append_ids(y.index, source)
    return out


def _append_column(column: Any, values: NDArray[np.float64]) -> Any:
    """Return a column with values behind, in its type where that holds them."""
    if isinstance(column, np.ndarray):
        dtype = column.dtype if _holds(column.dtype.kind, values) else np.float64
        return np.concatenate([column.astype(dtype), values.astype(dtype)])
    if hasattr(column, "iloc"):
        import pandas as pd

        more = pd.Series(values, name=column.name)
        if _holds(column.dtype.kind, values):
            more = more.astype(column.dtype)
        else:
            column = pd.Series(as_floats(column, "y"), name=column.name)
        return pd.concat([column, more], ignore_index=True)
    if hasattr(column, "to_frame"):
        number = "f" if column.dtype.is_float() else "i"
        more = type(column)(column.name, values)
        if column.dtype.is_numeric() and _holds(number, values):
            return column.clone().append(more.cast(column.dtype))
        return column.cast(more.dtype).append(more)
    import pyarrow as pa

    floats = pa.types.is_floating(column.type)
    kind = column.type if _holds("f" if floats else "i", values) else pa.float64()
    return pa.chunked_array([*column.cast(kind).chunks, pa.array(values).cast(kind)])


def _holds(kind: str, values: NDArray[np.float64]) -> bool:
    """Whether a kind of numbers, as numpy names it, has such values."""
    if kind == "b":
        return bool(np.isin(values, [0, 1]).all())
    return kind == "f" or (kind in "iu" and bool((values == np.rint(values)).all()))


def frame_like(
    like: Any, table: NDArray[Any], names: list[Any], source: NDArray[np.intp]
) -> Any:
    """Return a table as a frame; of pandas it is not copied.

    Parameters
    ----------
    like : frame
        Whose ids the first rows have.
    table : ndarray of shape (n_rows + n_new, n_columns)
    names : list
        Of the columns.
    source : ndarray of shape (n_new,)
        The rows that new ones are made from.
    """
    if hasattr(like, "loc"):
        index = append_ids(like.index, source)
        return type(like)(table, index=index, columns=names, copy=False)
    columns = {name: table[:, j] for j, name in enumerate(names)}
    return getattr(type(like), "from_pydict", type(like))(columns)


def labels_like(like: Any, labels: NDArray[np.object_]) -> Any:
    """Return labels in the container and, where it holds them, the type of others.

    Parameters
    ----------
    like : ndarray, or series of pandas, polars or pyarrow
    labels : ndarray of object
        As many.
    """
    values = labels.tolist()
    if isinstance(like, np.ndarray):
        made = np.array(values, object if like.dtype == object else None)
        cast = made.astype(like.dtype) if like.dtype.kind in "if" else made
        return cast if (cast == made).all() else made
    if hasattr(like, "iloc"):
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
        # New eras come by descending number.
        more = pd.unique(labels[~np.isin(labels, list(dtype.categories))])[::-1]
        dtype = pd.CategoricalDtype([*more, *dtype.categories], dtype.ordered)
    elif pd.api.types.is_integer_dtype(dtype):
        least = np.iinfo(getattr(dtype, "numpy_dtype", dtype)).min
        if labels.min() < least:
            dtype = np.int64
    return type(like)(labels, like.index, dtype, like.name)


def append_ids(index: Any, source: NDArray[np.intp]) -> Any:
    """Return an index with labels for new rows: an id's first copy is "id+1"."""
    import pandas as pd

    if isinstance(index, pd.RangeIndex):
        stop = index.start + index.step * (len(index) + len(source))
        return pd.RangeIndex(index.start, stop, index.step, name=index.name)
    labels = index.take(source)
    texts = pd.api.types.is_string_dtype(index.dtype)
    if texts and not isinstance(index, pd.MultiIndex):
        copies = number_of_copy(source) + 1
        # Rows that were added before have such ids already.
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


def number_of_copy(source: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return for each new row how many of its source came before."""
    order = np.argsort(source, kind="stable")
    ordered = source[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    lengths = np.diff(np.r_[starts, len(source)])
    number = np.empty(len(source), np.intp)
    number[order] = np.arange(len(source)) - np.repeat(starts, lengths)
    return number
