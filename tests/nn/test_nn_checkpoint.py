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
from nn_parts import (
    Asked,
    Cut,
    OneNumber,
    Steps,
    StopAt,
    assert_same_run,
    cut,
    interrupt,
    make_run,
)

from numerai_features._sealed import SetAsideWarning
from numerai_features.nn._checkpoint import Checkpoint
from numerai_features.nn._ensemble import train_all, train_at_once
from numerai_features.nn._optimizer import TrainingSettings
from numerai_features.nn._training import Trainer

N_STEPS = 3  # an epoch
SETTINGS = {
    "plain": {"seed": 1},
    "all": {
        "seed": 2,
        "ema_decay": 0.9,
        "clip_norm": 0.5,
        "dropout": 0.2,
        "patience": 1,
        "weight_decay": 0.1,
    },
    "last epoch": {"seed": 3, "n_valid": 0, "schedule": "constant"},
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


class TestKilled:
    def test_ends_with_the_same_bits(self, tmp_path):
        file, at = tmp_path / "states" / "run.checkpoint", (1, 2)
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


class TestCutAnywhere:
    @pytest.mark.parametrize("case", SETTINGS)
    def test_ends_with_the_same_bits(self, tmp_path, case):
        whole = uninterrupted(case)
        file = tmp_path / "run.checkpoint"
        cuts = [(e, s) for e in range(len(whole.history)) for s in range(N_STEPS + 1)]
        for at in cuts:
            with pytest.raises(Cut):
                resume(case, file, wrap=lambda b, at=at: StopAt(b, *at, cut))
            assert file.exists() == (at > (0, 0))
            assert_same_run(resume(case, file), whole)
            file.unlink()

    def test_again_and_again(self, tmp_path):
        whole = uninterrupted("all")
        file = tmp_path / "run.checkpoint"
        for at in ((0, 1), (0, 2), (0, N_STEPS), (1, 0), (1, 2)):
            with pytest.raises(Cut):
                resume("all", file, wrap=lambda b, at=at: StopAt(b, *at, cut))
        assert_same_run(resume("all", file), whole)

    def test_between_two_states(self, tmp_path):
        file = tmp_path / "run.checkpoint"
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

    def test_a_run_out_of_patience_stays_so(self, tmp_path):
        def trainer(n_judged=0, wrap=Asked):
            task = OneNumber(loss=[2.0, 1.0, 3.0, 0.0])
            task.seen = [None] * n_judged
            settings = TrainingSettings(4, learning_rate=0.1, patience=1)
            checkpoint = Checkpoint(tmp_path / "run.checkpoint", every=0)
            return Trainer(
                task, wrap(Steps(2)), settings, held_out=[None], checkpoint=checkpoint
            )

        with pytest.raises(Cut):
            trainer(wrap=lambda b: StopAt(b, 2, 1, cut)).run()
        first, again = trainer(n_judged=2), trainer()
        assert len(first.run()) == 3
        assert first.batches.calls == [(2, 1)]
        again.run()
        assert again.batches.calls == []
        assert_same_run(again, first)
        assert (first.best_epoch, first.task.weight.item()) == (2, again.task.weight)

    def test_by_ctrl_c(self, tmp_path):
        file = tmp_path / "run.checkpoint"
        with pytest.raises(KeyboardInterrupt):
            resume("plain", file, wrap=lambda b: StopAt(b, 1, 2, interrupt))
        assert_same_run(resume("plain", file), uninterrupted("plain"))

    def test_writing_changes_nothing(self, tmp_path):
        file = tmp_path / "run.checkpoint"
        assert_same_run(resume("all", file), uninterrupted("all"))


class TestFinished:
    @pytest.mark.parametrize("every", [0, 3600])
    @pytest.mark.parametrize("case", SETTINGS)
    def test_its_state_stays_and_nothing_is_trained_again(self, tmp_path, case, every):
        checkpoint = Checkpoint(tmp_path / "run.checkpoint", every)
        trainer = make_run(**options_of(case), checkpoint=checkpoint)
        trainer.run()
        assert checkpoint.file.exists()
        again = resume(case, checkpoint.file, wrap=Asked)
        assert again.batches.calls == []
        assert_same_run(again, trainer)
        assert not again.task.training

    def test_best_weights_are_restored_and_the_last_ones_kept_in_it(self, tmp_path):
        task = OneNumber(loss=[2.0, 1.0, 3.0])
        settings = TrainingSettings(3, learning_rate=0.1, schedule="constant")
        checkpoint = Checkpoint(tmp_path / "run.checkpoint", every=3600)
        Trainer(task, Steps(), settings, held_out=[None], checkpoint=checkpoint).run()
        tensors, progress = checkpoint.read()
        assert progress["epoch"] == 3
        assert tensors["best/weight"].item() == task.seen[1] == task.weight.item()
        assert tensors["task/weight"].item() == task.seen[2]


SEEDS = (4, 5, 6)
SEVERAL = {
    "max_epochs": 3, "n_train": 130, "learning_rate": 0.05, "dropout": 0.2,
    "ema_decay": 0.9,
}  # fmt: skip


def files_of(folder):
    return [folder / f"run-{seed}.checkpoint" for seed in SEEDS]


def several(folder, stop=None, at=(1, 1), action=cut, **options):
    """Trainers with checkpoints; `action` comes in the midst of one of them."""
    return [
        make_run(
            seed,
            **{**SEVERAL, **options},
            checkpoint=Checkpoint(file, every=0),
            wrap=Asked if k != stop else lambda b: StopAt(b, *at, action),
        )
        for k, (seed, file) in enumerate(zip(SEEDS, files_of(folder), strict=True))
    ]


@pytest.fixture(scope="module")
def alone():
    """The same networks, each trained alone."""
    runs = [make_run(seed, **SEVERAL) for seed in SEEDS]
    for trainer in runs:
        trainer.run()
    return runs


def assert_as_alone(runs, alone):
    for trainer, own in zip(runs, alone, strict=True):
        assert_same_run(trainer, own)


class TestInARow:
    """Several networks, one after the other."""

    def test_cut_off_they_are_taken_up_where_they_were(self, tmp_path, alone):
        with pytest.raises(Cut):
            train_all(several(tmp_path, stop=1))
        assert [file.exists() for file in files_of(tmp_path)] == [True, True, False]
        runs = several(tmp_path)
        train_all(runs)
        calls = [trainer.batches.calls for trainer in runs]
        assert calls == [[], [(1, 1), (2, 0)], [(0, 0), (1, 0), (2, 0)]]
        assert_as_alone(runs, alone)
        assert not any(tmp_path.iterdir())

    def test_ctrl_c_comes_out_and_states_stay(self, tmp_path, alone):
        runs = several(tmp_path, stop=1, action=interrupt)
        with pytest.raises(KeyboardInterrupt):
            train_all(runs)
        assert runs[2].batches.calls == []
        again = several(tmp_path)
        train_all(again)
        assert again[0].batches.calls == []
        assert again[1].batches.calls == [(1, 1), (2, 0)]
        assert_as_alone(again, alone)


class TestAtOnce:
    """Several networks, side by side."""

    # Without draws: what is drawn for several at once is not what each draws alone.
    # In floats: for digits of bytes, which only a CPU makes, vmap has no rule.
    still = {"level": 0.0, "dropout": 0.0, "dtype_of_rows": np.float32}

    def test_ctrl_c_comes_out_and_states_stay(self, tmp_path):
        runs = several(tmp_path, stop=1, at=(2, 1), action=interrupt, **self.still)
        with pytest.raises(KeyboardInterrupt):
            train_at_once(runs)
        for trainer in runs:
            assert len(trainer.history) == 2
            assert trainer.best
        assert all(file.exists() for file in files_of(tmp_path))

    @pytest.mark.parametrize("at", [(0, 1), (1, 2), (2, 3)])
    @pytest.mark.parametrize("n_train", [129, 130])
    def test_cut_off_each_is_taken_up_where_it_was(self, tmp_path, n_train, at):
        """Their states may be a step apart, and batches one row apart."""
        options = {**self.still, "n_train": n_train}
        with pytest.raises(Cut):
            train_at_once(several(tmp_path, stop=1, at=at, **options))
        runs = several(tmp_path, **options)
        train_at_once(runs)
        whole = several(tmp_path / "whole", **options)
        train_at_once(whole)
        for trainer, own in zip(runs, whole, strict=True):
            assert trainer.best_epoch == own.best_epoch
            for record, expected in zip(trainer.history, own.history, strict=True):
                assert record["train_loss"] == pytest.approx(
                    expected["train_loss"], rel=1e-4
                )


class TestFile:
    def test_a_damaged_state_is_put_aside_and_the_run_begins_anew(self, tmp_path):
        file = tmp_path / "run.checkpoint"
        with pytest.raises(Cut):
            resume("plain", file, wrap=lambda b: StopAt(b, 1, 2, cut))
        good = file.read_bytes()
        expected = uninterrupted("plain")
        rng = np.random.default_rng(0)
        for place in rng.integers(len(good), size=10):
            bad = bytearray(good)
            bad[place] ^= 1 << rng.integers(8)
            for content in (bad, good[:place]):
                file.write_bytes(content)
                with pytest.warns(
                    SetAsideWarning, match=r"kept as run\.checkpoint\.unu"
                ):
                    assert Checkpoint(file).read() is None
                assert file.with_name("run.checkpoint.unusable").exists()
        assert_same_run(resume("plain", file), expected)

    def test_a_state_of_another_run_is_put_aside(self, tmp_path):
        file = tmp_path / "run.checkpoint"
        Checkpoint(file, key="a").write({"x": torch.ones(3)}, {})
        with pytest.warns(SetAsideWarning, match="belongs to something else"):
            assert Checkpoint(file, key="b").read() is None

    def test_where_it_cannot_be_written_training_goes_on(self, tmp_path):
        (tmp_path / "taken").write_text("no folder")
        checkpoint = Checkpoint(tmp_path / "taken" / "run.checkpoint", every=0)
        trainer = make_run(**options_of("plain"))
        trainer.checkpoint = checkpoint
        with pytest.warns(RuntimeWarning, match="cannot be written"):
            train_all([trainer])
        assert_same_run(trainer, uninterrupted("plain"))

    def test_a_reader_never_sees_half(self, tmp_path, monkeypatch):
        file = tmp_path / "run.checkpoint"
        checkpoint = Checkpoint(file)
        checkpoint.write({"x": torch.ones(3)}, {"step": 1})
        seen = []
        replace = os.replace

        def look_and_replace(part, file):
            seen.append(checkpoint.read())
            replace(part, file)

        monkeypatch.setattr(os, "replace", look_and_replace)
        checkpoint.write({"x": torch.zeros(3)}, {"step": 2})
        [(tensors, progress)] = seen
        assert (tensors["x"] == 1).all()
        assert progress == {"step": 1}
        tensors, progress = checkpoint.read()
        assert (tensors["x"] == 0).all()
        assert progress == {"step": 2}
        assert [p.name for p in tmp_path.iterdir()] == ["run.checkpoint"]

    def test_gives_back_what_was_written(self, tmp_path):
        checkpoint = Checkpoint(tmp_path / "new" / "folder" / "run.checkpoint")
        assert checkpoint.read() is None
        tensors = {
            "turned": torch.arange(6.0).reshape(2, 3).T,
            "expanded": torch.ones(1).expand(4),
            "scalar": torch.tensor(3.0),
            "double": torch.tensor([0.1], dtype=torch.float64),
            "odd": torch.tensor([torch.nan, torch.inf, -0.0]),
        }
        progress = {"history": [{"loss": float("inf"), "epoch": 1}], "a": None}
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
        checkpoint = Checkpoint(tmp_path / "run.checkpoint", every=60)
        due = []
        for now[0] in (100.0, 159.0, 160.0):
            due.append(checkpoint.is_due())
        checkpoint.write({"x": torch.ones(1)}, {})
        for now[0] in (161.0, 219.0, 220.0):
            due.append(checkpoint.is_due())
        assert due == [False, False, True] * 2
