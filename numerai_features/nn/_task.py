"""Base class of training tasks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Task(nn.Module):
    """A module that maps a batch to its loss and is evaluated on held-out rows.

    A subclass needs only `forward`, which returns the mean loss of a `Batch`'s rows;
    where several processes share each batch, they return parts that sum to it.
    Evaluation takes the mean loss of the held-out rows, in evaluation mode and in
    float32. A subclass with more metrics overrides `evaluate` and `metrics`.

    Attributes
    ----------
    falling : frozenset of str
        Metrics to minimise; all others are maximised.
    judges_eras : bool
        Whether each batch to evaluate must be a whole era.
    needs_squares : bool
        Whether the task uses the sums of squares of the batch's rows.
    """

    falling = frozenset({"loss"})
    judges_eras = False
    needs_squares = False

    @torch.no_grad()
    def evaluate(self, batch: Any) -> dict[str, Tensor]:
        """Return sums over a held-out batch; they are added over batches."""
        loss = self(batch)
        rows = getattr(batch, "total", torch.ones_like(loss))
        return {"loss": loss * rows, "rows": rows}

    def metrics(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return metrics from the sums over all batches."""
        return {"loss": sums["loss"] / sums["rows"]}
