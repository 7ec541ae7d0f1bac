"""Rows per second of SupervisedAEMLP's training, beside plain loops.

    python benchmarks/supervised.py [--rows 100000] [--features 780] [--targets 6]
        [--epochs 2] [--repeats 3] [--device auto]

The published network (96 units of code, 896 / 448 / 448 / 256), batches of 4096, all
three losses, AdamW; random bins and targets. Each arm trains one epoch to warm up, then
some that are timed, of which the best counts; arms take turns in each repeat; shown are
medians over repeats, and the least and greatest ratio.

- ours: the int8 table, in float32 and where it pays in bfloat16.
- eager: a plain loop that indexes float32 tensors on the device (by `index_select`),
  with torch's own layers; once as published, once under bfloat16 autocast.
- DataLoader: the same network; a ``__getitem__`` a row, batches put together by
  `default_collate`, without workers and with 2; and, better, with whole batches indexed
  by a sampler.

On a GPU five networks of ours are trained, too, in a row and at once.
"""

import argparse
import math
from statistics import median

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from training import (
    BATCH,
    FLOAT,
    HALF,
    RATE,
    Batches,
    Clock,
    Dataset,
    at_once,
    in_a_row,
    machine,
    tell_models,
)

from numerai_features.nn._batches import RowBatches, Table
from numerai_features.nn._device import resolve_device, resolve_precision
from numerai_features.nn._layers import initialize
from numerai_features.nn._optimizer import TrainingSettings
from numerai_features.nn._supervised import SupervisedAutoencoder, Supervising
from numerai_features.nn._threads import n_threads, own_threads
from numerai_features.nn._training import Trainer

CODE, DECODER, HIDDEN = 96, 96, (896, 448, 448, 256)
NOISE = 0.0353
DROPOUT = (0.0384, 0.424, 0.104, 0.492, 0.320, 0.272, 0.438)


class Published(nn.Module):
    """The network in torch's own layers."""

    def __init__(self, n_features, n_targets):
        super().__init__()

        def block(n_in, n_out, share):
            layers = nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out), nn.SiLU()
            return nn.Sequential(*layers, nn.Dropout(share, inplace=True))

        code_share, decoder_share, wide_share, *shares = DROPOUT
        self.norm = nn.BatchNorm1d(n_features)
        self.encode = block(n_features, CODE, 0.0)
        self.code_dropout = nn.Dropout(code_share)
        self.restore = nn.Linear(CODE, n_features)
        self.decoder = block(n_features, DECODER, decoder_share)
        self.decoder_head = nn.Linear(DECODER, n_targets)
        self.wide = nn.Sequential(
            nn.BatchNorm1d(n_features + CODE), nn.Dropout(wide_share, inplace=True)
        )
        widths = (n_features + CODE, *HIDDEN)
        self.layers = nn.Sequential(
            *(block(*w, s) for *w, s in zip(widths, widths[1:], shares, strict=False))
        )
        self.head = nn.Linear(HIDDEN[-1], n_targets)

    def forward(self, x):
        x0 = self.norm(x)
        code = self.encode(x0 + NOISE * torch.randn_like(x0))
        restored = self.restore(self.code_dropout(code))
        first = self.decoder_head(self.decoder(restored))
        z = self.layers(self.wide(torch.cat([x0, code], 1)))
        return restored, first, self.head(z)


class Job:
    def __init__(self, X, y, epochs, device):
        self.X, self.y, self.epochs, self.device = X, y, epochs, device
        self.center, self.scale = X.mean(0), X.std(0)
        standard = (X - self.center.astype(np.float32)) / self.scale.astype(np.float32)
        self.rows = torch.from_numpy(standard.astype(np.float32)), torch.from_numpy(y)
        self.resident = [a.to(device) for a in self.rows]

    def ours(self, dtype=FLOAT):
        clock = Clock(self.device)
        [trainer] = self.trainers([clock], dtype)
        clock.tick()
        with own_threads():
            trainer.run()
        return clock.best()

    def in_a_row(self, dtype):
        return in_a_row(self.device, lambda clocks: self.trainers(clocks, dtype))

    def at_once(self, dtype):
        return at_once(self.device, lambda clocks: self.trainers(clocks, dtype))

    def trainers(self, clocks, dtype):
        """Return a trainer for each clock."""
        settings = TrainingSettings(
            self.epochs + 1, RATE, schedule="constant", dtype=dtype
        )
        table = Table(self.X, self.center, self.scale, self.device, targets=self.y)
        rows, found = np.arange(len(self.X)), []
        for seed, clock in enumerate(clocks):
            network = SupervisedAutoencoder(
                table, self.y.shape[1], CODE, DECODER, HIDDEN, "silu", NOISE, DROPOUT
            )
            middle = torch.full((self.X.shape[1],), 2.0)
            task = Supervising(network, "mse", (1, 1, 1), middle, table.n_varying)
            initialize(task, seed)
            batches = RowBatches(table, seed, rows, BATCH)
            task = task.to(self.device)
            found.append(Trainer(task, batches, settings, report=clock.tick))
        return found

    def loop(self, batches, dtype=FLOAT):
        network = Published(self.X.shape[1], self.y.shape[1]).to(self.device)
        optimizer = torch.optim.AdamW(
            network.parameters(), RATE, weight_decay=0, fused=True
        )
        clock = Clock(self.device)
        clock.tick()
        for _ in range(self.epochs + 1):
            for x, y in batches():
                x, y = (a.to(self.device, non_blocking=True) for a in (x, y))
                optimizer.zero_grad()
                with torch.autocast(self.device.type, HALF, enabled=dtype == HALF):
                    restored, first, second = network(x)
                loss = F.mse_loss(restored.float(), x) + F.mse_loss(first.float(), y)
                (loss + F.mse_loss(second.float(), y)).backward()
                optimizer.step()
            clock.tick()
        return clock.best()

    def eager(self, dtype=FLOAT):
        def batches():
            for index in torch.randperm(len(self.X), device=self.device).split(BATCH):
                yield [a.index_select(0, index) for a in self.resident]

        return self.loop(batches, dtype)

    def row_by_row(self, workers):
        loader = DataLoader(
            TensorDataset(*self.rows), BATCH, shuffle=True, num_workers=workers,
            persistent_workers=workers > 0, pin_memory=self.device.type == "cuda",
        )  # fmt: skip
        return self.loop(lambda: loader)

    def batched(self):
        loader = DataLoader(Whole(self.rows), None, sampler=Batches(self.X))
        return self.loop(lambda: loader)


class Whole(Dataset):
    def __init__(self, tables):
        self.tables = tables

    def __getitem__(self, index):
        return [a.index_select(0, index) for a in self.tables]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--features", type=int, default=780)
    parser.add_argument("--targets", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    device = resolve_device(args.device)
    torch.set_num_threads(n_threads())
    print(machine(device))
    print(
        f"{args.rows:,} x {args.features:,} int8, {args.targets} targets, batches of "
        f"{BATCH}; best of {args.epochs} epochs, medians of {args.repeats} repeats\n"
    )
    rng = np.random.default_rng(0)
    X = rng.integers(0, 5, (args.rows, args.features), dtype=np.int8)
    y = rng.random((args.rows, args.targets), dtype=np.float32)
    job = Job(X, y, args.epochs, device)
    arms = {
        "ours": job.ours,
        "eager": job.eager,
        "DataLoader, row by row": lambda: job.row_by_row(0),
        "DataLoader, 2 workers": lambda: job.row_by_row(2),
        "DataLoader, batches": job.batched,
    }
    if resolve_precision("auto", device, math.inf) == HALF:
        arms["ours, bfloat16"] = lambda: job.ours(HALF)
        arms["eager, bfloat16"] = lambda: job.eager(HALF)
    for suffix, dtype in (("", FLOAT), (", bfloat16", HALF)):
        if device.type == "cuda" and f"ours{suffix}" in arms:
            arms[f"models in a row{suffix}"] = lambda dtype=dtype: job.in_a_row(dtype)
            arms[f"models at once{suffix}"] = lambda dtype=dtype: job.at_once(dtype)
    seconds = {name: [] for name in arms}
    for _ in range(args.repeats):
        for name, run in arms.items():
            seconds[name].append(run())
    print(f"{'':28}{'rows/s':>10}{'ours/it':>9}{'least':>8}{'most':>8}")
    for name, times in seconds.items():
        if name.startswith("models"):
            continue
        line = f"{name:28}{args.rows / median(times):10,.0f}"
        if name != "ours":
            beside = "ours, bfloat16" if name == "eager, bfloat16" else "ours"
            ratios = [it / own for it, own in zip(times, seconds[beside], strict=True)]
            line += f"{median(ratios):9.2f}{min(ratios):8.2f}{max(ratios):8.2f}"
        print(line)
    tell_models(seconds)


if __name__ == "__main__":
    main()
