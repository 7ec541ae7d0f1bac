"""Weighted means of ranked predictions, and the weights that least squares fits."""

import numpy as np
import pandas as pd
import pytest
from numerai_tools.scoring import gaussian, power, tie_kept_rank
from scipy.optimize import nnls
from sklearn.base import clone
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import VotingRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold, PredefinedSplit
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeRegressor

from numerai_features.compose import (
    EraBlend,
    EraRanker,
    LatentFeatures,
    fit_blend_weights,
    rank_by_era,
)
from numerai_features.embedders import FactorAnalysisEmbedder
from numerai_features.metrics import era_scores
from numerai_features.model_selection import (
    EraKFold,
    EraWalkForward,
    cross_val_predict_eras,
)


@pytest.fixture(scope="module")
def models():
    """Predictions of three models, a benchmark, the target and eras, out of order."""
    rng = np.random.default_rng(0)
    sizes = [40, 300, 120, 200]
    eras = rng.permutation(np.repeat([3, 4, 7, 9], sizes))
    n = len(eras)
    factors = rng.normal(size=(n, 4))
    latent = factors @ [0.5, 0.3, 0.2, 0.4] + 2 * rng.normal(size=n)
    cuts = np.quantile(latent, [0.05, 0.25, 0.75, 0.95])
    y = np.searchsorted(cuts, latent) / 4
    noise = rng.normal(size=(n, 3))
    prediction = factors[:, :3] + noise * [0.5, 1, 0.2]
    prediction[:, 1] = prediction[:, 1].round()  # ties
    benchmark = factors[:, 0] + 0.3 * factors[:, 3] + 0.3 * rng.normal(size=n)
    return prediction, y, eras, benchmark


def by_numerai_tools(prediction, y, eras, benchmark=None):
    """The rows of the least-squares problem, by numerai_tools' own functions."""
    rows, sides, weights = [], [], []
    for era in np.unique(eras):
        frame = pd.DataFrame(prediction[eras == era])
        target = pd.Series(y[eras == era])
        target = (target - target.mean()).to_frame()
        if benchmark is None:
            side = power(target, 1.5)[0].to_numpy()
            side = (side - side.mean()) / side.std()
        else:
            side = target[0].to_numpy()
            b = gaussian(tie_kept_rank(pd.DataFrame(benchmark[eras == era])))
            side = side - LinearRegression(fit_intercept=False).fit(b, side).predict(b)
        rows.append(gaussian(tie_kept_rank(frame)).to_numpy())
        sides.append(side)
        weights.append(np.full(len(frame), 1 / len(frame)))
    return map(np.concatenate, (rows, sides, weights))


class TestFitBlendWeights:
    @pytest.mark.parametrize("metric", ["corr", "bmc"])
    @pytest.mark.parametrize("positive", [True, False])
    def test_they_are_those_of_a_plain_regression(self, models, metric, positive):
        prediction, y, eras, benchmark = models
        given = {"benchmark": benchmark} if metric == "bmc" else {}
        Z, t, weights = by_numerai_tools(prediction, y, eras, **given)
        plain = LinearRegression(fit_intercept=False, positive=positive)
        expected = plain.fit(Z, t, sample_weight=weights).coef_
        found = fit_blend_weights(
            prediction, y, eras, metric=metric, positive=positive, **given
        )
        np.testing.assert_allclose(found, expected / np.abs(expected).sum(), rtol=1e-3)
        assert (found < 0).any() == (metric == "bmc" and not positive)

    def test_negative_weights_become_zero(self, models):
        prediction, y, eras, _ = models
        prediction = prediction * [1, -1, 1]
        Z, t, weights = by_numerai_tools(prediction, y, eras)
        expected = nnls(Z * np.sqrt(weights)[:, None], t * np.sqrt(weights))[0]
        found = fit_blend_weights(prediction, y, eras)
        np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-9)
        assert found[1] == 0

    @pytest.mark.parametrize("metric", ["corr", "bmc"])
    def test_no_other_weights_score_much_better(self, metric):
        """The simplifications cost less than one part in two hundred, in sample."""
        rng = np.random.default_rng(1)
        eras = np.repeat(np.arange(30), 400)
        factors = rng.normal(size=(len(eras), 2))
        latent = factors @ [0.6, 0.3] + 2 * rng.normal(size=len(eras))
        y = np.searchsorted(np.quantile(latent, [0.05, 0.25, 0.75, 0.95]), latent) / 4
        prediction = factors + rng.normal(size=factors.shape) * [1, 0.5]
        given = {"benchmark": factors[:, 0]} if metric == "bmc" else {}
        weights = fit_blend_weights(
            prediction, y, eras, metric=metric, positive=False, **given
        )
        Z, _, _ = by_numerai_tools(prediction, y, eras)
        angles = np.linspace(-np.pi, np.pi, 361)
        blends = np.column_stack([weights, [np.cos(angles), np.sin(angles)]])
        scores = era_scores(y, Z @ blends, eras, metric=metric, **given).mean()
        assert scores[0] > 0.05
        assert scores[0] > 0.995 * scores.max()

    def test_rows_without_target_or_benchmark_are_left_out(self, models):
        prediction, y, eras, benchmark = models
        known = np.random.default_rng(3).random(len(y)) > 0.1
        unknown = np.where(known, y, np.nan)
        expected = fit_blend_weights(prediction[known], y[known], eras[known])
        found = fit_blend_weights(prediction, unknown, eras)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        late = np.where(eras > 3, benchmark, np.nan)
        expected = fit_blend_weights(
            prediction[eras > 3], y[eras > 3], eras[eras > 3],
            metric="bmc", benchmark=benchmark[eras > 3],
        )  # fmt: skip
        found = fit_blend_weights(prediction, y, eras, metric="bmc", benchmark=late)
        np.testing.assert_allclose(found, expected, rtol=1e-12)

    def test_a_benchmark_is_matched_by_id(self, models):
        prediction, y, eras, benchmark = models
        ids = [f"n{i}" for i in range(len(y))]
        file = pd.DataFrame({"era": eras, "benchmark_model": benchmark}, ids)
        found = fit_blend_weights(
            pd.DataFrame(prediction, ids), pd.Series(y, ids), eras,
            metric="bmc", benchmark=file.iloc[::-1],
        )  # fmt: skip
        expected = fit_blend_weights(
            prediction, y, eras, metric="bmc", benchmark=benchmark
        )
        np.testing.assert_array_equal(found, expected)

    def test_equal_models_have_one_weight_in_all(self, models):
        prediction, y, eras, _ = models
        expected = fit_blend_weights(prediction, y, eras)
        twice = prediction[:, [0, 1, 2, 2]]
        for positive in (True, False):
            found = fit_blend_weights(twice, y, eras, positive=positive)
            found = [*found[:2], found[2:].sum()]
            np.testing.assert_allclose(found, expected, rtol=1e-9)

    def test_models_that_say_nothing_are_told(self, models):
        prediction, y, eras, _ = models
        for nothing in (np.zeros((len(y), 2)), -prediction):
            with pytest.raises(ValueError, match=r"weights sum to 0: in 4 eras"):
                fit_blend_weights(nothing, y, eras)
        with pytest.raises(ValueError, match="metric must be one of 'corr', 'bmc'"):
            fit_blend_weights(prediction, y, eras, metric="sharpe")
        with pytest.raises(ValueError, match="metric='bmc' needs benchmark"):
            fit_blend_weights(prediction, y, eras, metric="bmc")
        with pytest.raises(ValueError, match="benchmark covers none of the eras"):
            fit_blend_weights(
                prediction, y, eras, metric="bmc", benchmark=np.full(len(y), np.nan)
            )
        with pytest.raises(ValueError, match="each era is live"):
            fit_blend_weights(prediction, y, ["X"] * len(y))


TREE = DecisionTreeRegressor(max_depth=3, random_state=0)
CV = EraKFold(3, purge=2)


def blend(**parameters):
    return EraBlend([("ridge", Ridge()), ("tree", TREE)], **parameters)


def by_hand(panel, weights, regressors):
    """The mean of numerai_tools' ranked, gaussianised predictions."""
    y = panel.y()
    out = np.zeros(panel.n_rows)
    for regressor, weight in zip(regressors, weights, strict=True):
        prediction = pd.Series(clone(regressor).fit(panel.X, y).predict(panel.X))
        for era in np.unique(panel.eras):
            rows = panel.eras == era
            z = gaussian(tie_kept_rank(prediction[rows].to_frame()))
            out[rows] += weight * z[0].to_numpy() / np.sum(weights)
    return out


class TestEraBlend:
    @pytest.mark.parametrize(
        ("weights", "shares"), [(None, [1, 1]), ([3, 1], [3, 1]), ([1.0, 0], [1, 0])]
    )
    def test_it_is_the_mean_of_ranked_predictions(self, panel, weights, shares):
        model = blend(weights=weights).fit(panel.X, panel.y(), eras=panel.eras)
        found = model.predict(panel.X, eras=panel.eras)
        np.testing.assert_allclose(
            found, by_hand(panel, shares, [Ridge(), TREE]), atol=1e-12
        )
        np.testing.assert_allclose(model.weights_, np.divide(shares, np.sum(shares)))

    def test_it_has_what_a_voting_regressor_has(self, panel):
        y = panel.y()
        ours, theirs = (
            kind([("ridge", Ridge()), ("tree", TREE)]).set_params(
                ridge__alpha=3, tree="drop"
            )
            for kind in (EraBlend, VotingRegressor)
        )
        ours.fit(panel.X, y, eras=panel.eras)
        theirs.fit(panel.X, y)
        assert list(ours.named_estimators) == list(theirs.named_estimators)
        assert len(ours.estimators_) == len(theirs.estimators_) == 1
        assert ours.named_estimators_["ridge"] is ours.estimators_[0]
        np.testing.assert_array_equal(
            ours.estimators_[0].coef_, theirs.estimators_[0].coef_
        )
        shared = set(theirs.get_params()) - {"estimators", "n_jobs", "verbose"}
        assert shared <= set(ours.get_params())

    def test_dropping_one_drops_its_weight(self, panel):
        model = blend(weights=[0, 1]).set_params(ridge="drop")
        model.fit(panel.X, panel.y(), eras=panel.eras)
        found = model.predict(panel.X, eras=panel.eras)
        np.testing.assert_allclose(found, by_hand(panel, [1], [TREE]), atol=1e-12)
        model.set_params(ridge=Ridge(), tree="drop")
        with pytest.raises(ValueError, match="weights sum to 0 over the regressors"):
            model.fit(panel.X, panel.y(), eras=panel.eras)

    @pytest.mark.parametrize("metric", ["corr", "bmc"])
    def test_fitted_weights_are_those_of_out_of_fold_predictions(self, panel, metric):
        y, eras = panel.y(), panel.eras
        given = {}
        if metric == "bmc":
            rng = np.random.default_rng(0)
            given["benchmark"] = panel.X[:, 0] + rng.normal(size=panel.n_rows)
        parts = {
            name: cross_val_predict_eras(part, panel.X, y, eras, cv=CV, verbose=False)
            for name, part in (("ridge", Ridge()), ("tree", TREE))
        }
        prediction = pd.DataFrame(
            {name: part["prediction"].sort_index() for name, part in parts.items()}
        )
        expected = fit_blend_weights(
            prediction.to_numpy(), y, eras, metric=metric, positive=False, **given
        )
        model = blend(weights="fit", metric=metric, positive=False, cv=CV)
        model.fit(panel.X, y, eras=eras, **given)
        np.testing.assert_allclose(model.weights_, expected, rtol=1e-9)
        refit = model.estimators_[0].coef_
        np.testing.assert_array_equal(refit, Ridge().fit(panel.X, y).coef_)

    def test_folds_that_test_an_era_twice_or_never(self, panel):
        y, eras = panel.y(), panel.eras
        given = {"weights": "fit", "positive": False}
        model = blend(cv=EraWalkForward(2, purge=2), **given)
        model.fit(panel.X, y, eras=eras)
        assert np.abs(model.weights_).sum() == pytest.approx(1)
        twice = [*CV.split(panel.X, y, eras)] * 2
        model = blend(cv=CV, **given).fit(panel.X, y, eras=eras)
        again = blend(cv=twice, **given).fit(panel.X, y, eras=eras)
        np.testing.assert_allclose(again.weights_, model.weights_, rtol=1e-9)
        cut = blend(cv=KFold(3), **given).fit(panel.X, y, eras=eras)
        assert cut.weights_.shape == (2,)

    def test_the_purge_is_that_of_the_name_of_y(self, panel):
        y = pd.Series(panel.y("target_alpha_20"), name="target_alpha_20")
        given = {"weights": "fit", "positive": False}
        model = blend(cv=EraKFold(3), **given).fit(panel.X, y, eras=panel.eras)
        same = blend(cv=EraKFold(3, purge=8), **given)
        same.fit(panel.X, y, eras=panel.eras)
        np.testing.assert_array_equal(model.weights_, same.weights_)
        nameless = blend(cv=EraKFold(3), **given)
        with pytest.raises(ValueError, match="no training era left"):
            nameless.fit(panel.X, y.to_numpy(), eras=panel.eras)

    def test_rows_without_a_target_are_left_out(self, panel):
        y = panel.y().copy()
        y[panel.eras > 27] = np.nan
        model = blend(weights="fit", cv=CV).fit(panel.X, y, eras=panel.eras)
        known = panel.eras <= 27
        fresh = blend(weights="fit", cv=CV)
        fresh.fit(panel.X[known], y[known], eras=panel.eras[known])
        np.testing.assert_array_equal(model.weights_, fresh.weights_)

    def test_rows_of_weight_zero_are_left_out(self, panel):
        counted = np.random.default_rng(0).random(panel.n_rows) > 0.4
        y, eras = panel.y(), panel.eras
        model = blend(weights="fit", positive=False, cv=CV)
        model.fit(panel.X, y, eras=eras, sample_weight=counted)
        fresh = blend(weights="fit", positive=False, cv=CV)
        fresh.fit(panel.X[counted], y[counted], eras=eras[counted])
        np.testing.assert_allclose(model.weights_, fresh.weights_, rtol=1e-9)
        one = model.set_params(cv=PredefinedSplit(np.where(eras > 20, 0, -1)))
        with pytest.raises(ValueError, match="zero in all training rows of fold 0"):
            one.fit(panel.X, y, eras=eras, sample_weight=eras > 20)
        with pytest.raises(ValueError, match="weights cannot be fitted"):
            one.fit(panel.X, y, eras=eras, sample_weight=eras <= 20)

    def test_folds_are_of_all_rows(self, panel):
        """Also of those without a target, which nothing is fitted to."""
        y, eras = panel.y().copy(), panel.eras
        y[eras <= 3] = np.nan
        y[5::7] = np.nan
        fitted = []
        for cv in (CV, [*CV.split(panel.X, y, eras)]):
            model = blend(weights="fit", positive=False, cv=cv)
            fitted.append(model.fit(panel.X, y, eras=eras).weights_)
        np.testing.assert_array_equal(*fitted)
        model.set_params(cv=PredefinedSplit(np.where(eras > 20, 0, -1)))
        model.fit(panel.X, y, eras=eras)
        known = ~np.isnan(y)
        some = PredefinedSplit(np.where(eras > 20, 0, -1)[known])
        fresh = blend(weights="fit", positive=False, cv=some)
        fresh.fit(panel.X[known], y[known], eras=eras[known])
        np.testing.assert_array_equal(model.weights_, fresh.weights_)

    def test_what_was_fitted_before_the_folds_is_told(self, panel):
        inner = EraRanker(Ridge()).fit(panel.X, panel.y(), eras=panel.eras)
        model = EraBlend([("a", FrozenEstimator(inner)), ("b", TREE)], weights="fit")
        model.set_params(cv=CV)
        with pytest.warns(UserWarning, match="eraranker was fitted before the split"):
            model.fit(panel.X, panel.y(), eras=panel.eras)

    def test_eras_from_the_frame_in_a_pipeline_and_a_search(self, panel, frame):
        search = GridSearchCV(
            make_pipeline(LatentFeatures(keep_era=True), blend()),
            {"erablend__tree": ["drop", KNeighborsRegressor()]},
            cv=CV,
            error_score="raise",
        ).fit(frame, panel.y(), groups=panel.eras)
        assert len(search.cv_results_["params"]) == 2
        model = blend().fit(frame, panel.y())
        arrays = blend().fit(panel.X, panel.y(), eras=panel.eras)
        np.testing.assert_array_equal(
            model.predict(frame), arrays.predict(panel.X, eras=panel.eras)
        )
        with pytest.raises(ValueError, match="EraBlend was fitted with eras"):
            arrays.predict(panel.X)

    def test_pipelines_that_take_the_column_out(self, panel, frame):
        latents = LatentFeatures(FactorAnalysisEmbedder(2, center="era"))
        model = EraBlend(
            [("a", make_pipeline(latents, Ridge())), ("b", EraRanker(TREE))]
        )
        told = "a: 'latentfeatures' inside the Pipeline takes eras"
        with pytest.raises(ValueError, match=told):
            model.fit(frame, panel.y())
        model.set_params(keep_era=True).fit(frame, panel.y())
        assert model.predict(frame).shape == (panel.n_rows,)

    def test_by_hand_with_rank_by_era(self, panel):
        model = blend(weights=[2, 1]).fit(panel.X, panel.y(), eras=panel.eras)
        columns = np.column_stack([e.predict(panel.X) for e in model.estimators_])
        ranked = rank_by_era(columns, panel.eras, output="gauss")
        np.testing.assert_allclose(
            ranked @ [2 / 3, 1 / 3], model.predict(panel.X, eras=panel.eras)
        )

    @pytest.mark.parametrize(
        ("parameters", "told"),
        [
            ({"weights": [0, 0]}, "weights sum to 0 over"),
            ({"weights": [1, -1]}, "weights sum to 0 over"),
            ({"weights": [1, -2]}, "weights sum to -1 over"),
            ({"weights": [1]}, "weights must be 2 finite numbers"),
            ({"weights": [1, np.nan]}, "weights must be 2 finite numbers"),
            ({"weights": "best"}, "'weights' parameter"),
            ({"metric": "sharpe"}, "'metric' parameter"),
            ({"regressors": []}, "must hold a regressor that is not dropped"),
            ({"regressors": [Ridge()]}, r"a list of \(name, regressor\); it holds Rid"),
            ({"regressors": [("a", Ridge), ("b", TREE)]}, "expected a regressor with"),
            (
                {"regressors": [("a", FactorAnalysisEmbedder())]},
                "regressor with the me",
            ),
            ({"regressors": [("a", TREE), ("a", TREE)]}, "Names provided are not uniq"),
            ({"regressors": [("cv", TREE)]}, "names conflict with constructor arg"),
            ({"regressors": [(1, TREE)]}, "named by text; got the name 1"),
            ({"regressors": [("a", "drop")]}, "that is not dropped; got"),
            ({"weights": "fit", "metric": "bmc"}, "metric='bmc' needs benchmark"),
            ({"weights": "fit", "cv": []}, "cv yields no folds"),
        ],
    )
    def test_parameters_that_make_no_sense(self, parameters, told, panel):
        model = blend().set_params(**parameters)
        with pytest.raises(ValueError, match=told):
            model.fit(panel.X, panel.y(), eras=panel.eras)

    def test_other_things_that_make_no_sense(self, panel):
        X, y, eras = panel.X, panel.y(), panel.eras
        with pytest.raises(ValueError, match="weights='fit' fits to a score by era"):
            blend(weights="fit").fit(X, y)
        with pytest.raises(ValueError, match="y has 2 targets, but EraBlend"):
            blend().fit(X, np.c_[y, y], eras=eras)
        with pytest.raises(
            ValueError, match=r"benchmark was passed, but .* takes none"
        ):
            blend().fit(X, y, eras=eras, benchmark=y)
        constant = EraBlend([("a", DummyRegressor())], weights="fit", cv=CV)
        with pytest.raises(ValueError, match="fitted weights sum to 0: in 30 eras"):
            constant.fit(X, y, eras=eras)
