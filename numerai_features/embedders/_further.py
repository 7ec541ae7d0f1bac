"""Training that continues: further rows for networks that are fitted already."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._rows import Rows
from numerai_features._validation import check_missing
from numerai_features.embedders._columns import Columns, check_later
from numerai_features.embedders._course import Course, Fitted


def kept_to_continue(tasks: list[Any], course: Course) -> dict[str, Any]:
    """Return the attributes from which `train_further` continues."""
    return {
        "states_": [_arrays(task) for task in tasks],
        "_dtype": course.columns.dtype,
        "_n_fits": 0,
    }


def train_further(embedder: Any, rows: Rows) -> Fitted:
    """Train the networks of a fitted embedder on more rows; set no attribute.

    Parameters
    ----------
    embedder : NetworkEmbedder
        Fitted, with the attributes of `kept_to_continue`, ``mean_`` and ``scale_``.
    rows : Rows
        Checked with the columns of the first fit.
    """
    check_missing(rows.X, embedder.missing)
    columns = columns_of(embedder)
    check_later(rows.X, columns)
    start = {"states": embedder.states_, "n_fits": embedder._n_fits + 1}
    among = np.flatnonzero(embedder._learnable(rows))
    fitted: Fitted = embedder._train(rows, among, columns=columns, **start)
    seen = fitted.attributes["fitted_eras_"]
    if seen is not None and embedder.fitted_eras_ is not None:
        seen = np.union1d(embedder.fitted_eras_, seen)
    else:  # rows without eras may be of any era: fitted eras are unknown
        seen = None
    fitted.attributes.update(fitted_eras_=seen, _n_fits=start["n_fits"])
    return fitted


def columns_of(embedder: Any) -> Columns:
    """Return the columns by which a fitted embedder standardises rows."""
    units = embedder.mean_, embedder.scale_
    return Columns(*units, embedder.missing_values_, embedder._dtype)


def _arrays(module: Any) -> dict[str, NDArray[Any]]:
    """Return the weights and running moments of a module."""
    return {name: t.numpy().copy() for name, t in module.state_dict().items()}
