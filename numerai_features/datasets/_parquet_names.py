"""What Numerai's files name: their columns, and those that were asked for."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numerai_features._names import near_names, some_names
from numerai_features._validation import ERA_COLUMN
from numerai_features.datasets._arguments import (
    PathLike,
    check_path,
    check_strings,
    told,
)
from numerai_features.datasets._metadata import NumeraiMetadata, check_known

_ID, _UNNAMED = "id", "__index_level_0__"
_NOT_NUMBERS = (ERA_COLUMN, "data_type")  # what else Numerai's files have
_OF_TABLES = ("columns", "column_names", "collect_schema")


def check_files(files: Any) -> list[Path]:
    """Return paths of parquet files that are there, none of them twice."""
    if isinstance(files, str | os.PathLike):
        files = [files]
    # of the class, for a lazy frame warns when it is asked for its columns
    if any(hasattr(type(files), part) for part in _OF_TABLES):
        raise TypeError(
            f"files must be a path or a list of paths; got {told(files)}. Rows that "
            "are not in a file are written to one first (to_parquet, or a lazy "
            "frame's sink_parquet), or become an EraPanel."
        )
    if not isinstance(files, Iterable) or isinstance(files, bytes):
        raise TypeError(f"files must be a path or a list of paths; got {told(files)}.")
    paths = [check_path(file, "files") for file in files]
    if not paths:
        raise ValueError("files is empty; pass the path of at least one parquet file.")
    if len({path.absolute() for path in paths}) < len(paths):
        names = ", ".join(map(str, paths))
        raise ValueError(f"files holds a file twice: {names}. Pass each once.")
    for path in paths:
        check_file(path)
    return paths


def check_file(path: Path) -> None:
    """Raise if there is no such file, and suggest others that are there."""
    if path.is_dir():
        inside = sorted(file.name for file in path.glob("*.parquet"))
        advice = f"Pass one or more of those in it: {some_names(inside)}."
        raise IsADirectoryError(
            f"{path} is a folder; expected a file. "
            f"{advice if inside else 'It has no parquet file in it.'}"
        )
    if not path.is_file():
        near = near_names(path.name, [p.name for p in path.parent.glob("*")])
        raise FileNotFoundError(f"There is no file {path}.{near}")


def find_id_column(schema: Any, file: Path) -> str | None:
    """Return the column of ids: ``id``, else the index that pandas wrote, if any.

    Last comes ``id`` in other letters, as in ``ID``.
    """
    import pyarrow.types as kinds

    if _ID in schema.names:
        return _ID
    written = (schema.pandas_metadata or {}).get("index_columns", [_UNNAMED])
    # pandas keeps a default index as a dict of its bounds: these are no ids
    index = [name for name in written if isinstance(name, str) and name != ERA_COLUMN]
    index = [name for name in index if name in schema.names]
    # Numbers count the rows of some table, and dates repeat.
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
            f"{file} has {what}{len(found)} columns, {some_names(found)}, and "
            f"nobody knows which of them is the id. Name it {_ID!r}."
        )
    return found[0] if found else None


def tell_lost_ids(parquet: Any, file: Path) -> None:
    """Warn of a column that may be ids, in a file that has no others.

    A column of which each text is another one is not taken for ids by any name, and
    it is not lost without a word.
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
            warnings.warn(
                f"{file} has no ids: its column {field.name!r}, of which each text is "
                f"another one, is not read. Rename it {_ID!r} if it holds ids.",
                UserWarning,
                stacklevel=4,
            )


@contextmanager
def open_parquet(file: Path) -> Iterator[Any]:
    """Open a parquet file; what goes wrong in reading it is told of the file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Mapped, so that the compressed pages are no memory of ours.
        with pq.ParquetFile(
            file, memory_map=True, page_checksum_verification=True
        ) as parquet:
            yield parquet
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{file} is no parquet file, or cut short or damaged ({error}). Download "
            "it again."
        ) from error


def read_columns(file: Path) -> list[str]:
    """Return the names of a file's columns, one of which is the era."""
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
    """Return what came, else what is beside the file; None if it is not needed."""
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
    """Return the features of a set, or those named, if each file has them."""
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
    """Return all targets, or those named, if one of the files has them."""
    if targets is None:
        return _own_targets(metadata, columns)
    targets = check_strings(targets, "targets")
    possible = possible_targets(metadata, columns)
    check_known(targets, possible, what="is no target of these files")
    return targets


def possible_targets(
    metadata: NumeraiMetadata | None, columns: dict[Path, list[str]]
) -> list[str]:
    """Return the columns that may be named as targets: Numerai's, then the user's."""
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
    """Return the targets of Numerai's that the files have."""
    there = _all_columns(columns)
    if metadata is not None:
        return [name for name in metadata.targets if name in set(there)]
    return [name for name in there if name.split("_")[0] == "target"]


def _all_columns(columns: dict[Path, list[str]]) -> list[str]:
    return list(dict.fromkeys(name for names in columns.values() for name in names))
