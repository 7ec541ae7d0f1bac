"""The bins of a target, and the effect of ranking normal numbers into them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from numerai_features._bins import MOST_BINS, bin_rows

_N_TERMS = 200  # of the Hermite series of the binning function


@dataclass(frozen=True)
class TargetBins:
    """Values of a target and their frequencies.

    Attributes
    ----------
    values : ndarray of shape (n_bins,)
        Ascending.
    shares : ndarray of shape (n_bins,)
        Shares of the rows with each value; they sum to 1.
    """

    values: NDArray[np.float64]
    shares: NDArray[np.float64]

    @classmethod
    def of(cls, y: NDArray[np.float64]) -> TargetBins:
        """Return a target's bins: its values, or 50 equal-sized bins if it has more."""
        y = np.sort(y[~np.isnan(y)])
        values, counts = np.unique(y, return_counts=True)
        if len(values) > MOST_BINS:
            parts = np.array_split(y, MOST_BINS)
            values = np.array([part.mean() for part in parts])
            counts = np.array([len(part) for part in parts])
        return cls(values, counts / counts.sum())

    def rank(self, numbers: NDArray[Any]) -> NDArray[np.float64]:
        """Rank numbers into the bins; return the bins' values."""
        return np.asarray(self.values[bin_rows(numbers[None], tuple(self.shares))[0]])

    @cached_property
    def sd(self) -> float:
        """Standard deviation."""
        mean = self.shares @ self.values
        return float(np.sqrt(self.shares @ (self.values - mean) ** 2))

    @cached_property
    def hermite(self) -> NDArray[np.float64]:
        r"""Hermite coefficients of the binning of a normal number.

        They expand unit-variance bins in :math:`He_k / \sqrt{k!}`, k from 1; their norm
        is 1 up to truncation.
        """
        cuts = norm.ppf(np.cumsum(self.shares[:-1]))
        jumps = np.diff(self.values) * norm.pdf(cuts)
        last, now = np.zeros_like(cuts), np.ones_like(cuts)
        terms = []
        for k in range(1, _N_TERMS + 1):
            terms.append(jumps @ now / np.sqrt(k))
            last, now = now, (cuts * now - np.sqrt(k - 1) * last) / np.sqrt(k)
        return np.array(terms) / self.sd

    @property
    def attenuation(self) -> float:
        """Correlation of a normal number with its bin."""
        return float(self.hermite[0])

    def latent_correlation(self, other: TargetBins, observed: float) -> float:
        """Return the correlation of normal numbers whose bins have the observed one."""
        grid = np.linspace(-1, 1, 401)
        powers = grid[:, None] ** np.arange(1, _N_TERMS + 1)
        binned = powers @ (self.hermite * other.hermite)
        return float(np.interp(observed, binned, grid))
