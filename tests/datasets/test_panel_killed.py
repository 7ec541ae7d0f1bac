"""Changes of a panel that are killed, interrupted, or have no space."""

import json
import os
import subprocess
import sys

import pytest

PARTS = """
import errno, hashlib, json, os, resource, shutil, signal, sys, time
from pathlib import Path
import numpy as np
import pandas, pyarrow.parquet  # once, and not in each fork
from numerai_features.datasets import (
    EraPanel, _panel_append, _panel_folder, _panel_manifest, read_numerai
)
_panel_append.BATCH_ROWS = 7  # several batches and blocks
_panel_manifest.BLOCK_BYTES = _panel_folder.BLOCK_BYTES = 115
FEATURES, TARGETS = list("abcde"), ["t", "u"]
place, kind = Path(sys.argv[1]), sys.argv[2]
folder, file = place / "panel", place / "all.parquet"

def prepare():
    rng = np.random.default_rng(0)
    eras = np.repeat([f"{e:04d}" for e in range(1, 8)], 20)
    frame = pandas.DataFrame({"era": eras})
    for name in FEATURES:
        frame[name] = rng.integers(0, 5, 140, np.int8)
    for name in TARGETS:
        frame[name] = rng.random(140, np.float32)
    frame.index = pandas.Index([f"n{i}" for i in range(140)], name="id")
    frame.to_parquet(file, row_group_size=33)
    late = frame.assign(u=frame["u"].where(frame["era"] < "0003"))
    late.to_parquet(place / "late.parquet")
    if not (place / "first").exists():
        read_numerai(
            place / "late.parquet", place / "first", features=FEATURES,
            targets=TARGETS, eras=range(1, 5), verbose=False,
        )
    return frame

def change(path=None):
    panel = EraPanel.open(path or folder)
    if kind == "append":
        return panel.append(file, verbose=False)
    return panel.update(file, verbose=False)

def start_again():
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(place / "first", folder)

def bytes_of(path):
    return {
        f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in path.iterdir()
    }

def look():
    panel = EraPanel.open(folder)
    panel.verify()
    n = panel.n_rows
    np.testing.assert_array_equal(panel.X, frame[FEATURES][:n])
    assert list(panel.ids) == list(frame.index[:n])
    known = ~np.isnan(panel.targets)
    targets = frame[TARGETS][:n].to_numpy()
    np.testing.assert_array_equal(panel.targets[known], targets[known])
    assert known[:, 0].all()
    if kind == "append":
        assert known[:, 1].sum() == (40 if n == 80 else 100)
        return {80: "before", 140: "after"}[n]
    assert n == 80
    return {40: "before", 80: "after"}[int(known[:, 1].sum())]

frame = prepare()
if not (place / "wanted").exists():
    shutil.copytree(place / "first", place / "wanted")
    change(place / "wanted")
wanted = bytes_of(place / "wanted")

def start(work, *args):
    child = os.fork()
    if child == 0:
        try:
            work(*args)
            os._exit(0)
        finally:  # after an error that is shown
            os._exit(1)
    return child

def in_fork(work, *args, seconds=None):
    child = start(work, *args)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def again():
    change()
    assert look() == "after"
    assert bytes_of(folder) == wanted, (sorted(bytes_of(folder)), sorted(wanted))
"""

DIE = (
    PARTS
    + """
class Counted:
    def __init__(self, at):
        self.at, self.calls = at, 0

    def count(self):
        self.calls += 1
        if self.calls != self.at:
            return
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise KeyboardInterrupt if how == "interrupted" else OSError(errno.ENOSPC, "")

    def wrap(self, owner, name):
        plain = getattr(owner, name)
        def call(*args, **kwargs):
            self.count()  # before it, which is after the call before
            return plain(*args, **kwargs)
        setattr(owner, name, call)

def change_and_die(at):
    steps = Counted(at)
    names = ["mkdir", "fsync", "posix_fallocate"]
    if how != "full":
        names += ["replace", "rename", "rmdir", "unlink", "open", "truncate", "scandir"]
    for name in names:
        if hasattr(os, name):
            steps.wrap(os, name)
    if how != "full":
        steps.wrap(_panel_append, "place_rows")
        def hook(event, args):
            if event == "open" and str(args[0]).startswith(str(folder)):
                steps.count()
        sys.addaudithook(hook)
    try:
        change()
    except (OSError, KeyboardInterrupt) as error:
        os._exit(9 if isinstance(error, KeyboardInterrupt) or error.errno == 28 else 2)

found = []
at, step, how = 1, int(sys.argv[3]), sys.argv[4]
while True:
    start_again()
    code = in_fork(change_and_die, at)
    seen = look()
    same = in_fork(again)
    found.append([code, seen, same])
    if code not in (9, -9):
        break
    at += step
print(json.dumps(found))
"""
)


def run(script, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="cannot fork")


@needs_fork
@pytest.mark.parametrize(
    ("kind", "how", "step"),
    [
        ("append", "killed", 7),
        ("update", "killed", 4),
        ("append", "full", 4),
        *(
            pytest.param(kind, how, 1, marks=pytest.mark.slow)
            for kind in ("append", "update")
            for how in ("killed", "interrupted", "full")
        ),
    ],
)
def test_stopped_at_any_step(tmp_path, kind, how, step):
    """Then the folder is as before or as after, and the next run finishes it."""
    found = run(DIE, tmp_path, kind, step, how)
    assert len(found) > (3 if how == "full" else 60 if step == 1 else 15)
    assert found[-1] == [0, "after", 0]
    states = [state for _, state, _ in found]
    assert states == sorted(states, key=["before", "after"].index)
    assert states.count("before") > len(states) // 3
    code = -9 if how == "killed" else 9
    assert all(c == code and same == 0 for c, _, same in found[:-1])


KILLED = (
    PARTS
    + """
def seconds_of(work):
    start_again()
    begin = time.perf_counter()
    in_fork(work)
    return time.perf_counter() - begin

whole = min(seconds_of(change) for _ in range(3))
rng, found = np.random.default_rng(0), []
while len(found) < 20:
    start_again()
    code = in_fork(change, seconds=whole * rng.random())
    state, same = look(), in_fork(again)
    if code != 0:  # else it was ready already
        found.append([code, state, same])
print(json.dumps(found))
"""
)


@needs_fork
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["append", "update"])
def test_killed_at_twenty_moments(tmp_path, kind):
    found = run(KILLED, tmp_path, kind)
    assert [code for code, _, _ in found] == [-9] * 20
    assert all(state in ("before", "after") and same == 0 for _, state, same in found)


FULL = (
    PARTS
    + """
start_again()
_panel_append.BATCH_ROWS = 50_000
big = pandas.concat([frame] * 100)
big.index = [f"m{i}" for i in range(len(big))]
big["era"] = np.repeat([f"{e:04d}" for e in range(8, 108)], 140)
big.index.name = "id"
file = place / "big.parquet"
big.to_parquet(file)
limit, error = int(sys.argv[3]), None
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
try:
    change()
except OSError as raised:
    error = type(raised).__name__
print(json.dumps([error, look(), sorted(f.name for f in folder.iterdir())]))
"""
)


@pytest.mark.skipif(sys.platform == "win32", reason="limits no size of files")
@pytest.mark.parametrize(
    "limit", [72_000, *(pytest.param(n, marks=pytest.mark.slow) for n in (600, 10_000))]
)
def test_no_space_leaves_the_panel_alone(tmp_path, limit):
    """A limit of the size of files fails where a full disk does.

    The features would have 70,528 bytes, the targets 112,768.
    """
    error, state, files = run(FULL, tmp_path, "append", limit)
    assert (error, state) == ("OSError", "before")
    names = {"eras.npy", "features.npy", "ids.parquet", "panel.json", "targets.npy"}
    assert names <= set(files) <= names | {"append.json"}


@pytest.mark.slow
@pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.geteuid() != 0, reason="mounts a disk"
)
def test_a_full_disk(tmp_path):
    (tmp_path / "disk").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(tmp_path / "disk")]
    if subprocess.run(mount, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        (tmp_path / "disk" / "ballast").write_bytes(bytes(5_000_000))
        error, state, files = run(FULL, tmp_path / "disk", "append", 0)
        assert (error, state, len(files)) == ("OSError", "before", 5)
    finally:
        subprocess.run(["umount", str(tmp_path / "disk")], check=True)
