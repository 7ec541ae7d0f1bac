"""The gain in score from ignoring the overlap of targets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from numerai_features._arguments import MEMORY, MODEL, N_JOBS, VERBOSE, checked
from numerai_features.metrics._interval import MeanInterval, mean_interval
from numerai_features.model_selection._base import BaseEraSplitter
from numerai_features.model_selection._k_fold import EraKFold
from numerai_features.model_selection._predict import cross_val_predict_eras

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class LeakageEstimate:
    """The mean CORR of a model without and with a purge.

    Attributes
    ----------
    unpurged, purged : MeanInterval
        Mean CORR over eras and its interval; the ends are NaN if there are too few
        eras.
    difference : MeanInterval
        Unpurged minus purged, paired by era.
    scores : DataFrame
        CORR of each era (index), in the columns ``unpurged`` and ``purged``; the mean
        over folds if several folds test an era.
    purge : int
        Purge in eras; the intervals use it as the overlap, too.
    """

    unpurged: MeanInterval
    purged: MeanInterval
    difference: MeanInterval
    scores: pd.DataFrame = field(repr=False)
    purge: int


@checked(
    estimator=[MODEL],
    params=[dict, None],
    n_jobs=N_JOBS,
    memory=MEMORY,
    verbose=VERBOSE,
)
def measure_leakage(
    estimator: Any,
    X: Any,
    y: Any,
    eras: Any = None,
    *,
    cv: Any = None,
    params: dict[str, Any] | None = None,
    n_jobs: int | None = None,
    memory: Any = None,
    verbose: bool | int = True,
) -> LeakageEstimate:
    """Score a model with and without the purge: the gain from ignoring the overlap.

    Runs `cross_val_predict_eras` twice, under `cv` and under the same splitter with
    ``purge=0, embargo=0``. Without a purge the model also trains on the eras that the
    purge leaves out; with many eras, this adds little.

    Parameters
    ----------
    estimator : estimator
        Has ``fit`` and ``predict``, such as a Pipeline.
    X, y, eras
        As in `cross_val_predict_eras`.
    cv : era splitter, default=None
        A splitter of this package. None means `EraKFold()`.
    params, n_jobs, memory, verbose
        As in `cross_val_predict_eras`.

    Returns
    -------
    LeakageEstimate

    Raises
    ------
    ValueError
        If the purge of `cv` is 0.

    Examples
    --------
    >>> from sklearn.neighbors import KNeighborsRegressor
    >>> from sklearn.pipeline import make_pipeline
    >>> from numerai_features import LatentFeatures, make_era_panel
    >>> from numerai_features.model_selection import EraKFold, measure_leakage
    >>> panel = make_era_panel(n_eras=60, rows_per_era=60, random_state=0)
    >>> model = make_pipeline(LatentFeatures(), KNeighborsRegressor(20))
    >>> leakage = measure_leakage(
    ...     model, panel.to_frame(targets=[]), panel.y("target_alpha_60"),
    ...     cv=EraKFold(4, purge=12), verbose=False)
    >>> leakage.difference.low > 0.01
    True
    """
    import pandas as pd
    from sklearn.base import clone

    cv = EraKFold() if cv is None else cv
    purge = _purge_of(cv, y)
    splitters = {
        "unpurged": clone(cv).set_params(purge=0, embargo=0),
        "purged": cv,
    }
    scores = {}
    for name, splitter in splitters.items():
        out = cross_val_predict_eras(
            estimator,
            X,
            y,
            eras,
            cv=splitter,
            params=params,
            n_jobs=n_jobs,
            memory=memory,
            verbose=verbose,
        )
        scores[name] = out.groupby(["era", "fold"])["corr"].first()
    table = pd.DataFrame(scores).groupby("era").mean().dropna()
    intervals = {
        "unpurged": table["unpurged"],
        "purged": table["purged"],
        "difference": table["unpurged"] - table["purged"],
    }
    return LeakageEstimate(
        **{k: mean_interval(v, overlap=purge) for k, v in intervals.items()},
        scores=table,
        purge=purge,
    )


def _purge_of(cv: Any, y: Any) -> int:
    if not isinstance(cv, BaseEraSplitter):
        raise ValueError(
            "cv must be an era splitter of this package, whose purge can be set to 0; "
            f"got {cv!r}."
        )
    cv._validate_params()
    purge = cv._purge(y)
    if purge == 0:
        raise ValueError(
            f"cv={cv!r} purges nothing, so there is nothing to compare. Pass a "
            "splitter with a purge: target= or purge=."
        )
    return purge
