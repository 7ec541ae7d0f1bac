"""Arms chosen in ``benchmarks/training.py`` come with what they are told by."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "training.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("benchmark_of_training", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("chosen", [["eager"], ["products", "models"], []])
def test_what_is_chosen_is_compared(script, monkeypatch, capsys, chosen, half):
    # as on a processor with instructions for bfloat16, or without
    kind = torch.bfloat16 if half else torch.float32
    monkeypatch.setattr(script, "resolve_precision", lambda *_: kind)
    monkeypatch.setattr(script, "find_spec", lambda _: None)  # skorch's arms are slow
    monkeypatch.setattr(script, "N_MODELS", 2)
    X = np.random.default_rng(0).integers(0, 5, (64, 6), dtype=np.int8)
    job = script.Job(X, (4,), 2, 1, torch.device("cpu"))
    script.compare(job, chosen, 1)
    told = capsys.readouterr().out
    assert ("\neager  " in told) == (chosen != ["products", "models"])
    assert ("\nproducts of ours  " in told) == (chosen != ["eager"])
    assert ("\nours, bfloat16  " in told) == half
