"""The picture of latents."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline

from numerai_features.compose import LatentFeatures
from numerai_features.embedders import (
    DAEEmbedder,
    EraRegimes,
    EraStatistics,
    EraTransformer,
    FactorAnalysisEmbedder,
    LatentMapDisplay,
)

mpl.use("Agg")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def embedder(panel):
    return FactorAnalysisEmbedder(3).fit(panel.X, eras=panel.eras)


def draw(embedder, panel, **options):
    options = {"eras": panel.eras, "y": panel.y(), "n_rows": 400, **options}
    return LatentMapDisplay.from_estimator(embedder, panel.X, **options)


class TestColours:
    def chosen(self, panel):
        return np.random.default_rng(0).permutation(panel.n_rows)[:400]

    @pytest.mark.parametrize(
        ("color", "expected", "label"),
        [
            ("era", lambda p: p.eras.astype(int), "era"),
            ("target", lambda p: p.y(), "target"),
            (7, lambda p: p.X[:, 7], "7"),
        ],
    )
    def test_are_the_rows(self, embedder, panel, color, expected, label):
        display = draw(embedder, panel, color=color)
        rows = self.chosen(panel)
        np.testing.assert_array_equal(display.values, expected(panel)[rows])
        np.testing.assert_array_equal(
            display.latents, embedder.transform(panel.X[rows])[:, :2]
        )
        assert display.label == label
        offsets = display.points_.get_offsets()
        np.testing.assert_allclose(offsets, display.latents, rtol=1e-6)

    @pytest.mark.parametrize(
        "net",
        [
            EraStatistics([0, 3]),
            FactorAnalysisEmbedder(2, center="era"),
            EraTransformer(2, width=8, max_epochs=1, objective="cells", random_state=0),
            EraRegimes(2, n_axes=3, hidden=4, max_epochs=1, random_state=0),
            LatentFeatures(EraStatistics([0, 3]), passthrough=False),
        ],
        ids=lambda net: type(net).__name__,
    )
    def test_rows_beside_all_others_of_their_era(self, net, panel):
        net = clone(net).fit(panel.X, eras=panel.eras)
        whole = net.transform(panel.X, eras=panel.eras)[self.chosen(panel), :2]
        np.testing.assert_array_equal(draw(net, panel).latents, whole)
        frame = panel.to_frame(targets=[])
        display = LatentMapDisplay.from_estimator(
            clone(net).fit(frame), frame, n_rows=400
        )
        np.testing.assert_allclose(display.latents, whole, atol=1e-5)

    def test_a_pipeline_gets_whole_eras_of_a_frame(self, panel):
        frame = panel.to_frame(targets=[])
        statistics = LatentFeatures(EraStatistics([0, 3]), passthrough=False)
        model = make_pipeline(statistics, PCA(2)).fit(frame)
        display = LatentMapDisplay.from_estimator(model, frame, n_rows=400)
        whole = model.transform(frame)[self.chosen(panel)]
        np.testing.assert_array_equal(display.latents, whole)

    def test_of_a_frame(self, embedder, panel):
        frame = panel.to_frame(targets=[])
        name = frame.columns[4]
        fitted = FactorAnalysisEmbedder(2).fit(frame)
        display = LatentMapDisplay.from_estimator(fitted, frame, color=name)
        assert display.label == name
        assert len(display.latents) == min(5000, panel.n_rows)
        assert display.ax_.get_xlabel() == "factoranalysisembedder0"
        eras = LatentMapDisplay.from_estimator(fitted, frame).values
        assert set(eras) == set(panel.eras.astype(int))

    def test_familiarity_within_an_era(self, panel):
        factors = FactorAnalysisEmbedder(2, center="era")
        factors.fit(panel.X, eras=panel.eras)
        display = draw(factors, panel, color="familiarity")
        expected = factors.score_samples(panel.X, eras=panel.eras)
        np.testing.assert_array_equal(display.values, expected[self.chosen(panel)])

    def test_familiarity(self, panel):
        dae = DAEEmbedder(2, hidden=(8,), max_epochs=1, random_state=0).fit(panel.X)
        display = draw(dae, panel, color="familiarity")
        expected = dae.score_samples(panel.X[self.chosen(panel)])
        np.testing.assert_allclose(display.values, expected, rtol=1e-5)

    def test_numbers_of_ones_own(self, embedder, panel):
        own = pd.Series(np.arange(panel.n_rows, dtype=float), name="mine")
        display = draw(embedder, panel, color=own)
        np.testing.assert_array_equal(display.values, own[self.chosen(panel)])
        assert display.label == "mine"

    def test_the_live_era_is_grey(self):
        eras = np.array(["0001", "0002", "X"] * 20)
        X = np.random.default_rng(0).normal(size=(60, 3))
        display = LatentMapDisplay.from_estimator(PCA(2).fit(X), X, eras=eras)
        assert np.isnan(display.values).sum() == 20
        texts = [t.get_text() for t in display.ax_.get_legend().get_texts()]
        assert texts == ["1", "2"]

    def test_a_column_of_a_frame_by_position(self, panel):
        frame = panel.to_frame(targets=[])
        fitted = FactorAnalysisEmbedder(2).fit(frame)
        display = LatentMapDisplay.from_estimator(fitted, frame, color=np.int64(3))
        rows = np.random.default_rng(0).permutation(panel.n_rows)[:5000]
        np.testing.assert_array_equal(display.values, panel.X[rows, 3])


class TestPicture:
    def test_many_values_have_a_scale(self, embedder, panel):
        display = draw(embedder, panel)
        assert len(display.figure_.axes) == 2
        assert display.figure_.axes[1].get_ylabel() == "era"

    def test_few_values_are_named(self, embedder, panel):
        display = draw(embedder, panel, color="target")
        texts = [t.get_text() for t in display.ax_.get_legend().get_texts()]
        assert texts == ["0", "0.25", "0.5", "0.75", "1"]
        assert len(display.figure_.axes) == 1

    def test_unknown_values_are_grey(self):
        Z = np.random.default_rng(0).normal(size=(30, 2))
        values = np.r_[np.full(10, np.nan), np.arange(20.0)]
        display = LatentMapDisplay.from_latents(Z, values, label="x")
        display.figure_.canvas.draw()
        faces = display.points_.get_facecolors()
        np.testing.assert_allclose(faces[:10, :3], 0xBB / 255)
        assert len(np.unique(faces[10:], axis=0)) == 20

    def test_nothing_known(self):
        display = LatentMapDisplay.from_latents(np.zeros((3, 2)), [np.nan, np.inf, 0])
        assert len(display.ax_.get_legend().get_texts()) == 1
        none = LatentMapDisplay.from_latents(np.zeros((3, 2)), [np.nan] * 3)
        assert none.ax_.get_legend() is None
        assert len(none.figure_.axes) == 1

    def test_plain_points(self):
        display = LatentMapDisplay.from_latents(np.zeros((3, 5)))
        assert display.values is None
        assert display.ax_.get_legend() is None

    def test_an_axes_of_ones_own(self, embedder, panel):
        _, axes = plt.subplots(1, 2)
        display = draw(embedder, panel, ax=axes[1])
        assert display.ax_ is axes[1]
        assert display.figure_ is axes[1].figure


class TestValidation:
    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"eras": None}, "color='era' needs eras"),
            ({"y": None, "color": "target"}, "color='target' needs y"),
            ({"color": "smart"}, "nor one of 20 columns of X"),
            ({"color": 20}, "nor one of 20 columns of X"),
            ({"color": True}, r"color must have shape \(2400,\)"),
            ({"n_rows": 10.5}, r"'n_rows' parameter of .* Got 10\.5"),
            ({"eras": np.ones(3)}, "eras has 3 labels"),
            ({"color": np.zeros(3)}, r"color must have shape \(2400,\)"),
            ({"n_rows": 0}, "'n_rows' parameter of"),
        ],
    )
    def test_colours(self, embedder, panel, options, match):
        with pytest.raises(ValueError, match=match):
            draw(embedder, panel, **options)

    def test_one_latent(self, panel):
        with pytest.raises(ValueError, match="a map needs two"):
            draw(FactorAnalysisEmbedder(1).fit(panel.X), panel)
        with pytest.raises(ValueError, match="two columns or more"):
            LatentMapDisplay.from_latents(np.zeros((3, 1)))

    def test_no_familiarity(self, panel):
        with pytest.raises(ValueError, match="needs score_samples, which Plain does"):
            draw(Plain().fit(panel.X), panel, color="familiarity", eras=None)


class Plain:
    """An embedder with nothing but latents."""

    def fit(self, X):
        return self

    def transform(self, X):
        return X[:, :2].astype(float)

    def get_feature_names_out(self):
        return ["a", "b"]
