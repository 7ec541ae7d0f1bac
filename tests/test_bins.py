"""How wide bins are in columns that do not look alike."""

import numpy as np
import pytest

from numerai_features._bins import bin_widths


def column(n_bins, step=None, low=0.0, n=4000):
    """Return `n_bins` evenly spaced values, from 0 to 1 unless `step` is given."""
    step = 1 / (n_bins - 1) if step is None else step
    return low + np.random.default_rng(n_bins).integers(0, n_bins, n) * step


QUARTERS = column(5)


@pytest.mark.parametrize(
    ("other", "widths"),
    [
        (column(5, 1), (0.25, 1)),
        (column(5, 100), (0.25, 100)),
        (column(5, 0.25, 100), (0.25, 0.25)),
        (column(4), (0.25, 1 / 3)),
        (column(11), (0.25, 0.1)),
        (column(21), (0.25, 0.05)),
        (column(9), (0.25, 0.125)),
        (column(5, 1e-30), (0.25, 1e-30)),
        (column(5, 1e300), (0.25, 1e300)),
        (QUARTERS - 0.5, (0.25, 0.25)),
        (np.ones(4000), (0.25, 0)),
        (np.full(4000, np.nan), (0.25, 0)),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_columns_on_other_scales_have_bins_of_their_own(other, widths, turned):
    table = np.column_stack([QUARTERS, other])
    found = bin_widths(table[:, ::-1] if turned else table)
    np.testing.assert_allclose(found[::-1] if turned else found, widths, rtol=1e-6)


@pytest.mark.parametrize(
    ("some", "width"),
    [
        ([0, 1], 0.25),
        ([0, 0.5, 1], 0.25),
        ([0, 0.25, 1], 0.25),
        ([0.25, 0.75], 0.25),
        ([0, 2, 4], 2),  # of another column's scale
        ([-0.5, 0.5], 1),
    ],
)
def test_bins_that_do_not_come_are_told_by_the_others(some, width):
    lacking = np.resize(np.array(some, float), 4000)
    table = np.column_stack([lacking, QUARTERS, column(11), QUARTERS])
    np.testing.assert_allclose(bin_widths(table), [width, 0.25, 0.1, 0.25])
    halves = np.column_stack([lacking, column(3), QUARTERS])
    np.testing.assert_allclose(bin_widths(halves), [width, 0.25, 0.25])


def test_uneven_values_take_the_bins_that_they_lie_on():
    uneven = np.resize([0, 0.2, 0.5], 4000)
    found = bin_widths(np.column_stack([uneven, column(11)]))
    np.testing.assert_allclose(found, [0.1, 0.1])
    alone = bin_widths(uneven[:, None])
    np.testing.assert_allclose(alone, np.std(uneven[:1000]) / 2**0.5, rtol=1e-2)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_short_floats(dtype):
    table = np.column_stack([QUARTERS, QUARTERS * 4]).astype(dtype)
    assert bin_widths(table).tolist() == [0.25, 1]


def test_constant_and_empty_columns_have_none():
    table = np.column_stack([np.ones(9), np.full(9, np.nan)])
    assert bin_widths(table).tolist() == [0, 0]
    assert bin_widths(np.ones((0, 3))).shape == (3,)
    assert bin_widths(np.ones((1, 3))).tolist() == [0, 0, 0]
