"""Era-aware scorers for scikit-learn's searches and cross-validation."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any, ClassVar

from sklearn.base import BaseEstimator
from sklearn.utils.metadata_routing import UNUSED

from numerai_features._arguments import ROWS, TABLE, Methods, checked
from numerai_features._compat import consumes, routing_enabled
from numerai_features._eras import encode_eras
from numerai_features._fitted import has_prefitted, warn_of_prefitted
from numerai_features._ids import one_reference, take_ids
from numerai_features._validation import (
    as_frame,
    check_same_rows,
    column_names,
    index_of,
    is_frame,
    kind_of,
    known_numbers,
    row_ids,
    take_columns,
    take_eras,
)
from numerai_features.metrics._era_is_no_feature import check_era_is_no_feature
from numerai_features.metrics._era_scores import (
    NEEDS,
    check_metric,
    era_scores,
    one_column,
)
from numerai_features.metrics._summary import sharpe

SCORER_METRICS = ("corr", "sharpe", "mmc", "bmc", "fnc")


class EraScorer(BaseEstimator):
    """Score a fitted model by the mean of its era scores.

    Use it as ``scoring=``; `make_era_scorer` makes one and checks the arguments. Eras
    come from ``eras=`` (metadata routing passes it on; the request is already set), or
    else from the frame's column ``era``. Without eras the scorer raises: it never
    treats all rows as one era.

    Parameters
    ----------
    metric : {"corr", "sharpe", "mmc", "bmc", "fnc"}, default="corr"
        A metric of `era_scores`, averaged over eras; or "sharpe", the mean of the CORRs
        divided by their standard deviation. Higher is better.
    benchmark : Series or frame, default=None
        For "bmc": the benchmark's predictions, indexed like X (by Numerai's id), for at
        least the rows that will be scored. Each fold uses its own rows. It may be
        Numerai's whole file; from a file with the columns of several models, pass one
        column.
    meta_model : Series or frame, default=None
        For "mmc": the meta model's predictions, in the same form.
    features : list of str, DataFrame or None, default=None
        For "fnc": names of columns of X, a frame indexed like X, or None for all
        columns of X.

    Notes
    -----
    An era in which the prediction is constant counts as 0, so that a model cannot gain
    from constant predictions in hard eras. If the prediction is constant in every era,
    the score is NaN, which a search ranks last. A model that was fitted with the column
    ``era`` as a feature raises `EraLeakageError`.
    """

    __metadata_request__score: ClassVar[dict[str, Any]] = {
        "eras": True,
        "estimator": UNUSED,
    }

    def __init__(
        self,
        metric: str = "corr",
        *,
        benchmark: Any = None,
        meta_model: Any = None,
        features: Any = None,
    ) -> None:
        self.metric = metric
        self.benchmark = benchmark
        self.meta_model = meta_model
        self.features = features

    def __call__(self, estimator: Any, X: Any, y: Any, *, eras: Any = None) -> float:
        """Return `score`, with the signature that scikit-learn requires of scorers."""
        return self.score(estimator, X, y, eras=eras)

    @checked(estimator=[Methods(["predict"])], X=[TABLE], y=[TABLE], eras=[TABLE, None])
    def score(self, estimator: Any, X: Any, y: Any, *, eras: Any = None) -> float:
        """Score the predictions of a fitted estimator for X.

        Parameters
        ----------
        estimator : estimator
            A fitted estimator with a ``predict`` method.
        X : array-like or frame of shape (n_rows, n_features)
            Passed to ``predict`` without conversion.
        y : array-like of shape (n_rows,)
            The target.
        eras : array-like of shape (n_rows,), default=None
            The era of each row; overrides the frame's column.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            If there are no eras, the benchmark does not cover the rows, or X, y and
            eras are of rows in different orders.
        EraLeakageError
            If the predictions depend on the era labels, because the column ``era`` is a
            feature of the model.

        Warns
        -----
        EraLeakageWarning
            If an embedder in a FrozenEstimator was fitted on eras of X.
        """
        self._check()
        check_same_rows(X=X, y=y, eras=eras)
        rows, labels = take_eras(X, eras)
        if labels is None:
            raise ValueError(
                "The scorer got no eras, and does not treat all rows as one era. Pass "
                "X as a frame with the column 'era'; or enable metadata routing and "
                "pass eras= (params={'eras': eras} in cross_val_score) in addition to "
                "groups=."
            )
        if has_prefitted(estimator):
            warn_of_prefitted(estimator, known_numbers(encode_eras(labels)))
        check_era_is_no_feature(partial(predict_some, estimator), X)
        prediction = one_column(_predict(estimator, X, labels))
        scores = era_scores(
            _without_index(y, "y"),
            prediction,
            _without_index(labels, "eras"),
            metric="corr" if self.metric == "sharpe" else self.metric,
            **self._beside(rows, X),
        )
        if scores.isna().all():
            return float("nan")
        scores = scores.fillna(0.0)
        return sharpe(scores) if self.metric == "sharpe" else float(scores.mean())

    def _check(self) -> None:
        """Raise if the metric is unknown, or the other arguments do not fit it."""
        given = {name: getattr(self, name) for name in set(NEEDS.values())}
        # Without features the scorer uses X itself.
        check_metric(self.metric, SCORER_METRICS, given, optional="features")
        for name, table in given.items():
            if table is not None:
                _check_table(table, name)

    def _beside(self, table: Any, X: Any) -> dict[str, Any]:
        """Return the further argument that the metric needs, for the rows of X.

        `table` is X without eras; of a panel it has no ids.
        """
        needed = NEEDS.get(self.metric)
        if needed is None:
            return {}
        if needed == "features":
            return {needed: _take_features(self.features, table, X)}
        reference = one_reference(getattr(self, needed), needed)
        return {needed: _take_rows(reference, X, needed)}

    def _accept_sample_weight(self) -> bool:
        """Tell searches without metadata routing to pass no sample weights."""
        return False

    def __sklearn_clone__(self) -> EraScorer:
        # Nothing is fitted, and a deep copy of the benchmark could be gigabytes.
        return copy.copy(self)


def make_era_scorer(
    metric: str = "corr",
    *,
    benchmark: Any = None,
    meta_model: Any = None,
    features: Any = None,
) -> EraScorer:
    """Make a scorer for ``cross_val_score``, ``GridSearchCV`` and the like.

    Parameters
    ----------
    metric : {"corr", "sharpe", "mmc", "bmc", "fnc"}, default="corr"
        A metric of `era_scores`, averaged over eras; or "sharpe", the mean of the CORRs
        divided by their standard deviation. Higher is better.
    benchmark : Series or frame, default=None
        For "bmc": the benchmark's predictions, indexed like X (by Numerai's id), for at
        least the rows that will be scored. Each fold uses its own rows. It may be
        Numerai's whole file; from a file with the columns of several models, pass one
        column.
    meta_model : Series or frame, default=None
        For "mmc": the meta model's predictions, in the same form.
    features : list of str, DataFrame or None, default=None
        For "fnc": names of columns of X, a frame indexed like X, or None for all
        columns of X.

    Returns
    -------
    EraScorer
        A callable ``scorer(estimator, X, y, *, eras=None) -> float``.

    Raises
    ------
    ValueError
        If the metric is unknown, an argument that it needs is missing, or an argument
        is passed that it does not use.

    Examples
    --------
    Pass the scorer as ``scoring=``, with X as a frame that has a column ``era``; or
    call it:

    >>> import numpy as np
    >>> from sklearn.linear_model import LinearRegression
    >>> from numerai_features.metrics import make_era_scorer
    >>> rng = np.random.default_rng(0)
    >>> eras = np.repeat(["0001", "0002"], 100)
    >>> X = rng.integers(0, 5, size=(200, 1))
    >>> y = (X[:, 0] + rng.integers(0, 5, size=200)) / 8
    >>> model = LinearRegression().fit(X, y)
    >>> round(make_era_scorer("corr")(model, X, y, eras=eras), 2)
    0.73
    """
    scorer = EraScorer(
        metric, benchmark=benchmark, meta_model=meta_model, features=features
    )
    scorer._check()
    return scorer


def _predict(estimator: Any, X: Any, eras: Any) -> Any:
    if routing_enabled() and consumes(estimator, "predict", "eras"):
        return estimator.predict(X, eras=eras)
    return estimator.predict(X)


def predict_some(estimator: Any, frame: Any) -> Any:
    """Predict a frame, and pass its eras if the estimator requests them."""
    return _predict(estimator, frame, take_eras(frame)[1])


def _without_index(column: Any, name: str) -> Any:
    """Drop a pandas index: in a fold all rows are matched by position."""
    column = as_frame(column, name)
    return column.reset_index(drop=True) if hasattr(column, "iloc") else column


def _take_rows(table: Any, X: Any, name: str) -> Any:
    """Return the rows of a Series or DataFrame that belong to X, by X's index."""
    ids, table = row_ids(X), as_frame(table, name)
    if ids is None:
        raise ValueError(
            f"{name} is matched to the rows of X by id, but X is not a pandas frame; "
            f"got {kind_of(X)}. Pass X as a DataFrame indexed by id, or rows of a "
            "panel."
        )
    return _without_index(take_ids(table, ids, name, "X"), name)


def _check_table(table: Any, name: str) -> None:
    """Raise if a reference, or the features, have a wrong type."""
    table = as_frame(table, name)
    if name != "features":
        table = one_reference(table, name)
    elif not is_frame(table):
        if not ROWS.is_satisfied_by(table):
            raise ValueError(
                "features must be a list of columns of X, a frame indexed like X, or "
                f"None; got {table!r}."
            )
        return
    if index_of(table) is None:
        raise ValueError(
            f"{name} must be a pandas object indexed like X (by id), so that each fold "
            f"finds its rows; got {kind_of(table)}."
        )


def _take_features(features: Any, table: Any, X: Any) -> Any:
    """Return the features to neutralise against, for the rows of X."""
    if features is None:
        return table
    if is_frame(features):
        features, _ = take_eras(features, name="features")
        return _take_rows(features, X, "features")
    names = list(features)
    if not is_frame(table):
        raise ValueError(
            f"features names {len(names)} columns, but X is not a frame. Pass X as a "
            "frame, or features=None for all columns."
        )
    present = set(column_names(table))
    unknown = [name for name in names if name not in present]
    if unknown:
        raise ValueError(
            f"features names {len(unknown)} columns that X lacks, the first is "
            f"{unknown[0]!r}."
        )
    return take_columns(table, names)
