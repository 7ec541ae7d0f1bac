"""The regime of an era: a code of the statistics of the eras up to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils.validation import check_is_fitted

from numerai_features._arguments import (
    ABOVE_ZERO,
    COUNT,
    N_JOBS,
    ROWS,
    SEED,
    VERBOSE,
    Each,
    Finite,
)
from numerai_features._compat import StrOptions
from numerai_features._eras import EraIndex
from numerai_features._rows import Rows
from numerai_features._threads import blas_threads
from numerai_features._validation import (
    check_missing,
    fill_missing,
    find_columns,
    missing_values,
    require_numbers,
)
from numerai_features._whole_fit import whole_fit
from numerai_features.embedders._columns import blocks_of
from numerai_features.embedders._sequence_dae import SequenceDAE
from numerai_features.moments import Moments

_LEAST_SHARE = 1e-9  # of the largest axis's variance: less is rounding error
_PAIRED = 8  # axes whose correlations are looked at
_LEAST_DEVIATION = 1e-9  # of scores in an era: less is rounding error
_LEAST_SPREAD = 1e-6  # over eras, in deviations of the rows: less is rounding error


class EraRegimes(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """One vector for each era: a code of its statistics and of those of eras before.

    Rows are projected onto their first principal axes, and the scores of each era are
    summed up by `statistics`. The features of Numerai have the same mean and deviation
    in every era by construction; what differs is how they move together, and the
    deviations and correlations of the axes' scores tell it. The statistics of an era
    and of the eras before it, `n_steps` in all, are a sequence, of which a
    `SequenceDAE` gives a code. All rows of the era get this code.

    An era's sequence is made of its own rows and of the *fitted* eras that are earlier.
    So its code depends on no other rows that are passed, and on later eras only if
    they were fitted: axes and network are learned from all of them. The live era ("X")
    comes after all. An era with fewer earlier ones has a shorter sequence.

    Parameters
    ----------
    n_components : int, default=8
        Number of latents.
    features : list of str or int, default=None
        Names or positions of the features; None: all.
    n_axes : int, default=16
        Number of principal axes of the standardised features, of which int8 bins share
        one scale; fewer if the rows vary in fewer directions.
    statistics : sequence of str, default=("mean", "std", "corr")
        What to compute of an era's scores: "mean" and "std" on each axis, and "corr",
        the correlations of the pairs of the first 8 axes.
    n_steps : int, default=26
        Largest number of eras in a sequence; 26 are half a year.
    cell, hidden, noise, noise_level
        As in `SequenceDAE`.
    validation : float, int or None, default=0.1
        Share or number of the last eras that are held out for early stopping, as in
        `SequenceDAE`. None: train on all, to the last epoch.
    patience, max_epochs, learning_rate, n_models
        As in `SequenceDAE`.
    missing : {"middle", "raise"}, default="middle"
        "middle": NaN becomes the column's median learned in `fit` (2 for bins 0 to 4).
        "raise": NaN is an error.
    device, n_jobs
        As in `SequenceDAE`.
    random_state : int, RandomState or None, default=None
        Seed of the network.
    verbose : int, default=0
        Whether to show a progress bar.

    Attributes
    ----------
    autoencoder_ : SequenceDAE
        The fitted network of the sequences of statistics.
    axes_ : ndarray of shape (n_chosen, n_axes)
        Maps features, less `mean_`, to scores of unit variance.
    mean_ : ndarray of shape (n_chosen,)
        Means of the features.
    era_statistics_ : ndarray of shape (n_eras, n_statistics)
        The statistics of the fitted eras: the first one of all axes, then the second
        and the third.
    varies_ : ndarray of shape (n_statistics,), bool
        Which statistics differ between the fitted eras; the others are 0.
    columns_ : ndarray of shape (n_chosen,)
        Positions of the features.
    missing_values_ : ndarray of shape (n_chosen,)
        The values that replace NaN.
    fitted_eras_ : ndarray of shape (n_eras,)
        Era numbers seen in fit.
    n_features_in_ : int
        Number of features seen in fit.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if X had string names.

    See Also
    --------
    EraStatistics : An era's statistics themselves.
    numerai_features.compose.LatentFeatures : Features and latents together.

    Notes
    -----
    A row's values depend on all rows of its era that are passed, so transform whole
    eras. Between the fitted eras and an era that comes much later there is a gap in its
    sequence, of which the network knows nothing: refit as eras are resolved.

    Examples
    --------
    >>> from numerai_features.datasets import make_era_panel
    >>> from numerai_features.embedders import EraRegimes
    >>> panel = make_era_panel(n_eras=12, rows_per_era=50, n_features=20,
    ...                           random_state=0)
    >>> regimes = EraRegimes(2, n_axes=4, hidden=8, max_epochs=2, random_state=0)
    >>> regimes.fit_transform(panel.X, eras=panel.eras).shape
    (600, 2)
    >>> regimes.get_feature_names_out()
    array(['eraregimes0', 'eraregimes1'], dtype=object)
    """

    __metadata_request__fit = {"eras": True}
    __metadata_request__transform = {"eras": True}

    _parameter_constraints: dict[str, list[Any]] = {
        "n_components": [COUNT],
        "features": [ROWS, None],
        "n_axes": [COUNT],
        "statistics": [Each(StrOptions({"corr", "mean", "std"}), fewest=1)],
        "n_steps": [COUNT],
        "cell": [StrOptions({"gru", "rnn"})],
        "hidden": [COUNT],
        "noise": [StrOptions({"proportional", "gaussian", "masking", "none"})],
        "noise_level": [Finite(0, 1000)],
        "validation": [Finite(0, 1, "neither"), COUNT, None],
        "patience": [COUNT, None],
        "max_epochs": [COUNT],
        "learning_rate": [ABOVE_ZERO],
        "n_models": [COUNT],
        "missing": [StrOptions({"middle", "raise"})],
        "device": [str],
        "n_jobs": N_JOBS,
        "random_state": SEED,
        "verbose": VERBOSE,
    }

    def __init__(
        self,
        n_components=8,
        *,
        features=None,
        n_axes=16,
        statistics=("mean", "std", "corr"),
        n_steps=26,
        cell="gru",
        hidden=32,
        noise="gaussian",
        noise_level=0.2,
        validation=0.1,
        patience=10,
        max_epochs=100,
        learning_rate=0.01,
        n_models=1,
        missing="middle",
        device="auto",
        n_jobs=None,
        random_state=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.features = features
        self.n_axes = n_axes
        self.statistics = statistics
        self.n_steps = n_steps
        self.cell = cell
        self.hidden = hidden
        self.noise = noise
        self.noise_level = noise_level
        self.validation = validation
        self.patience = patience
        self.max_epochs = max_epochs
        self.learning_rate = learning_rate
        self.n_models = n_models
        self.missing = missing
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @whole_fit(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, *, eras=None):
        """Learn the axes, the eras' statistics, and the network of their sequences.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            Finite numbers or NaN. int8 stays int8. A frame's ``era`` column is removed
            and used as `eras`.
        y : Ignored
            Present for API consistency.
        eras : array-like of shape (n_rows,), default=None
            Era labels with numbers, of two eras or more; required, here or as a column.

        Returns
        -------
        self
        """
        self._fit(self._read(X, eras))
        return self

    def transform(self, X, *, eras=None):
        """Return the regime of each row's era.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            The features of fit; all rows of their eras.
        eras : array-like of shape (n_rows,), default=None
            Era labels; required, here or as a column.

        Returns
        -------
        ndarray of shape (n_rows, n_features_out), float32
        """
        check_is_fitted(self)
        rows = self._read(X, eras, reset=False)
        table = np.where(self.varies_, self._statistics(rows), 0.0)
        return self._transform(rows, table)

    @whole_fit(prefer_skip_nested_validation=False)
    def fit_transform(self, X, y=None, *, eras=None):
        """Fit, and return the regime of each row's era.

        Parameters
        ----------
        X, y, eras
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_rows, n_features_out), float32
        """
        rows = self._read(X, eras)
        self._fit(rows)
        return self._transform(rows, self.era_statistics_)

    _by_era = True  # a row's latents depend on the others of its era

    def _check_parameters(self, n_features, n_targets):
        """Raise if parameters contradict each other; an experiment calls it, too."""
        if len(set(self.statistics)) < len(self.statistics):
            raise ValueError(
                f"statistics={self.statistics!r} names one of them twice. Name it once."
            )
        self._network()._check_parameters(n_features, n_targets)

    def _network(self):
        """Return the network of the sequences, not yet fitted."""
        own = [
            "cell", "hidden", "noise", "noise_level", "validation", "patience",
            "max_epochs", "learning_rate", "n_models", "device", "n_jobs",
            "random_state", "verbose",
        ]  # fmt: skip
        params = {name: getattr(self, name) for name in own}
        return SequenceDAE(self.n_components, **params)

    def _read(self, X, eras, *, reset=True) -> Rows:
        rows = Rows.read(self, X, None, eras, reset=reset)
        if rows.eras is None:
            raise ValueError(
                f"{type(self).__name__} needs eras, of which it tells the regime. Pass "
                "eras=, or a frame with the column 'era' (LatentFeatures("
                "keep_era=True) passes it on)."
            )
        require_numbers(rows.eras)
        if not reset and rows.eras.dated not in (None, self._dated):
            kinds = ("numbers", "dates")
            raise ValueError(
                f"eras must be {kinds[self._dated]}, as in fit, so that it is known "
                f"which eras come before; got {rows.eras.labels[0]!r}."
            )
        return rows

    def _fit(self, rows: Rows) -> None:
        eras: Any = rows.eras
        self._check_parameters(rows.X.shape[1], 0)
        if eras.n_eras < 2:
            raise ValueError(
                f"{type(self).__name__} needs two eras or more to compare; got "
                f"{eras.n_eras} (n_samples={rows.n_rows}). Pass more eras."
            )
        chosen = find_columns(self.features, rows.feature_names, rows.X.shape[1])
        self.columns_ = np.arange(rows.X.shape[1]) if chosen is None else chosen
        own = rows.X if chosen is None else rows.X[:, chosen]
        self.missing_values_ = missing_values(own, self.missing)
        moments = Moments.from_rows(own, fill=self.missing_values_)
        self.mean_ = moments.mean
        pooled = own.dtype.itemsize == 1
        self.axes_ = principal_axes(moments.covariance(), self.n_axes, pooled)
        self.fitted_eras_ = eras.numbers
        self._dated = bool(eras.dated)
        table = self._statistics(rows)
        self.varies_ = np.ptp(table, axis=0) > _LEAST_SPREAD
        if not self.varies_.any():
            raise ValueError(
                f"X has the same {' and '.join(self.statistics)} on each of "
                f"{self.axes_.shape[1]} axes in all {eras.n_eras} eras: there is "
                "nothing to learn. Pass rows whose eras differ, or other statistics."
            )
        self.era_statistics_ = np.where(self.varies_, table, 0.0)
        sequences = [
            self._sequence(number, own)
            for number, own in zip(eras.numbers, self.era_statistics_, strict=True)
        ]
        self.autoencoder_ = self._network().fit(sequences, eras=eras.numbers)

    @blas_threads(1)  # the bits do not depend on the number of threads
    def _statistics(self, rows: Rows) -> NDArray[np.float64]:
        """Return the statistics of each era, (n_eras, n_statistics)."""
        known, table = self._fitted_with, []
        for _, mine in rows.by_era():
            scores = np.empty((len(mine), self.axes_.shape[1]))
            done = 0
            for block, _ in blocks_of(rows.X, mine):
                if known.features is not None:
                    block = block[:, self.columns_]
                check_missing(block, known.missing)
                block = fill_missing(block.astype(np.float64), self.missing_values_)
                scores[done : done + len(block)] = (block - self.mean_) @ self.axes_
                done += len(block)
            table.append(summed_up(scores, known.statistics))
        return np.array(table)

    def _sequence(self, number: int, own: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the statistics of the fitted eras before an era, and its own."""
        end = int(np.searchsorted(self.fitted_eras_, number))
        start = max(0, end - self._fitted_with.n_steps + 1)
        return np.vstack([self.era_statistics_[start:end], own])

    def _transform(self, rows: Rows, table: NDArray[np.float64]) -> NDArray[Any]:
        eras: EraIndex = rows.era_index
        sequences = [
            self._sequence(number, own)
            for number, own in zip(eras.numbers, table, strict=True)
        ]
        codes: NDArray[Any] = self.autoencoder_.transform(sequences)
        return codes[eras.codes]

    @property
    def _n_features_out(self):
        return self.autoencoder_._n_features_out

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "middle"
        tags.transformer_tags.preserves_dtype = []
        return tags


def summed_up(
    scores: NDArray[np.float64], statistics: Sequence[str]
) -> NDArray[np.float64]:
    """Return the statistics of the scores of an era's rows, one after another.

    A correlation with an axis whose scores are all equal is 0.

    Parameters
    ----------
    scores : ndarray of shape (n_rows, n_axes)
    statistics : sequence of {"mean", "std", "corr"}
    """
    mean, std = scores.mean(axis=0), scores.std(axis=0)
    std = np.where(std > _LEAST_DEVIATION, std, 0.0)
    some = slice(_PAIRED)
    z = (scores[:, some] - mean[some]) / np.where(std > 0, std, np.inf)[some]
    pairs = np.triu_indices(z.shape[1], 1)
    values = {"mean": mean, "std": std, "corr": (z.T @ z / len(z))[pairs]}
    return np.concatenate([values[name] for name in statistics])


@blas_threads(1)
def principal_axes(
    covariance: NDArray[np.float64], n_axes: int, pooled: bool
) -> NDArray[np.float64]:
    """Return the map from centred features to scores of unit variance.

    Parameters
    ----------
    covariance : ndarray of shape (n_features, n_features)
    n_axes : int
        Fewer are returned if the features vary in fewer directions.
    pooled : bool
        Whether all features have one scale, as bins do, or each its own.

    Returns
    -------
    ndarray of shape (n_features, n_axes)
        A constant feature has weight 0. The largest weight of an axis is positive.
    """
    variance = np.diag(covariance)
    varying = np.flatnonzero(variance > 0)
    if not len(varying):
        raise ValueError(
            f"X is constant in all {len(variance)} features: there is nothing to "
            "learn. Pass rows that vary."
        )
    scale = np.sqrt(variance[varying])
    if pooled:
        scale[:] = np.sqrt(variance[varying].mean())
    share, vectors = np.linalg.eigh(
        covariance[np.ix_(varying, varying)] / np.outer(scale, scale)
    )
    kept = np.flatnonzero(share > _LEAST_SHARE * share[-1])[::-1][:n_axes]
    own = vectors[:, kept] / np.sqrt(share[kept]) / scale[:, None]
    largest = np.abs(vectors[:, kept]).argmax(axis=0)
    axes = np.zeros((len(variance), len(kept)))
    axes[varying] = own * np.sign(vectors[largest, kept])
    return axes
