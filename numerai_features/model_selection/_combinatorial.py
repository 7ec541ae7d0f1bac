"""Combinatorial purged cross-validation over groups of eras."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._arguments import COUNT, ROWS, Whole, checked
from numerai_features._validation import as_floats
from numerai_features.model_selection._base import (
    BaseEraSplitter,
    FixedCountSplitter,
)

_MOST_SPLITS = 100_000


class CombinatorialPurgedEraCV(FixedCountSplitter):
    r"""Combinatorial purged cross-validation (López de Prado), over eras.

    The eras are cut into :math:`N` contiguous groups (`n_groups`). Each split tests one
    combination of :math:`k` groups (`n_test_groups`) with a model trained on the other
    groups, which gives :math:`\binom{N}{k}` splits. So each group is predicted
    :math:`\binom{N-1}{k-1}` times, by models of other eras. `backtest_paths` assembles
    these predictions into as many paths over all eras. The spread of the paths' scores
    shows how much of a single backtest's score is chance.

    Parameters
    ----------
    n_groups : int, default=6
        Number of groups. All have the same number of eras, except that the last group
        also has the remainder.
    n_test_groups : int, default=2
        Number of groups tested in each split, fewer than `n_groups`.
    purge, embargo, target
        As in `EraKFold`. The purge applies to both sides of every test group.

    Attributes
    ----------
    n_paths : int
        Number of backtest paths.

    See Also
    --------
    EraKFold : Tests one group at a time, which gives one path.

    References
    ----------
    M. López de Prado (2018). Advances in Financial Machine Learning, chapter 12.
    Wiley.

    Examples
    --------
    >>> import numpy as np
    >>> from numerai_features.model_selection import CombinatorialPurgedEraCV
    >>> cv = CombinatorialPurgedEraCV(3, 2, purge=1)
    >>> for train, test in cv.split_eras(np.arange(1, 13)):
    ...     print(train, test)
    [10 11 12] [1 2 3 4 5 6 7 8]
    [6 7] [ 1  2  3  4  9 10 11 12]
    [1 2 3] [ 5  6  7  8  9 10 11 12]
    >>> cv.n_paths
    2
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "n_groups": [Whole(2)],
        "n_test_groups": [COUNT],
        **BaseEraSplitter._parameter_constraints,
    }

    def __init__(
        self,
        n_groups=6,
        n_test_groups=2,
        *,
        purge="auto",
        embargo=0,
        target=None,
    ):
        self.n_groups = n_groups
        self.n_test_groups = n_test_groups
        self.purge = purge
        self.embargo = embargo
        self.target = target

    @property
    def n_paths(self):
        """Number of backtest paths."""
        self._validate_params()
        self._check_groups()
        return comb(self.n_groups - 1, self.n_test_groups - 1)

    @checked(predictions=[ROWS])
    def backtest_paths(self, predictions, X=None, y=None, groups=None):
        """Assemble the splits' predictions into paths over all eras.

        Path p takes the predictions of each group from the p-th split that tests the
        group, as in skfolio and in the book.

        Parameters
        ----------
        predictions : sequence of n_splits array-like of shape (n_test_rows,)
            For each split, in order, the predictions of its test rows.
        X, y, groups
            As in `split`.

        Returns
        -------
        ndarray of shape (n_rows, n_paths)
            NaN for rows that are in no fold: live, or not resolved.

        Raises
        ------
        ValueError
            If the number of predictions differs from the number of test rows.

        Examples
        --------
        >>> import numpy as np
        >>> from numerai_features.model_selection import CombinatorialPurgedEraCV
        >>> cv, eras = CombinatorialPurgedEraCV(3, 2, purge=0), np.arange(1, 7)
        >>> predictions = [np.full(len(test), float(split))
        ...                for split, (_, test) in enumerate(cv.split_eras(eras))]
        >>> print(cv.backtest_paths(predictions, groups=eras).T)
        [[0. 0. 0. 0. 1. 1.]
         [1. 1. 2. 2. 2. 2.]]
        """
        eras = self._eras(X, groups, y)
        paths = list(self._era_paths(eras, y))
        if len(predictions) != self._n_splits:
            raise ValueError(
                f"predictions must have one array for each of the {self._n_splits} "
                f"splits; got {len(predictions)}."
            )
        out = np.full((eras.n_rows, self.n_paths), np.nan)
        for split, path in enumerate(paths):
            rows = eras.rows_of(path >= 0)
            values = as_floats(predictions[split], f"predictions[{split}]")
            if values.shape != rows.shape:
                raise ValueError(
                    f"predictions[{split}] must have shape {rows.shape}, one for each "
                    f"test row of that split; got {values.shape}."
                )
            out[rows, path[eras.codes[rows]]] = values
        return out

    @property
    def _n_splits(self):
        self._check_groups()
        return comb(self.n_groups, self.n_test_groups)

    @property
    def _more_to_train(self):
        return "Lower n_test_groups, or raise n_groups"

    def _era_paths(self, eras, y=None) -> Iterator[NDArray[np.intp]]:
        """Yield, for each split, the path of each era's prediction, or -1."""
        resolved, numbers = self._resolved(eras, y)
        self._check_numbers(numbers)
        group = self._group_of(len(numbers))
        seen = np.zeros(self.n_groups, np.intp)
        for tested in self._combinations():
            path_of_group = np.full(self.n_groups, -1)
            path_of_group[tested] = seen[tested]
            seen[tested] += 1
            path = np.full(eras.n_eras, -1)
            path[resolved] = path_of_group[group]
            yield path

    def _combinations(self):
        for tested in combinations(range(self.n_groups), self.n_test_groups):
            yield list(tested)

    def _check_groups(self):
        """Raise if no number of eras could be split with these parameters."""
        if self.n_test_groups >= self.n_groups:
            raise ValueError(
                f"n_test_groups={self.n_test_groups} must be less than "
                f"n_groups={self.n_groups}: models are trained on the other groups."
            )
        n_splits = comb(self.n_groups, self.n_test_groups)
        if n_splits > _MOST_SPLITS:
            raise ValueError(
                f"n_groups={self.n_groups} and n_test_groups={self.n_test_groups} give "
                f"{n_splits:,} splits, each with a model to fit; at most "
                f"{_MOST_SPLITS:,} are allowed. Lower n_groups, or choose "
                "n_test_groups further from n_groups / 2."
            )

    def _check_numbers(self, numbers):
        self._check_groups()
        n_eras = len(numbers)
        if self.n_groups > n_eras:
            raise ValueError(
                f"n_groups={self.n_groups} must be at most the number of resolved "
                f"eras, {n_eras}. Lower it, or take more eras."
            )

    def _group_of(self, n_eras):
        """Return the group of each era."""
        size = n_eras // self.n_groups
        return np.minimum(np.arange(n_eras) // size, self.n_groups - 1)

    def _folds(self, numbers, purge):
        group = self._group_of(len(numbers))
        for tested in self._combinations():
            test = np.isin(group, tested)
            yield ~test, test
