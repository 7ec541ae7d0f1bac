"""Steps in which rows of a block, or the tokens of a row, look at each other.

Tokens are the second last axis: of a block of rows, (n_rows, width), all rows are one
sequence; of tokens of rows, (n_rows, n_tokens, width), each row is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from numerai_features.encoders._encoder import Encoder
from numerai_features.encoders._step import (
    ArrayStep,
    check_numbers,
    is_count,
    like,
)

_CELLS = 1 << 22  # of the table of weights between tokens: 16 MB
_TINY = 1e-6
EPS = 1e-5  # of a normalised token's variance


@dataclass(frozen=True, eq=False)
class LayerNorm(ArrayStep):
    """Each token with mean 0 and deviation 1, times `gamma`, plus `beta`.

    Parameters
    ----------
    gamma, beta : ndarray of shape (width,)
    """

    gamma: NDArray[np.floating]
    beta: NDArray[np.floating]

    def __post_init__(self) -> None:
        check_numbers("gamma", self.gamma, 1)
        check_numbers("beta", self.beta, 1)
        super().__post_init__()

    def __call__(self, x: Any, xp: Any) -> Any:
        """Return the normalised tokens."""
        x = x - xp.mean(x, axis=-1, keepdims=True)
        variance = xp.mean(x * x, axis=-1, keepdims=True)
        x = x / xp.sqrt(variance + EPS)
        return x * like(self.gamma, x, xp) + like(self.beta, x, xp)


@dataclass(frozen=True, eq=False)
class Residual(ArrayStep):
    """The input plus the output of an encoder.

    Parameters
    ----------
    branch : Encoder
        Its output is as wide as its input.
    """

    branch: Encoder

    def __post_init__(self) -> None:
        if not isinstance(self.branch, Encoder):
            raise ValueError(f"branch must be an Encoder; got {self.branch!r}.")

    def __call__(self, x: Any, xp: Any) -> Any:
        """Return the sum."""
        return x + self.branch.apply(x, xp)

    @property
    def branches(self) -> tuple[Encoder, ...]:
        """The encoders inside."""
        return (self.branch,)


@dataclass(frozen=True, eq=False)
class Attention(ArrayStep):
    r"""Attention of several heads (Vaswani et al., 2017).

    Of tokens :math:`x`, each head makes queries, keys and values, and returns for each
    token a weighted mean of the values. With ``kind="full"`` the weights are a softmax
    of the products of query and keys, over the root of the head's width; with "linear"
    (Katharopoulos et al., 2020) they are proportional to :math:`\phi(q) \cdot \phi(k)`
    with :math:`\phi(z) = \mathrm{elu}(z) + 1`. The heads' results are concatenated, and
    mapped by `out` and `bias`.

    Parameters
    ----------
    query, key, value, out : ndarray of shape (width, width)
    bias : ndarray of shape (width,)
    n_heads : int
        A divisor of the width.
    kind : {"full", "linear"}
    """

    mixes_rows: ClassVar[bool] = True

    query: NDArray[np.floating]
    key: NDArray[np.floating]
    value: NDArray[np.floating]
    out: NDArray[np.floating]
    bias: NDArray[np.floating]
    n_heads: int
    kind: str

    def __post_init__(self) -> None:
        for name in ("query", "key", "value", "out"):
            check_numbers(name, getattr(self, name), 2)
        check_numbers("bias", self.bias, 1)
        if self.kind not in ("full", "linear"):
            raise ValueError(f"kind must be 'full' or 'linear'; got {self.kind!r}.")
        width = self.query.shape[1]
        if not is_count(self.n_heads) or width % self.n_heads:
            raise ValueError(
                f"n_heads must be a divisor of the width, {width}; got "
                f"{self.n_heads!r}."
            )
        super().__post_init__()

    def __call__(self, x: Any, xp: Any) -> Any:
        """Return what tokens learn from each other."""
        return self.of_others(x, x, xp)

    def of_others(self, x: Any, others: Any, xp: Any) -> Any:
        """Return what tokens x learn from other tokens.

        Parameters
        ----------
        x : array of shape (..., n, width)
        others : array of shape (..., m, width)
        xp : array namespace

        Returns
        -------
        array of shape (..., n, width)
        """
        q = self._heads(x @ like(self.query, x, xp), xp)
        k = self._heads(others @ like(self.key, x, xp), xp)
        v = self._heads(others @ like(self.value, x, xp), xp)
        mean = _linear_means if self.kind == "linear" else _full_means
        found = mean(q, k, v, xp)
        found = xp.permute_dims(found, (*range(found.ndim - 3), -2, -3, -1))
        found = xp.reshape(found, x.shape)
        return found @ like(self.out, x, xp) + like(self.bias, x, xp)

    def _heads(self, x: Any, xp: Any) -> Any:
        """Map (..., n, width) to (..., n_heads, n, width / n_heads)."""
        shape = (*x.shape[:-1], self.n_heads, x.shape[-1] // self.n_heads)
        x = xp.reshape(x, shape)
        return xp.permute_dims(x, (*range(x.ndim - 3), -2, -3, -1))


def _linear_means(q: Any, k: Any, v: Any, xp: Any) -> Any:
    q, k = _above_zero(q, xp), _above_zero(k, xp)
    # Means, not sums: the eps below is the same for eras of any size.
    products = xp.matrix_transpose(k) @ v / k.shape[-2]
    total = xp.mean(k, axis=-2, keepdims=True)
    return q @ products / (xp.sum(q * total, axis=-1, keepdims=True) + _TINY)


def _above_zero(x: Any, xp: Any) -> Any:
    """Return elu + 1."""
    zero = xp.zeros_like(x)
    return xp.where(x > 0, x + 1, xp.exp(xp.minimum(x, zero)))


def _full_means(q: Any, k: Any, v: Any, xp: Any) -> Any:
    """Return means for blocks of tokens: no table of all pairs is made."""
    scale, keys = q.shape[-1] ** -0.5, xp.matrix_transpose(k)
    heads = 1
    for size in q.shape[:-2]:
        heads *= size
    step = max(1, _CELLS // max(1, heads * k.shape[-2]))
    parts = []
    for start in range(0, q.shape[-2], step):
        near = q[..., start : start + step, :] @ keys * scale
        near = xp.exp(near - xp.max(near, axis=-1, keepdims=True))
        parts.append(near @ v / xp.sum(near, axis=-1, keepdims=True))
    return parts[0] if len(parts) == 1 else xp.concat(parts, axis=-2)


@dataclass(frozen=True, eq=False)
class InducedAttention(ArrayStep):
    """Attention through a few learned points (Set Transformer, Lee et al., 2019).

    The points look at the tokens, and the tokens at what the points have then: the cost
    is linear in the number of tokens.

    Parameters
    ----------
    points : ndarray of shape (n_points, width)
    gather : Attention
        Of the points to the tokens; its result is added to the points.
    norm : LayerNorm
        Of the points, before the tokens look at them.
    spread : Attention
        Of the tokens to the points.
    """

    mixes_rows: ClassVar[bool] = True

    points: NDArray[np.floating]
    gather: Attention
    norm: LayerNorm
    spread: Attention

    def __post_init__(self) -> None:
        check_numbers("points", self.points, 2)
        for name, kind in (
            ("gather", Attention),
            ("norm", LayerNorm),
            ("spread", Attention),
        ):
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise ValueError(
                    f"{name} must be a step {kind.__name__}; got {value!r}."
                )
        super().__post_init__()

    def __call__(self, x: Any, xp: Any) -> Any:
        """Return what tokens learn from the points."""
        points = like(self.points, x, xp)
        if x.ndim > 2:
            points = xp.broadcast_to(points, (*x.shape[:-2], *points.shape))
        held = points + self.gather.of_others(points, x, xp)
        return self.spread.of_others(x, self.norm(held, xp), xp)

    @property
    def branches(self) -> tuple[Encoder, ...]:
        """The steps inside, each as an encoder."""
        steps = (self.gather, self.norm, self.spread)
        return tuple(Encoder([("step", step)]) for step in steps)


@dataclass(frozen=True, eq=False)
class Positions(ArrayStep):
    """Add sinusoids of a row's place in the block, the first one at 0."""

    mixes_rows: ClassVar[bool] = True

    def __call__(self, x: Any, xp: Any) -> Any:
        """Return the rows with their places."""
        return x + like(sinusoids(len(x), x.shape[1]).astype(np.float32), x, xp)


def sinusoids(n: int, width: int) -> NDArray[np.float64]:
    """Return sines and cosines of places, of shape (n, width) (Vaswani et al., 2017).

    The periods are from 2 pi to 10,000 times as long.
    """
    rate = 10_000.0 ** (-2 * (np.arange(width) // 2) / width)
    angle = np.arange(n)[:, None] * rate
    even = np.arange(width) % 2 == 0
    return np.asarray(np.where(even, np.sin(angle), np.cos(angle)))


@dataclass(frozen=True, eq=False)
class FeatureTokens(ArrayStep):
    """Tokens of a row, one for each group of features.

    A feature's cell is cut into bins, and each bin of it has a vector. A token is the
    sum of the vectors of its group's cells, and of its group's own vector.

    Parameters
    ----------
    edges : ndarray of shape (n_bins - 1, n_features)
        A cell's bin is the number of edges below it; NaN where there are fewer bins.
    vectors : ndarray of shape (n_bins, n_features, width)
    groups : ndarray of shape (n_groups, width)
        The groups' own vectors.
    borders : tuple of int
        Group i has the features from ``borders[i]`` to ``borders[i + 1] - 1``.
    """

    makes_tokens: ClassVar[bool] = True

    edges: NDArray[np.floating]
    vectors: NDArray[np.floating]
    groups: NDArray[np.floating]
    borders: tuple[int, ...]

    def __post_init__(self) -> None:
        check_numbers("edges", self.edges, 2)
        check_numbers("vectors", self.vectors, 3)
        check_numbers("groups", self.groups, 2)
        if not isinstance(self.borders, tuple) or len(self.borders) != 1 + len(
            self.groups
        ):
            raise ValueError(
                f"borders must be a tuple of {1 + len(self.groups)} columns, see its "
                f"description; got {self.borders!r}."
            )
        super().__post_init__()

    def __call__(self, x: Any, xp: Any) -> Any:
        """Map (n_rows, n_features) to (n_rows, n_groups, width)."""
        bins = sum(xp.astype(x > edge, xp.int8) for edge in like(self.edges, x, xp))
        n_bins, _, width = self.vectors.shape
        own = xp.stack([xp.astype(bins == b, x.dtype) for b in range(n_bins)], axis=1)
        vectors, groups = like(self.vectors, x, xp), like(self.groups, x, xp)
        tokens = []
        for i, start in enumerate(self.borders[:-1]):
            part = slice(start, self.borders[i + 1])
            cells = xp.reshape(own[:, :, part], (len(x), -1))
            table = xp.reshape(vectors[:, part, :], (-1, width))
            tokens.append(cells @ table + groups[i, :])
        return xp.stack(tokens, axis=1)

    def n_out(self, n_in: int) -> int:
        """Return the width of a token, whatever `n_in` is."""
        return int(self.vectors.shape[2])


@dataclass(frozen=True, eq=False)
class TokenMean(ArrayStep):
    """Mean of the tokens of each row."""

    def __call__(self, x: Any, xp: Any) -> Any:
        """Map (n_rows, n_tokens, width) to (n_rows, width)."""
        return xp.mean(x, axis=1)
