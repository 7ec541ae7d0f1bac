"""From a fitted pipeline to one file that runs on Numerai's servers."""

from numerai_features.export._export import export_predict

__all__ = ["export_predict"]
