"""The folds of any splitter, by rows and by eras."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numerai_features._blocks import as_slice
from numerai_features._compat import consumes
from numerai_features._eras import EraIndex, encode_eras
from numerai_features._validation import count_rows, find_eras
from numerai_features.model_selection._base import BaseEraSplitter

Counts = NDArray[np.int64]
Chosen = slice | NDArray[np.intp]
"""Some of the rows."""


class Fold(NamedTuple):
    """The rows of a fold; a slice where they lie together, so that they are a view.

    Attributes
    ----------
    number : int
        Its place among the folds.
    train : slice or ndarray of int
        Training rows whose target is known.
    test : slice or ndarray of int
        All test rows.
    """

    number: int
    train: Chosen
    test: Chosen


def index_eras(X: Any, eras: Any) -> EraIndex:
    """Return the eras of rows, from labels or else from the column of a frame.

    Raises
    ------
    ValueError
        If there are none, or not one for each row of X.
    """
    labels = find_eras(X, eras)
    if labels is None:
        raise ValueError(
            "eras must be era labels; got None, and X has no column 'era'. Pass "
            "eras=, one label for each row, or X=, a frame with the column 'era'."
        )
    return encode_eras(labels, n_rows=None if X is None else count_rows(X))


def era_folds(
    cv: Any, eras: EraIndex, y: Any = None
) -> Iterator[tuple[Counts, Counts]]:
    """Yield each fold of any splitter by its rows in each era.

    Parameters
    ----------
    cv : splitter, int or iterable
        What scikit-learn takes as ``cv=``.
    eras : EraIndex
        Of the rows.
    y : array-like, default=None
        The target.

    Yields
    ------
    train, test : ndarray of shape (n_eras,), int
        Numbers of rows; with a foreign splitter an era can have some in both.
    """
    if isinstance(cv, BaseEraSplitter):
        for fold in cv._era_folds(eras, y):
            yield eras.counts * fold.train, eras.counts * fold.test
        return
    for train, test in row_folds(cv, eras, y):
        yield _rows_in_eras(eras, train), _rows_in_eras(eras, test)


def row_folds(
    cv: Any, eras: EraIndex, y: Any = None
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield the rows of each fold of any splitter, with the eras as groups."""
    splitter, *arguments = _splitting(cv, eras, y)
    for train, test in splitter.split(*arguments):
        yield _places(train), _places(test)


def folds_to_run(
    cv: Any,
    eras: EraIndex,
    target: NDArray[np.floating[Any]],
    *,
    y: Any = None,
    first: int = 0,
) -> Iterator[Fold]:
    """Yield the folds of any splitter as a model can be trained on them.

    Parameters
    ----------
    cv : splitter, int or iterable
        What scikit-learn takes as ``cv=``.
    eras : EraIndex
        Of the rows.
    target : ndarray of shape (n_rows,)
        NaN where it is unknown: those rows are not trained on.
    y : array-like, default=None
        What the splitter is given; with it ours leave out eras without a target.
    first : int, default=0
        The number of the first fold.

    Yields
    ------
    Fold

    Raises
    ------
    ValueError
        If no training row of a fold has a target.
    """
    unknown = np.isnan(target)
    for number, (train, test) in enumerate(row_folds(cv, eras, y), start=first):
        known = train[~unknown[train]] if unknown.any() else train
        if not len(known):
            raise ValueError(
                f"The target is NaN in all {len(train)} training rows of fold "
                f"{number}. Choose another target, or fewer and longer folds."
            )
        yield Fold(number, as_slice(known), as_slice(test))


def count_folds(cv: Any, eras: EraIndex, y: Any = None) -> int:
    """Return how many folds `row_folds` yields."""
    splitter, *arguments = _splitting(cv, eras, y)
    return int(splitter.get_n_splits(*arguments))


def read_cv(cv: Any, y: Any = None) -> Any:
    """Return a splitter, whatever came as ``cv=``; pairs of rows are listed once."""
    from sklearn.model_selection import check_cv

    if not isinstance(cv, Integral) and not hasattr(cv, "split"):
        cv = list(cv)
        if not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in cv):
            raise ValueError(
                "cv must yield pairs of training and test rows; got "
                f"{next(p for p in cv if not isinstance(p, tuple | list))!r}."
            )
    return check_cv(cv, y)


def _splitting(cv: Any, eras: EraIndex, y: Any) -> tuple[Any, Any, Any, Any]:
    """Return a splitter, and X, y and groups for it; no features are needed."""
    splitter = read_cv(cv, y)
    X = np.broadcast_to(np.int8(0), (eras.n_rows, 1))
    # scikit-learn's own splitters warn of groups that they ignore
    takes_groups = not hasattr(splitter, "get_metadata_routing") or consumes(
        splitter, "split", "groups"
    )
    return splitter, X, y, eras.row_numbers if takes_groups else None


def _places(rows: Any) -> NDArray[np.intp]:
    """Return rows as indices: a list or a mask may come, too."""
    rows = np.asarray(rows)
    if rows.dtype == bool:
        return np.flatnonzero(rows)
    return rows if rows.size else np.empty(0, np.intp)  # numpy makes floats of []


def _rows_in_eras(eras: EraIndex, rows: NDArray[np.intp]) -> Counts:
    try:
        codes = eras.codes[rows]
    except IndexError as error:
        raise ValueError(
            f"cv must yield row indices below {eras.n_rows}, the number of labels in "
            f"eras; it has others ({error}). Pass as eras one label for each row that "
            "cv splits."
        ) from error
    return np.bincount(codes, minlength=eras.n_eras)
