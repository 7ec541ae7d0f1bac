"""Warnings that point to the user's line."""

from __future__ import annotations

import sys
import warnings

_OURS = ("numerai_features", "sklearn", "joblib", "contextlib")


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line outside of this package that has led here.

    A fixed ``stacklevel`` would point into scikit-learn, or into this package, where a
    subclass, a decorator or a pipeline adds calls.

    Parameters
    ----------
    message : str
    category : type, default=UserWarning
    """
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
        level += 1
    warnings.warn(message, category, stacklevel=level)


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in _OURS
