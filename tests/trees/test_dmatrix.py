"""XGBoost's bins from blocks of rows, beside those of the whole table."""

import gc

import numpy as np
import pyarrow as pa
import pytest

from numerai_features.datasets import make_era_panel
from numerai_features.trees import _dmatrix, quantile_dmatrix, tree_table

xgboost = pytest.importorskip("xgboost")
PARAMS = {"max_depth": 4, "max_bin": 63, "nthread": 1, "seed": 1}
EXTERNAL = pytest.mark.skipif(
    not hasattr(xgboost, "ExtMemQuantileDMatrix"), reason="XGBoost 3.0 or later"
)


@pytest.fixture(scope="module")
def panel():
    return make_era_panel(n_eras=20, rows_per_era=60, n_features=9, random_state=3)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(_dmatrix, "_BLOCK_BYTES", 9 * 130)


def trees(rows):
    return xgboost.train(PARAMS, rows, 8).get_dump(with_stats=True)


def whole(X, y, **options):
    return xgboost.QuantileDMatrix(X, y, max_bin=63, **options)


@pytest.mark.parametrize("external", [False, pytest.param(True, marks=EXTERNAL)])
@pytest.mark.parametrize(
    "kind", ["int8", "uint8", "floats", "frame", "rows", "arrow", "mixed"]
)
def test_the_trees_are_those_of_the_whole_table(panel, kind, external):
    y = panel.y("target_alpha_20")
    X, plain = panel.X, panel.X
    if kind == "uint8":
        X = plain = (np.random.default_rng(0).random(panel.X.shape) * 255).astype("u1")
    if kind == "floats":
        X = plain = np.where(panel.X == 1, np.nan, panel.X).astype(np.float32)
    if kind == "frame":
        X = panel.to_frame(targets=[])
    if kind == "rows":
        X = panel.as_X()
    if kind == "arrow":
        X = tree_table(panel.X, panel.feature_names)
    if kind == "mixed":  # null in some blocks, and columns of two types
        plain = panel.X.astype(np.float32)
        plain[:, 4:] /= 2
        plain[300:350, 2] = np.nan
        X = pa.table(
            {
                name: pa.array(
                    plain[:, j], pa.int8() if j < 4 else None, from_pandas=True
                )
                for j, name in enumerate(panel.feature_names)
            }
        )
    names = None if isinstance(X, np.ndarray) else panel.feature_names
    rows = quantile_dmatrix(X, y, external_memory=external)
    assert rows.feature_names == names
    assert trees(rows) == trees(whole(plain, y, feature_names=names))


def test_rows_without_target_are_left_out_and_weights_count(panel):
    y = panel.y("target_alpha_20").copy()
    y[:200] = np.nan  # more than a block
    y[::7] = np.nan
    weights = np.random.default_rng(0).random(len(y))
    known = ~np.isnan(y)
    rows = quantile_dmatrix(panel.X, y, sample_weight=weights)
    assert rows.num_row() == known.sum()
    np.testing.assert_array_equal(rows.get_label(), y[known])
    expected = whole(panel.X[known], y[known], weight=weights[known])
    assert trees(rows) == trees(expected)


def test_rows_to_validate_on_have_the_bins_of_the_others(panel):
    y = panel.y("target_alpha_20")
    train = quantile_dmatrix(panel.X[:800], y[:800])
    valid = quantile_dmatrix(panel.X[800:] * 10, y[800:], ref=train)
    cuts = [rows.get_quantile_cut()[1].tolist() for rows in (train, valid)]
    assert cuts[0] == cuts[1]


@EXTERNAL
def test_its_files_are_beside_the_panel_and_vanish(panel, tmp_path):
    panel.save(tmp_path / "panel")
    opened = type(panel).open(tmp_path / "panel")
    rows = quantile_dmatrix(opened.as_X(), panel.y(), external_memory=True)
    beside = sorted(path.name.split("-")[0] for path in tmp_path.iterdir())
    assert beside == ["panel", "xgboost"]
    del rows
    gc.collect()
    assert [path.name for path in tmp_path.iterdir()] == ["panel"]


@EXTERNAL
def test_a_place_for_its_files_that_is_none_is_told(panel, tmp_path, monkeypatch):
    nowhere = tmp_path / "nowhere"
    monkeypatch.setattr(_dmatrix, "_place_beside", lambda table: nowhere)
    told = r"external_memory=True .*No such file.* set TMPDIR: .*nowhere"
    with pytest.raises(FileNotFoundError, match=told):
        quantile_dmatrix(panel.X, panel.y(), external_memory=True)


def test_rows_of_other_columns_than_refs_are_told(panel):
    ref = quantile_dmatrix(panel.X[:, :7])
    with pytest.raises(ValueError, match="ref has 7 columns, but X has 9"):
        quantile_dmatrix(panel.X, ref=ref)
    frame = panel.to_frame(targets=[])
    swapped = frame[["era", *panel.feature_names[::-1]]]
    with pytest.raises(ValueError, match=r"Column 0 of X is '\w+8', but '\w+0' in ref"):
        quantile_dmatrix(swapped, ref=quantile_dmatrix(frame))
    assert quantile_dmatrix(panel.X, ref=quantile_dmatrix(frame)).num_row() == 1200


@pytest.mark.parametrize("external", [False, pytest.param(True, marks=EXTERNAL)])
@pytest.mark.parametrize("cell", [-np.inf, 1e39])
def test_infinity_is_told_by_its_cell(panel, external, cell):
    X, y = panel.X.astype(np.float64), panel.y().copy()
    X[[900, 901], 4], y[[17, 900]], X[3, 3] = cell, np.nan, np.nan
    with pytest.raises(ValueError, match=r"X contains .* in row 901, column 4"):
        quantile_dmatrix(X, y, external_memory=external)
    y[901] = np.nan
    assert quantile_dmatrix(X, y, external_memory=external).num_row() == 1197


def test_without_a_target_it_holds_rows_to_predict(panel):
    y = panel.y("target_alpha_20")
    booster = xgboost.train(PARAMS, quantile_dmatrix(panel.X, y), 5)
    np.testing.assert_array_equal(
        booster.predict(quantile_dmatrix(panel.X)),
        booster.predict(xgboost.DMatrix(panel.X)),
    )


BAD = {
    "y": (dict(y=np.ones(3)), r"y must have one value per row.*got \(3,\)"),
    "all NaN": (dict(y=np.full(1200, np.nan)), "y .*NaN"),
    "weights": (dict(sample_weight=np.ones(3)), r"sample_weight must have .*\(3,\)"),
    "names": (dict(feature_names=["a"]), "feature_names has 1 names, but X has 9"),
    "text": (dict(X=np.full((1200, 2), "4")), "X must hold real numbers; got .*U1"),
    "empty": (dict(X=np.ones((0, 9)), y=None), r"rows and columns; got .*\(0, 9\)"),
    "flat": (dict(X=np.ones(1200)), r"X must be two-dimensional.*\(1200,\)"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_input_is_told_by_name(panel, bad):
    arguments, message = BAD[bad]
    given = {"X": panel.X, "y": panel.y("target_alpha_20"), **arguments}
    with pytest.raises(ValueError, match=message):
        quantile_dmatrix(given.pop("X"), **given)
