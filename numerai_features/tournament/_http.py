"""Requests that end: each has a timeout, and its status is checked.

A request that may be repeated is repeated when the connection was lost, or the server
said that it was busy (5xx, 429). Errors give the reason, never the address: it may
hold a signature.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numerai_features._optional import import_optional
from numerai_features.tournament._errors import ROOM, NoAnswerError, ServerError

if TYPE_CHECKING:
    from requests import Response

TIMEOUT = (10.0, 60.0)  # seconds to connect, and between two pieces of an answer
DELAYS = (1.0, 2.0, 4.0, 8.0)  # seconds before a request is repeated
STORE = "Numerai's file store"
_UPLOAD_TIMEOUT = (10.0, 600.0)
BUSY = (429, 500, 502, 503, 504)


def send(
    method: str,
    url: str,
    *,
    to: str,
    again: bool = True,
    authorization: str = "",
    **options: Any,
) -> Response:
    """Send a request; return its answer, whatever its status.

    Parameters
    ----------
    method, url : str
    to : str
        What the errors call it: ``"Numerai's server"``.
    again : bool, default=True
        Whether to repeat it; False if it changes something on the server.
    authorization : str, default=""
        Value of that header.
    **options
        Options of ``requests.request``.

    Raises
    ------
    NoAnswerError
        If there is no answer.
    """
    requests = import_optional("requests", extra="numerai", needed_by=ROOM)

    def authorize(request: Any) -> Any:
        # As an own `auth`: otherwise requests prefers what ~/.netrc has.
        if authorization:
            request.headers["Authorization"] = authorization
        return request

    options = {"timeout": TIMEOUT, "allow_redirects": False, **options}
    reason = ""
    for delay in (0.0, *(DELAYS if again else ())):
        time.sleep(delay)
        if "data" in options:  # a file, from its beginning
            options["data"].seek(0)
        try:
            answer: Response = requests.request(method, url, auth=authorize, **options)
        except requests.RequestException as error:
            reason = reason_of(error)
            continue
        if answer.status_code not in BUSY:
            return answer
        answer.close()
        reason = ""
    # Outside of `except`: no error of requests, which has the headers, is chained.
    if reason:
        raise NoAnswerError(
            f"{to} cannot be reached: {reason}. Is this machine online? Try again."
        )
    return answer


def put(url: str, file: Path) -> None:
    """Upload a file; raise unless it has arrived.

    Parameters
    ----------
    url : str
        The address that the server gave for it.
    file : Path
    """
    with file.open("rb") as stream:
        answer = send("PUT", url, to=STORE, data=stream, timeout=_UPLOAD_TIMEOUT)
    if not 200 <= answer.status_code < 300:
        raise error_of(answer)(
            f"{STORE} refused {file.name}: HTTP status {answer.status_code}. Nothing "
            "was submitted. Try again."
        )


def error_of(answer: Response) -> type[ServerError]:
    """Return the kind of error of an answer's status: whether it may be asked again."""
    return NoAnswerError if answer.status_code in BUSY else ServerError


def reason_of(error: BaseException) -> str:
    """Return why a request failed, without its address."""
    if "Timeout" in type(error).__name__:
        seconds = TIMEOUT["Connect" not in type(error).__name__]
        return f"no answer within {seconds:g} seconds"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return str(cause.strerror)
        cause = cause.__cause__ or cause.__context__
    return f"the connection was lost ({type(error).__name__})"
