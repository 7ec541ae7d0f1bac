"""Synthetic targets: what they keep of the fitted ones, and of which rows they are."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.mixture import BayesianGaussianMixture
from sklearn.tree import DecisionTreeClassifier

from numerai_features import AugmentedClassifier, make_era_panel
from numerai_features._bins import TARGET_SHARES, bin_rows
from numerai_features.augmenters import ComposeAugmenters, RidgeMixtureTargets
from numerai_features.augmenters._mixture import Mixture, fit_mixture
from numerai_features.augmenters._target_bins import TargetBins

NUMERAI = TargetBins(np.arange(5) / 4, np.array(TARGET_SHARES))


def correlations(X, y, eras):
    """Return the correlation of each feature with a target in each era."""
    out = []
    for era in np.unique(eras):
        x, t = X[eras == era].astype(float), y[eras == era]
        x, t = x - x.mean(axis=0), t - t.mean()
        size = np.sqrt((x**2).sum(axis=0) * (t**2).sum())
        out.append(x.T @ t / np.maximum(size, 1e-12))
    return np.array(out)


def p_values(drawn, fitted):
    """Return those of the fitted eras' mean, and covariance, being the drawn ones'.

    Beside as many eras that are drawn from the fitted ones.
    """
    rng, sd = np.random.default_rng(0), fitted.std(axis=0)

    def away(rows):
        mean = (rows.mean(axis=0) - fitted.mean(axis=0)) / sd
        covariance = (np.cov(rows.T) - np.cov(fitted.T)) / np.outer(sd, sd)
        return np.linalg.norm(mean), np.linalg.norm(covariance)

    resampled = rng.integers(len(fitted), size=(400, len(drawn)))
    chance = np.array([away(fitted[eras]) for eras in resampled])
    return (chance >= away(drawn)).mean(axis=0)


class TestMixture:
    @pytest.fixture(scope="class")
    @staticmethod
    def fitted():
        rng = np.random.default_rng(0)
        rows = rng.normal(size=(90, 6)) @ rng.normal(size=(6, 6))
        rows[:30] += 4
        return BayesianGaussianMixture(n_components=3, random_state=0).fit(rows)

    def test_draws_are_scikit_learns(self, fitted):
        theirs, _ = fitted.sample(40_000)
        ours = Mixture.of(fitted).draw(40_000, np.random.default_rng(0))
        scale = np.sqrt(np.diag(np.cov(theirs.T)))
        far = np.abs(ours.mean(axis=0) - theirs.mean(axis=0)) / scale
        assert far.max() < 5 * np.sqrt(2 / 40_000)
        between = (np.cov(ours.T) - np.cov(theirs.T)) / np.outer(scale, scale)
        assert np.abs(between).max() < 0.04

    def test_moments_are_of_all_components(self, fitted):
        mixture = Mixture.of(fitted).mapped(2 * np.eye(6)[:4], np.ones(4))
        drawn = mixture.draw(200_000, np.random.default_rng(0))
        np.testing.assert_allclose(mixture.mean, drawn.mean(axis=0), atol=0.05)
        np.testing.assert_allclose(mixture.covariance, np.cov(drawn.T), rtol=0.05,
                                   atol=0.1)  # fmt: skip

    @settings(max_examples=25)
    @given(st.integers(3, 40), st.integers(1, 80), st.integers(0, 99))
    def test_has_the_moments_of_the_rows(self, n, p, seed):
        """Less the noise that comes later, where they vary as much."""
        rng = np.random.default_rng(seed)
        rows = rng.normal(size=(n, p)) @ rng.normal(size=(p, p)) + 3
        mixture, _ = fit_mixture(rows, 3, np.full(p, 1e-6), seed)
        S = np.cov(rows.T, bias=True).reshape(p, p)
        np.testing.assert_allclose(mixture.mean, rows.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(mixture.covariance, S, atol=1e-6 * np.abs(S).max())
        noisy, _ = fit_mixture(rows, 3, np.full(p, 0.5), seed)
        values = np.linalg.eigvalsh(S)
        kept = np.maximum(values - 0.25, 0)
        np.testing.assert_allclose(
            np.linalg.eigvalsh(noisy.covariance), kept, atol=1e-6 * values[-1]
        )

    def test_regimes_stay_apart(self):
        rng = np.random.default_rng(0)
        rows = rng.normal(size=(100, 2))
        rows[:50, 0] += 20
        mixture, _ = fit_mixture(rows, 2, np.full(2, 1e-6), 0)
        drawn = mixture.draw(2000, rng)[:, 0]
        assert (np.abs(drawn - 10) < 5).mean() < 0.1
        assert 0.4 < (drawn > 10).mean() < 0.6

    def test_rows_that_are_the_same(self):
        mixture, fitted = fit_mixture(np.ones((5, 3)), 3, np.ones(3), 0)
        assert fitted is None
        np.testing.assert_array_equal(
            mixture.draw(4, np.random.default_rng(0)), np.ones((4, 3))
        )


class TestBins:
    def test_correlation_of_a_normal_number_with_its_bin(self):
        x = norm.ppf((np.arange(200_000) + 0.5) / 200_000)
        for shares in (TARGET_SHARES, (0.1, 0.3, 0.6)):
            bins = TargetBins(np.arange(len(shares)) * 0.3, np.array(shares))
            expected = np.corrcoef(x, bins.rank(x))[0, 1]
            assert abs(bins.attenuation - expected) < 1e-4

    @pytest.mark.parametrize("r", [-0.7, 0.0, 0.2, 0.5, 0.9])
    def test_correlation_of_two_before_they_are_binned(self, r):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(2, 400_000))
        x[1] = r * x[0] + np.sqrt(1 - r**2) * x[1]
        other = TargetBins(np.array([0.0, 1.0]), np.array([0.5, 0.5]))
        for bins in (NUMERAI, other):
            observed = np.corrcoef(NUMERAI.rank(x[0]), bins.rank(x[1]))[0, 1]
            assert abs(NUMERAI.latent_correlation(bins, observed) - r) < 0.01

    def test_a_targets_own(self):
        y = np.array([0, 0, 1 / 6, 1 / 6, 1 / 6, 1, np.nan])
        bins = TargetBins.of(y)
        np.testing.assert_array_equal(bins.values, [0, 1 / 6, 1])
        np.testing.assert_allclose(bins.shares, [1 / 3, 1 / 2, 1 / 6])
        many = TargetBins.of(np.arange(100.0))
        np.testing.assert_allclose(many.values, np.arange(0.5, 100, 2))
        np.testing.assert_allclose(many.shares, 1 / 50)


@pytest.fixture(scope="module")
def panel():
    return make_era_panel(60, 400, 24, 6, missing_share=0, random_state=0)


class TestTargets:
    def test_correlations_have_the_same_mean_and_covariance(self):
        panel = make_era_panel(200, 400, 24, 6, random_state=0)
        more = RidgeMixtureTargets(3, random_state=0)
        out = more.fit_resample(panel.X, panel.y(), eras=panel.eras)
        fitted, *drawn = (
            correlations(panel.X, y, panel.eras) for y in np.split(out.y, 4)
        )
        drawn = np.concatenate(drawn)
        assert more.n_factors_ == 24
        assert (p_values(drawn, fitted) > 0.01).all()
        # Of what it can tell.
        assert p_values(1.1 * drawn, fitted)[1] < 0.01
        assert p_values(0.9 * drawn, fitted)[1] < 0.01
        shifted = drawn + 0.3 * fitted.std(axis=0)
        assert p_values(shifted, fitted)[0] < 0.01

    def test_fewer_factors(self, panel):
        """Theirs are the same; what lies outside is as much noise as sampling makes."""
        more = RidgeMixtureTargets(10, n_factors=12, random_state=0)
        out = more.fit_resample(panel.X, panel.y(), eras=panel.eras)
        first, *others = np.split(out.y, 11)
        fitted = correlations(panel.X, first, panel.eras)
        drawn = [correlations(panel.X, y, panel.eras) for y in others]
        ratio = np.mean([d.var(axis=0) for d in drawn]) / fitted.var(axis=0).mean()
        assert 0.95 < ratio < 1.05
        X = panel.X @ more.axes_
        fitted = correlations(X, first, panel.eras)
        drawn = np.concatenate([correlations(X, y, panel.eras) for y in others])
        assert (p_values(drawn, fitted) > 0.01).all()

    def test_features_that_are_missing_in_early_eras(self):
        """They vary as much as in the eras that have them."""
        panel = make_era_panel(100, 400, 12, 4, missing_share=0, random_state=0)
        X = panel.X.copy()
        X[panel.eras <= 50, :3] = 2
        more = RidgeMixtureTargets(10, random_state=0)
        out = more.fit_resample(X, panel.y(), eras=panel.eras)
        first, *others = np.split(out.y, 11)
        late = panel.eras > 50
        fitted = correlations(X[late], first[late], panel.eras[late])
        drawn = [correlations(X[late], y[late], panel.eras[late]) for y in others]
        ratio = np.mean([d[:, :3].var() for d in drawn]) / fitted[:, :3].var()
        assert 0.8 < ratio < 1.25

    def test_bins_of_every_era(self, panel):
        out = RidgeMixtureTargets(2, synthetic_eras=2, random_state=0).fit_resample(
            panel.X, panel.y(), eras=panel.eras
        )
        new, eras = out.y[panel.n_rows :], out.eras[panel.n_rows :]
        for era in np.unique(eras):
            _, counts = np.unique(new[eras == era], return_counts=True)
            copies = 1 if era < 0 else 2
            np.testing.assert_array_equal(
                counts, np.array([20, 80, 200, 80, 20]) * copies
            )
        assert out.y.dtype == np.float32

    def test_targets_of_a_copy_are_others(self, panel):
        out = RidgeMixtureTargets(2, random_state=0).fit_resample(
            panel.X, panel.y(), eras=panel.eras
        )
        of, one, two = out.y.reshape(3, -1)
        for a, b in ((of, one), (of, two), (one, two)):
            assert abs(np.corrcoef(a, b)[0, 1]) < 0.05
        X = out.X.reshape(3, *panel.X.shape)
        np.testing.assert_array_equal(X[1], panel.X)

    def test_several_targets_are_drawn_together(self, panel):
        targets = panel.targets
        out = RidgeMixtureTargets(4, random_state=0).fit_resample(
            panel.X, targets, eras=panel.eras
        )
        new = out.y[panel.n_rows :]
        before, after = np.corrcoef(targets.T), np.corrcoef(new.T)
        assert before[0, 1] > 0.3
        np.testing.assert_allclose(after, before, atol=0.03)

    def test_eras_without_a_target_have_new_ones(self, panel):
        y = panel.y().copy()
        y[panel.eras > 50] = np.nan
        y[::7] = np.nan
        more = RidgeMixtureTargets(random_state=0)
        out = more.fit_resample(panel.X, y, eras=panel.eras)
        np.testing.assert_array_equal(more.fitted_eras_, np.arange(1, 51))
        assert np.isfinite(out.y[panel.n_rows :]).all()

    def test_a_part_of_the_rows(self, panel):
        out = RidgeMixtureTargets(1.25, random_state=0).fit_resample(
            panel.X, panel.y(), eras=panel.eras
        )
        new = out.eras[panel.n_rows :]
        assert list(np.bincount(new)[1:]) == [500] * 60
        last = out.y[2 * panel.n_rows :]
        shares = np.unique(last, return_counts=True)[1] / len(last)
        np.testing.assert_allclose(shares, TARGET_SHARES, atol=0.02)

    def test_nearly_a_copy_more(self, panel):
        """Of rows in any order: as many as whole copies, each with a row's own target.

        Which the features tell, here.
        """
        order = np.random.default_rng(0).permutation(panel.n_rows)
        y, eras = panel.y()[order], panel.eras[order]
        X = np.maximum(y, 0.25)[:, None]
        out = RidgeMixtureTargets(1.9999, n_regimes=1, random_state=0).fit_resample(
            X, y, eras=eras
        )
        assert len(out.X) == 3 * panel.n_rows
        for part in np.split(np.arange(panel.n_rows, 3 * panel.n_rows), 2):
            assert np.corrcoef(out.X[part, 0], out.y[part])[0, 1] > 0.9

    def test_classes_stay_classes(self, panel):
        y = (4 * panel.y()).astype(int)
        more = RidgeMixtureTargets(random_state=0)
        out = more.fit_resample(panel.X, y, eras=panel.eras)
        assert out.y.dtype == y.dtype
        model = AugmentedClassifier(DecisionTreeClassifier(max_depth=2), more)
        model.fit(panel.X, y, eras=panel.eras)
        assert model.predict_proba(panel.X).shape == (panel.n_rows, 5)

    def test_gaps_and_columns_that_do_not_vary(self, panel):
        X = panel.X.astype(float)
        X[:, 3], X[:, 5] = 7, X[:, 4]
        X[::9, 0] = np.nan
        X[panel.eras < 20, 6] = 2
        more = RidgeMixtureTargets(n_factors=24, random_state=0)
        out = more.fit_resample(X, panel.y(), eras=panel.eras)
        assert more.n_factors_ == 22
        np.testing.assert_array_equal(out.X[panel.n_rows :], X)

    @pytest.mark.parametrize("dtype", [np.int64, np.int32, float])
    def test_far_from_zero(self, panel, dtype):
        far = panel.X.astype(dtype) + 10**9
        y, eras = panel.y(), panel.eras
        found = []
        for X in (panel.X, far):
            more = RidgeMixtureTargets(random_state=0)
            out = more.fit_resample(X, y, eras=eras)
            found.append((more.coef_, out.y))
        np.testing.assert_allclose(found[1][0], found[0][0], atol=1e-5)
        assert (found[0][1] != found[1][1]).mean() < 0.01

    def test_eras_of_few_rows(self, panel):
        """They are not fitted, and are given targets nevertheless."""
        rows = np.r_[:4000, 4000:4003, 4400:4407]
        X, y, eras = panel.X[rows], panel.y()[rows].copy(), panel.eras[rows]
        y[-7:] = np.nan
        more = RidgeMixtureTargets(500, random_state=0)
        out = more.fit_resample(X, y, eras=eras)
        np.testing.assert_array_equal(more.fitted_eras_, np.arange(1, 11))
        assert more.n_factors_ == 24
        new = out.y[len(X) :].reshape(500, -1)
        assert np.isfinite(new).all()
        fitted = correlations(X[:4000], y[:4000], eras[:4000]).mean(axis=0)
        few = X[-7:] - X[-7:].mean(axis=0)
        drawn = few.T @ new[:, -7:].mean(axis=0)
        assert np.corrcoef(drawn, few.T @ few @ fitted)[0, 1] > 0.3

    def test_rare_values_stay_rare(self, panel):
        y = panel.y().copy()
        y[5], y[1000] = 1.5, -0.5
        out = RidgeMixtureTargets(random_state=0).fit_resample(
            panel.X, y, eras=panel.eras
        )
        new = out.y[panel.n_rows :]
        assert new.max() == 1
        assert new.min() == 0

    def test_targets_that_are_not_in_bins(self, panel):
        rng = np.random.default_rng(0)
        y = 0.01 * (panel.y() + rng.normal(size=panel.n_rows)) + 7
        out = RidgeMixtureTargets(random_state=0).fit_resample(
            panel.X, y, eras=panel.eras
        )
        before, after = np.split(out.y, 2)
        for q in (0.1, 0.5, 0.9):
            assert abs(np.quantile(before, q) - np.quantile(after, q)) < 0.002

    def test_features_that_tell_the_target(self, panel):
        X = np.maximum(panel.y(), 0.25)[:, None]
        out = RidgeMixtureTargets(n_regimes=1, random_state=0).fit_resample(
            X, panel.y(), eras=panel.eras
        )
        _, counts = np.unique(out.y[panel.n_rows :], return_counts=True)
        np.testing.assert_array_equal(counts, np.array([20, 80, 200, 80, 20]) * 60)

    def test_eras_that_are_alike(self, panel):
        """Fewer kinds of them than components: nothing to warn of."""
        some = panel.eras <= 3
        X, y = np.tile(panel.X[some], (2, 1)), np.tile(panel.y()[some], 2)
        more = RidgeMixtureTargets(n_regimes=5, random_state=0)
        more.fit_resample(X, y, eras=np.repeat(np.arange(6), 400))
        assert more.mixture_.n_components == 3

    def test_refusals(self, panel):
        X, y, eras = panel.X, panel.y(), panel.eras
        fit = RidgeMixtureTargets(random_state=0).fit_resample
        with pytest.raises(ValueError, match="Targets estimator requires y"):
            fit(X, eras=eras)
        with pytest.raises(ValueError, match="needs eras"):
            fit(X, y)
        with pytest.raises(ValueError, match="contains infinity"):
            fit(X, np.where(y > 0.9, np.inf, y), eras=eras)
        with pytest.raises(ValueError, match="column 1 of y is NaN in all"):
            fit(X, np.c_[y, y * np.nan], eras=eras)
        with pytest.raises(ValueError, match="1 distinct values"):
            fit(X, np.ones(len(X)), eras=eras)
        with pytest.raises(ValueError, match="and none constant"):
            fit(X, eras / 60, eras=eras)
        with pytest.raises(ValueError, match="y is NaN in all 2"):
            fit(X, np.full(len(X), np.nan), eras=eras)
        with pytest.raises(ValueError, match="2 eras have 50 rows or more"):
            fit(X, np.where(eras > 2, np.nan, y), eras=eras)
        with pytest.raises(
            ValueError, match="X is constant within eras in all 24 columns"
        ):
            fit(np.ones_like(X), y, eras=eras)
        with pytest.raises(ValueError, match="both 0"):
            RidgeMixtureTargets(0).fit_resample(X, y, eras=eras)
        with pytest.raises(ValueError, match="0 eras have 402 rows or more"):
            RidgeMixtureTargets(n_factors=200).fit_resample(
                np.tile(X, 10) + np.random.default_rng(0).random((len(X), 240)),
                y,
                eras=eras,
            )


class TestSyntheticEras:
    @pytest.mark.parametrize(
        ("like", "first"), [("{:04d}", "-001"), ("era{}", "era-1"), ("{}", "-1")]
    )
    def test_labels_are_in_the_style_of_the_others(self, panel, like, first):
        eras = np.array([like.format(e) for e in panel.eras])
        more = RidgeMixtureTargets(0, synthetic_eras=2, random_state=0)
        out = more.fit_resample(panel.X, panel.y(), eras=eras)
        assert len(out.X) == panel.n_rows + 800
        np.testing.assert_array_equal(out.eras[: panel.n_rows], eras)
        assert out.eras[panel.n_rows] == first
        assert len(np.unique(out.eras)) == 62

    def test_rows_are_of_all_eras(self, panel):
        ids = np.arange(panel.n_rows, dtype=float)
        X = np.column_stack([ids, panel.X])
        more = RidgeMixtureTargets(0, synthetic_eras=3, random_state=0)
        out = more.fit_resample(X, panel.y(), eras=panel.eras)
        for era in (-1, -2, -3):
            rows = out.X[out.eras == era, 0].astype(int)
            assert len(np.unique(rows)) == 400
            assert len(np.unique(panel.eras[rows])) > 50

    @pytest.mark.parametrize("dtype", [np.int16, np.int8, np.uint8, float, object])
    @pytest.mark.parametrize("make", [np.asarray, pd.Series, pd.Index])
    def test_number_types(self, panel, dtype, make):
        eras = panel.eras.astype(dtype)
        more = RidgeMixtureTargets(0, synthetic_eras=130, random_state=0)
        out = more.fit_resample(panel.X, panel.y(), eras=make(eras))
        np.testing.assert_array_equal(np.unique(out.eras)[:131], [*range(-130, 0), 1])
        if make is not pd.Index:
            assert type(out.eras) is type(make(eras))
        if make is np.asarray:
            small = dtype in (np.uint8, np.int8)
            assert out.eras.dtype == (np.int64 if small else dtype)

    @pytest.mark.parametrize("dtype", [pl.Int8, pl.UInt8, pl.Int64, pl.Float32])
    def test_number_types_of_polars(self, panel, dtype):
        more = RidgeMixtureTargets(0, synthetic_eras=130, random_state=0)
        eras = pl.Series("era", panel.eras, dtype=dtype)
        out = more.fit_resample(panel.X, panel.y(), eras=eras).eras
        assert isinstance(out, pl.Series)
        assert out.unique().sort()[:131].to_list() == [*range(-130, 0), 1]

    def test_categories_are_in_order(self, panel):
        eras = pd.Series(panel.eras).map("{:04d}".format).astype("category")
        more = RidgeMixtureTargets(0, synthetic_eras=3, random_state=0)
        out = more.fit_resample(panel.X, panel.y(), eras=eras.cat.as_ordered()).eras
        assert list(out.cat.categories[:4]) == ["-003", "-002", "-001", "0001"]
        assert out.cat.ordered

    @pytest.mark.parametrize(
        "make",
        [
            pd.DataFrame,
            lambda columns: pd.DataFrame(columns).astype({"era": "category"}),
            lambda columns: pd.DataFrame(columns).astype({"era": "string"}),
            pl.DataFrame,
            pa.table,
        ],
    )
    def test_frames(self, panel, make):
        columns = {"era": [f"{e:04d}" for e in panel.eras]}
        columns |= {f"f{j}": panel.X[:, j] for j in range(24)}
        more = RidgeMixtureTargets(0.5, synthetic_eras=1, random_state=0)
        frame = make(columns)
        out = more.fit_resample(frame, panel.y())
        assert type(out.X) is type(frame)
        plain = more.fit_resample(panel.X, panel.y(), eras=columns["era"])
        np.testing.assert_array_equal(np.asarray(out.X["era"]), plain.eras)
        assert plain.eras[-1] == "-001"
        if hasattr(frame, "dtypes") and not isinstance(frame.dtypes, list):
            assert type(out.X["era"].dtype) is type(frame["era"].dtype)

    def test_others_come_before_those_that_are_there(self, panel):
        more = RidgeMixtureTargets(0, synthetic_eras=2, random_state=0)
        once = more.fit_resample(panel.X, panel.y(), eras=panel.eras)
        twice = more.fit_resample(*once[:2], eras=once.eras)
        assert list(np.unique(twice.eras)[:5]) == [-4, -3, -2, -1, 1]
        both = ComposeAugmenters([more, more]).fit_resample(
            panel.X, panel.y(), eras=panel.eras
        )
        assert list(np.unique(both.eras)[:5]) == [-4, -3, -2, -1, 1]

    @pytest.mark.parametrize("name", ["names", "dates"])
    def test_labels_without_numbers(self, panel, name):
        eras = np.array([f"w{chr(96 + e % 26)}{e // 26}x" for e in panel.eras])
        if name == "dates":
            days = np.datetime64("2020-01-03") + 7 * panel.eras
            eras = days.astype("datetime64[D]")
        more = RidgeMixtureTargets(synthetic_eras=1, random_state=0)
        with pytest.raises(ValueError, match="New eras need labels with numbers"):
            more.fit_resample(panel.X, panel.y(), eras=eras)


def test_ranked_rows_hold_the_shares():
    values = np.random.default_rng(0).normal(size=(3, 1000))
    for row in bin_rows(values, TARGET_SHARES):
        np.testing.assert_array_equal(np.bincount(row), [50, 200, 500, 200, 50])
