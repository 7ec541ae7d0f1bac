"""Bars that are never silent."""

import io
import os
import threading
import time

import pytest

from numerai_features import _progress
from numerai_features._progress import progress, stage


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(_progress, "_SECONDS", 0.01)


def clocks():
    """Count the threads that draw; tqdm has one of its own, which stays."""
    return sum(t.name == _progress._THREAD for t in threading.enumerate())


class Screen(io.StringIO):
    """Notes when something was written."""

    def __init__(self):
        super().__init__()
        self.times = []

    def write(self, text):
        self.times.append(time.monotonic())
        return super().write(text)


@pytest.mark.parametrize("total", [None, 3])
def test_it_is_drawn_while_nothing_is_counted(often, total):
    screen = Screen()
    with progress(hidden=False, total=total, desc="waits", file=screen):
        assert clocks() == 1
        drawn = len(screen.times)
        for _ in range(500):
            if len(screen.times) > drawn + 5:
                break
            time.sleep(0.01)
        assert len(screen.times) > drawn + 5
    assert clocks() == 0
    drawn = len(screen.times)
    time.sleep(0.05)
    assert len(screen.times) == drawn


def test_a_stage_tells_its_word_and_the_next_one(capsys):
    with stage("reading", hidden=False) as bar:
        bar.set_description_str("writing")
    assert capsys.readouterr().err.split("\r")[1:] == [
        "reading [00:00]", "writing [00:00]", "writing [00:00]\n"
    ]  # fmt: skip


def test_hidden_it_shows_nothing_and_has_no_thread(often, capsys):
    with stage("reading", hidden=True) as bar:
        bar.set_description_str("writing")
        bar.update()
        assert clocks() == 0
    assert capsys.readouterr().err == ""


def test_where_nobody_reads_any_longer_the_thread_ends(often):
    """Pytest makes an error of one in a thread; the caller's own comes from tqdm."""
    reader, writer = os.pipe()
    screen = os.fdopen(writer, "w")
    with pytest.raises(BrokenPipeError):
        wait_for_nobody(reader, screen)
    with pytest.raises(BrokenPipeError):
        screen.close()


def wait_for_nobody(reader, screen):
    with progress(hidden=False, file=screen):
        os.close(reader)
        for _ in range(500):
            if not clocks():
                break
            time.sleep(0.01)
        assert not clocks()


def test_an_error_ends_the_thread(often):
    with pytest.raises(KeyError, match="wrong"), stage("reading", hidden=False):
        raise KeyError("wrong")
    assert clocks() == 0
