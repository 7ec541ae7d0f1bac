"""Maximum-likelihood factor analysis from a covariance matrix.

L-BFGS finds the noise variances psi, over log psi. For given psi, the loadings W that
maximise the likelihood have a closed form (Joreskog, 1967; Barber, 2012, algorithm
21.1). With (theta, U) the top-k eigenpairs of psi^-1/2 S psi^-1/2::

    W = psi^1/2 U (theta - 1)^1/2
    -2 LL / n = p log 2 pi + sum_{i<=k} (1 + log theta_i) + sum_{i>k} theta_i
                + sum log psi
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._threads import blas_threads

Array = NDArray[np.float64]

# The smallest share of a feature's variance that is noise: a share of zero makes the
# likelihood infinite (a Heywood case).
_SMALLEST_NOISE = 1e-6

# Correlations are rounded to this grid, so that moments summed in another order give
# bit-identical factors.
_GRID = 2.0**36

# Lanczos finds a few leading eigenpairs three times faster at 500 features than
# reduction to tridiagonal form, and eight times faster at 2,376.
_LANCZOS_FROM = 300


@dataclass(frozen=True)
class FactorSolution:
    """Loadings (p, k), noise variances (p,), and -2 LL / n after every step."""

    loadings: NDArray[np.float64]
    noise_variance: NDArray[np.float64]
    objective: list[float]
    converged: bool


def solve(
    covariance: NDArray[np.float64],
    n_components: int,
    *,
    tol: float,
    max_iter: int,
) -> FactorSolution:
    """Fit loadings and noise variances to a covariance matrix.

    Parameters
    ----------
    covariance : ndarray of shape (p, p)
        Columns without variance get zero loadings and no noise.
    n_components : int
        Number of factors k.
    tol : float
        Stop when the relative decrease of the objective is smaller than this.
    max_iter : int
        Largest number of L-BFGS steps.
    """
    variance = np.diag(covariance).copy()
    active = informative(variance)
    if not active.any():
        nothing = np.zeros((len(variance), n_components))
        return FactorSolution(nothing, np.zeros_like(variance), [0.0], True)
    scale = np.sqrt(variance[active])
    correlation = covariance[np.ix_(active, active)] / np.outer(scale, scale)
    correlation = np.round(correlation * _GRID) / _GRID
    k = min(n_components, len(correlation))
    psi0 = _start(correlation, k)
    W, psi, objective, converged = _minimise(correlation, k, psi0, tol, max_iter)
    loadings = np.zeros((len(variance), n_components))
    loadings[active, :k] = W * scale[:, None]
    noise = np.zeros_like(variance)
    noise[active] = psi * scale**2
    offset = 2 * np.log(scale).sum()
    return FactorSolution(loadings, noise, [f + offset for f in objective], converged)


def informative(variance: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return a mask of the columns that vary."""
    return np.asarray(variance > 0)


def rank(covariance: NDArray[np.float64]) -> int:
    """Return the number of directions in which the data vary."""
    variance = np.diag(covariance)
    active = informative(variance)
    scale = np.sqrt(variance[active])
    correlation = covariance[np.ix_(active, active)] / np.outer(scale, scale)
    if len(correlation) and _cholesky(correlation) is not None:
        return len(correlation)
    values = np.linalg.eigvalsh(correlation) if len(correlation) else np.zeros(0)
    return int((values > 1e-9 * max(1, len(values))).sum())


def _start(correlation: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Return Joreskog's (1 - k / 2p) / diag(R^-1); a singular R is shrunken first."""
    from scipy.linalg.lapack import dpotri

    p = len(correlation)
    factor = _cholesky(correlation)
    if factor is None:
        shrunk = 0.9 * correlation
        shrunk[np.diag_indices(p)] += 0.1
        factor = _cholesky(shrunk)
    assert factor is not None
    inverse, _ = dpotri(factor, lower=1, overwrite_c=1)
    return (1 - k / (2 * p)) / np.diag(inverse)


def _cholesky(correlation: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return the lower factor; None if the matrix is singular within rounding error."""
    from scipy.linalg import LinAlgError, cholesky

    try:
        factor = cholesky(correlation, lower=True, check_finite=False)
    except LinAlgError:
        return None
    return factor if np.diag(factor).min() > 1e-4 else None


def _minimise(
    correlation: NDArray[np.float64],
    k: int,
    psi0: NDArray[np.float64],
    tol: float,
    max_iter: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[float], bool]:
    from scipy.optimize import minimize

    evaluated: list[float] = []
    latest: dict[bytes, Any] = {}

    def objective(log_psi: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        psi = np.exp(log_psi)
        value, W = _profile(correlation, psi, k)
        gradient = ((W * W).sum(axis=1) + psi - 1) / psi
        evaluated.append(value)
        latest.clear()
        latest[log_psi.tobytes()] = value, W
        return value, gradient

    steps: list[float] = []
    # One thread: the bits do not depend on n_jobs, and it is no slower up to 1,000
    # features (the reduction to tridiagonal form is memory-bound).
    with blas_threads(1):
        result = minimize(
            objective,
            np.log(np.clip(psi0, _SMALLEST_NOISE, 1.0)),
            jac=True,
            method="L-BFGS-B",
            bounds=[(np.log(_SMALLEST_NOISE), 0.0)] * len(psi0),
            callback=lambda _: steps.append(evaluated[-1]),
            options={"ftol": tol, "gtol": 1e-7, "maxiter": max_iter, "maxcor": 20},
        )
        psi = np.exp(result.x)
        known = latest.get(result.x.tobytes())
        value, W = known or _profile(correlation, psi, k)
    # Status 1 is max_iter; 2 is a line search that rounding stops at the optimum.
    return W, psi, [*steps[:-1], value], bool(result.status != 1)


def _profile(
    correlation: NDArray[np.float64], psi: NDArray[np.float64], k: int
) -> tuple[float, NDArray[np.float64]]:
    """Return -2 LL / n at the best loadings for psi, and those loadings."""
    scale = 1 / np.sqrt(psi)
    theta, U = _top_eigenpairs(scale[:, None] * correlation * scale, k)
    excess = np.maximum(theta - 1, 0)
    W = np.sqrt(psi)[:, None] * U * np.sqrt(excess)
    explained = np.where(theta > 1, 1 + np.log(np.maximum(theta, 1)), theta).sum()
    rest = (np.diag(correlation) / psi).sum() - theta.sum()
    p = len(psi)
    return float(p * np.log(2 * np.pi) + explained + rest + np.log(psi).sum()), W


def _top_eigenpairs(matrix: NDArray[np.float64], k: int) -> tuple[Any, Any]:
    """Return the k largest eigenvalues, descending, and their eigenvectors."""
    from scipy.linalg import eigh
    from scipy.sparse.linalg import ArpackNoConvergence, eigsh

    p = len(matrix)
    if p > _LANCZOS_FROM and 8 * k < p:
        try:
            # A fixed start gives the same result each time. It is random, because a
            # symmetric start would keep its symmetry.
            start = np.random.default_rng(0).standard_normal(p)
            theta, U = eigsh(matrix, k, which="LA", v0=start)
            return theta[::-1], U[:, ::-1]
        except ArpackNoConvergence:
            pass
    theta, U = eigh(
        matrix, subset_by_index=[p - k, p - 1], overwrite_a=True, check_finite=False
    )
    return theta[::-1], U[:, ::-1]


def varimax(
    loadings: NDArray[np.float64], *, tol: float = 1e-6, max_iter: int = 100
) -> NDArray[np.float64]:
    """Return the rotation (k, k) that makes loadings either large or small.

    Kaiser's criterion (1958) without row normalisation, by iterated singular value
    decompositions.
    """
    p, k = loadings.shape
    # Scaled by a power of two: the cubes of any loadings then stay finite.
    _, exponent = np.frexp(np.abs(loadings).max())
    loadings = np.ldexp(loadings, -exponent)
    rotation = np.eye(k)
    criterion = 0.0
    for _ in range(max_iter):
        turned = loadings @ rotation
        pull = turned**3 - turned * ((turned**2).sum(axis=0) / p)
        U, s, Vt = np.linalg.svd(loadings.T @ pull)
        rotation = U @ Vt
        if criterion != 0 and s.sum() < criterion * (1 + tol):
            break
        criterion = s.sum()
    return rotation


def posterior_weight(W: Array, psi: Array) -> Array:
    """Return the matrix that maps centred rows to the factors' posterior means."""
    scaled = W / np.where(psi > 0, psi, np.inf)[:, None]
    gram = np.eye(W.shape[1]) + W.T @ scaled
    return np.asarray(np.linalg.solve(gram, scaled.T).T)


def precision(W: Array, psi: Array) -> Array:
    """Return the inverse of WW' + diag(psi), zero for columns without variance."""
    inverse = np.divide(1, psi, out=np.zeros_like(psi), where=psi > 0)
    scaled = W * inverse[:, None]
    out = -posterior_weight(W, psi) @ scaled.T
    out = (out + out.T) / 2  # but for rounding it is symmetric
    out[np.diag_indices_from(out)] += inverse
    return np.asarray(out)


def with_signs(W: Array, covariance: Array) -> Array:
    """Return loadings signed such that each factor's relatively largest is positive."""
    deviation = np.sqrt(np.diag(covariance))[:, None]
    strongest = np.abs(W / np.where(deviation > 0, deviation, 1)).argmax(axis=0)
    return W * np.where(W[strongest, np.arange(W.shape[1])] < 0, -1, 1)


def row_likelihood(W: Array, psi: Array) -> Callable[[Array], Array]:
    """Return a function that gives the log-likelihood of each centred row."""
    constant, whiten = likelihood_parts(W, psi)
    active = psi > 0
    psi = psi[active]

    def score(x: Array) -> Array:
        x = x[:, active]
        distance = (x * x / psi).sum(axis=1) - ((x @ whiten) ** 2).sum(axis=1)
        return np.asarray(-0.5 * (constant + distance))

    return score


def likelihood_parts(W: Array, psi: Array) -> tuple[float, Array]:
    """Return the constant of `row_likelihood`, and the matrix that whitens rows.

    Both are for the columns with variance alone: a constant column carries no
    information.
    """
    active = psi > 0
    W, psi = W[active], psi[active]
    root = np.linalg.cholesky(np.eye(W.shape[1]) + W.T @ (W / psi[:, None]))
    whiten = np.linalg.solve(root, (W / psi[:, None]).T).T
    constant = len(psi) * np.log(2 * np.pi) + np.log(psi).sum()
    return float(constant + 2 * np.log(np.diag(root)).sum()), whiten


def check_n_factors(n_components: int | None, n_features: int) -> None:
    """Raise if so many features have fewer factors."""
    if n_components is not None and n_components > n_features:
        raise ValueError(
            f"n_components={n_components} must be at most n_features={n_features}. Ask "
            "for fewer factors, or leave it None."
        )


def n_factors(n_components: int | None, covariance: Array) -> int:
    """Return the number of factors to fit; raise if there cannot be as many."""
    n_features = len(covariance)
    if not informative(np.diag(covariance)).any():
        raise ValueError(
            f"X is constant in all {n_features} columns, or within eras where rows are "
            "centred by era: there are no factors. Pass rows that vary."
        )
    check_n_factors(n_components, n_features)
    if n_components is None:
        return min(30, n_features)
    most = rank(covariance)
    if n_components > most:
        raise ValueError(
            f"n_components={n_components} is above the rank of the data: these rows "
            f"vary in {most} directions only (constant or duplicate columns, or too "
            f"few rows). Ask for at most {most} factors."
        )
    return int(n_components)
