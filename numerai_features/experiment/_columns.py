"""The features and targets that an experiment names, against those of its data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from numerai_features._names import near_names, some_names
from numerai_features.experiment._schema import KeyPath, Problems, got

_FILES, _METADATA = ("data", "files"), ("data", "metadata")
_MAIN = ("targets", "main")
_ALSO = ("targets", "also")
_SET = ("features", "set")


@dataclass(frozen=True)
class Columns:
    """The features of an experiment.

    Attributes
    ----------
    features : list of str
        Their names.
    metadata : NumeraiMetadata or None
        The feature sets of the data.
    """

    features: Sequence[str]
    metadata: Any = None

    def names(self, chosen: str | list[str] | None) -> list[str]:
        """Return the names of a set's features, or the names that are given.

        Raises
        ------
        ValueError
            If there is no such set, or a feature is none of the experiment's.
        """
        if chosen is None or chosen == "all":
            return list(self.features)
        if isinstance(chosen, str):
            if self.metadata is None:
                raise ValueError(
                    f"got {got(chosen)}; there is no features.json that has feature "
                    'sets. Expected "all" or names of features.'
                )
            chosen = list(self.metadata.features(chosen))
        known = set(self.features)
        strange = [name for name in chosen if name not in known]
        if strange:
            near = near_names(strange[0], list(self.features))
            raise ValueError(
                f"{some_names(strange)} is none of the {len(known)} features of this "
                f"experiment.{near}"
            )
        if len(set(chosen)) < len(chosen):
            raise ValueError("names a feature twice.")
        return list(chosen)

    def count(self, chosen: str | list[str] | None) -> int:
        """Return the number of features of a choice; of all if it is not valid."""
        try:
            return len(self.names(chosen))
        except ValueError:
            return len(self.features)

    def tell(self, chosen: Any, problems: Problems, path: KeyPath) -> None:
        """Append the problem of a choice."""
        try:
            self.names(chosen)
        except ValueError as error:
            problems.append((path, str(error)))


def columns_of(tables: dict[str, Any], features: Sequence[str]) -> Columns:
    """Return the features of an experiment that is resolved."""
    from numerai_features.datasets import NumeraiMetadata

    file = tables["data"]["metadata"]
    return Columns(features, None if file is None else NumeraiMetadata.read(file))


def targets_of(tables: dict[str, Any]) -> list[str]:
    """Return the main target, and then the others."""
    targets = tables["targets"]
    return [targets["main"], *(targets["also"] or [])]


def check_columns(
    tables: dict[str, Any], base: Path, problems: Problems
) -> Columns | None:
    """Check that the data have features and targets, before rows are read or written.

    Of several targets, the first one that the data have becomes the target.

    Parameters
    ----------
    tables : dict
        The tables of an experiment that has either files or synthetic data.
    base : pathlib.Path
        Absolute; paths of data are relative to it.
    problems : list of (path, message)
        New problems are appended.

    Returns
    -------
    Columns or None
        None if they are unknown.
    """
    if tables["data"]["files"] is None:
        return _check_synthetic(tables, problems)
    return _check_files(tables, base, problems)


def _check_files(
    tables: dict[str, Any], base: Path, problems: Problems
) -> Columns | None:
    from numerai_features.datasets import NumeraiMetadata
    from numerai_features.datasets._parquet_names import (
        check_file,
        check_files,
        choose_features,
        find_metadata,
        possible_targets,
        read_columns,
    )

    def tell(path: KeyPath, do: Callable[..., Any], *arguments: Any) -> Any:
        """Return a function's result; if it raises, add a problem and return None."""
        try:
            return do(*arguments)
        except (OSError, ValueError) as error:
            problems.append((path, str(error)))
            return None

    data, chosen = tables["data"], tables["features"]["set"]
    n_before = len(problems)
    files = [base / file for file in data["files"]]
    given = None if data["metadata"] is None else base / data["metadata"]
    for file in files:
        tell(_FILES, check_file, file)
    if given is not None:
        tell(_METADATA, NumeraiMetadata.read if given.is_dir() else check_file, given)
    if len(problems) == n_before:
        tell(_FILES, check_files, files)
    if len(problems) > n_before:
        return None
    columns = {file: tell(_FILES, read_columns, file) for file in files}
    find = partial(find_metadata, needed=isinstance(chosen, str))
    metadata = tell(_METADATA, find, given, files[0])
    if len(problems) > n_before:
        return None
    features = tell(_SET, choose_features, chosen, metadata, columns)
    there = possible_targets(metadata, columns)
    _choose_targets(tables, there, "of these files", problems)
    return None if features is None else Columns(features, metadata)


def _check_synthetic(tables: dict[str, Any], problems: Problems) -> Columns:
    from numerai_features.datasets._synthetic import feature_names, target_horizons

    synthetic, chosen = tables["data"]["synthetic"], tables["features"]["set"]
    there = list(target_horizons(synthetic["n_targets"], synthetic["horizon"]))
    _choose_targets(tables, there, "of these synthetic data", problems)
    known = feature_names(synthetic["n_features"])
    if not isinstance(chosen, list):
        return Columns(known)
    strange = [name for name in chosen if name not in set(known)]
    if strange:
        near = near_names(strange[0], known)
        message = f"{some_names(strange)} is no feature of these synthetic data.{near}"
        problems.append(
            (_SET, f"{message} There are {len(known)}: {some_names(known)}.")
        )
    return Columns(chosen)


def _choose_targets(
    tables: dict[str, Any], there: list[str], where: str, problems: Problems
) -> None:
    """Replace the main targets by the first one that the data have; check the others.

    Others that are the main target, or are named twice, are left out.
    """
    targets = tables["targets"]
    main, also = targets["main"], targets["also"] or []
    known = f"There are {len(there)}: {some_names(there)}."
    for name in also:
        if name not in there:
            near = near_names(name, there)
            message = f"got {got(name)}, which is no target {where}.{near} {known}"
            problems.append((_ALSO, message))
    if main is None:  # already a problem, or the first one of synthetic data
        main = [there[0]] if tables["data"]["files"] is None else []
    names = [main] if isinstance(main, str) else main
    found = [name for name in names if name in there]
    if found:
        targets["main"] = found[0]
        others = [name for name in dict.fromkeys(also) if name != found[0]]
        targets["also"] = others or None
    elif names:
        near = near_names(names[0], there)
        message = f"got {got(targets['main'])}, which is no target {where}.{near} "
        problems.append((_MAIN, message + known))
