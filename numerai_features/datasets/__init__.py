"""Numerai's data: panels of rows sorted by era, parquet files and metadata."""

from numerai_features.datasets._metadata import NumeraiMetadata
from numerai_features.datasets._panel import EraPanel
from numerai_features.datasets._panel_rows import PanelRows
from numerai_features.datasets._panel_writer import PanelWriter
from numerai_features.datasets._parquet import read_numerai
from numerai_features.datasets._synthetic import make_era_panel
from numerai_features.datasets._truth import SyntheticTruth

__all__ = [
    "EraPanel",
    "NumeraiMetadata",
    "PanelRows",
    "PanelWriter",
    "SyntheticTruth",
    "make_era_panel",
    "read_numerai",
]
