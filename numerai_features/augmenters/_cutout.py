"""Cutout: columns of copied rows set to the middle."""

from __future__ import annotations

from typing import Any

import numpy as np

from numerai_features._arguments import COPIES, SEED, Finite
from numerai_features._compat import StrOptions
from numerai_features._validation import missing_values
from numerai_features.augmenters._base import InPlaceAugmenter
from numerai_features.augmenters._containers import number_of_copy
from numerai_features.augmenters._new_rows import NewRows


class CutoutAugmenter(InPlaceAugmenter):
    """Copies of rows in which some columns are set to the middle bin.

    In each era, and for each copy, a random `fraction` of the columns is chosen and set
    to the middle in all of the era's copied rows, so that a model does not depend on
    few columns [1]_. The method comes from Numerai's forum; there it raised the Sharpe
    ratio and lowered the largest feature exposure.

    Parameters
    ----------
    fraction : float, default=0.25
        Share of the columns, between 0 and 1.
    copies : float, default=1
        New rows per row. A fractional part copies that share of the rows of every era.
    per : {"era", "row"}, default="era"
        Whether columns are drawn for each copy of an era, or for each row.
    value : "middle" or float, default="middle"
        Value of the cells that are cut out. The middle is bin 2 for columns of
        integers from 0 to 4 around 2, and the column's median otherwise.
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
    .. [1] DeVries, T., Taylor, G. W. (2017). Improved regularization of convolutional
       neural networks with cutout. arXiv:1708.04552.

    Examples
    --------
    >>> import numpy as np
    >>> from numerai_features.augmenters import CutoutAugmenter
    >>> X = np.array([[0, 4, 1, 3], [4, 0, 3, 1]], dtype=np.int8)
    >>> CutoutAugmenter(0.5, random_state=0).fit_resample(X).X
    array([[0, 4, 1, 3],
           [4, 0, 3, 1],
           [2, 4, 2, 3],
           [2, 0, 2, 1]], dtype=int8)
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "fraction": [Finite(0, 1)],
        "copies": [COPIES],
        "per": [StrOptions({"era", "row"})],
        "value": [StrOptions({"middle"}), Finite()],
        "random_state": SEED,
    }

    def __init__(
        self, fraction=0.25, *, copies=1, per="era", value="middle", random_state=None
    ):
        self.fraction = fraction
        self.copies = copies
        self.per = per
        self.value = value
        self.random_state = random_state

    def _change(self, rows, source, rng):
        X = rows.X
        width = X.shape[1]
        n_cut = round(self.fraction * width)
        value = self._value(X)
        seed = rng.integers(1 << 63)
        group = rows.codes[source] + rows.n_eras * number_of_copy(source)
        masks = None
        if self.per == "era":
            masks = _draw_masks(
                np.random.default_rng(seed), group.max() + 1, width, n_cut
            )

        def features(new):
            block = X[source[new]]
            if masks is not None:
                cut = masks[group[new]]
            else:
                own = np.random.default_rng([seed, new.start])
                cut = _draw_masks(own, len(block), width, n_cut)
            np.copyto(block, value, where=cut)
            return block

        return NewRows(source, features)

    def _value(self, X):
        if self.value == "middle":
            middle = missing_values(X, "middle")
            return (middle if X.dtype.kind == "f" else np.rint(middle)).astype(X.dtype)
        value = np.asarray(self.value).astype(X.dtype)
        if value != self.value:
            raise ValueError(
                f"value={self.value} cannot be written to a table of {X.dtype}. Pass a "
                "whole number in its range, or a table of floats."
            )
        return value


def _draw_masks(rng, n_groups, width, n_cut):
    """Return `n_cut` random columns of each group as a mask."""
    order = np.argsort(rng.random((n_groups, width)), axis=1)
    masks = np.zeros((n_groups, width), bool)
    np.put_along_axis(masks, order[:, :n_cut], True, axis=1)
    return masks
