"""Weights of a blend, fitted to a score that is linear in the target."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._arguments import checked
from numerai_features._eras import EraIndex, encode_eras
from numerai_features._ids import match_ids
from numerai_features._threads import blas_threads
from numerai_features._validation import check_same_rows, validate_target
from numerai_features.metrics._corr import corr_target, normal_scores
from numerai_features.metrics._era_scores import (
    check_metric,
    prediction_columns,
    reference_column,
    scorable_eras,
)

BLEND_METRICS = ("corr", "bmc")
"""Scores to which weights can be fitted."""

_ROUNDING = 1e-10  # of the largest eigenvalue: directions that the predictions lack

_Array = NDArray[np.float64]


@checked(positive=["boolean"])
def fit_blend_weights(
    prediction: Any,
    y: Any,
    eras: Any,
    *,
    metric: str = "corr",
    benchmark: Any = None,
    positive: bool = True,
) -> _Array:
    r"""Fit the weights of a blend to a score.

    Use it with existing out-of-fold predictions; `EraBlend` makes such predictions
    itself.

    In era :math:`e`, let :math:`Z_e` be the ranked and gaussianised predictions, and
    :math:`t_e` the target as transformed by the score. The weights solve the
    least-squares problem

    .. math:: \min_w \sum_e \frac{1}{n_e} \lVert t_e - Z_e w \rVert^2,

    in which all eras have the same weight, and are then divided by the sum of their
    absolute values. Least squares maximises the mean over eras of
    :math:`t_e' Z_e w / n_e` for a given mean variance of the blend. This is the mean
    score with two simplifications: the blend is not ranked again (nor, for CORR, raised
    to the power 1.5), and its variance is the mean over eras, not that of each era.

    - "corr": :math:`t_e` is the centred target to the power 1.5, standardised.
    - "bmc": :math:`t_e` is the centred target minus its projection on the ranked and
      gaussianised benchmark. It is enough to neutralise the target, because BMC does
      not rescale the neutralised prediction.

    Parameters
    ----------
    prediction : array-like of shape (n_rows, n_predictions)
        A column for each model, with finite predictions of rows on which the models
        were not fitted. They are ranked within the era.
    y : array-like of shape (n_rows,)
        The target. Rows whose target is NaN are left out.
    eras : array-like of shape (n_rows,)
        The era of each row.
    metric : {"corr", "bmc"}, default="corr"
        The score.
    benchmark : array-like of shape (n_rows,) or frame, default=None
        Predictions of the benchmark model, for "bmc"; matched by id as in
        `era_scores`. With the meta model's predictions, the score is MMC.
    positive : bool, default=True
        Whether to restrict weights to be non-negative (non-negative least squares).

    Returns
    -------
    ndarray of shape (n_predictions,)
        Weights whose absolute values sum to 1.

    Raises
    ------
    ValueError
        If no model's predictions correlate positively with the target, so that all
        weights are 0; or if `era_scores` would raise.

    Examples
    --------
    >>> import numpy as np
    >>> from numerai_features.compose import fit_blend_weights
    >>> rng = np.random.default_rng(0)
    >>> eras, y = np.repeat([1, 2, 3, 4], 500), rng.random(2000)
    >>> noise = rng.normal(size=(2000, 3)) * [1, 2, 4]
    >>> fit_blend_weights(y[:, None] + noise, y, eras).round(2)
    array([0.6 , 0.27, 0.13])
    """
    check_metric(metric, BLEND_METRICS, {"benchmark": benchmark})
    if benchmark is not None:
        owners = {"y": y, "prediction": prediction, "eras": eras}
        benchmark = match_ids(benchmark, "benchmark", **owners)
    check_same_rows(y=y, prediction=prediction, eras=eras)
    values, _ = prediction_columns(prediction)
    index = encode_eras(eras, n_rows=len(values))
    target = validate_target(y, len(values))
    if benchmark is not None:
        benchmark = reference_column(benchmark, index, "benchmark")
    problem = BlendProblem(values.shape[1])
    problem.add(values, target, index, benchmark)
    return problem.solve(positive)


class BlendProblem:
    """The normal equations of the least-squares problem, summed over eras.

    Parameters
    ----------
    n_predictions : int
    """

    def __init__(self, n_predictions: int) -> None:
        self.gram = np.zeros((n_predictions, n_predictions))
        self.moment = np.zeros(n_predictions)
        self.n_eras = 0

    @blas_threads(1)  # as for the scores of an era
    def add(
        self,
        values: NDArray[Any],
        target: _Array,
        index: EraIndex,
        benchmark: _Array | None,
    ) -> None:
        """Add the eras of some rows; an era in two calls is counted twice.

        Parameters
        ----------
        values : ndarray of shape (n_rows, n_predictions)
        target : ndarray of shape (n_rows,)
        index : EraIndex
        benchmark : ndarray of shape (n_rows,) or None
            The benchmark for BMC; None for CORR.
        """
        for _, rows in scorable_eras(index, target, benchmark):
            y, z = target[rows], normal_scores(np.asarray(values[rows], np.float64))
            if benchmark is None:
                t = corr_target(y)
            else:
                t, b = y - y.mean(), normal_scores(benchmark[rows])
                t -= b * ((b @ t) / (b @ b))
            self.gram += z.T @ z / len(y)
            self.moment += z.T @ t / len(y)
            self.n_eras += 1

    @blas_threads(1)
    def solve(self, positive: bool) -> _Array:
        """Return the weights, scaled so that their absolute values sum to 1."""
        from scipy.optimize import nnls

        if not self.n_eras:
            raise ValueError(
                "weights cannot be fitted: each era is live, or its target or "
                "benchmark is unknown or constant. Pass rows of resolved eras."
            )
        # A square root of the Gram matrix, without the directions in which the
        # predictions of equal models do not differ.
        values, vectors = np.linalg.eigh(self.gram)
        held = values > _ROUNDING * values[-1]
        sizes = np.sqrt(values[held])
        side = (self.moment @ vectors[:, held]) / sizes
        weights = vectors[:, held] @ (side / sizes)
        if positive and (weights < 0).any():
            weights = nnls((vectors[:, held] * sizes).T, side)[0]
        size = np.abs(weights).sum()
        if size == 0:
            raise ValueError(
                f"The fitted weights sum to 0: in {self.n_eras} eras no model's "
                "predictions go with the target. Leave models out, or pass weights."
            )
        return np.asarray(weights / size)
