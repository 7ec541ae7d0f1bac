"""Bars and words that tell what is being done, and that it is still being done."""

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
    """Show a progress bar that is drawn anew every two seconds.

    tqdm draws where something is counted, and is silent for as long as one piece takes;
    nobody could tell that from a process that hangs.

    Parameters
    ----------
    hidden : bool
        Whether nothing is shown.
    **options
        tqdm's.

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
    """Show a word for what is being done, and for how long; see `progress`.

    The bar's ``set_description_str`` shows another one.
    """
    return progress(hidden=hidden, desc=what, bar_format="{desc} [{elapsed}]")


def _redraw(bar: tqdm[Any], end: threading.Event) -> None:
    while not end.wait(_SECONDS):
        try:
            with bar.get_lock():  # which tqdm's refresh would keep after an error
                bar.refresh(nolock=True)
        except (
            OSError,
            ValueError,
        ):  # nobody reads any longer: it is the work's to say
            return
