"""Device and precision of training."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import nn

WORTH_IT = 1e9
"""Operations per step, about ten milliseconds, above which bfloat16 pays off."""


def resolve_device(device: str) -> torch.device:
    """Return the device; "auto" is a GPU if torch sees one, else the CPU."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"device must be 'auto', 'cpu', 'cuda' or 'cuda:N'; got {device!r}."
        ) from error
    if found.type not in ("cpu", "cuda"):
        raise ValueError(
            f"device must be 'auto', 'cpu', 'cuda' or 'cuda:N'; got {device!r}."
        )
    if found.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError(
                f"device={device!r}, but torch sees no CUDA GPU. Use device='auto'."
            )
        if ":" not in device:
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return found


def operations(task: nn.Module, rows_per_step: float) -> float:
    """Return the floating-point operations of a training step.

    Each weight and row takes two in the forward pass and two for each of two gradients.
    """
    weights = sum(p.numel() for p in task.parameters() if p.ndim >= 2)
    return 6 * rows_per_step * weights


def resolve_precision(precision: str, device: torch.device, work: float) -> torch.dtype:
    """Return the type in which matrix products are computed.

    "auto" is bfloat16 where it pays off: on GPUs since Ampere, and on CPUs with AMX if
    the `work` of a step, in operations, is large enough for several threads.
    """
    if precision != "auto":
        chosen: torch.dtype = getattr(torch, precision)
        return chosen
    if device.type == "cuda":
        capable = torch.cuda.get_device_capability(device) >= (8, 0)
        return torch.bfloat16 if capable else torch.float32
    if work < WORTH_IT:
        return torch.float32
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return torch.bfloat16 if capabilities.get("amx_bf16") else torch.float32
