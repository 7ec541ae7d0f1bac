"""Cross-fitted latents: each row's network was not trained on that row.

A model that is trained on latents which depend on the same labels overfits. So each row
gets the latents of a network that was trained on other eras.
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._horizon import purge_of_targets
from numerai_features._rows import Rows
from numerai_features._threads import blas_threads
from numerai_features.embedders._course import Fitted
from numerai_features.embedders._encode import encode_some
from numerai_features.embedders._holdout import hold_out

_ALIGNED_ROWS = 20_000
_FEWEST_ALIGNED = 5  # rows per latent; with fewer, the alignment uses all rows

Fold = tuple[NDArray[np.intp], NDArray[np.intp]]


def cross_fit_folds(splitter: Any, rows: Rows, among: NDArray[np.intp]) -> list[Fold]:
    """Return the training rows and the rows to encode of each fold.

    Parameters
    ----------
    splitter : int or splitter
        Number of blocks of eras, purged as the longest target requires; or a splitter
        by eras.
    rows : Rows
    among : ndarray of int
        Rows that can be trained on.

    Raises
    ------
    ValueError
        If there are no eras, no folds, or row numbers out of range, or a fold has an
        era on both sides or no training rows.
    """
    from numerai_features.model_selection import EraKFold
    from numerai_features.model_selection._folds import no_folds, read_folds

    if rows.eras is None:
        raise ValueError(
            "cross_fit needs eras: pass eras=, or a frame with a column 'era', which "
            "LatentFeatures(keep_era=True) keeps."
        )
    n_folds = splitter if isinstance(splitter, Integral) else None
    if n_folds is not None:
        splitter = EraKFold(n_folds, purge=purge_of_targets(rows.target_names))
    codes = rows.eras.codes
    X = np.empty((rows.n_rows, 1), np.int8)
    folds = []
    yielded = splitter.split(X, groups=rows.groups)
    try:
        pairs = list(read_folds(yielded, rows.n_rows, "cross_fit"))
    except ValueError as error:
        if n_folds is None:
            raise
        raise ValueError(f"cross_fit={n_folds}: {error}") from error
    for i, fold in enumerate(pairs):
        train, test = fold
        if np.isin(codes[test], codes[train]).any():
            raise ValueError(
                f"cross_fit: fold {i} tests eras that it trains on. Use a splitter by "
                "eras, such as EraKFold."
            )
        known = train[np.isin(train, among)]
        if not len(known):
            raise ValueError(
                f"cross_fit: fold {i} trains on no row whose target is known. Use "
                "fewer folds."
            )
        folds.append((known, test))
    if not folds:
        raise no_folds(splitter, "cross_fit")
    return folds


def check_divisions(embedder: Any, rows: Rows) -> None:
    """Raise if eras cannot be held out and cross-fitted as an embedder says.

    Parameters
    ----------
    embedder : estimator
        With a parameter ``validation``; ``cross_fit`` need not be there.
    rows : Rows
        One row of each era is enough.
    """
    every = np.arange(rows.n_rows)
    hold_out(embedder.validation, rows, every, 0)
    splitter = getattr(embedder, "cross_fit", None)
    for train, _ in () if splitter is None else cross_fit_folds(splitter, rows, every):
        hold_out(embedder.validation, rows, train, 0)


def cross_fit_latents(
    train: Callable[[Rows, NDArray[np.intp]], Fitted],
    rows: Rows,
    folds: list[Fold],
    final: Fitted,
    latents: NDArray[np.float32],
    width: int,
) -> NDArray[np.float32]:
    """Return each row's latents from a network that was not trained on its era.

    The latents of each fold are aligned with those of the final network by the rotation
    that fits best on rows that both networks were trained on (orthogonal Procrustes).
    Rows in no test fold keep the final network's latents.

    Parameters
    ----------
    train : callable
        Trains on some of the rows.
    rows : Rows
    folds : list of (train, test)
    final : Fitted
        Result of the fit on all rows.
    latents : ndarray of shape (n_rows, n_latents)
        Latents of all rows by the final network.
    width : int
        Number of latents of one network; those of several networks are concatenated.
    """
    out = latents.copy()
    for known, test in folds:
        other = train(rows, known)
        both = np.intersect1d(other.train, final.train)
        if len(both) < _FEWEST_ALIGNED * width:
            both = final.train
        both = both[:: -(-len(both) // _ALIGNED_ROWS)]
        theirs, ours = encode_some(other.encoder, rows, both), latents[both]
        out[test] = encode_some(other.encoder, rows, test)
        with blas_threads(1):  # the bits do not depend on the number of threads
            for first in range(0, latents.shape[1], width):
                own = slice(first, first + width)
                turn, shift = _procrustes(theirs[:, own], ours[:, own])
                out[test, own] = out[test, own] @ turn + shift
    return out


def _procrustes(a: Any, b: Any) -> tuple[Any, Any]:
    """Return the rotation and the shift that map a best on b."""
    from scipy.linalg import orthogonal_procrustes

    turn, _ = orthogonal_procrustes(a - a.mean(axis=0), b - b.mean(axis=0))
    turn = turn.astype(np.float32)
    return turn, b.mean(axis=0) - a.mean(axis=0) @ turn
