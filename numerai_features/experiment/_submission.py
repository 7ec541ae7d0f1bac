"""Predictions of live rows as the csv that Numerai takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

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
        If the predictions do not pass the checks of numerai-tools for submissions.
    """
    import pandas as pd
    from numerai_tools.submissions import validate_submission_numerai

    table = predictions["prediction"].rename_axis("id").reset_index()
    live = table["id"] if ids is None else pd.Series(list(ids), dtype=object)
    try:
        strange = validate_submission_numerai(live, table)[3]
    except AssertionError as error:
        raise ValueError(
            f"The predictions would be refused ({error}). Predict all rows of "
            "live.parquet, each once, with ids and a model whose predictions vary."
        ) from error
    if strange:
        raise ValueError(
            f"{len(strange)} predictions have ids that are not among the live rows; "
            f"the first is {strange[0]!r}. Predict the rows of live.parquet."
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file) as new:
        table.to_csv(new, index=False)
