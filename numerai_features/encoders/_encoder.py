"""`Encoder`, a list of steps, and the step that has encoders inside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._blocks import row_blocks, rows_by_code
from numerai_features.encoders._step import ArrayStep, Step, check_numbers, is_count
from numerai_features.encoders._steps import Fill


@dataclass(frozen=True, eq=False)
class Concatenate(ArrayStep):
    """Outputs of several encoders on the same input, concatenated.

    Parameters
    ----------
    branches : tuple of Encoder
        Encoders to concatenate; one without steps returns its input.
    """

    branches: tuple[Encoder, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.branches, tuple) or not all(
            isinstance(branch, Encoder) for branch in self.branches or [None]
        ):
            raise ValueError(
                "branches must be a tuple of Encoder, one at least; got "
                f"{self.branches!r}."
            )

    def __call__(self, x: Any, xp: Any) -> Any:
        """Return the outputs of all branches, side by side."""
        return xp.concat([branch.apply(x, xp) for branch in self.branches], axis=1)

    def n_out(self, n_in: int) -> int:
        """Return the sum of the branches' widths for `n_in` input columns."""
        return sum(branch.n_out(n_in) for branch in self.branches)


class Encoder:
    """An immutable list of named steps from features to latents.

    Parameters
    ----------
    steps : sequence of (str, step)
        Named steps, applied in turn to blocks of rows.

    Examples
    --------
    >>> import numpy as np
    >>> from numerai_features.encoders import Activation, Affine, Encoder
    >>> weight = np.array([[1.0], [-1.0]], dtype=np.float32)
    >>> encoder = Encoder([("code", Affine(weight)), ("positive", Activation("relu"))])
    >>> encoder.transform(np.array([[4, 1], [0, 3]], dtype=np.int8))
    array([[3.],
           [0.]], dtype=float32)
    """

    __slots__ = ("_steps",)

    def __init__(self, steps: Sequence[tuple[str, Step]]) -> None:
        if not isinstance(steps, list | tuple) or not all(
            isinstance(pair, tuple)
            and len(pair) == 2
            and isinstance(pair[0], str)
            and callable(getattr(pair[1], "n_out", None))
            for pair in steps
        ):
            raise ValueError(f"steps must be a list of (name, step); got {steps!r}.")
        names = [name for name, _ in steps]
        if len(set(names)) != len(names):
            raise ValueError(f"steps must have distinct names; got {names}.")
        self._steps = tuple(steps)

    @property
    def steps(self) -> tuple[tuple[str, Step], ...]:
        """The steps and their names."""
        return self._steps

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the blocks: float64 if a step's array is float64, else float32."""
        return np.result_type(np.float32, *(array.dtype for array in self._arrays()))

    @property
    def n_bytes(self) -> int:
        """Total size of all arrays in bytes."""
        return sum(array.nbytes for array in self._arrays())

    @property
    def by_era(self) -> bool:
        """Whether rows of a block depend on each other: it must be an era's rows."""
        for _, step in self._steps:
            inside = getattr(step, "branches", ())
            if getattr(step, "mixes_rows", False) or any(b.by_era for b in inside):
                return True
            if getattr(step, "makes_tokens", False):
                return False
        return False

    def n_out(self, n_in: int) -> int:
        """Return the number of latents for `n_in` features."""
        for _, step in self._steps:
            n_in = step.n_out(n_in)
        return n_in

    def n_cells(self, n_in: int) -> int:
        """Return the largest number of cells that a row has in one of the steps.

        Parameters
        ----------
        n_in : int
            Number of features of a row.

        Returns
        -------
        int
        """
        most, n_tokens = n_in, 1
        for _, step in self._steps:
            for branch in getattr(step, "branches", ()):
                most = max(most, n_tokens * branch.n_cells(n_in))
            n_in = step.n_out(n_in)
            if getattr(step, "makes_tokens", False):
                n_tokens = len(step.groups)
            most = max(most, n_tokens * n_in)
        return most

    def apply(self, x: Any, xp: Any) -> Any:
        """Run the steps on one block `x` of floats, in the array namespace `xp`."""
        for _, step in self._steps:
            x = step(x, xp)
        return x

    def transform(
        self,
        X: Any,
        *,
        eras: NDArray[np.integer] | None = None,
        out: NDArray[Any] | None = None,
        block_rows: int | None = None,
    ) -> Any:
        """Encode rows, a block or an era at a time.

        Parameters
        ----------
        X : array of shape (n_rows, n_features)
            numpy or any array-API array (a torch tensor, also on a GPU). Integers are
            cast to float32 block by block.
        eras : ndarray of shape (n_rows,), default=None
            A number for each row's era, in any order. If given, each block is all rows
            of one era, for steps that need whole eras, and `block_rows` is ignored.
            Without it, all rows are one era if `by_era`.
        out : ndarray of shape (n_rows, n_out), default=None
            Output array, for numpy input; the results are cast to its dtype.
        block_rows : int, default=None
            Rows per block; by default as many as keep a block, and what the steps make
            of it, in the cache.

        Returns
        -------
        array of shape (n_rows, n_out), float32
            In the namespace and on the device of X.

        Raises
        ------
        ValueError
            If rows of a numpy array are so far from the fitted rows that their latents
            are not finite.
        """
        from array_api_compat import array_namespace, is_numpy_array

        if len(getattr(X, "shape", ())) != 2:
            raise ValueError(
                "X must be an array of shape (n_rows, n_features); got "
                f"{getattr(X, 'shape', type(X).__name__)}."
            )
        n_rows, n_features = X.shape
        if block_rows is not None and not is_count(block_rows):
            raise ValueError(
                f"block_rows must be a number of rows, 1 at least; got {block_rows!r}."
            )
        if eras is not None and np.shape(eras) != (n_rows,):
            raise ValueError(
                f"eras must be one number a row, shape ({n_rows},); got shape "
                f"{np.shape(eras)}."
            )
        xp = array_namespace(X)
        if not is_numpy_array(X):
            return self._transform_array(X, eras, xp)
        if out is not None:
            check_numbers("out", out, 2)
            if out.shape != (n_rows, self.n_out(n_features)):
                raise ValueError(
                    f"out must have shape {(n_rows, self.n_out(n_features))}; got "
                    f"{out.shape}."
                )
        if out is None:
            out = np.empty((n_rows, self.n_out(n_features)), dtype=np.float32)
        blocks: Any = row_blocks(n_rows, self.n_cells(n_features), block_rows)
        if eras is not None:
            blocks = rows_by_code(eras)
        elif self.by_era and n_rows:
            blocks = [slice(0, n_rows)]
        for rows in blocks:
            # Overflow is reported below, with its row.
            with np.errstate(over="ignore", invalid="ignore"):
                block = X[rows].astype(self.dtype, order="C")
                out[rows] = self.apply(block, xp)
            if not np.isfinite(out[rows]).all():
                self._check_finite(block, out[rows], np.arange(n_rows)[rows])
        return out

    def _check_finite(self, block: Any, latents: Any, rows: NDArray[np.intp]) -> None:
        """Raise if latents are not finite for another reason than NaN in the rows."""
        lost = ~np.isfinite(latents).all(axis=1)
        if not any(isinstance(step, Fill) for _, step in self._steps[:1]):
            lost &= np.isfinite(block).all(axis=1)
        if lost.any():
            i = int(lost.argmax())
            raise ValueError(
                f"X reaches {np.nanmax(np.abs(block[i])):.3g} in row {rows[i]}, so far "
                f"from the fitted rows that its latents exceed {latents.dtype}. Bring "
                "the rows to the scale of those of fit."
            )

    def _transform_array(
        self, X: Any, eras: NDArray[np.integer] | None, xp: Any
    ) -> Any:
        """Encode rows of another namespace, on their own device."""
        from array_api_compat import device

        X = xp.astype(X, getattr(xp, self.dtype.name))
        if eras is None:
            return xp.astype(self.apply(X, xp), xp.float32)
        groups = rows_by_code(eras)
        places = [xp.asarray(rows, device=device(X)) for rows in groups]
        parts = [self.apply(xp.take(X, rows, axis=0), xp) for rows in places]
        back = np.argsort(np.concatenate(groups), kind="stable")
        together = xp.astype(xp.concat(parts, axis=0), xp.float32)
        return xp.take(together, xp.asarray(back, device=device(X)), axis=0)

    def _arrays(self) -> Iterator[NDArray[Any]]:
        for _, step in self._steps:
            for branch in getattr(step, "branches", ()):
                yield from branch._arrays()
            for field in fields(step):
                value = getattr(step, field.name)
                if isinstance(value, np.ndarray):
                    yield value

    def __getstate__(self) -> tuple[tuple[str, Step], ...]:
        return self._steps

    def __setstate__(self, steps: tuple[tuple[str, Step], ...]) -> None:
        self._steps = steps

    def __repr__(self) -> str:
        return f"Encoder({[name for name, _ in self._steps]}, {self.n_bytes} bytes)"
