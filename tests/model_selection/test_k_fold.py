"""Which eras the k-fold splitters test."""

from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold

from numerai_features.model_selection import EraKFold, RepeatedEraKFold

gaps = st.lists(st.sampled_from([1, 1, 1, 2, 3, 7]), min_size=6, max_size=40)
era_lists = gaps.map(lambda steps: np.cumsum(steps).tolist())
seeds = st.integers(0, 99)


def held_out(splitter, eras):
    return [test.tolist() for _, test in splitter.split_eras(eras)]


def chunks_of(eras, chunk):
    """Eras by their chunk, by looking at each."""
    chunks = {}
    for era in sorted(eras):
        chunks.setdefault((era - min(eras)) // chunk, []).append(era)
    return list(chunks.values())


class TestEraKFold:
    @settings(deadline=None)
    @given(
        st.builds(
            EraKFold,
            st.integers(2, 6),
            shuffle=st.booleans(),
            purge=st.just(0),
            random_state=seeds,
        ),
        era_lists,
    )
    def test_every_era_is_tested_once(self, splitter, eras):
        tested = held_out(splitter, eras)
        assert sorted(chain(*tested)) == eras
        sizes = [len(test) for test in tested]
        assert max(sizes) - min(sizes) <= 1

    @settings(deadline=None)
    @given(st.integers(2, 6), st.booleans(), seeds, era_lists)
    def test_without_purge_it_is_scikit_learns_k_fold(
        self, n_splits, shuffle, seed, eras
    ):
        random_state = seed if shuffle else None
        ours = EraKFold(n_splits, shuffle=shuffle, purge=0, random_state=random_state)
        theirs = KFold(n_splits, shuffle=shuffle, random_state=random_state)
        X = np.zeros((len(eras), 1))
        for got, expected in zip(
            ours.split(X, groups=eras), theirs.split(X), strict=True
        ):
            for a, b in zip(got, expected, strict=True):
                np.testing.assert_array_equal(a, b)

    @settings(deadline=None)
    @given(st.integers(2, 4), st.integers(1, 9), st.booleans(), seeds, era_lists)
    def test_chunks_stay_together(self, n_splits, chunk, shuffle, seed, eras):
        chunks = chunks_of(eras, chunk)
        cv = EraKFold(
            n_splits, shuffle=shuffle, chunk=chunk, purge=0, random_state=seed
        )
        if n_splits > len(chunks):
            message = f"n_splits={n_splits} .* chunks of eras, {len(chunks)}"
            with pytest.raises(ValueError, match=message):
                held_out(cv, eras)
            return
        theirs = KFold(
            n_splits, shuffle=shuffle, random_state=seed if shuffle else None
        )
        expected = [
            list(chain(*(chunks[i] for i in test))) for _, test in theirs.split(chunks)
        ]
        assert held_out(cv, eras) == expected

    def test_the_seed_draws_the_folds(self):
        eras = np.arange(40)

        def draw(seed, **params):
            return held_out(EraKFold(4, purge=0, random_state=seed, **params), eras)

        assert draw(0, shuffle=True) == draw(0, shuffle=True) != draw(1, shuffle=True)
        assert draw(0) == draw(1)
        generator = np.random.RandomState(0)
        first, second = draw(generator, shuffle=True), draw(generator, shuffle=True)
        assert first == draw(0, shuffle=True) != second

    def test_of_shuffled_eras_the_purge_leaves_few_and_of_chunks_most(self):
        def fewest(n_eras, **params):
            cv = EraKFold(5, shuffle=True, purge=8, random_state=0, **params)
            return min(len(train) for train, _ in cv.split_eras(range(1, n_eras + 1)))

        assert fewest(400) < 20
        assert fewest(400, chunk=40) >= 320 - 2 * 2 * 8  # two chunks, two sides
        with pytest.raises(ValueError, match="no training era left"):
            fewest(100)

    def test_an_unpurged_split_of_the_synthetic_panel_shares_windows(self, panel):
        horizon = panel.info["horizons"]["target_alpha_20"]
        for purge, shared in ((0, True), (horizon - 1, False)):
            gaps = [
                np.abs(train[:, None] - test).min()
                for train, test in EraKFold(3, purge=purge).split_eras(panel.eras)
            ]
            assert (min(gaps) < horizon) == shared


class TestRepeatedEraKFold:
    def repetitions(self, splitter, eras):
        tested = held_out(splitter, eras)
        n = splitter.n_splits
        return [tested[i : i + n] for i in range(0, len(tested), n)]

    def drawn(self, data, all_of_them=False):
        eras = data.draw(era_lists)
        n_splits = data.draw(st.integers(2, 5))
        most = len(eras) // n_splits
        n_repeats = most if all_of_them else data.draw(st.integers(1, most))
        splitter = RepeatedEraKFold(
            n_splits, n_repeats=n_repeats, purge=0, random_state=data.draw(seeds)
        )
        return splitter, eras

    @settings(deadline=None)
    @given(st.data())
    def test_every_repetition_tests_every_era_once(self, data):
        splitter, eras = self.drawn(data)
        repetitions = self.repetitions(splitter, eras)
        assert len(repetitions) == splitter.n_repeats
        for blocks in repetitions:
            assert len(blocks) == splitter.n_splits
            assert sorted(chain(*blocks)) == eras
            sizes = [len(block) for block in blocks]
            assert max(sizes) - min(sizes) <= 1

    @settings(deadline=None)
    @given(st.data())
    def test_blocks_are_contiguous_in_a_ring_and_no_border_is_cut_twice(self, data):
        splitter, eras = self.drawn(data)
        borders = []
        for blocks in self.repetitions(splitter, eras):
            for block in blocks:
                # an era that begins its block follows one that is not in it
                first = [e for e in block if eras[eras.index(e) - 1] not in block]
                assert len(first) == 1
                borders += first
        assert len(borders) == splitter.get_n_splits()
        assert len(set(borders)) == len(borders)

    @settings(deadline=None)
    @given(st.data())
    def test_one_of_all_repetitions_is_the_plain_k_fold(self, data):
        splitter, eras = self.drawn(data, all_of_them=True)
        plain = held_out(EraKFold(splitter.n_splits, purge=0), eras)
        assert self.repetitions(splitter, eras).count(plain) == 1

    def test_the_block_over_the_cut_is_purged_on_its_inner_sides(self):
        cv = RepeatedEraKFold(2, n_repeats=4, purge=1, random_state=0)
        over_the_cut = [
            (train.tolist(), test.tolist())
            for train, test in cv.split_eras(range(1, 9))
            if test[0] == 1 and test[-1] == 8
        ]
        assert sorted(over_the_cut) == [
            ([3, 4], [1, 6, 7, 8]),
            ([4, 5], [1, 2, 7, 8]),
            ([5, 6], [1, 2, 3, 8]),
        ]

    def test_the_seed_draws_the_borders(self):
        def draw(seed):
            return held_out(RepeatedEraKFold(3, purge=0, random_state=seed), range(60))

        assert draw(0) == draw(0) != draw(1)


@pytest.mark.parametrize(
    ("splitter", "message"),
    [
        (EraKFold(3, purge=0), "n_splits=3 must be at most .* eras, 2"),
        (
            EraKFold(2, chunk=2, purge=0),
            "n_splits=2 must be at most the number of resolved chunks of eras, 1",
        ),
        (RepeatedEraKFold(3, purge=0), "n_splits=3 must be at most .* eras, 2"),
        (
            RepeatedEraKFold(2, n_repeats=2, purge=0),
            "n_repeats=2 must be at most 1: 2 resolved eras cannot be cut into 2",
        ),
        (EraKFold(1), "'n_splits' parameter of EraKFold"),
        (EraKFold(chunk=0), "'chunk' parameter of EraKFold"),
        (EraKFold(shuffle="yes"), "'shuffle' parameter of EraKFold"),
        (EraKFold(random_state="a"), "'random_state' parameter of EraKFold"),
        (RepeatedEraKFold(1), "'n_splits' parameter of RepeatedEraKFold"),
        (RepeatedEraKFold(n_repeats=0), "'n_repeats' parameter of RepeatedEraKFold"),
    ],
)
def test_impossible_splits_are_told(splitter, message):
    with pytest.raises(ValueError, match=message):
        next(splitter.split(None, groups=[1, 2]))
