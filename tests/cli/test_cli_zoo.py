"""The command zoo: its list, and the files that it writes."""

import json
import tomllib

import pytest

from numerai_features.cli import main
from numerai_features.experiment._zoo import zoo, zoo_text


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_list_has_a_line_for_each(capsys):
    assert main(["zoo"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[: len(zoo())] == [f"{name:12}{text}" for name, text in zoo().items()]
    assert max(map(len, lines)) < 100
    assert main(["zoo", "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == {"experiments": zoo()}
    assert told.err == ""


def test_what_it_writes_is_the_experiment_and_says_what_to_do_next(here, capsys):
    assert main(["zoo", "fa"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Wrote fa.toml",
        "Next: numerai-features download",
        "Next: numerai-features run fa.toml",
    ]
    assert (here / "fa.toml").read_text() == zoo_text("fa")


def test_paths_are_relative_to_the_file(here, capsys):
    (here / "mine").mkdir()
    (here / "rows" / "v5.3").mkdir(parents=True)
    (here / "rows" / "v5.3" / "train.parquet").touch()
    arguments = ["zoo", "umap", "--output", "mine/my umap.toml", "--data", "rows"]
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "file": "mine/my umap.toml", "written": True, "data": "rows/v5.3",
        "data_there": True,
    }  # fmt: skip
    table = tomllib.loads((here / "mine" / "my umap.toml").read_text())["data"]
    assert table["files"][0] == "../rows/v5.3/train.parquet"
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert told.splitlines() == [
        "Already there: mine/my umap.toml",
        "Next: numerai-features run 'mine/my umap.toml'",
    ]


def test_the_download_has_the_same_folder_and_version(capsys):
    assert main(["zoo", "small", "--data", "my data", "--version", "v5.2"]) == 0
    line = "Next: numerai-features download --data 'my data' --version v5.2"
    assert capsys.readouterr().out.splitlines()[1] == line


def test_an_absolute_folder_stays_absolute(here):
    assert main(["zoo", "small", "--data", str(here / "d"), "--quiet"]) == 0
    table = tomllib.loads((here / "small.toml").read_text())["data"]
    assert table["meta_model"] == f"{here.as_posix()}/d/v5.3/meta_model.parquet"


def test_the_newest_version_of_the_folder_is_taken(here):
    for name in ("v5.2", "v5.10", "v5.9", "v6", "vx.1"):
        (here / "data" / name).mkdir(parents=True)
    assert main(["zoo", "small"]) == 0
    assert main(["zoo", "small", "--output", "old.toml", "--version", "v5.2"]) == 0
    for file, version in (("small.toml", "v510"), ("old.toml", "v52")):
        table = tomllib.loads((here / file).read_text())["data"]
        assert table["benchmark_column"] == f"{version}_lgbm_ender60"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["smal"], 2, "no experiment 'smal'. Did you mean 'small'?"),
        (["fa", "--version", "v5.1"], 2, "v5.1 does not have. Use v5.2 or later"),
        (["fa", "--output", ""], 2, '--output must be a path; got ""'),
        (["fa", "--data", ""], 2, '--data must be a path; got ""'),
        (["fa", "--output", "."], 1, "--output: . is a folder; expected the path"),
        (["fa", "--output", "no/a.toml"], 1, "the folder no does not exist. Make it"),
        (["fa", "--output", "mine.toml"], 1, "mine.toml exists and has other contents"),
    ],
)
def test_what_cannot_be_written_is_told_and_nothing_changes(
    here, capsys, arguments, status, message
):
    (here / "mine.toml").write_text("seed = 1\n")
    assert main(["zoo", *arguments]) == status
    told = capsys.readouterr()
    assert told.out == ""
    assert message in told.err
    assert [path.name for path in here.iterdir()] == ["mine.toml"]
    assert (here / "mine.toml").read_text() == "seed = 1\n"
