"""Read Numerai's parquet files into a panel, one batch of rows at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._bins import MIDDLE_BIN, N_BINS
from numerai_features._eras import EraIndex, encode_eras
from numerai_features._progress import progress
from numerai_features._validation import ERA_COLUMN, fill_missing, require_numbers
from numerai_features.datasets._arguments import (
    PathLike,
    check_flag,
    check_path,
    check_whole,
)
from numerai_features.datasets._metadata import NumeraiMetadata
from numerai_features.datasets._panel import EraPanel
from numerai_features.datasets._panel_checks import (
    check_info,
    repeated_ids,
    to_int32,
)
from numerai_features.datasets._panel_select import check_every, select_eras
from numerai_features.datasets._panel_writer import PanelWriter
from numerai_features.datasets._parquet_names import (
    check_files,
    choose_features,
    choose_targets,
    find_id_column,
    find_metadata,
    open_parquet,
    read_columns,
    tell_lost_ids,
)

_MOST_RUNS = 16  # above this, one copy by row index is faster than one copy per run
_PADDING = 64


def read_numerai(
    files: PathLike | Sequence[PathLike],
    path: PathLike | None = None,
    *,
    metadata: PathLike | NumeraiMetadata | None = None,
    features: str | Sequence[str] = "all",
    targets: Sequence[str] | None = None,
    eras: Iterable[Any] | None = None,
    every: int = 1,
    missing: str = "middle",
    overwrite: bool = False,
    info: dict[str, Any] | None = None,
    batch_rows: int = 8_192,
    verbose: bool = True,
) -> EraPanel:
    """Read Numerai's parquet files into a panel.

    Rows are copied from the files to the panel in batches, with one byte per cell. The
    memory needed is that of one batch (some 20 bytes per cell while it is decoded),
    plus some 130 bytes for each row of the files. The rows are sorted by era; within an
    era they keep the order of the files.

    Parameters
    ----------
    files : path or sequence of paths
        ``train.parquet``, ``validation.parquet``, ``live.parquet`` of any v5
        release, in any combination. Ids are read from the column ``id``; otherwise
        from the index that pandas wrote, whatever its name; otherwise from ``ID`` or
        ``Id``.
    path : path, default=None
        Folder to write the panel to; None keeps it in memory.
    metadata : path or NumeraiMetadata, default=None
        The ``features.json`` of the same release; None uses the one beside the first
        file.
    features : str or sequence of str, default="all"
        Name of a feature set (``"small"``, ``"medium"``, ``"all"``, ...), or
        feature names, in the order of the panel's columns.
    targets : sequence of str, default=None
        Target names; None reads all targets of the metadata that the files have. Any
        numeric column that is not a feature can be a target. If a file lacks a target,
        the target is NaN in the file's rows.
    eras : iterable of labels or numbers, default=None
        Eras to keep; None keeps all.
    every : int, default=1
        Keep every n-th of those eras, by position among the sorted eras of all
        files together, as in ``eras[::4]``.
    missing : {"middle", "raise"}, default="middle"
        How to handle missing feature values: replace them by the middle bin, 2, and
        count them in ``panel.info["n_missing"]``; or raise.
    overwrite : bool, default=False
        Whether to replace a panel at `path`. A folder with any files other than a
        panel's is never replaced.
    info : dict, default=None
        Additional information to store with the panel; anything that JSON can hold.
    batch_rows : int, default=8192
        Number of rows decoded at a time. Larger batches need more memory and are not
        faster.
    verbose : bool, default=True
        Whether to show a progress bar.

    Returns
    -------
    EraPanel
        Its ``info`` holds the names of the ``files``, ``n_missing``, and the
        ``feature_set`` if `features` is the name of one.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        If there is no such file, or it is a folder.
    FileExistsError
        If `path` exists and may not be overwritten.
    ValueError
        If a file is truncated, lacks a column, or holds a feature value other than
        0 to 4 or an infinite target; if an id occurs twice; if a name is unknown.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import pandas as pd
    >>> from numerai_features.datasets import read_numerai
    >>> rows = pd.DataFrame(
    ...     {
    ...         "era": ["0001", "0001", "0002"],
    ...         "feature_a": np.array([0, 4, 2], np.int8),
    ...         "target": np.array([0.25, 0.5, 0.75], np.float32),
    ...     },
    ...     index=pd.Index(["n1", "n2", "n3"], name="id"),
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rows.to_parquet(f"{folder}/train.parquet")
    ...     panel = read_numerai(
    ...         f"{folder}/train.parquet", features=["feature_a"], verbose=False
    ...     )
    >>> panel
    EraPanel(n_rows=3, n_features=1, eras='0001'..'0002' (2), targets=['target'])
    >>> panel.info
    {'files': ['train.parquet'], 'n_missing': 0}
    """
    paths = check_files(files)
    _check_options(missing, every, batch_rows, overwrite, verbose)
    path = None if path is None else check_path(path, "path")
    info = check_info(info)
    columns = {file: read_columns(file) for file in paths}
    known = find_metadata(metadata, paths[0], needed=isinstance(features, str))
    info |= {"files": [file.name for file in paths], "n_missing": 0}
    if isinstance(features, str):
        info["feature_set"] = features
    feature_names = choose_features(features, known, columns)
    target_names = choose_targets(targets, known, columns)
    with progress(hidden=not verbose, unit=" rows", desc="eras and ids") as bar:
        plan = _plan([_read_keys(file) for file in paths], eras, every)
        bar.reset(total=plan.n_rows)
        with PanelWriter(
            path,
            n_rows=plan.n_rows,
            feature_names=feature_names,
            target_names=target_names,
            overwrite=overwrite,
            info=info,
        ) as writer:
            _copy_rows(plan, writer, missing, batch_rows, bar)
            bar.set_description("checksums")
        bar.set_description("panel")
    return writer.panel


@dataclass(frozen=True)
class _Keys:
    """Era and id of each row of a file."""

    file: Path
    eras: EraIndex
    ids: Any  # pyarrow array of strings, or None
    id_column: str | None = None

    @property
    def n_rows(self) -> int:
        return self.eras.n_rows


@dataclass(frozen=True)
class _Plan:
    """The row of the panel for each row of the files.

    Attributes
    ----------
    keys : list of _Keys
    numbers : list of ndarray of shape (n_rows_of_file,), int32
        Era number of each row.
    places : list of ndarray of shape (n_rows_of_file,), int64
        Row of the panel for each row of a file; -1 for rows that are left out.
    n_rows : int
        Number of rows of the panel.
    """

    keys: list[_Keys]
    numbers: list[NDArray[np.int32]]
    places: list[NDArray[np.int64]]
    n_rows: int


def _check_options(
    missing: Any, every: Any, batch_rows: Any, overwrite: Any, verbose: Any
) -> None:
    if missing not in ("middle", "raise"):
        raise ValueError(f"missing must be 'middle' or 'raise'; got {missing!r}.")
    check_every(every)
    check_whole(batch_rows, "batch_rows")
    check_flag(overwrite, "overwrite")
    check_flag(verbose, "verbose")


def _read_keys(file: Path) -> _Keys:
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
    return _Keys(file, eras, ids, id_column)


def _plan(keys: list[_Keys], eras: Iterable[Any] | None, every: int) -> _Plan:
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
    return _Plan(keys, np.split(numbers, ends), np.split(places, ends), len(rows))


def _check_ids(keys: list[_Keys]) -> None:
    without = [key.file for key in keys if key.ids is None]
    if without and len(without) < len(keys):
        raise ValueError(
            f"{without[0]} has no ids, but other files do. Read files of one kind, or "
            "write this file again with its index 'id'."
        )


def _check_duplicates(keys: list[_Keys], rows: NDArray[np.intp]) -> None:
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


def _row_name(keys: list[_Keys], row: int) -> str:
    for key in keys:
        if row < key.n_rows:
            return f"row {row} of {key.file}"
        row -= key.n_rows
    raise IndexError(row)


def _copy_rows(
    plan: _Plan, writer: PanelWriter, missing: str, batch_rows: int, bar: Any
) -> None:
    # Without padding, columns a power of two apart would compete for few cache lines.
    n_features = len(writer.feature_names)
    scratch = np.empty((n_features, batch_rows + _PADDING), np.int8)
    for key, numbers, places in zip(plan.keys, plan.numbers, plan.places, strict=True):
        bar.set_description(key.file.name)
        for start, batch in _batches(key.file, places, writer, batch_rows):
            rows = slice(start, start + batch.num_rows)
            decoder = _Batch(batch, key.file, start, places[rows] >= 0)
            X, n_missing = decoder.features(writer.feature_names, scratch, missing)
            y = decoder.targets(writer.target_names)
            ids = None if key.ids is None else key.ids[rows]
            writer.info["n_missing"] += n_missing
            bar.update(_write(writer, places[rows], X, numbers[rows], y, ids))


def _batches(
    file: Path, places: NDArray[np.int64], writer: PanelWriter, batch_rows: int
) -> Iterator[tuple[int, Any]]:
    """Yield the first row and the data of each batch that has rows to keep."""
    with open_parquet(file) as parquet:
        there = set(parquet.schema_arrow.names)
        wanted = [*writer.feature_names, *writer.target_names]
        columns = [name for name in wanted if name in there]
        start = 0
        for group in range(parquet.num_row_groups):
            stop = start + parquet.metadata.row_group(group).num_rows
            if (places[start:stop] < 0).all():
                start = stop
                continue
            for batch in parquet.iter_batches(
                batch_size=batch_rows, row_groups=[group], columns=columns
            ):
                if (places[start : start + batch.num_rows] >= 0).any():
                    yield start, batch
                start += batch.num_rows


def _write(
    writer: PanelWriter,
    places: NDArray[np.int64],
    X: NDArray[np.int8],
    numbers: NDArray[np.int32],
    y: NDArray[np.float32],
    ids: Any,
) -> int:
    """Write a batch's rows to their places; return how many were kept."""
    import pyarrow as pa

    kept = np.flatnonzero(places >= 0)
    breaks = (np.diff(kept) != 1) | (np.diff(places[kept]) != 1)
    runs = np.split(kept, np.flatnonzero(breaks) + 1)
    if len(runs) > _MOST_RUNS:
        chosen = None if ids is None else ids.take(pa.array(kept))
        block = np.take(X.T, kept, axis=1).T
        writer.write(places[kept], block, numbers[kept], y[kept], chosen)
        return len(kept)
    for run in runs:
        rows = slice(int(run[0]), int(run[-1]) + 1)
        place = slice(int(places[run[0]]), int(places[run[-1]]) + 1)
        chosen = None if ids is None else ids[rows]
        writer.write(place, X[rows], numbers[rows], y[rows], chosen)
    return len(kept)


@dataclass(frozen=True)
class _Batch:
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
                if missing == "raise" and gaps.any():
                    self._raise_missing(name, gaps)
                n_missing += int(gaps[self.kept].sum())
        # One pass over all columns: as unsigned bytes, negative values are large.
        if out.view(np.uint8).max() >= N_BINS:
            j, row = np.argwhere(out.view(np.uint8) >= N_BINS)[0]
            self._raise_value(names[j], out[j], int(row))
        return out.T, n_missing

    def targets(self, names: list[str]) -> NDArray[np.float32]:
        """Return the targets; NaN for targets that the file lacks."""
        there = set(self.batch.schema.names)
        y = np.full((self.batch.num_rows, len(names)), np.nan, np.float32)
        for j, name in enumerate(names):
            if name not in there:
                continue
            y[:, j] = self._numbers(name, self.batch.column(name))
            if np.isinf(y[:, j]).any():
                row = int(np.argmax(np.isinf(y[:, j])))
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
        values = fill_missing(values, MIDDLE_BIN)
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
