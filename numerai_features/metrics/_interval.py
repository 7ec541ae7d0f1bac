"""Confidence intervals of a mean over eras, for scores that overlap in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._arguments import COUNT, TABLE, Finite, checked
from numerai_features._validation import as_floats, kind_of
from numerai_features.metrics._era_order import numbers_in_order

if TYPE_CHECKING:
    import pandas as pd

# With fewer overlaps, only the two lowest frequencies are slow enough to capture the
# dependence of overlapping scores.
_FEWEST_OVERLAPS = 4


@dataclass(frozen=True)
class MeanInterval:
    """A mean over eras and its confidence interval.

    Attributes
    ----------
    mean : float
        The mean of the series.
    low, high : float
        The ends of the interval; NaN if there are too few eras.
    n_eras : int
        Number of eras of the series.
    n_needed : int
        Smallest number of eras that gives an interval: four overlaps.
    """

    mean: float
    low: float
    high: float
    n_eras: int
    n_needed: int


@checked(scores=[TABLE], overlap=[COUNT], confidence=[Finite(0, 1, "neither")])
def mean_interval(
    scores: Any, *, overlap: int, confidence: float = 0.95
) -> MeanInterval:
    r"""Return a confidence interval for the mean of a per-era series.

    The targets of neighbouring eras overlap, so their scores are dependent, and an
    interval that assumes independence is too narrow. The long-run variance of the
    :math:`n` scores :math:`x_t` is estimated with equally weighted cosines [1]_,

    .. math::
        \frac{1}{\nu} \sum_{j=1}^{\nu} \Bigl( \sqrt{2 / n} \sum_{t=1}^{n}
        x_t \cos \frac{\pi j (t - 1/2)}{n} \Bigr)^2,

    and the quantiles are those of Student's t with :math:`\nu` degrees of freedom. Here
    :math:`\nu` is the smaller of :math:`n / (1.5 \cdot overlap)` and :math:`.41
    n^{2/3}`, rounded down, and at least 2. In simulations, the scores were moving sums
    of normal or heavy-tailed noise (t with 3 degrees of freedom) over `overlap` eras; a
    95 % interval contained the true mean in 93 to 96 % of the cases.

    Parameters
    ----------
    scores : Series or array-like of shape (n_eras,)
        One value per era, in era order. If a Series is indexed by era numbers, as
        `era_scores` returns it, or by other era labels, the overlap is counted in era
        numbers: with every fourth era, an overlap of 16 eras is 4 values. Missing eras
        do not change this. Names without numbers have no order and raise an error.
    overlap : int
        Number of eras that a target spans. The purge (8 for 20-day targets, 16 for
        60-day targets) is larger, and so a safe choice.
    confidence : float, default=0.95
        Probability that the interval contains the true mean.

    Returns
    -------
    MeanInterval
        If there are fewer eras than four overlaps, `low` and `high` are NaN, because so
        few eras give no reliable interval.

    Raises
    ------
    ValueError
        If there are no scores, one is not finite, the eras are names or not in order,
        or a parameter is out of range.

    References
    ----------
    .. [1] E. Lazarus, D. J. Lewis, J. H. Stock and M. W. Watson (2018). HAR inference:
       recommendations for practice. Journal of Business and Economic Statistics 36.

    Examples
    --------
    >>> import numpy as np
    >>> from numerai_features.metrics import mean_interval
    >>> gains = np.random.default_rng(0).normal(0.002, 0.01, size=400)
    >>> interval = mean_interval(gains, overlap=8)
    >>> interval.low < interval.mean < interval.high
    True
    """
    values = as_floats(scores, "scores")
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise ValueError(
            "scores must be one finite value per era, shape (n_eras,); got shape "
            f"{values.shape} with {int((~np.isfinite(values)).sum())} not finite. Drop "
            "the eras without a score."
        )
    n, own = len(values), -(-int(overlap) // _spacing(scores))
    mean = float(values.mean())
    needed = _FEWEST_OVERLAPS * own
    if n < needed:
        return MeanInterval(mean, np.nan, np.nan, n, needed)
    half = float(_half_width(values, own, confidence))
    return MeanInterval(mean, mean - half, mean + half, n, needed)


@checked(overlap=[COUNT], confidence=[Finite(0, 1, "neither")])
def paired_differences(
    scores: pd.DataFrame, baseline: Any, overlap: int, *, confidence: float = 0.95
) -> pd.DataFrame:
    """Compare each column of era scores with a baseline column, era by era.

    Parameters
    ----------
    scores : DataFrame
        Era scores, one row per era and one column per arm, as `era_scores` returns them
        for several predictions.
    baseline : column label
        The arm that the others are compared with.
    overlap : int
        Number of eras that a target spans, see `mean_interval`.
    confidence : float, default=0.95
        Probability that an interval contains the true mean.

    Returns
    -------
    DataFrame
        A row for each other arm: ``mean_difference`` (arm minus baseline), ``low``,
        ``high``, ``n_eras`` and ``n_needed``. Only the ``n_eras`` eras in which both
        have a score are compared. If ``n_eras`` is less than ``n_needed``, ``low`` and
        ``high`` are NaN.

    Raises
    ------
    ValueError
        If `baseline` is not a column, or is the only one; if two columns have the same
        name; and for the errors of `mean_interval`.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from numerai_features.metrics import paired_differences
    >>> rng = np.random.default_rng(0)
    >>> plain = rng.normal(0.02, 0.03, size=200)
    >>> scores = pd.DataFrame(
    ...     {"plain": plain, "latents": plain + rng.normal(0.002, 0.005, size=200)}
    ... )
    >>> table = paired_differences(scores, "plain", overlap=8)
    >>> bool(table.loc["latents", "low"] > 0)
    True
    """
    import pandas as pd

    if not isinstance(scores, pd.DataFrame):
        raise ValueError(
            "scores must be a DataFrame of pandas, one row per era and one column per "
            f"arm, as era_scores returns it; got {kind_of(scores)}."
        )
    if baseline not in list(scores.columns) or len(scores.columns) < 2:
        raise ValueError(
            "baseline must be one of at least two columns of scores; got "
            f"{baseline!r}, and the columns {list(scores.columns)}."
        )
    if not scores.columns.is_unique:
        twice = scores.columns[scores.columns.duplicated()][0]
        raise ValueError(
            f"scores has several columns {twice!r}; each arm needs its own name. "
            "Rename the columns."
        )
    rows = {}
    for arm in scores.columns.drop(baseline):
        # Dropped eras are gaps; the spacing of era numbers stays the same.
        difference = (scores[arm] - scores[baseline]).dropna()
        if difference.empty:
            needed = _FEWEST_OVERLAPS * -(-int(overlap) // _spacing(scores))
            rows[arm] = MeanInterval(np.nan, np.nan, np.nan, 0, needed)
            continue
        rows[arm] = mean_interval(difference, overlap=overlap, confidence=confidence)
    table = pd.DataFrame(list(rows.values()), index=pd.Index(list(rows), name="arm"))
    return table.rename(columns={"mean": "mean_difference"})


def _spacing(scores: Any) -> int:
    """Return the smallest step between era numbers, 1 if no index has them."""
    numbers = numbers_in_order(scores)
    if numbers is None or len(numbers) < 2:
        return 1
    return int(np.diff(numbers).min())


def _half_width(
    values: NDArray[np.float64], overlap: int, confidence: float
) -> NDArray[np.float64]:
    """Return half the interval's width, along the last axis."""
    from scipy.stats import t as student

    n = values.shape[-1]
    n_cosines = max(2, int(min(n / (1.5 * overlap), 0.41 * n ** (2 / 3))))
    time = np.pi * (np.arange(n) + 0.5) / n
    cosines = np.cos(np.arange(1, n_cosines + 1)[:, None] * time)
    # The cosines ignore the mean, but a large mean would add rounding error to the
    # sums.
    centred = values - values.mean(axis=-1, keepdims=True)
    size = np.abs(centred).max(axis=-1, keepdims=True)  # squares might overflow
    sums = (centred / np.where(size > 0, size, 1)) @ cosines.T
    variance = 2 / n * np.mean(sums**2, axis=-1)
    quantile = student.ppf((1 + confidence) / 2, n_cosines)
    return np.asarray(quantile * np.sqrt(variance / n) * size[..., 0])
