"""Run the folds of `cross_val_predict_eras` and of experiments.

The runner does not depend on rows or models. The caller describes each piece of work as
a `Task`, and passes a store. Tasks whose results are in the store are skipped. A result
is stored before the runner waits for the next one. So a run that is interrupted by
Ctrl-C or by an error loses only the tasks in progress.
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
        Key of the result in the store.
    do : callable
        Does the work and returns the result. Its argument is a function that shows a
        word for the current step beside the progress bar.
    label : str
        Text before the progress bar during the task.
    """

    key: Hashable
    do: Callable[[Tell], Any]
    label: str = ""


class Store(Protocol):
    """Results of finished tasks by key, such as a dict."""

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
    """Run each task whose result is not in the store, and store its result.

    Parameters
    ----------
    tasks : iterable of Task
        Tasks are taken one by one, shortly before they run, so a generator need not
        hold the rows of all folds at once. With one job, the next task is taken after
        the previous result is in the store, so that the generator can read this result.
    store : dict, or another mapping
        Receives the results. It must not contain results of other tasks.
    total : int
        Number of tasks.
    n_jobs : int, default=None
        Number of tasks that run at once, as in joblib. With several jobs, tasks and
        results are pickled.
    unit : str, default="fold"
        Unit that the progress bar counts.
    verbose : bool, default=True
        Whether to show the bar. It is hidden if all results are in the store already.
    """
    from joblib import effective_n_jobs
    from sklearn.utils.parallel import Parallel, delayed

    in_order = effective_n_jobs(n_jobs) == 1
    done = len(store)
    hidden = not verbose or done == total
    with progress(total=total, initial=done, unit=unit, hidden=hidden) as bar:
        missing = (task for task in tasks if task.key not in store)

        def in_turn() -> Iterator[tuple[Hashable, Any]]:
            for task in missing:
                bar.set_description(task.label)
                yield task.key, task.do(bar.set_postfix_str)

        def at_once() -> Iterator[tuple[Hashable, Any]]:
            # Without tasks that wait in a queue, no more are begun than are wanted.
            parallel = Parallel(
                n_jobs=n_jobs, return_as="generator_unordered", pre_dispatch="n_jobs"
            )
            yield from parallel(delayed(_do)(task) for task in missing)

        for key, result in in_turn() if in_order else at_once():
            store[key] = result
            bar.update()


def _do(task: Task) -> tuple[Hashable, Any]:
    return task.key, task.do(_silent)


def _silent(word: str) -> None:
    """Replace the progress bar in other processes, which cannot reach it."""
