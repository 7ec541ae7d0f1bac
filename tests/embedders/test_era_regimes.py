import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lightgbm import LGBMRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from threadpoolctl import threadpool_limits

from numerai_features import LatentFeatures
from numerai_features.datasets import make_era_panel
from numerai_features.embedders import EraRegimes
from numerai_features.embedders._era_regimes import principal_axes
from numerai_features.export import check_export, export_predict

SMALL = {"n_axes": 4, "n_steps": 5, "hidden": 6, "max_epochs": 3, "random_state": 0}
N_ERAS, N_FITTED = 24, 16


@pytest.fixture(scope="module")
def panel():
    return make_era_panel(
        n_eras=N_ERAS, rows_per_era=40, n_features=12, n_factors=4, random_state=0
    )


@pytest.fixture(scope="module")
def fitted(panel):
    mine = numbers_of(panel) <= N_FITTED
    return EraRegimes(3, **SMALL).fit(panel.X[mine], eras=panel.eras[mine])


def numbers_of(panel):
    return np.asarray(panel.eras).astype(int)


def bins_with_regimes(n_eras, seed=0, rows=200):
    """Return bins of equal mean and spread in all eras, and each era's regime.

    In one regime the first six features move together, in the other the last six. A
    regime lasts for ten eras.
    """
    rng = np.random.default_rng(seed)
    regimes = np.arange(n_eras) // 10 % 2
    parts = []
    for regime in regimes:
        shared = rng.normal(size=(rows, 1)) * (np.arange(12) // 6 == regime)
        rank = (shared + rng.normal(size=(rows, 12))).argsort(axis=0).argsort(axis=0)
        parts.append(rank * 5 // rows)
    return (
        np.concatenate(parts).astype(np.int8),
        np.repeat(np.arange(n_eras), rows),
        regimes,
    )


class TestProperties:
    @settings(max_examples=15, deadline=None)
    @given(st.integers(0, 2**32 - 1))
    def test_order_company_and_splits_do_not_matter(self, panel, fitted, seed):
        rng, numbers = np.random.default_rng(seed), numbers_of(panel)
        whole = fitted.transform(panel.X, eras=panel.eras)
        some = np.isin(numbers, rng.choice(np.arange(1, 1 + N_ERAS), 5, replace=False))
        order = rng.permutation(np.flatnonzero(some))
        mixed = fitted.transform(panel.X[order], eras=panel.eras[order])
        np.testing.assert_allclose(mixed, whole[order], atol=1e-5)
        for era in np.unique(numbers[some]):
            mine = numbers == era
            own = fitted.transform(panel.X[mine], eras=panel.eras[mine])
            np.testing.assert_allclose(own, whole[mine], atol=1e-5)
            assert (own == own[0]).all()

    def test_later_eras_do_not_matter(self, panel):
        """Neither their rows nor the history: fitted eras that come before do."""
        numbers = numbers_of(panel)
        model = EraRegimes(3, **SMALL).fit(panel.X, eras=panel.eras)
        before = model.transform(panel.X, eras=panel.eras)
        model.era_statistics_ = model.era_statistics_.copy()
        model.era_statistics_[9:] = 7  # era 10 and later ones
        after = model.transform(panel.X, eras=panel.eras)
        np.testing.assert_array_equal(after[numbers <= 10], before[numbers <= 10])
        assert np.abs(after - before)[numbers == 11].min() > 1e-6

    def test_a_row_changes_its_own_era_alone(self, panel, fitted):
        numbers = numbers_of(panel)
        X = panel.X.copy()
        row = np.flatnonzero(numbers == 18)[0]
        X[row] = 4 - X[row]
        changed = fitted.transform(X, eras=panel.eras)
        before = fitted.transform(panel.X, eras=panel.eras)
        assert np.abs(changed - before)[numbers == 18].max() > 1e-6
        np.testing.assert_array_equal(changed[numbers != 18], before[numbers != 18])

    def test_the_live_era_is_the_end(self, panel, fitted):
        numbers = numbers_of(panel)
        mine = numbers == N_FITTED + 1
        later = fitted.transform(panel.X[mine], eras=panel.eras[mine])
        live = fitted.transform(panel.X[mine], eras=["X"] * mine.sum())
        np.testing.assert_array_equal(live, later)

    def test_threads_of_blas_do_not_matter_to_the_bit(self):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(4000, 300)) + rng.normal(size=(4000, 1))
        fits = []
        for n in (1, 2):
            with threadpool_limits(n, user_api="blas"):
                model = EraRegimes(2, **SMALL).fit(X, eras=np.arange(4000) // 200)
            fits.append((model.axes_, model.era_statistics_))
        for one, two in zip(*fits, strict=True):
            np.testing.assert_array_equal(one, two)

    def test_fit_transform_is_transform(self, panel):
        model = EraRegimes(3, **SMALL)
        Z = model.fit_transform(panel.X, eras=panel.eras)
        np.testing.assert_array_equal(Z, model.transform(panel.X, eras=panel.eras))


class TestStatistics:
    def test_are_those_of_principal_axes(self, panel):
        X = panel.X.astype(np.float64) * np.arange(1, 13)
        model = EraRegimes(2, **SMALL).fit(X, eras=panel.eras)
        standard = (X - X.mean(axis=0)) / X.std(axis=0)
        _, _, axes = np.linalg.svd(standard, full_matrices=False)
        scores = standard @ axes[:4].T
        scores /= scores.std(axis=0)
        signs = np.sign(np.diag(scores.T @ ((X - X.mean(axis=0)) @ model.axes_)))
        groups = pd.DataFrame(scores * signs).groupby(numbers_of(panel))
        pairs = np.triu_indices(4, 1)
        correlations = [own.corr().to_numpy()[pairs] for _, own in groups]
        expected = np.hstack([groups.mean(), groups.std(ddof=0), correlations])
        np.testing.assert_allclose(model.era_statistics_, expected, atol=1e-9)

    def test_what_is_equal_in_all_eras_is_left_out(self):
        """Bins have the same mean in each era, but for rounding error."""
        X, eras, _ = bins_with_regimes(30)
        model = EraRegimes(2, **SMALL).fit(X, eras=eras)
        assert model.varies_.tolist() == [False] * 4 + [True] * 10
        assert not model.era_statistics_[:, :4].any()
        with pytest.raises(ValueError, match="the same mean on each of 4 axes in all"):
            EraRegimes(2, statistics=["mean"], **SMALL).fit(X, eras=eras)

    def test_eras_of_one_row(self, panel):
        one = np.flatnonzero(np.diff(numbers_of(panel), prepend=0))
        rows = np.concatenate([one, np.flatnonzero(numbers_of(panel) == 3)])
        Z = EraRegimes(2, **SMALL).fit_transform(panel.X[rows], eras=panel.eras[rows])
        assert np.isfinite(Z).all()

    def test_missing_cells(self, panel):
        X = panel.X.astype(np.float32)
        X[::7, 2] = np.nan
        model = EraRegimes(2, **SMALL).fit(X, eras=panel.eras)
        filled = np.where(np.isnan(X), 2, X)
        np.testing.assert_array_equal(
            model.transform(X, eras=panel.eras),
            model.transform(filled, eras=panel.eras),
        )
        with pytest.raises(ValueError, match="missing='raise'"):
            EraRegimes(2, missing="raise", **SMALL).fit(X, eras=panel.eras)

    def test_axes_of_fewer_directions(self):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 5)) * 1e6
        X[:, 3] = 1
        axes = principal_axes(np.cov(X.T, bias=True), 4, pooled=False)
        assert axes.shape == (5, 2)
        np.testing.assert_allclose((X @ axes).std(axis=0), [1, 1], rtol=1e-6)
        assert not axes[3].any()
        with pytest.raises(ValueError, match="constant in all 5 features"):
            principal_axes(np.zeros((5, 5)), 4, pooled=True)


@pytest.mark.slow
def test_tells_regimes_that_no_mean_or_deviation_of_a_feature_tells():
    X, eras, regimes = bins_with_regimes(240)
    fit = eras < 160
    model = EraRegimes(n_axes=4, n_steps=4, hidden=16, random_state=0)
    model.fit(X[fit], eras=eras[fit])
    first = np.flatnonzero(np.diff(eras, prepend=-1))
    Z = model.transform(X, eras=eras)[first]
    known = LogisticRegression(C=100).fit(Z[:160], regimes[:160])
    assert known.score(Z[160:], regimes[160:]) > 0.95
    by_era = X.reshape(240, 200, 12)
    assert (by_era.mean(axis=1) == X[:200].mean(axis=0)).all()
    assert np.ptp(by_era.std(axis=1), axis=0).max() < 1e-12


class TestValidation:
    @pytest.mark.parametrize(
        ("eras", "message"),
        [
            (None, "EraRegimes needs eras"),
            (["ash"] * 20 + ["elm"] * 20, "eras must be labels with numbers"),
            ([1] * 40, "needs two eras or more"),
        ],
    )
    def test_eras(self, eras, message, panel):
        with pytest.raises(ValueError, match=message):
            EraRegimes(2, **SMALL).fit(panel.X[:40], eras=eras)

    def test_transform_needs_eras(self, panel, fitted):
        with pytest.raises(ValueError, match="EraRegimes needs eras"):
            fitted.transform(panel.X)

    def test_dates_are_no_numbers(self, panel, fitted):
        with pytest.raises(ValueError, match="eras must be numbers, as in fit"):
            fitted.transform(panel.X[:2], eras=["2020-01-03", "2020-01-10"])
        days = pd.to_datetime("2020-01-03") + pd.to_timedelta(
            7 * numbers_of(panel), "D"
        )
        dated = EraRegimes(3, **SMALL).fit(panel.X, eras=days)
        assert dated.transform(panel.X[:2], eras=["X", "X"]).shape == (2, 3)
        with pytest.raises(ValueError, match="eras must be dates, as in fit"):
            dated.transform(panel.X[:2], eras=[3, 4])

    @pytest.mark.parametrize("dated", [False, True])
    def test_dates_are_no_numbers_where_it_is_exported(self, dated, panel, tmp_path):
        frame = panel.to_frame(targets=[])
        days = pd.to_datetime("2020-01-03") + pd.to_timedelta(
            7 * numbers_of(panel), "D"
        )
        frame = frame.assign(era=days.astype(str)) if dated else frame
        model = make_pipeline(LatentFeatures(EraRegimes(2, **SMALL)), Ridge())
        model.fit(frame, panel.y("target_alpha_20"))
        predict = pd.read_pickle(export_predict(model, tmp_path / "model.pkl"))
        other, kind = ("0024", "dates") if dated else ("2020-01-03", "numbers")
        with pytest.raises(ValueError, match=f"but in fit eras were {kind}"):
            predict(frame[:5].assign(era=other))
        assert len(predict(frame[:5].assign(era="X"))) == 5

    def test_statistics_named_twice(self, panel):
        with pytest.raises(ValueError, match="names one of them twice"):
            EraRegimes(2, statistics=["std", "std"], **SMALL).fit(
                panel.X, eras=panel.eras
            )


@pytest.mark.slow
# Older releases of LightGBM name the columns of arrays.
@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize("missing", [False, True])
def test_exported_beside_features_it_predicts_the_same(panel, missing, tmp_path):
    """For the live era, for an era after the fitted ones, and for one of them."""
    frame = panel.to_frame(targets=[])
    if missing:
        features = frame.columns[frame.columns != "era"]
        frame[features] = frame[features].astype("float32")
        frame.loc[frame.index[::7], features[3]] = np.nan
    early = numbers_of(panel) <= N_FITTED
    trees = LGBMRegressor(n_estimators=8, min_child_samples=5, n_jobs=1, verbose=-1)
    model = make_pipeline(LatentFeatures(EraRegimes(3, n_models=2, **SMALL)), trees)
    model.fit(frame[early], panel.y("target_alpha_20")[early])
    file = export_predict(model, tmp_path / "model.pkl")
    live = frame[numbers_of(panel) == N_ERAS]
    check_export(file, live.assign(era="X"), model)
    check_export(file, live, model)
    check_export(file, frame[numbers_of(panel) == 5], model)
