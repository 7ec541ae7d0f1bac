"""Pipelines that are exported, and the program that does the server's part."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from lightgbm import LGBMRegressor
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import StackingRegressor, VotingRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import ElasticNet, LinearRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from xgboost import XGBRegressor

from numerai_features import (
    AugmentedRegressor,
    ContrastiveEmbedder,
    CutoutAugmenter,
    DAEEmbedder,
    EraAutoencoder,
    EraBlend,
    EraBoostedRegressor,
    EraMLP,
    EraNeutralizer,
    EraRanker,
    EraRegimes,
    EraStatistics,
    EraTransformer,
    FactorAnalysisEmbedder,
    FamiliarityShrinker,
    LatentFeatures,
    MaskedAutoencoder,
    PanelLGBMRegressor,
    PanelXGBRegressor,
    ResidualTargetRegressor,
    SequenceDAE,
    SupervisedAEMLP,
    UMAPEmbedder,
    make_era_panel,
)

PROGRAM = Path(__file__).with_name("on_the_server.py")
NOT_THERE = ("numerai_features", "torch", "sklearn", "umap", "pynndescent")
FAST = {"hidden": (8,), "max_epochs": 1, "random_state": 0}
LITTLE = {"width": 8, "n_heads": 2, "n_layers": 1, "max_epochs": 1, "random_state": 0}
WIDE = {"decoder_units": 6, "dropout": (0.1,) * 4, "max_epochs": 1, "random_state": 0}

PANEL = make_era_panel(n_eras=12, rows_per_era=60, n_features=12, random_state=0)
FRAME = PANEL.to_frame(targets=[])
NAMES = [name for name in FRAME.columns if name != "era"]
Y = PANEL.y("target_alpha_20")
BENCHMARK = PANEL.X[:, 0] / 4


def live_frame(n_rows=70, eras="X", seed=1):
    """Return live rows: other ids, not in their order, and further columns."""
    rng = np.random.default_rng(seed)
    live = FRAME.sample(n_rows, random_state=seed)
    live.index = [f"n{i:06x}" for i in rng.permutation(n_rows)]
    live["era"] = eras
    return live.rename_axis("id")


def trees(**params):
    params = {"n_estimators": 8, "min_child_samples": 5, "n_jobs": 1, **params}
    return LGBMRegressor(verbose=-1, random_state=0, **params)


def boosted(**params):
    return XGBRegressor(n_estimators=8, max_depth=3, n_jobs=1, **params)


def latents():
    """Return the embedders of an ordinary pipeline."""
    umap = UMAPEmbedder(2, n_neighbors=5, batch_size=64, **FAST)
    return [("fa", FactorAnalysisEmbedder(3)), ("dae", DAEEmbedder(3, **FAST)),
            ("umap", umap)]  # fmt: skip


def beside(model, embedders=None, **params):
    embedders = FactorAnalysisEmbedder(2) if embedders is None else embedders
    return make_pipeline(LatentFeatures(embedders, **params), model)


def era_wise(cls, *args, **params):
    return cls(*args, keep_era=True, **params)


def unfitted():
    """Return pipelines by name; each part that can be exported is in one of them."""
    dae = DAEEmbedder(3, n_models=2, output="deep", code_activation="relu", **FAST)
    every = [
        ("by_era", FactorAnalysisEmbedder(2, center="era")),
        ("statistics", EraStatistics(features=[3, 1])),
        ("deep", dae),
        ("aemlp", SupervisedAEMLP(3, hidden=(6,), **WIDE)),
        ("mlp", EraMLP(activation="hardswish", **FAST)),
        ("contrastive", ContrastiveEmbedder(3, **FAST)),
        ("rows", EraTransformer(3, n_models=2, **LITTLE)),
        ("induced", EraTransformer(2, attention="induced", **LITTLE)),
        ("tokens", EraTransformer(2, tokens="features", n_groups=3, **LITTLE)),
        ("masked", MaskedAutoencoder(3, target_aware=True, n_models=2, **FAST)),
        ("sequence", SequenceDAE(2, hidden=4, max_epochs=1, random_state=0)),
        ("regime", EraRegimes(2, n_axes=3, hidden=4, max_epochs=1, random_state=0)),
        ("era", EraAutoencoder(3, random_units=(4, 5), n_models=2, **FAST)),
        ("pca", make_pipeline(StandardScaler(), PCA(2, whiten=True))),
        ("frozen", FrozenEstimator(FactorAnalysisEmbedder(1).fit(FRAME[NAMES]))),
    ]
    argmax = EraAutoencoder(7, output="both", random_units=(4, 5), **FAST)
    union = FeatureUnion(
        [("a", PCA(2)), ("b", "passthrough"), ("c", "drop")],
        transformer_weights={"a": 0.5},
    )
    columns = ColumnTransformer(
        [("s", StandardScaler(), NAMES[4:7]), ("p", "passthrough", [1]),
         ("m", FunctionTransformer(), [False, True] * 6), ("d", "drop", [2]),
         ("l", PCA(1), slice(3, 6))],
        remainder=PCA(1),
    )  # fmt: skip
    blend = [("trees", beside(trees())), ("mlp", EraMLP(**FAST)), ("ridge", "drop")]
    two = [("ridge", Ridge()), ("trees", trees()), ("none", "drop")]
    shrunk = era_wise(FamiliarityShrinker, beside(trees()), dae, strength=2.0)
    per_era = FamiliarityShrinker(
        EraMLP(**FAST), FrozenEstimator(FactorAnalysisEmbedder(2).fit(FRAME[NAMES])),
        per="era",
    )  # fmt: skip
    return {
        "originals": make_pipeline(LatentFeatures(), trees()),
        "latents": beside(trees(), latents(), quantize="uint8"),
        "argmax": beside(trees(), argmax, quantize="int8"),
        "latents_xgboost": beside(boosted(base_score=0.2), latents(), quantize="int8"),
        "xgboost_own_base": beside(boosted(), passthrough=False),
        "every_embedder": beside(ElasticNet(0.01), every),
        "aemlp": SupervisedAEMLP(3, hidden=(6,), n_models=2, output="sigmoid", **WIDE),
        "mlp": EraMLP(activation="silu", **FAST),
        "era_transformer": EraTransformer(attention="full", positional=True, **LITTLE),
        "union": beside(make_pipeline(union, LinearRegression()), keep_era=False),
        "columns": make_pipeline(columns, Ridge()),
        "blend": era_wise(EraBlend, blend, weights=[2, -0.5, 7]),
        "neutral": era_wise(EraNeutralizer, beside(trees()), proportion=0.5),
        "neutral_to_some": EraNeutralizer(EraMLP(**FAST), features=NAMES[3:6]),
        "neutral_blend": EraNeutralizer(
            EraBlend([("trees", trees()), *blend[1:]]), neutralize_to="benchmark"
        ),
        "augmented": era_wise(AugmentedRegressor, beside(trees()), CutoutAugmenter()),
        "shrunk": shrunk,
        "shrunk_by_era": per_era,
        "ranked": era_wise(EraRanker, beside(Ridge()), output="gauss"),
        "residual": era_wise(ResidualTargetRegressor, beside(trees()), 0.5),
        "era_boosted": beside(
            EraBoostedRegressor(boosted(), n_rounds=2), keep_era=True
        ),
        "panel_lightgbm": beside(PanelLGBMRegressor(trees())),
        "panel_xgboost": beside(PanelXGBRegressor(boosted())),
        "voting": beside(VotingRegressor(two, weights=[1, 2, 3])),
        "stacking": beside(StackingRegressor(two, Ridge(), cv=2, passthrough=True)),
        "search": GridSearchCV(beside(Ridge()), {"ridge__alpha": [1, 9]}, cv=2),
    }


def fit(pipeline):
    residual = isinstance(pipeline, ResidualTargetRegressor)
    extra = {"benchmark": BENCHMARK} if residual else {}
    return pipeline.fit(table_for(pipeline, FRAME), Y, **extra)


def table_for(pipeline, frame):
    """Return the features alone for a pipeline that would take eras for a feature."""
    steps = getattr(pipeline, "steps", [("", pipeline)])
    takes_eras = type(steps[0][1]).__module__.startswith("numerai_features")
    searched = isinstance(pipeline, GridSearchCV)
    return frame if takes_eras or searched else frame[NAMES]


def needs_benchmark(pipeline):
    return getattr(pipeline, "neutralize_to", None) == "benchmark"


def on_the_server(folder, live, python=sys.executable, forbidden=NOT_THERE):
    """Run all exported files of a folder on live rows; return the results by name."""
    benchmark = np.random.default_rng(0).normal(size=len(live))
    np.savez(
        folder / "rows.npz",
        features=live[NAMES].to_numpy(),
        names=np.array(NAMES),
        ids=np.array(live.index, str),
        eras=np.array(live["era"], str),
        benchmark=benchmark,
    )
    command = [python, str(PROGRAM), str(folder), *forbidden]
    subprocess.run(command, check=True, cwd=folder)
    found = {}
    for file in folder.glob("*.pkl"):
        wrong, right = file.with_suffix(".txt"), file.with_suffix(".npz")
        found[file.stem] = wrong.read_text() if wrong.exists() else np.load(right)
    return found, benchmark
