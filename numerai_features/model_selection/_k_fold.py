"""K-fold splitters: each fold is tested by a model of the other eras."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from numerai_features._arguments import COUNT, SEED, Whole
from numerai_features.model_selection._base import BaseEraSplitter, FixedCountSplitter


class EraKFold(FixedCountSplitter):
    """K folds of eras, purged on both sides of every test era.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds.
    shuffle : bool, default=False
        If False, each fold tests a contiguous block of eras. If True, each fold tests
        chunks of eras drawn at random.
    chunk : int, default=None
        Length, in era numbers, of the chunks whose eras stay in one fold; None means 1.
        With ``shuffle=True`` choose several times the purge. If single eras are drawn
        at random, nearly all other eras are near a test era, so the purge leaves few
        training eras or none.
    purge : int or "auto", default="auto"
        Training eras at most this many era numbers before or after a test era are
        left out. "auto" takes the purge from `target`, or else from ``y.name``; without
        either it is 16.
    embargo : int, default=0
        Number of further eras left out after each test era, beyond the purge, because
        their features are computed from the tested returns.
    target : str, default=None
        The target's name; its number of trading days gives the purge (20 days: 8 eras;
        60: 16).
    random_state : int, RandomState instance or None, default=None
        Seed for `shuffle`.

    See Also
    --------
    EraWalkForward : Trains on the past only.
    RepeatedEraKFold : Repeats the K folds with different borders.

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
        "n_splits": [Whole(2)],
        "shuffle": ["boolean"],
        "chunk": [Whole(1), None],
        **BaseEraSplitter._parameter_constraints,
        "random_state": SEED,
    }

    def __init__(
        self,
        n_splits=5,
        *,
        shuffle=False,
        chunk=None,
        purge="auto",
        embargo=0,
        target=None,
        random_state=None,
    ):
        self.n_splits = n_splits
        self.shuffle = shuffle
        self.chunk = chunk
        self.purge = purge
        self.embargo = embargo
        self.target = target
        self.random_state = random_state

    @property
    def _n_splits(self):
        return self.n_splits

    @property
    def _needs_order(self):
        return self.chunk is not None

    @property
    def _draws_anew(self):
        return self.shuffle and self.random_state is None

    @property
    def _more_to_train(self):
        if self.shuffle:
            return "Shuffle longer chunks (chunk=, several times the purge)"
        return "Raise n_splits, for shorter folds"

    def _chunks(self, numbers):
        return (numbers - numbers[0]) // (self.chunk or 1)

    def _check_numbers(self, numbers):
        n_chunks = len(np.unique(self._chunks(numbers)))
        _check_enough(self, n_chunks, "chunks of eras" if self.chunk else "eras")

    def _folds(self, numbers, purge):
        chunks = self._chunks(numbers)
        order = np.unique(chunks)
        if self.shuffle:
            order = check_random_state(self.random_state).permutation(order)
        for tested in np.array_split(order, self.n_splits):
            test = np.isin(chunks, tested)
            yield ~test, test


class RepeatedEraKFold(FixedCountSplitter):
    """K folds of contiguous eras, repeated with different borders between the folds.

    Each repetition arranges the eras in a ring and cuts it into `n_splits` blocks,
    starting at a random era. So one block can contain both the first and the last eras;
    all other blocks are contiguous.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds in each repetition.
    n_repeats : int, default=5
        Number of repetitions. No two repetitions share a border, so there can be at
        most as many as a fold has test eras.
    purge, embargo, target
        As in `EraKFold`.
    random_state : int, RandomState instance or None, default=None
        Seed for the borders.

    See Also
    --------
    EraKFold : K folds without repetition.
    CombinatorialPurgedEraCV : Tests every combination of blocks.

    Examples
    --------
    >>> import numpy as np
    >>> from numerai_features.model_selection import RepeatedEraKFold
    >>> cv = RepeatedEraKFold(2, n_repeats=2, purge=1, random_state=0)
    >>> for train, test in cv.split_eras(np.arange(1, 9)):
    ...     print(train, test)
    [1 8] [3 4 5 6]
    [4 5] [1 2 7 8]
    [1 2] [4 5 6 7]
    [5 6] [1 2 3 8]
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "n_splits": [Whole(2)],
        "n_repeats": [COUNT],
        **BaseEraSplitter._parameter_constraints,
        "random_state": SEED,
    }

    def __init__(
        self,
        n_splits=5,
        *,
        n_repeats=5,
        purge="auto",
        embargo=0,
        target=None,
        random_state=None,
    ):
        self.n_splits = n_splits
        self.n_repeats = n_repeats
        self.purge = purge
        self.embargo = embargo
        self.target = target
        self.random_state = random_state

    @property
    def _n_splits(self):
        return self.n_splits * self.n_repeats

    @property
    def _draws_anew(self):
        return self.random_state is None

    @property
    def _more_to_train(self):
        return "Raise n_splits, for shorter folds"

    def _check_numbers(self, numbers):
        n_eras = len(numbers)
        _check_enough(self, n_eras, "eras")
        n_borders = n_eras // self.n_splits
        if self.n_repeats > n_borders:
            raise ValueError(
                f"n_repeats={self.n_repeats} must be at most {n_borders}: {n_eras} "
                f"resolved eras cannot be cut into {self.n_splits} blocks more often "
                "without repeating a border. Lower n_repeats or n_splits."
            )

    def _folds(self, numbers, purge):
        n_eras = len(numbers)
        n_borders = n_eras // self.n_splits
        borders = check_random_state(self.random_state).permutation(n_borders)
        for first in borders[: self.n_repeats]:
            ring = np.roll(np.arange(n_eras), -first)
            for block in np.array_split(ring, self.n_splits):
                test = np.zeros(n_eras, bool)
                test[block] = True
                yield ~test, test


def _check_enough(splitter, n_units, units):
    if splitter.n_splits > n_units:
        raise ValueError(
            f"n_splits={splitter.n_splits} must be at most the number of resolved "
            f"{units}, {n_units}. Lower it, or take more eras."
        )
