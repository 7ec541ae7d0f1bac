"""What makes no sense is refused by name: by every public class and function."""

import importlib
import inspect
import re
import tempfile
import warnings
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dask.dataframe import from_pandas
from matplotlib import pyplot
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline

from numerai_features import (
    AugmentedClassifier,
    AugmentedRegressor,
    BalanceAugmenter,
    CombinatorialPurgedEraCV,
    ComposeAugmenters,
    ContrastiveEmbedder,
    CutoutAugmenter,
    DAEEmbedder,
    DreamAugmenter,
    EraAutoencoder,
    EraBlend,
    EraBoostedRegressor,
    EraHoldout,
    EraKFold,
    EraMixupAugmenter,
    EraMLP,
    EraNeutralizer,
    EraRanker,
    EraRegimes,
    EraSplitDisplay,
    EraStatistics,
    EraTransformer,
    EraWalkForward,
    FactorAnalysisEmbedder,
    FamiliarityShrinker,
    GaussianNoiseAugmenter,
    LatentFeatures,
    LatentMapDisplay,
    MaskedAutoencoder,
    PanelLGBMRegressor,
    PanelXGBRegressor,
    ReconstructionDisplay,
    RepeatedEraKFold,
    ResidualTargetRegressor,
    RidgeMixtureTargets,
    SequenceDAE,
    SupervisedAEMLP,
    UMAPEmbedder,
    augmenters,
    compose,
    distributed,
    encoders,
    export,
    make_era_panel,
    metrics,
    model_selection,
    moments,
    trees,
)
from numerai_features._arguments import checked
from numerai_features.encoders import Activation, Affine, Encoder

ROOMS = (
    "augmenters",
    "compose",
    "distributed",
    "embedders",
    "encoders",
    "export",
    "metrics",
    "model_selection",
    "moments",
    "trees",
)


class Anything:
    """A class, where an instance is wanted: it has every method."""

    fit = transform = predict = split = fit_resample = cache = scatter = None
    get_params = get_feature_names_out = columns = dropna = iloc = n_out = None
    set_xlabel = score_samples = items = keys = None


NONSENSE = {
    "object": object(),
    "text": "zzz",
    "bytes": b"x",
    "-1": -1,
    "0": 0,
    "10**30": 10**30,
    "10**400": 10**400,
    "1.5": 1.5,
    "nan": float("nan"),
    "inf": float("inf"),
    "-inf": float("-inf"),
    "True": True,
    "[]": [],
    "{}": {},
    "array(3)": np.array(3),
    "class": Anything,
    "lambda": lambda *_, **__: None,
    "None": None,
}

PANEL, TRUTH = make_era_panel(
    n_eras=12, rows_per_era=8, n_features=6, random_state=0, return_truth=True
)
X, ERAS = PANEL.X, PANEL.eras
Y = pd.Series(PANEL.y("target_alpha_20"), name="target_alpha_20")
FAST = {"hidden": (4,), "max_epochs": 1, "validation": None, "random_state": 0}
ONE_EPOCH = {"max_epochs": 1, "random_state": 0}
SEQUENCES = SequenceDAE(2, hidden=3, **ONE_EPOCH).fit(X, groups=ERAS)
FITTED = FactorAnalysisEmbedder(2).fit(X, eras=ERAS)
DAE = DAEEmbedder(2, **FAST).fit(X, eras=ERAS)
AEMLP = SupervisedAEMLP(2, decoder_units=4, dropout=(0.1,) * 4, **FAST).fit(
    X, Y, eras=ERAS
)
PERCEPTRON = EraMLP(**FAST).fit(X, Y, eras=ERAS)
ATTENTIVE = EraTransformer(
    2, width=4, n_heads=2, max_epochs=1, validation=None, random_state=0
).fit(X, Y, eras=ERAS)
UMAP = UMAPEmbedder(
    2, n_neighbors=4, batch_size=64, reconstruction_weight=1.0, **FAST
).fit(X, eras=ERAS)
LATENTS = FITTED.transform(X)
TABLES = dict.fromkeys(("true", "corrupted", "restored"), np.eye(3))
FRAME = pd.DataFrame(X).add_prefix("f")
ROWS_OF_DASK = from_pandas(FRAME, npartitions=2)
FOLDER = Path(tempfile.mkdtemp())
MOMENTS = moments.Moments.from_rows(X)
ERA_MOMENTS = moments.EraMoments.from_rows(X, ERAS, n_blocks=12)
SCORES = pd.Series(np.linspace(0, 0.1, 30), index=np.arange(1, 31))
ARMS = pd.DataFrame({"plain": SCORES, "more": SCORES + 0.01})
ROWS = {"X": X, "y": Y, "eras": ERAS, "sample_weight": np.ones(len(X))}


def rows_of(method):
    return {k: v for k, v in ROWS.items() if k in inspect.signature(method).parameters}


def made(cls, method, good, **fixed):
    """Return a call of a method of an object that the arguments make."""
    names = inspect.signature(cls).parameters

    def call(**arguments):
        own = {k: v for k, v in arguments.items() if k in names}
        rest = {k: v for k, v in arguments.items() if k not in names}
        call = getattr(cls(**own), method)
        result = call(**{**rows_of(call), **fixed, **rest})
        return list(result) if inspect.isgenerator(result) else result

    return call, list(names), good


def called(function, **good):
    """Return a call of a function, or of a method of an object that is there."""
    names = [
        name
        for name, p in inspect.signature(function).parameters.items()
        if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and name not in UNASKED
    ]

    def call(**arguments):
        result = function(**arguments)
        return list(result) if inspect.isgenerator(result) else result

    return call, names, {**rows_of(function), **good}


UNASKED = frozenset({"deep", "xp", "n_in", "x"})
"""What scikit-learn asks for itself, or encoders hand each other."""

SPLIT = {"groups": ERAS}
PURGE = {"purge": 1}
NET = {**FAST, "max_epochs": 1}
ATTENTION = {
    **dict.fromkeys(("query", "key", "value", "out"), np.eye(2)),
    "bias": np.zeros(2), "n_heads": 1, "kind": "full",
}  # fmt: skip
LITTLE = {"width": 4, "n_heads": 2, "n_layers": 1, "max_epochs": 1, "random_state": 0}
NARROW = {"n_components": 2, "decoder_units": 4, "dropout": (0.1,) * 4}
KNN = {"n_components": 2, "n_neighbors": 4, "batch_size": 64, "n_axes": 4}

BLEND = {"regressors": [("a", Ridge()), ("b", Ridge(99))]}
FIT_WEIGHTS = {"weights": "fit", "positive": False, "cv": EraKFold(2, purge=1)}
FEW = {"device": "cpu", "n_estimators": 2, "n_jobs": 1}
LGBM, XGB = trees.make_lightgbm(**FEW), trees.make_xgboost(**FEW)
TREES = GradientBoostingRegressor(n_estimators=2)

CALLS = {
    # --- constructors, by what they are for
    "BalanceAugmenter": made(BalanceAugmenter, "fit_resample", {}),
    "ComposeAugmenters": made(
        ComposeAugmenters, "fit_resample", {"augmenters": [CutoutAugmenter()]}
    ),
    "CutoutAugmenter": made(CutoutAugmenter, "fit_resample", {}),
    "DreamAugmenter": made(DreamAugmenter, "fit_resample", {"embedder": DAE}),
    "EraMixupAugmenter": made(EraMixupAugmenter, "fit_resample", {}),
    "GaussianNoiseAugmenter": made(GaussianNoiseAugmenter, "fit_resample", {}),
    "RidgeMixtureTargets": made(RidgeMixtureTargets, "fit_resample", {}),
    "AugmentedRegressor": made(
        AugmentedRegressor,
        "fit",
        {"estimator": Ridge(), "augmenter": CutoutAugmenter()},
    ),
    "AugmentedClassifier": made(
        AugmentedClassifier,
        "fit",
        {
            "estimator": LogisticRegression(max_iter=1000),
            "augmenter": CutoutAugmenter(),
        },
        y=np.asarray(Y > 0.5),
    ),
    "EraBlend": made(EraBlend, "fit", {**BLEND, **FIT_WEIGHTS}),
    "EraBoostedRegressor": made(
        EraBoostedRegressor, "fit", {"regressor": TREES, "n_rounds": 2}
    ),
    "PanelLGBMRegressor": made(PanelLGBMRegressor, "fit", {"regressor": LGBM}),
    "PanelXGBRegressor": made(PanelXGBRegressor, "fit", {"regressor": XGB}),
    "FamiliarityShrinker": made(
        FamiliarityShrinker, "fit", {"regressor": Ridge(), "autoencoder": DAE}
    ),
    "EraNeutralizer": made(EraNeutralizer, "fit", {"regressor": Ridge()}),
    "EraRanker": made(EraRanker, "fit", {"regressor": Ridge()}),
    "ResidualTargetRegressor": made(
        ResidualTargetRegressor, "fit", {"regressor": Ridge()}, benchmark=X[:, 0]
    ),
    "LatentFeatures": made(LatentFeatures, "fit", {}),
    "FactorAnalysisEmbedder": made(FactorAnalysisEmbedder, "fit", {}),
    "DAEEmbedder": made(DAEEmbedder, "fit", NET),
    "MaskedAutoencoder": made(MaskedAutoencoder, "fit", {**NET, "target_aware": True}),
    "SupervisedAEMLP": made(SupervisedAEMLP, "fit", {**NARROW, **NET}),
    "ContrastiveEmbedder": made(ContrastiveEmbedder, "fit", NET),
    "EraAutoencoder": made(
        EraAutoencoder, "fit", {"n_components": 2, "random_units": (2, 2), **NET}
    ),
    "EraMLP": made(EraMLP, "fit", NET),
    "EraRegimes": made(EraRegimes, "fit", {"n_steps": 3, "hidden": 3, **ONE_EPOCH}),
    "EraStatistics": made(EraStatistics, "fit", {}),
    "EraTransformer": made(EraTransformer, "fit", {**LITTLE, "validation": None}),
    "SequenceDAE": made(SequenceDAE, "fit", {"hidden": 3, **ONE_EPOCH}),
    "UMAPEmbedder": made(UMAPEmbedder, "fit", {**KNN, **NET}),
    "CombinatorialPurgedEraCV": made(
        CombinatorialPurgedEraCV, "split", {"n_groups": 4, **PURGE}, **SPLIT
    ),
    "EraHoldout": made(EraHoldout, "split", PURGE, **SPLIT),
    "EraKFold": made(EraKFold, "split", {"n_splits": 3, **PURGE}, **SPLIT),
    "EraWalkForward": made(EraWalkForward, "split", PURGE, **SPLIT),
    "RepeatedEraKFold": made(
        RepeatedEraKFold, "split", {"n_splits": 3, "n_repeats": 2, **PURGE}, **SPLIT
    ),
    "EraSplitDisplay": called(
        EraSplitDisplay, states=np.ones((2, 3), np.int8), era_numbers=np.arange(3)
    ),
    "LatentMapDisplay": called(LatentMapDisplay, latents=LATENTS),
    "ReconstructionDisplay": called(ReconstructionDisplay, **TABLES),
    "EraScorer": made(metrics.EraScorer, "score", {}, estimator=Ridge().fit(X, Y)),
    "Moments": called(
        moments.Moments,
        weight=2.0,
        total=np.zeros(2),
        scatter=np.eye(2),
        shift=np.zeros(2),
    ),
    "EraMoments": called(
        moments.EraMoments,
        numbers=np.arange(1),
        weights=np.ones(1),
        totals=np.zeros((1, 6)),
        block_of=np.zeros(1, np.intp),
        blocks=[MOMENTS],
    ),
    "Activation": called(Activation, name="relu"),
    "Affine": called(Affine, weight=np.eye(2), bias=np.zeros(2)),
    "Concatenate": called(encoders.Concatenate, branches=(Encoder([]),)),
    "Encoder": called(Encoder, steps=[("a", Activation("relu"))]),
    "Attention": called(encoders.Attention, **ATTENTION),
    "FeatureTokens": called(
        encoders.FeatureTokens,
        edges=np.zeros((1, 2)),
        vectors=np.zeros((2, 2, 3)),
        groups=np.zeros((1, 3)),
        borders=(0, 2),
    ),
    "Fill": called(encoders.Fill, values=np.zeros(2)),
    "InducedAttention": called(
        encoders.InducedAttention,
        points=np.zeros((1, 2)),
        gather=encoders.Attention(**ATTENTION),
        spread=encoders.Attention(**ATTENTION),
        norm=encoders.LayerNorm(np.ones(2), np.zeros(2)),
    ),
    "LayerNorm": called(encoders.LayerNorm, gamma=np.ones(2), beta=np.zeros(2)),
    "Residual": called(encoders.Residual, branch=Encoder([])),
    "Quantize": called(encoders.Quantize, edges=np.zeros((2, 1))),
    "Recurrent": called(
        encoders.Recurrent,
        kind="rnn",
        weight=np.zeros((2, 3)),
        recurrent=np.zeros((3, 3)),
        bias=np.zeros(3),
    ),
    # --- methods
    "BalanceAugmenter.fit_resample": called(BalanceAugmenter(1.0).fit_resample),
    "CutoutAugmenter.fit_resample": called(CutoutAugmenter().fit_resample),
    "CutoutAugmenter.fit": called(CutoutAugmenter().fit),
    "LatentFeatures.fit": called(LatentFeatures(FITTED).fit),
    "LatentFeatures.transform": called(LatentFeatures(FITTED).fit(X).transform),
    "LatentFeatures.transform_to": called(
        LatentFeatures(FITTED, quantize="uint8").fit(X).transform_to,
        panel=PANEL,
        path="latents",
        overwrite=True,
    ),
    "LatentFeatures.get_feature_names_out": called(
        LatentFeatures().fit(X).get_feature_names_out, input_features=None
    ),
    "AugmentedRegressor.fit": called(
        AugmentedRegressor(Ridge(), CutoutAugmenter()).fit
    ),
    "EraBlend.fit": called(
        EraBlend(**BLEND, **FIT_WEIGHTS, metric="bmc").fit, benchmark=X[:, 0]
    ),
    "EraBoostedRegressor.fit": called(EraBoostedRegressor(TREES, n_rounds=2).fit),
    "FamiliarityShrinker.factors": called(
        FamiliarityShrinker(Ridge(), DAE).fit(X, Y, eras=ERAS).factors
    ),
    "EraNeutralizer.predict": called(
        EraNeutralizer(Ridge(), neutralize_to="benchmark").fit(X, Y, eras=ERAS).predict,
        benchmark=X[:, 0],
    ),
    "ResidualTargetRegressor.fit": called(
        ResidualTargetRegressor(Ridge()).fit, benchmark=X[:, 0]
    ),
    "EraRanker.fit": called(EraRanker(Ridge()).fit),
    "EraRanker.predict": called(EraRanker(Ridge()).fit(X, Y, eras=ERAS).predict),
    "FactorAnalysisEmbedder.fit": called(FactorAnalysisEmbedder(2).fit),
    "FactorAnalysisEmbedder.partial_fit": called(FactorAnalysisEmbedder(2).partial_fit),
    "FactorAnalysisEmbedder.from_moments": called(
        FactorAnalysisEmbedder.from_moments, moments=MOMENTS, feature_names=None
    ),
    "FactorAnalysisEmbedder.transform": called(FITTED.transform),
    "FactorAnalysisEmbedder.score_samples": called(FITTED.score_samples),
    "DAEEmbedder.fit": called(DAEEmbedder(2, **FAST).fit),
    "DAEEmbedder.partial_fit": called(DAEEmbedder(2, **FAST).partial_fit),
    "DAEEmbedder.era_familiarity": called(DAE.era_familiarity),
    "DAEEmbedder.reconstruct": called(DAE.reconstruct),
    "DAEEmbedder.inverse_transform": called(DAE.inverse_transform, X=DAE.transform(X)),
    "MaskedAutoencoder.fit": called(MaskedAutoencoder(2, **FAST).fit),
    "SupervisedAEMLP.fit": called(
        SupervisedAEMLP(**NARROW, **NET).fit, benchmark=np.asarray(X[:, 0], float)
    ),
    "SupervisedAEMLP.predict": called(AEMLP.predict),
    "SupervisedAEMLP.score": called(AEMLP.score),
    "ContrastiveEmbedder.fit": called(ContrastiveEmbedder(2, **FAST).fit),
    "EraAutoencoder.fit": called(EraAutoencoder(2, random_units=(2, 2), **FAST).fit),
    "EraMLP.fit": called(
        EraMLP(**NET, benchmark_penalty=0.1).fit, benchmark=np.asarray(X[:, 0], float)
    ),
    "EraMLP.partial_fit": called(EraMLP(**NET).partial_fit),
    "EraMLP.predict": called(PERCEPTRON.predict),
    "EraTransformer.fit": called(EraTransformer(2, **LITTLE).fit),
    "EraTransformer.predict": called(ATTENTIVE.predict),
    "EraTransformer.predict_targets": called(ATTENTIVE.predict_targets),
    "EraTransformer.reconstruct": called(ATTENTIVE.reconstruct),
    "EraTransformer.transform": called(ATTENTIVE.transform),
    "EraRegimes.fit": called(EraRegimes(2, n_steps=3, hidden=3, **ONE_EPOCH).fit),
    "EraRegimes.transform": called(
        EraRegimes(2, n_steps=3, hidden=3, **ONE_EPOCH).fit(X, eras=ERAS).transform
    ),
    "SequenceDAE.fit": called(SequenceDAE(2, hidden=3, **ONE_EPOCH).fit, groups=ERAS),
    "SequenceDAE.transform": called(SEQUENCES.transform, groups=ERAS),
    "SequenceDAE.reconstruct": called(SEQUENCES.reconstruct, groups=ERAS),
    "SequenceDAE.score_samples": called(SEQUENCES.score_samples, groups=ERAS),
    "EraStatistics.transform": called(EraStatistics().fit(X, eras=ERAS).transform),
    "UMAPEmbedder.fit": called(UMAPEmbedder(**{**KNN, **NET}).fit),
    "UMAPEmbedder.inverse_transform": called(
        UMAP.inverse_transform, X=UMAP.transform(X)
    ),
    "LatentMapDisplay.from_estimator": called(
        LatentMapDisplay.from_estimator, embedder=FITTED, y=None, color=0
    ),
    "LatentMapDisplay.from_latents": called(LatentMapDisplay.from_latents, Z=LATENTS),
    "LatentMapDisplay.plot": called(LatentMapDisplay(latents=LATENTS).plot),
    "ReconstructionDisplay.from_estimator": called(
        ReconstructionDisplay.from_estimator, estimator=DAE
    ),
    "ReconstructionDisplay.plot": called(ReconstructionDisplay(**TABLES).plot),
    "EraSplitDisplay.from_cv": called(EraSplitDisplay.from_cv, cv=EraKFold(2, purge=1)),
    "EraSplitDisplay.plot": called(
        EraSplitDisplay.from_cv(EraKFold(2, purge=1), ERAS).plot
    ),
    "EraKFold.split": called(EraKFold(2, purge=1).split, groups=ERAS),
    "EraKFold.split_eras": called(EraKFold(2, purge=1).split_eras),
    "EraWalkForward.numerai": called(EraWalkForward.numerai, target="target_60"),
    "EraWalkForward.get_n_splits": called(
        EraWalkForward(test_eras=4, purge=1).get_n_splits, groups=ERAS
    ),
    "CombinatorialPurgedEraCV.backtest_paths": called(
        CombinatorialPurgedEraCV(3, 1, purge=1).backtest_paths,
        predictions=[np.zeros(32)] * 3,
        groups=ERAS,
    ),
    "EraScorer.score": called(metrics.EraScorer().score, estimator=Ridge().fit(X, Y)),
    "Moments.from_rows": called(moments.Moments.from_rows, fill=np.zeros(6)),
    "Moments.about": called(MOMENTS.about, shift=np.ones(6)),
    "EraMoments.from_rows": called(moments.EraMoments.from_rows, n_blocks=2),
    "EraMoments.without": called(ERA_MOMENTS.without, eras=[1]),
    "Encoder.transform": called(
        FITTED.encoder_.transform, eras=np.zeros(len(X), int), out=None
    ),
    # --- functions
    "neutralize_by_era": called(compose.neutralize_by_era, predictions=X[:, 0]),
    "fit_blend_weights": called(
        compose.fit_blend_weights, prediction=X[:, :2], positive=False
    ),
    "rank_by_era": called(compose.rank_by_era, predictions=X[:, 0]),
    "check_augmenter": called(
        augmenters.check_augmenter, augmenter=CutoutAugmenter(random_state=0)
    ),
    "mean_interval": called(metrics.mean_interval, scores=SCORES, overlap=4),
    "eras_needed": called(
        metrics.eras_needed, scores=SCORES, difference=0.01, overlap=2
    ),
    "deflated_sharpe_ratio": called(
        metrics.deflated_sharpe_ratio, scores=ARMS, overlap=2
    ),
    "paired_differences": called(
        metrics.paired_differences, scores=ARMS, baseline="plain", overlap=4
    ),
    "era_scores": called(metrics.era_scores, prediction=X[:, 0]),
    "export_predict": called(
        export.export_predict,
        pipeline=Ridge().fit(FRAME, Y),
        path="model.pkl",
        neutralize="benchmark",
        benchmark="b",
    ),
    "check_export": called(
        export.check_export,
        path=export.export_predict(Ridge().fit(FRAME, Y), FOLDER / "model.pkl"),
        live=FRAME.assign(era="X"),
    ),
    "expected_scores": called(metrics.expected_scores, prediction=X[:, 0], truth=TRUTH),
    "make_era_scorer": called(metrics.make_era_scorer),
    "max_drawdown": called(metrics.max_drawdown, scores=SCORES),
    "summarize": called(metrics.summarize, prediction=X[:, 0]),
    "summarize_scores": called(metrics.summarize_scores, scores=SCORES),
    "gather_moments": called(distributed.gather_moments, parts=ROWS_OF_DASK),
    "panel_frame": called(distributed.panel_frame, panel=PANEL),
    "transform_partitions": called(
        distributed.transform_partitions,
        latents=LatentFeatures(FITTED).fit(FRAME),
        frame=ROWS_OF_DASK,
    ),
    "check_fitted_eras": called(
        model_selection.check_fitted_eras, estimator=FITTED, horizon=4
    ),
    "check_splits": called(
        model_selection.check_splits, cv=EraKFold(2, purge=4), horizon=4, X=X
    ),
    "cross_val_predict_eras": called(
        model_selection.cross_val_predict_eras,
        estimator=Ridge(),
        cv=EraKFold(2, purge=1),
        verbose=False,
    ),
    "measure_leakage": called(
        model_selection.measure_leakage,
        estimator=Ridge(),
        cv=EraKFold(2, purge=1),
        verbose=False,
    ),
    "overlapping_eras": called(
        model_selection.overlapping_eras, train=[1, 2], test=[3], horizon=4
    ),
    "make_lightgbm": called(trees.make_lightgbm, device="cpu"),
    "make_xgboost": called(trees.make_xgboost, device="cpu"),
    "tree_table": called(trees.tree_table),
    "lightgbm_dataset": called(trees.lightgbm_dataset),
    "quantile_dmatrix": called(trees.quantile_dmatrix),
}

NO_ARGUMENTS = {
    "Argmax": "has none",
    "Positions": "has none",
    "Softmax": "has none",
    "TokenMean": "has none",
    "MeanInterval": "a result, which nobody makes by hand",
    "LeakageEstimate": "a result, which nobody makes by hand",
    "ExportCheck": "a result, which nobody makes by hand",
    "EraLeakageError": "an error",
    "EraLeakageWarning": "a warning",
    "SetAsideWarning": "a warning",
}
ALLOWED = {
    ("*", "random_state", "0"): "a seed",
    ("*", "random_state", "None"): "other numbers each time",
    ("*", "proportion", "0"): "subtracts nothing",
    ("*", "strength", "0 1.5"): "shrinks nothing, and much",
    ("*", "other_weight", "0"): "the default",
    ("*", "purge", "0"): "for targets that do not overlap",
    ("*", "embargo", "0"): "the default",
    ("*", "target", "text"): "a name; a purge in eras wins over what it tells",
    ("*", "memory", "text"): "a folder",
    ("*", "checkpoint", "text"): "a folder",
    ("*", "log_dir", "text"): "a folder",
    ("*", "label", "text"): "a title",
    ("*", "splitter_name", "text"): "a title",
    ("*", "estimator_name", "text"): "a title",
    ("*", "verbose", "0 True"): "no and yes",
    ("*", "n_jobs", "-1"): "all cores",
    ("*", "params", "{}"): "no parameters",
    ("*", "copies", "1.5"): "a copy of each row, and of half of them another",
    ("*", "feature_dropout", "0"): "the default",
    ("*", "orthogonality", "0 1.5"): "the default, and much",
    ("*", "benchmark_penalty", "0"): "the default",
    ("*", "validation", "None"): "trains on all rows",
    ("*", "patience", "None"): "never stops early",
    ("*", "clip_norm", "1.5 None"): "a norm, or any",
    ("*", "ema_decay", "None"): "no average",
    ("*", "reduce", "None"): "no axes",
    ("*", "learning_rate", "1.5"): "large, but a rate",
    ("*", "weight_decay", "0 1.5"): "none, and much",
    ("*", "checkpoint_every", "0 1.5"): "seconds",
    ("*", "dropout", "0"): "the default",
    ("*", "noise_level", "0 1.5"): "a deviation; a share that is above 1 is refused",
    ("*", "emphasis", "0"): "a share",
    ("*", "target_weight", "0"): "the default",
    ("*", "reconstruction_weight", "0 1.5"): "none, and much",
    ("*", "hidden", "[]"): "no hidden layer: a linear network",
    (
        "*",
        "y",
        "text object bytes -1 0 10**30 10**400 1.5 nan inf -inf True [] {} array(3) "
        "class lambda",
    ): "ignored: scikit-learn's pipelines hand it to every step",
    ("make_lightgbm", "n_jobs", "0"): "as OpenMP has it",
    ("make_xgboost", "n_jobs", "0"): "all cores",
    ("lightgbm_dataset", "n_jobs", "0"): "as OpenMP has it",
    ("lightgbm_dataset", "categorical_feature", "[]"): "none",
    ("quantile_dmatrix", "n_jobs", "0"): "all cores",
    (
        "LatentMapDisplay.from_estimator",
        "random_state",
        "10**30",
    ): "a seed of up to 128 bits",
    (
        "ReconstructionDisplay.from_estimator",
        "random_state",
        "10**30",
    ): "a seed of up to 128 bits",
    ("BalanceAugmenter", "target", "0"): "the first column",
    ("CutoutAugmenter", "fraction", "0"): "cuts nothing",
    ("CutoutAugmenter", "value", "-1 0"): "what cells are set to",
    ("DreamAugmenter", "step", "1.5"): "in units of the features",
    ("EraMixupAugmenter", "alpha", "1.5"): "of a beta distribution",
    ("GaussianNoiseAugmenter", "sd", "0 1.5"): "a deviation",
    ("RidgeMixtureTargets", "synthetic_eras", "0"): "the default",
    ("FactorAnalysisEmbedder", "tol", "0 1.5"): "goes to the last digit; stops at once",
    ("ContrastiveEmbedder", "temperature", "1.5"): "a temperature",
    ("ContrastiveEmbedder", "vime_weight", "0 1.5"): "none, and much",
    ("EraAutoencoder", "n_positions", "None"): "the era is no input",
    ("EraAutoencoder", "random_scale", "1.5"): "a deviation",
    ("UMAPEmbedder", "min_dist", "0"): "the default",
    ("UMAPEmbedder", "spread", "1.5"): "a scale",
    ("UMAPEmbedder", "negative_sample_rate", "1.5"): "a rate",
    ("Encoder", "steps", "[]"): "passes its input on",
    ("Moments", "weight", "0 1.5"): "no rows, and rows with weights",
    ("LatentMapDisplay.from_estimator", "color", "-1 0"): "a column by its place",
    ("deflated_sharpe_ratio", "variance_of_trials", "0 1.5"): "none, and much",
    ("eras_needed", "difference", "1.5"): "large, but a difference",
    ("LatentFeatures.transform_to", "path", "text"): "a folder",
    ("export_predict", "path", "text"): "a file",
    ("export_predict", "benchmark", "text"): "the name of a column",
    ("export_predict", "name", "text"): "the name of a column",
    ("export_predict", "rank", "None"): "predictions as they are",
    ("max_drawdown", "scores", "[]"): "no era, no fall",
    ("EraKFold.split", "X", "None"): "eras come as groups",
}
"""What of the nonsense makes sense, and why."""

IGNORES_Y = (
    "CutoutAugmenter.fit",
    "LatentFeatures.fit",
    "FactorAnalysisEmbedder.fit",
    "FactorAnalysisEmbedder.partial_fit",
    "DAEEmbedder.fit",
    "DAEEmbedder.partial_fit",
    "ContrastiveEmbedder.fit",
    "EraAutoencoder.fit",
    "EraRegimes.fit",
    "MaskedAutoencoder.fit",
    "SequenceDAE.fit",
    "UMAPEmbedder.fit",
)
# What scikit-learn says of a table that is none; its own checks ask for these words.
ON_X = "Expected 2D array"


def public():
    found = {}
    for room in ROOMS:
        module = importlib.import_module(f"numerai_features.{room}")
        found |= {name: getattr(module, name) for name in module.__all__}
    return found


def is_default(value, default):
    """Whether a value is the default, or the other of True and False."""
    if value is True and isinstance(default, bool):
        return True
    return value is None and default is None


def reason_for(call, name, label):
    """Return the key of the reason why a value makes sense."""
    for where, which, labels in ALLOWED:
        ignored = which != "y" or call in IGNORES_Y
        if where in ("*", call) and which == name and label in labels.split():
            return (where, which, labels) if ignored else None
    return None


def outcome(function, arguments, name):
    """Return how a call ends: "told", "accepted" or "unclear" with what is said."""
    try:
        function(**arguments)
    except (ValueError, TypeError, FileNotFoundError) as error:
        words = rf"(?<!\w){re.escape(name)}(?!\w)" + (f"|{ON_X}" if name == "X" else "")
        told = re.search(words, str(error))
        return "told" if told else f"unclear: {type(error).__name__}: {error}"
    except ImportError:
        return "accepted"  # what it asks for, such as TensorBoard, is not here
    except Exception as error:
        return f"unclear: {type(error).__name__}: {error}"
    return "accepted"


def default_of(call, name):
    value = public().get(call.partition(".")[0])
    if "." in call:
        value = getattr(value, call.partition(".")[2])
    return inspect.signature(value).parameters[name].default


@pytest.fixture(scope="module")
def figures():
    """Counts of calls and of faults, printed at the end."""
    counts = Counter()
    yield counts
    print(
        f"\n{counts['calls']} calls, {counts['unclear']} unclear errors, "
        f"{counts['accepted']} accepted in silence"
    )


@pytest.mark.parametrize("call", CALLS)
def test_nonsense_is_refused_by_name(call, figures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some text is the name of a folder
    function, names, good = CALLS[call]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of eras that did not come, and the like
        function(**good)
        faults = []
        for name in names:
            default = default_of(call, name)
            for label, value in NONSENSE.items():
                if is_default(value, default):
                    continue
                figures["calls"] += 1
                result = outcome(function, {**good, name: value}, name)
                if result == "told" or (
                    result == "accepted" and reason_for(call, name, label)
                ):
                    continue
                figures[result.partition(":")[0]] += 1
                faults.append(f"{name}={label}: {result[:200]}")
                pyplot.close("all")
    pyplot.close("all")
    assert not faults, "\n" + "\n".join(faults)


def takes_any(value):
    """Whether a call takes parameters by any name."""
    kinds = [p.kind for p in inspect.signature(value).parameters.values()]
    return inspect.Parameter.VAR_KEYWORD in kinds


# What hands on parameters by any name: how it is called beside them.
HANDED_ON = {
    "make_lightgbm": {"device": "cpu"},
    "make_xgboost": {"device": "cpu"},
    "EraWalkForward.numerai": {"target": "target_ender_20"},
    "FactorAnalysisEmbedder.from_moments": {"moments": moments.Moments.from_rows(X)},
}


def test_a_name_that_nobody_knows_is_refused_wherever_any_name_is_taken():
    found = {}
    for name, value in public().items():
        if not inspect.isclass(value):
            found |= {name: value} if takes_any(value) else {}
            continue
        for own, method in inspect.getmembers(value):
            if isinstance(inspect.getattr_static(value, own), classmethod):
                found |= {f"{name}.{own}": method} if takes_any(method) else {}
    found = {name: value for name, value in found.items() if "._" not in name}
    assert found.keys() == HANDED_ON.keys()
    for name, value in found.items():
        with pytest.raises((TypeError, ValueError), match="n_estimatorz"):
            value(**HANDED_ON[name], n_estimatorz=3)


def test_everything_public_is_asked():
    assert set(public()) == {call.partition(".")[0] for call in CALLS} | set(
        NO_ARGUMENTS
    )


@pytest.mark.parametrize("metric", ["corr", "max_exposure"])
def test_what_a_metric_makes_no_use_of_is_told(metric):
    given = {"features": X} if metric == "max_exposure" else {}
    with pytest.raises(ValueError, match="benchmark was passed, but metric="):
        metrics.era_scores(Y, X[:, 0], ERAS, metric=metric, benchmark=Y, **given)
    with pytest.raises(ValueError, match="features was passed, but metric='corr'"):
        metrics.make_era_scorer("corr", features=["f0"])


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (trees.make_lightgbm, "n_jobs"),
        (trees.make_lightgbm, "num_threads"),
        (trees.make_lightgbm, "nthread"),
        (trees.make_xgboost, "n_jobs"),
        (trees.make_xgboost, "nthread"),
    ],
)
def test_threads_are_bounded(make, name):
    for threads in (None, -1024, -2, -1, 0, 1, 256):
        assert make(device="cpu", **{name: threads}).n_jobs == threads
    with pytest.raises(ValueError, match=f"'{name}' parameter of {make.__name__} must"):
        make(device="cpu", **{name: 10**7})


@pytest.mark.parametrize("make", [trees.make_lightgbm, trees.make_xgboost])
@pytest.mark.parametrize(
    "value", [10**400, Fraction(10**400, 3)], ids=["whole", "fraction"]
)
def test_numbers_beyond_floats_are_refused_by_name(make, value):
    with pytest.raises(ValueError, match="'learning_rate' parameter of make_"):
        make(device="cpu", learning_rate=value)


def test_cells_and_eras_beyond_floats_are_refused_by_name():
    cells, labels = X.astype(object), ERAS.astype(object)
    cells[3, 2] = labels[3] = 10**400
    with pytest.raises(
        ValueError, match="X has an integer that is too large for a float"
    ):
        FactorAnalysisEmbedder(2).fit(cells)
    with pytest.raises(ValueError, match="eras must be whole numbers or labels; got 1"):
        FactorAnalysisEmbedder(2).fit(X, eras=labels)
    with pytest.raises(ValueError, match=r"missing_share must be in \[0, 1\); got 1"):
        make_era_panel(missing_share=10**400)


def test_jobs_count_back_from_any_number_of_cores():
    out = model_selection.cross_val_predict_eras(
        Ridge(), X, Y, ERAS, cv=EraKFold(2, purge=1), n_jobs=-1024, verbose=0
    )
    assert len(out) == len(X)
    with pytest.raises(ValueError, match=r"'n_jobs' parameter of .*Got -1025"):
        model_selection.cross_val_predict_eras(
            Ridge(), X, Y, ERAS, cv=EraKFold(2, purge=1), n_jobs=-1025
        )


ONE, TWO = np.arange(16), np.arange(16, 32)


@pytest.mark.parametrize("as_splitter", [False, True])
@pytest.mark.parametrize(
    ("fold", "message"),
    [
        ((ONE, TWO, TWO), "cv must yield pairs of training and test rows; fold 1 is"),
        ((ONE,), "cv must yield pairs"),
        (3, "cv must yield pairs of training and test rows; fold 1 is 3"),
        ("ab", "cv must yield pairs"),
        ({1: 2, 3: 4}, "cv must yield pairs"),
        (np.array(3), "cv must yield pairs"),
        (np.arange(2), r"cv must yield row indices .*shape \(\)"),
        (([[1], [2, 3]], TWO), "training rows of fold 1 are a list of 2 arrays"),
        ((ONE, [TWO[:8], TWO[8:]]), "one array; the test rows of fold 1 are a list"),
        ((ONE, (TWO, TWO[:3])), r"Join them with np\.concatenate, or"),
        ((1, 2), r"cv must yield row indices .*training rows of fold 1 .*shape \(\)"),
        ((ONE, "b"), "cv must yield row indices .*the test rows of fold 1"),
        ((np.array([[1, 2]]), TWO), r"cv must yield row indices .*shape \(1, 2\)"),
        ((slice(3), TWO), "cv must yield row indices"),
        ((ONE, [0.5]), "cv must yield row indices .*float64"),
        (([-97, 1], TWO), "cv must yield row indices .*from -97 to 1"),
        ((ONE, [99]), "cv must yield row indices below 96.*from 99 to 99"),
        ((ONE, [True] * 5), "cv must yield .*a mask of 5 rows"),
    ],
)
def test_folds_that_are_none_are_told(fold, message, as_splitter):
    cv = [(ONE, TWO), fold]
    if as_splitter:
        cv = GivenFolds(cv)
    with pytest.raises(ValueError, match=message):
        model_selection.check_splits(cv, ERAS, 1)
    with pytest.raises(ValueError, match=message):
        EraSplitDisplay.from_cv(cv, ERAS)
    with pytest.raises(ValueError, match=message):
        model_selection.cross_val_predict_eras(
            Ridge(), X, Y, ERAS, cv=cv, verbose=False
        )


class GivenFolds:
    """A splitter of somebody else, whose folds are what they are."""

    def __init__(self, folds):
        self.folds = folds

    def get_n_splits(self, X=None, y=None, groups=None):
        return len(self.folds)

    def split(self, X, y=None, groups=None):
        yield from self.folds


def test_rows_counted_from_the_end_are_those_rows():
    last = np.arange(-16, 0)
    out = [
        model_selection.cross_val_predict_eras(
            Ridge(), X, Y, ERAS, cv=[(ONE, rows)], verbose=0
        )
        for rows in (last, last + len(X))
    ]
    pd.testing.assert_frame_equal(*out)


@pytest.mark.parametrize(
    ("fold", "which"), [(([], TWO), "training"), ((ONE, []), "test")]
)
def test_a_fold_without_rows_is_told(fold, which):
    with pytest.raises(ValueError, match=f"cv has no {which} rows in fold 0"):
        model_selection.cross_val_predict_eras(
            Ridge(), X, Y, ERAS, cv=[fold], verbose=False
        )


def test_parameters_of_what_is_inside_are_checked():
    inside = [CutoutAugmenter(copies=-1)]
    with pytest.raises(ValueError, match="'copies' parameter of CutoutAugmenter"):
        ComposeAugmenters(inside, order="chain").fit_resample(X, eras=ERAS)
    with pytest.raises(ValueError, match="'copies' parameter of CutoutAugmenter"):
        ComposeAugmenters(inside).fit_resample(X, eras=ERAS)
    with pytest.raises(ValueError, match="'max_epochs' parameter of DAEEmbedder"):
        DreamAugmenter(DAEEmbedder(max_epochs=0)).fit_resample(X, eras=ERAS)
    net = SupervisedAEMLP(**NARROW, **{**NET, "cross_fit": EraKFold(2, purge=-1)})
    with pytest.raises(ValueError, match="'purge' parameter of EraKFold"):
        net.fit_transform(X, Y, eras=ERAS)


@pytest.mark.parametrize(
    "use",
    [
        lambda cv: model_selection.check_splits(cv, ERAS, 1),
        lambda cv: EraSplitDisplay.from_cv(cv, ERAS),
        lambda cv: model_selection.cross_val_predict_eras(
            Ridge(), X, Y, ERAS, cv=cv, verbose=False
        ),
    ],
)
def test_no_folds_are_no_good_folds(use):
    with pytest.raises(ValueError, match=r"cv yields no folds; got \[\]"):
        use([])
    pairs = (fold for fold in EraKFold(2, purge=1).split(X, groups=ERAS))
    use(pairs)
    match = r"no folds; got <generator .*after its first use: pass list\(splitter\.spl"
    with pytest.raises(ValueError, match=match):
        use(pairs)
    with pytest.raises(ValueError, match="Pass a splitter that splits these rows"):
        use(GivenFolds([]))


def test_a_splitter_is_wanted_where_a_generator_is_gone():
    pairs = EraKFold(2, purge=1).split(X, groups=ERAS)
    with pytest.raises(ValueError, match="cv must be an era splitter of this package"):
        model_selection.measure_leakage(Ridge(), X, Y, ERAS, cv=pairs)


def test_pairs_may_come_from_an_iterator():
    pairs = list(EraKFold(2, purge=1).split(X, groups=ERAS))
    out = model_selection.cross_val_predict_eras(
        Ridge(), X, Y, ERAS, cv=iter(pairs), verbose=False
    )
    assert out["fold"].nunique() == 2


def test_pipelines_are_asked_whether_they_are_fitted():
    model = make_pipeline(LatentFeatures(FactorAnalysisEmbedder(1)), Ridge())
    with pytest.raises(ValueError, match="estimator must be fitted"):
        model_selection.check_fitted_eras(model, ERAS, 4)


def test_a_check_of_an_argument_that_is_not_there_is_told():
    with pytest.raises(TypeError, match=r"has no arguments \{'b'\}"):

        @checked(b=[int])
        def function(a):
            return a
