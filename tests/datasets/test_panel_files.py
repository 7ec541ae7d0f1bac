"""The folder of a panel: saved, opened, damaged, replaced, pickled."""

import json
import pickle

import numpy as np
import pytest
from panel_parts import FEATURES, N_ROWS, assert_same

from numerai_features.datasets import EraPanel


def edit_manifest(path, **changes):
    file = path / "panel.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


# The folder


def test_save_and_open(memory, disk):
    assert_same(memory, disk)
    disk.verify()
    files = {file.name for file in disk.path.iterdir()}
    assert files == {
        "eras.npy",
        "features.npy",
        "ids.parquet",
        "panel.json",
        "targets.npy",
    }
    np.testing.assert_array_equal(np.load(disk.path / "features.npy"), memory.X)


def test_nothing_but_the_panel_is_left(disk):
    assert [file.name for file in disk.path.parent.iterdir()] == ["panel"]


def test_writing_into_X_does_not_reach_the_disk(disk):
    disk.X[:] = 0
    assert EraPanel.open(disk.path).X.any()
    disk.verify()


def test_selection_of_a_panel_on_disk_is_saved_as_its_own(disk, tmp_path):
    disk.select([1, 5], features=["feature_2"]).save(tmp_path / "part")
    part = EraPanel.open(tmp_path / "part")
    assert_same(part, disk.select([1, 5], features=["feature_2"]))


def test_panel_without_ids_and_targets(parts, tmp_path):
    bare = EraPanel(parts["X"], parts["eras"], feature_names=FEATURES)
    bare.save(tmp_path / "bare")
    panel = EraPanel.open(tmp_path / "bare")
    assert panel.ids is None
    assert panel.targets.shape == (N_ROWS, 0)
    assert not (panel.path / "ids.parquet").exists()
    assert panel.select([1, 5]).ids is None
    assert list(panel.to_frame()) == ["era", *FEATURES]


def test_panel_in_memory_verifies_its_bins(memory):
    memory.verify()
    memory.X[2, 1] = 9
    with pytest.raises(ValueError, match="got 9 in row 2, column 1"):
        memory.verify()


@pytest.mark.parametrize("name", ["features.npy", "ids.parquet"])
def test_verify_finds_a_changed_byte(disk, name):
    file = disk.path / name
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} is damaged: its checksum"):
        EraPanel.open(disk.path).verify()


@pytest.mark.parametrize("name", ["features.npy", "targets.npy", "eras.npy"])
@pytest.mark.parametrize("size", [0, 40, -1])
def test_short_file(disk, name, size):
    file = disk.path / name
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(ValueError, match=f"{name} is cut short or damaged"):
        EraPanel.open(disk.path)


def test_short_ids(disk):
    file = disk.path / "ids.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    panel = EraPanel.open(disk.path)
    with pytest.raises(ValueError, match=r"ids\.parquet is cut short or damaged"):
        _ = panel.ids


@pytest.mark.parametrize("name", ["features.npy", "ids.parquet"])
def test_missing_file(disk, name):
    (disk.path / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} is missing: the panel"):
        EraPanel.open(disk.path)


def test_array_of_another_shape(disk):
    np.save(disk.path / "eras.npy", np.zeros(3, np.int32))
    with pytest.raises(ValueError, match=r"int32 of shape \(3,\), but panel.json"):
        EraPanel.open(disk.path)


def test_folder_that_is_no_panel(disk):
    with pytest.raises(FileNotFoundError, match=r"is no panel.*Did you mean 'panel'"):
        EraPanel.open(disk.path.with_name("pannel"))


def test_newer_format(disk):
    edit_manifest(disk.path, format_version=7, library_version="9.1")
    match = "numerai-features 9.1 in panel format 7; this version reads.*up to 1.*-U"
    with pytest.raises(ValueError, match=match):
        EraPanel.open(disk.path)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"format_version": 1}'])
def test_damaged_manifest(disk, content):
    (disk.path / "panel.json").write_text(content)
    with pytest.raises(ValueError, match=r"panel\.json is damaged"):
        EraPanel.open(disk.path)


def test_existing_panel_is_kept_unless_told(disk, memory):
    with pytest.raises(FileExistsError, match="Pass overwrite=True"):
        memory.save(disk.path)
    memory.select(3).save(disk.path, overwrite=True)
    assert len(EraPanel.open(disk.path)) == 10
    assert len(disk.X) == N_ROWS
    assert [file.name for file in disk.path.parent.iterdir()] == ["panel"]


def test_panel_saved_over_itself(disk, memory):
    disk.select(first=5).save(disk.path, overwrite=True)
    assert_same(EraPanel.open(disk.path), memory.select(first=5))


def test_what_is_no_panel_is_never_overwritten(memory, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(FileExistsError, match=r"is no panel .* not overwritten"):
        memory.save(tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").exists()


# Pickles


def test_pickle_of_a_panel_in_memory(memory):
    assert_same(pickle.loads(pickle.dumps(memory)), memory)
    part = memory.select([1, 5])
    assert_same(pickle.loads(pickle.dumps(part)), part)


@pytest.mark.parametrize("arguments", [{}, {"first": 2, "last": 5}])
def test_pickle_of_a_panel_on_disk_is_its_path(tmp_path, arguments):
    n = 100_000
    whole = EraPanel(np.ones((n, 5), np.int8), np.arange(n), feature_names=FEATURES[:5])
    whole.save(tmp_path / "large")
    panel = EraPanel.open(tmp_path / "large").select(**arguments)
    content = pickle.dumps(panel)
    assert len(content) < 1000
    assert_same_bare(pickle.loads(content), panel)


def assert_same_bare(a, b):
    np.testing.assert_array_equal(a.X, b.X)
    np.testing.assert_array_equal(a.eras, b.eras)
    assert a.path == b.path


def test_pickle_whose_panel_was_replaced(disk, memory):
    content = pickle.dumps(disk)
    memory.select(3).save(disk.path, overwrite=True)
    with pytest.raises(ValueError, match="holds another panel than when"):
        pickle.loads(content)
