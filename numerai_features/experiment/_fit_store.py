"""The folder of a fitted model: whose it is, and the parts that are finished."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from numerai_features._sealed import SealError, read_sealed, set_aside, write_sealed
from numerai_features._whole import sweep, sweep_all
from numerai_features.experiment._file import ExperimentError
from numerai_features.experiment._folder import RESOLVED
from numerai_features.experiment._identity import (
    are_same,
    differences,
    key_of,
    own_settings,
    shared_settings,
    versions_of_arm,
)
from numerai_features.experiment._tree_file import (
    ABOUT,
    FORMAT,
    MODEL,
    MODEL_KIND,
    read_tree,
    write_tree,
)

_PARTS = "parts"
_PART_KIND = "fitted part"
_OF_FILES = ("signature.files:", "references.")
"""How changes begin that only tell of newer files under the same names."""

_WAY_OUT = (
    "Choose another folder (folder=, or --output on the command line), or delete this "
    "one."
)

Part = tuple[str, int]
"""An arm's name and a seed's number, from 0."""


class FitStore:
    """A folder with a sealed file for each fitted arm and seed, and one for the model.

    Parameters
    ----------
    folder : pathlib.Path
    identity : dict
        Everything that results depend on, as `identity_of` returns it.
    arm : str
        The arm that is fitted; a blend's parts are those of its arms.

    Raises
    ------
    ExperimentError
        If the folder holds the model of another experiment or arm, or the results of a
        run. Nothing is changed then.

    Attributes
    ----------
    is_renewed : bool
        Whether the files of the data have changed since the folder's model was fitted.
        Then all is fitted again, and the model is replaced when that is done.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], arm: str) -> None:
        self.folder, self.arm = folder, arm
        self._identity = identity
        self.about = {
            "settings": self._settings(arm) | {"arm": arm},
            "versions": versions_of_arm(identity, arm),
        }
        self.key = key_of(self.about)
        self.is_renewed = False
        before = self._read_about()
        (folder / _PARTS).mkdir(parents=True, exist_ok=True)
        sweep_all(folder / _PARTS)
        sweep(folder / MODEL)
        if before is None or not are_same(before, self.about):
            write_sealed(folder / ABOUT, self.about, kind="fit")

    def __contains__(self, part: Part) -> bool:
        """Whether a part is finished; a file that cannot be used is set aside."""
        try:
            self._read(part)
        except FileNotFoundError:
            return False
        except SealError as error:
            set_aside(self._file(part), error)
            return False
        return True

    def __getitem__(self, part: Part) -> Any:
        return self._read(part)

    def __setitem__(self, part: Part, node: dict[str, Any]) -> None:
        write_sealed(
            self._file(part),
            {},
            kind=_PART_KIND,
            key=self._seal(part),
            write=lambda stream: write_tree(stream, node),
        )

    def has_model(self, n_seeds: int) -> bool:
        """Whether the model of these settings and seeds is finished."""
        file = self.folder / MODEL
        try:
            record = read_sealed(file, kind=MODEL_KIND)[0]
        except FileNotFoundError:
            return False
        except SealError as error:
            set_aside(file, error)
            return False
        return bool(record["key"] == self.key and record["seeds"] == n_seeds)

    def write_model(self, record: dict[str, Any], tree: dict[str, Any]) -> None:
        """Write the model; it replaces one of fewer seeds or other versions."""
        write_sealed(
            self.folder / MODEL,
            record | {"format": FORMAT, "key": self.key},
            kind=MODEL_KIND,
            write=lambda stream: write_tree(stream, tree),
        )

    def _settings(self, arm: str) -> dict[str, Any]:
        """Return the settings that a fit to all eras depends on."""
        settings = self._identity["settings"]
        shared = {k: v for k, v in shared_settings(settings).items() if k != "cv"}
        return shared | own_settings(settings, arm)

    def _seal(self, part: Part) -> str:
        versions = versions_of_arm(self._identity, part[0])
        return key_of(self._settings(part[0]), versions, *part)

    def _file(self, part: Part) -> Path:
        arm, seed = part
        return self.folder / _PARTS / f"{arm}.{seed}.part"

    def _read(self, part: Part) -> Any:
        return read_sealed(
            self._file(part), kind=_PART_KIND, key=self._seal(part), read=read_tree
        )[1]

    def _read_about(self) -> Any:
        """Return what the folder was made with; None if nothing is there."""
        file = self.folder / ABOUT
        try:
            before = read_sealed(file, kind="fit", same_version=False)[0]
            if not isinstance(before, dict) or set(before) != set(self.about):
                raise SealError(f"{file} has another version's format.")
        except FileNotFoundError:
            self._check_unused(f"{file} is missing")
            return None
        except SealError as error:
            self._check_unused(str(error).rstrip("."))
            set_aside(file, error)
            return None
        then, now = before["settings"], self.about["settings"]
        if then["arm"] != self.arm:
            raise ExperimentError(
                f"{self.folder} holds a model of the arm {then['arm']!r}, not of "
                f"{self.arm!r}. {_WAY_OUT}"
            )
        found = list(differences(then, now))
        others = [change for change in found if not change.startswith(_OF_FILES)]
        if others:
            changes = "\n".join(f"  {change}" for change in found)
            raise ExperimentError(
                f"{self.folder} holds the model of another experiment:\n{changes}\n"
                f"{_WAY_OUT}"
            )
        self.is_renewed = bool(found)
        if self.is_renewed:
            for part in (self.folder / _PARTS).glob("*.part"):
                part.unlink(missing_ok=True)
        return before

    def _check_unused(self, problem: str) -> None:
        """Raise if something is in the folder that is not known to be ours."""
        if not self._is_known():
            raise ExperimentError(
                f"{problem}, so that the model in {self.folder} cannot be attributed "
                f"to this experiment. {_WAY_OUT}"
            )
        ours = {MODEL, _PARTS, RESOLVED, ABOUT}
        names = {p.name for p in self.folder.iterdir()} if self.folder.is_dir() else ()
        others = sorted(name for name in names if not name.startswith((".", *ours)))
        if others and not (self.folder / RESOLVED).exists():
            raise ExperimentError(
                f"{self.folder} holds other files, such as {others[0]}. A model needs "
                "a folder of its own: choose another one (folder=, or --output on the "
                "command line)."
            )
        there = (self.folder / MODEL).exists() or (self.folder / _PARTS).exists()
        if (self.folder / RESOLVED).exists() and not there:
            raise ExperimentError(
                f"{self.folder} is the output folder of a run, not of a model. Choose "
                f"another folder, such as {self.folder / 'models' / self.arm}."
            )

    def _is_known(self) -> bool:
        """Whether a model or a part is of these settings, or nothing is there."""
        with contextlib.suppress(FileNotFoundError, SealError):
            record = read_sealed(self.folder / MODEL, kind=MODEL_KIND)[0]
            return bool(record["key"] == self.key)
        files = sorted((self.folder / _PARTS).glob("*.part"))
        return not files or any(map(self._is_own, files))

    def _is_own(self, file: Path) -> bool:
        arm, _, seed = file.stem.rpartition(".")
        if arm not in self.about["settings"]["arms"] or not seed.isdigit():
            return False
        try:
            self._read((arm, int(seed)))
        except (FileNotFoundError, SealError):
            return False
        return True
