"""The command line itself: help, versions, exit codes."""

import argparse
import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

import numerai_features
from numerai_features.cli import _signals, main
from numerai_features.cli._commands import COMMANDS, Command
from numerai_features.cli._main import sleep_sooner
from numerai_features.cli._say import say
from numerai_features.experiment import Experiment, ExperimentError
from numerai_features.experiment._tables import ARM, LATENTS_OPTIONS
from numerai_features.tournament import NoOpenRound, ServerError

HEAVY = (
    "{'numpy', 'pandas', 'sklearn', 'torch', 'pyarrow', 'matplotlib', 'scipy', 'tqdm'}"
)


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments):
    code = f"""
import sys
from numerai_features.cli import main
try:
    main({arguments})
except SystemExit as end:
    assert end.code == 0, end.code
print("heavy:", sorted(set(sys.modules) & {HEAVY}))
"""
    command = [sys.executable, "-c", code]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told.endswith("heavy: []\n")
    assert len(told.splitlines()) > 1


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    expected = f"numerai-features {numerai_features.__version__}\n"
    assert capsys.readouterr().out == expected


def test_python_m_is_the_command():
    command = [sys.executable, "-m", "numerai_features", "run", "none.toml"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("none.toml cannot be read")


def test_a_command_is_required(capsys):
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "required: COMMAND" in capsys.readouterr().err


def test_a_wrong_file_is_told_without_traceback(tmp_path, capsys):
    file = tmp_path / "bad.toml"
    file.write_text("[model]\npreset = 'smal'\n", encoding="utf-8")
    assert main(["run", str(file)]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"{file}: 2 problems\n  data: expected")
    assert "  line 2: model.preset: got" in told
    assert "Traceback" not in told
    assert not (tmp_path / "runs").exists()


def test_run_help_lists_all_that_a_file_may_hold(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["run", "--help"])
    told = capsys.readouterr().out
    assert 'scheme: "walk-forward" or "k-fold" (default "walk-forward")' in told
    tables = Experiment.from_dict({"data": {"synthetic": {}}}).tables
    fields = {"": {name: tables.pop(name) for name in ("seed", "seeds")}, **tables}
    fields |= {"latents.NAME": LATENTS_OPTIONS.fields, "arms.NAME": ARM.fields}
    fields["data.synthetic"] = tables["data"].pop("synthetic")
    for table, values in fields.items():
        assert f"\n[{table}] " in told or not table
        for name in values:
            # what it is, what is allowed, and on the next line what it means
            assert re.search(rf"^  {name}: .+\n      \S+", told, re.MULTILINE), name


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (pa.ArrowKeyError("no such column"), "Error: "),
        (pa.ArrowException("damaged"), "Error: damaged"),
        (UnicodeDecodeError("utf-8", b"a", 0, 1, "bad byte"), "Error: 'utf-8' codec"),
        (RecursionError("too deep"), "Error: too deep"),
        (EOFError(), "Error: EOFError"),
        (MemoryError(), "Error: MemoryError"),
    ],
)
def test_what_comes_of_damaged_files_is_a_message(monkeypatch, capsys, error, told):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(Experiment, "from_file", fail)
    assert main(["run", "a.toml"]) == 1
    assert capsys.readouterr().err.startswith(told)


def test_a_fault_of_ours_has_a_traceback(monkeypatch):
    def fail(*args, **kwargs):
        raise AttributeError("ours")

    monkeypatch.setattr(Experiment, "from_file", fail)
    with pytest.raises(AttributeError, match="ours"):
        main(["run", "a.toml"])


@pytest.fixture
def command(monkeypatch):
    """Return a function that makes ``try`` a command that does what it is told."""

    def make(run):
        added = Command("for tests", lambda parser: None, run)
        monkeypatch.setitem(COMMANDS, "try", added)

    return make


def fail_with(error):
    def run(arguments):
        raise error

    return run


STATUSES = [
    (ValueError("bad rows"), 1),
    (ExperimentError("a.toml: 1 problem"), 2),
    (ServerError("no answer"), 3),
    (NoOpenRound("opens on Saturday"), 4),
    (KeyboardInterrupt(), 130),
]


@pytest.mark.parametrize(("error", "status"), STATUSES)
def test_each_kind_of_error_has_a_status(command, capsys, error, status):
    command(fail_with(error))
    assert main(["try"]) == status
    told = capsys.readouterr()
    assert str(error) in told.err
    assert told.out == ""


@pytest.mark.parametrize(("error", "status"), STATUSES)
def test_json_has_errors_too(command, capsys, error, status):
    command(fail_with(error))
    assert main(["try", "--json"]) == status
    told = capsys.readouterr()
    text = str(error) or "Interrupted"
    assert json.loads(told.out) == {"error": text, "status": status}
    assert text in told.err


def test_json_tells_of_a_fault_of_ours_and_keeps_the_traceback(command, capsys):
    command(fail_with(AttributeError("ours")))
    with pytest.raises(AttributeError, match="ours"):
        main(["try", "--json"])
    assert json.loads(capsys.readouterr().out) == {"error": "ours", "status": 1}


def test_json_has_wrong_arguments_too(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["run", "--json"])
    told = capsys.readouterr()
    error = "the following arguments are required: experiment"
    assert json.loads(told.out) == {"error": error, "status": 2}
    assert told.err.startswith("usage: numerai-features run ")
    assert told.err.endswith(f"numerai-features run: error: {error}\n")


def test_json_is_all_that_is_on_the_standard_output(command, capsys, tmp_path):
    def run(arguments):
        print("progress")
        say(arguments, "for people")
        return {
            "file": tmp_path, "n": np.int64(3), "score": np.float32(0.5),
            "none": [float("nan"), np.float64("inf"), None], 2: {"deep": True},
        }  # fmt: skip

    command(run)
    assert main(["try", "--json"]) == 0
    told = capsys.readouterr()
    assert told.out.count("\n") == 1
    assert json.loads(told.out) == {
        "file": str(tmp_path), "n": 3, "score": 0.5, "none": [None, None, None],
        "2": {"deep": True},
    }  # fmt: skip
    assert told.err == "progress\n"


def test_a_command_without_a_result_prints_an_empty_object(command, capsys):
    command(lambda arguments: None)
    assert main(["try", "--json"]) == 0
    assert capsys.readouterr().out == "{}\n"


@pytest.mark.parametrize(("quiet", "told"), [(False, "for people\n"), (True, "")])
def test_what_is_said_is_for_people(capsys, quiet, told):
    say(argparse.Namespace(quiet=quiet, json=False), "for people")
    assert capsys.readouterr().out == told


def test_every_command_takes_json_and_quiet_and_help_tells_statuses(capsys):
    for name in COMMANDS:
        with pytest.raises(SystemExit, match="0"):
            main([name, "--help"])
        told = capsys.readouterr().out
        assert "--json" in told
        assert "--quiet" in told
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    told = capsys.readouterr().out
    assert all(re.search(rf"^  {n} +\w", told, re.MULTILINE) for n in (*range(5), 130))


@pytest.mark.parametrize("argv", ["run", 3, [3], ["run", None]])
def test_arguments_are_texts(argv):
    with pytest.raises(TypeError, match="argv must be a list of str"):
        main(argv)


@pytest.mark.parametrize("arguments", [["", "--quiet"], ["a.toml", "--output", ""]])
def test_empty_paths_are_told(capsys, arguments):
    assert main(["run", *arguments]) == 2
    assert 'must be a path; got ""' in capsys.readouterr().err


@pytest.fixture
def hears_ctrl_c():
    """Python's own handler, also where the tests run in a shell's background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("hears_ctrl_c")
def test_presses_of_ctrl_c_count_from_the_one_that_was_heard(monkeypatch):
    """Whoever goes on pressing is heard again."""
    now, presses = [0.0], [0, 1, 1.9, 2.5, 3.5, 4.4, 4.6]
    monkeypatch.setattr(_signals.time, "monotonic", lambda: now[0])
    heard = []
    with _signals.listening():
        for now[0] in presses:
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                heard.append(now[0])
    assert heard == [0, 2.5, 4.6]


@pytest.mark.usefixtures("hears_ctrl_c")
def test_signals_are_as_they_were(monkeypatch):
    seen = []

    def look(*args, **kwargs):
        seen.extend(map(signal.getsignal, signals))
        raise ValueError("enough")

    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in signals]
    monkeypatch.setattr(Experiment, "from_file", look)
    assert main(["run", "a.toml"]) == 1
    assert [signal.getsignal(number) for number in signals] == before
    assert all(here is not there for here, there in zip(seen, before, strict=True))


class TestSleepSooner:
    """Where nothing is set, threads of OpenMP wait a little, and then asleep."""

    NAMES = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_WAIT_POLICY")

    @pytest.mark.parametrize("given", [None, *NAMES])
    def test_what_the_user_has_set_stays(self, monkeypatch, given):
        monkeypatch.setattr(os, "environ", {} if given is None else {given: "7"})
        sleep_sooner()
        found = [os.environ.get(name) for name in self.NAMES]
        assert (
            found
            == {
                None: ["1000", "1", None],
                "GOMP_SPINCOUNT": ["7", "1", None],
                "KMP_BLOCKTIME": ["1000", "7", None],
                "OMP_WAIT_POLICY": [None, None, "7"],
            }[given]
        )

    def test_the_command_does_so_before_libraries_are_loaded(self):
        code = (
            "import os, sys\n"
            "sys.argv = ['numerai-features', '--version']\n"
            "from numerai_features.cli import program\n"
            "try:\n    program()\n"
            "except SystemExit:\n    pass\n"
            f"assert not set(sys.modules) & {HEAVY}\n"
            "print(os.environ['GOMP_SPINCOUNT'])"
        )
        env = {k: v for k, v in os.environ.items() if k not in self.NAMES}
        told = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True
        )
        assert told.stdout.endswith("1000\n"), told.stderr
