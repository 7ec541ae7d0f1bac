"""Wait for a round, and for what is published when it opens."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from numerai_features.tournament._check import hash_ids, read_ids
from numerai_features.tournament._client import Client, Round
from numerai_features.tournament._download import DownloadedFile, download_files
from numerai_features.tournament._errors import WHEN, NoOpenRound, ServerError
from numerai_features.tournament._log import SubmissionLog
from numerai_features.tournament._patience import Patience

LIVE, BENCHMARK = "live", "live_benchmark_models"

# A round's live rows are published when it opens. Their file may have been written
# somewhat before, and clocks differ; the file of the round before is a day older.
_BEFORE_OPENING = timedelta(hours=6)


@dataclass(frozen=True)
class Place:
    """Where the files of a round come from and go to.

    Parameters
    ----------
    client : Client
    folder : Path
    version : str
        Of the data.
    verbose : bool
    """

    client: Client
    folder: Path
    version: str
    verbose: bool

    def download(self, name: str) -> DownloadedFile:
        """Download a file if it has changed."""
        [file] = download_files(
            self.client, self.folder, self.version, [name], verbose=self.verbose
        )
        return file


def wait_for_round(client: Client, patience: Patience) -> Round:
    """Return the open round; wait for it."""
    while True:
        now = patience.ask(client.open_round)
        if now is not None:
            return now
        if not patience.sleep():
            raise NoOpenRound(
                f"No round has opened within {patience.seconds / 60:g} minutes. "
                f"{WHEN}. Run this again then, or wait longer."
            )


def wait_for_live(
    place: Place, log: SubmissionLog, now: Round, patience: Patience
) -> tuple[Path, list[str]]:
    """Download the live rows of a round; return their file and their ids."""
    old = {each.ids for each in log if each.round != now.number}
    while True:
        file = patience.ask(place.download, LIVE)
        ids = read_ids(file.path)
        if _is_of(file, now) and hash_ids(ids) not in old:
            return file.path, ids
        if not patience.sleep():
            since = f" (written {file.modified})" if file.modified else ""
            raise _not_there(
                now, f"{file.path} still has the rows of an earlier round{since}"
            )


def _is_of(file: DownloadedFile, now: Round) -> bool:
    """Whether a file is not older than the round, as far as the server tells."""
    if file.modified is None:
        return True
    return datetime.fromisoformat(file.modified) >= now.opens - _BEFORE_OPENING


def wait_for_benchmark(
    place: Place,
    live: Path,
    ids: list[str],
    now: Round,
    patience: Patience,
    *,
    is_needed: bool,
) -> Path | None:
    """Download the benchmark models' predictions of a round's live rows.

    If they are not needed, they are left out where they are not there.
    """
    while True:
        told = f"{BENCHMARK} does not have the rows of {live}"
        try:
            path = patience.ask(place.download, BENCHMARK).path
            if set(ids) <= set(read_ids(path)):
                return path
        except (ValueError, ServerError) as error:
            told = str(error)
        if not is_needed:
            return None
        if not patience.sleep():
            raise _not_there(now, told)


def _not_there(now: Round, told: str) -> NoOpenRound:
    return NoOpenRound(
        f"Round {now.number} is open, but its data are not there: {told}. Run this "
        "again later."
    )
