"""The examples run, and print something."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_runs(file, capsys):
    if "optuna" in file.stem:
        pytest.importorskip("optuna")
    runpy.run_path(str(file), run_name="__main__")
    assert capsys.readouterr().out
