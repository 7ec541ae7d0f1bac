"""Scorers in scikit-learn's searches, with metadata routing on and off."""

import pickle
from typing import ClassVar

import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from numerai_tools.scoring import (
    correlation_contribution,
    feature_neutral_corr,
    numerai_corr,
    sharpe_ratio,
)
from sklearn import config_context
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import StackingRegressor
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeRegressor

from numerai_features._eras import EraLeakageError
from numerai_features._validation import take_eras
from numerai_features.compose import LatentFeatures
from numerai_features.embedders import FactorAnalysisEmbedder
from numerai_features.metrics import EraScorer, make_era_scorer

FEATURES = [f"feature_{j}" for j in range(4)]


class TinyRegressor(RegressorMixin, BaseEstimator):
    """Least squares that takes the column `era` out, as the library's own do."""

    def __init__(self, slope=1.0):
        self.slope = slope

    def fit(self, X, y):
        X, _ = take_eras(X)
        self.coef_ = np.linalg.lstsq(np.asarray(X, float), np.asarray(y), rcond=None)[0]
        return self

    def predict(self, X):
        X, _ = take_eras(X)
        return self.slope * np.asarray(X, float) @ self.coef_


class EraPredictor(TinyRegressor):
    """Asks for eras in predict, and remembers what came."""

    __metadata_request__predict: ClassVar = {"eras": True}

    def predict(self, X, eras=None):
        self.eras_seen_ = eras
        return super().predict(X)


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    n = 8 * 60
    X = pd.DataFrame(
        rng.integers(0, 5, size=(n, 4), dtype=np.int8),
        columns=FEATURES,
        index=[f"n{i:05d}" for i in rng.permutation(n)],
    )
    X.insert(0, "era", np.repeat([f"{e:04d}" for e in range(1, 9)], 60))
    return X


@pytest.fixture
def y(frame):
    rng = np.random.default_rng(1)
    return (frame["feature_0"] / 4 + rng.normal(size=len(frame))).rank(pct=True)


def by_era(model, frame, y, score):
    prediction = pd.DataFrame({"p": model.predict(frame)}, index=frame.index)
    scores = []
    for _, rows in frame.groupby("era"):
        p = prediction.loc[rows.index].reset_index(drop=True)
        truth = y.loc[rows.index].rename("target").reset_index(drop=True)
        scores.append(float(np.squeeze(score(p, truth, rows))))
    return pd.Series(scores)


def corr(p, truth, _):
    return numerai_corr(p, truth)


def test_corr_and_sharpe_are_numerai_tools(frame, y):
    model = TinyRegressor().fit(frame, y)
    expected = by_era(model, frame, y, corr)
    assert make_era_scorer()(model, frame, y) == pytest.approx(expected.mean())
    sharpe = make_era_scorer("sharpe")(model, frame, y)
    assert sharpe == pytest.approx(sharpe_ratio(expected))


@pytest.mark.parametrize(
    ("metric", "name"), [("bmc", "benchmark"), ("mmc", "meta_model")]
)
def test_contribution_finds_its_rows_by_id(frame, y, metric, name):
    model = TinyRegressor().fit(frame, y)
    benchmark = y + np.random.default_rng(2).normal(size=len(y))
    shuffled = pd.concat([benchmark, pd.Series({"other": 0.5})]).sample(
        frac=1, random_state=0
    )
    part = frame.iloc[60:300]
    expected = by_era(
        model,
        part,
        y,
        lambda p, t, rows: correlation_contribution(
            p, benchmark.loc[rows.index].reset_index(drop=True), t
        ),
    )
    scorer = make_era_scorer(metric, **{name: shuffled})
    score = scorer(model, part, y.loc[part.index])
    assert score == pytest.approx(expected.mean())


@pytest.mark.parametrize("how", ["all", "names", "frame"])
def test_fnc_takes_features_from_x_or_by_id(frame, y, how):
    model = TinyRegressor().fit(frame, y)
    names = FEATURES if how == "all" else FEATURES[1:]
    features = {
        "all": None,
        "names": names,
        "frame": frame[["era", *names]].sample(frac=1, random_state=0),
    }[how]
    expected = by_era(
        model,
        frame,
        y,
        lambda p, t, rows: feature_neutral_corr(
            p, rows[names].reset_index(drop=True), t
        ),
    )
    score = make_era_scorer("fnc", features=features)(model, frame, y)
    assert score == pytest.approx(expected.mean())


def test_fnc_of_arrays(frame, y):
    model = TinyRegressor().fit(frame, y)
    X = frame[FEATURES].to_numpy()
    score = make_era_scorer("fnc")(model, X, y, eras=frame["era"])
    assert score == pytest.approx(make_era_scorer("fnc")(model, frame, y))


@pytest.mark.parametrize("routing", [False, True])
def test_search_over_a_frame_needs_nothing_else(frame, y, routing):
    scorer = make_era_scorer()
    with config_context(enable_metadata_routing=routing):
        search = GridSearchCV(
            TinyRegressor(),
            {"slope": [-1, 1]},
            scoring=scorer,
            cv=KFold(4),
            error_score="raise",
        ).fit(frame, y)
        assert search.score(frame, y) == scorer(search.best_estimator_, frame, y)
    assert search.best_params_ == {"slope": 1}
    np.testing.assert_allclose(
        search.cv_results_["mean_test_score"], [-search.best_score_, search.best_score_]
    )


def test_search_over_arrays_routes_eras(frame, y):
    X, eras = frame[FEATURES].to_numpy(), frame["era"].to_numpy()
    expected = cross_val_score(
        TinyRegressor(),
        frame,
        y,
        groups=eras,
        cv=GroupKFold(4),
        scoring=make_era_scorer(),
        error_score="raise",
    )
    with config_context(enable_metadata_routing=True):
        search = GridSearchCV(
            TinyRegressor(),
            {"slope": [1]},
            scoring=make_era_scorer(),
            cv=GroupKFold(4),
            error_score="raise",
        ).fit(X, y, groups=eras, eras=eras)
        got = [search.cv_results_[f"split{i}_test_score"][0] for i in range(4)]
        np.testing.assert_allclose(got, expected)
        assert search.score(X, y, eras=eras) == pytest.approx(
            make_era_scorer()(search.best_estimator_, frame, y)
        )
        scores = cross_val_score(
            TinyRegressor(),
            X,
            y,
            params={"groups": eras, "eras": eras},
            cv=GroupKFold(4),
            scoring=make_era_scorer(),
            error_score="raise",
        )
    np.testing.assert_allclose(scores, expected)


def test_routed_eras_pass_through_pipelines(frame, y):
    X, eras = frame[FEATURES].to_numpy(), frame["era"].to_numpy()
    with config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(StandardScaler(), EraPredictor()).fit(X, y)
        make_era_scorer()(pipeline, X, y, eras=eras)
    np.testing.assert_array_equal(pipeline[-1].eras_seen_, eras)
    make_era_scorer()(pipeline, X, y, eras=eras)
    assert pipeline[-1].eras_seen_ is None


@pytest.mark.parametrize("routing", [False, True])
def test_several_scorers_at_once(frame, y, routing):
    scorers = {"corr": make_era_scorer(), "sharpe": make_era_scorer("sharpe")}
    with config_context(enable_metadata_routing=routing):
        result = cross_validate(
            TinyRegressor(), frame, y, cv=KFold(4), scoring=scorers, error_score="raise"
        )
    assert (result["test_sharpe"] > result["test_corr"]).all()


def test_scorer_does_not_ask_for_weights():
    assert make_era_scorer()._accept_sample_weight() is False


def test_eras_given_win_over_the_column(frame, y):
    model = TinyRegressor().fit(frame, y)
    one_era = make_era_scorer()(model, frame, y, eras=np.ones(len(y)))
    swapped = frame.assign(era=1)
    assert one_era == make_era_scorer()(model, swapped, y)
    assert one_era != make_era_scorer()(model, frame, y)


def test_index_of_y_and_of_eras_does_not_matter(frame, y):
    model = TinyRegressor().fit(frame, y)
    expected = make_era_scorer()(model, frame, y)
    positional = y.reset_index(drop=True).rename(lambda i: i + 7)
    assert make_era_scorer()(model, frame, positional) == expected
    assert make_era_scorer()(model, frame, y.to_frame()) == expected


def test_polars_frames(frame, y):
    model = TinyRegressor().fit(frame, y)
    X = pl.from_pandas(frame)
    expected = make_era_scorer()(model, frame, y)
    assert make_era_scorer()(model, X, y) == pytest.approx(expected)
    names = make_era_scorer("fnc", features=FEATURES[1:])
    assert names(model, X, y) == pytest.approx(names(model, frame, y))


@pytest.mark.parametrize("metric", ["corr", "fnc", "bmc"])
def test_what_narwhals_holds_is_scored_by_its_ids(frame, y, metric):
    model = TinyRegressor().fit(frame, y)
    X, target = nw.from_native(frame), nw.from_native(y, series_only=True)
    shuffled = frame.sample(frac=1, random_state=0)
    given = {
        "corr": {},
        "fnc": {"features": shuffled[FEATURES[1:]]},
        "bmc": {"benchmark": shuffled[FEATURES[0]]},
    }[metric]
    expected = make_era_scorer(metric, **given)(model, frame, y)
    assert make_era_scorer(metric, **given)(model, X, target) == expected
    held = {n: nw.from_native(v, allow_series=True) for n, v in given.items()}
    assert make_era_scorer(metric, **held)(model, X, target) == expected


@pytest.mark.parametrize("make", [pl.from_pandas, pa.Table.from_pandas])
def test_features_without_ids_are_told(frame, make):
    with pytest.raises(ValueError, match="features must be a pandas object"):
        make_era_scorer("fnc", features=make(frame))


def test_constant_eras_count_as_zero(frame, y):
    model = TinyRegressor().fit(frame, y)
    full = by_era(model, frame, y, corr)
    silent = frame.copy()
    silent.loc[frame["era"] > "0004", FEATURES] = 2
    score = make_era_scorer()(model, silent, y)
    assert score == pytest.approx(full.iloc[:4].sum() / 8)
    silent[FEATURES] = 2
    assert np.isnan(make_era_scorer()(model, silent, y))


def test_no_eras_is_an_error_not_one_era(frame, y):
    model = TinyRegressor().fit(frame, y)
    with pytest.raises(ValueError, match="got no eras, and does not treat all rows as"):
        make_era_scorer()(model, frame[FEATURES], y)


LEAKY = [
    LinearRegression(),
    make_pipeline(StandardScaler(), LinearRegression()),
    make_pipeline(
        FeatureUnion([("ours", LatentFeatures()), ("scaled", StandardScaler())]),
        DecisionTreeRegressor(max_depth=6, random_state=0),
    ),
    make_pipeline(FunctionTransformer(lambda X: X.to_numpy()), Ridge()),
    make_pipeline(ColumnTransformer([("a", StandardScaler(), ["era"])]), Ridge()),
    StackingRegressor(
        [("a", make_pipeline(LatentFeatures(), Ridge()))], passthrough=True, cv=2
    ),
]
HONEST = [
    make_pipeline(LatentFeatures(), LinearRegression()),
    make_pipeline(LatentFeatures(FactorAnalysisEmbedder(2, center="era")), Ridge()),
    make_pipeline(FunctionTransformer(lambda X: X.drop(columns="era")), Ridge()),
    make_pipeline(
        make_pipeline(
            ColumnTransformer([("d", "drop", ["era"])], remainder="passthrough"),
            StandardScaler(),
        ),
        Ridge(),
    ),
]


@pytest.mark.parametrize("model", LEAKY, ids=str)
def test_era_as_a_feature_is_refused(frame, y, model):
    leaky = frame.assign(era=frame["era"].astype(int))
    with pytest.raises(EraLeakageError, match="change when the eras are renamed"):
        make_era_scorer()(model.fit(leaky, y), leaky, y)
    with pytest.raises(EraLeakageError, match="the column 'era' reached the model"):
        cross_val_score(
            model,
            leaky,
            y,
            scoring=make_era_scorer(),
            cv=KFold(4),
            error_score="raise",
        )


def test_a_tree_that_learned_other_eras_is_refused_too(frame, y):
    early = frame["era"].astype(int) <= 4
    tree = DecisionTreeRegressor(random_state=0)
    for scaled in (make_pipeline(StandardScaler(), tree), tree):
        X = frame if scaled is not tree else frame.assign(era=frame["era"].astype(int))
        X = X[["era"]]
        scaled.fit(X[early], y[early])
        with pytest.raises(EraLeakageError, match="change when the eras are renamed"):
            make_era_scorer()(scaled, X[~early], y[~early])


@pytest.mark.parametrize("model", HONEST, ids=str)
@pytest.mark.parametrize("as_int", [False, True])
def test_models_that_do_not_use_the_era_are_scored(frame, y, model, as_int):
    X = frame.assign(era=frame["era"].astype(int)) if as_int else frame
    assert np.isfinite(make_era_scorer()(model.fit(X, y), X, y))


@pytest.mark.parametrize(
    ("metric", "given", "message"),
    [
        ("r2", {}, "metric must be one of 'corr', 'sharpe'.*got 'r2'"),
        ("bmc", {}, "metric='bmc' needs benchmark, which is None"),
        ("mmc", {"benchmark": pd.Series([1.0])}, "metric='mmc' needs meta_model"),
    ],
)
def test_wrong_arguments_are_told_when_the_scorer_is_made(metric, given, message):
    with pytest.raises(ValueError, match=message):
        make_era_scorer(metric, **given)


def test_benchmark_must_cover_the_rows(frame, y):
    model = TinyRegressor().fit(frame, y)
    short = y.drop(index=frame.index[[7, 9]])
    with pytest.raises(
        ValueError, match=r"no row for 2 of 480 ids of X, the first is "
    ):
        make_era_scorer("bmc", benchmark=short)(model, frame, y)
    twice = pd.concat([y, y.iloc[:1]])
    with pytest.raises(ValueError, match="benchmark has ids more than once"):
        make_era_scorer("bmc", benchmark=twice)(model, frame, y)
    with pytest.raises(ValueError, match="benchmark must be a pandas object"):
        make_era_scorer("bmc", benchmark=y.to_numpy())(model, frame, y)
    X = frame[FEATURES].to_numpy()
    with pytest.raises(ValueError, match=r"not a pandas frame; got numpy\.ndarray\."):
        make_era_scorer("bmc", benchmark=y)(model, X, y, eras=frame["era"])
    polars = pl.from_pandas(frame)
    with pytest.raises(ValueError, match=r"a pandas frame; got polars\.DataFrame\."):
        make_era_scorer("bmc", benchmark=y)(model, polars, y)
    of_polars = pl.DataFrame({"prediction": y.to_numpy()})
    with pytest.raises(ValueError, match=r"finds its rows; got polars\.DataFrame\."):
        make_era_scorer("fnc", features=of_polars)(model, frame, y)


@pytest.mark.parametrize("as_file", [pd.DataFrame, pl.from_pandas, pa.table])
@pytest.mark.parametrize(
    ("metric", "name"), [("bmc", "benchmark"), ("mmc", "meta_model")]
)
def test_a_whole_file_of_numerais_is_taken(frame, y, as_file, metric, name):
    values = pd.Series(np.random.default_rng(1).normal(size=len(y)), index=y.index)
    file = pd.DataFrame({"era": frame["era"], "data_type": "t", "model": values})
    file = pd.concat([file.iloc[::-1], file.iloc[:2].set_axis(["a", "b"])])
    file = file.rename_axis("id")
    given = as_file(file if as_file is pd.DataFrame else file.reset_index())
    model = TinyRegressor()
    expected, got = (
        cross_val_score(
            model,
            frame,
            y,
            cv=KFold(4),
            scoring=make_era_scorer(metric, **{name: reference}),
            error_score="raise",
        )
        for reference in (values, given)
    )
    np.testing.assert_array_equal(got, expected)
    several = as_file(file.assign(other=0.5))
    with pytest.raises(ValueError, match=f"{name} must be one col.*'model', 'other'"):
        make_era_scorer(metric, **{name: several})


@pytest.mark.parametrize(
    ("metric", "name"), [("bmc", "benchmark"), ("mmc", "meta_model")]
)
def test_a_fold_that_the_benchmark_does_not_cover_is_told(frame, y, metric, name):
    late = y.where(frame["era"] >= "0005")
    scorer = make_era_scorer(metric, **{name: late})
    match = f"{name} covers none of the eras that are scored: .* rows of eras 0001 to "
    with pytest.raises(ValueError, match=match):
        cross_val_score(
            TinyRegressor(), frame, y, cv=KFold(4), scoring=scorer, error_score="raise"
        )


@pytest.mark.parametrize("max_samples", [1.0, 0.5])
def test_permutation_importance(frame, y, max_samples):
    """Of an era frame, and of features whose era the scorer puts back."""
    model, scorer = TinyRegressor().fit(frame, y), make_era_scorer()
    options = {"n_repeats": 2, "random_state": 0, "max_samples": max_samples}
    whole = permutation_importance(model, frame, y, scoring=scorer, **options)
    importances = dict(zip(frame.columns, whole.importances, strict=True))
    moved = importances.pop("era")
    shuffled = frame.assign(era=frame["era"].to_numpy()[::-1])
    np.testing.assert_allclose(model.predict(shuffled), model.predict(frame))
    assert moved.any()  # though it is no feature: rows were scored in other eras

    def by_era(model, X, y):
        return scorer(model, X.assign(era=frame["era"]), y)

    features = frame.drop(columns="era")
    alone = permutation_importance(model, features, y, scoring=by_era, **options)
    np.testing.assert_allclose(alone.importances, list(importances.values()))


def test_feature_names_must_be_in_x(frame, y):
    model = TinyRegressor().fit(frame, y)
    scorer = make_era_scorer("fnc", features=["feature_1", "feature_9"])
    with pytest.raises(
        ValueError, match="1 columns that X lacks, the first is 'feature"
    ):
        scorer(model, frame, y)
    X = frame[FEATURES].to_numpy()
    with pytest.raises(ValueError, match="2 columns, but X is not a frame"):
        scorer(model, X, y, eras=frame["era"])


def test_models_of_several_targets_are_refused(frame, y):
    X = frame[FEATURES].to_numpy()
    model = LinearRegression().fit(X, np.column_stack([y, y]))
    with pytest.raises(ValueError, match=r"predict returned shape \(480, 2\)"):
        make_era_scorer()(model, X, y, eras=frame["era"])


def test_a_model_that_is_no_estimator_is_scored(frame, y):
    """It has `predict` alone: no parameters to look into for frozen parts."""

    class Own:
        def predict(self, X):
            return np.asarray(X[FEATURES[0]], float)

    first = FunctionTransformer(lambda X: X[FEATURES[:1]]).fit(frame)
    same = make_pipeline(first, LinearRegression()).fit(frame, y)
    sign = np.sign(same[-1].coef_[0])
    scorer = make_era_scorer()
    assert scorer(Own(), frame, y) * sign == pytest.approx(scorer(same, frame, y))


def test_clone_repr_and_pickle(frame, y):
    scorer = make_era_scorer("bmc", benchmark=y)
    assert clone(scorer).benchmark is y
    assert isinstance(clone(scorer), EraScorer)
    assert repr(make_era_scorer("sharpe")) == "EraScorer(metric='sharpe')"
    assert "EraScorer(benchmark=" in repr(scorer)
    model = TinyRegressor().fit(frame, y)
    again = pickle.loads(pickle.dumps(scorer))
    assert again(model, frame, y) == scorer(model, frame, y)


def test_requests_are_set_and_can_be_changed():
    scorer = make_era_scorer()
    assert str(scorer.get_metadata_routing()) == "{'score': {'eras': True}}"
    with config_context(enable_metadata_routing=True):
        scorer.set_score_request(eras="weeks")
    assert str(clone(scorer).get_metadata_routing()) == "{'score': {'eras': 'weeks'}}"
    assert str(EraScorer().get_metadata_routing()) == "{'score': {'eras': True}}"
