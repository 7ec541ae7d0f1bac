"""An experiment on real rows, with most of what an arm can be; stopped and resumed."""

import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from numerai_tools import scoring
from sklearn.linear_model import Ridge

from numerai_features.cli import main
from numerai_features.datasets import EraPanel
from numerai_features.experiment import Experiment
from numerai_features.experiment._eras import make_folds

TARGET = "target_bernie"
EXPERIMENT = """
seeds = 2
[data]
files = [{files}]
benchmark = "benchmark.parquet"
[features]
set = "medium"
[targets]
main = "target_bernie"
also = ["target_charles", "target_jordan"]
[cv]
test_eras = 20
first_test_era = 61
[model]
n_jobs = 1
device = "cpu"
params = {{ n_estimators = 40, learning_rate = 0.1 }}
[latents.fa]
embedder = "FactorAnalysisEmbedder"
n_components = 4
[latents.umap]
embedder = "UMAPEmbedder"
n_components = 2
max_epochs = 2
hidden = [16]
n_jobs = 1
select = {{ n = 12 }}
[latents.codes]
embedder = "SupervisedAEMLP"
n_components = 4
hidden = [8, 8]
dropout = [0.1, 0.1, 0.1, 0.1, 0.1]
max_epochs = 2
cross_fit = 2
[augment.noise]
augmenter = "GaussianNoiseAugmenter"
[arms.originals]
[arms.fa]
latents = ["fa"]
[arms.umap]
latents = ["umap"]
[arms.codes]
latents = ["codes"]
[arms.noise]
augment = "noise"
[arms.several]
target = ["target_bernie", "target_charles", "target_jordan"]
[arms.residual]
residual_to = "benchmark"
[arms.mix]
blend = {{ originals = 1, residual = 1, several = 1 }}
[report]
periods = ["0061-0080", "0081-0100"]
"""
PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from numerai_features.cli import program
program()
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory, real_data):
    """The experiment, with a ridge of the first half as the benchmark."""
    folder = tmp_path_factory.mktemp("real")
    files = [real_data / f"{name}.parquet" for name in ("train", "validation")]
    rows = pd.concat(map(pd.read_parquet, files))
    features = [name for name in rows if name.startswith("feature_")]
    half = rows[rows["era"] <= "0040"]
    ridge = Ridge(alpha=100.0).fit(half[features], half[TARGET])
    predicted = rows[["era"]].assign(ridge=ridge.predict(rows[features]))
    predicted[rows["era"] > "0010"].to_parquet(folder / "benchmark.parquet")
    told = ", ".join(f'"{path}"' for path in files)
    (folder / "real.toml").write_text(EXPERIMENT.format(files=told))
    return folder / "real.toml"


@pytest.fixture(scope="module")
def done(file):
    return Experiment.from_file(file, file.parent / "out").run(verbose=False)


def test_every_figure_is_that_of_numerai_tools(done, file):
    benchmark = pd.read_parquet(file.parent / "benchmark.parquet")["ridge"]
    table = done.predictions.dropna(subset="target")
    table = table.assign(benchmark=benchmark.reindex(table.index))
    numbers = table.columns.drop("era")
    table = table.astype({name: float for name in numbers})
    scores = {}
    for era, rows in table.groupby("era"):
        for arm in done.experiment.arms:
            own = rows[[f"{arm}, seed {seed}" for seed in (0, 1)]]
            target, beside = rows["target"], rows["benchmark"]
            scores[int(era), arm] = {
                "mean": scoring.numerai_corr(own, target).mean(),
                "bmc": scoring.correlation_contribution(own, beside, target).mean(),
            }
    theirs = pd.DataFrame.from_dict(scores, orient="index")
    for period, (first, last) in {"": (61, 100), "0081-0100": (81, 100)}.items():
        summary = done.periods.loc[period] if period else done.summary
        expected = theirs.loc[first:last].groupby(level=1).mean()
        for arm in done.experiment.arms:
            mine = summary.loc[arm, ["mean", "bmc"]].astype(float)
            assert mine.to_numpy() == pytest.approx(
                expected.loc[arm, ["mean", "bmc"]].to_numpy(), abs=1e-9
            )
            payout = 3 * mine["mean"] + 15 * mine["bmc"]
            assert summary.loc[arm, "payout"] == pytest.approx(payout, abs=1e-9)
    assert (done.summary["bmc_n_eras"] == 40).all()
    assert done.differences["seed_error"].notna().all()


def test_a_fitted_model_predicts_as_the_fold_of_a_run(done, file, tmp_path, real_data):
    """Fitted to the fold's training rows alone."""
    panel = EraPanel.open(done.experiment["data"]["panel"])
    fold = make_folds(done.experiment.tables, panel)[0]
    there = [real_data / f"{name}.parquet" for name in ("train", "validation")]
    rows = pd.concat(map(pd.read_parquet, there))
    trained = rows["era"].astype(int).isin(panel.eras[fold.train])
    rows[trained].to_parquet(tmp_path / "fold.parquet")
    text = EXPERIMENT.format(files=f'"{tmp_path / "fold.parquet"}"')
    metadata = f'[data]\nmetadata = "{real_data / "features.json"}"\n'
    (file.parent / "fold.toml").write_text(text.replace("[data]\n", metadata))
    experiment = Experiment.from_file(file.parent / "fold.toml", tmp_path / "out")
    expected = done.predictions[done.predictions["fold"] == fold.number]
    for arm in experiment.arms:
        model = experiment.fit(arm, seeds=1, verbose=False)
        found = model.predict(rows.loc[expected.index], rank=None)["prediction"]
        own = expected[f"{arm}, seed 0"]
        # a run ranks what is rounded to float32, so that two rows may change places
        atol = 0.01 if arm == "mix" else 1e-6
        np.testing.assert_allclose(found, own, rtol=1e-5, atol=atol, err_msg=arm)
        live = model.predict(real_data / "live.parquet")
        assert live["prediction"].between(0, 1).all()
        assert live["prediction"].std() > 0.25


@pytest.mark.slow
def test_stopped_anywhere_it_goes_on_to_the_same_bits(done, file, tmp_path):
    out = tmp_path / "out"
    arguments = ["run", str(file), "--output", str(out), "--quiet"]
    rng = np.random.default_rng(0)
    for kind in [signal.SIGINT, signal.SIGKILL] * 4:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments], stderr=subprocess.PIPE
        )
        time.sleep(rng.uniform(3, 9))
        process.send_signal(kind)
        process.communicate(timeout=60)
    assert main(arguments) == 0
    got = pd.read_parquet(out / "predictions.parquet")
    pd.testing.assert_frame_equal(got, done.predictions, check_exact=True)
    summary = pd.read_parquet(out / "summary.parquet")[["mean", "bmc"]]
    pd.testing.assert_frame_equal(summary, done.summary[["mean", "bmc"]])
