"""Whether Numerai takes predictions: numerai-tools' checks, before anything is sent."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_BLOCK = 8 << 20
_COLUMNS = ("prediction", "probability")  # names that Numerai takes


def read_predictions(file: Path, live: Path | None) -> pd.DataFrame:
    """Return the predictions of a csv that Numerai will take; raise if it will not.

    Parameters
    ----------
    file : Path
    live : Path or None
        The live rows that it predicts, a parquet file; None: the ids are not compared.
    """
    import pandas as pd

    from numerai_features.datasets._parquet_names import check_file
    from numerai_features.experiment._submission import check_submission

    check_file(file)
    try:
        # Ids are text, also those that look like numbers or like missing ones.
        table = pd.read_csv(
            file,
            dtype={"id": str},
            keep_default_na=False,
            na_values={name: ["", "nan", "NaN"] for name in _COLUMNS},
        )
    except (ValueError, pd.errors.ParserError) as error:
        raise ValueError(
            f"{file} is no csv that can be read ({error}). Expected the two columns id "
            "and prediction, as the command predict writes them."
        ) from error
    check_submission(table, None if live is None else read_ids(live), str(file))
    return table


def read_ids(live: Path) -> list[str]:
    """Return the ids of live rows, in the order of the file."""
    from numerai_features.datasets._parquet_names import (
        check_file,
        find_id_column,
        open_parquet,
    )

    check_file(live)
    with open_parquet(live) as parquet:
        column = find_id_column(parquet.schema_arrow, live)
        if column is None:
            raise ValueError(
                f"{live} has no ids. Download Numerai's live.parquet again."
            )
        return [str(i) for i in parquet.read(columns=[column]).column(0).to_pylist()]


def hash_ids(ids: list[str]) -> str:
    """Return a hash of ids, whatever their order."""
    text = "\n".join(sorted(ids))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def checksum_of(file: Path) -> str:
    """Return a hash of the contents of a file."""
    digest = hashlib.blake2b(digest_size=16)
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def correlations(table: pd.DataFrame, benchmark: Path) -> dict[str, float]:
    """Return the rank correlations of predictions with those of benchmark models.

    Parameters
    ----------
    table : DataFrame
        With the columns id and prediction, or another name that Numerai takes.
    benchmark : Path
        Numerai's ``live_benchmark_models.parquet``.
    """
    import pandas as pd

    others = pd.read_parquet(benchmark)
    if "id" in others:
        others = others.set_index("id")
    others = others.select_dtypes("number")
    own = table.set_index("id").iloc[:, 0].rank()
    found = {
        str(name): float(own.corr(values.reindex(own.index).rank()))
        for name, values in others.items()
    }
    return {name: value for name, value in found.items() if value == value}
