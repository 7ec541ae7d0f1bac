"""Panels of bytes, and panels of two parts beside the panel of the joined table."""

import pickle
import re

import numpy as np
import pytest
from panel_parts import FEATURES, N_ROWS, assert_same

from numerai_features import _scratch
from numerai_features._scratch import folder_of
from numerai_features.datasets import EraPanel, PanelWriter

NAMES = ["fa0", "fa1", "fa2"]


@pytest.fixture(params=["uint8", "int8"])
def beside(request, parts):
    """Latents of the panel's rows, in memory."""
    most = 256 if request.param == "uint8" else 5
    X = np.random.default_rng(1).integers(0, most, (N_ROWS, 3)).astype(request.param)
    keep = {name: parts[name] for name in ("eras", "ids")}
    return EraPanel(X, feature_names=NAMES, **keep)


@pytest.fixture(params=["on disk", "in memory"])
def both(request, memory, beside, tmp_path, monkeypatch):
    """The panel with latents, and the panel of the joined table."""
    monkeypatch.setattr(_scratch, "LEAST_BYTES", 100)
    table = np.hstack([memory.X.astype(beside.X.dtype), beside.X])
    joined = EraPanel(
        table,
        memory.eras,
        memory.targets,
        feature_names=[*FEATURES, *NAMES],
        target_names=memory.target_names,
        ids=memory.ids,
        info=memory.info,
    )
    if request.param == "in memory":
        return memory.with_latents(beside), joined
    memory.save(tmp_path / "panel")
    beside.save(tmp_path / "latents")
    opened = EraPanel.open(tmp_path / "panel")
    return opened.with_latents(tmp_path / "latents"), joined


PARTS = {
    "all": {},
    "range": {"first": 2, "last": 5},
    "every second": {"every": 2},
    "features of both": {"features": ["fa2", "feature_3", "fa0"]},
    "some of some": {"every": 3, "features": lambda name: name != "fa1"},
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("used", [False, True])
def test_it_is_the_panel_of_the_joined_table(both, part, used, tmp_path):
    panel, joined = both
    if used:
        assert panel.X.shape == joined.X.shape
    expected = joined.select(**PARTS[part])
    found = panel.select(**PARTS[part])
    assert (found.n_rows, found.n_features) == (expected.n_rows, expected.n_features)
    assert found.as_X().dtype == expected.X.dtype == found.X.dtype
    assert_same(found, expected)
    assert found.to_frame().equals(expected.to_frame())
    panel.save(tmp_path / "saved", **PARTS[part])
    saved = EraPanel.open(tmp_path / "saved")
    assert_same(saved, expected)
    assert saved.X.dtype == expected.X.dtype
    saved.verify()


def test_nothing_is_joined_until_it_is_used(both):
    panel, joined = both
    rows = panel.as_X()
    some, few = rows[[3, 1, 2]], panel.select(first=2, last=5)
    assert panel._X.joined is few._X.joined is None
    np.testing.assert_array_equal(np.asarray(some), joined.X[[3, 1, 2]])
    np.testing.assert_array_equal(few.X, joined.select(first=2, last=5).X)
    assert panel._X.joined is None
    assert not panel.X.flags.writeable
    assert np.shares_memory(panel.X, panel.X)
    assert np.shares_memory(panel.select(first=2).X, panel.X)
    assert np.shares_memory(np.asarray(rows[5:40]), panel.X)
    assert (folder_of(panel.X) is None) == (panel.path is None)
    assert folder_of(panel.X) == panel.path


@pytest.mark.parametrize(
    "rows",
    [slice(3, 40), slice(50, 10), np.arange(59, 2, -3), np.arange(7, 31)],
    ids=str,
)
@pytest.mark.parametrize("used", [False, True])
def test_rows_of_as_X(both, rows, used):
    panel, joined = both
    if used:
        panel.X  # noqa: B018
    np.testing.assert_array_equal(np.asarray(panel.as_X()[rows]), joined.X[rows])


def test_a_pickle_has_paths_and_no_cells(both):
    panel, joined = both
    some = panel.select(first=2).as_X()[5:30]
    np.testing.assert_array_equal(np.asarray(some), joined.select(first=2).X[5:30])
    stored = pickle.dumps(some)
    again = pickle.loads(stored)
    np.testing.assert_array_equal(np.asarray(again), np.asarray(some))
    assert_same(again.panel, joined.select(first=2))
    if panel.path is not None:
        assert b"latents" in stored
        assert joined.X[20].tobytes() not in stored


def test_a_third_part(both):
    panel, joined = both
    more = EraPanel(
        np.arange(N_ROWS, dtype=np.uint8)[:, None],
        joined.eras,
        feature_names=["place"],
        ids=joined.ids,
    )
    three = panel.with_latents(more)
    assert three.feature_names == [*joined.feature_names, "place"]
    np.testing.assert_array_equal(three.X, np.hstack([joined.X, more.X]))
    alone = joined.select(features=FEATURES)
    twice = alone.with_latents(more.with_latents(joined.select(features=NAMES)))
    assert twice.feature_names == [*FEATURES, "place", *NAMES]


def test_all_parts_are_verified(memory, beside, tmp_path):
    memory.save(tmp_path / "panel")
    beside.save(tmp_path / "latents")
    panel = EraPanel.open(tmp_path / "panel").with_latents(tmp_path / "latents")
    panel.verify()
    file = tmp_path / "latents" / "features.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"latents.features\.npy is damaged"):
        panel.verify()


def changed(panel, **other):
    kept = {"feature_names": panel.feature_names, "ids": panel.ids, "eras": panel.eras}
    kept |= other
    X = panel.X[: len(kept["eras"])]
    return EraPanel(X, **kept)


def test_other_rows_are_refused_with_the_first_that_differs(memory, beside, tmp_path):
    ids = beside.ids
    ids[[7, 40]] = ids[[40, 7]]
    eras = beside.eras.copy()
    eras[9] = 2
    wrong = {
        "latents has 59 rows, and the panel 60": {"eras": eras[:59], "ids": ids[:59]},
        "row 9 is of era '0002', and of era '0001' in the panel": {"eras": eras},
        "row 7 has the id 'n040', and 'n007' in the panel": {"ids": ids},
        "The rows of latents have no ids": {"ids": None},
        "the panel has, too: 'feature_2'": {"feature_names": ["a", "feature_2", "c"]},
    }
    for message, other in wrong.items():
        with pytest.raises(ValueError, match=re.escape(message)):
            memory.with_latents(changed(beside, **other))
    bare = changed(memory, ids=None)
    with pytest.raises(ValueError, match="The rows of the panel have no ids"):
        bare.with_latents(beside)
    bare.with_latents(changed(beside, ids=None))
    with pytest.raises(FileNotFoundError, match="is not a panel"):
        memory.with_latents(tmp_path / "none")
    with pytest.raises(TypeError, match="latents must be"):
        memory.with_latents(3)


def test_what_changes_a_folder_is_told_to_use_the_panel_alone(both):
    panel, _ = both
    for change in (panel.append, panel.update):
        with pytest.raises(ValueError, match="open the panel without them"):
            change("some.parquet")


def test_a_negative_byte_is_no_large_one(parts, beside, tmp_path):
    """A damaged file may hold it; X would have 254."""
    EraPanel(**parts).save(tmp_path / "panel")
    file = tmp_path / "panel" / "features.npy"
    content = bytearray(file.read_bytes())
    content[-3] = 254
    file.write_bytes(content)
    both = EraPanel.open(tmp_path / "panel").with_latents(beside)
    if beside.X.dtype == np.int8:
        assert both.X[-1].min() == -2
        return
    with pytest.raises(ValueError, match="X of the panel holds -2, which uint8"):
        both.X  # noqa: B018


class TestBytes:
    """A panel of uint8, in memory and on disk."""

    def test_it_is_kept(self, parts, tmp_path):
        X = np.random.default_rng(0).integers(0, 256, parts["X"].shape, np.uint8)
        panel = EraPanel(**parts | {"X": X})
        panel.save(tmp_path / "panel")
        opened = EraPanel.open(tmp_path / "panel")
        assert_same(opened, panel)
        for one in (panel, opened):
            one.verify()
            assert one.X.dtype == one.as_X().dtype == np.uint8
            assert (
                one.select(every=2).X.dtype == one.select(first=2).X.dtype == np.uint8
            )
            np.testing.assert_array_equal(one.X, X)
            again = pickle.loads(pickle.dumps(one))
            assert again.X.dtype == np.uint8

    def test_a_file_of_the_other_type_is_refused(self, parts, tmp_path):
        EraPanel(**parts).save(tmp_path / "panel")
        np.save(tmp_path / "panel" / "features.npy", parts["X"].view(np.uint8))
        with pytest.raises(ValueError, match=r"holds uint8 .* promises int8"):
            EraPanel.open(tmp_path / "panel")

    def test_it_is_appended_to(self, parts, tmp_path):
        """Of a file that has its columns."""
        early = EraPanel(**parts | {"X": parts["X"].view(np.uint8)})
        frame = early.select(last=8).to_frame()
        frame.to_parquet(tmp_path / "all.parquet")
        early.select(last=3).save(tmp_path / "panel")
        panel = EraPanel.open(tmp_path / "panel")
        panel = panel.append(tmp_path / "all.parquet", verbose=False)
        panel.verify()
        assert panel.X.dtype == np.uint8
        np.testing.assert_array_equal(panel.X, early.select(last=8).X)

    def test_the_writer_takes_what_it_was_made_for(self, tmp_path):
        made = {"n_rows": 2, "feature_names": ["a"], "target_names": []}
        with PanelWriter(tmp_path / "panel", **made, dtype="uint8") as writer:
            writer.write(slice(0, 2), np.array([[7], [255]], np.uint8), 1)
        assert writer.panel.X.ravel().tolist() == [7, 255]
        for dtype, other in (("uint8", np.int8), ("int8", np.uint8)):
            with (
                pytest.raises(ValueError, match=f"{dtype} numpy array; got "),
                PanelWriter(None, **made, dtype=dtype) as writer,
            ):
                writer.write(slice(0, 2), np.zeros((2, 1), other), 1)
        with pytest.raises(ValueError, match="dtype must be 'int8' or 'uint8'; got 'f"):
            PanelWriter(None, **made, dtype="float32")
