"""What was submitted: a sealed log for each model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from numerai_features._sealed import SealError, read_sealed, set_aside, write_sealed

LOG, _KIND = "submissions.sealed", "submissions"

DRY_RUN = "not sent"
SENDING = "sending"  # written before it is sent: after a crash, the server is asked
SENT = "sent"
ACCEPTED = "accepted"
THERE = "already there"


@dataclass(frozen=True)
class Submission:
    """Predictions of a model for a round.

    Parameters
    ----------
    model : str
        Name of the model.
    round : int or None
        None if no round was open, which only a dry run allows.
    state : str
        ``"accepted"``: the server lists them for the round. ``"sent"``: it has taken
        them, but does not list them yet. ``"sending"``: it was not known whether they
        had arrived. ``"already there"``: the round had a submission that this log does
        not know. ``"not sent"``: a dry run.
    is_new : bool, default=False
        Whether this call has sent them.
    file : str, default=None
        The csv.
    checksum : str, default=''
        Of the csv.
    rows : int, default=0
    ids : str, default=''
        A hash of the live rows' ids.
    id : str, default=None
        The server's id of the submission.
    filename : str, default=None
        The server's name for the csv.
    sent_at : str, default=None
        Date and time, UTC.
    benchmark : dict of str to float, default=None
        Rank correlation with each benchmark model's predictions; None: not given.
    """

    model: str
    round: int | None
    state: str
    is_new: bool = False
    file: str | None = None
    checksum: str = ""
    rows: int = 0
    ids: str = ""
    id: str | None = None
    filename: str | None = None
    sent_at: str | None = None
    benchmark: dict[str, float] | None = None


class SubmissionLog:
    """The submissions of a model that were sent from here; one for each round."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / LOG

    def __iter__(self) -> Iterator[Submission]:
        try:
            record, _ = read_sealed(self._file, kind=_KIND, same_version=False)
        except FileNotFoundError:
            return
        except SealError as error:
            set_aside(self._file, error)
            return
        yield from (Submission(**each) for each in record)

    def find(self, model: str, number: int) -> Submission | None:
        """Return what was sent for a model and a round; None if nothing was."""
        for each in self:
            if (each.model, each.round) == (model, number):
                return each
        return None

    def put(self, submission: Submission) -> None:
        """Add a submission; it replaces that of the same model and round."""
        self._write([*self._without(submission), submission])

    def restore(self, submission: Submission, before: Submission | None) -> None:
        """Undo `put`: `before` is what the log had for the model and round."""
        kept = [] if before is None else [before]
        self._write([*self._without(submission), *kept])

    def _without(self, submission: Submission) -> list[Submission]:
        own = (submission.model, submission.round)
        return [each for each in self if (each.model, each.round) != own]

    def _write(self, submissions: list[Submission]) -> None:
        record = [asdict(replace(each, is_new=False)) for each in submissions]
        write_sealed(self._file, record, kind=_KIND)
