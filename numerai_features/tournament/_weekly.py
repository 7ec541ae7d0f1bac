"""What happens each round: wait, download, predict, submit; once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numerai_features._warn import warn
from numerai_features.experiment import FittedModel
from numerai_features.tournament._check import hash_ids, read_ids
from numerai_features.tournament._client import Client, Round
from numerai_features.tournament._download import check_version, choose_version
from numerai_features.tournament._errors import NoOpenRound
from numerai_features.tournament._log import DRY_RUN, THERE, Submission, SubmissionLog
from numerai_features.tournament._patience import Patience
from numerai_features.tournament._rows import (
    Place,
    wait_for_benchmark,
    wait_for_live,
    wait_for_round,
)
from numerai_features.tournament._submit import (
    check_model,
    describe,
    only_one,
    send,
    settle,
)

if TYPE_CHECKING:
    from numerai_features.datasets._arguments import PathLike


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
    patience = Patience(_check_wait(wait))
    arm = FittedModel.open(path)
    client = Client()
    version = _choose_version(version, arm, patience.ask(client.datasets))
    model_id = ""
    if client.has_keys or not dry_run:
        model_id = patience.ask(client.model_id, model)
    with only_one(into):
        log = SubmissionLog(into)
        now = wait_for_round(client, patience)
        patience.end_by(now.closes)
        before = None
        if model_id and not force:
            before = patience.ask(_find_before, client, log, model, model_id, now)
        if before is not None and not before.ids:  # nobody knows of which rows it is
            return before
        place = Place(client, data, version, verbose)
        live, ids = wait_for_live(place, log, now, patience)
        if before is not None:
            if before.ids == hash_ids(ids):
                return before
            warn(
                f"The submission for round {now.number} does not predict the rows of "
                f"{live}: they were not there when it was sent. It is replaced."
            )
        benchmark = wait_for_benchmark(
            place, live, ids, now, patience, is_needed=arm.benchmark is not None
        )
        file = into / f"round_{now.number}.csv"
        _predict(arm, live, benchmark, file)
        about = replace(
            describe(file, model, live, benchmark), round=now.number, state=DRY_RUN
        )
        if dry_run:
            return about
        patience.ask(_check_same_round, client, now)
        if not force and before is None:
            # Another machine may have submitted while this one waited and predicted.
            other = patience.ask(_find_other, client, model, model_id, now)
            if other is not None:
                return other
        return send(client, log, about, model_id, patience, force=force)


def _check_wait(wait: Any) -> float:
    if isinstance(wait, bool) or not isinstance(wait, int | float) or not wait >= 0:
        raise ValueError(f"wait must be a number of seconds; got {wait!r}.")
    return float(wait)


def _choose_version(version: str | None, arm: FittedModel, offered: list[str]) -> str:
    """Return the version of the live rows; None is that of the model's fit."""
    if version is not None or arm.record["version"] is None:
        return choose_version(version, offered)
    own: str = arm.record["version"]
    try:
        return choose_version(own, offered)
    except ValueError as error:
        raise ValueError(
            f"The model was fitted on the data {own}, which Numerai does not offer "
            f"any more ({error}) Download a newer version, and fit the model again."
        ) from error


def _find_before(
    client: Client, log: SubmissionLog, model: str, model_id: str, now: Round
) -> Submission | None:
    """Return what was submitted for a round; None: nothing, as far as anyone knows."""
    known = log.find(model, now.number)
    if known is not None:
        settled = settle(client, log, known, model_id)
        if settled is not None:
            return settled
    return _find_other(client, model, model_id, now)


def _find_other(
    client: Client, model: str, model_id: str, now: Round
) -> Submission | None:
    """Return what was submitted for a round, from wherever; None: nothing."""
    listed = client.submitted(model_id, now.number)
    if listed:
        return Submission(model, now.number, THERE, filename=listed[-1])
    return None


def _predict(arm: FittedModel, live: Path, benchmark: Path | None, file: Path) -> None:
    """Predict live rows, and write the csv; warn if the rows are unfamiliar."""
    from numerai_features.experiment._live import notes_on
    from numerai_features.experiment._submission import write_submission

    for told in notes_on(arm, live):
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
