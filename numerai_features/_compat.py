"""The only module that uses private scikit-learn names or depends on its version."""

from __future__ import annotations

from typing import Any

from sklearn.base import _fit_context as fit_context
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    InvalidParameterError,
    Options,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils.metaestimators import _BaseComposition as BaseComposition
from sklearn.utils.validation import _check_feature_names_in as check_feature_names_in

__all__ = [
    "BaseComposition",
    "HasMethods",
    "Interval",
    "InvalidParameterError",
    "Options",
    "StrOptions",
    "check_feature_names_in",
    "consumes",
    "fit_context",
    "routing_enabled",
    "validate_parameter_constraints",
]


def routing_enabled() -> bool:
    """Whether the user has enabled scikit-learn's metadata routing."""
    from sklearn import get_config

    return bool(get_config().get("enable_metadata_routing", False))


def consumes(estimator: Any, method: str, param: str) -> bool:
    """Whether metadata routing would pass `param` to `method` of `estimator`."""
    from sklearn.utils.metadata_routing import get_routing_for_object

    routing = get_routing_for_object(estimator)
    return bool(param in routing.consumes(method, [param]))
