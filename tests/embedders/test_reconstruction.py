"""The picture of true, corrupted and restored rows."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from numerai_features.embedders import (
    DAEEmbedder,
    FactorAnalysisEmbedder,
    ReconstructionDisplay,
    SequenceDAE,
)

mpl.use("Agg")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def fitted(panel, X=None, **options):
    options = {"hidden": (16,), "max_epochs": 2, "random_state": 0, **options}
    dae = DAEEmbedder(4, **options)
    return dae.fit(panel.X if X is None else X, eras=panel.eras)


def images(display):
    return [np.asarray(ax.images[0].get_array()) for ax in display.axes_]


class TestRows:
    @pytest.mark.parametrize(
        ("noise", "level"),
        [("swap", 0.3), ("masking", 0.3), ("cutout", 0.3), ("gaussian", 0.3)],
    )
    def test_are_corrupted_as_in_training(self, panel, noise, level):
        dae = fitted(panel, noise=noise, noise_level=level)
        display = ReconstructionDisplay.from_estimator(dae, panel.X, n_shown=10**6)
        np.testing.assert_array_equal(display.true, panel.X)
        changed = display.corrupted != panel.X
        if noise == "gaussian":
            deviations = (display.corrupted - panel.X).std(axis=0)
            np.testing.assert_allclose(deviations, level * dae.scale_, rtol=0.1)
        elif noise == "cutout":
            cut = changed.any(axis=0)
            assert (display.corrupted[:, cut] == 2).all()
            assert cut.mean() == pytest.approx(level, abs=0.05)
        else:
            # a cell may be replaced by its own value
            assert 0.5 * level < changed.mean() < level
        if noise == "masking":
            assert (display.corrupted[changed] == 2).all()
        if noise == "swap":
            for true, given in zip(panel.X.T, display.corrupted.T, strict=True):
                np.testing.assert_array_equal(np.unique(given), np.unique(true))

    def test_are_those_that_the_network_restores(self, panel):
        dae = fitted(panel)
        display = ReconstructionDisplay.from_estimator(dae, panel.X, n_shown=7)
        chosen = np.linspace(0, panel.n_rows - 1, 7).astype(int)
        np.testing.assert_array_equal(display.true, panel.X[chosen])
        np.testing.assert_array_equal(
            display.restored, dae.reconstruct(display.corrupted)
        )
        np.testing.assert_array_equal(display.error, display.restored - display.true)

    def test_are_drawn_in_deviations_of_their_column(self, panel):
        display = ReconstructionDisplay.from_estimator(fitted(panel), panel.X)
        mean, scale = display.true.mean(axis=0), display.true.std(axis=0)
        for image, part in zip(
            images(display),
            (display.true, display.corrupted, display.restored, display.error + mean),
            strict=True,
        ):
            np.testing.assert_allclose(image, (part - mean) / scale, atol=1e-6)
        titles = [ax.get_title(loc="left") for ax in display.axes_]
        assert titles == ["true", "corrupted", "restored", "error"]

    def test_of_floats_and_frames(self, panel):
        """Columns keep their units, also those that a network standardises."""
        X = panel.X * np.linspace(1, 1e6, panel.X.shape[1]) + 1e3
        X[0, 0] = np.nan
        frame = pd.DataFrame(X).add_prefix("f")
        dae = fitted(panel, frame, noise="masking", noise_level=0.2)
        display = ReconstructionDisplay.from_estimator(
            dae, frame.assign(era=panel.eras), n_shown=10**6
        )
        intact = display.corrupted != dae.missing_values_
        np.testing.assert_array_equal(display.corrupted[intact], X[intact])
        assert display.corrupted[0, 0] == pytest.approx(dae.missing_values_[0])
        assert np.isnan(display.error[0, 0])
        assert display.feature_names == list(frame.columns)

    def test_the_caller_corrupts(self, panel):
        dae = fitted(panel)
        given = np.full_like(panel.X, 2)
        display = ReconstructionDisplay.from_estimator(
            dae, panel.X, corrupted=given, n_shown=3
        )
        np.testing.assert_array_equal(display.restored, dae.reconstruct(given[:3]))

    def test_the_seed_decides(self, panel):
        dae, X = fitted(panel, noise_level=0.3), panel.X.copy()
        first, same, other = (
            ReconstructionDisplay.from_estimator(dae, X, random_state=seed)
            for seed in (0, 0, 1)
        )
        np.testing.assert_array_equal(first.corrupted, same.corrupted)
        assert (first.corrupted != other.corrupted).any()
        np.testing.assert_array_equal(X, panel.X)


class TestSequences:
    def test_a_column_of_axes_for_each_sequence_and_feature(self):
        true = np.arange(24.0).reshape(2, 4, 3)
        restored = true + 1
        display = ReconstructionDisplay(
            true=true, corrupted=true - 2, restored=restored, feature_names=["a"] * 3
        ).plot()
        assert display.axes_.shape == (2, 6)
        above, below = display.axes_[:, 4]  # the second sequence's second feature
        drawn = {line.get_label(): line.get_ydata() for line in above.lines}
        np.testing.assert_array_equal(drawn["true"], true[1, :, 1])
        np.testing.assert_array_equal(drawn["corrupted"], true[1, :, 1] - 2)
        np.testing.assert_array_equal(drawn["restored"], restored[1, :, 1])
        assert [set(line.get_ydata()) for line in below.lines] == [{0}, {1}, {-2}]
        assert above.get_title(loc="left") == "sequence 1, a"

    @pytest.mark.parametrize("kind", [np.asarray, pd.DataFrame])
    def test_lists_of_sequences(self, kind):
        """Of any lengths; frames keep their names, in the order of fit."""
        rng = np.random.default_rng(0)
        arrays = [rng.normal(size=(n, 2)) for n in (4, 2, 3) * 5]
        X = [kind(x) for x in arrays]
        if kind is pd.DataFrame:
            X = [x.set_axis(["b", "a"], axis=1) for x in X]
        dae = SequenceDAE(2, hidden=4, max_epochs=1, random_state=0).fit(X)
        display = ReconstructionDisplay.from_estimator(dae, X, n_shown=15)
        assert display.true.shape == display.restored.shape == (15, 4, 2)
        given = [y[: len(x)] for x, y in zip(arrays, display.corrupted, strict=True)]
        if kind is pd.DataFrame:
            given = [pd.DataFrame(x, columns=["b", "a"]) for x in given]
        restored = dae.reconstruct(given)
        for i, x in enumerate(arrays):
            np.testing.assert_array_equal(display.true[i, : len(x)], x)
            np.testing.assert_array_equal(display.restored[i, : len(x)], restored[i])
            assert np.isnan(display.error[i, len(x) :]).all()


class TestInput:
    TABLE = np.ones((2, 3))

    @pytest.mark.parametrize("shape", [(2, 2), (3,), (1, 2, 3)])
    def test_shapes_are_one(self, shape):
        with pytest.raises(ValueError, match=r"restored of shape .* beside \(2, 3\)"):
            ReconstructionDisplay(
                true=self.TABLE, corrupted=self.TABLE, restored=np.ones(shape)
            )

    def test_there_is_something_to_draw(self):
        none = np.ones((0, 3))
        with pytest.raises(ValueError, match=r"true is empty, of shape \(0, 3\)"):
            ReconstructionDisplay(true=none, corrupted=none, restored=none)

    def test_names_are_as_many_as_features(self):
        parts = dict.fromkeys(("true", "corrupted", "restored"), self.TABLE)
        with pytest.raises(ValueError, match="name for each of 3 features; got 1"):
            ReconstructionDisplay(**parts, feature_names=["a"])

    def test_what_restores_nothing(self, panel):
        with pytest.raises(TypeError, match=r"estimator.*reconstruct"):
            ReconstructionDisplay.from_estimator(
                FactorAnalysisEmbedder(2).fit(panel.X), panel.X
            )

    def test_another_shape_of_the_corrupted(self, panel):
        with pytest.raises(ValueError, match="corrupted must have the shape of X"):
            ReconstructionDisplay.from_estimator(
                fitted(panel), panel.X, corrupted=panel.X[:5]
            )

    def test_axes_of_the_caller(self, panel):
        display = ReconstructionDisplay.from_estimator(fitted(panel), panel.X)
        axes = Figure(layout="constrained").subplots(2, 2)
        assert display.plot(axes).axes_[3] is axes[1, 1]
        with pytest.raises(ValueError, match=r"axes must be 4 Axes.*got 2"):
            display.plot(axes[0])
