"""Embedders of this package, and `LatentFeatures`, as plain data."""

from __future__ import annotations

from typing import Any

import numpy as np

from numerai_features import embedders, encoders
from numerai_features.compose import LatentFeatures
from numerai_features.compose._latent_features import refuses_nan
from numerai_features.compose._reach import extras_of
from numerai_features.embedders import _era_regimes as _era_regimes_of
from numerai_features.embedders import _maximum_likelihood as ml
from numerai_features.encoders import Encoder
from numerai_features.export._place import Place, array_data, key_of, plain_ints


def encoder(
    found: Encoder,
    place: Place,
    *,
    missing: str = "middle",
    out: str = "<f4",
    had_eras: bool = False,
) -> dict[str, Any]:
    """Return an encoder as plain data.

    Parameters
    ----------
    found : Encoder
    place : Place
    missing : {"middle", "raise"}
        Whether missing cells are an error.
    out : str, default="<f4"
        Type of the results.
    had_eras : bool, default=False
        Whether `fit` had eras, for an encoder of whole eras.
    """
    return {
        "kind": "encoder",
        "steps": _steps(found, place),
        "dtype": found.dtype.newbyteorder("<").str,
        "n_out": int(found.n_out(len(place.names))),
        "n_cells": int(found.n_cells(len(place.names))),
        "out": out,
        "missing": missing,
        # None: rows are encoded alone.
        "by_era": (place.eras or had_eras) if found.by_era else None,
    }


def _steps(found: Encoder, place: Place) -> list[dict[str, Any]]:
    return [_step(step, place.inside(f"step {name!r}")) for name, step in found.steps]


def _step(step: Any, place: Place) -> dict[str, Any]:
    match step:
        case encoders.Fill(values):
            return {"step": "fill", "values": array_data(values)}
        case encoders.Affine(weight, bias):
            return {
                "step": "affine",
                "weight": array_data(weight),
                "bias": None if bias is None else array_data(bias),
            }
        case encoders.Activation(name):
            return {"step": "activation", "name": name}
        case encoders.Softmax():
            return {"step": "softmax"}
        case encoders.Argmax():
            return {"step": "argmax"}
        case encoders.Quantize(edges):
            return {"step": "quantize", "edges": array_data(edges)}
        case encoders.Recurrent(kind, weight, recurrent, bias):
            return {
                "step": "recurrent",
                "cell": kind,
                "weight": array_data(weight),
                "recurrent": array_data(recurrent),
                "bias": array_data(bias),
            }
        case encoders.Concatenate(branches):
            parts = [_steps(branch, place) for branch in branches]
            return {"step": "concatenate", "branches": parts}
        case encoders.LayerNorm(gamma, beta):
            return {
                "step": "layer_norm",
                "gamma": array_data(gamma),
                "beta": array_data(beta),
            }
        case encoders.Residual(branch):
            return {"step": "residual", "branch": _steps(branch, place)}
        case encoders.Attention():
            names = ("query", "key", "value", "out", "bias")
            arrays = {name: array_data(getattr(step, name)) for name in names}
            heads = {"n_heads": int(step.n_heads), "attention": str(step.kind)}
            return {"step": "attention", **arrays, **heads}
        case encoders.InducedAttention():
            parts_of = ("gather", "norm", "spread")
            inside = {name: _step(getattr(step, name), place) for name in parts_of}
            return {"step": "induced", "points": array_data(step.points), **inside}
        case encoders.Positions():
            return {"step": "positions"}
        case encoders.FeatureTokens(edges, vectors, groups, borders):
            return {
                "step": "feature_tokens",
                "edges": array_data(edges),
                "vectors": array_data(vectors),
                "groups": array_data(groups),
                "borders": [int(border) for border in borders],
            }
        case encoders.TokenMean():
            return {"step": "token_mean"}
    raise place.refuse(
        f"{type(step).__name__} is not a step of numerai_features.encoders, and cannot "
        "be exported. Build the encoder of those.",
        kind=TypeError,
    )


def _encoded(estimator: Any, place: Place) -> dict[str, Any]:
    return encoder(estimator.encoder_, place, **_fitted_as(estimator))


def _fitted_as(estimator: Any) -> dict[str, Any]:
    return {
        "missing": str(estimator._fitted_with.missing),
        "had_eras": bool(getattr(estimator, "_had_eras", False)),
    }


def _factors(estimator: Any, place: Place) -> dict[str, Any]:
    missing = str(estimator._fitted_with.missing)
    if estimator._fitted_with.center == "all":
        return encoder(estimator.encoder_, place, missing=missing)
    by_era = place.eras or estimator.fitted_eras_ is not None
    steps = [
        encoder(estimator.encoder_, place, missing=missing, out="<f8"),
        {"kind": "center", "by_era": by_era},
    ]
    n_out = int(estimator.n_components_)
    return {"kind": "pipeline", "steps": steps, "n_out": n_out}


def _era_statistics(estimator: Any, place: Place) -> dict[str, Any]:
    columns = plain_ints(estimator.columns_)
    statistics = [str(name) for name in estimator._fitted_with.statistics]
    return {
        "kind": "era_statistics",
        "columns": columns,
        "fill": array_data(estimator.missing_values_),
        "statistics": statistics,
        "n_out": len(columns) * len(statistics),
        "missing": str(estimator._fitted_with.missing),
        "by_era": place.eras or bool(estimator._had_eras),
    }


def _era_regimes(estimator: Any, place: Place) -> dict[str, Any]:
    known = estimator._fitted_with
    if not place.eras:
        raise place.refuse(
            "EraRegimes needs the eras, which do not reach it. Use "
            "LatentFeatures(keep_era=True) before it, or export it alone."
        )
    found = estimator.autoencoder_.encoder_
    return {
        "kind": "era_regimes",
        "columns": plain_ints(estimator.columns_),
        "fill": array_data(estimator.missing_values_),
        "mean": array_data(estimator.mean_),
        "axes": array_data(estimator.axes_),
        "statistics": [str(name) for name in known.statistics],
        "least": _era_regimes_of._LEAST_DEVIATION,
        "paired": _era_regimes_of._PAIRED,
        "varies": array_data(estimator.varies_.astype(np.uint8)),
        "eras": array_data(estimator.fitted_eras_),
        "dated": bool(estimator._dated),
        "table": array_data(estimator.era_statistics_),
        "n_steps": int(known.n_steps),
        "encoder": encoder(found, place),
        "n_out": int(estimator._n_features_out),
        "missing": str(known.missing),
    }


def _latent_features(estimator: Any, place: Place) -> dict[str, Any]:
    known, whole = estimator._fitted_with, estimator._whole_cells
    fitted = zip(estimator.embedders_, estimator.quantizers_, strict=True)
    if whole is not None:
        whole = {"dtype": whole.dtype.name, "fill": array_data(whole.fill)}
    parts: list[dict[str, Any]] = []
    for (name, embedder), bins in fitted:
        eras = "eras" in extras_of(embedder.transform)
        own = place.inside(f"embedder {name!r}", eras=eras)
        parts.append(
            {
                "node": own.transformer(embedder),
                "as_it_came": refuses_nan(embedder),
                "edges": None if bins is None else array_data(bins.edges),
            }
        )
    n_latents = sum(part["node"]["n_out"] for part in parts)
    return {
        "kind": "latent_features",
        "n_out": n_latents + known.passthrough * len(place.names),
        "whole": whole,
        "passthrough": bool(known.passthrough),
        "quantize": None if known.quantize is None else str(known.quantize),
        "embedders": parts,
    }


def _dae_density(estimator: Any, place: Place) -> dict[str, Any]:
    known, missing = estimator._fitted_with, str(estimator._fitted_with.missing)
    n_models, n_components = len(estimator.decoders_), int(estimator.n_components_)
    width = estimator.encoder_.n_out(len(place.names)) // n_models
    first = 0 if known.output == "code" else sum(known.hidden)
    code = place.behind(estimator, n_models * width)
    code = code.selecting(list(range(n_components)))
    return {
        "kind": "dae",
        "encoder": encoder(estimator.encoder_, place, missing=missing),
        "decoders": [encoder(d, code, out="<f8") for d in estimator.decoders_],
        "starts": [int(first + i * width) for i in range(n_models)],
        "n_components": n_components,
        "scale": array_data(estimator.scale_),
    }


def _gaussian_density(estimator: Any, place: Place) -> dict[str, Any]:
    if estimator._fitted_with.center == "era":
        raise place.refuse(
            "center='era' needs the eras, which an autoencoder does not get. Use "
            "center='all'."
        )
    psi = estimator.noise_variance_
    constant, whiten = ml.likelihood_parts(estimator.components_.T, psi)
    return {
        "kind": "gaussian",
        "fill": array_data(estimator.missing_values_),
        "mean": array_data(estimator.mean_),
        "psi": array_data(psi),
        "whiten": array_data(whiten),
        "constant": float(constant),
        "missing": str(estimator._fitted_with.missing),
    }


def network_model(estimator: Any, place: Place) -> dict[str, Any]:
    """Return the prediction of a supervised network as plain data."""
    shares = estimator._shares()
    return {
        "kind": "network",
        "encoder": encoder(estimator.predictor_, place, **_fitted_as(estimator)),
        "shares": array_data(np.asarray(shares / shares.sum(), np.float64)),
        "n_outputs": 1,
    }


TRANSFORMERS = {
    key_of(embedders.ContrastiveEmbedder): _encoded,
    key_of(embedders.DAEEmbedder): _encoded,
    key_of(embedders.EraAutoencoder): _encoded,
    key_of(embedders.EraMLP): _encoded,
    key_of(embedders.EraRegimes): _era_regimes,
    key_of(embedders.EraStatistics): _era_statistics,
    key_of(embedders.EraTransformer): _encoded,
    key_of(embedders.FactorAnalysisEmbedder): _factors,
    key_of(LatentFeatures): _latent_features,
    key_of(embedders.MaskedAutoencoder): _encoded,
    key_of(embedders.SequenceDAE): _encoded,
    key_of(embedders.SupervisedAEMLP): _encoded,
    key_of(embedders.UMAPEmbedder): _encoded,
}
MODELS = {
    key_of(embedders.EraMLP): network_model,
    key_of(embedders.EraTransformer): network_model,
    key_of(embedders.SupervisedAEMLP): network_model,
}
DENSITIES = {
    key_of(embedders.DAEEmbedder): _dae_density,
    key_of(embedders.FactorAnalysisEmbedder): _gaussian_density,
}
