"""Masked losses against plain numpy, from the network's weights alone."""

import numpy as np
import pytest
import torch
from nn_parts import CPU, bins, normal, table_of
from torch.nn import functional as F

from numerai_features.nn._batches import HeldOutBatches, RowBatches, Table
from numerai_features.nn._layers import initialize
from numerai_features.nn._masked import MaskedNetwork, Masking, bin_surprise
from numerai_features.nn._threads import own_threads

N_ROWS, SHARE = 90, 0.3
EDGES = np.array([0.5, 1.5, 2.5, 3.5])


def silu(x):
    return x / (1 + np.exp(-x))


def forward(state, x, targets, moments=None):
    """Return the last hidden layer in float64; batch moments, or running ones."""
    n_blocks = len([name for name in state if name.endswith("norm.gamma")])
    names = ["network.encoder.0", "network.encoder.1", "network.decoder.0"][:n_blocks]
    for i, name in enumerate(names):
        of = ".linear.linear.weight" if i == 0 else ".linear.weight"
        x = x @ state[name + of].T
        if i == 0 and targets is not None:
            x = x + targets @ state["network.target_input.weight"].T
        mean, variance = x.mean(0), x.var(0)
        if moments == "running":
            mean, variance = state[f"{name}.norm.mean"], state[f"{name}.norm.variance"]
        x = (x - mean) / np.sqrt(variance + 1e-5)
        x = x * state[f"{name}.norm.gamma"] + state[f"{name}.norm.beta"]
        x = x if name == "network.encoder.1" else silu(x)
    return x


def output(state, h, name="output"):
    return h @ state[f"network.{name}.weight"].T + state[f"network.{name}.bias"]


def a_table(missing, weights, n_targets):
    X = bins(N_ROWS)
    X[:, 3] = 1
    rng = np.random.default_rng(5)
    y = rng.normal(size=(N_ROWS, n_targets))
    y[rng.random(y.shape) < 0.2] = np.nan
    y = y if n_targets else None
    if not missing:
        return X.astype(float), y, table_of(X, weights=weights, targets=y)
    X = X.astype(np.float64)
    X[rng.random(X.shape) < 0.1] = np.nan
    moments = np.nanmean(X, axis=0), np.nanstd(X, axis=0)
    return X, y, Table(X, *moments, CPU, weights, y)


def masking(table, loss, n_targets, has_missing):
    by_bins = loss == "bins"
    network = MaskedNetwork(table, (8,), 3, "silu", 0.0, 5 if by_bins else 1, n_targets)
    edges = None
    if by_bins:
        every = [np.full(table.n_features, edge) for edge in EDGES]
        edges = torch.stack([table.as_taken(edge) for edge in every])
    middle = table.as_taken(np.full(table.n_features, 2.0))
    task = Masking(network, SHARE, middle, table.varies, edges, has_missing)
    initialize(task, 3)
    return task


def expected(task, table, X, y, weights, loss, draws, rows, *, training=True):
    """Return the mean losses of masked cells and of masked targets."""
    state = {k: v.double().numpy() for k, v in task.state_dict().items()}
    X, w = X[rows], np.ones(len(rows)) if weights is None else weights[rows]
    masked = draws.chosen(SHARE, X.shape[1]).numpy()
    hidden = draws.chosen(0.5, 1).numpy() if training else np.ones((len(X), 1), bool)
    scale = np.where(table._scale < np.inf, table._scale, 1)
    known, varies = ~np.isnan(X), np.nanstd(X, axis=0) > 0
    full = np.where(known, X, 2.0)
    full[:, ~varies] = 1
    seen = np.where(masked & varies, 2.0, full)
    shown = None
    if y is not None:
        y = y[rows]
        shown = np.where(hidden, 0.0, np.nan_to_num(y))
    h = forward(
        state, (seen - table._center) / scale, shown, None if training else "running"
    )
    out = output(state, h)
    if loss == "bins":
        logits = out.reshape(len(X), 5, -1)
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        each = -np.log(np.take_along_axis(p, full.astype(int)[:, None], axis=1)[:, 0])
    else:
        each = (out - (full - table._center) / scale) ** 2
    count = masked & known & varies
    cells = (each * count * w[:, None]).sum()
    cells /= SHARE * (known * varies * w[:, None]).sum()
    if y is None:
        return cells, 0
    weight = (hidden & ~np.isnan(y)) * w[:, None]
    gap = output(state, h, "target_output") - np.nan_to_num(y)
    return cells, (gap**2 * weight).sum() / weight.sum()


@pytest.mark.parametrize("n_targets", [0, 2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("loss", ["bins", "mse"])
def test_the_loss_is_that_of_numpy(loss, missing, weighted, n_targets):
    weights = np.random.default_rng(0).random(N_ROWS) if weighted else None
    X, y, table = a_table(missing, weights, n_targets)
    task = masking(table, loss, n_targets, missing)

    def only_batch():
        [batch] = RowBatches(table, 1, np.arange(N_ROWS), N_ROWS).epoch(0)
        return batch

    rows = only_batch()._rows
    known = expected(task, table, X, y, weights, loss, only_batch().draws, rows)
    with own_threads(2):
        assert task.train()(only_batch()).item() == pytest.approx(sum(known), rel=1e-5)
    # Held-out rows: every target is masked, and running moments are used.
    task.eval()
    every = np.arange(N_ROWS)
    [batch] = HeldOutBatches(table, 1, every, N_ROWS)
    [again] = HeldOutBatches(table, 1, every, N_ROWS)
    known = expected(
        task, table, X, y, weights, loss, again.draws, every, training=False
    )
    found = task.metrics(task.evaluate(batch))
    assert found["loss"].item() == pytest.approx(sum(known), rel=1e-5)
    if n_targets:
        assert found["targets"].item() == pytest.approx(known[1], rel=1e-5)


@pytest.mark.parametrize("threads", [False, True])
def test_cross_entropy_and_its_gradient_are_torchs(threads):
    logits = normal(40, 5 * 7).requires_grad_()
    cells = torch.randint(5, (40, 7), generator=torch.Generator().manual_seed(0))
    weights = normal(40, 7, seed=1).abs()
    own = logits.detach().clone().double().requires_grad_()
    each = F.cross_entropy(own.view(40, 5, 7), cells, reduction="none")
    (3 * (each * weights).sum()).backward()
    if threads:
        with own_threads(2):
            loss = bin_surprise(logits, cells.to(torch.uint8), weights)
            (3 * loss).backward()
    else:
        loss = bin_surprise(logits, cells.to(torch.uint8), weights)
        (3 * loss).backward()
    assert loss.item() == pytest.approx((each * weights).sum().item(), rel=1e-5)
    np.testing.assert_allclose(logits.grad, own.grad, atol=1e-5)


def test_extreme_logits_stay_finite():
    logits = torch.tensor([[1e4, -1e4, 0.0, 0, 0]], requires_grad=True)
    loss = bin_surprise(
        logits, torch.tensor([[1]], dtype=torch.uint8), torch.ones(1, 1)
    )
    loss.backward()
    assert loss.item() == pytest.approx(2e4)
    assert logits.grad.isfinite().all()


def test_masked_cells_are_the_middle_and_no_others_change():
    X = bins(2000, 30)
    table = table_of(X)
    task = masking(table, "bins", 0, False)
    seen = []
    task.network.encoder[0].linear.register_forward_hook(
        lambda _, inputs, __: seen.append(inputs[0])
    )
    [batch] = RowBatches(table, 1, np.arange(2000), 2000).epoch(0)
    task.eval()(batch)
    masked = batch.x != seen[0]
    assert (seen[0][masked] == 2).all()
    share = masked[batch.x != 2].float().mean().item()
    assert share == pytest.approx(SHARE, abs=0.01)
