"""Rows of a panel as a lazy X, beside the frame with the same rows."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import _safe_indexing

from numerai_features import _scratch
from numerai_features._scratch import folder_of
from numerai_features.compose import (
    LatentFeatures,
    PanelLGBMRegressor,
    ResidualTargetRegressor,
)
from numerai_features.datasets import EraPanel, PanelRows, make_era_panel
from numerai_features.embedders import FactorAnalysisEmbedder
from numerai_features.metrics import make_era_scorer
from numerai_features.model_selection import EraKFold
from numerai_features.trees import make_lightgbm


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory):
    panel = make_era_panel(n_eras=24, rows_per_era=40, n_features=12, random_state=1)
    folder = tmp_path_factory.mktemp("panel") / "rows"
    panel.save(folder)
    return EraPanel.open(folder)


@pytest.fixture(params=["on disk", "in memory"])
def rows(request, on_disk, monkeypatch):
    monkeypatch.setattr(_scratch, "LEAST_BYTES", 1000)
    if request.param == "on disk":
        return on_disk.as_X()
    return make_era_panel(
        n_eras=24, rows_per_era=40, n_features=12, random_state=1
    ).as_X()


KEYS = {
    "slice": slice(100, 300),
    "step": slice(5, 500, 3),
    "backwards": slice(None, None, -1),
    "list": [3, 1, 2],
    "numbers": np.arange(900, 100, -7),
    "negative": [-1, -960],
    "mask": np.arange(960) % 5 == 0,
    "all": np.ones(960, bool),
    "empty": np.array([], int),
    "beyond": slice(950, 2000),
}


@pytest.mark.parametrize("key", KEYS)
def test_rows_are_selected_as_numpy_selects_them(rows, key):
    panel, key = rows.panel, KEYS[key]
    some = rows[key]
    assert isinstance(some, PanelRows)
    assert some.shape == panel.X[key].shape
    assert len(some) == len(panel.X[key])
    np.testing.assert_array_equal(np.asarray(some), panel.X[key])
    np.testing.assert_array_equal(some.eras, panel.eras[key])
    np.testing.assert_array_equal(np.asarray(rows[key, ...]), panel.X[key])
    if len(some) > 4:
        np.testing.assert_array_equal(
            np.asarray(some[2:-1][[1, 0]]), panel.X[key][2:-1][[1, 0]]
        )
        np.testing.assert_array_equal(
            np.asarray(some[::-1][3:]), panel.X[key][::-1][3:]
        )


def test_one_row_and_columns_are_arrays(rows):
    X = rows.panel.X
    np.testing.assert_array_equal(rows[7], X[7])
    np.testing.assert_array_equal(rows[:, 2], X[:, 2])
    assert rows[3, 4] == X[3, 4]
    with pytest.raises(IndexError, match=r"got shape \(1, 2\)"):
        rows[[[1, 2]]]
    with pytest.raises(IndexError, match="out of bounds"):
        rows[[960]]


def test_no_cell_is_copied_until_rows_are_used(rows):
    X = rows.panel.X
    assert np.shares_memory(np.asarray(rows[100:500]), X)
    some = rows[np.r_[0:100, 500:960]]
    assert some._array is None
    array = np.asarray(some)
    assert not array.flags.writeable
    assert np.asarray(some) is not array
    assert np.shares_memory(np.asarray(some), array)
    assert (folder_of(array) is not None) == (rows.panel.path is not None)
    assert np.asarray(some, np.float32).dtype == np.float32
    copied = np.array(some)
    copied[:] = 0  # it is the caller's
    np.testing.assert_array_equal(np.asarray(some), array)


def test_a_pickle_of_rows_on_disk_has_no_cells(rows):
    some = rows[np.r_[0:100, 500:960]]
    np.asarray(some)
    stored = pickle.dumps(some)
    again = pickle.loads(stored)
    np.testing.assert_array_equal(np.asarray(again), np.asarray(some))
    np.testing.assert_array_equal(again.eras, some.eras)
    if rows.panel.path is not None:
        assert len(stored) < len(some) * 8 + 2000


def test_scikit_learn_selects_rows(rows):
    some = _safe_indexing(rows, np.arange(5, 100))
    assert isinstance(some, PanelRows)
    assert some.shape == (95, 12)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_search_scores_what_it_scores_on_the_frame(rows, n_jobs):
    panel = rows.panel
    y = panel.y("target_alpha_20")
    frame = panel.to_frame(targets=[])
    pipeline = make_pipeline(LatentFeatures(FactorAnalysisEmbedder(2)), Ridge())
    grid = {"latentfeatures__embedders__n_components": [1, 3]}
    search = GridSearchCV(pipeline, grid, cv=EraKFold(3, purge=1), n_jobs=n_jobs)
    scores = [
        search.fit(X, y).cv_results_["mean_test_score"].tolist() for X in (rows, frame)
    ]
    assert scores[0] == scores[1]
    assert (
        search.fit(rows, y).best_estimator_["latentfeatures"].fitted_eras_ is not None
    )


def test_eras_and_names_come_with_the_rows(rows):
    fitted = FactorAnalysisEmbedder(2).fit(rows[: 40 * 10])
    assert fitted.fitted_eras_.tolist() == list(range(1, 11))
    assert list(fitted.feature_names_in_) == rows.panel.feature_names


def test_the_panel_itself_is_taken_as_its_rows(rows):
    panel = rows.panel
    fitted = FactorAnalysisEmbedder(2).fit(panel)
    assert list(fitted.feature_names_in_) == panel.feature_names
    assert fitted.fitted_eras_.tolist() == panel.era_numbers.tolist()
    frame = panel.to_frame(targets=[])
    np.testing.assert_array_equal(fitted.transform(panel), fitted.transform(frame))


def test_scikit_learn_is_told_to_take_the_rows(rows):
    panel = rows.panel
    with pytest.raises(TypeError, match=r"Pass panel\.as_X\(\) to scikit-learn"):
        cross_val_score(Ridge(), panel, panel.y("target_alpha_20"), cv=3)


def test_other_estimators_get_an_array_without_eras(rows):
    y = rows.panel.y("target_alpha_20")
    scores = cross_val_score(Ridge(), rows, y, cv=3)
    assert (scores == cross_val_score(Ridge(), rows.panel.X, y, cv=3)).all()


def test_a_table_of_latents_is_where_its_rows_are(rows):
    latents = LatentFeatures(FactorAnalysisEmbedder(2), quantize="uint8")
    chosen = np.r_[0:200, 520:960]
    X, panel = rows[chosen], rows.panel
    frame = panel.to_frame(targets=[]).iloc[chosen]
    table = latents.fit_transform(X)
    np.testing.assert_array_equal(table, latents.fit_transform(frame))
    np.testing.assert_array_equal(latents.transform(X), latents.transform(frame))
    assert (folder_of(table) is not None) == (panel.path is not None)


def test_ids_are_those_of_the_rows(rows):
    ids = rows.panel.ids
    for key in (slice(3, 90), np.arange(960)[::-7]):
        assert rows[key].__numerai_ids__().tolist() == ids[key].tolist()
    assert rows.panel.__numerai_ids__().tolist() == ids.tolist()
    panel = rows.panel
    bare = EraPanel(panel.X, panel.eras, feature_names=panel.feature_names)
    assert bare.__numerai_ids__() is None


@pytest.mark.parametrize("other", ["y", "sample_weight", "eras"])
def test_a_series_in_another_order_is_refused_as_beside_a_frame(rows, other):
    panel = rows.panel
    given = {"y": panel.y(), "sample_weight": panel.y() + 1, "eras": panel.eras}
    own = pd.Series(given[other], index=panel.ids)
    model = PanelLGBMRegressor(make_lightgbm(device="cpu", n_estimators=2))
    expected = model.fit(rows, **given).predict(rows)
    for X in (rows, panel):
        model.fit(X, **{**given, other: own})
        np.testing.assert_array_equal(model.predict(X), expected)
        with pytest.raises(ValueError, match=f"{other} and X have different"):
            model.fit(X, **{**given, other: own[::-1]})


def test_a_benchmark_is_found_by_id(rows):
    panel = rows.panel
    benchmark = pd.Series(np.arange(960.0) % 7, index=panel.ids, name="benchmark")
    model = ResidualTargetRegressor(Ridge())
    expected = model.fit(rows, panel.y(), benchmark=benchmark.to_numpy()).predict(rows)
    more = pd.concat([benchmark[::-1], pd.Series([3.0], index=["another"])])
    for X in (rows, panel):
        model.fit(X, panel.y(), benchmark=more)
        np.testing.assert_array_equal(model.predict(X), expected)


@pytest.mark.parametrize(
    ("metric", "beside"), [("bmc", "benchmark"), ("fnc", "features")]
)
def test_a_scorer_finds_rows_by_id(rows, metric, beside):
    panel = rows.panel
    numbers = np.random.default_rng(0).normal(size=960)
    table = pd.Series(numbers, index=panel.ids, name="other")
    table = table[::-1].to_frame() if beside == "features" else table[::-1]
    scorer = make_era_scorer(metric, **{beside: table})
    y, frame = panel.y(), panel.to_frame(targets=[])
    model = PanelLGBMRegressor(make_lightgbm(device="cpu", n_estimators=3)).fit(rows, y)
    assert scorer(model, rows, y) == scorer(model, frame, y)
