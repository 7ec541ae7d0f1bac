"""The figures of an experiment: what they show, read off the drawn figures."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from numerai_features.experiment import Experiment, _figure, _figure_differences
from numerai_features.experiment._figure import cumulative_figure
from numerai_features.experiment._figure_differences import differences_figure
from numerai_features.experiment._figure_parts import COLOURS, GREY, apart
from numerai_features.metrics import mean_interval, paired_differences

LONG = "+ fa_of_medium_with_varimax_rotation_and_thirty_components"
NINE = ["originals", *(f"+ latents_{j}" for j in range(1, 9))]
OVERLAP = 4


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The result of a tiny experiment, whose scores are then replaced."""
    experiment = Experiment.from_dict(
        {
            "data": {"synthetic": {"n_eras": 20, "rows_per_era": 20, "n_features": 6}},
            "cv": {"n_splits": 1, "purge": 1},
            "latents": {"fa": {"embedder": "FactorAnalysisEmbedder"}},
            "model": {"n_jobs": 1, "params": {"n_estimators": 2}},
        },
        output=tmp_path_factory.mktemp("made") / "out",
    )
    return experiment.run(verbose=False)


@pytest.fixture
def result(made):
    """Return a function that makes a result of given scores."""

    def with_scores(scores, overlap=OVERLAP, n_folds=3):
        n = len(scores)
        tables = made.experiment.tables | {
            "features": {"set": "medium"},
            "targets": {"main": "target_ender_60"},
            "cv": {**made.experiment["cv"], "purge": overlap},
        }
        if len(scores.columns) > 1:
            differences = paired_differences(scores, "originals", overlap)
        else:
            differences = made.differences.iloc[:0]
        eras = [f"{era:04d}" for era in scores.index]
        folds = np.arange(n) * n_folds // n + 1
        return dataclasses.replace(
            made,
            experiment=Experiment("compare", tables),
            scores=scores,
            differences=differences,
            predictions=pd.DataFrame({"era": eras, "fold": folds}),
            notes=(),
        )

    return with_scores


def scores_of(arms, n_eras=60, first=158, seed=0):
    """Return scores that share the market, with arms of lower means from the left."""
    rng = np.random.default_rng(seed)
    market = rng.normal(0.01, 0.02, size=n_eras)
    own = rng.normal(0, 0.004, size=(n_eras, len(arms))) * (np.arange(len(arms)) > 0)
    less = 0.001 * np.arange(len(arms))
    eras = range(first, first + n_eras)
    return pd.DataFrame(market[:, None] + own - less, eras, arms)


def lines_of(axes, scores):
    """Return the lines of the arms by name, without bands, zero and borders."""
    return {
        line.get_label(): line
        for line in axes.get_lines()
        if line.get_label() in scores.columns
    }


def drawn(figure):
    """Return the figure with its final layout."""
    figure.draw_without_rendering()
    return figure


def boxes_of(axes):
    """Return where the names are, without the lines that lead to them."""
    return [Text.get_window_extent(text) for text in axes.texts]


class TestCumulative:
    def test_lines_are_cumulative_scores_and_differences(self, result):
        scores = scores_of(["originals", "+ fa", "+ random"])
        above, below = cumulative_figure(result(scores)).axes
        for arm, line in lines_of(above, scores).items():
            assert line.get_xdata().tolist() == [157, *scores.index]
            expected = [0, *scores[arm].cumsum()]
            np.testing.assert_allclose(line.get_ydata(), expected)
        lines = lines_of(below, scores)
        assert set(lines) == {"+ fa", "+ random"}
        for arm, line in lines.items():
            less = scores[arm] - scores["originals"]
            np.testing.assert_allclose(line.get_ydata(), [0, *less.cumsum()])
        assert above.get_xlim() == below.get_xlim() == (157, 217)

    def test_bands_end_with_the_interval_of_the_table(self, result):
        scores = scores_of(["originals", "+ fa", "+ random"])
        _, below = cumulative_figure(result(scores)).axes
        assert len(below.collections) == 2
        for band in below.collections:
            [arm] = [
                arm for arm, line in lines_of(below, scores).items()
                if to_hex(line.get_color()) == to_hex(band.get_facecolor()[0])
            ]  # fmt: skip
            less = scores[arm] - scores["originals"]
            interval = mean_interval(less, overlap=OVERLAP)
            points = band.get_paths()[0].vertices
            half = 60 * (interval.high - interval.low) / 2
            for k in (1, 15, 60):
                at = points[points[:, 0] == 157 + k, 1]
                middle = less.iloc[:k].sum()
                wide = half * np.sqrt(k / 60)
                assert at.min() == pytest.approx(middle - wide)
                assert at.max() == pytest.approx(middle + wide)
            assert at.max() == pytest.approx(60 * interval.high)

    @pytest.mark.parametrize("n_arms", [1, 2, 6, 7, 9])
    def test_six_arms_have_colours_and_names(self, result, n_arms):
        scores = scores_of(NINE[:n_arms])
        figure = drawn(cumulative_figure(result(scores)))
        assert len(figure.axes) == (1 if n_arms == 1 else 2)
        lines = lines_of(figure.axes[0], scores)
        colours = {arm: line.get_color() for arm, line in lines.items()}
        named = [arm for arm, colour in colours.items() if colour != GREY]
        assert set(named) == set(NINE[: min(n_arms, 6)])
        assert len({colours[arm] for arm in named}) == len(named)
        assert {colours[arm] for arm in named} <= set(COLOURS)
        assert colours["originals"] == "#000000"
        for axes, first in zip(figure.axes, (0, 1), strict=False):
            texts = [text.get_text().rsplit("  ", 1)[0] for text in axes.texts]
            assert sorted(texts) == sorted(NINE[first : min(n_arms, 6)])
        caption = figure.axes[-1].get_xlabel()
        grey = f"grey: {n_arms - 6} more arms, with lower means"
        assert (grey in caption) == (n_arms > 6)
        assert ("bands: 95 % half-width" in caption) == (n_arms > 1)

    def test_the_best_are_named(self, result):
        """The order of the columns does not decide, but for the first one."""
        scores = scores_of(NINE)[["originals", *NINE[:0:-1]]]
        lines = lines_of(cumulative_figure(result(scores)).axes[0], scores)
        grey = {arm for arm, line in lines.items() if line.get_color() == GREY}
        assert grey == set(NINE[6:])

    @pytest.mark.parametrize("n_arms", [2, 6, 9])
    @pytest.mark.parametrize("equal", [False, True])
    def test_names_do_not_overlap(self, result, n_arms, equal):
        scores = scores_of([*NINE[: n_arms - 1], LONG])
        if equal:  # all lines end in one place
            scores = scores.apply(lambda arm: scores["originals"])
        figure = drawn(cumulative_figure(result(scores)))
        for axes in figure.axes:
            boxes = boxes_of(axes)
            for j, box in enumerate(boxes):
                assert not any(box.overlaps(other) for other in boxes[:j])
                assert figure.bbox.x0 <= box.x0
                assert box.x1 <= figure.bbox.x1
                assert box.x0 > axes.get_window_extent().x1

    def test_names_stand_in_the_order_of_the_ends(self, result):
        scores = scores_of(NINE[:6])
        above = drawn(cumulative_figure(result(scores))).axes[0]
        heights = {text.get_text(): text.get_position()[1] for text in above.texts}
        ends = {text.get_text(): text.xy for text in above.texts}
        by_height = sorted(heights, key=heights.get)
        assert by_height == sorted(ends, key=lambda text: ends[text][1])
        for text, (x, y) in ends.items():
            arm = text.rsplit("  ", 1)[0]
            assert x == 217
            assert y == pytest.approx(scores[arm].sum())
            assert text.endswith(f"  {scores[arm].mean():.4f}")

    def test_eras_without_scores(self, result):
        """The axis starts and ends with the scores, and each line with its own."""
        scores = scores_of(["originals", "+ late", "+ gap", "+ none"])
        scores.iloc[:5] = scores.iloc[-16:] = np.nan
        scores.loc[:180, "+ late"] = np.nan
        scores.loc[190, "+ gap"] = np.nan
        scores["+ none"] = np.nan
        figure = cumulative_figure(result(scores))
        above = figure.axes[0]
        assert above.get_xlim() == (162, 201)
        lines = lines_of(above, scores)
        assert lines["+ late"].get_xdata()[[0, 1, -1]].tolist() == [180, 181, 201]
        assert lines["+ late"].get_ydata()[0] == 0
        assert 190 not in lines["+ gap"].get_xdata()
        assert "+ none" not in lines
        told = {text.get_text().split("  ")[0]: text.get_text() for text in above.texts}
        assert told["+ late"].endswith("  (21 eras)")
        assert told["+ gap"].endswith("  (38 eras)")
        assert "eras" not in told["originals"]
        assert "39 eras" in above.get_title("left")

    def test_title(self, result):
        title = cumulative_figure(result(scores_of(NINE))).axes[0].get_title("left")
        assert title == (
            "Cumulative CORR\n"
            "compare: feature set medium, target_ender_60, walk-forward, 60 eras"
        )

    def test_too_few_eras_have_no_band(self, result):
        figure = cumulative_figure(result(scores_of(["originals", "+ fa"], n_eras=9)))
        assert not figure.axes[1].collections
        assert "without bands: too few eras" in figure.axes[1].get_xlabel()

    def test_arms_without_any_score_are_drawn_empty(self, result):
        scores = scores_of(["originals", "+ fa"]) * np.nan
        figure = drawn(cumulative_figure(result(scores)))
        assert not lines_of(figure.axes[0], scores)
        assert "0 eras" in figure.axes[0].get_title("left")
        assert "0 eras" in drawn(differences_figure(result(scores))).axes[0].get_title(
            "left"
        )

    def test_borders_of_folds_are_within_the_eras(self, result):
        scores = scores_of(["originals", "+ fa"])
        above = cumulative_figure(result(scores, n_folds=3)).axes[0]
        borders = [
            line.get_xdata()[0] for line in above.get_lines()
            if len(line.get_xdata()) == 2 and len(set(line.get_xdata())) == 1
        ]  # fmt: skip
        assert borders == [177.5, 197.5]


class TestDifferences:
    def test_points_and_intervals(self, result):
        scores = scores_of(["originals", "+ fa", LONG, "+ random"])
        scores["+ fa"] += 0.02
        scores.loc[170:180, "+ random"] = np.nan
        made = result(scores)
        axes = differences_figure(made).axes[0]
        ticks = [text.get_text() for text in axes.get_yticklabels()]
        assert ticks[0] == "+ fa"
        assert ticks[1].startswith("+ fa_of_medium")
        assert len(ticks[1]) == 30
        points = lines_of(axes, scores)
        pairs = [line for line in axes.get_lines() if line.get_linewidth() == 2]
        assert list(points) == list(made.differences.index)
        for place, (arm, row) in enumerate(made.differences.iterrows()):
            assert points[arm].get_xdata() == [row["mean_difference"]]
            assert points[arm].get_ydata() == [place]
            assert list(pairs[place].get_xdata()) == [row["low"], row["high"]]
        told = [text.get_text() for text in axes.texts]
        assert told == ["better", "worse", "worse  (49 eras)"]
        assert points["+ fa"].get_color() != points[LONG].get_color()
        assert any(line.get_xdata() == [0, 0] for line in axes.get_lines())
        assert axes.get_ylim() == (2.5, -0.5)

    def test_too_few_eras_are_hollow_points(self, result):
        scores = scores_of(["originals", "+ fa"], n_eras=9)
        axes = differences_figure(result(scores)).axes[0]
        point = lines_of(axes, scores)["+ fa"]
        assert point.get_markerfacecolor() == "white"
        assert not [line for line in axes.get_lines() if line.get_linewidth() == 2]
        assert [text.get_text() for text in axes.texts] == ["too few eras"]


def test_both_are_written(made):
    folder = made.experiment.folder
    for file in (_figure.FILE, _figure_differences.FILE):
        assert (folder / file).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("gap", [0.01, 0.1, 0.16])
def test_places_are_apart_in_order_and_within(gap):
    for seed in range(50):
        wanted = np.random.default_rng(seed).uniform(size=6).round(1)
        places = apart(wanted, gap)
        order = np.argsort(wanted, kind="stable")
        assert (np.diff(places[order]) >= gap - 1e-12).all()
        assert places.min() >= gap / 2 - 1e-12
        assert places.max() <= 1 - gap / 2 + 1e-12


def test_places_with_room_stay_where_they_are_wanted():
    wanted = np.array([0.8, 0.2, 0.5])
    np.testing.assert_array_equal(apart(wanted, 0.1), wanted)
    np.testing.assert_allclose(apart(np.array([0.5, 0.5]), 0.1), [0.45, 0.55])
