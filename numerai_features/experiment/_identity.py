"""The settings and versions that results depend on, of an experiment and of an arm."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from numerai_features._cache import versions
from numerai_features.experiment._arms import made_of, recipes_of
from numerai_features.experiment._benchmark import reads_benchmark
from numerai_features.experiment._parts import CLASS_KEYS, TREES, library_of, parts_of
from numerai_features.experiment._schema import neutral_paths
from numerai_features.experiment._tables import EXPERIMENT

_LIBRARIES = ("lightgbm", "xgboost")
_REFERENCES = "references"  # key of what the judging, and some arms, depend on

Settings = dict[str, Any]


def identity_of(
    tables: dict[str, Any],
    signature: dict[str, Any],
    references: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return everything that an experiment's results depend on, in JSON's types.

    Parameters
    ----------
    tables : dict
        The tables of an experiment.
    signature : dict
        Everything that its panel depends on.
    references : dict, default=None
        Everything that the predictions of a benchmark and a meta model depend on.

    Returns
    -------
    dict
        ``settings`` are the user's choices and the signatures of the panel and the
        references; ``versions`` are the versions of this package and of the libraries
        that fit.
    """
    tables = deepcopy(tables)
    for *path, name in neutral_paths(EXPERIMENT):
        table = tables
        for key in path:
            table = table.get(key, {})
        table.pop(name, None)
    signature = {k: v for k, v in signature.items() if k != "version"}
    names = (None, *tables["models"])
    others = {*_LIBRARIES} - {library_of(tables, name) for name in names}
    used = {k: v for k, v in versions().items() if k not in others}
    identity: dict[str, Any] = {
        "settings": tables | {"signature": signature, _REFERENCES: references or {}},
        "versions": used,
    }
    return json.loads(json.dumps(identity))  # type: ignore[no-any-return]


def versions_of_arm(identity: dict[str, Any], arm: str) -> dict[str, str]:
    """Return the versions of the libraries that an arm's fits use."""
    settings, versions = identity["settings"], identity["versions"]
    recipe = recipes_of(settings).get(arm)
    if recipe is None:
        return dict(versions)
    own = own_settings(settings, arm)
    names = [recipe["model"], *own.get("models", {})]
    for part in own.get("latents", {}).values():
        if isinstance(part, dict) and "n" in (part.get("select") or {}):
            names.append(part["select"].get("model"))
    for part in own.get("models", {}).values():
        if part["model"] not in TREES and "regressor" not in part:
            names.append(None)  # EraBoostedRegressor of [model], at most
    used = {library_of(settings, name) for name in names}
    return {k: v for k, v in versions.items() if k not in _LIBRARIES or k in used}


def shared_settings(settings: Settings) -> Settings:
    """Return the settings that the fits of all arms depend on."""
    others = (*CLASS_KEYS, "arms", _REFERENCES)
    return {k: v for k, v in settings.items() if k not in others}


def own_settings(settings: Settings, arm: str) -> Settings:
    """Return the settings that only the results of some arms, as this one, depend on.

    They are the arm's recipe, the parts that it names, and the benchmark if it is read.
    The number of random columns or principal components is the largest number of
    latents of any arm, so they depend on all embedders. There are none for an arm that
    does not exist.
    """
    recipe = recipes_of(settings).get(arm)
    if recipe is None:
        return {}
    own: Settings = {"arms": {arm: recipe}}
    for other in recipe["blend"] or ():
        own = _joined(own, own_settings(settings, other))
    latents = [n for n in (*recipe["latents"], recipe["shrink"]) if n]
    for name in recipe["augment"] or ():
        own.setdefault("augment", {})[name] = part = settings["augment"][name]
        latents += filter(None, [part.get("embedder")])
    models = [recipe["model"]]
    if made_of(recipe):
        others = recipes_of(settings).items()
        own["latents_of_arms"] = {n: r["latents"] for n, r in others if r["latents"]}
        latents = list(parts_of(settings, "latents"))
    for name in latents:
        part = settings["latents"].get(name)
        if part is not None:
            own.setdefault("latents", {})[name] = part
            models.append(part.get("select", {}).get("model"))
    if latents:
        own.setdefault("latents", {})["quantize"] = settings["latents"]["quantize"]
    for name in filter(None, models):
        model = settings["models"][name]
        for each in filter(None, (name, model.get("regressor"))):
            part = settings["models"][each]
            if "params" in part:  # trees, whose threads change nothing
                part = {k: v for k, v in part.items() if k != "n_jobs"}
            own.setdefault("models", {})[each] = part
    if reads_benchmark(settings, arm, recipe):
        benchmark = settings[_REFERENCES].get("benchmark")
        own[_REFERENCES] = {"benchmark": benchmark}
    return own


def _joined(first: Settings, second: Settings) -> Settings:
    """Return the union of nested tables."""
    return first | {
        name: _joined(first[name], value)
        if isinstance(first.get(name), dict) and isinstance(value, dict)
        else value
        for name, value in second.items()
    }


def settings_of_arm(settings: Settings, arm: str) -> Settings:
    """Return all settings that an arm's results depend on."""
    return shared_settings(settings) | own_settings(settings, arm)


def arms_with_made_latents(settings: Settings) -> set[str]:
    """Return the arms with principal components or random columns."""
    recipes = recipes_of(settings)
    return {name for name, recipe in recipes.items() if made_of(recipe)}


def key_of(*parts: Any) -> str:
    """Return a hash of values of JSON's types."""
    told = json.dumps(parts, sort_keys=True)
    return hashlib.blake2b(told.encode(), digest_size=32).hexdigest()


def differences(before: Any, now: Any, path: str = "") -> Iterator[str]:
    """Yield a message for each changed value, with its dotted name."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        if not are_same(before, now):
            yield f"{path}: {_told(before)} then, {_told(now)} now"
        return
    for name in dict.fromkeys([*before, *now]):
        inner = f"{path}.{name}" if path else name
        yield from differences(before.get(name), now.get(name), inner)


def are_same(before: Any, now: Any) -> bool:
    """Whether two values have the same JSON text; ``==`` would be False for NaN."""
    return _told(before) == _told(now)


def _told(value: Any) -> str:
    return "not set" if value is None else json.dumps(value, sort_keys=True)
