"""Peak memory of augmenting a table, above the output.

    python benchmarks/augmenters_memory.py [--rows 500000] [--features 1000]

Random bins of int8 with eras of 5,000 rows, by 50 % (rows of rare bins as many as there
are). In a fresh process, above the state with the table in memory: anonymous memory,
and what of it is more than the output.
"""

import argparse
import json

import numpy as np
from _memory import measure

from numerai_features import augmenters

ARMS = {
    "cutout": augmenters.CutoutAugmenter(copies=0.5, random_state=0),
    "cutout by row": augmenters.CutoutAugmenter(copies=0.5, per="row", random_state=0),
    "noise": augmenters.GaussianNoiseAugmenter(copies=0.5, random_state=0),
    "noise, ranked": augmenters.GaussianNoiseAugmenter(
        copies=0.5, bins="rank", random_state=0
    ),
    "mixup": augmenters.EraMixupAugmenter(copies=0.5, random_state=0),
    "targets": augmenters.RidgeMixtureTargets(0.5, random_state=0),
    "balance": augmenters.BalanceAugmenter(0.4, random_state=0),
}


def run_arm(arm, n_rows, n_features):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 5, (n_rows, n_features), dtype=np.int8)
    y = rng.choice([0, 0.25, 0.5, 0.75, 1], n_rows, p=[0.05, 0.2, 0.5, 0.2, 0.05])
    eras = np.arange(n_rows) // 5000
    print("ready", flush=True)
    rows = ARMS[arm].fit_resample(X, y, eras=eras)
    output = sum(value.nbytes for value in rows if value is not None)
    print("done", json.dumps({"output": output, "rows": len(rows.X)}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--features", type=int, default=1000)
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    sizes = ["--rows", str(args.rows), "--features", str(args.features)]
    if args.arm:
        return run_arm(args.arm, args.rows, args.features)
    print(f"{'':16}{'rows':>10}{'seconds':>9}{'output MB':>11}{'more MB':>9}")
    for arm in ARMS:
        told = measure(__file__, "--arm", arm, *sizes)
        more = told["extra_anonymous"] - told["output"]
        print(
            f"{arm:16}{told['rows']:10,}{told['seconds']:9.1f}"
            f"{told['output'] / 1e6:11.0f}{more / 1e6:9.0f}",
            flush=True,
        )
    return None


if __name__ == "__main__":
    main()
