"""Whether live eras look like the training eras: means of features, and constants."""

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
    eras = [(n, i, j) for n, i, j in spans if known[i:j].any()]
    total, n_rows = np.zeros(panel.n_features, np.int64), 0
    means, varies = [], np.zeros(panel.n_features, bool)
    for place, (_, start, stop) in enumerate(eras, start=1):
        X = panel.X[start:stop]
        own = X.sum(axis=0, dtype=np.int64)
        total, n_rows = total + own, n_rows + len(X)
        means.append(own / len(X))
        if place > len(eras) - LATEST:
            varies |= X.min(axis=0) < X.max(axis=0)
    mean = total / n_rows
    return {
        "mean": array_data(mean),
        "eras": [number for number, *_ in eras],
        "distances": [_distance(own, mean) for own in means],
        "varies": array_data(varies),
    }


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
    mean, varied = as_array(training["mean"]), as_array(training["varies"])
    farthest = int(np.argmax(training["distances"]))
    most = training["distances"][farthest]
    label, n_eras = era_label(training["eras"][farthest]), len(training["eras"])
    told = []
    for era, X in eras.items():
        X = np.where(np.isnan(X), MIDDLE_BIN, X) if X.dtype.kind == "f" else X
        distance = _distance(X.mean(axis=0, dtype=np.float64), mean)
        if distance > most:
            told.append(
                f"Era {era} is unlike all {n_eras} training eras: its features' means "
                f"differ from those of training by {distance:.3f} bins on average, "
                f"while era {label}, the farthest of training, differs by {most:.3f}. "
                "Trust the predictions less."
            )
        constant = np.flatnonzero(varied & (X.min(axis=0) == X.max(axis=0)))
        if len(constant):
            some = some_names([names[j] for j in constant])
            told.append(
                f"Era {era} has {len(constant)} of {len(names)} features with one "
                f"value in all rows, which varied in the last {min(LATEST, n_eras)} "
                f"training eras: {some}. If they are many, fit the model again."
            )
    return told


def _distance(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(np.abs(one - other).mean())
