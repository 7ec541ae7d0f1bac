import pickle
import subprocess
import sys
import textwrap
import warnings
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
import polars as pl
import pytest
from cut_off import kill_in_training
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.ensemble import VotingRegressor
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from numerai_features import (
    CombinatorialPurgedEraCV,
    EraHoldout,
    EraKFold,
    EraWalkForward,
    LatentFeatures,
    RepeatedEraKFold,
    era_scores,
    read_numerai,
)
from numerai_features._eras import encode_eras
from numerai_features._residual import residual_targets
from numerai_features._rows import Rows
from numerai_features.datasets import make_era_panel
from numerai_features.embedders import (
    DAEEmbedder,
    FactorAnalysisEmbedder,
    SupervisedAEMLP,
)
from numerai_features.embedders._cross_fit import _procrustes, cross_fit_folds
from numerai_features.nn._layers import BatchNorm, Linear, initialize
from numerai_features.nn._supervised import Supervising
from numerai_features.nn._training import Trainer

SMALL = {
    "n_components": 5,
    "decoder_units": 8,
    "hidden": (24, 12),
    "dropout": (0.05, 0.1, 0.05, 0.1, 0.1),
    "max_epochs": 6,
    "learning_rate": 0.003,
    "random_state": 0,
}


def make_net(**options):
    return SupervisedAEMLP(**{**SMALL, **options})


@pytest.fixture(scope="module")
def rows():
    panel = make_era_panel(
        n_eras=40, rows_per_era=60, n_features=24, n_factors=4, random_state=2
    )
    return panel


@pytest.fixture(scope="module")
def toy():
    return make_era_panel(n_eras=6, rows_per_era=40, n_features=12, random_state=3)


@pytest.fixture(scope="module")
def signal(rows):
    """A target that features tell to a large part, in [0, 1]."""
    rng = np.random.default_rng(0)
    x = (rows.X - 2.0) / 1.4
    y = x[:, :3].sum(axis=1) + x[:, 3] * x[:, 4] + rng.normal(size=len(x))
    return (y - y.min()) / (y.max() - y.min())


@pytest.fixture(scope="module")
def fitted(rows, signal):
    return make_net(max_epochs=20).fit(rows.X, signal, eras=rows.eras)


class TestPredictions:
    def test_learn(self, rows, signal):
        train, test = rows.eras <= 30, rows.eras > 30
        net = make_net(max_epochs=30)
        net.fit(rows.X[train], signal[train], eras=rows.eras[train])
        p = net.predict(rows.X[test])
        assert p.shape == (test.sum(),)
        assert p.dtype == np.float64
        assert np.corrcoef(p, signal[test])[0, 1] > 0.7
        assert net.score(rows.X[test], signal[test]) > 0.4

    def test_latents_know_the_target(self, rows, signal, fitted):
        Z = fitted.transform(rows.X)
        assert Z.shape == (rows.n_rows, 5)
        assert Ridge().fit(Z, signal).score(Z, signal) > 0.1

    def test_mean_over_targets(self, rows, signal):
        y = np.column_stack([signal, 1 - signal, signal**2])
        assert_close = partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-7)
        net = make_net().fit(rows.X, y, eras=rows.eras)
        each = net.predict_targets(rows.X)
        assert_close(net.predict(rows.X), each.mean(axis=1))
        net.set_params(target_weights=[3, 0, 1])
        assert_close(net.predict(rows.X), each.mean(axis=1))
        net.fit(rows.X, y, eras=rows.eras)
        assert_close(net.predict(rows.X), (3 * each[:, 0] + each[:, 2]) / 4)

    def test_models_are_those_alone(self, rows, signal):
        two = make_net(n_models=2).fit(rows.X, signal, eras=rows.eras)
        one = make_net().fit(rows.X, signal, eras=rows.eras)
        np.testing.assert_allclose(
            two.transform(rows.X)[:, :5], one.transform(rows.X), atol=1e-3
        )

    def test_each_row_is_on_its_own(self, rows, fitted):
        p = fitted.predict(rows.X[:50])
        np.testing.assert_allclose(fitted.predict(rows.X[:50][::-1])[::-1], p, 1e-5)
        alone = [fitted.predict(rows.X[i : i + 1])[0] for i in range(50)]
        np.testing.assert_allclose(alone, p, rtol=1e-5)

    def test_without_torch(self, rows, fitted, tmp_path):
        file = tmp_path / "net.pkl"
        file.write_bytes(pickle.dumps((fitted, rows.X[:20])))
        code = f"""
            import pickle, sys

            class NoTorch:
                def find_spec(self, name, path=None, target=None):
                    if name.split(".")[0] == "torch":
                        raise ImportError("torch is not installed here")

            sys.meta_path.insert(0, NoTorch())
            net, X = pickle.load(open({str(file)!r}, "rb"))
            print(net.predict(X).sum(), net.transform(X).sum())
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        got = [float(v) for v in done.stdout.split()]
        X = rows.X[:20]
        expected = [fitted.predict(X).sum(), fitted.transform(X).sum()]
        np.testing.assert_allclose(got, expected, rtol=1e-6)


class TestTraining:
    def test_same_bits_in_any_process(self, rows, signal):
        def fit():
            net = make_net(max_epochs=2).fit(rows.X, signal, eras=rows.eras)
            return net.predict(rows.X)

        results = Parallel(n_jobs=2)(delayed(fit)() for _ in range(2))
        for result in results:
            np.testing.assert_array_equal(result, fit())

    def test_history_and_best_epoch(self, rows, signal):
        for monitor, sign in (("valid_loss", 1), ("valid_corr", -1)):
            net = make_net(monitor=monitor, n_models=2, patience=None)
            net.fit(rows.X, signal, eras=rows.eras)
            values = sign * np.array([record[monitor] for record in net.history_])
            np.testing.assert_array_equal(net.best_epoch_, 1 + values.argmin(axis=0))
        assert set(net.history_[0]) >= {"train_loss", "valid_first", "valid_restored"}

    def test_held_out_eras_are_purged(self, rows, signal):
        """Labels of the eras between do not matter."""
        spoiled = signal.copy()
        between = (rows.eras >= 33) & (rows.eras <= 36)
        spoiled[between] = 0.0
        options = {"validation": EraHoldout(4, purge=4), "max_epochs": 2}
        a, b = (
            make_net(**options).fit(rows.X, y, eras=rows.eras).predict(rows.X)
            for y in (signal, spoiled)
        )
        np.testing.assert_array_equal(a, b)

    @pytest.mark.parametrize("loss", ["corr", "numerai_corr"])
    def test_correlations_as_loss(self, rows, signal, loss):
        net = make_net(loss=loss, batching="era", max_epochs=15)
        net.fit(rows.X, signal, eras=rows.eras)
        assert np.corrcoef(net.predict(rows.X), signal)[0, 1] > 0.5
        assert net.history_[-1]["valid_loss"][0] < 0.6

    def test_rows_without_targets_are_left_out(self, rows, signal):
        X, eras = rows.X[:1200], rows.eras[:1200]
        y = signal[:1200].copy()
        y[1000:] = np.nan
        whole = make_net(max_epochs=2).fit(X, y, eras=eras)
        part = make_net(max_epochs=2).fit(X[:1000], y[:1000], eras=eras[:1000])
        np.testing.assert_array_equal(whole.fitted_eras_, part.fitted_eras_)
        np.testing.assert_allclose(whole.mean_, part.mean_, rtol=1e-12)
        np.testing.assert_allclose(whole.predict(X), part.predict(X), atol=1e-6)

    def test_auxiliary_targets_may_have_gaps(self, rows, signal):
        y = pd.DataFrame({"main": signal, "other": 1 - signal})
        y.loc[::3, "other"] = np.nan
        net = make_net(max_epochs=20).fit(rows.X, y, eras=rows.eras)
        assert net.target_names_ == ["main", "other"]
        gaps = y["other"].isna().to_numpy()
        p = net.predict_targets(rows.X[gaps])
        assert np.corrcoef(p[:, 1], 1 - signal[gaps])[0, 1] > 0.5

    def test_missing_cells_are_their_middle(self, rows, signal):
        X = rows.X.astype(float)
        filled = X.copy()
        X[::7, 3] = np.nan
        filled[::7, 3] = np.nanmedian(X[:, 3])
        net = make_net(max_epochs=3).fit(X, signal, eras=rows.eras)
        np.testing.assert_allclose(net.predict(X), net.predict(filled), rtol=1e-6)

    def test_without_eras_a_warning_tells(self, rows, signal):
        with pytest.warns(UserWarning, match="may share eras with training rows"):
            make_net(max_epochs=1).fit(rows.X, signal)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            make_net(max_epochs=1, validation=None).fit(rows.X, signal)

    def test_a_column_that_is_constant_in_training_says_nothing_later(
        self, rows, signal
    ):
        for X in (rows.X.copy(), rows.X.astype(np.float64)):
            X[:, 0] = 2
            net = make_net(max_epochs=20).fit(X, signal, eras=rows.eras)
            p = net.predict(X)
            X[:, 0] = 4
            np.testing.assert_allclose(net.predict(X), p, atol=1e-6)

    def test_a_column_that_hardly_varied_is_not_huge_later(self, rows, signal):
        X = rows.X.copy()
        X[:, 0] = 2
        X[:3, 0] = 3
        net = make_net(max_epochs=20).fit(X, signal, eras=rows.eras)
        before = net.predict(X)
        X[:, 0] = rows.X[:, 0]
        assert np.abs(net.predict(X) - before).max() < 20 * before.std()

    @pytest.mark.slow
    def test_a_killed_fit_goes_on_to_the_same_bits(self, rows, signal, tmp_path):
        options = {"max_epochs": 30, "patience": None, "n_models": 2}
        kill_in_training(make_net(**options), rows.X, rows.eras, tmp_path, signal)
        resumed = make_net(checkpoint=tmp_path, **options)
        resumed.fit(rows.X, signal, eras=rows.eras)
        whole = make_net(**options).fit(rows.X, signal, eras=rows.eras)
        np.testing.assert_array_equal(resumed.predict(rows.X), whole.predict(rows.X))


class TestCrossFit:
    def test_is_not_the_code_of_the_fitted_network(self, rows, signal):
        net = make_net(cross_fit=3)
        y = pd.Series(signal, name="target_a_20")
        out = net.fit_transform(rows.X, y, eras=rows.eras)
        final = net.transform(rows.X)
        assert out.shape == final.shape
        assert not np.allclose(out, final, atol=0.1)
        alone = make_net().fit(rows.X, y, eras=rows.eras)
        np.testing.assert_array_equal(final, alone.transform(rows.X))
        # Turned on to the final code, not left as it came.
        close = [np.corrcoef(out[:, j], final[:, j])[0, 1] for j in range(5)]
        assert np.median(close) > 0.6

    def test_tensorboard_gets_the_final_network_alone(self, rows, signal, tmp_path):
        pytest.importorskip("tensorboard")
        net = make_net(cross_fit=2, log_dir=tmp_path / "both", max_epochs=2)
        alone = make_net(log_dir=tmp_path / "alone", max_epochs=2)
        y = pd.Series(signal, name="target_a_20")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of tensorboard's own
            net.fit_transform(rows.X, y, eras=rows.eras)
            alone.fit(rows.X, y, eras=rows.eras)
        files = [len([*(tmp_path / name).iterdir()]) for name in ("both", "alone")]
        assert files == [2, 2]  # one an epoch

    def test_no_row_has_seen_its_label(self, rows):
        """With labels at random the fitted codes know them, the others do not."""
        some = rows.eras <= 12
        X, eras = rows.X[some], rows.eras[some]
        y = np.random.default_rng(1).normal(size=len(X))
        net = make_net(
            n_components=16, decoder_units=32, hidden=(64, 32), dropout=(0,) * 5,
            noise_level=0, loss_weights=(0, 1, 1), validation=None, max_epochs=100,
            learning_rate=0.01, cross_fit=EraKFold(3, purge=0),
        )  # fmt: skip
        out = net.fit_transform(X, y, eras=eras)
        own = net.transform(X)
        assert np.corrcoef(net.predict(X), y)[0, 1] > 0.9
        known, unknown = (Ridge(1e-3).fit(Z, y).score(Z, y) for Z in (own, out))
        chance = 16 / len(X)  # what as many random columns would explain
        assert known > 2 * chance
        assert unknown < 1.3 * chance

    def test_labels_of_a_block_do_not_move_its_codes(self, rows, signal):
        folds = EraKFold(2, purge=0)
        [(_, block), _] = folds.split(None, groups=rows.eras)
        changed = signal.copy()
        changed[block] = np.random.default_rng(0).permuted(signal[block])
        options = {"cross_fit": folds, "max_epochs": 2, "validation": None}
        a, b = (
            make_net(**options).fit_transform(rows.X, y, eras=rows.eras)[block]
            for y in (signal, changed)
        )
        # But for the rotation on to the final network, which has seen all labels.
        turn, shift = _procrustes(a, b)
        np.testing.assert_allclose(a @ turn + shift, b, atol=0.02)

    def test_in_a_pipeline(self, rows, signal):
        X = rows.to_frame(targets=[])
        latents = LatentFeatures(make_net(cross_fit=2, max_epochs=2))
        model = make_pipeline(latents, Ridge()).fit(X, signal)
        assert model.predict(X).shape == (rows.n_rows,)

    def test_purge_is_that_of_the_longest_target(self, rows, signal):
        eras = rows.eras.astype(int)
        every = np.arange(rows.n_rows)
        for names, purge in (
            (["target_a_20"], 8),
            (["target_a_60"], 16),
            (["other"], 16),
            (["target_a_20", "target_b_60"], 16),
            (None, 16),
        ):
            table = Rows(rows.X, eras=encode_eras(rows.eras), target_names=names)
            [(train, test), *_] = cross_fit_folds(2, table, every)
            assert eras[train].min() - eras[test].max() == purge + 1

    def test_folds_that_leak_or_have_no_labels(self, rows, signal):
        class EveryOther:
            def split(self, X, y=None, groups=None):
                yield np.arange(0, len(X), 2), np.arange(1, len(X), 2)

        fit = make_net(cross_fit=EveryOther()).fit_transform
        with pytest.raises(ValueError, match="fold 0 tests eras that it trains on"):
            fit(rows.X, signal, eras=rows.eras)
        y = np.where(rows.eras <= 5, signal, np.nan)
        folds = EraKFold(3, purge=0)
        with pytest.raises(ValueError, match="trains on no row whose target is known"):
            make_net(cross_fit=folds).fit_transform(rows.X, y, eras=rows.eras)

    def test_an_interrupt_comes_out_wherever_it_comes(self, rows, signal, monkeypatch):
        """Also in a fold's network, where there is nothing to keep."""
        y = pd.Series(signal, name="target_a_20")
        net = make_net(cross_fit=2, keep_interrupted=True, max_epochs=2, batch_size=400)
        take, steps, stops = Trainer.take_step, [], []

        def counted(trainer, loss):
            steps.append(None)
            if len(steps) in stops:
                raise KeyboardInterrupt
            take(trainer, loss)

        monkeypatch.setattr(Trainer, "take_step", counted)
        net.fit_transform(rows.X, y, eras=rows.eras)
        for stop in np.linspace(1, len(steps), 6).astype(int):
            steps.clear()
            stops[:] = [stop]
            with pytest.raises(KeyboardInterrupt):
                net.fit_transform(rows.X, y, eras=rows.eras)

    def test_needs_eras(self, rows, signal):
        with pytest.raises(ValueError, match="cross_fit needs eras"):
            make_net(cross_fit=2, validation=None).fit_transform(rows.X, signal)


class TestForumVariant:
    def test_sigmoid_outputs(self, rows, signal):
        options = {"activation": "hardswish", "noise": "relative", "noise_level": 0.1}
        net = make_net(output="sigmoid", **options, max_epochs=20)
        net.fit(rows.X, signal, eras=rows.eras)
        p = net.predict_targets(rows.X)
        assert 0 < p.min() < p.max() < 1
        assert np.corrcoef(p[:, 0], signal)[0, 1] > 0.7
        assert np.abs(p[:, 0] - signal).mean() < 0.2

    @pytest.mark.parametrize(
        "options",
        [{"output": "sigmoid"}, {"noise": "relative"}, {"activation": "hardswish"}],
    )
    def test_each_changes_the_network(self, rows, signal, options):
        plain = make_net(max_epochs=2).fit(rows.X, signal, eras=rows.eras)
        other = make_net(max_epochs=2, **options).fit(rows.X, signal, eras=rows.eras)
        assert not np.allclose(plain.predict(rows.X), other.predict(rows.X))

    def test_a_loss_for_each_target(self, rows, signal):
        y = np.column_stack([signal, np.where(rows.eras % 2, signal, np.nan)])
        net = make_net(loss=["corr", "mse"], batching="era", max_epochs=60)
        net.fit(rows.X, y, eras=rows.eras)
        p = net.predict_targets(rows.X)
        assert np.corrcoef(p[:, 0], signal)[0, 1] > 0.7
        # the correlation does not know the level, the squared error does
        away = np.abs(p.mean(axis=0) - signal.mean())
        assert away[1] < 0.1 < away[0]

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"loss": ["mse", "mse"]}, "loss must be one for all targets, or one for"),
            ({"loss": []}, "'loss' parameter of"),
            ({"loss": ["mse", "huber"]}, "'loss' parameter of"),
            (
                {"loss": ["corr"]},
                "loss='corr' is a correlation within an era: it needs",
            ),
            ({"output": "softmax"}, "'output' parameter of"),
            ({"noise": "swap"}, "'noise' parameter of"),
        ],
    )
    def test_refusals(self, rows, signal, options, match):
        with pytest.raises(ValueError, match=match):
            make_net(**options).fit(rows.X, signal, eras=rows.eras)

    @pytest.mark.parametrize("loss", ["mse", ["mse", "corr"], ["corr", "bce"]])
    def test_targets_beyond_a_sigmoid(self, rows, signal, loss):
        net = make_net(output="sigmoid", loss=loss, batching="era", max_epochs=1)
        wide = np.column_stack([signal, signal])
        wide[:, 1 if "bce" in loss else 0] += 0.5
        with pytest.raises(ValueError, match=r"needs targets in \[0, 1\]; got target"):
            net.fit(rows.X, wide, eras=rows.eras)
        fine = np.column_stack([signal, signal])
        net.fit(rows.X, fine, eras=rows.eras)
        with pytest.raises(ValueError, match="benchmark leaves targets around zero"):
            net.fit(rows.X, fine, eras=rows.eras, benchmark=rows.X[:, 0])

    def test_a_correlation_knows_no_bounds(self, rows, signal):
        net = make_net(output="sigmoid", loss="corr", batching="era", max_epochs=1)
        net.fit(rows.X, 9 * signal, eras=rows.eras, benchmark=rows.X[:, 0])
        assert 0 < net.predict(rows.X).min() < net.predict(rows.X).max() < 1


class TestWarmStart:
    @staticmethod
    def make_dae(**options):
        known = {"hidden": (), "code_activation": "silu", "max_epochs": 5}
        return DAEEmbedder(5, random_state=1, **{**known, **options})

    def test_begins_as_the_autoencoder(self, rows, signal):
        dae = self.make_dae().fit(rows.X, eras=rows.eras)
        still = make_net(max_epochs=1, learning_rate=1e-12, noise_level=0.0)
        still.set_params(autoencoder=FrozenEstimator(dae))
        Z = still.fit(rows.X, signal, eras=rows.eras).transform(rows.X)
        for own, theirs in zip(Z.T, dae.transform(rows.X).T, strict=True):
            assert np.corrcoef(own, theirs)[0, 1] > 0.99

    def test_knows_the_rows_without_targets(self, rows, signal):
        """A clone is fitted to all rows; a frozen one knew them before."""
        late = np.where(rows.eras > 30, signal, np.nan)
        dae = self.make_dae()
        net = make_net(autoencoder=dae).fit(rows.X, late, eras=rows.eras)
        assert not hasattr(dae, "encoder_")
        assert net.autoencoder_.fitted_eras_.tolist() == [*range(1, 41)]
        assert net.fitted_eras_.tolist() == [*range(31, 41)]
        dae.fit(rows.X, eras=rows.eras)
        frozen = make_net(autoencoder=FrozenEstimator(dae))
        known = rows.eras > 30
        frozen.fit(rows.X[known], signal[known], eras=rows.eras[known])
        assert frozen.autoencoder_.estimator is dae
        np.testing.assert_array_equal(net.predict(rows.X), frozen.predict(rows.X))
        plain = make_net().fit(rows.X, late, eras=rows.eras)
        assert not np.allclose(plain.predict(rows.X), net.predict(rows.X))
        again = frozen.set_params(autoencoder=None).fit(rows.X, late, eras=rows.eras)
        assert not hasattr(again, "autoencoder_")
        np.testing.assert_array_equal(again.predict(rows.X), plain.predict(rows.X))

    def test_units_are_the_autoencoders(self, rows, signal):
        """Missing cells and constant columns, too, and floats far from zero."""
        X = 1000 + rows.X.astype(float) * np.linspace(1, 50, 24)
        X[::7, 2], X[:, 9] = np.nan, 5
        dae = self.make_dae().fit(X, eras=rows.eras)
        some = rows.eras > 20
        net = make_net(max_epochs=1, learning_rate=1e-12, noise_level=0.0)
        net.set_params(autoencoder=FrozenEstimator(dae))
        net.fit(X[some], signal[some], eras=rows.eras[some])
        np.testing.assert_array_equal(net.mean_, dae.mean_)
        np.testing.assert_array_equal(net.missing_values_, dae.missing_values_)
        for own, theirs in zip(net.transform(X).T, dae.transform(X).T, strict=True):
            assert np.corrcoef(own, theirs)[0, 1] > 0.98

    def test_cross_fitted_networks_begin_there_too(self, rows, signal):
        still = make_net(max_epochs=1, learning_rate=1e-12, noise_level=0.0)
        still.set_params(autoencoder=self.make_dae(), cross_fit=EraKFold(3, purge=2))
        crossed = still.fit_transform(rows.X, signal, eras=rows.eras)
        expected = still.autoencoder_.transform(rows.X)
        for own, theirs in zip(crossed.T, expected.T, strict=True):
            assert np.corrcoef(own, theirs)[0, 1] > 0.98

    def test_each_network_has_its_own(self, rows, signal):
        net = make_net(n_models=3, max_epochs=1, learning_rate=1e-12, noise_level=0.0)
        net.set_params(autoencoder=self.make_dae(n_models=2))
        Z = net.fit(rows.X, signal, eras=rows.eras).transform(rows.X)
        theirs = net.autoencoder_.transform(rows.X)
        for own, j in zip(Z.T, [*range(10), *range(5)], strict=True):
            assert np.corrcoef(own, theirs[:, j])[0, 1] > 0.98

    def test_in_a_search(self, rows, signal):
        dae = self.make_dae().fit(rows.X, eras=rows.eras)
        net = make_net(max_epochs=1, validation=None)
        search = GridSearchCV(
            net, {"autoencoder": [FrozenEstimator(dae), None]}, cv=EraKFold(2, purge=2)
        )
        search.fit(rows.X, signal, groups=rows.eras)
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
        assert search.best_params_.keys() == {"autoencoder"}

    def test_a_killed_fit_goes_on(self, rows, signal, tmp_path, monkeypatch):
        """The clone is fitted again, to the same weights in another time."""
        net = make_net(autoencoder=self.make_dae(), checkpoint=tmp_path)
        whole = clone(net).set_params(checkpoint=None)
        whole.fit(rows.X, signal, eras=rows.eras)
        steps = [0]
        take = Trainer.take_step

        def stop(self, loss):
            steps[0] += isinstance(self.task, Supervising)
            if steps[0] == 15:
                raise RuntimeError("stopped")
            return take(self, loss)

        net.set_params(checkpoint_every=0)
        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "take_step", stop)
            with pytest.raises(RuntimeError, match="stopped"):
                net.fit(rows.X, signal, eras=rows.eras)
        assert len([*tmp_path.iterdir()]) == 1
        done = []
        monkeypatch.setattr(
            Trainer,
            "take_step",
            lambda self, loss: done.append(self.task) or take(self, loss),
        )
        net.fit(rows.X, signal, eras=rows.eras)
        n_steps = sum(isinstance(task, Supervising) for task in done)
        assert 0 < n_steps <= whole.n_iter_ * 6 - 14
        np.testing.assert_array_equal(net.predict(rows.X), whole.predict(rows.X))

    def test_rows_are_checked_as_without(self, rows, signal):
        gaps = rows.X.astype(float)
        gaps[::7, 2] = np.nan
        flat = rows.X.copy()
        flat[rows.eras <= 30] = 2
        for dae in (self.make_dae(), FrozenEstimator(self.make_dae().fit(rows.X))):
            net = make_net(autoencoder=dae, missing="raise")
            with pytest.raises(ValueError, match="NaN"):
                net.fit(gaps, signal, eras=rows.eras)
            net.set_params(missing="middle", validation=10)
            with pytest.raises(ValueError, match="X is constant in all 24 columns"):
                net.fit(flat, signal, eras=rows.eras)

    def test_another_scale(self, rows, signal):
        dae = self.make_dae().fit(rows.X / 400.0, eras=rows.eras)
        net = make_net(autoencoder=FrozenEstimator(dae))
        with pytest.raises(ValueError, match="columns of another scale: they deviate"):
            net.fit(rows.X, signal, eras=rows.eras)

    def test_the_seed_is_the_networks(self, rows, signal):
        dae = self.make_dae().set_params(random_state=None)
        net = make_net(autoencoder=dae, max_epochs=2)
        a = net.fit(rows.X, signal, eras=rows.eras).predict(rows.X)
        b = net.fit(rows.X, signal, eras=rows.eras).predict(rows.X)
        np.testing.assert_array_equal(a, b)
        assert dae.random_state is None

    def test_a_checkpoint_is_that_of_its_columns(self, rows, signal, tmp_path):
        """Fitted to twice the numbers, an autoencoder has the same weights."""
        X = rows.X.astype(float)
        a, b = (self.make_dae().fit(k * X, eras=rows.eras) for k in (1, 2))
        for name, weights in a.states_[0].items():
            np.testing.assert_array_equal(weights, b.states_[0][name])
        keys = set()
        for dae in (a, b):
            net = make_net(autoencoder=FrozenEstimator(dae), checkpoint=tmp_path)
            net.set_params(checkpoint_every=0, max_epochs=10**6)
            with pytest.raises(RuntimeError, match="seen"), self.stopped_when_saved():
                net.fit(X, signal, eras=rows.eras)
            keys |= {file.name for file in tmp_path.iterdir()}
        assert len(keys) == 2

    @staticmethod
    @contextmanager
    def stopped_when_saved():
        save = Trainer.save

        def stop(self):
            save(self)
            raise RuntimeError("seen")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trainer, "save", stop)
            yield

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"hidden": (8,)}, r"autoencoder must have hidden=\(\), n_components=5"),
            ({"code_activation": "identity"}, "code_activation='silu', like the code"),
            ({"n_components": 6}, "n_components=6"),
        ],
    )
    def test_other_shapes(self, rows, signal, options, match):
        dae = self.make_dae().set_params(**options)
        with pytest.raises(ValueError, match=match):
            make_net(autoencoder=dae).fit(rows.X, signal, eras=rows.eras)
        frozen = FrozenEstimator(dae.fit(rows.X, eras=rows.eras))
        with pytest.raises(ValueError, match=match):
            make_net(autoencoder=frozen).fit(rows.X, signal, eras=rows.eras)

    def test_other_refusals(self, rows, signal):
        def refused(autoencoder, match, error=ValueError, X=rows.X):
            net = make_net(autoencoder=autoencoder)
            with pytest.raises(error, match=match):
                net.fit(X, signal, eras=rows.eras)

        refused("dae", "'autoencoder' parameter of")
        refused(FactorAnalysisEmbedder(5), "autoencoder must be a DAEEmbedder")
        frozen = FrozenEstimator(self.make_dae())
        refused(frozen, "autoencoder is in a FrozenEstimator, but", NotFittedError)
        refused(self.make_dae(hidden=None), "'hidden' parameter of DAEEmbedder")
        net = make_net(n_components=30, autoencoder=self.make_dae())
        with pytest.raises(
            ValueError, match="n_components=30 must be at most n_featur"
        ):
            net.fit(rows.X, signal, eras=rows.eras)
        frozen = FrozenEstimator(self.make_dae().fit(rows.X, eras=rows.eras))
        fewer = "autoencoder was fitted on 24 columns, and X has 20"
        refused(frozen, fewer, X=rows.X[:, :20])
        named = rows.to_frame(targets=[]).drop(columns="era")
        frozen = FrozenEstimator(self.make_dae().fit(named, eras=rows.eras))
        refused(frozen, "the same columns in another order", X=named.iloc[:, ::-1])


class TestResiduals:
    def test_are_orthogonal_in_each_era(self, rows, signal):
        rng = np.random.default_rng(0)
        benchmark = signal + rng.normal(size=len(signal))
        benchmark[:5] = np.nan
        y = np.column_stack([signal, signal**2])
        y[::4, 1] = np.nan
        before = y.copy()
        rest = residual_targets(y, benchmark, encode_eras(rows.eras), None)
        np.testing.assert_array_equal(y, before)
        assert np.isnan(rest[:5]).all()
        for era in rows.era_numbers[:5]:
            own = rows.eras == era
            for j in range(2):
                known = own & ~np.isnan(rest[:, j])
                r, b = rest[known, j], benchmark[known]
                assert abs(r.mean()) < 1e-12
                assert abs(r @ (b - b.mean())) < 1e-9
                plain = np.polyval(np.polyfit(b, y[known, j], 1), b)
                np.testing.assert_allclose(r, y[known, j] - plain, atol=1e-9)

    def test_are_matched_by_id(self, toy):
        """Numerai's files are in an order of their own, and have rows of live eras."""
        X = toy.to_frame(targets=[])
        y = pd.Series(toy.y(), X.index)
        benchmark = pd.Series(np.linspace(0, 1, len(X)), X.index, name="v5")
        benchmark[::3] = 0.5
        mixed = benchmark.sample(frac=1, random_state=0)
        more = pd.concat([mixed, pd.Series([0.5], pd.Index(["live"], name="id"))])
        whole = more.to_frame("v5").assign(era="0001", data_type="validation")

        def latents(X, y, given, **options):
            net = make_net(max_epochs=1, **options)
            return net.fit_transform(X, y, benchmark=given)

        expected = latents(X, y, benchmark.to_numpy())
        nullable = mixed.astype("Float64")
        polars = pl.from_pandas(whole.reset_index())
        narwhals = nw.from_native(whole)
        for given in (mixed, nullable, mixed.to_frame(), more, whole, polars, narwhals):
            np.testing.assert_array_equal(latents(X, y, given), expected)
        by_y = latents(X.reset_index(drop=True), y, whole)
        np.testing.assert_array_equal(by_y, expected)

    def test_rows_that_nothing_matches_are_refused(self, toy):
        X = toy.to_frame(targets=[])
        y = pd.Series(toy.y(), X.index)
        benchmark = pd.Series(np.linspace(0, 1, len(X)), X.index, name="v5")
        whole = benchmark.to_frame().assign(era="0001")
        fit = make_net(max_epochs=1).fit
        with pytest.raises(ValueError, match="benchmark has no row for 3 of 240 ids"):
            fit(X, y, benchmark=whole[3:])
        with pytest.raises(ValueError, match="benchmark must be one column of pre"):
            fit(X, y, benchmark=whole.assign(v6=0.5))
        told = "benchmark is indexed by id, but X, y and eras are not, so its rows"
        with pytest.raises(ValueError, match=told):
            fit(toy.X, toy.y(), eras=toy.eras, benchmark=whole)
        counted = X.set_axis(np.arange(len(X)) + 7)
        with pytest.raises(ValueError, match=told):
            fit(counted, toy.y(), benchmark=whole)
        more = pd.Series(np.append(benchmark, 0.5))
        with pytest.raises(ValueError, match="241 rows, but 240 are needed: rows must"):
            fit(counted, toy.y(), benchmark=more)

    def test_predictions_turn_from_the_benchmark(self, rows, signal):
        benchmark = rows.X[:, 0].astype(float)
        plain = make_net(max_epochs=20).fit(rows.X, signal, eras=rows.eras)
        other = make_net(max_epochs=20).fit(
            rows.X, signal, eras=rows.eras, benchmark=benchmark
        )
        a, b = (
            abs(np.corrcoef(net.predict(rows.X), benchmark)[0, 1])
            for net in (plain, other)
        )
        assert b < a / 2

    def test_refusals(self, rows, signal):
        with pytest.raises(ValueError, match="benchmark needs eras"):
            make_net(validation=None).fit(rows.X, signal, benchmark=signal)
        with pytest.raises(ValueError, match=r"benchmark must have shape \(2400,\)"):
            make_net().fit(rows.X, signal, eras=rows.eras, benchmark=[1.0])
        infinite = np.where(rows.eras == 3, np.inf, signal)
        with pytest.raises(ValueError, match="benchmark is infinite in row"):
            make_net().fit(rows.X, signal, eras=rows.eras, benchmark=infinite)
        with pytest.raises(ValueError, match="loss='bce' needs them in"):
            make_net(loss="bce").fit(rows.X, signal, eras=rows.eras, benchmark=signal)
        known = rows.eras > 3
        late, early = np.where(known, signal, np.nan), np.where(known, np.nan, signal)
        match = rf"benchmark is NaN in all {known.sum()} rows whose target is known"
        with pytest.raises(ValueError, match=match):
            make_net().fit(rows.X, late, eras=rows.eras, benchmark=early)


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"hidden": ()}, "'hidden' parameter of"),
            ({"hidden": (4, 0)}, "'hidden' parameter of"),
            ({"hidden": [[4, 4]]}, "'hidden' parameter of"),
            ({"dropout": (0.1,)}, "dropout must be 5 shares"),
            ({"dropout": (0.1, 0.1, 0.1, 0.1, 1.0)}, "dropout must be 5 shares"),
            ({"loss_weights": (1, 1)}, "loss_weights must be three"),
            ({"loss_weights": (1, 1, 0)}, "last of them"),
            ({"loss_weights": (1, 1, np.inf)}, "three finite numbers"),
            ({"loss_weights": ("a", 1, 1)}, "loss_weights must be numbers"),
            ({"loss": "corr"}, "needs batching='era'"),
            ({"target_weights": [1, 1]}, "weight for each of 1 targets"),
            ({"target_weights": [np.inf]}, "finite weight for each"),
            ({"cross_fit": 1}, "cross_fit"),
            ({"batch_size": 1}, r"batch_size.*range \[2"),
            ({"monitor": "valid_corr", "validation": None}, "needs rows held out"),
        ],
    )
    def test_parameters(self, rows, signal, options, match):
        with pytest.raises(ValueError, match=match):
            make_net(**options).fit(rows.X, signal, eras=rows.eras)

    def test_targets(self, rows, signal):
        fit = make_net().fit
        with pytest.raises(ValueError, match="requires y"):
            fit(rows.X, None, eras=rows.eras)
        with pytest.raises(ValueError, match="y must have a row for each of 2400"):
            fit(rows.X, signal[:9], eras=rows.eras)
        with pytest.raises(ValueError, match="infinity"):
            fit(rows.X, np.full(rows.n_rows, np.inf), eras=rows.eras)
        with pytest.raises(ValueError, match="nothing to learn"):
            fit(rows.X, np.full(rows.n_rows, np.nan), eras=rows.eras)
        gap = np.column_stack([signal, np.full(rows.n_rows, np.nan)])
        with pytest.raises(ValueError, match="target 1 is NaN in all rows"):
            fit(rows.X, gap, eras=rows.eras)
        with pytest.raises(ValueError, match="y has a column 'era'"):
            fit(rows.X, pd.DataFrame({"era": signal, "y": signal}), eras=rows.eras)
        with pytest.raises(ValueError, match=r"shape \(2400,\) or \(2400, n_targets\)"):
            fit(rows.X, np.zeros((rows.n_rows, 1, 1)), eras=rows.eras)
        with pytest.raises(ValueError, match="y must be numbers, or NaN"):
            fit(rows.X, signal.astype(str) + "?", eras=rows.eras)
        with pytest.raises(ValueError, match="benchmark must be numbers"):
            fit(rows.X, signal, eras=rows.eras, benchmark=["a"] * rows.n_rows)
        with pytest.raises(ValueError, match=r"targets in \[0, 1\]"):
            make_net(loss="bce").fit(rows.X, signal - 1, eras=rows.eras)
        with pytest.warns(DataConversionWarning):
            make_net(max_epochs=1).fit(rows.X, signal[:, None], eras=rows.eras)

    def test_what_is_scored(self, rows, signal):
        net = make_net(max_epochs=1).fit(rows.X, signal, eras=rows.eras)
        with pytest.raises(ValueError, match="y must have a row for each of 2400"):
            net.score(rows.X, signal[:9])
        with pytest.raises(ValueError, match="y must have one column, or 1"):
            net.score(rows.X, np.column_stack([signal] * 3))

    @pytest.mark.parametrize("option", ["batching", "monitor"])
    def test_what_needs_eras(self, rows, signal, option):
        value = {"batching": "era", "monitor": "valid_corr"}[option]
        with pytest.raises(ValueError, match=f"^{option}='{value}' needs eras: pass"):
            make_net(**{option: value}).fit(rows.X, signal)


@pytest.mark.slow
@pytest.mark.parametrize(
    "splitter",
    [
        CombinatorialPurgedEraCV(5, 2, purge=2),
        EraHoldout(0.3, purge=2),
        EraKFold(4, purge=2),
        EraWalkForward(4, purge=2),
        RepeatedEraKFold(4, n_repeats=2, purge=2),
    ],
    ids=lambda splitter: type(splitter).__name__,
)
@pytest.mark.parametrize("cross_fit", [None, EraKFold(2, purge=0)])
def test_permuted_labels_are_not_told(rows, splitter, cross_fit):
    """Whatever the split: codes, and a model on them, know nothing of other eras."""
    X = rows.to_frame(targets=[])
    net = make_net(cross_fit=cross_fit, validation=None, max_epochs=5)
    model = make_pipeline(LatentFeatures(net), Ridge())
    scores = []
    for seed in range(100, 106):
        rng = np.random.default_rng(seed)
        y = rng.permuted(rows.y("target_alpha_20").astype(np.float64))
        each = []
        for train, test in splitter.split(X, y, groups=rows.eras):
            model.fit(X.iloc[train], y[train])
            p = model.predict(X.iloc[test])
            each.append(era_scores(y[test], p, rows.eras[test]))
        scores += pd.concat(each).groupby(level=0).mean().tolist()
    # Labels at random: scores of eras are independent of each other.
    error = np.std(scores) / np.sqrt(len(scores))
    assert abs(np.mean(scores)) < 3 * error


def test_votes_with_others(rows, signal):
    X = rows.to_frame(targets=[])
    ridge = make_pipeline(LatentFeatures(make_net(max_epochs=2)), Ridge())
    vote = VotingRegressor([("net", make_net(max_epochs=2)), ("ridge", ridge)])
    both = vote.fit(X, signal).predict(X)
    each = [clone(m).fit(X, signal).predict(X) for _, m in vote.estimators]
    np.testing.assert_allclose(both, np.mean(each, axis=0), rtol=1e-5)


def test_real_rows_and_seven_targets(real_data):
    panel = read_numerai(real_data / "train.parquet")
    names = panel.target_names[:7]
    assert len(names) == 7
    y = np.column_stack([panel.y(name) for name in names])
    y[::50, 3] = np.nan
    net = make_net(max_epochs=2, n_models=2).fit(panel.X, y, eras=panel.eras)
    assert net.predict_targets(panel.X).shape == (panel.n_rows, 7)
    assert np.isfinite(net.predict(panel.X)).all()


def test_the_guide_tells_which_defaults_are_published_and_which_are_not():
    net, norm = SupervisedAEMLP(), BatchNorm
    published = {
        "n_components": 96,
        "decoder_units": 96,
        "hidden": (896, 448, 448, 256),
        "activation": "silu",
        "learning_rate": 1e-3,
        "schedule": "constant",
        "max_epochs": 100,
        "patience": 10,
    }
    assert {name: getattr(net, name) for name in published} == published
    rates = (0.0353, 0.0384, 0.4241, 0.1043, 0.4923, 0.3202, 0.2717, 0.4379)
    given = (net.noise_level, *net.dropout)
    np.testing.assert_allclose(given, rates, atol=4e-4)
    guide = (Path(__file__).parents[2] / "docs" / "aemlp.rst").read_text()
    assert (norm.eps, norm.momentum, net.batch_size) == (1e-5, 0.1, "auto")
    assert "epsilon 1e-5; a tenth" in guide
    assert '``"auto"``: a fiftieth' in guide
    n_in, n_out = 400, 300
    linear = Linear(n_in, n_out)
    initialize(linear, 0)
    assert 0.9 < linear.weight.abs().max() * n_in**0.5 <= 1
    assert "1 / √inputs" in guide
