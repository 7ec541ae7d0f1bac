"""The model that every arm of latents trains: its parameters, checked, and itself."""

from __future__ import annotations

import math
from typing import Any

from numerai_features.experiment._schema import Problems, got
from numerai_features.experiment._trust import flat, untrusted_params

_ELSEWHERE = {
    "n_jobs": "model.n_jobs",
    "device": "model.device",
    "random_state": "seed",
}
_NAN_ALLOWED = "missing"  # XGBoost's: which cells are missing


def make_model(tables: dict[str, Any]) -> Any:
    """Return the unfitted model of an experiment's tables."""
    from numerai_features.trees import make_lightgbm, make_xgboost

    settings = tables["model"]
    make = make_lightgbm if settings["library"] == "lightgbm" else make_xgboost
    return make(
        settings["preset"],
        device=settings["device"],
        n_jobs=settings["n_jobs"],
        random_state=tables["seed"],
        **settings["params"],
    )


def check_model(model: dict[str, Any], problems: Problems, *, trusted: bool) -> None:
    """Check the parameters of the model; each is told once.

    Parameters
    ----------
    model : dict
        The table ``[model]``.
    problems : list of (path, message)
        Grows by whatever is wrong.
    trusted : bool
        Whether the parameters may reach files and other machines.
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
    problems += [(("model", "params", n), told[n]) for n in params if n in told]


def _no_value(name: str, value: Any) -> str | None:
    """Say what is wrong with a value, whatever the library."""
    if name in _ELSEWHERE:
        return f"is set elsewhere: use {_ELSEWHERE[name]}."
    if not isinstance(value, bool | int | float | str | list):
        return f"got {got(value)}; expected a number, string, boolean or list."
    single = list(flat(value))
    if None in single:
        return f"got {got(value)}; a list cannot hold None, which TOML does not have."
    nan = any(isinstance(item, float) and math.isnan(item) for item in single)
    if nan and name != _NAN_ALLOWED:
        return f"got {got(value)}; expected a number, and NaN is none."
    return None


def _unknown(library: str, params: dict[str, Any]) -> dict[str, str]:
    """Return what the library does not know, or what is set elsewhere by another name.

    Nothing if the library is not there yet.
    """
    from numerai_features.trees._names import other_names, parameter_problems

    if not params:
        return {}
    try:
        elsewhere = {
            name: f"is {key!r}, which is set elsewhere: use {_ELSEWHERE[key]}."
            for name, key in other_names(library, params, _ELSEWHERE).items()
        }
        return elsewhere | parameter_problems(library, params)
    except ImportError:  # it is told by the run, which needs the library
        return {}


def _refused(library: str, params: dict[str, Any]) -> dict[str, str]:
    """Return the first parameter whose value the library would refuse, and why."""
    from numerai_features.trees._lightgbm import checked_parameters

    try:
        checked_parameters(params, f"make_{library}")
    except ImportError:  # told by the run
        return {}
    except ValueError as error:
        message = str(error)
        named = [name for name in params if f"'{name}'" in message]
        return {name: message for name in (named or list(params))[:1]}
    return {}
