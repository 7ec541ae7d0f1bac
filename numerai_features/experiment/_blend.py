"""The predictions of arms that blend others."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._eras import encode_eras
from numerai_features.compose._era_ranker import rank_rows, weighted_sum


def add_blends(
    predictions: dict[str, NDArray[np.float32]],
    recipes: dict[str, dict[str, Any]],
    eras: NDArray[Any],
) -> dict[str, NDArray[np.float32]]:
    """Return the predictions of all arms, with those of blends, in the recipes' order.

    A blend is the weighted mean of its arms' predictions, which are ranked and
    gaussianised within their era, as in `EraBlend`.

    Parameters
    ----------
    predictions : dict of str to ndarray of shape (n_rows,)
        The predictions of the arms that were fitted.
    recipes : dict of str to dict
        All arms.
    eras : ndarray of shape (n_rows,)
    """
    index = encode_eras(eras)
    found = dict(predictions)

    def of(arm: str) -> NDArray[np.float32]:
        if arm not in found:
            blend = recipes[arm]["blend"]
            parts = np.column_stack([of(name) for name in blend]).astype(np.float64)
            weights = np.array(list(blend.values()), float)
            ranked = rank_rows(parts, index, "gauss")
            mean = weighted_sum(ranked, weights / np.abs(weights).sum())
            found[arm] = mean.astype(np.float32)
        return found[arm]

    return {arm: of(arm) for arm in recipes}
