"""New rows as weighted averages of two rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from numerai_features._arguments import ABOVE_ZERO, COPIES, SEED
from numerai_features._compat import StrOptions
from numerai_features.augmenters._base import BaseAugmenter, draw_copies
from numerai_features.augmenters._new_rows import NewRows, round_at_random


class EraMixupAugmenter(BaseAugmenter):
    r"""Weighted averages of two rows, of their features and of their targets.

    A row :math:`i` and another, :math:`j`, give
    :math:`\lambda x_i + (1 - \lambda) x_j` with the target
    :math:`\lambda y_i + (1 - \lambda) y_j`, where :math:`\lambda` is drawn from
    :math:`\mathrm{Beta}(\alpha, \alpha)` [1]_ or is one half, as in the averaged rows
    of Numerai's forum. Averages of integers are rounded up or down at random, such that
    the rounding is unbiased. A new row has the era and the weight of :math:`i`.
    :math:`\lambda` is at least one half: a smaller draw is replaced by
    :math:`1 - \lambda`.

    Parameters
    ----------
    alpha : float, default=None
        Parameter of the distribution of :math:`\lambda`. None: all are one half.
    among : {"era", "all"}, default="era"
        Whether j is drawn from the era of i or from all rows. Rows from both sides of a
        split must not be mixed: augment the training rows only.
    copies : float, default=1
        New rows per row. A fractional part copies that share of the rows of every era.
    random_state : int, RandomState or None, default=None
        Seed.

    Attributes
    ----------
    n_features_in_ : int
        Number of features seen in fit.
    feature_names_in_ : ndarray of shape (n_features,)
        Their names, where X had string names.

    References
    ----------
    .. [1] Zhang, H., Cisse, M., Dauphin, Y. N., Lopez-Paz, D. (2018). mixup: Beyond
       empirical risk minimization. ICLR.

    Examples
    --------
    >>> import numpy as np
    >>> from numerai_features.augmenters import EraMixupAugmenter
    >>> X, y = np.array([[0, 4], [2, 2]], dtype=np.int8), np.array([0.0, 1.0])
    >>> mixed = EraMixupAugmenter(random_state=0).fit_resample(X, y)
    >>> mixed.X[2:], mixed.y[2:]
    (array([[1, 3],
           [1, 3]], dtype=int8), array([0.5, 0.5]))
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "alpha": [ABOVE_ZERO, None],
        "among": [StrOptions({"era", "all"})],
        "copies": [COPIES],
        "random_state": SEED,
    }

    def __init__(self, *, alpha=None, among="era", copies=1, random_state=None):
        self.alpha = alpha
        self.among = among
        self.copies = copies
        self.random_state = random_state

    def _make_rows(self, rows, rng):
        X, first = rows.X, draw_copies(rows, self.copies, rng)
        second = self._partners(rows, first, rng)
        share = np.full(len(first), 0.5)
        if self.alpha is not None:
            share = rng.beta(self.alpha, self.alpha, len(first))
            share = np.maximum(share, 1 - share)
        seed = rng.integers(1 << 63)

        def features(new):
            whole = X.dtype.kind in "iub"
            kind = np.float32 if whole else X.dtype
            a, b = (X[side[new]].astype(kind) for side in (first, second))
            mixed = b + share[new, None].astype(kind) * (a - b)
            if not whole:
                return mixed
            own = np.random.default_rng([seed, new.start])
            low, high = np.minimum(a, b), np.maximum(a, b)
            return round_at_random(mixed, low, high, own).astype(X.dtype)

        new = NewRows(first, features, mixed_with=second, shares=share)
        return new if rows.y is None else replace(new, y=new.follow(rows.y))

    def _partners(self, rows, first, rng):
        """Return a second row for each; a row that is alone is its own partner."""
        n = len(rows.X)
        if self.among == "all":
            step = rng.integers(1, max(n, 2), len(first))
            return (first + step) % n
        order = np.argsort(rows.codes, kind="stable")
        counts = np.bincount(rows.codes, minlength=rows.n_eras)
        starts = np.cumsum(counts) - counts
        place = np.empty(n, np.intp)
        place[order] = np.arange(n)
        code = rows.codes[first]
        step = rng.integers(1, np.maximum(counts[code], 2))
        within = (place[first] - starts[code] + step) % counts[code]
        return order[starts[code] + within]
