"""Check an experiment's features and target against the columns of its data."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from numerai_features._names import near_names, some_names
from numerai_features.experiment._schema import KeyPath, Problems, got

_FILES, _METADATA = ("data", "files"), ("data", "metadata")
_MAIN = ("targets", "main")
_SET = ("features", "set")


def check_columns(tables: dict[str, Any], base: Path, problems: Problems) -> int | None:
    """Check that the data have features and target, before rows are read or written.

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
    int or None
        Number of features; None if it is unknown.
    """
    if tables["data"]["files"] is None:
        return _check_synthetic(tables, problems)
    return _check_files(tables, base, problems)


def _check_files(tables: dict[str, Any], base: Path, problems: Problems) -> int | None:
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
    _choose_target(tables, there, "of these files", problems)
    return None if features is None else len(features)


def _check_synthetic(tables: dict[str, Any], problems: Problems) -> int:
    from numerai_features.datasets._synthetic import feature_names, target_horizons

    synthetic, chosen = tables["data"]["synthetic"], tables["features"]["set"]
    there = list(target_horizons(synthetic["n_targets"], synthetic["horizon"]))
    _choose_target(tables, there, "of these synthetic data", problems)
    if not isinstance(chosen, list):
        return int(synthetic["n_features"])
    known = feature_names(synthetic["n_features"])
    strange = [name for name in chosen if name not in set(known)]
    if strange:
        near = near_names(strange[0], known)
        message = f"{some_names(strange)} is no feature of these synthetic data.{near}"
        problems.append(
            (_SET, f"{message} There are {len(known)}: {some_names(known)}.")
        )
    return len(chosen)


def _choose_target(
    tables: dict[str, Any], there: list[str], where: str, problems: Problems
) -> None:
    """Replace the named targets by the first one that the data have."""
    main = tables["targets"]["main"]
    if main is None:  # already a problem, or the first one of synthetic data
        return
    names = [main] if isinstance(main, str) else main
    found = [name for name in names if name in there]
    if found:
        tables["targets"]["main"] = found[0]
        return
    known = f"There are {len(there)}: {some_names(there)}."
    near = near_names(names[0], there)
    problems.append(
        (_MAIN, f"got {got(main)}, which is no target {where}.{near} {known}")
    )
