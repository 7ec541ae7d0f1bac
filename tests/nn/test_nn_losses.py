"""Losses and their gradients against the plain formulas, in float64 by autograd."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from numerai_features.nn._losses import linear_squared_error, squared_error


def parts_of(n_rows, n_features, n_units, seed=0):
    """Return h, weight, bias, x, center, scale, w; x are bins, w has zeros."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=rng)

    x = torch.randint(0, 5, (n_rows, n_features), generator=rng).float()
    w = (normal(n_rows) + 0.5).clamp(min=0) * 3
    return (
        normal(n_rows, n_units), normal(n_features, n_units), normal(n_features),
        x, 2 + 0.3 * normal(n_features), 0.5 + normal(n_features).abs(), w,
    )  # fmt: skip


def dense(h, weight, bias, x, center, scale, w):
    """Return the whole sum of squares, and the part that is constant."""
    t = (x.double() - center.double()) / scale.double()
    rows = torch.ones(len(h)) if w is None else w
    rows = rows.double()[:, None]
    gap = torch.nn.functional.linear(h, weight, bias) - t
    return (gap.square() * rows).sum(), (t.square() * rows).sum()


def value_and_gradients(loss, variables, factor=3.0):
    """Return a loss, and the gradients of so many times it."""
    variables = [v.detach().clone().requires_grad_() for v in variables]
    value = loss(*variables)
    (factor * value).backward()
    return value.detach().double(), [v.grad.double() for v in variables]


def assert_near(a, b, rtol):
    """Differ by less than `rtol` of the largest number."""
    assert a.shape == b.shape
    assert (a - b).abs().max() <= rtol * b.abs().max().clamp(min=1e-12)


def bfloat16():
    return torch.autocast("cpu", torch.bfloat16)


class TestLinearSquaredError:
    @settings(max_examples=40, deadline=None)
    @given(
        st.integers(1, 70),
        st.integers(1, 20),
        st.integers(1, 9),
        st.booleans(),
        st.sampled_from([torch.float32, torch.int8, torch.uint8]),
        st.integers(0, 10**6),
    )
    def test_is_the_plain_formula(self, B, F, k, weighted, dtype, seed):
        *variables, x, center, scale, w = parts_of(B, F, k, seed)
        fixed = x.to(dtype), center, scale, w if weighted else None
        got, gradients = value_and_gradients(
            lambda *v: linear_squared_error(*v, *fixed), variables
        )
        constants = []

        def reference(*v):
            total, constant = dense(*v, *fixed)
            constants.append(constant)
            return total

        expected, plain = value_and_gradients(
            reference, [v.double() for v in variables]
        )
        assert got.shape == ()
        # The value is what is left when the constant is taken off.
        assert abs(got + constants[0] - expected) <= 1e-4 * max(expected, constants[0])
        for ours, theirs in zip(gradients, plain, strict=True):
            assert_near(ours, theirs, 1e-4)

    def test_weights_of_one_are_none_and_zero_leaves_out(self):
        h, weight, bias, x, center, scale, _ = parts_of(30, 7, 4)
        w = torch.ones(30)
        w[20:] = 0
        few, some = value_and_gradients(
            lambda h, *v: linear_squared_error(h[:20], *v, x[:20], center, scale, None),
            (h, weight, bias),
        )
        all_, every = value_and_gradients(
            lambda *v: linear_squared_error(*v, x, center, scale, w), (h, weight, bias)
        )
        assert_near(all_, few, 1e-5)
        assert (every[0][20:] == 0).all()
        for a, b in zip(every, some, strict=True):
            assert_near(a, b, 1e-5)

    @pytest.mark.parametrize("weighted", [False, True])
    def test_bfloat16_is_near(self, weighted):
        *variables, x, center, scale, w = parts_of(400, 60, 16)
        w = w if weighted else None

        def loss(*v):
            return linear_squared_error(*v, x, center, scale, w)

        def rounded_loss(*v):
            with bfloat16():
                value = loss(*v)
            assert value.dtype == torch.float32
            return value

        exact, gradients = value_and_gradients(loss, variables)
        near, rounded = value_and_gradients(rounded_loss, variables)
        assert near != exact
        assert_near(near, exact, 0.01)
        for ours, theirs in zip(rounded, gradients, strict=True):
            assert_near(ours, theirs, 0.02)

    @pytest.mark.parametrize("weighted", [False, True])
    def test_only_products_with_the_table_are_in_bfloat16(self, weighted):
        """Where they are zeros, which are exact, all is as in float32 to the bit."""
        h, weight, bias, x, center, scale, w = parts_of(50, 20, 6)
        w = w if weighted else None

        def loss(*v):
            return linear_squared_error(*v, 0 * x, 0 * center, scale, w)

        def rounded_loss(*v):
            with bfloat16():
                return loss(*v)

        exact, gradients = value_and_gradients(loss, (h, weight, bias))
        near, rounded = value_and_gradients(rounded_loss, (h, weight, bias))
        assert near == exact
        assert all(map(torch.equal, rounded, gradients))

    def test_takes_no_gradient_of_the_table(self):
        h, weight, bias, x, center, scale, _ = parts_of(5, 4, 3)
        x.requires_grad_()
        h.requires_grad_()
        linear_squared_error(h, weight, bias, x, center, scale).backward()
        assert x.grad is None
        assert h.grad is not None

    def test_changes_nothing_it_is_given(self):
        parts = parts_of(20, 6, 4)
        copies = [p.clone() for p in parts]
        value_and_gradients(
            lambda *v: linear_squared_error(*v, *parts[3:]), list(parts[:3])
        )
        assert all(map(torch.equal, parts, copies))


class TestSquaredError:
    @pytest.mark.parametrize("shape", [None, (9, 1), (9, 5), (1, 5)])
    def test_is_the_plain_formula(self, shape):
        rng = torch.Generator().manual_seed(0)
        r, t = (torch.randn(9, 5, generator=rng) for _ in range(2))
        weights = None if shape is None else torch.rand(shape, generator=rng)
        got, [ours] = value_and_gradients(lambda r: squared_error(r, t, weights), [r])
        cells = torch.ones(()) if weights is None else weights
        expected, [plain] = value_and_gradients(
            lambda r: ((r - t.double()).square() * cells.double()).sum(), [r.double()]
        )
        assert_near(got, expected, 1e-6)
        assert_near(ours, plain, 1e-6)

    def test_bfloat16_has_gradients_of_its_type(self):
        rng = torch.Generator().manual_seed(0)
        r, t = (torch.randn(9, 5, generator=rng) for _ in range(2))
        low = r.bfloat16().requires_grad_()
        loss = squared_error(low, t)
        assert loss.dtype == torch.float32
        loss.backward()
        assert low.grad.dtype == torch.bfloat16
        assert_near(low.grad.double(), 2 * (r - t).double(), 0.01)

    def test_autocast_changes_nothing(self):
        rng = torch.Generator().manual_seed(0)
        r, t = (torch.randn(9, 5, generator=rng) for _ in range(2))
        expected = squared_error(r, t)
        with bfloat16():
            assert torch.equal(squared_error(r, t), expected)
