"""Estimators within estimators that were fitted before."""

from __future__ import annotations

from typing import Any

from sklearn.frozen import FrozenEstimator


def unfrozen(estimator: Any) -> Any:
    """Return the estimator in a FrozenEstimator; any other as it is."""
    frozen = isinstance(estimator, FrozenEstimator)
    return estimator.estimator if frozen else estimator


def check_same_columns(frozen: Any, owner: Any) -> None:
    """Raise if a frozen autoencoder was fitted on other columns than its owner.

    Parameters
    ----------
    frozen : FrozenEstimator
        The owner's parameter ``autoencoder``.
    owner : estimator
        It has read the columns that it is fitted to.
    """
    theirs = getattr(frozen, "feature_names_in_", None)
    ours = getattr(owner, "feature_names_in_", None)
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
        lacking = [name for name in theirs if name not in set(ours)]
        more = [name for name in ours if name not in set(theirs)]
        if lacking:
            told = f"other columns: X lacks {len(lacking)}, such as {lacking[0]!r}"
        else:
            told = f"fewer columns: it does not know {len(more)}, such as {more[0]!r}"
    raise ValueError(
        f"autoencoder was fitted on {told}. Pass X with its columns, in its order, or "
        "an autoencoder that is not frozen: it is fitted here."
    )
