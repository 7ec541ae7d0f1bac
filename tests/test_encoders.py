import dataclasses
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from numerai_features.encoders import (
    Activation,
    Affine,
    Argmax,
    Concatenate,
    Encoder,
    Fill,
    Quantize,
    Softmax,
)


def deep_encoder(rng, n_in=6, dtype=np.float32):
    def affine(i, o):
        return Affine(rng.normal(size=(i, o)).astype(dtype), np.ones(o, dtype))

    code = Encoder([("hidden", affine(n_in, 5)), ("swish", Activation("silu"))])
    soft = Encoder([("logits", affine(n_in, 3)), ("softmax", Softmax())])
    both = Concatenate((code, Encoder([]), soft))
    return Encoder([("fill", Fill(np.full(n_in, 2, dtype))), ("deep", both)])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 17))
def test_rows_do_not_know_their_neighbours(seed, n_rows, block_rows):
    rng = np.random.default_rng(seed)
    encoder = deep_encoder(rng)
    X = rng.integers(0, 5, (n_rows, 6)).astype(np.int8)
    whole = encoder.transform(X)
    assert whole.shape == (n_rows, encoder.n_out(6)) == (n_rows, 14)
    np.testing.assert_allclose(
        encoder.transform(X, block_rows=block_rows), whole, rtol=1e-5, atol=1e-6
    )
    order = rng.permutation(n_rows)
    np.testing.assert_allclose(
        encoder.transform(X[order]), whole[order], rtol=1e-5, atol=1e-6
    )


@dataclasses.dataclass(frozen=True)
class LessTheMean:
    """A step that needs whole eras: rows less the mean of their block."""

    def __call__(self, x, xp):
        return x - xp.mean(x, axis=0, keepdims=True)

    def n_out(self, n_in):
        return n_in


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_an_era_at_a_time(kind):
    """Eras in any order: each is encoded as if alone, and its rows stay in place."""
    rng = np.random.default_rng(0)
    X, eras = rng.integers(0, 5, (300, 6)).astype(np.int8), rng.integers(3, 9, 300)
    weight = Affine(rng.normal(size=(6, 2)).astype(np.float32))
    encoder = Encoder([("centre", LessTheMean()), ("code", weight)])
    got = np.asarray(encoder.transform(kind(X), eras=eras))
    assert got.dtype == np.float32
    for era in range(3, 9):
        x = X[eras == era].astype(np.float32)
        expected = (x - x.mean(axis=0)) @ weight.weight
        np.testing.assert_allclose(got[eras == era], expected, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["hardswish", "identity", "relu", "sigmoid", "silu", "tanh"]
)
def test_activations_are_torchs(name):
    x = np.linspace(-90, 90, 1001, dtype=np.float32)[:, None]
    torchs = {
        "hardswish": torch.nn.Hardswish(),
        "identity": torch.nn.Identity(),
        "silu": torch.nn.SiLU(),
    }
    expected = torchs.get(name, getattr(torch, name, None))(torch.from_numpy(x))
    got = Encoder([("a", Activation(name))]).transform(x)
    np.testing.assert_allclose(got, expected.numpy(), rtol=2e-6, atol=1e-36)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_torch_tensors_give_the_same_latents(dtype):
    rng = np.random.default_rng(0)
    encoder = deep_encoder(rng, dtype=dtype)
    X = rng.integers(0, 5, (50, 6)).astype(np.int8)
    latents = encoder.transform(torch.from_numpy(X))
    assert isinstance(latents, torch.Tensor)
    assert latents.dtype == torch.float32
    np.testing.assert_allclose(latents.numpy(), encoder.transform(X), atol=1e-5)


def test_softmax_argmax_and_quantize():
    x = np.array([[1.0, 3.0, 2.0], [900.0, 0.0, 0.0]], dtype=np.float32)
    soft = Encoder([("s", Softmax())]).transform(x)
    expected = torch.softmax(torch.from_numpy(x), dim=1).numpy()
    np.testing.assert_allclose(soft, expected, rtol=1e-6)
    top = Encoder([("a", Argmax())])
    np.testing.assert_array_equal(top.transform(x), [[1], [0]])
    assert top.n_out(3) == 1
    edges = np.array([[1.0, 2.0], [0.0, 1.0], [0.0, 5.0]], dtype=np.float32)
    bins = Encoder([("q", Quantize(edges))])
    np.testing.assert_array_equal(bins.transform(x), [[0, 2, 1], [2, 0, 0]])
    np.testing.assert_array_equal(
        bins.transform(torch.from_numpy(x)).numpy(), [[0, 2, 1], [2, 0, 0]]
    )


def test_nan_is_filled_by_column():
    encoder = Encoder([("fill", Fill(np.array([7, 8], np.float32)))])
    X = np.array([[np.nan, 1.0], [2.0, np.nan]])
    np.testing.assert_array_equal(encoder.transform(X), [[7, 1], [2, 8]])
    np.testing.assert_array_equal(
        encoder.transform(torch.from_numpy(X)).numpy(), [[7, 1], [2, 8]]
    )


def test_an_encoder_is_immutable_small_and_written_where_it_is_told():
    weight = np.ones((2, 1), np.float32)
    encoder = Encoder([("code", Affine(weight))])
    weight[:] = 5
    with pytest.raises(ValueError, match="read-only"):
        encoder.steps[0][1].weight[0] = 3
    out = np.empty((1, 1), np.float16)
    assert encoder.transform(np.ones((1, 2), np.int8), out=out) is out
    assert out[0, 0] == 2
    assert encoder.n_bytes == 8
    assert "code" in repr(encoder)


def test_a_pickle_loads_and_works_without_torch(tmp_path):
    encoder = deep_encoder(np.random.default_rng(0))
    X = np.ones((3, 6), np.int8)
    path = tmp_path / "encoder.pickle"
    path.write_bytes(pickle.dumps((encoder, X, encoder.transform(X))))
    program = (
        "import pickle, sys, numpy as np\n"
        f"encoder, X, Z = pickle.load(open({str(path)!r}, 'rb'))\n"
        "assert np.array_equal(encoder.transform(X), Z)\n"
        "assert not {'torch', 'sklearn', 'pandas'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Activation("gelu"), "must be one of .*relu.*; got 'gelu'"),
        (lambda: Encoder([("a", Softmax()), ("a", Softmax())]), "distinct names"),
    ],
)
def test_bad_steps_are_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("n_eras", [3, 12])
def test_eras_are_one_a_row(kind, n_eras):
    encoder = Encoder([("a", Activation("relu"))])
    with pytest.raises(ValueError, match=r"one number a row, shape \(10,\)"):
        encoder.transform(kind(np.ones((10, 2))), eras=np.zeros(n_eras, int))
