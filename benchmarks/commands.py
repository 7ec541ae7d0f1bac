"""Seconds and peak memory of each command, from download to weekly, on wide files.

    python benchmarks/commands.py [--eras 80] [--rows 600] [--features 2376]

Files of Numerai's form (int8 features, 37 targets) are offered by the tests' server on
this machine, so a download has no network to wait for. An experiment has LightGBM, with
and without factors, a perceptron of six epochs, and a blend, in two folds. Each command
is a process of its own; its seconds include Python's start and the imports. Peaks of
anonymous (RssAnon) and resident memory are sampled. "again" is the same line once more.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from _memory import INTERVAL, _status
from run_stages import write_files

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "tournament"))
from server import KEYS, Numerai

VERSION, MODEL = "v5.3", "runs/wide/models/mix"
EXPERIMENT = """
[data]
files = ["data/v5.3/train.parquet", "data/v5.3/validation.parquet"]
benchmark = ["data/v5.3/train_benchmark_models.parquet"]
[targets]
main = "target_alpha_60"
[cv]
test_eras = {test_eras}
first_test_era = {first_test_era}
[latents.fa]
embedder = "FactorAnalysisEmbedder"
n_components = 30
[models.mlp]
model = "EraMLP"
[model]
device = "cpu"
params = {{ n_estimators = {n_estimators} }}
[arms.lightgbm]
[arms.fa]
latents = ["fa"]
[arms.mlp]
model = "mlp"
[arms.mix]
blend = {{ fa = 1, mlp = 1 }}
"""
LIVE = "data/v5.3/live.parquet"
COMMANDS = [
    "zoo small", "download", "download", "prepare wide.toml", "prepare wide.toml",
    "run wide.toml", "fit wide.toml --arm mix", "fit wide.toml --arm mix",
    "evaluate MODEL --data later.parquet",
    f"predict MODEL --live {LIVE}", f"export MODEL --live {LIVE}",
    f"submit predictions.csv --model my_model --live {LIVE} --dry-run",
    "submit model.pkl --model my_model --data-version v5.3 --dry-run",
    "weekly MODEL --model my_model", "weekly MODEL --model my_model", "scores",
]  # fmt: skip
PROGRAM = "from numerai_features.cli import program; program()"


def offer(numerai, folder, last):
    """Offer the files of a folder, and rows of a live era; keep later eras aside."""
    rows = pq.read_table(folder / "validation.parquet")
    eras = rows["era"]
    live = rows.filter(pc.equal(eras, f"{last:04d}"))
    targets = [name for name in live.column_names if name.startswith("target")]
    for name in targets:
        nothing = pa.nulls(len(live), pa.float32())
        live = live.set_column(live.column_names.index(name), name, nothing)
    x = pa.array(["X"] * len(live))
    live = live.set_column(live.column_names.index("era"), "era", x)
    pq.write_table(live, folder / "live.parquet")
    # The model is fitted before a purge of 16 eras, and scored after it.
    known = rows.filter(pc.less_equal(eras, f"{last - 24:04d}"))
    pq.write_table(rows, folder.parent / "later.parquet")
    pq.write_table(known, folder / "validation.parquet")
    other = pq.read_table(folder / "benchmark.parquet")
    pq.write_table(other, folder / "train_benchmark_models.parquet")
    nothing = pa.table({"id": live["id"], "benchmark": [0.5] * len(live)})
    for name in ("validation_benchmark_models", "live_benchmark_models", "meta_model"):
        pq.write_table(nothing, folder / f"{name}.parquet")
    (folder / "benchmark.parquet").unlink()
    for file in folder.iterdir():
        numerai.add(f"{VERSION}/{file.name}", file.read_bytes())


def measure(line, folder):
    """Run a command; return its seconds, and its peaks of memory in MiB."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *line.replace("MODEL", MODEL).split()],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    peaks = [0, 0]

    def sample():
        while process.poll() is None:
            peaks[:] = map(max, peaks, _status(process.pid))
            time.sleep(INTERVAL * 4)

    sampler = threading.Thread(target=sample)
    sampler.start()
    _, told = process.communicate()
    sampler.join()
    if process.returncode:
        raise SystemExit(f"{line}: {told}")
    return time.perf_counter() - start, *(peak / 2**20 for peak in peaks)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--eras", type=int, default=80)
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--features", type=int, default=2376)
    parser.add_argument("--trees", type=int, default=500)
    arguments = parser.parse_args()
    os.environ |= dict(
        zip(("NUMERAI_PUBLIC_ID", "NUMERAI_SECRET_KEY"), KEYS, strict=True)
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / VERSION).mkdir()
        write_files(
            folder / VERSION, arguments.eras, arguments.rows, arguments.features
        )
        numerai = Numerai()
        os.environ |= {"NUMERAI_API_URL": numerai.url, "NO_PROXY": "127.0.0.1"}
        offer(numerai, folder / VERSION, arguments.eras)
        text = EXPERIMENT.format(
            test_eras=arguments.eras // 10 + 1,
            first_test_era=arguments.eras // 2 + 1,
            n_estimators=arguments.trees,
        )
        (folder / "wide.toml").write_text(text)
        megabytes = sum(len(file.content) for file in numerai.files.values()) / 1e6
        print(
            f"{arguments.eras} eras x {arguments.rows} rows x {arguments.features} "
            f"features, files of {megabytes:.0f} MB, {arguments.trees} trees"
        )
        print(f"{'':36}{'s':>8}{'anonymous':>12}{'resident':>10}  MiB", flush=True)
        done = set()
        for line in COMMANDS:
            shown = line.replace("MODEL ", "").split(" --")[0]
            shown += ", again" if line in done else ""
            done.add(line)
            seconds, anonymous, resident = measure(line, folder)
            row = f"{seconds:8.1f}{anonymous:12.0f}{resident:10.0f}"
            print(f"{shown:36}{row}", flush=True)


if __name__ == "__main__":
    main()
