import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from cut_off import kill_in_training
from joblib import Parallel, delayed
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline

from numerai_features import EraKFold, LatentFeatures, era_scores
from numerai_features._eras import encode_eras
from numerai_features.datasets import make_era_panel
from numerai_features.embedders import EraMLP
from numerai_features.embedders._target_units import (
    scale_within_eras,
    units_by_least_squares,
)

CORRELATIONS = ["corr", "numerai_corr"]
LOSSES = [*CORRELATIONS, "mse", "mae", "bce"]


def make_net(**options):
    return EraMLP(**{"hidden": (24, 12), "dropout": 0.0, "random_state": 0, **options})


@pytest.fixture(scope="module")
def rows():
    return make_era_panel(
        n_eras=40, rows_per_era=60, n_features=24, n_factors=4, random_state=2
    )


@pytest.fixture(scope="module")
def signal(rows):
    """A target that features tell to a large part, in [0, 1]."""
    x = (rows.X - 2.0) / 1.4
    noise = np.random.default_rng(0).normal(size=len(x))
    y = x[:, :3].sum(axis=1) + x[:, 3] * x[:, 4] + noise
    return (y - y.min()) / (y.max() - y.min())


@pytest.fixture(scope="module")
def benchmark(rows):
    return rows.X[:, 0] + 0.1 * np.random.default_rng(3).normal(size=rows.n_rows)


def mean_corr(y, p, eras):
    return np.mean([np.corrcoef(y[eras == e], p[eras == e])[0, 1] for e in set(eras)])


class TestPredictions:
    @pytest.mark.parametrize("loss", LOSSES)
    def test_learn(self, rows, signal, loss):
        train, test = rows.eras <= 30, rows.eras > 30
        net = make_net(loss=loss, max_epochs=40, eras_per_batch=2)
        net.fit(rows.X[train], signal[train], eras=rows.eras[train])
        p = net.predict(rows.X[test])
        assert p.shape == (test.sum(),)
        assert p.dtype == np.float64
        assert mean_corr(signal[test], p, rows.eras[test]) > 0.7
        assert net.score(rows.X[test], signal[test]) > 0.4
        assert p.mean() == pytest.approx(signal.mean(), abs=0.02)
        assert net.transform(rows.X).shape == (rows.n_rows, 12)

    @pytest.mark.parametrize("loss", ["corr", "mse"])
    def test_units_are_the_targets(self, rows, signal, loss):
        """Whatever its scale, a target is predicted on it."""
        fits = [
            make_net(loss=loss).fit(rows.X, y, eras=rows.eras).predict(rows.X)
            for y in (signal, 1e5 + 1e3 * signal, 1e-12 * signal)
        ]
        np.testing.assert_allclose((fits[1] - 1e5) / 1e3, fits[0], atol=1e-3)
        np.testing.assert_allclose(fits[2] * 1e12, fits[0], atol=1e-3)

    def test_mean_over_targets_and_networks(self, rows, signal):
        y = np.column_stack([signal, 5 - signal, signal**2])
        net = make_net(n_models=2, target_weights=[3, 0, 1])
        net.fit(rows.X, y, eras=rows.eras)
        each = net.predict_targets(rows.X)
        assert each.shape == (rows.n_rows, 3)
        np.testing.assert_allclose(
            net.predict(rows.X), (3 * each[:, 0] + each[:, 2]) / 4, rtol=1e-6
        )
        assert each[:, 1].mean() == pytest.approx(5 - signal.mean(), abs=0.02)
        one = make_net(target_weights=[3, 0, 1]).fit(rows.X, y, eras=rows.eras)
        assert net.transform(rows.X).shape == (rows.n_rows, 24)
        np.testing.assert_allclose(
            net.transform(rows.X)[:, :12], one.transform(rows.X), atol=1e-3
        )

    def test_each_row_is_on_its_own(self, rows, signal):
        net = make_net().fit(rows.X, signal, eras=rows.eras)
        p = net.predict(rows.X[:50])
        alone = [net.predict(rows.X[i : i + 1])[0] for i in range(50)]
        np.testing.assert_allclose(alone, p, rtol=1e-5)
        loaded = pickle.loads(pickle.dumps(net))
        np.testing.assert_array_equal(loaded.predict(rows.X[:50]), p)

    def test_missing_cells_are_their_middle(self, rows, signal):
        X = rows.X.astype(float)
        filled = X.copy()
        X[::7, 3] = np.nan
        filled[::7, 3] = np.nanmedian(X[:, 3])
        net = make_net(feature_dropout=0.1).fit(X, signal, eras=rows.eras)
        np.testing.assert_allclose(net.predict(X), net.predict(filled), rtol=1e-6)


class TestTraining:
    def test_same_bits_in_any_process(self, rows, signal):
        def fit():
            net = make_net(feature_dropout=0.2, dropout=0.1, max_epochs=2)
            return net.fit(rows.X, signal, eras=rows.eras).predict(rows.X)

        results = Parallel(n_jobs=2)(delayed(fit)() for _ in range(2))
        for result in results:
            np.testing.assert_array_equal(result, fit())

    @pytest.mark.slow
    def test_a_killed_fit_goes_on_to_the_same_bits(self, rows, signal, tmp_path):
        options = {"max_epochs": 40, "n_models": 2, "feature_dropout": 0.1}
        kill_in_training(make_net(**options), rows.X, rows.eras, tmp_path, signal)
        resumed = make_net(checkpoint=tmp_path, **options)
        resumed.fit(rows.X, signal, eras=rows.eras)
        assert not [*tmp_path.iterdir()]
        whole = make_net(**options).fit(rows.X, signal, eras=rows.eras)
        np.testing.assert_array_equal(resumed.predict(rows.X), whole.predict(rows.X))
        np.testing.assert_array_equal(
            resumed.transform(rows.X), whole.transform(rows.X)
        )

    def test_by_default_nothing_is_held_out(self, rows, signal):
        net = make_net().fit(rows.X, signal, eras=rows.eras)
        np.testing.assert_array_equal(net.best_epoch_, [6])
        assert set(net.history_[0]) == {
            "epoch", "learning_rate", "train_loss", "seconds",
        }  # fmt: skip

    @pytest.mark.parametrize("monitor", ["valid_loss", "valid_corr"])
    def test_the_best_epoch_is_kept(self, rows, signal, monitor):
        net = make_net(monitor=monitor, validation=8, patience=None, n_models=2)
        net.fit(rows.X, signal, eras=rows.eras)
        sign = 1 if monitor == "valid_loss" else -1
        values = sign * np.array([record[monitor] for record in net.history_])
        np.testing.assert_array_equal(net.best_epoch_, 1 + values.argmin(axis=0))

    @pytest.mark.parametrize("loss", ["corr", "mse"])
    def test_levels_of_eras_do_not_matter_to_a_correlation(self, rows, signal, loss):
        shifted = signal + 10.0 * rows.eras
        a, b = (
            make_net(loss=loss).fit(rows.X, y, eras=rows.eras).transform(rows.X)
            for y in (signal, shifted)
        )
        assert np.allclose(a, b, atol=1e-4) == (loss == "corr")

    @pytest.mark.parametrize("loss", LOSSES)
    def test_auxiliary_targets_may_have_gaps(self, rows, signal, loss):
        y = pd.DataFrame({"main": signal, "other": 1 - signal})
        y.loc[::3, "other"] = np.nan
        y.loc[rows.eras < 6, "main"] = np.nan
        net = make_net(loss=loss, max_epochs=20).fit(rows.X, y, eras=rows.eras)
        assert net.target_names_ == ["main", "other"]
        gaps = y["other"].isna().to_numpy()
        p = net.predict_targets(rows.X[gaps])
        assert np.corrcoef(p[:, 1], 1 - signal[gaps])[0, 1] > 0.5

    def test_rows_of_weight_zero_are_not_there(self, rows, signal):
        told = rows.eras > 8
        net = make_net(max_epochs=2)
        net.fit(rows.X, signal, eras=rows.eras, sample_weight=told.astype(float))
        weighted = net.predict(rows.X)
        net.fit(rows.X[told], signal[told], eras=rows.eras[told])
        np.testing.assert_allclose(weighted, net.predict(rows.X), atol=1e-5)
        np.testing.assert_array_equal(net.fitted_eras_, np.unique(rows.eras[told]))

    def test_rows_weigh_what_they_should(self, rows, signal):
        """Half of each era has another target: the heavier half is learned."""
        first = np.arange(rows.n_rows) % 2 == 0
        y = np.where(first, signal, 1 - signal)
        for heavy in (first, ~first):
            weights = np.where(heavy, 1.0, 0.05)
            net = make_net(max_epochs=20)
            net.fit(rows.X, y, eras=rows.eras, sample_weight=weights)
            corr = mean_corr(signal, net.predict(rows.X), rows.eras)
            assert (corr > 0.5) if heavy[0] else (corr < -0.5)

    def test_features_that_drop_out_make_it_learn_less_by_heart(self, rows, signal):
        noise = np.random.default_rng(1).random(rows.n_rows)
        losses = []
        for share in (0.0, 0.5):
            net = make_net(feature_dropout=share, max_epochs=20)
            net.fit(rows.X, noise, eras=rows.eras)
            losses.append(net.history_[-1]["train_loss"][0])
        assert losses[0] < losses[1] - 0.05

    @pytest.mark.parametrize("loss", LOSSES)
    def test_a_target_may_be_unknown_in_a_fold(self, rows, signal, loss):
        y = np.column_stack([signal, np.where(rows.eras < 9, signal, np.nan)])
        net = make_net(loss=loss, max_epochs=1, cross_fit=EraKFold(2, purge=0))
        assert np.isfinite(net.fit_transform(rows.X, y, eras=rows.eras)).all()
        net = make_net(loss=loss, max_epochs=1, validation=FirstErasOut())
        net.fit(rows.X, y, eras=rows.eras)
        assert np.isfinite(net.predict_targets(rows.X)).all()


class FirstErasOut:
    """Holds out the first 20 eras."""

    def split(self, X, y=None, groups=None):
        yield np.flatnonzero(groups > 20), np.flatnonzero(groups <= 20)


class TestErasThatTellNothing:
    def edited(self, rows, signal):
        """Put an era of one row, and one of a constant target, behind the others."""
        X = np.concatenate([rows.X, rows.X[:61]])
        y = np.concatenate([signal, signal[:1], np.full(60, 0.3)])
        eras = np.concatenate([rows.eras, [50], np.full(60, 51)])
        return X, y, eras

    @pytest.mark.parametrize("loss", CORRELATIONS)
    def test_are_left_out_and_counted(self, rows, signal, loss):
        X, y, eras = self.edited(rows, signal)
        net = make_net(loss=loss, max_epochs=2)
        match = f"2 of 42 eras are left out, such as 50: loss='{loss}' is a correlation"
        with pytest.warns(UserWarning, match=match):
            net.fit(X, y, eras=eras)
        assert net.n_eras_left_out_ == 2
        np.testing.assert_array_equal(net.fitted_eras_, rows.era_numbers)
        plain = make_net(loss=loss, max_epochs=2).fit(rows.X, signal, eras=rows.eras)
        assert plain.n_eras_left_out_ == 0
        np.testing.assert_allclose(net.predict(X), plain.predict(X), atol=1e-6)

    def test_an_error_of_each_row_uses_them(self, rows, signal):
        X, y, eras = self.edited(rows, signal)
        net = make_net(loss="mse", max_epochs=2).fit(X, y, eras=eras)
        assert net.n_eras_left_out_ == 0
        assert set(net.fitted_eras_) == set(eras)

    def test_nothing_else_is_an_error(self, rows, signal):
        flat = 0 * signal + 0.3
        for j, y in enumerate([flat, np.column_stack([signal, flat])]):
            with pytest.raises(ValueError, match=f"target {j} of y .*nothing to learn"):
                make_net().fit(rows.X, y, eras=rows.eras)

    def test_live_rows_are_not_counted(self, rows, signal):
        y = np.where(rows.eras > 38, np.nan, signal)
        net = make_net(max_epochs=1).fit(rows.X, y, eras=rows.eras)
        assert net.n_eras_left_out_ == 0
        assert net.fitted_eras_.max() == 38

    def test_small_eras_are_scored_alone(self, rows, signal):
        """They share the place of a neighbour in a batch, and no correlation."""
        X, eras = rows.X[:600], np.arange(600) // 5
        net, plain = (
            make_net(eras_per_batch=1).fit(X, y, eras=eras).transform(X)
            # a level of each era, that a shared correlation would learn
            for y in (signal[:600] + 10 * eras, signal[:600])
        )
        np.testing.assert_allclose(net, plain, atol=1e-4)

    def test_scale_within_eras(self):
        y = np.array([[1.0, 2.0], [3.0, 2.0], [np.nan, 4.0], [7.0, np.nan]])
        z, tiny, nan = np.empty((4, 2)), np.empty((4, 2), np.float32), np.nan
        scale_within_eras(y, encode_eras([1, 1, 2, 2]), z)
        np.testing.assert_array_equal(z, [[-1, nan], [1, nan], [nan] * 2, [nan] * 2])
        scale_within_eras(1e-250 * y, encode_eras([1, 1, 2, 2]), tiny)
        np.testing.assert_allclose(tiny, z)


class TestUnits:
    def test_are_those_of_a_regression_within_eras(self):
        rng = np.random.default_rng(0)
        codes = rng.integers(0, 5, 400)
        p = rng.normal(size=(400, 2)) + codes[:, None]
        y = np.column_stack([3 + 0.2 * p[:, 0], -p[:, 1]]) + rng.normal(size=(400, 2))
        y += 7 * codes[:, None]
        y[::6, 0] = np.nan
        w = rng.random(400)
        factor, constant = units_by_least_squares(p, y, codes, w)
        known = ~np.isnan(y[:, 0])
        table = np.column_stack([p[known, 0], np.eye(5)[codes[known]]])
        line = LinearRegression(fit_intercept=False)
        line.fit(table, y[known, 0], sample_weight=w[known])
        assert factor[0] == pytest.approx(line.coef_[0])
        assert np.average(
            factor[0] * p[known, 0] + constant[0] - y[known, 0], weights=w[known]
        ) == pytest.approx(0, abs=1e-9)
        assert 0 < factor[1] < 0.1  # never turned around


class TestBenchmark:
    def followed(self, net, rows, benchmark):
        return abs(mean_corr(benchmark, net.predict(rows.X), rows.eras))

    @pytest.mark.parametrize("loss", LOSSES)
    def test_penalty_turns_predictions_from_it(self, rows, signal, benchmark, loss):
        found, much = [], 0.3 if loss == "bce" else 5.0  # whose loss varies little
        for penalty in (0.0, much):
            net = make_net(loss=loss, max_epochs=20, benchmark_penalty=penalty)
            given = {"benchmark": benchmark} if penalty else {}
            net.fit(rows.X, signal, eras=rows.eras, **given)
            found.append(self.followed(net, rows, benchmark))
        assert found[0] > 0.3
        assert found[1] < found[0] / 2
        assert mean_corr(signal, net.predict(rows.X), rows.eras) > 0.3

    def test_without_penalty_the_residuals_are_learned(self, rows, signal, benchmark):
        plain = make_net(max_epochs=20).fit(rows.X, signal, eras=rows.eras)
        net = make_net(max_epochs=20)
        net.fit(rows.X, signal, eras=rows.eras, benchmark=benchmark)
        followed = self.followed(net, rows, benchmark)
        assert followed < self.followed(plain, rows, benchmark) / 2
        assert abs(net.predict(rows.X).mean()) < 0.02  # residuals are around zero

    def test_its_scale_and_gaps_do_not_matter(self, rows, signal, benchmark):
        options = {"benchmark_penalty": 1.0, "max_epochs": 2}
        given = np.where(rows.eras < 9, np.nan, benchmark)
        a, b = (
            make_net(**options).fit(rows.X, signal, eras=rows.eras, benchmark=side)
            for side in (given, 1e-20 * given + 0.0)
        )
        np.testing.assert_array_equal(a.fitted_eras_, rows.era_numbers)
        np.testing.assert_allclose(a.predict(rows.X), b.predict(rows.X), atol=1e-6)

    def test_is_matched_by_id(self, rows, signal, benchmark):
        X = rows.to_frame(targets=[])
        side = pd.Series(benchmark, X.index, name="v5")
        mixed = side.sample(frac=1, random_state=0)
        options = {"benchmark_penalty": 1.0, "max_epochs": 1}
        a, b = (
            make_net(**options).fit(X, signal, benchmark=given).predict(X)
            for given in (side, mixed)
        )
        np.testing.assert_array_equal(a, b)

    def test_held_out_eras_tell_the_penalty(self, rows, signal, benchmark):
        net = make_net(benchmark_penalty=0.5, validation=8)
        net.fit(rows.X, signal, eras=rows.eras, benchmark=benchmark)
        record = net.history_[-1]
        held = rows.eras > 32
        p = net.predict(rows.X[held])
        eras = rows.eras[held]
        each = [
            np.corrcoef(p[eras == e], benchmark[held][eras == e])[0, 1]
            for e in set(eras)
        ]
        assert net.best_epoch_[0] == len(net.history_)
        assert record["valid_penalty"][0] == pytest.approx(
            np.mean(np.square(each)), abs=1e-3
        )

    def test_refusals(self, rows, signal, benchmark):
        net = make_net(benchmark_penalty=0.3)
        with pytest.raises(ValueError, match=r"benchmark_penalty=0.3 needs benchmark:"):
            net.fit(rows.X, signal, eras=rows.eras)
        with (
            pytest.warns(UserWarning, match="No eras were passed"),
            pytest.raises(ValueError, match=r"benchmark_penalty=0.3 needs eras: pass"),
        ):
            net.fit(rows.X, signal, benchmark=benchmark)


class TestFurther:
    @pytest.mark.parametrize("loss", LOSSES)
    def test_a_new_era_is_learned(self, rows, signal, loss):
        """Its target is another one; those of earlier eras are not forgotten."""
        old, new = rows.eras < 40, rows.eras == 40
        y = np.where(new, 1 - signal, signal)
        net = make_net(loss=loss, max_epochs=10)
        net.fit(rows.X[old], y[old], eras=rows.eras[old])
        before = mean_corr(y[new], net.predict(rows.X[new]), rows.eras[new])
        weights = net.states_[0]["network.head.weight"].copy()
        net.partial_fit(rows.X[new], y[new], eras=rows.eras[new])
        after = mean_corr(y[new], net.predict(rows.X[new]), rows.eras[new])
        assert after > before + 0.02
        assert (net.states_[0]["network.head.weight"] != weights).any()
        np.testing.assert_array_equal(net.fitted_eras_, rows.era_numbers)

    def test_units_stay(self, rows, signal):
        old, new = rows.eras < 40, rows.eras == 40
        for loss in ("corr", "mse"):
            net = make_net(loss=loss)
            net.fit(rows.X[old], 100 + signal[old], eras=rows.eras[old])
            first = net.states_[0]["network.factor"]
            net.set_params(max_epochs=1, learning_rate=1e-6)
            net.partial_fit(rows.X[new], 100 + signal[new], eras=rows.eras[new])
            np.testing.assert_array_equal(net.states_[0]["network.factor"], first)
            assert net.predict(rows.X).mean() == pytest.approx(100.5, abs=0.3)

    def test_the_first_call_is_fit(self, rows, signal):
        a = make_net().partial_fit(rows.X, signal, eras=rows.eras)
        b = make_net().fit(rows.X, signal, eras=rows.eras)
        np.testing.assert_array_equal(a.predict(rows.X), b.predict(rows.X))

    def test_each_call_draws_anew(self, rows, signal):
        def steps(n):
            net = make_net(max_epochs=1)
            for _ in range(n):
                net.partial_fit(rows.X, signal, eras=rows.eras)
            return net.predict(rows.X)

        np.testing.assert_array_equal(steps(3), steps(3))
        assert (steps(2) != steps(3)).any()

    def test_refusals(self, rows, signal):
        net = make_net(max_epochs=1).fit(rows.X, signal, eras=rows.eras)
        before = net.predict(rows.X)
        two = np.column_stack([signal, signal])
        with pytest.raises(ValueError, match="y must have 1 columns, as in fit; got 2"):
            net.partial_fit(rows.X, two, eras=rows.eras)
        with pytest.raises(ValueError, match="requires y"):
            net.partial_fit(rows.X, eras=rows.eras)
        net.set_params(loss="mse")
        with pytest.raises(ValueError, match="continues a fit with loss='corr'"):
            net.partial_fit(rows.X, signal, eras=rows.eras)
        np.testing.assert_array_equal(net.predict(rows.X), before)


class TestCrossFit:
    def test_no_row_has_seen_its_label(self, rows):
        some = rows.eras <= 12
        X, eras = rows.X[some], rows.eras[some]
        y = np.random.default_rng(1).normal(size=len(X))
        net = make_net(
            hidden=(64, 16), max_epochs=60, learning_rate=0.01,
            cross_fit=EraKFold(3, purge=0),
        )  # fmt: skip
        out = net.fit_transform(X, y, eras=eras)
        own = net.transform(X)
        assert out.shape == own.shape
        assert np.corrcoef(net.predict(X), y)[0, 1] > 0.8
        known, unknown = (LinearRegression().fit(Z, y).score(Z, y) for Z in (own, out))
        chance = 16 / len(X)
        assert known > 5 * chance
        assert unknown < 2 * chance

    def test_in_a_pipeline(self, rows, signal):
        X = rows.to_frame(targets=[])
        net = make_net(cross_fit=2, max_epochs=2)
        model = make_pipeline(LatentFeatures(net), LinearRegression()).fit(X, signal)
        assert model.predict(X).shape == (rows.n_rows,)
        assert era_scores(signal, model.predict(X), rows.eras).mean() > 0.3


class TestEras:
    @pytest.mark.parametrize("loss", CORRELATIONS)
    def test_without_them_a_warning_tells(self, rows, signal, loss):
        net = make_net(loss=loss, max_epochs=2)
        with pytest.warns(UserWarning, match="No eras were passed: all rows count as"):
            net.fit(rows.X, signal)
        assert np.isfinite(net.predict(rows.X)).all()

    def test_an_error_of_each_row_needs_none(self, rows, signal):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            make_net(loss="mse", max_epochs=1).fit(rows.X, signal)

    def test_what_needs_them(self, rows, signal):
        with pytest.raises(ValueError, match=r"^monitor='valid_corr' needs eras"):
            make_net(monitor="valid_corr", loss="mse").fit(rows.X, signal)

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"hidden": ()}, "'hidden' parameter of"),
            ({"dropout": 1.0}, "'dropout' parameter of"),
            ({"feature_dropout": 1.0}, "'feature_dropout' parameter of"),
            ({"eras_per_batch": 0}, "'eras_per_batch' parameter of"),
            ({"benchmark_penalty": -1}, "'benchmark_penalty' parameter of"),
            ({"target_weights": [1, 1]}, "weight for each of 1 targets"),
            ({"monitor": "valid_corr"}, "needs rows held out"),
        ],
    )
    def test_parameters(self, rows, signal, options, match):
        with pytest.raises(ValueError, match=match):
            make_net(**options).fit(rows.X, signal, eras=rows.eras)

    def test_targets(self, rows, signal):
        with pytest.raises(ValueError, match="makes all outputs sigmoids and needs"):
            make_net(loss="bce").fit(rows.X, signal - 1, eras=rows.eras)
        with pytest.raises(TypeError, match="batching"):
            make_net(batching="rows")
