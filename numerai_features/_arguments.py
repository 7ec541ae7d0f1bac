"""Constraints of arguments, and the check of the arguments of functions.

scikit-learn itself checks constructor parameters in `fit`. `checked` checks the
arguments of functions and methods, with the same constraints and the same messages.
The classes here are stricter than scikit-learn's own constraints, which accept True as
a whole number, NaN as a real number, a class as an instance, and text as an object with
a method ``split``.
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
    StrOptions,
    validate_parameter_constraints,
)

F = TypeVar("F", bound=Callable[..., Any])

_MOST = 2**31 - 1  # largest count in C libraries and in numpy's draws
OF_TABLES = ("columns", "column_names", "schema", "data_vars", "__dataframe__")
"""Attributes of table classes: each library's class has at least one of them."""
_LARGEST = 1e15  # largest real number: beyond, sums of squares are unusable


class Whole(Interval):
    """A whole number of Python or numpy from `low` to `high`; booleans are rejected."""

    def __init__(self, low: int = 0, high: int = _MOST) -> None:
        super().__init__(Integral, low, high, closed="both")

    def is_satisfied_by(self, val: Any) -> bool:
        """Return whether `val` satisfies the constraint."""
        return not isinstance(val, bool) and bool(super().is_satisfied_by(val))


class Finite(Interval):
    """A number within a range; booleans, NaN and infinity are rejected."""

    def __init__(
        self, low: float = -_LARGEST, high: float = _LARGEST, closed: str = "both"
    ) -> None:
        super().__init__(Real, low, high, closed=closed)

    def is_satisfied_by(self, val: Any) -> bool:
        """Return whether `val` satisfies the constraint."""
        if isinstance(val, bool) or not isinstance(val, Real):
            return False
        try:
            finite = np.isfinite(float(val))
        except OverflowError:  # an integer or a fraction too large for a float
            return False
        return bool(finite and super().is_satisfied_by(val))


class Methods(HasMethods):
    """An instance that has all given methods; classes and text are rejected."""

    def is_satisfied_by(self, val: Any) -> bool:
        """Return whether `val` satisfies the constraint."""
        if isinstance(val, type | str | bytes):
            return False
        return bool(super().is_satisfied_by(val))


class Each(HasMethods):
    """A list, tuple or vector whose items all satisfy one constraint.

    It derives from `HasMethods`, as scikit-learn accepts only its own constraints.
    """

    def __init__(self, item: Any, *, fewest: int = 0) -> None:
        super().__init__(["__len__", "__iter__"])
        self.item, self.fewest = item, fewest

    def is_satisfied_by(self, val: Any) -> bool:
        """Return whether `val` satisfies the constraint."""
        vector = isinstance(val, np.ndarray) and val.ndim == 1
        if not (vector or isinstance(val, list | tuple)) or len(val) < self.fewest:
            return False
        return all(self.item.is_satisfied_by(item) for item in val)

    def __str__(self) -> str:
        some = f"{self.fewest} or more " if self.fewest else ""
        return f"a list of {some}items, each {self.item}"


class Folds(HasMethods):
    """Any ``cv=`` of scikit-learn: a splitter, a number of folds, or the folds."""

    def __init__(self) -> None:
        super().__init__(["split"])

    def is_satisfied_by(self, val: Any) -> bool:
        """Return whether `val` satisfies the constraint."""
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
    """The path of a folder, or a cache in a folder, such as a joblib.Memory."""

    def __init__(self) -> None:
        super().__init__(["cache"])

    def is_satisfied_by(self, val: Any) -> bool:
        """Return whether `val` satisfies the constraint."""
        if isinstance(val, type):
            return False
        if isinstance(val, str | PathLike):
            return bool(os.fspath(val))
        # joblib.Memory, or our own cache; the folder of other caches is unknown.
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
        """Return whether `val` satisfies the constraint."""
        return isinstance(val, str)

    def __str__(self) -> str:
        return "a str"


class Rowed(HasMethods):
    """An array, a list or tuple, or a column or table of a dataframe library.

    The code that reads it checks its contents. Mappings, text and single numbers are
    rejected.
    """

    def __init__(self) -> None:
        super().__init__(["__len__"])

    def is_satisfied_by(self, val: Any) -> bool:
        """Return whether `val` satisfies the constraint."""
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
    """What `Rowed` accepts, or any table, even one without rows yet (a lazy frame).

    For arguments whose reader raises a better error for tables that it cannot read.
    """

    def is_satisfied_by(self, val: Any) -> bool:
        """Return whether `val` satisfies the constraint."""
        # Look at the class: an instance that is lazy warns when asked for its columns.
        if any(hasattr(type(val), part) for part in OF_TABLES):
            return not isinstance(val, type)
        return super().is_satisfied_by(val)

    def __str__(self) -> str:
        return "an array, list, column or frame"


def checked(**constraints: list[Any]) -> Callable[[F], F]:
    """Decorate a public function or method, so that its arguments are checked.

    scikit-learn's own decorator has two drawbacks. If a parameter of an estimator used
    in the function is wrong, the error names the function in place of the estimator.
    And it can skip the check of a function that is called by a checked function.

    Parameters
    ----------
    **constraints : list
        Constraints of each argument to check, as in ``_parameter_constraints``.
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
                return function(*args, **kwargs)  # Python's own error is clearer
            validate_parameter_constraints(
                constraints, given, caller_name=function.__qualname__
            )
            return function(*args, **kwargs)

        return cast(F, check)

    return decorate


SEED: list[Any] = [Whole(0, 2**32 - 1), np.random.RandomState, None]
"""Constraints of ``random_state``."""

COUNT = Whole(1)
NOT_NEGATIVE = Finite(0)
ABOVE_ZERO = Finite(0, closed="right")
COPIES = Finite(0, 1000, closed="right")
SPLITTER = Methods(["split"])
MODEL = Methods(["fit", "predict"])
CROSS_FIT: list[Any] = [Whole(2), SPLITTER, None]
"""Constraints of ``cross_fit``: a number of era blocks, or a splitter."""
ROWS = Rowed()
TABLE = Tabular()
FOLDS = Folds()
AXES: list[Any] = [Methods(["scatter", "set_xlabel"]), None]
"""Constraints of ``ax``: Axes of matplotlib."""
DRAWS: list[Any] = [
    Whole(0, 2**128 - 1),
    Each(Whole(0, 2**32 - 1), fewest=1),
    np.random.RandomState,
    np.random.SeedSequence,
    np.random.BitGenerator,
    np.random.Generator,
    None,
]
"""Constraints of ``random_state`` where no estimator is fitted: all seeds of numpy."""
VERBOSE: list[Any] = ["boolean", Whole(0)]
_CURVED = {"silu", "relu", "tanh", "sigmoid", "hardswish"}
ACTIVATION = StrOptions(_CURVED)
ANY_ACTIVATION = StrOptions(_CURVED | {"identity"})
WIDTH = Whole(1, 1 << 16)
WIDTHS: list[Any] = [Each(WIDTH)]
"""Constraints of the layer widths of a network."""
_MOST_JOBS = max(256, 8 * (os.cpu_count() or 1))
N_JOBS: list[Any] = [Whole(-1024, -1), Whole(1, _MOST_JOBS), None]
"""Constraints of ``n_jobs``; joblib runs one job if -n_jobs exceeds the cores."""
THREADS: list[Any] = [Whole(-1024, _MOST_JOBS), None]
"""Constraints of a tree library's threads; far too many threads kill the process."""
TREE_SEED: list[Any] = [Whole(), np.random.RandomState, np.random.Generator, None]
MEMORY: list[Any] = [Folder(), None]
"""Constraints of ``memory``: a folder, or a joblib.Memory."""
