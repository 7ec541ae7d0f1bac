"""numerapi, guarded: its calls, over requests that end and answers that are checked.

numerapi's own requests have no timeout, become a KeyError when the server refuses, and
its constructor sets up the root logger. So `_guarded` replaces these two; the calls and
their queries are numerapi's.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from numerai_features._names import near_names, some_names
from numerai_features._optional import import_optional
from numerai_features.tournament import _queries as queries
from numerai_features.tournament._ask import ask, strange
from numerai_features.tournament._errors import ROOM, NoOpenRound
from numerai_features.tournament._keys import Keys, read_keys

_TOURNAMENT = 8  # Numerai Classic
_OF_SCORES = ("roundNumber", "displayName", "value", "day", "resolved")
_T = TypeVar("_T")
_OPEN_TO_ALL = ("dataset", "rounds", "submissionScores")  # without keys


class Round(NamedTuple):
    """A round that takes submissions."""

    number: int
    opens: datetime
    closes: datetime


class Client:
    """The calls of Numerai's server that this package makes."""

    def __init__(self) -> None:
        self._keys = read_keys()
        self._api = _guarded(self._keys)

    @property
    def has_keys(self) -> bool:
        """Whether the user has given keys."""
        return self._keys is not None

    def datasets(self) -> list[str]:
        """Return the names of all files, such as ``"v5.3/train.parquet"``."""
        return self._call(_names, self._api.list_datasets)

    def dataset_url(self, name: str) -> str:
        """Return an address from which a file can be downloaded for a while."""
        found = self._ask(queries.DATASET, "dataset", filename=name)
        if not isinstance(found, str):
            raise strange("dataset")
        return found

    def open_round(self) -> Round | None:
        """Return the round that takes submissions now; None if there is none."""
        try:
            rounds = self._ask(queries.ROUND, "rounds")
        except NoOpenRound:  # between two rounds
            return None
        try:
            if not rounds or rounds[0] is None:
                return None
            number = int(rounds[0]["number"])
            opens, closes = (
                datetime.fromisoformat(rounds[0][name])
                for name in ("openTime", "closeStakingTime")
            )
            is_open = opens <= datetime.now(UTC) < closes
        except (KeyError, TypeError, ValueError):
            raise strange("rounds") from None
        return Round(number, opens, closes) if is_open else None

    def models(self) -> dict[str, str]:
        """Return the names and ids of the user's models."""
        return self._call(_texts, self._api.get_models)

    def model_id(self, name: str) -> str:
        """Return the id of a model of the user's; raise if it is none."""
        models = self.models()
        if name not in models:
            yours = some_names(sorted(models)) if models else "none yet"
            raise ValueError(
                f"{name!r} is no model of yours.{near_names(name, models)} Yours: "
                f"{yours}. Pass one of them, or make it at https://numer.ai/models."
            )
        return models[name]

    def submissions(self, model_id: str) -> dict[str, str]:
        """Return the files of a model's submissions by their ids."""
        return self._call(
            lambda found: {str(each["id"]): str(each["filename"]) for each in found},
            self._api.submission_ids,
            model_id,
        )

    def submitted(self, model_id: str, number: int) -> list[str]:
        """Return the files that count as a model's submissions for a round."""
        return self._call(
            lambda found: [str(each["filename"]) for each in found],
            self._api.get_submission_filenames,
            _TOURNAMENT,
            number,
            model_id,
        )

    def upload_place(self, filename: str, model_id: str) -> tuple[str, str]:
        """Return the server's name for predictions, and where to put them."""
        field = "submission_upload_auth"
        place = self._ask(queries.UPLOAD, field, filename=filename, modelId=model_id)
        return _place(place, field)

    def create_submission(self, filename: str, model_id: str) -> str:
        """Submit predictions that were put there; return the submission's id."""
        made = self._ask(
            queries.SUBMIT, "create_submission", filename=filename, modelId=model_id,
            triggerId=os.environ.get("TRIGGER_ID"),
        )  # fmt: skip
        return _id_of(made, "create_submission")

    def images(self) -> dict[str, str]:
        """Return the names and ids of the images that run uploaded models."""
        return self._call(_texts, self._api.model_upload_docker_images)

    def data_versions(self) -> dict[str, str]:
        """Return the names and ids of the data that uploaded models can get."""
        return self._call(_texts, self._api.model_upload_data_versions)

    def model_place(self, filename: str, model_id: str) -> tuple[str, str]:
        """Return the server's name for a model's file, and where to put it."""
        field = "computePickleUploadAuth"
        place = self._ask(
            queries.UPLOAD_MODEL, field, filename=filename, modelId=model_id
        )
        return _place(place, field)

    def create_model(
        self, filename: str, model_id: str, *, image: str, data_version: str
    ) -> str:
        """Have a model that was put there run each round; return the upload's id."""
        made = self._ask(
            queries.SUBMIT_MODEL, "createComputePickleUpload", filename=filename,
            modelId=model_id, dockerImageId=image, dataVersionId=data_version,
        )  # fmt: skip
        return _id_of(made, "createComputePickleUpload")

    def scores(self, model_id: str, n_rounds: int) -> list[dict[str, Any]]:
        """Return the scores of a model's last rounds, one a dict."""
        found = self._ask(
            queries.SCORES, "submissionScores", modelId=model_id, lastNRounds=n_rounds
        )
        try:
            return [{name: each[name] for name in _OF_SCORES} for each in found or []]
        except (KeyError, TypeError):
            raise strange("submissionScores") from None

    def _ask(self, query: str, field: str, **variables: Any) -> Any:
        """Return one field of the answer to a query that numerapi does not have."""
        variables = {"tournament": _TOURNAMENT} | variables
        needs_keys = field not in _OPEN_TO_ALL
        answer = self._api.raw_query(query, variables, authorization=needs_keys)
        if not isinstance(answer.get("data"), dict) or field not in answer["data"]:
            raise strange(field)
        return answer["data"][field]

    def _call(
        self, read: Callable[[Any], _T], method: Callable[..., Any], *arguments: Any
    ) -> _T:
        """Call a method of numerapi, and read what it returns.

        What numerapi, or `read`, cannot read is told as a strange answer.
        """
        try:
            return read(method(*arguments))
        except (KeyError, TypeError, IndexError, AttributeError):
            raise strange(method.__name__) from None


def _names(found: Any) -> list[str]:
    if not isinstance(found, list) or not all(isinstance(n, str) for n in found):
        raise TypeError
    return found


def _texts(found: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in found.items()}


def _guarded(keys: Keys | None) -> Any:
    """Return numerapi's client with our requests, and without its logging."""
    numerapi = import_optional("numerapi", extra="numerai", needed_by=ROOM)

    class Guarded(numerapi.NumerAPI):  # type: ignore[name-defined]
        def __init__(self) -> None:
            # Not numerapi's own, which sets up the root logger.
            self.logger = logging.getLogger("numerapi")
            self.token = keys
            self.show_progress_bars = False
            self.tournament_id = _TOURNAMENT
            self.global_data_dir = "."

        def raw_query(
            self,
            query: str,
            variables: dict[str, Any] | None = None,
            authorization: bool = False,
            **_: Any,
        ) -> Any:
            return ask(query, variables, keys, needs_keys=authorization)

    return Guarded()


def _place(answer: Any, field: str) -> tuple[str, str]:
    try:
        return str(answer["filename"]), str(answer["url"])
    except (KeyError, TypeError):
        raise strange(field) from None


def _id_of(answer: Any, field: str) -> str:
    try:
        return str(answer["id"])
    except (KeyError, TypeError):
        raise strange(field) from None
