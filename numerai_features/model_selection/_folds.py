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
"""Selected rows: a slice, or row indices."""


class Fold(NamedTuple):
    """The rows of a fold; contiguous rows are a slice, which selects a view.

    Attributes
    ----------
    number : int
        Index of the fold.
    train : slice or ndarray of int
        Training rows whose target is known.
    test : slice or ndarray of int
        All test rows.
    """

    number: int
    train: Chosen
    test: Chosen


def index_eras(X: Any, eras: Any, **beside: Any) -> EraIndex:
    """Return the eras of rows, from labels or, without labels, from a frame's column.

    Raises
    ------
    ValueError
        If there are no eras, not one era for each row of X, or if X, eras and what
        came `beside` are rows in different orders.
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
    """Yield, for each fold of any splitter, the number of its rows in each era.

    Parameters
    ----------
    cv : splitter, int or iterable
        Anything that scikit-learn accepts as ``cv=``.
    eras : EraIndex
        Eras of the rows.
    y : array-like, default=None
        The target.

    Yields
    ------
    train, test : ndarray of shape (n_eras,), int
        Numbers of training and of test rows. With a splitter of another package, an era
        can have both.
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
    """Yield the rows of the folds of any splitter, as indices.

    Parameters
    ----------
    folds : iterable
        Pairs of indices or masks.
    n_rows : int
        Number of rows.
    cv : str, default="cv"
        Name of the splitter in error messages.

    Raises
    ------
    ValueError
        If a fold is not a pair of rows, or contains rows that do not exist.
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
    """Yield the folds of any splitter, without training rows that have no target.

    Parameters
    ----------
    cv : splitter, int or iterable
        Anything that scikit-learn accepts as ``cv=``.
    eras : EraIndex
        Eras of the rows.
    target : ndarray of shape (n_rows,)
        NaN if unknown: such rows are not trained on.
    y : array-like, default=None
        Passed to the splitter. With it, splitters of this package leave out eras
        without a target.
    first : int, default=0
        Index of the first fold.

    Yields
    ------
    Fold

    Raises
    ------
    ValueError
        If a fold has no training rows, no test rows, or no training row with a target.
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
    """Return the number of folds that `row_folds` yields."""
    splitter, *arguments = _splitting(cv, eras, y)
    return int(splitter.get_n_splits(*arguments))


def read_cv(cv: Any, y: Any = None) -> Any:
    """Convert any ``cv=`` argument to a splitter; pairs of rows are read only once."""
    from sklearn.model_selection import check_cv

    if not isinstance(cv, Integral) and not hasattr(cv, "split"):
        pairs = [_pair(fold, number) for number, fold in enumerate(cv)]
        if not pairs:
            raise no_folds(cv)
        cv = pairs
    return check_cv(cv, y)


def _splitting(cv: Any, eras: EraIndex, y: Any) -> tuple[Any, Any, Any, Any]:
    """Return a splitter and the arguments of its `split`; X is a placeholder."""
    splitter = read_cv(cv, y)
    X = np.broadcast_to(np.int8(0), (eras.n_rows, 1))
    # scikit-learn's own splitters warn about groups that they ignore
    takes_groups = not hasattr(splitter, "get_metadata_routing") or consumes(
        splitter, "split", "groups"
    )
    return splitter, X, y, eras.row_keys if takes_groups else None


def _pair(fold: Any, number: int, cv: str = "cv") -> Any:
    """Return a fold if it is a pair; otherwise raise."""
    if isinstance(fold, np.ndarray) and fold.ndim:
        fold = tuple(fold)
    if isinstance(fold, tuple | list) and len(fold) == 2:
        return fold
    raise ValueError(
        f"{cv} must yield pairs of training and test rows; fold {number} is "
        f"{repr_shortly(fold)}."
    )


def _places(rows: Any, n_rows: int, owner: str, cv: str) -> NDArray[np.intp]:
    """Convert rows, given as indices or as a mask, to indices."""
    if _is_list_of_arrays(rows):
        raise ValueError(
            f"{cv} must yield the rows of a fold in one array; {owner} are a list of "
            f"{len(rows)} arrays, as from combinatorial splitters of other packages. "
            "Join them with np.concatenate, or use CombinatorialPurgedEraCV."
        )
    places: NDArray[Any] = np.asarray(rows)
    if places.ndim != 1:
        raise _no_rows(n_rows, owner, cv, f"of shape {places.shape}")
    if places.dtype == bool:
        if len(places) != n_rows:
            raise _no_rows(n_rows, owner, cv, f"a mask of {len(places)} rows")
        return np.flatnonzero(places)
    if not places.size:  # numpy converts [] to floats
        return np.empty(0, np.intp)
    if places.dtype.kind not in "iu":
        raise _no_rows(n_rows, owner, cv, f"of dtype {places.dtype}")
    low, high = places.min(), places.max()
    if low < -n_rows or high >= n_rows:
        raise _no_rows(n_rows, owner, cv, f"from {low} to {high}")
    places = places.astype(np.intp, copy=False)
    return places if low >= 0 else places % n_rows  # negative: from the end


def _is_list_of_arrays(rows: Any) -> bool:
    if not isinstance(rows, list | tuple):
        return False
    return any(
        isinstance(part, list | tuple) or getattr(part, "ndim", 0) for part in rows
    )


def _no_rows(n_rows: int, owner: str, cv: str, got: str) -> ValueError:
    what, advice = "rows", "Let it split the rows that it is given."
    if cv == "cv":
        what = "labels in eras"
        advice = "Pass eras= with one label for each row that cv splits."
    return ValueError(
        f"{cv} must yield row indices below {n_rows}, or masks of {n_rows} rows, "
        f"as many as there are {what}; {owner} are {got}. {advice}"
    )


def no_folds(given: Any, cv: str = "cv") -> ValueError:
    """Return the error for a splitter, or pairs of rows, that yields no folds."""
    advice = "Pass a splitter that splits these rows."
    if not hasattr(given, "split"):
        advice = (
            "Pass a splitter, or pairs of training and test rows. A generator is empty "
            "after its first use: pass list(splitter.split(...)), or the splitter "
            "itself."
        )
    return ValueError(f"{cv} yields no folds; got {given!r}. {advice}")


def _rows_in_eras(eras: EraIndex, rows: NDArray[np.intp]) -> Counts:
    return np.bincount(eras.codes[rows], minlength=eras.n_eras)
