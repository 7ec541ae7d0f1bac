"""The format of all files that the library reads back: sealed by checksum and key.

A file is one line of JSON, followed by an optional payload of bytes. The line has the
kind of file, the key of what the file belongs to, the version of the package that wrote
it, the length of the payload, a record in JSON's types, and a checksum of all this and
the payload. So a truncated, changed or exchanged file is never taken for a good one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from numerai_features import __version__
from numerai_features._warn import warn
from numerai_features._whole import whole_file

_BLOCK = 8 << 20
_DIGEST = 32  # bytes of BLAKE2b
_START = '{"checksum": "'
_BLANK = "0" * 2 * _DIGEST
_LONGEST_LINE = 256 << 20


class SealError(ValueError):
    """A file is damaged, of another kind, or belongs to something else."""


class SetAsideWarning(UserWarning):
    """A file that cannot be used was renamed, and is made again."""


def write_sealed(
    file: Path,
    record: Any,
    *,
    kind: str,
    key: str = "",
    write: Callable[[IO[bytes]], object] | None = None,
) -> None:
    """Write a file, whole or not at all.

    Parameters
    ----------
    file : Path
    record : object
        A value of JSON's types.
    kind : str
        Kind of file, such as ``"panel"``.
    key : str, default=""
        Key of what the file belongs to: a hash of everything that its contents depend
        on.
    write : callable, default=None
        Writes the payload to the binary stream that it is called with. The stream can
        be neither read nor rewound.
    """
    about = {"kind": kind, "key": key, "version": __version__, "record": record}
    body = json.dumps(about)[1:-1]
    with whole_file(file) as temporary, temporary.open("r+b") as stream:
        _write_seal(stream, body, write)


def _write_seal(
    stream: IO[bytes], body: str, write: Callable[[IO[bytes]], object] | None
) -> None:
    """Write the line and the payload; then fill in the length and the checksum."""
    line = f'{_START}{_BLANK}", {body}, "length": {0:20d}}}\n'.encode()
    stream.write(line)
    payload = _Hashed(stream)
    if write is not None:
        write(payload)  # type: ignore[arg-type]
    length = f'"length": {payload.length:20d}}}\n'.encode()
    told = line[: -len(length)] + length
    payload.digest.update(told)  # last: only now is the length known
    start = len(_START)
    checksum = payload.digest.hexdigest().encode()
    stream.seek(0)
    stream.write(told[:start] + checksum + told[start + len(checksum) :])
    stream.flush()


def read_sealed(
    file: Path,
    *,
    kind: str,
    key: str | None = None,
    same_version: bool = True,
    read: Callable[[IO[bytes]], Any] | None = None,
) -> tuple[Any, Any]:
    """Check a file; return its record and its payload.

    Parameters
    ----------
    file : Path
    kind : str
        Kind that the file must have.
    key : str, default=None
        Key that the file must have; None: any.
    same_version : bool, default=True
        Whether this version of the package must have written it.
    read : callable, default=None
        Called with the file, positioned at the payload, after all checks.

    Returns
    -------
    record : object
    payload : object
        Result of `read`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    SealError
        If the file cannot be used.
    """
    with file.open("rb") as stream:
        line = stream.readline(_LONGEST_LINE)
        about = _parse(file, line)
        digest = hashlib.blake2b(digest_size=_DIGEST)
        length = 0
        while block := stream.read(_BLOCK):
            digest.update(block)
            length += len(block)
        start, end = len(_START), len(_START) + len(_BLANK)
        digest.update(line[:start] + _BLANK.encode() + line[end:])
        if length != about["length"]:
            raise SealError(
                f"{file} is truncated or too long: {length} bytes follow its first "
                f"line, which says {about['length']}."
            )
        if digest.hexdigest() != about["checksum"]:
            raise SealError(f"{file} is damaged: its checksum is wrong.")
        if about["kind"] != kind:
            raise SealError(f"{file} is a {about['kind']!r}, not a {kind!r}.")
        if same_version and about["version"] != __version__:
            raise SealError(
                f"{file} was written by numerai-features {about['version']}, this is "
                f"{__version__}."
            )
        if key is not None and about["key"] != key:
            raise SealError(f"{file} belongs to something else: its key differs.")
        stream.seek(len(line))
        return about["record"], None if read is None else read(stream)


def begins_as_sealed(file: Path) -> bool:
    """Whether a file starts like a sealed one; it may be damaged."""
    try:
        with file.open("rb") as stream:
            return stream.read(len(_START)) == _START.encode()
    except OSError:
        return False


def set_aside(file: Path, error: Exception) -> None:
    """Rename a file that cannot be used, and warn.

    Parameters
    ----------
    file : Path
    error : SealError
        Why the file cannot be used.
    """
    aside = file.with_name(file.name + ".unusable")
    with contextlib.suppress(FileNotFoundError):
        os.replace(file, aside)
    warn(
        f"{error} It is kept as {aside.name}, and made again.",
        SetAsideWarning,
    )


def _parse(file: Path, line: bytes) -> dict[str, Any]:
    """Return the parsed first line; its types are checked, its seal is not."""
    try:
        about = json.loads(line)
        types = {
            "checksum": str, "kind": str, "key": str, "version": str, "length": int,
        }  # fmt: skip
        if (
            line.startswith(_START.encode())
            and all(type(about[name]) is of for name, of in types.items())
            and len(about["checksum"]) == len(_BLANK)
            and "record" in about
        ):
            return about  # type: ignore[no-any-return]
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise SealError(
        f"{file} is damaged, or not written by this library: it has no seal."
    )


class _Hashed:
    """A write-only stream that computes the checksum of what is written."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.length = 0
        self.digest = hashlib.blake2b(digest_size=_DIGEST)
        self._stream = stream

    def write(self, data: Any) -> int:
        """Write bytes."""
        view = memoryview(data).cast("B")
        self.digest.update(view)
        self._stream.write(view)
        self.length += len(view)
        return len(view)

    def flush(self) -> None:
        """Do nothing: the complete file is synced to disk later."""
