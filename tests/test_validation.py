import sys
import types
from decimal import Decimal

import narwhals as nw
import narwhals.stable.v1
import narwhals.stable.v2
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pytest
from sklearn.base import BaseEstimator

from numerai_features._cache import fingerprint
from numerai_features._eras import EraLeakageError, encode_eras
from numerai_features._rows import Rows
from numerai_features._validation import (
    as_floats,
    as_frame,
    check_same_rows,
    column_names,
    count_rows,
    fill_missing,
    find_eras,
    frame_to_array,
    frame_to_numbers,
    index_of,
    kind_of,
    known_numbers,
    missing_values,
    require_numbers,
    take_columns,
    take_eras,
    take_rows,
    target_names,
    validate_rows,
    validate_target,
)

EMPTY = np.empty(0)
FRAMES = [pd.DataFrame, pl.DataFrame, pa.table]


class TestRowsInAnotherOrder:
    ids = pd.Index([f"n{i}" for i in range(9)], name="id")
    y = pd.Series(np.arange(9.0), ids)

    def test_what_says_the_same_passes(self):
        numbers = np.arange(9)
        categories = pd.CategoricalIndex(self.ids)
        for rows in (self.ids, self.ids.astype(object), categories, None, numbers + 5):
            other = self.y.to_numpy() if rows is None else self.y.set_axis(rows)
            check_same_rows(X=self.y.to_frame(), y=other, eras=None, weights=[1] * 9)
        check_same_rows(X=self.y, y=self.y[:4], eras="0001")  # others tell lengths

    def test_rows_that_were_counted_by_another_table_pass(self):
        """Of a fold's rows one table may count them and another name them."""
        counted = self.y.reset_index(drop=True)
        for rows in (slice(0, 9), [4, 2, 7]):
            check_same_rows(X=counted.iloc[rows], y=self.y.iloc[rows])
            check_same_rows(X=counted.iloc[rows], y=counted.iloc[rows])
        check_same_rows(X=counted, y=counted.set_axis(np.arange(9)[::-1] + 50))

    @pytest.mark.parametrize("held", [lambda y: y, pd.Series.to_frame, nw.from_native])
    def test_all_else_is_told(self, held):
        counted = self.y.reset_index(drop=True)
        of_others = self.y.set_axis([f"m{i}" for i in range(9)])
        numbered = self.y.set_axis(pd.Index(np.arange(9) + 50, name="id"))
        pairs = [
            (self.y, self.y[::-1], "row 0 is 'n8' in y and 'n0' in X. Reindex y like"),
            (self.y, of_others, "row 0 is 'm0' in y and 'n0' in X"),
            (counted, counted[::-1], "y and X have different pandas indexes"),
            (numbered, numbered[::-1], "row 0 is 58 in y and 50 in X"),
            (self.y, numbered, "y and X have different"),
        ]
        for X, y, told in pairs:
            options = {} if held is not nw.from_native else {"allow_series": True}
            with pytest.raises(ValueError, match=told):
                check_same_rows(X=X, y=held(y, **options))

    def test_names_come_with_the_library(self):
        kinds = {"polars.DataFrame": pl.DataFrame(), "list": [], "numpy.ndarray": EMPTY}
        assert {name: kind_of(value) for name, value in kinds.items()} == {
            name: name for name in kinds
        }


@pytest.mark.parametrize("make", FRAMES)
def test_the_era_column_is_taken_out_of_every_frame(make):
    rest, eras = take_eras(make({"era": ["0001", "0002"], "a": [1, 2]}))
    assert list(np.asarray(eras)) == ["0001", "0002"]
    assert frame_to_array(rest).shape == (2, 1)


def test_eras_passed_win_over_the_column():
    _, eras = take_eras(pd.DataFrame({"era": [1, 2], "a": [1, 2]}), [8, 9])
    assert eras == [8, 9]


def test_other_dataframes_are_taken_by_their_columns():
    batch = pa.RecordBatch.from_pydict({"era": [1, 2], "a": [0, 4]})
    rest, eras = take_eras(batch)
    assert list(np.asarray(eras)) == [1, 2]
    np.testing.assert_array_equal(frame_to_array(rest), [[0], [4]])


def test_booleans_beside_bytes_stay_bytes():
    frame = pd.DataFrame({"a": np.array([0, 4], np.int8), "b": [True, False]})
    np.testing.assert_array_equal(frame_to_array(frame), [[0, 1], [4, 0]])
    assert frame_to_array(frame).dtype == np.int8


@pytest.mark.parametrize("make", FRAMES)
def test_int8_stays_int8(make):
    bins = {name: np.array([0, 4, 2], np.int8) for name in "abc"}
    array = frame_to_array(make(bins))
    assert array.dtype == np.int8
    np.testing.assert_array_equal(array, np.array([[0] * 3, [4] * 3, [2] * 3]))


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"a": pd.array([1, None], dtype="Int8"), "b": [0.5, 1.0]}),
        pl.DataFrame({"a": [1, None], "b": [0.5, 1.0]}),
        pa.table({"a": pa.array([1, None], pa.int8()), "b": [0.5, 1.0]}),
    ],
)
def test_nulls_become_nan(frame):
    np.testing.assert_array_equal(frame_to_array(frame), [[1, 0.5], [np.nan, 1.0]])


@pytest.mark.parametrize(
    ("kinds", "dtype"),
    [
        ("int8", np.int8),
        ("float32", np.float32),
        ("bool", np.bool_),
        (["int8", None], np.int8),
        (["float32", None], np.float32),
    ],
)
def test_sparse_columns_become_dense(kinds, dtype):
    columns = {"a": [0, 1, 0], "b": [0, 0, 1]}
    kinds = [kinds, kinds] if isinstance(kinds, str) else kinds
    plain = pd.DataFrame(columns, dtype="int8")
    for name, kind in zip(columns, kinds, strict=True):
        if kind is not None:
            plain[name] = plain[name].astype(kind)
    sparse = plain.astype(
        {n: pd.SparseDtype(k) for n, k in zip(columns, kinds, strict=True) if k}
    )
    found = frame_to_array(sparse)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, plain.to_numpy(float))
    column = sparse["a"]
    np.testing.assert_array_equal(as_floats(column, "y"), [0, 1, 0])
    np.testing.assert_array_equal(as_floats(column.to_frame(), "y"), [[0], [1], [0]])


def test_sparse_columns_have_nan_and_no_text():
    gap = pd.DataFrame({"a": pd.arrays.SparseArray([np.nan, 1.0]), "b": [0, 4]})
    np.testing.assert_array_equal(frame_to_array(gap), [[np.nan, 0], [1, 4]])
    text = pd.DataFrame({"a": pd.arrays.SparseArray(["0", "1"], fill_value="0")})
    with pytest.raises(ValueError, match=r"its column 'a' holds .*such as '0'"):
        frame_to_numbers(text)


def test_nullable_integers_without_nulls_stay_bytes():
    frame = pd.DataFrame({"a": pd.array([1, 2], dtype="Int8")})
    assert frame_to_array(frame).dtype == np.int8


def test_a_memory_map_is_used_where_it_lies(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((4, 3), np.int8))
    X = np.load(tmp_path / "x.npy", mmap_mode="c")
    array, _ = validate_rows(BaseEstimator(), X, reset=True)
    assert np.shares_memory(array, X)


@pytest.mark.parametrize("make", FRAMES)
def test_column_names_are_learned_and_checked(make):
    estimator = BaseEstimator()
    validate_rows(
        estimator, make({"era": [1, 2], "a": [1, 2], "b": [1, 2]}), reset=True
    )
    assert list(estimator.feature_names_in_) == ["a", "b"]
    assert estimator.n_features_in_ == 2
    with pytest.raises(ValueError, match="feature names"):
        validate_rows(estimator, make({"b": [1, 2], "a": [1, 2]}), reset=False)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.array([[1.0, np.inf]]), "infinity"),
        (pl.DataFrame({"a": [1.0, -np.inf]}), "infinity"),
        (pd.DataFrame({"a": ["low"]}), "column 'a' holds text, such as 'low'"),
        (np.empty((0, 2)), "0 sample"),
        (pd.DataFrame({"era": ["0001"]}), "0 feature"),
        ([1.0, 2.0], "Expected 2D array"),
    ],
)
def test_bad_rows_are_told(X, message):
    with pytest.raises(ValueError, match=message):
        validate_rows(BaseEstimator(), X, reset=True)


FOREIGN = {
    "polars lazy": (lambda frame: pl.from_pandas(frame).lazy(), "collect"),
    "narwhals lazy": (lambda frame: nw.from_native(pl.LazyFrame(frame)), "collect"),
    "arrow data set": (lambda frame: pa.dataset.dataset(pa.table(frame)), "to_table"),
    "arrow reader": (lambda frame: pa.table(frame).to_reader(), "read_all"),
}


@pytest.fixture(params=[*FOREIGN, "dask"])
def foreign(request):
    """Return a table that is none of ours, and how it becomes one."""
    frame = pd.DataFrame({"era": ["0001", "0002"], "a": [1, 2]})
    if request.param == "dask":
        return pytest.importorskip("dask.dataframe").from_pandas(frame, 1), "compute"
    make, way = FOREIGN[request.param]
    return make(frame), way


def test_tables_of_other_libraries_are_no_arrays(foreign):
    X, way = foreign
    for read in (
        lambda: validate_rows(BaseEstimator(), X, reset=True),
        lambda: take_rows(X, slice(0, 1)),
        lambda: find_eras(X),
        lambda: count_rows(X),
        lambda: target_names(X),
        lambda: as_floats(X, "y"),
    ):
        with pytest.raises(ValueError, match=rf"[Xy] is a .*; expected.*\.{way}\(\)"):
            read()


SHELLS = [
    nw.from_native,
    narwhals.stable.v1.from_native,
    narwhals.stable.v2.from_native,
]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("make", FRAMES)
def test_what_narwhals_holds_is_taken_out_of_its_shell(make, shell):
    frame = make({"era": ["0001", "0002"], "a": np.array([1, 2], np.int8)})
    assert as_frame(shell(frame)) is frame
    array, eras = validate_rows(BaseEstimator(), shell(frame), reset=True)
    assert array.dtype == np.int8
    assert array.tolist() == [[1], [2]]
    assert eras.numbers.tolist() == [1, 2]
    column = shell(frame["a"], series_only=True)
    assert as_frame(column) is column.to_native()
    np.testing.assert_array_equal(as_floats(column, "y"), [1, 2])
    np.testing.assert_array_equal(encode_eras(column).numbers, [1, 2])


def test_an_index_is_no_feature():
    frame = pd.DataFrame({"era": [1, 2], "a": [0, 4]}, index=[7, 9])
    estimator = BaseEstimator()
    array, _ = validate_rows(estimator, nw.from_native(frame), reset=True)
    assert array.tolist() == [[0], [4]]
    assert list(estimator.feature_names_in_) == ["a"]


@pytest.fixture
def modin(monkeypatch):
    """Put pandas' frames, in a class of their own, where narwhals looks for modin's."""

    class Frame:
        def __init__(self, data=None, **options):
            self.__dict__["inside"] = pd.DataFrame(data, **options)

        def __getattr__(self, name):
            found = getattr(self.inside, name)
            return found if not callable(found) or name == "iloc" else wrapped(found)

        def __getitem__(self, name):
            return self.inside[name]

        def __len__(self):
            return len(self.inside)

    def wrapped(method):
        def call(*args, **options):
            found = method(*args, **options)
            return Frame(found) if isinstance(found, pd.DataFrame) else found

        return call

    module = types.SimpleNamespace(
        DataFrame=Frame, Series=pd.Series, __version__="0.30.0"
    )
    module.pandas = module
    monkeypatch.setitem(sys.modules, "modin", module)
    monkeypatch.setitem(sys.modules, "modin.pandas", module)
    return Frame


def test_frames_like_those_of_pandas_are_frames(modin):
    frame = pd.DataFrame({"era": ["0001", "0002"], "a": [0, 4]}, index=["x", "y"])
    frame["a"] = frame["a"].astype(np.int8)
    estimator = BaseEstimator()
    array, eras = validate_rows(estimator, modin(frame), reset=True)
    assert array.dtype == np.int8
    assert array.tolist() == [[0], [4]]
    assert eras.numbers.tolist() == [1, 2]
    assert list(estimator.feature_names_in_) == ["a"]
    assert list(index_of(modin(frame))) == ["x", "y"]
    twice = modin(frame.set_axis(["a", "a"], axis=1))
    with pytest.raises(ValueError, match="y has more than one column 'a'; expected"):
        as_frame(twice, "y")
    with pytest.raises(ValueError, match="its column 'era' holds text, such as '0001'"):
        frame_to_numbers(modin(frame))


def batch(columns):
    """Return a table of a library that narwhals does not know: arrow's batches."""
    return pa.RecordBatch.from_arrays([pa.array([0, 1])] * 2, names=columns)


@pytest.mark.parametrize(
    "make",
    [
        lambda names: pd.DataFrame(np.zeros((2, 2)), columns=names),
        lambda names: pa.table([[0, 1]] * 2, names=names),
        batch,
    ],
)
@pytest.mark.parametrize("name", ["a", "era"])
def test_a_name_of_two_columns_is_told(make, name):
    frame = make([name, name])
    for read in (as_frame, count_rows, find_eras, take_eras, fingerprint):
        with pytest.raises(
            ValueError, match=f"X has more than one column '{name}'; exp.*Rename them"
        ):
            read(frame)


@pytest.mark.parametrize("names", [["b", "a"], ["c"]])
@pytest.mark.parametrize("make", FRAMES)
def test_columns_are_taken_in_order(make, names):
    values = {"a": [1, 2], "b": [3, 4], "c": [5, 6]}
    found = take_columns(make(values), names)
    assert column_names(found) == names
    np.testing.assert_array_equal(frame_to_array(found).T, [values[n] for n in names])


def test_columns_are_called_by_numbers_too():
    frame = pd.DataFrame([[1, 2, 3]], columns=[2, 0, 1])
    assert frame_to_array(take_columns(frame, [0, 2])).tolist() == [[2, 1]]


def test_rows_of_a_slice_are_no_copy():
    X = np.zeros((4, 3), np.int8)
    frame = pd.DataFrame(X, copy=False)
    assert np.shares_memory(take_rows(frame, slice(1, 3)).to_numpy(), X)
    assert np.shares_memory(frame_to_array(frame), X)


@pytest.mark.parametrize(
    ("X", "index"),
    [
        (pd.DataFrame({"a": [1]}, index=["x"]), ["x"]),
        (nw.from_native(pd.DataFrame({"a": [1]}, index=["x"])), ["x"]),
        (pd.Series([1], ["x"]), ["x"]),
        (pl.DataFrame({"a": [1]}), None),
        (pa.table({"a": [1]}), None),
        (np.zeros((1, 1)), None),
        ([[1]], None),
        (None, None),
    ],
)
def test_index_of(X, index):
    found = index_of(X)
    assert (None if found is None else list(found)) == index


TEXTS = {
    "digits": ["1", "2"],
    "gaps": [None, "2"],
    "one": [1, "2"],
    "bytes": [b"1", b"2"],
    "categories": pd.Categorical(["1", "2"]),
    "dates": pd.to_datetime(["2020-01-03", "2020-01-10"]),
}


@pytest.mark.parametrize("texts", TEXTS.values(), ids=TEXTS)
def test_columns_of_text_are_named(texts):
    frame = pd.DataFrame({"a": [1, 2], "data_type": texts})
    tables = [frame]
    if not isinstance(texts, list) or type(texts[0]) is not int:
        tables += [pl.from_pandas(frame), pa.table(frame)]
    for table in tables:
        with pytest.raises(ValueError, match=r"X must .*'data_type' holds"):
            validate_rows(BaseEstimator(), table, reset=True)
        with pytest.raises(ValueError, match=r"y must .*'data_type' holds"):
            as_floats(table, "y")


@pytest.mark.parametrize(
    "X",
    [
        [["1.5"], ["2"]],
        [[1, "2"], [3, 4]],
        np.array([["1.5"]]),
        np.array([[1, b"2"]], object),
        np.array([[b"2"]]),
    ],
)
def test_cells_of_text_are_told(X):
    with pytest.raises(ValueError, match=r"X must hold numbers; got .* in row 0, col"):
        validate_rows(BaseEstimator(), X, reset=True)


def test_numbers_as_objects_are_numbers():
    frame = pd.DataFrame({"a": np.array([1, None], object), "b": [Decimal(3), 0.5]})
    frame["c"] = pd.Categorical([2, 4])
    array, _ = validate_rows(BaseEstimator(), frame, reset=True)
    np.testing.assert_array_equal(array, [[1, 3, 2], [np.nan, 0.5, 4]])


@pytest.mark.parametrize("make", FRAMES)
@pytest.mark.parametrize("name", ["Era", "ERA", "eras", "era_", " era"])
@pytest.mark.parametrize("labels", [["0001", "0002"], [1, 2]])
def test_a_column_that_spells_era_otherwise_is_told(make, name, labels):
    frame = make({name: labels, "a": [1, 2]})
    for eras in (None, [1, 2]):
        with pytest.raises(EraLeakageError, match=f"X has a column '{name}', which"):
            validate_rows(BaseEstimator(), frame, eras, reset=True)
    with pytest.raises(ValueError, match=f"y has a column '{name}', which"):
        Rows.read(BaseEstimator(), np.ones((2, 1)), frame)


def test_eras_of_another_length_are_told():
    with pytest.raises(ValueError, match="eras has 3 labels, but X has 2 rows"):
        validate_rows(BaseEstimator(), np.ones((2, 1)), [1, 2, 3], reset=True)


def test_what_stands_in_for_nan():
    X = np.array([[1.0, np.nan, np.nan], [3.0, 4.0, np.nan], [8.0, 6.0, np.nan]])
    np.testing.assert_array_equal(missing_values(X, "middle"), [3, 5, 0])
    rows = np.array([True, True, False])
    np.testing.assert_array_equal(missing_values(X, "middle", rows), [2, 4, 0])
    with pytest.raises(ValueError, match="NaN and missing='raise'"):
        missing_values(X, "raise")


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int64, np.uint8])
def test_what_stands_in_for_a_missing_whole_number(dtype):
    """Bin 2 in columns of bins, else what a cell of the column may be."""
    X = np.array([[0, 0, 2, 3, 50], [4, 0, 2, 4, 90], [1, 1, 2, 4, 60]], dtype)
    np.testing.assert_array_equal(missing_values(X, "middle"), [2, 0, 2, 4, 60])
    if np.issubdtype(dtype, np.signedinteger):
        centred = np.array([[-2], [2], [1], [0]], dtype)
        np.testing.assert_array_equal(missing_values(centred, "middle"), [0.5])


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([np.nan, np.nan], "y is NaN in all 2 rows"),
        ([1.0], r"shape \(2,\); got \(1,\)"),
        ([1.0, np.inf], "infinity at row 1"),
        (None, "y is None; expected a target"),
    ],
)
def test_bad_targets_are_told(y, message):
    with pytest.raises(ValueError, match=message):
        validate_target(y, 2)


@pytest.mark.parametrize("kind", ["array", "list", "pandas", "polars", "pyarrow"])
@pytest.mark.parametrize("rows", [slice(1, 3), np.array([2, 0])])
def test_rows_are_taken_from_any_container(kind, rows):
    values = {"a": [1, 2, 3, 4], "b": [5, 6, 7, 8]}
    plain = np.array(list(values.values())).T
    table = {
        "array": plain,
        "list": plain.tolist(),
        "pandas": pd.DataFrame(values, index=[9, 8, 7, 6]),
        "polars": pl.DataFrame(values),
        "pyarrow": pa.table(values),
    }[kind]
    assert count_rows(table) == 4
    got = take_rows(table, rows)
    assert type(got) is (np.ndarray if kind in ("array", "list") else type(table))
    got = got if isinstance(got, np.ndarray) else frame_to_array(got)
    np.testing.assert_array_equal(got, plain[rows])


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([1, None], dtype="Int8"),
        pd.Series([1.0, np.nan]),
        pl.Series("y", [1, None]),
        [1, np.nan],
    ],
    ids=["nullable", "pandas", "polars", "list"],
)
def test_missing_numbers_are_nan(values):
    np.testing.assert_array_equal(as_floats(values, "y"), [1, np.nan])


def test_nullable_columns_have_nan():
    frame = pd.DataFrame({"a": pd.array([1, None], "Int8"), "b": [0.5, 1.0]})
    np.testing.assert_array_equal(as_floats(frame, "y"), [[1, 0.5], [np.nan, 1]])


@pytest.mark.parametrize(
    "values",
    [
        ["a"],
        ["0001", "0002"],
        pd.Series(["1", None]),
        np.array(["2020-01-01"], "datetime64[D]"),
        [1 + 2j],
    ],
    ids=["text", "labels", "series", "dates", "complex"],
)
def test_what_is_no_number_is_named(values):
    with pytest.raises(ValueError, match="weights must be numbers, or NaN: could not"):
        as_floats(values, "weights")


@pytest.mark.parametrize(
    ("y", "names"),
    [
        (pd.DataFrame({"a": [0.0], "b": [1.0]}), ["a", "b"]),
        (pl.DataFrame({"a": [0.0], "b": [1.0]}), ["a", "b"]),
        (pa.table({"a": [0.0]}), ["a"]),
        (pd.Series([0.0], name="a"), ["a"]),
        (pl.Series("a", [0.0]), ["a"]),
        (pd.Series([0.0], name=0), ["0"]),
        (pd.Series([0.0]), None),
        (pl.Series([0.0]), None),
        (np.zeros(1), None),
        (None, None),
    ],
)
def test_names_of_targets(y, names):
    assert target_names(y) == names


class TestFillMissing:
    def test_what_is_missing_is_filled_and_nothing_else(self):
        block = np.array([[np.nan, 1], [2, np.nan], [np.inf, 3]])
        filled = fill_missing(block, np.array([7, 8], np.float32))
        assert filled.tolist() == [[7, 1], [2, 8], [np.inf, 3]]
        assert np.isnan(block[0, 0])

    @pytest.mark.parametrize("dtype", [np.int8, np.float32, np.float64])
    def test_nothing_missing_is_no_copy(self, dtype):
        block = np.ones((3, 2), dtype)
        assert fill_missing(block, np.zeros(2)) is block

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_the_type_stays(self, dtype):
        block = np.array([[np.nan, 1]], dtype)
        assert fill_missing(block, np.zeros(2, np.float64)).dtype == dtype

    def test_one_number_for_all_columns(self):
        assert fill_missing(np.array([np.nan, 4.0]), 2).tolist() == [2, 4]


def test_known_numbers_are_those_that_other_calls_share():
    eras = encode_eras(["0009", "0003", "0005"])
    assert known_numbers(eras).tolist() == [3, 5, 9]
    assert known_numbers(eras, [0, 2]).tolist() == [3, 9]
    assert known_numbers(encode_eras(["b", "a"])) is None
    assert known_numbers(None) is None


def test_numbers_that_are_needed():
    eras = encode_eras(["0009", "0003"])
    assert require_numbers(eras) is eras
    with pytest.raises(
        ValueError, match=r"groups must be labels with numbers.*got 'a'"
    ):
        require_numbers(encode_eras(["b", "a"]), "groups")


def test_a_mask_of_all_rows_is_none():
    X = np.array([[np.nan, 1.0], [2.0, 3.0]])
    every = np.ones(2, bool)
    assert np.array_equal(
        missing_values(X, "middle", every), missing_values(X, "middle")
    )


def test_a_type_that_arrow_does_not_have_is_named():
    frame = pl.DataFrame({"a": [1, 2], "b": [1, 2]}).cast({"b": pl.Int128})
    with pytest.raises(ValueError, match="X's column 'b' holds Int128, which pyarrow"):
        validate_rows(BaseEstimator(), frame, reset=True)
