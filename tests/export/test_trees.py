"""Trees as the libraries' own text, which older versions read, too."""

import json

import numpy as np
import pytest
from export_parts import FRAME, NAMES, Y, boosted, live_frame, trees
from xgboost import DMatrix

from numerai_features.export import _runtime
from numerai_features.export._images import IMAGES
from numerai_features.export._model import model_data

X = FRAME[NAMES]
LIVE = live_frame()


def raw(model, **options):
    return _runtime.raw_predictions(model_data(model, IMAGES["3.13"], **options), LIVE)


def base_score(model):
    data = model_data(model, IMAGES["3.13"])
    learner = json.loads(data["predictor"]["json"])["learner"]
    return learner["learner_model_param"]["base_score"]


@pytest.mark.parametrize("params", [{}, {"base_score": 0.2}, {"booster": "gblinear"},
                                    {"booster": "dart", "rate_drop": 0.5},
                                    {"objective": "reg:logistic"}])  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_xgboost_has_one_plain_number_for_a_base_score(params):
    if params.get("booster") == "gblinear":
        params = {"booster": "gblinear", "max_depth": None}
    model = boosted().set_params(**params).fit(X, Y)
    assert float(base_score(model)) == pytest.approx(
        params.get("base_score", float(base_score(model)))
    )
    np.testing.assert_allclose(raw(model), model.predict(LIVE[NAMES]), atol=1e-6)
    booster = model.get_booster()
    expected = booster.predict(DMatrix(LIVE[NAMES]))
    np.testing.assert_allclose(raw(booster), expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore:The argument 'eval_set':Warning")
def test_early_stopping_leaves_the_trees_to_the_best_iteration():
    noise = np.random.default_rng(0).normal(size=len(Y))
    y, held_out = noise[:600], (X[600:], noise[600:])
    xgboost = boosted(early_stopping_rounds=2, learning_rate=1.0)
    xgboost.fit(X[:600], y, eval_set=[held_out], verbose=False)
    assert xgboost.best_iteration < 7
    lightgbm = trees(early_stopping_round=2, learning_rate=1.0, n_estimators=50)
    lightgbm.fit(X[:600], y, eval_set=[held_out])
    assert 0 < lightgbm.best_iteration_ < 50
    for model in (xgboost, lightgbm):
        np.testing.assert_allclose(raw(model), model.predict(LIVE[NAMES]), atol=1e-6)


def test_missing_cells_of_xgboost():
    floats = X.astype(np.float32).replace(4, -1)
    model = boosted(missing=-1).fit(floats, Y)
    live = LIVE.astype(dict.fromkeys(NAMES, np.float32)).replace(4, -1)
    found = _runtime.raw_predictions(model_data(model, IMAGES["3.13"]), live)
    np.testing.assert_allclose(found, model.predict(live[NAMES]), atol=1e-6)


def test_several_targets_are_refused_for_old_images_and_at_the_end():
    two = np.column_stack([Y, 1 - 3 * Y])
    own = boosted().fit(X, two)
    with pytest.raises(ValueError, match=r"a base_score for each target.*one number"):
        model_data(own, IMAGES["3.13"])
    same = boosted(base_score=0.5).fit(X, two)
    with pytest.raises(ValueError, match=r"2 targets.* 1.7.5 of image='3.10'"):
        model_data(same, IMAGES["3.10"])
    with pytest.raises(ValueError, match="pipeline predicts 2 targets"):
        model_data(same, IMAGES["3.13"])


def test_categories_are_refused():
    frame = X.assign(feature_0000=X["feature_0000"].astype("category"))
    with pytest.raises(ValueError, match="LightGBM was fitted to columns of pandas"):
        model_data(trees().fit(frame, Y), IMAGES["3.13"])
    model = boosted(enable_categorical=True, tree_method="hist").fit(frame, Y)
    with pytest.raises(ValueError, match="XGBoost was fitted to categories"):
        model_data(model, IMAGES["3.13"])


@pytest.mark.parametrize("make", [trees, boosted])
def test_boosters_of_other_columns_are_refused(make):
    model = make().fit(X.to_numpy(), Y)
    booster = model.booster_ if make is trees else model.get_booster()
    with pytest.raises(ValueError, match="fitted to 12 columns, but 11 reach them"):
        model_data(booster, IMAGES["3.13"], feature_names=NAMES[1:])
    same = raw(booster, feature_names=NAMES)
    np.testing.assert_allclose(same, model.predict(LIVE[NAMES]), atol=1e-6)
