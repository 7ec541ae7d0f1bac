"""Read the eras of Numerai's files, without their features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._eras import encode_eras
from numerai_features._validation import ERA_COLUMN, require_numbers
from numerai_features.datasets._arguments import PathLike
from numerai_features.datasets._panel_checks import to_int32
from numerai_features.datasets._panel_select import select_eras
from numerai_features.datasets._parquet_names import find_id_column, open_parquet


def read_eras(
    files: Sequence[PathLike], target: str, every: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the eras that `read_numerai` would keep, each once.

    Parameters
    ----------
    files : sequence of paths
    target : str
    every : int
        Keep every n-th era.

    Returns
    -------
    eras : ndarray of shape (n_eras,)
        Their numbers, as in a panel.
    known : ndarray of shape (n_eras,), float32
        0 if the target of any row of the era is known, else NaN.
    """
    parts = [_read_file(Path(file), target) for file in files]
    labels = np.concatenate([labels for labels, _ in parts])
    index = require_numbers(encode_eras(labels), "the era columns")
    known = np.full(index.n_eras, np.nan, np.float32)
    known[index.codes[np.concatenate([known for _, known in parts])]] = 0
    kept = select_eras(index.numbers, None, every=every)
    return to_int32(index.numbers)[kept], known[kept]


def read_ids(files: Sequence[PathLike]) -> tuple[NDArray[np.int32], Any]:
    """Return the era number and the id of each row of the files.

    Parameters
    ----------
    files : sequence of paths

    Returns
    -------
    eras : ndarray of shape (n_rows,)
        Their numbers, as in a panel.
    ids : pyarrow array of strings

    Raises
    ------
    ValueError
        If a file has no ids.
    """
    import pyarrow as pa

    indexes, ids = [], []
    for file in map(Path, files):
        with open_parquet(file) as parquet:
            column = find_id_column(parquet.schema_arrow, file)
            if column is None:
                raise ValueError(
                    f"{file} has no ids, so nothing can be matched to its rows by id. "
                    "Write it with an index, or a column, 'id'."
                )
            table = parquet.read(columns=[ERA_COLUMN, column])
            table.validate(full=True)
            ids.append(table.column(column).cast(pa.string()).combine_chunks())
        name = f"the era column of {file}"
        indexes.append(encode_eras(table.column(ERA_COLUMN), name=name))
    # Labels of all files together, so that a label has one number in all of them.
    labels = np.concatenate([index.labels for index in indexes])
    numbers = require_numbers(encode_eras(labels), "the era columns").row_numbers
    ends = np.cumsum([index.n_eras for index in indexes])[:-1]
    parts = zip(np.split(to_int32(numbers), ends), indexes, strict=True)
    return np.concatenate([n[index.codes] for n, index in parts]), pa.concat_arrays(ids)


def _read_file(file: Path, target: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return a file's era labels, and a mask of eras with a known target."""
    import pyarrow.compute as pc

    with open_parquet(file) as parquet:
        names = [ERA_COLUMN, target]
        there = [name for name in names if name in parquet.schema_arrow.names]
        table = parquet.read(columns=there)
        table.validate(full=True)
    index = encode_eras(table.column(ERA_COLUMN), name=f"the era column of {file}")
    known = np.zeros(index.n_eras, bool)
    if target in there:
        values = table.column(target)
        rows = pc.is_valid(values).to_numpy()
        if str(values.type) in ("float", "double"):
            rows &= ~np.isnan(values.to_numpy())
        known[index.codes[rows]] = True
    return index.labels, known
