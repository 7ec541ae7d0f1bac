"""The eras that the parts of a fitted estimator were fitted on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._eras import EraLeakageWarning, era_label, near_eras
from numerai_features._warn import warn

_HOLD_FITTED = ("steps", "transformer_list")  # of Pipeline and FeatureUnion
_TOLD = 5


def components(estimator: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the parts of a fitted estimator that have ``fitted_eras_``.

    Parts are found by duck typing: in fitted attributes (``embedders_``,
    ``best_estimator_``, ``estimators_`` ...), the steps of a Pipeline or FeatureUnion,
    and in a FrozenEstimator.

    Parameters
    ----------
    estimator : estimator
        Fitted.
    path : str, default=""
        Prefix of the names.

    Yields
    ------
    path : str
        Dotted, such as ``"pipeline.latentfeatures.fa"``.
    component : estimator
        With an attribute ``fitted_eras_``.
    """
    yield from _walk(estimator, path or _name_of(estimator), set())


def warn_of_prefitted(
    estimator: Any, eras: NDArray[np.int64] | None, horizon: int = 1
) -> None:
    """Warn of frozen embedders that were fitted on eras which are scored.

    Only parts wrapped by FrozenEstimator are fitted outside the fold; all others are
    fitted on the splitter's training rows.

    Parameters
    ----------
    estimator : estimator
        Fitted or not.
    eras : ndarray of int or None
        Numbers of the scored eras, ascending; None if they are names, which cannot be
        compared with the fitted eras.
    horizon : int, default=1
        Eras that the target spans.
    """
    if eras is None:
        return
    for name, frozen in _frozen(estimator):
        for path, part in components(frozen.estimator, name):
            near = near_eras(_eras_of(part), eras, horizon)
            if near.any():
                warn(
                    f"{path} was fitted before the split, on {int(near.sum())} eras "
                    "that are scored, or whose targets overlap those of scored eras: "
                    f"{tell_eras(_eras_of(part)[near])}. The score is too high. Put "
                    "the unfitted embedder into the Pipeline, or freeze one that was "
                    "fitted on other eras.",
                    EraLeakageWarning,
                )
                break  # its parts were fitted on the same eras


def has_prefitted(estimator: Any) -> bool:
    """Whether a part of an estimator is wrapped by FrozenEstimator."""
    return any(True for _ in _frozen(estimator))


def tell_eras(numbers: NDArray[np.int64]) -> str:
    """Return the first few labels of eras.

    Examples
    --------
    >>> tell_eras(np.arange(1, 9))
    '0001, 0002, 0003, 0004, 0005 and 3 more'
    """
    told = ", ".join(era_label(int(n)) for n in numbers[:_TOLD])
    more = len(numbers) - _TOLD
    return told if more <= 0 else f"{told} and {more} more"


def _eras_of(part: Any) -> NDArray[np.int64]:
    seen = part.fitted_eras_
    return np.asarray([] if seen is None else seen, np.int64)


def _frozen(estimator: Any) -> Iterator[tuple[str, Any]]:
    from sklearn.frozen import FrozenEstimator

    if isinstance(estimator, FrozenEstimator):
        yield _name_of(estimator.estimator), estimator
        return
    if not hasattr(estimator, "get_params"):  # its parts cannot be listed
        return
    seen = set()
    for name, value in estimator.get_params(deep=True).items():
        if isinstance(value, FrozenEstimator) and id(value) not in seen:
            seen.add(id(value))
            yield name.replace("__", "."), value


def _walk(part: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    from sklearn.frozen import FrozenEstimator

    while isinstance(part, FrozenEstimator):
        part = part.estimator
    if not hasattr(part, "get_params") or isinstance(part, type) or id(part) in seen:
        return
    seen.add(id(part))
    attributes = vars(part)
    if "fitted_eras_" in attributes:
        yield path, part
    for name, value in attributes.items():
        fitted = name.endswith("_") and not name.startswith("_")
        if not fitted and name not in _HOLD_FITTED:
            continue
        for below, child in _children(name, value):
            yield from _walk(child, f"{path}.{below}", seen)


def _children(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the estimators of an attribute: one, or a list or dict of them."""
    if isinstance(value, dict):
        yield from ((str(key), item) for key, item in value.items())
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            if isinstance(item, tuple) and len(item) >= 2:
                yield str(item[0]), item[1]
            else:
                yield f"{name}[{i}]", item
    else:
        yield name, value


def _name_of(estimator: Any) -> str:
    return type(estimator).__name__.lower()
