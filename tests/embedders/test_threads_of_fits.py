"""The number of threads changes no bit of fits whose products are shared out."""

import joblib
import numpy as np
import pytest
import torch

from numerai_features.embedders import (
    ContrastiveEmbedder,
    DAEEmbedder,
    EraAutoencoder,
    EraMLP,
    EraTransformer,
    MaskedAutoencoder,
    SequenceDAE,
    SupervisedAEMLP,
    UMAPEmbedder,
)
from numerai_features.nn import _threads

OPTIONS = {"batch_size": 1024, "max_epochs": 1, "random_state": 0}
FITS = [
    DAEEmbedder(8, hidden=(128,), **OPTIONS),
    DAEEmbedder(8, hidden=(128,), precision="bfloat16", **OPTIONS),
    SupervisedAEMLP(32, hidden=(128, 64), dropout=(0.1,) * 5, **OPTIONS),
    EraMLP(
        (128, 64), feature_dropout=0.1, eras_per_batch=12, max_epochs=1, random_state=0
    ),
    EraTransformer(8, eras_per_batch=12, max_epochs=1, random_state=0),
    MaskedAutoencoder(8, hidden=(128,), loss="bins", target_aware=True, **OPTIONS),
    ContrastiveEmbedder(8, hidden=(128,), vime_weight=1, **OPTIONS),
    EraAutoencoder(8, hidden=(128,), random_units=(100, 200), **OPTIONS),
    SequenceDAE(8, hidden=128, **OPTIONS),
    UMAPEmbedder(2, hidden=(128, 128), n_neighbors=5, max_epochs=1, random_state=0),
]


@pytest.fixture(autouse=True)
def _four_cores(monkeypatch):
    monkeypatch.setattr(joblib, "cpu_count", lambda only_physical_cores: 4)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("estimator", FITS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("dtype", [np.int8, np.float32])
def test_the_same_to_the_bit(estimator, dtype, monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 5, (2500, 500)).astype(dtype)
    eras = np.repeat(np.arange(1, 26), 100)
    crews, plain = [], _threads._Crew.do

    def look(self, function, parts):
        crews.append((self.size, len(parts)))
        plain(self, function, parts)

    monkeypatch.setattr(_threads._Crew, "do", look)
    latents = []
    for n_jobs in (1, 2, 4):
        estimator.set_params(n_jobs=n_jobs).fit(X, X[:, 0] / 4, eras=eras)
        latents.append(estimator.encoder_.transform(X))
    np.testing.assert_array_equal(latents[1], latents[0])
    np.testing.assert_array_equal(latents[2], latents[0])
    assert {size for size, _ in crews} == {1, 2, 4}
    assert max(n_parts for _, n_parts in crews) > 1  # or it would say nothing
