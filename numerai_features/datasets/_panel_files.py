"""The folder that holds a panel: its files, and how they are written and read.

It holds ``features.npy`` (int8 or uint8, rows x features, C order), ``targets.npy``
(float32, rows x targets), ``eras.npy`` (int32 era numbers), ``ids.parquet`` (if the
rows have ids) and ``panel.json``, a sealed file with the checksums of the other files.
The folder appears complete or not at all, so that an incomplete one is never read. A
reader checks that no writer has replaced the folder, or changed the panel in it,
meanwhile.

A panel to which rows were appended has them at the end of ``features.npy``; the others
are replaced by files with a number, such as ``targets-2.npy``. ``panel.json`` names
them, and is replaced last. What lies in ``features.npy`` behind the rows that it counts
is no part of the panel.
"""

from __future__ import annotations

import io
import os
import tokenize
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from numerai_features._whole import sweep
from numerai_features.datasets._panel_checks import (
    check_sorted,
    to_id_array,
    to_int32,
)
from numerai_features.datasets._panel_manifest import (
    BLOCK_BYTES,
    MANIFEST,
    TRIES,
    Manifest,
    damaged,
    dtype_of,
    file_names,
    layout_of,
    read_manifest,
    role_of,
    shapes_of,
)
from numerai_features.datasets._panel_sums import (
    READ_BYTES,
    what_differs,
    whole_sum,
)

T = TypeVar("T")

_UNREADABLE = (  # numpy's errors for headers that it cannot read
    OSError, ValueError, TypeError, OverflowError, EOFError, SyntaxError,
    tokenize.TokenError,
)  # fmt: skip


class HeldFile:
    """A file that is kept open, so that it can be read after it was replaced."""

    def __init__(self, file: Path) -> None:
        self.name = file.name
        self._handle = os.open(file, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        weakref.finalize(self, os.close, self._handle)

    def read(self) -> bytes:
        """Return all bytes."""
        parts = []
        place = 0
        while part := self._read_at(place):
            parts.append(part)
            place += len(part)
        return b"".join(parts)

    def _read_at(self, place: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._handle, READ_BYTES, place)
        os.lseek(self._handle, place, os.SEEK_SET)  # Windows
        return os.read(self._handle, READ_BYTES)


class Source(NamedTuple):
    """The part of a folder's rows that a panel maps into memory."""

    path: Path
    start: int
    stop: int
    n_rows: int  # of the folder
    checksums: dict[str, Any]  # equal ones are of the same state of the same panel
    block_bytes: int = BLOCK_BYTES
    ids: HeldFile | None = None

    def part(self, rows: slice) -> Source:
        """Return some of these rows."""
        start = self.start
        return self._replace(start=start + rows.start, stop=start + rows.stop)

    def read_ids(self) -> Any:
        """Return the ids of these rows as a pyarrow array, or None."""
        if self.ids is None:
            return None
        import pyarrow as pa
        import pyarrow.parquet as pq

        file = self.path / self.ids.name
        content = self.ids.read()
        known = {"checksums": self.checksums, "block_bytes": self.block_bytes}
        with io.BytesIO(content) as stream:
            check_sums(known, file, stream)
        with pa.BufferReader(content) as stream:
            try:
                column = pq.ParquetFile(stream).read(columns=["id"]).column("id")
                ids = to_id_array(column, self.n_rows)
            except (OSError, ValueError, KeyError, pa.ArrowException) as error:
                raise damaged(file, error) from error
        return ids[self.start : self.stop]

    def verify(self) -> None:
        """Compare all files with the checksums of the manifest."""
        manifest = self.check_same()
        for name in self.checksums:
            opened = partial(_open_file, self.path / name)
            with _with_patience(opened, self.check_same) as stream:
                try:
                    check_sums(manifest, self.path / name, stream)
                except ValueError:
                    self.check_same()  # perhaps the file is another panel's
                    raise
        self.check_same()

    def check_same(self) -> Manifest:
        """Return the manifest; raise if the folder holds another panel by now."""
        manifest = read_manifest(self.path)
        if manifest["checksums"] != self.checksums:
            raise ValueError(
                f"{self.path} holds another panel now than when this one was opened: "
                "it was replaced, or rows or targets were added. Open it again with "
                "EraPanel.open."
            )
        return manifest


def check_sums(manifest: Manifest, file: Path, stream: IO[bytes]) -> None:
    """Compare an open file of a panel with the checksums of its manifest."""
    expected = manifest["checksums"][file.name]
    if isinstance(expected, int):
        found = whole_sum(stream)
        if found == expected:
            return
        what = f"its checksum is {found:08x}, but {MANIFEST} says {expected:08x}"
    else:
        layout = layout_of(manifest, str(role_of(file.name)))
        try:
            where = what_differs(stream, layout, manifest["block_bytes"], expected)
        except _UNREADABLE as error:
            raise damaged(file, error) from error
        if not where:
            return
        what = f"its checksum {where} differs from {MANIFEST}"
    raise ValueError(f"{file} is damaged: {what}. Copy or write the panel again.")


def open_folder(path: Path) -> tuple[dict[str, Any], Manifest, Source]:
    """Return the memory-mapped arrays of a panel, its manifest and its source."""
    sweep(path)
    while True:
        wait = partial(read_manifest, path)
        wait()
        try:
            held = (path / MANIFEST).open("rb")
        except (FileNotFoundError, NotADirectoryError):
            continue
        with held:
            manifest = read_manifest(path)
            problem = None
            try:
                arrays, ids = _with_patience(partial(_open_files, path, manifest), wait)
            except (ValueError, FileNotFoundError) as error:
                problem = error
            # If another panel has replaced this one meanwhile, start again: the arrays,
            # or the problem, may come from a mix of both. Equal contents of the
            # manifest do not prove that nothing was replaced: a third panel, written
            # after the second, may equal the first. The open file proves it.
            if not _is_at(path / MANIFEST, held):
                continue
        if problem is not None:
            raise problem
        n_rows, checksums = manifest["n_rows"], manifest["checksums"]
        size = manifest["block_bytes"]
        return arrays, manifest, Source(path, 0, n_rows, n_rows, checksums, size, ids)


def _is_at(file: Path, stream: IO[bytes]) -> bool:
    try:
        return os.path.samestat(os.stat(file), os.fstat(stream.fileno()))
    except (FileNotFoundError, NotADirectoryError):
        return False


def _with_patience(read: Callable[[], T], wait: Callable[[], object]) -> T:
    """Retry a read: a file may be missing for a moment while its folder is replaced."""
    for _ in range(TRIES - 1):
        try:
            return read()
        except FileNotFoundError:
            wait()
    return read()


def _open_file(file: Path) -> IO[bytes]:
    return _require_file(file).open("rb")


def _require_file(file: Path) -> Path:
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} is missing: the panel is incomplete. Copy or write it again."
        )
    return file


def _open_files(
    path: Path, manifest: Manifest
) -> tuple[dict[str, Any], HeldFile | None]:
    """Map the arrays of a panel, and keep the file of its ids open."""
    names, shapes = file_names(manifest), shapes_of(manifest)
    arrays = {
        role: _map_array(path / names[role], role, shape, dtype_of(manifest, role))
        for role, shape in shapes.items()
    }
    _check_eras(path / names["eras"], arrays["eras"])
    if "ids" not in names:
        return arrays, None
    file = path / names["ids"]
    _check_id_count(file, manifest["n_rows"])
    return arrays, HeldFile(file)


def _map_array(
    file: Path, role: str, shape: tuple[int, ...], expected: np.dtype[Any]
) -> NDArray[Any]:
    """Map a file copy-on-write, because torch warns about read-only arrays."""
    _require_file(file)
    try:
        found, fortran, dtype, start = read_header(file)
    except FileNotFoundError:
        raise
    except _UNREADABLE as error:
        raise damaged(file, error) from error
    # The header of a file that grows may not count all rows yet.
    counted = role == "features" and 0 < (found or (0,))[0] <= shape[0]
    if dtype != expected or found != ((found[0], *shape[1:]) if counted else shape):
        raise ValueError(
            f"{file} holds {dtype} of shape {found}, but {MANIFEST} promises "
            f"{expected} of shape {shape}. Copy or write the panel again."
        )
    if fortran and len(shape) > 1:
        raise damaged(file, ValueError("it is not in C order"))
    try:
        return np.asarray(np.memmap(file, dtype, "c", start, shape))
    except FileNotFoundError:
        raise
    except _UNREADABLE as error:
        raise damaged(file, error) from error


def read_header(file: Path) -> tuple[tuple[int, ...], bool, Any, int]:
    """Return the shape, order and dtype that a file's header tells, and its length."""
    with file.open("rb") as stream:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            told = np.lib.format.read_array_header_1_0(stream)
        else:
            told = np.lib.format.read_array_header_2_0(stream)
        return *told, stream.tell()


def _check_eras(file: Path, eras: NDArray[np.int32]) -> None:
    try:
        check_sorted(to_int32(eras))
    except ValueError as error:
        raise damaged(file, error) from error


def _check_id_count(file: Path, n_rows: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    _require_file(file)
    try:
        found = pq.read_metadata(file).num_rows
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise damaged(file, error) from error
    if found != n_rows:
        raise ValueError(
            f"{file} holds {found} ids, but the panel has {n_rows} rows. Copy or write "
            "the panel again."
        )
