"""A fitted pipeline, and what is done to its predictions, as plain data."""

from __future__ import annotations

import re
from typing import Any

from sklearn.utils.validation import check_is_fitted

from numerai_features._names import some_names
from numerai_features._validation import spells_era
from numerai_features.export import _composed, _own, _scikit_learn, _trees
from numerai_features.export._images import Image
from numerai_features.export._place import Place, Tables, is_left_out, nodes_of

TABLES = Tables(
    transformers={**_own.TRANSFORMERS, **_scikit_learn.TRANSFORMERS},
    models={
        **_own.MODELS,
        **_composed.MODELS,
        **_scikit_learn.MODELS,
        **_trees.MODELS,
    },
    densities=_own.DENSITIES,
)
_NAMELESS = re.compile(r"Column_\d+")  # LightGBM names the columns of arrays


def model_data(
    pipeline: Any,
    image: Image,
    *,
    neutralize: Any = None,
    proportion: float = 1.0,
    benchmark: str | None = None,
    rank: str | None = "era",
    name: str = "prediction",
    feature_names: Any = None,
    trees: str = "library",
) -> dict[str, Any]:
    """Return a fitted pipeline as plain data; see `export_predict`.

    Raises
    ------
    TypeError
        If a part of the pipeline is of a class that cannot be exported.
    ValueError
        If a part is set so that it cannot be exported, or arguments contradict.
    """
    if hasattr(pipeline, "fit"):
        check_is_fitted(pipeline)
    names = _feature_names(pipeline, feature_names)
    for era in filter(spells_era, names):
        raise ValueError(
            f"pipeline was fitted to the column {era!r} as a feature, which is text in "
            "live files. Fit it without, or with LatentFeatures as the first step."
        )
    return assembled(
        Place(TABLES, image, trees, names).model(pipeline),
        names,
        neutralize=neutralize,
        proportion=proportion,
        benchmark=benchmark,
        rank=rank,
        name=name,
    )


def assembled(
    predictor: dict[str, Any],
    names: list[str],
    *,
    neutralize: Any = None,
    proportion: float = 1.0,
    benchmark: str | None = None,
    rank: str | None = "era",
    name: str = "prediction",
) -> dict[str, Any]:
    """Return the data of a predictor with those of what is done to its predictions.

    Parameters
    ----------
    predictor : dict
        The node of a model.
    names : list of str
        Names of its columns.
    neutralize, proportion, benchmark, rank, name
        See `export_predict`.

    Raises
    ------
    ValueError
        If there are several predictions a row, or a benchmark is missing or not used.
    """
    if predictor["n_outputs"] > 1:
        raise ValueError(
            f"pipeline predicts {predictor['n_outputs']} targets; expected one "
            "prediction a row. Fit it to one target, or blend the targets."
        )
    after = _neutralize_data(neutralize, proportion)
    others = {"benchmark": [benchmark or ""]}
    others["neutralize"] = [] if after is None else after["features"] or []
    for argument, labels in others.items():
        for era in filter(spells_era, labels):
            raise ValueError(
                f"{argument} names the column {era!r}, which is text in live files. "
                "Name a column of numbers."
            )
    needed = uses_benchmark(predictor)
    if after is not None:
        needed |= after["features"] is None or benchmark in after["features"]
    needed |= benchmark in names
    if needed and benchmark is None:
        raise ValueError(
            "benchmark is None, but the predictions are neutralised to a benchmark. "
            "Pass the name of its column in the benchmark's file, such as "
            "benchmark='v53_lgbm_ender60'."
        )
    if benchmark is not None and not needed:
        raise ValueError(
            f"benchmark={benchmark!r} is not used by the pipeline. Leave it out, or "
            "pass neutralize='benchmark'."
        )
    return {
        "features": names,
        "predictor": predictor,
        "neutralize": after,
        "benchmark": benchmark,
        "rank": rank,
        "name": name,
    }


def uses_benchmark(predictor: dict[str, Any]) -> bool:
    """Whether the predictions of a node depend on a benchmark's."""
    return any(
        node.get("to") == "benchmark" or node.get("benchmark") is True
        for node in nodes_of(predictor)
    )


def _neutralize_data(neutralize: Any, proportion: float) -> dict[str, Any] | None:
    """Return what the predictions of the pipeline are neutralised to."""
    if neutralize is None:
        if proportion != 1:
            raise ValueError(
                f"proportion={proportion} has no effect without neutralize. Leave it "
                "out, or pass neutralize."
            )
        return None
    if isinstance(neutralize, str):
        if neutralize != "benchmark":
            raise ValueError(
                "neutralize must be a list of names of features, 'benchmark' or None; "
                f"got {neutralize!r}."
            )
        return {"features": None, "proportion": float(proportion)}
    features = _as_names(neutralize, "neutralize")
    return {"features": features, "proportion": float(proportion)}


def _feature_names(pipeline: Any, given: Any) -> list[str]:
    """Return the names of the features in the order of fit."""
    known = known_names(pipeline)
    if given is None:
        if known is None:
            raise ValueError(
                "feature_names is None, but the pipeline was fitted without names of "
                "columns. Pass the names in the order of its columns."
            )
        return known
    names = _as_names(given, "feature_names")
    if known is not None and names != known:
        odd = [name for name in names if name not in set(known)]
        raise ValueError(
            f"feature_names must be the {len(known)} names that the pipeline was "
            f"fitted to, in their order: {some_names(known)}. Got {len(names)}: "
            f"{some_names(odd or names)}. Leave feature_names out."
        )
    return names


def known_names(pipeline: Any) -> list[str] | None:
    """Return the names of the columns that a pipeline was fitted to, if it has any."""
    found = getattr(pipeline, "feature_names_in_", None)
    if found is None and hasattr(pipeline, "steps"):
        steps = [step for _, step in pipeline.steps if not is_left_out(step)]
        found = getattr(steps[0], "feature_names_in_", None)
    if found is None and hasattr(pipeline, "feature_name"):  # LightGBM's Booster
        found = pipeline.feature_name()
    if found is None:
        found = getattr(pipeline, "feature_names", None)  # XGBoost's Booster
    if found is None:
        return None
    names = [str(name) for name in found]
    return None if all(map(_NAMELESS.fullmatch, names)) else names


def _as_names(names: Any, what: str) -> list[str]:
    found = [] if isinstance(names, str | bytes) else list(names)
    if not found or not all(isinstance(name, str) for name in found):
        raise ValueError(
            f"{what} must be a list of names of columns, one at least; got {names!r}."
        )
    if len(set(found)) < len(found):
        twice = next(name for name in found if found.count(name) > 1)
        raise ValueError(f"{what} has {twice!r} more than once. Name it once.")
    return [str(name) for name in found]
