"""The folder that holds a panel: its format, and how it is written and read.

It holds ``features.npy`` (int8, rows x features, C order), ``targets.npy`` (float32,
rows x targets), ``eras.npy`` (int32 era numbers), ``ids.parquet`` (if the rows have
ids) and ``panel.json``, a sealed file with the checksums of the other files. The folder
appears complete or not at all, so that an incomplete one is never read. A reader checks
that no writer has replaced the folder meanwhile.
"""

from __future__ import annotations

import fnmatch
import json
import math
import os
import shutil
import time
import tokenize
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from numerai_features._names import near_names, some_names
from numerai_features._sealed import (
    SealError,
    begins_as_sealed,
    read_sealed,
    write_sealed,
)
from numerai_features._whole import is_changing, sweep, sync
from numerai_features.datasets._arguments import check_whole
from numerai_features.datasets._panel_checks import (
    check_info,
    check_names,
    check_sorted,
    to_id_array,
    to_int32,
)

T = TypeVar("T")
Shapes = dict[str, tuple[int, ...]]

BLOCK_BYTES = 8 << 20  # read or written at a time

_FORMAT_VERSION = 2
_MANIFEST = "panel.json"
_IDS = "ids.parquet"
_DTYPES: dict[str, Any] = {
    "features": np.int8,
    "targets": np.float32,
    "eras": np.int32,
}
_ARRAYS = frozenset(f"{name}.npy" for name in _DTYPES)
_FILES = _ARRAYS | {_MANIFEST, _IDS}
_MANAGERS = (".DS_Store", "._*", "Thumbs.db", "desktop.ini", ".nfs*")
_TRIES = 3
_MOMENTS = 100  # waits of 10 ms for a panel that is being replaced
_UNREADABLE = (  # numpy's errors for headers that it cannot read
    OSError, ValueError, TypeError, OverflowError, EOFError, SyntaxError,
    tokenize.TokenError,
)  # fmt: skip


class Source(NamedTuple):
    """The part of a folder's rows that a panel maps into memory."""

    path: Path
    start: int
    stop: int
    n_rows: int  # of the folder
    checksums: dict[str, int]

    def part(self, rows: slice) -> Source:
        """Return some of these rows."""
        start = self.start
        return self._replace(start=start + rows.start, stop=start + rows.stop)

    def read_ids(self) -> Any:
        """Return the ids of these rows as a pyarrow array, or None."""
        if _IDS not in self.checksums:
            return None
        import pyarrow as pa
        import pyarrow.parquet as pq

        with self._open(_IDS) as stream:
            try:
                column = pq.ParquetFile(stream).read(columns=["id"]).column("id")
                ids = to_id_array(column, self.n_rows)
            except (OSError, ValueError, KeyError, pa.ArrowException) as error:
                raise _damaged(self.path / _IDS, error) from error
        return ids[self.start : self.stop]

    def verify(self) -> None:
        """Compare all files with the checksums of the manifest."""
        self._check_same()
        for name in self.checksums:
            self._open(name).close()
        self._check_same()

    def _check_same(self) -> None:
        """Raise if another panel has replaced this one in its folder."""
        if _read_manifest(self.path)["checksums"] != self.checksums:
            raise ValueError(
                f"{self.path} holds another panel now than when this one was opened. "
                "Open it again with EraPanel.open."
            )

    def _open(self, name: str) -> IO[bytes]:
        """Open a file and check its bytes.

        The open file stays the one that was checked, even if the folder is replaced.
        """
        file, expected = self.path / name, self.checksums[name]
        stream = _with_patience(
            lambda: _require_file(file).open("rb"), self._check_same
        )
        found = _checksum(stream)
        if found != expected:
            stream.close()
            self._check_same()
            raise ValueError(
                f"{file} is damaged: its checksum is {found:08x}, but {_MANIFEST} says "
                f"{expected:08x}. Copy or write the panel again."
            )
        stream.seek(0)
        return stream


def open_folder(path: Path) -> tuple[dict[str, Any], dict[str, Any], Source]:
    """Return the memory-mapped arrays of a panel, its manifest and its source."""
    sweep(path)
    while True:
        wait = partial(_read_manifest, path)
        wait()
        try:
            held = (path / _MANIFEST).open("rb")
        except (FileNotFoundError, NotADirectoryError):
            continue
        with held:
            manifest = _read_manifest(path)
            problem = None
            try:
                arrays = _with_patience(partial(_open_arrays, path, manifest), wait)
            except (ValueError, FileNotFoundError) as error:
                problem = error
            # If another panel has replaced this one meanwhile, start again: the arrays,
            # or the problem, may come from a mix of both. Equal contents of the
            # manifest do not prove that nothing was replaced: a third panel, written
            # after the second, may equal the first. The open file proves it.
            if not _is_at(path / _MANIFEST, held):
                continue
        if problem is not None:
            raise problem
        n_rows = manifest["n_rows"]
        return arrays, manifest, Source(path, 0, n_rows, n_rows, manifest["checksums"])


def _is_at(file: Path, stream: IO[bytes]) -> bool:
    try:
        return os.path.samestat(os.stat(file), os.fstat(stream.fileno()))
    except (FileNotFoundError, NotADirectoryError):
        return False


def _with_patience(read: Callable[[], T], wait: Callable[[], object]) -> T:
    """Retry a read: a file may be missing for a moment while its folder is replaced."""
    for _ in range(_TRIES - 1):
        try:
            return read()
        except FileNotFoundError:
            wait()
    return read()


def array_shapes(
    n_rows: int, feature_names: Sequence[str], target_names: Sequence[str]
) -> Shapes:
    """Return the shape of each array of a panel."""
    return {
        "features": (n_rows, len(feature_names)),
        "targets": (n_rows, len(target_names)),
        "eras": (n_rows,),
    }


def may_replace(path: Path, *, overwrite: bool) -> Callable[[Path], None] | None:
    """Return a check for `whole_folder` that allows it to replace panels only."""
    return partial(_check_panel_alone, path) if overwrite else None


def _check_panel_alone(path: Path, found: Path) -> None:
    """Raise if a folder that is or was at `path` is neither a panel nor empty.

    Files that file managers and file systems leave in any folder are ignored.
    """
    try:
        with os.scandir(found) as entries:
            inside = {
                entry.name: entry.is_dir(follow_symlinks=False)
                for entry in entries
                if not any(fnmatch.fnmatchcase(entry.name, m) for m in _MANAGERS)
            }
    except FileNotFoundError:  # another writer is just replacing it
        return
    except NotADirectoryError as error:
        raise FileExistsError(
            f"{path} exists and is not a folder, so it is not overwritten. Pass "
            "another path, or remove it yourself."
        ) from error
    others = sorted(name for name in inside if name not in _FILES or inside[name])
    if others:
        raise FileExistsError(
            f"{path} holds files that are not a panel's, so it is not overwritten: "
            f"{some_names(others)}. Pass another path, or move them elsewhere."
        )
    if inside and not _is_ours(found / _MANIFEST) and found.exists():
        raise FileExistsError(
            f"{path} holds {some_names(sorted(inside))}, but no {_MANIFEST} that this "
            "library wrote, so it is not overwritten. Pass another path, or delete the "
            "folder yourself."
        )


def _is_ours(manifest: Path) -> bool:
    """Whether this library wrote a manifest; it may be damaged, or of format 1."""
    return begins_as_sealed(manifest) or _unsealed_version(manifest) is not None


def _unsealed_version(manifest: Path) -> Any:
    """Return the version of an unsealed manifest (format 1), else None."""
    try:
        record = json.loads(manifest.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return record.get("format_version") if isinstance(record, dict) else None


def check_space(folder: Path, path: Path, shapes: Shapes) -> None:
    """Raise if the disk lacks the space for a panel.

    The panel is written to `folder` and then moved to `path`. Without this check, a
    write to a memory-mapped file on a full disk would kill the process.
    """
    needed = sum(
        math.prod(shape) * np.dtype(_DTYPES[name]).itemsize
        for name, shape in shapes.items()
    )
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"The panel needs {needed / 1e9:.1f} GB, but {path.parent} has "
            f"{free / 1e9:.1f} GB left. Choose another path, fewer features, or "
            "every=4."
        )


def create_array(
    folder: Path | None, name: str, shape: tuple[int, ...]
) -> NDArray[Any]:
    """Make an array of a panel, in memory or mapped to a file."""
    if folder is None:
        return np.empty(shape, _DTYPES[name])
    file = folder / f"{name}.npy"
    array = np.lib.format.open_memmap(file, mode="w+", dtype=_DTYPES[name], shape=shape)
    _reserve(file)
    return array


def complete_folder(folder: Path, contents: dict[str, Any], ids: Any) -> dict[str, int]:
    """Add ids and manifest, sync all files to disk, and return their checksums."""
    if ids is not None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"id": ids}), folder / _IDS)
    checksums = {}
    for file in sorted(f for f in folder.iterdir() if f.name in _FILES):
        sync(file)
        with file.open("rb") as stream:
            checksums[file.name] = _checksum(stream)
    record = {"format_version": _FORMAT_VERSION, **contents, "checksums": checksums}
    write_sealed(folder / _MANIFEST, record, kind="panel")
    return checksums


def _reserve(file: Path) -> None:
    """Allocate the disk space of a file, if the system can."""
    if hasattr(os, "posix_fallocate"):
        with file.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, file.stat().st_size)


def _checksum(stream: IO[bytes]) -> int:
    """Return a file's CRC-32, which is four times as fast as BLAKE2 for 24 GB.

    It detects accidental damage. The manifest that holds it is sealed.
    """
    value = 0
    while chunk := stream.read(BLOCK_BYTES):
        value = zlib.crc32(chunk, value)
    return value


def _require_file(file: Path) -> Path:
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} is missing: the panel is incomplete. Copy or write it again."
        )
    return file


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / _MANIFEST
    missing = 0
    for _ in range(_MOMENTS):
        try:
            record, _payload = read_sealed(file, kind="panel", same_version=False)
        except (FileNotFoundError, NotADirectoryError):
            if is_changing(path):
                sweep(path)  # clean up if its writer was killed
                time.sleep(0.01)
                continue
            missing += 1
            if missing == _TRIES:
                break
            continue
        except SealError as error:
            version = _unsealed_version(file)
            if version is not None:
                _check_version(file, {"format_version": version})
            raise ValueError(f"{error} Copy or write the panel again.") from error
        _check_version(file, record)
        return _checked_record(file, record)
    beside = [other.parent.name for other in path.parent.glob(f"[!.]*/{_MANIFEST}")]
    raise FileNotFoundError(
        f"{path} is not a panel: it has no {_MANIFEST}.{near_names(path.name, beside)} "
        "read_numerai and EraPanel.save write panels."
    )


def _check_version(file: Path, record: Any) -> None:
    version = record.get("format_version") if isinstance(record, dict) else None
    if version == _FORMAT_VERSION:
        return
    newer = isinstance(version, int) and version > _FORMAT_VERSION
    advice = (
        "Upgrade with: pip install -U numerai-features"
        if newer
        else "Write the panel again."
    )
    raise ValueError(
        f"{file} has panel format {version!r}; this version reads format "
        f"{_FORMAT_VERSION}. {advice}"
    )


def _checked_record(file: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Return a checked manifest; it cannot name files outside the folder."""
    try:
        checksums = dict(record["checksums"])
        if checksums.keys() - {_IDS} != _ARRAYS:
            raise ValueError(f"checksums of {some_names(sorted(checksums))}")
        for name, value in checksums.items():
            check_whole(value, f"checksum of {name}", least=0)
        return {
            "n_rows": check_whole(record["n_rows"], "n_rows"),
            "feature_names": check_names(
                record["feature_names"], None, "feature_names"
            ),
            "target_names": check_names(record["target_names"], None, "target_names"),
            "info": check_info(record["info"]),
            "checksums": checksums,
        }
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(file, error) from error


def _open_arrays(path: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    n_rows = manifest["n_rows"]
    shapes = array_shapes(n_rows, manifest["feature_names"], manifest["target_names"])
    arrays = {name: _map_array(path, name, shapes[name]) for name in shapes}
    _check_eras(path / "eras.npy", arrays["eras"])
    if _IDS in manifest["checksums"]:
        _check_id_count(path / _IDS, n_rows)
    return arrays


def _map_array(path: Path, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Map a file copy-on-write, because torch warns about read-only arrays."""
    file = _require_file(path / f"{name}.npy")
    try:
        array = np.load(file, mmap_mode="c", allow_pickle=False)
    except FileNotFoundError:
        raise
    except _UNREADABLE as error:
        raise _damaged(file, error) from error
    if array.shape != shape or array.dtype != _DTYPES[name]:
        raise ValueError(
            f"{file} holds {array.dtype} of shape {array.shape}, but {_MANIFEST} "
            f"promises {np.dtype(_DTYPES[name])} of shape {shape}. Copy or write the "
            "panel again."
        )
    if not array.flags.c_contiguous:
        raise _damaged(file, ValueError("it is not in C order"))
    return np.asarray(array)


def _check_eras(file: Path, eras: NDArray[np.int32]) -> None:
    try:
        check_sorted(to_int32(eras))
    except ValueError as error:
        raise _damaged(file, error) from error


def _check_id_count(file: Path, n_rows: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    _require_file(file)
    try:
        found = pq.read_metadata(file).num_rows
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise _damaged(file, error) from error
    if found != n_rows:
        raise ValueError(
            f"{file} holds {found} ids, but the panel has {n_rows} rows. Copy or write "
            "the panel again."
        )


def _damaged(file: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{file} is truncated or damaged ({error}). Copy or write the panel again."
    )
