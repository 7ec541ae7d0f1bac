"""Factor analysis and latents by the workers of a Dask cluster, beside one process.

    python benchmarks/cluster.py [--rows 100000] [--features 1000] [--workers 2]

A panel on disk. One process has one BLAS thread, and so has each worker. "CPU s" is of
all workers together, without the scheduler and the client: other programs on the same
cores do not count in it. "MB sent" is what workers sent each other and the client, "GB
a worker" the largest peak of their resident memory, with what they have mapped. The
cluster is started, and has imported the package, beforehand.
"""

import argparse
import re
import tempfile
import time
from pathlib import Path

import numpy as np
from distributed import Client, LocalCluster, wait
from sklearn.frozen import FrozenEstimator
from threadpoolctl import threadpool_limits

from numerai_features import (
    EraPanel,
    FactorAnalysisEmbedder,
    LatentFeatures,
    make_era_panel,
)
from numerai_features.distributed import (
    gather_moments,
    panel_frame,
    transform_partitions,
)
from numerai_features.moments import EraMoments


def sent(dask_worker):
    return dask_worker.transfer_outgoing_bytes_total


def peak():
    """Return this process's own peak; ru_maxrss begins with that of its parent."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


class Row:
    """A line of the table, while it is measured."""

    def __init__(self, name, client=None):
        self.name, self.client = name, client

    def count(self):
        if self.client is None:
            return time.process_time(), 0
        cpu = self.client.run(time.process_time)
        return sum(cpu.values()), sum(self.client.run(sent).values())

    def __enter__(self):
        self.before = self.count()
        self.start = time.perf_counter()

    def __exit__(self, *_):
        seconds = time.perf_counter() - self.start
        cpu, n_bytes = np.subtract(self.count(), self.before)
        line = f"{self.name:24}{seconds:>9.1f}{cpu:>9.1f}"
        if self.client:
            most = max(self.client.run(peak).values()) / 1e9
            line += f"{n_bytes / 1e6:>10.0f}{most:>13.2f}"
        print(line, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--features", type=int, default=1_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--partitions", type=int, default=8)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        made = make_era_panel(
            args.rows // 1000, 1000, args.features, 16, random_state=0, missing_share=0
        )
        made.save(Path(folder) / "panel")
        del made
        panel = EraPanel.open(Path(folder) / "panel")
        measure(args, panel)


def measure(args, panel):
    print(f"{panel.n_rows:,} x {panel.n_features} int8, {args.partitions} partitions")
    print(f"{'':24}{'seconds':>9}{'CPU s':>9}{'MB sent':>10}{'GB a worker':>13}")
    with Row("moments, one process"):
        whole = EraMoments.from_rows(panel.X, panel.eras)
    names = panel.feature_names
    with Row("factors of the moments"):
        factors = FactorAnalysisEmbedder.from_moments(
            whole, feature_names=names, n_components=30
        )
    latents = LatentFeatures(FrozenEstimator(factors), quantize="uint8")
    latents.fit(panel.select(every=4).as_X())
    with Row("latents, one process"):
        table = latents.transform(panel.as_X())
    with (
        LocalCluster(
            n_workers=args.workers, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        client.run(__import__, "numerai_features.distributed")
        rows = panel_frame(panel, n_partitions=args.partitions)[["era", *names]]
        with Row(f"moments, {args.workers} workers", client):
            moments = gather_moments(rows).compute()
        same = np.array_equal(moments.total().scatter, whole.total().scatter)
        with Row(f"latents, {args.workers} workers", client):
            parts = transform_partitions(latents, rows).persist()
            wait(parts)
        told = parts.iloc[:, 1:].compute().to_numpy()
        differ = int((told != table).sum())
        print(f"same moments: {same}; bytes of the table that differ: {differ}")


if __name__ == "__main__":
    main()
