"""How the command ends on Ctrl-C or SIGTERM."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

# As in shells: 128 plus the number of the signal.
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM

_ONE_PRESS = 2.0  # seconds in which a repeated Ctrl-C is ignored


class Terminated(SystemExit):
    """Raised on SIGTERM, so that the command ends as after Ctrl-C."""


def listen() -> dict[int, Any]:
    """Make Ctrl-C raise once, even if pressed repeatedly, and SIGTERM raise, too.

    Only Python's default handlers are replaced, and only in the main thread.

    Returns
    -------
    dict
        The previous handlers of the signals that got new ones.
    """
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            before[signal.SIGINT] = signal.signal(signal.SIGINT, _once())
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            before[signal.SIGTERM] = signal.signal(signal.SIGTERM, _terminate)
    return before


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Call `listen` for a block; the previous handlers are restored after it."""
    before = listen()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_ctrl_c() -> None:
    """Ignore Ctrl-C during the last steps before the process ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _once() -> Callable[[int, FrameType | None], None]:
    """Return a handler that raises, but ignores repeats within `_ONE_PRESS`."""
    last = -_ONE_PRESS

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _ONE_PRESS:
            last = now
            raise KeyboardInterrupt

    return handle


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)  # the process is already ending
    raise Terminated(TERMINATED)
