"""What networks that need no labels must get right, whatever their task."""

import pickle
import subprocess
import sys
import textwrap
from contextlib import nullcontext

import numpy as np
import pytest
from cut_off import kill_in_training
from joblib import Parallel, delayed
from sklearn.base import clone

from numerai_features.datasets import make_era_panel
from numerai_features.embedders import (
    ContrastiveEmbedder,
    EraAutoencoder,
    EraTransformer,
    MaskedAutoencoder,
)
from numerai_features.nn import _ensemble, _threads

SMALL = {"hidden": (24,), "max_epochs": 3, "random_state": 0}
LITTLE = {"width": 16, "max_epochs": 3, "random_state": 0}
NETS = [
    EraTransformer(4, objective="cells", orthogonality=0.1, **LITTLE),
    MaskedAutoencoder(4, **SMALL),
    MaskedAutoencoder(4, loss="bins", target_aware=True, **SMALL),
    EraAutoencoder(4, random_units=(6, 10), output="both", **SMALL),
    ContrastiveEmbedder(4, **SMALL),
    ContrastiveEmbedder(4, negatives="era", vime_weight=0.5, **SMALL),
]
each_net = pytest.mark.parametrize(
    "net", NETS, ids=lambda net: f"{type(net).__name__}{NETS.index(net)}"
)


@pytest.fixture(scope="module")
def rows():
    return make_era_panel(
        n_eras=20, rows_per_era=100, n_features=30, n_factors=4, random_state=1
    )


@each_net
class TestEach:
    def test_a_row_alone_shuffled_or_in_batches(self, net, rows):
        X = rows.X[:200]
        fitted = clone(net).fit(rows.X, rows.y(), eras=rows.eras)
        if fitted.encoder_.by_era:
            pytest.skip("rows look at their era; see test_era_transformer.py")
        whole = fitted.transform(X)
        order = np.random.default_rng(0).permutation(200)
        np.testing.assert_allclose(fitted.transform(X[order]), whole[order], atol=1e-5)
        alone = np.concatenate([fitted.transform(X[i : i + 1]) for i in range(200)])
        np.testing.assert_allclose(alone, whole, atol=1e-5)
        batches = [fitted.transform(X[i : i + 7]) for i in range(0, 200, 7)]
        np.testing.assert_allclose(np.concatenate(batches), whole, atol=1e-5)

    def test_the_pickle_works_without_torch(self, net, rows, tmp_path):
        fitted = clone(net).fit(rows.X, rows.y(), eras=rows.eras)
        (tmp_path / "net.pkl").write_bytes(pickle.dumps(fitted))
        np.save(tmp_path / "X.npy", rows.X[:50])
        script = textwrap.dedent(
            f"""
            import importlib.abc, pickle, sys

            class NoTorch(importlib.abc.MetaPathFinder):
                def find_spec(self, name, path=None, target=None):
                    if name.split(".")[0] == "torch":
                        raise ImportError("torch is not installed here")

            sys.meta_path.insert(0, NoTorch())
            import numpy as np
            with open({str(tmp_path / "net.pkl")!r}, "rb") as file:
                net = pickle.load(file)
            X = np.load({str(tmp_path / "X.npy")!r})
            eras = np.repeat(["0001"], len(X))
            np.save({str(tmp_path / "Z.npy")!r}, net.transform(X, eras=eras))
            assert "torch" not in sys.modules
            """
        )
        subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)
        found = np.load(tmp_path / "Z.npy")
        eras = np.repeat(["0001"], 50)
        np.testing.assert_array_equal(found, fitted.transform(rows.X[:50], eras=eras))

    @pytest.mark.slow
    def test_a_killed_fit_goes_on_to_the_same_bits(self, net, rows, tmp_path):
        options = {"max_epochs": 30, "n_models": 2, "ema_decay": 0.9}
        made = clone(net).set_params(**options)
        kill_in_training(clone(made), rows.X, rows.eras, tmp_path, rows.y())
        resumed = clone(made).set_params(checkpoint=tmp_path)
        resumed.fit(rows.X, rows.y(), eras=rows.eras)
        whole = clone(made).fit(rows.X, rows.y(), eras=rows.eras)
        latents = (n.transform(rows.X, eras=rows.eras) for n in (resumed, whole))
        np.testing.assert_array_equal(*latents)
        assert not list(tmp_path.glob("*.checkpoint"))

    def test_the_same_bits_at_any_number_of_jobs(self, net, rows):
        def bits(seed, n_jobs):
            made = clone(net).set_params(random_state=seed, n_jobs=n_jobs)
            return made.fit_transform(rows.X, rows.y(), eras=rows.eras).tobytes()

        one = [bits(0, 1), bits(1, 1)]
        assert one[0] != one[1]
        assert [bits(0, 2), bits(1, 2)] == one
        assert Parallel(2)(delayed(bits)(seed, 1) for seed in (0, 1)) == one

    def test_networks_can_be_trained_together(self, net, rows, monkeypatch):
        """As on a GPU, by vmap; all have the first network's draws."""
        X, y = rows.X.astype(np.float32), rows.y()
        X[::7, 3] = np.nan
        made = clone(net).set_params(n_models=2, precision="float32")
        if net.batching == "era":
            pytest.skip("networks of whole eras are trained in turn")
        losses = []
        for together in (False, True):
            if together:
                train = _ensemble.train_at_once
                monkeypatch.setattr(_ensemble, "train_in_a_row", train)
                monkeypatch.setattr(_threads, "own_threads", lambda _: nullcontext())
            made.fit(X, y, eras=rows.eras)
            losses.append([record["train_loss"] for record in made.history_])
        alone, both = np.array(losses)
        np.testing.assert_allclose(both[:, 0], alone[:, 0], rtol=1e-4)
        np.testing.assert_allclose(both[:, 1], alone[:, 1], rtol=0.15)

    @pytest.mark.parametrize("kind", ["bytes", "floats"])
    def test_the_held_out_loss_falls(self, net, rows, kind):
        X = rows.X
        if kind == "floats":
            X = X.astype(np.float64)
            X[::7, 3] = np.nan
        longer = {"max_epochs": 10, "learning_rate": 0.01}
        fitted = clone(net).set_params(**longer).fit(X, rows.y(), eras=rows.eras)
        losses = [record["valid_loss"][0] for record in fitted.history_]
        assert min(losses) < losses[0]
        assert np.isfinite(fitted.transform(X, eras=rows.eras)).all()

    def test_light_rows_count_little(self, net, rows):
        """Two kinds of rows; the light ones hardly change what the others teach."""
        X, heavy = rows.X.copy(), rows.eras > 10
        X[~heavy] = X[~heavy][:, ::-1]
        weights = np.where(heavy, 1.0, 1e-6)
        made = clone(net).set_params(max_epochs=10, validation=None)
        made.set_params(learning_rate=0.01)
        losses = [
            clone(made)
            .fit(X, rows.y(), eras=rows.eras, sample_weight=w)
            .history_[-1]["train_loss"][0]
            for w in (None, weights)
        ]
        assert losses[1] < losses[0]
