"""Augmenters: they add new rows to the rows of a table."""

from numerai_features.augmenters._balance import BalanceAugmenter
from numerai_features.augmenters._checks import check_augmenter
from numerai_features.augmenters._compose import ComposeAugmenters
from numerai_features.augmenters._cutout import CutoutAugmenter
from numerai_features.augmenters._dream import DreamAugmenter
from numerai_features.augmenters._mixup import EraMixupAugmenter
from numerai_features.augmenters._noise import GaussianNoiseAugmenter
from numerai_features.augmenters._ridge_mixture import RidgeMixtureTargets

__all__ = [
    "BalanceAugmenter",
    "ComposeAugmenters",
    "CutoutAugmenter",
    "DreamAugmenter",
    "EraMixupAugmenter",
    "GaussianNoiseAugmenter",
    "RidgeMixtureTargets",
    "check_augmenter",
]
