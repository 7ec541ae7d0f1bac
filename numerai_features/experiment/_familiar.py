"""Whether live eras look like the training eras: how features vary together.

Numerai's bins are equally filled in each era, so that the means of features are the
same in all eras. What changes is which features rise and fall together. So features are
multiplied by others, and eras are compared by the means of these products, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._bins import MIDDLE_BIN
from numerai_features._eras import era_label
from numerai_features._names import some_names
from numerai_features.export._place import array_data
from numerai_features.export._runtime import _array as as_array

if TYPE_CHECKING:
    from numerai_features.datasets import EraPanel

LATEST = 52
"""Number of the last training eras in which a feature must have varied."""

_MOST_PRODUCTS = 512  # more tell hardly more, and take time


def training_data(panel: EraPanel, known: NDArray[np.bool_]) -> dict[str, Any]:
    """Return what the training eras look like, as plain data.

    Parameters
    ----------
    panel : EraPanel
    known : ndarray of bool of shape (n_rows,)
        Which rows have a target; eras without such a row are left out.
    """
    numbers, starts = np.unique(panel.eras, return_index=True)
    stops = np.append(starts[1:], panel.n_rows)
    spans = zip(numbers.tolist(), starts, stops, strict=True)
    eras = [(n, slice(i, j)) for n, i, j in spans if known[i:j].any()]
    order = np.random.default_rng(0).permutation(panel.n_features)[:_MOST_PRODUCTS]
    total = squares = np.zeros(panel.n_features + len(order))
    n_rows, means, varies = 0, [], []
    for _, rows in eras:
        X = panel.X[rows]
        table = _with_products(X - np.int8(MIDDLE_BIN), order)
        own = table.sum(axis=0, dtype=np.int32)
        total = total + own
        squares = squares + (table * table).sum(axis=0, dtype=np.int32)
        n_rows += len(X)
        means.append(own / len(X))
        varies.append(X.min(axis=0) < X.max(axis=0))
    mean = total / n_rows
    data = {
        "order": array_data(order),
        "mean": array_data(mean),
        "variance": array_data(squares / n_rows - mean**2),
        "eras": [number for number, _ in eras],
        "varies": array_data(np.any(varies[-LATEST:], axis=0)),
    }
    sizes = [rows.stop - rows.start for _, rows in eras]
    parts = zip(means, varies, sizes, strict=True)
    return data | {"distances": [_distance(data, *part) for part in parts]}


def unlike(
    training: dict[str, Any], names: list[str], eras: dict[str, NDArray[Any]]
) -> list[str]:
    """Return sentences on eras that are unlike all training eras.

    Parameters
    ----------
    training : dict
        The result of `training_data`.
    names : list of str
        Names of the features.
    eras : dict of str to ndarray of shape (n_rows, n_features)
        The rows of each era, by its label; a missing cell is NaN.
    """
    varied, order = as_array(training["varies"]), as_array(training["order"])
    farthest = int(np.argmax(training["distances"]))
    most = training["distances"][farthest]
    label, n_eras = era_label(training["eras"][farthest]), len(training["eras"])
    told = []
    for era, X in eras.items():
        table = np.nan_to_num(X.astype(np.float32) - MIDDLE_BIN)
        varies = table.min(axis=0) < table.max(axis=0)
        mean = _with_products(table, order).mean(axis=0, dtype=np.float64)
        distance = _distance(training, mean, varies, len(X))
        if distance > most:
            told.append(
                f"Era {era} is unlike all {n_eras} training eras: means and products "
                f"of its features differ from those of training by {distance:.3f}, "
                f"those of era {label}, the farthest of training, by {most:.3f}. Trust "
                "the predictions less."
            )
        constant = np.flatnonzero(varied & ~varies)
        if len(constant):
            some = some_names([names[j] for j in constant])
            told.append(
                f"Era {era} has {len(constant)} of {len(names)} features with one "
                f"value in all rows, which varied in the last {min(LATEST, n_eras)} "
                f"training eras: {some}. If they are many, fit the model again."
            )
    return told


def _with_products(table: NDArray[Any], order: NDArray[np.intp]) -> NDArray[Any]:
    """Return features, and products of some with the one before them in an order."""
    return np.hstack([table, table[:, order] * table[:, np.roll(order, 1)]])


def _distance(
    training: dict[str, Any],
    mean: NDArray[np.float64],
    varies: NDArray[np.bool_],
    n_rows: int,
) -> float:
    """Return the root mean square difference from training, beyond that of few rows.

    Features and products count alike; those with one value in all rows do not count.
    """
    order = as_array(training["order"])
    both = varies[order] & varies[np.roll(order, 1)]
    apart = (mean - as_array(training["mean"])) ** 2
    apart -= as_array(training["variance"]) / n_rows
    parts = zip(np.split(apart, [len(varies)]), (varies, both), strict=True)
    total = sum(part[used].mean() for part, used in parts if used.any())
    return float(np.sqrt(max(0.0, total)))
