"""EraPanel: what it holds, selections and frames."""

import numpy as np
import pandas as pd
import pytest
from joblib import Parallel, delayed
from panel_parts import (
    FEATURES,
    N_FEATURES,
    N_ROWS,
    NUMBERS,
    TARGETS,
    assert_same,
)

from numerai_features._eras import LIVE
from numerai_features._validation import named_rows
from numerai_features.datasets import EraPanel


@pytest.fixture(params=["memory", "disk"])
def panel(request):
    return request.getfixturevalue(request.param)


# What a panel holds


def test_parts_come_back(panel, parts):
    np.testing.assert_array_equal(panel.X, parts["X"])
    np.testing.assert_array_equal(panel.eras, parts["eras"])
    np.testing.assert_array_equal(panel.targets, parts["targets"])
    assert panel.X.dtype == np.int8
    assert panel.X.flags.c_contiguous
    assert panel.eras.dtype == np.int32
    assert panel.targets.dtype == np.float32
    assert list(panel.ids) == parts["ids"]
    assert list(panel.era_numbers) == NUMBERS
    assert (len(panel), panel.n_rows, panel.n_features) == (N_ROWS, N_ROWS, N_FEATURES)
    assert panel.info == {"n_missing": 3}


def test_arrays_of_the_right_type_are_not_copied(memory, parts):
    assert np.shares_memory(memory.X, parts["X"])
    assert np.shares_memory(memory.targets, parts["targets"])


def test_y(panel, parts):
    np.testing.assert_array_equal(panel.y(), parts["targets"][:, 0])
    y = panel.y("target_x_60")
    np.testing.assert_array_equal(y, parts["targets"][:, 1])
    assert y.flags.c_contiguous
    assert y.dtype == np.float32


def test_y_of_unknown_target(panel):
    match = "'target_x_6' is no target of this panel. Did you mean 'target_x_60'"
    with pytest.raises(ValueError, match=match):
        panel.y("target_x_6")


def test_y_without_targets():
    panel = EraPanel(np.zeros((1, 1), np.int8), [1], feature_names=["f"])
    with pytest.raises(ValueError, match="has no targets"):
        panel.y()


def test_repr(memory, disk):
    assert repr(memory) == (
        "EraPanel(n_rows=60, n_features=7, eras='0001'..'X' (6), "
        "targets=['target', 'target_x_60'])"
    )
    assert f"path='{disk.path}'" in repr(disk)


def test_labels_in_any_spelling(parts):
    labels = np.repeat(["0001", "0002", "0003", "0005", "0008", "X"], 10)
    np.testing.assert_array_equal(
        EraPanel(**parts | {"eras": labels}).eras, parts["eras"]
    )


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"X": np.zeros((60, 7))}, "X must be a two-dim.*got float64 of shape.*cast"),
        ({"X": np.zeros(60, np.int8)}, r"two-dimensional int8.*shape \(60,\)"),
        ({"X": np.zeros((60, 7), np.int16)}, "int8 or uint8 numpy array; got int16"),
        ({"X": [[1]]}, "two-dimensional int8 or uint8 numpy array; got list"),
        ({"X": np.zeros((0, 7), np.int8), "eras": []}, "must have rows and"),
        ({"X": np.full((60, 7), 5, np.int8)}, "bins 0 to 4; got 5 in row 0, column 0"),
        ({"X": np.full((60, 7), -1, np.int8)}, "bins 0 to 4; got -1"),
        ({"eras": np.ones(59, int)}, "eras has 59 labels, but X has 60 rows"),
        ({"eras": np.repeat([2, 1], 30)}, "row 30 has era '0001'.*Sort the rows"),
        ({"eras": np.full(60, 2**40)}, "eras must be era numbers up to 9999"),
        ({"eras": ["ash"] * 60}, "eras must be labels with numbers.*; got 'ash'"),
        ({"targets": np.zeros((60, 3))}, r"shape \(60, 2\).*got \(60, 3\)"),
        ({"targets": np.full((60, 2), np.inf)}, "infinity in row 0 of 'target'"),
        ({"feature_names": FEATURES[1:]}, "feature_names has 6 names for 7 columns"),
        ({"feature_names": ["f"] * 7}, "feature_names holds 'f' twice"),
        ({"target_names": "target"}, "target_names must be a list of names"),
        ({"ids": ["a"]}, "ids must be 60 strings.*got 1"),
        ({"ids": [None] * 60}, "ids must be 60 strings.*missing"),
        ({"ids": list(range(60))}, "got 60 of type int64"),
        ({"ids": [1.5, "a"] * 30}, "ids must be strings"),
        ({"info": {"a": {1, 2}}}, "info must hold values that JSON can hold.*set"),
        ({"info": {"a": np.nan}}, "info must hold values that JSON can hold.*finite"),
        ({"info": [1]}, r"info must be a dict; got \[1\]"),
        ({"ids": ["a", "b"] * 30}, "ids holds 'a' twice, in rows 0 and 2"),
        ({"ids": 7}, "ids must be"),
        ({"feature_names": 7}, "feature_names must be a list of names.*got 7"),
        ({"targets": [["1.5", "2"]] * 60}, "targets must be numbers"),
        ({"targets": np.full((60, 2), 1e300)}, "infinity in row 0 of 'target'"),
    ],
)
def test_wrong_parts(parts, change, match):
    with pytest.raises(ValueError, match=match):
        EraPanel(**parts | change)


def test_rows_in_another_order(parts):
    eras = pd.Series(parts["eras"], index=parts["ids"])
    targets = pd.DataFrame(parts["targets"], index=parts["ids"])[::-1]
    with pytest.raises(ValueError, match="targets and eras have different pandas inde"):
        EraPanel(**parts | {"eras": eras, "targets": targets})


# Selecting


def expected_rows(numbers):
    return np.flatnonzero(np.isin(np.repeat(NUMBERS, 10), numbers))


@pytest.mark.parametrize(
    ("arguments", "numbers"),
    [
        ({}, NUMBERS),
        ({"eras": "0003"}, [3]),
        ({"eras": 8}, [8]),
        ({"eras": np.int64(8)}, [8]),
        ({"eras": "X"}, [LIVE]),
        ({"eras": ["0001", "X"]}, [1, LIVE]),
        ({"eras": {5, 2}}, [2, 5]),
        ({"eras": {1: "a", 2: "b"}.keys()}, [1, 2]),
        ({"eras": range(1, 4)}, [1, 2, 3]),
        ({"eras": np.array([5, 3])}, [3, 5]),
        ({"eras": pd.Series(["0005", "0005"])}, [5]),
        ({"every": 4}, [1, 8]),
        ({"every": 2, "first": 2}, [2, 5, LIVE]),
        ({"first": 4}, [5, 8, LIVE]),
        ({"last": "0007"}, [1, 2, 3, 5]),
        ({"first": "0002", "last": 5}, [2, 3, 5]),
        ({"eras": [1, 3, 5], "first": 2}, [3, 5]),
    ],
)
def test_select_eras(panel, parts, arguments, numbers):
    part = panel.select(**arguments)
    rows = expected_rows(numbers)
    assert list(part.era_numbers) == numbers
    np.testing.assert_array_equal(part.X, parts["X"][rows])
    np.testing.assert_array_equal(part.eras, parts["eras"][rows])
    np.testing.assert_array_equal(part.targets, parts["targets"][rows])
    assert list(part.ids) == [parts["ids"][i] for i in rows]
    assert part.X.flags.c_contiguous


@pytest.mark.parametrize(
    ("arguments", "shared"),
    [
        ({}, True),
        ({"first": 2, "last": 5}, True),
        ({"eras": [3, 2]}, True),
        ({"eras": [1, 3]}, False),
        ({"features": FEATURES[:2]}, False),
    ],
)
def test_neighbouring_eras_are_a_view(panel, arguments, shared):
    part = panel.select(**arguments)
    assert np.shares_memory(part.X, panel.X) is shared


@pytest.mark.parametrize(
    ("features", "columns"),
    [
        (["feature_5", "feature_0"], [5, 0]),
        (np.array(["feature_1"]), [1]),
        ([2, -1], [2, 6]),
        (np.array([3, 1]), [3, 1]),
        (lambda name: name > "feature_4", [5, 6]),
    ],
)
def test_select_features(panel, parts, features, columns):
    part = panel.select([1, 5], features=features)
    np.testing.assert_array_equal(part.X, parts["X"][expected_rows([1, 5])][:, columns])
    assert part.feature_names == [FEATURES[j] for j in columns]
    assert part.X.flags.c_contiguous


def test_view_of_view(panel):
    part = panel.select(first=2).select(last=5).select(eras=3)
    assert_same(part, panel.select(3))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"eras": [1, 4, 6]}, "'0004', '0006', which are not among the 6 eras from"),
        ({"eras": []}, "No era is left of the 6 eras from '0001' to 'X'"),
        ({"eras": ["ash"]}, "eras must be labels with numbers.*; got 'ash'"),
        ({"first": 6, "last": 7}, "No era is left"),
        ({"every": 0}, "every must be a positive whole number; got 0"),
        ({"every": 1.5}, "every must be a positive whole number"),
        ({"every": True}, "every must be a positive whole number; got True"),
        ({"first": "zzz"}, "first must be labels with numbers.*; got 'zzz'"),
        (
            {"last": [1, 2]},
            r"last must be the label or .* one era; got \[1, 2\]",
        ),
        ({"last": np.nan}, "last .*"),
        ({"first": True}, "first must be era labels; got the boolean True"),
        ({"features": 3}, "features must be a list of names or positions.*got 3"),
        ({"features": [True]}, "features holds True; expected names, or positions"),
        ({"features": ["feature_9"]}, "'feature_9' is no feature.*Did you mean"),
        ({"features": ["feature_1"] * 2}, "requested twice"),
        ({"features": [1, -6]}, "holds a feature twice"),
        ({"features": [7]}, "features holds 7; expected names, or positions below 7"),
        ({"features": ["feature_1", 1.5]}, "features holds 'feature_1'"),
        ({"features": "small"}, r"must be a list.*Pass \['small'\]"),
        ({"features": []}, "features selects nothing"),
        ({"features": lambda name: False}, "features selects nothing"),
    ],
)
def test_wrong_selections(panel, arguments, match):
    with pytest.raises(ValueError, match=match):
        panel.select(**arguments)


# Frames


def test_to_frame_has_numerais_schema(panel, parts):
    frame = panel.to_frame()
    labels = np.repeat(["0001", "0002", "0003", "0005", "0008", "X"], 10)
    expected = pd.concat(
        [
            pd.DataFrame({"era": labels}),
            pd.DataFrame(parts["X"], columns=FEATURES),
            pd.DataFrame(parts["targets"], columns=TARGETS),
        ],
        axis=1,
    ).set_index(pd.Index(parts["ids"], name="id"))
    pd.testing.assert_frame_equal(frame, expected)


def test_to_frame_of_some_columns(panel, parts):
    frame = panel.to_frame(features=["feature_3"], targets=["target_x_60"])
    assert list(frame) == ["era", "feature_3", "target_x_60"]
    np.testing.assert_array_equal(frame["feature_3"], parts["X"][:, 3])
    assert list(panel.to_frame(targets=[])) == ["era", *FEATURES]


def test_to_frame_shares_features_and_cannot_damage_them(panel):
    frame = panel.to_frame()
    if int(pd.__version__.split(".")[0]) >= 3:  # older ones copy in concat
        assert np.shares_memory(frame["feature_1"].to_numpy(), panel.X)
        with pytest.raises(ValueError, match="read-only"):
            frame.loc[frame.index[0], "feature_1"] = 3
    frame["feature_1"] = np.int8(3)
    assert not (panel.X[:, 1] == 3).all()
    frame.loc[:, panel.target_names] = 3
    assert (np.isnan(panel.targets) | (panel.targets <= 1)).all()


def cells_of(frame):
    return frame.drop(columns="era").to_numpy().tolist()


def test_to_frame_reaches_other_processes_as_it_is(panel, tmp_path):
    """joblib mixed up the cells of a frame over a memory-mapped file."""
    panel.save(tmp_path / "saved")
    opened = EraPanel.open(tmp_path / "saved")
    frame = opened.to_frame(targets=[])
    parts = [frame, named_rows(opened.X, opened.feature_names).assign(era="0001")]
    for part in parts:
        [there] = Parallel(2)(delayed(cells_of)(each) for each in [part])
        assert there == panel.X.tolist()


def test_to_frame_without_ids(parts):
    frame = EraPanel(**parts | {"ids": None}).to_frame()
    assert frame.index.equals(pd.RangeIndex(N_ROWS))


@pytest.mark.parametrize("targets", ["target", 3, [3]])
def test_to_frame_of_what_is_no_list_of_names(panel, targets):
    with pytest.raises(ValueError, match="targets must be a list of names, as str"):
        panel.to_frame(targets=targets)


@pytest.mark.parametrize("name", [3, ["target"]])
def test_a_target_is_asked_for_by_name(panel, name):
    with pytest.raises(ValueError, match="is no target of this panel"):
        panel.y(name)


def test_to_frame_of_unknown_target(panel):
    with pytest.raises(ValueError, match="'targt' is no target of this panel"):
        panel.to_frame(targets=["targt"])
