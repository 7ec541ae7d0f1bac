"""Ctrl-C in the midst of training comes out of whatever trains, which keeps nothing."""

import os
import signal
import threading

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.validation import check_is_fitted

from numerai_features.augmenters import CutoutAugmenter
from numerai_features.compose import AugmentedRegressor, LatentFeatures
from numerai_features.embedders import DAEEmbedder, SupervisedAEMLP
from numerai_features.metrics import make_era_scorer
from numerai_features.model_selection import EraKFold, cross_val_predict_eras

# Python's own rmtree may be interrupted before it has taken hold of what it opened
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in.*ScandirIterator"
    ":pytest.PytestUnraisableExceptionWarning"
)

NET = {"n_components": 3, "hidden": (8,), "batch_size": 64, "patience": None}
CV = EraKFold(2, purge=2)
FOREVER = 10_000  # epochs


@pytest.fixture
def pressed(tmp_path):
    """Press Ctrl-C when a network that keeps its state in this folder is trained."""
    folder, over = tmp_path / "states", threading.Event()
    # which whoever starts the tests in the background has set to be ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def press():
        while not over.is_set():
            if any(folder.glob("*.checkpoint")):
                os.kill(os.getpid(), signal.SIGINT)
                return
            over.wait(0.01)

    finger = threading.Thread(target=press)
    finger.start()
    yield {"checkpoint": folder, "checkpoint_every": 0, "max_epochs": FOREVER}
    over.set()
    finger.join()
    signal.signal(signal.SIGINT, before)


def latents(memory=None, **options):
    net = DAEEmbedder(**NET, random_state=0, **{"max_epochs": 2, **options})
    return LatentFeatures(net, memory=memory)


def kept_in(folder):
    return list(folder.iterdir()) if folder.exists() else []


def assert_unfitted(estimator):
    with pytest.raises(NotFittedError, match="not fitted"):
        check_is_fitted(estimator)


def test_latent_features(panel, pressed, tmp_path):
    model = latents(tmp_path / "cache", **pressed)
    with pytest.raises(KeyboardInterrupt):
        model.fit_transform(panel.X)
    assert kept_in(tmp_path / "cache") == []
    assert_unfitted(model)
    short = latents(tmp_path / "cache").fit_transform(panel.X)
    np.testing.assert_array_equal(short, latents().fit_transform(panel.X))


@pytest.mark.parametrize("nested", [True, False])
def test_cross_val_predict_eras(panel, pressed, tmp_path, nested):
    first = latents(**pressed)
    first = first if nested else first.embedders
    with pytest.raises(KeyboardInterrupt):
        cross_val_predict_eras(
            make_pipeline(first, Ridge()), panel.to_frame(targets=[]), panel.y(),
            cv=CV, memory=tmp_path / "cache", verbose=False,
        )  # fmt: skip
    assert kept_in(tmp_path / "cache") == []


def test_a_search(panel, frame, pressed, tmp_path):
    model = make_pipeline(latents(tmp_path / "cache", **pressed), Ridge())
    search = GridSearchCV(
        model, {"ridge__alpha": [1.0, 2.0]}, cv=CV, scoring=make_era_scorer()
    )
    with pytest.raises(KeyboardInterrupt):
        search.fit(frame, panel.y())
    assert kept_in(tmp_path / "cache") == []
    assert not hasattr(search, "cv_results_")


def test_augmented_regressor(panel, pressed):
    net = SupervisedAEMLP(
        **NET, decoder_units=4, dropout=(0.0, 0.0, 0.0, 0.0), random_state=0, **pressed
    )
    model = AugmentedRegressor(net, CutoutAugmenter(0.5, random_state=0))
    with pytest.raises(KeyboardInterrupt):
        model.fit(panel.X, panel.y(), eras=panel.eras)
    assert_unfitted(model)
