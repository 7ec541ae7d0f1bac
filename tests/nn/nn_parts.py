"""What the tests of the networks share; scripts that they start import it, too."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

from numerai_features.nn import _parallel
from numerai_features.nn._autoencoder import Autoencoder, Corruption, Denoising
from numerai_features.nn._batches import HeldOutBatches, RowBatches, Table
from numerai_features.nn._settings import Settings
from numerai_features.nn._training import Trainer

CPU = torch.device("cpu")


def bins(n_rows, n_features=12, seed=0):
    """Rows of int8 bins with three common factors."""
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(n_rows, 3)) @ rng.normal(size=(3, n_features))
    x = factors + rng.normal(size=(n_rows, n_features))
    return np.digitize(x, [-2, -0.7, 0.7, 2]).astype(np.int8)


def table_of(X, rows=slice(None)):
    """A table standardised by the moments of `rows`."""
    known = X[rows].astype(np.float64)
    return Table(X, known.mean(axis=0), known.std(axis=0), CPU)


def denoising(
    seeds,
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
    """A small denoising autoencoder, float32."""
    network = Autoencoder(
        seeds, table, hidden, n_components, activation, dropout, mask_head
    )
    middle = torch.full((table.n_features,), middle)
    corruption = Corruption(noise, level, relative, middle)
    return Denoising(network, corruption, **options)


def make_run(
    seeds, *, n_train=300, n_valid=60, batch_size=64, level=0.15, dropout=0.0,
    wrap=None, checkpoint=None, report=None, progress=False, **settings,
):  # fmt: skip
    """Return a trainer of autoencoders that starts from the beginning."""
    X = bins(n_train + n_valid, seed=1)
    train, valid = np.arange(n_train), np.arange(n_train, n_train + n_valid)
    table = table_of(X, train)
    batches = RowBatches(table, seeds, [train] * len(seeds), batch_size)
    return Trainer(
        denoising(seeds, table, level=level, dropout=dropout),
        batches if wrap is None else wrap(batches),
        Settings(**settings),
        held_out=HeldOutBatches(table, seeds, valid, 40) if n_valid else None,
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


def assert_same_bits(a, b):
    """Two states are the same to the bit."""
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@contextmanager
def one_of(n_processes, rank):
    """Be one of several processes, for what asks only which it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_parallel, "n_processes", lambda: n_processes)
        patch.setattr(_parallel, "rank", lambda: rank)
        yield


class OneNumber(nn.Module):
    """A task with one weight a model, whose metrics are those of a script.

    The weight falls by about the learning rate a step; `seen` has it at each
    evaluation.
    """

    def __init__(self, **scripts):
        super().__init__()
        n_models = len(next(iter(scripts.values())))
        self.weight = nn.Parameter(torch.zeros(n_models, 1, 1))
        self.scripts = {k: torch.tensor(v) for k, v in scripts.items()}
        self.seen = []

    def forward(self, batch):
        return self.weight.sum((1, 2))

    @torch.no_grad()
    def evaluate(self, batch):
        now = len(self.seen)
        self.seen.append(self.weight.flatten().clone())
        return {name: values[:, now] for name, values in self.scripts.items()}

    @staticmethod
    def metrics(sums):
        return sums


class Steps:
    """So many empty batches an epoch."""

    def __init__(self, n_steps=1):
        self.n_steps = n_steps

    def epoch(self, number, first=0):
        return (Step(step) for step in range(first, self.n_steps))


class Step(int):
    """An empty batch, of all models or of one."""

    only = None

    def model(self, number):
        own = Step(self)
        own.only = number
        return own


class Plain(nn.Module):
    """One model of a stack in torch's own layers, float64, on standardised rows."""

    activations = {"identity": nn.Identity, "silu": nn.SiLU, "tanh": nn.Tanh}

    def __init__(self, network, model):
        super().__init__()
        layers = []
        for block in (*network.encoder, *network.decoder):
            linear = getattr(block.linear, "linear", block.linear)
            _, n_in, n_out = linear.weight.shape
            plain = nn.Linear(n_in, n_out, bias=False)
            self._copy(plain, linear, model)
            learns = [*block.norm.parameters()]
            norm = nn.BatchNorm1d(n_out, affine=bool(learns))
            layers += [plain, norm, self.activations[block.activation]()]
        self.body = nn.Sequential(*layers)
        heads = [network.output, network.mask_output]
        self.heads = nn.ModuleList()
        for head in filter(None, heads):
            plain = nn.Linear(*head.weight.shape[1:])
            self._copy(plain, head, model)
            self.heads.append(plain)
        self.double()

    def forward(self, t):
        h = self.body(t)
        return [head(h) for head in self.heads]

    @torch.no_grad()
    def _copy(self, plain, linear, model):
        plain.weight.copy_(linear.weight[model].T)
        if linear.bias is not None:
            plain.bias.copy_(linear.bias[model])

    def named_as(self, network, values):
        """Return {our name: what `values` has for it}, as our layers have it."""
        found = {}
        linears = [m for m in self.body if isinstance(m, nn.Linear)]
        norms = [m for m in self.body if isinstance(m, nn.BatchNorm1d)]
        blocks = [f"encoder.{i}" for i in range(len(network.encoder))]
        blocks += [f"decoder.{i}" for i in range(len(network.decoder))]
        for i, (name, linear, norm) in enumerate(
            zip(blocks, linears, norms, strict=True)
        ):
            inner = "linear.linear" if i == 0 else "linear"
            found[f"{name}.{inner}.weight"] = values(linear.weight).T
            if norm.affine:
                found[f"{name}.norm.gamma"] = values(norm.weight)
                found[f"{name}.norm.beta"] = values(norm.bias)
        for name, head in zip(("output", "mask_output"), self.heads, strict=False):
            found[f"{name}.weight"] = values(head.weight).T
            found[f"{name}.bias"] = values(head.bias)
        return found
