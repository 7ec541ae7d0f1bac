"""Download one file: resumed where it was cut off, verified, and whole or not at all.

Until a file is complete, its bytes are in a hidden file beside it, ``.NAME.HASH.part``.
The hash is that of what the server says about the file: of another version of the
file, nothing is resumed. The complete file gets the server's date, in the same step as
its name. So a process that is killed at any moment leaves a file that is known.
"""

from __future__ import annotations

import contextlib
import email.utils
import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numerai_features._optional import import_optional
from numerai_features._progress import progress
from numerai_features._whole import locked, sync
from numerai_features.tournament import _http
from numerai_features.tournament._errors import ROOM, NoAnswerError, ServerError
from numerai_features.tournament._http import STORE, error_of, reason_of, send

if TYPE_CHECKING:
    from requests import Response

_CHUNK = 1 << 16  # what a connection that is cut off loses at most
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Remote:
    """What the server says about a file: its size, its version and its date."""

    size: int
    etag: str
    modified: str

    @classmethod
    def of(cls, answer: Response, name: str) -> Remote:
        """Return what the headers of an answer say."""
        length = answer.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise ServerError(
                f"{STORE} does not say how long {name} is, so that it cannot be "
                "verified. Try again later."
            )
        return cls(
            int(length),
            answer.headers.get("ETag", ""),
            answer.headers.get("Last-Modified", ""),
        )

    @property
    def is_known(self) -> bool:
        """Whether it tells one version of the file from another."""
        return bool(self.etag or self.modified)

    @property
    def identity(self) -> str:
        """A hash that differs for another version of the file."""
        told = json.dumps([self.size, self.etag or self.modified])
        return hashlib.blake2b(told.encode(), digest_size=8).hexdigest()

    @property
    def date(self) -> float | None:
        """Seconds since 1970 when the file was last modified; None: unknown."""
        try:
            return email.utils.parsedate_to_datetime(self.modified).timestamp()
        except (TypeError, ValueError):
            return None


def fetch(
    file: Path,
    address: Callable[[], str],
    *,
    is_here: Callable[[Remote], bool],
    check: Callable[[Path], object],
    verbose: bool,
) -> tuple[Remote, bool]:
    """Download a file, unless it is here.

    Parameters
    ----------
    file : Path
        Where it is to be; its folder exists.
    address : callable
        Returns an address, which may work for some minutes only.
    is_here : callable
        Whether the local file is the one that the server offers.
    check : callable
        Raises a ValueError if a complete download cannot be used.
    verbose : bool
        Whether to show the progress.

    Returns
    -------
    remote : Remote
    is_new : bool
        Whether it was downloaded.
    """
    delays = iter(_http.DELAYS)
    most = _n_bytes(file)
    while True:
        try:
            return _fetch_once(file, address(), is_here, check, verbose=verbose)
        except _CutOffError as cut:
            told = str(cut)
        if _n_bytes(file) > most:  # than ever: it may have begun again
            most = _n_bytes(file)
            delays = iter(_http.DELAYS)
        delay = next(delays, None)
        if delay is None:
            raise NoAnswerError(
                f"{told} What has come is kept: the same command resumes from there."
            )
        time.sleep(delay)


class _CutOffError(Exception):
    """A download has ended before its end; it may be tried again."""


def _fetch_once(
    file: Path,
    url: str,
    is_here: Callable[[Remote], bool],
    check: Callable[[Path], object],
    *,
    verbose: bool,
) -> tuple[Remote, bool]:
    with _get(url, file.name) as answer:
        remote = Remote.of(answer, file.name)
        if is_here(remote):
            _sweep(file)
            return remote, False
        part = _part(file, remote.identity)
        _sweep(file, keep=part)
        part.touch()
        with locked(part) as is_ours:
            if not is_ours:
                raise BlockingIOError(
                    f"Another process is downloading {file}. Wait for it, then run "
                    "this again."
                )
            have = part.stat().st_size if remote.is_known else 0
            if have > remote.size:
                have = 0
            _check_space(file, remote.size - have)
            if have < remote.size or not have:
                _receive(answer, url, remote, part, have, file, verbose=verbose)
            _finish(part, file, remote, check)
    return remote, True


def _receive(
    answer: Response,
    url: str,
    remote: Remote,
    part: Path,
    have: int,
    file: Path,
    *,
    verbose: bool,
) -> None:
    """Write what is still missing of a file."""
    rest: Any = contextlib.nullcontext(answer)
    if have:
        answer.close()
        rest = _get(url, file.name, have, remote)
    with rest as stream:
        if have and not _goes_on(stream, have, remote):
            raise _again(part, f"{STORE} cannot resume {file.name}.")
        with (
            part.open("ab" if have else "wb") as out,
            progress(
                hidden=not verbose, desc=file.name, total=remote.size, initial=have,
                unit="B", unit_scale=True,
            ) as bar,
        ):  # fmt: skip
            _copy(stream, out, bar, remote.size - have, file)


def _copy(stream: Response, out: Any, bar: Any, missing: int, file: Path) -> None:
    requests = import_optional("requests", extra="numerai", needed_by=ROOM)
    reason = "it ended too early"
    try:
        for chunk in stream.iter_content(_CHUNK):
            out.write(chunk[:missing])
            missing -= len(chunk)
            bar.update(len(chunk))
    except requests.RequestException as error:
        reason = reason_of(error)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise _full(file, missing) from error
    if missing > 0:
        raise _CutOffError(
            f"The download of {file.name} was cut off {size_text(missing)} before its "
            f"end: {reason}."
        )


def _finish(
    part: Path, file: Path, remote: Remote, check: Callable[[Path], object]
) -> None:
    """Verify a complete download, and put it in its place."""
    size = part.stat().st_size
    try:
        if size != remote.size:
            raise ValueError(f"it has {size:,} bytes, not {remote.size:,}")
        check(part)
    except ValueError as error:
        part.unlink(missing_ok=True)
        told = str(error).replace(str(part), file.name)
        raise ServerError(
            f"{file.name} has come from the server, but cannot be used: {told} It is "
            "removed. Run this again; if that does not help, Numerai's file is damaged."
        ) from None
    sync(part)
    if remote.date is not None:
        os.utime(part, (time.time(), remote.date))
    os.replace(part, file)
    sync(file.parent)


def _get(
    url: str, name: str, have: int = 0, remote: Remote | None = None
) -> contextlib.AbstractContextManager[Response]:
    """Ask for a file, or for the rest of it; raise unless it comes."""
    headers = {"Accept-Encoding": "identity"}  # so that lengths are the file's
    if have and remote is not None:
        headers |= {
            "Range": f"bytes={have}-",
            "If-Range": remote.etag or remote.modified,
        }
    answer = send("GET", url, to=STORE, headers=headers, stream=True)
    if answer.status_code in (200, 206, 416):
        return contextlib.closing(answer)
    answer.close()
    told = f"{STORE} answered HTTP status {answer.status_code} for {name}."
    if answer.status_code in (401, 403, 410):  # the address has expired
        raise _CutOffError(told)
    kind = error_of(answer)
    if kind is NoAnswerError:
        raise kind(f"{told} Try again later.")
    raise kind(
        f"{told} It may have been moved, or a proxy may have answered instead: run "
        "this again, from another network if that does not help."
    )


def _goes_on(answer: Response, have: int, remote: Remote) -> bool:
    """Whether an answer has the bytes from `have` to the end of the same version."""
    expected = f"bytes {have}-{remote.size - 1}/{remote.size}"
    return (
        answer.status_code == 206
        and answer.headers.get("Content-Range", "") == expected
        and answer.headers.get("ETag", remote.etag) == remote.etag
    )


def _again(part: Path, told: str) -> _CutOffError:
    """Begin again without what has come."""
    part.unlink(missing_ok=True)
    return _CutOffError(told)


def _part(file: Path, identity: str) -> Path:
    return file.with_name(f".{file.name}.{identity}.part")


def _parts(file: Path) -> list[Path]:
    return sorted(file.parent.glob(f".{file.name}.*.part"))


def _n_bytes(file: Path) -> int:
    """Return how much of a file has come."""
    return sum(part.stat().st_size for part in _parts(file))


def _sweep(file: Path, keep: Path | None = None) -> None:
    """Remove parts of other versions of a file, which nobody is downloading."""
    for part in _parts(file):
        if part != keep:
            with locked(part) as is_ours:
                if is_ours:
                    part.unlink(missing_ok=True)


def _check_space(file: Path, missing: int) -> None:
    free = shutil.disk_usage(file.parent).free
    if free < missing:
        raise _full(file, missing, f", and {size_text(free)} are free")


def _full(file: Path, missing: int, free: str = "") -> OSError:
    return OSError(
        f"The disk is full: {file} needs {size_text(missing)} more{free}. Make room, "
        "or pass another folder. What has come is kept, and the same command resumes."
    )


def size_text(n_bytes: int) -> str:
    """Return a size as people write it."""
    value = float(n_bytes)
    for unit in ("bytes", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit != "MB" else f"{value:.1f} MB"
        value /= 1000
    return f"{value:.1f} GB"
