"""Finished arms of finished folds on disk, so that a run can go on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from numerai_features._files import replacing
from numerai_features.experiment._file import ExperimentError
from numerai_features.experiment._schema import EXPERIMENT, neutral_paths

Key = tuple[str, int]
"""An arm's name and a fold's number."""

_RECORD = "experiment.json"
_METADATA = b"numerai_features"


@dataclass(frozen=True)
class ArmResult:
    """What one arm did in one fold.

    Attributes
    ----------
    prediction : ndarray of shape (n_test_rows,), float32
        Predictions for the fold's test rows.
    n_latents : int
        Columns beside the originals.
    latent_seconds, model_seconds : float
        For fitting and transforming, and for training and predicting.
    """

    prediction: NDArray[np.float32]
    n_latents: int
    latent_seconds: float
    model_seconds: float


class FoldStore:
    """A folder with a parquet file for each arm and fold that is done.

    It is what `run_folds` takes as a store: results by arm and fold.

    Parameters
    ----------
    folder : pathlib.Path
        The folder ``folds`` of an output folder.
    identity : dict
        All that the results depend on, of types that JSON has.

    Raises
    ------
    ExperimentError
        If the folder holds results of another experiment.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        record = folder / _RECORD
        if record.exists():
            before = json.loads(record.read_text(encoding="utf-8"))
            self._check_same(before, identity)
        else:
            with replacing(record) as temporary:
                temporary.write_text(json.dumps(identity, indent=1), encoding="utf-8")

    def __len__(self) -> int:
        return sum(1 for _ in self.folder.glob("*.parquet"))

    def __contains__(self, key: Key) -> bool:
        return self._file(key).exists()

    def __getitem__(self, key: Key) -> ArmResult:
        table = pq.read_table(self._file(key))
        record = json.loads(table.schema.metadata[_METADATA])
        return ArmResult(table["prediction"].to_numpy(), **record)

    def __setitem__(self, key: Key, result: ArmResult) -> None:
        record = asdict(result)
        table = pa.table({"prediction": record.pop("prediction")})
        table = table.replace_schema_metadata({_METADATA: json.dumps(record)})
        with replacing(self._file(key)) as temporary:
            pq.write_table(table, temporary)

    def _file(self, key: Key) -> Path:
        arm, fold = key
        return self.folder / f"{fold:03d}.{arm}.parquet"

    def _check_same(self, before: dict[str, Any], now: dict[str, Any]) -> None:
        changes = list(_differences(before, now))
        if changes:
            raise ExperimentError(
                f"{self.folder} holds results of another experiment:\n"
                + "\n".join(f"  {change}" for change in changes)
                + "\nChoose another output folder (output=, or --output in the command "
                "line), or delete that one."
            )


def identity_of(tables: dict[str, Any]) -> dict[str, Any]:
    """Return all that the results of an experiment depend on, as JSON has it."""
    tables = deepcopy(tables)
    for *path, name in neutral_paths(EXPERIMENT):
        table = tables
        for key in path:
            table = table.get(key, {})
        table.pop(name, None)
    identity: dict[str, Any] = json.loads(json.dumps(tables))
    return identity


def _differences(before: Any, now: Any, path: str = "") -> Iterator[str]:
    """Yield which values changed, by their dotted names."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        if before != now:
            yield f"{path}: {_told(before)} then, {_told(now)} now"
        return
    for name in dict.fromkeys([*before, *now]):
        inner = f"{path}.{name}" if path else name
        yield from _differences(before.get(name), now.get(name), inner)


def _told(value: Any) -> str:
    return "not set" if value is None else json.dumps(value)
