"""Reconstruction losses, for ``n_models`` models at once.

Names: M models, B rows, F features, k units below the output; x the table as it is
stored, t = (x - center) / scale the standardised target, r = h @ weight + bias the
reconstruction, w a weight a row.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from numerai_features.nn._parallel import n_processes, sum_over_processes
from numerai_features.nn._products import ready, table_times, table_transposed_times

_TINY = 1e-12


class _LinearSquaredError(torch.autograd.Function):
    """Squared error of a linear output, without making the output.

    With V the weight, b the bias::

        sum_ij w_i (r - t)_ij^2 = sum_i w_i h_i' (V V') h_i + 2 w_i h_i' (V b)
                                - 2 w_i h_i' (V t_i) - 2 w_i t_i' b + w_i b'b
                                + w_i t_i't_i

    needs x in two products only, ``x @ V'`` and ``h' @ x``, which are its gradients,
    too: three products of B x F x k become two, and no table of B x F is written.
    """

    @staticmethod
    def forward(
        ctx: Any,
        h: Tensor,  # (M, B, k)
        weight: Tensor,  # (M, k, F)
        bias: Tensor,  # (M, F)
        x: Tensor,  # (M, B, F)
        center: Tensor,  # (M, F)
        scale: Tensor,  # (M, F)
        w: Tensor | None,  # (M, B)
        dtype: torch.dtype,
    ) -> Tensor:
        x = ready(x, dtype)
        rows = h.new_ones(1, 1).expand(h.shape[:2]) if w is None else w
        hw = h if w is None else h * w[..., None]  # (M, B, k)
        total = rows.sum(1)[:, None, None]
        matrix = (weight / scale[:, None]).to(dtype).float().mT  # (M, F, k)
        # V (b - t) is u - q, the part of t that is x / scale being q, (M, B, k).
        q = table_times(x, matrix)
        u = torch.bmm(bias[:, None], weight.mT) + torch.bmm(center[:, None], matrix)
        s = torch.bmm(rows[:, None], h)  # sum of w h, (M, 1, k)
        loss = _dot(s, u) - _dot(hw, q)
        dh = torch.baddbmm(u - q, h, torch.bmm(weight, weight.mT))  # V (r - t)
        loss = loss + _dot(hw, dh)
        dh = dh if w is None else dh.mul_(w[..., None])
        sums = table_transposed_times(x, torch.cat([hw, rows[..., None]], 2))
        sums = sums.mT  # h'x and sum of w x, (M, k + 1, F)
        t = (sums[:, -1:] - total * center[:, None]) / scale[:, None]  # of w t
        loss = loss + total[:, 0, 0] * bias.square().sum(1) - 2 * _dot(t, bias[:, None])
        hx = (sums[:, :-1] - s.mT * center[:, None]) / scale[:, None]  # (M, k, F)
        dweight = torch.bmm(torch.bmm(hw.mT, h), weight)
        dweight = dweight.addcmul_(s.mT, bias[:, None]).sub_(hx)
        dbias = torch.bmm(s, weight) + total * bias[:, None] - t
        ctx.save_for_backward(dh, dweight, dbias)
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        dh, dweight, dbias = ctx.saved_tensors
        twice = 2 * grad[:, None, None]
        dbias = (dbias * twice)[:, 0]
        return dh * twice, dweight * twice, dbias, None, None, None, None, None


def linear_squared_error(
    h: Tensor,
    weight: Tensor,
    bias: Tensor,
    x: Tensor,
    center: Tensor,
    scale: Tensor,
    w: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return the sum of squared errors of ``h @ weight + bias``, but for a constant.

    The constant is the sum of the squared targets; no gradient depends on it.

    Parameters
    ----------
    h : Tensor of shape (M, B, k)
        Below the output.
    weight, bias : Tensor of shape (M, k, F) and (M, F)
    x : Tensor of shape (M, B, F)
        The table, bytes or floats.
    center, scale : Tensor of shape (M, F)
        The target is ``(x - center) / scale``.
    w : Tensor of shape (M, B), default=None
        Weights of the rows.
    dtype : torch.dtype, default=torch.float32
        What the products with x are made in.

    Returns
    -------
    Tensor of shape (M,), float32
    """
    loss: Tensor = _LinearSquaredError.apply(  # type: ignore[no-untyped-call]
        h, weight, bias, x, center, scale, w, dtype
    )
    return loss


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the sum of a * b for each model, (M,), in one pass."""
    return torch.bmm(a.reshape(len(a), 1, -1), b.reshape(len(b), -1, 1))[:, 0, 0]


class _SquaredError(torch.autograd.Function):
    """Weighted squared error whose gradient is made with it, in one buffer."""

    @staticmethod
    def forward(ctx: Any, r: Tensor, t: Tensor, weights: Tensor | None) -> Tensor:
        gap = r.float() - t
        grad = gap if weights is None else gap * weights
        loss = (grad * gap).sum((1, 2))
        ctx.save_for_backward(grad)
        ctx.dtype = r.dtype
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (gap,) = ctx.saved_tensors
        return (gap * (2 * grad[:, None, None])).to(ctx.dtype), None, None


def squared_error(r: Tensor, t: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the sum over rows and features of weighted squared errors, (M,).

    Parameters
    ----------
    r, t : Tensor of shape (M, B, F)
        Reconstruction and target.
    weights : Tensor broadcasting to (M, B, F), default=None
    """
    loss: Tensor = _SquaredError.apply(r, t, weights)  # type: ignore[no-untyped-call]
    return loss


def target_loss(
    kind: str, p: Tensor, y: Tensor, w: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return a loss of predictions as a sum, and what it is to be divided by.

    Both are to be added over batches, or over processes in one step.

    Parameters
    ----------
    kind : {"mse", "bce", "corr", "numerai_corr"}
        Squared error; cross-entropy of ``sigmoid(p)``, for targets in [0, 1]; or one
        less the correlation over all rows of the batch, an era, as it is, or after
        both sides' deviations from their mean are raised to the power of 1.5, as
        Numerai's CORR does (which also makes the predictions' ranks normal).
    p, y : Tensor of shape (M, B, T)
        NaN of y do not count.
    w : Tensor of shape (M, B) or None
        Weights of the rows.

    Returns
    -------
    value, count : Tensor of shape (M,)
    """
    known = ~y.isnan()
    weights = known.float() if w is None else known * w[..., None]
    y = y.nan_to_num(0.0)
    if kind == "mse":
        errors = (p - y).square()
    elif kind == "bce":
        errors = F.binary_cross_entropy_with_logits(p, y, reduction="none")
    else:
        return _correlation_loss(p, y, weights, 1.5 if kind == "numerai_corr" else 1.0)
    return (errors * weights).sum((1, 2)), weights.sum((1, 2))


def _correlation_loss(
    p: Tensor, y: Tensor, weights: Tensor, power: float
) -> tuple[Tensor, Tensor]:
    n = _everywhere(weights.sum(1, keepdim=True)).clamp(min=_TINY)  # (M, 1, T)

    def scaled(x: Tensor) -> Tensor:
        x = x - _everywhere((weights * x).sum(1, keepdim=True)) / n
        variance = _everywhere((weights * x * x).sum(1, keepdim=True)) / n
        return x * torch.rsqrt(variance + _TINY)

    a, b = scaled(p), scaled(y)
    if power != 1:
        a, b = (scaled(_signed_power(x, power)) for x in (a, b))
    r = _everywhere((weights * a * b).sum(1, keepdim=True))[:, 0] / n[:, 0]  # (M, T)
    # A target without known cells, or the same for all rows, tells nothing.
    tells = (_everywhere((weights * b * b).sum(1)) > 0).float()
    loss = 1 - (r * tells).sum(1) / tells.sum(1).clamp(min=1)
    # Each process has the whole loss; what they return is added up.
    share = 1 / n_processes()
    return loss - (1 - share) * loss.detach(), torch.full_like(loss, share).detach()


def _everywhere(x: Tensor) -> Tensor:
    """Return the sum over processes, whose gradient is that of the own part."""
    if n_processes() == 1:
        return x
    return x + (sum_over_processes(x.detach().clone()) - x.detach())


@torch.no_grad()
def era_corr(p: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return how many eras a batch of one era is, 1 or 0, and its CORR.

    Numerai's: predictions' ranks made normal, and both sides' deviations to the power
    of 1.5. 0 of both where fewer than two targets are known, or all are the same.

    Parameters
    ----------
    p, y : Tensor of shape (M, B)
    """
    count, corr = p.new_zeros(2, len(p))
    for model in range(len(p)):
        known = ~y[model].isnan()
        target, values = y[model][known].double(), p[model][known].double()
        if len(target) < 2 or (target == target[0]).all():
            continue
        rank = values.argsort().argsort().double()
        normal = torch.special.ndtri((rank + 0.5) / len(rank))
        a, b = (_signed_power(x - x.mean(), 1.5) for x in (normal, target))
        a, b = a - a.mean(), b - b.mean()
        count[model] = 1
        corr[model] = (a @ b / (a.norm() * b.norm() + _TINY)).float()
    return count, corr


def _signed_power(x: Tensor, power: float) -> Tensor:
    return x.sign() * x.abs().pow(power)
