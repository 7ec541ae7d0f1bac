"""Embedders: rows to latent features."""

from numerai_features.embedders._aemlp import SupervisedAEMLP
from numerai_features.embedders._contrastive import ContrastiveEmbedder
from numerai_features.embedders._dae import DAEEmbedder
from numerai_features.embedders._era_autoencoder import EraAutoencoder
from numerai_features.embedders._era_mlp import EraMLP
from numerai_features.embedders._era_regimes import EraRegimes
from numerai_features.embedders._era_statistics import EraStatistics
from numerai_features.embedders._era_transformer import EraTransformer
from numerai_features.embedders._factor_analysis import FactorAnalysisEmbedder
from numerai_features.embedders._latent_map import LatentMapDisplay
from numerai_features.embedders._masked import MaskedAutoencoder
from numerai_features.embedders._reconstruction import ReconstructionDisplay
from numerai_features.embedders._sequence_dae import SequenceDAE
from numerai_features.embedders._umap import UMAPEmbedder

__all__ = [
    "ContrastiveEmbedder",
    "DAEEmbedder",
    "EraAutoencoder",
    "EraMLP",
    "EraRegimes",
    "EraStatistics",
    "EraTransformer",
    "FactorAnalysisEmbedder",
    "LatentMapDisplay",
    "MaskedAutoencoder",
    "ReconstructionDisplay",
    "SequenceDAE",
    "SupervisedAEMLP",
    "UMAPEmbedder",
]
