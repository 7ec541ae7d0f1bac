"""Read Numerai's parquet files into a panel, one batch of rows at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._progress import progress
from numerai_features.datasets._arguments import (
    PathLike,
    check_flag,
    check_path,
    check_whole,
)
from numerai_features.datasets._metadata import NumeraiMetadata
from numerai_features.datasets._panel import EraPanel
from numerai_features.datasets._panel_checks import check_info
from numerai_features.datasets._panel_select import check_every
from numerai_features.datasets._panel_writer import PanelWriter
from numerai_features.datasets._parquet_batches import (
    Batch,
    batches,
    new_scratch,
    pieces,
    take_rows,
)
from numerai_features.datasets._parquet_names import (
    check_files,
    choose_features,
    choose_targets,
    find_metadata,
    read_columns,
)
from numerai_features.datasets._parquet_plan import Plan, make_plan, read_keys


def read_numerai(
    files: PathLike | Sequence[PathLike],
    path: PathLike | None = None,
    *,
    metadata: PathLike | NumeraiMetadata | None = None,
    features: str | Sequence[str] = "all",
    targets: Sequence[str] | None = None,
    eras: Iterable[Any] | None = None,
    every: int = 1,
    missing: str = "middle",
    overwrite: bool = False,
    info: dict[str, Any] | None = None,
    batch_rows: int = 8_192,
    verbose: bool = True,
) -> EraPanel:
    """Read Numerai's parquet files into a panel.

    Rows are copied from the files to the panel in batches, with one byte per cell. The
    memory needed is that of one batch (some 20 bytes per cell while it is decoded),
    plus some 130 bytes for each row of the files. The rows are sorted by era; within an
    era they keep the order of the files.

    Parameters
    ----------
    files : path or sequence of paths
        ``train.parquet``, ``validation.parquet``, ``live.parquet`` of any v5
        release, in any combination. Ids are read from the column ``id``; otherwise
        from the index that pandas wrote, whatever its name; otherwise from ``ID`` or
        ``Id``.
    path : path, default=None
        Folder to write the panel to; None keeps it in memory.
    metadata : path or NumeraiMetadata, default=None
        The ``features.json`` of the same release; None uses the one beside the first
        file.
    features : str or sequence of str, default="all"
        Name of a feature set (``"small"``, ``"medium"``, ``"all"``, ...), or
        feature names, in the order of the panel's columns.
    targets : sequence of str, default=None
        Target names; None reads all targets of the metadata that the files have. Any
        numeric column that is not a feature can be a target. If a file lacks a target,
        the target is NaN in the file's rows.
    eras : iterable of labels or numbers, default=None
        Eras to keep; None keeps all.
    every : int, default=1
        Keep every n-th of those eras, by position among the sorted eras of all
        files together, as in ``eras[::4]``.
    missing : {"middle", "raise"}, default="middle"
        How to handle missing feature values: replace them by the middle bin, 2, and
        count them in ``panel.info["n_missing"]``; or raise.
    overwrite : bool, default=False
        Whether to replace a panel at `path`. A folder with any files other than a
        panel's is never replaced.
    info : dict, default=None
        Additional information to store with the panel; anything that JSON can hold.
    batch_rows : int, default=8192
        Number of rows decoded at a time. Larger batches need more memory and are not
        faster.
    verbose : bool, default=True
        Whether to show a progress bar.

    Returns
    -------
    EraPanel
        Its ``info`` holds the names of the ``files``, ``n_missing``, and the
        ``feature_set`` if `features` is the name of one.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        If there is no such file, or it is a folder.
    FileExistsError
        If `path` exists and may not be overwritten.
    ValueError
        If a file is truncated, lacks a column, or holds a feature value other than
        0 to 4 or an infinite target; if an id occurs twice; if a name is unknown.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import pandas as pd
    >>> from numerai_features.datasets import read_numerai
    >>> rows = pd.DataFrame(
    ...     {
    ...         "era": ["0001", "0001", "0002"],
    ...         "feature_a": np.array([0, 4, 2], np.int8),
    ...         "target": np.array([0.25, 0.5, 0.75], np.float32),
    ...     },
    ...     index=pd.Index(["n1", "n2", "n3"], name="id"),
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rows.to_parquet(f"{folder}/train.parquet")
    ...     panel = read_numerai(
    ...         f"{folder}/train.parquet", features=["feature_a"], verbose=False
    ...     )
    >>> panel
    EraPanel(n_rows=3, n_features=1, eras='0001'..'0002' (2), targets=['target'])
    >>> panel.info
    {'files': ['train.parquet'], 'n_missing': 0}
    """
    paths = check_files(files)
    _check_options(missing, every, batch_rows, overwrite, verbose)
    path = None if path is None else check_path(path, "path")
    info = check_info(info)
    columns = {file: read_columns(file) for file in paths}
    known = find_metadata(metadata, paths[0], needed=isinstance(features, str))
    info |= {"files": [file.name for file in paths], "n_missing": 0}
    if isinstance(features, str):
        info["feature_set"] = features
    feature_names = choose_features(features, known, columns)
    target_names = choose_targets(targets, known, columns)
    with progress(hidden=not verbose, unit=" rows", desc="eras and ids") as bar:
        plan = make_plan([read_keys(file) for file in paths], eras, every)
        bar.reset(total=plan.n_rows)
        with PanelWriter(
            path,
            n_rows=plan.n_rows,
            feature_names=feature_names,
            target_names=target_names,
            overwrite=overwrite,
            info=info,
        ) as writer:
            _copy_rows(plan, writer, missing, batch_rows, bar)
            bar.set_description("checksums")
        bar.set_description("panel")
    return writer.panel


def _check_options(
    missing: Any, every: Any, batch_rows: Any, overwrite: Any, verbose: Any
) -> None:
    if missing not in ("middle", "raise"):
        raise ValueError(f"missing must be 'middle' or 'raise'; got {missing!r}.")
    check_every(every)
    check_whole(batch_rows, "batch_rows")
    check_flag(overwrite, "overwrite")
    check_flag(verbose, "verbose")


def _copy_rows(
    plan: Plan, writer: PanelWriter, missing: str, batch_rows: int, bar: Any
) -> None:
    scratch = new_scratch(len(writer.feature_names), batch_rows)
    wanted = [*writer.feature_names, *writer.target_names]
    for key, numbers, places in zip(plan.keys, plan.numbers, plan.places, strict=True):
        bar.set_description(key.file.name)
        for start, batch in batches(key.file, places >= 0, wanted, batch_rows):
            rows = slice(start, start + batch.num_rows)
            decoder = Batch(batch, key.file, start, places[rows] >= 0)
            X, n_missing = decoder.features(writer.feature_names, scratch, missing)
            y = decoder.targets(writer.target_names)
            ids = None if key.ids is None else key.ids[rows]
            writer.info["n_missing"] += n_missing
            bar.update(_write(writer, places[rows], X, numbers[rows], y, ids))


def _write(
    writer: PanelWriter,
    places: NDArray[np.int64],
    X: NDArray[np.int8],
    numbers: NDArray[np.int32],
    y: NDArray[np.float32],
    ids: Any,
) -> int:
    """Write a batch's rows to their places; return how many were kept."""
    import pyarrow as pa

    for rows, place in pieces(places):
        if ids is None:
            chosen = None
        else:
            chosen = ids[rows] if isinstance(rows, slice) else ids.take(pa.array(rows))
        writer.write(place, take_rows(X, rows), numbers[rows], y[rows], chosen)
    return int((places >= 0).sum())
