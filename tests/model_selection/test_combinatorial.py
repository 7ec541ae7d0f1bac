"""Combinations of groups, and the paths made of their predictions."""

from itertools import chain, combinations
from math import comb

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numerai_features.model_selection import CombinatorialPurgedEraCV, EraKFold

shapes = st.integers(2, 7).flatmap(
    lambda n: st.tuples(st.just(n), st.integers(1, n - 1), st.integers(n, 40))
)


def predict_split_numbers(splitter, rows):
    """For each split, its number as the prediction of each test row."""
    return [
        np.full(len(test), float(split))
        for split, (_, test) in enumerate(splitter.split(None, groups=rows))
    ]


class TestGroups:
    @settings(deadline=None)
    @given(shapes)
    def test_every_combination_of_groups_is_tested_once(self, shape):
        n_groups, n_test_groups, n_eras = shape
        size = n_eras // n_groups
        groups = [list(range(i * size, (i + 1) * size)) for i in range(n_groups)]
        groups[-1] += range(n_groups * size, n_eras)
        splitter = CombinatorialPurgedEraCV(n_groups, n_test_groups, purge=0)
        tested = [test.tolist() for _, test in splitter.split_eras(range(n_eras))]
        assert tested == [
            list(chain(*chosen)) for chosen in combinations(groups, n_test_groups)
        ]
        assert splitter.get_n_splits() == len(tested) == comb(n_groups, n_test_groups)

    @settings(deadline=None)
    @given(shapes)
    def test_every_era_is_tested_as_often_as_there_are_paths(self, shape):
        n_groups, n_test_groups, n_eras = shape
        splitter = CombinatorialPurgedEraCV(n_groups, n_test_groups, purge=0)
        tested = np.concatenate([t for _, t in splitter.split_eras(range(n_eras))])
        n_paths = comb(n_groups - 1, n_test_groups - 1)
        assert np.bincount(tested).tolist() == [n_paths] * n_eras
        assert splitter.n_paths == n_paths

    @pytest.mark.parametrize("n_groups", [2, 3, 6])
    def test_one_group_at_once_is_k_fold(self, n_groups):
        ours = CombinatorialPurgedEraCV(n_groups, 1, purge=1, embargo=1)
        theirs = EraKFold(n_groups, purge=1, embargo=1)
        for got, expected in zip(
            ours.split_eras(range(24)), theirs.split_eras(range(24)), strict=True
        ):
            for a, b in zip(got, expected, strict=True):
                np.testing.assert_array_equal(a, b)


class TestBacktestPaths:
    @settings(deadline=None)
    @given(shapes, st.integers(0, 2**32 - 1))
    def test_every_path_covers_every_era_once(self, shape, seed):
        n_groups, n_test_groups, n_eras = shape
        rng = np.random.default_rng(seed)
        rows = rng.permutation(np.repeat(np.arange(n_eras), 2))
        splitter = CombinatorialPurgedEraCV(n_groups, n_test_groups, purge=0)
        paths = splitter.backtest_paths(
            predict_split_numbers(splitter, rows), groups=rows
        )
        assert paths.shape == (len(rows), splitter.n_paths)
        tested_by = {era: [] for era in range(n_eras)}
        for split, (_, test) in enumerate(splitter.split_eras(rows)):
            for era in test:
                tested_by[int(era)].append(split)
        # path p of an era is the p-th split that tests it
        for row, era in enumerate(rows):
            assert paths[row].tolist() == tested_by[int(era)]

    def test_each_row_keeps_its_own_prediction(self):
        rng = np.random.default_rng(0)
        rows = rng.integers(1, 20, 200)
        truth = rng.normal(size=200)
        splitter = CombinatorialPurgedEraCV(5, 3, purge=1)
        predictions = [truth[test] for _, test in splitter.split(None, groups=rows)]
        paths = splitter.backtest_paths(predictions, groups=rows)
        np.testing.assert_array_equal(paths, np.tile(truth[:, None], (1, 6)))

    def test_rows_in_no_fold_have_no_prediction(self):
        frame = pd.DataFrame({"era": [*"12345678", "X", "X"], "a": 1.0})
        y = np.where(frame["era"] == "7", np.nan, 0.5)
        splitter = CombinatorialPurgedEraCV(3, 2, purge=0)
        predictions = [np.ones(len(test)) for _, test in splitter.split(frame, y)]
        paths = splitter.backtest_paths(predictions, frame, y)
        empty = np.isin(frame["era"], ["7", "X"])
        np.testing.assert_array_equal(np.isnan(paths), np.tile(empty[:, None], (1, 2)))
        assert (paths[~empty] == 1).all()

    def test_predictions_of_any_container(self):
        splitter, eras = CombinatorialPurgedEraCV(3, 2, purge=0), np.arange(9)
        plain = predict_split_numbers(splitter, eras)
        expected = splitter.backtest_paths(plain, groups=eras)
        for container in (list, pd.Series, lambda values: values.astype("float32")):
            got = splitter.backtest_paths([container(p) for p in plain], groups=eras)
            np.testing.assert_array_equal(got, expected)
            assert got.dtype == np.float64

    @pytest.mark.parametrize(
        ("predictions", "eras", "message"),
        [
            ([np.zeros(6)] * 2, range(9), "each of the 3 splits; got 2"),
            (
                [np.zeros(6), np.zeros(5), np.zeros(6)],
                range(9),
                r"predictions\[1\] must have shape \(6,\), .*got \(5,\)",
            ),
            (
                [np.zeros((6, 1))] * 3,
                range(9),
                r"predictions\[0\] must have shape \(6,\), .*got \(6, 1\)",
            ),
            ([np.zeros(6)] * 3, range(2), "n_groups=3 must be at most .* eras, 2"),
            ([np.zeros(6)] * 3, None, "splits by era, but got none"),
        ],
    )
    def test_predictions_that_do_not_fit_are_told(self, predictions, eras, message):
        splitter = CombinatorialPurgedEraCV(3, 2, purge=0)
        with pytest.raises(ValueError, match=message):
            splitter.backtest_paths(predictions, groups=eras)


@pytest.mark.parametrize(
    ("n_groups", "n_test_groups", "purge", "embargo", "n_eras"),
    [
        (3, 2, 0, 0, 12),
        (3, 2, 1, 0, 12),
        (3, 2, 0, 1, 12),
        (3, 2, 2, 3, 40),
        (3, 2, 8, 4, 70),
        (4, 2, 0, 0, 9),
        (4, 2, 1, 1, 23),
        (4, 2, 3, 0, 41),
        (4, 3, 2, 2, 30),
        (4, 3, 0, 3, 27),
        (5, 2, 1, 0, 20),
        (5, 2, 4, 4, 54),
        (5, 3, 2, 1, 33),
        (5, 4, 1, 1, 29),
        (6, 2, 0, 0, 60),
        (6, 2, 8, 0, 100),
        (6, 2, 8, 4, 101),
        (6, 3, 3, 2, 47),
        (6, 4, 0, 2, 35),
        (6, 5, 2, 0, 31),
        (7, 2, 1, 2, 52),
        (7, 3, 2, 2, 55),
        (8, 4, 3, 1, 71),
        (9, 2, 0, 4, 64),
        (10, 2, 16, 0, 200),
        (10, 3, 2, 1, 59),
        (10, 8, 1, 1, 57),
    ],
)
def test_it_is_skfolios_on_one_row_per_era(
    n_groups, n_test_groups, purge, embargo, n_eras
):
    theirs_of = pytest.importorskip("skfolio.model_selection").CombinatorialPurgedCV
    ours = CombinatorialPurgedEraCV(
        n_groups, n_test_groups, purge=purge, embargo=embargo
    )
    theirs = theirs_of(n_groups, n_test_groups, purge, embargo)
    assert ours.get_n_splits() == theirs.get_n_splits()
    assert ours.n_paths == theirs.n_test_paths
    X = np.zeros((n_eras, 1))
    eras = np.arange(1, n_eras + 1)
    rng = np.random.default_rng(n_eras)
    path_ids = theirs.get_path_ids()
    predictions = []
    paths = np.full((n_eras, theirs.n_test_paths), np.nan)
    for split, (got, (train, tests)) in enumerate(
        zip(ours.split(X, groups=eras), theirs.split(X), strict=True)
    ):
        np.testing.assert_array_equal(got[0], train)
        np.testing.assert_array_equal(got[1], np.concatenate(tests))
        parts = [rng.normal(size=len(test)) for test in tests]
        predictions.append(np.concatenate(parts))
        for path, test, part in zip(path_ids[split], tests, parts, strict=True):
            paths[test, path] = part
    assert not np.isnan(paths).any()
    np.testing.assert_array_equal(
        ours.backtest_paths(predictions, X, None, eras), paths
    )


@pytest.mark.parametrize(
    ("splitter", "message"),
    [
        (
            CombinatorialPurgedEraCV(3, 3, purge=0),
            "n_test_groups=3 must be less than n_groups=3",
        ),
        (
            CombinatorialPurgedEraCV(3, 5, purge=0),
            "n_test_groups=5 must be less than n_groups=3",
        ),
        (
            CombinatorialPurgedEraCV(40, 20, purge=0),
            "n_groups=40 and n_test_groups=20 give 137,846,528,820 splits",
        ),
        (CombinatorialPurgedEraCV(9, purge=0), "n_groups=9 must be at most .* eras, 8"),
        (CombinatorialPurgedEraCV(4, 2, purge=4), "no training era left after a purge"),
        (CombinatorialPurgedEraCV(1), "'n_groups' parameter of Combinatorial"),
        (CombinatorialPurgedEraCV(3, 0), "'n_test_groups' parameter of Combinatorial"),
    ],
)
def test_impossible_splits_are_told(splitter, message):
    with pytest.raises(ValueError, match=message):
        next(splitter.split(None, groups=range(8)))


@pytest.mark.parametrize("n_test_groups", [3, 5])
def test_paths_are_refused_where_splits_are(n_test_groups):
    cv = CombinatorialPurgedEraCV(3, n_test_groups, purge=0)
    with pytest.raises(ValueError, match="must be less than n_groups=3"):
        cv.backtest_paths([], groups=range(9))
