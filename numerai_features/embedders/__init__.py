"""Embedders: rows to latent features."""

from numerai_features.embedders._aemlp import SupervisedAEMLP
from numerai_features.embedders._dae import DAEEmbedder
from numerai_features.embedders._factor_analysis import FactorAnalysisEmbedder

__all__ = ["DAEEmbedder", "FactorAnalysisEmbedder", "SupervisedAEMLP"]
