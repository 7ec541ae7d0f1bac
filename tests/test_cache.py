import errno
import os
import pickle

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from numerai_features import _cache
from numerai_features._cache import Cache, fingerprint, open_cache
from numerai_features._sealed import SetAsideWarning


@pytest.fixture
def table(panel):
    return panel.to_frame().head(300)


def test_equal_contents_have_one_hash(table, tmp_path):
    assert fingerprint(table) == fingerprint(table.copy(deep=True))
    X = np.arange(60, dtype=np.int8).reshape(20, 3)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="c")
    assert fingerprint(X, 1, "a") == fingerprint(mapped, 1, "a")
    assert fingerprint(mapped[5:10]) == fingerprint(X[5:10].copy())


@pytest.mark.parametrize("convert", [pl.from_pandas, pa.Table.from_pandas])
def test_other_frames(table, convert):
    plain = table.reset_index(drop=True)
    other = plain.copy()
    other.iloc[7, 3] += 1
    assert fingerprint(convert(plain)) == fingerprint(convert(plain))
    assert fingerprint(convert(plain)) != fingerprint(convert(other))


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.assign(era=t["era"].replace("0001", "0009")),
        lambda t: t.rename(columns={"feature_0000": "renamed"}),
        lambda t: t.iloc[::-1],
        lambda t: t.iloc[:, ::-1],
        lambda t: t.head(299),
        lambda t: t.assign(feature_0000=t["feature_0000"].astype(float)),
    ],
)
def test_any_change_has_another_hash(table, change):
    assert fingerprint(change(table)) != fingerprint(table)


def test_equal_texts_need_not_be_the_same_objects():
    def words():
        return np.array(["".join(["er", "a"]), "".join(["e", "ra"]), "b"], dtype=object)

    assert fingerprint(words()) == fingerprint(words())
    assert fingerprint(pd.Series(words())) != fingerprint(pd.Series(words()[::-1]))
    same = "era"
    assert fingerprint(np.array([same, same], object)) == fingerprint(
        np.array([same, "".join(["e", "ra"])], object)
    )


def test_the_order_of_values_counts():
    assert fingerprint(1, 2) != fingerprint(2, 1)
    assert fingerprint(None) != fingerprint()


class Vanishing:
    """What is pickled, and cannot be found again afterwards."""


class TestCache:
    @pytest.fixture
    def cache(self, tmp_path):
        return Cache(tmp_path / "cache")

    @pytest.fixture
    def made(self):
        return []

    @pytest.fixture
    def make(self, made):
        def make():
            made.append(1)
            return np.arange(5.0) * 3

        return make

    def test_a_result_is_made_once(self, cache, make, made):
        for _ in range(2):
            got = cache.recall_array("prediction", ("a", 1), make)
            np.testing.assert_array_equal(got, np.arange(5.0) * 3)
        assert len(made) == 1
        cache.recall_array("prediction", ("a", 2), make)
        cache.recall_array("other", ("a", 1), make)
        assert len(made) == 3

    @pytest.mark.parametrize("how", ["array", "object"])
    def test_what_is_damaged_is_made_anew(self, cache, make, made, how):
        recall = getattr(cache, f"recall_{how}")
        recall("kind", ("a",), make)
        [file] = cache.folder.iterdir()
        good = file.read_bytes()
        rng = np.random.default_rng(0)
        for attempt in range(60):
            bad = bytearray(good)
            place = rng.integers(len(bad))
            if attempt % 2:
                bad[place] ^= 1 << rng.integers(8)
            else:
                del bad[place:]
            file.write_bytes(bad)
            with pytest.warns(SetAsideWarning, match="made again"):
                got = recall("kind", ("a",), make)
            np.testing.assert_array_equal(got, np.arange(5.0) * 3)
            assert file.read_bytes() == good
        assert len(made) == 61

    @pytest.mark.parametrize("whose", ["ours", "theirs"])
    def test_another_versions_results_are_left_alone(
        self, cache, make, made, monkeypatch, whose
    ):
        cache.recall_array("kind", ("a",), make)
        [before] = cache.folder.iterdir()
        with monkeypatch.context() as patch:
            if whose == "ours":
                patch.setattr(_cache, "__version__", "9.9")
            else:
                newer = {**_cache.versions(), "numpy": "99.0"}
                patch.setattr(_cache, "versions", lambda: newer)
            cache.recall_array("kind", ("a",), make)
        assert len(made) == 2
        cache.recall_array("kind", ("a",), make)
        assert len(made) == 2
        assert before in cache.folder.iterdir()

    def test_what_cannot_be_written_is_told(self, make, made, tmp_path):
        (tmp_path / "file").touch()
        cache = Cache(tmp_path / "file" / "cache")
        for n in (1, 2):
            with pytest.warns(
                RuntimeWarning, match=r"cannot be stored .*Not a directory"
            ):
                got = cache.recall_array("kind", ("a",), make)
            np.testing.assert_array_equal(got, np.arange(5.0) * 3)
            assert len(made) == n

    @pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.EACCES])
    def test_what_cannot_be_read_for_once_is_left_alone(
        self, cache, make, made, monkeypatch, number
    ):
        cache.recall_array("kind", ("a",), make)

        def fail(*args, **kwargs):
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr(_cache, "read_sealed", fail)
            with pytest.warns(RuntimeWarning, match=r"cannot be read .*left as it is"):
                cache.recall_array("kind", ("a",), make)
        cache.recall_array("kind", ("a",), make)
        assert len(made) == 2
        assert len(list(cache.folder.iterdir())) == 1

    def test_a_full_disk_is_told(self, cache, make):
        def write(stream, result):
            stream.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

        with pytest.warns(RuntimeWarning, match=r"cannot be stored .*No space left"):
            got = cache.recall("kind", ("a",), make, write=write, read=pickle.load)
        np.testing.assert_array_equal(got, np.arange(5.0) * 3)
        assert list(cache.folder.iterdir()) == []

    def test_what_cannot_be_pickled_is_told(self, cache):
        with pytest.warns(RuntimeWarning, match=r"cannot be stored in .*cache \("):
            got = cache.recall_object("kind", ("a",), lambda: lambda: 3)
        assert got() == 3
        assert list(cache.folder.iterdir()) == []

    def test_arrays_are_kept_without_code(self, cache):
        with pytest.warns(RuntimeWarning, match="cannot be stored"):
            cache.recall_array("kind", ("a",), lambda: np.array([{}], dtype=object))
        assert list(cache.folder.iterdir()) == []

    def test_a_pickle_whose_class_is_gone_is_made_anew(self, cache, monkeypatch):
        cache.recall_object("kind", ("a",), Vanishing)
        monkeypatch.delitem(globals(), "Vanishing")
        with pytest.warns(SetAsideWarning, match="cannot be read: AttributeError"):
            assert cache.recall_object("kind", ("a",), lambda: 5) == 5
        assert cache.recall_object("kind", ("a",), lambda: 6) == 5

    @pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError])
    def test_nothing_of_what_was_interrupted_is_kept(self, cache, stop):
        def interrupted():
            raise stop("in a fit")

        with pytest.raises(stop, match="in a fit"):
            cache.recall_array("kind", ("a",), interrupted)
        assert not cache.folder.exists()

    def test_interrupted_while_it_is_written(self, cache, make, made):
        def write(stream, result):
            stream.write(b"half")
            raise KeyboardInterrupt("in a write")

        with pytest.raises(KeyboardInterrupt, match="in a write"):
            cache.recall("kind", ("a",), make, write=write, read=pickle.load)
        assert list(cache.folder.iterdir()) == []

    def test_many_processes_use_one_folder(self, cache):
        jobs = [joblib.delayed(_recall)(cache, n % 3) for n in range(24)]
        results = joblib.Parallel(n_jobs=3)(jobs)
        assert [r.tolist() for r in results] == [[n % 3] * 4 for n in range(24)]
        assert len(list(cache.folder.iterdir())) == 3

    def test_functions_as_scikit_learn_asks_for_them(self, cache, made):
        def add(a, b=2, *, seen=None):
            made.append(1)
            return a + b

        cached = cache.cache(add, ignore=["seen"])
        assert [cached(1), cached(1, seen=5), cached(a=1), cached(1, b=3)] == [
            3, 3, 3, 4,
        ]  # fmt: skip
        assert len(made) == 2


def _recall(cache, n):
    return cache.recall_array("kind", (n,), lambda: np.full(4, n))


class TestOpening:
    def test_what_it_may_be(self, tmp_path):
        expected = Cache(tmp_path)
        assert open_cache(tmp_path) == open_cache(str(tmp_path)) == expected
        assert open_cache(expected) is expected
        inner = Cache(tmp_path / "joblib" / "numerai_features")
        assert open_cache(joblib.Memory(str(tmp_path), verbose=0)) == inner
        assert open_cache(joblib.Memory(None)) is open_cache(None) is None

    def test_clear_of_a_memory_clears_it(self, tmp_path):
        for location in (str(tmp_path / "text"), tmp_path / "path"):
            memory = joblib.Memory(location, verbose=0)
            cache = open_cache(memory)
            cache.recall_object("kind", ("a",), lambda: 1)
            memory.clear(warn=False)
            assert cache.recall_object("kind", ("a",), lambda: 2) == 2

    def test_what_killed_writers_left_is_swept(self, tmp_path):
        (tmp_path / f".key.call.{'0' * 16}.tmp").mkdir()
        (tmp_path / f".key.call.{'0' * 16}.tmp" / "new").write_text("half")
        open_cache(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_a_later_change_of_folder_is_no_other_cache(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        cache = open_cache("mine")
        monkeypatch.chdir("/")
        assert cache.folder == tmp_path / "mine"

    @pytest.mark.parametrize("memory", [3, True, "", b"mine", ["mine"], object()])
    def test_anything_else_is_refused(self, memory):
        with pytest.raises(
            TypeError, match=r"memory must be the path of a folder.*got"
        ):
            open_cache(memory)

    def test_a_file_is_no_folder(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(NotADirectoryError, match=r"memory must be a folder; .*fil"):
            open_cache(tmp_path / "file")
