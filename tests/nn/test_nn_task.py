"""Any torch module is trained by the loop; five lines make it a task."""

import copy

import numpy as np
import pytest
import torch
from nn_parts import (
    Asked,
    Cut,
    StopAt,
    assert_same_run,
    bins,
    cut,
    judge,
    normal,
    table_of,
)
from torch import nn
from torch.nn import functional as F

from numerai_features.nn._batches import HeldOutBatches, RowBatches
from numerai_features.nn._checkpoint import Checkpoint
from numerai_features.nn._layers import BatchNorm, Linear, initialize
from numerai_features.nn._optimizer import TrainingSettings, make_optimizer
from numerai_features.nn._products import table_product
from numerai_features.nn._task import Task
from numerai_features.nn._training import Trainer, set_gradients

TRAIN, VALID = np.arange(240), np.arange(240, 300)


class Regression(Task):
    """A module of torch's own layers, and its loss."""

    def __init__(self, *layers):
        super().__init__()
        self.net = nn.Sequential(*layers)

    def forward(self, batch):
        return F.mse_loss(self.net(batch.x), batch.y)


def regression(*layers):
    """A task whose weights are drawn."""
    # With a bias before the normalisation, whose gradient is nothing but rounding, no
    # two loops end alike.
    layers = layers or (
        nn.Linear(12, 8, bias=False), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 2),
    )  # fmt: skip
    task = Regression(*layers)
    initialize(task, 1)
    return task


def a_table():
    """Rows in floats, and two targets that depend on them."""
    X = bins(300).astype(np.float64)
    noise = np.random.default_rng(1).normal(size=(300, 2))
    return table_of(X, TRAIN, targets=X[:, :2] - X[:, 2:4] + noise)


def trainer_of(task, *, wrap=None, checkpoint=None, **settings):
    """Train without a schedule, and hold rows out."""
    table = a_table()
    batches = RowBatches(table, 1, TRAIN, 64)
    options = {"max_epochs": 5, "learning_rate": 0.01, "schedule": "constant"}
    return Trainer(
        task,
        batches if wrap is None else wrap(batches),
        TrainingSettings(**{**options, **settings}),
        held_out=HeldOutBatches(table, 1, VALID, 25),
        checkpoint=checkpoint,
    )


def train_by_hand(task, trainer):
    """Train as torch's tutorials do; return losses, and the best state."""
    settings = trainer.settings
    matrices = [p for p in task.parameters() if p.ndim > 1]
    vectors = [p for p in task.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": settings.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
    )
    train, valid, states = [], [], []
    for epoch in range(settings.max_epochs):
        task.train()
        losses = []
        for batch in trainer.batches.epoch(epoch):
            loss = F.mse_loss(task.net(batch.x), batch.y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        train.append(np.mean(losses))
        task.eval()
        with torch.no_grad():
            losses = [F.mse_loss(task.net(b.x), b.y).item() for b in trainer.held_out]
        sizes = [len(batch.x) for batch in trainer.held_out]
        valid.append(np.average(losses, weights=sizes))
        states.append(copy.deepcopy(task.state_dict()))
    return train, valid, states[int(np.argmin(valid))]


class TestAnyModule:
    @pytest.mark.parametrize("weight_decay", [0.0, 0.5])
    def test_is_trained_as_by_a_loop_in_torch(self, weight_decay):
        task = regression()
        plain = copy.deepcopy(task)
        trainer = trainer_of(task, weight_decay=weight_decay)
        history = trainer.run()
        train, valid, best = train_by_hand(plain, trainer)
        close = {"rtol": 1e-6, "atol": 1e-6}
        np.testing.assert_allclose([r["train_loss"] for r in history], train, **close)
        np.testing.assert_allclose([r["valid_loss"] for r in history], valid, **close)
        assert train[-1] < 0.8 * train[0]
        for name, value in task.state_dict().items():
            torch.testing.assert_close(value, best[name], **close)

    def test_its_matrices_decay_and_its_vectors_do_not(self):
        class Still(Regression):
            def forward(self, batch):
                return 0 * super().forward(batch)

        task = Still(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
        before = copy.deepcopy(task.state_dict())
        trainer_of(task, max_epochs=3, learning_rate=0.1, weight_decay=0.5).run()
        n_steps = trainer_of(task).batches.n_steps
        for name, p in task.named_parameters():
            # The first of epochs that are as good as each other is kept.
            share = (1 - 0.1 * 0.5) ** n_steps if p.ndim == 2 else 1.0
            torch.testing.assert_close(p.detach(), share * before[name])
        assert {p.ndim for p in task.parameters()} == {1, 2}

    def test_all_that_learns_is_in_one_group_of_the_optimiser(self):
        layers = nn.MultiheadAttention(8, 2), nn.LayerNorm(8), nn.Conv1d(8, 4, 3)
        task = Regression(*layers)
        task.net[1].weight.requires_grad_(False)
        optimizer = make_optimizer(task, TrainingSettings(1, weight_decay=0.5))
        decays = {
            p: group["weight_decay"]
            for group in optimizer.param_groups
            for p in group["params"]
        }
        expected = {p: 0.5 * (p.ndim > 1) for p in task.parameters() if p.requires_grad}
        assert decays == expected
        assert sum(len(group["params"]) for group in optimizer.param_groups) == 8 - 1

    @pytest.mark.parametrize("layers", [(nn.Linear(12, 2, False),), ()])
    def test_without_vectors_or_matrices(self, layers):
        class Shifted(Regression):
            def __init__(self):
                super().__init__(*layers)
                if not layers:
                    self.shift = nn.Parameter(torch.zeros(2))

            def forward(self, batch):
                if layers:
                    return super().forward(batch)
                return F.mse_loss(self.shift.expand_as(batch.y), batch.y)

        history = trainer_of(Shifted(), weight_decay=0.1).run()
        assert history[-1]["train_loss"] < history[0]["train_loss"]

    def test_moving_average(self):
        """Counts of batches, which are no floats, are those of the last step."""
        task = regression()
        trainer = trainer_of(task, ema_decay=0.9, max_epochs=2)
        weights, by_hand = [], None
        take_step = trainer.take_step

        def watch(loss):
            nonlocal by_hand
            before = by_hand or copy.deepcopy(task.state_dict())
            take_step(loss)
            n = len(weights) + 1
            decay = min(0.9, n / (9 + n))
            weights.append(copy.deepcopy(task.state_dict()))
            by_hand = {
                name: decay * before[name] + (1 - decay) * value
                if value.is_floating_point()
                else value
                for name, value in weights[-1].items()
            }

        trainer.take_step = watch
        trainer.run()
        assert trainer.best_epoch == 2
        for name, value in task.state_dict().items():
            torch.testing.assert_close(value, by_hand[name])
        assert task.net[1].num_batches_tracked == 8

    @pytest.mark.parametrize("at", [(0, 2), (1, 1), (2, 4)])
    def test_resumes_with_the_same_bits(self, tmp_path, at):
        checkpoint = Checkpoint(tmp_path / "run.safetensors", every=0)
        whole = trainer_of(regression(), max_epochs=3)
        whole.run()
        with pytest.raises(Cut):
            trainer_of(
                regression(), max_epochs=3, checkpoint=checkpoint,
                wrap=lambda b: StopAt(b, *at, cut),
            ).run()  # fmt: skip
        again = trainer_of(
            regression(), max_epochs=3, checkpoint=checkpoint, wrap=Asked
        )
        again.run()
        assert again.batches.calls[0] == at
        assert_same_run(again, whole)

    def test_layers_that_share_a_matrix_resume_too(self, tmp_path):
        def tied():
            layers = nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 12), nn.Linear(12, 2)
            task = regression(*layers)
            task.net[2].weight = task.net[0].weight
            return task

        checkpoint = Checkpoint(tmp_path / "run.safetensors", every=0)
        whole = trainer_of(tied(), max_epochs=2)
        whole.run()
        with pytest.raises(Cut):
            trainer_of(
                tied(), max_epochs=2, checkpoint=checkpoint,
                wrap=lambda b: StopAt(b, 1, 2, cut),
            ).run()  # fmt: skip
        again = trainer_of(tied(), max_epochs=2, checkpoint=checkpoint)
        again.run()
        assert_same_run(again, whole)


class TestDefaults:
    def test_are_judged_by_the_loss(self):
        task = regression()
        trainer = trainer_of(task, max_epochs=3)
        history = trainer.run()
        assert task.falling == {"loss"}
        assert not task.judges_eras
        assert {k for k in history[0] if k.startswith("valid")} == {"valid_loss"}
        with torch.no_grad():
            losses = [F.mse_loss(task.net(b.x), b.y).item() for b in trainer.held_out]
        sizes = [len(b.x) for b in trainer.held_out]  # of which one is smaller
        assert len(set(sizes)) == 2
        told = history[trainer.best_epoch - 1]["valid_loss"]
        assert told == pytest.approx(np.average(losses, weights=sizes), rel=1e-6)
        assert told == min(record["valid_loss"] for record in history)
        assert judge(trainer) == {"loss": pytest.approx(told, rel=1e-9)}

    def test_evaluation_leaves_no_gradient(self):
        task = regression().eval()
        batch = next(iter(trainer_of(task).held_out))
        sums = task.evaluate(batch)
        assert sums.keys() == {"loss", "rows"}
        assert not any(value.requires_grad for value in sums.values())
        assert sums["rows"] == len(batch.x)

    def test_a_leaf_must_say_what_its_loss_is(self):
        with pytest.raises(NotImplementedError, match="forward"):
            Task()(None)


class Probes(Task):
    """What products and normalisations give, while a step is taken or judged."""

    def __init__(self):
        super().__init__()
        self.linear, self.norm = Linear(12, 8), BatchNorm(12)
        self.seen = []
        initialize(self, 1)

    def outputs(self, batch):
        return {
            "linear": self.linear(batch.x),
            "table_product": table_product(batch.x, self.linear.weight.T),
            "norm": self.norm(batch.x),
        }

    def forward(self, batch):
        outputs = self.outputs(batch)
        self.seen.append({name: value.detach() for name, value in outputs.items()})
        return sum(value.square().mean() for value in outputs.values())


class TestPrecision:
    """Of `TrainingSettings`."""

    def run(self, dtype):
        """Return what is seen in one step and in the evaluation after it."""
        task = Probes()
        trainer_of(
            task, dtype=dtype, max_epochs=1, wrap=OneStep, learning_rate=0.0
        ).run()
        assert len(task.seen) == 1 + 3
        assert {p.dtype for p in task.parameters()} == {torch.float32}
        return task.seen

    def test_bfloat16_is_for_products_in_training(self):
        (trained, *judged), (exact, *theirs) = map(
            self.run, (torch.bfloat16, torch.float32)
        )
        for name in ("linear", "table_product"):
            rounded = trained[name]
            assert rounded.dtype == torch.float32
            assert torch.equal(rounded, rounded.bfloat16().float())
            assert not torch.equal(rounded, exact[name])
            torch.testing.assert_close(rounded, exact[name], rtol=0.03, atol=0.03)
        assert torch.equal(trained["norm"], exact["norm"])
        for ours, plain in zip(judged, theirs, strict=True):
            assert all(torch.equal(ours[name], plain[name]) for name in ours)

    def test_gradients_and_loss_are_float32(self):
        task = Probes()
        batch = next(trainer_of(task).batches.epoch(0))
        loss = set_gradients(task.train(), batch, torch.bfloat16)
        assert loss.dtype == torch.float32
        assert all(p.grad.dtype == torch.float32 for p in task.parameters())
        rounded = [p.grad.clone() for p in task.parameters()]
        set_gradients(task, batch, torch.float32)
        for low, p in zip(rounded, task.parameters(), strict=True):
            torch.testing.assert_close(low, p.grad, rtol=0.05, atol=0.02)
        assert not torch.equal(rounded[0], task.linear.weight.grad)

    def test_torchs_own_layers_are_rounded_too(self):
        """And learn: the loss falls as in float32."""
        losses = []
        for dtype in (torch.float32, torch.bfloat16):
            task = regression(nn.Linear(12, 8), nn.LayerNorm(8), nn.Linear(8, 2))
            history = trainer_of(task, dtype=dtype).run()
            losses.append([record["train_loss"] for record in history])
        assert losses[0] != losses[1]
        np.testing.assert_allclose(*losses, rtol=0.02)
        assert losses[1][-1] < 0.8 * losses[1][0]

    def test_autocast_is_left_as_it_was(self):
        task = Probes()
        batch = next(trainer_of(task).batches.epoch(0))
        set_gradients(task.train(), batch, torch.bfloat16)
        assert not torch.is_autocast_enabled("cpu")
        assert (normal(3, 3) @ normal(3, 3)).dtype == torch.float32


class OneStep:
    """The first batch of an epoch only."""

    def __init__(self, batches):
        self.batches, self.n_steps = batches, 1

    def epoch(self, number, first=0):
        yield next(self.batches.epoch(number, first))
