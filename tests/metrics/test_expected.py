"""`expected_scores` against numerai_tools' scores of targets of redrawn markets."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from numerai_tools import scoring

from numerai_features._bins import TARGET_SHARES, bin_rows
from numerai_features.datasets import _world, make_era_panel
from numerai_features.datasets._market import Market
from numerai_features.datasets._synthetic import _seeds
from numerai_features.datasets._world import World
from numerai_features.metrics import expected_scores

SEED = 0
METRICS = ("corr", "bmc", "fnc")
STRUCTURES = ("linear", "curved", "none")


@pytest.fixture
def strong(monkeypatch):
    """Premia times four."""
    monkeypatch.setattr(_world, "_CORRELATION_MEAN", 4 * _world._CORRELATION_MEAN)


def make_case(structure="linear", rows_per_era=50, n_eras=6, **options):
    """A panel of two horizons, its truth, predictions, and the world behind it."""
    panel, truth = make_era_panel(
        n_eras, rows_per_era, 30, 6, structure=structure, n_targets=2,
        missing_share=0.3, return_truth=True, random_state=SEED, **options,
    )  # fmt: skip
    world = World.draw(np.random.default_rng(_seeds(SEED)[0]), 30, 6, 10, structure)
    rng = np.random.default_rng(1)
    ideal = truth.expected_corr_targets.astype(np.float64).sum(axis=1)
    noise = rng.normal(size=(2, panel.n_rows)) * ideal.std()
    predictions = pd.DataFrame(
        {
            "ideal": ideal,
            "tied": np.round(2 * ideal / ideal.std()),
            "noisy": ideal + noise[0],
        }
    )
    benchmark = truth.factors @ rng.normal(size=6) * ideal.std() + noise[1]
    given = {"bmc": {"benchmark": benchmark}, "fnc": {"features": panel.X[:, :8]}}
    return SimpleNamespace(
        panel=panel, truth=truth, world=world, predictions=predictions, given=given
    )


class Mirrored:
    """A generator whose normal draws are those of another one, with other signs.

    A market and its mirror are as likely, and what noise adds to the one it takes from
    the other: the mean of a pair varies far less than that of two draws.
    """

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.lognormal = self.rng.lognormal

    def normal(self, **kwargs):
        return -self.rng.normal(**kwargs)

    def standard_normal(self, *args, **kwargs):
        return -self.rng.standard_normal(*args, **kwargs)


def new_market(case, rng):
    panel = case.panel
    horizons = panel.info["horizons"]
    n_stocks = np.unique(panel.eras, return_counts=True)[1].max()
    return Market(rng, case.world, horizons, n_stocks, len(panel.era_numbers), 4)


def redraw(case, n):
    """Return bins of redrawn targets, (n, n_targets, n_rows), and of their mirrors."""
    eras = [np.flatnonzero(case.panel.eras == e) for e in case.panel.era_numbers]
    signals = [case.truth.signals[rows].T for rows in eras]
    bins = np.empty((n, 2, case.panel.n_rows), np.int8)
    for i, out in enumerate(bins):
        rng = Mirrored(i // 2) if i % 2 else np.random.default_rng(i // 2)
        market = new_market(case, rng)
        for era, rows in enumerate(eras):
            stocks = np.arange(len(rows))
            returns = market.returns(era, signals[era], stocks)
            out[:, rows] = bin_rows(returns, TARGET_SHARES)
    return bins


def rescore(case, bins, metric):
    """Return scores of redrawn targets by numerai_tools, (eras, predictions, n)."""
    scores = []
    for era in case.panel.era_numbers:
        rows = case.panel.eras == era
        p = case.predictions[rows].reset_index(drop=True)
        y = pd.DataFrame(bins[:, rows].T / 4)
        given = {k: v[rows] for k, v in case.given.get(metric, {}).items()}
        score = {"corr": corr_of, "bmc": bmc_of, "fnc": fnc_of}[metric]
        scores.append(score(p, y, *given.values()))
    return np.array(scores)


def corr_of(p, y):
    f = scoring.tie_kept_rank__gaussianize__pow_1_5(p).to_numpy()
    g = scoring.power(scoring.center(y), 1.5).to_numpy()
    found = pearson(f, g)
    for one in (0, 1):  # what is computed for all is what is computed for one
        expected = scoring.numerai_corr(p, y[one].rename("y"))
        np.testing.assert_allclose(found[:, one], expected, rtol=1e-9)
    return found


def fnc_of(p, y, features):
    features = pd.DataFrame(features)
    neutral = scoring.tie_kept_rank__gaussianize__neutralize__variance_normalize(
        p, features
    )
    found = corr_of(neutral, y)
    expected = scoring.feature_neutral_corr(p, features, y[0].rename("y"))
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-9)
    return found


def bmc_of(p, y, benchmark):
    m = scoring.gaussian(scoring.tie_kept_rank(pd.DataFrame(benchmark))).to_numpy()
    left = scoring.gaussian(scoring.tie_kept_rank(p)).to_numpy()
    left = scoring.orthogonalize(left, m[:, 0])
    found = left.T @ scoring.center(4 * y).to_numpy() / len(y)
    reference = pd.Series(benchmark, name="m")
    expected = scoring.correlation_contribution(p, reference, y[0].rename("y"))
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-9, atol=1e-12)
    return found


def pearson(f, g):
    f, g = f - f.mean(axis=0), g - g.mean(axis=0)
    f, g = f / np.linalg.norm(f, axis=0), g / np.linalg.norm(g, axis=0)
    return f.T @ g


def compare(case, n, metrics=METRICS):
    """Yield each expected score beside its mean over redraws and that one's error."""
    bins = redraw(case, n)
    for t, target in enumerate(case.panel.target_names):
        for metric in metrics:
            means = rescore(case, bins[:, t], metric).mean(axis=0)
            given = case.given.get(metric, {})
            expected = expected_scores(
                case.predictions, case.truth, case.panel.eras,
                target=target, metric=metric, **given,
            ).mean()  # fmt: skip
            for name, values in zip(expected.index, means, strict=True):
                pairs = values.reshape(-1, 2).mean(axis=1)
                error = pairs.std(ddof=1) / np.sqrt(len(pairs))
                yield f"{target} {metric} {name}", expected[name], values.mean(), error


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.usefixtures("strong")
def test_expected_scores_are_means_of_scores_of_redrawn_targets(structure):
    case = make_case(structure, rows_per_era=(40, 60), n_eras=4)
    for name, expected, mean, error in compare(case, 400):
        assert expected == pytest.approx(mean, abs=3.5 * error), name
        assert error < 0.04 * mean, name


@pytest.mark.slow
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize(
    ("rows_per_era", "n_eras", "n"),
    [(50, 20, 20_000), (200, 20, 6000), (1000, 20, 2000)],
)
@pytest.mark.usefixtures("strong")
def test_agreement_within_three_thousandths(structure, rows_per_era, n_eras, n):
    case = make_case(structure, rows_per_era, n_eras)
    for name, expected, mean, error in compare(case, n):
        print(
            f"{structure} {rows_per_era} {name}: {expected:.5f}, "
            f"{mean:.5f} +- {error:.5f}, {expected / mean - 1:+.2%}"
        )
        assert expected == pytest.approx(mean, abs=3 * error), name
        assert expected == pytest.approx(mean, rel=0.003, abs=2 * error), name
