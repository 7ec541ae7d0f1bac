"""Linear axes onto which rows are projected before the neighbour search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._blocks import row_blocks
from numerai_features._threads import blas_threads
from numerai_features._validation import check_spread, fill_missing
from numerai_features.encoders import Affine, Encoder, Fill
from numerai_features.moments import Moments

_LEAST_SHARE = 1e-10  # of the largest axis's variance: less is rounding error
_ROUNDING = 1e-6  # of the longest row's length: less is rounding error


@dataclass(frozen=True)
class Axes:
    """The map to the axes, the best linear map back, and the rows on the axes.

    Attributes
    ----------
    forward : Encoder
    back : Affine or None
        None where the axes are the features.
    rows : ndarray of shape (n_rows, n_axes)
        The rows from which the axes were computed, projected onto them; bytes where
        the axes are the features.
    dtype : dtype
        Type of the arrays that these rows are multiplied with.
    metric : {"euclidean", "cosine", "correlation"}
        The metric on the axes: "correlation" becomes "cosine" where the axes subtract
        each row's mean.
    """

    forward: Encoder
    back: Affine | None
    rows: NDArray[Any]
    dtype: Any
    metric: str

    def in_metric(self) -> NDArray[Any]:
        """Return rows whose Euclidean distances have the order of the metric's."""
        return as_in_metric(self.rows, self.metric)


def fit_axes(
    X: NDArray[Any],
    kind: str | None,
    n_axes: int,
    metric: str,
    fill: NDArray[np.floating],
) -> Axes:
    """Compute the axes of rows from their second moments.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
        Floats may hold NaN.
    kind : {"pca", "factor"} or None
        "pca": principal axes; distances are those of the features, without the part in
        the axes left out. "factor": the posterior means of `n_axes` factors. None: the
        features.
    n_axes : int
        Number of axes; fewer if the rows vary in fewer directions.
    metric : {"euclidean", "cosine", "correlation"}
        Principal axes are taken about the mean, about zero, or of rows minus their own
        mean.
    fill : ndarray of shape (n_features,)
        Values that replace NaN.

    Raises
    ------
    ValueError
        If the rows do not differ.
    """
    # Wide types may hold large numbers that differ only in digits that float32 loses.
    dtype = np.float32 if X.dtype.itemsize <= 2 else np.float64
    filled = Encoder([("fill", Fill(fill.astype(dtype)))])
    X = fill_missing(X, fill)
    _check_varied(X, metric)
    if kind is None:
        return Axes(filled, None, X, dtype, metric)
    moments = Moments.from_rows(X)
    covariance, mean = moments.covariance(), moments.mean
    if kind == "factor":
        axes = _factors(moments, covariance, n_axes)
    else:
        weight, shift = _principal(covariance, mean, n_axes, metric)
        if metric == "euclidean":
            # These weights are only rounding error, which a large mean would multiply.
            weight[np.diag(covariance) == 0] = 0
        axes = Affine(weight.astype(dtype), (-shift @ weight).astype(dtype))
    forward = Encoder([*filled.steps, ("axes", axes)])
    back = _back(axes, covariance, mean)
    left = "cosine" if (kind, metric) == ("pca", "correlation") else metric
    return Axes(forward, back, forward.transform(X), dtype, left)


def as_in_metric(Z: NDArray[Any], metric: str) -> NDArray[Any]:
    """Return rows whose Euclidean distances have the order of the metric's distances.

    Parameters
    ----------
    Z : ndarray of shape (n_rows, n_axes)
    metric : {"euclidean", "cosine", "correlation"}
        In "cosine" and "correlation", rows of length zero are as far from all others as
        orthogonal rows.
    """
    if metric == "euclidean":
        return Z if Z.dtype.itemsize == 1 else _centred(Z)
    out = np.empty((len(Z), Z.shape[1] + 1), np.float32)
    lengths = np.empty(len(Z))
    for rows in row_blocks(*Z.shape):
        block = Z[rows].astype(np.float64)
        if metric == "correlation":
            block -= block.mean(axis=1, keepdims=True)
        lengths[rows] = np.linalg.norm(block, axis=1)
        out[rows, :-1] = block / np.maximum(lengths[rows], 1e-300)[:, None]
    none = lengths <= _ROUNDING * lengths.max()
    out[none, :-1] = 0
    out[:, -1] = none
    return out if none.any() else out[:, :-1]


def _centred(Z):
    """Return floats minus their mean, scaled to at most 1.

    A large mean would cost digits, and squares of huge or tiny distances would not fit
    float32. The scale is a power of two, which changes no digit.
    """
    mean = Z.mean(axis=0, dtype=np.float64)
    gaps = Z - mean.astype(np.result_type(Z, np.float32))
    _, exponent = np.frexp(np.abs(gaps).max())
    return np.ldexp(gaps, -exponent).astype(np.float32)


def _check_varied(X, metric):
    """Raise if rows do not differ in the metric."""
    if X.dtype.kind == "f":
        check_spread(X)
    if not (X.max(axis=0) > X.min(axis=0)).any():
        raise ValueError(
            f"X is constant in all {X.shape[1]} columns: all rows are equally near. "
            "Pass columns that vary."
        )
    if metric == "correlation" and all(
        (X[rows] == X[rows, :1]).all() for rows in row_blocks(*X.shape)
    ):
        raise ValueError(
            "metric='correlation' needs rows whose cells differ, but every row of X "
            f"is constant over its columns (n_features={X.shape[1]}). Use "
            "metric='euclidean'."
        )


def _principal(covariance, mean, n_axes, metric):
    """Return the axes as columns, and the shift that is subtracted from the rows."""
    import torch

    shift = mean
    if metric != "euclidean":
        covariance, shift = covariance + np.outer(mean, mean), 0 * mean
    if metric == "correlation":
        covariance = covariance - covariance.mean(axis=0)
        covariance = covariance - covariance.mean(axis=1, keepdims=True)
    # torch, not numpy: its bits do not depend on who sets the number of threads.
    values, vectors = torch.linalg.eigh(torch.from_numpy(covariance))
    values, vectors = values.numpy()[::-1], vectors.numpy()[:, ::-1]
    kept = values[:n_axes] > _LEAST_SHARE * values[0]
    weight = vectors[:, :n_axes][:, kept]
    if metric == "correlation":
        weight = weight - weight.mean(axis=0)  # subtracts each row's mean
    return weight, shift


def _factors(moments, covariance, n_axes):
    """Return the map to the posterior means of factors."""
    from numerai_features.embedders._factor_analysis import FactorAnalysisEmbedder
    from numerai_features.embedders._maximum_likelihood import rank

    with blas_threads(1):  # the same bits, as above
        n_factors = min(n_axes, rank(covariance))
        fitted = FactorAnalysisEmbedder.from_moments(moments, n_components=n_factors)
    [(_, factors)] = fitted.encoder_.steps[1:]
    return factors


def _back(to_axes, covariance, mean):
    """Return the least-squares map from the axes to the features."""
    W = to_axes.weight.astype(np.float64)
    at_mean = mean @ W + to_axes.bias
    back = np.linalg.lstsq(W.T @ covariance @ W, W.T @ covariance, rcond=None)[0]
    return Affine(back.astype(np.float32), mean - at_mean @ back)


def principal_turn(Z):
    """Return principal axes of rows, by descending variance, and their mean."""
    import torch

    Z = torch.from_numpy(Z).double()
    mean = Z.mean(0)
    _, axes = torch.linalg.eigh((Z - mean).T @ (Z - mean))
    axes = axes.flip(1)
    strongest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    return (axes * strongest.sign()).numpy(), mean.numpy()
