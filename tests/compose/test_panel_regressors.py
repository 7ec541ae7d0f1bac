"""Trees from rows on disk, beside the libraries' own fit on the same rows."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.pipeline import make_pipeline

from numerai_features import _scratch
from numerai_features.compose import (
    LatentFeatures,
    PanelLGBMRegressor,
    PanelXGBRegressor,
)
from numerai_features.datasets import EraPanel, make_era_panel
from numerai_features.embedders import FactorAnalysisEmbedder
from numerai_features.export import export_predict
from numerai_features.model_selection import EraHoldout, EraKFold
from numerai_features.trees import make_lightgbm, make_xgboost

pytest.importorskip("lightgbm")
xgboost = pytest.importorskip("xgboost")

# LightGBM 4.6 warns of arrays that it was trained on, and XGBoost 2 has old tags.
pytestmark = [
    pytest.mark.filterwarnings("ignore:X does not have valid feature names"),
    pytest.mark.filterwarnings("ignore:The (XGB|following error):DeprecationWarning"),
]

TARGET = "target_alpha_20"
FEW = {"device": "cpu", "n_jobs": 1, "random_state": 1, "colsample_bytree": 0.5}


def trees(kind, **options):
    make = make_lightgbm if kind is PanelLGBMRegressor else make_xgboost
    return make(**{"n_estimators": 12, "learning_rate": 0.1, **FEW, **options})


class GivenFolds:
    """A splitter of somebody else, whose folds are what they are."""

    def __init__(self, *folds):
        self.folds = folds

    def split(self, X=None, y=None, groups=None):
        yield from self.folds


def skip_what_has_no_tags(kind):
    if kind is PanelXGBRegressor and int(xgboost.__version__[0]) < 3:
        pytest.skip("scikit-learn 1.6 asks for tags that XGBoost 2 does not have")


@pytest.fixture(params=[PanelLGBMRegressor, PanelXGBRegressor])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("panel") / "rows"
    make_era_panel(n_eras=50, rows_per_era=60, n_features=10, random_state=2).save(
        folder
    )
    return folder


@pytest.fixture
def panel(folder, monkeypatch):
    monkeypatch.setattr(_scratch, "LEAST_BYTES", 1000)
    return EraPanel.open(folder)


@pytest.fixture
def y(panel):
    y = panel.y(TARGET).copy()
    y[-120:] = np.nan  # not resolved yet
    y[::11] = np.nan
    return y


@pytest.mark.parametrize("form", ["rows", "array", "frame"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_trees_are_those_of_the_library(kind, panel, y, form, weighted):
    X = {"rows": panel.as_X(), "array": panel.X, "frame": panel.to_frame(targets=[])}
    weights = np.random.default_rng(0).random(len(y)) if weighted else None
    own = None if weights is None else weights[~np.isnan(y)]
    fitted = kind(trees(kind)).fit(X[form], y, sample_weight=weights)
    known = ~np.isnan(y)
    expected = trees(kind).fit(panel.X[known], y[known], sample_weight=own)
    np.testing.assert_array_equal(fitted.predict(X[form]), expected.predict(panel.X))
    assert type(fitted.regressor_) is type(expected)


def test_rows_in_blocks_are_predicted_alike(kind, panel, y, monkeypatch):
    X = panel.as_X()
    fitted = kind(trees(kind)).fit(X, y)
    expected = fitted.predict(X)
    monkeypatch.setattr("numerai_features.compose._panel_regressors._BLOCK_BYTES", 900)
    np.testing.assert_array_equal(fitted.predict(X), expected)


@pytest.mark.parametrize("validation", [0.2, 6, EraHoldout(0.2, purge=4)], ids=str)
def test_it_stops_early_as_the_library_does(kind, panel, y, validation):
    """On the last eras, with those before them purged."""
    model = trees(kind, n_estimators=200, learning_rate=0.3)
    fitted = kind(model, validation=validation, patience=5).fit(panel.as_X(), y)
    known = ~np.isnan(y)
    X, target = panel.X[known], y[known]
    if hasattr(validation, "split"):  # of all rows, also those without a target
        [fold] = validation.split(panel.X, y, panel.eras)
        train, valid = (np.isin(np.flatnonzero(known), part) for part in fold)
    else:
        [(train, valid)] = EraHoldout(validation).split(X, target, panel.eras[known])
    if kind is PanelLGBMRegressor:
        import lightgbm

        booster = lightgbm.train(
            {k: v for k, v in model.get_params().items() if k != "n_estimators"},
            lightgbm.Dataset(X[train], target[train]),
            200,
            valid_sets=[lightgbm.Dataset(X[valid], target[valid])],
            callbacks=[lightgbm.early_stopping(5, verbose=False)],
        )
        expected = booster.predict(panel.X)
        n_trees = booster.best_iteration
    else:
        stopping = clone(model).set_params(early_stopping_rounds=5)
        stopping.fit(
            X[train], target[train], eval_set=[(X[valid], target[valid])], verbose=False
        )
        expected = stopping.predict(panel.X)
        n_trees = stopping.best_iteration + 1
    assert n_trees < 100
    np.testing.assert_allclose(fitted.predict(panel.as_X()), expected, rtol=1e-6)


def test_folds_are_of_all_rows(kind, panel, y):
    """PredefinedSplit knows no others, whichever have a target."""
    held_out = np.isin(panel.eras, range(40, 49))
    model = kind(trees(kind, n_estimators=50), patience=3)

    def predicted(cv, rows):
        made = clone(model).set_params(validation=cv)
        return made.fit(panel.X[rows], y[rows]).predict(panel.X)

    every, known = np.ones(len(y), bool), ~np.isnan(y)
    expected = predicted(GivenFolds((~held_out[known], held_out[known])), known)
    for cv in (
        PredefinedSplit(np.where(held_out, 0, -1)),
        GivenFolds((~held_out, held_out)),
    ):
        np.testing.assert_array_equal(predicted(cv, every), expected)


BAD_FOLDS = {
    "none": ([], "validation .*yields no folds"),
    "no pair": ([np.arange(40)], "validation must yield pairs"),
    "not there": ([(range(9), [99_999])], "rows of fold 0 are from 99999"),
    "unknown": ([(range(1, 9), range(2990, 3000))], "no row with a target to hold out"),
}


@pytest.mark.parametrize("bad", BAD_FOLDS)
def test_folds_that_are_none_are_told(kind, panel, y, bad):
    folds, message = BAD_FOLDS[bad]
    with pytest.raises(ValueError, match=message):
        kind(trees(kind), validation=GivenFolds(*folds)).fit(panel.X, y)


def test_a_search_over_a_pipeline_scores_what_the_library_does(kind, panel):
    skip_what_has_no_tags(kind)
    y = panel.y(TARGET)
    latents = LatentFeatures(FactorAnalysisEmbedder(2), quantize="uint8")
    name = kind.__name__.lower()
    plain = trees(kind)
    scores = []
    for model, X, grid in (
        (kind(trees(kind)), panel.as_X(), {f"{name}__regressor__max_depth": [2, 4]}),
        (
            plain,
            panel.to_frame(targets=[]),
            {f"{type(plain).__name__.lower()}__max_depth": [2, 4]},
        ),
    ):
        search = GridSearchCV(make_pipeline(latents, model), grid, cv=EraKFold(3))
        scores.append(search.fit(X, y).cv_results_["mean_test_score"])
    np.testing.assert_allclose(*scores, atol=1e-6)  # of float32, and of float64


def test_nothing_of_the_table_stays_in_memory(kind, panel, y, monkeypatch):
    """Whatever is as large as the table is made in its folder."""
    made = []

    def watched(table, shape, dtype):
        out = empty_like(table, shape, dtype)
        if len(shape) == 2:
            made.append(_scratch.folder_of(out))
        return out

    empty_like = _scratch.empty_like
    for place in ("_scratch", "trees._tables", "compose._latent_features"):
        monkeypatch.setattr(f"numerai_features.{place}.empty_like", watched)
    latents = LatentFeatures(FactorAnalysisEmbedder(2), quantize="uint8")
    make_pipeline(latents, kind(trees(kind))).fit(panel.as_X()[5:2000:2], y[5:2000:2])
    assert made
    assert set(made) == {panel.path}


@pytest.mark.skipif(
    not hasattr(xgboost, "ExtMemQuantileDMatrix"), reason="XGBoost 3.0 or later"
)
def test_external_memory_grows_the_same_trees(panel, y):
    model = PanelXGBRegressor(trees(PanelXGBRegressor))
    both = [
        clone(model).set_params(external_memory=external).fit(panel.as_X(), y)
        for external in (False, True)
    ]
    np.testing.assert_array_equal(*(m.predict(panel.as_X()) for m in both))
    assert [path.name for path in panel.path.parent.iterdir()] == ["rows"]


def test_the_default_is_numerais_preset(kind):
    made = kind()._unfitted()
    assert (made.n_estimators, made.max_depth) == (2000, 5)


def test_another_regressor_is_refused(kind, panel, y):
    with pytest.raises(TypeError, match=r"regressor must be a (lightgbm|xgb).*Ridge"):
        kind(Ridge()).fit(panel.as_X(), y)
    model = trees(kind)
    with pytest.raises(ValueError, match=r"validation=0\.2 holds out the last eras"):
        kind(model, validation=0.2).fit(panel.X, y)


@pytest.mark.parametrize(
    "option",
    [
        {"early_stopping_rounds": 3},
        {"callbacks": []},
        {"missing": 0.0},
        {"missing": None},
        {"booster": "gblinear"},
        {"tree_method": "approx"},
        {"feature_weights": np.ones(3)},
    ],
    ids=str,
)
def test_what_its_own_fit_would_do_is_not_ignored(panel, y, option):
    model = trees(PanelXGBRegressor)
    if not option.keys() <= model.get_params().keys():
        pytest.skip("this XGBoost has no such parameter")
    model.set_params(**option)
    with pytest.raises(ValueError, match=f"regressor has {next(iter(option))}"):
        PanelXGBRegressor(model).fit(panel.as_X(), y)


def test_stopped_early_it_is_exported_as_it_predicts(kind, panel, y, tmp_path):
    skip_what_has_no_tags(kind)
    names = panel.feature_names
    model = trees(kind, n_estimators=200, learning_rate=0.3)
    fitted = kind(model, validation=0.2, patience=5).fit(panel.as_X(), y)
    file = export_predict(fitted, tmp_path / "model.pkl")
    live = panel.to_frame(targets=[]).tail(60)
    told = pd.read_pickle(file)(live)["prediction"]
    expected = fitted.predict(live[["era", *names]])
    np.testing.assert_array_equal(told.rank().to_numpy(), pd.Series(expected).rank())


def test_a_function_as_objective_is_refused(panel, y):
    model = trees(PanelXGBRegressor, objective=lambda y, p: (p - y, np.ones_like(p)))
    with pytest.raises(ValueError, match="a function as its objective"):
        PanelXGBRegressor(model).fit(panel.as_X(), y)


def test_a_function_as_metric_and_several_quantiles_are_refused(panel, y):
    model = trees(PanelXGBRegressor, eval_metric=lambda y, p: 0.0)
    with pytest.raises(ValueError, match="a function as its eval_metric"):
        PanelXGBRegressor(model, validation=2).fit(panel.as_X(), y)
    options = {"objective": "reg:quantileerror", "quantile_alpha": [0.2, 0.8]}
    with pytest.raises(ValueError, match="several values of quantile_alpha"):
        PanelXGBRegressor(trees(PanelXGBRegressor, **options)).fit(panel.as_X(), y)
