"""The panel of an experiment: made, found, made again, never taken from others."""

import json

import numpy as np
import pytest

from numerai_features.datasets import EraPanel, make_era_panel
from numerai_features.experiment import Experiment, ExperimentError
from numerai_features.experiment._panel import load_panel

SYNTHETIC = {"n_eras": 4, "rows_per_era": 10, "n_features": 5, "n_factors": 2}


def load(folder, every=1, **synthetic):
    data = {"panel": str(folder), "every": every, "synthetic": SYNTHETIC | synthetic}
    experiment = Experiment.from_dict({"data": data}, output=folder.parent / "out")
    return load_panel(experiment, verbose=False)


def inode(panel):
    return (panel.path / "features.npy").stat().st_ino


@pytest.fixture
def panel(tmp_path):
    return load(tmp_path / "panel")


def test_is_found_again(panel):
    again = load(panel.path)
    assert inode(again) == inode(panel)
    assert "synthetic" in again.info
    files = {"eras.npy", "features.npy", "ids.parquet", "panel.json", "targets.npy"}
    assert {file.name for file in panel.path.iterdir()} == files


def test_is_made_anew_for_other_settings(panel):
    assert list(load(panel.path, every=2).era_numbers) == [1, 3]
    assert load(panel.path, n_features=6).n_features == 6


def test_of_files_is_made_anew_when_they_have_changed(tmp_path):
    file, metadata = tmp_path / "train.parquet", tmp_path / "features.json"

    def write(seed):
        panel = make_era_panel(3, 20, 4, 2, n_targets=1, random_state=seed)
        panel.to_frame().to_parquet(file)
        sets = {"feature_sets": {"all": panel.feature_names}}
        metadata.write_text(json.dumps(sets | {"targets": panel.target_names}))
        return panel

    def load_files():
        experiment = Experiment.from_dict(
            {
                "data": {"files": [str(file)], "panel": str(tmp_path / "panel")},
                "features": {"set": "all"},
                "targets": {"main": "target_alpha_20"},
            },
            output=tmp_path / "out",
        )
        return load_panel(experiment, verbose=False)

    for seed in (1, 2):
        written = write(seed)
        made = load_files()
        np.testing.assert_array_equal(made.X, written.X)
        assert inode(load_files()) == inode(made)
        assert made.info["n_missing"] == 0


@pytest.mark.parametrize("missing", ["features.npy", "ids.parquet"])
def test_half_a_panel_is_made_anew(panel, missing):
    (panel.path / missing).unlink()
    load(panel.path).verify()


@pytest.mark.parametrize("name", ["features.npy", "targets.npy", "panel.json"])
def test_files_that_only_have_a_panels_names_are_kept(tmp_path, name):
    file = tmp_path / "panel" / name
    file.parent.mkdir()
    file.write_text("{}")
    with pytest.raises(ValueError, match=rf"{name}.*(delete the folder|Or delete)"):
        load(file.parent)
    assert file.read_text() == "{}"


def test_empty_folder_is_filled(tmp_path):
    (tmp_path / "panel").mkdir()
    load(tmp_path / "panel").verify()


def test_other_files_are_kept(tmp_path):
    (tmp_path / "panel").mkdir()
    (tmp_path / "panel" / "precious").touch()
    message = r"not a panel's.*'precious'.*data\.panel"
    with pytest.raises(ExperimentError, match=message):
        load(tmp_path / "panel")
    assert (tmp_path / "panel" / "precious").exists()


def test_panel_of_others_is_kept(tmp_path):
    make_era_panel(2, 10, path=tmp_path / "panel")
    message = r"no experiment made it.*data\.panel to another"
    with pytest.raises(ExperimentError, match=message):
        load(tmp_path / "panel")
    EraPanel.open(tmp_path / "panel").verify()


def test_panel_with_more_rows_is_no_longer_the_experiments(panel, tmp_path):
    more = make_era_panel(6, 10, 5, 2, random_state=1).to_frame()
    more.index = "m" + more.index
    more.to_parquet(tmp_path / "more.parquet")
    added = panel.append(tmp_path / "more.parquet", verbose=False)
    with pytest.raises(ExperimentError, match=r"Rows or targets .* to .*panel"):
        load(panel.path)
    assert added.n_rows == 60
    EraPanel.open(panel.path).verify()


@pytest.mark.parametrize("name", ["features.npy", "targets.npy", "ids.parquet"])
def test_a_flipped_bit_is_told_with_a_way_out(panel, name):
    """Also one that leaves bins bins, and targets targets."""
    file = panel.path / name
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    message = rf"{name} is .*damaged.*Or delete {panel.path}: then the run makes"
    with pytest.raises(ValueError, match=message):
        load(panel.path)


def test_damaged_panel_is_told_with_a_way_out(panel):
    (panel.path / "panel.json").write_text("{")
    message = rf"panel\.json is damaged.*Or delete {panel.path}: then the run makes"
    with pytest.raises(ValueError, match=message) as told:
        load(panel.path)
    assert not isinstance(told.value, ExperimentError), "the file is not to blame"
