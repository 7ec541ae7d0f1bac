"""What embedders that train a network share; torch is imported where it is used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import pairwise
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils.validation import check_array, check_is_fitted

from numerai_features._compat import HasMethods, Interval, StrOptions
from numerai_features._optional import import_optional
from numerai_features._validation import (
    as_slice,
    check_missing,
    row_blocks,
    take_rows,
    validate_rows,
)
from numerai_features.embedders._holdout import Holdout

if TYPE_CHECKING:
    import torch


_SAMPLED_ROWS = 1000
_HELD_OUT_BATCH = 4096
_STEPS_AN_EPOCH = 50  # fewer, larger batches learn no more from few rows
_SMALLEST_BATCH, _LARGEST_BATCH = 256, 4096

POSITIVE = Interval(Integral, 1, None, closed="left")

TRAINING: dict[str, list[Any]] = {
    "validation": [
        Interval(Real, 0, 1, closed="neither"),
        POSITIVE,
        HasMethods(["split"]),
        None,
    ],
    "patience": [POSITIVE, None],
    "batching": [StrOptions({"rows", "era"})],
    "batch_size": [POSITIVE, StrOptions({"auto"})],
    "max_epochs": [POSITIVE],
    "learning_rate": [Interval(Real, 0, None, closed="neither")],
    "schedule": [StrOptions({"one-cycle", "constant"})],
    "weight_decay": [Interval(Real, 0, None, closed="left")],
    "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
    "average": [Interval(Real, 0, 1, closed="neither"), None],
    "n_models": [POSITIVE],
    "missing": [StrOptions({"middle", "raise"})],
    "device": [str],
    "precision": [StrOptions({"auto", "float32", "bfloat16"})],
    "checkpoint": [str, PathLike, None],
    "checkpoint_every": [Interval(Real, 0, None, closed="left")],
    "log_dir": [str, PathLike, None],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}
"""What parameters of training may be."""


class NetworkEmbedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """What embedders that train a network have in common: how they are trained."""

    __metadata_request__fit = {"eras": True}
    __metadata_request__partial_fit = {"eras": True}
    __metadata_request__transform = {"eras": True}

    _parameter_constraints = TRAINING

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
        fitted = self.fit(X, y, eras=eras, sample_weight=sample_weight)
        return fitted.transform(X, eras=eras)

    def _make_batches(self, table, seeds, rows: Holdout, eras, weights, targets=None):
        """Return the batches to train on, and those held out or None."""
        from numerai_features.nn._batches import EraBatches, HeldOutBatches, RowBatches

        light = None
        if weights is not None:
            light = np.asarray(weights / weights[rows.train].mean(), np.float32)
        codes = None if eras is None else eras.codes
        held_out = None
        if rows.valid is not None:
            # What is told of targets is told of eras.
            each = None if targets is None else codes
            held_out = HeldOutBatches(
                table, seeds, rows.valid, _HELD_OUT_BATCH, light, targets, each
            )
        if self.batching == "era" and codes is not None:
            return EraBatches(table, seeds, rows.train, codes, light, targets), held_out
        batch_size = self.batch_size
        if batch_size == "auto":
            wanted = len(rows.train) // _STEPS_AN_EPOCH
            batch_size = min(max(wanted, _SMALLEST_BATCH), _LARGEST_BATCH)
        each = [rows.train] * len(seeds)
        return RowBatches(table, seeds, each, batch_size, light, targets), held_out

    def _run(self, task, batches, held_out, *contents, operations) -> None:
        """Train, and set what is told of it; `contents` is what a run depends on."""
        from numerai_features.nn._checkpoint import Checkpoint
        from numerai_features.nn._settings import Settings
        from numerai_features.nn._threads import fixed_threads
        from numerai_features.nn._training import Trainer

        settings = Settings(
            max_epochs=self.max_epochs,
            learning_rate=self.learning_rate,
            schedule=self.schedule,
            weight_decay=self.weight_decay,
            clip_norm=self.clip_norm,
            average=self.average,
            patience=self.patience,
            monitor=self.monitor,
        )
        checkpoint = None
        if self.checkpoint is not None:
            file = self._checkpoint_file(*contents)
            checkpoint = Checkpoint(file, self.checkpoint_every)
        with fixed_threads(operations):
            trainer = Trainer(
                task,
                batches,
                settings,
                held_out=held_out,
                checkpoint=checkpoint,
                report=None if self.log_dir is None else self._make_report(),
                progress=bool(self.verbose),
            )
            self.history_ = trainer.run()
        self.best_epoch_ = trainer.best_epoch
        self.n_iter_ = len(self.history_)

    def _checkpoint_file(self, *contents) -> Path:
        """Return the file of a run, named by all that it depends on."""
        if not isinstance(self.random_state, Integral):
            raise ValueError(
                "checkpoint needs an int random_state, by which a fit that was cut off "
                f"is known again; got {self.random_state!r}."
            )
        unseen = ("checkpoint", "checkpoint_every", "log_dir", "verbose")
        params = {k: v for k, v in self.get_params().items() if k not in unseen}
        name = joblib.hash((params, [_sample(c) for c in contents]))
        owner = type(self).__name__
        return Path(self.checkpoint) / f"{owner}-{name}.safetensors"

    def _make_report(self):
        """Return what writes an epoch's record for TensorBoard."""
        owner = f"{type(self).__name__}(log_dir=)"
        import_optional("tensorboard", extra="tensorboard", needed_by=owner)
        from torch.utils.tensorboard import SummaryWriter

        def report(record):
            # Opened anew: a fit that is cut off leaves nothing open.
            with SummaryWriter(os.fspath(self.log_dir)) as writer:
                for name, value in record.items():
                    for model, one in enumerate(np.atleast_1d(value)):
                        tag = f"{name}/model {model + 1}" if self.n_models > 1 else name
                        writer.add_scalar(tag, one, record["epoch"])

        return report

    def _check_rows(self, X, eras):
        """Return rows, and their eras or None, for a fitted network."""
        check_is_fitted(self, "encoder_")
        X, eras = validate_rows(self, X, eras, reset=False)
        check_missing(X, self.missing)
        return X, eras

    def _check_latents(self, X):
        """Return latents that came back, as many a row as `transform` gives."""
        Z = check_array(X, dtype=np.float32, input_name="X")
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


def check_widths(hidden: Any, example: str, fewest: int = 0) -> list[int]:
    """Return widths of layers, or raise; `example` is what they could be."""
    widths = [*hidden]
    if len(widths) < fewest or not all(
        isinstance(n, Integral) and int(n) >= 1 for n in widths
    ):
        raise ValueError(
            f"hidden must be widths of layers, such as {example}; got {hidden!r}."
        )
    return widths


def column_moments(
    X: NDArray[Any], rows: NDArray[np.intp], weights: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each column's mean, and the scale that it is divided by.

    That is the standard deviation of its known cells; of bytes, which are bins, one for
    all columns: a feature that is missing (bin 2) in most of the training eras varies
    little in them, and would else weigh far too much in those where it is there.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
    rows : ndarray of int
        Which rows count.
    weights : ndarray of shape (n_rows,) or None

    Returns
    -------
    mean, scale : ndarray of shape (n_features,), float64
        A scale is 0 where the column is constant.
    """
    n_features = X.shape[1]
    shift = _first_known(X, rows)  # sums of squares near zero keep their digits
    total, first, second = np.zeros((3, n_features))
    for block, mine in blocks_of(X, rows):
        w = np.ones(len(block)) if weights is None else weights[mine]
        block = block.astype(np.float64) - shift
        if X.dtype.kind == "f":
            known = ~np.isnan(block)
            total += w @ known
            block[~known] = 0
        else:
            total += w.sum()
        first += w @ block
        second += w @ (block * block)
    total = np.maximum(total, np.finfo(float).tiny)
    mean = first / total
    variance = second / total - mean**2
    # What rounding leaves of a constant column is not a variance.
    variance[variance <= 1e-12 * np.maximum(second / total, 1e-300)] = 0
    if X.dtype.itemsize == 1 and variance.any():
        variance[variance > 0] = variance[variance > 0].mean()
    return mean + shift, np.sqrt(variance)


def _first_known(X: NDArray[Any], rows: NDArray[np.intp]) -> NDArray[np.float64]:
    head = np.asarray(X[rows[:256]], np.float64)
    shift = head[0].copy()
    for row in head[1:]:
        gaps = np.isnan(shift)
        if not gaps.any():
            break
        shift[gaps] = row[gaps]
    return np.asarray(np.nan_to_num(shift))


def blocks_of(
    X: NDArray[Any], rows: NDArray[np.intp]
) -> Iterator[tuple[NDArray[Any], slice | NDArray[np.intp]]]:
    """Yield some rows of a table a block at a time, and which they are."""
    for part in row_blocks(len(rows), X.shape[1]):
        mine = as_slice(rows[part])
        yield take_rows(X, mine), mine


def model_seeds(seed: int, n_models: int, call: int = 0) -> list[int]:
    """Return a seed for each model; the first ones do not depend on how many."""
    return [
        int(np.random.SeedSequence([seed, call, m]).generate_state(1, np.uint64)[0])
        for m in range(n_models)
    ]


def resolve_device(device: str) -> torch.device:
    """Return the device; "auto" is the GPU that torch sees, else the CPU."""
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"device must be 'auto', 'cpu', 'cuda' or 'cuda:N'; got {device!r}."
        ) from error
    if found.type not in ("cpu", "cuda"):
        raise ValueError(
            f"device must be 'auto', 'cpu', 'cuda' or 'cuda:N'; got {device!r}."
        )
    if found.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError(
                f"device={device!r}, but torch sees no CUDA GPU. Use device='auto'."
            )
        if ":" not in device:
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return found


def operations(widths: list[int], rows_per_step: float) -> float:
    """Return the floating-point operations of a training step.

    Two for each weight and row in the forward pass, and for each of two gradients.
    """
    return 6 * rows_per_step * sum(n * m for n, m in pairwise(widths))


def resolve_precision(precision: str, device: torch.device, work: float) -> torch.dtype:
    """Return what matrix products are made in.

    "auto" is bfloat16 where it pays: on GPUs since Ampere, and on CPUs with AMX if a
    step is `work` for several threads.
    """
    import torch

    from numerai_features.nn._threads import WORTH_IT

    if precision != "auto":
        chosen: torch.dtype = getattr(torch, precision)
        return chosen
    if device.type == "cuda":
        capable = torch.cuda.get_device_capability(device) >= (8, 0)
        return torch.bfloat16 if capable else torch.float32
    if work < WORTH_IT:
        return torch.float32
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return torch.bfloat16 if capabilities.get("amx_bf16") else torch.float32


def _sample(content: Any) -> Any:
    """Return what tells a table from another: its shape and some of its rows."""
    if not (isinstance(content, np.ndarray) and content.ndim == 2):
        return content
    rows = np.unique(np.linspace(0, len(content) - 1, _SAMPLED_ROWS).astype(np.intp))
    return content.shape, np.ascontiguousarray(content[rows])
