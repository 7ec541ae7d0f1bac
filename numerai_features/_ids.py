"""Match the rows of one table to those of another by id.

The ids are those of the pandas index. An index of text, or one named ``id``, holds ids.
An index of any other numbers only counts rows, perhaps those of another table.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from numerai_features._validation import (
    as_frame,
    check_same_rows,
    column_names,
    holds_ids,
    index_of,
    is_frame,
    row_ids,
)

_BESIDE = ("era", "data_type", "id")  # in Numerai's files, beside predictions


def one_reference(table: Any, name: str) -> Any:
    """Return another model's predictions, the only such column of a whole file.

    Parameters
    ----------
    table : frame, Series or array-like
        The columns ``era`` and ``data_type`` of a frame are left out, and its column
        ``id`` becomes the index.
    name : str
        The name of the table in messages.

    Raises
    ------
    ValueError
        If a frame has no column of predictions, or more than one.
    """
    import pandas as pd

    table = as_frame(table, name)
    if not is_frame(table):
        return table
    columns = [column for column in column_names(table) if column not in _BESIDE]
    if len(columns) != 1:
        listed = ", ".join(map(repr, columns)) or "none"
        first = columns[0] if columns else "prediction"
        raise ValueError(
            f"{name} must be one column of predictions, besides era, data_type and id; "
            f"got {len(columns)}: {listed}. Select one column, as in "
            f"{name}=frame[[{first!r}]]."
        )
    if "id" not in column_names(table):
        return table[columns[0]]
    # Not every library has an index.
    ids = pd.Index(np.asarray(table["id"]), name="id")
    return pd.Series(np.asarray(table[columns[0]]), index=ids, name=columns[0])


def take_ids(table: Any, ids: Any, name: str, owner: str) -> Any:
    """Return the rows of a Series or DataFrame with the given ids, in the order of ids.

    Parameters
    ----------
    table : Series or DataFrame
        Table indexed by id, perhaps with other rows as well.
    ids : Index
    name, owner : str
        The names, in messages, of this table and of the one that the ids are from.

    Raises
    ------
    ValueError
        If the table has an id more than once, or lacks one.
    """
    if not table.index.is_unique:
        raise ValueError(f"{name} has ids more than once; keep one row for each id.")
    positions = table.index.get_indexer(ids)
    missing = positions < 0
    if missing.any():
        raise ValueError(
            f"{name} has no row for {int(missing.sum())} of {len(ids)} ids of {owner}, "
            f"the first is {ids[missing.argmax()]!r}. Pass {name} for all rows, with "
            f"the same index: {name}.reindex({owner}.index) has NaN where it has no "
            "prediction."
        )
    return table.iloc[positions]


def match_ids(reference: Any, name: str, **owners: Any) -> Any:
    """Return another model's predictions in the order of other tables' ids.

    Parameters
    ----------
    reference : frame, Series or array-like
        As in `one_reference`. Rows without ids stay in their order.
    name : str
        The name of the reference in messages.
    **owners : frame, Series or array-like
        Tables of the same rows, by name. The first with ids sets the order.

    Raises
    ------
    ValueError
        If a frame has ids and no other table has, if ids are missing, or if two tables
        have the same rows in different orders.
    """
    owner, wanted = first_ids(owners)
    column = one_reference(reference, name)
    rows = index_of(column)
    if rows is None or not holds_ids(rows):
        check_same_rows(**owners, **{name: column})
        return column
    if wanted is None:
        if not is_frame(as_frame(reference, name)):
            return column
        *most, last = owners
        raise ValueError(
            f"{name} is indexed by id, but {', '.join(most)} and {last} are not, so "
            f"its rows cannot be matched. Pass {most[0]} or {most[1]} as a pandas "
            f"object indexed by id, or {name} as an array in the order of their rows."
        )
    return column if rows.equals(wanted) else take_ids(column, wanted, name, owner)


def check_as_many(reference: Any, name: str, n_rows: int, owner: str) -> None:
    """Raise if a frame or Series has another number of rows and no ids to match."""
    if index_of(reference) is not None and len(reference) != n_rows:
        raise ValueError(
            f"{name} has {len(reference)} rows, but {n_rows} are needed: rows must be "
            f"matched by id. Pass {name} and {owner} with an index of ids (text, or "
            "numbers in an index named 'id'), or only the rows that are needed."
        )


def first_ids(tables: dict[str, Any]) -> tuple[str, Any]:
    """Return the name and the index of the first table that is indexed by id."""
    for name, table in tables.items():
        rows = row_ids(table)
        if rows is not None and holds_ids(rows):
            return name, rows
    return "", None
