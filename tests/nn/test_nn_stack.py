"""Models of a stack one by one, against the stack at once and each alone."""

import numpy as np
import pytest
import torch
from nn_parts import assert_same_bits, bins, denoising, make_run, table_of

from numerai_features.nn._batches import RowBatches
from numerai_features.nn._stack import Stack

SEEDS = (4, 5, 6)


def step(seeds=SEEDS, weighted=False, **options):
    """A task of autoencoders, and a batch for it."""
    X = bins(200)
    weights = np.linspace(0.5, 2, len(X), dtype=np.float32) if weighted else None
    table = table_of(X)
    rows = [np.arange(len(X))] * len(seeds)
    batch = next(RowBatches(table, seeds, rows, 90, weights).epoch(0))
    return denoising(seeds, table, **options), batch


def gradients(task):
    return {k: p.grad.clone() for k, p in task.named_parameters() if p.requires_grad}


class TestOneByOne:
    @pytest.mark.parametrize("options", [{}, {"mask_head": True, "dropout": 0.3}])
    @pytest.mark.parametrize("weighted", [False, True])
    def test_is_the_stack_at_once(self, options, weighted):
        task, batch = step(weighted=weighted, **options)
        stack = Stack(task)
        assert len(stack.parts) == len(SEEDS)
        stack.train()
        losses = stack.backward(batch)
        got, state = gradients(task), task.state_dict()

        whole, batch = step(weighted=weighted, **options)
        whole.train()
        expected = whole(batch)
        expected.sum().backward()
        torch.testing.assert_close(losses, expected.detach(), rtol=1e-5, atol=0)
        for name, gradient in gradients(whole).items():
            torch.testing.assert_close(got[name], gradient, rtol=1e-4, atol=1e-6)
        for name, value in whole.state_dict().items():
            torch.testing.assert_close(state[name], value, rtol=1e-5, atol=1e-6)

    def test_gradients_are_of_this_batch_alone(self):
        task, batch = step()
        stack = Stack(task)
        first = stack.backward(batch), gradients(task)
        _, batch = step()
        again = stack.backward(batch), gradients(task)
        assert torch.equal(first[0], again[0])
        assert_same_bits(first[1], again[1])

    def test_each_ends_as_if_alone(self):
        options = {"max_epochs": 3, "clip_norm": 0.5, "ema_decay": 0.9, "dropout": 0.2}
        together = make_run(SEEDS, **options)
        together.run()
        for model, seed in enumerate(SEEDS):
            alone = make_run((seed,), **options)
            alone.run()
            assert together.best_epoch[model] == alone.best_epoch[0]
            for name, value in alone.task.state_dict().items():
                own = together.task.state_dict()[name][model]
                torch.testing.assert_close(own, value[0], rtol=1e-4, atol=1e-5)

    def test_one_model_is_the_task_itself(self):
        task, _ = step(SEEDS[:1])
        assert not Stack(task).parts
