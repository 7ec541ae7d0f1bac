"""What the runtime does, level by level, to number the leaf of each row."""

from __future__ import annotations

from typing import Any

import numpy as np

from numerai_features.export._tree_forest import Forest, as_bytes


class Plan:
    """The leaves' numbers, and which nodes' rows must be known to tell them.

    The leaves of a tree are numbered from right to left. A bit of the number is set in
    whole subtrees; their tops, found here, are as few as can be. In a full tree all are
    left children: half of the leaves' rows are never needed.
    """

    def __init__(self, forest: Forest):
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
        self.leaves = SortedNodes(leaf, self.tree)
        self._cover(parent, first, levels)
        self.levels = [
            SortedNodes(inner[self.asked[inner]], self.tree) for inner in levels
        ]
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
            self.covers.append(SortedNodes(top, self.tree))
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
            parents, conditions = row[asked], self.condition[asked]
            levels.append((as_bytes(parents), as_bytes(conditions), n_right))
        n_leaves = self.n_leaves[roots]
        n_bits = int(n_leaves.max(initial=1) - 1).bit_length()
        leaves = self.leaves.within(first, stop)
        return {
            "n_nodes": n_nodes,
            "levels": levels,
            "bits": [self._members(b, first, stop) for b in reversed(range(n_bits))],
            "stops": as_bytes(np.cumsum(n_leaves)),
            "leaves": as_bytes(forest.threshold[leaves], forest.settings["dtype"]),
        }

    def _members(self, bit: int, first: int, stop: int) -> bytes:
        """Return the rows whose OR is a bit of the leaves' numbers: (most, n_trees)."""
        nodes = self.covers[bit].within(first, stop)
        tree = self.tree[nodes] - first
        counts = np.bincount(tree, minlength=stop - first)
        place = np.arange(len(nodes)) - (np.cumsum(counts) - counts)[tree]
        members = np.zeros((counts.max(), stop - first), dtype=np.int64)
        members[place, tree] = self._row[nodes]
        return as_bytes(members)


class SortedNodes:
    """Nodes in the order of their trees."""

    def __init__(self, nodes: np.ndarray, tree: np.ndarray):
        order = np.argsort(tree[nodes], kind="stable")
        self._nodes, self._tree = nodes[order], tree[nodes[order]]

    def within(self, first: int, stop: int) -> np.ndarray:
        """Return the nodes of the trees from `first` to `stop`."""
        start, end = np.searchsorted(self._tree, [first, stop])
        return self._nodes[start:end]
