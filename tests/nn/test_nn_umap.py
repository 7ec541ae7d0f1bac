"""UMAP's loss against a plain one, and the batches of edges."""

import numpy as np
import pytest
import torch
from nn_parts import bins, normal, table_of
from torch import nn

from numerai_features.nn import _umap
from numerai_features.nn._layers import initialize
from numerai_features.nn._umap import EdgeBatch, EdgeBatches, Layout, Perceptron

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


def layout(table=None, activation="silu", units=5, decoder_weight=0.0):
    """A layout whose weights are drawn; without a table of rows as they are."""
    encoder = Perceptron((6, units, 2), activation, table)
    decoder = Perceptron((2, units, 6), activation) if decoder_weight else None
    task = Layout(encoder, A, B, REPULSION, decoder, decoder_weight)
    initialize(task, 3)
    return task


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


class TestPerceptron:
    def test_is_torchs_sequence(self, table):
        net = Perceptron((6, 9, 5, 2), "tanh", table)
        initialize(net, 1)
        with torch.no_grad():
            for i, p in enumerate(net.parameters()):
                p.add_(0.3 * normal(*p.shape, seed=i))
        plain = nn.Sequential(
            nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 5), nn.Tanh(), nn.Linear(5, 2)
        ).double()
        named = zip(plain.state_dict(), net.parameters(), strict=True)
        plain.load_state_dict({name: p for name, p in named})
        x = table.take(np.arange(N_ROWS))
        t = (x.double() - table.center) / table.scale
        net(x).square().sum().backward()
        plain(t).square().sum().backward()
        torch.testing.assert_close(net(x).double(), plain(t), rtol=1e-5, atol=1e-6)
        for p, theirs in zip(net.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(
                p.grad.double(), theirs.grad, rtol=1e-4, atol=1e-5
            )

    def test_rows_as_they_are_without_a_table(self, table):
        standardised, plain = (Perceptron((6, 4, 2), "silu", t) for t in (table, None))
        for net in (standardised, plain):
            initialize(net, 1)
        weights = zip(plain.parameters(), standardised.parameters(), strict=True)
        with torch.no_grad():
            for p, theirs in weights:
                p.copy_(theirs)
        x = table.take(np.arange(N_ROWS))
        t = (x - table.center) / table.scale
        torch.testing.assert_close(plain(t), standardised(x), rtol=1e-5, atol=1e-6)


class TestLayout:
    def test_is_the_plain_loss(self, table, edges):
        task = layout(table, units=9)
        batch = next(make_batches(table, edges).epoch(0))
        assert batch.same.any()
        places = task.encoder(batch.x).detach().numpy()
        loss = task(batch)
        assert loss.shape == ()
        expected = plain_loss(places, batch.same.numpy())
        assert loss.item() == pytest.approx(expected, rel=1e-5)

    def test_gradients_are_those_of_differences(self, table, edges):
        task = layout(table, "tanh", decoder_weight=0.7)
        batch = next(make_batches(table, edges).epoch(0))
        task(batch).backward()
        for weight in task.parameters():
            at = np.unravel_index(1, weight.shape)
            with torch.no_grad():
                losses = []
                for step in (2e-3, -4e-3):
                    weight[at] += step
                    losses.append(task(batch).item())
                weight[at] += 2e-3
            slope = (losses[0] - losses[1]) / 4e-3
            assert weight.grad[at].item() == pytest.approx(slope, abs=3e-3, rel=2e-2)

    def test_restoring_is_a_mean_over_cells(self, table, edges):
        batch = next(make_batches(table, edges).epoch(0))
        task = layout(table, "tanh", decoder_weight=0.5)
        plain = Layout(task.encoder, A, B, REPULSION)(batch).item()
        n = len(batch.same)
        t = (batch.x[:n].numpy() - table.center.numpy()) / table.scale.numpy()
        restored = task.decoder(task.encoder(batch.x[:n])).detach().numpy()
        error = ((restored - t) ** 2).mean()
        assert task(batch).item() - plain == pytest.approx(0.5 * error, rel=1e-4)

    def test_rows_far_apart_have_finite_gradients(self, table, edges):
        task = layout(table, "relu")
        with torch.no_grad():
            task.encoder.layers[-1].weight.mul_(1e4)
        batch = next(make_batches(table, edges).epoch(0))
        task(batch).backward()
        assert all(p.grad.isfinite().all() for p in task.parameters())

    def test_equal_rows_have_finite_gradients(self, edges):
        table = table_of(np.repeat(bins(1, 6), N_ROWS, axis=0))
        task = layout(table)
        batch = next(make_batches(table, edges).epoch(0))
        loss = task(batch)
        loss.backward()
        assert loss.isfinite()
        assert all(p.grad.isfinite().all() for p in task.parameters())

    def test_evaluation_is_the_mean_of_batches(self, table, edges):
        task, sums = layout(table).eval(), {}
        batches = [*make_batches(table, edges, held_out=True)]
        for batch in batches:
            for name, value in task.evaluate(batch).items():
                assert not value.requires_grad
                sums[name] = sums.get(name, 0) + value.double()
        metrics = task.metrics(sums)
        assert metrics.keys() == {"loss"}
        expected = np.mean([task(batch).item() for batch in batches])
        assert metrics["loss"].item() == pytest.approx(expected, rel=1e-6)

    def test_distances_are_not_rounded(self):
        """Autocast is for the network: given the places, the loss is the same."""
        places = 3 * normal(80, 2)
        batch = EdgeBatch(places, torch.zeros(30, 20, dtype=torch.bool), 30)
        task = Layout(nn.Identity(), A, B, REPULSION)
        exact = task(batch)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(task(batch), exact)

    def test_bfloat16_is_near(self, table, edges):
        task = layout(table, units=9, decoder_weight=0.5)
        batch = next(make_batches(table, edges).epoch(0))
        exact = task(batch)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = task(batch)
        assert rounded.dtype == torch.float32
        assert rounded != exact
        torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0)


class TestEdgeBatches:
    def test_edges_are_drawn_by_weight_and_either_way_round(self, table, edges):
        heads, tails, weights = edges
        batches = make_batches(table, edges, batch_size=20_000, n_steps=1)
        rows = np.arange(N_ROWS)
        seen = np.zeros((N_ROWS, N_ROWS))
        taken = []
        batches.table.take = lambda rows: taken.append(rows) or torch.zeros(1)
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
        task = layout(table, units=9)
        [whole] = [task(b) for b in make_batches(table, edges, n_steps=1).epoch(0)]
        parts = []
        for share in (slice(0, 30), slice(30, 64), slice(64, 64)):
            monkeypatch.setattr(_umap, "share_of", lambda n, own=share: own)
            [batch] = make_batches(table, edges, n_steps=1).epoch(0)
            parts.append(task(batch))
        assert sum(parts).item() == pytest.approx(whole.item(), rel=1e-5)
