"""Rows that a network is not trained on, to tell when to stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._eras import EraIndex
from numerai_features._horizon import LONGEST_PURGE

FEWEST_ERAS = 5  # of which some are held out; else random rows
FEWEST_ROWS = 20  # of which some are held out; else none
_MOST_ROWS = 1 << 16


@dataclass(frozen=True)
class Holdout:
    """Rows to train on, and rows that tell when to stop (None: none)."""

    train: NDArray[np.intp]
    valid: NDArray[np.intp] | None


def hold_out(
    validation: Any,
    n_rows: int,
    eras: EraIndex | None,
    weights: NDArray[np.float64] | None,
    seed: int,
    purge: int = LONGEST_PURGE,
) -> Holdout:
    """Choose the rows for early stopping.

    Parameters
    ----------
    validation : float, int, splitter or None
        As the embedders document it.
    n_rows : int
    eras : EraIndex or None
    weights : ndarray of shape (n_rows,) or None
        Rows of weight zero are left out.
    seed : int
        Of the rows drawn where there are no eras.
    purge : int, default=16
        Most eras left out before those held out, never more than these.
    """
    counted = np.ones(n_rows, bool) if weights is None else weights > 0
    everything = np.flatnonzero(counted)
    if validation is None:
        return Holdout(everything, None)
    if hasattr(validation, "split"):
        groups = None if eras is None else eras.row_numbers
        folds = list(validation.split(np.empty((n_rows, 1), np.int8), groups=groups))
        train, valid = folds[-1]
    elif eras is not None and eras.resolved.sum() >= FEWEST_ERAS:
        train, valid = _last_eras(validation, eras, purge)
    elif len(everything) >= FEWEST_ROWS:
        train, valid = _random_rows(validation, everything, eras, seed)
    else:
        return Holdout(everything, None)
    train, valid = train[counted[train]], valid[counted[valid]]
    for name, rows in {"train on": train, "hold out": valid}.items():
        if not len(rows):
            raise ValueError(
                f"validation={validation!r} leaves no row to {name}. Hold out another "
                "share, or pass validation=None to train on all rows."
            )
    if len(valid) > _MOST_ROWS:
        valid = valid[np.linspace(0, len(valid) - 1, _MOST_ROWS).astype(np.intp)]
    return Holdout(train, valid)


def _last_eras(
    validation: float, eras: EraIndex, purge: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    from numerai_features.model_selection import EraHoldout

    n_eras = int(eras.resolved.sum())
    n_held = validation if validation >= 1 else int(np.ceil(validation * n_eras))
    purge = min(purge, int(n_held))
    [(train, valid)] = EraHoldout(validation, purge=purge).split(None, groups=eras)
    return train, valid


def _random_rows(
    validation: float, rows: NDArray[np.intp], eras: EraIndex | None, seed: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    if validation >= 1:
        n_eras = 0 if eras is None else int(eras.resolved.sum())
        raise ValueError(
            f"validation={validation} is a number of eras, but there are {n_eras}; it "
            f"takes {FEWEST_ERAS}. Pass eras=, or a share of the rows, below 1."
        )
    order = np.random.default_rng([seed, len(rows)]).permutation(rows)
    n_held = int(np.ceil(validation * len(rows)))
    return np.sort(order[n_held:]), np.sort(order[:n_held])
