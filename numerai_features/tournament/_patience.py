"""How long to go on asking, while a server or a file is not ready."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import ParamSpec, TypeVar

from numerai_features.tournament._errors import NoAnswerError

POLL = 60.0  # seconds between two questions

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Patience:
    """The time in which questions are asked again.

    Parameters
    ----------
    seconds : float
        From now on; with 0, everything is asked once.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def end_by(self, moment: datetime) -> None:
        """Let it end at that moment, unless it ends before."""
        left = (moment - datetime.now(UTC)).total_seconds()
        self._end = min(self._end, time.monotonic() + left)

    def sleep(self) -> bool:
        """Sleep until the next question; return False if the time is over."""
        left = self._end - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(POLL, left))
        return True

    def ask(
        self, question: Callable[_P, _T], *args: _P.args, **options: _P.kwargs
    ) -> _T:
        """Call a function, again while no server answers or another process is at it.

        Nothing is repeated that could be done twice: only pass what may be repeated.
        """
        while True:
            try:
                return question(*args, **options)
            except (NoAnswerError, BlockingIOError):
                if not self.sleep():
                    raise
