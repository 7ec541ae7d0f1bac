"""Latent features, more rows and honest validation for Numerai."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0.dev0"

_SUBPACKAGES = (
    "augmenters",
    "compose",
    "datasets",
    "distributed",
    "embedders",
    "encoders",
    "experiment",
    "export",
    "metrics",
    "model_selection",
    "moments",
    "tournament",
    "trees",
)
_PUBLIC = {
    "AugmentedClassifier": "compose",
    "AugmentedRegressor": "compose",
    "BalanceAugmenter": "augmenters",
    "CombinatorialPurgedEraCV": "model_selection",
    "ComposeAugmenters": "augmenters",
    "ContrastiveEmbedder": "embedders",
    "CutoutAugmenter": "augmenters",
    "DAEEmbedder": "embedders",
    "DreamAugmenter": "augmenters",
    "EraAutoencoder": "embedders",
    "EraBlend": "compose",
    "EraBoostedRegressor": "compose",
    "EraHoldout": "model_selection",
    "EraKFold": "model_selection",
    "EraLeakageError": "model_selection",
    "EraLeakageWarning": "model_selection",
    "EraMLP": "embedders",
    "EraMixupAugmenter": "augmenters",
    "EraNeutralizer": "compose",
    "EraPanel": "datasets",
    "EraRanker": "compose",
    "EraRegimes": "embedders",
    "EraSplitDisplay": "model_selection",
    "EraStatistics": "embedders",
    "EraTransformer": "embedders",
    "EraWalkForward": "model_selection",
    "Experiment": "experiment",
    "FactorAnalysisEmbedder": "embedders",
    "FamiliarityShrinker": "compose",
    "FittedModel": "experiment",
    "GaussianNoiseAugmenter": "augmenters",
    "LatentFeatures": "compose",
    "LatentMapDisplay": "embedders",
    "MaskedAutoencoder": "embedders",
    "ReconstructionDisplay": "embedders",
    "RepeatedEraKFold": "model_selection",
    "PanelLGBMRegressor": "compose",
    "PanelXGBRegressor": "compose",
    "ResidualTargetRegressor": "compose",
    "RidgeMixtureTargets": "augmenters",
    "SetAsideWarning": "model_selection",
    "SequenceDAE": "embedders",
    "SupervisedAEMLP": "embedders",
    "UMAPEmbedder": "embedders",
    "check_export": "export",
    "check_fitted_eras": "model_selection",
    "check_splits": "model_selection",
    "cross_val_predict_eras": "model_selection",
    "era_scores": "metrics",
    "export_predict": "export",
    "make_era_panel": "datasets",
    "make_era_scorer": "metrics",
    "make_lightgbm": "trees",
    "make_xgboost": "trees",
    "lightgbm_dataset": "trees",
    "quantile_dmatrix": "trees",
    "measure_leakage": "model_selection",
    "read_numerai": "datasets",
    "summarize": "metrics",
}
__all__ = ["__version__", *sorted([*_PUBLIC, *_SUBPACKAGES])]


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
