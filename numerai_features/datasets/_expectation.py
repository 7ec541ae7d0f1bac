"""Expectation of a ranked target over all draws of a synthetic market.

An era's returns are ranked into bins with fixed numbers of rows. So the expectation
follows from the probabilities that a row is above each edge between bins.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from numerai_features._bins import TARGET_SHARES, bin_cuts

_Array = NDArray[np.float64]

_VALUES = np.linspace(0, 1, len(TARGET_SHARES))  # of a target's bins
_STEPS = 100  # bisection alone needs 60
_CLOSE = 1e-10  # tolerance of the expected number of rows
_FAR = 9.0  # standard deviations beyond which the normal tail is negligible


def expected_targets(
    mean: _Array, shared: _Array, noise: float
) -> tuple[_Array, _Array]:
    """Return the expected target of each row of an era, over draws of the market.

    Parameters
    ----------
    mean, shared : ndarray of shape (n_rows,)
        The mean of each row's return, and the variance that factor returns, which rows
        share, add to it. Both are computed from signals centred over the rows.
    noise : float
        The variance of each row's own noise.

    Returns
    -------
    targets : ndarray of shape (n_rows,)
        Expectation of the target, from 0 to 1.
    corr_targets : ndarray of shape (n_rows,)
        Expectation of the target as CORR transforms it: centred, raised to the power
        1.5 with its sign, centred and divided by its standard deviation. The transform
        depends on the number of rows in each bin, which is the same in all draws.
    """
    n = len(mean)
    cuts = bin_cuts(n, TARGET_SHARES)
    above = np.zeros((len(cuts), n))
    above[cuts == 0] = 1
    parting = (cuts > 0) & (cuts < n)
    above[parting] = _above(mean, shared, noise, n - cuts[parting])
    counts = np.diff(cuts.clip(max=n), prepend=0, append=n)
    powers = _corr_values(counts)
    return np.diff(_VALUES) @ above, powers[0] + np.diff(powers) @ above


def _above(mean: _Array, shared: _Array, noise: float, n_above: Any) -> _Array:
    """Return each row's probability of being among the k highest, (n_counts, n_rows).

    A row is among the k highest if its return is above that of all but k - 1 of the
    other rows. With many rows, this edge is the same for all rows and nearly constant.
    With few rows, it moves with the noise of the other rows. And it is lower for rows
    with a higher expected return, because a row's edge depends on the other rows only.
    """
    n = len(mean)
    sd = np.sqrt(noise + shared)
    edge = _edges(mean, sd, n_above)
    above = ndtr((mean - edge) / sd)
    density = np.exp(-(((mean - edge) / sd) ** 2) / 2) / (np.sqrt(2 * np.pi) * sd)
    # How fast the expected number of other rows above an edge falls with the edge.
    slope = density.mean(axis=1, keepdims=True) * (n - 1)
    lower = (above - above.mean(axis=1, keepdims=True)) / slope
    moves = (above * (1 - above)).mean(axis=1, keepdims=True) * (n - 1) / slope**2
    centre, spread = mean + lower, np.sqrt(sd**2 + moves)
    edge = _edges(centre, spread, n_above)
    return np.asarray(ndtr((centre - edge) / spread))


def _edges(mean: Any, sd: Any, n_above: Any) -> _Array:
    """Return the edges with the given expected numbers of rows above, (n_counts, 1)."""
    n_above = np.asarray(n_above, np.float64)[:, None]
    shape = (len(n_above), np.shape(mean)[-1])
    mean, sd = np.broadcast_to(mean, shape), np.broadcast_to(sd, shape)
    low = (mean - _FAR * sd).min(axis=1, keepdims=True)
    high = (mean + _FAR * sd).max(axis=1, keepdims=True)
    spread = np.sqrt((sd**2).mean(axis=1) + mean.var(axis=1))[:, None]
    edge = mean.mean(axis=1, keepdims=True) - spread * ndtri(n_above / shape[1])
    for _ in range(_STEPS):
        z = (mean - edge) / sd
        excess = ndtr(z).sum(axis=1, keepdims=True) - n_above
        if np.abs(excess).max() < _CLOSE:
            break
        low = np.where(excess > 0, edge, low)
        high = np.where(excess > 0, high, edge)
        slope = (np.exp(-(z**2) / 2) / (np.sqrt(2 * np.pi) * sd)).sum(axis=1)[:, None]
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            step = edge + excess / slope
        inside = (step > low) & (step < high)
        edge = np.where(inside, step, (low + high) / 2)
    return np.asarray(edge)


def _corr_values(counts: NDArray[np.int64]) -> _Array:
    """Return each bin's value under CORR's transform, standardised over the rows."""
    share = counts / counts.sum()
    centred = _VALUES - share @ _VALUES
    powers = centred * np.sqrt(np.abs(centred))
    powers -= share @ powers
    return np.asarray(powers / np.sqrt(share @ powers**2))
