"""Several processes that share each batch, started by ``torchrun``."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from numerai_features.nn._draws import BLOCK

_groups = itertools.count()


def n_processes() -> int:
    """Return the number of processes that share a batch; 1 without a process group."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_world_size()
    return 1


def rank() -> int:
    """Return this process's number, from 0."""
    return dist.get_rank() if n_processes() > 1 else 0


def share_of(n_rows: int) -> slice:
    """Return this process's rows of a batch, in whole blocks of draws."""
    n, r = n_processes(), rank()
    n_blocks = -(-n_rows // BLOCK)
    first, stop = (min(n_rows, n_blocks * i // n * BLOCK) for i in (r, r + 1))
    return slice(first, stop)


def sum_over_processes(x: Tensor) -> Tensor:
    """Return x summed over all processes; with several, x changes in place."""
    if n_processes() > 1:
        dist.all_reduce(x)
    return x


def agree(value: int, device: torch.device) -> int:
    """Return the first process's value in all processes."""
    if n_processes() == 1:
        return value
    shared = torch.tensor(value, dtype=torch.int64, device=device)
    dist.broadcast(shared, 0)
    return int(shared)


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the processes that ``torchrun`` started, unless the caller has done so."""
    launched = (
        int(os.environ.get("WORLD_SIZE", "1")) > 1 and "MASTER_ADDR" in os.environ
    )
    if not launched or not dist.is_available() or dist.is_initialized():
        yield
        return
    # The launcher's store outlives a group, so each group has its own keys.
    store, number, size = next(rendezvous("env://"))
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=PrefixStore(f"group {next(_groups)}", store),
        rank=number,
        world_size=size,
    )
    try:
        yield
    finally:
        dist.destroy_process_group()
