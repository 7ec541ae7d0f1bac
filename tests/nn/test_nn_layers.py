"""Stacked layers against torch's own, model by model."""

import inspect
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from numerai_features import encoders
from numerai_features.nn._draws import TRAINING, Draws
from numerai_features.nn._layers import (
    ACTIVATIONS,
    BatchNorm,
    Block,
    Dropout,
    StackedLinear,
    Standardized,
)

SEEDS = (3, 4, 5)


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def close(a, b, tolerance=1e-5):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def plain_linear(stacked, model):
    """Torch's layer with one model's weights, float64."""
    _, n_in, n_out = stacked.weight.shape
    plain = nn.Linear(n_in, n_out, bias=stacked.bias is not None).double()
    with torch.no_grad():
        plain.weight.copy_(stacked.weight[model].T)
        if stacked.bias is not None:
            plain.bias.copy_(stacked.bias[model])
    return plain


def fill_with_noise(module, seed=1):
    with torch.no_grad():
        for i, p in enumerate(module.parameters()):
            p.add_(0.5 * normal(*p.shape, seed=seed + i))


class TestStackedLinear:
    @pytest.mark.parametrize("bias", [True, False])
    def test_is_torchs_layer_for_each_model(self, bias):
        stacked = StackedLinear(SEEDS, 0, 7, 5, bias=bias)
        fill_with_noise(stacked)
        x = normal(3, 11, 7).requires_grad_()
        up = normal(3, 11, 5, seed=2)
        y = stacked(x)
        y.backward(up)
        for model in range(3):
            plain = plain_linear(stacked, model)
            mine = x[model].detach().double().requires_grad_()
            expected = plain(mine)
            expected.backward(up[model].double())
            close(y[model].double(), expected)
            close(x.grad[model].double(), mine.grad)
            close(stacked.weight.grad[model].double(), plain.weight.grad.T)
            if bias:
                close(stacked.bias.grad[model].double(), plain.bias.grad)

    def test_initial_weights_are_distributed_as_torchs(self):
        stacked = StackedLinear((1,), 0, 50, 400)
        torch.manual_seed(0)
        plain = nn.Linear(50, 400)
        ours = stacked.weight.detach().numpy().ravel()
        theirs = plain.weight.detach().numpy().ravel()
        assert stats.ks_2samp(ours, theirs).pvalue > 1e-3
        assert np.abs(ours).max() <= 1 / math.sqrt(50)
        assert (stacked.bias == 0).all()

    def test_initial_weights_are_of_the_seed_and_the_name(self):
        stacked = StackedLinear(SEEDS, 0, 6, 4)
        for model, seed in enumerate(SEEDS):
            alone = StackedLinear((seed,), 0, 6, 4)
            assert torch.equal(alone.weight[0], stacked.weight[model])
        others = [StackedLinear((3,), 1, 6, 4), StackedLinear((4,), 0, 6, 4)]
        assert not any(torch.equal(o.weight[0], stacked.weight[0]) for o in others)

    def test_bfloat16_products_of_float32_parameters(self):
        exact = StackedLinear(SEEDS, 0, 40, 5)
        rounded = StackedLinear(SEEDS, 0, 40, 5, dtype=torch.bfloat16)
        x = normal(3, 20, 40)
        y = rounded(x)
        assert y.dtype == rounded.weight.dtype == torch.float32
        assert not torch.equal(y, exact(x))
        close(y, exact(x), 0.03)
        y.sum().backward()
        assert rounded.weight.grad.dtype == torch.float32


class TestStandardized:
    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("dtype", [torch.int8, torch.float32])
    def test_is_torchs_layer_on_standardised_rows(self, dtype, bias):
        linear = StackedLinear(SEEDS, 0, 6, 4, bias=bias)
        fill_with_noise(linear)
        center, scale = 2 + normal(6), 0.5 + normal(6, seed=1).abs()
        layer = Standardized(linear, center, scale)
        rng = torch.Generator().manual_seed(2)
        x = torch.randint(0, 5, (3, 13, 6), generator=rng).to(dtype)
        up = normal(3, 13, 4, seed=3)
        y = layer(x)
        y.backward(up)
        t = ((x.double() - center) / scale).requires_grad_()
        for model in range(3):
            plain = plain_linear(linear, model)
            expected = plain(t[model])
            expected.backward(up[model].double())
            close(y[model].double(), expected)
            close(linear.weight.grad[model].double(), plain.weight.grad.T)
            if bias:
                close(linear.bias.grad[model].double(), plain.bias.grad)

    def test_gradient_of_float_rows(self):
        linear = StackedLinear(SEEDS, 0, 6, 4)
        scale = 0.5 + normal(6, seed=1).abs()
        x = normal(3, 5, 6).requires_grad_()
        up = normal(3, 5, 4, seed=3)
        Standardized(linear, normal(6), scale)(x).backward(up)
        close(x.grad, torch.matmul(up, linear.weight.detach().mT) / scale)

    def test_bfloat16_is_near(self):
        x = torch.randint(0, 5, (1, 50, 100), generator=torch.Generator()).char()
        center, scale = torch.full((100,), 2.0), torch.full((100,), 1.4)
        layers = [
            Standardized(StackedLinear((1,), 0, 100, 8, dtype=d), center, scale)
            for d in (torch.float32, torch.bfloat16)
        ]
        exact, rounded = (layer(x) for layer in layers)
        assert rounded.dtype == torch.float32
        assert not torch.equal(exact, rounded)
        close(rounded, exact, 0.02)


class TestBatchNorm:
    def pair(self, n_models=3, n=4):
        """Our layer, and torch's with the parameters of each model, float64."""
        ours = BatchNorm(n_models, n)
        fill_with_noise(ours)
        theirs = [nn.BatchNorm1d(n).double() for _ in range(n_models)]
        with torch.no_grad():
            for model, plain in enumerate(theirs):
                plain.weight.copy_(ours.gamma[model])
                plain.bias.copy_(ours.beta[model])
        return ours, theirs

    def test_training_is_torchs_for_each_model(self):
        ours, theirs = self.pair()
        ours.train()
        n_rows = 17
        x = (1.5 * normal(3, n_rows, 4) + 2).requires_grad_()
        up = normal(3, n_rows, 4, seed=5)
        y = ours(x)
        y.backward(up)
        for model, plain in enumerate(theirs):
            mine = x[model].detach().double().requires_grad_()
            expected = plain(mine)
            expected.backward(up[model].double())
            close(y[model].double(), expected)
            close(x.grad[model].double(), mine.grad)
            close(ours.gamma.grad[model].double(), plain.weight.grad)
            close(ours.beta.grad[model].double(), plain.bias.grad)
            close(ours.mean[model].double(), plain.running_mean)
            # Torch keeps the unbiased variance, from 1 on.
            unbiased = (ours.variance[model].double() - 0.9) * n_rows / (n_rows - 1)
            close(unbiased + 0.9, plain.running_var)

    def test_evaluation_is_torchs_and_affine(self):
        ours, theirs = self.pair()
        ours.mean.copy_(normal(3, 4, seed=6))
        ours.variance.copy_(normal(3, 4, seed=7).abs())
        ours.eval()
        before = ours.mean.clone(), ours.variance.clone()
        x = normal(3, 9, 4)
        y = ours(x)
        assert torch.equal(ours.mean, before[0])
        assert torch.equal(ours.variance, before[1])
        scale, shift = ours.affine()
        assert scale.shape == shift.shape == (3, 4)
        close(y, x * scale[:, None] + shift[:, None])
        for model, plain in enumerate(theirs):
            plain.running_mean.copy_(ours.mean[model])
            plain.running_var.copy_(ours.variance[model])
            plain.eval()
            close(y[model].double(), plain(x[model].double()))

    def test_gradients_by_differences(self):
        norm = BatchNorm(2, 3).double()
        x = normal(2, 5, 3, dtype=torch.float64).requires_grad_()

        def run(x, gamma, beta):
            own = {"gamma": gamma, "beta": beta}
            return torch.func.functional_call(norm, own, (x,))

        gamma, beta = (
            normal(2, 3, seed=s, dtype=torch.float64).requires_grad_() for s in (1, 2)
        )
        assert torch.autograd.gradcheck(run, (x, gamma, beta))

    def test_a_column_far_from_zero(self):
        ours, [plain] = self.pair(1, 4)
        ours.train()
        x = 30 + normal(1, 4000, 4)
        expected = plain(x[0].double())
        close(ours(x)[0].double(), expected, 2e-3)

    @pytest.mark.parametrize("n_rows", [1, 6])
    def test_constant_columns_and_single_rows_become_beta(self, n_rows):
        ours, _ = self.pair()
        x = torch.full((3, n_rows, 4), 0.25).requires_grad_()
        y = ours.train()(x)
        close(y, ours.beta[:, None].expand_as(y))
        y.sum().backward()
        close(x.grad, torch.zeros_like(x), 1e-4)
        assert torch.isfinite(ours.variance).all()


class TestDropout:
    def test_keeps_the_expectation(self):
        layer = Dropout(0.3).train()
        x = torch.ones(2, 50, 40)
        sums = torch.zeros_like(x)
        n_steps = 400
        for step in range(n_steps):
            y = layer(x, Draws((1, 2), TRAINING, step, 50))
            kept = y != 0
            close(y[kept], torch.full_like(y[kept], 1 / 0.7))
            sums += y
        spread = math.sqrt(0.3 / 0.7 / n_steps)
        mean = sums / n_steps
        assert abs(mean.mean() - 1) < 4.5 * spread / math.sqrt(x.numel()) + 1e-4
        assert (mean - 1).abs().max() < 5.5 * spread
        assert not torch.equal(mean[0], mean[1])

    def test_is_off_outside_training(self):
        x, draws = normal(1, 5, 4), Draws((1,), TRAINING, 0, 5)
        assert torch.equal(Dropout(0.5).eval()(x, draws), x)
        assert torch.equal(Dropout(0.5).train()(x, None), x)
        assert torch.equal(Dropout(0.0).train()(x, draws), x)
        assert not torch.equal(Dropout(0.5).train()(x, draws), x)

    def test_gradient_is_that_of_kept_cells(self):
        x = normal(1, 30, 4).requires_grad_()
        y = Dropout(0.5).train()(x, Draws((1,), TRAINING, 0, 30))
        y.sum().backward()
        close(x.grad, 2 * (y.detach() != 0).float())


class TestActivations:
    torchs = {
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


class TestBlock:
    def test_is_torchs_sequence(self):
        block = Block(StackedLinear((1,), 0, 6, 4, bias=False), "silu").train()
        plain = nn.Sequential(
            plain_linear(block.linear, 0), nn.BatchNorm1d(4).double(), nn.SiLU()
        )
        x = normal(1, 12, 6)
        close(block(x)[0].double(), plain(x[0].double()))

    @pytest.mark.parametrize("training", [True, False])
    def test_models_are_as_if_alone(self, training):
        def block(seeds):
            linear = StackedLinear(seeds, 0, 6, 4, bias=False)
            scale = torch.full((6,), 2.0)
            first = Standardized(linear, torch.ones(6), scale)
            return Block(first, "tanh", dropout=0.4).train(training)

        x = normal(3, 30, 6)
        stack = block(SEEDS)
        y = stack(x, Draws(SEEDS, TRAINING, 0, 30))
        y.square().sum().backward()
        for model, seed in enumerate(SEEDS):
            alone = block((seed,))
            mine = alone(x[model : model + 1], Draws((seed,), TRAINING, 0, 30))
            mine.square().sum().backward()
            close(mine[0], y[model])
            assert torch.equal(mine[0] == 0, y[model] == 0)
            for ours, theirs in zip(
                stack.parameters(), alone.parameters(), strict=True
            ):
                close(ours.grad[model], theirs.grad[0])
            for ours, theirs in zip(stack.buffers(), alone.buffers(), strict=True):
                close(ours[model], theirs[0])
