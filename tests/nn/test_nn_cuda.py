"""The same training on a GPU, where `make gpu` runs this file."""

import numpy as np
import pytest
import torch

from numerai_features.datasets import make_era_panel
from numerai_features.embedders import DAEEmbedder, SupervisedAEMLP, UMAPEmbedder
from numerai_features.nn import _batches
from numerai_features.nn._autoencoder import Autoencoder, Corruption, Denoising
from numerai_features.nn._batches import HeldOutBatches, RowBatches, Table
from numerai_features.nn._checkpoint import Checkpoint
from numerai_features.nn._draws import TRAINING, Draws
from numerai_features.nn._ensemble import (
    stacked_gradients,
    train_all,
    train_at_once,
    train_in_a_row,
)
from numerai_features.nn._layers import initialize
from numerai_features.nn._noise import swap
from numerai_features.nn._optimizer import TrainingSettings
from numerai_features.nn._supervised import SupervisedAutoencoder, Supervising
from numerai_features.nn._training import Trainer, set_gradients

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"),
]
N_TRAIN, N_ROWS, N_FEATURES = 610, 700, 12
KINDS = ["plain", "weighed cells", "supervised"]


def make_trainers(kind, device, seeds=(0,), *, level=0.0, weights=None, **settings):
    """Trainers of a network each; without noise both devices do the same."""
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(N_ROWS, 3)) @ rng.normal(size=(3, N_FEATURES))
    X = np.digitize(factors, [-2, -0.7, 0.7, 2]).astype(np.int8)
    y = factors[:, :2] if kind == "supervised" else None
    table = Table(X, X.mean(axis=0), X.std(axis=0), torch.device(device), weights, y)
    options = {"max_epochs": 4, "learning_rate": 0.01, "clip_norm": 1.0, **settings}
    trainers = []
    for seed in seeds:
        middle = torch.full((N_FEATURES,), 2.0)
        if kind == "supervised":
            shares = (level,) * 5
            network = SupervisedAutoencoder(
                table, 2, 5, 4, (16, 8), "silu", level, shares
            )
            task = Supervising(network, "mse", (1, 1, 1), middle, N_FEATURES)
        else:
            network = Autoencoder(table, (8,), 3, "silu", level)
            emphasis = 0.5 if kind == "plain" else 0.7
            corruption = Corruption("swap", level, False, middle)
            task = Denoising(network, corruption, emphasis)
        initialize(task, seed)
        # Batches of 101 and 102 rows.
        batches = RowBatches(table, seed, np.arange(N_TRAIN), 102)
        held_out = HeldOutBatches(table, seed, np.arange(N_TRAIN, N_ROWS), 50)
        task = task.to(device)
        trainers.append(
            Trainer(task, batches, TrainingSettings(**options), held_out=held_out)
        )
    return trainers


def losses(trainers):
    names = ("train_loss", "valid_loss")
    return [[[record[n] for n in names] for record in t.history] for t in trainers]


@pytest.mark.parametrize("weights", [None, np.linspace(0.5, 2, N_ROWS)])
@pytest.mark.parametrize("kind", KINDS)
def test_losses_are_those_of_the_cpu(kind, weights):
    found = []
    for device in ("cuda", "cpu"):
        trainers = make_trainers(kind, device, weights=weights, ema_decay=0.9)
        train_all(trainers)
        found.append(losses(trainers))
    np.testing.assert_allclose(*found, rtol=5e-3)


def test_rows_of_a_table_that_does_not_fit_are_sent(monkeypatch):
    found = []
    for share in (0.7, 0.0):
        monkeypatch.setattr(_batches, "_MOST_OF_THE_GPU", share)
        trainers = make_trainers("plain", "cuda")
        train_all(trainers)
        found.append(losses(trainers))
    np.testing.assert_allclose(*found, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_at_once_is_in_a_row(kind, dtype):
    row, together = (
        make_trainers(kind, "cuda", (1, 2, 3), dtype=dtype) for _ in range(2)
    )
    train_in_a_row(row)
    train_at_once(together)
    tolerance = 1e-3 if dtype == torch.float32 else 0.05
    np.testing.assert_allclose(losses(together), losses(row), rtol=tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_at_once_are_those_of_each(kind):
    row, together = (make_trainers(kind, "cuda", (1, 2, 3)) for _ in range(2))
    batches = [next(trainer.steps()) for trainer in together]
    each = stacked_gradients(together)(batches)
    for alone, one, loss in zip(row, together, each, strict=True):
        batch = next(alone.steps())
        expected = set_gradients(alone.task, batch, torch.float32)
        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)
        ours = dict(one.task.named_parameters())
        for name, parameter in alone.task.named_parameters():
            if parameter.requires_grad:
                torch.testing.assert_close(
                    ours[name].grad, parameter.grad, rtol=1e-3, atol=1e-5
                )


@pytest.mark.parametrize("kind", KINDS)
def test_each_network_draws_its_own(kind):
    """Networks with the same weights and rows end apart by what is drawn alone."""
    trainers = make_trainers(kind, "cuda", (1, 1, 1), level=0.2)
    train_all(trainers)
    a, b, c = losses(trainers)
    assert not np.allclose(a, b, rtol=1e-5)
    assert not np.allclose(b, c, rtol=1e-5)
    np.testing.assert_allclose(a, b, rtol=0.5)


def test_same_seeds_give_the_same_losses():
    found = []
    for _ in range(2):
        trainers = make_trainers("plain", "cuda", (1, 2), level=0.2)
        train_all(trainers)
        found.append(losses(trainers))
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_stopped_ones_go_on_from_checkpoints_of_different_steps(tmp_path):
    """Their batches then differ in size, now and then."""

    stopped, resumed, straight = (
        make_trainers("plain", "cuda", (1, 2, 3)) for _ in range(3)
    )
    for number, (before, after) in enumerate(zip(stopped, resumed, strict=True)):
        file = tmp_path / f"{number}.safetensors"
        before.checkpoint = after.checkpoint = Checkpoint(file, every=0)
        # One is written when the batch that follows is asked for.
        for step, batch in enumerate(before.steps()):
            if step == 7 + number:
                break
            before.take_step(set_gradients(before.task, batch, torch.float32))
    train_all(resumed)
    train_all(straight)
    np.testing.assert_allclose(losses(resumed), losses(straight), rtol=1e-3)
    assert not list(tmp_path.iterdir())


def test_swapped_cells():
    """Each cell with its probability, from another row of its block and column."""
    x = torch.arange(1100 * 6, device="cuda").reshape(1100, 6)
    device = torch.device("cuda")
    changed = swap(x, 0.2, Draws(1, TRAINING, 0, 1100, device=device))
    moved = changed != x
    assert abs(moved.float().mean().item() - 0.2) < 0.02
    assert (changed % 6 == x % 6).all()
    assert (changed // 6 // 512 == x // 6 // 512).all()
    again = swap(x, 0.2, Draws(1, TRAINING, 0, 1100, device=device))
    assert torch.equal(changed, again)


@pytest.fixture(scope="module")
def rows():
    return make_era_panel(
        n_eras=20, rows_per_era=100, n_features=30, n_factors=4, random_state=1
    )


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_denoising_embedder(rows, precision):
    options = {"hidden": (24, 12), "max_epochs": 10, "random_state": 0, "n_models": 2}
    on_gpu = DAEEmbedder(4, device="cuda", precision=precision, **options)
    on_gpu.fit(rows.X, eras=rows.eras)
    on_cpu = DAEEmbedder(4, device="cpu", precision="float32", **options)
    on_cpu.fit(rows.X, eras=rows.eras)
    a, b = (dae.history_[-1]["valid_r2"] for dae in (on_gpu, on_cpu))
    np.testing.assert_allclose(a, b, atol=0.03)
    assert on_gpu.transform(rows.X).shape == (rows.n_rows, 8)
    on_gpu.partial_fit(rows.X, eras=rows.eras)
    assert min(on_gpu.history_[-1]["valid_r2"]) > min(a) - 0.05


@pytest.mark.parametrize("n_models", [1, 2])
@pytest.mark.parametrize(
    "options",
    [
        {"noise": "masking", "mask_head": True, "emphasis": 0.7},
        {"noise": "cutout", "dropout": 0.1, "noise_level": 0.2},
        {"noise": "gaussian", "ema_decay": 0.9},
        {"noise": "relative", "clip_norm": 1.0},
        {"batching": "era"},
    ],
    ids=str,
)
def test_every_noise_of_rows_with_gaps(rows, options, n_models):
    X = rows.X.astype(np.float32)
    X[::7, 3] = np.nan
    dae = DAEEmbedder(
        4, hidden=(16,), max_epochs=4, random_state=0, device="cuda",
        n_models=n_models, **options,
    )  # fmt: skip
    dae.fit(X, eras=rows.eras)
    assert np.isfinite(dae.transform(X)).all()
    history = [np.mean(record["train_loss"]) for record in dae.history_]
    assert history[-1] < history[0]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("n_models", [1, 2])
def test_supervised_embedder(rows, precision, n_models):
    names = rows.target_names[:2]
    y = np.column_stack([rows.y(name) for name in names])
    options = {
        "hidden": (32, 16), "dropout": (0.1,) * 5, "max_epochs": 6, "random_state": 0,
        "n_models": n_models,
    }  # fmt: skip
    found = []
    for device, chosen in (("cuda", precision), ("cpu", "float32")):
        net = SupervisedAEMLP(8, device=device, precision=chosen, **options)
        net.fit(rows.X, y, eras=rows.eras)
        assert np.isfinite(net.predict(rows.X)).all()
        found.append([net.history_[-1][name] for name in ("valid_loss", "valid_first")])
    np.testing.assert_allclose(*found, rtol=0.15)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_umap(rows, precision):
    options = {"max_epochs": 15, "random_state": 0, "reconstruction_weight": 0.5}
    found = []
    for device, chosen in (("cuda", precision), ("cpu", "float32")):
        umap = UMAPEmbedder(5, device=device, precision=chosen, **options)
        umap.fit(rows.X, eras=rows.eras)
        assert np.isfinite(umap.transform(rows.X)).all()
        assert umap.neighbor_recall_ > 0.99
        found.append([*umap.history_[-1]["valid_loss"], umap.feature_recall_])
    np.testing.assert_allclose(*found, rtol=0.1)
