"""The arms of an experiment: recipes that name its parts."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from numerai_features.experiment._benchmark import check_benchmark
from numerai_features.experiment._columns import Columns, targets_of
from numerai_features.experiment._parts import (
    MADE,
    PCA,
    RANDOM,
    name_problem,
    parts_of,
)
from numerai_features.experiment._schema import (
    KeyPath,
    Problems,
    got,
    unknown,
    validate,
)
from numerai_features.experiment._tables import ARM

ORIGINALS = "originals"
COLUMNS = ("era", "target", "fold", "id")
"""Columns of predictions beside those of the arms."""

Recipe = dict[str, Any]


def recipes_of(tables: dict[str, Any]) -> dict[str, Recipe]:
    """Return the recipes of all arms by name, in the order of results.

    Without ``[arms]`` they are: the originals; one arm for each ``[latents.NAME]``;
    PCA and random columns; and one arm for each ``[models.NAME]``.
    """
    given = tables.get("arms")
    if given:
        return dict(given)
    embedders, latents = parts_of(tables, "latents"), tables["latents"]
    recipes = {ORIGINALS: _recipe()}
    recipes |= {name: _recipe(latents=[name]) for name in embedders}
    for name, key in ((PCA, "pca"), (RANDOM, "random_columns")):
        if embedders and latents[key]:
            recipes[name] = _recipe(latents=[name])
    models = parts_of(tables, "models")
    return recipes | {name: _recipe(model=name) for name in models}


def labels_of(tables: dict[str, Any]) -> dict[str, str]:
    """Return the names of all arms, mapped to their labels in results."""
    recipes = recipes_of(tables)
    if tables.get("arms"):
        return {name: name for name in recipes}
    return {n: f"+ {n}" if recipe["latents"] else n for n, recipe in recipes.items()}


def latents_named(tables: dict[str, Any]) -> set[str]:
    """Return the latents that any arm names."""
    recipes = recipes_of(tables).values()
    return {name for r in recipes for name in (*r["latents"], r["shrink"]) if name}


def made_of(recipe: Recipe) -> list[str]:
    """Return the latents of an arm whose number depends on other arms' latents."""
    return [name for name in recipe["latents"] if name in MADE]


def resolve_arms(
    tables: dict[str, Any], problems: Problems, columns: Columns | None
) -> None:
    """Check ``[arms]``, and fill in all keys.

    Parameters
    ----------
    tables : dict
        The tables of an experiment, whose parts are resolved; arms are replaced.
    problems : list of (path, message)
        New problems are appended.
    columns : Columns or None
        The features and targets of the data; None if they are unknown.
    """
    right: list[str] = []
    for name, given in tables["arms"].items():
        path = ("arms", name)
        if message := name_problem(name, COLUMNS):
            problems.append((path, message))
        n_before = len(problems)
        recipe = deepcopy(validate(ARM, given, problems, path))
        tables["arms"][name] = recipe
        for key in ("augment", "target"):
            if isinstance(recipe[key], str):
                recipe[key] = [recipe[key]]
        if len(problems) == n_before:
            right.append(name)
    for name in right:
        blends = tables["arms"][name]["blend"] is not None
        own = _blend_problems if blends else _problems
        found = own(name, tables, columns)
        problems += [(("arms", name, *key), message) for key, message in found]
    recipes = recipes_of(tables)
    named = {name: recipes[name] for name in right} if tables["arms"] else recipes
    check_benchmark(tables, named, problems)
    if not tables["arms"]:
        _check_names(tables, problems)
        _check_alike(tables, ("latents", "models"), problems, (ORIGINALS, *MADE))
        return
    _check_alike(tables, ("arms",), problems)
    circle = _find_circle(tables["arms"])
    if circle:
        told = " -> ".join(circle)
        message = f"is a blend of itself: {told}. A blend needs other arms."
        problems.append((("arms", circle[0], "blend"), message))


def _check_alike(
    tables: dict[str, Any],
    those: tuple[str, ...],
    problems: Problems,
    others: tuple[str, ...] = (),
) -> None:
    """Check that arms' names differ also where a disk takes "A" for "a"."""
    first = {name: name for name in others}
    for table in those:
        for name in parts_of(tables, table):
            other = first.setdefault(name.casefold(), name)
            if other != name:
                message = f"differs from {got(other)} only by capital letters."
                problems.append(((table, name), message))


def _recipe(**keys: Any) -> Recipe:
    return deepcopy(validate(ARM, keys, []))


def _check_names(tables: dict[str, Any], problems: Problems) -> None:
    """Check the names of the parts that are arms themselves."""
    for table in ("latents", "models"):
        for name in parts_of(tables, table):
            taken = [ORIGINALS, *MADE]
            if table == "models":
                taken += [*COLUMNS, *parts_of(tables, "latents")]
            if name in taken and not (table == "latents" and name in MADE):
                message = f"the name {got(name)} of an arm is taken; choose another."
                problems.append(((table, name), message))


def _problems(
    arm: str, tables: dict[str, Any], columns: Columns | None
) -> Iterator[tuple[KeyPath, str]]:
    """Yield the problems of an arm that is fitted."""
    recipe = tables["arms"][arm]
    yield from _unknown_parts(recipe, tables)
    targets = targets_of(tables)
    for target in recipe["target"] or ():
        if target not in targets and isinstance(targets[0], str):
            yield ("target",), unknown("target of [targets]", target, targets)
    for key in ("target", "augment"):
        if len(set(recipe[key] or ())) < len(recipe[key] or ()):
            yield (key,), "names one twice."
    if columns is not None:
        for path, chosen in _sets_of(recipe):
            found: Problems = []
            columns.tell(chosen, found, path)
            yield from found
    more = ("latents", "era_feature", "benchmark_feature")
    if recipe["features"] == [] and not any(recipe[key] for key in more):
        yield ("features",), "got []; without latents, the model has no columns."
    if recipe["proportion"] != 1 and recipe["residual_to"] is None:
        yield ("proportion",), 'needs residual_to = "benchmark".'
    if recipe["only_new_rows"] and not recipe["augment"]:
        yield ("only_new_rows",), "needs augment, which makes new rows."
    neutralize = recipe.get("neutralize") or {}
    if neutralize.get("to") == "benchmark" and neutralize["features"] is not None:
        yield ("neutralize", "features"), 'needs to = "features".'


def _unknown_parts(
    recipe: Recipe, tables: dict[str, Any]
) -> Iterator[tuple[KeyPath, str]]:
    """Yield the names of parts that do not exist."""
    embedders = parts_of(tables, "latents")
    known = {
        "latents": [*embedders, *(MADE if embedders else ())],
        "augment": parts_of(tables, "augment"),
        "model": parts_of(tables, "models"),
        "shrink": embedders,
    }
    for key, there in known.items():
        names = recipe[key] if isinstance(recipe[key], list) else [recipe[key]]
        for name in filter(None, names):
            if name not in there:
                kind = {"model": "models", "shrink": "latents"}.get(key, key)
                message = f"got {got(name)}; " + unknown(f"[{kind}] table", name, there)
                yield (key,), message
    if len(set(recipe["latents"])) < len(recipe["latents"]):
        yield ("latents",), "names a table twice."
    others = [_listed(arm) for arm in tables["arms"].values()]
    if made_of(recipe) and not any(o and not {*o} & {*MADE} for o in others):
        name = got(made_of(recipe)[0])
        message = f"{name} has as many columns as the most latents of another arm; "
        yield ("latents",), message + "there is no other arm with latents of a table."
    name = recipe["shrink"]
    if name in embedders and not _tells_familiarity(embedders[name]):
        yield (
            ("shrink",),
            f"got {got(name)}, whose embedder has no score_samples; expected the "
            "latents of an autoencoder, such as DAEEmbedder.",
        )


def _listed(arm: Any) -> list[str]:
    """Return the latents that an arm names, which may be wrong."""
    latents = arm.get("latents") if isinstance(arm, dict) else None
    return (
        [n for n in latents if isinstance(n, str)] if isinstance(latents, list) else []
    )


def _tells_familiarity(part: dict[str, Any]) -> bool:
    from numerai_features import embedders

    chosen = str(part.get("embedder"))
    return hasattr(getattr(embedders, chosen, None), "score_samples")


def _sets_of(recipe: Recipe) -> Iterator[tuple[KeyPath, Any]]:
    if recipe["features"] is not None:
        yield ("features",), recipe["features"]
    chosen = (recipe.get("neutralize") or {}).get("features")
    if chosen is not None:
        yield ("neutralize", "features"), chosen


def _blend_problems(
    arm: str, tables: dict[str, Any], _: Columns | None
) -> Iterator[tuple[KeyPath, str]]:
    """Yield the problems of an arm that blends others."""
    recipe, arms = tables["arms"][arm], tables["arms"]
    more = [key for key, value in recipe.items() if value != _recipe().get(key)]
    more.remove("blend")
    if more:
        message = "is not allowed beside blend, whose arms have their own."
        yield (more[0],), message
    weights = recipe["blend"]
    for name, weight in weights.items():
        if name not in arms:
            yield ("blend", name), unknown("arm", name, arms)
        if type(weight) not in (int, float) or not abs(weight) < float("inf"):
            yield ("blend", name), f"got {got(weight)}; expected a finite number."
            return
    if not sum(weights.values()) > 0:
        total = f"{sum(weights.values()):g}"
        yield ("blend",), f"weights sum to {total}; expected a sum above 0."


def _find_circle(arms: dict[str, Any]) -> list[str]:
    """Return the names of a circle of blends, the first one twice; else nothing."""

    def follow(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        blend = (arms.get(name) or {}).get("blend")
        for other in blend if isinstance(blend, dict) else ():
            if circle := follow(other, [*way, name]):
                return circle
        return []

    return next(filter(None, (follow(name, []) for name in arms)), [])
