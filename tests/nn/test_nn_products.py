"""Products of a table with matrices, against float64 and torch's in float32."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from numerai_features.nn import _products
from numerai_features.nn._products import ready, table_times, table_transposed_times

needs_digits = pytest.mark.skipif(
    not _products._multiplies_bytes(), reason="this CPU has no VNNI"
)


def bytes_of(*shape, low=-128, high=128, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, shape, dtype=torch.int8, generator=generator)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pairs(n_models, n_rows, n_features, n, seed=0, **options):
    """Each product, its operands, and itself in float64."""
    x = bytes_of(n_models, n_rows, n_features, seed=seed, **options)
    down = normal(n_models, n_features, n, seed=seed)
    up = normal(n_models, n_rows, n, seed=seed + 1)
    return (
        (table_times, x, down, x.double() @ down.double()),
        (table_transposed_times, x, up, x.double().mT @ up.double()),
    )


def worst(got, expected):
    """Return the largest error of each column, by the column's largest number."""
    largest = expected.abs().amax((0, 1)).clamp(min=1e-300)
    return ((got - expected).abs().amax((0, 1)) / largest).max()


class TestDigits:
    @settings(max_examples=60, deadline=None)
    @given(
        st.integers(1, 3), st.integers(0, 70), st.integers(1, 40), st.integers(1, 20),
        st.integers(0, 10**6),
    )  # fmt: skip
    def test_any_shape(self, M, B, F, n, seed):
        for product, x, matrix, expected in pairs(M, B, F, n, seed):
            got = product(ready(x, torch.float32), matrix)
            assert got.dtype == torch.float32
            assert got.shape == expected.shape
            if not got.numel() or not B:
                continue
            bound = 2e-6 * x.double().abs().amax() * matrix.abs().max() * max(B, F)
            assert (got - expected).abs().max() <= bound

    @needs_digits
    def test_no_worse_than_float32(self):
        for product, x, matrix, expected in pairs(2, 3000, 500, 30, low=0, high=5):
            assert ready(x, torch.float32) is x
            exact, rounded = product(x, matrix), product(x.float(), matrix)
            assert worst(exact, expected) < 2e-6
            assert worst(exact, expected) < 2 * worst(rounded, expected)

    @pytest.mark.parametrize("n", [1, 2, 4])
    def test_transposed_matrices(self, n):
        """One column that is a row transposed has strides of its own."""
        for product, x, matrix, expected in pairs(2, 40, 50, n):
            turned = matrix.mT.contiguous().mT
            assert worst(product(ready(x, torch.float32), turned), expected) < 3e-6

    def test_sums_are_exact(self):
        x = bytes_of(2, 3000, 7, low=100)
        sums = table_transposed_times(ready(x, torch.float32), torch.ones(2, 3000, 1))
        assert torch.equal(sums[..., 0].long(), x.long().sum(1))

    def test_columns_of_all_sizes(self):
        """A column's precision is its own, whatever the others hold."""
        sizes = torch.tensor([1e-20, 1e-6, 1.0, 1e6, 1e20])
        for product, x, matrix, expected in pairs(1, 200, 100, 5):
            got = product(ready(x, torch.float32), matrix * sizes)
            assert worst(got, expected * sizes.double()) < 3e-6

    def test_zeros_and_nothing_but_zeros(self):
        for product, x, matrix, _ in pairs(1, 20, 30, 4):
            assert not product(ready(x, torch.float32), 0 * matrix).any()
            assert not product(ready(0 * x, torch.float32), matrix).any()

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_what_is_not_finite_stays_so(self, bad):
        for product, x, matrix, _ in pairs(1, 20, 30, 4):
            matrix[0, 3, 1] = bad
            x[0, 3, 3] = 7
            got = product(ready(x, torch.float32), matrix)
            assert not got[..., 1].isfinite().all()
            assert got[..., [0, 2, 3]].isfinite().all()

    def test_extremes_do_not_saturate(self):
        for low in (-128, 127):
            for product, x, matrix, _ in pairs(1, 300, 300, 3, low=low, high=low + 1):
                signs = torch.where(matrix > 0, 1.0, -1.0)
                expected = x.double() @ signs.double()
                got = product(ready(x, torch.float32), signs)
                torch.testing.assert_close(got.double(), expected, rtol=1e-6, atol=1e-3)

    def test_operands_are_left_alone(self):
        for product, x, matrix, _ in pairs(2, 20, 30, 4):
            before = x.clone(), matrix.clone()
            product(ready(x, torch.float32), matrix)
            assert torch.equal(x, before[0])
            assert torch.equal(matrix, before[1])

    def test_views(self):
        """Operands need not be contiguous."""
        for product, x, matrix, expected in pairs(2, 24, 36, 4):
            wide = torch.stack([x, x], 3)[..., 0]
            tall = matrix.mT.contiguous().mT
            assert not wide.is_contiguous()
            assert not tall.is_contiguous()
            assert worst(product(ready(wide, torch.float32), tall), expected) < 3e-6


class TestReady:
    def test_bfloat16_is_made_in_bfloat16(self):
        for product, x, matrix, expected in pairs(1, 40, 50, 4):
            rows = ready(x, torch.bfloat16)
            assert rows.dtype == torch.bfloat16
            got = product(rows, matrix)
            assert got.dtype == torch.float32
            assert 1e-5 < worst(got, expected) < 0.03

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
    def test_others_become_float32(self, dtype):
        rows = ready(bytes_of(1, 4, 3, low=0).to(dtype), torch.float32)
        assert rows.dtype == torch.float32

    @needs_digits
    def test_sums_that_an_int32_may_not_hold_are_floats(self):
        n_terms = _products._MOST_TERMS
        assert n_terms * 128 * 128 < 2**31
        rows = torch.zeros(1, 1, 1, dtype=torch.int8)
        assert ready(rows.expand(1, n_terms, 2), torch.float32).dtype == torch.int8
        assert ready(rows.expand(1, n_terms + 1, 2), torch.float32).is_floating_point()
        assert ready(rows.expand(1, 2, n_terms + 1), torch.float32).is_floating_point()

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
