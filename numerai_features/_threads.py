"""How many threads there are to use, and how many BLAS uses meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


def usable_threads(n_jobs: int | None, most: int) -> int:
    """Return how many threads to use.

    Parameters
    ----------
    n_jobs : int or None
        As many; below zero counted back from all, -1 being all of them; None is all.
    most : int
        What they may be at most.

    Returns
    -------
    int
        At least 1, and never more than the physical cores, or than what affinity and
        cgroups allow of them.
    """
    from joblib import cpu_count

    cores: int = cpu_count(only_physical_cores=True)
    most = max(1, min(cores, most))
    wanted = most if n_jobs is None else n_jobs
    return max(1, min(most, wanted if wanted > 0 else most + 1 + wanted))


@contextmanager
def blas_threads(n_jobs: int | None) -> Iterator[None]:
    """Have BLAS use so many threads at most, and as many as before afterwards.

    Parameters
    ----------
    n_jobs : int or None
        See `usable_threads`.
    """
    from threadpoolctl import ThreadpoolController

    blas = ThreadpoolController().select(user_api="blas")
    before = max((library.num_threads for library in blas.lib_controllers), default=1)
    with blas.limit(limits=usable_threads(n_jobs, before)):
        yield
