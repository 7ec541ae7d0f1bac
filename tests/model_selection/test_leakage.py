import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from sklearn.neighbors import KNeighborsRegressor

from numerai_features.datasets import make_era_panel
from numerai_features.metrics import era_scores, mean_interval
from numerai_features.model_selection import (
    CombinatorialPurgedEraCV,
    EraKFold,
    measure_leakage,
)


@pytest.fixture(scope="module")
def long_panel():
    return make_era_panel(n_eras=60, rows_per_era=60, n_features=20, random_state=0)


def out_of_fold(model, panel, y, cv):
    prediction = np.zeros(panel.n_rows)
    for train, test in cv.split(panel.X, y, panel.eras):
        prediction[test] = model.fit(panel.X[train], y[train]).predict(panel.X[test])
    return era_scores(y, prediction, panel.eras)


def test_it_is_the_two_estimates_and_their_difference(long_panel):
    y = long_panel.y("target_alpha_60")
    model = KNeighborsRegressor(10)
    leakage = measure_leakage(
        model, long_panel.X, y, long_panel.eras,
        cv=EraKFold(3, purge=6, embargo=2), verbose=False,
    )  # fmt: skip
    scores = {
        "unpurged": out_of_fold(model, long_panel, y, EraKFold(3, purge=0)),
        "purged": out_of_fold(model, long_panel, y, EraKFold(3, purge=6, embargo=2)),
    }
    for name, expected in scores.items():
        np.testing.assert_allclose(leakage.scores[name], expected)
        assert getattr(leakage, name) == mean_interval(expected, overlap=6)
    gap = scores["unpurged"] - scores["purged"]
    assert leakage.difference == mean_interval(gap, overlap=6)
    assert leakage.purge == 6
    assert "scores" not in repr(leakage)


def test_overlap_pays_and_its_absence_does_not(long_panel):
    """The same model: a 60-day target leaks; one that is drawn anew does not."""
    model, cv = KNeighborsRegressor(10), EraKFold(4, purge=12)
    X, eras = long_panel.X, long_panel.eras
    y = long_panel.y("target_alpha_60")
    leaks = measure_leakage(model, X, y, eras, cv=cv, verbose=False)
    assert leaks.difference.low > 0.02
    rng = np.random.default_rng(0)
    none = [
        measure_leakage(
            model, X, rng.permutation(y), eras, cv=cv, verbose=False
        ).difference.mean
        for _ in range(8)
    ]
    assert abs(np.mean(none)) < 3 * np.std(none) / np.sqrt(8)
    assert abs(np.mean(none)) < leaks.difference.mean / 3


def test_folds_that_test_an_era_more_than_once_are_averaged(long_panel):
    cv = CombinatorialPurgedEraCV(4, 2, purge=3)
    y = long_panel.y()
    leakage = measure_leakage(
        Ridge(), long_panel.X, y, long_panel.eras, cv=cv, verbose=False
    )
    assert leakage.scores.index.tolist() == list(range(1, 61))


def test_the_purge_may_come_from_the_target(long_panel):
    y = pd.Series(long_panel.y(), name="target_alpha_20")
    leakage = measure_leakage(
        Ridge(), long_panel.X, y, long_panel.eras, cv=EraKFold(3), verbose=False
    )
    assert leakage.purge == 8


@pytest.mark.parametrize(
    ("cv", "message"),
    [
        (EraKFold(3, purge=0), "purges nothing, so there is nothing to compare"),
        (KFold(3), "cv must be an era splitter of this package"),
        (5, "cv must be an era splitter of this package"),
    ],
)
def test_what_cannot_be_measured_is_told(long_panel, cv, message):
    with pytest.raises(ValueError, match=message):
        measure_leakage(
            Ridge(), long_panel.X, long_panel.y(), long_panel.eras, cv=cv, verbose=False
        )
