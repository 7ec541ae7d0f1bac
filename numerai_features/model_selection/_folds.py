"""The folds of any splitter, by rows and by eras."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral
from reprlib import repr as repr_shortly
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numerai_features._blocks import as_slice
from numerai_features._compat import consumes
from numerai_features._eras import EraIndex, encode_eras
from numerai_features._validation import check_same_rows, count_rows, find_eras
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


def index_eras(X: Any, eras: Any, **beside: Any) -> EraIndex:
    """Return the eras of rows, from labels or else from the column of a frame.

    Raises
    ------
    ValueError
        If there are none, not one for each row of X, or if X, eras or what else came
        `beside` are of rows in different orders.
    """
    check_same_rows(X=X, eras=eras, **beside)
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
    yield from read_folds(splitter.split(*arguments), eras.n_rows)


def read_folds(
    folds: Any, n_rows: int, cv: str = "cv"
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield the rows of folds that anyone's splitter yields, as indices.

    Parameters
    ----------
    folds : iterable
        Pairs of indices or masks.
    n_rows : int
        How many rows there are.
    cv : str, default="cv"
        What the messages call the splitter.

    Raises
    ------
    ValueError
        If a fold is no pair of rows that are there.
    """
    for number, fold in enumerate(folds):
        train, test = _pair(fold, number, cv)
        yield (
            _places(train, n_rows, f"the training rows of fold {number}", cv),
            _places(test, n_rows, f"the test rows of fold {number}", cv),
        )


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
        If a fold has no rows to train on or to test, or none of the former a target.
    """
    unknown = np.isnan(target)
    for number, (train, test) in enumerate(row_folds(cv, eras, y), start=first):
        if not len(train) or not len(test):
            raise ValueError(
                f"cv has no {'test' if len(train) else 'training'} rows in fold "
                f"{number}. Leave the fold out, or choose fewer and longer folds."
            )
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
        pairs = [_pair(fold, number) for number, fold in enumerate(cv)]
        if not pairs:
            raise no_folds(cv)
        cv = pairs
    return check_cv(cv, y)


def _splitting(cv: Any, eras: EraIndex, y: Any) -> tuple[Any, Any, Any, Any]:
    """Return a splitter, and X, y and groups for it; no features are needed."""
    splitter = read_cv(cv, y)
    X = np.broadcast_to(np.int8(0), (eras.n_rows, 1))
    # scikit-learn's own splitters warn of groups that they ignore
    takes_groups = not hasattr(splitter, "get_metadata_routing") or consumes(
        splitter, "split", "groups"
    )
    return splitter, X, y, eras.row_keys if takes_groups else None


def _pair(fold: Any, number: int, cv: str = "cv") -> Any:
    """Return what a splitter yields, if it is two things."""
    if isinstance(fold, np.ndarray) and fold.ndim:
        fold = tuple(fold)
    if isinstance(fold, tuple | list) and len(fold) == 2:
        return fold
    raise ValueError(
        f"{cv} must yield pairs of training and test rows; fold {number} is "
        f"{repr_shortly(fold)}."
    )


def _places(rows: Any, n_rows: int, owner: str, cv: str) -> NDArray[np.intp]:
    """Return rows as indices: a list or a mask may come, too."""
    if _is_list_of_arrays(rows):
        raise ValueError(
            f"{cv} must yield the rows of a fold in one array; {owner} are a list of "
            f"{len(rows)} arrays, as of combinatorial splitters of other packages. "
            "Join them by np.concatenate, or use CombinatorialPurgedEraCV."
        )
    places: NDArray[Any] = np.asarray(rows)
    if places.ndim != 1:
        raise _no_rows(n_rows, owner, cv, f"of shape {places.shape}")
    if places.dtype == bool:
        if len(places) != n_rows:
            raise _no_rows(n_rows, owner, cv, f"a mask of {len(places)} rows")
        return np.flatnonzero(places)
    if not places.size:  # numpy makes floats of []
        return np.empty(0, np.intp)
    if places.dtype.kind not in "iu":
        raise _no_rows(n_rows, owner, cv, f"of dtype {places.dtype}")
    low, high = places.min(), places.max()
    if low < -n_rows or high >= n_rows:
        raise _no_rows(n_rows, owner, cv, f"from {low} to {high}")
    places = places.astype(np.intp, copy=False)
    return places if low >= 0 else places % n_rows  # from the end, as numpy has it


def _is_list_of_arrays(rows: Any) -> bool:
    if not isinstance(rows, list | tuple):
        return False
    return any(
        isinstance(part, list | tuple) or getattr(part, "ndim", 0) for part in rows
    )


def _no_rows(n_rows: int, owner: str, cv: str, got: str) -> ValueError:
    what, advice = "rows", "Let it split the rows that it is handed."
    if cv == "cv":
        what = "labels in eras"
        advice = "Pass as eras one label for each row that cv splits."
    return ValueError(
        f"{cv} must yield row indices below {n_rows}, or masks of {n_rows} rows, "
        f"as many as there are {what}; {owner} are {got}. {advice}"
    )


def no_folds(given: Any, cv: str = "cv") -> ValueError:
    """Return the error for a splitter, or pairs of rows, of which nothing came."""
    advice = "Pass a splitter that splits these rows."
    if not hasattr(given, "split"):
        advice = (
            "Pass a splitter, or pairs of training and test rows. A generator is empty "
            "when it was gone through before: pass list(splitter.split(...)), or the "
            "splitter itself."
        )
    return ValueError(f"{cv} yields no folds; got {given!r}. {advice}")


def _rows_in_eras(eras: EraIndex, rows: NDArray[np.intp]) -> Counts:
    return np.bincount(eras.codes[rows], minlength=eras.n_eras)
