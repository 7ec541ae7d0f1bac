"""The folds of an experiment, and a check of the eras before features are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from numerai_features.experiment._columns import targets_of
from numerai_features.experiment._parts import CLASS_KEYS, make_part, parts_of
from numerai_features.experiment._tables import WINDOW

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from numerai_features.datasets import EraPanel
    from numerai_features.model_selection._folds import Fold


def make_folds(tables: dict[str, Any], panel: EraPanel) -> list[Fold]:
    """Return the purged folds of a panel, numbered from 1."""
    return _folds(tables["cv"], panel.eras, panel.y(tables["targets"]["main"]))


class ScoredEras(NamedTuple):
    """Eras with a known target.

    Attributes
    ----------
    test : ndarray of int
        Those of all test rows.
    train : list of ndarray of int
        Those of the training rows of each fold.
    """

    test: NDArray[np.int32]
    train: list[NDArray[np.int32]]


def check_folds(tables: dict[str, Any]) -> ScoredEras:
    """Raise if the eras of the data cannot be split as needed; no features are read.

    Eras are split into folds. Within each fold, networks split the training eras again,
    for held-out eras or for cross-fitting.

    Parameters
    ----------
    tables : dict
        The tables of an experiment.

    Returns
    -------
    ScoredEras
    """
    import numpy as np

    from numerai_features._eras import encode_eras
    from numerai_features._rows import Rows

    names = targets_of(tables)  # the longest one sets the purge of networks
    eras, target = _eras_of(tables)
    folds = _folds(tables["cv"], eras, target)
    rows = Rows(
        np.zeros((len(eras), 1), np.int8),
        np.tile(target[:, None].astype(np.float64), len(names)),
        encode_eras(eras),
        target_names=names,
    )
    parts = [(n, p) for t in CLASS_KEYS for n, p in parts_of(tables, t).items()]
    for name, part in parts:
        estimator = make_part(part, tables)
        if not hasattr(estimator, "_check_divisions"):
            continue
        for fold in folds:
            try:
                estimator._check_divisions(rows.take(fold.train))
            except ValueError as error:
                raise ValueError(f"{name}, fold {fold.number}: {error}") from error
    tested = np.zeros(len(eras), bool)
    for fold in folds:
        tested[fold.test] = True
    known = ~np.isnan(target)
    train = [np.unique(eras[fold.train][known[fold.train]]) for fold in folds]
    return ScoredEras(np.unique(eras[tested & known]), train)


def _folds(cv: dict[str, Any], eras: Any, target: NDArray[Any]) -> list[Fold]:
    from numerai_features._eras import encode_eras
    from numerai_features.model_selection._folds import folds_to_run

    return list(folds_to_run(_splitter(cv), encode_eras(eras), target, first=1))


def _splitter(cv: dict[str, Any]) -> Any:
    from numerai_features.model_selection import EraKFold, EraWalkForward

    splitters: Any = EraKFold, EraWalkForward  # their constructors are not typed
    k_fold, walk_forward = splitters
    apart = {"purge": cv["purge"], "embargo": cv["embargo"]}
    if cv["scheme"] == "k-fold":
        return k_fold(cv["n_splits"], **apart)
    window = {name: cv[name] for name in WINDOW}
    return walk_forward(cv["n_splits"], **window, **apart)


def _eras_of(tables: dict[str, Any]) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Return the eras that are kept, and a target for each: NaN if it is unknown."""
    import numpy as np

    from numerai_features.datasets._panel_select import select_eras
    from numerai_features.datasets._parquet_eras import read_eras

    data = tables["data"]
    if data["files"] is not None:
        return read_eras(data["files"], tables["targets"]["main"], data["every"])
    eras = np.arange(1, data["synthetic"]["n_eras"] + 1)
    eras = eras[select_eras(eras, None, every=data["every"])]
    return eras, np.zeros(len(eras), np.float32)
