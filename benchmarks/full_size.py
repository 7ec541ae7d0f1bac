"""Peak memory and time of latents and trees on rows that lie on disk.

    python benchmarks/full_size.py [--rows 500000] [--features 2376] [--epochs 0]
        [--arms lightgbm "lightgbm panel" xgboost "xgboost panel" "xgboost files"]
    python benchmarks/full_size.py --scaling docs/scaling.png

A pipeline of 30 factors beside the features, in one byte a cell (`LatentFeatures`), and
10 trees of 31 leaves, is fitted to a memory-mapped panel in a fresh process; with
``--epochs``, 30 latents of a `DAEEmbedder` that is trained for so long, too.

- lightgbm, xgboost: the libraries' own regressors on the table in memory;
- lightgbm panel, xgboost panel: `PanelLGBMRegressor` and `PanelXGBRegressor` on the
  panel's rows (`EraPanel.as_X`); xgboost files: with ``external_memory=True``;
- xgboost parts: as files, but `LatentFeatures.transform_to` writes the latents, and the
  trees are fitted to `EraPanel.with_latents`, with the seconds of each;
- the word fold: on four fifths of the eras, as in a search, which lie apart;
- the word search: `GridSearchCV` over two depths, with three folds of eras;
- experiment: an experiment that makes such a panel, and compares originals, factors
  (and the DAE), principal components and random columns on two folds, by LightGBM.

Memory is what the fit takes above the state with everything imported: anonymous, and
resident, which holds pages of files. "table" is the bytes of the features.
``--scaling`` repeats the arms with "panel" for 250 k, 500 k and 1 M rows and 500, 1,000
and 2,376 features, and draws them.
"""

import argparse
import itertools
import json
import sys
import tempfile
import time

import numpy as np
from _memory import measure

ARMS = (
    "lightgbm", "lightgbm panel", "lightgbm panel fold", "lightgbm panel search",
    "xgboost", "xgboost panel", "xgboost panel fold", "xgboost files",
    "xgboost parts", "xgboost panel search", "experiment",
)  # fmt: skip
USUAL = [
    arm for arm in ARMS if not {"search", "parts", "experiment"} & set(arm.split())
]
SCALED = ("lightgbm panel", "xgboost panel")
SIZES = list(itertools.product((250_000, 500_000, 1_000_000), (500, 1_000, 2_376)))
ROWS_PER_ERA = 5_000
N_FACTORS = 30
N_TREES = 10


def fit(arm, path, epochs):
    """Fit one arm in this process, whose memory is looked at."""
    if arm == "experiment":
        return run_experiment(path, epochs)
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline

    from numerai_features import (
        DAEEmbedder,
        EraKFold,
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
    model = make(device="cpu", n_estimators=N_TREES, random_state=0)
    if len(words) > 1:
        external = {"external_memory": True} if words[1] in ("files", "parts") else {}
        kind = PanelLGBMRegressor if words[0] == "lightgbm" else PanelXGBRegressor
        model = kind(model, **external)
    embedders = [("fa", FactorAnalysisEmbedder(N_FACTORS))]
    if epochs:
        dae = DAEEmbedder(N_FACTORS, max_epochs=epochs, random_state=0)
        embedders.append(("dae", dae))
    pipeline = make_pipeline(LatentFeatures(embedders, quantize="uint8"), model)
    small = make_era_panel(n_eras=10, rows_per_era=100, n_features=50, random_state=0)
    pipeline.fit(small.X, small.y())  # imports and thread pools
    panel = EraPanel.open(path)
    y, eras = panel.y(), {}
    X = panel.as_X()
    if len(words) == 1:
        X, eras = np.array(panel.X), {"latentfeatures__eras": panel.eras}
    if words[-1] == "fold":
        middle = (panel.eras % 10) // 2 != 2
        X, y = X[middle], y[middle]
    if words[-1] == "search":
        depths = {f"{pipeline.steps[1][0]}__regressor__max_depth": [3, 5]}
        pipeline = GridSearchCV(pipeline, depths, cv=EraKFold(3, purge=4))
    print("ready", flush=True)
    if words[-1] == "parts":
        told = fit_parts(*pipeline, panel)
        print("done" + json.dumps(told), flush=True)
        return
    pipeline.fit(X, y, **eras)
    told = float(pipeline.predict(X[:5000]).std())
    print("done" + json.dumps({"told": told}), flush=True)


def fit_parts(features, model, panel):
    """Fit latents, write them beside the panel, and fit a model to both parts."""
    marks = [time.perf_counter()]
    features.fit(panel)
    marks.append(time.perf_counter())
    latents = features.transform_to(panel, panel.path.parent / "latents")
    marks.append(time.perf_counter())
    joined = panel.with_latents(latents)
    model.fit(joined, joined.y())
    marks.append(time.perf_counter())
    told = float(model.predict(joined.as_X()[:5000]).std())
    stages = dict(zip(("fit", "transform_to", "trees"), np.diff(marks), strict=True))
    return {"told": told, "stages": stages}


def run_experiment(path, epochs):
    """Run an experiment on a panel of the same size, which it makes itself."""
    from numerai_features import EraPanel
    from numerai_features.experiment import Experiment

    panel = EraPanel.open(path)
    latents = {"fa": {"embedder": "FactorAnalysisEmbedder", "n_components": N_FACTORS}}
    if epochs:
        dae = {"embedder": "DAEEmbedder", "n_components": N_FACTORS}
        latents["dae"] = dae | {"max_epochs": epochs}
    synthetic = {
        "n_eras": len(panel.era_numbers),
        "rows_per_era": ROWS_PER_ERA,
        "n_features": panel.n_features,
        "n_factors": N_FACTORS,
    }
    tables = {
        "data": {"synthetic": synthetic},
        "cv": {"n_splits": 2},
        "latents": latents,
        "model": {"device": "cpu", "params": {"n_estimators": N_TREES}},
    }
    with tempfile.TemporaryDirectory(dir=panel.path.parent) as folder:
        experiment = Experiment.from_dict(tables, base=folder, output=f"{folder}/out")
        print("ready", flush=True)
        result = experiment.run(verbose=False)
    print("done" + json.dumps({"told": len(result.predictions)}), flush=True)


def make_panel(path, n_rows, n_features):
    """Write a synthetic panel."""
    from numerai_features.datasets import make_era_panel

    make_era_panel(
        n_rows // ROWS_PER_ERA,
        ROWS_PER_ERA,
        n_features,
        N_FACTORS,
        path=path,
        random_state=0,
    )


def table(path, n_rows, n_features, arms, epochs):
    """Print and return what each arm takes."""
    size = n_rows * n_features / 1e9
    print(f"{n_rows:,} x {n_features:,} int8, {size:.2f} GB")
    print(f"{'':22}{'anonymous':>11}{'resident':>11}{'/ table':>9}{'seconds':>9}")
    found = {}
    for arm in arms:
        own = ("--arm", arm, "--path", path, "--epochs", str(epochs))
        r = found[arm] = measure(sys.argv[0], *own)
        anonymous, resident = (
            r[f"extra_{kind}"] / 1e9 for kind in ("anonymous", "resident")
        )
        print(
            f"{arm:22}{anonymous:8.2f} GB{resident:8.2f} GB{anonymous / size:9.2f}"
            f"{r['seconds']:9.1f}   {r['told']:.6f}",
            *(f"{name} {s:.0f} s" for name, s in r.get("stages", {}).items()),
            flush=True,
        )
    return found


def scaling(picture, epochs):
    """Measure seconds and memory by the size of the panel, and draw them."""
    found = {}
    for n_rows, n_features in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            make_panel(f"{folder}/panel", n_rows, n_features)
            own = table(f"{folder}/panel", n_rows, n_features, SCALED, epochs)
        for arm in SCALED:
            found[arm, n_rows, n_features] = own[arm]
    draw(picture, found)


def draw(picture, found):
    """Draw what was found for each arm and size."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

    figure, axes = plt.subplots(2, 2, figsize=(9, 7), sharex=True, sharey="row")
    for j, arm in enumerate(SCALED):
        for n_features in sorted({f for _, f in SIZES}):
            rows = [n for n, f in SIZES if f == n_features]
            values = [found[arm, n, n_features] for n in rows]
            label = f"{n_features:,} features"
            seconds = [v["seconds"] for v in values]
            memory = [v["extra_anonymous"] / 1e9 for v in values]
            axes[0, j].plot(rows, seconds, "o-", label=label)
            axes[1, j].plot(rows, memory, "o-", label=label)
        axes[0, j].set_title(arm)
        axes[1, j].set_xlabel("rows")
    for axis, name in zip(axes[:, 0], ("seconds", "anonymous memory, GB"), strict=True):
        axis.set_ylabel(name)
    rows = sorted({n for n, _ in SIZES})
    for axis in axes.flat:
        axis.set(xscale="log", yscale="log")
        axis.set_xticks(rows, [f"{n:,}" for n in rows])
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(ScalarFormatter())
        for own in (axis.xaxis, axis.yaxis):
            own.set_minor_locator(NullLocator())
        axis.grid(alpha=0.3)
    axes[0, 0].legend()
    figure.tight_layout()
    figure.savefig(picture, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--features", type=int, default=2_376)
    parser.add_argument("--epochs", type=int, default=0, help="of the DAE; 0: none")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=USUAL)
    parser.add_argument("--scaling", help="file of the picture")
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.arm:
        return fit(args.arm, args.path, args.epochs)
    if args.scaling:
        return scaling(args.scaling, args.epochs)
    with tempfile.TemporaryDirectory() as folder:
        make_panel(f"{folder}/panel", args.rows, args.features)
        table(f"{folder}/panel", args.rows, args.features, args.arms, args.epochs)


if __name__ == "__main__":
    main()
