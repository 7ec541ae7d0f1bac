"""What can be exported, and how all else is refused."""

import importlib
import inspect

import numpy as np
import pytest
from export_parts import (
    FAST,
    FRAME,
    NAMES,
    WIDE,
    Y,
    beside,
    boosted,
    live_frame,
    trees,
)
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import RandomForestRegressor, StackingRegressor, VotingRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import ElasticNet, LinearRegression, Ridge
from sklearn.neighbors import KernelDensity
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from numerai_features import (
    AugmentedRegressor,
    CutoutAugmenter,
    DAEEmbedder,
    EraBlend,
    EraMLP,
    EraNeutralizer,
    EraRanker,
    EraStatistics,
    FactorAnalysisEmbedder,
    FamiliarityShrinker,
    LatentFeatures,
    SupervisedAEMLP,
    compose,
    embedders,
    export_predict,
)
from numerai_features.encoders import Encoder
from numerai_features.export import _runtime
from numerai_features.export._images import IMAGES
from numerai_features.export._model import TABLES, model_data
from numerai_features.export._place import key_of

IMAGE = IMAGES["3.13"]
NOT_EXPORTED = {
    compose.AugmentedClassifier: "Numerai's targets are numbers",
    embedders.LatentMapDisplay: "a figure",
}


def test_every_public_estimator_can_be_exported():
    missing = []
    for room in ("compose", "embedders"):
        module = importlib.import_module(f"numerai_features.{room}")
        for cls in filter(inspect.isclass, map(vars(module).get, module.__all__)):
            key = key_of(cls)
            told = cls in NOT_EXPORTED
            told |= not hasattr(cls, "predict") or key in TABLES.models
            told &= not hasattr(cls, "transform") or key in TABLES.transformers
            missing += [] if told else [key]
    assert missing == []


# Kinds that no estimator becomes; tests/experiment/test_fitted_model.py has them.
OF_EXPERIMENTS = {"beside", "fill"}


def test_each_kind_of_node_is_known_to_the_runtime_and_in_the_tests(fitted):
    seen = set()

    def walk(node):
        if isinstance(node, dict):
            seen.add(node.get("kind"))
            for part in node.values():
                walk(part)
        elif isinstance(node, list):
            for part in node:
                walk(part)

    for name, pipeline in fitted.items():
        benchmark = "v1" if name == "neutral_blend" else None
        walk(model_data(pipeline, IMAGE, benchmark=benchmark))
        walk(model_data(pipeline, IMAGE, benchmark=benchmark, trees="numpy"))
    known = {*_runtime._TRANSFORMS, *_runtime._PREDICTORS, *_runtime._SCORES}
    assert seen - {None} == known - OF_EXPERIMENTS


# --- refused -------------------------------------------------------------------------


class Double(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        return 2 * np.asarray(X)

    def get_feature_names_out(self, names=None):
        return np.asarray(names)


class OtherRidge(Ridge):
    def predict(self, X):
        return -super().predict(X)


class SameRidge(Ridge):
    def more(self):
        return 1


class OddStep:
    def __call__(self, x, xp):
        return x

    def n_out(self, n_in):
        return n_in


TWO = [("ridge", Ridge()), ("forest", RandomForestRegressor(2))]
REFUSED = {
    "a step": (
        make_pipeline(LatentFeatures(), Double(), Ridge()),
        r"pipeline \(step 'double'\): Double cannot be exported as a transformer.*PCA",
    ),
    "an embedder": (
        beside(Ridge(), [("fa", FactorAnalysisEmbedder(1)), ("svd", TruncatedSVD(1))]),
        r"\(step 'latentfeatures' > embedder 'svd'\): TruncatedSVD .* Use PCA instead",
    ),
    "a model": (
        beside(RandomForestRegressor(2)),
        r"\(step 'randomforestregressor'\).*Use make_lightgbm or make_xgboost instead",
    ),
    "in a blend": (
        EraBlend(TWO),
        r"\(regressor 'forest'\): RandomForestRegressor cannot be exported as a model",
    ),
    "in a vote": (beside(VotingRegressor(TWO)), "> estimator 'forest'"),
    "in a stack": (
        beside(StackingRegressor(TWO[:1], MLPRegressor(max_iter=1000))),
        "> final_estimator_.*Use EraMLP or SupervisedAEMLP",
    ),
    "in a union": (
        beside(make_pipeline(FeatureUnion([("d", Double())]), Ridge())),
        "> step 'featureunion' > part 'd'",
    ),
    "an autoencoder": (
        FamiliarityShrinker(Ridge(), KernelDensity()),
        r"\(autoencoder\): KernelDensity cannot be exported as an autoencoder",
    ),
    "an autoencoder by era": (
        FamiliarityShrinker(
            Ridge(), FactorAnalysisEmbedder(1, center="era"),
        ),
        "center='all'",
    ),
    "a function": (
        beside(make_pipeline(FunctionTransformer(np.abs), Ridge())),
        "FunctionTransformer has a func",
    ),
    "a subclass that predicts otherwise": (
        beside(OtherRidge()),
        "OtherRidge is a Ridge with a predict of its own",
    ),
    "two targets": (LinearRegression(), "pipeline predicts 2 targets"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_exported_is_refused_by_its_place(kind, tmp_path):
    pipeline, message = REFUSED[kind]
    by_era = "autoencoder" in kind or "blend" in kind
    y = np.column_stack([Y, Y]) if kind == "two targets" else Y
    table = FRAME if by_era or hasattr(pipeline, "steps") else FRAME[NAMES]
    if kind == "an autoencoder by era":
        table = FRAME[NAMES]
    pipeline.fit(table, y)
    with pytest.raises((TypeError, ValueError), match=message):
        export_predict(pipeline, tmp_path / "model.pkl")


def test_a_subclass_that_predicts_the_same_is_exported():
    model_data(SameRidge().fit(FRAME[NAMES], Y), IMAGE)


def test_an_encoder_of_other_steps_is_refused():
    model = EraMLP(**FAST).fit(FRAME, Y)
    model.predictor_ = Encoder([*model.predictor_.steps, ("odd", OddStep())])
    with pytest.raises(TypeError, match=r"\(step 'odd'\): OddStep is not a step of"):
        model_data(model, IMAGE)


def test_eras_that_became_a_feature_are_refused():
    numbered = FRAME.assign(era=FRAME["era"].astype(int))
    with pytest.raises(ValueError, match="pipeline was fitted to the column 'era' as"):
        model_data(Ridge().fit(numbered, Y), IMAGE)
    leaky = make_pipeline(LatentFeatures(keep_era=True), Ridge()).fit(FRAME, Y)
    with pytest.raises(ValueError, match=r"step 'ridge'\): Ridge was fitted to other"):
        model_data(leaky, IMAGE)


def test_what_is_not_fitted_is_refused():
    with pytest.raises(NotFittedError):
        model_data(beside(Ridge()), IMAGE, feature_names=NAMES)


ARGUMENTS = {
    "no names": ({"given": FRAME[NAMES].to_numpy()}, "feature_names is None"),
    "other names": (
        {"feature_names": NAMES[::-1]},
        "feature_names must be the 12 names that the pipeline was fitted to",
    ),
    "too few names": (
        {"given": FRAME[NAMES].to_numpy(), "feature_names": NAMES[1:]},
        "Ridge was fitted to 12 columns, but 11 reach it",
    ),
    "a name twice": ({"neutralize": ["a", "a"]}, "neutralize has 'a' more than once"),
    "no features": ({"neutralize": []}, "neutralize must be a list of names"),
    "not names": ({"neutralize": [1]}, "neutralize must be a list of names"),
    "no benchmark": ({"neutralize": "benchmark"}, "benchmark is None, but the pred"),
    "a benchmark": ({"benchmark": "v1"}, "benchmark='v1' is not used"),
    "proportion": ({"proportion": 0.5}, "proportion=0.5 has no effect"),
    "no name": ({"name": ""}, "name is empty"),
    "an image": ({"image": "3.9"}, "image"),
}


@pytest.mark.parametrize("kind", ARGUMENTS)
def test_arguments_that_make_no_sense_are_refused(kind, tmp_path):
    options, message = ARGUMENTS[kind]
    given = options.get("given", FRAME[NAMES])
    options = {name: value for name, value in options.items() if name != "given"}
    model = Ridge().fit(given, Y)
    with pytest.raises(ValueError, match=message):
        export_predict(model, tmp_path / "model.pkl", **options)


def test_parameters_that_were_changed_after_the_fit_do_not_count():
    model = EraRanker(Ridge(), output="gauss").fit(FRAME, Y)
    latents = beside(Ridge(), quantize="uint8").fit(FRAME, Y)
    before = [model_data(one, IMAGE) for one in (model, latents)]
    model.set_params(output="rank")
    latents[0].set_params(quantize=None, passthrough=False)
    assert [model_data(one, IMAGE) for one in (model, latents)] == before


# --- any pipeline ---------------------------------------------------------------------


def drawn(rng):
    """Return a pipeline drawn from the parts."""

    def one(*choices):
        return choices[rng.integers(len(choices))]()

    def embedder():
        return one(
            lambda: FactorAnalysisEmbedder(2, center=str(rng.choice(["all", "era"]))),
            lambda: FactorAnalysisEmbedder(1, rotation="varimax"),
            lambda: DAEEmbedder(2, n_models=int(rng.integers(1, 3)), **FAST),
            lambda: EraStatistics(statistics=["std"]),
            lambda: EraMLP(**FAST),
            lambda: make_pipeline(StandardScaler(), PCA(1)),
            lambda: TruncatedSVD(2),
        )

    def model():
        return one(
            Ridge, LinearRegression, trees, boosted,
            lambda: ElasticNet(0.001),
            lambda: SupervisedAEMLP(2, hidden=(6,), validation=None, **WIDE),
            lambda: VotingRegressor([("a", Ridge()), ("b", trees())]),
            lambda: make_pipeline(StandardScaler(), Ridge()),
            lambda: RandomForestRegressor(2, random_state=0),
        )  # fmt: skip

    def pipeline():
        n = int(rng.integers(0, 3))
        parts = [(f"e{i}", embedder()) for i in range(n)] or None
        quantize = one(lambda: None, lambda: "int8", lambda: "uint8")
        features = LatentFeatures(parts, quantize=quantize)
        if parts:
            features.set_params(passthrough=bool(rng.integers(2)))
        return make_pipeline(features, model())

    return one(
        pipeline, pipeline, pipeline,
        lambda: EraRanker(pipeline(), output="gauss", keep_era=True),
        lambda: EraBlend([("a", pipeline()), ("b", pipeline())], keep_era=True),
        lambda: EraNeutralizer(pipeline(), proportion=0.5, keep_era=True),
        lambda: AugmentedRegressor(pipeline(), CutoutAugmenter(), keep_era=True),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(40))
def test_pipelines_drawn_at_random_are_exported_exactly_or_refused(seed):
    pipeline = drawn(np.random.default_rng(seed)).fit(FRAME, Y)
    if any(kind in str(pipeline.get_params()) for kind in ("SVD", "Forest")):
        with pytest.raises(TypeError, match=r"(SVD|Forest).* cannot be exported as a"):
            model_data(pipeline, IMAGE)
        return
    data = model_data(pipeline, IMAGE)
    live = live_frame(90, [*"123"] * 30, seed=seed)
    found = _runtime.raw_predictions(data, live)
    np.testing.assert_allclose(found, pipeline.predict(live), rtol=0, atol=1e-6)
