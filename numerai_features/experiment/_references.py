"""The predictions of a benchmark and of the meta model: checked, matched by id.

They change how arms are judged. The fits of an arm depend on the benchmark only if its
recipe names it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numerai_features.experiment._schema import Problems

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from numerai_features.datasets._parquet_predictions import Predictions
    from numerai_features.experiment._eras import ScoredEras

REFERENCES = ("benchmark", "meta_model")
"""Keys of ``[data]`` for other models' files; each has a key with ``_column``, too."""


def check_references(tables: dict[str, Any], base: Path, problems: Problems) -> None:
    """Check the files and the columns of the references, and fill them in.

    Their files become a list of absolute paths. A column that is not set becomes the
    only one.

    Parameters
    ----------
    tables : dict
        The tables of an experiment; changed in place.
    base : pathlib.Path
        Absolute; the files are relative to it.
    problems : list of (path, message)
        New problems are appended.
    """
    data = tables["data"]
    told = {path for path, _ in problems}
    for name in REFERENCES:
        files, column = data[name], data[f"{name}_column"]
        path, of_column = ("data", name), ("data", f"{name}_column")
        if files is None:
            if column is not None and path not in told:
                message = f"needs data.{name}, the files with this column."
                problems.append((of_column, message))
        elif data["files"] is None:
            message = "is allowed only with data.files; synthetic data have no such "
            message += "predictions."
            problems.append((path, message))
        else:
            files = [files] if isinstance(files, str) else files
            data[name] = [os.path.abspath(base / file) for file in files]
            _check_reference(data, name, problems)


def _check_reference(data: dict[str, Any], name: str, problems: Problems) -> None:
    from numerai_features.datasets._parquet_names import check_files
    from numerai_features.datasets._parquet_predictions import choose_column

    path, key = ("data", name), f"{name}_column"

    def tell(path: tuple[str, ...], do: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return do(*arguments)
        except (OSError, ValueError) as error:
            problems.append((path, str(error)))
            return None

    files = tell(path, check_files, data[name])
    if files is not None:
        at = path if data[key] is None else ("data", key)
        data[key] = tell(at, choose_column, files, data[key], f"data.{key}")


def references_of(data: dict[str, Any]) -> list[str]:
    """Return the references that an experiment has, of `REFERENCES`."""
    return [name for name in REFERENCES if data[name] is not None]


def file_signature(file: str) -> dict[str, Any]:
    """Return what identifies the contents of a file: its path, size and time."""
    status = os.stat(file)
    return {"path": file, "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def reference_signature(data: dict[str, Any]) -> dict[str, Any]:
    """Return the columns and the files' sizes and times of the references."""
    return {
        name: {
            "column": data[f"{name}_column"],
            "files": [file_signature(file) for file in data[name]],
        }
        for name in references_of(data)
    }


def read_reference(data: dict[str, Any], name: str) -> Predictions:
    """Read a reference from its files.

    Raises
    ------
    ValueError
        If an id is missing or occurs twice, or a prediction is infinite.
    """
    from numerai_features.datasets._parquet_predictions import read_predictions

    files = [Path(file) for file in data[name]]
    return read_predictions(files, data[f"{name}_column"], f"data.{name}")


def read_for_rows(data: dict[str, Any], name: str, ids: Any) -> NDArray[np.float64]:
    """Return a reference's predictions of rows by id, NaN where it has none."""
    import pyarrow as pa

    return read_reference(data, name).at(pa.array(ids, pa.string()))[1]


def check_coverage(tables: dict[str, Any], scored: ScoredEras) -> None:
    """Raise if a reference has no prediction for any scored row.

    It also raises if an arm is trained with the benchmark, and the benchmark has no
    prediction for any training row of a fold.

    Only eras, ids and predictions are read, and nothing is written.

    Parameters
    ----------
    tables : dict
        The tables of an experiment.
    scored : ScoredEras
        The eras with a known target.

    Raises
    ------
    ValueError
        If it has none, an id is missing or occurs twice, or a prediction is infinite.
    """
    import numpy as np

    from numerai_features._eras import era_label
    from numerai_features.datasets._parquet_eras import read_ids

    data = tables["data"]
    names = references_of(data)
    if not names:
        return
    eras, ids = read_ids(data["files"])
    for name in names:
        reference = read_reference(data, name)
        there, values = reference.at(ids)
        if not there.any():
            raise ValueError(
                f"data.{name} and data.files have no id in common: their first ids are "
                f"{_first(reference.ids)} and {_first(ids)}. Use files of the same "
                "data release."
            )
        covered, tested = np.unique(eras[~np.isnan(values)]), scored.test
        if len(tested) and not np.isin(covered, tested).any():
            has = "no predictions for rows of data.files"
            if len(covered):
                first, last = (era_label(int(covered[at])) for at in (0, -1))
                has = f"predictions for eras {first} to {last}"
            first, last = (era_label(int(tested[at])) for at in (0, -1))
            raise ValueError(
                f"data.{name} covers none of the test eras, {first} to {last}: it has "
                f"{has}. Test on eras that it covers, or leave data.{name} out."
            )
        if name == "benchmark":
            _check_training(tables, covered, scored.train)


def _check_training(
    tables: dict[str, Any],
    covered: NDArray[np.int32],
    trained: list[NDArray[np.int32]],
) -> None:
    import numpy as np

    from numerai_features._eras import era_label
    from numerai_features.experiment._arms import recipes_of
    from numerai_features.experiment._benchmark import trained_with_benchmark

    for arm, recipe in recipes_of(tables).items():
        paths = trained_with_benchmark(tables, arm, recipe)
        for number, train in enumerate(trained, start=1):
            if not paths or np.isin(train, covered).any():
                continue
            first, last = (era_label(int(train[at])) for at in (0, -1))
            raise ValueError(
                f"{'.'.join(paths[0])}: data.benchmark covers none of the training "
                f"eras of fold {number}, {first} to {last}; its first era is "
                f"{era_label(int(covered[0]))}. Begin to test later "
                f"(cv.first_test_era), or leave the arm {arm!r} out."
            )


def _first(ids: Any) -> str:
    return repr(ids[0].as_py()) if len(ids) else "none"


def match_reference(
    data: dict[str, Any],
    name: str,
    ids: Any,
    eras: NDArray[np.int32],
    known: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], str | None]:
    """Return a reference's predictions of the test rows, and a note on gaps.

    Parameters
    ----------
    data : dict
        The table ``[data]``.
    name : str
        One of `REFERENCES`.
    ids : array-like of str of shape (n_rows,)
        Ids of the test rows.
    eras : ndarray of shape (n_rows,)
        Their era numbers.
    known : ndarray of bool
        Which of these rows have a known target.

    Returns
    -------
    values : ndarray of shape (n_rows,)
        NaN for a row without a prediction, and in eras in which more than a fifth of
        the known rows have none.
    note : str or None
        How many rows have no prediction; None if all have one.
    """
    values = read_for_rows(data, name, ids)
    return without_gaps(f"data.{name}", values, eras, known)


def without_gaps(
    told_as: str,
    values: NDArray[np.float64],
    eras: NDArray[np.int32],
    known: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], str | None]:
    """Return a reference's predictions without eras of few, and a note on gaps.

    See `match_reference`.
    """
    import numpy as np

    numbers, codes = np.unique(eras, return_inverse=True)
    n_rows = np.bincount(codes[known], minlength=len(numbers))
    missing = known & np.isnan(values)
    n_missing = np.bincount(codes[missing], minlength=len(numbers))
    few = _too_few(n_rows, n_missing)
    values = np.where(few[codes], np.nan, values)
    return values, _gaps(told_as, numbers, n_rows, n_missing)


def _too_few(
    n_rows: NDArray[np.intp], n_missing: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Return which eras are scored in part, and lack more rows than scores allow."""
    from numerai_features.metrics._era_scores import MAX_MISSING

    there = n_rows - n_missing
    few: NDArray[np.bool_] = (there > 0) & (there < (1 - MAX_MISSING) * n_rows)
    return few


def _gaps(
    told_as: str,
    numbers: NDArray[np.int32],
    n_rows: NDArray[np.intp],
    n_missing: NDArray[np.intp],
) -> str | None:
    """Return a note on the rows that have no prediction, by what becomes of them."""
    from numerai_features._eras import era_label

    if not n_missing.any():
        return None
    none, few = (n_rows > 0) & (n_missing == n_rows), _too_few(n_rows, n_missing)
    other = ~(none | few)
    parts = []
    for eras, what in (
        (none, "all rows of {} eras (the first is {})"),
        (few, "more than a fifth of the rows of {} eras, left out (the first is {})"),
    ):
        if eras.any():
            first = era_label(int(numbers[eras.argmax()]))
            parts.append(what.format(int(eras.sum()), first))
    if n_missing[other].any():
        parts.append(f"{int(n_missing[other].sum())} rows of other eras")
    return (
        f"{told_as} lacks {int(n_missing.sum())} of {int(n_rows.sum())} scored test "
        f"rows: {'; '.join(parts)}."
    )
