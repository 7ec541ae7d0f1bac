"""Files and folders that appear whole, or not at all.

What is written has a temporary name beside its place until it is complete. That name is
drawn at random, and its owner holds a lock on it: no other process, thread or container
writes to it, and who finds one without an owner knows that a crash has left it, and
sweeps it away.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_UNLOCKED_AGE = 86_400  # seconds; where nothing can be locked, the age tells
_EXCHANGE = 2  # RENAME_EXCHANGE of linux/fs.h
_HERE = -100  # AT_FDCWD of fcntl.h


@contextlib.contextmanager
def whole_file(file: Path) -> Iterator[Path]:
    """Give the path to write a file at, which takes its place when the block ends well.

    A file that is there is replaced; readers see the old one or the new one.

    Parameters
    ----------
    file : Path
        Where it shall be. A link is followed: what it points to is replaced.
    """
    file = file.resolve()
    sweep(file)
    temporary, owner = _create(file, folder=False)
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, file)
        sync(file.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        _let_go(owner)


@contextlib.contextmanager
def whole_folder(
    folder: Path, *, may_replace: Callable[[Path], object] | None = None
) -> Iterator[Path]:
    """Give the path to fill a folder at, which takes its place if the block ends well.

    The files in it are to be brought to disk by whoever writes them (`sync`).

    Parameters
    ----------
    folder : Path
        Where it shall be. A link is followed.
    may_replace : callable, default=None
        Called with a folder that is there: raises if that must not be replaced, and is
        asked before and once more when its turn has come. None: nothing is replaced.

    Raises
    ------
    FileExistsError
        If something is there, or has appeared meanwhile, that is not to be replaced.
    """
    folder = folder.resolve()
    recover(folder)
    sweep(folder)
    _check_free(folder, may_replace)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary, owner = _create(folder, folder=True)
    try:
        yield temporary
        sync(temporary)
        with _in_turn(folder.parent):
            if may_replace is None or not _replace(temporary, folder, may_replace):
                _rename(temporary, folder)
        sync(folder.parent)
    finally:
        # What is under this name now is unfinished, or the old one.
        shutil.rmtree(temporary, ignore_errors=True)
        _let_go(owner)


def recover(folder: Path) -> None:
    """Put an old folder back that a crash has left without a new one in its place.

    Only where two folders cannot be exchanged at once is there such a moment.

    Parameters
    ----------
    folder : Path
        Its place.
    """
    folder = folder.resolve()
    if os.path.lexists(folder):
        return
    with _in_turn(folder.parent):
        for old in _leftovers(folder, "old"):
            if not os.path.lexists(folder):
                os.rename(old, folder)


def sweep(place: Path) -> None:
    """Remove what dead owners have left beside a place.

    Parameters
    ----------
    place : Path
        Of the file or folder that they wanted to write.
    """
    for leftover in _leftovers(place, "tmp"):
        with _owning(leftover) as is_ours:
            if is_ours:
                _remove(leftover)
    if _leftovers(place, "old"):
        with _in_turn(place.parent):  # no folder is being replaced just now
            for leftover in _leftovers(place, "old") if os.path.lexists(place) else []:
                _remove(leftover)


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to disk."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open a folder
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Not every file system has it for folders.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)


def _create(place: Path, *, folder: bool) -> tuple[Path, int | None]:
    """Make an empty file or folder that is ours, beside its place."""
    while True:
        temporary = place.with_name(f".{place.name}.{secrets.token_hex(8)}.tmp")
        if folder:
            temporary.mkdir()
        else:
            temporary.touch(exist_ok=False)
        # Between the two steps a sweeper may take it for a dead one's.
        try:
            owner = _lock(temporary, wait=True)
        except FileNotFoundError:
            continue
        if _is_at(temporary, owner):
            return temporary, owner
        _let_go(owner)


def _check_free(folder: Path, may_replace: Callable[[Path], object] | None) -> None:
    if not os.path.lexists(folder):
        return
    if may_replace is None:
        raise FileExistsError(
            f"{folder} exists. Pass overwrite=True to replace it, or another path."
        )
    may_replace(folder)


def _rename(temporary: Path, folder: Path) -> None:
    """Rename a folder to where nothing is, or an empty folder."""
    try:
        os.rename(temporary, folder)
    except OSError as error:
        if os.path.lexists(folder):
            raise FileExistsError(
                f"{folder} has appeared while it was being written, and is not "
                "replaced. Pass overwrite=True, or another path."
            ) from error
        raise


def _replace(
    temporary: Path, folder: Path, may_replace: Callable[[Path], object]
) -> bool:
    """Let a folder change places with the one that is there; return whether one is."""
    if not os.path.lexists(folder):
        return False
    may_replace(folder)
    owner = _lock(folder, wait=True)  # nobody sweeps it away before it is looked at
    try:
        if _exchange(temporary, folder):
            try:
                may_replace(temporary)  # what was there, and now will be removed
            except BaseException:
                _exchange(temporary, folder)
                raise
            return True
    finally:
        _let_go(owner)
    old = temporary.with_suffix(".old")
    os.rename(folder, old)
    try:
        may_replace(old)
        os.rename(temporary, folder)
    except BaseException:
        os.rename(old, folder)
        raise
    os.rename(old, temporary)
    return True


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two paths in one step; return False where the system cannot."""
    call = _renameat2()
    if call is None:
        return False
    if call(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(one), None, str(other))


@cache
def _renameat2() -> Any:
    """Return the system call that exchanges, where there is one."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):  # an old C library
        return None
    call.argtypes = [
        ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint,
    ]  # fmt: skip
    return call


def _leftovers(place: Path, kind: str) -> list[Path]:
    """Return what has a temporary name of a place."""
    name = re.compile(rf"\.{re.escape(place.name)}\.[0-9a-f]{{16}}\.{kind}")
    try:
        names = os.listdir(place.parent)
    except OSError:
        return []
    return [place.with_name(n) for n in sorted(names) if name.fullmatch(n)]


@contextlib.contextmanager
def _in_turn(folder: Path) -> Iterator[None]:
    """Wait until nobody else changes what is where in a folder, then be the one."""
    owner = _lock(folder, wait=True) if folder.is_dir() else None
    try:
        yield
    finally:
        _let_go(owner)


@contextlib.contextmanager
def _owning(path: Path) -> Iterator[bool]:
    """Try to become the owner of a path; tell whether it has none but us."""
    try:
        owner = _lock(path, wait=False)
    except OSError:  # owned, or gone
        yield False
        return
    try:
        yield owner is not None or _is_old(path)
    finally:
        _let_go(owner)


def _lock(path: Path, *, wait: bool) -> int | None:
    """Lock a path until its handle is closed, or its process is gone.

    Raises
    ------
    OSError
        If another has locked it, and we do not wait; or if it is gone.
    """
    locks: Any = fcntl
    if locks is None:
        return None
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        locks.flock(handle, locks.LOCK_EX | (0 if wait else locks.LOCK_NB))
    except BlockingIOError:
        os.close(handle)
        raise
    except OSError:  # a file system that has no locks
        os.close(handle)
        return None
    except BaseException:
        os.close(handle)
        raise
    return handle


def _let_go(owner: int | None) -> None:
    if owner is not None:
        os.close(owner)


def _is_at(path: Path, owner: int | None) -> bool:
    """Whether what we own is still at its path."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return False
    return owner is None or os.path.samestat(found, os.fstat(owner))


def _is_old(path: Path) -> bool:
    """Whether a path that cannot be locked was left alone for a day."""
    try:
        return time.time() - path.stat().st_mtime > _UNLOCKED_AGE
    except OSError:
        return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
