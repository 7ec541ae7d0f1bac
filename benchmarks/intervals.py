"""How often intervals of 95 % hold the truth, for scores that overlap in time.

Series of sums over as many draws as eras overlap, normal and with heavy tails (t with 3
degrees of freedom): `mean_interval` beside the circular block bootstrap of Politis and
Romano (1992) with blocks as long as the overlap, and with blocks twice as long.
"""

import argparse

import numpy as np

from numerai_features.metrics._interval import _half_width

OVERLAPS = (1, 4, 8, 12, 16)
N_ERAS = (19, 40, 83, 200, 500)


def series(rng, noise, n_series, n, overlap):
    size = (n_series, n + overlap - 1)
    drawn = rng.normal(size=size) if noise == "normal" else rng.standard_t(3, size)
    total = np.cumsum(np.pad(drawn, [(0, 0), (1, 0)]), axis=1)
    return total[:, overlap:] - total[:, :-overlap]


def bootstrap_coverage(rng, values, block, n_resamples):
    n_whole, rest = divmod(values.shape[1], block)
    wrapped = np.concatenate([values, values], axis=1)
    total = np.cumsum(np.pad(wrapped, [(0, 0), (1, 0)]), axis=1)
    hits = 0
    for sums in total:
        n = values.shape[1]
        starts = rng.integers(n, size=(n_resamples, n_whole + 1))
        means = (sums[starts[:, :-1] + block] - sums[starts[:, :-1]]).sum(axis=1)
        means += sums[starts[:, -1] + rest] - sums[starts[:, -1]]
        low, high = np.quantile(means / n, [0.025, 0.975])
        hits += low <= 0 <= high
    return hits / len(values)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--series", type=int, default=20_000)
    parser.add_argument("--bootstrapped", type=int, default=400)
    parser.add_argument("--resamples", type=int, default=400)
    args = parser.parse_args()
    print("% of intervals that hold the truth: of normal sums / of t3")
    print(f"{'overlap':>7}{'eras':>6}{'cosines':>16}{'blocks of 1':>16}{'of 2':>16}")
    for overlap in OVERLAPS:
        for n in N_ERAS:
            told = {"cosines": [], "one": [], "two": []}
            for noise in ("normal", "t3"):
                rng = np.random.default_rng(0)
                values = series(rng, noise, args.series, n, overlap)
                half = _half_width(values, overlap, 0.95)
                held = np.abs(values.mean(axis=1)) <= half
                told["cosines"].append(held.mean())
                some = values[: args.bootstrapped]
                for name, block in (("one", overlap), ("two", 2 * overlap)):
                    if n >= 2 * block:  # of one block all means are the same
                        held = bootstrap_coverage(rng, some, block, args.resamples)
                        told[name].append(held)
            if n < 4 * overlap:
                told["cosines"] = []
            cells = [" / ".join(f"{100 * s:.1f}" for s in v) for v in told.values()]
            print(f"{overlap:7}{n:6}" + "".join(f"{c or '-':>16}" for c in cells))


if __name__ == "__main__":
    main()
