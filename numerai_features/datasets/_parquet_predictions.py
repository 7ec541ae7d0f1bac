"""Read one model's predictions from parquet files, such as Numerai's benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._names import near_names, some_names
from numerai_features._validation import ERA_COLUMN
from numerai_features.datasets._panel_checks import repeated_ids
from numerai_features.datasets._parquet_names import find_id_column, open_parquet

_NOT_PREDICTIONS = (ERA_COLUMN, "data_type")


@dataclass(frozen=True, eq=False)
class Predictions:
    """One model's predictions, by id.

    Attributes
    ----------
    ids : pyarrow array of strings
        Each id occurs once.
    values : ndarray of shape (n_ids,)
        NaN where the model has no prediction.
    """

    ids: Any
    values: NDArray[np.float64]

    def at(self, ids: Any) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Return whether each id is known, and its prediction; NaN if there is none.

        Parameters
        ----------
        ids : pyarrow array of strings
        """
        import pyarrow.compute as pc

        found = pc.index_in(ids, value_set=self.ids)
        there = pc.is_valid(found).to_numpy(zero_copy_only=False)
        values = np.full(len(ids), np.nan)
        values[there] = self.values[pc.drop_null(found).to_numpy()]
        return there, values


def choose_column(files: Sequence[Path], column: str | None, key: str) -> str:
    """Return the name of the column of predictions, which all files must have.

    Parameters
    ----------
    files : sequence of pathlib.Path
        Existing files, at least one.
    column : str or None
        The column that the user has chosen; None if each file has only one.
    key : str
        The name, in messages, of the setting that chooses it.

    Raises
    ------
    ValueError
        If a file has no ids, lacks the column, or its column holds no numbers; or if no
        column is chosen and a file has several.
    """
    for file in files:
        kinds = _prediction_columns(file)
        if column is None and len(kinds) != 1:
            raise ValueError(
                f"{file} has {len(kinds)} columns of predictions, besides id, era and "
                f"data_type: {some_names(list(kinds)) or 'none'}. Choose one with "
                f"{key}."
            )
        column = next(iter(kinds)) if column is None else column
        if column not in kinds:
            raise ValueError(
                f"{column!r} is no column of predictions of {file}."
                f"{near_names(column, kinds)} There are {len(kinds)}: "
                f"{some_names(list(kinds)) or 'none'}."
            )
        if not _is_number(kinds[column]):
            raise ValueError(
                f"The column {column!r} of {file} has the type {kinds[column]}; "
                "expected numbers, one prediction per row."
            )
    return str(column)


def read_predictions(files: Sequence[Path], column: str, name: str) -> Predictions:
    """Read a column of predictions and its ids from several files.

    Parameters
    ----------
    files : sequence of pathlib.Path
    column : str
        What `choose_column` returns.
    name : str
        The name of the predictions in messages.

    Raises
    ------
    ValueError
        If an id is missing or occurs twice, or a prediction is infinite.
    """
    import pyarrow as pa

    parts = [_read_file(file, column) for file in files]
    ids = pa.concat_arrays([ids for ids, _ in parts])
    values = np.concatenate([values for _, values in parts])
    repeated = repeated_ids(ids)
    if len(repeated):
        raise ValueError(
            f"The id {ids[int(repeated[0])].as_py()!r} occurs twice in {name} "
            f"({some_names([str(file) for file in files])}). Keep one row for each id."
        )
    infinite = np.isinf(values)
    if infinite.any():
        first = ids[int(infinite.argmax())].as_py()
        raise ValueError(
            f"The column {column!r} of {name} is infinite in {int(infinite.sum())} "
            f"rows; the first has the id {first!r}. Set such predictions to NaN."
        )
    return Predictions(ids, values)


def _prediction_columns(file: Path) -> dict[str, Any]:
    """Return the columns that may be predictions, with their types."""
    with open_parquet(file) as parquet:
        schema = parquet.schema_arrow
        own = (*_NOT_PREDICTIONS, _id_column(schema, file))
    return {
        field.name: field.type
        for field in schema
        if field.name not in own and not field.name.startswith("__index_level_")
    }


def _id_column(schema: Any, file: Path) -> str:
    column = find_id_column(schema, file)
    if column is None:
        raise ValueError(
            f"{file} has no ids, but predictions are matched to rows by id. Write it "
            "with an index, or a column, 'id'."
        )
    return column


def _is_number(kind: Any) -> bool:
    import pyarrow.types as kinds

    checks = (kinds.is_floating, kinds.is_integer, kinds.is_decimal)
    return any(is_a(kind) for is_a in checks)


def _read_file(file: Path, column: str) -> tuple[Any, NDArray[np.float64]]:
    import pyarrow as pa

    with open_parquet(file) as parquet:
        id_column = _id_column(parquet.schema_arrow, file)
        table = parquet.read(columns=[id_column, column])
        table.validate(full=True)  # raises if text is not valid UTF-8
        ids = table.column(id_column).cast(pa.string()).combine_chunks()
        # not safe: whole numbers above 2 ** 53 are rounded
        values = table.column(column).cast(pa.float64(), safe=False).to_numpy()
    if ids.null_count:
        raise ValueError(
            f"{file} has {ids.null_count} rows without an id. Drop those rows."
        )
    return ids, values
