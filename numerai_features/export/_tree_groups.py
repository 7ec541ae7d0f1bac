"""The groups of trees that the runtime evaluates at once, and their conditions."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from numerai_features.export._tree_forest import Forest, as_bytes
from numerai_features.export._tree_plan import Plan, SortedNodes


def groups_of(
    forest: Forest, most_conditions: int, most_nodes: int
) -> list[dict[str, Any]]:
    """Return the groups of a forest's trees as plain data, in batches.

    Parameters
    ----------
    forest : Forest
    most_conditions : int
        Distinct conditions of a group, unless one tree has more.
    most_nodes : int
        Nodes of a batch, unless one tree has more.
    """
    plan = Plan(forest)
    n_trees = len(forest.roots)
    asked = np.flatnonzero(plan.asked)
    nodes = SortedNodes(asked, plan.tree)
    if len(Conditions(forest, asked).distinct) <= most_conditions:
        bounds = [0, n_trees] if n_trees else [0]
    else:
        sizes = np.bincount(plan.tree[asked], minlength=n_trees)
        bounds = _bounds(sizes, most_conditions)
    groups = []
    for first, stop in pairwise(bounds):
        here = nodes.within(first, stop)
        conditions = Conditions(forest, here)
        plan.condition[here] = conditions.number
        batches = _bounds(plan.n_rows[first:stop], most_nodes)
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


class Conditions:
    """The distinct conditions of some inner nodes; ``number`` is each node's."""

    def __init__(self, forest: Forest, nodes: np.ndarray):
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
            "columns": as_bytes(feature[starts]),
            "zero_is_missing": as_bytes(zero[starts], "?"),
            "stops": as_bytes([*starts[1:], len(numeric)] if len(numeric) else []),
            "thresholds": as_bytes(forest.threshold[numeric], forest.settings["dtype"]),
            "missing_left": as_bytes(forest.missing_left[numeric], "?"),
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
