"""Fitted trees of LightGBM and XGBoost as plain data, for ``_tree_runtime.py``.

Both libraries' models are read here and become one `Forest`. Its conditions are made
distinct (``_tree_groups.py``), its leaves numbered, and what the runtime does level by
level is laid down (``_tree_plan.py``), so that the exported file only looks it up.
"""

from __future__ import annotations

import json
import sys
from typing import Any, NoReturn

import numpy as np

from numerai_features.export._tree_forest import Forest, join_trees
from numerai_features.export._tree_groups import groups_of
from numerai_features.export._tree_runtime import TREE_ZERO

CONDITIONS = 2**16  # whose bits stand in memory at once: 64 MiB a block of rows
NODES = 2**11  # of a batch of trees: 2 MiB a block of rows

# Objectives whose predictions are the sums of the leaves, unchanged.
LIGHTGBM_SUMS = {
    "custom",
    "fair",
    "huber",
    "lambdarank",
    "mape",  # codespell:ignore mape
    "quantile",
    "rank_xendcg",
    "regression",
    "regression_l1",
}
XGBOOST_SUMS = {
    "rank:map",
    "rank:ndcg",
    "rank:pairwise",
    "reg:absoluteerror",
    "reg:pseudohubererror",
    "reg:quantileerror",
    "reg:squarederror",
    "reg:squaredlogerror",
}

# LightGBM's decision_type.
_CATEGORICAL, _DEFAULT_LEFT, _ZERO, _NAN = 1, 2, 4, 8


def tree_tables(model: Any, *, num_iteration: int | None = None) -> dict[str, Any]:
    """Return a fitted forest as plain data, which ``tree_predict`` evaluates.

    Parameters
    ----------
    model : LGBMRegressor, LGBMRanker, XGBRegressor, XGBRanker or Booster
        Fitted, of either library.
    num_iteration : int, default=None
        Iterations to use, as LightGBM's ``predict`` takes it: None is what ``predict``
        uses without being told, which is up to the best iteration after early stopping
        (a Booster of XGBoost uses all); 0 or less is all.

    Returns
    -------
    dict
        Of text, numbers, bytes and lists alone.

    Raises
    ------
    ValueError
        If the predictions would not be the library's own: the message tells why.
    TypeError
        If the model is of another kind.
    """
    name = type(model).__name__
    lightgbm, xgboost = sys.modules.get("lightgbm"), sys.modules.get("xgboost")
    if lightgbm and isinstance(model, lightgbm.LGBMModel | lightgbm.Booster):
        wrapped = isinstance(model, lightgbm.LGBMModel)
        _check_predict(model, lightgbm.LGBMModel, lightgbm.Booster)
        booster = model.booster_ if wrapped else model
        forest = _from_lightgbm(booster, name, num_iteration)
    elif xgboost and isinstance(model, xgboost.XGBModel | xgboost.Booster):
        _check_predict(model, xgboost.XGBModel, xgboost.XGBRanker, xgboost.Booster)
        forest = _from_xgboost(model, name, num_iteration)
    else:
        raise TypeError(
            f"trees='numpy' takes a regressor, a ranker or a Booster of LightGBM or "
            f"XGBoost; got {name}."
        )
    return {**forest.settings, "groups": groups_of(forest, CONDITIONS, NODES)}


def _check_predict(model: Any, *known: Any) -> None:
    """Refuse classes that predict by another method: a classifier, a dask estimator."""
    if type(model).predict not in [base.predict for base in known]:
        _refuse(
            type(model).__name__,
            f"its predict is neither {known[0].__name__}'s nor a Booster's, and may "
            "return other numbers than the sums of the leaves",
        )


def _refuse(name: str, found: str) -> NoReturn:
    raise ValueError(
        f"trees='numpy' cannot write {name}: {found}. Leave trees='numpy' out: the "
        "file then holds the model as its library writes it."
    )


# LightGBM


def _from_lightgbm(booster: Any, name: str, num_iteration: int | None) -> Forest:
    """Read the model's text, as the library reads it."""
    if getattr(booster, "pandas_categorical", None):
        _refuse(name, "it was fitted on categorical columns of pandas")
    text = booster.model_to_string(num_iteration=num_iteration)
    head, *trees = text.partition("\nend of trees")[0].split("\nTree=")
    lines = head.split("\n")
    told = _fields(lines)
    objective = told.get("objective", "custom").split(" ")
    if objective[0] not in LIGHTGBM_SUMS or "sqrt" in objective:
        _refuse(name, f"its objective {' '.join(objective)!r} transforms the sums")
    if told["num_tree_per_iteration"] != "1":
        _refuse(name, f"it has {told['num_tree_per_iteration']} outputs")
    settings = {
        "library": "lightgbm",
        "dtype": "float64",
        "strict": False,
        "start": 0.0,
        "divide": len(trees) if "average_output" in lines else 1,
        "missing": None,
        "n_features": int(told["max_feature_idx"]) + 1,
    }
    return join_trees(
        [_lightgbm_tree(tree.split("\n"), name) for tree in trees], settings
    )


def _fields(lines: list[str]) -> dict[str, str]:
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _lightgbm_tree(lines: list[str], name: str) -> dict[str, Any]:
    """Return one tree: its inner nodes first, then its leaves."""
    told = _fields(lines)
    if told.get("is_linear", "0") != "0":
        _refuse(name, "it has linear trees")

    def numbers(key: str, dtype: type) -> np.ndarray:
        return np.array(told.get(key, "").split(), dtype=dtype)

    value = numbers("leaf_value", np.float64)
    leaf = np.full(len(value), -1)
    left, right = numbers("left_child", np.int64), numbers("right_child", np.int64)
    left, right = (np.where(to < 0, len(to) + ~to, to) for to in (left, right))
    kind = numbers("decision_type", np.int64)
    threshold = numbers("threshold", np.float64)
    is_categorical = (kind & _CATEGORICAL) > 0
    bounds = numbers("cat_boundaries", np.int64)
    words = numbers("cat_threshold", np.uint32).astype("<u4")
    categories = {}
    for node in np.flatnonzero(is_categorical):
        which = int(threshold[node])
        held = words[bounds[which] : bounds[which + 1]].view(np.uint8)
        bits = np.unpackbits(held, bitorder="little")
        categories[int(node)] = tuple(np.flatnonzero(bits).tolist())
    zero, default_left = (kind & _ZERO) > 0, (kind & _DEFAULT_LEFT) > 0
    # Without a missing type NaN is read as 0.
    missing_left = np.where(kind & (_ZERO | _NAN), default_left, threshold >= 0)
    # The library reads values nearer to zero than 1e-35 as 0, before it compares.
    near = np.abs(threshold) <= TREE_ZERO
    ends = np.where(threshold < 0, np.nextafter(-TREE_ZERO, -1), TREE_ZERO)
    threshold = np.where(near & ~is_categorical, ends, threshold)
    none = np.zeros(len(value), dtype=bool)
    return {
        "left": np.concatenate([left, leaf]),
        "right": np.concatenate([right, leaf]),
        "feature": np.concatenate([numbers("split_feature", np.int64), leaf]),
        "threshold": np.concatenate([threshold, value]),
        "missing_left": np.concatenate([missing_left & ~is_categorical, none]),
        "zero_is_missing": np.concatenate([zero & ~is_categorical, none]),
        "categories": categories,
    }


# XGBoost


def _from_xgboost(model: Any, name: str, num_iteration: int | None) -> Forest:
    """Read the model's JSON."""
    booster, missing = model, None
    if hasattr(model, "get_booster"):
        booster, missing = model.get_booster(), model.missing
        missing = None if missing is None or np.isnan(missing) else missing
        if num_iteration is None:
            # Without early stopping, reading it is an AttributeError.
            num_iteration = getattr(model, "best_iteration", -1) + 1
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    kind = learner["gradient_booster"]["name"]
    if kind != "gbtree":
        _refuse(name, f"its booster is {kind!r}, not 'gbtree'")
    objective = learner["objective"]["name"]
    if objective not in XGBOOST_SUMS:
        _refuse(name, f"its objective {objective!r} transforms the sums")
    told, gbtree = learner["learner_model_param"], learner["gradient_booster"]["model"]
    start = _base_score(told["base_score"])
    n_outputs = max(len(start), int(told.get("num_target", 1)), int(told["num_class"]))
    if n_outputs > 1:
        _refuse(name, f"it has {n_outputs} outputs")
    trees = gbtree["trees"]
    if num_iteration and num_iteration > 0:
        a_round = int(gbtree["gbtree_model_param"].get("num_parallel_tree", 1))
        trees = trees[: num_iteration * max(a_round, 1)]
    settings = {
        "library": "xgboost",
        "dtype": "float32",
        "strict": True,
        "start": start[0],
        "divide": 1,
        "missing": None if missing is None else float(np.float32(missing)),
        "n_features": int(told["num_feature"]),
    }
    return join_trees([_xgboost_tree(tree, name) for tree in trees], settings)


def _base_score(text: str) -> list[float]:
    """Return the base scores; newer files hold a list, older ones a number."""
    found = json.loads(text)
    return [float(one) for one in (found if isinstance(found, list) else [found])]


def _xgboost_tree(tree: dict[str, Any], name: str) -> dict[str, Any]:
    if int(tree["tree_param"].get("size_leaf_vector", 1)) > 1:
        _refuse(name, "its leaves hold several values")
    if any(tree.get("split_type", ())):
        _refuse(name, "it splits on categories")
    default_left = np.array(tree["default_left"], dtype=bool)
    return {
        "left": np.array(tree["left_children"], dtype=np.int64),
        "right": np.array(tree["right_children"], dtype=np.int64),
        "feature": np.array(tree["split_indices"], dtype=np.int64),
        "threshold": np.array(tree["split_conditions"], dtype=np.float32),
        "missing_left": default_left,
        "zero_is_missing": np.zeros(len(default_left), dtype=bool),
        "categories": {},
    }
