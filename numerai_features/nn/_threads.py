"""Threads that work on blocks of a table, and their number.

torch computes products and sums in OpenMP threads, which wait for each other in a busy
loop. On a machine with other load, waiting threads occupy the cores of the threads that
they wait for: a fit becomes twenty times slower. So torch gets one thread here, and
blocks of rows or columns are shared out among Python threads, which sleep while they
wait. The blocks do not depend on the number of threads, and neither do the last bits of
a sum.
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
from numerai_features.nn._memory import Memory

_Part = TypeVar("_Part")

_MOST = 16  # more threads gain nothing in layers of a few hundred units


class _Job:
    """A queue of parts; each thread takes the next until none is left."""

    def __init__(self, function: Callable[[Any], object], parts: Sequence[Any]) -> None:
        self.function = function
        self.parts = deque(parts)
        self.error: BaseException | None = None
        self.done = threading.Lock()
        self.done.acquire()
        self._count, self._last = itertools.count(1), len(parts)

    def work(self) -> None:
        """Process parts; the thread that ends the last one releases the caller."""
        while True:
            try:
                part = self.parts.popleft()
            except IndexError:
                return
            try:
                if self.error is None:  # after an error no further part is begun
                    self.function(part)
            except BaseException as error:
                self.error = error
            if next(self._count) == self._last:
                self.done.release()


class _Crew:
    """Threads that work beside the caller and sleep between jobs."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.memory = Memory()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._others = [
            threading.Thread(target=self._serve, name="rows", daemon=True)
            for _ in range(size - 1)
        ]
        for other in self._others:
            other.start()

    def do(self, function: Callable[[Any], object], parts: Sequence[Any]) -> None:
        """Call a function for each part; raise an error of any part."""
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
        """Stop the threads after their current jobs."""
        for _ in self._others:
            self._jobs.put(None)

    def _serve(self) -> None:
        torch.set_num_threads(1)  # torch's setting is per thread
        with torch.no_grad():
            while (job := self._jobs.get()) is not None:
                job.work()
                del job  # frees what the job refers to


_crew: ContextVar[_Crew | None] = ContextVar("_crew", default=None)
_inside: set[_Crew] = set()
_torch_had = 1  # torch's setting before the first crew


def n_threads(n_jobs: int | None = None) -> int:
    """Return the number of threads to use.

    Parameters
    ----------
    n_jobs : int or None
        See `usable_threads`; at most torch's number (``OMP_NUM_THREADS``,
        ``torch.set_num_threads``).
    """
    return usable_threads(n_jobs, min(_MOST, _of_torch()))


def _of_torch() -> int:
    return _torch_had if _inside else torch.get_num_threads()


@contextmanager
def own_threads(n_jobs: int | None = None) -> Iterator[None]:
    """Share out blocks among our threads, with torch's limited to one meanwhile.

    A nested context changes nothing.

    Parameters
    ----------
    n_jobs : int or None
        See `n_threads`. BLAS gets one thread.
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
        with blas_threads(1):  # the bits of numpy's products also depend on threads
            yield
    finally:
        torch.set_num_threads(had)
        _crew.set(None)
        _inside.discard(crew)
        crew.leave()


def shares_out(x: torch.Tensor) -> bool:
    """Return whether operations on a tensor are shared out, even to a single thread.

    They are on a CPU, within `own_threads`.
    """
    return x.device.type == "cpu" and _crew.get() is not None


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Return a tensor on the CPU with any numbers; within `own_threads`, from `Memory`.

    Its memory is used again when no tensor refers to it any longer.
    """
    crew = _crew.get()
    make = torch.empty if crew is None else crew.memory.empty
    return make(shape, dtype=dtype)


def n_sharing() -> int:
    """Return the number of threads that `each` uses."""
    return (_crew.get() or _ALONE).size


def each(function: Callable[[_Part], object], parts: Iterable[_Part]) -> None:
    """Call a function for each part, in any order; it writes its own results.

    No gradients are recorded. Outside `own_threads` only the calling thread works.
    """
    (_crew.get() or _ALONE).do(function, [*parts])


_ALONE = _Crew(1)


def cut(size: int, n_parts: int, least: int) -> list[slice]:
    """Cut `size` items into at most `n_parts` slices of at least `least` items each."""
    n_parts = max(1, min(n_parts, size // least))
    bounds = [size * i // n_parts for i in range(n_parts + 1)]
    return [slice(*pair) for pair in pairwise(bounds)]
