"""Numerai's files: downloaded where they have changed, and verified."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numerai_features._names import near_names, some_names
from numerai_features._sealed import SealError, read_sealed, set_aside, write_sealed
from numerai_features.tournament._client import Client
from numerai_features.tournament._errors import NoSuchFile, ServerError
from numerai_features.tournament._etag import has_etag
from numerai_features.tournament._fetch import Remote, fetch

if TYPE_CHECKING:
    from numerai_features.datasets._arguments import PathLike

_RECORD, _KIND = "downloads.sealed", "downloads"
_VERSION = re.compile(r"v\d+(\.\d+)*")
_NEEDED = ("features.json", "train.parquet", "live.parquet")  # of a version of the data
_FILES = {
    "features": "features.json",
    "train": "train.parquet",
    "validation": "validation.parquet",
    "live": "live.parquet",
    "train_benchmark_models": "train_benchmark_models.parquet",
    "validation_benchmark_models": "validation_benchmark_models.parquet",
    "live_benchmark_models": "live_benchmark_models.parquet",
    "meta_model": "meta_model.parquet",
}


@dataclass(frozen=True)
class DownloadedFile:
    """A file of Numerai's on this machine.

    Parameters
    ----------
    name : str
        The server's name for it, such as ``"v5.3/live.parquet"``.
    path : Path
    size : int
        Bytes, as many as the server says.
    rows : int or None
        Rows of a parquet file.
    is_new : bool
        Whether it was downloaded now: it was not here, or it has changed.
    modified : str or None
        Date and time, UTC, at which it was written, as far as the server tells.
    """

    name: str
    path: Path
    size: int
    rows: int | None
    is_new: bool
    modified: str | None


def download(
    folder: PathLike = "data",
    *,
    version: str | None = None,
    files: Sequence[str] | None = None,
    force: bool = False,
    verbose: bool = True,
) -> list[DownloadedFile]:
    """Download Numerai's files, as far as they are not here or have changed.

    Each file is resumed where a download was cut off, also by another process. It
    appears under its name when it is complete: it has as many bytes as the server says,
    and its rows can be counted. No key is needed.

    Parameters
    ----------
    folder : path, default="data"
        The files are in a folder of this one that is called like the version.
    version : str, default=None
        Version of the data, such as ``"v5.3"``; None is the newest.
    files : sequence of str, default=None
        Names without their endings, such as ``["live", "live_benchmark_models"]``. None
        is everything that an experiment and a submission need: ``features``, ``train``,
        ``validation``, ``live``, their ``_benchmark_models``, and ``meta_model``.
    force : bool, default=False
        Whether to download files that are here and have not changed.
    verbose : bool, default=True
        Whether to show the progress.

    Returns
    -------
    list of DownloadedFile
        In the order of `files`.

    Raises
    ------
    ServerError
        If the server cannot be reached, refuses, or sends something else.
    OSError
        If the disk is full, or another process downloads the same file.
    """
    from numerai_features.datasets._arguments import (
        check_flag,
        check_path,
        check_strings,
    )

    folder = check_path(folder, "folder")
    wanted = None if files is None else check_strings(files, "files")
    check_flag(force, "force")
    check_flag(verbose, "verbose")
    check_version(version)
    client = Client()
    return download_files(client, folder, version, wanted, force=force, verbose=verbose)


def download_files(
    client: Client,
    folder: Path,
    version: str | None,
    wanted: Sequence[str] | None,
    *,
    force: bool = False,
    verbose: bool = False,
) -> list[DownloadedFile]:
    """Download files; the arguments of `download`, checked."""
    offered = client.datasets()
    version = choose_version(version, offered)
    names = _choose(wanted, version, offered)
    into = folder / version
    into.mkdir(parents=True, exist_ok=True)
    return [_download(client, into, version, n, force, verbose) for n in names]


def choose_version(version: str | None, offered: Sequence[str]) -> str:
    """Return a version of the data that the server offers; None: the newest."""
    inside: dict[str, set[str]] = {}
    for name in offered:
        first, _, rest = name.partition("/")
        if _VERSION.fullmatch(first):
            inside.setdefault(first, set()).add(rest)
    complete = [one for one, names in inside.items() if names.issuperset(_NEEDED)]
    if not complete:
        raise ServerError(
            "Numerai's server lists no version of the data that has "
            f"{some_names(_NEEDED)}. Try again later."
        )
    complete.sort(key=_order)
    if version is None:
        return complete[-1]
    if version not in inside:
        raise ValueError(
            f"version={version!r} is not on the server."
            f"{near_names(version, inside)} There are {some_names(complete[::-1])}."
        )
    return version


def _order(version: str) -> tuple[int, ...]:
    return tuple(map(int, version[1:].split(".")))


def check_version(version: Any) -> None:
    """Raise if this cannot be a version of the data, or None."""
    if version is None:
        return
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise ValueError(
            f'version must be a version of the data, such as "v5.3", or None for the '
            f"newest; got {version!r}."
        )


def _choose(
    wanted: Sequence[str] | None, version: str, offered: Sequence[str]
) -> list[str]:
    """Return the names of the files to download; by default those that are offered."""
    there = [n.partition("/")[2] for n in offered if n.startswith(f"{version}/")]
    if wanted is None:
        return [name for name in _FILES.values() if name in there]
    if not wanted:
        raise ValueError("files is empty; name at least one, or pass None for all.")
    stems = {name.rpartition(".")[0] or name: name for name in there}
    stems |= {stem: name for stem, name in _FILES.items() if name in there}
    stems |= {name: name for name in there}
    for name in wanted:
        if name not in stems:
            known = sorted(set(stems) - set(there))
            raise NoSuchFile(
                f"files: {version} has no {name!r}.{near_names(name, known)} It has "
                f"{', '.join(known)}."
            )
    return list(dict.fromkeys(stems[name] for name in wanted))


def _download(
    client: Client, into: Path, version: str, name: str, force: bool, verbose: bool
) -> DownloadedFile:
    file, full = into / name, f"{version}/{name}"
    if file.parent != into:
        raise ServerError(f"Numerai's server has a file with a strange name: {full!r}.")
    record = _read_record(into)
    known = {} if force else record.get(name, {})

    def is_here(remote: Remote) -> bool:
        return not force and _is_here(file, remote, known)

    remote, is_new = fetch(
        file.resolve(),
        lambda: client.dataset_url(full),
        is_here=is_here,
        check=lambda part: _count_rows(part, name),
        verbose=verbose,
    )
    rows = _count_rows(file, name)
    entry = {
        "remote": remote.identity, "modified": remote.modified, "size": remote.size,
        "rows": rows,
    }  # fmt: skip
    if record.get(name) != entry:
        record = _read_record(into)  # another process may have added files to it
        write_sealed(into / _RECORD, {**record, name: entry}, kind=_KIND)
    modified = None
    if remote.date is not None:
        modified = datetime.fromtimestamp(remote.date, UTC).isoformat()
    return DownloadedFile(full, file, remote.size, rows, is_new, modified)


def _is_here(file: Path, remote: Remote, known: dict[str, Any]) -> bool:
    """Whether a file is complete, and the one that the server offers."""
    try:
        about = file.stat()
    except FileNotFoundError:
        return False
    if about.st_size != remote.size or not remote.is_known:
        return False
    # The file's date is the server's: it tells of a file that was not recorded, because
    # the process was killed.
    is_dated = (
        remote.date is not None
        and about.st_mtime == remote.date
        and known.get("modified") != remote.modified
    )
    is_known = known.get("remote") == remote.identity
    try:
        rows = _count_rows(file, file.name)
        if is_known:
            return bool(rows == known["rows"])
        # Of another program's downloads, the contents tell.
        return is_dated or has_etag(file, remote.etag)
    except ValueError:
        return False


def _read_record(into: Path) -> dict[str, Any]:
    """Return what is known of the files of a folder, by their names."""
    try:
        record, _ = read_sealed(into / _RECORD, kind=_KIND, same_version=False)
    except FileNotFoundError:
        return {}
    except SealError as error:
        set_aside(into / _RECORD, error)
        return {}
    return record if isinstance(record, dict) else {}


def _count_rows(file: Path, name: str) -> int | None:
    """Open a file, and count its rows; raise a ValueError if it cannot be read."""
    if not name.endswith(".parquet"):
        if name.endswith(".json"):
            try:
                json.loads(file.read_bytes())
            except ValueError as error:
                raise ValueError(f"{file} is no JSON ({error}).") from error
        return None
    from numerai_features.datasets._parquet_names import open_parquet

    with open_parquet(file) as parquet:
        about = parquet.metadata
        rows = sum(
            int(about.row_group(i).num_rows) for i in range(about.num_row_groups)
        )
        if rows != about.num_rows:
            raise ValueError(
                f"{file} says that it has {about.num_rows:,} rows, but has {rows:,}."
            )
        for i in range(about.num_row_groups):
            group = about.row_group(i)
            last = group.column(group.num_columns - 1)
            start = last.dictionary_page_offset or last.data_page_offset
            if start + last.total_compressed_size > file.stat().st_size:
                raise ValueError(f"{file} ends before its rows do.")
    return rows
