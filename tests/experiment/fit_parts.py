"""Files of an experiment whose arms are fitted, and a plain loop for each arm."""

import json

import numpy as np
import pandas as pd
from sklearn.linear_model import Ridge

from numerai_features import augmenters, compose, embedders
from numerai_features.datasets import make_era_panel
from numerai_features.trees import make_lightgbm, make_xgboost

ALPHA, LONG, BRAVO = "target_alpha_20", "target_alpha_60", "target_bravo_20"
NAMES = [f"feature_{j:04d}" for j in range(20)]
SEED = 1
LAST = 36  # the last training era with a known target

EXPERIMENT = f"""
seed = {SEED}
[data]
files = ["train.parquet"]
benchmark = "benchmark.parquet"
[targets]
main = "{ALPHA}"
also = ["{LONG}", "{BRAVO}"]
[cv]
n_splits = 2
[model]
n_jobs = 1
device = "cpu"
params = {{ n_estimators = 10 }}

[latents]
quantize = "none"
[latents.fa]
embedder = "FactorAnalysisEmbedder"
n_components = 3
features = {NAMES[2:14]}
[latents.dae]
embedder = "DAEEmbedder"
n_components = 3
hidden = [8]
max_epochs = 2
[augment.cutout]
augmenter = "CutoutAugmenter"
[models.ridge]
model = "Ridge"
alpha = 10.0
[models.xgb]
model = "XGBoost"
n_jobs = 1
device = "cpu"
params = {{ n_estimators = 5 }}
[models.net]
model = "EraMLP"
hidden = [8, 4]
max_epochs = 2

[arms.trees]
latents = ["fa"]
[arms.leaves]
model = "xgb"
target = ["{ALPHA}", "{LONG}"]
[arms.cutout]
augment = "cutout"
[arms.ridge]
model = "ridge"
features = {NAMES[3:12]}
target = ["{ALPHA}", "{BRAVO}"]
neutralize = {{ features = {NAMES[:5]}, proportion = 0.5 }}
[arms.net]
model = "net"
latents = ["fa"]
residual_to = "benchmark"
proportion = 0.5
[arms.told]
benchmark_feature = true
neutralize = {{ to = "benchmark" }}
[arms.shrunk]
model = "ridge"
shrink = "dae"
[arms.mix]
blend = {{ trees = 1, net = 3.0, ridge = -0.5 }}
[arms.mixed_again]
blend = {{ mix = 2, told = 1 }}
[arms.random]
latents = ["random"]
[arms.numbered]
era_feature = true
"""


def write_files(folder):
    """Write training rows, later rows, live rows, and a benchmark of all of them."""
    panel = make_era_panel(
        n_eras=72, rows_per_era=40, n_features=20, n_factors=4, random_state=5
    )
    frame = panel.to_frame()
    ids = np.random.default_rng(3).permutation(len(frame))
    frame.index = pd.Index([f"n{i:05d}" for i in ids], name="id")
    eras = panel.eras
    noise = np.random.default_rng(0).normal(scale=0.3, size=len(frame))
    benchmark = pd.DataFrame({"own": panel.y(ALPHA) + noise}, index=frame.index)
    benchmark.sample(frac=1, random_state=0).to_parquet(folder / "benchmark.parquet")
    train = frame[eras <= 40]
    train = train.assign(
        **{
            ALPHA: train[ALPHA].where(eras[eras <= 40] <= LAST),
            LONG: train[LONG].where(eras[eras <= 40] <= 30),
        }
    )
    train.to_parquet(folder / "train.parquet")
    later = frame[(eras > 30) & (eras < 72)]
    known = (later["era"].astype(int) < 70).to_numpy()
    later = later.assign(**{ALPHA: later[ALPHA].where(known)})
    later.to_parquet(folder / "validation.parquet")
    live = frame[eras == 72].drop(columns=panel.target_names)
    live = live.sample(frac=1, random_state=1).assign(era="X", data_type="live")
    live.to_parquet(folder / "live.parquet")
    content = {"feature_sets": {"all": NAMES}, "targets": panel.target_names}
    (folder / "features.json").write_text(json.dumps(content))
    (folder / "arms.toml").write_text(EXPERIMENT)


class Plain:
    """What the public classes predict that are fitted on the same rows."""

    def __init__(self, folder, shown="live.parquet"):
        train = pd.read_parquet(folder / "train.parquet")
        self.train = train[train[ALPHA].notna()]
        self.X = self.train[NAMES].to_numpy()
        self.eras = self.train["era"].astype(int).to_numpy()
        live = pd.read_parquet(folder / shown)
        self.live, self.live_eras = live[NAMES].to_numpy(), live["era"].to_numpy()
        benchmark = pd.read_parquet(folder / "benchmark.parquet")["own"]
        self.benchmark = benchmark[self.train.index].to_numpy()
        self.live_benchmark = benchmark[live.index].to_numpy()

    def y(self, target=ALPHA):
        return self.train[target]

    def predict(self, arm, n_seeds):
        """Return raw predictions of an arm, the mean over ranks of several seeds."""
        each = [getattr(self, arm)(SEED + seed) for seed in range(n_seeds)]
        return each[0] if n_seeds == 1 else np.mean([*map(self.ranked, each)], axis=0)

    def ranked(self, values):
        return compose.rank_by_era(values, self.live_eras, output="gauss")

    def model(self, seed):
        return make_lightgbm(
            "small", device="cpu", n_jobs=1, n_estimators=10, random_state=seed
        )

    def latents(self):
        fa = embedders.FactorAnalysisEmbedder(3).fit(self.X[:, 2:14], eras=self.eras)
        return [
            np.hstack([X, fa.transform(X[:, 2:14])], dtype=np.float32)
            for X in (self.X, self.live)
        ]

    def trees(self, seed):
        learned, shown = self.latents()
        return self.model(seed).fit(learned, self.y()).predict(shown)

    def leaves(self, seed):
        both = self.train[[ALPHA, LONG]]
        keep = both.notna().all(axis=1).to_numpy()
        model = make_xgboost(
            "small", device="cpu", n_jobs=1, n_estimators=5, random_state=seed,
            multi_strategy="multi_output_tree",
        )  # fmt: skip
        model.fit(self.X[keep], both[keep].to_numpy())
        predicted = model.predict(self.live).astype(np.float64)
        return np.mean([self.ranked(column) for column in predicted.T], axis=0)

    def cutout(self, seed):
        augmenter = augmenters.CutoutAugmenter(random_state=seed)
        X, y, *_ = augmenter.fit_resample(self.X, self.y(), eras=self.eras)
        return self.model(seed).fit(X, y).predict(self.live)

    def ridge(self, seed):
        each = []
        for target in (ALPHA, BRAVO):
            model = Ridge(alpha=10.0)
            model.fit(self.X[:, 3:12].astype(np.float32), self.y(target))
            each.append(self.ranked(model.predict(self.live[:, 3:12])))
        return compose.neutralize_by_era(
            np.mean(each, axis=0), self.live[:, :5], self.live_eras, proportion=0.5
        )

    def net(self, seed):
        learned, shown = self.latents()
        target = compose.ResidualTargetRegressor(
            embedders.EraMLP((8, 4), max_epochs=2, random_state=seed), proportion=0.5
        )
        target.fit(learned, self.y(), eras=self.eras, benchmark=self.benchmark)
        return target.predict(shown)

    def told(self, seed):
        column = self.benchmark[:, None].astype(np.float32)
        shown = self.live_benchmark[:, None].astype(np.float32)
        model = self.model(seed).fit(np.hstack([self.X, column]), self.y())
        predicted = model.predict(np.hstack([self.live, shown]))
        return compose.neutralize_by_era(
            predicted, self.live_benchmark[:, None], self.live_eras
        )

    def shrunk(self, seed):
        dae = embedders.DAEEmbedder(3, hidden=(8,), max_epochs=2, random_state=seed)
        model = compose.FamiliarityShrinker(Ridge(alpha=10.0), dae)
        model.fit(self.X, self.y(), eras=self.eras)
        return model.predict(self.live, eras=self.live_eras)

    def mix(self, seed):
        weights = {"trees": 1, "net": 3, "ridge": -0.5}
        return self.blend(weights, seed)

    def mixed_again(self, seed):
        return self.blend({"mix": 2, "told": 1}, seed)

    def blend(self, weights, seed):
        each = [w * self.ranked(getattr(self, n)(seed)) for n, w in weights.items()]
        return sum(each) / sum(map(abs, weights.values()))
