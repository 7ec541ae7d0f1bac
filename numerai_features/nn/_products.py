"""Matrix products shared out among threads, and products with a table of bytes.

Where the CPU multiplies bytes fast (VNNI, AMX), a float matrix is written as
``scale * (d0 + 256 d1 + 65536 d2)``. The table is multiplied exactly, in integers, with
the three planes of digits; it is never cast. Numbers have 22 bits relative to the
largest of their column: unless numbers of a column differ by orders of magnitude, the
result is as precise as a product in float32.
"""

from __future__ import annotations

from functools import cache
from itertools import product as pairs
from math import ceil
from typing import Any

import torch
from torch import Tensor

from numerai_features.nn._threads import cut, each, empty, n_sharing, shares_out

Parts = tuple[Tensor, Tensor | None]
"""A product (B, n), and a row (n,) that is to be subtracted from it."""

# Multiplications per block, about half a millisecond, and the least per block when a
# product is cut in two. Handing a block to a thread takes a tenth of that.
_BLOCK, _LEAST = 1 << 25, 1 << 24
# Rows or columns of a block: each block reads the whole other matrix, which takes a
# third of the time of a product with 64 rows, and none to speak of with 256. Fewer are
# for products that would have too few blocks for many threads.
_FEWEST = (256, 128, 64)
_ENOUGH, _MOST_SUMMANDS = 8, 16
_FEWEST_DIGITS, _MOST_DIGITS = 32, 256  # columns of three digits each
_AS_FAST = 4  # byte multiplications in the time of one of floats

# Adding 2**23 + _OFFSET to a number q below 2**22 in magnitude leaves q + _OFFSET in
# the low three bytes of the float: each byte is a digit plus its offset.
_OFFSET = 0x408080
_LARGEST = float(0x3F7F00)
_OFFSETS = (0x80, 0x80, 0x40)
_EXPONENT = 0x7F800000  # of a float32's bits
_CACHED = 1 << 17  # cells of which several tables stay in the cache
_MOST_CELLS = 1 << 20  # of int32, 4 MB: larger products leave the cache
_MOST_TERMS = (1 << 31) // (128 * 128) - 1  # most terms whose sum fits an int32


def product_dtype(device: torch.device) -> torch.dtype:
    """Return the type of matrix products: autocast's, or float32 without autocast."""
    if torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    return torch.float32


def in_float32(x: Tensor) -> torch.autocast:
    """Return a context without autocast on the device of `x`."""
    return torch.autocast(x.device.type, enabled=False)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(a: Tensor, b: Tensor, dtype: torch.dtype, out: torch.dtype) -> Tensor:
        return _cast(times(_cast(a, dtype), b.to(dtype)), out)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        a, b, ctx.dtype, _ = inputs
        ctx.save_for_backward(a, b)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.saved_tensors
        dy, da, db = _cast(dy, ctx.dtype), None, None
        if ctx.needs_input_grad[0]:
            da = _cast(times(dy, b.T.to(ctx.dtype)), a.dtype)
        if ctx.needs_input_grad[1]:
            a = _cast(a, ctx.dtype)  # the gradient has the memory layout of the weight
            db = times(a.T, dy) if b.is_contiguous() else times(dy.T, a).T
            db = db.to(b.dtype)
        return da, db, None, None


def product(a: Tensor, b: Tensor, *, rounded: bool = False) -> Tensor:
    """Return ``a @ b`` in float32; autocast sets the precision.

    It is differentiable, and shared out if there are threads.

    Parameters
    ----------
    a : Tensor of shape (B, k), float32 or rounded
    b : Tensor of shape (k, n), float32
    rounded : bool, default=False
        Whether the result, and so its gradient, stay in the precision of the product.
    """
    if not shares_out(a):
        return (a @ b).float()
    dtype = product_dtype(a.device)
    out = dtype if rounded else torch.float32
    with in_float32(a):
        y: Tensor = _Product.apply(a, b, dtype, out)  # type: ignore[no-untyped-call]
    return y


def times(a: Tensor, b: Tensor) -> Tensor:
    """Return ``a @ b`` without gradients, shared out if there are threads."""
    (n_rows, depth), n_columns = a.shape, b.shape[1]
    if not shares_out(a):
        return a @ b
    work = n_rows * n_columns * depth
    n_terms = min(_MOST_SUMMANDS, depth // max(n_rows, n_columns), work // _BLOCK)
    if n_terms >= _ENOUGH:
        return _sum_of_products(a, b, n_terms)
    blocks = _blocks(n_rows, n_columns, work)
    if len(blocks) == 1:
        return a @ b
    out = empty((n_rows, n_columns), a.dtype)

    def fill(block: tuple[slice, slice]) -> None:
        rows, columns = block
        torch.mm(a[rows], b[:, columns], out=out[rows, columns])

    each(fill, blocks)
    return out


def _sum_of_products(a: Tensor, b: Tensor, n: int) -> Tensor:
    """Return ``a @ b`` as a sum of `n` products, of columns of a and rows of b.

    No part of a matrix is read twice, as blocks of a gradient of few cells would be.
    """
    places = cut(a.shape[1], n, 1)
    parts = empty((len(places), len(a), b.shape[1]), a.dtype)

    def fill(i: int) -> None:
        torch.mm(a[:, places[i]], b[places[i]], out=parts[i])

    each(fill, range(len(places)))
    out = empty((len(a), b.shape[1]), a.dtype)

    def add(rows: slice) -> None:
        out[rows] = parts[:, rows].sum(0, dtype=torch.float32)

    each(add, cut(len(a), parts.numel() // _CACHED, 1))
    return out


class _TableProduct(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor,
        matrix: Tensor,
        center: Tensor | None,
        dtype: torch.dtype,
        out: torch.dtype,
    ) -> Tensor:
        y = table_times(x, matrix, out)
        if center is not None:
            # Rounded as in the product, so that exactly its part of the product is
            # removed.
            y = y.sub_(center @ matrix.to(dtype).float())
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs[:3])

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, matrix, center = ctx.saved_tensors
        dx = times(dy, matrix.T).to(x.dtype) if ctx.needs_input_grad[0] else None
        dmatrix = table_transposed_times(x, dy)
        if center is not None:
            dmatrix = torch.addr(dmatrix, center, dy.sum(0), alpha=-1)
        return dx, dmatrix, None, None, None


def table_product(
    x: Tensor, matrix: Tensor, center: Tensor | None = None, *, rounded: bool = False
) -> Tensor:
    """Return ``(x - center) @ matrix``, differentiable.

    Parameters
    ----------
    x : Tensor of shape (B, F)
        Rows of the table, bytes or floats.
    matrix : Tensor of shape (F, n), float32
    center : Tensor of shape (F,), default=None
        Zero by default.
    rounded : bool, default=False
        Whether the result, and so its gradient, stay in the precision of the product;
        without a center.

    Returns
    -------
    Tensor of shape (B, n), float32
    """
    dtype = product_dtype(x.device)
    out = dtype if rounded else torch.float32
    with in_float32(x):
        rows = ready(x, dtype)
        y: Tensor = _TableProduct.apply(rows, matrix, center, dtype, out)  # type: ignore[no-untyped-call]
    return y


def centered_parts(x: Tensor, matrix: Tensor, center: Tensor) -> Parts:
    """Return ``x @ matrix`` as it is rounded, and what is to be subtracted from it.

    No gradient of the latter reaches the matrix: this is for a normalisation, which no
    constant changes.

    Parameters
    ----------
    x, matrix, center
        As in `table_product`.
    """
    dtype, y = product_dtype(x.device), table_product(x, matrix, rounded=True)
    with in_float32(x):
        return y, center @ matrix.detach().to(dtype).float()


def ready(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return rows of a table in the type that the products below expect.

    Bytes stay bytes where products in digits replace float32; otherwise rows become
    `dtype`.

    Parameters
    ----------
    x : Tensor of shape (B, F)
    dtype : torch.dtype
        float32 or bfloat16.
    """
    in_digits = (
        dtype == torch.float32
        and x.dtype == torch.int8
        and x.device.type == "cpu"
        # A single row or column transposed has strides that torch._int_mm misreads.
        and 1 < min(x.shape)
        and max(x.shape) <= _MOST_TERMS
        and _multiplies_bytes()
    )
    return x if in_digits else _cast(x, dtype)


def _cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return x in a type, shared out if there are threads."""
    if x.dtype == dtype or not shares_out(x) or not x.is_contiguous():
        return x.to(dtype)
    out = empty(tuple(x.shape), dtype)
    each(lambda rows: out[rows].copy_(x[rows]), cut(len(x), x.numel() // _CACHED, 1))
    return out


def table_times(
    x: Tensor, matrix: Tensor, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Return ``x @ matrix``.

    Parameters
    ----------
    x : Tensor of shape (B, F)
        Rows that are `ready`.
    matrix : Tensor of shape (F, n), float32
    dtype : torch.dtype, default=torch.float32
        Type of the result, which may also be that of rows that are floats.

    Returns
    -------
    Tensor of shape (B, n)
    """
    if x.dtype != torch.int8:
        return _cast(times(x, matrix.to(x.dtype)), dtype)
    n_rows, n = len(x), matrix.shape[1]
    out = empty((n_rows, n), matrix.dtype)

    def fill(part: tuple[slice, slice]) -> None:
        part_rows, columns = part
        planes, scale = _planes(matrix[:, columns])
        width = len(scale)
        x_part, out_part = x[part_rows], out[part_rows, columns]
        n_blocks = len(x_part) * 3 * width // _MOST_CELLS
        for rows in cut(len(x_part), n_blocks, _FEWEST[-1]):
            products = torch._int_mm(x_part[rows], planes).view(-1, 3, width)
            _join(products, scale, out_part[rows])

    each(fill, _parts(n_rows, n, x.numel() * 3 * n))
    return out


def table_transposed_times(x: Tensor, matrix: Tensor) -> Tensor:
    """Return ``x.T @ matrix`` in float32.

    Parameters
    ----------
    x : Tensor of shape (B, F)
        Rows that are `ready`.
    matrix : Tensor of shape (B, n), float32

    Returns
    -------
    Tensor of shape (F, n)
        In column-major order, as a transposed weight.
    """
    if x.dtype != torch.int8:
        # This order takes half the time of x.T @ matrix.
        return times(_cast(matrix, x.dtype).T, x).T.float()
    n_columns, n = x.shape[1], matrix.shape[1]
    out = matrix.new_empty(n, n_columns)

    def fill(part: tuple[slice, slice]) -> None:
        rows, columns = part
        planes, scale = _planes(matrix[:, rows])
        products = torch._int_mm(planes.T, x[:, columns]).view(3, len(scale), -1)
        _join(products.transpose(0, 1), scale[:, None], out[rows, columns])

    each(fill, [part[::-1] for part in _parts(n_columns, n, x.numel() * 3 * n)])
    return out.T


def _blocks(n_rows: int, n_columns: int, work: int) -> list[tuple[slice, slice]]:
    """Return the blocks (rows, columns) of a product of `work` multiplications.

    The longer side is cut, and both where that gives too few blocks.
    """
    most = min(max(2, work // _BLOCK), work // _LEAST)
    sides = n_rows, n_columns
    longer = int(n_columns > n_rows)
    for fewest in _FEWEST:
        cuts = [cut(side, 1, fewest) for side in sides]
        cuts[longer] = cut(sides[longer], most, fewest)
        if (n_cuts := len(cuts[longer])) < _ENOUGH:
            n_others = min(most // n_cuts, ceil(_ENOUGH / n_cuts))
            cuts[1 - longer] = cut(sides[1 - longer], n_others, fewest)
        if len(cuts[0]) * len(cuts[1]) >= min(most, _ENOUGH):
            break
    return [*pairs(cuts[0], cuts[1])]


def _parts(n_rows: int, n_columns: int, work: int) -> list[tuple[slice, slice]]:
    """Return the parts (rows, columns) of a byte product, one for each thread.

    Columns are cut first, since each part computes the digits of its columns, and
    further where the digits of a part would leave the cache. Integer sums are exact, so
    the bits do not depend on the number of parts.
    """
    n_parts = min(n_sharing(), work // _AS_FAST // _LEAST)
    columns = cut(n_columns, n_parts, _FEWEST_DIGITS)
    rows = cut(n_rows, ceil(n_parts / len(columns)), _FEWEST[-1])
    n_cuts = len(columns) * ceil(n_columns / len(columns) / _MOST_DIGITS)
    return [*pairs(rows, cut(n_columns, n_cuts, _FEWEST_DIGITS))]


def _planes(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return the digits (K, 3 * n), the least first, and their scale (n,)."""
    largest = torch.maximum(matrix.amax(0), -matrix.amin(0))
    ratio = _LARGEST / largest.clamp(min=1e-30)  # the ratio stays finite
    # A power of two keeps a column of ones exact, which gives the sums of rows.
    ratio = (ratio.view(torch.int32) & _EXPONENT).view(torch.float32)
    shift = torch.full((1,), float((1 << 23) + _OFFSET))
    offsets = torch.tensor(_OFFSETS, dtype=torch.uint8)[:, None]
    depth, n = matrix.shape
    planes = torch.empty(depth, 3, n, dtype=torch.int8)
    for rows in cut(depth, depth * n // _CACHED, 1):
        bits = torch.addcmul(shift, matrix[rows], ratio).view(torch.int32)
        for i in range(3):
            planes[rows, i] = bits >> 8 * i  # its lowest byte
        planes[rows].view(torch.uint8).sub_(offsets)
    return planes.view(depth, 3 * n), 1 / ratio + 0 * largest  # NaN if not finite


def _join(products: Tensor, scale: Tensor, out: Tensor) -> None:
    """Combine the products (K, 3, n) with the three digits."""
    torch.mul(products[:, 2], 65536.0, out=out)
    out.add_(products[:, 1], alpha=256).add_(products[:, 0]).mul_(scale)


@cache
def _multiplies_bytes() -> bool:
    """Return whether this CPU multiplies bytes fast, and adds them exactly."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    if not (capabilities.get("avx512_vnni") or capabilities.get("avx_vnni")):
        return False
    # Instructions of older CPUs saturate, and a oneDNN setting may select them.
    low, high = (torch.full((32, 64), v, dtype=torch.int8) for v in (-128, 127))
    return all(
        bool((torch._int_mm(a, b.T) == 64 * int(a[0, 0]) * int(b[0, 0])).all())
        for a in (low, high)
        for b in (low, high)
    )
