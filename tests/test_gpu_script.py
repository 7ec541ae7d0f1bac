"""`make gpu` where there is no GPU, and what its script makes of its parts."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(SCRIPT))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_ends_well():
    run = [sys.executable, str(SCRIPT)]
    ended = subprocess.run(run, capture_output=True, text=True, check=True)
    assert ended.stdout.startswith("No CUDA")
    assert not ended.stderr


def test_a_part_that_fails_or_is_too_slow_does_not_stop_the_others(script, capsys):
    programs = {
        "fails": "print('so far'); 1 / 0",
        "hangs": "import time; time.sleep(60)",
        "works": "print('  peer: fit 2.0x, transform 3x')",
        "tells nothing": "print('well')",
    }
    parts = [script["Part"](name, 20, ["-c", p]) for name, p in programs.items()]
    parts[1].limit = 0.5
    for part in parts:
        part.run({})
    assert "so far" in parts[0].output
    script["print_table"](parts, Path("none"), "a card", "versions", [], False)
    told = capsys.readouterr().out.rpartition("#####")[2]
    assert re.search(r"fails +FAILED: exit status 1", told)
    assert re.search(r"hangs +FAILED: not done after 0.5 s", told)
    assert re.search(r"works +done.*\n +peer +fit 2.0x, transform 3x", told)
    assert re.search(r"tells nothing +FAILED: no ratios", told)
    assert [bool(part.problem) for part in parts] == [True, True, False, True]


def test_tests_with_the_mark_are_found(script):
    names = [file.name for file in script["files_of_tests"]()]
    assert "test_nn_cuda.py" in names


def test_what_it_needs_is_pinned(script):
    needed, peers = script["packages"]()
    pinned = (ROOT / "constraints.txt").read_text().lower()
    for name in (*needed, *peers):
        assert f"\n{name}==" in pinned, name
