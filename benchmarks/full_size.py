"""Peak memory and time of latents and trees on rows that lie on disk.

    python benchmarks/full_size.py [--rows 500000] [--features 2376]
        [--arms lightgbm "lightgbm panel" xgboost "xgboost panel" "xgboost files"]

A pipeline of 30 factors beside the features, in one byte a cell (`LatentFeatures`), and
10 trees of 31 leaves, is fitted to a memory-mapped panel in a fresh process:

- lightgbm, xgboost: the libraries' own regressors on the table in memory;
- lightgbm panel, xgboost panel: `PanelLGBMRegressor` and `PanelXGBRegressor` on the
  panel's rows (`EraPanel.as_X`); xgboost files: with ``external_memory=True``;
- the word fold: on four fifths of the eras, as in a search, which lie apart.

Memory is what the fit takes above the state with everything imported: anonymous, and
resident, which holds pages of files. "table" is the bytes of the features.
"""

import argparse
import json
import sys
import tempfile

import numpy as np
from _memory import measure

ARMS = (
    "lightgbm", "lightgbm panel", "lightgbm panel fold",
    "xgboost", "xgboost panel", "xgboost panel fold", "xgboost files",
)  # fmt: skip


def fit(arm, path):
    """Fit one arm in this process, whose memory is looked at."""
    from sklearn.pipeline import make_pipeline

    from numerai_features import (
        EraPanel,
        FactorAnalysisEmbedder,
        LatentFeatures,
        PanelLGBMRegressor,
        PanelXGBRegressor,
        make_era_panel,
        make_lightgbm,
        make_xgboost,
    )

    words = arm.split()
    make = make_lightgbm if words[0] == "lightgbm" else make_xgboost
    model = make(device="cpu", n_estimators=10, random_state=0)
    if len(words) > 1:
        external = {"external_memory": True} if words[1] == "files" else {}
        kind = PanelLGBMRegressor if words[0] == "lightgbm" else PanelXGBRegressor
        model = kind(model, **external)
    embedder = FactorAnalysisEmbedder(30)
    pipeline = make_pipeline(LatentFeatures(embedder, quantize="uint8"), model)
    small = make_era_panel(n_eras=10, rows_per_era=100, n_features=50, random_state=0)
    pipeline.fit(small.X, small.y())  # imports and thread pools
    panel = EraPanel.open(path)
    X = panel.as_X() if len(words) > 1 else np.array(panel.X)
    y = panel.y()
    if words[-1] == "fold":
        middle = (panel.eras % 10) // 2 != 2
        X, y = X[middle], y[middle]
    print("ready", flush=True)
    pipeline.fit(X, y)
    told = float(pipeline.predict(X[:5000]).std())
    print("done" + json.dumps({"told": told}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--features", type=int, default=2_376)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.arm:
        return fit(args.arm, args.path)
    from numerai_features.datasets import make_era_panel

    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/panel"
        make_era_panel(
            args.rows // 5000, 5000, args.features, 30, path=path, random_state=0
        )
        table = args.rows * args.features / 1e9
        print(f"{args.rows:,} x {args.features:,} int8, {table:.2f} GB")
        print(f"{'':20}{'anonymous':>11}{'resident':>11}{'/ table':>9}{'seconds':>9}")
        for arm in args.arms:
            r = measure(sys.argv[0], "--arm", arm, "--path", path)
            anonymous, resident = (
                r[f"extra_{kind}"] / 1e9 for kind in ("anonymous", "resident")
            )
            print(
                f"{arm:20}{anonymous:8.2f} GB{resident:8.2f} GB{anonymous / table:9.2f}"
                f"{r['seconds']:9.1f}   {r['told']:.6f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
