"""Progress bars and stage names, which show that work is still going on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

_SECONDS = 2.0
_THREAD = "numerai_features-progress"


@contextmanager
def progress(*, hidden: bool, **options: Any) -> Iterator[tqdm[Any]]:
    """Show a progress bar that is redrawn every two seconds.

    tqdm redraws its bar only when the count changes, so a long step would look like a
    process that hangs.

    Parameters
    ----------
    hidden : bool
        Whether to hide the bar.
    **options
        Options of tqdm.

    Yields
    ------
    tqdm
    """
    from tqdm import tqdm

    with tqdm(disable=hidden, **options) as bar:
        if hidden:
            yield bar
            return
        end = threading.Event()
        clock = threading.Thread(
            target=_redraw, args=(bar, end), name=_THREAD, daemon=True
        )
        clock.start()
        try:
            yield bar
        finally:
            end.set()
            clock.join()


def stage(what: str, *, hidden: bool) -> Any:
    """Show the name of a stage and the time that it has taken; see `progress`.

    The bar's ``set_description_str`` changes the name.
    """
    return progress(hidden=hidden, desc=what, bar_format="{desc} [{elapsed}]")


def _redraw(bar: tqdm[Any], end: threading.Event) -> None:
    while not end.wait(_SECONDS):
        try:
            with bar.get_lock():  # tqdm's refresh would not release it after an error
                bar.refresh(nolock=True)
        except (OSError, ValueError):
            return  # the output is closed: the main thread reports it
