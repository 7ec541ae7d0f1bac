"""What embedders that train a network share; torch is imported where it is used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._compat import HasMethods, Interval, StrOptions
from numerai_features._eras import EraIndex
from numerai_features._optional import import_optional
from numerai_features._validation import as_slice, row_blocks, take_rows
from numerai_features.embedders._holdout import Holdout

if TYPE_CHECKING:
    import torch

    from numerai_features.nn._training import Trainer

_SAMPLED_ROWS = 1000
_HELD_OUT_BATCH = 4096
_STEPS_AN_EPOCH = 50  # fewer, larger batches learn no more from few rows
_SMALLEST_BATCH, _LARGEST_BATCH = 256, 4096

POSITIVE = Interval(Integral, 1, None, closed="left")

TRAINING_CONSTRAINTS: dict[str, list[Any]] = {
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
"""Of the parameters that all embedders with a network share."""


def column_moments(
    X: NDArray[Any], rows: NDArray[np.intp], weights: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each column's mean and standard deviation over known cells.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features)
    rows : ndarray of int
        Which rows count.
    weights : ndarray of shape (n_rows,) or None

    Returns
    -------
    mean, deviation : ndarray of shape (n_features,), float64
        A deviation is 0 where the column is constant.
    """
    n_features = X.shape[1]
    shift = _first_known(X, rows)  # sums of squares near zero keep their digits
    total, first, second = np.zeros((3, n_features))
    for block, mine in _blocks(X, rows):
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


def _blocks(
    X: NDArray[Any], rows: NDArray[np.intp]
) -> Iterator[tuple[NDArray[Any], slice | NDArray[np.intp]]]:
    for part in row_blocks(len(rows), X.shape[1]):
        mine = as_slice(rows[part])
        yield take_rows(X, mine), mine


def resolve_seed(random_state: Any) -> int:
    """Return a seed; the global generators are neither asked nor moved."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(1 << 31))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(1 << 31))
    return int(random_state)


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


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """Return what matrix products are made in.

    "auto" is bfloat16 where the hardware multiplies it faster: GPUs since Ampere, and
    CPUs with AMX.
    """
    import torch

    if precision != "auto":
        chosen: torch.dtype = getattr(torch, precision)
        return chosen
    if device.type == "cuda":
        capable = torch.cuda.get_device_capability(device) >= (8, 0)
        return torch.bfloat16 if capable else torch.float32
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return torch.bfloat16 if capabilities.get("amx_bf16") else torch.float32


def make_batches(
    table: Any,
    seeds: list[int],
    rows: Holdout,
    eras: EraIndex | None,
    weights: NDArray[np.float64] | None,
    *,
    batching: str,
    batch_size: Any,
) -> tuple[Any, Any]:
    """Return the batches to train on, and those held out or None."""
    from numerai_features.nn._batches import EraBatches, HeldOutBatches, RowBatches

    light = None
    if weights is not None:
        mean = weights[rows.train].mean()
        light = np.asarray(weights / mean, np.float32)
    held_out = None
    if rows.valid is not None:
        held_out = HeldOutBatches(table, seeds, rows.valid, _HELD_OUT_BATCH, light)
    if batching == "era" and eras is not None:
        order = rows.train[np.argsort(eras.codes[rows.train], kind="stable")]
        cuts = np.flatnonzero(np.diff(eras.codes[order])) + 1
        return EraBatches(table, seeds, np.split(order, cuts), light), held_out
    if batch_size == "auto":
        wanted = len(rows.train) // _STEPS_AN_EPOCH
        batch_size = min(max(wanted, _SMALLEST_BATCH), _LARGEST_BATCH)
    each = [rows.train] * len(seeds)
    return RowBatches(table, seeds, each, batch_size, light), held_out


def train(
    owner: Any, task: Any, batches: Any, held_out: Any, *, file: Path | None
) -> Trainer:
    """Train as the parameters of `owner` say; return the trainer, done.

    Parameters
    ----------
    owner : estimator
        With the parameters of `TRAINING_CONSTRAINTS`.
    task : nn.Module
    batches, held_out : batches
    file : Path or None
        The checkpoint.
    """
    from numerai_features.nn._checkpoint import Checkpoint
    from numerai_features.nn._settings import Settings
    from numerai_features.nn._training import Trainer

    settings = Settings(
        max_epochs=owner.max_epochs,
        learning_rate=owner.learning_rate,
        schedule=owner.schedule,
        weight_decay=owner.weight_decay,
        clip_norm=owner.clip_norm,
        average=owner.average,
        patience=owner.patience,
        monitor=owner.monitor,
    )
    trainer = Trainer(
        task,
        batches,
        settings,
        held_out=held_out,
        checkpoint=None if file is None else Checkpoint(file, owner.checkpoint_every),
        report=_reporter(owner),
        progress=bool(owner.verbose),
    )
    trainer.run()
    return trainer


def _reporter(owner: Any) -> Any:
    """Return what writes an epoch's record for TensorBoard, or None."""
    if owner.log_dir is None:
        return None
    board = import_optional(
        "torch.utils.tensorboard",
        extra="tensorboard",
        needed_by=f"{type(owner).__name__}(log_dir=)",
    )
    writer = board.SummaryWriter(os.fspath(owner.log_dir))

    def report(record: dict[str, Any]) -> None:
        for name, value in record.items():
            if name == "epoch":
                continue
            values = value if isinstance(value, list) else [value]
            for model, one in enumerate(values):
                tag = name if len(values) == 1 else f"{name}/model {model + 1}"
                writer.add_scalar(tag, one, record["epoch"])
        writer.flush()

    return report


def checkpoint_file(folder: Any, owner: Any, *contents: Any) -> Path:
    """Return the file of a run, named by all that it depends on.

    Parameters
    ----------
    folder : path
    owner : estimator
        Its parameters are part of the name.
    *contents
        So is what it is fitted on; of tables a sample of the rows.
    """
    from joblib import hash as digest

    unseen = ("checkpoint", "log_dir", "verbose")
    params = {k: v for k, v in owner.get_params().items() if k not in unseen}
    sampled = [_sample(c) for c in contents]
    name = digest((type(owner).__name__, params, sampled))
    return Path(folder) / f"{type(owner).__name__}-{name}.safetensors"


def _sample(content: Any) -> Any:
    if not (isinstance(content, np.ndarray) and content.ndim == 2):
        return content
    rows = np.unique(np.linspace(0, len(content) - 1, _SAMPLED_ROWS).astype(np.intp))
    return content.shape, np.ascontiguousarray(content[rows])
