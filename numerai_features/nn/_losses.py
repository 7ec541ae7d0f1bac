"""Reconstruction and prediction losses, and CORR of an era.

Names: B rows, F features, k units below the output, T targets; x the stored table,
t = (x - center) / scale the standardised target, r = h @ weight.T + bias the
reconstruction, w one weight per row.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from numerai_features.nn._parallel import n_processes, sum_over_processes
from numerai_features.nn._products import (
    in_float32,
    product_dtype,
    ready,
    table_times,
    table_transposed_times,
    times,
)

_TINY = 1e-12
_ROUNDING = 1e-6  # of a float32 mean over rows: a deviation as small is none


class _LinearSquaredError(torch.autograd.Function):
    """Squared error of a linear output, without computing the output.

    With V the weight, b the bias::

        sum_ij w_i (r - t)_ij^2 = sum_i w_i h_i' (V'V) h_i + 2 w_i h_i' (V'b)
                                - 2 w_i h_i' (V't_i) - 2 w_i t_i'b + w_i b'b
                                + w_i t_i't_i

    needs x in two products only, ``x @ V`` and ``x.T @ h``, which also give its
    gradients: three products of B x F x k become two, and no table of B x F is written.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        h: Tensor,  # (B, k)
        weight: Tensor,  # (F, k)
        bias: Tensor,  # (F,)
        x: Tensor,  # (B, F)
        center: Tensor,  # (F,)
        scale: Tensor,  # (F,)
        w: Tensor | None,  # (B,)
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rows = h.new_ones(len(h)) if w is None else w
        hw = h if w is None else h * w[:, None]  # (B, k)
        total = rows.sum()
        matrix = (weight / scale[:, None]).to(dtype).float()  # (F, k)
        # V'(b - t) is u - q, where q, (B, k), comes from the part x / scale of t.
        q = table_times(x, matrix)
        u = bias @ weight + center @ matrix  # (k,)
        s = rows @ h  # sum of w h, (k,)
        loss = s @ u - _dot(hw, q)
        dh = times(h, times(weight.T, weight)).add_(u - q)  # V'(r - t)
        loss = loss + _dot(hw, dh)
        dh = dh if w is None else dh.mul_(w[:, None])
        # x'h and the sum of w x, (F, k + 1)
        sums = table_transposed_times(x, torch.cat([hw, rows[:, None]], 1))
        t = (sums[:, -1] - total * center) / scale  # sum of w t, (F,)
        loss = loss + total * (bias @ bias) - 2 * (t @ bias)
        hx = torch.addr(sums[:, :-1], center, s, alpha=-1) / scale[:, None]  # (F, k)
        dweight = times(weight, times(hw.T, h)).sub_(hx)
        dweight = dweight.add_(torch.outer(bias, s))
        dbias = weight @ s + total * bias - t
        return loss, dh, dweight, dbias

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*output[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        dh, dweight, dbias = (2 * grad * part for part in ctx.saved_tensors)
        return dh, dweight, dbias, None, None, None, None, None


def linear_squared_error(
    h: Tensor,
    weight: Tensor,
    bias: Tensor,
    x: Tensor,
    center: Tensor,
    scale: Tensor,
    w: Tensor | None = None,
) -> Tensor:
    """Return the sum of squared errors of a linear output, up to a constant.

    The constant left out is the sum of the squared targets; no gradient depends on it.

    Parameters
    ----------
    h : Tensor of shape (B, k)
        Input of the output layer ``h @ weight.T + bias``.
    weight, bias : Tensor of shape (F, k) and (F,)
    x : Tensor of shape (B, F)
        The table, bytes or floats.
    center, scale : Tensor of shape (F,)
        The target is ``(x - center) / scale``.
    w : Tensor of shape (B,), default=None
        Weights of the rows.

    Returns
    -------
    Tensor, float32
    """
    dtype = product_dtype(x.device)
    with in_float32(x):
        loss, *_ = _LinearSquaredError.apply(  # type: ignore[no-untyped-call]
            h, weight, bias, ready(x.detach(), dtype), center, scale, w, dtype
        )
    return loss  # type: ignore[no-any-return]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the sum of a * b in one pass."""
    return a.reshape(-1) @ b.reshape(-1)


class _SquaredError(torch.autograd.Function):
    """Weighted squared error that computes its gradient in the same buffer."""

    generate_vmap_rule = True

    @staticmethod
    def forward(r: Tensor, t: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        gap = r - t
        grad = gap if weights is None else gap * weights
        return (grad * gap).sum(), grad

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor, None, None]:
        (gap,) = ctx.saved_tensors
        return gap * (2 * grad), None, None


def squared_error(r: Tensor, t: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the sum over rows and features of weighted squared errors.

    Parameters
    ----------
    r, t : Tensor of shape (B, F)
        Reconstruction and target.
    weights : Tensor broadcasting to (B, F), default=None
    """
    loss, _ = _SquaredError.apply(r, t, weights)  # type: ignore[no-untyped-call]
    return loss  # type: ignore[no-any-return]


def target_loss(
    kind: str,
    p: Tensor,
    y: Tensor,
    w: Tensor | None,
    members: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return a loss of predictions as a sum, and its divisor.

    Add both over batches, or over processes in one step, before dividing.

    Parameters
    ----------
    kind : {"mse", "mae", "bce", "corr", "numerai_corr"}
        "mse", "mae": squared and absolute error. "bce": cross-entropy of
        ``sigmoid(p)``, for targets in [0, 1]. "corr": one minus the mean over targets
        of the correlation within an era. "numerai_corr": the same, after the deviations
        of p and y from their means are raised to the power of 1.5, as in Numerai's CORR
        (which also makes the ranks of predictions normal).
    p, y : Tensor of shape (B, T)
        Predictions and targets; NaN in y are ignored.
    w : Tensor of shape (B,) or None
        Weights of the rows.
    members : Tensor of shape (n_eras, B), float64, default=None
        For correlations: 1 where a row belongs to an era, else 0. The loss is the sum
        over eras, each times the mean weight of its rows; the divisor is the sum of
        these weights. An era in which no target tells anything is left out of both.
        None: all rows are one era, which always counts.

    Returns
    -------
    value, count : Tensor
    """
    known = ~y.isnan()
    weights = known.float() if w is None else known * w[:, None]
    y = y.nan_to_num(0.0)
    if kind == "mse":
        errors = (p - y).square()
    elif kind == "mae":
        errors = (p - y).abs()
    elif kind == "bce":
        errors = F.binary_cross_entropy_with_logits(p, y, reduction="none")
    else:
        power = 1.5 if kind == "numerai_corr" else 1.0
        r, tells = _correlations(p, y, weights, power, members)
        loss = 1 - (r * tells).sum(-1) / tells.sum(-1).clamp(min=1)
        told = torch.ones_like(loss)
        if members is not None:
            told = tells.amax(-1) * _weights_of_eras(w, members)
        return _shared((loss * told).sum(), told.sum().detach())
    return (errors * weights).sum(), weights.sum()


def squared_correlation(
    p: Tensor, other: Tensor, w: Tensor | None, members: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the squared correlation with another column within eras, and the divisor.

    It is the mean over targets, summed over the eras in which the column has two values
    at least. Each is multiplied by the mean weight of its rows; the divisor is the sum
    of these weights.

    Parameters
    ----------
    p : Tensor of shape (B, T)
        Predictions of the targets.
    other : Tensor of shape (B,)
        The column; rows where it is NaN are ignored.
    w : Tensor of shape (B,) or None
        Weights of the rows.
    members : Tensor of shape (n_eras, B)
        As in `target_loss`.
    """
    other = other[:, None]
    known = ~other.isnan()
    weights = known.float() if w is None else known * w[:, None]
    r, tells = _correlations(p, other.nan_to_num(0.0), weights, 1.0, members)
    told = tells[:, 0] * _weights_of_eras(w, members)
    return _shared((r.square().mean(-1) * told).sum(), told.sum().detach())


def _weights_of_eras(w: Tensor | None, members: Tensor) -> Tensor:
    """Return the mean weight of each era's rows, (n_eras,)."""
    if w is None:
        return members.new_ones(len(members), dtype=torch.float32)
    total, n = (
        _everywhere(members @ part.double()) for part in (w, torch.ones_like(w))
    )
    return (total / n).float()


def _correlations(
    p: Tensor, y: Tensor, weights: Tensor, power: float, members: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the correlations (T,) or (n_eras, T), and 1 where they tell anything.

    They do not where no cell is known, or where all are the same.
    """

    def total(x: Tensor) -> Tensor:
        # A product in float32 adds one row after another: far less exact than a sum.
        return _everywhere(x.sum(0) if members is None else exact(members, x))

    def to_rows(x: Tensor) -> Tensor:
        return x if members is None else exact(members.T, x)

    def exact(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.double()).to(b.dtype)

    def scaled(x: Tensor) -> tuple[Tensor, Tensor]:
        mean = total(weights * x) / n
        x = x - to_rows(mean)
        variance = total(weights * x * x) / n
        varies = variance > (_ROUNDING * mean).square()
        return x * to_rows(torch.rsqrt(variance + _TINY)), varies

    with in_float32(p):
        n = total(weights).clamp(min=_TINY)
        (a, _), (b, tells) = scaled(p), scaled(y)
        if power != 1:
            a, b = (scaled(_signed_power(x, power))[0] for x in (a, b))
        r = total(weights * a * b) / n
    return r, tells.float()


def _shared(value: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Return a process's share of what every process has computed as a whole."""
    share = 1 / n_processes()
    return share * value, share * count


class _Everywhere(torch.autograd.Function):
    """Sum over processes, of values and of gradients.

    Each process's rows change the sums that all processes use.
    """

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return sum_over_processes(x.clone())

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return sum_over_processes(grad.clone())


def gathered(x: Tensor, n_rows: int, own: slice) -> Tensor:
    """Return the rows of all processes, (n_rows, n), of which x are this one's.

    Gradients reach the rows of all of them.
    """
    if n_processes() == 1:
        return x
    above, below = x.new_zeros(own.start, x.shape[1]), n_rows - own.stop
    return _everywhere(torch.cat([above, x, x.new_zeros(below, x.shape[1])]))


def _everywhere(x: Tensor) -> Tensor:
    if n_processes() == 1:
        return x
    total: Tensor = _Everywhere.apply(x)  # type: ignore[no-untyped-call]
    return total


@torch.no_grad()
def era_corr(p: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the count of a batch of one era, 1 or 0, and its CORR.

    Numerai's CORR makes the ranks of predictions normal, and raises the deviations of
    predictions and targets to the power of 1.5. Both results are 0 if fewer than two
    targets are known, or if all are the same.

    Parameters
    ----------
    p, y : Tensor of shape (B,)
    """
    known = ~y.isnan()
    target, values = y[known].double(), p[known].double()
    if len(target) < 2 or (target == target[0]).all():
        return p.new_zeros(()), p.new_zeros(())
    _, place, counts = torch.unique(values, return_inverse=True, return_counts=True)
    rank = (counts.cumsum(0) - 0.5 * counts.double())[place]  # equal values share one
    normal = torch.special.ndtri(rank / len(rank))
    a, b = (_signed_power(x - x.mean(), 1.5) for x in (normal, target))
    a, b = a - a.mean(), b - b.mean()
    corr = a @ b / (a.norm() * b.norm() + _TINY)
    return p.new_ones(()), corr.float()


def _signed_power(x: Tensor, power: float) -> Tensor:
    return x.sign() * x.abs().pow(power)
