"""Models of tree libraries: their settings and checks."""

from __future__ import annotations

import math
from typing import Any

from numerai_features.experiment._schema import (
    KeyPath,
    Problems,
    Table,
    got,
    validate,
)
from numerai_features.experiment._tables import EXPERIMENT
from numerai_features.experiment._trust import flat, untrusted_params

_ELSEWHERE = {
    "n_jobs": "model.n_jobs",
    "device": "model.device",
    "random_state": "seed",
}
_NAN_ALLOWED = "missing"  # of XGBoost: the value of missing cells


def make_trees(library: str, settings: dict[str, Any], seed: int) -> Any:
    """Return an unfitted model of a tree library, for settings as in ``[model]``."""
    from numerai_features.trees import make_lightgbm, make_xgboost

    make = make_lightgbm if library == "lightgbm" else make_xgboost
    return make(
        settings["preset"],
        device=settings["device"],
        n_jobs=settings["n_jobs"],
        random_state=seed,
        **settings["params"],
    )


def resolve_trees(
    library: str, given: dict[str, Any], problems: Problems, path: KeyPath
) -> dict[str, Any]:
    """Return settings as in ``[model]``, with all defaults, of a ``[models]`` table."""
    model = EXPERIMENT.tables["model"]
    fields = {name: own for name, own in model.fields.items() if name != "library"}
    return {"library": library} | validate(Table("", fields), given, problems, path)


def check_model(
    model: dict[str, Any],
    problems: Problems,
    *,
    trusted: bool,
    path: KeyPath = ("model",),
) -> None:
    """Check the parameters of trees; report one problem per parameter.

    Parameters
    ----------
    model : dict
        The table ``[model]``, or settings like it.
    problems : list of (path, message)
        New problems are appended.
    trusted : bool
        Whether the parameters may reach files and other machines.
    path : tuple of str, default=("model",)
        The path of the table in the file.
    """
    params, library = model["params"], model["library"]
    told: dict[str, str] = {}
    if not trusted:
        told |= dict(untrusted_params(params))
    told = _unknown(library, params) | told
    told |= {name: message for name, value in params.items()
             if (message := _no_value(name, value))}  # fmt: skip
    if not told:
        told = _refused(library, params)
    problems += [((*path, "params", n), told[n]) for n in params if n in told]


def _no_value(name: str, value: Any) -> str | None:
    """Return the problem of a value that no library accepts, or None."""
    if name in _ELSEWHERE:
        return f"is set elsewhere: use {_ELSEWHERE[name]}."
    if not isinstance(value, bool | int | float | str | list):
        return f"got {got(value)}; expected a number, string, boolean or list."
    single = list(flat(value))
    if None in single:
        return f"got {got(value)}; a list cannot hold None, which TOML does not have."
    nan = any(isinstance(item, float) and math.isnan(item) for item in single)
    if nan and name != _NAN_ALLOWED:
        return f"got {got(value)}; expected a number that is not NaN."
    return None


def _unknown(library: str, params: dict[str, Any]) -> dict[str, str]:
    """Return problems of parameter names: unknown, or aliases of what is set elsewhere.

    There are none if the library is not installed yet.
    """
    from numerai_features.trees._names import other_names, parameter_problems

    if not params:
        return {}
    try:
        elsewhere = {
            name: f"is an alias of {key!r}, which is set elsewhere: use "
            f"{_ELSEWHERE[key]}."
            for name, key in other_names(library, params, _ELSEWHERE).items()
        }
        return elsewhere | parameter_problems(library, params)
    except ImportError:  # the run needs the library, and reports that it is missing
        return {}


def _refused(library: str, params: dict[str, Any]) -> dict[str, str]:
    """Return the first parameter whose value the library rejects, and why."""
    from numerai_features.trees._lightgbm import checked_parameters

    try:
        checked_parameters(params, f"make_{library}")
    except ImportError:  # as in _unknown
        return {}
    except ValueError as error:
        message = str(error)
        named = [name for name in params if f"'{name}'" in message]
        return {name: message for name in (named or list(params))[:1]}
    return {}
