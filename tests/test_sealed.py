"""Files that are never taken for good when they are not."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numerai_features import _sealed
from numerai_features._sealed import (
    SealError,
    SetAsideWarning,
    read_sealed,
    set_aside,
    write_sealed,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    write_sealed(
        path,
        {"seconds": 1.5},
        kind="fold",
        key="abc",
        write=lambda stream: np.save(stream, np.arange(5)),
    )
    return path


def read(file, **options):
    return read_sealed(
        file, **{"kind": "fold", "key": "abc", "read": np.load, **options}
    )


def test_what_was_written_is_read(file):
    record, numbers = read(file)
    assert record == {"seconds": 1.5}
    np.testing.assert_array_equal(numbers, np.arange(5))
    assert [f.name for f in file.parent.iterdir()] == ["file"]


@given(JSON, st.binary(max_size=99))
def test_any_record_and_payload(tmp_path_factory, record, payload):
    file = tmp_path_factory.mktemp("sealed") / "file"
    write_sealed(file, record, kind="any", write=lambda s: [s.write(payload)] * 2)
    assert read_sealed(file, kind="any", read=lambda s: s.read()) == (record, payload)


def test_without_a_payload_it_is_json(tmp_path):
    write_sealed(tmp_path / "a.json", {"n": 3}, kind="panel")
    assert json.loads((tmp_path / "a.json").read_text())["record"] == {"n": 3}


def test_every_flipped_bit_is_seen(file):
    good = file.read_bytes()
    for place in range(len(good)):
        for bit in (0, 3, 7):
            bad = bytearray(good)
            bad[place] ^= 1 << bit
            file.write_bytes(bad)
            with pytest.raises(SealError):
                read(file)


def test_every_cut_and_addition_is_seen(file):
    good = file.read_bytes()
    for length in range(len(good)):
        file.write_bytes(good[:length])
        with pytest.raises(SealError):
            read(file)
    file.write_bytes(good + b"\0")
    with pytest.raises(SealError, match="too long"):
        read(file)


@pytest.mark.parametrize(("kind", "key"), [("panel", "abc"), ("fold", "xyz")])
def test_another_kind_or_key(file, kind, key):
    with pytest.raises(SealError, match=r"is a 'fold'|belongs to something else"):
        read(file, kind=kind, key=key)
    assert read(file, key=None)[0] == {"seconds": 1.5}


def test_another_version(file, monkeypatch):
    monkeypatch.setattr(_sealed, "__version__", "9.9")
    with pytest.raises(SealError, match=r"written by numerai-features .*this is 9\.9"):
        read(file)
    assert read(file, same_version=False)[0] == {"seconds": 1.5}


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"[" * 99_999, b"null\n", b'{"checksum": "00"}\n', b"\xff\n"],
)
def test_what_was_never_one(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(SealError, match="has no seal"):
        read(tmp_path / "file")


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "file")


def test_a_payload_that_fails_leaves_the_old_file(file):
    before = file.read_bytes()

    def fail(stream):
        stream.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_sealed(file, {}, kind="fold", write=fail)
    assert file.read_bytes() == before
    assert [f.name for f in file.parent.iterdir()] == ["file"]


def test_set_aside(file):
    before = file.read_bytes()
    with pytest.warns(SetAsideWarning, match=r"broken\. It is kept as file\.unusable"):
        set_aside(file, SealError("It is broken."))
    assert not file.exists()
    assert file.with_name("file.unusable").read_bytes() == before
