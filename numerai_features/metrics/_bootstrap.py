"""How sure a difference between two models is, for scores that overlap in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._arguments import COUNT, DRAWS, ROWS, Finite, Whole, checked
from numerai_features._validation import as_floats, resolve_generator

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class BootstrapInterval:
    """A mean over eras and its bootstrap interval.

    Attributes
    ----------
    mean : float
        The mean of the series.
    low, high : float
        The ends of the interval.
    """

    mean: float
    low: float
    high: float


@checked(
    differences=[ROWS],
    block=[COUNT],
    n_resamples=[Whole(1, 10**7)],
    confidence=[Finite(0, 1, "neither")],
    random_state=DRAWS,
)
def block_bootstrap(
    differences: Any,
    *,
    block: int,
    n_resamples: int = 10_000,
    confidence: float = 0.95,
    random_state: Any = 0,
) -> BootstrapInterval:
    """Return a bootstrap interval for the mean of a per-era series.

    The targets of neighbouring eras overlap, so their scores are dependent, and an
    interval that takes them for independent is too narrow. The circular block
    bootstrap of Politis and Romano (1992) draws whole blocks of consecutive eras, the
    end joined to the start, and takes percentiles of the resampled means. With few
    blocks the interval is still too narrow: for sums over 8 eras and blocks of 8, it
    held the truth in 83 % of the cases with 120 eras, and 77 % with 40.

    Parameters
    ----------
    differences : Series or array-like of shape (n_eras,)
        One value an era, in era order. Where a Series is indexed by era numbers, as
        `era_scores` returns it, blocks are counted in era numbers: with every fourth
        era, a block of 16 eras is 4 of them.
    block : int
        Length of a block in eras; at least the purge (8 for 20-day targets, 16 for
        60-day ones).
    n_resamples : int, default=10_000
        How many means are drawn.
    confidence : float, default=0.95
        The share of them within the interval.
    random_state : int, sequence of int, SeedSequence, BitGenerator, Generator, \
            RandomState or None, default=0
        What draws; the global generators are not touched.

    Returns
    -------
    BootstrapInterval

    Raises
    ------
    ValueError
        If a value is not finite, there are fewer eras than two blocks (a series of
        one block would always be resampled whole, and look certain), or a parameter
        is out of range.

    References
    ----------
    D. N. Politis and J. P. Romano (1992). A circular block-resampling procedure for
    stationary data. In Exploring the Limits of Bootstrap, Wiley.

    Examples
    --------
    >>> import numpy as np
    >>> from numerai_features.metrics import block_bootstrap
    >>> gains = np.random.default_rng(0).normal(0.002, 0.01, size=400)
    >>> interval = block_bootstrap(gains, block=8)
    >>> interval.low < interval.mean < interval.high
    True
    """
    values = as_floats(differences, "differences")
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(
            "differences must be one finite value an era, shape (n_eras,); got shape "
            f"{values.shape} with {int((~np.isfinite(values)).sum())} not finite. Drop "
            "the eras without a score."
        )
    length = -(-block // _spacing(differences))
    if len(values) < 2 * length:
        raise ValueError(
            f"differences has {len(values)} eras, too few for blocks of {length}: two "
            f"blocks at least are needed. Score more eras, or lower block={block}."
        )
    rng = resolve_generator(random_state)
    means = _resampled_means(values, length, n_resamples, rng)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return BootstrapInterval(float(values.mean()), float(low), float(high))


@checked(
    block=[COUNT],
    n_resamples=[Whole(1, 10**7)],
    confidence=[Finite(0, 1, "neither")],
    random_state=DRAWS,
)
def paired_differences(
    scores: pd.DataFrame,
    baseline: Any,
    block: int,
    *,
    n_resamples: int = 10_000,
    confidence: float = 0.95,
    random_state: Any = 0,
) -> pd.DataFrame:
    """Compare each column of era scores with a baseline column, era by era.

    Parameters
    ----------
    scores : DataFrame
        Era scores, a row an era and a column an arm: what `era_scores` returns for
        several predictions.
    baseline : column label
        The arm that the others are compared with.
    block : int
        Length of a block in eras, see `block_bootstrap`.
    n_resamples : int, default=10_000
        How many means are drawn.
    confidence : float, default=0.95
        The share of them within the interval.
    random_state : int, sequence of int, SeedSequence, BitGenerator, Generator, \
            RandomState or None, default=0
        What draws. With an int every arm is resampled with the same blocks.

    Returns
    -------
    DataFrame
        A row for each other arm: ``mean_difference`` (arm less baseline), ``low``,
        ``high``, and ``n_eras``, the eras that both have a score for.

    Raises
    ------
    ValueError
        If `baseline` is no column or the only one, and as `block_bootstrap`.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from numerai_features.metrics import paired_differences
    >>> rng = np.random.default_rng(0)
    >>> plain = rng.normal(0.02, 0.03, size=200)
    >>> scores = pd.DataFrame(
    ...     {"plain": plain, "latents": plain + rng.normal(0.002, 0.005, size=200)}
    ... )
    >>> table = paired_differences(scores, "plain", block=8)
    >>> bool(table.loc["latents", "low"] > 0)
    True
    """
    import pandas as pd

    if not isinstance(scores, pd.DataFrame):
        raise ValueError(
            "scores must be a DataFrame, a row an era and a column an arm, as "
            f"era_scores returns it; got {type(scores).__name__}."
        )
    if baseline not in list(scores.columns) or len(scores.columns) < 2:
        raise ValueError(
            "baseline must be a column of scores, beside at least one other; got "
            f"{baseline!r}, and the columns {list(scores.columns)}."
        )
    rows = {}
    for arm in scores.columns.drop(baseline):
        difference = (scores[arm] - scores[baseline]).dropna()
        interval = block_bootstrap(
            difference,
            block=block,
            n_resamples=n_resamples,
            confidence=confidence,
            random_state=random_state,
        )
        rows[arm] = (interval.mean, interval.low, interval.high, len(difference))
    columns = ["mean_difference", "low", "high", "n_eras"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    return table.rename_axis("arm")


def _spacing(differences: Any) -> int:
    """Return the smallest step between era numbers, 1 without a numbered index."""
    import pandas as pd

    index = getattr(differences, "index", None)
    if not isinstance(index, pd.Index) or index.dtype.kind not in "iu":
        return 1
    steps = np.diff(index.to_numpy())
    if len(steps) and steps.min() < 1:
        raise ValueError(
            "differences must be in era order, each era once; their index is not "
            "strictly ascending. Sort it with sort_index()."
        )
    return int(steps.min()) if len(steps) else 1


def _resampled_means(
    values: NDArray[np.float64], length: int, n_resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw means of len(values) eras made of blocks; the last block is cut short."""
    n = len(values)
    n_whole, rest = divmod(n, length)
    mean = values.mean()
    centred = values - mean
    total = np.concatenate([[0.0], np.cumsum(np.concatenate([centred, centred]))])
    whole = total[length : length + n] - total[:n]
    starts = rng.integers(n, size=(n_resamples, n_whole))
    sums = whole[starts].sum(axis=1)
    if rest:
        part = total[rest : rest + n] - total[:n]
        sums += part[rng.integers(n, size=n_resamples)]
    return np.asarray(mean + sums / n)
