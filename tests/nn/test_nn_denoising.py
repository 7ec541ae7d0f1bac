"""The autoencoder and its loss against torch's own layers, in float64."""

import numpy as np
import pytest
import torch
from nn_parts import CPU, Plain, bins, denoising, table_of
from torch.nn import functional as F

from numerai_features.nn._autoencoder import Autoencoder
from numerai_features.nn._batches import HeldOutBatches, RowBatches, Table
from numerai_features.nn._draws import TRAINING, Draws

N_ROWS = 80
N_VARYING = 11


def a_table(missing=False, weights=None):
    """Rows with a constant column; as floats a tenth is missing."""
    X = bins(N_ROWS)
    X[:, 3] = 1
    if not missing:
        return table_of(X, weights=weights)
    X = X.astype(np.float64)
    X[np.random.default_rng(3).random(X.shape) < 0.1] = np.nan
    moments = np.nanmean(X, axis=0), np.nanstd(X, axis=0)
    return Table(X, *moments, CPU, weights)


def some_weights():
    return np.random.default_rng(0).random(N_ROWS)


def only_batch(table):
    """The same batch each time, its draws at their beginning."""
    [batch] = RowBatches(table, 1, np.arange(N_ROWS), N_ROWS).epoch(0)
    return batch


def standardized(table, x):
    """Rows as taken from a table, standardised in float64."""
    return (x.double() - table.center.double()) / table.scale.double()


def corrupted(task, table, batch):
    """Return the rows as the task sees them, standardised, and which cells changed."""
    x = batch.x
    if task.has_missing:
        x = torch.where(x.isnan(), task.corruption.middle, x)
    noisy = task.corruption(x, batch.draws, table.center, table.scale)
    return standardized(table, noisy), noisy != x


def reference(task, table, activation="silu"):
    """Return the plain network, and its loss on the only batch."""
    plain = Plain(task.network.state_dict(), activation).train()
    batch = only_batch(table)
    seen, changed = corrupted(task, table, batch)
    t = standardized(table, batch.x)
    w = torch.ones(N_ROWS).double()
    if batch.weight is not None:
        w = batch.weight.double()
    known = ~t.isnan()
    cells = known * w[:, None]
    e = task.emphasis
    emphasized = cells * torch.where(changed, 2 * e, 2 * (1 - e))
    r, *others = plain(seen)
    loss = ((r - t.nan_to_num()).square() * emphasized).sum()
    for logits in others:
        surprise = F.binary_cross_entropy_with_logits(
            logits, changed.double(), reduction="none"
        )
        loss = loss + task.mask_weight * (surprise * cells).sum()
    return plain, loss / w.sum() / N_VARYING


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


class TestLoss:
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("missing", [False, True])
    @pytest.mark.parametrize("case", CASES)
    def test_value_and_gradients(self, case, missing, weighted):
        options = CASES[case]
        table = a_table(missing, some_weights() if weighted else None)
        assert table.n_varying == N_VARYING
        task = denoising(
            1, table, n_varying=table.n_varying, has_missing=missing, **options
        ).train()
        loss = task(only_batch(table))
        loss.backward()
        plain, expected = reference(task, table, options.get("activation", "silu"))
        expected.backward()
        assert loss.shape == ()
        torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
        theirs = plain.gradients()
        for name, p in task.network.named_parameters():
            if p.requires_grad:
                torch.testing.assert_close(
                    p.grad.double(), theirs[name], rtol=1e-3, atol=2e-6
                )

    def test_all_columns_vary_unless_told(self):
        table = table_of(bins(N_ROWS))
        told = denoising(1, table, n_varying=12).train()(only_batch(table))
        assert denoising(1, table).train()(only_batch(table)) == told
        fewer = denoising(1, table, n_varying=6).train()(only_batch(table))
        assert fewer.item() == pytest.approx(2 * told.item(), rel=1e-6)

    def test_value_for_rows_of_another_spread(self):
        # As in partial_fit on new rows, or in an era that is unlike the others.
        table = a_table()
        moments = (table.center + 1).numpy(), (table.scale / 3).numpy()
        table = Table(table.X, *moments, CPU)
        task = denoising(1, table, n_varying=N_VARYING).train()
        _, expected = reference(task, table)
        torch.testing.assert_close(
            task(only_batch(table)).double(), expected, rtol=1e-4, atol=1e-4
        )

    def test_bfloat16_is_near(self):
        table = a_table()
        task = denoising(1, table, hidden=(9, 6)).train()
        exact = task(only_batch(table))
        with torch.autocast("cpu", torch.bfloat16):
            rounded = task(only_batch(table))
        assert rounded.dtype == torch.float32
        assert rounded != exact
        torch.testing.assert_close(rounded, exact, rtol=0.03, atol=0)


class TestEvaluate:
    @pytest.mark.parametrize("missing", [False, True])
    def test_loss_and_r2_are_the_plain_formulas(self, missing):
        weights = some_weights()
        table = a_table(missing, weights)
        task = denoising(1, table, n_varying=N_VARYING, has_missing=missing)
        for _ in range(5):  # moments that are not those at the beginning
            task.train()(only_batch(table))
        task.eval()
        held_out = HeldOutBatches(table, 1, np.arange(N_ROWS), 30)
        batches, sums = [*held_out], {}
        for batch in batches:
            for name, value in task.evaluate(batch).items():
                sums[name] = sums.get(name, 0) + value.double()
        metrics = task.metrics(sums)
        w = torch.from_numpy(weights)[:, None]
        plain = Plain(task.network.state_dict()).eval()
        seen = torch.cat([corrupted(task, table, b)[0] for b in held_out])
        t = standardized(table, torch.cat([b.x for b in batches]))
        known, filled = ~t.isnan(), t.nan_to_num()
        middle = standardized(table, task.corruption.middle)
        intact = torch.where(known, t, middle)
        cells = known * w
        [noisy], [clean] = plain(seen), plain(intact)
        loss = ((noisy - filled) ** 2 * cells).sum() / (w.sum() * N_VARYING)
        error = ((clean - filled) ** 2 * cells).sum()
        r2 = 1 - error / (filled**2 * cells).sum()
        assert metrics.keys() == {"loss", "r2"}
        torch.testing.assert_close(metrics["loss"], loss, rtol=1e-5, atol=0)
        torch.testing.assert_close(metrics["r2"], r2, rtol=1e-5, atol=1e-6)
        assert not loss.isclose(1 - r2)

    def test_leaves_no_gradient_and_no_moments(self):
        table = table_of(bins(N_ROWS))
        task = denoising(1, table).eval()
        before = {k: v.clone() for k, v in task.state_dict().items()}
        sums = task.evaluate(only_batch(table))
        assert not any(v.requires_grad for v in sums.values())
        assert all(torch.equal(v, before[k]) for k, v in task.state_dict().items())

    def test_less_loss_is_better_and_more_r2(self):
        task = denoising(1, table_of(bins(N_ROWS)))
        assert task.falling == {"loss"}
        assert not task.judges_eras


class TestNetwork:
    def test_widths_mirror_each_other(self):
        network = Autoencoder(a_table(), (9, 6), 4, "silu", mask_head=True)
        shapes = [tuple(p.shape) for p in network.parameters() if p.ndim == 2]
        below = [(9, 12), (6, 9), (4, 6), (6, 4), (9, 6)]
        assert shapes == [*below, (12, 9), (12, 9)]
        assert len(network.encoder) == 3
        assert len(network.decoder) == 2
        assert Autoencoder(a_table(), (9, 6), 4, "silu").mask_output is None

    def test_no_two_layers_begin_alike(self):
        net = denoising(
            1, table_of(bins(N_ROWS)), hidden=(12, 12), n_components=12, mask_head=True
        ).network
        weights = [p for p in net.parameters() if p.ndim == 2]
        assert len({w.detach().numpy().tobytes() for w in weights}) == 7

    def test_code_has_unit_variance_and_no_dropout(self):
        table = table_of(bins(N_ROWS))
        net = denoising(1, table, dropout=0.5).network.train()
        x = table.take(np.arange(N_ROWS))
        draws = Draws(1, TRAINING, 0, N_ROWS)
        hidden = net.encoder[0](x, draws)
        assert 0.3 < (hidden == 0).float().mean() < 0.7
        code = net.encoder[1](hidden, draws)
        assert (code != 0).all()
        torch.testing.assert_close(code.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
        torch.testing.assert_close(
            code.var(0, correction=0), torch.ones(3), atol=1e-3, rtol=0
        )

    def test_without_draws_nothing_is_dropped(self):
        table = table_of(bins(N_ROWS))
        net = denoising(1, table, dropout=0.5).network.train()
        without = denoising(1, table).network.train()
        x = table.take(np.arange(N_ROWS))
        assert torch.equal(net.below_output(x), without.below_output(x))
        draws = Draws(1, TRAINING, 0, N_ROWS)
        assert not torch.equal(net.below_output(x, draws), without.below_output(x))

    @pytest.mark.parametrize("activation", ["silu", "identity"])
    @pytest.mark.parametrize("hidden", [(), (8,), (9, 6)])
    def test_no_weight_is_moved_by_rounding_alone(self, hidden, activation):
        # Adam's steps are as long for a gradient of 1e-9 as for one of 1. A shift that
        # the next layer's normalisation takes away has no other.
        table = table_of(bins(N_ROWS))
        task = denoising(1, table, hidden=hidden, activation=activation).train()
        half = np.arange(N_ROWS // 2)  # whose columns' means are not zero
        [batch] = RowBatches(table, 1, half, N_ROWS).epoch(0)
        task(batch).backward()
        largest = {
            name: p.grad.abs().max().item()
            for name, p in task.network.named_parameters()
            if p.requires_grad
        }
        assert {k: v for k, v in largest.items() if v < 1e-5} == {}
