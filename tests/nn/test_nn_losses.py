"""Losses and their gradients against the plain formulas, in float64 by autograd."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from numerai_features.nn._losses import linear_squared_error, squared_error


def parts_of(n_models, n_rows, n_features, n_units, seed=0):
    """Return h, weight, bias, x, center, scale, w; x are bins, w has zeros."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(n_models, *shape, generator=rng)

    x = torch.randint(0, 5, (n_models, n_rows, n_features), generator=rng).float()
    w = (normal(n_rows) + 0.5).clamp(min=0) * 3
    return (
        normal(n_rows, n_units), normal(n_units, n_features), normal(n_features),
        x, 2 + 0.3 * normal(n_features), 0.5 + normal(n_features).abs(), w,
    )  # fmt: skip


def dense(h, weight, bias, x, center, scale, w):
    """Return the whole sum of squares, and the part that is constant."""
    t = (x.double() - center[:, None].double()) / scale[:, None].double()
    rows = torch.ones(h.shape[:2]) if w is None else w
    rows = rows.double()[..., None]
    gap = torch.matmul(h, weight) + bias[:, None] - t
    return (gap.square() * rows).sum((1, 2)), (t.square() * rows).sum((1, 2))


def values_and_gradients(loss, variables):
    """Return a loss a model, and its gradients where models weigh 1, 2, 3 ..."""
    variables = [v.detach().clone().requires_grad_() for v in variables]
    values = loss(*variables)
    factors = torch.arange(1, len(values) + 1, dtype=values.dtype)
    (values * factors).sum().backward()
    return values.detach().double(), [v.grad.double() for v in variables]


def assert_near(a, b, rtol):
    """Differ by less than `rtol` of the largest number."""
    assert a.shape == b.shape
    assert (a - b).abs().max() <= rtol * b.abs().max().clamp(min=1e-12)


class TestLinearSquaredError:
    @settings(max_examples=40, deadline=None)
    @given(
        st.integers(1, 4),
        st.integers(1, 70),
        st.integers(1, 20),
        st.integers(1, 9),
        st.booleans(),
        st.integers(0, 10**6),
    )
    def test_is_the_plain_formula(self, M, B, F, k, weighted, seed):
        *variables, x, center, scale, w = parts_of(M, B, F, k, seed)
        w = w if weighted else None
        fixed = x, center, scale, w
        got, gradients = values_and_gradients(
            lambda *v: linear_squared_error(*v, *fixed), variables
        )
        constants = []

        def reference(*v):
            total, constant = dense(*v, *fixed)
            constants.append(constant)
            return total

        expected, plain = values_and_gradients(
            reference, [v.double() for v in variables]
        )
        assert_near(got + constants[0], expected, 1e-4)
        for ours, theirs in zip(gradients, plain, strict=True):
            assert_near(ours, theirs, 1e-4)

    def test_weights_of_one_are_none_and_zero_leaves_out(self):
        parts = parts_of(2, 30, 7, 4)
        h, weight, bias, x, center, scale, _ = parts
        w = torch.ones(2, 30)
        w[:, 20:] = 0
        few, some = values_and_gradients(
            lambda h, *v: linear_squared_error(
                h[:, :20], *v, x[:, :20], center, scale, None
            ),
            (h, weight, bias),
        )
        all_, every = values_and_gradients(
            lambda *v: linear_squared_error(*v, x, center, scale, w), (h, weight, bias)
        )
        assert_near(all_, few, 1e-5)
        assert (every[0][:, 20:] == 0).all()
        for a, b in zip(every, some, strict=True):
            assert_near(a, b, 1e-5)

    @pytest.mark.parametrize("weighted", [False, True])
    def test_bfloat16_is_near(self, weighted):
        *variables, x, center, scale, w = parts_of(2, 400, 60, 16)
        w = w if weighted else None
        exact, gradients = values_and_gradients(
            lambda *v: linear_squared_error(*v, x, center, scale, w), variables
        )
        near, rounded = values_and_gradients(
            lambda *v: linear_squared_error(*v, x, center, scale, w, torch.bfloat16),
            variables,
        )
        assert not torch.equal(near, exact)
        assert_near(near, exact, 0.01)
        for ours, theirs in zip(rounded, gradients, strict=True):
            assert ours.dtype == torch.float64
            assert_near(ours, theirs, 0.02)

    def test_takes_no_gradient_of_the_table(self):
        h, weight, bias, x, center, scale, _ = parts_of(1, 5, 4, 3)
        x.requires_grad_()
        h.requires_grad_()
        linear_squared_error(h, weight, bias, x, center, scale).sum().backward()
        assert x.grad is None
        assert h.grad is not None

    def test_changes_nothing_it_is_given(self):
        parts = parts_of(2, 20, 6, 4)
        copies = [p.clone() for p in parts]
        values_and_gradients(
            lambda *v: linear_squared_error(*v, *parts[3:]), list(parts[:3])
        )
        assert all(map(torch.equal, parts, copies))


class TestSquaredError:
    @pytest.mark.parametrize("shape", [None, (2, 9, 1), (2, 9, 5), (1, 1, 5)])
    def test_is_the_plain_formula(self, shape):
        rng = torch.Generator().manual_seed(0)
        r, t = (torch.randn(2, 9, 5, generator=rng) for _ in range(2))
        weights = None if shape is None else torch.rand(shape, generator=rng)
        got, [ours] = values_and_gradients(lambda r: squared_error(r, t, weights), [r])
        cells = torch.ones(()) if weights is None else weights
        expected, [plain] = values_and_gradients(
            lambda r: ((r - t.double()).square() * cells.double()).sum((1, 2)),
            [r.double()],
        )
        assert_near(got, expected, 1e-6)
        assert_near(ours, plain, 1e-6)

    def test_bfloat16_has_gradients_of_its_type(self):
        rng = torch.Generator().manual_seed(0)
        r, t = (torch.randn(2, 9, 5, generator=rng) for _ in range(2))
        low = r.bfloat16().requires_grad_()
        loss = squared_error(low, t)
        assert loss.dtype == torch.float32
        loss.sum().backward()
        assert low.grad.dtype == torch.bfloat16
        assert_near(low.grad.double(), 2 * (r - t).double(), 0.01)
