"""Add trees to a fitted model, as each library continues training."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone

_CLASSES = {
    ("lightgbm", "LGBMRegressor"),
    ("xgboost", "XGBRegressor"),
    ("sklearn", "GradientBoostingRegressor"),
}
_BOOSTINGS = ("boosting_type", "boosting", "boost")  # the parameter's names in LightGBM
_FORESTS = ("rf", "random_forest")
_NOT_BOOSTED = {"XGBRFRegressor"}
_ADVICE = (
    "Pass a lightgbm.LGBMRegressor, an xgboost.XGBRegressor or a "
    "sklearn.ensemble.GradientBoostingRegressor"
)


def check_grows(regressor: Any) -> None:
    """Raise if no trees can be added to such a regressor once it is fitted.

    Parameters
    ----------
    regressor : estimator

    Raises
    ------
    TypeError
        If it is another model. The message names those that work.
    """
    library, kind = _library_of(regressor), type(regressor).__name__
    forest = library == "lightgbm" and _is_forest(regressor)
    if library is not None and not forest:
        return
    if forest:
        why = "with boosting_type='rf' is a random forest: LightGBM adds no trees to it"
    elif kind == "HistGradientBoostingRegressor":
        why = "computes new bins when it is fitted to other rows, which its earlier"
        why += " trees do not fit"
    elif hasattr(regressor, "steps"):
        why = "is a Pipeline; make EraBoostedRegressor its last step instead"
    else:
        why = "cannot add trees"
    raise TypeError(
        "regressor must be a gradient boosting model that can continue training; "
        f"{kind} {why}. {_ADVICE}."
    )


def add_trees(model: Any, round_: int, X: Any, y: Any, **options: Any) -> Any:
    """Return a model with ``n_estimators`` more trees.

    Parameters
    ----------
    model : estimator
        A fitted model, with ``warm_start`` if it is scikit-learn's; it may be changed.
    round_ : int
        Number of times that trees were added, including this time.
    X, y
        The rows to fit the new trees to.
    **options
        Further arguments of ``fit``.

    Returns
    -------
    estimator
    """
    library = _library_of(model)
    if library == "sklearn":
        step = model.n_estimators
        model.set_params(n_estimators=len(model.estimators_) + step)
        return model.fit(X, y, **options).set_params(n_estimators=step)
    more = clone(model)
    if library == "xgboost":
        return more.fit(X, y, xgb_model=model.get_booster(), **options)
    # With the same seed, LightGBM would draw the same columns and rows in each round.
    seed = model.get_params()["random_state"]
    if seed is None or isinstance(seed, int | np.integer):
        words = np.random.SeedSequence([int(seed or 0), round_]).generate_state(1)
        more.set_params(random_state=int(words[0] >> 1))
    more.fit(X, y, init_model=model.booster_, **options)
    return more.set_params(random_state=seed)


def _is_forest(regressor: Any) -> bool:
    """Whether a regressor of LightGBM is set to be a random forest."""
    given = regressor.get_params()
    return any(given.get(name) in _FORESTS for name in _BOOSTINGS)


def _library_of(regressor: Any) -> str | None:
    """Return the library of a boosting model, without importing it; None for others."""
    parents = type(regressor).__mro__
    if any(parent.__name__ in _NOT_BOOSTED for parent in parents):
        return None
    for parent in parents:
        library = parent.__module__.split(".")[0]
        if (library, parent.__name__) in _CLASSES:
            return library
    return None
