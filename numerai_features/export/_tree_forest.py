"""A forest of any library, as flat arrays over the nodes of all trees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass
class Forest:
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


def join_trees(trees: list[dict[str, Any]], settings: dict[str, Any]) -> Forest:
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
    return Forest(roots=roots, categories=categories, settings=settings, **joined)


def as_bytes(numbers: Any, dtype: str = "int32") -> bytes:
    """Return numbers as the bytes that the runtime reads."""
    return np.asarray(numbers).astype(np.dtype(dtype).newbyteorder("<")).tobytes()
