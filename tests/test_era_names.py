"""Eras without numbers stay names, whoever hands them on to whom."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, RegressorMixin, TransformerMixin
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from numerai_features import make_era_panel
from numerai_features._validation import known_numbers, validate_rows
from numerai_features.augmenters import (
    ComposeAugmenters,
    CutoutAugmenter,
    DreamAugmenter,
    RidgeMixtureTargets,
)
from numerai_features.compose import AugmentedRegressor, LatentFeatures
from numerai_features.embedders import (
    DAEEmbedder,
    FactorAnalysisEmbedder,
    SupervisedAEMLP,
)
from numerai_features.metrics import make_era_scorer
from numerai_features.model_selection import EraKFold, cross_val_predict_eras

NAMES = np.array(["ash", "birch", "cedar", "elm", "fir", "hazel", "oak", "pine"])
CUTOUT = CutoutAugmenter(copies=0.5, random_state=0)


class Recorder(TransformerMixin, RegressorMixin, BaseEstimator):
    """Keeps the eras that it is handed; an embedder and a model."""

    __metadata_request__fit = {"eras": True}
    __metadata_request__transform = {"eras": True}
    __metadata_request__predict = {"eras": True}

    def fit(self, X, y=None, *, eras=None):
        X, index = validate_rows(self, X, eras, reset=True)
        self.fit_eras_, self.fitted_eras_ = eras, known_numbers(index)
        return self

    def transform(self, X, *, eras=None):
        self.later_eras_ = eras
        return np.zeros((len(X), 1), np.float32)

    def predict(self, X, *, eras=None):
        assert set(eras) <= set(NAMES)
        return np.asarray(X, float)[:, 0]

    def get_feature_names_out(self, input_features=None):
        return np.array(["recorder0"], object)


@pytest.fixture(scope="module")
def rows():
    """Return features, a target, and the name of each row's era."""
    panel = make_era_panel(n_eras=8, rows_per_era=60, n_features=12, random_state=0)
    return panel.X, panel.y("target_alpha_20"), NAMES[panel.eras - 1]


@pytest.fixture(scope="module")
def frame(rows):
    X, _, names = rows
    return pd.DataFrame(X).add_prefix("feature_").assign(era=names)


def test_latent_features(rows, frame):
    X, y, names = rows
    for table, labels in ((X, names), (frame, None)):
        latents = LatentFeatures(Recorder()).fit(table, y, eras=labels)
        latents.transform(table, eras=labels)
        assert latents.fitted_eras_ is None
        [(_, inner)] = latents.embedders_
        assert inner.fitted_eras_ is None
        assert np.array_equal(inner.fit_eras_, names)
        assert np.array_equal(inner.later_eras_, names)


@pytest.mark.parametrize("augmenter", [CUTOUT, ComposeAugmenters([CUTOUT, CUTOUT])])
def test_augmented_models(rows, frame, augmenter):
    X, y, names = rows
    model = AugmentedRegressor(Recorder(), augmenter).fit(X, y, eras=names)
    assert model.estimator_.fitted_eras_ is None
    assert set(model.estimator_.fit_eras_) == set(NAMES)
    pipeline = make_pipeline(LatentFeatures(Recorder()), Ridge())
    kept = AugmentedRegressor(pipeline, augmenter, keep_era=True).fit(frame, y)
    assert kept.estimator_[0].embedders_[0][1].fitted_eras_ is None


def test_an_augmenter_that_fits_an_embedder(rows):
    X, y, names = rows
    dreams = DreamAugmenter(FactorAnalysisEmbedder(2), random_state=0)
    dreams.fit_resample(X, y, eras=names)
    assert dreams.embedder_.fitted_eras_ is None


def test_an_augmenter_that_fits_every_era(rows):
    X, y, names = rows
    more = RidgeMixtureTargets(n_factors=3, random_state=0)
    new = more.fit_resample(X, y, eras=names)
    assert more.fitted_eras_ is None
    assert len(more.coef_) == len(NAMES)
    assert set(new.eras) == set(NAMES)


def test_cross_validation(rows):
    X, y, names = rows
    cv = EraKFold(2, purge=0)
    out = cross_val_predict_eras(Recorder(), X, y, names, cv=cv, verbose=False)
    assert np.array_equal(out["prediction"], X[:, 0])
    assert np.array_equal(out["era"], names)
    assert np.isfinite(out["corr"]).all()


def test_scorers_that_need_no_order(rows, frame):
    _, y, names = rows
    model = make_pipeline(LatentFeatures(), Ridge()).fit(frame, y)
    numbered = frame.assign(era=np.searchsorted(NAMES, names) + 1)
    for metric in ("corr", "sharpe", "fnc"):
        scorer = make_era_scorer(metric)
        assert scorer(model, frame, y) == pytest.approx(scorer(model, numbered, y))


def test_names_have_no_last_eras(rows):
    X, _, names = rows
    net = DAEEmbedder(2, hidden=(4,), max_epochs=1, random_state=0)
    with pytest.raises(
        ValueError, match=r"validation=0.1 holds out the last eras, .*ash"
    ):
        net.fit(X, eras=names)
    for validation in (None, EraKFold(2, purge=0)):
        net.set_params(validation=validation).fit(X, eras=names)
        assert net.fitted_eras_ is None


def test_names_cannot_be_purged_for_cross_fitting(rows):
    X, y, names = rows
    net = SupervisedAEMLP(2, cross_fit=2, validation=None, max_epochs=1)
    with pytest.raises(ValueError, match=r"purge=16.*names without numbers.*'ash'"):
        net.fit_transform(X, y, eras=names)


def test_nobody_is_said_to_have_seen_a_name(rows, frame):
    """Ranks of names are numbers that a frozen embedder may have seen, by chance."""
    X, y, names = rows
    frozen = FrozenEstimator(FactorAnalysisEmbedder(2).fit(X, eras=np.arange(len(X))))
    model = make_pipeline(LatentFeatures(frozen), Ridge()).fit(frame, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_era_scorer()(model, frame, y)
        cv = EraKFold(2, purge=0)
        cross_val_predict_eras(model, X, y, names, cv=cv, verbose=False)
