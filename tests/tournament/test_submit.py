"""Submissions: checked before, sent once, asked for after."""

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numerai_tools import submissions as rules
from server import done_then_status, drop, refusal, status
from sklearn.linear_model import Ridge

from numerai_features.export._images import IMAGES
from numerai_features.export._model import model_data
from numerai_features.export._pickle import write_function
from numerai_features.tournament import (
    NoOpenRound,
    ServerError,
    _http,
    download,
    submit_model,
    submit_predictions,
)
from numerai_features.tournament import _submit as module
from numerai_features.tournament._log import SubmissionLog

MODEL = "my_model"


@pytest.fixture
def live(server, tmp_path):
    """The live rows, downloaded."""
    [file] = download(tmp_path / "data", files=["live"], verbose=False)
    server.asked.clear()
    return file.path


@pytest.fixture
def csv(live, tmp_path):
    """Predictions of the live rows."""
    ids = pd.read_parquet(live).index
    table = pd.DataFrame({"id": ids, "prediction": np.linspace(0.01, 0.99, len(ids))})
    file = tmp_path / "predictions.csv"
    table.to_csv(file, index=False)
    return file


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """The log is in a folder of where the user is."""
    monkeypatch.chdir(tmp_path)


def logged(model=MODEL):
    return list(SubmissionLog(Path("submissions") / model))


class TestPredictions:
    def test_they_arrive(self, server, keys, csv, live):
        sent = submit_predictions(csv, MODEL, live=live)
        assert (sent.state, sent.round, sent.rows) == ("accepted", 1343, 50)
        assert sent.is_new
        [made] = server.submissions
        assert made["modelId"] == server.models[MODEL]
        assert (made["id"], made["filename"]) == (sent.id, sent.filename)
        assert server.put[sent.filename] == csv.read_bytes()
        # the server's own checks
        universe, table = pd.Series(pd.read_parquet(live).index), pd.read_csv(csv)
        rules.validate_headers_numerai(table)
        rules.validate_ids_numerai(universe, table, "id")
        rules.validate_values(table, "prediction")
        [entry] = logged()
        assert entry.checksum == sent.checksum

    def test_the_second_time_nothing_is_sent(self, server, keys, csv, live):
        first = submit_predictions(csv, MODEL, live=live)
        again = submit_predictions(csv, MODEL, live=live)
        assert not again.is_new
        assert (again.id, again.state) == (first.id, first.state)
        assert len(server.submissions) == 1
        assert submit_predictions(csv, MODEL, force=True).is_new
        assert len(server.submissions) == 2

    def test_others_replace_them(self, server, keys, csv):
        submit_predictions(csv, MODEL)
        table = pd.read_csv(csv)
        table["prediction"] = table["prediction"][::-1].to_numpy()
        table.to_csv(csv, index=False)
        assert submit_predictions(csv, MODEL).is_new
        assert len(logged()) == 1
        submit_predictions(csv, "other")
        server.round += 1
        table["id"] = "next" + table["id"]
        table.to_csv(csv, index=False)
        assert submit_predictions(csv, MODEL).is_new
        assert [each.round for each in logged()] == [1343, 1344]
        assert [each.round for each in logged("other")] == [1343]

    def test_a_dry_run_sends_nothing(self, server, keys, csv, live):
        sent = submit_predictions(csv, MODEL, live=live, dry_run=True)
        assert (sent.state, sent.round, sent.rows) == ("not sent", 1343, 50)
        assert server.asked == ["account", "rounds"]
        assert not Path("submissions").exists()
        with pytest.raises(ValueError, match="no model of yours"):
            submit_predictions(csv, "mine", dry_run=True)

    def test_a_dry_run_needs_no_key(self, server, csv, live):
        server.is_open = False
        assert submit_predictions(csv, MODEL, live=live, dry_run=True).round is None

    def test_the_rows_of_an_earlier_round(self, server, keys, csv, live):
        submit_predictions(csv, MODEL, live=live)
        server.round += 1
        for given in (live, None):
            with pytest.raises(ValueError, match="rows of round 1343; the open"):
                submit_predictions(csv, MODEL, live=given)

    def test_no_key(self, server, csv):
        with pytest.raises(ServerError, match="NUMERAI_PUBLIC_ID"):
            submit_predictions(csv, MODEL)

    def test_a_closed_round(self, server, keys, csv):
        server.is_open = False
        with pytest.raises(NoOpenRound, match="No round is open for submissions now"):
            submit_predictions(csv, MODEL)
        assert server.put == {}

    def test_a_round_that_closes_at_that_moment(self, server, keys, csv):
        server.fail("create_submission", refusal("Current round not open"))
        with pytest.raises(NoOpenRound, match="Current round not open"):
            submit_predictions(csv, MODEL)
        assert logged() == []

    def test_the_other_name_of_the_column(self, server, keys, csv):
        [file] = download(
            csv.parent / "data", files=["live_benchmark_models"], verbose=False
        )
        expected = submit_predictions(csv, MODEL, benchmark=file.path).benchmark
        table = pd.read_csv(csv).rename(columns={"prediction": "probability"})
        table.to_csv(csv, index=False)
        sent = submit_predictions(csv, MODEL, benchmark=file.path)
        assert sent.benchmark == expected
        table.loc[3, "probability"] = np.nan
        table.to_csv(csv, index=False)
        with pytest.raises(ValueError, match="Numerai would refuse"):
            submit_predictions(csv, MODEL, benchmark=file.path)

    def test_correlations_with_the_benchmark_are_noted(self, server, keys, csv):
        [file] = download(
            csv.parent / "data", files=["live_benchmark_models"], verbose=False
        )
        sent = submit_predictions(csv, MODEL, benchmark=file.path)
        own = pd.read_csv(csv, index_col="id")["prediction"]
        other = pd.read_parquet(file.path)["v53_lgbm_ender60"]
        [(name, value)] = sent.benchmark.items()
        assert name == "v53_lgbm_ender60"
        assert value == pytest.approx(own.corr(other, method="spearman"))
        assert logged()[0].benchmark == sent.benchmark


class TestFaults:
    def test_500_and_then_success(self, server, keys, csv):
        server.fail("submission_upload_auth", status(500))
        server.fail("PUT predictions", status(503), drop)
        server.fail("create_submission", status(502))
        assert submit_predictions(csv, MODEL).state == "accepted"
        assert len(server.submissions) == 1
        assert list(server.put.values()) == [csv.read_bytes()]

    @pytest.mark.parametrize("code", [500, 504])
    def test_it_was_taken_although_the_answer_was_an_error(
        self, server, keys, csv, code
    ):
        server.fail("create_submission", done_then_status(code))
        assert submit_predictions(csv, MODEL).state == "accepted"
        assert len(server.submissions) == 1

    def test_a_refused_upload(self, server, keys, csv):
        server.fail("PUT predictions", status(403))
        with pytest.raises(ServerError, match=r"predictions\.csv: HTTP status 403"):
            submit_predictions(csv, MODEL)
        assert server.submissions == []
        assert logged() == []

    def test_a_refused_one_leaves_the_log_of_the_first(self, server, keys, csv):
        first = submit_predictions(csv, MODEL)
        table = pd.read_csv(csv)
        table["prediction"] = table["prediction"][::-1].to_numpy()
        other = csv.with_name("other.csv")
        table.to_csv(other, index=False)
        server.fail("create_submission", refusal("no"))
        with pytest.raises(ServerError, match="no"):
            submit_predictions(other, MODEL)
        assert [each.checksum for each in logged()] == [first.checksum]
        assert not submit_predictions(csv, MODEL).is_new

    @pytest.mark.parametrize("code", [200, 302, 404, 520])
    def test_an_answer_that_is_no_refusal_leaves_it_open(self, server, keys, csv, code):
        """It may have arrived: the next run asks, and sends nothing twice."""
        server.fail("create_submission", done_then_status(code))
        with pytest.raises(ServerError, match="create_submission"):
            submit_predictions(csv, MODEL)
        assert [each.state for each in logged()] == ["sending"]
        assert submit_predictions(csv, MODEL).state == "accepted"
        assert len(server.submissions) == 1

    def test_a_key_that_may_not_submit(self, server, keys, csv):
        server.fail("create_submission", refusal("missing scope upload_submission"))
        with pytest.raises(ServerError, match=r"refused your key .* upload_sub"):
            submit_predictions(csv, MODEL)

    def test_a_key_that_may_not_look(self, server, keys, csv):
        server.fail("model", *[refusal("missing scope read_submission_info")] * 3)
        assert submit_predictions(csv, MODEL).state == "sent"
        assert submit_predictions(csv, MODEL).state == "sent"
        assert submit_predictions(csv, MODEL).state == "sent"
        assert submit_predictions(csv, MODEL).state == "accepted"
        assert len(server.submissions) == 1

    def test_what_the_server_does_not_list_is_no_more_than_sent(
        self, server, keys, csv
    ):
        nothing = status(200, b'{"data": {"model": {"submissions": []}}}')
        server.fail("model", *[nothing] * 3)
        assert submit_predictions(csv, MODEL).state == "sent"

    @pytest.mark.parametrize("taken", [False, True])
    def test_stopped_at_the_moment_of_sending(
        self, server, keys, csv, monkeypatch, taken
    ):
        """The log knows that it was about to be sent; the server knows whether."""

        def stop(client, about, model_id, patience):
            if taken:
                client.create_submission(about.filename, model_id)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(module, "_create", stop)
            with pytest.raises(KeyboardInterrupt):
                submit_predictions(csv, MODEL)
        assert logged()[0].state == "sending"
        assert submit_predictions(csv, MODEL).state == "accepted"
        assert len(server.submissions) == 1

    def test_the_server_gives_it_another_name(self, server, keys, csv):
        server.renames = "other-"
        assert submit_predictions(csv, MODEL).state == "accepted"
        assert not submit_predictions(csv, MODEL).is_new

    def test_two_at_once(self, server, keys, csv):
        with (
            module.only_one(Path("submissions") / MODEL),
            pytest.raises(BlockingIOError, match="Another process is submitting"),
        ):
            submit_predictions(csv, MODEL)

    def test_the_mutation_is_not_repeated_blindly(self, server, keys, csv):
        server.fail("create_submission", *[status(500)] * 20)
        with pytest.raises(ServerError, match="'create_submission' with HTTP status"):
            submit_predictions(csv, MODEL)
        n_times = 1 + len(_http.DELAYS)
        assert server.count("create_submission") == n_times
        assert server.count("submissions") == n_times


def spoil(table, how):
    """Return a csv's text that Numerai would refuse."""
    if how == "header":
        table = table.rename(columns={"prediction": "pred"})
    elif how == "one more column":
        table["era"] = "X"
    elif how == "NaN":
        table.loc[3, "prediction"] = np.nan
    elif how == "too large":
        table.loc[3, "prediction"] = 1.2
    elif how == "constant":
        table["prediction"] = 0.5
    elif how == "text":
        table["prediction"] = "much"
    elif how == "twice":
        table.loc[3, "id"] = table.loc[4, "id"]
    elif how == "short":
        table = table.iloc[:-1]
    elif how == "another round":
        table["id"] = "n" + table["id"]
    elif how == "one too many":
        table.loc[len(table)] = ["nowhere", 0.5]
    return table.to_csv(index=False)


@pytest.mark.parametrize(
    "how",
    ["header", "one more column", "NaN", "too large", "constant", "text", "twice",
     "short", "another round", "one too many"],
)  # fmt: skip
def test_what_numerai_would_refuse_is_not_sent(server, keys, csv, live, how):
    csv.write_text(spoil(pd.read_csv(csv), how))
    with pytest.raises(ValueError, match=r"Numerai would refuse .*predictions\.csv: "):
        submit_predictions(csv, MODEL, live=live)
    assert server.asked == []


@pytest.mark.parametrize("content", ["", "id,prediction\n", "\x00\x01", "<html>\n"])
def test_what_is_no_table_is_not_sent(server, keys, csv, live, content):
    csv.write_text(content)
    with pytest.raises(ValueError, match=r"no csv that can be read|would refuse"):
        submit_predictions(csv, MODEL, live=live)


def test_ids_are_text(server, keys, tmp_path):
    """Also those that look like numbers, or like missing values."""
    file = tmp_path / "a.csv"
    file.write_text("id,prediction\n007,.1\nNA,.2\nnull,.3\n1e5,.4\n")
    live = tmp_path / "live.parquet"
    index = pd.Index(["007", "NA", "null", "1e5"], name="id")
    pd.DataFrame({"era": "X"}, index=index).to_parquet(live)
    assert submit_predictions(file, MODEL, live=live).rows == 4


def test_files_that_are_not_there(server, keys, tmp_path, csv):
    with pytest.raises(FileNotFoundError, match=r"There is no file .*predict\.csv"):
        submit_predictions(tmp_path / "predict.csv", MODEL)
    with pytest.raises(FileNotFoundError, match="There is no file"):
        submit_predictions(csv, MODEL, live=tmp_path / "live.parquet")


@pytest.mark.parametrize("model", ["", " ", None, 3, "../a", ".a", "a/b"])
def test_a_model_is_a_name(server, csv, tmp_path, model):
    with pytest.raises(ValueError, match="model must be the name of one of your"):
        submit_predictions(csv, model)


@pytest.mark.parametrize("name", ["dry_run", "force"])
def test_flags(csv, name):
    with pytest.raises(TypeError, match=f"{name} must be True or False"):
        submit_predictions(csv, MODEL, **{name: "no"})


class TestModels:
    @pytest.fixture
    def pkl(self, tmp_path):
        """What another program has written; not all of these tests need a model."""
        file = tmp_path / "model.pkl"
        file.write_bytes(b"a model")
        return file

    @pytest.fixture
    def exported(self, tmp_path):
        """A model that was exported for Python 3.12 and data v5.2."""
        rows = np.arange(20, dtype=float).reshape(10, 2)
        ridge = Ridge().fit(rows, rows[:, 0])
        file = tmp_path / "exported.pkl"
        model = model_data(ridge, IMAGES["3.12"], feature_names=["a", "b"])
        write_function(model, file, image="3.12", version="v5.2")
        return file

    def upload(self, pkl, model=MODEL, **options):
        given = {"data_version": "v5.3", "confirmed": True, "any_pickle": True}
        options = given | options
        return submit_model(pkl, model, **options)

    def test_it_arrives_with_its_image_and_its_data(self, server, keys, pkl):
        sent = self.upload(pkl, image="3.12")
        assert (sent.state, sent.image, sent.id) == ("sent", "Python 3.12", "upload-1")
        [made] = server.uploads
        assert made["modelId"] == server.models[MODEL]
        assert made["dockerImageId"] == "image-312"
        assert made["dataVersionId"] == "data-53"
        assert made["tournament"] == 8
        assert list(server.put.values()) == [b"a model"]

    def test_there_is_no_way_back_and_it_is_told_before(self, server, keys, pkl):
        with pytest.raises(ValueError, match="takes no submissions of yours any more"):
            self.upload(pkl, confirmed=False)
        assert server.asked == []

    def test_a_dry_run(self, server, keys, pkl):
        sent = self.upload(pkl, dry_run=True, confirmed=False)
        assert (sent.state, sent.image, sent.id) == ("not sent", "Python 3.13", None)
        assert server.put == {}

    def test_a_dry_run_without_keys(self, server, pkl):
        assert self.upload(pkl, dry_run=True).state == "not sent"
        assert server.asked == []

    def test_a_refused_upload(self, server, keys, pkl):
        server.fail("PUT model", status(400))
        with pytest.raises(ServerError, match=r"refused model\.pkl: HTTP status 4"):
            self.upload(pkl)
        assert server.uploads == []

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            ({"image": "3.1"}, r"image='3\.1' is none of Numerai's: 'Python 3\.12'"),
            ({"image": "latest"}, "image must be a version"),
            ({"data_version": "v5.0"}, r"'v5\.0' is none that .* 'v5\.2', 'v5\.3'"),
            ({"data_version": None}, "data_version must be a version"),
            ({"model": "mine"}, "no model of yours"),
        ],
    )
    def test_what_the_server_does_not_have(self, server, keys, pkl, options, told):
        with pytest.raises(ValueError, match=told):
            self.upload(pkl, **options)
        assert server.put == {}

    def test_what_it_was_exported_for(self, server, keys, exported):
        good = {"image": "3.12", "data_version": "v5.2", "any_pickle": False}
        for wrong, told in (
            ({"image": "3.13"}, r"image='3\.13', but .* was exported for '3\.12'"),
            ({"data_version": "v5.3"}, r"data_version='v5\.3', but .* for 'v5\.2'"),
        ):
            with pytest.raises(ValueError, match=told):
                self.upload(exported, **good | wrong)
        assert server.put == {}
        assert self.upload(exported, **good).state == "sent"

    def test_what_export_has_not_written(self, server, keys, pkl):
        files = {
            "junk": b"x",
            "a table": pickle.dumps({"__name__": "numerai_export"})[:-3],
            "a number": pickle.dumps(3),
            "what runs": b"cos\nsystem\n(S'false'\ntR.",
            "another function": b"cbuiltins\neval\n(S'1'\nS'2'\ntR.",
        }
        for content in files.values():
            pkl.write_bytes(content)
            with pytest.raises(ValueError, match=r"no file that export.*--any-pickle"):
                self.upload(pkl, any_pickle=False)
        assert server.asked == []
        assert self.upload(pkl).state == "sent"

    def test_files_that_are_none(self, server, keys, pkl, tmp_path):
        pkl.write_bytes(b"")
        with pytest.raises(ValueError, match=r"is empty\. Export the model again"):
            self.upload(pkl)
        other = pkl.rename(tmp_path / "model.pickle")
        with pytest.raises(ValueError, match=r"file must end with \.pkl"):
            self.upload(other)
        with pytest.raises(FileNotFoundError, match="There is no file"):
            self.upload(pkl)
