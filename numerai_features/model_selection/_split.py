"""Cross-validation over eras: purged, embargoed, by era numbers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from numerai_features._compat import Interval, StrOptions
from numerai_features._eras import LIVE, EraIndex, encode_eras, era_label
from numerai_features._validation import take_eras
from numerai_features.model_selection._horizon import resolve_purge


class BaseEraSplitter(BaseEstimator):
    """Common part of the era splitters: which rows a choice of test eras gives.

    Leaves say in `_folds` which eras each fold tests and which it may train on; this
    class takes away what the purge and the embargo forbid. Think twice before adding
    anything else here.
    """

    __metadata_request__split = {"groups": True}

    _parameter_constraints: dict[str, list[Any]] = {
        "purge": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "embargo": [Interval(Integral, 0, None, closed="left")],
        "horizon": [Interval(Integral, 1, None, closed="left"), None],
        "target": [str, None],
    }

    @abstractmethod
    def _folds(
        self, numbers: NDArray[np.int64], purge: int
    ) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
        """Yield, for each fold, masks over the eras: may train, and test."""

    def split(self, X, y=None, groups=None):
        """Yield the rows of each fold.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            A frame's column ``era`` tells the eras where `groups` does not.
        y : array-like of shape (n_rows,), default=None
            The target; ``y.name`` may tell the purge.
        groups : array-like of shape (n_rows,), default=None
            Era labels. Rows of ``"X"`` (live) are in no fold.

        Yields
        ------
        train, test : ndarray of int
            Row indices, ascending.

        Raises
        ------
        ValueError
            If there are no eras, too few of them, or the purge leaves a fold without
            training eras.
        """
        eras = self._eras(X, groups)
        for train, test in self._masks(eras, y):
            yield eras.rows_of(train), eras.rows_of(test)

    def split_eras(self, eras, y=None):
        """Yield the era numbers of each fold.

        Parameters
        ----------
        eras : array-like
            Era labels, of rows or distinct.
        y : array-like, default=None
            The target; ``y.name`` may tell the purge.

        Yields
        ------
        train, test : ndarray of int
            Era numbers, ascending.
        """
        index = encode_eras(eras)
        for train, test in self._masks(index, y):
            yield index.numbers[train], index.numbers[test]

    def _masks(self, eras: EraIndex, y):
        self._validate_params()
        purge = resolve_purge(self.purge, horizon=self.horizon, target=self.target, y=y)
        live = eras.numbers == LIVE
        numbers = eras.numbers[~live]
        if len(numbers) < 2:
            raise ValueError(
                f"{type(self).__name__} needs at least two resolved eras; got "
                f"{len(numbers)}. Pass all training eras as groups=."
            )
        for i, (train, test) in enumerate(self._folds(numbers, purge)):
            train = train & ~_too_near(numbers, test, purge, self.embargo)
            if not train.any():
                first = era_label(int(numbers[test][0]))
                raise ValueError(
                    f"Fold {i} (test from era {first}) has no training era left after "
                    f"a purge of {purge} and an embargo of {self.embargo} eras; the "
                    f"data have {len(numbers)} eras. Use more eras, fewer splits, or "
                    "a smaller purge (purge=0 for targets that do not overlap)."
                )
            pad = np.zeros(live.sum(), bool)
            yield np.concatenate([train, pad]), np.concatenate([test, pad])

    def _eras(self, X, groups) -> EraIndex:
        _, groups = take_eras(X, groups)
        if groups is None:
            raise ValueError(
                f"{type(self).__name__} splits by era, but got none. Pass "
                "groups=eras (cross_val_score, GridSearchCV.fit), or a frame with the "
                "column 'era'."
            )
        n_rows = None if X is None else _n_rows(X)
        return encode_eras(groups, n_rows=n_rows, name="groups")


class EraKFold(BaseEraSplitter):
    """K folds of eras, purged on both sides of every test era.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds.
    shuffle : bool, default=False
        False: each fold tests a contiguous block of eras. True: eras drawn at random;
        then nearly every training era is near a test era, and the purge leaves few
        where targets overlap.
    purge : int or "auto", default="auto"
        Training eras at most this many era numbers before or after a test era are
        left out. "auto" takes it from `horizon`, `target`, ``y.name``, else 16.
    embargo : int, default=0
        Further eras left out after each test era, beyond the purge: those whose
        features were made from the tested returns.
    horizon : int, default=None
        Eras that the target spans; then the purge is as many.
    target : str, default=None
        The target's name; its trading days give the purge (20 days: 8; 60: 16).
    random_state : int, RandomState instance or None, default=None
        Seed for `shuffle`.

    See Also
    --------
    EraWalkForward : Train on the past alone.

    Examples
    --------
    >>> import numpy as np
    >>> from numerai_features.model_selection import EraKFold
    >>> eras = np.repeat(np.arange(1, 13), 2)
    >>> for train, test in EraKFold(3, purge=2).split_eras(eras):
    ...     print(train, test)
    [ 7  8  9 10 11 12] [1 2 3 4]
    [ 1  2 11 12] [5 6 7 8]
    [1 2 3 4 5 6] [ 9 10 11 12]
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "n_splits": [Interval(Integral, 2, None, closed="left")],
        "shuffle": ["boolean"],
        **BaseEraSplitter._parameter_constraints,
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_splits=5,
        *,
        shuffle=False,
        purge="auto",
        embargo=0,
        horizon=None,
        target=None,
        random_state=None,
    ):
        self.n_splits = n_splits
        self.shuffle = shuffle
        self.purge = purge
        self.embargo = embargo
        self.horizon = horizon
        self.target = target
        self.random_state = random_state

    def get_n_splits(self, X=None, y=None, groups=None):
        """Return the number of folds.

        Parameters
        ----------
        X, y, groups : Ignored
            Present for API consistency.

        Returns
        -------
        int
        """
        return self.n_splits

    def _folds(self, numbers, purge):
        n_eras = len(numbers)
        if self.n_splits > n_eras:
            raise ValueError(
                f"n_splits={self.n_splits} must be at most the number of resolved "
                f"eras, {n_eras}."
            )
        order = np.arange(n_eras)
        if self.shuffle:
            order = check_random_state(self.random_state).permutation(n_eras)
        for block in np.array_split(order, self.n_splits):
            test = np.zeros(n_eras, bool)
            test[block] = True
            yield ~test, test


class EraWalkForward(BaseEraSplitter):
    """Walk forward: train on the past, test the block of eras that follows.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds where `chunk` is None: the eras are cut into ``n_splits + 1``
        blocks, and every block but the first is tested once.
    chunk : int, default=None
        Length of a block in era numbers; then the data give the number of folds.
        Numerai's own models use 156.
    max_train_eras : int, default=None
        Longest training window, in era numbers back from the purge: a sliding
        window. None: all of the past.
    purge, embargo, horizon, target
        As in `EraKFold`. An embargo has no effect here: nothing after a test block is
        trained on.

    See Also
    --------
    EraKFold : Train on both sides of the test eras.

    Examples
    --------
    >>> import numpy as np
    >>> from numerai_features.model_selection import EraWalkForward
    >>> eras = np.arange(1, 13)
    >>> for train, test in EraWalkForward(chunk=4, purge=1).split_eras(eras):
    ...     print(train, test)
    [1 2 3] [5 6 7 8]
    [1 2 3 4 5 6 7] [ 9 10 11 12]
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "n_splits": [Interval(Integral, 1, None, closed="left")],
        "chunk": [Interval(Integral, 1, None, closed="left"), None],
        "max_train_eras": [Interval(Integral, 1, None, closed="left"), None],
        **BaseEraSplitter._parameter_constraints,
    }

    def __init__(
        self,
        n_splits=5,
        *,
        chunk=None,
        max_train_eras=None,
        purge="auto",
        embargo=0,
        horizon=None,
        target=None,
    ):
        self.n_splits = n_splits
        self.chunk = chunk
        self.max_train_eras = max_train_eras
        self.purge = purge
        self.embargo = embargo
        self.horizon = horizon
        self.target = target

    def get_n_splits(self, X=None, y=None, groups=None):
        """Return the number of folds.

        Parameters
        ----------
        X : array-like or frame, default=None
            A frame's column ``era`` is looked at where `chunk` is given.
        y : Ignored
            Present for API consistency.
        groups : array-like of shape (n_rows,), default=None
            Era labels, needed where `chunk` is given and X has none.

        Returns
        -------
        int
        """
        if self.chunk is None:
            return self.n_splits
        numbers = self._eras(X, groups).numbers
        return len(self._blocks(numbers[numbers != LIVE])) - 1

    def _blocks(self, numbers):
        """Return the first era number of every block."""
        if self.chunk is not None:
            starts = np.arange(numbers[0], numbers[-1] + 1, self.chunk)
            first = np.searchsorted(numbers, starts)
            return starts[np.diff(np.append(first, len(numbers))) > 0]
        if self.n_splits + 1 > len(numbers):
            raise ValueError(
                f"n_splits={self.n_splits} needs at least {self.n_splits + 1} resolved "
                f"eras; got {len(numbers)}."
            )
        return np.array([b[0] for b in np.array_split(numbers, self.n_splits + 1)])

    def _folds(self, numbers, purge):
        starts = self._blocks(numbers)
        if len(starts) < 2:
            raise ValueError(
                f"chunk={self.chunk} leaves no block to test: the eras go from "
                f"{numbers[0]} to {numbers[-1]}. Use a shorter chunk."
            )
        ends = [*starts[2:], numbers[-1] + 1]
        for start, end in zip(starts[1:], ends, strict=True):
            train = np.asarray(numbers < start)
            if self.max_train_eras is not None:
                train &= numbers >= start - purge - self.max_train_eras
            yield train, (numbers >= start) & (numbers < end)


def _too_near(
    numbers: NDArray[np.int64], test: NDArray[np.bool_], purge: int, embargo: int
) -> NDArray[np.bool_]:
    """Which eras lie within the purge of a test era, or in the embargo after one."""
    tested = numbers[test]
    after = np.searchsorted(tested, numbers)
    nothing = np.iinfo(np.int64).max // 2
    following = np.append(tested, nothing)[after] - numbers
    preceding = numbers - np.insert(tested, 0, -nothing)[after]
    near = (following <= purge) | (preceding <= purge + embargo)
    return np.asarray(near | test)


def _n_rows(X) -> int:
    return X.shape[0] if hasattr(X, "shape") else len(X)
