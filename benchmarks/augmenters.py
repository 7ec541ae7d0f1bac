"""What the forum's new rows are worth to LightGBM.

    python benchmarks/augmenters.py [--on linear none real] [--seeds 5 6 ... 14]
        [--real FOLDER] [--eras 160] [--rows 400] [--features 100] [--arms lightgbm ...]

Walk-forward in two folds, all arms on the same rows, each an `AugmentedRegressor` of
LightGBM (500 trees at .04, else Numerai's preset "small"):

- "copies": every training row twice. It tells what the number of rows does by itself.
- "cutout": copies with a quarter of the columns of an era cut out.
- "noise": copies with noise of 1.2 bins (.3 where features run from 0 to 1).
- "averages": means of two rows of an era, of features and targets.
- "dreams": 5 % more rows, 5 steps along the gradient of a supervised autoencoder that
  is fitted to the training rows.
- "targets": copies with targets drawn by `RidgeMixtureTargets`.

On synthetic panels with 16 linear factors ("linear") and without latent structure
("none"), one a seed, purged by 8 eras; and on the rows of `train.parquet` and
`validation.parquet` in a folder ("real"; skipped where it is not there), on which seeds
are those of trees and augmenters, and an era's score is the mean over them.

Reported: mean CORR and Sharpe ratio over the test eras of all seeds, the drawdown (mean
over panels), the mean over eras of the largest feature exposure; CORR and exposure less
LightGBM's, paired by era, with 95 % intervals for an overlap of 8 eras. The
settings are the forum's, or defaults: none was tuned.
"""

import argparse
from pathlib import Path

import pandas as pd
from supervised_latents import PURGE, TARGET, tree

from numerai_features import (
    AugmentedRegressor,
    CutoutAugmenter,
    DreamAugmenter,
    EraMixupAugmenter,
    EraWalkForward,
    GaussianNoiseAugmenter,
    RidgeMixtureTargets,
    SupervisedAEMLP,
    make_era_panel,
)
from numerai_features.metrics import (
    era_scores,
    max_drawdown,
    paired_differences,
    summarize_scores,
)

OVERLAP = 8
ROOT = Path(__file__).resolve().parents[2]


def dreams(seed):
    # Chosen on other seeds, see supervised_latents.py.
    network = SupervisedAEMLP(
        32, hidden=(128, 64), dropout=(0.04, 0.4, 0.1, 0.4, 0.4), random_state=seed
    )
    return DreamAugmenter(network, random_state=seed)


ARMS = {
    "lightgbm": lambda seed: None,
    "copies": lambda seed: GaussianNoiseAugmenter(0, random_state=seed),
    "cutout": lambda seed: CutoutAugmenter(random_state=seed),
    "noise": lambda seed: GaussianNoiseAugmenter(random_state=seed),
    "averages": lambda seed: EraMixupAugmenter(random_state=seed),
    "dreams": dreams,
    "targets": lambda seed: RidgeMixtureTargets(random_state=seed),
}


def synthetic(structure, args):
    for seed in args.seeds:
        panel = make_era_panel(
            args.eras, args.rows, args.features, 16, structure=structure,
            random_state=seed,
        )  # fmt: skip
        yield seed, panel.X, panel.y(TARGET), panel.eras


def real(args):
    from numerai_features import read_numerai

    folder = Path(args.real)
    panel = read_numerai(
        [folder / "train.parquet", folder / "validation.parquet"], verbose=False
    )
    for seed in args.seeds:
        yield seed, panel.X, panel.y(), panel.eras


def run(arms, seed, X, y, eras):
    """Return CORR and exposure of each arm in the test eras."""
    scores = []
    for train, test in EraWalkForward(2, purge=PURGE).split(X, groups=eras):
        predicted = {}
        for arm in arms:
            model = tree(seed)
            augmenter, options = ARMS[arm](seed), {}
            if augmenter is not None:
                model = AugmentedRegressor(model, augmenter)
                options["eras"] = eras[train]
            model.fit(X[train], y[train], **options)
            predicted[arm] = model.predict(X[test])
        table = pd.DataFrame(predicted)
        corr = era_scores(y[test], table, eras[test])
        exposure = era_scores(
            None, table, eras[test], metric="max_exposure", features=X[test]
        )
        scores.append(pd.concat({"corr": corr, "exposure": exposure}, axis=1))
    return pd.concat(scores)


def report(name, paths):
    scores = pd.concat(paths)
    corr, exposure = scores["corr"], scores["exposure"]
    summary = summarize_scores(corr)
    drawdown = pd.concat([max_drawdown(path["corr"]) for path in paths], axis=1)
    print(f"\n{name}: {len(corr)} test eras")
    print(
        f"{'':10}{'CORR':>8}{'Sharpe':>8}{'drawdown':>10}{'exposure':>10}"
        f"   {'CORR less LightGBM':26}exposure less"
    )
    less = []
    if "lightgbm" in corr and len(corr.columns) > 1:
        less = [paired_differences(t, "lightgbm", OVERLAP) for t in (corr, exposure)]
    for arm in corr:
        mean, ratio = summary.loc[arm, ["mean", "sharpe"]]
        line = f"{arm:10}{mean:8.4f}{ratio:8.3f}{drawdown.loc[arm].mean():10.3f}"
        line += f"{exposure[arm].mean():10.3f}"
        for table in less:
            if arm in table.index:
                row = table.loc[arm]
                line += f"   {row.mean_difference:7.4f} [{row.low:.4f}, {row.high:.4f}]"
        print(line, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    where = ("linear", "none", "real")
    parser.add_argument("--on", nargs="+", choices=where, default=list(where))
    parser.add_argument("--seeds", type=int, nargs="+", default=[*range(5, 15)])
    parser.add_argument("--real", default=ROOT / "shared" / "data")
    parser.add_argument("--eras", type=int, default=160)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--features", type=int, default=100)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    args = parser.parse_args()
    for name in args.on:
        if name == "real" and not Path(args.real).exists():
            print(f"\nreal: skipped, {args.real} is not there")
            continue
        tables = real(args) if name == "real" else synthetic(name, args)
        each = []
        for seed, *rows in tables:
            scores = run(args.arms, seed, *rows)
            if name != "real":
                scores.index += 10_000 * seed  # another world: another time
            each.append(scores)
            means = each[-1]["corr"].mean()
            told = "  ".join(f"{arm} {means[arm]:.4f}" for arm in args.arms)
            print(f"{name}, seed {seed}: {told}", flush=True)
        if name == "real":
            each = [pd.concat(each).groupby(level=0).mean()]
        report(name, each)


if __name__ == "__main__":
    main()
