"""Columns' names, on their way to inner estimators and out again."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from numerai_features.augmenters import (
    ComposeAugmenters,
    CutoutAugmenter,
    DreamAugmenter,
    EraMixupAugmenter,
)
from numerai_features.compose import (
    AugmentedRegressor,
    EraNeutralizer,
    EraRanker,
    LatentFeatures,
    rank_by_era,
)
from numerai_features.embedders import FactorAnalysisEmbedder
from numerai_features.trees import make_lightgbm

CUTOUT = CutoutAugmenter(random_state=0)
OTHER = "feature names should match"
FA = FactorAnalysisEmbedder(2)


class Recorder(TransformerMixin, BaseEstimator):
    """Keeps what it is handed."""

    def fit(self, X, y=None):
        self.fitted_to_ = X
        return self

    def transform(self, X):
        self.asked_ = X
        return np.zeros((len(X), 1), np.float32)


def first_two(X):
    return X[:, :2]


def reordered(frame):
    return frame[frame.columns[::-1]]


def renamed(frame):
    return frame.rename(columns=lambda name: name if name == "era" else f"my_{name}")


def features_of(frame):
    return [name for name in frame.columns if name != "era"]


class TestLightGBM:
    """It does not look at names itself."""

    @pytest.fixture
    def tree(self):
        pytest.importorskip("lightgbm")
        return make_lightgbm(device="cpu", n_estimators=5, n_jobs=1)

    # What LightGBM with an older scikit-learn says of arrays, which it gave names.
    @pytest.mark.filterwarnings("ignore:X does not have valid feature names")
    @pytest.mark.parametrize("keep_era", [False, True])
    def test_other_columns_are_refused(self, panel, frame, tree, keep_era):
        inner = make_pipeline(LatentFeatures(FA), tree) if keep_era else tree
        model = AugmentedRegressor(inner, CUTOUT, keep_era=keep_era)
        model.fit(frame, panel.y())
        for wrong in (reordered(frame), renamed(frame)):
            with pytest.raises(ValueError, match=OTHER):
                model.predict(wrong)
        with pytest.raises(ValueError, match=OTHER):
            model.predict(frame.iloc[:, :-1])
        assert np.isfinite(model.predict(frame)).all()

    def test_a_tree_has_the_names(self, panel, frame, tree):
        model = AugmentedRegressor(tree, CUTOUT).fit(frame, panel.y())
        assert model.estimator_.feature_name_ == features_of(frame)

    @pytest.mark.parametrize("make", [EraRanker, EraNeutralizer])
    def test_a_frozen_one_knows_the_same_columns(self, panel, frame, tree, make):
        table = frame.drop(columns="era")
        for wrong in (reordered(table), renamed(table), table.iloc[:, :-1]):
            model = make(FrozenEstimator(tree.fit(wrong, panel.y())))
            with pytest.raises(ValueError, match="regressor was fitted on"):
                model.fit(frame, panel.y())
        spaced = frame.rename(columns={"feature_0003": "feature 0003"})
        for X, rows in (
            (table, frame),
            (panel.X, frame),
            (spaced[spaced.columns[1:]], spaced),
        ):
            expected = make(tree).fit(rows, panel.y()).predict(rows)
            model = make(FrozenEstimator(tree.fit(X, panel.y()))).fit(rows, panel.y())
            np.testing.assert_array_equal(model.predict(rows), expected)

    def test_latents_of_latents(self, panel, frame, tree):
        steps = LatentFeatures(FA), LatentFeatures(FA), tree
        model = make_pipeline(*steps).set_output(transform="pandas")
        model.fit(frame, panel.y())
        assert len(set(model[-1].feature_name_)) == len(features_of(frame)) + 4
        assert np.isfinite(model.predict(frame)).all()


def test_a_chain_of_augmenters_keeps_the_names(frame):
    chain = ComposeAugmenters([CUTOUT, EraMixupAugmenter()], order="chain")
    chain.fit_resample(frame)
    assert list(chain.feature_names_in_) == features_of(frame)


@pytest.mark.parametrize("compose", [False, True])
def test_dreams_of_other_columns(panel, frame, compose):
    fitted = FrozenEstimator(FactorAnalysisEmbedder(2).fit(reordered(frame)))
    dream = DreamAugmenter(fitted, random_state=0)
    with pytest.raises(ValueError, match=OTHER):
        (ComposeAugmenters([dream]) if compose else dream).fit_resample(frame)
    right = DreamAugmenter(FactorAnalysisEmbedder(2).fit(frame), random_state=0)
    right.fit_resample(frame, panel.y())
    fresh = DreamAugmenter(FactorAnalysisEmbedder(2), random_state=0)
    fresh.fit_resample(frame, panel.y())
    assert list(fresh.embedder_.feature_names_in_) == features_of(frame)


class TestFrozen:
    def test_of_other_columns(self, frame):
        for wrong in (reordered(frame), renamed(frame)):
            frozen = FrozenEstimator(FactorAnalysisEmbedder(2).fit(wrong))
            with pytest.raises(ValueError, match=OTHER):
                LatentFeatures(frozen).fit(frame)
        fewer = FrozenEstimator(FactorAnalysisEmbedder(2).fit(frame.iloc[:, :-1]))
        with pytest.raises(ValueError, match=OTHER):
            LatentFeatures(fewer).fit(frame)

    def test_right_use_warns_of_nothing(self, panel, frame):
        expected = FA.fit(frame).transform(frame)
        for rows in (frame, frame.drop(columns="era"), panel.X):
            frozen = FrozenEstimator(FactorAnalysisEmbedder(2).fit(rows))
            latents = LatentFeatures(frozen, passthrough=False).fit(frame)
            np.testing.assert_allclose(latents.transform(frame), expected, rtol=1e-5)
        pipeline = make_pipeline(StandardScaler(), PCA(2)).fit(panel.X)
        LatentFeatures(FrozenEstimator(pipeline)).fit(frame).transform(frame)

    @pytest.mark.parametrize(
        ("inner", "by_fit"),
        [
            (Recorder(), True),
            (FunctionTransformer(np.log1p), True),
            (FunctionTransformer(np.log1p), False),
        ],
    )
    def test_who_knows_no_columns_warns_of_nothing(self, frame, inner, by_fit):
        """Those that count no columns have seen none by other names."""
        table = frame.drop(columns="era")
        frozen = FrozenEstimator(inner.fit(table) if by_fit else inner)
        latents = LatentFeatures(frozen, passthrough=False).fit(frame)
        out = latents.transform(frame)
        np.testing.assert_allclose(out, inner.transform(table), rtol=1e-6)

    def test_models_that_select_columns_by_name(self, panel, frame):
        table = reordered(frame.drop(columns="era"))
        columns = ColumnTransformer([("a", "passthrough", list(table.columns[:2]))])
        inner = make_pipeline(columns, Ridge()).fit(table, panel.y())
        model = EraRanker(FrozenEstimator(inner)).fit(frame, panel.y())
        expected = rank_by_era(inner.predict(table), panel.eras)
        np.testing.assert_array_equal(model.predict(frame), expected)
        with pytest.raises(ValueError, match="columns are missing"):
            EraRanker(FrozenEstimator(inner)).fit(renamed(frame), panel.y()).predict(
                renamed(frame)
            )

    @pytest.mark.parametrize("remainder", ["drop", "passthrough"])
    @pytest.mark.parametrize("by", ["name", "place"])
    def test_who_selects_columns_by_name(self, frame, by, remainder):
        table = reordered(frame.drop(columns="era")).iloc[:, :4]
        chosen = list(table.columns[:2]) if by == "name" else [0, 1]
        columns = ColumnTransformer([("a", PCA(1), chosen)], remainder=remainder)
        union = FeatureUnion([("one", columns), ("two", columns)])
        polars = pl.from_pandas(frame.reset_index(drop=True))
        for inner in (columns, make_pipeline(columns, StandardScaler()), union):
            expected = inner.fit_transform(table)
            for X in (frame, polars):
                latents = LatentFeatures(FrozenEstimator(inner), passthrough=False)
                out = latents.fit(X).transform(X)
                np.testing.assert_allclose(out, expected, rtol=1e-3, atol=1e-5)
            with pytest.raises(ValueError, match=r"columns are missing: .*feature_"):
                latents.fit_transform(renamed(frame))
        with pytest.raises(ValueError, match=OTHER):
            LatentFeatures(
                FrozenEstimator(
                    FeatureUnion([("one", columns), ("two", FA)]).fit(table)
                )
            ).fit(frame)


class TestErrorsOfEmbedders:
    """They say whose they are."""

    both = [("a", FA), ("b", FunctionTransformer(first_two))]

    def test_in_fit_and_transform(self, panel, frame, tmp_path):
        told = (
            r"'b' of LatentFeatures, which was handed a DataFrame of shape \(.*, 20\)"
        )
        for memory in (None, tmp_path):
            latents = LatentFeatures(self.both, memory=memory)
            with pytest.raises(Exception, match=told):
                latents.fit_transform(frame)
        latents = LatentFeatures(FunctionTransformer(first_two)).fit(frame)
        told = "'functiontransformer' of LatentFeatures, which was handed a DataFrame"
        with pytest.raises(Exception, match=told):
            latents.transform(frame)
        with pytest.raises(AttributeError, match="'functiontransformer' of LatentF"):
            latents.get_feature_names_out()

    def test_arrays_have_no_names(self, panel):
        latents = LatentFeatures(self.both, passthrough=False)
        latents.fit(panel.X, eras=panel.eras)
        out = latents.transform(panel.X, eras=panel.eras)
        np.testing.assert_array_equal(out[:, 2:], panel.X[:, :2])


class TestFramesInside:
    def test_columns_by_name(self, panel, frame, tmp_path):
        names = features_of(frame)
        columns = ColumnTransformer(
            [("head", PCA(2), names[:6]), ("tail", FA, names[6:])]
        )
        by_hand = columns.fit_transform(frame[names])
        polars = pl.from_pandas(frame.reset_index(drop=True))
        for X in (frame, polars, polars.to_arrow()):
            latents = LatentFeatures(columns, passthrough=False, memory=tmp_path)
            np.testing.assert_allclose(
                latents.fit_transform(X), by_hand, rtol=1e-3, atol=1e-5
            )
            assert latents.get_feature_names_out()[0] == "head__pca0"
        pipeline = make_pipeline(columns, StandardScaler())
        LatentFeatures(pipeline).fit(frame).transform(frame)

    def test_the_callers_kind_without_a_copy(self, frame):
        recorder = LatentFeatures(Recorder()).fit(frame)
        [(_, inner)] = recorder.embedders_
        table = frame.drop(columns="era")
        assert isinstance(inner.fitted_to_, pd.DataFrame)
        pd.testing.assert_frame_equal(inner.fitted_to_, table)
        recorder.fit(table)
        [(_, inner)] = recorder.embedders_
        assert np.shares_memory(inner.fitted_to_.to_numpy(), table.to_numpy())
        polars = pl.from_pandas(frame.reset_index(drop=True))
        recorder.fit(polars).transform(polars)
        [(_, inner)] = recorder.embedders_
        assert inner.fitted_to_.equals(polars.drop("era"))
        assert isinstance(inner.asked_, pl.DataFrame)

    def test_an_array_later_gets_the_names_of_fit(self, panel, frame):
        latents = LatentFeatures(Recorder()).fit(frame)
        with pytest.warns(UserWarning, match="LatentFeatures was fitted with feature"):
            latents.transform(panel.X)
        [(_, inner)] = latents.embedders_
        assert list(inner.asked_.columns) == features_of(frame)

    def test_what_is_kept_on_disk_is_known_by_its_names(self, frame, tmp_path):
        latents = LatentFeatures(FA, memory=tmp_path)
        latents.fit(frame)
        latents.fit(renamed(frame)).transform(renamed(frame))
        [(_, inner)] = latents.embedders_
        assert list(inner.feature_names_in_) == features_of(renamed(frame))


class TestNamesOut:
    def test_a_name_goes_in_front_only_where_it_must(self, frame):
        names = features_of(frame)
        own = ["factoranalysisembedder0", "factoranalysisembedder1"]
        once = LatentFeatures(FA).fit(frame)
        assert list(once.get_feature_names_out()) == [*names, *own]
        twice = LatentFeatures(LatentFeatures(FA, passthrough=False)).fit(frame)
        assert list(twice.get_feature_names_out()) == [*names, *own]
        both = LatentFeatures(LatentFeatures(FA)).fit(frame)
        inner = [f"latentfeatures__{name}" for name in [*names, *own]]
        assert list(both.get_feature_names_out()) == [*names, *inner]

    def test_steps_one_after_another(self, frame):
        for kind in ("pandas", "polars"):
            listed = [LatentFeatures([("a", FA)]) for _ in range(3)]
            steps = make_pipeline(*listed).set_output(transform=kind)
            out = list(steps.fit_transform(frame).columns)
            assert len(set(out)) == len(features_of(frame)) + 6
            assert out == list(steps.get_feature_names_out())
            assert out[-1] == "a__a__a__factoranalysisembedder1"

    def test_an_embedder_that_says_a_name_twice(self, frame):
        same = FunctionTransformer(
            lambda X: np.asarray(X)[:, :2], feature_names_out=lambda self, n: ["z", "z"]
        )
        latents = LatentFeatures(same, passthrough=False).fit(frame)
        assert list(latents.get_feature_names_out()) == ["z__0", "z__1"]

    def test_no_latent_is_called_era(self, frame):
        column = FunctionTransformer(
            lambda X: np.asarray(X)[:, :1], feature_names_out=lambda self, n: ["era"]
        )
        latents = LatentFeatures(column).fit(frame)
        assert latents.get_feature_names_out()[-1] == "functiontransformer__era"

    def test_an_embedder_that_keeps_the_era(self, frame):
        inner = LatentFeatures(FA, keep_era=True)
        with pytest.raises(ValueError, match="'latentfeatures' returned the column"):
            LatentFeatures(inner).fit_transform(frame)

    def test_two_originals_of_one_name(self, frame):
        twin = frame.rename(columns={"feature_0001": "feature_0000"})
        with pytest.raises(ValueError, match="X has more than one column 'feature"):
            LatentFeatures(FA).fit(twin)

    def test_two_latents_of_one_name(self, frame):
        twins = FunctionTransformer(lambda X: pd.concat([X.iloc[:, :1]] * 2, axis=1))
        with pytest.raises(ValueError, match="'functiontransformer' returned has"):
            LatentFeatures(twins).fit_transform(frame)


class TestWeights:
    def test_that_nobody_takes(self, panel):
        weights = np.ones(panel.n_rows)
        for embedders in (PCA(2), [("a", PCA(2)), ("b", PCA(1))]):
            with pytest.raises(ValueError, match="no embedder's fit takes it: PCA"):
                LatentFeatures(embedders).fit(panel.X, sample_weight=weights)

    def test_that_do_not_reach_a_step(self, panel):
        pipeline = make_pipeline(StandardScaler(), PCA(2))
        both = LatentFeatures([("a", FA), ("b", pipeline)])
        with pytest.raises(ValueError, match="takes sample_weight, which a Pipeline"):
            both.fit(panel.X, sample_weight=np.ones(panel.n_rows))

    def test_go_to_those_that_take_them(self, panel):
        weights = np.where(np.arange(panel.n_rows) % 2, 3.0, 0.0)
        both = LatentFeatures([("a", PCA(2)), ("b", FA)], passthrough=False)
        out = both.fit(panel.X, sample_weight=weights).transform(panel.X)
        alone = FA.fit(panel.X, sample_weight=weights).transform(panel.X)
        np.testing.assert_array_equal(out[:, 2:], alone)

    def test_matter_to_nobody_who_learns_nothing(self, panel):
        weights = np.where(np.arange(panel.n_rows) % 2, 3.0, 0.0)
        for embedder in (None, FrozenEstimator(PCA(2).fit(panel.X))):
            with_them = LatentFeatures(embedder).fit(panel.X, sample_weight=weights)
            without = LatentFeatures(embedder).fit(panel.X)
            np.testing.assert_array_equal(
                with_them.transform(panel.X), without.transform(panel.X)
            )

    @pytest.mark.parametrize("frozen", [False, True])
    def test_matter_to_bins(self, panel, frozen):
        pca = PCA(2, svd_solver="full").fit(panel.X)
        weights = np.where(pca.transform(panel.X)[:, 0] > 0, 10.0, 1.0)
        embedder = FrozenEstimator(pca) if frozen else pca
        latents = LatentFeatures(embedder, passthrough=False, quantize="int8")
        even, uneven = (
            np.bincount(latents.fit_transform(panel.X, sample_weight=w)[:, 0], weights)
            for w in (weights, None)
        )
        np.testing.assert_allclose(even / weights.sum(), 0.2, atol=0.02)
        assert uneven[0] / weights.sum() < 0.1

    def test_reach_the_embedder_of_dreams(self, panel):
        weights = np.where(np.arange(panel.n_rows) % 2, 3.0, 0.0)
        dream = DreamAugmenter(FactorAnalysisEmbedder(2), random_state=0)
        dream.fit_resample(panel.X, sample_weight=weights)
        alone = FactorAnalysisEmbedder(2).fit(panel.X, sample_weight=weights)
        np.testing.assert_array_equal(
            dream.embedder_.transform(panel.X), alone.transform(panel.X)
        )


def test_a_pipeline_as_the_inner_model(panel, frame):
    inner = make_pipeline(StandardScaler(), Ridge())
    model = AugmentedRegressor(inner, CUTOUT).fit(frame, panel.y())
    assert list(model.estimator_.feature_names_in_) == features_of(frame)
    with pytest.raises(ValueError, match=OTHER):
        model.predict(reordered(frame))
