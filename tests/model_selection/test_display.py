import itertools
import subprocess
import sys

import matplotlib
import numpy as np
import pandas as pd
import polars as pl
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold, TimeSeriesSplit

from numerai_features._eras import LIVE
from numerai_features.model_selection import (
    CombinatorialPurgedEraCV,
    EraKFold,
    EraSplitDisplay,
    EraWalkForward,
)
from numerai_features.model_selection._display import _LOOKS

UNUSED, TRAIN, PURGE, EMBARGO, TEST, LEAKING = range(6)
OURS = [
    EraKFold(4, purge=3, embargo=2),
    EraKFold(3, purge=0, shuffle=True, chunk=8, random_state=0),
    EraWalkForward(4, purge=5, max_train_eras=12),
    CombinatorialPurgedEraCV(5, 2, purge=2, embargo=3),
]
GAPPED = [*range(1, 25), *range(31, 47), *range(50, 90, 2)]


@pytest.fixture(autouse=True)
def _no_figure_stays_open():
    yield
    plt.close("all")


@pytest.fixture
def ax():
    """Axes of a figure that pyplot knows nothing of."""
    return Figure().subplots()


def slow_states(cv, numbers, train, test):
    """The states of one fold of ours, by looking at every pair of eras."""
    states = []
    for number in numbers:
        if number in test:
            states.append(TEST)
        elif number in train:
            states.append(TRAIN)
        elif isinstance(cv, EraWalkForward) and (
            number > min(test) or number < min(test) - cv.purge - cv.max_train_eras
        ):
            states.append(UNUSED)
        elif any(abs(number - tested) <= cv.purge for tested in test):
            states.append(PURGE)
        else:
            assert any(0 < number - t <= cv.purge + cv.embargo for t in test)
            states.append(EMBARGO)
    return states


def drawn(display):
    """The bars: fold, state, left and right end, told by colour and place."""
    state_of = {to_rgb(look.colour): state for state, look in enumerate(_LOOKS)}
    bars = []
    for collection in display.ax_.collections:
        state = state_of[tuple(collection.get_facecolor()[0][:3])]
        for path in collection.get_paths():
            box = path.get_extents()
            bars.append((round((box.y0 + box.y1) / 2), state, box.x0, box.x1))
    return sorted(bars)


def legend_of(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


class TestStates:
    @pytest.mark.parametrize("cv", OURS, ids=lambda cv: type(cv).__name__)
    @pytest.mark.parametrize("numbers", [range(1, 61), GAPPED], ids=["all", "gapped"])
    def test_ours_against_a_slow_reference(self, cv, numbers, ax):
        display = EraSplitDisplay.from_cv(cv, numbers, ax=ax)
        wanted = [slow_states(cv, numbers, *fold) for fold in cv.split_eras(numbers)]
        np.testing.assert_array_equal(display.states, wanted)
        np.testing.assert_array_equal(display.era_numbers, numbers)
        assert display.states.dtype == np.int8
        assert display.era_numbers.dtype == np.int64

    def test_the_cases_hold_every_state_of_ours(self, ax):
        seen = {
            int(state)
            for cv in OURS
            for state in EraSplitDisplay.from_cv(cv, range(1, 61), ax=ax).states.flat
        }
        assert seen == {UNUSED, TRAIN, PURGE, EMBARGO, TEST}

    @pytest.mark.parametrize("horizon", [None, 1, 2, 4, 7])
    @pytest.mark.parametrize(
        "cv",
        [KFold(3), KFold(2, shuffle=True, random_state=0), TimeSeriesSplit(3)],
        ids=lambda cv: type(cv).__name__,
    )
    @pytest.mark.parametrize("shuffled", [False, True])
    def test_foreign_splitters_against_plain_loops(self, cv, horizon, shuffled, ax):
        eras = np.repeat([1, 2, 3, 4, 5, 9, 10, 11, 14, 15, 16, 17, 20, 24], 3)
        if shuffled:
            eras = np.random.default_rng(0).permutation(eras)
        display = EraSplitDisplay.from_cv(cv, eras, horizon=horizon, ax=ax)
        wanted = []
        for train, test in cv.split(eras[:, None]):
            train, test = set(eras[train]), set(eras[test])
            fold = []
            for era in np.unique(eras):
                near = any(abs(era - tested) < (horizon or 1) for tested in test)
                if era in train:
                    fold.append(LEAKING if near else TRAIN)
                else:
                    fold.append(TEST if era in test else UNUSED)
            wanted.append(fold)
        np.testing.assert_array_equal(display.states, wanted)

    def test_horizon_marks_exactly_the_eras_beside_the_tested(self, ax):
        display = EraSplitDisplay.from_cv(KFold(3), range(1, 10), horizon=2, ax=ax)
        assert display.states.tolist() == [
            [4, 4, 4, 5, 1, 1, 1, 1, 1],
            [1, 1, 5, 4, 4, 4, 5, 1, 1],
            [1, 1, 1, 1, 1, 5, 4, 4, 4],
        ]

    def test_horizon_counts_era_numbers_not_positions(self, ax):
        every_fourth = np.arange(1, 49, 4)
        for horizon, leaks in ((4, False), (5, True)):
            display = EraSplitDisplay.from_cv(
                KFold(3), every_fourth, horizon=horizon, ax=ax
            )
            assert (LEAKING in display.states) == leaks

    def test_our_splitters_are_judged_too(self, ax):
        eras = range(1, 41)
        for purge, leaks in ((2, True), (3, False)):
            cv = EraKFold(4, purge=purge)
            display = EraSplitDisplay.from_cv(cv, eras, horizon=4, ax=ax)
            assert (LEAKING in display.states) == leaks

    def test_group_splitters_get_the_eras(self, ax):
        eras = np.repeat(np.arange(1, 13), 5)
        display = EraSplitDisplay.from_cv(GroupKFold(3), eras, ax=ax)
        assert set(display.states.flat) == {TRAIN, TEST}
        assert (display.states == TEST).sum(axis=0).tolist() == [1] * 12

    def test_y_reaches_a_foreign_splitter(self, ax):
        y = np.tile([0, 1], 30)
        eras = np.repeat(np.arange(1, 13), 5)
        display = EraSplitDisplay.from_cv(StratifiedKFold(3), eras, y=y, ax=ax)
        assert display.states.shape == (3, 12)

    def test_y_reaches_ours(self, ax):
        y = pd.Series(np.r_[np.zeros(50), np.full(10, np.nan)], name="target_ender_20")
        display = EraSplitDisplay.from_cv(EraKFold(3), range(1, 61), y=y, ax=ax)
        assert np.all(display.states[:, 50:] == UNUSED)
        assert (display.states[0] == PURGE).sum() == 8

    @pytest.mark.parametrize(
        "pairs",
        [
            [([0, 1], [3]), ([2], [])],
            [(np.array([True, True, False, False]), [-1]), ([2], np.array([], int))],
        ],
        ids=["indices", "masks"],
    )
    def test_pairs_of_rows(self, pairs, ax):
        display = EraSplitDisplay.from_cv(iter(pairs), [1, 2, 3, 4], ax=ax)
        assert display.states.tolist() == [[1, 1, 0, 4], [0, 0, 1, 0]]
        assert display.ax_.get_title(loc="left") == "2 folds"

    def test_a_number_of_folds_is_scikit_learns(self, ax):
        eras = np.repeat(np.arange(1, 13), 5)
        by_number = EraSplitDisplay.from_cv(4, eras, ax=ax)
        by_name = EraSplitDisplay.from_cv(KFold(4), eras, ax=ax)
        np.testing.assert_array_equal(by_number.states, by_name.states)

    @pytest.mark.parametrize("cv", [EraKFold(3, purge=1), KFold(3)])
    def test_the_live_era_is_left_out(self, cv, ax):
        eras = [f"{i:04d}" for i in range(1, 13)]
        display = EraSplitDisplay.from_cv(cv, [*eras, "X"], ax=ax)
        assert LIVE not in display.era_numbers
        assert display.states.shape == (3, 12)
        assert display.ax_.get_xlim() == (0.5, 12.5)

    @pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame])
    def test_eras_of_a_frame(self, make, ax):
        eras = np.repeat(np.arange(1, 13), 2)
        labels = [f"{era:04d}" for era in eras]
        X = make({"feature_a": np.zeros(24, np.int8), "era": labels})
        cv = EraKFold(3, purge=1)
        display = EraSplitDisplay.from_cv(cv, X=X, ax=ax)
        same = EraSplitDisplay.from_cv(cv, eras, ax=ax)
        np.testing.assert_array_equal(display.states, same.states)
        other = EraSplitDisplay.from_cv(cv, eras + 100, X=X, ax=ax)
        assert other.era_numbers[0] == 101


class TestPicture:
    def test_bars_are_the_runs_of_states(self, ax):
        cv = EraKFold(2, purge=1, embargo=1)
        display = EraSplitDisplay.from_cv(cv, [1, 2, 3, 4, 5, 6, 7, 8], ax=ax)
        assert drawn(display) == [
            (0, TRAIN, 6.5, 8.5),
            (0, PURGE, 4.5, 5.5),
            (0, EMBARGO, 5.5, 6.5),
            (0, TEST, 0.5, 4.5),
            (1, TRAIN, 0.5, 3.5),
            (1, PURGE, 3.5, 4.5),
            (1, TEST, 4.5, 8.5),
        ]

    def test_one_artist_for_a_state_of_a_fold(self, ax):
        cv = EraKFold(3, purge=2, embargo=2)  # no embargo in the last
        display = EraSplitDisplay.from_cv(cv, range(1, 301), ax=ax)
        assert len(ax.collections) == sum(len(np.unique(f)) for f in display.states)

    def test_a_gap_is_a_gap(self, ax):
        pairs = [([0, 1, 2, 3], [4])]
        display = EraSplitDisplay.from_cv(pairs, [1, 2, 3, 7, 8], ax=ax)
        assert drawn(display) == [
            (0, TRAIN, 0.5, 3.5),
            (0, TRAIN, 6.5, 7.5),
            (0, TEST, 7.5, 8.5),
        ]

    def test_every_fourth_era_is_four_wide(self, ax):
        display = EraSplitDisplay.from_cv([([0, 1], [2])], [1, 5, 9], ax=ax)
        assert drawn(display) == [(0, TRAIN, -1.0, 7.0), (0, TEST, 7.0, 11.0)]

    def test_a_single_era(self, ax):
        display = EraSplitDisplay.from_cv([([0], [])], [5], ax=ax)
        assert drawn(display) == [(0, TRAIN, 4.5, 5.5)]

    def test_the_first_fold_is_at_the_top(self, ax):
        EraSplitDisplay.from_cv(EraKFold(3, purge=1), range(1, 31), ax=ax)
        assert ax.get_ylim() == (2.5, -0.5)

    def test_legend_lists_what_occurs(self, ax):
        eras = range(1, 61)
        legend = legend_of(EraSplitDisplay.from_cv(OURS[0], eras, ax=ax))
        assert legend == ["train", "purge", "embargo", "test"]
        legend = legend_of(EraSplitDisplay.from_cv(KFold(3), eras, horizon=2, ax=ax))
        assert legend == ["train", "test", "train, overlaps\na test era"]
        cv = EraWalkForward(3, purge=0)
        legend = legend_of(EraSplitDisplay.from_cv(cv, eras, ax=ax))
        assert legend == ["not used", "train", "test"]

    def test_legend_has_the_bars_colours(self, ax):
        EraSplitDisplay.from_cv(OURS[0], range(1, 61), ax=ax)
        legend = ax.get_legend()
        colours = {look.label: to_rgb(look.colour) for look in _LOOKS}
        for patch, text in zip(legend.get_patches(), legend.get_texts(), strict=True):
            assert patch.get_facecolor()[:3] == colours[text.get_text()]

    def test_legend_is_inside_the_figure_and_outside_the_axes(self):
        display = EraSplitDisplay.from_cv(KFold(3), range(1, 31), horizon=3)
        display.figure_.draw_without_rendering()
        box = display.ax_.get_legend().get_window_extent()
        assert box.x0 > display.ax_.get_window_extent().x1
        assert box.x1 <= display.figure_.bbox.x1

    def test_greys_differ(self):
        # the thin and the hatched are told apart by that
        full = [look for look in _LOOKS if look.height > 0.5 and look.hatch is None]
        greys = [np.dot([0.299, 0.587, 0.114], to_rgb(look.colour)) for look in full]
        assert len(greys) == 4
        assert np.diff(sorted(greys)).min() > 0.15

    @pytest.mark.parametrize("n_folds", [1, 2, 5, 50, 400])
    def test_ticks_are_whole_and_do_not_collide(self, n_folds):
        pairs = [([0, 1, 2], [3])] * n_folds
        display = EraSplitDisplay.from_cv(pairs, [1, 2, 3, 4])
        figure, ax = display.figure_, display.ax_
        figure.draw_without_rendering()
        assert 2 <= figure.get_size_inches()[1] <= 10
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [
                (place, label)
                for place, label in zip(
                    axis.get_ticklocs(), axis.get_ticklabels(), strict=True
                )
                if low <= place <= high
            ]
            assert ticks
            assert all(place == round(place) for place, _ in ticks)
            boxes = [label.get_window_extent() for _, label in ticks]
            assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))

    def test_the_figure_grows_with_the_folds(self):
        heights = []
        for n_folds in (5, 15, 25):
            display = EraSplitDisplay.from_cv([([0], [1])] * n_folds, [1, 2])
            heights.append(display.figure_.get_size_inches()[1])
        assert heights[0] < heights[1] < heights[2]

    def test_labels(self, ax):
        cv = EraKFold(4, purge=3)
        EraSplitDisplay.from_cv(cv, range(1, 61), ax=ax)
        assert ax.get_xlabel() == "era (week)"
        assert ax.get_ylabel() == "fold"
        assert ax.get_title(loc="left") == "EraKFold(n_splits=4, purge=3)"

    def test_a_long_title_is_the_class_alone(self, ax):
        cv = EraKFold(4, shuffle=True, chunk=15, purge=1, embargo=1, random_state=1234)
        EraSplitDisplay.from_cv(cv, range(1, 61), ax=ax)
        assert ax.get_title(loc="left") == "EraKFold"

    def test_a_title_without_repr_is_the_class(self, ax):
        class Halves:
            def __repr__(self):
                return "<Halves at 0x7f>"

            def split(self, X, y=None, groups=None):
                yield np.arange(0, 10), np.arange(10, 20)

        EraSplitDisplay.from_cv(Halves(), range(1, 21), ax=ax)
        assert ax.get_title(loc="left") == "Halves"


class TestConvention:
    def test_axes_given_are_used(self):
        figure, axes = plt.subplots(1, 2)
        display = EraSplitDisplay.from_cv(KFold(3), range(1, 31), ax=axes[1])
        assert display.ax_ is axes[1]
        assert display.figure_ is figure
        assert not axes[0].collections
        assert plt.get_fignums() == [figure.number]

    def test_a_figure_is_made_that_a_notebook_shows(self):
        display = EraSplitDisplay.from_cv(KFold(3), range(1, 31))
        assert plt.gcf() is display.figure_
        assert plt.gca() is display.ax_

    def test_plot_again(self, ax):
        display = EraSplitDisplay.from_cv(OURS[0], range(1, 61))
        before = drawn(display)
        assert display.plot(ax) is display
        assert display.ax_ is ax
        assert drawn(display) == before

    def test_plot_from_what_is_kept(self, ax):
        display = EraSplitDisplay(
            states=np.array([[1, 2, 4]], np.int8), era_numbers=np.array([3, 4, 5])
        )
        assert drawn(display.plot(ax)) == [
            (0, TRAIN, 2.5, 3.5),
            (0, PURGE, 3.5, 4.5),
            (0, TEST, 4.5, 5.5),
        ]
        assert ax.get_title(loc="left") == ""

    def test_settings_are_left_alone(self):
        before = dict(matplotlib.rcParams)
        EraSplitDisplay.from_cv(KFold(3), range(1, 31), horizon=2)
        assert dict(matplotlib.rcParams) == before

    def test_what_came_is_not_written_to(self, ax):
        eras = np.repeat(np.arange(1, 31), 2)
        y = pd.Series(np.r_[np.nan, np.nan, np.ones(58)])
        X = pd.DataFrame({"era": eras, "feature_a": np.int8(2)})
        copies = eras.copy(), y.copy(), X.copy()
        for cv in (EraKFold(3, purge=1), KFold(3)):
            EraSplitDisplay.from_cv(cv, eras, X=X, y=y, horizon=2, ax=ax)
            EraSplitDisplay.from_cv(cv, X=X, y=y, ax=ax)
        np.testing.assert_array_equal(eras, copies[0])
        pd.testing.assert_series_equal(y, copies[1])
        pd.testing.assert_frame_equal(X, copies[2])

    def test_axes_given_need_no_pyplot(self):
        code = (
            "import sys; from matplotlib.figure import Figure; "
            "from numerai_features.model_selection._display import EraSplitDisplay; "
            "EraSplitDisplay.from_cv(3, range(9), ax=Figure().subplots()); "
            "assert 'matplotlib.pyplot' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_the_module_alone_imports_no_matplotlib(self):
        code = (
            "import sys, numerai_features.model_selection._display; "
            "assert 'matplotlib' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


class TestErrors:
    def test_no_eras(self):
        X = np.zeros((10, 2))
        for table in (None, X, pd.DataFrame(X)):
            with pytest.raises(ValueError, match=r"eras must be .* Pass eras="):
                EraSplitDisplay.from_cv(KFold(3), X=table)

    @pytest.mark.parametrize("eras", [["X"], ["X", "X"]])
    @pytest.mark.parametrize("cv", [EraKFold(2), KFold(2)])
    def test_no_resolved_eras(self, cv, eras):
        with pytest.raises(ValueError, match="but none of a resolved era"):
            EraSplitDisplay.from_cv(cv, eras)

    def test_eras_of_other_rows(self):
        with pytest.raises(ValueError, match="eras has 3 labels, but X has 10 rows"):
            EraSplitDisplay.from_cv(KFold(3), [1, 2, 3], X=np.zeros((10, 2)))

    @pytest.mark.parametrize("horizon", [0, -1, 2.5, "4"])
    def test_horizon(self, horizon):
        with pytest.raises(ValueError, match=r"^horizon"):
            EraSplitDisplay.from_cv(KFold(3), range(1, 31), horizon=horizon)

    def test_rows_that_are_not_there(self):
        pairs = [([0, 1], [2]), ([0, 1], [12])]
        with pytest.raises(ValueError, match=r"below 3, .* fold 1 are from 12 to 12"):
            EraSplitDisplay.from_cv(pairs, [1, 2, 3])

    def test_no_folds(self):
        with pytest.raises(ValueError, match="cv yields no folds"):
            EraSplitDisplay.from_cv([], [1, 2, 3])

    def test_what_a_splitter_says_is_passed_on(self):
        with pytest.raises(ValueError, match="has no training era left"):
            EraSplitDisplay.from_cv(EraKFold(2, purge=16), range(1, 11))

    def test_warnings_of_a_splitter_are_passed_on(self, ax):
        y = np.r_[np.zeros(28), 1, 1]
        with pytest.warns(UserWarning, match="least populated class"):
            EraSplitDisplay.from_cv(StratifiedKFold(3), range(1, 31), y=y, ax=ax)

    @pytest.mark.parametrize("missing", ["matplotlib.pyplot", "matplotlib.ticker"])
    def test_no_matplotlib(self, missing, monkeypatch):
        monkeypatch.setitem(sys.modules, missing, None)
        with pytest.raises(
            ImportError, match=r"EraSplitDisplay needs .*numerai-features\[plots\]"
        ):
            EraSplitDisplay.from_cv(KFold(3), range(1, 31))
