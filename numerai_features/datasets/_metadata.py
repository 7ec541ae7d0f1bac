"""Numerai's ``features.json``: the features of each set, and the target names."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numerai_features._names import near_names, some_names
from numerai_features.datasets._arguments import check_path, check_strings


def check_known(wanted: Sequence[str], known: Sequence[str], *, what: str) -> None:
    """Raise if a requested name is unknown, or is requested twice.

    Parameters
    ----------
    wanted, known : sequence of str
        The requested names, and all known names.
    what : str
        End of the sentence about an unknown name: ``"is no feature of this panel"``.

    Raises
    ------
    ValueError
        The message lists the unknown names and suggests similar ones.
    """
    present = set(known)
    strange = [n for n in wanted if not isinstance(n, str) or n not in present]
    if strange:
        raise ValueError(
            f"{some_names(strange)} {what}.{near_names(strange[0], known)} "
            f"There are {len(known)}: {some_names(known)}."
        )
    if len(set(wanted)) < len(wanted):
        twice = next(name for i, name in enumerate(wanted) if name in wanted[:i])
        raise ValueError(f"{twice!r} is requested twice; name each column once.")


@dataclass(frozen=True)
class NumeraiMetadata:
    """Contents of ``features.json`` for one version of the data.

    Parameters
    ----------
    feature_sets : dict of str to tuple of str
        Feature names of each set, in the file's order.
    targets : tuple of str
        Target names.

    Examples
    --------
    >>> metadata = NumeraiMetadata({"small": ("feature_a", "feature_b")}, ("target",))
    >>> metadata.features("small")
    ['feature_a', 'feature_b']
    >>> metadata.features("smal")
    Traceback (most recent call last):
    ...
    ValueError: 'smal' is no feature set. Did you mean 'small'? There are 1: 'small'.
    """

    feature_sets: dict[str, tuple[str, ...]]
    targets: tuple[str, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.feature_sets, Mapping):
            raise ValueError(
                f"feature_sets must be a dict of lists of names; got "
                f"{self.feature_sets!r}."
            )
        check_strings(self.feature_sets.keys(), "feature_sets")
        sets = {
            name: tuple(check_strings(names, f"feature_sets[{name!r}]"))
            for name, names in self.feature_sets.items()
        }
        targets = tuple(check_strings(self.targets, "targets"))
        object.__setattr__(self, "feature_sets", sets)  # a copy of the caller's
        object.__setattr__(self, "targets", targets)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> NumeraiMetadata:
        """Read a ``features.json``.

        Parameters
        ----------
        path : str or path-like
            The file, of any v5 release; keys other than ``feature_sets`` and
            ``targets`` are ignored.

        Returns
        -------
        NumeraiMetadata

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is not JSON, or lacks these keys.
        """
        path = check_path(path, "path")
        content = _read_json(path)
        if not _well_formed(content):
            raise ValueError(
                f"{path} is no Numerai features.json: expected the keys 'feature_sets' "
                "(lists of names) and 'targets' (a list of names). Pass the "
                "features.json of the same data release as the parquet files."
            )
        return cls(content["feature_sets"], tuple(content["targets"]))

    def features(self, name: str = "all") -> list[str]:
        """Return the feature names of a set, in the file's order.

        Parameters
        ----------
        name : str, default="all"
            ``"small"``, ``"medium"``, ``"all"`` or another key of `feature_sets`.

        Returns
        -------
        list of str

        Raises
        ------
        ValueError
            If there is no such set; the message suggests similar names.
        """
        if not isinstance(name, str) or name not in self.feature_sets:
            sets = list(self.feature_sets)
            raise ValueError(
                f"{name!r} is no feature set.{near_names(name, sets)} There are "
                f"{len(sets)}: {', '.join(map(repr, sets))}."
            )
        return list(self.feature_sets[name])


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except IsADirectoryError as error:
        raise IsADirectoryError(
            f"{path} is a folder; expected the path of a features.json.{_inside(path)}"
        ) from error
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"There is no file {path}. Download the features.json of the same data "
            "release as the parquet files, or pass its path as metadata=."
        ) from error
    except (ValueError, RecursionError) as error:  # JSON and unicode errors
        raise ValueError(
            f"{path} is not JSON ({error}). It may be truncated: download it again."
        ) from error


def _inside(folder: Path) -> str:
    file = folder / "features.json"
    return f" Pass {file}." if file.is_file() else ""


def _well_formed(content: Any) -> bool:
    if not isinstance(content, dict):
        return False
    sets = content.get("feature_sets")
    return (
        isinstance(sets, dict)
        and all(map(_is_names, sets.values()))
        and _is_names(content.get("targets"))
    )


def _is_names(names: Any) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)
