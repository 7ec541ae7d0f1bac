"""A fixed number of threads, whoever calls."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from joblib import cpu_count

_MOST = 16  # more threads gain nothing in layers of some hundred units
WORTH_IT = 1e9
"""Operations of a step, some ten milliseconds, that several threads may share."""


def n_threads(operations: float) -> int:
    """Return how many threads a network is trained with on this machine.

    Parameters
    ----------
    operations : float
        Floating-point operations of a step. Below `WORTH_IT` one thread: waiting for
        each other takes longer, and very long where other processes want the cores.
    """
    if operations < WORTH_IT:
        return 1
    return int(min(_MOST, cpu_count(only_physical_cores=True)))


@contextmanager
def fixed_threads(operations: float = math.inf) -> Iterator[None]:
    """Give torch the same number of threads whoever calls, and restore it.

    Matrix products differ in their last bits between numbers of threads.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads(operations))
    try:
        yield
    finally:
        torch.set_num_threads(before)
