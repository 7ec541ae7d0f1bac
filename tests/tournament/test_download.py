"""Downloads: whole or not at all, resumed, verified, and only what has changed."""

import errno
import hashlib
import os
import shutil
from collections import namedtuple
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from offers import contents, offer, offered
from server import cut, drop, hang, refusal, status

from numerai_features.tournament import ServerError, _fetch, _http, download
from numerai_features.tournament._download import choose_version

ALL = [
    "features.json",
    "train.parquet",
    "validation.parquet",
    "live.parquet",
    "train_benchmark_models.parquet",
    "validation_benchmark_models.parquet",
    "live_benchmark_models.parquet",
    "meta_model.parquet",
]
TRAIN = "GET v5.3/train.parquet"


def get(folder, *files, **options):
    options = {"files": list(files) or None, "verbose": False} | options
    return download(folder, **options)


def test_all_files_come_and_the_second_time_none(server, tmp_path, rows):
    files = get(tmp_path)
    assert [file.path.name for file in files] == ALL
    assert contents(tmp_path / "v5.3") == offered(server)
    assert all(file.is_new for file in files)
    assert all(file.size == file.path.stat().st_size for file in files)
    by_name = {file.name: file.rows for file in files}
    assert by_name["v5.3/train.parquet"] == 30 * 50
    assert by_name["v5.3/features.json"] is None
    server.asked.clear()
    before = {file.path: file.path.stat().st_mtime_ns for file in files}
    assert not any(file.is_new for file in get(tmp_path))
    assert before == {file: file.stat().st_mtime_ns for file in before}
    assert "account" not in server.asked


def test_only_what_has_changed_comes(server, tmp_path, rows):
    get(tmp_path)
    old = server.files["v5.3/live.parquet"].content
    offer(server, rows, live=1)
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    server.files["v5.3/train.parquet"].modified = later  # the same, written again
    new = [file.path.name for file in get(tmp_path) if file.is_new]
    assert new == ["live.parquet", "live_benchmark_models.parquet"]
    assert (tmp_path / "v5.3" / "live.parquet").read_bytes() != old
    assert contents(tmp_path / "v5.3") == offered(server)


def test_another_file_of_the_same_length_and_date_comes(server, tmp_path):
    """The server's tag tells it apart: live files often have one length."""
    name = "v5.3/features.json"
    server.add(name, b'{"a": 1}', modified=datetime(2026, 1, 1, tzinfo=UTC))
    get(tmp_path, "features")
    server.add(name, b'{"a": 2}', modified=datetime(2026, 1, 2, tzinfo=UTC))
    [file] = get(tmp_path, "features")
    assert file.is_new
    assert file.path.read_bytes() == b'{"a": 2}'


def test_force_downloads_again(server, tmp_path):
    get(tmp_path, "live")
    server.asked.clear()
    [file] = get(tmp_path, "live", force=True)
    assert file.is_new
    assert server.count("GET v5.3/live.parquet") == 1


def test_a_file_that_was_damaged_here_comes_again(server, tmp_path):
    [file] = get(tmp_path, "live")
    good = file.path.read_bytes()
    file.path.write_bytes(good[:-8] + b"\0" * 8)
    [file] = get(tmp_path, "live")
    assert file.is_new
    assert file.path.read_bytes() == good


@pytest.mark.parametrize("in_parts", [False, True])
def test_what_another_program_has_downloaded(server, tmp_path, in_parts):
    """It is known by its contents, which the server's tag tells, if one knows how."""
    folder = tmp_path / "v5.3"
    folder.mkdir()
    content = b'"' + b"a" * (11 << 20) + b'"'
    parts = [content[: 8 << 20], content[8 << 20 :]]
    digests = [hashlib.md5(part, usedforsecurity=False).digest() for part in parts]
    digest = hashlib.md5(b"".join(digests), usedforsecurity=False).hexdigest()
    etag = f'"{digest}-2"' if in_parts else None
    server.add("v5.3/features.json", content, etag=etag)
    (folder / "features.json").write_bytes(content)
    assert not get(tmp_path, "features")[0].is_new
    (folder / "downloads.sealed").unlink()
    (folder / "features.json").write_bytes(content.replace(b"a", b"b"))
    assert get(tmp_path, "features")[0].is_new
    assert contents(folder) == {"features.json": content}


def test_a_damaged_record_loses_nothing(server, tmp_path):
    get(tmp_path, "live")
    record = tmp_path / "v5.3" / "downloads.sealed"
    record.write_bytes(record.read_bytes()[:-20])
    with pytest.warns(UserWarning, match="kept as downloads.sealed.unusable"):
        [file] = get(tmp_path, "live")
    assert not file.is_new  # its date is the server's
    assert not get(tmp_path, "live")[0].is_new


class TestVersions:
    def test_the_newest_complete_one_is_the_default(self, server, tmp_path, rows):
        offer(server, rows, version="v5.10")
        server.add("v6.0/features.json", {})
        [file] = get(tmp_path, "features")
        assert file.path == tmp_path / "v5.10" / "features.json"

    def test_another_one_by_name(self, server, tmp_path, rows):
        offer(server, rows, version="v5.0")
        [file] = get(tmp_path, "live", version="v5.0")
        assert file.path == tmp_path / "v5.0" / "live.parquet"

    def test_an_unknown_one_is_told_with_those_that_there_are(self, server, tmp_path):
        with pytest.raises(ValueError, match=r"'v5\.4' is not on .* 'v5\.3'"):
            get(tmp_path, version="v5.4")

    @pytest.mark.parametrize("version", ["5.3", "", "../v5.3", 5.3])
    def test_what_is_none_is_told(self, server, tmp_path, version):
        with pytest.raises(ValueError, match=r"version must be .* such as \"v5\.3\""):
            get(tmp_path, version=version)
        assert server.asked == []

    def test_a_server_without_data_is_told(self):
        with pytest.raises(ServerError, match="lists no version of the data"):
            choose_version(None, ["signals/live.parquet", "v5.3/live.parquet"])


class TestNames:
    def test_what_the_version_lacks_is_left_out_by_default(self, server, tmp_path):
        del server.files["v5.3/meta_model.parquet"]
        assert [file.path.name for file in get(tmp_path)] == ALL[:-1]

    def test_any_file_of_the_server_by_name(self, server, tmp_path):
        server.add("v5.3/live_example_preds.parquet", pd.DataFrame({"prediction": [1]}))
        files = get(tmp_path, "live_example_preds", "features.json", "features")
        names = [file.path.name for file in files]
        assert names == ["live_example_preds.parquet", "features.json"]

    def test_an_unknown_one_is_told(self, server, tmp_path):
        with pytest.raises(ValueError, match=r"no 'trian'. Did you mean 'train'\?"):
            get(tmp_path, "trian")

    @pytest.mark.parametrize(
        ("name", "value", "told"),
        [
            ("folder", 3, "folder must be a path"),
            ("folder", "", "folder must be the name"),
            ("force", "no", "force must be True or False"),
            ("verbose", 1, "verbose must be True or False"),
        ],
    )
    def test_nonsense_is_told(self, server, tmp_path, name, value, told):
        with pytest.raises((TypeError, ValueError), match=told):
            download(**{"folder": tmp_path, name: value})
        assert server.asked == []

    @pytest.mark.parametrize("files", ["live", [3], []])
    def test_files_are_a_list_of_names(self, server, tmp_path, files):
        with pytest.raises(ValueError, match="files"):
            download(tmp_path, files=files)


class TestFaults:
    @pytest.fixture(autouse=True)
    def small_pieces(self, monkeypatch):
        monkeypatch.setattr(_fetch, "_CHUNK", 1000)

    def check(self, server, tmp_path, n_times):
        [file] = get(tmp_path, "train")
        assert (
            contents(tmp_path / "v5.3")["train.parquet"]
            == offered(server)["train.parquet"]
        )
        assert contents(tmp_path / "v5.3").keys() == {"train.parquet"}
        assert server.count(TRAIN) == n_times
        assert file.rows == 1500

    def test_cut_off_it_goes_on(self, server, tmp_path):
        server.fail(TRAIN, cut(4000), drop)
        self.check(server, tmp_path, 4)  # cut, drop, asked again, the rest

    def test_a_resumed_one_asks_for_the_rest_alone(self, server, tmp_path, monkeypatch):
        ranges = []
        send = _fetch.send

        def spy(*args, **options):
            ranges.append(options["headers"].get("Range"))
            return send(*args, **options)

        monkeypatch.setattr(_fetch, "send", spy)
        server.fail(TRAIN, cut(4000))
        self.check(server, tmp_path, 3)
        assert ranges == [None, None, "bytes=4000-"]

    def test_500_and_then_success(self, server, tmp_path):
        server.fail(TRAIN, status(500), status(503))
        server.fail("dataset", status(502))
        self.check(server, tmp_path, 3)

    def test_an_address_that_has_expired_is_asked_for_again(self, server, tmp_path):
        server.fail(TRAIN, status(403, b"Request has expired"))
        self.check(server, tmp_path, 2)
        assert server.count("dataset") == 2

    def test_no_answer_within_the_time(self, server, tmp_path, monkeypatch):
        monkeypatch.setattr(_http, "TIMEOUT", (5.0, 0.3))
        server.fail(TRAIN, hang(1))
        self.check(server, tmp_path, 2)

    def test_never_an_answer(self, server, tmp_path, monkeypatch):
        monkeypatch.setattr(_http, "TIMEOUT", (5.0, 0.2))
        server.fail("listDatasets", *[hang(0.6)] * 4)
        with pytest.raises(ServerError, match=r"no answer within 0\.2 seconds"):
            get(tmp_path)

    def test_shorter_than_promised_time_and_again(self, server, tmp_path):
        """It ends with an error, and the next time goes on from there."""
        server.fail(TRAIN, *[cut(1500)] * 20)
        server.fail(TRAIN, *[cut(0)] * 20)
        with pytest.raises(ServerError, match=r"train\.parquet was cut off .* is kept"):
            get(tmp_path, "train")
        assert not (tmp_path / "v5.3" / "train.parquet").exists()
        server.faults.clear()
        server.asked.clear()
        self.check(server, tmp_path, 2)

    def test_what_has_changed_meanwhile_begins_again(self, server, tmp_path, rows):
        def change(handler):
            handler.server.add("v5.3/train.parquet", rows.iloc[:500])
            return drop(handler)

        server.fail(TRAIN, cut(4000), change)
        [file] = get(tmp_path, "train")
        assert file.rows == 500
        assert contents(tmp_path / "v5.3").keys() == {"train.parquet"}

    def test_of_a_version_that_is_not_told_nothing_is_resumed(self, server, tmp_path):
        server.files["v5.3/train.parquet"].etag = ""
        server.files["v5.3/train.parquet"].modified = None
        server.fail(TRAIN, cut(4000))
        self.check(server, tmp_path, 2)
        assert get(tmp_path, "train")[0].is_new

    def test_a_server_that_cannot_resume(self, server, tmp_path):
        server.fail(TRAIN, cut(4000))
        server.files["v5.3/train.parquet"].etag = 'W/"weak"'
        server.fail(TRAIN, lambda handler: False, lambda handler: whole(handler))

        def whole(handler):
            del handler.headers["Range"]
            return False

        self.check(server, tmp_path, 4)

    @pytest.mark.parametrize("name", ["live.parquet", "features.json"])
    def test_what_is_no_such_file(self, server, tmp_path, name):
        get(tmp_path, name)
        good = contents(tmp_path / "v5.3")
        server.add(f"v5.3/{name}", b"<html>Service unavailable</html>")
        with pytest.raises(ServerError, match=f"{name} has come .* cannot be used"):
            get(tmp_path, name)
        assert contents(tmp_path / "v5.3") == good

    def test_the_disk_is_full_beforehand(self, server, tmp_path, monkeypatch):
        usage = namedtuple("usage", "free")(300_000)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
        server.add("v5.3/features.json", b'"' + b"a" * 400_000 + b'"')
        with pytest.raises(OSError, match="needs 400 kB more, and 300 kB are free"):
            get(tmp_path, "features")
        monkeypatch.undo()

    def test_the_disk_is_full_underway(self, server, tmp_path, monkeypatch):
        class Full:
            def __init__(self, stream):
                self.stream, self.left = stream, 3000

            def write(self, data):
                self.left -= len(data)
                if self.left < 0:
                    raise OSError(errno.ENOSPC, "No space left on device")
                self.stream.write(data)

        copy = _fetch._copy
        monkeypatch.setattr(
            _fetch, "_copy", lambda answer, out, *rest: copy(answer, Full(out), *rest)
        )
        with pytest.raises(OSError, match=r"The disk is full: .* is kept"):
            get(tmp_path, "train")
        monkeypatch.setattr(_fetch, "_copy", copy)
        server.asked.clear()
        self.check(server, tmp_path, 2)  # the rest alone

    def test_another_process_is_at_it(self, server, tmp_path):
        server.fail(TRAIN, *[cut(1500)] * 9)
        server.fail(TRAIN, *[cut(0)] * 9)
        with pytest.raises(ServerError, match="cut off"):
            get(tmp_path, "train")
        [part] = (tmp_path / "v5.3").glob(".train.parquet.*.part")
        server.faults.clear()
        with _fetch.locked(part) as is_ours:
            assert is_ours
            with pytest.raises(BlockingIOError, match="Another process is downloading"):
                get(tmp_path, "train")
        self.check(server, tmp_path, server.count(TRAIN) + 2)

    def test_a_refusal_is_told(self, server, tmp_path):
        server.fail("dataset", refusal("No such dataset"))
        with pytest.raises(ServerError, match="refused 'dataset': No such dataset"):
            get(tmp_path, "train")

    def test_a_server_that_is_not_there(self, server, tmp_path, monkeypatch):
        monkeypatch.setenv("NUMERAI_API_URL", "http://127.0.0.1:1/")
        with pytest.raises(ServerError, match="cannot be reached: Connection refused"):
            get(tmp_path)

    def test_a_link_stays_a_link(self, server, tmp_path):
        (tmp_path / "v5.3").mkdir()
        real = tmp_path / "elsewhere" / "train.parquet"
        real.parent.mkdir()
        os.symlink(real, tmp_path / "v5.3" / "train.parquet")
        [file] = get(tmp_path, "train")
        assert file.path.is_symlink()
        assert real.read_bytes() == offered(server)["train.parquet"]


def test_a_store_that_cannot_resume_and_hangs_up_is_told(server, tmp_path):
    """Each beginning is no progress over the one before."""

    def hang_up(handler):
        del handler.headers["Range"]
        handler.n_sent = 2_000
        return False

    server.fail("GET v5.3/train.parquet", *[hang_up] * 1_000)
    with pytest.raises(ServerError, match=r"train\.parquet"):
        download(tmp_path, files=["train"], verbose=False)
    assert server.count("GET v5.3/train.parquet") < 30
