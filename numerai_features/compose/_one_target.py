"""Checks of regressors that support one target only."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import column_or_1d

from numerai_features.compose._era_regressor import Given


def one_target(given: Given, owner: Any) -> Given:
    """Return rows whose y is a vector.

    Raises
    ------
    ValueError
        If there are several targets.
    """
    targets = given.rows.y
    assert targets is not None
    if targets.shape[1] > 1:
        raise ValueError(
            f"y has {targets.shape[1]} targets, but {type(owner).__name__} supports "
            "only one. Pass one of them."
        )
    if np.asarray(given.y).ndim == 1:
        return given
    return replace(given, y=column_or_1d(given.y, warn=True))


def one_prediction(prediction: NDArray[Any], regressor: Any) -> NDArray[Any]:
    """Return predictions as a vector.

    Raises
    ------
    ValueError
        If a row has several predictions, or some are not finite.
    """
    if prediction.size != len(prediction):
        raise ValueError(
            f"{type(regressor).__name__}.predict returned shape {prediction.shape}; "
            "expected one prediction a row."
        )
    if not np.isfinite(prediction).all():
        raise ValueError(
            f"{type(regressor).__name__}.predict returned NaN or infinity; expected "
            "finite numbers."
        )
    return prediction.reshape(-1)
