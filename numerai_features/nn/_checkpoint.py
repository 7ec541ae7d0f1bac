"""Training states on disk: tensors in safetensors format, in a sealed file."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from numerai_features._sealed import SealError, read_sealed, set_aside, write_sealed
from numerai_features._warn import warn
from numerai_features._whole import sweep_all
from numerai_features.nn import _parallel

_KIND = "checkpoint"


class Checkpoint:
    """The checkpoint file of one run.

    Parameters
    ----------
    file : Path
        Its name should be unique to the run.
    every : float, default=60
        Seconds between two writes.
    key : str, default=""
        A hash of everything that the run depends on.
    """

    def __init__(self, file: Path, every: float = 60.0, *, key: str = "") -> None:
        self.file = file
        self.every = every
        self.key = key
        self._written = time.monotonic()

    def is_due(self) -> bool:
        """Whether it is time to write."""
        return time.monotonic() - self._written >= self.every

    def write(self, tensors: dict[str, Tensor], progress: dict[str, Any]) -> None:
        """Write a state atomically: a reader sees the old state or the new one.

        If it cannot be written, for instance on a full disk, a warning is issued and
        the previous state stays.
        """
        from safetensors.torch import save

        if _parallel.rank() == 0:
            # Copies, so that a matrix that two layers share is written for both.
            layout = torch.contiguous_format
            plain = {
                k: v.detach().cpu().clone(memory_format=layout)
                for k, v in tensors.items()
            }
            try:
                self.file.parent.mkdir(parents=True, exist_ok=True)
                write_sealed(
                    self.file,
                    progress,
                    kind=_KIND,
                    key=self.key,
                    write=lambda stream: stream.write(save(plain)),
                )
            except OSError as error:
                warn(
                    f"The checkpoint {self.file} cannot be written ({error}); training "
                    "goes on without it.",
                    RuntimeWarning,
                )
        self._written = time.monotonic()

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return the last state written, or None if there is no usable one.

        A state that is damaged, or was written by another version, is set aside.
        """
        from safetensors.torch import load

        try:
            progress, tensors = read_sealed(
                self.file,
                kind=_KIND,
                key=self.key,
                read=lambda stream: load(stream.read()),
            )
        except (FileNotFoundError, NotADirectoryError):
            return None
        except SealError as error:
            set_aside(self.file, error)
            return None
        return tensors, progress

    def remove(self) -> None:
        """Delete the file of a completed run."""
        if _parallel.rank() == 0:
            with contextlib.suppress(OSError):  # the run is complete in any case
                self.file.unlink(missing_ok=True)
                sweep_all(self.file.parent)  # also of abandoned runs
