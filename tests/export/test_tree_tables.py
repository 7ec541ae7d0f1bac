"""Trees by numpy alone give the libraries' own predictions, to the last bit."""

import ast
import inspect
import json
import pickle
import pickletools
import tracemalloc
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from numerai_features.export import _tree_runtime, _tree_tables
from numerai_features.export._tree_runtime import tree_predict
from numerai_features.export._tree_tables import tree_tables

lightgbm = pytest.importorskip("lightgbm")
xgboost = pytest.importorskip("xgboost")

ZERO = float(np.float32(1e-35))  # LightGBM's


def data(dtype="float64", n_rows=400, n_features=6, seed=0, gaps=True):
    """Return rounded features, which meet thresholds, with gaps; and a target."""
    rng = np.random.default_rng(seed)
    X = (3 * rng.normal(size=(n_rows, n_features))).round()
    X[rng.random(X.shape) < 0.2] = 0
    y = np.sin(X[:, 0]) * X[:, 1] + np.abs(X[:, 2]) + rng.normal(size=n_rows)
    if dtype not in ("int8", "int16", "int64"):
        if dtype != "float16":
            X[:, 3:] += rng.normal(size=(n_rows, n_features - 3))
        if gaps:
            X[rng.random(X.shape) < 0.1] = np.nan
    return X.astype(dtype), y


def lgb(X, y, cls=lightgbm.LGBMRegressor, fit=None, **params):
    params = {"n_estimators": 12, "num_leaves": 15, "min_child_samples": 2} | params
    model = cls(verbose=-1, n_jobs=1, random_state=0, **params)
    return model.fit(X, y, **(fit or {}))


def xgb(X, y, cls=xgboost.XGBRegressor, fit=None, **params):
    params = {"n_estimators": 12, "max_depth": 4} | params
    model = cls(n_jobs=1, random_state=0, **params)
    return model.fit(X, y, **(fit or {}))


FITS = pytest.mark.parametrize("fitted", [lgb, xgb])


def own(model, X, **options):
    """Return the library's predictions; LightGBM 4.6 warns of an array of its own."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X does not have valid feature names")
        return model.predict(X, **options)


def assert_same(model, *others, **options):
    """Assert that predictions are the library's, on each of several arrays."""
    tables = tree_tables(model, **options)
    for X in others:
        found, expected = tree_predict(tables, X), own(model, X, **options)
        assert found.dtype == expected.dtype
        assert_array_equal(found, expected)


def hard(model_thresholds, n_features, dtype, seed=0):
    """Return rows of thresholds, their neighbours, zeros, tiny and huge values."""
    at = np.array(model_thresholds, dtype=dtype)
    at = at[np.isfinite(at)]
    up = np.array(np.inf, dtype=dtype)
    tiny = [0, ZERO, 1e-36, np.nextafter(ZERO, 1), np.nextafter(ZERO, 0), 5e-324, 1e-40]
    near = np.array([*tiny, 1e30, 1e38, np.inf, 1, 2, 0.5, np.nan], dtype=dtype)
    pool = [at, np.nextafter(at, up), np.nextafter(at, -up), near, -near]
    if dtype == "float64":
        pool.append(np.array([1e300, -1e300, 1e39, -1e39]))
    rng = np.random.default_rng(seed)
    return rng.choice(np.concatenate(pool), size=(600, n_features))


def thresholds_of(model):
    return np.concatenate(
        [
            np.frombuffer(group["thresholds"], dtype=tables["dtype"])
            for tables in [tree_tables(model)]
            for group in tables["groups"]
        ]
    )


# Equal predictions


@FITS
@pytest.mark.parametrize("dtype", ["int8", "int16", "int64", "float16", "float32"])
@pytest.mark.parametrize("seed", range(2))
def test_inputs_of_every_kind(fitted, dtype, seed):
    X, y = data(dtype, seed=seed)
    model = fitted(X, y)
    assert_same(model, X, X[:1], X[:63], X[:64], X[:65], np.asfortranarray(X), X[::-2])


@FITS
def test_float64_and_a_forest_fitted_on_integers(fitted):
    X, y = data("float64")
    bins, _ = data("int8", seed=1)
    assert_same(fitted(X, y), X, X.astype(np.float32), bins)
    assert_same(fitted(bins, y), X, X.astype(np.float32), bins, bins > 0)


@pytest.mark.parametrize(
    "params",
    [
        {"max_depth": 5, "num_leaves": 31},
        {"max_depth": 1},
        {"num_leaves": 2},
        {"num_leaves": 300, "min_child_samples": 1, "n_estimators": 3},
        {"n_estimators": 1},
        {"colsample_bytree": 0.2, "subsample": 0.5, "subsample_freq": 1},
        {"zero_as_missing": True},
        {"use_missing": False},
        {"boosting_type": "rf", "subsample": 0.5, "subsample_freq": 1},
        {"boosting_type": "dart", "drop_rate": 0.5},
        {"boosting_type": "goss"},
        {"extra_trees": True},
        {"boost_from_average": False},
        {"learning_rate": 1e-9},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["int8", "float32", "float64"])
def test_lightgbm(params, dtype):
    X, y = data(dtype)
    model = lgb(X, y, **params)
    others = [X]
    if dtype != "int8":
        others.append(hard(thresholds_of(model), X.shape[1], dtype))
    assert_same(model, *others)


@pytest.mark.parametrize(
    "params",
    [
        {"max_depth": 5},
        {"max_depth": 1},
        {"max_depth": 0, "max_leaves": 40, "grow_policy": "lossguide"},
        {"max_depth": 10, "min_child_weight": 0, "n_estimators": 3},
        {"n_estimators": 1},
        {"colsample_bytree": 0.2, "subsample": 0.5},
        {"base_score": 0.2},
        {"base_score": -3e5},
        {"missing": 0.0},
        {"missing": -1},
        {"tree_method": "exact", "gamma": 1.0},
        {"num_parallel_tree": 3, "subsample": 0.5},
        {"learning_rate": 1e-9},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["int8", "float32", "float64"])
def test_xgboost(params, dtype):
    X, y = data(dtype)
    model = xgb(X, y, **params)
    others = [X]
    if dtype != "int8":
        others.append(hard(thresholds_of(model), X.shape[1], dtype))
    assert_same(model, *others)


def test_xgboost_takes_a_missing_value_that_float32_rounds():
    X, y = data("float64", gaps=False)
    X[::3, 3] = 0.1
    assert_same(xgb(X, y, missing=0.1), X, X.astype(np.float32))


def test_a_random_forest_of_xgboost():
    X, y = data()
    assert_same(xgb(X, y, cls=xgboost.XGBRFRegressor, n_estimators=7), X)


def numbered(y):
    return np.digitize(y, np.quantile(y, [0.2, 0.4, 0.6, 0.8]))


@pytest.mark.parametrize("objective", sorted(_tree_tables.LIGHTGBM_SUMS))
def test_objectives_of_lightgbm(objective):
    X, y = data()
    if objective == "custom":
        model = lgb(X, y, objective=lambda y, p: (p - y, np.ones_like(y)))
    elif "rank" in objective:
        fit = {"group": [100] * 4}
        ranker = lightgbm.LGBMRanker
        model = lgb(X, numbered(y), ranker, fit, objective=objective)
    else:
        model = lgb(X, np.abs(y) + 1, objective=objective)
    assert_same(model, X)


@pytest.mark.parametrize("objective", [*sorted(_tree_tables.XGBOOST_SUMS), "custom"])
def test_objectives_of_xgboost(objective):
    X, y = data()
    if objective == "custom":
        model = xgb(X, y, objective=lambda y, p: (p - y, np.ones_like(y)))
    elif "rank" in objective:
        grade = (y > 0).astype(int) if objective == "rank:map" else numbered(y)
        fit = {"qid": np.repeat(range(4), 100)}
        model = xgb(X, grade, xgboost.XGBRanker, fit, objective=objective)
    else:
        more = {"quantile_alpha": 0.3} if "quantile" in objective else {}
        model = xgb(X, np.abs(y), objective=objective, **more)
    assert_same(model, X)


def test_categories_of_lightgbm():
    X, y = data("float64")
    rng = np.random.default_rng(0)
    X[:, 0] = rng.integers(0, 90, len(X))
    X[:, 1] = rng.integers(0, 5, len(X))
    y = y + np.sin(7 * X[:, 0]) + X[:, 1] % 2
    model = lgb(X, y, fit={"categorical_feature": [0, 1]}, cat_smooth=1)
    assert "cat_threshold" in model.booster_.model_to_string()
    odd = rng.choice([-1, -0.5, 0, 0.9, 1, 2.7, 31, 32, 64, 89, 1e9, np.nan], X.shape)
    assert_same(model, X, odd)


def test_early_stopping_and_iterations():
    X, y = data(n_rows=800)
    rest = X[400:], y[400:]
    stop = {
        "eval_set": [rest],
        "callbacks": [lightgbm.early_stopping(3, verbose=False)],
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The argument 'eval_set' is deprecated")
        light = lgb(X[:400], y[:400], fit=stop, n_estimators=200, learning_rate=0.5)
    assert 0 < light.best_iteration_ < 200
    booster = lightgbm.train(
        {"learning_rate": 0.5, "verbose": -1, "num_threads": 1},
        lightgbm.Dataset(X[:400], y[:400]),
        valid_sets=[lightgbm.Dataset(*rest)],
        callbacks=stop["callbacks"],
        keep_training_booster=True,
    )
    assert 0 < booster.best_iteration < booster.current_iteration()
    for model in (light, light.booster_, booster):
        assert_same(model, X)
        for some in (1, 2, 0, -1, 10_000):
            assert_same(model, X, num_iteration=some)
    extreme = xgb(
        *(X[:400], y[:400]),
        **{"n_estimators": 200, "learning_rate": 0.9, "early_stopping_rounds": 3},
        num_parallel_tree=2,
        fit={"eval_set": [rest], "verbose": False},
    )
    n_rounds = extreme.get_booster().num_boosted_rounds()
    assert 0 < extreme.best_iteration + 1 < n_rounds
    assert_same(extreme, X)
    for some in (1, 3, 0):
        expected = extreme.get_booster().predict(
            xgboost.DMatrix(X), iteration_range=(0, some)
        )
        found = tree_predict(tree_tables(extreme, num_iteration=some), X)
        assert_array_equal(found, expected)


def test_boosters(tmp_path):
    X, y = data()
    light = lgb(X, y)
    assert_same(light.booster_, X)
    light.booster_.save_model(tmp_path / "light.txt")
    assert_same(lightgbm.Booster(model_file=tmp_path / "light.txt"), X)
    extreme = xgb(X, y)
    for suffix in ("json", "ubj"):
        extreme.save_model(tmp_path / f"extreme.{suffix}")
        booster = xgboost.Booster(model_file=tmp_path / f"extreme.{suffix}")
        found = tree_predict(tree_tables(booster), X)
        assert_array_equal(found, booster.predict(xgboost.DMatrix(X)))
        assert_array_equal(found, extreme.predict(X))


def test_a_base_score_as_a_list_or_as_a_number_is_the_same(tmp_path):
    X, y = data()
    model = xgb(X, y + 5)
    tables = tree_tables(model)
    file = tmp_path / "model.json"
    model.save_model(file)
    told = json.loads(file.read_text())
    of_the_model = told["learner"]["learner_model_param"]
    score = np.float32(of_the_model["base_score"].strip("[]"))
    assert abs(score - 5) < 3
    of_the_model["base_score"] = f"{score:.8E}"
    file.write_text(json.dumps(told))
    assert tree_tables(xgboost.Booster(model_file=file)) == tables
    assert tables["start"] == pytest.approx(score, rel=1e-7)
    assert _tree_tables._base_score("5E-1") == _tree_tables._base_score("[5E-1]")


def test_trees_of_one_leaf():
    X, y = data()
    flat = np.full_like(y, 3.25)
    for fitted in (lgb, xgb):
        assert_same(fitted(X, flat), X)
    for model in (lgb(X, y, min_child_samples=300), xgb(X, y, min_child_weight=300)):
        tables = tree_tables(model)
        assert [batch["bits"] for batch in tables["groups"][0]["batches"]] == [[]]
        assert_same(model, X)
    # Trees of one leaf and others stand in one batch.
    model = xgb(X, y, n_estimators=40, gamma=40)
    sizes = model.get_booster().trees_to_dataframe().groupby("Tree").size()
    assert sizes.min() == 1
    assert sizes.nunique() > 2
    assert_same(model, X)


@pytest.mark.parametrize("n_bits", [8, 9])
def test_numbers_of_leaves_of_one_byte_and_of_two(n_bits):
    X, y = data("float64", n_rows=1500)
    more = {"min_child_samples": 1, "min_child_weight": 0, "n_estimators": 3}
    model = lgb(X, y, num_leaves=2**n_bits, **more)
    [group] = tree_tables(model)["groups"]
    assert {len(batch["bits"]) for batch in group["batches"]} == {n_bits}
    assert_same(model, X, X[::-1])


def test_few_nodes_tell_the_leaf():
    """Of a full tree's 14 nodes below the root 10 are needed, and 7 are in the bits."""
    X = np.arange(800.0)[:, None]
    model = xgb(X, (X[:, 0] // 100) % 8, n_estimators=1, max_depth=3)
    [[batch]] = [group["batches"] for group in tree_tables(model)["groups"]]
    assert len(batch["leaves"]) == 8 * 4
    assert batch["n_nodes"] == 2 + 10
    assert [len(members) // 4 for members in batch["bits"]] == [1, 2, 4]


def test_no_trees():
    X, y = data()
    booster = xgboost.train({"base_score": 0.3}, xgboost.DMatrix(X, y), 0)
    found = tree_predict(tree_tables(booster), X)
    assert_array_equal(found, booster.predict(xgboost.DMatrix(X)))
    assert_array_equal(found, np.full(len(X), np.float32(0.3)))


@FITS
def test_no_rows_and_features_that_no_tree_asks_for(fitted):
    X, y = data()
    X = np.concatenate([X, np.zeros((len(X), 200))], axis=1)
    model = fitted(X, y)
    assert tree_predict(tree_tables(model), X[:0]).shape == (0,)
    assert_same(model, X)
    wild = X.copy()
    wild[:, 6:] = np.random.default_rng(0).normal(size=(len(X), 200))
    tables = tree_tables(model)
    assert_array_equal(tree_predict(tables, wild), tree_predict(tables, X))


@FITS
def test_groups_batches_and_blocks_of_rows_change_nothing(fitted, monkeypatch):
    X, y = data(n_rows=700)
    model = fitted(X, y, n_estimators=40)
    whole = tree_tables(model)
    monkeypatch.setattr(_tree_tables, "CONDITIONS", 60)
    monkeypatch.setattr(_tree_tables, "NODES", 40)
    monkeypatch.setattr(_tree_runtime, "TREE_ROWS", 96)
    monkeypatch.setattr(_tree_runtime, "TREE_COLUMNS", 2)
    monkeypatch.setattr(_tree_runtime, "TREE_ASKED", 3)
    monkeypatch.setattr(_tree_runtime, "TREE_NODES", 1)
    parts = tree_tables(model)
    assert len(whole["groups"]) == len(whole["groups"][0]["batches"]) == 1
    assert len(parts["groups"]) > 3
    assert max(len(group["batches"]) for group in parts["groups"]) > 1
    assert max(group["n_conditions"] for group in parts["groups"]) <= 60
    for tables in (whole, parts):
        assert_array_equal(tree_predict(tables, X), own(model, X))


def test_memory_is_bounded_where_one_feature_has_many_thresholds():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(8192, 1)), rng.normal(size=8192)
    model = lgb(X, y, n_estimators=40, num_leaves=255, max_bin=5000)
    tables = tree_tables(model)
    assert tables["groups"][0]["n_conditions"] > 1500
    tracemalloc.start()
    try:
        found = tree_predict(tables, X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert_array_equal(found, own(model, X))
    assert peak < 12e6, peak


@FITS
def test_the_array_is_not_changed(fitted):
    X, y = data("float64")
    X[:, 0] = 0
    before = X.copy()
    more = {"missing": 0.0} if fitted is xgb else {"zero_as_missing": True}
    tree_predict(tree_tables(fitted(X, y, **more)), X)
    assert_array_equal(X, before)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.data())
def test_models_drawn_at_random(draw):
    seed = draw.draw(st.integers(0, 2**16))
    dtype = draw.draw(st.sampled_from(["int8", "float32", "float64"]))
    depth, leaves = draw.draw(st.integers(1, 9)), draw.draw(st.integers(2, 70))
    rate = draw.draw(st.sampled_from([0.01, 0.3, 1.0]))
    X, y = data(dtype, n_rows=draw.draw(st.integers(60, 300)), seed=seed)
    y = y * draw.draw(st.sampled_from([1e-6, 1.0, 1e6]))
    common = {"max_depth": depth, "learning_rate": rate, "n_estimators": 5}
    light = lgb(X, y, num_leaves=leaves, **common)
    extreme = xgb(X, y, max_leaves=leaves, grow_policy="lossguide", **common)
    for model in (light, extreme):
        others = [X]
        if dtype != "int8":
            others.append(hard(thresholds_of(model), X.shape[1], dtype, seed))
        assert_same(model, *others)


# Refused


def cut(**params):
    return lambda X, y: lgb(X, np.abs(y) + 1, **params)


def boosted(**params):
    return lambda X, y: xgb(X, (np.abs(y) + 1) / (np.abs(y).max() + 2), **params)


REFUSED = {
    "linear trees": (cut(linear_tree=True), "it has linear trees"),
    "sqrt": (cut(reg_sqrt=True), "objective 'regression sqrt' transforms the sums"),
    "poisson": (cut(objective="poisson"), "objective 'poisson' transforms"),
    "classes": (
        lambda X, y: lgb(X, y > 0, lightgbm.LGBMClassifier),
        "LGBMClassifier: its predict is neither LGBMModel's nor",
    ),
    "classes of a booster": (
        lambda X, y: lgb(X, y > 0, lightgbm.LGBMClassifier).booster_,
        "objective 'binary sigmoid:1' transforms",
    ),
    "several outputs": (
        lambda X, y: lightgbm.train(
            {"objective": several, "num_class": 2, "verbose": -1, "num_threads": 1},
            lightgbm.Dataset(X, numbered(y) % 2),
            2,
        ),
        "it has 2 outputs",
    ),
    "pandas categories": (
        lambda X, y: lgb(pd.DataFrame({"a": pd.Categorical(X[:, 0]), "b": y}), y),
        "categorical columns of pandas",
    ),
    "gamma": (boosted(objective="reg:gamma"), "objective 'reg:gamma' transforms"),
    "logistic": (boosted(objective="reg:logistic"), "'reg:logistic' transforms"),
    "dart": (boosted(booster="dart"), "its booster is 'dart'"),
    "linear": (
        boosted(booster="gblinear", max_depth=None),
        "its booster is 'gblinear'",
    ),
    "quantiles": (
        boosted(objective="reg:quantileerror", quantile_alpha=[0.2, 0.8]),
        "it has 2 outputs",
    ),
    "targets": (lambda X, y: xgb(X, np.c_[y, -y]), "it has 2 outputs"),
    "vector leaves": (
        lambda X, y: xgb(X, np.c_[y, -y], multi_strategy="multi_output_tree"),
        "it has 2 outputs",
    ),
    "XGBoost's classes": (
        lambda X, y: xgb(X, y > 0, xgboost.XGBClassifier),
        "XGBClassifier: its predict is neither XGBModel's nor",
    ),
    "XGBoost's categories": (
        lambda X, y: xgb(
            np.c_[numbered(y), X[:, 1]],
            y,
            feature_types=["c", "q"],
            enable_categorical=True,
        ),
        "it splits on categories",
    ),
}


def several(predictions, dataset):
    gradient = predictions - dataset.get_label()[:, None]
    return gradient, np.ones_like(gradient)


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_not_be_exact_is_refused(case):
    fitted, message = REFUSED[case]
    X, y = data("float32", gaps=case not in ("linear", "linear trees"))
    model = fitted(X, y)
    with pytest.raises(ValueError, match=message) as caught:
        tree_tables(model)
    assert "Leave trees='numpy' out" in str(caught.value)


def test_other_models_are_refused():
    with pytest.raises(TypeError, match="of LightGBM or XGBoost; got dict"):
        tree_tables({})


@pytest.mark.parametrize("cls", [lightgbm.LGBMRegressor, xgboost.XGBRegressor])
def test_models_that_are_not_fitted_are_refused(cls):
    with pytest.raises(ValueError, match=r"(?i)need to call fit|not fitted"):
        tree_tables(cls())


BAD = {
    "features": (np.zeros((3, 5)), ValueError, "fitted on 6 features; got 5"),
    "one dimension": (np.zeros(6), TypeError, r"got ndarray of shape \(6,\)"),
    "a frame": (pd.DataFrame(np.zeros((3, 6))), TypeError, "got DataFrame"),
    "objects": (np.zeros((3, 6), dtype=object), TypeError, "got object"),
    "text": (np.full((3, 6), "1"), TypeError, "got <U1"),
    "big": (np.full((3, 6), 2**24 + 1), ValueError, "integers up to 2"),
    "small": (np.full((3, 6), -(2**24) - 1), ValueError, "integers up to 2"),
}


@FITS
@pytest.mark.parametrize("case", BAD)
def test_bad_features_are_refused(fitted, case):
    X, error, message = BAD[case]
    tables = tree_tables(fitted(*data()))
    with pytest.raises(error, match=message):
        tree_predict(tables, X)


# The file


def plain(thing):
    if isinstance(thing, dict):
        return all(type(key) is str and plain(value) for key, value in thing.items())
    if isinstance(thing, list | tuple):
        return all(map(plain, thing))
    return type(thing) in (str, bytes, int, float, bool, type(None))


@FITS
def test_tables_are_plain_data(fitted):
    tables = tree_tables(fitted(*data()))
    assert plain(tables)
    written = pickle.dumps(tables, protocol=4)
    codes = {code.name for code, _, _ in pickletools.genops(written)}
    assert not {name for name in codes if "GLOBAL" in name or "REDUCE" in name}
    assert plain([{"a": (1, [2.0, None, b"", True])}])
    assert not plain([np.float64(1)])


@FITS
def test_the_source_stands_alone(fitted):
    source = inspect.getsource(_tree_runtime)
    tree = ast.parse(source, feature_version=(3, 10))
    imports = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
    assert [ast.unparse(one) for one in imports] == [
        "from typing import Any",
        "import numpy as np",
    ]
    namespace = {}
    exec(compile(source, "<alone>", "exec"), namespace)
    ours = set(namespace) - {"__builtins__", "__doc__", "np", "Any"}
    assert all(name.lower().startswith("tree_") for name in ours)
    X, y = data()
    model = fitted(X, y)
    assert_array_equal(namespace["tree_predict"](tree_tables(model), X), own(model, X))
