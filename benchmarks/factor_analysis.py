"""Factor analysis from moments against scikit-learn's, to the same likelihood.

    python benchmarks/factor_analysis.py [--rows 50000] [--features 500] [--factors 30]

One run, one machine, the same rows. scikit-learn gets them as float64, converted
beforehand; ours as int8, its pass over the rows (the moments) included. The time of
"lapack to our likelihood" is that of a run with a tightened tol, up to the first
iteration whose likelihood is ours to 1e-9 relative. All likelihoods are recomputed
from the fitted parameters by the same exact formula.
"""

import argparse
import time
import warnings

import numpy as np
from sklearn.decomposition import FactorAnalysis

from numerai_features.datasets import make_era_panel
from numerai_features.embedders import FactorAnalysisEmbedder


def exact_loglike(model, X, covariance):
    """Return the rows' exact log-likelihood under fitted parameters."""
    W, psi = model.components_, model.noise_variance_
    sigma = W.T @ W + np.diag(psi)
    _, logdet = np.linalg.slogdet(sigma)
    trace = np.trace(np.linalg.solve(sigma, covariance))
    return -0.5 * len(X) * (X.shape[1] * np.log(2 * np.pi) + logdet + trace)


def timed(model, X):
    start = time.perf_counter()
    model.fit(X)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--features", type=int, default=500)
    parser.add_argument("--factors", type=int, default=30)
    parser.add_argument("--tight", type=float, default=1e-4)
    args = parser.parse_args()
    k = args.factors
    panel = make_era_panel(
        args.rows // 1000, 1000, args.features, k, random_state=0, missing_share=0
    )
    X = panel.X
    X64 = X.astype(np.float64)
    covariance = np.cov(X64.T, bias=True)
    ours = FactorAnalysisEmbedder(k)
    ours_seconds = np.median([timed(ours, X) for _ in range(5)])
    ours_ll = exact_loglike(ours, X, covariance)
    print(f"{len(X):,} x {X.shape[1]} int8, {k} factors, seed 0", flush=True)
    print(f"{'':34}{'seconds':>9}{'ratio':>8}{'log-likelihood':>18}  iterations")

    def row(name, seconds, ll, iterations):
        ratio = seconds / ours_seconds
        print(
            f"{name:34}{seconds:9.2f}{ratio:8.1f}{ll:18.3f}  {iterations}", flush=True
        )

    row("FactorAnalysisEmbedder", ours_seconds, ours_ll, ours.n_iter_)
    likelihoods = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, options in (
            ("sklearn randomized, default tol", {"svd_method": "randomized"}),
            ("sklearn lapack, default tol", {"svd_method": "lapack"}),
            (
                f"sklearn lapack, tol={args.tight:g}",
                {"svd_method": "lapack", "tol": args.tight, "max_iter": 5000},
            ),
        ):
            model = FactorAnalysis(k, random_state=0, **options)
            seconds = timed(model, X64)
            likelihoods.append(exact_loglike(model, X, covariance))
            row(name, seconds, likelihoods[-1], model.n_iter_)
    reached = np.array(model.loglike_) >= ours_ll - 1e-9 * abs(ours_ll)
    first = int(reached.argmax()) + 1 if reached.any() else model.n_iter_
    word = "lapack to our likelihood" if reached.any() else "lapack, not reached in"
    row(word, seconds * first / model.n_iter_, np.nan, first)
    worst = max(likelihoods) - ours_ll
    print(
        f"highest of scikit-learn's less ours: {worst:.4f} ({worst / abs(ours_ll):.1e})"
    )
    reference = FactorAnalysis(k)
    for name in ("components_", "noise_variance_", "mean_", "n_features_in_"):
        setattr(reference, name, getattr(ours, name))
    gap = np.abs(reference.transform(X64) - ours.transform(X)).max()
    print(f"largest difference of scores at the same parameters: {gap:.1e}")


if __name__ == "__main__":
    main()
