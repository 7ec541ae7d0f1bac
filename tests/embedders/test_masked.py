import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from numerai_features import EraKFold
from numerai_features.datasets import make_era_panel
from numerai_features.embedders import MaskedAutoencoder
from numerai_features.embedders._cells import bin_edges, column_quantiles

SMALL = {"hidden": (16,), "max_epochs": 6, "random_state": 0}
EVERY = np.arange(10_000)


@pytest.fixture(scope="module")
def rows():
    return make_era_panel(
        n_eras=20, rows_per_era=100, n_features=30, n_factors=4, random_state=1
    )


def bins_of(X, edges):
    return (X[None] > edges[:, None]).sum(axis=0)


class TestBins:
    """Of a column: its values, or five of equally many rows, whatever the scale."""

    @pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int64, np.float32])
    def test_five_values_are_five_bins(self, kind):
        X = np.random.default_rng(0).integers(0, 5, (500, 3)).astype(kind)
        edges = bin_edges(X, np.arange(500))
        np.testing.assert_array_equal(edges, np.array([[0.5, 1.5, 2.5, 3.5]] * 3).T)

    def test_fewer_values_and_odd_ones(self):
        values = np.array([-7.0, 0.5, 1e30])
        cells = np.random.default_rng(0).integers(0, 3, 300)
        X = np.column_stack([values[cells], np.full(300, 4.0), np.full(300, np.nan)])
        X[::9] = np.nan
        edges = bin_edges(X, np.arange(300))
        known = ~np.isnan(X[:, 0])
        np.testing.assert_array_equal(bins_of(X, edges)[known, 0], cells[known])
        assert np.isnan(edges[:, 1:]).all()
        assert np.isnan(edges[2:, 0]).all()

    @pytest.mark.parametrize(
        ("scale", "shift"), [(1, 0), (1e30, 0), (1e-30, 0), (1, 1e9)]
    )
    def test_more_values_are_cut_by_rank(self, scale, shift):
        X = np.random.default_rng(0).normal(size=(1000, 4)) ** 3
        told = bins_of(scale * X + shift, bin_edges(scale * X + shift, np.arange(1000)))
        rank = X.argsort(axis=0).argsort(axis=0)
        np.testing.assert_array_equal(told, rank // 200)

    def test_only_training_rows_are_looked_at(self):
        X = np.random.default_rng(0).integers(0, 3, (100, 2)).astype(np.int8)
        X[50:] = 100
        assert np.nanmax(bin_edges(X, np.arange(50))) == 1.5

    @pytest.mark.parametrize("n", [2 * 8192, 3 * 8191 + 1, 4 * 8191 + 1, 8193])
    def test_a_table_that_repeats_itself(self, n):
        X = (np.arange(n) % 4)[:, None].astype(np.int8)
        np.testing.assert_array_equal(
            bin_edges(X, np.arange(n))[:, 0], [0.5, 1.5, 2.5, np.nan]
        )
        quantiles = column_quantiles(X, np.arange(n), 256, np.zeros(1))
        assert quantiles.mean() == pytest.approx(1.5, abs=0.05)

    def test_many_rows_are_sampled_evenly(self):
        X = np.repeat(np.arange(5), 20_000)[:, None].astype(np.int8)
        np.testing.assert_array_equal(
            bin_edges(X, np.arange(100_000))[:, 0], [0.5, 1.5, 2.5, 3.5]
        )


class TestQuantiles:
    def test_they_are_cells_at_even_ranks(self):
        X = np.random.default_rng(0).normal(size=(1000, 3))
        X[::7, 1] = np.nan
        X[:, 2] = np.nan
        found = column_quantiles(X, np.arange(1000), 50, np.array([0.0, 0, 9]))
        for j in (0, 1):
            known = np.sort(X[~np.isnan(X[:, j]), j])
            at = (np.arange(50) + 0.5) / 50
            expected = np.quantile(known, at, method="inverted_cdf")
            place = np.searchsorted(known, found[:, j])
            np.testing.assert_array_equal(known[place], found[:, j])
            assert np.abs(place - np.searchsorted(known, expected)).max() <= 1
        assert (found[:, 2] == 9).all()


class TestLearning:
    @pytest.mark.parametrize("kind", ["bytes", "floats"])
    def test_cells_are_told_better_than_by_their_shares(self, rows, kind):
        """The entropy of five equal bins is log 5."""
        X = rows.X
        if kind == "floats":
            X = X.astype(np.float64) * 3e5 - 7
            X[::7, 3] = np.nan
        longer = {**SMALL, "max_epochs": 15, "learning_rate": 0.01}
        net = MaskedAutoencoder(4, loss="bins", **longer).fit(X, eras=rows.eras)
        assert net.history_[-1]["valid_loss"][0] < np.log(5) - 0.05
        assert net.n_components_ == 4

    def test_squared_error_is_below_the_variance(self, rows):
        longer = {**SMALL, "max_epochs": 15, "learning_rate": 0.01}
        net = MaskedAutoencoder(4, **longer).fit(rows.X, eras=rows.eras)
        assert net.history_[-1]["valid_loss"][0] < 0.9

    def test_wide_codes_are_refused(self, rows):
        with pytest.raises(ValueError, match="n_components=31 must be at most n_feat"):
            MaskedAutoencoder(31).fit(rows.X)


def r2(Z, y):
    return LinearRegression().fit(Z, y).score(Z, y)


class TestTargets:
    def test_latents_know_more_of_a_target_that_is_an_input(self, rows):
        rng = np.random.default_rng(0)
        x = rows.X - 2.0
        y = x[:, 0] * x[:, 1] + x[:, 2] * x[:, 3] + rng.normal(size=len(x))
        unknown = rows.eras % 3 == 0
        scores = []
        for aware in (False, True):
            net = MaskedAutoencoder(
                4, target_aware=aware, **{**SMALL, "max_epochs": 30, "validation": None}
            )
            net.fit(rows.X, np.where(unknown, np.nan, y), eras=rows.eras)
            assert len(net.fitted_eras_) == 20  # also those without a target
            scores.append(r2(net.transform(rows.X[unknown]), y[unknown]))
        assert scores[1] > scores[0] + 0.1

    def test_y_is_ignored_without(self, rows):
        options = {**SMALL, "max_epochs": 1}
        with_y, without = (
            MaskedAutoencoder(3, **options).fit_transform(rows.X, y, eras=rows.eras)
            for y in (rows.y(), None)
        )
        np.testing.assert_array_equal(with_y, without)

    def test_several_targets_of_any_units(self, rows):
        y = np.column_stack([rows.y(), np.linspace(0, 1, rows.n_rows)])
        nets = [
            MaskedAutoencoder(3, target_aware=True, **SMALL).fit(
                rows.X, targets, eras=rows.eras
            )
            for targets in (y, 1e3 * y + 50)
        ]
        first, second = (net.transform(rows.X) for net in nets)
        np.testing.assert_allclose(first, second, atol=0.02)
        assert set(nets[0].history_[0]) >= {"valid_cells", "valid_targets"}
        y[:, 1] = np.nan
        with pytest.raises(ValueError, match="y: target 1 is NaN in all rows"):
            nets[0].fit(rows.X, y, eras=rows.eras)

    def test_cross_fitted_latents_do_not_know_noise(self, rows):
        """A target of pure noise can be told from latents only by having seen it."""
        few = rows.eras <= 8
        X, eras = rows.X[few], rows.eras[few]
        noise = np.random.default_rng(0).normal(size=len(X))
        options = {**SMALL, "max_epochs": 60, "validation": None, "hidden": (128,)}
        net = MaskedAutoencoder(8, target_aware=True, **options)
        seen = net.fit_transform(X, noise, eras=eras)
        net.set_params(cross_fit=EraKFold(4, purge=0))
        apart = net.fit_transform(X, noise, eras=eras)
        assert r2(seen, noise) > 0.08
        assert r2(net.transform(X), noise) > 0.08
        assert r2(apart, noise) < 0.03
