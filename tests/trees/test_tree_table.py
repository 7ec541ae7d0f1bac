"""Arrow tables: cells, types, and the same model as from numpy."""

import lightgbm
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from numerai_features.trees import make_lightgbm, make_xgboost, tree_table
from numerai_features.trees._tables import rows_of

takes_tables = pytest.mark.skipif(
    tuple(map(int, lightgbm.__version__.split(".")[:2])) < (4, 7),
    reason="LightGBM's scikit-learn classes take Arrow tables from 4.7 on",
)


@pytest.fixture
def X():
    return np.random.default_rng(0).integers(0, 5, size=(400, 70), dtype=np.int8)


@pytest.fixture
def y(X):
    return X[:, 0] / 4 + np.random.default_rng(1).normal(size=len(X))


def test_cells_types_and_names(X):
    for array in (X, np.asfortranarray(X), X.astype(np.uint8), X.astype(np.float32)):
        table = tree_table(array)
        assert table.shape == X.shape
        assert table.column_names[:2] == ["Column_0", "Column_1"]
        assert set(table.schema.types) == {pa.from_numpy_dtype(array.dtype)}
        np.testing.assert_array_equal(table.to_pandas().to_numpy(), X)


def test_a_cell_is_a_byte(X):
    assert tree_table(X).nbytes == X.nbytes


def test_columns_that_are_contiguous_are_not_copied(X):
    columns = np.asfortranarray(X)
    buffer = tree_table(columns).column(3).chunk(0).buffers()[1]
    assert buffer.address == columns[:, 3].ctypes.data


def test_mixed_frames_keep_the_type_of_each_column(X):
    frame = pd.DataFrame(X[:, :3], columns=["a", "b", "c"])
    frame["latent"] = np.linspace(0, 1, len(X), dtype=np.float32)
    frame["era"] = "0001"
    for table in (
        tree_table(frame),
        tree_table(pl.from_pandas(frame)),
        tree_table(pa.Table.from_pandas(frame)),
    ):
        assert table.column_names == ["a", "b", "c", "latent"]
        assert [str(t) for t in table.schema.types] == ["int8"] * 3 + ["float"]
        pd.testing.assert_frame_equal(table.to_pandas(), frame.drop(columns="era"))


def test_frames_of_one_type_and_extension_types(X):
    frame = pd.DataFrame(X[:, :3], columns=["a", "b", "c"])
    assert tree_table(frame).equals(tree_table(X[:, :3], ["a", "b", "c"]))
    for kind in ("Int8", "int8[pyarrow]"):
        missing = frame.astype(kind).mask(frame == 3)
        table = tree_table(missing)
        assert set(table.schema.types) == {pa.int8()}
        assert table.column("b").null_count == (frame["b"] == 3).sum()
    assert tree_table(frame.astype("Int8")).equals(tree_table(frame))


def test_sparse_columns_become_dense(X):
    frame = pd.DataFrame(X[:, :3], columns=["a", "b", "c"])
    for names in ("abc", "b"):
        sparse = frame.astype({name: pd.SparseDtype("int8", 0) for name in names})
        assert tree_table(sparse).equals(tree_table(frame))


@takes_tables
def test_nulls_are_missing_values(X, y):
    array = X.astype(np.float32)
    array[::5, 0] = np.nan
    nulls = pl.DataFrame(X).with_columns(pl.Series("column_0", X[:, 0].tolist()))
    nulls = nulls.with_columns(
        pl.when(pl.int_range(len(X)) % 5 > 0).then(pl.col("column_0")).alias("column_0")
    )
    models = [
        make_lightgbm(device="cpu", n_estimators=10, learning_rate=0.1, n_jobs=1)
        for _ in range(2)
    ]
    table = tree_table(nulls)
    assert table.column("column_0").null_count == len(X) // 5
    expected = models[0].fit(array, y).predict(array)
    np.testing.assert_array_equal(models[1].fit(table, y).predict(table), expected)


def test_names_may_be_given(X):
    frame = pd.DataFrame(X[:, :2], columns=["a", "b"])
    assert tree_table(frame, ["x", "y"]).column_names == ["x", "y"]
    assert tree_table(X[:, :2], pd.Index(["x", 7])).column_names == ["x", "7"]


@takes_tables
def test_lightgbm_trains_the_same_model_from_a_table(X, y):
    latent = np.random.default_rng(2).normal(size=(len(X), 2)).astype(np.float32)
    latent[::9, 0] = np.nan
    table = tree_table(X)
    for j in range(2):
        table = table.append_column(f"Column_{70 + j}", pa.array(latent[:, j]))
    array = np.hstack([X, latent])
    models = [
        make_lightgbm(
            device="cpu", n_estimators=30, learning_rate=0.1, n_jobs=1, random_state=0
        ).fit(rows, y)
        for rows in (array, table)
    ]
    expected = models[0].booster_.predict(array)
    assert np.ptp(expected) > 0.1
    np.testing.assert_array_equal(models[1].predict(table), expected)
    np.testing.assert_array_equal(models[1].booster_.predict(array), expected)


def test_xgboost_trains_the_same_model_from_a_table(X, y):
    table = tree_table(X)
    models = [
        make_xgboost(device="cpu", n_estimators=10, n_jobs=1).fit(rows, y)
        for rows in (X, table)
    ]
    np.testing.assert_array_equal(models[1].predict(table), models[0].predict(X))


def test_half_precision_becomes_single(X):
    table = tree_table(X.astype(np.float16))
    assert set(table.schema.types) == {pa.float32()}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((np.ones(3),), r"X must be two-dimensional.*got shape \(3,\)"),
        ((np.array([["a"]]),), "X must hold numbers; got a column of type string"),
        ((pd.DataFrame({"a": ["x"]}),), "column 'a' holds text, such as 'x'. Drop"),
        ((np.ones((2, 2)), ["a"]), "feature_names has 1 names, but X has 2 columns"),
        ((np.ones((2, 2)), ["a", "a"]), "must be unique; 'a' is there more than once"),
    ],
)
def test_errors(given, message):
    with pytest.raises(ValueError, match=message):
        tree_table(*given)


def test_rows_of_a_table_keep_types_and_nulls():
    frame = pl.DataFrame(
        {
            "bins": [0, None, 4, 1],
            "floats": [0.5, 1.5, 2.5, 3.5],
            "halves": [0.5, None, 2.5, 3.5],
            "flags": [True, False, True, True],
        },
        schema={
            "bins": pl.Int8,
            "floats": pl.Float32,
            "halves": pl.Float64,
            "flags": pl.Boolean,
        },
    )
    mask = np.array([True, True, False, True])
    table = tree_table(frame)
    assert rows_of(table, mask, mask).equals(table.filter(pa.array(mask)))
