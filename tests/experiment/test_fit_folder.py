"""The folder of a fitted model: whose it is, and how a stopped fit goes on."""

import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from fit_parts import EXPERIMENT, write_files

from numerai_features._sealed import SetAsideWarning
from numerai_features.experiment import (
    Experiment,
    ExperimentError,
    FittedModel,
    _fit_store,
)
from numerai_features.experiment._identity import identity_of
from numerai_features.experiment._tree_file import read_tree, write_tree

PROGRAM = "from numerai_features.cli import program; program()"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    write_files(folder)
    return folder


@pytest.fixture(scope="module")
def panel(files):
    """The panel, made once; each test copies it."""
    experiment = Experiment.from_file(files / "arms.toml", files / "first")
    experiment.fit("cutout", verbose=False)
    return files / "first" / "panel"


@pytest.fixture
def fit(files, panel, tmp_path):
    """Return a function that fits into one folder."""

    def fit(arm="mix", text=EXPERIMENT, **options):
        file = files / "own.toml"
        file.write_text(text.replace("[data]\n", f'[data]\npanel = "{panel}"\n'))
        experiment = Experiment.from_file(file, tmp_path / "out")
        options = {"folder": tmp_path / "model", "verbose": False, **options}
        return experiment.fit(arm, **options)

    return fit


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "resolved" not in path.name
    }


def inodes(folder):
    return {path.name: path.stat().st_ino for path in folder.rglob("*.part")}


def test_what_is_in_the_folder(fit, tmp_path):
    fit(seeds=2)
    arms = ("trees", "net", "ridge")
    parts = {f"parts/{arm}.{seed}.part" for arm in arms for seed in (0, 1)}
    assert set(contents(tmp_path / "model")) == {"model.sealed", "fit.json", *parts}
    assert (tmp_path / "model" / "resolved.toml").exists()
    resolved = Experiment.from_file(tmp_path / "model" / "resolved.toml")
    assert resolved.recipes["mix"]["blend"] == {"trees": 1, "net": 3.0, "ridge": -0.5}


def test_two_fits_are_the_same_bytes(fit, tmp_path):
    fit()
    fit(folder=tmp_path / "again")
    assert contents(tmp_path / "model") == contents(tmp_path / "again")


def test_more_seeds_keep_the_first(fit, tmp_path):
    fit("ridge")
    before = inodes(tmp_path / "model")
    assert fit("ridge", seeds=3).record["seeds"] == 3
    after = inodes(tmp_path / "model")
    assert len(after) == 3
    assert before.items() <= after.items()
    assert fit("ridge", seeds=1).record["seeds"] == 1
    assert inodes(tmp_path / "model") == after


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arm": "ridge"}, r"holds a model of the arm 'trees', not of 'ridge'\."),
        (
            {"text": EXPERIMENT.replace("n_estimators = 10", "n_estimators = 11")},
            r"of another experiment:\n  model.params.n_estimators: 10 then, 11 now\n",
        ),
        (
            {"text": EXPERIMENT.replace("n_components = 3", "n_components = 2")},
            r"of another experiment:\n  latents.fa.n_components: 3 then, 2 now\n",
        ),
        (
            {"text": EXPERIMENT.replace("train.parquet", "validation.parquet")},
            r"of another experiment:\n  data.files: .*train.parquet.*validation",
        ),
    ],
)
def test_the_folder_of_another_model_is_refused(fit, tmp_path, options, message):
    fit("trees")
    before = contents(tmp_path)
    options = {"arm": "trees", **options}
    with pytest.raises(ExperimentError, match=message):
        fit(**options)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "change",
    [
        ("n_splits = 2", "n_splits = 3"),
        ("[arms.trees]", "[arms.new]\nmodel = 'xgb'\n[arms.trees]"),
        ("n_jobs = 1", "n_jobs = 2"),
        ("alpha = 10.0", "alpha = 3.0"),
    ],
)
def test_what_changes_nothing_of_the_arm_is_no_other_experiment(fit, tmp_path, change):
    fit("cutout")
    before = inodes(tmp_path / "model")
    fit("cutout", EXPERIMENT.replace(*change))
    assert inodes(tmp_path / "model") == before


def test_the_folder_of_a_run_is_refused(files, tmp_path, panel):
    text = EXPERIMENT.split("[arms.trees]")[0] + '[arms.ridge]\nmodel = "ridge"\n'
    text = text.replace("[cv]\n", "[cv]\npurge = 2\n")
    (files / "run.toml").write_text(text)
    experiment = Experiment.from_file(files / "run.toml", tmp_path)
    experiment.run(verbose=False)
    before = contents(tmp_path)
    with pytest.raises(ExperimentError, match="is the output folder of a run"):
        experiment.fit(folder=tmp_path, verbose=False)
    assert contents(tmp_path) == before
    assert experiment.fit(verbose=False).folder == tmp_path / "models" / "ridge"
    experiment.run(verbose=False)  # and a run goes on beside its models


def test_an_edited_record_of_settings_is_kept(fit, tmp_path):
    fit("cutout")
    resolved = tmp_path / "model" / "resolved.toml"
    resolved.write_text(resolved.read_text().replace("seed = 1", "seed = 9"))
    with pytest.raises(ExperimentError, match="was edited, or not written by a run"):
        fit("cutout")


@pytest.mark.parametrize("damage", [b"", b"x" * 99])
@pytest.mark.parametrize("name", ["model.sealed", "parts/trees.0.part", "fit.json"])
def test_a_damaged_file_is_made_again(fit, tmp_path, name, damage):
    fit()
    expected, file = contents(tmp_path / "model"), tmp_path / "model" / name
    file.write_bytes(damage)
    if name.startswith("parts"):
        (tmp_path / "model" / "model.sealed").unlink()
    with pytest.warns(SetAsideWarning, match="made again"):
        fit()
    found = contents(tmp_path / "model")
    aside = {n: found.pop(n) for n in [*found] if n.endswith(".unusable")}
    assert aside == {f"{name}.unusable": damage}
    assert found == expected


def test_a_folder_with_other_files_is_refused(fit, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "train.parquet").write_text("mine")
    with pytest.raises(
        ExperimentError, match=r"holds other files, such as train\.parq"
    ):
        fit("ridge")
    assert [p.name for p in (tmp_path / "model").iterdir()] == ["train.parquet"]
    with pytest.raises(ExperimentError, match=r"train.parquet is a file; expected a f"):
        fit("ridge", folder=tmp_path / "model" / "train.parquet")


def test_newer_files_of_the_same_names_are_fitted_again(fit, files, tmp_path, capsys):
    live = files / "live.parquet"
    first = fit("trees").predict(live, rank=None)
    before = contents(tmp_path / "model")
    train = files / "train.parquet"
    rows, old = pd.read_parquet(train), train.read_bytes()
    try:
        rows[rows["era"] < "0030"].to_parquet(train)
        with pytest.raises(ExperimentError, match=r"holds a model of the arm 'trees'"):
            fit("ridge")
        assert contents(tmp_path / "model") == before
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("numerai_features.experiment._fit_all._fit_part", stop)
            with pytest.raises(KeyboardInterrupt):
                fit("trees", verbose=True)
        assert "changed since trees was fitted" in capsys.readouterr().out
        old_model = FittedModel.open(tmp_path / "model")  # until the new one is there
        pd.testing.assert_frame_equal(old_model.predict(live, rank=None), first)
        again = fit("trees")
    finally:
        train.write_bytes(old)
    assert again.record["last_era"] < "0030"
    assert not again.predict(live, rank=None).equals(first)


def stop(*args, **options):
    raise KeyboardInterrupt


def test_a_lost_record_of_the_folder(fit, tmp_path):
    fit("trees")
    (tmp_path / "model" / "fit.json").unlink()
    with pytest.raises(ExperimentError, match=r"fit.json is missing, so that"):
        fit("ridge")
    fit("trees")
    assert (tmp_path / "model" / "fit.json").exists()


def test_fits_of_other_versions_are_made_again(fit, files, monkeypatch):
    live = files / "live.parquet"
    expected = fit("trees").predict(live)

    def older(*args):
        identity = identity_of(*args)
        identity["versions"]["numpy"] = "0.1"
        return identity

    monkeypatch.setattr("numerai_features.experiment._fit_all.identity_of", older)
    with pytest.warns(SetAsideWarning, match="key differs"):
        model = fit("trees")
    assert model.record["versions"]["numpy"] == "0.1"
    pd.testing.assert_frame_equal(model.predict(live), expected)


class TestOpen:
    def test_no_model(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="Fit a model first"):
            FittedModel.open(tmp_path)

    def test_a_fit_that_has_not_ended(self, fit, tmp_path):
        fit("cutout")
        (tmp_path / "model" / "model.sealed").unlink()
        with pytest.raises(FileNotFoundError, match="Its fit has not ended: run it ag"):
            FittedModel.open(tmp_path / "model")

    def test_a_damaged_one(self, fit, tmp_path):
        fit("cutout")
        file = tmp_path / "model" / "model.sealed"
        file.write_bytes(file.read_bytes()[:-1])
        with pytest.raises(ValueError, match=r"is truncated .* Fit the model again"):
            FittedModel.open(tmp_path / "model")

    def test_another_format(self, fit, tmp_path, monkeypatch):
        monkeypatch.setattr(_fit_store, "FORMAT", 0)
        with pytest.raises(ValueError, match="has the format 0 of another version"):
            fit("cutout")

    def test_nothing_in_it_is_a_pickle(self, fit, tmp_path):
        fit()
        for name in ("model.sealed", "parts/net.0.part"):
            content = (tmp_path / "model" / name).read_bytes()
            assert b"\x80\x04\x95" not in content
            assert b"\x80\x05\x95" not in content


class TestTree:
    def test_what_is_written_is_read(self, tmp_path):
        tree = {
            "text": "x" * 999, "short": "é", "none": None, "flag": True, "n": 3,
            "values": [1.5, float("inf"), {"deep": b"\x00\xff" * 99}], "empty": b"",
            "same": ["x" * 999, b"\x00\xff" * 99],
        }  # fmt: skip
        with (tmp_path / "a").open("wb") as stream:
            write_tree(stream, tree)
        with (tmp_path / "a").open("rb") as stream:
            assert read_tree(stream) == tree
        assert (tmp_path / "a").read_bytes().count(b"x" * 999) == 1

    def test_numbers_keep_their_bits(self, tmp_path):
        numbers = np.random.default_rng(0).normal(size=999).tolist()
        with (tmp_path / "a").open("wb") as stream:
            write_tree(stream, numbers)
        with (tmp_path / "a").open("rb") as stream:
            assert read_tree(stream) == numbers


# --- stopped -----------------------------------------------------------------------


def start(files, folder, text):
    (files / "killed.toml").write_text(text)
    command = ["fit", str(files / "killed.toml"), "--arm", "mix", "--seeds", "2"]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *command, "--output", str(folder), "--quiet"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def killed_text(panel):
    return EXPERIMENT.replace("[data]\n", f'[data]\npanel = "{panel}"\n')


@pytest.fixture(scope="module")
def unkilled(files, killed_text, tmp_path_factory):
    """The bytes of a fit that was not stopped, and its seconds."""
    folder, begin = tmp_path_factory.mktemp("unkilled") / "model", time.perf_counter()
    process = start(files, folder, killed_text)
    _, told = process.communicate()
    assert process.returncode == 0, told
    return contents(folder), time.perf_counter() - begin


def goes_on(files, folder, text, expected):
    """Check what a stopped fit has left, and that the next one ends it."""
    there = contents(folder) if folder.exists() else {}
    whole = {name: data for name, data in there.items() if not name.startswith(".")}
    whole = {n: d for n, d in whole.items() if ".tmp/" not in n}
    assert whole.items() <= expected.items()  # nothing half
    before = inodes(folder)
    process = start(files, folder, text)
    _, told = process.communicate()
    assert process.returncode == 0, told
    assert contents(folder) == expected  # nothing is left over either
    assert before.items() <= inodes(folder).items()  # nothing twice


def test_a_killed_fit_goes_on(files, tmp_path, killed_text, unkilled):
    process = start(files, tmp_path / "model", killed_text)
    first = tmp_path / "model" / "parts" / "trees.0.part"
    while not first.exists() and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert 1 <= len(inodes(tmp_path / "model")) < 6
    goes_on(files, tmp_path / "model", killed_text, unkilled[0])


@pytest.mark.slow
@pytest.mark.parametrize("point", range(10))
def test_killed_at_any_point(files, tmp_path, killed_text, unkilled, point):
    expected, seconds = unkilled
    process = start(files, tmp_path / "model", killed_text)
    time.sleep(seconds * (0.3 + 0.07 * point))  # the first third imports libraries
    process.kill()
    process.communicate()
    goes_on(files, tmp_path / "model", killed_text, expected)


def test_a_terminated_fit_goes_on(files, tmp_path, killed_text, unkilled):
    process = start(files, tmp_path / "model", killed_text)
    first = tmp_path / "model" / "parts" / "trees.0.part"
    while not first.exists() and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate()
    assert process.returncode == 143
    assert told.endswith("the same command resumes from there.\n")
    goes_on(files, tmp_path / "model", killed_text, unkilled[0])
