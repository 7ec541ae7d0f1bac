"""New features of a panel's rows, written to a folder of their own in blocks."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._cache import fingerprint, hash_rows
from numerai_features._sealed import SealError, read_sealed, write_sealed
from numerai_features._whole import kept_folder
from numerai_features.datasets._arguments import PathLike, check_flag, check_path
from numerai_features.datasets._panel import EraPanel
from numerai_features.datasets._panel_checks import check_cells
from numerai_features.datasets._panel_files import read_header
from numerai_features.datasets._panel_folder import (
    check_space,
    complete_folder,
    create_array,
    may_replace,
)
from numerai_features.datasets._panel_manifest import (
    BLOCK_BYTES,
    Manifest,
    dtype_of,
    layout_of,
    role_of,
    shapes_of,
)
from numerai_features.datasets._panel_parts import parts_of
from numerai_features.datasets._panel_sums import Sums

_JOURNAL = "journal.json"
_KIND = "panel features"
_READ = ("eras", "features")


def write_features(
    panel: EraPanel,
    path: PathLike,
    make: Callable[[slice], NDArray[Any]],
    *,
    feature_names: Sequence[str],
    dtype: str,
    blocks: Sequence[slice],
    key: str,
    info: dict[str, Any],
    overwrite: bool,
) -> EraPanel:
    """Write new features of a panel's rows, with eras and ids, and open the result.

    After each block a journal is written, with the checksums of all blocks so far. A
    run with the same key goes on from there if what is in the file has these checksums.

    Parameters
    ----------
    panel : EraPanel
    path : str or path-like
        Folder to create.
    make : callable
        Returns the features of a block of rows, of type `dtype`.
    feature_names : sequence of str
    dtype : {"int8", "uint8"}
    blocks : sequence of slice
        All rows, in order.
    key : str
        A hash of everything that the features depend on.
    info : dict
        Metadata of the new panel.
    overwrite : bool
        Whether to replace a panel at `path`.
    """
    path = check_path(path, "path").absolute()
    replaceable = may_replace(path, overwrite=check_flag(overwrite, "overwrite"))
    contents = {
        "n_rows": panel.n_rows,
        "feature_names": list(feature_names),
        "target_names": [],
        "feature_dtype": dtype,
        "info": info,
    }
    with kept_folder(path, may_replace=replaceable) as room:
        try:
            folder = _fill(room, contents, key, blocks, make)
            checksums = _complete(folder, panel, contents)
        except BaseException as error:
            again = isinstance(error, ValueError | TypeError)  # it will come again
            if again or not (room / _JOURNAL).exists():
                shutil.rmtree(room, ignore_errors=True)
            raise
    written = EraPanel.open(path)
    written._check_written(checksums)
    return written


def _fill(
    room: Path,
    contents: Manifest,
    key: str,
    blocks: Sequence[slice],
    make: Callable[[slice], NDArray[Any]],
) -> Path:
    """Write the features that are not there; return the folder of the file."""
    file = _Unfinished(room, contents, key)
    for rows in blocks:
        if rows.start >= file.n_done:
            file.write(rows, make(rows))
    return file.folder


def panel_key(panel: EraPanel) -> list[Any]:
    """Return what tells the rows and features of a panel from others."""
    keys: list[Any] = []
    for part in parts_of(panel):
        source = part._source
        if source is None:
            keys.append([hash_rows(part._X), fingerprint(part._eras)])
        else:
            sums = [s for n, s in source.checksums.items() if role_of(n) in _READ]
            keys.append([sums, source.start, source.stop])
    return keys


class _Unfinished:
    """The file of features that is being written, and how far it has come.

    Attributes
    ----------
    folder : Path
        The folder that will be the panel's.
    n_done : int
        Number of rows that are there.
    """

    def __init__(self, room: Path, contents: Manifest, key: str) -> None:
        self.folder = room / "new"
        self.journal = room / _JOURNAL
        self.key = key
        self._layout = layout_of(contents, "features")
        self._shape = shapes_of(contents)["features"]
        self._dtype = dtype_of(contents, "features")
        if not self._resume():
            self._begin(room, contents)

    def write(self, rows: slice, X: NDArray[Any]) -> None:
        """Write the next rows."""
        X = check_cells(X, self._shape[1], dtypes=[self._dtype.name])
        self._out[rows] = X
        self._sums.add(np.ascontiguousarray(X))
        self.n_done = rows.stop
        record = {"n_rows": self.n_done, "blocks": self._sums.blocks}
        write_sealed(self.journal, record, kind=_KIND, key=self.key)

    def _resume(self) -> bool:
        """Go on from the journal if it tells of these features, and they are there."""
        file = self.folder / "features.npy"
        sums = self._no_sums()
        try:
            told, _ = read_sealed(self.journal, kind=_KIND, key=self.key)
            start = read_header(file)[-1]
            with file.open("rb") as stream:
                stream.seek(start)
                sums.read(stream, told["n_rows"] * self._layout.row_bytes)
        except (FileNotFoundError, SealError):
            return False
        if sums.blocks != told["blocks"]:
            return False
        self._out: Any = np.memmap(file, self._dtype, "r+", start, self._shape)
        self._sums, self.n_done = sums, told["n_rows"]
        for other in self.folder.iterdir():
            if other != file:
                other.unlink()
        return True

    def _begin(self, room: Path, contents: Manifest) -> None:
        for entry in room.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        self.folder.mkdir()
        check_space(self.folder, room, shapes_of(contents), contents)
        self._out = create_array(self.folder, "features", self._shape, self._dtype)
        self._sums, self.n_done = self._no_sums(), 0

    def _no_sums(self) -> Sums:
        return Sums(self._layout.step(BLOCK_BYTES))


def _complete(folder: Path, panel: EraPanel, contents: Manifest) -> dict[str, Any]:
    """Write the other files; return the checksums of all."""
    for role, values in (
        ("targets", np.empty((panel.n_rows, 0))),
        ("eras", panel.eras),
    ):
        shape, dtype = shapes_of(contents)[role], dtype_of(contents, role)
        array: Any = create_array(folder, role, shape, dtype)
        array[:] = values
        array.flush()
    return complete_folder(folder, contents, panel._id_array())
