"""New rows, and how they are appended to the given rows, in their containers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from narwhals.stable.v2.dependencies import is_into_series
from numpy.typing import NDArray

from numerai_features._blocks import row_blocks
from numerai_features._rows import Rows
from numerai_features._validation import as_frame, find_eras, is_frame
from numerai_features.augmenters._containers import (
    append_rows,
    append_targets,
    frame_like,
    is_arrow_array,
    labels_like,
    with_ids,
)


class Resampled(NamedTuple):
    """The given rows, followed by the new rows.

    Attributes
    ----------
    X : array or frame of shape (n_rows + n_new, n_features)
        In the container and types of the given X, with its column ``era`` if any.
    y : array, series or frame of shape (n_rows + n_new,) or (n_rows + n_new, n_targets)
        None if not passed.
    eras : array of shape (n_rows + n_new,)
        None if not passed as ``eras=``.
    sample_weight : ndarray of shape (n_rows + n_new,)
        None if not passed.
    """

    X: Any
    y: Any = None
    eras: Any = None
    sample_weight: Any = None


@dataclass(frozen=True)
class NewRows:
    """Rows to add.

    Attributes
    ----------
    source : ndarray of shape (n_new,)
        The row from which each new row takes its weight and id, and, unless `eras` or
        `y` is given, its era and targets.
    features : callable
        Function that takes a slice of the new rows, or an item of `blocks`, and returns
        their features, of shape (n, n_features).
    y : ndarray of shape (n_new, n_targets), default=None
        Targets of the new rows. By default, they follow the rows that the new rows are
        made from; see `follow`.
    eras : ndarray of shape (n_new,), default=None
        The row from which each new row takes its era; `source` by default.
    new_eras : ndarray of shape (n_new,), default=None
        Numbers of new eras, for new rows that are in one. They are negative, as new
        eras come before all others; 0 means no new era. By default there is none.
    blocks : sequence of ndarray of int, default=None
        Groups of new rows whose features must be computed together; by default groups
        that fit in the cache.
    mixed_with : ndarray of shape (n_new,), default=None
        The second row of new rows that are averages of two rows, `source` and this one.
    shares : ndarray of shape (n_new,), default=None
        The weights of `source` in these averages.
    """

    source: NDArray[np.intp]
    features: Callable[[Any], NDArray[Any]]
    y: NDArray[np.float64] | None = None
    eras: NDArray[np.intp] | None = None
    new_eras: NDArray[np.int64] | None = None
    blocks: Sequence[NDArray[np.intp]] | None = None
    mixed_with: NDArray[np.intp] | None = None
    shares: NDArray[np.float64] | None = None

    def follow(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return values of the given rows for the new rows that are made from them.

        Parameters
        ----------
        values : ndarray of shape (n_rows, ...)
            A column or several. An average of two rows has the average of their values,
            which is NaN if one of them is.
        """
        first = values[self.source]
        if self.mixed_with is None or self.shares is None:
            return first
        second = values[self.mixed_with]
        shares = self.shares.reshape(-1, *[1] * (values.ndim - 1))
        return np.asarray(second + shares * (first - second))

    def write(self, out: NDArray[Any]) -> None:
        """Write the features to `out`, of shape (n_new, n_features), block by block."""
        for rows in self.blocks or row_blocks(*out.shape):
            out[rows] = self.features(rows)


@dataclass(frozen=True)
class CallersRows:
    """The rows as an augmenter uses them, and their original containers.

    Attributes
    ----------
    rows : Rows
        The checked rows.
    came : Resampled
        ``X, y, eras, sample_weight`` in the caller's containers.
    """

    rows: Rows
    came: Resampled

    @classmethod
    def read(
        cls, estimator: Any, X: Any, y: Any, eras: Any, sample_weight: Any
    ) -> CallersRows:
        """Check the arguments, as `Rows.read` does, and keep their containers."""
        X, y = as_frame(X), _in_container(y, "y")
        eras = _in_container(eras, "eras")
        rows = Rows.read(estimator, X, y, eras, sample_weight)
        return cls(rows, Resampled(X, y, eras, rows.weights))

    def replaced_by(self, new: NewRows) -> Any:
        """Return rows that replace these, in the container of X."""
        table = np.empty_like(self.rows.X, order="C")
        new.write(table)
        nothing = NewRows(np.zeros(0, np.intp), new.features)
        return self._like_frame(table, nothing)

    def append(self, new: NewRows) -> Resampled:
        """Return these rows and the new ones, which are written in place."""
        X, n, n_new = self.rows.X, self.rows.n_rows, len(new.source)
        table = np.empty((n + n_new, X.shape[1]), X.dtype)
        for rows in row_blocks(*X.shape):
            table[rows] = X[rows]
        new.write(table[n:])
        came = self.came
        weights = came.sample_weight
        eras = None if came.eras is None else self._append_eras(came.eras, new)
        return Resampled(
            self._like_frame(table, new),
            None if came.y is None else append_targets(came.y, new.source, new.y),
            None if eras is None else with_ids(eras, came.eras, new.source),
            None if weights is None else np.append(weights, weights[new.source]),
        )

    def _like_frame(self, table: NDArray[Any], new: NewRows) -> Any:
        """Return the table in the container of X, with its column of eras."""
        X = self.came.X
        if not is_frame(X):
            return table
        eras = find_eras(X)
        if eras is not None:
            eras = self._append_eras(eras, new)
        return frame_like(X, table, eras, new.source)

    def _append_eras(self, values: Any, new: NewRows) -> Any:
        """Return labels, followed by those of new rows, in their container."""
        out = append_rows(values, new.source if new.eras is None else new.eras)
        if new.new_eras is None or not new.new_eras.any():
            return out
        assert self.rows.eras is not None
        labels = np.array(out, dtype=object)
        own = new.new_eras != 0
        numbers = new.new_eras[own]
        labels[self.rows.n_rows :][own] = self.rows.eras.labels_of(numbers)
        return labels_like(out, labels)


def _in_container(values: Any, name: str) -> Any:
    """Return a frame or series unchanged, and anything else as an array."""
    values = as_frame(values, name)
    known = values is None or is_frame(values) or is_into_series(values)
    if known or is_arrow_array(values):
        return values
    return np.asarray(values)


def round_at_random(
    cells: NDArray[Any], low: Any, high: Any, rng: np.random.Generator
) -> NDArray[Any]:
    """Round cells up or down at random, so that their mean stays right."""
    up = rng.random(cells.shape, np.float32)
    return np.asarray(np.clip(np.floor(cells + up), low, high))
