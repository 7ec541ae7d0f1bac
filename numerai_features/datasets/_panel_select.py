"""Selection of the eras and features of a panel."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._blocks import row_blocks
from numerai_features._eras import encode_eras, era_label
from numerai_features._names import some_names
from numerai_features._validation import require_numbers
from numerai_features.datasets._arguments import check_whole
from numerai_features.datasets._metadata import check_known

Features = Iterable[str] | Iterable[int] | Callable[[str], bool]


def select_eras(
    numbers: NDArray[Any],
    eras: Any = None,
    *,
    every: int | None = None,
    first: Any = None,
    last: Any = None,
) -> NDArray[np.intp]:
    """Return the ascending positions of the selected eras among sorted era numbers.

    Parameters
    ----------
    numbers : ndarray of shape (n_eras,)
        Distinct era numbers, ascending.
    eras, every, first, last
        As in `EraPanel.select`.

    Raises
    ------
    ValueError
        If an era is not among `numbers`, or nothing is left.
    """
    keep = np.ones(len(numbers), bool)
    if eras is not None:
        wanted = _wanted_numbers(eras, "eras")
        _check_eras_known(wanted, numbers)
        keep &= np.isin(numbers, wanted)
    if first is not None:
        keep &= numbers >= _one_number(first, "first")
    if last is not None:
        keep &= numbers <= _one_number(last, "last")
    kept = np.flatnonzero(keep)[:: 1 if every is None else check_every(every)]
    if len(kept) == 0:
        raise ValueError(
            f"No era is left of {_span(numbers)}: eras={eras!r}, first={first!r}, "
            f"last={last!r}. Select eras of the panel."
        )
    return kept


def _wanted_numbers(eras: Any, name: str) -> NDArray[np.int64]:
    if isinstance(eras, str) or not isinstance(eras, Iterable):
        eras = [eras]
    elif isinstance(eras, dict) or not hasattr(eras, "__getitem__"):
        eras = list(eras)  # keys, sets, generators
    if not len(eras):
        return np.empty(0, np.int64)
    return require_numbers(encode_eras(eras, name=name), name).numbers


def _one_number(era: Any, name: str) -> int:
    """Return the number of one era; raise if several are given."""
    if isinstance(era, str) or not isinstance(era, Iterable):
        return int(_wanted_numbers([era], name)[0])
    raise ValueError(f"{name} must be the label or number of one era; got {era!r}.")


def _check_eras_known(wanted: NDArray[Any], numbers: NDArray[Any]) -> None:
    strange = wanted[~np.isin(wanted, numbers)]
    if len(strange):
        labels = [era_label(int(number)) for number in strange]
        raise ValueError(
            f"eras holds {some_names(labels)}, which are not among {_span(numbers)}. "
            "Use first= and last= for a range with missing eras."
        )


def _span(numbers: NDArray[Any]) -> str:
    if not len(numbers):
        return "no eras"
    ends = era_label(int(numbers[0])), era_label(int(numbers[-1]))
    return f"the {len(numbers)} eras from {ends[0]!r} to {ends[1]!r}"


def check_every(every: Any) -> int:
    """Return `every` if it is a whole number."""
    return check_whole(every, "every", advice=" every=4 keeps every fourth era.")


def row_slices(bounds: NDArray[np.int64], kept: NDArray[np.intp]) -> list[slice]:
    """Return the rows of eras as slices, one for each run of adjacent eras."""
    runs = np.split(kept, np.flatnonzero(np.diff(kept) != 1) + 1)
    return [slice(int(bounds[run[0]]), int(bounds[run[-1] + 1])) for run in runs]


def gather(
    X: Any, slices: list[slice], columns: NDArray[np.intp] | None = None
) -> NDArray[Any]:
    """Copy some rows, and some columns or all of them."""
    if columns is None and isinstance(X, np.ndarray):
        return np.concatenate([X[rows] for rows in slices])
    n_rows = sum(rows.stop - rows.start for rows in slices)
    width = X.shape[1] if columns is None else len(columns)
    out = np.empty((n_rows, width), X.dtype)
    place = 0
    for rows in slices:
        for block in row_blocks(rows.stop - rows.start, X.shape[1]):
            part = X[rows.start + block.start : rows.start + block.stop]
            here = out[place : place + len(part)]
            if columns is None:
                here[:] = part
            else:  # clip, because mode="raise" makes take buffer its output
                np.take(part, columns, axis=1, out=here, mode="clip")
            place += len(part)
    return out


def select_columns(features: Features, names: list[str]) -> NDArray[np.intp]:
    """Return the positions of the requested features in `names`, in the order given."""
    if isinstance(features, str):
        raise ValueError(
            f"features must be a list of names or positions; got {features!r}. "
            f"Pass [{features!r}] for one feature; NumeraiMetadata has the sets."
        )
    if callable(features):
        columns = [j for j, name in enumerate(names) if features(name)]
    elif isinstance(features, Iterable):
        columns = _positions(list(features), names)
    else:
        raise ValueError(
            f"features must be a list of names or positions, or a function of a name; "
            f"got {features!r}."
        )
    if not columns:
        raise ValueError(
            "features selects nothing. Name at least one feature, or leave it None."
        )
    if len(set(columns)) < len(columns):
        raise ValueError("features holds a feature twice; name each once.")
    return np.array(columns, np.intp)


def _positions(asked: list[Any], names: list[str]) -> list[int]:
    if not all(isinstance(name, str) for name in asked):
        return [_position(index, len(names)) for index in asked]
    wanted = [str(name) for name in asked]  # numpy's have another repr
    check_known(wanted, names, what="is no feature of this panel")
    position = {name: j for j, name in enumerate(names)}
    return [position[name] for name in wanted]


def _position(index: Any, n_features: int) -> int:
    try:
        if isinstance(index, bool | np.bool_):
            raise TypeError("a mask is not a position")
        return range(n_features)[operator.index(index)]
    except (IndexError, TypeError) as error:
        raise ValueError(
            f"features holds {index!r}; expected names, or positions below "
            f"{n_features}."
        ) from error
