"""Convert era labels to ordered numbers; no other module does so.

An era is a week of the tournament. Users write it as a zero-padded string
(``"0574"``), an integer, a category or, for the live round, ``"X"``. All other
modules use integer codes (``0 .. n_eras - 1`` in era order) and the era *numbers* that
the codes stand for. Distances between eras are differences of numbers, never of list
positions, so the purge is also correct for a panel of every fourth era.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

LIVE = int(np.iinfo(np.int32).max)
"""The number of the unresolved era ``"X"``; it sorts after all other eras."""

LARGEST_ERA = 9_999
"""Largest era number; larger numbers are dates, seconds or rows, not eras."""

# After a prefix a hyphen is a separator: 'era-7' is era 7. Otherwise it is a minus.
_NUMBERED = re.compile(r"([^\W\d]+\s*-?\s*(?=\d)|)(-?\d+(?:\.\d+)?)")
_DATE = re.compile(
    r"((?:19|20)\d{6}|\d{4}-\d{2}-\d{2}|\d{4}-?W\d{2}(?:-?\d)?)(?:[ T].*)?"
)
_EXACT = {"float16": 2_047, "float32": LARGEST_ERA}
"""Largest eras that short floats hold exactly: 2,048 may stand for 2,049."""

_FIRST_MONDAY = date(1970, 1, 5).toordinal()
_LIVE_LABELS = frozenset({"X", "eraX"})
_LOWER_LIVE = frozenset({"x", "erax"})
"""Also the live era, unless other labels are names; then they are names, too."""


class EraLeakageError(ValueError):
    """A model uses the era as a feature, or a fold trains on eras within the purge.

    Attributes
    ----------
    eras : ndarray of shape (n_eras,), int64
        The leaking era numbers, ascending; empty if a column leaks.
    """

    def __init__(self, message: str, eras: Any = ()) -> None:
        super().__init__(message)
        self.eras: NDArray[np.int64] = np.asarray(eras, np.int64)


class EraLeakageWarning(UserWarning):
    """A fitted embedder is scored on, or too near to, eras that it was fitted on."""


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
        The labels as given.
    named : bool
        Whether the labels are names without numbers. Then `numbers` are the ranks of
        the names among the labels of this call; another call can give other ranks.
    """

    codes: NDArray[np.int32]
    numbers: NDArray[np.int64]
    labels: NDArray[np.object_]
    named: bool = False

    @classmethod
    def single(cls, n_rows: int) -> EraIndex:
        """Return the index of rows without eras: all rows are one era, number 0.

        It lets code that works era by era run without eras. The true era is unknown, so
        number 0 must not be stored as a fitted era.
        """
        zero = np.zeros(1, np.int64)
        return cls(np.zeros(n_rows, np.int32), zero, zero.astype(object))

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.codes)

    @property
    def n_eras(self) -> int:
        """Number of distinct eras."""
        return len(self.numbers)

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Number of rows of each era, of shape (n_eras,)."""
        if self.contiguous:
            codes = np.arange(self.n_eras + 1, dtype=np.int32)
            return np.diff(np.searchsorted(self.codes, codes))
        return np.bincount(self.codes, minlength=self.n_eras)

    @property
    def row_numbers(self) -> NDArray[np.int64]:
        """The era number of each row, of shape (n_rows,)."""
        return self.numbers[self.codes]

    @property
    def row_labels(self) -> NDArray[Any]:
        """The label of each row as given, of shape (n_rows,).

        Inner estimators get these labels. They could not tell whether `row_numbers` are
        era numbers or only the ranks of names.
        """
        return _of_plain_type(self.labels)[self.codes]

    @property
    def row_keys(self) -> NDArray[Any]:
        """The public name of each row's era, of shape (n_rows,).

        It is the era number, or the label if eras are names without numbers.
        """
        return self.row_labels if self.named else self.row_numbers

    @property
    def resolved(self) -> NDArray[np.bool_]:
        """Which eras are not the live era, of shape (n_eras,)."""
        return np.asarray(self.numbers != LIVE)

    @property
    def dated(self) -> bool | None:
        """Whether the labels are dates; None if the live era is the only one."""
        known = self.labels[self.resolved]
        return _day(known[0]) is not None if len(known) else None

    @cached_property
    def _places(self) -> NDArray[np.intp]:
        # numpy would convert the codes to this type again for every mask
        return self.codes.astype(np.intp)

    @cached_property
    def contiguous(self) -> bool:
        """Whether rows are sorted by era, so that an era is a slice."""
        return bool(np.all(self.codes[1:] >= self.codes[:-1]))

    def rows_by_era(self) -> Iterator[tuple[int, slice | NDArray[np.intp]]]:
        """Yield ``(code, rows)`` in era order; rows are slices if sorted by era."""
        ends = np.cumsum(self.counts)
        if self.contiguous:
            for code, end in enumerate(ends):
                yield code, slice(int(end - self.counts[code]), int(end))
        else:
            order = np.argsort(self.codes, kind="stable")
            for code, rows in enumerate(np.split(order, ends[:-1])):
                yield code, rows

    def take(self, rows: slice | NDArray[np.intp]) -> EraIndex:
        """Return the eras of some of the rows, in the order of `rows`."""
        eras, codes = np.unique(self.codes[rows], return_inverse=True)
        codes32: NDArray[np.int32] = codes.astype(np.int32)
        return EraIndex(codes32, self.numbers[eras], self.labels[eras], self.named)

    def labels_of(self, numbers: NDArray[np.integer]) -> NDArray[np.object_]:
        """Return the labels of other era numbers, in the style of these labels.

        Parameters
        ----------
        numbers : ndarray of int

        Returns
        -------
        ndarray of object, of the shape of `numbers`

        Raises
        ------
        ValueError
            If the labels are dates, or names without numbers.
        """
        known = self.labels[self.resolved]
        like: Any = known[0] if len(known) else "0001"
        text = like.strip() if isinstance(like, str) else ""
        match = _NUMBERED.fullmatch(text)
        if self.named or isinstance(like, bytes) or _day(like) is not None:
            raise ValueError(
                f"New eras need labels with numbers; got {like!r}. Number the eras."
            )
        unique, place = np.unique(numbers, return_inverse=True)
        if match is None:
            return np.array([type(like)(n) for n in unique], object)[place]
        prefix, width = match.group(1), len(match.group(2))
        texts = [f"{prefix}{n:0{width}d}" for n in unique]
        return np.array(texts, object)[place]

    def rows_of(self, eras: NDArray[np.bool_]) -> NDArray[np.intp]:
        """Return ascending row indices of the eras that the mask `eras` selects."""
        if not self.contiguous:
            return np.flatnonzero(eras.take(self._places))
        bounds = np.concatenate([[0], np.cumsum(self.counts)])
        runs = bounds[np.flatnonzero(np.diff(eras, prepend=False, append=False))]
        starts, stops = runs[::2], runs[1::2]
        ends = np.cumsum(stops - starts)
        if not len(ends):
            return np.empty(0, np.intp)
        out = np.arange(starts[0], starts[0] + ends[-1])
        for i in range(1, len(ends)):  # each run of eras begins after a gap
            out[ends[i - 1] : ends[i]] += stops[i] - ends[i] - starts[0]
        return out


def _of_plain_type(labels: NDArray[np.object_]) -> NDArray[Any]:
    """Convert labels of one type, text or numbers, to an array of that type.

    Labels of mixed types stay objects: numpy would convert the numbers to text.
    """
    kinds = {type(label) for label in labels}
    plain = kinds in ({str}, {int}, {float})
    return np.array(labels.tolist()) if plain else labels


def era_label(number: int) -> str:
    """Return the label that Numerai writes for an era number.

    Examples
    --------
    >>> era_label(7), era_label(LIVE)
    ('0007', 'X')
    """
    return "X" if number == LIVE else f"{number:04d}"


def era_number(label: Any, like: EraIndex, name: str) -> int:
    """Return the number of a single label, which must be of the same kind as others.

    Parameters
    ----------
    label : label of an era
    like : EraIndex
        The other labels, which have numbers, and at least one resolved era.
    name : str
        Name of the argument in the error message.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If the label is that of the live era, is a name without a number, or is a date
        while the others are numbers, or the other way round.
    """
    [number], named = _numbers(np.array([label], object), name)
    known = like.labels[like.resolved][0]
    if named or number == LIVE or (_day(label) is None) != (_day(known) is None):
        raise ValueError(
            f"{name} must be an era label of the data's kind, such as {known!r}; got "
            f"{label!r}."
        )
    return int(number)


def near_eras(
    eras: NDArray[np.int64], others: NDArray[np.int64], horizon: int
) -> NDArray[np.bool_]:
    """Return which `eras` are less than `horizon` era numbers from one of `others`.

    Parameters
    ----------
    eras, others : ndarray of int
        Era numbers; `others` ascending.
    horizon : int
        Number of eras that a target spans; 1 finds the eras that are in both.

    Returns
    -------
    ndarray of bool, of the shape of `eras`
    """
    if not len(others):
        return np.zeros(len(eras), bool)
    after = np.searchsorted(others, eras)
    following = others[np.minimum(after, len(others) - 1)]
    preceding = others[np.maximum(after - 1, 0)]
    nearest = np.minimum(np.abs(following - eras), np.abs(eras - preceding))
    return np.asarray(nearest < horizon)


def encode_eras(
    eras: Any, *, n_rows: int | None = None, name: str = "eras"
) -> EraIndex:
    """Convert era labels, one for each row, to an `EraIndex`.

    Parameters
    ----------
    eras : array-like of shape (n_rows,)
        Strings (``"0001"``, ``"era1"``, ``"X"``, and ``"x"`` unless other labels are
        names), integers, whole floats or categories, as a list, numpy array, or pandas,
        polars or pyarrow column. Dates (of Python, numpy or pandas, ISO text, or
        ``20200103`` as text or number) are numbered by calendar week. Other labels are
        names: they are numbered in sorted order, and `named` is True.
    n_rows : int, default=None
        Number of rows of the table; another number of labels is an error.
    name : str, default="eras"
        Name of the argument in error messages.

    Returns
    -------
    EraIndex

    Raises
    ------
    ValueError
        If the number of labels is not `n_rows`. If a label is missing, is not a whole
        number, is a number above 9,999 that is not a date, or is too large for its
        short float type (2,047 in float16). If labels of several kinds are mixed, or
        two dates share a week.

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
    if not len(codes):
        raise ValueError(f"{name} has no labels. Pass one era label for each row.")
    numbers, named = _numbers(labels, name)
    unique, first_seen, position = np.unique(
        numbers, return_index=True, return_inverse=True
    )
    ordered = np.arange(len(unique))
    if not (len(position) == len(unique) and np.array_equal(position, ordered)):
        codes = position.astype(np.int32)[codes]
    codes = codes.astype(np.int32, copy=False)
    return EraIndex(codes, unique, labels[first_seen], named)


def _check_length(got: int, expected: int | None, name: str) -> None:
    if expected is not None and got != expected:
        raise ValueError(
            f"{name} has {got} labels, but X has {expected} rows; pass one era label "
            "for each row."
        )


def _factorize(eras: Any, name: str) -> tuple[NDArray[np.int32], NDArray[np.object_]]:
    """Return codes in order of first appearance (-1 for missing) and their labels."""
    import narwhals.stable.v2 as nw
    import pandas as pd

    eras = nw.to_native(eras, pass_through=True)
    if hasattr(eras, "to_arrow"):  # polars; pyarrow 16 cannot convert its categories
        eras = eras.to_pandas(date_as_object=True)
    if hasattr(eras, "dictionary_encode"):  # pyarrow
        eras = eras.to_pandas()
    if not isinstance(eras, pd.Series | pd.Index | pd.Categorical):
        if isinstance(eras, type | str | bytes | Mapping) or not (
            hasattr(eras, "__iter__") or hasattr(eras, "__array__")
        ):
            from numerai_features._validation import as_frame  # it imports this module

            as_frame(eras, name)  # raises for a lazy table, and says how to collect it
            raise ValueError(
                f"{name} must be era labels, one for each row, as an array, list or "
                f"column; got {eras!r}."
            )
        if not isinstance(eras, np.ndarray):
            eras = eras if hasattr(eras, "__array__") else list(eras)
            eras = np.asarray(eras, dtype=None if _of_one_type(eras) else object)
        if eras.ndim == 2 and eras.shape[1] == 1:
            eras = eras[:, 0]
        if eras.ndim != 1:
            raise ValueError(
                f"{name} must be one-dimensional, one label a row; got an array of "
                f"shape {eras.shape}."
            )
        if eras.dtype.kind in "iuU":
            return _factorize_runs(eras)
        if eras.dtype.kind == "M":
            eras = pd.Series(eras)
    _check_precision(eras, name)
    codes, found = pd.factorize(eras)
    labels = np.asarray(found, dtype=object)
    for label in labels:
        if isinstance(label, np.floating):  # in a list of several types
            _check_precision(np.array([label]), name)
    return codes.astype(np.int32), labels


def _check_precision(eras: Any, name: str) -> None:
    """Raise if short floats have rounded eras, which mostly gives other valid eras."""
    kept = getattr(eras.dtype, "categories", eras)
    exact = _EXACT.get(str(kept.dtype).lower())
    if exact is not None and (beyond := kept[np.abs(kept) > exact]).size:
        raise ValueError(
            f"{name} holds {np.max(beyond):.10g} as {kept.dtype}, which rounds such "
            "numbers to others. Pass era numbers as integers, and dates as text such "
            "as '2020-01-03', or as dates."
        )


def _of_one_type(eras: Any) -> bool:
    """Whether numpy may choose the type; it would convert mixed labels to text."""
    return hasattr(eras, "__array__") or len({type(label) for label in eras}) <= 1


def _factorize_runs(
    eras: NDArray[Any],
) -> tuple[NDArray[np.int32], NDArray[np.object_]]:
    """Factorize labels run by run, since the rows of an era are mostly contiguous."""
    import pandas as pd

    starts = np.flatnonzero(eras[1:] != eras[:-1]) + 1
    if len(starts) > len(eras) // 4:  # not sorted: nothing is gained
        codes, labels = pd.factorize(eras)
        return codes.astype(np.int32), np.asarray(labels, object)
    starts = np.concatenate([[0], starts]) if len(eras) else starts
    codes, labels = pd.factorize(eras[starts])
    lengths = np.diff(np.append(starts, len(eras)))
    return np.repeat(codes.astype(np.int32), lengths), np.asarray(labels, object)


def _numbers(labels: NDArray[np.object_], name: str) -> tuple[NDArray[np.int64], bool]:
    """Return each label's era number, and whether the numbers are ranks of names."""
    live = np.array([_is_live(label) for label in labels], bool)
    lower = np.array([_is_text(label, _LOWER_LIVE) for label in labels], bool)
    if lower.any() and not _resolved_numbers(labels[~(live | lower)], name)[1]:
        live |= lower
    numbers = np.full(len(labels), LIVE, np.int64)
    numbers[~live], named = _resolved_numbers(labels[~live], name)
    return numbers, named


def _resolved_numbers(
    labels: NDArray[np.object_], name: str
) -> tuple[NDArray[np.int64] | list[int], bool]:
    """Return the numbers of labels of resolved eras, and whether they are ranks."""
    days = [_day(label) for label in labels]
    dated = np.array([day is not None for day in days], bool)
    if dated.any():
        if not dated.all():
            raise _mixed(labels, dated, "dates", name)
        return _weeks([day for day in days if day is not None], name), False
    parsed = [_parse(label, name) for label in labels]
    numbers = [number for _, number in parsed if number is not None]
    prefixes = {prefix for prefix, number in parsed if number is not None}
    if len(numbers) == len(labels) and (len(prefixes) <= 1 or prefixes <= {"", "era"}):
        return numbers, False
    if "" in prefixes:
        plain = np.array([prefix == "" for prefix, _ in parsed], bool)
        raise _mixed(labels, plain, "labels that are numbers", name)
    return np.argsort(np.argsort(labels.astype(str), kind="stable")), True


def _mixed(
    labels: NDArray[np.object_], of_a_kind: NDArray[np.bool_], kind: str, name: str
) -> ValueError:
    one, other = labels[of_a_kind.argmax()], labels[of_a_kind.argmin()]
    return ValueError(
        f"{name} mixes {kind} ({one!r}) with labels that are not ({other!r}); use one "
        "kind."
    )


def _plain(label: Any) -> Any:
    """Decode bytes, and convert numpy numbers to Python's, which cannot overflow."""
    if isinstance(label, bytes):
        return label.decode()
    return label.item() if isinstance(label, np.number) else label


def _is_live(label: Any) -> bool:
    number = _plain(label)
    if isinstance(number, int | float):
        return number == LIVE
    return _is_text(label, _LIVE_LABELS)


def _is_text(label: Any, texts: frozenset[str]) -> bool:
    label = _plain(label)
    return isinstance(label, str) and label.strip() in texts


def _parse(label: Any, name: str) -> tuple[str, int | None]:
    """Return a label's prefix and its number; the number of a name is None."""
    label = _plain(label)
    if isinstance(label, bool | np.bool_):
        raise ValueError(f"{name} must be era labels; got the boolean {label!r}.")
    if isinstance(label, str):
        text = label.strip()
        match = _NUMBERED.fullmatch(text)
        if match is None:
            return text, None
        return match.group(1).strip(" _-").lower(), _whole(match.group(2), label, name)
    if isinstance(label, int | float):
        return "", _whole(label, label, name)
    return str(label), None


def _whole(value: Any, label: Any, name: str) -> int:
    """Return a whole number, or raise if `label` is not one."""
    try:
        number = float(value)
    except OverflowError:  # an integer too large for a float
        number = np.inf
    if not np.isfinite(number) or number != np.floor(number):
        raise ValueError(
            f"{name} must be whole numbers or labels; got {label!r}. Pass the era "
            "column of the data."
        )
    if abs(number) > LARGEST_ERA:
        raise ValueError(
            f"{name} must be era numbers up to {LARGEST_ERA}, or dates; got {label!r}. "
            "Pass the era column of the data, number the eras by week, or write dates "
            "as '2020-01-03' and weeks as '2020-W01'."
        )
    return int(number)


def _day(label: Any) -> date | None:
    """Return the day, or the first day, of a label that is a date; otherwise None."""
    label = _plain(label)
    if isinstance(label, int | float) and 19e6 < label < 21e6:
        label = str(label).removesuffix(".0")
    label = getattr(label, "start_time", label)  # of a pandas Period
    if isinstance(label, date | np.datetime64):
        label = str(label)[:10]
    match = _DATE.fullmatch(label.strip()) if isinstance(label, str) else None
    try:
        return None if match is None else date.fromisoformat(match.group(1))
    except ValueError:
        return None


def _weeks(days: list[date], name: str) -> NDArray[np.int64]:
    """Return the calendar weeks of dates, whose differences count eras."""
    ordinals = np.array([day.toordinal() for day in days])
    weeks = (ordinals - _FIRST_MONDAY) // 7
    if len(np.unique(weeks)) < len(np.unique(ordinals)):
        raise ValueError(
            f"{name} holds several dates in one week (Monday to Sunday), but an era is "
            "a week. Pass era numbers."
        )
    return np.asarray(weeks, np.int64)
