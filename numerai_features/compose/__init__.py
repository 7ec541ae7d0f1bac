"""Combine latents, original features and models."""

from numerai_features.compose._augmented import (
    AugmentedClassifier,
    AugmentedRegressor,
)
from numerai_features.compose._blend_weights import fit_blend_weights
from numerai_features.compose._era_blend import EraBlend
from numerai_features.compose._era_boosted import EraBoostedRegressor
from numerai_features.compose._era_neutralizer import (
    EraNeutralizer,
    neutralize_by_era,
)
from numerai_features.compose._era_ranker import EraRanker, rank_by_era
from numerai_features.compose._familiarity import FamiliarityShrinker
from numerai_features.compose._latent_features import LatentFeatures
from numerai_features.compose._panel_regressors import (
    PanelLGBMRegressor,
    PanelXGBRegressor,
)
from numerai_features.compose._residual_target import ResidualTargetRegressor

__all__ = [
    "AugmentedClassifier",
    "AugmentedRegressor",
    "EraBlend",
    "EraBoostedRegressor",
    "EraNeutralizer",
    "EraRanker",
    "FamiliarityShrinker",
    "LatentFeatures",
    "PanelLGBMRegressor",
    "PanelXGBRegressor",
    "ResidualTargetRegressor",
    "fit_blend_weights",
    "neutralize_by_era",
    "rank_by_era",
]
