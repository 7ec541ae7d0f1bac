"""PanelWriter: rows in any order, and what interrupts or damages them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from panel_parts import FEATURES, N_ROWS, TARGETS, assert_same

from numerai_features.datasets import EraPanel, PanelWriter, _panel_writer


def writer_to(path, **changes):
    arguments = {
        "n_rows": N_ROWS,
        "feature_names": FEATURES,
        "target_names": TARGETS,
    }
    return PanelWriter(path, **arguments | changes)


@pytest.mark.parametrize("folder", ["panel", None])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("scattered", [False, True])
def test_rows_in_any_order(
    parts, memory, tmp_path, monkeypatch, folder, order, scattered
):
    monkeypatch.setattr(_panel_writer, "_TILE", (4, 3))
    rng = np.random.default_rng(1)
    rows = np.arange(N_ROWS)
    blocks = np.split(rng.permutation(rows) if scattered else rows, 6)
    path = None if folder is None else tmp_path / folder
    with writer_to(path, info={}) as writer:
        for block in reversed(blocks):
            place = block if scattered else slice(block[0], block[-1] + 1)
            writer.write(
                place,
                np.asarray(parts["X"][block], order=order),
                parts["eras"][block],
                parts["targets"][block],
                [parts["ids"][i] for i in block],
            )
        writer.info["n_missing"] = 3
    assert_same(writer.panel, memory)
    assert writer.panel.path == path


def test_one_era_for_all_rows_and_no_targets(parts):
    with writer_to(None) as writer:
        writer.write(slice(None), parts["X"], 7)
    assert (writer.panel.eras == 7).all()
    assert np.isnan(writer.panel.targets).all()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError("stop")])
def test_interrupted_write_leaves_nothing(parts, tmp_path, error):
    def interrupted():
        with writer_to(tmp_path / "panel") as writer:
            writer.write(slice(0, 10), parts["X"][:10], 1)
            assert [f.name for f in tmp_path.iterdir()] != []
            assert not (tmp_path / "panel").exists()
            raise error

    with pytest.raises((KeyboardInterrupt, RuntimeError), match=r"^$|stop"):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_failed_write_keeps_the_panel_that_was_there(disk, parts):
    with (
        pytest.raises(ValueError, match="60 of 60 rows were not written"),
        writer_to(disk.path, overwrite=True),
    ):
        pass
    disk.verify()
    assert [file.name for file in disk.path.parent.iterdir()] == ["panel"]


def test_failed_rename_puts_the_old_panel_back(disk, memory, monkeypatch):
    rename = Path.rename

    def fail_for_new(self, target):
        if self.suffix == ".tmp":
            raise PermissionError("in use")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_new)
    with pytest.raises(PermissionError, match="in use"):
        memory.save(disk.path, overwrite=True)
    monkeypatch.undo()
    EraPanel.open(disk.path).verify()
    assert [file.name for file in disk.path.parent.iterdir()] == ["panel"]


def test_leftover_of_a_killed_process_is_replaced(memory, tmp_path, monkeypatch):
    monkeypatch.setattr("os.getpid", lambda: 77)
    (tmp_path / ".panel.77.tmp").mkdir()
    (tmp_path / ".panel.77.tmp" / "features.npy").write_text("half")
    memory.save(tmp_path / "panel")
    assert [file.name for file in tmp_path.iterdir()] == ["panel"]


def write_halves(path, X, eras, ids=(None, None)):
    with writer_to(path) as writer:
        writer.write(slice(0, 30), X[:30], eras[0], ids=ids[0])
        writer.write(slice(30, 60), X[30:], eras[1], ids=ids[1])


def test_eras_that_fall(parts, tmp_path):
    with pytest.raises(ValueError, match="row 30 is of era '0001'"):
        write_halves(tmp_path / "panel", parts["X"], (2, 1))
    assert list(tmp_path.iterdir()) == []


def test_ids_for_some_rows_only(parts):
    with pytest.raises(ValueError, match="ids were given for 30 of 60 rows"):
        write_halves(None, parts["X"], (1, 1), (parts["ids"][:30], None))


def test_too_small_a_disk(memory, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"needs 0\.0 GB, and .* has 0\.0 GB left"):
        memory.save(tmp_path / "panel")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("rows", "change", "match"),
    [
        (slice(0, 9), {}, "rows must be a slice or whole numbers, one for each of"),
        (slice(55, 65), {}, "within the 60 rows"),
        (slice(0, 20, 2), {}, "rows must be a slice"),
        (np.arange(55, 65), {}, "within the 60 rows"),
        (np.arange(-1, 9), {}, "within the 60 rows"),
        (np.ones(10), {}, "rows must be a slice or whole numbers"),
        (slice(0, 10), {"X": np.zeros((10, 6), np.int8)}, "rows and 7 features"),
        (slice(0, 10), {"X": np.full((10, 7), 9, np.int8)}, "bins 0 to 4; got 9"),
        (slice(0, 10), {"eras": ["0001"] * 10}, "era numbers, as integers; got <U4"),
        (slice(0, 10), {"eras": 2**40}, "numbers of 32 bits"),
        (slice(0, 10), {"targets": np.zeros((10, 1))}, r"targets must have shape"),
        (slice(0, 10), {"ids": ["a"]}, "ids must be 10 strings"),
    ],
)
def test_wrong_writes(rows, change, match):
    arguments = {"X": np.zeros((10, 7), np.int8), "eras": 1} | change
    with (
        pytest.raises(ValueError, match=match),
        writer_to(None) as writer,
    ):
        writer.write(rows, **arguments)


def test_writer_outside_its_with_block(parts):
    writer = writer_to(None)
    with pytest.raises(ValueError, match="inside the with block"):
        writer.write(slice(None), parts["X"], 1)
    with pytest.raises(ValueError, match="no panel before the end of the with block"):
        _ = writer.panel


@pytest.mark.parametrize("change", [{"n_rows": 0}, {"feature_names": []}])
def test_writer_of_nothing(change):
    with pytest.raises(ValueError, match="A panel needs rows and features"):
        writer_to(None, **change)
