"""Several augmenters as one."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import get_tags

from numerai_features._blocks import row_blocks
from numerai_features._compat import StrOptions
from numerai_features._validation import check_columns, take_eras
from numerai_features.augmenters._base import BaseAugmenter
from numerai_features.augmenters._new_rows import NewRows


class ComposeAugmenters(BaseAugmenter):
    """Several augmenters, side by side or one after another.

    Parameters
    ----------
    augmenters : list of augmenters
        They are cloned; each uses its own ``random_state``.
    order : {"parallel", "chain"}, default="parallel"
        "parallel": each augments the input rows. "chain": each augments the output of
        the one before it, new rows included.

    Attributes
    ----------
    augmenters_ : list of augmenters
        The clones.
    n_features_in_ : int
        Number of features seen in fit.
    feature_names_in_ : ndarray of shape (n_features,)
        Their names, where X had string names.

    Examples
    --------
    >>> import numpy as np
    >>> from numerai_features.augmenters import (
    ...     ComposeAugmenters, CutoutAugmenter, EraMixupAugmenter)
    >>> X = np.arange(20, dtype=np.int8).reshape(10, 2)
    >>> both = [CutoutAugmenter(0.5), EraMixupAugmenter(copies=0.5)]
    >>> ComposeAugmenters(both).fit_resample(X).X.shape
    (25, 2)
    >>> ComposeAugmenters(both, order="chain").fit_resample(X).X.shape
    (30, 2)
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "augmenters": [list, tuple],
        "order": [StrOptions({"parallel", "chain"})],
    }

    random_state = None

    def __init__(self, augmenters, *, order="parallel"):
        self.augmenters = augmenters
        self.order = order

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        theirs = [get_tags(augmenter) for augmenter in self.augmenters]
        tags.input_tags.allow_nan = all(t.input_tags.allow_nan for t in theirs)
        tags.target_tags.required = any(t.target_tags.required for t in theirs)
        return tags

    def _resample(self, X, y, eras, sample_weight):
        self._check_augmenters()
        if self.order == "parallel":
            return super()._resample(X, y, eras, sample_weight)
        self.augmenters_ = [clone(augmenter) for augmenter in self.augmenters]
        came, rows = X, (X, y, eras, sample_weight)
        for augmenter in self.augmenters_:
            X, y, eras, weights = rows
            rows = augmenter.fit_resample(X, y, eras=eras, sample_weight=weights)
        check_columns(self, take_eras(came)[0], reset=True)
        return rows

    def _check_augmenters(self):
        if not self.augmenters or not all(
            isinstance(a, BaseAugmenter) for a in self.augmenters
        ):
            raise ValueError(
                "augmenters must be a list of augmenters of this package, at least "
                f"one; got {self.augmenters!r}."
            )

    def _make_rows(self, rows, rng):
        """Return the new rows of all augmenters, whose fit_resample is not called."""
        self._check_augmenters()
        self.augmenters_ = [clone(augmenter) for augmenter in self.augmenters]
        for augmenter in self.augmenters_:
            augmenter._validate_params()
            if isinstance(augmenter, ComposeAugmenters) and augmenter.order == "chain":
                raise ValueError(
                    "augmenters holds a ComposeAugmenters with order='chain', which "
                    "cannot stand inside one with order='parallel'. Make the chain the "
                    "outer one."
                )
        each = [augmenter._draw_rows(rows) for augmenter in self.augmenters_]
        starts = np.cumsum([0, *(len(new.source) for new in each)])
        blocks = []
        for new, start in zip(each, starts, strict=False):
            own = np.arange(len(new.source))
            for block in new.blocks or row_blocks(len(own), rows.X.shape[1]):
                blocks.append(own[block] + start)

        def features(block):
            part = np.searchsorted(starts, block[0], side="right") - 1
            new, local = each[part], block - starts[part]
            if new.blocks is None:  # then features takes a slice
                local = slice(int(local[0]), int(local[-1]) + 1)
            return new.features(local)

        y = None
        if rows.y is not None and any(new.y is not None for new in each):
            y = np.concatenate(
                [rows.y[new.source] if new.y is None else new.y for new in each]
            )
        new_eras, first = [], 0
        for new in each:
            own = 0 * new.source if new.new_eras is None else new.new_eras
            new_eras.append(np.where(own < 0, own + first, 0))
            first = min(first, new_eras[-1].min(initial=0))
        mixed = {}
        if any(new.mixed_with is not None for new in each):
            pairs = [_both_rows(new) for new in each]
            mixed_with, shares = map(np.concatenate, zip(*pairs, strict=True))
            mixed = {"mixed_with": mixed_with, "shares": shares}
        return NewRows(
            np.concatenate([new.source for new in each]),
            features,
            y,
            np.concatenate([n.source if n.eras is None else n.eras for n in each]),
            np.concatenate(new_eras),
            blocks,
            **mixed,
        )


def _both_rows(new):
    """Return the second rows and the shares of new rows that may be averages."""
    if new.mixed_with is None:
        return new.source, np.ones(len(new.source))
    return new.mixed_with, new.shares
