"""Models that are trained on their rows and on rows that an augmenter adds."""

from __future__ import annotations

from inspect import signature
from typing import Any

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    MetaEstimatorMixin,
    RegressorMixin,
    clone,
)
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from numerai_features._arguments import Methods
from numerai_features._eras import encode_eras
from numerai_features._validation import (
    as_frame,
    check_columns,
    check_same_rows,
    count_rows,
    require_target,
    take_eras,
)
from numerai_features._whole_fit import whole_fit
from numerai_features.compose._reach import (
    check_knows_columns,
    check_takes_weights,
    eras_for,
    extras_of,
    has_eras,
    keep_eras,
)


class _Augmented(MetaEstimatorMixin, BaseEstimator):
    """Base of the augmented regressor and classifier."""

    __metadata_request__fit = {"eras": True}
    __metadata_request__predict = {"eras": True}
    __metadata_request__score = {"eras": True}

    _parameter_constraints: dict[str, list[Any]] = {
        "estimator": [Methods(["fit", "predict"])],
        "augmenter": [Methods(["fit_resample"])],
        "keep_era": ["boolean"],
    }

    def __init__(self, estimator, augmenter, *, keep_era=False):
        self.estimator = estimator
        self.augmenter = augmenter
        self.keep_era = keep_era

    def _fit(self, X, y, eras, sample_weight):
        require_target(y, self)
        self._check_augmenter()
        check_takes_weights(self.estimator, sample_weight)
        self.augmenter_ = clone(self.augmenter)
        rows = self.augmenter_.fit_resample(
            X, y, eras=eras, sample_weight=sample_weight
        )
        table, known = take_eras(rows.X, rows.eras)
        if self.keep_era:
            table = keep_eras(rows.X, rows.eras, self.estimator)
        options = eras_for(
            self.estimator, known, name="estimator", in_table=has_eras(table)
        )
        if rows.sample_weight is not None:
            options["sample_weight"] = rows.sample_weight
        check_columns(self, take_eras(X)[0], reset=True)
        check_knows_columns(self.estimator, self, "estimator")
        self._check_targets(rows.y)
        self.estimator_ = clone(self.estimator).fit(table, rows.y, **options)

    def _check_augmenter(self):
        """Raise if the augmenter returns only X and y, like a sampler of imblearn."""
        if "eras" in signature(self.augmenter.fit_resample).parameters:
            return
        inside = getattr(self.augmenter, "augmenter", None)
        advice = (
            "Put it into a pipeline of imbalanced-learn, before the estimator"
            if inside is None
            else f"Pass the augmenter in it, augmenter={inside!r}"
        )
        raise ValueError(
            "augmenter must be an augmenter of this package, whose fit_resample takes "
            f"eras and returns the eras of new rows; got {self.augmenter!r}, a "
            f"sampler. {advice}."
        )

    def _check_targets(self, y):
        """Raise if the estimator cannot be trained on these targets."""

    def _ask(self, name, X, eras):
        check_is_fitted(self)
        check_same_rows(X=X, eras=eras)
        X = as_frame(X)
        table, known = take_eras(X, eras)
        check_columns(self, table, reset=False)
        if eras is not None:
            known = encode_eras(eras, n_rows=count_rows(table)).row_labels
        if self._fitted_with.keep_era:
            table = keep_eras(X, None if eras is None else known, self.estimator_)
        method = getattr(self.estimator_, name)
        takes = known is not None and "eras" in extras_of(method)
        return method(table, eras=known) if takes else method(table)

    def __sklearn_tags__(self):
        tags, theirs = super().__sklearn_tags__(), get_tags(self.estimator)
        tags.target_tags.multi_output = theirs.target_tags.multi_output
        tags.target_tags.positive_only = theirs.target_tags.positive_only
        tags.input_tags.positive_only = theirs.input_tags.positive_only
        tagged = hasattr(self.augmenter, "__sklearn_tags__")
        tags.input_tags.allow_nan = theirs.input_tags.allow_nan and (
            tagged and get_tags(self.augmenter).input_tags.allow_nan
        )
        return tags

    def predict(self, X, *, eras=None):
        """Return the estimator's predictions; rows are not augmented.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            The features of fit.
        eras : array-like of shape (n_rows,), default=None
            Era labels, for an estimator that predicts by era. They override the column
            ``era`` of X.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_targets)
        """
        return self._ask("predict", X, eras)


def _can(method):
    """Make a method available only if the estimator has it."""
    return available_if(
        lambda self: hasattr(getattr(self, "estimator_", self.estimator), method)
    )


class AugmentedRegressor(RegressorMixin, _Augmented):
    """A regressor that is trained on its rows and on rows that an augmenter adds.

    Rows are added inside `fit`, so this works in any pipeline, search and
    cross-validation: test rows are never augmented, and no new row is made from a test
    row.

    Parameters
    ----------
    estimator : regressor
        The model to train on all rows. It gets the eras and weights of all rows if its
        `fit` accepts ``eras`` or ``sample_weight``.
    augmenter : augmenter
        The augmenter whose ``fit_resample`` adds rows.
    keep_era : bool, default=False
        Whether to pass the column ``era`` of a frame on to an estimator that removes
        it, such as a pipeline of `LatentFeatures` and a tree. Such a pipeline gets eras
        only from this column, so it is an error to leave it out. Any other estimator
        would use it as a feature. Labels that are passed as ``eras=`` become this
        column.

    Attributes
    ----------
    estimator_ : regressor
        The fitted regressor.
    augmenter_ : augmenter
        The augmenter that added the rows.
    n_features_in_ : int
        Number of features seen in fit.
    feature_names_in_ : ndarray of shape (n_features,)
        Their names, if X had string names.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> from numerai_features.augmenters import CutoutAugmenter
    >>> from numerai_features.compose import AugmentedRegressor
    >>> from numerai_features.datasets import make_era_panel
    >>> panel = make_era_panel(n_eras=8, rows_per_era=50, random_state=0)
    >>> model = AugmentedRegressor(Ridge(), CutoutAugmenter(random_state=0))
    >>> model.fit(panel.X, panel.y("target_alpha_20"), eras=panel.eras)
    AugmentedRegressor(...)
    >>> model.predict(panel.X).shape
    (400,)
    """

    @whole_fit(prefer_skip_nested_validation=False)
    def fit(self, X, y, *, eras=None, sample_weight=None):
        """Add rows, and train the estimator on the given and the new rows.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            Features; a frame may have a column ``era``.
        y : array-like of shape (n_rows,) or (n_rows, n_targets)
            Targets.
        eras : array-like of shape (n_rows,), default=None
            Era labels.
        sample_weight : array-like of shape (n_rows,), default=None
            Weights of the rows, if the estimator accepts them.

        Returns
        -------
        self
        """
        self._fit(X, y, eras, sample_weight)
        return self

    def score(self, X, y, sample_weight=None, *, eras=None):
        """Return the R^2 of `predict`.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            The features of fit.
        y : array-like of shape (n_rows,) or (n_rows, n_targets)
            Targets.
        sample_weight : array-like of shape (n_rows,), default=None
            Weights of the rows.
        eras : array-like of shape (n_rows,), default=None
            Era labels, as in `predict`.

        Returns
        -------
        float
        """
        from sklearn.metrics import r2_score

        check_same_rows(X=X, y=y, eras=eras, sample_weight=sample_weight)
        prediction = self.predict(X, eras=eras)
        return r2_score(y, prediction, sample_weight=sample_weight)


class AugmentedClassifier(ClassifierMixin, _Augmented):
    """A classifier that is trained on its rows and on rows that an augmenter adds.

    It is like `AugmentedRegressor`, but for classes. The augmenter must keep a row's
    target, or copy it from another row.

    Parameters
    ----------
    estimator : classifier
        The model to train on all rows. It gets the eras and weights of all rows if its
        `fit` accepts ``eras`` or ``sample_weight``.
    augmenter : augmenter
        The augmenter whose ``fit_resample`` adds rows.
    keep_era : bool, default=False
        Whether to pass the column ``era`` of a frame on to an estimator that removes
        it, such as a pipeline of `LatentFeatures` and a tree. Such a pipeline gets eras
        only from this column, so it is an error to leave it out. Any other estimator
        would use it as a feature. Labels that are passed as ``eras=`` become this
        column.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes, sorted.
    estimator_ : classifier
        The fitted classifier; its classes are the integers from 0.
    augmenter_ : augmenter
        The augmenter that added the rows.
    n_features_in_ : int
        Number of features seen in fit.
    feature_names_in_ : ndarray of shape (n_features,)
        Their names, if X had string names.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from numerai_features.augmenters import BalanceAugmenter
    >>> from numerai_features.compose import AugmentedClassifier
    >>> from numerai_features.datasets import make_era_panel
    >>> panel = make_era_panel(n_eras=8, rows_per_era=50, random_state=0)
    >>> y = panel.y("target_alpha_20") > 0.5
    >>> model = AugmentedClassifier(LogisticRegression(max_iter=1000),
    ...                             BalanceAugmenter(1.0, random_state=0))
    >>> model.fit(panel.X, y, eras=panel.eras).predict_proba(panel.X).shape
    (400, 2)
    """

    @whole_fit(prefer_skip_nested_validation=False)
    def fit(self, X, y, *, eras=None, sample_weight=None):
        """Add rows, and train the estimator on the given and the new rows.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            Features; a frame may have a column ``era``.
        y : array-like of shape (n_rows,)
            Classes.
        eras : array-like of shape (n_rows,), default=None
            Era labels.
        sample_weight : array-like of shape (n_rows,), default=None
            Weights of the rows, if the estimator accepts them.

        Returns
        -------
        self
        """
        require_target(y, self)
        check_same_rows(X=X, y=y, eras=eras, sample_weight=sample_weight)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        self._fit(X, codes, eras, sample_weight)
        return self

    def __sklearn_tags__(self):
        tags, theirs = super().__sklearn_tags__(), get_tags(self.estimator)
        tags.target_tags.multi_output = False
        if theirs.classifier_tags is not None:
            tags.classifier_tags.multi_class = theirs.classifier_tags.multi_class
        return tags

    def _check_targets(self, y):
        if y.dtype.kind != "i":
            raise ValueError(
                f"{type(self.augmenter).__name__} makes targets between classes. Use "
                "AugmentedRegressor, or an augmenter that keeps targets as they are."
            )

    def predict(self, X, *, eras=None):
        """Return the predicted class of each row; rows are not augmented.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            The features of fit.
        eras : array-like of shape (n_rows,), default=None
            Era labels, for an estimator that predicts by era. They override the column
            ``era`` of X.

        Returns
        -------
        ndarray of shape (n_rows,)
        """
        codes = np.asarray(self._ask("predict", X, eras), np.intp)
        return self.classes_[codes]

    def score(self, X, y, sample_weight=None, *, eras=None):
        """Return the accuracy of `predict`.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            The features of fit.
        y : array-like of shape (n_rows,)
            Classes.
        sample_weight : array-like of shape (n_rows,), default=None
            Weights of the rows.
        eras : array-like of shape (n_rows,), default=None
            Era labels, as in `predict`.

        Returns
        -------
        float
        """
        from sklearn.metrics import accuracy_score

        check_same_rows(X=X, y=y, eras=eras, sample_weight=sample_weight)
        prediction = self.predict(X, eras=eras)
        return accuracy_score(y, prediction, sample_weight=sample_weight)

    @_can("predict_proba")
    def predict_proba(self, X, *, eras=None):
        """Return the probability of each class.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            The features of fit.
        eras : array-like of shape (n_rows,), default=None
            Era labels, as in `predict`.

        Returns
        -------
        ndarray of shape (n_rows, n_classes)
        """
        return self._ask("predict_proba", X, eras)

    @_can("decision_function")
    def decision_function(self, X, *, eras=None):
        """Return the result of the estimator's ``decision_function``.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            The features of fit.
        eras : array-like of shape (n_rows,), default=None
            Era labels, as in `predict`.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_classes)
        """
        return self._ask("decision_function", X, eras)
