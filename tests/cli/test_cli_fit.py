"""The commands prepare, fit, evaluate, predict and export."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numerai_tools.submissions import (
    validate_headers_numerai,
    validate_ids_numerai,
    validate_values,
)

from numerai_features.cli import main
from numerai_features.cli._fit import IMAGES
from numerai_features.datasets import EraPanel
from numerai_features.experiment import Experiment, FittedModel
from numerai_features.export import _images

sys.path.insert(0, str(Path(__file__).parents[1] / "experiment"))
from fit_parts import ALPHA, EXPERIMENT, NAMES, write_files


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    write_files(folder)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    """The folder of a model that needs a benchmark."""
    experiment = Experiment.from_file(folder / "arms.toml", folder / "out")
    return str(experiment.fit("told", verbose=False).folder)


@pytest.fixture(scope="module")
def plain(folder):
    """The folder of a model that needs none."""
    experiment = Experiment.from_file(folder / "arms.toml", folder / "out")
    return str(experiment.fit("ridge", verbose=False).folder)


@pytest.fixture
def run(folder, tmp_path, monkeypatch, capsys):
    """Return a function that runs a command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, status=0):
        assert main(list(map(str, arguments))) == status
        return capsys.readouterr()

    return run


def told_as_json(run, *arguments):
    return json.loads(run(*arguments, "--json").out)


class TestPrepare:
    def test_it_makes_the_panel_that_fit_reads(self, run, folder, tmp_path):
        file = folder / "arms.toml"
        told = told_as_json(run, "prepare", file)
        panel = EraPanel.open(told["folder"])
        assert told["folder"] == str(tmp_path / "runs" / "arms" / "panel")
        assert (told["rows"], told["eras"], told["features"]) == (1600, 40, 20)
        assert panel.n_rows == 1600
        before = (panel.path / "features.npy").stat().st_ino
        run("fit", file, "--arm", "ridge", "--quiet")
        assert (panel.path / "features.npy").stat().st_ino == before

    def test_it_tells(self, run, folder):
        out = run("prepare", folder / "arms.toml").out
        assert "1,600 rows of 40 eras, 20 features, 0.1 MB, in " in out


class TestFit:
    def test_it_is_as_from_python(self, run, folder, plain, tmp_path):
        told = told_as_json(
            run, "fit", folder / "arms.toml", "--arm", "ridge", "--output", "m"
        )
        assert told["folder"] == str(tmp_path / "m")
        assert told["arm"] == "ridge"
        found, same = FittedModel.open("m"), FittedModel.open(plain)
        live = folder / "live.parquet"
        pd.testing.assert_frame_equal(found.predict(live), same.predict(live))

    def test_what_it_prints(self, run, folder):
        arguments = ["fit", folder / "arms.toml", "--arm", "mix", "--seeds", "2"]
        told = run(*arguments)
        assert "trees, net, ridge, 2 seeds, on 1,440 rows with a known target in 36 "
        assert "eras, 0001 to 0036." in told.out
        assert "fit 6 of 6, ridge" in told.err
        assert "\n\nThe model is in " in told.out
        assert "mix is fitted already.\n" in run(*arguments).out
        assert run(*arguments, "--quiet").out == ""

    def test_several_arms_and_none_named(self, run, folder):
        told = run("fit", folder / "arms.toml", status=2)
        assert "9 arms that can be fitted: trees, leaves, cutout, ridge" in told.err
        assert "Choose one with arm= (--arm on the command line)." in told.err

    def test_the_folder_of_another_arm(self, run, folder, plain):
        arguments = ["fit", folder / "arms.toml", "--arm", "trees", "--output", plain]
        told = run(*arguments, status=2)
        assert "holds a model of the arm 'ridge', not of 'trees'" in told.err

    @pytest.mark.parametrize("number", ["0", "two"])
    def test_seeds_are_whole_numbers(self, folder, capsys, number):
        with pytest.raises(SystemExit, match="2"):
            main(["fit", str(folder / "arms.toml"), "--seeds", number])
        assert "argument --seeds: " in capsys.readouterr().err

    def test_a_file_of_others_cannot_reach_elsewhere(self, run, folder):
        text = EXPERIMENT.replace("max_epochs = 2", "max_epochs = 2\nlog_dir = 'x'", 1)
        (folder / "reach.toml").write_text(text)
        arguments = ["fit", folder / "reach.toml", "--arm", "ridge"]
        assert "latents.dae.log_dir" in run(*arguments, status=2).err
        run(*arguments, "--trusted", "--quiet")


class TestPredict:
    def arguments(self, model, folder, *more):
        live, benchmark = folder / "live.parquet", folder / "benchmark.parquet"
        return ["predict", model, "--live", live, "--benchmark", benchmark, *more]

    def test_the_csv_passes_the_checks_of_numerai(self, run, model, folder):
        told = told_as_json(run, *self.arguments(model, folder))
        assert told == {"file": "predictions.csv", "rows": 40, "warnings": []}
        text = Path("predictions.csv").read_text()
        assert text.startswith("id,prediction\n")
        table = pd.read_csv("predictions.csv")
        live = pd.read_parquet(folder / "live.parquet")
        assert validate_headers_numerai(table) == ("id", "prediction")
        validate_ids_numerai(live.index.to_series(), table, "id")
        validate_values(table, "prediction")
        assert table["id"].tolist() == live.index.tolist()
        expected = FittedModel.open(model).predict(live, folder / "benchmark.parquet")
        assert table["prediction"].tolist() == expected["prediction"].tolist()

    def test_another_file(self, run, plain, folder):
        told = run(*self.arguments(plain, folder, "--output", "deep/p.csv"))
        assert "\n40 predictions are in deep/p.csv\nNext: " in told.out
        assert Path("deep/p.csv").exists()

    def test_what_is_new_and_unfamiliar_is_told(self, run, plain, folder, tmp_path):
        live = pd.read_parquet(folder / "live.parquet")
        live["feature_new"] = np.int8(1)
        live[NAMES] = np.int8(4) - live[NAMES] // 4
        live.to_parquet(tmp_path / "live.parquet")
        arguments = ["predict", plain, "--live", "live.parquet"]
        told = run(*arguments).out
        assert "Note: 1 features of live.parquet are new since the fit, such as" in told
        assert "Note: Era X is unlike all 36 training eras" in told
        assert len(told_as_json(run, *arguments)["warnings"]) == 2

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda live: live.drop(columns=NAMES[:3]), "3 of the 20 features of the "),
            (lambda live: live.reset_index(drop=True), "has no ids"),
            (lambda live: live.iloc[:0], "live has no rows"),
            (lambda live: live[[*live.columns[::2]]], "features of the model"),
            (lambda live: pd.concat([live, live]), "would refuse"),
            (lambda live: live.assign(**dict.fromkeys(NAMES, np.int8(2))), "would ref"),
        ],
    )
    def test_rows_that_cannot_be_predicted(
        self, run, plain, folder, tmp_path, change, message
    ):
        live = change(pd.read_parquet(folder / "live.parquet"))
        live.to_parquet(tmp_path / "live.parquet")
        told = run("predict", plain, "--live", "live.parquet", status=1)
        assert message in told.err
        assert told.err.startswith("Error: ")
        assert not Path("predictions.csv").exists()

    def test_files_that_are_not_there(self, run, plain, folder):
        told = run("predict", plain, "--live", folder / "live.parqet", status=1)
        assert "Did you mean 'live.parquet'" in told.err
        told = run("predict", "nowhere", "--live", folder / "live.parquet", status=1)
        assert "There is no nowhere/model.sealed. Fit a model first" in told.err

    def test_without_the_benchmark(self, run, model, folder):
        arguments = ["predict", model, "--live", folder / "live.parquet"]
        told = run(*arguments, status=1)
        assert "--benchmark on the command line" in told.err


class TestExport:
    def test_it_is_the_file_of_python(self, run, plain, tmp_path):
        told = told_as_json(run, "export", plain)
        assert told["file"] == "model.pkl"
        assert told["checked"] is None
        FittedModel.open(plain).export(tmp_path / "same.pkl")
        same = (tmp_path / "same.pkl").read_bytes()
        assert (tmp_path / "model.pkl").read_bytes() == same

    def test_an_image_that_does_not_exist(self, run, plain):
        with pytest.raises(SystemExit, match="2"):
            run("export", plain, "--image", "2.7")
        assert IMAGES == tuple(_images.IMAGES)
        assert not Path("model.pkl").exists()

    def test_a_file_that_fails_its_check_is_set_aside(self, run, plain, folder):
        live = pd.read_parquet(folder / "live.parquet").drop(columns=NAMES[0])
        live.to_parquet("live.parquet")
        told = run("export", plain, "--live", "live.parquet", status=1)
        assert "The file is kept as model.pkl.failed." in told.err
        assert not Path("model.pkl").exists()

    @pytest.mark.parametrize(
        "wrong",
        [
            ["predict", "--live", "live.parquet", "--output", "live.parquet"],
            ["predict", "--live", "live.parquet", "--output", "."],
            ["evaluate", "--data", "a.parquet", "--from-era", "abc"],
            ["fit", "--seeds", "x"],
        ],
    )
    def test_arguments_that_make_no_sense_end_with_2(self, run, plain, wrong, capsys):
        with pytest.raises(SystemExit, match="2"):
            run(wrong[0], plain, *wrong[1:])
        assert wrong[-1] in capsys.readouterr().err

    def test_evaluating_without_targets(self, run, plain, folder):
        rows = pd.read_parquet(folder / "train.parquet").drop(columns=ALPHA)
        rows.to_parquet("rows.parquet")
        told = run("evaluate", plain, "--data", "rows.parquet", status=1)
        assert f"files have no column '{ALPHA}'" in told.err

    def test_it_is_checked_on_live_rows(self, run, model, folder):
        live, benchmark = folder / "live.parquet", folder / "benchmark.parquet"
        more = ["--live", live, "--benchmark", benchmark]
        found = told_as_json(run, "export", model, *more)
        assert found["checked"]["n_rows"] == 40
        assert found["checked"]["n_parameters"] == 2
        told = run("export", model, *more, "--trees", "numpy").out
        assert "Checked as Numerai's server runs it: 40 rows in " in told

    def test_a_check_that_fails_is_told(self, run, model, folder):
        told = run("export", model, "--live", folder / "live.parquet", status=1)
        assert told.err.startswith("Error: ")
        assert "benchmark" in told.err


class TestEvaluate:
    def test_its_scores(self, run, model, folder):
        arguments = ["evaluate", model, "--data", folder / "validation.parquet",
                     "--benchmark", folder / "benchmark.parquet",
                     "--meta-model", folder / "benchmark.parquet"]  # fmt: skip
        told = told_as_json(run, *arguments)
        same = FittedModel.open(model).evaluate(
            folder / "validation.parquet", benchmark=folder / "benchmark.parquet",
            meta_model=folder / "benchmark.parquet", verbose=False,
        )  # fmt: skip
        assert told["target"] == ALPHA
        assert told["eras"] == same.scores.index.tolist()
        means = {metric: row["mean"] for metric, row in told["scores"].items()}
        assert means == same.summary["mean"].to_dict()
        assert told["scores"]["corr"]["low"] is None
        assert f"\n{same}\n" in run(*arguments).out

    def test_no_era_is_left(self, run, plain, folder):
        arguments = ["evaluate", plain, "--data", folder / "train.parquet"]
        told = run(*arguments, status=1)
        assert "Wait for more eras, or fit on files that end earlier" in told.err


@pytest.mark.parametrize(
    "command", [["evaluate", "m"], ["predict", "m"], ["prepare"], ["fit"], ["export"]]
)
def test_what_is_required_is_told(capsys, command):
    with pytest.raises(SystemExit, match="2"):
        main(command)
    assert "arguments are required" in capsys.readouterr().err
