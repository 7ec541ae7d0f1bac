"""Ask Numerai's GraphQL server, and tell why it does not answer."""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import urlsplit

from numerai_features.tournament._errors import (
    WHEN,
    NoAnswerError,
    NoOpenRound,
    RefusedError,
    ServerError,
)
from numerai_features.tournament._http import error_of, send
from numerai_features.tournament._keys import PUBLIC, SECRET, WHERE, Keys, scrub

SERVER = "Numerai's server"
_ADDRESS = "NUMERAI_API_URL"  # of another server: a proxy, or one for tests
_NUMERAI = "https://api-tournament.numer.ai"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_OF_KEYS = re.compile(
    r"authenticat|authori[sz]|permission|\bscope|forbidden|api.?(key|token)"
    r"|\b(token|key|session)\b.*\b(expired|invalid|wrong)"
    r"|\b(expired|invalid|wrong)\b.*\b(token|key|session)\b",
    re.IGNORECASE,
)
_OF_ROUNDS = re.compile(
    r"round.*\b(not (currently )?open|closed)|no (open|active) round", re.IGNORECASE
)
_HOST = re.compile(r"[\w-]+(\.[\w-]+)*\.?|[\da-f]*:[\da-f:.]+")
_LONGEST = 500  # of what the server writes, in our errors


def ask(
    query: str, variables: dict[str, Any] | None, keys: Keys | None, *, needs_keys: bool
) -> dict[str, Any]:
    """Return the answer to a query; a query is repeated, a mutation is not.

    Parameters
    ----------
    query : str
        In GraphQL.
    variables : dict
        Of the query.
    keys : Keys or None
        They are sent if they are needed.
    needs_keys : bool

    Raises
    ------
    ServerError
        If the server cannot be reached, or refuses.
    NoOpenRound
        If it refuses because no round is open.
    """
    if needs_keys and keys is None:
        raise ServerError(
            f"This needs a key of yours, and neither {PUBLIC} nor {SECRET} is set. "
            f"{WHERE}"
        )
    answer = send(
        "POST",
        _address(),
        to=SERVER,
        again=not query.lstrip().startswith("mutation"),
        authorization=keys.header if keys is not None and needs_keys else "",
        json={"query": query, "variables": variables},
        headers={"Accept": "application/json"},
    )
    try:
        content = answer.json()
    except ValueError:
        content = None
    errors = content.get("errors") if isinstance(content, dict) else None
    if errors or answer.status_code in (401, 403):
        raise _refused(_field(query), _message(errors), answer.status_code, keys)
    if answer.status_code != 200:
        kind = error_of(answer)
        is_busy = kind is NoAnswerError
        raise kind(
            f"{SERVER} answered {_field(query)!r} with HTTP status "
            f"{answer.status_code}. {'Try again later.' if is_busy else _between()}"
        )
    if content is None:
        raise ServerError(
            f"What answered {_field(query)!r} is not {SERVER}: it sent no JSON. "
            f"{_between()}"
        )
    if not isinstance(content, dict):
        raise strange(_field(query))
    return content


def _between() -> str:
    """Return what to do if something else answers instead of the server."""
    if os.environ.get(_ADDRESS, "").strip():
        return f"Check {_ADDRESS}, or unset it to use {_NUMERAI}."
    return (
        "A proxy or a network that wants you to sign in may have answered: open "
        "https://numer.ai in a browser, then try again."
    )


def strange(field: str) -> ServerError:
    """Return the error about an answer that has not the expected form."""
    return ServerError(
        f"{SERVER} answered {field!r} in a form that this version does not know. "
        "Install newer versions of numerapi and numerai-features."
    )


def _address() -> str:
    """Return the server's address; keys must not cross a network in clear."""
    address = os.environ.get(_ADDRESS, "").strip() or _NUMERAI
    if not _is_usable(address):
        raise ServerError(
            f"{_ADDRESS} must be an address that begins with https://, or one of this "
            f"machine; got {scrub(address)!r}. Unset it to use {_NUMERAI}."
        )
    return address


def _is_usable(address: str) -> bool:
    """Whether keys can be sent to an address."""
    try:
        parts = urlsplit(address)
        host, is_whole = parts.hostname or "", parts.port != 0
    except ValueError:  # the port, or brackets
        return False
    if parts.scheme == "http":
        return host in _LOOPBACK and is_whole
    return parts.scheme == "https" and bool(_HOST.fullmatch(host)) and is_whole


def _refused(
    field: str, message: str, status: int, keys: Keys | None
) -> RefusedError | NoOpenRound:
    """Return the error about what the server has refused."""
    message = scrub(message, keys)[:_LONGEST] or f"HTTP status {status}"
    if _OF_ROUNDS.search(message):
        return NoOpenRound(
            f"No round is open for submissions ({message}). {WHEN}; "
            "`weekly` waits for one."
        )
    if status in (401, 403) or _OF_KEYS.search(message):
        return RefusedError(
            f"{SERVER} refused your key for {field!r} ({message}). It may have been "
            f"deleted or have expired, or lack a permission. {WHERE}"
        )
    return RefusedError(f"{SERVER} refused {field!r}: {message}")


def _message(errors: Any) -> str:
    """Return the messages of an answer's errors."""
    if isinstance(errors, dict):
        errors = [errors]
    if not isinstance(errors, list):
        return ""
    told = [
        str(each.get("message") or each.get("detail") or "")
        if isinstance(each, dict)
        else str(each)
        for each in errors
    ]
    return "; ".join(filter(None, told))


def _field(query: str) -> str:
    """Return the first field that a query asks for."""
    found = re.search(r"\{\s*(\w+)", query)
    return found[1] if found else "a query"
