import tracemalloc

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from numerai_features import LatentFeatures
from numerai_features.datasets import make_era_panel
from numerai_features.embedders import EraStatistics

ERAS = np.random.default_rng(0).permutation(np.repeat(np.arange(1, 8), 30))


def bins(dtype=np.int8):
    return np.random.default_rng(1).integers(0, 5, (len(ERAS), 4)).astype(dtype)


def by_pandas(X, eras):
    """Means, then standard deviations, of each row's era."""
    groups = pd.DataFrame(X).astype(float).groupby(eras)
    parts = groups.transform("mean"), groups.transform("std", ddof=0)
    return np.hstack([part.to_numpy() for part in parts])


@pytest.mark.parametrize("sort", [False, True])
@pytest.mark.parametrize("dtype", [np.int8, np.float32, np.float64])
def test_are_those_of_pandas(dtype, sort):
    X, eras = bins(dtype), np.sort(ERAS) if sort else ERAS
    out = EraStatistics().fit_transform(X, eras=eras)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, by_pandas(X, eras), rtol=1e-6)


def test_one_of_them_of_some_features():
    frame = pd.DataFrame(bins(), columns=[*"abcd"]).assign(era=ERAS)
    expected = by_pandas(bins(), ERAS)
    for features in (["d", "b"], [3, 1]):
        made = EraStatistics(features, statistics=["std"]).fit(frame)
        np.testing.assert_array_equal(made.columns_, [3, 1])
        np.testing.assert_allclose(
            made.transform(frame), expected[:, [7, 5]], rtol=1e-6
        )
        assert [*made.get_feature_names_out()] == ["d_era_std", "b_era_std"]


def test_missing_cells_are_the_middle():
    X = bins(np.float64)
    X[::5, 1] = np.nan
    X[:, 2] *= 10
    filled = X.copy()
    filled[::5, 1] = 2
    fitted = EraStatistics().fit(X, eras=ERAS)
    np.testing.assert_allclose(
        fitted.transform(X, eras=ERAS), by_pandas(filled, ERAS), rtol=1e-6
    )
    X[0, 2] = np.nan
    filled[0, 2] = np.median(bins()[:, 2]) * 10  # learned in fit
    np.testing.assert_allclose(
        fitted.transform(X, eras=ERAS), by_pandas(filled, ERAS), rtol=1e-6
    )
    strict = EraStatistics([0, 3], missing="raise").fit(X, eras=ERAS)
    X[1, 3] = np.nan
    with pytest.raises(ValueError, match="X contains NaN and missing='raise'"):
        strict.transform(X, eras=ERAS)


@pytest.mark.parametrize(("scale", "offset"), [(1e30, 0), (1e-25, 0), (1, 1e9)])
def test_any_scale(scale, offset):
    X = np.random.default_rng(0).normal(size=(len(ERAS), 2))
    out = EraStatistics().fit_transform(scale * X + offset, eras=ERAS)
    expected = by_pandas(X, ERAS)
    expected[:, :2] = scale * expected[:, :2] + offset
    expected[:, 2:] *= scale
    np.testing.assert_allclose(out, expected, rtol=1e-5)


def test_eras_of_one_row_and_a_live_one():
    X = bins()[:5]
    eras = ["0001", "0001", "0002", "X", "X"]
    out = EraStatistics().fit(X, eras=eras).transform(X, eras=eras)
    np.testing.assert_allclose(out[2], [*X[2], 0, 0, 0, 0])
    np.testing.assert_array_equal(out[3], out[4])
    np.testing.assert_allclose(out[3, :4], X[3:].mean(axis=0))


def test_rows_of_another_era_do_not_matter():
    fitted = EraStatistics().fit(bins(), eras=ERAS)
    some = ERAS > 5
    np.testing.assert_array_equal(
        fitted.transform(bins()[some], eras=ERAS[some]),
        fitted.transform(bins(), eras=ERAS)[some],
    )


def test_eras_are_needed_if_fit_had_them():
    for eras in (ERAS, np.array([*"abcdefg"])[ERAS - 1]):  # names, too
        fitted = EraStatistics().fit(bins(), eras=eras)
        with pytest.raises(ValueError, match="EraStatistics was fitted with eras and"):
            fitted.transform(bins())
    alone = EraStatistics().fit(bins())
    np.testing.assert_allclose(
        alone.transform(bins()), by_pandas(bins(), 0 * ERAS), rtol=1e-6
    )


def test_beside_the_features_in_a_pipeline():
    panel = make_era_panel(n_eras=12, rows_per_era=30, n_features=6, random_state=0)
    X, y = panel.to_frame(targets=[]), panel.y()
    latents = LatentFeatures(EraStatistics(["feature_0002"]), keep_era=False)
    table = latents.set_output(transform="pandas").fit_transform(X, y)
    assert [*table.columns[-2:]] == ["feature_0002_era_mean", "feature_0002_era_std"]
    assert table.shape == (360, 8)
    place = [*X.columns].index("feature_0002") - 1
    expected = by_pandas(panel.X[:, [place]], panel.eras)
    np.testing.assert_allclose(table.iloc[:, -2:], expected, rtol=1e-6)
    model = make_pipeline(LatentFeatures(EraStatistics()), Ridge()).fit(X, y)
    assert model.predict(X).shape == (360,)


def test_bytes_are_not_copied_to_floats():
    X = np.random.default_rng(0).integers(0, 5, (250_000, 60), np.int8)
    eras = np.repeat(np.arange(50), 5000)
    made = EraStatistics(statistics=["mean", "std"]).fit(X[:5000], eras=eras[:5000])
    tracemalloc.start()
    out = made.transform(X, eras=eras)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak - out.nbytes < X.size * 4 / 2


@pytest.mark.parametrize("value", [0.1, 3e34, -7.3e-5])
def test_a_constant_column_has_no_deviation(value):
    X = np.full((800, 2), value)
    X[400:, 1] *= 2
    out = EraStatistics().fit_transform(X, eras=np.repeat(np.arange(4), 200))
    np.testing.assert_array_equal(out[:, :2], X.astype(np.float32))
    assert not out[:, 2:].any()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"features": ["a"]}, "features names 'a', but the columns of X have no names"),
        ({"features": [4]}, "positions from 0 to 3; got 4"),
        ({"features": []}, "features is empty"),
        ({"features": [1, 1]}, "features names 1 more than once"),
        ({"features": {1, 2}}, "features is a set, which has no order"),
        ({"statistics": ()}, "'statistics' parameter of EraStatistics"),
        ({"statistics": "mean"}, "'statistics' parameter of EraStatistics"),
        ({"statistics": ["mean", "mean"]}, "names one of them twice"),
    ],
)
def test_refusals(options, match):
    with pytest.raises(ValueError, match=match):
        EraStatistics(**options).fit(bins(), eras=ERAS)
