"""The network against a plain one, layer by layer, in float64."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from nn_parts import bins, normal, table_of
from numerai_tools.scoring import numerai_corr
from torch import nn
from torch.nn import functional as F

from numerai_features.nn._autoencoder import Autoencoder, Denoising
from numerai_features.nn._batches import RowBatches
from numerai_features.nn._draws import TRAINING, Draws
from numerai_features.nn._layers import initialize
from numerai_features.nn._losses import era_corr, target_loss
from numerai_features.nn._supervised import SupervisedAutoencoder, Supervising
from numerai_features.nn._table_norms import TableNorm

SIZES = {"n_components": 5, "decoder_units": 4, "hidden": (9, 8, 7)}
NO_DROPOUT = (0.0,) * 6
N_TARGETS = 3


class Plain(nn.Module):
    """The network as it is published, on standardised rows, without noise.

    Parameters
    ----------
    state : dict of str to Tensor
        The weights of a `SupervisedAutoencoder`; `names` tells what they are here.
    """

    def __init__(self, state):
        super().__init__()
        n_features, k = state["restore.weight"].shape
        widths = [state["wide.weight"].shape[1], *SIZES["hidden"]]
        self.norm_0 = nn.BatchNorm1d(n_features)
        self.encode, self.norm_1 = nn.Linear(n_features, k, False), nn.BatchNorm1d(k)
        self.restore = nn.Linear(k, n_features)
        self.decoder = nn.Linear(n_features, SIZES["decoder_units"], False)
        self.norm_2 = nn.BatchNorm1d(SIZES["decoder_units"])
        self.decoder_head = nn.Linear(SIZES["decoder_units"], N_TARGETS)
        self.norm_3 = nn.BatchNorm1d(n_features + k)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(a, b, False), nn.BatchNorm1d(b), nn.SiLU())
            for a, b in pairwise(widths)
        )
        self.head = nn.Linear(widths[-1], N_TARGETS)
        own = {
            **{f"{k}.weight": state[f"{k}.weight"] for k in ("encode", "decoder")},
            **{
                f"{k}.{kind}": state[f"{k}.{kind}"]
                for k in ("restore", "decoder_head", "head")
                for kind in ("weight", "bias")
            },
            "layers.0.0.weight": state["wide.weight"],
        }
        norms = {
            "norm_0": ["table_norm"], "norm_1": ["encode_norm"],
            "norm_2": ["decoder_norm"], "norm_3": ["wide_table_norm", "wide_code_norm"],
            "layers.0.1": ["wide_norm"],
        }  # fmt: skip
        for i in range(len(widths) - 2):
            own[f"layers.{i + 1}.0.weight"] = state[f"blocks.{i}.linear.weight"]
            norms[f"layers.{i + 1}.1"] = [f"blocks.{i}.norm"]
        for name, ours in norms.items():
            for theirs, kind in (("weight", "gamma"), ("bias", "beta")):
                parts = [state[f"{norm}.{kind}"] for norm in ours]
                own[f"{name}.{theirs}"] = torch.cat(parts)
        assert own.keys() == {name for name, _ in self.named_parameters()}
        self.load_state_dict(own, strict=False)
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
    with torch.no_grad():
        for i, p in enumerate(module.parameters()):
            p.add_(0.3 * normal(*p.shape, seed=seed + i))
    return module


def parts(n_rows=300, floats=False, dropout=NO_DROPOUT, noise=0.0, **options):
    """A table, a network that has been moved, and a batch with targets."""
    X = bins(n_rows, 12)
    if floats:
        X = X + np.random.default_rng(0).normal(size=X.shape)
    y = np.random.default_rng(1).random((n_rows, N_TARGETS))
    y[::5, 1] = np.nan
    table = table_of(X, weights=np.linspace(0.5, 2, n_rows), targets=y)
    network = SupervisedAutoencoder(
        table, N_TARGETS, **{**SIZES, **options},
        activation="silu", noise_level=noise, dropout=dropout,
    )  # fmt: skip
    initialize(network, 3)
    batches = RowBatches(table, 3, np.arange(n_rows), n_rows)
    return table, noisy(network), next(batches.epoch(0))


def standardised(table, batch):
    x = batch.x.double()
    return (x - table.center.double()) / table.scale.double()


def near(got, expected, tolerance=1e-6):
    """Within so much of it in root mean square: a float32 has 24 bits."""
    error = (got.double() - expected).norm() / expected.norm()
    assert error <= tolerance


class TestNetwork:
    @pytest.mark.parametrize("floats", [False, True])
    def test_is_the_plain_one(self, floats):
        table, network, batch = parts(floats=floats)
        plain = Plain(network.state_dict()).train()
        code, dropped, first, second = network.train()(batch.x)
        got = (code, network.restore(dropped), first, second)
        for a, b in zip(got, plain(standardised(table, batch)), strict=True):
            near(a, b.detach())

    def test_is_the_plain_one_after_training(self):
        """With running moments, near those of many equal batches."""
        table, network, batch = parts()
        plain = Plain(network.state_dict()).train()
        network.train()
        for _ in range(300):
            network(batch.x)
        code, dropped, first, second = network.eval()(batch.x)
        got = (code, network.restore(dropped), first, second)
        for a, b in zip(got, plain(standardised(table, batch)), strict=True):
            near(a, b.detach(), 1e-5)

    def test_dropped_cells_are_those_of_the_normalised_rows(self):
        dropout = (0.0, 0.0, 0.4, 0.0, 0.0, 0.0)
        table, network, batch = parts(dropout=dropout)
        plain = Plain(network.state_dict()).train()
        draws = Draws(3, TRAINING, 0, len(batch.x))
        kept = torch.cat([draws.chosen(0.6, n) for n in (12, 5)], 1)
        *_, second = network.train()(batch.x, Draws(3, TRAINING, 0, len(batch.x)))
        *_, expected = plain(standardised(table, batch), kept, 1 / 0.6)
        near(second, expected.detach())

    def test_parameters_by_hand(self):
        _, network, _ = parts()
        n, k, d, t, (a, b, c) = 12, 5, 4, 3, SIZES["hidden"]
        count = 2 * n + n * k + 2 * k  # norm, encode, norm
        count += k * n + n  # restore
        count += n * d + 2 * d + d * t + t  # decoder, norm, head
        count += 2 * (n + k) + (n + k) * a + 2 * a  # norm, wide, norm
        count += a * b + 2 * b + b * c + 2 * c + c * t + t
        assert sum(p.numel() for p in network.parameters()) == count

    def test_noise_has_the_variance_of_noise_on_every_cell(self):
        _, network, _ = parts(noise=0.5)
        draws = [Draws(3, TRAINING, s, 3000) for s in range(4)]
        sums = torch.cat([network._noise(d) for d in draws]).double()
        weight = network.encode.weight.detach().double()
        expected = 0.25 * weight @ weight.T
        got = sums.T @ sums / len(sums)
        assert (got - expected).abs().max() < 0.05 * expected.abs().max()

    def test_gradients_of_noise_are_those_of_noise_on_every_cell(self):
        """On the mean: a quadratic of the sums has the gradient of its expectation."""
        _, network, _ = parts(noise=0.5)
        weight, mix = network.encode.weight, normal(5, 5)
        gradient = torch.zeros_like(weight)
        for step in range(30):
            sums = network._noise(Draws(3, TRAINING, step, 2000))
            value = ((sums @ mix) * sums).sum() / len(sums)
            gradient += torch.autograd.grad(value, weight)[0] / 30
        expected = 0.25 * (mix + mix.T) @ weight
        assert (gradient - expected).abs().max() < 0.08 * expected.abs().max()

    def test_noise_is_of_training_alone(self):
        _, network, batch = parts(noise=0.5)
        draws = [Draws(3, TRAINING, s, len(batch.x)) for s in (0, 1)]
        network.train()
        code, other = (network(batch.x, d)[0] for d in draws)
        assert not torch.equal(code, other)
        network.eval()
        assert torch.equal(*(network(batch.x, d)[0] for d in (draws[0], None)))

    def test_relative_noise_has_the_variance_of_noise_on_every_cell(self):
        """Times the cell: its covariance differs from row to row."""
        _, network, batch = parts(noise=0.5)
        x, weight = batch.x[:1], network.encode.weight.detach().double()
        factor, shift, _ = network.eval().table_norm(x)
        rows = x.expand(4000, -1)
        sums = [
            network._relative_noise(rows, factor, shift, Draws(3, TRAINING, s, 4000))
            for s in range(4)
        ]
        sums = torch.cat(sums).detach().double()
        cells = (x.double() * factor + shift).detach()
        expected = 0.25 * (weight * cells**2) @ weight.T
        got = sums.T @ sums / len(sums)
        assert (got - expected).abs().max() < 0.05 * expected.abs().max()
        assert sums.mean(0).abs().max() < 0.05 * expected.diagonal().max().sqrt()

    def test_relative_noise_is_of_training_alone(self):
        _, network, batch = parts(noise=0.5)
        draws = Draws(3, TRAINING, 0, len(batch.x))
        network.train()
        plain = network(batch.x, draws)[0]
        network.noise = "relative"
        noisy = network(batch.x, draws)[0]
        network.noise_level = 0.0
        assert not torch.allclose(noisy, plain)
        assert not torch.allclose(noisy, network(batch.x, draws)[0])
        network.noise_level = 0.5
        network.eval()
        assert torch.equal(*(network(batch.x, d)[0] for d in (draws, None)))

    def test_starts_from_an_autoencoder(self):
        """Also where a column's deviation is not the table's, or none at all."""
        X = bins(300, 12)
        X[:, 3], X[:, 5] = 1, np.minimum(X[:, 5], 1)
        table = table_of(X, targets=np.zeros((300, 3)))
        batch = next(RowBatches(table, 3, np.arange(300), 300).epoch(0))
        network = SupervisedAutoencoder(
            table, 3, **SIZES, activation="silu", noise_level=0.0, dropout=NO_DROPOUT
        )
        initialize(network, 3)
        dae = Autoencoder(table, (), 5, "silu", code_activation="silu")
        noisy(dae, seed=9)
        for _ in range(300):
            dae.train().below_output(batch.x)
        network.start_from(Denoising(dae, None).state_dict(), batch.x)
        with torch.no_grad():
            code, dropped, *_ = network.eval()(batch.x)
            expected = dae.eval().below_output(batch.x)
            near(code, expected.double(), 1e-5)
            near(network.restore(dropped), dae.output(expected).double(), 1e-5)


class TestTableNorm:
    """Columns that hardly vary in a batch are not made huge, constant ones are zero."""

    def norm(self, X):
        table = table_of(X)
        return table, TableNorm(table)

    @pytest.mark.parametrize("training", [True, False])
    def test_least_variance(self, training):
        X = bins(400)
        X[:, 2], X[:40, 3], X[200:, 4] = 1, 2, 3
        table, norm = self.norm(X)
        rows = torch.from_numpy(X[:40])  # where column 3 does not vary
        if not training:
            for _ in range(300):
                norm.train()(rows)
        factor, shift, variance = norm.train(training)(rows)
        t = (rows.double() - table.center.double()) / table.scale.double()
        expected = t.var(0, correction=0)
        close = {"rtol": 1e-4, "atol": 1e-6}
        torch.testing.assert_close(variance.double(), expected.clamp(min=0.01), **close)
        got = rows * factor + shift
        plain = (t - t.mean(0)) / torch.sqrt(expected.clamp(min=0.01) + 1e-5)
        torch.testing.assert_close(got.double(), plain, rtol=1e-4, atol=1e-5)
        assert factor[2] == 0

    def test_autocast_changes_nothing(self):
        X = bins(400)
        results = []
        for enabled in (False, True):
            _, norm = self.norm(X)
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                results.append([*norm.train()(torch.from_numpy(X)), norm.variance])
        assert all(map(torch.equal, *results))


class TestLosses:
    @pytest.mark.parametrize("kind", ["mse", "bce"])
    def test_are_the_plain_ones(self, kind):
        table, network, batch = parts()
        task = Supervising(
            network, kind, (0.5, 2.0, 3.0), torch.full((12,), 2.0), table.n_varying
        )
        plain = Plain(network.state_dict()).train()
        value = task.train()(batch)
        value.backward()
        w = batch.weight.double()[:, None]
        t = standardised(table, batch)
        _, restored, *heads = plain(t)
        y = batch.y.double()
        known = (~y.isnan()).double() * w
        y = y.nan_to_num()
        losses = [((restored - t) ** 2 * w).sum() / (w.sum() * 12)]
        for p in heads:
            each = (p - y) ** 2
            if kind == "bce":
                each = F.binary_cross_entropy(p.sigmoid(), y, reduction="none")
            losses.append((each * known).sum() / known.sum())
        loss = 0.5 * losses[0] + 2 * losses[1] + 3 * losses[2]
        assert value.shape == ()
        assert value.item() == pytest.approx(loss.item(), rel=1e-6)
        loss.backward()
        pairs = {
            "encode.weight": plain.encode.weight.grad,
            "table_norm.gamma": plain.norm_0.weight.grad,
            "restore.weight": plain.restore.weight.grad,
            "restore.bias": plain.restore.bias.grad,
            "decoder.weight": plain.decoder.weight.grad,
            "decoder_head.bias": plain.decoder_head.bias.grad,
            "wide.weight": plain.layers[0][0].weight.grad,
            "wide_table_norm.gamma": plain.norm_3.weight.grad[:12],
            "wide_code_norm.gamma": plain.norm_3.weight.grad[12:],
            "blocks.1.linear.weight": plain.layers[2][0].weight.grad,
            "blocks.1.norm.beta": plain.layers[2][1].bias.grad,
            "head.bias": plain.head.bias.grad,
        }
        for name, expected in pairs.items():
            near(network.get_parameter(name).grad, expected, 3e-5)

    def test_a_sigmoid_before_squared_errors(self):
        table, network, batch = parts()
        middle = torch.full((12,), 2.0)
        task = Supervising(network, "mse", (0, 0, 1), middle, 12, sigmoid=True)
        value = task.train()(batch)
        value.backward()
        plain = Plain(network.state_dict()).train()
        *_, p = plain(standardised(table, batch))
        weights = ~batch.y.isnan() * batch.weight.double()[:, None]
        errors = (p.sigmoid() - batch.y.double().nan_to_num()) ** 2
        loss = (errors * weights).sum() / weights.sum()
        loss.backward()
        assert value.item() == pytest.approx(loss.item(), rel=1e-6)
        near(network.head.weight.grad, plain.head.weight.grad, 3e-5)

    def test_a_loss_for_each_target(self):
        """Each is a mean over the rows that know the target; then their mean."""
        table, network, batch = parts()
        kinds = ("bce", "mae", "corr")
        middle = torch.full((12,), 2.0)
        task = Supervising(network, kinds, (0, 0, 1), middle, 12, sigmoid=True)
        value = task.train()(batch)
        value.backward()
        plain = Plain(network.state_dict()).train()
        *_, p = plain(standardised(table, batch))
        losses = []
        for kind, own, y in zip(kinds, p.T, batch.y.double().T, strict=True):
            known = ~y.isnan()
            own, y, w = own[known], y[known], batch.weight.double()[known]
            if kind == "bce":
                each = F.binary_cross_entropy(own.sigmoid(), y, reduction="none")
            if kind == "mae":
                each = (own.sigmoid() - y).abs()
            if kind == "corr":
                w = w / w.sum()
                a, b = own.sigmoid(), y
                a, b = a - w @ a, b - w @ b
                each = 1 - (w @ (a * b)) / ((w @ (a * a)) * (w @ (b * b))).sqrt()
            losses.append((w * each).sum() / w.sum())
        loss = sum(losses) / 3
        loss.backward()
        assert value.item() == pytest.approx(loss.item(), rel=1e-5)
        near(network.head.weight.grad, plain.head.weight.grad, 3e-5)
        metrics = task.eval().metrics(task.evaluate(batch))
        assert metrics["loss"].shape == ()

    def test_a_target_that_no_row_of_a_batch_knows_is_no_loss(self):
        _, network, batch = parts()
        batch.y[:, 1] = np.nan
        middle = torch.full((12,), 2.0)
        kinds = ("mse", "corr", "mse")
        task = Supervising(network, kinds, (0, 0, 1), middle, 12).train()
        value = task(batch)
        value.backward()
        *_, p = network(batch.x)
        w = batch.weight[:, None] * ~batch.y.isnan()
        each = ((p - batch.y.nan_to_num()) ** 2 * w).sum(0)[[0, 2]] / w.sum(0)[[0, 2]]
        assert value.item() == pytest.approx(each.sum().item() / 3, rel=1e-5)
        assert not network.head.weight.grad[1].any()

    def test_bfloat16_is_near(self):
        table, network, batch = parts()
        middle = torch.full((12,), 2.0)
        task = Supervising(network, "mse", (1, 1, 1), middle, table.n_varying).train()
        exact = task(batch)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = task(batch)
        assert rounded.dtype == torch.float32
        assert rounded != exact
        torch.testing.assert_close(rounded, exact, rtol=0.03, atol=0)

    def test_missing_cells_count_as_their_middle(self):
        """In the loss of rows restored, too."""
        X = bins(300).astype(float)
        middle = np.full(12, 2.0)
        gaps = np.random.default_rng(2).random(X.shape) < 0.1
        y = np.random.default_rng(1).random((300, N_TARGETS))
        values = []
        for has_missing in (True, False):
            filled = np.where(gaps, np.nan if has_missing else middle, X)
            table = table_of(X, targets=y)
            table.X = filled
            network = parts()[1]
            for name in ("center", "scale", "varies"):
                getattr(network.table_norm, name).copy_(getattr(table, name))
            task = Supervising(
                network, "mse", (1, 1, 1), table.as_taken(middle), 12, has_missing
            )
            [batch] = RowBatches(table, 3, np.arange(300), 300).epoch(0)
            assert batch.x.isnan().any() == has_missing
            values.append(task.train()(batch))
        torch.testing.assert_close(*values, rtol=1e-5, atol=0)

    def test_shifts_that_a_normalisation_takes_out_again_do_not_learn(self):
        """Their gradient is nothing but rounding, of which Adam makes long steps."""
        _, network, _ = parts()
        frozen = {k for k, p in network.named_parameters() if not p.requires_grad}
        wide = {"wide_table_norm.beta", "wide_code_norm.beta"}
        assert frozen == {"table_norm.beta"} | wide
        _, network, _ = parts(dropout=(0.0, 0.0, 0.1, 0.0, 0.0, 0.0))
        frozen = {k for k, p in network.named_parameters() if not p.requires_grad}
        assert frozen == {"table_norm.beta"}

    def test_evaluation_adds_up(self):
        table, network, batch = parts()
        task = Supervising(network, "mse", (1, 1, 1), torch.ones(12), table.n_varying)
        task.eval()
        metrics = task.metrics(task.evaluate(batch))
        _, dropped, first, second = network(batch.x)
        w = batch.weight[:, None] * ~batch.y.isnan()
        for name, p in (("loss", second), ("first", first)):
            expected = ((p - batch.y.nan_to_num()) ** 2 * w).sum() / w.sum()
            torch.testing.assert_close(metrics[name], expected.detach())
        gap = network.restore(dropped) - standardised(table, batch)
        expected = (gap**2 * batch.weight[:, None]).sum() / (12 * batch.weight.sum())
        assert metrics["restored"].item() == pytest.approx(expected.item(), rel=1e-5)
        count, corr = era_corr(second.detach()[:, 0], batch.y[:, 0])
        assert count == 1
        torch.testing.assert_close(metrics["corr"], corr)
        assert metrics.keys() == {"loss", "first", "restored", "corr"}
        assert not any(value.requires_grad for value in metrics.values())

    def test_what_falls_and_whether_eras_are_judged(self):
        table, network, batch = parts()
        options = "mse", (1, 1, 1), torch.ones(12), table.n_varying
        task = Supervising(network, *options)
        assert task.falling == {"loss", "first", "restored"}
        assert task.judges_eras
        task = Supervising(network, *options, has_eras=False).eval()
        assert not task.judges_eras
        told = task.metrics(task.evaluate(batch)).keys()
        assert told == {"loss", "first", "restored"}


class TestTargetLoss:
    def sides(self, seed=0):
        p = normal(400, 6, seed=seed)
        y = 0.2 * p + normal(400, 6, seed=seed + 1)
        y[::3, 1] = torch.nan
        return p.requires_grad_(), y

    def test_correlation_is_numpys(self):
        p, y = self.sides()
        value, count = target_loss("corr", p, y, None)
        each = []
        for t in range(6):
            known = ~y[:, t].isnan().numpy()
            sides = p.detach()[known, t], y[known, t]
            each.append(np.corrcoef(*sides)[0, 1])
        assert value.shape == count.shape == ()
        assert (value / count).item() == pytest.approx(1 - np.mean(each), abs=1e-5)

    def test_power_is_near_numerais(self):
        p, y = self.sides()
        value, count = target_loss("numerai_corr", p, y, None)
        each = []
        for t in range(6):
            known = ~y[:, t].isnan().numpy()
            frame = pd.DataFrame({"p": p.detach()[known, t].numpy()})
            target = pd.Series(y[known, t].numpy(), name="y")
            each.append(numerai_corr(frame, target)["p"])
        own = (1 - value / count).item()
        assert own == pytest.approx(np.mean(each), abs=0.02)

    @pytest.mark.parametrize("kind", ["corr", "numerai_corr"])
    def test_gradients_are_finite_differences(self, kind):
        p, y = self.sides()
        w = torch.rand(400, generator=torch.Generator().manual_seed(1))
        p = p.detach().double().requires_grad_()
        target_loss(kind, p, y.double(), w.double())[0].backward()
        for at in ((5, 0), (17, 2), (4, 1)):
            step = torch.zeros_like(p)
            step[at] = 1e-5
            with torch.no_grad():
                up, down = (
                    target_loss(kind, p + s, y.double(), w.double())[0]
                    for s in (step, -step)
                )
            assert p.grad[at].item() == pytest.approx(
                (up - down).item() / 2e-5, rel=1e-3, abs=1e-8
            )

    def test_targets_that_tell_nothing_do_not_count(self):
        p, y = self.sides()
        y[:, 1], y[:, 2] = 0.5, torch.nan
        value, _ = target_loss("corr", p[:, :3], y[:, :3], None)
        alone, _ = target_loss("corr", p[:, :1], y[:, :1], None)
        torch.testing.assert_close(value, alone)

    @pytest.mark.parametrize("kind", ["mse", "bce", "corr", "numerai_corr"])
    def test_rows_of_weight_zero_do_not_count(self, kind):
        p, y = self.sides()
        y, w = y.sigmoid(), torch.ones(400)
        w[250:] = 0
        value, count = target_loss(kind, p, y, w)
        few, counted = target_loss(kind, p[:250], y[:250], None)
        torch.testing.assert_close(value / count, few / counted)


class TestEraCorr:
    @pytest.mark.parametrize("missing", [False, True])
    def test_is_numerai_tools(self, missing):
        p = normal(200)
        rng = torch.Generator().manual_seed(0)
        y = torch.randint(0, 5, (200,), generator=rng).float() / 4
        if missing:
            y[::4] = torch.nan
        count, corr = era_corr(p, y)
        assert count == 1
        known = ~y.isnan().numpy()
        frame = pd.DataFrame({"p": p.numpy()[known]})
        expected = numerai_corr(frame, pd.Series(y.numpy()[known], name="y"))["p"]
        assert corr.item() == pytest.approx(expected, abs=1e-5)

    @pytest.mark.parametrize("y", [[torch.nan] * 9, [0.5] * 9, [0.5] + [torch.nan] * 8])
    def test_eras_without_targets_do_not_count(self, y):
        count, corr = era_corr(torch.rand(9), torch.tensor(y))
        assert count == corr == 0
