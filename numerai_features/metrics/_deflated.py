"""The deflated Sharpe ratio of era scores."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._arguments import COUNT, Finite, checked
from numerai_features._validation import kind_of
from numerai_features.metrics._interval import FEWEST_OVERLAPS, values_per_overlap

if TYPE_CHECKING:
    import pandas as pd


@checked(
    overlap=[COUNT],
    n_trials=[COUNT, None],
    variance_of_trials=[Finite(0, closed="left"), None],
)
def deflated_sharpe_ratio(
    scores: Any,
    *,
    overlap: int,
    n_trials: int | None = None,
    variance_of_trials: float | None = None,
) -> Any:
    r"""Return the probability that a Sharpe ratio is not the luck of many trials.

    The best of :math:`N` trials has a high Sharpe ratio even if no trial has skill.
    If :math:`V` is the variance of the trials' Sharpe ratios, its expected value is

    .. math::
        S_0 = \sqrt V \Bigl( (1 - \gamma) \Phi^{-1} \bigl( 1 - \tfrac{1}{N} \bigr)
        + \gamma \Phi^{-1} \bigl( 1 - \tfrac{1}{N e} \bigr) \Bigr),

    where :math:`\gamma` is Euler's constant, and :math:`S_0 = 0` for one trial. The
    deflated Sharpe ratio [1]_ is the probability that the true Sharpe ratio is above
    :math:`S_0`,

    .. math::
        \Phi \biggl( \frac{(S - S_0) \sqrt{T - 1}}
        {\sqrt{1 - \gamma_3 S + (\gamma_4 - 1) S^2 / 4}} \biggr).

    :math:`S` is the Sharpe ratio of the scores (mean over standard deviation, ddof 0,
    not annualised), :math:`\gamma_3` and :math:`\gamma_4` are their skewness and
    kurtosis (3 for a normal distribution), and :math:`T` is the number of independent
    observations: the eras with a score, divided by `overlap`.

    Parameters
    ----------
    scores : Series or DataFrame
        The result of `era_scores`: one row for each era, in era order, and one column
        for each trial. NaN is an era without a score.
    overlap : int
        Number of eras that a target spans. As in `mean_interval`, it is counted in era
        numbers if the index has them.
    n_trials : int, default=None
        Number of trials among which these are, such as all arms, settings and seeds
        that were tried. It is the number of columns if None, and never smaller.
    variance_of_trials : float, default=None
        Variance of the Sharpe ratios (not annualised) of all trials. If None, it is
        estimated from the columns (ddof 1), for which at least two must vary. It has
        no effect if there is one trial.

    Returns
    -------
    float or Series
        From 0 to 1; one value for each column of a DataFrame. NaN if a column has fewer
        eras than four overlaps, because its skewness and kurtosis would be guesses, or
        if its scores do not vary.

    Raises
    ------
    ValueError
        If there are fewer trials than columns; if the variance of the trials is needed
        and cannot be estimated; if a score is infinite, or the eras are names or not in
        order.

    References
    ----------
    .. [1] D. H. Bailey and M. Lopez de Prado (2014). The deflated Sharpe ratio:
       correcting for selection bias, backtest overfitting, and non-normality. Journal
       of Portfolio Management 40(5), 94-107.

    Examples
    --------
    A hundred settings without any skill, of which the best looks well:

    >>> import numpy as np, pandas as pd
    >>> from numerai_features.metrics import deflated_sharpe_ratio, summarize_scores
    >>> tried = np.random.default_rng(0).normal(0, 0.02, size=(200, 100))
    >>> scores = pd.DataFrame(tried, index=range(1, 201))
    >>> best = summarize_scores(scores)["sharpe"].idxmax()
    >>> alone = deflated_sharpe_ratio(scores[best], overlap=4)
    >>> among_all = deflated_sharpe_ratio(scores, overlap=4)[best]
    >>> round(alone, 2), round(float(among_all), 2)
    (0.89, 0.51)
    """
    import pandas as pd

    table = _checked_table(scores)
    n_trials = table.shape[1] if n_trials is None else int(n_trials)
    if n_trials < table.shape[1]:
        raise ValueError(
            f"n_trials must be at least the number of columns, {table.shape[1]}, since "
            f"each column is a trial; got {n_trials}. Pass fewer columns, or count "
            "all that was tried."
        )
    own = values_per_overlap(table, overlap)
    moments = [_moments(table[[j]].to_numpy()[:, 0]) for j in table.columns]
    threshold = 0.0
    if n_trials > 1:
        sharpes = np.array([sharpe for _, sharpe, _, _ in moments])
        variance = _variance(sharpes, n_trials, variance_of_trials)
        threshold = math.sqrt(variance) * _expected_maximum(n_trials)
    found = [_probability(*each, threshold, own) for each in moments]
    if isinstance(scores, pd.DataFrame):
        return pd.Series(found, index=scores.columns, dtype=float)
    return found[0]


def _checked_table(scores: Any) -> pd.DataFrame:
    """Return the scores as floats, with columns numbered from 0."""
    import pandas as pd

    if not isinstance(scores, pd.Series | pd.DataFrame):
        raise ValueError(
            "scores must be a Series or a DataFrame with one row for each era, as "
            f"era_scores returns; got {kind_of(scores)}."
        )
    table = pd.DataFrame(scores)
    if not table.size:
        raise ValueError(
            f"scores must have at least one era and one column; got {table.shape}."
        )
    table = table.set_axis(range(table.shape[1]), axis="columns").astype(float)
    infinite = np.isinf(table.to_numpy())
    if infinite.any():
        name = pd.DataFrame(scores).columns[infinite.any(axis=0)][0]
        raise ValueError(
            "scores must be finite, or NaN where an era has no score; got "
            f"{int(infinite.sum())} infinite, the first in column {name!r}."
        )
    return table


def _moments(values: NDArray[np.float64]) -> tuple[int, float, float, float]:
    """Return the number of scores, and their Sharpe ratio, skewness and kurtosis."""
    known = values[~np.isnan(values)]
    if not len(known) or known.max() == known.min():
        return len(known), np.nan, np.nan, np.nan
    known = known / np.abs(known).max()  # squares might overflow or vanish
    sd = known.std()
    if sd == 0:  # the values differ by less than their rounding error
        return len(known), np.nan, np.nan, np.nan
    standard = (known - known.mean()) / sd
    cubes, fourths = (standard**3).mean(), (standard**4).mean()
    return len(known), float(known.mean() / sd), float(cubes), float(fourths)


def _variance(
    sharpes: NDArray[np.float64], n_trials: int, given: float | None
) -> float:
    if given is not None:
        return float(given)
    known = sharpes[~np.isnan(sharpes)]
    if len(known) < 2:
        raise ValueError(
            f"variance_of_trials is needed for {n_trials} trials: it can only be "
            f"estimated from at least two columns whose scores vary; got {len(known)}. "
            "Pass it, or pass the scores of the other trials as further columns."
        )
    return float(known.var(ddof=1))


def _expected_maximum(n: int) -> float:
    """Return about the expected largest of `n` standard normal draws."""
    from scipy.stats import norm

    # isf(p), not ppf(1 - p): for many trials 1 - p loses its digits
    first, second = norm.isf(1 / n), norm.isf(1 / (n * math.e))
    return float((1 - np.euler_gamma) * first + np.euler_gamma * second)


def _probability(
    n: int,
    sharpe: float,
    skewness: float,
    kurtosis: float,
    threshold: float,
    overlap: int,
) -> float:
    from scipy.stats import norm

    if n < FEWEST_OVERLAPS * overlap or math.isnan(sharpe):
        return math.nan
    spread = 1 - skewness * sharpe + (kurtosis - 1) / 4 * sharpe**2
    # It is 0 for some series of two values, whose Sharpe ratio is then certain.
    spread = max(spread, np.finfo(float).tiny)
    deviation = (sharpe - threshold) * math.sqrt(n / overlap - 1) / math.sqrt(spread)
    return float(norm.cdf(deviation))
