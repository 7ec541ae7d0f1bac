"""What can go wrong between here and Numerai's server."""

from __future__ import annotations

ROOM = "numerai_features.tournament"  # what needs numerapi
WHEN = "Rounds open from Tuesday to Saturday"


class ServerError(ConnectionError):
    """Numerai's server cannot be reached, or it refused."""


class NoAnswerError(ServerError):
    """The server did not answer, or was busy: nobody knows what it has done."""


class RefusedError(ServerError):
    """The server refused, so that it has not done what was asked."""


class NoOpenRound(RuntimeError):
    """There is no open round, or not yet."""


class NoSuchFile(ValueError):
    """A version of the data has no file of that name."""
