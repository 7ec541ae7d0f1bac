import numpy as np
import pytest
import torch

from numerai_features.encoders import Encoder, Recurrent
from numerai_features.nn._batches import Table
from numerai_features.nn._draws import Draws
from numerai_features.nn._layers import initialize
from numerai_features.nn._recurrent import Recurrence, Restoring, SequenceNetwork
from numerai_features.nn._sequences import (
    HeldOutSequences,
    SequenceBatch,
    SequenceBatches,
)

CPU = torch.device("cpu")
LENGTHS = np.array([3, 1, 5, 5, 2, 4, 5, 1, 3, 3])
STARTS = np.concatenate([[0], np.cumsum(LENGTHS)])


def gru_by_hand(X, weight, recurrent, bias):
    """Gated recurrent units, cell by cell, in float64."""
    n = len(recurrent)
    sigmoid = np.vectorize(lambda v: 1 / (1 + np.exp(-v)))
    last = []
    for sequence in X.astype(np.float64):
        h = np.zeros(n)
        for x in sequence:
            r = sigmoid(x @ weight[:, :n] + bias[:n] + h @ recurrent[:, :n])
            own = slice(n, 2 * n)
            z = sigmoid(x @ weight[:, own] + bias[own] + h @ recurrent[:, own])
            own = slice(2 * n, 3 * n)
            new = np.tanh(x @ weight[:, own] + bias[own] + r * (h @ recurrent[:, own]))
            h = (1 - z) * new + z * h
        last.append(h)
    return np.array(last)


def rnn_by_hand(X, weight, recurrent, bias):
    last = []
    for sequence in X.astype(np.float64):
        h = np.zeros(len(recurrent))
        for x in sequence:
            h = np.tanh(x @ weight + bias + h @ recurrent)
        last.append(h)
    return np.array(last)


BY_HAND = {"gru": gru_by_hand, "rnn": rnn_by_hand}


@pytest.fixture
def table():
    X = np.random.default_rng(0).normal(2, 3, (STARTS[-1], 4)).astype(np.float32)
    return Table(X, X.mean(axis=0), X.std(axis=0), CPU)


def batch_of(table, chosen, weights=None):
    chosen = np.asarray(chosen)
    weights = np.ones(len(LENGTHS), np.float32) if weights is None else weights
    draws = Draws(3, 1, 0, len(chosen))
    return SequenceBatch(table, STARTS, weights, chosen, draws, 1.0)


class TestLayers:
    @pytest.mark.parametrize("kind", BY_HAND)
    @pytest.mark.parametrize("n_steps", [1, 6])
    def test_encoder_step_is_the_recursion_by_hand(self, kind, n_steps):
        rng, gates = np.random.default_rng(1), 3 if kind == "gru" else 1
        parts = [rng.normal(size=s) for s in ((2, 3 * gates), (3, 3 * gates))]
        parts.append(rng.normal(size=3 * gates))
        X = 5 * rng.normal(size=(20, n_steps, 2))
        flat = X.reshape(20, -1)
        found = Encoder([("states", Recurrent(kind, *parts))]).transform(flat)
        expected = BY_HAND[kind](X, *parts)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        in_torch = Encoder([("states", Recurrent(kind, *parts))]).transform(
            torch.from_numpy(flat)
        )
        np.testing.assert_allclose(in_torch.numpy(), expected, atol=1e-6)

    @pytest.mark.parametrize("kind", BY_HAND)
    def test_layer_is_the_recursion_by_hand(self, kind):
        layer = Recurrence(kind, 2, 3)
        initialize(layer, 5)
        torch.nn.init.normal_(layer.bias, generator=torch.Generator().manual_seed(0))
        X = np.random.default_rng(2).normal(size=(9, 4, 2)).astype(np.float32)
        states = layer(torch.from_numpy(X).transpose(0, 1), torch.zeros(9, 3), None)
        step = layer.numpy((np.zeros(2), np.ones(2)), np.float32)
        expected = BY_HAND[kind](X, step.weight, step.recurrent, step.bias)
        np.testing.assert_allclose(states[-1].detach(), expected, atol=1e-6)

    def test_gated_units_are_torchs(self):
        ours, theirs = Recurrence("gru", 2, 3), torch.nn.GRU(2, 3)
        initialize(ours, 5)
        with torch.no_grad():
            theirs.weight_ih_l0.copy_(ours.input.weight)
            theirs.weight_hh_l0.copy_(ours.recurrent.weight)
            theirs.bias_ih_l0.zero_()
            theirs.bias_hh_l0.zero_()
        x = torch.from_numpy(np.random.default_rng(2).normal(size=(6, 5, 2))).float()
        found = ours(x, torch.zeros(5, 3), None)
        torch.testing.assert_close(found, theirs(x)[0])

    @pytest.mark.parametrize(
        ("kind", "shapes", "message"),
        [
            ("lstm", [(2, 3), (3, 3), (3,)], "kind must be one of"),
            ("gru", [(2, 3), (3, 3), (3,)], "must have 9 columns"),
            ("rnn", [(3,), (3, 3), (3,)], "weight must be a numpy array"),
        ],
    )
    def test_wrong_arrays(self, kind, shapes, message):
        with pytest.raises(ValueError, match=message):
            Recurrent(kind, *(np.zeros(shape) for shape in shapes))

    def test_half_a_step(self):
        step = Recurrent("rnn", np.zeros((2, 3)), np.zeros((3, 3)), np.zeros(3))
        with pytest.raises(ValueError, match="5 columns; expected a multiple of 2"):
            Encoder([("states", step)]).transform(np.zeros((4, 5)))


class TestNetwork:
    @pytest.mark.parametrize("kind", BY_HAND)
    @pytest.mark.parametrize("context", [[], [1, 3]])
    def test_numpy_form_is_the_network(self, table, kind, context):
        context = np.array(context, np.int64)
        network = SequenceNetwork(table, context, 2, kind, 5)
        initialize(network, 7)
        batch = batch_of(table, [2, 3, 6])  # of five steps
        restored = network(batch.x, batch.x, batch.present).detach().numpy()
        mean, scale = table._center, table._scale
        X = np.stack([table.X[STARTS[i] : STARTS[i + 1]] for i in (2, 3, 6)])
        code = network.encoding((mean, scale), np.float64).transform(X.reshape(3, -1))
        cells = network.decoding((mean, scale), np.float64).unroll(
            code, X[..., context].astype(np.float64)
        )
        np.testing.assert_allclose(
            (cells - mean) / scale, restored.transpose(1, 0, 2), atol=1e-5
        )

    def test_only_the_code_and_the_context_reach_the_decoder(self, table):
        network = SequenceNetwork(table, np.array([1]), 2, "gru", 5)
        initialize(network, 7)
        batch = batch_of(table, [2, 3])
        seen = batch.x.clone().requires_grad_()
        clean = batch.x.clone().requires_grad_()
        with torch.no_grad():
            network.start.weight.zero_()  # the code tells nothing
        network(seen, clean, batch.present).square().sum().backward()
        assert not seen.grad.any()
        reached = clean.grad.abs().sum(dim=(0, 1)) > 0
        assert reached.tolist() == [False, True, False, False]


class TestTask:
    def loss(self, table, batch, noise="none", level=0.2, missing=False, context=()):
        network = SequenceNetwork(table, np.array(context, np.int64), 2, "gru", 5)
        initialize(network, 7)
        offset = table._center / table._scale
        middle = torch.zeros(4)
        return Restoring(network, table, noise, level, 3.0, offset, middle, missing)

    def test_padding_counts_nowhere(self, table):
        """The loss of a batch is that of its sequences one by one, by their steps."""
        weights = np.arange(len(LENGTHS)).astype(np.float32)
        task = self.loss(table, None, context=[1])
        every = [0, 2, 4, 7, 9]
        whole = task(batch_of(table, every, weights))
        alone = sum(
            task(batch_of(table, [i], weights)) * LENGTHS[i] * weights[i] for i in every
        )
        n = (LENGTHS * weights)[every].sum()
        torch.testing.assert_close(whole, alone / n)

    def test_missing_cells_add_nothing(self, table):
        X = table.X.copy()
        X[STARTS[2] + 1, 3] = np.nan
        holes = Table(X, table._center, table._scale, CPU)
        task = self.loss(holes, None, missing=True)
        batch = batch_of(holes, [2])
        x = torch.where(batch.x.isnan(), 0.0, batch.x)
        restored = task.network(x, x, batch.present)
        error = (restored - batch.x).square()
        expected = error[~error.isnan()].sum() / (5 * 4)
        torch.testing.assert_close(task(batch), expected)

    @pytest.mark.parametrize("noise", ["proportional", "gaussian", "masking"])
    def test_noise_has_its_size(self, table, noise):
        many = np.repeat(np.arange(len(LENGTHS)), 300)
        task, batch = self.loss(table, None, noise, context=[1]), batch_of(table, many)
        change = (task._corrupted(batch.x, batch) - batch.x).flatten(0, 1)
        assert not change[:, 1].any()
        x, change = batch.x.flatten(0, 1)[:, [0, 2, 3]], change[:, [0, 2, 3]]
        if noise == "masking":
            hit = change != 0
            np.testing.assert_allclose(hit.float().mean(), 0.2, atol=0.01)
            assert not (x + change)[hit].any()
            return
        size = torch.full_like(x, 0.2)
        if noise == "proportional":
            size = 0.2 * (x + task.offset[[0, 2, 3]]).abs()
        np.testing.assert_allclose((change / size).std(0), np.ones(3), rtol=0.05)


class TestBatches:
    def batches(self, table, **options):
        weights = np.ones(len(LENGTHS), np.float32)
        given = {"seed": 0, "sequences": np.arange(10), "batch_size": 3, **options}
        return SequenceBatches(table, STARTS, weights, **given)

    def test_each_sequence_once_beside_others_of_its_length(self, table):
        made = self.batches(table)
        assert made.n_steps == 4
        assert made.rows_per_step == LENGTHS.sum() / 4
        orders = []
        for number in range(3):
            lengths = []
            for batch in made.epoch(number):
                own = batch.present.sum(0).int().tolist()
                assert max(own) - min(own) <= 2
                lengths.append(own)
            orders.append(lengths)
            assert sorted(np.concatenate(lengths)) == sorted(LENGTHS)
        assert orders[0] != orders[1]

    def test_steps_are_at_the_end_in_order(self, table):
        batch = batch_of(table, [1, 2, 4])
        for j, i in enumerate([1, 2, 4]):
            own = table.take(np.arange(STARTS[i], STARTS[i + 1]))
            torch.testing.assert_close(batch.x[-LENGTHS[i] :, j], own)
            assert batch.present[:, j].tolist() == [0] * (5 - LENGTHS[i]) + [1] * int(
                LENGTHS[i]
            )

    def test_an_epoch_goes_on_at_any_step(self, table):
        made = self.batches(table)
        whole = [b.normal() for b in made.epoch(2)]
        rest = [b.normal() for b in made.epoch(2, first=2)]
        for one, other in zip(whole[2:], rest, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)

    def test_importance_is_a_share_of_all_steps(self, table):
        total = sum(b.importance for b in self.batches(table).epoch(0))
        np.testing.assert_allclose(total, 4)

    def test_held_out_draws_are_the_same_each_time(self, table):
        weights = np.ones(len(LENGTHS), np.float32)
        made = HeldOutSequences(table, STARTS, weights, 0, np.arange(1, 8))
        first, second = ([b.normal() for b in made] for _ in range(2))
        assert len(first) == 1
        torch.testing.assert_close(first, second, rtol=0, atol=0)
