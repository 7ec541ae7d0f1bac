"""Estimators within estimators that were fitted before."""

from __future__ import annotations

import re
from typing import Any

from sklearn.frozen import FrozenEstimator

_NAMELESS = re.compile(r"Column_\d+")  # LightGBM 4.6 so names the columns of arrays


def unfrozen(estimator: Any) -> Any:
    """Return the estimator in a FrozenEstimator; any other as it is."""
    frozen = isinstance(estimator, FrozenEstimator)
    return estimator.estimator if frozen else estimator


def selects_columns(estimator: Any) -> bool:
    """Whether an estimator begins by selecting columns, and so finds them itself."""
    from sklearn.compose import ColumnTransformer

    first = [step for _, step in getattr(estimator, "steps", [])[:1]]
    beside = first or [part for _, part in getattr(estimator, "transformer_list", [])]
    if beside:
        return all(selects_columns(part) for part in beside)
    return isinstance(estimator, ColumnTransformer)


def check_same_columns(frozen: Any, owner: Any, name: str = "autoencoder") -> None:
    """Raise if a frozen estimator was fitted on other columns than its owner.

    Some estimators do not check this themselves: LightGBM predicts from columns in any
    order.

    Parameters
    ----------
    frozen : FrozenEstimator
        A parameter of the owner.
    owner : estimator
        It has read the columns that it is fitted to.
    name : str, default="autoencoder"
        Name of the parameter in the message.
    """
    theirs = _names_of(frozen)
    ours = getattr(owner, "feature_names_in_", None)
    if ours is not None and _is_lightgbm(frozen):
        ours = [str(name).replace(" ", "_") for name in ours]  # as it renames them
    if theirs is None or ours is None:
        count = getattr(frozen, "n_features_in_", owner.n_features_in_)
        if count == owner.n_features_in_:
            return
        told = f"{count} columns, and X has {owner.n_features_in_}"
    elif list(theirs) == list(ours):
        return
    elif set(theirs) == set(ours):
        told = "the same columns in another order"
    else:
        lacking = [column for column in theirs if column not in set(ours)]
        more = [column for column in ours if column not in set(theirs)]
        if lacking:
            told = f"other columns: X lacks {len(lacking)}, such as {lacking[0]!r}"
        else:
            told = f"fewer columns: it does not know {len(more)}, such as {more[0]!r}"
    raise ValueError(
        f"{name} was fitted on {told}. Pass X with its columns, in its order, or one "
        "that is not in a FrozenEstimator: it is fitted here."
    )


def _is_lightgbm(frozen: Any) -> bool:
    return type(unfrozen(frozen)).__module__.startswith("lightgbm")


def _names_of(frozen: Any) -> Any:
    """Return the names of the columns that an estimator was fitted on, if any."""
    names = getattr(frozen, "feature_names_in_", None)
    if names is None or all(_NAMELESS.fullmatch(str(name)) for name in names):
        return None
    return names
