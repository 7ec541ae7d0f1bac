"""Passes over a whole batch, shared out in blocks of rows among threads.

They replace the several torch operations of a layer, for each of which torch would wake
its own threads. A block stays in the cache from one operation to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from numerai_features.nn._parallel import sum_over_processes
from numerai_features.nn._threads import cut, each, empty, shares_out

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


_CHOOSING = ("identity", "relu")  # the gradient is the output's, or zero


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
    block. All is computed in float32, whatever the type of the tables.
    """

    @staticmethod
    def forward(
        x: Tensor,
        less: Tensor | None,
        gamma: Tensor,
        beta: Tensor,
        eps: float,
        activation: str,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        def terms(rows: slice) -> tuple[Tensor, Tensor]:
            part = x[rows].float()
            part = part if less is None else part - less
            return part, part * part

        sums = sums_of(x, terms)
        mean, variance, n = moments_of(sums)
        scale = gamma * torch.rsqrt(variance + eps)
        shift = beta - _plus(mean, less) * scale
        y = empty(tuple(x.shape), dtype)
        act = _ACTIVATIONS[activation][0]

        def fill(rows: slice) -> None:
            with _written(y, rows) as z:
                torch.addcmul(shift, x[rows].float(), scale, out=z)
                act(z)

        each(fill, blocks_of(x))
        return y, mean, variance, n.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, less, gamma, beta, ctx.eps, ctx.activation, _ = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(x, less, gamma, beta, *output[1:])

    @staticmethod
    def backward(ctx: Any, dy: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, less, gamma, beta, mean, variance, n = ctx.saved_tensors
        inverse = torch.rsqrt(variance + ctx.eps)
        scale, mean = gamma * inverse, _plus(mean, less)
        shift = beta - mean * scale
        dx = empty(tuple(x.shape), x.dtype)
        slopes = _ACTIVATIONS[ctx.activation][1]
        whole = dx.dtype == torch.float32
        # Whether the activation's gradient can wait in dx: it may not be rounded twice.
        keeps = whole or (dy.dtype == dx.dtype and ctx.activation in _CHOOSING)

        def set_gradient(part: Tensor, rows: slice, out: Tensor) -> None:
            slopes(dy[rows].float(), torch.addcmul(shift, part, scale), out)

        def terms(rows: slice) -> tuple[Tensor, Tensor]:
            part = x[rows].float()
            own = dx[rows] if whole else torch.empty_like(part)
            set_gradient(part, rows, own)
            if keeps and not whole:
                dx[rows] = own
            return own, own * part

        own = sums_of(x, terms)[:2]
        slope, constant, dgamma = norm_gradients(own, mean, inverse, scale, n)

        def fill(rows: slice) -> None:
            part = x[rows].float()
            with _written(dx, rows) as own:
                if not keeps:
                    set_gradient(part, rows, own)
                elif not whole:
                    own.copy_(dx[rows])
                own.mul_(scale).addcmul_(part, slope).add_(constant)

        each(fill, blocks_of(x))
        return dx, None, dgamma, own[0], None, None, None


def _plus(mean: Tensor, less: Tensor | None) -> Tensor:
    """Return the mean of what nothing is subtracted from."""
    return mean if less is None else mean + less


@contextmanager
def _written(table: Tensor, rows: slice) -> Iterator[Tensor]:
    """Give a float32 table for some rows, and write it to them at the end."""
    part = table[rows]
    out = part if part.dtype == torch.float32 else torch.empty(part.shape)
    yield out
    if out is not part:
        part.copy_(out)


def normalize_and_activate(
    x: Tensor,
    less: Tensor | None,
    gamma: Tensor,
    beta: Tensor,
    eps: float,
    activation: str,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``act(norm(x))``, and the means and variances of the batch's columns.

    Parameters
    ----------
    x : Tensor of shape (B, n), float32 or bfloat16
    less : Tensor of shape (n,) or None
        Subtracted from x; it gets no gradient, which is zero.
    gamma, beta : Tensor of shape (n,)
    eps : float
        Added to the variances.
    activation : str
        A name of `ACTIVATIONS`.
    dtype : torch.dtype
        Type of the result.
    """
    y, mean, variance, _ = _NormalizeAndActivate.apply(  # type: ignore[no-untyped-call]
        x.contiguous(), less, gamma, beta, eps, activation, dtype
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
    y = empty(tuple(x.shape), x.dtype)
    each(lambda rows: torch.mul(x[rows], factors[rows], out=y[rows]), blocks_of(x))
    return y


def cell_by_cell(x: Tensor, factors: Tensor) -> Tensor:
    """Return ``x * factors``, both (B, n); the factors get no gradient."""
    if not shares_out(x):
        return x * factors
    y: Tensor = _Times.apply(x, factors)  # type: ignore[no-untyped-call]
    return y
