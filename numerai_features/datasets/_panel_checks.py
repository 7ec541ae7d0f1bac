"""Checks of the parts of a panel: bins, sorted eras, names, targets, ids."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numerai_features._bins import MIDDLE_BIN, N_BINS
from numerai_features._blocks import row_blocks
from numerai_features._eras import LARGEST_ERA, LIVE, era_label
from numerai_features._validation import as_floats
from numerai_features.datasets._arguments import check_strings

_HASHED_ROWS = 1 << 18


FEATURE_DTYPES = ("int8", "uint8")


def check_dtype(dtype: Any, name: str) -> np.dtype[Any]:
    """Return the type of features if it is int8 or uint8."""
    if str(dtype) not in FEATURE_DTYPES:
        raise ValueError(f"{name} must be 'int8' or 'uint8'; got {dtype!r}.")
    return np.dtype(str(dtype))


def check_cells(
    X: Any, n_features: int | None = None, *, dtypes: Sequence[str] = FEATURE_DTYPES
) -> NDArray[Any]:
    """Return X if it is a two-dimensional array of bins, or a uint8 array."""
    if not isinstance(X, np.ndarray) or str(X.dtype) not in dtypes or X.ndim != 2:
        got = f"{getattr(X, 'dtype', type(X).__name__)} of shape {np.shape(X)}"
        advice = (
            f" Whole numbers can be cast by X.astype('int8'); fill NaN with the middle "
            f"bin {MIDDLE_BIN} first."
        )
        raise ValueError(
            f"X must be a two-dimensional {' or '.join(dtypes)} numpy array; got {got}."
            f"{advice if 'int8' in dtypes else ''}"
        )
    if 0 in X.shape or (n_features is not None and X.shape[1] != n_features):
        expected = "at least one" if n_features is None else n_features
        raise ValueError(
            f"X must have rows and {expected} features; got shape {X.shape}."
        )
    for block in row_blocks(len(X) if X.dtype == np.int8 else 0, X.shape[1]):
        rows = X[block].view(np.uint8)
        if rows.max() >= N_BINS:  # one pass: negative bytes are large
            row, column = np.argwhere(rows >= N_BINS)[0]
            row += block.start
            raise ValueError(
                f"X must hold bins 0 to {N_BINS - 1}; got {X[row, column]} in row "
                f"{row}, column {column}."
            )
    return X


def check_sorted(numbers: NDArray[np.int32]) -> None:
    """Raise if an era number is smaller than that of the row before."""
    falls = numbers[1:] < numbers[:-1]
    if falls.any():
        row = int(np.argmax(falls)) + 1
        raise ValueError(
            f"eras must ascend; row {row} has era {era_label(int(numbers[row]))!r}, "
            f"the row before has {era_label(int(numbers[row - 1]))!r}. Sort the rows "
            "by era (a stable sort keeps their order within an era)."
        )


def to_int32(numbers: NDArray[Any]) -> NDArray[np.int32]:
    """Return era numbers as int32; raise if they are out of range."""
    known = numbers[numbers != LIVE]
    if len(known) and (known.min() < -LARGEST_ERA or known.max() > LARGEST_ERA):
        raise ValueError(
            f"eras must be numbers up to {LARGEST_ERA}, or {LIVE} (live); got "
            f"{known.min()} to {known.max()}. Number the eras by week, not by date."
        )
    return numbers.astype(np.int32, copy=False)


def to_era_numbers(eras: Any) -> NDArray[np.int32]:
    """Return era numbers as int32, at least one-dimensional; raise for labels."""
    numbers = np.asarray(eras)
    if numbers.dtype.kind not in "iu":
        raise ValueError(
            f"eras must be era numbers, as integers; got {numbers.dtype}. Numerai's "
            "labels are numbers: int('0574'); the live era is the largest int32."
        )
    return to_int32(np.atleast_1d(numbers))


def check_names(given: Any, length: int | None, what: str) -> list[str]:
    """Return a list of `length` (None: any) different names."""
    names = check_strings(given, what)
    if length is not None and len(names) != length:
        raise ValueError(
            f"{what} has {len(names)} names for {length} columns; pass one per column."
        )
    if len(set(names)) < len(names):
        twice = next(n for i, n in enumerate(names) if n in names[:i])
        raise ValueError(f"{what} holds {twice!r} twice; names must be unique.")
    return names


def check_info(info: Any) -> dict[str, Any]:
    """Return a copy of the metadata, as JSON gives it back."""
    if info is None:
        return {}
    if not isinstance(info, Mapping):
        raise ValueError(f"info must be a dict; got {info!r}.")
    try:
        text = json.dumps(dict(info), allow_nan=False, default=_plain_number)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"info must hold values that JSON can hold ({error}); turn them into str, "
            "int, finite float, list or dict first."
        ) from error
    return json.loads(text)  # type: ignore[no-any-return]


def _plain_number(value: Any) -> Any:
    """Return a NumPy number as a Python number."""
    for kind, plain in ((np.bool_, bool), (np.integer, int), (np.floating, float)):
        if isinstance(value, kind):
            return plain(value)
    raise TypeError(f"JSON has no {type(value).__name__}, got {value!r}")


def check_targets(
    targets: ArrayLike | None, n_rows: int, names: list[str]
) -> NDArray[np.float32]:
    """Return the targets as float32 of shape (n_rows, n_targets)."""
    if targets is None:
        targets = np.empty((n_rows, 0), np.float32)
    elif not (isinstance(targets, np.ndarray) and targets.dtype.kind in "biuf"):
        targets = as_floats(targets, "targets")
    with np.errstate(over="ignore"):  # too large a number becomes infinity
        y = np.asarray(targets, np.float32)
    shape = y.shape
    y = y[:, None] if y.ndim == 1 else y
    if y.shape != (n_rows, len(names)):
        raise ValueError(
            f"targets must have shape ({n_rows}, {len(names)}), a row per row of X and "
            f"a column per target name; got {shape}."
        )
    for block in row_blocks(n_rows, len(names)):
        infinite = np.isinf(y[block])
        if infinite.any():
            row, column = np.argwhere(infinite)[0]
            raise ValueError(
                f"targets holds infinity in row {row + block.start} of "
                f"{names[column]!r}; an unknown target is NaN."
            )
    return y


def to_id_array(ids: Any, n_rows: int) -> Any:
    """Return ids as a pyarrow array of strings."""
    import pyarrow as pa

    try:
        if isinstance(ids, pa.ChunkedArray):
            ids = ids.combine_chunks()
        elif not isinstance(ids, pa.Array):
            ids = pa.array(np.asarray(ids, dtype=object), from_pandas=True)
        if not pa.types.is_integer(ids.type):
            ids = ids.cast(pa.string())
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise ValueError(f"ids must be strings ({error}). Use astype(str).") from error
    if not pa.types.is_string(ids.type) or ids.null_count or len(ids) != n_rows:
        raise ValueError(
            f"ids must be {n_rows} strings, one per row, none of them missing; got "
            f"{len(ids)} of type {ids.type}, {ids.null_count} missing."
        )
    return ids


def check_unique(ids: Any) -> None:
    """Raise if an id is repeated: rows are looked up by id.

    It takes a second for four million rows, and 16 bytes per row.
    """
    repeated = repeated_ids(ids)
    if len(repeated):
        raise ValueError(
            f"ids holds {ids[int(repeated[0])].as_py()!r} twice, in rows "
            f"{repeated[0]} and {repeated[1]}. Ids must be unique; drop the "
            "repeated rows."
        )


def repeated_ids(ids: Any) -> NDArray[np.intp]:
    """Return the first two rows of a repeated id; an empty array if there is none."""
    # Sorted hashes: a table of millions of strings would need far more memory.
    hashes = _hashes(ids)
    ordered = np.sort(hashes)
    again = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(again) == 0:
        return np.empty(0, np.intp)
    suspects = np.flatnonzero(np.isin(hashes, again, kind="sort"))
    rows_of: dict[str, list[int]] = {}
    for row in suspects:
        rows = rows_of.setdefault(ids[int(row)].as_py(), [])
        rows.append(int(row))
        if len(rows) == 2:
            return np.array(rows, np.intp)
    return np.empty(0, np.intp)


def _hashes(ids: Any) -> NDArray[np.uint64]:
    import pandas as pd

    out = np.empty(len(ids), np.uint64)
    for start in range(0, len(ids), _HASHED_ROWS):
        block = ids[start : start + _HASHED_ROWS].to_numpy(zero_copy_only=False)
        out[start : start + len(block)] = pd.util.hash_array(
            np.asarray(block, object), categorize=False
        )
    return out
