"""What every public class must keep: scikit-learn's contract, and our own."""

import contextlib
import copy
import dataclasses
import importlib
import importlib.util
import inspect
import pickle
import random
import sys
import types
import warnings
from functools import partial
from pathlib import Path
from typing import ClassVar

import joblib
import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import sklearn
import torch
from numpydoc.docscrape import ClassDoc
from scipy import sparse
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.feature_selection import SelectKBest
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import PredefinedSplit, ShuffleSplit
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils import estimator_checks, get_tags
from sklearn.utils.estimator_checks import check_estimator

import numerai_features
from numerai_features._fitted import components
from numerai_features.augmenters import (
    BalanceAugmenter,
    ComposeAugmenters,
    CutoutAugmenter,
    DreamAugmenter,
    EraMixupAugmenter,
    GaussianNoiseAugmenter,
    RidgeMixtureTargets,
    check_augmenter,
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
    fit_blend_weights,
    neutralize_by_era,
    rank_by_era,
)
from numerai_features.compose._era_regressor import EraRegressor
from numerai_features.datasets import make_era_panel
from numerai_features.embedders import (
    ContrastiveEmbedder,
    DAEEmbedder,
    EraAutoencoder,
    EraMLP,
    EraRegimes,
    EraStatistics,
    EraTransformer,
    FactorAnalysisEmbedder,
    LatentMapDisplay,
    MaskedAutoencoder,
    ReconstructionDisplay,
    SequenceDAE,
    SupervisedAEMLP,
    UMAPEmbedder,
)
from numerai_features.embedders._network import NetworkEmbedder
from numerai_features.embedders._training_parameters import TrainingParameters
from numerai_features.metrics import (
    EraScorer,
    era_scores,
    expected_scores,
    make_era_scorer,
    summarize,
)
from numerai_features.model_selection import (
    CombinatorialPurgedEraCV,
    EraHoldout,
    EraKFold,
    EraSplitDisplay,
    EraWalkForward,
    RepeatedEraKFold,
    check_fitted_eras,
    check_splits,
    cross_val_predict_eras,
    measure_leakage,
)
from numerai_features.moments import EraMoments
from numerai_features.trees import make_lightgbm, make_xgboost, tree_table

pytestmark = [
    pytest.mark.filterwarnings("ignore:benchmark is None:UserWarning"),
    pytest.mark.filterwarnings("ignore:EraBoostedRegressor chooses:UserWarning"),
]


def own_embedder():
    """Return the embedder that the guide shows how to write."""
    file = Path(__file__).parents[1] / "examples" / "own_embedder.py"
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = sys.modules[file.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.CellRestorer


CellRestorer = own_embedder()
FAST = {"hidden": (8,), "max_epochs": 2, "random_state": 0}
SMALL = {"hidden": (4,), "max_epochs": 1, "random_state": 0}
DAES = [
    DAEEmbedder(**FAST),
    DAEEmbedder(output="deep", n_models=2, batching="era", mask_head=True, **FAST),
]
NARROW = {"decoder_units": 6, "dropout": (0.1,) * 4}
SUPERVISED = [
    SupervisedAEMLP(5, **NARROW, **FAST),
    SupervisedAEMLP(
        5, n_models=2, ema_decay=0.9, schedule="one-cycle", **NARROW, **FAST
    ),
]
PERCEPTRONS = [
    EraMLP(**FAST),
    EraMLP(
        loss="mse", n_models=2, feature_dropout=0.2, dropout=0.1, validation=0.3,
        eras_per_batch=2, **FAST,
    ),
]  # fmt: skip
UMAPS = [
    UMAPEmbedder(2, n_neighbors=4, batch_size=64, **FAST),
    UMAPEmbedder(
        3, n_neighbors=5, neighbors="era", metric="correlation", n_landmarks=120,
        reduce=None, reconstruction_weight=1.0, batch_size=64, **FAST,
    ),
]  # fmt: skip
OWN = [
    CellRestorer(3, max_epochs=2, random_state=0),
    CellRestorer(2, n_models=2, batching="era", max_epochs=2, random_state=0),
]
MASKED = [
    MaskedAutoencoder(loss="bins", **FAST),
    MaskedAutoencoder(target_aware=True, n_models=2, **FAST),
]
LITTLE = {"width": 8, "n_heads": 2, "n_layers": 1, "max_epochs": 2, "random_state": 0}
ATTENTIVE = [
    EraTransformer(2, **LITTLE),
    EraTransformer(
        1, tokens="features", n_groups=3, attention="full", loss="corr", dropout=0,
        eras_per_batch=2, orthogonality=0.1, validation=None, **LITTLE,
    ),
]  # fmt: skip
FEW_UNITS = {"random_units": (4, 6), **FAST}
SEQUENCES = [
    SequenceDAE(3, hidden=6, max_epochs=2, random_state=0),
    SequenceDAE(
        2, cell="rnn", hidden=5, noise="masking", n_models=2, max_epochs=2,
        random_state=0,
    ),
]  # fmt: skip
FEW_STEPS = {"n_steps": 3, "hidden": 4, "max_epochs": 2, "random_state": 0}
PLACED = [  # which cannot be fitted without eras
    EraAutoencoder(3, output="both", **FEW_UNITS),
    EraAutoencoder(2, output="argmax", n_models=2, ema_decay=0.9, **FEW_UNITS),
    ContrastiveEmbedder(3, negatives="era", vime_weight=0.5, n_models=2, **FAST),
    EraRegimes(2, n_axes=3, **FEW_STEPS),
    EraRegimes(1, features=[3, 0, 4], statistics=["std"], n_models=2, **FEW_STEPS),
]
TRANSFORMERS = [
    *DAES,
    *SUPERVISED,
    *PERCEPTRONS,
    *UMAPS,
    *MASKED,
    *ATTENTIVE,
    *SEQUENCES,
    EraAutoencoder(n_positions=None, **FEW_UNITS),
    ContrastiveEmbedder(**FAST),
    *PLACED,
    *OWN,
    FactorAnalysisEmbedder(),
    FactorAnalysisEmbedder(rotation="varimax"),
    FactorAnalysisEmbedder(center="era"),
    EraStatistics(),
    EraStatistics([0], statistics=["std"]),
    LatentFeatures(),
    LatentFeatures(FactorAnalysisEmbedder(1)),
    LatentFeatures(
        [("one", FactorAnalysisEmbedder(1)), ("all", FactorAnalysisEmbedder())]
    ),
    LatentFeatures(FactorAnalysisEmbedder(1), passthrough=False, quantize="uint8"),
]
AUGMENTERS = [
    BalanceAugmenter(0.6, random_state=0),
    ComposeAugmenters(
        [CutoutAugmenter(random_state=0), EraMixupAugmenter(random_state=0)]
    ),
    ComposeAugmenters(
        [GaussianNoiseAugmenter(random_state=0), CutoutAugmenter(random_state=0)],
        order="chain",
    ),
    CutoutAugmenter(random_state=0),
    CutoutAugmenter(0.5, copies=1.5, per="row", random_state=0),
    DreamAugmenter(DAEEmbedder(3, **FAST), copies=0.5, random_state=0),
    EraMixupAugmenter(random_state=0),
    EraMixupAugmenter(alpha=0.4, among="all", copies=0.5, random_state=0),
    GaussianNoiseAugmenter(random_state=0),
    GaussianNoiseAugmenter(0.5, bins="rank", random_state=0),
    RidgeMixtureTargets(random_state=0),
    RidgeMixtureTargets(1.5, n_regimes=1, random_state=0),
    RidgeMixtureTargets(0, synthetic_eras=2, random_state=0),
]
# Cells are set to 0: the median, which they are set to else, knows no weights.
AUGMENTED = [
    AugmentedClassifier(
        LogisticRegression(max_iter=1000), CutoutAugmenter(value=0, random_state=0)
    ),
    AugmentedRegressor(Ridge(), CutoutAugmenter(value=0, random_state=0)),
]
# Regressors around others, that know the eras of their rows.
BLENDED = [("ridge", Ridge()), ("tree", DecisionTreeRegressor(random_state=0))]
DENSITY = KernelDensity(bandwidth=3)
FEW_TREES = GradientBoostingRegressor(n_estimators=3, random_state=0)
FEW = {"device": "cpu", "n_estimators": 3, "n_jobs": 1, "random_state": 0}
LGBM, XGB = make_lightgbm(**FEW, min_child_samples=1), make_xgboost(**FEW)
ERA_REGRESSORS = [
    EraRanker(Ridge()),
    EraBlend(BLENDED),
    EraBoostedRegressor(FEW_TREES, n_rounds=3),
    FamiliarityShrinker(Ridge(), DAEEmbedder(1, **SMALL)),
    EraNeutralizer(DecisionTreeRegressor(max_depth=3, random_state=0)),
    ResidualTargetRegressor(Ridge()),
    PanelLGBMRegressor(LGBM),
    PanelXGBRegressor(XGB),
]
SPLITTERS = [
    CombinatorialPurgedEraCV(),
    EraHoldout(),
    EraKFold(),
    EraWalkForward(),
    RepeatedEraKFold(),
]
BINNED = LatentFeatures(PCA(1), quantize="uint8", n_bins=2, passthrough=False)
BESIDE_A_NETWORK = LatentFeatures([("pca", PCA(1)), ("dae", DAEEmbedder(1, **SMALL))])
MIXED = AugmentedRegressor(
    DecisionTreeRegressor(random_state=0), EraMixupAugmenter(random_state=0)
)
PIPELINE = AugmentedRegressor(
    make_pipeline(LatentFeatures(PCA(1)), DecisionTreeRegressor(random_state=0)),
    GaussianNoiseAugmenter(0.1, random_state=0),
)
BESIDE_TREE = make_pipeline(
    LatentFeatures(PCA(1)), DecisionTreeRegressor(random_state=0)
)
RANKED_PIPELINE = EraRanker(BESIDE_TREE, keep_era=True)
RESIDUAL_PIPELINE = ResidualTargetRegressor(BESIDE_TREE, 0.5, keep_era=True)
# Two further sets of parameters, which take other branches, for scikit-learn's checks.
FURTHER = [
    DAEEmbedder(
        2, noise="masking", emphasis=0.5, batching="era", missing="raise",
        activation="relu", ema_decay=0.9, schedule="constant", **SMALL,
    ),
    DAEEmbedder(
        1, noise="gaussian", noise_level=0.3, output="deep", n_models=2,
        validation=None, dropout=0.1, clip_norm=1.0, weight_decay=0.01, **SMALL,
    ),
    SupervisedAEMLP(
        2, validation=None, loss_weights=(0.5, 1.0, 2.0), batch_size=32,
        activation="tanh", clip_norm=1.0, **NARROW, **SMALL,
    ),
    SupervisedAEMLP(
        3, validation=ShuffleSplit(1, test_size=0.2, random_state=0), patience=None,
        n_models=2, missing="raise", noise_level=0, weight_decay=0.01, **NARROW,
        **SMALL,
    ),
    EraMLP(
        loss="numerai_corr", activation="silu", validation=0.2, monitor="valid_loss",
        ema_decay=0.9, **SMALL,
    ),
    EraMLP(loss="mae", n_models=2, missing="raise", weight_decay=0.01, **SMALL),
    UMAPEmbedder(  # of 60 latents and 15 neighbours, whatever the rows
        metric="cosine", target_weight=0.5, validation=None,
        batch_size=64, ema_decay=None, **SMALL,
    ),
    UMAPEmbedder(
        1, n_neighbors=3, min_dist=0.2, reduce="factor", missing="raise",
        validation=0.3, reconstruction_weight=0.5, batch_size=64, clip_norm=None,
        **SMALL,
    ),
    MaskedAutoencoder(
        2, loss="bins", mask_share=0.5, dropout=0.1, batching="era", missing="raise",
        activation="tanh", **SMALL,
    ),
    ContrastiveEmbedder(
        2, activation="silu", head_units=5, noise_level=0.3, temperature=1,
        vime_weight=1, missing="raise", **SMALL,
    ),
    ContrastiveEmbedder(1, validation=None, n_models=2, batch_size=32, **SMALL),
    EraAutoencoder(
        2, n_positions=None, output="both", activation="silu", feature_dropout=0,
        random_units=(3, 2), missing="raise", **SMALL,
    ),
    EraAutoencoder(
        1, n_positions=None, n_models=2, random_scale=1,
        validation=None, random_units=(3, 2), **SMALL,
    ),
    EraTransformer(
        2, attention="induced", n_inducing=3, objective="cells", n_models=2, **LITTLE
    ),
    EraTransformer(
        2, positional=True, n_models=2, validation=None, missing="raise", **LITTLE
    ),
    SequenceDAE(
        2, noise="gaussian", hidden=3, batch_size=32, validation=None, missing="raise",
        max_epochs=1, random_state=0,
    ),
    SequenceDAE(1, cell="rnn", noise="none", hidden=3, ema_decay=0.9, max_epochs=1,
                random_state=0),
    FactorAnalysisEmbedder(1, rotation="varimax", center="era", tol=1e-4),
    FactorAnalysisEmbedder(2, missing="raise", max_iter=20),
    EraStatistics(missing="raise"),
    BINNED,
    BESIDE_A_NETWORK,
    CutoutAugmenter(0.5, copies=2, value=1.5, random_state=1),
    CutoutAugmenter(1, per="row", value=0, random_state=1),
    GaussianNoiseAugmenter(0.3, copies=0.5, random_state=1),
    GaussianNoiseAugmenter(3, copies=2.5, bins="rank", random_state=1),
    AugmentedClassifier(
        DecisionTreeClassifier(random_state=0),
        ComposeAugmenters([CutoutAugmenter(value=0, random_state=0)], order="chain"),
    ),
    AugmentedClassifier(
        GaussianNB(), CutoutAugmenter(0.5, value=0, random_state=0), keep_era=True
    ),
    MIXED,
    PIPELINE,
    EraRanker(DecisionTreeRegressor(random_state=0), output="gauss"),
    RANKED_PIPELINE,
    EraBlend(BLENDED, weights=[0.4, 0.6]),
    EraBlend([*BLENDED, ("none", "drop")], weights=np.array([2, -1, 0])),
    EraBoostedRegressor(FEW_TREES, n_rounds=2, proportion=1.0),
    PanelLGBMRegressor(LGBM, patience=3),
    PanelLGBMRegressor(make_lightgbm(**FEW, num_leaves=3, max_bin=15)),
    PanelXGBRegressor(XGB, patience=3),
    PanelXGBRegressor(make_xgboost(**FEW, max_bin=15)),
    EraBoostedRegressor(FEW_TREES, n_rounds=3, proportion=0.3, other_weight=0.5),
    FamiliarityShrinker(DecisionTreeRegressor(random_state=0), DENSITY, strength=2),
    FamiliarityShrinker(Ridge(), DAEEmbedder(1, **SMALL), strength=3, keep_era=True),
    EraNeutralizer(
        EraRanker(DecisionTreeRegressor(random_state=0), output="gauss"),
        proportion=0.75, features=[0],
    ),
    EraNeutralizer(
        ResidualTargetRegressor(DecisionTreeRegressor(random_state=0)), proportion=0.5
    ),
    ResidualTargetRegressor(DecisionTreeRegressor(random_state=0), 0.5),
    RESIDUAL_PIPELINE,
]  # fmt: skip

TRAINED_ON_BATCHES = (
    CellRestorer, ContrastiveEmbedder, DAEEmbedder, EraAutoencoder, EraMLP,
    EraTransformer, MaskedAutoencoder, SequenceDAE, SupervisedAEMLP,
)  # fmt: skip
AUGMENTS = (
    "fit_transform changes the rows that a model is trained on, and transform must "
    "leave those that it predicts for alone"
)
REFUSES_WEIGHTS = "weights are refused where nobody inside takes them"
CHECKS_OF_WEIGHTS = [
    "check_sample_weights_pandas_series",
    "check_sample_weights_not_an_array",
    "check_sample_weights_list",
    "check_sample_weights_shape",
    "check_sample_weights_not_overwritten",
    "check_sample_weight_equivalence_on_dense_data",
]
# Every excuse, with its reason. A row-wise estimator has none.
EXCUSED = {
    **{
        repr(augmenter): {
            "check_transformer_general": AUGMENTS,
            "check_transformer_data_not_an_array": AUGMENTS,
        }
        for augmenter in AUGMENTERS + FURTHER
        if isinstance(augmenter, CutoutAugmenter | GaussianNoiseAugmenter)
    },
    **{
        repr(by_era): {
            "check_methods_subset_invariance": (
                "a row's latents depend on its era, and without eras all rows of a "
                "call are one; TestStatisticalContract covers the property per era"
            ),
        }
        for by_era in [*TRANSFORMERS, *FURTHER]
        if isinstance(by_era, EraStatistics) or getattr(by_era, "center", "") == "era"
    },
    **{
        repr(net): {
            "check_sample_weight_equivalence_on_dense_data": (
                "a weight and as many copies of the row are the same in the loss, but "
                "copies fall into other batches; scikit-learn excuses its SGD "
                "estimators alike"
            ),
        }
        for net in [*TRANSFORMERS, *ERA_REGRESSORS, *FURTHER]
        if isinstance(net, TRAINED_ON_BATCHES)
        or net is BESIDE_A_NETWORK
        or isinstance(getattr(net, "autoencoder", None), DAEEmbedder)
    },
    repr(MIXED): {
        "check_sample_weight_equivalence_on_dense_data": (
            "rows are mixed with others at random, copies of a row with others each"
        ),
    },
    **{
        repr(boosted): {
            "check_sample_weight_equivalence_on_dense_data": (
                "scikit-learn's GradientBoostingRegressor does not pass it itself"
            ),
        }
        for boosted in [*ERA_REGRESSORS, *FURTHER]
        if isinstance(boosted, EraBoostedRegressor)
    },
    **{
        repr(trees): {
            "check_sample_weight_equivalence_on_dense_data": (
                "LightGBM finds bins by rows, not by weights"
            ),
        }
        for trees in [*ERA_REGRESSORS, *FURTHER]
        if isinstance(trees, PanelLGBMRegressor) and trees.regressor is LGBM
    },
    repr(BINNED): {
        "check_sample_weight_equivalence_on_dense_data": (
            "PCA takes no weights, the bins alone count by them"
        ),
    },
    **{
        repr(around): {
            **dict.fromkeys(CHECKS_OF_WEIGHTS, REFUSES_WEIGHTS),
            "check_all_zero_sample_weights_error": REFUSES_WEIGHTS,
        }
        for around in (PIPELINE, RANKED_PIPELINE, RESIDUAL_PIPELINE)
    },
}
for attentive in [*ATTENTIVE, *FURTHER]:
    if getattr(attentive, "tokens", "") == "rows":
        EXCUSED[repr(attentive)]["check_methods_subset_invariance"] = (
            "rows look at all others of a call, which is one era without eras; "
            "embedders/test_era_transformer.py covers the property per era"
        )
    if getattr(attentive, "positional", False):
        EXCUSED[repr(attentive)]["check_methods_sample_order_invariance"] = (
            "positional=True tells rows by their place in the era"
        )
for by_era in [*ERA_REGRESSORS, *FURTHER]:
    if getattr(by_era, "_predicts_by_era", False):
        EXCUSED.setdefault(repr(by_era), {})["check_methods_subset_invariance"] = (
            "a prediction depends on the others of its era, and without eras all rows "
            "of a call are one; tests/compose covers the property per era"
        )


def public_classes():
    found = {}
    for name in numerai_features._SUBPACKAGES:
        module = importlib.import_module(f"numerai_features.{name}")
        for public in module.__all__:
            value = getattr(module, public)
            if inspect.isclass(value) and issubclass(value, BaseEstimator):
                found[public] = value
    return found


def test_every_public_estimator_is_in_the_lists():
    lists = TRANSFORMERS + SPLITTERS + AUGMENTERS + AUGMENTED + ERA_REGRESSORS
    listed = {type(e).__name__ for e in lists} | {"EraScorer"}
    assert set(public_classes()) == listed - {"CellRestorer"}


@pytest.mark.parametrize("augmenter", AUGMENTERS, ids=repr)
def test_augmenters_keep_their_contract(augmenter):
    check_augmenter(augmenter)


# Checks of imbalanced-learn that its own samplers alone can pass, and why.
NOT_OURS = {
    "check_target_type": "ours take any numbers as targets, and several of them",
    "check_samplers_one_label": "and a single class",
    "check_samplers_fit": "they have no parameter sampling_strategy",
    "check_samplers_sampling_strategy_fit_resample": "they have none",
    "check_samplers_sparse": "they take no sparse matrices",
    "check_samplers_pandas_sparse": "sparse columns become dense",
    "check_samplers_string": "they take numbers alone",
    "check_samplers_sample_indices": "it is about a tag of imbalanced-learn's",
}
MAKE_TARGETS = {"check_samplers_preserve_dtype", "check_samplers_multiclass_ova"}
FREE_OF_ERAS = [a for a in AUGMENTERS if not isinstance(a, RidgeMixtureTargets)]


@pytest.mark.parametrize("augmenter", FREE_OF_ERAS, ids=repr)
def test_imbalanced_learns_checks(augmenter):
    module = pytest.importorskip("imblearn.utils.estimator_checks")
    every = {n for n in vars(module) if n.startswith(("check_sampler", "check_target"))}
    assert set(NOT_OURS) <= every
    left_out = set(NOT_OURS)
    if "Mixup" in repr(augmenter):
        left_out |= MAKE_TARGETS
    if isinstance(augmenter, BalanceAugmenter):  # it is of one column of y
        left_out |= {"check_samplers_multiclass_ova"}
    if isinstance(augmenter, DreamAugmenter):  # a check has a single feature
        augmenter = clone(augmenter).set_params(embedder__n_components=1)
    checks = every - left_out
    assert len(checks) >= 6
    for name in sorted(checks):
        getattr(module, name)("Sampler", augmenter.as_sampler())


@pytest.mark.parametrize("augmenter", AUGMENTERS, ids=repr)
def test_an_augmenter_in_imbalanced_learns_pipeline_is_told(augmenter, toy):
    make_pipeline = pytest.importorskip("imblearn.pipeline").make_pipeline
    for steps in ([augmenter, Ridge()], [PCA(2), augmenter, Ridge()]):
        with pytest.raises(TypeError, match=r"is no step of .*as_sampler\(\)"):
            make_pipeline(*steps).fit(toy.X, toy.y())


@pytest.mark.parametrize("augmenter", AUGMENTERS, ids=repr)
def test_a_sampler_may_end_imbalanced_learns_pipelines(augmenter, toy):
    make_pipeline = pytest.importorskip("imblearn.pipeline").make_pipeline
    X, y = toy.to_frame(targets=[]), (toy.y() > 0.5).astype(int)
    steps = LatentFeatures(keep_era=True), clone(augmenter).as_sampler()
    found = make_pipeline(*steps).fit_resample(X, y)
    for rows, expected in zip(found, augmenter.fit_resample(X, y)[:2], strict=True):
        np.testing.assert_array_equal(rows, expected)
    assert make_pipeline(*steps).fit(X, y)[-1].n_features_in_ == toy.X.shape[1]
    with pytest.raises(ValueError, match="y must have a row for each of 240"):
        steps[1].fit(X, y[:-1])


@pytest.mark.parametrize("augmenter", AUGMENTERS, ids=repr)
def test_names_that_augmenters_give_are_those_of_the_columns(augmenter, toy):
    frame, y = toy.to_frame(targets=[]), (toy.y() > 0.5).astype(int)
    sampler = clone(augmenter).as_sampler()
    for X in (frame, frame[frame.columns[::-1]], frame.drop(columns="era")):
        eras = None if "era" in X else toy.eras
        for fit in (sampler.fit, sampler.fit_resample):
            fit(X, y, eras=eras)
            for names in (None, list(X.columns)):
                assert list(sampler.get_feature_names_out(names)) == list(X.columns)
        if hasattr(augmenter, "fit_transform"):
            made = clone(augmenter)
            for fit in (made.fit, made.fit_transform, made.fit_resample):
                fit(X)
                assert list(made.get_feature_names_out()) == list(X.columns)


SAMPLER = "augmenter must be an augmenter of this package.* a sampler. "


@pytest.mark.parametrize("estimator", AUGMENTED, ids=repr)
def test_samplers_in_the_place_of_augmenters_are_told(estimator, toy):
    y = (toy.y() > 0.5).astype(int)
    made = clone(estimator).set_params(augmenter=CutoutAugmenter().as_sampler())
    with pytest.raises(ValueError, match=SAMPLER + r"Pass.*=CutoutAugmenter\(\)\."):
        made.fit(toy.X, y)
    under_sampling = pytest.importorskip("imblearn.under_sampling")
    made.set_params(augmenter=under_sampling.RandomUnderSampler())
    with pytest.raises(ValueError, match=SAMPLER + "Put it into a pipeline of imbal"):
        made.fit(toy.X, y)


@pytest.mark.parametrize("scale", ["all", "every other column"])
@pytest.mark.parametrize("kind", [float, "bins"])
@pytest.mark.parametrize("augmenter", AUGMENTERS, ids=repr)
def test_augmenters_do_as_much_on_any_scale(augmenter, kind, scale):
    """To features from 0 to 1, as users of other files have, as to bins from 0 to 4."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 5, (200, 12)).astype(float)
    X = X if kind == "bins" else X + rng.normal(size=X.shape)
    y, eras = rng.choice([0, 0.25, 0.5, 0.75, 1], 200), np.repeat(np.arange(4), 50)
    done = clone(augmenter).fit_resample(X, y, eras=eras).X[200:]
    by = np.resize([4, 4] if scale == "all" else [4, 1], 12)
    quarters = clone(augmenter).fit_resample(X / by, y, eras=eras).X[200:]
    off = np.abs(by * quarters - done)
    assert np.quantile(off, 0.99) < 0.01 * X.std()


CHECKED = [e for e in TRANSFORMERS if e not in PLACED]
CHECKED += AUGMENTED + ERA_REGRESSORS + FURTHER
CHECKED += [a for a in AUGMENTERS if hasattr(a, "transform")]


def slow_but_the_first(estimators):
    """Mark all but one network of each class as slow, for tests of many fits each."""
    seen, params = set(), []
    for estimator in estimators:
        is_network = isinstance(estimator, (*TRAINED_ON_BATCHES, UMAPEmbedder))
        later = is_network and type(estimator) in seen
        seen.add(type(estimator))
        marks = [pytest.mark.slow] if later else []
        params.append(pytest.param(estimator, marks=marks, id=repr(estimator)))
    return params


@pytest.mark.parametrize("estimator", slow_but_the_first(CHECKED))
def test_scikit_learns_checks(estimator):
    with warnings.catch_warnings(record=True):
        # Its checks fit on made-up rows where a solver may warn; -W error would turn
        # that into a failure of the check, not of the estimator.
        warnings.simplefilter("always")
        results = check_estimator(
            clone(estimator),
            expected_failed_checks=EXCUSED.get(repr(estimator), {}),
            on_fail="raise",
            on_skip=None,
        )
    statuses = {result["check_name"]: result["status"] for result in results}
    excused = {name for name, status in statuses.items() if status == "xfail"}
    known = set(vars(estimator_checks))  # older versions have fewer checks
    assert excused == set(EXCUSED.get(repr(estimator), {})) & known
    assert list(statuses.values()).count("passed") > 40


WITHOUT_FIT = [
    *SPLITTERS,
    CombinatorialPurgedEraCV(4, 1, purge=2, embargo=1),
    CombinatorialPurgedEraCV(5, 3, target="target_alpha_20"),
    EraHoldout(3, purge=0),
    EraHoldout(0.5, embargo=2),
    EraKFold(3, shuffle=True, chunk=2, random_state=0),
    EraKFold(2, purge=0, target="target_alpha_60"),
    EraWalkForward(2, test_eras=3),
    EraWalkForward(max_train_eras=4, embargo=1),
    RepeatedEraKFold(2, n_repeats=2, random_state=0),
    RepeatedEraKFold(3, purge=1, embargo=1),
    *(a for a in AUGMENTERS if not hasattr(a, "transform")),
    BalanceAugmenter(2.0, target=1),
    BalanceAugmenter(random_state=1),
    ComposeAugmenters((BalanceAugmenter(),)),
    EraMixupAugmenter(alpha=2, copies=3),
    DreamAugmenter(DAEEmbedder(2), n_steps=1, step=0.5),
    DreamAugmenter(FactorAnalysisEmbedder(2), copies=2),
    RidgeMixtureTargets(copies=0, synthetic_eras=3, n_factors=2),
    EraScorer(),
    EraScorer("sharpe"),
    EraScorer("fnc", features=["a", "b"]),
]


ONLY_WITH_ERAS = [e for e in PLACED if isinstance(e, EraRegimes)]


@pytest.mark.parametrize("estimator", [*WITHOUT_FIT, *ONLY_WITH_ERAS], ids=repr)
def test_scikit_learns_checks_of_parameters(estimator):
    """All of its checks that need no fit, for what has none, or none without eras."""
    assert not hasattr(estimator, "fit") or estimator in ONLY_WITH_ERAS
    name = type(estimator).__name__
    for check in (
        estimator_checks.check_estimator_cloneable,
        estimator_checks.check_estimator_repr,
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_set_params,
        estimator_checks.check_no_attributes_set_in_init,
        estimator_checks.check_parameters_default_constructible,
        estimator_checks.check_do_not_raise_errors_in_init_or_set_params,
        estimator_checks.check_mixin_order,
        estimator_checks.check_valid_tag_types,
    ):
        check(name, estimator)


def test_every_class_is_checked_with_further_parameters():
    for checked in (CHECKED, WITHOUT_FIT):
        kinds = [type(estimator) for estimator in checked]
        assert {kind.__name__ for kind in kinds if kinds.count(kind) < 3} <= {
            "CellRestorer"
        }
    checked = [*CHECKED, *WITHOUT_FIT, *ONLY_WITH_ERAS]
    every = {type(estimator).__name__ for estimator in checked}
    assert every - {"CellRestorer"} == set(public_classes())


@pytest.fixture(scope="module")
def toy():
    return make_era_panel(n_eras=6, rows_per_era=40, n_features=12, random_state=3)


def sparse_frame(frame, fill=0):
    kinds = {name: pd.SparseDtype("int8", fill) for name in frame.columns[1:]}
    return frame.astype(kinds)


class KnownToNarwhals:
    """A table that knows nothing but how narwhals works with it."""

    def __init__(self, frame):
        self.inside = nw.from_native(frame)._compliant_frame

    def __narwhals_dataframe__(self):
        return self.inside.__narwhals_dataframe__()


def containers(panel):
    frame = panel.to_frame(targets=[])
    plain = frame.reset_index(drop=True)
    return {
        "numpy": (panel.X, panel.eras),
        "pandas": (frame, None),
        "pandas, sparse": (sparse_frame(frame), None),
        "polars": (pl.from_pandas(plain), None),
        "pyarrow": (pa.Table.from_pandas(plain), None),
        "narwhals, ids": (nw.from_native(frame), None),
        "narwhals, polars": (nw.from_native(pl.from_pandas(plain)), None),
        "known to narwhals": (KnownToNarwhals(frame), None),
    }


def cells_of(table):
    """Return a table's cells by column."""
    table = nw.from_native(table, eager_only=True)
    return {name: table[name].to_list() for name in table.columns}


@pytest.mark.parametrize("estimator", TRANSFORMERS, ids=repr)
class TestTransformers:
    def test_every_container_gives_the_same(self, estimator, toy):
        results = [
            clone(estimator).fit_transform(X, toy.y(), eras=eras)
            for X, eras in containers(toy).values()
        ]
        for result in results[1:]:
            np.testing.assert_array_equal(result, results[0])

    def test_nothing_of_the_callers_is_changed(self, estimator, toy):
        X, eras, y = toy.X.copy(), toy.eras.copy(), toy.y().copy()
        frame = toy.to_frame(targets=[])
        before = frame.copy(deep=True)
        X.flags.writeable = eras.flags.writeable = y.flags.writeable = False
        clone(estimator).fit(X, y, eras=eras).transform(X, eras=eras)
        clone(estimator).fit(frame, y).transform(frame)
        pd.testing.assert_frame_equal(frame, before)
        np.testing.assert_array_equal(X, toy.X)

    def test_global_state_is_left_alone(self, estimator, toy):
        def state():
            return (
                random.getstate(),
                str(np.random.get_state(legacy=False)["state"]["key"].tolist()),
                torch.get_rng_state().tolist(),
                torch.get_num_threads(),
                sklearn.get_config(),
                list(warnings.filters),
            )

        clone(estimator).fit(toy.X, toy.y(), eras=toy.eras)  # libraries are imported
        before = copy.deepcopy(state())
        clone(estimator).fit(toy.X, toy.y(), eras=toy.eras).transform(
            toy.X, eras=toy.eras
        )
        assert state() == before

    def test_refit_is_a_fresh_fit(self, estimator, toy):
        used = clone(estimator).fit(toy.X, toy.y(), eras=toy.eras)
        small, y, eras = toy.X[:80, :5], toy.y()[:80], toy.eras[:80]
        fresh = clone(estimator).fit(small, y, eras=eras)
        refit = used.fit(small, y, eras=eras)
        assert set(vars(refit)) == set(vars(fresh))
        np.testing.assert_array_equal(
            refit.transform(small, eras=eras), fresh.transform(small, eras=eras)
        )

    def test_fitted_eras_are_kept(self, estimator, toy):
        fitted = clone(estimator).fit(toy.X, toy.y(), eras=toy.eras)
        np.testing.assert_array_equal(fitted.fitted_eras_, toy.era_numbers)
        if estimator in PLACED:
            with pytest.raises(ValueError, match="needs eras"):
                clone(estimator).fit(toy.X, toy.y())
            return
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "No eras were passed", UserWarning)
            assert clone(estimator).fit(toy.X, toy.y()).fitted_eras_ is None

    def test_a_pickle_gives_the_same(self, estimator, toy):
        fitted = clone(estimator).fit(toy.X, toy.y(), eras=toy.eras)
        loaded = pickle.loads(pickle.dumps(fitted))
        np.testing.assert_array_equal(
            loaded.transform(toy.X, eras=toy.eras),
            fitted.transform(toy.X, eras=toy.eras),
        )

    def test_threads_do_not_matter_to_the_bit(self, estimator, toy):
        from threadpoolctl import threadpool_limits

        results = []
        for n_threads in (1, 2):
            model = clone(estimator)
            if "n_jobs" in model.get_params():
                model.set_params(n_jobs=n_threads)
            with threadpool_limits(n_threads):
                fitted = model.fit(toy.X, toy.y(), eras=toy.eras)
                results.append(fitted.transform(toy.X[:100], eras=toy.eras[:100]))
        np.testing.assert_array_equal(*results)

    def test_memory_mapped_rows(self, estimator, toy, tmp_path):
        disk = toy.save(tmp_path / "panel") or type(toy).open(tmp_path / "panel")
        np.testing.assert_array_equal(
            clone(estimator).fit_transform(disk.X, toy.y(), eras=disk.eras),
            clone(estimator).fit_transform(toy.X, toy.y(), eras=toy.eras),
        )

    def test_eras_of_another_length(self, estimator, toy):
        with pytest.raises(ValueError, match="eras has 3 labels, but X has 240 rows"):
            clone(estimator).fit(toy.X, toy.y(), eras=[1, 2, 3])

    def test_infinity(self, estimator, toy):
        X = toy.X.astype(np.float64)
        X[3, 2] = np.inf
        with pytest.raises(ValueError, match="infinity"):
            clone(estimator).fit(X, toy.y(), eras=toy.eras)

    def test_one_era_is_enough(self, estimator, toy):
        rows = slice(0, 40)
        if isinstance(estimator, EraRegimes):  # they are what eras differ by
            with pytest.raises(ValueError, match="needs two eras or more"):
                clone(estimator).fit(toy.X[rows], eras=toy.eras[rows])
            return
        table = clone(estimator).fit_transform(
            toy.X[rows], toy.y()[rows], eras=toy.eras[rows]
        )
        assert len(table) == 40

    def test_eras_are_routed_without_being_asked_for(self, estimator, toy):
        with sklearn.config_context(enable_metadata_routing=True):
            routing = clone(estimator).get_metadata_routing()
        assert routing.consumes("fit", ["eras"]) == {"eras"}
        assert routing.consumes("transform", ["eras"]) == {"eras"}


@pytest.mark.parametrize("cls", sorted({type(e) for e in TRANSFORMERS}, key=repr))
def test_ten_rows_are_enough_for_default_parameters(cls):
    """More components, neighbours and rows of a batch than there are rows."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(10, 3)), rng.normal(size=10)
    model = cls()
    if "max_epochs" in model.get_params():
        model.set_params(max_epochs=1, random_state=0)
    with warnings.catch_warnings():
        told = "No eras were passed|n_neighbors=15"
        warnings.filterwarnings("ignore", told, UserWarning)
        by_default = (EraAutoencoder, EraRegimes)
        eras = {"eras": np.repeat([1, 2], 5)} if cls in by_default else {}
        latents = model.fit_transform(X, y, **eras)
    assert len(latents) == 10
    assert np.isfinite(latents).all()


def with_one_gap(frame, cell):
    """Return a frame with one missing cell, as libraries and kinds of columns have it.

    Those of numpy's types become floats: the column, or where one type is all, all.
    """
    row, column = cell
    name = frame.columns[column]
    floats = frame.astype({name: np.float32})
    floats.iloc[row, column] = np.nan
    nullable = frame.astype(dict.fromkeys(frame.columns[1:], "Int8"))
    nullable.iloc[row, column] = pd.NA
    table = pl.from_pandas(frame.reset_index(drop=True))
    gap = pl.int_range(pl.len()) == row
    null = table.with_columns(pl.when(~gap).then(pl.col(name)).alias(name))
    return {
        "numpy": floats.iloc[:, 1:].to_numpy(np.float32),
        "pandas": floats,
        "pandas, nullable": nullable,
        "polars": null,
        "pyarrow": null.to_arrow(),
    }


BEHIND_BYTES = [
    *TRANSFORMERS,
    BINNED,
    BESIDE_A_NETWORK,
    LatentFeatures(PCA(2)),
    LatentFeatures(PCA(2), quantize="int8", keep_era=True),
    LatentFeatures(FactorAnalysisEmbedder(2), quantize="uint8"),
    clone(PIPELINE).set_params(keep_era=True),
]


@pytest.mark.parametrize("estimator", BEHIND_BYTES, ids=repr)
def test_one_missing_live_cell_of_what_was_fitted_to_bytes(estimator, toy):
    """It makes floats of a column or of all: of the week in which it happens."""
    frame = toy.to_frame(targets=[])
    fitted = clone(estimator).fit(frame, toy.y())
    ask = getattr(fitted, "transform", None) or fitted.predict
    live = frame.iloc[:80]
    filled = live.copy()
    assert live.iloc[3, 5] != 2
    filled.iloc[3, 5] = 2
    expected = np.asarray(ask(filled), np.float64)
    tables = with_one_gap(live, (3, 5))
    array = tables.pop("numpy")
    found = [ask(table) for table in tables.values()]
    if hasattr(fitted, "transform"):  # no predict takes eras
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "X does not have valid", UserWarning)
            found.append(ask(array, eras=live["era"]))
    # Of LatentFeatures, which casts them, to the bit.
    off = {} if isinstance(estimator, LatentFeatures) else {"rtol": 1e-4, "atol": 1e-5}
    for each in found:
        each = np.asarray(each, np.float64)
        np.testing.assert_allclose(each, expected, **(off or {"rtol": 0}))


ALL = TRANSFORMERS + SPLITTERS + AUGMENTERS + AUGMENTED + ERA_REGRESSORS
FITTED = TRANSFORMERS + AUGMENTED + AUGMENTERS + ERA_REGRESSORS


def read_eras(estimator, panel, eras):
    """Hand eras to whatever an estimator does first."""
    if hasattr(estimator, "split"):
        return list(clone(estimator).split(panel.X, groups=eras))
    y = (panel.y() > 0.5).astype(int)
    if hasattr(estimator, "fit_resample"):
        return clone(estimator).fit_resample(panel.X, y, eras=eras)
    return clone(estimator).fit(panel.X, y, eras=eras)


@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_numbers_that_are_no_eras_are_refused(estimator, toy):
    """Days, seconds and rows: nobody would purge by them rightly."""
    with pytest.raises(ValueError, match=r"must be era numbers up to 9999.* got 18"):
        read_eras(estimator, toy, 18_264 + 7 * toy.eras)


def beside_rows(method):
    """Return what a method takes beside X with an item for each of its rows."""
    names = ("y", "eras", "groups", "sample_weight", "benchmark")
    takes = inspect.signature(method).parameters
    return [name for name in names if name in takes]


def needed(method, beside):
    """Return what a method may need of that beside X."""
    names = beside_rows(method)[:2]
    return {name: beside[name] for name in names if name != "benchmark"}


def doors(estimator, X, beside):
    """Yield all public methods that take rows, bound to what can run them."""
    fresh, method = clone(estimator), None
    if hasattr(fresh, "purge"):
        fresh.set_params(purge=0)
    for name in ("fit_resample", "fit_transform", "partial_fit", "fit", "split"):
        if hasattr(fresh, name):
            method = getattr(fresh, name)
            yield method
    if method.__name__ != "split":
        method(X, **needed(method, beside))
        yield from (found for found, _ in methods_for_rows(fresh))


def run(method, *args, **kwargs):
    """Call a method; of a generator, to the end."""
    result = method(*args, **kwargs)
    return list(result) if inspect.isgenerator(result) else result


def is_of_no_use(method, name, value, **given):
    """Whether anything is taken there, or nothing at all, not even what is right."""
    try:
        run(method, **given | {name: object()})
    except Exception as error:
        told = str(error)
    else:
        return True
    if name != "benchmark" or "was passed, but" not in told:
        return False
    with pytest.raises(ValueError, match="benchmark was passed, but"):
        run(method, **given | {name: value})
    return True


@pytest.mark.parametrize("kind", ["ids", "ids, X without", "counted"])
@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_rows_in_another_order_are_not_taken_by_position(estimator, kind, toy):
    X = toy.to_frame(targets=[]).drop(columns="era")
    if kind == "counted":
        X = X.reset_index(drop=True)
    beside = {
        "y": (toy.y() > 0.5).astype(int),
        "eras": toy.eras,
        "groups": toy.eras,
        "sample_weight": np.linspace(0.5, 1, toy.n_rows),
        "benchmark": np.linspace(0, 1, toy.n_rows),
    }
    beside = {name: pd.Series(values, X.index) for name, values in beside.items()}
    X = X.to_numpy() if kind == "ids, X without" else X
    asked = []
    for method in doors(estimator, X, beside):
        given = {"X": X} | needed(method, beside)
        names = [
            name
            for name in beside_rows(method)
            if not is_of_no_use(method, name, beside[name], **given)
        ]
        indexed = len({*names} & {*given} - {"X"}) + (kind != "ids, X without")
        for name in names if indexed > 1 else ():
            mixed = beside[name].sample(frac=1, random_state=0)
            asked.append(name)
            if name == "benchmark" and kind != "counted":
                continue  # is matched: TestResiduals
            told = f"({name} and .*|.* and {name}) have different pandas indexes"
            with pytest.raises(ValueError, match=told):
                run(method, **given | {name: mixed})
    assert asked or kind == "ids, X without"


def functions_of_rows(toy):
    """Return public functions with what they take, a row for each of the same rows."""
    pytest.importorskip("matplotlib").use("agg")
    frame = toy.to_frame(targets=[])
    X = frame.drop(columns="era")
    y, eras = pd.Series(toy.y(), X.index), frame["era"]
    model, cv = Ridge().fit(X, y), EraKFold(2, purge=0)
    latents = FactorAnalysisEmbedder(2).fit(X)
    table = {"X": X, "y": y, "eras": eras}
    scored = {"y": y, "prediction": y + X.iloc[:, 0], "eras": eras}
    yield tree_table, {"X": X}
    yield partial(make_era_scorer().score, model), table
    yield partial(cross_val_predict_eras, model, cv=cv, verbose=False), table
    yield partial(measure_leakage, model, cv=EraKFold(2, purge=1)), table
    yield partial(check_splits, cv, horizon=1), table
    yield partial(EraSplitDisplay.from_cv, cv), table
    yield partial(LatentMapDisplay.from_estimator, latents), table
    restoring = DAEEmbedder(2, hidden=(4,), max_epochs=1, random_state=0).fit(X)
    restored = partial(ReconstructionDisplay.from_estimator, restoring)
    yield restored, {"X": X, "eras": eras}
    yield partial(era_scores, metric="bmc"), scored | {"benchmark": y}
    again = make_era_panel(6, 40, 12, random_state=3, return_truth=True)
    expected = partial(expected_scores, truth=again[1], metric="bmc")
    both = {"prediction": scored["prediction"], "eras": eras}
    yield expected, both | {"benchmark": y}
    yield partial(era_scores, metric="fnc"), scored | {"features": X}
    predicted = {"predictions": scored["prediction"], "eras": eras}
    yield rank_by_era, predicted
    yield neutralize_by_era, predicted | {"X": X}
    blended = scored | {"prediction": X.iloc[:, :2]}
    yield partial(fit_blend_weights, positive=False), blended
    by_benchmark = {"metric": "bmc", "positive": False}
    yield partial(fit_blend_weights, **by_benchmark), blended | {"benchmark": y}
    yield summarize, scored | {"meta_model": y}
    yield partial(EraMoments.from_rows, toy.X), {"eras": eras, "sample_weight": y + 1}


def test_functions_do_not_take_rows_in_another_order_by_position(toy):
    asked = 0
    for function, tables in functions_of_rows(toy):
        for name in tables if len(tables) > 1 else ():
            mixed = tables[name].sample(frac=1, random_state=0)
            if name in ("benchmark", "meta_model"):  # are matched by id
                pd.testing.assert_series_equal(
                    pd.Series(np.squeeze(function(**tables))),
                    pd.Series(np.squeeze(function(**tables | {name: mixed}))),
                )
                continue
            with pytest.raises(ValueError, match="have different pandas indexes"):
                function(**tables | {name: mixed})
            asked += 1
    assert asked > 25


def test_functions_tell_lazy_tables_alike(toy):
    for function, tables in functions_of_rows(toy):
        for name in tables:
            told = rf"{name} is a polars.*LazyFrame; .* Pass {name}\.collect\(\)"
            with pytest.raises(ValueError, match=told):
                function(**tables | {name: pl.LazyFrame({"era": [1]})})


@pytest.mark.parametrize("estimator", ALL, ids=repr)
def test_methods_tell_lazy_tables_alike(estimator, toy):
    X = toy.to_frame(targets=[]).drop(columns="era")
    beside = {"y": (toy.y() > 0.5).astype(int)}
    beside |= dict.fromkeys(("eras", "groups"), toy.eras)
    beside |= dict.fromkeys(("sample_weight", "benchmark"), toy.y() + 1)
    for method in doors(estimator, X, beside):
        names = beside_rows(method)
        given = {"X": X} | needed(method, beside)
        for name in ("X", *names):
            if name != "X" and is_of_no_use(method, name, beside[name], **given):
                continue
            told = rf"{name} is a polars.*LazyFrame; .* Pass {name}\.collect\(\)"
            with pytest.raises(ValueError, match=told):
                run(method, **given | {name: pl.LazyFrame({"era": [1]})})


def foreign_tables(frame):
    """Return tables that are told, each with what is told of it."""
    of_text = frame.assign(data_type="train")
    tables = {
        r"X is a polars.*LazyFrame; .* Pass X\.collect\(\)": pl.LazyFrame(frame),
        "must hold numbers; its column 'data_type' holds text, such as 't": of_text,
        "column 'Era', which would be": frame.rename(columns={"era": "Era"}),
        r"X has more than one column 'twice'; .* Rename": frame.set_axis(
            ["era", "twice", "twice", *frame.columns[3:]], axis=1
        ),
        r"X is a narwhals.*LazyFrame; .* Pass X\.collect\(\)": nw.from_native(
            pl.LazyFrame(frame)
        ),
    }
    with contextlib.suppress(ImportError):
        import dask.dataframe as dd

        told = r"X is a dask.*DataFrame; .* Pass X\.compute\(\)"
        tables[told] = dd.from_pandas(frame, npartitions=2)
    return tables


@pytest.mark.parametrize("estimator", FITTED, ids=repr)
def test_tables_and_columns_that_are_no_numbers_are_told(estimator, toy):
    frame = toy.to_frame(targets=[]).reset_index(drop=True)
    y = (toy.y() > 0.5).astype(int)
    for told, table in foreign_tables(frame).items():
        model = clone(estimator)
        fit = getattr(model, "fit_resample", getattr(model, "fit", None))
        with pytest.raises(ValueError, match=told):
            fit(table, y)


def test_functions_take_every_container(toy):
    _, (frame, _), *others = containers(toy).values()
    model = make_pipeline(LatentFeatures(), Ridge()).fit(frame, toy.y())
    score = make_era_scorer()
    expected = score(model, frame, toy.y())
    for X, _ in others:
        assert score(model, X, toy.y()) == expected
        table = tree_table(X)
        assert table.schema.types == [pa.int8()] * toy.X.shape[1]
        np.testing.assert_array_equal(np.asarray(table), toy.X)
        folds = cross_val_predict_eras(model, X, toy.y(), cv=EraKFold(2, purge=1))
        assert len(folds) == toy.n_rows


@pytest.mark.parametrize("augmenter", AUGMENTERS, ids=repr)
def test_augmenters_give_back_the_container_that_came(augmenter, toy):
    frame = toy.to_frame(targets=[])
    y = pd.Series((toy.y() > 0.5).astype(np.int8), frame.index, name="target")
    expected = clone(augmenter).fit_resample(frame, y)
    plain, y_plain = frame.reset_index(drop=True), y.reset_index(drop=True)
    narwhals = nw.from_native(frame), nw.from_native(y, series_only=True)
    arrow = pa.Table.from_pandas(plain), pa.chunked_array([y_plain])
    in_one_piece = arrow[0], pa.array(y_plain)
    came = {
        pd.DataFrame: [narwhals, (KnownToNarwhals(frame), y)],
        pl.DataFrame: [(pl.from_pandas(plain), pl.from_pandas(y_plain))],
        pa.Table: [arrow, in_one_piece],
    }
    for kind, tables in came.items():
        for X, target in tables:
            found = clone(augmenter).fit_resample(X, target)
            assert type(found.X) is kind
            assert cells_of(found.X) == cells_of(expected.X)
            assert type(found.y) is not np.ndarray
            assert isinstance(found.y, pa.Array) == isinstance(target, pa.Array)
            np.testing.assert_array_equal(found.y, expected.y)
            if kind is pd.DataFrame:
                assert found.X.index.equals(expected.X.index)
                assert found.y.index.equals(expected.y.index)


@pytest.mark.parametrize("estimator", AUGMENTERS + AUGMENTED + ERA_REGRESSORS, ids=repr)
def test_sparse_columns_of_pandas_become_dense(estimator, toy):
    """Of transformers this is asked of every container."""
    frame = toy.to_frame(targets=[])
    results = []
    # Rows to predict for are handed on as they came; a fill of 2 is no model's.
    fills = (0, 2) if hasattr(estimator, "fit_resample") else (0,)
    for X in (frame, *(sparse_frame(frame, fill) for fill in fills)):
        y = pd.Series(toy.y() > 0.5, frame.index).astype(int)
        if X is not frame:
            y = y.astype(pd.SparseDtype("int64", 0))
        made = clone(estimator)
        if hasattr(made, "fit_resample"):
            table, targets = made.fit_resample(X, y)[:2]
            table = table.drop(columns="era").assign(y=np.asarray(targets))
            results.append(table.to_numpy(np.float64))
        else:
            results.append(made.fit(X, y).predict(X))
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], rtol=1e-9)


def assert_equal_folds(cv, other, eras):
    for fold, expected in zip(
        cv.split(None, groups=eras), other.split(None, groups=eras), strict=True
    ):
        np.testing.assert_array_equal(fold[0], expected[0])
        np.testing.assert_array_equal(fold[1], expected[1])


@pytest.mark.parametrize("estimator", SPLITTERS, ids=repr)
class TestSplitters:
    def test_tables_of_other_libraries_are_told(self, estimator, toy):
        table = pl.LazyFrame(toy.to_frame(targets=[]))
        with pytest.raises(ValueError, match=r"X is a polars.*Pass X\.collect\(\)"):
            next(clone(estimator).split(table))

    def test_every_container_is_split_alike(self, estimator):
        cv = clone(estimator).set_params(purge=4)
        if "random_state" in cv.get_params():
            cv.set_params(random_state=0)
        panel = make_era_panel(n_eras=90, rows_per_era=5, n_features=2, random_state=3)
        folds = [list(cv.split(X, groups=e)) for X, e in containers(panel).values()]
        for others in folds[1:]:
            for fold, other in zip(others, folds[0], strict=True):
                np.testing.assert_array_equal(fold[0], other[0])
                np.testing.assert_array_equal(fold[1], other[1])

    def test_dates_are_split_as_weeks(self, estimator):
        cv = clone(estimator).set_params(purge=4)
        if "random_state" in cv.get_params():
            cv.set_params(random_state=0)
        weeks = np.arange(90)
        days = (np.datetime64("2020-01-03") + 7 * weeks).astype(str)
        expected = list(cv.split(None, groups=weeks))
        digits = np.char.replace(days, "-", "")
        for dates in (days, digits, digits.astype(int)):
            for fold, other in zip(cv.split(None, groups=dates), expected, strict=True):
                np.testing.assert_array_equal(fold[0], other[0])
                np.testing.assert_array_equal(fold[1], other[1])

    @pytest.mark.parametrize(
        ("purge", "eras"),
        [
            (0, range(1, 41)),
            (0, [1, 2]),
            (0, ["X"]),
            (99, range(1, 41)),
            (2, ["ash", "oak", "elm", "fir", "yew", "bay"]),
        ],
    )
    def test_the_number_of_folds_is_what_split_gives(self, estimator, purge, eras):
        draws = "random_state" in estimator.get_params()
        cv = clone(estimator).set_params(purge=purge, embargo=purge)
        if draws:
            cv.set_params(random_state=np.random.RandomState(0))
        told = []
        for count in (cv.get_n_splits, lambda *a: len(list(cv.split(*a)))):
            try:
                told.append(count(None, None, eras))
            except ValueError as error:
                told.append(str(error))
        assert told[0] == told[1]
        if draws:  # counting drew nothing
            expected = clone(estimator).set_params(purge=0)
            twin = clone(expected).set_params(random_state=np.random.RandomState(0))
            expected.set_params(random_state=np.random.RandomState(0))
            twin.get_n_splits(None, None, range(1, 41))
            assert_equal_folds(twin, expected, range(1, 41))

    def test_what_a_purge_that_leaves_nothing_says_helps(self, estimator):
        cv = clone(estimator).set_params(purge=99)
        if "random_state" in cv.get_params():
            cv.set_params(random_state=0)
        with pytest.raises(ValueError, match="no training era left") as told:
            cv.get_n_splits(None, None, range(1, 41))
        own = set(cv.get_params()) - {"purge", "embargo", "target"}
        assert any(name in str(told.value) for name in own)

    def test_names_are_not_purged(self, estimator):
        with pytest.raises(ValueError, match="Number the eras by week"):
            next(estimator.split(None, groups=["ash", "oak", "elm", "fir"]))


class GivenFolds:
    """A splitter of somebody else, whose folds are what they are."""

    def __init__(self, *folds):
        self.folds = folds

    def split(self, X=None, y=None, groups=None):
        yield from self.folds


class LastEras:
    """One fold, of masks or of indices."""

    def __init__(self, kind):
        self.kind = kind

    def split(self, X, y=None, groups=None):
        last = groups >= np.quantile(groups, 0.7)
        yield self.kind(~last), list(self.kind(last))


def takers_of_splitters():
    for name in ("validation", "cross_fit"):
        for estimator in TRANSFORMERS:
            known = name in estimator.get_params(deep=False)
            if known and not isinstance(estimator, EraRegimes):  # a number of eras
                yield pytest.param(estimator, name, id=f"{estimator!r}-{name}")


@pytest.mark.parametrize(("estimator", "name"), list(takers_of_splitters()))
class TestSplittersThatArePassed:
    """Of those that somebody else wrote, at every door but ``cv=``."""

    @pytest.mark.parametrize(
        ("folds", "message"),
        [
            ([], "yields no folds"),
            ([np.arange(40)], "must yield pairs of training and test rows; fold 0"),
            ([(range(9), [np.arange(9), np.arange(3)])], "fold 0 are a list of 2 arr"),
            ([(range(9), [9e3])], "test rows of fold 0 are of dtype float64"),
            ([(range(9), [99_999])], "test rows of fold 0 are from 99999 to 99999"),
            ([(np.ones(3, bool), [9])], "training rows of fold 0 are a mask of 3 rows"),
        ],
    )
    def test_folds_that_are_none_are_told(self, estimator, name, folds, message, toy):
        made = clone(estimator).set_params(**{name: GivenFolds(*folds)})
        with pytest.raises(ValueError, match=f"{name} .*{message}"):
            made.fit_transform(toy.X, toy.y(), eras=toy.eras)

    def test_masks_are_the_rows_that_they_choose(self, estimator, name, toy):
        tables = []
        for kind in (np.asarray, np.flatnonzero):
            made = clone(estimator).set_params(**{name: LastEras(kind)})
            tables.append(made.fit_transform(toy.X, toy.y(), eras=toy.eras))
        np.testing.assert_array_equal(*tables)

    def test_folds_are_of_all_rows(self, estimator, name, toy):
        """Whichever of them are trained on; PredefinedSplit knows no others."""
        fold = np.where(toy.eras >= toy.eras[-1] - 1, 0, -1)
        fitted = []
        for cv in (PredefinedSplit(fold), LastEras(np.flatnonzero)):
            made = clone(estimator).set_params(**{name: cv})
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "The groups parameter is ignored")
                fitted.append(made.fit_transform(toy.X, toy.y(), eras=toy.eras))
        np.testing.assert_array_equal(*fitted)


def special_cases(cls, folder):
    """Estimators whose rarer parameters have something to do."""
    if issubclass(cls, NetworkEmbedder):
        known = inspect.signature(cls).parameters
        quick = FAST if "hidden" in known else LITTLE if "width" in known else {}
        quick = quick | ({"hidden": 8} if cls is SequenceDAE else {})
        narrow = NARROW if cls is SupervisedAEMLP else {}
        kept = {"checkpoint": folder / "kept", "log_dir": folder / "told"}
        return [cls(**quick, **narrow, **kept)]
    if cls is EraBlend:
        fitted = {"weights": "fit", "positive": False, "cv": EraKFold(2, purge=1)}
        return [cls(BLENDED, **fitted)]
    if cls in (PanelLGBMRegressor, PanelXGBRegressor):
        trees = LGBM if cls is PanelLGBMRegressor else XGB
        return [cls(trees, validation=EraHoldout(1, purge=0))]
    if cls is EraKFold:
        return [cls(shuffle=True, random_state=0)]
    return []


def work(estimator, toy):
    """Do whatever an estimator can do."""
    y = toy.y()
    if hasattr(estimator, "split"):
        list(estimator.set_params(purge=0).split_eras(range(1, 41)))
    elif hasattr(estimator, "fit_resample"):
        estimator.fit_resample(toy.X, y, eras=toy.eras)
    elif isinstance(estimator, AugmentedClassifier | AugmentedRegressor):
        estimator.fit(toy.X, (y > 0.5).astype(int)).predict(toy.X)
    elif isinstance(estimator, EraRegressor):
        benchmark = toy.X[:, 0] if estimator._wants("benchmark") else None
        estimator.fit(toy.X, y, eras=toy.eras, benchmark=benchmark)
        estimator.predict(toy.X, eras=toy.eras)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of tensorboard's own
            Z = estimator.fit_transform(toy.X, y, eras=toy.eras)
        for method in ("predict", "reconstruct"):
            if hasattr(estimator, method):
                getattr(estimator, method)(toy.X, eras=toy.eras)
        if hasattr(estimator, "inverse_transform") and not isinstance(
            estimator, UMAPEmbedder
        ):
            estimator.inverse_transform(Z)


@pytest.mark.parametrize("cls", public_classes().values(), ids=lambda c: c.__name__)
class TestClasses:
    def test_constraints_are_the_parameters(self, cls):
        constraints = getattr(cls, "_parameter_constraints", None)
        if constraints is None:
            pytest.skip("checks its parameters in its factory function")
        names = list(inspect.signature(cls).parameters)
        assert set(constraints) == set(names)

    def test_every_parameter_is_read_while_it_works(self, cls, toy, tmp_path):
        if cls.__name__ == "EraScorer":
            pytest.skip("reads its references by name; tested there")
        if issubclass(cls, NetworkEmbedder):
            pytest.importorskip("tensorboard")  # whose folder is a parameter
        made = [e for e in ALL if type(e) is cls] + special_cases(cls, tmp_path)
        read, asked = set(), []
        plain, get_params = cls.__getattribute__, cls.get_params

        def recorded(self, name):
            if not asked:
                read.add(name)
            return plain(self, name)

        def unrecorded(self, deep=True):  # which reads all of them
            asked.append(True)
            try:
                return get_params(self, deep)
            finally:
                asked.pop()

        class Recorded(types.SimpleNamespace):
            def __getattribute__(self, name):
                read.add(name)
                return super().__getattribute__(name)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cls, "__getattribute__", recorded)
            patch.setattr(cls, "get_params", unrecorded)
            # What a fit was made with is asked for by `transform` and its like.
            patch.setattr("numerai_features._whole_fit.SimpleNamespace", Recorded)
            for estimator in made:
                work(clone(estimator), toy)
        assert not set(inspect.signature(cls).parameters) - read

    def test_defaults_work_on_the_default_panel(self, cls, panel):
        if cls.__name__ == "EraScorer":
            pytest.skip("made by make_era_scorer; tested there")
        if hasattr(cls, "split"):
            assert list(cls(purge=1).split(panel.X, panel.y(), panel.eras))
        elif hasattr(cls, "fit_resample"):
            needed = {
                ComposeAugmenters: [[CutoutAugmenter()]],
                DreamAugmenter: [DAEEmbedder(3, **FAST)],
            }
            made = cls(*needed.get(cls, []))
            rows = made.fit_resample(panel.X, panel.y(), eras=panel.eras)
            assert len(rows.X) > panel.n_rows
        elif cls.__name__.startswith("Augmented"):
            labels = (panel.y() > 0.5).astype(int)
            made = cls(DecisionTreeClassifier(), CutoutAugmenter())
            assert set(made.fit(panel.X, labels).predict(panel.X)) == {0, 1}
        elif issubclass(cls, EraRegressor):
            needed = {
                EraBlend: [BLENDED],
                EraBoostedRegressor: [FEW_TREES],
                PanelLGBMRegressor: [LGBM],
                PanelXGBRegressor: [XGB],
                FamiliarityShrinker: [Ridge(), DAEEmbedder(1, **SMALL)],
            }
            made = cls(*needed.get(cls, [Ridge()]))
            made.fit(panel.X, panel.y(), eras=panel.eras)
            assert np.isfinite(made.predict(panel.X, eras=panel.eras)).all()
        else:
            quick = (
                {"max_epochs": 1}
                if "max_epochs" in inspect.signature(cls).parameters
                else {}
            )
            table = cls(**quick).fit_transform(panel.X, panel.y(), eras=panel.eras)
            assert len(table) == panel.n_rows


def fitted_on(estimator, X, toy, y=None, **extras):
    """Return a fitted clone; a sampler's `fit_resample` is its fit."""
    made = clone(estimator)
    y = toy.y() if y is None else y
    if isinstance(made, AugmentedClassifier):
        y = (y > 0.5).astype(int)
    method = "fit" if hasattr(made, "fit") else "fit_resample"
    getattr(made, method)(X, y, **extras)
    return made


def methods_for_rows(estimator):
    """Yield what a fitted estimator does with rows of the features of fit."""
    for name, _ in inspect.getmembers(type(estimator), callable):
        method = None if name.startswith(("_", "fit", "set_")) else name
        if method is None or name == "inverse_transform":  # which takes latents
            continue
        takes = {}
        if hasattr(estimator, name):
            takes = inspect.signature(getattr(estimator, name)).parameters
        if "X" in takes:
            yield getattr(estimator, name), ["y"] * ("y" in takes)


@pytest.mark.parametrize("kind", ["pandas", "polars"])
@pytest.mark.parametrize("estimator", FITTED, ids=repr)
def test_names_of_columns_are_checked_at_every_door(estimator, kind, toy):
    frame = toy.to_frame(targets=[]).reset_index(drop=True)
    features = [name for name in frame.columns if name != "era"]
    renamed = frame.rename(columns={name: f"my_{name}" for name in features})
    right, *wrong = (frame, frame[frame.columns[::-1]], renamed)
    if kind == "polars":
        right, *wrong = map(pl.from_pandas, (right, *wrong))
    fitted = fitted_on(estimator, right, toy)
    assert list(fitted.feature_names_in_) == features
    for method, more in methods_for_rows(fitted):
        labels = [toy.y() > 0.5 if is_classifier(fitted) else toy.y() for _ in more]
        for table in wrong:
            with pytest.raises(ValueError, match="feature names should match"):
                method(table, *labels)
        method(right, *labels)


class Careless(BaseEstimator):
    """Knows the names of its columns, and looks at none, as LightGBM does."""

    def fit(self, X, y):
        self.feature_names_in_ = np.asarray(X.columns, object)
        self.n_features_in_ = X.shape[1]
        return self

    def predict(self, X):
        return np.asarray(X)[:, 0] % 2


@pytest.mark.parametrize("estimator", AUGMENTED + ERA_REGRESSORS, ids=repr)
def test_a_frozen_model_inside_knows_the_same_columns(estimator, toy):
    """Its fit does nothing, so that nobody else would tell."""
    frame, y = toy.to_frame(targets=[]), (toy.y() > 0.5).astype(int)
    table = frame.drop(columns="era")
    wrong = {
        "the same columns in another order": table.iloc[:, ::-1],
        "fewer columns: it does not know 1": table.iloc[:, :-1],
        "other columns: X lacks 12": table.add_prefix("my_"),
    }

    def around(X):
        inner = FrozenEstimator(Careless().fit(X, y))
        if isinstance(estimator, EraBlend):
            return EraBlend([("regressor", inner)])
        name = {"estimator", "regressor"} & set(estimator.get_params())
        return clone(estimator).set_params(**{name.pop(): inner})

    known = EraBoostedRegressor | PanelLGBMRegressor | PanelXGBRegressor
    if isinstance(estimator, known):
        told = "FrozenEstimator cannot add trees|got FrozenEstimator"
        with pytest.raises(TypeError, match=told):
            around(table).fit(frame, y)
        return
    for told, X in wrong.items():
        told = f"(regressor|estimator) was fitted on {told}"
        with pytest.raises(ValueError, match=told):
            around(X).fit(frame, y)
    around(table).fit(frame, y).predict(frame)


@pytest.mark.parametrize("estimator", TRANSFORMERS, ids=repr)
def test_names_of_columns_that_come_out_are_unique(estimator, toy):
    inner = clone(estimator)
    twice = LatentFeatures(LatentFeatures(inner))
    frame = toy.to_frame(targets=[])
    for outer in (estimator, twice, LatentFeatures([("a", inner), ("b", inner)])):
        out = clone(outer).set_output(transform="polars").fit_transform(frame, toy.y())
        assert len(set(out.columns)) == out.shape[1]
        assert "era" not in out.columns


def learned(estimator, method, X, y, eras):
    """Return another that learned from moments, or from its first part of the rows."""
    if method == "from_moments":
        moments = EraMoments.from_rows(X, eras)
        params = estimator.get_params(deep=False)
        return type(estimator).from_moments(moments, **params)
    return getattr(clone(estimator), method)(X, y, eras=eras)


@pytest.mark.parametrize("estimator", FITTED, ids=repr)
def test_eras_that_are_names_are_never_numbers(estimator, toy):
    names = np.array(["ash", "birch", "cedar", "elm", "fir", "oak"])[toy.eras - 1]
    frame = toy.to_frame(targets=[]).assign(era=names)
    if isinstance(estimator, EraRegimes):  # what came before a name?
        with pytest.raises(ValueError, match="eras must be labels with numbers"):
            clone(estimator).fit(frame)
        return
    folds = {"cross_fit": EraKFold(2, purge=0)}
    own = folds if "cross_fit" in estimator.get_params(deep=False) else {}
    deep = (name for name in estimator.get_params() if name.endswith("validation"))
    own |= dict.fromkeys(deep)  # else the last eras are held out, and names have none
    if isinstance(estimator, UMAPEmbedder):
        own |= {"target_weight": 0.5}
    if isinstance(estimator, EraAutoencoder):  # positions need numbers
        own |= {"n_positions": None}
    if getattr(estimator, "synthetic_eras", 0):  # which need numbers
        own |= {"synthetic_eras": 0, "copies": 1}
    for X, eras in ((toy.X, names), (frame, None), (pl.from_pandas(frame), None)):
        given = {} if eras is None else {"eras": eras}
        made = clone(estimator).set_params(**own)
        if hasattr(made, "fit_transform") and own:
            made.fit_transform(X, toy.y(), **given)
        else:
            made = fitted_on(made, X, toy, **given)
        others = []
        for learn in ("partial_fit", "from_moments"):
            if hasattr(made, learn):
                others.append(learned(made, learn, toy.X, toy.y(), names))
        for one in (made, *others):
            for path, part in components(one):
                assert part.fitted_eras_ is None, path
        if not hasattr(made, "fit"):
            continue  # nothing that is scored
        for scored in (names, toy.eras, np.arange(6)):
            told = check_fitted_eras(made, scored, horizon=4)
            assert told.empty or told["leaks"].isna().all()


ONLY_WITH_Y = [
    *(e for e in FITTED if get_tags(e).target_tags.required),
    UMAPEmbedder(2, target_weight=0.5, **FAST),  # whose tag is of any parameters
    LatentFeatures(SUPERVISED[0], quantize="uint8"),
    LatentFeatures([("best", SelectKBest(k=1)), ("pca", PCA(1))]),
    LatentFeatures(PLSRegression(1)),  # whose tags do not tell
    LatentFeatures(make_pipeline(PCA(2), PLSRegression(1))),
    DreamAugmenter(SUPERVISED[0]),
    ComposeAugmenters([CutoutAugmenter(), BalanceAugmenter()], order="chain"),
    MIXED,
]


@pytest.mark.parametrize("estimator", ONLY_WITH_Y, ids=repr)
def test_targets_that_are_needed_and_not_there(estimator, toy):
    """None is told in scikit-learn's words, NaN in all rows as such."""
    told = {
        "estimator requires y to be passed, but the target y is None": None,
        r"y is NaN in all|y contains NaN|y holds no number": np.full(240, np.nan),
    }
    for match, y in told.items():
        for method in ("fit", "fit_transform", "fit_resample"):
            if hasattr(estimator, method):
                call = getattr(clone(estimator), method)
                with pytest.raises(ValueError, match=match):
                    call(toy.X, y, eras=toy.eras)


def test_another_error_of_an_embedder_without_y_stays_what_it_is(toy):
    class Odd(PCA):
        def fit(self, X, y):
            raise ValueError("n_components is odd")

    with pytest.raises(ValueError, match="n_components is odd"):
        LatentFeatures(Odd(3)).fit(toy.X)


def test_a_frozen_embedder_needs_no_target(toy):
    frozen = FrozenEstimator(PLSRegression(1).fit(toy.X, toy.y()))
    latents = LatentFeatures(frozen)
    assert not get_tags(latents).target_tags.required
    assert latents.fit(toy.X).transform(toy.X).shape == (240, 13)


def accepts(estimator, X, toy, y):
    try:
        return fitted_on(estimator, X, toy, y=y, eras=toy.eras)
    except (ValueError, TypeError):
        return None


@pytest.mark.parametrize("estimator", FITTED, ids=repr)
class TestTags:
    """What an estimator says that it takes it takes, and nothing else."""

    def test_missing_cells(self, estimator, toy):
        X = toy.X.astype(np.float32)
        X[::7, 3] = np.nan
        claimed = get_tags(estimator).input_tags.allow_nan
        assert claimed == (accepts(estimator, X, toy, toy.y()) is not None)

    def test_sparse_rows(self, estimator, toy):
        assert not get_tags(estimator).input_tags.sparse
        X = sparse.csr_matrix(toy.X.astype(np.float32))
        assert accepts(estimator, X, toy, toy.y()) is None

    def test_targets(self, estimator, toy):
        tags = get_tags(estimator).target_tags
        method = "fit" if hasattr(estimator, "fit") else "fit_resample"
        call = getattr(clone(estimator), method)
        if not tags.required:
            call(toy.X, None, eras=toy.eras)
        if hasattr(estimator, "predict"):
            both = accepts(estimator, toy.X, toy, np.column_stack([toy.y()] * 2))
            several = both is not None and outputs_of(both, toy)["predict"].ndim == 2
            assert tags.multi_output == several


class Broken(RuntimeError):
    """A fit fails here."""


def calls_of(run, at=None, error=None):
    """Run; return how many calls of ours it made. At one of them raise an error."""
    package = str(Path(numerai_features.__file__).parent)
    count = 0

    def watch(frame, event, argument):
        nonlocal count
        code = frame.f_code
        # A generator is also "called" when it is thrown away, where nothing can fail.
        generates = code.co_flags & inspect.CO_GENERATOR
        if event == "call" and not generates and code.co_filename.startswith(package):
            count += 1
            if count == at:
                raise error

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        run()
    finally:
        sys.setprofile(before)
    return count


PLACES = 25
# Whose tags scikit-learn looks at, whatever is fitted.
OTHERS = {
    "embedders": None,
    "estimator": DecisionTreeClassifier(),
    "regressor": DecisionTreeRegressor(),
}


def fit_on(estimator, rows, method="fit"):
    """Fit on rows of a panel, as the estimator is fitted."""
    if isinstance(estimator, AugmentedClassifier):
        return estimator.fit(rows.X, rows.y() > 0.5, eras=rows.eras)
    if not hasattr(estimator, method):
        method = "fit_resample"
    return getattr(estimator, method)(rows.X, rows.y(), eras=rows.eras)


def outputs_of(estimator, rows):
    """What a fitted estimator gives for rows, by all that it can do with them."""
    out = {}
    for method in (
        "transform", "predict", "predict_targets", "reconstruct", "score_samples",
        "predict_proba", "era_familiarity", "get_covariance", "get_precision",
        "get_feature_names_out",
    ):  # fmt: skip
        if not hasattr(estimator, method):
            continue
        call = getattr(estimator, method)
        takes = inspect.signature(call).parameters
        given = [rows.X] if "X" in takes else []
        out[method] = call(*given, **({"eras": rows.eras} if "eras" in takes else {}))
    if hasattr(estimator, "inverse_transform") and (
        not isinstance(estimator, UMAPEmbedder) or estimator.decoder_ is not None
    ):
        out["inverse_transform"] = estimator.inverse_transform(out["transform"])
    return out


def assert_same_outputs(found, expected):
    assert set(found) == set(expected)
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)


@pytest.mark.parametrize("estimator", slow_but_the_first(FITTED))
class TestWholeFits:
    """A fit that does not end changes nothing."""

    @pytest.fixture
    def later(self):
        return make_era_panel(n_eras=5, rows_per_era=30, n_features=9, random_state=4)

    def check(self, fitted, twin, fit_again):
        """Break a fit at many places; all is then as before, to the object."""
        n_calls = calls_of(lambda: fit_again(twin))
        before = dict(vars(fitted))
        contents = joblib.hash(before)
        for i, at in enumerate(np.unique(np.linspace(1, n_calls, PLACES).astype(int))):
            error = Broken() if i % 2 else KeyboardInterrupt()
            with contextlib.suppress(type(error)):
                while (n := calls_of(lambda: fit_again(fitted), int(at), error)) < at:
                    # More calls than before were other threads', which are not watched:
                    # nothing was raised. Again, at the last call that was.
                    vars(fitted).clear()
                    vars(fitted).update(before)
                    at = n
                pytest.fail(f"an error in call {at} of {n_calls} was swallowed")
            assert {k: id(v) for k, v in vars(fitted).items()} == {
                k: id(v) for k, v in before.items()
            }
        assert joblib.hash(vars(fitted)) == contents

    def test_a_fit_that_fails_leaves_the_old_one(self, estimator, toy, later):
        fitted, twin = clone(estimator), clone(estimator)
        fit_on(fitted, toy)
        fit_on(twin, toy)
        known = hasattr(fitted, "transform") or hasattr(fitted, "predict")
        expected = outputs_of(fitted, toy) if known else {}
        self.check(fitted, twin, lambda e: fit_on(e, later))
        assert_same_outputs(outputs_of(fitted, toy) if known else {}, expected)
        fit_on(fitted, later)
        if known:
            assert_same_outputs(outputs_of(fitted, later), outputs_of(twin, later))

    def test_a_first_fit_that_fails_leaves_it_unfitted(self, estimator, toy):
        self.check(clone(estimator), clone(estimator), lambda e: fit_on(e, toy))

    def test_a_partial_fit_that_fails_leaves_the_old_one(self, estimator, toy):
        if not hasattr(estimator, "partial_fit"):
            pytest.skip("has no partial_fit")
        more = make_era_panel(n_eras=4, n_features=12, rows_per_era=30, random_state=5)
        fitted, twin = clone(estimator), clone(estimator)
        fit_on(fitted, toy)
        fit_on(twin, toy)
        self.check(fitted, twin, lambda e: fit_on(e, more, "partial_fit"))
        fit_on(fitted, more, "partial_fit")
        assert_same_outputs(outputs_of(fitted, toy), outputs_of(twin, toy))

    def test_parameters_that_are_set_later_change_nothing(self, estimator, toy):
        fitted = clone(estimator)
        fit_on(fitted, toy)
        if hasattr(fitted, "transform") or hasattr(fitted, "predict"):
            expected = outputs_of(fitted, toy)
            for name in fitted.get_params(deep=False):
                setattr(fitted, name, OTHERS.get(name, object()))
            assert_same_outputs(outputs_of(fitted, toy), expected)


NETS = [
    DAES[0], SUPERVISED[0], UMAPS[0], MASKED[0], *ATTENTIVE, PLACED[0], PLACED[2],
    OWN[0],
]  # fmt: skip


@pytest.mark.parametrize("net", NETS, ids=lambda e: type(e).__name__)
class TestNetworkParameters:
    """What could go wrong where a dataclass makes the constructor."""

    def test_the_class_is_like_any_estimator(self, net):
        cls = type(net)
        assert "__init__" in vars(cls)
        assert cls.__eq__ is object.__eq__
        assert cls.__hash__ is object.__hash__
        assert cls.__repr__ is BaseEstimator.__repr__
        assert not hasattr(cls, "__slots__")

    def test_parameters_are_what_is_annotated(self, net):
        names = [f.name for f in dataclasses.fields(net)]
        assert sorted(names) == sorted(net.get_params())
        assert names == list(inspect.signature(type(net)).parameters)
        assert not [n for n in names if n.startswith("_") or n.endswith("_")]
        for name in names:
            hash(getattr(type(net), name))  # a default that can change is shared

    def test_own_parameters_come_first_and_shared_ones_in_one_order(self, net):
        names = list(inspect.signature(type(net)).parameters)
        shared = list(inspect.get_annotations(TrainingParameters))
        ours = [name for name in shared if name in names]
        assert names[-len(ours) :] == ours

    def test_shared_paragraphs_and_constraints_are_everywhere_the_same(self, net):
        told = ClassDoc(type(net), config={"show_class_members": False})
        shared = ClassDoc(TrainingParameters, config={"show_class_members": False})
        assert [*told["Examples"], *told["Extended Summary"]]
        ours = {entry.name: entry for entry in told["Parameters"]}
        same = 0
        for entry in shared["Parameters"]:
            if entry.name not in net.get_params():
                continue
            same += ours[entry.name].desc == entry.desc
            default = getattr(type(net), entry.name)
            like = f'"{default}"' if isinstance(default, str) else default
            assert ours[entry.name].type.endswith(f"default={like}")
            if ours[entry.name].desc == entry.desc:
                constraint = type(net)._parameter_constraints[entry.name]
                assert (
                    constraint is TrainingParameters._parameter_constraints[entry.name]
                )
        assert same >= 12
        attributes = {entry.name for entry in told["Attributes"]}
        assert {entry.name for entry in shared["Attributes"]} <= attributes


@pytest.mark.parametrize(
    "body", ["fitted_: int = 3", "_hidden: int = 3", "def validation(self): ..."]
)
def test_an_annotation_that_nobody_meant_is_refused(body):
    space = {"NetworkEmbedder": NetworkEmbedder}
    with pytest.raises(TypeError, match="which makes it a parameter"):
        exec(f"class Own(NetworkEmbedder):\n    {body}", space)


def test_a_leaf_may_change_a_default_and_leave_a_parameter_out():
    class Own(CellRestorer):
        """An embedder."""

        batching = "era"
        n_models: ClassVar[int] = 1

    assert Own().batching == "era"
    assert Own().get_params()["batching"] == "era"
    assert "n_models" not in Own().get_params()
    assert Own(5).n_components == 5


def leaf_of(net, body="", name="Own"):
    """Define a subclass in a module that has imported nothing."""
    space = {"Base": type(net), "__name__": "elsewhere"}
    exec(f"class {name}(Base):\n    'One line.'\n    {body}", space)
    return space[name]


class TestTasksOfDask:
    """Dask takes tasks for one if their tokens are equal."""

    @pytest.fixture
    def tokenize(self):
        tokenize = pytest.importorskip("dask.base").tokenize
        return partial(tokenize, ensure_deterministic=True)

    @pytest.mark.parametrize("estimator", ALL, ids=repr)
    def test_parameters_tell_estimators_apart(self, estimator, tokenize):
        estimator = clone(estimator)  # another test may have used it
        assert tokenize(estimator) == tokenize(clone(estimator))
        names = [n for n in estimator.get_params(deep=False) if n != "random_state"]
        for name in names:
            other = clone(estimator).set_params(**{name: "another"})
            assert tokenize(estimator) != tokenize(other), name

    @pytest.mark.parametrize("estimator", slow_but_the_first(FITTED))
    def test_fits_tell_estimators_apart(self, estimator, toy, tokenize):
        first, other = clone(estimator), clone(estimator)
        fit_on(first, toy)
        fit_on(other, toy.select(first=2))
        assert tokenize(first) == tokenize(copy.copy(first))
        if estimator not in AUGMENTERS:  # which learn nothing of the rows
            assert len({tokenize(e) for e in (first, other, estimator)}) == 3


@pytest.mark.parametrize("net", NETS, ids=lambda e: type(e).__name__)
class TestSubclasses:
    def test_works_like_its_parent(self, net, toy):
        own = leaf_of(net)(**net.get_params())
        assert inspect.signature(type(own)) == inspect.signature(type(net))
        ours, theirs = (
            one.fit(toy.X, toy.y(), eras=toy.eras).transform(toy.X, eras=toy.eras)
            for one in (own, clone(net))
        )
        np.testing.assert_array_equal(ours, theirs)
        assert type(own).__doc__.startswith("One line.\n\nParameters\n----------\n")

    def test_what_it_sets_of_its_own_stays(self, net, toy):
        """Before the fit that it inherits, and after; a refit may fail in between."""
        body = """
    def fit(self, X, y=None, eras=None, own=1):
        self.before_ = own
        super().fit(X, y, eras=eras)
        self.after_ = own
        return self
"""
        own = leaf_of(net, body)(**net.get_params())
        for number in (1, 2):
            own.fit(toy.X, toy.y(), eras=toy.eras, own=number)
            assert (own.before_, own.after_) == (number, number)

    def test_any_default_can_change(self, net):
        for name in net.get_params():
            assert getattr(leaf_of(net, f"{name} = 'own'")(), name) == "own"

    def test_constraints_are_kept(self, net, toy):
        own = leaf_of(net, "_parameter_constraints = {'verbose': ['verbose']}")
        for name in net.get_params():
            if name == "target_weights":
                continue  # depends on y, and is checked with it
            with pytest.raises(ValueError, match=name):
                own(**{name: object()}).fit(toy.X, toy.y(), eras=toy.eras)


def test_a_class_between_may_declare_parameters():
    class Between(NetworkEmbedder, abstract=True):
        depth: int = 2

    class Leaf(Between):
        width: int = 3

    assert list(inspect.signature(Leaf).parameters)[:2] == ["depth", "width"]
    assert Leaf.__doc__ is None
