"""The perceptron, and correlations of a batch of several eras, against plain ones."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from nn_parts import bins, normal, table_of
from numerai_tools.scoring import numerai_corr
from torch import nn
from torch.nn import functional as F

from numerai_features.nn._batches import EraBatches, HeldOutBatches, RowBatches
from numerai_features.nn._draws import TRAINING, Draws
from numerai_features.nn._layers import initialize
from numerai_features.nn._losses import squared_correlation, target_loss
from numerai_features.nn._perceptron import Perceptron, Predicting
from numerai_features.nn._threads import own_threads

SIZES = (120, 80, 1, 150, 40)
CODES = np.repeat(np.arange(len(SIZES)), SIZES)
MEMBERS = torch.from_numpy((CODES == np.arange(5)[:, None]).astype(np.float64))
N_ROWS, N_TARGETS = len(CODES), 3
WEIGHTS = 0.2 + torch.rand(N_ROWS, generator=torch.Generator().manual_seed(1))


def sides(seed=0):
    """Predictions, and targets with gaps; the level differs from era to era."""
    p = normal(N_ROWS, N_TARGETS, seed=seed)
    y = 0.3 * p + normal(N_ROWS, N_TARGETS, seed=seed + 1)
    y[::3, 1] = torch.nan
    y[CODES == 1, 2] = torch.nan
    level = torch.from_numpy(CODES[:, None].astype(np.float32))
    return p - 5 * level, y + 7 * level


def plain_correlations(p, y, w):
    """Correlations of every era and target by numpy, NaN where there is none."""
    found = np.full((len(SIZES), y.shape[1]), np.nan)
    for e in range(len(SIZES)):
        for t in range(y.shape[1]):
            known = (CODES == e) & ~np.isnan(y[:, t]) & (w > 0)
            if len(np.unique(y[known, t])) > 1:
                cov = np.cov(p[known, t], y[known, t], aweights=w[known], ddof=0)
                found[e, t] = cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1])
    return found


def as_numpy(*tensors):
    return [t.detach().double().numpy() for t in tensors]


class TestCorrelationsOfEras:
    @pytest.mark.parametrize("weighted", [False, True])
    def test_are_numpys(self, weighted):
        p, y = sides()
        w = WEIGHTS if weighted else None
        value, count = target_loss("corr", p, y, w, MEMBERS)
        found = plain_correlations(
            *as_numpy(p, y, WEIGHTS if weighted else 0 * WEIGHTS + 1)
        )
        expected = [np.nanmean(1 - era) for era in np.delete(found, 2, axis=0)]
        of_eras = [1.0] * 4  # the era of one row has none
        if weighted:
            of_eras = [WEIGHTS[CODES == e].mean().item() for e in (0, 1, 3, 4)]
        assert count.item() == pytest.approx(sum(of_eras), rel=1e-6)
        assert value.item() == pytest.approx(np.dot(of_eras, expected), abs=1e-4)

    def test_unweighted_ones_are_corrcoefs(self):
        p, y = sides()
        value, count = target_loss("corr", p[:, :1], y[:, :1], None, MEMBERS)
        each = [
            np.corrcoef(p[CODES == e, 0], y[CODES == e, 0])[0, 1] for e in (0, 1, 3, 4)
        ]
        assert (value / count).item() == pytest.approx(1 - np.mean(each), abs=1e-5)

    def test_power_is_numerais_of_predictions_that_are_normal(self):
        """Numerai's CORR makes their ranks so; a loss cannot."""
        p, y = sides()
        each = []
        for e in (0, 1, 3, 4):
            rank = p[CODES == e, 0].argsort().argsort().double()
            p[CODES == e, 0] = torch.special.ndtri((rank + 0.5) / SIZES[e]).float()
            frame = pd.DataFrame({"p": p[CODES == e, 0].numpy()})
            target = pd.Series(y[CODES == e, 0].numpy(), name="y")
            each.append(numerai_corr(frame, target)["p"])
        value, count = target_loss("numerai_corr", p[:, :1], y[:, :1], None, MEMBERS)
        assert (1 - value / count).item() == pytest.approx(np.mean(each), abs=1e-5)

    def test_power_is_the_plain_formula(self):
        p, y = sides()
        value, _ = target_loss("numerai_corr", p[:, :1], y[:, :1], None, MEMBERS)
        each = []
        for e in (0, 1, 3, 4):
            a, b = (x[CODES == e, 0].double() for x in (p, y))
            a, b = (x - x.mean() for x in (a, b))
            a, b = (x.sign() * x.abs() ** 1.5 for x in (a, b))
            each.append(1 - np.corrcoef(a, b)[0, 1])
        assert value.item() == pytest.approx(np.sum(each), abs=1e-4)

    @pytest.mark.parametrize("kind", ["corr", "numerai_corr"])
    def test_one_era_is_as_without_members(self, kind):
        p, y = (x[CODES == 0] for x in sides())
        w = WEIGHTS[CODES == 0]
        whole = target_loss(kind, p, y, w)
        value, count = target_loss(kind, p, y, w, MEMBERS[:1, :120])
        torch.testing.assert_close(count, w.mean())
        torch.testing.assert_close(value / count, whole[0] / whole[1])

    def test_constant_targets_do_not_count(self):
        """In float32 the mean of equal numbers is not always the number."""
        p, y = sides()
        y[CODES == 3] = 0.3
        y[CODES == 4, 1:] = 1e4 / 3
        value, count = target_loss("corr", p, y, None, MEMBERS)
        found = plain_correlations(*as_numpy(p, y, 0 * WEIGHTS + 1))
        expected = [np.nanmean(1 - found[e]) for e in (0, 1, 4)]
        assert count == 3
        assert value.item() == pytest.approx(np.sum(expected), abs=1e-4)

    def test_nothing_known_is_no_loss(self):
        p, y = sides()
        p.requires_grad_()
        value, count = target_loss("corr", p, torch.nan * y, None, MEMBERS)
        value.backward()
        assert value == count == 0
        assert not p.grad.any()

    @pytest.mark.parametrize("kind", ["corr", "numerai_corr"])
    def test_gradients_are_finite_differences(self, kind):
        p, y = (x.double() for x in sides())

        def loss(p):
            return target_loss(kind, p, y, WEIGHTS.double(), MEMBERS)[0]

        check_gradient(loss, p, ((5, 0), (250, 2), (210, 1), (200, 0)))


def check_gradient(loss, p, places):
    p = p.clone().requires_grad_()
    loss(p).backward()
    for at in places:
        step = torch.zeros_like(p)
        step[at] = 1e-5
        with torch.no_grad():
            slope = (loss(p + step) - loss(p - step)).item() / 2e-5
        assert p.grad[at].item() == pytest.approx(slope, rel=1e-3, abs=1e-8)


class TestPenalty:
    def parts(self):
        p, _ = sides()
        benchmark = 0.5 * p[:, 0] + normal(N_ROWS, seed=9)
        benchmark[::7] = torch.nan
        benchmark[CODES == 3] = 0.5  # tells nothing
        return p, benchmark

    @pytest.mark.parametrize("weighted", [False, True])
    def test_is_numpys(self, weighted):
        p, benchmark = self.parts()
        w = WEIGHTS if weighted else torch.ones(N_ROWS)
        value, count = squared_correlation(p, benchmark, w, MEMBERS)
        side = benchmark[:, None].expand(-1, N_TARGETS)
        found = plain_correlations(*as_numpy(p, side, w))[[0, 1, 4]]
        of_eras = [w[CODES == e].mean().item() for e in (0, 1, 4)]
        assert count.item() == pytest.approx(sum(of_eras), rel=1e-6)
        expected = of_eras @ (found**2).mean(1)
        assert value.item() == pytest.approx(expected, abs=1e-5)

    def test_gradient_is_autograds_of_the_plain_formula(self):
        p, benchmark = self.parts()
        ours = p.double().requires_grad_()
        plain = p.double().requires_grad_()
        value, count = squared_correlation(ours, benchmark.double(), None, MEMBERS)
        (value / count).backward()
        total = 0
        for e in (0, 1, 4):
            known = torch.from_numpy(CODES == e) & ~benchmark.isnan()
            for t in range(N_TARGETS):
                pair = torch.stack([plain[known, t], benchmark[known].double()])
                total = total + torch.corrcoef(pair)[0, 1] ** 2
        (total / (3 * N_TARGETS)).backward()
        assert plain.grad.abs().max() > 1e-4
        torch.testing.assert_close(ours.grad, plain.grad, rtol=1e-6, atol=1e-10)

    def test_gradient_is_finite_differences(self):
        p, benchmark = self.parts()

        def loss(p):
            w = WEIGHTS.double()
            return squared_correlation(p, benchmark.double(), w, MEMBERS)[0]

        check_gradient(loss, p.double(), ((5, 0), (150, 2), (7, 1), (360, 1)))


def make_network(table, hidden=(9, 5), **options):
    settings = {
        "activation": "relu", "dropout": 0.0, "feature_dropout": 0.0,
        "middle": torch.full((table.n_features,), 2.0), "has_level": True,
    }  # fmt: skip
    network = Perceptron(table, hidden, N_TARGETS, **{**settings, **options})
    initialize(network, 3)
    return network


def table_of_eras(X=None, y=None):
    X = bins(N_ROWS) if X is None else X
    y = normal(N_ROWS, N_TARGETS, seed=4).numpy() if y is None else y
    return table_of(X, weights=WEIGHTS.numpy(), targets=y)


def gradients_of(network):
    return [p.grad for p in network.parameters() if p.grad is not None]


class TestNetwork:
    @pytest.mark.parametrize("floats", [False, True])
    @pytest.mark.parametrize("training", [False, True])
    def test_is_the_plain_one(self, floats, training):
        X = bins(N_ROWS) * 1.5 + 3 if floats else bins(N_ROWS)
        table = table_of_eras(X)
        network = make_network(table).train(training)
        layers = []
        for (a, b), block in zip(pairwise([12, 9, 5]), network.blocks, strict=True):
            linear = getattr(block.linear, "linear", block.linear)
            layers += [nn.Linear(a, b, bias=False), nn.BatchNorm1d(b), nn.ReLU()]
            layers[-3].weight.data = linear.weight.data.clone()
        plain = nn.Sequential(*layers, nn.Linear(5, N_TARGETS)).double()
        plain[-1].load_state_dict(network.head.state_dict())
        plain.train(training)
        t = torch.from_numpy((X - X.mean(axis=0)) / X.std(axis=0))
        out = network(table.take(np.arange(N_ROWS)))
        torch.testing.assert_close(out.double(), plain(t), rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("floats", [False, True])
    def test_cells_that_are_dropped_leave_the_mean(self, floats):
        X = bins(40).astype(float) if floats else bins(40)
        X[:, 3] = 0  # constant, and not at the middle
        table = table_of(X)
        middle = torch.as_tensor(np.median(X, axis=0), dtype=torch.float32)
        middle = table.as_taken(middle.numpy() + 1)  # far from the mean
        network = make_network(table, feature_dropout=0.3, middle=middle)
        layer = network.blocks[0].linear
        x = table.take(np.arange(40))
        exact = layer(x)
        rounds = [
            network._of_some_cells(x, Draws(1, TRAINING, i, 40)) for i in range(2000)
        ]
        mean = torch.stack(rounds).mean(0)
        spread = torch.stack(rounds).std(0) / 2000**0.5
        assert (mean - exact).abs().div(spread).max() < 5
        assert spread.min() > 0

    def test_dropout_is_of_training_alone(self):
        table = table_of_eras()
        network = make_network(table, feature_dropout=0.5, dropout=0.5).eval()
        x = table.take(np.arange(50))
        draws = Draws(1, TRAINING, 0, 50)
        torch.testing.assert_close(network(x, draws), network(x), rtol=0, atol=0)

    @pytest.mark.parametrize("half", [False, True])
    @pytest.mark.parametrize(
        "options",
        [{}, {"dropout": 0.2}, {"feature_dropout": 0.2}, {"activation": "silu"}],
        ids=str,
    )
    def test_lean_tables_change_nothing(self, half, options):
        """What would be rounded for the next product is rounded before."""
        table = table_of_eras()
        x, found = table.take(np.arange(N_ROWS)), []
        for lean in (True, False):
            network = make_network(table, **options).train()
            for block in network.blocks:
                assert block.lean
                block.lean = lean
            with own_threads(1):
                with torch.autocast("cpu", torch.bfloat16, enabled=half):
                    y = network(x, Draws(1, TRAINING, 0, N_ROWS))
                assert y.dtype == torch.float32
                y.pow(3).sum().backward()
            moments = [block.norm.variance for block in network.blocks]
            found.append([y.detach(), *moments, *gradients_of(network)])
        if half and not options.get("dropout"):
            assert torch.equal(found[0][0], found[1][0])
        rounding = 0.02 if half else 1e-4
        for ours, plain in zip(*found, strict=True):
            scale = plain.abs().max()
            torch.testing.assert_close(
                ours / scale, plain / scale, rtol=0, atol=rounding
            )

    @pytest.mark.parametrize("sigmoid", [False, True])
    def test_steps_give_its_numbers_in_the_targets_units(self, sigmoid):
        X = bins(N_ROWS)
        table = table_of(X)
        network = make_network(table)
        for _ in range(3):
            network.train()(table.take(np.arange(100)))  # moves the running moments
        factor, constant = np.array([2.0, 0.5, 1.0]), np.array([3.0, -1.0, 0.0])
        network.set_units(factor, constant)
        network.eval()
        units = X.mean(axis=0), X.std(axis=0)
        latents = network.latents(units, np.float64)
        h = table.take(np.arange(N_ROWS))
        for block in network.blocks:
            h = block(h)
        expected = network.head(h).detach().numpy() * factor + constant
        if sigmoid:
            expected = 1 / (1 + np.exp(-expected))
        prediction = network.prediction(latents, np.float64, sigmoid=sigmoid)
        np.testing.assert_allclose(latents.transform(X), h.detach(), atol=1e-5)
        np.testing.assert_allclose(prediction.transform(X), expected, atol=1e-5)


class TestTask:
    def task(self, table, loss="corr", penalty=0.0, **options):
        middle = torch.full((12,), 2.0)
        return Predicting(make_network(table), loss, penalty, middle, **options)

    @pytest.mark.parametrize("kind", ["mse", "mae", "bce"])
    def test_losses_of_rows_are_the_plain_ones(self, kind):
        y = normal(N_ROWS, N_TARGETS, seed=4).sigmoid().numpy()
        y[::4, 1] = np.nan
        table = table_of_eras(y=y)
        batch = next(RowBatches(table, 1, np.arange(N_ROWS), N_ROWS).epoch(0))
        task = self.task(table, kind)
        p = task.network.train()(batch.x)
        plain = {
            "mse": lambda p, y: (p - y) ** 2,
            "mae": lambda p, y: (p - y).abs(),
            "bce": lambda p, y: F.binary_cross_entropy(
                p.sigmoid(), y, reduction="none"
            ),
        }[kind]
        known = ~batch.y.isnan()
        cells = batch.weight[:, None].expand(-1, N_TARGETS)[known]
        expected = (plain(p[known], batch.y[known]) * cells).sum() / cells.sum()
        torch.testing.assert_close(task(batch), expected)

    def test_loss_of_eras_and_penalty(self):
        y = normal(N_ROWS, N_TARGETS + 1, seed=4).numpy()
        table = table_of_eras(y=y)
        batch = next(EraBatches(table, 1, np.arange(N_ROWS), CODES, 9).epoch(0))
        assert batch.members.sum(1).tolist() == [*SIZES]
        task = self.task(table, penalty=0.3).train()
        p = task.network(batch.x)
        value, n = target_loss("corr", p, batch.y[:, :3], batch.weight, batch.members)
        follows, m = squared_correlation(p, batch.y[:, 3], batch.weight, batch.members)
        torch.testing.assert_close(task(batch), value / n + 0.3 * follows / m)

    def test_evaluation_is_of_whole_eras(self):
        y = normal(N_ROWS, N_TARGETS + 1, seed=4).numpy()
        table = table_of_eras(y=y)
        task = self.task(table, penalty=0.3).eval()
        held_out = HeldOutBatches(table, 1, np.arange(N_ROWS), 100, CODES)
        sums = {}
        for batch in held_out:
            for name, value in task.evaluate(batch).items():
                sums[name] = sums.get(name, 0) + value
        metrics = task.metrics(sums)
        p = task.network(table.take(np.arange(N_ROWS))).detach()
        p, y, w = as_numpy(p, torch.from_numpy(y), WEIGHTS)
        told = [0, 1, 3, 4]
        each = 1 - plain_correlations(p, y[:, :3], w)[told].mean(axis=1)
        side = np.repeat(y[:, 3:], 3, axis=1)
        follows = (plain_correlations(p, side, w)[told] ** 2).mean(axis=1)
        of_eras = [w[CODES == e].mean() for e in told]
        loss, penalty = (np.average(v, weights=of_eras) for v in (each, follows))
        assert metrics["penalty"].item() == pytest.approx(penalty, abs=1e-5)
        assert metrics["loss"].item() == pytest.approx(loss + 0.3 * penalty, abs=1e-4)
        assert task.falling == {"loss", "penalty"}
        assert sums["eras"] == 4

    def test_a_batch_that_tells_nothing_moves_nothing(self):
        table = table_of_eras(y=np.full((N_ROWS, N_TARGETS), 0.3))
        batch = next(EraBatches(table, 1, np.arange(N_ROWS), CODES, 9).epoch(0))
        task = self.task(table).train()
        loss = task(batch)
        loss.backward()
        assert loss == 0
        assert not any(p.grad.any() for p in task.parameters() if p.grad is not None)

    def test_the_level_of_correlated_outputs_does_not_learn(self):
        table = table_of_eras()
        assert not make_network(table, has_level=False).head.bias.requires_grad
        assert make_network(table).head.bias.requires_grad

    def test_autocast_leaves_the_correlations_exact(self):
        p, y = sides()
        expected = target_loss("corr", p, y, WEIGHTS, MEMBERS)
        with torch.autocast("cpu", torch.bfloat16):
            found = target_loss("corr", p, y, WEIGHTS, MEMBERS)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


class TestBatchesOfSeveralEras:
    @pytest.mark.parametrize(("per_batch", "sizes"), [(1, [1] * 5), (2, [2, 2, 1])])
    def test_hold_so_many_whole_eras(self, per_batch, sizes):
        counts = (50, 40, 60, 700, 45)
        codes = np.repeat(np.arange(5), counts)
        rows, table = np.arange(len(codes)), table_of(bins(len(codes)))
        batches = EraBatches(table, 1, rows, codes, per_batch)
        assert batches.n_steps == len(sizes)
        seen = []
        for batch, size in zip(batches.epoch(0), sizes, strict=True):
            eras = np.unique(codes[batch._rows])
            assert len(eras) == len(batch.members) == size
            np.testing.assert_array_equal(batch.members.sum(1), np.take(counts, eras))
            seen += eras.tolist()
        assert sorted(seen) == [*range(5)]

    def test_small_eras_stay_apart(self):
        codes = np.repeat(np.arange(4), (1, 40, 7, 30))
        table = table_of(bins(len(codes)))
        batches = EraBatches(table, 1, np.arange(len(codes)), codes, 4)
        (batch,) = batches.epoch(0)
        assert sorted(batch.members.sum(1).tolist()) == [1, 7, 30, 40]
