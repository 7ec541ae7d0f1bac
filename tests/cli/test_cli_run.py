"""The commands run and demo: what they print, how they end, and how they go on."""

import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from numerai_features.cli import main
from numerai_features.datasets import make_era_panel
from numerai_features.experiment import Experiment

EXPERIMENT = """
seed = 3
[data.synthetic]
n_eras = 30
rows_per_era = 40
n_features = 12
n_factors = 3
horizon = 2
[cv]
n_splits = 2
purge = 3
[latents.fa]
embedder = "FactorAnalysisEmbedder"
n_components = 3
[model]
n_jobs = 1
device = "cpu"
params = { n_estimators = 8 }
"""
HEAVY = "{'numpy', 'pandas', 'sklearn', 'torch', 'pyarrow', 'matplotlib', 'scipy'}"
# The handler is set because a shell may start its background jobs, and all that these
# start, with SIGINT ignored.
PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from numerai_features.cli import program
program()
"""
NETWORK = """
[latents.net]
embedder = "DAEEmbedder"
n_components = 2
hidden = [8]
batch_size = 256
max_epochs = 20
validation = 0.2
"""


def command(folder, text=EXPERIMENT):
    file = folder / "tiny.toml"
    file.write_text(text, encoding="utf-8")
    return ["run", str(file), "--output", str(folder / "out")]


def test_it_prints_what_there_is_to_do_and_the_result(tmp_path, capsys):
    assert main(command(tmp_path)) == 0
    told = capsys.readouterr()
    result = Experiment.from_file(tmp_path / "tiny.toml", tmp_path / "out").run()
    first, second, third, *_ = told.out.splitlines()
    assert first == f"Reading {tmp_path / 'tiny.toml'}"
    assert second.startswith("EraPanel(n_rows=1200, ")
    assert third == "4 arms, 2 folds."
    assert f"\n\n{result}\n\nEverything is in {tmp_path / 'out'}\n" in told.out
    last = told.out.splitlines()[-2:]
    assert re.fullmatch(r"\d+ seconds\.", last[0])
    assert last[1] == f"Next: numerai-features fit {tmp_path}/tiny.toml --arm ARM"
    words = [
        "making synthetic rows [", "fold 2 of 2, + random: 100%", "judging: CORR [",
        "judging: FNC [", "judging: largest exposure [", "writing [", "drawing [",
    ]  # fmt: skip
    places = [told.err.index(word) for word in words]
    assert places == sorted(places)


def test_the_first_line_comes_before_libraries_are_imported(tmp_path):
    code = f"""
import sys
class Out:
    def write(self, text):
        sys.__stdout__.write(text + str(sorted(set(sys.modules) & {HEAVY})) + chr(10))
        raise SystemExit
    def flush(self):
        pass
sys.stdout = Out()
from numerai_features.cli import main
main({command(tmp_path)})
"""
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert told.stdout == f"Reading {tmp_path / 'tiny.toml'}[]\n"


def test_quiet_prints_nothing(tmp_path, capsys):
    assert main([*command(tmp_path), "--quiet"]) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == ""


def test_json_holds_the_result(tmp_path, capsys):
    assert main([*command(tmp_path), "--json"]) == 0
    told = capsys.readouterr()
    found = json.loads(told.out)
    result = Experiment.from_file(tmp_path / "tiny.toml", tmp_path / "out").run()
    assert found["folder"] == str(tmp_path / "out")
    corr = {arm: row["mean"] for arm, row in found["arms"].items()}
    assert corr == result.summary["mean"].to_dict()
    assert list(found["differences"]) == list(result.differences.index)
    assert found["notes"] == list(result.notes)
    assert "EraPanel(n_rows=1200" in told.err


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_one_goes_on_to_the_same_bits(tmp_path, capsys, kind):
    text = EXPERIMENT.replace("n_estimators = 8", "n_estimators = 600")
    arguments = command(tmp_path, text)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments], stderr=subprocess.PIPE, text=True
    )
    first = tmp_path / "out" / "folds" / "001.originals.fold"
    while not first.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(kind)
    _, told = process.communicate(timeout=60)
    if kind == signal.SIGINT:
        assert process.returncode == 130
        assert told.endswith("the same command resumes from there.\n")
    else:
        assert process.returncode == -signal.SIGKILL
    kept = {path: path.stat().st_mtime_ns for path in first.parent.glob("*.fold")}
    assert 1 <= len(kept) < 8
    assert main(arguments) == 0
    assert f"{len(kept)} of 8 fits are done already" in capsys.readouterr().out
    assert kept == {path: path.stat().st_mtime_ns for path in kept}
    got = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    whole = Experiment.from_file(tmp_path / "tiny.toml", tmp_path / "whole")
    expected = whole.run(verbose=False).predictions
    pd.testing.assert_frame_equal(got, expected, check_exact=True)


def start(arguments, **options):
    """Start the command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def unstopped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unstopped")
    command(folder, EXPERIMENT + NETWORK)
    return Experiment.from_file(folder / "tiny.toml", folder).run(verbose=False)


def files_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("signals", "status"),
    [([signal.SIGINT, signal.SIGINT, signal.SIGINT], 130), ([signal.SIGTERM], 143)],
)
def test_stopped_within_an_epoch(tmp_path, unstopped, signals, status):
    """Nothing is kept of the fit that was stopped; the rerun is as an unstopped one."""
    states = tmp_path / "states"
    told_by = f"checkpoint = '{states}'\ncheckpoint_every = 0\n"
    arguments = [*command(tmp_path, EXPERIMENT + NETWORK + told_by), "--trusted"]
    process = start(arguments)
    while not any(states.glob("*.checkpoint")) and process.poll() is None:
        time.sleep(0.001)
    for number in signals:
        process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == status, told
    assert "Traceback" not in told
    assert told.endswith("the same command resumes from there.\n")
    folds = tmp_path / "out" / "folds"
    kept = files_in(folds)
    assert set(kept) == {"experiment.json", "001.originals.fold", "001.fa.fold"}
    assert main([*arguments, "--quiet"]) == 0
    assert kept.items() <= files_in(folds).items()
    got = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    pd.testing.assert_frame_equal(got, unstopped.predictions, check_exact=True)
    scores = pd.read_parquet(tmp_path / "out" / "scores.parquet")
    pd.testing.assert_frame_equal(scores, unstopped.scores, check_exact=True)


# Nobody reads what it prints, so that to print is to wait.
SLOW = """
import pathlib, sys, time
class Slow:
    def write(self, text):
        pathlib.Path(sys.argv[-1]).with_name("printing").touch()
        time.sleep(60)
    def flush(self):
        pass
sys.stdout = Slow()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_it_prints(tmp_path, number):
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW + PROGRAM, *command(tmp_path)],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    printing = tmp_path / "printing"
    while not printing.exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 128 + number, told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("purge = 3", "purge = 40", "Fold 0 .* has no training era left after a purge"),
        ("n_splits = 2", "n_splits = 40", "n_splits=40 needs at least 41 resolved era"),
        ('device = "cpu"', 'device = "tpu"', "'device' .* must be .*Got 'tpu'"),
        (
            "[latents.fa]",
            "[latents.net]\nembedder = 'DAEEmbedder'\nn_components = 2\n"
            "device = 'tpu'\n[latents.fa]",
            "device must be 'auto', .*got 'tpu'",
        ),
        (
            "[latents.fa]",
            "[latents.net]\nembedder = 'DAEEmbedder'\nn_components = 2\n"
            "validation = 7\n[latents.fa]",
            "net, fold 1: validation=7 holds out 7 of 7 eras and leaves none",
        ),
        (
            "[latents.fa]",
            "[latents.net]\nembedder = 'SupervisedAEMLP'\ncross_fit = 3\n"
            "n_components = 2\n[latents.fa]",
            "net, fold 1: cross_fit=3: Fold 0 .* has no training era left after a p",
        ),
    ],
)
@pytest.mark.parametrize("files", [False, True])
def test_what_cannot_run_is_told_before_anything_is_written(
    tmp_path, capsys, request, old, new, message, files
):
    text = request.getfixturevalue("numerais_files") if files else EXPERIMENT
    assert main([*command(tmp_path, text.replace(old, new)), "--quiet"]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert re.match(f"Error: .*{message}", told.err), told.err
    assert "Traceback" not in told.err
    assert not (tmp_path / "out").exists()


def test_an_error_of_the_library_is_one_message(tmp_path, capsys):
    text = EXPERIMENT.replace("n_estimators = 8", "objective = 'x'")
    assert main([*command(tmp_path, text), "--quiet"]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(
        "Error: originals, fold 1: LightGBM rejects model.params"
    )
    assert "Traceback" not in told.err


def test_another_experiment_in_the_folder_is_an_experiments_error(tmp_path, capsys):
    assert main([*command(tmp_path), "--quiet"]) == 0
    other = command(tmp_path, EXPERIMENT.replace("seed = 3", "seed = 4"))
    assert main([*other, "--quiet"]) == 2
    told = capsys.readouterr().err
    assert "holds results of another experiment:" in told
    assert "  seed: 3 then, 4 now\n" in told


@pytest.fixture
def numerais_files(tmp_path):
    """A folder with a file of Numerai's form, and an experiment's text on it."""
    panel = make_era_panel(30, 40, n_features=12, horizon=2, random_state=0)
    panel.to_frame().to_parquet(tmp_path / "train.parquet")
    names = panel.feature_names
    sets = {"small": names[:4], "medium": names[:8], "all": names}
    content = {"feature_sets": sets, "targets": panel.target_names}
    (tmp_path / "features.json").write_text(json.dumps(content))
    data = EXPERIMENT.index("[data.synthetic]"), EXPERIMENT.index("[cv]")
    text = (
        "[data]\nfiles = ['train.parquet']\n[features]\nset = 'medium'\n"
        "[targets]\nmain = 'target_alpha_10'\n"
    )
    return EXPERIMENT[: data[0]] + text + EXPERIMENT[data[1] :]


TYPOS = [
    ("'medium'", "'medum'", r"line 6: features\.set: .*Did you mean 'medium'\?"),
    ("'medium'", "['feature_0001', 'feature_001']", r"line 6: .*mean .*'feature_0001'"),
    ("'target_alpha_10'", "'target_alph_10'", r"line 8: targets\.main: .*alpha_10'"),
    ("'target_alpha_10'", "['a', 'b']", r'line 8: .*got \["a", "b"\], which is no ta'),
    ("train.parquet", "trian.parquet", r"line 4: data\.files: .*mean 'train\.parquet'"),
    ("['train.parquet']", "['.']", r"line 4: data\.files: .* is a folder; .*'train\.p"),
    ("[features]", "metadata = 'feature.json'\n[features]", r"line 5: data\.metadata: "
     r".*Did you mean 'features\.json'"),
    ("[features]", "metadata = '.'\n[features]", r"line 5: data\.metadata: .* a "
     r"folder; expected the path of a features\.json\. Pass .*/features\.json\."),
    ("n_components = 3", "n_components = 9", r"latents\.fa\.n_components: .* most n_"
     "features=8"),
    ("['train.parquet']", "['features.json']", r"line 4: .* not a parquet file, or is"),
    ("['train.parquet']", "['train.parquet', './train.parquet']", "line 4: .* twice"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), TYPOS)
def test_a_slip_is_told_with_its_line_and_nothing_is_written(
    tmp_path, capsys, numerais_files, old, new, message
):
    before = set(tmp_path.iterdir())
    arguments = command(tmp_path, numerais_files.replace(old, new))
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert told.out == f"Reading {tmp_path / 'tiny.toml'}\n"
    assert re.search(message, told.err), told.err
    assert "1 problem\n" in told.err
    assert set(tmp_path.iterdir()) == before | {tmp_path / "tiny.toml"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[cv]", "[targets]\nmain = 'target_alph_10'\n[cv]", "mean 'target_alpha_10'"),
        (
            "[cv]",
            "[features]\nset = ['feature_001']\n[cv]",
            "line 10: .*mean .*'feature_0001'",
        ),
        (
            "n_components = 3",
            "n_components = 13",
            "line 14: latents.fa.n_components: .* must be at most n_features=12",
        ),
        ("n_estimators = 8", "num_leaves = 0", "line 18: .*num_leaves.*int in.*Got 0"),
        (
            "n_estimators = 8",
            "learning_rate = inf",
            "line 18: .*learning_rate.*Got in",
        ),
        ("n_estimators = 8", "max_delta_step = nan", "line 18: .*NaN; expected a numb"),
    ],
)
def test_a_slip_of_synthetic_data(tmp_path, capsys, old, new, message):
    assert main(command(tmp_path, EXPERIMENT.replace(old, new))) == 2
    told = capsys.readouterr().err
    assert re.search(message, told), told
    assert not (tmp_path / "out").exists()


def test_a_folder_whose_run_failed_before_a_result_takes_the_mended_file(
    tmp_path, numerais_files
):
    good = pd.read_parquet(tmp_path / "train.parquet")
    bad = good.assign(feature_0001=np.int8(7))  # told when rows are read
    bad.to_parquet(tmp_path / "train.parquet")
    assert main([*command(tmp_path, numerais_files), "--quiet"]) == 1
    assert (tmp_path / "out" / "folds").is_dir()
    good.to_parquet(tmp_path / "train.parquet")
    mended = command(tmp_path, numerais_files.replace("'medium'", "'small'"))
    assert main([*mended, "--quiet"]) == 0
    [experiment] = (tmp_path / "out").glob("resolved.toml")
    assert Experiment.from_file(experiment)["features"]["set"] == "small"


def test_a_target_of_the_users_own_is_taken(tmp_path, numerais_files):
    """features.json does not list it."""
    rows = pd.read_parquet(tmp_path / "train.parquet")
    rows["mine"] = rows["target_alpha_10"]
    rows.to_parquet(tmp_path / "train.parquet")
    experiments = [
        Experiment.from_file(command(tmp_path, text)[1], tmp_path / name)
        for name, text in {
            "mine": numerais_files.replace("'target_alpha_10'", "'mine'"),
            "theirs": numerais_files,
        }.items()
    ]
    mine, theirs = (e.run(verbose=False).predictions for e in experiments)
    pd.testing.assert_frame_equal(mine, theirs)


class Told:
    """Stands in for a result."""

    summary = differences = pd.DataFrame()
    notes = ()

    def __str__(self):
        return "tables"


def test_demo_runs_the_packaged_file(monkeypatch, tmp_path, capsys):
    ran = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        Experiment, "run", lambda self, verbose: ran.append(self) or Told()
    )
    assert main(["demo"]) == 0
    [experiment] = ran
    assert experiment.folder == tmp_path / "runs" / "demo"
    assert list(experiment.arms) == ["originals", "fa", "dae", "pca", "random"]
    expected = {
        "n_eras": 240, "rows_per_era": 500, "n_features": 200, "n_factors": 16,
        "horizon": 4, "random_state": 0,
    }  # fmt: skip
    assert expected.items() <= experiment["data"]["synthetic"].items()
    told = capsys.readouterr().out
    file, told = told.split("\n", 1)
    assert file.endswith("demo.toml")
    assert told.startswith(f"\ntables\n\nEverything is in {tmp_path / 'runs' / 'demo'}")
