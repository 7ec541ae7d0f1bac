"""Fits whose results processes are compared by; torchrun starts it as a script."""

import faulthandler
import json
import os
import sys
from pathlib import Path

import numpy as np
from nn_parts import bins

from numerai_features import embedders
from numerai_features.embedders import EraMLP

COMMON = {
    "n_components": 3, "hidden": (16,), "precision": "float32", "max_epochs": 3,
    "learning_rate": 0.01, "random_state": 0, "device": "cpu",
}  # fmt: skip
SIZES = (1100, 600, 30, 800, 400, 520)  # of eras; the last two are not trained on

CASES = {
    "rows": {"batch_size": 1400},
    "era": {"batching": "era"},
    "one block": {"batch_size": 300},  # one process has nothing to do
    "all": {
        "batch_size": 2000, "n_models": 2, "noise": "masking", "mask_head": True,
        "emphasis": 0.7, "dropout": 0.2, "ema_decay": 0.9, "weight_decay": 0.1,
    },
    "weighted": {
        "batch_size": 1400, "weighted": True, "holes": True, "noise": "gaussian",
        "clip_norm": 0.5,
    },
    "targets": {
        "benchmark_penalty": 0.5, "eras_per_batch": 3, "weighted": True,
        "feature_dropout": 0.2, "loss": "numerai_corr", "validation": 0.2,
        "learning_rate": 0.003,
    },
    "masked": {
        "embedder": "MaskedAutoencoder", "loss": "bins", "target_aware": True,
        "weighted": True, "holes": True, "batch_size": 1400,
    },
    "contrastive": {"embedder": "ContrastiveEmbedder", "batch_size": 1400},
    "contrastive, eras": {
        "embedder": "ContrastiveEmbedder", "negatives": "era", "vime_weight": 0.5,
        "weighted": True,
    },
    "sequences": {
        "embedder": "SequenceDAE", "hidden": 8, "weighted": True, "holes": True,
        "batch_size": 1400,
    },
    "extreme": {"embedder": "EraAutoencoder", "random_units": (8, 12)},
}  # fmt: skip


def fit(options):
    """Return the history without times, and some latents."""
    eras = np.repeat(np.arange(1, 1 + len(SIZES)), SIZES)
    X, weights, options = bins(len(eras)), None, dict(options)
    if options.pop("holes", False):
        X = X.astype(float)
        X[np.random.default_rng(1).random(X.shape) < 0.05] = np.nan
    if options.pop("weighted", False):
        weights = np.random.default_rng(0).integers(0, 3, len(X)).astype(float)
    if "benchmark_penalty" in options:
        y, side = np.random.default_rng(2).normal(size=(2, len(X))) + X[:, 0]
        own = {name: v for name, v in COMMON.items() if name != "n_components"}
        net = EraMLP(**{**own, **options})
        net.fit(X, y, eras=eras, sample_weight=weights, benchmark=side)
    else:
        make = getattr(embedders, options.pop("embedder", "DAEEmbedder"))
        y = np.random.default_rng(2).normal(size=len(X)) + X[:, 0]
        net = make(**{**COMMON, **options})
        net.fit(X, y, eras=eras, sample_weight=weights)
    for record in net.history_:
        del record["seconds"]
    return net.history_, net.transform(X[:200])


def main(folder, cases):
    """Fit each case, one after another, and write what `fit` returns."""
    faulthandler.dump_traceback_later(60, exit=True)  # rather than wait for ever
    for case, options in json.loads(cases).items():
        history, latents = fit(options)
        file = Path(folder) / f"{case}-{os.environ['RANK']}"
        file.with_suffix(".json").write_text(json.dumps(history))
        np.save(file.with_suffix(".npy"), latents)


if __name__ == "__main__":
    main(*sys.argv[1:])
