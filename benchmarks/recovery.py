"""How much of the true factors do latents hold? Embedders at equal width.

    python benchmarks/recovery.py [--seeds 5 6 7 8 9] [--arms DAE FA PCA ...]
        [--set NAME=VALUE ...]

On synthetic panels whose factors are known: the embedders are fitted to the first 70 %
of the eras, a linear map from latents to factors by least squares
on the same rows; reported is the share of the factors' variance that it explains on the
last 30 % of the eras. Panels: linear factors, curved ones (features bend them), none
(factors that load on all features, a thousandth each). The settings of DAEEmbedder were
chosen on seeds 0 to 4; seeds 5 to 9 are the report. "era" is an `EraAutoencoder` whose
layers are 256 and 128 wide, as those of the DAE.
"""

import argparse
import ast
import json
import time

import numpy as np
from sklearn.decomposition import PCA

from numerai_features import (
    ContrastiveEmbedder,
    DAEEmbedder,
    EraAutoencoder,
    FactorAnalysisEmbedder,
    MaskedAutoencoder,
    make_era_panel,
)

SIZES = {
    "default": {},
    "wide": {"n_eras": 120, "rows_per_era": 500, "n_features": 300, "n_factors": 16},
}


def explained(train, test, factors_train, factors_test):
    """Return the share of the factors' variance that a linear map explains."""
    design = np.column_stack([train, np.ones(len(train))])
    slope, *_ = np.linalg.lstsq(design, factors_train, rcond=None)
    rest = factors_test - np.column_stack([test, np.ones(len(test))]) @ slope
    return float(
        1 - (rest**2).sum() / ((factors_test - factors_test.mean(0)) ** 2).sum()
    )


def compare(structure, size, seed, settings, arms):
    panel, truth = make_era_panel(
        structure=structure, return_truth=True, random_state=seed, **SIZES[size]
    )
    factors = truth.factors
    eras = panel.eras
    last = eras.max()
    train, test = eras <= 0.7 * last - 4, eras > 0.7 * last
    k = factors.shape[1]
    embedders = {
        "DAE": DAEEmbedder(k, random_state=seed, **settings),
        "FA": FactorAnalysisEmbedder(k),
        "PCA": PCA(k, svd_solver="covariance_eigh"),
        "masked": MaskedAutoencoder(k, random_state=seed),
        "bins": MaskedAutoencoder(k, loss="bins", random_state=seed),
        "contrast": ContrastiveEmbedder(k, random_state=seed),
        "by era": ContrastiveEmbedder(k, negatives="era", random_state=seed),
        "era": EraAutoencoder(k, hidden=(256, 128), random_state=seed),
    }
    out = {}
    for name in arms:
        start = time.perf_counter()
        extra = {} if name == "PCA" else {"eras": eras[train]}
        fitted = embedders[name].fit(panel.X[train], **extra)
        seconds = time.perf_counter() - start
        latents = [fitted.transform(panel.X[rows]) for rows in (train, test)]
        out[name] = explained(*latents, factors[train], factors[test])
        out[f"{name} s"] = seconds
    if "DAE" in arms:
        out["epochs"] = int(embedders["DAE"].best_epoch_[0])
    return out


def settings_of(pairs):
    """Return parameters from texts of the form NAME=VALUE."""
    settings = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        try:
            settings[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            settings[name] = value
    return settings


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[5, 6, 7, 8, 9])
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    structures, arms = ["linear", "curved", "none"], ["DAE", "FA", "PCA"]
    more = ["masked", "bins", "contrast", "by era", "era"]
    parser.add_argument(
        "--structures", nargs="+", choices=structures, default=structures
    )
    parser.add_argument("--arms", nargs="+", choices=[*arms, *more], default=arms)
    parser.add_argument("--set", nargs="*", default=[], help="settings of DAEEmbedder")
    args = parser.parse_args()
    settings = settings_of(args.set)
    print(json.dumps(settings) if settings else "default settings")
    for size in args.sizes:
        for structure in args.structures:
            results = [
                compare(structure, size, s, settings, args.arms) for s in args.seeds
            ]
            cells = []
            for name in results[0]:
                values = np.array([r[name] for r in results])
                digits = 1 if name.endswith(" s") or name == "epochs" else 4
                spread = "" if digits == 1 else f" (sd {values.std(ddof=1):.4f})"
                cells.append(f"{name} {values.mean():.{digits}f}{spread}")
            print(f"{size:8} {structure:7}", "  ".join(cells), flush=True)


if __name__ == "__main__":
    main()
