"""UMAP's loss against a plain one, and the batches of edges."""

import numpy as np
import pytest
import torch
from nn_parts import bins, table_of

from numerai_features.nn import _layout
from numerai_features.nn._layout import EdgeBatches, Layout, Perceptron

A, B, REPULSION = 1.6, 0.9, 5.0
N_ROWS, N_EDGES = 40, 90


@pytest.fixture
def table():
    return table_of(bins(N_ROWS, 6))


@pytest.fixture
def edges():
    rng = np.random.default_rng(0)
    heads, tails = rng.permuted(np.tile(np.arange(N_ROWS), (N_EDGES, 1)), axis=1)[
        :, :2
    ].T
    return heads, tails, rng.random(N_EDGES) + 0.1


def make_batches(table, edges, **options):
    options = {"batch_size": 64, "n_others": 16, "n_steps": 4, **options}
    return EdgeBatches(table, 7, edges, np.arange(N_ROWS), **options)


def plain_loss(places, same):
    """Return the loss of places (2 E + R, k) in float64, pair by pair."""
    n = len(same)
    heads, tails, others = np.split(places.astype(np.float64), [n, 2 * n])

    def chance(p, r):
        return 1 / (1 + A * (((p - r) ** 2).sum() + 1e-4) ** B)

    near = -sum(np.log(chance(p, r)) for p, r in zip(heads, tails, strict=True))
    far = 0.0
    for i, head in enumerate(heads):
        for j, other in enumerate(others):
            far -= 0 if same[i, j] else np.log(1 - chance(head, other))
    return (near + REPULSION * far / len(others)) / n


class TestLayout:
    def test_is_the_plain_loss(self, table, edges):
        encoder = Perceptron([3], (6, 9, 2), "silu", table)
        batch = next(make_batches(table, edges).epoch(0))
        assert batch.same.any()
        places = encoder(batch.x)[0].detach().numpy()
        loss = Layout(encoder, A, B, REPULSION)(batch)
        expected = plain_loss(places, batch.same[0].numpy())
        assert loss.item() == pytest.approx(expected, rel=1e-5)

    def test_gradients_are_those_of_differences(self, table, edges):
        encoder = Perceptron([3], (6, 5, 2), "tanh", table)
        decoder = Perceptron([3], (2, 5, 6), "tanh", name=9)
        task = Layout(encoder, A, B, REPULSION, decoder, 0.7)
        batch = next(make_batches(table, edges).epoch(0))
        task(batch).sum().backward()
        for weight in task.parameters():
            at = (0, *np.unravel_index(1, weight.shape[1:]))
            with torch.no_grad():
                losses = []
                for step in (2e-3, -4e-3):
                    weight[at] += step
                    losses.append(task(batch).item())
                weight[at] += 2e-3
            slope = (losses[0] - losses[1]) / 4e-3
            assert weight.grad[at].item() == pytest.approx(slope, abs=3e-3, rel=2e-2)

    def test_restoring_is_a_mean_over_cells(self, table, edges):
        encoder = Perceptron([3], (6, 5, 2), "tanh", table)
        decoder = Perceptron([3], (2, 5, 6), "tanh", name=9)
        batch = next(make_batches(table, edges).epoch(0))
        plain = Layout(encoder, A, B, REPULSION)(batch).item()
        whole = Layout(encoder, A, B, REPULSION, decoder, 0.5)(batch).item()
        heads = batch.x[0, : batch.same.shape[1]].numpy()
        t = (heads - table.center.numpy()) / table.scale.numpy()
        restored = decoder(encoder(batch.x[:, : len(heads)]))[0].detach().numpy()
        error = ((restored - t) ** 2).mean()
        assert whole - plain == pytest.approx(0.5 * error, rel=1e-4)

    def test_rows_far_apart_have_finite_gradients(self, table, edges):
        encoder = Perceptron([3], (6, 5, 2), "relu", table)
        with torch.no_grad():
            encoder.layers[-1].weight.mul_(1e4)
        batch = next(make_batches(table, edges).epoch(0))
        Layout(encoder, A, B, REPULSION)(batch).sum().backward()
        assert all(p.grad.isfinite().all() for p in encoder.parameters())

    def test_equal_rows_have_finite_gradients(self, edges):
        table = table_of(np.repeat(bins(1, 6), N_ROWS, axis=0))
        encoder = Perceptron([3], (6, 5, 2), "silu", table)
        batch = next(make_batches(table, edges).epoch(0))
        loss = Layout(encoder, A, B, REPULSION)(batch)
        loss.sum().backward()
        assert loss.isfinite().all()
        assert all(p.grad.isfinite().all() for p in encoder.parameters())

    def test_metrics_are_means_of_batches(self):
        sums = {"loss": torch.tensor([6.0]), "batches": torch.tensor([4.0])}
        assert Layout.metrics(sums)["loss"].item() == 1.5


class TestEdgeBatches:
    def test_edges_are_drawn_by_weight_and_either_way_round(self, table, edges):
        heads, tails, weights = edges
        batches = make_batches(table, edges, batch_size=20_000, n_steps=1)
        rows = np.arange(N_ROWS)
        seen = np.zeros((N_ROWS, N_ROWS))
        taken = []
        batches.table.take = lambda rows: taken.append(rows[0]) or torch.zeros(1)
        next(batches.epoch(0))
        first, second, others = np.split(taken[0], [20_000, 40_000])
        np.add.at(seen, (first, second), 1)
        wanted = np.zeros((N_ROWS, N_ROWS))
        np.add.at(wanted, (heads, tails), weights / weights.sum() / 2)
        np.add.at(wanted, (tails, heads), weights / weights.sum() / 2)
        np.testing.assert_allclose(seen / 20_000, wanted, atol=4e-3)
        assert set(others) <= set(rows)

    def test_an_epoch_can_be_taken_up_in_the_middle(self, table, edges):
        batches = make_batches(table, edges)
        whole, rest = list(batches.epoch(3)), list(batches.epoch(3, 2))
        assert len(whole) == 4
        assert torch.equal(whole[2].x, rest[0].x)
        assert not torch.equal(whole[2].x, whole[3].x)

    def test_held_out_edges_are_always_the_same(self, table, edges):
        held_out = make_batches(table, edges, held_out=True)
        first, second = ([b.x for b in held_out] for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        assert not torch.equal(first[0], next(make_batches(table, edges).epoch(0)).x)

    def test_processes_share_the_edges(self, table, edges, monkeypatch):
        """Losses of all shares add up to that of the whole batch."""
        task = Layout(Perceptron([3], (6, 9, 2), "silu", table), A, B, REPULSION)
        [whole] = [task(b) for b in make_batches(table, edges, n_steps=1).epoch(0)]
        parts = []
        for share in (slice(0, 30), slice(30, 64), slice(64, 64)):
            monkeypatch.setattr(_layout, "share_of", lambda n, own=share: own)
            [batch] = make_batches(table, edges, n_steps=1).epoch(0)
            parts.append(task(batch))
        assert sum(parts).item() == pytest.approx(whole.item(), rel=1e-5)
