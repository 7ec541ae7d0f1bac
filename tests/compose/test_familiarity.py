"""Predictions that are shrunk where rows or eras are unfamiliar."""

import numpy as np
import pandas as pd
import pytest
from numerai_tools.scoring import gaussian, tie_kept_rank
from sklearn.base import BaseEstimator, clone
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from numerai_features.compose import (
    FamiliarityShrinker,
    LatentFeatures,
    rank_by_era,
)
from numerai_features.datasets import make_era_panel
from numerai_features.embedders import DAEEmbedder
from numerai_features.model_selection import EraKFold

DAE = DAEEmbedder(3, hidden=(8,), max_epochs=3, random_state=0)


@pytest.fixture(scope="module")
def later():
    """Rows of other eras, of which some are noise."""
    panel = make_era_panel(n_eras=40, rows_per_era=80, n_features=20, random_state=0)
    X, eras = panel.X[-800:].copy(), panel.eras[-800:]
    strange = np.random.default_rng(0).random(800) < 0.3
    strange[eras == eras[-1]] = True
    X[strange] = np.random.default_rng(1).choice([0, 4], (strange.sum(), 20))
    return X, eras, strange


def gauss(prediction, eras):
    out = np.empty(len(eras))
    for era in np.unique(eras):
        frame = pd.DataFrame({"p": prediction[eras == era]})
        out[eras == era] = gaussian(tie_kept_rank(frame))["p"]
    return out


def test_it_is_the_formula_of_the_docstring(panel, later):
    X, eras, _ = later
    model = FamiliarityShrinker(Ridge(), DAE, strength=0.7)
    model.fit(panel.X, panel.y(), eras=panel.eras)
    dae = clone(DAE).fit(panel.X, eras=panel.eras)
    known = dae.score_samples(panel.X)
    below = (np.sort(known)[len(known) // 2 - 1] - dae.score_samples(X)) / known.std()
    factors = np.exp(-0.7 * np.clip(below, 0, None))
    ranked = gauss(Ridge().fit(panel.X, panel.y()).predict(X), eras)
    np.testing.assert_allclose(model.factors(X, eras=eras), factors, rtol=1e-6)
    np.testing.assert_allclose(model.predict(X, eras=eras), ranked * factors, rtol=1e-6)
    assert model.spread_ == pytest.approx(known.std())


def test_it_is_the_formula_by_era(panel, later):
    X, eras, _ = later
    model = FamiliarityShrinker(Ridge(), DAE, per="era", strength=0.1)
    model.fit(panel.X, panel.y(), eras=panel.eras)
    dae = clone(DAE).fit(panel.X, eras=panel.eras)
    known = pd.Series(dae.score_samples(panel.X)).groupby(panel.eras).mean()
    asked = pd.Series(dae.score_samples(X)).groupby(eras).transform("mean")
    below = (known.sort_values().iloc[14] - asked) / known.std(ddof=0)
    factors = np.exp(-0.1 * below.clip(lower=0))
    np.testing.assert_allclose(model.factors(X, eras=eras), factors, rtol=1e-5)
    last = eras == eras[-1]
    assert factors[last].nunique() == 1
    assert model.factors(X, eras=eras)[last].max() < 0.1
    found = model.predict(X, eras=eras)
    np.testing.assert_allclose(
        rank_by_era(found, eras), rank_by_era(model.regressor_.predict(X), eras)
    )


def test_noise_is_in_the_middle(panel, later):
    X, eras, strange = later
    model = FamiliarityShrinker(Ridge(), DAE).fit(panel.X, panel.y(), eras=panel.eras)
    size = np.abs(model.predict(X, eras=eras))
    plain = np.abs(rank_by_era(model.regressor_.predict(X), eras, output="gauss"))
    assert size[strange].mean() < 0.1 * plain[strange].mean()
    assert size[~strange].mean() > 0.5 * plain[~strange].mean()
    factors = model.factors(X, eras=eras)
    assert 0 < factors.min()
    assert factors.max() == 1
    of_training = model.factors(panel.X, eras=panel.eras)
    assert (of_training == 1).mean() == pytest.approx(0.5, abs=0.01)
    model.set_params(strength=1e3).fit(panel.X, panel.y(), eras=panel.eras)
    assert model.factors(X, eras=eras).min() > 0


def test_no_strength_is_the_ranked_model(panel):
    model = FamiliarityShrinker(Ridge(), DAE, strength=0)
    model.fit(panel.X, panel.y(), eras=panel.eras)
    expected = gauss(Ridge().fit(panel.X, panel.y()).predict(panel.X), panel.eras)
    found = model.predict(panel.X, eras=panel.eras)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_weights_are_copies_of_rows(panel):
    """In the median and the deviation, as in the regressor."""
    X, y, eras = panel.X, panel.y(), panel.eras
    weights = np.random.default_rng(0).integers(0, 4, len(y))
    frozen = FrozenEstimator(PCA(3).fit(X))
    model = FamiliarityShrinker(LinearRegression(), frozen)
    model.fit(X, y, eras=eras, sample_weight=weights)
    rows = np.repeat(np.arange(len(y)), weights)
    copies = FamiliarityShrinker(LinearRegression(), frozen)
    copies.fit(X[rows], y[rows], eras=eras[rows])
    assert model.median_ == pytest.approx(copies.median_)
    assert model.spread_ == pytest.approx(copies.spread_)


class TestFrozen:
    def test_one_of_the_same_columns_stays_as_it_is(self, panel, frame):
        names = frame.drop(columns="era")
        for table in (names, panel.X):
            fitted = clone(DAE).fit(table)
            expected = fitted.score_samples(table)
            for X in (frame, panel.X):
                model = FamiliarityShrinker(Ridge(), FrozenEstimator(fitted))
                model.fit(X, panel.y(), eras=panel.eras)
                assert model.autoencoder_.estimator is fitted
                assert model.spread_ == pytest.approx(expected.std())

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda f: f.iloc[:, ::-1], "the same columns in another order"),
            (lambda f: f.iloc[:, :-2], "fewer columns: it does not know 2, such as"),
            (
                lambda f: f.rename(columns={"feature_0003": "mine"}),
                "other columns: X lacks 1, such as 'mine'",
            ),
            (
                lambda f: f.iloc[:, :-2].to_numpy(),
                "18 columns, and X has 20",
            ),
        ],
    )
    def test_one_of_other_columns_is_told(self, change, told, panel, frame):
        other = DAEEmbedder(3, hidden=(8,), max_epochs=1, random_state=0)
        other.fit(change(frame.drop(columns="era")))
        model = FamiliarityShrinker(Ridge(), FrozenEstimator(other))
        with pytest.raises(ValueError, match=f"autoencoder was fitted on {told}"):
            model.fit(frame, panel.y())


def test_in_a_pipeline_and_a_search(panel, frame):
    shrinker = FamiliarityShrinker(Ridge(), PCA(3))
    search = GridSearchCV(
        make_pipeline(LatentFeatures(keep_era=True), shrinker),
        {"familiarityshrinker__strength": [0, 1]},
        cv=EraKFold(2, purge=1),
        error_score="raise",
    ).fit(frame, panel.y(), groups=panel.eras)
    assert search.best_estimator_.predict(frame).shape == (panel.n_rows,)


def test_several_targets_are_shrunk_alike(panel):
    y = np.column_stack([panel.y(name) for name in panel.target_names[:2]])
    y = np.nan_to_num(y, nan=0.5)
    model = FamiliarityShrinker(Ridge(), PCA(3)).fit(panel.X, y, eras=panel.eras)
    both = model.predict(panel.X, eras=panel.eras)
    one = FamiliarityShrinker(Ridge(), PCA(3)).fit(panel.X, y[:, 1], eras=panel.eras)
    np.testing.assert_allclose(both[:, 1], one.predict(panel.X, eras=panel.eras))


class OneScore(BaseEstimator):
    """Finds all rows equally familiar."""

    def __init__(self, score=0.0):
        self.score = score

    def fit(self, X, y=None):
        return self

    def score_samples(self, X):
        return np.full(len(X), self.score)


def test_what_makes_no_sense_is_told(panel):
    X, y, eras = panel.X, panel.y(), panel.eras
    with pytest.raises(ValueError, match="per='era' needs eras: pass eras="):
        FamiliarityShrinker(Ridge(), PCA(3), per="era").fit(X, y)
    for per in ("row", "era"):
        model = FamiliarityShrinker(Ridge(), OneScore(), per=per)
        with pytest.raises(ValueError, match=f"training {per}s equally familiar"):
            model.fit(X, y, eras=eras)
    model = FamiliarityShrinker(Ridge(), OneScore(np.nan))
    with pytest.raises(
        ValueError, match=r"OneScore\.score_samples returned .* 2400 that"
    ):
        model.fit(X, y, eras=eras)
    with pytest.raises(ValueError, match=r"'autoencoder' parameter .* Got Ridge"):
        FamiliarityShrinker(Ridge(), Ridge()).fit(X, y)
    with pytest.raises(ValueError, match=r"'regressor' parameter .* Got PCA"):
        FamiliarityShrinker(PCA(), PCA()).fit(X, y)
    with pytest.raises(ValueError, match="'strength' parameter"):
        FamiliarityShrinker(Ridge(), PCA(3), strength=-1).fit(X, y)
    fitted = FamiliarityShrinker(Ridge(), PCA(3)).fit(X, y, eras=eras)
    with pytest.raises(ValueError, match="was fitted with eras"):
        fitted.predict(X)
