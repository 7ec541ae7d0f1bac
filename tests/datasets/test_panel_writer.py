"""PanelWriter: rows in any order, and what interrupts or damages them."""

import shutil

import numpy as np
import pandas as pd
import pytest
from panel_parts import FEATURES, N_ROWS, TARGETS, assert_same

from numerai_features.datasets import PanelWriter, _panel_writer


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


def write_halves(path, X, eras, ids=(None, None)):
    with writer_to(path) as writer:
        writer.write(slice(0, 30), X[:30], eras[0], ids=ids[0])
        writer.write(slice(30, 60), X[30:], eras[1], ids=ids[1])


def test_eras_that_fall(parts, tmp_path):
    with pytest.raises(ValueError, match="row 30 has era '0001'"):
        write_halves(tmp_path / "panel", parts["X"], (2, 1))
    assert list(tmp_path.iterdir()) == []


def test_ids_for_some_rows_only(parts):
    with pytest.raises(ValueError, match="ids were given for 30 of 60 rows"):
        write_halves(None, parts["X"], (1, 1), (parts["ids"][:30], None))


def test_too_small_a_disk(memory, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"needs 0\.0 GB, but .* has 0\.0 GB left"):
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
        (slice(0, 10), {"eras": 2**40}, "numbers up to 9999"),
        (slice(0, 10), {"eras": 20200103}, "up to 9999.*got 20200103 to"),
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


def test_rows_in_another_order(parts):
    eras = pd.Series(parts["eras"], index=parts["ids"])
    targets = pd.DataFrame(parts["targets"], index=parts["ids"])[::-1]
    with (
        pytest.raises(ValueError, match="targets and eras have different pandas index"),
        writer_to(None) as writer,
    ):
        writer.write(slice(None), parts["X"], eras, targets)


def test_writer_outside_its_with_block(parts):
    writer = writer_to(None)
    with pytest.raises(ValueError, match="inside the with block"):
        writer.write(slice(None), parts["X"], 1)
    with pytest.raises(ValueError, match="no panel until the with block has ended"):
        _ = writer.panel


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"n_rows": 0}, "n_rows must be a positive whole number; got 0"),
        ({"n_rows": True}, "n_rows must be a positive whole number; got True"),
        ({"n_rows": 6.0}, "n_rows must be a positive whole number"),
        ({"feature_names": []}, "feature_names is empty"),
        ({"feature_names": None}, "feature_names must be a list of names"),
        ({"target_names": ["a", "a"]}, "target_names holds 'a' twice"),
        ({"info": {"a": object()}}, "info must hold values that JSON can hold"),
        ({"overwrite": "no"}, "overwrite must be True or False; got 'no'"),
        ({"path": 3}, "path must be a path"),
    ],
)
def test_wrong_writers(change, match):
    with pytest.raises((ValueError, TypeError), match=match):
        writer_to(**{"path": None} | change)


def test_each_row_is_written_once(parts):
    X = parts["X"]
    with writer_to(None) as writer:
        writer.write(slice(0, 30), X[:30], 1)
        with pytest.raises(ValueError, match="must be distinct and not written before"):
            writer.write(slice(29, 59), X[:30], 1)
        with pytest.raises(ValueError, match="must be distinct and not written before"):
            writer.write(np.repeat(np.arange(30, 45), 2), X[:30], 1)
        writer.write(slice(30, 60), X[30:], 1)


def test_what_is_refused_leaves_nothing(parts):
    """A write that failed may be tried again."""
    ids = parts["ids"]
    with writer_to(None) as writer:
        with pytest.raises(ValueError, match=r"eras must be one.*got shape \(2,\)"):
            writer.write(slice(None), parts["X"], [1, 1], ids=ids[::-1])
        writer.write(slice(None), parts["X"], 1, ids=ids)
    assert list(writer.panel.ids) == ids


def test_an_id_twice(parts, tmp_path):
    ids = [*parts["ids"][:59], parts["ids"][7]]
    with pytest.raises(ValueError, match="ids holds 'n007' twice, in rows 7 and 59"):
        write_halves(tmp_path / "p", parts["X"], (1, 2), (ids[:30], ids[30:]))
    assert list(tmp_path.iterdir()) == []


def test_a_writer_writes_once(parts):
    writer = writer_to(None)
    with writer:
        writer.write(slice(None), parts["X"], 1)
    with pytest.raises(ValueError, match="writes once"), writer:
        pass
