"""What all splitters share, against slow plain loops."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import sklearn
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    cross_val_score,
    learning_curve,
)
from sklearn.pipeline import make_pipeline

from numerai_features._eras import LIVE, EraLeakageError, encode_eras
from numerai_features.compose import LatentFeatures
from numerai_features.model_selection import (
    CombinatorialPurgedEraCV,
    EraHoldout,
    EraKFold,
    EraWalkForward,
    RepeatedEraKFold,
    check_splits,
)

NAMES = np.array(["ash", "oak", "elm", "fir", "yew", "bay", "fig", "box"])

SPLITTERS = [
    EraKFold(3, purge=2),
    EraKFold(3, shuffle=True, chunk=5, purge=2, random_state=0),
    RepeatedEraKFold(2, n_repeats=3, purge=2, random_state=0),
    EraWalkForward(3, purge=2),
    EraWalkForward(test_eras=8, max_train_eras=10, purge=2),
    EraWalkForward(test_eras=4, min_train_eras=9, max_train_eras=10, purge=2),
    EraHoldout(purge=2),
    CombinatorialPurgedEraCV(4, 2, purge=2),
]
each_splitter = pytest.mark.parametrize("splitter", SPLITTERS, ids=repr)


def era_lists(min_size=16, max_size=40):
    """Ascending era numbers with gaps."""
    gaps = st.lists(
        st.sampled_from([1, 1, 1, 2, 3, 7]), min_size=min_size, max_size=max_size
    )
    return gaps.map(lambda steps: np.cumsum(steps).tolist())


def distances(purge=5, embargo=3):
    return {"purge": st.integers(0, purge), "embargo": st.integers(0, embargo)}


def maybe(numbers):
    return st.one_of(st.none(), numbers)


seeds = st.integers(0, 99)

DISTANCES = (
    "purge",
    "embargo",
    "chunk",
    "test_eras",
    "min_train_eras",
    "max_train_eras",
)

# Of each kind a splitter and eras, most of which go together.
KINDS = {
    "k fold": st.tuples(
        st.builds(EraKFold, st.integers(2, 5), **distances()), era_lists()
    ),
    "k fold, chunks": st.tuples(
        st.builds(EraKFold, st.integers(2, 4), chunk=st.integers(1, 4), **distances()),
        era_lists(),
    ),
    "k fold, shuffled": st.tuples(
        st.builds(
            EraKFold,
            st.integers(4, 8),
            shuffle=st.just(True),
            random_state=seeds,
            **distances(1, 1),
        ),
        era_lists(24),
    ),
    "k fold, shuffled chunks": st.tuples(
        st.builds(
            EraKFold,
            st.integers(2, 4),
            shuffle=st.just(True),
            chunk=st.integers(3, 6),
            random_state=seeds,
            **distances(2, 2),
        ),
        era_lists(24),
    ),
    "repeated": st.tuples(
        st.builds(
            RepeatedEraKFold,
            st.integers(2, 4),
            n_repeats=st.integers(1, 4),
            random_state=seeds,
            **distances(),
        ),
        era_lists(),
    ),
    "walk forward": st.tuples(
        st.builds(
            EraWalkForward,
            st.integers(1, 4),
            max_train_eras=maybe(st.integers(3, 20)),
            **distances(3),
        ),
        era_lists(),
    ),
    "walk forward, chunks": st.tuples(
        st.builds(
            EraWalkForward,
            test_eras=st.integers(2, 14),
            max_train_eras=maybe(st.integers(3, 20)),
            **distances(3),
        ),
        era_lists(),
    ),
    "walk forward, from so many on": st.tuples(
        st.builds(
            EraWalkForward,
            st.integers(1, 4),
            test_eras=maybe(st.integers(1, 9)),
            min_train_eras=st.integers(1, 12),
            max_train_eras=maybe(st.integers(12, 20)),
            **distances(3),
        ),
        era_lists(),
    ),
    "holdout": st.tuples(
        st.builds(
            EraHoldout,
            st.one_of(st.floats(0.01, 0.7), st.integers(1, 8)),
            **distances(6),
        ),
        era_lists(),
    ),
    "combinatorial": st.tuples(
        st.integers(2, 6).flatmap(
            lambda n: st.builds(
                CombinatorialPurgedEraCV,
                st.just(n),
                st.integers(1, max(1, n - 2)),
                **distances(4, 2),
            )
        ),
        era_lists(),
    ),
}
each_kind = pytest.mark.parametrize("kind", KINDS)

IMPOSSIBLE = (
    "no training era left",
    "n_splits=",
    "n_repeats=",
    "n_groups=",
    "no block to test",
    "leaves no era to test",
    "leaves no era to train on",
)


def examples(n):
    return settings(
        max_examples=n, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )


def folds(splitter, eras, **kwargs):
    """Folds by era, or a rejected example where the scheme leaves nothing."""
    try:
        return list(splitter.split_eras(eras, **kwargs))
    except ValueError as error:
        assert any(text in str(error) for text in IMPOSSIBLE)  # noqa: PT017
        assume(False)


def assert_same_folds(got, expected):
    assert len(got) == len(expected)
    for ours, theirs in zip(got, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)


def rows_of(eras, rows):
    """Fold of eras as one of rows, ascending."""
    return [
        tuple(np.flatnonzero(np.isin(rows, part)) for part in fold) for fold in eras
    ]


def slow_allowed(splitter, numbers, test):
    """Which eras the scheme would train on, but for purge and embargo."""
    if isinstance(splitter, EraHoldout):
        return [n for n in numbers if n < min(test)]
    if isinstance(splitter, EraWalkForward):
        start = min(test)
        past = [n for n in numbers if n < start]
        if splitter.max_train_eras is None:
            return past
        return [
            n for n in past if n >= start - splitter.purge - splitter.max_train_eras
        ]
    return [n for n in numbers if n not in test]


def slow_parts(splitter, numbers, test):
    """Train, purged and embargoed eras, by looking at every pair."""
    train, purged, embargoed = [], [], []
    for number in slow_allowed(splitter, numbers, test):
        near = following = False
        for tested in test:
            near |= abs(number - tested) <= splitter.purge
            following |= 0 < number - tested <= splitter.purge + splitter.embargo
        (purged if near else embargoed if following else train).append(number)
    return train, purged, embargoed


class TestProperties:
    @each_kind
    @examples(40)
    @given(data=st.data())
    def test_training_eras_are_those_a_plain_loop_allows(self, kind, data):
        splitter, eras = data.draw(KINDS[kind])
        for train, test in folds(splitter, eras):
            assert len(test)
            assert list(test) == sorted(set(test) & set(eras))
            expected, *_ = slow_parts(splitter, eras, test.tolist())
            assert train.tolist() == expected

    @pytest.mark.parametrize("n_eras", range(2, 9))
    def test_training_eras_are_those_a_plain_loop_allows_of_few_eras(self, n_eras):
        eras = list(range(3, 3 + n_eras))
        n_checked = 0
        for distance in ({"purge": 0}, {"purge": 0, "embargo": 1}, {"purge": 1}):
            for splitter in (
                EraKFold(2, **distance),
                EraKFold(n_eras, **distance),
                EraKFold(2, shuffle=True, random_state=0, **distance),
                RepeatedEraKFold(2, n_repeats=1, random_state=0, **distance),
                EraWalkForward(1, **distance),
                EraWalkForward(n_eras - 1, **distance),
                EraWalkForward(test_eras=1, **distance),
                EraHoldout(0.5, **distance),
                EraHoldout(1, **distance),
                CombinatorialPurgedEraCV(2, 1, **distance),
                CombinatorialPurgedEraCV(n_eras, 1, **distance),
            ):
                try:
                    got = list(splitter.split_eras(eras))
                except ValueError as error:
                    assert "no training era left" in str(error)  # noqa: PT017
                    continue
                for train, test in got:
                    expected, *_ = slow_parts(splitter, eras, test.tolist())
                    assert train.tolist() == expected
                n_checked += 1
        assert n_checked >= 11  # without purge and embargo nothing is impossible

    @each_kind
    @examples(20)
    @given(data=st.data())
    def test_what_is_lost_is_told_apart(self, kind, data):
        splitter, eras = data.draw(KINDS[kind])
        folds(splitter, eras)
        numbers = np.array(eras)
        for fold in splitter._era_folds(encode_eras(eras), None):
            test = numbers[fold.test].tolist()
            lost = [numbers[fold.purged].tolist(), numbers[fold.embargoed].tolist()]
            assert [numbers[fold.train].tolist(), *lost] == list(
                slow_parts(splitter, eras, test)
            )

    @each_kind
    @examples(20)
    @given(data=st.data())
    def test_the_embargo_takes_what_follows_and_only_that(self, kind, data):
        splitter, eras = data.draw(KINDS[kind])
        reach = splitter.purge + splitter.embargo
        without = folds(clone(splitter).set_params(embargo=0), eras)
        for (train, test), (more, same_test) in zip(
            folds(splitter, eras), without, strict=True
        ):
            np.testing.assert_array_equal(test, same_test)
            lost = np.setdiff1d(more, train).tolist()
            assert lost == [
                n for n in more if any(0 < n - tested <= reach for tested in test)
            ]
            assert all(n > min(test) for n in lost)
            if isinstance(splitter, EraWalkForward | EraHoldout):
                assert not lost

    @each_kind
    @examples(25)
    @given(data=st.data(), seed=st.integers(0, 2**32 - 1))
    def test_rows_follow_their_eras_in_any_order_and_spelling(self, kind, data, seed):
        splitter, eras = data.draw(KINDS[kind])
        expected = folds(splitter, eras)
        rng = np.random.default_rng(seed)
        in_order = np.repeat(eras, rng.integers(1, 4, len(eras)))
        for rows in (in_order, rng.permutation(in_order)):
            categories = rng.permutation([*np.unique(rows), 997])
            for labels in (
                rows,
                rows.astype(float),
                rows.astype(object),
                [f"{e:04d}" for e in rows],
                pd.Series([f"era{e}" for e in rows]),
                pd.Series(rows).astype(str).astype("category"),
                pd.Categorical(rows, categories=categories),
            ):
                got = list(splitter.split(None, groups=labels))
                assert_same_folds(got, rows_of(expected, rows))
            assert_same_folds(list(splitter.split_eras(rows)), expected)

    @each_kind
    @examples(20)
    @given(data=st.data(), factor=st.integers(2, 9), shift=st.integers(-50, 50))
    def test_only_distances_count(self, kind, data, factor, shift):
        splitter, eras = data.draw(KINDS[kind])
        stretched = clone(splitter).set_params(
            **{
                name: value * factor
                for name, value in splitter.get_params().items()
                if value is not None and name in DISTANCES
            }
        )
        eras = np.array(eras)
        expected = folds(splitter, eras)
        assert_same_folds(
            folds(stretched, eras * factor + shift),
            [[part * factor + shift for part in fold] for fold in expected],
        )

    @each_kind
    @examples(15)
    @given(data=st.data())
    def test_without_distances_only_the_order_counts(self, kind, data):
        splitter, eras = data.draw(KINDS[kind])
        near = {"purge": 0, "embargo": 0, "chunk": None, "test_eras": None}
        near |= {"min_train_eras": None, "max_train_eras": None}
        splitter.set_params(**{k: near[k] for k in near if k in splitter.get_params()})
        got = folds(splitter, eras)
        ranks = [[np.searchsorted(eras, part) for part in fold] for fold in got]
        assert_same_folds(ranks, folds(splitter, np.arange(len(eras))))

    @each_kind
    @examples(20)
    @given(data=st.data(), seed=st.integers(0, 2**32 - 1))
    def test_live_and_unresolved_eras_are_as_if_absent(self, kind, data, seed):
        splitter, eras = data.draw(KINDS[kind])
        rng = np.random.default_rng(seed)
        rows = rng.permutation(np.repeat([*eras, LIVE], 2))
        unresolved = rng.choice(eras, rng.integers(4), replace=False)
        y = np.where(np.isin(rows, unresolved), np.nan, 0.5)
        y[rng.permutation(len(y))[:3]] = np.nan  # an era with any target is resolved
        known = np.unique(rows[~np.isnan(y) & (rows != LIVE)])
        expected = rows_of(folds(splitter, known), rows)
        labels = ["X" if e == LIVE else f"{e:04d}" for e in rows]
        assert_same_folds(list(splitter.split(None, y, labels)), expected)
        assert splitter.get_n_splits(None, y, labels) == len(expected)

    @each_kind
    @examples(20)
    @given(data=st.data())
    def test_get_n_splits_is_the_number_of_folds(self, kind, data):
        splitter, eras = data.draw(KINDS[kind])
        expected = folds(splitter, eras)
        assert splitter.get_n_splits(groups=eras) == len(expected)
        assert splitter.get_n_splits(pd.DataFrame({"era": eras})) == len(expected)
        assert_same_folds(folds(splitter, eras), expected)  # and a second time


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(0, 2**32 - 1))
def test_rows_of_eras_are_those_that_numpy_finds(rows, seed):
    rng = np.random.default_rng(seed)
    for labels in (np.sort(rows), rng.permutation(rows)):
        index = encode_eras(labels)
        assert index.contiguous == bool(np.all(np.diff(labels) >= 0))
        for share in (0, 0.3, 0.7, 1):
            mask = rng.random(index.n_eras) < share
            got = index.rows_of(mask)
            expected = np.flatnonzero(np.isin(labels, index.numbers[mask]))
            np.testing.assert_array_equal(got, expected)
            assert got.dtype == expected.dtype


def test_the_embargo_is_after_the_purge():
    cv = EraKFold(3, purge=1, embargo=2)
    assert [train.tolist() for train, _ in cv.split_eras(range(1, 16))] == [
        [9, 10, 11, 12, 13, 14, 15],
        [1, 2, 3, 4, 14, 15],
        [1, 2, 3, 4, 5, 6, 7, 8, 9],
    ]


class TestPurge:
    @pytest.mark.parametrize(
        ("params", "name", "purge"),
        [
            ({}, "target_ender_20", 8),
            ({}, "target_ender_60", 16),
            ({}, "target", 16),
            ({}, None, 16),
            ({"target": "target_ender_20"}, "target_ender_60", 8),
            ({"purge": 5}, "target_ender_60", 5),
            ({"purge": 5, "target": "target_ender_20"}, "target_ender_60", 5),
            ({"purge": 0}, "target_ender_60", 0),
            ({"purge": 0, "target": "target"}, None, 0),
        ],
    )
    def test_where_the_purge_comes_from(self, params, name, purge):
        y = pd.Series(np.zeros(200), name=name)
        train, test = next(EraKFold(2, **params).split(None, y, np.arange(1, 201)))
        train_eras, test_eras = train + 1, test + 1
        assert train_eras.min() - test_eras.max() == purge + 1

    @pytest.mark.parametrize(
        ("y", "purge"),
        [
            (pd.DataFrame({"target_20": np.zeros(60)}), 8),
            (pd.DataFrame({"target_20": np.zeros(60), "target_60": 0.0}), 16),
            (pd.DataFrame({"target_20": np.zeros(60), "target_10": 0.0}), 8),
            (pd.DataFrame({"target_20": np.zeros(60), "target": 0.0}), 16),
            (pd.Series(np.zeros(60, "int8"), name="target_20d"), 8),
            (pd.Series(np.zeros(60), name=20), 16),
            (pl.Series("target_20", np.zeros(60)), 8),
            (pl.DataFrame({"target_20": np.zeros(60)}), 8),
            (pa.table({"target_20": np.zeros(60)}), 8),
            (np.zeros(60), 16),
            ([0.0] * 60, 16),
            (None, 16),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_the_targets_name_in_any_container(self, y, purge):
        train, test = next(EraWalkForward(1).split(None, y, np.arange(60)))
        assert test[0] - train[-1] == purge + 1

    @pytest.mark.parametrize(
        "splitter",
        [
            EraKFold(3),
            EraKFold(3, shuffle=True, chunk=20, random_state=0),
            RepeatedEraKFold(2, n_repeats=2, random_state=0),
            EraWalkForward(3),
            EraHoldout(),
            CombinatorialPurgedEraCV(4, 2),
        ],
        ids=repr,
    )
    def test_every_splitter_asks_the_same(self, splitter):
        eras = np.arange(1, 161)

        def split(y=None, **params):
            return list(clone(splitter).set_params(**params).split_eras(eras, y))

        y = pd.Series(np.zeros(160), name="target_ender_20")
        assert_same_folds(split(y), split(purge=8))
        assert_same_folds(split(), split(purge=16))
        assert_same_folds(split(y, target="target_ender_60"), split(purge=16))


@each_splitter
def test_live_rows_are_in_no_fold(splitter):
    eras = np.array([*(f"{e:04d}" for e in range(1, 16)), "X"] * 2)
    eras[16:31] = [f"{e:04d}" for e in range(16, 31)]
    for rows in splitter.split(None, groups=eras):
        assert not np.isin([15, 31], np.concatenate(rows)).any()


class TestUnresolved:
    ERAS = np.repeat(np.arange(1, 13), 2)
    GAPS = np.isin(ERAS, [6, 12])

    def y_of(self, container):
        y = np.where(self.GAPS, np.nan, 0.5)
        y[0] = np.nan  # the other row of that era has a target
        one_of_two = np.where(np.arange(24) % 2, y, 0.5)
        one_of_two[self.GAPS] = np.nan
        return {
            "numpy": y,
            "float32": y.astype("float32"),
            "object": np.array([None if np.isnan(v) else v for v in y], object),
            "list": [None if np.isnan(v) else v for v in y],
            "column": y[:, None],
            "two columns": np.column_stack([y, one_of_two]),
            "pandas": pd.Series(y, index=np.arange(24) + 100),
            "pandas nullable": pd.Series(y).astype("Float64"),
            "pandas nullable int": pd.Series(y * 2).astype("Int8"),
            "pandas frame": pd.DataFrame({"a": y, "b": one_of_two}),
            "pandas nullable frame": pd.DataFrame({"a": y}).astype("Float64"),
            "pyarrow dtype": pd.Series(y).astype("double[pyarrow]"),
            "polars": pl.Series(y).fill_nan(None),
        }[container]

    @pytest.mark.parametrize(
        "container",
        [
            "numpy",
            "float32",
            "object",
            "list",
            "column",
            "two columns",
            "pandas",
            "pandas nullable",
            "pandas nullable int",
            "pandas frame",
            "pandas nullable frame",
            "pyarrow dtype",
            "polars",
        ],
    )
    @each_splitter
    def test_eras_without_a_target_are_in_no_fold(self, splitter, container):
        y = self.y_of(container)
        splitter = clone(splitter).set_params(purge=0)
        known = np.setdiff1d(self.ERAS, [6, 12])
        expected = rows_of(splitter.split_eras(known), self.ERAS)
        assert_same_folds(list(splitter.split(None, y, self.ERAS)), expected)
        assert splitter.get_n_splits(None, y, self.ERAS) == len(expected)

    def test_an_era_with_one_of_two_targets_is_resolved(self):
        y = np.zeros((24, 2))
        y[self.GAPS, 0] = np.nan
        tested = [test for _, test in EraKFold(3, purge=0).split(None, y, self.ERAS)]
        np.testing.assert_array_equal(np.concatenate(tested), np.arange(24))

    def test_split_eras_leaves_them_out_too(self):
        y = np.where(np.arange(1, 13) == 12, np.nan, 0.5)
        (_, first), (_, last) = EraKFold(2, purge=0).split_eras(np.arange(1, 13), y)
        assert (first[-1], last[-1]) == (6, 11)

    def test_y_of_another_length_is_told(self):
        with pytest.raises(ValueError, match="y has 2 values, but there are 3 era"):
            next(EraKFold(2).split(None, [0.5, 0.5], [1, 2, 3]))

    def test_none_resolved_is_told(self):
        with pytest.raises(ValueError, match="at least two resolved eras; got 1"):
            next(EraKFold(2).split(None, [0.5, np.nan, np.nan], [1, 2, 3]))

    def test_scikit_learn_scores_only_what_is_resolved(self, panel):
        y = panel.y().copy()
        known = panel.eras <= 27
        y[~known] = np.nan
        call = {"cv": EraKFold(3, purge=2), "error_score": "raise"}
        np.testing.assert_allclose(
            cross_val_score(Ridge(), panel.X, y, groups=panel.eras, **call),
            cross_val_score(
                Ridge(), panel.X[known], y[known], groups=panel.eras[known], **call
            ),
        )


class TestEras:
    @each_splitter
    @pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
    def test_eras_come_from_the_frame(self, splitter, frame, panel, library):
        if library != "pandas":
            frame = pl.from_pandas(frame)
        if library == "pyarrow":
            frame = frame.to_arrow()
        assert_same_folds(
            list(splitter.split(frame)), list(splitter.split(panel.X, None, panel.eras))
        )
        n_splits = splitter.get_n_splits(frame)
        assert n_splits == splitter.get_n_splits(panel.X, None, panel.eras)

    def test_groups_win_over_the_frame(self, frame):
        eras = np.arange(len(frame)) % 10
        cv = EraKFold(5, purge=1)
        assert_same_folds(
            list(cv.split(frame, None, eras)), list(cv.split(None, groups=eras))
        )

    def test_names_are_blocks_where_there_is_no_purge(self):
        cv = EraKFold(2, purge=0)
        ranks = np.argsort(np.argsort(NAMES))
        assert_same_folds(
            list(cv.split(None, groups=NAMES)), list(cv.split(None, groups=ranks))
        )
        with pytest.raises(ValueError, match="eras must be labels with numbers"):
            next(cv.split_eras(NAMES))

    @each_splitter
    def test_names_have_no_distances(self, splitter):
        for setting in ({"purge": 1}, {"embargo": 1}):
            cv = clone(splitter).set_params(**{"purge": 0, "embargo": 0} | setting)
            with pytest.raises(
                ValueError, match=r"groups.*names?.*Number the eras|whose order"
            ):
                next(cv.split(None, groups=NAMES))

    @pytest.mark.parametrize(
        "cv",
        [
            EraWalkForward(1, purge=0),
            EraHoldout(1, purge=0),
            EraKFold(2, chunk=2, purge=0),
        ],
        ids=lambda cv: type(cv).__name__,
    )
    def test_names_have_no_order(self, cv):
        with pytest.raises(
            ValueError, match=r"groups must be labels with numbers.*ash"
        ):
            next(cv.split(None, groups=NAMES))

    @pytest.mark.parametrize("spell", [str, int], ids=["text", "number"])
    def test_weeks_as_digits_are_purged(self, spell):
        days = np.arange("2020-01-03", "2022-01-01", 7, dtype="M8[D]")
        weeks = [spell(str(day).replace("-", "")) for day in days]
        assert_same_folds(
            list(EraKFold(4, purge=8).split(None, groups=weeks)),
            list(EraKFold(4, purge=8).split(None, groups=np.arange(len(days)))),
        )
        assert check_splits(EraKFold(4, purge=8), weeks, 4)["gap_before"].min() == 9
        with pytest.raises(EraLeakageError, match="trains on"):
            check_splits(KFold(4), weeks, 4)

    @each_splitter
    def test_no_eras_is_told(self, splitter):
        message = f"{type(splitter).__name__} splits by era, but got none. Pass groups="
        for X in (np.ones((9, 1)), pd.DataFrame({"a": np.ones(9)}), None):
            with pytest.raises(ValueError, match=message):
                next(splitter.split(X))

    @each_splitter
    def test_groups_of_another_length_are_told(self, splitter):
        for X in (np.ones((2, 1)), [[1.0], [1.0]], pd.DataFrame({"a": [1.0, 1.0]})):
            with pytest.raises(ValueError, match="groups has 3 labels, but X has 2"):
                next(splitter.split(X, groups=[1, 2, 3]))


class TestInScikitLearn:
    """Scores are those of a plain loop over the splitter's folds."""

    def scores(self, splitter, panel, model, n_first=None):
        y = panel.y()
        return [
            model.fit(panel.X[train[:n_first]], y[train[:n_first]]).score(
                panel.X[test], y[test]
            )
            for train, test in splitter.split(panel.X, y, panel.eras)
        ]

    @each_splitter
    @pytest.mark.parametrize("routing", [False, True])
    def test_cross_val_score(self, panel, splitter, routing):
        groups = {"groups": panel.eras}
        with sklearn.config_context(enable_metadata_routing=routing):
            scores = cross_val_score(
                Ridge(),
                panel.X,
                panel.y(),
                cv=splitter,
                error_score="raise",
                **({"params": groups} if routing else groups),
            )
        np.testing.assert_allclose(scores, self.scores(splitter, panel, Ridge()))

    @each_splitter
    @pytest.mark.parametrize("routing", [False, True])
    def test_learning_curve(self, panel, splitter, routing):
        groups = {"groups": panel.eras}
        first, _ = next(splitter.split(None, groups=panel.eras))
        sizes = [len(first) // 2, len(first)]
        with sklearn.config_context(enable_metadata_routing=routing):
            *_, scores = learning_curve(
                Ridge(),
                panel.X,
                panel.y(),
                cv=splitter,
                train_sizes=sizes,
                error_score="raise",
                **({"params": groups} if routing else groups),
            )
        for got, size in zip(scores, sizes, strict=True):
            np.testing.assert_allclose(got, self.scores(splitter, panel, Ridge(), size))

    @each_splitter
    @pytest.mark.parametrize("routing", [False, True])
    def test_grid_search(self, panel, splitter, routing):
        with sklearn.config_context(enable_metadata_routing=routing):
            search = GridSearchCV(
                Ridge(), {"alpha": [0.1, 1e4]}, cv=splitter, error_score="raise"
            ).fit(panel.X, panel.y(), groups=panel.eras)
        for i, alpha in enumerate([0.1, 1e4]):
            expected = self.scores(splitter, panel, Ridge(alpha=alpha))
            assert search.n_splits_ == len(expected)
            for fold, score in enumerate(expected):
                got = search.cv_results_[f"split{fold}_test_score"][i]
                assert got == pytest.approx(score)

    @pytest.mark.parametrize("routing", [False, True])
    def test_a_frame_needs_no_groups(self, panel, frame, routing):
        splitter = EraKFold(3, purge=2)
        model = make_pipeline(LatentFeatures(), Ridge())  # takes the era out
        with sklearn.config_context(enable_metadata_routing=routing):
            search = GridSearchCV(
                model, {"ridge__alpha": [0.1]}, cv=splitter, error_score="raise"
            ).fit(frame, panel.y())
        expected = np.mean(self.scores(splitter, panel, Ridge(alpha=0.1)))
        assert search.best_score_ == pytest.approx(expected, rel=1e-4)


@pytest.mark.filterwarnings("ignore:.optuna.terminator. module:FutureWarning")
class TestInOptuna:
    @pytest.fixture
    def optuna_search(self):
        optuna = pytest.importorskip("optuna")
        searches = pytest.importorskip("optuna_integration.sklearn")
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)

        def search(model, name, n_trials=2):
            alphas = {name: optuna.distributions.FloatDistribution(0.1, 1e4, log=True)}
            options = {"error_score": "raise", "n_trials": n_trials, "random_state": 0}
            with pytest.warns(optuna.exceptions.ExperimentalWarning):
                return searches.OptunaSearchCV(
                    model, alphas, cv=EraKFold(3, purge=2), **options
                )

        yield search
        optuna.logging.set_verbosity(verbosity)

    def score(self, panel, alpha):
        return np.mean(
            cross_val_score(
                Ridge(alpha=alpha),
                panel.X,
                panel.y(),
                groups=panel.eras,
                cv=EraKFold(3, purge=2),
            )
        )

    def test_groups(self, optuna_search, panel):
        search = optuna_search(Ridge(), "alpha")
        search.fit(panel.X, panel.y(), groups=panel.eras)
        assert search.n_splits_ == 3
        for trial in search.trials_:
            expected = self.score(panel, trial.params["alpha"])
            assert trial.value == pytest.approx(expected)

    # optuna hands on groups= in a way that scikit-learn refuses when it routes
    @pytest.mark.parametrize("routing", [False, True])
    def test_a_frame_needs_no_groups(self, optuna_search, panel, frame, routing):
        search = optuna_search(make_pipeline(LatentFeatures(), Ridge()), "ridge__alpha")
        with sklearn.config_context(enable_metadata_routing=routing):
            search.fit(frame, panel.y())
        for trial in search.trials_:
            expected = self.score(panel, trial.params["ridge__alpha"])
            assert trial.value == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("splitter", "eras", "message"),
    [
        (EraKFold(), None, "EraKFold splits by era, but got none. Pass groups=eras"),
        (EraKFold(), [1, 1], "needs at least two resolved eras; got 1"),
        (EraKFold(), [1, "X"], "needs at least two resolved eras; got 1"),
        (EraKFold(), ["X", "X"], "needs at least two resolved eras; got 0"),
        (
            EraKFold(2),
            np.arange(20),
            "no training era left after a purge of 16 .*purge=0",
        ),
        (
            EraWalkForward(2, purge=2),
            np.arange(6),
            r"Fold 0 \(test from era 2\) has no training era left",
        ),
        (
            EraKFold(2, purge=2),
            ["era1", "era2", "era3", "era4"],
            r"Fold 0 \(test from era era1\) has no training era left",
        ),
        (
            EraHoldout(1, purge=0, embargo=0, target="target"),
            [1],
            "EraHoldout needs at least two resolved eras; got 1",
        ),
        (EraKFold(purge="8"), [1, 2], "'purge' parameter of EraKFold"),
        (EraHoldout(purge=-1), [1, 2], "'purge' parameter of EraHoldout"),
        (EraKFold(embargo=-1), [1, 2], "'embargo' parameter of EraKFold"),
        (RepeatedEraKFold(target=20), [1, 2], "'target' parameter of RepeatedEraKFold"),
        (EraKFold(target="target"), [1, 2], "does not end in its trading days"),
    ],
)
def test_impossible_splits_are_told(splitter, eras, message):
    with pytest.raises(ValueError, match=message):
        next(splitter.split(None, groups=eras))


@pytest.mark.parametrize(
    ("splitter", "eras", "message"),
    [
        (EraWalkForward(test_eras=5), ["X", "X"], "at least two resolved eras; got 0"),
        (EraWalkForward(test_eras=0), [1, 2, 3], "'test_eras' parameter of EraWalk"),
        (EraWalkForward(0), [1, 2, 3], "'n_splits' parameter of EraWalkForward"),
        (EraKFold(0), [1, 2, 3], "'n_splits' parameter of EraKFold"),
        (CombinatorialPurgedEraCV(-3, 1), [1, 2], "'n_groups' parameter of"),
    ],
)
def test_searches_ask_first_for_the_number_of_splits(splitter, eras, message):
    with pytest.raises(ValueError, match=message):
        splitter.get_n_splits(groups=eras)
