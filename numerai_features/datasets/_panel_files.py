"""The folder that holds a panel: its form, and how it is written and read.

It holds ``features.npy`` (int8, rows x features, C order), ``targets.npy`` (float32,
rows x targets), ``eras.npy`` (int32 era numbers), ``ids.parquet`` (where the rows
have ids) and ``panel.json``, which is written last. A folder is written under a
temporary name and renamed when it is complete, so that a half-written one is never
read.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numerai_features import __version__
from numerai_features.datasets._metadata import near_names
from numerai_features.datasets._panel_checks import to_id_array

PathLike = str | os.PathLike[str]
Shapes = dict[str, tuple[int, ...]]

BLOCK_BYTES = 8 << 20  # read or written at a time

_FORMAT_VERSION = 1
_MANIFEST = "panel.json"
_MANIFEST_KEYS = (
    "n_rows",
    "has_ids",
    "feature_names",
    "target_names",
    "info",
    "checksums",
)
_IDS = "ids.parquet"
_DTYPES: dict[str, Any] = {
    "features": np.int8,
    "targets": np.float32,
    "eras": np.int32,
}


class Source(NamedTuple):
    """The rows of a folder that a panel maps into memory."""

    path: Path
    start: int
    stop: int
    has_ids: bool
    checksums: dict[str, int]

    def part(self, rows: slice) -> Source:
        """Return some of these rows."""
        start = self.start
        return self._replace(start=start + rows.start, stop=start + rows.stop)

    def read_ids(self) -> Any:
        """Return the ids of these rows as a pyarrow array, or None."""
        if not self.has_ids:
            return None
        import pyarrow as pa
        import pyarrow.parquet as pq

        file = _require_file(self.path / _IDS)
        try:
            column = pq.read_table(file, columns=["id"]).column("id")
        except (OSError, pa.ArrowException) as error:
            raise _damaged(file, error) from error
        return to_id_array(column, len(column))[self.start : self.stop]

    def verify(self) -> None:
        """Compare all files with the checksums of the manifest."""
        for name, expected in self.checksums.items():
            file = _require_file(self.path / name)
            found = _checksum(file)
            if found != expected:
                raise ValueError(
                    f"{file} is damaged: its checksum is {found:08x}, {_MANIFEST} says "
                    f"{expected:08x}. Write the panel again."
                )


def open_folder(path: Path) -> tuple[dict[str, Any], dict[str, Any], Source]:
    """Return the mapped arrays of a panel, its manifest, and where it lies."""
    manifest = _read_manifest(path)
    n_rows, has_ids = manifest["n_rows"], manifest["has_ids"]
    shapes = array_shapes(n_rows, manifest["feature_names"], manifest["target_names"])
    arrays = {name: _map_array(path, name, shapes[name]) for name in shapes}
    if has_ids:
        _require_file(path / _IDS)
    return arrays, manifest, Source(path, 0, n_rows, has_ids, manifest["checksums"])


def array_shapes(
    n_rows: int, feature_names: Sequence[str], target_names: Sequence[str]
) -> Shapes:
    """Return the shape of each array of a panel."""
    return {
        "features": (n_rows, len(feature_names)),
        "targets": (n_rows, len(target_names)),
        "eras": (n_rows,),
    }


def create_folder(path: Path, *, overwrite: bool) -> Path:
    """Make the folder that will be renamed to `path`, if `path` may be taken."""
    _check_free(path, overwrite)
    folder = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    # A killed process of the same number may have left one.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def check_space(folder: Path, shapes: Shapes) -> None:
    """Raise if the disk is too full: writing to a map there kills the process."""
    needed = sum(
        math.prod(shape) * np.dtype(_DTYPES[name]).itemsize
        for name, shape in shapes.items()
    )
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f"The panel needs {needed / 1e9:.1f} GB, and {folder.parent} has "
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


def complete_folder(
    folder: Path, path: Path, contents: dict[str, Any], ids: Any
) -> None:
    """Add ids and manifest, bring all to disk, and only then give it its name."""
    if ids is not None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"id": ids}), folder / _IDS)
    files = sorted(folder.iterdir())
    manifest = {
        "format_version": _FORMAT_VERSION,
        "library_version": __version__,
        **contents,
        "checksums": {file.name: _checksum(file) for file in files},
    }
    text = json.dumps(manifest, indent=1)
    (folder / _MANIFEST).write_text(text, encoding="utf-8")
    for file in [*files, folder / _MANIFEST, folder]:
        _sync(file)
    _replace(folder, path)


def _check_free(path: Path, overwrite: bool) -> None:
    """Raise if something is at `path` that is not to be, or must not be, replaced."""
    if not path.exists():
        return
    if not overwrite:
        raise FileExistsError(
            f"{path} exists. Pass overwrite=True to replace it, or another path."
        )
    if not (path / _MANIFEST).is_file():
        raise FileExistsError(
            f"{path} exists and is no panel (it has no {_MANIFEST}), so it is not "
            "overwritten. Pass another path, or remove it yourself."
        )


def _reserve(file: Path) -> None:
    """Claim the disk space of a file, where the system can."""
    if hasattr(os, "posix_fallocate"):
        with file.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, file.stat().st_size)


def _replace(folder: Path, path: Path) -> None:
    """Rename `folder` to `path`, in place of the panel that may be there."""
    old = folder.with_suffix(".old")
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        path.rename(old)
    try:
        folder.rename(path)
    except BaseException:
        if old.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)
    _sync(path.parent)


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":  # Windows cannot open a folder
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _checksum(file: Path) -> int:
    value = 0
    with file.open("rb") as stream:
        while chunk := stream.read(BLOCK_BYTES):
            value = zlib.crc32(chunk, value)
    return value


def _require_file(file: Path) -> Path:
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} is missing: the panel is not complete. Copy or write it again."
        )
    return file


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / _MANIFEST
    if not file.is_file():
        beside = [other.parent.name for other in path.parent.glob(f"*/{_MANIFEST}")]
        near = near_names(path.name, beside)
        raise FileNotFoundError(
            f"{path} is no panel: it has no {_MANIFEST}.{near} read_numerai and "
            "EraPanel.save write panels."
        )
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        _check_version(path, manifest["format_version"], manifest["library_version"])
        return {key: manifest[key] for key in _MANIFEST_KEYS}
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file} is damaged ({error!r}). Copy or write the panel again."
        ) from error


def _check_version(path: Path, version: int, library_version: str) -> None:
    if version > _FORMAT_VERSION:
        raise ValueError(
            f"{path} was written by numerai-features {library_version} in panel format "
            f"{version}; this version reads formats up to {_FORMAT_VERSION}. Upgrade "
            "with: pip install -U numerai-features"
        )


def _map_array(path: Path, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Map a file copy-on-write: torch warns on arrays that are read-only."""
    file = _require_file(path / f"{name}.npy")
    try:
        array = np.load(file, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(file, error) from error
    if array.shape != shape or array.dtype != _DTYPES[name]:
        raise ValueError(
            f"{file} holds {array.dtype} of shape {array.shape}, but {_MANIFEST} "
            f"promises {np.dtype(_DTYPES[name])} of shape {shape}. Copy or write the "
            "panel again."
        )
    return np.asarray(array)


def _damaged(file: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{file} is cut short or damaged ({error}). Copy or write the panel again."
    )
