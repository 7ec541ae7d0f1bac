"""Neutral predictions, against numerai_tools era by era."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numerai_tools.scoring import neutralize
from sklearn.linear_model import Ridge
from sklearn.tree import DecisionTreeRegressor

from numerai_features._threads import blas_threads
from numerai_features.compose import (
    EraNeutralizer,
    EraRanker,
    neutralize_by_era,
    rank_by_era,
)

TREE = DecisionTreeRegressor(max_depth=3, random_state=0)


def of_numerai_tools(values, X, eras, proportion):
    """Neutralise by numerai_tools, era by era, of tables without gaps."""
    values = np.asarray(values, float)
    out = np.empty(values.shape)
    for era in np.unique(eras):
        rows = np.flatnonzero(eras == era)
        frame = pd.DataFrame(values[rows].reshape(len(rows), -1))
        own = neutralize(frame, pd.DataFrame(X[rows].astype(float)), proportion)
        out[rows] = own.to_numpy().reshape(out[rows].shape)
    return out


def bins(rng, n_rows, n_features):
    return rng.integers(0, 5, (n_rows, n_features)).astype(np.int8)


def with_constants(rng):
    X = bins(rng, 300, 50)
    X[:, ::3] = 2
    return X


def collinear(rng):
    X = bins(rng, 300, 50).astype(float)
    X[:, 10:20] = X[:, :10] + 2 * X[:, 20:30]
    X[:, 0] = X[:, 1]
    return X


def of_low_rank(rng, n_rows):
    X = bins(rng, n_rows, 60).astype(float)
    X[:, 10:] = X[:, :10] @ rng.normal(size=(10, 50))
    return X


def nearly_collinear(rng):
    X = rng.normal(size=(400, 50))
    X[:, 0] = X[:, 1] + 1e-4 * X[:, 2]
    return X


def of_few_factors(rng):
    X = rng.normal(size=(1500, 5)) @ rng.normal(size=(5, 200))
    return np.clip(np.rint(X + 2), 0, 4).astype(np.int8)


TABLES = {
    "many rows": lambda rng: bins(rng, 500, 40),
    "as many rows as columns": lambda rng: bins(rng, 60, 60),
    "one row more": lambda rng: bins(rng, 61, 60),
    "two rows more": lambda rng: bins(rng, 62, 60),
    "few rows": lambda rng: bins(rng, 30, 60),
    "constant columns": with_constants,
    "all columns constant": lambda rng: np.full((50, 4), 2, np.int8),
    "collinear columns": collinear,
    "nearly collinear columns": nearly_collinear,
    "many rows of low rank": lambda rng: of_low_rank(rng, 300),
    "few rows of low rank": lambda rng: of_low_rank(rng, 40),
    "few factors": of_few_factors,
    "float32 off zero": lambda rng: rng.normal(100, 1, (400, 50)).astype(np.float32),
    "one column": lambda rng: bins(rng, 50, 1),
}


@pytest.mark.parametrize("proportion", [1.0, 0.3])
@pytest.mark.parametrize("kind", TABLES)
def test_it_is_what_numerai_tools_gives(kind, proportion):
    rng = np.random.default_rng(0)
    X = TABLES[kind](rng)
    values = rng.normal(size=(len(X), 2)) + 0.3 * X[:, :1]
    eras = np.ones(len(X), int)
    found = neutralize_by_era(values, X, eras, proportion=proportion)
    expected = of_numerai_tools(values, X, eras, proportion)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    alone = neutralize_by_era(values[:, 0], X, eras, proportion=proportion)
    np.testing.assert_allclose(alone, expected[:, 0], atol=1e-9)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_it_is_the_same_on_any_scale(scale):
    rng = np.random.default_rng(0)
    X, values, eras = bins(rng, 200, 30), rng.normal(size=200), np.repeat([1, 2], 100)
    expected = neutralize_by_era(values, X, eras)
    quarters = X / 4 * np.logspace(-3, 3, 30)
    found = neutralize_by_era(scale * values, quarters, eras) / scale
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("constant", [0.1, 1 / 3, 1e6 + 0.1, 7.7e8])
def test_a_constant_feature_explains_nothing(constant):
    """Its deviation from its mean is rounding, and is not to be divided by."""
    rng = np.random.default_rng(0)
    X, values, eras = bins(rng, 200, 12), rng.normal(size=200), np.repeat([1, 2], 100)
    expected = neutralize_by_era(values, X, eras)
    for dtype in (np.float64, np.float32):
        beside = np.column_stack([X, np.full(200, constant)]).astype(dtype)
        found = neutralize_by_era(values, beside, eras)
        np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("n_rows", [20, 200])
def test_a_column_that_varies_by_rounding_alone_is_constant(n_rows):
    rng = np.random.default_rng(0)
    X, values, eras = bins(rng, n_rows, 30), rng.normal(size=n_rows), np.ones(n_rows)
    X = X[:, : n_rows // 4]
    expected = neutralize_by_era(values, X, eras)
    rounding = 1e6 + 1e-9 * np.arange(n_rows)
    found = neutralize_by_era(values, np.c_[X, rounding], eras)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_each_era_is_by_itself(panel):
    rng = np.random.default_rng(1)
    values = rng.normal(size=panel.n_rows)
    expected = of_numerai_tools(values, panel.X, panel.eras, 0.7)
    order = rng.permutation(panel.n_rows)
    found = neutralize_by_era(
        values[order], panel.X[order], panel.eras[order], proportion=0.7
    )
    np.testing.assert_allclose(found, expected[order], atol=1e-9)


def test_no_exposure_is_left():
    rng = np.random.default_rng(0)
    X = of_few_factors(rng)
    rest = neutralize_by_era(rng.normal(size=len(X)) + X[:, 3], X, np.ones(len(X)))
    exposures = np.corrcoef(rest, X.T)[0, 1:]
    assert np.abs(exposures).max() < 1e-9


def test_missing_cells_are_the_middle():
    rng = np.random.default_rng(0)
    X, values, eras = bins(rng, 120, 10), rng.normal(size=120), np.repeat([1, 2], 60)
    gaps = X.astype(np.float32)
    gaps[::7, 4] = np.nan
    X[::7, 4] = 2
    assert np.nanmedian(gaps[:, 4]) == 2
    np.testing.assert_allclose(
        neutralize_by_era(values, gaps, eras),
        neutralize_by_era(values, X, eras), atol=1e-9,
    )  # fmt: skip


def test_constant_predictions_and_lone_rows():
    X, eras = np.arange(6)[:, None] % 4, [1, 1, 1, 2, 2, 3]
    found = neutralize_by_era([0.1, 0.1, 0.1, 1, 2, 3], X, eras, proportion=0.5)
    np.testing.assert_allclose(found, [0.05, 0.05, 0.05, 0.5, 1, 1.5])


def test_the_number_of_threads_changes_no_bit():
    rng = np.random.default_rng(0)
    X, values, eras = bins(rng, 900, 200), rng.normal(size=900), np.ones(900)
    found = []
    for n in (1, 2):
        with blas_threads(n):
            found.append(neutralize_by_era(values, X, eras))
    np.testing.assert_array_equal(*found)


def test_any_container(panel, frame):
    values = pd.Series(panel.X[:, 0] ** 2.0, frame.index, name="p")
    expected = neutralize_by_era(values.to_numpy(), panel.X, panel.eras)
    found = neutralize_by_era(values, frame)
    assert found.name == "p"
    assert found.index.equals(frame.index)
    np.testing.assert_array_equal(found, expected)
    table = pl.from_pandas(frame.reset_index(drop=True))
    np.testing.assert_array_equal(neutralize_by_era(values.array, table), expected)
    chosen = list(panel.feature_names[3:7])
    np.testing.assert_array_equal(
        neutralize_by_era(values, frame, features=chosen),
        neutralize_by_era(values.to_numpy(), panel.X[:, 3:7], panel.eras),
    )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"proportion": 1.5}, "'proportion' parameter of .* must be"),
        ({"features": ["feature_00001"]}, "which X lacks. Did you mean 'feature_0001'"),
        ({"features": [20]}, "their positions from 0 to 19; got 20"),
        ({"features": [-1]}, "their positions from 0 to 19; got -1"),
        ({"features": [True]}, "names of columns, or their positions .* got True"),
        ({"features": [3, 3]}, "features names 3 more than once"),
        ({"features": []}, "features is empty"),
    ],
)
def test_wrong_parameters_are_told(options, told, panel, frame):
    with pytest.raises(ValueError, match=told):
        neutralize_by_era(panel.X[:, 0], frame, **options)
    with pytest.raises(ValueError, match=told):
        EraNeutralizer(TREE, **options).fit(frame, panel.y())


def test_rows_that_do_not_fit_are_told(panel, frame):
    values = np.zeros(panel.n_rows)
    with pytest.raises(ValueError, match="eras is None, and X has no column 'era'"):
        neutralize_by_era(values, panel.X)
    with pytest.raises(ValueError, match="a row for each prediction; got shape"):
        neutralize_by_era(values, panel.X[:9], panel.eras)
    with pytest.raises(ValueError, match=r"have no names\. Pass X as a frame"):
        neutralize_by_era(values, panel.X, panel.eras, features=["a"])
    with pytest.raises(ValueError, match="have different pandas indexes"):
        neutralize_by_era(pd.Series(values, frame.index[::-1]), frame)


class TestEstimator:
    def test_it_is_the_function_behind_the_model(self, panel, frame):
        plain = TREE.fit(panel.X, panel.y()).predict(panel.X)
        for options in ({}, {"proportion": 0.5}, {"features": [4, 2]}):
            model = EraNeutralizer(TREE, **options).fit(frame, panel.y())
            np.testing.assert_array_equal(
                model.predict(frame),
                neutralize_by_era(plain, panel.X, panel.eras, **options),
            )

    def test_around_a_ranker_it_is_done_as_in_fnc(self, panel, frame):
        model = EraNeutralizer(EraRanker(TREE, output="gauss")).fit(frame, panel.y())
        plain = TREE.fit(panel.X, panel.y()).predict(panel.X)
        ranked = rank_by_era(plain, panel.eras, output="gauss")
        expected = of_numerai_tools(ranked, panel.X, panel.eras, 1.0)
        np.testing.assert_allclose(model.predict(frame), expected, atol=1e-9)

    def test_a_gap_of_a_live_row_is_filled_as_in_fit(self, panel, frame):
        class Tree(DecisionTreeRegressor):
            """A tree that takes gaps."""

        model = EraNeutralizer(Tree(max_depth=2, random_state=0))
        model.fit(panel.X.astype(float), panel.y(), eras=panel.eras)
        live = panel.X[:80].astype(float)
        live[5, 3] = np.nan
        eras = panel.eras[:80]
        filled = np.where(np.isnan(live), np.median(panel.X[:, 3]), live)
        inner = model.regressor_.predict(live)
        np.testing.assert_array_equal(
            model.predict(live, eras=eras), neutralize_by_era(inner, filled, eras)
        )

    def test_by_a_benchmark(self, panel, frame):
        benchmark = pd.Series(panel.X[:, 1] / 4, frame.index, name="benchmark")
        model = EraNeutralizer(TREE, neutralize_to="benchmark").fit(frame, panel.y())
        found = model.predict(frame, benchmark=benchmark.iloc[::-1])
        plain = TREE.fit(panel.X, panel.y()).predict(panel.X)
        expected = of_numerai_tools(plain, panel.X[:, 1:2], panel.eras, 1.0)
        np.testing.assert_allclose(found, expected, atol=1e-9)

    def test_a_benchmark_that_is_not_there_is_told(self, panel, frame):
        model = EraNeutralizer(TREE, neutralize_to="benchmark").fit(frame, panel.y())
        with pytest.raises(ValueError, match=r"needs predict\(benchmark="):
            model.predict(frame)
        gaps = np.where(panel.eras == 2, np.nan, panel.X[:, 0])
        with pytest.raises(ValueError, match=r"in 80 of 2400 .* row 80, of era '0002'"):
            model.predict(frame, benchmark=gaps)
        both = EraNeutralizer(TREE, neutralize_to="benchmark", features=[0])
        with pytest.raises(ValueError, match="features was passed, but neutralize_to="):
            both.fit(frame, panel.y())

    def test_a_linear_model_has_nothing_beside_its_features(self, panel, frame):
        model = EraNeutralizer(Ridge()).fit(frame, panel.y())
        assert np.abs(model.predict(frame)).max() < 1e-9
