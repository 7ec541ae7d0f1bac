"""The autoencoder and its loss against torch's own layers, in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from nn_parts import CPU, Plain, bins, denoising, table_of
from torch import nn
from torch.nn import functional as F

from numerai_features.nn._batches import HeldOutBatches, RowBatches, Table
from numerai_features.nn._draws import TRAINING, Draws

SEEDS = (1, 2)
N_ROWS = 80
N_VARYING = 11


def a_table(missing):
    """Rows with a constant column; as floats a tenth is missing."""
    X = bins(N_ROWS)
    X[:, 3] = 1
    if not missing:
        return table_of(X)
    X = X.astype(np.float64)
    X[np.random.default_rng(3).random(X.shape) < 0.1] = np.nan
    return Table(X, np.nanmean(X, axis=0), np.nanstd(X, axis=0), CPU)


def only_batch(table, weights=None):
    """The same batch each time, its draws at their beginning."""
    [batch] = RowBatches(table, SEEDS, [np.arange(N_ROWS)] * 2, N_ROWS, weights).epoch(
        0
    )
    return batch


def standardized(task, x):
    first = task.network.first
    center, scale = first.center.double(), first.scale.double()
    return (x.double() - center[:, None]) / scale[:, None]


def corrupted(task, batch):
    """Return the rows as the task sees them, standardised, and which cells changed."""
    x = batch.x
    if task.has_missing:
        x = torch.where(x.isnan(), task.corruption.middle, x)
    first = task.network.first
    noisy = task.corruption(replace(batch, x=x), first.center, first.scale)
    return standardized(task, noisy), noisy != x


def reference(task, table, weights, model, training):
    """Return the plain network, and its loss on a batch."""
    plain = Plain(task.network, model).train(training)
    batch = only_batch(table, weights)
    seen, changed = corrupted(task, batch)
    t, changed = standardized(task, batch.x)[model], changed[model]
    w = torch.ones(t.shape[:1]).double()
    if weights is not None:
        w = batch.weight[model].double()
    known = ~t.isnan()
    cells = known * w[:, None]
    e = task.emphasis
    emphasized = cells * torch.where(changed, 2 * e, 2 * (1 - e))
    r, *others = plain(seen[model])
    loss = ((r - t.nan_to_num()).square() * emphasized).sum()
    for logits in others:
        surprise = F.binary_cross_entropy_with_logits(
            logits, changed.double(), reduction="none"
        )
        loss = loss + task.mask_weight * (surprise * cells).sum()
    excess = (t.nan_to_num().square() * cells).sum() / w.sum() / N_VARYING - 1
    return plain, loss / w.sum() / N_VARYING, excess.detach()


CASES = {
    "plain": {},
    "two layers": {"hidden": (9, 6)},
    "no hidden layer": {"hidden": ()},
    "tanh": {"activation": "tanh"},
    "masking": {"noise": "masking"},
    "cutout": {"noise": "cutout"},
    "gaussian": {"noise": "gaussian", "level": 0.5},
    "relative": {"noise": "gaussian", "relative": True},
    "emphasis": {"emphasis": 0.8},
    "no emphasis": {"emphasis": 0.0},
    "mask head": {"mask_head": True, "mask_weight": 0.7},
    "mask head and emphasis": {"mask_head": True, "emphasis": 0.7},
}
DENSE = ("emphasis", "mask_head")


class TestLoss:
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("missing", [False, True])
    @pytest.mark.parametrize("case", CASES)
    def test_value_and_gradients(self, case, missing, weighted):
        options = CASES[case]
        table = a_table(missing)
        assert table.n_varying == N_VARYING
        weights = None
        if weighted:
            weights = np.random.default_rng(0).random(N_ROWS).astype(np.float32)
        task = denoising(
            SEEDS, table, n_varying=table.n_varying, has_missing=missing, **options
        ).train()
        losses = task(only_batch(table, weights))
        losses.sum().backward()
        dense = missing or any(name in options for name in DENSE)
        for model in range(2):
            plain, expected, excess = reference(task, table, weights, model, True)
            expected.backward()
            # Without weights of cells the squared targets may count as on the mean of
            # an epoch.
            value = losses[model].double()
            if not dense and not torch.isclose(value, expected, rtol=1e-5, atol=1e-5):
                value = value + excess
            torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)
            named = plain.named_as(task.network, lambda p: p.grad)
            for name, p in task.network.named_parameters():
                if not p.requires_grad:
                    continue
                torch.testing.assert_close(
                    p.grad[model].double(), named[name], rtol=1e-3, atol=2e-6
                )

    def test_value_for_rows_of_another_spread(self):
        # As in partial_fit on new rows, or in an era that is unlike the others.
        table = a_table(False)
        moments = (table.center + 1).numpy(), (table.scale / 3).numpy()
        table = Table(table.X, *moments, torch.device("cpu"))
        task = denoising(SEEDS, table, n_varying=N_VARYING).train()
        losses = task(only_batch(table))
        for model in range(2):
            _, expected, _ = reference(task, table, None, model, True)
            torch.testing.assert_close(
                losses[model].double(), expected, rtol=1e-4, atol=1e-4
            )


class TestEvaluate:
    @pytest.mark.parametrize("missing", [False, True])
    def test_loss_and_r2_are_the_plain_formulas(self, missing):
        table = a_table(missing)
        task = denoising(SEEDS, table, n_varying=N_VARYING, has_missing=missing)
        for _ in range(5):  # moments that are not those at the beginning
            task.train()(only_batch(table))
        task.eval()
        weights = np.random.default_rng(0).random(N_ROWS).astype(np.float32)
        held_out = HeldOutBatches(table, SEEDS, np.arange(N_ROWS), 30, weights)
        batches, sums = [*held_out], {}
        for batch in batches:
            for name, value in task.evaluate(batch).items():
                sums[name] = sums.get(name, 0) + value.double()
        metrics = task.metrics(sums)
        w = torch.from_numpy(weights).double()[:, None]
        for model in range(2):
            plain = self.plain(task.network, model)
            seen = torch.cat([corrupted(task, b)[0] for b in held_out], dim=1)[model]
            t = standardized(task, torch.cat([b.x for b in batches], dim=1))[model]
            known, filled = ~t.isnan(), t.nan_to_num()
            if missing:
                middle = standardized(task, task.corruption.middle.expand(2, 1, -1))
                intact = torch.where(known, t, middle[model])
            else:
                intact = t
            cells = known * w
            [noisy], [clean] = plain(seen), plain(intact)
            loss = ((noisy - filled) ** 2 * cells).sum() / (w.sum() * N_VARYING)
            error = ((clean - filled) ** 2 * cells).sum()
            r2 = 1 - error / (filled**2 * cells).sum()
            torch.testing.assert_close(metrics["loss"][model], loss, rtol=1e-5, atol=0)
            torch.testing.assert_close(metrics["r2"][model], r2, rtol=1e-5, atol=1e-6)
            assert not loss.isclose(1 - r2)

    def plain(self, network, model):
        plain = Plain(network, model).eval()
        norms = [m for m in plain.body if isinstance(m, nn.BatchNorm1d)]
        blocks = (*network.encoder, *network.decoder)
        for norm, block in zip(norms, blocks, strict=True):
            norm.running_mean.copy_(block.norm.mean[model])
            norm.running_var.copy_(block.norm.variance[model])
        return plain

    def test_leaves_no_gradient_and_no_moments(self):
        table = table_of(bins(N_ROWS))
        task = denoising(SEEDS, table).eval()
        before = {k: v.clone() for k, v in task.state_dict().items()}
        sums = task.evaluate(only_batch(table))
        assert not any(v.requires_grad for v in sums.values())
        assert all(torch.equal(v, before[k]) for k, v in task.state_dict().items())


class TestNetwork:
    def test_widths_mirror_each_other(self):
        task = denoising((1,), table_of(bins(N_ROWS)), hidden=(9, 6), n_components=4)
        net = task.network
        layers = [getattr(b.linear, "linear", b.linear) for b in net.encoder]
        assert [tuple(m.weight.shape[1:]) for m in layers] == [(12, 9), (9, 6), (6, 4)]
        layers = [b.linear for b in net.decoder] + [net.output]
        assert [tuple(m.weight.shape[1:]) for m in layers] == [(4, 6), (6, 9), (9, 12)]
        assert [b.activation for b in net.encoder] == ["silu", "silu", "identity"]
        assert [b.activation for b in net.decoder] == ["silu", "silu"]

    def test_no_two_layers_begin_alike(self):
        net = denoising(
            (1, 2), table_of(bins(N_ROWS)), hidden=(12, 12), n_components=12,
            mask_head=True,
        ).network  # fmt: skip
        weights = [p[m] for p in net.parameters() if p.ndim == 3 for m in range(2)]
        assert (
            len({w.detach().numpy().tobytes() for w in weights}) == len(weights) == 14
        )

    def test_code_has_unit_variance_and_no_dropout(self):
        table = table_of(bins(N_ROWS))
        net = denoising((1,), table, dropout=0.5).network.train()
        x = table.take(np.arange(N_ROWS)[None])
        draws = Draws((1,), TRAINING, 0, N_ROWS)
        hidden = net.encoder[0](x, draws)
        assert 0.3 < (hidden == 0).float().mean() < 0.7
        code = net.encoder[1](hidden, draws)
        assert (code != 0).all()
        torch.testing.assert_close(code.mean(1), torch.zeros(1, 3), atol=1e-5, rtol=0)
        torch.testing.assert_close(
            code.var(1, correction=0), torch.ones(1, 3), atol=1e-3, rtol=0
        )

    @pytest.mark.parametrize("activation", ["silu", "identity"])
    @pytest.mark.parametrize("hidden", [(), (8,), (9, 6)])
    def test_no_weight_is_moved_by_rounding_alone(self, hidden, activation):
        # Adam's steps are as long for a gradient of 1e-9 as for one of 1. A shift that
        # the next layer's normalisation takes away has no other.
        table = table_of(bins(N_ROWS))
        task = denoising((1,), table, hidden=hidden, activation=activation).train()
        half = [np.arange(N_ROWS // 2)]  # whose columns' means are not zero
        [batch] = RowBatches(table, (1,), half, N_ROWS).epoch(0)
        task(batch).sum().backward()
        largest = {
            name: p.grad.abs().max().item()
            for name, p in task.network.named_parameters()
            if p.requires_grad
        }
        assert {k: v for k, v in largest.items() if v < 1e-5} == {}

    def test_models_are_as_if_alone(self):
        table = table_of(bins(N_ROWS))
        rows = [np.arange(N_ROWS)]
        stack = denoising(SEEDS, table, dropout=0.2).train()
        losses = stack(only_batch(table))
        for model, seed in enumerate(SEEDS):
            task = denoising((seed,), table, dropout=0.2).train()
            [batch] = RowBatches(table, (seed,), rows, N_ROWS).epoch(0)
            torch.testing.assert_close(task(batch)[0], losses[model], atol=0, rtol=1e-5)
