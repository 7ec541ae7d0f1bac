"""What a step of an encoder is, and what all steps share."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray


class Step(Protocol):
    """One step: a pure function of a block of rows."""

    def __call__(self, x: Any, xp: Any) -> Any:
        """Map a float block (n_rows, n_in) to (n_rows, n_out)."""

    def n_out(self, n_in: int) -> int:
        """Return the number of output columns for `n_in` input columns."""


@dataclass(frozen=True, eq=False)
class ArrayStep:
    """A step whose fields are read-only arrays.

    Attributes
    ----------
    mixes_rows : bool
        Whether the output for a row depends on other rows of its block.
    makes_tokens : bool
        Whether the output has several tokens for each row, one for each of its
        `groups`, so that later steps mix those, and not rows.
    """

    mixes_rows: ClassVar[bool] = False
    makes_tokens: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value = value.copy()
                value.flags.writeable = False
                object.__setattr__(self, field.name, value)

    def n_out(self, n_in: int) -> int:
        """Return the number of output columns, which is `n_in`."""
        return n_in


def check_numbers(name: str, array: Any, ndim: int) -> None:
    if not (
        isinstance(array, np.ndarray)
        and array.ndim == ndim
        and array.dtype.kind in "iuf"
    ):
        raise ValueError(
            f"{name} must be a numpy array of numbers with {ndim} dimensions; got "
            f"{array!r}."
        )


def like(array: NDArray[Any], x: Any, xp: Any) -> Any:
    """Return a fitted array with the device and dtype of x; numpy's is unchanged."""
    if isinstance(x, np.ndarray):
        return array
    from array_api_compat import device

    return xp.asarray(array.copy(), device=device(x), dtype=x.dtype)


def is_count(number: Any) -> bool:
    """Return whether a number is whole, and 1 at least."""
    whole = isinstance(number, int | np.integer) and not isinstance(number, bool)
    return whole and 1 <= number < 1 << 31
