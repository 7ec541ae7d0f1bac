"""Moments: counts, means and scatter matrices that add and subtract.

Factor analysis, standardisation, principal axes and ridge regression need nothing else
from the rows. Moments of chunks, files, machines or folds merge with ``+``; a fold's
training moments are the total ``-`` the held-out ones. For unweighted bins the sums are
whole numbers and exact: the order of merging does not change a bit.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numerai_features._arguments import COUNT, NOT_NEGATIVE, checked
from numerai_features._blocks import row_blocks
from numerai_features._eras import encode_eras
from numerai_features._threads import blas_threads
from numerai_features._validation import (
    as_floats,
    check_same_rows,
    check_size,
    check_spread,
    check_weights,
    fill_missing,
    read_only,
    require_numbers,
)

__all__ = ["EraMoments", "Moments"]

_EXACT_FLOAT32 = 1 << 24  # integers up to this are exact in float32
_WIDEST_BIN = 64  # larger bins leave too few rows between two flushes to float64
_BLOCK_BYTES = 8 << 20
_LEAST_SHARED = 10**10  # multiplications, of which one thread does some 5e10 a second


class Moments:
    r"""Weight, mean and scatter of a set of rows.

    For rows :math:`x_i`, weights :math:`w_i` and a fixed point :math:`s` (`shift`), it
    stores :math:`\sum w_i`, :math:`\sum w_i (x_i - s)` and
    :math:`\sum w_i (x_i - s)(x_i - s)^\top`.

    Parameters
    ----------
    weight : float
        Number of rows, or the sum of their weights.
    total : ndarray of shape (n_features,)
        Weighted sum of ``x - shift``.
    scatter : ndarray of shape (n_features, n_features)
        Weighted sum of outer products of ``x - shift``.
    shift : ndarray of shape (n_features,)
        Point that is subtracted from the rows before summing, for precision.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0, 4], [2, 2], [4, 1]], dtype=np.int8)
    >>> both = Moments.from_rows(X[:1]) + Moments.from_rows(X[1:])
    >>> both.mean
    array([2.        , 2.33333333])
    >>> bool(np.allclose(both.covariance(), np.cov(X.T, bias=True)))
    True
    """

    __slots__ = ("scatter", "shift", "total", "weight")

    def __init__(
        self,
        weight: float,
        total: NDArray[np.float64],
        scatter: NDArray[np.float64],
        shift: NDArray[np.float64],
    ) -> None:
        if not NOT_NEGATIVE.is_satisfied_by(weight):
            raise ValueError(
                f"weight must be a number of rows, or the sum of their weights; got "
                f"{weight!r}."
            )
        n = len(total) if isinstance(total, np.ndarray) and total.ndim == 1 else -1
        shapes = {"total": (total, (n,)), "scatter": (scatter, (n, n))}
        for name, (array, shape) in {**shapes, "shift": (shift, (n,))}.items():
            _check_shape(array, shape, name)
        self.weight = float(weight)
        self.total = read_only(total)
        self.scatter = read_only(scatter)
        self.shift = read_only(shift)

    @classmethod
    def from_rows(
        cls,
        X: NDArray[Any],
        *,
        sample_weight: ArrayLike | None = None,
        fill: ArrayLike | None = None,
    ) -> Moments:
        """Compute moments of rows block by block, without a float copy of X.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_features)
            int8 bins are summed exactly, by float32 matrix products; other numbers are
            summed in float64.
        sample_weight : array-like of shape (n_rows,), default=None
            Weights of the rows; 1 by default.
        fill : array-like of shape (n_features,), default=None
            Value that replaces NaN in each column; without it NaN is an error.

        Returns
        -------
        Moments
        """
        _check_table(X)
        sums = _Sums(X, fill)
        weights = check_weights(sample_weight, len(X))
        with _threads_for(X):
            for rows in row_blocks(len(X), X.shape[1], sums.block_rows):
                sums.add(X[rows], None if weights is None else weights[rows])
        return sums.moments()

    @property
    def n_features(self) -> int:
        """Number of features."""
        return len(self.total)

    @property
    def mean(self) -> NDArray[np.float64]:
        """Weighted mean of the rows, of shape (n_features,)."""
        return self.shift + self.total / self._positive_weight()

    def covariance(self) -> NDArray[np.float64]:
        """Return the covariance with divisor `weight`, (n_features, n_features).

        A variance within the rounding error of its sums is set to zero.
        """
        weight = self._positive_weight()
        offset = self.total / weight
        covariance = self.scatter / weight
        size = np.diag(covariance).copy()
        covariance -= np.outer(offset, offset)
        return _without_rounding(covariance, size)

    def about(self, shift: NDArray[np.float64]) -> Moments:
        """Return the same moments with the sums taken about `shift`."""
        _check_shape(shift, self.shift.shape, "shift")
        if np.array_equal(shift, self.shift):
            return self
        step = self.shift - shift
        cross = np.outer(self.total, step)
        scatter = self.scatter + cross + cross.T
        scatter += self.weight * np.outer(step, step)
        return Moments(self.weight, self.total + self.weight * step, scatter, shift)

    def __add__(self, other: Moments) -> Moments:
        other = self._aligned(other)
        return Moments(
            self.weight + other.weight,
            self.total + other.total,
            self.scatter + other.scatter,
            self.shift,
        )

    def __sub__(self, other: Moments) -> Moments:
        other = self._aligned(other)
        if other.weight > self.weight:
            raise ValueError(
                f"Cannot take moments of {other.weight:g} rows from moments of "
                f"{self.weight:g}: subtract a part from the whole that holds it."
            )
        return Moments(
            self.weight - other.weight,
            self.total - other.total,
            self.scatter - other.scatter,
            self.shift,
        )

    def __sizeof__(self) -> int:
        # Dask asks before it moves them to another worker.
        arrays = (self.total, self.scatter, self.shift)
        return object.__sizeof__(self) + sum(array.nbytes for array in arrays)

    def __repr__(self) -> str:
        return f"Moments(weight={self.weight:g}, n_features={self.n_features})"

    def _aligned(self, other: Moments) -> Moments:
        if not isinstance(other, Moments):
            raise TypeError(f"Expected Moments, got {type(other).__name__}.")
        if other.n_features != self.n_features:
            raise ValueError(
                f"Moments of {self.n_features} and of {other.n_features} features do "
                "not add: take both from the same columns."
            )
        return other.about(self.shift)

    def _positive_weight(self) -> float:
        if self.weight <= 0:
            raise ValueError("These moments hold no rows: add some first.")
        return self.weight


class EraMoments:
    """Moments for each block of eras, with the sums of every era.

    A fold's training moments are the total minus its held-out blocks. The sums of each
    era give the moments *within* eras: of rows centred on their own era's mean.

    Parameters
    ----------
    numbers : ndarray of shape (n_eras,)
        Era numbers, ascending.
    weights : ndarray of shape (n_eras,)
        Number of rows of each era, or the sum of their weights.
    totals : ndarray of shape (n_eras, n_features)
        Each era's sum of ``x - shift``.
    block_of : ndarray of shape (n_eras,)
        The block that each era belongs to.
    blocks : list of Moments
        Moments of each block.
    named : bool, default=False
        Whether the eras are names without numbers. Such eras cannot be matched across
        calls, so these moments can neither be merged nor leave out eras.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.arange(12).reshape(6, 2) % 5
    >>> moments = EraMoments.from_rows(X, [1, 1, 2, 2, 3, 3], n_blocks=3)
    >>> moments.without([2]).weight
    4.0
    >>> moments.within().mean
    array([0., 0.])
    """

    __slots__ = ("block_of", "blocks", "named", "numbers", "totals", "weights")

    def __init__(
        self,
        numbers: NDArray[np.int64],
        weights: NDArray[np.float64],
        totals: NDArray[np.float64],
        block_of: NDArray[np.intp],
        blocks: list[Moments],
        named: bool = False,
    ) -> None:
        n_eras = len(numbers) if np.ndim(numbers) == 1 else -1
        n_features = totals.shape[1] if np.ndim(totals) == 2 else -1
        _check_shape(numbers, (n_eras,), "numbers")
        _check_shape(weights, (n_eras,), "weights")
        _check_shape(totals, (n_eras, n_features), "totals")
        _check_shape(block_of, (n_eras,), "block_of")
        kinds = {type(block) for block in blocks} if isinstance(blocks, list) else {}
        if kinds != {Moments}:
            raise ValueError(f"blocks must be a list of Moments; got {blocks!r}.")
        if not isinstance(named, bool):
            raise ValueError(f"named must be True or False; got {named!r}.")
        self.named = named
        self.numbers = read_only(numbers)
        self.weights = read_only(weights)
        self.totals = read_only(totals)
        self.block_of = read_only(block_of)
        self.blocks = list(blocks)

    @classmethod
    @checked(n_blocks=[COUNT])
    def from_rows(
        cls,
        X: NDArray[Any],
        eras: Any,
        *,
        n_blocks: int = 1,
        sample_weight: ArrayLike | None = None,
        fill: ArrayLike | None = None,
    ) -> EraMoments:
        """Compute moments of rows era by era.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_features)
        eras : array-like of shape (n_rows,)
        n_blocks : int, default=1
            Number of contiguous blocks of eras with moments of their own; each block
            costs ``8 * n_features ** 2`` bytes.
        sample_weight, fill
            As in `Moments.from_rows`.

        Returns
        -------
        EraMoments
        """
        _check_table(X)
        check_same_rows(eras=eras, sample_weight=sample_weight)
        index = encode_eras(eras, n_rows=len(X))
        if not 1 <= n_blocks <= index.n_eras:
            raise ValueError(
                f"n_blocks must be between 1 and the number of eras ({index.n_eras}); "
                f"got {n_blocks}."
            )
        weights = check_weights(sample_weight, len(X))
        block_of = np.arange(index.n_eras) * n_blocks // index.n_eras
        totals = np.zeros((index.n_eras, X.shape[1]))
        era_weights = np.zeros(index.n_eras)
        blocks: list[Moments] = []
        sums = _Sums(X, fill)
        with _threads_for(X):
            for code, rows in index.rows_by_era():
                if block_of[code] > len(blocks):
                    blocks.append(sums.moments())
                    sums = _Sums(X, fill, like=sums)
                era_weights[code], totals[code] = sums.add_era(X, rows, weights)
        blocks.append(sums.moments())
        return cls(
            index.numbers, era_weights, totals, block_of, blocks, named=index.named
        )

    @property
    def n_features(self) -> int:
        """Number of features."""
        return int(self.totals.shape[1])

    def total(self) -> Moments:
        """Return the moments of all rows."""
        return _sum(self.blocks)

    def without(self, eras: Any) -> Moments:
        """Return the moments of all rows except those of `eras`.

        Parameters
        ----------
        eras : array-like
            Labels or numbers of the eras to leave out; they must form whole blocks.

        Returns
        -------
        Moments

        Raises
        ------
        ValueError
            If `eras` is not a union of whole blocks, or an era is unknown.
        """
        self._check_numbered()
        wanted = require_numbers(encode_eras(eras)).numbers
        unknown = np.setdiff1d(wanted, self.numbers)
        if len(unknown):
            raise ValueError(
                f"eras holds {unknown.tolist()}, which these moments do not; they have "
                f"{self.numbers[0]} to {self.numbers[-1]} ({len(self.numbers)} eras)."
            )
        held_out = np.isin(self.numbers, wanted)
        out = np.unique(self.block_of[held_out])
        if not np.array_equal(held_out, np.isin(self.block_of, out)):
            first = np.array([self.numbers[self.block_of == b][0] for b in out])
            raise ValueError(
                "eras must be whole blocks of eras; the blocks that they touch start "
                f"at {first.tolist()}. Choose n_blocks so that a fold is a union of "
                "blocks."
            )
        kept = [b for i, b in enumerate(self.blocks) if i not in out]
        if not kept:
            raise ValueError("eras names every era: nothing is left.")
        return _sum(kept)

    def within(self) -> Moments:
        """Return the moments of rows centred on their own era's mean."""
        total = self.total()
        means = self.totals / np.maximum(self.weights, 1e-300)[:, None]
        scatter = total.scatter - self.totals.T @ means
        scatter = _without_rounding(scatter, np.diag(total.scatter))
        zero = np.zeros(total.n_features)
        return Moments(total.weight, zero, scatter, zero)

    def __add__(self, other: EraMoments) -> EraMoments:
        """Merge moments; if an era is in both, all eras become one block."""
        self._check_numbered()
        other._check_numbered()
        shift = self.blocks[0].shift
        moved = other.totals + other.weights[:, None] * (other.blocks[0].shift - shift)
        numbers = np.union1d(self.numbers, other.numbers)
        mine = np.searchsorted(numbers, self.numbers)
        theirs = np.searchsorted(numbers, other.numbers)
        weights = np.zeros(len(numbers))
        totals = np.zeros((len(numbers), self.totals.shape[1]))
        block_of = np.zeros(len(numbers), np.intp)
        for at, part, sums in ((mine, self, self.totals), (theirs, other, moved)):
            weights[at] += part.weights
            totals[at] += sums
        if len(numbers) < len(mine) + len(theirs):
            blocks = [self.total() + other.total()]
        else:
            blocks = self.blocks + [block.about(shift) for block in other.blocks]
            block_of[mine] = self.block_of
            block_of[theirs] = other.block_of + len(self.blocks)
        return EraMoments(numbers, weights, totals, block_of, blocks)

    def __sizeof__(self) -> int:
        arrays = (self.numbers, self.weights, self.totals, self.block_of)
        own = object.__sizeof__(self) + sum(array.nbytes for array in arrays)
        return own + sum(block.__sizeof__() for block in self.blocks)

    def _check_numbered(self) -> None:
        if self.named:
            raise ValueError(
                "The eras are names without numbers, which cannot be matched with "
                "those of another call. Number them."
            )


class _Sums:
    """Running sums over blocks of rows; they cast the bytes and multiply."""

    def __init__(
        self, X: NDArray[Any], fill: ArrayLike | None, like: _Sums | None = None
    ) -> None:
        n_features = X.shape[1]
        if like is None and X.dtype.kind == "f":
            _check_sizes(X)
        self.fill = None if fill is None else as_floats(fill, "fill")
        if self.fill is not None and self.fill.shape != (n_features,):
            raise ValueError(
                f"fill must have shape ({n_features},), one value a column; got "
                f"{self.fill.shape}."
            )
        self.widest: int | None = _widest_bin(X) if like is None else like.widest
        self.exact = self.widest is not None
        self.shift: NDArray[np.float64] = (
            self._first_shift(X) if like is None else like.shift
        )
        self.block_rows = max(256, _BLOCK_BYTES // (4 * max(1, n_features)))
        if self.widest is not None:
            self.block_rows = min(self.block_rows, self._rows_to_flush)
        self.weight = 0.0
        self.total = np.zeros(n_features)
        self.scatter = np.zeros((n_features, n_features), order="F")  # upper triangle
        self._partial = np.zeros((n_features, n_features), np.float32, order="F")
        self._pending = 0
        # One buffer for all blocks: new memory pages would cost as much as the cast.
        n_rows = min(self.block_rows, len(X)) if self.exact else 0
        self._buffer = np.empty((n_rows, n_features), np.float32)

    @property
    def _rows_to_flush(self) -> int:
        assert self.widest is not None
        return int(_EXACT_FLOAT32 // max(1, self.widest**2))

    def _first_shift(self, X: NDArray[Any]) -> NDArray[np.float64]:
        if self.exact:
            return np.zeros(X.shape[1])
        some = X[:: max(1, len(X) // 1024)]
        some = self._filled(some.astype(np.float64))
        return np.asarray(some.mean(axis=0)) if len(some) else np.zeros(X.shape[1])

    def _filled(self, block: NDArray[np.float64]) -> NDArray[np.float64]:
        if np.isfinite(block).all():
            return block
        if self.fill is None:
            raise ValueError("X contains NaN; pass fill= values for the columns.")
        return fill_missing(block, self.fill)

    def add_era(
        self, X: NDArray[Any], rows: Any, weights: NDArray[np.float64] | None
    ) -> tuple[float, NDArray[np.float64]]:
        """Add one era in blocks; return its weight and its sum of ``x - shift``."""
        weight, total = self.weight, self.total.copy()
        whole = isinstance(rows, slice)
        n_rows = rows.stop - rows.start if whole else len(rows)
        for part in row_blocks(n_rows, X.shape[1], self.block_rows):
            at: Any = rows[part] if not whole else _shifted(part, rows.start)
            self.add(X[at], None if weights is None else weights[at])
        return self.weight - weight, self.total - total

    def add(self, block: NDArray[Any], weights: NDArray[np.float64] | None) -> None:
        """Add a block of rows."""
        if self.exact and weights is None:
            self._add_exact(block)
        else:
            self._add_float(block, weights)

    def _add_exact(self, block: NDArray[Any]) -> None:
        if self._pending + len(block) > self._rows_to_flush:
            self._flush()
        values = self._buffer[: len(block)]
        values[...] = block
        self._partial = _syrk(values, self._partial)
        self._pending += len(block)
        self.total += values.sum(axis=0)
        self.weight += len(block)

    def _add_float(
        self, block: NDArray[Any], weights: NDArray[np.float64] | None
    ) -> None:
        values = self._filled(block.astype(np.float64))
        values -= self.shift
        if weights is None:
            self.weight += len(block)
            self.total += values.sum(axis=0)
        else:
            self.weight += float(weights.sum())
            self.total += weights @ values
            values *= np.sqrt(weights)[:, None]
        self.scatter = _syrk(values, self.scatter)

    def _flush(self) -> None:
        if self._pending:
            self.scatter += self._partial
            self._partial[:] = 0
            self._pending = 0

    def moments(self) -> Moments:
        """Return the moments of the rows added so far."""
        self._flush()
        scatter = np.triu(self.scatter)
        scatter += np.triu(scatter, 1).T
        return Moments(self.weight, self.total, scatter, self.shift)


def _threads_for(X: NDArray[Any]) -> AbstractContextManager[None]:
    """Return a context with one thread of BLAS, unless several save much time.

    Where cores are busy, each product of several threads waits for the one that gets no
    core: a second becomes ten.
    """
    if len(X) * X.shape[1] ** 2 >= _LEAST_SHARED:
        return nullcontext()
    return blas_threads(1)


def _check_sizes(X: NDArray[Any]) -> None:
    """Raise if squares of cells, or of their differences, are not finite."""
    low, high = check_spread(X)
    if np.isinf(low).any() or np.isinf(high).any():
        raise ValueError("X contains infinity; pass finite numbers or NaN.")
    check_size(X, "X")


def _check_table(X: Any) -> None:
    """Raise if X is not a two-dimensional array of numbers."""
    if not (isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "biuf"):
        told = getattr(X, "shape", type(X).__name__)
        raise ValueError(
            f"X must be an array of numbers, of shape (n_rows, n_features); got {told}."
        )


def _check_shape(array: Any, shape: tuple[int, ...], name: str) -> None:
    if getattr(array, "shape", None) != shape or array.dtype.kind not in "iuf":
        wanted = "one-dimensional" if shape == (-1,) else f"of shape {shape}"
        raise ValueError(
            f"{name} must be an array of numbers, {wanted}; got {array!r}."
        )


def _shifted(rows: slice, by: int) -> slice:
    return slice(rows.start + by, rows.stop + by)


def _without_rounding(
    covariance: NDArray[np.float64], size: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Set rows and columns to zero whose variance is rounding error of `size`."""
    nothing = np.diag(covariance) <= 1e-13 * size
    covariance[nothing] = 0
    covariance[:, nothing] = 0
    return covariance


def _syrk(values: NDArray[Any], scatter: NDArray[Any]) -> NDArray[Any]:
    """Add ``values.T @ values`` to the upper triangle of a Fortran-ordered matrix."""
    from scipy.linalg import blas

    syrk = blas.ssyrk if values.dtype == np.float32 else blas.dsyrk
    if values.flags.c_contiguous:
        result = syrk(1.0, values.T, beta=1.0, c=scatter, overwrite_c=True)
    else:
        result = syrk(1.0, values, beta=1.0, c=scatter, trans=1, overwrite_c=True)
    return np.asarray(result)


def _widest_bin(X: NDArray[Any]) -> int | None:
    """Return the largest ``|x|`` of 8-bit integers; None if too large or not 8-bit."""
    if X.dtype not in (np.int8, np.uint8):
        return None
    if not X.size:
        return 0
    widest = max(abs(int(X.min())), abs(int(X.max())))
    return widest if widest <= _WIDEST_BIN else None


def _sum(moments: list[Moments]) -> Moments:
    first, *others = moments
    for other in others:
        first = first + other
    return first
