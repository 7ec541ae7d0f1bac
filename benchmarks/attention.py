"""Seconds and memory of an era's training step, by the kind of attention.

    python benchmarks/attention.py [--rows 1000 2000 4000 8000 16000]
        [--features 100] [--steps 4] [--kinds linear induced full]
        [--picture docs/attention.png]
    python benchmarks/attention.py --rows 6800 --features 2376 --kinds linear induced

`EraTransformer` (two layers of width 64, four heads, masked cells) is fitted for one
epoch to a few eras of random bins, of as many rows each, without held-out eras. Each
fit is a fresh process. Seconds are those of the epoch, divided by the number of eras;
memory is what the whole fit takes above the state with torch imported and the rows
made: anonymous, and resident. "slope" is that of the logarithms between the two
largest eras: 1 is linear in the number of rows, 2 is quadratic. The attention of
"full" is torch's scaled_dot_product_attention.
"""

import argparse
import json
import math
import sys

import numpy as np
from _memory import measure

KINDS = ("linear", "induced", "full")
COLOURS = dict(zip(KINDS, ("#0072B2", "#E69F00", "#000000"), strict=True))


def fit(kind, n_rows, n_features, n_eras):
    """Fit in this process, whose memory is looked at."""
    import torch  # noqa: F401

    from numerai_features.embedders import EraTransformer
    from numerai_features.nn._threads import n_threads

    n_threads()  # asks a child process, which would count as our memory
    rng = np.random.default_rng(0)
    X = rng.integers(0, 5, (n_eras * n_rows, n_features), dtype=np.int8)
    eras = np.repeat(np.arange(n_eras), n_rows)
    net = EraTransformer(
        attention=kind, objective="cells", validation=None, max_epochs=1,
        random_state=0,
    )  # fmt: skip
    print("ready", flush=True)
    net.fit(X, eras=eras)
    (seconds,) = net.history_[0]["seconds"]
    print("done", json.dumps({"epoch": seconds}), flush=True)


def draw(results, file):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), dpi=110, layout="constrained")
    axes = figure.subplots(1, 2)
    for ax, place, label in zip(
        axes, (0, 1), ("seconds of a step", "anonymous memory, GB"), strict=True
    ):
        for kind, line in results.items():
            sizes = [size for size, *_ in line]
            plot = ax.plot if place else ax.loglog
            values = [one[1 + place] for one in line]
            plot(sizes, values, "o-", color=COLOURS[kind], label=kind)
        ax.set_xlabel("rows of the era")
        ax.set_ylabel(label)
        shown = sizes[-3:] if place else sizes
        ax.set_xticks(shown, [f"{size:,}" for size in shown])
        ax.minorticks_off()
        ax.spines[["top", "right"]].set_visible(False)
    axes[1].set_ylim(bottom=0)
    axes[0].legend(frameon=False)
    figure.savefig(file)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sizes = [1000, 2000, 4000, 8000, 16000]
    parser.add_argument("--rows", type=int, nargs="+", default=sizes)
    parser.add_argument("--features", type=int, default=100)
    parser.add_argument("--steps", type=int, default=4, help="number of eras")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--picture")
    parser.add_argument("--fit", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.fit:
        return fit(args.fit, args.rows[0], args.features, args.steps)
    print(f"{args.features:,} features, {args.steps} eras")
    print(f"{'':10}{'rows':>8}{'s an era':>10}{'anonymous':>12}{'resident':>11}")
    results = {}
    for kind in args.kinds:
        line = results.setdefault(kind, [])
        for size in args.rows:
            r = measure(
                sys.argv[0], "--fit", kind, "--rows", str(size),
                "--features", str(args.features), "--steps", str(args.steps),
            )  # fmt: skip
            seconds = r["epoch"] / args.steps
            memory = [r[f"extra_{name}"] / 1e9 for name in ("anonymous", "resident")]
            line.append((size, seconds, *memory))
            print(
                f"{kind:10}{size:8,}{seconds:10.2f}{memory[0]:9.2f} GB"
                f"{memory[1]:8.2f} GB",
                flush=True,
            )
        if len(line) > 1:
            (small, *before), (large, *after) = line[-2:]
            slopes = [
                math.log(b / a) / math.log(large / small)
                for a, b in zip(before[:2], after[:2], strict=True)
            ]
            print(f"{'':10}slope: {slopes[0]:.2f} of time, {slopes[1]:.2f} of memory")
    if args.picture:
        draw(results, args.picture)


if __name__ == "__main__":
    main()
