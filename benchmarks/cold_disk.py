"""Training a network on a file that memory does not hold, asking ahead or not.

    sudo python benchmarks/cold_disk.py [--rows 1000000] [--megabytes 900]

A fresh process, in a control group (Linux, version 1 or 2) with so much memory, trains
a `DAEEmbedder` on a panel on disk. After the first step, which comes after passes over
all rows, some steps are timed: all of it, the waiting for rows, and the bytes that are
read from the disk for each row that is used.

- ahead: rows of the next batch are asked for while the network computes;
- not ahead: the same without it, as the system reads a mapped file by itself.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

STEPS = {"ahead": 40, "not ahead": 6}
GROUPS = Path("/sys/fs/cgroup")


class Enough(Exception):
    """The steps are done."""


def limited(megabytes):
    """Return a new control group with so much memory."""
    older = (GROUPS / "memory").exists()
    group = GROUPS / ("memory/cold_disk" if older else "cold_disk")
    group.mkdir(exist_ok=True)
    file = group / ("memory.limit_in_bytes" if older else "memory.max")
    file.write_text(str(megabytes << 20))
    return group


def forget(folder):
    """Drop the pages of a panel's files, which count where they were written."""
    for file in Path(folder).iterdir():
        with file.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def bytes_read():
    """Return the bytes that this process has read from the disk."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("read_bytes")).split()[1])


def train(arm, folder):
    """Take some steps in this process, and print what they took."""
    from numerai_features.datasets import EraPanel
    from numerai_features.embedders import DAEEmbedder
    from numerai_features.nn import _ahead, _batches, _training

    waits, begun, n_steps = [], [], STEPS[arm]
    take, step = _batches.Table.take, _training.Trainer.take_step

    def timed_take(self, rows):
        start = time.perf_counter()
        out = take(self, rows)
        waits.append((time.perf_counter() - start, len(rows)))
        return out

    def counted_step(self, loss):
        step(self, loss)
        if not begun:
            begun.extend([time.perf_counter(), bytes_read()])
            waits.clear()
        elif len(waits) > n_steps:
            raise Enough

    _batches.Table.take, _training.Trainer.take_step = timed_take, counted_step
    if arm == "not ahead":
        _ahead.Ahead.is_needed = lambda *_: False
    panel = EraPanel.open(folder)
    try:
        DAEEmbedder(16, max_epochs=1, validation=None, random_state=0).fit(panel)
    except Enough:
        seconds = time.perf_counter() - begun[0]
    waited, rows = map(sum, zip(*waits, strict=True))
    print(
        f"{arm:10}{seconds / len(waits):12.2f}{waited / len(waits):12.2f}"
        f"{(bytes_read() - begun[1]) / rows:14,.0f}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=1_000)
    parser.add_argument("--megabytes", type=int, default=900)
    parser.add_argument("--arm", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    parser.add_argument("--group", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.arm:
        Path(args.group, "cgroup.procs").write_text(str(os.getpid()))
        return train(args.arm, args.path)
    from numerai_features.datasets import PanelWriter

    group = limited(args.megabytes)
    with tempfile.TemporaryDirectory() as folder:
        rng, path = np.random.default_rng(0), f"{folder}/panel"
        names = [f"feature_{j:04d}" for j in range(args.features)]
        with PanelWriter(
            path, n_rows=args.rows, feature_names=names, target_names=[]
        ) as writer:
            for era, start in enumerate(range(0, args.rows, 5_000), 1):
                rows = slice(start, min(start + 5_000, args.rows))
                shape = rows.stop - rows.start, args.features
                writer.write(rows, rng.integers(0, 5, shape, np.int8), era)
        size = args.rows * args.features / 1e6
        print(f"{size:,.0f} MB of rows in {args.megabytes} MB of memory")
        print(f"{'':10}{'s a step':>12}{'waiting':>12}{'bytes a row':>14}", flush=True)
        for arm in STEPS:
            forget(path)
            command = [sys.executable, sys.argv[0], "--arm", arm, "--path", path]
            subprocess.run([*command, "--group", str(group)], check=True)


if __name__ == "__main__":
    main()
