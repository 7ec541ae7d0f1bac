"""CORR in one pass, against numerai_tools era by era."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numerai_tools import scoring

from numerai_features.metrics import era_scores
from numerai_features.metrics._corr import normal_scores


def reference(y, predictions, eras):
    """CORR of each era by numerai_tools, NaN where a prediction is constant."""
    scores = {}
    for era in np.unique(eras):
        rows = eras == era
        if not np.ptp(y[rows]):
            continue
        frame = pd.DataFrame(predictions[rows])
        scores[era] = pd.Series(np.nan, frame.columns)
        moving = frame.columns[frame.nunique() > 1]
        if len(moving):
            truth = pd.Series(y[rows], name="y")
            scores[era][moving] = scoring.numerai_corr(frame[moving], truth)
    return pd.DataFrame(scores).T


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    n_predictions=st.integers(1, 3),
    n_values=st.sampled_from([2, 3, 7, 10**6]),
    named=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_it_is_numerai_tools_to_the_12th_digit(
    sizes, n_predictions, n_values, named, seed
):
    rng = np.random.default_rng(seed)
    names = [f"{'week ' if named else ''}{'abcde'[i] if named else i + 1}" for i in
             range(len(sizes))]  # fmt: skip
    eras = rng.permutation(np.repeat(names, sizes))
    y = rng.choice([0, 0.25, 0.5, 0.75, 1], size=len(eras))
    predictions = rng.integers(0, n_values, (len(eras), n_predictions)) / 7 - 1
    expected = reference(y, predictions, eras)
    if expected.empty:
        with pytest.raises(ValueError, match="no era can be scored"):
            era_scores(y, predictions, eras)
        return
    scores = era_scores(y, predictions, eras)
    assert list(map(str, scores.index)) == list(expected.index)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [1, 1e-200, 1e200])
@pytest.mark.parametrize("offset", [0, -0.5, 64])
def test_any_scale_of_the_target_scores_the_same(scale, offset):
    rng = np.random.default_rng(0)
    y, prediction = rng.choice([0, 0.25, 0.5, 1], 200), rng.normal(size=200)
    eras = np.repeat([1, 2], 100)
    scores = era_scores((y + offset) * scale, prediction * 1e300, eras)
    np.testing.assert_allclose(scores, era_scores(y, prediction, eras), atol=1e-12)


@pytest.mark.parametrize("metric", ["corr", "fnc"])
def test_a_target_that_numerai_tools_refuses_names_the_era(metric):
    """A few values far out: to the power 1.5 they outweigh all others."""
    rng = np.random.default_rng(0)
    y = np.concatenate([rng.choice([-1, 1], 5000), [-20, 20], rng.random(50)])
    eras = np.repeat([2, 3], [5002, 50])
    prediction = rng.normal(size=len(y))
    features = {"features": rng.normal(size=(len(y), 3))} if metric == "fnc" else {}
    with pytest.raises(AssertionError):
        scoring.numerai_corr(
            pd.DataFrame(prediction[:5002]), pd.Series(y[:5002], name="y")
        )
    with pytest.raises(ValueError, match=r"numerai_tools refuses era 0002 \("):
        era_scores(y, prediction, eras, metric=metric, **features)


def test_benchmark_corr_is_corr_with_normal_scores_of_the_benchmark():
    rng = np.random.default_rng(0)
    predictions = pd.DataFrame(rng.normal(size=(90, 2)))
    benchmark = rng.integers(0, 20, 90) / 10
    ranked = scoring.tie_kept_rank(pd.DataFrame({"y": benchmark}))
    truth = scoring.gaussian(ranked)["y"]
    np.testing.assert_allclose(normal_scores(benchmark), truth, atol=1e-12)
    scores = era_scores(
        None, predictions, np.ones(90), metric="benchmark_corr", benchmark=benchmark
    )
    expected = scoring.numerai_corr(predictions, truth)
    np.testing.assert_allclose(scores.loc[1], expected, rtol=0, atol=1e-12)
