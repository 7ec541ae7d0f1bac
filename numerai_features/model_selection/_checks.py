"""Check whether a split or a fitted pipeline leaks from one era into another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._arguments import FOLDS, MODEL, Methods, checked
from numerai_features._eras import EraIndex, EraLeakageError, encode_eras, near_eras
from numerai_features._fitted import components, tell_eras
from numerai_features._horizon import resolve_horizon
from numerai_features._validation import as_frame, require_numbers
from numerai_features.model_selection._base import resolved_eras
from numerai_features.model_selection._folds import (
    Counts,
    era_folds,
    index_eras,
    no_folds,
)
from numerai_features.model_selection._telling_columns import check_columns

if TYPE_CHECKING:
    import pandas as pd


def overlapping_eras(train: Any, test: Any, horizon: Any) -> NDArray[np.int64]:
    """Return the training eras whose targets overlap the target of a test era.

    The target of an era is computed from the returns of the next `horizon` eras. So the
    targets of two eras overlap if the eras are fewer than `horizon` apart.

    Parameters
    ----------
    train, test : array-like
        Era labels: one for each row, or each era once. The live era, ``"X"``, overlaps
        no other era.
    horizon : int or str
        Number of eras that the target spans, or the target's name, which ends in its
        number of trading days (20 days: 4 eras; 60: 12).

    Returns
    -------
    ndarray of int
        Era numbers, ascending. They include the eras that are in both `train` and
        `test`.

    Examples
    --------
    >>> from numerai_features.model_selection import overlapping_eras
    >>> overlapping_eras(range(1, 21), range(21, 31), horizon=4)
    array([18, 19, 20])
    >>> overlapping_eras(["0001", "0017"], ["0020"], "target_ender_20")
    array([17])
    """
    span = resolve_horizon(horizon)
    trained, tested = _numbers_together(train=train, test=test)
    return trained[near_eras(trained, tested, span)]


@checked(cv=[FOLDS], estimator=[MODEL, None])
def check_splits(
    cv: Any,
    eras: Any,
    horizon: Any,
    *,
    X: Any = None,
    y: Any = None,
    estimator: Any = None,
) -> pd.DataFrame:
    """Return a table of the folds, or raise if a fold leaks.

    A fold leaks if a training era is also a test era, or if the target of a training
    era overlaps the target of a test era (see `overlapping_eras`). The function also
    raises if a fold contains rows of the live era or, with `X`, if the model can see
    which era a row belongs to.

    Parameters
    ----------
    cv : splitter, int or iterable
        A splitter of this package, or anything else that scikit-learn accepts as
        ``cv=``.
    eras : array-like of shape (n_rows,)
        Era labels, passed to `cv` as groups. None: the column ``era`` of `X`.
    horizon : int or str
        Number of eras that the target spans, or the target's name.
    X : array-like or frame of shape (n_rows, n_features), default=None
        Features that the model will be fitted on. A column that identifies the era (one
        value in all rows of an era, different values in most eras) is found by its
        contents, whatever its name.
    y : array-like of shape (n_rows,), default=None
        The target, for splitters that use it.
    estimator : estimator, default=None
        Estimator that will be fitted on X, such as a Pipeline. With it, X may have a
        column ``era`` if this column does not reach the model. To check this, a clone
        is fitted on some rows with the era as target; its predictions must not depend
        on the era labels. Without an estimator, a column ``era`` is an error.

    Returns
    -------
    DataFrame
        One row for each fold, with the columns ``n_train_eras``, ``n_test_eras``,
        ``n_train_rows``, ``n_test_rows``, ``first_test`` and ``last_test`` (era
        numbers), ``gap_before`` and ``gap_after``. ``gap_before`` is the smallest
        distance, in era numbers, from a test era to the last training era before it;
        ``gap_after`` is the smallest distance to the next training era after it. A gap
        of 1 means neighbours, <NA> that there is no such training era.

    Raises
    ------
    EraLeakageError
        If a fold leaks, or the model can see the era. Its attribute ``eras`` holds the
        leaking training eras.
    ValueError
        If a fold contains rows of unresolved eras, or the arguments do not fit
        together.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import KFold
    >>> from numerai_features.model_selection import EraKFold, check_splits
    >>> eras = np.repeat(np.arange(1, 41), 5)
    >>> print(check_splits(EraKFold(2, purge=8), eras, horizon=4).T)
    fold            0    1
    n_train_eras   12   12
    n_test_eras    20   20
    n_train_rows   60   60
    n_test_rows   100  100
    first_test      1   21
    last_test      20   40
    gap_before   <NA>    9
    gap_after       9 <NA>
    >>> check_splits(KFold(2), eras, horizon=4)
    Traceback (most recent call last):
    ...
    numerai_features._eras.EraLeakageError: Fold 0 trains on 3 eras whose targets ...
    """
    import pandas as pd

    span = resolve_horizon(horizon)
    index = index_eras(X, eras, y=y)
    if span > 1:  # otherwise distinct labels are enough
        require_numbers(index)
    resolved, table = resolved_eras(index, y), []
    for i, fold in enumerate(era_folds(cv, index, y)):
        _check_fold(i, index, resolved, *fold, span)
        table.append(_tell_fold(index, *fold))
    if not table:
        raise no_folds(cv)
    if X is not None:
        check_columns(as_frame(X), index, estimator)
    elif estimator is not None:
        raise ValueError("estimator is checked on rows of X, but X is None. Pass X=.")
    return pd.DataFrame(table).astype("Int64").rename_axis("fold")


@checked(estimator=[Methods(["get_params"])])
def check_fitted_eras(estimator: Any, eras: Any, horizon: Any) -> pd.DataFrame:
    """Report which parts of a fitted estimator were fitted on eras to be scored.

    Searches a Pipeline, `LatentFeatures`, a FrozenEstimator, a fitted search and the
    like for the attribute ``fitted_eras_``, which every embedder of this package has.

    Parameters
    ----------
    estimator : estimator
        A fitted estimator.
    eras : array-like
        Labels of the eras to score: one for each row, or each era once.
    horizon : int or str
        Number of eras that the target spans, or the target's name.

    Returns
    -------
    DataFrame
        One row for each part that stores its eras, indexed by the part's path.
        ``estimator``: its class. ``n_fitted``: number of eras that it was fitted on.
        ``n_scored``: number of these eras that are to be scored. ``n_overlapping``:
        number of the other fitted eras whose targets overlap the target of a scored
        era. ``eras``: the era numbers counted in these two columns. ``leaks``: whether
        there are any, or <NA> for a part that was fitted without eras. If no part
        stores its eras, the only row is `estimator` itself, with <NA>.

    Examples
    --------
    >>> from numerai_features import FactorAnalysisEmbedder, make_era_panel
    >>> from numerai_features.model_selection import check_fitted_eras
    >>> panel = make_era_panel(n_eras=20, rows_per_era=50, random_state=0)
    >>> fa = FactorAnalysisEmbedder(3).fit(panel.X, eras=panel.eras)
    >>> report = check_fitted_eras(fa, range(19, 30), horizon=4)
    >>> print(report.drop(columns="estimator").T)
                            factoranalysisembedder
    n_fitted                                    20
    n_scored                                     2
    n_overlapping                                3
    eras                      [16, 17, 18, 19, 20]
    leaks                                     True
    """
    import pandas as pd

    span = resolve_horizon(horizon)
    index = encode_eras(eras)
    rows = {}
    for path, part in components(estimator):
        row: dict[str, Any] = {"estimator": type(part).__name__}
        if part.fitted_eras_ is None or index.named:
            row = _unknown(part)
        else:
            seen = np.asarray(part.fitted_eras_)
            near = near_eras(seen, index.numbers, span)
            n_scored = int(np.isin(seen, index.numbers).sum())
            row |= {"n_fitted": len(seen), "n_scored": n_scored}
            row |= {"n_overlapping": int(near.sum()) - n_scored}
            row |= {"eras": seen[near], "leaks": bool(near.any())}
        rows[path] = row
    if not rows:
        rows[type(estimator).__name__.lower()] = _unknown(estimator)
    kinds = {"estimator": object, "n_fitted": "Int64", "n_scored": "Int64"}
    kinds |= {"n_overlapping": "Int64", "eras": object, "leaks": "boolean"}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(kinds))
    return table.astype(kinds)


def _unknown(estimator: Any) -> dict[str, Any]:
    """Return the row of an estimator whose fitted eras are unknown."""
    import pandas as pd
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    name = type(estimator).__name__
    try:
        check_is_fitted(estimator)
    except NotFittedError as error:
        raise ValueError(
            "estimator must be fitted, since only fit shows it any eras; this "
            f"{name} is not fitted. Call fit first."
        ) from error
    counts = dict.fromkeys(("n_fitted", "n_scored", "n_overlapping"), pd.NA)
    return {"estimator": name, **counts, "eras": np.empty(0, np.int64), "leaks": pd.NA}


def _numbers_together(**labels: Any) -> list[NDArray[np.int64]]:
    """Return the sorted era numbers of each list of labels, all of the same kind."""
    indexes = [encode_eras(value, name=name) for name, value in labels.items()]
    name = " and ".join(labels)
    every = np.concatenate([index.labels for index in indexes])
    together = require_numbers(encode_eras(every, name=name), name)
    stops = np.cumsum([index.n_eras for index in indexes])[:-1]
    return [np.sort(n) for n in np.split(together.row_numbers, stops)]


def _check_fold(
    fold: int,
    eras: EraIndex,
    resolved: NDArray[np.bool_],
    train: Counts,
    test: Counts,
    horizon: int,
) -> None:
    unresolved = ((train + test) > 0) & ~resolved
    if unresolved.any():
        raise ValueError(
            f"Fold {fold} contains rows of eras whose target is not known yet: "
            f"{tell_eras(eras.numbers[unresolved])}. Leave these eras out, or use a "
            "splitter of this package, which leaves them out."
        )
    trained, tested = eras.numbers[train > 0], eras.numbers[test > 0]
    leaking = trained[near_eras(trained, tested, horizon)]
    if len(leaking):
        raise EraLeakageError(
            f"Fold {fold} trains on {len(leaking)} eras whose targets overlap those of "
            f"its test eras: {tell_eras(leaking)} (a target spans {horizon} eras, so "
            f"the targets of eras fewer than {horizon} apart overlap). Use a splitter "
            f"that leaves such eras out, such as EraKFold(purge={horizon}).",
            leaking,
        )


def _tell_fold(eras: EraIndex, train: Counts, test: Counts) -> dict[str, int | None]:
    trained, tested = eras.numbers[train > 0], eras.numbers[test > 0]
    after = np.searchsorted(trained, tested)
    before, following = after > 0, after < len(trained)
    backward = tested[before] - trained[after[before] - 1]
    forward = trained[after[following]] - tested[following]
    return {
        "n_train_eras": len(trained),
        "n_test_eras": len(tested),
        "n_train_rows": int(train.sum()),
        "n_test_rows": int(test.sum()),
        "first_test": int(tested[0]) if len(tested) else None,
        "last_test": int(tested[-1]) if len(tested) else None,
        "gap_before": int(backward.min()) if len(backward) else None,
        "gap_after": int(forward.min()) if len(forward) else None,
    }
