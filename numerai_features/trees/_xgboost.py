"""XGBoost with parameters that make it grow LightGBM's trees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numerai_features._arguments import THREADS, TREE_SEED, checked
from numerai_features._compat import StrOptions
from numerai_features._optional import import_optional
from numerai_features.trees._device import xgboost_device
from numerai_features.trees._lightgbm import MAX_BIN, PRESETS, checked_parameters

if TYPE_CHECKING:
    from xgboost import XGBRegressor

_LIGHTGBM_MIN_CHILD_SAMPLES = 20


@checked(
    preset=[StrOptions(set(PRESETS))],
    device=[str],
    n_jobs=THREADS,
    random_state=TREE_SEED,
)
def make_xgboost(
    preset: str = "small",
    *,
    device: str = "auto",
    n_jobs: int | None = None,
    random_state: Any = None,
    **params: Any,
) -> XGBRegressor:
    """Make an unfitted XGBoost regressor that grows trees as `make_lightgbm` does.

    It is a plain ``xgboost.XGBRegressor``. It uses histograms of 63 bins, grows leaf by
    leaf (``grow_policy="lossguide"``) up to the preset's leaves and depth, and has no
    L2 penalty. ``min_child_weight``, which counts rows for squared error, replaces
    LightGBM's smallest leaf size (20 rows; 10,000 for "deep").

    Parameters
    ----------
    preset : {"small", "large", "deep"}, default="small"
        As in `make_lightgbm`.
    device : {"auto", "cpu", "cuda", "cuda:<number>"}, default="auto"
        "auto" is "cuda" if XGBoost is built with CUDA and an NVIDIA device is visible,
        else "cpu".
    n_jobs : int, default=None
        Number of threads; None, 0 and negative numbers mean all.
    random_state : int, RandomState, Generator or None, default=None
        Seed of the column sampling, or a generator that draws one in each fit. None is
        XGBoost's fixed default.
    **params
        Other parameters of XGBoost, under any of their names; they override the preset.
        None is XGBoost's own default.

    Returns
    -------
    xgboost.XGBRegressor

    Raises
    ------
    ImportError
        If XGBoost is not installed; the message says how to install it.
    ValueError
        If the preset is unknown, the device is unknown or does not work, or XGBoost
        does not know a parameter, or one is given under two names.

    Examples
    --------
    >>> from numerai_features.trees import make_xgboost
    >>> model = make_xgboost("small", device="cpu", n_estimators=100)
    >>> model.n_estimators, model.max_leaves, model.min_child_weight
    (100, 31, 20)
    """
    arguments = {"device": device, "n_jobs": n_jobs, "random_state": random_state}
    params = checked_parameters(params, "make_xgboost", **arguments)
    parameters = _translated(dict(PRESETS[preset]))
    xgboost = import_optional("xgboost", extra="xgboost", needed_by="make_xgboost")
    parameters |= {"device": xgboost_device(device)}
    parameters |= {"n_jobs": n_jobs, "random_state": random_state}
    model: XGBRegressor = xgboost.XGBRegressor(**parameters | params)
    return model


def _translated(preset: dict[str, Any]) -> dict[str, Any]:
    leaves = preset.pop("num_leaves")
    rows = preset.pop("min_child_samples", _LIGHTGBM_MIN_CHILD_SAMPLES)
    return {
        **preset,
        "max_leaves": leaves,
        "min_child_weight": rows,
        "grow_policy": "lossguide",
        "tree_method": "hist",
        "max_bin": MAX_BIN,
        "reg_lambda": 0.0,
    }
