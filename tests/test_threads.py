"""How many threads there are, and how many BLAS has meanwhile."""

import joblib
import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from numerai_features import _threads, moments
from numerai_features._threads import blas_threads, usable_threads
from numerai_features.augmenters import RidgeMixtureTargets
from numerai_features.compose import fit_blend_weights
from numerai_features.embedders import FactorAnalysisEmbedder, SupervisedAEMLP
from numerai_features.experiment._latents import _PrincipalComponents
from numerai_features.model_selection import EraKFold


@pytest.fixture(autouse=True)
def _many_cores(monkeypatch):
    monkeypatch.setattr(joblib, "cpu_count", lambda only_physical_cores: 8)


@pytest.fixture
def _blas_has_four():
    np.ones((2, 2)) @ np.ones((2, 2))
    with threadpool_limits(4, "blas"):
        yield


def threads_of_blas():
    return {x["num_threads"] for x in threadpool_info() if x["user_api"] == "blas"}


@pytest.mark.parametrize(
    ("n_jobs", "most", "expected"),
    [
        (None, 99, 8),
        (-1, 99, 8),
        (-2, 99, 7),
        (-20, 99, 1),
        (3, 99, 3),
        (30, 99, 8),
        (None, 5, 5),
        (-2, 5, 4),
        (6, 5, 5),
        (None, 0, 1),
    ],
)
def test_usable_threads(n_jobs, most, expected):
    assert usable_threads(n_jobs, most) == expected


@pytest.mark.usefixtures("_blas_has_four")
class TestBlasThreads:
    @pytest.mark.parametrize(("n_jobs", "has"), [(None, 4), (1, 1), (3, 3), (9, 4)])
    def test_no_more_than_before_and_then_as_before(self, n_jobs, has):
        with blas_threads(n_jobs):
            assert threads_of_blas() == {has}
        assert threads_of_blas() == {4}

    def test_one_within_another(self):
        with blas_threads(3):
            with blas_threads(1):
                assert threads_of_blas() == {1}
                with blas_threads(2):
                    assert threads_of_blas() == {1}
            assert threads_of_blas() == {3}
        assert threads_of_blas() == {4}

    def test_restored_after_exceptions(self):
        with pytest.raises(ValueError, match="here"), blas_threads(1):
            raise ValueError("here")
        assert threads_of_blas() == {4}

    @pytest.mark.parametrize("leaves_first", [0, 1])
    def test_of_two_threads_at_once_the_last_restores(self, leaves_first):
        """As if each was another thread's, the first to come is the first to go."""
        blocks = [blas_threads(3), blas_threads(1)]
        for block, has in zip(blocks, (3, 1), strict=True):
            block.__enter__()
            assert threads_of_blas() == {has}
        blocks.pop(leaves_first).__exit__(None, None, None)
        assert threads_of_blas() == {(1, 3)[leaves_first]}
        blocks[0].__exit__(None, None, None)
        assert threads_of_blas() == {4}

    def test_a_block_whose_end_is_interrupted_has_ended(self, monkeypatch):
        class Stopped(set):
            def discard(self, block):
                raise KeyboardInterrupt("at the end")

        with monkeypatch.context() as patch:
            patch.setattr(_threads, "_blocks", Stopped())
            with pytest.raises(KeyboardInterrupt, match="at the end"), blas_threads(1):
                pass
        with blas_threads(3):
            assert threads_of_blas() == {3}
        assert threads_of_blas() == {4}

    def test_factor_analysis_asks(self, monkeypatch):
        seen = set()
        from numerai_features.moments import Moments

        def look(*args, plain=Moments.from_rows, **options):
            seen.update(threads_of_blas())
            return plain(*args, **options)

        monkeypatch.setattr(Moments, "from_rows", look)
        X = np.random.default_rng(0).normal(size=(40, 5))
        FactorAnalysisEmbedder(1, n_jobs=2).fit(X)
        assert seen == {2}
        assert threads_of_blas() == {4}

    def test_new_targets_ask_for_one_but_for_large_moments(self, monkeypatch):
        """Threads of BLAS in the products of an era made them ten times slower."""
        seen = {}
        for owner, name in (
            (moments, "_syrk"),
            (RidgeMixtureTargets, "_factors"),
            (RidgeMixtureTargets, "_draw_targets"),
        ):
            plain = getattr(owner, name)

            def look(*args, name=name, plain=plain, **options):
                seen.setdefault(name, set()).update(threads_of_blas())
                return plain(*args, **options)

            monkeypatch.setattr(owner, name, look)
        rng = np.random.default_rng(0)
        X, eras = rng.integers(0, 5, (240, 5)), np.repeat([1, 2, 3, 4], 60)
        new = RidgeMixtureTargets(n_factors=2, random_state=0, n_jobs=2)
        new.fit_resample(X, X[:, 0] / 4, eras=eras)
        assert seen == {"_syrk": {1}, "_factors": {1}, "_draw_targets": {1}}
        seen.clear()
        monkeypatch.setattr(moments, "_LEAST_SHARED", 0)
        new.fit_resample(X, X[:, 0] / 4, eras=eras)
        assert seen == {"_syrk": {2}, "_factors": {1}, "_draw_targets": {1}}
        assert threads_of_blas() == {4}


def wide_rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1200, 6)) @ rng.normal(size=(6, 300))
    X = np.clip(np.rint(X + rng.normal(size=X.shape) + 2), 0, 4).astype(np.int8)
    return X, X[:, :3].mean(axis=1).round() / 4, np.repeat(np.arange(1, 25), 50)


def factors(X, y, eras):
    fitted = FactorAnalysisEmbedder(4, rotation="varimax").fit(X)
    return np.vstack([fitted.components_, fitted.noise_variance_])


def factors_of_floats_by_era(X, y, eras):
    fitted = FactorAnalysisEmbedder(4, center="era").fit(X + 0.3, eras=eras)
    return np.vstack([fitted.components_, fitted.noise_variance_])


def cross_fitted(X, y, eras):
    net = SupervisedAEMLP(
        64, hidden=(32,), dropout=(0.1,) * 4, max_epochs=1, random_state=0,
        cross_fit=EraKFold(2, purge=2),
    )  # fmt: skip
    return net.fit_transform(X, y, eras=eras)


def weights(X, y, eras):
    return fit_blend_weights(X + 0.0, y, eras, positive=False)


def principal_components(X, y, eras):
    return _PrincipalComponents(5).fit(X).components_


@pytest.mark.parametrize(
    "fit",
    [
        factors,
        factors_of_floats_by_era,
        cross_fitted,
        weights,
        principal_components,
    ],
)
def test_no_bit_depends_on_how_many_threads_blas_has(fit):
    """Of so many columns that BLAS would share them out."""
    found = []
    for n in (1, 2, 4):
        with threadpool_limits(n, "blas"):
            found.append(fit(*wide_rows()))
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])
