"""Scores of predictions for each era, by the formulas of `numerai_tools.scoring`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from numerai_features._eras import EraIndex, encode_eras, era_label
from numerai_features._ids import check_as_many, match_ids
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
from numerai_features.metrics._fnc import era_fnc

if TYPE_CHECKING:
    import pandas as pd

METRICS = ("corr", "mmc", "bmc", "fnc", "max_exposure", "benchmark_corr")
"""Metrics that `era_scores` computes."""

NEEDS = {
    "mmc": "meta_model",
    "bmc": "benchmark",
    "benchmark_corr": "benchmark",
    "fnc": "features",
    "max_exposure": "features",
}
"""The argument that each metric needs in addition to the predictions."""

_WITHOUT_TARGET = frozenset({"max_exposure", "benchmark_corr"})
_REFERENCES = frozenset({"benchmark", "meta_model"})
_WITHOUT_BLAS = frozenset({"corr", "benchmark_corr"})
_IN_QUARTERS = frozenset({"mmc", "bmc"})  # covariances; all others are correlations
MAX_MISSING = 0.2
"""Largest share of an era's rows that numerai_tools allows a reference to miss."""

_BLOCK_BYTES = 4 << 20
_ROUNDING = 1e-13
_ROUNDED_TARGET = 1e-6  # tolerance for float32 rounding errors of 1


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

    The formulas are those of `numerai_tools.scoring`, applied to each era. CORR and
    FNC, the slowest of them, are reimplemented here and give the same numbers:

    - ``"corr"``: `numerai_corr`, the score that Numerai pays on;
    - ``"mmc"`` and ``"bmc"``: `correlation_contribution` to the meta model, and to a
      benchmark model;
    - ``"fnc"``: `feature_neutral_corr`. It solves a least-squares problem of
      rows x features for every era, in double precision: pass a few hundred features
      (Numerai uses its medium set), not thousands;
    - ``"max_exposure"``: `max_feature_correlation`, the largest absolute Pearson
      correlation of the prediction with a single feature, computed for all features at
      once; features that are constant in the era are ignored;
    - ``"benchmark_corr"``: `numerai_corr` of the prediction with the benchmark as
      target. The benchmark is first ranked and gaussianised, as CORR does to
      predictions, so that a copy of the benchmark scores 1.

    Parameters
    ----------
    y : array-like of shape (n_rows,)
        The target. For "mmc" and "bmc" it must be in [0, 1], because these scores
        depend on its scale. Rows whose target is NaN are left out. May be None for
        "max_exposure" and "benchmark_corr", which need no target.
    prediction : array-like of shape (n_rows,) or (n_rows, n_predictions)
        Any finite numbers; they are ranked within each era. The columns of a frame or
        2-D array are scored separately.
    eras : array-like of shape (n_rows,)
        The era of each row.
    metric : {"corr", "mmc", "bmc", "fnc", "max_exposure", "benchmark_corr"}, \
            default="corr"
        The metric to compute.
    benchmark : array-like of shape (n_rows,) or frame, default=None
        Predictions of the benchmark model, for "bmc" and "benchmark_corr". A Series
        indexed by id, or Numerai's whole file, is matched by id if `y`, `prediction` or
        `eras` is indexed by id, too; it may have further rows. From a file with the
        columns of several models, pass one column.
    meta_model : array-like of shape (n_rows,) or frame, default=None
        Predictions of the meta model, for "mmc"; matched like `benchmark`.
    features : array-like of shape (n_rows, n_features), default=None
        For "fnc" and "max_exposure". A missing cell counts as its column's median;
        a frame's column ``era`` is ignored.

    Returns
    -------
    Series or DataFrame
        One score for each era, indexed by era number, ascending, or by label if the
        labels are names without numbers. For one vector of predictions, a Series named
        after the metric; otherwise a DataFrame with a column for each prediction.

        The live era is left out, and so are eras that cannot be scored: eras without a
        known target or reference (the meta model starts late), with a constant target
        or reference, or with fewer than two rows. NaN marks an era in which the
        prediction is constant, and so has no correlation.

    Raises
    ------
    ValueError
        If lengths or pandas indexes differ, a prediction is missing or infinite, an
        argument that the metric needs is missing, an argument is passed that it does
        not use, a target is outside [0, 1] for "mmc" or "bmc", a reference is missing
        in more than a fifth of an era's rows (but not all), or no era can be scored.

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
    """Return `era_scores`; `given` holds the references and features by name.

    With `keep_few`, an era with too few rows for the features scores NaN; it is an
    error only if no era has enough rows.
    """
    given = dict.fromkeys(set(NEEDS.values())) | given
    check_metric(metric, METRICS, given)
    needed = NEEDS.get(metric)
    if needed in _REFERENCES:
        column = match_ids(given[needed], needed, y=y, prediction=prediction, eras=eras)
        given |= {needed: column}
    check_same_index(y=y, prediction=prediction, eras=eras, **given)
    values, names = prediction_columns(prediction)
    index = encode_eras(eras, n_rows=len(values))
    target = _known_target(y, len(values), metric)
    if target is not None and metric in _IN_QUARTERS:
        target = _in_quarters(target, metric)
    if needed == "features":
        other: Any = Features(given["features"], len(values))
    else:
        other = needed and reference_column(given[needed], index, needed)
    # For one era, threads of BLAS cost more than they save, even in FNC's products.
    # CORR does not use BLAS; finding the BLAS libraries would take as long as 20 eras.
    with nullcontext() if metric in _WITHOUT_BLAS else blas_threads(1):
        scores = score_eras(
            index, target, values, other, _SCORES[metric], keep_few=keep_few
        )
    return as_pandas(scores, names, metric)


def check_metric(
    metric: str, allowed: tuple[str, ...], given: dict[str, Any], optional: str = ""
) -> None:
    """Raise if the metric is unknown, or other references are given than it needs.

    Parameters
    ----------
    metric : str
    allowed : tuple of str
    given : dict
        The references (and features) by name; None if not passed.
    optional : str, default=""
        A reference that may be None although the metric needs it.
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
                f"{name} was passed, but metric={metric!r} does not use it. Leave it "
                "out, or choose one of the metrics "
                f"{[m for m in allowed if NEEDS.get(m) == name]}."
            )


def prediction_columns(prediction: Any) -> tuple[NDArray[Any], list[Any] | None]:
    """Return predictions as a 2-D array, and their names (None for a vector)."""
    names: list[Any] | None = None
    prediction = as_frame(prediction, "prediction")
    if is_frame(prediction):
        names = column_names(prediction)
        values = frame_to_numbers(prediction, "prediction")
    else:
        values = np.asarray(prediction)
        if values.ndim == 2:
            names = list(range(values.shape[1]))
    if values.dtype == object:  # of decimals, say
        values = as_floats(values, "prediction")
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
    """Return a model's predictions as a vector; raise if a row has several."""
    prediction: NDArray[Any] = np.asarray(predicted)
    if prediction.size != len(prediction):
        raise ValueError(
            "A score needs one prediction a row; the model's predict returned shape "
            f"{prediction.shape}. Score a model of one target."
        )
    return prediction.reshape(-1)


def check_same_index(**tables: Any) -> None:
    """Raise if two pandas objects are indexed by different ids.

    All arguments are matched by position. A default index does not identify rows, so it
    may stand beside an index of ids.
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


def reference_column(values: Any, index: EraIndex, name: str) -> NDArray[np.float64]:
    """Return another model's predictions, NaN if missing."""
    n_rows = index.n_rows
    check_as_many(values, name, n_rows, "y")
    values = as_floats(values, name)
    if values.size and np.isnan(values).all():
        raise ValueError(
            f"{name} covers none of the eras that are scored: it is NaN in all "
            f"{n_rows} rows of eras {index.labels[0]} to {index.labels[-1]}. Score "
            "eras, and test folds, that it covers (the meta model starts late)."
        )
    return validate_target(values, n_rows, name=name)


def _in_quarters(target: NDArray[np.float64], metric: str) -> NDArray[np.float64]:
    """Return the target, with values that rounding puts outside [0, 1] clipped.

    Raise if the target is not on this scale, which MMC and BMC need.
    """
    low, high = np.nanmin(target, initial=1), np.nanmax(target, initial=0)
    if low < -_ROUNDED_TARGET or high > 1 + _ROUNDED_TARGET:
        raise ValueError(
            f"metric={metric!r} needs a target from 0 to 1; y runs from {low:.9g} to "
            f"{high:.9g}. The score is a covariance: numerai_tools multiplies a target "
            "from 0 to 1 by 4, and uses any other target as it is, so a centred target "
            "would score a quarter. Pass the target as Numerai publishes it, not "
            "centred, scaled or neutralised."
        )
    return np.clip(target, 0, 1)


class Features:
    """A table of features whose missing cells are filled one era at a time."""

    def __init__(self, features: Any, n_rows: int) -> None:
        table, _ = take_eras(features, name="features")
        if is_frame(table):
            array = frame_to_numbers(table, "features")
        else:
            array = np.asarray(table)
        if array.dtype == object:
            array = as_floats(table, "features")
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
    for era, rows in scorable_eras(index, target, other, keep_constant):
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
            "or constant. Pass eras in which both are known and vary."
        )
    if few and np.isnan(list(scores.values())).all():
        raise few[0]
    return scores


def scorable_eras(
    index: EraIndex,
    target: NDArray[np.float64] | None,
    other: Any,
    keep_constant: bool = False,
) -> Iterator[tuple[Any, _Rows]]:
    """Yield the number, or name, and the rows of each era that can be scored."""
    reference = other if isinstance(other, np.ndarray) else None
    for code, era_rows in index.rows_by_era():
        if not index.resolved[code]:
            continue
        era = index.labels[code] if index.named else int(index.numbers[code])
        rows = _known_rows(era_rows, target)
        n_rows = _length(rows)
        rows = _known_rows(rows, reference)
        if 0 < _length(rows) < (1 - MAX_MISSING) * n_rows:
            raise ValueError(
                f"The benchmark or meta model misses {n_rows - _length(rows)} of "
                f"{n_rows} rows of era {_told(era)}; at most {MAX_MISSING:.0%} "
                "(or all, which leaves the era out) can be missing. Check that it was "
                "aligned by id."
            )
        known = [reference] if keep_constant else [target, reference]
        if _length(rows) >= 2 and all(_varies(values, rows) for values in known):
            yield era, rows


def _told(era: Any) -> str:
    return era_label(era) if isinstance(era, int) else repr(era)


def _known_rows(rows: _Rows, values: NDArray[np.float64] | None) -> _Rows:
    """Return the rows whose value is not NaN; a slice stays a slice if possible."""
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
    """Score one era; numerai_tools checks its input with bare assertions."""
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
    check_few_features(predictions, other)
    return era_fnc(target, predictions, other)


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
        # a constant column differs from 0 by rounding errors after centring
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
