"""The optimiser, the learning rate schedule and weight decay."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

_WARM_UP = 0.3
_START, _END = 0.04, 1e-5  # of the largest learning rate


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of the training loop.

    Attributes
    ----------
    max_epochs : int
    learning_rate : float
        Largest learning rate of the schedule (AdamW).
    schedule : {"one-cycle", "constant"}
        "one-cycle": the rate rises along a cosine in the first 30 % of all steps, then
        falls to nearly 0 (Smith and Topin, 2018).
    weight_decay : float
        Weight decay of matrices; biases and normalisations have none.
    clip_norm : float or None
        Largest norm of the gradient; a longer gradient is scaled down.
    ema_decay : float or None
        Decay of an exponential moving average of the weights; the averaged weights are
        then evaluated and kept.
    patience : int or None
        Training stops after this many epochs without a better `monitor`.
    monitor : str
        Held-out metric that selects the best epoch: "valid_" and its name.
    dtype : torch.dtype
        Type of matrix products during training (autocast); parameters and all other
        operations stay float32.
    """

    max_epochs: int
    learning_rate: float = 1e-3
    schedule: str = "one-cycle"
    weight_decay: float = 0.0
    clip_norm: float | None = None
    ema_decay: float | None = None
    patience: int | None = None
    monitor: str = "valid_loss"
    dtype: torch.dtype = torch.float32


def learning_rate(settings: TrainingSettings, step: int, n_steps: int) -> float:
    """Return the learning rate of one of `n_steps` steps."""
    largest = settings.learning_rate
    if settings.schedule == "constant":
        return largest
    n_up = max(1.0, _WARM_UP * n_steps)
    if step < n_up:
        return largest * (_START + (1 - _START) * _cosine_rise(step / n_up))
    done = (step - n_up) / max(1.0, n_steps - n_up)
    return largest * max(_END, 1 - _cosine_rise(done))


def _cosine_rise(done: float) -> float:
    """Return a cosine from 0 at 0 to 1 at 1, flat at both ends."""
    return (1 - math.cos(math.pi * min(done, 1.0))) / 2


def make_optimizer(
    task: nn.Module, settings: TrainingSettings
) -> torch.optim.Optimizer:
    """Return AdamW for the trainable parameters; only matrices decay."""
    parameters = [p for p in task.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {
            "params": [p for p in parameters if p.ndim >= 2],
            "weight_decay": settings.weight_decay,
        },
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, settings.learning_rate, fused=True)
