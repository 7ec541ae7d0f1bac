"""The user's keys: where they come from, and how they stay out of every text."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from numerai_features._optional import import_optional
from numerai_features.tournament._errors import ROOM, ServerError

PUBLIC, SECRET = "NUMERAI_PUBLIC_ID", "NUMERAI_SECRET_KEY"
WHERE = (
    "Make one at https://numer.ai/account, with the permissions to upload submissions "
    "and to view user and submission info, and set its two parts as the environment "
    f"variables {PUBLIC} and {SECRET}."
)
_HIDDEN = "***"
_SHORTEST = 4  # shorter texts are no keys, and occur in any text


class Keys(NamedTuple):
    """The two parts of a key. Its repr hides them."""

    public: str
    secret: str

    def __repr__(self) -> str:
        return f"Keys({_HIDDEN})"

    @property
    def header(self) -> str:
        """The value of the header that authorizes a request."""
        return f"Token {self.public}${self.secret}"


def read_keys() -> Keys | None:
    """Return the keys of the environment, or where numerapi finds them; None: none.

    Raises
    ------
    ServerError
        If one part is missing, or holds what no key holds.
    """
    numerapi = import_optional("numerapi", extra="numerai", needed_by=ROOM)
    given = [(key or "").strip() for key in numerapi.utils.load_secrets()]
    if not any(given):
        return None
    for name, key in zip((PUBLIC, SECRET), given, strict=True):
        if not key:
            raise ServerError(f"{name} is not set; a key has two parts. {WHERE}")
        # A header cannot hold others, and the error about it would show the key.
        if not re.fullmatch(r"[!-~]+", key):
            raise ServerError(
                f"{name} holds spaces, line ends or letters that no key holds. Copy it "
                f"again. {WHERE}"
            )
    return Keys(*given)


def scrub(text: str, keys: Keys | None = None) -> str:
    """Return a text without keys, and without the signatures of addresses.

    Parameters
    ----------
    text : str
        What a server or a library has written.
    keys : Keys, default=None
        Besides those of the environment.
    """
    secrets = [*(keys or ()), os.environ.get(PUBLIC, ""), os.environ.get(SECRET, "")]
    for secret in sorted(map(str.strip, secrets), key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, _HIDDEN)
    text = re.sub(r"Token \S*\$\S+", f"Token {_HIDDEN}", text)
    text = re.sub(r"(https?://)[^\s/@]+@", rf"\1{_HIDDEN}@", text)
    return re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\"]*", rf"\1?{_HIDDEN}", text)
