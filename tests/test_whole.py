"""Files and folders that appear whole, or not at all."""

import ctypes
import errno
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from functools import partial
from pathlib import Path

import pytest

from numerai_features import _whole
from numerai_features._whole import sweep, sweep_all, whole_file, whole_folder


def fill(folder, text):
    for name in "ab":
        (folder / name).write_text(text)


def contents(folder):
    return {f.name: f.read_text() for f in folder.iterdir()}


def names(folder):
    return sorted(os.listdir(folder))


def anything(folder):
    """Let any folder be replaced."""


def nothing():
    """Do nothing meanwhile."""


def stop_with(error):
    def stop():
        raise error

    return stop


def write_file(file, text, meanwhile=nothing):
    with whole_file(file) as temporary:
        temporary.write_text(text)
        meanwhile()


def write_folder(path, text, may_replace=anything, meanwhile=nothing):
    with whole_folder(path, may_replace=may_replace) as temporary:
        fill(temporary, text)
        meanwhile()


class TestFile:
    def test_takes_its_place_at_the_end(self, tmp_path):
        file = tmp_path / "file"
        file.write_text("old")
        with whole_file(file) as temporary:
            temporary.write_text("new")
            assert file.read_text() == "old"
        assert file.read_text() == "new"
        assert names(tmp_path) == ["file"]

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
    def test_an_error_leaves_the_old_one(self, tmp_path, error):
        file = tmp_path / "file"
        file.write_text("old")
        with pytest.raises(error):
            write_file(file, "half", stop_with(error))
        assert file.read_text() == "old"
        assert names(tmp_path) == ["file"]

    def test_two_writers_have_two_names(self, tmp_path):
        file = tmp_path / "file"
        with whole_file(file) as one:
            with whole_file(file) as other:
                assert one != other
                one.write_text("one")
                other.write_text("other")
            assert file.read_text() == "other"
        assert file.read_text() == "one"

    def test_a_link_is_followed(self, tmp_path):
        (tmp_path / "far").mkdir()
        link = tmp_path / "file"
        link.symlink_to(tmp_path / "far" / "file")
        with whole_file(link) as temporary:
            temporary.write_text("new")
        assert link.is_symlink()
        assert (tmp_path / "far" / "file").read_text() == "new"


class TestFolder:
    def test_appears_at_the_end(self, tmp_path):
        path = tmp_path / "deep" / "folder"
        with whole_folder(path) as temporary:
            fill(temporary, "new")
            assert not path.exists()
        assert contents(path) == {"a": "new", "b": "new"}
        assert names(path.parent) == ["folder"]

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
    def test_an_error_leaves_nothing(self, tmp_path, error):
        with pytest.raises(error):
            write_folder(tmp_path / "folder", "half", meanwhile=stop_with(error))
        assert names(tmp_path) == []

    def test_replaces_nothing_unasked(self, tmp_path):
        write_folder(tmp_path / "folder", "old")
        with pytest.raises(FileExistsError, match="Pass overwrite=True"):
            write_folder(tmp_path / "folder", "new", None)
        assert contents(tmp_path / "folder") == {"a": "old", "b": "old"}

    def test_does_not_replace_what_appeared_meanwhile(self, tmp_path):
        path = tmp_path / "folder"
        theirs = partial(write_folder, path, "theirs")
        with pytest.raises(FileExistsError, match="has appeared while"):
            write_folder(path, "mine", None, theirs)
        assert contents(path) == {"a": "theirs", "b": "theirs"}
        assert names(tmp_path) == ["folder"]

    def test_replaces_where_asked(self, tmp_path, exchange):
        path = tmp_path / "folder"
        write_folder(path, "old")
        write_folder(path, "new")
        assert contents(path) == {"a": "new", "b": "new"}
        assert names(tmp_path) == ["folder"]

    def test_asks_again_when_its_turn_has_come(self, tmp_path, exchange):
        path = tmp_path / "folder"
        write_folder(path, "old")

        def check(folder):
            if (folder / "letter").exists():
                raise FileExistsError("a letter")

        letter = partial((path / "letter").write_text, "dear")
        with pytest.raises(FileExistsError, match="a letter"):
            write_folder(path, "new", check, letter)
        assert contents(path) == {"a": "old", "b": "old", "letter": "dear"}
        assert names(tmp_path) == ["folder"]

    def test_a_link_stays_one(self, tmp_path, exchange):
        write_folder(tmp_path / "far" / "folder", "old")
        link = tmp_path / "folder"
        link.symlink_to(tmp_path / "far" / "folder")
        write_folder(link, "new")
        assert link.is_symlink()
        assert contents(tmp_path / "far" / "folder") == {"a": "new", "b": "new"}
        assert names(tmp_path / "far") == ["folder"]

    def test_an_old_one_is_not_swept_before_it_was_looked_at(self, tmp_path, exchange):
        path = tmp_path / "folder"
        write_folder(path, "old")
        looks = []

        def check(folder):
            looks.append(folder)
            sweep(path)  # as another writer does at any time
            assert (folder / "a").exists()
            if len(looks) == 3:
                raise FileExistsError("mine")

        with pytest.raises(FileExistsError, match="mine"):
            write_folder(path, "new", check)
        assert contents(path) == {"a": "old", "b": "old"}
        assert names(tmp_path) == ["folder"]

    def test_one_that_is_swept_while_it_is_made_is_made_again(
        self, tmp_path, monkeypatch
    ):
        path = tmp_path / "folder"
        lock, swept = _whole._lock, []

        def lock_late(room):
            if not swept:
                swept.append(room)
                sweep(path)
            return lock(room)

        monkeypatch.setattr(_whole, "_lock", lock_late)
        write_folder(path, "new")
        assert len(swept) == 1
        assert contents(path) == {"a": "new", "b": "new"}

    def test_what_cannot_go_back_is_kept(self, tmp_path, exchange):
        """It got a letter, and a second writer was faster than the first noticed."""
        path = tmp_path / "folder"
        write_folder(path, "old")
        looks = []

        def check(folder):
            looks.append(folder)
            if len(looks) == 3:
                write_folder(path, "theirs")
                raise FileExistsError("a letter")

        with pytest.raises(FileExistsError, match=r"and is kept as .*\.old") as caught:
            write_folder(path, "new", check)
        assert contents(path) == {"a": "theirs", "b": "theirs"}
        write_folder(path, "last")
        kept, _ = names(tmp_path)
        assert kept in str(caught.value)
        assert contents(tmp_path / kept) == {"a": "old", "b": "old"}

    def test_goes_on_when_the_old_one_was_put_back(self, tmp_path, monkeypatch):
        """As a reader does where nothing can be locked, and it finds a gap."""
        path = tmp_path / "folder"
        write_folder(path, "old")
        monkeypatch.setattr(_whole, "_renameat2", lambda: None)
        monkeypatch.setattr(_whole, "fcntl", None)
        put_back = []

        def check(folder):
            if not path.exists() and not put_back:
                with pytest.warns(UserWarning, match="folder was being replaced"):
                    sweep(path)
                put_back.append(contents(path))

        write_folder(path, "new", check)
        assert put_back == [{"a": "old", "b": "old"}]
        assert contents(path) == {"a": "new", "b": "new"}
        assert names(tmp_path) == ["folder"]

    @pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS, errno.EINVAL])
    def test_a_system_that_does_not_let_us_exchange(
        self, tmp_path, monkeypatch, number
    ):
        def refuse(*arguments):
            ctypes.set_errno(number)
            return -1

        monkeypatch.setattr(_whole, "_renameat2", lambda: refuse)
        for text in ("old", "new"):
            write_folder(tmp_path / "folder", text)
            assert contents(tmp_path / "folder") == {"a": text, "b": text}
        assert names(tmp_path) == ["folder"]

    def test_threads_write_one_after_the_other(self, tmp_path, exchange):
        path = tmp_path / "folder"
        threads = [
            threading.Thread(target=write_folder, args=(path, str(i))) for i in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(contents(path).values())) == 1
        assert names(tmp_path) == ["folder"]


@pytest.mark.skipif(_whole.fcntl is None, reason="this system has no such locks")
class TestLocks:
    def test_nobody_waits_for_locks_of_others(self, tmp_path, exchange):
        """`flock folder command` locks what the command itself works in."""
        write_folder(tmp_path / "folder", "old")
        handles = [os.open(p, os.O_RDONLY) for p in (tmp_path, tmp_path / "folder")]
        try:
            for handle in handles:
                _whole.fcntl.flock(handle, _whole.fcntl.LOCK_EX)
            write_folder(tmp_path / "folder", "new")
            write_file(tmp_path / "file", "new")
            sweep(tmp_path / "missing")
        finally:
            for handle in handles:
                os.close(handle)
        assert contents(tmp_path / "folder") == {"a": "new", "b": "new"}

    def test_a_forked_process_keeps_no_lock(self, tmp_path):
        """It shares the handle until it ends."""
        room, owner = _whole._create(tmp_path / "folder")
        child = os.dup(owner)  # as a fork does
        try:
            _whole._let_go(owner)
            sweep(tmp_path / "folder")
            assert not room.exists()
        finally:
            os.close(child)

    def test_an_interrupt_while_it_cleans_up_keeps_no_lock(self, tmp_path, monkeypatch):
        def interrupted(*args, **kwargs):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(_whole.shutil, "rmtree", interrupted)
            with pytest.raises(KeyboardInterrupt):
                write_folder(tmp_path / "folder", "new")
        assert len(names(tmp_path)) == 2
        sweep(tmp_path / "folder")
        assert names(tmp_path) == ["folder"]

    def test_an_interrupt_while_a_folder_is_closed_comes_out(
        self, tmp_path, monkeypatch
    ):
        """rmtree of Python 3.11 closes the folder again, and that error came out."""

        def closed_twice(*args, **kwargs):
            try:
                raise KeyboardInterrupt
            finally:
                os.close(-1)

        with monkeypatch.context() as patch:
            patch.setattr(_whole.shutil, "rmtree", closed_twice)
            with pytest.raises(KeyboardInterrupt):
                write_folder(tmp_path / "folder", "new")
        sweep(tmp_path / "folder")
        assert names(tmp_path) == ["folder"]

    def test_what_a_handler_of_signals_raises_comes_out(self, tmp_path, monkeypatch):
        (tmp_path / f".folder.{'0' * 16}.tmp").mkdir()

        def interrupted(handle, operation):
            raise TimeoutError("of an alarm")

        monkeypatch.setattr(_whole.fcntl, "flock", interrupted)
        with pytest.raises(TimeoutError, match="of an alarm"):
            sweep(tmp_path / "folder")
        with pytest.raises(TimeoutError, match="of an alarm"):
            write_file(tmp_path / "file", "new")
        assert names(tmp_path) == [f".folder.{'0' * 16}.tmp"]

    def test_without_locks_only_what_is_old_is_swept(self, tmp_path, monkeypatch):
        monkeypatch.setattr(_whole, "fcntl", None)
        room = tmp_path / f".folder.{'0' * 16}.tmp"
        fill_room = room / "new"
        fill_room.mkdir(parents=True)
        fill(fill_room, "half")
        for path in (room, fill_room, fill_room / "a"):
            os.utime(path, (0, 0))
        sweep(tmp_path / "folder")
        assert room.exists()  # somebody has written to b just now
        os.utime(fill_room / "b", (0, 0))
        sweep(tmp_path / "folder")
        assert not room.exists()


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="has no such rights")
class TestRights:
    @pytest.fixture
    def shared(self):
        """A folder that everybody may reach, unlike pytest's."""
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder).resolve()

    def test_leftovers_of_others_do_not_block(self, shared):
        """In a folder like /tmp, where each may remove only what is his."""
        room = shared / f".file.{'0' * 16}.tmp"
        (room / "new").mkdir(parents=True)
        room.chmod(0o755)
        shared.chmod(0o1777)
        as_nobody(shared, "write_file(path / 'file', 'new')")
        assert (shared / "file").read_text() == "new"
        assert room.exists()

    def test_a_folder_that_may_be_written_but_not_read(self, shared):
        shared.chmod(0o733)
        as_nobody(shared, "write_file(path / 'file', 'new')")
        as_nobody(shared, "write_folder(path / 'folder', 'new')")
        assert (shared / "file").read_text() == "new"
        assert names(shared) == ["file", "folder"]

    def test_an_old_one_that_cannot_go_back_is_not_removed(self, shared):
        room = shared / f".folder.{'0' * 16}.tmp"
        for name in ("new", "old"):
            (room / name).mkdir(parents=True)
            fill(room / name, name)
        shared.chmod(0o755)
        as_nobody(shared, "sweep(path / 'folder')")
        assert contents(room / "old") == {"a": "old", "b": "old"}


def as_nobody(path, script):
    """Run a line as somebody who may do less."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    child = os.fork()
    if child == 0:
        try:
            os.setuid(65534)
            os.chdir("/")
            exec(script, globals() | {"path": path})
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


DIE = """
import os, sys
from pathlib import Path
from numerai_features import _whole
place, at, exchanging = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "1"
if not exchanging:
    _whole._renameat2 = lambda: None
calls = 0
def counted(name):
    plain = getattr(os, name)
    def call(*args, **kwargs):
        global calls
        calls += 1
        if calls == at:
            os._exit(9)  # as kill -9 does
        result = plain(*args, **kwargs)
        calls += 1
        if calls == at:
            os._exit(9)
        return result
    setattr(os, name, call)
for name in ("rename", "replace", "mkdir", "rmdir", "unlink", "fsync", "open"):
    counted(name)
with _whole.whole_folder(place, may_replace=lambda folder: None) as temporary:
    for name in "ab":
        (temporary / name).write_text("new")
"""


class TestCrash:
    @pytest.mark.parametrize("exchanging", [True, False])
    def test_at_every_step_there_is_one_whole_folder(self, tmp_path, exchanging):
        """And nothing is left over after the next one that ends well."""
        path = tmp_path / "folder"
        ended = at = 0
        while not ended:
            at += 1
            write_folder(path, "old")
            arguments = [str(path), str(at), str(int(exchanging))]
            died = subprocess.run([sys.executable, "-c", DIE, *arguments])
            ended = died.returncode == 0
            assert died.returncode in (0, 9)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".*being replaced when its writer")
                sweep(path)
            assert names(tmp_path) == ["folder"]
            found = contents(path)
            assert found in ({"a": t, "b": t} for t in ("old", "new"))
        assert at > 10
        write_folder(path, "next")
        assert names(tmp_path) == ["folder"]

    def test_what_a_killed_writer_left_is_swept(self, tmp_path):
        def hang(path, ready):
            with whole_folder(path) as temporary:
                fill(temporary, "half")
                ready.set()
                threading.Event().wait()

        context = multiprocessing.get_context("fork")
        ready = context.Event()
        process = context.Process(target=hang, args=(tmp_path / "folder", ready))
        process.start()
        ready.wait()
        sweep(tmp_path / "folder")
        assert len(names(tmp_path)) == 1  # its owner lives
        process.kill()
        process.join()
        write_folder(tmp_path / "folder", "new")
        assert names(tmp_path) == ["folder"]

    def test_what_was_replaced_does_not_come_back(self, tmp_path):
        """Its writer was killed with the new one there; then that was deleted."""
        fill_old = tmp_path / f".folder.{'0' * 16}.tmp" / "old"
        fill_old.mkdir(parents=True)
        sweep(tmp_path / "folder")
        assert names(tmp_path) == []

    def test_a_folder_of_ours_is_swept_of_all_names(self, tmp_path):
        for name in ("one", "other.call"):
            (tmp_path / f".{name}.{'0' * 16}.tmp").mkdir()
        waiting = tmp_path / f".panel.{'0' * 16}.tmp"
        (waiting / "old").mkdir(parents=True)
        (tmp_path / "file.tmp").touch()
        with whole_file(tmp_path / "file") as living:
            sweep_all(tmp_path)
            assert living.exists()
        assert names(tmp_path) == [waiting.name, "file", "file.tmp"]
        sweep_all(tmp_path / "missing")

    def test_other_names_are_left_alone(self, tmp_path):
        others = [".folder.tmp", ".folder.123.tmp", "folder.0123456789abcdef.tmp"]
        others.append(".other.0123456789abcdef.tmp")
        for name in others:
            (tmp_path / name).write_text("mine")
        write_folder(tmp_path / "folder", "new")
        assert names(tmp_path) == sorted([*others, "folder"])


class TestLocked:
    def test_one_has_it_and_no_other(self, tmp_path):
        file = tmp_path / "a"
        file.touch()
        with _whole.locked(file) as first, _whole.locked(file) as second:
            assert first
            assert not second
        with _whole.locked(file) as again:
            assert again

    def test_what_is_gone_is_nobodys(self, tmp_path):
        with _whole.locked(tmp_path / "a") as is_ours:
            assert not is_ours

    def test_what_is_replaced_at_that_moment_is_not_ours(self, tmp_path, monkeypatch):
        file, other = tmp_path / "a", tmp_path / "b"
        file.touch()
        other.touch()
        lock = _whole._lock

        def late(path):
            owner = lock(path)
            other.replace(file)
            return owner

        monkeypatch.setattr(_whole, "_lock", late)
        with _whole.locked(file) as is_ours:
            assert not is_ours
