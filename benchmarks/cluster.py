"""Factor analysis and latents by the workers of a Dask cluster, beside one process.

    python benchmarks/cluster.py [--rows 100000] [--features 1000] [--workers 2]

A panel on disk. One process has one BLAS thread, and so has each worker. "MB sent" is
what the workers sent each other and the client, "GB a worker" the largest peak of their
resident memory, with what they have mapped. The cluster is started beforehand.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from dask import delayed
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


def peak(dask_worker):
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Row:
    """A line of the table, while it is measured."""

    def __init__(self, name, client=None):
        self.name, self.client = name, client

    def __enter__(self):
        self.before = sum(self.client.run(sent).values()) if self.client else 0
        self.start = time.perf_counter()

    def __exit__(self, *_):
        seconds = time.perf_counter() - self.start
        line = f"{self.name:34}{seconds:>9.1f}"
        if self.client:
            megabytes = (sum(self.client.run(sent).values()) - self.before) / 1e6
            gigabytes = max(self.client.run(peak).values()) / 1e9
            line += f"{megabytes:>10.0f}{gigabytes:>13.2f}"
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
    print(f"{'':34}{'seconds':>9}{'MB sent':>10}{'GB a worker':>13}")
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
            n_workers=args.workers, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        client.run(__import__, "numerai_features.distributed")
        rows = panel_frame(panel, n_partitions=args.partitions)[["era", *names]]
        with Row(f"moments, {args.workers} workers", client):
            moments = gather_moments(rows).compute()
        same = np.array_equal(moments.total().scatter, whole.total().scatter)
        with Row(f"latents, {args.workers} workers", client):
            parts = client.persist(transform_partitions(latents, rows))
            wait(parts)
        hashes = [delayed(bytes_of)(part) for part in parts.to_delayed()]
        ends = np.append(np.asarray(parts.divisions[1:-1]), panel.n_rows)
        cuts = np.split(table, ends[:-1])
        differ = [
            sum(a != b for a, b in zip(x, part.tobytes(), strict=True))
            for x, part in zip(client.gather(client.compute(hashes)), cuts, strict=True)
        ]
    print(f"same moments: {same}; bytes of the table that differ: {sum(differ)}")


def bytes_of(part):
    return part.iloc[:, 1:].to_numpy().tobytes()


if __name__ == "__main__":
    main()
