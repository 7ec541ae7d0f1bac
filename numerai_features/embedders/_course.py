"""Input and output of a fit of networks."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._rows import Rows
from numerai_features._validation import has_nan
from numerai_features.embedders._columns import Columns
from numerai_features.encoders import Encoder

if TYPE_CHECKING:
    import torch

    from numerai_features.nn._batches import Table


@dataclass(frozen=True)
class Course:
    """The data that networks are trained on.

    Attributes
    ----------
    rows : Rows
    table : Table
        The rows' features on the networks' device, with weights and targets.
    columns : Columns
    train : ndarray of int
        Training rows.
    valid : ndarray of int or None
        Held-out rows, for early stopping.
    key : tuple
        Everything that a run depends on, except the parameters.
    more : dict
        Further results of a subclass's own preparation.
    """

    rows: Rows
    table: Table
    columns: Columns
    train: NDArray[np.intp]
    valid: NDArray[np.intp] | None
    key: tuple[Any, ...] = ()
    more: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def has_missing(self) -> bool:
        """Whether the table holds NaN."""
        return has_nan(self.table.X)

    @property
    def middle(self) -> torch.Tensor:
        """The values that replace NaN, on the table's scale."""
        return self.table.as_taken(self.columns.fill)


def check_eras_are_alone(course: Course, loss: str) -> None:
    """Raise if training eras share a batch although the loss is within an era.

    Over several eras in one batch, the correlation would include the eras' levels.
    """
    from numerai_features.nn._batches import FEWEST_ROWS

    eras = course.rows.era_index.take(course.train)
    counts = np.bincount(eras.codes)
    small = np.flatnonzero((counts > 0) & (counts < FEWEST_ROWS))
    if eras.n_eras == 1 or not len(small):
        return
    raise ValueError(
        f"loss={loss!r} is a correlation within an era, but with batching='era' those "
        f"of fewer than {FEWEST_ROWS} rows share a batch with others: {len(small)} of "
        f"{eras.n_eras} eras to train on, such as {eras.labels[small[0]]!r} with "
        f"{counts[small[0]]}. Leave out their rows, or use loss='mse'."
    )


@dataclass(frozen=True)
class Fitted:
    """The result of a fit: attributes to set, and the training rows.

    `interrupted` marks a fit that Ctrl-C ended and whose weights so far are kept.
    """

    attributes: dict[str, Any]
    train: NDArray[np.intp]
    interrupted: bool = False

    @property
    def encoder(self) -> Encoder:
        """The encoder from rows to latents."""
        encoder: Encoder = self.attributes["encoder_"]
        return encoder


def side_by_side(histories: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return one record per epoch, with a number per model; NaN once it has stopped."""
    longest = max(histories, key=len)
    return [
        {
            name: value
            if name in ("epoch", "learning_rate")
            else [h[i][name] if i < len(h) else float("nan") for h in histories]
            for name, value in record.items()
        }
        for i, record in enumerate(longest)
    ]


def model_seeds(seed: int, n_models: int, n_fits: int = 0) -> list[int]:
    """Return a seed for each model; it does not depend on the number of models."""
    return [
        int(np.random.SeedSequence([seed, n_fits, m]).generate_state(1, np.uint64)[0])
        for m in range(n_models)
    ]


def too_few_rows(n_train: int, fewest: int, n_samples: int) -> ValueError:
    """Return the error of a later fit whose moments would spoil the network."""
    return ValueError(
        f"partial_fit needs {fewest} rows to train on; got {n_train} "
        f"(n_samples={n_samples}). The moments of fewer would spoil its batch "
        "normalisation. Add rows."
    )
