"""The fuzzy graph of UMAP, from the distances of nearest neighbours.

McInnes, Healy and Melville (2018), UMAP: Uniform manifold approximation and projection
for dimension reduction, arXiv:1802.03426. The constants are those of umap-learn.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_ITERATIONS = 64
_LEAST_SCALE = 1e-3  # of a row's mean distance
_UNKNOWN_DISTANCE = 1.0


class FuzzyGraph(NamedTuple):
    """Undirected edges, each once."""

    heads: NDArray[np.int64]
    tails: NDArray[np.int64]
    weights: NDArray[np.float64]  # in (0, 1]

    def take(self, edges: NDArray[np.bool_]) -> FuzzyGraph:
        """Return some of the edges."""
        return FuzzyGraph(self.heads[edges], self.tails[edges], self.weights[edges])


def fuzzy_graph(index: NDArray[np.int64], distance: NDArray[np.float32]) -> FuzzyGraph:
    r"""Return the fuzzy graph: the probability that two rows are neighbours.

    The directed edge from row i to row j weighs
    :math:`\exp(-\max(0, d_{ij} - \rho_i) / \sigma_i)`. Here :math:`\rho_i` is the
    distance to the nearest row that is not equal to i, and :math:`\sigma_i` makes the
    weights of row i sum to :math:`\log_2 (k + 1)`. The two directions are joined as
    independent probabilities: :math:`v + w - v w`.

    Parameters
    ----------
    index, distance : ndarray of shape (n_rows, k)
        Neighbours of each row, without the row itself.
    """
    from scipy.sparse import csr_array

    n, k = index.shape
    beyond = distance.astype(np.float64) - _nearest(distance)[:, None]
    degrees = np.exp(-np.maximum(beyond, 0) / _scales(distance, beyond)[:, None])
    rows = np.repeat(np.arange(n), k)
    return _joined(csr_array((degrees.ravel(), (rows, index.ravel())), shape=(n, n)))


def intersect_labels(
    graph: FuzzyGraph, labels: NDArray[np.int64], weight: float
) -> FuzzyGraph:
    r"""Return the graph with less weight between rows of different labels.

    The weight of an edge is multiplied by :math:`e^{-2.5 / (1 - w)}` between rows of
    different labels, and by :math:`e^{-1}` where a label is unknown. Then each row's
    weights are scaled to a largest weight of 1, and the directions are joined.

    Parameters
    ----------
    graph : FuzzyGraph
    labels : ndarray of shape (n_rows,)
        Negative where the label is unknown.
    weight : float
        Weight :math:`w` of the labels, from 0 to 1.
    """
    from scipy.sparse import coo_array

    far = 2.5 / (1 - weight) if weight < 1 else 1e12
    a, b = labels[graph.heads], labels[graph.tails]
    distance = np.where((a < 0) | (b < 0), _UNKNOWN_DISTANCE, np.where(a == b, 0, far))
    changed = graph.weights * np.exp(-distance)
    n = len(labels)
    half = coo_array((changed, (graph.heads, graph.tails)), shape=(n, n))
    whole = (half + half.T).tocsr()
    whole.eliminate_zeros()
    largest = whole.max(axis=1).toarray().ravel()
    whole.data /= np.repeat(largest, np.diff(whole.indptr))
    return _joined(whole)


def curve(min_dist: float, spread: float) -> tuple[float, float]:
    """Return a and b of ``1 / (1 + a d^2b)``, the edge probability at distance d.

    The curve is fitted by least squares to 1 up to `min_dist` and to an exponential of
    scale `spread` beyond.
    """
    from scipy.optimize import curve_fit

    d = np.linspace(0, 3, 300)  # in units of the spread
    least = min_dist / spread
    wanted = np.where(d < least, 1.0, np.exp(-(d - least)))
    (a, b), _ = curve_fit(lambda d, a, b: 1 / (1 + a * d ** (2 * b)), d, wanted)
    return float(a / spread ** (2 * b)), float(b)


def _joined(directed: Any) -> FuzzyGraph:
    """Return the undirected graph: an edge in one direction or the other."""
    both = directed + directed.T - directed.multiply(directed.T)
    upper = both.tocoo()
    kept = (upper.row < upper.col) & (upper.data > 0)
    ends = (upper.row[kept].astype(np.int64), upper.col[kept].astype(np.int64))
    return FuzzyGraph(*ends, np.asarray(upper.data[kept], np.float64))


def _nearest(distance: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the distance to the nearest row that is not equal, or 0 without one."""
    first = np.argmax(distance > 0, axis=1)
    return np.asarray(distance[np.arange(len(distance)), first], np.float64)


def _scales(
    distance: NDArray[np.float32], beyond: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return sigma of each row, by bisection."""
    n, k = distance.shape
    target = np.log2(k + 1)
    low, high, sigma = np.zeros(n), np.full(n, np.inf), np.ones(n)
    beyond = np.maximum(beyond, 0)
    for _ in range(_ITERATIONS):
        too_many = np.exp(-beyond / sigma[:, None]).sum(axis=1) > target
        high = np.where(too_many, sigma, high)
        low = np.where(too_many, low, sigma)
        sigma = np.where(np.isinf(high), 2 * sigma, (low + high) / 2)
    mean = distance.mean(axis=1, dtype=np.float64) * k / (k + 1)  # plus the row itself
    least = np.where(_nearest(distance) > 0, mean, mean.mean())
    return np.asarray(np.maximum(np.maximum(sigma, _LEAST_SCALE * least), 1e-300))
