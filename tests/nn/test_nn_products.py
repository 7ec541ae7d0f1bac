"""Products of a table with matrices, against float64 and torch's in float32."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nn_parts import normal

from numerai_features.nn import _products
from numerai_features.nn._products import (
    in_float32,
    product_dtype,
    ready,
    table_product,
    table_times,
    table_transposed_times,
)

needs_digits = pytest.mark.skipif(
    not _products._multiplies_bytes(), reason="this CPU has no VNNI"
)


def bytes_of(*shape, low=-128, high=128, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, shape, dtype=torch.int8, generator=generator)


def pairs(n_rows, n_features, n, seed=0, **options):
    """Each product, its operands, and itself in float64."""
    x = bytes_of(n_rows, n_features, seed=seed, **options)
    down = normal(n_features, n, seed=seed)
    up = normal(n_rows, n, seed=seed + 1)
    return (
        (table_times, x, down, x.double() @ down.double()),
        (table_transposed_times, x, up, x.double().T @ up.double()),
    )


def worst(got, expected):
    """Return the largest error of each column, by the column's largest number."""
    largest = expected.abs().amax(0).clamp(min=1e-300)
    return ((got - expected).abs().amax(0) / largest).max()


class TestDigits:
    @settings(max_examples=60, deadline=None)
    @given(
        st.integers(0, 70), st.integers(1, 40), st.integers(1, 20),
        st.integers(0, 10**6),
    )  # fmt: skip
    def test_any_shape(self, B, F, n, seed):
        for product, x, matrix, expected in pairs(B, F, n, seed):
            got = product(ready(x, torch.float32), matrix)
            assert got.dtype == torch.float32
            assert got.shape == expected.shape
            if not got.numel() or not B:
                continue
            bound = 2e-6 * x.double().abs().amax() * matrix.abs().max() * max(B, F)
            assert (got - expected).abs().max() <= bound

    @needs_digits
    def test_no_worse_than_float32(self):
        for product, x, matrix, expected in pairs(3000, 500, 30, low=0, high=5):
            assert ready(x, torch.float32) is x
            exact, rounded = product(x, matrix), product(x.float(), matrix)
            assert worst(exact, expected) < 2e-6
            assert worst(exact, expected) < 2 * worst(rounded, expected)

    @pytest.mark.parametrize("more", [0, 1, 2, 300])
    def test_many_rows_are_multiplied_in_parts(self, monkeypatch, more):
        """Whatever is left for the last part, a single row too."""
        monkeypatch.setattr(_products, "_MOST_CELLS", 3 * 5 * 300)
        for product, x, matrix, expected in pairs(600 + more, 40, 5):
            assert worst(product(ready(x, torch.float32), matrix), expected) < 3e-6

    @pytest.mark.parametrize("n", [1, 2, 4])
    def test_transposed_matrices(self, n):
        """One column that is a row transposed has strides of its own."""
        for product, x, matrix, expected in pairs(40, 50, n):
            turned = matrix.T.contiguous().T
            assert worst(product(ready(x, torch.float32), turned), expected) < 3e-6

    def test_sums_are_exact(self):
        x = bytes_of(3000, 7, low=100)
        sums = table_transposed_times(ready(x, torch.float32), torch.ones(3000, 1))
        assert torch.equal(sums[:, 0].long(), x.long().sum(0))

    def test_columns_of_all_sizes(self):
        """A column's precision is its own, whatever the others hold."""
        sizes = torch.tensor([1e-20, 1e-6, 1.0, 1e6, 1e20])
        for product, x, matrix, expected in pairs(200, 100, 5):
            got = product(ready(x, torch.float32), matrix * sizes)
            assert worst(got, expected * sizes.double()) < 3e-6

    def test_zeros_and_nothing_but_zeros(self):
        for product, x, matrix, _ in pairs(20, 30, 4):
            assert not product(ready(x, torch.float32), 0 * matrix).any()
            assert not product(ready(0 * x, torch.float32), matrix).any()

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_what_is_not_finite_stays_so(self, bad):
        for product, x, matrix, _ in pairs(20, 30, 4):
            matrix[3, 1] = bad
            x[3, 3] = 7
            got = product(ready(x, torch.float32), matrix)
            assert not got[:, 1].isfinite().all()
            assert got[:, [0, 2, 3]].isfinite().all()

    def test_extremes_do_not_saturate(self):
        for low in (-128, 127):
            for product, x, matrix, _ in pairs(300, 300, 3, low=low, high=low + 1):
                signs = torch.where(matrix > 0, 1.0, -1.0)
                expected = x.double() @ signs.double()
                got = product(ready(x, torch.float32), signs)
                torch.testing.assert_close(got.double(), expected, rtol=1e-6, atol=1e-3)

    def test_operands_are_left_alone(self):
        for product, x, matrix, _ in pairs(20, 30, 4):
            before = x.clone(), matrix.clone()
            product(ready(x, torch.float32), matrix)
            assert torch.equal(x, before[0])
            assert torch.equal(matrix, before[1])

    def test_views(self):
        """Operands need not be contiguous."""
        for product, x, matrix, expected in pairs(24, 36, 4):
            wide = torch.stack([x, x], 2)[..., 0]
            tall = matrix.T.contiguous().T
            assert not wide.is_contiguous()
            assert not tall.is_contiguous()
            assert worst(product(ready(wide, torch.float32), tall), expected) < 3e-6


class TestReady:
    def test_bfloat16_is_made_in_bfloat16(self):
        for product, x, matrix, expected in pairs(40, 50, 4):
            rows = ready(x, torch.bfloat16)
            assert rows.dtype == torch.bfloat16
            got = product(rows, matrix)
            assert got.dtype == torch.float32
            assert 1e-5 < worst(got, expected) < 0.03

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
    def test_others_become_float32(self, dtype):
        rows = ready(bytes_of(4, 3, low=0).to(dtype), torch.float32)
        assert rows.dtype == torch.float32

    @needs_digits
    def test_sums_that_an_int32_may_not_hold_are_floats(self):
        n_terms = _products._MOST_TERMS
        assert n_terms * 128 * 128 < 2**31
        rows = torch.zeros(1, 1, dtype=torch.int8)
        assert ready(rows.expand(n_terms, 2), torch.float32).dtype == torch.int8
        assert ready(rows.expand(n_terms + 1, 2), torch.float32).is_floating_point()
        assert ready(rows.expand(2, n_terms + 1), torch.float32).is_floating_point()

    @needs_digits
    def test_where_bytes_saturate_they_are_floats(self):
        """Told to do without VNNI, oneDNN adds bytes up in 16 bits."""
        code = (
            "from numerai_features.nn import _products\n"
            "print(_products._multiplies_bytes())"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == "False"


def bfloat16():
    return torch.autocast("cpu", torch.bfloat16)


class TestTableProduct:
    """The product as layers make it: less a centre, and with gradients."""

    def parts(self, dtype, n_rows=60, n_features=30, n=4):
        x = bytes_of(n_rows, n_features, low=0, high=5).to(dtype)
        matrix = normal(n_features, n).requires_grad_()
        return (
            x,
            matrix,
            2 + 0.3 * normal(n_features, seed=1),
            normal(n_rows, n, seed=2),
        )

    @pytest.mark.parametrize("centred", [True, False])
    @pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float32])
    def test_is_the_plain_product(self, dtype, centred):
        x, matrix, center, up = self.parts(dtype)
        y = table_product(x, matrix, center if centred else None)
        y.backward(up)
        theirs = matrix.detach().double().requires_grad_()
        expected = (x.double() - (center.double() if centred else 0)) @ theirs
        expected.backward(up.double())
        assert y.dtype == matrix.grad.dtype == torch.float32
        assert worst(y.detach(), expected.detach()) < 3e-6
        assert worst(matrix.grad, theirs.grad) < 3e-6

    def test_gradients_by_differences(self):
        x, matrix, center, up = self.parts(torch.int8, 20, 6, 3)
        table_product(x, matrix, center).backward(up)
        for at in ((0, 0), (5, 2), (3, 1)):
            step = torch.zeros_like(matrix)
            step[at] = 0.5  # it is linear
            with torch.no_grad():
                higher, lower = (
                    (table_product(x, matrix + s, center).double() * up).sum()
                    for s in (step, -step)
                )
            assert matrix.grad[at].item() == pytest.approx(
                (higher - lower).item(), rel=1e-4, abs=1e-3
            )

    def test_gradient_of_float_rows(self):
        x, matrix, center, up = self.parts(torch.float32)
        x.requires_grad_()
        table_product(x, matrix, center).backward(up)
        torch.testing.assert_close(x.grad, up @ matrix.detach().T)

    def test_rows_at_the_centre_are_zero_in_bfloat16_too(self):
        """What is taken off is rounded as what is in the product."""
        x = torch.full((40, 1), 2, dtype=torch.int8)
        matrix = normal(1, 5)
        assert not torch.equal(matrix, matrix.bfloat16().float())
        with bfloat16():
            assert not table_product(x, matrix, torch.full((1,), 2.0)).any()

    def test_operands_are_left_alone(self):
        x, matrix, center, up = self.parts(torch.int8)
        before = x.clone(), matrix.detach().clone(), center.clone()
        table_product(x, matrix, center).backward(up)
        assert all(map(torch.equal, (x, matrix.detach(), center), before))


class TestPrecision:
    def test_products_are_made_in_what_autocast_says(self):
        cpu = torch.device("cpu")
        assert product_dtype(cpu) == torch.float32
        with bfloat16():
            assert product_dtype(cpu) == torch.bfloat16
            with in_float32(torch.zeros(1)):
                assert product_dtype(cpu) == torch.float32
            assert product_dtype(cpu) == torch.bfloat16
        assert product_dtype(cpu) == torch.float32

    @pytest.mark.parametrize("dtype", [torch.int8, torch.float32])
    def test_table_product_is_rounded_and_float32(self, dtype):
        x, matrix = bytes_of(50, 40, low=0, high=5).to(dtype), normal(40, 6)
        with bfloat16():
            rounded = table_product(x, matrix)
        assert rounded.dtype == torch.float32
        assert torch.equal(rounded, rounded.bfloat16().float())
        expected = x.double() @ matrix.double()
        assert 1e-4 < worst(rounded, expected) < 0.03
        assert worst(table_product(x, matrix), expected) < 3e-6

    def test_in_float32_products_are_as_they_are_written(self):
        a, b = normal(20, 30), normal(30, 4, seed=1)
        exact = a @ b
        with bfloat16():
            assert (a @ b).dtype == torch.bfloat16
            with in_float32(a):
                assert torch.equal(a @ b, exact)
