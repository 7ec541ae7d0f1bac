"""Checks and defaults that depend on several fields of an experiment file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from numerai_features.experiment._columns import Columns, check_columns, targets_of
from numerai_features.experiment._model import check_model
from numerai_features.experiment._references import check_references
from numerai_features.experiment._report import check_report
from numerai_features.experiment._schema import Problems, got
from numerai_features.experiment._tables import WINDOW


def check_tables(
    tables: dict[str, Any], base: Path, problems: Problems, *, trusted: bool
) -> Columns | None:
    """Check fields that depend on other fields or on the data files.

    Of several targets, the first one that the data have becomes the target. Files of a
    benchmark and a meta model become absolute paths, with the name of a column.

    Parameters
    ----------
    tables : dict
        The tables of an experiment, checked by `validate`.
    base : pathlib.Path
        Absolute; paths of data are relative to it.
    problems : list of (path, message)
        New problems are appended.
    trusted : bool
        Whether the model's parameters may reach files and other machines.

    Returns
    -------
    Columns or None
        The features; None if they are unknown.
    """
    columns = _check_data(tables, base, problems)
    check_references(tables, base, problems)
    _check_folds(tables["cv"], problems)
    check_report(tables["report"], problems)
    check_model(tables["model"], problems, trusted=trusted)
    return columns


def resolve_tables(
    tables: dict[str, Any],
    name: str,
    base: Path,
    output: str | os.PathLike[str] | None,
) -> None:
    """Fill in the defaults that depend on other fields, and make paths absolute.

    Parameters
    ----------
    tables : dict
        Tables without problems; changed in place.
    name : str
        Name of the default output folder.
    base : pathlib.Path
        Absolute; paths of data are relative to it.
    output : path or None
        Overrides ``output.folder``.
    """
    from numerai_features._horizon import purge_of_targets

    data, cv = tables["data"], tables["cv"]
    folder = output or tables["output"]["folder"] or Path("runs") / name
    tables["output"]["folder"] = os.path.abspath(folder)
    if data["files"] is not None:
        data["files"] = [os.path.abspath(base / file) for file in data["files"]]
        data["metadata"] = _metadata(data, tables["features"]["set"], base)
    else:
        _resolve_synthetic(data["synthetic"], tables)
    panel = base / data["panel"] if data["panel"] else Path(folder) / "panel"
    data["panel"] = os.path.abspath(panel)
    if cv["purge"] == "auto":
        cv["purge"] = purge_of_targets(targets_of(tables))


def _check_data(
    tables: dict[str, Any], base: Path, problems: Problems
) -> Columns | None:
    data, chosen = tables["data"], tables["features"]["set"]
    told = {path for path, _ in problems}
    if ("data", "files") in told:
        return None
    if (data["files"] is None) == ("synthetic" not in data):
        came = "neither" if data["files"] is None else "both"
        message = f"expected either files = [...] or [data.synthetic]; got {came}."
        problems.append((("data",), message))
    elif data["files"] is not None:
        if tables["targets"]["main"] is None and ("targets", "main") not in told:
            message = 'is required with data.files, as in main = "target_ender_60".'
            problems.append((("targets", "main"), message))
    else:
        if data["metadata"] is not None:
            message = (
                "is allowed only with data.files; synthetic data have no metadata."
            )
            problems.append((("data", "metadata"), message))
        if isinstance(chosen, str) and chosen != "all":
            message = f'got {got(chosen)}; expected "all" or names for synthetic data.'
            problems.append((("features", "set"), message))
    if (data["files"] is None) != ("synthetic" not in data):
        return check_columns(tables, base, problems)
    return None


def _check_folds(cv: dict[str, Any], problems: Problems) -> None:
    fewest, most = cv["min_train_eras"], cv["max_train_eras"]
    if fewest is not None and most is not None and fewest > most:
        message = f"got {fewest}; expected at most cv.max_train_eras, which is {most}."
        problems.append((("cv", "min_train_eras"), message))
    if cv["scheme"] == "k-fold":
        for name in WINDOW:
            if cv[name] is not None:
                message = 'needs scheme = "walk-forward"; got scheme = "k-fold".'
                problems.append((("cv", name), message))
        if cv["n_splits"] < 2:
            message = f"got {cv['n_splits']}; expected a whole number >= 2 for k-fold."
            problems.append((("cv", "n_splits"), message))


def _metadata(data: dict[str, Any], chosen: Any, base: Path) -> str | None:
    """Return the path of features.json; None if it neither exists nor is needed."""
    if data["metadata"] is not None:
        return os.path.abspath(base / str(data["metadata"]))
    beside = Path(data["files"][0]).parent / "features.json"
    return str(beside) if isinstance(chosen, str) or beside.exists() else None


def _resolve_synthetic(synthetic: dict[str, Any], tables: dict[str, Any]) -> None:
    if synthetic["random_state"] is None:
        synthetic["random_state"] = tables["seed"]
