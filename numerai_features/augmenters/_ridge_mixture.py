"""New targets for the rows of an era."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from numerai_features._arguments import COUNT, N_JOBS, NOT_NEGATIVE, SEED, Whole
from numerai_features._blocks import as_slice, row_blocks
from numerai_features._threads import blas_threads
from numerai_features._validation import (
    check_known,
    fill_missing,
    known_numbers,
    missing_values,
)
from numerai_features.augmenters._base import BaseAugmenter, draw_copies, n_extra
from numerai_features.augmenters._mixture import fit_mixture
from numerai_features.augmenters._new_rows import NewRows
from numerai_features.augmenters._target_bins import TargetBins
from numerai_features.moments import EraMoments

_MOST_FACTORS = 50
_ROWS_A_FACTOR = 10  # of the median era, where the number of factors is not told
_LEAST_ROWS = 2  # of an era, a factor and a target
_FEWEST_ERAS = 3
_MOST_SIGNAL = 0.999  # standard deviation, of 1
_ROUNDING = 1e-9  # of a target's size: less is constant
_LEAST_VARIANCE = 1e-6  # of the largest axis's: less is rounding


class RidgeMixtureTargets(BaseAugmenter):
    r"""Copies of rows with synthetic targets: as if other weeks had come of them.

    In each era a ridge regression of the target on the era's factors :math:`u_e`: the
    features on the principal axes of all eras' correlations within eras, uncorrelated
    and of unit variance in the era. Its coefficients are correlations,
    :math:`w_e = u_e^\top y_e / n_e`, times a constant that its penalty decides and that
    drops out: there is no penalty to choose. A Bayesian mixture of normal distributions
    is fitted to the :math:`w_e`. Draws :math:`w^*` from it make targets
    :math:`u_e w^* / \rho + \varepsilon`, which are ranked into the target's bins:
    :math:`\varepsilon` is normal noise, uncorrelated with the factors in the era, that
    makes their variance one, and :math:`\rho` the correlation of a normal number with
    its bin. So the features' correlations with new targets have the mean and the
    covariance over eras that those with the fitted targets have, as far as they lie in
    the factors. One of the methods of Numerai's forum.

    Parameters
    ----------
    copies : float, default=1
        New rows for each row; each copy of an era has targets of its own. Of a part of
        1 so many rows of every era are drawn, with the targets of a whole copy.
    synthetic_eras : int, default=0
        Wholly new eras: as many rows as an era has in the median, drawn from all rows,
        with targets of their own. Their numbers are -1, -2 and so on, before all eras
        that came, so that nothing that holds out the last eras holds them out.
    n_factors : int, default=None
        Axes that the targets are regressed on. None: 50, or the features' rank or a
        tenth of the median era's rows where that is less. An era with fewer than two
        rows for each factor and each target is not fitted, and its new targets have
        their correlations in the mean alone.
    n_regimes : int, default=3
        Components of the mixture, at most: one for each regime.
    random_state : int, RandomState or None, default=None
        Seed.
    n_jobs : int, default=None
        Number of BLAS threads for the features' covariance, counted as in
        `DAEEmbedder`. The smaller products of each era use one.

    Attributes
    ----------
    axes_ : ndarray of shape (n_features, n_factors)
        Features, less their era's mean, times these are factors of unit variance.
    coef_ : ndarray of shape (n_fitted_eras, n_targets, n_factors)
        Correlations of targets with factors in each era: coefficients of ridge
        regressions, but for a constant. In directions in which an era does not vary,
        as where features are missing, those of another era.
    fitted_eras_ : ndarray of shape (n_fitted_eras,) or None
        Numbers of the eras that were fitted: with rows enough, of which at least half
        have each target. None if the eras are names without numbers.
    mixture_ : BayesianGaussianMixture or None
        Fitted to `coef_` in the directions in which they vary most, 50 at most, each of
        unit variance; None if they do not vary.
    n_factors_ : int
        Number of factors.
    n_features_in_ : int
        Number of features seen in fit.
    feature_names_in_ : ndarray of shape (n_features,)
        Their names, where X had string names.

    Notes
    -----
    Targets are ranked into the values that the target has, as often as it has them: for
    Numerai's 0, .25, .5, .75 and 1 that is 5, 20, 50, 20 and 5 % of an era. Those of
    more than 50 values are ranked into the means of 50 bins of the same size. Several
    targets are drawn together and correlate as those that came. Every new row has
    targets, also those of eras that came without.

    The mixture's variational posterior is mapped to the mean and covariance of the
    coefficients, less what ranking adds to them. It cannot take off more than is there:
    where eras are fewer than factors times targets, and bins are coarse, drawn
    correlations vary more than fitted ones (by a third, for a binary target, ten eras
    of 400 rows and 24 factors). Each covariance is factored once, and a draw is a
    product with it.

    Examples
    --------
    >>> from numerai_features.augmenters import RidgeMixtureTargets
    >>> from numerai_features.datasets import make_era_panel
    >>> panel = make_era_panel(n_eras=20, rows_per_era=100, random_state=0)
    >>> y = panel.y("target_alpha_20")
    >>> more = RidgeMixtureTargets(copies=2, synthetic_eras=3, random_state=0)
    >>> rows = more.fit_resample(panel.X, y, eras=panel.eras)
    >>> rows.X.shape
    (6300, 60)
    >>> int(rows.eras[-1]), more.coef_.shape
    (-3, (20, 1, 10))
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "copies": [NOT_NEGATIVE],
        "synthetic_eras": [Whole(0)],
        "n_factors": [Whole(1), None],
        "n_regimes": [COUNT],
        "random_state": SEED,
        "n_jobs": N_JOBS,
    }

    def __init__(
        self,
        copies=1,
        *,
        synthetic_eras=0,
        n_factors=None,
        n_regimes=3,
        random_state=None,
        n_jobs=None,
    ):
        self.copies = copies
        self.synthetic_eras = synthetic_eras
        self.n_factors = n_factors
        self.n_regimes = n_regimes
        self.random_state = random_state
        self.n_jobs = n_jobs

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    def _make_rows(self, rows, rng):
        self._check(rows)
        fill = missing_values(rows.X, "middle")
        with blas_threads(self.n_jobs):
            moments = EraMoments.from_rows(rows.X, rows.eras, fill=fill)
        return self._new_targets(rows, moments, fill, rng)

    # More threads would wait for each other longer than they work, by far where cores
    # are busy. Nor do any bits depend on their number.
    @blas_threads(1)
    def _new_targets(self, rows, moments, fill, rng):
        """Fit the mixture, and return the new rows."""
        self._fit_axes(rows, moments, fill)
        fitted = self._fit_coefficients(rows, rng)
        self._fit_mixture(rows.eras.counts[fitted], int(rng.integers(1 << 31)))
        n, copied = len(rows.X), draw_copies(rows, self.copies, rng)
        size = int(np.median(rows.eras.counts))
        y = np.empty((len(copied) + self.synthetic_eras * size, rows.y.shape[1]))
        source, new_eras = np.empty(len(y), np.intp), np.zeros(len(y), np.int64)
        source[: len(copied)] = copied
        if self.copies:
            self._copy(rows, copied, y, rng)
        last = min(0, int(rows.eras.numbers[0]))
        for i in range(self.synthetic_eras):
            new = slice(len(copied) + i * size, len(copied) + (i + 1) * size)
            source[new] = rng.choice(n, size, replace=False, shuffle=False)
            new_eras[new] = last - i - 1
            [y[new]] = self._draw_targets(self._factors(rows.X, source[new]), 1, rng)
        return NewRows(source, lambda new: rows.X[source[new]], y, new_eras=new_eras)

    def _copy(self, rows, source, y, rng):
        """Write the targets of copies: whole ones, and of a part of each era's rows."""
        n = len(rows.X)
        whole = int(self.copies)
        n_draws = whole + (self.copies > whole)
        start = whole * n
        for _, mine in rows.by_era():
            drawn = self._draw_targets(self._factors(rows.X, mine), n_draws, rng)
            for copy in range(whole):
                y[copy * n + mine] = drawn[copy]
            if n_draws > whole:
                part = slice(start, start + n_extra(self.copies, len(mine)))
                y[part] = drawn[whole][np.searchsorted(mine, source[part])]
                start = part.stop

    def _check(self, rows):
        """Raise if there is nothing to fit or to make."""
        self._require_targets(rows)
        if rows.eras is None:
            raise ValueError(
                "RidgeMixtureTargets needs eras, which are None: it fits a regression "
                "to each. Pass eras=, or a frame with a column 'era'."
            )
        if not self.copies and not self.synthetic_eras:
            raise ValueError("copies and synthetic_eras are both 0: set one of them.")
        if self.synthetic_eras:
            rows.eras.labels_of(np.array([-1]))

    def _fit_axes(self, rows, moments, fill):
        """Find principal axes of the features' correlations within eras."""
        self._center = moments.total().mean
        self._fill = fill - self._center
        covariance = moments.within().covariance()
        sd = np.sqrt(np.diag(covariance))
        scale = np.divide(1, sd, out=np.zeros_like(sd), where=sd > 0)
        values, vectors = np.linalg.eigh(scale[:, None] * covariance * scale)
        values, vectors = values[::-1], vectors[:, ::-1]
        rank = int((values > _LEAST_VARIANCE * max(values[0], 1e-30)).sum())
        if rank == 0:
            raise ValueError(
                f"X is constant within eras in all {rows.X.shape[1]} columns: there "
                "are no factors. Pass rows that vary."
            )
        wanted = self.n_factors
        if wanted is None:
            typical = int(np.median(rows.eras.counts))
            wanted = min(_MOST_FACTORS, max(1, typical // _ROWS_A_FACTOR))
        d = self.n_factors_ = min(wanted, rank)
        self._least_rows = _LEAST_ROWS * (d + rows.y.shape[1])
        self.axes_ = scale[:, None] * vectors[:, :d] / np.sqrt(values[:d])

    def _factors(self, X, mine):
        """Return some rows on the axes nearest to the common ones that are their own.

        Uncorrelated, of unit variance: less where they vary in fewer directions. Of too
        few rows, which would fit anything, on the common ones.
        """
        wide = X.dtype.itemsize > 1
        axes = self.axes_ if wide else self.axes_.astype(np.float32)
        z = np.empty((len(mine), axes.shape[1]), np.float32)
        for part in row_blocks(len(mine), X.shape[1]):
            block = X[as_slice(mine[part])]
            if wide:  # large or tiny, as float32 would not hold them
                block = fill_missing(block - self._center, self._fill)
            z[part] = block.astype(axes.dtype, copy=False) @ axes
        z -= z.mean(axis=0)
        if len(z) < self._least_rows:
            return z
        variance, turn = np.linalg.eigh((z.T @ z / len(z)).astype(np.float64))
        kept = variance > _LEAST_VARIANCE * max(variance[-1], 1e-30)
        variance, turn = variance[kept], turn[:, kept]
        return z @ (turn / np.sqrt(variance) @ turn.T).astype(np.float32)

    def _fit_coefficients(self, rows, rng):
        """Regress each era's targets, and see how they are binned and correlate.

        Returns
        -------
        list of int
            The codes of the eras that could be fitted.
        """
        y = rows.y
        self._bins = [TargetBins.of(column) for column in y.T]
        for j, bins in enumerate(self._bins):
            check_known(y[:, j], f"column {j} of y")
            if len(bins.values) < 2:
                raise ValueError(
                    f"Column {j} of y has {len(bins.values)} distinct values; a "
                    "target must have two at least. Leave it out."
                )
        coefs, directions, fitted = [], [], []
        joint = np.zeros((2, y.shape[1], y.shape[1]))
        for code, mine in rows.by_era():
            scores, known = _standardized(y[mine])
            joint += scores.T @ scores, known.T @ known
            count = known.sum(axis=0)
            few = (2 * count < len(mine)).any() or len(mine) < self._least_rows
            if few or not scores.any(axis=0).all():
                continue
            u = self._factors(rows.X, mine)
            coefs.append((u.T @ scores / count).T)
            directions.append(u.T @ u / len(u))
            fitted.append(code)
        if len(coefs) < _FEWEST_ERAS:
            raise ValueError(
                f"{len(coefs)} eras have {self._least_rows} rows or more, half of them "
                f"or more with each target, and none constant; {_FEWEST_ERAS} are "
                f"needed. Pass more eras, or lower n_factors={self.n_factors_}."
            )
        self.coef_ = _completed(np.stack(coefs), np.stack(directions), rng)
        self.fitted_eras_ = known_numbers(rows.eras, fitted)
        observed = joint[0] / np.maximum(joint[1], 1)
        self._correlation = np.eye(y.shape[1])
        for a, b in combinations(range(y.shape[1]), 2):
            latent = self._bins[a].latent_correlation(self._bins[b], observed[a, b])
            self._correlation[a, b] = self._correlation[b, a] = latent
        return fitted

    def _fit_mixture(self, counts, seed):
        """Fit the mixture to the coefficients, less what ranking will add to them.

        Parameters
        ----------
        counts : ndarray of shape (n_fitted_eras,)
            Rows of the eras that the coefficients are of.
        seed : int
        """
        lost = np.array([1 - bins.attenuation**2 for bins in self._bins])
        noise = np.sqrt(lost * (1 / counts).mean())
        self._mixture, self.mixture_ = fit_mixture(
            self.coef_.reshape(len(self.coef_), -1),
            self.n_regimes,
            np.repeat(noise, self.n_factors_),
            seed,
        )

    def _draw_targets(self, u, n_draws, rng):
        """Return targets of rows with such factors, (n_draws, n, n_targets)."""
        attenuation = np.array([bins.attenuation for bins in self._bins])
        coefs = self._mixture.draw(n_draws, rng).reshape(n_draws, len(attenuation), -1)
        out = np.empty((n_draws, len(u), len(attenuation)))
        for drawn, coef in zip(out, coefs, strict=True):
            signal = u @ (coef.T / attenuation)
            # Some noise is left, that tells rows apart which have the same features.
            signal /= np.maximum(1, signal.std(axis=0) / _MOST_SIGNAL)
            left = self._correlation - signal.T @ signal / len(u)
            values, vectors = np.linalg.eigh(left)
            spread = vectors * np.sqrt(np.maximum(values, 0))
            noise = rng.standard_normal((len(u), len(spread)), np.float32)
            if len(u) >= self._least_rows:
                noise -= noise.mean(axis=0)
                noise = _white(noise - u @ (u.T @ noise / len(u)))
            numbers = signal + noise @ spread.T
            for j, bins in enumerate(self._bins):
                drawn[:, j] = bins.rank(numbers[:, j])
        return out


def _white(noise):
    """Return columns turned and scaled to be uncorrelated, of unit variance."""
    factor = np.linalg.cholesky(noise.T.astype(np.float64) @ noise / len(noise))
    return np.linalg.solve(factor, noise.T).T


def _completed(coefs, directions, rng):
    """Return coefficients, with others' where an era does not vary.

    As where features are missing in early eras: zeros would be taken for the truth.
    """
    varied = np.trace(directions, axis1=1, axis2=2)
    whole = np.flatnonzero(varied > varied.max() - 0.5)
    for era in np.flatnonzero(varied <= varied.max() - 0.5):
        other = coefs[rng.choice(whole)]
        coefs[era] += other - other @ directions[era]
    return coefs


def _standardized(y):
    """Return targets of mean 0 and variance 1, 0 where unknown, and which are known."""
    known = ~np.isnan(y)
    count = np.maximum(known.sum(axis=0), 1)
    y = np.where(known, y, 0)
    size = np.abs(y).max(axis=0)
    y = np.where(known, y - y.sum(axis=0) / count, 0)
    sd = np.sqrt((y**2).sum(axis=0) / count)
    varies = sd > _ROUNDING * size
    return np.divide(y, sd, out=np.zeros_like(y), where=varies), known.astype(float)
