"""Filling in targets of a panel in its folder that were not known before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._eras import encode_eras, era_label
from numerai_features._names import some_names
from numerai_features._progress import progress
from numerai_features._validation import ERA_COLUMN, require_numbers
from numerai_features.datasets._arguments import PathLike, check_flag
from numerai_features.datasets._panel_append import (
    reopened,
    whole_source,
    with_change,
)
from numerai_features.datasets._panel_checks import check_info, to_int32
from numerai_features.datasets._panel_state import PanelState, changing
from numerai_features.datasets._parquet_batches import Batch, batches
from numerai_features.datasets._parquet_names import (
    check_files,
    find_id_column,
    open_parquet,
    read_columns,
)

if TYPE_CHECKING:
    from numerai_features.datasets._panel import EraPanel

BATCH_ROWS = 65_536


def update_targets(
    panel: EraPanel,
    files: PathLike | Sequence[PathLike],
    *,
    restated: str,
    verbose: bool,
) -> EraPanel:
    """Fill in targets that are known by now; see `EraPanel.update`."""
    source = whole_source(panel, "update")
    check_flag(verbose, "verbose")
    if restated not in ("raise", "keep", "replace"):
        raise ValueError(
            f"restated must be 'raise', 'keep' or 'replace'; got {restated!r}."
        )
    check_info(panel.info)
    paths = check_files(files)
    if panel._id_array() is None:
        raise ValueError(
            f"The rows of {source.path} have no ids, so no target can be matched to "
            "them. Read the panel again, from files with ids."
        )
    for file in paths:
        _check_targets(file, read_columns(file), panel.target_names)
    with (
        progress(hidden=not verbose, unit=" rows", desc="eras") as bar,
        changing(source) as state,
    ):
        update = _Update(state, panel, restated)
        names = [file.name for file in paths]
        have_eras = [update.read(file, bar) for file in paths]
        if not any(have_eras):
            own = [era_label(int(number)) for number in panel.era_numbers[[0, -1]]]
            raise ValueError(
                f"No file of {names} has an era of the panel, which has {own[0]!r} to "
                f"{own[1]!r}. Pass a file with some of these."
            )
        if update.new is None:
            bar.set_description("no new targets")
            return panel
        bar.set_description("panel")
        update.new.flush()
        about = {
            "update": names,
            "filled": update.n_filled,
            "restated": update.n_restated,
        }
        info = with_change(panel.info, about)
        checksums = state.commit({"info": info}, {"targets": None})
    return reopened(panel, checksums)


def _check_targets(file: Path, there: list[str], names: list[str]) -> None:
    if not set(there) & set(names):
        raise ValueError(
            f"{file} has none of the panel's targets: {some_names(names) or 'it has'}"
            f"{'' if names else ' none'}. Pass a file that has one."
        )


class _Update:
    """The targets of a panel with those of files in the place of NaN.

    Attributes
    ----------
    new : ndarray or None
        The new file of targets; None as long as nothing changes.
    n_filled, n_restated : int
        How many targets have become numbers, and other numbers.
    """

    def __init__(self, state: PanelState, panel: EraPanel, restated: str) -> None:
        self.state = state
        self.panel = panel
        self.restated = restated
        self.new: np.memmap[Any, Any] | None = None
        self.n_filled = self.n_restated = 0

    def read(self, file: Path, bar: Any) -> bool:
        """Take the targets of a file; return whether it has eras of the panel."""
        names = self.panel.target_names
        numbers, id_column = _eras_of(file)
        kept = np.isin(numbers, self.panel.era_numbers)
        bar.set_description(file.name)
        bar.reset(total=int(kept.sum()))
        wanted = [id_column, *names]
        seen = np.zeros(self.panel.n_rows, bool)
        for start, batch in batches(file, kept, wanted, BATCH_ROWS):
            rows = slice(start, start + batch.num_rows)
            column = batch.column(batch.schema.names.index(id_column))
            inside, places = self._match(file, column, numbers[rows], kept[rows])
            self._check_once(file, places, seen)
            taken = np.zeros(batch.num_rows, bool)
            taken[inside] = True
            y = Batch(batch, file, start, taken).targets(names)
            self._take(file, y[inside], places)
            bar.update(int(kept[rows].sum()))
        if kept.any() and not seen.any():
            first = era_label(int(numbers[np.argmax(kept)]))
            raise ValueError(
                f"{file} has eras of the panel, such as {first!r}, but none of its "
                "ids. Pass a file of the panel's release."
            )
        return bool(kept.any())

    def _match(
        self,
        file: Path,
        ids: Any,
        numbers: NDArray[np.int32],
        kept: NDArray[np.bool_],
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return rows of a batch, and the panel's rows that have their ids."""
        import pyarrow as pa
        import pyarrow.compute as pc

        ids.validate(full=True)
        own, bounds = self.panel._id_array(), self.panel._bounds
        rows = np.flatnonzero(kept)
        rows = rows[np.argsort(numbers[rows], kind="stable")]
        ids = ids.take(pa.array(rows)).cast(pa.string())
        eras = np.searchsorted(self.panel.era_numbers, numbers[rows])
        inside, places = [], []
        for run in _runs(eras):
            start = int(bounds[eras[run.start]])
            of_era = own[start : int(bounds[eras[run.start] + 1])]
            found = pc.index_in(ids[run], value_set=of_era)
            there = found.is_valid().to_numpy(zero_copy_only=False)
            inside.append(rows[run][there])
            places.append(start + found.drop_null().to_numpy())
        return np.concatenate(inside), np.concatenate(places)

    def _check_once(
        self, file: Path, places: NDArray[np.intp], seen: NDArray[np.bool_]
    ) -> None:
        """Raise if a file has a row of the panel twice; note which rows it had."""
        ordered = np.sort(places)
        again = [*ordered[1:][np.diff(ordered) == 0], *places[seen[places]]]
        if again:
            twice = self.panel._id_array()[int(again[0])].as_py()
            raise ValueError(f"The id {twice!r} is in {file} twice. Keep one row.")
        seen[places] = True

    def _take(
        self, file: Path, y: NDArray[np.float32], places: NDArray[np.intp]
    ) -> None:
        """Put targets into their places."""
        before = (self.panel._targets if self.new is None else self.new)[places]
        known = ~np.isnan(before)
        fills = ~known & ~np.isnan(y)
        other = known & ~np.isnan(y) & (before != y)
        if other.any() and self.restated == "raise":
            self._raise_restated(file, y, before, other, places)
        if self.restated != "replace":
            other[:] = False
        changes = fills | other
        if not changes.any():
            return
        if self.new is None:
            self.state.check_space(self.panel._targets.nbytes)
            self.new = self.state.new_array("targets", self.panel.n_rows)
        rows = changes.any(axis=1)
        self.new[places[rows]] = np.where(changes, y, before)[rows]
        self.n_filled += int(fills.sum())
        self.n_restated += int(other.sum())

    def _raise_restated(
        self,
        file: Path,
        y: NDArray[np.float32],
        before: NDArray[np.float32],
        other: NDArray[np.bool_],
        places: NDArray[np.intp],
    ) -> None:
        row, column = (int(i) for i in np.argwhere(other)[0])
        names = np.array(self.panel.target_names, object)
        which = some_names(names[np.asarray(other.any(axis=0))].tolist())
        both = int((~np.isnan(before) & ~np.isnan(y)).sum())
        place = int(places[row])
        own = self.panel._id_array()[place].as_py()
        late = np.isnan(self.panel._targets[place, column])
        raise ValueError(
            f"{file} restates targets: {int(other.sum())} of {both} known ones that "
            f"were compared have other values, in {which}; {names[column]!r} of the id "
            f"{own!r} is {before[row, column]} in "
            f"{'a file before it' if late else 'the panel'} and {y[row, column]} in "
            "this one. Pass restated='replace' to take what comes later, or 'keep' to "
            "keep what is there. If there are many, the file is of another release, in "
            "which the same name means another target."
        )


def _eras_of(file: Path) -> tuple[NDArray[np.int32], str]:
    """Return the era number of each row of a file, and the name of its id column."""
    with open_parquet(file) as parquet:
        id_column = find_id_column(parquet.schema_arrow, file)
        if id_column is None:
            raise ValueError(
                f"{file} has no ids, so its targets cannot be matched to the panel's "
                "rows. Write it with an index, or a column, 'id'."
            )
        column = parquet.read(columns=[ERA_COLUMN]).column(0)
        column.validate(full=True)
    index = require_numbers(encode_eras(column, name=f"the era column of {file}"))
    return to_int32(index.numbers)[index.codes], id_column


def _runs(numbers: NDArray[Any]) -> Iterator[slice]:
    """Yield the rows of adjacent equal numbers."""
    changes = np.flatnonzero(np.diff(numbers)) + 1
    for start, stop in pairwise([0, *changes.tolist(), len(numbers)]):
        yield slice(start, stop)
