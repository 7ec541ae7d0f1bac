"""Rows through an encoder: each alone, or the rows of an era together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._blocks import as_slice, row_blocks
from numerai_features._eras import EraIndex
from numerai_features._rows import Rows
from numerai_features._validation import take_rows
from numerai_features.encoders import Encoder


def encode(
    encoder: Encoder, X: NDArray[Any], eras: EraIndex | None
) -> NDArray[np.float32]:
    """Return an encoder's output for rows.

    Parameters
    ----------
    encoder : Encoder
    X : ndarray of shape (n_rows, n_features)
    eras : EraIndex or None
        None: all rows are one era. Not used if the encoder treats each row alone.
    """
    codes = None
    if encoder.by_era:
        codes = np.zeros(len(X), np.int32) if eras is None else eras.codes
    latents: NDArray[np.float32] = encoder.transform(X, eras=codes)
    return latents


def encode_some(
    encoder: Encoder, rows: Rows, some: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Return an encoder's output for some of the rows, in their order.

    Where rows of an era look at each other, they look at those outside `some`, too.

    Parameters
    ----------
    encoder : Encoder
    rows : Rows
    some : ndarray of int
        Indices of rows, each once.
    """
    n_features = rows.X.shape[1]
    out = np.empty((len(some), encoder.n_out(n_features)), np.float32)
    if not encoder.by_era:
        for part in row_blocks(len(some), n_features):
            out[part] = encoder.transform(take_rows(rows.X, as_slice(some[part])))
        return out
    place = np.full(rows.n_rows, -1)
    place[some] = np.arange(len(some))
    for _, mine in rows.by_era():
        wanted = place[mine] >= 0
        if wanted.any():
            found = encode(encoder, take_rows(rows.X, as_slice(mine)), None)
            out[place[mine][wanted]] = found[wanted]
    return out
