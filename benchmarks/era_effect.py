"""A planted effect of the era as a whole: who finds it?

    python benchmarks/era_effect.py [--panels 2 3 4 5 6] [--settings]
        [--arms transformer induced rows trees ...] [--effects regime none]

In each era of a synthetic panel a regime s is 1 or -1, by chance. A feature's effect on
the target has the sign of s. Features are bins of equal size in every era, as Numerai's
are, so no mean or deviation tells the regime; what does is the sign of the correlation
(.6 s) within five pairs of other features. With ``none``, correlations change as
before, but the feature's effect has one sign: knowing the era is worth nothing then.

200 eras of 400 rows and 30 features; eras 1 to 140 train, 141 to 200 test. A fifth
of the target's normal score is signal: the feature, and a second one whose sign never
changes. Scores are mean CORR over test eras; "known" predicts the signal itself.

Arms: "transformer", `EraTransformer` with linear attention, and "induced" and "full",
with those; "alone", the same network on each row alone (``tokens="features"``); "rows",
`EraMLP`; "trees", LightGBM; "trees + era", with `EraStatistics`. Each network's number
of epochs and rate, and LightGBM's number of trees, is chosen on panels 0 and 1 of
"regime" (``--settings``, which prints their scores), from four settings or more, and
reported on panels 2 to 6. Differences are paired: mean, and a 95 % half-width over
panels.
"""

import argparse
import itertools
import time

import numpy as np
from scipy.stats import rankdata
from scipy.stats import t as student

from numerai_features import EraMLP, EraStatistics, EraTransformer
from numerai_features.metrics import era_scores
from numerai_features.trees import make_lightgbm

N_ERAS, N_ROWS, N_FEATURES, N_PAIRS, N_TRAIN = 200, 400, 30, 5, 140
CORRELATION, SIGNAL = 0.6, 0.2
EFFECTS = ("regime", "none")
CUTS = np.cumsum([0.05, 0.2, 0.5, 0.2])  # of Numerai's targets

RATES, EPOCHS = (1e-3, 3e-3), (10, 20)
# The best of a run with --settings.
CHOSEN: dict = {
    "transformer": (1e-3, 10), "rows": (1e-3, 6), "trees": (25,), "trees + era": (25,),
}  # fmt: skip


def bins_of(z):
    """Cut each column of an era into five bins of equal size."""
    ranks = (rankdata(z, axis=0, method="ordinal") - 1) / len(z)
    return np.floor(5 * ranks).astype(np.int8)


def panel(effect, seed):
    """Return features, targets, eras and the signal behind the targets."""
    rng = np.random.default_rng([seed, 31])
    X, y, signals = [], [], []
    for regime in rng.choice([-1.0, 1.0], N_ERAS):
        z = rng.normal(size=(N_ROWS, N_FEATURES))
        a, b = z[:, :N_PAIRS], z[:, N_PAIRS : 2 * N_PAIRS]
        rest = np.sqrt(1 - CORRELATION**2)
        z[:, N_PAIRS : 2 * N_PAIRS] = regime * CORRELATION * a + rest * b
        sign = regime if effect == "regime" else 1.0
        signal = (sign * z[:, -1] + z[:, -2]) / np.sqrt(2)
        noise = rng.normal(size=N_ROWS)
        score = SIGNAL * signal + np.sqrt(1 - SIGNAL**2) * noise
        ranks = (rankdata(score) - 0.5) / N_ROWS
        X.append(bins_of(z))
        y.append(np.searchsorted(CUTS, ranks) / 4)
        signals.append(signal)
    eras = np.repeat(np.arange(1, N_ERAS + 1), N_ROWS)
    return np.vstack(X), np.concatenate(y), eras, np.concatenate(signals)


def network(kind, rate, epochs, seed):
    shared = {
        "max_epochs": epochs, "learning_rate": rate, "validation": None,
        "random_state": seed,
    }  # fmt: skip
    if kind == "rows":
        return EraMLP((128, 64), eras_per_batch=4, **shared)
    tokens = {"tokens": "features"} if kind == "alone" else {}
    attention = kind if kind in ("induced", "full") else "linear"
    if kind == "alone":
        attention = "full"
    return EraTransformer(
        16, attention=attention, objective="targets", loss="corr", eras_per_batch=4,
        **tokens, **shared,
    )  # fmt: skip


NETWORKS = ("transformer", "induced", "full", "alone", "rows")
TREES = ("trees", "trees + era")
SETTINGS: dict = {arm: [*itertools.product(RATES, EPOCHS)] for arm in NETWORKS}
SETTINGS["rows"] += itertools.product(RATES, (3, 6))  # fewer are better
SETTINGS |= {arm: [(12,), (25,), (50,), (100,), (200,)] for arm in TREES}


def predict(arm, setting, data, seed):
    """Return the predictions of test rows."""
    X, y, eras, signal = data
    train, test = eras <= N_TRAIN, eras > N_TRAIN
    if arm == "known":
        return signal[test]
    if arm.startswith("trees"):
        if arm == "trees + era":
            statistics = EraStatistics().fit(X[train], eras=eras[train])
            X = np.hstack([X, statistics.transform(X, eras=eras)])
        model = make_lightgbm(
            "small", device="cpu", n_jobs=1, n_estimators=setting[0],
            learning_rate=0.05, colsample_bytree=0.5, random_state=seed,
        )  # fmt: skip
        return model.fit(X[train], y[train]).predict(X[test])
    net = network(arm, *setting, seed)
    net.fit(X[train], y[train], eras=eras[train])
    return net.predict(X[test], eras=eras[test])


def score(prediction, data):
    _, y, eras, _ = data
    test = eras > N_TRAIN
    return float(era_scores(y[test], prediction, eras[test], metric="corr").mean())


def half_width(differences):
    n = len(differences)
    return student.ppf(0.975, n - 1) * np.std(differences, ddof=1) / np.sqrt(n)


def choose(arms):
    """Print the mean score of each setting on the panels for choices."""
    tables = [panel("regime", seed) for seed in range(2)]
    for arm in arms:
        for setting in SETTINGS[arm]:
            start = time.perf_counter()
            scores = [
                score(predict(arm, setting, data, seed), data)
                for seed, data in enumerate(tables)
            ]
            seconds = (time.perf_counter() - start) / len(tables)
            print(
                f"{arm:12} {setting} {np.mean(scores):.4f} ({seconds:.0f} s)",
                flush=True,
            )


def report(arms, effects, seeds):
    for effect in effects:
        table, seconds = {}, {}
        for seed in seeds:
            data = panel(effect, seed)
            for arm in ["known", *arms]:
                start = time.perf_counter()
                setting = CHOSEN.get(arm, SETTINGS.get(arm, [None])[0])
                predicted = predict(arm, setting, data, seed)
                table.setdefault(arm, []).append(score(predicted, data))
                seconds[arm] = time.perf_counter() - start
        base = np.array(table["rows"]) if "rows" in table else None
        print(f"\n{effect}: mean CORR of {len(seeds)} panels, and less that of 'rows'")
        for arm, values in table.items():
            line = f"{arm:12}{np.mean(values):8.4f}"
            if base is not None and arm != "rows" and len(values) > 1:
                less = np.array(values) - base
                line += f"{less.mean():9.4f} +- {half_width(less):.4f}"
            print(f"{line:42}{seconds[arm]:6.0f} s", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--panels", type=int, nargs="+", default=[2, 3, 4, 5, 6])
    parser.add_argument("--effects", nargs="+", choices=EFFECTS, default=EFFECTS)
    arms = ["transformer", "rows", "trees", "trees + era"]
    parser.add_argument("--arms", nargs="+", choices=SETTINGS, default=arms)
    parser.add_argument("--settings", action="store_true")
    args = parser.parse_args()
    if args.settings:
        return choose(args.arms)
    report(args.arms, args.effects, args.panels)


if __name__ == "__main__":
    main()
