"""Rows per second of `EraMLP.fit`, beside a plain loop; and its memory.

    python benchmarks/era_mlp.py [--eras 8] [--rows 5000] [--features 780]
        [--epochs 2] [--repeats 5] [--threads 1] [--precision float32 bfloat16]
    python benchmarks/era_mlp.py --memory

Random int8 bins and one target. In both arms: the network with the default widths,
batches of four eras, one minus the correlation within each era, AdamW, as many threads.

- ours: `EraMLP.fit` on the int8 table, without dropout. "training" is the last epoch
  alone, "fit" all of the call, with the checks, the moments of the columns and the
  units of predictions.
- eager: torch's own layers (without the biases that batch normalisation undoes), fused
  AdamW, and batches gathered by `index_select` from a resident float32 table, which is
  made before the clock starts. The last epoch, too.

The arms run in pairs, in one process; shown are the medians, and the median of the
pairs' ratios with the least and the greatest. "products" are the matrix products of a
step of the eager loop, recorded and run alone: the rows per second, and the operations,
that this arithmetic allows. In float32, and in bfloat16.

``--memory``: the peak of anonymous memory during fits of one epoch with small widths,
each in a fresh process, above the state with the table and the targets made, for panels
of more and more eras.
"""

import argparse
import statistics
import sys
import time
from itertools import pairwise

import numpy as np
import torch
from _memory import measure
from torch import nn
from training import HALF, Products, machine

from numerai_features.embedders import EraMLP
from numerai_features.nn._threads import n_threads

HIDDEN, ERAS_PER_BATCH, RATE = (1024, 512, 256), 4, 1e-3
PANELS, MEMORY_ROWS, MEMORY_FEATURES, MEMORY_TARGETS = (20, 80, 320), 2_000, 200, 4


def panel(n_eras, n_rows, n_features, n_targets=1):
    """Return random bins, targets and eras."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 5, (n_eras * n_rows, n_features), dtype=np.int8)
    y = rng.random((len(X), n_targets))
    return X, y, np.repeat(np.arange(n_eras), n_rows)


class Job:
    """A panel, and for how long to train on it; arms return rows per second."""

    def __init__(self, args):
        self.X, y, self.eras = panel(args.eras, args.rows, args.features)
        self.y, self.args = y[:, 0], args
        # int8 minus a float32 would be float64, eight times the bytes.
        self.table = torch.from_numpy(self.X).float()
        self.table.sub_(self.table.mean(0)).div_(self.table.std(0))
        self.targets = torch.from_numpy(self.y).float()

    def ours(self, dtype):
        """Return the rows per second of the last epoch, and of the whole fit."""
        net = EraMLP(
            HIDDEN, dropout=0, eras_per_batch=ERAS_PER_BATCH, learning_rate=RATE,
            max_epochs=self.args.epochs, precision=str(dtype).removeprefix("torch."),
            n_jobs=self.args.threads, device="cpu", random_state=0,
        )  # fmt: skip
        start = time.perf_counter()
        net.fit(self.X, self.y, eras=self.eras)
        seconds = time.perf_counter() - start
        (last,) = net.history_[-1]["seconds"]
        return len(self.X) / last, self.args.epochs * len(self.X) / seconds

    def eager(self, dtype):
        """Return the rows per second of the last epoch."""
        network = self.network()
        optimizer = torch.optim.AdamW(
            network.parameters(), RATE, weight_decay=0, fused=True
        )
        for _ in range(self.args.epochs):
            start = time.perf_counter()
            for batch in torch.randperm(self.args.eras).split(ERAS_PER_BATCH):
                optimizer.zero_grad()
                self.set_gradients(network, batch, dtype)
                optimizer.step()
        return len(self.X) / (time.perf_counter() - start)

    def network(self):
        torch.manual_seed(0)
        layers = []
        for n_in, n_out in pairwise([self.X.shape[1], *HIDDEN]):
            linear = nn.Linear(n_in, n_out, bias=False)
            layers += [linear, nn.BatchNorm1d(n_out), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(HIDDEN[-1], 1))

    def set_gradients(self, network, batch, dtype):
        size = self.args.rows
        rows = torch.cat([torch.arange(e * size, (e + 1) * size) for e in batch])
        x, y = (table.index_select(0, rows) for table in (self.table, self.targets))
        with torch.autocast("cpu", HALF, enabled=dtype == HALF):
            p = network(x)
        pairs = zip(p[:, 0].float().split(size), y.split(size), strict=True)
        loss = sum(1 - correlation(*pair) for pair in pairs) / len(batch)
        loss.backward()

    def products(self, dtype):
        """Return rows and operations per second of a step's products alone."""
        network, batch = self.network(), torch.arange(ERAS_PER_BATCH)
        with Products() as products:
            self.set_gradients(network, batch, dtype)
        products.run()
        start = time.perf_counter()
        products.run()
        seconds = time.perf_counter() - start
        n_rows = ERAS_PER_BATCH * self.args.rows
        work = sum(2 * len(a) * b.numel() for _, a, b, _ in products.products)
        return n_rows / seconds, work / seconds


def correlation(p, y):
    p, y = p - p.mean(), y - y.mean()
    return p @ y / (p.norm() * y.norm())


def compare(job, dtype):
    """Let the arms take turns, and print what they did."""
    turns = [
        (*job.ours(dtype), job.eager(dtype), *job.products(dtype))
        for _ in range(job.args.repeats)
    ]
    training, fit, eager, products, work = (
        statistics.median(column) for column in zip(*turns, strict=True)
    )
    print(f"{str(dtype).removeprefix('torch.')}")
    for name, place, speed in (("training", 0, training), ("fit", 1, fit)):
        ratios = [turn[place] / turn[2] for turn in turns]
        print(
            f"  ours, {name:10}{speed:10,.0f} rows/s   {statistics.median(ratios):.2f} "
            f"x eager ({min(ratios):.2f} to {max(ratios):.2f})"
        )
    print(f"  eager           {eager:10,.0f} rows/s")
    print(
        f"  products        {products:10,.0f} rows/s   {work / 1e9:.0f} GFLOP/s; "
        f"ours {training / products:.0%}, eager {eager / products:.0%}",
        flush=True,
    )


def fit(n_eras):
    """Fit in this process, whose memory is looked at."""
    X, y, eras = panel(n_eras, MEMORY_ROWS, MEMORY_FEATURES, MEMORY_TARGETS)
    n_threads()  # asks a child process, which would count as our memory
    net = EraMLP((32, 16), dropout=0, max_epochs=1, precision="float32", random_state=0)
    few = eras < ERAS_PER_BATCH
    net.fit(X[few], y[few], eras=eras[few])  # what is there after any fit
    print("ready", flush=True)
    net.fit(X, y, eras=eras)
    print("done", flush=True)


def tell_memory():
    print(
        f"{MEMORY_ROWS:,} rows an era, {MEMORY_FEATURES} int8 features, "
        f"{MEMORY_TARGETS} targets of 8 bytes; above the state before the fit"
    )
    print(f"{'eras':>6}{'table':>10}{'targets':>10}{'peak':>10}{'more, a row':>16}")
    before = None
    for n_eras in PANELS:
        told = measure(sys.argv[0], "--fit", str(n_eras))
        n_rows, peak = n_eras * MEMORY_ROWS, told["extra_anonymous"]
        line = f"{n_eras:6}{n_rows * MEMORY_FEATURES / 1e6:8.0f}MB"
        line += f"{n_rows * MEMORY_TARGETS * 8 / 1e6:8.0f}MB{peak / 1e6:8.0f}MB"
        if before is not None:
            line += f"{(peak - before[1]) / (n_rows - before[0]):10.0f} bytes"
        print(line, flush=True)
        before = n_rows, peak


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--eras", type=int, default=8)
    parser.add_argument("--rows", type=int, default=5_000, help="of an era")
    parser.add_argument("--features", type=int, default=780)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    precisions = "float32", "bfloat16"
    parser.add_argument(
        "--precision", nargs="+", choices=precisions, default=precisions
    )
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--fit", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.fit:
        return fit(args.fit)
    if args.memory:
        return tell_memory()
    torch.set_num_threads(args.threads)
    print(machine(torch.device("cpu")))
    print(
        f"{args.eras} eras x {args.rows:,} rows, {args.features} int8 features, layers "
        f"{HIDDEN}, {ERAS_PER_BATCH} eras a batch; medians of {args.repeats} pairs"
    )
    job = Job(args)
    for precision in args.precision:
        compare(job, getattr(torch, precision))


if __name__ == "__main__":
    main()
