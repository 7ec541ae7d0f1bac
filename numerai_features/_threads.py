"""Number of usable threads, and a limit for BLAS threads."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def usable_threads(n_jobs: int | None, most: int) -> int:
    """Return the number of threads to use.

    Parameters
    ----------
    n_jobs : int or None
        Number of threads; negative numbers count back from all (-1); None is all.
    most : int
        Upper limit.

    Returns
    -------
    int
        At least 1, and at most the number of physical cores that affinity and cgroups
        allow.
    """
    from joblib import cpu_count

    cores: int = cpu_count(only_physical_cores=True)
    most = max(1, min(cores, most))
    wanted = most if n_jobs is None else n_jobs
    return max(1, min(most, wanted if wanted > 0 else most + 1 + wanted))


@contextmanager
def blas_threads(n_jobs: int | None) -> Iterator[None]:
    """Limit the threads of BLAS in a block; afterwards the old limit is restored.

    BLAS has one number for all threads of Python. While several of them are in such
    blocks, the lowest of their limits holds; the last one to leave restores the number.

    Parameters
    ----------
    n_jobs : int or None
        See `usable_threads`.
    """
    from threadpoolctl import ThreadpoolController

    blas = ThreadpoolController().select(user_api="blas").lib_controllers
    block = _Block()
    try:
        with _lock:
            for library in blas:
                _libraries.setdefault(library.filepath, (library, library.num_threads))
            had = [_libraries[library.filepath][1] for library in blas]
            block.limit = usable_threads(n_jobs, max(had, default=1))
            _blocks.add(block)
            _set_lowest()
        yield
    finally:
        with _lock:
            _blocks.discard(block)
            _set_lowest()
            if not _blocks:
                _libraries.clear()


class _Block:
    """A block that is being run."""

    limit = 1


_lock = threading.Lock()
# Weak, so that a block whose end is interrupted ends as well.
_blocks: weakref.WeakSet[_Block] = weakref.WeakSet()
_libraries: dict[str, tuple[Any, int]] = {}  # and their numbers before these blocks


def _set_lowest() -> None:
    """Set the lowest of the limits, or without any, what each library had before."""
    limits = [block.limit for block in _blocks]
    for library, had in _libraries.values():
        library.set_num_threads(min(had, *limits) if limits else had)
