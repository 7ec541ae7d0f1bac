"""read_numerai against pandas.read_parquet, and files that are not as expected."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from numerai_features._eras import LIVE
from numerai_features.datasets import EraPanel, NumeraiMetadata, read_numerai

DATA = Path(__file__).parents[3] / "shared" / "data"
FEATURES = [f"feature_{name}" for name in ("ab", "cd", "ef", "gh", "ij")]
TARGETS = ["target", "target_x_20", "target_y_60"]
needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason="no real rows beside the repository"
)


def make_frame(eras, rows_per_era=20, seed=0, prefix="n"):
    rng = np.random.default_rng(seed)
    n = len(eras) * rows_per_era
    frame = pd.DataFrame({"era": np.repeat(eras, rows_per_era), "data_type": "train"})
    for name in FEATURES:
        frame[name] = rng.integers(0, 5, n, np.int8)
    for name in TARGETS:
        frame[name] = rng.integers(0, 5, n).astype(np.float32) / 4
    frame.loc[rng.random(n) < 0.1, "target_x_20"] = np.nan
    frame.index = pd.Index([f"{prefix}{i:05d}" for i in range(n)], name="id")
    return frame


@pytest.fixture
def frame():
    return make_frame([f"{n:04d}" for n in (1, 2, 3, 5, 8, 9, 10)])


@pytest.fixture
def folder(tmp_path, frame):
    sets = {"small": FEATURES[2:0:-1], "all": FEATURES}
    content = {"feature_sets": sets, "targets": TARGETS}
    (tmp_path / "features.json").write_text(json.dumps(content))
    frame.to_parquet(tmp_path / "train.parquet", row_group_size=33)
    return tmp_path


def read(files, path=None, **options):
    return read_numerai(files, path, **{"verbose": False, "batch_rows": 7} | options)


def expected(frames, features=FEATURES, targets=TARGETS):
    """Return what pandas makes of the files: concatenated, sorted by era."""
    frame = pd.concat(frames if isinstance(frames, list) else [frames])
    order = np.argsort(frame["era"].to_numpy(object), kind="stable")
    return frame.iloc[order].reindex(columns=["era", *features, *targets])


def assert_reads(panel, frame):
    pd.testing.assert_frame_equal(panel.to_frame(), frame, check_dtype=True)


# Against pandas


@pytest.mark.parametrize("batch_rows", [1, 7, 1000])
@pytest.mark.parametrize("on_disk", [False, True])
def test_reads_what_pandas_reads(folder, on_disk, batch_rows):
    path = folder / "panel" if on_disk else None
    panel = read(folder / "train.parquet", path, batch_rows=batch_rows)
    assert_reads(panel, expected(pd.read_parquet(folder / "train.parquet")))
    assert panel.info == {
        "files": ["train.parquet"],
        "n_missing": 0,
        "feature_set": "all",
    }
    assert panel.path == path
    if on_disk:
        assert_reads(EraPanel.open(path), panel.to_frame())


@pytest.mark.parametrize("batch_rows", [7, 60])  # few and many runs in a batch
def test_unsorted_rows_are_sorted_by_era_and_keep_their_order(
    folder, frame, batch_rows
):
    mixed = frame.sample(frac=1, random_state=0)
    mixed.to_parquet(folder / "mixed.parquet")
    panel = read(folder / "mixed.parquet", batch_rows=batch_rows)
    assert_reads(panel, expected(mixed))


def test_several_files(folder, frame):
    more = make_frame(["0004", "0009", "0011"], prefix="v", seed=1)
    live = make_frame(["X"], prefix="x", seed=2).drop(columns=TARGETS[1:])
    live["target"] = np.float32(np.nan)
    more.to_parquet(folder / "validation.parquet")
    live.to_parquet(folder / "live.parquet")
    files = [folder / f"{name}.parquet" for name in ("live", "validation", "train")]
    panel = read(files, batch_rows=50)
    assert_reads(panel, expected([live, more, frame]))
    assert panel.era_numbers[-1] == LIVE
    assert panel.info["files"] == [
        "live.parquet",
        "validation.parquet",
        "train.parquet",
    ]
    assert np.isnan(panel.select("X").targets).all()


def test_files_may_differ_in_the_order_of_columns(folder, frame):
    more = make_frame(["0020"], prefix="v")[["era", *TARGETS[::-1], *FEATURES[::-1]]]
    more.to_parquet(folder / "validation.parquet")
    panel = read([folder / "train.parquet", folder / "validation.parquet"])
    assert_reads(panel, expected([frame, more]))


def test_every_fourth_era_counts_positions(folder, frame):
    panel = read(folder / "train.parquet", every=4)
    kept = sorted(frame["era"].unique())[::4]
    assert_reads(panel, expected(frame[frame["era"].isin(kept)]))
    assert list(panel.era_numbers) == [1, 8]


@pytest.mark.parametrize("eras", [["0002", "0009"], [2, 9], (n for n in (9, 2))])
def test_some_eras(folder, frame, eras):
    panel = read(folder / "train.parquet", eras=eras)
    assert_reads(panel, expected(frame[frame["era"].isin(["0002", "0009"])]))


def test_every_counts_among_the_eras_asked_for(folder):
    panel = read(folder / "train.parquet", eras=[2, 3, 5, 8], every=2)
    assert list(panel.era_numbers) == [2, 5]


@pytest.mark.parametrize(
    ("features", "names"),
    [("small", FEATURES[2:0:-1]), (["feature_ij", "feature_ab"], None)],
)
def test_features(folder, frame, features, names):
    names = names or features
    panel = read(folder / "train.parquet", features=features)
    assert_reads(panel, expected(frame, features=names))
    assert ("feature_set" in panel.info) is isinstance(features, str)


@pytest.mark.parametrize("targets", [["target_y_60", "target"], []])
def test_targets(folder, frame, targets):
    panel = read(folder / "train.parquet", targets=targets)
    assert_reads(panel, expected(frame, targets=targets))


def test_targets_of_the_metadata_that_no_file_has_are_left_out(folder, frame):
    part = frame.drop(columns="target_x_20")
    part.to_parquet(folder / "train.parquet")
    panel = read(folder / "train.parquet")
    assert_reads(panel, expected(part, targets=["target", "target_y_60"]))


def test_metadata_is_not_needed_for_features_by_name(folder, frame):
    (folder / "features.json").unlink()
    panel = read(folder / "train.parquet", features=FEATURES)
    assert panel.target_names == TARGETS


@pytest.mark.parametrize("parsed", [False, True])
def test_metadata_elsewhere(folder, frame, parsed):
    elsewhere = folder / "v5.json"
    (folder / "features.json").rename(elsewhere)
    metadata = NumeraiMetadata.read(elsewhere) if parsed else elsewhere
    panel = read(folder / "train.parquet", metadata=metadata)
    assert_reads(panel, expected(frame))


def test_index_without_a_name(folder, frame):
    frame.rename_axis(None).to_parquet(folder / "train.parquet")
    assert "__index_level_0__" in pq.read_schema(folder / "train.parquet").names
    assert_reads(read(folder / "train.parquet"), expected(frame))


@pytest.mark.parametrize("name", ["stock", "ID", None])
@pytest.mark.parametrize("numbers", [False, True])
def test_ids_of_an_index_of_any_name_are_kept(folder, frame, name, numbers):
    if numbers:
        frame.index = 10 + 3 * np.random.default_rng(0).permutation(len(frame))
    frame.rename_axis(name).to_parquet(folder / "train.parquet")
    ids = read(folder / "train.parquet").ids
    if numbers and name != "ID":  # rows of some table, counted
        assert ids is None
    else:
        assert list(ids) == list(frame.index.astype(str))


@pytest.mark.parametrize("name", ["row", None])
def test_rows_chosen_from_two_tables_are_counted_alike(folder, frame, name):
    paths = [folder / "train.parquet", folder / "validation.parquet"]
    counted = frame.rename_axis("id").reset_index(drop=True)
    eras = counted["era"].unique()
    for path, some in zip(paths, (eras[::2], eras[1::2]), strict=True):
        half = counted[counted["era"].isin(some)]
        half.reset_index(drop=True)[1:].rename_axis(name).to_parquet(path)
    panel = read(paths)
    assert panel.ids is None
    assert panel.n_rows == len(frame) - 2


def test_an_index_of_era_and_another_column(folder, frame):
    indexed = frame.rename_axis("stock").set_index("era", append=True)
    indexed.to_parquet(folder / "train.parquet")
    assert list(read(folder / "train.parquet").ids) == list(frame.index)


def test_dates_as_an_index_are_no_ids(folder, frame):
    dates = pd.date_range("2020-01-03", periods=len(frame) // 20, freq="W")
    indexed = frame.set_index(pd.DatetimeIndex(np.repeat(dates, 20), name="date"))
    indexed.to_parquet(folder / "train.parquet")
    assert read(folder / "train.parquet").ids is None


def test_an_index_of_which_nobody_knows_the_ids(folder, frame):
    indexed = frame.rename_axis("stock").set_index("data_type", append=True)
    indexed.to_parquet(folder / "train.parquet")
    message = "index of 2 columns, 'stock', 'data_type', and it is not clear which"
    with pytest.raises(ValueError, match=message):
        read(folder / "train.parquet")


def test_an_index_that_repeats_itself_names_it(folder, frame):
    frame.index = pd.Index([f"n{i // 2}" for i in range(len(frame))], name="stock")
    frame.to_parquet(folder / "train.parquet")
    with pytest.raises(
        ValueError, match=r"twice.*Ids are read from the column 'stock'"
    ):
        read(folder / "train.parquet")


def test_file_without_ids(folder, frame):
    frame.reset_index(drop=True).to_parquet(folder / "train.parquet", index=False)
    panel = read(folder / "train.parquet")
    assert panel.ids is None
    np.testing.assert_array_equal(panel.X, frame[FEATURES])


@pytest.mark.parametrize("name", ["ID", "Id"])
def test_ids_of_a_column_in_other_letters(folder, frame, name):
    """polars writes no index."""
    rows = pl.from_pandas(frame.reset_index(names=name))
    rows.write_parquet(folder / "train.parquet")
    assert list(read(folder / "train.parquet").ids) == list(frame.index)
    assert_reads(read(folder / "train.parquet"), expected(frame))
    both = rows.with_columns(iD=pl.col(name))
    both.write_parquet(folder / "train.parquet")
    with pytest.raises(ValueError, match=f"has 2 columns, '{name}', 'iD', and it is"):
        read(folder / "train.parquet")


def test_a_column_that_may_be_ids_is_not_lost_without_a_word(folder, frame):
    """By another name it is not taken for ids, for it may be anything."""
    file = folder / "train.parquet"
    frame = frame.assign(source="mine")
    pl.from_pandas(frame.reset_index(names="row_id")).write_parquet(file)
    with pytest.warns(UserWarning, match=r"has no ids: its column 'row_id', .*'id' if"):
        panel = read(file)
    assert panel.ids is None
    np.testing.assert_array_equal(panel.X, frame[FEATURES])


@pytest.mark.parametrize("name", ["target_mine_20", "mine"])
def test_a_target_that_the_user_has_added(folder, frame, name):
    """features.json lists what Numerai has made."""
    frame[name] = np.linspace(0, 1, len(frame), dtype=np.float32)
    frame.to_parquet(folder / "train.parquet")
    panel = read(folder / "train.parquet", targets=[name, "target"])
    np.testing.assert_array_equal(panel.y(name), frame[name])
    assert read(folder / "train.parquet").target_names == TARGETS
    for no_target in ("data_type", "feature_ab", "era", "id"):
        with pytest.raises(ValueError, match=f"'{no_target}' is no target of these"):
            read(folder / "train.parquet", targets=[no_target])


@pytest.mark.parametrize("kind", ["category", "int64", "float64"])
def test_eras_of_other_types(folder, frame, kind):
    eras = frame["era"] if kind == "category" else frame["era"].astype(int)
    frame.assign(era=eras.astype(kind)).to_parquet(folder / "train.parquet")
    assert_reads(read(folder / "train.parquet"), expected(frame))


@needs_data
@pytest.mark.parametrize("every", [1, 4])
def test_real_rows(tmp_path, every):
    files = [DATA / f"{name}.parquet" for name in ("train", "validation", "live")]
    panel = read(files, tmp_path / "panel", batch_rows=1000, every=every)
    frame = pd.concat([pd.read_parquet(file) for file in files])
    kept = sorted(frame["era"].unique())[::every]
    frame = frame[frame["era"].isin(kept)]
    metadata = NumeraiMetadata.read(DATA / "features.json")
    assert_reads(panel, expected(frame, metadata.features(), list(metadata.targets)))
    panel.verify()


# Missing and wrong values


@pytest.mark.parametrize("kind", ["float32", "float64", "Int8", "Float32", "int16"])
def test_features_of_other_types(folder, frame, kind):
    other = frame.astype(dict.fromkeys(FEATURES, kind))
    gaps = np.zeros(len(frame), bool)
    if kind != "int16":
        gaps[[0, 70, 71]] = True
        other["feature_cd"] = other["feature_cd"].mask(gaps)
    other.to_parquet(folder / "train.parquet")
    panel = read(folder / "train.parquet")
    filled = frame["feature_cd"].mask(gaps, 2).astype(np.int8)
    assert_reads(panel, expected(frame.assign(feature_cd=filled)))
    assert panel.info["n_missing"] == gaps.sum()


def test_only_missing_values_of_kept_rows_are_counted(folder, frame):
    gaps = np.isin(np.arange(len(frame)), [3, 4, 30])  # eras 1, 1, 2
    frame["feature_ef"] = frame["feature_ef"].astype("Int8").mask(gaps)
    frame.to_parquet(folder / "train.parquet")
    panel = read(folder / "train.parquet", eras=[2, 3], batch_rows=64)
    assert panel.info["n_missing"] == 1


def test_column_of_nulls_is_all_middle(folder, frame):
    frame.assign(feature_ab=None).to_parquet(folder / "train.parquet")
    panel = read(folder / "train.parquet")
    assert (panel.X[:, 0] == 2).all()
    assert panel.info["n_missing"] == len(frame)


def test_missing_raise(folder, frame):
    frame["feature_ef"] = frame["feature_ef"].astype("Int8")
    frame.iloc[50, frame.columns.get_loc("feature_ef")] = pd.NA
    frame.to_parquet(folder / "train.parquet")
    match = r"train\.parquet lacks feature 'feature_ef' in row 50, and missing='raise'"
    with pytest.raises(ValueError, match=match):
        read(folder / "train.parquet", folder / "panel", missing="raise")
    assert not list(folder.glob("*panel*"))


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (np.int8, 5, "5"),
        (np.int8, -1, "-1"),
        (np.int16, 260, "260"),
        (np.float32, 1.5, "1.5"),
        (np.float32, np.inf, "inf"),
        (np.float64, -np.inf, "-inf"),
    ],
)
@pytest.mark.parametrize("batch_rows", [7, 1000])
def test_value_that_is_no_bin(folder, frame, kind, value, said, batch_rows):
    column = frame["feature_gh"].to_numpy().astype(kind)
    column[45] = value
    frame.assign(feature_gh=column).to_parquet(folder / "train.parquet")
    match = rf"train\.parquet holds {said}(\.0)? in row 45 of feature 'feature_gh'"
    with pytest.raises(ValueError, match=match):
        read(folder / "train.parquet", folder / "panel", batch_rows=batch_rows)
    assert not list(folder.glob("*panel*"))


def test_text_in_a_feature(folder, frame):
    frame.assign(feature_gh="2").to_parquet(folder / "train.parquet")
    with pytest.raises(ValueError, match=r"has column 'feature_gh' of type .*string"):
        read(folder / "train.parquet")


def test_infinite_target(folder, frame):
    frame.iloc[45, frame.columns.get_loc("target_x_20")] = np.inf
    frame.to_parquet(folder / "train.parquet")
    with pytest.raises(ValueError, match="infinity in row 45 of target 'target_x_20'"):
        read(folder / "train.parquet")


# Wrong files


@pytest.mark.parametrize("size", [0, 3, 100, -1, -200])
def test_file_cut_short(folder, size):
    file = folder / "train.parquet"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(
        ValueError, match=r"train\.parquet is not a parquet.*Download it a"
    ):
        read(file)


def test_damaged_pages(folder):
    file = folder / "train.parquet"
    content = bytearray(file.read_bytes())
    place = pq.read_metadata(file).row_group(3).column(4).data_page_offset
    content[place : place + 40] = bytes(40)
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"train\.parquet is not a parquet file, or"):
        read(file, folder / "panel")
    assert not list(folder.glob("*panel*"))


@pytest.mark.parametrize("n_changed", [0, 1, 8])  # 0: cut somewhere
def test_any_damage_is_told_of_the_file_where_it_is_told(folder, n_changed):
    """Parquet has no checksum of its own: what is not told was read."""
    file = folder / "train.parquet"
    good = file.read_bytes()
    rng = np.random.default_rng(n_changed)
    told = 0
    for _ in range(100):
        bad = bytearray(good)
        for place in rng.integers(len(good), size=n_changed):
            bad[place] ^= 1 << rng.integers(8)
        file.write_bytes(bad if n_changed else bad[: rng.integers(len(bad))])
        try:
            read(file, batch_rows=1000)
        except ValueError as error:
            assert "train.parquet" in str(error)  # noqa: PT017
            told += 1
    assert told > 10


@pytest.mark.parametrize("name", ["era", "id"])
def test_bytes_that_are_no_text(folder, frame, name):
    table = pa.Table.from_pandas(frame.reset_index(), preserve_index=False)
    text = pa.array([b"\xff\xfe"] * len(table), pa.binary()).view(pa.string())
    table = table.set_column(table.column_names.index(name), name, text)
    pq.write_table(table, folder / "train.parquet")
    with pytest.raises(ValueError, match=r"train\.parquet is not a parquet file, or"):
        read(folder / "train.parquet")


def test_checksums_are_used_where_a_file_has_them(folder, frame):
    file = folder / "train.parquet"
    table = pa.Table.from_pandas(frame)
    options = {"compression": "none", "use_dictionary": False}
    pq.write_table(table, file, write_page_checksum=True, **options)
    content = bytearray(file.read_bytes())
    column = pq.read_metadata(file).row_group(0).column(2)
    content[column.data_page_offset + column.total_compressed_size - 1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"train\.parquet is .*damaged.*checksum"):
        read(file)


def test_rows_without_an_id(folder, frame):
    frame.index = pd.Index([None, *frame.index[1:]], name="id")
    frame.to_parquet(folder / "train.parquet")
    with pytest.raises(ValueError, match=r"train\.parquet has 1 rows without an id"):
        read(folder / "train.parquet")


def test_two_columns_of_one_name(folder, frame):
    table = pa.Table.from_pandas(frame)
    pq.write_table(
        table.append_column("feature_ab", table["feature_cd"]), folder / "train.parquet"
    )
    with pytest.raises(
        ValueError, match=r"train\.parquet has two columns 'feature_ab'"
    ):
        read(folder / "train.parquet")


ROWS = {
    "pandas DataFrame": lambda frame: frame,
    "polars DataFrame": pl.from_pandas,
    "polars LazyFrame": lambda frame: pl.from_pandas(frame).lazy(),
    "pyarrow Table": pa.Table.from_pandas,
}


@pytest.mark.parametrize("kind", ROWS)
def test_rows_instead_of_files(frame, kind):
    with pytest.raises(TypeError, match=rf"files must be a path.*got a {kind}[.;]"):
        read(ROWS[kind](frame))
    with pytest.raises(TypeError, match=rf"path must be a path.*got a {kind}\."):
        EraPanel.open(ROWS[kind](frame))
    with pytest.raises(TypeError, match=rf"path must be a path.*got a {kind}\."):
        NumeraiMetadata.read(ROWS[kind](frame))


def test_folders_instead_of_files(folder):
    message = r"is a folder; expected a file\. Pass .*: 'train\.parquet'"
    for files in (folder, [folder]):
        with pytest.raises(IsADirectoryError, match=message):
            read(files)
    (folder / "empty").mkdir()
    with pytest.raises(IsADirectoryError, match="It contains no parquet file"):
        read(folder / "empty")
    with pytest.raises(IsADirectoryError, match=r"Pass .*features\.json"):
        read(folder / "train.parquet", metadata=folder)


@pytest.mark.parametrize("label", ["X", "x", "eraX", "erax"])
def test_live_rows_however_the_label_is_written(folder, frame, label):
    frame.assign(era=label).to_parquet(folder / "live.parquet")
    assert set(read(folder / "live.parquet").eras) == {LIVE}


@pytest.mark.parametrize("files", [5, None, [5], b"train.parquet"])
def test_files_that_are_no_paths(files):
    with pytest.raises(TypeError, match="files must be a path"):
        read(files)


def test_info_is_kept_besides(folder):
    info = {"made_of": {"n": np.int64(3)}, "n_missing": 9}
    read(folder / "train.parquet", folder / "panel", info=info)
    found = EraPanel.open(folder / "panel").info
    assert found["made_of"] == {"n": 3}
    assert (found["n_missing"], found["files"]) == (0, ["train.parquet"])
    assert info == {"made_of": {"n": 3}, "n_missing": 9}


def test_no_such_file(folder):
    with pytest.raises(FileNotFoundError, match=r"none/live\.parquet\. `numerai-fea"):
        read(folder / "none" / "live.parquet")
    with pytest.raises(FileNotFoundError, match=r"no file .*trian.*mean 'train\.parq"):
        read(folder / "trian.parquet")


def test_no_files():
    with pytest.raises(ValueError, match="files is empty"):
        read([])


def test_no_metadata(folder):
    (folder / "features.json").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"no .*features\.json\. Download.*or p"
    ):
        read(folder / "train.parquet")


def test_file_without_eras(folder, frame):
    frame.rename(columns={"era": "eras"}).to_parquet(folder / "train.parquet")
    with pytest.raises(ValueError, match=r"has no column 'era'\. Did you mean 'eras'"):
        read(folder / "train.parquet")


def test_row_without_an_era(folder, frame):
    frame.iloc[9, 0] = None
    frame.to_parquet(folder / "train.parquet")
    with pytest.raises(ValueError, match=r"train\.parquet has 1 missing lab.*at row 9"):
        read(folder / "train.parquet")


def test_eras_that_are_names(folder, frame):
    frame.assign(era="ash").to_parquet(folder / "train.parquet")
    match = "the era columns must be labels with numbers"
    with pytest.raises(ValueError, match=match):
        read(folder / "train.parquet")


def test_file_without_a_feature(folder, frame):
    frame.rename(columns={"feature_cd": "feature_cdx"}).to_parquet(
        folder / "train.parquet"
    )
    match = (
        r"'feature_cd' is no column of .*train\.parquet\. Did you mean 'feature_cdx'"
    )
    with pytest.raises(ValueError, match=match):
        read(folder / "train.parquet")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"features": "smal"}, "'smal' is no feature set. Did you mean 'small'"),
        ({"features": ["feature_abc"]}, "'feature_abc' is no col.*'feature_ab'"),
        ({"features": ["feature_ab"] * 2}, "'feature_ab' is requested twice"),
        ({"features": []}, "features is empty"),
        ({"targets": ["target_x"]}, "'target_x' is no target.*'target_x_20'"),
        ({"targets": "target"}, r"must be a list of names.*; got 'target'.*Pass"),
        ({"eras": [1, 4]}, "'0004', which are not among the 7 eras from '0001'"),
        ({"every": 0}, "every must be a positive whole number"),
        ({"every": True}, "every must be a positive whole number; got True"),
        ({"every": None}, "every must be a positive whole number; got None"),
        ({"features": 5}, "features must be a list of names, as str; got 5"),
        ({"features": [5]}, r"features must be a list of names, as str; got \[5\]"),
        ({"targets": 5}, "targets must be a list of names, as str; got 5"),
        ({"missing": ["raise"]}, "missing must be 'middle' or 'raise'"),
        ({"batch_rows": True}, "batch_rows must be a positive whole number; got True"),
        ({"overwrite": 1}, "overwrite must be True or False; got 1"),
        ({"verbose": "no"}, "verbose must be True or False; got 'no'"),
        ({"metadata": 5}, "metadata must be a path, as str or"),
        ({"path": 5}, "path must be a path, as str or"),
        ({"info": 5}, "info must be a dict; got 5"),
        ({"missing": "drop"}, "missing must be 'middle' or 'raise'; got 'drop'"),
        ({"batch_rows": 0}, "batch_rows must be a positive whole number; got 0"),
    ],
)
def test_wrong_options(folder, options, match):
    with pytest.raises((ValueError, TypeError), match=match):
        read(folder / "train.parquet", **options)


def test_row_twice(folder, frame):
    again = make_frame(["0003"], seed=5, prefix="v")
    again.index = [*again.index[:-1], frame.index[47]]
    again.rename_axis("id").to_parquet(folder / "validation.parquet")
    files = [folder / "train.parquet", folder / "validation.parquet"]
    match = r"'n00047' occurs twice.*row 47 of .*train.* and row 19 of .*validation"
    with pytest.raises(ValueError, match=match):
        read(files)
    assert len(read(files, eras=[1])) == 20


def test_id_in_two_eras(folder, frame):
    """Later rows are looked up by id alone."""
    frame.index = pd.Index([f"n{i % 30}" for i in range(len(frame))], name="id")
    frame.to_parquet(folder / "train.parquet")
    match = r"The id 'n0' occurs twice: in row 0 of .* and row 30 of .*train"
    with pytest.raises(ValueError, match=match):
        read(folder / "train.parquet")
    assert len(read(folder / "train.parquet", eras=[1])) == 20


def test_file_twice(folder):
    with pytest.raises(ValueError, match="files holds a file twice"):
        read([folder / "train.parquet"] * 2)


def test_ids_in_one_file_only(folder, frame):
    frame.to_parquet(folder / "validation.parquet", index=False)
    with pytest.raises(
        ValueError, match=r"validation\.parquet has no ids, but other files"
    ):
        read([folder / "train.parquet", folder / "validation.parquet"])


# Behaviour


def test_overwrite(folder):
    read(folder / "train.parquet", folder / "panel")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        read(folder / "train.parquet", folder / "panel")
    panel = read(folder / "train.parquet", folder / "panel", eras=[1], overwrite=True)
    assert len(panel) == 20


def test_progress_bar(folder, capsys):
    read(folder / "train.parquet", verbose=True)
    shown = capsys.readouterr()
    told = ("eras and ids: ", "train.parquet: ", "checksums: 100%", "panel: 100%")
    places = [shown.err.find(words) for words in told]
    assert 0 < places[0] < places[1] < places[2] < places[3]
    assert shown.out == ""
    read(folder / "train.parquet", verbose=False)
    assert capsys.readouterr().err == ""


def test_memory_is_that_of_a_batch(tmp_path):
    rng = np.random.default_rng(0)
    table = {f"feature_{j}": rng.integers(0, 5, 40_000, np.int8) for j in range(200)}
    table |= {"era": np.repeat([f"{n:04d}" for n in range(8)], 5000)}
    pq.write_table(pa.table(table), tmp_path / "train.parquet")
    names = [f"feature_{j}" for j in range(200)]
    pool = pa.proxy_memory_pool(pa.default_memory_pool())
    default = pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        read(
            tmp_path / "train.parquet",
            tmp_path / "panel",
            features=names,
            batch_rows=1000,
        )
    finally:
        pa.set_memory_pool(default)
    assert 0 < pool.max_memory() < 30 * 1000 * 200  # the table has 40 * 1000 * 200
