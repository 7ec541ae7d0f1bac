"""What fitting an embedder to all rows, also those of the test, changes.

    python benchmarks/fit_on.py [--panels 5]

Experiments on synthetic panels, with ``fit_on = "train"`` and ``fit_on = "all"`` for
factor analysis and a DAE, which never see targets. The difference in CORR, realised and
expected, with a 95 % half-width over panels (Student's t). In the tournament, test rows
are live rows, which can be fitted in the same way. So a gain would not be leakage, but
an embedder that is not fitted again each week would not have it.
"""

import argparse
import tempfile

import numpy as np
from scipy.stats import t as student

from numerai_features.experiment import Experiment

EMBEDDERS = {
    "fa": {"embedder": "FactorAnalysisEmbedder", "n_components": 16},
    "dae": {"embedder": "DAEEmbedder", "n_components": 16, "max_epochs": 10},
}


def differences(structure, seed, folder):
    """Return CORR with all rows less CORR with the training rows, for each embedder."""
    latents = {
        f"{name}_{rows}": {**embedder, "fit_on": rows}
        for name, embedder in EMBEDDERS.items()
        for rows in ("train", "all")
    }
    experiment = Experiment.from_dict(
        {
            "seed": seed,
            "data": {
                "synthetic": {
                    "n_eras": 160,
                    "rows_per_era": 400,
                    "n_features": 150,
                    "n_factors": 16,
                    "structure": structure,
                }
            },
            "targets": {"main": "target_alpha_60"},
            "cv": {"n_splits": 2, "first_test_era": 81},
            "latents": latents,
            "arms": {name: {"latents": [name]} for name in latents},
            "model": {
                "n_jobs": 1,
                "params": {"n_estimators": 200, "learning_rate": 0.06},
            },
        },
        output=folder,
    )
    result = experiment.run(verbose=False)
    realised, expected = result.summary["mean"], result.expected["mean"]
    return [
        (mean[f"{name}_all"] - mean[f"{name}_train"])
        for mean in (realised, expected)
        for name in EMBEDDERS
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--panels", type=int, default=5)
    args = parser.parse_args()
    names = [
        f"{name}, {kind}" for kind in ("realised", "expected") for name in EMBEDDERS
    ]
    for structure in ("linear", "curved"):
        found = []
        for seed in range(args.panels):
            with tempfile.TemporaryDirectory() as folder:
                found.append(differences(structure, seed, folder))
        table = np.array(found)
        quantile = student.ppf(0.975, len(table) - 1)
        half = quantile * table.std(axis=0, ddof=1) / np.sqrt(len(table))
        for name, mean, wide in zip(names, table.mean(axis=0), half, strict=True):
            print(f"{structure:8}{name:16}{mean:+8.4f} +- {wide:.4f}", flush=True)


if __name__ == "__main__":
    main()
