"""The process in which an exported file runs as on Numerai's server."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from numerai_features.export import _server

SECONDS = 600
"""Numerai's limit of time."""

BYTES = 4 << 30
"""Numerai's limit of memory."""

_FORBIDDEN = [
    "numerai_features", "torch", "umap", "pynndescent", "numba", "llvmlite", "jax",
    "numerai_tools", "array_api_compat", "lightgbm", "xgboost",
    *_server._OF_TREES,
]  # fmt: skip
_THREADS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS",
)  # fmt: skip
_GRACE = 60  # seconds more, to start
_SMALLER = "Export fewer trees or smaller networks."


def serve(place: Path, file: Path, interpreter: str, seconds: int) -> dict[str, Any]:
    """Run the server's program on a folder; return what it told.

    Parameters
    ----------
    place : Path
        The folder, with the model and the rows; see `_server`.
    file : Path
        The exported file, for messages.
    interpreter : str
        The Python that runs it.
    seconds : int
        The limit until the predictions are made.

    Raises
    ------
    ValueError
        If the file fails, or needs more time or memory than there is.
    """
    (place / "forbidden.json").write_text(json.dumps(_FORBIDDEN))
    # As text: the folder of the program has modules named as some of the library's.
    command = [interpreter, "-c", inspect.getsource(_server), str(place)]
    errors = place / "errors.txt"
    with errors.open("wb") as stream:
        try:
            process = subprocess.Popen(
                command,
                cwd=place,
                env=os.environ | dict.fromkeys(_THREADS, "1"),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stream,
            )
        except OSError as error:
            told_as = f"python={interpreter!r}"
            raise ValueError(f"{told_as} cannot be run: {error}.") from error
        try:
            _wait(process, place / "told.json", file, seconds)
        finally:
            process.kill()
            process.wait()
    if not (place / "told.json").exists():
        last = errors.read_text(errors="replace").strip().splitlines()[-1:]
        raise ValueError(
            f"{file} ended the process with status {process.returncode}: "
            f"{''.join(last) or 'no message'}"
        )
    told: dict[str, Any] = json.loads((place / "told.json").read_text("utf-8"))
    if "error" in told:
        failed = ValueError(_what_failed(told, file, interpreter))
        failed.add_note(told["traceback"])
        raise failed
    if told["step"] != "done":
        raise ValueError(
            f"{file} ended the process with status {process.returncode}, after its "
            "predictions were made."
        )
    for name, limit, unit in (("seconds", seconds, "s"), ("resident", BYTES, "bytes")):
        if told[name] > limit:
            raise ValueError(
                f"{file} needs {told[name]:,.0f} {unit}; the limit is {limit:,} {unit}."
                f" {_SMALLER}"
            )
    return told


def _wait(process: Any, told: Path, file: Path, seconds: int) -> None:
    """Wait for a process; only until its predictions are made is there a limit."""
    try:
        process.wait(seconds + _GRACE)
    except subprocess.TimeoutExpired:
        if not told.exists():
            raise ValueError(
                f"{file} has not ended after {seconds} s, the limit. {_SMALLER}"
            ) from None
        process.wait()


def _what_failed(told: dict[str, Any], file: Path, interpreter: str) -> str:
    """Return what to say of an error of the process."""
    step, error = told["step"], told["error"].rstrip(".")
    if step == "starting":
        return f"python={interpreter!r} lacks what the file needs: {error}."
    if step == "reading":
        return f"{file} is damaged, or export_predict has not written it: {error}."
    if step == "predicting train":
        return f"train cannot be predicted: {error}."
    return f"{file} would fail on Numerai's server, while {step}: {error}."
