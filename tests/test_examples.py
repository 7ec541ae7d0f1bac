"""The examples run, and print something; what they show in docstrings is so."""

import doctest
import importlib.util
import runpy
import sys
import warnings
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))
NEEDS = {"tune_with_optuna": "optuna", "umap_learn_latents": "umap"}


@pytest.mark.slow
@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_runs(file, capsys):
    if file.stem in NEEDS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it imports itself
            pytest.importorskip(NEEDS[file.stem])
    runpy.run_path(str(file), run_name="__main__")
    assert capsys.readouterr().out


def test_an_embedder_of_ones_own_is_one_short_file(monkeypatch):
    """What the guide promises; that it passes the common checks is in test_common."""
    file = FOLDER / "masked_autoencoder.py"
    assert len(file.read_text().splitlines()) < 100
    spec = importlib.util.spec_from_file_location("own_embedder", file)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "own_embedder", module)
    spec.loader.exec_module(module)
    told = doctest.testmod(module)
    assert told.failed == 0
    assert told.attempted >= 3
