"""Tables and the ways to cut them into batches."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nn_parts import CPU, bins, one_of, table_of

from numerai_features.nn import _batches
from numerai_features.nn._batches import (
    Batch,
    EraBatches,
    HeldOutBatches,
    RowBatches,
    Table,
)
from numerai_features.nn._draws import BLOCK, TRAINING, Draws


@pytest.fixture(autouse=True)
def every_warning():
    """Torch gives some warnings once a process only."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(before)


def numbered(n_rows, weights=None, targets=None):
    """A table whose only column is the row's number."""
    X = np.arange(n_rows, dtype=np.float64)[:, None]
    return Table(X, np.zeros(1), np.ones(1), CPU, weights, targets)


def rows_of(batch):
    """Return the row numbers, (n,)."""
    return batch.x[:, 0].long().numpy()


def weights_of(n_rows):
    return np.random.default_rng(0).random(n_rows)


def check_weights(batches, weights):
    """Each batch has its rows' weights, and their sum."""
    for batch in batches:
        expected = weights[rows_of(batch)].astype(np.float32)
        assert batch.weight.dtype == torch.float32
        np.testing.assert_array_equal(batch.weight, expected)
        np.testing.assert_allclose(batch.total, expected.sum(), rtol=1e-6)


def check_skipped(batches, epoch, first):
    """An epoch from a step on is the end of the whole one."""
    every, rest = [*batches.epoch(epoch)], [*batches.epoch(epoch, first)]
    assert len(rest) == len(every) - first
    for a, b in zip(rest, every[first:], strict=True):
        assert torch.equal(a.x, b.x)
        assert torch.equal(a.draws.bytes(5), b.draws.bytes(5))


def eras_of(sizes, seed=0):
    """All rows, and the era of each, of eras of these sizes, mixed."""
    codes = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    return np.arange(sum(sizes)), np.random.default_rng(seed).permutation(codes)


class TestTable:
    @pytest.mark.parametrize("dtype", [np.int8, np.uint8])
    def test_bytes_stay_as_they_are(self, dtype):
        X = bins(50).astype(dtype)
        table = table_of(X)
        rows = np.array([3, 3, 49, 0, 7, 1])
        taken = table.take(rows)
        assert taken.dtype == getattr(torch, np.dtype(dtype).name)
        np.testing.assert_array_equal(taken.numpy(), X[rows])
        # A network has to standardise them.
        np.testing.assert_allclose(table.center, X.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(table.scale, X.std(axis=0), rtol=1e-6)
        assert (table.n_rows, table.n_features) == X.shape

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.float16])
    def test_all_else_is_standardised(self, dtype):
        X = (bins(50) * 3).astype(dtype)
        table = table_of(X)
        taken = table.take(np.arange(50))
        assert taken.dtype == torch.float32
        expected = (X - X.mean(axis=0, dtype=float)) / X.std(axis=0, dtype=float)
        np.testing.assert_allclose(taken.numpy(), expected, atol=1e-6)
        # Nothing is left to do.
        assert (table.center == 0).all()
        assert (table.scale == 1).all()

    def test_large_means_keep_their_digits(self):
        small = np.random.default_rng(0).normal(size=(200, 3))
        X = small + np.array([1e8, -1e6, 0])
        taken = table_of(X).take(np.arange(200)).numpy()
        expected = (small - small.mean(axis=0)) / small.std(axis=0)
        np.testing.assert_allclose(taken, expected, atol=1e-6)

    def test_constant_columns_become_zero_and_are_counted(self):
        X = bins(30).astype(float)
        X[:, [2, 5]] = 7.5
        table = table_of(X)
        assert table.n_varying == X.shape[1] - 2
        taken = table.take(np.arange(30)).numpy()
        assert (taken[:, [2, 5]] == 0).all()
        bytes_ = table_of(np.ones((5, 3), np.int8))
        assert bytes_.n_varying == 0
        assert (bytes_.scale == 1).all()
        assert table.varies.tolist() == [j not in (2, 5) for j in range(X.shape[1])]
        assert not bytes_.varies.any()

    @pytest.mark.parametrize("dtype", [np.int8, np.float32, np.float64])
    @pytest.mark.parametrize("mode", ["c", "r"])
    def test_memory_maps(self, tmp_path, dtype, mode):
        X = bins(60).astype(dtype)
        np.save(tmp_path / "X.npy", X)
        mapped = np.load(tmp_path / "X.npy", mmap_mode=mode)
        rows = np.array([5, 59, 0, 5])
        expected = table_of(X).take(rows)
        assert torch.equal(table_of(mapped).take(rows), expected)

    @pytest.mark.parametrize("dtype", [np.int8, np.float64])
    def test_read_only_and_strided_arrays(self, dtype):
        X = bins(60).astype(dtype)
        rows = np.array([5, 59, 0, 5])
        rows.flags.writeable = False
        expected = table_of(X.copy()).take(rows.copy())
        X.flags.writeable = False
        turned = np.asfortranarray(X)
        wider = np.repeat(X, 2, axis=1)[:, ::2]
        for same in (X, turned, wider, X[::-1][::-1]):
            assert torch.equal(table_of(same).take(rows), expected)

    def test_what_is_taken_is_a_copy(self):
        X = bins(20)
        kept = X.copy()
        table_of(X).take(np.arange(20)).fill_(9)
        np.testing.assert_array_equal(X, kept)


class TestResidentTable:
    """What a GPU with room for the table does, here on the CPU."""

    @pytest.fixture(autouse=True)
    def resident(self, monkeypatch):
        monkeypatch.setattr(Table, "_fits", lambda self: True)
        monkeypatch.setattr(_batches, "_UPLOAD_BYTES", 500)  # in many parts

    @pytest.mark.parametrize("dtype", [np.int8, np.float64])
    def test_gives_the_same_rows(self, dtype, monkeypatch):
        X = bins(70).astype(dtype)
        resident = table_of(X)
        monkeypatch.undo()
        rows = np.array([5, 69, 0, 5, 1, 2])
        expected = table_of(X).take(rows)
        assert torch.equal(resident.take(rows), expected)
        assert resident.take(rows).dtype == expected.dtype

    def test_all_kinds_of_batches(self):
        X = bins(90)
        table = table_of(X)
        every = np.arange(90)
        for batches in (
            RowBatches(table, 1, every, 20).epoch(0),
            HeldOutBatches(table, 1, every, 20),
            EraBatches(table, 1, *eras_of([30, 60])).epoch(0),
        ):
            total = sum(batch.x.long().sum(0) for batch in batches)
            np.testing.assert_array_equal(total, X.sum(axis=0, dtype=int))


class TestBatch:
    """What a step has of its rows."""

    rows = np.array([7, 7, 0, 30, 11])

    def batch(self, table, own=None):
        return Batch(table, self.rows, Draws(1, TRAINING, 0, len(self.rows), own))

    @pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.float32, np.float64])
    def test_squares_are_those_of_standardised_rows(self, dtype):
        X = bins(40).astype(dtype)
        X[:, 4] = 1
        table = table_of(X)
        t = X.astype(np.float64)
        t = (t - t.mean(axis=0)) / np.where(t.std(axis=0) > 0, t.std(axis=0), 1)
        batch = self.batch(table)
        assert batch.squares.dtype == torch.float32
        expected = (t**2).sum(axis=1)
        np.testing.assert_allclose(batch.squares, expected[self.rows], rtol=1e-5)
        np.testing.assert_allclose(table.squares, expected, rtol=1e-5)

    def test_squares_are_taken_of_a_table_once_and_only_if_asked_for(self, monkeypatch):
        blocks = []
        row_blocks = _batches.row_blocks
        monkeypatch.setattr(
            _batches, "row_blocks", lambda *a: blocks.append(a) or row_blocks(*a)
        )
        table = table_of(bins(40))
        batches = [self.batch(table) for _ in range(3)]
        assert not blocks
        assert torch.equal(batches[0].squares, batches[2].squares)
        assert blocks == [(40, 12)]

    def test_squares_of_a_memory_map(self, tmp_path):
        X = bins(40)
        np.save(tmp_path / "X.npy", X)
        mapped = table_of(np.load(tmp_path / "X.npy", mmap_mode="r"))
        np.testing.assert_array_equal(mapped.squares, table_of(X).squares)

    def test_targets(self):
        y = np.random.default_rng(0).random((40, 3))
        y[7, 1] = np.nan
        table = table_of(bins(40), targets=y)
        batch = self.batch(table)
        assert batch.y.dtype == torch.float32
        np.testing.assert_array_equal(batch.y, y[self.rows].astype(np.float32))
        assert self.batch(table_of(bins(40))).y is None

    def test_without_weights_each_row_counts_as_one(self):
        batch = self.batch(table_of(bins(40)))
        assert batch.weight is None
        assert batch.total.item() == 5

    def test_other_tensors_make_another_batch(self):
        y = np.arange(40.0)[:, None]
        batch = self.batch(table_of(bins(40), weights=weights_of(40), targets=y))
        tensors = batch.tensors(squares=True)
        assert tensors.keys() == {"x", "total", "weight", "y", "squares"}
        other = batch.with_tensors({k: v + 1 for k, v in tensors.items()})
        for name, tensor in tensors.items():
            assert torch.equal(getattr(other, name), tensor + 1)
            assert torch.equal(getattr(batch, name), tensor)
        assert other.draws is batch.draws
        plain = self.batch(table_of(bins(40))).tensors(squares=False)
        assert plain.keys() == {"x", "total"}

    def test_own_rows_and_the_weight_of_all(self):
        weights, y = weights_of(40), np.arange(40.0)[:, None]
        table = table_of(bins(40), weights=weights, targets=y)
        batch = self.batch(table, slice(1, 4))
        own = self.rows[1:4]
        np.testing.assert_array_equal(batch.x, table.X[own])
        np.testing.assert_array_equal(batch.weight, weights[own].astype(np.float32))
        np.testing.assert_array_equal(batch.y[:, 0], own)
        np.testing.assert_array_equal(batch.squares, table.squares[own])
        assert batch.total.item() == pytest.approx(weights[self.rows].sum(), rel=1e-6)
        # Without weights, too.
        assert self.batch(table_of(bins(40)), slice(1, 4)).total.item() == 5


class TestRowBatches:
    @settings(max_examples=40, deadline=None)
    @given(st.integers(1, 300), st.integers(1, 120), st.integers(0, 20))
    def test_every_row_once_in_batches_of_one_size(self, n, size, epoch):
        mine = np.arange(0, 2 * n, 2)
        batches = RowBatches(numbered(2 * n), 1, mine, size)
        parts = [rows_of(b) for b in batches.epoch(epoch)]
        assert len(parts) == batches.n_steps <= -(-n // size)
        sizes = {len(part) for part in parts}
        assert max(sizes) <= max(size, 3)
        assert n == 1 or min(sizes) > 1
        assert size < 3 or batches.n_steps == -(-n // size)
        assert max(sizes) - min(sizes) <= 1
        assert batches.rows_per_step == pytest.approx(n / len(parts))
        np.testing.assert_array_equal(np.sort(np.concatenate(parts)), mine)

    def order(self, seed, epoch):
        batches = RowBatches(numbered(200), seed, np.arange(200), 64)
        return np.concatenate([rows_of(b) for b in batches.epoch(epoch)])

    def test_order_is_of_seed_and_epoch(self):
        first = self.order(7, 0)
        np.testing.assert_array_equal(self.order(7, 0), first)
        later, other = self.order(7, 1), self.order(8, 1)
        for a, b in ((first, later), (later, other), (first, np.arange(200))):
            assert abs(np.corrcoef(a, b)[0, 1]) < 0.25
            assert (a == b).sum() < 10

    @pytest.mark.parametrize("first", [0, 1, 3, 4])
    def test_first_skips_exactly(self, first):
        batches = RowBatches(table_of(bins(200)), 1, np.arange(200), 64)
        check_skipped(batches, 3, first)

    def test_each_step_has_draws_of_its_own(self):
        batches = RowBatches(table_of(bins(128)), 1, np.arange(128), 64)
        drawn = [
            b.draws.bytes(8).numpy().tobytes()
            for e in range(3)
            for b in batches.epoch(e)
        ]
        assert len(set(drawn)) == 6

    def test_draws_are_of_the_seed(self):
        table = table_of(bins(64))
        drawn = [
            next(RowBatches(table, seed, np.arange(64), 64).epoch(0)).draws.bytes(8)
            for seed in (1, 2, 1)
        ]
        assert torch.equal(drawn[0], drawn[2])
        assert not torch.equal(drawn[0], drawn[1])

    def test_weights_and_totals(self):
        weights, rows = weights_of(200), np.arange(200)
        check_weights(RowBatches(numbered(200, weights), 1, rows, 64).epoch(0), weights)

    def test_targets_come_along(self):
        y = np.arange(200.0)[:, None] + [0, 1000]
        table = numbered(200, targets=y)
        for batch in RowBatches(table, 1, np.arange(200), 64).epoch(0):
            np.testing.assert_array_equal(batch.y, y[rows_of(batch)])

    def test_processes_share_a_batch(self):
        n_rows = 3 * BLOCK + 40
        table = numbered(n_rows, weights_of(n_rows), np.arange(n_rows)[:, None])
        batches = RowBatches(table, 1, np.arange(n_rows), n_rows)
        [whole] = batches.epoch(0)
        parts = []
        for rank in range(2):
            with one_of(2, rank):
                parts += batches.epoch(0)
        assert [len(p.x) for p in parts] == [2 * BLOCK, BLOCK + 40]
        for name in ("x", "weight", "y", "squares"):
            together = torch.cat([getattr(p, name) for p in parts])
            assert torch.equal(together, getattr(whole, name))
        assert all(torch.equal(p.total, whole.total) for p in parts)
        assert all(p.draws.n_rows == n_rows for p in parts)


class TestEraBatches:
    sizes = (50, 40, 60, 700, 45)

    def test_one_era_each_of_its_own_length(self):
        rows, codes = eras_of(self.sizes)
        batches = EraBatches(numbered(sum(self.sizes)), 1, rows, codes)
        assert batches.n_steps == len(self.sizes)
        assert batches.rows_per_step == pytest.approx(np.mean(self.sizes))
        seen = []
        for batch in batches.epoch(0):
            rows = rows_of(batch)
            era = np.flatnonzero(codes == codes[rows[0]])
            np.testing.assert_array_equal(rows, era)
            assert batch.total.item() == len(era)
            seen += era.tolist()
        assert sorted(seen) == [*range(sum(self.sizes))]

    def test_only_rows_to_train_on(self):
        rows, codes = eras_of(self.sizes)
        few = rows[(codes != 3) & (rows % 2 == 0)]
        batches = EraBatches(numbered(len(rows)), 1, few, codes)
        assert batches.n_steps == len(np.unique(codes[few]))
        parts = [rows_of(b) for b in batches.epoch(0)]
        assert all(len(np.unique(codes[part])) == 1 for part in parts)
        np.testing.assert_array_equal(np.sort(np.concatenate(parts)), few)

    @pytest.mark.parametrize(
        ("sizes", "together"),
        [
            ((1, 40, 7, 700, 3), [41, 707 + 3]),
            ((1, 2, 3, 5, 5, 40, 15), [16, 55]),
            ((1, 1), [2]),
            ((16, 16, 15), [16, 31]),
        ],
    )
    def test_small_eras_share_a_batch_with_those_beside_them(self, sizes, together):
        rows, codes = eras_of(sizes)
        batches = EraBatches(numbered(len(rows)), 1, rows, codes)
        parts = [rows_of(b) for b in batches.epoch(0)]
        assert sorted(map(len, parts)) == sorted(together)
        np.testing.assert_array_equal(np.sort(np.concatenate(parts)), rows)
        eras = np.concatenate([np.unique(codes[part]) for part in parts])
        assert sorted(eras) == [*range(len(sizes))]
        assert all(np.ptp(codes[part]) < len(np.unique(codes[part])) for part in parts)

    def test_order_is_of_seed_and_epoch(self):
        rows, codes = eras_of([16] * 40)

        def order(seed, epoch):
            batches = EraBatches(numbered(640), seed, rows, codes).epoch(epoch)
            return [int(rows_of(b)[0]) for b in batches]

        assert order(1, 0) == order(1, 0)
        orders = [order(1, 0), order(1, 1), order(2, 0)]
        orders.append([int(np.flatnonzero(codes == e)[0]) for e in range(40)])
        assert len(set(map(tuple, orders))) == 4

    @pytest.mark.parametrize("first", [0, 2, 5])
    def test_first_skips_exactly(self, first):
        table = table_of(bins(sum(self.sizes)))
        check_skipped(EraBatches(table, 1, *eras_of(self.sizes)), 1, first)

    def test_weights_and_totals(self):
        n_rows = sum(self.sizes)
        weights = weights_of(n_rows)
        batches = EraBatches(numbered(n_rows, weights), 1, *eras_of(self.sizes))
        check_weights(batches.epoch(0), weights)

    def test_processes_share_an_era(self):
        batches = EraBatches(numbered(sum(self.sizes)), 1, *eras_of(self.sizes))
        parts = []
        for rank in range(2):
            with one_of(2, rank):
                parts.append([*batches.epoch(0)])
        for whole, *own in zip(batches.epoch(0), *parts, strict=True):
            assert torch.equal(torch.cat([p.x for p in own]), whole.x)
            assert all(torch.equal(p.total, whole.total) for p in own)
            # Blocks are not cut: of less than one the last process has all.
            assert [len(p.x) for p in own] == (
                [BLOCK, 700 - BLOCK] if len(whole.x) == 700 else [0, len(whole.x)]
            )


class TestHeldOutBatches:
    def test_the_same_each_time(self):
        table, rows = table_of(bins(100)), np.arange(30, 95)
        batches = HeldOutBatches(table, 1, rows, 20)
        once, again = [*batches], [*batches]
        assert [len(b.x) for b in once] == [20, 20, 20, 5]
        whole = torch.cat([b.x for b in once]).numpy()
        np.testing.assert_array_equal(whole, table.X[rows])
        drawn = [b.draws.bytes(20) for b in once]
        for a, b, cells in zip(once, again, drawn, strict=True):
            assert torch.equal(a.x, b.x)
            assert torch.equal(b.draws.bytes(20), cells)
        assert not torch.equal(drawn[0], drawn[1])

    def test_draws_are_not_those_of_training(self):
        table, rows = table_of(bins(64)), np.arange(64)
        [held_out] = HeldOutBatches(table, 1, rows, 64)
        [trained] = RowBatches(table, 1, rows, 64).epoch(0)
        assert not torch.equal(held_out.draws.bytes(8), trained.draws.bytes(8))

    def test_every_process_has_all_of_them(self):
        batches = HeldOutBatches(numbered(2000), 1, np.arange(2000), 1500)
        with one_of(3, 1):
            assert [len(b.x) for b in batches] == [1500, 500]

    def test_eras_are_batches_whatever_their_sizes(self):
        sizes = (3, 50, 8)
        rows, codes = eras_of(sizes)
        batches = HeldOutBatches(numbered(61), 1, rows, 20, codes)
        assert [len(b.x) for b in batches] == [*sizes]
        for era, batch in enumerate(batches):
            np.testing.assert_array_equal(rows_of(batch), np.flatnonzero(codes == era))

    def test_weights_and_totals(self):
        weights = weights_of(50)
        table = numbered(50, weights)
        check_weights(HeldOutBatches(table, 1, np.arange(9, 40), 20), weights)
