import json
import pickle
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from cut_off import interrupt_in_training, kill_in_training
from joblib import Parallel, delayed
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, GroupShuffleSplit, PredefinedSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from numerai_features import (
    EraHoldout,
    EraKFold,
    LatentFeatures,
    check_splits,
    make_era_scorer,
)
from numerai_features._eras import encode_eras
from numerai_features._rows import Rows
from numerai_features.datasets import make_era_panel
from numerai_features.embedders import DAEEmbedder
from numerai_features.embedders._columns import column_moments
from numerai_features.embedders._course import model_seeds
from numerai_features.embedders._holdout import hold_out
from numerai_features.nn._training import DivergedError

REAL = Path(__file__).parents[3] / "shared" / "data" / "train.parquet"
SMALL = {"hidden": (24, 12), "max_epochs": 4, "random_state": 0}


@pytest.fixture(scope="module")
def rows():
    panel = make_era_panel(
        n_eras=20, rows_per_era=100, n_features=30, n_factors=4, random_state=1
    )
    return panel


@pytest.fixture(scope="module")
def fitted(rows):
    return DAEEmbedder(4, **SMALL).fit(rows.X, eras=rows.eras)


def float_copy(X):
    X = X.astype(np.float64)
    X[::7, 3] = np.nan
    return X


class TestTraining:
    def test_batches_of_eras_need_eras(self, rows):
        net = DAEEmbedder(2, batching="era", max_epochs=1)
        with pytest.warns(UserWarning, match=r"No eras .* batching='era' uses"):
            net.fit(rows.X)
        net.fit(rows.X, eras=rows.eras)
        with pytest.warns(UserWarning, match=r"No eras .* batching='era' uses"):
            net.partial_fit(rows.X)

    def test_history_tells_each_epoch_of_each_model(self, rows):
        dae = DAEEmbedder(4, n_models=2, **SMALL).fit(rows.X, eras=rows.eras)
        assert dae.n_iter_ == len(dae.history_) == 4
        record = dae.history_[-1]
        for name in ("train_loss", "valid_loss", "valid_r2"):
            assert len(record[name]) == 2
        assert record["train_loss"][0] < dae.history_[0]["train_loss"][0]
        best = [r["valid_loss"][1] for r in dae.history_]
        assert dae.best_epoch_[1] == 1 + int(np.argmin(best))
        json.dumps(dae.history_)

    def test_monitor_is_what_is_best(self, rows):
        dae = DAEEmbedder(4, monitor="valid_r2", **SMALL).fit(rows.X, eras=rows.eras)
        values = [r["valid_r2"][0] for r in dae.history_]
        assert dae.best_epoch_[0] == 1 + int(np.argmax(values))

    def test_no_validation_keeps_the_last_epoch(self, rows):
        dae = DAEEmbedder(4, validation=None, **SMALL).fit(rows.X, eras=rows.eras)
        assert "valid_loss" not in dae.history_[0]
        np.testing.assert_array_equal(dae.best_epoch_, [4])

    @pytest.mark.parametrize(
        "settings",
        [
            {"noise": "masking", "mask_head": True},
            {"noise": "cutout", "emphasis": 0.9},
            {"noise": "gaussian", "noise_level": 0.5},
            {"noise": "relative", "noise_level": 0.5, "ema_decay": 0.9},
            {"batching": "era", "dropout": 0.1},
            {"schedule": "constant", "clip_norm": 1.0, "weight_decay": 0.1},
            {"noise_level": 0.0, "activation": "identity", "hidden": ()},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("kind", ["bytes", "floats"])
    def test_every_setting_restores_more_than_the_mean(self, rows, settings, kind):
        X = rows.X if kind == "bytes" else float_copy(rows.X)
        longer = {**SMALL, "max_epochs": 10, "learning_rate": 0.01}
        dae = DAEEmbedder(4, **{**longer, **settings}).fit(X, eras=rows.eras)
        assert dae.history_[-1]["valid_r2"][0] > 0.15
        assert np.isfinite(dae.transform(X)).all()

    def test_large_means_lose_no_digits(self, rows):
        X = rows.X.astype(np.float64)
        settings = {**SMALL, "precision": "float32", "max_epochs": 1}
        plain = DAEEmbedder(4, **settings).fit(X)
        moved = DAEEmbedder(4, **settings).fit(1e6 + 0.25 * X)
        latents = moved.transform(1e6 + 0.25 * X)
        np.testing.assert_allclose(latents, plain.transform(X), atol=0.02)
        np.testing.assert_allclose(
            moved.reconstruct(1e6 + 0.25 * X), 1e6 + 0.25 * plain.reconstruct(X),
            atol=0.1,
        )  # fmt: skip

    def test_weights_of_zero_leave_rows_out(self, rows):
        weights = np.ones(rows.n_rows)
        weights[rows.eras <= 5] = 0
        kept = weights > 0
        light = DAEEmbedder(4, **SMALL)
        light.fit(rows.X, eras=rows.eras, sample_weight=weights)
        alone = DAEEmbedder(4, **SMALL).fit(rows.X[kept], eras=rows.eras[kept])
        np.testing.assert_allclose(light.mean_, alone.mean_)
        assert light.history_[0]["train_loss"] == pytest.approx(
            alone.history_[0]["train_loss"], rel=1e-3
        )

    def test_heavier_rows_are_restored_better(self, rows):
        weights = np.where(np.arange(rows.n_rows) % 2, 1.0, 1e-3)
        # Two kinds of rows that one narrow code cannot hold both.
        X = rows.X.copy()
        X[::2] = X[::2][:, ::-1]
        settings = {**SMALL, "max_epochs": 20, "validation": None}
        score = (
            DAEEmbedder(2, **settings).fit(X, sample_weight=weights).score_samples(X)
        )
        even = DAEEmbedder(2, **settings).fit(X).score_samples(X)
        assert (score - even)[1::2].mean() > 0.01
        assert (score - even)[::2].mean() < -0.01

    def test_seeds_of_a_stack_do_not_depend_on_its_size(self):
        assert model_seeds(3, 5)[:2] == model_seeds(3, 2)
        assert len(set(model_seeds(3, 5) + model_seeds(4, 5))) == 10

    def test_a_stack_is_its_models_one_by_one(self, rows):
        settings = {**SMALL, "precision": "float32", "max_epochs": 1}
        one = DAEEmbedder(4, **settings).fit(rows.X, eras=rows.eras)
        two = DAEEmbedder(4, n_models=2, **settings).fit(rows.X, eras=rows.eras)
        assert two.transform(rows.X).shape == (rows.n_rows, 8)
        np.testing.assert_allclose(
            two.transform(rows.X)[:, :4], one.transform(rows.X), atol=1e-3
        )

    def test_divergence_tells_where_and_what_to_do(self, rows):
        dae = DAEEmbedder(4, **{**SMALL, "learning_rate": 1e14})
        with pytest.raises(DivergedError, match=r"epoch 1, batch \d+, .*learning_rate"):
            dae.fit(rows.X)


class TestReproducibility:
    def test_the_same_bits_at_any_number_of_jobs(self, rows):
        def bits(seed):
            dae = DAEEmbedder(4, **{**SMALL, "random_state": seed})
            return dae.fit_transform(rows.X, eras=rows.eras).tobytes()

        here = [bits(0), bits(1)]
        assert here[0] != here[1]
        for n_jobs in (1, 2):
            assert Parallel(n_jobs)(delayed(bits)(seed) for seed in (0, 1)) == here

    def test_a_random_seed_is_another_each_time(self, rows):
        first, second = (
            DAEEmbedder(4, **{**SMALL, "random_state": None}).fit_transform(rows.X)
            for _ in range(2)
        )
        assert not np.array_equal(first, second)

    def test_a_random_state_is_a_seed_too(self, rows):
        first, second = (
            DAEEmbedder(
                4, **{**SMALL, "random_state": np.random.RandomState(7)}
            ).fit_transform(rows.X)
            for _ in range(2)
        )
        np.testing.assert_array_equal(first, second)

    def test_a_killed_fit_goes_on_to_the_same_bits(self, rows, tmp_path):
        options = {**SMALL, "max_epochs": 30, "ema_decay": 0.9, "n_models": 2}
        kill_in_training(DAEEmbedder(4, **options), rows.X, rows.eras, tmp_path)
        resumed = DAEEmbedder(4, checkpoint=tmp_path, **options)
        resumed.fit(rows.X, eras=rows.eras)
        whole = DAEEmbedder(4, **options).fit(rows.X, eras=rows.eras)
        np.testing.assert_array_equal(
            resumed.transform(rows.X), whole.transform(rows.X)
        )
        for ours, theirs in zip(resumed.states_, whole.states_, strict=True):
            for name, value in theirs.items():
                np.testing.assert_array_equal(ours[name], value)
        assert not list(tmp_path.glob("*.checkpoint"))

    def test_a_checkpoint_of_another_fit_is_left_alone(self, rows, tmp_path):
        options = {**SMALL, "checkpoint": tmp_path}
        longer = {**options, "max_epochs": 30}
        kill_in_training(DAEEmbedder(4, **longer), rows.X, rows.eras, tmp_path)
        [file] = tmp_path.glob("*.checkpoint")
        before = file.read_bytes()
        eras, X = rows.eras.astype(int), rows.X.copy()
        X[0, 0] += 1
        for params in ({"noise_level": 0.2}, {"random_state": 1}, {"n_models": 2}):
            other = DAEEmbedder(4, **{**options, **params})
            other.fit(rows.X, eras=eras)
        DAEEmbedder(4, **longer).fit(X, eras=eras)
        DAEEmbedder(4, **longer).fit(rows.X, eras=eras + 1)
        assert file.read_bytes() == before
        assert [*tmp_path.glob("*.checkpoint")] == [file]
        DAEEmbedder(4, **longer).fit(rows.X, eras=eras)  # as many, told as numbers
        assert not file.exists()


class TestTransform:
    def test_a_row_alone_in_reverse_or_in_a_batch(self, rows, fitted):
        X = rows.X[:200]
        whole = fitted.transform(X)
        np.testing.assert_allclose(fitted.transform(X[::-1])[::-1], whole, atol=1e-5)
        alone = np.concatenate([fitted.transform(X[i : i + 1]) for i in range(200)])
        np.testing.assert_allclose(alone, whole, atol=1e-5)

    def test_the_encoder_is_the_network(self, rows):
        """The folded arrays against the layers themselves."""
        import torch

        from numerai_features.nn._autoencoder import Autoencoder
        from numerai_features.nn._batches import Table

        dae = DAEEmbedder(4, precision="float32", output="deep", **SMALL)
        dae.fit(rows.X, eras=rows.eras)
        table = Table(rows.X, dae.mean_, dae.scale_, torch.device("cpu"))
        network = Autoencoder(table, (24, 12), 4, "silu")
        [state] = dae.states_
        network.load_state_dict(
            {k.removeprefix("network."): torch.tensor(v) for k, v in state.items()}
        )
        network.eval()
        x, hidden = torch.from_numpy(rows.X.astype(np.float32)), []
        with torch.no_grad():
            for block in (*network.encoder, *network.decoder):
                x = block(x)
                hidden.append(x.numpy())
            output = network.output(x).numpy()
        latents = dae.transform(rows.X)
        assert latents.shape[1] == 24 + 12 + 4 + 12 + 24
        np.testing.assert_allclose(latents, np.concatenate(hidden, 1), atol=1e-4)
        restored = output * dae.scale_ + dae.mean_
        np.testing.assert_allclose(dae.reconstruct(rows.X), restored, atol=1e-4)

    def test_inverse_transform_is_the_reconstruction(self, rows, fitted):
        for output, n_models in [("code", 1), ("deep", 2)]:
            dae = DAEEmbedder(4, output=output, n_models=n_models, **SMALL)
            Z = dae.fit_transform(rows.X, eras=rows.eras)
            np.testing.assert_array_equal(
                dae.inverse_transform(Z), dae.reconstruct(rows.X)
            )
        with pytest.raises(ValueError, match="X has 3 latents, but DAEEmbedder gives"):
            dae.inverse_transform(Z[:, :3])

    def test_the_pickle_works_without_torch(self, rows, fitted, tmp_path):
        (tmp_path / "dae.pkl").write_bytes(pickle.dumps(fitted))
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
            with open({str(tmp_path / "dae.pkl")!r}, "rb") as file:
                dae = pickle.load(file)
            X = np.load({str(tmp_path / "X.npy")!r})
            np.save({str(tmp_path / "Z.npy")!r}, dae.transform(X))
            dae.score_samples(X)
            assert "torch" not in sys.modules
            """
        )
        subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)
        np.testing.assert_array_equal(
            np.load(tmp_path / "Z.npy"), fitted.transform(rows.X[:50])
        )

    def test_missing_cells_do_not_count(self, rows):
        X = float_copy(rows.X)
        dae = DAEEmbedder(4, **{**SMALL, "max_epochs": 10}).fit(X)
        filled = np.where(np.isnan(X), dae.missing_values_, X)
        np.testing.assert_array_equal(dae.transform(X), dae.transform(filled))
        error = ((dae.reconstruct(X) - X) / dae.scale_) ** 2
        np.testing.assert_allclose(
            dae.score_samples(X), -np.nanmean(error, axis=1), rtol=1e-4
        )
        with pytest.raises(ValueError, match="X contains NaN and missing='raise'"):
            DAEEmbedder(4, missing="raise", **SMALL).fit(X)


class TestFamiliarity:
    def test_shuffled_columns_are_unfamiliar(self):
        panel = make_era_panel(n_eras=40, rows_per_era=300, random_state=0)
        train, test = panel.eras <= 28, panel.eras > 32
        dae = DAEEmbedder(random_state=0).fit(panel.X[train], eras=panel.eras[train])
        assert separation(dae, panel.X[test]) > 0.95

    @pytest.mark.skipif(not REAL.exists(), reason="needs the real rows")
    def test_shuffled_columns_of_real_rows_are_unfamiliar(self):
        train = pd.read_parquet(REAL)
        test = pd.read_parquet(REAL.with_name("validation.parquet"))
        names = [name for name in train if name.startswith("feature")]
        eras = train["era"].to_numpy()
        dae = DAEEmbedder(random_state=0).fit(train[names].to_numpy(), eras=eras)
        assert separation(dae, test[names].to_numpy()) > 0.95

    def test_a_strange_era_stands_out(self, rows, fitted):
        X = rows.X.copy()
        strange = rows.eras == 9
        rng = np.random.default_rng(0)
        X[strange] = rng.permuted(X[strange], axis=0)
        plain = fitted.era_familiarity(rows.X, rows.eras)
        mixed = fitted.era_familiarity(X, eras=rows.eras)
        assert plain.index.name == "era"
        assert list(plain.index) == list(range(1, 21))
        np.testing.assert_allclose([plain.mean(), plain.std(ddof=0)], [0, 1], atol=1e-9)
        assert mixed.idxmin() == 9
        assert mixed[9] < -3 < mixed.drop(9).min()
        pd.testing.assert_series_equal(mixed.drop(9), plain.drop(9))
        frame = rows.to_frame(targets=[])
        from_frame = DAEEmbedder(4, **SMALL).fit(frame).era_familiarity(frame)
        assert list(from_frame.index[:2]) == ["0001", "0002"]
        np.testing.assert_allclose(from_frame.to_numpy(), plain.to_numpy())

    def test_familiarity_needs_eras(self, rows, fitted):
        with pytest.raises(ValueError, match="era_familiarity needs eras"):
            fitted.era_familiarity(rows.X)
        alone = DAEEmbedder(4, **SMALL).fit(rows.X)
        with pytest.raises(ValueError, match="compares with the eras of fit"):
            alone.era_familiarity(rows.X, rows.eras)


def separation(dae, X):
    """Area under the curve of the scores of rows and of rows with mixed columns."""
    mixed = np.random.default_rng(0).permuted(X, axis=0)
    scores = np.concatenate([dae.score_samples(X), dae.score_samples(mixed)])
    return roc_auc_score(np.repeat([1, 0], len(X)), scores)


class TestPartialFit:
    def test_first_call_is_fit(self, rows, fitted):
        dae = DAEEmbedder(4, **SMALL).partial_fit(rows.X, eras=rows.eras)
        np.testing.assert_array_equal(dae.transform(rows.X), fitted.transform(rows.X))

    def test_more_epochs_go_on_from_the_weights(self, rows):
        early, late = rows.eras <= 14, rows.eras > 14
        dae = DAEEmbedder(4, **SMALL).fit(rows.X[early], eras=rows.eras[early])
        first = [record["train_loss"][0] for record in dae.history_]
        dae = pickle.loads(pickle.dumps(dae))
        before = dae.score(rows.X[late])
        dae.set_params(schedule="constant", learning_rate=1e-3)
        dae.partial_fit(rows.X, eras=rows.eras)
        assert dae.history_[0]["train_loss"][0] < first[0]
        assert dae.score(rows.X[late]) > before
        np.testing.assert_array_equal(dae.fitted_eras_, rows.era_numbers)
        assert len(dae.era_scores_) == 20

    def test_unknown_eras_make_all_unknown(self, rows, fitted):
        dae = pickle.loads(pickle.dumps(fitted)).partial_fit(rows.X)
        assert dae.fitted_eras_ is None

    @pytest.mark.parametrize(
        "params",
        [
            {"n_models": 2},
            {"n_components": 3},
            {"hidden": (24,)},
            {"activation": "relu"},
            {"mask_head": True},
        ],
        ids=str,
    )
    def test_other_networks_are_refused(self, rows, fitted, params):
        dae = pickle.loads(pickle.dumps(fitted)).set_params(**params)
        with pytest.raises(ValueError, match="continues a fit with "):
            dae.partial_fit(rows.X, eras=rows.eras)


class TestComposition:
    def test_grid_search_over_latents(self, rows):
        frame, y = rows.to_frame(targets=[]), rows.y("target_alpha_20")
        model = make_pipeline(
            LatentFeatures(DAEEmbedder(2, **SMALL), quantize="uint8"),
            Ridge(),
        )
        search = GridSearchCV(
            model,
            {"latentfeatures__embedders__noise_level": [0.1, 0.3]},
            cv=EraKFold(3, purge=1),
            scoring=make_era_scorer("corr"),
            error_score="raise",
        )
        search.fit(frame, y)
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
        latents = search.best_estimator_[0].transform(frame)
        assert latents.dtype == np.uint8
        assert latents.shape == (rows.n_rows, 32)

    def test_set_output_gives_named_frames(self, rows):
        dae = DAEEmbedder(3, **SMALL).set_output(transform="pandas")
        table = dae.fit_transform(rows.to_frame(targets=[]))
        assert list(table.columns) == [f"daeembedder{j}" for j in range(3)]
        scaled = make_pipeline(dae, StandardScaler()).fit_transform(rows.X)
        np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-3)


def all_rows(n_rows, eras=None):
    """Rows of which only eras matter, and the indices of all."""
    index = None if eras is None else encode_eras(eras)
    return Rows(np.zeros((n_rows, 1)), eras=index), np.arange(n_rows)


class TestHoldout:
    def test_the_last_eras_with_a_purge(self, rows):
        table, every = all_rows(rows.n_rows, rows.eras)
        held = hold_out(0.1, table, every, 0)
        assert set(rows.eras[held.valid]) == {19, 20}
        assert set(rows.eras[held.train]) == set(range(1, 17))
        held = hold_out(EraHoldout(3, purge=5), table, every, 0)
        assert set(rows.eras[held.train]) == set(range(1, 13))

    @pytest.mark.parametrize(
        ("n_eras", "name", "gap"),
        [(100, "target_a_20", 8), (100, "other", 16), (100, "target_a_60", 16),
         (30, "target_a_60", 12), (30, "target_a_20", 8), (8, "other", 3)],
    )  # fmt: skip
    def test_labels_are_purged_by_their_length_while_half_is_left(
        self, n_eras, name, gap
    ):
        eras = np.repeat(np.arange(1, n_eras + 1), 2)
        table = Rows(
            np.zeros((len(eras), 1)), np.zeros((len(eras), 1)), encode_eras(eras),
            target_names=[name],
        )  # fmt: skip
        train, valid = hold_out(0.1, table, np.arange(len(eras)), 0)
        assert eras[valid].min() - eras[train].max() - 1 == gap
        if n_eras == 100:
            folds = [(train, valid)]
            check_splits(folds, eras, {"target_a_20": 4}.get(name, 12))

    def test_random_rows_without_eras_and_none_of_few(self):
        held = hold_out(0.1, *all_rows(100), 0)
        assert len(held.valid) == 10
        assert sorted([*held.train, *held.valid]) == list(range(100))
        assert hold_out(0.1, *all_rows(19), 0).valid is None

    @pytest.mark.parametrize("whole_eras", [True, False])
    def test_of_too_many_rows_some_are_held_out(self, whole_eras):
        """Some eras where rows of an era need each other, else some rows of each."""
        eras = np.repeat(np.arange(14), 15_000)
        table, every = all_rows(len(eras), eras)
        train, valid = hold_out(6, table, every, 0, whole_eras=whole_eras)
        counts = np.bincount(eras[valid])
        if whole_eras:
            assert counts.tolist() == [0] * 8 + [15_000, 15_000, 0, 15_000, 0, 15_000]
        else:
            assert len(valid) == 1 << 16
            assert counts[8:].min() > 10_000
        assert set(eras[train]) == {0, 1}  # six are purged

    def test_only_the_rows_to_choose_from_are_in_either(self, rows):
        for eras in (None, rows.eras):
            table, every = all_rows(rows.n_rows, eras)
            held = hold_out(0.1, table, every[1::2], 0)
            assert (np.concatenate(held) % 2 == 1).all()
            assert len(np.unique(np.concatenate(held))) == sum(map(len, held))

    def test_a_splitter_counts_the_rows_that_came(self):
        """Those of weight zero, too: its indices are the caller's."""
        fold = np.full(480, -1)
        fold[200:280] = 0
        table, every = all_rows(480)
        train, valid = hold_out(PredefinedSplit(fold), table, every[100:], 0)
        np.testing.assert_array_equal(valid, np.arange(200, 280))
        assert sorted([*train, *valid]) == list(range(100, 480))

    def test_splitters_of_others_take_eras_with_live(self):
        eras = np.repeat(np.array([*range(1, 12), "X"], object), 40)
        table, every = all_rows(480, eras)
        splitter = GroupShuffleSplit(1, random_state=0)
        train, valid = hold_out(splitter, table, every, 0)
        assert not set(eras[train]) & set(eras[valid])

    def test_gaps_are_era_numbers_and_what_is_left_is_counted(self):
        eras = np.repeat(np.arange(1, 97, 4), 2)  # every fourth, 24 of them
        table = Rows(
            np.zeros((48, 1)), np.zeros((48, 1)), encode_eras(eras),
            target_names=["target_a_60"],
        )  # fmt: skip
        train, valid = hold_out(0.1, table, np.arange(48), 0)
        assert eras[valid].min() - eras[train].max() == 20
        assert len(np.unique(eras[train])) == 17

    def test_moments_are_numpys(self, rows):
        X = float_copy(rows.X)
        chosen = np.arange(0, len(X), 2)
        mean, scale = column_moments(X, chosen, None)
        np.testing.assert_allclose(mean, np.nanmean(X[chosen], axis=0))
        np.testing.assert_allclose(scale, np.nanstd(X[chosen], axis=0), atol=1e-12)
        weights = np.random.default_rng(0).random(len(X))
        mean, scale = column_moments(rows.X, chosen, weights)
        wanted = np.average(rows.X[chosen], axis=0, weights=weights[chosen])
        np.testing.assert_allclose(mean, wanted)


class TestValidation:
    @pytest.mark.parametrize(
        ("settings", "match"),
        [
            ({"n_components": 31}, r"n_components=31 must be at most n_features=30"),
            ({"hidden": (0,)}, "'hidden' parameter of"),
            ({"hidden": ((3, 4),)}, "'hidden' parameter of"),
            ({"hidden": (2.5,)}, "'hidden' parameter of"),
            ({"noise_level": 1.0}, r"noise_level=1.0 must be below 1"),
            ({"noise": "gaussian", "mask_head": True}, "changes every cell"),
            ({"noise": "relative", "emphasis": 0.7}, "changes every cell"),
            ({"checkpoint": "x", "random_state": None}, "needs an int random_state"),
            ({"device": "tpu"}, "device must be 'auto', 'cpu', 'cuda'"),
            ({"validation": 3}, "is a number of eras, but there are 0"),
        ],
    )
    def test_bad_parameters(self, rows, settings, match):
        with pytest.raises(ValueError, match=match):
            DAEEmbedder(**{**SMALL, **settings}).fit(rows.X)

    def test_constant_columns_are_restored(self, rows):
        X = rows.X.copy()
        X[:, 5] = 3
        dae = DAEEmbedder(4, **SMALL).fit(X, eras=rows.eras)
        assert dae.scale_[5] == 0
        np.testing.assert_allclose(dae.reconstruct(X)[:, 5], 3, atol=1e-6)
        assert np.isfinite(dae.history_[-1]["train_loss"]).all()


# Ctrl-C can come between the opening of a folder by the standard library and its with.
@pytest.mark.filterwarnings("ignore:unclosed scandir:ResourceWarning")
class TestCtrlC:
    endless: ClassVar = {**SMALL, "max_epochs": 100_000, "patience": None}

    def test_leaves_it_unfitted(self, rows, tmp_path):
        dae = DAEEmbedder(4, **self.endless)
        with pytest.raises(KeyboardInterrupt):
            interrupt_in_training(dae, rows.X, rows.eras, tmp_path)
        assert not hasattr(dae, "encoder_")
        assert not hasattr(dae, "n_features_in_")

    def test_best_so_far_is_kept_where_asked_for(self, rows, tmp_path):
        dae = DAEEmbedder(4, keep_interrupted=True, **self.endless)
        with pytest.raises(KeyboardInterrupt):
            interrupt_in_training(dae, rows.X, rows.eras, tmp_path)
        assert 1 <= dae.best_epoch_[0] <= dae.n_iter_ < 100_000
        assert dae.transform(rows.X).shape == (rows.n_rows, 4)

    def test_whoever_contains_it_keeps_nothing(self, rows, tmp_path):
        dae = DAEEmbedder(4, keep_interrupted=True, **self.endless)
        latents = LatentFeatures(dae.set_params(max_epochs=1)).fit(rows.X)
        before = latents.transform(rows.X)
        latents.set_params(embedders__max_epochs=100_000)
        with pytest.raises(KeyboardInterrupt):
            interrupt_in_training(latents, rows.X, rows.eras, tmp_path, "embedders__")
        np.testing.assert_array_equal(latents.transform(rows.X), before)
        assert latents.fitted_eras_ is None

    def test_nothing_is_kept_where_a_network_has_nothing(self, rows, tmp_path):
        dae = DAEEmbedder(4, keep_interrupted=True, n_models=2, **self.endless)
        with pytest.raises(KeyboardInterrupt):
            interrupt_in_training(dae, rows.X, rows.eras, tmp_path)
        assert not hasattr(dae, "encoder_")


def test_tensorboard_gets_every_metric(rows, tmp_path):
    pytest.importorskip("tensorboard")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of tensorboard's own
        DAEEmbedder(4, log_dir=tmp_path, **SMALL).fit(rows.X, eras=rows.eras)
        from tensorboard.backend.event_processing.event_accumulator import (
            EventAccumulator,
        )

        events = EventAccumulator(str(tmp_path)).Reload()
    assert {"train_loss", "valid_loss"} <= set(events.Tags()["scalars"])
    assert len(events.Scalars("valid_loss")) == 4
