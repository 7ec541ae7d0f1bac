"""Numerai's scores of the user's models, beside what was submitted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numerai_features.tournament._client import Client
from numerai_features.tournament._log import LOG, Submission, SubmissionLog

if TYPE_CHECKING:
    import pandas as pd

    from numerai_features.datasets._arguments import PathLike


def scores(
    models: Sequence[str] | None = None,
    *,
    rounds: int = 20,
    folder: PathLike = "submissions",
) -> pd.DataFrame:
    """Return Numerai's scores of your models, beside what was submitted.

    Parameters
    ----------
    models : sequence of str, default=None
        Names of your models; None is all of them.
    rounds : int, default=20
        How many of the last rounds.
    folder : path, default="submissions"
        Where the logs of what was sent are, as in `submit_predictions`. It may be
        missing.

    Returns
    -------
    DataFrame
        Indexed by model and round. Its columns are ``resolved``; Numerai's scores, each
        the latest of its round, under Numerai's names; then ``state``, ``sent_at`` and
        ``checksum`` of what was sent from here, and ``with NAME``, its rank correlation
        with the benchmark model of that name. What is unknown is missing.

    Raises
    ------
    ValueError
        If a model is none of yours.
    ServerError
        If the server cannot be reached, or refuses.
    """
    from numerai_features.datasets._arguments import (
        check_path,
        check_strings,
        check_whole,
    )

    names = None if models is None else check_strings(models, "models")
    check_whole(rounds, "rounds")
    logs = read_logs(check_path(folder, "folder"))
    client = Client()
    own = client.models()
    for name in names or []:
        if name not in own:
            client.model_id(name)  # it tells which there are
    chosen = sorted(own) if names is None else list(dict.fromkeys(names))
    found = {name: client.scores(own[name], rounds) for name in chosen}
    return _table(found, [each for each in logs if each.model in chosen])


def read_logs(folder: Path) -> list[Submission]:
    """Return what was submitted, by the logs of all models."""
    return [
        submission
        for log in sorted(folder.glob(f"*/{LOG}"))
        for submission in SubmissionLog(log.parent)
    ]


def _table(
    found: dict[str, list[dict[str, Any]]], logs: list[Submission]
) -> pd.DataFrame:
    import pandas as pd

    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for model, told in found.items():
        # the latest day of a score comes last, and stays
        for each in sorted(told, key=lambda each: each["day"] or 0):
            row = rows.setdefault((model, int(each["roundNumber"])), {})
            row["resolved"] = bool(each["resolved"])
            row[str(each["displayName"])] = each["value"]
    for sent in logs:
        if sent.round is not None:
            row = rows.setdefault((sent.model, sent.round), {})
            row |= {
                "state": sent.state, "sent_at": sent.sent_at,
                "checksum": sent.checksum,
            }  # fmt: skip
            row |= {f"with {name}": r for name, r in (sent.benchmark or {}).items()}
    index = pd.MultiIndex.from_tuples(list(rows), names=["model", "round"])
    if not rows:
        index = pd.MultiIndex.from_arrays([[], []], names=["model", "round"])
    return pd.DataFrame(list(rows.values()), index=index).sort_index()
