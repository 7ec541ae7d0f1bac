"""What arguments may be: one check of all of them, by scikit-learn's constraints.

Constructor parameters are checked in `fit` by scikit-learn itself, arguments of
functions and methods by `checked`, with the same constraints and the same words.
scikit-learn's own constraints take more than makes sense here: True for a whole number,
NaN for a real one, a class for an instance, text for whatever has a method ``split``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import wraps
from inspect import signature
from numbers import Integral, Real
from os import PathLike
from typing import Any, TypeVar, cast

import numpy as np

from numerai_features._compat import (
    HasMethods,
    Interval,
    validate_parameter_constraints,
)

F = TypeVar("F", bound=Callable[..., Any])

_MOST = 2**31 - 1  # what C libraries and numpy's draws count up to
OF_TABLES = ("columns", "column_names", "schema", "data_vars", "__dataframe__")
"""What the classes of tables have, one or another, of whatever library."""
_LARGEST = 1e15  # of a real number: beyond it sums of squares are no longer sane


class Whole(Interval):
    """A whole number, of Python or numpy, from `low` to `high`; True is none."""

    def __init__(self, low: int = 0, high: int = _MOST) -> None:
        super().__init__(Integral, low, high, closed="both")

    def is_satisfied_by(self, val: Any) -> bool:
        """Whether it is one."""
        return not isinstance(val, bool) and bool(super().is_satisfied_by(val))


class Finite(Interval):
    """A number within a range; True, NaN and infinity are none."""

    def __init__(
        self, low: float = -_LARGEST, high: float = _LARGEST, closed: str = "both"
    ) -> None:
        super().__init__(Real, low, high, closed=closed)

    def is_satisfied_by(self, val: Any) -> bool:
        """Whether it is one."""
        if isinstance(val, bool) or not isinstance(val, Real):
            return False
        try:
            finite = np.isfinite(float(val))
        except OverflowError:  # of a whole number or a fraction beyond floats
            return False
        return bool(finite and super().is_satisfied_by(val))


class Methods(HasMethods):
    """An instance with all of some methods; a class and text are none."""

    def is_satisfied_by(self, val: Any) -> bool:
        """Whether it is one."""
        if isinstance(val, type | str | bytes):
            return False
        return bool(super().is_satisfied_by(val))


class Each(HasMethods):
    """A list, tuple or vector whose items all keep to one constraint.

    It is derived from `HasMethods` because scikit-learn takes none but its own.
    """

    def __init__(self, item: Any, *, fewest: int = 0) -> None:
        super().__init__(["__len__", "__iter__"])
        self.item, self.fewest = item, fewest

    def is_satisfied_by(self, val: Any) -> bool:
        """Whether it is one."""
        vector = isinstance(val, np.ndarray) and val.ndim == 1
        if not (vector or isinstance(val, list | tuple)) or len(val) < self.fewest:
            return False
        return all(self.item.is_satisfied_by(item) for item in val)

    def __str__(self) -> str:
        some = f", {self.fewest} at least" if self.fewest else ""
        return f"a list of which each is {self.item}{some}"


class Folds(HasMethods):
    """What scikit-learn takes as ``cv=``: a splitter, how many folds, or the folds."""

    def __init__(self) -> None:
        super().__init__(["split"])

    def is_satisfied_by(self, val: Any) -> bool:
        """Whether it is one."""
        if isinstance(val, type | str | bytes | Mapping):
            return False
        if isinstance(val, Integral):
            return Whole(2).is_satisfied_by(val)
        if getattr(val, "shape", None) == ():
            return False
        return hasattr(val, "split") or hasattr(val, "__iter__")

    def __str__(self) -> str:
        return (
            "a splitter, a number of folds of at least 2, or pairs of training and "
            "test rows"
        )


class Folder(HasMethods):
    """The path of a folder, or what is made of one to remember results."""

    def __init__(self) -> None:
        super().__init__(["cache"])

    def is_satisfied_by(self, val: Any) -> bool:
        """Whether it is one."""
        if isinstance(val, type):
            return False
        if isinstance(val, str | PathLike):
            return bool(os.fspath(val))
        # joblib's, and our own: nobody else tells where the results are to be.
        return hasattr(val, "cache") and (
            hasattr(val, "location") or hasattr(val, "recall")
        )

    def __str__(self) -> str:
        return "the path of a folder, a joblib.Memory"


class Text(HasMethods):
    """Text."""

    def __init__(self) -> None:
        super().__init__(["split"])

    def is_satisfied_by(self, val: Any) -> bool:
        """Whether it is some."""
        return isinstance(val, str)

    def __str__(self) -> str:
        return "a str"


class Rowed(HasMethods):
    """An array, a list or tuple, or a column or table of a dataframe library.

    What is in it is told by who reads it; no mapping, text or lone number passes.
    """

    def __init__(self) -> None:
        super().__init__(["__len__"])

    def is_satisfied_by(self, val: Any) -> bool:
        """Whether it is one."""
        if isinstance(val, type | str | bytes | Mapping):
            return False
        shape = getattr(val, "shape", None)
        if shape is not None:
            return len(shape) > 0
        ways = ("__len__", "__arrow_c_stream__", "__narwhals_dataframe__")
        return any(hasattr(val, way) for way in ways)

    def __str__(self) -> str:
        return "an array, list or column"


class Tabular(Rowed):
    """What `Rowed` is, or any table, also one without rows yet, as a lazy frame.

    For arguments whose reader tells tables that it does not take, and the way out.
    """

    def is_satisfied_by(self, val: Any) -> bool:
        """Whether it is one."""
        # of the class, for a lazy frame warns when it is asked for its columns
        if any(hasattr(type(val), part) for part in OF_TABLES):
            return not isinstance(val, type)
        return super().is_satisfied_by(val)

    def __str__(self) -> str:
        return "an array, list, column or frame"


def checked(**constraints: list[Any]) -> Callable[[F], F]:
    """Decorate a public function or method, so that its arguments are checked.

    scikit-learn's own decorator would put the name of the function in the place of an
    estimator's whose parameter is wrong inside, and skip its check where it is nested.

    Parameters
    ----------
    **constraints : list
        For each argument to check, what it may be, as in ``_parameter_constraints``.
    """

    def decorate(function: F) -> F:
        called = signature(function)
        unknown = set(constraints) - set(called.parameters)
        if unknown:
            raise TypeError(f"{function.__qualname__} has no arguments {unknown}.")

        @wraps(function)
        def check(*args: Any, **kwargs: Any) -> Any:
            try:
                given = called.bind(*args, **kwargs).arguments
            except TypeError:
                return function(*args, **kwargs)  # Python says better what is missing
            validate_parameter_constraints(
                constraints, given, caller_name=function.__qualname__
            )
            return function(*args, **kwargs)

        return cast(F, check)

    return decorate


SEED: list[Any] = [Whole(0, 2**32 - 1), np.random.RandomState, None]
"""What may be a ``random_state``."""

COUNT = Whole(1)
NOT_NEGATIVE = Finite(0)
ABOVE_ZERO = Finite(0, closed="right")
COPIES = Finite(0, 1000, closed="right")
SPLITTER = Methods(["split"])
MODEL = Methods(["fit", "predict"])
CROSS_FIT: list[Any] = [Whole(2), SPLITTER, None]
"""Blocks of eras, or a splitter."""
ROWS = Rowed()
TABLE = Tabular()
FOLDS = Folds()
AXES: list[Any] = [Methods(["scatter", "set_xlabel"]), None]
"""Of matplotlib."""
DRAWS: list[Any] = [
    Whole(0, 2**128 - 1),
    Each(Whole(0, 2**32 - 1), fewest=1),
    np.random.RandomState,
    np.random.SeedSequence,
    np.random.BitGenerator,
    np.random.Generator,
    None,
]
"""What may draw numbers where no estimator is fitted: all that numpy draws by."""
VERBOSE: list[Any] = ["boolean", Whole(0)]
WIDTH = Whole(1, 1 << 16)
WIDTHS: list[Any] = [Each(WIDTH)]
"""Of layers of a network."""
_MOST_JOBS = max(256, 8 * (os.cpu_count() or 1))
N_JOBS: list[Any] = [Whole(-1024, -1), Whole(1, _MOST_JOBS), None]
"""As joblib counts them: of more below 0 than there are cores it makes one."""
THREADS: list[Any] = [Whole(-1024, _MOST_JOBS), None]
"""Of a tree library: far more than there are cores take the process down."""
TREE_SEED: list[Any] = [Whole(), np.random.RandomState, np.random.Generator, None]
MEMORY: list[Any] = [Folder(), None]
"""A folder, or a joblib.Memory."""
