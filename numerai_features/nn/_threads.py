"""A fixed number of threads, whoever calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_MOST = 16  # more threads gain nothing in layers of some hundred units


def n_threads() -> int:
    """Return how many threads networks are trained with on this machine."""
    from joblib import cpu_count

    return int(min(_MOST, cpu_count(only_physical_cores=True)))


@contextmanager
def fixed_threads() -> Iterator[None]:
    """Give torch the same number of threads whoever calls, and restore it.

    Matrix products differ in their last bits between numbers of threads.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads())
    try:
        yield
    finally:
        torch.set_num_threads(before)
