"""The fit shared by all network embedders; torch is imported where it is used.

`NetworkEmbedder` runs the steps of a fit: it reads the rows, holds some out, measures
the columns, cuts batches, makes and trains one task per network, and keeps the numpy
form of each network. A subclass defines its parameters, `_make_task` and `_encoder_of`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted

from numerai_features._cache import hash_rows
from numerai_features._optional import import_optional
from numerai_features._rows import Rows
from numerai_features._validation import (
    as_frame,
    check_missing,
    known_numbers,
    resolve_seed,
    validate_rows,
)
from numerai_features._whole_fit import KeptInterrupt, whole_fit
from numerai_features.embedders._columns import Columns, check_reach, measure_columns
from numerai_features.embedders._course import (
    Course,
    Fitted,
    model_seeds,
    side_by_side,
    too_few_rows,
)
from numerai_features.embedders._cross_fit import (
    check_divisions,
    cross_fit_folds,
    cross_fit_latents,
)
from numerai_features.embedders._encode import encode
from numerai_features.embedders._holdout import hold_out
from numerai_features.embedders._training_parameters import TrainingParameters
from numerai_features.encoders import Concatenate, Encoder, Fill

if TYPE_CHECKING:
    import torch

    from numerai_features.nn._checkpoint import Checkpoint
    from numerai_features.nn._task import Task
    from numerai_features.nn._training import Trainer

_global_generator = threading.Lock()  # while torch's is seeded and restored
_HELD_OUT_BATCH = 4096
_STEPS_AN_EPOCH = 50  # with few rows, larger batches would leave too few steps
_SMALLEST_BATCH, _LARGEST_BATCH = 256, 4096


class NetworkEmbedder(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, TrainingParameters, abstract=True
):
    """Base class of the embedders that train a network: their common fit."""

    __metadata_request__fit = {"eras": True}
    __metadata_request__partial_fit = {"eras": True}
    __metadata_request__transform = {"eras": True}

    # Parameters of subclasses that have more metrics, or batches of several eras.
    monitor = "valid_loss"
    eras_per_batch = 1

    @whole_fit(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, *, eras=None, sample_weight=None):
        """Train the network on rows.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            Finite numbers or NaN. int8 stays int8. A frame's ``era`` column is removed
            and used as `eras`.
        y : Ignored
            Present for API consistency.
        eras : array-like of shape (n_rows,), default=None
            Era labels; `validation` holds out the last eras.
        sample_weight : array-like of shape (n_rows,), default=None
            Weights of the rows in the loss; rows of weight zero are left out.

        Returns
        -------
        self
        """
        return self._fit(self._read(X, y, eras, sample_weight))

    @whole_fit(prefer_skip_nested_validation=False)
    def fit_transform(self, X, y=None, *, eras=None, sample_weight=None):
        """Train the network and return the rows' latents.

        Parameters
        ----------
        X, y, eras, sample_weight
            As in `fit`.

        Returns
        -------
        ndarray of shape (n_rows, n_features_out), float32
        """
        return self._fit_transform(self._read(X, y, eras, sample_weight))

    def transform(self, X, *, eras=None):
        """Return the latents of each row.

        Parameters
        ----------
        X : array-like or frame of shape (n_rows, n_features)
            The features of fit.
        eras : Ignored
            A row's latents depend on that row alone.

        Returns
        -------
        ndarray of shape (n_rows, n_features_out), float32
        """
        X, eras = self._check_rows(X, eras)
        return encode(self.encoder_, X, eras)

    def _check_device(self) -> None:
        """Raise if this machine lacks the device; an experiment calls it, too."""
        from numerai_features.nn._device import resolve_device

        resolve_device(self.device)

    def _check_divisions(self, rows: Rows) -> None:
        """Raise if eras cannot be divided so; an experiment calls it, too."""
        check_divisions(self, rows)

    # --- what a subclass defines -----------------------------------------------------

    def _check_parameters(self, n_features: int, n_targets: int) -> None:
        """Raise if parameters contradict each other or do not fit such a table.

        An experiment calls it, too, before anything is fitted.
        """

    def _learnable(self, rows: Rows) -> NDArray[np.bool_]:
        """Return a mask of the rows that can be trained on."""
        return rows.counted

    def _make_task(self, course: Course) -> Task:
        """Return one network with its loss; the caller initialises its weights."""
        raise NotImplementedError

    def _choose_columns(self, own: Columns) -> Columns:
        """Return the columns by which rows are standardised; the rows' own here."""
        return own

    def _begin(self, task: Any, model: int, course: Course) -> None:
        """Change a network's initial weights."""

    def _encoder_of(self, task: Any, course: Course) -> Encoder:
        """Return the trained network as steps from rows without NaN to latents."""
        raise NotImplementedError

    # --- the steps of a fit ----------------------------------------------------------

    def _read(self, X, y, eras, sample_weight) -> Rows:
        """Return the checked rows; a subclass that uses labels also reads y."""
        rows = Rows.read(self, X, None, eras, sample_weight, min_rows=2)
        self._check_eras(rows.eras)
        self._check_parameters(rows.X.shape[1], 0)
        return rows

    def _fit(self, rows: Rows):
        return self._assign(self._train(rows, np.flatnonzero(self._learnable(rows))))

    def _fit_transform(self, rows: Rows):
        """Fit and return the latents, cross-fitted ones with `cross_fit`."""
        splitter = getattr(self, "cross_fit", None)
        among = np.flatnonzero(self._learnable(rows))
        folds = [] if splitter is None else cross_fit_folds(splitter, rows, among)
        final = self._train(rows, among)
        if final.interrupted:
            self._assign(final)
        latents = encode(final.encoder, rows.X, rows.eras)
        if splitter is not None:
            train = partial(self._train, final=False)
            width = latents.shape[1] // self.n_models
            latents = cross_fit_latents(train, rows, folds, final, latents, width)
        self._assign(final)
        return latents

    def _assign(self, fitted: Fitted):
        for name, value in fitted.attributes.items():
            setattr(self, name, value)
        if fitted.interrupted:
            raise KeptInterrupt(self)
        return self

    def _train(
        self,
        rows: Rows,
        among: NDArray[np.intp],
        *,
        columns: Columns | None = None,
        states: list[dict[str, NDArray[Any]]] | None = None,
        n_fits: int = 0,
        final: bool = True,
    ) -> Fitted:
        """Train on some of the rows and return the result; set no attribute.

        Parameters
        ----------
        rows : Rows
        among : ndarray of int
            Ascending indices of the rows to train on or to hold out.
        columns, states, n_fits
            Results of the earlier fits whose networks are trained further.
        final : bool, default=True
            Whether these are the networks that the embedder keeps. Only they write to
            TensorBoard and are kept at Ctrl-C.
        """
        from numerai_features.nn._device import resolve_device
        from numerai_features.nn._parallel import agree, process_group

        device = resolve_device(self.device)
        with process_group(device):
            seed = agree(resolve_seed(self.random_state), device)
            course = self._prepare(rows, among, seed, device, columns)
            trainers = self._make_trainers(course, seed, states, n_fits, final)
            interrupted = self._run_all(trainers, self.keep_interrupted and final)
        tasks = [trainer.task.cpu() for trainer in trainers]
        learned = np.zeros(rows.n_eras, bool)
        learned[rows.codes[among]] = True
        attributes = {
            "fitted_eras_": known_numbers(rows.eras, learned),
            "missing_values_": course.columns.fill,
            "history_": side_by_side([t.history for t in trainers]),
            "best_epoch_": np.array([t.best_epoch for t in trainers]),
            "n_iter_": max(len(t.history) for t in trainers),
            **self._keep(tasks, course),
        }
        return Fitted(attributes, course.train, interrupted)

    def _run_all(self, trainers: list[Trainer], keeps: bool) -> bool:
        """Train all networks; return whether Ctrl-C ended it with weights to keep."""
        from numerai_features.nn._ensemble import train_all
        from numerai_features.nn._threads import own_threads

        try:
            with own_threads(self.n_jobs):
                train_all(trainers)
        except KeyboardInterrupt:
            if not (keeps and all(t.best for t in trainers)):
                raise
            for trainer in trainers:
                trainer.restore_best()
            return True
        return False

    def _prepare(
        self,
        rows: Rows,
        among: NDArray[np.intp],
        seed: int,
        device: torch.device,
        columns: Columns | None = None,
    ) -> Course:
        """Return the training data: rows to train on and held-out rows."""
        from numerai_features.nn._batches import FEWEST_ROWS, Table

        X, weights = rows.X, rows.weights
        whole = getattr(self, "_whole_eras", False)
        train, valid = hold_out(self.validation, rows, among, seed, whole_eras=whole)
        if columns is None:
            own = measure_columns(X, train, weights, self.missing, among)
            columns = self._choose_columns(own)
        elif len(train) < FEWEST_ROWS:
            raise too_few_rows(len(train), FEWEST_ROWS, rows.n_rows)
        check_reach(X, columns)
        light = None if weights is None else weights / weights[train].mean()
        table = Table(X, *columns.units, device, light, rows.y)
        labels = None if rows.eras is None else rows.eras.row_numbers
        key = (X, rows.y, labels, weights, train, valid)
        return Course(rows, table, columns, train, valid, key)

    def _make_batches(self, course: Course, seed: int, task: Task) -> tuple[Any, Any]:
        """Return the training batches, and the held-out batches or None."""
        from numerai_features.nn._batches import EraBatches, HeldOutBatches, RowBatches

        table, train = course.table, course.train
        codes = None if course.rows.eras is None else course.rows.eras.codes
        held_out = None
        if course.valid is not None:
            eras = codes if task.judges_eras else None
            held_out = HeldOutBatches(table, seed, course.valid, _HELD_OUT_BATCH, eras)
        if self.batching == "era" and codes is not None:
            batches = EraBatches(table, seed, train, codes, self.eras_per_batch)
            return batches, held_out
        batch_size: Any = self.batch_size
        if batch_size == "auto":
            wanted = len(train) // _STEPS_AN_EPOCH
            batch_size = min(max(wanted, _SMALLEST_BATCH), _LARGEST_BATCH)
        return RowBatches(table, seed, train, batch_size), held_out

    def _make_trainers(
        self,
        course: Course,
        seed: int,
        states: list[dict[str, NDArray[Any]]] | None,
        n_fits: int,
        final: bool,
    ) -> list[Trainer]:
        """Return a trainer for each network.

        The networks start from new weights, or from `states`. `n_fits` is the number of
        earlier fits; it is part of the seed.
        """
        import torch

        from numerai_features.nn._device import operations
        from numerai_features.nn._layers import initialize

        key = None
        if self.checkpoint is not None:
            key = self._run_key(*course.key, n_fits, states)
        trainers = []
        for model, own in enumerate(model_seeds(seed, self.n_models, n_fits)):
            # torch's own layers, which subclasses may have, draw from the global one.
            with _global_generator, torch.random.fork_rng(devices=[]):
                torch.manual_seed(own >> 1)
                task = self._make_task(course)
            initialize(task, own)
            if states is None:
                self._begin(task, model, course)
            else:
                state = {k: torch.tensor(v) for k, v in states[model].items()}
                task.load_state_dict(state)
            batches, held_out = self._make_batches(course, own, task)
            work = operations(task, batches.rows_per_step)
            task = task.to(course.table.device)
            trainer = self._make_trainer(task, batches, held_out, work)
            if key is not None:
                trainer.checkpoint = self._make_checkpoint(model, key)
            if final and self.log_dir is not None:
                trainer.report = self._make_report(model)
            trainers.append(trainer)
        return trainers

    def _make_trainer(self, task, batches, held_out, work) -> Trainer:
        from numerai_features.nn._device import resolve_precision
        from numerai_features.nn._optimizer import TrainingSettings
        from numerai_features.nn._training import Trainer

        names = [
            "max_epochs", "learning_rate", "schedule", "weight_decay", "clip_norm",
            "ema_decay", "patience", "monitor",
        ]  # fmt: skip
        device = next(task.parameters()).device
        settings = TrainingSettings(
            **{name: getattr(self, name) for name in names},
            dtype=resolve_precision(self.precision, device, work),
        )
        return Trainer(
            task, batches, settings, held_out=held_out, progress=bool(self.verbose)
        )

    def _keep(self, tasks: list[Any], course: Course) -> dict[str, Any]:
        """Return the fitted attributes; the networks' latents are concatenated."""
        fill = Fill(course.columns.fill)
        branches = [self._encoder_of(task, course) for task in tasks]
        models = [("models", Concatenate(tuple(branches)))]
        steps = models if len(branches) > 1 else branches[0].steps
        return {"encoder_": Encoder([("fill", fill), *steps])}

    def _run_key(self, X: NDArray[Any], *rest: Any) -> str:
        """Return a hash of everything that a run depends on."""
        if os.path.lexists(self.checkpoint) and not os.path.isdir(self.checkpoint):
            raise NotADirectoryError(
                f"checkpoint must be a folder; {os.fspath(self.checkpoint)} is a file. "
                "Give another path."
            )
        if not isinstance(self.random_state, Integral):
            raise ValueError(
                "checkpoint needs an int random_state, to recognise an interrupted "
                f"fit; got {self.random_state!r}."
            )
        import torch

        unseen = (
            "checkpoint", "checkpoint_every", "keep_interrupted", "log_dir", "n_jobs",
            "verbose", "autoencoder",  # whose weights are part of the course's key
        )  # fmt: skip
        params = self.get_params(deep=False)
        params = {k: v for k, v in params.items() if k not in unseen}
        return str(joblib.hash((params, hash_rows(X), rest, str(torch.__version__))))

    def _make_checkpoint(self, model: int, key: str) -> Checkpoint:
        from numerai_features.nn._checkpoint import Checkpoint

        name = f"{type(self).__name__}-{key}-{model + 1}.checkpoint"
        file = Path(self.checkpoint) / name
        return Checkpoint(file, self.checkpoint_every, key=key)

    def _make_report(self, model: int) -> Callable[[dict[str, Any]], None]:
        """Return a function that writes an epoch's record for TensorBoard."""
        owner = f"{type(self).__name__}(log_dir=)"
        import_optional("tensorboard", extra="tensorboard", needed_by=owner)
        from torch.utils.tensorboard import SummaryWriter

        def report(record):
            # Opened for each record: an interrupted fit leaves no file open.
            with SummaryWriter(os.fspath(self.log_dir)) as writer:
                for name, value in record.items():
                    tag = f"{name}/model {model + 1}" if self.n_models > 1 else name
                    writer.add_scalar(tag, value, record["epoch"])

        return report

    def _check_rows(self, X, eras):
        """Return checked rows for a fitted network, and their eras or None."""
        check_is_fitted(self, "encoder_")
        X, eras = validate_rows(self, X, eras, reset=False)
        check_missing(X, self._fitted_with.missing)
        return X, eras

    def _check_latents(self, X):
        """Return checked latents, with as many columns as `transform` gives."""
        Z = check_array(as_frame(X), dtype=np.float32, input_name="X")
        if Z.shape[1] != self._n_features_out:
            raise ValueError(
                f"X has {Z.shape[1]} latents, but {type(self).__name__} gives "
                f"{self._n_features_out}; pass what transform returned."
            )
        return Z

    @property
    def _n_features_out(self):
        return self.encoder_.n_out(self.n_features_in_)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing == "middle"
        tags.transformer_tags.preserves_dtype = []
        return tags
