"""Check that eras, weights and a benchmark reach every part that takes them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import has_fit_parameter

from numerai_features._frozen import check_same_columns, selects_columns, unfrozen
from numerai_features._validation import (
    ERA_COLUMN,
    column_names,
    is_frame,
    with_eras,
)

EXTRAS = {"eras", "sample_weight", "benchmark"}


def extras_of(method: Any) -> set[str]:
    """Return the arguments in `EXTRAS` that a method takes by name."""
    return EXTRAS & set(inspect.signature(method).parameters)


def wants(estimator: Any, extra: str, method: str = "fit") -> bool:
    """Return whether a method of an estimator takes an extra argument, and uses it.

    Estimators of this package that wrap others take a benchmark by name, even if no
    wrapped estimator uses it. Their method `_wants` gives the answer.
    """
    if isinstance(estimator, FrozenEstimator) and method == "fit":
        return False
    if hasattr(estimator, "_wants"):
        return bool(estimator._wants(extra, method))
    call = getattr(estimator, method, None)
    return callable(call) and extra in extras_of(call)


def request_as_wanted(estimator: Any, routing: Any, methods: dict[str, str]) -> Any:
    """Return metadata requests that ask for a benchmark only if it is used.

    Parameters
    ----------
    estimator : estimator
    routing : MetadataRequest
        The requests that follow from the estimator's signatures. Changed in place.
    methods : dict
        For each requesting method, the method of the estimator that uses the benchmark.
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


def check_knows_columns(estimator: Any, owner: Any, name: str) -> None:
    """Raise if a frozen estimator was fitted on other columns than its owner.

    Estimators that select columns by name find them, and report missing ones.

    Parameters
    ----------
    estimator : estimator
        Frozen or not.
    owner : estimator
        It has read the columns that it is fitted to.
    name : str
        Name of the parameter that holds the estimator, for the message.
    """
    if isinstance(estimator, FrozenEstimator):
        if not selects_columns(estimator.estimator):
            check_same_columns(estimator, owner, name)


def check_takes_weights(estimator: Any, sample_weight: Any) -> None:
    """Raise if weights were passed, but the estimator's fit takes none."""
    if sample_weight is None or has_fit_parameter(estimator, "sample_weight"):
        return
    raise ValueError(
        f"sample_weight was passed, but {type(estimator).__name__}.fit takes none. "
        "Leave it out, or use another estimator."
    )


def eras_for(
    estimator: Any, eras: Any, *, name: str, in_table: bool = False
) -> dict[str, Any]:
    """Return the keyword argument that passes eras to an estimator's fit, if any.

    Parameters
    ----------
    estimator : estimator
        Estimator whose ``fit`` will be called.
    eras : array-like or None
        Era labels, one per row.
    name : str
        Name of the parameter that holds the estimator, for the message.
    in_table : bool, default=False
        Whether the table that the estimator gets has the column ``era``.

    Raises
    ------
    ValueError
        If a part of the estimator takes eras, but would not get them.
    """
    if eras is None:
        return {}
    if has_fit_parameter(estimator, "eras"):
        return {"eras": eras}
    part = None if in_table else out_of_reach(estimator, "eras")
    if part is not None:
        raise ValueError(
            f"{name}: {part!r} inside the {type(estimator).__name__} takes "
            "eras, which would not reach it. Pass X as a frame with names, and "
            "keep_era=True: then it has the column 'era', which this part removes. Or "
            "pass no eras at all: then all rows are one era."
        )
    return {}


def has_eras(table: Any) -> bool:
    """Whether a table is a frame with the column ``era``."""
    return is_frame(table) and ERA_COLUMN in column_names(table)


def keep_eras(table: Any, eras: Any, estimator: Any) -> Any:
    """Return a table as ``keep_era=True`` passes it on to an estimator.

    Parameters
    ----------
    table : array or frame
    eras : array-like or None
        Era labels that were passed beside the table. They replace its column ``era``.
        If a frame has none, it is added for an estimator with a part that takes eras,
        which would not reach it otherwise; others would use the column as a feature.
    estimator : estimator
        The estimator that gets the table.
    """
    if eras is None or not is_frame(table):
        return table
    if has_eras(table) or _reads_the_column(estimator):
        return with_eras(table, eras)
    return table


def _reads_the_column(estimator: Any) -> bool:
    """Whether a part takes eras, which it gets from no argument of ``fit``."""
    estimator = unfrozen(estimator)  # what is frozen reads them to predict
    if "eras" in extras_of(estimator.fit) or not hasattr(estimator, "get_params"):
        return False
    for part in estimator.get_params().values():
        if isinstance(part, type) or not callable(_fit_of(part)):
            continue
        if "eras" in extras_of(unfrozen(part).fit) or _reads_the_column(part):
            return True
    return False


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
