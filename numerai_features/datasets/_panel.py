"""A table of Numerai rows sorted by era, in memory or memory-mapped from a folder."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numerai_features._eras import encode_eras, era_label
from numerai_features._names import some_names
from numerai_features._scratch import take
from numerai_features._validation import (
    check_same_rows,
    frame_of,
    read_only,
    require_numbers,
)
from numerai_features.datasets._arguments import PathLike, check_path, check_strings
from numerai_features.datasets._metadata import check_known
from numerai_features.datasets._panel_checks import (
    check_cells,
    check_info,
    check_names,
    check_sorted,
    check_targets,
    check_unique,
    to_id_array,
    to_int32,
)
from numerai_features.datasets._panel_files import Source, open_folder
from numerai_features.datasets._panel_select import (
    Features,
    gather,
    row_slices,
    select_columns,
    select_eras,
)

if TYPE_CHECKING:
    from numerai_features.datasets._panel_rows import PanelRows


class EraPanel:
    """A table of Numerai rows: features, targets, eras and ids, sorted by era.

    The rows of an era are contiguous and the eras ascend, so that a range of eras is a
    slice: a view, not a copy. `EraPanel.open` maps a folder into memory and reads only
    the cells that are used. The constructor takes arrays and copies only those of
    another dtype or memory order. An estimator takes ``panel.X``, ``panel.eras`` and
    ``panel.y(target)`` directly. A panel is read-only: it returns read-only views or
    copies.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features), int8 or uint8
        Feature bins, 0 to 4; or any bytes, such as quantised latents, as uint8.
    eras : array-like of shape (n_rows,)
        Era labels or numbers, ascending; ``"X"`` (live) comes last.
    targets : array-like of shape (n_rows, n_targets) or (n_rows,), default=None
        Targets, kept as float32; may hold NaN.
    feature_names : sequence of str of length n_features
        Names of the columns of X.
    target_names : sequence of str of length n_targets, default=()
        Names of the columns of `targets`.
    ids : array-like of str of shape (n_rows,), default=None
        Row ids, all different.
    info : dict, default=None
        Metadata kept with the panel; JSON must be able to hold it.

    Attributes
    ----------
    X : ndarray of shape (n_rows, n_features), int8 or uint8
        Feature bins, in C order; read-only.
    eras : ndarray of shape (n_rows,), int32
        Era number of each row; read-only. The live era is the largest int32.
    targets : ndarray of shape (n_rows, n_targets), float32
        All targets; read-only.
    ids : ndarray of shape (n_rows,), object, or None
        Row ids; read from disk on first use.
    feature_names, target_names : list of str
        Column names.
    era_numbers : ndarray of shape (n_eras,), int32
        Distinct era numbers, ascending.
    n_rows, n_features : int
        Shape of X.
    info : dict
        The metadata.
    path : pathlib.Path or None
        The folder that the rows are mapped from; None if they are in memory.

    Raises
    ------
    ValueError
        If shapes, dtypes, bins or the order of the eras are wrong, or an id is
        repeated.

    See Also
    --------
    read_numerai : Read Numerai's parquet files into a panel.
    PanelWriter : Write a panel piece by piece.

    Examples
    --------
    >>> import numpy as np
    >>> from numerai_features.datasets import EraPanel
    >>> panel = EraPanel(
    ...     np.array([[0, 4], [1, 3], [2, 2]], np.int8),
    ...     ["0001", "0001", "0002"],
    ...     [0.25, 0.5, 0.75],
    ...     feature_names=["feature_a", "feature_b"],
    ...     target_names=["target"],
    ... )
    >>> panel
    EraPanel(n_rows=3, n_features=2, eras='0001'..'0002' (2), targets=['target'])
    >>> panel.select("0001").y("target")
    array([0.25, 0.5 ], dtype=float32)
    >>> panel.select(features=["feature_b"]).X.T
    array([[4, 3, 2]], dtype=int8)
    """

    def __init__(
        self,
        X: NDArray[np.int8] | NDArray[np.uint8],
        eras: Any,
        targets: ArrayLike | None = None,
        *,
        feature_names: Sequence[str],
        target_names: Sequence[str] = (),
        ids: Any = None,
        info: dict[str, Any] | None = None,
    ) -> None:
        check_same_rows(X=X, eras=eras, targets=targets)
        X = check_cells(X)
        index = require_numbers(encode_eras(eras, n_rows=len(X)))
        numbers = to_int32(index.row_numbers)
        check_sorted(numbers)
        self._feature_names = check_names(feature_names, X.shape[1], "feature_names")
        self._target_names = check_names(target_names, None, "target_names")
        self.info = check_info(info)
        self._X = np.ascontiguousarray(X)
        self._eras = numbers
        self._targets = check_targets(targets, len(X), self._target_names)
        # A pyarrow array; None if the rows have no ids, or these are still on disk.
        self._ids = None if ids is None else to_id_array(ids, len(X))
        if ids is not None:
            check_unique(self._ids)
        self._source: Source | None = None

    @classmethod
    def open(cls, path: PathLike) -> EraPanel:
        """Map a panel's folder into memory.

        Parameters
        ----------
        path : str or path-like
            A folder that `save`, `PanelWriter` or `read_numerai` wrote.

        Returns
        -------
        EraPanel

        Raises
        ------
        FileNotFoundError
            If there is no panel, or one of its files is missing.
        ValueError
            If ``panel.json`` differs in any bit from the file that was written, if
            another file is truncated or malformed, if eras do not ascend, or if another
            version of this library wrote the panel in another format.

        Notes
        -----
        Of the rows, only the eras are read. The panel stays as it is even if its folder
        is replaced, or changed by `append` or `update`.
        """
        return cls._of(*open_folder(check_path(path, "path").absolute()))

    @classmethod
    def _of(
        cls,
        arrays: dict[str, Any],
        contents: dict[str, Any],
        source: Source | None = None,
        *,
        ids: Any = None,
    ) -> EraPanel:
        """Make a panel of parts that are already checked."""
        panel = cls.__new__(cls)
        panel._X = arrays["features"]
        panel._eras = arrays["eras"]
        panel._targets = arrays["targets"]
        panel._feature_names = list(contents["feature_names"])
        panel._target_names = list(contents["target_names"])
        panel.info = copy.deepcopy(contents["info"])
        panel._ids = ids
        panel._source = source
        return panel

    @property
    def X(self) -> NDArray[Any]:
        """Feature bins of shape (n_rows, n_features)."""
        return read_only(self._X)

    @property
    def eras(self) -> NDArray[np.int32]:
        """Era number of each row."""
        return read_only(self._eras)

    @property
    def targets(self) -> NDArray[np.float32]:
        """All targets, of shape (n_rows, n_targets)."""
        return read_only(self._targets)

    @property
    def feature_names(self) -> list[str]:
        """Names of the columns of X."""
        return list(self._feature_names)

    @property
    def target_names(self) -> list[str]:
        """Names of the columns of `targets`."""
        return list(self._target_names)

    @property
    def ids(self) -> NDArray[np.object_] | None:
        """Row ids, or None."""
        ids = self._id_array()
        return None if ids is None else ids.to_numpy(zero_copy_only=False)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self._X)

    @property
    def n_features(self) -> int:
        """Number of features."""
        return int(self._X.shape[1])

    @property
    def path(self) -> Path | None:
        """The folder that the rows are mapped from, or None."""
        return None if self._source is None else self._source.path

    @cached_property
    def era_numbers(self) -> NDArray[np.int32]:
        """Distinct era numbers, ascending."""
        return read_only(self._eras[self._bounds[:-1]])

    @cached_property
    def _bounds(self) -> NDArray[np.int64]:
        """Row at which each era starts, and the number of rows at the end."""
        changes = np.flatnonzero(self._eras[1:] != self._eras[:-1]) + 1
        return np.concatenate([[0], changes, [self.n_rows]]).astype(np.int64)

    def y(self, target: str | None = None) -> NDArray[np.float32]:
        """Return one target.

        Parameters
        ----------
        target : str, default=None
            One of `target_names`; None is the first.

        Returns
        -------
        ndarray of shape (n_rows,), float32
            May hold NaN.

        Raises
        ------
        ValueError
            If the panel has no such target.
        """
        if not self.target_names:
            raise ValueError(
                "The panel has no targets. Write it again with targets, or pass y "
                "yourself."
            )
        name = self.target_names[0] if target is None else target
        check_known([name], self.target_names, what="is no target of this panel")
        return self._targets[:, self.target_names.index(name)].copy()

    def select(
        self,
        eras: Any = None,
        *,
        every: int | None = None,
        first: Any = None,
        last: Any = None,
        features: Features | None = None,
    ) -> EraPanel:
        """Return the panel of some eras and features.

        A contiguous range of eras with all features is a view of the same memory. Any
        other selection copies the selected cells into memory.

        Parameters
        ----------
        eras : label, number or iterable of them, default=None
            Eras to keep; the panel must have each of them. All by default.
        every : int, default=None
            Keep every n-th of the eras that the other arguments select, starting with
            the first, as in ``eras[::4]``.
        first, last : label or number, default=None
            Keep the eras from `first` to `last`, both included.
        features : sequence of str or int, or callable, default=None
            Names or positions to keep, in this order, or a function that maps a name to
            whether it is kept; all by default.

        Returns
        -------
        EraPanel

        Raises
        ------
        ValueError
            If an era or a feature is not in the panel, or nothing is left.

        Examples
        --------
        >>> import numpy as np
        >>> from numerai_features.datasets import EraPanel
        >>> panel = EraPanel(
        ...     np.zeros((6, 1), np.int8), np.arange(1, 7), feature_names=["feature_a"]
        ... )
        >>> panel.select(first="0003", last=5).era_numbers
        array([3, 4, 5], dtype=int32)
        >>> panel.select(every=4).era_numbers
        array([1, 5], dtype=int32)
        """
        kept = select_eras(self.era_numbers, eras, every=every, first=first, last=last)
        slices = row_slices(self._bounds, kept)
        if features is not None:
            return self._copy(slices, select_columns(features, self.feature_names))
        return self._view(slices[0]) if len(slices) == 1 else self._copy(slices)

    def to_frame(
        self,
        features: Features | None = None,
        targets: Sequence[str] | None = None,
    ) -> Any:
        """Return a pandas frame with Numerai's columns.

        Parameters
        ----------
        features : sequence of str or int, or callable, default=None
            As in `select`. With all features the frame shares the panel's memory,
            read-only; a selection is copied, at one byte per cell.
        targets : sequence of str, default=None
            Targets to keep; all by default.

        Returns
        -------
        pandas.DataFrame of shape (n_rows, 1 + n_features + n_targets)
            Index ``id`` (positions if the panel has no ids), column ``era`` with
            labels such as ``"0001"`` or ``"X"``, features of X's type, float32
            targets.

        Raises
        ------
        ValueError
            If a feature or target is not in the panel.
        """
        import pandas as pd

        names = self.target_names
        if targets is not None:
            names = check_strings(targets, "targets")
        check_known(names, self.target_names, what="is no target of this panel")
        part = self if features is None else self.select(features=features)
        frame = frame_of(part.X, columns=part.feature_names)
        labels = np.array([era_label(int(n)) for n in self.era_numbers], object)
        frame.insert(0, "era", np.repeat(labels, np.diff(self._bounds)))
        y = self._targets
        if targets is not None:
            y = y[:, [self.target_names.index(name) for name in names]]
        y = pd.DataFrame(y.copy(), columns=names, copy=False)
        frame = pd.concat([frame, y], axis=1)
        ids = self.ids
        if ids is not None:
            frame.index = pd.Index(ids, name="id")
        return frame

    def as_X(self) -> PanelRows:
        """Return the rows as a table that cross-validation and searches can select of.

        Returns
        -------
        PanelRows of shape (n_rows, n_features)
            No cell is copied. See there for what estimators make of it. Those of
            this package take the panel itself as the same.

        Examples
        --------
        >>> from numerai_features.datasets import make_era_panel
        >>> panel = make_era_panel(n_eras=8, rows_per_era=100, random_state=0)
        >>> panel.as_X()[[3, 5]].eras
        array([1, 1], dtype=int32)
        """
        from numerai_features.datasets._panel_rows import PanelRows

        return PanelRows(self)

    def __numerai_frame__(self) -> Any:
        """Return what this package's estimators take the panel for: see `as_X`."""
        return self.as_X().__numerai_frame__()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        """Refuse to be an array: scikit-learn would take a panel for a single cell."""
        raise TypeError(
            "an EraPanel is no array. Pass panel.as_X() to scikit-learn as X, or "
            "panel.X for the features alone."
        )

    def __numerai_ids__(self) -> Any:
        """Return the ids as an index of pandas, or None."""
        return self.as_X().__numerai_ids__()

    def with_latents(self, latents: EraPanel | PathLike) -> EraPanel:
        """Return a panel that has latents of the same rows beside its features.

        The features of `latents` come after those of this panel. Nothing is copied
        until X is used. Then both are joined, row by row in blocks: for a panel on
        disk, in a file without a name in the panel's folder, which takes disk and
        vanishes with the table. Of `as_X`, only the rows that are used are joined. A
        pickle has the paths of both.

        Parameters
        ----------
        latents : EraPanel, str or path-like
            What `LatentFeatures.transform_to` made of this panel, or its folder.

        Returns
        -------
        EraPanel
            With this panel's targets, ids and metadata. X is uint8 if that of one part
            is. Call it again for further latents.

        Raises
        ------
        ValueError
            If the rows are not the same, or a name is the same; where X is used, if
            this panel's int8 features are below 0 and the latents are uint8.

        See Also
        --------
        numerai_features.compose.LatentFeatures : Its table has the same columns, so
            that a model of this panel predicts what its ``transform`` makes of new
            rows.

        Examples
        --------
        >>> import tempfile
        >>> from numerai_features import FactorAnalysisEmbedder, LatentFeatures
        >>> from numerai_features.datasets import make_era_panel
        >>> panel = make_era_panel(n_eras=8, rows_per_era=100, random_state=0)
        >>> latents = LatentFeatures(FactorAnalysisEmbedder(3), quantize="uint8")
        >>> latents = latents.fit(panel.as_X())
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     both = panel.with_latents(latents.transform_to(panel, f"{folder}/fa"))
        >>> both.X.shape, both.X.dtype
        ((800, 63), dtype('uint8'))
        """
        from numerai_features.datasets._panel_parts import join_panels

        return join_panels(self, latents)

    def save(
        self,
        path: PathLike,
        *,
        overwrite: bool = False,
        eras: Any = None,
        every: int | None = None,
        first: Any = None,
        last: Any = None,
        features: Features | None = None,
        targets: Sequence[str] | None = None,
    ) -> None:
        """Write the panel, or a part of it, to a folder.

        The folder appears only when it is complete. The rows are copied in blocks, so
        that a part of a panel on disk need not fit into memory, as that of `select`
        must.

        Parameters
        ----------
        path : str or path-like
            Folder to create.
        overwrite : bool, default=False
            Whether to replace an existing panel. A folder with files other than a
            panel's is never replaced.
        eras, every, first, last, features
            What to write, as in `select`; all by default.
        targets : sequence of str, default=None
            Targets to write; all by default.

        Raises
        ------
        FileExistsError
            If something exists at `path`, or has appeared there meanwhile, and
            `overwrite` is False or it is not a panel, or it is a panel that is just
            being changed.
        ValueError
            If an era, a feature or a target is not in the panel, or nothing is left.
        """
        from numerai_features.datasets._panel_copy import save_rows

        kept = select_eras(self.era_numbers, eras, every=every, first=first, last=last)
        columns = None
        if features is not None:
            columns = select_columns(features, self.feature_names)
        slices = row_slices(self._bounds, kept)
        save_rows(self, path, slices, columns, targets, overwrite=overwrite)

    def verify(self) -> None:
        """Compare all files with their checksums, and check all values.

        All files of the folder are compared with the checksums in ``panel.json``, even
        if this panel has only some of its eras; the error tells which blocks of rows of
        which file differ. The rows are then checked in blocks,
        also for a panel in memory: features must be bins, eras must ascend, and no
        target may be infinite.

        Raises
        ------
        ValueError
            If a file was changed, if the folder now holds another panel, or if a value
            is wrong.
        FileNotFoundError
            If a file is missing.
        """
        if self._source is not None:
            self._source.verify()
        check_cells(self._X)
        check_sorted(self._eras)
        check_targets(self._targets, self.n_rows, self.target_names)

    def append(
        self,
        files: PathLike | Sequence[PathLike],
        *,
        missing: str = "middle",
        verbose: bool = True,
    ) -> EraPanel:
        """Append the rows of later eras to the panel's folder.

        Rows whose era comes after the last one of the panel are added; all others, and
        live rows, are left out. So ``append("validation.parquet")`` adds the new eras
        of the week. The features are written behind those that are there; targets, eras
        and ids are written anew. The panel changes in one step at the end: until then,
        and after an error, Ctrl-C or a crash, the folder holds the panel as before.
        Running it again finishes it: an append of more than 64 MB goes on where it was.

        Parameters
        ----------
        files : path or sequence of paths
            Parquet files with all features and targets of the panel, in any order;
            their other columns are left out.
        missing : {"middle", "raise"}, default="middle"
            How to handle missing feature values, as in `read_numerai`.
        verbose : bool, default=True
            Whether to show a progress bar.

        Returns
        -------
        EraPanel
            The panel with the new rows, opened; this one if there are none. This panel
            keeps its rows. ``info["changes"]`` tells what was appended.

        Raises
        ------
        BlockingIOError
            If another process is changing the panel.
        OSError
            If the disk has too little free space.
        ValueError
            If the panel is in memory, is a selection, was changed since it was opened,
            or holds live rows; if a file is damaged or lacks a column; if an id is
            there already.

        See Also
        --------
        update : Fill in targets that were not known before.

        Examples
        --------
        >>> import tempfile
        >>> from numerai_features.datasets import make_era_panel
        >>> whole = make_era_panel(n_eras=12, rows_per_era=5, random_state=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     whole.to_frame().to_parquet(f"{folder}/validation.parquet")
        ...     whole.select(last=10).save(f"{folder}/numerai.panel")
        ...     panel = EraPanel.open(f"{folder}/numerai.panel")
        ...     panel = panel.append(f"{folder}/validation.parquet", verbose=False)
        >>> panel.n_rows
        60
        >>> panel.info["changes"]
        [{'append': ['validation.parquet'], 'eras': ['0011', '0012']}]
        """
        from numerai_features.datasets._panel_append import append_eras

        return append_eras(self, files, missing=missing, verbose=verbose)

    def update(
        self,
        files: PathLike | Sequence[PathLike],
        *,
        restated: str = "raise",
        verbose: bool = True,
    ) -> EraPanel:
        """Fill in targets that were resolved since, in the panel's folder.

        Rows are matched by id, within their era; other rows of the files are left out.
        A target that is NaN in the panel and a number in a file becomes that number. A
        NaN in a file changes nothing, nor do features, which are not read. The targets
        are written to a new file, and the panel changes in one step at the end, as in
        `append`.

        Parameters
        ----------
        files : path or sequence of paths
            Parquet files with ids, the column ``era``, and targets of the panel; it
            need not be all of them.
        restated : {"raise", "keep", "replace"}, default="raise"
            What to do if a target that is known, in the panel or from a file before,
            has another value in a file: raise, keep what is there, or take the file's.
        verbose : bool, default=True
            Whether to show a progress bar.

        Returns
        -------
        EraPanel
            The panel with the new targets, opened; this one if nothing has changed.
            This panel keeps its targets. ``info["changes"]`` tells how many targets
            were filled in.

        Raises
        ------
        BlockingIOError
            If another process is changing the panel.
        OSError
            If the disk has too little free space.
        ValueError
            If the panel is in memory, is a selection, was changed since it was opened,
            or has no ids; if a file is damaged, has none of the panel's targets, or
            eras of the panel but none of its ids; if no file has an era of the panel;
            if a known target has another value.

        Examples
        --------
        >>> import tempfile
        >>> import numpy as np
        >>> from numerai_features.datasets import make_era_panel
        >>> frame = make_era_panel(n_eras=12, rows_per_era=5).to_frame()
        >>> frame["target_alpha_60"] = np.float32(0.5)
        >>> late = frame.assign(
        ...     target_alpha_60=frame["target_alpha_60"].where(frame["era"] < "0011")
        ... )
        >>> from numerai_features.datasets import read_numerai
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name, rows in (("late", late), ("validation", frame)):
        ...         rows.to_parquet(f"{folder}/{name}.parquet")
        ...     panel = read_numerai(
        ...         f"{folder}/late.parquet", f"{folder}/numerai.panel",
        ...         features=["feature_0000"], verbose=False,
        ...     )
        ...     panel = panel.update(f"{folder}/validation.parquet", verbose=False)
        >>> panel.info["changes"]
        [{'update': ['validation.parquet'], 'filled': 10, 'restated': 0}]
        """
        from numerai_features.datasets._panel_update import update_targets

        return update_targets(self, files, restated=restated, verbose=verbose)

    def _check_written(self, checksums: dict[str, Any]) -> None:
        """Raise if the folder does not hold the panel that was written."""
        if self._source is None or self._source.checksums != checksums:
            raise ValueError(
                f"{self.path} no longer holds the panel that was written: another "
                "writer has replaced it. Let each write to its own path."
            )

    def __len__(self) -> int:
        return self.n_rows

    def __repr__(self) -> str:
        numbers = self.era_numbers
        eras = f"{era_label(numbers[0])!r}..{era_label(numbers[-1])!r} ({len(numbers)})"
        path = "" if self.path is None else f", path={str(self.path)!r}"
        names = self.target_names
        targets = f"[{some_names(names)}]" if len(names) <= 3 else f"{len(names)} names"
        return (
            f"EraPanel(n_rows={self.n_rows}, n_features={self.n_features}, "
            f"eras={eras}, targets={targets}{path})"
        )

    def __getstate__(self) -> dict[str, Any]:
        # Unpickling opens a panel on disk again: a pickle of its rows would be as large
        # as the panel.
        if self._source is not None:
            return {"_source": self._source._replace(ids=None)}
        return self.__dict__.copy()

    def __setstate__(self, state: dict[str, Any]) -> None:
        source: Source | None = state["_source"]
        if source is not None:
            arrays, contents, found = open_folder(source.path)
            if found.checksums != source.checksums:
                raise ValueError(
                    f"{source.path} holds another panel now than when this one was "
                    "pickled. Open it with EraPanel.open and pickle it again."
                )
            whole = EraPanel._of(arrays, contents, found)
            state = whole._view(slice(source.start, source.stop)).__dict__
        self.__dict__.update(state)

    def _take(self, rows: slice | NDArray[np.intp]) -> NDArray[Any]:
        """Return the features of some rows, as `_scratch.take` does."""
        return take(self.X, rows)

    def _view(self, rows: slice) -> EraPanel:
        arrays = {
            "features": self._X[rows],
            "eras": self._eras[rows],
            "targets": self._targets[rows],
        }
        source = None if self._source is None else self._source.part(rows)
        ids = None if self._ids is None else self._ids[rows]
        return EraPanel._of(arrays, self._contents(), source, ids=ids)

    def _copy(
        self, slices: list[slice], columns: NDArray[np.intp] | None = None
    ) -> EraPanel:
        arrays = {
            "features": gather(self._X, slices, columns),
            "eras": gather(self._eras, slices),
            "targets": gather(self._targets, slices),
        }
        ids = self._id_array()
        if ids is not None:
            import pyarrow as pa

            ids = pa.concat_arrays([ids[rows] for rows in slices])
        return EraPanel._of(arrays, self._contents(columns), ids=ids)

    def _contents(self, columns: NDArray[np.intp] | None = None) -> dict[str, Any]:
        names = self.feature_names
        return {
            "feature_names": names if columns is None else [names[j] for j in columns],
            "target_names": self.target_names,
            "info": self.info,
        }

    def _id_array(self) -> Any:
        """Return the ids as a pyarrow array, or None; read them on first use."""
        if self._ids is None and self._source is not None:
            self._ids = self._source.read_ids()
        return self._ids
