"""A panel of several parts: features, and latents of the same rows beside them."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from numerai_features._blocks import as_slice, row_blocks
from numerai_features._eras import era_label
from numerai_features._names import some_names
from numerai_features._scratch import empty_like, take
from numerai_features.datasets._arguments import PathLike, check_path
from numerai_features.datasets._panel import EraPanel


def join_panels(panel: EraPanel, latents: EraPanel | PathLike) -> EraPanel:
    """Return a panel and its latents side by side; see `EraPanel.with_latents`."""
    if not isinstance(latents, EraPanel):
        latents = EraPanel.open(check_path(latents, "latents"))
    _check_same_rows(panel, latents)
    there = set(panel.feature_names)
    twice = [name for name in latents.feature_names if name in there]
    if twice:
        raise ValueError(
            f"latents has features that the panel has, too: {some_names(twice)}. Fit "
            "LatentFeatures with a list of (name, embedder), of which the names become "
            "prefixes."
        )
    return PanelOfParts([*parts_of(panel), *parts_of(latents)])


class PanelOfParts(EraPanel):
    """A panel whose features are in several panels of the same rows.

    Targets, ids, metadata and path are those of the first.

    Parameters
    ----------
    parts : list of EraPanel
    """

    _X: Any

    def __init__(self, parts: list[EraPanel]) -> None:
        first = parts[0]
        self._parts = parts
        self._X = Beside([part._X for part in parts])
        self._eras, self._targets = first._eras, first._targets
        self._feature_names = [name for part in parts for name in part._feature_names]
        self._target_names = first._target_names
        self.info = copy.deepcopy(first.info)
        self._ids = self._source = None

    @property
    def X(self) -> NDArray[Any]:
        """Features of shape (n_rows, n_features); the parts are joined on first use."""
        return np.asarray(self._X)

    @property
    def path(self) -> Any:
        """The folder of the first part, or None."""
        return self._parts[0].path

    def verify(self) -> None:
        """Verify all parts."""
        for part in self._parts:
            part.verify()

    def _take(self, rows: slice | NDArray[np.intp]) -> NDArray[Any]:
        every = isinstance(rows, slice) and rows == slice(0, self.n_rows)
        return take(self.X, rows) if every else self._X[rows]

    def _view(self, rows: slice) -> EraPanel:
        view = PanelOfParts([part._view(rows) for part in self._parts])
        view._X.joined = None if self._X.joined is None else self._X.joined[rows]
        return view

    def _id_array(self) -> Any:
        return self._parts[0]._id_array()

    def __getstate__(self) -> dict[str, Any]:
        return {"_parts": self._parts}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(PanelOfParts(state["_parts"]).__dict__)


class Beside:
    """Tables of the same rows side by side, which are joined when they are used.

    Parameters
    ----------
    tables : list of ndarray of shape (n_rows, any)
        int8 or uint8.

    Attributes
    ----------
    joined : ndarray or None
        All rows of all tables; None as long as nobody has asked for them.
    """

    def __init__(self, tables: list[NDArray[Any]]) -> None:
        self.tables = tables
        self.shape = len(tables[0]), sum(table.shape[1] for table in tables)
        some = any(table.dtype == np.uint8 for table in tables)
        self.dtype = np.dtype(np.uint8 if some else np.int8)
        self.joined: NDArray[Any] | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | NDArray[np.intp]) -> NDArray[Any]:
        """Return some rows, as `_scratch.take` does: joined, or a view if all are."""
        return self._join(rows) if self.joined is None else take(self.joined, rows)

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[Any]:
        if self.joined is None:
            self.joined = self._join(slice(0, len(self)))
            self.joined.flags.writeable = False
        return self.joined if dtype is None else self.joined.astype(dtype)

    def _join(self, rows: slice | NDArray[np.intp]) -> NDArray[Any]:
        start, n_rows = 0, len(rows) if isinstance(rows, np.ndarray) else 0
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            n_rows = max(0, stop - start)
        out = empty_like(self.tables[0], (n_rows, self.shape[1]), self.dtype)
        for block in row_blocks(*out.shape):
            if isinstance(rows, slice):
                mine: Any = slice(start + block.start, start + block.stop)
            else:
                mine = as_slice(rows[block])
            place = 0
            for table in self.tables:
                part = table[mine]
                if part.dtype != self.dtype and part.size and part.min() < 0:
                    raise ValueError(
                        f"X of the panel holds {part.min()}, which uint8, the type of "
                        "its latents, does not. Features must be bins from 0 on."
                    )
                out[block, place : place + part.shape[1]] = part
                place += part.shape[1]
        return out


def parts_of(panel: EraPanel) -> list[EraPanel]:
    """Return the panels that a panel is made of: itself, or its parts."""
    return panel._parts if isinstance(panel, PanelOfParts) else [panel]


def _check_same_rows(panel: EraPanel, latents: EraPanel) -> None:
    """Raise if two panels are not of the same rows, in the same order."""
    advice = (
        "Pass what LatentFeatures.transform_to made of this panel; to select eras, "
        "select them of the panel with latents."
    )
    if latents.n_rows != panel.n_rows:
        raise ValueError(
            f"latents has {latents.n_rows} rows, and the panel {panel.n_rows}. {advice}"
        )
    differ = latents._eras != panel._eras
    if differ.any():
        row = int(differ.argmax())
        here, there = (era_label(int(p._eras[row])) for p in (panel, latents))
        raise ValueError(
            f"latents is of other rows: row {row} is of era {there!r}, and of era "
            f"{here!r} in the panel. {advice}"
        )
    own, others = panel._id_array(), latents._id_array()
    if own is None and others is None:
        return
    if own is None or others is None:
        which = "the panel" if own is None else "latents"
        raise ValueError(f"The rows of {which} have no ids. {advice}")
    if not own.equals(others):
        import pyarrow.compute as pc

        row = pc.index(pc.equal(own, others), False).as_py()
        raise ValueError(
            f"latents is of other rows: row {row} has the id {others[row].as_py()!r}, "
            f"and {own[row].as_py()!r} in the panel. {advice}"
        )
