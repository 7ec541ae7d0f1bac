"""Check that eras and weights reach every part of an estimator that takes them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from sklearn.frozen import FrozenEstimator

EXTRAS = {"eras", "sample_weight"}


def extras_of(method: Any) -> set[str]:
    """Return which of `EXTRAS` a method takes by name."""
    return EXTRAS & set(inspect.signature(method).parameters)


def out_of_reach(estimator: Any, extra: str) -> str | None:
    """Return the name of a part that takes an extra but does not receive it.

    Parameters
    ----------
    estimator : estimator
        Estimator whose ``fit`` will be called. If its ``fit`` takes the extra by name,
        it is trusted to pass it on. The ``fit`` of a Pipeline, a FeatureUnion or a
        search does not take it by name.
    extra : {"eras", "sample_weight"}

    Returns
    -------
    str or None
        Such as ``"pipeline.latentfeatures"``; None if there is no such part.
    """
    if extra in extras_of(estimator.fit):
        return None
    for name, part in _parts_to_fit(estimator):
        if extra in extras_of(part.fit):
            return name
    return None


def _parts_to_fit(estimator: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts that the estimator's fit fits, with their dotted names."""
    if isinstance(estimator, FrozenEstimator) or not hasattr(estimator, "get_params"):
        return
    parts = estimator.get_params(deep=True)
    frozen = [n for n, part in parts.items() if isinstance(part, FrozenEstimator)]
    for name, part in parts.items():
        within = any(name == one or name.startswith(f"{one}__") for one in frozen)
        if not within and not isinstance(part, type) and callable(_fit_of(part)):
            yield name.replace("__", "."), part


def _fit_of(part: Any) -> Any:
    return getattr(part, "fit", None)
