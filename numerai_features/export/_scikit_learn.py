"""scikit-learn's estimators as plain data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from scipy.sparse import issparse

from numerai_features.export._place import (
    Place,
    array_data,
    is_left_out,
    plain_ints,
    takes_era_out,
)

_LINEAR = """
    ARDRegression BayesianRidge ElasticNet ElasticNetCV HuberRegressor Lars LarsCV Lasso
    LassoCV LassoLars LassoLarsCV LassoLarsIC LinearRegression MultiTaskElasticNet
    MultiTaskElasticNetCV MultiTaskLasso MultiTaskLassoCV OrthogonalMatchingPursuit
    OrthogonalMatchingPursuitCV QuantileRegressor Ridge RidgeCV SGDRegressor
    TheilSenRegressor
""".split()
_SEARCHES = """
    GridSearchCV HalvingGridSearchCV HalvingRandomSearchCV RandomizedSearchCV
""".split()


def _frozen_transformer(estimator: Any, place: Place) -> dict[str, Any]:
    return place.transformer(estimator.estimator)


def _frozen_model(estimator: Any, place: Place) -> dict[str, Any]:
    return place.model(estimator.estimator)


def _searched_model(estimator: Any, place: Place) -> dict[str, Any]:
    return place.inside("best_estimator_").model(estimator.best_estimator_)


# --- pipelines ---------------------------------------------------------------------


def _pipeline_transformer(estimator: Any, place: Place) -> dict[str, Any]:
    steps, behind = _steps(estimator.steps, place)
    return {"kind": "pipeline", "steps": steps, "n_out": len(behind.names)}


def _pipeline_model(estimator: Any, place: Place) -> dict[str, Any]:
    steps, behind = _steps(estimator.steps[:-1], place)
    name, last = estimator.steps[-1]
    found = behind.inside(f"step {name!r}").model(last)
    outputs = found["n_outputs"]
    return {"kind": "pipeline", "steps": steps, "last": found, "n_outputs": outputs}


def _steps(pairs: Any, place: Place) -> tuple[list[dict[str, Any]], Place]:
    """Return the transformers of a pipeline, and the place behind them."""
    found = []
    for name, step in pairs:
        if is_left_out(step):
            continue
        node = place.inside(f"step {name!r}").transformer(step)
        found.append(node)
        place = place.behind(step, node["n_out"])
    return found, place


def _feature_union(estimator: Any, place: Place) -> dict[str, Any]:
    weights, parts = estimator.transformer_weights or {}, []
    place = place.given(takes_era_out(estimator))
    for name, part in estimator.transformer_list:
        if isinstance(part, str) and part == "drop":
            continue
        weight = weights.get(name)
        parts.append(
            {
                "node": _part(part, place.inside(f"part {name!r}")),
                "columns": None,
                "weight": None if weight is None else float(weight),
            }
        )
    return _union(parts, place)


def _column_transformer(estimator: Any, place: Place) -> dict[str, Any]:
    weights, parts = estimator.transformer_weights or {}, []
    for name, part, chosen in estimator.transformers_:
        own = place.inside(f"part {name!r}", eras=False)
        if isinstance(part, str) and part == "drop":
            continue
        columns = _positions(chosen, own)
        if not columns:
            continue
        weight = weights.get(name)
        parts.append(
            {
                "node": _part(part, own.selecting(columns)),
                "columns": columns,
                "weight": None if weight is None else float(weight),
            }
        )
    return _union(parts, place)


def _union(parts: list[dict[str, Any]], place: Place) -> dict[str, Any]:
    if not parts:
        raise place.refuse("all its parts are dropped. Keep one at least.")
    n_out = sum(part["node"]["n_out"] for part in parts)
    return {"kind": "union", "parts": parts, "n_out": n_out}


def _part(part: Any, place: Place) -> dict[str, Any]:
    return _nothing(place) if is_left_out(part) else place.transformer(part)


def _nothing(place: Place) -> dict[str, Any]:
    """Return what changes no column."""
    return {"kind": "pipeline", "steps": [], "n_out": len(place.names)}


def _positions(chosen: Any, place: Place) -> list[int]:
    """Return the positions of the columns of a ColumnTransformer's part."""
    places = {name: j for j, name in enumerate(place.names)}
    if isinstance(chosen, slice) and not isinstance(chosen.start or chosen.stop, str):
        return list(range(len(places)))[chosen]
    if isinstance(chosen, str | slice) or np.ndim(chosen) != 1:
        raise place.refuse(
            f"columns must be a list of names or positions; got {chosen!r}."
        )
    if len(chosen) and all(isinstance(c, bool | np.bool_) for c in chosen):
        return plain_ints(np.flatnonzero(chosen))
    every = range(len(places))
    return [places[c] if isinstance(c, str) else every[int(c)] for c in chosen]


def _function_transformer(estimator: Any, place: Place) -> dict[str, Any]:
    if estimator.func is not None:
        raise place.refuse(
            "FunctionTransformer has a func, which is code of yours and cannot be "
            "exported. Compute its columns before fit, and in the live file."
        )
    return _nothing(place)


# --- linear maps -------------------------------------------------------------------


def _standard_scaler(estimator: Any, place: Place) -> dict[str, Any]:
    return {
        "kind": "scale",
        "n_out": len(place.names),
        "mean": array_data(estimator.mean_) if estimator.with_mean else None,
        "scale": array_data(estimator.scale_) if estimator.with_std else None,
    }


def _pca(estimator: Any, place: Place) -> dict[str, Any]:
    axes = estimator.components_.T
    if estimator.whiten:
        spread = np.sqrt(estimator.explained_variance_)
        axes = axes / np.maximum(spread, np.finfo(spread.dtype).eps)
    return {
        "kind": "project",
        "n_out": int(axes.shape[1]),
        "weight": array_data(axes),
        "bias": array_data(-estimator.mean_ @ axes),
    }


def _linear(estimator: Any, place: Place) -> dict[str, Any]:
    coef = estimator.coef_
    weight = np.atleast_2d(coef.toarray() if issparse(coef) else coef).T
    n_outputs = int(weight.shape[1])
    bias = np.broadcast_to(np.ravel(estimator.intercept_), n_outputs)
    return {
        "kind": "linear",
        "weight": array_data(weight),
        "bias": array_data(bias.astype(np.result_type(bias, np.float32))),
        "n_outputs": n_outputs,
    }


# --- ensembles ---------------------------------------------------------------------


def _fitted_parts(estimator: Any, place: Place) -> list[dict[str, Any]]:
    kept = [n for n, e in estimator.estimators if not isinstance(e, str)]
    if len(kept) != len(estimator.estimators_):
        raise place.refuse(
            f"{len(estimator.estimators_)} estimators were fitted, and {len(kept)} are "
            "set now. Fit it again."
        )
    place = place.given(takes_era_out(estimator))
    fitted = zip(kept, estimator.estimators_, strict=True)
    return [place.inside(f"estimator {name!r}").model(part) for name, part in fitted]


def _voting(estimator: Any, place: Place) -> dict[str, Any]:
    weights = estimator.weights
    if weights is not None:
        pairs = zip(estimator.estimators, weights, strict=True)
        weights = [float(w) for (_, e), w in pairs if not isinstance(e, str)]
    parts = _fitted_parts(estimator, place)
    return {"kind": "voting", "parts": parts, "weights": weights, "n_outputs": 1}


def _stacking(estimator: Any, place: Place) -> dict[str, Any]:
    last, parts = estimator.final_estimator_, _fitted_parts(estimator, place)
    width = sum(part["n_outputs"] for part in parts)
    names = [f"prediction {j}" for j in range(width)]
    names += place.names if estimator.passthrough else []
    behind = replace(place, names=names, eras=False)
    found = behind.inside("final_estimator_").model(last)
    return {
        "kind": "stacking",
        "parts": parts,
        "passthrough": bool(estimator.passthrough),
        "last": found,
        "n_outputs": found["n_outputs"],
    }


def _of_library(**translators: Any) -> dict[str, Any]:
    return {f"sklearn.{name}": one for name, one in translators.items()}


TRANSFORMERS = _of_library(
    ColumnTransformer=_column_transformer,
    FeatureUnion=_feature_union,
    FrozenEstimator=_frozen_transformer,
    FunctionTransformer=_function_transformer,
    PCA=_pca,
    Pipeline=_pipeline_transformer,
    StandardScaler=_standard_scaler,
)
MODELS = _of_library(
    FrozenEstimator=_frozen_model,
    Pipeline=_pipeline_model,
    StackingRegressor=_stacking,
    VotingRegressor=_voting,
    **dict.fromkeys(_LINEAR, _linear),
    **dict.fromkeys(_SEARCHES, _searched_model),
)
