"""Several networks at once end as they do in a row."""

import numpy as np
import pytest
import torch

from numerai_features.nn._autoencoder import Autoencoder, Corruption, Denoising
from numerai_features.nn._batches import HeldOutBatches, RowBatches, Table
from numerai_features.nn._checkpoint import Checkpoint
from numerai_features.nn._ensemble import (
    stacked_gradients,
    train_all,
    train_at_once,
    train_in_a_row,
)
from numerai_features.nn._layers import initialize
from numerai_features.nn._optimizer import TrainingSettings
from numerai_features.nn._perceptron import Perceptron, Predicting
from numerai_features.nn._supervised import SupervisedAutoencoder, Supervising
from numerai_features.nn._training import Trainer, set_gradients

CPU = torch.device("cpu")
SEEDS = (1, 2, 3)
N_FEATURES, N_TRAIN, N_ROWS = 12, 500, 600


def make_task(kind, table):
    """A task that draws nothing: what is drawn at once is drawn otherwise."""
    if kind == "supervised":
        network = SupervisedAutoencoder(
            table, 2, 5, 4, (16, 8), "silu", 0.0, (0.0,) * 5
        )
        middle = torch.zeros(N_FEATURES)
        return Supervising(network, "mse", (1, 1, 1), middle, N_FEATURES)
    if kind == "perceptron":  # the second column is its benchmark
        middle = torch.zeros(N_FEATURES)
        options = {"dropout": 0.0, "feature_dropout": 0.0, "has_level": False}
        network = Perceptron(table, (8, 4), 1, "relu", middle=middle, **options)
        return Predicting(network, "corr", 0.3, middle, has_eras=False)
    network = Autoencoder(table, (8,), 3, "silu")
    corruption = Corruption("swap", 0.0, False, torch.zeros(N_FEATURES))
    return Denoising(network, corruption, 0.5 if kind == "plain" else 0.7)


def make_trainers(kind, weighted=False, **settings):
    """Trainers of one network each, on the same rows."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(N_ROWS, N_FEATURES)), rng.normal(size=(N_ROWS, 2))
    weights = rng.random(N_ROWS) if weighted else None
    settings = {
        "learning_rate": 0.01,
        "weight_decay": 0.1,
        "clip_norm": 0.5,
        **settings,
    }
    settings = TrainingSettings(settings.pop("max_epochs", 6), **settings)
    trainers = []
    for seed in SEEDS:
        targets = y if kind in ("supervised", "perceptron") else None
        table = Table(X, X.mean(axis=0), X.std(axis=0), CPU, weights, targets)
        task = make_task(kind, table)
        initialize(task, seed)
        batches = RowBatches(table, seed, np.arange(N_TRAIN), 64)
        held_out = HeldOutBatches(table, seed, np.arange(N_TRAIN, N_ROWS), 50)
        trainers.append(Trainer(task, batches, settings, held_out=held_out))
    return trainers


KINDS = ["plain", "weighed cells", "supervised", "perceptron"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_at_once_are_those_of_each(kind, weighted):
    row, together = (make_trainers(kind, weighted) for _ in range(2))
    batches = [next(trainer.steps()) for trainer in together]
    losses = stacked_gradients(together)(batches)
    for trainer, one, loss in zip(row, together, losses, strict=True):
        alone = set_gradients(
            trainer.task, next(trainer.steps()), trainer.settings.dtype
        )
        torch.testing.assert_close(loss, alone, rtol=1e-6, atol=0)
        ours = dict(one.task.named_parameters())
        for name, parameter in trainer.task.named_parameters():
            if parameter.requires_grad:
                torch.testing.assert_close(
                    ours[name].grad, parameter.grad, rtol=1e-4, atol=1e-6
                )
        buffers = dict(one.task.named_buffers())
        for name, buffer in trainer.task.named_buffers():
            torch.testing.assert_close(buffers[name], buffer, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"weighted": True, "ema_decay": 0.9}], ids=str)
def test_at_once_is_in_a_row(kind, options):
    row, together = (make_trainers(kind, **options) for _ in range(2))
    train_in_a_row(row)
    train_at_once(together)
    for alone, one in zip(row, together, strict=True):
        assert alone.best_epoch == one.best_epoch
        for ours, theirs in zip(one.history, alone.history, strict=True):
            for name in ("train_loss", "valid_loss"):
                assert ours[name] == pytest.approx(theirs[name], rel=1e-4)
        state = alone.task.state_dict()
        for name, value in one.task.state_dict().items():
            torch.testing.assert_close(value, state[name], rtol=1e-3, atol=1e-4)


def test_each_stops_when_its_own_patience_ends():
    options = {"learning_rate": 0.1, "schedule": "constant", "patience": 1}
    row, together = (make_trainers("plain", max_epochs=40, **options) for _ in range(2))
    train_in_a_row(row)
    train_at_once(together)
    lengths = [len(trainer.history) for trainer in together]
    assert len(set(lengths)) > 1
    assert lengths == [len(trainer.history) for trainer in row]
    assert [t.best_epoch for t in together] == [t.best_epoch for t in row]


def test_networks_of_a_row_have_nothing_of_each_other():
    trainers = make_trainers("plain", max_epochs=2)
    train_all(trainers)
    weights = [t.task.network.output.weight for t in trainers]
    assert not torch.allclose(weights[0], weights[1], atol=0.01)
    [_, alone, _] = make_trainers("plain", max_epochs=2)
    alone.run()
    assert torch.equal(alone.task.network.output.weight, weights[1])


def test_checkpoints_are_removed_when_all_have_ended(tmp_path):
    trainers = make_trainers("plain", max_epochs=2)
    files = [tmp_path / f"{number}.safetensors" for number in range(3)]
    for trainer, file in zip(trainers, files, strict=True):
        trainer.checkpoint = Checkpoint(file, every=0)
    seen = []
    trainers[2].report = lambda record: seen.append([f.exists() for f in files])
    train_all(trainers)
    assert seen == [[True, True, True]] * 2
    assert not list(tmp_path.iterdir())
