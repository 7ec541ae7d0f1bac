"""CORR and FNC in one pass, against numerai_tools era by era."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numerai_tools import scoring

from numerai_features.metrics import _fnc, era_scores
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


FEATURES = {
    "bins": lambda rng, shape: rng.integers(0, 5, shape).astype(np.int8),
    "floats": lambda rng, shape: rng.normal(size=shape).astype(np.float32),
    "correlated": lambda rng, shape: correlated(rng, shape),
    "constant columns": lambda rng, shape: some_constant(rng, shape, 2),
    "large constant columns": lambda rng, shape: some_constant(rng, shape, 1e9),
    "twice the same column": lambda rng, shape: rng.integers(0, 5, shape)[:, [0, 0, 1]],
    "nearly the same column": lambda rng, shape: nearly_the_same(rng, shape),
    "other scales": lambda rng, shape: rng.normal(size=shape) * 10.0 ** -np.arange(
        shape[1]),
    "huge": lambda rng, shape: rng.normal(size=shape) * 1e200,
    "tiny": lambda rng, shape: rng.normal(size=shape) * 1e-200,
}  # fmt: skip


def correlated(rng, shape):
    return (rng.normal(size=(shape[0], 2)) @ rng.normal(size=(2, shape[1]))
            + rng.normal(size=shape) / 30)  # fmt: skip


def some_constant(rng, shape, value):
    table = rng.integers(0, 5, shape).astype(float)
    table[:, ::3] = value
    return table


def nearly_the_same(rng, shape):
    """Of singular values on both sides of the cut of numerai_tools."""
    table = rng.normal(size=shape)
    for j in range(1, shape[1]):
        table[:, j] = table[:, 0] + 10.0 ** -(j + 3) * table[:, j]
    return table


@pytest.mark.parametrize("kind", FEATURES)
@pytest.mark.parametrize("n_features", [3, 6, 60])
def test_fnc_is_numerai_tools_to_the_12th_digit(kind, n_features):
    rng = np.random.default_rng([n_features, *kind.encode()])
    sizes = [90, 200, 63]
    eras = np.repeat([1, 2, 3], sizes)
    y = rng.choice([0, 0.25, 0.5, 0.75, 1], size=len(eras))
    predictions = np.column_stack([rng.normal(size=len(y)), rng.integers(0, 9, len(y))])
    features = FEATURES[kind](rng, (len(y), n_features))
    scores = era_scores(y, predictions, eras, metric="fnc", features=features)
    for era in (1, 2, 3):
        rows = eras == era
        expected = scoring.feature_neutral_corr(
            pd.DataFrame(predictions[rows]),
            pd.DataFrame(features[rows]),
            pd.Series(y[rows], name="y"),
        )
        np.testing.assert_allclose(scores.loc[era], expected, rtol=0, atol=1e-12)


@pytest.mark.filterwarnings("ignore")  # of numerai_tools, where it has no score
def test_fnc_of_rows_that_rounding_orders():
    """What is left of equal or opposite rows differs in the last digit alone."""
    for seed in range(150):
        rng = np.random.default_rng(seed)
        n, n_features = rng.integers(8, 16), rng.integers(1, 4)
        features = rng.integers(0, 2, (n, n_features)).astype(np.int8)
        prediction, y = rng.integers(0, 5, n), rng.integers(0, 5, n) / 4
        if seed % 9 == 0:  # nothing is left
            prediction = features[:, 0].astype(int)
        if not np.ptp(prediction) or not np.ptp(y):
            continue
        given = {"metric": "fnc", "features": features}
        scores = era_scores(y, prediction, np.ones(n), **given)
        expected = scoring.feature_neutral_corr(
            pd.DataFrame(prediction), pd.DataFrame(features), pd.Series(y, name="y")
        )
        np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-12)


def test_fnc_is_computed_at_once_where_rounding_decides_nothing():
    rng = np.random.default_rng(0)
    features = rng.integers(0, 5, (200, 60)).astype(np.int8)
    features[:, 7] = 2
    values = rng.normal(size=(200, 3))
    neutral = _fnc._neutral(values, features)
    assert abs(neutral.T @ features).max() < 1e-10
    assert _fnc._least_gap(neutral) > _fnc._LEAST_GAP
    features[:, 8] = features[:, 9]
    assert _fnc._neutral(values, features) is None
    assert _fnc._least_gap(neutral[[0, 1, 1]]) == 0


def test_benchmark_corr_is_corr_with_normal_scores_of_the_benchmark():
    rng = np.random.default_rng(0)
    predictions = pd.DataFrame(rng.normal(size=(90, 2)))
    benchmark = rng.integers(0, 20, 90) / 10
    ranked = scoring.tie_kept_rank(pd.DataFrame({"y": benchmark}))
    truth = scoring.gaussian(ranked)["y"]
    np.testing.assert_allclose(
        normal_scores(benchmark[:, None])[:, 0], truth, atol=1e-12
    )
    scores = era_scores(
        None, predictions, np.ones(90), metric="benchmark_corr", benchmark=benchmark
    )
    expected = scoring.numerai_corr(predictions, truth)
    np.testing.assert_allclose(scores.loc[1], expected, rtol=0, atol=1e-12)
