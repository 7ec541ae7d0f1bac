"""What an era is: the one place that turns era labels into ordered numbers.

An era is a week of the tournament. Users write it as a zero-padded string
(``"0574"``), an integer, a category or, for the live round, ``"X"``. Everything
else in the library sees integer codes (``0 .. n_eras - 1`` in era order) and the
era *numbers* behind them; distances between eras are differences of numbers,
never of list positions, so a panel of every fourth era purges rightly.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LIVE = int(np.iinfo(np.int32).max)
"""The number of the unresolved era ``"X"``: it sorts after every other."""

_NUMBERED = re.compile(r"(?:era)?\s*(-?\d+)(?:\.0+)?")
_LIVE_LABELS = frozenset({"X", "eraX"})


class EraLeakageError(ValueError):
    """Rows met that must not: an era column in a model, or eras within a purge."""


@dataclass(frozen=True, eq=False)
class EraIndex:
    """Eras of a table's rows.

    Attributes
    ----------
    codes : ndarray of shape (n_rows,), int32
        Position of each row's era in ``numbers``.
    numbers : ndarray of shape (n_eras,), int64
        Era numbers, strictly ascending; `LIVE` stands for ``"X"``.
    labels : ndarray of shape (n_eras,), object
        The labels as they were given.
    """

    codes: NDArray[np.int32]
    numbers: NDArray[np.int64]
    labels: NDArray[np.object_]

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.codes)

    @property
    def n_eras(self) -> int:
        """Number of distinct eras."""
        return len(self.numbers)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Rows of each era, of shape (n_eras,)."""
        return np.bincount(self.codes, minlength=self.n_eras)

    @property
    def row_numbers(self) -> NDArray[np.int64]:
        """The era number of each row, of shape (n_rows,)."""
        return self.numbers[self.codes]

    @property
    def resolved(self) -> NDArray[np.bool_]:
        """Which eras are not the live one, of shape (n_eras,)."""
        return np.asarray(self.numbers != LIVE)

    def contiguous(self) -> bool:
        """Whether rows are sorted by era, so that an era is a slice."""
        return bool(np.all(self.codes[1:] >= self.codes[:-1]))

    def rows_by_era(self) -> Iterator[tuple[int, slice | NDArray[np.intp]]]:
        """Yield ``(code, rows)`` in era order; a slice where the rows are sorted."""
        ends = np.cumsum(self.counts)
        if self.contiguous():
            for code, end in enumerate(ends):
                yield code, slice(int(end - self.counts[code]), int(end))
        else:
            order = np.argsort(self.codes, kind="stable")
            for code, rows in enumerate(np.split(order, ends[:-1])):
                yield code, rows

    def rows_of(self, eras: NDArray[np.bool_]) -> NDArray[np.intp]:
        """Row indices, ascending, of the eras that the mask `eras` selects."""
        return np.flatnonzero(eras[self.codes])

    def take(self, rows: Any) -> EraIndex:
        """Return the eras of a subset of rows."""
        codes = self.codes[rows]
        present = np.zeros(self.n_eras, bool)
        present[codes] = True
        new_codes = np.cumsum(present, dtype=np.int32) - 1
        return EraIndex(
            new_codes[codes].astype(np.int32),
            self.numbers[present],
            self.labels[present],
        )


def era_label(number: int) -> str:
    """Return the label that Numerai writes for an era number.

    Examples
    --------
    >>> era_label(7), era_label(LIVE)
    ('0007', 'X')
    """
    return "X" if number == LIVE else f"{number:04d}"


def encode_eras(
    eras: Any, *, n_rows: int | None = None, name: str = "eras"
) -> EraIndex:
    """Turn one era label a row into an `EraIndex`.

    Parameters
    ----------
    eras : array-like of shape (n_rows,)
        Strings (``"0001"``, ``"era1"``, ``"X"``), integers, whole floats or
        categories, as a list, numpy array, or pandas, polars or pyarrow column.
        Labels that are no numbers are ordered as they sort, and numbered by that
        order.
    n_rows : int, default=None
        How many rows the table has; another length is an error.
    name : str, default="eras"
        What the messages call the argument.

    Returns
    -------
    EraIndex

    Raises
    ------
    ValueError
        If the length is another, a label is missing, or labels that are numbers
        are mixed with labels that are not.

    Examples
    --------
    >>> index = encode_eras(["0010", "X", "0002", "0010"])
    >>> index.codes
    array([1, 2, 0, 1], dtype=int32)
    >>> index.numbers[:2]
    array([ 2, 10])
    """
    if isinstance(eras, EraIndex):
        index = eras
        _check_length(index.n_rows, n_rows, name)
        return index
    codes, labels = _factorize(eras, name)
    _check_length(len(codes), n_rows, name)
    if len(codes) and codes.min() < 0:
        first = int(np.argmax(codes < 0))
        raise ValueError(
            f"{name} has {int((codes < 0).sum())} missing labels, the first at row "
            f"{first}; every row needs an era. Drop those rows or label them."
        )
    numbers = _numbers(labels, name)
    unique, first_seen, position = np.unique(
        numbers, return_index=True, return_inverse=True
    )
    ordered = np.arange(len(unique))
    if not (len(position) == len(unique) and np.array_equal(position, ordered)):
        codes = position.astype(np.int32)[codes]
    return EraIndex(codes.astype(np.int32, copy=False), unique, labels[first_seen])


def _check_length(got: int, expected: int | None, name: str) -> None:
    if expected is not None and got != expected:
        raise ValueError(
            f"{name} has {got} labels, but X has {expected} rows; pass one era label "
            "for each row."
        )


def _factorize(eras: Any, name: str) -> tuple[NDArray[np.int32], NDArray[np.object_]]:
    """Return codes in order of first appearance (-1 for missing) and their labels."""
    import pandas as pd

    if hasattr(eras, "to_arrow"):  # polars
        eras = eras.to_arrow()
    if hasattr(eras, "dictionary_encode"):  # pyarrow
        eras = eras.to_pandas()
    if not isinstance(eras, pd.Series | pd.Index | pd.Categorical):
        eras = np.asarray(eras)
        if eras.ndim == 2 and eras.shape[1] == 1:
            eras = eras[:, 0]
        if eras.ndim != 1:
            raise ValueError(
                f"{name} must be one-dimensional, one label a row; got an array of "
                f"shape {eras.shape}."
            )
        if eras.dtype.kind == "f" and not np.isnan(eras).any():
            whole = np.floor(eras) == eras
            if not whole.all():
                raise ValueError(
                    f"{name} must be whole numbers or labels; got "
                    f"{eras[~whole][0]!r}. Pass the era column of the data."
                )
        if eras.dtype.kind in "iuU":
            return _factorize_runs(eras)
    codes, labels = pd.factorize(eras)
    return codes.astype(np.int32), np.asarray(labels, dtype=object)


def _factorize_runs(
    eras: NDArray[Any],
) -> tuple[NDArray[np.int32], NDArray[np.object_]]:
    """Factorize labels; rows of an era mostly lie together, so look at runs only."""
    import pandas as pd

    starts = np.flatnonzero(eras[1:] != eras[:-1]) + 1
    starts = np.concatenate([[0], starts]) if len(eras) else starts
    codes, labels = pd.factorize(eras[starts])
    lengths = np.diff(np.append(starts, len(eras)))
    return np.repeat(codes.astype(np.int32), lengths), np.asarray(labels, object)


def _numbers(labels: NDArray[np.object_], name: str) -> NDArray[np.int64]:
    """Return each label's era number."""
    numbers = [_number(label) for label in labels]
    named = [n is None for n in numbers]
    if not any(named):
        return np.array(numbers, dtype=np.int64)
    others = [
        label
        for label, n in zip(labels, numbers, strict=True)
        if n is not None and n != LIVE
    ]
    if others:
        raise ValueError(
            f"{name} mixes labels that are numbers ({others[0]!r}) with labels that "
            f"are not ({labels[named.index(True)]!r}); use one kind."
        )
    texts = np.array([str(label) for label in labels])
    ranks = np.full(len(labels), LIVE, np.int64)
    ranks[named] = np.argsort(np.argsort(texts[named], kind="stable"))
    return ranks


def _number(label: Any) -> int | None:
    if isinstance(label, int | np.integer | float | np.floating):
        return int(label)
    text = str(label).strip()
    if text in _LIVE_LABELS:
        return LIVE
    match = _NUMBERED.fullmatch(text)
    return int(match.group(1)) if match else None
