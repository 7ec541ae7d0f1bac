"""The command line itself: help, versions, exit codes."""

import re
import subprocess
import sys

import pytest

import numerai_features
from numerai_features.cli import main
from numerai_features.experiment import Experiment

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
    fields = {"": {"seed": tables.pop("seed")}, **tables}
    fields["data.synthetic"] = tables["data"].pop("synthetic")
    for table, values in fields.items():
        assert f"\n[{table}] " in told or not table
        for name in values:
            # what it is, what is allowed, and on the next line what it means
            assert re.search(rf"^  {name}: .+\n      \S+", told, re.MULTILINE), name
