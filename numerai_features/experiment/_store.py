"""Finished arms of each fold on disk, so that a run can be resumed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from numerai_features import __version__
from numerai_features._cache import versions
from numerai_features._sealed import (
    SealError,
    SetAsideWarning,
    read_sealed,
    set_aside,
    write_sealed,
)
from numerai_features._whole import sweep_all
from numerai_features.experiment._file import ExperimentError
from numerai_features.experiment._schema import EXPERIMENT, neutral_paths

Key = tuple[str, int]
"""An arm's name and a fold's number."""

_RECORD = "experiment.json"
_NAME = re.compile(r"(\d{3,})\.([A-Za-z0-9_-]+)\.fold")
_LIBRARIES = ("lightgbm", "xgboost")
_WAY_OUT = (
    "Choose another output folder (output=, or --output in the command line), or "
    "delete that one."
)


@dataclass(frozen=True)
class ArmResult:
    """Result of one arm in one fold.

    Attributes
    ----------
    prediction : ndarray of shape (n_test_rows,), float32
        Predictions for the fold's test rows.
    n_latents : int
        Number of columns added to the originals.
    latent_seconds, model_seconds : float
        Time to fit and transform latents, and to train and predict with the model.
    """

    prediction: NDArray[np.float32]
    n_latents: int
    latent_seconds: float
    model_seconds: float


class FoldStore:
    """A folder with a sealed file for each finished arm and fold.

    It is the store of `run_folds`, a mapping from arm and fold to results. A file is
    valid if its checksum is right and this experiment made it with these library
    versions. Any other file is set aside with a warning, and made again.

    Parameters
    ----------
    folder : pathlib.Path
        The folder ``folds`` of an output folder.
    identity : dict
        Everything that the results depend on, as `identity_of` returns it.

    Raises
    ------
    ExperimentError
        If the folder holds results of another experiment, or its record cannot be used
        and none of its results can be attributed to this experiment.

    Warns
    -----
    SetAsideWarning
        If its results are damaged, or were made by other versions.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.folder = folder
        self._identity = identity
        self._checked: dict[Key, bool] = {}
        folder.mkdir(parents=True, exist_ok=True)
        sweep_all(folder)
        before = self._read_record()
        if before is not None and _told(before) == _told(identity):
            return
        if before is not None and self._files():
            self._check_same(before, identity)
            self._put_all_aside(before["versions"])
        write_sealed(folder / _RECORD, identity, kind="experiment")

    def __len__(self) -> int:
        return sum(key in self for key in self._files())

    def __contains__(self, key: Key) -> bool:
        """Whether a valid result is stored; each file is checked once."""
        if key not in self._checked:
            self._checked[key] = self._check(key)
        return self._checked[key]

    def __getitem__(self, key: Key) -> ArmResult:
        record, prediction = self._read(key)
        return ArmResult(prediction, **record)

    def __setitem__(self, key: Key, result: ArmResult) -> None:
        record = asdict(result)
        prediction = record.pop("prediction")
        write_sealed(
            self._file(key),
            record,
            kind="fold",
            key=self._seal(key),
            write=lambda stream: np.save(stream, prediction, allow_pickle=False),
        )
        self._checked[key] = True

    def _file(self, key: Key) -> Path:
        arm, fold = key
        return self.folder / f"{fold:03d}.{arm}.fold"

    def _files(self) -> list[Key]:
        """Return the arms and folds that have a file, valid or not."""
        names = map(_NAME.fullmatch, sorted(os.listdir(self.folder)))
        keys = [(name[2], int(name[1])) for name in names if name]
        return [key for key in keys if self._file(key).is_file()]

    def _seal(self, key: Key) -> str:
        """Return the key of a file: a hash of everything its result depends on."""
        told = json.dumps([self._identity, *key], sort_keys=True)
        return hashlib.blake2b(told.encode(), digest_size=32).hexdigest()

    def _read(self, key: Key) -> tuple[Any, NDArray[np.float32]]:
        return read_sealed(
            self._file(key), kind="fold", key=self._seal(key), read=_load
        )

    def _check(self, key: Key) -> bool:
        try:
            self._read(key)
        except FileNotFoundError:
            return False
        except SealError as error:
            set_aside(self._file(key), error)
            return False
        return True

    def _read_record(self) -> Any:
        """Return the identity stored in the folder, or None."""
        file = self.folder / _RECORD
        try:
            record = read_sealed(file, kind="experiment", same_version=False)[0]
            if not isinstance(record, dict) or set(record) != set(self._identity):
                raise SealError(f"{file} has another version's format.")
        except FileNotFoundError:
            self._check_known(f"{file} is missing.")
            return None
        except SealError as error:
            self._check_known(str(error))
            set_aside(file, error)
            return None
        return record

    def _check_known(self, problem: str) -> None:
        """Raise if there are results, but none of this experiment."""
        files = self._files()
        if files and not any(map(self._is_known, files)):
            raise ExperimentError(
                f"{problem} None of the results in {self.folder} can be attributed to "
                f"this experiment. {_WAY_OUT}"
            )

    def _is_known(self, key: Key) -> bool:
        try:
            self._read(key)
        except (FileNotFoundError, SealError):
            return False
        return True

    def _check_same(self, before: dict[str, Any], now: dict[str, Any]) -> None:
        """Raise if settings or data differ; versions may differ."""
        changes = list(_differences(before["settings"], now["settings"]))
        if changes:
            raise ExperimentError(
                f"{self.folder} holds results of another experiment:\n"
                + "\n".join(f"  {change}" for change in changes)
                + f"\n{_WAY_OUT}"
            )

    def _put_all_aside(self, before: dict[str, str]) -> None:
        """Rename all results, because other versions made them."""
        for key in self._files():
            file = self._file(key)
            os.replace(file, file.with_name(file.name + ".unusable"))
        changes = _differences(before, self._identity["versions"])
        warnings.warn(
            f"The fits in {self.folder} were made by other versions, which may change "
            f"results: {'; '.join(changes)}. They are kept as *.unusable, and made "
            "again.",
            SetAsideWarning,
            stacklevel=4,
        )


def identity_of(tables: dict[str, Any], signature: dict[str, Any]) -> dict[str, Any]:
    """Return everything that an experiment's results depend on, in JSON's types.

    Parameters
    ----------
    tables : dict
        The tables of an experiment.
    signature : dict
        Everything that its panel depends on.

    Returns
    -------
    dict
        ``settings`` are the user's choices and the panel's signature; ``versions`` are
        those of this package and of the libraries that fit.
    """
    tables = deepcopy(tables)
    for *path, name in neutral_paths(EXPERIMENT):
        table = tables
        for key in path:
            table = table.get(key, {})
        table.pop(name, None)
    signature = {k: v for k, v in signature.items() if k != "version"}
    others = {name for name in _LIBRARIES if name != tables["model"]["library"]}
    used = {k: v for k, v in versions().items() if k not in others}
    identity: dict[str, Any] = {
        "settings": tables | {"signature": signature},
        "versions": {"numerai-features": __version__, **used},
    }
    return json.loads(json.dumps(identity))  # type: ignore[no-any-return]


def _load(stream: IO[bytes]) -> NDArray[np.float32]:
    array: NDArray[np.float32] = np.load(stream, allow_pickle=False)
    return array


def _differences(before: Any, now: Any, path: str = "") -> Iterator[str]:
    """Yield a message for each changed value, by its dotted name."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        if _told(before) != _told(now):  # as text: NaN is not equal to itself
            yield f"{path}: {_told(before)} then, {_told(now)} now"
        return
    for name in dict.fromkeys([*before, *now]):
        inner = f"{path}.{name}" if path else name
        yield from _differences(before.get(name), now.get(name), inner)


def _told(value: Any) -> str:
    return "not set" if value is None else json.dumps(value, sort_keys=True)
