"""Summaries against numerai_tools and a plain loop."""

import numpy as np
import pandas as pd
import pytest
from numerai_tools.scoring import sharpe_ratio

from numerai_features.metrics import (
    era_scores,
    max_drawdown,
    mean_interval,
    paired_differences,
    summarize,
    summarize_scores,
)


def plain_drawdown(scores):
    total, peak, worst = 0.0, -np.inf, 0.0
    for score in scores:
        total += score
        peak = max(peak, total)
        worst = max(worst, peak - total)
    return worst


@pytest.fixture
def rows():
    rng = np.random.default_rng(1)
    n = 12 * 40
    y = rng.choice([0, 0.25, 0.5, 0.75, 1], size=n)
    return {
        "y": y,
        "prediction": pd.DataFrame(
            {"a": y + rng.normal(size=n), "b": rng.normal(size=n)}
        ),
        "eras": np.repeat(np.arange(1, 49, 4), 40),
    }


@pytest.mark.parametrize("seed", range(5))
def test_max_drawdown_is_the_plain_loop(seed):
    scores = np.random.default_rng(seed).normal(size=60)
    assert max_drawdown(scores) == pytest.approx(plain_drawdown(scores))


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([], 0.0),
        ([1, 2], 0.0),
        ([-1, 5], 0.0),
        ([-1, -2], 2.0),
        ([1, np.nan, -3, 1], 3.0),
    ],
)
def test_max_drawdown_is_from_the_running_maximum(scores, expected):
    assert max_drawdown(scores) == expected


def test_max_drawdown_of_a_frame_is_a_series():
    frame = pd.DataFrame({"a": [1.0, -2.0], "b": [1.0, 1.0]})
    assert max_drawdown(frame).to_dict() == {"a": 2.0, "b": 0.0}


def test_summary_of_scores_is_numerai_tools():
    scores = pd.Series(np.random.default_rng(0).normal(0.02, 0.03, size=50))
    summary = summarize_scores(scores).loc["prediction"]
    assert summary["sharpe"] == pytest.approx(sharpe_ratio(scores))
    assert summary["mean"] / summary["sd"] == pytest.approx(summary["sharpe"])
    assert summary["positive_share"] == np.mean(scores > 0)
    assert summary["max_drawdown"] == pytest.approx(plain_drawdown(scores))
    assert summary["n_eras"] == 50


def test_constant_eras_are_counted_and_not_averaged():
    scores = pd.DataFrame({"a": [0.1, np.nan, 0.3], "b": [np.nan] * 3, "c": [0.2] * 3})
    summary = summarize_scores(scores)
    assert summary.loc["a", ["n_eras", "n_constant"]].tolist() == [2, 1]
    assert summary.loc["a", "mean"] == pytest.approx(0.2)
    assert summary.loc["a", "positive_share"] == 1
    unknown = ["mean", "sd", "sharpe", "max_drawdown", "positive_share"]
    assert summary.loc["b", unknown].isna().all()
    assert np.isnan(summary.loc["c", "sharpe"])


def test_last_eras_come_with_a_suffix_only_where_there_are_more():
    scores = pd.Series(np.arange(10.0))
    assert not summarize_scores(scores, last=10).filter(like="_last").shape[1]
    summary = summarize_scores(scores, last=4)
    assert summary.loc["prediction", "mean_last4"] == 7.5
    assert summary.loc["prediction", "n_eras_last4"] == 4
    pd.testing.assert_frame_equal(
        summary.filter(regex="_last4$").rename(columns=lambda c: c[:-6]),
        summarize_scores(scores.iloc[-4:], last=4),
    )


def test_summarize_is_the_summary_of_the_scores(rows):
    expected = summarize_scores(era_scores(**rows), last=5)
    pd.testing.assert_frame_equal(summarize(**rows, last=5), expected)
    vector = summarize(rows["y"], rows["prediction"]["a"], rows["eras"], last=5)
    assert list(vector.index) == ["prediction"]
    np.testing.assert_array_equal(vector.loc["prediction"], expected.loc["a"])


def test_summarize_adds_means_of_what_is_given(rows):
    rng = np.random.default_rng(2)
    n = len(rows["y"])
    features = rng.integers(0, 5, size=(n, 3), dtype=np.int8)
    benchmark, meta = rng.normal(size=n), rng.normal(size=n)
    meta[: n // 2] = np.nan
    summary = summarize(
        **rows, features=features, benchmark=benchmark, meta_model=meta, last=3
    )
    steady = ("", "_sd", "_sharpe", "_max_drawdown", "_n_eras")
    extra = [
        name + suffix
        for name in ("fnc", "max_exposure", "bmc", "benchmark_corr", "mmc")
        for suffix in (("", "_n_eras") if "x" in name or "_" in name else steady)
    ]
    assert list(summary.columns[7:26]) == extra
    assert list(summary.columns[-19:]) == [f"{name}_last3" for name in extra]
    bmc = era_scores(**rows, metric="bmc", benchmark=benchmark)
    np.testing.assert_allclose(summary["bmc"], bmc.mean())
    np.testing.assert_allclose(summary["bmc_last3"], bmc.iloc[-3:].mean())
    mmc = era_scores(**rows, metric="mmc", meta_model=meta)
    assert len(mmc) == 6
    np.testing.assert_allclose(summary["mmc"], mmc.mean())
    own = summarize_scores(mmc)
    for name in ("sd", "sharpe", "max_drawdown", "n_eras"):
        np.testing.assert_array_equal(summary[f"mmc_{name}"], own[name])
    assert summary["n_eras"].tolist() == summary["bmc_n_eras"].tolist() == [12, 12]
    assert summary["mmc_n_eras"].tolist() == [6, 6]
    assert summary["mmc_n_eras_last3"].tolist() == [3, 3]


def test_a_reference_that_no_recent_era_has_says_so(rows):
    meta = np.random.default_rng(2).normal(size=len(rows["y"]))
    meta[len(meta) // 2 :] = np.nan
    recent = summarize(**rows, meta_model=meta, last=3).filter(like="mmc").iloc[0]
    assert recent["mmc_n_eras"] == 6
    assert recent.pop("mmc_n_eras_last3") == 0
    assert recent.filter(like="_last3").isna().all()
    assert np.isfinite(recent["mmc_max_drawdown"])


def test_exposure_is_alone_where_features_are_too_many_for_fnc(rows):
    features = np.random.default_rng(2).random((len(rows["y"]), 39))
    summary = summarize(**rows, features=features)
    assert list(summary.columns[7:]) == ["max_exposure", "max_exposure_n_eras"]
    expected = era_scores(**rows, metric="max_exposure", features=features).mean()
    np.testing.assert_allclose(summary["max_exposure"], expected)
    assert "fnc" in summarize(**rows, features=features[:, :38])


def test_fnc_is_over_the_eras_that_have_it(rows):
    features = np.random.default_rng(2).random((len(rows["y"]), 10))
    eras = rows["eras"].copy()
    eras[-5:] = 99
    summary = summarize(rows["y"], rows["prediction"], eras, features=features, last=2)
    assert summary["n_eras"].tolist() == summary["max_exposure_n_eras"].tolist()
    assert summary["n_eras"].tolist() == [13, 13]
    assert summary["fnc_n_eras"].tolist() == [12, 12]
    assert summary["fnc_n_eras_last2"].tolist() == [1, 1]
    enough = eras < 99
    expected = era_scores(
        rows["y"][enough],
        rows["prediction"][enough].reset_index(drop=True),
        eras[enough],
        metric="fnc",
        features=features[enough],
    )
    np.testing.assert_allclose(summary["fnc"], expected.mean(), rtol=1e-12)
    np.testing.assert_allclose(summary["fnc_last2"], expected.iloc[-1], rtol=1e-12)
    with pytest.raises(ValueError, match="got 5 rows and 10 features"):
        era_scores(rows["y"], rows["prediction"], eras, metric="fnc", features=features)


def test_last_must_be_positive(rows):
    with pytest.raises(ValueError, match=r"'last' parameter .* Got 0"):
        summarize(**rows, last=0)
    with pytest.raises(ValueError, match=r"'last' parameter .* Got -1"):
        summarize_scores(pd.Series([0.1]), last=-1)


NAMES = np.array(["ash", "birch", "cedar", "elm", "fir", "oak"])


def test_names_have_no_order():
    """Sorted by their letters they would have a drawdown, and an interval."""
    scores = pd.Series([0.1, -0.2, 0.3, -0.1, 0.2, 0.1], index=NAMES)
    for table in (scores, scores.to_frame("own"), scores.iloc[::-1]):
        with pytest.raises(ValueError, match=r"holds names, such as 'ash', whose"):
            max_drawdown(table)
    with pytest.raises(ValueError, match=r"index holds names.*Number the eras by week"):
        mean_interval(scores, overlap=1)
    with pytest.raises(ValueError, match="index holds names, such as 'ash'"):
        paired_differences(pd.DataFrame({"a": scores, "b": scores * 2}), "a", 1)
    assert max_drawdown(scores.to_numpy()) == pytest.approx(0.2)
    summary = summarize_scores(scores, last=2)
    assert summary["max_drawdown"].isna().all()
    assert "mean_last2" not in summary
    by_number = summarize_scores(scores.reset_index(drop=True)).drop(
        columns="max_drawdown"
    )
    pd.testing.assert_frame_equal(summary.drop(columns="max_drawdown"), by_number)


def test_scores_of_names_are_told_by_name(rows):
    eras = NAMES[(rows["eras"] - 1) // 4 % 6]
    scores = era_scores(rows["y"], rows["prediction"], eras)
    assert list(scores.index) == list(NAMES)
    rows["eras"] = np.searchsorted(NAMES, eras)
    by_number = era_scores(**rows)
    np.testing.assert_array_equal(scores, by_number)
    rows["eras"] = eras
    summary = summarize(**rows, benchmark=rows["y"], last=2)
    assert summary.filter(like="drawdown").isna().all(axis=None)
    assert summary.filter(like="_last").empty
    np.testing.assert_array_equal(summary["mean"], by_number.mean())


@pytest.mark.parametrize(
    "eras",
    [
        [3, 1, 2, 4],
        ["0003", "0001", "0002", "0004"],
        pd.Categorical(["era3", "era1", "era2", "era4"]),
        pd.to_datetime(["2020-01-17", "2020-01-03", "2020-01-10", "2020-01-24"]),
    ],
)
def test_scores_out_of_order_are_told(eras):
    scores = pd.Series([0.1, -0.2, 0.3, -0.1], index=eras)
    for summary in (max_drawdown, summarize_scores):
        with pytest.raises(ValueError, match=r"era order.*sort_index"):
            summary(scores)
    with pytest.raises(ValueError, match=r"era order.*sort_index"):
        mean_interval(scores, overlap=1)
    in_order = scores.sort_index()
    assert max_drawdown(in_order) == max_drawdown(in_order.to_numpy())
