import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import StackingRegressor, VotingRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import StandardScaler

from numerai_features._eras import EraLeakageWarning, near_eras
from numerai_features._fitted import components, tell_eras, warn_of_prefitted
from numerai_features.compose import LatentFeatures
from numerai_features.embedders import FactorAnalysisEmbedder

eras = st.lists(st.integers(1, 100), max_size=20, unique=True).map(sorted)


@settings(max_examples=200, deadline=None)
@given(eras, eras, st.integers(1, 30))
def test_near_eras_are_those_of_a_plain_loop(some, others, horizon):
    near = near_eras(np.array(some, int), np.array(others, int), horizon)
    assert near.tolist() == [any(abs(a - b) < horizon for b in others) for a in some]


def paths(estimator):
    return [path for path, _ in components(estimator)]


FA = FactorAnalysisEmbedder(2)
LATENTS = make_pipeline(LatentFeatures(FA), Ridge())


@pytest.mark.parametrize(
    ("estimator", "found"),
    [
        (FA, 1),
        (LATENTS, 2),
        (make_pipeline(StandardScaler(), LATENTS), 2),
        (FeatureUnion([("a", FA), ("b", LatentFeatures(FA))]), 3),
        (ColumnTransformer([("a", FA, [0, 1, 2])]), 1),
        (TransformedTargetRegressor(LATENTS), 2),
        (VotingRegressor([("a", LATENTS), ("b", LATENTS)]), 4),
        (StackingRegressor([("a", LATENTS), ("b", Ridge())]), 2),
        (make_pipeline(StandardScaler(), Ridge()), 0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_parts_are_found_wherever_scikit_learn_puts_them(panel, estimator, found):
    estimator.fit(panel.X, panel.y())
    got = list(components(estimator))
    assert len(got) == found
    assert len({path for path, _ in got}) == found
    assert all(part.fitted_eras_ is None for _, part in got)


def test_a_frozen_part_is_looked_into(panel):
    frozen = FrozenEstimator(LatentFeatures(FA).fit(panel.X, eras=panel.eras))
    assert len(paths(frozen)) == 2
    assert len(paths(FrozenEstimator(frozen))) == 2


def test_what_is_not_fitted_has_seen_nothing():
    assert paths(LATENTS.__sklearn_clone__()) == []


def test_one_warning_a_frozen_part(panel):
    frozen = FrozenEstimator(LatentFeatures(FA).fit(panel.X, eras=panel.eras))
    union = FeatureUnion([("a", frozen), ("b", StandardScaler())])
    with pytest.warns(
        EraLeakageWarning, match=r"union\.a was fitted .* 0030\."
    ) as told:
        warn_of_prefitted(make_pipeline(union, Ridge()), np.array([30, 31]))
    assert len(told) == 1


@pytest.mark.parametrize("seen", [None, []])
def test_no_warning_where_nothing_is_known(panel, seen):
    fa = FactorAnalysisEmbedder(2).fit(panel.X)
    warn_of_prefitted(FrozenEstimator(fa), np.array([1, 2]))


def test_a_few_eras_are_told():
    assert tell_eras(np.array([3])) == "0003"
    assert tell_eras(np.arange(1, 8)).endswith("0005 and 2 more")
