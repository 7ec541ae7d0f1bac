"""A fitted arm as the plain data that an exported file holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from numerai_features._bins import MIDDLE_BIN
from numerai_features.experiment._fits import FittedArm, FoldFits
from numerai_features.experiment._inputs import WIDE_SCALE
from numerai_features.experiment._latents import FoldLatents, places_of
from numerai_features.export._composed import shrinker_node
from numerai_features.export._images import IMAGES
from numerai_features.export._model import TABLES
from numerai_features.export._place import Place, array_data, plain_ints

Node = dict[str, Any]

_IMAGE = IMAGES["3.13"]  # of no effect on what is stored; `export` checks the one used


def arm_node(fitted: FittedArm, fits: FoldFits) -> Node:
    """Return an arm as a node, which gets all features of the panel.

    Parameters
    ----------
    fitted : FittedArm
    fits : FoldFits
        The fits that it is one of.
    """
    names = fits.panel.feature_names
    place = Place(TABLES, _IMAGE, "library", names)
    behind = replace(place, names=fitted.names, eras=False)
    models = [behind.inside("model").model(model) for model in fitted.models]
    node: Node = {
        "kind": "pipeline",
        "steps": [_columns(fitted, fits, place)],
        "last": _mean(models),
        "n_outputs": 1,
    }
    neutralize = fitted.recipe.get("neutralize")
    if neutralize is not None:
        node = _neutralizer(node, neutralize, fits)
    if fitted.shrinks_by is None:
        return node
    chosen = _chosen(fitted.shrinks_by)
    own = place if chosen is None else place.selecting(chosen)
    return shrinker_node(fitted.shrinker, node, own, chosen)


def blend_node(parts: Sequence[Node], weights: Sequence[float]) -> Node:
    """Return the weighted mean of gaussianised ranks, as of `EraBlend`; one as it is.

    Parameters
    ----------
    parts : sequence of dict
        Nodes; one of several outputs needs a weight for each.
    weights : sequence of float
    """
    if len(parts) == len(weights) == 1:
        return parts[0]
    shares = np.array(weights, np.float64)
    return {
        "kind": "era_blend",
        "parts": list(parts),
        "weights": array_data(shares / np.abs(shares).sum()),
        "by_era": True,
        "n_outputs": 1,
    }


def filled(node: Node, n_features: int) -> Node:
    """Return a node that reads a missing feature as the middle bin, as panels do."""
    middle = np.full(n_features, MIDDLE_BIN, np.float64)
    fill = {"kind": "fill", "values": array_data(middle), "n_out": n_features}
    return {"kind": "pipeline", "steps": [fill], "last": node, "n_outputs": 1}


def _mean(models: list[Node]) -> Node:
    n_outputs = sum(model["n_outputs"] for model in models)
    return blend_node(models, [1.0] * n_outputs)


def _columns(fitted: FittedArm, fits: FoldFits, place: Place) -> Node:
    """Return the columns that the models get, in the form of `as_table` or `as_array`.

    Trees read all columns as float32.
    """
    features, recipe = fitted.recipe["features"], fitted.recipe
    kinds = {latents.train.dtype for latents in fitted.latents}
    kinds |= {np.dtype(np.int8)} if features != [] else set()
    kinds |= {np.dtype(np.float32)} if recipe["benchmark_feature"] else set()
    by_trees = fitted.library is not None
    as_they_are = len(kinds) == 1 and not (by_trees or fitted.floats)
    parts: list[Node] = []
    if features is None:
        parts.append(_part(None))
    elif features:
        chosen = places_of(fits.experiment, fits.panel, features)
        parts.append(_part(plain_ints(chosen)))
    for latents in fitted.latents:
        wide = latents.train.dtype == np.uint8 and not (by_trees or as_they_are)
        columns = _chosen(latents)
        own = place if columns is None else place.selecting(columns)
        node = own.inside(f"latents {latents.name!r}").transformer(latents.fitted)
        parts.append(_part(columns, node, scale=WIDE_SCALE if wide else None))
    if recipe["benchmark_feature"]:
        parts.append(_part(None, benchmark=True))
    return {
        "kind": "beside",
        "parts": parts,
        "dtype": None if as_they_are else "<f4",
        "n_out": len(fitted.names),
    }


def _part(
    columns: list[int] | None,
    node: Node | None = None,
    *,
    scale: float | None = None,
    benchmark: bool = False,
) -> Node:
    return {"columns": columns, "node": node, "scale": scale, "benchmark": benchmark}


def _chosen(latents: FoldLatents) -> list[int] | None:
    return None if latents.columns is None else plain_ints(latents.columns)


def _neutralizer(inner: Node, neutralize: dict[str, Any], fits: FoldFits) -> Node:
    columns, fill = None, None
    if neutralize["to"] == "features":
        n_columns = fits.panel.n_features
        if neutralize["features"] is not None:
            chosen = places_of(fits.experiment, fits.panel, neutralize["features"])
            columns, n_columns = plain_ints(chosen), len(chosen)
        fill = array_data(np.full(n_columns, MIDDLE_BIN, np.float64))
    return {
        "kind": "era_neutralizer",
        "regressor": inner,
        "to": neutralize["to"],
        "columns": columns,
        "fill": fill,
        "proportion": float(neutralize["proportion"]),
        "by_era": True,
        "n_outputs": 1,
    }
