"""Warnings point to the line of the user's code, whatever lies between."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

import numerai_features
from numerai_features import (
    EraBoostedRegressor,
    EraMLP,
    FactorAnalysisEmbedder,
    LatentFeatures,
    ResidualTargetRegressor,
    SupervisedAEMLP,
)
from numerai_features._warn import warn

X = np.random.default_rng(0).integers(0, 5, (120, 6)).astype(np.int8)
Y, ERAS = X[:, 0] / 4, np.repeat([1, 2, 3, 4], 30)


def net(**options):
    return EraMLP((4,), max_epochs=1, random_state=0, **options)


WARNINGS = {
    "no eras": lambda: net().fit(X, Y),
    "in fit_transform": lambda: net().fit_transform(X, Y),
    "in partial_fit": lambda: net().partial_fit(X, Y),
    "in a pipeline": lambda: make_pipeline(net()).fit(X, Y),
    "in latents": lambda: LatentFeatures(net()).fit(X, Y),
    "held out": lambda: SupervisedAEMLP(
        2, hidden=(4,), dropout=(0,) * 4, max_epochs=1
    ).fit(X, Y),
    "eras left out": lambda: net().fit(X, np.where(ERAS > 1, Y, 0.5), eras=ERAS),
    "a column": lambda: net().fit(X, Y[:, None], eras=ERAS),
    "not converged": lambda: FactorAnalysisEmbedder(2, max_iter=1).fit(X),
    "no benchmark": lambda: ResidualTargetRegressor(Ridge()).fit(X, Y, eras=ERAS),
    "one era": lambda: EraBoostedRegressor(
        GradientBoostingRegressor(n_estimators=2), n_rounds=2
    ).fit(X, Y),
}


@pytest.mark.parametrize("name", WARNINGS)
def test_the_line_is_the_users(name):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        WARNINGS[name]()
    told = [
        w
        for w in found
        if w.category in (UserWarning, ConvergenceWarning, DataConversionWarning)
    ]
    assert told
    assert {w.filename for w in told} == {__file__}
    text = Path(__file__).read_text().splitlines()
    assert all("fit" in text[w.lineno - 1] for w in told)


def test_in_a_thread_that_has_no_line_of_the_user():
    with pytest.warns(UserWarning, match="said"):
        eval(
            compile("warn('said')", "inner", "eval"),
            {
                "warn": warn,
                "__name__": "numerai_features.inner",
            },
        )


def test_no_other_way_is_taken():
    package = Path(numerai_features.__file__).parent
    for file in package.rglob("*.py"):
        if file.name != "_warn.py":
            assert not re.search(r"warnings\.warn\(", file.read_text()), file
