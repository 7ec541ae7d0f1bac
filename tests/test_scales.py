"""Numbers at the ends: latents are right at any scale, or an error tells the cause."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from test_common import FAST, FEW_UNITS, NARROW, CellRestorer, public_classes

from numerai_features.augmenters import (
    BalanceAugmenter,
    ComposeAugmenters,
    CutoutAugmenter,
    DreamAugmenter,
    EraMixupAugmenter,
    GaussianNoiseAugmenter,
    RidgeMixtureTargets,
)
from numerai_features.compose import (
    AugmentedClassifier,
    AugmentedRegressor,
    EraBlend,
    EraBoostedRegressor,
    EraNeutralizer,
    EraRanker,
    FamiliarityShrinker,
    LatentFeatures,
    PanelLGBMRegressor,
    PanelXGBRegressor,
    ResidualTargetRegressor,
)
from numerai_features.embedders import (
    ContrastiveEmbedder,
    DAEEmbedder,
    EraAutoencoder,
    EraMLP,
    EraRegimes,
    EraStatistics,
    EraTransformer,
    FactorAnalysisEmbedder,
    MaskedAutoencoder,
    SequenceDAE,
    SupervisedAEMLP,
    UMAPEmbedder,
)
from numerai_features.moments import EraMoments, Moments
from numerai_features.trees import make_lightgbm, make_xgboost

pytestmark = pytest.mark.filterwarnings("ignore:benchmark is None:UserWarning")

LITTLE = {"width": 8, "n_heads": 2, "n_layers": 1, "max_epochs": 2, "random_state": 0}
N_ROWS, N_FEATURES = 120, 6
RNG = np.random.default_rng(0)
# Without ties, and exact in float32.
ROWS = (
    (
        (RNG.standard_normal((N_ROWS, 2)) @ RNG.standard_normal((2, N_FEATURES)))
        + RNG.standard_normal((N_ROWS, N_FEATURES))
    )
    .astype(np.float32)
    .astype(np.float64)
)
ERAS = np.repeat(np.arange(1, 7), N_ROWS // 6)
Y = np.clip(np.rint(2 + ROWS[:, 0]), 0, 4) / 4
UMAP = {"n_neighbors": 4, "batch_size": 32, **FAST, "max_epochs": 1}
DAE = DAEEmbedder(3, **FAST)
NETWORKS = [
    DAE,
    DAEEmbedder(3, noise="gaussian", output="deep", **FAST),
    SupervisedAEMLP(3, **NARROW, **FAST),
    EraMLP(validation=0.1, **FAST),
    EraMLP(loss="mse", feature_dropout=0.2, validation=0.1, **FAST),
    ContrastiveEmbedder(3, vime_weight=1, **FAST),
    EraAutoencoder(3, **FEW_UNITS),
    EraTransformer(3, **LITTLE),
    EraTransformer(2, tokens="features", n_groups=3, loss="corr", **LITTLE),
    MaskedAutoencoder(3, loss="bins", **FAST),
    MaskedAutoencoder(3, target_aware=True, **FAST),
    SequenceDAE(3, hidden=6, max_epochs=2, random_state=0),
    SequenceDAE(3, cell="rnn", noise="gaussian", hidden=6, max_epochs=2,
                random_state=0),
    CellRestorer(3, max_epochs=2, random_state=0),
]  # fmt: skip
UMAPS = [
    UMAPEmbedder(2, **UMAP),
    UMAPEmbedder(2, reduce="factor", reconstruction_weight=1.0, **UMAP),
    UMAPEmbedder(2, reduce=None, metric="correlation", **UMAP),
]
FACTORS = [
    FactorAnalysisEmbedder(2),
    FactorAnalysisEmbedder(2, rotation="varimax"),
    FactorAnalysisEmbedder(2, center="era"),
    LatentFeatures(FactorAnalysisEmbedder(2), passthrough=False),
    LatentFeatures(FactorAnalysisEmbedder(2), passthrough=False, quantize="uint8"),
]
REGIMES = EraRegimes(2, n_axes=3, hidden=4, max_epochs=2, random_state=0)
EMBEDDERS = [*NETWORKS, *UMAPS, *FACTORS]
MIXTURE = RidgeMixtureTargets(n_factors=2, random_state=0)
AUGMENTERS = [
    BalanceAugmenter(0.6, random_state=0),
    ComposeAugmenters([CutoutAugmenter(random_state=0)]),
    CutoutAugmenter(random_state=0),
    DreamAugmenter(DAE, copies=0.5, random_state=0),
    EraMixupAugmenter(alpha=0.4, among="all", random_state=0),
    GaussianNoiseAugmenter(random_state=0),
    MIXTURE,
]
AUGMENTED = [
    AugmentedClassifier(LogisticRegression(), CutoutAugmenter(random_state=0)),
    AugmentedRegressor(Ridge(), CutoutAugmenter(random_state=0)),
]
REGRESSORS = [
    EraBlend([("weak", Ridge()), ("strong", Ridge(100))]),
    EraBoostedRegressor(GradientBoostingRegressor(n_estimators=2), n_rounds=2),
    EraNeutralizer(Ridge(), proportion=0.5),
    EraRanker(Ridge()),
    FamiliarityShrinker(Ridge(), DAE),
    PanelLGBMRegressor(make_lightgbm(device="cpu", n_estimators=2, n_jobs=1)),
    PanelXGBRegressor(make_xgboost(device="cpu", n_estimators=2, n_jobs=1)),
    ResidualTargetRegressor(Ridge()),
]
EVERY = [*EMBEDDERS, REGIMES, EraStatistics(), *AUGMENTERS, *AUGMENTED, *REGRESSORS]


def name_of(estimator):
    return f"{type(estimator).__name__}{EVERY.index(estimator)}"


each_embedder = pytest.mark.parametrize("estimator", EMBEDDERS, ids=name_of)
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def test_every_class_that_reads_rows_is_here():
    read = {n for n, cls in public_classes().items() if not hasattr(cls, "split")}
    assert read - {"EraScorer"} == {type(e).__name__ for e in EVERY} - {"CellRestorer"}


def fit(estimator, X, y=Y, eras=ERAS):
    estimator = clone(estimator)
    if isinstance(estimator, AugmentedClassifier):
        y = y > 0.5
    if hasattr(estimator, "fit_resample"):
        return estimator.fit_resample(X, y, eras=eras)
    return estimator.fit(X, y, eras=eras)


def latents(estimator, X, y=Y):
    return fit(estimator, X, y).transform(X, eras=ERAS)


@pytest.fixture(scope="module")
def ordinary():
    """Latents of each embedder at ordinary scale."""
    known = {}

    def of(estimator):
        if repr(estimator) not in known:
            known[repr(estimator)] = latents(estimator, ROWS)
        return known[repr(estimator)]

    return of


def assert_near(found, expected, tolerance=0.01):
    assert found.shape == expected.shape
    off = np.abs(found.astype(float) - expected.astype(float))
    # A row at an edge falls into the next bin.
    assert np.quantile(off, 0.99) < tolerance * expected.std() + (
        expected.dtype.kind != "f"
    )


@each_embedder
class TestEmbedders:
    @pytest.mark.parametrize(
        ("scale", "dtype"),
        [(1e30, np.float32), (1e-30, np.float32), (1e30, np.float64)],
    )
    def test_the_scale_of_all_columns_does_not_matter(
        self, estimator, ordinary, scale, dtype
    ):
        X = (ROWS * scale).astype(dtype)
        assert_near(latents(estimator, X), ordinary(estimator))

    def test_a_large_mean_does_not_matter(self, estimator, ordinary):
        assert_near(latents(estimator, ROWS + 1e12), ordinary(estimator), 0.2)

    def test_a_constant_column_does_not_matter_however_large(self, estimator):
        if getattr(estimator, "metric", "") == "correlation":
            pytest.skip("cells of a row are compared with each other")
        X = ROWS.copy()
        X[:, 3] = 0
        expected = latents(estimator, X)
        X[:, 3] = 1e30
        assert_near(latents(estimator, X), expected)
        X[:, 3] = np.nan
        assert np.isfinite(latents(estimator, X)).all()

    def test_whole_numbers_that_are_wide(self, estimator):
        X = np.rint(ROWS * 1e5)
        expected = latents(estimator, X + 1e9)
        assert_near(latents(estimator, X.astype(np.int64) + 10**9), expected)

    @pytest.mark.parametrize("X", [ROWS[:, :0].sum(1) + 1, np.full(N_ROWS, np.nan)])
    def test_rows_that_do_not_vary(self, estimator, X):
        X = np.repeat(X[:, None], 4, axis=1)
        with pytest.raises(ValueError, match="X is constant in all 4 columns"):
            fit(estimator, X)

    @each_dtype
    @pytest.mark.parametrize("scale", [1e-36, 1e-300, 1e-320])
    def test_columns_that_vary_by_too_little(self, estimator, dtype, scale):
        X = (ROWS * scale).astype(dtype)
        if not X.any():
            pytest.skip("zero in this type")
        with pytest.raises(ValueError, match=r"X runs from .* in column 0; .*Multiply"):
            fit(estimator, X)

    def test_one_column_that_varies_by_too_little(self, estimator):
        X = ROWS.copy()
        X[:, 2] *= 1e-300
        with pytest.raises(ValueError, match=r"X runs from .* in column 2; expected a"):
            fit(estimator, X)

    @each_dtype
    def test_rows_off_the_fitted_scale(self, estimator, dtype):
        fitted = fit(estimator, (ROWS * 1e-30).astype(dtype))
        near = fitted.transform(ROWS.astype(dtype), eras=ERAS)
        assert np.isfinite(near).all()
        X = (ROWS * 1e30).astype(dtype)
        bounded = CellRestorer | EraAutoencoder | EraTransformer | SequenceDAE
        if isinstance(estimator, bounded):
            assert np.isfinite(fitted.transform(X, eras=ERAS)).all()
        else:
            with pytest.raises(ValueError, match=r"X.* in row 0, .*"):
                fitted.transform(X, eras=ERAS)

    def test_one_hot_columns(self, estimator):
        X = np.eye(N_FEATURES)[np.arange(N_ROWS) % N_FEATURES]
        assert np.isfinite(latents(estimator, X * 1e30)).all()


@pytest.mark.parametrize("estimator", EVERY, ids=name_of)
class TestEverything:
    @pytest.mark.parametrize("size", [1e36, 1e300])
    def test_cells_that_are_too_large(self, estimator, size):
        with pytest.raises(
            ValueError, match=r"X holds .* in row 0, column 0; .*Divide"
        ):
            fit(estimator, ROWS * size)

    @each_dtype
    def test_the_largest_numbers_there_are(self, estimator, dtype):
        X = np.sign(ROWS).astype(dtype) * np.finfo(dtype).max
        with pytest.raises(
            ValueError, match=r"X holds .* in row 0, column 0; .*Divide"
        ):
            fit(estimator, X)

    def test_one_cell_that_is_too_large(self, estimator):
        X = ROWS.copy()
        X[4, 1], X[5, 5] = -1e200, np.nan
        with pytest.raises(ValueError, match=r"X holds -1e\+200 in row 4, column 1;"):
            fit(estimator, X)
        used = "predict" if estimator in REGRESSORS else "transform"
        if hasattr(estimator, used):
            fitted = clone(estimator).fit(ROWS, Y, eras=ERAS)
            with pytest.raises(
                ValueError, match=r"X holds -1e\+200 in row 4, column 1;"
            ):
                getattr(fitted, used)(X, eras=ERAS)


class TestWhatStandsBehind:
    def test_targets_at_the_ends(self):
        for estimator in (SupervisedAEMLP(3, **NARROW, **FAST), MIXTURE):
            with pytest.raises(
                ValueError, match=r"y holds .*e\+299 in row .*, column 0;"
            ):
                fit(estimator, ROWS, Y * 9e299)
            with pytest.raises(
                ValueError, match=r"y runs from -?0 to 1e-300 in column 0"
            ):
                fit(estimator, ROWS, Y * 1e-300)

    def test_new_targets_do_not_depend_on_the_scale_of_columns(self):
        expected = fit(MIXTURE, ROWS).y
        for scale in (1e30, 1e-30):
            np.testing.assert_array_equal(fit(MIXTURE, ROWS * scale).y, expected)
        with pytest.raises(ValueError, match="X is constant within eras in all 6 col"):
            fit(MIXTURE, ERAS[:, None] + np.zeros(6))

    def test_dreams_of_columns_without_a_cell(self):
        X = ROWS.copy()
        X[:, 2] = np.nan
        dreams = fit(DreamAugmenter(DAE, copies=0.5, random_state=0), X).X[N_ROWS:]
        assert (np.isnan(dreams) == (np.arange(N_FEATURES) == 2)).all()

    @pytest.mark.parametrize("weight", [1e-300, 1e300])
    @pytest.mark.parametrize("estimator", [DAE, FactorAnalysisEmbedder(2)])
    def test_weights_at_the_ends(self, estimator, weight):
        weights = np.full(N_ROWS, weight)
        with pytest.raises(
            ValueError, match=r"The largest sample_weight is 1e[+-]300; exp"
        ):
            clone(estimator).fit(ROWS, sample_weight=weights)

    def test_moments(self):
        for scale in (1e30, 1e-30):
            covariance = Moments.from_rows(ROWS * scale).covariance() / scale**2
            np.testing.assert_allclose(covariance, np.cov(ROWS.T, bias=True))
        for make in (Moments.from_rows, lambda X: EraMoments.from_rows(X, ERAS)):
            with pytest.raises(ValueError, match="X holds 1e"):
                make(ROWS / ROWS[0, 0] * 1e300)
            with pytest.raises(ValueError, match="X runs from"):
                make(ROWS * 1e-300)

    def test_rows_held_out_that_are_not_on_the_scale(self):
        X = ROWS.copy()
        X[-1, 3] = 1e30
        for net in NETWORKS:
            with pytest.raises(
                ValueError, match=r"X runs .* to 1e\+30 in column 3, but"
            ):
                fit(net, X)

    def test_rows_to_train_on_further_that_are_not_on_the_scale(self):
        fitted = fit(DAE, ROWS)
        with pytest.raises(ValueError, match=r"X runs from .* in column 0, but where"):
            fitted.partial_fit(ROWS * 1e30, eras=ERAS)
        for X in (ROWS * 1e-30, ROWS * 0):
            with pytest.raises(
                ValueError, match="X is constant in all 6 columns, on the"
            ):
                fitted.partial_fit(X, eras=ERAS)
        fitted.partial_fit(ROWS, eras=ERAS)

    def test_familiarity_and_what_is_restored(self):
        known = fit(DAE, ROWS)
        for X in (ROWS * 1e30, ROWS * 1e-30, ROWS + 1e12):
            net = fit(DAE, X)
            np.testing.assert_allclose(
                net.score_samples(X), known.score_samples(ROWS), atol=0.01
            )
        net = fit(DAE, ROWS * 1e30)
        restored = net.reconstruct(ROWS * 1e30)
        np.testing.assert_allclose(restored / 1e30, known.reconstruct(ROWS), atol=1e-3)
        assert np.isfinite(known.score_samples(ROWS * 1e30)).all()
        with pytest.raises(ValueError, match=r"X reaches 1e\+20 in row 0, so far from"):
            net.inverse_transform(np.full((2, 3), 1e20))

    def test_a_column_that_was_constant_says_nothing_later(self):
        X, later = ROWS.copy(), ROWS.copy()
        X[:, 2], later[:, 2] = 5, 1e6
        net = fit(DAE, X)
        np.testing.assert_array_equal(net.transform(later), net.transform(X))

    def test_neighbours_that_one_row_or_column_hides(self):
        for metric, X in (("euclidean", ROWS.copy()), ("correlation", ROWS.copy())):
            X[0 if metric == "euclidean" else slice(None), 3] = 1e30
            net = UMAPEmbedder(2, metric=metric, reduce=None, **UMAP)
            with pytest.raises(ValueError, match=f"X: by metric='{metric}' most rows"):
                fit(net, X)

    def test_rows_that_come_often_are_neighbours(self):
        X = np.repeat(ROWS[::10], 10, axis=0)
        assert np.isfinite(latents(UMAPEmbedder(2, **UMAP), X)).all()

    def test_originals_that_float32_does_not_tell_apart(self):
        features = LatentFeatures(FactorAnalysisEmbedder(1))
        for X in (ROWS + 1e12, np.rint(ROWS * 10).astype(np.int64) + 10**12):
            with pytest.raises(
                ValueError, match=r"in column 0, which float32 does not"
            ):
                fit(features, X)
        assert fit(features, ROWS + 100).transform(ROWS).shape == (N_ROWS, 7)

    def test_an_embedder_of_anyones_that_returns_infinity(self):
        class Endless(FactorAnalysisEmbedder):
            def transform(self, X, *, eras=None):
                return np.where(np.arange(len(X)) == 7, np.inf, 0.0)[:, None]

        features = fit(LatentFeatures(Endless(1)), ROWS)
        with pytest.raises(ValueError, match="'endless' returned infinity in row 7"):
            features.transform(ROWS)
