"""What latents and new rows are worth: differences to a few ten-thousandths of CORR.

    python benchmarks/worth.py [--hours 6] [--jobs 2] [--panels 10] [--seeds 2]
        [--arms core dae umap codes rows masked aware contrastive era argmax
         transformer regimes]
        [--structures linear curved none]
    python benchmarks/worth.py --report [--picture docs/worth.png]

Synthetic panels of 240 eras x 1,000 rows x 300 features with 16 factors. Eras 1 to 184
train; after a purge of 16 eras, the last 40 are tested; the target spans 60 days. A
score is the *expected* CORR: the mean over draws of the market, so that the market's
noise in the test eras is no part of it. What is left is the draw of the panel with its
training targets, and the seed of embedder and model.

Arms; latents are 16 wide and ranked into 255 bins, also the random ones and the true
ones (48 signals):

- core: "originals"; "+ factors" and "+ signals", the true ones, which no embedder can
  beat: the ceilings; "+ fa", "+ pca"; "+ random".
- dae: "+ dae". umap: "+ umap". codes: "+ codes", the code (32 wide) of a small
  `SupervisedAEMLP` that is cross-fitted and sees all targets.
- masked: "+ masked". aware: "+ aware", which is cross-fitted and has the targets as
  masked inputs. contrastive: "+ contrastive". era: "+ era", 12 latents of an
  `EraAutoencoder` (layers 256 and 128 wide). argmax: "+ argmax", the number of the
  largest of these, which the models take for a quantity.
- transformer: "+ transformer", of an `EraTransformer` that sees all targets and is
  cross-fitted. regimes: "+ regimes", the 8 numbers of an era by `EraRegimes`.
- "fa alone" and so on, without the originals.
- rows: "copies", "cutout", "noise", "averages", "targets", as in `augmenters.py`.

Models: LightGBM (rate .06, else the preset "small"), and a ridge on standardised
columns. Colsample and the number of trees, and the ridge's penalty, are chosen for each
arm and structure in one way: the best mean of panels 0 to 4. Panels from 5 on are the
report; no setting was chosen on them.

Each fit is a line in ``benchmarks/worth.csv``. The script skips what is there, does
core arms first and second seeds last, and stops after ``--hours``. Arms are compared on
the panels and seeds that both have. Each difference has two errors: of the seeds on the
panels at hand, and of the draw of panels (a 95 % half-width, by Student's t).
"""

import argparse
import csv
import fcntl
import itertools
import multiprocessing
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t as student
from sklearn.decomposition import PCA

from numerai_features import (
    ContrastiveEmbedder,
    CutoutAugmenter,
    DAEEmbedder,
    EraAutoencoder,
    EraMixupAugmenter,
    EraRegimes,
    EraTransformer,
    FactorAnalysisEmbedder,
    GaussianNoiseAugmenter,
    MaskedAutoencoder,
    RidgeMixtureTargets,
    SupervisedAEMLP,
    UMAPEmbedder,
    make_era_panel,
)
from numerai_features.metrics import expected_scores
from numerai_features.trees import make_lightgbm

FILE = Path(__file__).with_name("worth.csv")
COLUMNS = [
    "structure", "panel", "seed", "arm", "model", "setting", "corr", "seconds"
]  # fmt: skip
SIZE = {"n_eras": 240, "rows_per_era": 1000, "n_features": 300, "n_factors": 16}
TARGET, PURGE, N_TRAIN, WIDTH = "target_alpha_60", 16, 184, 16
STRUCTURES = ("linear", "curved", "none")
TUNED_ON, FIRST_REPORTED = range(5), 5
COLSAMPLES, TREES = (0.1, 0.3), (12, 25, 50, 100, 200)
RATE = 0.06
PENALTIES = (1e3, 1e4, 1e5, 1e6, 1e7)
GROUPS = {
    "core": ("originals", "factors", "signals", "fa", "pca", "random"),
    "dae": ("dae",),
    "umap": ("umap",),
    "codes": ("codes",),
    "rows": ("copies", "cutout", "noise", "averages", "targets"),
    "masked": ("masked",),
    "aware": ("aware",),
    "contrastive": ("contrastive",),
    "era": ("era",),
    "argmax": ("argmax",),
    "transformer": ("transformer",),
    "regimes": ("regimes",),
}
ROWS = {
    "copies": lambda seed: GaussianNoiseAugmenter(0, random_state=seed),
    "cutout": lambda seed: CutoutAugmenter(random_state=seed),
    "noise": lambda seed: GaussianNoiseAugmenter(random_state=seed),
    "averages": lambda seed: EraMixupAugmenter(random_state=seed),
    "targets": lambda seed: RidgeMixtureTargets(random_state=seed),
}
SUPERVISED = ("codes", "aware", "transformer")
BY_ERA = ("transformer", "regimes")  # latents depend on an era's other rows
ALONE = ("fa", "pca", "dae", "umap", "codes")


def network(seed):
    # A size that was chosen on other panels, see supervised_latents.py.
    return SupervisedAEMLP(
        32, hidden=(128, 64), dropout=(0.04, 0.4, 0.1, 0.4, 0.4), cross_fit=3,
        random_state=seed, n_jobs=1,
    )  # fmt: skip


class Panel:
    """A panel's rows to train and to test on, and what is behind them."""

    def __init__(self, structure, seed):
        panel, self.truth = make_era_panel(
            structure=structure, random_state=seed, return_truth=True, **SIZE
        )
        self.X, self.eras = panel.X, panel.eras
        self.targets = pd.DataFrame({n: panel.y(n) for n in panel.target_names})
        self.train = np.flatnonzero(self.eras <= N_TRAIN)
        self.test = np.flatnonzero(self.eras > N_TRAIN + PURGE)

    def score(self, predictions):
        """Return the expected CORR of each column of predictions of test rows."""
        scores = expected_scores(
            predictions, self.truth.take(self.test), self.eras[self.test],
            target=TARGET, metric="corr",
        )  # fmt: skip
        return np.asarray(scores).reshape(len(scores), -1).mean(axis=0)


@lru_cache(1)
def panel_of(structure, seed):
    return Panel(structure, seed)


def latents(panel, kind, seed):
    """Return latents of the rows to train on, and of those to test on."""
    train, test = panel.train, panel.test
    if kind in ("factors", "signals"):
        known = getattr(panel.truth, kind)
        return known[train], known[test]
    if kind == "random":
        noise = np.random.default_rng([seed, 7]).normal(size=(len(panel.X), WIDTH))
        return noise[train], noise[test]
    seeded = {"random_state": seed, "n_jobs": 1}
    embedder = {
        "fa": lambda: FactorAnalysisEmbedder(WIDTH),
        "pca": lambda: PCA(WIDTH, svd_solver="covariance_eigh"),
        "dae": lambda: DAEEmbedder(WIDTH, **seeded),
        "umap": lambda: UMAPEmbedder(WIDTH, **seeded),
        "codes": lambda: network(seed),
        "masked": lambda: MaskedAutoencoder(WIDTH, **seeded),
        "aware": lambda: MaskedAutoencoder(
            WIDTH, target_aware=True, cross_fit=3, **seeded
        ),
        "contrastive": lambda: ContrastiveEmbedder(WIDTH, **seeded),
        "era": lambda: EraAutoencoder(hidden=(256, 128), **seeded),
        "argmax": lambda: EraAutoencoder(hidden=(256, 128), output="argmax", **seeded),
        "transformer": lambda: EraTransformer(
            WIDTH, width=32, max_epochs=6, cross_fit=3, **seeded
        ),
        "regimes": lambda: EraRegimes(8, **seeded),
    }[kind]()
    options = {} if kind == "pca" else {"eras": panel.eras[train]}
    X = panel.X.astype(np.float32) if kind == "pca" else panel.X
    y = panel.targets.iloc[train] if kind in SUPERVISED else None
    learned = embedder.fit_transform(X[train], y, **options)
    shown = {"eras": panel.eras[test]} if kind in BY_ERA else {}
    return learned, embedder.transform(X[test], **shown)


def binned(learned, shown):
    """Rank each column into 255 bins, whose edges are those of the training rows."""
    edges = np.quantile(learned, np.linspace(0, 1, 256)[1:-1], axis=0)
    columns = [
        [np.searchsorted(edge, part[:, j]) for j, edge in enumerate(edges.T)]
        for part in (learned, shown)
    ]
    return [np.array(part, np.uint8).T for part in columns]


def tables(panel, kind, seed):
    """Yield the arms of a kind: name, rows to train on, targets, rows to test on."""
    X = panel.X.view(np.uint8)
    y = panel.targets[TARGET].to_numpy()
    train, test = panel.train, panel.test
    if kind == "originals":
        yield kind, X[train], y[train], X[test]
    elif kind in ROWS:
        rows = ROWS[kind](seed).fit_resample(
            panel.X[train], y[train], eras=panel.eras[train]
        )
        yield kind, rows.X, rows.y, panel.X[test]
    else:
        learned, shown = binned(*latents(panel, kind, seed))
        both = [np.hstack([X[r], z]) for r, z in ((train, learned), (test, shown))]
        yield f"+ {kind}", both[0], y[train], both[1]
        if kind in ALONE:
            yield f"{kind} alone", learned, y[train], shown


def arms_of(kind):
    if kind == "originals" or kind in ROWS:
        return [kind]
    return [f"+ {kind}"] + [f"{kind} alone"] * (kind in ALONE)


def lightgbm(train, y, test, seed, settings):
    """Yield setting, predictions and seconds; trees of one colsample are one fit."""
    for colsample, group in itertools.groupby(settings, lambda s: s[0]):
        start, stages = time.perf_counter(), [trees for _, trees in group]
        model = make_lightgbm(
            "small", device="cpu", n_jobs=1, learning_rate=RATE, random_state=seed,
            n_estimators=max(stages), colsample_bytree=colsample,
        )  # fmt: skip
        model.fit(train, y)
        for trees in stages:
            predicted = model.predict(test, num_iteration=trees)
            yield (colsample, trees), predicted, time.perf_counter() - start


def ridge(train, y, test, seed, settings):
    """Yield setting, predictions and seconds, of a ridge on standardised columns."""
    start = time.perf_counter()
    mean = train.mean(axis=0, dtype=np.float64)
    gram, side = np.zeros((train.shape[1],) * 2), np.zeros(train.shape[1])
    for rows in np.array_split(np.arange(len(train)), 20):
        block = train[rows] - mean
        gram += block.T @ block
        side += block.T @ (y[rows] - y.mean())
    sd = np.sqrt(np.diag(gram) / len(train))
    sd[sd == 0] = 1
    values, vectors = np.linalg.eigh(gram / np.outer(sd, sd))
    for (penalty,) in settings:
        slopes = vectors @ (vectors.T @ (side / sd) / (values + penalty)) / sd
        yield (penalty,), (test - mean) @ slopes, time.perf_counter() - start


MODELS = {
    "lightgbm": (lightgbm, list(itertools.product(COLSAMPLES, TREES))),
    "ridge": (ridge, [(p,) for p in PENALTIES]),
}


def read():
    if not FILE.exists():
        return pd.DataFrame(columns=COLUMNS)
    return pd.read_csv(FILE)


def write(lines):
    """Append lines; several processes do, and each line is whole."""
    with FILE.open("a", newline="") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        if stream.tell() == 0:
            csv.writer(stream).writerow(COLUMNS)
        csv.writer(stream).writerows(lines)


def chosen(lines, structure, arm, model):
    """Return the best setting on the panels for choices; None if one is not done."""
    mine = lines.query(
        "structure == @structure and arm == @arm and model == @model and panel < 5"
    )
    table = mine.pivot_table(index="setting", columns="panel", values="corr")
    if table.shape != (len(MODELS[model][1]), len(TUNED_ON)):
        return None
    best = table.mean(axis=1).idxmax()
    return tuple(float(part) if "." in part else int(part) for part in best.split())


def told(setting):
    return " ".join(str(part) for part in setting)


def work(structure, panel, seed, kind, until):
    """Fit all arms of a kind on one panel, as far as they are not done."""
    if time.time() > until:
        return
    lines = read()
    done = lines.query("structure == @structure and panel == @panel and seed == @seed")
    done = set(done[["arm", "model", "setting"]].astype(str).apply(tuple, axis=1))
    wanted = {}
    for arm, model in itertools.product(arms_of(kind), MODELS):
        settings = MODELS[model][1]
        if panel not in TUNED_ON:
            best = chosen(lines, structure, arm, model)
            settings = [] if best is None else [best]
        rest = [s for s in settings if (arm, model, told(s)) not in done]
        if rest:
            wanted[arm, model] = rest
    if not wanted:
        return
    rows = panel_of(structure, panel)
    for arm, train, y, test in tables(rows, kind, seed):
        for model in MODELS:
            if (arm, model) not in wanted:
                continue
            fits = MODELS[model][0](train, y, test, seed, wanted[arm, model])
            settings, predictions, seconds = zip(*fits, strict=True)
            scores = rows.score(np.column_stack(predictions))
            write(
                [structure, panel, seed, arm, model, told(s), f"{v:.6f}", f"{sec:.1f}"]
                for s, v, sec in zip(settings, scores, seconds, strict=True)
            )
    print(f"{structure} panel {panel} seed {seed} {kind}", flush=True)


def plan(args):
    """Yield what is to be done, most wanted first; second seeds come last."""
    reported = range(FIRST_REPORTED, FIRST_REPORTED + args.panels)
    first = [[(panel, 0) for panel in TUNED_ON], [(panel, 0) for panel in reported]]
    more = [[(panel, seed) for panel in reported] for seed in range(1, args.seeds)]
    stages = [(group, stage) for group in args.arms for stage in first]
    stages += [(group, stage) for stage in more for group in args.arms]
    for group, stage in stages:
        yield [
            (structure, panel, seed, kind)
            for structure in args.structures
            for panel, seed in stage
            for kind in GROUPS[group]
        ]


def differences(lines, structure, model):
    """Return each arm less originals on each panel and seed, one column an arm."""
    mine = lines.query("structure == @structure and model == @model and panel >= 5")
    keep = [a for a in mine["arm"].unique() if chosen(lines, structure, a, model)]
    table = mine[mine["arm"].isin(keep)].pivot_table(
        index=["panel", "seed"], columns="arm", values="corr"
    )
    if "originals" not in table:
        return None, None
    return table, table.drop(columns="originals").sub(table["originals"], axis=0)


def errors(difference):
    """Return mean, error of the seeds, half-width over panels, and counts."""
    difference = difference.dropna()
    by_panel = difference.groupby("panel")
    means, counts = by_panel.mean(), by_panel.size()
    of_seeds = np.nan
    if (counts > 1).any():
        within = by_panel.var(ddof=1)[counts > 1]
        pooled = np.average(within, weights=counts[counts > 1] - 1)
        of_seeds = np.sqrt((pooled / counts).sum()) / len(counts)
    half = np.nan
    if len(means) > 1:
        quantile = student.ppf(0.975, len(means) - 1)
        half = quantile * means.std(ddof=1) / np.sqrt(len(means))
    return means.mean(), of_seeds, half, len(means), int(counts.max())


def report():
    lines = read()
    for structure, model in itertools.product(STRUCTURES, MODELS):
        table, less = differences(lines, structure, model)
        if table is None:
            continue
        print(f"\n{structure}, {model}: expected CORR, and less originals")
        print(f"{'':16}{'CORR':>8}{'less':>9}{'seeds':>8}{'panels':>9}   n   setting")
        for arm in table:
            line = f"{arm:16}{table[arm].mean():8.4f}"
            if arm in less:
                mean, of_seeds, half, n, k = errors(less[arm])
                line += f"{mean:9.4f}{of_seeds:8.4f}{half:9.4f}  {n:2} x {k}  "
            setting = told(chosen(lines, structure, arm, model))
            print(f"{line:56}{setting}")
    hours = lines.groupby(lines.columns[:5].tolist())["seconds"].max().sum() / 3600
    print(f"\nfits of the models took {hours:.1f} hours of one core")


def draw(file):
    """Draw each panel's difference as a dot, and the mean with its half-width.

    Latents alone and the true signals, whose differences are much larger, are left out.
    """
    from matplotlib.figure import Figure

    lines = read()
    figure = Figure(figsize=(11, 7), dpi=110, layout="constrained")
    grid = figure.subplots(len(MODELS), len(STRUCTURES), sharex=True, squeeze=False)
    for (i, model), (j, structure) in itertools.product(
        enumerate(MODELS), enumerate(STRUCTURES)
    ):
        axes = grid[i][j]
        _, less = differences(lines, structure, model)
        arms = [] if less is None else less.mean().sort_values(ascending=False).index
        arms = [a for a in arms if not a.endswith("alone") and a != "+ signals"]
        axes.set_title(f"{structure}, {model}", loc="left", fontsize=10)
        axes.axvline(0, color="#777777", linewidth=0.8)
        for place, arm in enumerate(arms):
            values = less[arm].dropna().groupby("panel").mean()
            mean, _, half, *_ = errors(less[arm])
            axes.plot(values, [place] * len(values), "o", color="#56B4E9", alpha=0.6)
            axes.errorbar(mean, place, xerr=half, fmt="D", color="#000000", capsize=3)
        axes.set_yticks(range(len(arms)), arms)
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[-1]:
        axes.set_xlabel("expected CORR less that of the originals")
    figure.savefig(file)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=6)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--arms",
        nargs="+",
        choices=GROUPS,
        default=["core", "dae", "umap", "codes", "rows"],
    )
    parser.add_argument("--structures", nargs="+", default=STRUCTURES)
    parser.add_argument("--panels", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--picture")
    args = parser.parse_args()
    until = time.time() + 3600 * args.hours
    if not args.report:
        with multiprocessing.get_context("spawn").Pool(args.jobs) as pool:
            for stage in plan(args):  # it is over before the next one begins
                pool.starmap(work, [(*task, until) for task in stage], chunksize=1)
    report()
    if args.picture:
        draw(args.picture)


if __name__ == "__main__":
    main()
