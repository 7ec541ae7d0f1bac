"""Regressors around others, that know the eras of their rows: what all have in common.

Ranking within eras is here, too: it is the shortest of them.
"""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from numerai_tools.scoring import gaussian, tie_kept_rank
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeRegressor

from numerai_features.compose import (
    EraNeutralizer,
    EraRanker,
    LatentFeatures,
    ResidualTargetRegressor,
    rank_by_era,
)
from numerai_features.embedders import FactorAnalysisEmbedder
from numerai_features.metrics import era_scores, make_era_scorer
from numerai_features.model_selection import EraKFold, cross_val_predict_eras

TREE = DecisionTreeRegressor(max_depth=3, random_state=0)


class Recorder(RegressorMixin, BaseEstimator):
    """Keeps what it is handed; predicts the first column."""

    def fit(self, X, y, eras=None, sample_weight=None, benchmark=None):
        self.seen_ = {"X": X, "y": y, "eras": eras}
        self.seen_ |= {"sample_weight": sample_weight, "benchmark": benchmark}
        return self

    def predict(self, X, eras=None):
        self.asked_ = X, eras
        return np.asarray(X)[:, 0].astype(float)


def of_numerai_tools(values, eras, output):
    """Rank by numerai_tools, era by era."""
    out = pd.Series(np.nan, range(len(values)))
    for era in np.unique(eras):
        own = pd.Series(values[eras == era]).to_frame()
        ranks = tie_kept_rank(own)
        ranks = gaussian(ranks) if output == "gauss" else ranks
        out[eras == era] = ranks[0].to_numpy()
    return out.to_numpy()


@pytest.mark.parametrize("output", ["rank", "gauss"])
@pytest.mark.parametrize("kind", ["noise", "tied", "constant"])
def test_ranks_are_those_of_numerai_tools(output, kind):
    rng = np.random.default_rng(0)
    eras = rng.permutation(np.repeat([3, 1, 7], [30, 17, 1]))
    values = rng.normal(size=48)
    values = {"noise": values, "tied": values.round(), "constant": 0 * values}[kind]
    expected = of_numerai_tools(values, eras, output)
    np.testing.assert_allclose(
        rank_by_era(values, eras, output=output), expected, atol=1e-12
    )
    both = rank_by_era(np.column_stack([-values, values]), eras, output=output)
    np.testing.assert_allclose(both[:, 1], expected, atol=1e-12)


def test_predictions_come_back_as_they_came():
    series = pd.Series([3.0, 1.0, 2.0], ["a", "b", "c"], name="p")
    ranks = rank_by_era(series, [1, 1, 2])
    pd.testing.assert_series_equal(ranks, pd.Series([0.75, 0.25, 0.5], series.index,
                                                    name="p"))  # fmt: skip
    frame = rank_by_era(series.to_frame(), [1, 1, 2])
    pd.testing.assert_frame_equal(frame, ranks.to_frame())
    table = pl.DataFrame({"p": series.to_numpy()})
    np.testing.assert_array_equal(rank_by_era(table, [1, 1, 2])[:, 0], ranks)


def test_predictions_that_cannot_be_ranked_are_told():
    with pytest.raises(ValueError, match="predictions is NaN or infinite in 1 of 2"):
        rank_by_era([np.nan, 1], [1, 1])
    with pytest.raises(ValueError, match="eras has 3 labels, but X has 2 rows"):
        rank_by_era([0, 1], [1, 1, 1])
    predictions = pd.Series([1.0, 2.0], ["a", "b"])
    with pytest.raises(ValueError, match="have different pandas indexes"):
        rank_by_era(predictions, pd.Series([1, 1], ["b", "a"]))


def test_a_model_is_ranked_era_by_era(panel, frame):
    model = EraRanker(TREE).fit(frame, panel.y())
    plain = TREE.fit(panel.X, panel.y()).predict(panel.X)
    expected = rank_by_era(plain, panel.eras)
    np.testing.assert_array_equal(model.predict(frame), expected)
    # A prediction depends on its own era alone, however rows are ordered.
    some = np.random.default_rng(0).permutation(np.flatnonzero(panel.eras <= 3))
    np.testing.assert_array_equal(model.predict(frame.iloc[some]), expected[some])


class TestHandingOn:
    """Of eras, weights and a benchmark to the regressor inside."""

    def test_what_the_regressor_takes_it_gets(self, panel, frame):
        weights = np.linspace(1, 2, panel.n_rows)
        benchmark = pd.Series(panel.X[:, 0] / 4, frame.index)
        model = EraRanker(Recorder())
        model.fit(
            frame, panel.y(), sample_weight=weights, benchmark=benchmark.iloc[::-1]
        )
        seen = model.regressor_.seen_
        assert "era" not in seen["X"].columns
        assert seen["X"].index.equals(frame.index)
        assert list(seen["X"].dtypes.unique()) == [np.int8]
        np.testing.assert_array_equal(seen["eras"], frame["era"])
        np.testing.assert_array_equal(seen["sample_weight"], weights)
        np.testing.assert_array_equal(seen["benchmark"], benchmark)
        model.predict(frame)
        table, eras = model.regressor_.asked_
        assert "era" not in table.columns
        np.testing.assert_array_equal(eras, frame["era"])

    def test_polars_stays_polars(self, panel, frame):
        table = pl.from_pandas(frame.reset_index(drop=True))
        model = EraRanker(Recorder()).fit(table, panel.y())
        assert isinstance(model.regressor_.seen_["X"], pl.DataFrame)
        np.testing.assert_array_equal(
            model.predict(table), EraRanker(Recorder()).fit(frame, panel.y())
            .predict(frame)
        )  # fmt: skip

    def test_rows_without_a_target_are_left_out(self, panel, frame):
        y = pd.Series(panel.y(), frame.index, name="target_alpha_20")
        y[panel.eras > 25] = np.nan
        model = EraRanker(Recorder())
        model.fit(frame, y, sample_weight=np.arange(panel.n_rows) + 1.0)
        assert model.fitted_eras_.max() == 25
        seen = model.regressor_.seen_
        pd.testing.assert_series_equal(seen["y"], y[panel.eras <= 25])
        assert seen["X"].index.equals(seen["y"].index)
        assert len(seen["eras"]) == len(seen["sample_weight"]) == len(seen["y"])
        assert np.isfinite(model.score(frame, y))

    def test_the_column_of_eras_reaches_what_takes_it_out(self, panel, frame):
        by_era = LatentFeatures(FactorAnalysisEmbedder(2, center="era"))
        inner = make_pipeline(by_era, Ridge())
        model = EraRanker(inner, keep_era=True).fit(frame, panel.y())
        expected = rank_by_era(inner.fit(frame, panel.y()).predict(frame), panel.eras)
        np.testing.assert_array_equal(model.predict(frame), expected)
        told = "regressor: 'latentfeatures' inside the Pipeline takes eras"
        for X, eras, keep in ((frame, None, False), (panel.X, panel.eras, True)):
            with pytest.raises(ValueError, match=told):
                EraRanker(inner, keep_era=keep).fit(X, panel.y(), eras=eras)

    def test_weights_that_nobody_takes_are_told(self, panel):
        with pytest.raises(ValueError, match=r"KNeighborsRegressor\.fit takes none"):
            EraRanker(KNeighborsRegressor()).fit(
                panel.X, panel.y(), sample_weight=np.ones(panel.n_rows)
            )

    @pytest.mark.parametrize("kind", [EraRanker, EraNeutralizer])
    def test_a_benchmark_that_nobody_takes_is_told(self, kind, panel):
        given = {"eras": panel.eras, "benchmark": panel.X[:, 0]}
        with pytest.raises(
            ValueError, match=r"benchmark was passed, but Ridge\.fit takes"
        ):
            kind(Ridge()).fit(panel.X, panel.y(), **given)
        fitted = kind(Ridge()).fit(panel.X, panel.y())
        with pytest.raises(ValueError, match=r"nothing in this .* predicts by it"):
            fitted.predict(panel.X, **given)
        inner = make_pipeline(PCA(2), ResidualTargetRegressor(Ridge()))
        with pytest.raises(ValueError, match="last step of the Pipeline instead"):
            kind(inner).fit(panel.X, panel.y(), benchmark=panel.X[:, 0])

    def test_a_benchmark_goes_through_several(self, panel):
        given = {"eras": panel.eras, "benchmark": panel.X[:, 0]}
        inner = ResidualTargetRegressor(TREE)
        nested = EraRanker(EraNeutralizer(inner, features=[0]))
        nested.fit(panel.X, panel.y(), **given)
        alone = inner.fit(panel.X, panel.y(), **given).predict(panel.X)
        within = nested.regressor_.regressor_
        np.testing.assert_array_equal(within.predict(panel.X), alone)

    def test_what_is_frozen_is_not_trained(self, panel):
        frozen = FrozenEstimator(TREE.fit(panel.X, panel.y()))
        model = EraRanker(frozen).fit(panel.X[:160], panel.y()[:160])
        expected = rank_by_era(frozen.predict(panel.X), np.ones(panel.n_rows, int))
        np.testing.assert_array_equal(model.predict(panel.X), expected)


@pytest.mark.parametrize("kind", [EraRanker, EraNeutralizer])
def test_predictions_by_era_need_eras_where_fit_had_some(kind, panel, frame):
    model = kind(TREE).fit(panel.X, panel.y(), eras=panel.eras)
    with pytest.raises(ValueError, match="was fitted with eras and works era by era"):
        model.predict(panel.X)
    model.predict(panel.X, eras=panel.eras)
    without = kind(TREE).fit(panel.X, panel.y())
    assert without.fitted_eras_ is None
    without.predict(panel.X)


@pytest.mark.parametrize("kind", [EraRanker, EraNeutralizer, ResidualTargetRegressor])
def test_what_cannot_predict_is_told(kind, panel):
    for wrong in (PCA(2), EraKFold(), "ridge", Ridge):
        told = f"The 'regressor' parameter of {kind.__name__}"
        with pytest.raises(ValueError, match=told):
            kind(wrong).fit(panel.X, panel.y())


def test_a_regressor_that_returns_other_rows_is_told(panel):
    class Short(Recorder):
        def predict(self, X):
            return np.zeros(3)

    model = EraRanker(Short()).fit(panel.X, panel.y())
    with pytest.raises(ValueError, match=r"Short\.predict returned shape \(3,\) for"):
        model.predict(panel.X)


class TestSearches:
    def test_frames_without_routing(self, panel, frame):
        cv, y = EraKFold(3, purge=1), panel.y()
        model = make_pipeline(LatentFeatures(keep_era=True), EraRanker(TREE))
        grid = {"eraranker__regressor__max_depth": [2, 3]}
        search = GridSearchCV(
            model, grid, cv=cv, scoring=make_era_scorer(), error_score="raise"
        ).fit(frame, y)
        assert search.best_params_["eraranker__regressor__max_depth"] in (2, 3)
        folds = cross_val_predict_eras(EraRanker(TREE), frame, y, cv=cv, verbose=False)
        assert folds["prediction"].between(0, 1).all()

    def test_arrays_with_routing(self, panel):
        cv, y = EraKFold(3, purge=1), panel.y()
        model = make_pipeline(LatentFeatures(PCA(2)), EraRanker(TREE))
        with sklearn.config_context(enable_metadata_routing=True):
            search = GridSearchCV(
                model, {"eraranker__output": ["rank", "gauss"]}, cv=cv,
                scoring=make_era_scorer(), error_score="raise",
            ).fit(panel.X, y, groups=panel.eras, eras=panel.eras)  # fmt: skip
            best = search.best_estimator_  # a search hands no eras on to predict
            prediction = best.predict(panel.X, eras=panel.eras)
        one, other = search.cv_results_["mean_test_score"]
        assert one == pytest.approx(other)  # CORR ranks anyway
        scores = era_scores(y, prediction, panel.eras)
        assert scores.notna().all()

    def test_a_benchmark_is_requested_where_it_is_of_use(self, panel):
        def requests(model, method):
            with sklearn.config_context(enable_metadata_routing=True):
                routing = model.get_metadata_routing()
            return routing.consumes(method, ["eras", "benchmark"])

        every = {"eras", "benchmark"}
        assert requests(EraRanker(TREE), "fit") == {"eras"}
        assert requests(ResidualTargetRegressor(TREE), "fit") == every
        assert requests(ResidualTargetRegressor(TREE), "predict") == {"eras"}
        by = EraNeutralizer(TREE, neutralize_to="benchmark")
        assert requests(by, "fit") == {"eras"}
        assert requests(by, "predict") == requests(by, "score") == every
        assert requests(EraRanker(by), "predict") == every
        with sklearn.config_context(enable_metadata_routing=True):
            asked = EraRanker(TREE).set_fit_request(benchmark="mine")
            assert asked.get_metadata_routing().fit.requests["benchmark"] == "mine"
