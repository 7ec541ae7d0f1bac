"""Writing a panel piece by piece, in memory or to a folder."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numerai_features._validation import check_same_rows
from numerai_features._whole import whole_folder
from numerai_features.datasets._arguments import (
    PathLike,
    check_flag,
    check_path,
    check_whole,
)
from numerai_features.datasets._panel import EraPanel
from numerai_features.datasets._panel_checks import (
    check_cells,
    check_dtype,
    check_info,
    check_names,
    check_sorted,
    check_targets,
    check_unique,
    to_era_numbers,
    to_id_array,
)
from numerai_features.datasets._panel_folder import (
    check_space,
    complete_folder,
    create_array,
    may_replace,
)
from numerai_features.datasets._panel_manifest import array_shapes, dtype_of

_TILE = (1024, 16)  # rows x features: both sides of a transposed tile stay in cache


class PanelWriter:
    """Write a panel piece by piece; its folder appears when it is complete.

    It is a context manager for a single use. Inside it, `write` writes each row once,
    in any order. On exit the writer checks that no row is missing, that the eras ascend
    and that no id is repeated (a second for four million ids); then the complete folder
    appears at `path`. After an exception, Ctrl-C included, nothing is left. Only the
    ids are held in memory (some 60 bytes per row), not the table.

    Parameters
    ----------
    path : str, path-like or None
        Folder to create; None keeps the rows in memory.
    n_rows : int
        Number of rows of the panel.
    feature_names, target_names : sequence of str
        Names of the columns.
    overwrite : bool, default=False
        Whether to replace a panel at `path`. A folder with files other than a panel's,
        or without a ``panel.json`` that this library wrote, is never replaced.
    dtype : {"int8", "uint8"}, default="int8"
        Type of the features: bins 0 to 4, or any bytes, such as quantised latents.
    info : dict, default=None
        Metadata kept with the panel. While rows are written, ``writer.info`` can be
        extended.

    Attributes
    ----------
    info : dict
        The metadata.
    panel : EraPanel
        The panel that was written; available after the ``with`` block.

    Raises
    ------
    FileExistsError
        If something exists at `path`, or has appeared there meanwhile, and `overwrite`
        is False or it is not a panel.
    OSError
        If the disk has too little free space.
    ValueError
        If an argument is wrong; on exit, if rows are missing, eras do not ascend, or an
        id is repeated.

    Examples
    --------
    >>> import numpy as np
    >>> from numerai_features.datasets import PanelWriter
    >>> with PanelWriter(
    ...     None, n_rows=4, feature_names=["feature_a"], target_names=["target"]
    ... ) as writer:
    ...     for era in (1, 2):
    ...         rows = slice(2 * era - 2, 2 * era)
    ...         writer.write(rows, np.full((2, 1), era, np.int8), era, [0.0, 1.0])
    >>> writer.panel.X.ravel()
    array([1, 1, 2, 2], dtype=int8)
    """

    def __init__(
        self,
        path: PathLike | None,
        *,
        n_rows: int,
        feature_names: Sequence[str],
        target_names: Sequence[str],
        overwrite: bool = False,
        dtype: str = "int8",
        info: dict[str, Any] | None = None,
    ) -> None:
        self.n_rows = check_whole(n_rows, "n_rows")
        self.feature_names = check_names(feature_names, None, "feature_names")
        if not self.feature_names:
            raise ValueError("feature_names is empty; a panel needs a feature.")
        self.target_names = check_names(target_names, None, "target_names")
        self.overwrite = check_flag(overwrite, "overwrite")
        self.dtype = check_dtype(dtype, "dtype")
        self.info = check_info(info)
        self.path = None if path is None else check_path(path, "path").absolute()
        self._folder: Path | None = None
        self._stack: contextlib.ExitStack | None = None
        self._arrays: dict[str, Any] = {}
        self._ids: list[tuple[Any, Any]] = []
        self._written = np.zeros(self.n_rows, bool)
        self._panel: EraPanel | None = None
        self._checksums: dict[str, Any] | None = None

    @property
    def panel(self) -> EraPanel:
        """The panel that was written."""
        if self._panel is None:
            if self.path is None or self._checksums is None:
                raise ValueError("There is no panel until the with block has ended.")
            panel = EraPanel.open(self.path)
            panel._check_written(self._checksums)
            self._panel = panel
        return self._panel

    def __enter__(self) -> PanelWriter:
        if self._stack is not None:
            raise ValueError("A PanelWriter writes once; make another one.")
        shapes = array_shapes(self.n_rows, self.feature_names, self.target_names)
        with contextlib.ExitStack() as stack:
            if self.path is not None:
                replaceable = may_replace(self.path, overwrite=self.overwrite)
                self._folder = stack.enter_context(
                    whole_folder(self.path, may_replace=replaceable)
                )
                check_space(self._folder, self.path, shapes, self._contents())
            # Close the files before the folder is renamed: Windows renames no open
            # file.
            stack.callback(self._let_go)
            for name, shape in shapes.items():
                dtype = dtype_of(self._contents(), name)
                self._arrays[name] = create_array(self._folder, name, shape, dtype)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._stack is None:
            return
        if kind is not None:
            self._stack.__exit__(kind, error, traceback)
            return
        with self._stack:
            checksums = self._finish()
        self._checksums = checksums  # only now: the folder is at its path

    def write(
        self,
        rows: slice | NDArray[np.integer[Any]],
        X: NDArray[Any],
        eras: Any,
        targets: ArrayLike | None = None,
        ids: Any = None,
    ) -> None:
        """Write rows to their places in the panel.

        Parameters
        ----------
        rows : slice or ndarray of shape (n,), int
            Positions of the rows in the panel; each must be written exactly once.
        X : ndarray of shape (n, n_features), int8
            Feature bins, or bytes if `dtype` is uint8, in C or F order; both are fast.
        eras : int or array-like of int of shape (n,)
            Era numbers.
        targets : array-like of shape (n, n_targets), default=None
            Targets; all NaN if None.
        ids : array-like of str of shape (n,), default=None
            Row ids; given for all rows of the panel or for none.

        Raises
        ------
        ValueError
            If shapes, types or values are wrong.
        """
        if not self._arrays:
            raise ValueError("write works inside the with block of a PanelWriter only.")
        check_same_rows(X=X, eras=eras, targets=targets)
        X = check_cells(X, len(self.feature_names), dtypes=[self.dtype.name])
        rows = self._check_rows(rows, len(X))
        y: Any = np.nan
        if targets is not None:
            y = check_targets(targets, len(X), self.target_names)
        numbers = to_era_numbers(eras)
        if numbers.shape not in ((1,), (len(X),)):
            raise ValueError(
                f"eras must be one era number, or one per row for the {len(X)} rows of "
                f"X; got shape {numbers.shape}."
            )
        id_array = None if ids is None else to_id_array(ids, len(X))
        self._arrays["eras"][rows] = numbers
        self._arrays["targets"][rows] = y
        place_rows(self._arrays["features"], rows, X)
        if id_array is not None:
            self._ids.append((rows, id_array))
        self._written[rows] = True

    def _check_rows(self, rows: Any, n: int) -> Any:
        checked = self._as_rows(rows, n)
        if checked is None:
            raise ValueError(
                f"rows must be a slice or whole numbers, one for each of the {n} rows "
                f"of X, within the {self.n_rows} rows of the panel; got {rows!r}."
            )
        again = self._written[checked].any()
        if again or (not isinstance(checked, slice) and len(np.unique(checked)) < n):
            raise ValueError(
                f"rows must be distinct and not written before; got {rows!r}."
            )
        return checked

    def _as_rows(self, rows: Any, n: int) -> Any:
        """Return n valid rows of the panel, or None."""
        if isinstance(rows, slice):
            try:
                start, stop, step = rows.indices(self.n_rows)
            except TypeError:
                return None
            fits = step == 1 and stop - start == n
            return slice(start, stop) if fits else None
        rows = np.array(rows)  # a copy: they are kept with the ids
        fits = rows.dtype.kind in "iu" and rows.shape == (n,)
        return rows if fits and rows.min() >= 0 and rows.max() < self.n_rows else None

    def _finish(self) -> dict[str, Any] | None:
        """Complete the panel; return the checksums of its files, or None."""
        if not self._written.all():
            raise ValueError(
                f"{int((~self._written).sum())} of {self.n_rows} rows were not "
                f"written, the first is row {int(np.argmin(self._written))}. Write "
                "all of them."
            )
        check_sorted(self._arrays["eras"])
        ids = self._joined_ids()
        if ids is not None:
            check_unique(ids)
        contents = self._contents()
        if self._folder is None:
            self._panel = EraPanel._of(dict(self._arrays), contents, ids=ids)
            return None
        while self._arrays:
            self._arrays.popitem()[1].flush()
        return complete_folder(self._folder, contents, ids)

    def _contents(self) -> dict[str, Any]:
        return {
            "n_rows": self.n_rows,
            "feature_names": self.feature_names,
            "target_names": self.target_names,
            "feature_dtype": self.dtype.name,
            "info": check_info(self.info),
        }

    def _joined_ids(self) -> Any:
        """Return the ids in the order of the rows, or None."""
        if not self._ids:
            return None
        import pyarrow as pa

        ids = pa.concat_arrays([array for _, array in self._ids])
        if len(ids) != self.n_rows:
            raise ValueError(
                f"ids were given for {len(ids)} of {self.n_rows} rows; give them for "
                "all rows or for none."
            )
        every_row = np.arange(self.n_rows)
        order = np.concatenate([every_row[rows] for rows, _ in self._ids])
        if np.array_equal(order, every_row):
            return ids
        return ids.take(pa.array(np.argsort(order)))

    def _let_go(self) -> None:
        self._arrays = {}
        self._ids = []


def place_rows(out: NDArray[Any], rows: Any, X: NDArray[Any]) -> None:
    """Copy X to some rows; in tiles that fit in the cache if X is transposed."""
    if X.flags.c_contiguous:
        out[rows] = X
        return
    n_rows, n_features = X.shape
    for i in range(0, n_rows, _TILE[0]):
        block = slice(i, min(i + _TILE[0], n_rows))
        if isinstance(rows, slice):
            target = out[rows.start + block.start : rows.start + block.stop]
        else:
            target = np.empty((block.stop - block.start, n_features), out.dtype)
        for j in range(0, n_features, _TILE[1]):
            columns = slice(j, j + _TILE[1])
            target[:, columns] = X[block, columns]
        if not isinstance(rows, slice):
            out[rows[block]] = target
