"""How many threads there are, and how many BLAS has meanwhile."""

import joblib
import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from numerai_features._threads import blas_threads, usable_threads
from numerai_features.embedders import FactorAnalysisEmbedder


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
