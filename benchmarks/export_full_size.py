"""An exported model of full size, on one CPU, as Numerai's server runs it.

    python benchmarks/export_full_size.py [--eras 40] [--rows 1000] [--features 2376]
        [--trees 2000] [--live 6800] [--dae-epochs 5] [--umap-epochs 10]
        [--umap-landmarks 10000] [--folder FOLDER]

The pipeline is fitted to a synthetic panel: 30 factors, 64 latents of a DAE and 60 of
UMAP beside the originals, ahead of LightGBM with Numerai's small parameters (learning
rate .01, depth 5, 31 leaves, a tenth of the columns a tree). Rows, epochs and landmarks
are fewer than one would train with; the sizes of what is exported are not. A second
run with the same FOLDER does not fit again.

Each file, with LightGBM's trees as text and by numpy, then runs in a fresh process on
one core, with one thread for the matrix products (OMP_NUM_THREADS, OPENBLAS_NUM_THREADS
and MKL_NUM_THREADS are 1), where this package, torch and scikit-learn cannot be
imported: `pandas.read_parquet` of the live rows, `pandas.read_pickle` of the file, and
its answer. Printed are the seconds of each; the peak of anonymous memory (RssAnon,
sampled) and of resident memory (VmHWM) of the process, with Python and its libraries;
the largest difference to the pipeline's own predictions before they are ranked, how
many rows have another rank, and the size of the file.
"""

import argparse
import itertools
import json
import os
import pickle
import sys
import tempfile
import time
from pathlib import Path

from _memory import measure

# What only fits or judges is imported where it is needed: the server has none of it.
NOT_THERE = ("numerai_features", "torch", "sklearn", "umap", "pynndescent")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def report(stage, start):
    print(f"{stage}: {time.perf_counter() - start:.0f} s", flush=True)


def make_pipeline(args):
    from sklearn.pipeline import make_pipeline

    from numerai_features import (
        DAEEmbedder,
        FactorAnalysisEmbedder,
        LatentFeatures,
        UMAPEmbedder,
        make_lightgbm,
    )

    umap = UMAPEmbedder(
        60, n_landmarks=args.umap_landmarks, max_epochs=args.umap_epochs, random_state=0
    )
    embedders = [
        ("fa", FactorAnalysisEmbedder(30)),
        ("dae", DAEEmbedder(64, max_epochs=args.dae_epochs, random_state=0)),
        ("umap", umap),
    ]
    # On a busy machine, threads of OpenMP wait in loops for one another.
    trees = make_lightgbm(
        n_estimators=args.trees, device="cpu", n_jobs=1, random_state=0
    )
    return make_pipeline(LatentFeatures(embedders), trees, verbose=True)


def make_files(args, folder):
    """Fit, and write the live rows, what is expected of them, and two exports."""
    import numpy as np

    from numerai_features import export_predict, make_era_panel

    later = -(-args.live // args.rows)  # eras enough for the live rows
    start = time.perf_counter()
    panel = make_era_panel(
        args.eras + later, args.rows, args.features, n_factors=24, random_state=0
    )
    frame, y = panel.to_frame(targets=[]), panel.y("target_alpha_20")
    n_fitted = args.eras * args.rows
    report(f"panel of {len(frame)} rows", start)
    start = time.perf_counter()
    pipeline = make_pipeline(args).fit(frame[:n_fitted], y[:n_fitted])
    report("fit", start)
    (folder / "pipeline.pkl").write_bytes(pickle.dumps(pipeline))
    live = frame[n_fitted:][: args.live].assign(era="X", data_type="live")
    live.to_parquet(folder / "live.parquet")
    np.save(folder / "expected.npy", pipeline.predict(live.drop(columns="data_type")))
    for trees in ("library", "numpy"):
        start = time.perf_counter()
        export_predict(pipeline, folder / f"{trees}.pkl", trees=trees)
        report(f"export, trees={trees!r}", start)


def serve(folder, trees):
    """Do the server's part in this fresh process."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.environ.update(dict.fromkeys(THREADS, "1"))
    sys.modules.update(dict.fromkeys(NOT_THERE))  # importing them is an error
    bare = memory("RssAnon")
    print("ready", flush=True)
    times = [time.perf_counter()]
    import pandas as pd

    times.append(time.perf_counter())
    live = pd.read_parquet(folder / "live.parquet")
    times.append(time.perf_counter())
    predict = pd.read_pickle(folder / f"{trees}.pkl")
    times.append(time.perf_counter())
    answer = predict(live)
    times.append(time.perf_counter())
    if type(answer) is not pd.DataFrame or not answer.index.equals(live.index):
        raise ValueError("the answer is no frame with the live ids")
    if not answer.iloc[:, 0].between(0, 1).all():
        raise ValueError("predictions are missing, or not between 0 and 1")
    seconds = [after - before for before, after in itertools.pairwise(times)]
    found = {"bare": bare, "resident": memory("VmHWM"), "seconds_of": seconds}
    print("done" + json.dumps(found), flush=True)
    inside = predict.__globals__
    raw = inside["raw_predictions"](inside["MODEL"], live)
    import numpy as np

    np.savez(folder / f"{trees}.npz", raw=raw, answer=answer.iloc[:, 0].to_numpy())


def memory(name):
    """Return a size in bytes that Linux tells of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


def judge(folder, trees):
    """Run one file, and print what it took and how exact it is."""
    import numpy as np

    from numerai_features.compose import rank_by_era

    found = measure(__file__, "--serve", trees, "--folder", str(folder))
    anonymous = found["bare"] + found["extra_anonymous"]
    imports, read, load, predict = found["seconds_of"]
    expected = np.load(folder / "expected.npy")
    with np.load(folder / f"{trees}.npz") as results:
        raw, answer = results["raw"], results["answer"]
    difference = np.abs(raw - expected).max()
    ranks = rank_by_era(expected, np.zeros(len(expected), int))
    others = int((answer != ranks).sum())
    size = (folder / f"{trees}.pkl").stat().st_size
    print(
        f"trees={trees!r}: file {size / 1e6:.1f} MB; imports {imports:.1f} s, live "
        f"rows {read:.1f} s, file {load:.2f} s, predict {predict:.1f} s; anonymous "
        f"{anonymous / 1e6:.0f} MB, resident {found['resident'] / 1e6:.0f} MB; largest "
        f"difference {difference:.1g} (standard deviation {expected.std():.2g}), "
        f"{others} of {len(ranks)} ranks differ",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--eras", type=int, default=40)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--features", type=int, default=2376)
    parser.add_argument("--trees", type=int, default=2000)
    parser.add_argument("--live", type=int, default=6800)
    parser.add_argument("--dae-epochs", type=int, default=5)
    parser.add_argument("--umap-epochs", type=int, default=10)
    parser.add_argument("--umap-landmarks", type=int, default=10_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--serve", choices=["library", "numpy"])
    args = parser.parse_args()
    if args.serve:
        return serve(args.folder, args.serve)
    with tempfile.TemporaryDirectory() as new:
        folder = args.folder or Path(new)
        folder.mkdir(exist_ok=True)
        if not (folder / "numpy.pkl").exists():
            make_files(args, folder)
        for trees in ("library", "numpy"):
            judge(folder, trees)


if __name__ == "__main__":
    main()
