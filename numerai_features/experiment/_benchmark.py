"""What an arm needs a benchmark for, and the problems of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numerai_features.experiment._parts import Part, parts_of
from numerai_features.experiment._schema import KeyPath, Problems, got

PENALTY = "benchmark_penalty"
"""The parameter of any network whose loss needs a benchmark."""

_RESIDUAL = "residual_to"
_BCE = 'loss = "bce", which needs targets in [0, 1]: residuals are around zero.'


def benchmark_key(part: Part) -> str | None:
    """Return the key of a part that makes its fit need a benchmark, or None."""
    penalty = part.get(PENALTY, 0)
    if type(penalty) in (int, float) and penalty > 0:
        return PENALTY
    return _RESIDUAL if part.get(_RESIDUAL) is not None else None


def trained_with_benchmark(
    tables: dict[str, Any], arm: str, recipe: dict[str, Any]
) -> list[KeyPath]:
    """Return the paths of the settings by which an arm is trained with the benchmark.

    They are keys of its recipe, and of the model and the latents that it names.
    """
    keys = (_RESIDUAL, "benchmark_feature")
    paths: list[KeyPath] = [("arms", arm, key) for key in keys if recipe[key]]
    named = [("models", recipe["model"])]
    named += [("latents", name) for name in (*recipe["latents"], recipe["shrink"])]
    for table, name in named:
        key = benchmark_key(parts_of(tables, table).get(name, {}))
        if key is not None:
            paths.append((table, name, key))
    return paths


def reads_benchmark(tables: dict[str, Any], arm: str, recipe: dict[str, Any]) -> bool:
    """Whether the predictions of an arm depend on the benchmark's."""
    return bool(_reading(tables, arm, recipe))


def check_benchmark(
    tables: dict[str, Any], recipes: dict[str, dict[str, Any]], problems: Problems
) -> None:
    """Tell what needs a benchmark that is not there, and what cannot use it.

    Parameters
    ----------
    tables : dict
        The tables of an experiment, whose parts are resolved.
    recipes : dict
        The recipes of the arms whose keys are right.
    problems : list of (path, message)
        New problems are appended.
    """
    if tables["data"]["benchmark"] is None:
        read = [_reading(tables, arm, recipe) for arm, recipe in recipes.items()]
        message = "needs data.benchmark, the files with its predictions."
        paths = dict.fromkeys(path for paths in read for path in paths)
        problems += [(path, message) for path in paths]
    for arm, recipe in recipes.items():
        found = _misuses(tables, recipe)
        problems += [(("arms", arm, key), message) for key, message in found]
    for name, part in parts_of(tables, "latents").items():
        told = None if part.get(_RESIDUAL) is None else _embedder_problem(part)
        if told is not None:
            problems.append((("latents", name, _RESIDUAL), told))
    for name, part in parts_of(tables, "augment").items():
        inside = parts_of(tables, "latents").get(str(part.get("embedder")), {})
        if benchmark_key(inside) == PENALTY:
            message = f"got {got(part['embedder'])}, which has {_penalty(inside)}, "
            message += "but an augmenter gets no benchmark. Name other latents."
            problems.append((("augment", name, "embedder"), message))


def _reading(tables: dict[str, Any], arm: str, recipe: dict[str, Any]) -> list[KeyPath]:
    paths = trained_with_benchmark(tables, arm, recipe)
    if (recipe.get("neutralize") or {}).get("to") == "benchmark":
        paths.append(("arms", arm, "neutralize"))
    return paths


def _misuses(
    tables: dict[str, Any], recipe: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    model = parts_of(tables, "models").get(recipe["model"] or "", {})
    if recipe["benchmark_feature"] and model.get("model") == "Ridge":
        message = "needs a model that takes NaN, for rows without a benchmark."
        yield "benchmark_feature", message
    if recipe[_RESIDUAL] is not None and benchmark_key(model) is not None:
        yield (
            _RESIDUAL,
            f"cannot be combined with model = {got(recipe['model'])}, which has "
            f"{_penalty(model)}: such a model is trained on the targets "
            "themselves. Leave one of the two out.",
        )
    if recipe[_RESIDUAL] is not None and model.get("loss") == "bce":
        message = f"cannot be combined with model = {got(recipe['model'])} and {_BCE}"
        yield _RESIDUAL, message


def _embedder_problem(part: Part) -> str | None:
    """Return why an embedder cannot be trained on residuals, or None."""
    from numerai_features import embedders
    from numerai_features.compose._reach import extras_of

    chosen = getattr(embedders, str(part.get("embedder")), None)
    if chosen is None:
        return None  # told elsewhere
    if "benchmark" not in extras_of(chosen.fit):
        return f"is not allowed for {part['embedder']}, whose fit takes no benchmark."
    if benchmark_key(part) == PENALTY:
        return (
            f"cannot be combined with {_penalty(part)}: the embedder is trained "
            "on the targets themselves then. Leave one of the two out."
        )
    return f"cannot be combined with {_BCE}" if part.get("loss") == "bce" else None


def _penalty(part: Part) -> str:
    return f"{PENALTY} = {got(part[PENALTY])}"
