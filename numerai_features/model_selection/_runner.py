"""The one runner of folds, for `cross_val_predict_eras` and for experiments.

It knows nothing of rows or models. Whoever has folds to run writes each piece of work
as a `Task`, and hands over a store: what the store holds already is not done again, and
what is finished is in the store before the next piece is waited for. So a run that is
interrupted, by Ctrl-C or by an error, has lost nothing but what was being done.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from numerai_features._progress import progress

Tell = Callable[[str], object]


class Task(NamedTuple):
    """One piece of work: a fold, or a part of one.

    Attributes
    ----------
    key : hashable
        What the store knows its result by.
    do : callable
        Does it and returns the result. It is called with a function that shows, beside
        the progress bar, a word for what is being done just now.
    label : str
        What stands in front of the progress bar meanwhile.
    """

    key: Hashable
    do: Callable[[Tell], Any]
    label: str = ""


class Store(Protocol):
    """Results of finished tasks by their keys; a dict is one."""

    def __len__(self) -> int: ...

    def __contains__(self, key: Any, /) -> bool: ...

    def __setitem__(self, key: Any, result: Any, /) -> None: ...


def run_folds(
    tasks: Iterable[Task],
    store: Store,
    *,
    total: int,
    n_jobs: int | None = None,
    unit: str = "fold",
    verbose: bool = True,
) -> None:
    """Do every task whose result is not in the store yet, and put it there.

    Parameters
    ----------
    tasks : iterable of Task
        Taken one by one, and hardly sooner than they are done: a generator need not
        hold the rows of all folds at once. In order (one job) the next task is taken
        when the result of the last one is in the store, so that it may look there.
    store : dict, or another mapping
        Where results go; it holds no others than those of these tasks.
    total : int
        How many tasks there are.
    n_jobs : int, default=None
        Tasks at once, as joblib counts them; then tasks and results are pickled.
    unit : str, default="fold"
        What the progress bar counts.
    verbose : bool, default=True
        Whether to show the bar. There is none where everything is done already.
    """
    from joblib import effective_n_jobs
    from sklearn.utils.parallel import Parallel, delayed

    in_order = effective_n_jobs(n_jobs) == 1
    parallel = Parallel(n_jobs=n_jobs, return_as="generator_unordered")
    done = len(store)
    hidden = not verbose or done == total
    with progress(total=total, initial=done, unit=unit, hidden=hidden) as bar:

        def jobs() -> Iterator[Any]:
            for task in tasks:
                if task.key in store:
                    continue
                if in_order:  # of several at once no single one could be named
                    bar.set_description(task.label)
                yield delayed(_do)(task, bar.set_postfix_str if in_order else _silent)

        for key, result in parallel(jobs()):
            store[key] = result
            bar.update()


def _do(task: Task, tell: Tell) -> tuple[Hashable, Any]:
    return task.key, task.do(tell)


def _silent(word: str) -> None:
    """Take the place of the bar where it is out of reach: in another process."""
