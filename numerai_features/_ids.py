"""Which rows of one table are those of another: by their ids, never by chance.

Rows are known by pandas' index. An index of texts, or one that is called ``id``, names
rows. Any other numbers count them, and may count those of another table.
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
)

_BESIDE = ("era", "data_type", "id")  # in Numerai's files, beside predictions


def one_reference(table: Any, name: str) -> Any:
    """Return the predictions of another model; of a whole file its one column of them.

    Parameters
    ----------
    table : frame, Series or array-like
        Of a frame the columns ``era`` and ``data_type`` are left out. A column ``id``
        becomes the index.
    name : str
        What the messages call it.

    Raises
    ------
    ValueError
        If a frame has no column of predictions, or several.
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
            f"{name} must be one column of predictions, beside era, data_type and id; "
            f"got {len(columns)}: {listed}. Choose one of the frame, as in "
            f"{name}=frame[[{first!r}]]."
        )
    if "id" not in column_names(table):
        return table[columns[0]]
    # read by a library that knows no index
    ids = pd.Index(np.asarray(table["id"]), name="id")
    return pd.Series(np.asarray(table[columns[0]]), index=ids, name=columns[0])


def take_ids(table: Any, ids: Any, name: str, owner: str) -> Any:
    """Return the rows of a Series or DataFrame that have some ids, as an array.

    Parameters
    ----------
    table : Series or DataFrame
        Indexed by id; other rows are left out.
    ids : Index
    name, owner : str
        What the messages call the table, and whose ids these are.

    Raises
    ------
    ValueError
        If an id is there twice, or not at all.
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
    return table.iloc[positions].to_numpy()


def match_ids(reference: Any, name: str, **owners: Any) -> Any:
    """Return another model's predictions in the order of the rows that have ids.

    Parameters
    ----------
    reference : frame, Series or array-like
        What `one_reference` takes. Rows without ids stay in their order.
    name : str
        What the messages call it.
    **owners : frame, Series or array-like
        Tables of the same rows by their names; the first with ids tells the order.

    Raises
    ------
    ValueError
        If a frame has ids and no other table has, ids are missing, or rows are those of
        another table in another order.
    """
    owner, wanted = _first_ids(owners)
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
            f"{name} has rows with ids, but {', '.join(most)} and {last} have none, so "
            f"nothing tells which rows are meant. Pass {most[0]} or {most[1]} as "
            f"pandas, indexed by id, or {name} as an array in their order."
        )
    return column if rows.equals(wanted) else take_ids(column, wanted, name, owner)


def check_as_many(reference: Any, name: str, n_rows: int, owner: str) -> None:
    """Raise where a frame or Series has other rows, and no ids to choose by."""
    if index_of(reference) is not None and len(reference) != n_rows:
        raise ValueError(
            f"{name} has {len(reference)} rows, and {n_rows} are needed: ids must tell "
            f"which. Pass {name} and {owner} with an index of ids (texts, or numbers "
            "in an index called 'id'), or only the rows that are needed."
        )


def _first_ids(tables: dict[str, Any]) -> tuple[str, Any]:
    """Return the first index of ids, and whose it is."""
    for name, table in tables.items():
        rows = index_of(table)
        if rows is not None and holds_ids(rows):
            return name, rows
    return "", None
