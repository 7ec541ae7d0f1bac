"""The client: keys, answers that are errors, and numerapi's faults."""

import contextlib
import json
import logging
import os
import re
import subprocess
import sys

import numerapi
import pytest
from server import KEYS, SIGNATURE, drop, hang, refusal, status

from numerai_features.tournament import NoOpenRound, ServerError, _ask, _http
from numerai_features.tournament._client import Client
from numerai_features.tournament._keys import Keys, read_keys, scrub


class TestKeys:
    def test_none_are_told_with_where_to_get_them(self, server):
        with pytest.raises(ServerError, match=r"neither NUMERAI_PUBLIC_ID nor .*https"):
            Client().models()
        assert server.asked == []

    @pytest.mark.parametrize("name", ["NUMERAI_PUBLIC_ID", "NUMERAI_SECRET_KEY"])
    def test_half_of_one_is_told(self, server, keys, monkeypatch, name):
        monkeypatch.delenv(name)
        with pytest.raises(ServerError, match=f"{name} is not set; a key has two"):
            Client()

    def test_spaces_around_them_do_not_matter(self, server, keys, monkeypatch):
        monkeypatch.setenv("NUMERAI_SECRET_KEY", f" {KEYS[1]}\n")
        assert "my_model" in Client().models()

    def test_what_no_header_can_hold_is_told_without_showing_it(
        self, server, keys, monkeypatch
    ):
        monkeypatch.setenv("NUMERAI_SECRET_KEY", "SECRET\n7")
        with pytest.raises(ServerError, match="NUMERAI_SECRET_KEY holds") as error:
            Client()
        assert "SECRET\n7" not in str(error.value)

    @pytest.mark.parametrize(
        "fault",
        [
            refusal("You must be authenticated to do that!"),
            refusal("Invalid API token", 401),
            refusal("Your session is invalid or has expired."),
            refusal("Your token is missing the scope upload_submission"),
            status(403),
        ],
    )
    def test_those_that_the_server_refuses_are_told(self, server, keys, fault):
        server.fail("account", fault)
        with pytest.raises(ServerError, match=r"refused your key for 'account' .*Make"):
            Client().models()

    def test_wrong_ones_are_told(self, server, keys):
        server.keys = ("OTHER", "OTHER")
        with pytest.raises(ServerError, match=r"refused your key .* have expired"):
            Client().models()

    def test_the_server_may_say_them_again_and_we_do_not(self, server, keys):
        told = f"Token {KEYS[0]}${KEYS[1]} is wrong, secret {KEYS[1]}"
        server.fail("account", refusal(told))
        with pytest.raises(ServerError) as error:
            Client().models()
        assert "refused" in str(error.value)
        assert not any(key in str(error.value) for key in KEYS)

    def test_netrc_is_not_preferred(self, server, keys, tmp_path, monkeypatch):
        """requests takes what it has for a host, instead of the header."""
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login me password mine\n")
        monkeypatch.setenv("NETRC", str(netrc))
        assert Client().models()

    def test_their_repr_is_none(self):
        assert repr(Keys(*KEYS)) == "Keys(***)"

    def test_other_files_of_numerapi_are_read(self, monkeypatch):
        monkeypatch.setattr(numerapi.utils, "load_secrets", lambda: KEYS)
        assert read_keys() == KEYS


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (
            f"GET https://store.org/a.csv?X-Amz-Signature={SIGNATURE}&b=1 failed",
            "GET https://store.org/a.csv?*** failed",
        ),
        ("via https://me:secret@proxy:1/", "via https://***@proxy:1/"),
        ("Token A$B", "Token ***"),
        (f"it is {KEYS[1]}", "it is ***"),
    ],
)
def test_texts_are_scrubbed(text, clean):
    assert scrub(text, Keys(*KEYS)) == clean


class TestAnswers:
    def test_500_and_then_success(self, server, keys):
        server.fail("account", status(500), drop, status(429))
        assert Client().models() == server.models

    def test_500_for_ever(self, server, keys):
        server.fail("account", *[status(500)] * 9)
        with pytest.raises(ServerError, match=r"HTTP status 500\. Try again later"):
            Client().models()

    def test_a_question_has_a_timeout(self, server, keys, monkeypatch):
        monkeypatch.setattr(_http, "TIMEOUT", (5.0, 0.2))
        server.fail("account", hang(1))
        assert Client().models() == server.models

    @pytest.mark.parametrize("body", [b"[]", b'{"data": null}', b"{}"])
    def test_what_is_no_answer(self, server, keys, body):
        server.fail("account", status(200, body))
        with pytest.raises(ServerError, match="form that this version does not know"):
            Client().models()

    @pytest.mark.parametrize("found", [None, "x", 3, [None], ["x"], [[]], [{}]])
    @pytest.mark.parametrize(
        ("field", "ask"),
        [
            ("account", lambda client: client.models()),
            ("listDatasets", lambda client: client.datasets()),
            ("dataset", lambda client: client.dataset_url("a")),
            ("rounds", lambda client: client.open_round()),
            ("submissions", lambda client: client.submissions("a")),
            ("model", lambda client: client.submitted("a", 1)),
            ("submission_upload_auth", lambda client: client.upload_place("a", "b")),
            ("create_submission", lambda client: client.create_submission("a", "b")),
            ("computePickleDockerImages", lambda client: client.images()),
            ("computePickleDataVersions", lambda client: client.data_versions()),
            ("submissionScores", lambda client: client.scores("a", 1)),
        ],
    )
    def test_fields_of_another_form(self, server, keys, field, ask, found):
        body = json.dumps({"data": {field: found}}).encode()
        server.fail(field, status(200, body))
        with contextlib.suppress(ServerError):  # and no other error
            assert ask(Client()) in (None, [], ["x"], "x")

    @pytest.mark.parametrize("fault", [status(200, b"<html>"), status(302)])
    def test_something_else_answers(self, server, keys, monkeypatch, fault):
        server.fail("account", *[fault] * 2)
        with pytest.raises(ServerError, match="Check NUMERAI_API_URL, or unset it"):
            Client().models()
        monkeypatch.delenv("NUMERAI_API_URL")
        monkeypatch.setattr(_ask, "_NUMERAI", server.url)
        with pytest.raises(ServerError, match=r"wants you to sign in .* a browser"):
            Client().models()

    @pytest.mark.parametrize("code", [301, 404])
    def test_other_statuses(self, server, keys, code):
        server.fail("rounds", status(code, b"{}"))
        with pytest.raises(ServerError, match=f"'rounds' with HTTP status {code}"):
            Client().open_round()

    def test_what_the_server_says_is_told(self, server, keys):
        server.fail("submissions", refusal("Model not found"))
        with pytest.raises(ServerError, match="refused 'submissions': Model not found"):
            Client().submissions("x")

    def test_not_every_token_is_a_key(self, server, keys):
        server.fail("submissions", refusal("syntax error before: token"))
        with pytest.raises(ServerError, match="refused 'submissions': syntax error"):
            Client().submissions("x")

    def test_a_closed_round_is_one_whatever_asks(self, server, keys):
        server.fail("create_submission", refusal("Round 1343 is closed"))
        with pytest.raises(NoOpenRound, match="Round 1343 is closed"):
            Client().create_submission("a.csv", "x")

    @pytest.mark.parametrize("is_open", [False, None])
    def test_no_round(self, server, is_open):
        server.is_open = is_open
        assert Client().open_round() is None

    def test_models_of_other_tournaments_are_none(self, server, keys):
        assert "signals_model" not in Client().models()

    def test_a_model_that_is_not_yours(self, server, keys):
        told = r"'my_modle' is no model of yours. Did you mean 'my_model'\? Yours: 'my_"
        with pytest.raises(ValueError, match=told):
            Client().model_id("my_modle")
        server.models = {}
        with pytest.raises(ValueError, match="Yours: none yet"):
            Client().model_id("a")


@pytest.mark.parametrize(
    "address",
    [
        "http://numer.ai",
        "ftp://127.0.0.1",
        "numer.ai",
        "https://",
        "https://a:b",
        "https://a b",
        "https://a..b",
        "https://[a",
        "http://127.0.0.1:99999",
    ],
)
def test_keys_do_not_cross_a_network_in_clear(server, keys, monkeypatch, address):
    monkeypatch.setenv("NUMERAI_API_URL", address)
    with pytest.raises(ServerError, match="NUMERAI_API_URL must be an address that"):
        Client().models()


def test_without_an_address_it_is_numerais(monkeypatch):
    monkeypatch.delenv("NUMERAI_API_URL", raising=False)
    assert _ask._address() == numerapi.base_api.API_TOURNAMENT_URL


def test_logging_stays_as_it_was(server, keys):
    """numerapi sets up the root logger, which then tells all libraries' messages."""
    code = (
        "import logging\n"
        "from numerai_features.tournament._client import Client\n"
        "Client().models()\n"
        "print(logging.getLogger().handlers, logging.getLogger().level)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, env=dict(os.environ),
    )  # fmt: skip
    assert done.stdout == f"[] {logging.WARNING}\n"
    assert done.stderr == ""


def test_numerapi_is_asked_for_by_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "numerapi", None)
    with pytest.raises(ImportError, match=re.escape("numerai-features[numerai]")):
        Client()
