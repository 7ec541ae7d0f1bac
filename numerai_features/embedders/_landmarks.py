"""Landmarks: a sample of the rows, spread evenly over the eras."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from numerai_features._eras import EraIndex


def draw_landmarks(
    n_rows: int,
    eras: EraIndex | None,
    most: int,
    seed: int,
    *,
    fewest: int | None = None,
) -> NDArray[np.intp]:
    """Return at most `most` rows, in order.

    Every era contributes the same number of random rows, or all of its rows if it has
    fewer. Without eras the rows are drawn from all rows.

    Parameters
    ----------
    n_rows : int
    eras : EraIndex or None
    most : int
    seed : int
    fewest : int, default=None
        Take all rows of some evenly spaced eras instead of some rows of all eras. Only
        eras of `fewest` rows or more are taken: at least one of them, even if it
        exceeds `most`.
    """
    if eras is not None and fewest is not None:
        return eras.rows_of(_spread(eras.counts, most, fewest))
    if n_rows <= most:
        return np.arange(n_rows)
    rng = np.random.default_rng([seed, n_rows, most])
    if eras is None:
        return np.sort(rng.choice(n_rows, most, replace=False))
    # Shuffle each era; take the rows whose place is below the quota.
    order = np.lexsort((rng.random(n_rows), eras.codes))
    starts = np.cumsum(eras.counts) - eras.counts
    place = np.empty(n_rows, np.int64)
    place[order] = np.arange(n_rows) - np.repeat(starts, eras.counts)
    quota = _quota(eras.counts, most)
    chosen = place < quota[eras.codes]
    return np.flatnonzero(chosen)


def _quota(counts: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return the number of rows of each era, as equal as the eras allow."""
    ascending = np.sort(counts)
    # If the smallest i eras are taken whole, the others share the remaining rows.
    whole = np.cumsum(ascending) - ascending
    share = (most - whole) / np.arange(len(counts), 0, -1)
    level = share[np.argmax(ascending > share)]
    quota = np.minimum(counts, int(level))
    spare = np.flatnonzero(counts > quota)
    quota[spare[_evenly(len(spare), most - int(quota.sum()))]] += 1
    return quota


def _spread(counts: NDArray[np.int64], most: int, fewest: int) -> NDArray[np.bool_]:
    """Return which eras to take whole: evenly spaced, together at most `most` rows."""
    chosen = np.zeros(len(counts), bool)
    able = np.flatnonzero((counts >= fewest) & (counts <= max(most, fewest)))
    if not len(able):  # all exceed `most`: take the smallest
        larger = np.flatnonzero(counts >= fewest)
        able = larger[[np.argmin(counts[larger])]] if len(larger) else larger
    for n in range(len(able), 0, -1):
        taken = able[_evenly(len(able), n)]
        if n == 1 or counts[taken].sum() <= most:
            chosen[taken] = True
            break
    return chosen


def _evenly(n: int, k: int) -> NDArray[np.intp]:
    """Return k of n places at even distances, including the last."""
    return np.floor((np.arange(k) + 1) * n / max(k, 1)).astype(np.intp) - 1
