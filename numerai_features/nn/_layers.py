"""Layers for ``n_models`` models of one shape, computed at once.

Every parameter and buffer has the models as its first axis, so that an optimiser step,
a copy of the best weights or an average is that of each model alone. Shapes in
comments: M models, B rows, n units.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from numerai_features.nn._draws import INITIAL, Draws, torch_generator
from numerai_features.nn._parallel import sum_over_processes
from numerai_features.nn._products import table_product

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda x: x,
    "relu": F.relu,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "tanh": torch.tanh,
}


class StackedLinear(nn.Module):
    """``x @ weight + bias`` for each model.

    Parameters
    ----------
    seeds : sequence of int
        One a model.
    name : int
        Tells this layer's initial weights from another's.
    n_in, n_out : int
        Units.
    bias : bool, default=True
    dtype : torch.dtype, default=torch.float32
        What the product is made in; parameters and results are float32.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        name: int,
        n_in: int,
        n_out: int,
        *,
        bias: bool = True,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        bound = 1 / math.sqrt(n_in)
        weight = torch.empty(len(seeds), n_in, n_out)
        for model, seed in enumerate(seeds):
            generator = torch_generator(torch.device("cpu"), seed, INITIAL, name)
            weight[model].uniform_(-bound, bound, generator=generator)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(len(seeds), n_out)) if bias else None
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        """Map (M, B, n_in) to (M, B, n_out)."""
        y = torch.bmm(x.to(self.dtype), self.weight.to(self.dtype)).float()
        return y if self.bias is None else y.add_(self.bias[:, None])


class Standardized(nn.Module):
    """The first layer: rows are standardised by way of its weights.

    ``((x - center) / scale) @ weight``, computed as ``x @ (weight / scale)`` less a
    row: the table stays as it is, bins or floats.
    """

    def __init__(self, linear: StackedLinear, center: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.linear = linear
        n_models = linear.weight.shape[0]
        self.register_buffer("center", center.expand(n_models, -1).clone())
        self.register_buffer("scale", scale.expand(n_models, -1).clone())

    center: Tensor  # (M, F)
    scale: Tensor  # (M, F)

    def forward(self, x: Tensor) -> Tensor:
        """Map (M, B, F) to (M, B, n_out)."""
        linear = self.linear
        # Rounded before both products, or what is taken off would not be what is in.
        weight = (linear.weight / self.scale[..., None]).to(linear.dtype).float()
        y = table_product(x, weight, linear.dtype)
        y = y.sub_(torch.bmm(self.center[:, None], weight))
        return y if linear.bias is None else y.add_(linear.bias[:, None])


class _Normalize(torch.autograd.Function):
    """Batch normalisation over the rows of all processes.

    Sums over rows are products with a row of ones: half the time of torch's own.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        ones = x.new_ones(1, 1, x.shape[1]).expand(x.shape[0], -1, -1)  # (M, 1, B)
        sums = torch.cat([torch.bmm(ones, x), torch.bmm(ones, x * x)], dim=1)
        sums = torch.cat([sums, torch.full_like(sums[:, :1], x.shape[1])], dim=1)
        sums = sum_over_processes(sums)
        n = sums[:, 2:]  # (M, 1, n)
        mean = sums[:, :1] / n
        variance = (sums[:, 1:2] / n - mean * mean).clamp_(min=0)
        inverse = torch.rsqrt(variance + eps)
        scale = gamma[:, None] * inverse
        ctx.save_for_backward(x, mean, inverse, scale, n)
        y = torch.addcmul(beta[:, None] - mean * scale, x, scale)
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    def backward(ctx: Any, dy: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, mean, inverse, scale, n = ctx.saved_tensors
        ones = dy.new_ones(1, 1, dy.shape[1]).expand(dy.shape[0], -1, -1)
        own = torch.cat([torch.bmm(ones, dy), torch.bmm(ones, dy * x)], dim=1)
        sums = sum_over_processes(own.clone())
        dgamma = (sums[:, 1:] - mean * sums[:, :1]) * inverse
        slope = -scale * inverse * dgamma / n
        constant = -scale * sums[:, :1] / n - slope * mean
        dx = torch.addcmul(constant, x, slope).addcmul_(dy, scale)
        # Parameters' gradients are summed over processes with all others.
        dgamma = (own[:, 1] - mean[:, 0] * own[:, 0]) * inverse[:, 0]
        return dx, dgamma, own[:, 0], None


class Norm(nn.Module):
    """What batch normalisations have in common: parameters, and running moments."""

    eps = 1e-5
    momentum = 0.1
    mean: Tensor  # (M, n)
    variance: Tensor  # (M, n)

    def __init__(self, n_models: int, n: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(n_models, n))
        self.beta = nn.Parameter(torch.zeros(n_models, n))
        self.register_buffer("mean", torch.zeros(n_models, n))
        self.register_buffer("variance", torch.ones(n_models, n))

    def affine(self) -> tuple[Tensor, Tensor]:
        """Return the factor and the shift, each (M, n), that it is after training."""
        scale = self.gamma * self._inverse(self.variance)
        return scale, self.beta - self.mean * scale

    def _inverse(self, variance: Tensor) -> Tensor:
        return torch.rsqrt(variance + self.eps)


class BatchNorm(Norm):
    """Batch normalisation: by the batch's moments in training, then by running ones."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (M, B, n) to the same."""
        if not self.training:
            scale, shift = self.affine()
            return torch.addcmul(shift[:, None], x, scale[:, None])
        y, mean, variance = _Normalize.apply(x, self.gamma, self.beta, self.eps)  # type: ignore[no-untyped-call]
        self.mean.lerp_(mean[:, 0], self.momentum)
        self.variance.lerp_(variance[:, 0], self.momentum)
        return y  # type: ignore[no-any-return]


class Dropout(nn.Module):
    """Zero cells with probability `share`; those that stay grow by 1 / (1 - share)."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor, draws: Draws | None) -> Tensor:
        """Map (M, B, n) to the same; without `draws`, or not in training, as it is."""
        if not self.training or draws is None or not self.share:
            return x
        kept = draws.chosen(1 - self.share, x.shape[2], torch.float32)
        return x * kept.mul_(1 / (1 - self.share))


class Block(nn.Module):
    """Linear layer, batch normalisation, activation, dropout."""

    def __init__(
        self,
        linear: StackedLinear | Standardized,
        activation: str,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        inner = linear.linear if isinstance(linear, Standardized) else linear
        n_models, _, n_out = inner.weight.shape
        self.linear = linear
        self.norm = BatchNorm(n_models, n_out)
        self.activation = activation
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, draws: Draws | None = None) -> Tensor:
        """Map (M, B, n_in) to (M, B, n_out)."""
        y = ACTIVATIONS[self.activation](self.norm(self.linear(x)))
        dropped: Tensor = self.dropout(y, draws)
        return dropped
