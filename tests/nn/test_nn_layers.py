"""Layers against torch's own, in float64."""

import copy
import inspect
import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from nn_parts import normal
from scipy import stats
from torch import nn

from numerai_features import encoders
from numerai_features.nn._draws import TRAINING, Draws
from numerai_features.nn._layers import (
    ACTIVATIONS,
    BatchNorm,
    Block,
    Dropout,
    Linear,
    Standardized,
    initialize,
)
from numerai_features.nn._threads import own_threads


def close(a, b, tolerance=1e-5):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def plain_linear(weight, bias=None):
    """Torch's layer with these numbers, float64."""
    n_out, n_in = weight.shape
    plain = nn.Linear(n_in, n_out, bias=bias is not None).double()
    with torch.no_grad():
        plain.weight.copy_(weight)
        if bias is not None:
            plain.bias.copy_(bias)
    return plain


def linear_layer(n_in, n_out, seed=1, **options):
    """A layer whose bias is not zero."""
    layer = Linear(n_in, n_out, **options)
    initialize(layer, seed)
    fill_with_noise(layer)
    return layer


def fill_with_noise(module, seed=1):
    with torch.no_grad():
        for i, p in enumerate(module.parameters()):
            p.add_(0.5 * normal(*p.shape, seed=seed + i))


def bfloat16():
    return torch.autocast("cpu", torch.bfloat16)


def is_rounded(x):
    """Tell whether numbers have no more digits than bfloat16 has."""
    return torch.equal(x, x.bfloat16().float())


class TestLinear:
    @pytest.mark.parametrize("bias", [True, False])
    def test_is_torchs_layer(self, bias):
        layer = linear_layer(7, 5, bias=bias)
        plain = plain_linear(layer.weight, layer.bias)
        x, up = normal(11, 7).requires_grad_(), normal(11, 5, seed=2)
        layer(x).backward(up)
        mine = x.detach().double().requires_grad_()
        plain(mine).backward(up.double())
        close(layer(x).double(), plain(mine))
        close(x.grad.double(), mine.grad)
        for name, p in layer.named_parameters():
            close(p.grad.double(), plain.get_parameter(name).grad)

    def test_is_zero_until_it_is_initialised(self):
        torch.manual_seed(0)
        before = torch.random.get_rng_state()
        layer = Linear(6, 4)
        assert torch.equal(torch.random.get_rng_state(), before)
        assert not layer.weight.any()
        assert not layer.bias.any()
        assert Linear(6, 4, bias=False).bias is None

    def test_bfloat16_products_of_float32_parameters(self):
        layer, x = linear_layer(40, 5, bias=False), normal(20, 40)
        with bfloat16():
            y = layer(x)
        assert y.dtype == layer.weight.dtype == torch.float32
        assert is_rounded(y)
        assert not is_rounded(layer(x))
        close(y, layer(x), 0.03)
        y.sum().backward()
        assert layer.weight.grad.dtype == torch.float32


class Attention(nn.Module):
    """A block of a transformer, in torch's own layers."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(10, 16)
        self.attend = nn.MultiheadAttention(16, 4, batch_first=True)
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 2, bias=False)

    def forward(self, x):
        h = self.embed(x)
        return self.head(self.norm(h + self.attend(h, h, h, need_weights=False)[0]))


class TestInitialize:
    @pytest.mark.parametrize("kind", [nn.Linear, Linear])
    def test_weights_are_distributed_as_torchs(self, kind):
        torch.manual_seed(0)
        theirs = nn.Linear(50, 400).weight.detach().numpy().ravel()
        layer = kind(50, 400)
        initialize(layer, 1)
        ours = layer.weight.detach().numpy().ravel()
        assert stats.ks_2samp(ours, theirs).pvalue > 1e-3
        uniform = stats.uniform(-1 / math.sqrt(50), 2 / math.sqrt(50))
        assert stats.kstest(ours, uniform.cdf).pvalue > 1e-3
        assert np.abs(ours).max() <= 1 / math.sqrt(50)
        assert not layer.bias.any()

    def test_weights_are_of_the_seed_and_the_name(self):
        def weights(seed, names=("a", "b")):
            module = nn.ModuleDict({name: Linear(6, 4) for name in names})
            initialize(module, seed)
            return {name: module[name].weight.detach() for name in names}

        first = weights(3)
        for other in (weights(3), weights(3, ("b", "a")), weights(3, ("c", "a", "b"))):
            assert all(torch.equal(other[name], first[name]) for name in "ab")
        assert not torch.equal(first["a"], first["b"])
        assert not torch.equal(first["a"], weights(4)["a"])

    @pytest.mark.parametrize("seed", [0, 2**32, 2**63, 2**64 - 1])
    def test_any_seed(self, seed):
        layer = Linear(6, 4)
        initialize(layer, seed)
        assert len(layer.weight.unique()) == 24

    def test_matrices_of_one_module_are_independent(self):
        module = nn.ModuleList(Linear(100, 100) for _ in range(12))
        initialize(module, 1)
        cells = np.stack([m.weight.detach().flatten() for m in module])
        between = np.corrcoef(cells)[np.triu_indices(12, 1)]
        assert np.abs(between).max() < 4.5 / np.sqrt(cells.shape[1])

    def test_torchs_global_generator_is_neither_used_nor_moved(self):
        weights = []
        for seed in (0, 1):
            torch.manual_seed(seed)
            module = Attention()
            before = torch.random.get_rng_state()
            initialize(module, 5)
            assert torch.equal(torch.random.get_rng_state(), before)
            weights.append(module.state_dict())
        first, second = weights
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_a_module_of_torchs_own_layers(self):
        module = Attention()
        initialize(module, 1)
        fan_in = {
            "embed.weight": 10, "attend.in_proj_weight": 16,
            "attend.out_proj.weight": 16, "head.weight": 16,
        }  # fmt: skip
        for name, p in module.named_parameters():
            if name in fan_in:
                bound = 1 / math.sqrt(fan_in[name])
                assert 0.9 * bound < p.detach().abs().max() <= bound, name
                assert abs(p.detach().mean()) < 4.5 * bound / math.sqrt(3 * p.numel())
            elif name == "norm.weight":
                assert (p == 1).all()
            else:
                assert name.rpartition("_")[2].rpartition(".")[2] == "bias"
                assert not p.any(), name
        y = module(normal(7, 3, 10))
        y.square().sum().backward()
        assert y.shape == (7, 3, 2)
        assert all(p.grad.isfinite().all() for p in module.parameters())

    def test_more_axes_count_as_what_comes_in(self):
        convolution = nn.Conv1d(6, 40, 5)
        initialize(convolution, 1)
        bound = 1 / math.sqrt(6 * 5)
        assert 0.95 * bound < convolution.weight.detach().abs().max() <= bound
        assert not convolution.bias.any()

    def test_all_else_stays_as_it_was_made(self):
        norm = nn.BatchNorm1d(4)
        with torch.no_grad():
            norm.weight.fill_(3.0)
            norm.bias.fill_(2.0)
        norm.running_mean.fill_(5.0)
        initialize(norm, 1)
        assert (norm.weight == 3).all()
        assert not norm.bias.any()
        assert (norm.running_mean == 5).all()

    def test_leaves_no_gradient(self):
        layer = Linear(3, 2)
        initialize(layer, 1)
        assert all(p.requires_grad and p.grad_fn is None for p in layer.parameters())


class TestStandardized:
    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float32])
    def test_is_torchs_layer_on_standardised_rows(self, dtype, bias):
        linear = linear_layer(6, 4, bias=bias)
        center, scale = 2 + normal(6), 0.5 + normal(6, seed=1).abs()
        layer = Standardized(linear, center, scale)
        rng = torch.Generator().manual_seed(2)
        x = torch.randint(0, 5, (13, 6), generator=rng).to(dtype)
        up = normal(13, 4, seed=3)
        y = layer(x)
        y.backward(up)
        t = (x.double() - center) / scale
        close(layer.standardize(x).double(), t)
        plain = plain_linear(linear.weight, linear.bias)
        expected = plain(t)
        expected.backward(up.double())
        close(y.double(), expected)
        for name, p in linear.named_parameters():
            close(p.grad.double(), plain.get_parameter(name).grad)

    def test_gradient_of_float_rows(self):
        linear = linear_layer(6, 4)
        scale = 0.5 + normal(6, seed=1).abs()
        x = normal(5, 6).requires_grad_()
        up = normal(5, 4, seed=3)
        Standardized(linear, normal(6), scale)(x).backward(up)
        close(x.grad, up @ linear.weight.detach() / scale)

    def test_keeps_copies_of_what_it_is_given(self):
        center, scale = torch.zeros(3), torch.ones(3)
        layer = Standardized(Linear(3, 2), center, scale)
        center.fill_(9)
        scale.fill_(9)
        assert not layer.center.any()
        assert (layer.scale == 1).all()

    def test_bfloat16_is_near(self):
        rng = torch.Generator().manual_seed(0)
        x = torch.randint(0, 5, (50, 100), generator=rng).char()
        linear = Linear(100, 8, bias=False)
        initialize(linear, 1)
        layer = Standardized(linear, torch.full((100,), 2.0), torch.full((100,), 1.4))
        exact = layer(x)
        with bfloat16():
            rounded = layer(x)
        assert rounded.dtype == torch.float32
        assert not torch.equal(exact, rounded)
        close(rounded, exact, 0.02)


class TestBatchNorm:
    def pair(self, n=4):
        """Our layer, and torch's with its parameters, float64."""
        ours = BatchNorm(n)
        fill_with_noise(ours)
        theirs = nn.BatchNorm1d(n).double()
        with torch.no_grad():
            theirs.weight.copy_(ours.gamma)
            theirs.bias.copy_(ours.beta)
        return ours, theirs

    def test_begins_as_torchs(self):
        ours, theirs = BatchNorm(3), nn.BatchNorm1d(3)
        names = ["weight", "bias", "running_mean", "running_var"]
        for name, mine in zip(names, ours.state_dict().values(), strict=True):
            assert torch.equal(mine, theirs.state_dict()[name])
        assert (ours.eps, ours.momentum) == (theirs.eps, theirs.momentum)

    def test_training_is_torchs(self):
        ours, plain = self.pair()
        ours.train()
        n_rows = 17
        x = (1.5 * normal(n_rows, 4) + 2).requires_grad_()
        up = normal(n_rows, 4, seed=5)
        y = ours(x)
        y.backward(up)
        mine = x.detach().double().requires_grad_()
        expected = plain(mine)
        expected.backward(up.double())
        close(y.double(), expected)
        close(x.grad.double(), mine.grad)
        close(ours.gamma.grad.double(), plain.weight.grad)
        close(ours.beta.grad.double(), plain.bias.grad)
        close(ours.mean.double(), plain.running_mean)
        # Torch keeps the unbiased variance, from 1 on.
        unbiased = (ours.variance.double() - 0.9) * n_rows / (n_rows - 1)
        close(unbiased + 0.9, plain.running_var)

    def test_evaluation_is_torchs_and_affine(self):
        ours, plain = self.pair()
        ours.mean.copy_(normal(4, seed=6))
        ours.variance.copy_(normal(4, seed=7).abs())
        ours.eval()
        before = ours.mean.clone(), ours.variance.clone()
        x = normal(9, 4)
        y = ours(x)
        assert torch.equal(ours.mean, before[0])
        assert torch.equal(ours.variance, before[1])
        scale, shift = ours.affine()
        assert scale.shape == shift.shape == (4,)
        close(y, x * scale + shift)
        plain.running_mean.copy_(ours.mean)
        plain.running_var.copy_(ours.variance)
        close(y.double(), plain.eval()(x.double()))

    def test_gradients_by_differences(self):
        norm = BatchNorm(3).double()
        x = normal(5, 3).double().requires_grad_()

        def run(x, gamma, beta):
            own = {"gamma": gamma, "beta": beta}
            return torch.func.functional_call(norm, own, (x,))

        gamma, beta = (normal(3, seed=s).double().requires_grad_() for s in (1, 2))
        assert torch.autograd.gradcheck(run, (x, gamma, beta))

    def test_a_column_far_from_zero(self):
        ours, plain = self.pair()
        ours.train()
        x = 30 + normal(4000, 4)
        close(ours(x).double(), plain(x.double()), 2e-3)

    @pytest.mark.parametrize("n_rows", [1, 6])
    def test_constant_columns_and_single_rows_become_beta(self, n_rows):
        ours, _ = self.pair()
        x = torch.full((n_rows, 4), 0.25).requires_grad_()
        y = ours.train()(x)
        close(y, ours.beta.expand_as(y))
        y.sum().backward()
        close(x.grad, torch.zeros_like(x), 1e-4)
        assert torch.isfinite(ours.variance).all()

    @pytest.mark.parametrize("training", [True, False])
    def test_autocast_changes_nothing(self, training):
        ours, _ = self.pair()
        again = copy.deepcopy(ours)
        x, up = normal(90, 4), normal(90, 4, seed=1)
        results = []
        for norm, context in ((ours, bfloat16()), (again, nullcontext())):
            mine = x.clone().requires_grad_()
            with context:
                y = norm.train(training)(mine)
            y.backward(up)
            gradients = mine.grad, norm.gamma.grad, norm.beta.grad
            results.append([y.detach(), *gradients, norm.mean, norm.variance])
        assert all(map(torch.equal, *results))


class TestDropout:
    def test_keeps_the_expectation(self):
        layer = Dropout(0.3).train()
        x = torch.ones(100, 40)
        sums = torch.zeros_like(x)
        n_steps = 400
        for step in range(n_steps):
            y = layer(x, Draws(1, TRAINING, step, 100))
            kept = y != 0
            close(y[kept], torch.full_like(y[kept], 1 / 0.7))
            sums += y
        spread = math.sqrt(0.3 / 0.7 / n_steps)
        mean = sums / n_steps
        assert abs(mean.mean() - 1) < 4.5 * spread / math.sqrt(x.numel()) + 1e-4
        assert (mean - 1).abs().max() < 5.5 * spread

    def test_drops_other_cells_for_another_seed(self):
        layer, x = Dropout(0.3).train(), torch.ones(50, 40)
        first, other, again = (layer(x, Draws(s, TRAINING, 0, 50)) for s in (1, 2, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    def test_is_off_outside_training(self):
        x, draws = normal(5, 4), Draws(1, TRAINING, 0, 5)
        assert torch.equal(Dropout(0.5).eval()(x, draws), x)
        assert torch.equal(Dropout(0.5).train()(x, None), x)
        assert torch.equal(Dropout(0.0).train()(x, draws), x)
        assert not torch.equal(Dropout(0.5).train()(x, draws), x)

    def test_gradient_is_that_of_kept_cells(self):
        x = normal(30, 4).requires_grad_()
        y = Dropout(0.5).train()(x, Draws(1, TRAINING, 0, 30))
        y.sum().backward()
        close(x.grad, 2 * (y.detach() != 0).float())


class TestActivations:
    torchs = {
        "hardswish": nn.Hardswish(),
        "identity": nn.Identity(),
        "relu": nn.ReLU(),
        "sigmoid": nn.Sigmoid(),
        "silu": nn.SiLU(),
        "tanh": nn.Tanh(),
    }

    def test_names_are_those_of_encoders(self):
        assert ACTIVATIONS.keys() == self.torchs.keys()
        for name in ACTIVATIONS:
            encoders.Activation(name)
        listed = inspect.getdoc(encoders.Activation).split("name : {")[1].split("}")[0]
        assert set(listed.replace('"', "").split(", ")) == ACTIVATIONS.keys()

    @pytest.mark.parametrize("name", torchs)
    def test_are_torchs_and_the_encoders(self, name):
        x = torch.linspace(-30, 30, 1001)[:, None]
        got = ACTIVATIONS[name](x)
        assert torch.equal(got, self.torchs[name](x))
        step = encoders.Encoder([("a", encoders.Activation(name))])
        np.testing.assert_allclose(
            step.transform(x.numpy()), got.numpy(), rtol=3e-6, atol=1e-12
        )

    @pytest.mark.parametrize("name", torchs)
    def test_of_a_normalised_batch_in_blocks(self, name):
        """Values and gradients: the blocks that threads share have their own code."""
        x = 3 * normal(5000, 40)
        plain, norm = nn.BatchNorm1d(40).double(), BatchNorm(40).train()
        mine, theirs = (v.requires_grad_() for v in (x.clone(), x.double()))
        with own_threads(2):
            got = norm(mine, name)
            got.backward(normal(5000, 40, seed=1))
        expected = self.torchs[name](plain(theirs))
        expected.backward(normal(5000, 40, seed=1).double())
        close(got.double(), expected)
        # hardswish has kinks, on either side of which float32 may fall
        rarely = (mine.grad.double() - theirs.grad).abs() > 1e-5
        assert rarely.double().mean() < 1e-4
        close(norm.beta.grad.double(), plain.bias.grad, 1e-4)


class TestBlock:
    def plain(self, block, weight):
        """Torch's sequence, float64, with the block's parameters."""
        linear, norm = plain_linear(weight), nn.BatchNorm1d(len(weight)).double()
        state = block.norm.state_dict()
        names = {"weight": "gamma", "bias": "beta", "running_mean": "mean"}
        names["running_var"] = "variance"
        norm.load_state_dict({k: state[v] for k, v in names.items()}, strict=False)
        return nn.Sequential(linear, norm, nn.Tanh())

    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("first", [True, False])
    def test_is_torchs_sequence(self, first, training):
        """In training with dropout, whose cells are those of the draws."""
        linear = linear_layer(6, 4, bias=False)
        center, scale = torch.ones(6), torch.full((6,), 2.0)
        layer = Standardized(linear, center, scale) if first else linear
        block = Block(layer, "tanh", dropout=0.4)
        fill_with_noise(block.norm)
        block.norm.mean.copy_(normal(4, seed=8))
        block.norm.variance.copy_(0.1 + normal(4, seed=9).abs())
        plain = self.plain(block, linear.weight).train(training)
        x = normal(30, 6)
        y = block.train(training)(x, Draws(1, TRAINING, 0, 30))
        y.square().sum().backward()
        t = x.double()
        expected = plain((t - center) / scale if first else t)
        if training:
            kept = Draws(1, TRAINING, 0, 30).chosen(0.6, 4)
            assert 0.3 < kept.float().mean() < 0.9
            expected = expected * kept / 0.6
        expected.square().sum().backward()
        close(y.double(), expected)
        ours = (linear.weight, block.norm.gamma, block.norm.beta)
        for p, theirs in zip(ours, plain.parameters(), strict=True):
            close(p.grad.double(), theirs.grad)

    def test_without_draws_nothing_is_dropped(self):
        block = Block(linear_layer(6, 4, bias=False), "silu", dropout=0.4).train()
        assert (block(normal(30, 6)) != 0).all()
