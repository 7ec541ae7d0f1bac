"""Rows of a file that are asked for before they are used."""

import mmap
import os
import sys

import numpy as np
import pytest
import torch

from numerai_features.nn._ahead import Ahead
from numerai_features.nn._batches import EraBatches, RowBatches, Table

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="asks Linux"
)
PAGE = mmap.PAGESIZE


@pytest.fixture
def mapped(tmp_path):
    X = np.random.default_rng(0).integers(0, 5, (3000, 700), np.int8)
    np.save(tmp_path / "X.npy", X)
    return np.load(tmp_path / "X.npy", mmap_mode="c")


class Told:
    """A mapped file that writes down what it is told."""

    def __init__(self):
        self.said, self.pages = [], []

    def madvise(self, advice, start=None, length=None):
        if advice == mmap.MADV_WILLNEED:
            assert start % PAGE == length % PAGE == 0
            self.pages += range(start // PAGE, (start + length) // PAGE)
        self.said.append(advice)


@pytest.fixture
def told(monkeypatch):
    """What every table's file is told; none of its rows are in memory."""
    found, plain = Told(), Ahead.__init__

    def init(self, X):
        plain(self, X)
        assert self._file is not None
        self._file = found

    monkeypatch.setattr(Ahead, "__init__", init)
    monkeypatch.setattr(Ahead, "is_needed", lambda *_: True)
    return found


def pages_of(X, rows):
    """Return the pages that hold some rows; the header has 128 bytes."""
    found = set()
    for row in rows:
        start = 128 + row * X.shape[1]
        found |= set(range(start // PAGE, (start + X.shape[1] - 1) // PAGE + 1))
    return sorted(found)


ROWS = {
    "apart": [2900, 3, 70, 71, 1500],
    "an era": list(range(100, 400)),
    "all": list(range(3000)),
    "one": [2999],
}


@pytest.mark.parametrize("rows", ROWS)
def test_the_pages_of_the_rows_are_asked_for_once(mapped, told, rows):
    Ahead(mapped).ask_for(np.array(ROWS[rows]))
    assert told.pages == pages_of(mapped, ROWS[rows])
    if rows in ("an era", "all"):
        assert len(told.said) == 1


def test_a_part_of_a_file(mapped, told):
    Ahead(np.asarray(mapped[1000:].data)).ask_for(np.array([0, 7]))
    assert told.pages == pages_of(mapped, [1000, 1007])


def test_what_is_in_memory_needs_nothing(mapped, tmp_path):
    every = np.random.default_rng(0).permutation(3000)
    ahead = Ahead(mapped)
    mapped.sum()
    assert not ahead.is_needed(every)
    handle = os.open(tmp_path / "X.npy", os.O_RDONLY)
    try:
        os.fsync(handle)
        mapped._mmap.madvise(mmap.MADV_DONTNEED)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)
    if not ahead.is_needed(every):
        pytest.skip("the pages of this file system stay in memory")
    ahead.ask_for(every)
    with ahead.in_order(False):
        assert mapped.shape == (3000, 700)
    np.testing.assert_array_equal(mapped, np.load(tmp_path / "X.npy"))
    assert not ahead.is_needed(every)


@pytest.mark.parametrize("kind", ["in memory", "transposed", "empty"])
def test_other_tables_are_left_alone(mapped, kind):
    tables = {"in memory": mapped.copy(), "transposed": mapped.T, "empty": mapped[:0]}
    ahead = Ahead(tables[kind])
    assert ahead._file is None
    assert not ahead.is_needed(np.arange(5))
    ahead.ask_for(np.arange(5))
    with ahead.in_order(False):
        pass


@pytest.mark.parametrize("first", [0, 3])
@pytest.mark.parametrize("by_era", [False, True])
def test_the_next_batch_is_asked_for_before_this_one_is_used(
    mapped, told, by_era, first
):
    columns = np.full(700, 2.0), np.ones(700)
    eras = np.repeat(np.arange(30), 100).astype(np.int32)

    def batches(X):
        table, rows = Table(X, *columns, torch.device("cpu")), np.arange(2000)
        if by_era:
            return EraBatches(table, 0, rows, eras, per_batch=2).epoch(1, first)
        return RowBatches(table, 0, rows, 200).epoch(1, first)

    used = [batch._rows for batch in batches(mapped)]
    assert len(used) == 10 - first
    del told.said[:], told.pages[:]
    n_told = 0
    for step, batch in enumerate(batches(mapped)):
        assert told.said[0] == mmap.MADV_RANDOM
        asked = told.pages[n_told:]
        n_told = len(told.pages)
        expected = [used[0], *used[1:2]] if step == 0 else used[step + 1 : step + 2]
        assert asked == [page for rows in expected for page in pages_of(mapped, rows)]
        np.testing.assert_array_equal(batch.x.numpy(), mapped[used[step]])
        if step == 1:
            n_said = len(told.said)
            batch.squares  # noqa: B018 # a pass over all rows, in order
            normal, random = mmap.MADV_NORMAL, mmap.MADV_RANDOM
            assert told.said[n_said:] == [normal, random]
    assert told.said[-1] == mmap.MADV_NORMAL
