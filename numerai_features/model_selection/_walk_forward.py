"""Train on the past, test on what follows."""

from __future__ import annotations

from datetime import date
from numbers import Integral
from typing import Any

import numpy as np

from numerai_features._arguments import COUNT, Finite, Whole, checked
from numerai_features._eras import encode_eras, era_number
from numerai_features._validation import find_eras
from numerai_features.model_selection._base import (
    BaseEraSplitter,
    FixedCountSplitter,
)

_LABEL = Finite(-21_000_000, 21_000_000)  # a number, or a date as one
_NUMERAI_TEST_ERAS = 156  # eras that each of Numerai's walk-forward models predicts


class EraWalkForward(BaseEraSplitter):
    """Walk forward: train on the past, test the block of eras that follows.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds if `test_eras` is None. The eras are cut into ``n_splits + 1``
        blocks, and every block but the first is tested once. With `first_test_era` or
        `min_train_eras`, only the eras from the first test era on are cut, into
        `n_splits` blocks, and every block is tested.
    test_eras : int, default=None
        Length of a block, in era numbers; the number of folds then depends on the data.
        The first block begins at the first era and is not tested, unless
        `first_test_era` or `min_train_eras` sets where tests begin. Numerai's own
        models use 156, see `numerai`.
    first_test_era : era label, default=None
        First era of the first test block, such as the first era of the validation
        file: ``575``, ``"0575"``, or a date if the data have dates.
    min_train_eras : int, default=None
        Shortest training window, in era numbers back from the purge. The first test
        block begins as soon as the window is this long. With `first_test_era`, a
        shorter window is an error.
    max_train_eras : int, default=None
        Longest training window, in era numbers back from the purge; it makes the window
        slide. None: the window contains all past eras.
    purge, embargo, target
        As in `EraKFold`. An embargo has no effect here, since no fold trains on eras
        after its test block.

    See Also
    --------
    EraKFold : Trains on both sides of the test eras.
    EraHoldout : A single fold.

    Examples
    --------
    >>> import numpy as np
    >>> from numerai_features.model_selection import EraWalkForward
    >>> eras = np.arange(1, 13)
    >>> for train, test in EraWalkForward(test_eras=4, purge=1).split_eras(eras):
    ...     print(train, test)
    [1 2 3] [5 6 7 8]
    [1 2 3 4 5 6 7] [ 9 10 11 12]

    Test one era at a time, with a model of the 4 eras before the purge:

    >>> cv = EraWalkForward(
    ...     test_eras=1, min_train_eras=4, max_train_eras=4, purge=2)
    >>> for train, test in cv.split_eras(eras[:9]):
    ...     print(train, test)
    [1 2 3 4] [7]
    [2 3 4 5] [8]
    [3 4 5 6] [9]

    Train on the training file, and test the validation file, whose first era is 9:

    >>> [(train, test)] = EraWalkForward(1, first_test_era=9, purge=1).split_eras(eras)
    >>> print(train, test)
    [1 2 3 4 5 6 7] [ 9 10 11 12]
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "n_splits": [COUNT],
        "test_eras": [Whole(1), None],
        "first_test_era": [_LABEL, str, date, np.datetime64, None],
        "min_train_eras": [Whole(1), None],
        "max_train_eras": [Whole(1), None],
        **BaseEraSplitter._parameter_constraints,
    }

    def __init__(
        self,
        n_splits=5,
        *,
        test_eras=None,
        first_test_era=None,
        min_train_eras=None,
        max_train_eras=None,
        purge="auto",
        embargo=0,
        target=None,
    ):
        self.n_splits = n_splits
        self.test_eras = test_eras
        self.first_test_era = first_test_era
        self.min_train_eras = min_train_eras
        self.max_train_eras = max_train_eras
        self.purge = purge
        self.embargo = embargo
        self.target = target

    @classmethod
    @checked(target=[str])
    def numerai(cls, target, **params):
        """Return the scheme that Numerai uses to train its own benchmark models.

        Each chunk of 156 eras is predicted by a model of all eras before it, except the
        last 8 for a 20-day target and the last 16 for a 60-day target.

        Parameters
        ----------
        target : str
            The target's name, such as ``"target_ender_60"``.
        **params : dict
            Further parameters of the class.

        Returns
        -------
        EraWalkForward

        Examples
        --------
        >>> from numerai_features.model_selection import EraWalkForward
        >>> cv = EraWalkForward.numerai("target_ender_60")
        >>> for train, test in cv.split_eras(range(1, 575)):
        ...     print(f"train {train[0]}..{train[-1]}, test {test[0]}..{test[-1]}")
        train 1..140, test 157..312
        train 1..296, test 313..468
        train 1..452, test 469..574
        """
        return cls(**{"test_eras": _NUMERAI_TEST_ERAS, "target": target, **params})

    def get_n_splits(self, X=None, y=None, groups=None):
        """Return the number of folds.

        Parameters
        ----------
        X : array-like or frame, default=None
            Only a frame's column ``era`` is used.
        y : array-like of shape (n_rows,), default=None
            The target; eras that are not resolved are not counted.
        groups : array-like of shape (n_rows,), default=None
            Era labels, needed if `test_eras` is set and X has no eras. With eras, this
            method raises the errors that `split` would raise.

        Returns
        -------
        int
        """
        self._validate_params()
        self._check_windows()
        if self.test_eras is None and find_eras(X, groups) is None:
            return self.n_splits
        return sum(1 for _ in self._era_folds(self._eras(X, groups, y), y))

    def _check_windows(self):
        """Raise if the shortest training window is longer than the longest."""
        fewest, most = self.min_train_eras, self.max_train_eras
        if None not in (fewest, most) and fewest > most:
            raise ValueError(
                f"min_train_eras={fewest} must be at most max_train_eras={most}. Lower "
                "min_train_eras, or raise max_train_eras."
            )

    def _check_names(self, eras, purge):
        super()._check_names(eras, purge)
        self._check_windows()
        if self.first_test_era is not None:
            era_number(self.first_test_era, eras, "first_test_era")

    @property
    def _needs_order(self):
        return True

    @property
    def _more_to_train(self):
        if self.first_test_era is not None:
            return "Raise first_test_era"
        if self.min_train_eras is not None:  # the training window lies in a gap
            return "Raise min_train_eras and max_train_eras"
        return "Pass min_train_eras=, so that tests begin after enough training eras"

    def _starts(self, numbers, purge):
        """Return the first era number of every block to test."""
        first = self._first_test(numbers, purge)
        if self.test_eras is None:
            return self._starts_of_equal(numbers, first)
        anchor = numbers[0] if first is None else first
        later = numbers[numbers >= anchor]
        _, places = np.unique((later - anchor) // self.test_eras, return_index=True)
        if first is not None:
            return later[places]
        if len(places) < 2:
            length = numbers[-1] - numbers[0]
            raise ValueError(
                f"test_eras={self.test_eras} leaves no block to test: the eras go from "
                f"{numbers[0]} to {numbers[-1]}, and the first block is only trained "
                f"on. Pass test_eras= of at most {length}, or first_test_era= or "
                "min_train_eras= to begin tests earlier."
            )
        return later[places[1:]]

    def _starts_of_equal(self, numbers, first):
        """Return the first era number of each of `n_splits` blocks of equal size."""
        tested = numbers if first is None else numbers[numbers >= first]
        n_blocks = self.n_splits + (first is None)
        if n_blocks > len(tested):
            since = "" if first is None else f" from era {first} on"
            raise ValueError(
                f"n_splits={self.n_splits} needs at least {n_blocks} resolved eras"
                f"{since}; got {len(tested)}. Lower n_splits, or take more eras."
            )
        blocks = np.array_split(tested, n_blocks)[first is None :]
        return np.array([block[0] for block in blocks])

    def _first_test(self, numbers, purge):
        """Return the era number at which tests begin; None if no parameter sets it."""
        fewest, told = self.min_train_eras, self.first_test_era
        if told is None and fewest is None:
            return None
        earliest = numbers[0] + purge + (fewest or 1)
        known = [] if fewest is None else [f"min_train_eras={fewest}"]
        first = earliest
        if told is not None:
            [first] = encode_eras([told], name="first_test_era").numbers
            known.append(f"first_test_era={told!r}")
        span = f"the era numbers go from {numbers[0]} to {numbers[-1]}"
        if first > numbers[-1]:
            raise ValueError(
                f"{known[-1]} leaves no era to test: tests would begin at number "
                f"{first} (purge={purge}), but {span}. Lower it, or take more eras."
            )
        if first < earliest:
            raise ValueError(
                f"Too few eras are left to train on with {' and '.join(known)}: "
                f"{span}, so with purge={purge} tests can begin at number {earliest}. "
                "Raise first_test_era, or lower the purge or min_train_eras."
            )
        return first

    def _folds(self, numbers, purge):
        starts = self._starts(numbers, purge)
        ends = [*starts[1:], numbers[-1] + 1]
        for start, end in zip(starts, ends, strict=True):
            train = np.asarray(numbers < start)
            if self.max_train_eras is not None:
                train &= numbers >= start - purge - self.max_train_eras
            yield train, (numbers >= start) & (numbers < end)


class EraHoldout(FixedCountSplitter):
    """One fold: train on the past, test the last eras.

    Parameters
    ----------
    test_size : float or int, default=0.2
        Eras to test: a fraction of the eras (rounded up), or a number of eras.
    purge, embargo, target
        As in `EraKFold`. An embargo has no effect here, since no eras follow the test
        eras.

    See Also
    --------
    EraWalkForward : Several such folds.

    Examples
    --------
    >>> import numpy as np
    >>> from numerai_features.model_selection import EraHoldout
    >>> [(train, test)] = EraHoldout(0.25, purge=2).split_eras(np.arange(1, 13))
    >>> print(train, test)
    [1 2 3 4 5 6 7] [10 11 12]
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "test_size": [
            Finite(0, 1, "neither"),
            Whole(1),
        ],
        **BaseEraSplitter._parameter_constraints,
    }

    def __init__(self, test_size=0.2, *, purge="auto", embargo=0, target=None):
        self.test_size = test_size
        self.purge = purge
        self.embargo = embargo
        self.target = target

    @property
    def _n_splits(self):
        return 1

    @property
    def _needs_order(self):
        return True

    @property
    def _more_to_train(self):
        return "Lower test_size"

    def _folds(self, numbers, purge):
        n_test = self.test_size
        if not isinstance(n_test, Integral):
            n_test = int(np.ceil(n_test * len(numbers)))
        if n_test >= len(numbers):
            raise ValueError(
                f"test_size={self.test_size} leaves no era to train on: {n_test} of "
                f"{len(numbers)} resolved eras would be tested. Lower it."
            )
        test = np.arange(len(numbers)) >= len(numbers) - n_test
        yield ~test, test
