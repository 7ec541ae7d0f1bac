"""The settings and versions that results depend on, of an experiment and of an arm."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from numerai_features import __version__
from numerai_features._cache import versions
from numerai_features.experiment._arms import RANDOM
from numerai_features.experiment._schema import EXPERIMENT, neutral_paths

_LIBRARIES = ("lightgbm", "xgboost")
_TABLES_OF_ARMS = ("latents", "models")
_JUDGED_BY = "references"  # key of what only the judging depends on

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
    others = {name for name in _LIBRARIES if name != tables["model"]["library"]}
    used = {k: v for k, v in versions().items() if k not in others}
    identity: dict[str, Any] = {
        "settings": tables | {"signature": signature, _JUDGED_BY: references or {}},
        "versions": {"numerai-features": __version__, **used},
    }
    return json.loads(json.dumps(identity))  # type: ignore[no-any-return]


def shared_settings(settings: Settings) -> Settings:
    """Return the settings that the fits of all arms depend on."""
    others = (*_TABLES_OF_ARMS, _JUDGED_BY)
    return {k: v for k, v in settings.items() if k not in others}


def own_settings(settings: Settings, arm: str) -> Settings:
    """Return the settings of the arms that the results of this arm depend on.

    The number of random columns is the largest number of latents of any arm, so random
    columns depend on all embedders.
    """
    latents, models = (settings.get(table, {}) for table in _TABLES_OF_ARMS)
    if arm == RANDOM:
        return {"latents": latents}
    own = {"latents": latents, "models": models}
    own = {table: {arm: arms[arm]} for table, arms in own.items() if arm in arms}
    if "latents" in own:
        own["latents"]["quantize"] = latents.get("quantize")
    return own


def settings_of_arm(settings: Settings, arm: str) -> Settings:
    """Return all settings that an arm's results depend on."""
    return shared_settings(settings) | own_settings(settings, arm)


def has_random(settings: Settings) -> bool:
    """Whether an experiment has an arm of random columns."""
    latents = settings.get("latents", {})
    any_latents = any(isinstance(arm, dict) for arm in latents.values())
    return any_latents and bool(latents["random_columns"])


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
