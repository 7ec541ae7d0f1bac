"""Which rows of Numerai's files become which rows of a panel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._eras import EraIndex, encode_eras
from numerai_features._validation import ERA_COLUMN, require_numbers
from numerai_features.datasets._panel_checks import repeated_ids, to_int32
from numerai_features.datasets._panel_select import select_eras
from numerai_features.datasets._parquet_names import (
    find_id_column,
    open_parquet,
    tell_lost_ids,
)


@dataclass(frozen=True)
class Keys:
    """Era and id of each row of a file."""

    file: Path
    eras: EraIndex
    ids: Any  # pyarrow array of strings, or None
    id_column: str | None = None

    @property
    def n_rows(self) -> int:
        return self.eras.n_rows


@dataclass(frozen=True)
class Plan:
    """The row of the panel for each row of the files.

    Attributes
    ----------
    keys : list of Keys
    numbers : list of ndarray of shape (n_rows_of_file,), int32
        Era number of each row.
    places : list of ndarray of shape (n_rows_of_file,), int64
        Row of the panel for each row of a file; -1 for rows that are left out.
    n_rows : int
        Number of rows of the panel.
    """

    keys: list[Keys]
    numbers: list[NDArray[np.int32]]
    places: list[NDArray[np.int64]]
    n_rows: int


def read_keys(file: Path) -> Keys:
    import pyarrow as pa

    with open_parquet(file) as parquet:
        id_column = find_id_column(parquet.schema_arrow, file)
        wanted = [ERA_COLUMN] if id_column is None else [ERA_COLUMN, id_column]
        table = parquet.read(columns=wanted)
        table.validate(full=True)  # raises if text is not valid UTF-8
        ids = None
        if id_column is None:
            tell_lost_ids(parquet, file)
        else:
            ids = table.column(id_column).cast(pa.string()).combine_chunks()
    eras = encode_eras(table.column(ERA_COLUMN), name=f"the era column of {file}")
    if ids is not None and ids.null_count:
        raise ValueError(
            f"{file} has {ids.null_count} rows without an id. Drop those rows, or "
            "write the file without ids."
        )
    return Keys(file, eras, ids, id_column)


def make_plan(keys: list[Keys], eras: Iterable[Any] | None, every: int) -> Plan:
    """Choose the rows to keep, and sort them by era."""
    _check_ids(keys)
    # Labels of all files together, so that a label has one number in all of them.
    labels = np.concatenate([key.eras.labels for key in keys])
    index = require_numbers(encode_eras(labels), "the era columns")
    ends = np.cumsum([key.eras.n_eras for key in keys])[:-1]
    parts = zip(keys, np.split(index.codes, ends), strict=True)
    codes = np.concatenate([part[key.eras.codes] for key, part in parts])
    keep = np.zeros(index.n_eras, bool)
    keep[select_eras(index.numbers, eras, every=every)] = True
    rows = np.flatnonzero(keep[codes])
    if np.any(np.diff(codes[rows]) < 0):
        rows = rows[np.argsort(codes[rows], kind="stable")]
    _check_duplicates(keys, rows)
    places = np.full(len(codes), -1, np.int64)
    places[rows] = np.arange(len(rows))
    ends = np.cumsum([key.n_rows for key in keys])[:-1]
    numbers = to_int32(index.numbers)[codes]
    return Plan(keys, np.split(numbers, ends), np.split(places, ends), len(rows))


def _check_ids(keys: list[Keys]) -> None:
    without = [key.file for key in keys if key.ids is None]
    if without and len(without) < len(keys):
        raise ValueError(
            f"{without[0]} has no ids, but other files do. Read files of one kind, or "
            "write this file again with its index 'id'."
        )


def _check_duplicates(keys: list[Keys], rows: NDArray[np.intp]) -> None:
    """Raise if an id occurs twice among the rows that are kept."""
    if keys[0].ids is None:
        return
    import pyarrow as pa

    ids = pa.chunked_array([key.ids for key in keys])
    if len(rows) < len(ids):
        ids = ids.take(pa.array(rows))
    else:
        rows = np.sort(rows)
    repeated = repeated_ids(ids)
    if len(repeated):
        places = " and ".join(_row_name(keys, int(rows[row])) for row in repeated)
        own = keys[0].id_column
        told = "" if own == "id" else f" Ids are read from the column {own!r}."
        raise ValueError(
            f"The id {ids[int(repeated[0])].as_py()!r} occurs twice: in {places}."
            f"{told} Pass each file once, and only files of one release."
        )


def _row_name(keys: list[Keys], row: int) -> str:
    for key in keys:
        if row < key.n_rows:
            return f"row {row} of {key.file}"
        row -= key.n_rows
    raise IndexError(row)
