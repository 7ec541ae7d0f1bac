from datetime import date

import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numerai_features._eras import LIVE, EraIndex, encode_eras, era_label

LABELS = ["0002", "0002", "X", "0010", "0002"]

CONTAINERS = {
    "list": list,
    "numpy": np.array,
    "object": lambda v: np.array(v, dtype=object),
    "column": lambda v: np.array(v)[:, None],
    "pandas": pd.Series,
    "pandas index": pd.Index,
    "category": lambda v: pd.Series(v).astype("category"),
    "polars": pl.Series,
    "polars category": lambda v: pl.Series(v).cast(pl.Categorical),
    "polars enum": lambda v: pl.Series(v, dtype=pl.Enum(sorted(set(v)))),
    "narwhals": lambda v: nw.from_native(pl.Series(v), series_only=True),
    "arrow": pa.array,
    "arrow chunks": lambda v: pa.chunked_array([v[:2], v[2:]]),
    "arrow dictionary": lambda v: pa.array(v).dictionary_encode(),
    "mixed": lambda v: [2, 2.0, "X", "era10", "era2"],
}


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS.keys())
def test_every_container_gives_the_same_eras(container):
    index = encode_eras(container(LABELS), n_rows=5)
    np.testing.assert_array_equal(index.codes, [0, 0, 2, 1, 0])
    np.testing.assert_array_equal(index.numbers, [2, 10, LIVE])
    assert index.codes.dtype == np.int32


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint16, np.float32])
def test_numbers_of_any_type(dtype):
    index = encode_eras(np.array([3, 3, 1, 2], dtype=dtype))
    np.testing.assert_array_equal(index.row_numbers, [3, 3, 1, 2])


@given(st.lists(st.integers(0, 300), min_size=1, max_size=60))
def test_numbers_and_strings_agree_with_numpy(numbers):
    unique, codes = np.unique(numbers, return_inverse=True)
    for labels in (
        numbers,
        [f"{n:04d}" for n in numbers],
        [f"era{n}" for n in numbers],
    ):
        index = encode_eras(labels)
        np.testing.assert_array_equal(index.codes, codes)
        np.testing.assert_array_equal(index.numbers, unique)
        np.testing.assert_array_equal(index.counts, np.bincount(codes))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40))
def test_rows_by_era_are_a_partition(numbers):
    index = encode_eras(numbers)
    rows = np.arange(len(numbers))
    parts = [(code, rows[at]) for code, at in index.rows_by_era()]
    assert [code for code, _ in parts] == list(range(index.n_eras))
    for code, at in parts:
        np.testing.assert_array_equal(at, np.flatnonzero(index.codes == code))


def test_sorted_rows_are_slices():
    assert all(isinstance(r, slice) for _, r in encode_eras([1, 1, 4]).rows_by_era())


def test_order_is_by_number_not_by_text():
    np.testing.assert_array_equal(
        encode_eras(["10", "9", "0100"]).numbers, [9, 10, 100]
    )


def test_labels_that_are_no_numbers_keep_their_order():
    index = encode_eras(["b", "a", "X", "c"])
    np.testing.assert_array_equal(index.codes, [1, 0, 3, 2])
    np.testing.assert_array_equal(index.numbers, [0, 1, 2, LIVE])


def test_spellings_of_one_number_are_one_era():
    assert encode_eras(["1", "0001", "era1"]).n_eras == 1


def test_an_index_passes_through():
    index = encode_eras([5, 7, 7, 9])
    assert encode_eras(index) is index


def test_labels_as_numerai_writes_them():
    assert [era_label(n) for n in (3, 1234, LIVE)] == ["0003", "1234", "X"]


@pytest.mark.parametrize(
    ("eras", "message"),
    [
        (["0001", None], "1 missing labels, the first at row 1"),
        ([1.0, np.nan], "1 missing labels"),
        (["0001", "a"], r"mixes labels that are numbers \('0001'\)"),
        ([1.5, 2], "must be whole numbers or labels; got 1.5"),
        (np.zeros((2, 2)), r"one-dimensional, one label a row; got .* \(2, 2\)"),
        ([1, 2, 3], "has 3 labels, but X has 2 rows"),
    ],
)
def test_bad_eras_are_told(eras, message):
    with pytest.raises(ValueError, match=message):
        encode_eras(eras, n_rows=2)


EXACT = {
    "numpy": lambda v, short: np.array(v, short),
    "pandas": lambda v, short: pd.Series(v, dtype=short),
    "list": lambda v, short: list(np.array(v, short)),
    "mixed": lambda v, short: ["X", *np.array(v, short)],
    "arrow": lambda v, short: pa.array(np.array(v, short)),
    "column": lambda v, short: np.array(v, short)[:, None],
}


@pytest.mark.parametrize("container", EXACT.values(), ids=EXACT.keys())
def test_eras_that_short_floats_merge_are_refused(container):
    for short, numbers, exact in (
        ("float16", [2048, 2049, 2050], [1, 2047]),
        ("float32", [20200103, 20200110], [1, 9999]),
    ):
        told = rf"holds 20.* as {short}, which rounds .*Pass era numbers as integers"
        with pytest.raises(ValueError, match=told):
            encode_eras(container(numbers, short))
        assert set(encode_eras(container(exact, short)).numbers) >= set(exact)


def test_categories_of_short_floats_are_refused():
    dates = pd.Categorical(pd.Series([20200103, 20200110], dtype="float32"))
    with pytest.raises(ValueError, match="as float32, which rounds such"):
        encode_eras(dates)
    known = pd.Series([3, None, 20200103], dtype="Float32")
    with pytest.raises(ValueError, match="20200104 as Float32, which rounds such"):
        encode_eras(known)


def _digits(days):
    return np.char.replace(days.astype(str), "-", "")


def _week(day, form):
    return form % day.isocalendar()[:2]


def weekly(unit):
    return np.arange("2020-01-03", "2020-12-31", 7, dtype="M8[D]").astype(f"M8[{unit}]")


@pytest.mark.parametrize(
    "dates",
    [
        weekly("D"),
        weekly("ns"),
        pd.Series(weekly("ns")),
        pd.Series(weekly("s")).dt.date,
        weekly("D").astype(str),
        pl.Series(weekly("D").tolist()),
    ],
    ids=["D", "ns", "pandas", "date", "text", "polars"],
)
def test_dates_are_numbered_by_weeks(dates):
    index = encode_eras(dates)
    np.testing.assert_array_equal(np.diff(index.numbers), 1)
    assert not index.named


SPELLINGS = {
    "days": lambda days: days,
    "datetimes": lambda days: days.astype("M8[ns]"),
    "python": lambda days: days.tolist(),
    "zone": lambda days: pd.Series(days.astype("M8[ns]")).dt.tz_localize("UTC"),
    "integers": lambda days: _digits(days).astype(np.int64),
    "int32": lambda days: _digits(days).astype(np.int32),
    "floats": lambda days: _digits(days).astype(np.float64),
    "digits": _digits,
    "bytes": lambda days: _digits(days).astype(bytes),
    "iso": lambda days: days.astype(str),
    "times": lambda days: [f"{day} 14:30:00" for day in days],
    "zones": lambda days: [f"{day}T14:30:00+01:00" for day in days],
    "weeks": lambda days: [_week(day, "%d-W%02d") for day in days.tolist()],
    "short weeks": lambda days: [_week(day, "%dW%02d") for day in days.tolist()],
    "periods": lambda days: pd.Series(pd.PeriodIndex(days.astype(str), freq="W")),
    "category": lambda days: pd.Series(_digits(days)).astype("category"),
    "polars": lambda days: pl.Series(days.tolist()),
    "arrow": lambda days: pa.array(days),
}


@given(
    first=st.dates(date(1990, 1, 1), date(2030, 1, 1)),
    weeks=st.lists(st.integers(0, 60), min_size=2, max_size=12, unique=True),
    spelling=st.sampled_from(list(SPELLINGS)),
)
def test_any_spelling_of_weekly_dates_is_numbered_by_weeks(first, weeks, spelling):
    days = np.datetime64(first) + 7 * np.array(weeks)
    index = encode_eras(SPELLINGS[spelling](days))
    np.testing.assert_array_equal(
        index.row_numbers - index.numbers[0], np.array(weeks) - min(weeks)
    )
    assert not index.named
    assert np.array_equal(encode_eras(index.row_labels).numbers, index.numbers)
    assert np.array_equal(encode_eras(index.row_numbers).numbers, index.numbers)
    with pytest.raises(ValueError, match="New eras need labels with numbers"):
        index.labels_of(np.array([-1]))


@pytest.mark.parametrize("spelling", ["python", "integers", "digits", "iso", "weeks"])
@pytest.mark.parametrize("live", ["X", "eraX", "x", "erax", LIVE])
def test_the_live_era_is_beyond_all_dates(spelling, live):
    labels = [live, *SPELLINGS[spelling](weekly("D"))]
    index = encode_eras(labels)
    assert index.codes[0] == index.n_eras - 1
    assert index.numbers[-1] == LIVE
    np.testing.assert_array_equal(np.diff(index.numbers[:-1]), 1)


@pytest.mark.parametrize("live", ["x", " erax "])
def test_a_small_x_is_live_unless_eras_are_names(live):
    assert encode_eras([live, "0002", "X"]).numbers.tolist() == [2, LIVE]
    assert encode_eras([live]).numbers.tolist() == [LIVE]
    named = encode_eras(["w", live, "y", "X"])
    assert named.named
    assert named.resolved.sum() == 3
    with pytest.raises(ValueError, match=r"mixes labels that are numbers \('2'\)"):
        encode_eras([live, "2", "north"])


def test_the_last_days_of_a_week_are_in_it():
    monday = np.datetime64("2024-12-30")
    for day in range(7):
        index = encode_eras([monday + day, monday + 7])
        np.testing.assert_array_equal(np.diff(index.numbers), 1)
    with pytest.raises(ValueError, match=r"several dates in one week \(Monday"):
        encode_eras([monday, monday + 6])


@pytest.mark.parametrize(
    ("labels", "numbers"),
    [
        ([b"0001", b"0005"], [1, 5]),
        (["week10", "week2"], [2, 10]),
        (["Era1", "Era10", "Era2"], [1, 2, 10]),
        ([-3, 4], [-3, 4]),
        (["-3", "4", "-10"], [-10, -3, 4]),
        (["era-7", "era-12"], [7, 12]),
        (["week_7", "week_12"], [7, 12]),
        (["era 7", "era 12"], [7, 12]),
        (["Era - 7", "Era - 12"], [7, 12]),
        (["era-7", "era8", "Era_9", "10"], [7, 8, 9, 10]),
        ([b"era-7", b"era-12"], [7, 12]),
        ([np.iinfo(np.int32).max, 3], [3, LIVE]),
    ],
)
def test_numbers_are_found_in_labels(labels, numbers):
    index = encode_eras(labels)
    np.testing.assert_array_equal(index.numbers, numbers)
    assert not index.named


def test_names_are_known_as_names():
    assert encode_eras(["b", "a"]).named
    assert encode_eras(["a1", "b1"]).n_eras == 2


@pytest.mark.parametrize(
    ("eras", "message"),
    [
        (pd.Series([1.0, 1.5]), "whole numbers or labels; got 1.5"),
        (["12.5", "2.5"], "whole numbers or labels; got '12.5'"),
        ([True, False], "got the boolean"),
        (pd.Series([1, np.inf]), "whole numbers or labels; got inf"),
        (["99999999999999999999999", "1"], "up to 9999, or dates; got '9999"),
        (np.array([2**63 + 5, 1], np.uint64), "up to 9999, or dates"),
        ([10_000, 1], "got 10000. Pass the era column of the data, number the"),
        ([-10_000, 1], "up to 9999, or dates; got -10000"),
        (["era20200103"], "got 'era20200103'.*write dates as '2020-01-03'"),
        ([202001, 202002], "got 202001.*weeks as '2020-W01'"),
        ([20201345, 20200103], r"mixes dates \(20200103\).*\(20201345\)"),
        (["2020-01-03", "2020-13-03"], r"mixes dates .*\('2020-13-03'\)"),
        ([20200103, 5], r"mixes dates \(20200103\) with labels that .* \(5\)"),
        (np.float32([20200103, 20200110]), "as float32, which rounds"),
        (pd.Series([20200103], dtype="Float32"), "as Float32, which rounds"),
        (["0001", np.nan], "1 missing labels, the first at row 1"),
        (
            ["2020-01-03", "2020-01-04", "2020-01-05", "2020-01-06"],
            "several dates in one week",
        ),
    ],
)
def test_labels_that_are_no_eras_are_told(eras, message):
    with pytest.raises(ValueError, match=message):
        encode_eras(eras)


class TestSingle:
    def test_all_rows_are_one_era(self):
        index = EraIndex.single(3)
        assert index.codes.tolist() == [0, 0, 0]
        assert index.codes.dtype == np.int32
        assert (index.n_rows, index.n_eras, index.counts.tolist()) == (3, 1, [3])
        assert list(index.rows_by_era()) == [(0, slice(0, 3))]

    def test_is_what_equal_labels_give(self):
        single, equal = EraIndex.single(4), encode_eras([0, 0, 0, 0])
        assert single.numbers.tolist() == equal.numbers.tolist()
        assert single.labels.tolist() == equal.labels.tolist()
        assert single.labels.dtype == object


class TestRowLabels:
    @pytest.mark.parametrize(
        ("labels", "kind"),
        [
            (["0002", "0001", "X", "0002"], "U"),
            ([2, 1, 30, 2], "i"),
            ([2.0, 1.0, 2.0], "f"),
            (["north", "south", "north"], "U"),
            ([2, "X", 1], "O"),
            (pd.Series(["b", "a", "b"]).astype("category"), "U"),
            (pd.to_datetime(["2024-01-05", "2024-02-02"]), "O"),
        ],
    )
    def test_are_as_they_came(self, labels, kind):
        given = encode_eras(labels).row_labels
        assert given.tolist() == list(labels)
        assert given.dtype.kind == kind

    @given(
        st.lists(st.sampled_from(["0003", "0001", "0020", "X"]), min_size=1)
        | st.lists(st.sampled_from(["north", "south", "X"]), min_size=1)
        | st.lists(st.sampled_from(["2024-01-05", "2024-02-02"]), min_size=1)
        | st.lists(st.integers(1, 9), min_size=1)
    )
    def test_are_read_as_the_same_eras_again(self, labels):
        index = encode_eras(labels)
        again = encode_eras(index.row_labels)
        assert np.array_equal(again.codes, index.codes)
        assert np.array_equal(again.numbers, index.numbers)
        assert again.named == index.named

    def test_of_some_rows(self):
        index = encode_eras(["b", "a", "c", "b"])
        assert index.take(np.array([3, 1])).row_labels.tolist() == ["b", "a"]
        assert index.take(slice(1, 3)).row_labels.tolist() == ["a", "c"]


@pytest.mark.parametrize("label", ["era-0007", "week_0007", "era 0007", "0007"])
def test_new_eras_are_written_as_the_others(label):
    new = encode_eras([label]).labels_of(np.array([8, 41]))
    assert new.tolist() == [label.replace("07", "08"), label.replace("07", "41")]
    assert encode_eras([label, *new]).numbers.tolist() == [7, 8, 41]
