"""Submit predictions: checked, sent once, and asked for again."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from numerai_features._whole import locked
from numerai_features.tournament import _http
from numerai_features.tournament._check import (
    checksum_of,
    correlations,
    hash_ids,
    read_predictions,
)
from numerai_features.tournament._client import Client, Round
from numerai_features.tournament._errors import (
    WHEN,
    NoAnswerError,
    NoOpenRound,
    RefusedError,
    ServerError,
)
from numerai_features.tournament._log import (
    ACCEPTED,
    DRY_RUN,
    SENDING,
    SENT,
    Submission,
    SubmissionLog,
)
from numerai_features.tournament._patience import Patience

LISTED_WITHIN = timedelta(minutes=10)  # what Numerai has taken, it lists by then

if TYPE_CHECKING:
    from numerai_features.datasets._arguments import PathLike


def submit_predictions(
    predictions: PathLike,
    model: str,
    *,
    live: PathLike | None = None,
    benchmark: PathLike | None = None,
    submissions: PathLike = "submissions",
    dry_run: bool = False,
    force: bool = False,
) -> Submission:
    """Submit a csv of predictions for the open round.

    The csv is checked by numerai-tools first. After it was sent, the server is asked
    what it has. What was sent is noted in a log, which `weekly` and `scores` read, too.
    The same csv is not sent twice for a round; another one replaces it.

    Parameters
    ----------
    predictions : path
        A csv with the columns id and prediction.
    model : str
        Name of one of your models.
    live : path, default=None
        The live rows that were predicted, to compare the ids. None: the ids are not
        compared.
    benchmark : path, default=None
        Numerai's ``live_benchmark_models.parquet``, to note the correlations with it.
    submissions : path, default="submissions"
        The log is in a folder of this one that is called like the model.
    dry_run : bool, default=False
        Whether to only check everything. Without keys, the model is not checked.
    force : bool, default=False
        Whether to send a csv again that was sent.

    Returns
    -------
    Submission

    Raises
    ------
    ValueError
        If Numerai would refuse the csv, or the model is none of yours.
    ServerError
        If the server cannot be reached, or refuses.
    NoOpenRound
        If no round is open.
    """
    from numerai_features.datasets._arguments import check_flag, check_path

    file = check_path(predictions, "predictions")
    check_model(model)
    rows = None if live is None else check_path(live, "live")
    check_flag(dry_run, "dry_run")
    check_flag(force, "force")
    beside = None if benchmark is None else check_path(benchmark, "benchmark")
    into = check_path(submissions, "submissions") / model
    about = describe(file, model, rows, beside)
    client = Client()
    if dry_run:
        if client.has_keys:
            client.model_id(model)
        number = client.open_round()
        return replace(about, round=None if number is None else number.number)
    model_id = client.model_id(model)
    now = require_round(client)
    with only_one(into):
        log = SubmissionLog(into)
        about = replace(about, round=now.number)
        _check_new(log, about)
        return send(client, log, about, model_id, Patience(0.0), force=force)


def describe(
    file: Path, model: str, live: Path | None, benchmark: Path | None
) -> Submission:
    """Check a csv, and return what is known of it before it is sent."""
    table = read_predictions(file, live)
    return Submission(
        model,
        None,
        DRY_RUN,
        file=str(file),
        checksum=checksum_of(file),
        rows=len(table),
        ids=hash_ids(list(table["id"])),
        benchmark=None if benchmark is None else correlations(table, benchmark),
    )


def _check_new(log: SubmissionLog, about: Submission) -> None:
    """Raise if the rows are known to be those of an earlier round."""
    for each in log:
        if each.ids == about.ids != "" and each.round != about.round:
            raise ValueError(
                f"{about.file} predicts the rows of round {each.round}; the open one "
                f"is {about.round}. Download the live rows again, and predict them."
            )


def send(
    client: Client,
    log: SubmissionLog,
    about: Submission,
    model_id: str,
    patience: Patience,
    *,
    force: bool,
) -> Submission:
    """Send predictions for their round, unless they were sent."""
    before = log.find(about.model, about.round or 0)
    if before is not None and before.checksum == about.checksum and not force:
        settled = patience.ask(settle, client, log, before, model_id)
        if settled is not None:
            return settled
    filename = patience.ask(_upload, client, Path(about.file or ""), model_id)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    about = replace(about, state=SENDING, filename=filename, sent_at=now)
    log.put(about)
    try:
        made = _create(client, about, model_id, patience)
    except (RefusedError, NoOpenRound):
        # After any other error it may have arrived: the log says "sending", and the
        # next run asks.
        log.restore(about, before)
        raise
    about = replace(about, state=SENT, id=made)
    log.put(about)
    return replace(_confirm(client, log, about, model_id), is_new=True)


def settle(
    client: Client, log: SubmissionLog, before: Submission, model_id: str
) -> Submission | None:
    """Return a submission that the log has, if it has arrived; else None."""
    if before.state == SENDING:  # the process was stopped at that moment
        found = _find(client, before, model_id)
        if found is None:
            return None
        before = replace(before, state=SENT, id=found)
        log.put(before)
    if before.state == SENT:
        before = _confirm(client, log, before, model_id)
    if before.state == SENT and _age(before) > LISTED_WITHIN:
        raise ServerError(
            f"Numerai took the submission for round {before.round} at {before.sent_at}"
            f" UTC, but does not list it: it may have refused {before.file}, or your "
            "key may not see submissions. Look at https://numer.ai/models, and use "
            "--force (force=True) to send it again."
        )
    return before


def _age(sent: Submission) -> timedelta:
    """Return the time since a submission was sent."""
    return datetime.now(UTC) - datetime.fromisoformat(sent.sent_at or "")


def _upload(client: Client, file: Path, model_id: str) -> str:
    """Upload a file that is not submitted yet; return the server's name for it."""
    filename, url = client.upload_place(file.name, model_id)
    _http.put(url, file)
    return filename


def _create(
    client: Client, about: Submission, model_id: str, patience: Patience
) -> str:
    """Have the server take what was uploaded, once; return the submission's id."""
    delays = iter(_http.DELAYS)
    while True:
        try:
            return client.create_submission(about.filename or "", model_id)
        except NoAnswerError:
            # It may have been taken although the answer was lost. It is only repeated
            # after the server has said that it was not.
            found = _find_lost(client, about, model_id, patience)
            if found is not None:
                return found
            delay = next(delays, None)
            if delay is None and not patience.sleep():
                raise
            time.sleep(delay or 0.0)


def _find_lost(
    client: Client, about: Submission, model_id: str, patience: Patience
) -> str | None:
    """Return the id of a submission whose answer was lost; None: it is not there."""
    try:
        return patience.ask(_find, client, about, model_id)
    except ServerError as error:
        raise NoAnswerError(
            "Numerai's answer was lost, and nobody knows whether the submission has "
            f"arrived: {error} Run this again: it asks first, and sends nothing twice. "
            "Or look at https://numer.ai/models, and use --force (force=True) if it is "
            "not there."
        ) from None


def _find(client: Client, about: Submission, model_id: str) -> str | None:
    """Return the id of a submission by the name of its file; None: it is not there."""
    for id_, filename in client.submissions(model_id).items():
        if _same(filename, about.filename):
            return id_
    return None


def _confirm(
    client: Client, log: SubmissionLog, about: Submission, model_id: str
) -> Submission:
    """Ask the server for a submission that it has taken."""
    for delay in (0.0, *_http.DELAYS[:2]):
        time.sleep(delay)
        try:
            listed = client.submitted(model_id, about.round or 0)
            # The server may have given it another name.
            own = client.submissions(model_id).get(about.id or "", about.filename)
        except ServerError:  # the key may have no permission to see submissions
            break
        if any(_same(filename, own) for filename in listed):
            about = replace(about, state=ACCEPTED)
            log.put(about)
            break
    return about


def _same(filename: str, other: str | None) -> bool:
    return Path(filename).name == Path(other or "").name


def require_round(client: Client) -> Round:
    """Return the open round; raise if there is none."""
    now = client.open_round()
    if now is None:
        raise NoOpenRound(
            f"No round is open for submissions now. {WHEN}; the command weekly waits "
            "for one."
        )
    return now


def check_model(model: object) -> None:
    """Raise if this cannot be the name of a model."""
    # It becomes the name of a folder.
    if not isinstance(model, str) or not re.fullmatch(r"\w[\w.-]*", model):
        raise ValueError(
            "model must be the name of one of your models at https://numer.ai/models; "
            f"got {model!r}."
        )


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold a model's folder for a block, so that no other process submits for it."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder) as is_ours:
        if not is_ours:
            raise BlockingIOError(
                f"Another process is submitting for {folder.name}, and holds {folder}. "
                "Wait for it, then run this again."
            )
        yield
