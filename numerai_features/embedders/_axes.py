"""Linear axes that rows are brought to before their neighbours are sought."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features.encoders import Affine, Encoder, Fill
from numerai_features.moments import Moments

_LEAST_SHARE = 1e-10  # of the largest axis's variance: less is rounding
_BLOCK = 1 << 14


@dataclass(frozen=True)
class Axes:
    """The way to the axes, and the linear map that best leads back."""

    forward: Encoder
    back: Affine | None  # None where there is nothing to lead back from


def fit_axes(
    X: NDArray[Any],
    kind: str | None,
    n_axes: int,
    metric: str,
    fill: NDArray[np.float32],
) -> Axes:
    """Return axes of rows, from their second moments.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
    kind : {"pca", "factor"} or None
        Principal axes, in which distances are those of the features but for what the
        left-out axes hold; the posterior means of as many factors; or the features.
    n_axes : int
        Fewer if the rows vary in fewer directions.
    metric : {"euclidean", "cosine", "correlation"}
        Principal axes are about the mean, about zero, or of rows less their own mean.
    fill : ndarray of shape (n_features,)
        What stands in for NaN.

    Raises
    ------
    ValueError
        If no column varies.
    """
    if kind is None:
        varies = any((X[:, j] != X[0, j]).any() for j in range(X.shape[1]))
    else:
        moments = Moments.from_rows(X, fill=fill)
        covariance, mean = moments.covariance(), moments.mean
        varies = bool((np.diag(covariance) > 0).any())
    if not varies:
        raise ValueError(
            f"X is constant in all {X.shape[1]} columns: no row is nearer to one than "
            "to another. Pass columns that vary."
        )
    if kind is None:
        return Axes(Encoder([("fill", Fill(fill))]), None)
    if kind == "factor":
        forward = _factors(X, covariance, n_axes)
    else:
        weight, shift = _principal(covariance, mean, n_axes, metric)
        dtype = np.float32 if X.dtype.kind in "iub" else np.float64
        axes = Affine(weight.astype(dtype), (-shift @ weight).astype(dtype))
        forward = Encoder([("fill", Fill(fill)), ("axes", axes)])
    _, to_axes = forward.steps[-1]
    return Axes(forward, _back(to_axes, covariance, mean))


def as_in_metric(Z: NDArray[Any], metric: str, *, centred: bool) -> NDArray[Any]:
    """Return rows whose Euclidean distances are in the order of the metric's.

    Parameters
    ----------
    Z : ndarray of shape (n_rows, n_axes)
    metric : {"euclidean", "cosine", "correlation"}
    centred : bool
        Whether each row's mean was taken off before.
    """
    if metric == "euclidean":
        # Bytes are used as they are; of floats large means would cost digits.
        return Z if Z.dtype.itemsize == 1 else (Z - Z.mean(axis=0)).astype(np.float32)
    out = np.empty(Z.shape, np.float32)
    for start in range(0, len(Z), _BLOCK):
        block = Z[start : start + _BLOCK].astype(np.float64)
        if metric == "correlation" and not centred:
            block -= block.mean(axis=1, keepdims=True)
        length = np.linalg.norm(block, axis=1, keepdims=True)
        out[start : start + _BLOCK] = block / np.maximum(length, 1e-12)
    return out


def _principal(covariance, mean, n_axes, metric):
    """Return the axes as columns, and what is taken off the rows."""
    import torch

    shift = mean
    if metric != "euclidean":
        covariance, shift = covariance + np.outer(mean, mean), 0 * mean
    if metric == "correlation":
        covariance = covariance - covariance.mean(axis=0)
        covariance = covariance - covariance.mean(axis=1, keepdims=True)
    # Not numpy's: torch gives the same bits whoever sets the number of threads.
    values, vectors = torch.linalg.eigh(torch.from_numpy(covariance))
    values, vectors = values.numpy()[::-1], vectors.numpy()[:, ::-1]
    kept = values[:n_axes] > _LEAST_SHARE * values[0]
    weight = vectors[:, :n_axes][:, kept]
    if metric == "correlation":
        weight = weight - weight.mean(axis=0)  # takes each row's mean off
    return weight, shift


def _factors(X, covariance, n_axes):
    from numerai_features.embedders._factor_analysis import FactorAnalysisEmbedder
    from numerai_features.embedders._maximum_likelihood import rank

    n_factors = min(n_axes, rank(covariance))
    return FactorAnalysisEmbedder(n_factors).fit(X).encoder_


def _back(to_axes, covariance, mean):
    """Return the least-squares map from the axes to the features."""
    W = to_axes.weight.astype(np.float64)
    at_mean = mean @ W + to_axes.bias
    back = np.linalg.lstsq(W.T @ covariance @ W, W.T @ covariance, rcond=None)[0]
    return Affine(back.astype(np.float32), (mean - at_mean @ back).astype(np.float32))
