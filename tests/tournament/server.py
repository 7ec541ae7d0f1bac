"""A server on this machine that speaks the calls that numerapi makes of Numerai's.

It keeps what it is sent and tells what it was asked, and fails as it is told to.
"""

import hashlib
import io
import json
import re
import threading
import time
from collections import deque
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pandas as pd

KEYS = ("PUBLIC7IDQ", "SECRET7KEYQZ")
SIGNATURE = "SIGNATURE7QZ"
OPEN_TO_ALL = {"listDatasets", "dataset", "rounds", "submissionScores"}
TOURNAMENT = 8


class File:
    """A file of the server's, with its version and date."""

    def __init__(self, content, *, modified=None, etag=None):
        self.content = content
        self.modified = modified or datetime.now(UTC).replace(microsecond=0)
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        self.etag = f'"{digest}"' if etag is None else etag


class Numerai(ThreadingHTTPServer):
    """The tournament's server.

    Attributes
    ----------
    files : dict
        What can be downloaded, by name.
    asked : list of str
        Fields that were asked for, and ``GET name``, ``PUT name``, in order.
    faults : dict of str to deque
        For what is asked, functions of the handler that answer the next times instead
        of the server. They return True if they have answered.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = {}
        self.asked, self.faults = [], {}
        self.models = {"my_model": "id-of-my-model", "other": "id-of-other"}
        self.keys = KEYS
        self.round, self.is_open = 1343, True
        self.submissions, self.uploads, self.put = [], [], {}
        self.scores, self.renames, self.ranges = {}, "", []
        self.images = {"Python 3.12": "image-312", "Python 3.13": "image-313"}
        self.data_versions = {"v5.2": "data-52", "v5.3": "data-53"}
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True, args=(0.02,)).start()

    @property
    def url(self):
        """The address."""
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def add(self, name, content, **options):
        """Offer a file: bytes, or a table, or JSON."""
        if isinstance(content, pd.DataFrame):
            buffer = io.BytesIO()
            content.to_parquet(buffer)
            content = buffer.getvalue()
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
        self.files[name] = File(content, **options)

    def fail(self, asked, *faults):
        """Let the next answers to what is asked be faults."""
        self.faults.setdefault(asked, deque()).extend(faults)

    def count(self, asked):
        """Return how often something was asked for."""
        return self.asked.count(asked)

    def handle_error(self, request, client_address):
        """Say nothing of clients that went away."""


# --- faults ------------------------------------------------------------------------


def status(code, body=b""):
    """Answer a status."""

    def fault(handler):
        handler.answer(code, body)
        return True

    return fault


def refusal(message, code=200):
    """Answer an error of GraphQL's."""
    return status(code, json.dumps({"errors": [{"message": message}]}).encode())


def hang(seconds):
    """Answer nothing for a while, then as ever."""

    def fault(handler):
        time.sleep(seconds)
        return False

    return fault


def drop(handler):
    """Hang up without an answer."""
    handler.close_connection = True
    handler.connection.close()
    return True


def done_then_status(code):
    """Do what was asked, but answer a status."""

    def fault(handler):
        handler.result = (code, b"")
        return False

    return fault


def cut(n_bytes):
    """Promise all of a file, and hang up after some bytes."""

    def fault(handler):
        handler.n_sent = n_bytes
        return False

    return fault


def pass_on(handler):
    """Answer as ever."""
    return False


# --- the server ----------------------------------------------------------------------


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    n_sent = result = None

    def log_message(self, *_):
        pass

    def answer(self, code, body=b"", **headers):
        code, body = self.result or (code, body)
        self.send_response(code)
        for name, value in headers.items():
            if value:
                self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body if self.n_sent is None else body[: self.n_sent])
            self.wfile.flush()
        except OSError:
            self.close_connection = True
        if self.n_sent is not None:
            self.close_connection = True

    def asked(self, what):
        self.n_sent = self.result = None
        with self.server.lock:
            self.server.asked.append(what)
            faults = self.server.faults.get(what)
            fault = faults.popleft() if faults else pass_on
        return fault(self)

    # --- files

    def do_GET(self):
        parts = urlsplit(self.path)
        name = parts.path.removeprefix("/files/")
        if self.asked(f"GET {name}"):
            return
        assert parse_qs(parts.query) == {"X-Amz-Signature": [SIGNATURE]}
        file = self.server.files.get(name)
        if file is None:
            self.answer(404)
            return
        content, code, part = file.content, 200, ""
        told = {
            "ETag": file.etag,
            "Last_Modified": format_datetime(file.modified, usegmt=True)
            if file.modified
            else "",
        }
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted and self.headers.get("If-Range") in (None, file.etag):
            self.server.ranges.append(wanted[0])
            start = int(wanted[1])
            if start >= len(content):
                self.answer(416)
                return
            part = f"bytes {start}-{len(content) - 1}/{len(content)}"
            content, code = content[start:], 206
        self.answer(code, content, Content_Range=part, **told)

    def do_PUT(self):
        parts = urlsplit(self.path)
        name = parts.path.removeprefix("/uploads/")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.asked(f"PUT {name.partition('-')[0]}"):
            return
        assert "Authorization" not in self.headers
        self.server.put[name] = body
        self.answer(200)

    # --- GraphQL

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        field = re.search(r"\{\s*(\w+)", body["query"])[1]
        if self.asked(field):
            return
        token = self.headers.get("Authorization")
        if field not in OPEN_TO_ALL:
            if token != "Token {}${}".format(*self.server.keys):
                refusal("You must be authenticated to do that!")(self)
                return
        else:
            assert token is None, "keys are sent where they are not needed"
        try:
            with self.server.lock:
                found = getattr(self, f"_{field}")(**(body["variables"] or {}))
        except ValueError as error:
            refusal(str(error))(self)
            return
        self.answer(200, json.dumps({"data": {field: found}}).encode())

    def _listDatasets(self, **_):
        return sorted(self.server.files)

    def _dataset(self, filename, tournament):
        assert tournament == TOURNAMENT
        if filename not in self.server.files:
            raise ValueError(f"No such dataset {filename}")
        return f"{self.server.url}files/{filename}?X-Amz-Signature={SIGNATURE}"

    def _rounds(self, **_):
        if self.server.is_open is None:
            raise ValueError("Current round not open for submissions")
        now = datetime.now(UTC)
        opened = now - timedelta(hours=2)
        closes = now + timedelta(hours=1 if self.server.is_open else -1)
        return [
            {
                "number": self.server.round,
                "openTime": opened.isoformat().replace("+00:00", "Z"),
                "closeStakingTime": closes.isoformat().replace("+00:00", "Z"),
            }
        ]

    def _account(self):
        models = [
            {"name": name, "id": id, "tournament": TOURNAMENT}
            for name, id in self.server.models.items()
        ]
        signals = {"name": "signals_model", "id": "id-of-signals", "tournament": 11}
        return {"models": [*models, signals]}

    def _submission_upload_auth(self, filename, tournament, modelId):
        self._check(modelId)
        name = f"predictions-{len(self.server.asked)}.csv"
        address = f"{self.server.url}uploads/{name}?X-Amz-Signature={SIGNATURE}"
        return {"filename": name, "url": address}

    def _create_submission(self, filename, tournament, modelId, triggerId):
        self._check(modelId)
        if not self.server.is_open:
            raise ValueError("Current round not open for submissions")
        if filename not in self.server.put:
            raise ValueError("submission file not found")
        made = {
            "id": f"submission-{len(self.server.submissions)}",
            "filename": self.server.renames + filename,
            "modelId": modelId, "round": self.server.round,
            "insertedAt": datetime.now(UTC).isoformat(),
        }  # fmt: skip
        self.server.submissions.append(made)
        return {"id": made["id"]}

    def _submissions(self, modelId):
        self._check(modelId)
        return [
            {name: each[name] for name in ("id", "filename", "insertedAt")}
            for each in self.server.submissions
            if each["modelId"] == modelId
        ]

    def _model(self, modelId):
        self._check(modelId)
        own = [s for s in self.server.submissions if s["modelId"] == modelId]
        last = {each["round"]: each for each in own}
        return {
            "submissions": [
                {
                    "filename": each["filename"],
                    "selected": each is last[each["round"]],
                    "round": {"tournament": TOURNAMENT, "number": each["round"]},
                }
                for each in own
            ]
        }

    def _computePickleUploadAuth(self, filename, modelId, tournament=None):
        self._check(modelId)
        address = f"{self.server.url}uploads/model-7.pkl?X-Amz-Signature={SIGNATURE}"
        return {"filename": "model-7.pkl", "url": address}

    def _createComputePickleUpload(self, filename, modelId, **given):
        self._check(modelId)
        if filename not in self.server.put:
            raise ValueError("upload not found")
        self.server.uploads.append({"modelId": modelId, **given})
        return {"id": f"upload-{len(self.server.uploads)}"}

    def _computePickleDockerImages(self):
        return [{"name": n, "id": i} for n, i in self.server.images.items()]

    def _computePickleDataVersions(self):
        return [{"name": n, "id": i} for n, i in self.server.data_versions.items()]

    def _submissionScores(self, modelId, lastNRounds, **_):
        found = self.server.scores.get(modelId, [])
        rounds = sorted({each["roundNumber"] for each in found})[-lastNRounds:]
        return [each for each in found if each["roundNumber"] in rounds]

    def _check(self, model_id):
        if model_id not in self.server.models.values():
            raise ValueError("Model not found")
