"""Fitted trees of LightGBM and XGBoost as plain data, for ``_tree_runtime.py``.

Both libraries' models become one `_Forest`, flat arrays over the nodes of all trees.
Its conditions are made distinct, its leaves numbered, and what the runtime does level
by level is laid down here, so that the exported file only looks it up.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NoReturn

import numpy as np

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


@dataclass
class _Forest:
    """Nodes of all trees, one tree after another; ``left`` of a leaf is -1."""

    roots: np.ndarray
    left: np.ndarray
    right: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray  # a leaf's is its value
    missing_left: np.ndarray
    zero_is_missing: np.ndarray
    categories: dict[int, tuple[int, ...]]  # by node: these go left
    settings: dict[str, Any]


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
    return {**forest.settings, "groups": _groups(forest)}


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


def _from_lightgbm(booster: Any, name: str, num_iteration: int | None) -> _Forest:
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
    return _joined([_lightgbm_tree(tree.split("\n"), name) for tree in trees], settings)


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


def _from_xgboost(model: Any, name: str, num_iteration: int | None) -> _Forest:
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
    return _joined([_xgboost_tree(tree, name) for tree in trees], settings)


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


# both


def _joined(trees: list[dict[str, Any]], settings: dict[str, Any]) -> _Forest:
    """Lay trees one after another."""
    sizes = np.array([len(tree["left"]) for tree in trees], dtype=np.int64)
    roots = np.cumsum(sizes) - sizes
    offsets = np.repeat(roots, sizes)
    joined: dict[str, np.ndarray] = {
        key: np.concatenate([tree[key] for tree in trees] or [np.empty(0, dtype)])
        for key, dtype in [
            ("left", np.int64),
            ("right", np.int64),
            ("feature", np.int64),
            ("threshold", settings["dtype"]),
            ("missing_left", bool),
            ("zero_is_missing", bool),
        ]
    }
    for key in ("left", "right"):
        joined[key] = np.where(joined[key] < 0, -1, joined[key] + offsets)
    categories = {
        int(root) + node: those
        for root, tree in zip(roots, trees, strict=True)
        for node, those in tree["categories"].items()
    }
    return _Forest(roots=roots, categories=categories, settings=settings, **joined)


def _groups(forest: _Forest) -> list[dict[str, Any]]:
    """Return groups of trees, each with few enough distinct conditions."""
    plan = _Plan(forest)
    n_trees = len(forest.roots)
    asked = np.flatnonzero(plan.asked)
    nodes = _Sorted(asked, plan.tree)
    if len(_Conditions(forest, asked).distinct) <= CONDITIONS:
        bounds = [0, n_trees] if n_trees else [0]
    else:
        bounds = _bounds(np.bincount(plan.tree[asked], minlength=n_trees), CONDITIONS)
    groups = []
    for first, stop in pairwise(bounds):
        here = nodes.within(first, stop)
        conditions = _Conditions(forest, here)
        plan.condition[here] = conditions.number
        batches = _bounds(plan.n_rows[first:stop], NODES)
        written = [plan.batch(first + a, first + b) for a, b in pairwise(batches)]
        groups.append({**conditions.written(), "batches": written})
    return groups


def _bounds(sizes: np.ndarray, most: int) -> list[int]:
    """Cut a sequence into runs of at most `most` together, or of one."""
    bounds, held = [0], 0
    for i, size in enumerate(sizes.tolist()):
        if held and held + size > most:
            bounds.append(i)
            held = 0
        held += size
    return [*bounds, len(sizes)] if len(sizes) else bounds


class _Conditions:
    """The distinct conditions of some inner nodes; ``number`` is each node's."""

    def __init__(self, forest: _Forest, nodes: np.ndarray):
        self.forest = forest
        sets: dict[tuple[int, ...], int] = {}
        threshold = forest.threshold[nodes]
        self.is_categorical = np.isin(nodes, list(forest.categories))
        for i in np.flatnonzero(self.is_categorical):
            held = forest.categories[int(nodes[i])]
            threshold[i] = sets.setdefault(held, len(sets))
        keys = (
            forest.missing_left[nodes],
            threshold,
            forest.zero_is_missing[nodes],
            forest.feature[nodes],
            self.is_categorical,
        )
        order = np.lexsort(keys)
        new = _changes(*(key[order] for key in keys))
        self.number = np.empty(len(nodes), dtype=np.int64)
        self.number[order] = np.cumsum(new) - 1
        self.distinct = nodes[order[new]]
        self.n_numeric = int(new[: np.count_nonzero(~self.is_categorical)].sum())

    def written(self) -> dict[str, Any]:
        """Return the conditions column by column, those on categories last."""
        forest = self.forest
        numeric = self.distinct[: self.n_numeric]
        feature, zero = forest.feature[numeric], forest.zero_is_missing[numeric]
        starts = np.flatnonzero(_changes(feature, zero))
        return {
            "n_conditions": len(self.distinct),
            "columns": _bytes(feature[starts]),
            "zero_is_missing": _bytes(zero[starts], "?"),
            "stops": _bytes([*starts[1:], len(numeric)] if len(numeric) else []),
            "thresholds": _bytes(forest.threshold[numeric], forest.settings["dtype"]),
            "missing_left": _bytes(forest.missing_left[numeric], "?"),
            "categorical": [
                (int(forest.feature[node]), list(forest.categories[int(node)]))
                for node in self.distinct[self.n_numeric :]
            ],
        }


def _changes(*keys: np.ndarray) -> np.ndarray:
    """Return where any of sorted keys differs from the one before."""
    new = np.ones(len(keys[0]), dtype=bool)
    if len(new):
        new[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    return new


def _bytes(numbers: Any, dtype: str = "int32") -> bytes:
    return np.asarray(numbers).astype(np.dtype(dtype).newbyteorder("<")).tobytes()


class _Sorted:
    """Nodes in the order of their trees."""

    def __init__(self, nodes: np.ndarray, tree: np.ndarray):
        order = np.argsort(tree[nodes], kind="stable")
        self._nodes, self._tree = nodes[order], tree[nodes[order]]

    def within(self, first: int, stop: int) -> np.ndarray:
        """Return the nodes of the trees from `first` to `stop`."""
        start, end = np.searchsorted(self._tree, [first, stop])
        return self._nodes[start:end]


class _Plan:
    """The leaves' numbers, and which nodes' rows must be known to tell them.

    The leaves of a tree are numbered from right to left. A bit of the number is set in
    whole subtrees; their tops, found here, are as few as can be. In a full tree all are
    left children: half of the leaves' rows are never needed.
    """

    def __init__(self, forest: _Forest):
        self.forest = forest
        left, right, n_nodes = forest.left, forest.right, len(forest.left)
        self.tree = np.zeros(n_nodes, dtype=np.int64)
        self.tree[forest.roots] = np.arange(len(forest.roots))
        parent = np.full(n_nodes, -1)
        levels, nodes, leaves = [], forest.roots, []
        while len(nodes):
            inner = nodes[left[nodes] >= 0]
            levels.append(inner)
            leaves.append(nodes[left[nodes] < 0])
            for child in (left[inner], right[inner]):
                parent[child], self.tree[child] = inner, self.tree[inner]
            nodes = np.concatenate([left[inner], right[inner]])
        self.n_leaves, first = np.ones(n_nodes, dtype=np.int64), np.zeros_like(parent)
        for inner in reversed(levels):
            self.n_leaves[inner] = (
                self.n_leaves[left[inner]] + self.n_leaves[right[inner]]
            )
        for inner in levels:
            first[right[inner]] = first[inner]
            first[left[inner]] = first[inner] + self.n_leaves[right[inner]]
        leaf = np.concatenate([np.empty(0, dtype=np.int64), *leaves])
        leaf = leaf[np.argsort(first[leaf], kind="stable")]
        self.leaves = _Sorted(leaf, self.tree)
        self._cover(parent, first, levels)
        self.levels = [_Sorted(inner[self.asked[inner]], self.tree) for inner in levels]
        self.condition = np.zeros(n_nodes, dtype=np.int64)
        self._row = np.zeros(n_nodes, dtype=np.int64)

    def _cover(
        self, parent: np.ndarray, first: np.ndarray, levels: list[np.ndarray]
    ) -> None:
        """Find the tops of the subtrees that have a bit, and the ways there."""
        left, right = self.forest.left, self.forest.right
        last = first + self.n_leaves - 1
        self.covers, self.needed = [], np.zeros(len(left), dtype=bool)
        for bit in range(int(last.max(initial=0)).bit_length()):
            held = ((first >> bit) & 1 == 1) & (first >> bit == last >> bit)
            top = np.flatnonzero(held & ~((parent >= 0) & held[parent]))
            self.covers.append(_Sorted(top, self.tree))
            self.needed[top] = True
        self.asked = np.zeros(len(left), dtype=bool)
        for inner in reversed(levels):
            self.asked[inner] = self.needed[left[inner]] | self.needed[right[inner]]
            self.needed[inner] |= self.asked[inner]
        asked = np.flatnonzero(self.asked)
        rows = 1 + self.needed[right[asked]]
        n_trees = len(self.forest.roots)
        self.n_rows = np.bincount(self.tree[asked], weights=rows, minlength=n_trees)

    def batch(self, first: int, stop: int) -> dict[str, Any]:
        """Return what the runtime does for the trees from `first` to `stop`."""
        forest, row = self.forest, self._row
        roots = forest.roots[first:stop]
        row[roots], n_nodes, levels = 1, 2, []
        for level in self.levels:
            asked = level.within(first, stop)
            if not len(asked):
                break
            both = self.needed[forest.right[asked]]
            asked = np.concatenate([asked[both], asked[~both]])
            n_right = int(both.sum())
            row[forest.left[asked]] = n_nodes + np.arange(len(asked))
            n_nodes += len(asked)
            row[forest.right[asked[:n_right]]] = n_nodes + np.arange(n_right)
            n_nodes += n_right
            levels.append((_bytes(row[asked]), _bytes(self.condition[asked]), n_right))
        n_leaves = self.n_leaves[roots]
        n_bits = int(n_leaves.max(initial=1) - 1).bit_length()
        leaves = self.leaves.within(first, stop)
        return {
            "n_nodes": n_nodes,
            "levels": levels,
            "bits": [self._members(b, first, stop) for b in reversed(range(n_bits))],
            "stops": _bytes(np.cumsum(n_leaves)),
            "leaves": _bytes(forest.threshold[leaves], forest.settings["dtype"]),
        }

    def _members(self, bit: int, first: int, stop: int) -> bytes:
        """Return the rows whose OR is a bit of the leaves' numbers: (most, n_trees)."""
        nodes = self.covers[bit].within(first, stop)
        tree = self.tree[nodes] - first
        counts = np.bincount(tree, minlength=stop - first)
        place = np.arange(len(nodes)) - (np.cumsum(counts) - counts)[tree]
        members = np.zeros((counts.max(), stop - first), dtype=np.int64)
        members[place, tree] = self._row[nodes]
        return _bytes(members)
