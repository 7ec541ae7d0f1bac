import numpy as np
import pandas as pd
import pytest

from numerai_features._horizon import (
    LONGEST_PURGE,
    days_of_target,
    purge_of_target,
    purge_of_targets,
    resolve_horizon,
    resolve_purge,
)


def test_days_are_whole_weeks_of_up_to_a_year():
    days = {"a_5": 5, "a_20": 20, "a_40d": 40, "a_250": 250, "a": None, "a_255": None}
    days |= {"y_0": None, "y_1": None, "feature_3": None, "target_2025": None}
    assert {name: days_of_target(name) for name in days} == days


def test_the_table_of_purges():
    purges = {"a_5": 5, "a_10": 6, "a_20": 8, "a_40d": 12, "a_60": 16, "a": None}
    assert {name: purge_of_target(name) for name in purges} == purges


@pytest.mark.parametrize("name", ["a_5", "a_10", "a_20", "a_40", "a_60", "a_120"])
def test_a_purge_reaches_over_the_horizon(name):
    assert purge_of_target(name) > resolve_horizon(name)


class TestSeveral:
    @pytest.mark.parametrize(
        ("names", "purge"),
        [
            (["a_20"], 8),
            (["a_20", "b_60", "c_10"], 16),
            (["a_20", "b"], 16),
            (["a_120", "b"], 28),
            (["b"], 16),
            ([], 16),
            (None, 16),
        ],
    )
    def test_the_longest_decides(self, names, purge):
        assert purge_of_targets(names) == purge

    def test_nothing_known_is_the_longest_of_numerais(self):
        assert purge_of_targets(None) == LONGEST_PURGE == purge_of_target("a_60")


class TestResolvePurge:
    Y = pd.Series(np.zeros(3), name="target_ender_20")

    @pytest.mark.parametrize(
        ("purge", "target", "y", "expected"),
        [
            (3, "target_ender_60", Y, 3),
            (0, None, None, 0),
            ("auto", "target_ender_60", Y, 16),
            ("auto", None, Y, 8),
            ("auto", None, Y.to_frame(), 8),
            ("auto", None, Y.to_frame().assign(target_ender_60=0.0), 16),
            ("auto", None, Y.to_numpy(), 16),
            ("auto", None, None, 16),
        ],
    )
    def test_who_is_asked(self, purge, target, y, expected):
        assert resolve_purge(purge, target=target, y=y) == expected

    def test_a_target_without_days_is_told(self):
        with pytest.raises(ValueError, match=r"target='target' .* Pass purge= in eras"):
            resolve_purge("auto", target="target", y=self.Y)
