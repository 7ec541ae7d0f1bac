"""Fits of LightGBM and XGBoost that keep no copy of the rows but the library's own."""

from __future__ import annotations

from typing import Any

import numpy as np

from numerai_features._scratch import give_back
from numerai_features.trees._dmatrix import quantile_dmatrix

_XGBOOST_BINS = 256  # XGBoost's own default


def fit_lightgbm(model: Any, X: Any, y: Any, **options: Any) -> Any:
    """Fit an LGBMRegressor, with the options of its own `fit`.

    Unless the way is chosen, histograms are made column by column: LightGBM would copy
    its bins for the other way, and which one is faster would differ from run to run.
    """
    if not {"force_col_wise", "force_row_wise"} & set(model.get_params()):
        model.set_params(force_col_wise=True)
    callbacks = [_trim, *options.pop("callbacks", [])]
    return model.fit(X, y, callbacks=callbacks, **options)


def fit_xgboost(
    model: Any,
    X: Any,
    y: Any,
    *,
    sample_weight: Any = None,
    valid: tuple[Any, Any, Any] | None = None,
    patience: int = 0,
    external_memory: bool = False,
) -> Any:
    """Fit an XGBRegressor to rows that it gets block by block.

    `valid` are rows, targets and weights to stop on, after `patience` trees without a
    better loss.
    """
    import xgboost

    params = model.get_xgb_params()
    bins = {
        "max_bin": params.get("max_bin") or _XGBOOST_BINS,
        "n_jobs": params.get("n_jobs"),
        "external_memory": external_memory,
    }
    rows = quantile_dmatrix(X, y, sample_weight=sample_weight, **bins)
    options: dict[str, Any] = {}
    if valid is not None:
        X, y, weights = valid
        held_out = quantile_dmatrix(X, y, sample_weight=weights, ref=rows, **bins)
        options["evals"] = [(held_out, "valid")]
        options["early_stopping_rounds"] = patience
    n_trees = model.get_num_boosting_rounds()
    booster = xgboost.train(params, rows, n_trees, verbose_eval=False, **options)
    if valid is not None:
        booster = booster[: booster.best_iteration + 1]
    # As its own fit does. load_model of XGBoost 2.1 fails with scikit-learn 1.6.
    model._Booster = booster
    return model


def ignored_by_blocks(model: Any) -> str | None:
    """Return what of an XGBRegressor's own `fit` `fit_xgboost` would ignore, if any."""
    if callable(model.objective):
        return "a function as its objective. Name one of XGBoost's objectives."
    if callable(model.eval_metric):
        return "a function as its eval_metric. Name one of XGBoost's metrics."
    if model.booster == "gblinear":
        return "booster='gblinear', which has no bins. Use XGBRegressor itself."
    if model.tree_method not in (None, "auto", "hist"):
        return f"tree_method={model.tree_method!r}. XGBoost bins rows for 'hist' only."
    for name in ("quantile_alpha", "expectile_alpha"):
        if np.size(model.get_params().get(name)) > 1:
            return f"several values of {name}. Fit one regressor for each."
    if getattr(model, "feature_weights", None) is not None:
        return "feature_weights. Use XGBRegressor itself, or leave them out."
    for name in ("early_stopping_rounds", "callbacks", "feature_types"):
        given = getattr(model, name, None)
        if given is not None:
            return (
                f"{name}={given!r}. Use validation= and patience= for early stopping, "
                "and leave it out."
            )
    missing = model.missing
    if not isinstance(missing, float) or not np.isnan(missing):
        return f"missing={missing!r}, not NaN. Set such cells to NaN."
    return None


def _trim(env: Any) -> None:
    """Give back what binning has freed, before the first tree."""
    if env.iteration == env.begin_iteration:
        give_back()


_trim.before_iteration = True  # type: ignore[attr-defined]
