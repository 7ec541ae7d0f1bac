"""Contrastive network: two views of one row are alike, those of other rows are not."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from numerai_features.encoders import Encoder
from numerai_features.nn._batches import Batch, Table
from numerai_features.nn._layers import Block, Linear, Standardized, Steps, Units
from numerai_features.nn._losses import gathered, squared_error
from numerai_features.nn._noise import resample
from numerai_features.nn._parallel import sum_over_processes
from numerai_features.nn._products import in_float32, product
from numerai_features.nn._task import Task

_TINY = 1e-12
_RESTORED = 2.0  # weight of VIME's restored cells beside its mask, as published


class ContrastiveNetwork(nn.Module):
    """Encoder F - hidden - code, and a projection head that is trained with it.

    Batch normalisation follows every layer of the encoder, and the head's first one.

    Parameters
    ----------
    table : Table
        Table with the number of features and their means and standard deviations.
    hidden : sequence of int
        Units of the layers before the code.
    n_components : int
        Units of the code, which has no activation.
    activation : str
        A name of `ACTIVATIONS`.
    head_units : int
        Units of both layers of the head.
    vime : bool
        Whether two further heads restore the cells, and tell which were changed.
    """

    def __init__(
        self,
        table: Table,
        hidden: Sequence[int],
        n_components: int,
        activation: str,
        head_units: int,
        vime: bool,
    ) -> None:
        super().__init__()
        n_features = table.n_features
        widths = [n_features, *hidden, n_components, head_units]
        blocks = []
        for i, (n_in, n_out) in enumerate(pairwise(widths)):
            linear: Any = Linear(n_in, n_out, bias=False)
            if i == 0:
                linear = Standardized(linear, table.center, table.scale)
            name = "identity" if i == len(hidden) else activation
            blocks.append(Block(linear, name))
        for block in blocks[:-1]:
            if block.activation == "identity":
                # The next normalisation removes this shift, see `Autoencoder`.
                block.norm.beta.requires_grad_(False)
        self.encoder: Any = nn.ModuleList(blocks[:-1])
        self.head = blocks[-1]
        self.projection = Linear(head_units, head_units)
        self.mask_output: Any = Linear(n_components, n_features) if vime else None
        self.output: Any = Linear(n_components, n_features) if vime else None

    @property
    def first(self) -> Standardized:
        """The first layer, which holds the columns' means and deviations."""
        layer = self.encoder[0].linear
        assert isinstance(layer, Standardized)
        return layer

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map rows of the table, (B, F), to codes and to projections of length 1."""
        for block in self.encoder:
            x = block(x)
        return x, F.normalize(self.projection(self.head(x)), dim=1)

    def code(self, units: Units, dtype: Any) -> Encoder:
        """Return the encoder from unstandardised rows to the code.

        Parameters
        ----------
        units : tuple of ndarray
            Mean and scale that standardise the columns.
        dtype : numpy dtype
            Type of the arrays.
        """
        steps: Steps = []
        for i, block in enumerate(self.encoder):
            steps += block.steps(f"layer{i}", dtype, units if i == 0 else None)
        return Encoder(steps)


class Contrasting(Task):
    r"""The task of telling which view is of the same row (InfoNCE).

    With a row's projection :math:`a_i`, and :math:`b_j` that of row j's view, of which
    some cells are replaced by draws from their column, the loss of row i is
    :math:`-\log(e^{a_i b_i / \tau} / \sum_j e^{a_i b_j / \tau})`.

    Parameters
    ----------
    network : ContrastiveNetwork
    share : float
        Probability that a cell of a view is replaced.
    quantiles : Tensor of shape (256, n_features)
        Quantiles of the columns, in the type of the table's rows.
    temperature : float
    middle : Tensor of shape (n_features,)
        The values that replace NaN, on the table's scale.
    varies : Tensor of shape (n_features,)
        0 for constant columns.
    vime_weight : float, default=0.0
        Weight of the further heads' losses.
    by_era : bool, default=False
        Whether the other rows are those of the row's era alone; then each batch to
        evaluate is an era.
    has_missing : bool, default=False
        Whether the table holds NaN.
    """

    falling = frozenset({"loss", "contrast", "mask", "restored"})
    quantiles: Tensor
    varies: Tensor

    def __init__(
        self,
        network: ContrastiveNetwork,
        share: float,
        quantiles: Tensor,
        temperature: float,
        middle: Tensor,
        varies: Tensor,
        vime_weight: float = 0.0,
        by_era: bool = False,
        has_missing: bool = False,
    ) -> None:
        super().__init__()
        self.network, self.share, self.temperature = network, share, temperature
        self.middle, self.has_missing = middle, has_missing
        self.vime_weight, self.judges_eras = vime_weight, by_era
        self.n_varying = max(1.0, float(varies.sum()))
        self.register_buffer("varies", varies.clone(), persistent=False)
        self.register_buffer("quantiles", quantiles, persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        """Return the loss of this process's rows, divided by the weight of all rows."""
        return self._loss(self._sums(batch))

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """Return sums over rows; `metrics` takes their totals over batches."""
        return self._sums(batch)

    def metrics(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss, its parts, and the share of rows whose view is nearest."""
        means = {k: v / sums["rows"] for k, v in sums.items() if k != "rows"}
        return {"loss": self._loss(sums), **means}

    def _loss(self, sums: dict[str, Tensor]) -> Tensor:
        loss = sums["contrast"]
        if "mask" in sums:
            vime = sums["mask"] + _RESTORED * sums["restored"]
            loss = loss + self.vime_weight * vime
        return loss / sums["rows"]

    def _sums(self, batch: Batch) -> dict[str, Tensor]:
        x, known = batch.x, self.varies
        if self.has_missing:
            known = known * ~x.isnan()
            x = torch.where(x.isnan(), self.middle.to(x), x)
        view = resample(x, self.share, self.quantiles, batch.draws)
        # Both at once: the moments of normalisations are of rows and views.
        codes, projections = self.network(torch.cat([x, view]))
        a, b = projections[: len(x)], projections[len(x) :]
        w = torch.ones_like(a[:, 0]) if batch.weight is None else batch.weight
        losses, hits, n_others = self._contrast(batch, a, b)
        rows = batch.total
        if self.judges_eras:  # a row that is alone in its era is compared with none
            w = w * (n_others > 0)
            rows = w.sum()
            if self.training:  # each process evaluates whole batches
                rows = sum_over_processes(rows.clone())
            rows = rows.clamp(min=_TINY)
        sums = {"rows": rows, "contrast": (losses * w).sum()}
        sums["accuracy"] = (hits * w).sum()
        if self.network.output is not None:
            own = codes[len(x) :]
            weights = known * w[:, None] / self.n_varying
            t = self.network.first.standardize(x)
            sums["restored"] = squared_error(self.network.output(own), t, weights)
            sums["mask"] = F.binary_cross_entropy_with_logits(
                self.network.mask_output(own), (view != x).float(), weights,
                reduction="sum",
            )  # fmt: skip
        return sums

    def _contrast(
        self, batch: Batch, a: Tensor, b: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return each row's loss, whether its own view is nearest, and of how many."""
        every = b
        if self.training:  # each process evaluates whole batches
            every = gathered(b, batch.n_rows, batch.draws.own)
        with in_float32(a):
            near = product(a, every.T) / self.temperature
        same = batch.same_era if self.judges_eras else None
        n_others = torch.full_like(a[:, 0], near.shape[1] - 1)
        if same is not None:
            near = near.masked_fill(~same, float("-inf"))
            n_others = same.sum(1) - 1
        place = batch.draws.own.start + torch.arange(len(a), device=a.device)
        # As it is rounded in the product: the loss is never below zero.
        own = near.gather(1, place[:, None])[:, 0]
        hits = (near.argmax(1) == place).float()
        return near.logsumexp(1) - own, hits, n_others
