"""What an output folder holds beside the fits: finished results, and their settings."""

from __future__ import annotations

import hashlib
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from numerai_features._whole import whole_file
from numerai_features.experiment._arms import ORIGINALS
from numerai_features.experiment._file import ExperimentError

RESULTS = ("predictions.parquet", "scores.parquet", "summary.parquet", "cumulative.png")
RESOLVED = "resolved.toml"
"""The experiment with all defaults; no name that the user's own file is likely to have.
"""

_BESIDE_ARMS = {"era", "target", "fold", "id"}
_HEAD = "# Written by numerai-features: all settings of the run. Change a copy of it.\n"
_KEYS = re.compile(r"# run ([0-9a-f]{64}), text ([0-9a-f]{64})\n")


@dataclass(frozen=True)
class Finished:
    """What is known of an output folder's finished results.

    Attributes
    ----------
    files : tuple of str, default=()
        Their names.
    arms : frozenset of str, default=frozenset()
        The arms that they hold.
    key : str, default=""
        The key of the settings that they were made with; empty if it is not known.
    """

    files: tuple[str, ...] = ()
    arms: frozenset[str] = frozenset()
    key: str = ""


def look_for_results(folder: Path) -> Finished:
    """Return what is known of the finished results of a folder."""
    files = tuple(name for name in RESULTS if (folder / name).exists())
    arms = {arm for name in files for arm in _arms_in(folder / name)}
    if files:  # every experiment has this one
        arms.add(ORIGINALS)
    keys = _keys_of(_read(folder / RESOLVED))
    return Finished(files, frozenset(arms), keys[0] if keys else "")


def write_resolved(folder: Path, text: str, key: str) -> None:
    """Write the text of a resolved experiment, unless the user has written it.

    Parameters
    ----------
    folder : pathlib.Path
    text : str
        The experiment as TOML.
    key : str
        The key of its settings.
    """
    if _is_ours(_read(folder / RESOLVED)):
        with whole_file(folder / RESOLVED) as temporary:
            head = f"{_HEAD}# run {key}, text {_sum_of(text)}\n"
            temporary.write_text(head + text, encoding="utf-8")


def check_resolved(folder: Path, text: str) -> None:
    """Raise if the folder's resolved experiment is another one, and the user's own.

    Parameters
    ----------
    folder : pathlib.Path
    text : str
        What shall be written.
    """
    before = _read(folder / RESOLVED)
    if _is_ours(before):
        return
    try:
        if tomllib.loads(before or "") == tomllib.loads(text):
            return  # edited, but for its settings
    except (ValueError, RecursionError):
        pass
    raise ExperimentError(
        f"{folder / RESOLVED} is there, but not as a run has written it, so it is not "
        "replaced. Rename it, or choose another output folder (output=, or --output "
        "in the command line)."
    )


def _arms_in(file: Path) -> set[str]:
    """Return the arms that are columns of a file of results; none if it has none."""
    if file.suffix != ".parquet" or file.stem == "summary":
        return set()
    from numerai_features.datasets._parquet_names import open_parquet

    try:
        with open_parquet(file) as parquet:
            names = set(parquet.schema_arrow.names)
    except ValueError:
        return set()
    return {name.removeprefix("+ ") for name in names - _BESIDE_ARMS}


def _read(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return ""


def _is_ours(text: str | None) -> bool:
    """Whether a resolved experiment is missing, or as a run has written it."""
    return text is None or bool(_keys_of(text))


def _keys_of(text: str | None) -> tuple[str, str] | None:
    """Return the keys in front of a text; None where they do not belong to it."""
    keys = _KEYS.match(text or "", len(_HEAD))
    if not text or not keys or not text.startswith(_HEAD):
        return None
    return (keys[1], keys[2]) if _sum_of(text[keys.end() :]) == keys[2] else None


def _sum_of(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=32).hexdigest()
