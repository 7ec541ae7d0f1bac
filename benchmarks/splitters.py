"""All folds of each splitter on 6,000,000 rows of 1,200 eras, beside peers.

    python benchmarks/splitters.py [--rows-per-era 5000]

The peers get the same array of eras and, for nothing, the eras of each fold; that they
yield the same rows is checked:

- plain Python, sets: for each fold a set of training and one of test eras, and one look
  at each row;
- plain Python, distances: for each fold and row the distance to the nearest tested era,
  found by bisection;
- skfolio's CombinatorialPurgedCV, which counts rows: on the same number of rows an era
  its purge is a number of rows.

Rows are sorted by era, as Numerai's files are; the last column is ours on the same rows
in random order. Ours is the best of three runs.
"""

import argparse
import time
from bisect import bisect_left

import numpy as np
from _memory import measure

from numerai_features.model_selection import (
    CombinatorialPurgedEraCV,
    EraHoldout,
    EraKFold,
    EraWalkForward,
    RepeatedEraKFold,
)

N_ERAS, PURGE = 1200, 16


def splitters():
    return {
        "EraKFold()": EraKFold(purge=PURGE),
        "EraWalkForward()": EraWalkForward(purge=PURGE),
        "EraWalkForward.numerai": EraWalkForward.numerai("target_60"),
        "EraHoldout()": EraHoldout(purge=PURGE),
        "CombinatorialPurgedEraCV()": CombinatorialPurgedEraCV(purge=PURGE),
        "RepeatedEraKFold()": RepeatedEraKFold(purge=PURGE, random_state=0),
    }


def plain_sets(eras, folds):
    """Look each row's era up in a set of training eras, and one of test eras."""
    labels = eras.tolist()
    for train, test in folds:
        train, test = set(train.tolist()), set(test.tolist())
        yield (
            np.array([i for i, era in enumerate(labels) if era in train]),
            np.array([i for i, era in enumerate(labels) if era in test]),
        )


def plain_distances(eras, folds):
    """Purge row by row: look for the nearest tested era of each."""
    labels = eras.tolist()
    for train, test in folds:
        allowed, tested = set(train.tolist()), test.tolist()
        train_rows, test_rows = [], []
        for i, era in enumerate(labels):
            at = bisect_left(tested, era)
            near = tested[max(at - 1, 0) : at + 1]
            distance = min(abs(era - other) for other in near)
            if distance == 0:
                test_rows.append(i)
            elif distance > PURGE and era in allowed:
                train_rows.append(i)
        yield np.array(train_rows), np.array(test_rows)


def run(folds):
    """Consume folds; return seconds, their number, and a checksum of all rows."""
    start = time.perf_counter()
    n, total = 0, 0
    for train, test in folds:
        n += 1
        total += len(train) * int(train[-1]) + len(test) * int(test[0])
    return time.perf_counter() - start, n, total


def best(make, times=3):
    return min(run(make()) for _ in range(times))


def skfolio_folds(cv, rows_per_era):
    from skfolio.model_selection import CombinatorialPurgedCV

    peer = CombinatorialPurgedCV(
        cv.n_groups, cv.n_test_groups, purged_size=cv.purge * rows_per_era
    )
    X = np.broadcast_to(np.int8(0), (N_ERAS * rows_per_era, 1))
    for train, tests in peer.split(X):
        yield train, np.concatenate(tests)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows-per-era", type=int, default=5000)
    parser.add_argument(
        "--measured", choices=["ours", "skfolio"], help=argparse.SUPPRESS
    )
    args = parser.parse_args()
    if args.measured:
        return measured(args.measured, args.rows_per_era)
    eras = np.repeat(np.arange(1, N_ERAS + 1), args.rows_per_era)
    shuffled = np.random.default_rng(0).permutation(eras)
    X = np.broadcast_to(np.int8(0), (len(eras), 1))
    print(f"{len(eras):,} rows, {N_ERAS} eras, purge {PURGE}; seconds for all folds")
    heads = ("folds", "ours", "sets", "ratio", "distances", "ratio", "random order")
    print(f"{'':28}" + "".join(f"{h:>13}" for h in heads))
    for name, cv in splitters().items():
        seconds, n, total = best(lambda cv=cv: cv.split(X, groups=eras))
        random_order, _, _ = best(lambda cv=cv: cv.split(X, groups=shuffled))
        folds = list(cv.split_eras(eras))
        row = []
        for plain in (plain_sets, plain_distances):
            peer, _, peer_total = run(plain(eras, folds))
            assert peer_total == total, (name, plain)
            row += [peer, peer / seconds]
        cells = [seconds, row[0], row[1], row[2], row[3], random_order]
        print(f"{name:28}{n:13}" + "".join(f"{c:13.3f}" for c in cells), flush=True)
    cv = CombinatorialPurgedEraCV(purge=PURGE)
    ours, _, total = best(lambda: cv.split(X, groups=eras))
    peer, _, peer_total = run(skfolio_folds(cv, args.rows_per_era))
    assert peer_total == total
    print(f"\nCombinatorialPurgedEraCV(): {peer / ours:.0f} x as fast as skfolio's")
    size = ["--rows-per-era", str(args.rows_per_era)]
    for who in ("ours", "skfolio"):
        extra = measure(__file__, "--measured", who, *size)["extra_anonymous"]
        print(f"peak extra anonymous memory, {who:8} {extra / 1e9:.2f} GB")


def measured(who, rows_per_era):
    """Run in a process of its own, whose memory is looked at."""
    cv = CombinatorialPurgedEraCV(purge=PURGE)
    eras = np.repeat(np.arange(1, N_ERAS + 1), rows_per_era)
    next(iter(cv.split_eras(np.arange(1, 200))))  # imports
    if who == "skfolio":
        folds = skfolio_folds(cv, rows_per_era)
        import skfolio.model_selection  # noqa: F401
    else:
        folds = cv.split(None, groups=eras)
    print("ready", flush=True)
    time.sleep(0.2)
    run(folds)
    print("done", flush=True)


if __name__ == "__main__":
    main()
