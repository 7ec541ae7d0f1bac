"""How much an unpurged split over-states the mean CORR.

    python benchmarks/leakage.py [--seeds 3]

On make_era_panel: the same models under EraKFold without a purge and with the purge of
the target's horizon (`measure_leakage`), against the truth: the models trained on all
these eras, on fresh eras that lie beyond the purge. Intervals are of 95 %, of the mean
over seeds.
"""

import argparse

from sklearn.neighbors import KNeighborsRegressor

from numerai_features.datasets import make_era_panel
from numerai_features.metrics import era_scores, mean_interval
from numerai_features.model_selection import EraKFold, measure_leakage
from numerai_features.trees import make_lightgbm

N_TRAIN, N_FRESH = 120, 120


def models():
    return {
        "LightGBM": make_lightgbm(
            "small", n_estimators=300, learning_rate=0.05, n_jobs=2, random_state=0
        ),
        "30 nearest neighbours": KNeighborsRegressor(30, n_jobs=2),
    }


def panels(horizon, purge, seed):
    whole = make_era_panel(
        N_TRAIN + purge + N_FRESH, 400, 100, 12, horizon=horizon, random_state=seed
    )
    return whole.select(last=N_TRAIN), whole.select(first=N_TRAIN + purge + 1)


def compare(model, horizon, purge, seeds):
    """Return the era scores of each estimate, the mean over seeds."""
    scores = {"unpurged": [], "purged": [], "truth": []}
    for seed in range(seeds):
        past, fresh = panels(horizon, purge, seed)
        target = past.target_names[0]
        y = past.y(target)
        leakage = measure_leakage(
            model, past.X, y, past.eras, cv=EraKFold(5, purge=purge), verbose=False
        )
        for name in ("unpurged", "purged"):
            scores[name].append(leakage.scores[name])
        prediction = model.fit(past.X, y).predict(fresh.X)
        scores["truth"].append(era_scores(fresh.y(target), prediction, fresh.eras))
    return {name: sum(values) / seeds for name, values in scores.items()}


def tell(interval):
    return f"{interval.mean:8.4f} [{interval.low:.4f}, {interval.high:.4f}]"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    for horizon, purge in ((4, 8), (12, 16)):
        for name, model in models().items():
            scores = compare(model, horizon, purge, args.seeds)
            print(f"{name}, a target of {horizon} eras, purge {purge}: mean CORR")
            intervals = {
                key: mean_interval(values, overlap=purge)
                for key, values in scores.items()
            }
            gap = scores["unpurged"] - scores["purged"]
            intervals["unpurged - purged"] = mean_interval(gap, overlap=purge)
            for key, interval in intervals.items():
                print(f"  {key:18}{tell(interval)}")
            truth = intervals["truth"].mean
            within = intervals["purged"].low <= truth <= intervals["purged"].high
            over = intervals["unpurged"].mean - truth
            print(f"  unpurged - truth  {over:8.4f}")
            answer = "yes" if within else "no"
            print(f"  the truth lies in the purged interval: {answer}", flush=True)


if __name__ == "__main__":
    main()
