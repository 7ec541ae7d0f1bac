"""Why latents reach no more of what the true factors are worth to trees.

    python benchmarks/worth_why.py [--jobs 2]

Panels, splits and LightGBM are those of ``worth.py``, on its panels for choices, 0 to
4, with the setting that it chose for "+ fa". Each arm differs from "+ fa" in one thing:

- "48 wide": more components;
- "8 times": each latent is there eight times, so that colsample offers it more often;
- "floats": latents are not ranked into bins;
- "regressed": the factors as a ridge on the features finds them that is trained on the
  true factors. No linear embedder, and no unsupervised one, recovers more by a line;
- "noisy factors": the true factors with so much noise that a line explains as much of
  each of them as of fa's latents;
- "factors": the true ones.

Printed are the expected CORR less that of the originals, its standard error over
panels, and how much of the factors' variance a line on the arm's columns explains in
test rows (R^2, the mean over factors).
"""

import argparse
import multiprocessing

import numpy as np
import pandas as pd
import worth
from sklearn.linear_model import LinearRegression, Ridge

from numerai_features import FactorAnalysisEmbedder

ARMS = (
    "fa", "48 wide", "8 times", "floats", "regressed", "noisy factors", "factors"
)  # fmt: skip


def recovered(learned, shown, panel):
    """Return R^2 of each factor in test rows, by a line on an arm's columns."""
    factors = panel.truth.factors
    line = LinearRegression().fit(learned, factors[panel.train])
    rest = factors[panel.test] - line.predict(shown)
    return 1 - rest.var(axis=0) / factors[panel.test].var(axis=0)


def columns(panel, arm, seed=0):
    """Return an arm's columns of rows to train on and to test on, as floats."""
    train, test, factors = panel.train, panel.test, panel.truth.factors
    if arm == "factors":
        return factors[train], factors[test]
    if arm == "regressed":
        ridge = Ridge(1000).fit(panel.X[train], factors[train])
        return ridge.predict(panel.X[train]), ridge.predict(panel.X[test])
    width = 48 if arm == "48 wide" else worth.WIDTH
    embedder = FactorAnalysisEmbedder(width)
    learned = embedder.fit_transform(panel.X[train], eras=panel.eras[train])
    both = learned, embedder.transform(panel.X[test])
    if arm != "noisy factors":
        return both
    share = np.clip(recovered(*both, panel), 1e-3, 1)
    sd = factors.std(axis=0) * np.sqrt(1 / share - 1)
    noisy = factors + sd * np.random.default_rng(seed).normal(size=factors.shape)
    return noisy[train], noisy[test]


def work(structure, seed):
    """Return rows of structure, panel, arm, CORR and R^2."""
    panel = worth.panel_of(structure, seed)
    setting = worth.chosen(worth.read(), structure, "+ fa", "lightgbm")
    y = panel.targets[worth.TARGET].to_numpy()[panel.train]
    X = panel.X.view(np.uint8)
    out = []
    for arm in ("originals", *ARMS):
        blocks, share = [X[panel.train], X[panel.test]], np.nan
        if arm != "originals":
            learned = columns(panel, arm)
            share = recovered(*learned, panel).mean()
            if arm != "floats":
                learned = worth.binned(*learned)
            times = 8 if arm == "8 times" else 1
            pairs = zip(blocks, learned, strict=True)
            blocks = [np.hstack([x] + [z] * times) for x, z in pairs]
        fits = worth.lightgbm(blocks[0], y, blocks[1], 0, [setting])
        ((_, predicted, _),) = fits
        corr = float(panel.score(predicted[:, None])[0])
        out.append((structure, seed, arm, corr, share))
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    tasks = [(s, panel) for s in worth.STRUCTURES for panel in worth.TUNED_ON]
    with multiprocessing.get_context("spawn").Pool(args.jobs) as pool:
        found = [row for rows in pool.starmap(work, tasks, chunksize=1) for row in rows]
    frame = pd.DataFrame(found, columns=["structure", "panel", "arm", "corr", "r2"])
    for structure, lines in frame.groupby("structure", sort=False):
        table = lines.pivot_table(index="panel", columns="arm", values="corr")
        share = lines.groupby("arm")["r2"].mean()
        print(f"\n{structure}: originals {table['originals'].mean():.4f}")
        print(f"{'arm':16}{'less':>9}{'s.e.':>9}{'R^2':>7}")
        for arm in ARMS:
            less = table[arm] - table["originals"]
            print(f"{arm:16}{less.mean():9.4f}{less.sem():9.4f}{share[arm]:7.2f}")


if __name__ == "__main__":
    main()
