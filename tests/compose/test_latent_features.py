import pickle
import re
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from lightgbm import LGBMRegressor
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.cross_decomposition import CCA, PLSRegression
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import KBinsDiscretizer, OneHotEncoder

from numerai_features.compose import LatentFeatures
from numerai_features.embedders import FactorAnalysisEmbedder
from numerai_features.metrics import make_era_scorer
from numerai_features.model_selection import EraKFold


class TestTable:
    def test_originals_then_latents(self, panel):
        table = LatentFeatures(FactorAnalysisEmbedder(3)).fit_transform(panel.X)
        latents = FactorAnalysisEmbedder(3).fit_transform(panel.X)
        assert table.dtype == np.float32
        np.testing.assert_array_equal(table[:, :20], panel.X)
        np.testing.assert_array_equal(table[:, 20:], latents)

    def test_fit_then_transform_is_fit_transform(self, panel):
        for quantize in (None, "int8", "uint8"):
            latents = LatentFeatures(FactorAnalysisEmbedder(3), quantize=quantize)
            together = latents.fit_transform(panel.X)
            np.testing.assert_array_equal(
                clone(latents).fit(panel.X).transform(panel.X), together
            )

    def test_without_embedders_it_is_the_originals(self, frame, panel):
        baseline = LatentFeatures()
        table = baseline.fit_transform(frame)
        assert table.dtype == np.int8
        np.testing.assert_array_equal(table, panel.X)
        assert list(baseline.get_feature_names_out()) == panel.feature_names

    def test_several_embedders_and_their_names(self, frame):
        latents = LatentFeatures(
            [("fa", FactorAnalysisEmbedder(2)), ("axes", PCA(2))], passthrough=False
        )
        table = latents.set_output(transform="pandas").fit_transform(frame)
        assert list(table.columns) == [
            "fa__factoranalysisembedder0",
            "fa__factoranalysisembedder1",
            "axes__pca0",
            "axes__pca1",
        ]
        assert latents.get_params()["fa__n_components"] == 2
        latents.set_params(fa__n_components=3, axes="drop me")
        assert latents.embedders[0][1].n_components == 3

    @pytest.mark.parametrize(("quantize", "n_bins"), [("int8", 5), ("uint8", 255)])
    def test_quantized_latents_are_equal_bins_of_the_ranks(
        self, panel, quantize, n_bins
    ):
        table = LatentFeatures(
            FactorAnalysisEmbedder(2), quantize=quantize
        ).fit_transform(panel.X)
        assert table.dtype == np.dtype(quantize)
        np.testing.assert_array_equal(table[:, :20], panel.X)
        latents = FactorAnalysisEmbedder(2).fit_transform(panel.X)
        for j in range(2):
            bins = table[:, 20 + j]
            ranks = pd.Series(latents[:, j]).rank(method="first").to_numpy() - 1
            expected = np.floor(ranks * n_bins / len(ranks))
            assert np.abs(bins - expected).max() <= 1
            assert (bins == expected).mean() > 0.99
            assert np.bincount(bins).max() <= len(ranks) / n_bins + 1

    def test_new_rows_are_binned_by_the_edges_of_fit(self, panel):
        latents = LatentFeatures(FactorAnalysisEmbedder(1), quantize="uint8")
        latents.fit(panel.X)
        one = latents.transform(panel.X[:1])
        np.testing.assert_array_equal(one, latents.transform(panel.X)[:1])

    def test_originals_are_never_floats_with_quantize(self, panel):
        latents = LatentFeatures(FactorAnalysisEmbedder(1), quantize="int8")
        with pytest.raises(ValueError, match="one byte a cell, but X is float64"):
            latents.fit_transform(panel.X.astype(float))
        wide = panel.X.astype(np.int64) * 100
        with pytest.raises(
            ValueError, match=r"-128 to 127, but X has values .* to 400"
        ):
            latents.fit_transform(wide)
        negative = panel.X - np.int8(2)
        with pytest.raises(ValueError, match="0 to 255, but X has values from -2"):
            LatentFeatures(PCA(1), quantize="uint8").fit_transform(negative)


class TestFloatsWhereFitSawBytes:
    """One missing cell makes floats of whole numbers; see test_common, too."""

    def test_who_is_told_to_raise_does(self, panel):
        X = panel.X.astype(np.float32)
        X[3, 5] = np.nan
        inner = FactorAnalysisEmbedder(2, missing="raise")
        for embedder in (inner, Pipeline([("fa", inner)])):
            latents = LatentFeatures(embedder, quantize="int8").fit(panel.X)
            with pytest.raises(ValueError, match="NaN and missing='raise'"):
                latents.transform(X)
            latents.transform(panel.X.astype(float))

    @pytest.mark.parametrize("cell", [0.25, 300, -1])
    def test_cells_that_are_none_of_fit(self, panel, cell):
        X = panel.X.astype(np.float32)
        X[3, 5], X[4, 5] = cell, np.nan
        binned = LatentFeatures(PCA(2), quantize="uint8")
        binned.fit(panel.X.astype(np.uint8))
        with pytest.raises(ValueError, match="one byte a cell, but X is float32"):
            binned.transform(X)
        table = LatentFeatures(PCA(2)).fit(panel.X).transform(X)
        assert table[3, 5] == np.float32(cell)
        assert table[4, 5] == 2

    def test_the_cell_is_told(self, panel):
        latents = LatentFeatures(quantize="int8").fit(panel.X)
        X = panel.X / 4
        row, column = np.argwhere(X % 1)[0]
        told = f"is float64, and holds {X[row, column]} in row {row}, column {column}"
        with pytest.raises(ValueError, match=re.escape(told)):
            latents.transform(X)

    def test_wider_integers_are_filled_by_the_median_of_fit(self, panel):
        X = panel.X.astype(np.int64) + 1000
        latents = LatentFeatures().fit(X)
        live = X.astype(np.float64)
        live[3, 5] = np.nan
        table = latents.transform(live)
        assert table.dtype == np.int64
        assert table[3, 5] == np.rint(np.median(X[:, 5]))

    def test_bytes_that_are_no_bins_of_numerais_are_filled_by_the_median(self, panel):
        X = panel.X.astype(np.uint8) * 60
        live = X.astype(np.float64)
        live[3, 5] = np.nan
        table = LatentFeatures(quantize="uint8").fit(X).transform(live)
        assert table[3, 5] == np.rint(np.median(X[:, 5]))

    def test_a_cell_that_a_byte_does_not_hold_is_told(self, panel):
        X = panel.X.astype(np.float32)
        X[3, 5] = 300
        latents = LatentFeatures(quantize="int8").fit(panel.X)
        with pytest.raises(ValueError, match="and holds 300 in row 3, column 5"):
            latents.transform(X)

    def test_one_that_an_earlier_version_has_fitted(self, panel):
        latents = LatentFeatures(PCA(2)).fit(panel.X)
        expected = latents.transform(panel.X)
        del latents._whole_cells
        np.testing.assert_array_equal(latents.transform(panel.X), expected)

    def test_half_precision(self, panel):
        X = panel.X[:100].astype(np.float16)
        X[3, 5] = np.nan
        table = LatentFeatures().fit(panel.X.astype(np.int64)).transform(X)
        assert table.dtype == np.int64
        assert table[3, 5] == 2

    def test_what_was_fitted_to_floats_keeps_its_gaps(self, panel):
        X = panel.X.astype(np.float32)
        X[3, 5] = np.nan
        assert np.isnan(LatentFeatures().fit(X).transform(X)[3, 5])


class TestEras:
    def test_the_era_column_is_used_and_taken_out(self, frame, panel):
        latents = LatentFeatures(FactorAnalysisEmbedder(2, center="era"))
        table = latents.fit_transform(frame)
        assert table.shape == (len(frame), 22)
        assert "era" not in latents.get_feature_names_out()
        assert "era" not in latents.feature_names_in_
        np.testing.assert_array_equal(latents.fitted_eras_, panel.era_numbers)
        np.testing.assert_array_equal(
            latents.embedders_[0][1].fitted_eras_, panel.era_numbers
        )
        routed = LatentFeatures(FactorAnalysisEmbedder(2, center="era"))
        np.testing.assert_array_equal(
            routed.fit_transform(panel.X, eras=panel.eras), table
        )

    def test_keep_era_hands_the_column_on(self, frame):
        first = LatentFeatures(keep_era=True)
        second = LatentFeatures(FactorAnalysisEmbedder(2, center="era"))
        table = Pipeline([("first", first), ("second", second)]).fit_transform(frame)
        direct = clone(second).fit_transform(frame)
        np.testing.assert_array_equal(table, direct)
        kept = first.transform(frame)
        assert list(kept.columns[:2]) == ["era", "feature_0000"]
        assert list(kept["era"]) == list(frame["era"])
        assert (kept.dtypes.iloc[1:] == np.int8).all()
        with pytest.raises(ValueError, match="keep_era=True needs eras"):
            first.transform(frame.drop(columns="era"))

    def test_era_wise_latents_raise_without_eras(self, panel):
        latents = LatentFeatures(FactorAnalysisEmbedder(2, center="era"))
        latents.fit(panel.X, eras=panel.eras)
        with pytest.raises(ValueError, match="fitted with eras and works era by era"):
            latents.transform(panel.X)

    def test_polars_frames(self, frame, panel):
        latents = LatentFeatures(FactorAnalysisEmbedder(2))
        table = latents.fit_transform(pl.from_pandas(frame.reset_index(drop=True)))
        np.testing.assert_array_equal(table, latents.fit_transform(frame))


def search(scoring):
    pipeline = Pipeline(
        [
            ("latents", LatentFeatures([("fa", FactorAnalysisEmbedder())])),
            ("tree", LGBMRegressor(n_estimators=5, verbosity=-1, n_jobs=1)),
        ]
    )
    return GridSearchCV(
        pipeline.set_output(transform="pandas"),
        {"latents__fa__n_components": [2, 3]},
        cv=EraKFold(3, purge=2),
        scoring=scoring,
        error_score="raise",
    )


class TestSearch:
    @pytest.mark.parametrize("routing", [False, True])
    def test_a_frame_needs_nothing_else(self, panel, frame, routing):
        with sklearn.config_context(enable_metadata_routing=routing):
            found = search(make_era_scorer("corr")).fit(frame, panel.y())
        assert found.cv_results_["split0_test_score"].shape == (2,)
        assert np.isfinite(found.cv_results_["mean_test_score"]).all()

    def test_arrays_are_routed(self, panel, frame):
        with sklearn.config_context(enable_metadata_routing=True):
            routed = search(make_era_scorer("corr")).fit(
                panel.X, panel.y(), groups=panel.eras, eras=panel.eras
            )
        plain = search(make_era_scorer("corr")).fit(frame, panel.y())
        np.testing.assert_allclose(
            routed.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"]
        )

    def test_arrays_without_eras_raise(self, panel):
        with pytest.raises(ValueError, match="splits by era, but got none"):
            search("neg_mean_squared_error").fit(panel.X, panel.y())

    def test_the_tree_never_sees_the_era(self, panel, frame):
        found = search(make_era_scorer("corr")).fit(frame, panel.y())
        names = found.best_estimator_[-1].feature_names_in_
        assert "era" not in names
        assert len(names) == 20 + found.best_params_["latents__fa__n_components"]


class Supervised(TransformerMixin, BaseEstimator):
    """Gives training rows something else than new rows, and looks at y."""

    def fit(self, X, y, sample_weight=None):
        self.mean_ = np.average(y, weights=sample_weight)
        return self

    def transform(self, X):
        return np.full((len(X), 1), self.mean_, np.float32)

    def fit_transform(self, X, y, sample_weight=None):
        return self.fit(X, y, sample_weight).transform(X) + 1

    def get_feature_names_out(self, input_features=None):
        return np.array(["mean"], dtype=object)


def test_targets_weights_and_the_embedders_own_fit_transform_are_used(panel):
    y = np.arange(panel.n_rows)
    weight = np.where(y < 10, 1.0, 0.0)
    latents = LatentFeatures(Supervised(), passthrough=False)
    trained = latents.fit_transform(panel.X, y, sample_weight=weight)
    assert trained[0] == 5.5
    assert latents.transform(panel.X)[0] == 4.5
    assert list(latents.get_feature_names_out()) == ["mean"]


class Inherited(TransformerMixin, BaseEstimator):
    """Takes eras in fit and transform; its fit_transform is scikit-learn's."""

    def fit(self, X, y=None, *, eras=None):
        self.n_eras_ = 0 if eras is None else len(set(eras))
        return self

    def transform(self, X, *, eras=None):
        return np.zeros((len(X), 1)) + (0 if eras is None else len(set(eras)))


def test_eras_reach_an_inherited_fit_transform(frame, panel):
    latents = LatentFeatures(Inherited(), passthrough=False, quantize="uint8")
    table = latents.fit_transform(frame)
    assert latents.embedders_[0][1].n_eras_ == len(panel.era_numbers)
    assert table.shape == (panel.n_rows, 1)


def test_a_pipeline_that_would_drop_the_eras_is_told(frame):
    inner = Pipeline([("fa", FactorAnalysisEmbedder(2, center="era"))])
    with pytest.raises(ValueError, match="which a Pipeline does not hand on"):
        LatentFeatures(inner).fit(frame)


class Returns(TransformerMixin, BaseEstimator):
    def __init__(self, make=None):
        self.make = make

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return self.make(X)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.float64])
def test_discrete_latents_of_any_type_keep_their_values_apart(panel, dtype):
    five = Returns(lambda X: (X[:, -1:] * 30).astype(dtype))
    table = LatentFeatures(five, passthrough=False, quantize="uint8").fit_transform(
        panel.X
    )
    expected = np.unique(panel.X[:, -1])
    bins = [np.unique(table[panel.X[:, -1] == value]) for value in expected]
    assert all(len(b) == 1 for b in bins)
    assert len({int(b[0]) for b in bins}) == len(expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda X: np.full((len(X), 1), np.nan), "cannot rank NaN"),
        (lambda X: np.ones(len(X)), r"returned an array of shape \(2400,\)"),
        (lambda X: X[:1], "returned 1 rows for 2400 of X"),
        (lambda X: X[:, :1].astype(str), "returned <U.*expected numbers"),
        (lambda X: pd.DataFrame({"a": X[:, 0].astype(str)}), "column 'a' holds text"),
        (
            lambda X: sparse.csr_array((len(X), 10**7)),
            "takes 178.8 GiB as a dense array; .* up to 4 GiB.*sparse_output=False",
        ),
    ],
)
def test_bad_latents_are_told(panel, make, message):
    with pytest.raises(ValueError, match=message):
        LatentFeatures(Returns(make), quantize="uint8").fit(panel.X)


OTHERS = [
    PLSRegression(2),
    CCA(1),
    OneHotEncoder(),
    OneHotEncoder(sparse_output=False),
    KBinsDiscretizer(3, strategy="uniform"),
    SelectKBest(k=3),
    FeatureUnion([("ohe", OneHotEncoder()), ("pca", PCA(2))]),
]


@pytest.mark.parametrize("memory", [False, True])
@pytest.mark.parametrize("quantize", [None, "uint8"])
@pytest.mark.parametrize("embedder", OTHERS, ids=repr)
def test_embedders_of_others_work_whatever_they_return(
    frame, panel, embedder, quantize, memory, tmp_path
):
    """Tuples of scikit-learn's cross decompositions, and sparse tables."""
    y = np.digitize(panel.y(), [0.3, 0.6])
    options = {"quantize": quantize, "memory": tmp_path if memory else None}
    with warnings.catch_warnings():
        # Of scikit-learn: a projection of CCA's that is not needed has no end.
        warnings.simplefilter("ignore", RuntimeWarning)
        expected = clone(embedder).fit(panel.X, y).transform(panel.X)
    expected = expected.toarray() if sparse.issparse(expected) else expected
    for X in (panel.X, frame):
        latents = LatentFeatures(embedder, **options)
        together = latents.fit_transform(X, y)
        np.testing.assert_array_equal(latents.transform(X), together)
        assert len(latents.get_feature_names_out()) == together.shape[1]
        if quantize is None:
            np.testing.assert_allclose(together[:, 20:], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("library", ["default", "pandas", "polars"])
@pytest.mark.parametrize("embedder", [PLSRegression(2), PCA(2)], ids=repr)
def test_containers_that_embedders_of_others_are_set_to(
    frame, panel, library, embedder
):
    expected = LatentFeatures(embedder).fit_transform(frame, panel.y())
    own = clone(embedder).set_output(transform=library)
    for X in (frame, panel.X):
        table = LatentFeatures(own).fit_transform(X, panel.y())
        np.testing.assert_array_equal(table, expected)
    with sklearn.config_context(transform_output=library):
        table = LatentFeatures(embedder).fit_transform(frame, panel.y())
    np.testing.assert_array_equal(table, expected)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"passthrough": False}, ValueError, "leave no columns"),
        ({"embedders": []}, ValueError, "is an empty list"),
        ({"embedders": [PCA()]}, ValueError, r"list of \(name, estimator\)"),
        ({"embedders": [("a", 3)]}, TypeError, "'a' must have fit and transform; got"),
        ({"embedders": [("a__b", PCA())]}, ValueError, "must not contain __"),
        ({"embedders": [("a", PCA()), ("a", PCA())]}, ValueError, "not unique"),
        ({"n_bins": 300}, ValueError, "'n_bins' parameter .* range \\[2, 255\\]"),
        ({"quantize": "int7"}, ValueError, "'quantize' parameter"),
    ],
)
def test_bad_parameters_are_told(panel, params, error, message):
    with pytest.raises(error, match=message):
        LatentFeatures(**params).fit(panel.X)


def test_inside_a_column_transformer(frame):
    latents = LatentFeatures(FactorAnalysisEmbedder(1), passthrough=False)
    columns = ["era", *frame.columns[1:9]]
    table = ColumnTransformer([("latents", latents, columns)]).fit_transform(frame)
    np.testing.assert_array_equal(table, latents.fit_transform(frame[columns]))


def test_the_caller_s_embedders_are_not_touched(panel):
    embedder = FactorAnalysisEmbedder(2)
    LatentFeatures(embedder).fit(panel.X)
    assert not hasattr(embedder, "components_")


def test_cross_val_score_on_a_frame(panel, frame):
    pipeline = Pipeline(
        [("latents", LatentFeatures()), ("tree", LGBMRegressor(verbosity=-1, n_jobs=1))]
    ).set_output(transform="pandas")
    scores = cross_val_score(
        pipeline,
        frame,
        panel.y(),
        cv=EraKFold(3, purge=2),
        scoring=make_era_scorer("sharpe"),
        error_score="raise",
    )
    assert np.isfinite(scores).all()


class Counted(FactorAnalysisEmbedder):
    """Leaves a file in a folder for every fit."""

    folder = None

    def fit(self, X, y=None, *, eras=None, sample_weight=None):
        (self.folder / f"{len(list(self.folder.iterdir()))}").touch()
        return super().fit(X, y, eras=eras, sample_weight=sample_weight)

    def fit_transform(self, X, y=None, *, eras=None, sample_weight=None):
        fitted = self.fit(X, y, eras=eras, sample_weight=sample_weight)
        return fitted.transform(X, eras=eras)


class TestMemory:
    @pytest.fixture
    def fits(self, tmp_path, monkeypatch):
        folder = tmp_path / "fits"
        folder.mkdir()
        monkeypatch.setattr(Counted, "folder", folder)
        return lambda: len(list(folder.iterdir()))

    @pytest.mark.parametrize("quantize", [None, "uint8"])
    def test_a_search_behind_it_fits_it_once_a_fold(
        self, frame, panel, tmp_path, fits, quantize
    ):
        def run(memory):
            latents = LatentFeatures(Counted(2), quantize=quantize, memory=memory)
            model = Pipeline([("latents", latents), ("ridge", Ridge())])
            grid = {"ridge__alpha": [1.0, 10.0, 100.0]}
            search = GridSearchCV(
                model, grid, cv=EraKFold(3, purge=2), error_score="raise",
                scoring=make_era_scorer(), refit=False,
            )  # fmt: skip
            return search.fit(frame, panel.y()).cv_results_["mean_test_score"]

        kept = run(tmp_path / "cache")
        assert fits() == 3
        np.testing.assert_array_equal(kept, run(None))
        assert fits() == 3 + 9
        np.testing.assert_array_equal(kept, run(str(tmp_path / "cache")))
        assert fits() == 12

    def test_what_it_is_known_by(self, panel, tmp_path, fits):
        X, y, eras = panel.X, panel.y(), panel.eras
        weights = np.linspace(1, 2, len(X))
        calls = [
            (2, X, None, None, None),
            (3, X, None, None, None),
            (2, X[:, ::-1], None, None, None),
            (2, X, y, None, None),
            (2, X, None, eras, None),
            (2, X, None, eras + 1, None),
            (2, X, None, None, weights),
        ]
        for i, (k, rows, target, labels, weight) in enumerate(calls, start=1):
            for _ in range(2):
                kept = LatentFeatures(Counted(k), memory=tmp_path / "cache")
                extras = {"eras": labels, "sample_weight": weight}
                table = kept.fit_transform(rows, target, **extras)
                assert fits() == i
            plain = LatentFeatures(FactorAnalysisEmbedder(k))
            expected = plain.fit_transform(rows, target, **extras)
            np.testing.assert_array_equal(table, expected)
            again = kept.transform(rows, eras=labels)
            np.testing.assert_array_equal(again, expected)

    def test_training_rows_keep_what_fit_transform_gave(self, panel, tmp_path):
        """Cross-fitted latents differ from those of `transform`: both stay so."""
        for _ in range(2):
            latents = LatentFeatures(Supervised(), passthrough=False, memory=tmp_path)
            train = latents.fit_transform(panel.X, panel.y())
            np.testing.assert_allclose(train - latents.transform(panel.X), 1, rtol=1e-5)

    def test_the_template_is_not_fitted(self, panel, tmp_path):
        latents = LatentFeatures(FactorAnalysisEmbedder(2), memory=str(tmp_path))
        latents.fit(panel.X)
        assert not hasattr(latents.embedders, "encoder_")
        assert hasattr(latents.embedders_[0][1], "encoder_")

    def test_it_must_be_a_folder(self, panel):
        with pytest.raises(ValueError, match="'memory' parameter of LatentFeatures"):
            LatentFeatures(FactorAnalysisEmbedder(2), memory=3).fit(panel.X)


@pytest.fixture(scope="module")
def umap():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that TensorFlow is not there
        return pytest.importorskip("umap")


@pytest.mark.slow  # compiled anew in each process
class TestUmapLearn:
    """What the guide says of umap-learn's own UMAP as an embedder."""

    def latents(self, umap, **options):
        options = {"n_components": 2, "n_jobs": 1, "random_state": 0, **options}
        return LatentFeatures([("umap", umap.UMAP(**options))])

    def test_it_stands_beside_the_originals(self, umap, frame, panel):
        latents = self.latents(umap).set_output(transform="pandas")
        table = latents.fit_transform(frame)
        assert list(table)[-3:] == ["feature_0019", "umap__umap0", "umap__umap1"]
        binned = self.latents(umap).set_params(quantize="uint8").fit(frame)
        assert binned.transform(frame).dtype == np.uint8
        np.testing.assert_array_equal(latents.fitted_eras_, panel.era_numbers)

    def test_eras_change_nothing(self, umap, panel):
        plain = self.latents(umap).fit_transform(panel.X)
        told = self.latents(umap).fit_transform(panel.X, eras=panel.eras)
        np.testing.assert_array_equal(plain, told)

    def test_labels_are_looked_at_unless_a_subclass_drops_them(self, umap, panel):
        class UnlabelledUMAP(umap.UMAP):
            def fit(self, X, y=None, *args, **kwargs):
                return super().fit(X, None, *args, **kwargs)

        plain = self.latents(umap).fit_transform(panel.X)
        for weight in (0.0, 0.5):
            labelled = self.latents(umap, target_weight=weight)
            labelled = labelled.fit_transform(panel.X, panel.y())
            assert np.abs(labelled - plain).max() > 1
        blind = UnlabelledUMAP(n_components=2, n_jobs=1, random_state=0)
        table = LatentFeatures(blind).fit_transform(panel.X, panel.y())
        np.testing.assert_array_equal(table, plain)

    def test_a_place_depends_on_the_rows_that_come_along(self, umap, panel):
        train, test = panel.X[:1600], panel.X[1600:]
        latents = self.latents(umap).fit(train)
        together = latents.transform(test)
        parts = [latents.transform(test[i : i + 80]) for i in range(0, 800, 80)]
        moved = np.abs(np.concatenate(parts) - together)[:, 20:].max(axis=1)
        assert (moved > 0.01).mean() > 0.5
        again = latents.transform(train)  # as they were laid out
        np.testing.assert_array_equal(again[:, 20:], fitted(latents).embedding_)
        assert np.abs(latents.transform(train[:800]) - again[:800]).max() > 0.01

    def test_a_pickle_holds_the_training_rows_as_floats(self, umap, panel):
        latents = self.latents(umap).fit(panel.X)
        rows = fitted(latents)._raw_data
        assert rows.dtype == np.float32
        np.testing.assert_array_equal(rows, panel.X)
        assert len(pickle.dumps(latents)) > 4 * panel.X.nbytes

    def test_what_it_refuses_and_warns_of(self, umap, panel):
        X, y = panel.X.astype(float), panel.y().copy()
        X[0, 0] = y[0] = np.nan
        with pytest.raises(ValueError, match="Input contains NaN"):
            self.latents(umap).fit(X)
        with pytest.raises(ValueError, match="Input contains NaN"):
            self.latents(umap).fit(panel.X, y)
        with pytest.warns(UserWarning, match="overridden to 1 by setting random_state"):
            self.latents(umap, n_jobs=-1).fit(panel.X[:400])


def fitted(latents):
    [(_, embedder)] = latents.embedders_
    return embedder
