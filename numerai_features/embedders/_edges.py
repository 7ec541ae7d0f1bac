"""Edges of the neighbour graph: search, hold-out and label bins."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._bins import MOST_BINS
from numerai_features._blocks import row_blocks
from numerai_features._rows import Rows
from numerai_features._validation import fill_missing
from numerai_features.embedders._axes import Axes, as_in_metric
from numerai_features.embedders._fuzzy_graph import FuzzyGraph
from numerai_features.embedders._holdout import (
    FEWEST_ERAS,
    FEWEST_ROWS,
    hold_out,
    holds_eras,
)
from numerai_features.embedders._neighbors import (
    approximate_neighbors,
    exact_neighbors,
    recall,
)

_MOST_EXACT = 100_000  # rows; about 10 operations per pair and axis
_RECALL_ROWS = 200
_LABEL_BINS = 10
_LEAST_NEAR = 1e-6  # of the spread of all rows


def find_neighbors(
    landmarks: Rows,
    axes: Axes,
    fill: NDArray[np.floating],
    k: int,
    metric: str,
    seed: int,
    device: Any,
    *,
    by_era: bool,
    progress: bool,
) -> tuple[NDArray[np.int64], NDArray[np.float32], dict[str, float]]:
    """Return each landmark's k nearest neighbours, and the recall of the search.

    Parameters
    ----------
    landmarks : Rows
    axes : Axes
        Axes on which neighbours are searched.
    fill : ndarray of shape (n_features,)
        Values that replace NaN.
    k : int
    metric : str
        Metric of the features.
    seed : int
        Seed of the approximate search, which is used above 100,000 landmarks.
    device : torch.device
    by_era : bool
        Whether to search within each era.
    progress : bool

    Returns
    -------
    index, distance : ndarray of shape (n_landmarks, k)
    found : dict of str to float
        The fitted attributes with the recalls.
    """
    table = axes.in_metric()
    n, codes, groups = len(table), None, None
    if by_era:
        codes, groups = landmarks.codes, [mine for _, mine in landmarks.by_era()]
    if groups is None and n > _MOST_EXACT:
        index, distance = approximate_neighbors(table, k, seed)
    else:
        index, distance = exact_neighbors(table, k, device, groups, progress=progress)
    _check_told_apart(landmarks, fill, table, (index, distance), metric)
    sample = np.linspace(0, n - 1, min(n, _RECALL_ROWS)).astype(np.intp)
    on_axes = of_features = recall(index, table, sample, device, codes)
    if axes.back is not None:
        features = as_in_metric(fill_missing(landmarks.X, fill), metric)
        of_features = recall(index, features, sample, device, codes)
    if metric != "euclidean":  # from chord lengths to 1 minus the cosine
        distance = (distance**2 / 2).astype(np.float32)
    return (
        index,
        distance,
        {"neighbor_recall_": on_axes, "feature_recall_": of_features},
    )


def _check_told_apart(
    landmarks: Rows,
    fill: NDArray[np.floating],
    table: NDArray[Any],
    found: tuple[NDArray[np.int64], NDArray[np.float32]],
    metric: str,
) -> None:
    """Raise if a network in float32 could not distinguish most rows."""
    if table.dtype.itemsize == 1:
        return
    mean = table.mean(axis=0, dtype=np.float64)
    squares = [np.square(table[r] - mean).sum() for r in row_blocks(*table.shape)]
    spread = np.sqrt(sum(squares) / len(table))
    index, distance = (each[:, -1] for each in found)
    if metric == "euclidean":
        rows = np.flatnonzero(distance <= _LEAST_NEAR * spread)
    else:  # with few columns many rows may share a direction, but not all of them
        rows = np.arange(len(table) if spread < _LEAST_NEAR else 0)
    if 2 * len(rows) <= len(table):
        return
    rows = rows[:: -(-len(rows) // _RECALL_ROWS)]
    a, b = (fill_missing(landmarks.X[at], fill) for at in (rows, index[rows]))
    if 2 * (a != b).any(axis=1).sum() > len(rows):
        if metric != "euclidean" and landmarks.X.shape[1] == 1:
            raise ValueError(
                f"metric={metric!r} compares directions, and rows with n_features=1 "
                "have only two directions. Use metric='euclidean'."
            )
        raise ValueError(
            f"X: by metric={metric!r} most rows cannot be distinguished from their "
            "neighbours, which are too near relative to the spread of all rows. A "
            "column, or a few cells, are far larger than all others: correct them, or "
            "standardise the columns."
        )


def split_edges(
    graph: FuzzyGraph,
    validation: Any,
    rows: Rows,
    landmarks: NDArray[np.intp],
    seed: int,
) -> tuple[FuzzyGraph, FuzzyGraph | None, NDArray[np.intp]]:
    """Return the training edges, the held-out edges or None, and whose they are.

    Parameters
    ----------
    graph : FuzzyGraph
        Graph of the landmarks.
    validation : float, int, splitter or None
        As documented by `UMAPEmbedder`.
    rows : Rows
        All rows, which a splitter counts.
    landmarks : ndarray of shape (n_landmarks,), int
        Which of them are in the graph, ascending.
    seed : int
        Seed of the random edges that are drawn without eras.

    Returns
    -------
    train : FuzzyGraph
    valid : FuzzyGraph or None
    seen : ndarray of int
        The landmarks, by their place, that training edges are of.
    """
    n_rows = len(landmarks)
    seen = np.arange(n_rows)
    eras = None if rows.eras is None else rows.eras.take(landmarks)
    by_rows = hasattr(validation, "split") or holds_eras(eras)
    if validation is None or (n_rows < FEWEST_ROWS and not by_rows):
        return graph, None, seen
    if by_rows:
        parts: Any = hold_out(validation, rows, landmarks, seed)
        mine, held = (np.isin(landmarks, part) for part in parts)
        a, b = graph.heads, graph.tails
        train = mine[a] & mine[b]
        valid = (mine | held)[a] & (mine | held)[b] & ~train
        seen = np.flatnonzero(mine)
    elif validation >= 1:
        raise ValueError(
            f"validation={validation} is a number of eras and needs {FEWEST_ERAS} "
            "eras. Pass eras=, or a share of the edges, below 1."
        )
    else:
        rng = np.random.default_rng([seed, len(graph.weights)])
        valid = rng.random(len(graph.weights)) < validation
        train = ~valid
    for name, edges in {"train on": train, "hold out": valid}.items():
        if not edges.any():
            raise ValueError(
                f"validation={validation!r} leaves no edge to {name}. Hold out another "
                "share, or pass validation=None to train on all."
            )
    return graph.take(train), graph.take(valid), seen


def label_bins(y: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return a category per row, -1 where the target is unknown.

    Parameters
    ----------
    y : ndarray of shape (n_rows,)
        More than 50 distinct values are cut into ten bins of equal size.
    """
    known = ~np.isnan(y)
    labels = np.full(len(y), -1)
    values, labels[known] = np.unique(y[known], return_inverse=True)
    if len(values) > MOST_BINS:
        edges = np.quantile(y[known], np.arange(1, _LABEL_BINS) / _LABEL_BINS)
        labels[known] = np.searchsorted(np.unique(edges), y[known])
    return labels
