"""Trees that are added on the worst eras, beside the recipe's loop by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.base import clone
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from numerai_features.compose import EraBoostedRegressor, LatentFeatures
from numerai_features.compose._era_boosted import score_eras
from numerai_features.datasets import make_era_panel
from numerai_features.metrics import era_scores
from numerai_features.model_selection import EraKFold

# LightGBM 4.6 warns of arrays that it was trained on, and XGBoost 2 has old tags.
pytestmark = [
    pytest.mark.filterwarnings("ignore:X does not have valid feature names"),
    pytest.mark.filterwarnings("ignore:The (XGB|following error):DeprecationWarning"),
]


@pytest.fixture(scope="module")
def rows():
    """Features, target and eras, the latter out of order."""
    panel = make_era_panel(n_eras=13, rows_per_era=60, n_features=12, random_state=2)
    order = np.random.default_rng(0).permutation(panel.n_rows)
    return panel.X[order], panel.y("target_alpha_20")[order], panel.eras[order]


def lightgbm():
    library = pytest.importorskip("lightgbm")
    return library.LGBMRegressor(
        n_estimators=4, num_leaves=5, colsample_bytree=0.4, n_jobs=1, verbosity=-1
    )


def xgboost():
    library = pytest.importorskip("xgboost")
    return library.XGBRegressor(
        n_estimators=4, max_depth=3, colsample_bytree=0.4, n_jobs=1
    )


def scikit_learn():
    return GradientBoostingRegressor(
        n_estimators=4, max_features=0.4, learning_rate=0.3, random_state=0
    )


MAKERS = pytest.mark.parametrize("make", [lightgbm, xgboost, scikit_learn])


def worst_by_the_recipe(model, X, y, eras, proportion):
    """The lines of the forum's listing that choose the eras."""
    df = pd.DataFrame({"era": eras, "target": y, "pred": model.predict(X)})
    scores = pd.Series(
        {era: spearmanr(d["pred"], d["target"])[0] for era, d in df.groupby("era")}
    )
    worst = scores[scores <= scores.quantile(proportion)].index
    return scores, df["era"].isin(worst).to_numpy()


def add_by_hand(model, X, y, round_, weights=None):
    """Four trees more, by what the library says of continuing."""
    given = {} if weights is None else {"sample_weight": weights}
    if isinstance(model, GradientBoostingRegressor):
        return model.set_params(n_estimators=4 + 4 * round_).fit(X, y, **given)
    if type(model).__module__.startswith("xgboost"):
        return clone(model).fit(X, y, xgb_model=model.get_booster(), **given)
    seed = int(np.random.SeedSequence([0, round_]).generate_state(1)[0] >> 1)
    more = clone(model).set_params(random_state=seed)
    return more.fit(X, y, init_model=model.booster_, **given)


def first_by_hand(make, X, y):
    model = make()
    if isinstance(model, GradientBoostingRegressor):
        model.set_params(warm_start=True)
    return model.fit(X, y)


@MAKERS
@pytest.mark.parametrize("proportion", [0.5, 0.3, 1.0])
def test_it_is_the_recipe_by_hand(make, proportion, rows):
    X, y, eras = rows
    model = EraBoostedRegressor(make(), n_rounds=4, proportion=proportion)
    model.fit(X, y, eras=eras)
    hand = first_by_hand(make, X, y)
    for round_ in range(1, 4):
        scores, worst = worst_by_the_recipe(hand, X, y, eras, proportion)
        np.testing.assert_allclose(model.era_scores_[round_ - 1], scores, atol=1e-12)
        weights = model.era_weights_[round_][eras - 1]
        np.testing.assert_array_equal(weights, worst)
        hand = add_by_hand(hand, X[worst], y[worst], round_)
    np.testing.assert_array_equal(model.predict(X), hand.predict(X))
    assert (model.era_weights_[0] == 1).all()


@MAKERS
def test_other_eras_may_keep_some_weight(make, rows):
    X, y, eras = rows
    own = np.random.default_rng(1).random(len(y))
    model = EraBoostedRegressor(make(), n_rounds=2, other_weight=0.25)
    model.fit(X, y, eras=eras)
    hand = first_by_hand(make, X, y)
    _, worst = worst_by_the_recipe(hand, X, y, eras, 0.5)
    hand = add_by_hand(hand, X, y, 1, np.where(worst, 1, 0.25))
    np.testing.assert_array_equal(model.predict(X), hand.predict(X))
    weighed = clone(model).fit(X, y, eras=eras, sample_weight=own)
    assert not np.array_equal(weighed.predict(X), model.predict(X))


@MAKERS
def test_a_round_adds_its_number_of_trees(make, rows):
    X, y, eras = rows
    model = EraBoostedRegressor(make(), n_rounds=5).fit(X, y, eras=eras)
    inner = model.regressor_
    count = {
        "LGBMRegressor": lambda: inner.booster_.num_trees(),
        "XGBRegressor": lambda: inner.get_booster().num_boosted_rounds(),
        "GradientBoostingRegressor": lambda: len(inner.estimators_),
    }[type(inner).__name__]
    assert count() == 20
    assert inner.get_params() == make().get_params()


def test_lightgbm_draws_other_columns_in_each_round(rows):
    X, y, eras = rows
    inner = lightgbm().set_params(n_estimators=1, colsample_bytree=0.1)
    model = EraBoostedRegressor(inner, n_rounds=12).fit(X, y, eras=eras)
    trees = model.regressor_.booster_.trees_to_dataframe()
    assert trees["split_feature"].nunique() > 4


def test_scores_of_eras_vary_less(rows):
    """Than those of as many trees that are fitted to all eras."""
    X, y, eras = rows
    boosted = EraBoostedRegressor(scikit_learn(), n_rounds=15)
    sharpe = []
    for proportion in (0.5, 1.0):
        model = clone(boosted).set_params(proportion=proportion)
        scores = era_scores(y, model.fit(X, y, eras=eras).predict(X), eras)
        sharpe.append(scores.mean() / scores.std())
    assert sharpe[0] > 1.1 * sharpe[1]


@pytest.mark.parametrize("metric", ["spearman", "corr"])
def test_scores_of_eras(metric, rows):
    X, y, eras = rows
    prediction, y = X[:, :2] @ [1, 0.3], y.astype(np.float64)
    model = EraBoostedRegressor(scikit_learn(), n_rounds=2, metric=metric)
    weights = np.where(np.arange(len(y)) % 7, 1.0, 0.0)
    model.fit(X, y, eras=eras)
    index = model._given(X, y, eras, None, None).rows.era_index
    found = score_eras(prediction, y, index, weights, metric)
    kept = weights > 0
    if metric == "corr":
        expected = era_scores(y[kept], prediction[kept], eras[kept])
    else:
        expected = [
            spearmanr(prediction[kept & (eras == era)], y[kept & (eras == era)])[0]
            for era in np.unique(eras)
        ]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_eras_that_cannot_be_scored_are_never_the_worst(rows):
    X, y, eras = rows
    flat = np.where(eras == 2, 0.5, y)
    model = EraBoostedRegressor(scikit_learn(), n_rounds=3).fit(X, flat, eras=eras)
    assert np.isnan(model.era_scores_[:, 1]).all()
    assert (model.era_weights_[1:, 1] == 0).all()
    alike = EraBoostedRegressor(
        scikit_learn().set_params(max_depth=1, min_samples_leaf=len(y)), n_rounds=2
    ).fit(X, y, eras=eras)
    assert (alike.era_scores_ == 0).all()
    with pytest.raises(
        ValueError, match=r"No era can be scored .n_samples=780.: each has a single row"
    ):
        model.fit(X, np.full(len(y), 0.5), eras=eras)


def test_names_of_columns_and_the_column_of_eras(panel, frame):
    model = EraBoostedRegressor(lightgbm(), n_rounds=2).fit(frame, panel.y())
    assert "era" not in model.regressor_.booster_.feature_name()
    assert model.regressor_.booster_.feature_name()[0] == "feature_0000"
    arrays = EraBoostedRegressor(lightgbm(), n_rounds=2)
    arrays.fit(panel.X, panel.y(), eras=panel.eras)
    np.testing.assert_array_equal(arrays.predict(panel.X), model.predict(frame))


def test_in_a_pipeline_and_a_search(panel, frame):
    boosted = EraBoostedRegressor(scikit_learn(), n_rounds=2)
    pipeline = make_pipeline(LatentFeatures(keep_era=True), boosted)
    search = GridSearchCV(
        pipeline,
        {"eraboostedregressor__proportion": [0.3, 0.7]},
        cv=EraKFold(2, purge=1),
        error_score="raise",
    ).fit(frame, panel.y(), groups=panel.eras)
    assert search.best_estimator_[-1].era_weights_.shape == (2, 30)


@pytest.mark.parametrize(
    ("regressor", "told"),
    [
        (Ridge(), "Ridge cannot add trees"),
        (RandomForestRegressor(warm_start=True), "RandomForestRegressor cannot add"),
        (
            HistGradientBoostingRegressor(),
            "computes new bins.* trees do not fit",
        ),
        (make_pipeline(scikit_learn()), "is a Pipeline; make EraBoostedRegressor its"),
    ],
)
def test_models_that_cannot_go_on_are_told(regressor, told, rows):
    X, y, eras = rows
    with pytest.raises(TypeError, match=f"{told}.* Pass a lightgbm.LGBMRegressor"):
        EraBoostedRegressor(regressor).fit(X, y, eras=eras)


def test_random_forests_of_xgboost_are_told(rows):
    X, y, eras = rows
    forest = pytest.importorskip("xgboost").XGBRFRegressor()
    with pytest.raises(TypeError, match="XGBRFRegressor cannot add trees"):
        EraBoostedRegressor(forest).fit(X, y, eras=eras)


@pytest.mark.parametrize("name", ["boosting_type", "boosting"])
def test_random_forests_of_lightgbm_are_told(name, rows):
    """LightGBM adds no trees to a forest, and says nothing."""
    X, y, eras = rows
    forest = pytest.importorskip("lightgbm").LGBMRegressor(**{name: "rf"})
    with pytest.raises(TypeError, match="random forest: LightGBM adds no trees to it"):
        EraBoostedRegressor(forest).fit(X, y, eras=eras)


def test_one_era_has_no_worst(rows):
    """As where an embedder ahead of it took the column of eras away."""
    X, y, _ = rows
    with pytest.warns(UserWarning, match="chooses among eras, but there is one"):
        EraBoostedRegressor(scikit_learn(), n_rounds=2).fit(X, y)
    EraBoostedRegressor(scikit_learn(), n_rounds=1).fit(X, y)


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"proportion": 1.5}, "'proportion' parameter .* range .0.0, 1.0.. Got 1.5"),
        ({"proportion": 0}, "'proportion' parameter"),
        ({"n_rounds": 0}, "'n_rounds' parameter"),
        ({"other_weight": 2}, "'other_weight' parameter"),
        ({"metric": "bmc"}, "'metric' parameter"),
    ],
)
def test_parameters_out_of_range(parameters, told, rows):
    X, y, eras = rows
    with pytest.raises(ValueError, match=told):
        EraBoostedRegressor(scikit_learn(), **parameters).fit(X, y, eras=eras)


def test_several_targets_are_told(rows):
    X, y, eras = rows
    with pytest.raises(ValueError, match="y has 2 targets, but EraBoostedRegressor"):
        EraBoostedRegressor(scikit_learn()).fit(X, np.c_[y, y], eras=eras)
