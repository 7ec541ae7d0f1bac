"""Reconstruction losses, for ``n_models`` models at once.

Names: M models, B rows, F features, k units below the output; x the table as it is
stored, t = (x - center) / scale the standardised target, r = h @ weight + bias the
reconstruction, w a weight a row.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from numerai_features.nn._products import ready, table_times, table_transposed_times


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
