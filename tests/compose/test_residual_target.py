"""Regressors of what a benchmark leaves of the target."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeRegressor

from numerai_features import make_era_panel
from numerai_features.compose import (
    EraRanker,
    LatentFeatures,
    ResidualTargetRegressor,
)
from numerai_features.embedders import FactorAnalysisEmbedder, SupervisedAEMLP
from numerai_features.metrics import era_scores, expected_scores, make_era_scorer
from numerai_features.model_selection import EraKFold

TARGET = "target_alpha_20"
NET = SupervisedAEMLP(
    3, hidden=(6,), decoder_units=4, dropout=(0.1,) * 4, max_epochs=2,
    validation=None, random_state=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def target(panel):
    return panel.y(TARGET)


@pytest.fixture(scope="module")
def benchmark(panel, target):
    noise = np.random.default_rng(0).normal(size=panel.n_rows)
    return target + 0.3 * panel.X[:, 0] + noise


def residual(y, benchmark, eras, proportion, weights=None):
    """Fit a line in each era with scikit-learn, and subtract."""
    weights = np.ones(len(y)) if weights is None else weights
    out = np.empty(len(y))
    for era in np.unique(eras):
        own = eras == era
        b, w = benchmark[own, None], weights[own]
        line = LinearRegression().fit(b, y[own], sample_weight=w)
        middle = np.average(b[:, 0], weights=w)
        part = proportion * line.coef_[0] * (b[:, 0] - middle)
        out[own] = y[own] - np.average(y[own], weights=w) - part
    return out


@pytest.mark.parametrize("proportion", [0, 0.5, 1.0])
def test_it_is_trained_on_residuals(panel, target, benchmark, proportion):
    weights = np.random.default_rng(1).uniform(0.5, 2, panel.n_rows)
    model = ResidualTargetRegressor(Ridge(), proportion)
    for w in (None, weights):
        model.fit(
            panel.X, target, eras=panel.eras, sample_weight=w, benchmark=benchmark
        )
        rest = residual(target, benchmark, panel.eras, proportion, w)
        by_hand = Ridge().fit(panel.X, rest, sample_weight=w)
        np.testing.assert_allclose(
            model.predict(panel.X), by_hand.predict(panel.X), atol=1e-9
        )


@pytest.mark.parametrize("kind", ["Series", "DataFrame", "polars", "array"])
@pytest.mark.parametrize("index", ["ids", "counted"])
def test_rows_in_any_order_with_regressors_that_look_at_the_index(
    panel, frame, target, benchmark, kind, index
):
    """A residual belongs to the row of its target."""
    places = np.random.default_rng(2).permutation(panel.n_rows)
    y = pd.Series(target, frame.index, name=TARGET)
    if index == "counted":
        frame, y = frame.reset_index(drop=True), y.reset_index(drop=True)
    X, y, b = frame.iloc[places], y.iloc[places], benchmark[places]
    model = ResidualTargetRegressor(EraRanker(Ridge()))
    expected = model.fit(X.reset_index(drop=True), y.to_numpy(), benchmark=b).predict(
        X.reset_index(drop=True)
    )
    y = {
        "Series": y,
        "DataFrame": y.to_frame(),
        "polars": pl.Series(TARGET, y.to_numpy()),
        "array": y.to_numpy(),
    }[kind]
    found = model.fit(X, y, benchmark=b).predict(X)
    np.testing.assert_array_equal(found.reshape(-1), expected)


def test_several_targets_keep_their_names(panel, frame, benchmark):
    y = pd.DataFrame({n: panel.y(n) for n in panel.target_names[:2]}, frame.index)
    y = y.fillna(0.5)
    model = ResidualTargetRegressor(NET).fit(frame, y, benchmark=benchmark)
    assert model.regressor_.target_names_ == list(y)
    two = ResidualTargetRegressor(Ridge()).fit(frame, y, benchmark=benchmark)
    one = ResidualTargetRegressor(Ridge()).fit(frame, y.iloc[:, 1], benchmark=benchmark)
    np.testing.assert_allclose(two.predict(frame)[:, 1], one.predict(frame), atol=1e-9)


def test_rows_without_a_benchmark_or_target_are_left_out(panel, target, benchmark):
    eras = panel.eras
    late = np.where(eras < 11, np.nan, benchmark)
    early = np.where(eras > 25, np.nan, target)
    model = ResidualTargetRegressor(Ridge())
    model.fit(panel.X, early, eras=eras, benchmark=late)
    np.testing.assert_array_equal(model.fitted_eras_, np.arange(11, 26))
    own = (eras > 10) & (eras < 26)
    alone = ResidualTargetRegressor(Ridge())
    alone.fit(panel.X[own], target[own], eras=eras[own], benchmark=benchmark[own])
    np.testing.assert_array_equal(model.predict(panel.X), alone.predict(panel.X))


def test_numerais_whole_file_is_matched_by_id(panel, frame, target, benchmark):
    model = ResidualTargetRegressor(Ridge())
    expected = model.fit(frame, target, benchmark=benchmark).predict(frame)
    file = pd.DataFrame({"era": frame["era"], "v53_lgbm_ender60": benchmark})
    more = file.iloc[:5].set_axis([f"other{i}" for i in range(5)])
    file = pd.concat([file.iloc[::-1], more])
    found = model.fit(frame, target, benchmark=file).predict(frame)
    np.testing.assert_array_equal(found, expected)


def test_predictions_turn_from_the_benchmark():
    """Of a market of which a benchmark knows a half, on eras to come."""
    panel = make_era_panel(
        n_eras=120, rows_per_era=200, n_features=30, n_factors=4, random_state=7
    )
    X, y, eras = panel.X, panel.y(TARGET), panel.eras
    train, test = eras <= 80, eras > 96
    known = DecisionTreeRegressor(max_depth=5, random_state=0)
    known.fit(X[:, :15], np.nan_to_num(y, nan=0.5))
    benchmark = known.predict(X[:, :15])
    plain = Ridge().fit(X[train], y[train])
    found = []
    for model in (plain, *(ResidualTargetRegressor(Ridge(), p) for p in (0.5, 1.0))):
        if model is not plain:
            model.fit(X[train], y[train], eras=eras[train], benchmark=benchmark[train])
        own = era_scores(
            None, model.predict(X[test]), eras[test], metric="benchmark_corr",
            benchmark=benchmark[test],
        )  # fmt: skip
        found.append(own.mean())
    assert found[0] > found[1] > found[2]
    assert abs(found[2]) < found[0] / 2


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_expected_bmc_is_higher_beside_a_planted_benchmark():
    """Of a benchmark that is LightGBM on half of the factors.

    The target is what it is expected to be, as if the market had been drawn often: of
    one market, such panels need more than ten times as many eras.
    """
    lightgbm = pytest.importorskip("lightgbm")
    trees = lightgbm.LGBMRegressor(
        n_estimators=100, num_leaves=15, n_jobs=1, verbosity=-1, random_state=0
    )
    gains = []
    for seed in range(5):
        panel, truth = make_era_panel(
            60, 150, 30, 6, n_targets=2, return_truth=True, random_state=seed
        )
        X, y, eras = panel.X, truth.expected_targets[:, 1], panel.eras
        early, test = eras <= 20, eras > 48
        train, half = ~early & ~test, truth.factors[:, :3]
        benchmark = clone(trees).fit(half[early], y[early]).predict(half)
        plain = clone(trees).fit(X[train], y[train])
        model = ResidualTargetRegressor(trees).fit(
            X[train], y[train], eras=eras[train], benchmark=benchmark[train]
        )
        both = np.column_stack([plain.predict(X[test]), model.predict(X[test])])
        given = {"benchmark": benchmark[test]}
        later = truth.select(first=49)
        bmc = expected_scores(
            both, later, eras[test], target=panel.target_names[1], metric="bmc", **given
        ).mean()
        own = era_scores(None, both, eras[test], metric="benchmark_corr", **given)
        assert own.mean()[1] < own.mean()[0]
        gains.append(bmc[1] - bmc[0])
    error = np.std(gains, ddof=1) / np.sqrt(len(gains))
    assert np.mean(gains) > 3 * error, (gains, error)


def test_what_makes_no_sense_is_told(panel, target, benchmark):
    model = ResidualTargetRegressor(Ridge())
    X, eras = panel.X, panel.eras
    with pytest.raises(ValueError, match=r"benchmark needs eras: .*keep_era=True"):
        model.fit(X, target, benchmark=benchmark)
    with pytest.raises(ValueError, match="benchmark is NaN in all 2400 rows"):
        model.fit(X, target, eras=eras, benchmark=np.full(panel.n_rows, np.nan))
    with pytest.raises(ValueError, match=r"benchmark must have shape \(2400,\)"):
        model.fit(X, target, eras=eras, benchmark=benchmark[:9])
    infinite = np.where(np.arange(panel.n_rows) == 3, np.inf, benchmark)
    with pytest.raises(ValueError, match="benchmark is infinite in row 3"):
        model.fit(X, target, eras=eras, benchmark=infinite)
    with pytest.raises(ValueError, match="'proportion' parameter of Resid"):
        ResidualTargetRegressor(Ridge(), 1.5).fit(X, target, benchmark=benchmark)
    with pytest.warns(UserWarning, match="benchmark is None: .* the target itself"):
        model.fit(X, target, eras=eras)


def test_a_constant_benchmark_explains_nothing(panel, target):
    """What is left of it once it is centred is rounding."""
    flat = np.full(panel.n_rows, 0.1)
    model = ResidualTargetRegressor(Ridge())
    model.fit(panel.X, target, eras=panel.eras, benchmark=flat)
    own = pd.Series(target).groupby(panel.eras).transform("mean").to_numpy()
    np.testing.assert_allclose(
        model.predict(panel.X),
        Ridge().fit(panel.X, target - own).predict(panel.X), atol=1e-9,
    )  # fmt: skip


class TestHandingOn:
    """Of a benchmark, through LatentFeatures and a Pipeline."""

    def test_an_embedder_that_takes_it_gets_it(self, panel, target, benchmark):
        X, given = panel.X, {"eras": panel.eras, "benchmark": benchmark}
        alone = NET.fit(X, target, **given).transform(X)
        others = [("fa", FactorAnalysisEmbedder(2)), ("net", NET)]
        both = LatentFeatures([*others, ("within", LatentFeatures(PCA(1)))])
        for table in (
            both.fit_transform(X, target, **given), both.fit(X, target, **given)
            .transform(X),
        ):  # fmt: skip
            np.testing.assert_array_equal(table[:, 22:25], alone.astype(np.float32))

    def test_it_is_told_where_nobody_takes_it(self, panel, target, benchmark):
        given = {"eras": panel.eras, "benchmark": benchmark}
        with pytest.raises(ValueError, match="no embedder's fit takes it: PCA"):
            LatentFeatures(PCA(2)).fit(panel.X, target, **given)
        with pytest.raises(ValueError, match="a step of the Pipeline 'pipeline' takes"):
            LatentFeatures(make_pipeline(NET)).fit(panel.X, target, benchmark=benchmark)

    def test_memory_knows_it(self, panel, target, benchmark, tmp_path):
        latents = LatentFeatures(NET, passthrough=False, memory=tmp_path)
        tables = [
            latents.fit_transform(panel.X, target, eras=panel.eras, benchmark=b)
            for b in (benchmark, -benchmark + panel.X[:, 3], None, benchmark)
        ]
        np.testing.assert_array_equal(tables[0], tables[3])
        assert not np.array_equal(tables[0], tables[1])
        assert not np.array_equal(tables[0], tables[2])

    def test_pipelines_with_routing_and_without(self, panel, frame, target, benchmark):
        last = ResidualTargetRegressor(Ridge())
        X, eras = panel.X, panel.eras
        by_hand = NET.fit(X, target, eras=eras, benchmark=benchmark).transform(X)
        last.fit(np.hstack([X, by_hand]), target, eras=eras, benchmark=benchmark)
        expected = last.predict(np.hstack([X, by_hand]))
        plain = make_pipeline(LatentFeatures(NET, keep_era=True), last)
        plain.fit(
            frame, target, latentfeatures__benchmark=benchmark,
            residualtargetregressor__benchmark=benchmark,
        )  # fmt: skip
        np.testing.assert_allclose(plain.predict(frame), expected, atol=1e-5)
        with sklearn.config_context(enable_metadata_routing=True):
            routed = make_pipeline(LatentFeatures(NET), last)
            routed.fit(X, target, eras=eras, benchmark=benchmark)
            np.testing.assert_allclose(routed.predict(X), expected, atol=1e-5)
            # not handed to LatentFeatures here, where nobody would take it
            make_pipeline(LatentFeatures(PCA(2)), last).fit(
                X, target, eras=eras, benchmark=benchmark
            )
            search = GridSearchCV(
                make_pipeline(LatentFeatures(PCA(2)), last),
                {"residualtargetregressor__proportion": [0.5, 1.0]},
                cv=EraKFold(2, purge=1), scoring=make_era_scorer(),
                error_score="raise",
            )  # fmt: skip
            search.fit(X, target, groups=eras, eras=eras, benchmark=benchmark)
        assert search.best_params_["residualtargetregressor__proportion"] in (0.5, 1.0)
