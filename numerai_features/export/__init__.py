"""From a fitted pipeline to one file that runs on Numerai's servers."""

from numerai_features.export._check import ExportCheck, check_export
from numerai_features.export._export import export_predict

__all__ = ["ExportCheck", "check_export", "export_predict"]
