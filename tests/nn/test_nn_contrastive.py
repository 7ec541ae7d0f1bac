"""InfoNCE against plain numpy, from the network's weights alone."""

import numpy as np
import pytest
import torch
from nn_parts import CPU, bins, table_of

from numerai_features.nn._batches import EraBatches, RowBatches, Table
from numerai_features.nn._contrastive import Contrasting, ContrastiveNetwork
from numerai_features.nn._draws import TRAINING, Draws
from numerai_features.nn._layers import initialize
from numerai_features.nn._noise import resample
from numerai_features.nn._threads import own_threads

N_ROWS, F, SHARE, TEMPERATURE = 90, 12, 0.5, 0.3


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def normalized(x, state, name):
    x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    return x * state[f"{name}.norm.gamma"] + state[f"{name}.norm.beta"]


def forward(task, t):
    """Return codes and projections of length 1, by batch moments, in float64."""
    state = {k: v.double().numpy() for k, v in task.network.state_dict().items()}
    h = t @ state["encoder.0.linear.linear.weight"].T
    h = np.maximum(normalized(h, state, "encoder.0"), 0)
    code = normalized(h @ state["encoder.1.linear.weight"].T, state, "encoder.1")
    h = np.maximum(normalized(code @ state["head.linear.weight"].T, state, "head"), 0)
    z = h @ state["projection.weight"].T + state["projection.bias"]
    length = np.sqrt((z**2).sum(1, keepdims=True))
    return code, z / np.maximum(length, 1e-12), state  # 0 if all units of the head are


def contrasting(
    table, quantiles, *, vime=0.0, by_era=False, has_missing=False, head_units=6
):
    network = ContrastiveNetwork(table, (8,), 4, "relu", head_units, vime > 0)
    middle = table.as_taken(np.full(F, 2.0))
    task = Contrasting(
        network, SHARE, quantiles, TEMPERATURE, middle, table.varies, vime, by_era,
        has_missing,
    )  # fmt: skip
    initialize(task, 3)
    return task


def quantiles_of(table, X):
    found = np.nanquantile(X, (np.arange(256) + 0.5) / 256, axis=0, method="nearest")
    rows = torch.stack([table.as_taken(row) for row in found])
    return rows.to(table.take(np.arange(1)).dtype)


@pytest.mark.parametrize("vime", [0.0, 0.7])
@pytest.mark.parametrize("by_era", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("missing", [False, True])
def test_the_loss_is_that_of_numpy(missing, weighted, by_era, vime):
    rng = np.random.default_rng(0)
    X = bins(N_ROWS)
    X[:, 3] = 1
    weights = rng.random(N_ROWS) if weighted else None
    if missing:
        X = X.astype(np.float64)
        X[rng.random(X.shape) < 0.1] = np.nan
    moments = np.nanmean(X, axis=0), np.nanstd(X, axis=0)
    table = Table(X, *moments, CPU, weights)
    quantiles = quantiles_of(table, X)
    task = contrasting(table, quantiles, vime=vime, by_era=by_era, has_missing=missing)
    eras = np.repeat(np.arange(3), N_ROWS // 3).astype(np.int32)

    def only_batch():
        every = np.arange(N_ROWS)
        if by_era:  # three eras in one batch: rows of two of them are left out
            [batch] = EraBatches(table, 1, every, eras, per_batch=3).epoch(0)
        else:
            [batch] = RowBatches(table, 1, every, N_ROWS).epoch(0)
        return batch

    batch, again = only_batch(), only_batch()
    with own_threads(2):
        found = task.train()(batch).item()
    # The same views, in numpy.
    rows = again._rows
    scale = np.where(moments[1] > 0, moments[1], 1)
    full = np.where(np.isnan(X), 2.0, X)[rows]
    full[:, 3] = 1
    chosen = again.draws.chosen(SHARE, F).numpy()
    drawn = again.draws.bytes(F).numpy()
    raw = np.nanquantile(X, (np.arange(256) + 0.5) / 256, axis=0, method="nearest")
    view = np.where(chosen, np.take_along_axis(raw, drawn.astype(int), 0), full)
    t, u = ((part - moments[0]) / scale for part in (full, view))
    code, z, state = forward(task, np.concatenate([t, u]))
    a, b = z[:N_ROWS], z[N_ROWS:]
    near = np.exp(a @ b.T / TEMPERATURE)
    if by_era:
        near = near * (eras[rows][:, None] == eras[rows])
    losses = -np.log(np.diag(near) / near.sum(1))
    w = np.ones(N_ROWS) if weights is None else weights[rows]
    expected = (losses * w).sum() / w.sum()
    if vime:
        count = (~np.isnan(X[rows]) & (moments[1] > 0)) * w[:, None]
        own = code[N_ROWS:]
        restored = own @ state["output.weight"].T + state["output.bias"]
        p = sigmoid(own @ state["mask_output.weight"].T + state["mask_output.bias"])
        changed = view != full
        mask = -np.log(np.where(changed, p, 1 - p))
        each = mask + 2 * (restored - t) ** 2
        expected += vime * (each * count).sum() / (w.sum() * (F - 1))
    assert found == pytest.approx(expected, rel=1e-5)


def test_accuracy_is_the_share_of_nearest_views():
    X = bins(N_ROWS)
    table = table_of(X)
    task = contrasting(table, quantiles_of(table, X), head_units=40)
    task.share = 0.0  # a view is the row itself
    [batch] = RowBatches(table, 1, np.arange(N_ROWS), N_ROWS).epoch(0)
    unique = len(np.unique(X, axis=0)) == N_ROWS
    assert unique
    found = task.train().metrics(task.evaluate(batch))
    assert found["accuracy"].item() == 1
    task.share = 0.999
    assert task.metrics(task.evaluate(batch))["accuracy"].item() < 0.5


class TestResample:
    """Each cell with the given probability; the new one by its column's marginal."""

    @pytest.mark.parametrize("kind", [np.int8, np.float32])
    @pytest.mark.parametrize("threads", [False, True])
    def test_share_and_marginals(self, kind, threads):
        rng = np.random.default_rng(0)
        shares = rng.dirichlet(np.ones(5), size=8)
        X = np.stack([rng.choice(5, 20_000, p=p) for p in shares], axis=1).astype(kind)
        at = (np.arange(256) + 0.5) / 256
        quantiles = np.quantile(X, at, axis=0, method="inverted_cdf").astype(kind)
        x = torch.full((20_000, 8), 9, dtype=torch.from_numpy(quantiles).dtype)
        draws = Draws(1, TRAINING, 0, len(x))
        if threads:
            with own_threads(2):
                out = resample(x, 0.4, torch.from_numpy(quantiles), draws).numpy()
        else:
            out = resample(x, 0.4, torch.from_numpy(quantiles), draws).numpy()
        changed = out != 9
        np.testing.assert_allclose(changed.mean(axis=0), 0.4, atol=0.015)
        for j in range(8):
            told = np.bincount(out[changed[:, j], j].astype(int), minlength=5)
            empirical = np.bincount(X[:, j].astype(int), minlength=5) / len(X)
            np.testing.assert_allclose(told / told.sum(), empirical, atol=0.02)
        assert (x == 9).all()

    def test_cells_are_drawn_apart(self):
        """Neither rows nor columns are drawn as a whole."""
        quantiles = torch.arange(256).repeat(6, 1).T.to(torch.float32)
        x = torch.full((30_000, 6), -1.0)
        out = resample(x, 0.5, quantiles, Draws(2, TRAINING, 0, len(x))).numpy()
        chosen = (out >= 0).astype(float)
        assert np.abs(np.corrcoef(chosen.T) - np.eye(6)).max() < 0.03
        both = out[(chosen[:, :2] > 0).all(axis=1), :2]
        assert abs(np.corrcoef(both.T)[0, 1]) < 0.03


def test_rows_of_the_same_era():
    table = table_of(bins(60))
    eras = np.repeat([4, 7], 30).astype(np.int32)
    [batch] = EraBatches(table, 1, np.arange(60), eras, per_batch=2).epoch(0)
    own = eras[batch._rows]
    np.testing.assert_array_equal(batch.same_era, own[:, None] == own)
    for batch in EraBatches(table, 1, np.arange(60), eras).epoch(0):
        assert batch.same_era is None
