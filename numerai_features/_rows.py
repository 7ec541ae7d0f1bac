"""A table with the targets, eras and weights of its rows.

Augmenters, embedders and cross-validation need the same checks: there are as many
targets, eras and weights as rows, and they are numeric. `Rows.read` makes these checks
once, so that code that gets a `Rows` need not repeat them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._eras import EraIndex
from numerai_features._validation import (
    as_floats,
    as_frame,
    check_same_rows,
    check_size,
    check_spread,
    check_weights,
    count_rows,
    is_frame,
    spells_era,
    take_rows,
    target_names,
    validate_rows,
)


@dataclass(frozen=True, eq=False)
class Rows:
    """Features, and the targets, eras and weights of their rows.

    Attributes
    ----------
    X : ndarray of shape (n_rows, n_features)
        The caller's memory if possible: never write into it. Code that only passes rows
        on, such as cross-validation, may keep the caller's frame instead.
    y : ndarray of shape (n_rows, n_targets), float64, or None
        Targets, always two-dimensional; NaN where unknown.
    eras : EraIndex or None
        None if none were given. Group rows by `era_index`, which always exists.
    weights : ndarray of shape (n_rows,), float64, or None
        None if none were given: all rows weigh the same.
    target_names : list of str or None
        Names of the targets, if they have any.
    feature_names : ndarray of shape (n_features,) or None
        Names of the columns, if they have any.
    benchmark : ndarray of shape (n_rows,), float64, or None
        A benchmark's predictions, NaN where unknown; only what learns beside one has
        them.
    """

    X: Any
    y: NDArray[np.float64] | None = None
    eras: EraIndex | None = None
    weights: NDArray[np.float64] | None = None
    target_names: list[str] | None = None
    feature_names: NDArray[np.object_] | None = None
    benchmark: NDArray[np.float64] | None = None

    @classmethod
    def read(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        eras: Any = None,
        sample_weight: Any = None,
        *,
        reset: bool = True,
        min_rows: int = 1,
    ) -> Rows:
        """Check the rows that an estimator was given.

        Parameters
        ----------
        estimator : estimator
            Its ``feature_names_in_`` and ``n_features_in_`` are set or checked.
        X : array-like or frame of shape (n_rows, n_features)
            Finite numbers or NaN; a frame's column ``era`` is removed.
        y : array-like of shape (n_rows,) or (n_rows, n_targets), default=None
            Targets: finite numbers, or NaN.
        eras : array-like of shape (n_rows,), default=None
            Era labels; they override the column.
        sample_weight : array-like of shape (n_rows,), default=None
            Not negative, and not all of them zero.
        reset : bool, default=True
            True in ``fit``, False in ``transform``.
        min_rows : int, default=1
            Smallest number of rows allowed.

        Returns
        -------
        Rows

        Raises
        ------
        ValueError
            If rows, targets, eras or weights differ in number or ids, or are not
            numeric.
        """
        table, index = validate_rows(estimator, X, eras, reset=reset, min_rows=min_rows)
        check_same_rows(X=X, y=y, eras=eras, sample_weight=sample_weight)
        weights = check_weights(sample_weight, len(table))
        targets = _read_targets(y, len(table))
        names = getattr(estimator, "feature_names_in_", None)
        return cls(table, targets, index, weights, target_names(y), names)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return count_rows(self.X)

    @cached_property
    def era_index(self) -> EraIndex:
        """The eras; a single era that contains all rows if none were given."""
        return EraIndex.single(self.n_rows) if self.eras is None else self.eras

    @property
    def codes(self) -> NDArray[np.int32]:
        """Each row's era, counted from 0 in era order, of shape (n_rows,)."""
        return self.era_index.codes

    @property
    def n_eras(self) -> int:
        """Number of eras; 1 if none were given."""
        return self.era_index.n_eras

    @property
    def era_labels(self) -> NDArray[Any] | None:
        """Each row's label as given, for inner estimators; None without eras."""
        return None if self.eras is None else self.eras.row_labels

    @property
    def groups(self) -> NDArray[Any] | None:
        """Each row's era for a splitter: its number, or its name if eras are names."""
        if self.eras is None or self.eras.named:
            return self.era_labels
        return self.eras.row_numbers

    @property
    def counted(self) -> NDArray[np.bool_]:
        """Mask of the rows with a weight above zero, of shape (n_rows,)."""
        return np.ones(self.n_rows, bool) if self.weights is None else self.weights > 0

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Mask of the rows with a known target, of shape (n_rows,); False without y."""
        if self.y is None:
            return np.zeros(self.n_rows, bool)
        return np.asarray(~np.isnan(self.y).all(axis=1))

    def by_era(self) -> Iterator[tuple[int, NDArray[np.intp]]]:
        """Yield the code of each era and the indices of its rows.

        ``era_index.rows_by_era()`` yields slices instead if rows are sorted by era.
        """
        every = np.arange(self.n_rows)
        for code, rows in self.era_index.rows_by_era():
            yield code, every[rows]

    def take(self, rows: slice | NDArray[np.intp]) -> Rows:
        """Return some of the rows, in the order of `rows`; a slice of X is a view."""
        return Rows(
            take_rows(self.X, rows),
            None if self.y is None else self.y[rows],
            None if self.eras is None else self.eras.take(rows),
            None if self.weights is None else self.weights[rows],
            self.target_names,
            self.feature_names,
            None if self.benchmark is None else self.benchmark[rows],
        )


def _read_targets(y: Any, n_rows: int) -> NDArray[np.float64] | None:
    """Return targets as columns of float64, None if there are none."""
    if y is None:
        return None
    names = (target_names(y) or ()) if is_frame(as_frame(y, "y")) else ()
    for name in filter(spells_era, names):
        raise ValueError(
            f"y has a column {name!r}, which is not a target. Drop it, and pass eras=."
        )
    targets = as_floats(y, "y")
    if targets.ndim not in (1, 2) or len(targets) != n_rows:
        raise ValueError(
            f"y must have a row for each of {n_rows} rows of X, shape ({n_rows},) or "
            f"({n_rows}, n_targets); got shape {targets.shape}."
        )
    if not targets.size:
        raise ValueError("y has no columns. Pass y=None, or a y with targets.")
    targets = targets.reshape(n_rows, -1)
    infinite = np.isinf(targets).any(axis=1)
    if infinite.any():
        raise ValueError(
            f"y contains infinity, first in row {int(infinite.argmax())}. Set unknown "
            "targets to NaN, or drop such rows."
        )
    check_size(targets, "y")
    check_spread(targets, "y")
    return targets
