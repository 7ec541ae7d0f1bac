"""Which rows are looked at."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from numerai_features._eras import encode_eras
from numerai_features.embedders._landmarks import draw_landmarks

SIZES = st.lists(st.integers(1, 30), min_size=1, max_size=12)


def make(sizes, seed):
    eras = np.repeat(np.arange(1, 1 + len(sizes)), sizes)
    return encode_eras(np.random.default_rng(seed).permutation(eras))


@given(SIZES, st.integers(1, 200), st.integers(0, 3))
def test_every_era_gives_as_many_or_all_it_has(sizes, most, seed):
    eras = make(sizes, seed)
    rows = draw_landmarks(eras.n_rows, eras, most, seed)
    assert len(rows) == min(most, sum(sizes))
    assert (np.diff(rows) > 0).all()
    given_ = np.bincount(eras.codes[rows], minlength=len(sizes))
    some = given_ < eras.counts
    if some.any():
        assert given_.max() - given_[some].min() <= 1


@given(SIZES, st.integers(1, 200), st.integers(1, 31))
def test_whole_eras(sizes, most, fewest):
    eras = make(sizes, 0)
    rows = draw_landmarks(eras.n_rows, eras, most, 0, fewest=fewest)
    given_ = np.bincount(eras.codes[rows], minlength=len(sizes))
    taken = given_ > 0
    assert (given_[taken] == eras.counts[taken]).all()
    assert (eras.counts[taken] >= fewest).all()
    able = eras.counts[eras.counts >= fewest]
    assert taken.any() == bool(len(able))
    if len(able) and able.min() <= most:
        assert len(rows) <= most
    elif len(able):
        assert len(rows) == able.min()


def test_whole_eras_are_spread_evenly():
    eras = make([10] * 21, 0)
    rows = draw_landmarks(210, eras, 50, 0, fewest=5)
    assert list(np.unique(eras.codes[rows])) == [3, 7, 11, 15, 20]


def test_a_large_era_does_not_take_the_place_of_all_others():
    eras = make([5000] + [50] * 40, 0)
    rows = draw_landmarks(7000, eras, 500, 0, fewest=5)
    assert len(np.unique(eras.codes[rows])) == 10


def test_less_landmarks_than_eras_are_spread_over_them():
    eras = make([50] * 200, 0)
    codes = eras.codes[draw_landmarks(10_000, eras, 100, 0)]
    assert list(np.unique(codes)) == list(range(1, 200, 2))


@given(st.integers(2, 100), st.integers(1, 100), st.integers(0, 3))
def test_without_eras_rows_are_random(n, most, seed):
    rows = draw_landmarks(n, None, most, seed)
    assert len(np.unique(rows)) == min(n, most)
    np.testing.assert_array_equal(rows, draw_landmarks(n, None, most, seed))


def test_another_seed_draws_other_rows():
    draws = [draw_landmarks(1000, None, 50, seed) for seed in (0, 1)]
    assert not np.array_equal(*draws)
