"""The training loop against plain torch, and what it keeps, tells and refuses."""

import math

import numpy as np
import pytest
import torch
from nn_parts import (
    CPU,
    OneNumber,
    Plain,
    Steps,
    StopAt,
    assert_same_bits,
    assert_same_run,
    denoising,
    interrupt,
    judge,
    make_run,
)
from torch import nn

from numerai_features.nn._batches import RowBatches, Table
from numerai_features.nn._optimizer import TrainingSettings, learning_rate
from numerai_features.nn._training import DivergedError, Trainer, set_gradients


def losses_of(history, name="train_loss"):
    return np.array([record[name] for record in history])


def one_number(n_epochs=5, n_steps=1, held_out=(None,), scripts=None, **settings):
    """Return a trainer of a `OneNumber`."""
    settings = {"schedule": "constant", "learning_rate": 0.1, **settings}
    task = OneNumber(**(scripts or {"loss": [0.0] * n_epochs}))
    settings = TrainingSettings(max_epochs=n_epochs, **settings)
    return Trainer(task, Steps(n_steps), settings, held_out=held_out)


def one_cycle(largest, n_steps):
    n_up = 0.3 * n_steps
    up = [
        largest * (0.52 - 0.48 * math.cos(math.pi * k / n_up)) for k in range(n_steps)
    ]
    down = [
        largest
        * max(1e-5, 0.5 + 0.5 * math.cos(math.pi * (k - n_up) / (n_steps - n_up)))
        for k in range(n_steps)
    ]
    return [u if k < n_up else d for k, (u, d) in enumerate(zip(up, down, strict=True))]


class PlainLoop:
    """The same training by a plain loop over the same batches, in float64."""

    def __init__(self, trainer):
        self.trainer, self.settings = trainer, trainer.settings
        self.state = trainer.task.network.state_dict()
        self.plain = Plain(self.state)
        self.averaged = {k: v.clone() for k, v in self.plain.state_dict().items()}

    def targets(self, batch):
        table = self.trainer.batches.table
        return (batch.x.double() - table.center) / table.scale

    def run(self):
        settings, plain = self.settings, self.plain
        linears = [m.weight for m in plain.modules() if isinstance(m, nn.Linear)]
        others = [p for p in plain.parameters() if all(p is not w for w in linears)]
        optimizer = torch.optim.AdamW(
            [
                {"params": linears, "weight_decay": settings.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            foreach=False,
        )
        batches = self.trainer.batches
        n_steps = settings.max_epochs * batches.n_steps
        rates = [settings.learning_rate] * n_steps
        if settings.schedule == "one-cycle":
            rates = one_cycle(settings.learning_rate, n_steps)
        done, train, valid, norms = 0, [], [], []
        for epoch in range(settings.max_epochs):
            plain.train()
            losses = []
            for batch in batches.epoch(epoch):
                for group in optimizer.param_groups:
                    group["lr"] = rates[done]
                t = self.targets(batch)
                loss = nn.functional.mse_loss(plain(t)[0], t)
                optimizer.zero_grad()
                loss.backward()
                if settings.clip_norm is not None:
                    norm = nn.utils.clip_grad_norm_(
                        plain.parameters(), settings.clip_norm
                    )
                    norms.append(float(norm))
                optimizer.step()
                losses.append(loss.item())
                done += 1
                self.average(done)
            train.append(np.mean(losses))
            valid.append(self.judge(done, len(t)))
        self.norms = norms
        return train, valid

    def average(self, done):
        if self.settings.ema_decay is None:
            return
        decay = min(self.settings.ema_decay, done / (done + 9))
        for name, value in self.plain.state_dict().items():
            if value.is_floating_point():
                old = self.averaged[name]
                self.averaged[name] = decay * old + (1 - decay) * value

    @torch.no_grad()
    def judge(self, done, n_rows):
        judged = Plain(self.state).eval()
        averages = self.settings.ema_decay is not None
        judged.load_state_dict(self.averaged if averages else self.plain.state_dict())
        for module in judged.modules():
            if isinstance(module, nn.BatchNorm1d):
                # Torch's running variance is unbiased, but for the 1 at the beginning.
                one = 1.0 if averages else 0.9**done
                if averages:
                    one = self.rest_of_one(done)
                biased = (module.running_var - one) * (n_rows - 1) / n_rows
                module.running_var.copy_(one + biased)
        error = n = 0
        for batch in self.trainer.held_out:
            t = self.targets(batch)
            error += (judged(t)[0] - t).square().sum().item()
            n += t.numel()
        return error / n

    def rest_of_one(self, done):
        """Return the share of the initial value in the averaged running value."""
        rest = 1.0
        for k in range(1, done + 1):
            decay = min(self.settings.ema_decay, k / (k + 9))
            rest = decay * rest + (1 - decay) * 0.9**k
        return rest


PLAIN_CASES = {
    "constant": {"schedule": "constant"},
    "one-cycle": {},
    "weight decay": {"weight_decay": 3.0},
    "clipped": {"clip_norm": 0.5},
    "averaged": {"ema_decay": 0.95},
}


class TestPlainTorch:
    @pytest.mark.parametrize("case", PLAIN_CASES)
    def test_losses_and_weights_are_those_of_a_plain_loop(self, case):
        trainer = make_run(
            n_train=320, batch_size=64, level=0.0, max_epochs=5, learning_rate=0.01,
            **PLAIN_CASES[case],
        )  # fmt: skip
        loop = PlainLoop(trainer)
        history = trainer.run()
        train, valid = loop.run()
        np.testing.assert_allclose(losses_of(history), train, rtol=1e-4)
        np.testing.assert_allclose(losses_of(history, "valid_loss"), valid, rtol=1e-4)
        assert trainer.best_epoch == np.argmin(valid) + 1 == 5
        kept = loop.averaged if trainer.averaged else loop.plain.state_dict()
        loop.plain.load_state_dict(kept)
        theirs = loop.plain.weights()
        for name, p in trainer.task.network.named_parameters():
            if p.requires_grad:
                torch.testing.assert_close(
                    p.detach().double(), theirs[name], rtol=1e-2, atol=5e-4
                )
        if case == "clipped":  # of some steps
            assert min(loop.norms) < 0.5 < max(loop.norms)

    @pytest.mark.parametrize("largest", [0.01, 1e6])
    def test_gradients_are_clipped_as_torch_does(self, largest):
        trainer = make_run(max_epochs=1, clip_norm=largest)
        trainer.task.train()
        batch = next(trainer.batches.epoch(0))
        loss = set_gradients(trainer.task, batch, torch.float32)
        copies = [nn.Parameter(torch.zeros_like(p)) for p in trainer.parameters]
        for copy, p in zip(copies, trainer.parameters, strict=True):
            copy.grad = p.grad.clone()
        norm = nn.utils.clip_grad_norm_(copies, largest)
        assert 0.01 < norm < 1e6
        trainer.take_step(loss)
        for copy, p in zip(copies, trainer.parameters, strict=True):
            torch.testing.assert_close(p.grad, copy.grad)

    def test_gradients_are_of_this_batch_alone(self):
        task = make_run(max_epochs=1).task.train()
        results = []
        for _ in range(2):
            batch = next(make_run(max_epochs=1).batches.epoch(0))
            loss = set_gradients(task, batch, torch.float32)
            gradients = {
                name: p.grad.clone()
                for name, p in task.named_parameters()
                if p.requires_grad
            }
            results.append({"loss": loss, **gradients})
        assert_same_bits(*results)
        assert not results[0]["loss"].requires_grad


class TestLearning:
    def test_the_loss_falls(self):
        history = make_run(max_epochs=12, learning_rate=0.01).run()
        train, valid = losses_of(history), losses_of(history, "valid_loss")
        assert train[-1] < 0.75 * train[0]
        assert valid[-1] < 0.75 * valid[0]
        assert losses_of(history, "valid_r2")[-1] > 0.3

    def test_a_record_an_epoch(self):
        told = []
        trainer = make_run(max_epochs=3, report=told.append)
        history = trainer.run()
        assert history is trainer.history
        assert told == history
        assert [record["epoch"] for record in history] == [1, 2, 3]
        numbers = ("train_loss", "valid_loss", "valid_r2")
        for record in history:
            assert [*record] == ["epoch", "learning_rate", *numbers, "seconds"]
            assert all(type(record[name]) is float for name in numbers)
            assert record["seconds"] > 0
        assert not trainer.task.training

    @pytest.mark.parametrize("progress", [False, True])
    def test_progress(self, capsys, progress):
        make_run(n_train=100, max_epochs=2, progress=progress).run()
        shown = capsys.readouterr()
        assert ("4/4" in shown.err and "valid_loss" in shown.err) == progress
        assert not shown.out

    def test_learning_rates_are_torchs_one_cycle(self):
        n_steps, largest = 200, 0.01
        settings = TrainingSettings(max_epochs=1, learning_rate=largest)
        rates = [learning_rate(settings, k, n_steps) for k in range(n_steps)]
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))])
        theirs = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, largest, total_steps=n_steps + 1, cycle_momentum=False,
            final_div_factor=4000,
        )  # fmt: skip
        expected = []
        for _ in range(n_steps):
            expected.append(theirs.get_last_lr()[0])
            optimizer.step()
            theirs.step()
        np.testing.assert_allclose(rates, expected, atol=0.02 * largest)
        assert rates[0] == pytest.approx(0.04 * largest)
        assert max(rates) == rates[60] == largest
        assert (np.diff(rates[:61]) > 0).all()
        assert (np.diff(rates[60:]) < 0).all()
        assert 0 < rates[-1] < 1e-3 * largest
        np.testing.assert_allclose(rates, one_cycle(largest, n_steps))

    def test_learning_rates_are_used_and_recorded(self):
        trainer = one_number(100, schedule="one-cycle", learning_rate=0.2)
        history = trainer.run()
        rates = [record["learning_rate"] for record in history]
        np.testing.assert_allclose(rates, one_cycle(0.2, 100))
        # With a gradient of 1 each step of Adam is the learning rate.
        weights = np.array(trainer.task.seen)
        np.testing.assert_allclose(-np.diff(weights, prepend=0), rates, atol=1e-5)
        constant = one_number(4, n_steps=3).run()
        assert [record["learning_rate"] for record in constant] == [0.1] * 4

    @pytest.mark.parametrize("n_steps", [1, 2, 3])
    def test_learning_rates_of_few_steps(self, n_steps):
        settings = TrainingSettings(max_epochs=1, learning_rate=0.01)
        rates = [learning_rate(settings, k, n_steps) for k in range(n_steps)]
        assert all(0 < rate <= 0.01 for rate in rates)

    def test_only_matrices_decay(self):
        class Still(OneNumber):
            def __init__(self):
                super().__init__(loss=[0.0] * 3)
                self.weight = nn.Parameter(torch.ones(1, 1))
                self.bias = nn.Parameter(torch.ones(1))

            def forward(self, batch):
                return 0 * (self.weight.sum() + self.bias.sum())

        task = Still()
        settings = TrainingSettings(
            3, learning_rate=0.1, schedule="constant", weight_decay=0.5
        )
        Trainer(task, Steps(), settings, held_out=[None]).run()
        assert (task.bias == 1).all()
        np.testing.assert_allclose(task.seen[-1], 0.95**3, rtol=1e-6)

    def test_parameters_that_do_not_learn_stay(self):
        trainer = make_run(max_epochs=2, learning_rate=0.05, weight_decay=0.5)
        frozen = trainer.task.network.decoder[0].linear.weight
        frozen.requires_grad_(False)
        before = frozen.clone()
        settings = trainer.settings
        Trainer(
            trainer.task, trainer.batches, settings, held_out=trainer.held_out
        ).run()
        assert torch.equal(frozen, before)

    @pytest.mark.parametrize("ema_decay", [None, 0.9])
    def test_the_same_seed_gives_the_same_bits(self, ema_decay):
        runs = [
            make_run(seed, max_epochs=2, dropout=0.1, ema_decay=ema_decay)
            for seed in (1, 1, 2)
        ]
        for trainer in runs:
            trainer.run()
        assert_same_run(*runs[:2])
        weights = [r.task.network.output.weight.detach() for r in runs]
        assert not torch.allclose(weights[0], weights[2], atol=0.01)


class TestSideBySide:
    """Several trainers may go on at once, step by step."""

    def test_each_ends_as_if_alone(self):
        options = {
            "level": 0.3, "dropout": 0.1, "learning_rate": 0.05, "clip_norm": 0.5,
            "ema_decay": 0.5, "n_train": 150, "batch_size": 32,
        }  # fmt: skip
        together, alone = (
            [make_run(seed, max_epochs=seed, **options) for seed in (4, 2, 3)]
            for _ in range(2)
        )
        going = [(trainer, trainer.steps()) for trainer in together]
        while going:
            left = []
            for trainer, steps in going:
                batch = next(steps, None)
                if batch is not None:
                    trainer.take_step(set_gradients(trainer.task, batch, torch.float32))
                    left.append((trainer, steps))
            going = left
        for trainer, own in zip(together, alone, strict=True):
            trainer.finish()
            own.run()
            assert_same_run(trainer, own)
        assert [len(trainer.history) for trainer in together] == [4, 2, 3]


NAN, INF = math.nan, math.inf


class TestBestEpoch:
    losses = ((5.0, 3.0, 4.0, 1.0, 2.0), (1.0, 2.0, 2.0, 2.0, 2.0))
    r2 = ((0.1, 0.9, 0.3, 0.4, 0.5), (-3.0, -2.0, -1.0, -1.5, -1.0))

    def run(self, losses, r2=(0.0,) * 5, **settings):
        trainer = one_number(scripts={"loss": losses, "r2": r2}, **settings)
        trainer.run()
        kept = trainer.task.weight.item()
        assert kept == trainer.task.seen[trainer.best_epoch - 1]
        return trainer

    @pytest.mark.parametrize(
        ("monitor", "best"), [("valid_loss", [4, 1]), ("valid_r2", [2, 3])]
    )
    def test_is_the_least_loss_or_the_largest_r2(self, monitor, best):
        for losses, r2, epoch in zip(self.losses, self.r2, best, strict=True):
            trainer = self.run(losses, r2, monitor=monitor)
            assert trainer.best_epoch == epoch
            assert len(trainer.history) == 5
            told = losses_of(trainer.history, "valid_r2")
            np.testing.assert_allclose(told, r2, rtol=1e-6)

    def test_a_task_tells_which_metrics_fall(self):
        class Falling(OneNumber):
            falling = frozenset({"r2"})

        for kind, epoch in ((OneNumber, 2), (Falling, 1)):
            task = kind(r2=self.r2[0], loss=self.losses[0])
            settings = TrainingSettings(5, monitor="valid_r2")
            trainer = Trainer(task, Steps(), settings, held_out=[None])
            trainer.run()
            assert trainer.best_epoch == epoch

    @pytest.mark.parametrize(
        ("which", "patience", "best", "n_epochs"),
        [(0, 2, 4, 5), (1, 2, 1, 3), (0, 1, 2, 3), (1, 1, 1, 2), (1, 9, 1, 5)],
    )
    def test_patience(self, which, patience, best, n_epochs):
        trainer = self.run(self.losses[which], patience=patience)
        assert trainer.best_epoch == best
        assert len(trainer.history) == n_epochs

    def test_without_held_out_the_last_epoch_is_kept(self):
        trainer = one_number(5, held_out=None, patience=1)
        history = trainer.run()
        assert trainer.best_epoch == 5
        np.testing.assert_allclose(trainer.task.weight.item(), -0.5, rtol=1e-5)
        assert [*history[0]] == ["epoch", "learning_rate", "train_loss", "seconds"]

    @pytest.mark.parametrize("losses", [[NAN] * 5, [INF] * 5])
    def test_metrics_that_are_never_finite_keep_the_first(self, losses):
        assert self.run(losses).best_epoch == 1

    def test_a_metric_that_becomes_finite_is_better(self):
        assert self.run([NAN, NAN, 3.0, 2.0, NAN]).best_epoch == 4

    @pytest.mark.parametrize("ema_decay", [None, 0.8])
    @pytest.mark.parametrize("monitor", ["valid_loss", "valid_r2"])
    @pytest.mark.parametrize("seed", [1, 2, 3])
    def test_kept_weights_have_the_best_metric(self, seed, monitor, ema_decay):
        trainer = make_run(
            seed, n_train=100, level=0.3, learning_rate=0.1, schedule="constant",
            max_epochs=10, monitor=monitor, ema_decay=ema_decay,
        )  # fmt: skip
        values = losses_of(trainer.run(), monitor)
        best = values.argmin() if monitor == "valid_loss" else values.argmax()
        assert trainer.best_epoch == best + 1
        again = judge(trainer)[monitor.removeprefix("valid_")]
        assert again == pytest.approx(values[best], rel=1e-6)
        if monitor == "valid_loss" and ema_decay is None:
            assert best + 1 < len(values)

    def test_averages_are_judged_and_kept_but_not_trained_on(self):
        trainer = one_number(6, ema_decay=0.5, scripts={"loss": [6.0, 5, 4, 3, 2, 2]})
        trainer.run()
        raw = average = 0.0
        expected = []
        for k in range(1, 7):
            raw -= 0.1
            decay = min(0.5, k / (k + 9))
            average = decay * average + (1 - decay) * raw
            expected.append(average)
        seen = trainer.task.seen
        np.testing.assert_allclose(seen, expected, rtol=1e-5)
        assert trainer.best_epoch == 5
        assert trainer.task.weight.item() == seen[4]


class TestCtrlC:
    def test_comes_out_and_the_best_can_be_restored(self):
        scripts = {"loss": [3.0, 1.0, 2.0, 0.0]}
        trainer = one_number(4, scripts=scripts)
        trainer.batches = StopAt(trainer.batches, 3, 1, interrupt)  # not judged yet
        with pytest.raises(KeyboardInterrupt):
            trainer.run()
        assert len(trainer.history) == 3
        trainer.restore_best()
        assert not trainer.task.training
        assert trainer.task.weight.item() == trainer.task.seen[1]

    def test_before_the_first_epochs_end_there_is_no_best(self):
        trainer = make_run(max_epochs=9, wrap=lambda b: StopAt(b, 0, 4, interrupt))
        with pytest.raises(KeyboardInterrupt):
            trainer.run()
        assert not trainer.best


def normal_rows(n_rows=200, n_features=6, seed=0):
    return np.random.default_rng(seed).normal(size=(n_rows, n_features))


def run_on(X, *, batch_size=50, n_epochs=3, **settings):
    """Train on rows that are taken as standardised, none held out."""
    n_features = X.shape[1]
    table = Table(X, np.zeros(n_features), np.ones(n_features), CPU)
    batches = RowBatches(table, 1, np.arange(len(X)), batch_size)
    settings = TrainingSettings(max_epochs=n_epochs, **settings)
    return Trainer(denoising(1, table), batches, settings)


class TestDiverged:
    @pytest.mark.parametrize("value", [1e30, np.inf, np.nan])
    def test_rows_too_large_are_told_from_the_first_batch(self, value):
        X = normal_rows()
        X[:, 2] = value
        with pytest.raises(
            DivergedError,
            match=r"epoch 1, batch 1, before any step was taken: the rows or targets "
            r"hold values too large",
        ) as raised:
            run_on(X).run()
        error = raised.value
        assert isinstance(error, ArithmeticError)
        assert (error.epoch, error.batch) == (1, 1)
        assert len(error.losses) == 1
        assert not np.isfinite(error.losses[0])

    def test_one_row_too_large_is_told_where_it_comes(self):
        X = normal_rows()
        batches = [b.x[:, 0].numpy() for b in run_on(X).batches.epoch(0)]
        [row] = np.flatnonzero(np.float32(X[:, 0]) == batches[2][7])
        X[row] = 1e30
        with pytest.raises(
            DivergedError, match=r"epoch 1, batch 3, .*too large"
        ) as raised:
            run_on(X).run()
        assert len(raised.value.losses) == 3

    @pytest.mark.parametrize("schedule", ["constant", "one-cycle"])
    @pytest.mark.parametrize("rate", [1e20, 1e30])
    def test_a_learning_rate_too_large(self, rate, schedule):
        with pytest.raises(
            DivergedError,
            match=r"epoch 1, batch \d, after losses from .* to .*: the "
            r"weights have grown without bounds\. Lower learning_rate=1e\+[23]0 ",
        ) as raised:
            run_on(normal_rows(), learning_rate=rate, schedule=schedule).run()
        error = raised.value
        assert error.batch == len(error.losses)
        assert np.isfinite(error.losses[:-1]).all()

    def test_the_losses_of_epochs_before_are_told(self):
        class Later(OneNumber):
            def forward(self, batch):
                taken.append(batch)
                return self.weight.sum() + (math.inf if len(taken) > 5 else 1.0)

        taken = []
        settings = TrainingSettings(4, learning_rate=0.1, schedule="constant")
        trainer = Trainer(Later(loss=[0.0] * 4), Steps(3), settings, held_out=[None])
        with pytest.raises(
            DivergedError,
            match=r"inf in epoch 2, batch 3, after losses from 0\.6 to 0\.9: ",
        ) as raised:
            trainer.run()
        np.testing.assert_allclose(
            raised.value.losses, [0.9, 0.7, 0.6, math.inf], rtol=1e-5
        )

    def test_weights_are_those_before_the_step(self):
        class Later(OneNumber):
            def forward(self, batch):
                return self.weight.sum() + (math.inf if batch == 2 else 0.0)

        task = Later(loss=[0.0])
        settings = TrainingSettings(1, learning_rate=0.1, schedule="constant")
        with pytest.raises(DivergedError, match="batch 3"):
            Trainer(task, Steps(5), settings, held_out=[None]).run()
        assert task.weight.item() == pytest.approx(-0.2)
