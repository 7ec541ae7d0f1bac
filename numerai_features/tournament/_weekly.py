"""What happens each round: wait, download, predict, submit; once."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numerai_features._names import some_names
from numerai_features._warn import warn
from numerai_features.experiment import FittedModel
from numerai_features.tournament._check import hash_ids, read_ids
from numerai_features.tournament._client import Client, Round
from numerai_features.tournament._download import check_version, download_files
from numerai_features.tournament._errors import (
    NoAnswerError,
    NoOpenRound,
    ServerError,
)
from numerai_features.tournament._log import DRY_RUN, THERE, Submission, SubmissionLog
from numerai_features.tournament._submit import (
    WHEN,
    check_model,
    describe,
    only_one,
    send,
    settle,
)

if TYPE_CHECKING:
    from numerai_features.datasets._arguments import PathLike

POLL = 60.0  # seconds between two questions
LIVE, BENCHMARK = "live", "live_benchmark_models"


def weekly(
    fitted: PathLike,
    model: str,
    *,
    folder: PathLike = "data",
    submissions: PathLike = "submissions",
    version: str | None = None,
    wait: float = 3600.0,
    dry_run: bool = False,
    force: bool = False,
    verbose: bool = True,
) -> Submission:
    """Predict the open round, and submit; do nothing if that was done.

    It waits for a round and for its live rows, downloads them, warns if they are unlike
    the eras that the model was fitted on, predicts them and submits. A round that has a
    submission is left alone, whether this machine's log or the server tells of it. So
    it can be run as often as one likes, and again after it was stopped at any moment.

    Parameters
    ----------
    fitted : path
        The folder of a fitted model.
    model : str
        Name of one of your models.
    folder : path, default="data"
        Where Numerai's files are, as in `download`.
    submissions : path, default="submissions"
        The predictions and their log are in a folder of this one that is called like
        the model.
    version : str, default=None
        Version of the data; None is that of the files that the model was fitted on.
    wait : float, default=3600.0
        Seconds to wait for a round and its live rows.
    dry_run : bool, default=False
        Whether to do all but submit.
    force : bool, default=False
        Whether to submit although the round has a submission.
    verbose : bool, default=True
        Whether to show the progress.

    Returns
    -------
    Submission

    Raises
    ------
    NoOpenRound
        If no round has opened within the time, or its live rows have not come.
    ServerError
        If the server cannot be reached, or refuses.
    ValueError
        If the live rows lack features of the model, or the model is none of yours.

    Warns
    -----
    UserWarning
        If the live rows are unlike the eras that the model was fitted on.
    """
    from numerai_features.datasets._arguments import check_flag, check_path

    path = check_path(fitted, "fitted")
    check_model(model)
    into = check_path(submissions, "submissions") / model
    data = check_path(folder, "folder")
    check_version(version)
    check_flag(dry_run, "dry_run")
    check_flag(force, "force")
    check_flag(verbose, "verbose")
    end = time.monotonic() + _check_wait(wait)
    client = Client()
    model_id = "" if dry_run and not client.has_keys else client.model_id(model)
    with only_one(into):
        log = SubmissionLog(into)
        now = _wait_for_round(client, end, wait)
        if not force and model_id:
            before = _find_before(client, log, model, model_id, now.number)
            if before is not None:
                return before
        arm = FittedModel.open(path)
        version = version or arm.record["version"]
        live, benchmark = _wait_for_rows(
            client, log, data, version, now, end, model=model,
            is_needed=arm.benchmark is not None, verbose=verbose,
        )  # fmt: skip
        file = into / f"round_{now.number}.csv"
        _predict(arm, live, benchmark, file)
        about = replace(
            describe(file, model, live, benchmark), round=now.number, state=DRY_RUN
        )
        if dry_run:
            return about
        _check_same_round(client, now)
        return send(client, log, about, model_id, force=force)


def _check_wait(wait: Any) -> float:
    if isinstance(wait, bool) or not isinstance(wait, int | float) or not wait >= 0:
        raise ValueError(f"wait must be a number of seconds; got {wait!r}.")
    return float(wait)


def _wait_for_round(client: Client, end: float, wait: float) -> Round:
    """Return the open round; wait for it, also while the server does not answer."""
    while True:
        try:
            now = client.open_round()
        except NoAnswerError:
            if not _sleep(end):
                raise
            continue
        if now is not None:
            return now
        if not _sleep(end):
            raise NoOpenRound(
                f"No round has opened within {wait / 60:g} minutes. {WHEN}. Run this "
                "again then, or wait longer."
            )


def _find_before(
    client: Client, log: SubmissionLog, model: str, model_id: str, number: int
) -> Submission | None:
    """Return what was submitted for a round; None: nothing, as far as anyone knows."""
    known = log.find(model, number)
    if known is not None:
        settled = settle(client, log, known, model_id)
        if settled is not None:
            return settled
    listed = client.submitted(model_id, number)
    if listed:
        return Submission(model, number, THERE, filename=listed[-1])
    return None


def _wait_for_rows(
    client: Client,
    log: SubmissionLog,
    data: Path,
    version: str | None,
    now: Round,
    end: float,
    *,
    model: str,
    is_needed: bool,
    verbose: bool,
) -> tuple[Path, Path | None]:
    """Download the live rows of a round, and the benchmark models' predictions.

    If the model does not need these, they are left out where they are not there.
    """
    old = {each.ids for each in log if each.model == model and each.round != now.number}
    while True:
        [file] = download_files(client, data, version, [LIVE], verbose=verbose)
        ids = read_ids(file.path)
        benchmark, told = None, ""
        if hash_ids(ids) in old:
            told = f"{file.path} still has the rows of an earlier round"
        else:
            try:
                [other] = download_files(
                    client, data, version, [BENCHMARK], verbose=verbose
                )
                benchmark = (
                    other.path if set(ids) <= set(read_ids(other.path)) else None
                )
            except (ValueError, ServerError) as error:
                told = str(error)
            if benchmark is not None or not is_needed:
                return file.path, benchmark
            told = told or f"{BENCHMARK} does not have the rows of {file.path}"
        if not _sleep(end):
            raise NoOpenRound(
                f"Round {now.number} is open, but its data are not there: {told}. Run "
                "this again later."
            )


def _predict(arm: FittedModel, live: Path, benchmark: Path | None, file: Path) -> None:
    """Predict live rows, and write the csv; warn if the rows are unfamiliar."""
    from numerai_features.experiment._live import columns_of_file
    from numerai_features.experiment._submission import write_submission

    added = arm.check_features(columns_of_file(live))
    if added:
        warn(
            f"{len(added)} features of {live} are new since the fit: "
            f"{some_names(added)}. Fit the model again to use them."
        )
    for told in arm.unfamiliar(live):
        warn(told)
    given = None if arm.benchmark is None else benchmark
    write_submission(arm.predict(live, given), file, read_ids(live))


def _check_same_round(client: Client, now: Round) -> None:
    """Raise if the round has closed while its rows were predicted."""
    later = client.open_round()
    if later is None or later.number != now.number:
        raise NoOpenRound(
            f"Round {now.number} has closed before the predictions were ready. Run "
            "this earlier, or with a smaller model."
        )


def _sleep(end: float) -> bool:
    """Sleep until the next question; return False if the time is over."""
    left = end - time.monotonic()
    if left <= 0:
        return False
    time.sleep(min(POLL, left))
    return True
