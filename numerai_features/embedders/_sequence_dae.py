"""Recurrent denoising autoencoder of sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any, ClassVar

import numpy as np
from sklearn.utils.validation import check_is_fitted

from numerai_features._arguments import COUNT, ROWS, Finite
from numerai_features._compat import StrOptions
from numerai_features._validation import check_missing, fill_missing, find_columns
from numerai_features._whole_fit import whole_fit
from numerai_features.embedders._columns import check_reach, measure_columns
from numerai_features.embedders._course import Course
from numerai_features.embedders._holdout import hold_out
from numerai_features.embedders._network import NetworkEmbedder
from numerai_features.embedders._sequences import Sequences, read_sequences

_STEPS_AN_EPOCH, _SMALLEST_BATCH, _LARGEST_BATCH = 50, 32, 512
_FARTHEST_NOISE = 3.0  # in deviations: more would drown a column far from 0


class SequenceDAE(NetworkEmbedder):
    r"""Latent features of whole sequences: a recurrent denoising autoencoder.

    A recurrent encoder reads a corrupted sequence step by step; its last state, mapped
    to `n_components` numbers, is the code of the sequence. A recurrent decoder starts
    from the code alone and unrolls the sequence backwards, from its last step [1]_. So
    all that it restores has passed through the code. AdamW minimises the mean squared
    error of the clean cells, in standardised columns. A sequence unlike those of `fit`
    is restored badly, and has a low `score_samples`.

    Sequences come in one of three forms:

    - an array of shape (n_sequences, n_steps, n_features), where steps at the end whose
      cells are all NaN are absent;
    - a list of tables (n_steps, n_features), one for each sequence;
    - rows, (n_rows, n_features), with `groups`, the label of each row's sequence, and
      `order`, the place of the row in it. Without `groups` each row is a sequence of
      one step.

    Sequences may differ in length. A batch holds sequences of similar length, so that
    little of it is padding, and padding counts nowhere.

    Parameters
    ----------
    n_components : int, default=16
        Width of the code. It may be larger than the number of features: a code stands
        for many steps.
    cell : {"gru", "rnn"}, default="gru"
        Gated recurrent units [2]_, or plain ones, ``h = tanh(x W + h U + b)``.
    hidden : int, default=64
        Number of units of encoder and decoder.
    noise : {"proportional", "gaussian", "masking", "none"}, default="proportional"
        "proportional": a cell x becomes ``x * (1 + noise_level * n)`` with normal n, in
        the units of X; noise of more than 3 standard deviations of the column is
        reduced to 3. "gaussian": the same normal noise in all cells of a column.
        "masking": cells become the column's median (the middle bin).
    noise_level : float, default=0.2
        Standard deviation of n; for "gaussian" that of the noise, in standard
        deviations of the column; for "masking" the probability, below 1, that a cell is
        masked.
    context : list of str or int, default=None
        Names or positions of columns that encoder and decoder know, such as actions:
        they are neither corrupted nor restored.
    validation : float, int, splitter or None, default=0.1
        Held-out sequences for early stopping: a random share of them. With eras, those
        that end in the last eras, as many as the share or the int says; the eras before
        them are purged. With fewer than 20 sequences, none. A splitter: its last fold
        of sequences. None: train on all, to the last epoch.
    batch_size : int or "auto", default="auto"
        Largest number of sequences in a batch. "auto": a fiftieth of the training
        sequences, between 32 and 512.
    missing : {"middle", "raise"}, default="middle"
        "middle": NaN in a step that is present becomes the column's median learned in
        `fit`, 2 for bins, and is ignored in the loss. "raise": NaN is an error.

    Attributes
    ----------
    encoder_ : Encoder
        The encoder that `transform` runs: from sequences of equal length, a row each
        with one step after another, to codes.
    mean_, scale_ : ndarray of shape (n_features,)
        Mean and standard deviation of each column over all steps of the training
        sequences. The deviation is 0 for a constant column; columns of int8 bins share
        one.
    context_ : ndarray of shape (n_context,)
        Positions of the columns of `context`.
    n_components_ : int
        Width of the code.

    See Also
    --------
    DAEEmbedder : Latents of single rows.
    EraRegimes : The sequence of an era's statistics, as one vector for each era.

    Notes
    -----
    Under ``torchrun`` the processes share every batch, whole sequences each, 512 at a
    time; each must call `fit` with the same sequences.

    References
    ----------
    .. [1] Srivastava, N., Mansimov, E., Salakhutdinov, R. (2015). Unsupervised learning
       of video representations using LSTMs. ICML.
    .. [2] Cho, K., et al. (2014). Learning phrase representations using RNN
       encoder-decoder for statistical machine translation. EMNLP.

    Examples
    --------
    >>> import numpy as np
    >>> from numerai_features.embedders import SequenceDAE
    >>> phase = np.random.default_rng(0).uniform(0, 6, (200, 1, 1))
    >>> waves = np.sin(phase + np.arange(10)[:, None] * [0.5, 1])  # (200, 10, 2)
    >>> dae = SequenceDAE(4, hidden=8, max_epochs=2, random_state=0).fit(waves)
    >>> dae.transform(waves).shape, dae.reconstruct(waves).shape
    ((200, 4), (200, 10, 2))
    """

    n_components: int = field(default=16, kw_only=False)
    cell: str = "gru"
    hidden: int = 64
    noise: str = "proportional"
    noise_level: float = 0.2
    context: Sequence[Any] | None = None

    # All rows of an era in one batch is nothing for sequences.
    batching: ClassVar[str] = "rows"  # type: ignore[misc]  # a constant here

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [COUNT],
        "cell": [StrOptions({"gru", "rnn"})],
        "hidden": [COUNT],
        "noise": [StrOptions({"proportional", "gaussian", "masking", "none"})],
        "noise_level": [Finite(0, 1000)],
        "context": [ROWS, None],
    }

    @whole_fit(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, *, eras=None, groups=None, order=None, sample_weight=None):
        """Train the network on sequences.

        Parameters
        ----------
        X : array-like, frame, or list of them
            Sequences, in one of the forms above: finite numbers or NaN. int8 stays
            int8. The ``era`` column of frames is removed; that of rows is used as
            `eras`.
        y : Ignored
            Present for API consistency.
        eras : array-like of shape (n_rows,) or (n_sequences,), default=None
            Era labels of rows, or of sequences that are cut already; `validation` holds
            out the sequences that end in the last eras.
        groups : array-like of shape (n_rows,), default=None
            For rows: the label of each row's sequence.
        order : array-like of shape (n_rows,), default=None
            For rows: numbers by which the steps of a sequence are sorted. None: they
            are in order.
        sample_weight : array-like of shape (n_rows,) or (n_sequences,), default=None
            Weights in the loss; of rows, their mean over the sequence counts. Sequences
            of weight zero are left out.

        Returns
        -------
        self
        """
        return self._fit(self._read_all(X, eras, groups, order, sample_weight))

    @whole_fit(prefer_skip_nested_validation=False)
    def fit_transform(
        self, X, y=None, *, eras=None, groups=None, order=None, sample_weight=None
    ):
        """Train the network and return the sequences' latents.

        Parameters
        ----------
        X, y, eras, groups, order, sample_weight
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_sequences, n_features_out), float32
        """
        sequences = self._read_all(X, eras, groups, order, sample_weight)
        return self._fit(sequences)._encode(sequences)

    def transform(self, X, *, eras=None, groups=None, order=None):
        """Return the latents of each sequence.

        Parameters
        ----------
        X : array-like, frame, or list of them
            Sequences, in one of the forms above, with the features of fit.
        eras : Ignored
            A sequence's latents depend on that sequence alone.
        groups, order
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_sequences, n_features_out), float32
            With `groups`, in the order in which they first appear.
        """
        return self._encode(self._check_sequences(X, eras, groups, order))

    def reconstruct(self, X, *, eras=None, groups=None, order=None):
        """Return the sequences as the networks restore them, averaged over networks.

        Parameters
        ----------
        X, eras, groups, order
            As in `transform`.

        Returns
        -------
        ndarray, or list of ndarray, float32
            In the form and the units of X; columns of `context` as they came.
        """
        sequences = self._check_sequences(X, eras, groups, order)
        restored = np.empty(sequences.X.shape, np.float32)
        for steps, own in self._restored(sequences):
            restored[steps] = own
        restored[:, self.context_] = sequences.X[:, self.context_]
        return sequences.as_came(restored)

    def score_samples(self, X, *, eras=None, groups=None, order=None):
        """Return each sequence's familiarity: minus its mean squared error.

        The error is of the restored sequence, over known cells of restored columns that
        vary, in units of the column's variance.

        Parameters
        ----------
        X, eras, groups, order
            As in `transform`.

        Returns
        -------
        ndarray of shape (n_sequences,), float64

        Raises
        ------
        ValueError
            If no such cell of a sequence is known.
        """
        sequences = self._check_sequences(X, eras, groups, order)
        counted = np.flatnonzero(self.scale_ > 0)
        counted = counted[~np.isin(counted, self.context_)]
        sums = np.zeros((2, len(sequences.X)))
        for steps, own in self._restored(sequences):
            x = sequences.X[steps][..., counted].astype(np.float64)
            error = (own[..., counted] - x) / self.scale_[counted]
            known = ~np.isnan(error)
            sums[0][steps] = np.where(known, error**2, 0).sum(axis=-1)
            sums[1][steps] = known.sum(axis=-1)
        squares, n_known = np.add.reduceat(sums, sequences.starts[:-1], axis=1)
        if not n_known.all():
            raise ValueError(
                f"X: sequence {int(n_known.argmin())} has no known cell in the columns "
                "that are restored and vary, so that its familiarity is not known. "
                "Leave it out."
            )
        return -squares / n_known

    def score(self, X, y=None, *, eras=None, groups=None, order=None):
        """Return the mean of `score_samples`.

        Parameters
        ----------
        X
            As in `transform`.
        y, eras : Ignored
            Present for API consistency.
        groups, order
            As in `fit`.

        Returns
        -------
        float
        """
        given = {"eras": eras, "groups": groups, "order": order}
        return float(self.score_samples(X, **given).mean())

    def _check_parameters(self, n_features, n_targets):
        if self.noise == "masking" and self.noise_level >= 1:
            raise ValueError(
                f"noise_level={self.noise_level} must be below 1 for noise='masking': "
                "it is the share of cells that are masked."
            )
        if self.context is not None and len(self.context) >= n_features:
            raise ValueError(
                f"context={self.context!r} leaves none of {n_features} features to "
                "restore. Name fewer."
            )

    def _read_all(self, X, eras, groups, order, sample_weight):
        sequences = read_sequences(
            self, X, eras=eras, groups=groups, order=order,
            sample_weight=sample_weight, fewest=2,
        )  # fmt: skip
        n_features = sequences.X.shape[1]
        self._check_parameters(n_features, 0)
        names = sequences.feature_names
        found = find_columns(self.context, names, n_features, "context")
        self.context_ = np.empty(0, np.intp) if found is None else found
        return sequences

    def _check_sequences(self, X, eras, groups, order):
        """Return checked sequences for a fitted network."""
        check_is_fitted(self, "encoder_")
        given = {"eras": eras, "groups": groups, "order": order}
        sequences = read_sequences(self, X, **given, reset=False)
        check_missing(sequences.X, self._fitted_with.missing)
        return sequences

    def _prepare(self, rows, among, seed, device, columns=None):
        from numerai_features.nn._batches import Table

        X, weights = rows.X, rows.weights
        train, valid = hold_out(self.validation, rows, among, seed)
        by_step = None if weights is None else np.repeat(weights, rows.lengths)
        columns = measure_columns(
            X, rows.steps_of(train), by_step, self.missing, rows.steps_of(among)
        )
        if not np.delete(columns.scale, self.context_).any():
            raise ValueError(
                f"X is constant in all columns but those of context={self.context!r}: "
                "there is nothing to restore. Pass features that vary."
            )
        check_reach(X, columns)
        key = (X, rows.starts, weights, train, valid)
        table = Table(X, columns.mean, columns.scale, device)
        return Course(rows, table, columns, train, valid, key)

    def _make_batches(self, course, seed, task):
        from numerai_features.nn._sequences import HeldOutSequences, SequenceBatches

        rows, train, held_out = course.rows, course.train, None
        weights = np.ones(rows.n_rows, np.float32)
        if rows.weights is not None:
            weights = (rows.weights / rows.weights[train].mean()).astype(np.float32)
        parts = (course.table, rows.starts, weights, seed)
        if course.valid is not None:
            held_out = HeldOutSequences(*parts, course.valid)
        batch_size: Any = self.batch_size
        if batch_size == "auto":
            wanted = len(train) // _STEPS_AN_EPOCH
            batch_size = min(max(wanted, _SMALLEST_BATCH), _LARGEST_BATCH)
        return SequenceBatches(*parts, train, batch_size), held_out

    def _make_task(self, course):
        from numerai_features.nn._recurrent import Restoring, SequenceNetwork

        table, (mean, scale) = course.table, course.columns.units
        network = SequenceNetwork(
            table, self.context_, self.n_components, self.cell, self.hidden
        )
        offset = np.where(scale > 0, mean / np.where(scale > 0, scale, 1), 0)
        return Restoring(
            network, table, self.noise, self.noise_level, _FARTHEST_NOISE, offset,
            course.middle, course.has_missing,
        )  # fmt: skip

    def _encoder_of(self, task, course):
        return task.network.encoding(course.columns.units, course.columns.dtype)

    def _keep(self, tasks, course):
        columns = course.columns
        return {
            **super()._keep(tasks, course),
            "fitted_eras_": course.rows.fitted_eras,
            "mean_": columns.mean,
            "scale_": columns.scale,
            "n_components_": self.n_components,
            "_decoders": [
                task.network.decoding(columns.units, columns.dtype) for task in tasks
            ],
        }

    def _encode(self, sequences: Sequences):
        """Return the codes of sequences, those of equal length together."""
        width = self.encoder_.n_out(self.n_features_in_)
        out = np.empty((sequences.n_rows, width), np.float32)
        for mine, steps in sequences.by_length(sequences.X.shape[1]):
            flat = sequences.X[steps].reshape(len(mine), -1)
            out[mine] = self.encoder_.transform(flat)
        return out

    def _restored(self, sequences: Sequences):
        """Yield steps of sequences, (n, length), and their restored cells, float64."""
        Z, n_cells = self._encode(sequences), 2 * sequences.X.shape[1]  # float64
        for mine, steps in sequences.by_length(n_cells):
            context = sequences.X[steps[..., None], self.context_].astype(np.float64)
            fill = self.missing_values_[self.context_]
            context, total = fill_missing(context, fill), 0
            codes = np.split(Z[mine], len(self._decoders), axis=1)
            for decoder, code in zip(self._decoders, codes, strict=True):
                total = total + decoder.unroll(code, context)
            yield steps, total / len(self._decoders)

    def _corrupt(self, X, seed, *, groups=None, order=None):
        """Return a copy corrupted as in training, in the form of X; for pictures."""
        sequences = self._check_sequences(X, None, groups, order)
        known, rng = self._fitted_with, np.random.default_rng(seed)
        clean = fill_missing(sequences.X.astype(np.float64), self.missing_values_)
        cells, scale = clean.copy(), self.scale_
        level = known.noise_level
        if known.noise == "masking":
            masked = rng.random(cells.shape) < level
            cells = np.where(masked, self.missing_values_, cells)
        elif known.noise != "none":
            size = np.full(cells.shape, level * scale)
            if known.noise == "proportional":
                most = _FARTHEST_NOISE * scale
                size = np.clip(level * cells, -most, most)
            cells += size * rng.standard_normal(cells.shape)
        cells[:, self.context_] = clean[:, self.context_]
        return sequences.as_came(cells)
