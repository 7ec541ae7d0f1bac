"""A run that is cut off and taken up again ends as if it had not been."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from nn_parts import OneNumber, Steps, StopAt, assert_same_bits, make_run

from numerai_features.nn._checkpoint import Checkpoint
from numerai_features.nn._settings import Settings
from numerai_features.nn._training import Trainer

N_STEPS = 3  # an epoch
SETTINGS = {
    "plain": {"seeds": [1]},
    "all": {
        "seeds": [1, 2],
        "ema_decay": 0.9,
        "clip_norm": 0.5,
        "dropout": 0.2,
        "patience": 1,
        "weight_decay": 0.1,
    },
    "last epoch": {"seeds": [3], "n_valid": 0, "schedule": "constant"},
}

SCRIPT = """
import json, os, signal, sys
from pathlib import Path

import torch

folder, file, options, epoch, step = sys.argv[1:]
sys.path.insert(0, folder)
torch.set_num_threads(1)
from nn_parts import StopAt, make_run
from numerai_features.nn._checkpoint import Checkpoint


def die():
    os.kill(os.getpid(), signal.SIGKILL)


make_run(
    **json.loads(options),
    checkpoint=Checkpoint(Path(file), every=0),
    wrap=lambda batches: StopAt(batches, int(epoch), int(step), die),
).run()
"""


def options_of(case):
    common = {"max_epochs": 3, "learning_rate": 0.05, "n_train": 180, "n_valid": 40}
    return {**common, **SETTINGS[case]}


def uninterrupted(case):
    trainer = make_run(**options_of(case))
    trainer.run()
    return trainer


def resume(case, file, **options):
    trainer = make_run(
        **options_of(case), checkpoint=Checkpoint(file, every=0), **options
    )
    trainer.run()
    return trainer


def assert_same_run(resumed, whole):
    assert_same_bits(resumed.task.state_dict(), whole.task.state_dict())
    assert [untimed(r) for r in resumed.history] == [untimed(r) for r in whole.history]
    np.testing.assert_array_equal(resumed.best_epoch, whole.best_epoch)
    np.testing.assert_array_equal(resumed.best_value, whole.best_value)


def untimed(record):
    return {k: v for k, v in record.items() if k != "seconds"}


class Asked:
    """Batches that remember what they were asked for."""

    def __init__(self, batches):
        self.batches, self.calls, self.n_steps = batches, [], batches.n_steps

    def epoch(self, number, first=0):
        self.calls.append((number, first))
        return self.batches.epoch(number, first)


class Cut(Exception):
    pass


def cut():
    raise Cut


class TestKilled:
    def test_ends_with_the_same_bits(self, tmp_path):
        file, at = tmp_path / "states" / "run.safetensors", (1, 2)
        args = [Path(__file__).parent, file, json.dumps(options_of("all")), *at]
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, *map(str, args)],
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert file.exists()
        resumed = resume("all", file, wrap=Asked)
        assert resumed.batches.calls[0] == at
        assert_same_run(resumed, uninterrupted("all"))
        assert not file.exists()


class TestCutAnywhere:
    @pytest.mark.parametrize("case", SETTINGS)
    def test_ends_with_the_same_bits(self, tmp_path, case):
        whole = uninterrupted(case)
        file = tmp_path / "run.safetensors"
        cuts = [(e, s) for e in range(len(whole.history)) for s in range(N_STEPS + 1)]
        for at in cuts:
            with pytest.raises(Cut):
                resume(case, file, wrap=lambda b, at=at: StopAt(b, *at, cut))
            assert file.exists() == (at > (0, 0))
            assert_same_run(resume(case, file), whole)
            assert not file.exists()

    def test_again_and_again(self, tmp_path):
        whole = uninterrupted("all")
        file = tmp_path / "run.safetensors"
        for at in ((0, 1), (0, 2), (0, N_STEPS), (1, 0), (1, 2)):
            with pytest.raises(Cut):
                resume("all", file, wrap=lambda b, at=at: StopAt(b, *at, cut))
        assert_same_run(resume("all", file), whole)

    def test_between_two_states(self, tmp_path):
        file = tmp_path / "run.safetensors"
        with pytest.raises(Cut):
            resume("all", file, wrap=lambda b: StopAt(b, 1, 1, cut))
        kept = file.read_bytes()
        trainer = make_run(
            **options_of("all"), checkpoint=Checkpoint(file, every=3600),
            wrap=lambda b: StopAt(b, 1, 2, cut),
        )  # fmt: skip
        with pytest.raises(Cut):
            trainer.run()
        assert file.read_bytes() == kept
        assert_same_run(resume("all", file), uninterrupted("all"))

    def test_a_model_that_has_stopped_stays_so(self, tmp_path):
        def trainer(wrap, n_judged=0):
            task = OneNumber(loss=[[1.0, 2.0, 0.0], [3.0, 2.0, 1.0]])
            task.seen = [None] * n_judged
            settings = Settings(3, learning_rate=0.1, patience=1)
            checkpoint = Checkpoint(tmp_path / "run.safetensors", every=0)
            return Trainer(
                task, wrap(Steps(2)), settings, held_out=[None], checkpoint=checkpoint
            )

        with pytest.raises(Cut):
            trainer(lambda b: StopAt(b, 2, 1, cut)).run()
        resumed = trainer(lambda b: b, n_judged=2)
        assert len(resumed.run()) == 3
        assert resumed.best_epoch.tolist() == [1, 3]
        whole = trainer(lambda b: b)
        whole.run()
        assert_same_run(resumed, whole)

    def test_by_ctrl_c(self, tmp_path):
        def interrupt():
            raise KeyboardInterrupt

        file = tmp_path / "run.safetensors"
        with pytest.warns(RuntimeWarning, match=r"Stopped by Ctrl-C in epoch 2 of 3"):
            resume("plain", file, wrap=lambda b: StopAt(b, 1, 2, interrupt))
        assert_same_run(resume("plain", file), uninterrupted("plain"))

    def test_writing_changes_nothing(self, tmp_path):
        file = tmp_path / "run.safetensors"
        assert_same_run(resume("all", file), uninterrupted("all"))
        assert not any(tmp_path.iterdir())


class TestFile:
    def test_a_half_written_state_is_ignored(self, tmp_path):
        file = tmp_path / "run.safetensors"
        file.with_suffix(".part12345").write_bytes(b"\x10\x00\x00")
        assert Checkpoint(file).read() is None
        with pytest.raises(Cut):
            resume("plain", file, wrap=lambda b: StopAt(b, 1, 2, cut))
        whole = file.read_bytes()
        file.with_suffix(".part12345").write_bytes(whole[: len(whole) // 2])
        assert_same_run(resume("plain", file), uninterrupted("plain"))

    def test_a_reader_never_sees_half(self, tmp_path, monkeypatch):
        file = tmp_path / "run.safetensors"
        checkpoint = Checkpoint(file)
        checkpoint.write({"x": torch.ones(3)}, {"step": 1})
        seen = []
        replace = os.replace

        def look_and_replace(part, whole):
            seen.append(checkpoint.read())
            replace(part, whole)

        monkeypatch.setattr(os, "replace", look_and_replace)
        checkpoint.write({"x": torch.zeros(3)}, {"step": 2})
        [(tensors, progress)] = seen
        assert (tensors["x"] == 1).all()
        assert progress == {"step": 1}
        tensors, progress = checkpoint.read()
        assert (tensors["x"] == 0).all()
        assert progress == {"step": 2}
        assert [p.name for p in tmp_path.iterdir()] == ["run.safetensors"]

    def test_gives_back_what_was_written(self, tmp_path):
        checkpoint = Checkpoint(tmp_path / "new" / "folder" / "run.safetensors")
        assert checkpoint.read() is None
        tensors = {
            "turned": torch.arange(6.0).reshape(2, 3).T,
            "expanded": torch.ones(1).expand(4),
            "scalar": torch.tensor(3.0),
            "double": torch.tensor([0.1], dtype=torch.float64),
            "odd": torch.tensor([torch.nan, torch.inf, -0.0]),
        }
        progress = {"history": [{"loss": [0.1, float("inf")], "epoch": 1}], "a": None}
        checkpoint.write(tensors, progress)
        found, told = checkpoint.read()
        assert told == progress
        assert found.keys() == tensors.keys()
        for name, value in tensors.items():
            assert found[name].dtype == value.dtype
            torch.testing.assert_close(
                found[name], value, rtol=0, atol=0, equal_nan=True
            )
        checkpoint.remove()
        checkpoint.remove()
        assert checkpoint.read() is None

    def test_is_due_every_so_often(self, tmp_path, monkeypatch):
        now = [100.0]
        monkeypatch.setattr("time.monotonic", lambda: now[0])
        checkpoint = Checkpoint(tmp_path / "run.safetensors", every=60)
        due = []
        for now[0] in (100.0, 159.0, 160.0):
            due.append(checkpoint.is_due())
        checkpoint.write({"x": torch.ones(1)}, {})
        for now[0] in (161.0, 219.0, 220.0):
            due.append(checkpoint.is_due())
        assert due == [False, False, True] * 2
