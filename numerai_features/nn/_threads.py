"""Threads that share out blocks of a table, and how many there are to spare.

OpenMP's threads, where torch's own products and sums are made, wait for each other in a
loop. On a machine whose cores others want, too, they take them from those that they
wait for: a fit becomes twenty times slower. So torch has one thread here, and blocks of
rows or columns are shared out among threads of Python that sleep while they wait. The
blocks, and by them the last bits of every sum, are the same whatever the number of
threads.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from typing import Any, TypeVar

import torch

from numerai_features._threads import blas_threads, usable_threads

_Part = TypeVar("_Part")

_NONE_LEFT = object()
_MOST = 16  # more threads gain nothing in layers of some hundred units


class _Crew:
    """Threads that take from a queue; the caller is one of them."""

    def __init__(self, size: int) -> None:
        self.size = size
        # What torch has is a thread's own.
        self.others = ThreadPoolExecutor(
            max(1, size - 1), "rows", torch.set_num_threads, (1,)
        )

    def do(self, function: Callable[[_Part], object], parts: Iterable[_Part]) -> None:
        queue = deque(parts)

        def take() -> Any:
            try:
                return queue.popleft()
            except IndexError:
                return _NONE_LEFT

        def work() -> None:
            try:
                with torch.no_grad():
                    for part in iter(take, _NONE_LEFT):
                        function(part)
            finally:
                queue.clear()  # after an error nobody begins another part

        n_others = min(self.size, len(queue)) - 1
        helping = [self.others.submit(work) for _ in range(n_others)]
        try:
            work()
        finally:
            for other in helping:
                # One that has not begun by now has nothing to do.
                if not other.cancel():
                    other.result()


_crew: ContextVar[_Crew | None] = ContextVar("_crew", default=None)
_lock = threading.Lock()
_n_inside = 0
_torch_had = 1


def n_threads(n_jobs: int | None = None) -> int:
    """Return how many threads to use.

    Parameters
    ----------
    n_jobs : int or None
        See `usable_threads`; no more than torch has (``OMP_NUM_THREADS``,
        ``torch.set_num_threads``).
    """
    torch_has = _torch_had if _n_inside else torch.get_num_threads()
    return usable_threads(n_jobs, min(_MOST, torch_has))


@contextmanager
def own_threads(n_jobs: int | None = None) -> Iterator[None]:
    """Share out blocks among threads; torch has one, and what it had afterwards.

    Within another such context nothing changes.

    Parameters
    ----------
    n_jobs : int or None
        See `n_threads`. BLAS has no more, either.
    """
    global _n_inside, _torch_had
    if _crew.get() is not None:
        yield
        return
    with _lock:
        if not _n_inside:
            _torch_had = torch.get_num_threads()
        _n_inside += 1
        before = _torch_had
    crew = _Crew(n_threads(n_jobs))
    token = _crew.set(crew)
    torch.set_num_threads(1)
    try:
        with blas_threads(n_jobs):
            yield
    finally:
        _crew.reset(token)
        crew.others.shutdown()
        torch.set_num_threads(before)
        with _lock:
            _n_inside -= 1


def shares_out() -> bool:
    """Tell whether there are threads to share blocks out to, be it one."""
    return _crew.get() is not None


def each(function: Callable[[_Part], object], parts: Iterable[_Part]) -> None:
    """Call a function, which writes what it makes, for each part, in any order.

    Without gradients; in the caller alone where there are no `own_threads`.
    """
    (_crew.get() or _ALONE).do(function, parts)


_ALONE = _Crew(1)


def cut(size: int, n_parts: int, least: int) -> list[slice]:
    """Return slices of `size` items: `n_parts`, but of `least` items or more each."""
    n_parts = max(1, min(n_parts, size // least))
    bounds = [size * i // n_parts for i in range(n_parts + 1)]
    return [slice(*pair) for pair in pairwise(bounds)]
