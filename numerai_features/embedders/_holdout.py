"""Held-out rows, for early stopping."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numerai_features._eras import EraIndex
from numerai_features._horizon import purge_of_targets
from numerai_features._rows import Rows

FEWEST_ERAS = 5  # with fewer eras, random rows are held out
FEWEST_ROWS = 20  # with fewer rows, none are held out
_MOST_ROWS = 1 << 16


class Holdout(NamedTuple):
    """Training rows, and held-out rows for early stopping or None."""

    train: NDArray[np.intp]
    valid: NDArray[np.intp] | None


def hold_out(
    validation: Any,
    rows: Rows,
    among: NDArray[np.intp],
    seed: int,
    *,
    whole_eras: bool = False,
) -> Holdout:
    """Choose the rows for early stopping.

    Parameters
    ----------
    validation : float, int, splitter or None
        As documented by the embedders.
    rows : Rows
        Its eras and the names of its targets are used.
    among : ndarray of int
        Rows to choose from, ascending.
    seed : int
        Seed of the random rows that are drawn without eras.
    whole_eras : bool, default=False
        Whether fewer eras are held out if there are too many rows, instead of some rows
        of each.
    """
    if validation is None:
        return Holdout(among, None)
    if hasattr(validation, "split"):
        fold = _last_fold(validation, rows)
        # The splitter counts all rows, including those outside `among`.
        train, valid = (np.flatnonzero(np.isin(among, part)) for part in fold)
        return _checked(validation, among, train, valid, rows if whole_eras else None)
    eras = None if rows.eras is None else rows.eras.take(among)
    if holds_eras(eras):
        train, valid = _last_eras(validation, eras, rows)
    elif len(among) >= FEWEST_ROWS:
        train, valid = _random_rows(validation, len(among), eras, seed)
    else:
        return Holdout(among, None)
    return _checked(validation, among, train, valid, rows if whole_eras else None)


def _last_fold(validation: Any, rows: Rows) -> Any:
    from numerai_features.model_selection._folds import no_folds, read_folds

    X = np.empty((rows.n_rows, 1), np.int8)
    folds = validation.split(X, groups=rows.groups)
    *_, last = [None, *read_folds(folds, rows.n_rows, "validation")]
    if last is None:
        raise no_folds(validation, "validation")
    return last


def _checked(
    validation: Any, among: Any, train: Any, valid: Any, rows: Rows | None
) -> Holdout:
    """Return the rows of a split of `among`, or raise if a part is empty.

    With `rows`, their eras stay whole where too many rows are held out.
    """
    for name, chosen in {"train on": train, "hold out": valid}.items():
        if not len(chosen):
            raise ValueError(
                f"validation={validation!r} leaves no row to {name}. Hold out another "
                "share, or pass validation=None to train on all rows."
            )
    if len(valid) > _MOST_ROWS and rows is not None and rows.eras is not None:
        codes = rows.codes[among[valid]]
        eras = np.unique(codes)
        n = max(1, len(eras) * _MOST_ROWS // len(valid))
        some = eras[np.linspace(0, len(eras) - 1, n).astype(np.intp)]
        valid = valid[np.isin(codes, some)]
    elif len(valid) > _MOST_ROWS:
        valid = valid[np.linspace(0, len(valid) - 1, _MOST_ROWS).astype(np.intp)]
    return Holdout(among[train], among[valid])


def varies_within_an_era(
    rows: Rows, held_out: NDArray[np.intp] | None, target: int = 0
) -> bool:
    """Whether an era has two held-out rows whose values of a target differ."""
    if held_out is None or rows.y is None:
        return False
    y, codes = rows.y[held_out, target], rows.codes[held_out]
    known = ~np.isnan(y)
    kinds = np.unique(np.column_stack([codes[known], y[known]]), axis=0)
    return len(kinds) > len(np.unique(kinds[:, 0]))


def holds_eras(eras: EraIndex | None) -> bool:
    """Whether there are enough eras to hold some of them out."""
    return eras is not None and int(eras.resolved.sum()) >= FEWEST_ERAS


def _last_eras(validation: float, eras: Any, rows: Rows) -> Any:
    """Return the training rows and the rows of the last eras.

    Targets of neighbouring eras overlap, so the usual purge applies; it is shortened on
    panels so short that fewer than half of the eras would be left for training. Without
    labels, rows of neighbouring eras are only similar, and a gap as long as the
    held-out eras is enough.
    """
    from numerai_features.model_selection import EraHoldout

    if eras.named:
        raise ValueError(
            f"validation={validation} holds out the last eras, but eras are names "
            f"without numbers, such as {eras.labels[0]!r}. Number the eras by week, "
            "write dates as '2020-01-03', or pass validation=None, or a splitter that "
            "needs no order, such as EraKFold(purge=0)."
        )
    numbers = eras.numbers[eras.resolved]
    n_held = int(validation if validation >= 1 else np.ceil(validation * len(numbers)))
    if n_held >= len(numbers):
        raise ValueError(
            f"validation={validation} holds out {n_held} of {len(numbers)} eras and "
            "leaves none to train on. Hold out fewer, or pass validation=None."
        )
    purge = purge_of_targets(rows.target_names)
    if rows.y is None:
        purge = min(purge, n_held)
    else:
        first = numbers[-n_held]
        while purge and 2 * (numbers < first - purge).sum() < len(numbers):
            purge -= 1
    [fold] = EraHoldout(validation, purge=purge).split(None, groups=eras)
    return fold


def _random_rows(validation: float, n_rows: int, eras: Any, seed: int) -> Any:
    if validation >= 1:
        n_eras = 0 if eras is None else int(eras.resolved.sum())
        raise ValueError(
            f"validation={validation} is a number of eras, but there are {n_eras}; it "
            f"needs {FEWEST_ERAS}. Pass eras=, or a share of the rows, below 1."
        )
    order = np.random.default_rng([seed, n_rows]).permutation(n_rows)
    n_held = int(np.ceil(validation * n_rows))
    return np.sort(order[n_held:]), np.sort(order[:n_held])
