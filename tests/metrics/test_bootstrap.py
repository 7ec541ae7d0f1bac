"""The block bootstrap: known cases, coverage, and a plain resampling loop."""

import numpy as np
import pandas as pd
import pytest

from numerai_features.metrics import block_bootstrap, paired_differences


def autoregressive(rng, n, rho):
    noise = rng.normal(size=n + 50)
    series = np.zeros(n + 50)
    for t in range(1, n + 50):
        series[t] = rho * series[t - 1] + noise[t]
    return series[50:]


def coverage(rho, block, n_series=200, n=300):
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(n_series):
        series = autoregressive(rng, n, rho)
        interval = block_bootstrap(series, block=block, n_resamples=400)
        hits += interval.low <= 0 <= interval.high
    return hits / n_series


def test_coverage_on_independent_series():
    assert 0.9 <= coverage(rho=0, block=1) <= 0.985


def test_coverage_on_dependent_series_needs_blocks():
    assert coverage(rho=0.6, block=20) >= 0.86
    assert coverage(rho=0.6, block=1) <= 0.8


def test_quantiles_are_those_of_a_plain_loop():
    series = autoregressive(np.random.default_rng(3), 103, 0.5)
    rng = np.random.default_rng(4)
    wrapped = np.concatenate([series, series])
    means = []
    for _ in range(4000):
        starts = rng.integers(103, size=11)
        drawn = np.concatenate([wrapped[s : s + 10] for s in starts])
        means.append(drawn[:103].mean())
    interval = block_bootstrap(series, block=10)
    low, high = np.quantile(means, [0.025, 0.975])
    sd = np.std(means)
    assert interval.mean == pytest.approx(series.mean())
    assert interval.low == pytest.approx(low, abs=0.15 * sd)
    assert interval.high == pytest.approx(high, abs=0.15 * sd)


def test_seed_and_confidence():
    series = np.random.default_rng(0).normal(size=100)
    first = block_bootstrap(series, block=5, random_state=1)
    assert first == block_bootstrap(series, block=5, random_state=1)
    assert first != block_bootstrap(series, block=5, random_state=2)
    narrow = block_bootstrap(series, block=5, confidence=0.5)
    wide = block_bootstrap(series, block=5, confidence=0.99)
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high


def test_global_generator_is_not_touched():
    np.random.seed(0)
    expected = np.random.rand()
    np.random.seed(0)
    block_bootstrap(np.arange(20.0), block=2, random_state=None)
    assert np.random.rand() == expected


def test_blocks_are_counted_in_era_numbers():
    series = np.random.default_rng(0).normal(size=60)
    every_fourth = pd.Series(series, index=np.arange(1, 241, 4))
    expected = block_bootstrap(series, block=4)
    assert block_bootstrap(every_fourth, block=16) == expected
    assert block_bootstrap(every_fourth, block=13) == expected
    assert block_bootstrap(pd.Series(series), block=4) == expected
    named = pd.Series(series, index=[f"w{i}" for i in range(60)])
    assert block_bootstrap(named, block=4) == expected


@pytest.mark.parametrize(
    ("series", "given", "message"),
    [
        (np.ones(15), {"block": 8}, "differences has 15 eras, too few for blocks of 8"),
        (np.ones(30), {"block": 0}, "'block' parameter .* Got 0"),
        (np.ones(30), {"block": 2, "n_resamples": 0}, "'n_resamples' parameter of"),
        (np.ones(30), {"block": 2, "confidence": 95}, "'confidence' parameter of"),
        (np.array([1, np.nan] * 9), {"block": 2}, "9 not finite. Drop the eras"),
        (np.ones((9, 2)), {"block": 2}, r"one finite value an era.*got shape \(9, 2\)"),
        (pd.Series(np.ones(3), [2, 1, 3]), {"block": 1}, "must be in era order"),
    ],
)
def test_errors(series, given, message):
    with pytest.raises(ValueError, match=message):
        block_bootstrap(series, **given)


def test_paired_differences_are_bootstraps_of_the_difference():
    rng = np.random.default_rng(0)
    scores = pd.DataFrame(
        rng.normal(size=(80, 3)), columns=["base", "a", "b"], index=range(5, 85)
    )
    scores.loc[7, "b"] = np.nan
    table = paired_differences(scores, "base", 8, confidence=0.9)
    assert table.index.tolist() == ["a", "b"]
    assert table.columns.tolist() == ["mean_difference", "low", "high", "n_eras"]
    expected = block_bootstrap(scores["a"] - scores["base"], block=8, confidence=0.9)
    assert table.loc["a"].tolist() == [expected.mean, expected.low, expected.high, 80]
    assert table.loc["b", "n_eras"] == 79


@pytest.mark.parametrize("columns", [["a", "b"], ["base"]])
def test_paired_differences_need_a_baseline_and_an_arm(columns):
    scores = pd.DataFrame(np.ones((20, len(columns))), columns=columns)
    with pytest.raises(ValueError, match="baseline must be a column of scores, beside"):
        paired_differences(scores, "base", 2)


SEEDS = {
    "RandomState": lambda: np.random.RandomState(1),
    "Generator": lambda: np.random.default_rng(1),
    "SeedSequence": lambda: np.random.SeedSequence(1),
    "BitGenerator": lambda: np.random.PCG64(1),
    "list": lambda: [1, 2],
    "array": lambda: np.array([1, 2]),
    "128 bits": lambda: 2**128 - 1,
}


@pytest.mark.parametrize("kind", SEEDS)
def test_whatever_numpy_draws_by_is_taken(kind):
    series = np.random.default_rng(0).normal(size=60)
    seed = SEEDS[kind]()
    first = block_bootstrap(series, block=5, n_resamples=50, random_state=seed)
    again = {"n_resamples": 50, "random_state": SEEDS[kind]()}
    assert first == block_bootstrap(series, block=5, **again)
    next_one = block_bootstrap(series, block=5, n_resamples=50, random_state=seed)
    moves_on = kind in ("RandomState", "Generator", "BitGenerator")
    assert (first != next_one) == moves_on
    if kind != "RandomState":  # numpy below 2.2 takes none
        rng = np.random.default_rng(SEEDS[kind]())
        assert first == block_bootstrap(
            series, block=5, n_resamples=50, random_state=rng
        )


@pytest.mark.parametrize("seed", [[], [-1], [1.5], ["1"], [2**32]])
def test_lists_that_are_no_seeds(seed):
    with pytest.raises(ValueError, match="'random_state' parameter of block_boot"):
        block_bootstrap(np.arange(20.0), block=2, random_state=seed)
