"""Settings with which an exported file could predict otherwise than its pipeline."""

import numpy as np
import pandas as pd
import pytest
from export_parts import FRAME, NAMES, Y, boosted, live_frame, trees
from lightgbm import LGBMRanker
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import StackingRegressor, VotingRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Lasso, Ridge, SGDRegressor
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from xgboost import XGBRanker, XGBRegressor

from numerai_features import (
    EraBlend,
    EraRanker,
    FactorAnalysisEmbedder,
    LatentFeatures,
    check_export,
    export_predict,
)
from numerai_features._eras import encode_eras
from numerai_features.compose import rank_by_era
from numerai_features.compose._era_ranker import rank_rows
from numerai_features.export import _runtime
from numerai_features.export._images import IMAGES

X = FRAME[NAMES]
BY_ERA = FactorAnalysisEmbedder(2, center="era")
THREE = live_frame(72, ["0001", "0002", "X"] * 24)


def exported(model, folder, **options):
    return export_predict(model, folder / "model.pkl", **options)


def raw(file, live):
    inside = pd.read_pickle(file).__globals__
    return inside["raw_predictions"](inside["MODEL"], live)


def grades():
    return (pd.Series(Y).rank(pct=True) * 4.99).astype(int)


def test_quantiles_are_symmetric_so_that_sums_tie_on_both_sides():
    n = 4001
    index = encode_eras(np.ones(n, int))
    own = rank_rows(np.arange(n, dtype=float), index, "gauss")
    theirs = _runtime._ranks(np.arange(n, dtype=float), True)
    for values in (own, theirs):
        np.testing.assert_array_equal(values, -values[::-1])
    np.testing.assert_allclose(own, theirs, rtol=0, atol=1e-14)


@pytest.mark.parametrize("seed", range(4))
def test_ties_of_a_blend_are_ties_of_the_file(tmp_path, seed):
    """The two predictions of half of the rows are each other's opposite."""
    rng, n = np.random.default_rng(seed), 3000
    a = rng.permutation(n)
    swapped = rng.random(n // 2) < 0.5
    b = np.where(swapped[np.minimum(a, n - 1 - a)], n - 1 - a, a)
    frame = pd.DataFrame({"feature_a": a, "feature_b": b}).astype(float)
    parts = []
    for place, name in enumerate("ab"):
        model = Ridge().fit(frame, a)
        model.coef_, model.intercept_ = np.eye(2)[place], 0.0
        parts.append((name, FrozenEstimator(model)))
    blend = EraRanker(EraBlend(parts), output="gauss").fit(frame, a)
    expected = blend.predict(frame)
    assert (expected == 0).sum() > n / 3
    found = raw(exported(blend, tmp_path), frame)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_parameters_that_scaling_reads_after_fit(tmp_path):
    model = make_pipeline(StandardScaler(), Ridge()).fit(X, Y)
    for name in ("with_std", "with_mean"):
        model.set_params(**{f"standardscaler__{name}": False})
        live = live_frame()
        expected = model.predict(live[NAMES])
        np.testing.assert_allclose(
            raw(exported(model, tmp_path), live), expected, atol=1e-12
        )


class Shifted(Ridge):
    def _decision_function(self, X):
        return super()._decision_function(X) + 5


class Named(Ridge):
    """A class with a fit and an attribute of its own is exported."""

    notes = "mine"

    def __init__(self, alpha=2.0):
        super().__init__(alpha=alpha)

    def fit(self, X, y):
        return super().fit(X, y)


def test_classes_that_predict_otherwise_are_refused(tmp_path):
    told = "Shifted is a Ridge with a _decision_function of its own, which cannot be"
    with pytest.raises(TypeError, match=told):
        exported(Shifted().fit(X, Y), tmp_path)
    changed = Ridge().fit(X, Y)
    changed.predict = lambda X: np.zeros(len(X))
    with pytest.raises(TypeError, match="Ridge is a Ridge with a predict of its own"):
        exported(changed, tmp_path)
    named, live = Named().fit(X, Y), live_frame()
    np.testing.assert_allclose(
        raw(exported(named, tmp_path), live), named.predict(live[NAMES]), atol=1e-12
    )


WITHOUT_ERAS = {
    "columns": make_pipeline(
        ColumnTransformer([("a", BY_ERA, NAMES[:5])], remainder="passthrough"), Ridge()
    ),
    "voting": VotingRegressor([("a", EraRanker(Ridge())), ("b", Ridge())]),
    "stacking": StackingRegressor([("a", EraRanker(Ridge())), ("b", Ridge())], cv=2),
    "union": make_pipeline(
        FeatureUnion([("a", BY_ERA), ("b", StandardScaler())]), Ridge()
    ),
}


@pytest.mark.parametrize("name", WITHOUT_ERAS)
def test_parts_that_get_no_eras_get_none_in_the_file(tmp_path, name):
    model = WITHOUT_ERAS[name].fit(X, Y)
    file = exported(model, tmp_path)
    np.testing.assert_allclose(
        raw(file, THREE), model.predict(THREE[NAMES]), rtol=0, atol=1e-6
    )
    assert check_export(file, THREE, model).max_difference < 1e-6


WITH_ERAS = {
    "voting": VotingRegressor(
        [
            ("a", make_pipeline(LatentFeatures(BY_ERA), Ridge())),
            ("b", EraRanker(Ridge())),
        ]
    ),
    "union": make_pipeline(FeatureUnion([("a", BY_ERA)]), Ridge()),
    "passthrough": make_pipeline("passthrough", EraRanker(Ridge())),
}


@pytest.mark.parametrize("name", WITH_ERAS)
def test_parts_that_all_take_eras_get_them_in_the_file(tmp_path, name):
    model = WITH_ERAS[name].fit(FRAME, Y)
    file = exported(model, tmp_path)
    found = check_export(file, THREE, model)
    assert found.max_difference < 1e-6
    by_one = model.predict(THREE.assign(era="X"))
    assert np.abs(by_one - model.predict(THREE)).max() > 1e-3


def test_eras_that_were_passed_beside_an_array(tmp_path):
    model = EraRanker(Ridge()).fit(X.to_numpy(), Y, eras=FRAME["era"])
    file = exported(model, tmp_path, feature_names=NAMES)
    assert check_export(file, THREE, model).max_difference < 1e-9


def test_whole_numbers_beyond_float32(tmp_path):
    far = X.astype(np.int64) + 2**25
    model = trees(n_estimators=30).fit(far, Y)
    live = live_frame()
    live[NAMES] = live[NAMES].astype(np.int64) + 2**25
    np.testing.assert_array_equal(
        raw(exported(model, tmp_path), live), model.predict(live[NAMES])
    )


def test_predicting_of_lightgbm_that_its_text_lacks_is_refused(tmp_path):
    model = LGBMRanker(n_estimators=5, verbose=-1, pred_early_stop=True)
    model.fit(X, grades(), group=[len(X)])
    told = r"LightGBM has pred_early_stop=True, which changes its predictions\. Leave"
    for kind in ("library", "numpy"):
        with pytest.raises(ValueError, match=told):
            exported(model, tmp_path, trees=kind)


OBJECTIVES = {"reg:quantileerror": {"quantile_alpha": 0.3}, "reg:squaredlogerror": {}}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_objectives_that_an_image_cannot_read_are_refused(tmp_path, objective):
    model = boosted(objective=objective, **OBJECTIVES[objective]).fit(X, Y)
    told = f"objective '{objective}', which the version 1.7.5 of image='3.10' does not"
    with pytest.raises(ValueError, match=told):
        exported(model, tmp_path, image="3.10")
    live = live_frame()
    expected = model.predict(live[NAMES])
    files = [exported(model, tmp_path, image="3.13")]
    files.append(exported(model, tmp_path, image="3.10", trees="numpy"))
    for file in files:
        np.testing.assert_allclose(raw(file, live), expected, rtol=0, atol=1e-6)
    assert not IMAGES["3.10"].xgboost.startswith("3")


def test_a_ranker_and_a_linear_booster_of_xgboost(tmp_path):
    ranker = XGBRanker(n_estimators=5, max_depth=2, n_jobs=1)
    ranker.fit(X, grades(), qid=np.zeros(len(X), int))
    linear = XGBRegressor(n_estimators=8, booster="gblinear", early_stopping_rounds=1)
    linear.fit(X, Y, eval_set=[(X, -Y)], verbose=False)
    live = live_frame()
    for model in (ranker, linear):
        found = raw(exported(model, tmp_path), live)
        np.testing.assert_allclose(found, model.predict(live[NAMES]), atol=1e-6)


def test_coefficients_that_are_sparse(tmp_path):
    model = SGDRegressor(penalty="l1", random_state=0).fit(X, Y).sparsify()
    live = live_frame()
    expected = model.predict(live[NAMES])
    np.testing.assert_allclose(
        raw(exported(model, tmp_path), live), expected, atol=1e-12
    )


def test_a_transformer_that_hands_names_on(tmp_path):
    model = make_pipeline(FunctionTransformer(), Lasso(0.001)).fit(X, Y)
    live = live_frame()
    expected = model.predict(live[NAMES])
    np.testing.assert_allclose(
        raw(exported(model, tmp_path), live), expected, atol=1e-12
    )


REFUSED = {
    "neutralize names the column 'era', which is text": {"neutralize": ["era"]},
    "benchmark names the column 'era', which is text": {
        "neutralize": "benchmark",
        "benchmark": "era",
    },
}


@pytest.mark.parametrize("told", REFUSED)
def test_columns_of_text_are_refused(tmp_path, told):
    with pytest.raises(ValueError, match=told):
        exported(Ridge().fit(X, Y), tmp_path, **REFUSED[told])


def test_what_cannot_predict_is_told_as_such(tmp_path):
    with pytest.raises(ValueError, match="This Ridge instance is not fitted yet"):
        exported(Ridge(), tmp_path)
    nothing = make_pipeline(
        FeatureUnion([("a", "passthrough"), ("b", FeatureUnion([("c", "drop")]))]),
        Ridge(),
    ).fit(X, Y)
    with pytest.raises(ValueError, match="all its parts are dropped"):
        exported(nothing, tmp_path)
    voting = VotingRegressor([("a", Ridge()), ("b", Lasso())]).fit(X, Y)
    voting.set_params(a="drop")
    with pytest.raises(ValueError, match="2 estimators were fitted, and 1 are set now"):
        exported(voting, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"path: there is no folder .*none"):
        export_predict(Ridge().fit(X, Y), tmp_path / "none" / "model.pkl")
    with pytest.raises(IsADirectoryError, match="is a folder; expected a file, such"):
        export_predict(Ridge().fit(X, Y), tmp_path)


def test_ranks_are_those_of_rank_by_era(tmp_path):
    model = Ridge().fit(X, Y)
    predict = pd.read_pickle(exported(model, tmp_path))
    expected = rank_by_era(model.predict(THREE[NAMES]), THREE["era"])
    np.testing.assert_array_equal(predict(THREE)["prediction"], expected)
