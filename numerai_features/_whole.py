"""Files and folders that appear whole, or not at all.

Until a file or folder is complete, it is written in a room beside its place. A room is
a folder with a random name that its owner has locked. No other process, thread or
container writes to it. A room without an owner was left by a crash, and the next writer
or reader removes it. Nobody ever waits for a lock.

A room contains `new`, which is being written. If the system cannot exchange two folders
in one step, it contains for a moment also `old`, which was in the place before.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
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

from numerai_features._warn import warn

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_NEW, _OLD = "new", "old"
_ROOM = re.compile(r"\.(.+)\.[0-9a-f]{16}\.tmp", re.DOTALL)
_LONGEST_STEM = 200  # bytes; file systems allow 255 for a name
_TRIES = 100
_UNLOCKED_AGE = 86_400  # seconds; without locks, an older room is a dead one's
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL, errno.EBADF)
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
_EXCHANGE = 2  # RENAME_EXCHANGE of linux/fs.h
_HERE = -100  # AT_FDCWD of fcntl.h


@contextlib.contextmanager
def whole_file(file: Path) -> Iterator[Path]:
    """Yield a path to write a file to; it replaces `file` if the block succeeds.

    Readers see either the old file or the new one.

    Parameters
    ----------
    file : Path
        The final path. A link is followed: its target is replaced.
    """
    file = file.resolve()
    sweep(file)
    with _room(file) as room:
        new = room / _NEW
        new.touch()
        yield new
        sync(new)
        os.replace(new, file)
        sync(file.parent)


@contextlib.contextmanager
def whole_folder(
    folder: Path, *, may_replace: Callable[[Path], object] | None = None
) -> Iterator[Path]:
    """Yield a folder to fill; it becomes `folder` if the block succeeds.

    The caller must sync the files in it to disk (`sync`).

    Parameters
    ----------
    folder : Path
        The final path. A link is followed.
    may_replace : callable, default=None
        Called with an existing folder; it raises if that must not be replaced. It is
        called before writing, after writing, and again after the folder has moved out
        of its place. None: nothing is replaced.

    Raises
    ------
    FileExistsError
        If something that must not be replaced exists, or has appeared meanwhile.
    """
    folder = _free_place(folder, may_replace)
    with _room(folder) as room:
        new = room / _NEW
        new.mkdir()
        yield new
        sync(new)
        _put(new, folder, may_replace)
        sync(folder.parent)


@contextlib.contextmanager
def kept_folder(
    folder: Path, *, may_replace: Callable[[Path], object] | None = None
) -> Iterator[Path]:
    """Yield a room in which ``new`` is to become `folder` if the block succeeds.

    Unlike that of `whole_folder`, the room stays after an error or a crash, and the
    next caller gets it with what is in it. It is hidden beside the folder, as
    ``.NAME.unfinished``. The caller removes what is not worth keeping, makes ``new``,
    and syncs the files in it to disk.

    Parameters
    ----------
    folder : Path
        The final path. A link is followed.
    may_replace : callable, default=None
        As in `whole_folder`.

    Raises
    ------
    BlockingIOError
        If another process is writing this folder.
    FileExistsError
        If something that must not be replaced exists, or has appeared meanwhile.
    """
    folder = _free_place(folder, may_replace)
    kept = folder.with_name(f".{_stem(folder)}.unfinished")
    kept.mkdir(exist_ok=True)
    with locked(kept) as is_ours:
        if not is_ours:
            raise BlockingIOError(
                f"Another process is writing {folder}. Wait for it, or use another "
                "path."
            )
        yield kept
        sync(kept / _NEW)
        try:
            with _room(folder) as room:
                os.rename(kept / _NEW, room / _NEW)
                _put(room / _NEW, folder, may_replace)
            sync(folder.parent)
        finally:
            _remove(kept)


def _free_place(folder: Path, may_replace: Callable[[Path], object] | None) -> Path:
    """Return the real path of a folder to be written; its parents are made."""
    folder = folder.resolve()
    sweep(folder)
    _check_free(folder, may_replace)
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder


def sweep(place: Path) -> None:
    """Remove rooms that dead owners have left beside a place.

    If a crash has left nothing in the place, the old folder is put back, with a
    warning.

    Parameters
    ----------
    place : Path
        The file or folder that they were writing.
    """
    place = place.resolve()
    for room in _rooms(place.parent, _stem(place)):
        with _owning(room) as is_ours:
            if is_ours is not False and _clear(room, place, remove=bool(is_ours)):
                warn(
                    f"{place} was being replaced when its writer was stopped. The "
                    "previous content is restored.",
                )


def sweep_all(folder: Path) -> None:
    """Remove all rooms of dead owners in a folder of this library.

    Parameters
    ----------
    folder : Path
        May be missing.
    """
    for room in _rooms(folder):
        with _owning(room) as is_ours:
            if is_ours and not os.path.lexists(room / _OLD):
                _remove(room)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Lock an existing file or folder for a block, without waiting.

    Parameters
    ----------
    path : Path

    Yields
    ------
    bool
        Whether it is ours. If not, another process has locked it, or it is gone.
    """
    try:
        owner = _lock(path)
    except (BlockingIOError, FileNotFoundError):
        yield False
        return
    try:
        yield _is_at(path, owner)
    finally:
        _let_go(owner)


def is_locked(path: Path) -> bool:
    """Whether another process, or thread, holds `locked` of a path.

    Parameters
    ----------
    path : Path
    """
    try:
        _let_go(_lock(path, shared=True))
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def is_room(name: str, place: str) -> bool:
    """Whether a name is that of a room for a place of this name."""
    match = _ROOM.fullmatch(name)
    return match is not None and match[1] == place


def is_changing(place: Path) -> bool:
    """Whether a folder is missing only for a moment, while another replaces it.

    Parameters
    ----------
    place : Path
    """
    place = place.resolve()
    rooms = _rooms(place.parent, _stem(place))
    return any(os.path.lexists(room / _OLD) for room in rooms)


def sync(path: Path) -> None:
    """Sync a file, or the entries of a folder, to disk."""
    is_folder = path.is_dir()
    if is_folder and os.name == "nt":  # Windows cannot open a folder
        return
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:
        if is_folder:  # writable, but not readable
            return
        raise
    try:
        os.fsync(handle)
    except OSError as error:
        # Not every file system supports it for folders.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)


@contextlib.contextmanager
def _room(place: Path) -> Iterator[Path]:
    """Yield an empty locked folder beside a place; it is removed at the end."""
    room, owner = _create(place)
    try:
        try:
            yield room
        finally:
            _clear(room, place, remove=True)
    finally:
        _let_go(owner)


def _create(place: Path) -> tuple[Path, int | None]:
    with contextlib.suppress(FileNotFoundError):
        os.lstat(place)  # raise for an impossible name now, not at the end
    while True:
        name = f".{_stem(place)}.{secrets.token_hex(8)}.tmp"
        room = place.with_name(name)
        room.mkdir()
        try:
            owner = _lock(room)
        except (BlockingIOError, FileNotFoundError):
            continue  # a sweeper has taken it for a dead owner's
        except BaseException:
            room.rmdir()
            raise
        if _is_at(room, owner):
            return room, owner
        _let_go(owner)


def _check_free(folder: Path, may_replace: Callable[[Path], object] | None) -> None:
    if not os.path.lexists(folder):
        return
    if may_replace is None:
        raise FileExistsError(
            f"{folder} exists. Pass overwrite=True to replace it, or another path."
        )
    may_replace(folder)


def _put(new: Path, folder: Path, may_replace: Callable[[Path], object] | None) -> None:
    """Move a folder to its place; try again if another writer was faster."""
    ours = os.stat(new)
    for _ in range(_TRIES):
        try:
            os.rename(new, folder)  # works if nothing, or an empty folder, is there
            return
        except OSError as error:
            if error.errno not in _TAKEN and not os.path.lexists(folder):
                raise
            if may_replace is None:
                raise FileExistsError(
                    f"{folder} has appeared while the new one was written, and is not "
                    "replaced. Pass overwrite=True, or another path."
                ) from error
        may_replace(folder)
        old = _take_out(new, folder)
        if old is None:
            continue
        try:
            may_replace(old)
        except BaseException:
            _give_back(old, folder, ours)
            raise
        if old == new:
            return
    raise OSError(
        f"{folder} could not be replaced in {_TRIES} attempts: other writers keep "
        "writing it. Wait for them, or use another path."
    )


def _take_out(new: Path, folder: Path) -> Path | None:
    """Move a folder out of its place; return its new path, or None if it is gone."""
    try:
        if _exchange(new, folder):
            return new
        old = new.with_name(_OLD)
        _remove(old)  # another writer has replaced that one
        os.rename(folder, old)
        return old
    except FileNotFoundError:
        return None


def _give_back(old: Path, folder: Path, ours: os.stat_result) -> None:
    """Undo `_take_out`; if another writer was faster, keep the old folder and raise."""
    with contextlib.suppress(OSError):
        if old.name == _OLD:
            os.rename(old, folder)
            return
        if os.path.samestat(os.stat(folder), ours) and _exchange(old, folder):
            return
    kept = old.parent.with_suffix(".old")
    os.rename(old, kept)
    raise FileExistsError(
        f"Another writer has replaced {folder} meanwhile. Its previous content must "
        f"not be overwritten, and is kept as {kept}."
    )


def _clear(room: Path, folder: Path, *, remove: bool) -> bool:
    """Put back an old folder if its place is still empty; remove the rest of the room.

    Return whether it was put back. If it cannot be put back, it is not removed.
    """
    new, old = room / _NEW, room / _OLD
    waits = new.exists() and old.exists() and not os.path.lexists(folder)
    is_back = False
    if waits:
        with contextlib.suppress(OSError):  # another was faster, or no permission
            os.rename(old, folder)
            is_back = True
    if remove and (not waits or os.path.lexists(folder)):
        _remove(room)
    return is_back


def _remove(room: Path) -> None:
    try:
        shutil.rmtree(room, ignore_errors=True)
    except OSError as error:
        # Ctrl-C while it closed a folder: it then closes the folder once more.
        cause = error.__context__
        if cause is not None and not isinstance(cause, OSError):
            raise cause from None


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two paths in one step; return False where the system cannot."""
    call = _renameat2()
    if call is None:
        return False
    if call(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM):
        return False
    raise OSError(number, os.strerror(number), str(one), None, str(other))


@cache
def _renameat2() -> Any:
    """Return the system call that exchanges two paths, or None."""
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


def _stem(place: Path) -> str:
    """Return the prefix of the names of a place's rooms."""
    name = os.fsencode(place.name)
    if len(name) <= _LONGEST_STEM:
        return place.name
    return hashlib.blake2b(name, digest_size=16).hexdigest()


def _rooms(folder: Path, stem: str | None = None) -> list[Path]:
    """Return the rooms in a folder, for all places or for one."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    matches = filter(None, map(_ROOM.fullmatch, names))
    return [folder / match[0] for match in matches if stem in (None, match[1])]


@contextlib.contextmanager
def _owning(room: Path) -> Iterator[bool | None]:
    """Try to become the owner of a room.

    Yields True if we own it now, False if it has another owner or is gone, and None if
    nothing can be locked there and the room is too young to be a dead owner's.
    """
    try:
        owner = _lock(room)
    except OSError as error:
        if error.errno is None:  # raised by a signal handler, not the system
            raise
        yield False  # it has an owner, is gone, or cannot be opened
        return
    try:
        yield True if owner is not None or _is_old(room) else None
    finally:
        _let_go(owner)


def _lock(path: Path, *, shared: bool = False) -> int | None:
    """Lock a path until `_let_go`, or until this process ends.

    Several may hold it together if all share it.

    Raises
    ------
    OSError
        If another process has locked it, or it is gone.
    """
    locks: Any = fcntl
    if locks is None:
        return None
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        kind = locks.LOCK_SH if shared else locks.LOCK_EX
        locks.flock(handle, kind | locks.LOCK_NB)
    except BaseException as error:
        os.close(handle)
        if isinstance(error, OSError) and error.errno in _NO_LOCKS:
            return None
        raise
    return handle


def _let_go(owner: int | None) -> None:
    if owner is None:
        return
    locks: Any = fcntl
    try:
        # Closing is not enough: a forked process has the handle, too.
        locks.flock(owner, locks.LOCK_UN)
    finally:
        os.close(owner)


def _is_at(path: Path, owner: int | None) -> bool:
    """Whether the folder that we have locked is still at its path."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return False
    return owner is None or os.path.samestat(found, os.fstat(owner))


def _is_old(room: Path) -> bool:
    """Whether nothing in a room, which cannot be locked, has changed for a day."""
    try:
        latest = max(path.stat().st_mtime for path in [room, *room.rglob("*")])
    except OSError:
        return False
    return time.time() - latest > _UNLOCKED_AGE
