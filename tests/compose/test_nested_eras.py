"""Regressors that know eras, inside one another: the eras reach whoever reads them.

The innermost is a pipeline that takes the column ``era`` out of a frame, as
`LatentFeatures` does. The same nesting on arrays, around a regressor that takes eras as
an argument, tells what is to be predicted.
"""

import numpy as np
import polars as pl
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline

from numerai_features.augmenters import CutoutAugmenter
from numerai_features.compose import (
    AugmentedClassifier,
    AugmentedRegressor,
    EraBlend,
    EraNeutralizer,
    EraRanker,
    FamiliarityShrinker,
    LatentFeatures,
    ResidualTargetRegressor,
)
from numerai_features.datasets import make_era_panel
from numerai_features.embedders import FactorAnalysisEmbedder

BY_ERA = FactorAnalysisEmbedder(2, center="era")
PIPELINE = make_pipeline(LatentFeatures(BY_ERA), Ridge())
CUTOUT = CutoutAugmenter(0.5, random_state=0)
KINDS = {
    "augmented": lambda model, **keep: AugmentedRegressor(model, CUTOUT, **keep),
    "blend": lambda model, **keep: EraBlend([("one", model)], **keep),
    "neutral": lambda model, **keep: EraNeutralizer(model, proportion=0.5, **keep),
    "ranked": lambda model, **keep: EraRanker(model, **keep),
    "residual": lambda model, **keep: ResidualTargetRegressor(model, **keep),
    "shrunk": lambda model, **keep: FamiliarityShrinker(
        model, FactorAnalysisEmbedder(1), **keep
    ),
}
PAIRS = [(outer, inner) for outer in KINDS for inner in KINDS]


class ByEra(RegressorMixin, BaseEstimator):
    """The same model as `PIPELINE`, by eras that come as an argument alone."""

    def fit(self, X, y, *, eras):
        self.latents_ = FactorAnalysisEmbedder(2, center="era").fit(X, eras=eras)
        self.ridge_ = Ridge().fit(self._table(X, eras), y)
        return self

    def predict(self, X, *, eras):
        return self.ridge_.predict(self._table(X, eras))

    def _table(self, X, eras):
        return np.hstack([X, self.latents_.transform(X, eras=eras)])


def nested(outer, inner, model, keep_outer=False, keep_inner=False):
    within = KINDS[inner](model, keep_era=keep_inner)
    return KINDS[outer](within, keep_era=keep_outer)


@pytest.fixture(scope="module")
def panel():
    return make_era_panel(n_eras=6, rows_per_era=25, n_features=8, random_state=0)


@pytest.fixture(scope="module")
def frame(panel):
    return panel.to_frame(targets=[])


@pytest.fixture(scope="module")
def tables(panel, frame):
    """Whether the outer keeps the column, and the same rows and eras, as given."""
    wrong = frame.assign(era=np.roll(frame["era"], 10))
    bare = frame.drop(columns="era")
    given = {"eras": frame["era"]}
    polars = pl.from_pandas(frame.reset_index(drop=True))
    return [
        (False, frame, {}),
        (True, frame, {}),
        (True, wrong, given),
        (False, bare, given),
        (True, bare, given),
        (True, polars.drop("era"), {"eras": panel.eras}),
        (True, polars, {"eras": panel.eras}),
    ]


@pytest.mark.filterwarnings("ignore:benchmark is None")
@pytest.mark.parametrize(("outer", "inner"), PAIRS)
def test_the_column_reaches_the_innermost_as_the_argument_would(
    outer, inner, panel, tables
):
    y, extra = panel.y(), {}
    if "residual" in (outer, inner) and outer != "augmented" != inner:
        extra = {"benchmark": panel.X[:, 0] / 4}
    same = nested(outer, inner, ByEra())
    same.fit(panel.X.astype(float), y, eras=panel.eras, **extra)
    expected = same.predict(panel.X.astype(float), eras=panel.eras)
    for keep_outer, X, eras in tables:
        model = nested(outer, inner, PIPELINE, keep_outer, keep_inner=True)
        found = model.fit(X, y, **eras, **extra).predict(X, **eras)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:benchmark is None")
@pytest.mark.parametrize(("outer", "inner"), PAIRS)
def test_a_column_that_is_not_kept_is_told(outer, inner, panel, frame):
    told = "'latentfeatures' inside the Pipeline takes eras, which would not reach it"
    for keep_outer in (False, True):
        model = nested(outer, inner, PIPELINE, keep_outer)
        with pytest.raises(ValueError, match=told):
            model.fit(frame, panel.y())


def test_a_column_is_added_only_for_who_reads_it(panel, frame):
    bare = frame.drop(columns="era")
    model = EraBlend([("a", PIPELINE), ("b", Ridge())], keep_era=True)
    model.fit(bare, panel.y(), eras=panel.eras)
    assert list(model.named_estimators_["b"].feature_names_in_) == list(bare.columns)
    assert "era" not in bare.columns
    augmented = AugmentedRegressor(Ridge(), CUTOUT, keep_era=True)
    augmented.fit(bare, panel.y(), eras=panel.eras)
    assert list(augmented.estimator_.feature_names_in_) == list(bare.columns)


def test_what_is_frozen_gets_it_too(panel, frame):
    frozen = FrozenEstimator(make_pipeline(LatentFeatures(BY_ERA), Ridge()))
    frozen.estimator.fit(frame, panel.y())
    model = EraRanker(frozen, keep_era=True)
    bare = frame.drop(columns="era")
    model.fit(bare, panel.y(), eras=panel.eras)
    expected = EraRanker(frozen, keep_era=True).fit(frame, panel.y()).predict(frame)
    np.testing.assert_array_equal(model.predict(bare, eras=panel.eras), expected)


class TestAugmented:
    def test_it_predicts_by_era(self, panel, frame):
        inner = EraRanker(Ridge())
        model = AugmentedRegressor(inner, CUTOUT)
        model.fit(panel.X, panel.y(), eras=panel.eras)
        prediction = model.predict(panel.X, eras=panel.eras)
        rows = CUTOUT.fit_resample(panel.X, panel.y(), eras=panel.eras)
        alone = EraRanker(Ridge()).fit(rows.X, rows.y, eras=rows.eras)
        expected = alone.predict(panel.X, eras=panel.eras)
        np.testing.assert_array_equal(prediction, expected)
        of_frame = AugmentedRegressor(inner, CUTOUT).fit(frame, panel.y())
        np.testing.assert_array_equal(of_frame.predict(frame), expected)
        known = panel.X, panel.y()
        assert model.score(*known, eras=panel.eras) == alone.score(
            *known, eras=panel.eras
        )
        with pytest.raises(ValueError, match="EraRanker was fitted with eras"):
            model.predict(panel.X)

    def test_eras_of_other_rows_are_told(self, panel):
        model = AugmentedRegressor(Ridge(), CUTOUT)
        model.fit(panel.X, panel.y(), eras=panel.eras)
        with pytest.raises(ValueError, match="eras has 3 labels, but X has 150 rows"):
            model.predict(panel.X, eras=[1, 2, 3])

    def test_a_classifier_too(self, panel, frame):
        pipeline = make_pipeline(LatentFeatures(BY_ERA), LogisticRegression(C=0.1))
        model = AugmentedClassifier(pipeline, CUTOUT, keep_era=True)
        y = panel.y() > 0.5
        bare = frame.drop(columns="era")
        expected = model.fit(frame, y).predict_proba(frame)
        model = AugmentedClassifier(pipeline, CUTOUT, keep_era=True)
        model.fit(bare, y, eras=frame["era"])
        given = {"eras": frame["era"]}
        np.testing.assert_array_equal(model.predict_proba(bare, **given), expected)
        found = model.decision_function(bare, **given) > 0
        np.testing.assert_array_equal(found, expected[:, 1] > 0.5)
        np.testing.assert_array_equal(model.predict(bare, **given), found)
        assert model.score(bare, y, **given) == np.mean(found == y)
