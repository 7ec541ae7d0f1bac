"""Large arrays made of rows in a file are in a file without a name."""

import os
import pickle

import numpy as np
import pandas as pd
import pytest

from numerai_features import _scratch
from numerai_features._scratch import empty_like, folder_of, give_back, take


@pytest.fixture(autouse=True)
def small_counts_as_large(monkeypatch):
    monkeypatch.setattr(_scratch, "LEAST_BYTES", 1000)


@pytest.fixture
def mapped(tmp_path):
    cells = np.random.default_rng(0).integers(0, 5, (300, 20), dtype=np.int8)
    np.save(tmp_path / "X.npy", cells)
    return np.load(tmp_path / "X.npy", mmap_mode="r")


def test_the_folder_is_that_of_the_file_behind_views(mapped, tmp_path):
    assert folder_of(mapped) == tmp_path
    assert folder_of(np.asarray(mapped)[5:90, ::2].T) == tmp_path
    frame = pd.DataFrame(mapped, copy=False)
    assert folder_of(frame.to_numpy()) == tmp_path
    assert folder_of(mapped[[1, 2]]) is None
    assert folder_of(np.zeros((300, 20))) is None
    assert folder_of([[1, 2]]) is None


def test_it_is_in_a_file_that_nobody_sees(mapped, tmp_path):
    made = empty_like(mapped, (300, 25), np.float32)
    assert made.shape == (300, 25)
    assert made.dtype == np.float32
    assert folder_of(made) == tmp_path
    made[:] = 7
    assert (made == 7).all()
    assert os.listdir(tmp_path) == ["X.npy"]
    again = empty_like(made, (300, 25), np.int8)
    assert folder_of(again) == tmp_path
    assert (pickle.loads(pickle.dumps(made)) == 7).all()


def test_it_takes_disk_only_as_long_as_it_lives(mapped, tmp_path):
    def used():
        return sum(
            os.fstat(int(name)).st_blocks * 512
            for name in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{name}")
        )

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no list of open files here")
    before = used()
    made = empty_like(mapped, (1 << 10, 1 << 10), np.int8)
    made[:] = 1
    assert used() >= before + (1 << 20)
    del made
    assert used() == before


def test_small_arrays_and_those_of_memory_are_in_memory(mapped):
    assert folder_of(empty_like(mapped, (9, 9), np.int8)) is None
    assert folder_of(empty_like(np.array(mapped), (300, 20), np.int8)) is None


def test_a_full_or_forbidden_folder_means_memory(mapped, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_scratch, "_reserve", full)
    made = empty_like(mapped, (300, 20), np.int8)
    assert folder_of(made) is None
    assert made.shape == (300, 20)


@pytest.mark.parametrize(
    "rows",
    [
        np.arange(40, 290),
        np.arange(0, 300, 2),
        np.arange(299, -1, -1),
        np.arange(-200, 0),
        np.arange(300) % 3 > 0,
        slice(3, 200),
    ],
    ids=["neighbours", "every second", "backwards", "from the end", "mask", "slice"],
)
@pytest.mark.parametrize("in_file", [True, False])
def test_rows_are_taken_as_numpy_takes_them(mapped, rows, in_file):
    table = mapped if in_file else np.array(mapped)
    taken = take(table, rows)
    np.testing.assert_array_equal(taken, np.array(mapped)[rows])
    assert (folder_of(taken) is not None) == in_file


def test_rows_that_are_not_there_are_an_error(mapped):
    for rows in (np.arange(200, 301), np.arange(-301, -5)):
        with pytest.raises(IndexError, match="out of bounds"):
            take(mapped, rows)


def test_giving_back_needs_no_particular_c_library(monkeypatch):
    give_back()
    monkeypatch.setattr(_scratch, "_trim", lambda: None)
    give_back()
