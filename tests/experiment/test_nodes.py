"""An arm as nodes predicts what its estimators predict, for each form of columns."""

import numpy as np
import pandas as pd
import pytest

from numerai_features.datasets import make_era_panel
from numerai_features.experiment import Experiment
from numerai_features.experiment._fits import FoldFits
from numerai_features.experiment._nodes import arm_node, filled
from numerai_features.export import _runtime
from numerai_features.export._model import assembled, uses_benchmark
from numerai_features.model_selection._folds import Fold

PANEL = make_era_panel(n_eras=24, rows_per_era=40, n_features=12, random_state=2)
NAMES = PANEL.feature_names
FOLD = Fold(1, slice(0, 640), slice(640, 960))
FAST = {"hidden": [8], "max_epochs": 1}
LATENTS = {
    "fa": {"embedder": "FactorAnalysisEmbedder", "n_components": 3},
    "by_era": {"embedder": "FactorAnalysisEmbedder", "n_components": 2,
               "center": "era", "features": NAMES[2:9]},
    "statistics": {"embedder": "EraStatistics", "features": NAMES[:4]},
    "regime": {"embedder": "EraRegimes", "n_components": 2, "hidden": 4,
               "n_axes": 3, "n_steps": 4, "max_epochs": 1},
    "dae": {"embedder": "DAEEmbedder", "n_components": 2, **FAST},
    "codes": {"embedder": "SupervisedAEMLP", "n_components": 2, "hidden": [8],
              "decoder_units": 6, "dropout": [0.1] * 4, "max_epochs": 1},
    "rows": {"embedder": "EraTransformer", "n_components": 2, "width": 8,
             "max_epochs": 1},
    "umap": {"embedder": "UMAPEmbedder", "n_components": 2, "n_neighbors": 5, **FAST},
}  # fmt: skip
MODELS = {
    "ridge": {"model": "Ridge"},
    "net": {"model": "EraMLP", **FAST},
    "aemlp": {"model": "SupervisedAEMLP", "n_components": 2, "hidden": [8],
              "decoder_units": 6, "dropout": [0.1] * 4, "max_epochs": 1},
    "attentive": {"model": "EraTransformer", "width": 8, "max_epochs": 1},
    "boosted": {"model": "EraBoostedRegressor", "n_rounds": 2},
    "xgb": {"model": "XGBoost", "n_jobs": 1, "params": {"n_estimators": 5}},
}  # fmt: skip
ARMS = {
    "originals": {},
    "some": {"features": NAMES[3:7]},
    "all_latents": {"latents": list(LATENTS)},
    "latents_alone": {"latents": ["fa", "by_era"], "features": []},
    "xgb": {"model": "xgb", "latents": ["dae"], "target": ["target_alpha_20",
                                                          "target_alpha_60"]},
    "ridge": {"model": "ridge", "latents": ["fa", "statistics"]},
    "ridge_alone": {"model": "ridge", "latents": ["dae"], "features": []},
    "net": {"model": "net", "latents": ["by_era"]},
    "net_alone": {"model": "net", "latents": ["fa"], "features": []},
    "net_of_originals": {"model": "net", "features": NAMES[1:]},
    "aemlp": {"model": "aemlp", "target": ["target_alpha_20", "target_alpha_60"]},
    "attentive": {"model": "attentive", "latents": ["rows"]},
    "boosted": {"model": "boosted", "latents": ["codes"]},
    "told": {"benchmark_feature": True, "latents": ["fa"]},
    "net_told": {"model": "net", "benchmark_feature": True, "features": []},
    "neutral": {"neutralize": {"proportion": 0.7}, "shrink": "by_row"},
    "apart": {"model": "ridge", "neutralize": {"to": "benchmark"}, "shrink": "dae"},
}  # fmt: skip


@pytest.fixture(scope="module", params=["none", "int8", "uint8"])
def fits(request, tmp_path_factory):
    """The fits of one fold, with each type of latents."""
    folder = tmp_path_factory.mktemp("nodes")
    frame = PANEL.to_frame()
    frame.index = pd.Index([f"n{i}" for i in range(len(frame))], name="id")
    frame.to_parquet(folder / "train.parquet")
    rng = np.random.default_rng(0)
    benchmark = frame[["era"]].assign(own=rng.normal(size=len(frame)))
    benchmark.to_parquet(folder / "benchmark.parquet")
    embedders = LATENTS | {
        "by_row": {"embedder": "FactorAnalysisEmbedder", "n_components": 2,
                   "features": NAMES[4:]},
    }  # fmt: skip
    tables = {
        "data": {"files": ["train.parquet"], "benchmark": "benchmark.parquet"},
        "features": {"set": NAMES},
        "targets": {"main": "target_alpha_20", "also": ["target_alpha_60"]},
        "latents": {"quantize": request.param, **embedders},
        "models": MODELS,
        "model": {"n_jobs": 1, "params": {"n_estimators": 5}},
        "arms": ARMS,
    }
    experiment = Experiment.from_dict(tables, base=folder, output=folder / "out")
    return FoldFits(experiment, PANEL, FOLD, 0, benchmark["own"].to_numpy())


@pytest.mark.parametrize("arm", ARMS)
def test_nodes_predict_as_the_estimators(fits, arm):
    fitted = fits.fit(arm, width=0, tell=lambda step: None)
    expected = fits.predict(fitted)
    node = filled(arm_node(fitted, fits), PANEL.n_features)
    column = "own" if uses_benchmark(node) else None
    model = assembled(node, NAMES, benchmark=column)
    live = PANEL.to_frame(targets=[]).iloc[FOLD.test]
    beside = pd.DataFrame({"own": fits.benchmark[FOLD.test]}, live.index)
    for rows in (live, live.astype(dict.fromkeys(NAMES, np.float32))):
        found = _runtime.raw_predictions(model, rows, beside)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.std(expected) > 1e-4
