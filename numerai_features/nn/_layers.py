"""Layers, with replacements for torch's where those are slow or ignore the seed.

Shapes in comments: B rows, F features, n units. ``steps`` returns a layer's numpy form,
which an `Encoder` runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from numerai_features.encoders import Activation, Affine
from numerai_features.encoders._step import Step
from numerai_features.nn._draws import INITIAL, Draws, torch_generator
from numerai_features.nn._passes import (
    cell_by_cell,
    moments_of,
    norm_gradients,
    normalize_and_activate,
)
from numerai_features.nn._products import (
    Parts,
    centered_parts,
    in_float32,
    product,
    product_dtype,
    table_product,
)
from numerai_features.nn._threads import shares_out

Array = NDArray[np.float64]
Units = tuple[Array, Array]
"""Mean and scale that standardise columns; the scale of a constant column is 0."""
Steps = list[tuple[str, Step]]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "hardswish": F.hardswish,
    "identity": lambda x: x,
    "relu": F.relu,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "tanh": torch.tanh,
}


@torch.no_grad()
def initialize(module: nn.Module, seed: int) -> None:
    """Draw a module's initial weights, each from its name and the seed.

    Matrices are uniform between plus and minus one over the root of the number of
    inputs, as in torch's linear layers. Biases are zero; other parameters are not
    changed. So the weights depend neither on the order in which layers are made nor on
    the state of torch's global generator, which is that of all threads. A module with
    weights that are not trained draws them in ``draw_constants(seed)``.

    Parameters
    ----------
    module : nn.Module
        Module on the CPU.
    seed : int
    """
    for name, parameter in module.named_parameters():
        if parameter.ndim >= 2:
            key = tuple(name.encode())
            generator = torch_generator(parameter.device, seed, INITIAL, *key)
            bound = 1 / math.sqrt(parameter[0].numel())
            parameter.uniform_(-bound, bound, generator=generator)
        elif name.rpartition(".")[2].startswith("bias"):
            parameter.zero_()
    for part in module.modules():
        draw = getattr(part, "draw_constants", None)
        if draw is not None:
            draw(seed)


class Linear(nn.Linear):
    """Linear layer with float32 output, whose weights `initialize` draws."""

    def reset_parameters(self) -> None:
        """Set zeros: torch would draw from its global generator."""
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, n_in) to (B, n_out)."""
        y = product(x, self.weight.T)
        return y if self.bias is None else y + self.bias

    def parts(self, x: Tensor) -> Parts:
        """Return the product as it is rounded, and nothing to subtract."""
        return product(x, self.weight.T, rounded=True), None


class Standardized(nn.Module):
    """First layer, which standardises rows through its weights.

    ``((x - center) / scale) @ weight`` is computed as ``x @ (weight / scale)`` minus a
    constant row, so the table stays as it is, bins or floats.
    """

    center: Tensor  # (F,)
    scale: Tensor  # (F,)

    def __init__(self, linear: nn.Linear, center: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.linear = linear
        # They are the table's: in later training, another table has its own.
        self.register_buffer("center", center.clone(), persistent=False)
        self.register_buffer("scale", scale.clone(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map rows of the table, (B, F), to (B, n_out)."""
        matrix = self.linear.weight.T / self.scale[:, None]
        y = table_product(x, matrix, self.center)
        return y if self.linear.bias is None else y + self.linear.bias

    def parts(self, x: Tensor) -> Parts:
        """Return the product as it is rounded, and the row to subtract."""
        matrix = self.linear.weight.T / self.scale[:, None]
        return centered_parts(x, matrix, self.center)

    def of_some_cells(
        self, weight: Tensor, share: float, middle: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the matrix and the center for rows in which cells are dropped.

        The mean of the product over what is dropped is that of the whole row.

        Parameters
        ----------
        weight : Tensor of shape (F, n)
        share : float
            Probability that a cell is set to its middle value.
        middle : Tensor of shape (F,)
        """
        center = (1 - share) * self.center + share * middle.float()
        return weight / ((1 - share) * self.scale[:, None]), center

    def standardize(self, x: Tensor) -> Tensor:
        """Return standardised rows of the table, (B, F)."""
        return (x.float() - self.center) / self.scale


class _Normalize(torch.autograd.Function):
    """Batch normalisation over the rows of all processes.

    Sums over rows are products with a row of ones, in half the time of torch's sums.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor, gamma: Tensor, beta: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        ones = x.new_ones(1, len(x))
        sums = torch.cat([ones @ x, ones @ (x * x)])
        sums = torch.cat([sums, torch.full_like(sums[:1], len(x))])
        mean, variance, n = moments_of(sums)
        scale = gamma * torch.rsqrt(variance + eps)
        y = torch.addcmul(beta - mean * scale, x, scale)
        return y, mean, variance, n.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, gamma, _, ctx.eps = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(x, gamma, *output[1:])

    @staticmethod
    def backward(ctx: Any, dy: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, gamma, mean, variance, n = ctx.saved_tensors
        inverse = torch.rsqrt(variance + ctx.eps)
        scale = gamma * inverse
        ones = dy.new_ones(1, len(dy))
        own = torch.cat([ones @ dy, ones @ (dy * x)])
        slope, constant, dgamma = norm_gradients(own, mean, inverse, scale, n)
        dx = torch.addcmul(torch.addcmul(constant, x, slope), dy, scale)
        return dx, dgamma, own[0], None


class Norm(nn.Module):
    """Base class of batch normalisations: parameters and running moments."""

    eps = 1e-5
    momentum = 0.1
    mean: Tensor  # (n,)
    variance: Tensor  # (n,)

    def __init__(self, n: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(n))
        self.beta = nn.Parameter(torch.zeros(n))
        self.register_buffer("mean", torch.zeros(n))
        self.register_buffer("variance", torch.ones(n))

    def affine(self) -> tuple[Tensor, Tensor]:
        """Return the factor and the shift of the trained normalisation, each (n,)."""
        scale = self.gamma * self._inverse(self.variance)
        return scale, self.beta - self.mean * scale

    def _inverse(self, variance: Tensor) -> Tensor:
        return torch.rsqrt(variance + self.eps)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running moments towards those of a batch."""
        for running, now in ((self.mean, mean), (self.variance, variance)):
            running.add_(now - running, alpha=self.momentum)


class BatchNorm(Norm):
    """Batch normalisation: batch moments in training, running moments afterwards."""

    def forward(self, x: Tensor, activation: str = "identity") -> Tensor:
        """Map (B, n) to (B, n); half precision becomes float32.

        Parameters
        ----------
        x : Tensor of shape (B, n)
        activation : str, default="identity"
            Activation after the normalisation; a name of `ACTIVATIONS`.
        """
        x = x.float() if x.dtype.itemsize < 4 else x
        if self.training and shares_out(x):
            return self.of_parts((x, None), activation, x.dtype)
        return ACTIVATIONS[activation](self._normalized(x))

    def of_parts(self, parts: Parts, activation: str, dtype: torch.dtype) -> Tensor:
        """Map a product (B, n) to (B, n), in training and shared out.

        Parameters
        ----------
        parts : tuple
            What `Linear.parts` returns.
        activation : str
        dtype : torch.dtype
            Type of the result.
        """
        y, mean, variance = normalize_and_activate(
            *parts, self.gamma, self.beta, self.eps, activation, dtype
        )
        self._remember(mean, variance)
        return y

    def _normalized(self, x: Tensor) -> Tensor:
        if not self.training:
            scale, shift = self.affine()
            return torch.addcmul(shift, x, scale)
        with in_float32(x):
            y, mean, variance, _ = _Normalize.apply(  # type: ignore[no-untyped-call]
                x, self.gamma, self.beta, self.eps
            )
        self._remember(mean, variance)
        return y  # type: ignore[no-any-return]


class Dropout(nn.Module):
    """Set cells to 0 with probability `share`; scale the others by 1 / (1 - share)."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor, draws: Draws | None) -> Tensor:
        """Map (B, n) to (B, n); return x without `draws` or outside training."""
        if not self.training or draws is None or not self.share:
            return x
        kept = draws.chosen(1 - self.share, x.shape[1], torch.float32)
        return cell_by_cell(x, kept.mul_(1 / (1 - self.share)))


class Block(nn.Module):
    """Linear layer, batch normalisation, activation, dropout.

    Parameters
    ----------
    linear : Linear or Standardized
        Without bias: the normalisation would remove it.
    activation : str
        A name of `ACTIVATIONS`.
    dropout : float, default=0.0
    lean : bool, default=False
        Whether only linear layers use the output. Then, where operations are shared out
        in training, tables between products stay in the products' precision, to which
        they would be rounded anyway.
    """

    def __init__(
        self,
        linear: Linear | Standardized,
        activation: str,
        dropout: float = 0.0,
        lean: bool = False,
    ) -> None:
        super().__init__()
        self.lean = lean
        self.linear = linear
        self.norm = BatchNorm(_weight_of(linear).shape[0])
        self.activation = activation
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, draws: Draws | None = None) -> Tensor:
        """Map (B, n_in) to (B, n_out)."""
        linear = self.linear
        return self.after(linear.parts(x) if self.is_lean(x) else linear(x), draws)

    def is_lean(self, x: Tensor) -> bool:
        """Return whether `after` takes a product's parts instead of the product."""
        return self.lean and self.training and shares_out(x)

    def after(self, y: Tensor | Parts, draws: Draws | None) -> Tensor:
        """Map the linear layer's product to (B, n_out)."""
        if isinstance(y, tuple):
            keeps = not self.dropout.share  # whose factors are not rounded
            dtype = product_dtype(y[0].device) if keeps else torch.float32
            h = self.norm.of_parts(y, self.activation, dtype)
        else:
            h = self.norm(y, self.activation)
        dropped: Tensor = self.dropout(h, draws)
        return dropped

    def steps(self, name: str, dtype: Any, units: Units | None = None) -> Steps:
        """Return the trained block as steps, with its normalisation folded in.

        Parameters
        ----------
        name : str
            Name of the steps.
        dtype : numpy dtype
            Type of the arrays.
        units : tuple of ndarray, default=None
            Mean and scale that standardise the columns, for a first layer.
        """
        factor, shift = map(as_array, self.norm.affine())
        weight = as_array(_weight_of(self.linear)).T
        if units is not None:
            weight, constant = of_raw_rows(weight, units)
            shift = shift + constant * factor
        steps: Steps = [(name, affine(weight * factor, shift, dtype))]
        if self.activation != "identity":
            steps.append((f"{name}_{self.activation}", Activation(self.activation)))
        return steps


def of_raw_rows(weight: Array, units: Units) -> tuple[Array, Array]:
    """Fold standardisation into `weight`; return a matrix and constant for raw rows.

    Parameters
    ----------
    weight : ndarray of shape (n_features, n)
    units : tuple of ndarray
    """
    mean, scale = units
    # A constant column has weight zero, even for rows where it varies: its weight is
    # untrained, and times a large mean it would bury all others in rounding error.
    weight = weight / np.where(scale > 0, scale, np.inf)[:, None]
    return weight, -mean @ weight


def affine(weight: Array, bias: Array, dtype: Any) -> Affine:
    """Return a step ``x @ weight + bias`` with arrays of type `dtype`."""
    return Affine(weight.astype(dtype), bias.astype(dtype))


def as_array(tensor: Tensor) -> Array:
    """Return a tensor's numbers as float64."""
    return np.asarray(tensor.detach().double().numpy())


def _weight_of(layer: nn.Linear | Standardized) -> Tensor:
    """Return the layer's matrix (n_out, n_in)."""
    return (layer.linear if isinstance(layer, Standardized) else layer).weight
