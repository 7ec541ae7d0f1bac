"""Add rows of the target's rare bins."""

from __future__ import annotations

from typing import Any

import numpy as np

from numerai_features._arguments import SEED, Finite, Whole
from numerai_features._bins import MOST_BINS
from numerai_features._validation import check_known
from numerai_features.augmenters._base import BaseAugmenter
from numerai_features.augmenters._new_rows import NewRows


class BalanceAugmenter(BaseAugmenter):
    """Add rows to rare target bins, copied from other eras.

    In each era, every bin of the target is filled up to `ratio` times the size of the
    era's largest bin. The added rows are copies of rows of the same bin, drawn from the
    other eras (from the era itself if no other era has the bin). They become rows of
    the era that they are added to. For instance, ``ratio=0.3`` fills 5, 20, 50, 20 and
    5 rows in Numerai's bins up to 15, 20, 50, 20 and 15.

    Parameters
    ----------
    ratio : float, default=0.3
        Smallest size of a bin, as a fraction of the largest bin; above 0 and at most 1.
    target : int, default=0
        Index of the column of y whose values are the bins.
    random_state : int, RandomState or None, default=None
        Seed.

    Attributes
    ----------
    n_features_in_ : int
        Number of features seen in fit.
    feature_names_in_ : ndarray of shape (n_features,)
        Their names, where X had string names.

    Notes
    -----
    Rows of training eras and test eras must not be mixed: augment only the training
    rows of a split, as `AugmentedRegressor` does.

    Examples
    --------
    >>> import numpy as np
    >>> from numerai_features.augmenters import BalanceAugmenter
    >>> X = np.arange(6, dtype=np.int8)[:, None]
    >>> y, eras = np.array([0, 1, 1, 0, 1, 1]), [1, 1, 1, 2, 2, 2]
    >>> more = BalanceAugmenter(1.0, random_state=0).fit_resample(X, y, eras=eras)
    >>> more.X[6:, 0], more.y[6:], more.eras[6:]
    (array([3, 0], dtype=int8), array([0, 0]), array([1, 2]))
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "ratio": [Finite(0, 1, "right")],
        "target": [Whole(0)],
        "random_state": SEED,
    }

    def __init__(self, ratio=0.3, *, target=0, random_state=None):
        self.ratio = ratio
        self.target = target
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    def _make_rows(self, rows, rng):
        y = self._target(rows)
        known = ~np.isnan(y)
        values, bins = np.unique(y[known], return_inverse=True)
        if len(values) > MOST_BINS:
            raise ValueError(
                f"y has {len(values)} distinct values; expected at most {MOST_BINS} "
                "bins. Cut y into bins first."
            )
        places, codes = np.flatnonzero(known), rows.codes[known]
        counts = np.zeros((rows.n_eras, len(values)), np.int64)
        np.add.at(counts, (codes, bins), 1)
        missing = np.round(self.ratio * counts.max(axis=1, keepdims=True)) - counts
        none = np.zeros(0, np.intp)
        source, into = [none], [none]
        for code, b in np.argwhere(missing > 0):
            others = places[(bins == b) & (codes != code)]
            if not len(others):
                others = places[(bins == b) & (codes == code)]
            if len(others):
                n = int(missing[code, b])
                source.append(rng.choice(others, n))
                into.append(np.full(n, places[codes == code][0]))
        taken = np.concatenate(source)
        eras = np.concatenate(into)
        return NewRows(taken, lambda new: rows.X[taken[new]], eras=eras)

    def _target(self, rows):
        y = self._require_targets(rows)
        if self.target >= y.shape[1]:
            raise ValueError(f"target={self.target}, but y has {y.shape[1]} columns.")
        check_known(y[:, self.target], f"column {self.target} of y")
        return y[:, self.target]
