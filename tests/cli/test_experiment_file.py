"""Reading and checking experiment files."""

import inspect
import re
import tomllib
from pathlib import Path

import pytest

from numerai_features.cli._experiment import ExperimentError, read_experiment
from numerai_features.cli._schema import EXPERIMENT, Field, Table, describe
from numerai_features.cli._toml import find_lines, line_of, write_toml
from numerai_features.datasets import make_era_panel
from numerai_features.embedders import FactorAnalysisEmbedder

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SYNTHETIC = "[data.synthetic]\nn_eras = 30\n"
FA = '[latents.fa]\nembedder = "FactorAnalysisEmbedder"\n'


@pytest.fixture
def write(tmp_path):
    def write(text):
        file = tmp_path / "mine.toml"
        file.write_text(text, encoding="utf-8")
        return file

    return write


@pytest.fixture
def parquet(tmp_path):
    for name in ("train.parquet", "features.json"):
        (tmp_path / name).touch()
    return '[data]\nfiles = ["train.parquet"]\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "sed = 1\n",
            r"line 1: sed: unknown key\. Did you mean 'seed'\? Allowed: seed",
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
            r"line 3: cv\.test_eras: goes with scheme =",
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
            r"line 2: .*\.a: got \"1979-05-27\"; expected",
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
            r"line 1: latents\.originals: an arm's name must",
        ),
        (
            "[models.net]\nmodel = 'DAEEmbedder'",
            r"line 2: models\.net\.model: .*unknown model.* Allowed: SupervisedAEMLP",
        ),
        (
            f"{FA}[models.fa]\nmodel = 'SupervisedAEMLP'",
            r"models\.fa: there is a \[latents\.fa\] already",
        ),
        (
            FA.replace("fa", "'f a'"),
            r"line 1: latents\.f a: an arm's name must be made",
        ),
    ],
)
def test_each_problem_names_line_key_and_what_is_allowed(write, text, message):
    # top-level keys come before any table
    file = write(f"{text}\n{SYNTHETIC}")
    with pytest.raises(ExperimentError, match=message) as caught:
        read_experiment(file)
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
            r"line 2: data\.metadata: goes wi",
        ),
        (
            "[data]\nfiles = ['b.parquet']",
            r"line 2: data\.files: there is no file .*b\.p",
        ),
        (
            "[data]\nfiles = ['b.parquet']",
            r"targets\.main: is required with data\.files",
        ),
    ],
)
def test_problems_of_the_data(write, text, message):
    with pytest.raises(ExperimentError, match=message):
        read_experiment(write(text))


@pytest.mark.parametrize(
    ("name", "purge"), [("bernie", 16), ("ender_60", 16), ("ender_20", 8)]
)
def test_auto_purge_is_that_of_the_target_or_the_longest(write, parquet, name, purge):
    text = parquet + f"[targets]\nmain = 'target_{name}'\n[cv]\npurge = 'auto'"
    assert read_experiment(write(text)).tables["cv"]["purge"] == purge


def test_all_problems_are_told_at_once_in_the_order_of_lines(write):
    text = f"sed = 1\n{FA}n_componets = 3\n[model]\npreset = 'smal'\n[cv]\nembargo = -1"
    with pytest.raises(ExperimentError, match="5 problems") as caught:
        read_experiment(write(text))
    lines = str(caught.value).splitlines()[1:]
    keys = ["data", "sed", "latents.fa.n_componets", "model.preset", "cv.embargo"]
    assert [re.sub(r"  (line \d+: )?([\w.]+):.*", r"\2", x) for x in lines] == keys


def test_syntax_error_and_missing_file(write, tmp_path):
    with pytest.raises(
        ExperimentError, match=r"mine\.toml: line 2: not valid TOML at c"
    ):
        read_experiment(write("seed = 1\n[cv\n"))
    with pytest.raises(
        ExperimentError, match=r"none\.toml cannot be read: No such file"
    ):
        read_experiment(tmp_path / "none.toml")


def test_defaults_are_filled_in(write, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    experiment = read_experiment(write(f"seed = 3\n{SYNTHETIC}horizon = 12\n{FA}"))
    assert experiment["targets"]["main"] == "target_alpha_60"
    assert experiment["cv"]["purge"] == 16
    assert experiment["data"]["synthetic"]["random_state"] == 3
    assert experiment.folder == tmp_path / "runs" / "mine"
    assert experiment["data"]["panel"] == str(tmp_path / "runs" / "mine" / "panel")
    assert experiment.embedders["fa"]["max_iter"] == FactorAnalysisEmbedder().max_iter
    arms = {"originals": "originals", "fa": "+ fa", "random": "+ random"}
    assert experiment.arms == arms


def test_files_are_relative_to_the_experiment_file(write, parquet, tmp_path):
    text = f"{parquet}panel = 'p'\n[targets]\nmain = 'target_ender_20'\n"
    data = read_experiment(write(text))["data"]
    assert data["files"] == [str(tmp_path / "train.parquet")]
    assert data["metadata"] == str(tmp_path / "features.json")
    assert data["panel"] == str(tmp_path / "p")
    (tmp_path / "features.json").unlink()
    named = f"{text}[features]\nset = ['feature_a']\n"
    assert read_experiment(write(named))["data"]["metadata"] is None


@pytest.mark.parametrize("output", [None, "elsewhere"])
def test_resolved_experiment_round_trips(write, tmp_path, output):
    text = f"""
        {SYNTHETIC}rows_per_era = [20, 30]
        {FA}rotation = "varimax"
        [model]
        params = {{ num_leaves = 5, learning_rate = 1e-3, names = ["a"], ok = true }}
        [features]
        set = ["feature_0000", 'quote " back \\ \u00e9']
        """
    experiment = read_experiment(write(text), output=output)
    resolved = tmp_path / "resolved.toml"
    resolved.write_text(experiment.to_toml(), encoding="utf-8")
    again = read_experiment(resolved)
    assert again.tables == experiment.tables
    assert again.identity() == experiment.identity()
    assert again.to_toml() == experiment.to_toml()


def test_identity_leaves_out_what_does_not_change_results(write):
    one = read_experiment(write(SYNTHETIC), output="a")
    other = read_experiment(write(f"{SYNTHETIC}[model]\nn_jobs = 1"), output="b")
    assert one.identity() == other.identity()
    assert one.identity() != read_experiment(write(f"seed=1\n{SYNTHETIC}")).identity()


def test_written_toml_is_read_as_it_was():
    tables = {
        "top": 1,
        "text": 'quote " back \\ tab \t del \x7f e-acute \u00e9 \U0001f600',
        "a": {"x": 1e-11, "params": {"odd key": [1, 2], "yes": True}, "b c": {"d": []}},
    }
    assert tomllib.loads(write_toml(tables)) == tables


def test_lines_of_keys():
    text = """\
# [no.header]
seed = 1
[latents."f a"]   # a comment
embedder = "x"
deep.er = 2
[model]
params = { a = 1 }
"""
    lines = find_lines(text)
    assert lines["latents", "f a", "embedder"] == 4
    assert lines["latents", "f a", "deep", "er"] == 5
    assert line_of(("latents", "f a", "deep"), lines) == 5
    assert line_of(("latents",), lines) == 3
    assert line_of(("model", "params", "a"), lines) == 7
    assert line_of(("cv", "purge"), lines) is None


def test_synthetic_table_is_the_signature_of_make_era_panel():
    fields = EXPERIMENT.tables["data"].tables["synthetic"].fields
    signature = inspect.signature(make_era_panel).parameters
    ours = {name: field.default for name, field in fields.items()}
    theirs = {n: p.default for n, p in signature.items() if n in ours}
    assert ours == theirs
    assert set(signature) - set(ours) == {"path", "overwrite", "return_truth"}


def test_the_example_is_right(write, tmp_path):
    folder = tmp_path / "v5.3"
    folder.mkdir()
    for name in ("train.parquet", "validation.parquet", "features.json"):
        (folder / name).touch()
    text = (EXAMPLES / "experiment.toml").read_text(encoding="utf-8")
    experiment = read_experiment(write(text))
    assert list(experiment.embedders) == ["fa", "fa_varimax", "dae"]
    assert experiment["data"]["metadata"] == str(folder / "features.json")
    # what has no comment that says otherwise is a default
    written = tomllib.loads(re.sub(r"\n(every|set|test_eras|params) .*", "", text))
    for name in ("features", "cv", "latents", "model"):
        for key, field in EXPERIMENT.tables[name].fields.items():
            assert written[name].get(key, field.default) == field.default


def test_every_field_is_described():
    def walk(table: Table):
        yield from table.fields.items()
        for inner in table.tables.values():
            yield from walk(inner)

    text = describe(EXPERIMENT)
    for name, field in walk(EXPERIMENT):
        assert isinstance(field, Field)
        assert field.help
        assert f"  {name}: {field.expected}" in text
