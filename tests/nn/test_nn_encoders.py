"""Networks in numpy: what they tell as steps is what they do after training."""

import pickle

import numpy as np
import pytest
import torch
from nn_parts import bins, denoising, table_of

from numerai_features.encoders import Encoder
from numerai_features.nn._batches import RowBatches
from numerai_features.nn._layers import Block, initialize
from numerai_features.nn._optimizer import TrainingSettings
from numerai_features.nn._supervised import SupervisedAutoencoder, Supervising
from numerai_features.nn._training import Trainer
from numerai_features.nn._umap import EdgeBatches, Layout, Perceptron

N_ROWS, N_FEATURES, CONSTANT = 300, 12, 3
EVERY = np.arange(N_ROWS)


def a_table(kind):
    """Rows in bytes or floats, one column constant, and targets in [0, 1]."""
    X = bins(N_ROWS, N_FEATURES)
    y = X[:, :2] / 5 + np.random.default_rng(1).random((N_ROWS, 2)) / 5
    X[:, CONSTANT] = 1
    if kind == "floats":
        X = 3 * X + np.random.default_rng(0).normal(size=X.shape) + 20
        X[:, CONSTANT] = 7.5
    return table_of(X, targets=y)


def units_of(table):
    """What the table's columns are standardised by."""
    X = table.X.astype(np.float64)
    scale = X.std(axis=0)
    scale[CONSTANT] = 0
    return X.mean(axis=0), scale


def dtype_of(table):
    """What embedders make of such rows: floats keep their digits."""
    return np.float32 if table.in_bytes else np.float64


def train(task, batches):
    settings = TrainingSettings(max_epochs=3, learning_rate=0.05, weight_decay=0.01)
    Trainer(task, batches, settings).run()
    assert not task.training


def close(encoder, X, expected):
    """An encoder gives what the network gives."""
    got = encoder.transform(X)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)


@pytest.fixture(params=["bytes", "floats"], scope="module")
def table(request):
    return a_table(request.param)


def rows_like(table):
    """Rows of the table, and some that the network has not seen."""
    rng = np.random.default_rng(5)
    order = np.argsort(rng.random(table.X.shape), axis=0)
    shuffled = np.take_along_axis(table.X, order, axis=0)
    return np.concatenate([table.X, shuffled])


@torch.no_grad()
def network_on(table, function, X):
    """Return what a function of rows as they are taken gives for rows as they are."""
    mean, scale = units_of(table)
    if not table.in_bytes:
        X = ((X - mean) / np.where(scale > 0, scale, 1)).astype(np.float32)
    return function(torch.from_numpy(X))


@pytest.fixture(
    params=[((9, 6), "silu"), ((), "silu"), ((8,), "identity"), ((8,), "tanh")],
    ids=str,
    scope="module",
)
def autoencoder(request, table):
    hidden, activation = request.param
    task = denoising(
        1, table, hidden=hidden, activation=activation, dropout=0.1,
        n_varying=table.n_varying,
    )  # fmt: skip
    train(task, RowBatches(table, 1, EVERY, 64))
    return task.network


class TestAutoencoder:
    def activations(self, autoencoder, table, X):
        """Return what each block gives."""
        seen = []
        blocks = [m for m in autoencoder.modules() if isinstance(m, Block)]
        hooks = [
            block.register_forward_hook(lambda block, x, y: seen.append(y.numpy()))
            for block in blocks
        ]
        network_on(table, autoencoder.below_output, X)
        for hook in hooks:
            hook.remove()
        assert len(seen) == len(blocks)
        return seen

    def test_code(self, autoencoder, table):
        X = rows_like(table)
        code = self.activations(autoencoder, table, X)[len(autoencoder.encoder) - 1]
        assert code.shape == (len(X), 3)
        assert code.std(axis=0).min() > 0.1
        close(autoencoder.code(units_of(table), dtype_of(table)), X, code)

    def test_deep_code(self, autoencoder, table):
        X = rows_like(table)
        every = np.concatenate(self.activations(autoencoder, table, X), axis=1)
        encoder = autoencoder.code(units_of(table), dtype_of(table), deep=True)
        assert encoder.n_out(N_FEATURES) == every.shape[1]
        close(encoder, X, every)

    def test_decoding(self, autoencoder, table):
        X = rows_like(table)
        code = self.activations(autoencoder, table, X)[len(autoencoder.encoder) - 1]
        restored = network_on(
            table, lambda x: autoencoder.output(autoencoder.below_output(x)), X
        )
        mean, scale = units_of(table)
        decoder = autoencoder.decoding(units_of(table), dtype_of(table))
        close(decoder, code, restored.double().numpy() * scale + mean)
        np.testing.assert_allclose(
            decoder.transform(code)[:, CONSTANT], mean[CONSTANT], rtol=1e-6
        )

    def test_from_rows_to_rows(self, autoencoder, table):
        units, dtype = units_of(table), dtype_of(table)
        X = table.X
        latents = autoencoder.code(units, dtype).transform(X)
        restored = autoencoder.decoding(units, dtype).transform(latents)
        error = ((restored - X) ** 2).mean(axis=0)
        assert error.sum() < 0.8 * X.var(axis=0, dtype=float).sum()

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_arrays_have_the_type_asked_for(self, autoencoder, table, dtype):
        units = units_of(table)
        for encoder in (
            autoencoder.code(units, dtype),
            autoencoder.code(units, dtype, deep=True),
            autoencoder.decoding(units, dtype),
        ):
            assert encoder.dtype == dtype
            assert {a.dtype for a in encoder._arrays()} == {np.dtype(dtype)}
            again = pickle.loads(pickle.dumps(encoder))
            assert [name for name, _ in again.steps] == [n for n, _ in encoder.steps]

    def test_steps_are_copies(self, autoencoder, table):
        encoder = autoencoder.code(units_of(table), dtype_of(table))
        before = encoder.transform(table.X)
        state = {k: v.clone() for k, v in autoencoder.state_dict().items()}
        with torch.no_grad():
            for p in autoencoder.parameters():
                p.add_(1.0)
        np.testing.assert_array_equal(encoder.transform(table.X), before)
        autoencoder.load_state_dict(state)


@pytest.fixture(params=["mse", "bce"], scope="module")
def loss(request):
    return request.param


@pytest.fixture(params=[(9,), (9, 8, 7)], ids=str, scope="module")
def supervised(request, table, loss):
    hidden = request.param
    network = SupervisedAutoencoder(
        table, 2, n_components=5, decoder_units=4, hidden=hidden,
        activation="silu", noise_level=0.1, dropout=(0.1,) * (3 + len(hidden)),
    )  # fmt: skip
    initialize(network, 1)
    middle = table.as_taken(table.X.mean(axis=0))
    task = Supervising(
        network, loss, (1, 1, 1), middle, table.n_varying, has_eras=False
    )
    train(task, RowBatches(table, 1, EVERY, 64))
    return network


class TestSupervisedAutoencoder:
    def test_steps(self, supervised, loss, table):
        X = rows_like(table)
        code, _, _, prediction = network_on(table, supervised, X)
        if loss == "bce":
            prediction = prediction.sigmoid()
        assert code.std(0).min() > 0.01
        assert prediction.std(0).min() > 0.01
        to_code, to_targets = supervised.steps(
            units_of(table), dtype_of(table), sigmoid=loss == "bce"
        )
        close(to_code, X, code.numpy())
        close(to_targets, X, prediction.numpy())
        assert to_code.dtype == to_targets.dtype == dtype_of(table)

    def test_a_constant_column_counts_for_nothing(self, supervised, table):
        both = supervised.steps(units_of(table), dtype_of(table), sigmoid=False)
        X = table.X.copy()
        X[:, CONSTANT] += 2
        for encoder in both:
            np.testing.assert_array_equal(
                encoder.transform(X), encoder.transform(table.X)
            )


class TestPerceptron:
    def layout(self, table):
        rng = np.random.default_rng(0)
        heads = rng.integers(0, N_ROWS, 500)
        edges = heads, (heads + 1 + rng.integers(0, 9, 500)) % N_ROWS, np.ones(500)
        task = Layout(
            Perceptron((N_FEATURES, 9, 5, 2), "tanh", table), 1.6, 0.9, 5.0,
            Perceptron((2, 5, N_FEATURES), "silu"), 0.5,
        )  # fmt: skip
        initialize(task, 1)
        train(task, EdgeBatches(table, 1, edges, EVERY, 64, 16, 5))
        return task

    def test_steps(self, table):
        """With units rows are as they are, without as they are standardised."""
        task, X, dtype = self.layout(table), rows_like(table), dtype_of(table)
        places = network_on(table, task.encoder, X).numpy()
        assert places.std(axis=0).min() > 0.1
        close(Encoder(task.encoder.steps(dtype, units_of(table))), X, places)
        mean, scale = units_of(table)
        t = (X - mean) / np.where(scale > 0, scale, 1)
        close(Encoder(task.encoder.steps(np.float64)), t, places)
        with torch.no_grad():
            restored = task.decoder(torch.from_numpy(places)).numpy()
        close(Encoder(task.decoder.steps(dtype)), places, restored)
        arrays = Encoder(task.decoder.steps(dtype))._arrays()
        assert {a.dtype for a in arrays} == {np.dtype(dtype)}

    def test_a_single_layer(self, table):
        net = Perceptron((N_FEATURES, 2), "silu", table)
        initialize(net, 1)
        X = rows_like(table)
        steps = net.steps(dtype_of(table), units_of(table))
        assert len(steps) == 1
        close(Encoder(steps), X, network_on(table, net, X).numpy())
