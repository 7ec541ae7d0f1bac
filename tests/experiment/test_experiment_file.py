"""Experiments, from files and mappings: checked, told, resolved, written back."""

import inspect
import json
import re
import sys
import tomllib
from copy import deepcopy
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from numerai_features import embedders
from numerai_features.datasets import make_era_panel
from numerai_features.embedders import FactorAnalysisEmbedder
from numerai_features.experiment import Experiment, ExperimentError
from numerai_features.experiment._eras import check_folds
from numerai_features.experiment._toml import write_toml
from numerai_features.trees import _names
from numerai_features.trees._names import parameter_problems

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SYNTHETIC = "[data.synthetic]\nn_eras = 30\n"
FA = '[latents.fa]\nembedder = "FactorAnalysisEmbedder"\n'


def write_files(folder, targets, names, n_more=0):
    """Write files with the columns, if without the rows, of Numerai's."""
    features = [f"feature_{letter}" for letter in "abcd"]
    more = [f"feature_{number}" for number in range(n_more)]
    targets = ["target", *(f"target_{name}" for name in targets)]
    text = pa.array([], pa.string())
    table = {"id": text, "era": text}
    table |= dict.fromkeys([*features, *more], pa.array([], pa.int8()))
    table |= dict.fromkeys(targets, pa.array([], pa.float32()))
    for name in names:
        pq.write_table(pa.table(table), folder / f"{name}.parquet")
    sets = {"small": features[:2], "medium": [*features[:3], *more], "all": features}
    metadata = json.dumps({"feature_sets": sets, "targets": targets})
    (folder / "features.json").write_text(metadata)


def test_a_synthetic_panel_and_its_folds_need_no_settings():
    check_folds(Experiment.from_dict({"data": {"synthetic": {}}}).tables)


@pytest.fixture
def write(tmp_path):
    def write(text):
        file = tmp_path / "mine.toml"
        file.write_text(text, encoding="utf-8")
        return file

    return write


@pytest.fixture
def parquet(tmp_path):
    write_files(tmp_path, ["bernie", "ender_20", "ender_60"], ["train"])
    return '[data]\nfiles = ["train.parquet"]\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "sed = 1\n",
            r"line 1: sed: unknown key\. Did you mean 'seed' or 'seeds'\? Allowed: se",
        ),
        ("seed = -1\n", r"line 1: seed: got -1; expected a whole number >= 0"),
        ("seed = true\n", r"line 1: seed: got true; expected a whole number >= 0"),
        ("[latent.fa]\n", r"line 1: latent: unknown table\. Did you mean 'latents'"),
        (
            "[cv]\n\npurge = 'no'\n",
            r'line 3: cv\.purge: got "no"; expected "auto" or a',
        ),
        (
            "[cv]\nn_split = 3\n",
            r"line 2: cv\.n_split: unknown key\. Did you mean 'n_sp",
        ),
        (
            "[cv]\nscheme = 'kfold'",
            r"line 2: cv\.scheme: got .*\"k-fold\"\. Did you mean",
        ),
        (
            "[cv]\nscheme = 'k-fold'\ntest_eras = 4",
            r"line 3: cv\.test_eras: needs scheme =",
        ),
        (
            "[cv]\nscheme = 'k-fold'\nfirst_test_era = '0575'",
            r"line 3: cv\.first_test_era: needs scheme =",
        ),
        (
            "[cv]\nmin_train_eras = 9\nmax_train_eras = 8",
            r"line 2: cv\.min_train_eras: got 9; expected at most .* which is 8",
        ),
        (
            "[cv]\nscheme = 'k-fold'\nn_splits = 1",
            r"line 3: cv\.n_splits: got 1; .* >= 2",
        ),
        (
            "[model]\npreset = 'smal'",
            r'line 2: model\.preset: .*"small" or "large" or "d',
        ),
        (
            "[model]\nlibrary = 'catboost'",
            r'line 2: model\.library: .*"lightgbm" or "xgb',
        ),
        (
            "[model.params]\nn_jobs = 2",
            r"line 2: model\.params\.n_jobs: .* model\.n_jobs",
        ),
        (
            "[model]\nparams = { random_state = 2 }",
            r"line 2: model\.params\.random_state",
        ),
        ("[model]\nparams = 3", r"line 2: model\.params: got 3; expected a table"),
        (
            "[model.params]\na = 1979-05-27",
            r"line 2: .*\.a: got 1979-05-27; expected",
        ),
        (
            "[features]\nset = 'small'",
            r'line 2: features\.set: .*expected "all" or names',
        ),
        (
            "[features]\nset = [1, 2]",
            r"line 2: features\.set: .*a string or a list of str",
        ),
        ("latents = 4", r"line 1: latents: expected a table; got 4"),
        ("[latents]\nfa = 4", r"line 2: latents\.fa: unknown key"),
        ("[latents]\nquantize = 'int16'", r'line 2: .*"none" or "int8" or "uint8"'),
        (
            "[latents.fa]\n",
            r"line 1: latents\.fa\.embedder: is required\. Allowed: .*Fac",
        ),
        (
            "[latents.fa]\nembedder = 'FactorAnalysis'",
            r"line 2: latents\.fa\.embedder: .*unknown embedder\. Did you mean",
        ),
        (
            FA + "n_componets = 3",
            r"line 3: latents\.fa\.n_componets: unknown parameter of",
        ),
        (
            FA + "n_componets = 3",
            r"Did you mean 'n_components'\? Allowed: n_components, ro",
        ),
        (
            FA + "n_components = 'x'",
            r"line 3: latents\.fa\.n_components: .*an int in the r",
        ),
        (
            FA + "n_components = 0",
            r"line 3: latents\.fa\.n_components: .*Got 0 instead",
        ),
        (
            FA.replace("fa", "originals"),
            r'line 1: latents\.originals: the name "originals" of an arm is taken',
        ),
        (
            FA.replace("fa", "random"),
            r'line 1: latents\.random: the name "random" is taken; choose another',
        ),
        (
            FA.replace("fa", "pca"),
            r"line 1: latents\.pca: got .*; expected true or false",
        ),
        (
            "[models.pca]\nmodel = 'Ridge'",
            r'line 1: models\.pca: the name "pca" of an arm is taken',
        ),
        (
            "[models.net]\nmodel = 'DAEEmbedder'",
            r"line 2: models\.net\.model: .*unknown model.* Allowed: LightGBM, .*Su",
        ),
        (
            f"{FA}[models.fa]\nmodel = 'SupervisedAEMLP'",
            r'models\.fa: the name "fa" of an arm is taken; choose another',
        ),
        (
            FA.replace("fa", "'f a'"),
            r"line 1: latents\.f a: a name must be made",
        ),
    ],
)
def test_each_problem_names_line_key_and_what_is_allowed(write, text, message):
    # top-level keys come before any table
    file = write(f"{text}\n{SYNTHETIC}")
    with pytest.raises(ExperimentError, match=message) as caught:
        Experiment.from_file(file)
    assert str(caught.value).startswith(f"{file}: 1 problem\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"  data: expected either files = \[\.\.\.\] or .*got neither"),
        ("[data]\nfiles = ['a']\n[data.synthetic]", r"line 1: data: .*got both"),
        (
            "[data]\nfiles = []",
            r"line 2: data\.files: got \[\]; expected a list of str",
        ),
        (
            "[data.synthetic]\nn_era = 5",
            r"line 2: .*\.n_era: .*mean 'n_eras'\? Allowed",
        ),
        ("[data.synthetic]\nstructure = 'x'", r'line 2: .*"linear" or "curved" or "no'),
        (
            "[data]\nmetadata = 'a'\n[data.synthetic]",
            r"line 2: data\.metadata: is allowed only with",
        ),
        (
            "[data]\nfiles = ['b.parquet']",
            r"line 2: data\.files: There is no file .*b\.p",
        ),
        (
            "[data]\nfiles = ['b.parquet']",
            r"targets\.main: is required with data\.files",
        ),
    ],
)
def test_problems_of_the_data(write, text, message):
    with pytest.raises(ExperimentError, match=message):
        Experiment.from_file(write(text))


@pytest.mark.parametrize(
    ("name", "purge"), [("bernie", 16), ("ender_60", 16), ("ender_20", 8)]
)
def test_auto_purge_is_that_of_the_target_or_the_longest(write, parquet, name, purge):
    text = parquet + f"[targets]\nmain = 'target_{name}'\n[cv]\npurge = 'auto'"
    assert Experiment.from_file(write(text)).tables["cv"]["purge"] == purge


def test_all_problems_are_told_at_once_in_the_order_of_lines(write):
    text = f"sed = 1\n{FA}n_componets = 3\n[model]\npreset = 'smal'\n[cv]\nembargo = -1"
    with pytest.raises(ExperimentError, match="5 problems") as caught:
        Experiment.from_file(write(text))
    lines = str(caught.value).splitlines()[1:]
    keys = ["data", "sed", "latents.fa.n_componets", "model.preset", "cv.embargo"]
    assert [re.sub(r"  (line \d+: )?([\w.]+):.*", r"\2", x) for x in lines] == keys


@pytest.mark.parametrize(
    ("text", "only"),
    [
        ("[data]\nfiles = 'a.parquet'", r"data\.files: got \"a\.parquet\""),
        (f"{SYNTHETIC}\n[cv]\nfirst_test_era = 2020-01-03", "got 2020-01-03; expect"),
    ],
)
def test_one_mistake_is_told_once(write, text, only):
    with pytest.raises(ExperimentError, match=only) as caught:
        Experiment.from_file(write(f"{FA}{text}"))
    assert "1 problem\n" in str(caught.value)


def test_an_empty_list_of_targets_is_told_once(write, parquet):
    with pytest.raises(ExperimentError, match=r"targets\.main: got \[\]") as caught:
        Experiment.from_file(write(f"{FA}{parquet}[targets]\nmain = []"))
    assert "1 problem\n" in str(caught.value)


def test_syntax_error_and_missing_file(write, tmp_path):
    with pytest.raises(
        ExperimentError, match=r"mine\.toml: line 2: not valid TOML at c"
    ):
        Experiment.from_file(write("seed = 1\n[cv\n"))
    with pytest.raises(
        ExperimentError, match=r"none\.toml cannot be read: No such file"
    ):
        Experiment.from_file(tmp_path / "none.toml")


def test_defaults_are_filled_in(write, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    experiment = Experiment.from_file(write(f"seed = 3\n{SYNTHETIC}horizon = 12\n{FA}"))
    assert experiment["targets"]["main"] == "target_alpha_60"
    assert experiment["cv"]["purge"] == 16
    assert experiment["data"]["synthetic"]["random_state"] == 3
    assert experiment.folder == tmp_path / "runs" / "mine"
    assert experiment["data"]["panel"] == str(tmp_path / "runs" / "mine" / "panel")
    max_iter = experiment["latents"]["fa"]["max_iter"]
    assert max_iter == FactorAnalysisEmbedder().max_iter
    arms = ["originals", "+ fa", "+ pca", "+ random"]
    assert list(experiment.arms.values()) == arms
    assert list(experiment.arms) == [arm.removeprefix("+ ") for arm in arms]
    assert experiment.base == "originals"


def test_files_are_relative_to_the_experiment_file(write, parquet, tmp_path):
    text = f"{parquet}panel = 'p'\n[targets]\nmain = 'target_ender_20'\n"
    data = Experiment.from_file(write(text))["data"]
    assert data["files"] == [str(tmp_path / "train.parquet")]
    assert data["metadata"] == str(tmp_path / "features.json")
    assert data["panel"] == str(tmp_path / "p")
    (tmp_path / "features.json").unlink()
    named = f"{text}[features]\nset = ['feature_a']\n"
    assert Experiment.from_file(write(named))["data"]["metadata"] is None


@pytest.mark.parametrize(
    ("library", "params", "told"),
    [
        ("lightgbm", "num_leafs = 7", "num_leafs: is not .* lightgbm.*'num_leaves'"),
        ("lightgbm", "n_estimator = 7", "n_estimator: is not .*mean 'n_estimators'"),
        ("xgboost", "num_leaves = 7", "num_leaves: is not .* xgboost.*'max_leaves'"),
        (
            "xgboost",
            "eta = 1\nlearning_rate = 1",
            "rate: is the same as 'eta'",
        ),
        (
            "lightgbm",
            "bagging_seed = 1\nseed = 2",
            "seed: is an alias of 'random_state', which is ",
        ),
        ("lightgbm", "num_threads = 2", "num_threads: .* use model.n_jobs"),
        ("lightgbm", "device_type = 'gpu'", "device_type: .* use model.device"),
        ("xgboost", "nthread = 2", "nthread: .* use model.n_jobs"),
        ("xgboost", "n_jobs = 2", "n_jobs: is set elsewhere: use model.n_jobs"),
    ],
)
@pytest.mark.parametrize("trusted", [False, True])
def test_misspelt_parameters_of_trees(write, library, params, told, trusted):
    text = f"{SYNTHETIC}[model]\nlibrary = '{library}'\n[model.params]\n{params}\n"
    with pytest.raises(ExperimentError, match=rf"line \d: model\.params\..*{told}"):
        Experiment.from_file(write(text), trusted=trusted)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([None, 1], r"got \[null, 1\]; a list cannot hold None"),
        ([[1], [0, None]], "a list cannot hold None"),
        (float("nan"), "got NaN; expected a number that is not NaN"),
        ([0.0, float("nan")], "expected a number that is not NaN"),
    ],
)
def test_what_toml_or_trees_cannot_hold(value, told):
    model = {"params": {"monotone_constraints": value}}
    tables = {"data": {"synthetic": {}}, "model": model}
    for trusted in (False, True):
        with pytest.raises(ExperimentError, match=rf"params\.monotone_cons.*{told}"):
            Experiment.from_dict(tables, trusted=trusted)


def test_xgboosts_missing_may_be_nan():
    model = {"library": "xgboost", "params": {"missing": float("nan")}}
    experiment = Experiment.from_dict({"data": {"synthetic": {}}, "model": model})
    assert np.isnan(experiment["model"]["params"]["missing"])


# Each is wrong by itself for some embedder, or with others, or for five features.
MISFITS = {
    "n_components": 6, "dropout": (0.1,), "min_dist": 9.0, "target_weights": (1.0, 2.0),
    "loss": "corr", "loss_weights": (1.0,), "noise_level": 2.0, "mask_head": True,
    "statistics": ("mean", "mean"), "random_units": (4, 4, 4), "width": 6,
    "context": (0, 1, 2, 3, 4),
}  # fmt: skip


@pytest.mark.parametrize("name", embedders.__all__)
def test_what_fit_would_refuse_is_told_when_the_experiment_is_read(name):
    """In the same words, whatever the embedder, as far as no row need be known."""
    cls = getattr(embedders, name)
    if not hasattr(cls, "transform"):
        return
    panel = make_era_panel(10, 20, n_features=5, random_state=0)
    small = {"max_epochs": 1, "hidden": (4,), "n_neighbors": 3, "dropout": (0.1,) * 4}
    known = cls().get_params()
    small = {k: v for k, v in small.items() if k in known}
    if isinstance(known.get("hidden"), int):  # all layers have as many units
        small["hidden"] = 4
    n_told = 0
    for parameter in MISFITS.keys() & known.keys():
        arm = {**small, parameter: MISFITS[parameter]}
        tables = {
            "data": {"synthetic": {"n_features": 5}},
            "latents": {"arm": {"embedder": name, **arm}},
        }
        told = told_by_fit(cls(**arm), panel)
        if told is None:
            Experiment.from_dict(tables)
            continue
        n_told += 1
        with pytest.raises(ExperimentError, match=re.escape(told)):
            Experiment.from_dict(tables)
    assert n_told


def told_by_fit(embedder, panel):
    """Return the error of a fit, None if there is none."""
    try:
        embedder.fit(panel.X, panel.y("target_alpha_20"), eras=panel.eras)
    except ValueError as error:
        return str(error)
    return None


def test_parameters_by_other_names_are_fine(write):
    text = f"{SYNTHETIC}[model.params]\neta = 0.1\nmax_leaf = 7\nlambda_l2 = 1\n"
    params = Experiment.from_file(write(text))["model"]["params"]
    assert params == {"eta": 0.1, "max_leaf": 7, "lambda_l2": 1}


def test_a_file_can_be_read_without_the_tree_library(write, monkeypatch):
    """The run needs it, and says how to install it."""
    monkeypatch.setitem(sys.modules, "xgboost", None)
    _names._class_names.cache_clear()
    text = f"{SYNTHETIC}[model]\nlibrary = 'xgboost'\nparams = {{ eta = 0.1 }}\n"
    assert Experiment.from_file(write(text))["model"]["params"] == {"eta": 0.1}


def test_any_key_can_be_written():
    tables = {"a": {"odd key": ["x"], "rate": 1e-11, "yes": True, '"\u00e9': 1}}
    assert tomllib.loads(write_toml(tables)) == tables


@pytest.mark.parametrize("output", [None, "elsewhere"])
def test_resolved_experiment_round_trips(write, tmp_path, output):
    text = f"""
        {SYNTHETIC}rows_per_era = [20, 30]
        {FA}rotation = "varimax"
        [model]
        [model.params]
        num_leaves = 5
        min_gain_to_split = 1e-11
        "metric" = ["a", '" and \\ \u00e9', "\\t and \\u007f \U0001f600"]
        linear_tree = true
        [features]
        set = ["feature_0000"]
        """
    experiment = Experiment.from_file(write(text), output=output, trusted=True)
    resolved = tmp_path / "resolved.toml"
    resolved.write_text(experiment.to_toml(), encoding="utf-8")
    again = Experiment.from_file(resolved, trusted=True)
    assert again.tables == experiment.tables
    assert again.to_toml() == experiment.to_toml()
    mapped = Experiment.from_dict(experiment.tables, trusted=True)
    assert mapped.tables == experiment.tables


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('# [no.header]\n[latents."fa"]   # a comment\nembedder = "x"\n', 3),
        ("[cv]\nn_splits = 3\n\n  'purge' = -1\n", 4),
        ("[model]\n\nparams.n_jobs = 2\n", 3),
        ("[model]\n\nparams.n_estimator = 2\n", 3),
        ("[model]\nparams = { max_bin = 9, n_jobs = 2 }\n", 2),
        ("model.params.n_jobs = 2\n", 1),
        ("[latents.fa]\nembedder = 'FactorAnalysisEmbedder'\ndeep.er = 2\n", 3),
    ],
)
def test_lines_are_found_however_a_key_is_written(write, text, line):
    with pytest.raises(ExperimentError, match=f"1 problem\n  line {line}: "):
        Experiment.from_file(write(f"{text}{SYNTHETIC}"))


def test_synthetic_data_are_those_of_make_era_panel():
    ours = Experiment.from_dict({"data": {"synthetic": {}}})["data"]["synthetic"]
    signature = inspect.signature(make_era_panel).parameters
    theirs = {name: parameter.default for name, parameter in signature.items()}
    assert set(theirs) - set(ours) == {"path", "overwrite", "return_truth"}
    assert ours.pop("random_state") == 0  # the experiment's seed
    assert ours.pop("n_eras") == 120  # enough for five folds with their purge
    assert ours == {name: theirs[name] for name in ours}


@pytest.mark.parametrize(
    ("names", "main", "purge"),
    [
        (["cyrusd_20", "cyrusd_60"], "target_cyrusd_20", 8),
        (["ender_20", "ender_60", "cyrusd_20"], "target_ender_60", 16),
        (["ender_60", "ender_20"], "target_ender_60", 16),
    ],
    ids=["v5.0", "v5.2", "v5.3"],
)
def test_the_example_is_right(write, tmp_path, names, main, purge):
    write_files(tmp_path, names, ["train", "validation"], n_more=30)
    text = (EXAMPLES / "experiment.toml").read_text(encoding="utf-8")
    experiment = Experiment.from_file(write(text))
    assert experiment["targets"]["main"] == main
    assert experiment["cv"]["purge"] == purge
    assert list(experiment.arms) == [
        "originals", "fa", "fa_varimax", "dae", "pca", "random", "net"
    ]  # fmt: skip
    assert experiment["data"]["metadata"] == str(tmp_path / "features.json")
    # what has no comment that says otherwise is a default
    written = tomllib.loads(re.sub(r"\n(every|set|test_eras|params) .*", "", text))
    needed = {name: written[name] for name in ("data", "targets")}
    default = Experiment.from_dict(needed, base=tmp_path)
    for name in ("features", "cv", "latents", "model"):
        fields = {k: v for k, v in written[name].items() if not isinstance(v, dict)}
        fields.pop("purge", None)  # resolved: "auto" is no longer there
        assert fields.items() <= default[name].items()


class TestMapping:
    """An experiment that is written in Python."""

    MAPPING: ClassVar = {
        "seed": 3,
        "data": {"synthetic": {"n_eras": 30, "rows_per_era": [20, 30]}},
        "latents": {"fa": {"embedder": "FactorAnalysisEmbedder", "n_components": 3}},
        "models": {
            "net": {"model": "SupervisedAEMLP", "hidden": [8], "dropout": [0.1] * 4}
        },
    }

    def test_it_is_what_a_file_would_be(self, write, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        text = """
            seed = 3
            [data.synthetic]
            n_eras = 30
            rows_per_era = [20, 30]
            [latents.fa]
            embedder = "FactorAnalysisEmbedder"
            n_components = 3
            [models.net]
            model = "SupervisedAEMLP"
            hidden = [8]
            dropout = [0.1, 0.1, 0.1, 0.1]
            """
        ours = Experiment.from_dict(self.MAPPING)
        assert ours.name == "experiment"
        assert ours.folder == tmp_path / "runs" / "experiment"
        theirs = Experiment.from_file(write(text), output=ours.folder)
        assert ours.tables == theirs.tables

    def test_pythons_types_are_taken(self, parquet, tmp_path):
        rest = {"dropout": (0.1,) * 5}
        mapping = {
            "data": {"files": (tmp_path / "train.parquet",)},
            "features": {"set": np.array(["feature_a", "feature_b"])},
            "targets": {"main": "target_ender_20"},
            "cv": {"n_splits": np.int64(3), "test_eras": None},
            "models": {"net": {"model": "SupervisedAEMLP", "hidden": (8, 4), **rest}},
        }
        experiment = Experiment.from_dict(mapping)
        assert experiment["data"]["files"] == [str(tmp_path / "train.parquet")]
        assert experiment["features"]["set"] == ["feature_a", "feature_b"]
        assert type(experiment["cv"]["n_splits"]) is int
        assert experiment["models"]["net"]["hidden"] == (8, 4)
        written = tomllib.loads(experiment.to_toml())
        assert written["features"] == {"set": ["feature_a", "feature_b"]}
        assert "test_eras" not in written["cv"]

    def test_paths_are_relative_to_base(self, parquet, tmp_path):
        mapping = {
            "data": {"files": ["train.parquet"], "panel": "p"},
            "targets": {"main": "target_ender_20"},
        }
        data = Experiment.from_dict(mapping, base=tmp_path)["data"]
        assert data["files"] == [str(tmp_path / "train.parquet")]
        assert data["metadata"] == str(tmp_path / "features.json")
        assert data["panel"] == str(tmp_path / "p")
        with pytest.raises(
            ExperimentError, match=r"data\.files: There is no file /.*n"
        ):
            Experiment.from_dict(mapping)

    def test_nothing_is_shared_with_the_callers_mapping_or_the_next_experiment(self):
        mapping = deepcopy(self.MAPPING)
        experiment = Experiment.from_dict(mapping)
        assert mapping == self.MAPPING
        mapping["latents"]["fa"]["n_components"] = 4
        assert experiment["latents"]["fa"]["n_components"] == 3
        experiment["model"]["params"]["num_leaves"] = 7
        assert Experiment.from_dict(mapping)["model"]["params"] == {}

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"cv": {"purge": None}}, r"cv\.purge: got null; expected \"auto\" or"),
            ({"cv": {"n_split": 2}}, r"cv\.n_split: unknown key\. Did you mean"),
            ({"cv": [1]}, r"cv: expected a table; got \[1\]"),
            ({3: {}}, r"3: unknown table\. Allowed: seed"),
            ({"seed": 1.5}, r"seed: got 1\.5; expected a whole number"),
            (
                {"latents": {"fa": FactorAnalysisEmbedder(2)}},
                r"latents\.fa: unknown key",
            ),
            (
                {"models": {"net": {"model": "SupervisedAEMLP", "random_state": None}}},
                r"models\.net\.random_state: got None, which .* the default, 0\.",
            ),
        ],
    )
    def test_problems_are_told_without_lines(self, changes, message):
        mapping = {"data": {"synthetic": {}}, **changes}
        match = rf"^The experiment: 1 problem\n  {message}"
        with pytest.raises(ExperimentError, match=match):
            Experiment.from_dict(mapping)

    @pytest.mark.parametrize("mapping", ["experiment.toml", None, [("seed", 1)]])
    def test_what_is_no_mapping_is_told(self, mapping):
        name = type(mapping).__name__
        match = rf"mapping must hold the tables .*; got {name}\. Use from_file to read"
        with pytest.raises(ExperimentError, match=match):
            Experiment.from_dict(mapping)

    def test_it_is_shown_in_a_line(self):
        shown = repr(Experiment.from_dict(self.MAPPING))
        told = "Experiment('experiment': 5 arms, walk-forward, target_alpha_20)"
        assert shown == told


class TestTrust:
    """A file of somebody else reaches nothing but its own folders."""

    @pytest.mark.parametrize("library", ["lightgbm", "xgboost"])
    @pytest.mark.parametrize(
        ("param", "message"),
        [
            (
                "machines = '10.0.0.1:12400'",
                "machines: reaches files or other machines",
            ),
            ("nodes = '10.0.0.1:12400'", "nodes: reaches"),
            ("num_machines = 2", "num_machines: reaches"),
            ("local_listen_port = 12400", "local_listen_port: reaches"),
            ("mlist = 'hosts.txt'", "mlist: reaches"),
            ("input_model = '/etc/passwd'", "input_model: reaches"),
            ("output_model = '/tmp/out'", "output_model: reaches"),
            ("snapshot_freq = 1", "snapshot_freq: reaches"),
            ("data = 'train.csv'", "data: reaches"),
            ("config = 'a.conf'", "config: reaches"),
            ("forcedsplits_filename = 'a.json'", "forcedsplits_filename: reaches"),
            ("forcedbins_filename = 'a.json'", "forcedbins_filename: reaches"),
            ("save_binary = true", "save_binary: reaches"),
            ("some_new_file = 'a.txt'", "some_new_file: is not known to take text"),
            ("some_new_files = [['a.txt']]", "some_new_files: is not known to take"),
            ("objective = 'l2 machines=a:1'", "objective: has a space or a char"),
            ("metric = ['l2', 'x/y']", "metric: has a space or a char"),
            ("'n=1 machines' = 3", "n=1 machines: is not a parameter's name"),
            ("metric = ['l2', {k = 'v num_leaves=4 x'}]", "metric: holds a dict"),
            ("metric = [['l2', [{}]]]", "metric: holds a dict"),
            ("max_delta_step = [1979-05-27]", "max_delta_step: holds a date"),
        ],
    )
    def test_params_that_reach_further(self, write, library, param, message):
        text = f"{SYNTHETIC}[model]\nlibrary = '{library}'\n[model.params]\n{param}\n"
        told = rf"line 6: model\.params\.{message}.*trusted=True \(--trusted on the"
        with pytest.raises(ExperimentError, match=told):
            Experiment.from_file(write(text))
        with pytest.raises(ExperimentError, match=f"model.params.{message}"):
            Experiment.from_dict(tomllib.loads(text))
        params = tomllib.loads(text)["model"]["params"]
        if parameter_problems(library, params):  # no trust makes it a parameter
            with pytest.raises(ExperimentError, match="is not a parameter of "):
                Experiment.from_file(write(text), trusted=True)
            return
        experiment = Experiment.from_file(write(text), trusted=True)
        assert experiment["model"]["params"] == params

    def test_every_parameter_of_lightgbm_that_has_a_place(self):
        """What LightGBM calls a file, a model or a machine is known by all names."""
        from lightgbm.basic import _ConfigAliases

        from numerai_features.experiment._trust import untrusted_params

        places = {
            "config", "convert_model", "data", "forcedbins_filename",
            "forcedsplits_filename", "input_model", "local_listen_port",
            "machine_list_filename", "machines", "num_machines", "output_model",
            "output_result", "parser_config_file", "save_binary", "snapshot_freq",
            "time_out", "valid",
        }  # fmt: skip
        names = _ConfigAliases.get(*places)
        assert len(names) > 45
        assert {name for name, _ in untrusted_params(dict.fromkeys(names, 1))} == names

    @pytest.mark.parametrize(
        "value",
        [("l2", "l2 num_leaves=4"), {"k": 1}, {"a b=1"}, b"a b=1", object(), [(b"",)]],
    )
    def test_whatever_else_a_library_would_make_text_of(self, value):
        from numerai_features.experiment._trust import untrusted_params

        assert [name for name, _ in untrusted_params({"metric": value})] == ["metric"]

    def test_numbers_and_lists_of_any_depth(self):
        from numerai_features.experiment._trust import untrusted_params

        params = {"a": [1, [2.5, [True, np.int8(1)]]], "metric": [["l2", ["mae"]]]}
        assert not list(untrusted_params(params | {"max_depth": None}))

    def test_params_that_do_not(self, write):
        text = f"""
            {SYNTHETIC}[model.params]
            objective = "regression_l1"
            metric = ["l2", "mae"]
            boosting_type = "dart"
            monotone_constraints = [1, 0, -1]
            interaction_constraints = "[0,1],[2]"
            num_leaves = 7
            extra_trees = true
            """
        params = Experiment.from_file(write(text))["model"]["params"]
        assert params["interaction_constraints"] == "[0,1],[2]"

    @pytest.mark.parametrize("table", ["latents", "models"])
    @pytest.mark.parametrize("name", ["checkpoint", "log_dir"])
    def test_arms_that_write_elsewhere(self, write, table, name):
        key = "embedder" if table == "latents" else "model"
        text = f"{SYNTHETIC}[{table}.net]\n{key} = 'SupervisedAEMLP'\n{name} = '/x'\n"
        with pytest.raises(
            ExperimentError, match=rf"{name}: writes files to any path.*trusted"
        ):
            Experiment.from_file(write(text))
        experiment = Experiment.from_file(write(text), trusted=True)
        assert experiment[table]["net"][name] == "/x"


class TestArguments:
    @pytest.mark.parametrize("path", [3, None, b"a.toml", ["a.toml"]])
    def test_what_is_no_path(self, write, path):
        with pytest.raises(TypeError, match=r"path must be a path; got .*"):
            Experiment.from_file(path)
        with pytest.raises(TypeError, match=r"base must be a path; got .*"):
            Experiment.from_dict({"data": {"synthetic": {}}}, base=path)
        if path is not None:
            with pytest.raises(TypeError, match=r"output must be a path; got .*"):
                Experiment.from_file(write(SYNTHETIC), path)
            with pytest.raises(TypeError, match=r"output must be a path; got .*"):
                Experiment.from_dict({"data": {"synthetic": {}}}, output=path)

    def test_empty_paths(self, write):
        with pytest.raises(
            ExperimentError, match=r'path must be a path; got "", which'
        ):
            Experiment.from_file("")
        with pytest.raises(ExperimentError, match=r'output must be a path; got ""'):
            Experiment.from_file(write(SYNTHETIC), "")

    def test_switches(self, write):
        with pytest.raises(TypeError, match="trusted must be True or False; got 'yes'"):
            Experiment.from_file(write(SYNTHETIC), trusted="yes")
        with pytest.raises(TypeError, match="trusted must be True or False; got 1"):
            Experiment.from_dict({"data": {"synthetic": {}}}, trusted=1)
        with pytest.raises(TypeError, match="verbose must be True or False; got 'no'"):
            Experiment.from_file(write(SYNTHETIC)).run(verbose="no")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a = " + "[" * 5000 + "]" * 5000, "nested too deeply"),
            ("seed = " + "9" * 5000, "not valid TOML: "),
        ],
    )
    def test_files_that_are_too_much(self, write, text, message):
        with pytest.raises(ExperimentError, match=message):
            Experiment.from_file(write(text))

    def test_a_mapping_in_itself(self):
        mapping = {"data": {}}
        mapping["data"]["synthetic"] = mapping
        with pytest.raises(
            ExperimentError, match="mapping: lists or tables are nested"
        ):
            Experiment.from_dict(mapping)

    def test_a_path_that_no_file_can_have(self):
        with pytest.raises(ExperimentError, match="cannot be read: embedded null"):
            Experiment.from_file("a\0b.toml")
