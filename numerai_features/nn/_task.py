"""What a network is trained to do."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Task(nn.Module):
    """A module that maps a batch to its loss, and is judged by rows held out.

    A leaf needs `forward` alone, which returns the mean loss of a `Batch`'s rows; where
    several processes share each batch, they return parts that add up to it. It is
    judged in evaluation mode and in float32, by the mean loss of the rows held out;
    judged by more, it overrides `evaluate` and `metrics`.

    Attributes
    ----------
    falling : frozenset of str
        Which of its metrics fall as the network learns; of all others more is better.
    judges_eras : bool
        Whether each batch to evaluate must be a whole era.
    needs_squares : bool
        Whether it asks batches for the sums of squares of their rows.
    """

    falling = frozenset({"loss"})
    judges_eras = False
    needs_squares = False

    @torch.no_grad()
    def evaluate(self, batch: Any) -> dict[str, Tensor]:
        """Return sums over a batch held out, which are added over batches."""
        loss = self(batch)
        rows = getattr(batch, "total", torch.ones_like(loss))
        return {"loss": loss * rows, "rows": rows}

    def metrics(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return metrics from the sums over all batches."""
        return {"loss": sums["loss"] / sums["rows"]}
