"""What training beside a benchmark is worth: expected BMC, CORR and what both pay.

    python benchmarks/residual_target.py [--minutes 60]
    python benchmarks/residual_target.py --report

Synthetic panels of 240 eras x 500 rows x 100 features with 16 factors. Eras 1 to 184
train; after a purge of 16 eras, the last 40 are tested; the target spans 60 days. The
planted benchmark is LightGBM on the first 8 of the true factors: fitted to all training
eras for the test rows, and out of fold (4 blocks of eras, purged by 16) for the
training rows.

Arms, all around one LightGBM (rate .06, else the preset "small") on the features:

- "plain";
- "neutralized": `EraNeutralizer` with ``neutralize_to="benchmark"``, proportion 1;
- "residual" and "residual .5": `ResidualTargetRegressor` of proportion 1 and .5;
- "+ codes": "residual" on the features and the codes (32 wide) of a small
  `SupervisedAEMLP`, which is cross-fitted and trained on residuals, too.

Reported: the scores of test eras that are *expected* over draws of the market, the mean
correlation with the benchmark within an era (of ranks made normal, as in BMC), and
3 CORR + 15 BMC. Arms are compared on the same panels; errors are 95 % half-widths over
panels by Student's t.

One setting is chosen, on panels 0 to 4 of each structure: the colsample and number of
trees with which the *plain* arm's 3 CORR + 15 BMC is best. All arms share it, which
favours the plain one. Panels 5 to 14 are the report of all arms, and panels 5 to 34
that of the arms without a network, which are fast. No setting was chosen on them; the
numbers of panels were fixed before any was run.

Two more benchmarks, on panels 5 to 14, ask why the first has the effect that it has:

- "features": made as the first, but on all features. It resembles the plain arm more.
- "earlier": as the first, but fitted to eras 1 to 84 alone, and the arms to eras 101 to
  184. So it has one model for all rows, and shares no training era with the arms.

Each fit is a line in ``benchmarks/residual_target.csv``; the script skips what is
there, and stops after ``--minutes``.
"""

import argparse
import csv
import itertools
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t as student
from sklearn.pipeline import make_pipeline

from numerai_features import (
    EraKFold,
    EraNeutralizer,
    LatentFeatures,
    ResidualTargetRegressor,
    SupervisedAEMLP,
    make_era_panel,
)
from numerai_features.compose import rank_by_era
from numerai_features.metrics import expected_scores
from numerai_features.trees import make_lightgbm

FILE = Path(__file__).with_name("residual_target.csv")
SCORES = ["corr", "bmc", "likeness"]
COLUMNS = [
    "benchmark", "structure", "panel", "arm", "colsample", "trees", *SCORES, "seconds"
]  # fmt: skip
SIZE = {"n_eras": 240, "rows_per_era": 500, "n_features": 100, "n_factors": 16}
TARGET, PURGE, N_TRAIN = "target_alpha_60", 16, 184
STRUCTURES = ("linear", "curved")
BENCHMARKS, N_EARLY = ("factors", "features", "earlier"), 84
TUNED_ON, REPORTED, OF_TREES = range(5), range(5, 15), range(5, 35)
COLSAMPLES, TREES, RATE = (0.1, 0.3), (12, 25, 50, 100, 200), 0.06
TREE_ARMS = ("plain", "neutralized", "residual", "residual .5")
ARMS = (*TREE_ARMS, "+ codes")


def tree(seed, trees, colsample):
    return make_lightgbm(
        "small", device="cpu", n_jobs=1, random_state=seed, learning_rate=RATE,
        n_estimators=trees, colsample_bytree=colsample,
    )  # fmt: skip


def network(seed):
    # A size that was chosen on other panels, see supervised_latents.py.
    return SupervisedAEMLP(
        32, hidden=(128, 64), dropout=(0.04, 0.4, 0.1, 0.4, 0.4), cross_fit=2,
        random_state=seed, n_jobs=1,
    )  # fmt: skip


class Panel:
    """A panel's rows to train and to test on, and a benchmark."""

    def __init__(self, structure, seed, kind):
        panel, truth = make_era_panel(
            structure=structure, random_state=seed, return_truth=True, **SIZE
        )
        self.X, self.eras, self.y = panel.X, panel.eras, panel.y(TARGET)
        self.targets = pd.DataFrame({n: panel.y(n) for n in panel.target_names})
        self.train = self._rows(0, N_TRAIN)
        self.test = self._rows(N_TRAIN + PURGE, SIZE["n_eras"])
        self.truth = truth.take(self.test)
        half = truth.factors[:, : SIZE["n_factors"] // 2]
        if kind == "earlier":
            early = self._rows(0, N_EARLY)
            self.train = self._rows(N_EARLY + PURGE, N_TRAIN)
            rest = np.concatenate([self.train, self.test])
            self.benchmark = self._predict(half, [(early, rest)])
        else:
            parts = EraKFold(4, purge=PURGE).split(
                self.train, groups=self.eras[self.train]
            )
            parts = [(self.train[a], self.train[b]) for a, b in parts]
            parts.append((self.train, self.test))
            known = half if kind == "factors" else self.X
            self.benchmark = self._predict(known, parts)

    def _rows(self, before, last):
        return np.flatnonzero((self.eras > before) & (self.eras <= last))

    def _predict(self, known, parts):
        """Return a benchmark's predictions, none of them by a tree that saw the era."""
        out = np.full(len(known), np.nan)
        colsample = 1.0 if known.shape[1] < self.X.shape[1] else 0.1
        for learned, shown in parts:
            model = tree(0, 100, colsample).fit(known[learned], self.y[learned])
            out[shown] = model.predict(known[shown])
        return out

    def scores(self, prediction):
        """Return expected CORR and BMC, and the correlation with the benchmark."""
        eras, benchmark = self.eras[self.test], self.benchmark[self.test]
        given = {"truth": self.truth, "eras": eras, "target": TARGET}
        corr = expected_scores(prediction, metric="corr", **given)
        bmc = expected_scores(prediction, metric="bmc", benchmark=benchmark, **given)
        pair = [rank_by_era(p, eras, output="gauss") for p in (prediction, benchmark)]
        by_era = pd.DataFrame(np.transpose(pair)).groupby(eras)
        likeness = [np.corrcoef(part.T)[0, 1] for _, part in by_era]
        return corr.mean(), bmc.mean(), np.mean(likeness)


@lru_cache(1)
def panel_of(structure, seed, kind):
    return Panel(structure, seed, kind)


def predict(panel, arm, seed, trees, colsample):
    """Return an arm's predictions of the test rows."""
    train, test = panel.train, panel.test
    X, y, base = panel.X[train], panel.y[train], tree(seed, trees, colsample)
    eras, benchmark = {"eras": panel.eras[train]}, {"benchmark": panel.benchmark[train]}
    if arm == "plain":
        return base.fit(X, y).predict(panel.X[test])
    if arm == "neutralized":
        model = EraNeutralizer(base, neutralize_to="benchmark").fit(X, y, **eras)
        return model.predict(
            panel.X[test], eras=panel.eras[test], benchmark=panel.benchmark[test]
        )
    if arm == "+ codes":
        latents = LatentFeatures(network(seed))
        both = latents.fit_transform(X, y, **eras, **benchmark)
        model = ResidualTargetRegressor(base).fit(both, y, **eras, **benchmark)
        return make_pipeline(latents, model).predict(panel.X[test])
    model = ResidualTargetRegressor(base, 0.5 if arm == "residual .5" else 1.0)
    return model.fit(X, y, **eras, **benchmark).predict(panel.X[test])


def read():
    return pd.read_csv(FILE) if FILE.exists() else pd.DataFrame(columns=COLUMNS)


def write(lines):
    fresh = not FILE.exists()
    with FILE.open("a", newline="") as stream:
        csv.writer(stream).writerows([COLUMNS] * fresh + lines)


def line(panel, where, arm, setting, prediction, start):
    scores = [f"{value:.6f}" for value in panel.scores(prediction)]
    seconds = f"{time.perf_counter() - start:.1f}"
    return [*where, arm, *setting, *scores, seconds]


def tune(structure, seed):
    """Fit the plain arm in all settings; trees of one colsample are one fit."""
    lines = read()
    if not lines.query("structure == @structure and panel == @seed").empty:
        return
    panel, lines = panel_of(structure, seed, "factors"), []
    where = "factors", structure, seed
    for colsample in COLSAMPLES:
        start = time.perf_counter()
        model = tree(seed, max(TREES), colsample)
        model.fit(panel.X[panel.train], panel.y[panel.train])
        for trees in TREES:
            shown = model.predict(panel.X[panel.test], num_iteration=trees)
            setting = colsample, trees
            lines.append(line(panel, where, "plain", setting, shown, start))
    write(lines)
    print(f"{structure} panel {seed}: plain in {len(lines)} settings", flush=True)


def pay(lines):
    return 3 * lines["corr"] + 15 * lines["bmc"]


def chosen(structure):
    """Return the colsample and number of trees that suit the plain arm."""
    lines = read().query("structure == @structure and panel in @TUNED_ON")
    lines = lines.assign(pay=pay(lines))
    return lines.groupby(["colsample", "trees"])["pay"].mean().idxmax()


def compare(kind, structure, seed, arm):
    """Fit one arm on one panel of the report."""
    done = of(kind, structure).query("panel == @seed and arm == @arm")
    if not done.empty:
        return
    colsample, trees = setting = chosen(structure)
    panel, start = panel_of(structure, seed, kind), time.perf_counter()
    shown = predict(panel, arm, seed, int(trees), float(colsample))
    where = kind, structure, seed
    lines = [line(panel, where, arm, setting, shown, start)]
    if arm == "plain":
        known = panel.benchmark[panel.test]
        lines.append(line(panel, where, "benchmark", setting, known, start))
    write(lines)
    print(*lines[0], flush=True)


def of(kind, structure):
    return read().query("benchmark == @kind and structure == @structure")


def mean_and_half(values):
    """Return the mean over panels, and its 95 % half-width."""
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1)
    return values.mean(), half / np.sqrt(len(values))


def report():
    groups = [("factors", REPORTED, ARMS), ("factors", OF_TREES, TREE_ARMS)]
    groups += [(kind, REPORTED, TREE_ARMS) for kind in BENCHMARKS[1:]]
    for (kind, panels, arms), structure in itertools.product(groups, STRUCTURES):
        mine = of(kind, structure).query("panel in @panels")
        mine = mine.assign(pay=pay(mine))
        arms = [arm for arm in arms if arm in mine["arm"].unique()]
        if not arms:
            continue
        colsample, trees = chosen(structure)
        print(
            f"\nbenchmark {kind!r}, {structure}, panels {panels[0]} to {panels[-1]}: "
            f"{int(trees)} trees, colsample {colsample}"
        )
        names = ("BMC", "CORR", "with benchmark", "3 CORR + 15 BMC")
        print(" " * 12 + "".join(f"{name:>18}" for name in names) + "   panels")
        table = mine.pivot_table(index="panel", columns="arm", values=[*SCORES, "pay"])
        for arm in ("benchmark", *arms):
            tell(arm, table.xs(arm, axis=1, level="arm"))
        print("less plain, panel by panel")
        plain = table.xs("plain", axis=1, level="arm")
        for arm in arms[1:]:
            tell(arm, table.xs(arm, axis=1, level="arm") - plain)


def tell(name, table):
    """Print the mean of each score over panels, and its half-width."""
    table = table.dropna()
    line = f"{name:12}"
    for score in ("bmc", "corr", "likeness", "pay"):
        mean, half = mean_and_half(table[score])
        line += f"{mean:9.4f} +- {half:.4f}"
    print(f"{line}   {len(table):6}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--report", action="store_true")
    args = parser.parse_args()
    until = time.time() + 60 * args.minutes
    if not args.report:
        for structure, seed in itertools.product(STRUCTURES, TUNED_ON):
            tune(structure, seed)
        plan = list(itertools.product(BENCHMARKS[:1], OF_TREES, STRUCTURES, TREE_ARMS))
        for structure in STRUCTURES:
            one = [structure]
            plan += itertools.product(BENCHMARKS[1:], REPORTED, one, TREE_ARMS)
            plan += itertools.product(BENCHMARKS[:1], REPORTED, one, ARMS[-1:])
        for kind, seed, structure, arm in plan:
            if time.time() < until:
                compare(kind, structure, seed, arm)
    report()


if __name__ == "__main__":
    main()
