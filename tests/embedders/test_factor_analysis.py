import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.decomposition import FactorAnalysis
from sklearn.exceptions import ConvergenceWarning

from numerai_features.datasets import make_era_panel
from numerai_features.embedders import FactorAnalysisEmbedder, _maximum_likelihood
from numerai_features.moments import EraMoments, Moments


@pytest.fixture(scope="module")
def rows():
    panel, truth = make_era_panel(
        n_eras=20, rows_per_era=200, n_features=40, n_factors=5, missing_share=0,
        return_truth=True, random_state=1,
    )  # fmt: skip
    return panel.X, panel.eras, truth.factors


def twin(fitted):
    """Scikit-learn's estimator with our parameters."""
    reference = FactorAnalysis(n_components=fitted.n_components_)
    reference.components_ = fitted.components_
    reference.noise_variance_ = fitted.noise_variance_
    reference.mean_ = fitted.mean_
    reference.n_features_in_ = fitted.n_features_in_
    return reference


def total_loglike(estimator, X):
    return twin(estimator).score(X.astype(np.float64)) * len(X)


class TestReferenceEquivalence:
    def test_scores_likelihoods_and_covariance_are_scikit_learns(self, rows):
        X, _, _ = rows
        ours = FactorAnalysisEmbedder(5).fit(X)
        reference = twin(ours)
        X64 = X.astype(np.float64)
        np.testing.assert_allclose(
            ours.transform(X), reference.transform(X64), atol=1e-6
        )
        np.testing.assert_allclose(
            ours.score_samples(X), reference.score_samples(X64), rtol=1e-9
        )
        np.testing.assert_allclose(ours.score(X), reference.score(X64), rtol=1e-12)
        np.testing.assert_allclose(
            ours.get_covariance(), reference.get_covariance(), atol=1e-12
        )
        precision = ours.get_precision()
        np.testing.assert_allclose(precision, reference.get_precision(), atol=1e-9)
        np.testing.assert_allclose(precision, np.linalg.inv(ours.get_covariance()))
        np.testing.assert_array_equal(precision, precision.T)

    @pytest.mark.parametrize("params", [{"rotation": "varimax"}, {"center": "era"}])
    @pytest.mark.parametrize("n_components", [1, 5, None])
    def test_precision_is_the_inverse_but_for_constant_columns(
        self, rows, n_components, params
    ):
        X, eras, _ = rows
        X = X.astype(np.float64) * np.logspace(-3, 3, X.shape[1])
        X[:, 2] = 3.0
        fitted = FactorAnalysisEmbedder(n_components, **params).fit(X, eras=eras)
        precision, rest = fitted.get_precision(), np.arange(X.shape[1]) != 2
        assert not precision[2].any()
        assert not precision[:, 2].any()
        scale = np.sqrt(np.diag(fitted.get_covariance()))[rest]
        product = (precision @ fitted.get_covariance())[np.ix_(rest, rest)]
        expected = np.eye(len(scale))
        np.testing.assert_allclose(
            product * scale[:, None] / scale, expected, atol=1e-7
        )

    def test_the_likelihood_is_told_once_a_step(self, rows):
        X, _, _ = rows
        for max_iter in (1, 3, 1000):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                ours = FactorAnalysisEmbedder(5, max_iter=max_iter).fit(X)
            assert ours.n_iter_ == len(ours.loglike_) == len(set(ours.loglike_))
            assert ours.n_iter_ <= max_iter
            assert {type(value) for value in ours.loglike_} == {float}
            assert ours.loglike_[-1] == pytest.approx(total_loglike(ours, X))
        assert ours.n_iter_ > 3

    def test_likelihood_is_not_below_scikit_learns(self, rows):
        X, _, _ = rows
        ours = FactorAnalysisEmbedder(5).fit(X)
        theirs = FactorAnalysis(5, svd_method="lapack", tol=1e-6, max_iter=5000).fit(X)
        np.testing.assert_allclose(
            ours.loglike_[-1], total_loglike(ours, X), rtol=1e-10
        )
        assert ours.loglike_[-1] >= theirs.loglike_[-1] * (1 + 1e-9)
        assert ours.loglike_ == sorted(ours.loglike_)
        # Both have found the same optimum.
        np.testing.assert_allclose(
            ours.noise_variance_, theirs.noise_variance_, rtol=2e-3
        )

    def test_varimax_is_scikit_learns(self, rows):
        X, _, _ = rows
        plain = FactorAnalysisEmbedder(5).fit(X)
        ours = FactorAnalysisEmbedder(5, rotation="varimax").fit(X)
        theirs = FactorAnalysis(5, rotation="varimax", tol=1e-7, max_iter=5000).fit(X)
        # Equal but for order and signs, as far as both iterations go.
        match = np.abs(np.corrcoef(ours.components_, theirs.components_)[:5, 5:])
        np.testing.assert_allclose(match.max(axis=1), 1, atol=0.03)
        criterion = [((f.components_**2).var(axis=1)).sum() for f in (ours, theirs)]
        assert criterion[0] > criterion[1] * (1 - 1e-4)
        assert criterion[0] > 1.1 * (plain.components_**2).var(axis=1).sum()
        np.testing.assert_allclose(ours.get_covariance(), plain.get_covariance())

    def test_profile_gradient_is_the_slope(self, rows):
        R = np.corrcoef(rows[0].T)
        psi = np.random.default_rng(0).uniform(0.3, 0.9, len(R))
        _, W = _maximum_likelihood._profile(R, psi, 5)
        gradient = ((W**2).sum(axis=1) + psi - 1) / psi
        for j in (0, 17):
            step = np.zeros(len(R))
            step[j] = 1e-5
            up, down = (
                _maximum_likelihood._profile(R, psi * np.exp(s), 5)[0]
                for s in (step, -step)
            )
            np.testing.assert_allclose((up - down) / 2e-5, gradient[j], rtol=1e-5)

    def test_lanczos_agrees_with_the_dense_eigensolver(self, rows, monkeypatch):
        X, _, _ = rows
        dense = FactorAnalysisEmbedder(3).fit(X)
        monkeypatch.setattr(_maximum_likelihood, "_LANCZOS_FROM", 10)
        lanczos = FactorAnalysisEmbedder(3).fit(X)
        np.testing.assert_allclose(lanczos.components_, dense.components_, atol=1e-6)


class TestProperties:
    def test_true_factors_are_found_on_unseen_eras(self, rows):
        X, eras, factors = rows
        train = eras <= 10
        Z = FactorAnalysisEmbedder(5).fit(X[train]).transform(X[~train])
        design = np.column_stack([Z, np.ones(len(Z))])
        fit, *_ = np.linalg.lstsq(design, factors[~train], rcond=None)
        explained = 1 - (factors[~train] - design @ fit).var(0) / factors[~train].var(0)
        assert explained.mean() > 0.6

    def test_partial_fit_and_from_moments_are_fit(self, rows):
        X, eras, _ = rows
        whole = FactorAnalysisEmbedder(5).fit(X, eras=eras)
        parts = FactorAnalysisEmbedder(5)
        for cut in np.array_split(np.arange(len(X)), 3):
            parts.partial_fit(X[cut], eras=eras[cut])
        merged = FactorAnalysisEmbedder.from_moments(
            Moments.from_rows(X[:1000]) + Moments.from_rows(X[1000:]), n_components=5
        )
        np.testing.assert_array_equal(merged.components_, whole.components_)
        np.testing.assert_allclose(parts.components_, whole.components_, atol=2e-4)
        np.testing.assert_allclose(parts.loglike_[-1], whole.loglike_[-1], rtol=1e-9)
        np.testing.assert_array_equal(parts.fitted_eras_, whole.fitted_eras_)

    def test_partial_fit_with_features_that_start_late(self):
        X = make_era_panel(random_state=0, missing_share=0.3).X
        whole, parts = FactorAnalysisEmbedder(8).fit(X), FactorAnalysisEmbedder(8)
        for part in np.array_split(X, 4):
            parts.partial_fit(part)
        np.testing.assert_allclose(parts.components_, whole.components_, atol=1e-6)

    def test_symmetry_does_not_hide_a_factor(self):
        p = 400
        S = np.eye(p) / 2
        S[:200, :200] += 0.5
        S[200:, 200:] += 0.5
        moments = Moments(1000, np.zeros(p), 1000 * S, np.zeros(p))
        fitted = FactorAnalysisEmbedder.from_moments(moments, n_components=2)
        np.testing.assert_allclose(fitted.get_covariance(), S, atol=1e-4)

    def test_units_and_little_noise_do_not_matter(self):
        rng = np.random.default_rng(0)
        z = rng.normal(size=(5000, 2))
        X = z @ rng.normal(size=(2, 10)) + 0.03 * rng.normal(size=(5000, 10))
        units = 10.0 ** np.arange(-5, 5)
        plain = FactorAnalysisEmbedder(2).fit(X)
        scaled = FactorAnalysisEmbedder(2).fit(X * units + 100 * units)
        np.testing.assert_allclose(
            scaled.components_ / units, plain.components_, rtol=1e-3
        )
        theirs = FactorAnalysis(2, svd_method="lapack", tol=1e-8, max_iter=10_000).fit(
            X
        )
        assert plain.loglike_[-1] >= theirs.loglike_[-1] * (1 - 1e-9)

    def test_float_bins_give_what_int8_gives(self, rows):
        X, _, _ = rows
        a, b = (FactorAnalysisEmbedder(5).fit(X.astype(t)) for t in (np.int8, float))
        np.testing.assert_allclose(a.components_, b.components_, atol=1e-6)

    def test_a_constant_column_has_no_loading_and_does_no_harm(self, rows):
        X = rows[0].copy()
        X[:, 3] = 2
        fitted = FactorAnalysisEmbedder(5).fit(X)
        rest = FactorAnalysisEmbedder(5).fit(np.delete(X, 3, axis=1))
        assert not fitted.components_[:, 3].any()
        assert fitted.noise_variance_[3] == 0
        X[:, 3] = 4
        np.testing.assert_allclose(
            fitted.transform(X), rest.transform(np.delete(X, 3, axis=1)), atol=1e-6
        )
        assert np.isfinite(fitted.score_samples(X)).all()

    def test_all_columns_constant_within_eras(self):
        X = np.repeat(np.arange(4.0), 5)[:, None] * np.ones(3)
        eras = np.repeat(np.arange(1, 5), 5)
        assert FactorAnalysisEmbedder().fit_transform(X, eras=eras).any()
        with pytest.raises(ValueError, match="X is constant in all 3 columns, or with"):
            FactorAnalysisEmbedder(center="era").fit(X, eras=eras)

    def test_duplicate_columns_hit_the_floor_of_the_noise_and_stay_finite(self, rows):
        X = np.column_stack([rows[0], rows[0][:, :3]])
        fitted = FactorAnalysisEmbedder(8).fit(X)
        assert np.isfinite(fitted.transform(X)).all()
        assert (fitted.noise_variance_ / X.var(axis=0)).min() > 0.9e-6

    def test_nan_is_the_median_of_fit(self, rows):
        X = rows[0].astype(np.float32)
        gaps = np.random.default_rng(0).random(X.shape) < 0.05
        holes = np.where(gaps, np.nan, X)
        fitted = FactorAnalysisEmbedder(5).fit(holes)
        filled = np.where(gaps, np.nanmedian(holes, axis=0), X)
        np.testing.assert_allclose(fitted.transform(holes), fitted.transform(filled))
        again = FactorAnalysisEmbedder(5).fit(filled)
        np.testing.assert_array_equal(again.components_, fitted.components_)
        np.testing.assert_allclose(
            fitted.score_samples(holes), fitted.score_samples(filled)
        )

    def test_a_pickle_is_small_and_leaves_the_moments_behind(self, rows):
        X, _, _ = rows
        fitted = FactorAnalysisEmbedder(5).fit(X)
        assert isinstance(fitted.moments_, Moments)
        copy = pickle.loads(pickle.dumps(fitted))
        np.testing.assert_array_equal(copy.transform(X), fitted.transform(X))
        with pytest.raises(ValueError, match="leaves its moments_ behind"):
            copy.partial_fit(X)

    def test_n_components_none_is_at_most_thirty(self, rows):
        assert FactorAnalysisEmbedder().fit(rows[0]).n_components_ == 30
        assert FactorAnalysisEmbedder().fit(rows[0][:, :7]).n_components_ == 7


class TestStatisticalContract:
    """center="era": what an era's rows get depends on that era alone."""

    def test_era_means_do_not_matter(self, rows):
        X, eras, _ = rows
        drift = (eras % 3)[:, None].astype(np.int8)
        a = FactorAnalysisEmbedder(5, center="era").fit(X, eras=eras)
        b = FactorAnalysisEmbedder(5, center="era").fit(X + drift, eras=eras)
        np.testing.assert_allclose(a.components_, b.components_, atol=1e-5)
        np.testing.assert_allclose(
            a.transform(X, eras=eras), b.transform(X + drift, eras=eras), atol=1e-4
        )

    def test_other_eras_labels_and_order_do_not_matter(self, rows):
        X, eras, _ = rows
        fitted = FactorAnalysisEmbedder(5, center="era").fit(X, eras=eras)
        whole = fitted.transform(X, eras=eras)
        one = eras == 7
        np.testing.assert_allclose(
            fitted.transform(X[one], eras=eras[one]), whole[one], atol=1e-6
        )
        names = np.array([f"{e + 500:04d}" for e in eras])
        np.testing.assert_allclose(fitted.transform(X, eras=names), whole, atol=1e-6)
        order = np.random.default_rng(0).permutation(len(X))
        np.testing.assert_allclose(
            fitted.transform(X[order], eras=eras[order]), whole[order], atol=1e-5
        )

    def test_era_likelihood_is_that_of_centred_rows(self, rows):
        X, eras, _ = rows
        fitted = FactorAnalysisEmbedder(5, center="era").fit(X, eras=eras)
        means = np.stack([X[eras == e].mean(axis=0) for e in np.unique(eras)])
        centred = X - means[np.searchsorted(np.unique(eras), eras)]
        np.testing.assert_allclose(
            fitted.score_samples(X, eras=eras),
            twin(fitted).score_samples(centred),
            rtol=1e-8,
        )

    def test_a_frame_brings_its_eras(self, rows):
        X, eras, _ = rows
        frame = pd.DataFrame(X).add_prefix("f").assign(era=[f"{e:04d}" for e in eras])
        fitted = FactorAnalysisEmbedder(5, center="era").fit(frame)
        expected = FactorAnalysisEmbedder(5, center="era").fit(X, eras=eras)
        np.testing.assert_array_equal(
            fitted.transform(frame), expected.transform(X, eras=eras)
        )

    def test_fitted_with_eras_transforms_with_eras(self, rows):
        X, eras, _ = rows
        fitted = FactorAnalysisEmbedder(5, center="era").fit(X, eras=eras)
        for method in (fitted.transform, fitted.score_samples, fitted.partial_fit):
            with pytest.raises(ValueError, match="fitted with eras and works era by"):
                method(X)
        without = FactorAnalysisEmbedder(5, center="era").fit(X)
        assert without.transform(X).shape == (len(X), 5)

    def test_era_moments_are_needed(self, rows):
        X, eras, _ = rows
        moments = EraMoments.from_rows(X, eras)
        direct = FactorAnalysisEmbedder(5, center="era").fit(X, eras=eras)
        ours = FactorAnalysisEmbedder.from_moments(
            moments, n_components=5, center="era"
        )
        np.testing.assert_array_equal(ours.components_, direct.components_)
        np.testing.assert_array_equal(ours.fitted_eras_, np.arange(1, 21))
        with pytest.raises(ValueError, match="center='era' needs EraMoments"):
            FactorAnalysisEmbedder.from_moments(moments.total(), center="era")

    def test_eras_that_are_names_are_not_kept_as_numbers(self, rows):
        X, eras, _ = rows
        names = np.array([f"{'ab'[era % 2]}{era}" for era in eras])
        moments = EraMoments.from_rows(X, names)
        ours = FactorAnalysisEmbedder.from_moments(moments, n_components=2)
        assert ours.fitted_eras_ is None
        fitted = FactorAnalysisEmbedder(2, center="era").fit(X, eras=names)
        assert fitted.fitted_eras_ is None

    def test_partial_fit_without_eras_takes_all_rows_for_one(self, rows):
        X = rows[0]
        embedder = FactorAnalysisEmbedder(2, center="era")
        for part in (X[:700], X[700:]):
            embedder.partial_fit(part)
        whole = FactorAnalysisEmbedder(2, center="era").fit(X)
        np.testing.assert_allclose(embedder.components_, whole.components_, atol=1e-9)


class TestValidation:
    @pytest.mark.parametrize("k", [41, 400])
    def test_more_factors_than_features(self, rows, k):
        with pytest.raises(ValueError, match=rf"n_components={k} must be at most n_fe"):
            FactorAnalysisEmbedder(k).fit(rows[0])

    def test_more_factors_than_the_rank(self, rows):
        X = rows[0][:, [0, 0, 0, 1]].copy()
        X[:, 3] = 2
        with pytest.raises(ValueError, match=r"vary in 1 directions only.*at most 1"):
            FactorAnalysisEmbedder(2).fit(X)
        with pytest.raises(ValueError, match="n_components=5 is above the rank"):
            FactorAnalysisEmbedder(5).fit(rows[0][:4])

    def test_nan_where_it_is_refused(self, rows):
        X = rows[0].astype(float)
        fitted = FactorAnalysisEmbedder(5, missing="raise").fit(X)
        X[3, 1] = np.nan
        for method in (fitted.transform, clone(fitted).fit):
            with pytest.raises(ValueError, match="NaN and missing='raise'"):
                method(X)

    def test_too_few_steps_warn(self, rows):
        with pytest.warns(ConvergenceWarning, match="max_iter=1 steps"):
            FactorAnalysisEmbedder(5, max_iter=1).fit(rows[0])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            FactorAnalysisEmbedder(5).fit(rows[0])

    def test_feature_names_of_moments_are_checked(self, rows):
        X = pd.DataFrame(rows[0]).add_prefix("f")
        fitted = FactorAnalysisEmbedder.from_moments(
            Moments.from_rows(rows[0]), feature_names=list(X), n_components=2
        )
        assert fitted.transform(X).shape == (len(X), 2)
        with pytest.raises(ValueError, match="feature names"):
            fitted.transform(X[list(X)[::-1]])
