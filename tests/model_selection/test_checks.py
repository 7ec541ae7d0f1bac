import pickle

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    TimeSeriesSplit,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from numerai_features.compose import LatentFeatures
from numerai_features.embedders import FactorAnalysisEmbedder
from numerai_features.model_selection import (
    CombinatorialPurgedEraCV,
    EraHoldout,
    EraKFold,
    EraLeakageError,
    EraWalkForward,
    check_fitted_eras,
    check_splits,
    overlapping_eras,
)

numbers = st.lists(st.integers(1, 80), min_size=1, max_size=30)


class TestOverlappingEras:
    @settings(max_examples=200, deadline=None)
    @given(numbers, numbers, st.integers(1, 20))
    def test_a_plain_loop_finds_the_same(self, train, test, horizon):
        slow = sorted({a for a in train if any(abs(a - b) < horizon for b in test)})
        assert overlapping_eras(train, test, horizon).tolist() == slow

    def test_a_lazy_table_is_told(self):
        lazy = pl.LazyFrame({"era": [1, 2]})
        with pytest.raises(ValueError, match=r"LazyFrame; .* Pass train\.collect\(\)"):
            overlapping_eras(lazy, [3], 4)

    def test_windows_of_the_synthetic_panel_share_weeks(self):
        weeks = {era: set(range(era + 1, era + 1 + 4)) for era in range(1, 21)}
        slow = [a for a in range(1, 11) if any(weeks[a] & weeks[b] for b in (11, 12))]
        assert overlapping_eras(range(1, 11), [11, 12], 4).tolist() == slow

    @pytest.mark.parametrize(
        ("horizon", "expected"), [("target_ender_20", [17, 18]), ("a_60", [9, 17, 18])]
    )
    def test_a_target_name_is_a_horizon(self, horizon, expected):
        train = ["0001", "0008", "0009", "0017", "0018"]
        assert overlapping_eras(train, ["0020"], horizon).tolist() == expected

    def test_the_live_era_overlaps_itself_alone(self):
        assert len(overlapping_eras(["0001", "X"], ["X"], 12)) == 1
        assert len(overlapping_eras(range(1, 1001), ["X"], 12)) == 0

    def test_names_have_no_distances(self):
        with pytest.raises(ValueError, match="train and test must be labels with numb"):
            overlapping_eras(["a", "b"], ["c"], 2)

    def test_both_are_labels_of_one_kind(self):
        with pytest.raises(ValueError, match="train and test mixes dates"):
            overlapping_eras(["2020-01-03"], [5], 2)

    @pytest.mark.parametrize("horizon", [0, -1, 2.5, True, None])
    def test_a_horizon_is_a_whole_number(self, horizon):
        with pytest.raises(ValueError, match="horizon must be the eras"):
            overlapping_eras([1], [2], horizon)

    def test_a_name_without_days_is_told(self):
        with pytest.raises(ValueError, match="horizon='target' does not end in its"):
            overlapping_eras([1], [2], "target")


@pytest.fixture(scope="module")
def eras():
    return np.repeat(np.arange(1, 61), 4)


class TestFolds:
    @pytest.mark.parametrize(
        "cv",
        [
            EraKFold(3, purge=3),
            EraKFold(3, purge=3, embargo=2),
            EraWalkForward(4, purge=3),
            EraHoldout(purge=3),
            CombinatorialPurgedEraCV(5, 2, purge=3),
        ],
        ids=repr,
    )
    def test_the_table_is_what_a_loop_counts(self, cv, eras):
        table = check_splits(cv, eras, 4)
        splits = list(cv.split(None, groups=eras))
        assert len(table) == len(splits)
        for row, (train, test) in zip(table.itertuples(), splits, strict=True):
            trained, tested = set(eras[train]), set(eras[test])
            assert (row.n_train_rows, row.n_test_rows) == (len(train), len(test))
            assert (row.n_train_eras, row.n_test_eras) == (len(trained), len(tested))
            assert (row.first_test, row.last_test) == (min(tested), max(tested))
            back = [b - a for a in trained for b in tested if a < b]
            on = [a - b for a in trained for b in tested if a > b]
            for got, expected in ((row.gap_before, back), (row.gap_after, on)):
                assert got == min(expected) if expected else got is pd.NA

    def test_a_purge_shorter_than_the_overlap_is_found(self, eras):
        with pytest.raises(EraLeakageError, match="Fold 0 trains on 1 eras") as found:
            check_splits(EraKFold(3, purge=2), eras, 4)
        assert found.value.eras.tolist() == [23]
        check_splits(EraKFold(3, purge=2), eras, 3)

    @pytest.mark.parametrize(
        "cv",
        [
            KFold(5, shuffle=True, random_state=0),
            5,
            TimeSeriesSplit(4),
            GroupKFold(5),
            LeaveOneGroupOut(),
        ],
        ids=repr,
    )
    def test_splitters_of_scikit_learn_leak(self, cv, eras):
        with pytest.raises(EraLeakageError, match="whose targets overlap"):
            check_splits(cv, eras, 4)

    def test_eras_that_are_dates_in_any_form_leak_alike(self, eras):
        days = (np.datetime64("2020-01-03") + 7 * eras).astype(str)
        digits = np.char.replace(days, "-", "")
        for dates in (days, digits, digits.astype(int)):
            with pytest.raises(EraLeakageError, match="Fold 0 trains on 3 eras"):
                check_splits(KFold(4), dates, 4)
            assert len(check_splits(EraKFold(4, purge=4), dates, 4)) == 4

    def test_rows_of_one_era_on_both_sides_leak_without_any_overlap(self, eras):
        rows = np.arange(len(eras))
        with pytest.raises(EraLeakageError) as found:
            check_splits([(rows[::2], rows[1::2])], eras, 1)
        assert found.value.eras.tolist() == list(range(1, 61))

    def test_a_foreign_split_that_is_clean_gives_the_table(self, eras):
        rows = np.arange(len(eras))
        table = check_splits([(rows[eras < 20], rows[eras > 30])], eras, 12)
        assert table.loc[0, "gap_before"] == 12
        assert table.loc[0, "n_train_rows"] == 76
        apart = np.repeat([1, 9], 50)
        assert len(check_splits(GroupKFold(2), apart, 4)) == 2

    def test_the_offending_eras_survive_a_pickle(self, eras):
        error = EraLeakageError("told", [3, 4])
        again = pickle.loads(pickle.dumps(error))
        assert str(again) == "told"
        assert again.eras.tolist() == [3, 4]

    def test_eras_without_a_target_in_a_fold_are_told(self, eras):
        rows = np.arange(len(eras))
        live = np.where(eras == 60, "X", eras.astype(str))
        with pytest.raises(ValueError, match="target is not known yet: X"):
            check_splits([(rows[eras < 20], rows[eras > 30])], live, 4)
        y = np.where(eras > 58, np.nan, 0.5)
        with pytest.raises(ValueError, match="not known yet: 0059, 0060"):
            check_splits([(rows[eras < 20], rows[eras > 30])], eras, 4, y=y)
        assert check_splits(EraHoldout(purge=3), live, 4, y=y)["last_test"][0] == 58

    def test_it_wants_eras(self):
        with pytest.raises(
            ValueError, match="eras must be era labels; got None, and X has"
        ):
            check_splits(EraKFold(), None, 4, X=np.ones((3, 1)))
        with pytest.raises(ValueError, match="eras has 2 labels, but X has 3 rows"):
            check_splits(EraKFold(), [1, 2], 4, X=np.ones((3, 1)))


CV = EraKFold(3, purge=3)
ERA_FIRST = make_pipeline(LatentFeatures(), StandardScaler(), Ridge())


class TestColumns:
    def test_features_alone_pass(self, panel):
        check_splits(CV, panel.eras, 4, X=panel.X)
        check_splits(CV, panel.eras, 4, X=panel.X, estimator=Ridge())
        order = np.random.default_rng(0).permutation(panel.n_rows)
        check_splits(CV, panel.eras[order], 4, X=panel.X[order])

    def test_an_era_column_that_is_taken_out_passes(self, frame):
        check_splits(CV, None, 4, X=frame, estimator=ERA_FIRST)
        by_era = FactorAnalysisEmbedder(2, center="era")
        check_splits(CV, None, 4, X=frame, estimator=make_pipeline(by_era, Ridge()))

    @pytest.mark.parametrize(
        "estimator",
        [
            Ridge(),
            make_pipeline(StandardScaler(), Ridge()),
            make_pipeline(LatentFeatures(keep_era=True), Ridge()),
            make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)),
        ],
        ids=repr,
    )
    def test_an_era_column_that_reaches_the_model_is_found(self, frame, estimator):
        with pytest.raises(EraLeakageError, match="when the eras are renamed"):
            check_splits(CV, None, 4, X=frame, estimator=estimator)

    def test_without_an_estimator_the_column_itself_is_an_error(self, frame):
        with pytest.raises(EraLeakageError, match=r"The columns \['era'\]"):
            check_splits(CV, None, 4, X=frame)

    @pytest.mark.parametrize("convert", [lambda f: f, pl.from_pandas, pa.table])
    @pytest.mark.parametrize("text", [False, True])
    def test_an_era_by_another_name_is_found_in_any_table(self, panel, convert, text):
        frame = panel.to_frame(targets=[]).reset_index(drop=True)
        weeks = frame.pop("era")
        frame["week"] = weeks if text else weeks.astype(float) / 52
        with pytest.raises(EraLeakageError, match=r"The columns \['week'\]"):
            check_splits(CV, panel.eras, 4, X=convert(frame), estimator=ERA_FIRST)

    def test_a_column_of_an_array_is_told_by_its_place(self, panel):
        X = np.column_stack([panel.X, -panel.eras])
        with pytest.raises(EraLeakageError, match=r"The columns \[20\]"):
            check_splits(CV, panel.eras, 4, X=X)
        order = np.random.default_rng(0).permutation(len(X))
        with pytest.raises(EraLeakageError, match=r"The columns \[20\]"):
            check_splits(CV, panel.eras[order], 4, X=X[order])

    def test_a_column_that_is_nearly_constant_in_each_era_passes(self, panel):
        column = panel.eras.copy()
        column[::7] = 0
        check_splits(CV, panel.eras, 4, X=np.column_stack([panel.X, column]))

    def test_missing_features_pass(self, panel):
        """A feature that is missing is constant in the era, as many eras are."""
        X = panel.X.copy()
        X[:, 0] = 2
        X[:, 1] = np.where(panel.eras < 15, 2, 3)
        check_splits(CV, panel.eras, 4, X=X)

    def test_an_estimator_wants_rows(self):
        with pytest.raises(ValueError, match="rows of X, but X is None"):
            check_splits(CV, np.arange(1, 61), 4, estimator=Ridge())

    def test_nothing_of_the_callers_is_changed(self, frame):
        before, model = frame.copy(deep=True), make_pipeline(LatentFeatures(), Ridge())
        check_splits(CV, None, 4, X=frame, estimator=model)
        pd.testing.assert_frame_equal(frame, before)
        assert not hasattr(model[-1], "coef_")


class TestCheckFitted:
    def test_every_embedder_of_a_pipeline_is_told(self, frame, panel):
        y = panel.y()
        past = (panel.eras <= 20).nonzero()[0]
        model = make_pipeline(
            LatentFeatures(
                [
                    ("a", FactorAnalysisEmbedder(2)),
                    ("b", FactorAnalysisEmbedder(3)),
                ]
            ),
            StandardScaler(),
            Ridge(),
        ).fit(frame.iloc[past], y[past])
        report = check_fitted_eras(model, range(20, 31), 4)
        parts = ["", ".a", ".b"]
        assert list(report.index) == [f"pipeline.latentfeatures{p}" for p in parts]
        assert list(report["estimator"])[1:] == ["FactorAnalysisEmbedder"] * 2
        assert (report["n_fitted"] == 20).all()
        assert (report["n_scored"] == 1).all()
        assert (report["n_overlapping"] == 3).all()
        assert report["eras"].iloc[1].tolist() == [17, 18, 19, 20]
        assert report["leaks"].all()

    @pytest.mark.parametrize(
        ("first", "horizon", "leaks"),
        [(24, 4, False), (23, 4, True), (31, "a_60", True), (32, "a_60", False)],
    )
    def test_within_the_horizon_and_beyond(self, panel, first, horizon, leaks):
        past = panel.eras <= 20
        fa = FactorAnalysisEmbedder(2).fit(panel.X[past], eras=panel.eras[past])
        report = check_fitted_eras(fa, [f"{first:04d}"], horizon)
        assert report["leaks"].tolist() == [leaks]

    def test_frozen_and_searched(self, frame, panel):
        frozen = FrozenEstimator(LatentFeatures(FactorAnalysisEmbedder(2)).fit(frame))
        report = check_fitted_eras(make_pipeline(frozen, Ridge()), [30], 4)
        assert len(report) == 2
        assert report["leaks"].all()
        model = make_pipeline(LatentFeatures(FactorAnalysisEmbedder(2)), Ridge())
        search = GridSearchCV(model, {"ridge__alpha": [1, 2]}, cv=CV)
        report = check_fitted_eras(search.fit(frame, panel.y()), ["X"], 4)
        assert "gridsearchcv.best_estimator_.latentfeatures" in report.index
        assert not report["leaks"].any()

    def test_fitted_without_eras_is_unknown(self, panel):
        fa = FactorAnalysisEmbedder(2).fit(panel.X)
        report = check_fitted_eras(fa, [1], 4)
        assert report["leaks"].tolist() == [pd.NA]

    def test_names_without_numbers_are_unknown(self, panel):
        fa = FactorAnalysisEmbedder(2).fit(panel.X, eras=panel.eras)
        assert check_fitted_eras(fa, ["spring"], 4)["leaks"].tolist() == [pd.NA]

    def test_what_keeps_no_eras_is_unknown(self, panel):
        report = check_fitted_eras(Ridge().fit(panel.X, panel.y()), [1], 4)
        assert list(report.index) == ["ridge"]
        assert report["leaks"].tolist() == [pd.NA]

    def test_a_template_that_was_fitted_before_does_not_count(self, frame, panel):
        """LatentFeatures fits a clone: the template's own eras say nothing."""
        used = FactorAnalysisEmbedder(2).fit(panel.X, eras=panel.eras)
        past = (panel.eras <= 10).nonzero()[0]
        fitted = LatentFeatures(used).fit(frame.iloc[past])
        assert not check_fitted_eras(fitted, [20], 4)["leaks"].any()
