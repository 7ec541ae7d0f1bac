"""The deflated Sharpe ratio: the paper's numbers, and the formula with scipy."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import stats

from numerai_features.metrics import deflated_sharpe_ratio


def plain(values, n_trials, variance, observations):
    """Return the ratio of Bailey and Lopez de Prado, written down plainly."""
    normal = stats.norm()
    threshold = 0.0
    if n_trials > 1:
        gamma = 0.5772156649015329
        threshold = (1 - gamma) * normal.ppf(1 - 1 / n_trials)
        threshold += gamma * normal.ppf(1 - 1 / (n_trials * np.exp(1)))
        threshold *= np.sqrt(variance)
    sharpe = np.mean(values) / np.std(values)
    skewness = stats.skew(values)
    kurtosis = stats.kurtosis(values, fisher=False)
    spread = np.sqrt(1 - skewness * sharpe + (kurtosis - 1) / 4 * sharpe**2)
    return normal.cdf((sharpe - threshold) * np.sqrt(observations - 1) / spread)


def arms(n_eras=90, n_arms=4, seed=0):
    drawn = np.random.default_rng(seed).standard_t(5, size=(n_eras, n_arms))
    columns = [f"arm {j}" for j in range(n_arms)]
    return pd.DataFrame(0.03 * drawn + 0.004, range(11, 11 + n_eras), columns)


def test_the_example_of_the_paper():
    """Five years of 250 days, an annual Sharpe ratio of 2.5, and 100 trials.

    A skewness of -3 and a kurtosis of 10 are those of two values, of which the higher
    has a share of .916.
    """
    days = pd.Series([1.0] * 1145 + [0.0] * 105, index=range(1, 1251))
    days = (days - days.mean()) / days.std(ddof=0) + 2.5 / np.sqrt(250)
    assert stats.skew(days) == pytest.approx(-3, abs=0.001)
    assert stats.kurtosis(days, fisher=False) == pytest.approx(10, abs=0.005)
    given = {"overlap": 1, "n_trials": 100, "variance_of_trials": 0.5 / 250}
    assert deflated_sharpe_ratio(days, **given) == pytest.approx(0.9004, abs=5e-5)


@pytest.mark.parametrize("overlap", [1, 4, 7])
@pytest.mark.parametrize("n_trials", [None, 4, 60, 10**6])
def test_it_is_the_formula(overlap, n_trials):
    scores = arms()
    scores.loc[15:30, "arm 1"] = np.nan
    before = scores.copy()
    found = deflated_sharpe_ratio(scores, overlap=overlap, n_trials=n_trials)
    pd.testing.assert_frame_equal(scores, before)
    sharpes = scores.mean() / scores.std(ddof=0)
    for arm in scores:
        known = scores[arm].dropna()
        expected = plain(known, n_trials or 4, sharpes.var(), len(known) / overlap)
        assert found[arm] == pytest.approx(expected, rel=1e-9)


def test_one_trial_is_compared_with_zero():
    scores = arms(n_arms=1)
    expected = plain(scores["arm 0"], 1, 0, 90 / 5)
    table = deflated_sharpe_ratio(scores, overlap=5)
    alone = deflated_sharpe_ratio(scores["arm 0"], overlap=5, variance_of_trials=9)
    assert type(alone) is float
    assert table["arm 0"] == alone == pytest.approx(expected, rel=1e-12)


def test_more_trials_and_longer_overlaps_lower_it():
    scores = arms()["arm 0"] + 0.01
    given = {"overlap": 2, "variance_of_trials": 0.01}
    tried = (1, 2, 10, 10**3, 10**9)
    found = [deflated_sharpe_ratio(scores, n_trials=n, **given) for n in tried]
    assert sorted(found, reverse=True) == found
    assert len(set(found)) == 5
    found = [deflated_sharpe_ratio(scores, overlap=k) for k in (1, 4, 16)]
    assert found[0] > found[1] > found[2] > 0.5


def test_the_luckiest_of_many_is_even():
    """The best of 50 arms without skill beats the expected best in half the cases."""
    found = []
    for seed in range(200):
        drawn = np.random.default_rng(seed).normal(size=(120, 50))
        found.append(deflated_sharpe_ratio(pd.DataFrame(drawn), overlap=1).max())
    assert 0.45 <= np.mean(np.array(found) > 0.5) <= 0.6
    assert np.mean(np.array(found) > 0.95) <= 0.05


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30, 1e300])
def test_scale_does_not_matter(scale):
    scores = arms()
    found = deflated_sharpe_ratio(scores * scale, overlap=3)
    pd.testing.assert_series_equal(found, deflated_sharpe_ratio(scores, overlap=3))


def test_overlaps_are_counted_in_era_numbers():
    scores = arms()
    every_fourth = scores.set_axis(range(1, 361, 4))
    found = deflated_sharpe_ratio(every_fourth, overlap=16)
    pd.testing.assert_series_equal(found, deflated_sharpe_ratio(scores, overlap=4))


def test_no_probability_without_enough_eras_or_spread():
    scores = arms(n_eras=20)
    scores["few"] = scores["arm 0"].where(scores.index > 23)
    scores["constant"] = 0.1
    scores["none"] = np.nan
    found = deflated_sharpe_ratio(scores, overlap=5)
    gone = ["few", "constant", "none"]
    assert found.index[found.isna()].tolist() == gone
    assert deflated_sharpe_ratio(scores, overlap=6).isna().all()


def test_two_values_whose_ratio_is_certain():
    """Three of 4 and one of 0: the spread of the ratio is 0."""
    share = np.array([1.0, 0, 0, 0] * 10)
    skewness = stats.skew(share)
    values = pd.Series((share - share.mean()) / share.std() + 2 / skewness)
    assert deflated_sharpe_ratio(values, overlap=1) == 1.0


def test_columns_of_one_name_are_columns():
    scores = arms(n_arms=2).set_axis(["a", "a"], axis="columns")
    found = deflated_sharpe_ratio(scores, overlap=2)
    other = deflated_sharpe_ratio(arms(n_arms=2), overlap=2)
    assert found.index.tolist() == ["a", "a"]
    np.testing.assert_array_equal(found, other)


@pytest.mark.parametrize(
    ("scores", "given", "message"),
    [
        (arms(), {"n_trials": 3}, "at least the number of columns, 4, .*; got 3"),
        (arms(n_arms=1), {"n_trials": 9}, "is needed for 9 trials: .*; got 1. Pass it"),
        (arms()["arm 0"], {"n_trials": 2}, "is needed for 2 trials"),
        (arms() * 0, {}, "at least two columns whose scores vary; got 0"),
        (arms(), {"n_trials": 0}, "'n_trials' parameter .* Got 0"),
        (arms(), {"n_trials": 4.5}, "'n_trials' parameter .* Got 4.5"),
        (arms(), {"overlap": 0}, "'overlap' parameter .* Got 0"),
        (arms(), {"variance_of_trials": -1}, "'variance_of_trials' parameter"),
        (arms().to_numpy(), {}, r"must be a Series or a DataFrame .*; got numpy"),
        (pl.DataFrame({"a": [0.1]}), {}, r"Series or a DataFrame .*; got polars\."),
        (arms().mask(arms() == arms().iloc[3, 2], np.inf), {}, "1 infinite.* 'arm 2'"),
        (arms()[::-1], {}, "must be in era order"),
        (arms(n_eras=3).set_axis(["rise", "fall", "rest"]), {}, "index holds names"),
        (arms(n_eras=0), {}, r"at least one era and one column; got \(0, 4\)"),
    ],
)  # fmt: skip
def test_errors(scores, given, message):
    with pytest.raises(ValueError, match=message):
        deflated_sharpe_ratio(scores, **{"overlap": 2, **given})
