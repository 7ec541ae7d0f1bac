"""Steps of encoders that treat each row alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features.encoders._step import ArrayStep, check_numbers, like


@dataclass(frozen=True, eq=False)
class Fill(ArrayStep):
    """Replace NaN by a value for each column.

    Parameters
    ----------
    values : ndarray of shape (n_features,)
        Rows that are sequences have the columns once for each step.
    """

    values: NDArray[np.floating]

    def __post_init__(self) -> None:
        check_numbers("values", self.values, 1)
        super().__post_init__()

    def __call__(self, x: Any, xp: Any) -> Any:
        """Return x with every NaN replaced."""
        gaps = xp.isnan(x)
        if not bool(xp.any(gaps)):
            return x
        values, n_steps = like(self.values, x, xp), x.shape[1] // len(self.values)
        return xp.where(gaps, xp.concat([values] * max(1, n_steps)), x)


@dataclass(frozen=True, eq=False)
class Affine(ArrayStep):
    """Affine map, ``x @ weight + bias``.

    Parameters
    ----------
    weight : ndarray of shape (n_in, n_out)
    bias : ndarray of shape (n_out,), default=None
    """

    weight: NDArray[np.floating]
    bias: NDArray[np.floating] | None = None

    def __post_init__(self) -> None:
        check_numbers("weight", self.weight, 2)
        if self.bias is not None:
            check_numbers("bias", self.bias, 1)
            if self.bias.shape != self.weight.shape[1:]:
                raise ValueError(
                    f"bias must have shape {self.weight.shape[1:]}, one number a "
                    f"column of weight; got {self.bias.shape}."
                )
        super().__post_init__()

    def __call__(self, x: Any, xp: Any) -> Any:
        """Return ``x @ weight + bias``."""
        x = x @ like(self.weight, x, xp)
        return x if self.bias is None else x + like(self.bias, x, xp)

    def n_out(self, n_in: int) -> int:
        """Return the number of columns of `weight`, whatever `n_in` is."""
        return int(self.weight.shape[1])


_ACTIVATIONS = {
    "hardswish": lambda x, xp: x * _hard_sigmoid(x, xp),
    "identity": lambda x, xp: x,
    "relu": lambda x, xp: xp.maximum(x, xp.zeros_like(x)),
    "sigmoid": lambda x, xp: _sigmoid(x, xp),
    "silu": lambda x, xp: x * _sigmoid(x, xp),
    "tanh": lambda x, xp: xp.tanh(x),
}


@dataclass(frozen=True, eq=False)
class Activation(ArrayStep):
    """Elementwise activation function.

    Parameters
    ----------
    name : {"hardswish", "identity", "relu", "sigmoid", "silu", "tanh"}
        The function; "silu" is also known as swish. "hardswish" replaces its sigmoid by
        straight lines: ``x * clip((x + 3) / 6, 0, 1)``.
    """

    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or self.name not in _ACTIVATIONS:
            raise ValueError(
                f"name must be one of {sorted(_ACTIVATIONS)}; got {self.name!r}."
            )

    def __call__(self, x: Any, xp: Any) -> Any:
        """Apply the function to every cell."""
        return _ACTIVATIONS[self.name](x, xp)


@dataclass(frozen=True, eq=False)
class Softmax(ArrayStep):
    """Softmax of each row: exponentials divided by their sum."""

    def __call__(self, x: Any, xp: Any) -> Any:
        """Return each row's softmax."""
        x = xp.exp(x - xp.max(x, axis=1, keepdims=True))
        return x / xp.sum(x, axis=1, keepdims=True)


@dataclass(frozen=True, eq=False)
class Argmax(ArrayStep):
    """Index of the largest column of each row."""

    def __call__(self, x: Any, xp: Any) -> Any:
        """Return the index of each row's largest cell, (n_rows, 1)."""
        return xp.astype(xp.argmax(x, axis=1, keepdims=True), x.dtype)

    def n_out(self, n_in: int) -> int:
        """Return 1, whatever `n_in` is."""
        return 1


@dataclass(frozen=True, eq=False)
class Quantize(ArrayStep):
    """Cut each column into bins: a cell's bin is the number of edges below it.

    Parameters
    ----------
    edges : ndarray of shape (n_columns, n_edges)
        Ascending in each row.
    """

    edges: NDArray[np.floating]

    def __post_init__(self) -> None:
        check_numbers("edges", self.edges, 2)
        super().__post_init__()

    def __call__(self, x: Any, xp: Any) -> Any:
        """Return bins 0 .. n_edges, as floats."""
        columns = [
            xp.searchsorted(like(edges, x, xp), xp.asarray(x[:, j], copy=True))
            for j, edges in enumerate(self.edges)
        ]
        return xp.astype(xp.stack(columns, axis=1), x.dtype)


def _hard_sigmoid(x: Any, xp: Any) -> Any:
    """Sigmoid of straight lines: 0 up to -3, 1 from 3 on."""
    low, high = xp.zeros_like(x), xp.ones_like(x)
    return xp.minimum(xp.maximum((x + 3) / 6, low), high)


def _sigmoid(x: Any, xp: Any) -> Any:
    """Sigmoid without overflow: exp is only taken of numbers that are not positive."""
    e = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, 1 / (1 + e), e / (1 + e))
