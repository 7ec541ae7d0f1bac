"""What commands print, and how their results become JSON."""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import sys
from pathlib import Path
from typing import Any


def say(arguments: argparse.Namespace, text: str) -> None:
    """Print a text, unless the user wants nothing, or JSON alone."""
    if not (arguments.quiet or arguments.json):
        print(text, flush=True)


def note(text: str) -> None:
    """Print a warning on the standard error, also if the user wants no output.

    Cron mails what a command prints there.
    """
    print(f"Note: {text}", file=sys.stderr, flush=True)


def shows_bars(arguments: argparse.Namespace) -> bool:
    """Whether to show progress bars: only a person at a terminal can read them."""
    return not arguments.quiet and sys.stderr.isatty()


def say_next(arguments: argparse.Namespace, *words: str | os.PathLike[str]) -> None:
    """Print the command that comes next."""
    line = shlex.join(os.fspath(word) for word in words)
    say(arguments, f"Next: numerai-features {line}")


def shown(path: str | os.PathLike[str]) -> Path:
    """Return a path relative to the current folder if it is in it, to be shown."""
    here, there = Path.cwd(), Path(path)
    return there.relative_to(here) if there.is_relative_to(here) else there


def print_json(result: dict[str, Any]) -> None:
    """Print one JSON object on the standard output.

    Parameters
    ----------
    result : dict
        Of JSON's types; paths become text, numbers of NumPy Python's, and numbers that
        are not finite null.
    """
    print(json.dumps(_plain(result), allow_nan=False), flush=True)


def _plain(value: Any) -> Any:
    """Return a value of JSON's types; NumPy's numbers become Python's."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "item"):  # a number of NumPy, which is not imported here
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
