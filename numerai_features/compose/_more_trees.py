"""Trees added to a fitted model, by each library's own way to go on."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone

_CLASSES = {
    ("lightgbm", "LGBMRegressor"),
    ("xgboost", "XGBRegressor"),
    ("sklearn", "GradientBoostingRegressor"),
}
_BOOSTINGS = ("boosting_type", "boosting", "boost")  # LightGBM's names of it
_FORESTS = ("rf", "random_forest")
_NOT_BOOSTED = {"XGBRFRegressor"}
_ADVICE = (
    "Pass a lightgbm.LGBMRegressor, an xgboost.XGBRegressor or a "
    "sklearn.ensemble.GradientBoostingRegressor"
)


def check_grows(regressor: Any) -> None:
    """Raise if trees cannot be added to a regressor that is fitted.

    Parameters
    ----------
    regressor : estimator

    Raises
    ------
    TypeError
        The message says which can be used.
    """
    library, kind = _library_of(regressor), type(regressor).__name__
    forest = library == "lightgbm" and _is_forest(regressor)
    if library is not None and not forest:
        return
    if forest:
        why = "with boosting_type='rf' is a random forest, to which LightGBM adds none"
    elif kind == "HistGradientBoostingRegressor":
        why = "finds its bins anew when it is fitted to other rows, and misreads its"
        why += " trees then"
    elif hasattr(regressor, "steps"):
        why = "is a Pipeline; make EraBoostedRegressor its last step instead"
    else:
        why = "is none to which trees can be added"
    raise TypeError(
        f"regressor must be a gradient boosting model that goes on from its trees; "
        f"{kind} {why}. {_ADVICE}."
    )


def add_trees(model: Any, round_: int, X: Any, y: Any, **options: Any) -> Any:
    """Return a model with more trees, as many as it has been told to make.

    Parameters
    ----------
    model : estimator
        Fitted, by ``warm_start`` where it is of scikit-learn; it may be changed.
    round_ : int
        How often trees have been added, this time included.
    X, y
        Rows that the new trees are fitted to.
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
    # LightGBM would draw the same columns and rows for the same tree of each round
    seed = model.get_params()["random_state"]
    if seed is None or isinstance(seed, int | np.integer):
        words = np.random.SeedSequence([int(seed or 0), round_]).generate_state(1)
        more.set_params(random_state=int(words[0] >> 1))
    more.fit(X, y, init_model=model.booster_, **options)
    return more.set_params(random_state=seed)


def _is_forest(regressor: Any) -> bool:
    """Whether a regressor of LightGBM is told to be a random forest."""
    given = regressor.get_params()
    return any(given.get(name) in _FORESTS for name in _BOOSTINGS)


def _library_of(regressor: Any) -> str | None:
    """Return whose way to go on a regressor has, without importing any library."""
    parents = type(regressor).__mro__
    if any(parent.__name__ in _NOT_BOOSTED for parent in parents):
        return None
    for parent in parents:
        library = parent.__module__.split(".")[0]
        if (library, parent.__name__) in _CLASSES:
            return library
    return None
