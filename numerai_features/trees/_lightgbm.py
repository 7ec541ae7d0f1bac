"""LightGBM with the parameters that Numerai publishes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numerai_features._arguments import (
    ABOVE_ZERO,
    COUNT,
    NOT_NEGATIVE,
    THREADS,
    TREE_SEED,
    Finite,
    Whole,
    checked,
)
from numerai_features._compat import StrOptions, validate_parameter_constraints
from numerai_features._optional import import_optional
from numerai_features.trees._device import lightgbm_device
from numerai_features.trees._names import other_names, own_names, parameter_problems

if TYPE_CHECKING:
    from lightgbm import LGBMRegressor

PRESETS: dict[str, dict[str, Any]] = {
    "small": {
        "n_estimators": 2000,
        "learning_rate": 0.01,
        "max_depth": 5,
        "num_leaves": 31,
        "colsample_bytree": 0.1,
    },
    "large": {
        "n_estimators": 20_000,
        "learning_rate": 0.001,
        "max_depth": 6,
        "num_leaves": 64,
        "colsample_bytree": 0.1,
    },
    "deep": {
        "n_estimators": 30_000,
        "learning_rate": 0.001,
        "max_depth": 10,
        "num_leaves": 1024,
        "colsample_bytree": 0.1,
        "min_child_samples": 10_000,
    },
}

MAX_BIN = 63

# The sample takes 12 bytes per nonzero cell: with LightGBM's default of 200,000 rows it
# takes 4.5 GB at 2,376 features, over half of the memory of the training table.
SUBSAMPLE_FOR_BIN = 20_000


# Constraints of parameters by LightGBM's and XGBoost's names; the libraries check those
# that are not here.
_KNOWN: dict[str, list[Any]] = {
    "learning_rate": [ABOVE_ZERO],
    "max_depth": [Whole(-1)],
    "num_leaves": [Whole(2, 131_072)],
    "max_leaves": [Whole(0, 131_072)],
    "max_bin": [Whole(2, 65_535)],
    "min_child_samples": [Whole()],
    "min_child_weight": [NOT_NEGATIVE],
    "subsample_for_bin": [COUNT],
    "colsample_bytree": [Finite(0, 1, "right")],
    "subsample": [Finite(0, 1, "right")],
    "reg_alpha": [NOT_NEGATIVE],
    "reg_lambda": [NOT_NEGATIVE],
    "n_jobs": THREADS[:1],
}


def checked_parameters(
    params: dict[str, Any], owner: str, **arguments: Any
) -> dict[str, Any]:
    """Return parameters by their names in the scikit-learn class; raise if one is bad.

    `arguments` are the named arguments of the maker; `params` must not repeat one of
    them under another name.
    """
    if not params:
        return {}
    library = owner.removeprefix("make_")
    given = [n for n, value in arguments.items() if value not in (None, "auto")]
    problems = {
        name: f"is the same as {argument!r}: pass one of them."
        for name, argument in other_names(library, params, given).items()
    }
    problems |= parameter_problems(library, params)
    if problems:
        told = "\n".join(f"  {name}: {message}" for name, message in problems.items())
        raise ValueError(f"{owner} got invalid parameters:\n{told}")
    known = {name: [*constraints, None] for name, constraints in _KNOWN.items()}
    # LightGBM has no default for None here, unlike XGBoost
    known["n_estimators"] = [COUNT] if owner == "make_lightgbm" else [COUNT, None]
    own = own_names(library, params)
    known = {name: known[of] for name, of in own.items() if of in known}
    validate_parameter_constraints(known, params, owner)
    return {own[name]: value for name, value in params.items()}


@checked(
    preset=[StrOptions(set(PRESETS))],
    device=[StrOptions({"auto", "cpu", "gpu", "cuda"})],
    n_jobs=THREADS,
    random_state=TREE_SEED,
)
def make_lightgbm(
    preset: str = "small",
    *,
    device: str = "auto",
    n_jobs: int | None = None,
    random_state: Any = None,
    **params: Any,
) -> LGBMRegressor:
    """Make an unfitted LightGBM regressor with Numerai's published parameters.

    It is a plain ``lightgbm.LGBMRegressor``: unpickling needs LightGBM only.

    ========== ======= ============== ====== ======= ========= =====================
    preset     trees   learning rate  depth  leaves  colsample rows in a leaf
    ========== ======= ============== ====== ======= ========= =====================
    small      2,000   .01            5      31      .1        20
    large      20,000  .001           6      64      .1        20
    deep       30,000  .001           10     1024    .1        10,000
    ========== ======= ============== ====== ======= ========= =====================

    With ``colsample_bytree=0.1`` a few latents among thousands of features are rarely
    sampled: tune it in the same way in every arm of a comparison.

    Parameters
    ----------
    preset : {"small", "large", "deep"}, default="small"
        Set of base parameters. "small" is for trials; "deep" needs millions of rows.
    device : {"auto", "cpu", "gpu", "cuda"}, default="auto"
        If an NVIDIA device is visible, "auto" trains a tiny model, once per process, on
        CUDA and then on OpenCL ("gpu"), and uses the first that works; else it is
        "cpu". Results of different devices differ in the last digits.
    n_jobs : int, default=None
        Number of threads. None: one per physical core. 0: OpenMP's default. Negative:
        counted back from all cores.
    random_state : int, RandomState, Generator or None, default=None
        Seed of the column sampling, or a generator that draws one in each fit. None is
        LightGBM's fixed default.
    **params
        Other parameters of LightGBM, under any of their names; they override the
        preset. None is LightGBM's own default, except for ``n_estimators``. ``max_bin``
        defaults to 63, because latents are continuous; for the five bins of Numerai's
        features alone, 15 lose nothing and are faster. ``subsample_for_bin``, the
        number of rows that bins are found from, defaults to 20,000 instead of 200,000:
        this takes a third of the memory and finds the same five bins.

    Returns
    -------
    lightgbm.LGBMRegressor

    Raises
    ------
    ImportError
        If LightGBM is not installed; the message says how to install it.
    ValueError
        If the preset is unknown, the device is unknown or does not work, or LightGBM
        does not know a parameter, or one is given under two names.

    See Also
    --------
    tree_table : The input that takes the least memory.

    Examples
    --------
    >>> from numerai_features.trees import make_lightgbm
    >>> model = make_lightgbm("small", device="cpu", n_estimators=100)
    >>> model.n_estimators, model.num_leaves, model.get_params()["max_bin"]
    (100, 31, 63)
    """
    arguments = {"device": device, "n_jobs": n_jobs, "random_state": random_state}
    params = checked_parameters(params, "make_lightgbm", **arguments)
    parameters = dict(PRESETS[preset])
    lightgbm = import_optional("lightgbm", extra="lightgbm", needed_by="make_lightgbm")
    device_type = lightgbm_device(device)
    if device_type != "cpu":
        parameters["device_type"] = device_type
    parameters |= {"max_bin": MAX_BIN, "subsample_for_bin": SUBSAMPLE_FOR_BIN}
    parameters |= {"verbosity": -1, "n_jobs": n_jobs, "random_state": random_state}
    model: LGBMRegressor = lightgbm.LGBMRegressor(**parameters | params)
    return model
