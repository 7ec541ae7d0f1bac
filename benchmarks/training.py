"""Rows per second of the training loop beside peers, and what limits them.

    python benchmarks/training.py [--rows 100000] [--features 1000] [--epochs 3]
        [--repeats 3] [--device auto] [--arms eager skorch ...]

One random int8 table and, in every arm, the same network (F - hidden - code - mirrored
hidden - F; batch normalisation after every layer but the output, silu and dropout .1
after the hidden ones), swap noise .15, mean squared error of the standardised cells,
AdamW, batches of 4096. Each arm trains one epoch to warm up, then some that are timed,
of which the best counts. Arms take turns in each repeat, so that a machine that drifts
hits all alike; shown are medians over repeats, and the least and greatest ratio.

- ours: `Autoencoder`, `Denoising`, `RowBatches`, `Trainer`.
- models: five networks of ours, as `n_models=5` trains them: in a row, and on a GPU at
  once, too. An epoch of five in a row is the sum of the best epoch of each.
- eager: a plain loop that indexes one int8 tensor on the device (by `index_select`: in
  bytes, ``table[index]`` takes seven times as long).
- DataLoader: ``batch_size=None`` and a sampler that yields the indices of a batch as a
  tensor: one `index_select` makes a batch. With 0, 1 and 2 workers that persist; pinned
  memory for a GPU.
- skorch, where it is installed: `NeuralNet` with that loader, no callbacks, no
  validation split; on a GPU with the table resident, too.
- row by row: the DataLoader as it is mostly written, a ``__getitem__`` a row.
- eager and skorch by gather: they draw noise as one does in torch, by gathering a donor
  for every cell. skorch as it comes: that, and `fit` on a float32 array, which it
  indexes row by row.

All others draw noise by our `swap`, and all live in one process, where memory that was
freed is kept as ours has glibc do: ratios are of the loops. The peers have `nn.Linear`
(without the biases that batch normalisation undoes), `nn.BatchNorm1d`, `nn.SiLU`,
`nn.Dropout`, `mse_loss` and fused AdamW, and standardise and drop in place. In bfloat16
(on GPUs, and CPUs with AMX): ours, and the eager loop under autocast.

The matrix products of a step, those with vectors left out, are recorded in a step of
ours and of the eager loop, then run alone, back to back, into memory that is there
already: the ceiling of that algorithm.
"""

import argparse
import math
import platform
import time
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, Dataset, Sampler

from numerai_features.nn._autoencoder import Autoencoder, Corruption, Denoising
from numerai_features.nn._batches import RowBatches, Table
from numerai_features.nn._device import resolve_device, resolve_precision
from numerai_features.nn._draws import TRAINING, Draws
from numerai_features.nn._ensemble import train_at_once, train_in_a_row
from numerai_features.nn._layers import initialize
from numerai_features.nn._noise import swap
from numerai_features.nn._optimizer import TrainingSettings
from numerai_features.nn._threads import n_threads, own_threads
from numerai_features.nn._training import Trainer, set_gradients

NETWORKS = (((64, 32), 10), ((256, 128), 16))
BATCH, NOISE, DROPOUT, RATE, N_MODELS = 4096, 0.15, 0.1, 1e-3, 5
FLOAT, HALF = torch.float32, torch.bfloat16


def swapped(rows, step):
    """Draw noise as the product does."""
    draws = Draws(0, TRAINING, step, len(rows), device=rows.device)
    return swap(rows, NOISE, draws)


def gathered(rows, _):
    """Draw noise as one does in torch."""
    chosen = torch.rand(rows.shape, device=rows.device) < NOISE
    donors = torch.randint(len(rows), rows.shape, device=rows.device)
    return torch.where(chosen, rows.gather(0, donors), rows)


class Clock:
    """Times at which epochs end; the first epoch does not count."""

    def __init__(self, device):
        self.device = device
        self.times = []

    def tick(self, *_):
        wait(self.device)
        self.times.append(time.perf_counter())

    def best(self):
        return min(b - a for a, b in list(pairwise(self.times))[1:])


def wait(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def in_a_row(device, make_trainers):
    """Train so many networks one after the other; return seconds of an epoch of all."""
    clocks = [Clock(device) for _ in range(N_MODELS)]
    with own_threads():
        train_in_a_row(make_trainers(clocks))
    # The first epoch of a clock begins with the first tick, and does not count.
    return sum(min(b - a for a, b in pairwise(clock.times)) for clock in clocks)


def at_once(device, make_trainers):
    """Train so many networks at once; return seconds of an epoch of all."""
    clocks = [Clock(device) for _ in range(N_MODELS)]
    train_at_once(make_trainers(clocks))
    last = clocks[-1].times  # whose epochs end when all others' have
    return min(b - a for a, b in pairwise(last))


class Job:
    """A table, a network to train on it, and for how long; arms return seconds."""

    def __init__(self, X, hidden, n_components, epochs, device):
        self.X, self.hidden, self.n_components = X, hidden, n_components
        self.epochs, self.device = epochs, device
        self.center, self.scale = X.mean(0), X.std(0)
        self.rows = torch.from_numpy(X)
        self.resident = self.rows.to(device)

    # Ours.

    def task_and_batches(self, table, seed=0):
        network = Autoencoder(table, self.hidden, self.n_components, "silu", DROPOUT)
        middle = torch.full((self.X.shape[1],), 2.0)
        task = Denoising(network, Corruption("swap", NOISE, False, middle))
        initialize(task, seed)
        batches = RowBatches(table, seed, np.arange(len(self.X)), BATCH)
        return task.to(self.device), batches

    def trainers(self, clocks, dtype):
        """Return a trainer for each clock."""
        settings = TrainingSettings(
            self.epochs + 1, RATE, schedule="constant", dtype=dtype
        )
        table = self.table()
        return [
            Trainer(*self.task_and_batches(table, seed), settings, report=clock.tick)
            for seed, clock in enumerate(clocks)
        ]

    def table(self):
        return Table(self.X, self.center, self.scale, self.device)

    def ours(self, dtype=FLOAT):
        clock = Clock(self.device)
        [trainer] = self.trainers([clock], dtype)
        clock.tick()
        with own_threads():
            trainer.run()
        return clock.best()

    def in_a_row(self, dtype=FLOAT):
        return in_a_row(self.device, lambda clocks: self.trainers(clocks, dtype))

    def at_once(self, dtype=FLOAT):
        return at_once(self.device, lambda clocks: self.trainers(clocks, dtype))

    # Peers.

    def network(self, noise):
        n_features = self.X.shape[1]
        widths = [n_features, *self.hidden, self.n_components, *self.hidden[::-1]]
        layers = [Corrupted(self, noise)]
        for i, (n_in, n_out) in enumerate(pairwise(widths)):
            layers += [nn.Linear(n_in, n_out, bias=False), nn.BatchNorm1d(n_out)]
            if i != len(self.hidden):
                layers += [nn.SiLU(), nn.Dropout(DROPOUT, inplace=True)]
        layers.append(nn.Linear(widths[-1], n_features))
        return nn.Sequential(*layers).to(self.device)

    def loop(self, batches, dtype=FLOAT, noise=swapped):
        """Train; ``batches()`` yields the int8 rows of an epoch's steps."""
        network, error = self.network(noise), Error(self).to(self.device)
        optimizer = torch.optim.AdamW(
            network.parameters(), RATE, weight_decay=0, fused=True
        )
        clock = Clock(self.device)
        clock.tick()
        for _ in range(self.epochs + 1):
            for rows in batches():
                rows = rows.to(self.device, non_blocking=True)
                optimizer.zero_grad()
                self.loss(network, error, rows, dtype).backward()
                optimizer.step()
            clock.tick()
        return clock.best()

    def loss(self, network, error, rows, dtype):
        with torch.autocast(self.device.type, HALF, enabled=dtype == HALF):
            output = network(rows)
        return error(output, rows)

    def eager(self, dtype=FLOAT, noise=swapped):
        def batches():
            order = torch.randperm(len(self.X), device=self.device)
            for index in order.split(BATCH):
                yield self.resident.index_select(0, index)

        return self.loop(batches, dtype, noise)

    def data_loader(self, workers):
        loader = DataLoader(
            Indexed(self.rows), None, sampler=Batches(self.X), **self.options(workers)
        )
        return self.loop(lambda: loader)

    def row_by_row(self):
        loader = DataLoader(Rows(self.rows), BATCH, shuffle=True)
        return self.loop(lambda: loader)

    def skorch(self, workers=0, resident=False, noise=swapped):
        options = {} if resident else self.options(workers)
        options = {f"iterator_train__{name}": value for name, value in options.items()}
        rows = Pairs(self.resident if resident else self.rows)
        return self.fit_skorch(
            rows, noise=noise, batch_size=None, callbacks="disable",
            iterator_train__sampler=Batches(self.X), **options,
        )  # fmt: skip

    def plain_skorch(self):
        X = self.X.astype(np.float32)
        return self.fit_skorch(
            X, X, noise=gathered, batch_size=BATCH, iterator_train__shuffle=True
        )

    def fit_skorch(self, *rows, noise, **options):
        from skorch import NeuralNet

        class Timed(NeuralNet):
            def on_epoch_end(self, *args, **kwargs):
                clock.tick()

        net = Timed(
            self.network(noise), Error, criterion__job=self, lr=RATE,
            optimizer=torch.optim.AdamW, optimizer__weight_decay=0,
            optimizer__fused=True, max_epochs=self.epochs + 1, train_split=None,
            verbose=0, device=self.device, **options,
        )  # fmt: skip
        clock = Clock(self.device)
        net.initialize()
        clock.tick()
        net.partial_fit(*rows)
        return clock.best()

    def options(self, workers):
        pinned = self.device.type == "cuda"
        return {
            "num_workers": workers,
            "persistent_workers": workers > 0,
            "pin_memory": pinned,
        }

    # Matrix products alone.

    def products(self, who, dtype=FLOAT):
        """Run the products of an epoch of an arm, and nothing else."""
        if who == "ours":
            task, batches = self.task_and_batches(self.table())
            batch = next(batches.epoch(0))
            n_rows = len(batch.x)
            with Products() as products:
                set_gradients(task, batch, dtype)
        else:
            network, error = self.network(swapped), Error(self).to(self.device)
            rows = self.resident[:BATCH]
            n_rows = len(rows)
            with Products() as products:
                self.loss(network, error, rows, dtype).backward()
        clock = Clock(self.device)
        clock.tick()
        n_steps = -(-len(self.X) // n_rows)
        for _ in range(self.epochs + 1):
            for _ in range(n_steps):
                products.run()
            clock.tick()
        return clock.best() * len(self.X) / (n_steps * n_rows)


class Products(TorchDispatchMode):
    """Records the matrix products in its ``with`` block, to run them again."""

    NAMES = ("mm", "addmm", "_int_mm")

    def __init__(self):
        super().__init__()
        self.products = []
        self.operands = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ in self.NAMES:
            a, b = [arg for arg in args if isinstance(arg, torch.Tensor)][-2:]
            if min(*a.shape, b.shape[1]) > 1:
                product = torch._int_mm if a.dtype == torch.int8 else torch.mm
                operands = self.like(a), self.like(b)
                self.products.append((product, *operands, torch.empty_like(out)))
        return out

    def like(self, x):
        """Return numbers laid out as x is; the same ones for the same layout."""
        key = (x.shape, x.stride(), x.dtype)
        if key not in self.operands:
            like = torch.empty_strided(*key[:2], dtype=x.dtype, device=x.device)
            is_float = x.is_floating_point()
            self.operands[key] = like.normal_() if is_float else like.random_(0, 5)
        return self.operands[key]

    def run(self):
        for product, a, b, out in self.products:
            product(a, b, out=out)


class Standardized(nn.Module):
    def __init__(self, job):
        super().__init__()
        self.register_buffer("center", torch.tensor(job.center, dtype=FLOAT))
        self.register_buffer("factor", torch.tensor(1 / job.scale, dtype=FLOAT))

    def forward(self, rows):
        return rows.float().sub_(self.center).mul_(self.factor)


class Corrupted(Standardized):
    def __init__(self, job, noise):
        super().__init__(job)
        self.noise = noise
        self.step = 0

    def forward(self, rows):
        self.step += 1
        return super().forward(self.noise(rows, self.step))


class Error(Standardized):
    def forward(self, output, rows):
        return F.mse_loss(output.float(), super().forward(rows))


class Rows(Dataset):
    def __init__(self, table):
        self.table = table

    def __len__(self):
        return len(self.table)

    def __getitem__(self, i):
        return self.table[i]


class Indexed(Rows):
    def __getitem__(self, index):
        return self.table.index_select(0, index.to(self.table.device))


class Pairs(Indexed):
    """What skorch wants: inputs and targets."""

    def __getitem__(self, index):
        rows = super().__getitem__(index)
        return rows, rows


class Batches(Sampler):
    def __init__(self, X):
        self.n_rows = len(X)

    def __len__(self):
        return -(-self.n_rows // BATCH)

    def __iter__(self):
        yield from torch.randperm(self.n_rows).split(BATCH)


def arms_of(job):
    """Return the arms by name; the first word is what ``--arms`` chooses by."""
    on_gpu = job.device.type == "cuda"
    arms = {"ours": job.ours, "eager": job.eager}
    for n in (0, 1, 2):
        arms[f"DataLoader, workers: {n}"] = lambda n=n: job.data_loader(n)
    for n in (0, 1, 2):
        arms[f"skorch, workers: {n}"] = lambda n=n: job.skorch(n)
    if on_gpu:
        arms["skorch, resident"] = lambda: job.skorch(resident=True)
    arms["row by row"] = job.row_by_row
    arms["eager, by gather"] = lambda: job.eager(noise=gathered)
    arms["skorch, as it comes"] = job.plain_skorch
    arms["skorch, by gather"] = lambda: job.skorch(noise=gathered)
    if find_spec("skorch") is None:
        arms = {k: run for k, run in arms.items() if not k.startswith("skorch")}
    arms["products of ours"] = lambda: job.products("ours")
    arms["products of eager"] = lambda: job.products("eager")
    if resolve_precision("auto", job.device, math.inf) == HALF:
        arms["ours, bfloat16"] = lambda: job.ours(HALF)
        arms["eager, bfloat16"] = lambda: job.eager(HALF)
        arms["products of ours, bfloat16"] = lambda: job.products("ours", HALF)
        arms["products of eager, bfloat16"] = lambda: job.products("eager", HALF)
    for suffix, dtype in (("", FLOAT), (", bfloat16", HALF)):
        if f"ours{suffix}" in arms and (on_gpu or not suffix):
            arms[f"models in a row{suffix}"] = lambda dtype=dtype: job.in_a_row(dtype)
        if f"ours{suffix}" in arms and on_gpu:
            arms[f"models at once{suffix}"] = lambda dtype=dtype: job.at_once(dtype)
    return arms


def compare(job, chosen, repeats):
    """Let the arms take turns; print what they did."""
    wanted = {"ours", *chosen}  # ours of each precision, for ratios to it
    arms = {
        name: run
        for name, run in arms_of(job).items()
        if not chosen or name.replace(",", "").split()[0] in wanted
    }
    seconds = {name: [] for name in arms}
    for _ in range(repeats):
        for name, run in arms.items():
            seconds[name].append(run())
    loops = [arm for arm in arms if not arm.startswith(("products", "models"))]
    print(f"{'':28}{'rows/s':>10}{'ours/it':>9}{'least':>8}{'most':>8}")
    for arm in loops:
        line = f"{arm:28}{len(job.X) / median(seconds[arm]):10,.0f}"
        if arm != "ours":
            is_peer = arm == "eager, bfloat16"
            ours = seconds["ours, bfloat16" if is_peer else "ours"]
            ratios = [it / our for it, our in zip(seconds[arm], ours, strict=True)]
            line += f"{median(ratios):9.2f}{min(ratios):8.2f}{max(ratios):8.2f}"
        print(line)
    products = [arm for arm in arms if arm.startswith("products")]
    if products:
        print(f"{'':28}{'rows/s':>10}   reached by ours, by eager")
        for arm in products:
            line = f"{arm:28}{len(job.X) / median(seconds[arm]):10,.0f}"
            suffix = ", bfloat16" if arm.endswith("16") else ""
            for loop in ("ours", "eager"):
                times = seconds.get(loop + suffix)
                if times:
                    shares = [p / t for p, t in zip(seconds[arm], times, strict=True)]
                    line += f"{median(shares):14.0%}"
            print(line)
    tell_models(seconds)
    print(flush=True)


def tell_models(seconds):
    """Print what several networks take, from the seconds of arms by name."""
    for name, own in seconds.items():
        if not name.startswith("models"):
            continue
        suffix = ", bfloat16" if name.endswith("16") else ""
        line = f"{N_MODELS} {name}: {ratio(own, seconds['ours' + suffix]):.2f} x "
        line += "the time of one"
        if name.startswith("models at once"):
            row = seconds["models in a row" + suffix]
            line += f" (goal: 2), {ratio(own, row):.2f} x that of {N_MODELS} in a row"
        print(line)


def ratio(a, b):
    """Return the median ratio of what ran in turns."""
    return median(x / y for x, y in zip(a, b, strict=True))


def compare_noise(device, repeats):
    print(f"{'swap noise of int8 rows':28}{'ours ms':>10}{'gather ms':>11}{'ratio':>8}")
    for n_features in (1000, 2376):
        shape = (BATCH, n_features)
        x = torch.randint(0, 5, shape, dtype=torch.int8, device=device)
        times = {swapped: [], gathered: []}
        for step in range(10 * repeats + 1):
            for noise, taken in times.items():
                wait(device)
                start = time.perf_counter()
                noise(x, step)
                wait(device)
                taken.append(time.perf_counter() - start)
        a, b = (1e3 * median(taken[1:]) for taken in times.values())
        print(f"{BATCH:,} x {n_features:<21,}{a:10.2f}{b:11.2f}{b / a:8.1f}")


def machine(device):
    name = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [s for s in info.read_text().splitlines() if s.startswith("model name")]
        name = names[0].partition(":")[2].strip() if names else name
    if device.type == "cuda":
        name = f"{torch.cuda.get_device_name(device)}, {name}"
    return f"{name}; {torch.get_num_threads()} threads; torch {torch.__version__}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--features", type=int, default=1_000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--arms", nargs="+", default=[],
        choices=["eager", "DataLoader", "skorch", "row", "products", "models", "noise"],
        help="beside ours; all by default",
    )  # fmt: skip
    args = parser.parse_args()
    device = resolve_device(args.device)
    torch.set_num_threads(n_threads())
    print(machine(device))
    print(
        f"{args.rows:,} x {args.features:,} int8, batches of {BATCH}; best of "
        f"{args.epochs} epochs, medians of {args.repeats} repeats\n"
    )
    shape = (args.rows, args.features)
    X = np.random.default_rng(0).integers(0, 5, shape, dtype=np.int8)
    for hidden, n_components in NETWORKS:
        print(f"== {hidden} -> {n_components}")
        job = Job(X, hidden, n_components, args.epochs, device)
        compare(job, args.arms, args.repeats)
    if not args.arms or "noise" in args.arms:
        compare_noise(device, args.repeats)


if __name__ == "__main__":
    main()
