"""Read a user's predictions, and return results in the same container."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._validation import as_floats, as_frame, index_of, is_frame


def read_predictions(
    predictions: Any, name: str = "predictions"
) -> NDArray[np.float64]:
    """Return predictions as float64 with one or two dimensions.

    Raises
    ------
    ValueError
        If they are empty, or not finite numbers.
    """
    values = as_floats(predictions, name)
    if values.ndim not in (1, 2) or not values.size:
        raise ValueError(
            f"{name} must have shape (n_rows,) or (n_rows, n_predictions); got "
            f"{values.shape}."
        )
    bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    if bad.any():
        raise ValueError(
            f"{name} is NaN or infinite in {int(bad.sum())} of {len(values)} rows, the "
            f"first is row {int(bad.argmax())}. Leave out rows without a prediction."
        )
    return values


def as_they_came(values: NDArray[np.float64], predictions: Any) -> Any:
    """Return values as pandas, with index and names, if the predictions were."""
    import pandas as pd

    predictions = as_frame(predictions, "predictions")
    rows = index_of(predictions)
    if rows is None:
        return values
    if is_frame(predictions):
        return pd.DataFrame(values, index=rows, columns=list(predictions.columns))
    return pd.Series(values, index=rows, name=predictions.name)
