"""Intervals for means of dependent scores: coverage, and the formula as a loop."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import stats

from numerai_features.metrics import eras_needed, mean_interval, paired_differences
from numerai_features.metrics._interval import _half_width

NOISES = {"normal": stats.norm(), "t3": stats.t(3)}


def overlapping_sums(noise, n_series, n, overlap, seed=0):
    """Return sums over `overlap` draws each: neighbours share all but one."""
    rng = np.random.default_rng(seed)
    drawn = NOISES[noise].rvs((n_series, n + overlap - 1), random_state=rng)
    total = np.cumsum(np.pad(drawn, [(0, 0), (1, 0)]), axis=1)
    return total[:, overlap:] - total[:, :-overlap]


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("n", [19, 40, 83, 200, 500])
@pytest.mark.parametrize("overlap", [4, 8, 12, 16])
def test_intervals_cover_what_they_say(noise, n, overlap):
    if n < 4 * overlap:
        interval = mean_interval(
            overlapping_sums(noise, 1, n, overlap)[0], overlap=overlap
        )
        assert np.isnan([interval.low, interval.high]).all()
        assert interval.n_eras == n < interval.n_needed == 4 * overlap
        return
    series = overlapping_sums(noise, 4000, n, overlap)
    covered = np.abs(series.mean(axis=1)) <= _half_width(series, overlap, 0.95)
    assert 0.92 <= covered.mean() <= 0.97


@pytest.mark.parametrize(
    ("n", "overlap", "n_cosines"),
    [(200, 8, 14), (83, 8, 6), (19, 4, 2), (12, 3, 2), (500, 16, 20), (60, 1, 6)],
)
def test_it_is_the_formula(n, overlap, n_cosines):
    series = 3 + np.random.default_rng(3).normal(size=n).cumsum()
    squares = []
    for j in range(1, n_cosines + 1):
        parts = [x * np.cos(np.pi * j * (t + 0.5) / n) for t, x in enumerate(series)]
        squares.append((np.sqrt(2 / n) * sum(parts)) ** 2)
    half = stats.t(n_cosines).ppf(0.95) * np.sqrt(np.mean(squares) / n)
    interval = mean_interval(series, overlap=overlap, confidence=0.9)
    assert interval.mean == pytest.approx(series.mean())
    assert interval.low == pytest.approx(series.mean() - half)
    assert interval.high == pytest.approx(series.mean() + half)
    assert (interval.n_eras, interval.n_needed) == (n, 4 * overlap)


@pytest.mark.parametrize("scale", [1e-290, 1e-30, 1, 1e30, 1e290])
def test_scale_and_shift_go_along(scale):
    series = np.random.default_rng(0).normal(size=100)
    plain = mean_interval(series, overlap=5)
    scaled = mean_interval(scale * (series + 1e6), overlap=5)
    for end in ("low", "high"):
        expected = getattr(plain, end) + 1e6
        assert getattr(scaled, end) == pytest.approx(scale * expected, rel=1e-12)


def test_what_does_not_vary_is_certain():
    interval = mean_interval(np.full(40, 0.1), overlap=5)
    assert (interval.low, interval.mean, interval.high) == pytest.approx((0.1,) * 3)


def test_confidence():
    series = np.random.default_rng(0).normal(size=100)
    narrow = mean_interval(series, overlap=5, confidence=0.5)
    wide = mean_interval(series, overlap=5, confidence=0.99)
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high


def test_overlaps_are_counted_in_era_numbers():
    series = np.random.default_rng(0).normal(size=60)
    every_fourth = pd.Series(series, index=np.arange(1, 241, 4))
    expected = mean_interval(series, overlap=4)
    assert mean_interval(every_fourth, overlap=16) == expected
    assert mean_interval(every_fourth, overlap=13) == expected
    assert mean_interval(pd.Series(series), overlap=4) == expected
    named = pd.Series(series, index=[f"w{i}" for i in range(60)])
    assert mean_interval(named, overlap=4) == expected
    dates = pd.Series(series, index=pd.date_range("2020-01-03", freq="28D", periods=60))
    assert mean_interval(dates, overlap=16) == expected
    gaps = pd.Series(series, index=[*range(1, 41), *range(60, 80)])
    assert mean_interval(gaps, overlap=4) == expected


WEEKS = np.arange("2020-01-03", "2021-03-01", 7, dtype="M8[D]")[:60]


def _forms(numbers):
    weeks = (WEEKS[0] + 7 * (numbers - numbers[0])).astype("M8[ns]")
    return {
        "numbers": numbers,
        "floats": numbers.astype(float),
        "text": [f"{n:04d}" for n in numbers],
        "hyphens": [f"era-{n}" for n in numbers],
        "categories": pd.Categorical([f"{n:04d}" for n in numbers]),
        "dates": pd.DatetimeIndex(weeks),
        "whole dates": pd.DatetimeIndex(weeks).strftime("%Y%m%d").astype(int),
        "iso": pd.DatetimeIndex(weeks).strftime("%Y-%m-%d"),
        "weeks": pd.PeriodIndex(weeks, freq="W"),
    }


@pytest.mark.parametrize("form", _forms(np.arange(3)))
@pytest.mark.parametrize(("step", "needed"), [(1, 64), (4, 16)])
def test_eras_of_any_form_are_as_far_apart_as_their_numbers(form, step, needed):
    series = np.random.default_rng(0).normal(size=60)
    eras = _forms(np.arange(1, 60 * step + 1, step))[form]
    found = mean_interval(pd.Series(series, index=eras), overlap=16)
    assert found.n_needed == needed
    assert np.isnan(found.low) == (needed > 60)
    scores = pd.DataFrame({"base": 0.0, "a": series, "none": np.nan}, index=eras)
    table = paired_differences(scores, "base", 16)
    assert table["n_needed"].tolist() == [needed, needed]
    with pytest.raises(ValueError, match="must be in era order, each era once"):
        mean_interval(pd.Series(series, index=eras)[::-1], overlap=16)


def test_a_default_index_tells_nothing():
    series = np.random.default_rng(0).normal(size=12_000)
    plain, indexed = series[10_000:], pd.Series(series).iloc[10_000:]
    assert mean_interval(indexed, overlap=8) == mean_interval(plain, overlap=8)


@pytest.mark.parametrize("number", [np.int64, np.int8, np.uint16])
def test_what_is_counted_is_pythons(number):
    found = mean_interval(np.arange(90.0), overlap=number(16))
    assert type(found.n_needed) is type(found.n_eras) is int
    assert found.n_needed == 64


@pytest.mark.parametrize("columns", [["base", "a", "a"], ["base", "base", "a"]])
def test_arms_of_one_name_are_refused(columns):
    scores = pd.DataFrame(np.ones((40, 3)), columns=columns)
    told = rf"several columns '{columns[1]}'; each arm needs its own name.*Rename"
    with pytest.raises(ValueError, match=told):
        paired_differences(scores, "base", 2)


def test_below_four_overlaps_there_is_none():
    series = np.random.default_rng(0).normal(size=32)
    assert np.isfinite(mean_interval(series, overlap=8).low)
    few = mean_interval(series[1:], overlap=8)
    assert np.isnan([few.low, few.high]).all()
    assert (few.n_eras, few.n_needed) == (31, 32)
    assert few.mean == pytest.approx(series[1:].mean())


@pytest.mark.parametrize(
    ("series", "given", "message"),
    [
        (np.ones(30), {"overlap": 0}, "'overlap' parameter .* Got 0"),
        (np.ones(30), {"overlap": 2, "confidence": 95}, "'confidence' parameter of"),
        (np.array([1, np.nan] * 9), {"overlap": 2}, "9 not finite. Drop the eras"),
        (np.ones((9, 2)), {"overlap": 2}, r"finite value per era.*got shape \(9, 2\)"),
        (np.ones(0), {"overlap": 2}, r"one finite value per era.*got shape \(0,\)"),
        (pd.Series(np.ones(3), [2, 1, 3]), {"overlap": 1}, "must be in era order"),
    ],
)
def test_errors(series, given, message):
    with pytest.raises(ValueError, match=message):
        mean_interval(series, **given)


def test_paired_differences_are_intervals_of_the_difference():
    rng = np.random.default_rng(0)
    scores = pd.DataFrame(
        rng.normal(size=(80, 3)), columns=["base", "a", "b"], index=range(5, 85)
    )
    scores.loc[7, "b"] = np.nan
    table = paired_differences(scores, "base", 8, confidence=0.9)
    assert table.index.tolist() == ["a", "b"]
    columns = ["mean_difference", "low", "high", "n_eras", "n_needed"]
    assert table.columns.tolist() == columns
    expected = mean_interval(scores["a"] - scores["base"], overlap=8, confidence=0.9)
    found = table.loc["a"].tolist()
    assert found == [expected.mean, expected.low, expected.high, 80, 32]
    assert table.loc["b", "n_eras"] == 79


def test_frames_of_other_libraries_are_told_by_name():
    match = r"must be a DataFrame of pandas.*; got polars\.DataFrame\."
    with pytest.raises(ValueError, match=match):
        paired_differences(pl.DataFrame({"a": [0.1], "b": [0.2]}), "a", overlap=1)


def test_only_common_eras_are_compared():
    """Where an arm has no score the baseline's own does not count either."""
    scores = pd.DataFrame({"base": [9.0] * 20 + [1.0] * 20, "a": 2.0, "c": np.nan})
    scores.loc[:19, "a"] = np.nan
    table = paired_differences(scores, "base", 8)
    assert table.loc["a", "mean_difference"] == 1
    assert table["n_eras"].tolist() == [20, 0]
    assert table["n_needed"].tolist() == [32, 32]
    assert table[["low", "high"]].isna().to_numpy().all()
    assert np.isnan(table.loc["c", "mean_difference"])


@pytest.mark.parametrize("columns", [["a", "b"], ["base"]])
def test_paired_differences_need_a_baseline_and_an_arm(columns):
    scores = pd.DataFrame(np.ones((20, len(columns))), columns=columns)
    with pytest.raises(
        ValueError, match="baseline must be one of at least two columns"
    ):
        paired_differences(scores, "base", 2)


def half_width(n, series, overlap, confidence):
    """Return the half-width of `n` eras with the long-run variance of a series."""

    def quantile(n):
        freedom = max(2, int(min(n / (1.5 * overlap), 0.41 * n ** (2 / 3))))
        return stats.t(freedom).ppf((1 + confidence) / 2)

    interval = mean_interval(series, overlap=overlap, confidence=confidence)
    half, given = (interval.high - interval.low) / 2, len(series)
    return half * np.sqrt(given / n) * quantile(n) / quantile(given)


@pytest.mark.parametrize("overlap", [1, 8, 16])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_eras_needed_is_where_the_interval_is_narrow_enough(overlap, confidence):
    series = np.random.default_rng(1).normal(size=90)
    given = {"overlap": overlap, "confidence": confidence}
    for difference in (0.3, 0.1, 0.02):
        needed = eras_needed(series, difference, **given)
        few = next(
            n for n in range(4 * overlap, 10**6)
            if half_width(n, series, overlap, confidence) <= difference
        )  # fmt: skip
        assert needed == few
    # the half-width of these very eras needs these eras
    interval = mean_interval(series, **given)
    half = (interval.high - interval.low) / 2
    assert eras_needed(series, half * (1 + 1e-9), **given) <= 90
    assert eras_needed(series, half * (1 - 1e-9), **given) > 90


def test_so_many_eras_do_tell():
    """Intervals of as many eras have the wanted half-width, up to the estimates."""
    needed = eras_needed(overlapping_sums("normal", 1, 4000, 4)[0], 0.5, overlap=4)
    series = overlapping_sums("normal", 300, int(needed), 4, seed=1)
    assert _half_width(series, 4, 0.95).mean() == pytest.approx(0.5, rel=0.2)


@pytest.mark.parametrize("scale", [1e-290, 1e-30, 1e30, 1e290])
def test_eras_needed_at_any_scale(scale):
    series = np.random.default_rng(0).normal(size=100)
    if scale > 1e15:  # wider differences are no arguments
        assert eras_needed(scale * series, 1e14, overlap=5) == np.inf
    else:
        expected = eras_needed(series, 0.1, overlap=5)
        found = eras_needed(scale * series, scale * 0.1, overlap=5)
        assert found == pytest.approx(expected, abs=1)


def test_eras_needed_without_spread_or_interval():
    assert eras_needed(np.full(40, 0.1), 0.0005, overlap=5) == 20
    assert np.isnan(eras_needed(np.arange(19.0), 0.0005, overlap=5))
    every_fourth = pd.Series(np.random.default_rng(0).normal(size=60), range(1, 241, 4))
    expected = eras_needed(every_fourth.to_numpy(), 0.1, overlap=4)
    assert eras_needed(every_fourth, 0.1, overlap=16) == expected


@pytest.mark.parametrize("difference", [0, -0.1, np.nan, np.inf, None, "0.1"])
def test_eras_needed_needs_a_difference(difference):
    with pytest.raises(ValueError, match="'difference' parameter of eras_needed"):
        eras_needed(np.ones(40), difference, overlap=2)
