"""Which eras the splitters that go forward test, and how far back they train."""

import math
from itertools import chain

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import TimeSeriesSplit, train_test_split

from numerai_features.model_selection import EraHoldout, EraWalkForward

gaps = st.lists(st.sampled_from([1, 1, 1, 2, 3, 7, 20]), min_size=6, max_size=40)
era_lists = gaps.map(lambda steps: np.cumsum(steps).tolist())


def ends(splitter, eras, y=None):
    """First and last era number of each training and test set."""
    return [
        tuple((int(part[0]), int(part[-1])) for part in fold)
        for fold in splitter.split_eras(eras, y)
    ]


class TestEraWalkForward:
    @settings(deadline=None)
    @given(st.integers(1, 5), era_lists)
    def test_all_blocks_but_the_first_are_tested_once(self, n_splits, eras):
        tested = [
            test.tolist()
            for _, test in EraWalkForward(n_splits, purge=0).split_eras(eras)
        ]
        assert len(tested) == n_splits
        tail = list(chain(*tested))
        assert tail == eras[-len(tail) :]  # each once, in order, up to the last
        sizes = [len(eras) - len(tail), *(len(test) for test in tested)]
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[0] - sizes[-1] <= 1

    @settings(deadline=None)
    @given(st.integers(1, 30), era_lists)
    def test_chunks_begin_at_the_first_era(self, chunk, eras):
        blocks = {}
        for era in eras:
            blocks.setdefault((era - eras[0]) // chunk, []).append(era)
        _, *expected = blocks.values()
        cv = EraWalkForward(test_eras=chunk, purge=0)
        if not expected:
            with pytest.raises(ValueError, match="leaves no block to test"):
                ends(cv, eras)
            with pytest.raises(ValueError, match="leaves no block to test"):
                cv.get_n_splits(groups=eras)
            return
        assert cv.get_n_splits(groups=eras) == len(expected)
        assert [test.tolist() for _, test in cv.split_eras(eras)] == expected

    @settings(deadline=None)
    @given(
        st.integers(2, 6),
        st.integers(2, 8),
        st.integers(0, 5),
        st.one_of(st.none(), st.integers(1, 20)),
    )
    def test_it_is_scikit_learns_time_series_split(self, n_splits, size, gap, longest):
        gap = min(gap, size - 1)
        X = np.zeros(((n_splits + 1) * size, 1))
        ours = EraWalkForward(n_splits, purge=gap, max_train_eras=longest)
        theirs = TimeSeriesSplit(n_splits, gap=gap, max_train_size=longest)
        for got, expected in zip(
            ours.split(X, groups=np.arange(len(X))), theirs.split(X), strict=True
        ):
            for a, b in zip(got, expected, strict=True):
                np.testing.assert_array_equal(a, b)

    def test_the_window_slides(self):
        cv = EraWalkForward(test_eras=10, max_train_eras=12, purge=3)
        assert ends(cv, range(1, 41)) == [
            ((1, 7), (11, 20)),
            ((6, 17), (21, 30)),
            ((16, 27), (31, 40)),
        ]

    def test_chunks_win_over_n_splits(self):
        cv = EraWalkForward(2, test_eras=10, purge=0)
        assert cv.get_n_splits(groups=range(40)) == len(ends(cv, range(40))) == 3

    def test_a_chunk_without_eras_is_no_fold(self):
        cv = EraWalkForward(test_eras=10, purge=2)
        eras = [*range(1, 15), *range(45, 55)]
        assert ends(cv, eras) == [
            ((1, 8), (11, 14)),
            ((1, 14), (45, 50)),
            ((1, 48), (51, 54)),
        ]
        assert cv.get_n_splits(groups=eras) == 3

    def test_every_fourth_era_purges_by_number(self):
        eras = np.arange(1, 401, 4)
        cv = EraWalkForward(test_eras=200, purge=8)
        train, test = next(iter(cv.split_eras(eras)))
        assert test[0] == 201
        assert train[-1] == 189  # 193 and 197 are within 8 of 201

    def test_the_number_of_folds_needs_the_eras_only_with_chunks(self):
        assert EraWalkForward(4).get_n_splits() == 4
        with pytest.raises(ValueError, match="splits by era, but got none"):
            EraWalkForward(test_eras=10).get_n_splits(np.ones((9, 1)))
        frame = pd.DataFrame({"era": range(40)})
        cv = EraWalkForward(test_eras=10, purge=4)
        assert cv.get_n_splits(frame) == 3
        y = np.where(np.arange(40) < 30, 0.5, np.nan)
        assert cv.get_n_splits(frame, y) == 2


class TestWhereTestsBegin:
    @settings(deadline=None)
    @given(
        era_lists,
        st.integers(0, 4),
        st.integers(1, 6),
        st.one_of(st.none(), st.integers(1, 9)),
    )
    def test_each_era_with_so_many_before_it_is_tested(self, eras, purge, least, block):
        cv = EraWalkForward(1, test_eras=block, min_train_eras=least, purge=purge)
        expected = [era for era in eras if era - eras[0] - purge >= least]
        try:
            folds = list(cv.split_eras(eras))
        except ValueError as error:
            assert not expected
            assert f"min_train_eras={least} leaves no era" in str(error)  # noqa: PT017
            return
        assert list(chain(*(test.tolist() for _, test in folds))) == expected
        assert cv.get_n_splits(groups=eras) == len(folds)
        for train, test in folds:
            assert train.tolist() == [e for e in eras if e < test[0] - purge]
            assert test[-1] - test[0] < (block or np.inf)

    def test_era_by_era_with_a_fixed_lookback(self):
        cv = EraWalkForward(
            test_eras=1, min_train_eras=142, max_train_eras=142, purge=8
        )
        eras = np.arange(1, 301)
        expected = [((t - 150, t - 9), (t, t)) for t in range(151, 301)]
        assert ends(cv, eras) == expected
        assert all(len(train) == 142 for train, _ in cv.split_eras(eras))
        assert cv.get_n_splits(groups=eras) == 150

    @pytest.mark.parametrize(
        "first", [575, "0575", "era575", np.int64(575), 575.0, np.float32(575)]
    )
    def test_the_training_file_then_the_validation_file(self, first):
        eras = np.arange(1, 1101)
        cv = EraWalkForward(1, first_test_era=first, target="target_ender_60")
        assert ends(cv, eras) == [((1, 558), (575, 1100))]
        assert cv.get_n_splits() == cv.get_n_splits(groups=eras) == 1
        retrained = EraWalkForward.numerai("target_ender_60", first_test_era=first)
        assert [test[0] for _, test in ends(retrained, eras)] == [575, 731, 887, 1043]
        quarters = EraWalkForward(4, first_test_era=first, purge=8)
        sizes = [len(test) for _, test in quarters.split_eras(eras)]
        assert sizes == [132, 132, 131, 131]

    def test_blocks_begin_at_an_era_that_is_not_there(self):
        cv = EraWalkForward(test_eras=8, first_test_era=20, purge=2)
        assert ends(cv, range(1, 41, 4)) == [((1, 17), (21, 25)), ((1, 25), (29, 33)),
                                             ((1, 33), (37, 37))]  # fmt: skip

    def test_dates(self):
        weeks = pd.date_range("2020-01-03", periods=90, freq="7D")
        expected = [((2608, 2652), (2669, 2697))]
        same = ["2021-03-05", 20210305, 20210305.0, "2021-W09"]
        for first in [*same, weeks[61], weeks[61].date(), weeks.to_numpy()[61]]:
            cv = EraWalkForward(1, first_test_era=first)
            assert ends(cv, weeks) == expected

    def test_both_must_agree(self):
        cv = EraWalkForward(1, first_test_era=60, min_train_eras=51, purge=8)
        assert ends(cv, range(1, 81)) == [((1, 51), (60, 80))]
        cv.set_params(min_train_eras=52)
        match = (
            r"min_train_eras=52 and first_test_era=60: the era numbers go from 1 to "
            r"80, so with purge=8 tests can begin at number 61\. Raise first_test"
        )
        with pytest.raises(ValueError, match=match):
            ends(cv, range(1, 81))

    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({"first_test_era": 81}, "first_test_era=81 leaves no era to test: .*81 "),
            ({"first_test_era": 9}, "with first_test_era=9: .*begin at number 10"),
            ({"first_test_era": "X"}, "first_test_era must be an era label of the da"),
            ({"first_test_era": "may"}, "data's kind, such as 1; got 'may'"),
            ({"first_test_era": "2020-01-03"}, "data's kind, such as 1; got '2020-01"),
            (
                {"first_test_era": 1.5},
                "first_test_era must be whole numbers or labels; go",
            ),
            ({"first_test_era": True}, "'first_test_era' parameter of EraWalkForward"),
            ({"first_test_era": [5]}, "'first_test_era' parameter of EraWalkForward"),
            ({"min_train_eras": 0}, "'min_train_eras' parameter of EraWalkForward"),
            (
                {"min_train_eras": 72},
                r"min_train_eras=72 leaves no era to test: .*number 81 \(purge=8\)",
            ),
            (
                {"min_train_eras": 9, "max_train_eras": 8},
                "min_train_eras=9 must be at most max_train_eras=8",
            ),
            (
                {"first_test_era": 60, "n_splits": 30},
                "n_splits=30 needs at least 30 resolved eras from era 60 on; got 21",
            ),
        ],
    )
    def test_impossible_ones_are_told(self, params, message):
        cv = EraWalkForward(purge=8).set_params(**params)
        with pytest.raises(ValueError, match=message):
            ends(cv, range(1, 81))
        with pytest.raises(ValueError, match=message):
            cv.get_n_splits(groups=range(1, 81))

    def test_a_gap_in_a_sliding_window_is_told(self):
        cv = EraWalkForward(test_eras=5, min_train_eras=5, max_train_eras=5, purge=2)
        with pytest.raises(ValueError, match="Raise min_train_eras and max_train_eras"):
            ends(cv, [*range(1, 20), *range(40, 60)])


class TestNumerai:
    def test_too_few_eras_for_it_are_told_with_what_helps(self):
        cv = EraWalkForward.numerai("target_ender_60")
        match = r"test_eras=156 leaves no block.*from 1 to 80.*Pass test_eras= of at"
        with pytest.raises(ValueError, match=match):
            ends(cv, range(1, 81))
        shorter = EraWalkForward.numerai("target_ender_60", test_eras=79)
        assert ends(shorter, range(1, 81)) == [((1, 63), (80, 80))]

    @pytest.mark.parametrize(
        ("target", "purge"), [("target_ender_20", 8), ("target_ender_60", 16)]
    )
    def test_numerais_own_scheme(self, target, purge):
        cv = EraWalkForward.numerai(target)
        expected = [
            ((1, 156 - purge), (157, 312)),
            ((1, 312 - purge), (313, 468)),
            ((1, 468 - purge), (469, 574)),
        ]
        assert ends(cv, np.arange(1, 575)) == expected
        assert ends(EraWalkForward(test_eras=156, purge=purge), np.arange(1, 575)) == (
            expected
        )
        assert cv.get_n_splits(groups=np.arange(1, 575)) == 3

    def test_the_target_told_wins_over_the_targets_name(self):
        y = pd.Series(np.zeros(574), name="target_ender_20")
        cv = EraWalkForward.numerai("target_ender_60")
        assert ends(cv, np.arange(1, 575), y)[0] == ((1, 140), (157, 312))

    def test_all_of_it_can_be_overridden(self):
        def first(**params):
            cv = EraWalkForward.numerai("target_ender_60", **params)
            return ends(cv, np.arange(1, 575))[0]

        assert first(purge=4) == ((1, 152), (157, 312))
        assert first(test_eras=100) == ((1, 84), (101, 200))
        assert first(test_eras=100, max_train_eras=50) == ((35, 84), (101, 200))
        by_number = EraWalkForward.numerai(
            "target_ender_60", test_eras=None, n_splits=1
        )
        assert ends(by_number, np.arange(1, 575)) == [((1, 271), (288, 574))]

    def test_a_subclass_stays_one(self):
        class Mine(EraWalkForward):
            pass

        assert type(Mine.numerai("target_ender_20")) is Mine

    def test_a_target_without_days_is_told(self):
        cv = EraWalkForward.numerai("target")
        with pytest.raises(ValueError, match="does not end in its trading days"):
            ends(cv, np.arange(1, 575))


class TestEraHoldout:
    @settings(deadline=None)
    @given(st.one_of(st.floats(0.01, 0.8), st.integers(1, 5)), era_lists)
    def test_it_tests_the_last_eras(self, test_size, eras):
        [(train, test)] = EraHoldout(test_size, purge=0).split_eras(eras)
        n = test_size
        if isinstance(test_size, float):
            n = math.ceil(test_size * len(eras))
        assert test.tolist() == eras[-n:]
        assert train.tolist() == eras[:-n]

    @settings(deadline=None)
    @given(st.one_of(st.floats(0.01, 0.8), st.integers(1, 5)), era_lists)
    def test_without_purge_it_is_scikit_learns_train_test_split(self, test_size, eras):
        [(train, test)] = EraHoldout(test_size, purge=0).split(None, groups=eras)
        expected = train_test_split(
            np.arange(len(eras)), test_size=test_size, shuffle=False
        )
        np.testing.assert_array_equal(train, expected[0])
        np.testing.assert_array_equal(test, expected[1])

    def test_the_purge_is_by_number(self):
        [(train, test)] = EraHoldout(0.5, purge=8).split_eras(range(1, 81, 4))
        assert (train[-1], test[0], len(test)) == (29, 41, 10)  # 33 and 37 are near

    def test_by_default_a_fifth_is_tested(self):
        [(_, test)] = EraHoldout(purge=0).split_eras(range(1, 101))
        assert test.tolist() == list(range(81, 101))


@pytest.mark.parametrize(
    ("splitter", "message"),
    [
        (
            EraWalkForward(3, purge=0),
            "n_splits=3 needs at least 4 resolved eras; got 2",
        ),
        (
            EraWalkForward(test_eras=9, purge=0),
            "test_eras=9 leaves no block to test: the eras go from 1 to 2",
        ),
        (EraWalkForward(0), "'n_splits' parameter of EraWalkForward"),
        (EraWalkForward(test_eras=0), "'test_eras' parameter of EraWalkForward"),
        (EraWalkForward(max_train_eras=0), "'max_train_eras' parameter of EraWalk"),
        (EraHoldout(2, purge=0), "test_size=2 leaves no era to train on: 2 of 2"),
        (EraHoldout(0.6, purge=0), r"test_size=0\.6 leaves no era to train on: 2 of 2"),
        (EraHoldout(0), "'test_size' parameter of EraHoldout"),
        (EraHoldout(1.0), "'test_size' parameter of EraHoldout"),
        (EraHoldout(None), "'test_size' parameter of EraHoldout"),
    ],
)
def test_impossible_splits_are_told(splitter, message):
    with pytest.raises(ValueError, match=message):
        next(splitter.split(None, groups=[1, 2]))
