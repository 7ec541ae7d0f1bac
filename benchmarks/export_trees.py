"""Trees by numpy alone, beside LightGBM's and XGBoost's own predict on one thread.

    python benchmarks/export_trees.py [--rows 6800] [--features 2376] [--trees 2000]
        [--depth 5] [--leaves 31] [--dtype int8] [--fit-rows 2000] [--pairs 5]
        [--library lightgbm xgboost]

Both predict the same rows in turns. Printed are the medians, the median of the pairs'
ratios (above 1: numpy is slower), the largest difference, the size of the tables, and
the peak of memory of a prediction by numpy in a fresh process, above the state with
the tables and the rows loaded.
"""

import argparse
import json
import pickle
import tempfile
import time
from pathlib import Path

import numpy as np
from _memory import measure

from numerai_features.export._tree_runtime import tree_predict
from numerai_features.export._tree_tables import tree_tables

RATE = {"learning_rate": 0.01, "colsample_bytree": 0.1, "n_jobs": 1}


def fitted(library, X, y, args):
    """Return a regressor with Numerai's parameters, and how it predicts."""
    if library == "lightgbm":
        from lightgbm import LGBMRegressor

        shape = {"max_depth": args.depth, "num_leaves": args.leaves, "verbose": -1}
        model = LGBMRegressor(n_estimators=args.trees, **shape, **RATE)
    else:
        from xgboost import XGBRegressor

        shape = {"max_depth": args.depth, "max_leaves": args.leaves + 1}
        model = XGBRegressor(n_estimators=args.trees, **shape, **RATE)
    return model.fit(X, y)


def seconds(do, *args):
    start = time.perf_counter()
    result = do(*args)
    return time.perf_counter() - start, result


def alone(folder):
    """Predict in this fresh process, for the peak of its memory."""
    tables = pickle.loads((folder / "tables.pkl").read_bytes())
    X = np.load(folder / "X.npy")
    tree_predict(tables, X[:10])
    print("ready", flush=True)
    tree_predict(tables, X)
    print("done" + json.dumps({}), flush=True)


def compare(library, X, y, args, folder):
    took, model = seconds(fitted, library, X[: args.fit_rows], y[: args.fit_rows], args)
    wrote, tables = seconds(tree_tables, model)
    (folder / "tables.pkl").write_bytes(pickle.dumps(tables))
    pairs, largest = [], 0.0
    for _ in range(args.pairs):
        ours, found = seconds(tree_predict, tables, X)
        theirs, expected = seconds(model.predict, X)
        largest = max(largest, float(np.abs(found - expected).max()))
        pairs.append((ours, theirs))
    ours, theirs = np.median(pairs, axis=0)
    ratio = np.median([a / b for a, b in pairs])
    peak = measure(__file__, "--alone", str(folder))["extra_anonymous"]
    print(
        f"{library}: fit {took:.0f} s, tables in {wrote:.2f} s, "
        f"{(folder / 'tables.pkl').stat().st_size / 1e6:.1f} MB; numpy {ours:.3f} s, "
        f"{library} {theirs:.3f} s, ratio {ratio:.2f}, difference {largest:g}, "
        f"peak {peak / 1e6:.0f} MB",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=6800)
    parser.add_argument("--features", type=int, default=2376)
    parser.add_argument("--trees", type=int, default=2000)
    parser.add_argument("--depth", type=int, default=5)
    parser.add_argument("--leaves", type=int, default=31)
    parser.add_argument("--dtype", default="int8", choices=["int8", "float32"])
    parser.add_argument("--fit-rows", type=int, default=2000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--library", nargs="+", default=["lightgbm", "xgboost"])
    parser.add_argument("--alone", type=Path)
    args = parser.parse_args()
    if args.alone:
        return alone(args.alone)
    rng = np.random.default_rng(0)
    X = rng.integers(0, 5, (args.rows, args.features)).astype(args.dtype)
    if args.dtype == "float32":  # as latents are: no value twice
        X += rng.normal(size=X.shape).astype("float32")
    y = X[:, :50] @ rng.normal(size=50) + 10 * rng.normal(size=args.rows)
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "X.npy", X)
        for library in args.library:
            compare(library, X, y, args, Path(folder))


if __name__ == "__main__":
    main()
