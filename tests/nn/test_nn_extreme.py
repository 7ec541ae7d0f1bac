"""The extreme network against plain numpy, and its size by hand."""

import numpy as np
import pytest
import torch
from nn_parts import bins, table_of

from numerai_features.nn._batches import HeldOutBatches, RowBatches
from numerai_features.nn._extreme import ExtremeAutoencoder, Restoring
from numerai_features.nn._layers import initialize

N_ROWS, F = 80, 12


def restoring(table, *, hidden=(9, 7), k=3, random_units=(5, 8), position=True, **more):
    options = {"feature_dropout": 0.0, "random_scale": 0.05, **more}
    network = ExtremeAutoencoder(
        table, hidden, k, "relu", random_units, options["random_scale"],
        options["feature_dropout"], torch.full((table.n_features,), 2.0), position,
    )  # fmt: skip
    task = Restoring(network, network.middle, table.n_varying, has_missing=False)
    initialize(task, 1)
    return task


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def forward(task, t, positions):
    """Return the code and the restored rows, by batch moments, in float64."""
    state = {k: v.double().numpy() for k, v in task.network.state_dict().items()}
    near, far = (
        getattr(task.network, name).double().numpy() for name in ("near", "far")
    )
    random = sigmoid(np.maximum(t @ near, 0) @ far)
    x = np.concatenate([t, random, positions], axis=1)
    names = ["encoder.0", "encoder.1", "encoder.2", "decoder.0", "decoder.1"]
    code = None
    for i, name in enumerate(names):
        x = x @ state[f"{name}.linear" + (".linear" if i == 0 else "") + ".weight"].T
        x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
        x = x * state[f"{name}.norm.gamma"] + state[f"{name}.norm.beta"]
        x = sigmoid(x) if i == 2 else np.maximum(x, 0)
        code = x if i == 2 else code
    return code, x @ state["output.weight"].T + state["output.bias"]


@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_is_that_of_numpy(weighted):
    rng = np.random.default_rng(0)
    positions, X = rng.uniform(0, 11, (N_ROWS, 1)), bins(N_ROWS)
    X[:, 3] = 1
    weights = rng.random(N_ROWS) if weighted else None
    table = table_of(X, weights=weights, targets=positions)
    task = restoring(table).train()
    [batch] = RowBatches(table, 1, np.arange(N_ROWS), N_ROWS).epoch(0)
    rows, scale = batch._rows, np.where(X.std(0) > 0, X.std(0), 1)
    t = (X[rows] - X.mean(0)) / scale
    _, restored = forward(task, t, positions[rows])
    w = np.ones(N_ROWS) if weights is None else weights[rows]
    error = ((restored - t) ** 2 * w[:, None]).sum() / (w.sum() * (F - 1))
    assert task(batch).item() == pytest.approx(error, rel=1e-4)


def test_parameters_are_counted_by_hand():
    """As published: 100 and 1000 random units, 1000 and 1000, 12 latents."""
    table = table_of(bins(40, 50))
    task = restoring(table, hidden=(1000, 1000), k=12, random_units=(100, 1000))
    frozen = 50 * 100 + 100 * 1000
    assert sum(buffer.numel() for buffer in (task.network.near, task.network.far)) == (
        frozen
    )
    inputs = 50 + 1000 + 1  # features, random units, position
    matrices = inputs * 1000 + 1000 * 1000 + 1000 * 12  # encoder
    matrices += 12 * 1000 + 1000 * 1000 + 1000 * 50  # decoder
    norms = 2 * (1000 + 1000 + 12 + 1000 + 1000)
    learned = sum(p.numel() for p in task.parameters())
    assert learned == matrices + norms + 50
    task = restoring(
        table, hidden=(1000, 1000), k=12, random_units=(100, 1000), position=False
    )
    assert learned - sum(p.numel() for p in task.parameters()) == 1000


def test_random_weights_are_normal_and_are_not_trained():
    table = table_of(bins(200, 30), targets=np.zeros((200, 1)))
    task = restoring(table, random_units=(100, 1000), random_scale=0.05)
    for weights in (task.network.near, task.network.far):
        assert weights.std().item() == pytest.approx(0.05, rel=0.05)
        assert abs(weights.mean().item()) < 0.005
    far = task.network.far.flatten()
    inside = (far.abs() < 0.05).double().mean().item()
    assert inside == pytest.approx(0.6827, abs=0.01)  # of a normal within a deviation
    names = [*dict(task.named_parameters()), *task.state_dict()]
    assert not any(name.endswith((".near", ".far")) for name in names)
    again = restoring(table, random_units=(100, 1000), random_scale=0.05)
    assert torch.equal(task.network.near, again.network.near)


def test_features_are_dropped_and_random_units_are_of_whole_rows():
    table = table_of(bins(4000), targets=np.zeros((4000, 1)))
    task, seen = restoring(table, feature_dropout=0.3).train(), []

    def watched(x, draws):
        seen.append(x)
        return x

    [batch] = RowBatches(table, 1, np.arange(4000), 4000).epoch(0)
    network = task.network
    network.encoder[0].after = watched
    network.encoder = network.encoder[:1]
    network.decoder = torch.nn.ModuleList()
    network.below_output(batch.x, batch.draws, batch.y)
    network.eval().below_output(batch.x, batch.draws, batch.y)
    dropped, whole = seen
    # Dropout leaves the mean as it is, and the random units' part too.
    gap = (dropped - whole).mean(0).abs().max().item()
    assert gap < 0.05 * whole.std().item()
    assert (dropped - whole).std().item() > 0.2 * whole.std().item()
    weight = network.first.linear.weight.clone()
    with torch.no_grad():
        network.first.linear.weight[:, :F] = 0
    seen.clear()
    network.train().below_output(batch.x, batch.draws, batch.y)
    network.eval().below_output(batch.x, batch.draws, batch.y)
    assert torch.equal(*seen)
    assert not torch.equal(weight, network.first.linear.weight)


@pytest.mark.parametrize("output", ["latent", "argmax", "both"])
def test_the_encoder_is_the_network_at_one_position(output):
    X = bins(N_ROWS)
    table = table_of(X, targets=np.full((N_ROWS, 1), 11.0))
    task = restoring(table).train()
    [batch] = RowBatches(table, 1, np.arange(N_ROWS), N_ROWS).epoch(0)
    for _ in range(200):  # running moments are those of all rows
        task(batch)
    t = (X - X.mean(0)) / X.std(0)
    code, _ = forward(task, t, np.full((N_ROWS, 1), 11.0))
    units = X.mean(0), X.std(0)
    encoder = task.network.code_at(11.0, units, np.float64, output)
    found = encoder.transform(X)
    largest = code.argmax(axis=1)[:, None]
    expected = {"latent": code, "argmax": largest, "both": np.hstack([code, largest])}
    np.testing.assert_allclose(found, expected[output], atol=1e-5)


def test_held_out_rows_are_whole():
    X = bins(N_ROWS)
    table = table_of(X, targets=np.zeros((N_ROWS, 1)))
    losses = []
    for share in (0.0, 0.9):
        task = restoring(table, feature_dropout=share).eval()
        [batch] = HeldOutBatches(table, 1, np.arange(N_ROWS), N_ROWS)
        losses.append(task.metrics(task.evaluate(batch))["loss"].item())
    assert losses[0] == losses[1]
