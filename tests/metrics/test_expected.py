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
from numerai_features.metrics import era_scores, expected_scores

METRICS = ("corr", "bmc", "fnc")
STRUCTURES = ("linear", "curved", "none")


@pytest.fixture
def strong(monkeypatch):
    """Premia times four."""
    monkeypatch.setattr(_world, "_CORRELATION_MEAN", 4 * _world._CORRELATION_MEAN)


def make_case(structure="linear", rows_per_era=50, n_eras=6):
    """A panel of two horizons, its truth, predictions, and the world behind it."""
    seed = STRUCTURES.index(structure)
    panel, truth = make_era_panel(
        n_eras, rows_per_era, 30, 6, structure=structure, n_targets=2,
        missing_share=0.3, return_truth=True, random_state=seed,
    )  # fmt: skip
    world = World.draw(np.random.default_rng(_seeds(seed)[0]), 30, 6, 10, structure)
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
    for name, expected, mean, error in compare(case, 200):
        assert expected == pytest.approx(mean, abs=3.5 * error), name
        assert error < 0.07 * mean, name


def test_noise_that_two_methods_share_is_gone():
    """A hint of the signal is found, which scores of the targets cannot tell."""
    case = make_case(rows_per_era=100, n_eras=12)
    rng = np.random.default_rng(0)
    ideal, noise = case.predictions["ideal"], rng.normal(size=case.panel.n_rows)
    noise *= ideal.std()
    prediction = np.column_stack([noise, 0.05 * ideal + noise])
    eras = case.panel.eras
    expected = expected_scores(prediction, case.truth, eras).mean()
    assert 0.0005 < expected[1] - expected[0] < 0.005
    scores = era_scores(case.panel.y(), prediction, eras)
    assert (scores[1] - scores[0]).sem() > expected[1] - expected[0]


# --- what it takes, and gives back -------------------------------------------------


@pytest.fixture(scope="module")
def case():
    return make_case(rows_per_era=(30, 40), n_eras=5)


@pytest.fixture(scope="module")
def certain(case):
    """A truth that expects the very targets that came."""
    y = case.panel.targets.astype(np.float64)
    powers = np.empty_like(y)
    for era in case.panel.era_numbers:
        rows = case.panel.eras == era
        centred = y[rows] - y[rows].mean(axis=0)
        power = np.sign(centred) * np.abs(centred) ** 1.5
        powers[rows] = (power - power.mean(axis=0)) / power.std(axis=0)
    return SimpleNamespace(
        eras=case.panel.eras, ids=case.panel.ids, target_names=case.panel.target_names,
        expected_targets=y, expected_corr_targets=powers,
    )  # fmt: skip


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("target", ["target_alpha_20", "target_alpha_60"])
def test_if_targets_are_certain_scores_are_era_scores(case, certain, metric, target):
    given = case.given.get(metric, {})
    if metric == "bmc":
        reference = given["benchmark"].copy()
        reference[::9] = np.nan  # rows that it lacks are left out
        reference[case.panel.eras == 2] = np.nan  # and an era
        given = {"benchmark": reference}
    names = {"metric": metric, **given}
    eras = [f"{era:04d}" for era in case.panel.eras]
    y = case.panel.y(target)
    for prediction in (case.predictions, case.predictions["tied"].to_numpy()):
        expected = era_scores(y, prediction, eras, **names)
        found = expected_scores(prediction, certain, eras, target=target, **names)
        assert type(found) is type(expected)
        tested = {pd.DataFrame: pd.testing.assert_frame_equal}.get(
            type(found), pd.testing.assert_series_equal
        )
        tested(found, expected, rtol=1e-9, atol=1e-12)
    assert len(found) == (4 if metric == "bmc" else 5)


def test_an_era_in_which_a_prediction_is_constant_is_nan(case):
    prediction = case.predictions["ideal"].to_numpy().copy()
    prediction[case.panel.eras == 3] = 1
    scores = expected_scores(prediction, case.truth, case.panel.eras)
    assert scores.name == "corr"
    assert list(scores.index[scores.isna()]) == [3]


def test_an_era_of_which_nothing_is_expected_scores_zero(case):
    n = case.panel.n_rows
    flat = SimpleNamespace(
        eras=case.panel.eras, ids=case.panel.ids, target_names=["target"],
        expected_targets=np.full((n, 1), 0.5), expected_corr_targets=np.zeros((n, 1)),
    )  # fmt: skip
    for metric in METRICS:
        scores = expected_scores(
            case.predictions, flat, case.panel.eras, metric=metric,
            **case.given.get(metric, {}),
        )  # fmt: skip
        assert len(scores) == 5
        np.testing.assert_allclose(scores, 0, atol=1e-12)


def test_some_eras(case):
    """Selected rows, in their order or in another, and ids, score as they did."""
    panel, truth = case.panel, case.truth
    whole = expected_scores(case.predictions, truth, panel.eras)
    later = panel.eras >= 3
    part = expected_scores(
        case.predictions[later], truth.select(first=3), panel.eras[later]
    )
    pd.testing.assert_frame_equal(part, whole.loc[3:])
    rows = np.random.default_rng(0).permutation(np.flatnonzero(later))
    shuffled = expected_scores(
        case.predictions.to_numpy()[rows], truth.take(rows), panel.eras[rows]
    )
    np.testing.assert_allclose(shuffled, part, rtol=1e-12)
    # by id, of the whole truth; the benchmark, too
    frame = case.predictions.set_axis(pd.Index(panel.ids, name="id")).iloc[rows]
    found = expected_scores(frame, truth, panel.eras[rows])
    pd.testing.assert_frame_equal(found, part, rtol=1e-12)
    given = {"metric": "bmc", "benchmark": case.given["bmc"]["benchmark"]}
    whole = expected_scores(case.predictions, truth, panel.eras, **given)
    given["benchmark"] = pd.Series(
        given["benchmark"], index=pd.Index(panel.ids, name="id")
    ).sort_index()
    found = expected_scores(frame, truth, panel.eras[rows], **given)
    pd.testing.assert_frame_equal(found, whole.loc[3:], rtol=1e-12)
    # where predictions have no ids, those of the truth tell
    found = expected_scores(
        case.predictions[later], truth.select(first=3), panel.eras[later], **given
    )
    pd.testing.assert_frame_equal(found, whole.loc[3:], rtol=1e-12)


def test_rows_that_are_not_those_of_the_truth(case):
    panel, truth = case.panel, case.truth
    p, eras = case.predictions.to_numpy(), panel.eras
    later = eras >= 3
    told = (
        rf"truth has {len(p)} rows, but {later.sum()} rows are scored\. Pass truth\.se"
    )
    with pytest.raises(ValueError, match=told):
        expected_scores(p[later], truth, eras[later])
    told = "truth does not match the scored rows: row 0 is of era '0005' in eras"
    with pytest.raises(ValueError, match=told):
        expected_scores(p, truth, eras[::-1])
    ids = pd.Index(panel.ids, name="id")
    frame = case.predictions.set_axis(ids)
    told = r"prediction lacks 1 rows of era '0001'\. A target is a rank among all rows"
    with pytest.raises(ValueError, match=told):
        expected_scores(frame[1:], truth, eras[1:])
    strange = frame.rename(index={ids[4]: "other"})
    told = rf"truth has no row for 1 of {len(p)} ids of prediction.*'other'"
    with pytest.raises(ValueError, match=told):
        expected_scores(strange, truth, eras)
    twice = frame.rename(index={ids[1]: ids[0]})
    with pytest.raises(ValueError, match="prediction has ids more than once"):
        expected_scores(twice, truth, eras)
    told = r"row \d+ is of era '0002' in eras, but of '0001'"
    with pytest.raises(ValueError, match=told):
        expected_scores(frame, truth, np.where(eras == 1, 2, eras))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "sharpe"}, "metric must be one of 'corr', 'bmc', 'fnc'; got 'sh"),
        ({"metric": "mmc"}, "metric must be one of 'corr', 'bmc', 'fnc'; got 'mmc'"),
        ({"metric": "bmc"}, "metric='bmc' needs benchmark, which is None"),
        ({"metric": "fnc"}, "metric='fnc' needs features, which is None"),
        ({"features": np.ones((9, 1))}, "features was passed, but metric='corr'"),
        (
            {"target": "target_alpha_6"},
            r"target must be one of 'target_alpha_20', 'target_alpha_60'; got "
            r"'target_alpha_6'\. Did you mean 'target_alpha_60'",
        ),
        ({"target": 1}, "target must be one of .*; got 1"),
    ],
)
def test_bad_arguments(case, options, message):
    with pytest.raises(ValueError, match=message):
        expected_scores(case.predictions, case.truth, case.panel.eras, **options)


def test_eras_that_are_names(case):
    names = np.array([f"week {'abcde'[era - 1]}" for era in case.panel.eras])
    told = "row 0 is of era 'week a' in eras, but of '0001' in truth"
    with pytest.raises(ValueError, match=told):
        expected_scores(case.predictions, case.truth, names)


def test_what_is_no_truth(case):
    told = r"truth must be the SyntheticTruth.*got ndarray, which has no 'eras'"
    with pytest.raises(TypeError, match=told):
        expected_scores(case.predictions, case.panel.y(), case.panel.eras)
    bad = case.predictions["ideal"].to_numpy().copy()
    bad[3] = np.nan
    with pytest.raises(ValueError, match="prediction is NaN or infinite in 1 of"):
        expected_scores(bad, case.truth, case.panel.eras)


# --- at full size ------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize(
    ("rows_per_era", "n_eras", "n"),
    [(50, 20, 40_000), (200, 20, 6000), (1000, 20, 2000)],
)
@pytest.mark.usefixtures("strong")
def test_agreement_within_three_thousandths(structure, rows_per_era, n_eras, n):
    """The formula is within .3 % of the truth, which redraws know but for their error.

    With 1,000 rows, 2,000 redraws are enough to ask for .3 % itself. The fewer the
    rows, the noisier a redraw: then the mean of redraws has its own error, of which it
    may be three off. To ask for 3 errors alone would be wrong: the formula is a close
    approximation, and so many redraws would find it out.
    """
    case = make_case(structure, rows_per_era, n_eras)
    for name, expected, mean, error in compare(case, n):
        difference = abs(expected - mean)
        print(
            f"{structure} {rows_per_era} {name}: {expected:.5f}, {mean:.5f} +- "
            f"{error / mean:.3%}, {expected / mean - 1:+.3%}"
        )
        assert error < 0.0015 * mean, name  # else anything would agree
        assert difference < 0.003 * mean + 3 * error, name
