"""A fit changes an estimator when it has succeeded, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from types import SimpleNamespace
from typing import Any

import numpy as np

from numerai_features._compat import fit_context


class KeptInterrupt(KeyboardInterrupt):
    """Ctrl-C in the fit of `owner`, which keeps what it has fitted so far.

    An estimator that contains `owner` is interrupted like any other.
    """

    def __init__(self, owner: Any) -> None:
        super().__init__()
        self.owner = owner


def whole_fit(
    *, prefer_skip_nested_validation: bool, fixed: Sequence[str] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a method that fits, so that it changes its estimator only as a whole.

    The method works on another object of the class with the same parameters and, for
    ``partial_fit``, the same fitted attributes. When the method returns, the estimator
    gets the attributes of that object in one step. If the method raises, or is
    interrupted at any line, the estimator does not change. So a method may set
    attributes in any order, but must not modify existing ones in place.

    The parameters of a fit are kept as ``_fitted_with``. `transform` and similar
    methods read them there, so that parameters set later have no effect until the next
    fit.

    Parameters
    ----------
    prefer_skip_nested_validation : bool
        Whether nested estimators skip the check of their parameters, as in
        scikit-learn's own decorator, which checks the parameters of this estimator.
    fixed : sequence of str, default=()
        Parameters that must not change before ``partial_fit``, because the state that
        it continues from depends on them.
    """

    def decorate(method: Callable[..., Any]) -> Callable[..., Any]:
        checked = fit_context(
            prefer_skip_nested_validation=prefer_skip_nested_validation
        )(method)
        goes_on = method.__name__ == "partial_fit"

        @wraps(method)
        def fit(self: Any, *args: Any, **kwargs: Any) -> Any:
            if goes_on and hasattr(self, "_fitted_with"):
                self._validate_params()  # scikit-learn skips this here
                _check_unchanged(self, fixed)
            work = object.__new__(type(self))
            old = () if goes_on else getattr(self, "_fitted_names", ())
            given = {k: v for k, v in vars(self).items() if k not in old}
            work.__dict__ = {**given}
            remember_parameters(work)
            try:
                result = checked(work, *args, **kwargs)
            except KeptInterrupt as interrupt:
                if interrupt.owner is work:
                    _hand_over(work, self, given)
                    interrupt.owner = self
                raise
            _hand_over(work, self, given)
            return self if result is work else result

        return fit

    return decorate


def remember_parameters(estimator: Any) -> None:
    """Keep the parameters that an estimator is fitted with."""
    params = estimator.get_params(deep=False)
    for name, value in params.items():
        if isinstance(value, list | dict | np.ndarray):
            params[name] = value.copy()  # the caller may change it in place
    estimator._fitted_with = SimpleNamespace(**params)


def _hand_over(work: Any, estimator: Any, given: dict[str, Any]) -> None:
    """Give the attributes of a fitted object to the estimator."""
    new = {name for name in vars(work) if name not in given}
    # Names that the next fit drops; a subclass's own attributes are not among them.
    work._fitted_names = sorted(new.union(given.get("_fitted_names", ())))
    estimator.__dict__ = work.__dict__  # one step, which no signal can interrupt


def _check_unchanged(estimator: Any, names: Sequence[str]) -> None:
    """Raise if parameters are no longer those of the fit."""
    for name in names:
        now, then = getattr(estimator, name), getattr(estimator._fitted_with, name)
        if not np.array_equal(now, then):
            raise ValueError(
                f"partial_fit continues a fit with {name}={then!r}; got "
                f"{name}={now!r}. Set it back, or call fit."
            )
