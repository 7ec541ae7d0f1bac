"""Predictions of live rows as the csv that Numerai takes, checked as Numerai does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from numerai_features._names import some_names
from numerai_features._whole import whole_file

if TYPE_CHECKING:
    import pandas as pd


def write_submission(
    predictions: pd.DataFrame, file: Path, ids: Sequence[str] | None = None
) -> None:
    """Write predictions with the header ``id,prediction``, whole or not at all.

    Parameters
    ----------
    predictions : DataFrame
        Of `FittedModel.predict`.
    file : Path
    ids : sequence of str, default=None
        Ids of the live rows; None: those of the predictions.

    Raises
    ------
    ValueError
        If Numerai would refuse them; see `check_submission`.
    """
    table = predictions["prediction"].rename_axis("id").reset_index()
    check_submission(table, ids, "the predictions")
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file) as new:
        table.to_csv(new, index=False)


def check_submission(table: pd.DataFrame, ids: Sequence[str] | None, name: str) -> None:
    """Raise a ValueError if Numerai would refuse predictions.

    Parameters
    ----------
    table : DataFrame
        With the columns id and prediction.
    ids : sequence of str or None
        Ids of the live rows; None: they are not compared.
    name : str
        What the message calls the predictions.
    """
    import pandas as pd
    from numerai_tools import submissions as rules

    own = table.iloc[:, 0] if table.shape[1] else pd.Series(dtype=str)
    live = own if ids is None else pd.Series(list(ids), dtype=object)
    try:
        # These three are in all versions of numerai-tools; the whole check is not.
        _, column = rules.validate_headers_numerai(table)
        if not pd.api.types.is_numeric_dtype(table[column]):
            raise AssertionError("predictions must be numbers")
        rules.validate_ids_numerai(live, table, "id")
        rules.validate_values(table, column)
    except AssertionError as error:
        raise ValueError(
            f"Numerai would refuse {name}: {error}. There are {len(table):,} rows, and "
            f"the columns {some_names(list(table))}. Predict all rows of live.parquet, "
            "each once, with a model whose predictions vary."
        ) from error
    strange = own[~own.astype(str).isin(set(live.astype(str)))]
    if len(strange):
        raise ValueError(
            f"Numerai would refuse {name}: {len(strange):,} ids are not among the live "
            f"rows, such as {strange.iloc[0]!r}. Predict the live rows of this round."
        )
