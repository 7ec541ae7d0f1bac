"""Training states on disk: tensors in safetensors, the rest as JSON in its header."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from numerai_features.nn import _parallel

_PROGRESS = "progress"


class Checkpoint:
    """One run's file.

    Parameters
    ----------
    file : Path
        Its name should tell the run apart from all others.
    every : float, default=60
        Seconds from one writing to the next.
    """

    def __init__(self, file: Path, every: float = 60.0) -> None:
        self.file = file
        self.every = every
        self._written = time.monotonic()

    def is_due(self) -> bool:
        """Whether it is time to write."""
        return time.monotonic() - self._written >= self.every

    def write(self, tensors: dict[str, Tensor], progress: dict[str, Any]) -> None:
        """Write a state; a reader sees the old one or the new one, never half."""
        from safetensors.torch import save_file

        if _parallel.rank() == 0:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            part = self.file.with_suffix(f".part{os.getpid()}")
            # Copies: a matrix that two layers share is written for each of them.
            layout = torch.contiguous_format
            plain = {
                k: v.detach().cpu().clone(memory_format=layout)
                for k, v in tensors.items()
            }
            save_file(plain, part, metadata={_PROGRESS: json.dumps(progress)})
            os.replace(part, self.file)
        self._written = time.monotonic()

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return the last state written, None if there is none."""
        from safetensors import safe_open

        if not self.file.exists():
            return None
        with safe_open(self.file, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}
            progress = json.loads(opened.metadata()[_PROGRESS])
        return tensors, progress

    def remove(self) -> None:
        """Delete the file of a run that is done."""
        if _parallel.rank() == 0:
            for file in (self.file, *self.file.parent.glob(f"{self.file.stem}.part*")):
                file.unlink(missing_ok=True)
