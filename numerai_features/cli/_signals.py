"""How the command ends when it is told to: by Ctrl-C, or by SIGTERM."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

# As shells have it: 128 and the number of the signal.
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM

_ONE_PRESS = 2.0  # seconds, in which pressing Ctrl-C again means nothing more


class Terminated(SystemExit):
    """SIGTERM came: whatever runs ends as if it was interrupted."""


def listen() -> dict[int, Any]:
    """Let Ctrl-C raise once however often it is pressed, and SIGTERM raise, too.

    Handlers that are not Python's own, and other threads', are left alone.

    Returns
    -------
    dict
        The handlers before, of the signals that have new ones.
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
    """Do so in a block; behind it the handlers are as they were."""
    before = listen()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_ctrl_c() -> None:
    """Let nothing interrupt the little that is left to do before the process ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _once() -> Callable[[int, FrameType | None], None]:
    """Return a handler that raises, but not again at once."""
    last = -_ONE_PRESS

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _ONE_PRESS:
            last = now
            raise KeyboardInterrupt

    return handle


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)  # it ends already
    raise Terminated(TERMINATED)
