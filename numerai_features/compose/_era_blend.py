"""A blend of models: the weighted mean of their ranked predictions."""

from __future__ import annotations

import numpy as np
from sklearn.utils import Bunch

from numerai_features._arguments import FOLDS, MODEL, ROWS
from numerai_features._compat import BaseComposition, StrOptions
from numerai_features._fitted import warn_of_prefitted
from numerai_features._validation import as_floats, known_numbers
from numerai_features.compose._blend_weights import BLEND_METRICS, BlendProblem
from numerai_features.compose._era_ranker import rank_rows, weighted_sum
from numerai_features.compose._era_regressor import EraRegressor
from numerai_features.compose._one_target import one_prediction, one_target
from numerai_features.model_selection import EraKFold
from numerai_features.model_selection._folds import folds_to_run, no_folds, read_cv


class EraBlend(EraRegressor, BaseComposition):
    """A weighted mean of several regressors' ranked predictions.

    The predictions of each regressor are ranked and gaussianised within their era (see
    `rank_by_era`), because only ranks within an era count, and models have different
    scales. The blend is the weighted mean, in standard deviations; it is not ranked
    again. Otherwise it works like scikit-learn's ``VotingRegressor``.

    Parameters
    ----------
    regressors : list of (str, regressor)
        Names and regressors, of which clones are fitted. A regressor that is set to
        "drop" is left out: ``set_params(name="drop")``.
    weights : array-like of shape (n_regressors,), "fit" or None, default=None
        Weights of the mean, one for each regressor, including dropped ones. They are
        divided by the sum of their absolute values. None: equal weights. "fit": the
        weights are fitted to `metric` on out-of-fold predictions (see
        `fit_blend_weights`) of rows whose sample weight is not 0; then the regressors
        are fitted to all rows.
    metric : {"corr", "bmc"}, default="corr"
        The score that ``weights="fit"`` fits to. "bmc" needs ``fit(benchmark=)``.
    positive : bool, default=True
        Whether to restrict fitted weights to be non-negative.
    cv : splitter, int or iterable, default=None
        The folds for ``weights="fit"``, as in `check_splits`. None means
        `EraKFold()`, which purges by the name of y.
    keep_era : bool, default=False
        Whether to pass the column ``era`` of a frame on to regressors that remove it,
        such as a pipeline of `LatentFeatures` and a tree. Any other regressor would use
        it as a feature. Labels that are passed as ``eras=`` become this column.

    Attributes
    ----------
    estimators_ : list of regressor
        The fitted regressors, without dropped ones.
    named_estimators_ : Bunch
        The fitted regressors by name.
    weights_ : ndarray of shape (n_fitted_regressors,)
        The weights of the mean; their absolute values sum to 1.
    fitted_eras_ : ndarray of shape (n_eras,) or None
        Era numbers of the training rows; None if there were no eras.
    n_features_in_ : int
        Number of features seen in fit, without ``era``.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if X had string names.

    See Also
    --------
    fit_blend_weights : Fits weights to existing predictions.
    rank_by_era : Ranks existing predictions, which weights then blend.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.tree import DecisionTreeRegressor
    >>> from numerai_features.compose import EraBlend
    >>> from numerai_features.datasets import make_era_panel
    >>> from numerai_features.model_selection import EraKFold
    >>> panel = make_era_panel(n_eras=24, rows_per_era=100, n_features=20,
    ...                        random_state=0)
    >>> tree = DecisionTreeRegressor(max_depth=3, random_state=0)
    >>> blend = EraBlend([("ridge", Ridge()), ("tree", tree)], weights="fit",
    ...                  cv=EraKFold(3, purge=4))
    >>> blend = blend.fit(panel.X, panel.y("target_alpha_20"), eras=panel.eras)
    >>> len(blend.estimators_), round(float(blend.weights_.sum()), 9)
    (2, 1.0)
    """

    _parameter_constraints = {
        "regressors": [list],
        "weights": [ROWS, StrOptions({"fit"}), None],
        "metric": [StrOptions(set(BLEND_METRICS))],
        "positive": ["boolean"],
        "cv": [FOLDS, None],
        "keep_era": ["boolean"],
    }

    def __init__(
        self,
        regressors,
        *,
        weights=None,
        metric="corr",
        positive=True,
        cv=None,
        keep_era=False,
    ):
        self.regressors = regressors
        self.weights = weights
        self.metric = metric
        self.positive = positive
        self.cv = cv
        self.keep_era = keep_era

    @property
    def named_estimators(self):
        """The unfitted regressors by name."""
        return Bunch(**dict(self.regressors))

    def get_params(self, deep=True):
        """Return the parameters, including those of the regressors.

        Parameters
        ----------
        deep : bool, default=True
            Whether to include the regressors and their parameters.

        Returns
        -------
        dict
        """
        return self._get_params("regressors", deep=deep)

    def set_params(self, **params):
        """Set parameters, also of regressors (``ridge__alpha``), or replace one.

        Parameters
        ----------
        **params : dict
            Names and values.

        Returns
        -------
        self
        """
        return self._set_params("regressors", **params)

    def _fit_rows(self, given):
        parts = self._parts()
        if isinstance(self.weights, str):
            weights = self._fitted_weights(given)
        else:
            weights = self._given_weights()
        self.weights_ = weights / np.abs(weights).sum()
        given = one_target(given, self)
        self.estimators_ = [self._train(part, given, name) for name, part in parts]
        names = [name for name, _ in parts]
        self.named_estimators_ = Bunch(
            **dict(zip(names, self.estimators_, strict=True))
        )

    def _predict_rows(self, given):
        ranked = rank_rows(
            self._columns(self.estimators_, given), given.rows.era_index, "gauss"
        )
        return weighted_sum(ranked, self.weights_)

    def _columns(self, regressors, given):
        """Return the predictions of fitted regressors as columns."""
        predictions = (self._ask(regressor, given) for regressor in regressors)
        return np.column_stack(
            [one_prediction(p, r) for p, r in zip(predictions, regressors, strict=True)]
        )

    def _given_weights(self):
        """Return the given weights of the regressors that are not dropped."""
        kept = [not _is_dropped(regressor) for _, regressor in self.regressors]
        if self.weights is None:
            return np.ones(sum(kept))
        weights = as_floats(self.weights, "weights")
        if weights.shape != (len(kept),) or not np.isfinite(weights).all():
            raise ValueError(
                f"weights must be {len(kept)} finite numbers, one for each of "
                f"regressors; got {self.weights!r}. Give a dropped one any weight."
            )
        weights = weights[kept]
        if not weights.sum() > 0:
            raise ValueError(
                f"weights sum to {weights.sum():g} over the regressors that are not "
                f"dropped; got {self.weights!r}. Expected a sum above 0: without one "
                "there is no mean."
            )
        return weights

    def _fitted_weights(self, given):
        """Return weights fitted to the score of out-of-fold predictions."""
        self._check_score(given)
        given = one_target(given.whole, self)
        rows, parts = given.rows, self._parts()
        target = rows.y[:, 0]
        # Rows of weight zero are neither trained on nor scored.
        counts = rows.labelled & rows.counted
        cv = EraKFold() if self.cv is None else read_cv(self.cv, given.y)
        problem = BlendProblem(len(parts))
        n_folds = 0
        for fold in folds_to_run(cv, rows.era_index, target, y=given.y):
            n_folds += 1
            train, test = (_mask(part, rows.n_rows) & counts for part in fold[1:])
            if not test.any():
                continue
            _check_trains(train, fold.number)
            tested = given.take(test)
            _warn_of_prefitted(parts, tested.rows.eras)
            learned = given.take(train)
            fitted = [self._train(part, learned, name) for name, part in parts]
            beside = tested.benchmark if self.metric == "bmc" else None
            columns = self._columns(fitted, tested)
            problem.add(columns, target[test], tested.rows.eras, beside)
        if not n_folds:
            raise no_folds(self.cv)
        return problem.solve(self.positive)

    def _check_score(self, given):
        """Raise if the score of fitted weights lacks eras or a benchmark."""
        if given.rows.eras is None:
            raise ValueError(
                "weights='fit' fits to a score by era, and needs eras: pass eras=, or "
                "a frame with a column 'era' (LatentFeatures(keep_era=True) hands it "
                "on)."
            )
        if self.metric == "bmc" and given.benchmark is None:
            raise ValueError(
                "metric='bmc' needs benchmark, which is None. Pass fit(benchmark=), "
                "one prediction for each row."
            )

    def _wants(self, extra, method="fit"):
        fits_bmc = isinstance(self.weights, str) and self.metric == "bmc"
        scored = extra == "benchmark" and method == "fit" and fits_bmc
        return scored or super()._wants(extra, method)

    def _given(self, *rows):
        self._check_regressors()
        return super()._given(*rows)

    def _parts(self):
        # Tags are asked for before fit checks anything.
        items = self.regressors if isinstance(self.regressors, list) else []
        pairs = [item for item in items if isinstance(item, tuple) and len(item) == 2]
        return [(name, part) for name, part in pairs if not _is_dropped(part)]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = False
        return tags

    def _check_regressors(self):
        """Raise if `regressors` is not a list of names and regressors."""
        for item in self.regressors:
            if not (isinstance(item, tuple) and len(item) == 2):
                raise ValueError(
                    "regressors must be a list of (name, regressor); it holds "
                    f"{item!r}."
                )
            name, part = item
            if not isinstance(name, str):
                raise ValueError(
                    f"regressors must be named by text; got the name {name!r}."
                )
            if not (_is_dropped(part) or MODEL.is_satisfied_by(part)):
                raise ValueError(
                    f"regressors holds {part!r} as {name!r}; expected a regressor with "
                    "the methods fit and predict, or 'drop'."
                )
        self._validate_names([name for name, _ in self.regressors])
        if not self._parts():
            raise ValueError(
                f"regressors must hold a regressor that is not dropped; got "
                f"{self.regressors!r}."
            )


def _is_dropped(part):
    return isinstance(part, str) and part == "drop"


def _mask(rows, n_rows):
    mask = np.zeros(n_rows, bool)
    mask[rows] = True
    return mask


def _check_trains(train, number):
    """Raise if all training rows of a fold have weight zero."""
    if not train.any():
        raise ValueError(
            f"sample_weight is zero in all training rows of fold {number}. Leave the "
            "rows out, or choose fewer and longer folds."
        )


def _warn_of_prefitted(parts, eras):
    for _, part in parts:
        warn_of_prefitted(part, known_numbers(eras))
