"""The examples run, and print something; what they show in docstrings is so."""

import doctest
import importlib.util
import json
import runpy
import sys
import tomllib
import warnings
from pathlib import Path

import pandas as pd
import pytest

from numerai_features.embedders import EraAutoencoder, EraMLP, EraRegimes
from numerai_features.experiment import Experiment
from numerai_features.experiment._parts import make_part

FOLDER = Path(__file__).parents[1] / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))
NEEDS = {"tune_with_optuna": "optuna", "umap_learn_latents": "umap"}


@pytest.mark.slow
@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_runs(file, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(file)])
    if file.stem in NEEDS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it imports itself
            pytest.importorskip(NEEDS[file.stem])
    runpy.run_path(str(file), run_name="__main__")
    assert capsys.readouterr().out


def imported(file, monkeypatch):
    spec = importlib.util.spec_from_file_location(f"example_{file.stem}", file)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


class TestEraMLP:
    @pytest.fixture
    def example(self, monkeypatch):
        return imported(FOLDER / "era_mlp.py", monkeypatch)

    @pytest.fixture
    def folder(self, example, tmp_path):
        example.write_files(tmp_path, rows_per_era=60)
        return tmp_path

    def test_its_experiment_is_the_recipe(self, example, folder):
        text = example.EXPERIMENT.read_text(encoding="utf-8")
        (folder / "era_mlp.toml").write_text(text, encoding="utf-8")
        experiment = Experiment.from_file(folder / "era_mlp.toml")
        assert experiment["targets"]["main"] == "target_ender_60"
        assert experiment["cv"]["purge"] == 16
        recipes = experiment.recipes
        assert list(recipes) == [
            "lightgbm", "mlp", "mlp_residual", "mlp_penalised", "lightgbm_and_mlp"
        ]  # fmt: skip
        defaults = EraMLP().get_params() | {
            "n_models": 3,
            "random_state": 0,
            "dropout": 0.0,
        }
        for name, penalty in (("mlp", 0.0), ("penalised", 0.3)):
            own = defaults | {"benchmark_penalty": penalty}
            made = make_part(experiment["models"][name], experiment.tables)
            assert made.get_params() == own
        for name in ("mlp", "mlp_residual", "mlp_penalised"):
            assert len(recipes[name]["target"]) == 4

    def test_it_runs_on_a_folder_whose_files_have_other_targets(self, example, folder):
        names = ["target_cyrusd_60", "target_cyrusd_20"]
        metadata = json.loads((folder / "features.json").read_text())
        metadata["targets"] = names
        (folder / "features.json").write_text(json.dumps(metadata))
        for name in ("train", "validation"):
            rows = pd.read_parquet(folder / f"{name}.parquet")
            rows = rows.drop(columns=["target_ender_60", "target_ender_20"])
            rows.to_parquet(folder / f"{name}.parquet")
        tiny = {
            "cv": {"n_splits": 1, "test_eras": None},
            "models": {name: {"max_epochs": 2} for name in ("mlp", "penalised")},
            "model": {"params": {"n_estimators": 5}},
        }
        changes = example.changed(example.SMALL, tiny)
        result = example.main(folder, folder / "out", changes)
        assert result.experiment["targets"]["main"] == names[0]
        assert result.experiment.recipes["mlp"]["target"] == names
        followed = result.summary["benchmark_corr"].abs()
        assert followed["mlp_residual"] < followed["mlp"]


def beside_files(name, monkeypatch, folder):
    """Copy an experiment into a folder with files like Numerai's; return its path."""
    example = imported(FOLDER / "era_mlp.py", monkeypatch)
    example.write_files(folder, rows_per_era=40)
    file = folder / name
    file.write_text((FOLDER / name).read_text(encoding="utf-8"))
    return file


def run_small(tables, folder):
    """Run an experiment of few trees and one fold on a folder's files."""
    tables["model"] |= {"n_jobs": 1, "params": {"n_estimators": 3}}
    tables["cv"] = {"n_splits": 1}
    tables["data"]["files"] = [str(folder / n) for n in tables["data"]["files"]]
    tables["data"]["every"] = 1
    return Experiment.from_dict(tables, output=folder / "out").run(verbose=False)


class TestEraAutoencoder:
    def test_the_arms_are_the_forums_and_run(self, monkeypatch, tmp_path):
        file = beside_files("era_autoencoder.toml", monkeypatch, tmp_path)
        experiment = Experiment.from_file(file)
        assert list(experiment.recipes) == [
            "raw", "with_era", "argmax", "argmax_with_era"
        ]  # fmt: skip
        made = make_part(experiment["latents"]["argmax"], experiment.tables)
        defaults = EraAutoencoder(output="argmax", random_state=0).get_params()
        assert made.get_params() == defaults
        tables = tomllib.loads(file.read_text())
        small = {"hidden": [8], "random_units": [4, 6], "max_epochs": 1}
        tables["latents"]["argmax"] |= small
        result = run_small(tables, tmp_path)
        assert list(result.summary.index) == list(experiment.recipes)


class TestEraTransformer:
    def test_it_runs_on_a_folder_of_files(self, monkeypatch, tmp_path):
        file = beside_files("era_transformer.toml", monkeypatch, tmp_path)
        arms = list(Experiment.from_file(file).recipes)
        assert arms == ["originals", "random", "whole", "alone", "transformer"]
        tables = tomllib.loads(file.read_text())
        small = {"width": 8, "n_layers": 1, "max_epochs": 1}
        for part in (
            tables["latents"]["whole"],
            tables["latents"]["alone"],
            tables["models"]["transformer"],
        ):
            part |= small
        result = run_small(tables, tmp_path)
        assert list(result.summary.index) == arms
        assert result.summary["mean"].notna().all()


class TestEraRegimes:
    def test_both_arms_run(self, monkeypatch, tmp_path):
        file = beside_files("era_regimes.toml", monkeypatch, tmp_path)
        experiment = Experiment.from_file(file)
        made = make_part(experiment["latents"]["regime"], experiment.tables)
        defaults = EraRegimes(n_steps=13, random_state=0).get_params()
        made = made.get_params()
        assert made | {"statistics": tuple(made["statistics"])} == defaults
        tables = tomllib.loads(file.read_text())
        tables["latents"]["regime"] |= {"hidden": 4, "max_epochs": 1}
        result = run_small(tables, tmp_path)
        assert list(result.summary.index) == ["raw", "with_regime"]


def test_an_embedder_of_ones_own_is_one_short_file(monkeypatch):
    """What the guide promises; that it passes the common checks is in test_common."""
    file = FOLDER / "own_embedder.py"
    assert len(file.read_text().splitlines()) < 100
    module = imported(file, monkeypatch)
    told = doctest.testmod(module)
    assert told.failed == 0
    assert told.attempted >= 3
