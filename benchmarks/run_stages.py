"""What ``numerai-features run`` tells, stage by stage, and the memory that it needs.

    python benchmarks/run_stages.py [--eras 80] [--rows 600] [--features 2376]

Parquet files of Numerai's form (int8 features, 37 targets with gaps) and a benchmark go
into a temporary folder. Arms: originals, FA, DAE, UMAP of the 300 most important
features, PCA, random columns. The command runs on them in a fresh process. For each
stage that its output names the seconds; the longest silence between two changes of what
it shows; and the peaks, summed over its processes, of anonymous (RssAnon) and resident
memory.
"""

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _memory import INTERVAL, _status

from numerai_features.datasets import make_era_panel

N_TARGETS = 37
EXPERIMENT = """
[data]
files = ["train.parquet", "validation.parquet"]
benchmark = "benchmark.parquet"
[targets]
main = "target_alpha_60"
[cv]
test_eras = {test_eras}
first_test_era = {first_test_era}
[latents.fa]
embedder = "FactorAnalysisEmbedder"
n_components = {n_components}
[latents.dae]
embedder = "DAEEmbedder"
n_components = {n_components}
max_epochs = {max_epochs}
[latents.umap]
embedder = "UMAPEmbedder"
n_components = 4
select = {{ n = {n_selected} }}
max_epochs = {max_epochs}
[model]
device = "cpu"
params = {{ n_estimators = {n_estimators} }}
"""
PROGRAM = "from numerai_features.cli import program; program()"


def write_files(folder, n_eras, n_rows, n_features):
    """Write two files and their features.json; targets beyond the first have gaps."""
    panel = make_era_panel(n_eras, n_rows, n_features, random_state=0)
    rng = np.random.default_rng(0)
    targets = {name: panel.y(name).copy() for name in panel.target_names}
    first = panel.y(panel.target_names[0])
    for i in range(N_TARGETS - len(targets)):
        targets[f"target_extra{i}_60"] = np.roll(first, i + 1)
    for name in list(targets)[1:]:
        targets[name][rng.random(panel.n_rows) < 0.1] = np.nan
    columns = {"id": panel.ids, "era": [f"{era:04d}" for era in panel.eras]}
    columns |= dict(zip(panel.feature_names, panel.X.T, strict=True))
    table = pa.table(columns | targets)
    cut = int(np.searchsorted(panel.eras, n_eras // 2 + 1))
    pq.write_table(table.slice(0, cut), folder / "train.parquet")
    pq.write_table(table.slice(cut), folder / "validation.parquet")
    noise = rng.normal(scale=0.3, size=panel.n_rows)
    benchmark = pa.table({"id": panel.ids, "benchmark": first + noise})
    pq.write_table(benchmark.slice(cut // 2), folder / "benchmark.parquet")
    sets = {"all": panel.feature_names}
    content = {"feature_sets": sets, "targets": list(targets)}
    (folder / "features.json").write_text(json.dumps(content))


def run(folder):
    """Run the command; return its changes of output, its peaks and its exit status."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "run", "experiment.toml"],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    peaks = [0, 0]

    def sample():
        while process.poll() is None:
            peaks[:] = map(max, peaks, _status(process.pid))
            time.sleep(INTERVAL * 4)

    sampler = threading.Thread(target=sample)
    sampler.start()
    changes = [(0.0, "start")]
    while chunk := os.read(process.stdout.fileno(), 1 << 16):
        text = chunk.decode(errors="replace")
        changes.append((time.perf_counter() - start, text))
    sampler.join()
    changes.append((time.perf_counter() - start, ""))
    return changes, peaks, process.wait()


def stages(changes):
    """Return the seconds of each stage, which begins when its words are first shown."""
    seconds, now = {}, "start"
    for (before, _), (at, text) in itertools.pairwise(changes):
        seconds[now] = seconds.get(now, 0) + at - before
        for shown in re.split(r"[\r\n]+", text):
            found = re.match(r"([^\d%].*?)(?:: +\d+%\||: \d+ rows| \[\d\d:\d\d)", shown)
            if found:
                now = found[1].strip()
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--eras", type=int, default=80)
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--features", type=int, default=2376)
    parser.add_argument("--trees", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder, arguments.eras, arguments.rows, arguments.features)
        text = EXPERIMENT.format(
            test_eras=arguments.eras // 4,
            first_test_era=arguments.eras // 2 + 1,
            n_selected=min(300, arguments.features),
            n_components=min(30, arguments.features // 4),
            n_estimators=arguments.trees,
            max_epochs=arguments.epochs,
        )
        (folder / "experiment.toml").write_text(text)
        changes, peaks, status = run(folder)
    if status:
        sys.exit("".join(text for _, text in changes))
    for stage, seconds in stages(changes).items():
        print(f"{stage:40}{seconds:8.1f} s")
    times = [at for at, _ in changes]
    gaps = np.diff(times)
    longest = int(gaps.argmax())
    print(f"{'in all':40}{times[-1]:8.1f} s")
    print(
        f"{'longest silence':40}{gaps[longest]:8.1f} s, from {times[longest]:.1f} s on"
    )
    for kind, peak in zip(("anonymous", "resident"), peaks, strict=True):
        print(f"{'peak memory, ' + kind:40}{peak / 2**20:8.0f} MiB")


if __name__ == "__main__":
    main()
