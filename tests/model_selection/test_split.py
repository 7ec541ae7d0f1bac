import numpy as np
import pandas as pd
import pytest
import sklearn
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.model_selection import cross_val_score, learning_curve

from numerai_features.model_selection import EraKFold, EraWalkForward
from numerai_features.model_selection._horizon import purge_of_target

era_lists = st.lists(st.integers(1, 60), min_size=2, max_size=60, unique=True)

splitters = st.one_of(
    st.builds(
        EraKFold,
        st.integers(2, 5),
        shuffle=st.booleans(),
        purge=st.integers(0, 4),
        embargo=st.integers(0, 3),
        random_state=st.just(0),
    ),
    st.builds(
        EraWalkForward,
        st.integers(1, 5),
        chunk=st.one_of(st.none(), st.integers(1, 20)),
        max_train_eras=st.one_of(st.none(), st.integers(1, 30)),
        purge=st.integers(0, 4),
        embargo=st.integers(0, 3),
    ),
)


def folds(splitter, eras):
    """Folds by era, or a rejected example where the scheme leaves nothing."""
    try:
        return list(splitter.split_eras(eras))
    except ValueError as error:
        assert any(  # noqa: PT017
            text in str(error)
            for text in ("no training era left", "n_splits=", "no block to test")
        )
        assume(False)


def slow_train(splitter, numbers, test):
    """Which eras may train, by looking at every pair."""
    kept = []
    for number in numbers:
        ok = number not in test
        for tested in test:
            if abs(number - tested) <= splitter.purge:
                ok = False
            if 0 < number - tested <= splitter.purge + splitter.embargo:
                ok = False
        if isinstance(splitter, EraWalkForward):
            ok &= number < min(test)
            if splitter.max_train_eras is not None:
                # test blocks start at a multiple of the chunk, not at their first era
                start = first_of_block(splitter, numbers, min(test))
                ok &= number >= start - splitter.purge - splitter.max_train_eras
        if ok:
            kept.append(number)
    return kept


def first_of_block(splitter, numbers, first):
    if splitter.chunk is None:
        return first
    return first - (first - min(numbers)) % splitter.chunk


class TestProperties:
    @settings(max_examples=300, deadline=None)
    @given(splitters, era_lists)
    def test_training_eras_are_those_a_plain_loop_allows(self, splitter, eras):
        numbers = sorted(eras)
        for train, test in folds(splitter, eras):
            assert list(train) == slow_train(splitter, numbers, list(test))
            assert len(test)

    @settings(max_examples=100, deadline=None)
    @given(splitters, era_lists)
    def test_every_era_is_tested_at_most_once(self, splitter, eras):
        tested = np.concatenate([test for _, test in folds(splitter, eras)])
        assert len(np.unique(tested)) == len(tested)
        if isinstance(splitter, EraKFold):
            assert sorted(tested) == sorted(eras)

    @settings(max_examples=100, deadline=None)
    @given(splitters, era_lists, st.integers(0, 2**32 - 1))
    def test_rows_follow_their_eras_in_any_order_and_spelling(
        self, splitter, eras, seed
    ):
        expected = folds(splitter, eras)
        rng = np.random.default_rng(seed)
        rows = rng.permutation(np.repeat(sorted(eras), rng.integers(1, 4, len(eras))))
        spellings = [
            rows,
            [f"{e:04d}" for e in rows],
            pd.Series([f"era{e}" for e in rows]).astype("category"),
            rows.astype(float),
        ]
        for labels in spellings:
            got = list(splitter.split(None, groups=labels))
            assert len(got) == len(expected)
            for (train, test), (train_eras, test_eras) in zip(
                got, expected, strict=True
            ):
                np.testing.assert_array_equal(
                    train, np.flatnonzero(np.isin(rows, train_eras))
                )
                np.testing.assert_array_equal(
                    test, np.flatnonzero(np.isin(rows, test_eras))
                )

    @settings(max_examples=50, deadline=None)
    @given(splitters, era_lists)
    def test_get_n_splits(self, splitter, eras):
        expected = len(folds(splitter, eras))
        assert splitter.get_n_splits(groups=eras) == expected


def test_live_rows_are_in_no_fold():
    eras = np.array(["0001", "0002", "0003", "X", "0004", "X"])
    for splitter in (EraKFold(2, purge=0), EraWalkForward(3, purge=0)):
        for rows in splitter.split(None, groups=eras):
            assert not np.isin([3, 5], np.concatenate(rows)).any()


def test_every_fourth_era_purges_by_number():
    eras = np.arange(1, 401, 4)
    train, test = next(iter(EraWalkForward(chunk=200, purge=8).split_eras(eras)))
    assert test[0] == 201
    assert train[-1] == 189  # 193 and 197 are within 8 of 201


def test_numerais_own_scheme():
    splits = list(EraWalkForward(chunk=156, purge=8).split_eras(np.arange(1, 575)))
    assert [(t[0], t[-1]) for _, t in splits] == [(157, 312), (313, 468), (469, 574)]
    assert [t[-1] for t, _ in splits] == [148, 304, 460]


@pytest.mark.parametrize(
    ("params", "name", "purge"),
    [
        ({}, "target_ender_20", 8),
        ({}, "target_ender_60", 16),
        ({}, "target", 16),
        ({}, None, 16),
        ({"target": "target_ender_20"}, "target_ender_60", 8),
        ({"horizon": 3}, "target_ender_60", 3),
        ({"horizon": 3, "purge": 5}, "target_ender_60", 5),
        ({"purge": 0}, "target_ender_60", 0),
    ],
)
def test_where_the_purge_comes_from(params, name, purge):
    y = pd.Series(np.zeros(200), name=name)
    train, test = next(EraKFold(2, **params).split(None, y, np.arange(1, 201)))
    train_eras, test_eras = train + 1, test + 1
    assert train_eras.min() - test_eras.max() == purge + 1


def test_the_table_of_horizons():
    days = {"a_5": 5, "a_10": 6, "a_20": 8, "a_40d": 12, "a_60": 16, "a": None}
    days |= {"y_0": None, "y_1": None, "feature_3": None, "target_2025": None}
    assert {name: purge_of_target(name) for name in days} == days


def test_eras_come_from_the_frame(frame, panel):
    splitter = EraKFold(3, purge=2)
    for ours, expected in zip(
        splitter.split(frame), splitter.split(panel.X, None, panel.eras), strict=True
    ):
        for a, b in zip(ours, expected, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("routing", [False, True])
def test_it_works_where_scikit_learn_splits(panel, routing):
    call = {"cv": EraKFold(3, purge=2), "error_score": "raise"}
    with sklearn.config_context(enable_metadata_routing=routing):
        groups = {"params": {"groups": panel.eras}} if routing else {}
        if not routing:
            groups = {"groups": panel.eras}
        scores = cross_val_score(Ridge(), panel.X, panel.y(), **call, **groups)
        assert scores.shape == (3,)
        *_, test = learning_curve(
            Ridge(), panel.X, panel.y(), train_sizes=[0.5, 1.0], **call, **groups
        )
        assert test.shape == (2, 3)


def test_an_unpurged_split_of_the_synthetic_panel_shares_windows(panel):
    horizon = panel.info["horizons"]["target_alpha_20"]
    for purge, shared in ((0, True), (horizon - 1, False)):
        gaps = [
            np.abs(train[:, None] - test).min()
            for train, test in EraKFold(3, purge=purge).split_eras(panel.eras)
        ]
        assert (min(gaps) < horizon) == shared


@pytest.mark.parametrize(
    ("splitter", "eras", "message"),
    [
        (EraKFold(), None, "EraKFold splits by era, but got none. Pass groups=eras"),
        (EraKFold(), [1, 1], "needs at least two resolved eras; got 1"),
        (EraKFold(), [1, "X"], "needs at least two resolved eras; got 1"),
        (EraKFold(3, purge=0), [1, 2], "n_splits=3 must be at most .* eras, 2"),
        (
            EraKFold(2),
            np.arange(20),
            "no training era left after a purge of 16 .*purge=0",
        ),
        (EraWalkForward(3, purge=0), [1, 2], "n_splits=3 needs at least 4 resolved"),
        (EraWalkForward(chunk=9, purge=0), [1, 2], "chunk=9 leaves no block to test"),
        (EraKFold(1), [1, 2], "'n_splits' parameter of EraKFold"),
        (EraKFold(purge="8"), [1, 2], "'purge' parameter"),
        (EraKFold(target="target"), [1, 2], "does not end in its trading days"),
    ],
)
def test_impossible_splits_are_told(splitter, eras, message):
    with pytest.raises(ValueError, match=message):
        next(splitter.split(None, groups=eras))


def test_groups_of_another_length_are_told():
    with pytest.raises(ValueError, match="groups has 3 labels, but X has 2 rows"):
        next(EraKFold(2).split(np.ones((2, 1)), groups=[1, 2, 3]))
