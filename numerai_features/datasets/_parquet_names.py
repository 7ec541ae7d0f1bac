"""Column names of Numerai's files: check them, and choose features and targets."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numerai_features._names import near_names, some_names
from numerai_features._validation import ERA_COLUMN
from numerai_features._warn import warn
from numerai_features.datasets._arguments import (
    PathLike,
    check_path,
    check_strings,
    told,
)
from numerai_features.datasets._metadata import NumeraiMetadata, check_known

_ID, _UNNAMED = "id", "__index_level_0__"
_NOT_NUMBERS = (ERA_COLUMN, "data_type")  # the other columns of Numerai's files
_OF_TABLES = ("columns", "column_names", "collect_schema")
_NUMERAIS = re.compile(
    r"((train|validation|live)(_benchmark_models)?|meta_model)\.parquet"
)


def check_files(files: Any) -> list[Path]:
    """Return paths of parquet files; raise if one is missing or is passed twice."""
    if isinstance(files, str | os.PathLike):
        files = [files]
    # Look at the class: a lazy frame warns if its own columns are accessed.
    if any(hasattr(type(files), part) for part in _OF_TABLES):
        raise TypeError(
            f"files must be a path or a list of paths; got {told(files)}. Write the "
            "rows to a file first (to_parquet, or sink_parquet of a lazy frame), or "
            "make an EraPanel of them."
        )
    if not isinstance(files, Iterable) or isinstance(files, bytes):
        raise TypeError(f"files must be a path or a list of paths; got {told(files)}.")
    paths = [check_path(file, "files") for file in files]
    if not paths:
        raise ValueError("files is empty; pass the path of at least one parquet file.")
    if len({path.absolute() for path in paths}) < len(paths):
        names = ", ".join(map(str, paths))
        raise ValueError(f"files holds a file twice: {names}. Pass each file once.")
    for path in paths:
        check_file(path)
    return paths


def check_file(path: Path) -> None:
    """Raise if there is no such file, and suggest similar names that exist."""
    if path.is_dir():
        inside = sorted(file.name for file in path.glob("*.parquet"))
        advice = f"Pass one or more of its files: {some_names(inside)}."
        raise IsADirectoryError(
            f"{path} is a folder; expected a file. "
            f"{advice if inside else 'It contains no parquet file.'}"
        )
    if not path.is_file():
        near = near_names(path.name, [p.name for p in path.parent.glob("*")])
        if not near and _NUMERAIS.fullmatch(path.name):
            near = " `numerai-features download` gets Numerai's files."
        raise FileNotFoundError(f"There is no file {path}.{near}")


def find_id_column(schema: Any, file: Path) -> str | None:
    """Return the name of the id column, or None.

    It is the column ``id``; otherwise the index that pandas wrote; otherwise a column
    whose name is ``id`` in other case, such as ``ID``.
    """
    import pyarrow.types as kinds

    if _ID in schema.names:
        return _ID
    written = (schema.pandas_metadata or {}).get("index_columns", [_UNNAMED])
    # pandas stores a default index as a dict of its bounds; it has no ids.
    index = [name for name in written if isinstance(name, str) and name != ERA_COLUMN]
    index = [name for name in index if name in schema.names]
    # Numbers and dates are no ids: numbers count rows, and dates repeat.
    counts = (kinds.is_temporal, kinds.is_integer, kinds.is_floating)
    index = [
        name
        for name in index
        if name.lower() == _ID
        or not any(is_a(schema.field(name).type) for is_a in counts)
    ]
    found = index or [name for name in schema.names if name.lower() == _ID]
    if len(found) > 1:
        what = "an index of " if index else ""
        raise ValueError(
            f"{file} has {what}{len(found)} columns, {some_names(found)}, and it is "
            f"not clear which of them is the id. Rename the id column {_ID!r}."
        )
    return found[0] if found else None


def tell_lost_ids(parquet: Any, file: Path) -> None:
    """Warn about each column that may hold ids, in a file without an id column.

    A text column whose values all differ may hold ids. It is not read as ids, because
    it may hold anything else; the warning tells the user how to have it read.
    """
    import pyarrow.compute as pc
    import pyarrow.types as kinds

    texts = (kinds.is_string, kinds.is_large_string, kinds.is_string_view)
    for field in parquet.schema_arrow:
        if field.name in _NOT_NUMBERS or not any(is_a(field.type) for is_a in texts):
            continue
        column = parquet.read(columns=[field.name]).column(0)
        n_rows = len(column) - column.null_count
        if n_rows == len(column) > 1 and pc.count_distinct(column).as_py() == n_rows:
            warn(
                f"{file} has no ids: its column {field.name!r}, whose values all "
                f"differ, is not read. Rename it {_ID!r} if it holds ids.",
            )


@contextmanager
def open_parquet(file: Path) -> Iterator[Any]:
    """Open a parquet file; errors while it is read name the file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Mapped, so that the compressed pages need no memory of this process.
        with pq.ParquetFile(
            file, memory_map=True, page_checksum_verification=True
        ) as parquet:
            yield parquet
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{file} is not a parquet file, or is truncated or damaged ({error}). "
            "Download it again."
        ) from error


def read_columns(file: Path) -> list[str]:
    """Return the names of a file's columns; raise if it has no column ``era``."""
    with open_parquet(file) as parquet:
        names = list(parquet.schema_arrow.names)
    if ERA_COLUMN not in names:
        raise ValueError(
            f"{file} has no column {ERA_COLUMN!r}.{near_names(ERA_COLUMN, names)} "
            "Expected one of Numerai's train, validation or live files."
        )
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(f"{file} has two columns {twice!r}. Download it again.")
    return names


def find_metadata(
    metadata: PathLike | NumeraiMetadata | None, file: Path, *, needed: bool
) -> NumeraiMetadata | None:
    """Return the given metadata, or read those beside the file; None if not needed."""
    if isinstance(metadata, NumeraiMetadata):
        return metadata
    if metadata is not None:
        return NumeraiMetadata.read(check_path(metadata, "metadata"))
    path = file.parent / "features.json"
    return NumeraiMetadata.read(path) if needed or path.exists() else None


def choose_features(
    features: str | Sequence[str],
    metadata: NumeraiMetadata | None,
    columns: dict[Path, list[str]],
) -> list[str]:
    """Return the features of a set, or the named ones; raise if a file lacks one."""
    if isinstance(features, str) and metadata is not None:
        names = metadata.features(features)
    else:
        names = check_strings(features, "features")
    if not names:
        raise ValueError("features is empty; name a set or at least one feature.")
    for file, there in columns.items():
        check_known(names, there, what=f"is no column of {file}")
    return names


def choose_targets(
    targets: Sequence[str] | None,
    metadata: NumeraiMetadata | None,
    columns: dict[Path, list[str]],
) -> list[str]:
    """Return all targets, or the named ones; raise if no file has one of them."""
    if targets is None:
        return _own_targets(metadata, columns)
    targets = check_strings(targets, "targets")
    possible = possible_targets(metadata, columns)
    check_known(targets, possible, what="is no target of these files")
    return targets


def possible_targets(
    metadata: NumeraiMetadata | None, columns: dict[Path, list[str]]
) -> list[str]:
    """Return the columns that can be targets: Numerai's, then the user's."""
    features = set()
    if metadata is not None:
        features = {name for names in metadata.feature_sets.values() for name in names}
    theirs = [
        name
        for name in _all_columns(columns)
        if name not in features
        and name not in _NOT_NUMBERS
        and name.lower() != _ID
        and not name.startswith(("feature_", "__index_level_"))
    ]
    return list(dict.fromkeys([*_own_targets(metadata, columns), *theirs]))


def _own_targets(
    metadata: NumeraiMetadata | None, columns: dict[Path, list[str]]
) -> list[str]:
    """Return Numerai's targets that the files have."""
    there = _all_columns(columns)
    if metadata is not None:
        return [name for name in metadata.targets if name in set(there)]
    return [name for name in there if name.split("_")[0] == "target"]


def _all_columns(columns: dict[Path, list[str]]) -> list[str]:
    return list(dict.fromkeys(name for names in columns.values() for name in names))
