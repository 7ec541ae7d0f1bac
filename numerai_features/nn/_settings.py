"""How to train, and what is told when it fails."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

_WARM_UP = 0.3
_START, _END = 0.04, 1e-5  # of the largest learning rate
_MATRIX_AXES = 3  # one of them the models'


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes
    ----------
    max_epochs : int
    learning_rate : float
        Of AdamW; the largest of the schedule.
    schedule : {"one-cycle", "constant"}
        "one-cycle": up by a cosine in the first 30 % of all steps, then down to
        nearly nothing (Smith and Topin, 2018).
    weight_decay : float
        Of matrices; biases and normalisations have none.
    clip_norm : float or None
        Largest norm of each model's gradient.
    average : float or None
        Decay of an exponential average of the weights, which is then what is judged
        and kept.
    patience : int or None
        Epochs without a better `monitor` until a model stops.
    monitor : str
        Metric of the rows held out that tells the best epoch: "valid_" and its name.
    """

    max_epochs: int
    learning_rate: float = 1e-3
    schedule: str = "one-cycle"
    weight_decay: float = 0.0
    clip_norm: float | None = None
    average: float | None = None
    patience: int | None = None
    monitor: str = "valid_loss"


def learning_rate(settings: Settings, step: int, n_steps: int) -> float:
    """Return the learning rate of a step, of `n_steps` in all."""
    largest = settings.learning_rate
    if settings.schedule == "constant":
        return largest
    n_up = max(1.0, _WARM_UP * n_steps)
    if step < n_up:
        return largest * (_START + (1 - _START) * _cosine_rise(step / n_up))
    done = (step - n_up) / max(1.0, n_steps - n_up)
    return largest * max(_END, 1 - _cosine_rise(done))


def _cosine_rise(done: float) -> float:
    """Return 0 at 0, 1 at 1, flat at both ends."""
    return (1 - math.cos(math.pi * min(done, 1.0))) / 2


def make_optimizer(
    parameters: Sequence[nn.Parameter], settings: Settings
) -> torch.optim.Optimizer:
    """Return AdamW, which decays matrices alone."""
    matrices = [p for p in parameters if p.ndim >= _MATRIX_AXES]
    others = [p for p in parameters if p.ndim < _MATRIX_AXES]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, settings.learning_rate, fused=True)


class DivergedError(ArithmeticError):
    """The loss is not a finite number.

    Attributes
    ----------
    epoch, batch, model : int
        Where, each from 1.
    losses : list of float
        Of the model's earlier epochs, then of this epoch's batches up to that one.
    """

    def __init__(
        self, epoch: int, batch: int, model: int, losses: list[float], rate: float
    ) -> None:
        self.epoch, self.batch, self.model, self.losses = epoch, batch, model, losses
        *earlier, value = losses
        where = f"The loss is {value} in epoch {epoch}, batch {batch} (model {model})"
        if not earlier:
            message = (
                f"{where}, before any step was taken: the rows or targets hold values "
                "too large for float32. Scale them down, or clip them."
            )
        else:
            message = (
                f"{where}, after losses from {min(earlier):.4g} to "
                f"{max(earlier):.4g}: the weights have grown without bounds. Lower "
                f"learning_rate={rate} (a tenth, say), or set clip_norm=1. Or else a "
                "row of this batch holds values too large for float32."
            )
        super().__init__(message)
