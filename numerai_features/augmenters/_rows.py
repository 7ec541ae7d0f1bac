"""Rows with all that belongs to them, in whatever container they came."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numerai_features._eras import EraIndex
from numerai_features._validation import (
    ERA_COLUMN,
    as_floats,
    as_frame,
    check_weights,
    column_names,
    is_frame,
    row_blocks,
    validate_rows,
)
from numerai_features.augmenters._containers import (
    longer,
    longer_frame,
    longer_targets,
    with_labels,
)


class Resampled(NamedTuple):
    """The rows that came in, and the new ones behind them.

    Attributes
    ----------
    X : array or frame of shape (n_rows + n_new, n_features)
        In the container and the types that came in, a column ``era`` included.
    y : array, series or frame of shape (n_rows + n_new,) or (n_rows + n_new, n_targets)
        None if none came.
    eras : array of shape (n_rows + n_new,)
        None if none came as ``eras=``.
    sample_weight : ndarray of shape (n_rows + n_new,)
        None if none came.
    """

    X: Any
    y: Any = None
    eras: Any = None
    sample_weight: Any = None


@dataclass(frozen=True)
class NewRows:
    """Rows to be added.

    Attributes
    ----------
    source : ndarray of shape (n_new,)
        The row that each takes its era, weight, id and, unless told otherwise, its
        targets from.
    features : callable
        Gives the features of some new rows, which are told by a slice, or one of
        `blocks`: shape (n, n_features).
    y : ndarray of shape (n_new, n_targets), default=None
        Targets of their own.
    eras : ndarray of shape (n_new,), default=None
        Rows whose eras they are in, where these are not their sources'; below zero, the
        number of a new era.
    blocks : sequence of ndarray of int, default=None
        New rows that must be made together; by default as many as fit in the cache.
    """

    source: NDArray[np.intp]
    features: Callable[[Any], NDArray[Any]]
    y: NDArray[np.float64] | None = None
    eras: NDArray[np.intp] | None = None
    blocks: Sequence[NDArray[np.intp]] | None = None

    def write(self, out: NDArray[Any]) -> None:
        """Write the features to `out`, (n_new, n_features), a block at a time."""
        for rows in self.blocks or row_blocks(*out.shape):
            out[rows] = self.features(rows)


@dataclass(frozen=True)
class Rows:
    """Rows as an augmenter works on them, and as they came.

    Attributes
    ----------
    X : ndarray of shape (n_rows, n_features)
        The caller's memory wherever possible: never written to.
    y : ndarray of shape (n_rows, n_targets) or None
    eras : EraIndex or None
    """

    X: NDArray[Any]
    y: NDArray[np.float64] | None
    eras: EraIndex | None
    came: Resampled

    @classmethod
    def read(
        cls, estimator: Any, X: Any, y: Any, eras: Any, sample_weight: Any
    ) -> Rows:
        """Check what came.

        Raises
        ------
        ValueError
            If rows, targets, eras or weights are not as many, or are no numbers.
        """
        X, y, eras = as_frame(X), _known(y), _known(eras)
        array, index = validate_rows(estimator, X, eras, reset=True)
        weights = check_weights(sample_weight, len(array))
        targets = None
        if y is not None:
            targets = as_floats(y, "y")
            if targets.ndim not in (1, 2) or len(targets) != len(array):
                raise ValueError(
                    f"y must have a row for each of {len(array)} rows of X; got shape "
                    f"{targets.shape}."
                )
            if not targets.size:
                raise ValueError("y has no columns. Pass None, or targets.")
            targets = targets.reshape(len(array), -1)
        return cls(array, targets, index, Resampled(X, y, eras, weights))

    @property
    def codes(self) -> NDArray[np.integer]:
        """Number of each row's era, from 0."""
        return np.zeros(len(self.X), np.intp) if self.eras is None else self.eras.codes

    @property
    def n_eras(self) -> int:
        """Number of eras; 1 where none are known."""
        return 1 if self.eras is None else self.eras.n_eras

    def by_era(self) -> Iterator[tuple[int, NDArray[np.intp]]]:
        """Yield each era's number and rows."""
        every = np.arange(len(self.X))
        if self.eras is None:
            yield 0, every
            return
        for code, rows in self.eras.rows_by_era():
            yield code, every[rows]

    def replaced_by(self, new: NewRows) -> Any:
        """Return as many other rows in the place of these, in the container of X."""
        table = np.empty_like(self.X, order="C")
        new.write(table)
        none = np.zeros(0, np.intp)
        return self._like_frame(table, none, none)

    def append(self, new: NewRows) -> Resampled:
        """Return these rows and the new ones, written where they will lie."""
        n, n_new = len(self.X), len(new.source)
        table = np.empty((n + n_new, self.X.shape[1]), self.X.dtype)
        for rows in row_blocks(n, self.X.shape[1]):
            table[rows] = self.X[rows]
        new.write(table[n:])
        came, in_era = self.came, new.source if new.eras is None else new.eras
        weights = came.sample_weight
        return Resampled(
            self._like_frame(table, new.source, in_era),
            None if came.y is None else longer_targets(came.y, new.source, new.y),
            None if came.eras is None else self._more_eras(came.eras, in_era),
            None if weights is None else np.append(weights, weights[new.source]),
        )

    def _like_frame(
        self, table: NDArray[Any], source: NDArray[np.intp], in_era: NDArray[np.intp]
    ) -> Any:
        """Return the table in the container of X, its column of eras with it."""
        X = self.came.X
        if not is_frame(X):
            return table
        names = column_names(X)
        if ERA_COLUMN not in names:
            return longer_frame(X, table, names, source)
        frame = longer_frame(X, table, [n for n in names if n != ERA_COLUMN], source)
        eras = self._more_eras(X[ERA_COLUMN], in_era)
        place = names.index(ERA_COLUMN)
        if hasattr(frame, "loc"):
            frame.insert(place, ERA_COLUMN, eras.array)
            return frame
        if hasattr(frame, "add_column"):
            return frame.add_column(place, ERA_COLUMN, [eras])
        return frame.insert_column(place, eras)

    def _more_eras(self, values: Any, in_era: NDArray[np.intp]) -> Any:
        """Return labels with those of new rows behind, in their container."""
        new = in_era < 0
        out = longer(values, np.where(new, 0, in_era))
        if not new.any():
            return out
        assert self.eras is not None
        labels = np.array(out, dtype=object)
        labels[len(self.X) :][new] = self.eras.labels_of(in_era[new])
        return with_labels(out, labels)


def _known(values: Any) -> Any:
    """Return a frame or series as it is, and all else as an array."""
    values = as_frame(values)
    series = hasattr(values, "iloc") or hasattr(values, "to_arrow")
    if values is None or is_frame(values) or series:
        return values
    return np.asarray(values)


def rounded(
    cells: NDArray[Any], low: Any, high: Any, rng: np.random.Generator
) -> NDArray[Any]:
    """Return cells as whole numbers, at random up or down: right in the mean."""
    up = rng.random(cells.shape, np.float32)
    return np.asarray(np.clip(np.floor(cells + up), low, high))
