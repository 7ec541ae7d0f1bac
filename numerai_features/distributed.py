"""Rows on the machines of a Dask cluster: moments and latents, partition by partition.

Each partition is read and computed on by the worker that has it; what travels between
workers are moments, and what is fitted. Everything here is lazy, as Dask has it, and
needs ``pip install 'numerai-features[dask]'``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from numerai_features._arguments import COUNT, ROWS, checked
from numerai_features._latents import works_by_era
from numerai_features._names import some_names
from numerai_features._optional import import_optional
from numerai_features._validation import (
    ERA_COLUMN,
    as_floats,
    as_frame,
    column_names,
    count_rows,
    frame_to_array,
    frame_to_numbers,
    is_frame,
    take_eras,
)
from numerai_features.compose import LatentFeatures
from numerai_features.datasets import EraPanel
from numerai_features.moments import EraMoments, Moments

__all__ = ["gather_moments", "panel_frame", "transform_partitions"]

_PARTITION_BYTES = 128 << 20


@checked(panel=[EraPanel], n_partitions=[COUNT, None])
def panel_frame(panel: EraPanel, *, n_partitions: int | None = None) -> Any:
    """Return a panel's rows as a Dask frame of whole eras.

    Workers get the path of a panel on disk and map their own rows, so the folder must
    be on a disk that all of them see under the same path. A panel in memory is sent to
    them, row by row.

    Parameters
    ----------
    panel : EraPanel
        The panel.
    n_partitions : int, default=None
        Number of partitions, at most one an era; None: as many as hold 128 MiB each.

    Returns
    -------
    dask.dataframe.DataFrame
        Column ``era`` with labels such as ``"0001"``, int8 features and float32
        targets. The index is the row's number in the panel; its ids are in
        ``panel.ids``.

    Examples
    --------
    >>> from numerai_features.datasets import make_era_panel
    >>> from numerai_features.distributed import panel_frame
    >>> panel = make_era_panel(n_eras=8, rows_per_era=100, random_state=0)
    >>> panel_frame(panel, n_partitions=4).divisions
    (0, 200, 400, 600, 799)
    """
    dask_frames = _dask("dask.dataframe", "panel_frame")
    n_eras = len(panel.era_numbers)
    if n_partitions is None:
        n_bytes = panel.X.nbytes + panel.targets.nbytes
        n_partitions = min(n_eras, -(-n_bytes // _PARTITION_BYTES))
    if n_partitions > n_eras:
        raise ValueError(
            f"n_partitions must be at most the number of eras, {n_eras}, since a "
            f"partition holds whole eras; got {n_partitions}."
        )
    eras = panel.era_numbers[np.arange(n_partitions) * n_eras // n_partitions]
    starts = [int(row) for row in np.searchsorted(panel.eras, eras)]
    return dask_frames.from_map(
        _read_rows,
        list(zip(starts, [*starts[1:], panel.n_rows], strict=True)),
        panel=panel,
        meta=_read_rows((0, 0), panel=panel),
        divisions=(*starts, panel.n_rows - 1),
    )


@checked(fill=[ROWS, None])
def gather_moments(parts: Any, *, fill: ArrayLike | None = None) -> Any:
    """Return the moments of all rows of a Dask frame, or of delayed tables.

    Each worker sums up the rows that it has. Moments of neighbouring parts are added in
    pairs, these in pairs again, and so on: the order is fixed, so the result does not
    depend on which worker was faster. It is that of one process to rounding error, and
    for unweighted bins to the last bit.

    Parameters
    ----------
    parts : dask.dataframe.DataFrame, or list of dask.delayed.Delayed
        Features, and a column ``era`` if there are eras; an era may be spread over
        several parts. A delayed table is a frame or an array, such as a row group of a
        parquet file. Parts without rows are left out.
    fill : array-like of shape (n_features,), default=None
        Value that replaces NaN in each column; without it NaN is an error.

    Returns
    -------
    dask.delayed.Delayed
        Its ``compute()`` returns `EraMoments` of one block, or `Moments` if the parts
        have no eras. `FactorAnalysisEmbedder.from_moments` takes either.

    Examples
    --------
    >>> import numpy as np
    >>> from dask import delayed
    >>> from numerai_features.distributed import gather_moments
    >>> rows = np.array([[0, 4], [2, 2], [4, 1]], dtype=np.int8)
    >>> parts = [delayed(rows[:2]), delayed(rows[2:])]
    >>> gather_moments(parts).compute(scheduler="sync").mean
    array([2.        , 2.33333333])
    """
    delayed = _dask("dask", "gather_moments").delayed
    if fill is not None:
        fill = as_floats(fill, "fill")
        if fill.ndim != 1 or not fill.size:
            raise ValueError(
                f"fill must be one value for each column; got shape {fill.shape}."
            )
    if _is_dask_frame(parts):
        # One task reads a partition and sums it up, so no worker keeps its rows.
        sums = parts.map_partitions(
            _sum_part, None, fill, meta=(None, object), enforce_metadata=False
        )
        level = sums.to_delayed()
    else:
        level = [
            delayed(_sum_part, pure=True)(part, number, fill)
            for number, part in enumerate(_check_parts(parts))
        ]
    while len(level) > 1:
        pairs = [level[i : i + 2] for i in range(0, len(level), 2)]
        level = [
            delayed(_sum_pair, pure=True)(*pair) if len(pair) == 2 else pair[0]
            for pair in pairs
        ]
    return delayed(_take_sums, pure=True)(level[0])


@checked(latents=[LatentFeatures])
def transform_partitions(latents: LatentFeatures, frame: Any) -> Any:
    """Return the features and latents of a Dask frame's rows.

    Each partition is transformed by the worker that has it, which gets the fitted
    `latents` once. If an embedder looks at all rows of an era, as with
    ``FactorAnalysisEmbedder(center="era")``, the column ``era`` is first read alone, to
    check that no era is spread over two partitions.

    Parameters
    ----------
    latents : LatentFeatures
        Fitted.
    frame : dask.dataframe.DataFrame
        The features of fit, and a column ``era`` if there are eras.

    Returns
    -------
    dask.dataframe.DataFrame
        The frame's index and column ``era``, followed by what
        ``latents.transform`` returns.

    Raises
    ------
    ValueError
        If an embedder looks at all rows of an era, and an era is spread over two
        partitions, or there is no column ``era``.

    Examples
    --------
    >>> from numerai_features import FactorAnalysisEmbedder, LatentFeatures
    >>> from numerai_features.datasets import make_era_panel
    >>> from numerai_features.distributed import panel_frame, transform_partitions
    >>> panel = make_era_panel(n_eras=8, rows_per_era=100, n_features=20,
    ...                           random_state=0)
    >>> latents = LatentFeatures(FactorAnalysisEmbedder(3), quantize="uint8")
    >>> latents = latents.fit(panel.select(every=4).as_X())
    >>> rows = panel_frame(panel, n_partitions=4)[["era", *panel.feature_names]]
    >>> transform_partitions(latents, rows).compute(scheduler="sync").shape
    (800, 24)
    """
    dask = _dask("dask", "transform_partitions")
    check_is_fitted(latents)
    if not _is_dask_frame(frame):
        raise ValueError(
            f"frame must be a dask.dataframe.DataFrame; got {type(frame).__name__}. "
            "Call latents.transform on rows of one machine."
        )
    if works_by_era(latents):
        _check_whole_eras(frame)
    like = _like_transformed(latents, frame._meta)
    # As a task of its own, which the partitions' tasks share.
    fitted = dask.delayed(latents, pure=True)
    return frame.map_partitions(_transform_part, fitted, like, meta=like)


class _Sums(NamedTuple):
    """Moments of parts, the names of their columns, and what the first is called."""

    moments: Moments | EraMoments | None  # None of no rows
    names: list[Any] | None
    first: str


def _dask(module: str, needed_by: str) -> Any:
    return import_optional(module, extra="dask", needed_by=needed_by)


def _is_dask_frame(value: Any) -> bool:
    kind = type(value)
    return kind.__module__.startswith("dask.") and kind.__name__ == "DataFrame"


def _check_parts(parts: Any) -> list[Any]:
    """Return delayed tables as a list; raise if they are none."""
    from dask.delayed import Delayed

    listed = parts if isinstance(parts, list | tuple) else ()
    others = [part for part in listed if not isinstance(part, Delayed)]
    if others or not listed:
        told = type((others or [parts])[0]).__name__
        raise ValueError(
            "parts must be a dask.dataframe.DataFrame or a list of dask.delayed "
            f"tables; got {told}. Use panel_frame for a panel, and Moments.from_rows "
            "for rows of one machine."
        )
    return list(parts)


def _read_rows(bounds: tuple[int, int], *, panel: EraPanel) -> Any:
    """Return some rows of a panel as a frame that shares the features' memory."""
    import pandas as pd

    start, stop = bounds
    features = as_frame(panel.as_X()[start:stop])
    y = pd.DataFrame(panel.targets[start:stop].copy(), columns=panel.target_names)
    frame = pd.concat([features, y], axis=1)
    # The type that Dask converts text to: it would copy all columns meanwhile.
    frame[ERA_COLUMN] = frame[ERA_COLUMN].astype("string[pyarrow]")
    frame.index = pd.RangeIndex(start, stop)
    return frame


def _sum_part(part: Any, number: int | None, fill: ArrayLike | None) -> _Sums:
    """Return the moments of the rows of one part."""
    name = "parts" if number is None else f"parts[{number}]"
    X, eras = take_eras(part, name=name)
    names = column_names(X) if is_frame(X) else None
    if count_rows(X, name) == 0:
        return _Sums(None, names, name)
    X = np.asarray(X) if names is None else frame_to_numbers(X, name)
    if X.ndim != 2 or X.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} must be a frame, or an array of numbers of shape (n_rows, "
            f"n_features); got {X.dtype} of shape {X.shape}."
        )
    if eras is None:
        return _Sums(Moments.from_rows(X, fill=fill), names, name)
    return _Sums(EraMoments.from_rows(X, eras, fill=fill), names, name)


def _sum_pair(one: _Sums, other: _Sums) -> _Sums:
    """Return the moments of the rows of both."""
    if one.names != other.names:
        raise ValueError(
            "parts must all have the same columns in the same order; "
            f"{one.first} has {_told(one.names)}, and {other.first} "
            f"{_told(other.names)}."
        )
    if one.moments is None or other.moments is None:
        return other._replace(first=one.first) if one.moments is None else one
    a, b = one.moments, other.moments
    if isinstance(a, Moments) and isinstance(b, Moments):
        return one._replace(moments=a + b)
    if isinstance(a, EraMoments) and isinstance(b, EraMoments):
        return one._replace(moments=_one_block(a + b))
    raise ValueError(
        f"parts must all have a column {ERA_COLUMN!r}, or none of them; of "
        f"{one.first} and {other.first} only one has it."
    )


def _told(names: list[Any] | None) -> str:
    return "no names" if names is None else some_names(names)


def _one_block(moments: EraMoments) -> EraMoments:
    """Return the same moments with one scatter matrix instead of one a block."""
    return EraMoments(
        moments.numbers,
        moments.weights,
        moments.totals,
        np.zeros_like(moments.block_of),
        [moments.total()],
        moments.named,
    )


def _take_sums(sums: _Sums) -> Moments | EraMoments:
    if sums.moments is None:
        raise ValueError("parts hold no rows; expected at least one.")
    return sums.moments


def _check_whole_eras(frame: Any) -> None:
    """Raise if an era is spread over two partitions."""
    dask = _dask("dask", "transform_partitions")
    advice = (
        "latents has an embedder that looks at all rows of an era. Use panel_frame, "
        "write the file by whole eras, or move them together with "
        f"frame.shuffle(on={ERA_COLUMN!r})."
    )
    if ERA_COLUMN not in frame.columns:
        raise ValueError(f"frame has no column {ERA_COLUMN!r}, but {advice}")
    columns = [dask.delayed(_unique)(part) for part in frame[ERA_COLUMN].to_delayed()]
    seen: dict[Any, int] = {}
    for number, labels in enumerate(dask.compute(*columns)):
        for label in labels:
            if label in seen:
                raise ValueError(
                    f"frame has rows of the era {label!r} in its partitions "
                    f"{seen[label]} and {number}, but {advice}"
                )
            seen[label] = number


def _unique(column: Any) -> list[Any]:
    return list(column.unique())


def _like_transformed(latents: Any, frame: Any) -> Any:
    """Return a transformed frame of no rows."""
    X, _ = take_eras(frame)
    dtype = latents._fitted_with.quantize or (
        np.float32 if latents.embedders_ else frame_to_array(X).dtype
    )
    names = [n for n in latents.get_feature_names_out() if n != ERA_COLUMN]
    return _framed(np.empty((0, len(names)), dtype), names, frame)


def _framed(table: NDArray[Any], names: list[Any], frame: Any) -> Any:
    """Return a table with the index and the eras of the frame it was made of."""
    import pandas as pd

    out = pd.DataFrame(table, columns=names, index=frame.index, copy=False)
    if ERA_COLUMN in frame.columns:
        out.insert(0, ERA_COLUMN, frame[ERA_COLUMN])
    return out


def _transform_part(frame: Any, latents: Any, like: Any) -> Any:
    """Transform the rows of one partition."""
    if not len(frame):
        return like
    table = latents.transform(frame)
    if is_frame(table):  # of keep_era, or of set_output
        table = frame_to_array(take_eras(table)[0])
    names = [name for name in like.columns if name != ERA_COLUMN]
    dtype = like.dtypes[names[0]]
    table = table.astype(dtype, casting="same_kind", copy=False)
    return _framed(table, names, frame)
