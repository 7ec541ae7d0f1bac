"""What a perceptron on per-era correlation is worth: expected CORR, BMC and payout.

    python benchmarks/worth_networks.py [--hours 2] [--jobs 2] [--panels 10]
        [--models lightgbm ridge corr ...]
    python benchmarks/worth_networks.py --report

Panels, target, planted benchmark, and LightGBM with its setting are those of
`residual_target.py`: 240 eras x 500 rows x 100 features, LightGBM on half of the true
factors as the benchmark, 184 eras to train on, 40 to test. Scores are *expected* over
draws of the market; "pay" is 3 CORR + 15 BMC, as the tournament's; "like it" is the
correlation with the benchmark within eras.

Models:

- "lightgbm", and "ridge" on standardised columns;
- "corr", "numerai_corr", "mse", "mae", "bce": `EraMLP` with that loss, hidden layers of
  128, 64 and 32 units (the ratios of its default widths at 780 features);
- "corr, all targets": all of the panel's targets at once;
- "corr, residual": with the benchmark, so on residuals; "corr, penalty .1", ".3", "1":
  penalised for the squared correlation with the benchmark;
- "supervised": a small `SupervisedAEMLP` on all targets; "supervised, forum": with
  sigmoid outputs, hardswish and relative noise; "supervised, warm": from an autoencoder
  of all rows, also those of the test;
- "blends": means of ranks made normal of lightgbm, ridge and corr.

Chosen for each loss and structure on panels 0 to 4, by expected CORR: the number of
epochs and the dropout (the curve over 1 to 30 epochs is in the report); for ridge, its
penalty. What is "corr, ..." has the setting of "corr". Panels from 5 on are the report.
"mean" is the mean of three seeds' predictions, ranked within eras; models that need it
less have one seed.

Each fit is a line in ``benchmarks/worth_networks.csv``; the script skips what is there
and stops after ``--hours``.
"""

import argparse
import csv
import fcntl
import itertools
import multiprocessing
import time
from pathlib import Path

import numpy as np
import pandas as pd
from residual_target import Panel, chosen, mean_and_half, pay, tree
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from numerai_features import DAEEmbedder, EraMLP, SupervisedAEMLP
from numerai_features.compose import rank_by_era

FILE = Path(__file__).with_name("worth_networks.csv")
SCORES = ["corr", "bmc", "likeness"]
COLUMNS = ["structure", "panel", "model", "setting", "seed", *SCORES, "seconds"]
STRUCTURES = ("linear", "curved")
TUNED_ON, FIRST_REPORTED, SEEDS = range(5), 5, range(3)
LOSSES = ("corr", "numerai_corr", "mse", "mae", "bce")
DROPOUTS = (0.0, 0.3)
EPOCHS = dict.fromkeys(LOSSES, (1, 3, 6, 12)) | {"corr": (1, 2, 3, 6, 12, 20, 30)}
SETTINGS = {loss: [*itertools.product(EPOCHS[loss], DROPOUTS)] for loss in LOSSES}
SETTINGS["ridge"] = [(penalty,) for penalty in (1e2, 1e3, 1e4, 1e5, 1e6)]
MODELS = (
    "lightgbm", "ridge", *LOSSES, "corr, residual", "corr, penalty .1",
    "corr, penalty .3", "corr, penalty 1", "corr, all targets", "blends", "supervised",
    "supervised, forum", "supervised, warm",
)  # fmt: skip
BLENDS = (("lightgbm", "ridge"), ("lightgbm", "corr"), ("lightgbm", "ridge", "corr"))
THREE_SEEDS = ("lightgbm", "corr", "mse", "corr, residual", "corr, penalty .3")
OF_ALL_TARGETS = ("corr, all targets", "supervised", "supervised, forum")


def perceptron(loss, setting, seed, **options):
    epochs, dropout = setting
    return EraMLP(
        (128, 64, 32), loss=loss, max_epochs=int(epochs), dropout=dropout,
        random_state=seed, n_jobs=1, **options,
    )  # fmt: skip


def supervised(seed, **options):
    # A size that was chosen on other panels, see supervised_latents.py.
    return SupervisedAEMLP(
        32, hidden=(128, 64), dropout=(0.04, 0.4, 0.1, 0.4, 0.4), random_state=seed,
        n_jobs=1, **options,
    )  # fmt: skip


def make(panel, structure, model, setting, seed):
    """Return a model that is not fitted, and what its fit takes beside the rows."""
    eras = {"eras": panel.eras[panel.train]}
    beside = {**eras, "benchmark": panel.benchmark[panel.train]}
    kind, _, detail = model.partition(", ")
    if model == "lightgbm":
        colsample, trees = chosen(structure)
        return tree(seed, int(trees), colsample), {}
    if model == "ridge":
        return make_pipeline(StandardScaler(), Ridge(*setting)), {}
    if detail == "residual":
        return perceptron(kind, setting, seed), beside
    if detail.startswith("penalty"):
        penalty = float(detail.removeprefix("penalty "))
        return perceptron(kind, setting, seed, benchmark_penalty=penalty), beside
    if kind in LOSSES:
        return perceptron(kind, setting, seed), eras
    options = {}
    if detail == "forum":
        options = {"output": "sigmoid", "activation": "hardswish", "noise": "relative"}
    if detail == "warm":
        options["autoencoder"] = DAEEmbedder(
            32, hidden=(), code_activation="silu", noise="gaussian", noise_level=0.0353,
            random_state=seed, n_jobs=1,
        )  # fmt: skip
    return supervised(seed, **options), eras


def predict(panel, structure, model, setting, seed):
    """Return a model's predictions of the test rows."""
    estimator, options = make(panel, structure, model, setting, seed)
    X, y = panel.X[panel.train], panel.y[panel.train]
    if model in OF_ALL_TARGETS or model == "supervised, warm":
        y = panel.targets.iloc[panel.train]
    if model == "supervised, warm":  # rows of the test have no targets
        both = np.concatenate([panel.train, panel.test])
        options = {"eras": panel.eras[both]}
        X, y = panel.X[both], y.reindex(range(len(panel.X))).iloc[both]
    shown = panel.X[panel.test]
    return estimator.fit(X, y, **options).predict(shown)


def mean_of(panel, predictions):
    eras = panel.eras[panel.test]
    return np.mean([rank_by_era(p, eras, output="gauss") for p in predictions], axis=0)


def best(lines, structure, model):
    """Return the setting that suits panels 0 to 4; None where one is not done."""
    kind = model.partition(", ")[0]
    if kind not in SETTINGS:
        return ()
    mine = lines.query("structure == @structure and model == @kind and panel < 5")
    table = mine.pivot_table(index="setting", columns="panel", values="corr")
    if table.shape != (len(SETTINGS[kind]), len(TUNED_ON)):
        return None
    return tuple(map(float, table.mean(axis=1).idxmax().split()))


def read():
    if not FILE.exists():
        return pd.DataFrame(columns=COLUMNS)
    return pd.read_csv(FILE, dtype={"setting": str, "seed": str}, keep_default_na=False)


def write(lines):
    """Append lines; several processes do, and each line is whole."""
    with FILE.open("a", newline="") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        if stream.tell() == 0:
            csv.writer(stream).writerow(COLUMNS)
        csv.writer(stream).writerows(lines)


def fits(panel, structure, model, settings, seeds):
    """Yield name, setting, seed and predictions of the test rows."""
    if model == "blends":
        parts = {
            one: predict(panel, structure, one, best(read(), structure, one), 0)
            for one in ("lightgbm", "ridge", "corr")
        }
        for names in BLENDS:
            yield " + ".join(names), (), 0, mean_of(panel, [parts[n] for n in names])
        return
    for setting in settings:
        shown = []
        for seed in seeds:
            shown.append(predict(panel, structure, model, setting, seed))
            yield model, setting, seed, shown[-1]
        if len(shown) > 1:
            yield model, setting, "mean", mean_of(panel, shown)


def work(structure, number, model, until):
    """Fit a model to one panel, in all settings or in the chosen one, if not done."""
    lines = read()
    needed = ("ridge", "corr") if model == "blends" else (model,)
    tunes = number in TUNED_ON
    if time.time() > until:
        return
    if not tunes and None in [best(lines, structure, one) for one in needed]:
        return
    name = " + ".join(BLENDS[-1]) if model == "blends" else model
    done = lines.query(
        "structure == @structure and panel == @number and model == @name"
    )
    known = {tuple(map(float, told.split())) for told in done["setting"]}
    settings = SETTINGS[model] if tunes else [best(lines, structure, model)]
    settings = [setting for setting in settings if setting not in known]
    if not settings:
        return
    panel, out, start = Panel(structure, number, "factors"), [], time.perf_counter()
    seeds = SEEDS if model in THREE_SEEDS and not tunes else [0]
    for name, setting, seed, shown in fits(panel, structure, model, settings, seeds):
        scores = [f"{value:.6f}" for value in panel.scores(shown)]
        seconds = f"{time.perf_counter() - start:.1f}"
        told = " ".join(f"{part:g}" for part in setting)
        out.append([structure, number, name, told, seed, *scores, seconds])
    write(out)
    print(f"{structure} panel {number} {model}", flush=True)


def plan(args):
    """Yield stages; one is over before the next begins."""
    losses = [model for model in args.models if model in SETTINGS]
    yield list(itertools.product(STRUCTURES, TUNED_ON, losses))
    reported = range(FIRST_REPORTED, FIRST_REPORTED + args.panels)
    for half in np.array_split(reported, 2):
        every = itertools.product(half.tolist(), STRUCTURES, args.models)
        yield [(structure, panel, model) for panel, structure, model in every]


def report():
    lines = read()
    lines["pay"] = pay(lines)
    for structure in STRUCTURES:
        mine = lines.query("structure == @structure")
        print(f"\n{structure}: expected CORR of EraMLP by epochs, panels 0 to 4")
        tuned = mine.query("panel < 5 and model in @LOSSES")
        if tuned.empty:
            continue
        epochs, dropout = tuned["setting"].str.split(expand=True).T.to_numpy()
        tuned = tuned.assign(epochs=epochs.astype(int), dropout=dropout)
        curve = tuned.pivot_table(
            index=["model", "dropout"], columns="epochs", values="corr"
        )
        print(curve.round(4).to_string(na_rep=""))
        shown = mine.query("panel >= 5")
        if shown.empty:
            continue
        print(f"\n{structure}: panels from 5 on")
        names = ("CORR", "BMC", "like it", "pay")
        print(" " * 29 + "".join(f"{name:>9}" for name in names), end="")
        print("   pay less lightgbm  panels")
        rows = shown.assign(seed=shown["seed"].where(shown["seed"] == "mean", "one"))
        table = rows.pivot_table(
            index="panel", columns=["model", "seed"], values=[*SCORES, "pay"]
        )
        for model in shown["model"].unique():
            for seed in ("one", "mean"):
                if ("pay", model, seed) in table:
                    tell(table, model, seed)
        tell_seeds(shown)


def tell(table, model, seed):
    """Print the means over panels, and the difference from LightGBM."""
    own = table.xs((model, seed), axis=1, level=("model", "seed")).dropna()
    if len(own) < 2:
        return
    name = model if seed == "one" else f"{model}, mean of 3"
    line = f"{name:29}"
    for score in ("corr", "bmc", "likeness", "pay"):
        line += f"{own[score].mean():9.4f}"
    less = (own["pay"] - table["pay", "lightgbm", seed]).dropna()
    mean, half = mean_and_half(less)
    told = "" if model == "lightgbm" else f"{mean:8.4f} +- {half:.4f}"
    print(f"{line}{told:>20}  {len(own):6}")


def tell_seeds(shown):
    """Print the standard deviation over seeds on one panel, and what a mean gains."""
    print(f"{'seeds: deviation of one':29}{'CORR':>18}{'BMC':>18}   mean of 3 less one")
    single = shown[shown["seed"] != "mean"]
    for model, own in single.groupby("model", sort=False):
        if own["seed"].nunique() < 2:
            continue
        spread = own.groupby("panel")[["corr", "bmc"]].var().mean() ** 0.5
        both = [
            part.groupby("panel")["pay"].mean()
            for part in (shown.query("model == @model and seed == 'mean'"), own)
        ]
        gains = (both[0] - both[1]).dropna()
        if len(gains) < 2:
            continue
        gain, half = mean_and_half(gains)
        told = f"{spread['corr']:18.4f}{spread['bmc']:18.4f}"
        print(f"{model:29}{told}   {gain:9.4f} +- {half:.4f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=2)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--panels", type=int, default=10)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--report", action="store_true")
    args = parser.parse_args()
    until = time.time() + 3600 * args.hours
    if not args.report:
        with multiprocessing.get_context("spawn").Pool(args.jobs) as pool:
            for stage in plan(args):
                pool.starmap(work, [(*task, until) for task in stage], chunksize=1)
    report()


if __name__ == "__main__":
    main()
