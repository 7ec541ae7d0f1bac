"""Combine latents, original features and models."""

from numerai_features.compose._augmented import (
    AugmentedClassifier,
    AugmentedRegressor,
)
from numerai_features.compose._blend_weights import fit_blend_weights
from numerai_features.compose._latent_features import LatentFeatures

__all__ = [
    "AugmentedClassifier",
    "AugmentedRegressor",
    "LatentFeatures",
    "fit_blend_weights",
]
