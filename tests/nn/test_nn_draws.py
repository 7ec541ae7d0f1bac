"""Draws are a function of seed, stream, step and row alone, and fair."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nn_parts import one_of
from scipy import stats

from numerai_features.nn import _noise
from numerai_features.nn._draws import (
    BLOCK,
    INITIAL,
    ORDER,
    TRAINING,
    VALIDATION,
    Draws,
    numpy_generator,
    torch_generator,
)
from numerai_features.nn._parallel import share_of

N_COLUMNS = 5


def swapped(draws):
    """Swap noise of a table whose cells tell where they come from."""
    cells = torch.arange(draws.n_rows * N_COLUMNS, dtype=torch.int32)
    x = cells.reshape(draws.n_rows, N_COLUMNS)
    return _noise.swap(x[draws.own], 0.4, draws)


KINDS = {
    "bytes": lambda draws: draws.bytes(N_COLUMNS),
    "normal": lambda draws: draws.normal(3),
    "chosen": lambda draws: draws.chosen(0.37, N_COLUMNS),
    "swap": swapped,
}
KEYS = {
    "seed": ((1, TRAINING, 0), (2, TRAINING, 0)),
    "stream": ((1, TRAINING, 0), (1, VALIDATION, 0)),
    "step": ((1, TRAINING, 0), (1, TRAINING, 1)),
    "far step": ((1, TRAINING, 3), (1, TRAINING, 259)),
    "seed and step": ((1, TRAINING, 2), (2, TRAINING, 1)),
}


def shares(n_rows, n_processes):
    for rank in range(n_processes):
        with one_of(n_processes, rank):
            yield share_of(n_rows)


class TestProcesses:
    @settings(max_examples=50, deadline=None)
    @given(st.integers(1, 20 * BLOCK), st.integers(1, 9))
    def test_shares_are_whole_blocks_in_order(self, n_rows, n_processes):
        parts = [*shares(n_rows, n_processes)]
        rows = np.concatenate([np.arange(n_rows)[part] for part in parts])
        np.testing.assert_array_equal(rows, np.arange(n_rows))
        assert all(part.start % BLOCK == 0 or part.start == n_rows for part in parts)
        sizes = [-(-(part.stop - part.start) // BLOCK) for part in parts]
        assert max(sizes) - min(sizes) <= 1

    @pytest.mark.parametrize("kind", KINDS)
    @settings(max_examples=15, deadline=None)
    @given(
        st.integers(1, 4 * BLOCK + 3),
        st.integers(1, 5),
        st.integers(0, 2**64 - 1),
        st.integers(0, 10**6),
    )
    def test_together_draw_what_one_draws(self, kind, n_rows, n_processes, seed, step):
        draw = KINDS[kind]
        alone = Draws(seed, TRAINING, step, n_rows)
        expected = [draw(alone), draw(alone)]
        parts = []
        for own in shares(n_rows, n_processes):
            mine = Draws(seed, TRAINING, step, n_rows, own)
            parts.append((draw(mine), draw(mine)))
            assert len(parts[-1][0]) == mine.n_own == own.stop - own.start
        for call, whole in enumerate(expected):
            together = torch.cat([part[call] for part in parts])
            assert together.dtype == whole.dtype
            assert torch.equal(together, whole)

    def test_a_row_draws_the_same_in_a_longer_batch(self):
        short = Draws(3, TRAINING, 7, 2 * BLOCK).bytes(4)
        long = Draws(3, TRAINING, 7, 5 * BLOCK).bytes(4)
        assert torch.equal(long[: 2 * BLOCK], short)

    def test_what_is_drawn_once_a_batch_is_the_same_in_all(self):
        alone = Draws(3, TRAINING, 7, 3 * BLOCK)
        expected = [alone.rng.random(), alone.rng.random()]
        assert expected[0] != expected[1]
        for own in shares(3 * BLOCK, 2):
            mine = Draws(3, TRAINING, 7, 3 * BLOCK, own)
            mine.bytes(5)  # of blocks of rows, whose generators are others
            assert [mine.rng.random(), mine.rng.random()] == expected

    def test_blocks_are_told_from_the_first_own_row(self):
        whole = Draws(3, TRAINING, 7, 2 * BLOCK + 9)
        numbers = [rng.random() for _, rng in whole.blocks()]
        own = slice(BLOCK, 2 * BLOCK + 9)
        mine = [*Draws(3, TRAINING, 7, 2 * BLOCK + 9, own).blocks()]
        assert [rows for rows, _ in mine] == [slice(0, BLOCK), slice(BLOCK, BLOCK + 9)]
        assert [rng.random() for _, rng in mine] == numbers[1:]


class TestIndependence:
    @pytest.mark.parametrize("changed", KEYS)
    def test_other_keys_draw_others(self, changed):
        cells = [
            Draws(seed, stream, step, 2 * BLOCK).bytes(64).numpy()
            for seed, stream, step in KEYS[changed]
        ]
        self.check_unlike(*cells)

    def test_calls_and_blocks_draw_others(self):
        draws = Draws(1, TRAINING, 0, 2 * BLOCK)
        first, second = draws.bytes(64).numpy(), draws.bytes(64).numpy()
        self.check_unlike(first, second)
        self.check_unlike(first[:BLOCK], first[BLOCK:])

    def check_unlike(self, a, b):
        same = stats.binomtest(int((a == b).sum()), a.size, 1 / 256)
        assert same.pvalue > 1e-4
        a, b = a.astype(float).ravel(), b.astype(float).ravel()
        assert abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(a.size)

    def test_no_two_keys_begin_the_same(self):
        seeds = (0, 1, 2, 3, 511, 2**31, 9_123_456_789_012_345_678)
        streams, steps = (ORDER, TRAINING, VALIDATION, INITIAL), (0, 1, 2, 3, 4096)
        beginnings = []
        for seed, stream, step in itertools.product(seeds, streams, steps):
            beginnings.append(numpy_generator(seed, stream, step).random())
            draws = Draws(seed, stream, step, 2 * BLOCK)
            for _ in range(2):
                beginnings.append(draws.rng.random())
                beginnings += [rng.random() for _, rng in draws.blocks()]
        assert len(set(beginnings)) == len(beginnings)

    def test_torch_generators_are_told_apart(self):
        keys = [*itertools.product((0, 1, 2**63 + 5), (INITIAL, ORDER), (0, 1, 2))]
        cpu = torch.device("cpu")
        numbers = {
            torch.rand(1, generator=torch_generator(cpu, *k)).item() for k in keys
        }
        assert len(numbers) == len(keys)
        again = [torch.rand(3, generator=torch_generator(cpu, 4, 5)) for _ in range(2)]
        assert torch.equal(*again)
        draws = Draws(1, TRAINING, 0, 30)  # each call is another generator
        assert draws.generator().initial_seed() != draws.generator().initial_seed()

    def test_process_wide_generators_are_left_alone(self):
        torch.manual_seed(0)
        np.random.seed(0)
        expected = torch.rand(1).item(), np.random.rand()
        torch.manual_seed(0)
        np.random.seed(0)
        for draw in KINDS.values():
            draw(Draws(1, TRAINING, 0, 30))
        assert (torch.rand(1).item(), np.random.rand()) == expected


class TestBytes:
    def test_are_uniform(self):
        cells = Draws(1, TRAINING, 0, 4096).bytes(31)
        counts = np.bincount(cells.numpy().ravel(), minlength=256)
        assert stats.chisquare(counts).pvalue > 1e-3

    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 1100), st.integers(0, 9))
    def test_shapes(self, n_rows, width):
        draws = Draws(1, TRAINING, 0, n_rows)
        for cells, dtype in (
            (draws.bytes(width), torch.uint8),
            (draws.normal(width), torch.float32),
            (draws.chosen(0.2, width), torch.bool),
        ):
            assert (tuple(cells.shape), cells.dtype) == ((n_rows, width), dtype)


class TestChosen:
    @pytest.mark.parametrize("share", [0.001, 1 / 256, 0.15, 0.5, 0.9, 0.999])
    def test_rate_is_the_share_on_the_mean(self, share):
        n_steps, n_rows, width = 800, 128, 16
        rates = np.array(
            [
                Draws(1, TRAINING, step, n_rows).chosen(share, width).float().mean()
                for step in range(n_steps)
            ]
        )
        below = 256 * share % 1  # of a byte's step, which is 1 / 256
        variance = share * (1 - share) / (n_rows * width)
        variance += below * (1 - below) / 256**2
        error = (rates.mean() - share) / np.sqrt(variance / n_steps)
        assert abs(error) < 4.5
        # Thresholds of one step and the next are drawn apart.
        pair = np.corrcoef(rates[:-1], rates[1:])[0, 1]
        assert abs(pair) < 4.5 / np.sqrt(n_steps)

    @pytest.mark.parametrize("share", [0.15, 0.999])
    def test_ones_and_zeros_of_another_type(self, share):
        for step in range(20):
            cells = Draws(1, TRAINING, step, 40).chosen(share, 6)
            for dtype in (torch.float32, torch.int8):
                same = Draws(1, TRAINING, step, 40).chosen(share, 6, dtype)
                assert same.dtype == dtype
                assert torch.equal(same, cells.to(dtype))

    @pytest.mark.parametrize("share", [0.0, 1.0])
    def test_none_and_all(self, share):
        for step in range(100):
            cells = Draws(1, TRAINING, step, 40).chosen(share, 40)
            assert cells.all() if share else not cells.any()

    def test_cells_are_independent(self):
        cells = Draws(1, TRAINING, 0, 40_000).chosen(0.3, 6).numpy()
        between = np.corrcoef(cells.T)[np.triu_indices(6, 1)]
        assert np.abs(between).max() < 4 / np.sqrt(len(cells))
        below = np.corrcoef(cells[:-1, 0], cells[1:, 0])[0, 1]
        assert abs(below) < 4 / np.sqrt(len(cells))


@pytest.fixture(scope="module")
def cells():
    return Draws(1, TRAINING, 0, 10_000).normal(30).double().numpy()


class TestNormal:
    def test_is_normal(self, cells):
        assert stats.kstest(cells.ravel(), "norm").pvalue > 1e-3

    def test_moments(self, cells):
        x, n = cells.ravel(), cells.size
        for power, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
            error = (x**power).mean() - mean
            assert abs(error) < 4.5 * np.sqrt(variance / n), power

    def test_tails(self, cells):
        for bound in (2, 3, 3.5):
            beyond = int((np.abs(cells) > bound).sum())
            share = 2 * stats.norm.sf(bound)
            assert stats.binomtest(beyond, cells.size, share).pvalue > 1e-4

    def test_columns_and_rows_are_independent(self, cells):
        columns = np.concatenate([cells[:-1, :16], cells[1:, :16]], axis=1)
        between = np.corrcoef(columns.T)[np.triu_indices(32, 1)]
        assert np.abs(between).max() < 4.5 / np.sqrt(len(columns))
