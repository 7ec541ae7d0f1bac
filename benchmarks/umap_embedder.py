"""UMAPEmbedder beside umap-learn and cuML: time, memory, trustworthiness.

    python benchmarks/umap_embedder.py [--sizes 20000 100000] [--growth 20000 200000]
        [--repeats 2] [--structure linear] [--set NAME=VALUE ...]
    python benchmarks/umap_embedder.py --disk FOLDER

Synthetic panels (500 features, 24 factors, 40 eras, then 8 eras left out, then 10 eras
unseen) into 50 dimensions, 15 neighbours, min_dist 0. Every fit is a process of its
own, so that compilation counts; what is imported before is not. umap-learn has no seed,
and so all cores. Ours is told the eras, and holds out a tenth of them. umap-learn and
cuML lay out the rows themselves, as they come; each is left out where it is not
installed. Where there is a GPU ours is on it, and then in bfloat16 and on the CPU, too.

Printed for each size, the median of the repeats: seconds of the fit, of the first and
the second transform of 5,000 unseen rows, peak memory above the imports, size of the
pickle; trustworthiness (scikit-learn's, 15 neighbours) and the share of a row's 15
nearest that stay among its 15 nearest, of the same 3,000 fitted rows and of 3,000 rows
of unseen eras.

``--growth`` fits ours alone. ``--disk`` fits and transforms a panel of 1,000,000 x
2,376 int8 that is made there first.
"""

import argparse
import json
import pickle
import sys
import tempfile
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from _memory import measure

N_COMPONENTS, N_NEIGHBORS = 50, 15
N_FEATURES, N_FACTORS = 500, 24
FITTED_ERAS, GAP, UNSEEN_ERAS = 40, 8, 10
JUDGED = 3000


def make_data(folder, n_rows, structure):
    from numerai_features import make_era_panel

    per_era = n_rows // FITTED_ERAS
    panel = make_era_panel(
        FITTED_ERAS + GAP + UNSEEN_ERAS, per_era, N_FEATURES, N_FACTORS,
        structure=structure, random_state=0,
    )  # fmt: skip
    last = panel.n_rows - UNSEEN_ERAS * per_era
    file = Path(folder) / f"{n_rows}.npz"
    np.savez(
        file, fitted=panel.X[:n_rows], eras=panel.eras[:n_rows],
        unseen=panel.X[last:][:5000],
    )  # fmt: skip
    return str(file)


OURS = {
    "ours": {},
    "ours, bfloat16": {"precision": "bfloat16"},
    "ours, on the CPU": {"device": "cpu"},
}
PEERS = {"umap-learn": "umap", "cuML": "cuml.manifold"}


def arms():
    """Return the arms that this machine has."""
    import torch

    ours = list(OURS) if torch.cuda.is_available() else ["ours"]
    return ours + [
        peer for peer, module in PEERS.items() if find_spec(module.split(".")[0])
    ]


def run_arm(arm, file, settings):
    """Fit and transform in this process, whose memory is looked at."""
    data = np.load(file)
    fitted, unseen = data["fitted"], data["unseen"]
    common = {"n_neighbors": N_NEIGHBORS, "min_dist": 0.0}
    if arm in PEERS:
        peer = import_module(PEERS[arm])
        fitted, unseen = fitted.astype(np.float32), unseen.astype(np.float32)
        model, options = peer.UMAP(n_components=N_COMPONENTS, **common), {}
    else:
        import torch  # noqa: F401

        from numerai_features.embedders import UMAPEmbedder

        model = UMAPEmbedder(N_COMPONENTS, **common, **OURS[arm], **settings)
        options = {"eras": data["eras"]}
    print("ready", flush=True)
    start = time.perf_counter()
    model.fit(fitted, **options)
    seconds = [time.perf_counter() - start]
    rows = np.random.default_rng(0).choice(len(fitted), JUDGED, replace=False)
    known = np.asarray(model.embedding_)[rows] if arm in PEERS else None
    for _ in range(2):
        start = time.perf_counter()
        places = model.transform(unseen)
        seconds.append(time.perf_counter() - start)
    told = {
        "fit": seconds[0],
        "first": seconds[1],
        "warm": seconds[2],
        "pickle": len(pickle.dumps(model)) / 1e6,
        "stages": getattr(model, "stage_seconds_", {}),
        "recall": getattr(model, "feature_recall_", None),
        "epochs": getattr(model, "n_iter_", None),
    }
    if known is None:
        known = model.transform(fitted[rows])
    np.savez(file.replace(".npz", "-places.npz"), known=known, unseen=places[:JUDGED])
    print("done", json.dumps(told), flush=True)


def judge(file):
    from sklearn.manifold import trustworthiness
    from sklearn.neighbors import NearestNeighbors

    def nearest(Z):
        return NearestNeighbors(n_neighbors=N_NEIGHBORS).fit(Z).kneighbors()[1]

    data, places = np.load(file), np.load(file.replace(".npz", "-places.npz"))
    rows = np.random.default_rng(0).choice(len(data["fitted"]), JUDGED, replace=False)
    told = {}
    for name, X in (("known", data["fitted"][rows]), ("unseen", data["unseen"])):
        X, Z = X[:JUDGED].astype(np.float32), places[name]
        told[f"trust_{name}"] = trustworthiness(X, Z, n_neighbors=N_NEIGHBORS)
        kept = nearest(X)[:, :, None] == nearest(Z)[:, None]
        told[f"kept_{name}"] = kept.any(axis=2).mean()
    return told


def run(arm, file, settings):
    told = measure(__file__, "--arm", arm, "--file", file, "--set", *settings)
    return told | judge(file)


def line(name, runs):
    def median(key):
        return float(np.median([r[key] for r in runs]))

    print(
        f"{name:25}{median('fit'):8.1f}{median('first'):9.3f}{median('warm'):9.3f}"
        f"{median('extra_anonymous') / 1e9:8.2f}{median('extra_resident') / 1e9:8.2f}"
        f"{median('pickle'):9.2f}{median('trust_known'):8.3f}"
        f"{median('trust_unseen'):8.3f}{median('kept_known'):8.3f}"
        f"{median('kept_unseen'):8.3f}",
        flush=True,
    )
    return median("fit"), median("warm")


HEADER = (
    f"{'':25}{'fit s':>8}{'first s':>9}{'warm s':>9}{'GB anon':>8}{'GB res':>8}"
    f"{'pickle MB':>9}{'trust':>8}{'unseen':>8}{'kept':>8}{'unseen':>8}"
)


def run_disk(folder):
    """Fit and transform a panel that stays on disk, in this process."""
    import torch  # noqa: F401

    from numerai_features.datasets import EraPanel
    from numerai_features.embedders import UMAPEmbedder

    panel = EraPanel.open(folder)
    print("ready", flush=True)
    start = time.perf_counter()
    model = UMAPEmbedder(random_state=0).fit(panel.X, eras=panel.eras)
    fit = time.perf_counter() - start
    start = time.perf_counter()
    Z = model.transform(panel.X)
    told = {
        "fit": fit,
        "transform": time.perf_counter() - start,
        "rows": list(Z.shape),
        "stages": model.stage_seconds_,
        "recall": model.feature_recall_,
        "epochs": model.n_iter_,
    }
    print("done", json.dumps(told), flush=True)


def disk(folder):
    from numerai_features import make_era_panel

    path = Path(folder) / "panel"
    if not path.exists():
        start = time.perf_counter()
        make_era_panel(200, 5000, 2376, 60, random_state=0, path=path)
        print(f"made {path} in {time.perf_counter() - start:.0f} s", flush=True)
    told = measure(__file__, "--arm", "disk", "--file", str(path))
    for name in ("extra_anonymous", "extra_resident"):
        told[name] = f"{told[name] / 1e9:.2f} GB"
    print(json.dumps(told, indent=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=[20_000, 100_000])
    parser.add_argument(
        "--growth", type=int, nargs="*", default=[20_000, 50_000, 100_000, 200_000]
    )
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--structure", default="linear")
    parser.add_argument("--set", nargs="*", default=[], help="settings of ours")
    parser.add_argument("--disk", help="folder for a panel of 1,000,000 x 2,376")
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.arm == "disk":
        return run_disk(args.file)
    if args.arm:
        from recovery import settings_of

        return run_arm(args.arm, args.file, settings_of(args.set))
    if args.disk:
        return disk(args.disk)
    with tempfile.TemporaryDirectory() as folder:
        print(HEADER)
        for n_rows in args.sizes:
            file = make_data(folder, n_rows, args.structure)
            runs = {arm: [] for arm in arms()}
            for _ in range(args.repeats):
                for arm, own in runs.items():
                    own.append(run(arm, file, args.set))
            took = {a: line(f"{a} {n_rows:,}", own) for a, own in runs.items()}
            fit, warm = took.pop("ours")
            for arm, (theirs, slow) in took.items():
                told = f"fit {theirs / fit:.1f}x, transform {slow / warm:.0f}x"
                print(f"  {arm}: {told}", flush=True)
            print("  stages", runs["ours"][0]["stages"], flush=True)
        for n_rows in args.growth:
            file = make_data(folder, n_rows, args.structure)
            told = run("ours", file, args.set)
            line(f"ours {n_rows:,}", [told])
            print("  stages", told["stages"], "recall", told["recall"], flush=True)
    return None


if __name__ == "__main__":
    sys.exit(main())
