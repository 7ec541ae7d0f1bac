"""Peak memory of originals beside 30 factors, against scikit-learn's FeatureUnion.

    python benchmarks/memory.py [--rows 300000] [--features 1000]

Each arm runs in a fresh process on the same memory-mapped int8 table; memory is what
it takes above the state with everything imported and the table mapped.
"""

import argparse
import json
import sys
import tempfile

import numpy as np
from _memory import measure

from numerai_features.datasets import make_era_panel

ARMS = ("numerai_features", "sklearn FeatureUnion")


def run(arm, path):
    """Fit one arm in this process."""
    X = np.load(f"{path}/features.npy", mmap_mode="c")
    if arm == ARMS[0]:
        from numerai_features.compose import LatentFeatures
        from numerai_features.embedders import FactorAnalysisEmbedder

        model = LatentFeatures(FactorAnalysisEmbedder(30), quantize="uint8")
        model.fit_transform(X[:2000])  # imports and thread pools
    else:
        from sklearn.decomposition import FactorAnalysis
        from sklearn.pipeline import FeatureUnion

        # Two iterations: memory does not depend on their number.
        factors = FactorAnalysis(30, svd_method="randomized", max_iter=2, tol=1e9)
        model = FeatureUnion([("originals", "passthrough"), ("factors", factors)])
        model.fit_transform(X[:2000])
    print("ready", flush=True)
    table = model.fit_transform(X)
    print("done" + json.dumps({"output": table.nbytes}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--features", type=int, default=1_000)
    parser.add_argument("--arm")
    parser.add_argument("--path")
    args = parser.parse_args()
    if args.arm:
        return run(args.arm, args.path)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/panel"
        make_era_panel(
            args.rows // 5000, 5000, args.features, 30, path=path, random_state=0
        )
        print(f"{args.rows:,} x {args.features:,} int8, 30 factors")
        print(f"{'':22}{'output':>10}{'anonymous':>11}{'resident':>10}   anon/output")
        for arm in ARMS:
            r = measure(sys.argv[0], "--arm", arm, "--path", path)
            sizes = [
                r[k] / 1e9 for k in ("output", "extra_anonymous", "extra_resident")
            ]
            cells = "".join(f"{s:8.2f}GB" for s in sizes)
            ratio = r["extra_anonymous"] / r["output"]
            print(f"{arm:22}{cells}   {ratio:.2f}   ({r['seconds']:.1f} s)")


if __name__ == "__main__":
    main()
