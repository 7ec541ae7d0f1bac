"""The finished results of an output folder, and its resolved experiment file."""

from __future__ import annotations

import hashlib
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from numerai_features._whole import whole_file
from numerai_features.experiment._arms import COLUMNS
from numerai_features.experiment._file import ExperimentError

RESULTS = (
    "predictions.parquet",
    "scores.parquet",
    "summary.parquet",
    "periods.parquet",
    "cumulative.png",
    "differences.png",
)
RESOLVED = "resolved.toml"
"""The experiment with all defaults; a user's own file is unlikely to have this name."""

_TABLES = ("summary", "periods")  # their rows are arms
_BESIDE_ARMS = set(COLUMNS)
_SEED = re.compile(r", seed \d+$")
_HEAD = "# Written by numerai-features: all settings of the run. Change a copy of it.\n"
_KEYS = re.compile(r"# run ([0-9a-f]{64}), text ([0-9a-f]{64})\n")


@dataclass(frozen=True)
class Finished:
    """Description of an output folder's finished results.

    Attributes
    ----------
    files : tuple of str, default=()
        Names of the files.
    arms : frozenset of str, default=frozenset()
        The arms that the files hold.
    key : str, default=""
        The key of the settings that they were made with; empty if it is unknown.
    """

    files: tuple[str, ...] = ()
    arms: frozenset[str] = frozenset()
    key: str = ""


def look_for_results(folder: Path) -> Finished:
    """Return a description of the finished results of a folder."""
    files = tuple(name for name in RESULTS if (folder / name).exists())
    arms = {arm for name in files for arm in _arms_in(folder / name)}
    if all(name.endswith(".png") for name in files):
        files = ()  # pictures alone are drawn again
    elif not arms:
        arms.add("")  # results that cannot be read
    keys = _keys_of(_read(folder / RESOLVED))
    return Finished(files, frozenset(arms), keys[0] if keys else "")


def write_resolved(folder: Path, text: str, key: str) -> None:
    """Write the resolved experiment, unless the user has written or edited the file.

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
    """Raise if writing the resolved experiment would lose the user's changes.

    Parameters
    ----------
    folder : pathlib.Path
    text : str
        The text to write.
    """
    before = _read(folder / RESOLVED)
    if _is_ours(before):
        return
    try:
        if tomllib.loads(before or "") == tomllib.loads(text):
            return  # edited, but with the same settings
    except (ValueError, RecursionError):
        pass
    raise ExperimentError(
        f"{folder / RESOLVED} was edited, or not written by a run, so it is not "
        "replaced. Rename it, or choose another output folder (output=, or --output "
        "on the command line)."
    )


def _arms_in(file: Path) -> set[str]:
    """Return the arms that are columns of a results file, if it has any."""
    if file.suffix != ".parquet" or file.stem in _TABLES:
        return set()
    from numerai_features.datasets._parquet_names import open_parquet

    try:
        with open_parquet(file) as parquet:
            names = set(parquet.schema_arrow.names)
    except ValueError:
        return set()
    return {_SEED.sub("", name).removeprefix("+ ") for name in names - _BESIDE_ARMS}


def _read(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return ""


def _is_ours(text: str | None) -> bool:
    """Whether a resolved experiment is missing, or unchanged since a run wrote it."""
    return text is None or bool(_keys_of(text))


def _keys_of(text: str | None) -> tuple[str, str] | None:
    """Return the keys at the head of a text; None if they do not match it."""
    keys = _KEYS.match(text or "", len(_HEAD))
    if not text or not keys or not text.startswith(_HEAD):
        return None
    return (keys[1], keys[2]) if _sum_of(text[keys.end() :]) == keys[2] else None


def _sum_of(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=32).hexdigest()
