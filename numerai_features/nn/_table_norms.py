"""Batch normalisations of a table's columns, as factors and shifts.

The table stays as it is: they are folded into the matrix that multiplies the rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from numerai_features.nn._batches import Table
from numerai_features.nn._layers import Norm
from numerai_features.nn._passes import moments_of, sums_of
from numerai_features.nn._products import in_float32


class TableNorm(Norm):
    """Batch normalisation of the table's columns.

    It returns a factor and a shift for each column: ``norm(x) = x * factor + shift``.
    """

    # In units of the table's variance. Without this bound, a column that hardly varies
    # in training batches, such as one missing in early eras, would become huge where it
    # varies.
    least_variance = 0.01
    center: Tensor  # (F,), of the whole table
    scale: Tensor
    varies: Tensor  # 0 for a constant column

    def __init__(self, table: Table) -> None:
        super().__init__(table.n_features)
        for name in ("center", "scale", "varies"):
            own = getattr(table, name).clone()
            self.register_buffer(name, own, persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the factor, the shift and the variance of the columns, each (F,)."""
        mean, variance = self.mean, self.variance
        if self.training:
            mean, variance = self._moments(x)
            self._remember(mean, variance)
        factor = self.gamma * (self._inverse(variance) / self.scale)
        shift = self.beta - factor * (self.center + self.scale * mean)
        return factor, shift, variance.clamp(min=self.least_variance)

    def _inverse(self, variance: Tensor) -> Tensor:
        return super()._inverse(variance.clamp(min=self.least_variance)) * self.varies

    @torch.no_grad()
    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the batch's means and variances, in units of the table's."""

        def terms(rows: slice) -> tuple[Tensor, Tensor]:
            gaps = x[rows].float() - self.center
            return gaps, gaps * gaps

        with in_float32(x):
            sums = sums_of(x, terms)
        mean, variance, _ = moments_of(sums)
        return mean / self.scale, variance / self.scale.square()


class TableNormAgain(Norm):
    """Second batch normalisation, of columns that `TableNorm` has normalised."""

    def forward(
        self, first: TableNorm, factor: Tensor, shift: Tensor, variance: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the factor and the shift of both normalisations together, each (F,).

        In training, the batch mean of a normalised column is its beta, and the batch
        variance is ``gamma^2 v / (v + eps)``.
        """
        mean, spread = self.mean, self.variance
        if self.training:
            mean = first.beta
            spread = first.gamma.square() * (variance / (variance + self.eps))
            self._remember(mean, spread)
        inverse = self.gamma * self._inverse(spread)
        return factor * inverse, (shift - mean) * inverse + self.beta
