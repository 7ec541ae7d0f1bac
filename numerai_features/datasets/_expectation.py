"""What a ranked target is expected to be, for rows of which the market is known.

An era's returns are ranked into bins of fixed numbers of rows. So all that is needed is
the probability that a row is above each edge.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from numerai_features._bins import TARGET_SHARES, bin_cuts

_Array = NDArray[np.float64]

_VALUES = np.linspace(0, 1, len(TARGET_SHARES))  # of a target's bins
_STEPS = 100  # halvings alone need 60
_CLOSE = 1e-10  # of a row
_FAR = 9.0  # standard deviations: beyond them doubles have no tail


def expected_targets(
    mean: _Array, shared: _Array, noise: float
) -> tuple[_Array, _Array]:
    """Return what the target of each of an era's rows is over draws of the market.

    Parameters
    ----------
    mean, shared : ndarray of shape (n_rows,)
        The mean of each row's return, and its variance by what other rows earn, too:
        factor returns. Both are of signals centred over the rows.
    noise : float
        The variance of each row's own noise.

    Returns
    -------
    targets : ndarray of shape (n_rows,)
        Of the target, from 0 to 1.
    corr_targets : ndarray of shape (n_rows,)
        Of the target as CORR takes it: centred, raised to the power 1.5 with its sign,
        centred and divided by its standard deviation. These depend on how many rows
        each bin has, which no draw changes.
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
    """Return each row's probability to be among the highest, (n_counts, n_rows).

    A row is among the highest k if its return is above that of all but k - 1 of the
    others. Of many rows, that edge is the same for all, and hardly moves. Of few, it
    moves with the others' noise; and it is the lower, the higher the row itself is
    expected to be, for then it is missing among the others.
    """
    n = len(mean)
    sd = np.sqrt(noise + shared)
    edge = _edges(mean, sd, n_above)
    above = ndtr((mean - edge) / sd)
    density = np.exp(-(((mean - edge) / sd) ** 2) / 2) / (np.sqrt(2 * np.pi) * sd)
    slope = density.mean(axis=1, keepdims=True) * (n - 1)  # of the others' number
    lower = (above - above.mean(axis=1, keepdims=True)) / slope
    moves = (above * (1 - above)).mean(axis=1, keepdims=True) * (n - 1) / slope**2
    centre, spread = mean + lower, np.sqrt(sd**2 + moves)
    edge = _edges(centre, spread, n_above)
    return np.asarray(ndtr((centre - edge) / spread))


def _edges(mean: Any, sd: Any, n_above: Any) -> _Array:
    """Return the edges above which a number of rows is expected, (n_counts, 1)."""
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
    """Return each bin's value as CORR takes it, standardised over an era's rows."""
    share = counts / counts.sum()
    centred = _VALUES - share @ _VALUES
    powers = centred * np.sqrt(np.abs(centred))
    powers -= share @ powers
    return np.asarray(powers / np.sqrt(share @ powers**2))
