"""The zoo's experiments, on files whose names, eras and gaps are those of v5.3."""

import tomllib

import numpy as np
import pytest
from numerais_files import LAST_RESOLVED, write_v53
from threadpoolctl import threadpool_limits

from numerai_features.experiment import Experiment, ExperimentError
from numerai_features.experiment._zoo import zoo, zoo_text

LIGHTGBM = {"n_estimators": 3, "min_child_samples": 5}
TINY = {
    "EraMLP": {"hidden": [8], "n_models": 1},
    "DAEEmbedder": {"hidden": [8]},
    "SupervisedAEMLP": {"hidden": [8], "n_components": 4, "dropout": [0.1] * 4},
    "UMAPEmbedder": {"hidden": [8], "n_components": 4, "n_landmarks": 300, "n_axes": 8},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with ``data/v5.3``: all eras of v5.3, with few rows and features."""
    folder = tmp_path_factory.mktemp("zoo")
    write_v53(folder / "data" / "v5.3")
    return folder


def written(name, folder, **options):
    file = folder / f"{name}.toml"
    file.write_text(zoo_text(name, **options), encoding="utf-8")
    return file


def tiny(tables):
    """Return an experiment's tables with few trees, and networks of a few units."""
    tables["model"].update(n_jobs=1, device="cpu", params=LIGHTGBM)
    own = [tables.get(table, {}).values() for table in ("latents", "models")]
    for part in (part for parts in own for part in parts):
        chosen = part.get("embedder", part.get("model"))
        if chosen == "XGBoost":
            part.update(n_jobs=1, device="cpu", params={"n_estimators": 3})
        elif chosen != "FactorAnalysisEmbedder":
            part.update(TINY[chosen], max_epochs=1, device="cpu", n_jobs=1)
    return tables


@pytest.mark.parametrize("name", zoo())
class TestEach:
    def test_is_about_what_pays_in_few_lines(self, name, folder):
        text = zoo_text(name)
        assert len(text.splitlines()) < 60
        assert max(map(len, text.splitlines())) <= 88
        experiment = Experiment.from_file(written(name, folder))
        assert experiment.name == name
        assert experiment["targets"]["main"] == "target_ender_60"
        assert experiment["cv"]["purge"] == 16
        assert experiment["cv"]["first_test_era"] == 575
        assert experiment["data"]["benchmark_column"] == "v53_lgbm_ender60"
        assert experiment["data"]["meta_model_column"] == "numerai_meta_model"
        assert len(experiment.arms) >= 4

    @pytest.mark.parametrize(
        "every", [16, pytest.param(None, id="as it is", marks=pytest.mark.slow)]
    )
    def test_runs(self, name, every, folder, tmp_path):
        tables = tiny(tomllib.loads(zoo_text(name)))
        step = tables["data"]["every"] = every or tables["data"].get("every", 1)
        experiment = Experiment.from_dict(tables, base=folder, output=tmp_path / "out")
        with threadpool_limits(1):
            result = experiment.run(verbose=False)
        numbers = result.scores.index.astype(int)
        assert 575 <= numbers[0] < 575 + step
        assert numbers[-1] <= LAST_RESOLVED < numbers[-1] + step
        assert list(result.summary.index) == list(experiment.arms.values())
        scored = result.summary[["mean", "bmc", "mmc", "payout"]]
        assert np.isfinite(scored).all(axis=None)

    def test_its_last_arm_can_be_fitted(self, name, folder, tmp_path):
        tables = tiny(tomllib.loads(zoo_text(name)))
        tables["data"]["every"] = 16
        experiment = Experiment.from_dict(tables, base=folder, output=tmp_path / "out")
        *_, arm = (arm for arm in experiment.arms if arm not in ("pca", "random"))
        with threadpool_limits(1):
            model = experiment.fit(arm, verbose=False)
        live = model.predict(folder / "data" / "v5.3" / "live.parquet")
        assert model.record["last_era"] == "1217"  # 1233 has no target yet
        assert live["prediction"].between(0, 1).all()
        assert live["prediction"].nunique() > 10


def test_the_smallest_come_first():
    assert list(zoo())[:3] == ["small", "medium", "full"]
    named = {"fa", "dae", "supervised", "umap", "era-mlp", "residual", "blend"}
    assert named == {*list(zoo())[3:]}


@pytest.mark.parametrize("data", ["../of mine", '/a "b"\\c'])
def test_paths_and_benchmark_are_those_of_the_folder_and_the_version(data):
    table = tomllib.loads(zoo_text("small", data, "v5.10"))["data"]
    both = [f"{data}/v5.10/{name}" for name in ("train", "validation")]
    assert table["files"] == [f"{name}.parquet" for name in both]
    assert table["benchmark"] == [f"{name}_benchmark_models.parquet" for name in both]
    assert table["meta_model"] == f"{data}/v5.10/meta_model.parquet"
    assert table["benchmark_column"] == "v510_lgbm_ender60"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["smal"], r"no experiment 'smal'\. Did you mean 'small'\? It has: small, med"),
        (["small", "data", "5.3"], r"version must be v and two numbers.*got '5\.3'"),
        (["small", "data", "v5.0"], r"target_ender_60, which v5\.0 does not.*v5\.2 or"),
    ],
)
def test_what_it_does_not_have_is_told(arguments, message):
    with pytest.raises(ExperimentError, match=message):
        zoo_text(*arguments)
