"""A mixture of normal distributions: factored once, for many draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MOST_DIRECTIONS = 50  # in which the mixture is fitted
_DIGITS = 6  # decimals of unit-variance rows that are compared to count distinct ones
_LEAST_SPREAD = 1e-7  # relative to the widest direction; less is rounding error


@dataclass(frozen=True)
class Mixture:
    """Shares, means and Cholesky factors of normal distributions.

    Attributes
    ----------
    shares : ndarray of shape (n_components,)
    means : ndarray of shape (n_components, n)
    factors : ndarray of shape (n_components, n, r)
        A factor times its transpose is the component's covariance.
    """

    shares: NDArray[np.float64]
    means: NDArray[np.float64]
    factors: NDArray[np.float64]

    @classmethod
    def of(cls, fitted: Any) -> Mixture:
        """Return the mixture that scikit-learn fitted with full covariances."""
        factors = np.linalg.cholesky(fitted.covariances_)
        return cls(fitted.weights_, fitted.means_, factors)

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean over all components, of shape (n,)."""
        return np.asarray(self.shares @ self.means)

    @property
    def covariance(self) -> NDArray[np.float64]:
        """Covariance within and between components, (n, n)."""
        wide = np.concatenate(
            [self.factors, (self.means - self.mean)[:, :, None]], axis=2
        )
        wide = np.concatenate(np.sqrt(self.shares)[:, None, None] * wide, axis=1)
        return np.asarray(wide @ wide.T)

    def mapped(
        self, matrix: NDArray[np.float64], shift: NDArray[np.float64]
    ) -> Mixture:
        """Return the mixture of ``matrix @ x + shift``."""
        return Mixture(
            self.shares, self.means @ matrix.T + shift, matrix @ self.factors
        )

    def widened(self, n: int) -> Mixture:
        """Return the mixture with n more features: independent standard normal."""
        means = np.pad(self.means, ((0, 0), (0, n)))
        factors = np.pad(self.factors, ((0, 0), (0, n), (0, n)))
        new = np.arange(self.means.shape[1], means.shape[1])
        factors[:, new, new] = 1
        return Mixture(self.shares, means, factors)

    def draw(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return draws of shape (n, n_features)."""
        component = rng.choice(len(self.shares), n, p=self.shares)
        noise = rng.standard_normal((n, self.factors.shape[2]))
        out = self.means[component]
        for k in np.unique(component):
            mine = component == k
            out[mine] += noise[mine] @ self.factors[k].T
        return out


def fit_mixture(
    rows: NDArray[np.float64], n_components: int, noise: NDArray[np.float64], seed: int
) -> tuple[Mixture, Any]:
    """Fit a Bayesian mixture whose mean and covariance are those of the rows.

    The mixture is fitted in the directions of largest variance, each scaled to unit
    variance; all other directions get one normal distribution. The variational
    posterior is shrunk, so a linear map restores the mean and covariance of the rows.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n)
    n_components : int
        Largest number of components; it is limited to the number of distinct rows.
    noise : ndarray of shape (n,)
        Standard deviation, above 0, of noise that is added to the draws later; its
        variance is subtracted from the mixture's.
    seed : int

    Returns
    -------
    mixture : Mixture
    fitted : BayesianGaussianMixture or None
        None if all rows are the same.
    """
    from sklearn.mixture import BayesianGaussianMixture

    n = len(rows)
    center = rows.mean(axis=0)
    u, s, vt = np.linalg.svd((rows - center) / noise, full_matrices=False)
    r = int((s > _LEAST_SPREAD * max(s[0], np.abs(center / noise).max())).sum())
    if r == 0:
        return Mixture(np.ones(1), center[None], np.zeros((1, len(center), 0))), None
    lead = min(r, _MOST_DIRECTIONS)
    leading = u[:, :lead] * np.sqrt(n)
    n_kinds = len(np.unique(leading.round(_DIGITS), axis=0))
    # scikit-learn divides the prior's scatter by its degrees of freedom.
    fitted = BayesianGaussianMixture(
        n_components=min(n_components, n_kinds),
        covariance_prior=lead * np.eye(lead),
        degrees_of_freedom_prior=lead,
        max_iter=2000,
        random_state=seed,
    ).fit(leading)
    mixed = Mixture.of(fitted)
    whiten = np.linalg.inv(np.linalg.cholesky(mixed.covariance))
    white = mixed.mapped(whiten, -whiten @ mixed.mean).widened(r - lead)
    sd = np.sqrt(np.maximum(s[:r] ** 2 / n - 1, 0))
    return white.mapped(noise[:, None] * vt[:r].T * sd, center), fitted
