"""Reading parquet files into a panel: rows a second, peak memory, and `verify`.

    python benchmarks/read.py [--rows 1000000] [--features 2376]

A parquet file of Numerai's form (int8 features, two targets, eras, ids) is written. In
fresh processes:

- panel: `read_numerai` to a folder;
- pandas: ``pandas.read_parquet(file)[features].to_numpy()``;
- decoding: pyarrow decodes the batches of the file, and drops them. This is the limit;
- append: the last eight eras of the file are appended to a panel of the others;
- verify: `EraPanel.verify` reads the panel, and finds a byte that is changed.

Memory is what it takes above the state with everything imported: anonymous, and
resident. pandas is left out where it would not fit.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from _memory import measure

ARMS = ("panel", "pandas", "decoding", "append", "verify")
ROWS_PER_ERA = 5_000
TARGETS = ["target_a_20", "target_b_60"]


def names_of(n_features):
    """Return the features' names."""
    return [f"feature_{j:04d}" for j in range(n_features)]


def write(file, n_rows, n_features):
    """Write a parquet file of random bins, an era at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    names, writer = names_of(n_features), None
    for era in range(n_rows // ROWS_PER_ERA):
        X = rng.integers(0, 5, (n_features, ROWS_PER_ERA), np.int8)
        y = rng.integers(0, 5, (2, ROWS_PER_ERA)).astype(np.float32) / 4
        columns = {
            "era": pa.array([f"{era + 1:04d}"] * ROWS_PER_ERA),
            **dict(zip(names, map(pa.array, X), strict=True)),
            **dict(zip(TARGETS, map(pa.array, y), strict=True)),
            "id": pa.array([f"n{era:05d}{i:05d}" for i in range(ROWS_PER_ERA)]),
        }
        table = pa.table(columns)
        if writer is None:
            writer = pq.ParquetWriter(file, table.schema)
        writer.write_table(table)
    writer.close()


def run(arm, folder):
    """Run one arm in this process, whose memory is looked at."""
    import pandas as pd
    import pyarrow.parquet as pq

    from numerai_features.datasets import EraPanel, read_numerai

    file, n_rows = folder / "rows.parquet", None
    with pq.ParquetFile(file) as parquet:
        names = [n for n in parquet.schema_arrow.names if n.startswith("feature")]
        n_eras = parquet.metadata.num_rows // ROWS_PER_ERA
    if arm == "append":
        panel = EraPanel.open(folder / "panel")
        panel.save(folder / "part", first=1, last=n_eras - 8)
        panel = EraPanel.open(folder / "part")
    print("ready", flush=True)
    if arm == "panel":
        panel = read_numerai(
            file, folder / "panel", features=names, targets=TARGETS, verbose=False
        )
        n_rows = panel.n_rows
    elif arm == "pandas":
        n_rows = len(pd.read_parquet(file)[names].to_numpy())
    elif arm == "decoding":
        with pq.ParquetFile(file) as parquet:
            n_rows = sum(b.num_rows for b in parquet.iter_batches(5_000))
    elif arm == "append":
        n_rows = panel.append(file, verbose=False).n_rows - panel.n_rows
    else:
        panel = EraPanel.open(folder / "panel")
        panel.verify()
        n_rows = panel.n_rows
    print("done" + json.dumps({"rows": n_rows}), flush=True)


def finds_a_byte(folder):
    """Whether `verify` finds a byte that is changed in the middle of the features."""
    from numerai_features.datasets import EraPanel

    panel = EraPanel.open(folder / "panel")
    with (folder / "panel" / "features.npy").open("r+b") as stream:
        stream.seek(panel.X.nbytes // 2)
        byte = stream.read(1)
        stream.seek(-1, 1)
        stream.write(bytes([byte[0] ^ 1]))
    try:
        panel.verify()
    except ValueError as error:
        print(f"after one byte was changed: {str(error)[-120:]}")
        return True
    return False


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=2_376)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.arm:
        return run(args.arm, Path(args.path))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "rows.parquet", args.rows, args.features)
        size = args.rows * args.features / 1e9
        print(f"{args.rows:,} x {args.features:,} int8, {size:.2f} GB")
        print(f"{'':10}{'anonymous':>11}{'resident':>11}{'seconds':>9}{'rows/s':>11}")
        for arm in args.arms:
            r = measure(sys.argv[0], "--arm", arm, "--path", name)
            anonymous, resident = (
                r[f"extra_{kind}"] / 1e9 for kind in ("anonymous", "resident")
            )
            print(
                f"{arm:10}{anonymous:8.2f} GB{resident:8.2f} GB{r['seconds']:9.1f}"
                f"{r['rows'] / r['seconds']:11,.0f}",
                flush=True,
            )
        assert finds_a_byte(folder)


if __name__ == "__main__":
    main()
