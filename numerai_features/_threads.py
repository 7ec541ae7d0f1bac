"""Number of usable threads, and a limit for BLAS threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


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
