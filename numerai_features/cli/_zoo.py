"""The command ``zoo``: experiments that are ready to run."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import Any

from numerai_features._whole import whole_file
from numerai_features.cli._say import say, say_next
from numerai_features.experiment._file import as_path
from numerai_features.experiment._zoo import NEWEST, zoo, zoo_text

_DATA = "data"
_VERSIONED = re.compile(r"v(\d+)\.(\d+)")


def add_zoo_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``zoo``."""
    parser.description = (
        "List the experiments that come with this package, or write one of them as a "
        "file to run, to change and to keep. All learn target_ender_60, and compare "
        "arms by CORR, BMC and MMC on Numerai's files."
    )
    parser.add_argument(
        "name", nargs="?", help="the experiment to write (default: list all)"
    )
    parser.add_argument(
        "--output", metavar="FILE", help="the file to write (default: NAME.toml)"
    )
    parser.add_argument(
        "--data",
        metavar="FOLDER",
        default=_DATA,
        help="folder with the downloaded data, which has a folder for each version "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--version",
        metavar="VERSION",
        help=f"version of the data, such as {NEWEST} (default: the newest in the "
        f"folder, or {NEWEST})",
    )


def run_zoo(arguments: argparse.Namespace) -> dict[str, Any]:
    """List the experiments, or write one."""
    if arguments.name is None:
        return _list(arguments)
    folder = as_path(arguments.data, "--data")
    version = arguments.version or _newest(folder)
    output = f"{arguments.name}.toml" if arguments.output is None else arguments.output
    file = as_path(output, "--output")
    # Paths in the file are relative to it, so that both can move together.
    beside = folder if folder.is_absolute() else _relative(folder, file.parent)
    text = zoo_text(arguments.name, beside.as_posix(), version)
    written = _write(file, text)
    say(arguments, f"{'Wrote' if written else 'Already there:'} {file}")
    there = (folder / version / "train.parquet").exists()
    if not there:
        say_next(arguments, *_download(arguments))
    say_next(arguments, "run", file)
    return {
        "file": file, "written": written, "data": folder / version, "data_there": there
    }  # fmt: skip


def _list(arguments: argparse.Namespace) -> dict[str, Any]:
    there = zoo()
    for name, about in there.items():
        say(arguments, f"{name:12}{about}")
    say(arguments, "\nWrite one by: numerai-features zoo small")
    return {"experiments": there}


def _download(arguments: argparse.Namespace) -> list[str]:
    """Return the words of the command that downloads what the experiment reads."""
    options = [] if arguments.data == _DATA else ["--data", arguments.data]
    chosen = [] if arguments.version is None else ["--version", arguments.version]
    return ["download", *options, *chosen]


def _newest(folder: Path) -> str:
    """Return the newest version that a folder has, or the one that the zoo knows."""
    found = [path.name for path in folder.glob("v*") if _VERSIONED.fullmatch(path.name)]
    return max(found, key=_numbers, default=NEWEST)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version[1:].split(".")]


def _relative(folder: Path, start: Path) -> Path:
    return Path(os.path.relpath(folder, start))


def _write(file: Path, text: str) -> bool:
    """Write a file whole, unless it has this text; raise if it has another."""
    if file.is_dir():
        raise IsADirectoryError(
            f"--output: {file} is a folder; expected the path of a file to write."
        )
    if file.exists():
        if file.read_bytes() == text.encode():
            return False
        raise FileExistsError(
            f"{file} exists and has other contents, perhaps yours. Nothing is changed. "
            "Name another file by --output, or remove this one."
        )
    if not file.parent.is_dir():
        raise FileNotFoundError(
            f"--output: the folder {file.parent} does not exist. Make it first."
        )
    with whole_file(file) as new:
        new.write_bytes(text.encode())
    return True
