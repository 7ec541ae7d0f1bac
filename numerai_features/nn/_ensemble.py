"""Several networks of one shape: in a row, or at once where that pays.

On a CPU, whose cores one network keeps busy, they are trained one after the other. On a
GPU a small network's step is mostly the time that its many little operations take to be
launched: there each operation is done for all networks together, by `torch.func.vmap`
over their stacked parameters. The networks and their trainers know nothing of it.
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
from numerai_features.nn._training import Trainer, set_gradients


def train_all(trainers: Sequence[Trainer]) -> None:
    """Train networks to the end; then their checkpoints are removed."""
    on_gpu = all(t.losses.device.type == "cuda" for t in trainers)
    by_rows = all(isinstance(t.batches, RowBatches) for t in trainers)
    # Sums over processes are not to be had of stacked networks.
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
    """Train networks side by side; each stops and is kept as if alone.

    What is drawn on the device is drawn for all of them by one generator, so that they
    do not end as in a row.
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
        else:  # taken up again at steps of other sizes
            losses = [
                set_gradients(trainer.task, batch, trainer.settings.dtype)
                for trainer, batch in zip(together, batches, strict=True)
            ]
        for trainer, loss in zip(together, losses, strict=True):
            trainer.take_step(loss)
        # At one step: what is drawn for all depends on where the first one is.
        if any(t.checkpoint is not None and t.checkpoint.is_due() for t in together):
            for trainer in together:
                trainer.save()
    for trainer in trainers:
        trainer.finish()


def stacked_gradients(
    trainers: Sequence[Trainer],
) -> Callable[[Sequence[Batch]], Tensor]:
    """Return what sets the gradients of all networks, and tells their losses.

    Parameters and buffers of the networks become slices of stacked ones.

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
            loss: Tensor = functional_call(
                template, {**own, **rest}, (batch.with_tensors(tensors),)
            )
        return loss

    def set_at_once(batches: Sequence[Batch]) -> Tensor:
        each = [batch.tensors(squares=tasks[0].needs_squares) for batch in batches]
        tensors = {k: torch.stack([one[k] for one in each]) for k in each[0]}
        gradients, losses = vmap(
            grad_and_value(loss_of), in_dims=(0, 0, 0, None), randomness="different"
        )(learned, {**fixed, **buffers}, tensors, batches[0])
        for number, task in enumerate(tasks):
            for name, parameter in task.named_parameters():
                if name in learning:
                    # The fused step reads memory as it lies, in the parameter's order.
                    parameter.grad = gradients[name][number].contiguous()
        return losses.detach()  # type: ignore[no-any-return]

    return set_at_once


def _share_memory(task: Task, stacked: dict[str, Any], number: int) -> None:
    """Let a network's tensors be slices of the stacked ones."""
    named: Any = [*task.named_parameters(), *task.named_buffers()]
    for name, tensor in named:
        tensor.data = stacked[name][number]
