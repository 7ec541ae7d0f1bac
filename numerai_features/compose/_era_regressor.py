"""The base of regressors that wrap other regressors and know the eras of their rows.

Such a regressor reads the rows once (`Given.read`), trains other regressors on them
(`_train`), and gets their predictions (`_ask`). A subclass changes the rows to train
on, or the predictions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from narwhals.stable.v2.dependencies import is_pandas_dataframe
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, MetaEstimatorMixin, RegressorMixin, clone
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from numerai_features._arguments import MODEL
from numerai_features._residual import read_benchmark
from numerai_features._rows import Rows
from numerai_features._validation import (
    as_frame,
    check_known,
    known_numbers,
    named_rows,
    require_eras,
    require_target,
    take_rows,
    with_eras,
)
from numerai_features._whole_fit import whole_fit
from numerai_features.compose._reach import (
    check_knows_columns,
    check_takes_weights,
    eras_for,
    extras_of,
    has_eras,
    keep_eras,
    out_of_reach,
    request_as_wanted,
    wants,
)


@dataclass(frozen=True, eq=False)
class Given:
    """The rows that a regressor was given: checked, and as it passes them on.

    Attributes
    ----------
    rows : Rows
    table : array or frame
        X for the wrapped estimators.
    y : array-like or None
        y for the wrapped estimators.
    benchmark : ndarray of shape (n_rows,) or None
        Predictions of the benchmark, NaN if missing.
    keep_era : bool
        Whether a table that is passed on may have the column ``era``.
    whole : Given or None
        In `fit`, the same rows together with those without any target, which are left
        out here. Folds are of all rows.
    """

    rows: Rows
    table: Any
    y: Any = None
    benchmark: NDArray[np.float64] | None = None
    keep_era: bool = False
    whole: Given | None = None

    @classmethod
    def read(
        cls,
        owner: Any,
        X: Any,
        y: Any = None,
        eras: Any = None,
        sample_weight: Any = None,
        benchmark: Any = None,
        *,
        reset: bool,
        keep_era: bool = False,
    ) -> Given:
        """Check the arguments of an estimator, as `Rows.read` does."""
        rows = Rows.read(owner, X, y, eras, sample_weight, reset=reset)
        owners = {"X": X, "eras": eras} if y is None else {"X": X, "y": y, "eras": eras}
        known = read_benchmark(benchmark, rows.n_rows, **owners)
        X = as_frame(X)
        table = named_rows(rows.X, rows.feature_names, X)
        if keep_era and has_eras(X):
            # Around a regressor that passes eras on, both come: the labels count.
            table = X if eras is None else with_eras(X, rows.era_labels)
        return cls(rows, table, y, known, keep_era)

    def take(self, which: NDArray[np.bool_]) -> Given:
        """Return the rows that a mask selects."""
        if which.all():
            return self
        places = np.flatnonzero(which)
        rows = self.rows.take(places)
        return Given(
            rows,
            self._table_of(rows, places),
            None if self.y is None else take_rows(self.y, places),
            None if self.benchmark is None else self.benchmark[places],
            self.keep_era,
        )

    def _table_of(self, rows: Rows, places: NDArray[np.intp]) -> Any:
        """Return the table of some rows, whose cells are not copied once more."""
        if self.table is self.rows.X:
            return rows.X
        if not is_pandas_dataframe(self.table) or has_eras(self.table):
            return take_rows(self.table, places)
        table = named_rows(rows.X, rows.feature_names)
        table.index = self.table.index[places]
        return table

    def table_for(self, regressor: Any) -> Any:
        """Return the table for a regressor, with the column ``era`` if it is kept."""
        if not self.keep_era or has_eras(self.table):
            return self.table
        return keep_eras(self.table, self.rows.era_labels, regressor)


class EraRegressor(RegressorMixin, MetaEstimatorMixin, BaseEstimator):
    """A regressor that wraps another one, and knows the eras of its rows.

    Subclasses may override the training (`_fit_rows`) and the prediction
    (`_predict_rows`). Rows without any target are removed before training. A subclass
    needs no parameter `keep_era` if its regressor never takes the column ``era``.
    """

    __metadata_request__fit = {"eras": True, "benchmark": True}
    __metadata_request__predict = {"eras": True, "benchmark": True}
    __metadata_request__score = {"eras": True, "benchmark": True}

    _parameter_constraints: dict[str, list[Any]] = {
        "regressor": [MODEL],
        "keep_era": ["boolean"],
    }

    _predicts_by_era = True  # if False, a prediction depends on its own row only

    @whole_fit(prefer_skip_nested_validation=False)
    def fit(self, X, y, *, eras=None, sample_weight=None, benchmark=None):
        """Train the regressor.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            Features. The column ``era`` of a frame is removed, and used as `eras`.
        y : array-like of shape (n_rows,) or (n_rows, n_targets)
            Targets. Rows without any target are left out.
        eras : array-like of shape (n_rows,), default=None
            Era labels.
        sample_weight : array-like of shape (n_rows,), default=None
            Weights of the rows, if the regressor accepts them.
        benchmark : array-like of shape (n_rows,) or frame, default=None
            Predictions of a benchmark, if the regressor accepts them. A Series or a
            whole file of Numerai's is matched by id if `X`, `y` or `eras` has ids.

        Returns
        -------
        self
        """
        return self._fit(X, y, eras, sample_weight, benchmark)

    def predict(self, X, *, eras=None, benchmark=None):
        """Predict rows.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            The features of fit.
        eras : array-like of shape (n_rows,), default=None
            Era labels. They are required if `fit` had eras, unless X has a column
            ``era``.
        benchmark : array-like of shape (n_rows,) or frame, default=None
            Predictions of a benchmark, if the estimator predicts with them.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_targets)
        """
        return self._predict_rows(self._rows_to_predict(X, eras, benchmark))

    def score(self, X, y, sample_weight=None, *, eras=None, benchmark=None):
        """Return the R^2 of `predict`; rows without any target are left out.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            The features of fit.
        y : array-like of shape (n_rows,) or (n_rows, n_targets)
            Targets.
        sample_weight : array-like of shape (n_rows,), default=None
            Weights of the rows.
        eras, benchmark
            As in `predict`.

        Returns
        -------
        float
        """
        from sklearn.metrics import r2_score

        prediction = self.predict(X, eras=eras, benchmark=benchmark)
        rows: Any = Rows.read(self, X, y, eras, sample_weight, reset=False)
        require_target(rows.y, self)
        known = rows.labelled
        weights = None if rows.weights is None else rows.weights[known]
        return r2_score(rows.y[known], prediction[known], sample_weight=weights)

    def _fit(self, X, y, eras, sample_weight, benchmark):
        require_target(y, self)
        given = self._given(X, y, eras, sample_weight, benchmark)
        self.fitted_eras_ = known_numbers(given.rows.eras)
        self._had_eras = given.rows.eras is not None
        # Parameters may be changed between fit and predict.
        self._predicts_by_benchmark = self._wants("benchmark", "predict")
        self._fit_rows(given)
        return self

    # --- for subclasses

    def _fit_rows(self, given: Given) -> None:
        """Train on rows with known targets; set the fitted attributes."""
        self.regressor_ = self._train(self.regressor, given)

    def _predict_rows(self, given: Given) -> NDArray[np.float64]:
        """Return the predictions of rows."""
        return self._ask(self.regressor_, given)

    def _parts(self) -> list[tuple[str, Any]]:
        """Return the names and the unfitted estimators that are trained."""
        return [("regressor", self.regressor)]

    def _wants(self, extra: str, method: str = "fit") -> bool:
        """Whether `fit` or `predict` uses an extra argument."""
        return extra == "eras" or any(
            wants(part, extra, method) for _, part in self._parts()
        )

    def _train(self, regressor: Any, given: Given, name: str = "regressor") -> Any:
        """Return a clone of a regressor, trained on rows.

        Eras, weights and benchmark are passed on if its ``fit`` accepts them.
        """
        check_knows_columns(regressor, self, name)
        rows, table = given.rows, given.table_for(regressor)
        options = eras_for(
            regressor, rows.era_labels, name=name, in_table=has_eras(table)
        )
        if rows.weights is not None:
            check_takes_weights(regressor, rows.weights)
            options["sample_weight"] = rows.weights
        if given.benchmark is not None and wants(regressor, "benchmark"):
            options["benchmark"] = given.benchmark
        return clone(regressor).fit(table, given.y, **options)

    def _ask(self, regressor: Any, given: Given) -> NDArray[np.float64]:
        """Return the predictions of a fitted regressor; check their shape."""
        options = {}
        takes = extras_of(regressor.predict)
        if "eras" in takes and given.rows.eras is not None:
            options["eras"] = given.rows.era_labels
        if given.benchmark is not None and wants(regressor, "benchmark", "predict"):
            options["benchmark"] = given.benchmark
        returned = regressor.predict(given.table_for(regressor), **options)
        prediction = np.asarray(returned, np.float64)
        if prediction.ndim not in (1, 2) or len(prediction) != given.rows.n_rows:
            raise ValueError(
                f"{type(regressor).__name__}.predict returned shape "
                f"{prediction.shape} for {given.rows.n_rows} rows; expected one "
                "prediction a row, or one of each target."
            )
        return prediction

    # --- private to this class

    def _given(self, X, y, eras, sample_weight, benchmark):
        """Return the rows to train on."""
        self._check_benchmark(benchmark)
        for _, part in self._parts():
            check_takes_weights(part, sample_weight)
        given = Given.read(
            self, X, y, eras, sample_weight, benchmark,
            reset=True, keep_era=getattr(self, "keep_era", False),
        )  # fmt: skip
        labelled = given.rows.labelled
        if not labelled.any():
            check_known(np.full(given.rows.n_rows, np.nan))
        return replace(given.take(labelled), whole=given)

    def _rows_to_predict(self, X, eras=None, benchmark=None):
        """Return the rows to predict."""
        check_is_fitted(self)
        if benchmark is not None and not self._predicts_by_benchmark:
            raise ValueError(
                f"benchmark was passed, but nothing in this {type(self).__name__} "
                "predicts by it. Leave it out."
            )
        given = Given.read(
            self, X, None, eras, None, benchmark,
            reset=False, keep_era=getattr(self._fitted_with, "keep_era", False),
        )  # fmt: skip
        if self._predicts_by_era:
            require_eras(given.rows.eras, self._had_eras, type(self).__name__)
        return given

    def _check_benchmark(self, benchmark):
        """Raise if there is a benchmark that `fit` does not use."""
        if benchmark is None or self._wants("benchmark"):
            return
        for name, part in self._parts():
            inside = out_of_reach(part, "benchmark")
            if inside is not None:
                raise ValueError(
                    f"{name}: {inside!r} inside the {type(part).__name__} takes a "
                    "benchmark, which would not reach it. Make "
                    f"{type(self).__name__} the last step of the Pipeline instead, "
                    "around its last step."
                )
        kinds = ", ".join(f"{type(part).__name__}.fit" for _, part in self._parts())
        raise ValueError(f"benchmark was passed, but {kinds} takes none. Leave it out.")

    def get_metadata_routing(self):
        """Return which metadata `fit`, `predict` and `score` request.

        Returns
        -------
        MetadataRequest
            A benchmark is requested if the regressor uses it.
        """
        users = {"fit": "fit", "predict": "predict", "score": "predict"}
        return request_as_wanted(self, super().get_metadata_routing(), users)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        theirs = [get_tags(part) for _, part in self._parts()]
        target, own = tags.target_tags, tags.input_tags
        target.multi_output = all(t.target_tags.multi_output for t in theirs)
        target.positive_only = any(t.target_tags.positive_only for t in theirs)
        own.positive_only = any(t.input_tags.positive_only for t in theirs)
        own.allow_nan = all(t.input_tags.allow_nan for t in theirs)
        tags.regressor_tags.poor_score = True
        return tags
