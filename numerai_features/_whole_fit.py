"""A fit changes an estimator when it has ended, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from types import SimpleNamespace
from typing import Any

import numpy as np

from numerai_features._compat import fit_context


class KeptInterrupt(KeyboardInterrupt):
    """Ctrl-C came, and what the fit has so far is to be kept all the same."""


def whole_fit(
    *, prefer_skip_nested_validation: bool, fixed: Sequence[str] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a method that fits, so that it changes its estimator whole or not.

    The method works on another object of the class, which has the same parameters; for
    ``partial_fit`` the same fitted attributes, too. Only what it leaves there when it
    returns becomes the estimator's, at once. If it raises, or is interrupted at
    whatever line, the estimator is as it was: every attribute, or unfitted. So a method
    may set attributes in any order, but must not write into those that are there.

    The parameters of a fit are kept as ``_fitted_with``. `transform` and its like ask
    that for them, so that parameters set later change nothing until the next fit.

    Parameters
    ----------
    prefer_skip_nested_validation : bool
        Whether estimators inside need not check their parameters, as in scikit-learn's
        own decorator, which checks those of this one.
    fixed : sequence of str, default=()
        Parameters that ``partial_fit`` cannot change, for they made what it goes on
        with.
    """

    def decorate(method: Callable[..., Any]) -> Callable[..., Any]:
        checked = fit_context(
            prefer_skip_nested_validation=prefer_skip_nested_validation
        )(method)
        goes_on = method.__name__ == "partial_fit"

        @wraps(method)
        def fit(self: Any, *args: Any, **kwargs: Any) -> Any:
            if goes_on and hasattr(self, "_fitted_with"):
                self._validate_params()  # which scikit-learn leaves out here
                _check_unchanged(self, fixed)
            work = object.__new__(type(self))
            work.__dict__ = {
                name: value
                for name, value in vars(self).items()
                if goes_on or not _is_fitted_attribute(name)
            }
            remember_parameters(work)
            try:
                result = checked(work, *args, **kwargs)
            except KeptInterrupt:
                self.__dict__ = work.__dict__
                raise
            # One step, which no signal comes between.
            self.__dict__ = work.__dict__
            return self if result is work else result

        return fit

    return decorate


def remember_parameters(estimator: Any) -> None:
    """Keep what an estimator is fitted with."""
    estimator._fitted_with = SimpleNamespace(**estimator.get_params(deep=False))


def _check_unchanged(estimator: Any, names: Sequence[str]) -> None:
    """Raise if parameters are no longer those of the fit."""
    for name in names:
        now, then = getattr(estimator, name), getattr(estimator._fitted_with, name)
        if not np.array_equal(now, then):
            raise ValueError(
                f"partial_fit goes on with what was fitted with {name}={then!r}; got "
                f"{name}={now!r}. Set it back, or call fit."
            )


def _is_fitted_attribute(name: str) -> bool:
    """Whether scikit-learn takes an attribute for one that a fit has set."""
    return name.endswith("_") and not name.startswith("__")
