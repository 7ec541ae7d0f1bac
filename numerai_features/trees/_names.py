"""Parameter names of tree libraries, read from the installed libraries."""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from numerai_features._names import near_names
from numerai_features._optional import import_optional

# XGBoost only reports the parameters of the current booster and objective; these are
# the others.
_XGBOOST = """
    nthread seed seed_per_iteration fail_on_invalid_gpu_id disable_default_eval_metric
    eta min_split_loss lambda alpha updater process_type refresh_leaf predictor
    max_cached_hist_node extmem_single_page sketch_eps sketch_ratio sparse_threshold
    sample_type normalize_type rate_drop one_drop skip_drop feature_selector top_k
    tolerance num_class tweedie_variance_power huber_slope quantile_alpha
    expectile_alpha aft_loss_distribution aft_loss_distribution_scale
    lambdarank_pair_method lambdarank_num_pair_per_sample lambdarank_normalization
    lambdarank_score_normalization lambdarank_unbiased lambdarank_bias_norm
    ndcg_exp_gain
""".split()
_XGBOOST_ALIASES = {
    "eta": "learning_rate",
    "min_split_loss": "gamma",
    "lambda": "reg_lambda",
    "alpha": "reg_alpha",
    "seed": "random_state",
    "nthread": "n_jobs",
}


# Fields of XGBoost's configuration that are not parameters.
_NO_PARAMETERS = {
    *("name", "num_trees", "num_feature", "num_target", "specified_updater"),
    "updater_seq",
}


def parameter_problems(library: str, params: Mapping[str, Any]) -> dict[str, str]:
    """Return the problems with parameter names.

    Parameters
    ----------
    library : {"lightgbm", "xgboost"}
    params : mapping
        Parameters that are passed to the library.

    Returns
    -------
    dict
        A message for each name that the library does not know, or that is an alias of
        an earlier one.
    """
    known = _known(library, params)
    problems: dict[str, str] = {}
    main: dict[str, str] = {}
    for name in params:
        own = known.get(name)
        if own is None and library == "lightgbm" and not _lightgbm_aliases():
            continue  # this version's names are unknown
        if own is None:
            near = near_names(name, known)
            problems[name] = f"is not a parameter of {library}.{near}"
        elif own in main:
            problems[name] = f"is the same as {main[own]!r}: pass one of them."
        else:
            main[own] = name
    return problems


def other_names(
    library: str, params: Mapping[str, Any], of: Collection[str]
) -> dict[str, str]:
    """Return the parameters that are aliases of names in `of`, with these names.

    Parameters
    ----------
    library : {"lightgbm", "xgboost"}
    params : mapping
        Parameters that are passed to the library.
    of : collection of str
        Names of parameters that are given in another way.
    """
    known = _known(library, params)
    ways = {known.get(name, name): name for name in of}
    others = {name: ways.get(known.get(name, name)) for name in params}
    return {name: way for name, way in others.items() if way and name not in of}


def own_names(library: str, params: Mapping[str, Any]) -> dict[str, str]:
    """Return the names of parameters in the library's scikit-learn class.

    If a parameter has two names, one set by the class's default and one by the user,
    the library uses either of them, and not always the user's.

    Parameters
    ----------
    library : {"lightgbm", "xgboost"}
    params : mapping
        Parameters without problems.
    """
    known = _known(library, params)
    own = {known.get(name, name): name for name in _class_names(library)}
    main = {name: known.get(name, name) for name in params}
    return {name: own.get(main[name], main[name]) for name in params}


def _known(library: str, params: Mapping[str, Any]) -> dict[str, str]:
    """Return all names of parameters, mapped to the parameter that each stands for."""
    if library == "lightgbm":
        return _lightgbm_names()
    names = _named([*_class_names("xgboost"), *_XGBOOST])
    if not names.keys() >= params.keys():
        asked = {k: params.get(k) for k in ("booster", "objective")}
        names |= _named(_told({k: v for k, v in asked.items() if isinstance(v, str)}))
    return names


@functools.cache
def _class_names(library: str) -> list[str]:
    module = import_optional(library, extra=library, needed_by=f"make_{library}")
    regressors = {"lightgbm": "LGBMRegressor", "xgboost": "XGBRegressor"}
    return list(getattr(module, regressors[library])().get_params())


@functools.cache
def _lightgbm_names() -> dict[str, str]:
    names = {name: name for name in _class_names("lightgbm")}
    aliases = _lightgbm_aliases()
    return names | {name: main for main, some in aliases.items() for name in some}


@functools.cache
def _lightgbm_aliases() -> dict[str, list[str]]:
    """Return all aliases of all parameters; empty if this version hides them."""
    try:
        from lightgbm.basic import _ConfigAliases

        return dict(_ConfigAliases._get_all_param_aliases())
    except (ImportError, AttributeError):
        return {}


def _named(names: Iterable[str]) -> dict[str, str]:
    return {name: _XGBOOST_ALIASES.get(name, name) for name in names}


def _told(asked: dict[str, str]) -> list[str]:
    """Return the parameters in the configuration of an empty XGBoost model."""
    import xgboost

    rows = xgboost.DMatrix(np.zeros((1, 1)), np.zeros(1), nthread=1)
    try:
        config = xgboost.Booster({**asked, "nthread": 1}, [rows]).save_config()
    except xgboost.core.XGBoostError:  # fit reports the problem
        return []
    return list(_leaves(json.loads(config)["learner"]))


def _leaves(config: Any) -> Iterator[str]:
    for name, value in config.items():
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict):
                yield from _leaves(inner)
            elif name not in _NO_PARAMETERS:
                yield name
