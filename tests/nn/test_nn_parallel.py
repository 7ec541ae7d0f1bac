"""Two processes that share each batch learn what one learns."""

import json
import os
import subprocess
import sys

import numpy as np
import parallel_fits
import pytest
import torch
from parallel_fits import CASES
from torch import distributed

from numerai_features.nn import _parallel
from numerai_features.nn._parallel import process_group

UNSEEDED = {"batch_size": 1400, "random_state": None, "max_epochs": 1}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder of what two processes have written."""
    folder = tmp_path_factory.mktemp("shared")
    torchrun = ["torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    cases = json.dumps({**CASES, "unseeded": UNSEEDED})
    done = subprocess.run(
        [sys.executable, "-m", *torchrun, parallel_fits.__file__, str(folder), cases],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[:4000]
    return folder


def result(folder, case, rank):
    file = folder / f"{case}-{rank}"
    history = json.loads(file.with_suffix(".json").read_text())
    return history, np.load(file.with_suffix(".npy"))


@pytest.fixture(scope="module")
def alone():
    return {case: parallel_fits.fit(options) for case, options in CASES.items()}


class TestTwoProcesses:
    @pytest.mark.parametrize("case", [*CASES, "unseeded"])
    def test_end_alike_to_the_bit(self, shared, case):
        (history, latents), (other, theirs) = (result(shared, case, r) for r in (0, 1))
        assert history == other
        np.testing.assert_array_equal(latents, theirs)

    @pytest.mark.parametrize("case", CASES)
    def test_have_the_loss_curve_of_one(self, shared, alone, case):
        history, whole = result(shared, case, 0)[0], alone[case][0]
        assert len(history) == len(whole) == 3
        n_models = CASES[case].get("n_models", 1)
        for ours, theirs in zip(history, whole, strict=True):
            assert len(ours["train_loss"]) == n_models
            np.testing.assert_allclose(
                ours["train_loss"], theirs["train_loss"], rtol=1e-5
            )

    @pytest.mark.parametrize("case", CASES)
    def test_end_where_one_ends(self, shared, alone, case):
        (history, latents), (whole, theirs) = result(shared, case, 0), alone[case]
        for name in (name for name in whole[0] if name.startswith("valid_")):
            ours, expected = ([r[name] for r in h] for h in (history, whole))
            np.testing.assert_allclose(ours, expected, atol=1e-4)
        np.testing.assert_allclose(latents, theirs, atol=2e-3)


class TestOneProcess:
    def test_is_rank_0_of_1_and_sums_nothing(self):
        assert (_parallel.n_processes(), _parallel.rank()) == (1, 0)
        x = torch.arange(3.0)
        assert _parallel.sum_over_processes(x) is x
        assert _parallel.share_of(1000) == slice(0, 1000)

    def test_joins_no_group_unless_launched(self, monkeypatch):
        monkeypatch.delenv("WORLD_SIZE", raising=False)
        with process_group(torch.device("cpu")):
            assert _parallel.n_processes() == 1
            assert not distributed.is_initialized()

    def test_keeps_to_the_callers_group(self, monkeypatch):
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("MASTER_ADDR", "localhost")
        store = distributed.HashStore()
        distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
        try:
            group = distributed.group.WORLD
            with process_group(torch.device("cpu")):
                assert distributed.group.WORLD is group
            assert distributed.group.WORLD is group
        finally:
            distributed.destroy_process_group()
