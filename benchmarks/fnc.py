"""FNC of several predictions by `era_scores`, beside numerai_tools era by era.

    python benchmarks/fnc.py [--eras 40] [--rows 5000] [--features 300]
        [--predictions 4] [--pairs 5]

Both score the same rows on one thread of BLAS, in turns. Printed are the medians, the
median of the pairs' ratios, and the largest difference of a score.
"""

import argparse
import time

import numpy as np
import pandas as pd
from numerai_tools.scoring import feature_neutral_corr
from threadpoolctl import threadpool_limits

from numerai_features import era_scores
from numerai_features.datasets import make_era_panel


def by_numerai_tools(y, predictions, eras, features):
    """Return the scores of each era, one after another."""
    scores = []
    for era in np.unique(eras):
        rows = eras == era
        frame = pd.DataFrame(predictions[rows])
        target, beside = pd.Series(y[rows], name="y"), pd.DataFrame(features[rows])
        scores.append(feature_neutral_corr(frame, beside, target))
    return np.array(scores)


def seconds(do, *args, **options):
    start = time.perf_counter()
    result = do(*args, **options)
    return time.perf_counter() - start, np.asarray(result)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--eras", type=int, default=40)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--features", type=int, default=300)
    parser.add_argument("--predictions", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=5)
    args = parser.parse_args()
    panel = make_era_panel(args.eras, args.rows, args.features, random_state=0)
    y, eras = panel.y("target_alpha_20").astype(float), panel.eras
    rng = np.random.default_rng(0)
    predictions = rng.normal(size=(len(y), args.predictions)) + y[:, None]
    pairs, largest = [], 0.0
    with threadpool_limits(1):
        for _ in range(args.pairs):
            ours, found = seconds(
                era_scores, y, predictions, eras, metric="fnc", features=panel.X
            )
            theirs, expected = seconds(by_numerai_tools, y, predictions, eras, panel.X)
            largest = max(largest, float(np.abs(found - expected).max()))
            pairs.append((ours, theirs))
    ours, theirs = np.median(pairs, axis=0)
    ratio = np.median([b / a for a, b in pairs])
    print(
        f"{args.eras} eras x {args.rows} rows, {args.features} features, "
        f"{args.predictions} predictions\n"
        f"era_scores {ours:.2f} s, numerai_tools {theirs:.2f} s: {ratio:.1f} times; "
        f"largest difference {largest:.1e}"
    )


if __name__ == "__main__":
    main()
