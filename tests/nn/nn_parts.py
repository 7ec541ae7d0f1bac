"""What the tests of the networks share; scripts that they start import it, too."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

from numerai_features.nn import _parallel
from numerai_features.nn._autoencoder import Autoencoder, Corruption, Denoising
from numerai_features.nn._batches import HeldOutBatches, RowBatches, Table
from numerai_features.nn._layers import initialize
from numerai_features.nn._optimizer import TrainingSettings
from numerai_features.nn._task import Task
from numerai_features.nn._training import Trainer

CPU = torch.device("cpu")


def bins(n_rows, n_features=12, seed=0):
    """Rows of int8 bins with three common factors."""
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(n_rows, 3)) @ rng.normal(size=(3, n_features))
    x = factors + rng.normal(size=(n_rows, n_features))
    return np.digitize(x, [-2, -0.7, 0.7, 2]).astype(np.int8)


def normal(*shape, seed=0):
    """Standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def table_of(X, rows=slice(None), weights=None, targets=None):
    """A table standardised by the moments of `rows`."""
    known = X[rows].astype(np.float64)
    return Table(X, known.mean(axis=0), known.std(axis=0), CPU, weights, targets)


def denoising(
    seed,
    table,
    noise="swap",
    level=0.15,
    *,
    hidden=(8,),
    n_components=3,
    activation="silu",
    dropout=0.0,
    mask_head=False,
    relative=False,
    middle=2.0,
    **options,
):
    """A small denoising autoencoder."""
    network = Autoencoder(table, hidden, n_components, activation, dropout, mask_head)
    middle = torch.full((table.n_features,), middle)
    corruption = Corruption(noise, level, relative, middle)
    task = Denoising(network, corruption, **options)
    initialize(task, seed)
    return task


def make_run(
    seed=1, *, n_train=300, n_valid=60, batch_size=64, level=0.15, dropout=0.0,
    dtype_of_rows=np.int8, wrap=None, checkpoint=None, report=None, progress=False,
    **settings,
):  # fmt: skip
    """Return a trainer of an autoencoder that starts from the beginning."""
    X = bins(n_train + n_valid, seed=1).astype(dtype_of_rows)
    train, valid = np.arange(n_train), np.arange(n_train, n_train + n_valid)
    table = table_of(X, train)
    batches = RowBatches(table, seed, train, batch_size)
    return Trainer(
        denoising(seed, table, level=level, dropout=dropout),
        batches if wrap is None else wrap(batches),
        TrainingSettings(**settings),
        held_out=HeldOutBatches(table, seed, valid, 40) if n_valid else None,
        checkpoint=checkpoint,
        report=report,
        progress=progress,
    )


class StopAt:
    """Batches that call `action` before a step of an epoch, or after its last one."""

    def __init__(self, batches, epoch, step, action):
        self.batches, self.at, self.action = batches, (epoch, step), action
        self.n_steps = batches.n_steps

    def epoch(self, number, first=0):
        for step, batch in enumerate(self.batches.epoch(number, first), first):
            self._maybe(number, step)
            yield batch
        self._maybe(number, self.n_steps)

    def _maybe(self, *now):
        if now == self.at:
            self.action()


class Asked:
    """Batches that remember what they were asked for."""

    def __init__(self, batches):
        self.batches, self.calls, self.n_steps = batches, [], batches.n_steps

    def epoch(self, number, first=0):
        self.calls.append((number, first))
        return self.batches.epoch(number, first)


class Cut(Exception):
    """What ends a run in the midst of it."""


def cut():
    raise Cut


def interrupt():
    """Press Ctrl-C."""
    raise KeyboardInterrupt


def assert_same_bits(a, b):
    """Two states are the same to the bit."""
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def assert_same_run(a, b):
    """Two trainers have the same weights, history and best epoch."""
    assert_same_bits(a.task.state_dict(), b.task.state_dict())
    assert [untimed(r) for r in a.history] == [untimed(r) for r in b.history]
    assert (a.best_epoch, a.best_value) == (b.best_epoch, b.best_value)


def untimed(record):
    return {k: v for k, v in record.items() if k != "seconds"}


def judge(trainer):
    """Return the metrics of the rows held out as the task is now."""
    sums = {}
    for batch in trainer.held_out:
        for name, value in trainer.task.evaluate(batch).items():
            sums[name] = sums.get(name, 0) + value.double()
    return {k: v.item() for k, v in trainer.task.metrics(sums).items()}


@contextmanager
def one_of(n_processes, rank):
    """Be one of several processes, for what asks only which it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_parallel, "n_processes", lambda: n_processes)
        patch.setattr(_parallel, "rank", lambda: rank)
        yield


class OneNumber(Task):
    """A task with one weight, whose metrics are those of a script.

    The weight falls by about the learning rate a step; `seen` has it at each
    evaluation.
    """

    def __init__(self, **scripts):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1))
        self.scripts = {k: torch.tensor(v) for k, v in scripts.items()}
        self.seen = []

    def forward(self, batch):
        return self.weight.sum()

    def evaluate(self, batch):
        now = len(self.seen)
        self.seen.append(self.weight.item())
        return {name: values[now] for name, values in self.scripts.items()}

    def metrics(self, sums):
        return sums


class Steps:
    """So many empty batches an epoch."""

    def __init__(self, n_steps=1):
        self.n_steps = n_steps

    def epoch(self, number, first=0):
        return iter(range(first, self.n_steps))


def torch_names(state):
    """Return {name: the same in torch's layers, one after the other}.

    Layers come as in the network: a matrix, then what the normalisation after it has.

    Parameters
    ----------
    state : dict of str to Tensor
        Of layers without biases, each with a normalisation and an activation.
    """
    own = {
        "weight": "weight", "gamma": "weight", "beta": "bias",
        "mean": "running_mean", "variance": "running_var",
    }  # fmt: skip
    names, n_layers = {}, 0
    for name in state:
        kind = name.rpartition(".")[2]
        if kind in own:
            n_layers += kind == "weight"
            place = 3 * (n_layers - 1) + (kind != "weight")
            names[name] = f"{place}.{own[kind]}"
    return names


class Plain(nn.Module):
    """An autoencoder in torch's own layers, float64, on standardised rows.

    Parameters
    ----------
    state : dict of str to Tensor
        The weights and moments of an `Autoencoder`.
    activation : str
        Of all layers but the code, which is in the middle, and the outputs.
    """

    activations = {"identity": nn.Identity, "silu": nn.SiLU, "tanh": nn.Tanh}
    heads = ("output", "mask_output")

    def __init__(self, state, activation="silu"):
        super().__init__()
        body = {k: v for k, v in state.items() if k.split(".")[0] not in self.heads}
        self.names = {k: f"body.{v}" for k, v in torch_names(body).items()}
        shapes = [state[k].shape for k in self.names if state[k].ndim == 2]
        layers = []
        for i, (n_out, n_in) in enumerate(shapes):
            act = "identity" if i == len(shapes) // 2 else activation
            layers += [nn.Linear(n_in, n_out, bias=False), nn.BatchNorm1d(n_out)]
            layers.append(self.activations[act]())
        self.body = nn.Sequential(*layers)
        for head in self.heads:
            if f"{head}.weight" in state:
                n_out, n_in = state[f"{head}.weight"].shape
                self.add_module(head, nn.Linear(n_in, n_out))
                self.names |= {k: k for k in (f"{head}.weight", f"{head}.bias")}
        self.double()
        told = self.load_state_dict(
            {theirs: state[ours] for ours, theirs in self.names.items()}, strict=False
        )
        assert all(k.endswith("num_batches_tracked") for k in told.missing_keys)

    def forward(self, t):
        h = self.body(t)
        return [self.get_submodule(k)(h) for k in self.heads if hasattr(self, k)]

    def gradients(self):
        """Return {name of the autoencoder's parameter: its gradient here}."""
        ours = {theirs: name for name, theirs in self.names.items()}
        return {ours[k]: p.grad for k, p in self.named_parameters()}

    def weights(self):
        """Return {name of the autoencoder's parameter: what it is here}."""
        ours = {theirs: name for name, theirs in self.names.items()}
        return {ours[k]: p.detach() for k, p in self.named_parameters()}
