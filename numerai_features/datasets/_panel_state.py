"""Changing a panel in its folder: one writer at a time, whole or not at all.

What belongs to a panel is what ``panel.json`` names. A change first appends to
``features.npy`` behind the rows that are counted, and writes new files beside the
others; then it replaces ``panel.json`` in one step. A change that was stopped before
has changed nothing; what it has left is removed by the next one.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from numerai_features._sealed import SealError, read_sealed, write_sealed
from numerai_features._whole import locked, sweep, sync
from numerai_features.datasets._panel_files import Source, check_sums, read_header
from numerai_features.datasets._panel_folder import JOURNAL, sums_of
from numerai_features.datasets._panel_manifest import (
    MANIFEST,
    Manifest,
    damaged,
    dtype_of,
    file_names,
    layout_of,
    next_name,
    read_manifest,
    role_of,
    shapes_of,
    write_manifest,
)
from numerai_features.datasets._panel_sums import READ_BYTES, Sums

_SPARE = 1 << 20  # bytes of the disk for the manifest


class PanelState:
    """A panel's folder that is held for a change.

    Attributes
    ----------
    path : Path
        The folder, without links.
    manifest : dict
        The panel as it is; its checksums are those of blocks.
    on_disk : dict
        The same, perhaps with the checksums of the format before.
    """

    def __init__(self, path: Path, on_disk: Manifest) -> None:
        self.path = path
        self.on_disk = on_disk
        self.manifest = _with_blocks(path, on_disk)
        self.names = file_names(self.manifest)
        self._folder = os.stat(path)

    def file(self, role: str) -> Path:
        """Return the panel's file of features, targets, eras or ids."""
        return self.path / self.names[role]

    def new_file(self, role: str) -> Path:
        """Return the file that takes its place."""
        return self.path / next_name(self.manifest, role)

    def header(self, n_rows: int) -> bytes:
        """Return the header of the features for a number of rows."""
        shape = n_rows, len(self.manifest["feature_names"])
        return array_header(shape, dtype_of(self.manifest, "features"))

    def sums(self, role: str) -> Sums:
        """Return the checksums of a file, to be extended."""
        layout = layout_of(self.manifest, role)
        blocks = self.manifest["checksums"][self.names[role]]["blocks"]
        step = layout.step(self.manifest["block_bytes"])
        return Sums(step, blocks, layout.n_bytes or 0)

    def check_space(self, needed: int) -> None:
        """Raise if the disk lacks the space for a change."""
        free = shutil.disk_usage(self.path).free
        if needed + _SPARE > free:
            raise OSError(
                f"The change needs {needed / 1e9:.2f} GB, but {self.path} has "
                f"{free / 1e9:.2f} GB left. Make room, and run it again."
            )

    def new_array(self, role: str, n_rows: int) -> np.memmap[Any, Any]:
        """Write a new file of more rows, which begins with the panel's; map it.

        Raises
        ------
        ValueError
            If the panel's file is damaged.
        """
        old, new = self.file(role), self.new_file(role)
        _, *width = shapes_of(self.manifest)[role]
        shape = (n_rows, *width)
        dtype = dtype_of(self.manifest, role)
        start = array_header(shape, dtype)
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        with old.open("rb") as stream, new.open("xb") as out:
            reserve(out.fileno(), 0, len(start) + size)
            check_sums(self.manifest, old, stream)
            stream.seek(read_header(old)[-1])
            out.write(start)
            shutil.copyfileobj(stream, out, READ_BYTES)
            out.truncate(len(start) + size)
        return np.memmap(new, dtype, "r+", len(start), shape)

    def commit(self, contents: Manifest, new: dict[str, Any]) -> dict[str, Any]:
        """Make new files the panel's: from now on it is the changed one.

        Parameters
        ----------
        contents : dict
            What changes in the manifest: ``n_rows``, ``info``.
        new : dict
            Checksums of the files that change; None: they are computed.

        Returns
        -------
        dict
            The checksums of all files.
        """
        changed = {**self.manifest, **contents, "checksums": {}}
        for role, name in self.names.items():
            file = self.new_file(role) if role in new and role != "features" else None
            if file is None:
                entry = new.get(role, self.manifest["checksums"][name])
            else:
                sync(file)
                name = file.name
                entry = new[role] or sums_of(changed, file)
            changed["checksums"][name] = entry
        sync(self.path)
        if not self.is_here():
            raise FileNotFoundError(
                f"{self.path} was moved or replaced while it was changed, so it was "
                "not changed. Open the panel again, and repeat it."
            )
        write_manifest(self.path, changed)
        return changed["checksums"]  # type: ignore[no-any-return]

    def is_here(self) -> bool:
        """Whether the folder has not been moved or replaced in spite of the lock."""
        try:
            return os.path.samestat(os.stat(self.path), self._folder)
        except FileNotFoundError:
            return False


@contextlib.contextmanager
def changing(source: Source) -> Iterator[PanelState]:
    """Hold a panel's folder for one change, and clean it before and after.

    Raises
    ------
    BlockingIOError
        If another process is changing the panel.
    ValueError
        If the folder holds another panel by now, or the panel is of the format before
        and damaged.
    """
    path = source.path.resolve()
    source.check_same()
    with locked(path) as is_ours:
        if not is_ours:
            raise BlockingIOError(
                f"Another process is changing the panel {path}. Wait for it, then open "
                "the panel again and repeat this."
            )
        manifest = source.check_same()
        tidy(path)
        state = PanelState(path, manifest)
        try:
            yield state
        except ValueError:  # of a wrong file, nothing is worth keeping
            (path / JOURNAL).unlink(missing_ok=True)
            raise
        finally:
            if state.is_here():
                tidy(path)


def tidy(path: Path) -> None:
    """Remove what changes have left in a panel's folder, and finish the last one.

    Rows of a stopped `EraPanel.append` stay if a journal tells of them.
    """
    manifest = read_manifest(path)
    sweep(path / MANIFEST)
    sweep(path / JOURNAL)
    names = file_names(manifest)
    n_rows = manifest["n_rows"] + len_of_journal(path, manifest)
    for file in path.iterdir():
        if role_of(file.name) is not None and file.name not in names.values():
            file.unlink(missing_ok=True)
    if n_rows == manifest["n_rows"]:
        (path / JOURNAL).unlink(missing_ok=True)
    file = path / names["features"]
    width = len(manifest["feature_names"])
    counted, *_, start = read_header(file)
    end = start + n_rows * width
    if file.stat().st_size > end:
        os.truncate(file, end)
    shape = (manifest["n_rows"], width)
    header = array_header(shape, dtype_of(manifest, "features"))
    if counted != shape and len(header) == start:
        with file.open("r+b") as stream:
            stream.write(header)


def read_journal(path: Path, manifest: Manifest) -> dict[str, Any] | None:
    """Return how far an append to this panel has come, or None."""
    key = journal_key(manifest)
    try:
        record, _ = read_sealed(path / JOURNAL, kind="panel append", key=key)
    except (FileNotFoundError, SealError):
        return None
    return record  # type: ignore[no-any-return]


def len_of_journal(path: Path, manifest: Manifest) -> int:
    """Return how many rows behind the panel's are whole."""
    journal = read_journal(path, manifest)
    return 0 if journal is None else int(journal["n_rows"])


def write_journal(path: Path, manifest: Manifest, record: dict[str, Any]) -> None:
    """Write how far an append has come."""
    key = journal_key(manifest)
    write_sealed(path / JOURNAL, record, kind="panel append", key=key)


def journal_key(manifest: Manifest) -> str:
    """Return a hash of what the rows of an append come behind."""
    about = [manifest["n_rows"], manifest["feature_names"], manifest["info"]]
    about.append(manifest["checksums"]["features.npy"])
    text = json.dumps(about, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def array_header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """Return the header of a file of ``numpy.save``."""
    out = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(dtype)
    about = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(out, about)  # room for more rows is in it
    return out.getvalue()


def reserve(handle: int, start: int, n_bytes: int) -> None:
    """Allocate the disk space of a part of a file, if the system can."""
    if n_bytes and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(handle, start, n_bytes)


def _with_blocks(path: Path, manifest: Manifest) -> Manifest:
    """Return a manifest with checksums of blocks; the format before had none."""
    if all(isinstance(entry, dict) for entry in manifest["checksums"].values()):
        return manifest
    sums = {}
    for name in manifest["checksums"]:
        with (path / name).open("rb") as stream:
            check_sums(manifest, path / name, stream)
        try:
            sums[name] = sums_of(manifest, path / name)
        except ValueError as error:
            raise damaged(path / name, error) from error
    return {**manifest, "checksums": sums}
