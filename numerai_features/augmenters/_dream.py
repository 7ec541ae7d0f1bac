"""Copies of rows moved to strengthen a network's activations."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import get_tags

from numerai_features._arguments import ABOVE_ZERO, COPIES, COUNT, SEED, Methods
from numerai_features._bins import bin_widths
from numerai_features._validation import (
    check_columns,
    fill_missing,
    missing_values,
    named_rows,
)
from numerai_features.augmenters._base import BaseAugmenter, draw_copies
from numerai_features.augmenters._new_rows import NewRows, round_at_random


class DreamAugmenter(BaseAugmenter):
    r"""Copies of rows, moved so that a network's activations grow.

    Let :math:`f` map a row to an embedder's latents. A copied row moves a few steps
    along the gradient of :math:`\tfrac12 \lVert f(x) \rVert^2` [1]_. Each step is
    divided by the mean absolute gradient of the row. A copy keeps the targets of its
    source row. The method comes from Numerai's forum.

    Integer features are rounded up or down at random, such that the rounding is
    unbiased, and clipped to their column's range.

    Parameters
    ----------
    embedder : estimator
        An embedder whose ``encoder_`` is a differentiable network, such as
        `DAEEmbedder`, `SupervisedAEMLP` or `UMAPEmbedder`. A fitted one is used as it
        is; an unfitted one is cloned and fitted to the rows.
    copies : float, default=0.05
        New rows per row. A fractional part copies that share of the rows of every era.
    n_steps : int, default=5
        Steps along the gradient.
    step : float, default=0.04
        Mean absolute change of a cell in one step, in bins as `GaussianNoiseAugmenter`
        measures them. The default equals the forum's .01 for features from 0 to 1.
    random_state : int, RandomState or None, default=None
        Seed.

    Attributes
    ----------
    embedder_ : estimator
        The fitted embedder.
    n_features_in_ : int
        Number of features seen in fit.
    feature_names_in_ : ndarray of shape (n_features,)
        Their names, where X had string names.

    Notes
    -----
    A supervised embedder must not be fitted to the rows that a model is tested on: pass
    it unfitted, or fitted to the training rows.

    References
    ----------
    .. [1] Mordvintsev, A., Olah, C., Tyka, M. (2015). Inceptionism: going deeper into
       neural networks. Google Research blog.

    Examples
    --------
    >>> from numerai_features.augmenters import DreamAugmenter
    >>> from numerai_features.datasets import make_era_panel
    >>> from numerai_features.embedders import DAEEmbedder
    >>> panel = make_era_panel(n_eras=8, rows_per_era=100, n_features=20,
    ...                           n_factors=4, random_state=0)
    >>> dae = DAEEmbedder(4, hidden=(16,), max_epochs=2, random_state=0)
    >>> dreams = DreamAugmenter(dae, copies=0.1, random_state=0)
    >>> dreams.fit_resample(panel.X, eras=panel.eras).X.shape
    (880, 20)
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "embedder": [Methods(["fit", "transform"])],
        "copies": [COPIES],
        "n_steps": [COUNT],
        "step": [ABOVE_ZERO],
        "random_state": SEED,
    }

    def __init__(
        self, embedder, *, copies=0.05, n_steps=5, step=0.04, random_state=None
    ):
        self.embedder = embedder
        self.copies = copies
        self.n_steps = n_steps
        self.step = step
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags, theirs = super().__sklearn_tags__(), get_tags(self.embedder)
        tags.input_tags.allow_nan = theirs.input_tags.allow_nan
        unfitted = not hasattr(self.embedder, "encoder_")
        tags.target_tags.required = unfitted and theirs.target_tags.required
        return tags

    def _make_rows(self, rows, rng):
        X, source = rows.X, draw_copies(rows, self.copies, rng)
        encoder, seed = self._encoder(rows), rng.integers(1 << 63)
        fill, widths = missing_values(X, "middle"), bin_widths(X)
        whole = X.dtype.kind != "f"
        low, high = (X.min(axis=0), X.max(axis=0)) if whole else (None, None)

        def features(new):
            block = X[source[new]]
            known = fill_missing(block, fill).astype(encoder.dtype, copy=False)
            moved = self._dream(known, encoder, widths)
            if not whole:
                return np.where(np.isnan(block), np.nan, moved).astype(X.dtype)
            own = np.random.default_rng([seed, new.start])
            return round_at_random(moved, low, high, own).astype(X.dtype)

        return NewRows(source, features)

    def _encoder(self, rows):
        """Return the encoder of the fitted embedder."""
        self.embedder_ = self.embedder
        if not hasattr(self.embedder, "encoder_"):
            y = rows.y
            if y is not None and y.shape[1] == 1:
                y = y[:, 0]
            named = named_rows(rows.X, rows.feature_names)
            extras = {} if rows.weights is None else {"sample_weight": rows.weights}
            self.embedder_ = clone(self.embedder).fit(
                named, y, eras=rows.era_labels, **extras
            )
        if self.embedder_.encoder_.by_era:
            raise ValueError(
                "embedder lets rows look at the others of their era, but each row is "
                "dreamt alone. Pass one that treats each row alone, such as "
                "DAEEmbedder()."
            )
        n_features = self.embedder_.n_features_in_
        if n_features != rows.X.shape[1]:
            raise ValueError(
                f"embedder was fitted to {n_features} features, but X has "
                f"{rows.X.shape[1]}. Fit it to these columns, or pass it unfitted."
            )
        if hasattr(self.embedder_, "feature_names_in_"):
            named = named_rows(rows.X, rows.feature_names)
            check_columns(self.embedder_, named, reset=False)
        return self.embedder_.encoder_

    def _dream(self, block, encoder, widths):
        """Return rows moved along the gradient."""
        import torch
        from array_api_compat import torch as xp

        from numerai_features.nn._threads import own_threads

        with own_threads(1):
            x = torch.from_numpy(block)
            width = torch.from_numpy(widths).to(x)
            for _ in range(self.n_steps):
                x.requires_grad_()
                latents = encoder.apply(x, xp)
                if not latents.requires_grad:
                    raise ValueError(
                        "embedder's latents have no gradient: they are categories "
                        "alone, or made of bins. Let it return latents, too, or pass "
                        "another one."
                    )
                [gradient] = torch.autograd.grad(latents.square().sum() / 2, x)
                gradient *= width  # by bins
                size = gradient.abs().mean(1, keepdim=True)
                least = torch.finfo(x.dtype).tiny
                step = self.step * gradient / size.clamp(min=least)
                x = x.detach() + width * step
        return x.numpy()
