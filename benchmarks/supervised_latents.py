"""What SupervisedAEMLP is worth: alone, as latents, cross-fitted or not, in a mean.

    python benchmarks/supervised_latents.py [--seeds 5 6 7 8 9] [--set NAME=VALUE ...]
        [--eras 160] [--rows 400] [--features 100] [--folds 2] [--cross-fit 3]
        [--arms lightgbm network ...]

Synthetic panels (16 linear factors, one a seed); walk-forward, purged by 8 eras. All
arms on the same folds:

- ridge on the standardised features; its penalty is the best of five by CORR on the
  first seed's folds, which favours it.
- LightGBM, 500 trees at .04, else Numerai's preset "small".
- the network alone, trained on all targets of 20 days, its prediction their mean.
- LightGBM on features and the network's codes, as they are and cross-fitted.
- the mean of LightGBM's and the network's ranks within an era.

Reported: mean CORR, its standard deviation and Sharpe ratio over the test eras of all
seeds; each arm less LightGBM with a 95 % interval for an overlap of 8 eras; and
what a model has on its training eras more than on test eras (over-confidence). Settings
of the network were chosen on seeds 0 to 4; seeds 5 to 9 are the report.
"""

import argparse
import time

import numpy as np
import pandas as pd
from recovery import settings_of
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from numerai_features import EraWalkForward, SupervisedAEMLP, make_era_panel
from numerai_features.metrics import era_scores, mean_interval
from numerai_features.trees import make_lightgbm

TARGET, PURGE = "target_alpha_20", 8
PENALTIES = (1e1, 1e2, 1e3, 1e4, 1e5)
CROSSED = "+ codes, cross-fitted"
ARMS = ("ridge", "lightgbm", "network", "+ codes", CROSSED, "mean")


def corr(y, prediction, eras):
    return era_scores(y, prediction, eras, metric="corr").to_numpy().ravel()


def ridge(penalty):
    return make_pipeline(StandardScaler(), Ridge(penalty))


def tree(seed):
    return make_lightgbm(
        "small", n_estimators=500, learning_rate=0.04, random_state=seed
    )


def ranks(prediction, eras):
    return pd.Series(prediction).groupby(eras).rank(pct=True).to_numpy()


def run_fold(panel, train, test, arms, penalty, seed, settings, cross_fit):
    """Return CORR of each arm by test era, its mean over training eras, and epochs."""
    X, eras, y = panel.X, panel.eras, panel.y(TARGET)
    names = [name for name in panel.target_names if name.endswith("_20")]
    targets = pd.DataFrame({name: panel.y(name) for name in names})
    crossing = cross_fit if CROSSED in arms else None
    network = SupervisedAEMLP(random_state=seed, cross_fit=crossing, **settings)
    crossed = network.fit_transform(X[train], targets.iloc[train], eras=eras[train])
    codes = network.transform(X)
    predicted = {"network": network.predict(X)}
    if "ridge" in arms:
        predicted["ridge"] = ridge(penalty).fit(X[train], y[train]).predict(X)
    predicted["lightgbm"] = tree(seed).fit(X[train], y[train]).predict(X)
    for name, own in (("+ codes", codes[train]), (CROSSED, crossed)):
        if name in arms:
            both = np.column_stack([X, codes])
            learned = np.column_stack([X[train], own])
            predicted[name] = tree(seed).fit(learned, y[train]).predict(both)
    pair = [ranks(predicted[name], eras) for name in ("lightgbm", "network")]
    predicted["mean"] = np.mean(pair, axis=0)
    on_test = {a: corr(y[test], predicted[a][test], eras[test]) for a in arms}
    on_train = {a: corr(y[train], predicted[a][train], eras[train]) for a in arms}
    return on_test, on_train, int(network.best_epoch_[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[5, 6, 7, 8, 9])
    parser.add_argument("--eras", type=int, default=160)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--features", type=int, default=100)
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--cross-fit", type=int, default=3)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--set", nargs="*", default=[], help="settings of the network")
    args = parser.parse_args()
    settings = settings_of(args.set)
    print(settings or "default settings", vars(args))
    arms = args.arms
    test, train, penalty = {a: [] for a in arms}, {a: [] for a in arms}, None
    for seed in args.seeds:
        start = time.perf_counter()
        panel = make_era_panel(
            args.eras, args.rows, args.features, 16, random_state=seed
        )
        splitter = EraWalkForward(args.folds, purge=PURGE)
        folds = list(splitter.split(panel.X, groups=panel.eras))
        y = panel.y(TARGET)
        if penalty is None and "ridge" in arms:
            means = []
            for p in PENALTIES:
                each = [
                    corr(
                        y[b],
                        ridge(p).fit(panel.X[a], y[a]).predict(panel.X[b]),
                        panel.eras[b],
                    )
                    for a, b in folds
                ]
                means.append(np.concatenate(each).mean())
            penalty = PENALTIES[int(np.argmax(means))]
        own, epochs = {a: [] for a in arms}, []
        for rows in folds:
            on_test, on_train, epoch = run_fold(
                panel, *rows, arms, penalty, seed, settings, args.cross_fit
            )
            epochs.append(epoch)
            for a in arms:
                own[a].append(on_test[a])
                train[a].append(on_train[a].mean())
        for a in arms:
            test[a].append(np.concatenate(own[a]))
        told = "  ".join(f"{a} {test[a][-1].mean():.4f}" for a in arms)
        seconds = time.perf_counter() - start
        print(f"seed {seed}: {told}  epochs {epochs}  {seconds:.0f} s", flush=True)
    print(f"\nridge's penalty {penalty}")
    print(
        f"{'':24}{'CORR':>8}{'sd':>8}{'Sharpe':>8}{'train - test':>14}   less LightGBM"
    )
    for a in arms:
        scores = np.concatenate(test[a])
        gap = np.mean(train[a]) - scores.mean()
        line = f"{a:24}{scores.mean():8.4f}{scores.std():8.4f}"
        line += f"{scores.mean() / scores.std():8.3f}{gap:14.4f}"
        if a != "lightgbm" and "lightgbm" in arms:
            less = scores - np.concatenate(test["lightgbm"])
            interval = mean_interval(less, overlap=8)
            line += f"   {less.mean():8.4f} [{interval.low:.4f}, {interval.high:.4f}]"
        print(line)


if __name__ == "__main__":
    main()
