"""The cells of Numerai's files, one batch of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._bins import MIDDLE_BIN, N_BINS
from numerai_features.datasets._parquet_names import open_parquet

_MOST_RUNS = 16  # above this, one copy by row index is faster than one copy per run
_PADDING = 64


def batches(
    file: Path, kept: NDArray[np.bool_], wanted: Sequence[str], batch_rows: int
) -> Iterator[tuple[int, Any]]:
    """Yield the first row and the data of each batch that has rows to keep.

    Parameters
    ----------
    file : Path
    kept : ndarray of shape (n_rows_of_file,)
        Whether each row is kept.
    wanted : sequence of str
        Columns to read; those that the file lacks are left out.
    batch_rows : int
    """
    with open_parquet(file) as parquet:
        there = set(parquet.schema_arrow.names)
        columns = [name for name in wanted if name in there]
        start = 0
        for group in range(parquet.num_row_groups):
            stop = start + parquet.metadata.row_group(group).num_rows
            if not kept[start:stop].any():
                start = stop
                continue
            for batch in parquet.iter_batches(
                batch_size=batch_rows, row_groups=[group], columns=columns
            ):
                if kept[start : start + batch.num_rows].any():
                    yield start, batch
                start += batch.num_rows


def pieces(places: NDArray[np.int64]) -> Iterator[tuple[Any, Any]]:
    """Yield rows that are kept, and their places, as slices if these are few.

    Parameters
    ----------
    places : ndarray of shape (n,)
        The place of each row; -1 for rows that are left out.
    """
    kept = np.flatnonzero(places >= 0)
    if not len(kept):
        return
    breaks = (np.diff(kept) != 1) | (np.diff(places[kept]) != 1)
    runs = np.split(kept, np.flatnonzero(breaks) + 1)
    if len(runs) > _MOST_RUNS:
        yield kept, places[kept]
        return
    for run in runs:
        rows = slice(int(run[0]), int(run[-1]) + 1)
        yield rows, slice(int(places[run[0]]), int(places[run[-1]]) + 1)


def take_rows(X: NDArray[np.int8], rows: Any) -> NDArray[np.int8]:
    """Return some rows of a transposed array, transposed, too."""
    return X[rows] if isinstance(rows, slice) else np.take(X.T, rows, axis=1).T


def new_scratch(n_features: int, batch_rows: int) -> NDArray[np.int8]:
    """Return memory for the features of a batch, one row for each feature."""
    # Without padding, columns a power of two apart would compete for few cache lines.
    return np.empty((n_features, batch_rows + _PADDING), np.int8)


@dataclass(frozen=True)
class Batch:
    """Some rows of a file, and which of them are kept."""

    batch: Any
    file: Path
    start: int
    kept: NDArray[np.bool_]

    def features(
        self, names: list[str], scratch: NDArray[np.int8], missing: str
    ) -> tuple[NDArray[np.int8], int]:
        """Return the bins, a transposed view of `scratch`, and the number missing."""
        columns = dict(zip(self.batch.schema.names, self.batch.columns, strict=True))
        out = scratch[:, : self.batch.num_rows]
        n_missing = 0
        for j, name in enumerate(names):
            column = columns[name]
            if str(column.type) == "int8" and not column.null_count:
                out[j] = column.to_numpy()
            else:
                out[j], gaps = self._filled(name, column)
                gaps &= self.kept
                if missing == "raise" and gaps.any():
                    self._raise_missing(name, gaps)
                n_missing += int(gaps.sum())
        # One pass over all columns: as unsigned bytes, negative values are large.
        if out.view(np.uint8).max() >= N_BINS:
            bad = (out.view(np.uint8) >= N_BINS) & self.kept
            if bad.any():
                j, row = np.argwhere(bad)[0]
                self._raise_value(names[j], out[j], int(row))
        return out.T, n_missing

    def targets(self, names: list[str]) -> NDArray[np.float32]:
        """Return the targets; NaN in rows left out, and for what the file lacks."""
        there = set(self.batch.schema.names)
        y = np.full((self.batch.num_rows, len(names)), np.nan, np.float32)
        for j, name in enumerate(names):
            if name not in there:
                continue
            numbers = self._numbers(name, self.batch.column(name))
            with np.errstate(over="ignore"):
                y[:, j] = np.where(self.kept, numbers, np.nan)
            infinite = np.isinf(y[:, j])
            if infinite.any():
                row = int(np.argmax(infinite))
                raise ValueError(
                    f"{self.file} holds infinity in row {self.start + row} of target "
                    f"{name!r}; unknown targets must be NaN. Download the file again."
                )
        return y

    def _filled(
        self, name: str, column: Any
    ) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
        """Return a column's bins, with the middle bin for gaps, and a mask of gaps."""
        values = self._numbers(name, column)
        gaps = np.isnan(values)
        values = np.where(gaps | ~self.kept, MIDDLE_BIN, values)
        bad = (values < 0) | (values >= N_BINS) | (values != np.floor(values))
        if bad.any():
            self._raise_value(name, values, int(np.argmax(bad)))
        return values.astype(np.int8), gaps

    def _numbers(self, name: str, column: Any) -> NDArray[Any]:
        """Return a numeric column as floats, with NaN for null."""
        import pyarrow as pa

        if pa.types.is_null(column.type):
            return np.full(len(column), np.nan)
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            raise ValueError(
                f"{self.file} has column {name!r} of type {column.type}; expected "
                "numbers. Pass one of Numerai's own files."
            )
        values = column.to_numpy(zero_copy_only=False)
        return np.asarray(values, None if values.dtype.kind == "f" else np.float64)

    def _raise_value(self, name: str, values: NDArray[Any], row: int) -> None:
        raise ValueError(
            f"{self.file} holds {values[row]} in row {self.start + row} of feature "
            f"{name!r}; expected a bin from 0 to {N_BINS - 1}. Pass one of Numerai's "
            "own int8 files."
        )

    def _raise_missing(self, name: str, gaps: NDArray[np.bool_]) -> None:
        raise ValueError(
            f"{self.file} lacks feature {name!r} in row "
            f"{self.start + int(np.argmax(gaps))}, and missing='raise'. Pass "
            f"missing='middle' to fill missing values with bin {MIDDLE_BIN}."
        )
