"""Rows of a parquet file as a frame, with their ids as index."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from numerai_features._names import near_names, some_names
from numerai_features.datasets._parquet_names import (
    check_file,
    find_id_column,
    open_parquet,
)

if TYPE_CHECKING:
    import pandas as pd

    from numerai_features.experiment._fitted_model import FittedModel

_FEATURE = "feature"  # how names of Numerai's features begin


def features_of(columns: Iterable[str]) -> list[str]:
    """Return the columns that are Numerai's features, by their names."""
    return [name for name in columns if name.startswith(_FEATURE)]


def notes_on(model: FittedModel, live: Path) -> list[str]:
    """Return what to know of a file of live rows before a model predicts them.

    Raises
    ------
    ValueError
        If features of the model are gone.
    """
    added = model.check_features(columns_of_file(live))
    told = []
    if added:
        told.append(
            f"{len(added)} features of {live} are new since the fit, such as "
            f"{added[0]}. The model does not use them: fit it again to use them."
        )
    return told + model.unfamiliar(live)


def columns_of_file(file: Path) -> list[str]:
    """Return the names of a file's columns."""
    check_file(file)
    with open_parquet(file) as parquet:
        return list(parquet.schema_arrow.names)


def read_rows(file: Path, columns: list[str], name: str) -> pd.DataFrame:
    """Read columns; one that is missing raises, but for ``era``.

    Parameters
    ----------
    file : Path
    columns : list of str
    name : str
        The name of the rows in messages.

    Raises
    ------
    ValueError
        If the file has no ids, lacks a column, or is damaged.
    """
    there = columns_of_file(file)
    columns = [column for column in columns if column in there or column != "era"]
    missing = [column for column in columns if column not in set(there)]
    if missing:
        near = near_names(missing[0], there)
        raise ValueError(
            f"{name}: {file} has no column {some_names(missing)}.{near} Pass the file "
            "of the same release as the rows that the model was fitted on."
        )
    with open_parquet(file) as parquet:
        ids = find_id_column(parquet.schema_arrow, file)
        if ids is None:
            raise ValueError(
                f"{name}: {file} has no ids, so that its rows have no names. Write it "
                "with an index, or a column, 'id'."
            )
        table = parquet.read(columns=[*columns, ids])
        table.validate(full=True)  # raises if text is not valid UTF-8
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    return frame.set_index(ids).rename_axis("id")[columns]
