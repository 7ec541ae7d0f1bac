"""Work that leaves something on disk, for the stress test to kill and to starve.

A job is prepared in a folder, done, and may be done again after it was stopped: then it
must end as if it had not been. What is on disk meanwhile is whole at any time.
"""

import contextlib
import hashlib
import os
import re
import sys
import traceback
import warnings
from pathlib import Path

import joblib
import numpy as np
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from numerai_features.cli import main
from numerai_features.compose import LatentFeatures
from numerai_features.datasets import EraPanel, make_era_panel
from numerai_features.embedders import (
    DAEEmbedder,
    FactorAnalysisEmbedder,
    SupervisedAEMLP,
)
from numerai_features.experiment import Experiment
from numerai_features.model_selection import EraKFold, cross_val_predict_eras

EXPERIMENT = """
[data.synthetic]
n_eras = 20
rows_per_era = 60
n_features = 24
n_factors = 3
horizon = 2
[cv]
n_splits = 2
purge = 3
[latents.fa]
embedder = "FactorAnalysisEmbedder"
n_components = 3
[latents.dae]
embedder = "DAEEmbedder"
n_components = 3
hidden = [16]
max_epochs = 12
random_state = 0
[model]
n_jobs = 1
device = "cpu"
params = { n_estimators = 20 }
"""


def small(seed=0):
    return make_era_panel(n_eras=10, rows_per_era=60, n_features=24, random_state=seed)


def large(seed=0):
    """A panel whose files take a moment to write."""
    return make_era_panel(
        n_eras=12, rows_per_era=1500, n_features=200, random_state=seed
    )


def digest_of(panel):
    panel.verify()
    return joblib.hash([np.asarray(panel.X), panel.eras, panel.targets])


class WritePanel:
    """A panel is written where none is."""

    def prepare(self, folder):
        self.panel = large()

    def do(self, folder):
        with contextlib.suppress(FileExistsError):
            self.panel.save(folder / "panel")
        return digest_of(EraPanel.open(folder / "panel"))

    def check(self, folder):
        with contextlib.suppress(FileNotFoundError):
            assert digest_of(EraPanel.open(folder / "panel")) == digest_of(large())


class OverwritePanel:
    """A panel takes the place of another."""

    def prepare(self, folder):
        if not (folder / "panel").exists():
            large(1).save(folder / "panel")
        self.panel = large()

    def do(self, folder):
        self.panel.save(folder / "panel", overwrite=True)
        return digest_of(EraPanel.open(folder / "panel"))

    def check(self, folder):
        found = digest_of(EraPanel.open(folder / "panel"))
        assert found in {digest_of(large(seed)) for seed in (0, 1)}


class Run:
    """The command line runs an experiment."""

    def prepare(self, folder):
        (folder / "tiny.toml").write_text(EXPERIMENT)

    def do(self, folder):
        output = folder / "out"
        status = main(["run", str(folder / "tiny.toml"), "--output", str(output)])
        if status:
            sys.exit(status)
        result = Experiment.from_file(folder / "tiny.toml", output).run(verbose=False)
        return joblib.hash([result.predictions.to_numpy(), result.scores.to_numpy()])

    def check(self, folder):
        """What is there is looked at by the next run."""


class _Network:
    """A network is trained, and writes its state after every step."""

    def prepare(self, folder):
        self.panel = small()

    def do(self, folder):
        self.net.set_params(checkpoint=folder / "states", checkpoint_every=0)
        self.net.fit(self.panel.X, self.panel.y(), eras=self.panel.eras)
        (folder / "states").mkdir(exist_ok=True)
        return joblib.hash(self.net.transform(self.panel.X))

    def check(self, folder):
        """What is there is looked at by the next fit."""


class TrainDAE(_Network):
    net = DAEEmbedder(3, hidden=(16,), max_epochs=12, n_models=2, random_state=0)


class TrainSupervised(_Network):
    net = SupervisedAEMLP(
        3, decoder_units=6, hidden=(16,), dropout=(0.1,) * 4, max_epochs=12,
        random_state=0,
    )  # fmt: skip


class Folds:
    """Out-of-fold predictions, whose folds and latents are kept."""

    def prepare(self, folder):
        self.panel = small()

    def do(self, folder):
        latents = LatentFeatures(
            [
                ("fa", FactorAnalysisEmbedder(3)),
                ("dae", DAEEmbedder(3, hidden=(8,), max_epochs=2, random_state=0)),
            ],
            memory=folder / "latents",
        )
        result = cross_val_predict_eras(
            make_pipeline(latents, Ridge()),
            self.panel.X,
            self.panel.y(),
            eras=self.panel.eras,
            cv=EraKFold(2, purge=1),
            memory=folder / "folds",
            verbose=False,
        )
        return joblib.hash(result)

    def check(self, folder):
        """What is there is looked at by the next call."""


JOBS = {
    job.__name__: job
    for job in (WritePanel, OverwritePanel, Run, TrainDAE, TrainSupervised, Folds)
}
LOST = 97  # the exit status of a process that ended as if it had been killed


def child(name, folder, ready=None, at=None):
    """Do a job in a process of its own, and write down what came out of it.

    Parameters
    ----------
    name : str
    folder : path
        Of the job; the outcome goes beside it.
    ready : Event, default=None
        Set when the job begins.
    at : int, default=None
        The process is gone at this operation on files: an even number's half is counted
        before the operation, an odd one's after it.
    """
    import signal

    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = Path(folder)
    log = folder.with_suffix(".log").open("a")
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    try:
        job = JOBS[name]()
        job.prepare(folder)
        done = count_operations(at)
        if ready is not None:
            ready.set()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcome = job.do(folder)
        folder.with_suffix(".outcome").write_text(f"{outcome} {done()}")
    except KeyboardInterrupt:
        os._exit(130)
    except SystemExit as error:
        os._exit(error.code)
    except BaseException:
        traceback.print_exc(file=log)
        log.flush()
        os._exit(1)
    os._exit(0)


def count_operations(at):
    """Count what is done to files; at one of these operations be gone."""
    from numerai_features import _whole

    count = 0

    def counted(owner, name):
        plain = getattr(owner, name)

        def call(*args, **kwargs):
            nonlocal count
            for act in (lambda: None, lambda: plain(*args, **kwargs)):
                result = act()
                count += 1
                if count == at:
                    os._exit(LOST)
            return result

        setattr(owner, name, call)

    for name in (
        "rename", "replace", "mkdir", "rmdir", "unlink", "remove", "fsync", "open",
        "posix_fallocate", "truncate", "link",
    ):  # fmt: skip
        counted(os, name)
    counted(_whole, "_exchange")
    return lambda: count


def listing(folder):
    """Return what lies in a folder, at any depth; what depends on its path is left out.

    Parameters of an estimator, its `memory` among them, are hashed.
    """
    names = (str(p.relative_to(folder)) for p in Path(folder).rglob("*"))
    return sorted(re.sub("[0-9a-f]{32}", "*", name) for name in names)


def contents(folder):
    """Return a checksum of every file in a folder."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in Path(folder).rglob("*")
        if p.is_file()
    }


if __name__ == "__main__":
    child(*sys.argv[1:3])
