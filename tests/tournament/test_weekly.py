"""Each round: waited for, downloaded, predicted and submitted, once."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numerai_tools import submissions as rules
from offers import contents, offer, offered
from server import done_then_status, refusal, status

from numerai_features._whole import locked
from numerai_features.experiment import Experiment, FittedModel
from numerai_features.tournament import (
    NoOpenRound,
    ServerError,
    _patience,
    _submit,
    _weekly,
    download,
    scores,
    submit_model,
    submit_predictions,
    weekly,
)
from numerai_features.tournament._client import Round
from numerai_features.tournament._fetch import Remote
from numerai_features.tournament._log import SubmissionLog

MODEL = "my_model"
KILLED = Path(__file__).with_name("killed.py")


@pytest.fixture
def data(server, tmp_path):
    """The folder of downloaded files."""
    download(tmp_path / "data", verbose=False)
    server.asked.clear()
    return tmp_path / "data"


@pytest.fixture
def fitted(data, tmp_path):
    """The folder of a model that was fitted on them."""
    tables = {
        "data": {"files": [str(data / "v5.3" / "train.parquet")]},
        "targets": {"main": "target_alpha_60"},
        "models": {"ridge": {"model": "Ridge"}},
        "arms": {"ridge": {"model": "ridge"}},
    }
    experiment = Experiment.from_dict(tables, output=str(tmp_path / "run"))
    return experiment.fit(verbose=False).folder


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Ask again at once."""
    monkeypatch.setattr(_patience, "POLL", 0.05)


@pytest.fixture
def go(fitted, data, keys, tmp_path):
    """Run it, with the folders of the test."""

    def run(model=MODEL, **options):
        given = {
            "folder": data, "submissions": tmp_path / "sent", "wait": 0.2,
            "verbose": False,
        }  # fmt: skip
        return weekly(fitted, model, **given | options)

    return run


def log_of(tmp_path, model=MODEL):
    return list(SubmissionLog(tmp_path / "sent" / model))


def test_a_round_is_predicted_and_submitted(server, go, fitted, data, tmp_path):
    sent = go()
    assert (sent.state, sent.round, sent.is_new) == ("accepted", 1343, True)
    [made] = server.submissions
    csv = tmp_path / "sent" / MODEL / "round_1343.csv"
    assert server.put[made["filename"]] == csv.read_bytes()
    live = pd.read_parquet(data / "v5.3" / "live.parquet")
    table = pd.read_csv(io.BytesIO(csv.read_bytes()))
    rules.validate_ids_numerai(pd.Series(live.index), table, "id")
    rules.validate_values(table, rules.validate_headers_numerai(table)[1])
    expected = FittedModel.open(fitted).predict(live)["prediction"]
    np.testing.assert_allclose(table.set_index("id")["prediction"], expected)
    assert list(sent.benchmark) == ["v53_lgbm_ender60"]


def test_the_second_time_nothing_is_done(server, go, tmp_path):
    first = go()
    server.asked.clear()
    again = go()
    assert not again.is_new
    assert (again.id, again.checksum) == (first.id, first.checksum)
    assert "submission_upload_auth" not in server.asked  # the log knows
    (tmp_path / "sent" / MODEL / "submissions.sealed").unlink()
    again = go()  # the server knows
    assert (again.state, again.is_new) == ("already there", False)
    assert len(server.submissions) == 1
    assert go(force=True).is_new


def test_a_damaged_log_loses_nothing(server, go, tmp_path):
    go()
    log = tmp_path / "sent" / MODEL / "submissions.sealed"
    log.write_bytes(log.read_bytes()[:-9])
    with pytest.warns(UserWarning, match=r"kept as submissions\.sealed\.unusable"):
        assert go().state == "already there"
    assert len(server.submissions) == 1


def test_the_next_round(server, go, rows, tmp_path):
    go()
    server.round += 1
    offer(server, rows, live=1)
    sent = go()
    assert (sent.round, sent.is_new) == (1344, True)
    assert [each["round"] for each in server.submissions] == [1343, 1344]
    assert [each.round for each in log_of(tmp_path)] == [1343, 1344]
    assert (tmp_path / "sent" / MODEL / "round_1344.csv").exists()


def test_each_model_has_its_own(server, go, tmp_path):
    go()
    assert go("other").is_new
    assert len(server.submissions) == 2


def test_it_waits_for_the_round(server, go):
    server.is_open = None
    timer = threading.Timer(0.4, lambda: setattr(server, "is_open", True))
    timer.start()
    assert go(wait=20).is_new
    timer.join()


def test_it_waits_for_the_rows_of_the_round(server, go, rows):
    """Those of the round before may lie there for a while."""
    go()
    server.round += 1
    timer = threading.Timer(0.5, lambda: offer(server, rows, live=1))
    timer.start()
    sent = go(wait=20)
    timer.join()
    live = pd.read_parquet(io.BytesIO(server.files["v5.3/live.parquet"].content))
    csv = pd.read_csv(io.BytesIO(server.put[sent.filename]))
    assert list(csv["id"]) == list(live.index)


def days_old(server, n_days):
    """Let the live rows be those of an earlier round."""
    now = datetime.now(UTC).replace(microsecond=0)
    server.files["v5.3/live.parquet"].modified = now - timedelta(days=n_days)


def test_the_first_time_it_waits_for_the_rows_too(server, go, rows, tmp_path):
    """No log tells that the rows are old: their date does."""
    days_old(server, 5)
    with pytest.raises(NoOpenRound, match=r"rows of an earlier round \(written 20"):
        go()
    assert server.submissions == []
    offer(server, rows, live=1)
    assert go().is_new
    offer(server, rows, live=2)
    server.files["v5.3/live.parquet"].modified = None  # the server does not tell
    server.round += 1
    assert go().is_new


def test_rows_that_were_written_just_before_the_round_opened(server, go):
    opened = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)
    minutes = timedelta(minutes=20)
    server.files["v5.3/live.parquet"].modified = opened - minutes
    assert go().is_new


def test_a_csv_without_live_rows_tells_which_it_predicts(server, go, tmp_path):
    sent = submit_predictions(
        go(dry_run=True).file, MODEL, submissions=tmp_path / "sent"
    )
    assert sent.is_new
    server.round += 1
    with pytest.raises(NoOpenRound, match="rows of an earlier round"):
        go()
    assert len(server.submissions) == 1


def test_a_submission_of_other_rows_is_replaced(server, go, rows, tmp_path):
    csv = go(dry_run=True).file
    submit_predictions(csv, MODEL, submissions=tmp_path / "sent")
    offer(server, rows, live=1)  # the rows of the round, at last
    with pytest.warns(UserWarning, match=r"1343 does not predict the rows of .*live"):
        sent = go()
    assert sent.is_new
    assert "live1_0" in server.put[sent.filename].decode()
    assert not go().is_new
    assert len(server.submissions) == 2


def test_it_does_not_wait_for_ever(server, go):
    go()
    server.round += 1
    with pytest.raises(NoOpenRound, match=r"1344 is open, .* rows of an earlier round"):
        go()
    server.is_open = None
    start = time.monotonic()
    with pytest.raises(NoOpenRound, match=r"No round has opened within 0\.005 minutes"):
        go(wait=0.3)
    assert time.monotonic() - start < 10
    assert len(server.submissions) == 1


def test_a_server_that_is_away_while_it_waits(server, go):
    server.fail("rounds", *[status(500)] * 6)
    assert go(wait=20).is_new


@pytest.mark.parametrize(
    "asked",
    ["account", "listDatasets", "dataset", "GET v5.3/live.parquet", "model",
     "GET v5.3/live_benchmark_models.parquet", "submission_upload_auth",
     "PUT predictions", "create_submission"],
)  # fmt: skip
def test_brief_trouble_of_the_server_is_waited_for(server, go, asked):
    server.fail(asked, *[status(503)] * 8)
    assert go(wait=20).state in ("accepted", "sent")
    assert len(server.submissions) == 1
    server.fail("account", *[status(503)] * 8)
    with pytest.raises(ServerError, match="503"):
        go(wait=0)


def test_trouble_is_not_waited_for_longer_than_the_round(server, go, monkeypatch):
    client = _weekly.Client
    now = datetime.now(UTC)
    soon = Round(1343, now - timedelta(hours=1), now + timedelta(seconds=1))
    monkeypatch.setattr(client, "open_round", lambda self: soon)
    server.fail("dataset", *[status(503)] * 10_000)
    start = time.monotonic()
    with pytest.raises(ServerError, match="503"):
        go(wait=60)
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("name", ["live", "live_benchmark_models"])
def test_another_process_that_downloads_is_waited_for(server, go, data, name):
    """Two models at the same minute, with one folder of files."""
    file = data / "v5.3" / f"{name}.parquet"
    file.unlink()
    remote = server.files[f"v5.3/{file.name}"]
    told = format_datetime(remote.modified, usegmt=True)
    identity = Remote(len(remote.content), remote.etag, told).identity
    part = file.resolve().with_name(f".{file.name}.{identity}.part")
    part.touch()
    done = threading.Event()

    def hold():
        with locked(part) as is_ours:
            assert is_ours
            done.wait(0.5)

    other = threading.Thread(target=hold)
    other.start()
    time.sleep(0.1)
    assert go(wait=20).is_new
    other.join()


def test_a_round_that_closes_meanwhile(server, go, monkeypatch):
    predict = _weekly._predict

    def late(*args):
        predict(*args)
        server.round += 1

    monkeypatch.setattr(_weekly, "_predict", late)
    with pytest.raises(NoOpenRound, match="1343 has closed before the predictions"):
        go()
    assert server.submissions == []


def test_a_dry_run_sends_nothing(server, go, tmp_path):
    sent = go(dry_run=True)
    assert (sent.state, sent.round) == ("not sent", 1343)
    assert server.put == {}
    assert log_of(tmp_path) == []
    assert Path(sent.file).exists()


def test_a_dry_run_needs_no_key(server, go, monkeypatch):
    monkeypatch.delenv("NUMERAI_PUBLIC_ID")
    monkeypatch.delenv("NUMERAI_SECRET_KEY")
    assert go(dry_run=True).state == "not sent"
    with pytest.raises(ServerError, match="NUMERAI_PUBLIC_ID"):
        go()


def test_two_at_once(server, go, tmp_path):
    folder = tmp_path / "sent" / MODEL
    folder.mkdir(parents=True)
    with (
        _weekly.only_one(folder),
        pytest.raises(BlockingIOError, match="Another process is submitting"),
    ):
        go()


def test_a_lost_answer(server, go):
    server.fail("create_submission", done_then_status(504))
    assert go().state == "accepted"
    assert not go().is_new
    assert len(server.submissions) == 1


def test_what_is_never_listed_is_told(server, go, tmp_path):
    nothing = status(200, b'{"data": {"model": {"submissions": []}}}')
    server.fail("model", *[nothing] * 99)
    assert go().state == "sent"
    assert go().state == "sent"  # it may take a moment
    log = SubmissionLog(tmp_path / "sent" / MODEL)
    [sent] = log
    earlier = datetime.now(UTC) - timedelta(minutes=11)
    log.put(replace(sent, sent_at=earlier.isoformat(timespec="seconds")))
    with pytest.raises(ServerError, match=r"1343 at .* does not list it: .*--force"):
        go()
    csv = tmp_path / "sent" / MODEL / "round_1343.csv"
    with pytest.raises(ServerError, match="does not list it"):
        submit_predictions(csv, MODEL, submissions=tmp_path / "sent")
    server.faults.clear()
    assert go().state == "accepted"
    assert len(server.submissions) == 1


@pytest.mark.parametrize("why", [status(503), refusal("permission denied")])
def test_a_lost_answer_that_cannot_be_asked_for(server, go, why):
    """It is not sent again before the server has said that it is not there."""
    server.fail("create_submission", done_then_status(504))
    server.fail("submissions", *[why] * 40)
    with pytest.raises(ServerError, match=r"nobody knows whether .* Run this again"):
        go(wait=0)
    with pytest.raises(ServerError):
        go(wait=0)
    assert len(server.submissions) == 1
    server.faults.clear()
    assert go().state == "accepted"
    assert len(server.submissions) == 1


def test_a_lost_answer_while_the_server_is_away(server, go):
    server.fail("create_submission", done_then_status(504))
    server.fail("submissions", *[status(503)] * 9)
    sent = go(wait=20)
    assert (sent.state, sent.is_new) == ("accepted", True)
    assert len(server.submissions) == 1


def test_another_machine_submits_meanwhile(server, go, monkeypatch, tmp_path):
    predict = _weekly._predict

    def late(*args):
        predict(*args)
        monkeypatch.setattr(_weekly, "_predict", predict)
        assert go(submissions=tmp_path / "other").is_new

    monkeypatch.setattr(_weekly, "_predict", late)
    assert go().state == "already there"
    assert len(server.submissions) == 1


def test_an_expired_key_is_told_and_the_next_run_goes_on(server, go, tmp_path):
    server.fail("create_submission", refusal("Token has expired"))
    with pytest.raises(ServerError, match=r"refused your key .* has expired"):
        go()
    assert log_of(tmp_path) == []
    assert go().is_new


def test_unfamiliar_rows_are_told(server, go, rows, fitted, data):
    features = [name for name in rows if name.startswith("feature")]
    content = server.files["v5.3/live.parquet"].content
    live = pd.read_parquet(io.BytesIO(content))
    live[features] = np.int8(4)
    live[features[0]] = np.arange(len(live), dtype=np.int8) % 5
    server.add("v5.3/live.parquet", live)
    with pytest.warns(UserWarning, match="Era X") as told:
        assert go().is_new
    file = data / "v5.3" / "live.parquet"
    assert [str(each.message) for each in told] == FittedModel.open(fitted).unfamiliar(
        file
    )


def test_rows_of_another_version(server, go, rows):
    renamed = rows.rename(columns={"feature_0003": "feature_other"})
    offer(server, renamed, version="v5.4")
    with pytest.raises(ValueError, match="feature_0003"):
        go(version="v5.4")
    assert go().is_new  # by default it is the version of its fit


def test_an_exported_model_is_not_uploaded_for_other_data(server, keys, fitted):
    file = FittedModel.open(fitted).export(fitted.parent / "model.pkl", image="3.12")
    given = {"image": "3.12", "confirmed": True}
    with pytest.raises(ValueError, match=r"was exported for 'v5\.3'"):
        submit_model(file, MODEL, data_version="v5.2", **given)
    assert submit_model(file, MODEL, data_version="v5.3", **given).state == "sent"


def test_data_that_are_not_offered_any_more(server, go, rows):
    server.is_open = None  # it is told before it waits
    server.files.clear()
    offer(server, rows, version="v5.4")
    told = (
        r"fitted on the data v5\.3, which .* any more .* 'v5\.4'.* fit the model again"
    )
    with pytest.raises(ValueError, match=told):
        go()
    with pytest.raises(ValueError, match=r"^version='v5\.9' is not on the server"):
        go(version="v5.9")


class TestBenchmark:
    @pytest.fixture
    def needs_benchmark(self, data, tmp_path):
        tables = {
            "data": {
                "files": [str(data / "v5.3" / "train.parquet")],
                "benchmark": [str(data / "v5.3" / "train_benchmark_models.parquet")],
            },
            "targets": {"main": "target_alpha_60"},
            "model": {"n_jobs": 1, "params": {"n_estimators": 5}},
            "arms": {"trees": {"benchmark_feature": True}},
        }
        experiment = Experiment.from_dict(tables, output=str(tmp_path / "other"))
        return experiment.fit(verbose=False).folder

    def test_it_is_downloaded(self, server, go, needs_benchmark, data, monkeypatch):
        model = FittedModel.open(needs_benchmark)
        assert model.benchmark == "v53_lgbm_ender60"
        sent = weekly(
            needs_benchmark, MODEL, folder=data, verbose=False, wait=0.2,
            submissions=data.parent / "sent",
        )  # fmt: skip
        live = data / "v5.3" / "live.parquet"
        benchmark = data / "v5.3" / "live_benchmark_models.parquet"
        expected = model.predict(live, benchmark)["prediction"]
        own = pd.read_csv(sent.file, index_col="id")["prediction"]
        np.testing.assert_allclose(own, expected)

    def test_one_of_another_round_is_waited_for(
        self, server, go, needs_benchmark, data, rows
    ):
        offer(server, rows, live=1)
        new = server.files["v5.3/live_benchmark_models.parquet"]
        offer(server, rows, live=0)
        server.files["v5.3/live_benchmark_models.parquet"] = new
        options = {
            "folder": data, "verbose": False, "wait": 0.2,
            "submissions": data.parent / "sent",
        }  # fmt: skip
        with pytest.raises(NoOpenRound, match="does not have the rows of"):
            weekly(needs_benchmark, MODEL, **options)
        assert go().benchmark is None  # a model that needs none does without


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("wait", "1", "wait must be a number of seconds"),
        ("wait", -1, "wait must be a number of seconds"),
        ("wait", float("nan"), "wait must be a number of seconds"),
        ("dry_run", 1, "dry_run must be True or False"),
        ("force", None, "force must be True or False"),
        ("verbose", "no", "verbose must be True or False"),
        ("folder", 3, "folder must be a path"),
        ("submissions", None, "submissions must be a path"),
        ("model", "", "model must be the name of one of your models"),
        ("version", "5.3", "version must be a version of the data"),
        ("model", "mine", "no model of yours"),
        ("model", "../mine", "model must be the name of one of your models"),
    ],
)
def test_nonsense_is_told(server, go, name, value, told):
    with pytest.raises((ValueError, TypeError), match=told):
        go(**{name: value})
    assert server.put == {}


def test_a_model_that_is_none_is_told_before_it_waits(server, data, keys, tmp_path):
    server.is_open = None
    with pytest.raises(FileNotFoundError, match="There is no"):
        weekly(
            tmp_path / "nothing", MODEL, folder=data, verbose=False, wait=0,
            submissions=tmp_path / "sent",
        )  # fmt: skip


class TestScores:
    def score(self, number, name, value, day, resolved=False):
        return {
            "roundNumber": number, "displayName": name, "value": value, "day": day,
            "percentile": 0.5, "date": "2026-11-01T00:00:00Z", "resolved": resolved,
        }  # fmt: skip

    def test_the_latest_of_each_round_beside_what_was_sent(self, server, go, tmp_path):
        sent = go()
        model = server.models[MODEL]
        server.scores[model] = [
            self.score(1342, "mmc60", 0.02, 60, resolved=True),
            self.score(1343, "corr60", 0.03, 2),
            self.score(1343, "corr60", 0.01, 1),
            self.score(1343, "bmc60", None, 2),
        ]
        table = scores(folder=tmp_path / "sent")
        assert list(table.index) == [(MODEL, 1342), (MODEL, 1343)]
        assert table.loc[(MODEL, 1343), "corr60"] == 0.03
        assert table.loc[(MODEL, 1342), "mmc60"] == 0.02
        assert list(table["resolved"]) == [True, False]
        assert table.loc[(MODEL, 1343), "checksum"] == sent.checksum
        correlation = sent.benchmark["v53_lgbm_ender60"]
        assert table.loc[(MODEL, 1343), "with v53_lgbm_ender60"] == correlation
        table = scores([MODEL], rounds=1, folder=tmp_path / "nowhere")
        assert list(table.index) == [(MODEL, 1343)]

    def test_none_yet(self, server, keys, tmp_path):
        table = scores(folder=tmp_path)
        assert table.empty
        assert table.index.names == ["model", "round"]

    def test_what_is_wrong(self, server, keys, tmp_path):
        with pytest.raises(ValueError, match="no model of yours"):
            scores(["mine"], folder=tmp_path)
        with pytest.raises(ValueError, match="models must be a list of names"):
            scores(MODEL, folder=tmp_path)
        with pytest.raises(ValueError, match="rounds must be a positive whole"):
            scores(rounds=0, folder=tmp_path)


@pytest.fixture
def run_killed(server, keys):
    """Return a function that runs commands, and kills them; see `killed`."""
    process = subprocess.Popen(
        [sys.executable, str(KILLED)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip

    def run(at, *arguments):
        print(json.dumps([at, *map(str, arguments)]), file=process.stdin, flush=True)
        return json.loads(process.stdout.readline())

    with process:
        yield run
        process.stdin.close()


POINTS = pytest.mark.parametrize("n", [3, pytest.param(10, marks=pytest.mark.slow)])


def spread(n_events, n_points):
    """Return points of time that are spread over all events, both ends included."""
    return sorted({round(at) for at in np.linspace(1, n_events, n_points)})


class TestKilled:
    """At several points: it goes on, nothing twice, nothing half."""

    @POINTS
    def test_weekly(self, server, run_killed, fitted, data, tmp_path, n):
        def command(folder):
            return [
                "weekly", fitted, "--model", MODEL, "--data", data, "--wait", "0",
                "--submissions", folder, "--quiet", "--json",
            ]  # fmt: skip

        status, out, n_events = run_killed(0, *command(tmp_path / "whole"))
        assert status == 0, out
        expected = json.loads(out)["checksum"]
        assert n_events > 30
        for at in spread(n_events, n):
            folder = tmp_path / f"at {at}"
            server.submissions.clear()
            assert run_killed(at, *command(folder))[0] == -signal.SIGKILL, at
            status, out, _ = run_killed(0, *command(folder))
            assert status == 0, (at, out)
            told = json.loads(out)
            assert len(server.submissions) == 1, at
            assert told["state"] == "accepted", at
            assert told["checksum"] == expected, at
            left = {path.name for path in (folder / MODEL).iterdir()}
            assert left == {"round_1343.csv", "submissions.sealed"}, at

    @pytest.mark.parametrize("taken", [False, True])
    def test_a_lost_answer_under_another_name(self, server, go, monkeypatch, taken):
        """Killed while sending; the round tells that it has a submission."""
        server.renames = "other-"

        def stop(client, about, model_id, patience):
            if taken:
                client.create_submission(about.filename, model_id)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(_submit, "_create", stop)
            with pytest.raises(KeyboardInterrupt):
                go()
        assert go().state == ("already there" if taken else "accepted")
        assert len(server.submissions) == 1

    def test_in_the_middle_of_a_download(self, server, keys, tmp_path):
        """What has come is not asked for again."""
        server.add("v5.3/features.json", b'"' + b"a" * 3_000_000 + b'"')
        ended = threading.Event()

        def half(handler):
            handler.n_sent = 1_500_000
            answer = handler.wfile.flush

            def wait():
                answer()
                ended.wait(60)

            handler.wfile.flush = wait
            return False

        server.fail("GET v5.3/features.json", half)
        command = [sys.executable, "-m", "numerai_features", "download", "--files",
                   "features", "--data", str(tmp_path)]  # fmt: skip
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            part = []
            while not part or part[0].stat().st_size < 1_000_000:
                time.sleep(0.05)
                part = list(tmp_path.glob("v5.3/.features.json.*.part"))
            process.kill()
        ended.set()
        have = part[0].stat().st_size
        server.asked.clear()
        server.ranges.clear()
        [file] = download(tmp_path, files=["features"], verbose=False)
        assert server.ranges == [f"bytes={have}-"]
        assert file.path.read_bytes() == server.files["v5.3/features.json"].content

    @POINTS
    def test_download(self, server, run_killed, tmp_path, n):
        def command(folder):
            return ["download", "--data", folder, "--quiet"]

        status, out, n_events = run_killed(0, *command(tmp_path / "whole"))
        assert status == 0, out
        for at in spread(n_events, n):
            folder = tmp_path / f"at {at}"
            assert run_killed(at, *command(folder))[0] == -signal.SIGKILL, at
            finished = {file.name for file in folder.glob("v5.3/[!.]*")}
            status, out, _ = run_killed(0, *command(folder), "--json")
            assert status == 0, (at, out)
            new = {each["name"][5:] for each in json.loads(out)["files"]
                   if each["is_new"]}  # fmt: skip
            assert new == set(offered(server)) - finished, at  # nothing twice
            assert contents(folder / "v5.3") == offered(server), at


def test_a_csv_of_the_same_round_may_replace_it(server, go, tmp_path):
    sent = go()
    table = pd.read_csv(sent.file)
    table["prediction"] = table["prediction"][::-1].to_numpy()
    table.to_csv(sent.file, index=False)
    folder = tmp_path / "sent"
    assert submit_predictions(sent.file, MODEL, submissions=folder).is_new
    again = go()
    assert not again.is_new
    assert again.checksum != sent.checksum
