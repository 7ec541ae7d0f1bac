"""Sequences of rows: reading them from the forms in which they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from numerai_features._blocks import row_blocks
from numerai_features._eras import encode_eras
from numerai_features._rows import Rows
from numerai_features._validation import (
    as_floats,
    check_same_rows,
    check_weights,
    known_numbers,
    validate_rows,
)

Restore = Callable[[NDArray[Any]], Any]


@dataclass(frozen=True, eq=False)
class Sequences(Rows):
    """Rows whose unit is a sequence; X holds the steps, one sequence after another.

    Attributes
    ----------
    starts : ndarray of shape (n_sequences + 1,), int
        The first step of each sequence in X, and the number of steps.
    as_came : callable
        Returns a table with a row a step, such as X, in the form that came.
    fitted_eras : ndarray of int or None
        Numbers of the eras of all steps of sequences of weight; `eras` has one for each
        sequence, its last step's.
    """

    starts: NDArray[np.intp] = field(default_factory=lambda: np.zeros(1, np.intp))
    as_came: Restore = lambda steps: steps
    fitted_eras: NDArray[np.int64] | None = None

    @property
    def n_rows(self) -> int:
        """Number of sequences, which count as the rows of what is fitted."""
        return len(self.starts) - 1

    @property
    def lengths(self) -> NDArray[np.intp]:
        """Number of steps of each sequence."""
        return np.diff(self.starts)

    def steps_of(self, sequences: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the ascending indices of the steps of some sequences."""
        chosen = np.zeros(self.n_rows, bool)
        chosen[sequences] = True
        return np.flatnonzero(np.repeat(chosen, self.lengths))

    def by_length(
        self, n_cells: int = 1
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Yield blocks of sequences of one length, and their steps, (n, length).

        Parameters
        ----------
        n_cells : int, default=1
            Number of cells that are made of a step.
        """
        for length in np.unique(self.lengths):
            mine = np.flatnonzero(self.lengths == length)
            for block in row_blocks(len(mine), int(length) * n_cells):
                own = mine[block]
                yield own, self.starts[own][:, None] + np.arange(length)


def read_sequences(
    estimator: Any,
    X: Any,
    *,
    eras: Any = None,
    groups: Any = None,
    order: Any = None,
    sample_weight: Any = None,
    reset: bool = True,
    fewest: int = 1,
) -> Sequences:
    """Check the sequences that an estimator was given.

    Parameters
    ----------
    estimator : estimator
        Its ``feature_names_in_`` and ``n_features_in_`` are set or checked.
    X, eras, groups, order, sample_weight
        As documented by `SequenceDAE`.
    reset : bool, default=True
        True in ``fit``, False in ``transform``.
    fewest : int, default=1
        Smallest number of sequences allowed.
    """
    read: Any = None
    if len(getattr(X, "shape", ())) == 3:
        read = _read_array
    elif isinstance(X, list | tuple) and len(X) and _n_dimensions(X[0]) == 2:
        read = _read_list
    if read is not None:
        for name, given in {"groups": groups, "order": order}.items():
            if given is not None:
                raise ValueError(
                    f"{name} is for rows, X of shape (n_rows, n_features); got X that "
                    f"is cut into sequences already. Leave {name} out."
                )
        found, starts, as_came = read(estimator, X, reset)
        n = len(starts) - 1
        by_row = ends = None if eras is None else encode_eras(eras, n_rows=n)
        weights = check_weights(sample_weight, n)
        counted = None if weights is None else weights > 0
    else:
        check_same_rows(
            X=X, eras=eras, groups=groups, order=order, sample_weight=sample_weight
        )
        table, by_row = validate_rows(estimator, X, eras, reset=reset, min_rows=fewest)
        weights, counted = check_weights(sample_weight, len(table)), None
        place, starts = _sorted_into_groups(groups, order, len(table))
        found = table if groups is None else table[place]
        ends = None if by_row is None else by_row.take(place[starts[1:] - 1])
        if weights is not None:
            lengths = np.diff(starts)
            weights = np.add.reduceat(weights[place], starts[:-1]) / lengths
            counted = np.empty(len(place), bool)
            counted[place] = np.repeat(weights > 0, lengths)

        def as_came(steps: NDArray[Any]) -> NDArray[Any]:
            out = np.empty_like(steps)
            out[place] = steps
            return out

    if len(starts) - 1 < fewest:
        raise ValueError(
            f"X has {len(starts) - 1} sequence (n_samples={len(starts) - 1}); expected "
            f"{fewest} or more to learn from. Pass more, or other groups."
        )
    fitted = None
    if by_row is not None:
        used = by_row if counted is None else by_row.take(np.flatnonzero(counted))
        fitted = known_numbers(used)
    names = getattr(estimator, "feature_names_in_", None)
    return Sequences(
        found, None, ends, weights, None, names, None, starts, as_came, fitted
    )


def _read_array(
    estimator: Any, X: Any, reset: bool
) -> tuple[NDArray[Any], NDArray[np.intp], Restore]:
    """Return the steps of (n_sequences, n_steps, n_features), less absent ones."""
    X = np.asarray(X)
    n, n_steps, n_features = shape = X.shape
    flat, _ = validate_rows(
        estimator, X.reshape(n * n_steps, n_features), None, reset=reset
    )
    lengths = np.full(n, n_steps)
    if flat.dtype.kind == "f":
        known = ~np.isnan(flat).all(axis=1).reshape(n, n_steps)
        if not known.any(axis=1).all():
            raise ValueError(
                f"X: sequence {int(known.any(axis=1).argmin())} has no step, all its "
                "cells are NaN. Leave it out."
            )
        lengths = n_steps - known[:, ::-1].argmax(axis=1)
    present = (np.arange(n_steps) < lengths[:, None]).reshape(-1)

    def as_came(steps: NDArray[Any]) -> NDArray[Any]:
        if present.all():
            return steps.reshape(shape)
        out = np.full((len(present), n_features), np.nan, steps.dtype)
        out[present] = steps
        return out.reshape(shape)

    return flat if present.all() else flat[present], _starts(lengths), as_came


def _read_list(
    estimator: Any, X: Any, reset: bool
) -> tuple[NDArray[Any], NDArray[np.intp], Restore]:
    """Return the steps of a list of tables, one for each sequence."""
    tables = []
    for i, own in enumerate(X):
        if _n_dimensions(own) != 2 or not len(own):
            raise ValueError(
                f"X[{i}] must be a table (n_steps, n_features) with a step at least, "
                f"as X[0] is; got shape {np.shape(own)}. Leave empty sequences out."
            )
        tables.append(validate_rows(estimator, own, None, reset=reset and not i)[0])
    starts = _starts(np.array([len(table) for table in tables]))

    def as_came(steps: NDArray[Any]) -> list[NDArray[Any]]:
        return np.split(steps, starts[1:-1])

    return np.concatenate(tables), starts, as_came


def _sorted_into_groups(
    groups: Any, order: Any, n_rows: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows in the order of groups and steps, and the groups' starts."""
    every = np.arange(n_rows)
    if groups is None:
        if order is not None:
            raise ValueError(
                "order needs groups, the label of each row's sequence; without groups "
                "each row is a sequence of one step. Pass groups=, or leave order out."
            )
        return every, np.arange(n_rows + 1)
    # numpy would make text of a list of labels of several types: 1 would be "1".
    mixed = isinstance(groups, list | tuple) and len({type(g) for g in groups}) > 1
    labels = np.asarray(groups, object if mixed else None)
    if labels.shape != (n_rows,):
        raise ValueError(
            f"groups must have shape ({n_rows},), the label of each row's sequence; "
            f"got {labels.shape}."
        )
    codes, _ = pd.factorize(labels)
    if (codes < 0).any():
        raise ValueError(
            f"groups is missing in row {int((codes < 0).argmax())}. Label each row, or "
            "drop it."
        )
    if order is None:
        place = np.argsort(codes, kind="stable")
    else:
        steps = as_floats(order, "order")
        if steps.shape != (n_rows,) or not np.isfinite(steps).all():
            raise ValueError(
                f"order must be numbers of shape ({n_rows},), one a row; got shape "
                f"{steps.shape}, {int((~np.isfinite(steps)).sum())} of them missing or "
                "infinite."
            )
        place = np.lexsort((steps, codes))
        same = (np.diff(steps[place]) == 0) & (np.diff(codes[place]) == 0)
        if same.any():
            i, j = place[same.argmax()], place[same.argmax() + 1]
            raise ValueError(
                f"order is {steps[i]:g} in rows {i} and {j}, of one sequence "
                f"({labels[i]!r}): which step comes first is not known. Number the "
                "steps of a sequence."
            )
    return place, _starts(np.bincount(codes))


def _starts(lengths: NDArray[np.integer]) -> NDArray[np.intp]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.intp)


def _n_dimensions(x: Any) -> int:
    shape = getattr(x, "shape", None)
    try:
        return np.ndim(x) if shape is None else len(shape)
    except ValueError:  # lists of different lengths
        return -1
