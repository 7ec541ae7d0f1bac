import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import PredefinedSplit

from numerai_features.embedders import SequenceDAE
from numerai_features.embedders._sequences import read_sequences
from numerai_features.nn._training import Trainer

SMALL = {"hidden": 6, "max_epochs": 3, "random_state": 0}


def pendulum(n, n_steps, seed, dt=0.1):
    """Return trajectories of damped pendulums, (n, n_steps, 3), with random pushes.

    The angle is from the upright, the speed after the push of the third column.
    """
    rng = np.random.default_rng(seed)
    angle, speed = np.pi + rng.uniform(-1.5, 1.5, n), rng.normal(size=n)
    pushes = rng.normal(0, 1.5, (n, n_steps)) * (rng.random((n, n_steps)) < 0.05)
    out = np.empty((n, n_steps, 3))
    for t in range(n_steps):
        speed = speed + dt * (9.81 * np.sin(angle) - 0.5 * speed) + pushes[:, t]
        angle = angle + dt * speed
        out[:, t] = np.column_stack([angle, speed, pushes[:, t]])
    return out


@pytest.fixture(scope="module")
def waves():
    """Return sequences of three columns and seven steps."""
    rng = np.random.default_rng(0)
    phase = rng.uniform(0, 6, (90, 1, 1))
    clean = np.sin(phase + np.arange(7)[:, None] * [0.3, 0.7, 1.1])
    return clean + 0.1 * rng.normal(size=clean.shape)


@pytest.fixture(scope="module")
def ragged(waves):
    lengths = np.random.default_rng(1).integers(1, 8, len(waves))
    return [x[:n] for x, n in zip(waves, lengths, strict=True)]


@pytest.fixture(scope="module")
def fitted(ragged):
    return SequenceDAE(4, **SMALL).fit(ragged)


@pytest.fixture(scope="module")
def networks():
    X, known = pendulum(2000, 20, seed=0), {}
    for context in (None, [2]):
        dae = SequenceDAE(
            hidden=48, context=context, batch_size=64, learning_rate=0.01,
            max_epochs=30, random_state=0,
        )  # fmt: skip
        known[context is not None] = dae.fit(X if context else X[..., :2])
    return known


@pytest.fixture(scope="module")
def errors(networks):
    """Return root mean squared errors in deviations of the columns."""
    clean = pendulum(500, 20, seed=1)
    noise = 0.2 * np.random.default_rng(2).standard_normal((500, 20, 2))
    noisy = clean.copy()
    noisy[..., :2] *= 1 + noise
    told = {"noise": noisy[..., :2]}
    for context, dae in networks.items():
        restored = dae.reconstruct(noisy if context else noisy[..., :2])
        told[context] = restored[..., :2]
    scale = clean[..., :2].std(axis=(0, 1))
    return {
        name: np.sqrt((((x - clean[..., :2]) / scale) ** 2).mean())
        for name, x in told.items()
    }


@pytest.mark.slow
class TestPendulum:
    """Trajectories that the network has not seen, with 20 % proportional noise."""

    def test_a_third_of_the_noise_is_left(self, errors):
        assert errors[False] < errors["noise"] / 3
        assert errors[True] < errors["noise"] / 3

    def test_known_pushes_help(self, errors):
        assert errors[True] < 0.75 * errors[False]

    @pytest.mark.parametrize("context", [False, True])
    def test_what_is_no_trajectory_scores_far_below(self, networks, context):
        """Steps that are drawn from all trajectories: the same values, no motion."""
        real = pendulum(500, 20, seed=1)[..., : 2 + context]
        steps = real.reshape(-1, real.shape[2])
        random = np.random.default_rng(3).permutation(steps).reshape(real.shape)
        scores = networks[context].score_samples(np.concatenate([real, random]))
        assert roc_auc_score(np.arange(1000) < 500, scores) > 0.99


class TestForms:
    """Sequences are the same, however they come."""

    def test_rows_with_groups(self, waves):
        dae = SequenceDAE(4, **SMALL).fit(waves)
        rows, groups = waves.reshape(-1, 3), np.repeat(np.arange(90), 7)
        order = np.tile(np.arange(7), 90)
        mixed = np.random.default_rng(0).permutation(len(rows))
        same = SequenceDAE(4, **SMALL).fit(rows, groups=groups)
        np.testing.assert_array_equal(same.transform(waves), dae.transform(waves))
        given = {"groups": groups[mixed], "order": order[mixed]}
        first_seen = pd.unique(groups[mixed])
        np.testing.assert_allclose(
            dae.transform(rows[mixed], **given),
            dae.transform(waves)[first_seen],
            atol=1e-6,
        )
        np.testing.assert_allclose(
            dae.reconstruct(rows[mixed], **given),
            dae.reconstruct(waves).reshape(-1, 3)[mixed],
            atol=1e-6,
        )
        np.testing.assert_allclose(
            dae.score_samples(rows[mixed], **given),
            dae.score_samples(waves)[first_seen],
        )

    def test_absent_steps_and_lists(self, fitted, waves, ragged):
        padded = np.full(waves.shape, np.nan)
        for x, own in zip(padded, ragged, strict=True):
            x[: len(own)] = own
        same = SequenceDAE(4, **SMALL).fit(padded)
        np.testing.assert_array_equal(same.transform(padded), fitted.transform(ragged))
        restored, tables = same.reconstruct(padded), fitted.reconstruct(ragged)
        np.testing.assert_array_equal(np.isnan(restored), np.isnan(padded))
        for x, own in zip(restored, tables, strict=True):
            np.testing.assert_array_equal(x[: len(own)], own)

    def test_alone_and_among_others(self, fitted, ragged):
        """In another order, or alone: padding and company count nowhere."""
        mixed = np.random.default_rng(0).permutation(len(ragged))
        whole = fitted.transform(ragged)
        some = fitted.transform([ragged[i] for i in mixed])
        np.testing.assert_allclose(some, whole[mixed], atol=1e-6)
        alone = np.concatenate([fitted.transform([x]) for x in ragged[:9]])
        np.testing.assert_allclose(alone, whole[:9], atol=1e-6)
        scores = fitted.score_samples(ragged)
        assert fitted.score(ragged) == scores.mean()
        np.testing.assert_allclose(fitted.score_samples(ragged[3:5]), scores[3:5])

    @pytest.mark.parametrize("kind", [pd.DataFrame, pl.DataFrame])
    def test_lists_of_frames(self, ragged, fitted, kind):
        frames = [kind(dict(zip("abc", x.T, strict=True))) for x in ragged]
        named = SequenceDAE(4, context=["b"], **SMALL).fit(frames)
        assert list(named.feature_names_in_) == list("abc")
        assert list(named.context_) == [1]
        np.testing.assert_array_equal(
            SequenceDAE(4, **SMALL).fit(frames).transform(frames),
            fitted.transform(ragged),
        )
        other = frames[0][["b", "a", "c"]]
        with pytest.raises(ValueError, match="feature names"):
            named.transform([frames[0], other])

    def test_scores_are_errors_of_what_is_restored(self, fitted, ragged):
        restored = fitted.reconstruct(ragged)
        expected = [
            -(((r - x) / fitted.scale_) ** 2).mean()
            for r, x in zip(restored, ragged, strict=True)
        ]
        np.testing.assert_allclose(fitted.score_samples(ragged), expected, rtol=1e-4)

    def test_what_is_not_known_has_no_score(self, fitted, waves):
        """An error of no cell would be 0, the best of all."""
        rows = np.vstack([waves[0], np.full((2, 3), np.nan)])
        with pytest.raises(ValueError, match="sequence 1 has no known cell"):
            fitted.score_samples(rows, groups=[0] * 7 + [1] * 2)
        seen = SequenceDAE(2, context=[0], **SMALL).fit(waves)
        rows[7:, 0] = 1
        with pytest.raises(ValueError, match="sequence 1 has no known cell"):
            seen.score_samples(rows, groups=[0] * 7 + [1] * 2)

    def test_many_sequences_are_restored_in_blocks(self, fitted, waves):
        many = np.tile(waves, (500, 1, 1))
        sequences = read_sequences(fitted, many, reset=False)
        blocks = list(sequences.by_length(2 * 3))
        assert len(blocks) > 1
        assert max(8 * 3 * steps.size for _, steps in blocks) <= 4 << 20
        every = np.concatenate([mine for mine, _ in blocks])
        np.testing.assert_array_equal(every, np.arange(len(many)))
        scores = fitted.score_samples(many)
        np.testing.assert_allclose(scores[-90:], fitted.score_samples(waves), rtol=1e-5)

    def test_labels_of_groups_keep_their_types(self, fitted, waves):
        """numpy makes text of a list of both: "1" would be 1, and nan a label."""
        labels = ["1", 1, "1", 1.0, 2, 2, 2]
        assert len(fitted.transform(waves[0], groups=labels)) == 3
        labels[4] = float("nan")
        with pytest.raises(ValueError, match="groups is missing in row 4"):
            fitted.transform(waves[0], groups=labels)

    def test_context_comes_back_as_it_came(self, waves):
        dae = SequenceDAE(4, context=[1], **SMALL).fit(waves)
        restored = dae.reconstruct(waves)
        np.testing.assert_allclose(restored[..., 1], waves[..., 1], rtol=1e-6)
        other = waves.copy()
        other[..., 1] += 1
        assert np.abs(dae.reconstruct(other) - restored)[..., [0, 2]].max() > 1e-4
        corrupted = dae._corrupt(waves, 0)
        np.testing.assert_array_equal(corrupted[..., 1], waves[..., 1])
        assert (corrupted != waves)[..., [0, 2]].all()

    def test_bytes_stay_bytes(self):
        X = np.random.default_rng(0).integers(0, 5, (60, 4, 3)).astype(np.int8)
        dae = SequenceDAE(2, **SMALL).fit(X)
        np.testing.assert_allclose(
            dae.transform(X),
            SequenceDAE(2, **SMALL).fit(X.astype(np.int16)).transform(X),
            atol=0.5,
        )
        assert dae.missing_values_.tolist() == [2, 2, 2]

    @pytest.mark.parametrize("noise", ["proportional", "gaussian", "masking", "none"])
    def test_corrupted_as_in_training(self, waves, noise):
        far = waves + np.array([0, 2, 1e6])
        dae = SequenceDAE(2, noise=noise, noise_level=0.3, **SMALL).fit(far)
        change = (dae._corrupt(far, 1) - far).reshape(-1, 3)
        if noise == "none":
            assert not change.any()
        elif noise == "masking":
            np.testing.assert_allclose((change != 0).mean(), 0.3, atol=0.04)
        else:
            size = dae.scale_ * (0.3 if noise == "gaussian" else 1)
            if noise == "proportional":
                size = np.minimum(0.3 * np.abs(far.reshape(-1, 3)), 3 * dae.scale_)
            np.testing.assert_allclose((change / size).std(axis=0), [1] * 3, rtol=0.15)


class TestFits:
    @pytest.mark.parametrize("cell", ["gru", "rnn"])
    def test_restores_better_than_the_mean(self, waves, cell):
        """The mean has an error of 1."""
        dae = SequenceDAE(6, cell=cell, hidden=24, max_epochs=40, random_state=0)
        assert dae.set_params(learning_rate=0.01).fit(waves).score(waves) > -0.6

    def test_early_stopping_holds_out_whole_sequences(self, ragged, monkeypatch):
        seen = []
        plain = Trainer.__init__

        def look(self, task, batches, settings, *, held_out=None, **rest):
            seen.append((batches.sequences, np.concatenate(held_out.parts)))
            plain(self, task, batches, settings, held_out=held_out, **rest)

        monkeypatch.setattr(Trainer, "__init__", look)
        fold = np.where(np.arange(90) % 3, -1, 0)
        SequenceDAE(2, validation=PredefinedSplit(fold), **SMALL).fit(ragged)
        train, valid = seen.pop()
        np.testing.assert_array_equal(np.sort(valid), np.arange(0, 90, 3))
        np.testing.assert_array_equal(train, np.flatnonzero(np.arange(90) % 3))
        eras = np.arange(90) // 10
        SequenceDAE(2, validation=2, **SMALL).fit(ragged, eras=eras)
        train, valid = seen.pop()
        np.testing.assert_array_equal(np.sort(valid), np.arange(70, 90))
        assert train.max() < 50  # the two eras between are purged

    def test_eras_of_rows_that_count(self, waves):
        rows, groups = waves[:30].reshape(-1, 3), np.repeat(np.arange(30), 7)
        eras = np.tile(np.arange(7), 30) + groups
        weights = (groups > 2).astype(float)
        dae = SequenceDAE(2, **SMALL)
        dae.fit(rows, groups=groups, eras=eras, sample_weight=weights)
        np.testing.assert_array_equal(dae.fitted_eras_, np.arange(3, 36))

    def test_weights(self, ragged):
        some = np.arange(90) % 2
        dae = SequenceDAE(3, validation=None, **SMALL)
        light = dae.fit(ragged, sample_weight=some).transform(ragged)
        np.testing.assert_allclose(
            dae.fit(ragged, sample_weight=7.0 * some).transform(ragged),
            light,
            atol=1e-4,
        )
        heavy = dae.fit(ragged, sample_weight=1 + 50 * some).transform(ragged)
        even = dae.fit(ragged).transform(ragged)
        assert np.abs(heavy - even).max() > 1e-3

    def test_missing_cells(self, ragged):
        holes = [x.copy() for x in ragged]
        for x in holes[::2]:
            x[0, 1] = np.nan
        dae = SequenceDAE(3, **SMALL).fit(holes)
        filled = [np.where(np.isnan(x), dae.missing_values_, x) for x in holes]
        np.testing.assert_array_equal(dae.transform(holes), dae.transform(filled))
        assert np.isfinite(dae.score_samples(holes)).all()
        with pytest.raises(ValueError, match="missing='raise'"):
            SequenceDAE(3, missing="raise", **SMALL).fit(holes)

    def test_several_networks(self, ragged):
        dae = SequenceDAE(3, n_models=2, **SMALL)
        Z = dae.fit_transform(ragged)
        assert Z.shape == (90, 6)
        np.testing.assert_array_equal(Z, dae.transform(ragged))
        one = SequenceDAE(3, **SMALL).fit(ragged)
        np.testing.assert_allclose(Z[:, :3], one.transform(ragged), atol=1e-5)

    @pytest.mark.parametrize("cell", ["gru", "rnn"])
    def test_a_cut_off_fit_resumes_to_the_bit(self, ragged, cell, tmp_path):
        dae = SequenceDAE(3, cell=cell, batch_size=16, ema_decay=0.9, **SMALL)
        whole = dae.fit(ragged).transform(ragged)
        dae.set_params(checkpoint=tmp_path, checkpoint_every=0)
        save, states = Trainer.save, []

        def cut_off(self):
            save(self)
            states.append(1)
            if len(states) == 7:  # in the second epoch
                raise ConnectionError("power cut")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trainer, "save", cut_off)
            with pytest.raises(ConnectionError):
                dae.fit(ragged)
        np.testing.assert_array_equal(dae.fit(ragged).transform(ragged), whole)
        assert not list(tmp_path.iterdir())

    def test_threads_do_not_matter_to_the_bit(self, ragged):
        latents = [
            SequenceDAE(3, n_jobs=n, **SMALL).fit(ragged).transform(ragged)
            for n in (1, 2)
        ]
        np.testing.assert_array_equal(*latents)

    def test_the_pickle_works_without_torch(self, fitted, ragged, tmp_path):
        told = fitted.transform(ragged), fitted.score_samples(ragged)
        (tmp_path / "dae.pkl").write_bytes(pickle.dumps((fitted, ragged, told)))
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
                dae, X, told = pickle.load(file)
            np.testing.assert_array_equal(dae.transform(X), told[0])
            np.testing.assert_array_equal(dae.score_samples(X), told[1])
            assert "torch" not in sys.modules
            """
        )
        subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)


class TestValidation:
    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"groups": [1, 2]}, r"groups must have shape \(6,\)"),
            ({"groups": [1, 1, None, 2, 2, 2]}, "groups is missing in row 2"),
            ({"order": range(6)}, "order needs groups"),
            (
                {"groups": [1] * 3 + [2] * 3, "order": [1, 2]},
                r"order must be numbers of shape \(6,\)",
            ),
            (
                {"groups": [1] * 3 + [2] * 3, "order": [1, 2, 1, 1, 2, 3]},
                "order is 1 in rows 0 and 2, of one sequence",
            ),
            ({"groups": ["a"] * 6}, "X has 1 sequence .* expected 2 or more"),
        ],
    )
    def test_rows(self, given, message):
        X = np.random.default_rng(0).normal(size=(6, 2))
        with pytest.raises(ValueError, match=message):
            SequenceDAE(2, **SMALL).fit(X, **given)

    def test_what_is_cut_already(self, waves):
        with pytest.raises(ValueError, match="groups is for rows"):
            SequenceDAE(2, **SMALL).fit(waves, groups=np.arange(90))
        with pytest.raises(ValueError, match=r"sample_weight must have shape \(90,\)"):
            SequenceDAE(2, **SMALL).fit(waves, sample_weight=np.ones(630))

    def test_sequences_without_steps(self, waves):
        empty = waves.copy()
        empty[4] = np.nan
        with pytest.raises(ValueError, match="sequence 4 has no step"):
            SequenceDAE(2, **SMALL).fit(empty)
        with pytest.raises(ValueError, match=r"X\[1\] must be a table"):
            SequenceDAE(2, **SMALL).fit([waves[0], waves[1, :0]])

    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({"noise": "masking", "noise_level": 1}, "must be below 1"),
            ({"context": [0, 1, 2]}, "leaves none of 3 features"),
            ({"context": [7]}, "context must be names of columns, or .*; got 7"),
            (
                {"context": ["a"]},
                "context names 'a', but the columns of X have no names",
            ),
        ],
    )
    def test_parameters(self, waves, params, message):
        with pytest.raises(ValueError, match=message):
            SequenceDAE(2, **SMALL, **params).fit(waves)

    def test_nothing_to_restore(self, waves):
        flat = waves.copy()
        flat[..., [0, 2]] = 3
        with pytest.raises(ValueError, match="nothing to restore"):
            SequenceDAE(2, context=[1], **SMALL).fit(flat)
