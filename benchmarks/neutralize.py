"""Neutralising predictions by era, beside numerai_tools' `neutralize` for each era.

    python benchmarks/neutralize.py [--rows 100000] [--features 2376] [--eras 20]

Each arm runs in a fresh process on the same memory-mapped int8 table; memory is what
it takes above the state with everything imported and the table mapped. numerai_tools'
arm does a few eras only (``--beside``), and its seconds are given per era.
"""

import argparse
import json
import sys
import tempfile
import time

import numpy as np
from _memory import measure

from numerai_features.datasets import make_era_panel

ARMS = ("numerai_features", "numerai_tools")


def neutralize_each(prediction, X, eras, numbers):
    """Neutralise some eras by numerai_tools, as its users do."""
    import pandas as pd
    from numerai_tools.scoring import neutralize

    found = []
    for era in numbers:
        rows = eras == era
        own = pd.DataFrame({"p": prediction[rows]})
        found.append(neutralize(own, pd.DataFrame(X[rows]))["p"].to_numpy())
    return np.concatenate(found)


def largest_exposure(rest, X, eras, numbers):
    """Return the largest correlation of a neutral prediction with a feature."""
    largest = 0.0
    for era in numbers:
        own = X[eras == era].astype(np.float64)
        own -= own.mean(axis=0)
        p = rest[eras == era] - rest[eras == era].mean()
        size = np.linalg.norm(own, axis=0) * np.linalg.norm(p)
        exposures = np.abs(p @ own)[size > 0] / size[size > 0]
        largest = max(largest, float(exposures.max()))
    return largest


def run(arm, path, beside):
    """Neutralise in this process; print seconds per era and what came out."""
    from numerai_features.compose import neutralize_by_era

    X = np.load(f"{path}/features.npy", mmap_mode="r")
    eras = np.load(f"{path}/eras.npy")
    numbers = np.unique(eras)
    some = numbers if arm == ARMS[0] else numbers[:beside]
    rng = np.random.default_rng(0)
    prediction = rng.normal(size=len(X)) + X[:, 0] + X[:, 1]
    small = X[:300, :20].copy(), eras[:300] * 0 + 1  # imports and thread pools
    neutralize_by_era(prediction[:300], *small)
    neutralize_each(prediction[:300], *small, [1])
    print("ready", flush=True)
    start = time.perf_counter()
    if arm == ARMS[0]:
        rest = neutralize_by_era(prediction, X, eras)
    else:
        rest = neutralize_each(prediction, X, eras, some)
    seconds = (time.perf_counter() - start) / len(some)
    print("done" + json.dumps({"per_era": seconds}), flush=True)
    np.save(f"{path}/{arm}.npy", rest)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--features", type=int, default=2_376)
    parser.add_argument("--eras", type=int, default=20)
    parser.add_argument("--beside", type=int, default=2)
    parser.add_argument("--arm")
    parser.add_argument("--path")
    args = parser.parse_args()
    if args.arm:
        return run(args.arm, args.path, args.beside)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/panel"
        make_era_panel(
            args.eras, args.rows // args.eras, args.features, 30, path=path,
            random_state=0,
        )  # fmt: skip
        print(f"{args.rows:,} x {args.features:,} int8, {args.eras} eras")
        print(f"{'':18}{'anonymous':>11}{'seconds per era':>17}")
        for arm in ARMS:
            told = measure(
                sys.argv[0], "--arm", arm, "--path", path, "--beside", str(args.beside)
            )
            memory = told["extra_anonymous"] / 1e6
            print(f"{arm:18}{memory:9.0f}MB{told['per_era']:17.2f}")
        X, eras = np.load(f"{path}/features.npy", "r"), np.load(f"{path}/eras.npy")
        some = np.unique(eras)[: args.beside]
        ours, theirs = (np.load(f"{path}/{arm}.npy") for arm in ARMS)
        ours, rows = ours[np.isin(eras, some)], np.isin(eras, some)
        print(f"largest difference {np.abs(ours - theirs).max():.1e}")
        for arm, rest in zip(ARMS, (ours, theirs), strict=True):
            largest = largest_exposure(rest, X[rows], eras[rows], some)
            print(f"largest exposure, {arm}: {largest:.1e}")


if __name__ == "__main__":
    main()
