"""LightGBM and XGBoost models, for an older version of the library or for none.

A node holds the model's text, which the server's library must read, or tables that
numpy evaluates.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np

from numerai_features.export._images import Image
from numerai_features.export._place import Place, Translator, nodes_of
from numerai_features.export._tree_tables import tree_tables

_OF_PREDICT = (
    "pred_early_stop", "predict_raw_score", "is_predict_raw_score", "predict_rawscore",
    "raw_score", "predict_leaf_index", "leaf_index", "is_predict_leaf_index",
    "predict_contrib", "contrib", "is_predict_contrib", "start_iteration_predict",
    "num_iteration_predict",
)  # fmt: skip
"""LightGBM's parameters that change its predictions, and are not in its text."""

_OBJECTIVES = {
    (1, 7): """
        binary:hinge binary:logistic binary:logitraw count:poisson reg:absoluteerror
        reg:gamma reg:linear reg:logistic reg:pseudohubererror reg:squarederror
        reg:tweedie survival:aft survival:cox
    """.split(),
    (3, 0): """
        rank:map rank:ndcg rank:pairwise reg:quantileerror reg:squaredlogerror
    """.split(),
}
"""XGBoost's objectives by the first version that reads them as newer ones write."""


def _lightgbm_estimator(estimator: Any, place: Place) -> dict[str, Any]:
    return _lightgbm(estimator.booster_, place)


def _lightgbm(booster: Any, place: Place) -> dict[str, Any]:
    """Return a booster's text: the trees to the best iteration, if it has one."""
    if booster.pandas_categorical:
        raise place.refuse(
            "LightGBM was fitted to columns of pandas categories, which the live file "
            "lacks. Fit it to numbers."
        )
    _check_width(booster.num_feature(), place)
    return {
        "kind": "lightgbm",
        "text": booster.model_to_string(),
        "n_outputs": int(booster.num_model_per_iteration()),
    }


def _xgboost_estimator(estimator: Any, place: Place) -> dict[str, Any]:
    """Return the trees up to the best iteration, if there is one."""
    booster, missing = estimator.get_booster(), estimator.missing
    linear = estimator.get_params().get("booster") == "gblinear"  # has no iterations
    if booster.attr("best_iteration") is not None and not linear:
        booster = booster[: int(booster.attr("best_iteration")) + 1]
    return _xgboost(booster, place, math.nan if missing is None else float(missing))


def _xgboost(booster: Any, place: Place, missing: float = math.nan) -> dict[str, Any]:
    """Return a booster's JSON, with a base_score that each version reads."""
    model = json.loads(booster.save_raw("json").decode("utf-8"))
    learner = model["learner"]
    if (learner["gradient_booster"].get("model", {}).get("cats") or {}).get("enc"):
        raise place.refuse(
            "XGBoost was fitted to categories, which the live file lacks. Fit it to "
            "numbers."
        )
    known = learner["learner_model_param"]
    _check_width(int(known["num_feature"]), place)
    known["base_score"] = _one_number(known["base_score"], place)
    outputs = max(int(known.get("num_target", 1)), int(known["num_class"]), 1)
    objective = learner["objective"]["name"]
    _check_readable(outputs, objective, place.image, place.refuse)
    return {
        "kind": "xgboost",
        "json": json.dumps(model),
        "objective": objective,
        "missing": missing,
        "n_outputs": outputs,
    }


def _check_readable(
    outputs: int, objective: str, image: Image, refuse: Callable[[str], Any]
) -> None:
    """Raise if the XGBoost of an image cannot read a model."""
    own = image.version("xgboost")
    readable = (some for since, some in _OBJECTIVES.items() if own >= since)
    if objective not in chain(*readable):
        newer = "Choose a newer image" if own < (3,) else "Choose another objective"
        raise refuse(
            f"XGBoost was fitted with the objective {objective!r}, which the version "
            f"{image.xgboost} of image={image.python!r} does not read. {newer}, or "
            "pass trees='numpy'."
        )
    if outputs > 1 and image.version("xgboost") < (2,):
        raise refuse(
            f"XGBoost was fitted to {outputs} targets, which the version "
            f"{image.xgboost} of image={image.python!r} does not read. Choose a newer "
            "image."
        )


def fit_for_image(node: Any, image: Image) -> None:
    """Raise if the trees of a node cannot be read in an image."""
    for part in nodes_of(node):
        if part.get("kind") == "xgboost":
            _check_readable(part["n_outputs"], part["objective"], image, ValueError)


def by_numpy(node: Any) -> Any:
    """Return a node whose trees are tables that numpy evaluates.

    Raises
    ------
    ValueError
        If numpy cannot evaluate them exactly.
    """
    if isinstance(node, list):
        return [by_numpy(part) for part in node]
    if not isinstance(node, dict):
        return node
    kind = node.get("kind")
    if kind not in ("lightgbm", "xgboost"):
        return {name: by_numpy(part) for name, part in node.items()}
    tables = tree_tables(_booster(node))
    if kind == "xgboost" and not math.isnan(node["missing"]):
        tables["missing"] = float(np.float32(node["missing"]))
    return {"kind": "trees", "tables": tables, "n_outputs": 1}


def _booster(node: dict[str, Any]) -> Any:
    """Return the trees of a node as the library's object."""
    if node["kind"] == "lightgbm":
        import lightgbm

        return lightgbm.Booster(model_str=node["text"])
    import xgboost

    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(bytearray(node["json"], "utf-8"))
    return booster


def _check_width(width: int, place: Place) -> None:
    """Raise if trees were fitted to another number of columns."""
    if width != len(place.names):
        raise place.refuse(
            f"the trees were fitted to {width} columns, but {len(place.names)} reach "
            "them. Pass the names of all in feature_names."
        )


def _one_number(base_score: str, place: Place) -> str:
    """Return a base_score as one number; older versions misread a list as .5."""
    numbers = [text.strip() for text in base_score.strip("[] ").split(",")]
    if len({np.float32(number) for number in numbers}) > 1:
        raise place.refuse(
            f"XGBoost was fitted with a base_score for each target, {base_score}, "
            f"which older versions do not read. Set base_score= to one number."
        )
    return numbers[0]


def _by_numpy(by_library: Translator) -> Translator:
    """Return a translator that makes tables instead if the place wants them."""

    def translate(model: Any, place: Place) -> dict[str, Any]:
        known = model.get_params() if hasattr(model, "get_params") else {}
        for name in filter(known.get, _OF_PREDICT):
            raise place.refuse(
                f"LightGBM has {name}={known[name]!r}, which changes its predictions. "
                "Leave it out."
            )
        if place.trees == "library":
            return by_library(model, place)
        try:
            tables = tree_tables(model)
        except (TypeError, ValueError) as error:
            raise place.refuse(str(error), kind=type(error)) from error
        _check_width(tables["n_features"], place)
        return {"kind": "trees", "tables": tables, "n_outputs": 1}

    return translate


MODELS = {
    "lightgbm.Booster": _by_numpy(_lightgbm),
    "lightgbm.LGBMRanker": _by_numpy(_lightgbm_estimator),
    "lightgbm.LGBMRegressor": _by_numpy(_lightgbm_estimator),
    "xgboost.Booster": _by_numpy(_xgboost),
    "xgboost.XGBRanker": _by_numpy(_xgboost_estimator),
    "xgboost.XGBRFRegressor": _by_numpy(_xgboost_estimator),
    "xgboost.XGBRegressor": _by_numpy(_xgboost_estimator),
}
