"""LightGBM and XGBoost with Numerai's parameters, and memory-saving input tables."""

from numerai_features.trees._dataset import lightgbm_dataset
from numerai_features.trees._dmatrix import quantile_dmatrix
from numerai_features.trees._lightgbm import make_lightgbm
from numerai_features.trees._tables import tree_table
from numerai_features.trees._xgboost import make_xgboost

__all__ = [
    "lightgbm_dataset",
    "make_lightgbm",
    "make_xgboost",
    "quantile_dmatrix",
    "tree_table",
]
