"""Boosting that adds trees with more weight on the eras with the worst scores."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.base import clone

from numerai_features._arguments import MODEL, Finite, Whole
from numerai_features._compat import StrOptions
from numerai_features._eras import EraIndex
from numerai_features._warn import warn
from numerai_features.compose._era_regressor import EraRegressor
from numerai_features.compose._more_trees import add_trees, check_grows
from numerai_features.compose._one_target import one_prediction, one_target
from numerai_features.metrics._corr import RefusedTarget, era_corr


class EraBoostedRegressor(EraRegressor):
    """Gradient boosting that focuses on the eras with the worst scores.

    This is Richard Craib's era boosting [1]_: some trees are fitted to all rows. In
    each further round, each era is scored in sample, by the rank correlation of its
    predictions with its targets; then the same number of trees is added, fitted only to
    the worst eras. It trades a lower mean score for scores that vary less.

    An era is among the worst if its score is at most the quantile `proportion` of all
    eras' scores. The score of an era with a constant prediction is 0. Eras that cannot
    be scored (one row, or a constant target) are never among the worst.

    Parameters
    ----------
    regressor : LGBMRegressor, XGBRegressor or GradientBoostingRegressor
        A regressor of LightGBM, XGBoost or scikit-learn, of which a clone is fitted.
        Its ``n_estimators`` is the number of trees of one round. Others, such as
        scikit-learn's HistGradientBoostingRegressor, cannot continue on other rows.
    n_rounds : int, default=10
        Number of rounds, including the first, which uses all eras. The model has
        `n_rounds` times ``n_estimators`` trees.
    proportion : float, default=0.5
        Share of the eras, above 0, that a further round uses; 1 means all.
    other_weight : float, default=0.0
        Weight, from 0 to 1, of the other eras' rows in the further rounds; rows of the
        worst eras have weight 1. With 0, the other eras are left out, as in [1]_.
    metric : {"spearman", "corr"}, default="spearman"
        The score of an era: Spearman's rank correlation, as in [1]_, or CORR.

    Attributes
    ----------
    regressor_ : regressor
        The fitted regressor, with the trees of all rounds.
    era_scores_ : ndarray of shape (n_rounds - 1, n_eras)
        Scores of the eras before each further round, in the order of the eras.
    era_weights_ : ndarray of shape (n_rounds, n_eras)
        Weights of the eras' rows in each round.
    fitted_eras_ : ndarray of shape (n_eras,) or None
        Era numbers of the training rows; None if there were no eras.
    n_features_in_ : int
        Number of features seen in fit, without ``era``.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if X had string names.

    Notes
    -----
    The code in [1]_ increases ``n_estimators`` before each ``fit(xgb_model=)``, so that
    XGBoost adds 10, 20, 30, ... trees, although its text says 10 each time. Here each
    round adds the same number. LightGBM gets a new seed in each round, because it would
    otherwise draw the same columns again.

    References
    ----------
    .. [1] Craib, R. (2020). Era boosted models.
       https://forum.numer.ai/t/era-boosted-models/189

    Examples
    --------
    >>> from sklearn.ensemble import GradientBoostingRegressor
    >>> from numerai_features.compose import EraBoostedRegressor
    >>> from numerai_features.datasets import make_era_panel
    >>> panel = make_era_panel(n_eras=8, rows_per_era=50, random_state=0)
    >>> trees = GradientBoostingRegressor(n_estimators=5, random_state=0)
    >>> model = EraBoostedRegressor(trees, n_rounds=3)
    >>> model = model.fit(panel.X, panel.y("target_alpha_20"), eras=panel.eras)
    >>> model.era_weights_.sum(axis=1), len(model.regressor_.estimators_)
    (array([8., 4., 4.]), 15)
    """

    _parameter_constraints = {
        "regressor": [MODEL],
        "n_rounds": [Whole(1)],
        "proportion": [Finite(0, 1, "right")],
        "other_weight": [Finite(0, 1)],
        "metric": [StrOptions({"spearman", "corr"})],
    }

    _predicts_by_era = False

    def __init__(
        self,
        regressor,
        *,
        n_rounds=10,
        proportion=0.5,
        other_weight=0.0,
        metric="spearman",
    ):
        self.regressor = regressor
        self.n_rounds = n_rounds
        self.proportion = proportion
        self.other_weight = other_weight
        self.metric = metric

    def _fit_rows(self, given):
        check_grows(self.regressor)
        given = one_target(given, self)
        index, target = given.rows.era_index, given.rows.y[:, 0]
        if index.n_eras < 2 and self.n_rounds > 1:
            warn(
                "EraBoostedRegressor chooses among eras, but there is one (without "
                "eras, all rows are one): every round is fitted to all rows. Pass "
                "eras=, or a frame with a column 'era', which "
                "LatentFeatures(keep_era=True) passes on.",
            )
        scores = np.full((self.n_rounds - 1, index.n_eras), np.nan)
        weights = np.ones((self.n_rounds, index.n_eras))
        goes_on = clone(self.regressor)
        warm = {"warm_start": True} if "warm_start" in goes_on.get_params() else {}
        model = self._train(goes_on.set_params(**warm), given)
        for round_ in range(1, self.n_rounds):
            prediction = one_prediction(self._ask(model, given), model)
            scores[round_ - 1] = score_eras(
                prediction, target, index, given.rows.weights, self.metric
            )
            worst = _worst(scores[round_ - 1], self.proportion, len(target))
            weights[round_] = np.where(worst, 1, self.other_weight)
            model = self._add(model, round_, given, weights[round_][index.codes])
        self.era_scores_, self.era_weights_ = scores, weights
        self.regressor_ = model.set_params(
            **{name: getattr(self.regressor, name) for name in warm}
        )

    def _add(self, model, round_, given, weights):
        """Return the model with more trees, fitted to weighted rows."""
        chosen = given.take(weights > 0)
        weights, own = weights[weights > 0], chosen.rows.weights
        options = {}
        if own is not None:
            weights = weights * own
        if own is not None or (weights < 1).any():
            options["sample_weight"] = weights
        return add_trees(model, round_, chosen.table, chosen.y, **options)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = False
        return tags


def score_eras(
    prediction: NDArray[np.float64],
    target: NDArray[np.float64],
    index: EraIndex,
    weights: NDArray[np.float64] | None,
    metric: str,
) -> NDArray[np.float64]:
    """Return the score of each era, NaN if it cannot be scored.

    Parameters
    ----------
    prediction, target : ndarray of shape (n_rows,)
    index : EraIndex
    weights : ndarray of shape (n_rows,) or None
        Rows of weight 0 are left out.
    metric : {"spearman", "corr"}

    Returns
    -------
    ndarray of shape (n_eras,)
    """
    scores = np.full(index.n_eras, np.nan)
    for code, rows in index.rows_by_era():
        p, y = prediction[rows], target[rows]
        if weights is not None:
            p, y = p[weights[rows] > 0], y[weights[rows] > 0]
        if len(y) < 2 or not np.ptp(y):
            continue
        if not np.ptp(p):
            scores[code] = 0.0
        elif metric == "spearman":
            scores[code] = np.corrcoef(rankdata(p), rankdata(y))[0, 1]
        else:
            scores[code] = _corr(y, p, index.labels[code])
    return scores


def _corr(target: NDArray[Any], prediction: NDArray[Any], era: Any) -> float:
    try:
        return float(era_corr(target, prediction[:, None])[0])
    except RefusedTarget as error:
        raise ValueError(
            f"CORR cannot score era {era!r}: {error}. Use metric='spearman'."
        ) from error


def _worst(
    scores: NDArray[np.float64], proportion: float, n_rows: int
) -> NDArray[np.bool_]:
    """Return a mask of the eras with the lowest scores."""
    if np.isnan(scores).all():
        raise ValueError(
            f"No era can be scored (n_samples={n_rows}): each has a single row, or a "
            "constant target. Pass rows of eras in which the target varies."
        )
    return np.asarray(scores <= np.nanquantile(scores, proportion))
