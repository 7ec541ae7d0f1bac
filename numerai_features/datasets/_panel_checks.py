"""What the parts of a panel must be: bins, sorted eras, names, targets, ids."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numerai_features._bins import MIDDLE_BIN, N_BINS
from numerai_features._eras import era_label


def check_bins(X: Any, n_features: int | None = None) -> NDArray[np.int8]:
    """Return X if it is a two-dimensional int8 array of bins."""
    if not isinstance(X, np.ndarray) or X.dtype != np.int8 or X.ndim != 2:
        got = f"{getattr(X, 'dtype', type(X).__name__)} of shape {np.shape(X)}"
        raise ValueError(
            f"X must be a two-dimensional int8 numpy array; got {got}. Whole numbers "
            f"can be cast by X.astype('int8'); fill NaN with the middle bin "
            f"{MIDDLE_BIN} first."
        )
    if 0 in X.shape or (n_features is not None and X.shape[1] != n_features):
        expected = "at least one" if n_features is None else n_features
        raise ValueError(
            f"X must have rows and {expected} features; got shape {X.shape}."
        )
    if X.view(np.uint8).max() >= N_BINS:  # one pass: negative bytes are large
        row, column = np.argwhere(X.view(np.uint8) >= N_BINS)[0]
        raise ValueError(
            f"X must hold bins 0 to {N_BINS - 1}; got {X[row, column]} in row {row}, "
            f"column {column}."
        )
    return X


def check_sorted(numbers: NDArray[np.int32]) -> None:
    """Raise if era numbers fall from one row to the next."""
    falls = numbers[1:] < numbers[:-1]
    if falls.any():
        row = int(np.argmax(falls)) + 1
        raise ValueError(
            f"eras must ascend; row {row} is of era {era_label(int(numbers[row]))!r}, "
            f"the row before of {era_label(int(numbers[row - 1]))!r}. Sort the rows by "
            "era (a stable sort keeps their order within an era)."
        )


def to_int32(numbers: NDArray[Any]) -> NDArray[np.int32]:
    """Return era numbers as int32; raise if they are too large."""
    limits = np.iinfo(np.int32)
    if len(numbers) and (numbers.min() < limits.min or numbers.max() > limits.max):
        raise ValueError(
            f"eras must be numbers of 32 bits; got {numbers.min()} to {numbers.max()}. "
            "Number the eras by week, not by date."
        )
    return numbers.astype(np.int32)


def to_era_numbers(eras: Any) -> NDArray[np.int32]:
    """Return whole numbers as int32, at least one-dimensional; labels are none."""
    numbers = np.asarray(eras)
    if numbers.dtype.kind not in "iu":
        raise ValueError(
            f"eras must be era numbers, as integers; got {numbers.dtype}. Numerai's "
            "labels are numbers: int('0574'); the live era is the largest int32."
        )
    return to_int32(np.atleast_1d(numbers))


def check_names(names: Sequence[str], length: int | None, what: str) -> list[str]:
    """Return a list of `length` (None: any) different names."""
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{what} must be a list of str; got {names!r}.")
    if length is not None and len(names) != length:
        raise ValueError(
            f"{what} has {len(names)} names for {length} columns; pass one a column."
        )
    if len(set(names)) < len(names):
        twice = next(n for i, n in enumerate(names) if n in names[:i])
        raise ValueError(f"{what} holds {twice!r} twice; names must be unique.")
    return list(names)


def check_info(info: dict[str, Any] | None) -> dict[str, Any]:
    """Return a copy of what JSON can hold."""
    info = {} if info is None else info
    try:
        json.dumps(info)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"info must hold what JSON can ({error}); turn it into str, int, float, "
            "list or dict first."
        ) from error
    return dict(info)


def check_targets(
    targets: ArrayLike | None, n_rows: int, names: list[str]
) -> NDArray[np.float32]:
    """Return the targets as float32 of shape (n_rows, n_targets)."""
    y = np.asarray(np.empty((n_rows, 0)) if targets is None else targets, np.float32)
    shape = y.shape
    y = y[:, None] if y.ndim == 1 else y
    if y.shape != (n_rows, len(names)):
        raise ValueError(
            f"targets must have shape ({n_rows}, {len(names)}), a row for each of X "
            f"and a column for each target name; got {shape}."
        )
    if np.isinf(y).any():
        row, column = np.argwhere(np.isinf(y))[0]
        raise ValueError(
            f"targets holds infinity in row {row} of {names[column]!r}; a target that "
            "is not known is NaN."
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
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise ValueError(f"ids must be strings ({error}). Use astype(str).") from error
    if not pa.types.is_string(ids.type) or ids.null_count or len(ids) != n_rows:
        raise ValueError(
            f"ids must be {n_rows} strings, one a row, none of them missing; got "
            f"{len(ids)} of type {ids.type}, {ids.null_count} missing."
        )
    return ids
