"""Models that are trained on more rows than they are given."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.compose import TransformedTargetRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline

from numerai_features.augmenters import (
    BalanceAugmenter,
    CutoutAugmenter,
    EraMixupAugmenter,
)
from numerai_features.compose import (
    AugmentedClassifier,
    AugmentedRegressor,
    LatentFeatures,
)
from numerai_features.embedders import FactorAnalysisEmbedder
from numerai_features.model_selection import EraKFold

CUTOUT = CutoutAugmenter(0.5, random_state=0)


class Recorder(RegressorMixin, BaseEstimator):
    """Keeps what it is trained on."""

    def fit(self, X, y, eras=None, sample_weight=None):
        self.seen_ = X, y, eras, sample_weight
        return self

    def predict(self, X):
        self.asked_ = X
        return np.zeros(len(X))


def test_the_estimator_sees_what_the_augmenter_made(panel):
    X, y, eras = panel.X, panel.y(), panel.eras
    weights = np.linspace(1, 2, len(X))
    model = AugmentedRegressor(Recorder(), CUTOUT)
    model.fit(X, y, eras=eras, sample_weight=weights)
    rows = CUTOUT.fit_resample(X, y, eras=eras, sample_weight=weights)
    for seen, made in zip(model.estimator_.seen_, rows, strict=True):
        np.testing.assert_array_equal(seen, made)
    model.predict(X)
    np.testing.assert_array_equal(model.estimator_.asked_, X)
    assert not hasattr(model.estimator, "seen_")


def test_the_column_of_eras_is_taken_out(panel, frame):
    model = AugmentedRegressor(Recorder(), CUTOUT).fit(frame, panel.y())
    X, _, eras, _ = model.estimator_.seen_
    assert "era" not in X.columns
    assert len(eras) == 2 * panel.n_rows
    model.predict(frame)
    assert "era" not in model.estimator_.asked_.columns
    assert list(model.feature_names_in_) == list(X.columns)


def test_or_handed_on_to_what_takes_it_out(panel, frame):
    latents = LatentFeatures(FactorAnalysisEmbedder(3))
    inner = make_pipeline(latents, Ridge())
    model = AugmentedRegressor(inner, CUTOUT, keep_era=True).fit(frame, panel.y())
    fitted = model.estimator_[0]
    assert fitted.get_feature_names_out().tolist().count("era") == 0
    assert model.predict(frame).shape == (panel.n_rows,)


BY_ERA = LatentFeatures(FactorAnalysisEmbedder(2, center="era"))


@pytest.mark.parametrize(
    ("inner", "part"),
    [
        (make_pipeline(BY_ERA, Ridge()), "latentfeatures"),
        (make_pipeline(make_pipeline(BY_ERA), Ridge()), r"pipeline\.latentfeatures"),
        (
            TransformedTargetRegressor(make_pipeline(BY_ERA, Ridge())),
            r"regressor\.latentfeatures",
        ),
    ],
)
def test_eras_that_would_not_arrive_are_told(panel, frame, inner, part):
    """They were left out, and latents centred over all eras at once."""
    kept = AugmentedRegressor(inner, CUTOUT, keep_era=True)
    dropped = AugmentedRegressor(inner, CUTOUT)
    told = f"estimator: '{part}' inside the .* takes eras.*keep_era=True"
    for model, table, eras in (
        (kept, panel.X, panel.eras),
        (dropped, panel.X, panel.eras),
        (dropped, frame, None),
    ):
        with pytest.raises(ValueError, match=told):
            model.fit(table, panel.y(), eras=eras)
    dropped.fit(panel.X, panel.y())  # one era, for everybody
    kept.fit(frame.drop(columns="era"), panel.y(), eras=panel.eras)
    kept.fit(frame, panel.y()).predict(frame)


def test_what_is_frozen_is_asked_for_no_eras(panel):
    frozen = FrozenEstimator(LatentFeatures(FactorAnalysisEmbedder(2)).fit(panel.X))
    model = AugmentedRegressor(make_pipeline(frozen, Ridge()), CUTOUT)
    model.fit(panel.X, panel.y(), eras=panel.eras).predict(panel.X)


def test_an_estimator_without_weights_is_told(panel):
    model = AugmentedRegressor(KNeighborsRegressor(), CUTOUT)
    with pytest.raises(ValueError, match=r"KNeighborsRegressor\.fit takes none"):
        model.fit(panel.X, panel.y(), sample_weight=np.ones(panel.n_rows))


def test_a_search_goes_through_it(panel, frame):
    model = AugmentedRegressor(Ridge(), CutoutAugmenter(random_state=0))
    search = GridSearchCV(
        model, {"augmenter__fraction": [0.1, 0.5], "estimator__alpha": [1, 100]},
        cv=EraKFold(3, purge=1), error_score="raise",
    ).fit(frame, panel.y(), groups=panel.eras)  # fmt: skip
    assert len(search.cv_results_["params"]) == 4
    assert search.best_estimator_.augmenter_.fraction in (0.1, 0.5)


def test_test_rows_are_not_augmented(panel):
    """Scores are those of a model trained on augmented training rows by hand."""
    X, y, eras = panel.X, panel.y(), panel.eras
    [(train, test), *_] = EraKFold(3, purge=1).split(X, groups=eras)
    rows = CUTOUT.fit_resample(X[train], y[train], eras=eras[train])
    by_hand = Ridge().fit(rows.X, rows.y).predict(X[test])
    model = AugmentedRegressor(Ridge(), CUTOUT)
    ours = model.fit(X[train], y[train], eras=eras[train]).predict(X[test])
    np.testing.assert_array_equal(ours, by_hand)


def test_several_targets(panel):
    y = np.column_stack([panel.y(), panel.y(panel.target_names[1])])
    y = np.nan_to_num(y, nan=0.5)
    model = AugmentedRegressor(Ridge(), EraMixupAugmenter(random_state=0))
    assert model.fit(panel.X, y).predict(panel.X).shape == (panel.n_rows, 2)


class TestClassifier:
    def test_classes_are_their_own(self, panel):
        y = np.where(panel.y() > 0.5, "up", "other")
        model = AugmentedClassifier(
            LogisticRegression(max_iter=1000), BalanceAugmenter(1.0, random_state=0)
        ).fit(panel.X, y, eras=panel.eras)
        assert list(model.classes_) == ["other", "up"]
        assert set(model.predict(panel.X)) == {"other", "up"}
        chances = model.predict_proba(panel.X)
        np.testing.assert_array_equal(
            model.classes_[chances.argmax(axis=1)], model.predict(panel.X)
        )
        assert (chances[:, 1] > 0.5).mean() > 0.3
        assert not hasattr(AugmentedClassifier(Recorder(), CUTOUT), "predict_proba")

    def test_no_targets_between_classes(self, panel):
        model = AugmentedClassifier(LogisticRegression(), EraMixupAugmenter())
        with pytest.raises(ValueError, match="makes targets between classes"):
            model.fit(panel.X, panel.y() > 0.5)
