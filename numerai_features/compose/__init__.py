"""Combine latents, original features and models."""

from numerai_features.compose._augmented import (
    AugmentedClassifier,
    AugmentedRegressor,
)
from numerai_features.compose._era_neutralizer import (
    EraNeutralizer,
    neutralize_by_era,
)
from numerai_features.compose._era_ranker import EraRanker, rank_by_era
from numerai_features.compose._latent_features import LatentFeatures
from numerai_features.compose._residual_target import ResidualTargetRegressor

__all__ = [
    "AugmentedClassifier",
    "AugmentedRegressor",
    "EraNeutralizer",
    "EraRanker",
    "LatentFeatures",
    "ResidualTargetRegressor",
    "neutralize_by_era",
    "rank_by_era",
]
