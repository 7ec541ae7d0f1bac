"""``panel.json``: how many rows a panel has, in which files, and their checksums."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from numerai_features._names import near_names, some_names
from numerai_features._sealed import SealError, read_sealed, write_sealed
from numerai_features._whole import is_changing, sweep
from numerai_features.datasets._arguments import check_whole
from numerai_features.datasets._panel_checks import (
    check_dtype,
    check_info,
    check_names,
)
from numerai_features.datasets._panel_sums import Layout

Shapes = dict[str, tuple[int, ...]]
Manifest = dict[str, Any]

MANIFEST = "panel.json"
ROLES = ("eras", "features", "targets")  # of the arrays
TRIES = 3
BLOCK_BYTES = 64 << 20  # that have a checksum of their own

_FORMAT_VERSION = 3
_OLD_VERSION = 2  # one checksum for each file
_MOMENTS = 100  # waits of 10 ms for a panel that is being replaced
# The features stay in one file, to which rows are appended. Of the others, a changed
# panel has new files with a number.
_NAME = re.compile(r"(features)\.npy|(targets|eras)(-\d+)?\.npy|(ids)(-\d+)?\.parquet")


def role_of(name: str) -> str | None:
    """Return what a panel's file holds, such as ``"targets"``; None for others."""
    match = _NAME.fullmatch(name)
    return None if match is None else next(part for part in match.groups() if part)


def file_names(manifest: Manifest) -> dict[str, str]:
    """Return the names of a panel's files by what they hold."""
    return {str(role_of(name)): name for name in manifest["checksums"]}


def next_name(manifest: Manifest, role: str) -> str:
    """Return the name of the file that takes the place of a panel's file."""
    stem, _, end = file_names(manifest)[role].partition(".")
    number = int(stem.partition("-")[2] or 1)
    return f"{role}-{number + 1}.{end}"


def array_shapes(
    n_rows: int, feature_names: Sequence[str], target_names: Sequence[str]
) -> Shapes:
    """Return the shape of each array of a panel."""
    return {
        "features": (n_rows, len(feature_names)),
        "targets": (n_rows, len(target_names)),
        "eras": (n_rows,),
    }


def dtype_of(manifest: Manifest, role: str) -> np.dtype[Any]:
    """Return the type of an array of a panel."""
    plain = {"features": manifest["feature_dtype"], "targets": "f4", "eras": "i4"}
    dtype: np.dtype[Any] = np.dtype(plain[role])
    return dtype


def shapes_of(manifest: Manifest) -> Shapes:
    """Return the shape of each array of a panel."""
    names = manifest["feature_names"], manifest["target_names"]
    return array_shapes(manifest["n_rows"], *names)


def layout_of(manifest: Manifest, role: str) -> Layout:
    """Return where a file's rows are."""
    if role == "ids":
        return Layout(1, None)
    n_rows, *width = shapes_of(manifest)[role]
    size = dtype_of(manifest, role).itemsize
    return Layout(int(np.prod(width, dtype=int)) * size, n_rows)


def write_manifest(folder: Path, contents: Manifest) -> None:
    """Write the manifest, whole or not at all: with it, a panel's files change."""
    write_sealed(
        folder / MANIFEST, {"format_version": _FORMAT_VERSION, **contents}, kind="panel"
    )


def read_manifest(path: Path) -> Manifest:
    """Return the checked manifest of a panel.

    Raises
    ------
    FileNotFoundError
        If there is no panel.
    ValueError
        If the manifest is damaged, or of another format.
    """
    file = path / MANIFEST
    missing = 0
    for _ in range(_MOMENTS):
        try:
            record, _payload = read_sealed(file, kind="panel", same_version=False)
        except (FileNotFoundError, NotADirectoryError):
            if is_changing(path):
                sweep(path)  # clean up if its writer was killed
                time.sleep(0.01)
                continue
            missing += 1
            if missing == TRIES:
                break
            continue
        except SealError as error:
            version = unsealed_version(file)
            if version is not None:
                _check_version(file, {"format_version": version})
            raise ValueError(f"{error} Copy or write the panel again.") from error
        _check_version(file, record)
        return _checked_record(file, record)
    beside = [other.parent.name for other in path.parent.glob(f"[!.]*/{MANIFEST}")]
    raise FileNotFoundError(
        f"{path} is not a panel: it has no {MANIFEST}.{near_names(path.name, beside)} "
        "read_numerai and EraPanel.save write panels."
    )


def unsealed_version(manifest: Path) -> Any:
    """Return the version of an unsealed manifest (format 1), else None."""
    try:
        record = json.loads(manifest.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return record.get("format_version") if isinstance(record, dict) else None


def damaged(file: Path, error: Exception) -> ValueError:
    """Return the error about a file that cannot be read."""
    return ValueError(
        f"{file} is truncated or damaged ({error}). Copy or write the panel again."
    )


def _check_version(file: Path, record: Any) -> None:
    version = record.get("format_version") if isinstance(record, dict) else None
    if version in (_OLD_VERSION, _FORMAT_VERSION):
        return
    newer = isinstance(version, int) and version > _FORMAT_VERSION
    advice = (
        "Upgrade with: pip install -U numerai-features"
        if newer
        else "Write the panel again."
    )
    raise ValueError(
        f"{file} has panel format {version!r}; this version reads formats "
        f"{_OLD_VERSION} and {_FORMAT_VERSION}. {advice}"
    )


def _checked_record(file: Path, record: dict[str, Any]) -> Manifest:
    """Return a checked manifest; it cannot name files outside the folder."""
    try:
        checksums = dict(record["checksums"])
        roles = sorted(str(role_of(name)) for name in checksums)
        if [role for role in roles if role != "ids"] != list(ROLES):
            raise ValueError(f"checksums of {some_names(sorted(checksums))}")
        if roles.count("ids") > 1:
            raise ValueError("two files of ids")
        old = record["format_version"] == _OLD_VERSION
        for name, value in checksums.items():
            _check_sums(value, f"checksum of {name}", old=old)
        return {
            "n_rows": check_whole(record["n_rows"], "n_rows"),
            "feature_names": check_names(
                record["feature_names"], None, "feature_names"
            ),
            "target_names": check_names(record["target_names"], None, "target_names"),
            "feature_dtype": check_dtype(
                record.get("feature_dtype", "int8"), "feature_dtype"
            ).name,
            "info": check_info(record["info"]),
            "block_bytes": (
                BLOCK_BYTES
                if old
                else check_whole(record["block_bytes"], "block_bytes")
            ),
            "checksums": checksums,
        }
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(file, error) from error


def _check_sums(value: Any, name: str, *, old: bool) -> None:
    if old:
        check_whole(value, name, least=0)
        return
    for number in [*value["start"], *value["blocks"]]:
        check_whole(number, name, least=0)
