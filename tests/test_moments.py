import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numerai_features.moments import EraMoments, Moments


def bins(rng, n, p, dtype=np.int8):
    return rng.integers(0, 5, (n, p)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_covariance_is_numpys(dtype, order):
    X = np.asarray(bins(np.random.default_rng(0), 5000, 7, dtype), order=order)
    moments = Moments.from_rows(X)
    X = X.astype(np.float64)
    np.testing.assert_allclose(moments.mean, X.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(
        moments.covariance(), np.cov(X.T, bias=True), rtol=0, atol=1e-13
    )


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_wide_integers_do_not_overflow(dtype):
    info = np.iinfo(dtype)
    X = np.random.default_rng(0).integers(info.min, info.max, (9000, 3), dtype=dtype)
    np.testing.assert_allclose(
        Moments.from_rows(X).covariance(), np.cov(X.T, bias=True), rtol=1e-12
    )


def test_bins_are_exact_beyond_the_float32_limit():
    # 5 million rows of 4^2, less one, pass 2^24.
    X = np.full((5_000_000, 2), 4, np.int8)
    X[0] = 1
    moments = Moments.from_rows(X)
    assert moments.scatter[0, 1] == 16 * 5_000_000 - 15
    assert moments.total[0] == 4 * 5_000_000 - 3


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(2, 60))
def test_merging_chunks_of_bins_is_exact(seed, n_chunks, n_rows):
    rng = np.random.default_rng(seed)
    X = bins(rng, n_rows, 4)
    whole = Moments.from_rows(X)
    parts = [Moments.from_rows(c) for c in np.array_split(X, n_chunks)]
    merged = parts[-1]
    for part in parts[:-1]:
        merged = merged + part
    assert merged.weight == whole.weight
    np.testing.assert_array_equal(merged.scatter, whole.scatter)
    np.testing.assert_array_equal(merged.total, whole.total)
    rest = whole - parts[0]
    np.testing.assert_array_equal(rest.scatter, merged.scatter - parts[0].scatter)


def test_floats_with_other_shifts_merge():
    rng = np.random.default_rng(0)
    X = rng.normal(1e4, 1, (4000, 3))
    merged = Moments.from_rows(X[:100] + 0) + Moments.from_rows(X[100:])
    np.testing.assert_allclose(merged.covariance(), np.cov(X.T, bias=True), atol=1e-9)
    assert not np.array_equal(
        Moments.from_rows(X[:100]).shift, Moments.from_rows(X[100:]).shift
    )


def test_weights_are_repetitions():
    rng = np.random.default_rng(0)
    X = bins(rng, 60, 3)
    weights = rng.integers(0, 4, 60)
    weighted = Moments.from_rows(X, sample_weight=weights)
    repeated = Moments.from_rows(np.repeat(X, weights, axis=0))
    assert weighted.weight == repeated.weight
    np.testing.assert_allclose(weighted.covariance(), repeated.covariance())


def test_nan_is_filled_or_told():
    X = np.array([[1.0, np.nan], [3.0, 4.0]])
    filled = Moments.from_rows(X, fill=[0, 2])
    np.testing.assert_allclose(filled.mean, [2, 3])
    with pytest.raises(ValueError, match="NaN; pass fill="):
        Moments.from_rows(X)


@pytest.mark.parametrize("order", ["sorted", "shuffled"])
def test_within_eras_is_the_centred_covariance(order):
    rng = np.random.default_rng(0)
    eras = np.repeat(np.arange(12), 40)
    X = bins(rng, len(eras), 5) + (eras % 2)[:, None].astype(np.int8)
    if order == "shuffled":
        rows = rng.permutation(len(eras))
        X, eras = X[rows], eras[rows]
    moments = EraMoments.from_rows(X, eras, n_blocks=4)
    centred = X - np.stack([X[eras == e].mean(axis=0) for e in range(12)])[eras]
    np.testing.assert_allclose(
        moments.within().covariance(), centred.T @ centred / len(X), atol=1e-12
    )
    np.testing.assert_array_equal(moments.total().scatter, Moments.from_rows(X).scatter)


def test_a_fold_is_the_total_less_the_held_out_eras():
    rng = np.random.default_rng(0)
    eras = np.repeat(np.arange(1, 13), 20)
    X = bins(rng, len(eras), 4)
    moments = EraMoments.from_rows(X, eras, n_blocks=4)
    train = ~np.isin(eras, [4, 5, 6])
    np.testing.assert_array_equal(
        moments.without(["0004", "0005", "0006"]).scatter,
        Moments.from_rows(X[train]).scatter,
    )
    with pytest.raises(ValueError, match=r"whole blocks .* start at \[4\]"):
        moments.without([4])
    with pytest.raises(ValueError, match="names every era"):
        moments.without(range(1, 13))


@pytest.mark.parametrize("cut", [100, 130])
def test_era_moments_of_files_merge_even_within_an_era(cut):
    rng = np.random.default_rng(0)
    eras = np.repeat(np.arange(1, 11), 20)
    X = bins(rng, len(eras), 4)
    merged = EraMoments.from_rows(X[cut:], eras[cut:]) + EraMoments.from_rows(
        X[:cut], eras[:cut]
    )
    whole = EraMoments.from_rows(X, eras)
    np.testing.assert_array_equal(merged.totals, whole.totals)
    np.testing.assert_array_equal(merged.weights, whole.weights)
    np.testing.assert_allclose(
        merged.within().covariance(), whole.within().covariance(), atol=1e-14
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m - (m + m), "Cannot take moments of 20 rows from moments of 10"),
        (lambda m: m + Moments.from_rows(np.ones((2, 3), np.int8)), "2 and of 3 feat"),
        (lambda m: (m - m).mean, "hold no rows"),
    ],
)
def test_impossible_sums_are_told(call, message):
    m = Moments.from_rows(np.ones((10, 2), np.int8))
    with pytest.raises(ValueError, match=message):
        call(m)


@pytest.mark.parametrize(
    ("weights", "message"),
    [([1.0], r"shape \(2,\)"), ([0, 0], "above zero"), ([1, -1], "not negative")],
)
def test_bad_weights_are_told(weights, message):
    with pytest.raises(ValueError, match=message):
        Moments.from_rows(np.ones((2, 2)), sample_weight=weights)


def test_too_many_blocks_are_told():
    with pytest.raises(ValueError, match=r"n_blocks must be between 1 and .* \(2\)"):
        EraMoments.from_rows(np.ones((2, 2)), [1, 2], n_blocks=3)


def test_an_unknown_held_out_era_is_told():
    moments = EraMoments.from_rows(np.ones((4, 2), np.int8), [1, 1, 2, 2], n_blocks=2)
    with pytest.raises(ValueError, match=r"eras holds \[99\], which .* have 1 to 2"):
        moments.without([99])
    with pytest.raises(ValueError, match="eras must be labels with numbers"):
        moments.without(["ash"])


def test_named_eras_are_not_matched_between_calls():
    X = np.ones((4, 2), np.int8)
    moments = EraMoments.from_rows(X, ["a", "a", "b", "b"], n_blocks=2)
    for call in (lambda: moments.without(["a"]), lambda: moments + moments):
        with pytest.raises(ValueError, match="names without numbers"):
            call()


def test_rounding_is_no_variance():
    X = np.column_stack([np.full(3000, 1e6 + 0.1), np.arange(3000.0)])
    weights = np.random.default_rng(0).random(3000)
    covariance = Moments.from_rows(X, sample_weight=weights).covariance()
    assert not covariance[0].any()
    assert covariance[1, 1] > 0
    far = np.r_[
        np.zeros((1024, 2)), 1e9 + np.random.default_rng(0).normal(size=(9000, 2))
    ]
    diagonal = np.diag(
        (Moments.from_rows(far) - Moments.from_rows(far[:1024])).covariance()
    )
    assert (diagonal >= 0).all()


def test_infinity_is_told():
    with pytest.raises(ValueError, match="X contains infinity"):
        Moments.from_rows(np.array([[1.0], [np.inf]]))


def test_nothing_of_moments_can_be_written():
    X = np.arange(12, dtype=np.int8).reshape(6, 2) % 5
    moments = EraMoments.from_rows(X, [1, 1, 2, 2, 3, 3], n_blocks=2)
    of_eras = moments.numbers, moments.weights, moments.totals, moments.block_of
    total = moments.total()
    for array in (*of_eras, total.total, total.scatter, total.shift):
        assert not array.flags.writeable


def test_size_is_that_of_the_arrays():
    """Dask moves what it takes to be small."""
    X = bins(np.random.default_rng(0), 60, 100)
    few = Moments.from_rows(X)
    assert few.__sizeof__() > 8 * (100**2 + 2 * 100)
    by_era = EraMoments.from_rows(X, np.arange(60) // 10, n_blocks=3)
    assert by_era.__sizeof__() > 3 * few.__sizeof__() + 8 * 6 * 100
    assert by_era.__sizeof__() < 4 * few.__sizeof__()
