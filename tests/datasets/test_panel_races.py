"""Panels that several write at once, and writers that are killed, or have no space."""

import json
import os
import subprocess
import sys
import threading
from functools import partial

import numpy as np
import pytest

from numerai_features.datasets import EraPanel, PanelWriter, _panel_files

PARTS = """
import sys
import numpy as np
from pathlib import Path
from numerai_features import _whole
from numerai_features.datasets import EraPanel
def panel_of(number):
    X = np.full((40, 3), number, np.int8)
    ids = [f"n{i}" for i in range(number, number + 40)]
    eras = np.repeat(np.arange(4) + number, 10)
    y = np.full(40, number, np.float32)
    return EraPanel(
        X, eras, y, feature_names=list("abc"), target_names=["t"], ids=ids,
        info={"number": number},
    )
def number_of(panel):
    panel.verify()
    number = panel.info["number"]
    expected = panel_of(number)
    np.testing.assert_array_equal(panel.X, expected.X)
    np.testing.assert_array_equal(panel.eras, expected.eras)
    np.testing.assert_array_equal(panel.y(), expected.y())
    np.testing.assert_array_equal(panel.ids, expected.ids)
    return number
"""
_parts = {}
exec(PARTS, _parts)
panel_of, number_of = _parts["panel_of"], _parts["number_of"]


def in_threads(work, n):
    """Run work(0), ..., work(n - 1) at once; return what each raised."""
    errors = [None] * n

    def note(i):
        try:
            work(i)
        except Exception as error:
            errors[i] = error

    threads = [threading.Thread(target=note, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


class TestThreads:
    def test_the_last_of_those_who_may_replace_is_there(self, tmp_path, exchange):
        panels = [panel_of(number) for number in range(4)]

        def save(i):
            for _ in range(4):
                panels[i].save(tmp_path / "panel", overwrite=True)

        assert in_threads(save, 4) == [None] * 4
        assert number_of(EraPanel.open(tmp_path / "panel")) in range(4)
        assert [file.name for file in tmp_path.iterdir()] == ["panel"]

    def test_the_first_of_those_who_may_not_is_there(self, tmp_path):
        panels = [panel_of(number) for number in range(4)]
        errors = in_threads(lambda i: panels[i].save(tmp_path / "panel"), 4)
        assert errors.count(None) == 1
        assert all(isinstance(e, FileExistsError | None) for e in errors)
        opened = EraPanel.open(tmp_path / "panel")
        assert errors[number_of(opened)] is None
        assert [file.name for file in tmp_path.iterdir()] == ["panel"]

    def test_readers_see_whole_panels(self, tmp_path, exchange):
        """Or are told that theirs was replaced, before its ids were read."""
        path = tmp_path / "panel"
        panels = [panel_of(number) for number in range(3)]
        panels[0].save(path)

        def work(i):
            for j in range(20):
                if i == 0:
                    panels[j % 3].save(path, overwrite=True)
                    continue
                panel = EraPanel.open(path)
                assert (panel.X == panel.info["number"]).all()
                assert (panel.eras[0] == panel.info["number"]).all()
                assert (panel.y() == panel.info["number"]).all()
                try:
                    assert panel.ids[0] == f"n{panel.info['number']}"
                except ValueError as error:
                    assert "holds another panel now than when" in str(error)  # noqa: PT017

        assert in_threads(work, 3) == [None] * 3

    def test_a_panel_that_comes_back_is_not_mixed(
        self, tmp_path, exchange, monkeypatch
    ):
        """While it is opened, another takes its place and then the same one again."""
        path = tmp_path / "panel"
        panel_of(0).save(path)
        map_array, others = _panel_files._map_array, [panel_of(1), panel_of(0)]

        def map_between(*args):
            if others:
                others.pop(0).save(path, overwrite=True)
            return map_array(*args)

        monkeypatch.setattr(_panel_files, "_map_array", map_between)
        assert number_of(EraPanel.open(path)) == 0


def write(writer, meanwhile=lambda: None):
    with writer:
        writer.write(slice(None), np.zeros((1, 1), np.int8), 1)
        meanwhile()


def test_what_appears_while_writing_is_kept(tmp_path):
    path = tmp_path / "panel"
    writer = PanelWriter(
        path, n_rows=1, feature_names=["a"], target_names=[], overwrite=False
    )
    with pytest.raises(FileExistsError, match="has appeared while"):
        write(writer, partial(panel_of(1).save, path))
    assert number_of(EraPanel.open(path)) == 1
    with pytest.raises(ValueError, match="no panel until the with block"):
        _ = writer.panel


def test_a_file_that_appears_in_the_old_panel_is_kept(tmp_path, exchange):
    path = tmp_path / "panel"
    panel_of(1).save(path)
    writer = PanelWriter(
        path, n_rows=1, feature_names=["a"], target_names=[], overwrite=True
    )
    letter = partial((path / "notes.txt").write_text, "dear")
    with pytest.raises(FileExistsError, match=r"not overwritten: 'notes\.txt'"):
        write(writer, letter)
    assert (path / "notes.txt").read_text() == "dear"
    assert number_of(EraPanel.open(path)) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["panel"]


def test_writer_whose_panel_was_replaced_lends_no_other(tmp_path):
    writer = PanelWriter(
        tmp_path / "panel", n_rows=1, feature_names=["a"], target_names=[]
    )
    write(writer)
    panel_of(1).save(tmp_path / "panel", overwrite=True)
    with pytest.raises(ValueError, match="another writer has replaced it"):
        _ = writer.panel


def start(script, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", PARTS + script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
    )


SAVE = """
path, number, overwrite = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "True"
panel = panel_of(number)
done = 0
for i in range(10):
    try:
        panel.save(path if overwrite else path / str(i), overwrite=overwrite)
        done += 1
    except FileExistsError:
        pass
print(done)
"""


@pytest.mark.parametrize("overwrite", [True, False])
def test_two_processes(tmp_path, overwrite):
    path = tmp_path / "panel"
    writers = [start(SAVE, path, number, overwrite) for number in (1, 2)]
    done = [int(writer.communicate()[0]) for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0]
    if overwrite:
        assert done == [10, 10]
        assert number_of(EraPanel.open(path)) in (1, 2)
        assert [file.name for file in tmp_path.iterdir()] == ["panel"]
    else:
        assert sum(done) == 10
        numbers = [number_of(EraPanel.open(path / str(i))) for i in range(10)]
        assert [numbers.count(1), numbers.count(2)] == done
        assert len(list(path.iterdir())) == 10


DIE = """
import json, os
import pandas, pyarrow.parquet  # once, and not in each fork
place = Path(sys.argv[1])
_whole._renameat2 = lambda: None  # the harder way, by two renames
new, old = panel_of(2), panel_of(1)
def save_and_die(at):
    calls = 0
    def counted(name):
        plain = getattr(os, name)
        def call(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == at:
                os._exit(9)  # as kill -9 does
            return plain(*args, **kwargs)
        setattr(os, name, call)
    old.save(place, overwrite=True)
    assert os.listdir(place.parent) == [place.name], os.listdir(place.parent)
    for name in (
        "rename", "replace", "mkdir", "rmdir", "unlink", "fsync", "open",
        "posix_fallocate",
    ):
        if hasattr(os, name):
            counted(name)
    new.save(place, overwrite=True)
    os._exit(0)
def look(at):
    os._exit(10 + number_of(EraPanel.open(place)))
def in_fork(work, at):
    child = os.fork()
    if child == 0:
        try:
            work(at)
        finally:  # after an error that is shown
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
found = []
while not found or found[-1][0] == 9:
    at = len(found) + 1
    found.append([in_fork(save_and_die, at), in_fork(look, at)])
print(json.dumps(found))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_killed_at_any_step_leaves_the_old_panel_or_the_new_one(tmp_path):
    """And nothing beside it after the next one that ends well."""
    killed = start(DIE, tmp_path / "there" / "panel")
    found = json.loads(killed.communicate()[0])
    assert len(found) > 20
    assert found[-1] == [0, 12]
    assert all(f in ([9, 11], [9, 12]) for f in found[:-1])
    assert [9, 11] in found


FULL = """
import resource, signal
place, size = Path(sys.argv[1]), int(sys.argv[2])
panel = panel_of(2)
panel.info["long"] = 1000 * "x"
resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
try:
    panel.save(place, overwrite=True)
except OSError as error:
    print("OSError")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits no size of files")
@pytest.mark.parametrize("size", [0, 260, 300, 700])
def test_no_space_leaves_the_old_panel_alone(tmp_path, size):
    """A limit of the size of files fails where a full disk does.

    The features have 248 bytes, the targets 288, the ids some 600, the manifest 1,400.
    """
    panel_of(1).save(tmp_path / "panel")
    writer = start(FULL, tmp_path / "panel", size)
    assert writer.communicate()[0] == "OSError\n"
    assert writer.returncode == 0
    assert [file.name for file in tmp_path.iterdir()] == ["panel"]
    assert number_of(EraPanel.open(tmp_path / "panel")) == 1
