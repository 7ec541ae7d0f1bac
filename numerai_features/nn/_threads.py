"""Threads that share out blocks of a table, and how many there are to spare.

OpenMP's threads, where torch's own products and sums are made, wait for each other in a
loop. On a machine whose cores others want, too, they take them from those that they
wait for: a fit becomes twenty times slower. So torch has one thread here, and blocks of
rows or columns are shared out among threads of Python that sleep while they wait. The
blocks, and by them the last bits of every sum, are the same whatever the number of
threads.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from queue import SimpleQueue
from typing import Any, TypeVar

import torch

from numerai_features._threads import blas_threads, usable_threads

_Part = TypeVar("_Part")

_MOST = 16  # more threads gain nothing in layers of some hundred units


class _Job:
    """Parts of which each thread takes the next, until none is left."""

    def __init__(self, function: Callable[[Any], object], parts: Sequence[Any]) -> None:
        self.function = function
        self.parts = deque(parts)
        self.error: BaseException | None = None
        self.done = threading.Lock()
        self.done.acquire()
        self._count, self._last = itertools.count(1), len(parts)

    def work(self) -> None:
        """Take parts; whoever ends the last one lets the caller go on."""
        while True:
            try:
                part = self.parts.popleft()
            except IndexError:
                return
            try:
                if self.error is None:  # else nobody begins another part
                    self.function(part)
            except BaseException as error:
                self.error = error
            if next(self._count) == self._last:
                self.done.release()


class _Crew:
    """Threads that work with the caller; they sleep until there is a job."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._others = [
            threading.Thread(target=self._serve, name="rows", daemon=True)
            for _ in range(size - 1)
        ]
        for other in self._others:
            other.start()

    def do(self, function: Callable[[Any], object], parts: Sequence[Any]) -> None:
        """Call a function for each part; an error of one of them is raised."""
        if not parts:
            return
        job = _Job(function, parts)
        for _ in range(min(self.size, len(parts)) - 1):
            self._jobs.put(job)
        with torch.no_grad():
            job.work()
        job.done.acquire()
        if job.error is not None:
            raise job.error

    def leave(self) -> None:
        """Have the threads end, when they have ended what they do."""
        for _ in self._others:
            self._jobs.put(None)

    def _serve(self) -> None:
        torch.set_num_threads(1)  # what torch has is a thread's own
        with torch.no_grad():
            while (job := self._jobs.get()) is not None:
                job.work()
                del job  # and all that it refers to


_crew: ContextVar[_Crew | None] = ContextVar("_crew", default=None)
_inside: set[_Crew] = set()
_torch_had = 1  # before the first of them came


def n_threads(n_jobs: int | None = None) -> int:
    """Return how many threads to use.

    Parameters
    ----------
    n_jobs : int or None
        See `usable_threads`; no more than torch has (``OMP_NUM_THREADS``,
        ``torch.set_num_threads``).
    """
    return usable_threads(n_jobs, min(_MOST, _of_torch()))


def _of_torch() -> int:
    return _torch_had if _inside else torch.get_num_threads()


@contextmanager
def own_threads(n_jobs: int | None = None) -> Iterator[None]:
    """Share out blocks among threads; torch has one, and what it had afterwards.

    Within another such context nothing changes.

    Parameters
    ----------
    n_jobs : int or None
        See `n_threads`. BLAS has one.
    """
    global _torch_had
    if _crew.get() is not None:
        yield
        return
    _torch_had = had = _of_torch()
    crew = _Crew(n_threads(n_jobs))
    try:
        _inside.add(crew)
        _crew.set(crew)
        torch.set_num_threads(1)
        with blas_threads(1):  # numpy's products, too, have other bits by several
            yield
    finally:
        torch.set_num_threads(had)
        _crew.set(None)
        _inside.discard(crew)
        crew.leave()


def shares_out(x: torch.Tensor) -> bool:
    """Tell whether what is done to a tensor is to be shared out, be it to one thread.

    On a CPU, where there are `own_threads`.
    """
    return x.device.type == "cpu" and _crew.get() is not None


def n_sharing() -> int:
    """Return how many threads `each` shares parts out to."""
    return (_crew.get() or _ALONE).size


def each(function: Callable[[_Part], object], parts: Iterable[_Part]) -> None:
    """Call a function, which writes what it makes, for each part, in any order.

    Without gradients; in the caller alone where there are no `own_threads`.
    """
    (_crew.get() or _ALONE).do(function, [*parts])


_ALONE = _Crew(1)


def cut(size: int, n_parts: int, least: int) -> list[slice]:
    """Return slices of `size` items: `n_parts`, but of `least` items or more each."""
    n_parts = max(1, min(n_parts, size // least))
    bounds = [size * i // n_parts for i in range(n_parts + 1)]
    return [slice(*pair) for pair in pairwise(bounds)]
