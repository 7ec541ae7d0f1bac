"""How much an unpurged split over-states the mean CORR.

    python benchmarks/leakage.py [--seeds 3]

On make_era_panel: the same models under EraKFold without a purge and with the purge
of the target's horizon, against the truth: the models trained on all these eras, on
fresh eras that lie beyond the purge.
"""

import argparse

import numpy as np
from sklearn.neighbors import KNeighborsRegressor

from numerai_features.datasets import make_era_panel
from numerai_features.metrics import block_bootstrap, era_scores
from numerai_features.model_selection import EraKFold
from numerai_features.trees import make_lightgbm

N_TRAIN, N_FRESH = 120, 120


def models():
    return {
        "LightGBM": make_lightgbm(
            "small", n_estimators=300, learning_rate=0.05, n_jobs=2, random_state=0
        ),
        "30 nearest neighbours": KNeighborsRegressor(30, n_jobs=2),
    }


def out_of_fold(model, panel, target, purge):
    y = panel.y(target)
    prediction = np.full(panel.n_rows, np.nan)
    cv = EraKFold(5, purge=purge)
    for train, test in cv.split(panel.X, y, panel.eras):
        prediction[test] = model.fit(panel.X[train], y[train]).predict(panel.X[test])
    return era_scores(y, prediction, panel.eras)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    print("mean CORR over seeds; the difference with its 95 % block-bootstrap interval")
    heads = ("unpurged", "purged", "fresh eras", "over-statement")
    print(f"{'':32}" + "".join(f"{h:>12}" for h in heads))
    for horizon, purge in ((4, 8), (12, 16)):
        for name, model in models().items():
            rows, gaps = [], []
            for seed in range(args.seeds):
                whole, _ = make_era_panel(
                    N_TRAIN + purge + N_FRESH, 400, 100, 12,
                    horizon=horizon, random_state=seed,
                )  # fmt: skip
                target = whole.target_names[0]
                past = whole.select(last=N_TRAIN)
                fresh = whole.select(first=N_TRAIN + purge + 1)
                open_, purged = (
                    out_of_fold(model, past, target, p) for p in (0, purge)
                )
                model.fit(past.X, past.y(target))
                truth = era_scores(fresh.y(target), model.predict(fresh.X), fresh.eras)
                rows.append([open_.mean(), purged.mean(), truth.mean()])
                gaps.append(open_ - purged)
            mean = np.mean(rows, axis=0)
            gap = np.mean(gaps, axis=0)
            interval = block_bootstrap(gap, block=purge)
            print(
                f"{name:24}{f'{horizon} eras':>8}"
                + "".join(f"{m:12.4f}" for m in mean)
                + f"{interval.mean:12.4f} [{interval.low:.4f}, {interval.high:.4f}]",
                flush=True,
            )


if __name__ == "__main__":
    main()
