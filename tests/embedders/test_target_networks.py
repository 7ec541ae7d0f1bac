"""What all networks that learn from targets must get right, whatever their loss."""

import tempfile

import numpy as np
import pandas as pd
import pytest

from numerai_features import EraHoldout
from numerai_features.datasets import make_era_panel
from numerai_features.embedders import DAEEmbedder, EraMLP, SupervisedAEMLP
from numerai_features.nn._training import Trainer


@pytest.fixture(scope="module")
def rows():
    return make_era_panel(
        n_eras=24, rows_per_era=50, n_features=16, n_factors=4, random_state=2
    )


@pytest.fixture(scope="module")
def signal(rows):
    x = (rows.X - 2.0) / 1.4
    y = x[:, :3].sum(axis=1) + np.random.default_rng(0).normal(size=len(x))
    return (y - y.min()) / (y.max() - y.min())


def perceptron(**options):
    known = {"hidden": (16, 8), "dropout": 0.0, "random_state": 0, "n_jobs": 1}
    return EraMLP(**{**known, **options})


def supervised(**options):
    known = {"hidden": (16, 8), "dropout": (0.0,) * 5, "max_epochs": 4}
    return SupervisedAEMLP(4, random_state=0, n_jobs=1, **{**known, **options})


def autoencoder(**options):
    return DAEEmbedder(4, hidden=(12,), random_state=0, n_jobs=1, **options)


def mean_corr(y, p, eras):
    return np.mean([np.corrcoef(y[eras == e], p[eras == e])[0, 1] for e in set(eras)])


class TestCellsOfAnotherType:
    """A file of bytes, then a week that holds NaN: the same numbers are the same."""

    @pytest.mark.parametrize(
        ("first", "second"), [("int8", "float32"), ("int8", "int16"), ("f8", "int8")]
    )
    def test_perceptron(self, rows, signal, first, second):
        old, kinds = rows.eras <= 12, [(first, second), (first, first)]
        fits = []
        for a, b in kinds:
            net = perceptron(max_epochs=8)
            net.fit(rows.X[old].astype(a), signal[old], eras=rows.eras[old])
            new = rows.X[~old].astype(b)
            net.partial_fit(new, signal[~old], eras=rows.eras[~old])
            fits.append(net.predict(rows.X))
        np.testing.assert_allclose(*fits, atol=1e-3)

    def test_autoencoder(self, rows):
        old = rows.eras <= 12
        scores = []
        for kind in ("int8", "float32"):
            dae = autoencoder(max_epochs=8).fit(rows.X[old], eras=rows.eras[old])
            dae.partial_fit(rows.X[~old].astype(kind), eras=rows.eras[~old])
            scores.append(dae.score(rows.X))
        assert scores[0] == pytest.approx(scores[1], abs=1e-3)


class TestColumnsThatAreConstantInTraining:
    """Such as features that are all 2 in early eras: the encoder ignores them."""

    def table(self, rows, kind):
        X = rows.X.copy()
        X[rows.eras <= 16, 4:8] = 2
        return X.astype(kind)

    @pytest.mark.parametrize("kind", ["int8", "float32"])
    def test_perceptrons_are_judged_as_they_predict(self, rows, signal, kind):
        X, held = self.table(rows, kind), rows.eras > 16
        net = perceptron(validation=8).fit(X, signal, eras=rows.eras)
        corr = mean_corr(signal[held], net.predict(X[held]), rows.eras[held])
        record = net.history_[net.best_epoch_[0] - 1]
        assert record["valid_loss"][0] == pytest.approx(1 - corr, abs=1e-4)

    @pytest.mark.parametrize("kind", ["int8", "float32"])
    def test_supervised_autoencoders_are(self, rows, signal, kind):
        X, held = self.table(rows, kind), rows.eras > 16
        net = supervised(validation=8).fit(X, signal, eras=rows.eras)
        error = np.square(signal[held] - net.predict(X[held])).mean()
        record = net.history_[net.best_epoch_[0] - 1]
        assert record["valid_loss"][0] == pytest.approx(error, rel=1e-4)

    @pytest.mark.parametrize("kind", ["int8", "float32"])
    def test_autoencoders_are_judged_as_they_restore(self, rows, kind):
        X, held = self.table(rows, kind), rows.eras > 16
        dae = autoencoder(max_epochs=3, validation=8, monitor="valid_r2")
        dae.fit(X, eras=rows.eras)
        varies = dae.scale_ > 0
        assert varies.sum() == 12
        t = ((X[held] - dae.mean_) / np.where(varies, dae.scale_, np.inf))[:, varies]
        share = 1 + dae.score(X[held]) / np.square(t).mean()
        record = dae.history_[dae.best_epoch_[0] - 1]
        assert record["valid_r2"][0] == pytest.approx(share, abs=2e-3)


class TestWeights:
    @pytest.mark.parametrize("loss", ["corr", "numerai_corr", "mse"])
    @pytest.mark.parametrize("eras_per_batch", [1, 4])
    def test_of_eras_count_in_every_loss(self, rows, signal, loss, eras_per_batch):
        """Such as a decay over time: light eras teach the opposite, in vain."""
        light = rows.eras <= 12
        y, w = np.where(light, 1 - signal, signal), np.where(light, 1e-3, 1.0)
        options = {"eras_per_batch": eras_per_batch, "max_epochs": 12}
        net = perceptron(loss=loss, learning_rate=0.003, **options)
        net.fit(rows.X, y, eras=rows.eras, sample_weight=w)
        assert mean_corr(signal, net.predict(rows.X), rows.eras) > 0.5

    def test_of_eras_count_in_an_autoencoders_batches(self, rows, signal):
        light = rows.eras <= 12
        y, w = np.where(light, 1 - signal, signal), np.where(light, 1e-3, 1.0)
        net = supervised(batching="era", max_epochs=20, validation=None)
        net.set_params(learning_rate=0.003)
        net.fit(rows.X, y, eras=rows.eras, sample_weight=w)
        assert mean_corr(signal, net.predict(rows.X), rows.eras) > 0.5

    @pytest.mark.parametrize("make", [perceptron, supervised])
    def test_rows_of_weight_zero_are_not_read(self, rows, signal, make):
        """Neither a target beyond [0, 1] nor a benchmark of another scale."""
        w = np.ones(rows.n_rows)
        w[::10] = 0
        y = np.where(w > 0, signal, 7.0)
        make(loss="bce", max_epochs=1).fit(rows.X, y, eras=rows.eras, sample_weight=w)

    def test_a_benchmark_of_rows_that_are_left_out(self, rows, signal):
        w = np.ones(rows.n_rows)
        w[::10] = 0
        benchmark = rows.X[:, 0].astype(float)
        fits = []
        for value in (0.0, 1e12):
            net = perceptron(benchmark_penalty=1.0)
            side = np.where(w > 0, benchmark, value)
            net.fit(rows.X, signal, eras=rows.eras, sample_weight=w, benchmark=side)
            fits.append(net.predict(rows.X))
        np.testing.assert_array_equal(*fits)

    @pytest.mark.parametrize("make", [perceptron, supervised, autoencoder])
    def test_too_light_for_float32(self, rows, signal, make):
        """A decay over time may leave early eras no weight at all."""
        w = 0.5 ** (8.0 * (24 - rows.eras))
        net = make(max_epochs=1, validation=None)
        if make is not perceptron:
            net.set_params(batching="era")
        net.fit(rows.X, signal, eras=rows.eras, sample_weight=w)
        assert np.isfinite(net.history_[-1]["train_loss"]).all()

    def test_of_held_out_eras_count_in_one_loss_as_in_two(self, rows, signal):
        w = np.where(rows.eras == 24, 10.0, np.where(rows.eras == 23, 0.1, 1.0))
        y, losses = np.column_stack([signal, signal]), []
        for loss in ("corr", ["corr", "corr"]):
            net = supervised(loss=loss, batching="era", validation=4, max_epochs=1)
            net.fit(rows.X, y, eras=rows.eras, sample_weight=w)
            losses.append(net.history_[0]["valid_loss"][0])
        assert losses[0] == pytest.approx(losses[1], abs=1e-3)


class TestTargets:
    @pytest.mark.parametrize("make", [perceptron, supervised])
    def test_too_far_from_zero(self, rows, signal, make):
        y = np.column_stack([signal, 1e5 - signal])
        with pytest.raises(ValueError, match=r"y: target 1 is between .*Subtract its"):
            make().fit(rows.X, y, eras=rows.eras)

    def test_residuals_of_rounding_are_none(self, rows, signal):
        """Where the benchmark is the target, or two rows are known, nothing is left."""
        benchmark = rows.X[:, 0] / 4
        y = np.where(rows.eras > 20, 0.3 + 0.25 * benchmark, signal)
        few = (rows.eras == 7) & (np.arange(rows.n_rows) % 25 != 3)
        y[few] = np.nan
        with pytest.warns(UserWarning, match="5 of 24 eras are left out"):
            net = perceptron(max_epochs=1).fit(
                rows.X, y, eras=rows.eras, benchmark=benchmark
            )
        assert net.n_eras_left_out_ == 5
        assert net.fitted_eras_.tolist() == [e for e in range(1, 21) if e != 7]
        with pytest.raises(ValueError, match="in no era: there is nothing to learn"):
            perceptron().fit(rows.X, benchmark, eras=rows.eras, benchmark=benchmark)

    def test_equal_but_for_rounding_is_constant(self, rows, signal):
        y = np.where(np.arange(rows.n_rows) % 2, 0.1 + 0.2, 0.3)
        y[rows.eras > 3] = signal[rows.eras > 3]
        with pytest.warns(UserWarning, match="3 of 24 eras are left out"):
            perceptron(max_epochs=1).fit(rows.X, y, eras=rows.eras)

    def test_names_are_kept(self, rows, signal):
        y = pd.DataFrame({"a": signal, "b": 1 - signal})
        net = perceptron(max_epochs=1).fit(rows.X, y, eras=rows.eras)
        swapped = y[["b", "a"]]
        match = r"y has the columns \['b', 'a'\], but in fit they were \['a', 'b'\]"
        with pytest.raises(ValueError, match=match):
            net.partial_fit(rows.X, swapped, eras=rows.eras)
        with pytest.raises(ValueError, match=match):
            net.score(rows.X, swapped)
        net.partial_fit(rows.X, y.to_numpy(), eras=rows.eras)
        assert list(net.target_names_) == ["a", "b"]

    @pytest.mark.parametrize("loss", ["corr", "mse"])
    def test_one_that_is_not_known_yet(self, rows, signal, loss):
        """A week whose 20 days are over, and whose 60 days are not."""
        y = np.column_stack([signal, 1 - signal])
        old, new = rows.eras <= 23, rows.eras == 24
        net = perceptron(loss=loss, max_epochs=8)
        net.fit(rows.X[old], y[old], eras=rows.eras[old])
        before = net.states_[0]["network.head.weight"][1].copy()
        y[new, 1] = np.nan
        net.set_params(max_epochs=1)
        net.partial_fit(rows.X[new], y[new], eras=rows.eras[new])
        assert net.n_targets_ == 2
        after = net.states_[0]["network.head.weight"]
        assert (after[1] != before).any() == (loss == "nothing")
        flat = np.column_stack([signal[new], 0.5 + 0 * signal[new]])
        net.partial_fit(rows.X[new], flat, eras=rows.eras[new])
        with pytest.raises(ValueError, match="y is NaN in all 50 rows"):
            net.partial_fit(rows.X[new], np.nan * y[new], eras=rows.eras[new])

    def test_checkpoint_of_another_scale(self, rows, signal, monkeypatch):
        """Standardised, y and 4y are the same bits; predictions are not."""
        y = np.round(signal * 4) / 4
        step, count = Trainer.take_step, [0]

        def stop(self, loss):
            count[0] += 1
            if count[0] == 12:
                raise RuntimeError("stopped")
            step(self, loss)

        with tempfile.TemporaryDirectory() as folder:
            net = perceptron(loss="mse", checkpoint=folder, checkpoint_every=0)
            with monkeypatch.context() as patch:
                patch.setattr(Trainer, "take_step", stop)
                with pytest.raises(RuntimeError, match="stopped"):
                    net.fit(rows.X, y, eras=rows.eras)
            resumed = net.fit(rows.X, 4 * y, eras=rows.eras).predict(rows.X)
        whole = perceptron(loss="mse").fit(rows.X, 4 * y, eras=rows.eras)
        np.testing.assert_array_equal(resumed, whole.predict(rows.X))


class TestFurther:
    def test_too_few_rows(self, rows, signal):
        net = perceptron(max_epochs=1).fit(rows.X, signal, eras=rows.eras)
        dae = autoencoder(max_epochs=1).fit(rows.X, eras=rows.eras)
        match = r"partial_fit needs 16 rows to train on; got 9 \(n_samples=9\)"
        with pytest.raises(ValueError, match=match):
            net.partial_fit(rows.X[:9], signal[:9], eras=rows.eras[:9])
        with pytest.raises(ValueError, match=match):
            dae.partial_fit(rows.X[:9], eras=rows.eras[:9])
        dae.set_params(validation=0.9)
        with pytest.raises(ValueError, match="needs 16 rows to train on; got 4"):
            dae.partial_fit(rows.X[:40], eras=None)

    @pytest.mark.parametrize("first", [True, False])
    def test_residuals_go_on_as_residuals(self, rows, signal, first):
        side = {"benchmark": rows.X[:, 0].astype(float)}
        net = perceptron(max_epochs=1)
        net.fit(rows.X, signal, eras=rows.eras, **(side if first else {}))
        other = {} if first else side
        with pytest.raises(ValueError, match="benchmark: the networks were fitted"):
            net.partial_fit(rows.X, signal, eras=rows.eras, **other)
        net.partial_fit(rows.X, signal, eras=rows.eras, **(side if first else {}))


class TestNothingToJudge:
    @pytest.mark.parametrize("loss", [["mse", "mse"], ["mse", "corr"]])
    def test_a_target_that_is_not_known_in_the_last_eras(self, rows, signal, loss):
        """Such as 60 days: the other target is judged alone."""
        y = np.column_stack([signal, np.where(rows.eras > 18, np.nan, signal)])
        net = supervised(loss=loss, batching="era", validation=4, max_epochs=6)
        net.fit(rows.X, y, eras=rows.eras)
        losses = [record["valid_loss"][0] for record in net.history_]
        held = rows.eras > 20
        error = np.square(net.predict_targets(rows.X[held])[:, 0] - signal[held]).mean()
        assert net.best_epoch_[0] == 1 + np.argmin(losses)
        assert min(losses) == pytest.approx(error, rel=1e-4)

    def test_nothing_at_all(self, rows, signal):
        """No half of a loss is taken for the whole."""
        y = np.column_stack([signal, np.full(rows.n_rows, 0.5)])
        y[rows.eras > 18, 0] = np.nan
        net = supervised(loss=["mse", "corr"], batching="era")
        net.set_params(validation=EraHoldout(4, purge=0))
        with pytest.raises(ValueError, match="is not told by the rows held out"):
            net.fit(rows.X, y, eras=rows.eras)

    def test_a_penalty(self, rows, signal):
        """Held-out eras without a benchmark: the loss is judged alone."""
        benchmark = np.where(rows.eras > 15, np.nan, rows.X[:, 0])
        net = perceptron(benchmark_penalty=0.3, validation=4)
        net.fit(rows.X, signal, eras=rows.eras, benchmark=benchmark)
        losses = [record["valid_loss"][0] for record in net.history_]
        assert np.isfinite(losses).all()
        assert net.best_epoch_[0] == 1 + np.argmin(losses)

    @pytest.mark.parametrize("make", [perceptron, supervised])
    def test_a_correlation(self, rows, signal, make):
        y = np.where(rows.eras > 15, 0.5, signal)
        net = make(loss="corr", validation=4)
        if make is supervised:
            net.set_params(batching="era", validation=EraHoldout(4, purge=0))
            with pytest.raises(ValueError, match="is not told by the rows held out"):
                net.fit(rows.X, y, eras=rows.eras)
        else:  # the eras are left out before, and others are held out
            with pytest.warns(UserWarning, match="9 of 24 eras are left out"):
                net.fit(rows.X, y, eras=rows.eras)
            assert np.isfinite(net.history_[-1]["valid_loss"][0])

    def test_a_correlation_of_few_random_rows(self, rows, signal):
        few = (rows.eras <= 4) & (np.arange(rows.n_rows) % 50 < 8)
        net = perceptron(validation=0.1)
        with pytest.raises(ValueError, match="Set validation to more eras, or to None"):
            net.fit(rows.X[few], signal[few], eras=rows.eras[few])

    @pytest.mark.parametrize("value", [np.nan, 0.5])
    def test_a_benchmark_that_tells_nothing(self, rows, signal, value):
        net = perceptron(benchmark_penalty=0.3)
        with pytest.raises(
            ValueError, match="benchmark has two different values in no"
        ):
            net.fit(
                rows.X, signal, eras=rows.eras, benchmark=np.full(rows.n_rows, value)
            )
