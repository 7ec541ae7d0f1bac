"""Appending the rows of new eras to a panel in its folder."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._eras import LIVE, encode_eras, era_label
from numerai_features._progress import progress
from numerai_features._validation import ERA_COLUMN, require_numbers
from numerai_features._whole import sync
from numerai_features.datasets._arguments import PathLike, check_flag
from numerai_features.datasets._metadata import check_known
from numerai_features.datasets._panel_checks import check_info, repeated_ids, to_int32
from numerai_features.datasets._panel_files import Source, read_header
from numerai_features.datasets._panel_folder import write_ids
from numerai_features.datasets._panel_state import (
    PanelState,
    changing,
    read_journal,
    reserve,
    write_journal,
)
from numerai_features.datasets._panel_writer import place_rows
from numerai_features.datasets._parquet_batches import (
    Batch,
    batches,
    new_scratch,
    pieces,
    take_rows,
)
from numerai_features.datasets._parquet_names import (
    check_files,
    find_id_column,
    open_parquet,
    read_columns,
)

if TYPE_CHECKING:
    from numerai_features.datasets._panel import EraPanel

BATCH_ROWS = 8_192

_BATCH_CELLS = 12_000_000  # at most; each takes some 20 bytes while it is decoded


def append_eras(
    panel: EraPanel,
    files: PathLike | Sequence[PathLike],
    *,
    missing: str,
    verbose: bool,
) -> EraPanel:
    """Append the rows of later eras; see `EraPanel.append`."""
    source = whole_source(panel, "append")
    check_flag(verbose, "verbose")
    if missing not in ("middle", "raise"):
        raise ValueError(f"missing must be 'middle' or 'raise'; got {missing!r}.")
    last = int(panel.era_numbers[-1])
    if last == LIVE:
        raise ValueError(
            f"{source.path} holds live rows (era 'X'), which come last, so that "
            "nothing can be appended. Save panel.select(eras=...) without 'X' to "
            "another folder, and append to that."
        )
    check_info(panel.info)
    paths = check_files(files)
    for file in paths:
        there = read_columns(file)
        check_known(panel.feature_names, there, what=f"is no column of {file}")
        check_known(panel.target_names, there, what=f"is no column of {file}")
    with (
        progress(hidden=not verbose, unit=" rows", desc="eras and ids") as bar,
        changing(source) as state,
    ):
        rows = NewRows(paths, last)
        if rows.n_rows == 0:
            bar.set_description("no later eras")
            return panel
        ids = _all_ids(panel, rows)
        checksums = _append(state, panel, rows, ids, missing, bar)
    return reopened(panel, checksums)


def whole_source(panel: EraPanel, what: str) -> Source:
    """Return the folder of a panel; raise if it is in memory or only a part of one."""
    source = panel._source
    if source is None:
        raise ValueError(
            f"{what} changes a panel in its folder, but this one is in memory: it was "
            "never saved, or is a copy of selected rows. Save it and open the folder. "
            "If it has latents beside its features, open the panel without them."
        )
    if (source.start, source.stop) != (0, source.n_rows):
        raise ValueError(
            f"{what} changes the whole panel in {source.path}, but this one is a "
            f"selection of its eras. Call EraPanel.open({str(source.path)!r})."
            f"{what}(...)."
        )
    return source


def reopened(panel: EraPanel, checksums: dict[str, Any]) -> EraPanel:
    """Open a panel that was changed."""
    changed = type(panel).open(panel.path or "")
    changed._check_written(checksums)
    return changed


class NewRows:
    """The rows of later eras in some files, and their places behind a panel's rows.

    Attributes
    ----------
    n_rows : int
    eras : ndarray of shape (n_rows,)
        Era number of each new row.
    places : list of ndarray of shape (n_rows_of_file,)
        The place of each row of a file among the new rows; -1 for the others.
    """

    def __init__(self, files: list[Path], last: int) -> None:
        self.files = files
        indexes = []
        for file in files:
            with open_parquet(file) as parquet:
                column = parquet.read(columns=[ERA_COLUMN]).column(0)
                column.validate(full=True)
            indexes.append(encode_eras(column, name=f"the era column of {file}"))
        # Labels of all files together, so that a label has one number in all of them.
        labels = np.concatenate([index.labels for index in indexes])
        numbers = require_numbers(encode_eras(labels), "the era columns").row_numbers
        parts = np.split(to_int32(numbers), np.cumsum([i.n_eras for i in indexes])[:-1])
        eras = [n[i.codes] for n, i in zip(parts, indexes, strict=True)]
        every = np.concatenate(eras)
        kept = np.flatnonzero((every > last) & (every != LIVE))
        kept = kept[np.argsort(every[kept], kind="stable")]
        self.eras = every[kept]
        places = np.full(len(every), -1, np.int64)
        places[kept] = np.arange(len(kept))
        self.places = np.split(places, np.cumsum([len(e) for e in eras])[:-1])

    @property
    def n_rows(self) -> int:
        """Number of new rows."""
        return len(self.eras)

    def ids(self) -> Any:
        """Return the ids of the new rows, as a pyarrow array; None if a file has none.

        Only row groups with new rows are read.
        """
        import pyarrow as pa

        found, order = [], []
        for file, places in zip(self.files, self.places, strict=True):
            with open_parquet(file) as parquet:
                column = find_id_column(parquet.schema_arrow, file)
            if column is None:
                return None
            for start, batch in batches(file, places >= 0, [column], BATCH_ROWS):
                inside = places[start : start + batch.num_rows]
                part = batch.column(0).filter(pa.array(inside >= 0))
                part.validate(full=True)  # raises if text is not valid UTF-8
                if part.null_count:
                    raise ValueError(
                        f"{file} has {part.null_count} rows without an id. Drop those "
                        "rows."
                    )
                found.append(part.cast(pa.string()))
                order.append(inside[inside >= 0])
        ids = pa.concat_arrays(found)
        return ids.take(pa.array(np.argsort(np.concatenate(order))))


def _all_ids(panel: EraPanel, rows: NewRows) -> Any:
    """Return the ids of the old rows and of the new ones; None if there are none."""
    import pyarrow as pa

    old, new = panel._id_array(), rows.ids()
    if old is None:
        return None
    if new is None:
        raise ValueError(
            f"The rows of {panel.path} have ids, but a file of {_names(rows.files)} "
            "has none. Write it with an index, or a column, 'id'."
        )
    ids = pa.concat_arrays([old, new])
    repeated = repeated_ids(ids)
    if len(repeated):
        first = int(repeated[0])
        where = "in the files twice" if first >= len(old) else "in the panel already"
        raise ValueError(
            f"The id {ids[first].as_py()!r} of a later era is {where}. Pass each file "
            "once, and only files of the panel's release."
        )
    return ids


def _append(
    state: PanelState,
    panel: EraPanel,
    rows: NewRows,
    ids: Any,
    missing: str,
    bar: Any,
) -> dict[str, Any]:
    """Write the rows, and then the manifest; return the checksums."""
    n_rows = panel.n_rows + rows.n_rows
    tail = Tail(state, rows, _key_of(panel, rows, missing, ids))
    row_bytes = panel.n_features + 4 * len(panel.target_names) + 100
    old_bytes = panel.n_rows * (4 * len(panel.target_names) + 4)
    id_bytes = 0 if ids is None else ids.nbytes
    todo = rows.n_rows - tail.done
    state.check_space(todo * row_bytes + old_bytes + id_bytes)
    bar.reset(total=rows.n_rows)
    bar.update(tail.done)
    entry = tail.write(panel.feature_names, missing, bar)
    bar.set_description("targets")
    targets = state.new_array("targets", n_rows)
    _write_targets(targets[panel.n_rows :], panel.target_names, rows)
    targets.flush()
    eras = state.new_array("eras", n_rows)
    eras[panel.n_rows :] = rows.eras
    eras.flush()
    new: dict[str, Any] = {"features": entry, "targets": None, "eras": None}
    if ids is not None:
        write_ids(state.new_file("ids"), ids)
        new["ids"] = None
    bar.set_description("panel")
    first, last = era_label(int(rows.eras[0])), era_label(int(rows.eras[-1]))
    about = {"append": _names(rows.files), "eras": [first, last]}
    info = with_change(panel.info, about)
    n_missing = info.get("n_missing", 0)
    if isinstance(n_missing, int) and (tail.n_missing or "n_missing" in info):
        info["n_missing"] = n_missing + tail.n_missing
    return state.commit({"n_rows": n_rows, "info": info}, new)


def with_change(info: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
    """Return the metadata of a changed panel; its ``changes`` tell of all changes."""
    info = check_info(info)
    before = info.get("changes", [])
    return {**info, "changes": [*(before if isinstance(before, list) else []), about]}


def _write_targets(out: NDArray[np.float32], names: list[str], rows: NewRows) -> None:
    for file, places in zip(rows.files, rows.places, strict=True):
        for start, batch in batches(file, places >= 0, names, BATCH_ROWS):
            inside = places[start : start + batch.num_rows]
            y = Batch(batch, file, start, inside >= 0).targets(names)
            for kept, place in pieces(inside):
                out[place] = y[kept]


class Tail:
    """The features of new rows, behind those of the panel in the same file.

    Whenever a block of rows is whole, a journal is written, with the checksums of all
    blocks so far. An append of the same rows of the same files goes on from there if
    what is in the file has these checksums. Of files whose eras do not ascend there is
    none.

    Attributes
    ----------
    done : int
        Number of rows that are there.
    n_missing : int
        Number of missing values in them that were replaced.
    """

    def __init__(self, state: PanelState, rows: NewRows, key: str) -> None:
        self.state = state
        self.rows = rows
        self.key = key
        self.file = state.file("features")
        self.width = len(state.manifest["feature_names"])
        self.n_old = int(state.manifest["n_rows"])
        self.begin = read_header(self.file)[-1] + self.n_old * self.width
        self.sums = state.sums("features")
        self.done = self.n_missing = 0
        self._resume()

    def write(self, names: list[str], missing: str, bar: Any) -> dict[str, Any]:
        """Write the features; return the checksums of the whole file."""
        n_new, done = self.rows.n_rows, self.done
        with self.file.open("r+b") as stream:
            reserve(stream.fileno(), self.begin, n_new * self.width)
            stream.truncate(self.begin + n_new * self.width)
        out = np.memmap(self.file, np.uint8, "r+", self.begin, (n_new, self.width))
        batch_rows = min(BATCH_ROWS, max(256, _BATCH_CELLS // self.width))
        scratch = new_scratch(self.width, batch_rows)
        top = n_written = done
        for file, whole in zip(self.rows.files, self.rows.places, strict=True):
            bar.set_description(file.name)
            places = np.where(whole >= done, whole, -1)
            for start, batch in batches(file, places >= 0, names, batch_rows):
                inside = places[start : start + batch.num_rows]
                decoder = Batch(batch, file, start, inside >= 0)
                X, n_missing = decoder.features(names, scratch, missing)
                self.n_missing += n_missing
                for kept, place in pieces(inside):
                    place_rows(out, place, take_rows(X, kept))
                n_rows = int((inside >= 0).sum())
                top, n_written = max(top, int(inside.max()) + 1), n_written + n_rows
                if top == n_written:  # there is no gap
                    self._note(out[self.done : top])
                bar.update(n_rows)
        self.sums.add(out[self.done :])
        out.flush()
        sync(self.file)
        return {"start": self._header_sums(), "blocks": self.sums.blocks}

    def _note(self, rows: NDArray[Any]) -> None:
        """Add rows to the checksums, and to the journal if a block is whole."""
        before = self.sums.n_bytes // self.sums.step
        self.sums.add(rows)
        self.done += len(rows)
        if self.sums.n_bytes // self.sums.step > before:
            record = {
                "made_of": self.key,
                "blocks": self.sums.blocks,
                "n_rows": self.done,
                "n_missing": self.n_missing,
            }
            write_journal(self.state.path, self.state.on_disk, record)

    def _resume(self) -> None:
        """Go on from the journal if it tells of these rows, and they are there."""
        journal = read_journal(self.state.path, self.state.on_disk)
        if journal is None or journal["made_of"] != self.key:
            return
        sums = self.state.sums("features")
        with self.file.open("rb") as stream:
            stream.seek(self.begin)
            sums.read(stream, journal["n_rows"] * self.width)
        if sums.blocks == journal["blocks"]:
            self.sums, self.done = sums, journal["n_rows"]
            self.n_missing = journal["n_missing"]

    def _header_sums(self) -> list[int]:
        """Return the checksums of the header as it is, and as it will be."""
        new = self.state.header(self.n_old + self.rows.n_rows)
        with self.file.open("rb") as stream:
            old = stream.read(read_header(self.file)[-1])
        both = [old, new] if len(new) == len(old) else [old]
        return [zlib.crc32(header) for header in both]


def _key_of(panel: EraPanel, rows: NewRows, missing: str, ids: Any) -> str:
    """Return a hash of everything that the features of the new rows depend on."""
    import pyarrow as pa

    digest = hashlib.blake2b(digest_size=16)
    stats = [os.stat(file) for file in rows.files]
    about = [[stat.st_size, stat.st_mtime_ns] for stat in stats]
    files = [str(file.resolve()) for file in rows.files]
    digest.update(json.dumps([files, about, missing]).encode())
    for array in (rows.eras, *rows.places):
        digest.update(np.asarray(array).data)
    if ids is not None:
        new = pa.RecordBatch.from_arrays([ids[panel.n_rows :]], ["id"])
        digest.update(new.serialize())
    return digest.hexdigest()


def _names(files: list[Path]) -> list[str]:
    return [file.name for file in files]
