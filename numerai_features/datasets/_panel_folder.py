"""Making a panel's folder: its files, its manifest, and what it may replace."""

from __future__ import annotations

import fnmatch
import math
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._names import some_names
from numerai_features._sealed import begins_as_sealed
from numerai_features._whole import is_locked, is_room, sync
from numerai_features.datasets._panel_manifest import (
    BLOCK_BYTES,
    MANIFEST,
    Manifest,
    Shapes,
    dtype_of,
    layout_of,
    role_of,
    unsealed_version,
    write_manifest,
)
from numerai_features.datasets._panel_sums import sum_file

JOURNAL = "append.json"

_IDS = "ids.parquet"
_MANAGERS = (".DS_Store", "._*", "Thumbs.db", "desktop.ini", ".nfs*")


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
                and not any(is_room(entry.name, f) for f in (MANIFEST, JOURNAL))
            }
    except FileNotFoundError:  # another writer is just replacing it
        return
    except NotADirectoryError as error:
        raise FileExistsError(
            f"{path} exists and is not a folder, so it is not overwritten. Pass "
            "another path, or remove it yourself."
        ) from error
    others = sorted(name for name in inside if not is_panels(name) or inside[name])
    if others:
        raise FileExistsError(
            f"{path} holds files that are not a panel's, so it is not overwritten: "
            f"{some_names(others)}. Pass another path, or move them elsewhere."
        )
    if inside and not _is_ours(found / MANIFEST) and found.exists():
        raise FileExistsError(
            f"{path} holds {some_names(sorted(inside))}, but no {MANIFEST} that this "
            "library wrote, so it is not overwritten. Pass another path, or delete the "
            "folder yourself."
        )
    if is_locked(found):
        raise FileExistsError(
            f"Another process is changing the panel {path}, so it is not overwritten. "
            "Wait for it, or pass another path."
        )


def is_panels(name: str) -> bool:
    """Whether a panel's folder may hold a file of this name."""
    return role_of(name) is not None or name in (MANIFEST, JOURNAL)


def _is_ours(manifest: Path) -> bool:
    """Whether this library wrote a manifest; it may be damaged, or of format 1."""
    return begins_as_sealed(manifest) or unsealed_version(manifest) is not None


def check_space(folder: Path, path: Path, shapes: Shapes, contents: Manifest) -> None:
    """Raise if the disk lacks the space for a panel.

    The panel is written to `folder` and then moved to `path`. Without this check, a
    write to a memory-mapped file on a full disk would kill the process.
    """
    needed = sum(
        math.prod(shape) * dtype_of(contents, name).itemsize
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
    folder: Path | None, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> NDArray[Any]:
    """Make an array of a panel, in memory or mapped to a file."""
    if folder is None:
        return np.empty(shape, dtype)
    file = folder / f"{name}.npy"
    array = np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=shape)
    _reserve(file)
    return array


def complete_folder(folder: Path, contents: dict[str, Any], ids: Any) -> dict[str, Any]:
    """Add ids and manifest, sync all files to disk, and return their checksums."""
    if ids is not None:
        write_ids(folder / _IDS, ids)
    manifest = {**contents, "block_bytes": BLOCK_BYTES, "checksums": {}}
    for file in sorted(f for f in folder.iterdir() if role_of(f.name) is not None):
        sync(file)
        manifest["checksums"][file.name] = sums_of(manifest, file)
    write_manifest(folder, manifest)
    return manifest["checksums"]  # type: ignore[no-any-return]


def write_ids(file: Path, ids: Any) -> None:
    """Write ids, a pyarrow array of strings."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"id": ids}), file)


def sums_of(manifest: Manifest, file: Path) -> dict[str, Any]:
    """Return the checksums of a file of a panel, as the manifest holds them."""
    layout = layout_of(manifest, str(role_of(file.name)))
    with file.open("rb") as stream:
        return sum_file(stream, layout, manifest["block_bytes"])


def _reserve(file: Path) -> None:
    """Allocate the disk space of a file, if the system can."""
    if hasattr(os, "posix_fallocate"):
        with file.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, file.stat().st_size)
