"""A test of the contract that every augmenter must keep."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from numerai_features._arguments import Methods, checked
from numerai_features._eras import encode_eras
from numerai_features._validation import ERA_COLUMN


@checked(augmenter=[Methods(["fit_resample"])])
def check_augmenter(augmenter: Any) -> None:
    """Check that an augmenter keeps to the contract.

    The input rows come first, unchanged. Each new row has a weight, targets, an id and
    an era: an input era, or one before all input eras. The dtype of the table is kept.
    The same seed gives the same rows in every container. Neither the caller's data nor
    numpy's global random state changes. An augmenter that requires eras raises an error
    that contains "needs eras".

    Parameters
    ----------
    augmenter : augmenter
        If it draws random numbers, its ``random_state`` must be set.

    Raises
    ------
    AssertionError
        If the augmenter breaks the contract; the message says how.

    Examples
    --------
    >>> from numerai_features.augmenters import CutoutAugmenter, check_augmenter
    >>> check_augmenter(CutoutAugmenter(random_state=0))
    """
    X, y, eras, weights = _rows()
    for table in (X, X.astype(np.float64), X.astype(np.float32)):
        _check_arrays(augmenter, table, y, eras, weights)
    _check_frames(augmenter, X, y, eras)
    _check_without(augmenter, X, y, eras)


def _rows() -> tuple[NDArray[Any], ...]:
    """Return five eras of 40 rows, two targets of bins, and weights."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 5, (200, 12)).astype(np.int8)
    y = rng.choice([0, 0.25, 0.5, 0.75, 1], (200, 2), p=[0.1, 0.2, 0.4, 0.2, 0.1])
    eras = np.repeat(np.array(["0003", "0001", "0007", "0002", "0009"]), 40)
    return X, y, eras, rng.random(200)


def _require(truth: Any, message: str) -> None:
    if not truth:
        raise AssertionError(message)


def _same(a: Any, b: Any) -> bool:
    return np.array_equal(np.asarray(a), np.asarray(b))


def _check_arrays(augmenter: Any, X: Any, y: Any, eras: Any, weights: Any) -> None:
    came = X, y, eras, weights
    kept = [value.copy() for value in came]
    state = np.random.get_state(legacy=False)["state"]["key"].copy()
    for value in came:
        value.flags.writeable = False
    out = clone(augmenter).fit_resample(X, y, eras=eras, sample_weight=weights)
    for value in came:
        value.flags.writeable = True
    names = "X", "y", "eras", "sample_weight"
    n = len(X)
    for name, value, before, result in zip(names, came, kept, out, strict=True):
        _require(_same(value, before), f"The caller's {name} was changed.")
        _require(
            isinstance(result, np.ndarray),
            f"{name}: array given, {type(result)} returned.",
        )
        _require(len(result) == len(out.X), f"{name} has {len(result)} rows.")
        _require(_same(result[:n], value), f"{name}: the input rows are not first.")
    _require(len(out.X) > n, "There are no new rows.")
    _require(out.X.dtype == X.dtype, f"{X.dtype} given, {out.X.dtype} returned.")
    _require(out.y.shape[1:] == y.shape[1:], "Targets are missing.")
    others = out.eras[~np.isin(out.eras, eras)]
    first = encode_eras(eras).numbers[0]
    before = not len(others) or encode_eras(others).numbers.max() < first
    _require(before, "New eras are not before the input eras.")
    _require(np.isfinite(out.sample_weight).all(), "Weights are not finite.")
    low, high = X.min(axis=0), X.max(axis=0)
    if X.dtype.kind in "iub":
        inside = (out.X >= low) & (out.X <= high)
        _require(inside.all(), "New cells lie outside their column's range.")
    again = clone(augmenter).fit_resample(X, y, eras=eras, sample_weight=weights)
    for name, a, b in zip(names, out, again, strict=True):
        _require(_same(a, b), f"{name}: the same seed gave different values.")
    unmoved = np.random.get_state(legacy=False)["state"]["key"]
    _require(_same(unmoved, state), "numpy's global random state was changed.")


def _check_frames(augmenter: Any, X: Any, y: Any, eras: Any) -> None:
    import pandas as pd

    ids = pd.Index([f"n{i:04x}" for i in range(len(X))], name="id")
    names = [f"feature_{j}" for j in range(X.shape[1])]
    frame = pd.DataFrame(X, ids, names)
    frame.insert(0, ERA_COLUMN, eras)
    targets = pd.DataFrame(y, ids, ["target", "target_b"])
    before = frame.copy(deep=True), targets.copy(deep=True)
    out = clone(augmenter).fit_resample(frame, targets)
    for now, then in zip((frame, targets), before, strict=True):
        _require(now.equals(then), "The caller's frame was changed.")
    plain = clone(augmenter).fit_resample(X, y, eras=eras)
    n = len(X)
    _require(isinstance(out.X, pd.DataFrame), f"Frame given, {type(out.X)} returned.")
    _require(list(out.X.columns) == list(frame.columns), "The columns changed.")
    _require(out.X.iloc[:n].equals(frame), "X: the input rows are not first.")
    _require(out.y.iloc[:n].equals(targets), "y: the input rows are not first.")
    _require((out.X.dtypes[names] == np.int8).all(), "int8 did not stay int8.")
    _require(_same(out.X[names], plain.X), "A frame gave other rows than an array.")
    _require(_same(out.X[ERA_COLUMN], plain.eras), "A frame gave other eras.")
    _require(out.X.index.is_unique, "Rows share an id.")
    _require(out.X.index.equals(out.y.index), "X and y have different ids.")
    _require(out.X.index.name == "id", "The index lost its name.")
    _require(out.eras is None, "Eras given as a column were returned as an array.")
    series = clone(augmenter).fit_resample(frame, targets["target"])
    _require(series.y.name == "target", "The target lost its name.")


def _check_without(augmenter: Any, X: Any, y: Any, eras: Any) -> None:
    import pandas as pd

    y = y[:, 0]
    try:
        out = clone(augmenter).fit_resample(X, y)
    except ValueError as error:
        _require("needs eras" in str(error), f"Without eras: {error}")
        out = clone(augmenter).fit_resample(X, y, eras=eras)._replace(eras=None)
    _require(out.y.ndim == 1, f"One target given, {out.y.ndim} axes returned.")
    _require(
        out.eras is None and out.sample_weight is None,
        "Eras or weights returned, none given.",
    )
    frame = pd.DataFrame(X).assign(**{ERA_COLUMN: eras})
    sampled = clone(augmenter).as_sampler().fit_resample(frame, y)
    _require(len(sampled) == 2, "as_sampler() must return X, y.")
    expected = clone(augmenter).fit_resample(frame, y)
    _require(sampled[0].equals(expected.X), "as_sampler() gives other rows.")
