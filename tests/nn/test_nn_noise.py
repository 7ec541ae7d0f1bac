"""Corruptions: what a cell becomes, how often, and whatever becomes of others."""

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


def draws_of(step, n_rows, seed=1):
    return Draws(seed, TRAINING, step, n_rows)


def addresses(n_rows, n_columns=N_COLUMNS):
    """Cells that tell their row and column."""
    rows = torch.arange(n_rows, dtype=torch.float32)
    return rows[:, None] + FAR * torch.arange(n_columns)


def donors_of(x, out):
    """Return the row that each cell comes from, having checked its column."""
    columns = (out // FAR).long()
    assert (columns == torch.arange(x.shape[1])).all()
    return (out - FAR * columns).long().numpy()


class TestSwap:
    @settings(max_examples=40, deadline=None)
    @given(
        st.integers(1, 2 * BLOCK + 5),
        st.integers(1, 5),
        st.floats(0.01, 0.95),
        st.integers(0, 1000),
    )
    def test_donors_are_other_rows_of_the_block(self, n_rows, n_columns, share, step):
        x = addresses(n_rows, n_columns)
        out = swap(x, share, draws_of(step, n_rows))
        assert (out.shape, out.dtype) == (x.shape, x.dtype)
        rows = np.arange(n_rows)[:, None]
        donors = donors_of(x, out)
        assert (donors // BLOCK == rows // BLOCK).all()
        assert torch.equal(x, addresses(n_rows, n_columns))

    @pytest.mark.parametrize("share", [0.02, 0.15, 0.5, 0.9])
    def test_rate_of_hits(self, share):
        n_rows, n_steps = 300, 40
        x = addresses(n_rows)
        hits = np.stack(
            [swap(x, share, draws_of(s, n_rows)) != x for s in range(n_steps)]
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
        x = torch.from_numpy(np.stack(columns, axis=1).astype(np.int8))
        before = np.stack([np.bincount(c, minlength=5) for c in columns])
        after = np.zeros((N_COLUMNS, 5))
        hit = np.zeros((N_COLUMNS, 5))
        marks = addresses(n_rows)
        for step in range(200):
            out = swap(x, 0.3, draws_of(step, n_rows)).numpy()
            hits = (swap(marks, 0.3, draws_of(step, n_rows)) != marks).numpy()
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
            [swap(x, share, draws_of(s, n_rows)) != x for s in range(n_steps)]
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
            hits, donors = (out != x).numpy(), donors_of(x, out)
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
            both, donors = (out != x).all(dim=1).numpy(), donors_of(x, out)
            a.append(donors[both, 0])
            b.append(donors[both, 1])
        a, b = np.concatenate(a), np.concatenate(b)
        table = np.histogram2d(a, b, bins=6)[0]
        assert stats.chi2_contingency(table).pvalue > 1e-4

    def test_seeds_and_steps_have_noise_of_their_own(self):
        x = addresses(200)

        def hits(step, seed):
            return (swap(x, 0.2, draws_of(step, 200, seed)) != x).flatten().numpy()

        first = hits(0, 1)
        assert first.any()
        for other in (hits(0, 2), hits(1, 1)):
            pair = np.corrcoef(first, other)[0, 1]
            assert abs(pair) < 4.5 / np.sqrt(first.size)
        np.testing.assert_array_equal(hits(0, 1), first)

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
        out = swap(x, share, draws_of(0, len(x)))
        assert torch.equal(out, x)
        assert out.data_ptr() != x.data_ptr()

    @pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float32])
    def test_any_type_and_layout(self, dtype):
        rng = torch.Generator().manual_seed(0)
        x = torch.randint(0, 5, (50, 6), generator=rng).to(dtype)
        turned = x.T.contiguous().T  # columns are what stands together
        assert not turned.is_contiguous()
        expected = swap(x, 0.3, draws_of(0, 50))
        out = swap(turned, 0.3, draws_of(0, 50))
        assert out.dtype == dtype
        assert torch.equal(out, expected)
        assert not torch.equal(out, x)


class TestMask:
    def test_cells_become_the_middle_of_their_column(self):
        middle = torch.arange(N_COLUMNS, dtype=torch.int8) - 50
        x = torch.full((6000, N_COLUMNS), 3, dtype=torch.int8)
        out = mask(x, 0.2, middle, draws_of(0, 6000))
        assert out.dtype == torch.int8
        assert (x == 3).all()
        hit = out != x
        assert torch.equal(out, torch.where(hit, middle, x))
        rates = hit.float().mean(0)
        # The rate of one step is that of a byte's threshold.
        assert (rates - 0.2).abs().max() < 1 / 256 + 4 * np.sqrt(0.16 / 6000)
        other = mask(x, 0.2, middle, draws_of(0, 6000, seed=2)) != x
        pair = np.corrcoef(hit.flatten(), other.flatten())[0, 1]
        assert abs(pair) < 4.5 / np.sqrt(hit.numel())

    def test_none_and_all(self):
        x = addresses(20)
        middle = torch.full((N_COLUMNS,), -1.0)
        assert torch.equal(mask(x, 0.0, middle, draws_of(0, 20)), x)
        assert (mask(x, 1.0, middle, draws_of(0, 20)) == -1).all()

    def test_processes_mask_their_own_rows(self):
        n_rows = 2 * BLOCK
        x, middle = addresses(n_rows), torch.full((N_COLUMNS,), -1.0)
        whole = mask(x, 0.4, middle, draws_of(5, n_rows))
        for own in (slice(0, BLOCK), slice(BLOCK, n_rows)):
            mine = Draws(1, TRAINING, 5, n_rows, own)
            assert torch.equal(mask(x[own], 0.4, middle, mine), whole[own])


class TestCutOut:
    def test_whole_columns_become_their_middle(self):
        n_columns, n_steps, share = 10, 1000, 0.25
        x = addresses(3, n_columns)
        middle = -1.0 - torch.arange(n_columns)
        cut = np.zeros((n_steps, n_columns), bool)
        for step in range(n_steps):
            out = cut_out(x, share, middle, draws_of(step, 3))
            hit = out != x
            assert torch.equal(out, torch.where(hit, middle, x))
            assert torch.equal(hit, hit[:1].expand_as(hit))
            cut[step] = hit[0]
        assert torch.equal(x, addresses(3, n_columns))
        counts = cut.sum(axis=1)
        assert set(counts) == {2, 3}
        error = counts.mean() / n_columns - share
        assert abs(error) < 4.5 * 0.05 / np.sqrt(counts.size)
        assert stats.chisquare(cut.sum(axis=0)).pvalue > 1e-4
        alike = (cut[:-1] == cut[1:]).all(axis=1).mean()
        assert alike < 0.1

    def test_seeds_cut_other_columns(self):
        x, middle = addresses(3, 40), torch.full((40,), -1.0)
        first, other = (cut_out(x, 0.3, middle, draws_of(0, 3, s)) for s in (1, 2))
        assert not torch.equal(first, other)
        assert torch.equal(cut_out(x, 0.3, middle, draws_of(0, 3)), first)

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
            mine = Draws(1, TRAINING, 5, n_rows, own)
            assert torch.equal(cut_out(x[own], 0.4, middle, mine), whole[own])


class TestGaussian:
    center = torch.tensor([0.0, 5.0, -3.0, 1.0, 1.0, 1.0])
    scale = torch.tensor([1.0, 10.0, 0.1, 2.0, 3.0, 4.0])
    n_rows = 20_000

    def rows(self):
        rng = torch.Generator().manual_seed(0)
        return self.center + self.scale * torch.randn((self.n_rows, 6), generator=rng)

    def noisy(self, x, level, relative, seed=1):
        draws = draws_of(0, len(x), seed)
        return add_gaussian(x, level, self.center, self.scale, draws, relative)

    def test_absolute_noise_is_in_the_columns_units(self):
        x = self.rows()
        out = self.noisy(x, 0.3, False)
        assert torch.equal(x, self.rows())
        noise = (out - x) / (0.3 * self.scale)
        away = x - self.center
        for j in range(6):
            z = noise[:, j].double().numpy()
            assert stats.kstest(z, "norm").pvalue > 1e-3
            pair = np.corrcoef(z, away[:, j])[0, 1]
            assert abs(pair) < 4.5 / np.sqrt(len(z))

    def test_relative_noise_grows_with_the_scaled_value(self):
        x = self.rows()
        out = self.noisy(x, 0.3, True)
        assert torch.equal(x, self.rows())
        away = x - self.center
        clear = away.abs() > 0.05 * self.scale  # digits are lost near zero
        z = torch.where(clear, (out - x) / (0.3 * away), torch.nan)
        for j in range(6):
            column = z[:, j].double().numpy()
            column = column[~np.isnan(column)]
            assert len(column) > 0.9 * self.n_rows
            assert stats.kstest(column, "norm").pvalue > 1e-3

    def test_relative_noise_leaves_the_mean_where_it_is(self):
        x = self.center.expand(10, -1)
        assert torch.equal(self.noisy(x, 0.5, True), x)
        assert not torch.equal(self.noisy(x, 0.5, False), x)

    def test_seeds_have_noise_of_their_own(self):
        x = self.rows()
        first, other = (self.noisy(x, 0.3, False, seed) - x for seed in (1, 2))
        for j in range(6):
            pair = np.corrcoef(first[:, j], other[:, j])[0, 1]
            assert abs(pair) < 4.5 / np.sqrt(len(x))

    def test_no_noise(self):
        x = self.rows()
        assert torch.equal(self.noisy(x, 0.0, False), x)
