"""A stack of models, computed at once or one after the other."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import torch
from torch import Tensor, nn


class Stack:
    """Losses and gradients of all models of a task.

    A GPU computes them at once. On a CPU, whose caches hold the batch of one model but
    not those of all, each has a task of its own that shares its memory with the stack:
    parameters, buffers and gradients are slices of the stacked ones.

    Parameters
    ----------
    task : nn.Module
        The first axis of every parameter and buffer is the models'.
    """

    def __init__(self, task: nn.Module) -> None:
        self.task = task
        first = next(task.parameters())
        n_models = len(first)
        one_by_one = n_models > 1 and first.device.type == "cpu"
        self.parts = [_model(task, m) for m in range(n_models)] if one_by_one else []

    def train(self, mode: bool = True) -> None:
        """Set all modules to training, or to evaluation."""
        for task in (self.task, *self.parts):
            task.train(mode)

    def backward(self, batch: Any) -> Tensor:
        """Set the gradients; return the losses, (n_models,)."""
        for p in self.task.parameters():
            if self.parts and p.grad is not None:
                p.grad.zero_()
            else:
                p.grad = None
        if not self.parts:
            return _backward(self.task, batch)
        each = (_backward(p, batch.model(m)) for m, p in enumerate(self.parts))
        return torch.cat(list(each))


def _backward(task: nn.Module, batch: Any) -> Tensor:
    losses: Tensor = task(batch)
    losses.sum().backward()  # type: ignore[no-untyped-call]
    return losses.detach()


def _model(task: nn.Module, number: int) -> nn.Module:
    """Return the task of one model; its tensors are slices of the stacked ones."""
    own = slice(number, number + 1)
    part = copy.deepcopy(task)
    tensors = itertools.chain(task.parameters(), task.buffers())
    mine = itertools.chain(part.parameters(), part.buffers())
    for slice_, stacked in zip(mine, tensors, strict=True):
        slice_.data = stacked.data[own]
        if stacked.requires_grad:
            if stacked.grad is None:
                stacked.grad = torch.zeros_like(stacked)
            slice_.grad = stacked.grad[own]
    return part
