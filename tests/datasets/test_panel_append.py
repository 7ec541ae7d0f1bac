"""EraPanel.append: new rows behind those of a panel, against a panel read at once."""

import shutil
import zlib

import numpy as np
import pandas as pd
import pytest
from panel_parts import assert_same

from numerai_features._sealed import read_sealed, write_sealed
from numerai_features._whole import locked
from numerai_features.datasets import (
    EraPanel,
    _panel_append,
    _panel_manifest,
    _panel_sums,
    _panel_update,
    read_numerai,
)

FEATURES = [f"feature_{name}" for name in "abcde"]
TARGETS = ["target_x_20", "target_y_60"]
PLAIN = {"features": FEATURES, "targets": TARGETS, "verbose": False}


def make_frame(eras, rows_per_era=20, seed=0):
    rng = np.random.default_rng(seed)
    n = len(eras) * rows_per_era
    frame = pd.DataFrame({"era": np.repeat([f"{e:04d}" for e in eras], rows_per_era)})
    for name in FEATURES:
        frame[name] = rng.integers(0, 5, n, np.int8)
    for name in TARGETS:
        frame[name] = rng.integers(0, 5, n).astype(np.float32) / 4
    frame.loc[rng.random(n) < 0.1, "target_x_20"] = np.nan
    frame.index = pd.Index([f"n{seed}{i:05d}" for i in range(n)], name="id")
    return frame


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Several batches and several blocks, as full size has them."""
    monkeypatch.setattr(_panel_append, "BATCH_ROWS", 7)
    monkeypatch.setattr(_panel_manifest, "BLOCK_BYTES", 115)
    monkeypatch.setattr("numerai_features.datasets._panel_folder.BLOCK_BYTES", 115)
    monkeypatch.setattr(_panel_sums, "READ_BYTES", 50)


@pytest.fixture
def frame():
    return make_frame([1, 2, 3, 5, 8, 9, 12])


@pytest.fixture
def folder(tmp_path, frame):
    """The whole file, and a panel of its first four eras."""
    frame.to_parquet(tmp_path / "all.parquet", row_group_size=33)
    read_numerai(tmp_path / "all.parquet", tmp_path / "old", eras=[1, 2, 3, 5], **PLAIN)
    read_numerai(tmp_path / "all.parquet", tmp_path / "whole", **PLAIN)
    return tmp_path


def append(folder, file="all.parquet", **options):
    files = [folder / f for f in file] if isinstance(file, list) else folder / file
    return EraPanel.open(folder / "old").append(files, verbose=False, **options)


def assert_equal_rows(a, b):
    a.info.clear()
    b.info.clear()
    assert_same(a, b)


def test_is_the_panel_of_the_whole_file(folder):
    panel = append(folder)
    assert panel.info["changes"] == [
        {"append": ["all.parquet"], "eras": ["0008", "0012"]}
    ]
    panel.verify()
    assert_equal_rows(panel, EraPanel.open(folder / "whole"))
    assert sorted(file.name for file in panel.path.iterdir()) == [
        "eras-2.npy", "features.npy", "ids-2.parquet", "panel.json", "targets-2.npy",
    ]  # fmt: skip
    np.testing.assert_array_equal(np.load(panel.path / "features.npy"), panel.X)


def test_the_old_panel_keeps_its_rows(folder, frame):
    old, part = (EraPanel.open(folder / "old") for _ in range(2))
    part = part.select(first=3)
    append(folder)
    before = frame[frame["era"] <= "0005"]
    np.testing.assert_array_equal(old.X, before[FEATURES])
    np.testing.assert_array_equal(old.targets, before[TARGETS])
    assert list(old.ids) == list(before.index)
    assert list(part.ids) == list(before.index[40:])
    with pytest.raises(ValueError, match=r"was opened: .*rows or targets were added"):
        old.verify()
    with pytest.raises(ValueError, match=r"was opened: .*rows or targets were added"):
        old.append(folder / "all.parquet", verbose=False)


def test_updates_fill_targets_by_id(folder, frame):
    old = append(folder)
    later = frame.sample(frac=1, random_state=0)
    later["target_x_20"] = later["target_x_20"].fillna(0.25)
    later[["era", *TARGETS[::-1]]].to_parquet(folder / "later.parquet")
    n_gaps = int(np.isnan(old.targets).sum())
    panel = old.update(folder / "later.parquet", verbose=False)
    panel.verify()
    filled = frame[TARGETS].fillna(0.25)
    np.testing.assert_array_equal(panel.targets, filled)
    np.testing.assert_array_equal(old.targets, frame[TARGETS])
    np.testing.assert_array_equal(panel.X, frame[FEATURES])
    assert list(panel.ids) == list(frame.index)
    about = {"update": ["later.parquet"], "filled": n_gaps, "restated": 0}
    assert panel.info["changes"][-1] == about
    assert panel.update(folder / "later.parquet", verbose=False) is panel


# What is appended


def test_nothing_later_is_nothing_to_do(folder):
    panel = append(folder)
    assert panel.append(folder / "all.parquet", verbose=False) is panel
    live = make_frame([20], seed=3).assign(era="X")
    live.to_parquet(folder / "live.parquet")
    assert panel.append(folder / "live.parquet", verbose=False) is panel
    assert "-2" in " ".join(file.name for file in panel.path.iterdir())


def test_week_after_week(folder, frame):
    """Each time the file of all eras so far, as Numerai's validation is."""
    for era in ("0008", "0009", "0012"):
        late = frame["target_y_60"].where(frame["era"] < era)
        rows = frame.assign(target_y_60=late)[frame["era"] <= era]
        rows.to_parquet(folder / "validation.parquet")
        panel = append(folder, "validation.parquet")
        panel = panel.update(folder / "validation.parquet", verbose=False)
        panel.verify()
    panel.update(folder / "all.parquet", verbose=False)
    panel = EraPanel.open(panel.path)
    panel.verify()
    assert [next(iter(change)) for change in panel.info["changes"]] == [
        "append", "append", "update", "append", "update", "update",
    ]  # fmt: skip
    assert len(list(panel.path.iterdir())) == 5
    assert_equal_rows(panel, EraPanel.open(folder / "whole"))


def test_columns_are_found_by_name(folder, frame):
    more = frame.assign(feature_z=np.int8(1), target_z=0.5)
    more[more.columns[::-1]].to_parquet(folder / "more.parquet")
    assert_equal_rows(append(folder, "more.parquet"), EraPanel.open(folder / "whole"))


def test_eras_that_do_not_ascend_in_several_files(folder, frame):
    mixed = frame.sample(frac=1, random_state=0)
    mixed[:70].to_parquet(folder / "one.parquet", row_group_size=20)
    mixed[70:].to_parquet(folder / "two.parquet", row_group_size=20)
    files = [folder / "one.parquet", folder / "two.parquet"]
    panel = append(folder, ["one.parquet", "two.parquet"])
    panel.verify()
    read = read_numerai(files, **PLAIN)
    new = slice(panel.select(last=5).n_rows, None)
    np.testing.assert_array_equal(panel.X[new], read.X[new])
    np.testing.assert_array_equal(panel.targets[new], read.targets[new])
    assert list(panel.ids[new]) == list(read.ids[new])


def test_missing_features(folder, frame):
    gaps = frame.assign(feature_c=frame["feature_c"].where(frame["era"] != "0009"))
    gaps.to_parquet(folder / "gaps.parquet")
    with pytest.raises(ValueError, match="lacks feature 'feature_c' in row 100"):
        append(folder, "gaps.parquet", missing="raise")
    panel = append(folder, "gaps.parquet")
    assert panel.info["n_missing"] == 20
    assert (panel.select(9).X[:, 2] == 2).all()


def test_panel_without_ids_and_targets(folder, frame):
    old = EraPanel.open(folder / "old")
    bare = EraPanel(old.X, old.eras, feature_names=FEATURES)
    bare.save(folder / "old", overwrite=True)
    panel = append(folder)
    panel.verify()
    assert panel.ids is None
    np.testing.assert_array_equal(panel.X, frame[FEATURES])
    with pytest.raises(ValueError, match="have no ids, so no target can be matched"):
        panel.update(folder / "all.parquet", verbose=False)


def test_panel_of_the_format_before(folder):
    """It has one checksum for each file."""
    path = folder / "old"
    record, _ = read_sealed(path / "panel.json", kind="panel")
    sums = {
        name: zlib.crc32((path / name).read_bytes()) for name in record["checksums"]
    }
    del record["block_bytes"]
    record |= {"format_version": 2, "checksums": sums}
    write_sealed(path / "panel.json", record, kind="panel")
    EraPanel.open(path).verify()
    shutil.copytree(path, folder / "damaged")
    panel = append(folder).update(folder / "all.parquet", verbose=False)
    panel.verify()
    assert_equal_rows(panel, EraPanel.open(folder / "whole"))
    file = folder / "damaged" / "features.npy"
    file.write_bytes(file.read_bytes()[:-3] + b"\0\1\2")
    damaged = EraPanel.open(folder / "damaged")
    with pytest.raises(ValueError, match=r"features\.npy is damaged: its checksum is"):
        damaged.append(folder / "all.parquet", verbose=False)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda f: f.drop(columns="feature_c"), "'feature_c' is no column of"),
        (lambda f: f.drop(columns="target_y_60"), "'target_y_60' is no column of"),
        (lambda f: f.drop(columns="era"), "has no column 'era'"),
        (lambda f: f.assign(feature_c=np.int8(7)), "holds 7 in row 80 of feature"),
        (lambda f: f.assign(target_y_60=np.inf), "infinity in row 80 of target"),
        (lambda f: f.reset_index(drop=True), "have ids, but a file of .* has none"),
        (lambda f: f.set_index(f.index[::-1]), "of a later era is in the panel a"),
        (
            lambda f: f.set_index(f.index[:120].append(f.index[100:120])),
            "in the files twice",
        ),
    ],
)
def test_wrong_files_change_nothing(folder, frame, change, match):
    before = contents(folder / "old")
    changed = change(frame)
    changed.index.name = "id" if changed.index.dtype == object else None
    changed.to_parquet(folder / "wrong.parquet", row_group_size=40)
    with pytest.raises(ValueError, match=match):
        append(folder, "wrong.parquet")
    assert contents(folder / "old") == before


def contents(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


@pytest.mark.parametrize("change", [EraPanel.append, EraPanel.update])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 0.999])
def test_truncated_file(folder, change, share):
    before = contents(folder / "old")
    content = (folder / "all.parquet").read_bytes()
    (folder / "half.parquet").write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match="not a parquet file, or is truncated or dam"):
        change(EraPanel.open(folder / "old"), folder / "half.parquet", verbose=False)
    assert contents(folder / "old") == before


@pytest.mark.parametrize("change", [EraPanel.append, EraPanel.update])
def test_panels_that_cannot_be_changed(folder, change):
    file = folder / "all.parquet"
    old = EraPanel.open(folder / "old")
    for part in (old.select(every=2), old.select(features=[0])):
        with pytest.raises(ValueError, match=f"{change.__name__} changes .* in memory"):
            change(part, file, verbose=False)
    with pytest.raises(ValueError, match="this one is a selection of its eras"):
        change(old.select(first=2), file, verbose=False)
    with pytest.raises(FileNotFoundError, match="There is no file"):
        change(old, folder / "none.parquet", verbose=False)
    with pytest.raises(TypeError, match="verbose must be True or False"):
        change(old, file, verbose=1)
    with locked(old.path), pytest.raises(BlockingIOError, match="Another process is"):
        change(old, file, verbose=False)
    old.save(folder / "other")
    with (
        locked(old.path),
        pytest.raises(FileExistsError, match="is changing the pan"),
    ):
        EraPanel.open(folder / "other").save(old.path, overwrite=True)


def test_live_rows_come_last(folder, frame):
    frame.iloc[:20].assign(era="X").to_parquet(folder / "live.parquet")
    panel = read_numerai(folder / "live.parquet", folder / "live", **PLAIN)
    with pytest.raises(ValueError, match=r"holds live rows .era 'X'., which come last"):
        panel.append(folder / "all.parquet", verbose=False)
    with pytest.raises(ValueError, match="missing must be 'middle' or 'raise'; got 2"):
        panel.append(folder / "all.parquet", missing=2)


def test_goes_on_where_it_was_stopped(folder, monkeypatch):
    """What is decoded again is less, and the same rows come of it."""
    plain, decoded = _panel_append.Batch.features, []

    def features(self, *args):
        if len(decoded) == 6:
            raise KeyboardInterrupt
        decoded.append(self.start)
        return plain(self, *args)

    monkeypatch.setattr(_panel_append.Batch, "features", features)
    shutil.copytree(folder / "old", folder / "again")
    with pytest.raises(KeyboardInterrupt):
        append(folder)
    EraPanel.open(folder / "old").verify()
    assert (folder / "old" / "append.json").exists()
    shutil.copytree(folder / "old", folder / "flipped")
    decoded[:] = []
    decoded.append(-1)
    panel = append(folder)
    assert min(decoded[1:]) > 99
    assert_equal_rows(panel, EraPanel.open(folder / "whole"))
    # a changed byte of what was left is found, and nothing of it used
    (folder / "old").rename(folder / "first")
    (folder / "flipped").rename(folder / "old")
    with (folder / "old" / "features.npy").open("r+b") as stream:
        stream.seek(128 + 80 * 5 + 3)
        stream.write(b"\x7f")
    monkeypatch.setattr(_panel_append.Batch, "features", plain)
    panel = append(folder)
    panel.verify()
    assert_equal_rows(panel, EraPanel.open(folder / "whole"))


# Targets that were resolved since


def restated(folder, frame):
    other = frame.assign(target_y_60=frame["target_y_60"] + (frame["era"] == "0002"))
    other.to_parquet(folder / "other.parquet")
    return EraPanel.open(folder / "old"), folder / "other.parquet"


def test_restated_targets(folder, frame):
    panel, file = restated(folder, frame)
    before = contents(panel.path)
    match = r"restates targets: 20 of \d+ known ones .*in 'target_y_60'; .*'n000020' is"
    with pytest.raises(ValueError, match=match):
        panel.update(file, verbose=False)
    assert contents(panel.path) == before
    assert panel.update(file, restated="keep", verbose=False) is panel
    changed = panel.update(file, restated="replace", verbose=False)
    assert changed.info["changes"][-1]["restated"] == 20
    expected = pd.read_parquet(file)["target_y_60"][: panel.n_rows]
    np.testing.assert_array_equal(changed.y("target_y_60"), expected.astype("f4"))
    with pytest.raises(ValueError, match="restated must be 'raise', 'keep' or"):
        panel.update(file, restated="no")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda f: f[["era", *FEATURES]], "has none of the panel's targets: 'target_x"),
        (lambda f: f.reset_index(drop=True), "has no ids, so its targets cannot be"),
        (lambda f: f.set_index("z" + f.index), "eras of the panel, such as '0001'"),
        (lambda f: pd.concat([f, f[:1]]), "The id 'n000000' is in .* twice"),
    ],
)
def test_wrong_files_of_targets(folder, frame, change, match):
    changed = change(frame.assign(target_y_60=0.125))
    changed.index.name = "id" if changed.index.dtype == object else None
    changed.to_parquet(folder / "wrong.parquet")
    with pytest.raises(ValueError, match=match):
        EraPanel.open(folder / "old").update(
            folder / "wrong.parquet", restated="replace", verbose=False
        )


# verify


@pytest.mark.parametrize(
    ("role", "place", "told"),
    [
        ("features", -1, "rows 138 to 160 "),
        ("features", 128 + 5 * 23, "rows 23 to 45 "),
        ("features", 5, "of the header|truncated or damaged|holds"),
        ("targets-2", 128 + 8 * 14, "rows 14 to 27 "),
        ("ids-2", 200, "bytes 115 to 229 "),
    ],
)
def test_verify_tells_which_rows_differ(folder, role, place, told):
    path = append(folder).path
    [file] = path.glob(f"{role}.*")
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=f"{role}.*(its checksum of {told}|{told})"):
        EraPanel.open(path).verify()


def test_any_changed_byte_of_the_features_is_found(folder):
    path = append(folder).path
    good = (path / "features.npy").read_bytes()
    for place in range(0, len(good), 17):
        bad = bytearray(good)
        bad[place] ^= 4
        (path / "features.npy").write_bytes(bad)
        with pytest.raises(ValueError, match=r"features\.npy (is|holds)"):
            EraPanel.open(path).verify()


@pytest.mark.parametrize("change", ["append", "update"])
def test_metadata_that_json_cannot_hold_leaves_the_panel(folder, frame, change):
    frame.assign(target_x_20=np.float32(9)).to_parquet(folder / "new.parquet")
    options = {"restated": "replace"} if change == "update" else {}
    panel = EraPanel.open(folder / "old")
    panel.info["score"] = float("nan")
    with pytest.raises(ValueError, match="info must hold values that JSON can hold"):
        getattr(panel, change)(folder / "new.parquet", verbose=False, **options)
    EraPanel.open(folder / "old").verify()
    panel.info["score"] = np.int64(3)
    panel = getattr(panel, change)(folder / "new.parquet", verbose=False, **options)
    assert EraPanel.open(folder / "old").info["score"] == 3


def test_gaps_in_rows_that_are_left_out_are_no_gaps(folder, frame):
    frame["feature_b"] = frame["feature_b"].astype("float32")
    frame.iloc[79, frame.columns.get_loc("feature_b")] = np.nan  # of the last old era
    frame.to_parquet(folder / "gaps.parquet")
    panel = append(folder, "gaps.parquet", missing="raise")
    assert_equal_rows(panel, EraPanel.open(folder / "whole"))


@pytest.mark.parametrize("restated", ["raise", "keep", "replace"])
def test_rows_far_apart_with_the_same_id_are_told(folder, frame, restated, monkeypatch):
    monkeypatch.setattr(_panel_update, "BATCH_ROWS", 7)
    twice = frame.iloc[[3]].assign(target_x_20=np.float32(9))
    pd.concat([frame, twice]).to_parquet(folder / "twice.parquet")
    panel = EraPanel.open(folder / "old")
    with pytest.raises(ValueError, match=r"id 'n000003' is in .* twice"):
        panel.update(folder / "twice.parquet", restated=restated, verbose=False)
    assert np.nanmax(EraPanel.open(folder / "old").y()) <= 1


@pytest.mark.parametrize(
    ("kind", "cell"), [("int8", 9), ("int8", -3), ("float32", 1e9), ("float32", 0.5)]
)
def test_wrong_cells_count_in_new_rows_alone(folder, frame, kind, cell):
    """Whether an old row shares a batch with new ones is chance."""
    bad = frame.astype({"feature_b": kind})
    column, target = (bad.columns.get_loc(n) for n in ("feature_b", "target_x_20"))
    bad.iloc[80, column] = cell  # the first new row
    bad.to_parquet(folder / "bad.parquet")
    with pytest.raises(ValueError, match=r"holds .* in row 80 of feature"):
        append(folder, "bad.parquet")
    bad.iloc[80, column] = frame["feature_b"].iloc[80]
    bad.iloc[79, column] = cell
    bad[TARGETS] = bad[TARGETS].astype(np.float64)
    bad.iloc[[78, 79], target] = np.inf, 1e300
    bad.to_parquet(folder / "bad.parquet")
    assert_equal_rows(append(folder, "bad.parquet"), EraPanel.open(folder / "whole"))


def test_wrong_targets_count_in_rows_of_the_panel_alone(folder, frame):
    panel = EraPanel.open(folder / "old")
    other = frame.iloc[[5]].assign(target_x_20=np.inf).rename(index=lambda _: "another")
    pd.concat([frame, other]).to_parquet(folder / "more.parquet")
    assert panel.update(folder / "more.parquet", verbose=False).n_rows == panel.n_rows
    pd.concat(
        [frame.drop(frame.index[5]), frame.iloc[[5]].assign(target_x_20=np.inf)]
    ).to_parquet(folder / "wrong.parquet")
    with pytest.raises(ValueError, match=r"holds infinity in row 139 of target"):
        panel.update(folder / "wrong.parquet", verbose=False)


def test_files_that_restate_one_another_are_told_as_that(folder, frame):
    panel = EraPanel.open(folder / "old")
    row = int(np.flatnonzero(np.isnan(panel.y()))[0])
    frame = frame[["era", "target_x_20"]]
    for name, value in (("first", 0.25), ("second", 0.75)):
        own = frame.iloc[[row]].assign(target_x_20=np.float32(value))
        own.to_parquet(folder / f"{name}.parquet")
    files = [folder / "first.parquet", folder / "second.parquet"]
    told = r"second\.parquet restates .* is 0\.25 in a file before it and 0\.75 in this"
    with pytest.raises(ValueError, match=told):
        panel.update(files, verbose=False)
    assert np.isnan(EraPanel.open(folder / "old").y()[row])
    assert panel.update(files, restated="keep", verbose=False).y()[row] == 0.25


def test_an_update_without_an_era_of_the_panel_is_told(folder, frame):
    frame.assign(era="0900").to_parquet(folder / "later.parquet")
    panel = EraPanel.open(folder / "old")
    with pytest.raises(ValueError, match=r"No file of .*later.* has an era of the pan"):
        panel.update(folder / "later.parquet", verbose=False)
    files = [folder / "later.parquet", folder / "all.parquet"]
    assert panel.update(files, verbose=False).n_rows == panel.n_rows
