"""The commands: the whole way in one script, what they say, and that no key leaks."""

import itertools
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from offers import offer
from server import KEYS, SIGNATURE, cut, drop, refusal, status

from numerai_features.cli import main
from numerai_features.tournament import _http, _patience

MODEL = "my_model"
EXPERIMENT = """
[data]
files = ["data/v5.3/train.parquet", "data/v5.3/validation.parquet"]
benchmark = [
    "data/v5.3/train_benchmark_models.parquet",
    "data/v5.3/validation_benchmark_models.parquet",
]
meta_model = ["data/v5.3/meta_model.parquet"]

[targets]
main = "target_alpha_60"

[cv]
n_splits = 2
min_train_eras = 8

[models.ridge]
model = "Ridge"

[arms.ridge]
model = "ridge"

[output]
folder = "runs/ridge"
"""

# What a user puts into a script, and then the last line into a crontab.
SCRIPT = """
set -e
numerai-features download
numerai-features run ridge.toml
numerai-features fit ridge.toml --arm ridge
numerai-features predict runs/ridge/models/ridge --live data/v5.3/live.parquet
numerai-features export runs/ridge/models/ridge
numerai-features submit predictions.csv --model my_model --dry-run \\
    --live data/v5.3/live.parquet
numerai-features submit model.pkl --model my_model --data-version v5.3 --dry-run
numerai-features weekly runs/ridge/models/ridge --model my_model
numerai-features weekly runs/ridge/models/ridge --model my_model
numerai-features scores
"""


@pytest.fixture
def here(server, keys, tmp_path, monkeypatch):
    """A folder with an experiment."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ridge.toml").write_text(EXPERIMENT)
    return tmp_path


def bash(script):
    """Run a script, in which ``numerai-features`` is this package's command."""
    command = f'numerai-features() {{ "{sys.executable}" -m numerai_features "$@"; }}'
    return subprocess.run(
        ["bash", "-c", f"{command}\n{script}"], capture_output=True, text=True
    )


def test_from_download_to_weekly_in_one_script(server, here):
    done = bash(SCRIPT)
    assert done.returncode == 0, done.stderr
    assert len(server.submissions) == 1
    assert server.uploads == []
    told = done.stdout
    assert "data/v5.3/train.parquet: new, " in told
    assert (
        "Round 1343, model my_model: a dry run, nothing was sent; without --dry-run it"
        in told
    )
    assert "A dry run, nothing was sent. It would upload model.pkl" in told
    assert "takes no submissions of yours any more" in told
    first, second = (
        line
        for line in told.splitlines()
        if line.startswith("Round") and "dry" not in line
    )
    assert first == "Round 1343, model my_model: Numerai has accepted it."
    assert second.startswith("Round 1343, model my_model: nothing to do; sent at ")
    assert "Correlation with v53_lgbm_ender60: " in told
    assert_no_key(here, done.stdout + done.stderr)


def assert_no_key(folder, *texts):
    """Look for keys in files and texts, and for signatures in texts and our files."""
    for path in folder.rglob("*"):
        assert not any(key in str(path) for key in KEYS)
        if path.is_file():
            content = path.read_bytes()
            for secret in (*KEYS, SIGNATURE):
                assert secret.encode() not in content, path
    for text in texts:
        for secret in (*KEYS, SIGNATURE):
            assert secret not in text


ECHO = f"Token {KEYS[0]}${KEYS[1]} is not known: {KEYS[1]}"
COMMANDS = {
    "download": ["download"],
    "submit": ["submit", "predictions.csv", "--model", MODEL, "--force"],
    "upload": ["submit", "model.pkl", "--model", MODEL, "--data-version", "v5.3",
               "--yes"],
    "weekly": ["weekly", "runs/ridge/models/ridge", "--model", MODEL, "--wait", "0",
               "--force"],
    "scores": ["scores"],
}  # fmt: skip
FAULTS = {
    "refused": refusal(ECHO),
    "401": refusal(ECHO, 401),
    "500": status(500, ECHO.encode()),
    "302": status(302, ECHO.encode()),
    "dropped": drop,
    "cut": cut(5),
    "nonsense": status(200, json.dumps({"data": ECHO}).encode()),
}


def test_no_key_is_in_a_file_a_log_or_an_error(
    server, here, capfd, caplog, monkeypatch
):
    """Whatever goes wrong, wherever: nothing that a run leaves has the keys."""
    monkeypatch.setattr(_http, "DELAYS", (0.0,))
    monkeypatch.setattr(_patience, "POLL", 0.0)
    caplog.set_level(logging.DEBUG)
    assert main(["download", "--quiet"]) == 0
    assert main(["fit", "ridge.toml", "--arm", "ridge", "--quiet"]) == 0
    model = "runs/ridge/models/ridge"
    assert main(["predict", model, "--live", "data/v5.3/live.parquet"]) == 0
    assert main(["export", model]) == 0
    asked = {}
    for name, command in COMMANDS.items():
        server.asked.clear()
        assert main(command) == 0, name
        asked[name] = list(dict.fromkeys(server.asked))
    n_failed = 0
    for name, command in COMMANDS.items():
        for what, fault in itertools.product(asked[name], FAULTS.values()):
            server.faults.clear()
            server.fail(what, *[fault] * 9)
            n_failed += main(command + ["--json"] * (n_failed % 2)) != 0
    server.faults.clear()
    assert n_failed > 150
    server.keys = ("OTHER", "OTHER")
    for command in COMMANDS.values():
        if command != ["download"]:
            assert main(command) == 3
    told = capfd.readouterr()
    assert "***" in told.err  # what the server has said
    logs = "\n".join(f"{r.getMessage()} {r.args}" for r in caplog.records)
    assert not any(key in logs for key in KEYS)
    assert_no_key(here, told.out, told.err)


class TestStatuses:
    @pytest.fixture
    def csv(self, server, here):
        assert main(["download", "--files", "live", "--quiet"]) == 0
        ids = pd.read_parquet("data/v5.3/live.parquet").index
        table = pd.DataFrame({"id": ids, "prediction": range(len(ids))})
        table["prediction"] = (table["prediction"] + 0.5) / len(ids)
        table.to_csv("predictions.csv", index=False)
        return "predictions.csv"

    def check(self, capsys, expected, told, *arguments):
        capsys.readouterr()
        assert main([*arguments, "--json"]) == expected
        out, err = capsys.readouterr()
        answer = json.loads(out)
        assert answer["status"] == expected
        assert told in answer["error"]
        assert told in err

    def test_no_key(self, csv, capsys, monkeypatch):
        monkeypatch.delenv("NUMERAI_SECRET_KEY")
        self.check(capsys, 3, "NUMERAI_SECRET_KEY", "scores")

    def test_a_key_that_is_refused(self, server, csv, capsys):
        server.keys = ("OTHER", "OTHER")
        self.check(capsys, 3, "refused your key", "submit", csv, "--model", MODEL)

    def test_a_server_that_is_away(self, csv, capsys, monkeypatch):
        monkeypatch.setenv("NUMERAI_API_URL", "http://127.0.0.1:1")
        self.check(capsys, 3, "cannot be reached: Connection refused", "download")

    def test_a_closed_round(self, server, csv, capsys):
        server.is_open = None
        self.check(capsys, 4, "No round is open", "submit", csv, "--model", MODEL)

    def test_a_model_that_is_not_yours(self, csv, capsys):
        told = "Yours: 'my_model', 'other'"
        self.check(capsys, 1, told, "submit", csv, "--model", "mine")
        self.check(capsys, 1, told, "scores", "--model", "mine")

    def test_a_csv_that_would_be_refused(self, csv, capsys):
        with open(csv, "a") as file:
            file.write("one_more,2\n")
        told = "Numerai would refuse predictions.csv"
        self.check(capsys, 1, told, "submit", csv, "--model", MODEL)

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (["a.txt"], "must end with .csv or .pkl"),
            (["a.csv", "--image", "3.12"], "--image is for a .pkl"),
            (["a.csv", "--data-version", "v5.3"], "--data-version is for a .pkl"),
            (["a.csv", "--yes"], "--yes is for a .pkl"),
            (["a.csv", "--any-pickle"], "--any-pickle is for a .pkl"),
            (["a.pkl", "--live", "b"], "--live is for a .csv"),
            (["a.pkl", "--force"], "--force is for a .csv"),
            (["a.pkl"], "--data-version is needed"),
        ],
    )
    def test_options_of_the_other_kind(self, here, capsys, arguments, told):
        self.check(capsys, 2, told, "submit", *arguments, "--model", MODEL)

    def test_an_upload_is_confirmed(self, server, here, capsys):
        (here / "model.pkl").write_bytes(b"a")
        command = [
            "submit", "model.pkl", "--model", MODEL, "--data-version", "v5.3",
            "--any-pickle",
        ]  # fmt: skip
        self.check(capsys, 1, "any more", *command)
        self.check(capsys, 1, "--yes", *command)
        assert main([*command, "--yes", "--image", "3.12"]) == 0
        assert "to run with Python 3.12 and data v5.3" in capsys.readouterr().out
        assert len(server.uploads) == 1


def test_what_download_tells(server, here, rows, capsys):
    assert main(["download", "--files", "live", "features", "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert [file["name"] for file in files] == [
        "v5.3/live.parquet",
        "v5.3/features.json",
    ]
    assert files[0]["path"] == os.path.join("data", "v5.3", "live.parquet")
    assert (files[0]["rows"], files[1]["rows"]) == (50, None)
    assert all(file["is_new"] for file in files)
    offer(server, rows, live=1)
    assert main(["download", "--files", "live", "features"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("data/v5.3/live.parquet: new, 1")
    assert second.startswith("data/v5.3/features.json: unchanged, ")
    assert main(["download", "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_what_a_dry_run_tells_of_a_closed_round(server, here, capsys):
    assert main(["download", "--files", "live", "--quiet"]) == 0
    ids = pd.read_parquet("data/v5.3/live.parquet").index
    table = pd.DataFrame({"id": ids, "prediction": 0.5})
    table["prediction"] = [(i + 0.5) / len(ids) for i in range(len(ids))]
    table.to_csv("predictions.csv", index=False)
    server.is_open = None
    assert main(["submit", "predictions.csv", "--model", MODEL, "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "nothing was sent to model my_model. No round is open now, so it" in told
    assert "without --dry-run" not in told


@pytest.mark.parametrize("option", ["--quiet", "--json", ""])
def test_warnings_reach_the_standard_error_and_bars_do_not(
    server, here, rows, capsys, option
):
    """Of a line for cron, which mails what a command prints."""
    assert main(["download", "--quiet"]) == 0
    assert main(["fit", "ridge.toml", "--arm", "ridge", "--quiet"]) == 0
    features = [name for name in rows if name.startswith("feature")]
    live = pd.read_parquet("data/v5.3/live.parquet")
    live[features] = 4
    live[features[0]] = [i % 5 for i in range(len(live))]
    server.add("v5.3/live.parquet", live.astype(dict.fromkeys(features, "int8")))
    capsys.readouterr()
    command = ["weekly", "runs/ridge/models/ridge", "--model", MODEL, "--wait", "0"]
    assert main([*command, *filter(None, [option])]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("Note: Era X")
    assert "B/s" not in err
    assert "Era X" not in out or option == "--json"
    assert (out == "") == (option == "--quiet")


def test_the_line_for_cron_is_the_same_on_both_pages():
    docs = Path(__file__).parents[2] / "docs"
    lines = {
        line.strip()
        for page in ("commands", "tournament")
        for line in (docs / f"{page}.rst").read_text().splitlines()
        if "* * 2-6" in line
    }
    assert len(lines) == 1
    assert all(" . ./keys.sh && " in line and "--quiet" in line for line in lines)


def test_what_scores_tell(server, here, capsys):
    assert main(["scores"]) == 0
    assert capsys.readouterr().out.startswith("No scores yet")
    server.scores["id-of-other"] = [
        {"roundNumber": 1300, "displayName": "corr60", "value": 0.0123, "day": 3,
         "percentile": 0.5, "date": None, "resolved": False}
    ]  # fmt: skip
    assert main(["scores", "--model", "other"]) == 0
    assert "0.0123" in capsys.readouterr().out
    assert main(["scores", "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)["scores"]
    assert row == {"model": "other", "round": 1300, "resolved": False, "corr60": 0.0123}


@pytest.mark.parametrize("command", ["download", "submit", "scores", "weekly"])
def test_help_tells_where_keys_come_from(capsys, command):
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    told = " ".join(capsys.readouterr().out.split())
    expected = "No key" if command == "download" else "NUMERAI_PUBLIC_ID"
    assert expected in told


@pytest.mark.parametrize(
    ("command", "version"),
    [("download", "the newest"), ("weekly", "that of the model's fit")],
)
def test_help_tells_the_default_version(capsys, command, version):
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert f"such as v5.3 (default: {version})" in told


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("scores --rounds 0", "--rounds: expected a positive whole number; got '0'"),
        ("scores --rounds x", "--rounds: expected a positive whole number; got 'x'"),
        ("scores --model ../x", "--model: expected the name of one of your models"),
        ("weekly m --model a --wait -1", "--wait: expected a number of minutes, 0 or"),
        ("weekly m --model a --wait nan", "--wait: expected a number of minutes"),
        ("weekly m --model a --wait soon", "of minutes, 0 or more; got 'soon'"),
        ("weekly m --model ../x", "--model: expected the name of one of your models"),
        ("weekly m --model a --version 5.3", "--version: expected a version of the da"),
        ("download --version 5.3", "of the data, such as v5.3; got '5.3'"),
        ("download --files nope", "--files: v5.3 has no 'nope'"),
        ("submit a.csv --model a/b", "--model: expected the name of one of your mod"),
        (
            "submit a.pkl --model a --data-version 5.3",
            "--data-version: expected a v",
        ),
    ],
)
def test_wrong_arguments_have_their_status_and_the_names_of_options(
    server, here, capsys, command, told
):
    try:
        status = main(command.split())
    except SystemExit as error:
        status = error.code
    assert status == 2
    assert told in capsys.readouterr().err
