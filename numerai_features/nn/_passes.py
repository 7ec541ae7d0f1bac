"""Passes over a whole batch, shared out in blocks of rows among threads.

They replace the several torch operations of a layer, for each of which torch would wake
its own threads. A block stays in the cache from one operation to the next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from numerai_features.nn._parallel import sum_over_processes
from numerai_features.nn._threads import cut, each, shares_out

_CELLS = 1 << 17  # of a block
_FEWEST = 32  # rows

Slopes = Callable[[Tensor, Tensor, Tensor], object]


def _sigmoid_slopes(dy: Tensor, z: Tensor, out: Tensor) -> None:
    torch.ops.aten.sigmoid_backward.grad_input(dy, z.sigmoid_(), grad_input=out)


def _tanh_slopes(dy: Tensor, z: Tensor, out: Tensor) -> None:
    torch.ops.aten.tanh_backward.grad_input(dy, z.tanh_(), grad_input=out)


def _silu_slopes(dy: Tensor, z: Tensor, out: Tensor) -> None:
    torch.ops.aten.silu_backward.grad_input(dy, z, grad_input=out)


def _hardswish_slopes(dy: Tensor, z: Tensor, out: Tensor) -> None:
    torch.ops.aten.hardswish_backward.out(dy, z, out=out)


def _relu_slopes(dy: Tensor, z: Tensor, out: Tensor) -> None:
    torch.ops.aten.threshold_backward.grad_input(dy, z, 0, grad_input=out)


# The activation of a block in place, and its gradient, written to `out`.
_ACTIVATIONS: dict[str, tuple[Callable[[Tensor], object], Slopes]] = {
    "hardswish": (lambda z: F.hardswish(z, inplace=True), _hardswish_slopes),
    "identity": (lambda z: z, lambda dy, z, out: out.copy_(dy)),
    "relu": (torch.relu_, _relu_slopes),
    "sigmoid": (torch.sigmoid_, _sigmoid_slopes),
    "silu": (lambda z: F.silu(z, inplace=True), _silu_slopes),
    "tanh": (torch.tanh_, _tanh_slopes),
}


def blocks_of(x: Any) -> list[slice]:
    """Return blocks of rows of a table or a batch, (B, n)."""
    return cut(x.shape[0], x.shape[0] * x.shape[1] // _CELLS, _FEWEST)


def sums_of(x: Tensor, terms: Callable[[slice], tuple[Tensor, Tensor]]) -> Tensor:
    """Return sums over rows of two terms computed per block, and the row count.

    Parameters
    ----------
    x : Tensor of shape (B, n)
        Batch that is cut into blocks.
    terms : callable
        Returns two tables for a block of rows.

    Returns
    -------
    Tensor of shape (3, n)
    """
    if not shares_out(x):
        a, b = terms(slice(None))
        ones = a.new_ones(1, len(a))
        return torch.cat([ones @ a, ones @ b, ones.sum().expand(1, a.shape[1])])
    blocks = blocks_of(x)
    parts = torch.empty(len(blocks), 3, x.shape[1])

    def add(i: int) -> None:
        ones = torch.ones(1, blocks[i].stop - blocks[i].start)
        for j, term in enumerate(terms(blocks[i])):
            torch.mm(ones, term, out=parts[i, j : j + 1])
        parts[i, 2] = ones.shape[1]

    each(add, range(len(blocks)))
    return parts.sum(0)


def moments_of(sums: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return means, variances and the count of the rows of all processes, each (n,).

    Parameters
    ----------
    sums : Tensor of shape (3, n)
        Sums of this process's rows, of their squares, and of ones.
    """
    total, squares, n = sum_over_processes(sums)
    mean = total / n
    return mean, (squares / n - mean * mean).clamp(min=0), n


def norm_gradients(
    own: Tensor, mean: Tensor, inverse: Tensor, scale: Tensor, n: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the coefficients of batch normalisation's gradients, each (n,).

    Parameters
    ----------
    own : Tensor of shape (2, n)
        Sums over this process's rows of the output's gradient, and of that gradient
        times x.
    mean, inverse, scale, n : Tensor of shape (n,)
        The batch's means, inverse deviations, inverse deviations times gamma, and
        number of rows.

    Returns
    -------
    slope, constant : Tensor of shape (n,)
        The gradient of x is ``slope * x + constant`` plus ``scale`` times the output's
        gradient.
    dgamma : Tensor of shape (n,)
        This process's part; parameter gradients are summed over processes later.
    """
    total, products = sum_over_processes(own.clone())
    dgamma = (products - mean * total) * inverse
    slope = -scale * inverse * dgamma / n
    constant = -scale * total / n - slope * mean
    return slope, constant, (own[1] - mean * own[0]) * inverse


class _NormalizeAndActivate(torch.autograd.Function):
    """Batch normalisation over the rows of all processes, with the activation after it.

    The normalised batch is not kept: the backward pass computes it again, block by
    block.
    """

    @staticmethod
    def forward(
        x: Tensor, gamma: Tensor, beta: Tensor, eps: float, activation: str
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        sums = sums_of(x, lambda rows: (x[rows], x[rows] * x[rows]))
        mean, variance, n = moments_of(sums)
        scale = gamma * torch.rsqrt(variance + eps)
        shift = beta - mean * scale
        y = torch.empty_like(x)
        act = _ACTIVATIONS[activation][0]

        def fill(rows: slice) -> None:
            torch.addcmul(shift, x[rows], scale, out=y[rows])
            act(y[rows])

        each(fill, blocks_of(x))
        return y, mean, variance, n.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, gamma, beta, ctx.eps, ctx.activation = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(x, gamma, beta, *output[1:])

    @staticmethod
    def backward(ctx: Any, dy: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, gamma, beta, mean, variance, n = ctx.saved_tensors
        inverse = torch.rsqrt(variance + ctx.eps)
        scale = gamma * inverse
        shift = beta - mean * scale
        dx = torch.empty_like(x)
        slopes = _ACTIVATIONS[ctx.activation][1]

        def terms(rows: slice) -> tuple[Tensor, Tensor]:
            slopes(dy[rows], torch.addcmul(shift, x[rows], scale), dx[rows])
            return dx[rows], dx[rows] * x[rows]

        own = sums_of(x, terms)[:2]
        slope, constant, dgamma = norm_gradients(own, mean, inverse, scale, n)

        def fill(rows: slice) -> None:
            dx[rows].mul_(scale).addcmul_(x[rows], slope).add_(constant)

        each(fill, blocks_of(x))
        return dx, dgamma, own[0], None, None


def normalize_and_activate(
    x: Tensor, gamma: Tensor, beta: Tensor, eps: float, activation: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``act(norm(x))``, and the means and variances of the batch's columns.

    Parameters
    ----------
    x : Tensor of shape (B, n), float32
    gamma, beta : Tensor of shape (n,)
    eps : float
        Added to the variances.
    activation : str
        A name of `ACTIVATIONS`.
    """
    y, mean, variance, _ = _NormalizeAndActivate.apply(  # type: ignore[no-untyped-call]
        x.contiguous(), gamma, beta, eps, activation
    )
    return y, mean, variance


class _Times(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, factors: Tensor) -> Tensor:
        return _times(x, factors)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
        return _times(dy, ctx.saved_tensors[0]), None


def _times(x: Tensor, factors: Tensor) -> Tensor:
    y = torch.empty_like(x)
    each(lambda rows: torch.mul(x[rows], factors[rows], out=y[rows]), blocks_of(x))
    return y


def cell_by_cell(x: Tensor, factors: Tensor) -> Tensor:
    """Return ``x * factors``, both (B, n); the factors get no gradient."""
    if not shares_out(x):
        return x * factors
    y: Tensor = _Times.apply(x, factors)  # type: ignore[no-untyped-call]
    return y
