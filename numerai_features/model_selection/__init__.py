"""Cross-validation by era: purged splits, checks and predictions."""

from numerai_features._eras import EraLeakageError, EraLeakageWarning
from numerai_features._sealed import SetAsideWarning
from numerai_features.model_selection._checks import (
    check_fitted_eras,
    check_splits,
    overlapping_eras,
)
from numerai_features.model_selection._combinatorial import CombinatorialPurgedEraCV
from numerai_features.model_selection._display import EraSplitDisplay
from numerai_features.model_selection._k_fold import EraKFold, RepeatedEraKFold
from numerai_features.model_selection._leakage import LeakageEstimate, measure_leakage
from numerai_features.model_selection._predict import cross_val_predict_eras
from numerai_features.model_selection._walk_forward import EraHoldout, EraWalkForward

__all__ = [
    "CombinatorialPurgedEraCV",
    "EraHoldout",
    "EraKFold",
    "EraLeakageError",
    "EraLeakageWarning",
    "EraSplitDisplay",
    "EraWalkForward",
    "LeakageEstimate",
    "RepeatedEraKFold",
    "SetAsideWarning",
    "check_fitted_eras",
    "check_splits",
    "cross_val_predict_eras",
    "measure_leakage",
    "overlapping_eras",
]
