"""Base classes of the era splitters: rows, eras, purge and embargo."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from numerai_features._arguments import Whole
from numerai_features._compat import StrOptions
from numerai_features._eras import EraIndex, encode_eras, near_eras
from numerai_features._horizon import resolve_purge
from numerai_features._validation import (
    check_same_rows,
    count_rows,
    find_eras,
    require_numbers,
)

Mask = NDArray[np.bool_]
_FAR = np.iinfo(np.int64).max // 2


class EraFold(NamedTuple):
    """One fold, as masks over the eras of an `EraIndex`."""

    train: Mask
    test: Mask
    purged: Mask
    """Eras that the scheme would train on, and the purge removes."""
    embargoed: Mask
    """Eras that the scheme would train on, the purge keeps, and the embargo removes."""


class BaseEraSplitter(BaseEstimator):
    """Base class of the era splitters, which turns folds of eras into folds of rows.

    A subclass defines in `_folds` which eras each fold tests and which eras it may
    train on. This class removes the training eras that the purge and the embargo
    forbid. Think twice before adding anything else here.
    """

    __metadata_request__split = {"groups": True}

    _parameter_constraints: dict[str, list[Any]] = {
        "purge": [Whole(0), StrOptions({"auto"})],
        "embargo": [Whole(0)],
        "target": [str, None],
    }

    @abstractmethod
    def _folds(
        self, numbers: NDArray[np.int64], purge: int
    ) -> Iterator[tuple[Mask, Mask]]:
        """Yield two masks over the resolved eras for each fold: may train, and test."""

    def split(self, X, y=None, groups=None):
        """Yield the rows of each fold.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            If `groups` is None, a frame's column ``era`` gives the eras.
        y : array-like of shape (n_rows,), default=None
            The target. With ``purge="auto"`` its name can give the purge. An era whose
            targets are all NaN is not resolved yet.
        groups : array-like of shape (n_rows,), default=None
            Era labels. Rows of ``"X"`` (live) and of eras that are not resolved are
            in no fold.

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
        eras = self._eras(X, groups, y)
        for fold in self._era_folds(eras, y):
            yield eras.rows_of(fold.train), eras.rows_of(fold.test)

    def split_eras(self, eras, y=None):
        """Yield the era numbers of each fold.

        Parameters
        ----------
        eras : array-like
            Era labels: one for each row, or each era once.
        y : array-like, default=None
            As in `split`, with one value for each label in `eras`.

        Yields
        ------
        train, test : ndarray of int
            Era numbers, ascending.
        """
        check_same_rows(eras=eras, y=y)
        index = require_numbers(encode_eras(eras))
        for fold in self._era_folds(index, y):
            yield index.numbers[fold.train], index.numbers[fold.test]

    @property
    def _needs_order(self) -> bool:
        """Whether the folds depend on the order of the eras.

        If not, eras may be names without numbers: any blocks of such eras will do.
        """
        return False

    @property
    def _more_to_train(self) -> str:
        """Advice in error messages on how to keep more training eras."""
        return "Test fewer eras at once"

    @property
    def _draws_anew(self) -> bool:
        """Whether each call of `split` draws different folds."""
        return False

    def _check_numbers(self, numbers: NDArray[np.int64]) -> None:
        """Raise if there are too few resolved eras for any random draw."""

    def _check_names(self, eras: EraIndex, purge: int) -> None:
        """Raise if eras are names, and the splitter needs their order or distances."""
        if self._needs_order:
            require_numbers(eras, "groups")
        elif eras.named and (purge or self.embargo):
            raise ValueError(
                f"{type(self).__name__} leaves out eras near its test eras (purge="
                f"{purge}, embargo={self.embargo}), but groups are names without "
                f"numbers, such as {eras.labels[0]!r}. Number the eras by week, write "
                "dates as '2020-01-03', or set purge and embargo to 0 if targets do "
                "not overlap."
            )

    def _purge(self, y) -> int:
        return resolve_purge(self.purge, target=self.target, y=y)

    def _era_folds(self, eras: EraIndex, y) -> Iterator[EraFold]:
        resolved, numbers = self._resolved(eras, y)
        purge = self._purge(y)
        self._check_names(eras, purge)
        self._check_numbers(numbers)
        for i, (train, test) in enumerate(self._folds(numbers, purge)):
            purged, embargoed = _forbidden(numbers, test, purge, self.embargo)
            fold = EraFold(
                train & ~purged & ~embargoed,
                test,
                train & purged & ~test,
                train & embargoed & ~purged,
            )
            if not fold.train.any():
                first = eras.labels[resolved][test][0]
                raise ValueError(
                    f"Fold {i} (test from era {first}) has no training era left after "
                    f"a purge of {purge} and an embargo of {self.embargo} eras; the "
                    f"data have {len(numbers)} eras. {self._more_to_train}, or take "
                    "more eras or a smaller purge (purge=0 for targets that do not "
                    "overlap)."
                )
            yield EraFold(*(_over_all(mask, resolved) for mask in fold))

    def _resolved(self, eras: EraIndex, y) -> tuple[Mask, NDArray[np.int64]]:
        """Return which eras can be in a fold, and their numbers."""
        self._validate_params()
        resolved = resolved_eras(eras, y)
        numbers = eras.numbers[resolved]
        if len(numbers) < 2:
            raise ValueError(
                f"{type(self).__name__} needs at least two resolved eras; got "
                f"{len(numbers)}. Pass all training eras as groups=."
            )
        return resolved, numbers

    def _eras(self, X, groups, y) -> EraIndex:
        check_same_rows(X=X, groups=groups, y=y)
        groups = find_eras(X, groups)
        if groups is None:
            raise ValueError(
                f"{type(self).__name__} splits by era, but got none. Pass "
                "groups=eras (cross_val_score, GridSearchCV.fit), or a frame with the "
                "column 'era'."
            )
        n_rows = None if X is None else count_rows(X)
        return encode_eras(groups, n_rows=n_rows, name="groups")


class FixedCountSplitter(BaseEraSplitter):
    """Base class of splitters whose parameters alone set the number of folds."""

    @property
    @abstractmethod
    def _n_splits(self) -> int:
        """Number of folds."""

    def get_n_splits(self, X=None, y=None, groups=None):
        """Return the number of folds.

        Parameters
        ----------
        X, y, groups
            As in `split`. If they contain eras, this method raises the errors that
            `split` would raise; otherwise it checks only the parameters. With
            ``random_state=None`` each call of `split` draws new folds, so this method
            cannot check whether the purge leaves training eras.

        Returns
        -------
        int
        """
        self._validate_params()
        n_splits = self._n_splits
        if find_eras(X, groups) is not None:
            self._check_possible(self._eras(X, groups, y), y)
        return n_splits

    def _check_possible(self, eras: EraIndex, y: Any) -> None:
        """Raise the errors of `split`, without advancing the caller's generator."""
        if self._draws_anew:
            _, numbers = self._resolved(eras, y)
            self._check_names(eras, self._purge(y))
            self._check_numbers(numbers)
            return
        for _ in deepcopy(self)._era_folds(eras, y):
            pass


def resolved_eras(eras: EraIndex, y: Any = None) -> Mask:
    """Return which eras can be in a fold: not live, and with a known target.

    Parameters
    ----------
    eras : EraIndex
    y : array-like of shape (n_rows,) or (n_rows, n_targets), default=None
        An era whose targets are all NaN is not resolved.

    Returns
    -------
    ndarray of shape (n_eras,), bool
    """
    if y is None:
        return eras.resolved
    n_rows = count_rows(y, "y")
    if n_rows != eras.n_rows:
        raise ValueError(
            f"y has {n_rows} values, but there are {eras.n_rows} era labels; "
            "pass one value and one label for each row."
        )
    unknown = _missing(y)
    if not unknown.any():
        return eras.resolved
    known = np.bincount(eras.codes[~unknown], minlength=eras.n_eras) > 0
    return np.asarray(eras.resolved & known)


def _missing(y: Any) -> Mask:
    """Return which rows have no target at all."""
    import pandas as pd

    values = y if hasattr(y, "iloc") else np.asarray(y)
    gaps = np.asarray(pd.isna(values)).reshape(len(values), -1)
    return np.asarray(gaps.all(axis=1))


def _forbidden(
    numbers: NDArray[np.int64], test: Mask, purge: int, embargo: int
) -> tuple[Mask, Mask]:
    """Return masks of the eras within a test era's purge, and within its embargo."""
    tested = numbers[test]
    after = np.searchsorted(tested, numbers)
    since = numbers - np.insert(tested, 0, -_FAR)[after]
    purged = near_eras(numbers, tested, purge + 1)
    return purged, np.asarray(since <= purge + embargo)


def _over_all(mask: Mask, resolved: Mask) -> Mask:
    """Expand a mask over the resolved eras to all eras."""
    if len(mask) == len(resolved):
        return mask
    out = np.zeros(len(resolved), bool)
    out[resolved] = mask
    return out
