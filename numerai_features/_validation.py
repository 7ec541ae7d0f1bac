"""Check and convert X, eras and y for the rest of the library.

X may be anything that scikit-learn accepts, or an eager frame that narwhals supports,
such as those of pandas, polars, pyarrow and modin. The column ``era`` of a frame is
removed, and used if no ``eras`` are passed. An int8 table stays int8, with at most one
copy of one byte per cell.

This module handles what narwhals does not support: the index of pandas, sparse columns
and categories, and the conversion of cells to an array of their own type.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from datetime import date
from typing import Any

import narwhals
import narwhals.stable.v2 as nw
import numpy as np
from narwhals.exceptions import DuplicateError
from narwhals.stable.v2 import dependencies
from numpy.typing import NDArray

from numerai_features._arguments import OF_TABLES, ROWS
from numerai_features._bins import MIDDLE_BIN, N_BINS
from numerai_features._blocks import BLOCK_BYTES, row_blocks
from numerai_features._eras import EraIndex, EraLeakageError, encode_eras
from numerai_features._names import near_names, some_names
from numerai_features._scratch import take

ERA_COLUMN = "era"

_NO_NUMBERS = (str, bytes, date, np.datetime64, np.timedelta64)

LARGEST = 1e35
"""Largest cell: results are float32, whose largest number is 3.4e38."""

_LEAST_WEIGHT, _LARGEST_WEIGHT = 1e-100, 1e100

LEAST_SPREAD = 1e-35
"""Smallest range of a column that is not constant: smaller squares underflow."""


_CONVERSIONS = (
    "compute", "collect", "read_all", "to_table", "to_pandas", "to_dataframe", "df"
)  # fmt: skip


def as_frame(X: Any, name: str = "X") -> Any:
    """Return the native frame or series; return anything else unchanged.

    Another frame that exports its columns becomes a pyarrow table, and rows of a panel
    become a pandas frame that shares their memory.

    Raises
    ------
    ValueError
        If X is a frame of an unsupported library: as an array, its columns would have
        no names, and `era` would be a feature. Also if two columns have the same name.
        The message calls X by `name`.
    """
    try:
        known = _known(X)
    except DuplicateError:
        pandas = dependencies.is_pandas_like_dataframe(X)
        names = list(X.columns if pandas else X.column_names)
        repeated = next(n for n in names if names.count(n) > 1)
        raise ValueError(
            f"{name} has more than one column {repeated!r}; expected a name for each. "
            "Rename them, or pass an array."
        ) from None
    if known is not None:
        return known.to_native()
    # Ask the class, because a lazy frame warns if its columns are accessed.
    kind = type(X)
    if hasattr(kind, "__numerai_frame__"):
        frame, labels = X.__numerai_frame__()
        frame.insert(0, ERA_COLUMN, labels)
        return frame
    if not any(hasattr(kind, part) for part in OF_TABLES):
        return X
    conversions = [f".{way}()" for way in _CONVERSIONS if hasattr(kind, way)]
    if hasattr(kind, "__arrow_c_stream__") and not hasattr(kind, "read_all"):
        import pyarrow as pa

        return as_frame(pa.table(X), name)
    advice = f"Pass {name}{conversions[0]}" if conversions else "Convert it"
    raise ValueError(
        f"{name} is a {kind.__module__}.{kind.__qualname__}; expected an array, an "
        "eager table of pandas, polars, pyarrow or another library that narwhals "
        f"supports, or one that exports its columns to Arrow. {advice}."
    )


def _known(X: Any) -> Any:
    """Return a frame or series wrapped by narwhals; None for anything else."""
    if isinstance(X, np.ndarray):  # a shortcut for the most frequent case
        return None
    shell: Any = nw.from_native(
        X, eager_only=True, allow_series=True, pass_through=True
    )
    # The caller's wrapper may be of another version of narwhals' interface.
    return shell if isinstance(shell, narwhals.DataFrame | narwhals.Series) else None


def kind_of(X: Any) -> str:
    """Return the class name with its library, because several have a DataFrame."""
    kind = type(X)
    library = kind.__module__.partition(".")[0]
    named = "" if library == "builtins" else f"{library}."
    return named + kind.__qualname__


def is_frame(X: Any) -> bool:
    """Whether X is a frame of a supported library, none of which is imported."""
    return isinstance(X, narwhals.DataFrame) or dependencies.is_into_dataframe(X)


def column_names(frame: Any) -> list[Any]:
    """Return the column names of a table."""
    return list(_known(frame).columns)


def index_of(X: Any) -> Any:
    """Return the index of a pandas-like frame or series; None for anything else."""
    known = _known(X)
    return None if known is None else nw.maybe_get_index(known)


def row_ids(X: Any) -> Any:
    """Return the ids of a panel's rows, or the index of a pandas-like table; or None.

    Those of a panel may be read from disk.
    """
    if hasattr(type(X), "__numerai_ids__"):
        return X.__numerai_ids__()
    return index_of(X)


def holds_ids(rows: Any) -> bool:
    """Return whether an index holds ids, rather than counts of rows."""
    import pandas as pd

    return not pd.api.types.is_numeric_dtype(rows.dtype) or rows.name == "id"


def check_same_rows(**tables: Any) -> None:
    """Raise if the pandas indexes of two tables have the same rows in another order.

    Rows are matched by position. So ids must be equal, and numbers that count rows must
    not be a permutation of another table's. Ids are not compared with numbers. A
    panel's ids are read only if another table has ids.

    Parameters
    ----------
    **tables : frame, Series, array-like or None
        Tables, by their names in messages.
    """
    named: dict[str, Any] = {}
    counted: dict[str, Any] = {}
    panels = {n: t for n, t in tables.items() if hasattr(type(t), "__numerai_ids__")}
    for name, table in tables.items():
        if table is None or name in panels:
            continue
        rows = index_of(as_frame(table, name))
        if rows is None:
            continue
        alike = named if holds_ids(rows) else counted
        for other, known in alike.items():
            _check_order(name, rows, other, known)
        if not alike:
            alike[name] = rows
    for other, known in named.items():
        for name, table in panels.items():
            ids = row_ids(table)
            if ids is not None:
                _check_order(other, known, name, ids)


def _check_order(name: str, rows: Any, other: str, known: Any) -> None:
    """Raise if two indexes of the same length belong to different rows."""
    if rows is known or len(rows) != len(known) or rows.equals(known):
        return
    labels, expected = np.asarray(rows), np.asarray(known)
    if np.array_equal(labels, expected):  # only the types differ
        return
    if not holds_ids(rows) and not np.array_equal(np.sort(labels), np.sort(expected)):
        return
    first = int((labels != expected).argmax())
    mine, theirs = (table[[first]].tolist()[0] for table in (rows, known))
    raise ValueError(
        f"{name} and {other} have different pandas indexes, but rows are matched by "
        f"position: row {first} is {mine!r} in {name} and {theirs!r} in {other}. "
        f"Reindex {name} like {other}, or pass to_numpy() if the order is the same."
    )


def take_columns(frame: Any, names: list[Any]) -> Any:
    """Return the named columns of a table, in the given order."""
    known = _known(frame)
    places = {name: j for j, name in enumerate(known.columns)}
    # By position, because names in pandas may be numbers.
    return known[:, [places[name] for name in names]].to_native()


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Return a read-only view, so that callers cannot change the array."""
    view = array.view()
    view.flags.writeable = False
    return view


def count_rows(X: Any, name: str = "X") -> int:
    """Return the number of rows of a table, array or list.

    Raises
    ------
    ValueError
        If X has no rows. The message calls it by `name`.
    """
    X = as_frame(X, name)
    if not ROWS.is_satisfied_by(X):
        raise ValueError(
            f"{name} must be an array, list, column or frame with rows; got {X!r}."
        )
    return int(X.shape[0]) if hasattr(X, "shape") else len(X)


def take_rows(X: Any, rows: Any) -> Any:
    """Return rows of a table, array or list by position, in the same container.

    Parameters
    ----------
    X : array-like or frame
    rows : slice or ndarray of int
        A slice of an array is a view.
    """
    X = as_frame(X)
    if isinstance(X, np.ndarray):
        return take(X, rows)
    known = _known(X)
    if known is not None:
        return known[rows].to_native()
    return (X if hasattr(X, "shape") else np.asarray(X))[rows]


def find_eras(X: Any, eras: Any = None) -> Any:
    """Return `eras` if given, else the column ``era`` of a frame, else None."""
    X = as_frame(X)
    if eras is None and is_frame(X) and ERA_COLUMN in column_names(X):
        return X[ERA_COLUMN]
    return eras


def take_eras(X: Any, eras: Any = None, *, name: str = "X") -> tuple[Any, Any]:
    """Remove the column ``era`` from a frame.

    Returns
    -------
    X : the frame without the column, or X itself
    eras : `eras` if given, else the column, else None

    Raises
    ------
    EraLeakageError
        If the name of a column is a variant of ``era``, which would be a feature.
    """
    if hasattr(type(X), "__numerai_frame__"):
        # To drop the column from a frame would copy it, before pandas 3.
        X, labels = X.__numerai_frame__()
        eras = labels if eras is None else eras
    X = as_frame(X, name)
    check_era_is_spelled(X, name)
    if not is_frame(X) or ERA_COLUMN not in column_names(X):
        return X, eras
    column = X[ERA_COLUMN] if eras is None else eras
    return _known(X).drop(ERA_COLUMN).to_native(), column


def with_eras(table: Any, eras: Any) -> Any:
    """Return a frame with a column ``era``, which replaces the frame's own."""
    labels, known = np.asarray(eras), _known(table)
    if index_of(table) is None:
        library = known.implementation
        column = nw.new_series(ERA_COLUMN, labels.tolist(), backend=library)
        return known.with_columns(column).to_native()
    out = table.copy(deep=False)  # pandas shares the other columns
    if ERA_COLUMN in known.columns:
        out[ERA_COLUMN] = labels
    else:
        out.insert(0, ERA_COLUMN, labels)
    return out


def check_era_is_spelled(X: Any, name: str = "X") -> None:
    """Raise if the name of a column is a variant of ``era``."""
    for column in column_names(X) if is_frame(X) else ():
        if spells_era(column) and column != ERA_COLUMN:
            raise EraLeakageError(
                f"{name} has a column {column!r}, which would be a feature: the column "
                f"of eras is called {ERA_COLUMN!r}. Rename it, or drop it and pass "
                "eras=."
            )


def spells_era(name: Any) -> bool:
    """Whether a name is ``era`` or a variant, such as ``ERA`` or ``_era``."""
    return isinstance(name, str) and name.casefold().strip(" _") in ("era", "eras")


def frame_to_numbers(frame: Any, name: str = "X") -> NDArray[Any]:
    """Return a table's cells as one array of numbers, with NaN for null.

    Raises
    ------
    ValueError
        If a column holds dates or text, even if the text is digits.
    """
    check_columns_of_numbers(frame, name)
    return frame_to_array(frame)


def check_columns_of_numbers(frame: Any, name: str = "X") -> None:
    """Raise if a column of a table holds text or dates; the message names it."""
    # narwhals does not distinguish categories of numbers from categories of text, and
    # does not know the sparse columns of pandas.
    if dependencies.is_pandas_like_dataframe(frame):
        found = _pandas_column_without_numbers(frame)
    else:
        found = _arrow_column_without_numbers(to_arrow(frame, name))
    if found is None:
        return
    column, kind, values = found
    example = next((value for value in values[:100] if value is not None), None)
    raise ValueError(
        f"{name} must hold numbers; its column {column!r} holds {kind}, such as "
        f"{example!r}. Drop columns that are not numeric, or encode them as numbers."
    )


def _pandas_column_without_numbers(frame: Any) -> tuple[Any, Any, list[Any]] | None:
    import pandas as pd

    for j, dtype in enumerate(frame.dtypes):
        kind = getattr(getattr(dtype, "categories", None), "dtype", dtype)
        if pd.api.types.is_numeric_dtype(kind):
            continue
        column = frame.iloc[:, j].dropna()
        if pd.api.types.is_object_dtype(kind):
            column = column[[isinstance(v, _NO_NUMBERS) for v in column]]
            if column.empty:
                continue
        told = "text" if pd.api.types.is_string_dtype(column) else kind
        return frame.columns[j], told, column.iloc[:1].tolist()
    return None


def _arrow_column_without_numbers(table: Any) -> tuple[str, Any, list[Any]] | None:
    from pyarrow import types

    allowed = [types.is_integer, types.is_floating, types.is_decimal]
    allowed += [types.is_boolean, types.is_null]
    for field, column in zip(table.schema, table.columns, strict=True):
        kind = field.type.value_type if types.is_dictionary(field.type) else field.type
        if not any(is_kind(kind) for is_kind in allowed):
            text = types.is_string(kind) or types.is_large_string(kind)
            view = getattr(types, "is_string_view", types.is_string)(kind)
            values = column.slice(0, 100).to_pylist()
            return field.name, "text" if text or view else kind, values
    return None


def _check_cells(X: Any, name: str) -> None:
    """Raise if an array or list holds text, which numpy may convert to numbers."""
    if not isinstance(X, np.ndarray | list | tuple):
        return
    try:
        cells: NDArray[Any] = np.asarray(X)
    except ValueError:  # rows of different lengths, which scikit-learn reports
        return
    if cells.dtype.kind not in "OSU":
        return
    for place, cell in np.ndenumerate(cells):
        if isinstance(cell, _NO_NUMBERS):
            raise ValueError(
                f"{name} must hold numbers; got {str(cell)!r} in row {place[0]}, "
                f"column {place[-1]}. Drop columns that are not numeric, or encode "
                "them as numbers."
            )


def frame_to_array(frame: Any) -> NDArray[Any]:
    """Return a table's cells as one array: int8 if all are; NaN if null."""
    # narwhals converts bool beside int8 to objects, and sparse int8 to int64, and
    # copies a table of pyarrow twice.
    if dependencies.is_pandas_like_dataframe(frame):
        return _pandas_to_array(frame)
    table = to_arrow(frame)
    columns = [c.to_numpy() for c in table.columns]
    if not columns:
        return np.empty((table.num_rows, 0))
    dtype = np.result_type(*columns)
    out = np.empty((table.num_rows, len(columns)), dtype=dtype, order="F")
    for j, column in enumerate(columns):
        out[:, j] = column
    return out


def to_arrow(frame: Any, name: str = "X") -> Any:
    """Return a table as a pyarrow table.

    Raises
    ------
    ValueError
        If pyarrow lacks the type of a column, such as Int128 of polars.
    """
    from pyarrow import ArrowInvalid

    known = _known(frame)
    try:
        return known.to_arrow()
    except ArrowInvalid as error:
        for column in known.columns:
            try:
                known.select(column).to_arrow()
            except ArrowInvalid:
                raise ValueError(
                    f"{name}'s column {column!r} holds {known.schema[column]}, which "
                    "pyarrow cannot read. Cast it to Int64 or Float64."
                ) from error
        raise


def _pandas_to_array(frame: Any) -> NDArray[Any]:
    import pandas as pd

    # Sparse columns of pandas become dense columns of their cells' type.
    dtypes = [getattr(d, "subtype", d) for d in frame.dtypes]
    if not dtypes or not all(pd.api.types.is_numeric_dtype(d) for d in dtypes):
        return np.asarray(frame.to_numpy())
    nullable = any(isinstance(d, pd.api.extensions.ExtensionDtype) for d in dtypes)
    if nullable and frame.isna().any(axis=None):
        return np.asarray(frame.to_numpy(dtype=np.float64, na_value=np.nan))
    # An explicit type, because pandas converts bool beside int8 to objects.
    wide = np.result_type(*[_numpy_dtype(d) for d in dtypes])
    return np.asarray(frame.to_numpy(dtype=wide))


def _numpy_dtype(dtype: Any) -> Any:
    return getattr(dtype, "numpy_dtype", dtype)


def validate_rows(
    estimator: Any,
    X: Any,
    eras: Any = None,
    *,
    reset: bool,
    min_rows: int = 1,
) -> tuple[NDArray[Any], EraIndex | None]:
    """Validate the rows that an estimator was given.

    Parameters
    ----------
    estimator : estimator
        Its ``feature_names_in_`` and ``n_features_in_`` are set or checked.
    X : array-like or frame of shape (n_rows, n_features)
        Finite numbers or NaN. The column ``era`` of a frame is removed.
    eras : array-like of shape (n_rows,), default=None
        Era labels; they override the column.
    reset : bool
        True in ``fit``, False in ``transform``.
    min_rows : int, default=1
        Smallest number of rows allowed.

    Returns
    -------
    X : ndarray of shape (n_rows, n_features)
        It shares the caller's memory if possible, so it must not be changed.
    eras : EraIndex or None

    Raises
    ------
    ValueError
        If X is an unsupported frame; if it holds infinite or too large numbers, text,
        or a column whose name is a variant of ``era``; if it has no rows, no columns,
        or other columns than in fit; or if eras have another length.
    """
    from sklearn.utils.validation import check_array, validate_data

    check_same_rows(X=X, eras=eras)
    X, eras = take_eras(X, eras)
    options = {
        "dtype": "numeric",
        "ensure_all_finite": "allow-nan",
        "ensure_min_samples": min_rows,
    }
    try:
        # It sums all cells. Huge ones of both signs give NaN, and numpy would warn.
        with np.errstate(invalid="ignore"):
            _check_cells(X, "X")
            if is_frame(X):
                names = names_only(column_names(X))
                validate_data(estimator, names, reset=reset, skip_check_array=True)
                array = check_array(
                    frame_to_numbers(X), estimator=estimator, input_name="X", **options
                )
            else:
                array = validate_data(estimator, X, reset=reset, **options)
    except OverflowError as error:
        raise ValueError(
            f"X has an integer that is too large for a float: {error}. Divide its "
            "column by a large number."
        ) from error
    check_size(array, "X")
    if eras is None:
        return array, None
    return array, encode_eras(eras, n_rows=len(array))


def check_size(table: NDArray[Any], name: str) -> None:
    """Raise if a cell is so large that results computed from it would overflow."""
    if table.dtype.kind != "f" or table.dtype.itemsize < 4:
        return
    for rows in row_blocks(*table.shape):
        block = table[rows]
        low, high = block.min(initial=0), block.max(initial=0)
        if np.isnan(high):
            low = np.fmin.reduce(block, axis=None, initial=0)
            high = np.fmax.reduce(block, axis=None, initial=0)
        if max(-low, high) > LARGEST:
            row, column = np.argwhere(np.abs(block) > LARGEST)[0]
            raise ValueError(
                f"{name} holds {block[row, column]:.3g} in row {rows.start + row}, "
                f"column {column}; expected numbers between -{LARGEST:g} and "
                f"{LARGEST:g}, so that float32 results do not overflow. Divide the "
                "column by a large number, or set a wrong cell to NaN."
            )


def check_spread(
    table: NDArray[Any], name: str = "X"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the smallest and the largest cell of each column.

    Returns
    -------
    low, high : ndarray of shape (n_features,), float64
        NaN if all cells of the column are NaN.

    Raises
    ------
    ValueError
        If a column varies by so little that its variance underflows.
    """
    low, high = np.full((2, table.shape[1]), np.nan)
    for rows in row_blocks(*table.shape):
        block = table[rows]
        low = np.fmin(low, np.fmin.reduce(block, axis=0))
        high = np.fmax(high, np.fmax.reduce(block, axis=0))
    with np.errstate(over="ignore", invalid="ignore"):
        few = (low < high) & (high - low < LEAST_SPREAD)
    if few.any():
        j = int(few.argmax())
        raise ValueError(
            f"{name} runs from {low[j]:.3g} to {high[j]:.3g} in column {j}; expected a "
            f"column that is constant, or varies by {LEAST_SPREAD:g} or more. Multiply "
            "it by a large number, or leave it out."
        )
    return low, high


def names_only(names: list[Any]) -> Any:
    """Return a frame with these columns and no rows, for checks of names."""
    import pandas as pd

    return pd.DataFrame(columns=names)


def check_columns(estimator: Any, X: Any, *, reset: bool) -> None:
    """Set or check the columns of rows that an estimator passes on unchanged.

    Parameters
    ----------
    estimator : estimator
        Its ``feature_names_in_`` and ``n_features_in_`` are set or checked.
    X : array-like or frame
        Rows without a column ``era``.
    reset : bool
        True in ``fit``, False in ``predict``.

    Raises
    ------
    ValueError
        If X has other columns than in fit, or in another order.
    """
    from sklearn.utils.validation import validate_data

    columns = names_only(column_names(X)) if is_frame(X) else X
    if not hasattr(columns, "shape"):
        columns = np.asarray(columns)
    if len(columns.shape) != 2:
        return  # the wrapped estimator raises the error
    validate_data(estimator, columns, reset=reset, skip_check_array=True)


def find_columns(
    features: Any, names: Any, n_features: int, parameter: str = "features"
) -> NDArray[np.intp] | None:
    """Return the positions of the columns in `features`; None for None.

    Errors call them `parameter`.

    Raises
    ------
    ValueError
        If a column is unknown, is named twice, or is neither a name nor a position.
    """
    if features is None:
        return None
    if isinstance(features, Set | Mapping):
        raise ValueError(
            f"{parameter} is a {type(features).__name__}, which has no order: columns "
            "would come out in another order in another process. Pass a list."
        )
    wanted = list(as_frame(features, parameter))
    known = {} if names is None else {name: j for j, name in enumerate(names)}
    places = [_place_of(one, known, n_features, parameter) for one in wanted]
    if not places:
        raise ValueError(
            f"{parameter} is empty. Name columns, or leave it None, the default."
        )
    if len(set(places)) < len(places):
        twice = next(one for one, j in zip(wanted, places, strict=True)
                     if places.count(j) > 1)  # fmt: skip
        raise ValueError(f"{parameter} names {twice!r} more than once. Name it once.")
    return np.array(places, np.intp)


def _place_of(
    feature: Any, known: dict[str, int], n_features: int, parameter: str
) -> int:
    if isinstance(feature, str):
        if feature in known:
            return known[feature]
        if not known:
            raise ValueError(
                f"{parameter} names {feature!r}, but the columns of X have no names. "
                "Pass X as a frame, or positions of columns."
            )
        raise ValueError(
            f"{parameter} names {feature!r}, which X lacks."
            f"{near_names(feature, known)} X has {some_names(list(known))}."
        )
    whole = isinstance(feature, int | np.integer) and not isinstance(feature, bool)
    if not whole or not 0 <= feature < n_features:
        raise ValueError(
            f"{parameter} must be names of columns, or their positions from 0 to "
            f"{n_features - 1}; got {feature!r}."
        )
    return int(feature)


def named_rows(
    table: NDArray[Any], names: Any, like: Any = None, *, changed: bool = False
) -> Any:
    """Return a checked table with its names, for a wrapped estimator.

    Parameters
    ----------
    table : ndarray of shape (n_rows, n_features)
    names : sequence of str or None
        Names of the columns.
    like : frame, default=None
        The caller's table. If it is a polars frame, so is the result.
    changed : bool, default=False
        Whether the cells of the table differ from the caller's.

    Returns
    -------
    ndarray or frame
        The table itself if there are no names. Otherwise a pandas frame that shares its
        memory, the caller's polars frame without the column ``era``, or a new polars
        frame if cells changed.
    """
    if names is None:
        return table
    like = as_frame(like)
    if dependencies.is_polars_dataframe(like):
        columns = dict(zip(names, table.T, strict=True))
        return type(like)(columns) if changed else take_eras(like)[0]
    return frame_of(table, index=index_of(like), columns=names)


def frame_of(table: NDArray[Any], **labels: Any) -> Any:
    """Return a pandas frame that shares a table's memory.

    A frame holds the transposed table, and joblib (1.6 and before) hands on a
    transposed part of a `numpy.memmap` to its processes with the cells in a wrong
    order. So the memory must not be known as one.
    """
    import pandas as pd

    return pd.DataFrame(np.asarray(table.data), copy=False, **labels)


def require_eras(eras: EraIndex | None, fitted_with_eras: bool, owner: str) -> None:
    """Raise if an era-wise estimator was fitted with eras, but is given none."""
    if fitted_with_eras and eras is None:
        raise ValueError(
            f"{owner} was fitted with eras and works era by era, but got no eras. Pass "
            "eras=, or a frame with the column 'era' (LatentFeatures(keep_era=True) "
            "passes it on)."
        )


def known_numbers(
    eras: EraIndex | None, which: Any = slice(None)
) -> NDArray[np.int64] | None:
    """Return the era numbers, which mean the same in other calls.

    Parameters
    ----------
    eras : EraIndex or None
    which : slice, codes or mask, default=slice(None)
        The eras to return.

    Returns
    -------
    ndarray of shape (n_eras,), int64, or None
        None if there are no eras, or if they are names, whose numbers differ between
        calls.
    """
    return None if eras is None or eras.named else eras.numbers[which]


def require_numbers(eras: EraIndex, name: str = "eras") -> EraIndex:
    """Return the eras if they have numbers; raise if they are names without numbers.

    For code that stores eras, or looks them up, by number.
    """
    if eras.named:
        raise ValueError(
            f"{name} must be labels with numbers, such as '0574'; got "
            f"{eras.labels[0]!r}, whose order and distances are unknown. Number the "
            "eras by week, or write dates as '2020-01-03'."
        )
    return eras


def fill_missing(block: NDArray[Any], fill: Any) -> NDArray[Any]:
    """Return rows whose NaN are replaced by fill values, in the type of the rows.

    Parameters
    ----------
    block : ndarray of shape (n_rows, n_features)
        Returned unchanged, without a copy, if no cell is missing.
    fill : ndarray of shape (n_features,) or float
        Fill values, as `missing_values` returns them.

    Returns
    -------
    ndarray of shape (n_rows, n_features)
    """
    if block.dtype.kind != "f":
        return block
    gaps = np.isnan(block)
    if not gaps.any():
        return block
    return np.where(gaps, np.asarray(fill, block.dtype), block)


def missing_values(
    X: NDArray[Any], missing: str, rows: Any = None
) -> NDArray[np.floating]:
    """Return the value that replaces NaN in each column.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
    missing : {"middle", "raise"}
        "middle": 2 for columns of bins, which are integers from 0 to 4 on both sides
        of 2; the median for other columns. "raise": NaN is an error.
    rows : ndarray of shape (n_rows,), bool, default=None
        Rows to use; all by default.

    Returns
    -------
    ndarray of shape (n_features,), float32 or float64, as numpy promotes X's type
    """
    check_missing(X, missing)
    if X.dtype.kind != "f":
        return _middles(X, rows)
    fill = np.zeros(X.shape[1], np.result_type(X.dtype, np.float32))
    rows = None if rows is None or rows.all() else rows  # a full mask copies all
    step = max(1, BLOCK_BYTES // (4 * max(1, len(X))))
    for start in range(0, X.shape[1], step):
        block = X[:, start : start + step]
        block = block if rows is None else block[rows]
        gaps = np.isnan(block)
        known = ~gaps.all(axis=0)
        if gaps.any():
            fill[start : start + step][known] = np.nanmedian(block[:, known], axis=0)
        else:
            fill[start : start + step] = np.median(block, axis=0)
    return fill


def _middles(X: NDArray[Any], rows: Any) -> NDArray[np.floating]:
    """Return the fill value of each column of integers: bin 2, or the median."""
    low, high = check_spread(X)
    fill = np.full(X.shape[1], MIDDLE_BIN, np.result_type(X.dtype, np.float32))
    no_bins = (low < 0) | (low > MIDDLE_BIN) | (high < MIDDLE_BIN) | (high >= N_BINS)
    for j in np.flatnonzero(no_bins):
        fill[j] = np.median(X[:, j] if rows is None else X[rows, j])
    return fill


def check_missing(X: NDArray[Any], missing: str) -> None:
    """Raise if X contains NaN and ``missing="raise"``."""
    if missing == "raise" and has_nan(X):
        raise ValueError(
            "X contains NaN and missing='raise'. Fill the cells, or use "
            "missing='middle' (2 for columns of bins, the median for other columns)."
        )


def has_nan(X: NDArray[Any]) -> bool:
    """Return whether X contains NaN, checking a block of rows at a time."""
    if X.dtype.kind != "f":
        return False
    return any(np.isnan(X[rows]).any() for rows in row_blocks(*X.shape))


def as_floats(values: Any, name: str) -> NDArray[np.float64]:
    """Return a series, frame, array or list of numbers as float64, NaN if missing.

    Raises
    ------
    ValueError
        If the values are not numeric.
    """
    values = as_frame(values, name)
    if is_frame(values):
        check_columns_of_numbers(values, name)
    try:
        if is_frame(values):
            values = frame_to_array(values)
        elif hasattr(values, "to_frame"):
            values = frame_to_array(values.to_frame())[:, 0]
        array = np.asarray(values)
        texts = array.dtype == object and any(
            isinstance(v, _NO_NUMBERS) for v in array.flat
        )
        if array.dtype.kind not in "biufO" or texts:
            raise TypeError(f"could not convert {array.dtype if not texts else 'text'}")
        return array.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} must be numbers, or NaN: {error}.") from error


def require_target(y: Any, owner: Any, why: str = "") -> None:
    """Raise if an estimator that needs y gets None, or only NaN.

    Parameters
    ----------
    y : array-like or None
        None raises scikit-learn's usual message. An array of floats must contain a
        number that is not NaN. Other types are checked where they are read.
    owner : estimator
        The estimator that needs y.
    why : str, default=""
        End of the message: why y is needed, if a parameter decides it.
    """
    if y is None:
        kind = type(owner).__name__
        raise ValueError(
            f"This {kind} estimator requires y to be passed, but the target y is None."
            + (why and f" {why}")
        )
    if isinstance(y, np.ndarray) and y.dtype.kind == "f":
        check_known(y)


def check_known(y: NDArray[np.float64], name: str = "y") -> None:
    """Raise if all values of a target are NaN."""
    if len(y) and np.isnan(y).all():
        raise ValueError(
            f"{name} is NaN in all {len(y)} rows: nothing to learn or score. Live and "
            "'test' rows have no target yet; choose resolved eras or another target."
        )


def validate_target(y: Any, n_rows: int, *, name: str = "y") -> NDArray[np.float64]:
    """Return a target as float64; some values may be NaN, but not all.

    Raises
    ------
    ValueError
        If the length is wrong, all values are NaN, or one is infinite.
    """
    if y is None:
        raise ValueError(f"{name} is None; expected a target with one value per row.")
    y = as_floats(y, name)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or len(y) != n_rows:
        raise ValueError(
            f"{name} must have one value per row, shape ({n_rows},); got {y.shape}."
        )
    if np.isinf(y).any():
        raise ValueError(
            f"{name} contains infinity at row {int(np.isinf(y).argmax())}."
        )
    check_known(y, name)
    return np.asarray(y)


def target_names(y: Any) -> list[str] | None:
    """Return the names of targets: columns of a frame, or the name of a series.

    Returns
    -------
    list of str or None
        None if they have no names.
    """
    y = as_frame(y, "y")
    if is_frame(y):
        return [str(name) for name in column_names(y)]
    name = getattr(y, "name", None)
    return [str(name)] if name not in (None, "") else None


def check_weights(sample_weight: Any, n_rows: int) -> NDArray[np.float64] | None:
    """Return weights as float64, or None."""
    if sample_weight is None:
        return None
    weights = as_floats(sample_weight, "sample_weight")
    if weights.shape != (n_rows,):
        raise ValueError(
            f"sample_weight must have shape ({n_rows},), one weight per row; got "
            f"{weights.shape}."
        )
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise ValueError(
            "sample_weight must be finite and not negative, with at least one weight "
            "above zero."
        )
    largest = weights.max()
    if not _LEAST_WEIGHT <= largest <= _LARGEST_WEIGHT:
        raise ValueError(
            f"The largest sample_weight is {largest:.3g}; expected it to be from "
            f"{_LEAST_WEIGHT:g} to {_LARGEST_WEIGHT:g}, because weights are summed and "
            "multiplied. Multiply all weights by the same number."
        )
    return weights


def resolve_seed(random_state: Any) -> int:
    """Return a seed, without use of the global random generators."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(1 << 31))
    return int(random_state)


def resolve_generator(random_state: Any) -> np.random.Generator:
    """Return a random generator for any seed or generator that numpy accepts."""
    if isinstance(random_state, np.random.RandomState):  # numpy accepts it since 2.2
        random_state = resolve_seed(random_state)
    return np.random.default_rng(random_state)
