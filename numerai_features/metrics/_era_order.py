"""The era order of scores, taken from their index."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._eras import EraIndex, encode_eras


def are_named(scores: Any) -> bool:
    """Whether scores are indexed by era names, whose order is unknown."""
    eras = _eras_of(scores)
    return isinstance(eras, EraIndex) and eras.named


def numbers_in_order(scores: Any) -> NDArray[np.int64] | None:
    """Return the ascending era numbers of scores; None if scores have no era index.

    Parameters
    ----------
    scores : Series, DataFrame or array-like of shape (n_eras,)
        The index holds era labels, such as numbers or dates; a RangeIndex is
        taken as era numbers.

    Raises
    ------
    ValueError
        If the index holds names or no eras, or is not in era order.
    """
    eras = _eras_of(scores)
    if isinstance(eras, EraIndex):
        if eras.named:
            raise ValueError(
                "scores must be in era order, but their index holds names, such as "
                f"{eras.labels[0]!r}, whose order is unknown. Number the eras by week, "
                "or pass scores.to_numpy() in era order."
            )
        eras = eras.row_numbers
    if eras is not None and (np.diff(eras) < 1).any():
        raise ValueError(
            "scores must be in era order, each era once; their index is not strictly "
            "ascending. Sort it with sort_index()."
        )
    return eras


def _eras_of(scores: Any) -> EraIndex | NDArray[Any] | None:
    import pandas as pd

    index = getattr(scores, "index", None)
    if not isinstance(index, pd.Index) or not len(index):
        return None
    if isinstance(index, pd.RangeIndex):
        return np.asarray(index.to_numpy(), np.int64)
    return encode_eras(index, name="the index of scores")
