"""Cross-validation that knows eras."""

from numerai_features._eras import EraLeakageError
from numerai_features.model_selection._split import EraKFold, EraWalkForward

__all__ = ["EraKFold", "EraLeakageError", "EraWalkForward"]
