"""The network against a plain one, layer by layer, in float64."""

import numpy as np
import pandas as pd
import pytest
import torch
from nn_parts import bins, table_of
from numerai_tools.scoring import numerai_corr
from torch import nn
from torch.nn import functional as F

from numerai_features.nn._batches import RowBatches
from numerai_features.nn._draws import TRAINING, Draws
from numerai_features.nn._losses import era_corr, target_loss
from numerai_features.nn._supervised import SupervisedAutoencoder, Supervising

SEEDS = (3, 8)
SIZES = {"n_components": 5, "decoder_units": 4, "hidden": (9, 8, 7)}
NO_DROPOUT = (0.0,) * 6
N_TARGETS = 3


class Plain(nn.Module):
    """One model as it is published, on standardised rows, without noise."""

    def __init__(self, stack, model):
        super().__init__()

        def linear(layer):
            weight = layer.weight[model]
            plain = nn.Linear(*weight.shape, bias=layer.bias is not None)
            with torch.no_grad():
                plain.weight.copy_(weight.T)
                if layer.bias is not None:
                    plain.bias.copy_(layer.bias[model])
            return plain

        def norm(*layers):
            n = sum(layer.gamma.shape[1] for layer in layers)
            plain = nn.BatchNorm1d(n)
            with torch.no_grad():
                plain.weight.copy_(torch.cat([layer.gamma[model] for layer in layers]))
                plain.bias.copy_(torch.cat([layer.beta[model] for layer in layers]))
            return plain

        self.norm_0 = norm(stack.table_norm)
        self.encode, self.norm_1 = linear(stack.encode), norm(stack.encode_norm)
        self.restore = linear(stack.restore)
        self.decoder, self.norm_2 = linear(stack.decoder), norm(stack.decoder_norm)
        self.decoder_head = linear(stack.decoder_head)
        self.norm_3 = norm(stack.wide_table_norm, stack.wide_code_norm)
        hidden = [(stack.wide, stack.wide_norm)]
        hidden += [(block.linear, block.norm) for block in stack.blocks]
        self.layers = nn.ModuleList(
            nn.Sequential(linear(a), norm(b), nn.SiLU()) for a, b in hidden
        )
        self.head = linear(stack.head)
        self.double()

    def forward(self, t, kept=None, grow=1.0):
        x0 = self.norm_0(t)
        code = F.silu(self.norm_1(self.encode(x0)))
        restored = self.restore(code)
        d = F.silu(self.norm_2(self.decoder(restored)))
        first = self.decoder_head(d)
        z = self.norm_3(torch.cat([x0, code], 1))
        if kept is not None:
            z = z * kept * grow
        for layer in self.layers:
            z = layer(z)
        return code, restored, first, self.head(z)


def noisy(module, seed=5):
    """Move all parameters away from their first values."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=generator))
    return module


def parts(n_rows=300, floats=False, dropout=NO_DROPOUT, noise=0.0, **options):
    """A table, a stack that has been moved, and a batch with targets."""
    X = bins(n_rows, 12)
    if floats:
        X = X + np.random.default_rng(0).normal(size=X.shape)
    table = table_of(X)
    stack = SupervisedAutoencoder(
        SEEDS, table, N_TARGETS, **{**SIZES, **options},
        activation="silu", noise=noise, dropout=dropout,
    )  # fmt: skip
    y = np.random.default_rng(1).random((n_rows, N_TARGETS)).astype(np.float32)
    y[::5, 1] = np.nan
    weights = np.linspace(0.5, 2, n_rows, dtype=np.float32)
    rows = [np.arange(n_rows)] * len(SEEDS)
    batches = RowBatches(table, SEEDS, rows, n_rows, weights, y)
    return table, noisy(stack), next(batches.epoch(0))


def standardised(table, batch, model):
    x = batch.x[model].double()
    return (x - table.center.double()) / table.scale.double()


def near(got, expected, tolerance=1e-6):
    """Within so much of it in root mean square: a float32 has 24 bits."""
    error = (got.double() - expected).norm() / expected.norm()
    assert error <= tolerance


class TestNetwork:
    @pytest.mark.parametrize("floats", [False, True])
    def test_is_the_plain_one(self, floats):
        table, stack, batch = parts(floats=floats)
        plains = [Plain(stack, m).train() for m in range(len(SEEDS))]
        stack.train()
        code, dropped, first, second = stack(batch.x)
        for m, plain in enumerate(plains):
            outputs = plain(standardised(table, batch, m))
            restored = stack.restore(dropped)
            for got, expected in zip(
                (code, restored, first, second), outputs, strict=True
            ):
                near(got[m], expected.detach())

    def test_is_the_plain_one_after_training(self):
        """With running moments, near those of many equal batches."""
        table, stack, batch = parts()
        plains = [Plain(stack, m).train() for m in range(len(SEEDS))]
        stack.train()
        for _ in range(300):
            stack(batch.x)
        stack.eval()
        for m, plain in enumerate(plains):
            t = standardised(table, batch, m)
            expected = [value.detach() for value in plain(t)]
            code, dropped, first, second = stack(batch.x)
            got = (code, stack.restore(dropped), first, second)
            for a, b in zip(got, expected, strict=True):
                near(a[m], b, 1e-5)

    def test_dropped_cells_are_those_of_the_normalised_rows(self):
        dropout = (0.0, 0.0, 0.4, 0.0, 0.0, 0.0)
        table, stack, batch = parts(dropout=dropout)
        plains = [Plain(stack, m).train() for m in range(len(SEEDS))]
        draws = Draws(SEEDS, TRAINING, 0, batch.x.shape[1])
        kept = [draws.chosen(0.6, n) for n in (12, 5)]
        stack.train()
        *_, second = stack(batch.x, Draws(SEEDS, TRAINING, 0, batch.x.shape[1]))
        for m, plain in enumerate(plains):
            both = torch.cat([k[m] for k in kept], 1)
            *_, expected = plain(standardised(table, batch, m), both, 1 / 0.6)
            near(second[m], expected.detach())

    def test_parameters_by_hand(self):
        _, stack, _ = parts()
        n, k, d, t, (a, b, c) = 12, 5, 4, 3, SIZES["hidden"]
        count = 2 * n + n * k + 2 * k  # norm, encode, norm
        count += k * n + n  # restore
        count += n * d + 2 * d + d * t + t  # decoder, norm, head
        count += 2 * (n + k) + (n + k) * a + 2 * a  # norm, wide, norm
        count += a * b + 2 * b + b * c + 2 * c + c * t + t
        assert sum(p[0].numel() for p in stack.parameters()) == count

    def test_noise_has_the_variance_of_noise_on_every_cell(self):
        _, stack, _ = parts(noise=0.5)
        draws = [Draws(SEEDS, TRAINING, s, 3000) for s in range(4)]
        sums = torch.cat([stack._noise(d) for d in draws], 1).double()
        weight = stack.encode.weight.detach().double()
        expected = 0.25 * torch.bmm(weight.mT, weight)
        got = torch.bmm(sums.mT, sums) / sums.shape[1]
        assert (got - expected).abs().max() < 0.05 * expected.abs().max()

    def test_gradients_of_noise_are_those_of_noise_on_every_cell(self):
        """On the mean: a quadratic of the sums has the gradient of its expectation."""
        _, stack, _ = parts(noise=0.5)
        weight = stack.encode.weight
        generator = torch.Generator().manual_seed(0)
        mix = torch.randn(2, 5, 5, generator=generator)
        gradient = torch.zeros_like(weight)
        for step in range(30):
            sums = stack._noise(Draws(SEEDS, TRAINING, step, 2000))
            value = (torch.bmm(sums, mix) * sums).sum() / sums.shape[1]
            gradient += torch.autograd.grad(value, weight)[0] / 30
        expected = 0.25 * torch.bmm(weight, mix + mix.mT)
        assert (gradient - expected).abs().max() < 0.08 * expected.abs().max()


class TestLosses:
    @pytest.mark.parametrize("kind", ["mse", "bce"])
    def test_are_the_plain_ones(self, kind):
        table, stack, batch = parts()
        task = Supervising(
            stack, kind, (0.5, 2.0, 3.0), torch.full((12,), 2.0), table.n_varying
        )
        plains = [Plain(stack, m).train() for m in range(len(SEEDS))]
        task.train()
        values = task(batch)
        values.sum().backward()
        for m, plain in enumerate(plains):
            w = batch.weight[m].double()[:, None]
            t = standardised(table, batch, m)
            _, restored, *heads = plain(t)
            y = batch.y[m].double()
            known = (~y.isnan()).double() * w
            y = y.nan_to_num()
            losses = [((restored - t) ** 2 * w).sum() / (w.sum() * 12)]
            for p in heads:
                each = (p - y) ** 2
                if kind == "bce":
                    each = F.binary_cross_entropy(p.sigmoid(), y, reduction="none")
                losses.append((each * known).sum() / known.sum())
            loss = 0.5 * losses[0] + 2 * losses[1] + 3 * losses[2]
            assert values[m].item() == pytest.approx(loss.item(), rel=1e-6)
            loss.backward()
            pairs = {
                stack.encode.weight: plain.encode.weight.grad.T,
                stack.table_norm.gamma: plain.norm_0.weight.grad,
                stack.restore.weight: plain.restore.weight.grad.T,
                stack.decoder.weight: plain.decoder.weight.grad.T,
                stack.wide.weight: plain.layers[0][0].weight.grad.T,
                stack.wide_table_norm.gamma: plain.norm_3.weight.grad[:12],
                stack.head.bias: plain.head.bias.grad,
            }
            for got, expected in pairs.items():
                near(got.grad[m], expected, 1e-5)

    def test_shifts_that_a_normalisation_takes_out_again_do_not_learn(self):
        """Their gradient is nothing but rounding, of which Adam makes long steps."""
        _, stack, _ = parts()
        frozen = {k for k, p in stack.named_parameters() if not p.requires_grad}
        wide = {"wide_table_norm.beta", "wide_code_norm.beta"}
        assert frozen == {"table_norm.beta"} | wide
        _, stack, _ = parts(dropout=(0.0, 0.0, 0.1, 0.0, 0.0, 0.0))
        frozen = {k for k, p in stack.named_parameters() if not p.requires_grad}
        assert frozen == {"table_norm.beta"}

    def test_evaluation_adds_up(self):
        table, stack, batch = parts()
        task = Supervising(stack, "mse", (1, 1, 1), torch.ones(12), table.n_varying)
        task.eval()
        metrics = task.metrics(task.evaluate(batch))
        _, _, _, p = stack(batch.x)
        w = batch.weight[..., None] * ~batch.y.isnan()
        expected = ((p - batch.y.nan_to_num()) ** 2 * w).sum((1, 2)) / w.sum((1, 2))
        torch.testing.assert_close(metrics["loss"], expected.detach())
        assert metrics.keys() == {"loss", "first", "restored", "corr"}


class TestTargetLoss:
    def sides(self, seed=0):
        generator = torch.Generator().manual_seed(seed)
        p = torch.randn(2, 400, 3, generator=generator)
        y = 0.2 * p + torch.randn(2, 400, 3, generator=generator)
        y[0, ::3, 1] = torch.nan
        return p.requires_grad_(), y

    def test_correlation_is_numpys(self):
        p, y = self.sides()
        value, count = target_loss("corr", p, y, None)
        for m in range(2):
            each = []
            for t in range(3):
                known = ~y[m, :, t].isnan().numpy()
                sides = p.detach()[m, known, t], y[m, known, t]
                each.append(np.corrcoef(*sides)[0, 1])
            loss = (value / count)[m].item()
            assert loss == pytest.approx(1 - np.mean(each), abs=1e-5)

    def test_power_is_near_numerais(self):

        p, y = self.sides()
        value, count = target_loss("numerai_corr", p, y, None)
        own = (1 - value / count).mean().item()
        each = []
        for m in range(2):
            for t in range(3):
                known = ~y[m, :, t].isnan().numpy()
                frame = pd.DataFrame({"p": p.detach()[m, known, t].numpy()})
                target = pd.Series(y[m, known, t].numpy(), name="y")
                each.append(numerai_corr(frame, target)["p"])
        assert own == pytest.approx(np.mean(each), abs=0.02)

    @pytest.mark.parametrize("kind", ["corr", "numerai_corr"])
    def test_gradients_are_finite_differences(self, kind):
        p, y = self.sides()
        w = torch.rand(2, 400, generator=torch.Generator().manual_seed(1))
        p = p.detach().double().requires_grad_()
        target_loss(kind, p, y.double(), w.double())[0].sum().backward()
        for at in ((0, 5, 0), (1, 17, 2), (0, 4, 1)):
            step = torch.zeros_like(p)
            step[at] = 1e-5
            with torch.no_grad():
                up, down = (
                    target_loss(kind, p + s, y.double(), w.double())[0].sum()
                    for s in (step, -step)
                )
            assert p.grad[at].item() == pytest.approx(
                (up - down).item() / 2e-5, rel=1e-3, abs=1e-8
            )

    def test_targets_that_tell_nothing_do_not_count(self):
        p, y = self.sides()
        y[:, :, 1], y[:, :, 2] = 0.5, torch.nan
        value, _ = target_loss("corr", p, y, None)
        alone, _ = target_loss("corr", p[..., :1], y[..., :1], None)
        torch.testing.assert_close(value, alone)


class TestEraCorr:
    def test_is_numerai_tools(self):

        generator = torch.Generator().manual_seed(0)
        p = torch.randn(2, 200, generator=generator)
        y = torch.randint(0, 5, (2, 200), generator=generator).float() / 4
        y[1, ::4] = torch.nan
        count, corr = era_corr(p, y)
        assert count.tolist() == [1, 1]
        for m in range(2):
            known = ~y[m].isnan().numpy()
            frame = pd.DataFrame({"p": p[m].numpy()[known]})
            target = pd.Series(y[m].numpy()[known], name="y")
            expected = numerai_corr(frame, target)["p"]
            assert corr[m].item() == pytest.approx(expected, abs=1e-5)

    def test_eras_without_targets_do_not_count(self):
        count, corr = era_corr(torch.rand(2, 9), torch.full((2, 9), torch.nan))
        assert count.tolist() == corr.tolist() == [0, 0]
