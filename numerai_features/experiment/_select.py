"""Choose the features that an embedder gets, on the training rows of a fold."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features.experiment._inputs import as_input
from numerai_features.experiment._parts import library_of, make_model
from numerai_features.moments import Moments
from numerai_features.trees import tree_table


def select_features(
    select: dict[str, Any],
    X: NDArray[Any],
    y: NDArray[np.float32],
    tables: dict[str, Any],
    seed: int,
) -> NDArray[np.intp]:
    """Return the positions of the chosen features, in their order.

    Parameters
    ----------
    select : dict
        ``max_correlation``: features are taken in their order; one is left out if its
        absolute correlation with one that was taken is larger. Or ``n`` and ``model``:
        the features with the largest gain in the splits of a tree model.
    X : ndarray of shape (n_rows, n_features)
    y : ndarray of shape (n_rows,)
        NaN where it is not known; for importances.
    tables : dict
        The tables of the experiment.
    seed : int
        The number of the seed, from 0.
    """
    if "max_correlation" in select:
        return uncorrelated(X, select["max_correlation"])
    name = select.get("model")
    library = library_of(tables, name)
    model = make_model(tables, name, seed)
    # LightGBM's "gain" is the sum over splits, XGBoost's the mean
    gain = "gain" if library == "lightgbm" else "total_gain"
    model.set_params(importance_type=gain)
    known = ~np.isnan(y)
    table = tree_table(X[known], list(map(str, range(X.shape[1]))))
    model.fit(as_input(table, library), y[known])
    best = np.argsort(-model.feature_importances_, kind="stable")[: select["n"]]
    return np.sort(best)


def uncorrelated(X: NDArray[Any], most: float) -> NDArray[np.intp]:
    """Return columns, in their order, that are not more correlated with earlier ones.

    A constant column has no correlation, and is left out, unless all are constant.
    """
    covariance = Moments.from_rows(X).covariance()
    sd = np.sqrt(np.diag(covariance))
    varies = sd > 0
    if not varies.any():
        return np.arange(X.shape[1])
    sd[~varies] = 1
    correlation = np.abs(covariance / np.outer(sd, sd))
    taken: list[int] = []
    for j in np.flatnonzero(varies):
        if not taken or correlation[j, taken].max() <= most:
            taken.append(int(j))
    return np.array(taken, np.intp)
