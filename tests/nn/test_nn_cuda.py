"""The same training on a GPU."""

import numpy as np
import pytest
import torch
from nn_parts import bins, denoising, table_of

from numerai_features import make_era_panel
from numerai_features.embedders import DAEEmbedder
from numerai_features.nn._batches import RowBatches, Table
from numerai_features.nn._draws import BLOCK, TRAINING, Draws
from numerai_features.nn._noise import swap
from numerai_features.nn._optimizer import TrainingSettings
from numerai_features.nn._training import Trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"),
]
GPU = torch.device("cuda")


def losses(device, weights=None):
    """Train without noise, so that both devices do the same."""
    X = bins(600)
    known = table_of(X)
    moments = X.mean(axis=0), X.std(axis=0)
    table = Table(X, *moments, torch.device(device), weights)
    task = denoising(1, known, level=0.0).to(device)
    settings = TrainingSettings(max_epochs=4, learning_rate=0.01)
    history = Trainer(task, RowBatches(table, 1, np.arange(600), 100), settings).run()
    return [record["train_loss"] for record in history]


@pytest.mark.parametrize("weights", [None, np.linspace(0.5, 2, 600)])
def test_losses_are_those_of_the_cpu(weights):
    np.testing.assert_allclose(losses("cuda", weights), losses("cpu", weights), 1e-3)


def test_swapped_cells():
    """Each cell with its probability, from another row of its block and column."""
    x = torch.arange(2200 * 6, device=GPU).reshape(2200, 6)
    changed = swap(x, 0.2, Draws(1, TRAINING, 0, 2200, device=GPU))
    moved = changed != x
    assert abs(moved.float().mean().item() - 0.2) < 0.015
    assert (changed % 6 == x % 6).all()
    assert (changed // (BLOCK * 6) == x // (BLOCK * 6)).all()
    again = swap(x, 0.2, Draws(1, TRAINING, 0, 2200, device=GPU))
    assert torch.equal(changed, again)
    other = swap(x, 0.2, Draws(2, TRAINING, 0, 2200, device=GPU))
    assert not torch.equal(changed, other)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_embedder(precision):
    """The table lies on the GPU; what is fitted transforms without it."""
    panel = make_era_panel(
        n_eras=20, rows_per_era=100, n_features=30, n_factors=4, random_state=1
    )
    options = {"hidden": (24, 12), "max_epochs": 10, "random_state": 0, "n_models": 2}
    on_gpu = DAEEmbedder(4, device="cuda", precision=precision, **options)
    on_gpu.fit(panel.X, eras=panel.eras)
    on_cpu = DAEEmbedder(4, device="cpu", precision="float32", **options)
    on_cpu.fit(panel.X, eras=panel.eras)
    a, b = (dae.history_[-1]["valid_r2"] for dae in (on_gpu, on_cpu))
    np.testing.assert_allclose(a, b, atol=0.03)
    assert on_gpu.transform(panel.X).shape == (panel.n_rows, 8)
