"""Check that eras, weights and a benchmark reach every part that takes them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import has_fit_parameter

EXTRAS = {"eras", "sample_weight", "benchmark"}


def extras_of(method: Any) -> set[str]:
    """Return which of `EXTRAS` a method takes by name."""
    return EXTRAS & set(inspect.signature(method).parameters)


def wants(estimator: Any, extra: str, method: str = "fit") -> bool:
    """Whether a method of an estimator takes an extra, and makes use of it.

    Those of ours that contain others take a benchmark by name, but may have nobody to
    hand it on to.
    """
    if isinstance(estimator, FrozenEstimator) and method == "fit":
        return False
    if hasattr(estimator, "_wants"):
        return bool(estimator._wants(extra, method))
    call = getattr(estimator, method, None)
    return callable(call) and extra in extras_of(call)


def request_as_wanted(estimator: Any, routing: Any, methods: dict[str, str]) -> Any:
    """Return metadata requests, of a benchmark only where it is of use.

    Parameters
    ----------
    estimator : estimator
    routing : MetadataRequest
        What it requests by its signatures.
    methods : dict
        For each method the one that makes use of the benchmark.
    """
    for method, user in methods.items():
        request = getattr(routing, method)
        asked = request.requests["benchmark"] is True  # by default, not by the user
        if asked and not wants(estimator, "benchmark", user):
            request.add_request(param="benchmark", alias=False)
    return routing


def out_of_reach(estimator: Any, extra: str) -> str | None:
    """Return the name of a part that takes an extra but does not receive it.

    Parameters
    ----------
    estimator : estimator
        Estimator whose ``fit`` will be called. If its ``fit`` takes the extra by name,
        it is trusted to pass it on. The ``fit`` of a Pipeline, a FeatureUnion or a
        search does not take it by name.
    extra : {"eras", "sample_weight", "benchmark"}

    Returns
    -------
    str or None
        Such as ``"pipeline.latentfeatures"``; None if there is no such part.
    """
    if extra in extras_of(estimator.fit):
        return None
    for name, part in _parts_to_fit(estimator):
        if wants(part, extra):
            return name
    return None


def check_takes_weights(estimator: Any, sample_weight: Any) -> None:
    """Raise if there are weights, and the estimator's fit takes none."""
    if sample_weight is None or has_fit_parameter(estimator, "sample_weight"):
        return
    raise ValueError(
        f"sample_weight came, but {type(estimator).__name__}.fit takes none. Leave it "
        "out, or use another estimator."
    )


def eras_for(
    estimator: Any, eras: Any, *, name: str, in_table: bool = False
) -> dict[str, Any]:
    """Return what hands eras on to an estimator's fit, if it takes them.

    Parameters
    ----------
    estimator : estimator
        Whose ``fit`` will be called.
    eras : array-like or None
        Labels, one a row.
    name : str
        The parameter that holds the estimator, for the message.
    in_table : bool, default=False
        Whether the table that it will be handed has the column ``era``.

    Raises
    ------
    ValueError
        If a part of the estimator takes eras, which would not get there.
    """
    if eras is None:
        return {}
    if has_fit_parameter(estimator, "eras"):
        return {"eras": eras}
    part = None if in_table else out_of_reach(estimator, "eras")
    if part is not None:
        raise ValueError(
            f"{name}: {part!r} inside the {type(estimator).__name__} takes "
            "eras, which would not reach it. Pass X as a frame with the column "
            "'era', and keep_era=True: it takes the column out itself. Without the "
            "column, and without eras=, all of them see one era."
        )
    return {}


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
