"""Predictions of other models, as Numerai's files hold them."""

from __future__ import annotations

from typing import Any

import numpy as np

from numerai_features._validation import as_frame, column_names, is_frame

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
