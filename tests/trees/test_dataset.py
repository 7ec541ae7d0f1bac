"""LightGBM's bins from a table's columns, beside those of the whole array."""

import numpy as np
import pytest

from numerai_features import _scratch
from numerai_features.datasets import EraPanel, make_era_panel
from numerai_features.trees import _tables, lightgbm_dataset

lightgbm = pytest.importorskip("lightgbm")
PARAMS = {
    "max_depth": 4,
    "max_bin": 63,
    "num_threads": 1,
    "force_col_wise": True,
    "verbosity": -1,
    "seed": 1,
}


@pytest.fixture(scope="module")
def panel(tmp_path_factory):
    made = make_era_panel(n_eras=20, rows_per_era=60, n_features=9, random_state=3)
    folder = tmp_path_factory.mktemp("panel") / "rows"
    made.save(folder)
    return EraPanel.open(folder)


@pytest.fixture
def y(panel):
    return panel.y("target_alpha_20").copy()


def trees(rows):
    text = lightgbm.train(PARAMS, rows, 8).model_to_string()
    return text[text.index("Tree=0") : text.index("end of trees")]


def whole(X, y, **options):
    return lightgbm.Dataset(X, y, params=PARAMS, **options)


@pytest.mark.parametrize("kind", ["array", "floats", "frame", "rows", "panel"])
def test_the_trees_are_those_of_the_whole_table(panel, y, kind):
    plain = panel.X
    if kind == "floats":
        plain = np.where(panel.X == 1, np.nan, panel.X).astype(np.float32)
    X = {"frame": panel.to_frame(targets=[]), "rows": panel.as_X(), "panel": panel}
    rows = lightgbm_dataset(X.get(kind, plain), y)
    names = panel.feature_names if kind in X else [f"Column_{j}" for j in range(9)]
    assert rows.get_feature_name() == names
    assert trees(rows) == trees(whole(plain, y))


def test_rows_without_target_are_left_out_and_weights_count(panel, y, monkeypatch):
    y[:200] = np.nan
    y[::7] = np.nan
    weights = np.random.default_rng(0).random(len(y))
    known = ~np.isnan(y)
    made = []

    def watched(table, shape, dtype):
        out = empty_like(table, shape, dtype)
        made.append(_scratch.folder_of(out))
        return out

    empty_like = _tables.empty_like
    monkeypatch.setattr(_scratch, "LEAST_BYTES", 1000)
    monkeypatch.setattr(_tables, "empty_like", watched)
    rows = lightgbm_dataset(panel, y, sample_weight=weights)
    assert made == [panel.path] * 2  # columns of all rows, and of those with a target
    assert rows.num_data() == known.sum()
    np.testing.assert_array_equal(rows.get_label(), y[known])
    expected = whole(panel.X[known], y[known], weight=weights[known])
    assert trees(rows) == trees(expected)


def test_columns_can_be_categories(panel, y):
    rows = lightgbm_dataset(panel, y, categorical_feature=["feature_0002"])
    expected = trees(whole(panel.X, y, categorical_feature=[2]))
    assert trees(rows) == expected
    assert expected != trees(whole(panel.X, y))


def test_rows_to_validate_on_have_the_bins_of_the_others(panel, y):
    train = lightgbm_dataset(panel.X[:800], y[:800])
    valid = lightgbm_dataset(panel.X[800:], y[800:], ref=train)
    told = {}
    booster = lightgbm.train(
        PARAMS,
        train,
        30,
        valid_sets=[valid],
        callbacks=[lightgbm.record_evaluation(told)],
    )
    last = np.mean((booster.predict(panel.X[800:]) - y[800:]) ** 2)
    assert told["valid_0"]["l2"][-1] == pytest.approx(last, rel=1e-6)


def test_rows_of_other_columns_than_refs_are_told(panel, y):
    frame = panel.to_frame(targets=[])
    swapped = frame[["era", *panel.feature_names[::-1]]]
    ref = lightgbm_dataset(frame, y)
    with pytest.raises(ValueError, match=r"Column 0 of X is '\w+8', but '\w+0' in ref"):
        lightgbm_dataset(swapped, y, ref=ref)
    with pytest.raises(ValueError, match="ref has 9 columns, but X has 7"):
        lightgbm_dataset(frame.iloc[:, :8], y, ref=ref)
    assert lightgbm_dataset(panel.X, y, ref=ref).num_data() == 1200
    spaced = frame.rename(columns=lambda name: name.replace("_", " "))
    ref = lightgbm_dataset(spaced, y)
    assert lightgbm_dataset(spaced, y, ref=ref).num_data() == 1200


BAD = {
    "y": (dict(y=np.ones(3)), r"y must have one value per row.*got \(3,\)"),
    "weights": (dict(sample_weight=np.ones(3)), r"sample_weight must have .*\(3,\)"),
    "names": (dict(feature_names=["a"]), "feature_names has 1 names, but X has 9"),
    "text": (dict(X=np.full((1200, 2), "4")), "X must hold real numbers; got .*U1"),
    "empty": (dict(X=np.ones((0, 9)), y=None), r"rows and columns; got .*\(0, 9\)"),
    "flat": (dict(X=np.ones(1200)), r"X must be two-dimensional.*\(1200,\)"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_input_is_told_by_name(panel, y, bad):
    arguments, message = BAD[bad]
    given = {"X": panel.X, "y": y, **arguments}
    with pytest.raises(ValueError, match=message):
        lightgbm_dataset(given.pop("X"), **given)
