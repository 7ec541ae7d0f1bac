"""Store the results of finished arms and folds, so that a run can be resumed."""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._sealed import (
    SealError,
    SetAsideWarning,
    read_sealed,
    set_aside,
    write_sealed,
)
from numerai_features._warn import warn
from numerai_features._whole import sweep_all
from numerai_features.experiment._arms import recipes_of
from numerai_features.experiment._file import ExperimentError
from numerai_features.experiment._folder import Finished
from numerai_features.experiment._identity import (
    are_same,
    arms_with_made_latents,
    differences,
    key_of,
    own_settings,
    settings_of_arm,
    shared_settings,
    versions_of_arm,
)

Key = tuple[str, int, int]
"""An arm's name, a fold's number and a seed's number, from 0."""

_RECORD = "experiment.json"
_NAME = re.compile(r"(\d{3,})\.([A-Za-z0-9_-]+)(?:\.(\d+))?\.fold")
_NOTHING = Finished()
_WAY_OUT = "Choose another output folder (output=, or --output on the command line), or"


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

    It is the store of `run_folds`, a mapping from arm, fold and seed to results. A file
    is valid if its checksum is right, and if it was made with the same library versions
    and with the same settings, as far as the arm depends on them. Any other file is set
    aside with a warning, and its fit is repeated.

    Parameters
    ----------
    folder : pathlib.Path
        The folder ``folds`` of an output folder.
    identity : dict
        Everything that the results depend on, as `identity_of` returns it.
    finished : Finished, default=Finished()
        The finished results of the output folder.
    n_seeds : int, default=1
        The number of seeds whose results are counted by ``len``.

    Raises
    ------
    ExperimentError
        If results of another experiment would be lost, or if the folder's record cannot
        be read and no result can be attributed to this experiment. Nothing is changed
        then.

    Warns
    -----
    SetAsideWarning
        If results are damaged, were made by other versions, or belong to random columns
        or principal components that were made for other latents.
    """

    def __init__(
        self,
        folder: Path,
        identity: dict[str, Any],
        finished: Finished = _NOTHING,
        n_seeds: int = 1,
    ) -> None:
        self.folder = folder
        self._n_seeds = n_seeds
        self._identity = identity
        self._finished = finished
        self._checked: dict[Key, bool] = {}
        before = self._read_record()
        if before is not None:
            self._check_same(before["settings"])
        folder.mkdir(parents=True, exist_ok=True)
        sweep_all(folder)
        if before is not None:
            if are_same(before, identity):
                return
            self._put_aside(before)
        write_sealed(folder / _RECORD, identity, kind="experiment")

    def __len__(self) -> int:
        return sum(key in self for key in self._files() if key[2] < self._n_seeds)

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
        arm, fold, seed = key
        told = f".{seed}" if seed else ""
        return self.folder / f"{fold:03d}.{arm}{told}.fold"

    def _files(self) -> list[Key]:
        """Return the keys that have a file, valid or not."""
        there = sorted(os.listdir(self.folder)) if self.folder.is_dir() else ()
        names = map(_NAME.fullmatch, there)
        keys = [(name[2], int(name[1]), int(name[3] or 0)) for name in names if name]
        return [key for key in keys if self._file(key).is_file()]

    def _seal(self, key: Key) -> str:
        """Return the key of a file: a hash of everything its result depends on."""
        settings = settings_of_arm(self._identity["settings"], key[0])
        return key_of(settings, versions_of_arm(self._identity, key[0]), *key)

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
        files, finished = self._files(), self._finished
        known = finished.key == key_of(self._identity["settings"])
        if known or not (files or finished.files) or any(map(self._is_known, files)):
            return
        raise ExperimentError(
            f"{problem} None of the results in {self.folder.parent} can be attributed "
            f"to this experiment. {self._way_out()}"
        )

    def _is_known(self, key: Key) -> bool:
        try:
            self._read(key)
        except (FileNotFoundError, SealError):
            return False
        return True

    def _check_same(self, before: dict[str, Any]) -> None:
        """Raise if results would be lost because settings or data differ.

        Versions may differ, and so may arms without results, and blends, which have no
        fits. The number of random columns and principal components depends on the other
        arms, so such fits are repeated.
        """
        now = self._identity["settings"]
        arms = {arm for arm, *_ in self._files()} | self._finished.arms
        if arms and not are_same(shared_settings(before), shared_settings(now)):
            changes = list(differences(before, now))
            raise self._another(changes, self._way_out())
        arms -= arms_with_made_latents(now) | {""}
        old, new, changed = recipes_of(before), recipes_of(now), {}
        for arm in sorted(arms):
            if (old.get(arm) or {}).get("blend") is not None and arm in new:
                continue
            own = own_settings(before, arm), own_settings(now, arm)
            told = list(differences(*own))
            if arm not in new:
                told = [f"the arm {arm}: there then, not now"]
            if told:
                changed[arm] = told
        if changed:
            changes = [change for told in changed.values() for change in told]
            raise self._another(list(dict.fromkeys(changes)), self._way_out(*changed))

    def _another(self, changes: list[str], way_out: str) -> ExperimentError:
        told = "\n".join(f"  {change}" for change in changes)
        return ExperimentError(
            f"{self.folder.parent} holds results of another experiment:\n{told}\n"
            f"{way_out}"
        )

    def _way_out(self, *arms: str) -> str:
        """Return advice on what to delete: fits of some arms or all, and results."""
        ends = [".fold", ".*.fold"][: 2 if any(s for *_, s in self._files()) else 1]
        fits = [f"{self.folder.name}{os.sep}*.{a}{e}" for a in arms for e in ends]
        if not arms and self._files():
            fits = [self.folder.name]
        what = [*fits, *self._finished.files]
        kept = "Fits of other arms, and the panel, can stay."
        return (
            f"{_WAY_OUT} delete from this one: {', '.join(what)}. "
            f"{kept if arms else 'The panel can stay.'}"
        )

    def _put_aside(self, before: dict[str, Any]) -> None:
        """Rename fits of other versions, and latents made for other arms' latents."""
        old, new = before["versions"], self._identity["versions"]
        common = old.keys() & new.keys()  # a library that was not used made no fits
        then, now = ({name: v[name] for name in common} for v in (old, new))
        changes = list(differences(then, now))
        files = self._files()
        if changes:
            what = f"The fits in {self.folder} were made by other versions, which may "
            what += f"change results: {'; '.join(changes)}."
        else:
            made = arms_with_made_latents(self._identity["settings"])
            files = [k for k in files if k[0] in made and not self._is_known(k)]
            what = "The fits of random columns or principal components in "
            what += f"{self.folder} were made for other latents, whose number may have "
            what += "changed."
        for key in files:
            file = self._file(key)
            os.replace(file, file.with_name(file.name + ".unusable"))
        if files:
            warn(
                f"{what} They are kept as *.unusable, and the fits are repeated.",
                SetAsideWarning,
            )


def _load(stream: IO[bytes]) -> NDArray[np.float32]:
    array: NDArray[np.float32] = np.load(stream, allow_pickle=False)
    return array
