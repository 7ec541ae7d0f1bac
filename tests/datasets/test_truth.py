"""What is behind a synthetic panel: its expectations, and its file."""

import pickle

import numpy as np
import pytest
from scipy.special import ndtr

from numerai_features._bins import TARGET_SHARES, bin_rows
from numerai_features._sealed import write_sealed
from numerai_features.datasets import (
    SyntheticTruth,
    _synthetic,
    make_era_panel,
)
from numerai_features.datasets._expectation import expected_targets

ARRAYS = (
    "eras",
    "ids",
    "signals",
    "factors",
    "expected_targets",
    "expected_corr_targets",
)


def make(path=None, **options):
    options = {"n_eras": 6, "rows_per_era": (20, 30), "random_state": 1} | options
    return make_era_panel(path=path, return_truth=True, **options)


@pytest.fixture(scope="module")
def made():
    return make()


@pytest.fixture
def disk(tmp_path):
    return make(tmp_path / "panel")


def assert_same(truth, other):
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(truth, name), getattr(other, name))
    assert truth.target_names == other.target_names


class TestExpectations:
    @pytest.mark.parametrize(
        ("n", "spread", "tolerance"),
        [(5, 0.3, 0.03), (20, 0.3, 0.005), (60, 0.6, 0.003)],
    )
    def test_against_exact_probabilities_of_ranks(self, n, spread, tolerance):
        """Where rows share nothing, those are integrals over sums of coins."""
        mean = np.random.default_rng(0).normal(scale=spread, size=n)
        targets, corr_targets = expected_targets(mean, np.zeros(n), 1.0)
        bins = bin_rows(np.arange(n)[None], TARGET_SHARES)[0]
        exact = probabilities_of_ranks(mean)
        for found, values in (
            (targets, bins / 4),
            (corr_targets, standard_powers(bins / 4)),
        ):
            expected = exact @ values
            scale = tolerance * expected.std()
            np.testing.assert_allclose(found, expected, atol=3 * scale)
            slope = (found * (mean - mean.mean())).sum()
            assert slope == pytest.approx(
                (expected * (mean - mean.mean())).sum(), rel=tolerance
            )

    def test_what_rows_share_is_noise_of_each(self):
        """Far from other rows, a row is above them by its mean and variance alone."""
        mean, shared = np.zeros(400), np.zeros(400)
        mean[0], shared[0] = 1.0, 3.0
        targets, _ = expected_targets(mean, shared, 1.0)
        others = np.array([-1.6449, -0.6745, 0.6745, 1.6449])
        assert targets[0] == pytest.approx(ndtr((1 - others) / 2).mean(), abs=0.003)

    @pytest.mark.parametrize(
        "volatility", [0.05, 0.1]
    )  # of panels: .1 over all signals
    def test_against_exact_probabilities_where_rows_share_a_return(self, volatility):
        rng = np.random.default_rng(0)
        signals = rng.normal(size=(2, 30))
        signals -= signals.mean(axis=1, keepdims=True)
        mean, signal = 0.2 * signals.sum(axis=0), signals[1]
        values = standard_powers(bin_rows(mean[None], TARGET_SHARES)[0] / 4)
        values.sort()
        nodes, weights = np.polynomial.hermite_e.hermegauss(9)
        exact = sum(
            weight * probabilities_of_ranks(mean + volatility * node * signal) @ values
            for node, weight in zip(nodes, weights / weights.sum(), strict=True)
        )
        found = expected_targets(mean, (volatility * signal) ** 2, 1.0)[1]
        assert mean @ found == pytest.approx(mean @ exact, rel=0.003)
        unshared = expected_targets(mean, np.zeros(30), 1.0)[1]
        assert mean @ unshared > mean @ exact

    @pytest.mark.parametrize("n", [5, 6, 9, 10, 30, 501])
    @pytest.mark.parametrize("scale", [1e-6, 1.0, 30.0])
    def test_the_rows_of_an_era_share_what_there_is(self, n, scale):
        rng = np.random.default_rng(n)
        mean = scale * rng.normal(size=n)
        targets, corr_targets = expected_targets(mean, scale * rng.random(n), 1.0)
        bins = bin_rows(rng.normal(size=(1, n)), TARGET_SHARES)
        assert targets.sum() == pytest.approx(bins.sum() / 4, rel=1e-9)
        assert corr_targets.sum() == pytest.approx(0, abs=1e-7)
        assert (targets >= 0).all()
        assert (targets <= 1).all()
        order = np.argsort(mean)
        assert np.corrcoef(order.argsort(), targets)[0, 1] > 0.5

    def test_they_are_of_the_rows_not_of_what_was_drawn(self, made, monkeypatch):
        panel, truth = made
        seeds = _synthetic._seeds
        monkeypatch.setattr(
            _synthetic, "_seeds", lambda s: [*seeds(s)[:3], np.random.SeedSequence(99)]
        )
        other, again = make()
        np.testing.assert_array_equal(other.X, panel.X)
        np.testing.assert_array_equal(other.ids, panel.ids)
        assert (other.targets != panel.targets).mean() > 0.5
        assert_same(again, truth)


def probabilities_of_ranks(mean):
    """Return the probability of each rank of each row, (n_rows, n_ranks)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    n = len(mean)
    found = np.zeros((n, n))
    for i in range(n):
        below = ndtr((mean[i] + nodes)[:, None] - np.delete(mean, i))
        counts = np.zeros((len(nodes), n))  # of others below, at each node
        counts[:, 0] = 1
        for p in below.T:
            counts[:, 1:] = (
                counts[:, 1:] * (1 - p)[:, None] + counts[:, :-1] * p[:, None]
            )
            counts[:, 0] *= 1 - p
        found[i] = weights @ counts
    return found


def standard_powers(y):
    y = y - y.mean()
    powers = np.sign(y) * np.abs(y) ** 1.5
    return (powers - powers.mean()) / powers.std()


class TestRows:
    def test_it_has_the_rows_of_the_panel(self, made):
        panel, truth = made
        np.testing.assert_array_equal(truth.eras, panel.eras)
        np.testing.assert_array_equal(truth.ids, panel.ids)
        assert len(truth) == panel.n_rows
        assert truth.factors.shape == (panel.n_rows, 8)
        assert truth.signals.shape == (panel.n_rows, 24)
        assert truth.target_names == tuple(panel.target_names)
        for name in ("signals", "factors", "expected_targets", "expected_corr_targets"):
            assert getattr(truth, name).dtype == np.float32

    @pytest.mark.parametrize("name", ARRAYS)
    def test_nobody_writes_into_it(self, made, name):
        truth = made[1]
        again = pickle.loads(pickle.dumps(truth))
        assert_same(again, truth)
        for each in (truth, again, truth.select(first=2)):
            with pytest.raises(ValueError, match="read-only"):
                getattr(each, name)[:] = 0

    @pytest.mark.parametrize(
        "chosen", [{"first": 3}, {"eras": ["0002", 5]}, {"every": 2, "last": 5}]
    )
    def test_selecting_as_the_panel_does(self, made, chosen):
        panel, truth = made
        part, there = truth.select(**chosen), panel.select(**chosen)
        np.testing.assert_array_equal(part.ids, there.ids)
        kept = np.isin(panel.eras, there.era_numbers)
        np.testing.assert_array_equal(part.signals, truth.signals[kept])

    def test_taking_rows_in_any_order(self, made):
        _, truth = made
        rows = np.random.default_rng(0).permutation(np.flatnonzero(truth.eras < 4))
        taken = truth.take(rows)
        np.testing.assert_array_equal(taken.ids, truth.ids[rows])
        assert_same(truth.take(truth.eras < 4), truth.select(last=3))
        assert_same(truth.take(slice(None)), truth)

    def test_rows_that_cannot_be_taken(self, made):
        _, truth = made
        n = (truth.eras == 2).sum()
        first = np.flatnonzero(truth.eras <= 2)[:-1]
        told = rf"rows has {n - 1} of the {n} rows of era '0002'\. A target is a rank"
        with pytest.raises(ValueError, match=told):
            truth.take(first)
        with pytest.raises(ValueError, match="rows has a row more than once"):
            truth.take([0, *np.flatnonzero(truth.eras == 1)])
        with pytest.raises(ValueError, match="rows must be a slice, positions, or one"):
            truth.take(["0001"])
        with pytest.raises(ValueError, match=r"rows must be a slice.*got float64"):
            truth.take([])


class TestFile:
    def test_it_lies_beside_the_panel(self, disk, made, tmp_path):
        panel, truth = disk
        assert {f.name for f in tmp_path.iterdir()} == {"panel", "panel.truth"}
        assert_same(truth, made[1])
        panel.verify()
        for source in (panel, panel.path, str(panel.path)):
            assert_same(SyntheticTruth.open(source), truth)
        part = panel.select(first=3, last=4)
        assert_same(SyntheticTruth.open(part), truth.select(eras=[3, 4]))

    def test_a_link_to_the_folder(self, disk, tmp_path):
        (tmp_path / "elsewhere").mkdir()
        link = tmp_path / "elsewhere" / "link"
        link.symlink_to(disk[0].path, target_is_directory=True)
        assert_same(SyntheticTruth.open(link), disk[1])

    def test_no_truth_is_kept_unless_it_is_asked_for(self, tmp_path):
        make_era_panel(2, 20, path=tmp_path / "panel", random_state=0)
        assert [f.name for f in tmp_path.iterdir()] == ["panel"]
        told = (
            r"has no truth beside it: there is no panel\.truth\. Make the panel again"
        )
        with pytest.raises(FileNotFoundError, match=told):
            SyntheticTruth.open(tmp_path / "panel")

    def test_that_of_another_panel_is_refused(self, disk, tmp_path):
        path = disk[0].path
        make_era_panel(6, 25, path=path, overwrite=True, random_state=2)
        with pytest.raises(
            ValueError, match=r"belongs to something else.*Make the panel"
        ):
            SyntheticTruth.open(path)
        # The same panel again is the one that it was made for.
        make_era_panel(6, (20, 30), path=path, overwrite=True, random_state=1)
        assert_same(SyntheticTruth.open(path), disk[1])

    def test_a_new_panel_has_its_own(self, disk):
        path = disk[0].path
        panel, truth = make(path, overwrite=True, random_state=2)
        assert_same(SyntheticTruth.open(panel), truth)

    def test_a_damaged_file_is_refused(self, disk, tmp_path):
        file = tmp_path / "panel.truth"
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"panel\.truth is damaged.*Make the panel"
        ):
            SyntheticTruth.open(disk[0])

    def test_another_file_in_its_place_stays(self, tmp_path):
        file = tmp_path / "panel.truth"
        file.write_text("mine")
        with pytest.raises(FileExistsError, match="this library did not write it"):
            make(tmp_path / "panel", overwrite=True)
        assert [f.name for f in tmp_path.iterdir()] == ["panel.truth"]
        assert file.read_text() == "mine"

    def test_a_file_of_another_kind_is_refused(self, disk, tmp_path):
        write_sealed(tmp_path / "panel.truth", {}, kind="panel")
        with pytest.raises(ValueError, match="is a 'panel', not a 'truth'"):
            SyntheticTruth.open(disk[0])

    def test_panels_without_a_folder(self, made, disk):
        told = "panel is in memory, so it has no file with its truth"
        for panel in (made[0], disk[0].select([1, 3])):
            with pytest.raises(ValueError, match=told):
                SyntheticTruth.open(panel)
        with pytest.raises(TypeError, match="panel must be a path"):
            SyntheticTruth.open(3)
        with pytest.raises(FileNotFoundError, match="is not a panel"):
            SyntheticTruth.open("nowhere")
