"""Tables and the ways to cut them into batches."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nn_parts import CPU, bins, one_of, table_of

from numerai_features.nn import _batches
from numerai_features.nn._batches import EraBatches, HeldOutBatches, RowBatches, Table
from numerai_features.nn._draws import BLOCK


@pytest.fixture(autouse=True)
def every_warning():
    """Torch gives some warnings once a process only."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(before)


def numbered(n_rows):
    """A table whose only column is the row's number."""
    X = np.arange(n_rows, dtype=np.float64)[:, None]
    return Table(X, np.zeros(1), np.ones(1), CPU)


def rows_of(batch):
    """Return the row numbers, (n_models, n)."""
    return batch.x[..., 0].long().numpy()


def eras_of(sizes, seed=0):
    """All rows, and the era of each, of eras of these sizes, mixed."""
    codes = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    return np.arange(sum(sizes)), np.random.default_rng(seed).permutation(codes)


class TestTable:
    @pytest.mark.parametrize("dtype", [np.int8, np.uint8])
    def test_bytes_stay_as_they_are(self, dtype):
        X = bins(50).astype(dtype)
        table = table_of(X)
        rows = np.array([[3, 3, 49], [0, 7, 1]])
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
        taken = table.take(np.arange(50)[None])[0]
        assert taken.dtype == torch.float32
        expected = (X - X.mean(axis=0, dtype=float)) / X.std(axis=0, dtype=float)
        np.testing.assert_allclose(taken.numpy(), expected, atol=1e-6)
        # Nothing is left to do.
        assert (table.center == 0).all()
        assert (table.scale == 1).all()

    def test_large_means_keep_their_digits(self):
        small = np.random.default_rng(0).normal(size=(200, 3))
        X = small + np.array([1e8, -1e6, 0])
        taken = table_of(X).take(np.arange(200)[None])[0].numpy()
        expected = (small - small.mean(axis=0)) / small.std(axis=0)
        np.testing.assert_allclose(taken, expected, atol=1e-6)

    def test_constant_columns_become_zero_and_are_counted(self):
        X = bins(30).astype(float)
        X[:, [2, 5]] = 7.5
        table = table_of(X)
        assert table.n_varying == X.shape[1] - 2
        taken = table.take(np.arange(30)[None])[0].numpy()
        assert (taken[:, [2, 5]] == 0).all()
        bytes_ = table_of(np.ones((5, 3), np.int8))
        assert bytes_.n_varying == 0
        assert (bytes_.scale == 1).all()

    @pytest.mark.parametrize("dtype", [np.int8, np.float32, np.float64])
    @pytest.mark.parametrize("mode", ["c", "r"])
    def test_memory_maps(self, tmp_path, dtype, mode):
        X = bins(60).astype(dtype)
        np.save(tmp_path / "X.npy", X)
        mapped = np.load(tmp_path / "X.npy", mmap_mode=mode)
        rows = np.array([[5, 59, 0, 5]])
        expected = table_of(X).take(rows)
        assert torch.equal(table_of(mapped).take(rows), expected)

    @pytest.mark.parametrize("dtype", [np.int8, np.float64])
    def test_read_only_and_strided_arrays(self, dtype):
        X = bins(60).astype(dtype)
        rows = np.array([[5, 59, 0, 5]])
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
        table_of(X).take(np.arange(20)[None]).fill_(9)
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
        rows = np.array([[5, 69, 0, 5], [1, 2, 3, 4]])
        expected = table_of(X).take(rows)
        assert torch.equal(resident.take(rows), expected)
        assert resident.take(rows).dtype == expected.dtype

    def test_all_kinds_of_batches(self):
        X = bins(90)
        table = table_of(X)
        every = np.arange(90)
        for batches in (
            RowBatches(table, (1,), [every], 20).epoch(0),
            HeldOutBatches(table, (1,), every, 20),
            EraBatches(table, (1,), *eras_of([30, 60])).epoch(0),
        ):
            total = sum(batch.x.long().sum((0, 1)) for batch in batches)
            np.testing.assert_array_equal(total, X.sum(axis=0, dtype=int))


class TestRowBatches:
    @settings(max_examples=40, deadline=None)
    @given(
        st.integers(1, 300),
        st.integers(1, 120),
        st.integers(1, 3),
        st.integers(0, 20),
    )
    def test_every_row_once_in_batches_of_one_size(self, n, size, n_models, epoch):
        mine = np.arange(0, 2 * n, 2)
        table = numbered(2 * n)
        batches = RowBatches(table, range(n_models), [mine] * n_models, size)
        parts = [rows_of(b) for b in batches.epoch(epoch)]
        assert len(parts) == batches.n_steps == -(-n // size)
        sizes = {part.shape[1] for part in parts}
        assert max(sizes) <= size
        assert max(sizes) - min(sizes) <= 1
        for row in np.sort(np.concatenate(parts, axis=1), axis=1):
            np.testing.assert_array_equal(row, mine)

    def order(self, seeds, epoch, n_models_rows=None):
        mine = n_models_rows or [np.arange(200)] * len(seeds)
        batches = RowBatches(numbered(200), seeds, mine, 64)
        return np.concatenate([rows_of(b) for b in batches.epoch(epoch)], axis=1)

    def test_order_is_of_seed_and_epoch(self):
        [first] = self.order((7,), 0)
        np.testing.assert_array_equal(self.order((7,), 0)[0], first)
        others = self.order((7, 8), 1)
        np.testing.assert_array_equal(self.order((8,), 1)[0], others[1])
        for a, b in (
            (first, others[0]),
            (others[0], others[1]),
            (first, np.arange(200)),
        ):
            assert abs(np.corrcoef(a, b)[0, 1]) < 0.25
            assert (a == b).sum() < 10

    def test_models_of_fewer_rows_begin_anew(self):
        few, many = np.arange(50), np.arange(50, 200)
        rows = self.order((1, 2), 0, [few, many])
        assert rows.shape == (2, 150)
        np.testing.assert_array_equal(np.bincount(rows[0], minlength=50), 3)
        np.testing.assert_array_equal(np.sort(rows[1]), many)

    @pytest.mark.parametrize("first", [0, 1, 3, 4])
    def test_first_skips_exactly(self, first):
        batches = RowBatches(table_of(bins(200)), (1, 2), [np.arange(200)] * 2, 64)
        every = [*batches.epoch(3)]
        rest = [*batches.epoch(3, first)]
        assert len(rest) == len(every) - first
        for a, b in zip(rest, every[first:], strict=True):
            assert torch.equal(a.x, b.x)
            assert torch.equal(a.draws.bytes(5), b.draws.bytes(5))

    def test_each_step_has_draws_of_its_own(self):
        batches = RowBatches(table_of(bins(128)), (1,), [np.arange(128)], 64)
        drawn = [
            b.draws.bytes(8).numpy().tobytes()
            for e in range(3)
            for b in batches.epoch(e)
        ]
        assert len(set(drawn)) == 6

    def test_weights_and_totals(self):
        weights = np.random.default_rng(0).random(200).astype(np.float32)
        table, rows = numbered(200), [np.arange(200)] * 2
        for batch in RowBatches(table, (1, 2), rows, 64, weights).epoch(0):
            expected = weights[rows_of(batch)]
            np.testing.assert_array_equal(batch.weight, expected)
            np.testing.assert_allclose(batch.total, expected.sum(axis=1), rtol=1e-6)
        for batch in RowBatches(table, (1, 2), rows, 64).epoch(0):
            assert batch.weight is None
            assert batch.total.tolist() == [batch.x.shape[1]] * 2

    def test_processes_share_a_batch(self):
        n_rows = 3 * BLOCK + 40
        weights = np.random.default_rng(0).random(n_rows).astype(np.float32)
        rows = [np.arange(n_rows)]
        batches = RowBatches(numbered(n_rows), (1,), rows, n_rows, weights)
        [whole] = batches.epoch(0)
        parts = []
        for rank in range(2):
            with one_of(2, rank):
                parts += batches.epoch(0)
        assert [p.x.shape[1] for p in parts] == [2 * BLOCK, BLOCK + 40]
        assert torch.equal(torch.cat([p.x for p in parts], dim=1), whole.x)
        weight = torch.cat([p.weight for p in parts], dim=1)
        assert torch.equal(weight, whole.weight)
        assert all(torch.equal(p.total, whole.total) for p in parts)
        assert all(p.draws.n_rows == n_rows for p in parts)


class TestEraBatches:
    sizes = (1, 40, 7, 700, 23)

    def test_one_era_each_of_its_own_length(self):
        rows, codes = eras_of(self.sizes)
        batches = EraBatches(numbered(sum(self.sizes)), (1, 2), rows, codes)
        assert batches.n_steps == len(self.sizes)
        by_first = {int(np.flatnonzero(codes == e)[0]): e for e in range(5)}
        seen = []
        for batch in batches.epoch(0):
            rows = rows_of(batch)
            era = np.flatnonzero(codes == by_first[int(rows[0, 0])])
            np.testing.assert_array_equal(rows, np.stack([era, era]))
            assert batch.total.tolist() == [len(era)] * 2
            seen += era.tolist()
        assert sorted(seen) == [*range(sum(self.sizes))]

    def test_order_is_of_first_seed_and_epoch(self):
        rows, codes = eras_of([3] * 40)

        def order(seeds, epoch):
            batches = EraBatches(numbered(120), seeds, rows, codes).epoch(epoch)
            return [int(rows_of(b)[0, 0]) for b in batches]

        assert order((1,), 0) == order((1, 5), 0)
        orders = [order((1,), 0), order((1,), 1), order((2,), 0)]
        orders.append([int(np.flatnonzero(codes == e)[0]) for e in range(40)])
        assert len(set(map(tuple, orders))) == 4

    def test_first_skips_exactly(self):
        table = table_of(bins(sum(self.sizes)))
        batches = EraBatches(table, (1,), *eras_of(self.sizes))
        every, rest = [*batches.epoch(1)], [*batches.epoch(1, 2)]
        assert len(rest) == 3
        for a, b in zip(rest, every[2:], strict=True):
            assert torch.equal(a.x, b.x)
            assert torch.equal(a.draws.bytes(5), b.draws.bytes(5))

    def test_weights_and_totals(self):
        n_rows = sum(self.sizes)
        weights = np.random.default_rng(0).random(n_rows).astype(np.float32)
        batches = EraBatches(numbered(n_rows), (1, 2), *eras_of(self.sizes), weights)
        for batch in batches.epoch(0):
            expected = weights[rows_of(batch)]
            np.testing.assert_array_equal(batch.weight, expected)
            np.testing.assert_allclose(batch.total, expected.sum(axis=1), rtol=1e-6)


class TestHeldOutBatches:
    def test_the_same_each_time(self):
        table, rows = table_of(bins(100)), np.arange(30, 95)
        batches = HeldOutBatches(table, (1, 2), rows, 20)
        once, again = [*batches], [*batches]
        assert [b.x.shape[1] for b in once] == [20, 20, 20, 5]
        whole = torch.cat([b.x for b in once], dim=1).numpy()
        np.testing.assert_array_equal(whole, np.stack([table.X[rows]] * 2))
        drawn = [b.draws.bytes(20) for b in once]
        for a, b, cells in zip(once, again, drawn, strict=True):
            assert torch.equal(a.x, b.x)
            assert torch.equal(b.draws.bytes(20), cells)
        assert not torch.equal(drawn[0], drawn[1])

    def test_every_process_has_all_of_them(self):
        batches = HeldOutBatches(numbered(2000), (1,), np.arange(2000), 1500)
        with one_of(3, 1):
            assert [b.x.shape[1] for b in batches] == [1500, 500]

    def test_weights_and_totals(self):
        weights = np.random.default_rng(0).random(50).astype(np.float32)
        batches = HeldOutBatches(numbered(50), (1, 2), np.arange(9, 40), 20, weights)
        for batch in batches:
            expected = weights[rows_of(batch)]
            np.testing.assert_array_equal(batch.weight, expected)
            np.testing.assert_allclose(batch.total, expected.sum(axis=1), rtol=1e-6)
