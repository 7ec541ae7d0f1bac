"""The way of the README from nothing to a submission, by commands; then each week."""

import io
import json
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
from numerai_tools import submissions as rules
from numerais_files import write_v53
from server import KEYS
from threadpoolctl import threadpool_limits

from numerai_features.cli import main

README = Path(__file__).parents[2] / "README.md"
LINES = re.findall(
    r"^\$ numerai-features (.+)$",
    re.search(r"```console\n(\$ numerai-features zoo.+?)```", README.read_text(), re.S)[
        1
    ],
    re.MULTILINE,
)
WEEKLY = "weekly runs/small/models/mix --model my_model"
TINY = {
    "every = 4": "every = 16",
    'model = "EraMLP"': 'model = "EraMLP"\nhidden = [8]\nmax_epochs = 1\nn_jobs = 1',
    'preset = "small" ': 'preset = "small"\nn_jobs = 1 #',
    "min_child_samples = 10000": "min_child_samples = 5, n_estimators = 3",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("numerai") / "v5.3"
    write_v53(folder)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def numerai(server, files):
    """The server with files like v5.3's."""
    server.files.clear()
    for name, content in files.items():
        server.add(f"v5.3/{name}", content)
    return server


def in_little_time(file):
    """Change an experiment of the zoo to few trees, and to a network of few units."""
    text = file.read_text()
    for old, new in TINY.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    file.write_text(text)


def check_submissions(numerai, files):
    """The server has one submission, which it would take."""
    [made] = numerai.submissions
    table = pd.read_csv(io.BytesIO(numerai.put[made["filename"]]))
    live = pd.read_parquet(io.BytesIO(files["live.parquet"]))
    rules.validate_submission_numerai(pd.Series(live.index), table)
    assert len(table) == len(live)


def contents(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_readmes_way(numerai, files, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(line):
        with threadpool_limits(1):
            status = main(shlex.split(line.replace("NAME", "my_model")))
        told = capsys.readouterr()
        assert status == 0, told.err
        return told.out

    assert [line.split()[0] for line in LINES] == [
        "zoo", "download", "run", "fit", "predict", "submit"
    ]  # fmt: skip
    for line in LINES:
        run(line)
        if line.startswith("zoo"):
            in_little_time(tmp_path / "small.toml")
    assert not numerai.submissions  # the last line is a dry run, without a key

    monkeypatch.setenv("NUMERAI_PUBLIC_ID", KEYS[0])
    monkeypatch.setenv("NUMERAI_SECRET_KEY", KEYS[1])
    first = json.loads(run(f"{WEEKLY} --json"))
    assert (first["state"], first["is_new"]) == ("accepted", True)
    check_submissions(numerai, files)
    before = contents(tmp_path)
    again = json.loads(run(f"{WEEKLY} --json"))
    assert again == {**first, "is_new": False}
    assert contents(tmp_path) == before
    assert len(numerai.submissions) == 1
    run("scores")
