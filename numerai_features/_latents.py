"""The latents of any embedder: as one array of numbers, and what they depend on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from numerai_features._validation import (
    ERA_COLUMN,
    as_frame,
    column_names,
    frame_to_numbers,
    is_frame,
)

_MOST_DENSE = 4 << 30  # bytes


def as_latents(returned: Any, name: str) -> NDArray[Any]:
    """Convert an embedder's output to an array; the number of rows is not checked.

    Parameters
    ----------
    returned : array, sparse matrix, frame or tuple
        Only the first item of a tuple is used: scikit-learn's cross decompositions
        return the scores of X, and then those of y.
    name : str
        Name of the embedder in error messages.

    Returns
    -------
    ndarray of shape (n_rows, n_components)

    Raises
    ------
    ValueError
        If the output is not a table of numbers, has a column ``era``, or is sparse and
        would take too much memory as a dense array.
    """
    while type(returned) is tuple and returned:
        returned = returned[0]
    what = f"what {name} returned"
    returned = as_frame(returned, what)
    if is_frame(returned) and ERA_COLUMN in column_names(returned):
        raise ValueError(
            f"{name} returned the column {ERA_COLUMN!r}, which would become a feature. "
            "Set its keep_era=False, or drop the column."
        )
    if sparse.issparse(returned):
        _check_small(returned, name)
        returned = returned.toarray()
    elif is_frame(returned):
        returned = frame_to_numbers(returned, what)
    latents: NDArray[Any] = np.asarray(returned)
    if latents.ndim != 2:
        raise ValueError(
            f"{name} returned an array of shape {latents.shape}; expected "
            "(n_rows, n_components)."
        )
    if latents.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} returned {latents.dtype}, such as "
            f"{latents[:1, :1].tolist()}; expected numbers. Encode them afterwards."
        )
    return latents


def works_by_era(embedder: Any) -> bool:
    """Whether the latents of a row depend on the other rows of its era."""
    embedder = getattr(embedder, "estimator", embedder)  # of a FrozenEstimator
    parts = [*getattr(embedder, "embedders_", ()), *getattr(embedder, "steps", ())]
    return bool(getattr(embedder, "_by_era", False)) or any(
        works_by_era(part) for _, part in parts
    )


def _check_small(returned: Any, name: str) -> None:
    """Raise if a sparse table is too large to be converted to a dense array."""
    n_rows, n_columns = returned.shape
    n_bytes = n_rows * n_columns * returned.dtype.itemsize
    if n_bytes > _MOST_DENSE:
        raise ValueError(
            f"{name} returned a sparse table of {n_rows} rows and {n_columns} columns, "
            f"which takes {n_bytes / 2**30:.1f} GiB as a dense array; sparse tables "
            f"are converted up to {_MOST_DENSE >> 30} GiB. Reduce the number of "
            "columns, or set sparse_output=False if there is enough memory."
        )
