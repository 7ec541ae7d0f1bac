"""Out-of-fold predictions and their era scores, fold by fold."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numerai_features._arguments import (
    FOLDS,
    MEMORY,
    MODEL,
    N_JOBS,
    ROWS,
    VERBOSE,
    checked,
)
from numerai_features._cache import Cache, fingerprint, open_cache
from numerai_features._compat import consumes
from numerai_features._fitted import has_prefitted, warn_of_prefitted
from numerai_features._rows import Rows
from numerai_features._validation import (
    as_frame,
    check_era_is_spelled,
    count_rows,
    index_of,
    known_numbers,
    take_rows,
    validate_target,
)
from numerai_features.metrics._era_is_no_feature import check_era_is_no_feature
from numerai_features.metrics._era_scores import era_scores, one_column
from numerai_features.metrics._scorer import predict_some
from numerai_features.model_selection._base import BaseEraSplitter
from numerai_features.model_selection._combinatorial import CombinatorialPurgedEraCV
from numerai_features.model_selection._folds import (
    Chosen,
    Fold,
    count_folds,
    era_folds,
    folds_to_run,
    index_eras,
    no_folds,
    read_cv,
)
from numerai_features.model_selection._k_fold import EraKFold
from numerai_features.model_selection._runner import Task, Tell, run_folds

if TYPE_CHECKING:
    import pandas as pd


class _Data(NamedTuple):
    """The data from which each fold selects its rows."""

    rows: Rows  # X as passed; one target; eras, with names ranked
    y: Any  # as passed, for `fit`
    hand_on_eras: bool  # whether to pass eras on; if not, X has them
    params: dict[str, Any]

    @property
    def target(self) -> NDArray[np.float64]:
        """The target, NaN if unknown."""
        assert self.rows.y is not None
        return self.rows.y[:, 0]


@checked(
    estimator=[MODEL],
    cv=[FOLDS, None],
    params=[dict, None],
    n_jobs=N_JOBS,
    memory=MEMORY,
    verbose=VERBOSE,
)
def cross_val_predict_eras(
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
) -> pd.DataFrame:
    """Predict the test rows of every fold, and score every era.

    Unlike scikit-learn's ``cross_val_predict``, it accepts splitters whose test folds
    overlap or leave rows out (walk forward, combinatorial, repeated), can store
    finished folds, and scores by era.

    Parameters
    ----------
    estimator : estimator
        Estimator with ``fit`` and ``predict``, such as a Pipeline. Each fold fits a
        clone.
    X : array-like or frame of shape (n_rows, n_features)
        Passed to the estimator without conversion. If X is an array and the training
        rows of a fold are contiguous, as in a walk forward, the fold uses a view of X,
        not a copy.
    y : array-like of shape (n_rows,)
        The target. Training rows without a target (NaN) are left out. Test rows are
        predicted with or without a target.
    eras : array-like of shape (n_rows,), default=None
        Era labels. None: the column ``era`` of X. Steps that use eras receive these
        labels, even if X is an array, by metadata routing. Routing is enabled during a
        fold if the estimator requests eras.
    cv : splitter, int or iterable, default=None
        Any splitter, as in `check_splits`. It receives the eras as groups. None means
        `EraKFold()`.
    params : dict, default=None
        Passed to ``fit``. Of a value with one item for each row, ``fit`` receives the
        items of the training rows.
    n_jobs : int, default=None
        Number of folds that run at once, as in joblib. Processes share a memory-mapped
        X, and copy a frame.
    memory : str, path or joblib.Memory, default=None
        Folder for finished folds; for a joblib.Memory, the folder that its ``clear()``
        removes. The same call reads finished folds from it, so an interrupted call
        resumes. If only the model after `LatentFeatures` has changed, the fitted
        embedders are read from it. X is identified by its contents. With
        ``random_state=None`` the first stored result is returned again. Fitted
        embedders are stored as pickles: do not use a folder that others can write to.
    verbose : bool or int, default=True
        Whether to show a progress bar over the folds.

    Returns
    -------
    DataFrame
        One row for each test row of each fold, ordered by fold and then by row, with
        the index of X or y (ids). Columns: ``era`` (number, or name), ``fold``,
        ``target``, ``prediction``, and ``corr``, the CORR of the era in the fold (NaN
        if the era cannot be scored). With `CombinatorialPurgedEraCV` also ``path``, the
        backtest path that the prediction belongs to.

    Raises
    ------
    EraLeakageError
        If the column ``era`` of X reaches the model as a feature.
    ValueError
        If there are no eras, or lengths differ.

    Warns
    -----
    EraLeakageWarning
        If a frozen embedder was fitted on eras that are scored.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.pipeline import make_pipeline
    >>> from numerai_features import LatentFeatures, make_era_panel
    >>> from numerai_features.model_selection import (
    ...     EraWalkForward, cross_val_predict_eras)
    >>> panel = make_era_panel(n_eras=40, rows_per_era=50, random_state=0)
    >>> model = make_pipeline(LatentFeatures(), Ridge())
    >>> out = cross_val_predict_eras(
    ...     model, panel.to_frame(targets=[]), panel.y("target_alpha_20"),
    ...     cv=EraWalkForward(3, purge=8), verbose=False)
    >>> list(out)
    ['era', 'fold', 'target', 'prediction', 'corr']
    >>> out.groupby("fold")["era"].agg(["min", "max"])
          min  max
    fold
    0      11   20
    1      21   30
    2      31   40
    >>> scores = out.groupby("era")["corr"].first()
    """
    from sklearn.base import clone

    X = as_frame(X)
    check_era_is_spelled(X)
    index = index_eras(X, eras, y=y, **_tables(params))
    cv = EraKFold() if cv is None else read_cv(cv, y)
    target = validate_target(y, index.n_rows)[:, None]
    data = _Data(Rows(X, target, index), y, eras is not None, params or {})
    estimator, cache = clone(estimator), open_cache(memory)
    key = ""
    if cache is not None:
        labels = data.rows.era_labels if data.hand_on_eras else None
        key = fingerprint(estimator, X, y, index.row_numbers, data.params, labels)
        _remember(estimator, cache)

    if has_prefitted(estimator):
        tested = sum(test for _, test in era_folds(cv, index, y)) > 0
        warn_of_prefitted(estimator, known_numbers(index, tested), _reach(cv, y))
    tests: list[Chosen] = []

    def tasks() -> Iterator[Task]:
        for fold in folds_to_run(cv, index, data.target, y=y):
            tests.append(fold.test)
            yield Task(fold.number, partial(_run, estimator, cache, key, data, fold))

    # Results that outlive this call are stored by `memory`, in the process of the fold.
    done: dict[int, tuple[NDArray[Any], NDArray[np.float64]]] = {}
    total = count_folds(cv, index, y)
    run_folds(tasks(), done, total=total, n_jobs=n_jobs, verbose=bool(verbose))
    if not tests:
        raise no_folds(cv)
    results = [done[fold] for fold in range(len(tests))]
    frame = _as_frame(data, tests, results)
    if isinstance(cv, CombinatorialPurgedEraCV):
        paths = cv._era_paths(index, y)
        frame["path"] = np.concatenate(
            [path[index.codes[test]] for path, test in zip(paths, tests, strict=True)]
        )
    return frame


def _reach(cv: Any, y: Any) -> int:
    """Return the smallest distance in eras at which a pre-fitted embedder is safe."""
    return cv._purge(y) + 1 if isinstance(cv, BaseEraSplitter) else 1


def _remember(estimator: Any, cache: Cache) -> None:
    """Let the parts of an estimator cache their fits.

    A Pipeline would cache whole tables, so it gets the cache only if no part of it can
    cache the latents alone.
    """
    from sklearn.pipeline import Pipeline

    owners = [
        part
        for part in [estimator, *estimator.get_params(deep=True).values()]
        if hasattr(part, "get_params")
        and not isinstance(part, type)
        and "memory" in part.get_params(deep=False)
        and part.memory is None
    ]
    lean = [part for part in owners if not isinstance(part, Pipeline)]
    for part in lean or owners:
        part.set_params(memory=cache)


def _run(
    estimator: Any, cache: Cache | None, key: str, data: _Data, fold: Fold, tell: Tell
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Predict the test rows of a fold, and score them."""
    import pandas as pd

    _, train, test = fold
    tell("model")
    make = partial(_fit_and_predict, estimator, data, train, test)
    if cache is None:
        prediction = make()
    else:
        prediction = cache.recall_array("prediction", (key, train, test), make)
    eras, target = data.rows.era_index.row_keys[test], data.target[test]
    if pd.Series(target).groupby(eras).nunique().max() < 2:  # no era can be scored
        return prediction, np.full(len(prediction), np.nan)
    tell("scores")
    return prediction, era_scores(target, prediction, eras).reindex(eras).to_numpy()


def _fit_and_predict(
    estimator: Any, data: _Data, train: Chosen, test: Chosen
) -> NDArray[Any]:
    """Fit a clone to the training rows, and predict the test rows."""
    from sklearn import config_context
    from sklearn.base import clone

    model = clone(estimator)
    eras: dict[str, Any] = {"fit": {}, "predict": {}}
    routing = {}
    if data.hand_on_eras:
        with config_context(enable_metadata_routing=True):
            takers = [m for m in eras if consumes(model, m, "eras")]
        routing = {"enable_metadata_routing": True} if takers else {}
        chosen = {"fit": train, "predict": test}
        labels: Any = data.rows.era_labels
        eras |= {method: {"eras": labels[chosen[method]]} for method in takers}
    with config_context(**routing):
        params = _of_rows(data.params, train, data.rows.n_rows)
        y = take_rows(data.y, train)
        model.fit(take_rows(data.rows.X, train), y, **params, **eras["fit"])
        X = take_rows(data.rows.X, test)
        prediction = one_column(model.predict(X, **eras["predict"]))
        check_era_is_no_feature(partial(predict_some, model), X)
    return prediction


def _of_rows(params: dict[str, Any], rows: Chosen, n_rows: int) -> dict[str, Any]:
    """Return parameters of fit; values with one item for each row are cut to `rows`."""
    return {
        name: take_rows(value, rows) if _has_rows(value, n_rows) else value
        for name, value in params.items()
    }


def _tables(params: dict[str, Any] | None) -> dict[str, Any]:
    """Return the parameters that may have a row for each of X."""
    given = (params or {}).items()
    return {f"params[{name!r}]": v for name, v in given if ROWS.is_satisfied_by(v)}


def _has_rows(value: Any, n_rows: int) -> bool:
    return ROWS.is_satisfied_by(value) and count_rows(value) == n_rows


def _as_frame(data: _Data, tests: list[Chosen], results: list[Any]) -> pd.DataFrame:
    import pandas as pd

    eras = data.rows.era_index.row_keys
    rows = np.arange(len(eras))
    rows = np.concatenate([rows[test] for test in tests])
    predictions, scores = zip(*results, strict=True)
    frame = pd.DataFrame(
        {
            "era": eras[rows],
            "fold": np.repeat(np.arange(len(tests)), [len(p) for p in predictions]),
            "target": data.target[rows],
            "prediction": np.concatenate(predictions),
            "corr": np.concatenate(scores),
        }
    )
    known = (index_of(table) for table in (data.rows.X, data.y))
    names = next((ids for ids in known if ids is not None), pd.RangeIndex(len(eras)))
    return frame.set_axis(names[rows])
