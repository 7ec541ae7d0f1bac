"""Training of several networks of one shape: in turn, or together on a GPU.

On a CPU, whose cores one network keeps busy, networks are trained one after the other.
On a GPU a small network's step spends most of its time on launching many small
operations. There `torch.func.vmap` over stacked parameters runs each operation for all
networks at once. The code of networks and trainers does not change.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from numerai_features.nn._batches import Batch, RowBatches
from numerai_features.nn._parallel import n_processes
from numerai_features.nn._task import Task
from numerai_features.nn._training import Trainer, set_gradients, weighted


def train_all(trainers: Sequence[Trainer]) -> None:
    """Train networks to the end, then remove their checkpoints."""
    on_gpu = all(t.losses.device.type == "cuda" for t in trainers)
    by_rows = all(isinstance(t.batches, RowBatches) for t in trainers)
    # Stacked networks cannot sum over processes.
    if len(trainers) > 1 and on_gpu and by_rows and n_processes() == 1:
        train_at_once(trainers)
    else:
        train_in_a_row(trainers)
    for trainer in trainers:
        if trainer.checkpoint is not None:
            trainer.checkpoint.remove()


def train_in_a_row(trainers: Sequence[Trainer]) -> None:
    """Train networks one after the other."""
    for trainer in trainers:
        trainer.run()


def train_at_once(trainers: Sequence[Trainer]) -> None:
    """Train networks together; each stops early and keeps its best epoch on its own.

    One generator on the device draws for all networks, so the results differ from those
    of `train_in_a_row`.
    """
    going = [(trainer, trainer.steps()) for trainer in trainers]
    n_stacked = 0
    while going:
        batches = []
        for trainer, steps in [*going]:
            batch = next(steps, None)
            if batch is None:
                going.remove((trainer, steps))
            else:
                batches.append(batch)
        together = [trainer for trainer, _ in going]
        if going and len(going) != n_stacked:
            set_at_once = stacked_gradients(together)
            n_stacked = len(going)
        if len({len(batch.x) for batch in batches}) == 1:
            losses: Any = set_at_once(batches)
        else:  # resumed at steps of different sizes
            losses = [
                set_gradients(trainer.task, batch, trainer.settings.dtype)
                for trainer, batch in zip(together, batches, strict=True)
            ]
        for trainer, loss in zip(together, losses, strict=True):
            trainer.take_step(loss)
        # All are saved at the same step: the shared draws depend on the first network's
        # step.
        if any(t.checkpoint is not None and t.checkpoint.is_due() for t in together):
            for trainer in together:
                trainer.save()
    for trainer in trainers:
        trainer.finish()


def stacked_gradients(
    trainers: Sequence[Trainer],
) -> Callable[[Sequence[Batch]], Tensor]:
    """Return a function that sets the gradients of all networks and returns the losses.

    The networks' parameters and buffers become slices of stacked tensors.

    Parameters
    ----------
    trainers : sequence of Trainer
    """
    tasks = [trainer.task for trainer in trainers]
    dtype = trainers[0].settings.dtype
    template = copy.deepcopy(tasks[0]).train()
    parameters, buffers = stack_module_state(tasks)
    learning = {name for name, p in tasks[0].named_parameters() if p.requires_grad}
    fixed = {k: v.detach() for k, v in parameters.items() if k not in learning}
    learned = {k: v.detach() for k, v in parameters.items() if k in learning}
    for number, task in enumerate(tasks):
        _share_memory(task, {**learned, **fixed, **buffers}, number)

    def loss_of(
        own: dict[str, Tensor],
        rest: dict[str, Tensor],
        tensors: dict[str, Tensor],
        batch: Batch,
    ) -> Tensor:
        device = next(iter(own.values())).device.type
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            batch = batch.with_tensors(tensors)
            loss = functional_call(template, {**own, **rest}, (batch,))
        return weighted(loss, batch)

    def set_at_once(batches: Sequence[Batch]) -> Tensor:
        each = [batch.tensors(squares=tasks[0].needs_squares) for batch in batches]
        tensors = {k: torch.stack([one[k] for one in each]) for k in each[0]}
        gradients, losses = vmap(
            grad_and_value(loss_of), in_dims=(0, 0, 0, None), randomness="different"
        )(learned, {**fixed, **buffers}, tensors, batches[0])
        for number, task in enumerate(tasks):
            for name, parameter in task.named_parameters():
                if name in learning:
                    # The fused optimiser needs the parameter's memory layout.
                    parameter.grad = gradients[name][number].contiguous()
        return losses.detach()  # type: ignore[no-any-return]

    return set_at_once


def _share_memory(task: Task, stacked: dict[str, Any], number: int) -> None:
    """Make a network's tensors slices of the stacked ones."""
    named: Any = [*task.named_parameters(), *task.named_buffers()]
    for name, tensor in named:
        tensor.data = stacked[name][number]
