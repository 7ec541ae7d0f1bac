"""The folder of a panel: saved, opened, damaged, replaced, pickled."""

import json
import os
import pickle
import shutil
import sys

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from panel_parts import FEATURES, N_ROWS, TARGETS, assert_same

from numerai_features._sealed import read_sealed, write_sealed
from numerai_features.datasets import EraPanel, PanelWriter, _panel_copy

ONE = {"start": [1], "blocks": [1]}


def edit_manifest(path, **changes):
    record, _ = read_sealed(path / "panel.json", kind="panel")
    write_sealed(path / "panel.json", record | changes, kind="panel")


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
    memory._X[2, 1] = 9
    with pytest.raises(ValueError, match="got 9 in row 2, column 1"):
        memory.verify()


@pytest.mark.parametrize("name", ["features.npy", "ids.parquet"])
def test_verify_finds_a_changed_byte(disk, name):
    file = disk.path / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} is damaged: its checksum"):
        EraPanel.open(disk.path).verify()


@pytest.mark.parametrize("name", ["features.npy", "targets.npy", "eras.npy"])
@pytest.mark.parametrize("size", [0, 40, -1])
def test_short_file(disk, name, size):
    file = disk.path / name
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(ValueError, match=f"{name} is truncated or damaged"):
        EraPanel.open(disk.path)


@pytest.mark.parametrize("size", [0, 40, -20])
def test_short_ids(disk, size):
    file = disk.path / "ids.parquet"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"ids\.parquet is truncated or damaged"):
        EraPanel.open(disk.path)
    with pytest.raises(ValueError, match=r"ids\.parquet is damaged: its checksum"):
        _ = disk.ids


def test_ids_of_another_number_of_rows(disk):
    pq.write_table(pa.table({"id": ["a", "b"]}), disk.path / "ids.parquet")
    with pytest.raises(ValueError, match="holds 2 ids, but the panel has 60 rows"):
        EraPanel.open(disk.path)


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
    with pytest.raises(FileNotFoundError, match=r"not a panel.*Did you mean 'panel'"):
        EraPanel.open(disk.path.with_name("pannel"))


@pytest.mark.parametrize(
    ("version", "advice"),
    [(7, "Upgrade with: pip"), (1, "Write the panel again"), (None, "Write the panel")],
)
def test_another_format(disk, version, advice):
    edit_manifest(disk.path, format_version=version)
    match = f"has panel format {version}; this version reads formats 2 and 3.*{advice}"
    with pytest.raises(ValueError, match=match):
        EraPanel.open(disk.path)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"version": 1}\n', b"\xff", b"[" * 99_999]
)
def test_what_is_no_manifest(disk, content):
    (disk.path / "panel.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"panel\.json is damaged.* write the panel a"):
        EraPanel.open(disk.path)


def test_the_earlier_format_without_a_seal(disk, memory):
    manifest = {"format_version": 1, "n_rows": N_ROWS}
    (disk.path / "panel.json").write_text(json.dumps(manifest, indent=1))
    with pytest.raises(ValueError, match=r"panel format 1; .*Write the panel again"):
        EraPanel.open(disk.path)
    memory.save(disk.path, overwrite=True)
    EraPanel.open(disk.path).verify()


def test_manifest_is_json_that_others_can_read(disk):
    manifest = json.loads((disk.path / "panel.json").read_text())
    assert manifest["record"]["feature_names"] == FEATURES


def test_any_changed_bit_of_the_manifest_is_told(disk):
    file = disk.path / "panel.json"
    good = file.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.choice(len(good), 200, replace=False):
        bad = bytearray(good)
        bad[place] ^= 1 << rng.integers(8)
        file.write_bytes(bad)
        with pytest.raises(ValueError, match=r"panel\.json .*or write the panel again"):
            EraPanel.open(disk.path)


@pytest.mark.parametrize(
    "checksums",
    [
        {},
        {"features.npy": ONE, "targets.npy": ONE},
        {"features.npy": ONE, "targets.npy": ONE, "eras.npy": ONE, "../ids.npy": ONE},
        {"features.npy": ONE, "targets.npy": ONE, "eras.npy": "3"},
        {"features.npy": ONE, "targets.npy": ONE, "eras.npy": 3},
        {"features.npy": ONE, "targets.npy": ONE, "targets-2.npy": ONE},
        {"features-2.npy": ONE, "targets.npy": ONE, "eras.npy": ONE},
        ["features.npy"],
    ],
)
def test_manifest_names_a_panels_files_and_no_others(disk, checksums):
    edit_manifest(disk.path, checksums=checksums)
    with pytest.raises(ValueError, match=r"panel\.json is truncated or damaged"):
        EraPanel.open(disk.path)


@pytest.mark.parametrize(
    "change",
    [
        {"n_rows": True},
        {"n_rows": 0},
        {"feature_names": "f"},
        {"target_names": [1]},
        {"info": []},
    ],
)
def test_manifest_of_wrong_contents(disk, change):
    edit_manifest(disk.path, **change)
    with pytest.raises(ValueError, match=r"panel\.json is truncated or damaged"):
        EraPanel.open(disk.path)


@pytest.mark.parametrize("name", ["features.npy", "targets.npy", "eras.npy"])
def test_every_changed_bit_of_a_header_is_told_or_found(disk, name):
    """What opens in spite of it is found by verify."""
    file = disk.path / name
    good = file.read_bytes()
    for place in range(128):
        bad = bytearray(good)
        bad[place] ^= 1 << place % 8
        file.write_bytes(bad)
        with pytest.raises(ValueError, match=rf"{name} (is|holds)"):
            EraPanel.open(disk.path).verify()


def test_order_of_columns_is_not_taken_for_that_of_rows(disk):
    np.save(disk.path / "features.npy", np.asfortranarray(disk.X))
    with pytest.raises(ValueError, match=r"features\.npy .*not in C order"):
        EraPanel.open(disk.path)


@pytest.mark.parametrize(
    ("row", "number", "match"),
    [(30, 1, "eras must ascend; row 30"), (0, -(2**31), "eras must be numbers up to")],
)
def test_eras_are_checked_when_a_panel_is_opened(disk, row, number, match):
    eras = np.load(disk.path / "eras.npy")
    eras[row] = number
    np.save(disk.path / "eras.npy", eras)
    with pytest.raises(ValueError, match=rf"eras\.npy .*damaged \({match}"):
        EraPanel.open(disk.path)


def test_verify_looks_at_the_rows_too(memory, tmp_path):
    memory.save(tmp_path / "panel")
    panel = EraPanel.open(tmp_path / "panel")
    panel._X[59, 6] = 7  # in this process only
    with pytest.raises(ValueError, match="got 7 in row 59, column 6"):
        panel.verify()
    EraPanel.open(tmp_path / "panel").verify()


def test_panel_mixed_of_two_is_found(disk, memory, tmp_path):
    X = memory.X.copy()
    X[0, 0] = (X[0, 0] + 1) % 5
    other = EraPanel(
        X, memory.eras, memory.targets, feature_names=FEATURES, target_names=TARGETS
    )
    other.save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "features.npy", disk.path)
    with pytest.raises(ValueError, match=r"features\.npy is damaged: its checksum"):
        EraPanel.open(disk.path).verify()


def test_ids_of_a_panel_that_was_replaced_are_not_those_of_the_other(disk, memory):
    old = EraPanel.open(disk.path)
    memory.select(last=5).save(disk.path, overwrite=True)
    assert list(old.ids) == list(memory.ids)
    match = "holds another panel now than when this one was opened"
    with pytest.raises(ValueError, match=match):
        old.verify()


@pytest.mark.parametrize("kind", ["disk", "memory"])
@pytest.mark.parametrize(
    "select",
    [{}, {"first": 3}, {"eras": [1, 5]}, {"features": ["feature_2"]}],
    ids=["whole", "range", "eras", "features"],
)
def test_nothing_that_is_lent_can_be_written(kind, select, request):
    """Resolved targets in the place of NaN would be in the panel, and its parent."""
    whole = request.getfixturevalue(kind)
    panel = whole.select(**select)
    before = [joblib.hash(_lent(p)) for p in (whole, panel)]
    for array in (panel.X, panel.eras, panel.targets, panel.era_numbers):
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            array[:1] = 0
    for copy in (panel.y(), panel.y("target_x_60"), panel.ids):
        copy[:] = copy[0]
    for names in (panel.feature_names, panel.target_names):
        names.append("other")
    frame = panel.to_frame()
    frame[panel.target_names[0]] = 0.5
    frame.to_numpy()[:] = 0
    assert [joblib.hash(_lent(p)) for p in (whole, panel)] == before


def _lent(panel):
    parts = panel.X, panel.eras, panel.targets, panel.ids, panel.era_numbers
    return *parts, panel.feature_names, panel.target_names


def test_what_is_lent_is_not_ours(disk, parts):
    one = EraPanel(
        parts["X"],
        parts["eras"],
        parts["targets"][:, 0],
        feature_names=FEATURES,
        target_names=["target"],
    )
    one.y()[:] = 9
    assert one.targets.max() <= 1
    info = {"a": [1]}
    panel = EraPanel(parts["X"], parts["eras"], feature_names=FEATURES, info=info)
    panel.select(1).info["a"].append(2)
    info["a"].append(3)
    assert panel.info == {"a": [1]}


@pytest.mark.parametrize("value", [None, 3, b"panel", ["panel"]])
def test_paths_are_paths(memory, value):
    with pytest.raises(TypeError, match=r"path must be a path, as str or path"):
        EraPanel.open(value)
    with pytest.raises(ValueError, match="path must be the name of a file or folder"):
        EraPanel.open("")


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


def test_what_is_no_panels_is_never_overwritten(memory, disk, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    (disk.path / "notes").mkdir()
    for path, name in ((tmp_path / "mine", "thesis.txt"), (disk.path, "notes")):
        match = f"not a panel's, so it is not overwritten: '{name}'.*Pass another"
        with pytest.raises(FileExistsError, match=match):
            memory.save(path, overwrite=True)
        assert (path / name).exists()
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileExistsError, match="not a folder, so it is not overwritten"):
        memory.save(tmp_path / "file", overwrite=True)
    assert (tmp_path / "file").read_text() == "x"


def test_files_that_only_have_a_panels_names_are_kept(memory, tmp_path):
    np.save(tmp_path / "features.npy", np.arange(3))
    (tmp_path / "panel.json").write_text('{"mine": 1}')
    for _ in range(2):
        with pytest.raises(FileExistsError, match=r"no panel\.json that this library"):
            memory.save(tmp_path, overwrite=True)
        np.testing.assert_array_equal(np.load(tmp_path / "features.npy"), np.arange(3))
        (tmp_path / "panel.json").unlink(missing_ok=True)


def test_damaged_panels_and_empty_folders_may_be_overwritten(memory, disk, tmp_path):
    (disk.path / "features.npy").unlink()
    manifest = disk.path / "panel.json"
    manifest.write_bytes(manifest.read_bytes()[:-5])
    (tmp_path / "empty").mkdir()
    for path in (disk.path, tmp_path / "empty"):
        memory.save(path, overwrite=True)
        EraPanel.open(path).verify()


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "desktop.ini", ".nfs0123"])
def test_what_file_managers_leave_does_not_count(memory, disk, tmp_path, name):
    (tmp_path / "empty").mkdir()
    for path in (disk.path, tmp_path / "empty"):
        (path / name).write_text("x")
        memory.save(path, overwrite=True)
        EraPanel.open(path).verify()
        assert not (path / name).exists()


def test_what_appears_in_a_panel_while_it_is_written_is_no_part_of_it(tmp_path):
    path = tmp_path / "panel"
    writer = PanelWriter(path, n_rows=1, feature_names=["a"], target_names=[])
    with writer:
        writer.write(slice(None), np.zeros((1, 1), np.int8), 1)
        [features] = tmp_path.rglob("features.npy")
        (features.parent / ".DS_Store").write_text("x")
    (path / ".DS_Store").unlink()
    EraPanel.open(path).verify()


@pytest.mark.skipif(sys.platform == "win32", reason="has paths of 260 characters")
@pytest.mark.parametrize("name", ["p" * 255, "\u00e9" * 127])
def test_long_names(memory, tmp_path, name):
    memory.save(tmp_path / name)
    memory.save(tmp_path / name, overwrite=True)
    EraPanel.open(tmp_path / name).verify()
    with pytest.raises(OSError, match="too long"):
        memory.save(tmp_path / (name + "pp"))
    assert os.listdir(tmp_path) == [name]


def test_linked_panel_stays_a_link(memory, disk, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(disk.path)
    memory.select(3).save(link, overwrite=True)
    assert link.is_symlink()
    assert len(EraPanel.open(link)) == len(EraPanel.open(disk.path)) == 10
    assert sorted(f.name for f in tmp_path.iterdir()) == ["link", "panel"]


def test_panel_that_a_crash_put_aside_is_found_again(disk):
    room = disk.path.with_name(f".panel.{'0' * 16}.tmp")
    (room / "new").mkdir(parents=True)
    disk.path.rename(room / "old")
    with pytest.warns(
        UserWarning, match=r"panel was being replaced when its writer wa"
    ):
        EraPanel.open(disk.path).verify()
    assert not room.exists()


def test_panel_that_was_replaced_does_not_come_back(disk):
    """Its writer was killed with the new one in its place; then that was deleted."""
    room = disk.path.with_name(f".panel.{'0' * 16}.tmp")
    shutil.copytree(disk.path, room / "old")
    shutil.rmtree(disk.path)
    with pytest.raises(FileNotFoundError, match="is not a panel"):
        EraPanel.open(disk.path)
    assert not room.exists()


# Pickles


def test_pickle_of_a_panel_in_memory(memory):
    assert_same(pickle.loads(pickle.dumps(memory)), memory)
    part = memory.select([1, 5])
    assert_same(pickle.loads(pickle.dumps(part)), part)


@pytest.mark.parametrize("arguments", [{}, {"first": 2, "last": 5}])
def test_pickle_of_a_panel_on_disk_is_its_path(tmp_path, arguments):
    n = 100_000
    whole = EraPanel(
        np.ones((n, 5), np.int8), np.arange(n) // 20, feature_names=FEATURES[:5]
    )
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
    with pytest.raises(ValueError, match="holds another panel now than when"):
        pickle.loads(content)


# A part of a panel, copied in blocks


@pytest.mark.parametrize("kind", ["disk", "memory"])
@pytest.mark.parametrize(
    "which",
    [
        {"every": 2},
        {"features": ["feature_4", "feature_1"]},
        {"eras": [1, 8], "features": lambda name: name > "feature_3"},
        {"first": 2, "last": 5},
    ],
)
def test_a_part_is_saved_as_it_is_selected(kind, which, request, tmp_path, monkeypatch):
    monkeypatch.setattr(_panel_copy, "READ_BYTES", 30)
    panel = request.getfixturevalue(kind)
    panel.save(tmp_path / "part", **which)
    part = EraPanel.open(tmp_path / "part")
    part.verify()
    assert_same(part, panel.select(**which))


def test_some_targets_are_saved(disk, tmp_path):
    disk.save(tmp_path / "part", targets=["target_x_60"])
    part = EraPanel.open(tmp_path / "part")
    assert part.target_names == ["target_x_60"]
    np.testing.assert_array_equal(part.targets, disk.targets[:, 1:])
    disk.save(tmp_path / "none", targets=[])
    assert EraPanel.open(tmp_path / "none").targets.shape == (N_ROWS, 0)
    with pytest.raises(ValueError, match=r"'targt' is no target of this panel\. Did"):
        disk.save(tmp_path / "other", targets=["targt"])
    with pytest.raises(ValueError, match="targets must be a list of names, as str"):
        disk.save(tmp_path / "other", targets="target")
    with pytest.raises(ValueError, match="No era is left"):
        disk.save(tmp_path / "other", first=6, last=7)
    assert not (tmp_path / "other").exists()
