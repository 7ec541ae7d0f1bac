"""Corruptions: what a cell becomes, how often, and whatever becomes of others."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from numerai_features.nn._draws import BLOCK, TRAINING, Draws
from numerai_features.nn._noise import add_gaussian, cut_out, mask, swap

N_COLUMNS = 8
FAR = 10_000  # more than any row number


def draws_of(step, n_rows, seeds=(1,)):
    return Draws(seeds, TRAINING, step, n_rows)


def addresses(n_rows, n_columns=N_COLUMNS, n_models=1):
    """Cells that tell their row and column."""
    rows = torch.arange(n_rows, dtype=torch.float32)
    x = rows[:, None] + FAR * torch.arange(n_columns)
    return x.expand(n_models, -1, -1)


def donors_of(x, out):
    """Return the row that each cell comes from, having checked its column."""
    columns = (out // FAR).long()
    assert (columns == torch.arange(x.shape[2])).all()
    return (out - FAR * columns).long().numpy()


class TestSwap:
    @settings(max_examples=40, deadline=None)
    @given(
        st.integers(1, 2 * BLOCK + 5),
        st.integers(1, 5),
        st.integers(1, 3),
        st.floats(0.01, 0.95),
        st.integers(0, 1000),
    )
    def test_donors_are_other_rows_of_the_block(
        self, n_rows, n_columns, n_models, share, step
    ):
        x = addresses(n_rows, n_columns, n_models)
        out = swap(x, share, draws_of(step, n_rows, range(n_models)))
        assert (out.shape, out.dtype) == (x.shape, x.dtype)
        rows = np.arange(n_rows)[:, None]
        donors = donors_of(x, out)
        assert (donors // BLOCK == rows // BLOCK).all()
        assert torch.equal(x, addresses(n_rows, n_columns, n_models))

    @pytest.mark.parametrize("share", [0.02, 0.15, 0.5, 0.9])
    def test_rate_of_hits(self, share):
        n_rows, n_steps = 300, 40
        x = addresses(n_rows)
        hits = np.stack(
            [(swap(x, share, draws_of(s, n_rows)) != x)[0] for s in range(n_steps)]
        )
        expected = share * hits.size
        spread = np.sqrt(2 * share * (1 - share) * hits.size)  # cells come in pairs
        assert abs(hits.sum() - expected) < 4.5 * spread
        pairs_by_column = hits.sum(axis=(0, 1)) / 2
        assert stats.chisquare(pairs_by_column).pvalue > 1e-4
        by_row = hits.sum(axis=(0, 2))
        assert stats.chisquare(by_row).pvalue > 1e-4

    def test_every_other_row_is_the_donor_equally_often(self):
        n_rows, n_steps = 41, 400
        x = addresses(n_rows)
        distances = np.zeros(n_rows)
        for step in range(n_steps):
            donors = donors_of(x, swap(x, 0.1, draws_of(step, n_rows)))
            away = (donors - np.arange(n_rows)[:, None]) % n_rows
            distances += np.bincount(away.ravel(), minlength=n_rows)
        # Two cells exchange their values: one is s rows below, the other s above.
        pairs = (distances[1:] + distances[:0:-1])[: n_rows // 2] / 2
        assert pairs.sum() > 5000
        assert stats.chisquare(pairs).pvalue > 1e-4

    def test_columns_keep_their_marginals(self):
        rng = np.random.default_rng(0)
        n_rows = 400
        shares = rng.dirichlet(np.ones(5), N_COLUMNS)
        columns = [rng.choice(5, n_rows, p=p) for p in shares]
        x = torch.from_numpy(np.stack(columns, axis=1).astype(np.int8))[None]
        before = np.stack([np.bincount(c, minlength=5) for c in columns])
        after = np.zeros((N_COLUMNS, 5))
        hit = np.zeros((N_COLUMNS, 5))
        marks = addresses(n_rows)
        for step in range(200):
            out = swap(x, 0.3, draws_of(step, n_rows))[0].numpy()
            hits = (swap(marks, 0.3, draws_of(step, n_rows)) != marks)[0].numpy()
            for j in range(N_COLUMNS):
                after[j] += np.bincount(out[:, j], minlength=5)
                hit[j] += np.bincount(out[hits[:, j], j], minlength=5)
        for j in range(N_COLUMNS):
            seen = before[j] > 0
            assert (after[j, ~seen] == 0).all()
            expected = before[j, seen] / n_rows
            for counts in (after[j, seen], hit[j, seen]):
                if seen.sum() > 1:
                    chi = stats.chisquare(counts, expected * counts.sum())
                    assert chi.pvalue > 1e-4

    def test_hits_of_columns_are_independent(self):
        n_rows, n_steps, share = BLOCK, 60, 0.2
        x = addresses(n_rows)
        hits = np.concatenate(
            [(swap(x, share, draws_of(s, n_rows)) != x)[0] for s in range(n_steps)]
        )
        between = np.corrcoef(hits.T)[np.triu_indices(N_COLUMNS, 1)]
        chi = (between**2).sum() * len(hits)
        assert stats.chi2.sf(chi, len(between)) > 1e-3
        # So the number of hits in a row is binomial.
        counts = np.bincount(hits.sum(axis=1), minlength=N_COLUMNS + 1)
        expected = stats.binom.pmf(np.arange(N_COLUMNS + 1), N_COLUMNS, hits.mean())
        common = expected * len(hits) > 5
        shown = counts[common] / counts[common].sum()
        likely = expected[common] / expected[common].sum()
        n = counts[common].sum()
        assert stats.chisquare(shown * n, likely * n).pvalue > 1e-4

    def test_each_cell_has_a_donor_row_of_its_own(self):
        n_rows = BLOCK
        x = addresses(n_rows, 40)
        same = pairs = 0
        for step in range(20):
            out = swap(x, 0.3, draws_of(step, n_rows))
            hits, donors = (out != x)[0].numpy(), donors_of(x, out)[0]
            for row, mine in zip(hits, donors, strict=True):
                taken = mine[row]
                pairs += len(taken) * (len(taken) - 1) // 2
                _, counts = np.unique(taken, return_counts=True)
                same += int((counts * (counts - 1) // 2).sum())
        # As seldom as rows drawn at random meet: one pair in n_rows - 1.
        assert pairs > 100_000
        assert abs(same - pairs / (n_rows - 1)) < 5 * np.sqrt(pairs / (n_rows - 1))

    def test_donors_of_two_columns_are_independent(self):
        n_rows = 60
        x = addresses(n_rows, 2)
        a, b = [], []
        for step in range(600):
            out = swap(x, 0.5, draws_of(step, n_rows))
            both, donors = (out != x)[0].all(dim=1).numpy(), donors_of(x, out)[0]
            a.append(donors[both, 0])
            b.append(donors[both, 1])
        a, b = np.concatenate(a), np.concatenate(b)
        table = np.histogram2d(a, b, bins=6)[0]
        assert stats.chi2_contingency(table).pvalue > 1e-4

    def test_models_and_steps_have_noise_of_their_own(self):
        x = addresses(200, n_models=2)
        hits = (swap(x, 0.2, draws_of(0, 200, (1, 2))) != x).flatten(1).numpy()
        later = (swap(x, 0.2, draws_of(1, 200, (1, 2))) != x).flatten(1).numpy()
        for a, b in ((hits[0], hits[1]), (hits[0], later[0])):
            assert a.any()
            assert abs(np.corrcoef(a, b)[0, 1]) < 4.5 / np.sqrt(a.size)
        again = (swap(x, 0.2, draws_of(0, 200, (1, 2))) != x).flatten(1).numpy()
        np.testing.assert_array_equal(again, hits)

    def test_two_rows_take_each_others_values(self):
        x = addresses(2)
        outs = [swap(x, 0.3, draws_of(step, 2)) for step in range(50)]
        changed = [out for out in outs if not torch.equal(out, x)]
        assert changed
        assert len(changed) < 50
        assert all((donors_of(x, out) < 2).all() for out in outs)

    @pytest.mark.parametrize("share", [0.0, 0.9])
    def test_one_row_and_no_noise_are_copies(self, share):
        x = addresses(1 if share else 50)
        out = swap(x, share, draws_of(0, x.shape[1]))
        assert torch.equal(out, x)
        assert out.data_ptr() != x.data_ptr()

    @pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float32])
    def test_any_type_and_layout(self, dtype):
        rng = torch.Generator().manual_seed(0)
        x = torch.randint(0, 5, (2, 50, 6), generator=rng).to(dtype)
        turned = x.mT.contiguous().mT  # columns are what stands together
        assert not turned.is_contiguous()
        expected = swap(x, 0.3, draws_of(0, 50, (1, 2)))
        out = swap(turned, 0.3, draws_of(0, 50, (1, 2)))
        assert out.dtype == dtype
        assert torch.equal(out, expected)
        assert not torch.equal(out, x)


class TestMask:
    def test_cells_become_the_middle_of_their_column(self):
        middle = torch.arange(N_COLUMNS, dtype=torch.int8) - 50
        x = torch.full((2, 3000, N_COLUMNS), 3, dtype=torch.int8)
        out = mask(x, 0.2, middle, draws_of(0, 3000, (1, 2)))
        assert out.dtype == torch.int8
        assert (x == 3).all()
        hit = out != x
        assert torch.equal(out, torch.where(hit, middle, x))
        rates = hit.float().mean(1)
        # The rate of one step is that of a byte's threshold.
        assert (rates - 0.2).abs().max() < 1 / 256 + 4 * np.sqrt(0.16 / 3000)
        pair = np.corrcoef(hit.flatten(1).numpy())[0, 1]
        assert abs(pair) < 4.5 / np.sqrt(hit[0].numel())

    def test_none_and_all(self):
        x = addresses(20)
        middle = torch.full((N_COLUMNS,), -1.0)
        assert torch.equal(mask(x, 0.0, middle, draws_of(0, 20)), x)
        assert (mask(x, 1.0, middle, draws_of(0, 20)) == -1).all()


class TestCutOut:
    def test_whole_columns_become_their_middle(self):
        n_columns, n_steps, share = 10, 500, 0.25
        x = addresses(3, n_columns, 2)
        middle = -1.0 - torch.arange(n_columns)
        cut = np.zeros((n_steps, 2, n_columns), bool)
        for step in range(n_steps):
            out = cut_out(x, share, middle, draws_of(step, 3, (1, 2)))
            hit = out != x
            assert torch.equal(out, torch.where(hit, middle, x))
            assert torch.equal(hit, hit[:, :1].expand_as(hit))
            cut[step] = hit[:, 0]
        assert torch.equal(x, addresses(3, n_columns, 2))
        counts = cut.sum(axis=2)
        assert set(counts.ravel()) == {2, 3}
        error = counts.mean() / n_columns - share
        assert abs(error) < 4.5 * 0.05 / np.sqrt(counts.size)
        for model in range(2):
            assert stats.chisquare(cut[:, model].sum(axis=0)).pvalue > 1e-4
        alike = (cut[:, 0] == cut[:, 1]).all(axis=1).mean()
        assert alike < 0.1

    @pytest.mark.parametrize("share", [0.0, 1.0])
    def test_none_and_all(self, share):
        x = addresses(4)
        out = cut_out(x, share, torch.full((N_COLUMNS,), -1.0), draws_of(0, 4))
        assert ((out == -1) == bool(share)).all()

    def test_processes_cut_the_same_columns(self):
        n_rows = 2 * BLOCK
        x, middle = addresses(n_rows), torch.full((N_COLUMNS,), -1.0)
        whole = cut_out(x, 0.4, middle, draws_of(5, n_rows))
        for own in (slice(0, BLOCK), slice(BLOCK, n_rows)):
            mine = Draws((1,), TRAINING, 5, n_rows, own)
            assert torch.equal(cut_out(x[:, own], 0.4, middle, mine), whole[:, own])


class TestGaussian:
    center = torch.tensor([[0.0, 5.0, -3.0], [1.0, 1.0, 1.0]])
    scale = torch.tensor([[1.0, 10.0, 0.1], [2.0, 3.0, 4.0]])
    n_rows = 20_000

    def rows(self):
        rng = torch.Generator().manual_seed(0)
        noise = torch.randn((2, self.n_rows, 3), generator=rng)
        return self.center[:, None] + self.scale[:, None] * noise

    def test_absolute_noise_is_in_the_columns_units(self):
        x = self.rows()
        out = add_gaussian(
            x, 0.3, self.center, self.scale, draws_of(0, self.n_rows, (1, 2)), False
        )
        assert torch.equal(x, self.rows())
        noise = (out - x) / (0.3 * self.scale[:, None])
        away = x - self.center[:, None]
        for model, j in itertools.product(range(2), range(3)):
            z = noise[model, :, j].double().numpy()
            assert stats.kstest(z, "norm").pvalue > 1e-3
            pair = np.corrcoef(z, away[model, :, j])[0, 1]
            assert abs(pair) < 4.5 / np.sqrt(len(z))

    def test_relative_noise_grows_with_the_scaled_value(self):
        x = self.rows()
        out = add_gaussian(
            x, 0.3, self.center, self.scale, draws_of(0, self.n_rows, (1, 2)), True
        )
        assert torch.equal(x, self.rows())
        away = x - self.center[:, None]
        clear = away.abs() > 0.05 * self.scale[:, None]  # digits are lost near zero
        z = torch.where(clear, (out - x) / (0.3 * away), torch.nan)
        for model, j in itertools.product(range(2), range(3)):
            column = z[model, :, j].double().numpy()
            column = column[~np.isnan(column)]
            assert len(column) > 0.9 * self.n_rows
            assert stats.kstest(column, "norm").pvalue > 1e-3

    def test_relative_noise_leaves_the_mean_where_it_is(self):
        x = self.center[:, None].expand(-1, 10, -1)
        args = self.center, self.scale, draws_of(0, 10, (1, 2))
        assert torch.equal(add_gaussian(x, 0.5, *args, True), x)
        assert not torch.equal(add_gaussian(x, 0.5, *args, False), x)

    def test_no_noise(self):
        x = self.rows()
        draws = draws_of(0, self.n_rows, (1, 2))
        out = add_gaussian(x, 0.0, self.center, self.scale, draws, False)
        assert torch.equal(out, x)
