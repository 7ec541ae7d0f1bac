"""Regressors of this package around other regressors, as plain data."""

from __future__ import annotations

from typing import Any

from numerai_features import compose
from numerai_features._frozen import unfrozen
from numerai_features.compose._reach import extras_of
from numerai_features.export._place import Place, array_data, key_of, plain_ints


def _inner(estimator: Any, model: Any, place: Place, name: str = "regressor") -> Any:
    """Return the regressor inside another one."""
    kept = bool(getattr(estimator._fitted_with, "keep_era", False))
    eras = kept or "eras" in extras_of(model.predict)
    return place.inside(name, eras=eras).model(model)


def _by_era(estimator: Any, place: Place) -> bool:
    return place.eras or bool(estimator._had_eras)


def _plain(estimator: Any, place: Place) -> dict[str, Any]:
    """Return the regressor that is trained otherwise, but predicts as it is."""
    found: dict[str, Any] = _inner(estimator, estimator.regressor_, place)
    return found


def _augmented(estimator: Any, place: Place) -> dict[str, Any]:
    found: dict[str, Any] = _inner(estimator, estimator.estimator_, place, "estimator")
    return found


def _ranker(estimator: Any, place: Place) -> dict[str, Any]:
    inner = _inner(estimator, estimator.regressor_, place)
    return {
        "kind": "era_ranker",
        "regressor": inner,
        "output": str(estimator._fitted_with.output),
        "by_era": _by_era(estimator, place),
        "n_outputs": inner["n_outputs"],
    }


def _blend(estimator: Any, place: Place) -> dict[str, Any]:
    parts = [
        _inner(estimator, model, place, f"regressor {name!r}")
        for name, model in estimator.named_estimators_.items()
    ]
    return {
        "kind": "era_blend",
        "parts": parts,
        "weights": array_data(estimator.weights_),
        "by_era": _by_era(estimator, place),
        "n_outputs": 1,
    }


def _neutralizer(estimator: Any, place: Place) -> dict[str, Any]:
    known, columns, fill = estimator._fitted_with, estimator.columns_, estimator._fill
    inner = _inner(estimator, estimator.regressor_, place)
    return {
        "kind": "era_neutralizer",
        "regressor": inner,
        "to": str(known.neutralize_to),
        "columns": None if columns is None else plain_ints(columns),
        "fill": None if fill is None else array_data(fill),
        "proportion": float(known.proportion),
        "by_era": _by_era(estimator, place),
        "n_outputs": inner["n_outputs"],
    }


def _shrinker(estimator: Any, place: Place) -> dict[str, Any]:
    inner = _inner(estimator, estimator.regressor_, place)
    return shrinker_node(estimator, inner, place)


def shrinker_node(
    estimator: Any,
    inner: dict[str, Any],
    place: Place,
    columns: list[int] | None = None,
) -> dict[str, Any]:
    """Return a regressor's node whose predictions a fitted shrinker shrinks.

    Parameters
    ----------
    estimator : FamiliarityShrinker
    inner : dict
        The regressor's node.
    place : Place
        The autoencoder's.
    columns : list of int, default=None
        The columns that the autoencoder gets; None for all.
    """
    known, density = estimator._fitted_with, unfrozen(estimator.autoencoder_)
    return {
        "kind": "shrinker",
        "regressor": inner,
        "columns": columns,
        "density": place.inside("autoencoder", eras=False).density(density),
        "per": str(known.per),
        "median": float(estimator.median_),
        "spread": float(estimator.spread_),
        "strength": float(known.strength),
        "by_era": _by_era(estimator, place),
        "n_outputs": inner["n_outputs"],
    }


MODELS = {
    key_of(compose.AugmentedRegressor): _augmented,
    key_of(compose.EraBlend): _blend,
    key_of(compose.EraBoostedRegressor): _plain,
    key_of(compose.EraNeutralizer): _neutralizer,
    key_of(compose.EraRanker): _ranker,
    key_of(compose.FamiliarityShrinker): _shrinker,
    key_of(compose.PanelLGBMRegressor): _plain,
    key_of(compose.PanelXGBRegressor): _plain,
    key_of(compose.ResidualTargetRegressor): _plain,
}
