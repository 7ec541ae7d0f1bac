"""Factor analysis by maximum likelihood, from second moments only."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from numerai_features._arguments import COUNT, N_JOBS, NOT_NEGATIVE, ROWS, checked
from numerai_features._bins import MIDDLE_BIN
from numerai_features._compat import StrOptions
from numerai_features._rows import Rows
from numerai_features._threads import blas_threads
from numerai_features._validation import (
    check_columns,
    check_missing,
    check_size,
    known_numbers,
    missing_values,
    names_only,
    require_eras,
)
from numerai_features._warn import warn
from numerai_features._whole_fit import remember_parameters, whole_fit
from numerai_features.embedders import _maximum_likelihood as ml
from numerai_features.embedders._gaussian import GaussianModel
from numerai_features.encoders import Affine, Encoder, Fill
from numerai_features.moments import EraMoments, Moments


class FactorAnalysisEmbedder(
    GaussianModel, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    r"""Factor analysis: latent factors plus Gaussian noise, one variance per feature.

    The model is :math:`x = \mu + W z + \epsilon` with :math:`z \sim N(0, I)` and
    :math:`\epsilon \sim N(0, \mathrm{diag}(\psi))`. The likelihood depends on the rows
    only through their mean and covariance, so `fit` passes over the rows once
    (`Moments`; exact for int8 bins, no float copy of the table) and then maximises the
    likelihood by L-BFGS over :math:`\log\psi` [1]_ [2]_. `transform` returns the
    posterior means
    :math:`E[z \mid x] = (I + W^\top \Psi^{-1} W)^{-1} W^\top \Psi^{-1} (x - \mu)`, as
    :class:`sklearn.decomposition.FactorAnalysis` does.

    Parameters
    ----------
    n_components : int, default=None
        Number of factors; None means ``min(30, n_features)``.
    rotation : {None, "varimax"}, default=None
        Rotation of the loadings. It changes neither the likelihood nor the span of the
        factors.
    center : {"all", "era"}, default="all"
        "all": subtract the mean of all rows. "era": subtract the mean of the row's era,
        in `fit` and in `transform`. Then a row's factors depend on the other rows of
        its era, so transform whole eras.
    missing : {"middle", "raise"}, default="middle"
        "middle": NaN becomes the column's median learned in `fit` (2 for bins 0 to 4).
        "raise": NaN is an error.
    tol : float, default=1e-10
        Stop when a step's relative gain in log-likelihood is smaller than this.
    max_iter : int, default=1000
        Largest number of L-BFGS steps.
    n_jobs : int, default=None
        Number of BLAS threads in `fit`, counted as in `DAEEmbedder`.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        Loadings, :math:`W^\top`, in descending order of their share of the likelihood.
    noise_variance_ : ndarray of shape (n_features,)
        Noise variances :math:`\psi`; zero where a feature is constant, else at least
        a millionth of its variance (at zero the likelihood would be infinite).
    mean_ : ndarray of shape (n_features,)
        Mean of the rows; 0 with ``center="era"``, since the rows are centred.
    loglike_ : list of float
        Log-likelihood of the rows after each step, `n_iter_` numbers.
    n_components_ : int
        The resolved number of factors.
    n_iter_ : int
        Number of L-BFGS steps.
    encoder_ : Encoder
        The encoder that `transform` runs.
    moments_ : Moments, EraMoments or None
        The moments that `partial_fit` continues from; None in pickles and copies, since
        it takes ``8 * n_features ** 2`` bytes and `transform` does not need it.
    fitted_eras_ : ndarray of shape (n_eras,) or None
        Era numbers seen in fit, None if no eras were given.
    n_features_in_ : int
        Number of features seen in fit.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if X had string names.

    See Also
    --------
    sklearn.decomposition.FactorAnalysis : The same model by a slower iteration.
    numerai_features.compose.LatentFeatures : Features and latents together.

    Notes
    -----
    The cost is one pass over the rows (``n_rows * n_features ** 2`` floating-point
    operations) and some ten to thirty partial eigendecompositions of an
    ``n_features x n_features`` matrix; memory is a few such matrices.

    References
    ----------
    .. [1] Joreskog, K. G. (1967). Some contributions to maximum likelihood factor
       analysis. Psychometrika 32, 443-482.
    .. [2] Barber, D. (2012). Bayesian Reasoning and Machine Learning, algorithm 21.1.

    Examples
    --------
    >>> from numerai_features.datasets import make_era_panel
    >>> from numerai_features.embedders import FactorAnalysisEmbedder
    >>> panel = make_era_panel(n_eras=8, rows_per_era=100, n_features=20,
    ...                           n_factors=4, random_state=0)
    >>> embedder = FactorAnalysisEmbedder(n_components=4).fit(panel.X, eras=panel.eras)
    >>> embedder.transform(panel.X).shape
    (800, 4)
    >>> embedder.get_feature_names_out()[:1]
    array(['factoranalysisembedder0'], dtype=object)
    """

    __metadata_request__fit = {"eras": True}
    __metadata_request__partial_fit = {"eras": True}
    __metadata_request__transform = {"eras": True}
    __metadata_request__score = {"eras": True}

    _parameter_constraints: dict[str, list[Any]] = {
        "n_components": [COUNT, None],
        "rotation": [StrOptions({"varimax"}), None],
        "center": [StrOptions({"all", "era"})],
        "missing": [StrOptions({"middle", "raise"})],
        "tol": [NOT_NEGATIVE],
        "max_iter": [COUNT],
        "n_jobs": N_JOBS,
    }

    def __init__(
        self,
        n_components=None,
        *,
        rotation=None,
        center="all",
        missing="middle",
        tol=1e-10,
        max_iter=1000,
        n_jobs=None,
    ):
        self.n_components = n_components
        self.rotation = rotation
        self.center = center
        self.missing = missing
        self.tol = tol
        self.max_iter = max_iter
        self.n_jobs = n_jobs

    @whole_fit(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, *, eras=None, sample_weight=None):
        """Fit the factors to rows.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            Finite numbers or NaN. int8 stays int8. A frame's ``era`` column is removed
            and used as `eras`.
        y : Ignored
            Present for API consistency.
        eras : array-like of shape (n_rows,), default=None
            Era labels, kept as ``fitted_eras_`` and used by ``center="era"`` (without
            them all rows are one era).
        sample_weight : array-like of shape (n_rows,), default=None
            Weights of the rows.

        Returns
        -------
        self
        """
        self._fit(Rows.read(self, X, None, eras, sample_weight, min_rows=2))
        return self

    @whole_fit(prefer_skip_nested_validation=True, fixed=["center"])
    def partial_fit(self, X, y=None, *, eras=None, sample_weight=None):
        """Add rows to those of earlier calls, and fit the factors to all of them.

        The result is that of `fit` on all rows at once, except that the values that
        replace NaN are learned from the first call's rows.

        Parameters
        ----------
        X, y, eras, sample_weight
            As in `fit`.

        Returns
        -------
        self
        """
        first = not hasattr(self, "components_")
        if not first and self.moments_ is None:
            raise ValueError(
                "partial_fit cannot continue: a pickled or copied estimator leaves "
                "its moments_ behind. Keep them beside it and set moments_, or use "
                "from_moments on the sum of both Moments."
            )
        if first:
            return self.fit(X, eras=eras, sample_weight=sample_weight)
        rows = Rows.read(self, X, None, eras, sample_weight, reset=False)
        self._check_later_rows(rows)
        before, seen = self.fitted_eras_, known_numbers(rows.eras)
        together = None  # rows without eras may be of any era
        if before is not None and seen is not None:
            together = np.union1d(before, seen)
        self._solve(self.moments_ + self._gather(rows), together)
        return self

    @classmethod
    @checked(moments=[Moments, EraMoments], feature_names=[ROWS, None])
    def from_moments(cls, moments, *, feature_names=None, **params):
        """Fit the factors to moments gathered elsewhere.

        Parameters
        ----------
        moments : Moments or EraMoments
            ``center="era"`` needs `EraMoments`.
        feature_names : sequence of str, default=None
            Names of the features, checked in `transform`.
        **params
            Parameters of the estimator.

        Returns
        -------
        FactorAnalysisEmbedder
            Fitted; NaN in `transform` becomes bin 2.

        Examples
        --------
        >>> import numpy as np
        >>> from numerai_features.moments import Moments
        >>> rng = np.random.default_rng(0)
        >>> a, b = rng.integers(0, 5, (2, 50, 4)).astype(np.int8)
        >>> moments = Moments.from_rows(a) + Moments.from_rows(b)
        >>> FactorAnalysisEmbedder.from_moments(moments, n_components=1).n_components_
        1
        """
        self = cls(**params)
        self._validate_params()
        remember_parameters(self)
        if self.center == "era" and not isinstance(moments, EraMoments):
            raise ValueError(
                "center='era' needs EraMoments, which keep the sums of each era; got "
                f"{type(moments).__name__}."
            )
        n_features = moments.n_features
        if feature_names is not None:
            if len(feature_names) != n_features:
                raise ValueError(
                    f"feature_names has {len(feature_names)} names, but the moments "
                    f"are of {n_features} features; pass one name for each."
                )
            check_columns(self, names_only(list(feature_names)), reset=True)
        self.n_features_in_ = n_features
        self.missing_values_ = np.full(n_features, MIDDLE_BIN, np.float32)
        numbered = isinstance(moments, EraMoments) and not moments.named
        self._solve(moments, moments.numbers if numbered else None)
        return self

    def transform(self, X, *, eras=None):
        """Return the posterior means of the factors.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            The features of fit.
        eras : array-like of shape (n_rows,), default=None
            Required with ``center="era"`` if `fit` had eras; otherwise ignored.

        Returns
        -------
        ndarray of shape (n_rows, n_components), float32
        """
        return self._transform(self._read_later(X, eras))

    @whole_fit(prefer_skip_nested_validation=True)
    def fit_transform(self, X, y=None, *, eras=None, sample_weight=None):
        """Fit the factors and return the rows' posterior means.

        Parameters
        ----------
        X, y, eras, sample_weight
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_rows, n_components), float32
        """
        rows = Rows.read(self, X, None, eras, sample_weight, min_rows=2)
        self._fit(rows)
        return self._transform(rows)

    def _check_parameters(self, n_features, n_targets):
        """Raise if parameters do not fit such a table; an experiment calls it, too."""
        ml.check_n_factors(self.n_components, n_features)

    def _fit(self, rows):
        self._check_parameters(rows.X.shape[1], 0)
        self.missing_values_ = missing_values(rows.X, self.missing, rows.counted)
        self._solve(self._gather(rows), known_numbers(rows.eras))

    def _gather(self, rows):
        options = {"sample_weight": rows.weights, "fill": self.missing_values_}
        with blas_threads(self.n_jobs):
            if self.center == "era":
                return EraMoments.from_rows(rows.X, rows.era_index, **options)
            return Moments.from_rows(rows.X, **options)

    @blas_threads(1)  # no bits depend on n_jobs, or on how many threads BLAS has
    def _solve(self, gathered, fitted_eras):
        """Fit the factors to moments and keep the moments."""
        moments = gathered
        if isinstance(moments, EraMoments):
            moments = moments.within() if self.center == "era" else moments.total()
        covariance = moments.covariance()
        k = ml.n_factors(self.n_components, covariance)
        solution = ml.solve(covariance, k, tol=self.tol, max_iter=self.max_iter)
        if not solution.converged:
            warn(
                f"FactorAnalysisEmbedder did not converge in max_iter={self.max_iter} "
                "steps; raise max_iter or tol.",
                ConvergenceWarning,
            )
        W = solution.loadings
        if self.rotation == "varimax":
            W = W @ ml.varimax(W)
        W = ml.with_signs(W, covariance)
        self.n_components_ = k
        self.mean_ = moments.mean
        self.components_ = W.T
        self.noise_variance_ = solution.noise_variance
        self.loglike_ = [float(-0.5 * moments.weight * f) for f in solution.objective]
        self.n_iter_ = len(solution.objective)
        weight = ml.posterior_weight(W, solution.noise_variance)
        # float64: a float32 sum over hundreds of bins has visible rounding error.
        factors = ("factors", Affine(weight, -self.mean_ @ weight))
        self.encoder_ = Encoder([("fill", Fill(self.missing_values_)), factors])
        self.moments_ = gathered
        self.fitted_eras_ = fitted_eras

    def _transform(self, rows):
        if self._fitted_with.center == "all":
            return self.encoder_.transform(rows.X)
        # The encoder is affine: centring its output centres its input.
        out = np.empty((rows.n_rows, self.n_components_))
        Z = self.encoder_.transform(rows.X, out=out)
        for _, mine in rows.era_index.rows_by_era():
            Z[mine] -= Z[mine].mean(axis=0)
        check_size(Z, "transform(X)")
        return Z.astype(np.float32)

    def _read_later(self, X, eras):
        """Check rows for a fitted embedder."""
        check_is_fitted(self)
        rows = Rows.read(self, X, None, eras, reset=False)
        self._check_later_rows(rows)
        return rows

    def _check_later_rows(self, rows):
        if self._fitted_with.center == "era":
            require_eras(rows.eras, self.fitted_eras_ is not None, type(self).__name__)
        check_missing(rows.X, self._fitted_with.missing)

    def __getstate__(self):
        state = super().__getstate__()
        return {**state, "moments_": None} if "moments_" in state else state

    @property
    def _by_era(self):
        return self._fitted_with.center == "era"

    @property
    def _n_features_out(self):
        return self.n_components_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "middle"
        tags.transformer_tags.preserves_dtype = []
        return tags
