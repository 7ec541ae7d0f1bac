"""Some rows that stand for all of them, spread evenly over the eras."""

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
    whole_eras: bool = False,
) -> NDArray[np.intp]:
    """Return rows in order, at most so many.

    Every era gives as many random rows as any other, or all it has; without eras they
    are drawn from all rows.

    Parameters
    ----------
    n_rows : int
    eras : EraIndex or None
    most : int
    seed : int
    whole_eras : bool, default=False
        Take all rows of some eras, at even distances, instead of some rows of all; at
        least one era, whatever its size.
    """
    if n_rows <= most:
        return np.arange(n_rows)
    rng = np.random.default_rng([seed, n_rows, most])
    if eras is None:
        return np.sort(rng.choice(n_rows, most, replace=False))
    if whole_eras:
        return eras.rows_of(_spread(eras.counts, most))
    # Random places within each era; those whose place is below the quota are taken.
    order = np.lexsort((rng.random(n_rows), eras.codes))
    starts = np.cumsum(eras.counts) - eras.counts
    place = np.empty(n_rows, np.int64)
    place[order] = np.arange(n_rows) - np.repeat(starts, eras.counts)
    quota = _quota(eras.counts, most)
    chosen = place < quota[eras.codes]
    return np.flatnonzero(chosen)


def _quota(counts: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return how many rows each era gives: as near to equal as the eras allow."""
    ascending = np.sort(counts)
    # Were the smallest i eras taken whole, the others would share what is left.
    whole = np.cumsum(ascending) - ascending
    share = (most - whole) / np.arange(len(counts), 0, -1)
    level = share[np.argmax(ascending > share)]
    quota = np.minimum(counts, int(level))
    spare = np.flatnonzero(counts > quota)[: most - int(quota.sum())]
    quota[spare] += 1
    return quota


def _spread(counts: NDArray[np.int64], most: int) -> NDArray[np.bool_]:
    """Return which eras to take whole: evenly spaced, together at most `most` rows."""
    n_eras = len(counts)
    for n in range(min(n_eras, max(1, most // max(1, int(counts.min())))), 0, -1):
        chosen = np.zeros(n_eras, bool)
        chosen[np.linspace(0, n_eras - 1, n).round().astype(int)] = True
        if counts[chosen].sum() <= most:
            break
    return chosen
