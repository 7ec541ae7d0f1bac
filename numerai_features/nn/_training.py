"""The one training loop."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from numerai_features.nn import _parallel
from numerai_features.nn._checkpoint import Checkpoint
from numerai_features.nn._settings import (
    DivergedError,
    Settings,
    learning_rate,
    make_optimizer,
)
from numerai_features.nn._stack import Stack

State = dict[str, Tensor]


class Batches(Protocol):
    """What the loop trains on: batches that give one ``model(number)`` its part."""

    n_steps: int

    def epoch(self, number: int, first: int = 0) -> Iterator[Any]:
        """Yield the batches of an epoch, from step `first` on."""


class Task(Protocol):
    """A module that knows its loss, and how good it is on rows held out."""

    def __call__(self, batch: Any) -> Tensor:
        """Return each model's loss, (n_models,); processes' losses are summed."""

    def evaluate(self, batch: Any) -> State:
        """Return sums over a batch, each (n_models,)."""

    def metrics(self, sums: State) -> State:
        """Return metrics from the sums over all batches, each (n_models,)."""


_FALLING = {"loss"}  # of which less is better


class Trainer:
    """Train a stack of models, each kept at its best epoch.

    Parameters
    ----------
    task : nn.Module
        A `Task`; the first axis of every parameter and buffer is the models'.
    batches : Batches
    settings : Settings
    held_out : iterable of batches, default=None
        What `Task.evaluate` is called on after each epoch; without it the last epoch
        is kept.
    checkpoint : Checkpoint, default=None
        Where the state is written now and then, and read from.
    report : callable, default=None
        Called with each epoch's record.
    progress : bool, default=False
        Whether to show a bar.

    Attributes
    ----------
    history : list of dict
        A record an epoch: ``epoch``, ``learning_rate``, ``train_loss``, the metrics of
        the rows held out, each a list with one number a model, and ``seconds``.
    best_epoch : ndarray of shape (n_models,)
        From 1; 0 before the first.
    """

    def __init__(
        self,
        task: nn.Module,
        batches: Batches,
        settings: Settings,
        *,
        held_out: Iterable[Any] | None = None,
        checkpoint: Checkpoint | None = None,
        report: Any = None,
        progress: bool = False,
    ) -> None:
        _keep_freed_memory()
        self.task = task
        self.stack = Stack(task)
        self.batches = batches
        self.settings = settings
        self.held_out = held_out
        self.checkpoint = checkpoint
        self.report = report
        self.progress = progress
        self.parameters = [p for p in task.parameters() if p.requires_grad]
        n_models = len(self.parameters[0])
        device = self.parameters[0].device
        self.optimizer = make_optimizer(self.parameters, settings)
        self.n_steps = settings.max_epochs * batches.n_steps
        self.history: list[dict[str, Any]] = []
        self.epoch = self.step = 0
        self.losses = torch.zeros(batches.n_steps, n_models, device=device)
        self.best: State = {}
        self.best_epoch: NDArray[np.int64] = np.zeros(n_models, np.int64)
        self.best_value = np.full(n_models, np.inf)
        self.alive = np.ones(n_models, bool)
        self.averaged = self._state() if settings.average is not None else None

    def run(self) -> list[dict[str, Any]]:
        """Train to the end and restore the best weights; return the history."""
        if self.checkpoint is not None and (saved := self.checkpoint.read()):
            self._restore(*saved)
        try:
            with self._bar() as bar:
                while self.epoch < self.settings.max_epochs and self.alive.any():
                    self._run_epoch(bar)
        except KeyboardInterrupt:
            if not self.best:
                raise
            warnings.warn(
                f"Stopped by Ctrl-C in epoch {self.epoch + 1} of "
                f"{self.settings.max_epochs}; the best so far is kept, epoch "
                f"{_join(self.best_epoch)}.",
                RuntimeWarning,
                stacklevel=2,
            )
        else:
            if self.checkpoint is not None:
                self.checkpoint.remove()
        self.task.load_state_dict(self.best)
        self.task.eval()
        return self.history

    def _run_epoch(self, bar: Any) -> None:
        start, settings = time.perf_counter(), self.settings
        self.stack.train()
        for batch in self.batches.epoch(self.epoch, self.step):
            self._take_step(batch)
            bar.update()
            if self.checkpoint is not None and self.checkpoint.is_due():
                self.checkpoint.write(*self._snapshot())
        record: dict[str, Any] = {
            "epoch": self.epoch + 1,
            "learning_rate": learning_rate(settings, self._n_done - 1, self.n_steps),
            "train_loss": self.losses.mean(0).tolist(),
        }
        record.update(self._judge())
        record["seconds"] = time.perf_counter() - start
        self._keep_best(record)
        self.history.append(record)
        self.epoch, self.step = self.epoch + 1, 0
        bar.set_postfix_str(", ".join(f"{k} {_join(v)}" for k, v in _told(record)))
        if self.report is not None:
            self.report(record)

    def _take_step(self, batch: Any) -> None:
        settings = self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(settings, self._n_done, self.n_steps)
        losses = self.stack.backward(batch)
        self.losses[self.step] = _parallel.sum_over_processes(losses)
        self._check_finite()
        self._share_gradients()
        if settings.clip_norm is not None:
            self._clip(settings.clip_norm)
        self.optimizer.step()
        self.step += 1
        if self.averaged is not None and settings.average is not None:
            # Less at first, or the initial weights would stay for long.
            decay = min(settings.average, self._n_done / (9 + self._n_done))
            for name, value in self.task.state_dict().items():
                self.averaged[name].lerp_(value, 1 - decay)

    def _check_finite(self) -> None:
        # On a GPU asking means waiting: only once an epoch.
        last = self.step == self.batches.n_steps - 1
        if self.losses.device.type != "cpu" and not last:
            return
        first = 0 if last else self.step
        finite = torch.isfinite(self.losses[first : self.step + 1]).cpu().numpy()
        finite |= ~self.alive  # a model that has stopped may do as it likes
        if finite.all():
            return
        step, model = (int(i) for i in np.argwhere(~finite)[0])
        earlier = [record["train_loss"][model] for record in self.history]
        losses = [*earlier, *self.losses[: first + step + 1, model].tolist()]
        rate = self.settings.learning_rate
        raise DivergedError(self.epoch + 1, first + step + 1, model + 1, losses, rate)

    def _share_gradients(self) -> None:
        if _parallel.n_processes() == 1:
            return
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in gradients])
        sizes = [g.numel() for g in gradients]
        parts = torch.split(_parallel.sum_over_processes(flat), sizes)
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def _clip(self, largest: float) -> None:
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norms = torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).norm(dim=0)
        factors = (largest / (norms + 1e-12)).clamp(max=1)  # (n_models,)
        for g in gradients:
            g.mul_(factors.view(-1, *[1] * (g.ndim - 1)))

    def _judge(self) -> dict[str, Any]:
        """Return the metrics of the rows held out."""
        if self.held_out is None:
            return {}
        trained = self._state() if self.averaged is not None else None
        if self.averaged is not None:
            self.task.load_state_dict(self.averaged)
        self.stack.train(False)
        sums: State = {}
        for batch in self.held_out:
            for name, value in self.task.evaluate(batch).items():  # type: ignore[operator]
                sums[name] = (
                    sums[name] + value.double() if name in sums else value.double()
                )
        if trained is not None:
            self.task.load_state_dict(trained)
        metrics: State = self.task.metrics(sums)  # type: ignore[operator]
        return {f"valid_{name}": value.tolist() for name, value in metrics.items()}

    def _keep_best(self, record: dict[str, Any]) -> None:
        now = self._state() if self.averaged is None else dict(self.averaged)
        better = self.alive.copy()
        if self.held_out is not None:
            monitor = self.settings.monitor
            values = np.array(record[monitor])
            values = values if monitor.removeprefix("valid_") in _FALLING else -values
            values = np.where(np.isnan(values), np.inf, values)
            better &= values < self.best_value
            better |= self.best_epoch == 0
            self.best_value = np.where(better, values, self.best_value)
        self.best_epoch = np.where(better, self.epoch + 1, self.best_epoch)
        chosen = torch.from_numpy(better).to(self.losses.device)
        self.best = {
            name: torch.where(
                chosen.view(-1, *[1] * (value.ndim - 1)),
                value,
                self.best.get(name, value),
            )
            for name, value in now.items()
        }
        if self.held_out is not None and self.settings.patience is not None:
            waited = self.epoch + 1 - self.best_epoch
            self.alive &= waited < self.settings.patience

    @property
    def _n_done(self) -> int:
        """Steps taken since the beginning."""
        return self.epoch * self.batches.n_steps + self.step

    def _state(self) -> State:
        state = self.task.state_dict()
        return {name: value.detach().clone() for name, value in state.items()}

    def _snapshot(self) -> tuple[State, dict[str, Any]]:
        """Return all that a run depends on; draws depend on the step alone."""
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
            "best_epoch": self.best_epoch.tolist(),
            "best_value": [v.hex() for v in self.best_value.tolist()],
            "alive": self.alive.tolist(),
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
                # The fused step wants its count where the parameters are.
                self.optimizer.state[p] = {k: v.to(device) for k, v in state.items()}
        self.epoch, self.step = progress["epoch"], progress["step"]
        self.history = progress["history"]
        self.best_epoch = np.array(progress["best_epoch"])
        self.best_value = np.array([float.fromhex(v) for v in progress["best_value"]])
        self.alive = np.array(progress["alive"])

    def _bar(self) -> Any:
        from tqdm import tqdm

        hidden = not self.progress or _parallel.rank() != 0
        done = self._n_done
        return tqdm(total=self.n_steps, initial=done, unit="step", disable=hidden)


def _keep_freed_memory() -> None:
    """Have glibc keep what a step frees for the next one.

    A freed block of nearly 32 MB raises its threshold from which memory is handed back
    to the system; else every step faults its temporaries in anew.
    """
    del_me = torch.empty((32 << 20) - 8192, dtype=torch.uint8)
    del del_me


def _told(record: dict[str, Any]) -> list[tuple[str, list[float]]]:
    return [(k, v) for k, v in record.items() if isinstance(v, list)]


def _join(values: Any) -> str:
    return ", ".join(f"{v:.4g}" for v in values)
