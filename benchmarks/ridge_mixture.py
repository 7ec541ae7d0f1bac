"""Synthetic targets beside NumerBlox's, at 500 features.

    pip install --no-deps numerblox==1.6.1
    python benchmarks/ridge_mixture.py [--eras 20] [--rows 5000] [--features 500]

Each arm in a fresh process, for NumerBlox sets scikit-learn's global configuration. It
draws a coefficient for each feature, by ``BayesianGaussianMixture.sample(1)``, which
factors the covariance for every era; it is given what it needs to run at all: eras that
are numbers, and a frame that its `fit` may write columns to.

Ours draws for the default number of factors, and for as many as there are features: the
space in which NumerBlox draws.

Reported: seconds for one target of every era, with the fit (ours with the new rows of a
frame, NumerBlox's targets alone); milliseconds for the first drawn target of an era,
from its features, and for each further one; the same for the draw of coefficients
alone, ours from NumerBlox's own fitted mixture; how far the covariance of 20,000 draws
is from the mixture's, relative to it; and whether the caller's frame was changed.
"""

import argparse
import json
import sys
import time

import numpy as np
import pandas as pd
from _memory import measure

from numerai_features import make_era_panel

TARGET, DRAWS = "target_alpha_20", 20_000


def seconds_of(function, *arguments, **options):
    start = time.perf_counter()
    out = function(*arguments, **options)
    return time.perf_counter() - start, out


def distance(drawn, covariance):
    return np.linalg.norm(np.cov(drawn.T) - covariance) / np.linalg.norm(covariance)


def ours(panel, n_factors=None):
    from numerai_features import RidgeMixtureTargets

    X, y = panel.to_frame(targets=[]), panel.y(TARGET)
    before = X.copy()
    augmenter = RidgeMixtureTargets(n_factors=n_factors, random_state=0)
    whole, _ = seconds_of(augmenter.fit_resample, X, y)
    first, more, rng = [], [], np.random.default_rng(0)
    for era in panel.era_numbers:
        rows = np.flatnonzero(panel.eras == era)
        reading, factors = seconds_of(augmenter._factors, panel.X, rows)
        drawing, _ = seconds_of(augmenter._draw_targets, factors, 1, rng)
        first.append(reading + drawing)
        more.append(seconds_of(augmenter._draw_targets, factors, 10, rng)[0] / 10)
    return {
        "whole": whole,
        "era": np.median(first),
        "more": np.median(more),
        "factors": augmenter.n_factors_,
        "changed": not X.equals(before),
    }


def ours_in_full(panel):
    return ours(panel, panel.n_features)


def numerblox(panel):
    from numerblox.targets import BayesianGMMTargetProcessor

    from numerai_features.augmenters._mixture import Mixture

    X = panel.to_frame(targets=[]).drop(columns="era").astype(np.float32)
    y, eras = (pd.Series(v, X.index) for v in (panel.y(TARGET), panel.eras))
    before, peer = X.copy(), BayesianGMMTargetProcessor()
    fitting, _ = seconds_of(peer.fit, X, y, eras)
    drawing, _ = seconds_of(peer.transform, X, eras)
    mixture, rng = Mixture.of(peer.bgmm_), np.random.default_rng(0)
    each = drawing / len(panel.era_numbers)
    theirs = [seconds_of(peer.bgmm_.sample, 1)[0] for _ in range(20)]
    own, coefs = seconds_of(mixture.draw, DRAWS, rng)
    sampled, _ = peer.bgmm_.sample(DRAWS)
    return {
        "whole": fitting + drawing,
        "era": each,
        "more": each,
        "changed": not X.equals(before),
        "draw": np.median(theirs),
        "our draw": own / DRAWS,
        "off": distance(sampled, mixture.covariance),
        "our off": distance(coefs, mixture.covariance),
    }


ARMS = {"ours": ours, "full": ours_in_full, "numerblox": numerblox}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--eras", type=int, default=20)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--features", type=int, default=500)
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.arm:
        panel = make_era_panel(args.eras, args.rows, args.features, random_state=0)
        print("ready", flush=True)
        return print("done", json.dumps(ARMS[args.arm](panel)), flush=True)
    told = {arm: measure(__file__, "--arm", arm, *sys.argv[1:]) for arm in ARMS}
    theirs, n = told["numerblox"], args.features
    print(f"{args.eras} eras x {args.rows} rows x {n} features")
    print(f"{'':28}{'ours':>10}{'NumerBlox':>12}{'ratio':>9}")
    pairs = []
    for arm in ("ours", "full"):
        mine = told[arm]
        pairs += [
            (f"{mine['factors']} factors: s", mine["whole"], theirs["whole"], 1),
            ("  first target, ms", mine["era"], theirs["era"], 1e3),
            ("  one more, ms", mine["more"], theirs["more"], 1e3),
        ]
    pairs.append((f"{n} coefficients, ms", theirs["our draw"], theirs["draw"], 1e3))
    for name, a, b, unit in pairs:
        print(f"{name:28}{a * unit:10.3f}{b * unit:12.3f}{b / a:8.1f}x")
    print(
        f"{'covariance of draws, off':28}{theirs['our off']:10.3f}{theirs['off']:12.3f}"
    )
    changed = [told[arm]["changed"] for arm in ("ours", "numerblox")]
    print(f"{'frame changed':28}{changed[0]!s:>10}{changed[1]!s:>12}")
    return None


if __name__ == "__main__":
    main()
