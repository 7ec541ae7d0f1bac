"""Train on the past, test on what follows."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np

from numerai_features._arguments import COUNT, Finite, Whole, checked
from numerai_features.model_selection._base import (
    BaseEraSplitter,
    FixedCountSplitter,
)

_NUMERAI_TEST_ERAS = 156  # that each of Numerai's own walk-forward models predicts


class EraWalkForward(BaseEraSplitter):
    """Walk forward: train on the past, test the block of eras that follows.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds where `test_eras` is None: the eras are cut into
        ``n_splits + 1`` blocks, and every block but the first is tested once.
    test_eras : int, default=None
        Length of a block in era numbers, from the first era on; then the data give
        the number of folds. Numerai's own models use 156, see `numerai`.
    max_train_eras : int, default=None
        Longest training window, in era numbers back from the purge: a sliding
        window. None: all of the past.
    purge, embargo, target
        As in `EraKFold`. An embargo has no effect here: nothing after a test block is
        trained on.

    See Also
    --------
    EraKFold : Train on both sides of the test eras.
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
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "n_splits": [COUNT],
        "test_eras": [Whole(1), None],
        "max_train_eras": [Whole(1), None],
        **BaseEraSplitter._parameter_constraints,
    }

    def __init__(
        self,
        n_splits=5,
        *,
        test_eras=None,
        max_train_eras=None,
        purge="auto",
        embargo=0,
        target=None,
    ):
        self.n_splits = n_splits
        self.test_eras = test_eras
        self.max_train_eras = max_train_eras
        self.purge = purge
        self.embargo = embargo
        self.target = target

    @classmethod
    @checked(target=[str])
    def numerai(cls, target, **params):
        """Return the scheme that Numerai trains its own benchmark models by.

        Chunks of 156 eras, each predicted by a model of all eras before it, less 8
        for a 20-day target and 16 for a 60-day one.

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
            A frame's column ``era`` is looked at where `test_eras` is given.
        y : array-like of shape (n_rows,), default=None
            The target; eras that are not resolved are not counted.
        groups : array-like of shape (n_rows,), default=None
            Era labels, needed where `test_eras` is given and X has none.

        Returns
        -------
        int
        """
        self._validate_params()
        if self.test_eras is None:
            return self.n_splits
        _, numbers = self._resolved(self._eras(X, groups), y)
        return len(self._blocks(numbers)) - 1

    def _blocks(self, numbers):
        """Return the first era number of every block."""
        if self.test_eras is None:
            if self.n_splits + 1 > len(numbers):
                raise ValueError(
                    f"n_splits={self.n_splits} needs at least {self.n_splits + 1} "
                    f"resolved eras; got {len(numbers)}."
                )
            return np.array([b[0] for b in np.array_split(numbers, self.n_splits + 1)])
        block = (numbers - numbers[0]) // self.test_eras
        _, first = np.unique(block, return_index=True)
        if len(first) < 2:
            raise ValueError(
                f"test_eras={self.test_eras} leaves no block to test: the eras go from "
                f"{numbers[0]} to {numbers[-1]}. Lower it."
            )
        return numbers[first]

    @property
    def _needs_order(self):
        return True

    def _folds(self, numbers, purge):
        starts = self._blocks(numbers)
        ends = [*starts[2:], numbers[-1] + 1]
        for start, end in zip(starts[1:], ends, strict=True):
            train = np.asarray(numbers < start)
            if self.max_train_eras is not None:
                train &= numbers >= start - purge - self.max_train_eras
            yield train, (numbers >= start) & (numbers < end)


class EraHoldout(FixedCountSplitter):
    """One fold: train on the past, test the last eras.

    Parameters
    ----------
    test_size : float or int, default=0.2
        Eras to test: a share of them (rounded up), or how many.
    purge, embargo, target
        As in `EraKFold`. An embargo has no effect here: nothing after the test eras is
        trained on.

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
