"""Attention against plain numpy, which makes the table of all pairs of tokens."""

import array_api_compat.numpy as xp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from numerai_features.encoders import Encoder, FeatureTokens, Positions
from numerai_features.encoders import _attention as steps
from numerai_features.nn._attention import Attention, AttentionBlock, LayerNorm
from numerai_features.nn._draws import TRAINING, Draws
from numerai_features.nn._era_transformer import Tokens, off_diagonal
from numerai_features.nn._layers import initialize

WIDTH, N_HEADS, N_POINTS = 12, 3, 4
KINDS = ["linear", "full", "induced"]
each_kind = pytest.mark.parametrize("kind", KINDS)


def drawn(module, seed=0):
    """Give every parameter other numbers than the initial ones."""
    initialize(module, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return module


def table(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, WIDTH))


def state_of(module):
    return {k: v.double().numpy() for k, v in module.state_dict().items()}


def weights_of_pairs(q, k, kind):
    """Return the (n, m) shares with which each query looks at each key."""
    if kind == "full":
        near = np.exp(q @ k.T / np.sqrt(q.shape[1]))
    else:
        phi_q, phi_k = (np.where(z > 0, z + 1, np.exp(z)) for z in (q, k))
        near = phi_q @ phi_k.T
    return near / near.sum(axis=1, keepdims=True)


def attend(state, name, x, others, kind):
    q, k, v = (
        side @ state[f"{name}.{which}.weight"].T
        for side, which in ((x, "query"), (others, "key"), (others, "value"))
    )
    size = WIDTH // N_HEADS
    parts = []
    for head in range(N_HEADS):
        own = slice(head * size, (head + 1) * size)
        parts.append(weights_of_pairs(q[:, own], k[:, own], kind) @ v[:, own])
    out = np.hstack(parts)
    return out @ state[f"{name}.out.weight"].T + state[f"{name}.out.bias"]


def normed(x, gamma, beta):
    centred = x - x.mean(axis=1, keepdims=True)
    return centred / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5) * gamma + beta


def plain_attention(state, x, kind):
    """Return what the tokens of one sequence learn, by the table of all pairs."""
    if kind != "induced":
        return attend(state, "spread", x, x, kind)
    points = state["points"]
    held = points + attend(state, "gather", points, x, "full")
    held = normed(held, state["norm.gamma"], state["norm.beta"])
    return attend(state, "spread", x, held, "full")


@each_kind
class TestAttention:
    @pytest.mark.parametrize("n", [1, 2, 50])
    def test_is_the_reference_of_all_pairs(self, kind, n):
        layer = drawn(Attention(WIDTH, N_HEADS, kind, N_POINTS))
        x = table(n)
        expected = plain_attention(state_of(layer), x, kind)
        found = layer(torch.from_numpy(x).float(), [slice(0, n)])
        np.testing.assert_allclose(found.detach(), expected, rtol=1e-4, atol=2e-5)
        numpy = layer.step(np.float64)(x, xp)
        # the linear form adds 1e-6 to a divisor, which the reference does not
        np.testing.assert_allclose(numpy, expected, rtol=2e-5, atol=2e-5)

    def test_sequences_do_not_see_each_other(self, kind):
        layer = drawn(Attention(WIDTH, N_HEADS, kind, N_POINTS))
        x = torch.from_numpy(table(30)).float()
        parts = [slice(0, 1), slice(1, 20), slice(20, 30)]
        together = layer(x, parts)
        for part in parts:
            alone = layer(x[part], [slice(0, part.stop - part.start)])
            torch.testing.assert_close(together[part], alone)
        by_five = layer(x, 5)
        slices = [slice(i, i + 5) for i in range(0, 30, 5)]
        torch.testing.assert_close(by_five, layer(x, slices))

    @given(st.integers(0, 2**20), st.integers(2, 30))
    def test_the_order_of_tokens_does_not_matter(self, kind, seed, n):
        step = drawn(Attention(WIDTH, N_HEADS, kind, N_POINTS), seed).step(np.float32)
        x = table(n, seed).astype(np.float32)
        order = np.random.default_rng(seed).permutation(n)
        np.testing.assert_allclose(step(x[order], xp), step(x, xp)[order], atol=1e-5)

    def test_numpys_form_of_many_tokens(self, kind, monkeypatch):
        """Blocks of queries are as the whole table of pairs."""
        step = drawn(Attention(WIDTH, N_HEADS, kind, N_POINTS)).step(np.float64)
        x = table(40)
        whole = step(x, xp)
        monkeypatch.setattr(steps, "_CELLS", 3 * 40 * 7)  # seven tokens at a time
        np.testing.assert_allclose(step(x, xp), whole, rtol=1e-12)
        tokens = x.reshape(8, 5, WIDTH)
        each = [step(one, xp) for one in tokens]
        np.testing.assert_allclose(step(tokens, xp), each, rtol=1e-12)

    @pytest.mark.parametrize("size", [1e-4, 30.0])
    def test_stays_finite(self, kind, size):
        layer = drawn(Attention(WIDTH, N_HEADS, kind, N_POINTS))
        x = (size * torch.from_numpy(table(20)).float()).requires_grad_()
        layer(x, [slice(0, 20)]).square().sum().backward()
        assert x.grad is not None
        assert x.grad.isfinite().all()
        assert np.isfinite(layer.step(np.float32)(x.detach().numpy(), xp)).all()


class TestBlock:
    @each_kind
    def test_is_its_steps(self, kind):
        block = drawn(AttentionBlock(WIDTH, N_HEADS, kind, N_POINTS, "silu", 0.5))
        x = table(30).astype(np.float32)
        codes = np.repeat([2, 0, 1], [4, 25, 1])
        slices = [slice(0, 4), slice(4, 29), slice(29, 30)]
        expected = block(torch.from_numpy(x), slices).detach().numpy()
        encoder = Encoder(block.steps("block", np.float32))
        assert encoder.by_era
        np.testing.assert_allclose(
            encoder.transform(x, eras=codes), expected, atol=1e-5
        )
        order = np.random.default_rng(0).permutation(30)
        found = encoder.transform(x[order], eras=codes[order])
        np.testing.assert_allclose(found, expected[order], atol=1e-5)

    def test_dropout_drops_a_share_and_keeps_the_mean(self):
        block = drawn(AttentionBlock(4, 2, "linear", 1, "relu", 0.4)).train()
        x, draws = torch.ones(3000, 4), Draws(0, TRAINING, 0, 3000)
        dropped = block._dropped(x, draws)
        assert (dropped == 0).float().mean() == pytest.approx(0.4, abs=0.02)
        assert dropped.mean() == pytest.approx(1, abs=0.03)
        tokens = block._dropped(torch.ones(6000, 4), draws)  # two tokens a row
        assert (tokens == 0).float().mean() == pytest.approx(0.4, abs=0.02)

    def test_layer_norm(self):
        norm = drawn(LayerNorm(WIDTH))
        x, state = table(9), state_of(norm)
        expected = normed(x, state["gamma"], state["beta"])
        np.testing.assert_allclose(norm(torch.from_numpy(x)).detach(), expected, 1e-4)
        np.testing.assert_allclose(norm.step(np.float64)(x, xp), expected)


class TestPositions:
    def test_sines_and_cosines_of_the_place(self):
        waves = steps.sinusoids(50, 6)
        for place in (0, 1, 49):
            for i in range(3):
                angle = place / 10_000 ** (2 * i / 6)
                assert waves[place, 2 * i] == pytest.approx(np.sin(angle))
                assert waves[place, 2 * i + 1] == pytest.approx(np.cos(angle))

    def test_are_added_to_the_rows_of_a_block(self):
        x = table(8).astype(np.float32)
        encoder = Encoder([("places", Positions())])
        codes = np.array([0, 1] * 4)
        out = encoder.transform(x, eras=codes)
        np.testing.assert_allclose(
            out[1::2] - x[1::2], steps.sinusoids(4, WIDTH), atol=1e-6
        )


class TestTokens:
    def test_are_sums_of_vectors_of_bins(self):
        edges = np.array([[0.5, 1.0, np.nan], [1.5, 2.0, np.nan]])
        tokens = drawn(Tokens(torch.from_numpy(edges).float(), 4, 2))
        assert tokens.borders == (0, 2, 3)
        x = np.array([[0, 1.5, 7], [1, 0, -7], [2, 9, 0]])
        bins = np.array([[0, 1, 0], [1, 0, 0], [2, 2, 0]])
        vectors = tokens.vectors.detach().double().numpy().reshape(3, 3, 4)
        groups = tokens.groups.detach().double().numpy()
        expected = np.empty((3, 2, 4))
        for row in range(3):
            for group, columns in enumerate(([0, 1], [2])):
                own = sum(vectors[bins[row, j], j] for j in columns)
                expected[row, group] = own + groups[group]
        found = tokens(torch.from_numpy(x).float()).detach()
        np.testing.assert_allclose(found.view(3, 2, 4), expected, atol=1e-6)
        step = tokens.step(edges, np.float64)
        np.testing.assert_allclose(step(x, xp), expected, atol=1e-12)
        assert isinstance(step, FeatureTokens)
        assert not Encoder([("tokens", step)]).by_era


class TestOrthogonality:
    def test_is_the_mean_square_of_correlations(self):
        rng = np.random.default_rng(0)
        code = rng.normal(size=(50, 3)) @ rng.normal(size=(3, 3)) + 5
        correlations = np.corrcoef(code.T)
        expected = np.mean(correlations[~np.eye(3, dtype=bool)] ** 2)
        found = off_diagonal(torch.from_numpy(code), None)
        assert float(found) == pytest.approx(expected, rel=1e-9)

    def test_weights_are_copies(self):
        rng = np.random.default_rng(1)
        code = rng.normal(size=(20, 4)) @ rng.normal(size=(4, 4))
        counts = rng.integers(0, 4, 20)
        copies = off_diagonal(torch.from_numpy(np.repeat(code, counts, axis=0)), None)
        weighted = off_diagonal(
            torch.from_numpy(code), torch.from_numpy(counts.astype(float))
        )
        assert float(weighted) == pytest.approx(float(copies), rel=1e-9)

    def test_of_one_column_and_of_constant_ones(self):
        assert off_diagonal(torch.ones(5, 1), None) == 0
        code = torch.ones(5, 2, requires_grad=True)
        loss = off_diagonal(code, None)
        loss.backward()
        assert loss == 0
        assert code.grad is not None
        assert code.grad.isfinite().all()
