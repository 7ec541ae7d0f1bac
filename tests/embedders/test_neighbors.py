"""Neighbours and the fuzzy graph against scikit-learn and umap-learn."""

import warnings

import numpy as np
import pytest
import torch
from scipy.sparse import coo_array
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors

from numerai_features._rows import Rows
from numerai_features.embedders import _fuzzy_graph as fuzzy
from numerai_features.embedders import _neighbors
from numerai_features.embedders._axes import as_in_metric, fit_axes
from numerai_features.embedders._edges import find_neighbors
from numerai_features.embedders._neighbors import (
    approximate_neighbors,
    exact_neighbors,
    recall,
)

CPU = torch.device("cpu")


def rows(n, width=12, seed=0):
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


@pytest.fixture(scope="module")
def umap():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("umap")
        from umap import umap_
    return umap_


@pytest.fixture(scope="module")
def digits():
    Z = load_digits().data
    Z = np.concatenate([Z, Z[:50], Z[:20]]).astype(np.float32)  # equal rows
    return Z, *exact_neighbors(Z - Z.mean(axis=0), 14, CPU)


def dense(graph, n):
    half = coo_array((graph.weights, (graph.heads, graph.tails)), shape=(n, n))
    return (half + half.T).toarray()


class TestExact:
    @pytest.mark.parametrize("n", [30, 700, 9000])
    def test_is_scikit_learns(self, n):
        Z, k = rows(n), 9
        index, distance = exact_neighbors(Z, k, CPU)
        far, near = NearestNeighbors(n_neighbors=k + 1).fit(Z).kneighbors()
        np.testing.assert_array_equal(index, near[:, :k])
        np.testing.assert_allclose(distance, far[:, :k], rtol=1e-5, atol=1e-6)

    def test_bytes_are_exact(self):
        X = np.random.default_rng(0).integers(0, 5, (5000, 40)).astype(np.int8)
        index, distance = exact_neighbors(X, 5, CPU)
        far, _ = NearestNeighbors(n_neighbors=6).fit(X.astype(float)).kneighbors()
        np.testing.assert_allclose(distance, far[:, :5], rtol=1e-6)
        assert (index != np.arange(len(X))[:, None]).all()

    @pytest.mark.parametrize("block", [(64, 700), (1000, 33), (7, 5000)])
    def test_blocks_do_not_matter(self, monkeypatch, block):
        Z = np.random.default_rng(0).integers(0, 50, (2000, 40)).astype(np.int8)
        _, expected = exact_neighbors(Z, 9, CPU)
        for kept in (0, 1 << 30):
            monkeypatch.setattr(_neighbors, "_KEPT_BYTES", kept)
            monkeypatch.setattr(_neighbors, "_BLOCK", {"cpu": block})
            monkeypatch.setattr(_neighbors, "_CAST_BLOCK", block)
            _, distance = exact_neighbors(Z, 9, CPU)  # equal ones are in any order
            np.testing.assert_array_equal(distance, expected)

    @pytest.mark.parametrize("shift", [0, 1e2, 1e4, 1e6])
    def test_far_from_the_mean(self, shift):
        """Squares are subtracted in float64 where float32 tells no rows apart."""
        Z = np.random.default_rng(0).normal(size=(900, 5))
        Z[::2] += shift
        Z[1::2] -= shift
        Z = Z.astype(np.float32)
        index, _ = exact_neighbors(Z, 5, CPU)
        far, _ = NearestNeighbors(n_neighbors=5).fit(Z.astype(float)).kneighbors()
        gap = Z[:, None].astype(float) - Z[index]
        np.testing.assert_allclose(np.linalg.norm(gap, axis=2), far, rtol=1e-3)

    def test_groups_far_from_each_other(self):
        Z, codes = rows(900), np.arange(900) % 3
        groups = [np.flatnonzero(codes == c) for c in range(3)]
        near, _ = exact_neighbors(Z, 4, CPU, groups)
        moved, _ = exact_neighbors(Z + 1000 * codes[:, None], 4, CPU, groups)
        assert (near == moved).mean() > 0.99

    def test_within_groups(self):
        Z, codes = rows(900), np.random.default_rng(1).integers(0, 3, 900)
        groups = [np.flatnonzero(codes == c) for c in range(3)]
        index, distance = exact_neighbors(Z, 4, CPU, groups)
        assert (codes[index] == codes[:, None]).all()
        for group in groups:
            far, near = NearestNeighbors(n_neighbors=4).fit(Z[group]).kneighbors()
            np.testing.assert_array_equal(index[group], group[near])
            np.testing.assert_allclose(distance[group], far, rtol=1e-5)

    def test_equal_rows_are_neighbours_at_no_distance(self):
        Z = np.repeat(rows(40), 3, axis=0)
        index, distance = exact_neighbors(Z, 2, CPU)
        assert (distance == 0).all()
        assert (index // 3 == np.arange(120)[:, None] // 3).all()

    def test_all_others(self):
        index, _ = exact_neighbors(rows(7), 6, CPU)
        assert (np.sort(index, axis=1) != np.arange(7)[:, None]).all()


class TestApproximate:
    @pytest.mark.slow  # compiles for 20 s
    def test_finds_most(self):
        pytest.importorskip("pynndescent")
        Z = rows(2500, 6)
        index, distance = approximate_neighbors(Z, 9, seed=0)
        exact = exact_neighbors(Z, 9, CPU)
        assert (index != np.arange(len(Z))[:, None]).all()
        sample = np.arange(0, 2500, 20)
        found = recall(index, Z, sample, CPU)
        assert found > 0.9
        hits = [
            len(np.intersect1d(a, b)) / 9
            for a, b in zip(index[sample], exact[0][sample], strict=True)
        ]
        assert found == pytest.approx(np.mean(hits))
        np.testing.assert_allclose(
            distance, np.linalg.norm(Z[:, None] - Z[index], axis=2), atol=1e-3
        )

    @pytest.mark.slow
    def test_equal_rows(self):
        pytest.importorskip("pynndescent")
        Z = np.repeat(rows(100, 6), 30, axis=0)
        index, distance = approximate_neighbors(Z, 9, seed=0)
        assert index.shape == distance.shape == (3000, 9)

    def test_rows_that_it_finds_too_few_for(self, monkeypatch):
        pynndescent = pytest.importorskip("pynndescent")
        Z = rows(300)
        far, near = NearestNeighbors(n_neighbors=6).fit(Z).kneighbors(Z)
        near = near.astype(np.int32)
        near[::7, 3:], far[::7, 3:] = -1, np.inf

        class Descent:
            def __init__(self, *args, **options):
                self.neighbor_graph = near, far.astype(np.float32)

        monkeypatch.setattr(pynndescent, "NNDescent", Descent)
        index, distance = approximate_neighbors(Z, 5, seed=0)
        expected = exact_neighbors(Z, 5, CPU)
        np.testing.assert_array_equal(index, expected[0])
        np.testing.assert_allclose(distance, expected[1], rtol=1e-5)


class TestRecall:
    def test_of_exact_neighbours_is_1(self):
        Z = rows(600)
        index = NearestNeighbors(n_neighbors=5).fit(Z).kneighbors()[1]
        assert recall(index, Z, np.arange(600), CPU) == 1

    def test_of_others_is_0(self):
        Z = rows(600)
        index, _ = exact_neighbors(Z, 10, CPU)
        assert recall(index[:, 5:], Z, np.arange(600), CPU) == 0

    def test_within_groups(self):
        Z, codes = rows(300), np.arange(300, dtype=np.int32) % 3
        groups = [np.flatnonzero(codes == c) for c in range(3)]
        index, _ = exact_neighbors(Z, 5, CPU, groups)
        assert recall(index, Z, np.arange(0, 300, 7), CPU, codes) == 1
        assert recall(index, Z, np.arange(0, 300, 7), CPU) < 0.6


class TestFuzzyGraph:
    def reference(self, umap, Z, index, distance):
        own = np.arange(len(Z))[:, None]
        return umap.fuzzy_simplicial_set(
            Z, 15, np.random.RandomState(0), "euclidean",
            knn_indices=np.concatenate([own, index], axis=1),
            knn_dists=np.concatenate([0 * distance[:, :1], distance], axis=1),
        )[0]  # fmt: skip

    def test_is_umap_learns(self, umap, digits):
        graph = fuzzy.fuzzy_graph(*digits[1:])
        np.testing.assert_allclose(
            dense(graph, len(digits[0])),
            self.reference(umap, *digits).toarray(),
            atol=2e-5,
        )
        assert (graph.heads < graph.tails).all()

    def test_of_angles_is_umap_learns(self, umap):
        """Weights are of 1 less the cosine, not of the chord."""
        X = np.abs(rows(300)) + 0.1
        fill = np.zeros(12, np.float32)
        axes = fit_axes(X, None, 9, "cosine", fill)
        index, distance, _ = find_neighbors(
            Rows(X), axes, fill, 14, "cosine", 0, CPU, by_era=False, progress=False
        )
        graph = fuzzy.fuzzy_graph(index, distance)
        search = NearestNeighbors(n_neighbors=15, metric="cosine", algorithm="brute")
        far, near = search.fit(X).kneighbors(X)
        expected = umap.fuzzy_simplicial_set(
            X, 15, np.random.RandomState(0), "cosine",
            knn_indices=near, knn_dists=np.maximum(far, 0).astype(np.float32),
        )[0]  # fmt: skip
        np.testing.assert_allclose(dense(graph, 300), expected.toarray(), atol=2e-3)

    @pytest.mark.parametrize("weight", [0.3, 0.5, 1.0])
    def test_labels_are_umap_learns(self, umap, digits, weight):
        labels = np.random.default_rng(0).integers(-1, 4, len(digits[0]))
        graph = fuzzy.intersect_labels(fuzzy.fuzzy_graph(*digits[1:]), labels, weight)
        far = 2.5 / (1 - weight) if weight < 1 else 1e12
        expected = umap.discrete_metric_simplicial_set_intersection(
            self.reference(umap, *digits), labels, far_dist=far
        )
        np.testing.assert_allclose(
            dense(graph, len(labels)), expected.toarray(), atol=5e-5
        )

    @pytest.mark.parametrize(("min_dist", "spread"), [(0.0, 1.0), (0.1, 1), (0.5, 2)])
    def test_curve_is_umap_learns(self, umap, min_dist, spread):
        expected = umap.find_ab_params(spread, min_dist)
        np.testing.assert_allclose(fuzzy.curve(min_dist, spread), expected, rtol=1e-6)

    @pytest.mark.parametrize("spread", [0.01, 0.1, 3, 100])
    @pytest.mark.parametrize("share", [0, 0.1, 0.9, 1])
    def test_curve_scales_with_the_spread(self, spread, share):
        a, b = fuzzy.curve(share * spread, spread)
        unit = fuzzy.curve(share, 1)
        d = np.linspace(0.1, 3, 20)
        np.testing.assert_allclose(
            a * (d * spread) ** (2 * b), unit[0] * d ** (2 * unit[1]), rtol=1e-6
        )


class TestAxes:
    @pytest.mark.parametrize("metric", ["euclidean", "cosine", "correlation"])
    def test_all_axes_keep_the_metrics_order(self, metric):
        rng = np.random.default_rng(0)
        X = rng.integers(0, 5, (400, 10)).astype(np.int8)
        axes = fit_axes(X, "pca", 10, metric, np.full(10, 2, np.float32))
        index, _ = exact_neighbors(axes.in_metric(), 5, CPU)
        search = NearestNeighbors(n_neighbors=5, metric=metric, algorithm="brute")
        far, _ = search.fit(X.astype(float)).kneighbors()
        from scipy.spatial.distance import cdist

        mine = np.take_along_axis(cdist(X, X, metric), index, axis=1)
        np.testing.assert_allclose(mine, far, atol=1e-6)

    @pytest.mark.parametrize("metric", ["cosine", "correlation"])
    def test_rows_themselves(self, metric):
        from scipy.spatial.distance import cdist

        X = rows(200) + 3
        unit = as_in_metric(X, metric)
        np.testing.assert_allclose(
            cdist(unit, unit) ** 2 / 2, cdist(X, X, metric), atol=1e-5
        )

    @pytest.mark.parametrize("metric", ["cosine", "correlation"])
    def test_rows_without_length_are_no_hubs(self, metric):
        X = rows(400, 60)
        X[:5] = 3 if metric == "correlation" else 0
        unit = as_in_metric(X, metric)
        length = np.linalg.norm(unit[5:] - unit[0], axis=1)
        np.testing.assert_allclose(length, np.sqrt(2), rtol=1e-5)
        index, _ = exact_neighbors(unit, 10, CPU)
        assert (index[5:] < 5).mean() < 0.01
        axes = fit_axes(X, "pca", 60, metric, np.zeros(60, np.float32))
        index, _ = exact_neighbors(axes.in_metric(), 10, CPU)
        assert (index[5:] < 5).mean() < 0.01

    def test_principal_axes_are_scikit_learns(self):
        from sklearn.decomposition import PCA

        X = rows(500) @ rows(12, seed=1)
        axes = fit_axes(X, "pca", 4, "euclidean", np.zeros(12, np.float32))
        pca = PCA(4).fit(X)
        Z = axes.forward.transform(X)
        np.testing.assert_allclose(
            np.abs(Z), np.abs(pca.transform(X)), rtol=1e-3, atol=1e-4
        )
        from numerai_features.encoders import Encoder

        back = Encoder([("back", axes.back)]).transform(Z)
        expected = pca.inverse_transform(pca.transform(X))
        np.testing.assert_allclose(back, expected, rtol=1e-3, atol=1e-3)

    def test_no_axis_that_does_not_vary(self):
        X = np.repeat(rows(100, 3), 2, axis=1)
        axes = fit_axes(X, "pca", 6, "euclidean", np.zeros(6, np.float32))
        assert axes.forward.transform(X).shape == (100, 3)
