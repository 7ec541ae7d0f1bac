"""A default fit on a quiet machine, and beside busy loops that want its cores.

    python benchmarks/busy.py [--loops 2] [--repeats 3] [--arms DAE FA ...]
        [--against CHECKOUT]

Each fit runs in a fresh process, which warms up with a small one before it is timed:
alone, then beside as many endless loops as `--loops` says, in turn, `--repeats` times.
Shown are medians of the seconds, and the ratio of the two. Beside n loops on n cores a
program of as many threads has half of each core: twice the time is what is fair, and
more is waiting. With `--against` another checkout of the package is timed in turn.

The sizes are such that a step is worth several threads; epochs are few, all else is as
it comes. `run` is the command with factor
analysis, an autoencoder and LightGBM, from its start to its page.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
FIT = """
import sys, time
import numpy as np
from numerai_features.embedders import *
rng = np.random.default_rng(0)
def rows(n, n_features):
    z = rng.normal(size=(n, 8)) @ rng.normal(size=(8, n_features))
    z += rng.normal(size=z.shape)
    return np.clip(np.round(z + 2), 0, 4).astype(np.int8)
def fit(embedder, X):
    if isinstance(embedder, EraMLP):  # trains on correlations within eras
        return embedder.fit(X, X[:, 0] / 4, eras=np.arange(len(X)) // 500)
    return embedder.fit(X, X[:, 0] / 4)
{small}
fit(small, rows(2000, 50))
X = rows({n}, {n_features})
{large}
start = time.perf_counter()
fit(large, X)
print(time.perf_counter() - start)
"""
RUN = """
import subprocess, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
(folder / "experiment.toml").write_text('''
[data.synthetic]
n_eras = 60
rows_per_era = 400
n_features = 300
horizon = 4
[cv]
n_splits = 2
[latents.fa]
embedder = "FactorAnalysisEmbedder"
[latents.dae]
embedder = "DAEEmbedder"
max_epochs = 3
[model]
params = { n_estimators = 100 }
''')
command = "from numerai_features.cli import program; program()"
start = time.perf_counter()
subprocess.run([sys.executable, "-c", command, "run", "experiment.toml"], check=True,
               cwd=folder, stdout=subprocess.DEVNULL)
print(time.perf_counter() - start)
"""
SIZES = {
    "DAE": ("DAEEmbedder", "max_epochs=3", 40_000, 1000),
    "SupervisedAEMLP": ("SupervisedAEMLP", "max_epochs=2", 20_000, 500),
    "EraMLP": ("EraMLP", "max_epochs=2", 20_000, 500),
    "UMAP": ("UMAPEmbedder", "max_epochs=6", 20_000, 300),
    "FA": ("FactorAnalysisEmbedder", "", 60_000, 1500),
    "run": None,
}


def script(arm):
    """Return what a fresh process runs."""
    if SIZES[arm] is None:
        return RUN
    name, parameters, n, n_features = SIZES[arm]
    few = parameters.partition("=")[0]
    width = "(8,)" if name == "EraMLP" else "8"
    small = f"small = {name}({width}{f', {few}=1' if few else ''})"
    return FIT.format(
        small=small, large=f"large = {name}({parameters})", n=n, n_features=n_features
    )


def seconds(arm, checkout):
    """Return the seconds of one fit in a fresh process."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    with tempfile.TemporaryDirectory() as folder:
        told = subprocess.run(
            [sys.executable, "-c", script(arm), folder],
            cwd=folder, env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
    return float(told.stdout.split()[-1])


@contextmanager
def busy(n_loops):
    """Keep as many cores busy."""
    loop = [sys.executable, "-c", "while True: pass"]
    loops = [subprocess.Popen(loop) for _ in range(n_loops)]
    try:
        yield
    finally:
        for process in loops:
            process.kill()
            process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--loops", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--arms", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--against", type=Path)
    args = parser.parse_args()
    checkouts = {"now": ROOT}
    if args.against:
        checkouts["before"] = args.against.resolve()
    print(f"{os.cpu_count()} cores, {args.loops} busy loops, {args.repeats} repeats")
    print(f"{'':18}{'':8}{'quiet s':>9}{'busy s':>9}{'busy / quiet':>14}")
    for arm in args.arms:
        times = {(name, n): [] for name in checkouts for n in (0, args.loops)}
        for _ in range(args.repeats):
            for (name, n_loops), taken in times.items():
                with busy(n_loops):
                    taken.append(seconds(arm, checkouts[name]))
        for name in checkouts:
            quiet, loaded = (
                float(np.round(median(times[name, n]), 2)) for n in (0, args.loops)
            )
            told = f"{quiet:9.2f}{loaded:9.2f}{loaded / quiet:14.2f}"
            print(f"{arm:18}{name:8}{told}", flush=True)


if __name__ == "__main__":
    main()
