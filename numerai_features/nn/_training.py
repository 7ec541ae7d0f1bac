"""The training loop of all networks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from numerai_features.nn import _parallel
from numerai_features.nn._checkpoint import Checkpoint
from numerai_features.nn._optimizer import (
    TrainingSettings,
    learning_rate,
    make_optimizer,
)
from numerai_features.nn._task import Task

State = dict[str, Tensor]
Record = dict[str, Any]


class Batches(Protocol):
    """The batches that the loop trains on."""

    n_steps: int

    def epoch(self, number: int, first: int = 0) -> Iterator[Any]:
        """Yield the batches of an epoch, from step `first` on."""


class Trainer:
    """Train a module and keep the weights of its best epoch.

    Parameters
    ----------
    task : Task
        Maps a batch to its loss; it may hold any torch module.
    batches : Batches
    settings : TrainingSettings
    held_out : iterable of batches, default=None
        Batches for `Task.evaluate` after each epoch; without them the last epoch is
        kept.
    checkpoint : Checkpoint, default=None
        Where the state is read from, and written at intervals and at the end.
    report : callable, default=None
        Called with each epoch's record.
    progress : bool, default=False
        Whether to show a progress bar.

    Attributes
    ----------
    history : list of dict
        One record per epoch: ``epoch``, ``learning_rate``, ``train_loss``, the held-out
        metrics, and ``seconds``.
    best_epoch : int
        Counted from 1; 0 before the first epoch.
    """

    def __init__(
        self,
        task: Task,
        batches: Batches,
        settings: TrainingSettings,
        *,
        held_out: Iterable[Any] | None = None,
        checkpoint: Checkpoint | None = None,
        report: Callable[[Record], None] | None = None,
        progress: bool = False,
    ) -> None:
        _keep_freed_memory()
        self.task = task
        self.batches = batches
        self.settings = settings
        self.held_out = held_out
        self.checkpoint = checkpoint
        self.report = report
        self.progress = progress
        self.parameters = [p for p in task.parameters() if p.requires_grad]
        self.optimizer = make_optimizer(task, settings)
        self.n_steps = settings.max_epochs * batches.n_steps
        self.history: list[Record] = []
        self.epoch = self.step = 0
        self.losses = torch.zeros(batches.n_steps, device=self.parameters[0].device)
        self.best: State = {}
        self.best_epoch = 0
        self.best_value = float("inf")
        self.averaged = None if settings.ema_decay is None else self._state()

    def run(self) -> list[Record]:
        """Train to the end, restore the best weights and return the history."""
        for batch in self.steps():
            self.take_step(set_gradients(self.task, batch, self.settings.dtype))
        self.finish()
        return self.history

    def steps(self) -> Iterator[Any]:
        """Yield the batches; the caller calls `take_step` after each.

        So several trainers can run together. After the last step of an epoch the
        held-out rows are evaluated.
        """
        if self.checkpoint is not None and (saved := self.checkpoint.read()):
            self._restore(*saved)
        with self._bar() as bar:
            while self.epoch < self.settings.max_epochs and not self._is_out_of_luck():
                start = time.perf_counter()
                self.task.train()
                for batch in self.batches.epoch(self.epoch, self.step):
                    yield batch
                    bar.update()
                    if self.checkpoint is not None and self.checkpoint.is_due():
                        self.save()
                record = self._end_epoch(start)
                bar.set_postfix_str(", ".join(f"{k} {v:.4g}" for k, v in _told(record)))

    def take_step(self, loss: Tensor) -> None:
        """Update the weights by the gradients that are set; `loss` is the batch's loss.

        Raises
        ------
        DivergedError
            If the loss is not finite; the weights are not changed.
        """
        settings = self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(settings, self._n_done, self.n_steps)
        self.losses[self.step] = _parallel.sum_over_processes(loss)
        self._check_finite()
        self._share_gradients()
        if settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, settings.clip_norm)
        self.optimizer.step()
        self.step += 1
        if self.averaged is not None and settings.ema_decay is not None:
            # A smaller decay at first, or the initial weights would dominate for long.
            decay = min(settings.ema_decay, self._n_done / (9 + self._n_done))
            for name, value in self.task.state_dict().items():
                if value.is_floating_point():
                    self.averaged[name].lerp_(value, 1 - decay)
                else:  # a counter, as in torch's batch normalisation
                    self.averaged[name].copy_(value)

    def save(self) -> None:
        """Write the current state, if there is a checkpoint."""
        if self.checkpoint is not None:
            self.checkpoint.write(*self._snapshot())

    def finish(self) -> None:
        """Save the state, and restore the best weights."""
        self.save()
        self.restore_best()

    def restore_best(self) -> None:
        """Give the module the weights of the best epoch so far."""
        self.task.load_state_dict(self.best)
        self.task.eval()

    def _end_epoch(self, start: float) -> Record:
        """Evaluate the epoch, keep its weights if they are the best, return its record.

        Parameters
        ----------
        start : float
            Time at which the epoch began.
        """
        rate = learning_rate(self.settings, self._n_done - 1, self.n_steps)
        record: Record = {
            "epoch": self.epoch + 1,
            "learning_rate": float(rate),
            "train_loss": self.losses.mean().item(),
        }
        record.update(self._judge())
        record["seconds"] = time.perf_counter() - start
        self._keep_best(record)
        self.history.append(record)
        self.epoch, self.step = self.epoch + 1, 0
        if self.report is not None:
            self.report(record)
        return record

    def _is_out_of_luck(self) -> bool:
        """Return whether `patience` epochs have passed since the best one."""
        patience = self.settings.patience
        if self.held_out is None or patience is None or not self.best_epoch:
            return False
        return self.epoch - self.best_epoch >= patience

    def _check_finite(self) -> None:
        # On a GPU a check waits for the device: check only once per epoch.
        last = self.step == self.batches.n_steps - 1
        if self.losses.device.type != "cpu" and not last:
            return
        first = 0 if last else self.step
        losses = self.losses[: self.step + 1].tolist()
        for step in range(first, self.step + 1):
            if not abs(losses[step]) < float("inf"):
                earlier = [record["train_loss"] for record in self.history]
                raise DivergedError(
                    self.epoch + 1,
                    step + 1,
                    [*earlier, *losses[: step + 1]],
                    self.settings.learning_rate,
                )

    def _share_gradients(self) -> None:
        if _parallel.n_processes() == 1:
            return
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in gradients])
        sizes = [g.numel() for g in gradients]
        parts = torch.split(_parallel.sum_over_processes(flat), sizes)
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def _judge(self) -> dict[str, float]:
        """Return the metrics of the held-out rows."""
        if self.held_out is None:
            return {}
        trained = self._state() if self.averaged is not None else None
        if self.averaged is not None:
            self.task.load_state_dict(self.averaged)
        self.task.eval()
        sums: State = {}
        for batch in self.held_out:
            for name, value in self.task.evaluate(batch).items():
                value = value.double()
                sums[name] = sums[name] + value if name in sums else value
        if trained is not None:
            self.task.load_state_dict(trained)
        metrics = self.task.metrics(sums)
        return {f"valid_{name}": value.item() for name, value in metrics.items()}

    def _keep_best(self, record: Record) -> None:
        if self.held_out is not None:
            monitor = self.settings.monitor
            falls = monitor.removeprefix("valid_") in self.task.falling
            value = record[monitor] if falls else -record[monitor]
            # The first epoch is always kept; NaN is never better.
            if self.best_epoch and not value < self.best_value:
                return
            self.best_value = float("inf") if value != value else value
        self.best = self._state() if self.averaged is None else _copy(self.averaged)
        self.best_epoch = self.epoch + 1

    @property
    def _n_done(self) -> int:
        """Number of steps since the beginning."""
        return self.epoch * self.batches.n_steps + self.step

    def _state(self) -> State:
        return _copy(self.task.state_dict())

    def _snapshot(self) -> tuple[State, dict[str, Any]]:
        """Return everything that a run depends on; draws depend only on the step."""
        tensors = {f"task/{k}": v for k, v in self.task.state_dict().items()}
        tensors |= {f"best/{k}": v for k, v in self.best.items()}
        tensors |= {f"averaged/{k}": v for k, v in (self.averaged or {}).items()}
        tensors["losses"] = self.losses
        for i, p in enumerate(self.parameters):
            for name, value in self.optimizer.state[p].items():
                tensors[f"optimizer/{i}/{name}"] = value
        return tensors, {
            "epoch": self.epoch,
            "step": self.step,
            "history": self.history,
            "best_epoch": self.best_epoch,
            "best_value": self.best_value.hex(),
        }

    def _restore(self, tensors: State, progress: dict[str, Any]) -> None:
        def of(prefix: str) -> State:
            start = len(prefix) + 1
            return {
                k[start:]: v for k, v in tensors.items() if k.startswith(prefix + "/")
            }

        device = self.losses.device
        self.task.load_state_dict(of("task"))
        self.best = {k: v.to(device) for k, v in of("best").items()}
        if self.averaged is not None:
            self.averaged = {k: v.to(device) for k, v in of("averaged").items()}
        self.losses.copy_(tensors["losses"])
        for i, p in enumerate(self.parameters):
            state = of(f"optimizer/{i}")
            if state:
                # The fused optimiser needs its step count on the parameters' device.
                self.optimizer.state[p] = {k: v.to(device) for k, v in state.items()}
        self.epoch, self.step = progress["epoch"], progress["step"]
        self.history = progress["history"]
        self.best_epoch = progress["best_epoch"]
        self.best_value = float.fromhex(progress["best_value"])

    def _bar(self) -> Any:
        from tqdm import tqdm

        hidden = not self.progress or _parallel.rank() != 0
        done = self._n_done
        return tqdm(total=self.n_steps, initial=done, unit="step", disable=hidden)


def set_gradients(task: nn.Module, batch: Any, dtype: torch.dtype) -> Tensor:
    """Set the gradients of a task's parameters; return its loss.

    Parameters
    ----------
    task : nn.Module
    batch
        The task's input.
    dtype : torch.dtype
        Type of the matrix products of the forward pass.
    """
    task.zero_grad()
    device = next(task.parameters()).device.type
    with torch.autocast(device, dtype, enabled=dtype != torch.float32):
        loss = weighted(task(batch), batch)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def weighted(loss: Tensor, batch: Any) -> Tensor:
    """Return the mean loss of a batch times the mean weight of its rows.

    So rows weigh as much in batches of light rows, such as an old era, as in others.
    """
    return loss * getattr(batch, "importance", 1.0)


class DivergedError(ArithmeticError):
    """The loss is not a finite number.

    Attributes
    ----------
    epoch, batch : int
        Epoch and batch of the failure, counted from 1.
    losses : list of float
        Losses of earlier epochs, then of this epoch's batches up to the failure.
    """

    def __init__(
        self, epoch: int, batch: int, losses: list[float], rate: float
    ) -> None:
        self.epoch, self.batch, self.losses = epoch, batch, losses
        *earlier, value = losses
        where = f"The loss is {value} in epoch {epoch}, batch {batch}"
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


def _keep_freed_memory() -> None:
    """Make the C library keep the memory that a step frees for the next step.

    A step allocates and frees tables of some megabytes. glibc takes each block of that
    size from the system and returns it when it is freed, so its pages are faulted in
    again in every step, which costs a sixth of the time. But when such a block is
    freed, glibc raises the threshold size for this to the size of the block: freeing
    one block just below the upper limit, 32 MB, is enough. With other C libraries this
    does nothing.
    """
    torch.empty((32 << 20) - 8192, dtype=torch.uint8)


def _copy(state: State) -> State:
    return {name: value.detach().clone() for name, value in state.items()}


def _told(record: Record) -> list[tuple[str, float]]:
    return [(k, v) for k, v in record.items() if k.startswith(("train_", "valid_"))]
