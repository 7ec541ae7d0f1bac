"""XGBoost's binned rows, made of a table block by block."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._arguments import COUNT, ROWS, TABLE, THREADS, Methods, checked
from numerai_features._blocks import row_blocks
from numerai_features._optional import import_optional
from numerai_features._scratch import folder_of, give_back
from numerai_features._validation import (
    check_columns_of_numbers,
    check_same_rows,
    check_weights,
    column_names,
    frame_to_array,
    is_frame,
    take_eras,
    take_rows,
    validate_target,
)
from numerai_features.trees._lightgbm import MAX_BIN

if TYPE_CHECKING:
    from xgboost import QuantileDMatrix

_BLOCK_BYTES = 64 << 20  # of rows, at one byte a cell


@checked(
    X=[TABLE],
    y=[ROWS, None],
    sample_weight=[ROWS, None],
    feature_names=[ROWS, None],
    max_bin=[COUNT],
    ref=[Methods(["num_row", "num_col", "get_label"]), None],
    external_memory=["boolean"],
    n_jobs=THREADS,
)
def quantile_dmatrix(
    X: Any,
    y: Any = None,
    *,
    sample_weight: Any = None,
    feature_names: Any = None,
    max_bin: int = MAX_BIN,
    ref: Any = None,
    external_memory: bool = False,
    n_jobs: int | None = None,
) -> QuantileDMatrix:
    """Bin rows for XGBoost block by block, so that no copy of the table is made.

    XGBoost keeps two to two and a half bytes a cell of its own. With `external_memory`
    it keeps them in files, and reads them again for each level of a tree.

    Parameters
    ----------
    X : array-like, frame or PanelRows of shape (n_rows, n_features)
        Integers or floats; NaN is missing. A frame's column ``era`` is left out.
    y : array-like of shape (n_rows,), default=None
        Target. Rows whose target is NaN are left out.
    sample_weight : array-like of shape (n_rows,), default=None
        Weights of the rows.
    feature_names : list of str, default=None
        Names of the columns; by default those of a frame or panel, if there are any.
    max_bin : int, default=63
        Number of bins, as in `make_xgboost`. Pass the same number in the parameters of
        ``xgboost.train``.
    ref : QuantileDMatrix, default=None
        Training rows, whose bins are used: pass it for rows to validate on.
    external_memory : bool, default=False
        Whether to return an ``ExtMemQuantileDMatrix`` (XGBoost 3.0 or later), whose
        bins are in a temporary folder: beside the file that X is mapped from, if it is,
        and removed with the matrix.
    n_jobs : int, default=None
        Number of threads; None means all.

    Returns
    -------
    xgboost.QuantileDMatrix

    Raises
    ------
    ImportError
        If XGBoost is not installed, or is older than 3.0 for `external_memory`.
    OSError
        If there can be no folder for the bins of `external_memory`.
    ValueError
        If X is not numeric or not finite as float32, y or the weights have other rows,
        or `ref` has other columns, or another order of them.

    See Also
    --------
    tree_table : The rows for LightGBM.

    Examples
    --------
    >>> import numpy as np
    >>> from numerai_features.trees import quantile_dmatrix
    >>> rows = quantile_dmatrix(np.array([[0, 4], [2, 1]], np.int8), [0.25, 0.5])
    >>> rows.num_row(), rows.num_col()
    (2, 2)
    """
    xgboost = import_optional("xgboost", extra="xgboost", needed_by="quantile_dmatrix")
    table, names = read_cells(X, feature_names)
    if ref is not None:
        check_ref(ref.num_col(), ref.feature_names, table.shape[1], names)
    known, parts = read_beside(X, y, sample_weight, len(table))
    options = {"max_bin": max_bin, "ref": ref, "nthread": n_jobs}
    if not external_memory:
        blocks, stopped = _iterator(xgboost, table, known, parts, names)
        return _built(xgboost.QuantileDMatrix, blocks, stopped, options)
    if not hasattr(xgboost, "ExtMemQuantileDMatrix"):
        raise ImportError(
            f"external_memory=True needs XGBoost 3.0 or later; this is "
            f"{xgboost.__version__}. Install a later one, or leave it False."
        )
    folder = _new_folder(_place_beside(block_of(table, slice(1))))
    cache = f"{folder.name}/bins"
    blocks, stopped = _iterator(xgboost, table, known, parts, names, cache_prefix=cache)
    try:
        matrix = _built(xgboost.ExtMemQuantileDMatrix, blocks, stopped, options)
    except BaseException:
        folder.cleanup()
        raise
    weakref.finalize(matrix, folder.cleanup)
    return matrix


def _place_beside(table: NDArray[Any]) -> Path | None:
    """Return a folder on the disk of a table that is mapped from a file, if it is."""
    folder = folder_of(table)
    # A panel's own folder holds nothing but the panel.
    return folder.parent if folder and (folder / "panel.json").exists() else folder


def check_ref(
    n_others: int, others: list[str] | None, n_columns: int, names: list[str] | None
) -> None:
    """Raise if the rows whose bins are used have `others` than the columns of X."""
    if n_others != n_columns:
        raise ValueError(
            f"ref has {n_others} columns, but X has {n_columns}. Pass the training "
            "rows of the same columns."
        )
    if names and others and names != list(others):
        j = next(j for j in range(n_columns) if names[j] != others[j])
        raise ValueError(
            f"Column {j} of X is {names[j]!r}, but {others[j]!r} in ref. Pass the "
            "columns in the order of the training rows."
        )


def _new_folder(place: Path | None) -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(dir=place, prefix="xgboost-")
    except OSError as error:
        raise OSError(
            error.errno,
            "external_memory=True keeps bins in a folder beside the file of the rows, "
            "or for rows in memory, in that of temporary files, which could not be "
            f"made ({error.strerror}). Make it possible to write there, save the panel "
            "to another disk, or set TMPDIR",
            *([] if place is None else [str(place)]),
        ) from error


def read_cells(X: Any, feature_names: Any) -> tuple[Any, list[str] | None]:
    """Return rows whose slices `block_of` reads, and the names of their columns."""
    X, _ = take_eras(X)
    names = None
    if is_frame(X):
        check_columns_of_numbers(X)
        names = [str(name) for name in column_names(X)]
    else:
        X = np.asarray(X)
        if X.ndim != 2:
            raise ValueError(
                f"X must be two-dimensional, (n_rows, n_features); got shape {X.shape}."
            )
        if X.dtype.kind not in "biuf":
            raise ValueError(f"X must hold real numbers; got an array of {X.dtype}.")
    if not (X.shape[0] and X.shape[1]):
        raise ValueError(f"X must have rows and columns; got shape {X.shape}.")
    if feature_names is None:
        return X, names
    names = [str(name) for name in feature_names]
    if len(names) != X.shape[1]:
        raise ValueError(
            f"feature_names has {len(names)} names, but X has {X.shape[1]} columns."
        )
    return X, names


def read_beside(
    X: Any, y: Any, sample_weight: Any, n_rows: int
) -> tuple[NDArray[np.bool_], dict[str, NDArray[Any]]]:
    """Return which rows have a target; targets and weights by the libraries' names."""
    check_same_rows(X=X, y=y, sample_weight=sample_weight)
    known = np.ones(n_rows, bool)
    parts: dict[str, NDArray[Any]] = {}
    if y is not None:
        parts["label"] = validate_target(y, n_rows)
        known = ~np.isnan(parts["label"])
    if sample_weight is not None:
        weights = check_weights(sample_weight, n_rows)
        assert weights is not None
        parts["weight"] = weights
    return known, parts


def block_of(table: Any, rows: slice) -> NDArray[Any]:
    """Return some rows as an array."""
    return frame_to_array(take_rows(table, rows)) if is_frame(table) else table[rows]


def _iterator(
    xgboost: Any,
    table: Any,
    known: NDArray[np.bool_],
    parts: dict[str, NDArray[Any]],
    names: list[str] | None,
    **options: Any,
) -> tuple[Any, list[BaseException]]:
    """Return an iterator over blocks of rows that XGBoost can go through again.

    The list gets what is raised meanwhile: XGBoost loses an interrupt.
    """
    seen: list[slice] = []
    stopped: list[BaseException] = []
    steps = _steps(table, known, parts, names, seen, stopped)
    next(steps)

    class Blocks(xgboost.DataIter):
        def reset(self) -> None:
            """Start again; the instance's own is called instead."""

        def next(self, give: Any) -> bool:
            """Give the next block; the instance's own is called instead."""
            return False

    iterator: Any = Blocks(**options)
    # No line of Python runs in these two that could be interrupted without telling.
    iterator.reset, iterator.next = seen.clear, steps.send
    return iterator, stopped


def _steps(
    table: Any,
    known: NDArray[np.bool_],
    parts: dict[str, NDArray[Any]],
    names: list[str] | None,
    seen: list[slice],
    stopped: list[BaseException],
) -> Generator[bool, Any, None]:
    """Give a block at each step; yield whether there was one.

    Until `seen` is cleared, which starts again, it holds the blocks that were given.
    """
    step = max(1, _BLOCK_BYTES // max(1, table.shape[1]))
    blocks = list(row_blocks(len(table), table.shape[1], step))
    is_given = False
    while True:
        try:
            give = yield is_given
            is_given = False
            if stopped:
                continue
            if not seen:
                give_back()  # what the pass before has freed, such as the sketches
            for rows in blocks[len(seen) :]:
                seen.append(rows)
                keep = known[rows]
                if not keep.any():
                    continue
                own = {name: values[rows][keep] for name, values in parts.items()}
                cells = block_of(table, rows)
                cells = cells if keep.all() else cells[keep]
                if cells.dtype.kind == "f":
                    _check_finite(cells, rows.start, keep)
                give(data=cells, feature_names=names, **own)
                is_given = True
                break
        except GeneratorExit:
            return
        except BaseException as error:
            stopped.append(error)
            is_given = False


def _check_finite(cells: NDArray[Any], start: int, keep: NDArray[np.bool_]) -> None:
    """Raise if cells are not finite as float32, which XGBoost reads; NaN may be.

    They are the rows to `keep` of a block that begins at `start`.
    """
    large = np.abs(cells) > np.finfo(np.float32).max
    if large.any():
        i, column = np.argwhere(large)[0]
        row = start + np.flatnonzero(keep)[i]
        raise ValueError(
            f"X contains {cells[i, column]} in row {row}, column {column}, which is "
            "infinity in float32. Set such cells to NaN, which is missing, or clip "
            "them."
        )


def _built(
    kind: Any, blocks: Any, stopped: list[BaseException], options: dict[str, Any]
) -> QuantileDMatrix:
    """Return a matrix of all blocks, or raise what stopped them."""
    try:
        matrix: QuantileDMatrix = kind(blocks, **options)
        if not stopped:
            return matrix
        del matrix  # the error would keep it, and XGBoost misses its files at the end
    except Exception:
        if not stopped:
            raise
    raise stopped[0]
