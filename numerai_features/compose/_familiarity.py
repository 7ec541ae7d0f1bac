"""Shrink predictions of rows that an autoencoder finds unfamiliar."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import get_tags
from sklearn.utils.validation import has_fit_parameter

from numerai_features._arguments import MODEL, NOT_NEGATIVE, Methods
from numerai_features._compat import StrOptions
from numerai_features._frozen import check_same_columns
from numerai_features._validation import named_rows, take_eras
from numerai_features.compose._era_ranker import rank_rows
from numerai_features.compose._era_regressor import EraRegressor
from numerai_features.compose._reach import eras_for

_PER = {"row", "era"}
_LEAST = np.finfo(np.float64).tiny  # of a factor, which is above 0


class FamiliarityShrinker(EraRegressor):
    r"""A regressor whose predictions are shrunk for unfamiliar rows or eras.

    An autoencoder that is fitted to the training rows reconstructs rows unlike them
    badly. Boney et al. [1]_ subtract its error from the objective of a planner, so that
    the planner stays near the data that the model knows. Here predictions are shrunk
    towards the middle: they are ranked and gaussianised within their era, and
    multiplied by

    .. math:: \exp\left(-\mathrm{strength} \cdot
       \max\left(0, \frac{m - s}{d}\right)\right),

    where :math:`s` is the familiarity of the row or era (`DAEEmbedder.score_samples`,
    minus the mean squared error in units of the columns' variance), and :math:`m` and
    :math:`d` are the median and the standard deviation of the familiarity of the
    training rows or eras. So the factor is 1 if the familiarity is at least the
    training median, and falls by :math:`e^{-\mathrm{strength}}` with each standard
    deviation below it.

    Parameters
    ----------
    regressor : regressor
        The regressor whose predictions are shrunk.
    autoencoder : estimator
        An estimator with ``fit`` and ``score_samples``, such as `DAEEmbedder`. A clone
        is fitted to the rows with a target. An autoencoder that was already fitted, on
        more rows of the same columns, is not refitted in a FrozenEstimator.
    per : {"row", "era"}, default="row"
        Whether each row has its own factor, or all rows of an era have the factor of
        the era's mean familiarity. The latter changes no score that uses ranks within
        the era, only the spread of the era's predictions.
    strength : float, default=0.5
        How strongly predictions are shrunk; 0 means not at all.
    keep_era : bool, default=False
        Whether to pass the column ``era`` of a frame on to a regressor that removes it,
        such as a pipeline of `LatentFeatures` and a tree. Any other regressor would use
        it as a feature. Labels that are passed as ``eras=`` become this column.

    Attributes
    ----------
    regressor_ : regressor
        The fitted regressor.
    autoencoder_ : estimator
        The fitted autoencoder.
    median_, spread_ : float
        Median and standard deviation of the familiarity of the training rows or eras.
    fitted_eras_ : ndarray of shape (n_eras,) or None
        Era numbers of the training rows; None if there were no eras.
    n_features_in_ : int
        Number of features seen in fit, without ``era``.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if X had string names.

    References
    ----------
    .. [1] Boney, R., Di Palo, N., Berglund, M., Ilin, A., Kannala, J., Rasmus, A.,
       Valpola, H. (2019). Regularizing trajectory optimization with denoising
       autoencoders. NeurIPS 32.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> from numerai_features.compose import FamiliarityShrinker
    >>> from numerai_features.datasets import make_era_panel
    >>> from numerai_features.embedders import DAEEmbedder
    >>> panel = make_era_panel(n_eras=8, rows_per_era=100, random_state=0)
    >>> dae = DAEEmbedder(4, hidden=(32,), max_epochs=3, random_state=0)
    >>> model = FamiliarityShrinker(Ridge(), dae)
    >>> model = model.fit(panel.X, panel.y("target_alpha_20"), eras=panel.eras)
    >>> factors = model.factors(panel.X, eras=panel.eras)
    >>> float(factors.max()), bool((factors == 1).mean() > 0.49)
    (1.0, True)
    """

    _parameter_constraints = {
        "regressor": [MODEL],
        "autoencoder": [Methods(["fit", "score_samples"])],
        "per": [StrOptions(_PER)],
        "strength": [NOT_NEGATIVE],
        "keep_era": ["boolean"],
    }

    def __init__(
        self, regressor, autoencoder, *, per="row", strength=0.5, keep_era=False
    ):
        self.regressor = regressor
        self.autoencoder = autoencoder
        self.per = per
        self.strength = strength
        self.keep_era = keep_era

    def factors(self, X, *, eras=None):
        """Return the factors by which the predictions of rows are multiplied.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            The features of fit.
        eras : array-like of shape (n_rows,), default=None
            Era labels, as in `predict`.

        Returns
        -------
        ndarray of shape (n_rows,)
            Above 0, and at most 1.
        """
        return self._factors(self._rows_to_predict(X, eras))

    def _fit_rows(self, given):
        if self.per == "era" and given.rows.eras is None:
            raise ValueError(
                "per='era' needs eras: pass eras=, or a frame with a column 'era', "
                "which LatentFeatures(keep_era=True) passes on."
            )
        self.autoencoder_ = self._fitted_autoencoder(given)
        rows, scores = given.rows, self._familiarity(given)
        weights = np.ones(len(scores)) if rows.weights is None else rows.weights
        if self.per == "era":
            counted = np.bincount(rows.codes, weights) > 0
            scores = _era_means(scores, rows.era_index, weights)[counted]
            weights = np.ones(len(scores))
        self.median_ = _median(scores, weights)
        mean = np.average(scores, weights=weights)
        self.spread_ = float(np.sqrt(np.average((scores - mean) ** 2, weights=weights)))
        if not self.spread_ > 0:
            raise ValueError(
                f"autoencoder finds all training {self.per}s equally familiar, with "
                f"{self.median_:g} (n_samples={rows.n_rows}): there is no unit to "
                f"shrink by. Train on several {self.per}s that differ."
            )
        self.regressor_ = self._train(self.regressor, given)

    def _predict_rows(self, given):
        prediction = self._ask(self.regressor_, given)
        ranked = rank_rows(prediction, given.rows.era_index, "gauss")
        factors = self._factors(given)
        return ranked * factors.reshape(-1, *[1] * (ranked.ndim - 1))

    def _factors(self, given):
        known, rows = self._fitted_with, given.rows
        scores = self._familiarity(given)
        if known.per == "era":
            scores = _era_means(scores, rows.era_index)[rows.codes]
        below = np.maximum(0, (self.median_ - scores) / self.spread_)
        return np.maximum(np.exp(-known.strength * below), _LEAST)

    def _fitted_autoencoder(self, given):
        """Return the autoencoder, fitted to the rows unless it is frozen."""
        if isinstance(self.autoencoder, FrozenEstimator):
            check_same_columns(self.autoencoder, self)
            return clone(self.autoencoder)
        rows = given.rows
        options = eras_for(self.autoencoder, rows.era_labels, name="autoencoder")
        if rows.weights is not None and has_fit_parameter(
            self.autoencoder, "sample_weight"
        ):
            options["sample_weight"] = rows.weights
        table, _ = take_eras(given.table)
        return clone(self.autoencoder).fit(table, **options)

    def _familiarity(self, given):
        """Return the familiarity of each row."""
        rows = given.rows
        names = getattr(self.autoencoder_, "feature_names_in_", None)
        table = named_rows(rows.X, names)
        scores = np.asarray(self.autoencoder_.score_samples(table), np.float64)
        if scores.shape != (rows.n_rows,) or not np.isfinite(scores).all():
            raise ValueError(
                f"{type(self.autoencoder_).__name__}.score_samples returned shape "
                f"{scores.shape} for {rows.n_rows} rows, with "
                f"{int((~np.isfinite(scores)).sum())} that are not finite; expected "
                "one finite number a row."
            )
        return scores

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        if hasattr(self.autoencoder, "__sklearn_tags__"):
            theirs = get_tags(self.autoencoder).input_tags
            tags.input_tags.allow_nan &= theirs.allow_nan
            tags.input_tags.positive_only |= theirs.positive_only
        return tags


def _era_means(scores, index, weights=None):
    """Return the mean of each era; 0 if all its weights are 0."""
    weights = np.ones(len(scores)) if weights is None else weights
    sums = np.bincount(index.codes, weights, minlength=index.n_eras)
    means = np.bincount(index.codes, weights * scores, minlength=index.n_eras)
    return np.divide(means, sums, out=np.zeros(index.n_eras), where=sums > 0)


def _median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Return the smallest value with half of the weight at or below it."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(below, below[-1] / 2)]])
