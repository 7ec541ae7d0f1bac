"""Weighted means of ranked predictions, and the weights that least squares fits."""

import numpy as np
import pandas as pd
import pytest
from numerai_tools.scoring import gaussian, power, tie_kept_rank
from scipy.optimize import nnls
from sklearn.linear_model import LinearRegression

from numerai_features.compose import fit_blend_weights
from numerai_features.metrics import era_scores


@pytest.fixture(scope="module")
def models():
    """Predictions of three models, a benchmark, the target and eras, out of order."""
    rng = np.random.default_rng(0)
    sizes = [40, 300, 120, 200]
    eras = rng.permutation(np.repeat([3, 4, 7, 9], sizes))
    n = len(eras)
    factors = rng.normal(size=(n, 4))
    latent = factors @ [0.5, 0.3, 0.2, 0.4] + 2 * rng.normal(size=n)
    cuts = np.quantile(latent, [0.05, 0.25, 0.75, 0.95])
    y = np.searchsorted(cuts, latent) / 4
    noise = rng.normal(size=(n, 3))
    prediction = factors[:, :3] + noise * [0.5, 1, 0.2]
    prediction[:, 1] = prediction[:, 1].round()  # ties
    benchmark = factors[:, 0] + 0.3 * factors[:, 3] + 0.3 * rng.normal(size=n)
    return prediction, y, eras, benchmark


def by_numerai_tools(prediction, y, eras, benchmark=None):
    """The rows of the least-squares problem, by numerai_tools' own functions."""
    rows, sides, weights = [], [], []
    for era in np.unique(eras):
        frame = pd.DataFrame(prediction[eras == era])
        target = pd.Series(y[eras == era])
        target = (target - target.mean()).to_frame()
        if benchmark is None:
            side = power(target, 1.5)[0].to_numpy()
            side = (side - side.mean()) / side.std()
        else:
            side = target[0].to_numpy()
            b = gaussian(tie_kept_rank(pd.DataFrame(benchmark[eras == era])))
            side = side - LinearRegression(fit_intercept=False).fit(b, side).predict(b)
        rows.append(gaussian(tie_kept_rank(frame)).to_numpy())
        sides.append(side)
        weights.append(np.full(len(frame), 1 / len(frame)))
    return map(np.concatenate, (rows, sides, weights))


class TestFitBlendWeights:
    @pytest.mark.parametrize("metric", ["corr", "bmc"])
    @pytest.mark.parametrize("positive", [True, False])
    def test_they_are_those_of_a_plain_regression(self, models, metric, positive):
        prediction, y, eras, benchmark = models
        given = {"benchmark": benchmark} if metric == "bmc" else {}
        Z, t, weights = by_numerai_tools(prediction, y, eras, **given)
        plain = LinearRegression(fit_intercept=False, positive=positive)
        expected = plain.fit(Z, t, sample_weight=weights).coef_
        found = fit_blend_weights(
            prediction, y, eras, metric=metric, positive=positive, **given
        )
        np.testing.assert_allclose(found, expected / np.abs(expected).sum(), rtol=1e-3)
        assert (found < 0).any() == (metric == "bmc" and not positive)

    def test_negative_weights_become_zero(self, models):
        prediction, y, eras, _ = models
        prediction = prediction * [1, -1, 1]
        Z, t, weights = by_numerai_tools(prediction, y, eras)
        expected = nnls(Z * np.sqrt(weights)[:, None], t * np.sqrt(weights))[0]
        found = fit_blend_weights(prediction, y, eras)
        np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-9)
        assert found[1] == 0

    @pytest.mark.parametrize("metric", ["corr", "bmc"])
    def test_no_other_weights_score_much_better(self, metric):
        """The simplifications cost less than one part in two hundred, in sample."""
        rng = np.random.default_rng(1)
        eras = np.repeat(np.arange(30), 400)
        factors = rng.normal(size=(len(eras), 2))
        latent = factors @ [0.6, 0.3] + 2 * rng.normal(size=len(eras))
        y = np.searchsorted(np.quantile(latent, [0.05, 0.25, 0.75, 0.95]), latent) / 4
        prediction = factors + rng.normal(size=factors.shape) * [1, 0.5]
        given = {"benchmark": factors[:, 0]} if metric == "bmc" else {}
        weights = fit_blend_weights(
            prediction, y, eras, metric=metric, positive=False, **given
        )
        Z, _, _ = by_numerai_tools(prediction, y, eras)
        angles = np.linspace(-np.pi, np.pi, 361)
        blends = np.column_stack([weights, [np.cos(angles), np.sin(angles)]])
        scores = era_scores(y, Z @ blends, eras, metric=metric, **given).mean()
        assert scores[0] > 0.05
        assert scores[0] > 0.995 * scores.max()

    def test_rows_without_target_or_benchmark_are_left_out(self, models):
        prediction, y, eras, benchmark = models
        known = np.random.default_rng(3).random(len(y)) > 0.1
        unknown = np.where(known, y, np.nan)
        expected = fit_blend_weights(prediction[known], y[known], eras[known])
        found = fit_blend_weights(prediction, unknown, eras)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        late = np.where(eras > 3, benchmark, np.nan)
        expected = fit_blend_weights(
            prediction[eras > 3], y[eras > 3], eras[eras > 3],
            metric="bmc", benchmark=benchmark[eras > 3],
        )  # fmt: skip
        found = fit_blend_weights(prediction, y, eras, metric="bmc", benchmark=late)
        np.testing.assert_allclose(found, expected, rtol=1e-12)

    def test_a_benchmark_is_matched_by_id(self, models):
        prediction, y, eras, benchmark = models
        ids = [f"n{i}" for i in range(len(y))]
        file = pd.DataFrame({"era": eras, "benchmark_model": benchmark}, ids)
        found = fit_blend_weights(
            pd.DataFrame(prediction, ids), pd.Series(y, ids), eras,
            metric="bmc", benchmark=file.iloc[::-1],
        )  # fmt: skip
        expected = fit_blend_weights(
            prediction, y, eras, metric="bmc", benchmark=benchmark
        )
        np.testing.assert_array_equal(found, expected)

    def test_equal_models_have_one_weight_in_all(self, models):
        prediction, y, eras, _ = models
        expected = fit_blend_weights(prediction, y, eras)
        twice = prediction[:, [0, 1, 2, 2]]
        for positive in (True, False):
            found = fit_blend_weights(twice, y, eras, positive=positive)
            found = [*found[:2], found[2:].sum()]
            np.testing.assert_allclose(found, expected, rtol=1e-9)

    def test_models_that_say_nothing_are_told(self, models):
        prediction, y, eras, benchmark = models
        for nothing in (np.zeros((len(y), 2)), -prediction):
            with pytest.raises(ValueError, match=r"weights sum to 0: in 4 eras"):
                fit_blend_weights(nothing, y, eras)
        with pytest.raises(ValueError, match="metric must be one of 'corr', 'bmc'"):
            fit_blend_weights(prediction, y, eras, metric="sharpe")
        with pytest.raises(ValueError, match="metric='bmc' needs benchmark"):
            fit_blend_weights(prediction, y, eras, metric="bmc")
        with pytest.raises(ValueError, match="benchmark covers none of the eras"):
            fit_blend_weights(
                prediction, y, eras, metric="bmc", benchmark=np.full(len(y), np.nan)
            )
        with pytest.raises(ValueError, match="each era is live"):
            fit_blend_weights(prediction, y, ["X"] * len(y))
