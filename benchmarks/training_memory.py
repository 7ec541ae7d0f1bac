"""Peak memory of fitting networks on a table that stays on disk.

    python benchmarks/training_memory.py [--rows 1000000] [--features 2000]
        [--embedders DAEEmbedder ...]

A panel of random bins is written to a temporary folder, era by era, and fitted for one
epoch in a fresh process, where it is mapped into memory; otherwise with the default
parameters: a tenth of the eras is held out. Memory is what that takes above the state
with torch imported and the panel opened: anonymous, and resident, which counts pages
of the file that the system may drop at any time.
"""

import argparse
import sys
import tempfile

import numpy as np
from _memory import measure

from numerai_features.datasets import EraPanel, PanelWriter

ROWS_PER_ERA = 5000


def write(path, n_rows, n_features):
    rng = np.random.default_rng(0)
    names = [f"feature_{i}" for i in range(n_features)]
    with PanelWriter(
        path, n_rows=n_rows, feature_names=names, target_names=["target"]
    ) as writer:
        for start in range(0, n_rows, ROWS_PER_ERA):
            rows = slice(start, min(start + ROWS_PER_ERA, n_rows))
            n = rows.stop - start
            X = rng.integers(0, 5, (n, n_features), dtype=np.int8)
            writer.write(rows, X, start // ROWS_PER_ERA + 1, np.zeros(n, np.float32))


def fit(path, name):
    """Fit in this process, whose memory is looked at."""
    import torch  # noqa: F401

    from numerai_features import embedders
    from numerai_features.nn._threads import n_threads

    n_threads()  # asks a child process, which would count as our memory
    panel = EraPanel.open(path)
    net = getattr(embedders, name)(max_epochs=1, random_state=0)
    print("ready", flush=True)
    net.fit(panel.X, eras=panel.eras)
    print("done", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=2_000)
    parser.add_argument("--embedders", nargs="+", default=["DAEEmbedder"])
    parser.add_argument("--path", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.path:
        return fit(args.path, *args.embedders)
    size = args.rows * args.features
    print(f"{args.rows:,} x {args.features:,} int8 on disk, {size / 1e9:.2f} GB")
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/panel"
        write(path, args.rows, args.features)
        for name in args.embedders:
            r = measure(sys.argv[0], "--path", path, "--embedders", name)
            print(f"{name}(max_epochs=1).fit, above the state with torch imported:")
            for kind in ("anonymous", "resident"):
                extra = r[f"extra_{kind}"]
                share = f"{extra / size:.2f} of the table"
                print(f"  {kind:9} {extra / 1e9:6.2f} GB, {share}")
            print(f"  {r['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
