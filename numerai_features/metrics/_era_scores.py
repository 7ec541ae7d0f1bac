"""Scores of predictions, one an era, by the formulas of `numerai_tools.scoring`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._eras import EraIndex, encode_eras, era_label
from numerai_features._threads import blas_threads
from numerai_features._validation import (
    as_floats,
    as_frame,
    column_names,
    fill_missing,
    frame_to_numbers,
    has_nan,
    index_of,
    is_frame,
    missing_values,
    take_eras,
    validate_target,
)
from numerai_features.metrics._corr import RefusedTarget, era_corr, normal_scores
from numerai_features.metrics._references import one_reference, take_ids

if TYPE_CHECKING:
    import pandas as pd

METRICS = ("corr", "mmc", "bmc", "fnc", "max_exposure", "benchmark_corr")
"""What `era_scores` computes."""

NEEDS = {
    "mmc": "meta_model",
    "bmc": "benchmark",
    "benchmark_corr": "benchmark",
    "fnc": "features",
    "max_exposure": "features",
}
"""Which argument a metric needs beside the predictions."""

_WITHOUT_TARGET = frozenset({"max_exposure", "benchmark_corr"})
_REFERENCES = frozenset({"benchmark", "meta_model"})
_WITHOUT_BLAS = frozenset({"corr", "benchmark_corr"})
_IN_QUARTERS = frozenset({"mmc", "bmc"})  # covariances; all others are correlations
_MAX_MISSING = 0.2  # of an era's rows: what numerai_tools lets be filtered away
_BLOCK_BYTES = 4 << 20
_ROUNDING = 1e-13
_ROUNDED_TARGET = 1e-6  # what float32 leaves of 1


class TooManyFeatures(ValueError):
    """An era has too few rows for feature-neutral scores."""


_Rows = slice | NDArray[np.intp]
_Array = NDArray[np.float64]
Score = Callable[["_Array | None", _Array, Any], _Array]


def era_scores(
    y: Any,
    prediction: Any,
    eras: Any,
    *,
    metric: str = "corr",
    benchmark: Any = None,
    meta_model: Any = None,
    features: Any = None,
) -> pd.Series[float] | pd.DataFrame:
    """Score predictions era by era.

    The formulas are those of `numerai_tools.scoring`, used once for each era. CORR, of
    all of them the one that is needed most, is computed here, to the same numbers:

    - ``"corr"``: `numerai_corr`, the score that Numerai pays on;
    - ``"mmc"`` and ``"bmc"``: `correlation_contribution` to the meta model, and to a
      benchmark model;
    - ``"fnc"``: `feature_neutral_corr`. It solves a least-squares problem of
      rows x features for every era, in double precision: hand in a few hundred
      features (Numerai takes its medium set), not thousands;
    - ``"max_exposure"``: `max_feature_correlation`, the largest absolute Pearson
      correlation of the prediction with one feature, computed for all features at
      once; a feature that is constant in the era counts for nothing;
    - ``"benchmark_corr"``: `numerai_corr` of the prediction with the benchmark, which
      is first ranked and gaussianised as CORR does to predictions, so that a copy
      of the benchmark scores 1.

    Parameters
    ----------
    y : array-like of shape (n_rows,)
        The target, in [0, 1] for "mmc" and "bmc", whose size depends on its scale. A
        row whose target is NaN is left out. May be None for "max_exposure" and
        "benchmark_corr", which need no target.
    prediction : array-like of shape (n_rows,) or (n_rows, n_predictions)
        Any finite numbers: they are ranked within the era. The columns of a frame or
        2-D array are scored separately.
    eras : array-like of shape (n_rows,)
        The era of each row.
    metric : {"corr", "mmc", "bmc", "fnc", "max_exposure", "benchmark_corr"}, \
            default="corr"
        What to compute.
    benchmark : array-like of shape (n_rows,) or frame, default=None
        Predictions of the benchmark model, for "bmc" and "benchmark_corr". A Series
        or Numerai's whole file, indexed by id, is matched by id where `y`,
        `prediction` or `eras` is indexed so; it may have further rows. Of several
        models' columns choose one.
    meta_model : array-like of shape (n_rows,) or frame, default=None
        Predictions of the meta model, for "mmc"; likewise.
    features : array-like of shape (n_rows, n_features), default=None
        For "fnc" and "max_exposure". Missing cells count as the middle bin (2 in
        integers, the column's median in floats); a frame's column ``era`` is ignored.

    Returns
    -------
    Series or DataFrame
        A score for each era, indexed by era number, ascending; by the labels where
        they are names without numbers. A Series named after
        the metric for one vector of predictions, else a DataFrame with a column for
        each.

        Left out are the live era, and eras that nothing can be scored in: without a
        known target or reference (the meta model starts late), with one that is
        constant, or with fewer than two rows. NaN marks an era in which the
        prediction is constant, so that it has no correlation.

    Raises
    ------
    ValueError
        If lengths or pandas indexes differ, a prediction is missing or infinite, what
        the metric needs is not given, what came is of no use to it, a target is outside
        of [0, 1] for "mmc" or "bmc", a reference misses
        more than a fifth of an era's rows (but not all), or no era is left.

    Examples
    --------
    >>> from numerai_features.metrics import era_scores
    >>> eras = ["0001"] * 4 + ["0002"] * 4
    >>> y = [0.0, 0.5, 0.5, 1.0] * 2
    >>> prediction = [0.1, 0.2, 0.3, 0.4, 0.4, 0.3, 0.2, 0.1]
    >>> era_scores(y, prediction, eras).round(4)
    era
    1    0.9895
    2   -0.9895
    Name: corr, dtype: float64
    """
    given = {"benchmark": benchmark, "meta_model": meta_model, "features": features}
    return scores_by_era(y, prediction, eras, metric, given)


def scores_by_era(
    y: Any,
    prediction: Any,
    eras: Any,
    metric: str,
    given: dict[str, Any],
    *,
    keep_few: bool = False,
) -> pd.Series[float] | pd.DataFrame:
    """Return `era_scores`, of what the metric needs by its names.

    With `keep_few`, eras of too few rows for the features are NaN, and no error as
    long as others have enough.
    """
    given = dict.fromkeys(set(NEEDS.values())) | given
    check_metric(metric, METRICS, given)
    needed = NEEDS.get(metric)
    if needed in _REFERENCES:
        ids = ids_of(y=y, prediction=prediction, eras=eras)
        given |= {needed: by_id(given[needed], needed, ids)}
    check_same_rows(y=y, prediction=prediction, eras=eras, **given)
    values, names = prediction_columns(prediction)
    index = encode_eras(eras, n_rows=len(values))
    target = _known_target(y, len(values), metric)
    if target is not None and metric in _IN_QUARTERS:
        target = _in_quarters(target, metric)
    if needed == "features":
        other: Any = Features(given["features"], len(values))
    else:
        other = needed and reference_values(given[needed], index, needed)
    # Of one era, threads of BLAS cost more than they save, in FNC's products too. CORR
    # does not use BLAS, and finding its libraries would take as long as 20 eras.
    with nullcontext() if metric in _WITHOUT_BLAS else blas_threads(1):
        scores = score_eras(
            index, target, values, other, _SCORES[metric], keep_few=keep_few
        )
    return as_pandas(scores, names, metric)


def check_metric(
    metric: str, allowed: tuple[str, ...], given: dict[str, Any], optional: str = ""
) -> None:
    """Raise if the metric is unknown, or another reference came than it needs.

    Parameters
    ----------
    metric : str
    allowed : tuple of str
    given : dict
        The references by their names; None if one did not come.
    optional : str, default=""
        A reference that need not come.
    """
    if not isinstance(metric, str) or metric not in allowed:
        raise ValueError(
            f"metric must be one of {', '.join(map(repr, allowed))}; got {metric!r}."
        )
    needed = NEEDS.get(metric)
    if needed not in (None, optional) and given[needed] is None:
        raise ValueError(
            f"metric={metric!r} needs {needed}, which is None. Pass {needed}=, one row "
            "for each row that is scored."
        )
    for name, value in given.items():
        if value is not None and name != needed:
            raise ValueError(
                f"{name} came, but metric={metric!r} makes no use of it. Leave it out, "
                f"or choose one of {[m for m in allowed if NEEDS.get(m) == name]}."
            )


def prediction_columns(prediction: Any) -> tuple[NDArray[Any], list[Any] | None]:
    """Return predictions as a 2-D array and their names, None for a vector."""
    names: list[Any] | None = None
    prediction = as_frame(prediction, "prediction")
    if is_frame(prediction):
        names = column_names(prediction)
        values = frame_to_numbers(prediction, "prediction")
    else:
        values = np.asarray(prediction)
        if values.ndim == 2:
            names = list(range(values.shape[1]))
    if (
        values.ndim not in (1, 2)
        or not values.size
        or values.dtype.kind not in "biuf"
        or names == []
    ):
        raise ValueError(
            "prediction must hold numbers, of shape (n_rows,) or (n_rows, "
            f"n_predictions); got shape {values.shape} and dtype {values.dtype}."
        )
    values = values.reshape(len(values), -1)
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        raise ValueError(
            f"prediction is NaN or infinite in {int(bad.sum())} of {len(values)} rows, "
            f"the first is row {int(bad.argmax())}. Score only the rows that have a "
            "prediction."
        )
    return values, names


def one_column(predicted: Any) -> NDArray[Any]:
    """Return what a model predicted as a vector, if it is one prediction a row."""
    prediction: NDArray[Any] = np.asarray(predicted)
    if prediction.size != len(prediction):
        raise ValueError(
            "A score needs one prediction a row; the model's predict returned shape "
            f"{prediction.shape}. Score a model of one target."
        )
    return prediction.reshape(-1)


def check_same_rows(**tables: Any) -> None:
    """Raise if two pandas objects are indexed by different ids.

    All arguments are matched by position. A default index says nothing about rows.
    """
    import pandas as pd

    indexes = {n: index_of(as_frame(table, n)) for n, table in tables.items()}
    default = any(isinstance(rows, pd.RangeIndex) for rows in indexes.values())
    first_name, first = "", None
    for name, rows in indexes.items():
        if not isinstance(rows, pd.Index) or isinstance(rows, pd.RangeIndex):
            continue
        if default and _is_shuffled_default(rows):
            raise ValueError(
                f"{name} has the rows of a default index in another order, but rows "
                "are matched by position. Sort it by its index, or pass to_numpy()."
            )
        if first is None:
            first_name, first = name, rows
        elif len(rows) == len(first) and not rows.equals(first):
            raise ValueError(
                f"{name} and {first_name} have different pandas indexes, but rows are "
                f"matched by position. Reindex {name} like {first_name}, or pass "
                "to_numpy() if the order is the same."
            )


def _is_shuffled_default(rows: Any) -> bool:
    """Whether an index is 0 .. n - 1 in another order."""
    if rows.dtype.kind not in "iu" or not len(rows):
        return False
    n, ordered = len(rows), bool(rows.is_monotonic_increasing)
    return not ordered and rows.is_unique and rows.min() == 0 and rows.max() == n - 1


def _known_target(y: Any, n_rows: int, metric: str) -> NDArray[np.float64] | None:
    if y is not None:
        return validate_target(y, n_rows)
    if metric in _WITHOUT_TARGET:
        return None
    raise ValueError(f"metric={metric!r} needs the target, but y is None.")


def reference_values(values: Any, index: EraIndex, name: str) -> NDArray[np.float64]:
    """Return another model's predictions, NaN where there are none."""
    n_rows = index.n_rows
    if index_of(values) is not None and len(values) != n_rows:
        raise ValueError(
            f"{name} has {len(values)} rows, and {n_rows} are scored: ids must tell "
            f"which. Pass {name} and y with an index of ids (texts, or numbers in an "
            "index called 'id'), or only the rows that are scored."
        )
    values = as_floats(values, name)
    if values.size and np.isnan(values).all():
        raise ValueError(
            f"{name} covers none of the eras that are scored: it is NaN in all "
            f"{n_rows} rows of eras {index.labels[0]} to {index.labels[-1]}. Score "
            "eras, and test folds, that it covers (the meta model starts late)."
        )
    return validate_target(values, n_rows, name=name)


def ids_of(**tables: Any) -> tuple[str, Any]:
    """Return the first index that tells rows apart, and whose it is."""
    import pandas as pd

    for name, table in tables.items():
        rows = index_of(table)
        if isinstance(rows, pd.Index) and not isinstance(rows, pd.RangeIndex):
            return name, rows
    return "", None


def by_id(reference: Any, name: str, ids: tuple[str, Any]) -> Any:
    """Return a reference's rows in the order of ids.

    Rows that were counted are not matched: they may be those of another table.
    """
    owner, wanted = ids
    column = one_reference(reference, name)
    rows = index_of(column)
    if rows is None or not holds_ids(rows):
        return column
    if wanted is None:
        if not is_frame(as_frame(reference, name)):
            return column
        raise ValueError(
            f"{name} has rows with ids, but y, prediction and eras have none, so "
            "nothing tells which rows are meant. Pass y or prediction as a Series "
            f"indexed by id, or {name} as an array in their order."
        )
    if rows.equals(wanted) or not holds_ids(wanted):
        return column
    return take_ids(column, wanted, name, owner)


def holds_ids(rows: Any) -> bool:
    """Tell whether an index names rows, and does not count them."""
    import pandas as pd

    return not pd.api.types.is_numeric_dtype(rows.dtype) or rows.name == "id"


def _in_quarters(target: NDArray[np.float64], metric: str) -> NDArray[np.float64]:
    """Return the target without what rounding puts outside of 0 to 1.

    Raise if it is not on the scale that contributions are measured on.
    """
    low, high = np.nanmin(target, initial=1), np.nanmax(target, initial=0)
    if low < -_ROUNDED_TARGET or high > 1 + _ROUNDED_TARGET:
        raise ValueError(
            f"metric={metric!r} needs a target from 0 to 1; y runs from {low:.9g} to "
            f"{high:.9g}. The score is a covariance, for which numerai_tools takes "
            "quarters of a target from 0 to 1 for bins, and any other target as it is: "
            "a centred one would score a quarter. Pass the target as Numerai has it, "
            "not centred, scaled or neutralised."
        )
    return np.clip(target, 0, 1)


class Features:
    """A table of features that is cast an era at a time."""

    def __init__(self, features: Any, n_rows: int) -> None:
        table, _ = take_eras(features, name="features")
        if is_frame(table):
            array = frame_to_numbers(table, "features")
        else:
            array = np.asarray(table)
        if array.ndim != 2 or len(array) != n_rows or array.dtype.kind not in "biuf":
            raise ValueError(
                f"features must hold numbers, of shape ({n_rows}, n_features); got "
                f"shape {array.shape} and dtype {array.dtype}."
            )
        self.array = array
        self.fill = missing_values(array, "middle") if has_nan(array) else None

    def __getitem__(self, rows: _Rows) -> NDArray[Any]:
        block = self.array[rows]
        return block if self.fill is None else fill_missing(block, self.fill)


def score_eras(
    index: EraIndex,
    target: NDArray[np.float64] | None,
    values: NDArray[Any],
    other: Any,
    score: Score,
    *,
    keep_few: bool = False,
    keep_constant: bool = False,
) -> dict[Any, NDArray[np.float64]]:
    """Return the scores of each era that can be scored, by its number or name.

    Parameters
    ----------
    index : EraIndex
    target : ndarray of shape (n_rows,) or None
    values : ndarray of shape (n_rows, n_predictions)
    other : ndarray, object with rows, or None
        What the score needs beside them.
    score : callable
        Scores one era: target, predictions (none of them constant) and other.
    keep_few : bool, default=False
        As in `scores_by_era`.
    keep_constant : bool, default=False
        Whether eras with a constant target are scored, too.
    """
    scores, few = {}, []
    for era, rows in _scorable(index, target, other, keep_constant):
        truth = None if target is None else target[rows]
        block = np.asarray(values[rows], dtype=np.float64)
        moves = block.max(axis=0) > block.min(axis=0)
        scores[era] = np.full(block.shape[1], np.nan)
        if moves.any():
            beside = None if other is None else other[rows]
            try:
                found = _score_era(score, truth, block[:, moves], beside, era)
            except TooManyFeatures as error:
                if not keep_few:
                    raise
                few.append(error)
            else:
                scores[era][moves] = found
    if not scores:
        raise ValueError(
            "no era can be scored: each is live, or its target or reference is unknown "
            "or constant. Pass rows of resolved eras."
        )
    if few and np.isnan(list(scores.values())).all():
        raise few[0]
    return scores


def _scorable(
    index: EraIndex,
    target: NDArray[np.float64] | None,
    other: Any,
    keep_constant: bool,
) -> Iterator[tuple[Any, _Rows]]:
    """Yield era numbers, or names, and the rows to score, where they are enough."""
    reference = other if isinstance(other, np.ndarray) else None
    for code, era_rows in index.rows_by_era():
        if not index.resolved[code]:
            continue
        era = index.labels[code] if index.named else int(index.numbers[code])
        rows = _known_rows(era_rows, target)
        n_rows = _length(rows)
        rows = _known_rows(rows, reference)
        if 0 < _length(rows) < (1 - _MAX_MISSING) * n_rows:
            raise ValueError(
                f"The benchmark or meta model misses {n_rows - _length(rows)} of "
                f"{n_rows} rows of era {_told(era)}; at most {_MAX_MISSING:.0%} "
                "(or all, which leaves the era out) can be missing. Check that it was "
                "aligned by id."
            )
        known = [reference] if keep_constant else [target, reference]
        if _length(rows) >= 2 and all(_varies(values, rows) for values in known):
            yield era, rows


def _told(era: Any) -> str:
    return era_label(era) if isinstance(era, int) else repr(era)


def _known_rows(rows: _Rows, values: NDArray[np.float64] | None) -> _Rows:
    """Return the rows whose value is not NaN; a slice stays one if it can."""
    if values is None:
        return rows
    known: NDArray[np.bool_] = ~np.isnan(values[rows])
    if known.all():
        return rows
    if isinstance(rows, slice):
        return np.flatnonzero(known) + int(rows.start)
    return rows[known]


def _length(rows: _Rows) -> int:
    return rows.stop - rows.start if isinstance(rows, slice) else len(rows)


def _varies(values: NDArray[np.float64] | None, rows: _Rows) -> bool:
    return values is None or bool(values[rows].max() > values[rows].min())


def _score_era(
    score: Score, target: Any, predictions: _Array, other: Any, era: Any
) -> _Array:
    """Score one era; numerai_tools checks its input by bare assertions."""
    try:
        return score(target, predictions, other)
    except (AssertionError, RefusedTarget) as error:
        raise ValueError(
            f"numerai_tools refuses era {_told(era)} ({error or 'no reason'}). "
            "Its formulas are for targets in [0, 1] and eras of many rows."
        ) from error


def _corr(target: Any, predictions: _Array, _: Any) -> _Array:
    return era_corr(target, predictions)


def contribution(target: Any, predictions: _Array, other: Any) -> _Array:
    import pandas as pd
    from numerai_tools.scoring import correlation_contribution

    frame, reference = pd.DataFrame(predictions), pd.Series(other, name="reference")
    truth = pd.Series(target, name="target")
    return np.asarray(correlation_contribution(frame, reference, truth))


def _neutral_corr(target: Any, predictions: _Array, other: Any) -> _Array:
    import pandas as pd
    from numerai_tools.scoring import feature_neutral_corr

    check_few_features(predictions, other)
    frame, truth = pd.DataFrame(predictions), pd.Series(target, name="target")
    return np.asarray(feature_neutral_corr(frame, pd.DataFrame(other), truth))


def check_few_features(predictions: _Array, features: NDArray[Any]) -> None:
    """Raise if an era has too few rows for its features."""
    if features.shape[1] + 1 >= len(predictions):
        raise TooManyFeatures(
            "metric='fnc' needs more rows in an era than features, else nothing is "
            f"left of the prediction; got {len(predictions)} rows and "
            f"{features.shape[1]} features. Pass fewer features."
        )


def _reference_corr(_: Any, predictions: _Array, other: Any) -> _Array:
    return era_corr(normal_scores(other), predictions)


def _max_exposure(_: Any, predictions: _Array, other: Any) -> _Array:
    """Return `max_feature_correlation` of each column, NaN if no feature varies."""
    p = predictions - predictions.mean(axis=0)
    p /= np.linalg.norm(p, axis=0)
    largest = np.full(p.shape[1], np.nan)
    step = max(1, _BLOCK_BYTES // (8 * len(p)))
    for start in range(0, other.shape[1], step):
        block = other[:, start : start + step].astype(np.float64)
        mean = block.mean(axis=0)
        block -= mean
        norm = np.sqrt(np.einsum("ij,ij->j", block, block))
        # what centring leaves of a constant column is rounding
        varies = norm > _ROUNDING * np.sqrt(len(p)) * np.abs(mean)
        exposures = np.abs(p.T @ block[:, varies]) / norm[varies]
        largest = np.fmax(largest, exposures.max(axis=1, initial=-np.inf))
    return np.where(np.isinf(largest), np.nan, np.minimum(largest, 1.0))


_SCORES: dict[str, Score] = {
    "corr": _corr,
    "mmc": contribution,
    "bmc": contribution,
    "fnc": _neutral_corr,
    "max_exposure": _max_exposure,
    "benchmark_corr": _reference_corr,
}


def as_pandas(
    scores: dict[Any, NDArray[np.float64]], names: list[Any] | None, metric: str
) -> pd.Series[float] | pd.DataFrame:
    import pandas as pd

    numbered = all(isinstance(era, int) for era in scores)
    eras = pd.Index(list(scores), dtype=np.int64 if numbered else None, name="era")
    table = np.stack(list(scores.values()))
    if names is None:
        return pd.Series(table[:, 0], index=eras, name=metric)
    return pd.DataFrame(table, index=eras, columns=names)
