"""EraPanel.append: new rows behind those of a panel, against a panel read at once."""

import numpy as np
import pandas as pd
import pytest
from panel_parts import assert_same

from numerai_features.datasets import (
    EraPanel,
    _panel_append,
    _panel_manifest,
    _panel_sums,
    read_numerai,
)

FEATURES = [f"feature_{name}" for name in "abcde"]
TARGETS = ["target_x_20", "target_y_60"]
PLAIN = {"features": FEATURES, "targets": TARGETS, "verbose": False}


def make_frame(eras, rows_per_era=20, seed=0):
    rng = np.random.default_rng(seed)
    n = len(eras) * rows_per_era
    frame = pd.DataFrame({"era": np.repeat([f"{e:04d}" for e in eras], rows_per_era)})
    for name in FEATURES:
        frame[name] = rng.integers(0, 5, n, np.int8)
    for name in TARGETS:
        frame[name] = rng.integers(0, 5, n).astype(np.float32) / 4
    frame.loc[rng.random(n) < 0.1, "target_x_20"] = np.nan
    frame.index = pd.Index([f"n{seed}{i:05d}" for i in range(n)], name="id")
    return frame


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Several batches and several blocks, as full size has them."""
    monkeypatch.setattr(_panel_append, "BATCH_ROWS", 7)
    monkeypatch.setattr(_panel_manifest, "BLOCK_BYTES", 115)
    monkeypatch.setattr("numerai_features.datasets._panel_folder.BLOCK_BYTES", 115)
    monkeypatch.setattr(_panel_sums, "READ_BYTES", 50)


@pytest.fixture
def frame():
    return make_frame([1, 2, 3, 5, 8, 9, 12])


@pytest.fixture
def folder(tmp_path, frame):
    """The whole file, and a panel of its first four eras."""
    frame.to_parquet(tmp_path / "all.parquet", row_group_size=33)
    read_numerai(tmp_path / "all.parquet", tmp_path / "old", eras=[1, 2, 3, 5], **PLAIN)
    read_numerai(tmp_path / "all.parquet", tmp_path / "whole", **PLAIN)
    return tmp_path


def append(folder, file="all.parquet", **options):
    files = [folder / f for f in file] if isinstance(file, list) else folder / file
    return EraPanel.open(folder / "old").append(files, verbose=False, **options)


def assert_equal_rows(a, b):
    a.info.clear()
    b.info.clear()
    assert_same(a, b)


def test_is_the_panel_of_the_whole_file(folder):
    panel = append(folder)
    assert panel.info["changes"] == [
        {"append": ["all.parquet"], "eras": ["0008", "0012"]}
    ]
    panel.verify()
    assert_equal_rows(panel, EraPanel.open(folder / "whole"))
    assert sorted(file.name for file in panel.path.iterdir()) == [
        "eras-2.npy", "features.npy", "ids-2.parquet", "panel.json", "targets-2.npy",
    ]  # fmt: skip
    np.testing.assert_array_equal(np.load(panel.path / "features.npy"), panel.X)


def test_the_old_panel_keeps_its_rows(folder, frame):
    old, part = (EraPanel.open(folder / "old") for _ in range(2))
    part = part.select(first=3)
    append(folder)
    before = frame[frame["era"] <= "0005"]
    np.testing.assert_array_equal(old.X, before[FEATURES])
    np.testing.assert_array_equal(old.targets, before[TARGETS])
    assert list(old.ids) == list(before.index)
    assert list(part.ids) == list(before.index[40:])
    with pytest.raises(ValueError, match=r"was opened: .*rows or targets were added"):
        old.verify()
    with pytest.raises(ValueError, match=r"was opened: .*rows or targets were added"):
        old.append(folder / "all.parquet", verbose=False)


def test_updates_fill_targets_by_id(folder, frame):
    old = append(folder)
    later = frame.sample(frac=1, random_state=0)
    later["target_x_20"] = later["target_x_20"].fillna(0.25)
    later[["era", *TARGETS[::-1]]].to_parquet(folder / "later.parquet")
    n_gaps = int(np.isnan(old.targets).sum())
    panel = old.update(folder / "later.parquet", verbose=False)
    panel.verify()
    filled = frame[TARGETS].fillna(0.25)
    np.testing.assert_array_equal(panel.targets, filled)
    np.testing.assert_array_equal(old.targets, frame[TARGETS])
    np.testing.assert_array_equal(panel.X, frame[FEATURES])
    assert list(panel.ids) == list(frame.index)
    about = {"update": ["later.parquet"], "filled": n_gaps, "restated": 0}
    assert panel.info["changes"][-1] == about
    assert panel.update(folder / "later.parquet", verbose=False) is panel
