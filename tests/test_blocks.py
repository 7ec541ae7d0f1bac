import numpy as np
import pytest

from numerai_features._blocks import as_slice, row_blocks


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([3, 4, 5], slice(3, 6)),
        ([7], slice(7, 8)),
        ([3, 5], [3, 5]),
        ([3, 5, 4, 6], [3, 5, 4, 6]),
        ([], []),
    ],
)
def test_only_rows_in_order_become_a_slice(rows, expected):
    got = as_slice(np.array(rows, int))
    if isinstance(expected, slice):
        assert got == expected
    else:
        assert got.tolist() == expected


@pytest.mark.parametrize("n_features", [1, 1000, 10**7])
def test_blocks_are_all_rows_in_order(n_features):
    blocks = [*row_blocks(5000, n_features)]
    assert [b.start for b in blocks] == [0, *(b.stop for b in blocks[:-1])]
    assert blocks[-1].stop == 5000
    assert all(b.stop - b.start >= 256 for b in blocks[:-1])
